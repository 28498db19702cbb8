"""StyleEncoder's processor: any picture in, a batch as the backbone was trained on out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .errors import InputError
from .image_processing_score import flat_list
from .picture_files import load_pictures, picture_of_array, rgb_on_white

INTERPOLATIONS = ("bicubic", "bilinear", "nearest", "lanczos", "box", "hamming")
CROP_MODES = ("center", "squash", "border")
MAX_ASPECT = 4  # a longer picture loses its ends before it is scaled, which the centre crop takes away anyway


class StyleEncoderProcessor(ProcessorMixin):
    """Turns pictures into `pixel_values`, by the data configuration of a timm backbone.

    Args:
        image_size: Side of the square that the backbone sees, in pixels.
        mean, std: Of the three channels of pictures in 0 … 1.
        interpolation: How pictures are scaled.
        crop_pct: Part of the scaled picture's shorter side that the square covers.
        crop_mode: `center` cuts the longer side; `squash` scales both sides to the square; `border` puts the whole
            picture on the square, with a border.
    """

    def __init__(
        self,
        image_size: int = 224,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        interpolation: str = "bicubic",
        crop_pct: float = 0.875,
        crop_mode: str = "center",
        **kwargs: Any,
    ) -> None:
        if image_size < 1 or not 0 < crop_pct <= 1:
            raise InputError(None, f"image_size must be 1 or more and crop_pct in 0 … 1, got {image_size}, {crop_pct}")
        if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
            raise InputError(
                None, f"mean and std are three numbers each, std above 0, got {list(mean)} and {list(std)}"
            )
        for name, value, known in (
            ("interpolation", interpolation, INTERPOLATIONS),
            ("crop_mode", crop_mode, CROP_MODES),
        ):
            if value not in known:
                raise InputError(None, f"{name} is {value!r}; use one of {', '.join(known)}")
        self.image_size = int(image_size)
        self.mean = [float(value) for value in mean]
        self.std = [float(value) for value in std]
        self.interpolation = interpolation
        self.crop_pct = float(crop_pct)
        self.crop_mode = crop_mode
        super().__init__(**kwargs)

    @classmethod
    def from_backbone(
        cls, model_name: str, model_args: Mapping[str, Any] | None = None, image_size: int = 0, **changes: Any
    ) -> StyleEncoderProcessor:
        """The processor for a timm model, from that model's own data configuration; the network is not asked.

        Args:
            model_name: As in `StyleEncoderConfig`.
            model_args: As there; its `img_size` is the size of the pictures.
            image_size: Another size, for backbones that take any.
            **changes: Other settings of the processor.

        Raises:
            InputError: timm has no such model, or two sizes are asked for.
        """
        import timm

        if not timm.is_model(model_name):
            raise InputError(None, f"timm {timm.__version__} has no model {model_name!r}")
        given = timm.get_pretrained_cfg(model_name)
        data = timm.data.resolve_data_config(pretrained_cfg=given.to_dict() if given else {})
        fixed = (model_args or {}).get("img_size")
        fixed = fixed[0] if isinstance(fixed, (list, tuple)) else fixed
        if fixed and image_size and fixed != image_size:
            raise InputError(None, f"image_size is {image_size}, but the backbone is built for {fixed} pixels")
        interpolation = data["interpolation"] if data["interpolation"] in INTERPOLATIONS else "bicubic"
        settings = {
            "image_size": image_size or fixed or data["input_size"][-1],
            "mean": data["mean"],
            "std": data["std"],
            "interpolation": interpolation,
            "crop_pct": min(1.0, data["crop_pct"]),
            "crop_mode": data["crop_mode"],
        }
        return cls(**{**settings, **changes})

    @property
    def model_input_names(self) -> list[str]:
        """What `__call__` gives."""
        return ["pixel_values"]

    def __call__(self, images: Any = None, return_tensors: str | None = "pt", **kwargs: Any) -> BatchFeature:
        """Prepares pictures.

        Args:
            images: One picture or a list: a PIL picture in any mode, a path, or an array or tensor `(H, W)`,
                `(H, W, C)` or `(C, H, W)` in 0 … 1 or 0 … 255.
            return_tensors: As everywhere in transformers.
            **kwargs: Not used; there for pipelines.

        Returns:
            `pixel_values` float32 `(B, 3, image_size, image_size)`.

        Raises:
            InputError: One line that names the picture by its file or its number.
        """
        pictures = [] if images is None else list(flat_list(images))
        if not pictures:
            raise InputError(None, "there is no picture in the batch")
        transform = self.transform()
        values = [transform(_shortened(self.load(picture, k))) for k, picture in enumerate(pictures)]
        return BatchFeature({"pixel_values": torch.stack(values)}, tensor_type=return_tensors)

    def load(self, picture: Any, index: int = 0) -> Image.Image:
        """One picture as RGB: upright, 8 bits a channel, on white.

        Of a file with several pages or frames, the first.

        Args:
            picture: As in a call.
            index: Its number, for the message where it has no name.

        Raises:
            InputError: It can not be read.
        """
        if isinstance(picture, (str, PathLike)):
            path = Path(picture)
            if path.is_dir():
                raise InputError(path, "is a folder; give a picture")
            return next(load_pictures(path, colour=True)).image
        if isinstance(picture, Image.Image):
            try:
                return rgb_on_white(picture)
            except (OSError, ValueError, SyntaxError) as error:
                name = getattr(picture, "filename", "") or f"picture {index}"
                raise InputError(name, f"the picture is damaged ({' '.join(str(error).split())[:120]})") from error
        return rgb_on_white(picture_of_array(picture, f"picture {index}"))

    def transform(self) -> Any:
        """timm's own evaluation transform for these settings: a PIL picture to `(3, H, W)`."""
        from timm.data import create_transform

        return create_transform(
            input_size=(3, self.image_size, self.image_size),
            is_training=False,
            interpolation=self.interpolation,
            mean=tuple(self.mean),
            std=tuple(self.std),
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
        )


def _shortened(picture: Image.Image) -> Image.Image:
    """Without the far ends of a very long picture: scaled by its shorter side it would fill the memory."""
    width, height = picture.size
    limit = MAX_ASPECT * min(width, height)
    if max(width, height) <= limit:
        return picture
    new_width, new_height = min(width, limit), min(height, limit)
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return picture.crop((left, top, left + new_width, top + new_height))


__all__ = ["StyleEncoderProcessor"]
