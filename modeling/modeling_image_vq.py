"""ImageVQ: pictures of music to a grid of whole numbers and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from ..configuration.configuration_image_vq import BORROWED_KINDS, ImageVQConfig, borrowed_sizes
from ..processing.errors import InputError
from .borrowed_vq import BorrowedVQ
from .image_vq_choosing import CodeChooser
from .image_vq_losses import PatchDiscriminator, reconstruction_losses, width_mask
from .image_vq_reading import CodeReader, digit_boxes, reading_losses
from .image_vq_tower import TowerEncoder
from .layers import ConvBlock, ResidualBlock
from .quantizers import FiniteScalarQuantizer, PatchQuantizer, Quantized, VectorQuantizer, check_codes


@dataclass
class ImageVQOutput(ModelOutput):
    """What ImageVQ makes of pictures.

    Attributes:
        loss: Of the reconstruction and the codebook.
        reconstruction: `(B, 1, H, W)` in [0, 1], 1 = ink.
        codes: int64 `(B, h, w)`.
        losses: Single losses by name, detached.
    """

    loss: torch.FloatTensor | None = None
    reconstruction: torch.FloatTensor | None = None
    codes: torch.LongTensor | None = None
    losses: dict[str, torch.Tensor] | None = None


class ImageEncoder(nn.Module):
    """Halves the picture until a patch is one place: a strided convolution and residual blocks for each size."""

    def __init__(self, config: ImageVQConfig, outputs: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        inputs = 1
        for channels, stride in zip(config.channels, config.strides, strict=True):
            blocks.append(ConvBlock(inputs, channels, stride))
            blocks += [ResidualBlock(channels) for _ in range(config.depth)]
            inputs = channels
        blocks += [ResidualBlock(inputs) for _ in range(config.code_depth)]
        self.blocks = nn.Sequential(*blocks)
        self.out = nn.Conv2d(inputs, outputs, 1)

    def forward(self, ink: torch.Tensor) -> torch.Tensor:
        """`(B, 1, H, W)` to `(B, outputs, h, w)`."""
        return self.out(self.blocks(ink))


class ImageDecoder(nn.Module):
    """The encoder backwards; sizes double by repetition and a convolution, the last one by putting channels apart."""

    def __init__(self, config: ImageVQConfig, inputs: int) -> None:
        super().__init__()
        widths, strides = list(config.channels), config.strides
        self.inp = ConvBlock(inputs, widths[-1])
        self.middle = nn.Sequential(*[ResidualBlock(widths[-1]) for _ in range(config.code_depth)])
        self.strides = strides[:0:-1]
        self.ups = nn.ModuleList(
            nn.Sequential(ConvBlock(a, b), *[ResidualBlock(b) for _ in range(config.depth)])
            for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.last_stride = strides[0]
        self.out = nn.Conv2d(widths[0], strides[0][0] * strides[0][1], 3, padding=1)

    def forward(self, values: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """`(B, inputs, h, w)`, and what is known of codes `(B, channels, h, w)`, to logits of ink `(B, 1, H, W)`."""
        x = self.inp(values)
        x = self.middle(x if known is None else x + known)
        for stride, up in zip(self.strides, self.ups, strict=True):
            x = up(F.interpolate(x, scale_factor=stride, mode="nearest"))
        high, wide = self.last_stride
        x = self.out(x).unflatten(1, (1, high, wide))  # (B, 1, high, wide, H / high, W / wide)
        return x.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)  # (B, 1, H, W)


class PatchEncoder(nn.Module):
    """Cuts the picture: a patch's pixels are its features."""

    def __init__(self, config: ImageVQConfig) -> None:
        super().__init__()
        self.size = (config.patch_height, config.patch_width)

    def forward(self, ink: torch.Tensor) -> torch.Tensor:
        """`(B, 1, H, W)` to `(B, high · wide, h, w)`."""
        high, wide = self.size
        x = ink.unflatten(2, (-1, high)).unflatten(4, (-1, wide))  # (B, 1, h, high, w, wide)
        return x.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


class MendingConv(nn.Conv2d):
    """What a decoder adds to the small pictures; begins at nothing."""


class PatchDecoder(ImageDecoder):
    """Puts the pictures of the codes side by side, and mends them where a network knows better."""

    SURE = 0.02  # ink of the small pictures is kept this far from 0 and 1, or nothing could be mended

    def __init__(self, config: ImageVQConfig) -> None:
        super().__init__(config, config.codebook_dim)
        self.out = MendingConv(self.out.in_channels, self.out.out_channels, 3, padding=1)
        self.size = (config.patch_height, config.patch_width)

    def forward(self, values: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """As for the others; begins at the small pictures."""
        x = values.unflatten(1, self.size).permute(0, 3, 1, 4, 2).flatten(3).flatten(1, 2)  # (B, H, W)
        ink = x[:, None].float().clamp(self.SURE, 1 - self.SURE)
        return torch.logit(ink) + super().forward(values, known)


class CodeTable(nn.Embedding):
    """What the decoder knows of each code by heart; begins at nothing.

    Of a few numbers with a few levels each it would have to work out which digit they mean.
    """


class ImageVQPreTrainedModel(PreTrainedModel):
    """What transformers has to know of the model, and how its weights begin."""

    config_class = ImageVQConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True  # there is no attention: whatever a model asks for that has this one inside is fine

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, MendingConv):
            init.zeros_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
        elif isinstance(module, CodeTable):
            init.zeros_(module.weight)
        elif isinstance(module, PatchQuantizer):
            init.uniform_(module.codebook)
        elif isinstance(module, VectorQuantizer):
            init.normal_(module.codebook, mean=0.0, std=module.dim**-0.5)
            init.zeros_(module.counts)
            init.zeros_(module.sums)
            init.zeros_(module.steps)


class ImageVQModel(ImageVQPreTrainedModel):
    """Encoder, codebook, decoder.

    ```
    pixel_values (B, 1, H, W) ─encoder─▶ (B, D, h, w) ─codebook─▶ codes (B, h, w) ─decoder─▶ reconstruction (B, 1, H, W)
    ```
    """

    codes_kept = False

    def __init__(self, config: ImageVQConfig) -> None:
        super().__init__(config)
        if config.borrowed is not None:
            self.borrowed = BorrowedVQ(config.borrowed)
            self.post_init()
            return
        self.quantizer: VectorQuantizer | FiniteScalarQuantizer | PatchQuantizer
        if config.codebook == "patches":
            assert config.codebook_size is not None
            self.quantizer = PatchQuantizer(config.codebook_size, config.codebook_dim)
        elif config.codebook == "fsq":
            self.quantizer = FiniteScalarQuantizer(config.fsq_levels, config.fsq_dither)
        else:
            assert config.codebook_size is not None
            self.quantizer = VectorQuantizer(
                config.codebook_size, config.codebook_dim, config.ema_decay, config.revive_below, config.codebook_warmup
            )
        self.encoder: ImageEncoder | TowerEncoder | PatchEncoder
        if config.codebook == "patches":
            self.encoder, self.decoder = PatchEncoder(config), PatchDecoder(config)
            if config.candidates:
                self.chooser = CodeChooser(config)
        else:
            self.encoder = (TowerEncoder if config.tower else ImageEncoder)(config, self.quantizer.dim)
            self.decoder = ImageDecoder(config, self.quantizer.dim)
        if config.decoder_table:
            self.add_table()
        if config.reading_weight:
            sizes = (self.quantizer.dim, config.patch_height, config.patch_width)
            self.reader = CodeReader(*sizes, config.reading_labels)
        if config.adversarial_weight:
            self.discriminator = PatchDiscriminator()
        self.post_init()

    def add_table(self) -> None:
        """Gives the decoder a table of the codes, which says nothing yet."""
        assert self.config.codebook_size is not None
        self.config.decoder_table = True
        self.decoder.table = CodeTable(self.config.codebook_size, self.config.channels[-1])
        nn.init.zeros_(self.decoder.table.weight)

    def renew_decoder(self, channels: Sequence[int], code_depth: int) -> None:
        """Puts a decoder of other sizes in place of this one; it begins at the codes' small pictures, side by side.

        Args:
            channels: As in the configuration, from the finest size to the codes.
            code_depth: Residual blocks at the size of the codes.

        Raises:
            InputError: The codes are no small pictures, so an encoder of the old sizes would be left; impossible sizes.
        """
        if self.config.codebook != "patches":
            raise InputError(None, f"only a codebook of patches takes a new decoder, not {self.config.codebook}")
        changes: dict[str, Any] = {"channels": tuple(channels), "code_depth": code_depth, "decoder_table": False}
        try:
            ImageVQConfig.from_dict({**self.config.to_dict(), **changes})
        except ValueError as error:
            raise InputError(None, str(error)) from error
        for name, value in changes.items():
            setattr(self.config, name, value)
        self.decoder = PatchDecoder(self.config)
        self.decoder.apply(self._init_weights)

    def _draw(self, values: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Logits of ink of values `(B, D, h, w)` and codes `(B, h, w)`."""
        known = self.decoder.table(codes).movedim(-1, 1) if self.config.decoder_table else None
        return self.decoder(values, known)

    def keep_codes(self) -> None:
        """From now on only the decoder learns, and the norms of the encoder stand still: codes stay what they are."""
        self.requires_grad_(False)
        self.decoder.requires_grad_(True)
        self.codes_kept = True
        if isinstance(self.quantizer, FiniteScalarQuantizer):
            self.quantizer.dither = 0.0
        self.train(self.training)

    def train(self, mode: bool = True) -> ImageVQModel:
        """As ever; see `keep_codes`."""
        super().train(mode)
        if self.codes_kept:
            self.encoder.eval()
            self.quantizer.eval()
        return self

    def _check(self, pixel_values: torch.Tensor) -> None:
        if pixel_values.ndim != 4 or pixel_values.shape[1] != 1:
            raise InputError(None, f"pictures have the shape (B, 1, H, W), got {tuple(pixel_values.shape)}")
        high, wide = self.config.patch_height, self.config.patch_width
        height, width = pixel_values.shape[-2:]
        if not height or not width or height % high or width % wide:
            raise InputError(
                None, f"a picture of {height} x {width} px does not divide into patches of {high} x {wide} px"
            )

    def encode(self, pixel_values: torch.Tensor, by_looks: bool = False) -> torch.Tensor:
        """Codes of pictures of one size. (Padding would change the codes beside it: encode sizes apart.)

        Args:
            pixel_values: `(B, 1, H, W)` in [0, 1], 1 = ink.
            by_looks: Choose among the candidates, as `forward` does outside training; slower, and keeps digits better.
                Without eyes (`candidates`) nothing changes.

        Returns:
            int64 `(B, h, w)`.

        Raises:
            InputError: The size does not divide into patches.
        """
        self._check(pixel_values)
        if self.config.borrowed is not None:
            return self.borrowed.encode(pixel_values.to(self.dtype))
        return self._quantize(pixel_values, by_looks).codes

    def _quantize(self, pixel_values: torch.Tensor, by_looks: bool) -> Quantized:
        features = self.encoder(pixel_values.to(self.dtype))  # (B, D, h, w)
        found = self.quantizer(features.movedim(1, -1))
        if by_looks and self.config.candidates:
            codes = self.chooser(pixel_values, self.quantizer.codebook, found.codes)
            found = Quantized(self.quantizer.lookup(codes).to(features.dtype), codes, found.loss)
        return found

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Pictures of codes `(B, h, w)`: `(B, 1, H, W)` in [0, 1], 1 = ink.

        Raises:
            InputError: A code outside the codebook, or another shape.
        """
        if codes.ndim != 3:
            raise InputError(None, f"codes have the shape (B, rows, columns), got {tuple(codes.shape)}")
        if self.config.borrowed is not None:
            check_codes(codes, self.config.codebook_size)
            return self.borrowed.decode(codes)
        values = self.quantizer.lookup(codes).movedim(-1, 1).to(self.dtype)  # (B, D, h, w)
        return self._draw(values, codes).sigmoid()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        widths: torch.Tensor | None = None,
        frets: torch.Tensor | None = None,
        codes: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> ImageVQOutput:
        """Encodes and decodes.

        Args:
            pixel_values: `(B, 1, H, W)` in [0, 1], 1 = ink.
            widths: `(B,)` px; what lies to the right is padding and does not count in the loss.
            frets: What stands where, for `reading_weight` and `digit_weight`; see `reading_losses`.
            codes: int64 `(B, h, w)`, if they are known: a decoder alone learns from these in place of the nearest.
            **kwargs: The rest of it: `beats`, `note_signs`, `beat_signs`, `bar_signs`.
        """
        self._check(pixel_values)
        config = self.config
        if config.borrowed is not None:  # frozen: it has no loss of ours
            codes = self.borrowed.encode(pixel_values.to(self.dtype))
            return ImageVQOutput(reconstruction=self.borrowed.decode(codes), codes=codes)
        if codes is not None:
            values = self.quantizer.lookup(codes).to(self.dtype)
            found = Quantized(values, codes, values.new_zeros(()))
        else:
            found = self._quantize(pixel_values, by_looks=not self.training)
        values = found.values.movedim(-1, 1)
        nothing_drawn = not config.pixel_weight and not config.edge_weight
        if self.training and nothing_drawn and config.reading_weight and frets is not None:
            losses = reading_losses(self.reader(values), {"frets": frets, **kwargs})
            loss = config.reading_weight * sum(losses.values())
            return ImageVQOutput(loss=loss, codes=found.codes, losses={k: v.detach() for k, v in losses.items()})
        logits = self._draw(values, found.codes)  # (B, 1, H, W)
        mask = width_mask(widths, pixel_values)
        more = 0.0 if frets is None else config.digit_weight * digit_boxes(frets, pixel_values.shape[-2])
        losses = reconstruction_losses(logits, pixel_values, mask, config.stroke_weight, config.edge_weight, more)
        loss = config.pixel_weight * losses["pixel"] + config.edge_weight * losses["edge"]
        losses["commitment"] = found.loss
        loss = loss + config.commitment_weight * found.loss
        if config.reading_weight and frets is not None:
            losses |= (read := reading_losses(self.reader(values), {"frets": frets, **kwargs}))
            loss = loss + config.reading_weight * sum(read.values())
        if config.adversarial_weight:
            drawn = logits.sigmoid() * mask
            losses["adversarial"] = self.discriminator(pixel_values * mask, drawn, config.adversarial_weight)
            loss = loss + losses["adversarial"]
        return ImageVQOutput(
            loss=loss,
            reconstruction=logits.sigmoid(),
            codes=found.codes,
            losses={name: value.detach() for name, value in losses.items()},
        )


def borrow_image_vq(name: str) -> ImageVQModel:
    """A picture tokenizer of transformers, by folder or Hub name, as an `ImageVQModel` that can be saved as such.

    Made for photographs, it sees engraved music three times as grey; `digit_probe` says whether digits survive.

    Raises:
        InputError: There is no such model, or it is none of `BORROWED_KINDS`.
    """
    import transformers

    try:
        options = AutoConfig.from_pretrained(name).to_dict()
    except (OSError, ValueError) as error:
        raise InputError(name, f"does not load: {' '.join(str(error).split())[:200]}") from error
    patch, _ = borrowed_sizes(options)
    source = getattr(transformers, BORROWED_KINDS[options["model_type"]]).from_pretrained(name)
    widths = {"channels": (1,) * (patch.bit_length() - 1)}  # not used
    model = ImageVQModel(ImageVQConfig(borrowed=options, patch_height=patch, patch_width=patch, **widths))
    model.borrowed.model.load_state_dict(source.state_dict())
    return model.eval()


__all__ = ["ImageVQModel", "ImageVQOutput", "ImageVQPreTrainedModel", "borrow_image_vq"]
