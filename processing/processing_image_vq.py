"""ImageVQ's processor: pictures of systems in, ink on whole patches out; and pictures back from what it draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .errors import InputError
from .grid_pictures import GridGeometry, from_ink, stack_pictures, system_to_grid
from .image_processing_score import flat_list


class ImageVQProcessor(ProcessorMixin):
    """Finds the system in a picture and cuts it into the patches of a picture tokenizer.

    Args:
        image_processor: `ScoreImageProcessor`.
        patch_height, patch_width: Pixels of a patch, as in the model's configuration.
    """

    def __init__(
        self, image_processor: Any = None, patch_height: int = 16, patch_width: int = 8, **kwargs: Any
    ) -> None:
        GridGeometry(patch_height, patch_width)  # refuses what no model has
        self.patch_height, self.patch_width = int(patch_height), int(patch_width)
        super().__init__(image_processor, **kwargs)

    @classmethod
    def for_model(cls, config: Any, image_processor: Any) -> ImageVQProcessor:
        """The processor that fits an `ImageVQConfig`."""
        return cls(image_processor, config.patch_height, config.patch_width)

    @property
    def geometry(self) -> GridGeometry:
        """How pictures are cut."""
        return GridGeometry(self.patch_height, self.patch_width)

    @property
    def model_input_names(self) -> list[str]:
        """What the model takes of what `__call__` gives."""
        return ["pixel_values"]

    def __call__(self, images: Any = None, return_tensors: str | None = "pt", **kwargs: Any) -> BatchFeature:
        """Prepares pictures of one system each.

        Args:
            images: One picture or a list; PIL pictures or arrays.
            return_tensors: As everywhere in transformers.
            **kwargs: Not used; there for pipelines.

        Returns:
            `pixel_values` float32 `(B, 1, H, W)`, 1 = ink, smaller pictures padded below and on the right; and
            `image_sizes` `(B, 2)`, rows and columns of patches. Padding changes the codes beside it: give pictures of
            different sizes one by one where the codes must be the same as alone.

        Raises:
            InputError: No picture, or one that shows no system.
        """
        given = [] if images is None else list(flat_list(images))
        if not given:
            raise InputError(None, "give a picture, or a list of them")
        pictures = [system_to_grid(self.image_processor, image, self.geometry) for image in given]
        sizes = np.array([self.geometry.size(picture) for picture in pictures])
        return BatchFeature({"pixel_values": stack_pictures(pictures), "image_sizes": sizes}, return_tensors)

    def pictures(self, ink: torch.Tensor, image_sizes: Any = None) -> list[Image.Image]:
        """Pictures of what the model draws.

        Args:
            ink: `(B, 1, H, W)` in [0, 1], 1 = ink: `model.decode(codes)`, or the model's `reconstruction`.
            image_sizes: As `__call__` gives them, to cut padding off; left out, nothing is cut.

        Raises:
            InputError: Another shape.
        """
        if ink.ndim != 4 or ink.shape[1] != 1:
            raise InputError(None, f"pictures have the shape (B, 1, H, W), got {tuple(ink.shape)}")
        drawn = [from_ink(one) for one in ink[:, 0].detach().float().cpu().numpy()]
        if image_sizes is not None:
            sizes = np.asarray(image_sizes) * (self.patch_height, self.patch_width)
            drawn = [one[:height, :width] for one, (height, width) in zip(drawn, sizes, strict=True)]
        return [Image.fromarray(one) for one in drawn]


__all__ = ["ImageVQProcessor"]
