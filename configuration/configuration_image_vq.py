"""Configuration of ImageVQ, the picture tokenizer, and its presets."""

import math
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..processing.errors import InputError
from ..processing.grid_pictures import LINE_PX, GridGeometry

BORROWED_KINDS = {"emu3_vqgan": "Emu3VQVAE", "janus_vqgan": "JanusVQVAE", "chameleon_vqgan": "ChameleonVQVAE"}


def borrowed_sizes(options: dict[str, Any]) -> tuple[int, int]:
    """Pixels of a (square) patch, and number of codes, of a configuration with its `model_type`."""
    config = borrowed_config(options)
    return 2 ** (len(config.channel_multiplier) - 1), getattr(config, "codebook_size", None) or config.num_embeddings


def borrowed_config(options: dict[str, Any]) -> Any:
    """The configuration, as transformers' own class, of a dictionary with its `model_type`."""
    import transformers

    kind = options.get("model_type")
    if kind not in BORROWED_KINDS:
        raise InputError(
            None, f"{kind!r} is no picture tokenizer that can be borrowed; use one of {', '.join(BORROWED_KINDS)}"
        )
    rest = {name: value for name, value in options.items() if name != "model_type"}
    return getattr(transformers, f"{BORROWED_KINDS[kind]}Config")(**rest)


@strict
class ImageVQConfig(PreTrainedConfig):
    """A convolutional autoencoder whose middle is a grid of codes, for one-channel pictures of music.

    Args:
        patch_height, patch_width: Pixels behind one code, 8 or 16 each. With tab lines 8 px apart, 16 x 8 is two
            strings high and about one digit wide.
        line_px: Distance of the tab lines in the pictures; stored so that a checkpoint for another size is refused.
        channels: Channels of the feature maps from the finest to the coarsest, one for each halving.
        depth: Residual blocks at each size of the encoder; the decoder has as many.
        code_depth: Residual blocks at the size of the codes, on both sides.
        codebook: `"fsq"`: each number rounded to a few levels (arXiv 2309.15505), nothing to learn; `"vq"`: nearest of
            learnt vectors (VQ-VAE, arXiv 1711.00937), moved by averages. Pictures of music are mostly white: after
            equally short trainings 41 % of the levels' codes were in use, and 1.5 % of the learnt vectors.
            `"patches"`: nearest of learnt small pictures, found by k-means before anything trains; there is no encoder
            then, and the decoder begins with these pictures side by side and learns what to mend.
        codebook_size: Number of codes; for `"fsq"` the product of the levels. 512 to 8,192 make sense.
        codebook_dim: Numbers in a code's vector (`"vq"`). Few numbers of length one keep the codebook in use
            (ViT-VQGAN, arXiv 2110.04627, section 3.2).
        fsq_levels: Levels of each number (`"fsq"`).
        decoder_table: The decoder has a vector of its own for each code, beside the code's value.
        fsq_dither: Part of the numbers that training moves by noise instead of rounding them (`"fsq"`).
        ema_decay: How slowly the learnt vectors follow.
        revive_below: A code that is chosen less often than this in a batch, on average, starts anew at a vector of the
            present batch.
        codebook_warmup: Training steps in which the decoder sees features and not yet codes (`"vq"`).
        commitment_weight: Of the distance between features and codes.
        pixel_weight: Of the pixels' cross entropy; with `edge_weight` 0 too, training draws nothing and only reads.
        stroke_weight: How much more a pixel counts that belongs to a stroke, or lies beside one; staff lines do not.
        edge_weight: How much more a pixel counts where the picture changes, and weight of the difference of edges.
        tower: Sizes of a dense tower's convolutions (`tower_sizes`), which then are the first, frozen part of the
            encoder: they can read digits already. For patches 8 px high; `None`: the encoder learns all by itself. With
            `"patches"` they are the eyes that choose among `candidates`.
        candidates: How many of the nearest small pictures are looked at for a patch that none matches (`"patches"`);
            0: the nearest in pixels is taken.
        reading_weight: Of a small head that reads frets and note values off the codes in training; 0: there is none.
        reading_labels: Names of signs by kind (`dense_labels.build_label_space`) that it reads, too; `None`: no signs.
        digit_weight: How much more a pixel counts on a digit of the tab, where training knows of it.
        adversarial_weight: Of a small discriminator's gradient; 0: there is none.
        borrowed: Configuration, with `model_type`, of a tokenizer of transformers that stands in (`emu3_vqgan`,
            `janus_vqgan`, `chameleon_vqgan`); nothing above but the patches counts then. See `borrow_image_vq`.
        initializer_range: Standard deviation of the first weights of what is neither a norm nor a convolution.
    """

    model_type = "image_vq"

    patch_height: int = 16
    patch_width: int = 8
    line_px: int = LINE_PX
    channels: list[int] | tuple[int, ...] = (24, 48, 96, 128)
    depth: int = 1
    code_depth: int = 2
    codebook: Literal["vq", "fsq", "patches"] = "fsq"
    codebook_size: int | None = None
    codebook_dim: int = 16
    fsq_levels: list[int] | tuple[int, ...] = (8, 8, 8, 4)
    decoder_table: bool = False
    fsq_dither: float | int = 0.0
    ema_decay: float | int = 0.99
    revive_below: float | int = 0.02
    codebook_warmup: int = 400
    commitment_weight: float | int = 0.25
    pixel_weight: float | int = 1.0
    stroke_weight: float | int = 4.0
    edge_weight: float | int = 1.0
    tower: dict | None = None
    candidates: int = 0
    reading_weight: float | int = 0.0
    reading_labels: dict | None = None
    digit_weight: float | int = 0.0
    adversarial_weight: float | int = 0.0
    borrowed: dict | None = None
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.channels, self.fsq_levels = tuple(self.channels), tuple(self.fsq_levels)
        GridGeometry(self.patch_height, self.patch_width)
        if self.line_px != LINE_PX:
            raise ValueError(f"line_px is {self.line_px}, but this version cuts pictures with {LINE_PX}")
        if len(self.channels) != len(self.strides) or min(self.channels, default=0) < 1:
            raise ValueError(
                f"patches of {self.patch_height} x {self.patch_width} need {len(self.strides)} channels above 0, "
                f"got {self.channels}"
            )
        if self.tower is not None and self.patch_height != 8:
            raise ValueError(f"a tower sees rows of 8 px, but patches are {self.patch_height} px high")
        levels = math.prod(self.fsq_levels)
        if self.codebook == "fsq" and (not self.fsq_levels or min(self.fsq_levels) < 2):
            raise ValueError(f"fsq_levels are 2 or more each, got {self.fsq_levels}")
        if self.borrowed is not None:
            return self._check_borrowed()
        if self.codebook_size is None:
            self.codebook_size = {"fsq": levels, "vq": 2048, "patches": 8192}[self.codebook]
        if self.codebook == "patches":
            self.codebook_dim = self.patch_height * self.patch_width
            if self.reading_weight:
                raise ValueError("codebook 'patches' has no encoder that a reading head could help")
        if bool(self.candidates) != (self.codebook == "patches" and self.tower is not None) or self.candidates < 0:
            raise ValueError(
                f"candidates is {self.candidates}: above 0 for codebook 'patches' with a tower, otherwise 0; "
                f"the codebook is {self.codebook!r}, {'with' if self.tower else 'without'} a tower"
            )
        if self.codebook == "fsq" and self.codebook_size != levels:
            raise ValueError(f"codebook_size is {self.codebook_size}, the product of fsq_levels {levels}")
        if self.codebook_size < 2 or self.codebook_dim < 1 or self.depth < 0 or self.code_depth < 0:
            raise ValueError(
                f"codebook_size {self.codebook_size} must be 2 or more, codebook_dim {self.codebook_dim} 1 or more, "
                f"depth {self.depth} and code_depth {self.code_depth} 0 or more"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must be in [0, 1)")
        for name in (
            "revive_below",
            "codebook_warmup",
            "commitment_weight",
            "pixel_weight",
            "stroke_weight",
            "edge_weight",
            "reading_weight",
            "fsq_dither",
            "digit_weight",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it can not be below 0")
        if self.adversarial_weight < 0:
            raise ValueError(f"adversarial_weight is {self.adversarial_weight}; it can not be below 0")

    def _check_borrowed(self) -> None:
        assert self.borrowed is not None
        patch, codes = borrowed_sizes(self.borrowed)
        if (self.patch_height, self.patch_width) != (patch, patch):
            raise ValueError(
                f"patches are {self.patch_height} x {self.patch_width}, the borrowed tokenizer's {patch} x {patch}"
            )
        if self.codebook_size not in (None, codes):
            raise ValueError(f"codebook_size is {self.codebook_size}, the borrowed tokenizer has {codes}")
        self.codebook_size = codes

    @property
    def geometry(self) -> GridGeometry:
        """How pictures are cut."""
        return GridGeometry(self.patch_height, self.patch_width)

    @property
    def strides(self) -> list[tuple[int, int]]:
        """Vertical and horizontal stride of each size of the encoder; the odd one comes last, where it costs least."""
        down = (self.patch_height.bit_length() - 1, self.patch_width.bit_length() - 1)
        return [tuple(2 if i < times else 1 for times in down) for i in range(max(down))]  # type: ignore[misc]


def image_vq_tiny(**changes: Any) -> ImageVQConfig:
    """For tries."""
    settings: dict[str, Any] = dict(
        patch_height=8, patch_width=8, channels=(8, 12, 16), code_depth=1, fsq_levels=(4, 4, 4), codebook_dim=8
    )
    return ImageVQConfig(**{**settings, **changes})


def image_vq_base(**changes: Any) -> ImageVQConfig:
    """The default."""
    return ImageVQConfig(**changes)


def image_vq_strings(**changes: Any) -> ImageVQConfig:
    """Patches as high as a string and about as wide as a beat, which say frets and note values."""
    settings: dict[str, Any] = dict(patch_height=8, patch_width=16, reading_weight=0.3, digit_weight=6.0)
    return ImageVQConfig(**{**settings, **changes})


def image_vq_square(**changes: Any) -> ImageVQConfig:
    """Patches of 16 x 16: half as many codes, of more kinds."""
    return ImageVQConfig(**{"patch_width": 16, "fsq_levels": (8, 8, 8, 4, 4), **changes})


def image_vq_glyphs(**changes: Any) -> ImageVQConfig:
    """Patches of 8 x 8 that are small pictures by themselves: as high as a string, as wide as a digit."""
    settings: dict[str, Any] = dict(
        patch_height=8, patch_width=8, codebook="patches", codebook_size=8192, digit_weight=6.0, channels=(24, 32, 48),
        code_depth=1,
    )  # fmt: skip
    return ImageVQConfig(**{**settings, **changes})


PRESETS = {
    "glyphs": image_vq_glyphs,
    "tiny": image_vq_tiny,
    "base": image_vq_base,
    "strings": image_vq_strings,
    "square": image_vq_square,
}

__all__ = ["BORROWED_KINDS", "ImageVQConfig", "borrowed_config", "borrowed_sizes"]
