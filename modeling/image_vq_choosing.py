"""Codes chosen by how they look to a reader, where the nearest in pixels may be another digit.

A patch that no small picture matches is near several of them in pixels: a 9 in brackets may be nearer to a 3 in
brackets half a pixel aside than to a 9 one pixel aside. Who reads sees the difference. So of the nearest few the one is
taken that changes least in what a tower's convolutions see of the patch and of what stands around it: vector
quantisation with a perceptual measure of distortion (that of Johnson et al. 2016, arXiv 1603.08155, section 3.2).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..processing.errors import InputError
from .image_vq_tower import at_tower_size, copy_eyes, tower_sizes
from .tower_convolutions import add_convolutions, convolve

#: Squared difference of a patch from its code, summed over its pixels, below which no digit can have become another.
ALIKE = 0.02
_AT_ONCE = 64  # patches


class CodeChooser(nn.Module):
    """Eyes of a tower, which do not learn, and a choice among the nearest small pictures.

    Args:
        config: `ImageVQConfig` with `codebook="patches"`, `tower` and `candidates`.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.candidates, self.size = config.candidates, (config.patch_height, config.patch_width)
        self.eyes = nn.Module()
        add_convolutions(self.eyes, SimpleNamespace(**config.tower))
        self.eyes.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> CodeChooser:
        """As ever; the eyes keep their norms."""
        super().train(mode)
        self.eyes.eval()
        return self

    @torch.no_grad()
    def forward(self, ink: torch.Tensor, codebook: torch.Tensor, nearest: torch.Tensor) -> torch.Tensor:
        """Codes of pictures, patch by patch; what stands around a patch is the picture itself.

        Args:
            ink: `(B, 1, H, W)` in [0, 1], 1 = ink.
            codebook: Small pictures `(N, high · wide)`.
            nearest: Codes `(B, h, w)`, nearest in pixels.

        Returns:
            int64 `(B, h, w)`.
        """
        (high, wide), book = self.size, codebook.float()
        # Windows of three by three patches, the patch itself in the middle.
        windows = F.unfold(F.pad(ink.float(), (wide, wide, high, high)), (3 * high, 3 * wide), stride=self.size)
        windows = (
            windows.transpose(1, 2).unflatten(2, (3 * high, 3 * wide)).flatten(0, 1)
        )  # (B · h · w, 3 high, 3 wide)
        patches = windows[:, high : 2 * high, wide : 2 * wide].flatten(1)
        codes = nearest.flatten().clone()
        apart = (patches - book[codes]).square().sum(-1)
        for some in (apart > ALIKE).nonzero()[:, 0].split(_AT_ONCE):
            codes[some] = self._choose(windows[some], patches[some], book)
        return codes.view_as(nearest)

    def _choose(self, windows: torch.Tensor, patches: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
        """Codes of patches `(P, high · wide)` in their windows."""
        high, wide = self.size
        nearest = (patches @ book.t() - book.square().sum(-1) / 2).topk(min(self.candidates, len(book))).indices
        tried = windows[:, None].repeat(1, nearest.shape[1], 1, 1)  # (P, K, 3 high, 3 wide)
        tried[:, :, high : 2 * high, wide : 2 * wide] = book[nearest].unflatten(-1, self.size)
        seen = self._look(tried.flatten(0, 1)).unflatten(0, nearest.shape)  # (P, K, features)
        apart = (seen - self._look(windows)[:, None]).square().sum(-1)
        return nearest.gather(1, apart.argmin(-1, keepdim=True))[:, 0]

    def _look(self, windows: torch.Tensor) -> torch.Tensor:
        """What the eyes see of windows `(N, H, W)`, in a row."""
        large = at_tower_size(windows[:, None])
        with torch.autocast(windows.device.type, enabled=False):
            return convolve(self.eyes, large.to(self.eyes.stem.weight.dtype)).float().flatten(1)


def give_eyes(model: Any, tower: Any, candidates: int = 32) -> None:
    """From now on codes can be chosen by how they look to a tower (`encode(by_looks=True)`, and `forward`).

    Args:
        model: `ImageVQModel` of small pictures.
        tower: `ScoreTowerModel`; its convolutions are copied.
        candidates: How many of the nearest small pictures are looked at.

    Raises:
        InputError: The codes are no small pictures, or there are too few candidates.
    """
    config = model.config
    if config.borrowed is not None or config.codebook != "patches":
        raise InputError(None, "eyes choose among small pictures: the model's codebook must be 'patches'")
    if candidates < 2:
        raise InputError(None, f"candidates is {candidates}; it must be 2 or more")
    config.tower, config.candidates = tower_sizes(tower.config), candidates
    model.chooser = CodeChooser(config)
    copy_eyes(model.chooser, tower)


__all__ = ["CodeChooser", "give_eyes"]
