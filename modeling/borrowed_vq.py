"""Picture tokenizers of transformers in the place of our own: Emu3's and Janus's, and Chameleon's for reading only."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..configuration.configuration_image_vq import BORROWED_KINDS, borrowed_config
from ..processing.errors import InputError


class BorrowedVQ(nn.Module):
    """Gives a picture tokenizer of transformers the ways of `ImageVQModel`: one channel with 1 = ink, grids of codes.

    Args:
        options: Its configuration as a dictionary, with `model_type`.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        import transformers

        self.kind: str = options["model_type"]
        self.model = getattr(transformers, BORROWED_KINDS[self.kind])(borrowed_config(options))

    def encode(self, ink: torch.Tensor) -> torch.Tensor:
        """Codes `(B, h, w)` of pictures `(B, 1, H, W)`."""
        pixels = (1 - 2 * ink).expand(-1, 3, -1, -1)  # white = 1, black = −1
        if self.kind == "emu3_vqgan":
            sizes = torch.tensor([ink.shape[-2:]] * len(ink))
            return torch.stack(self.model.encode(pixels, sizes).image_tokens)
        features = self.model.quant_conv(self.model.encoder(pixels))  # (B, D, h, w)
        return self.model.quantize(features)[2].view(len(ink), *features.shape[-2:])

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Pictures `(B, 1, H, W)` in [0, 1], 1 = ink, of codes `(B, h, w)`.

        Raises:
            InputError: The tokenizer has no decoder.
        """
        if self.kind == "chameleon_vqgan":
            raise InputError(None, "Chameleon's tokenizer has no decoder here: its codes can be read, but not drawn")
        if self.kind == "janus_vqgan":
            self.model.quantize.quant_state_dims = list(codes.shape[1:])  # else only squares of one size
            pixels = self.model.decode(codes.flatten(1))
        else:
            pixels = self.model.decode(codes)
        return (1 - pixels.mean(1, keepdim=True)).div(2).clamp(0, 1)


__all__ = ["BorrowedVQ"]
