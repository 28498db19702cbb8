"""From pictures of tab to tensors: one system each, upright, at one size, on one canvas.

`page_systems` finds the systems, `system_canvas` holds the geometry and draws them; both work without transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ImagesKwargs

from .errors import InputError
from .page_systems import Page, SystemRegion, draw_region, find_systems, normalise_page, normalise_system, read_page
from .picture_files import MAX_PIXELS, grey_on_white, picture_of_array
from .system_canvas import (
    BATCH_MARGIN_PX,
    CANVAS_HEIGHT_PX,
    CANVAS_HEIGHT_SCORE_PX,
    LINE_DISTANCE_PX,
    MARGIN_X_PX,
    ROWS_ABOVE,
    ROWS_ABOVE_SCORE,
    ROWS_BELOW,
    WIDTH_MULTIPLE_PX,
    CanvasPlacement,
    NormalisedSystem,
    draw_on_canvas,
    normalise_from_lines,
)

__all__ = [
    "BATCH_MARGIN_PX",
    "CANVAS_HEIGHT_PX",
    "CANVAS_HEIGHT_SCORE_PX",
    "LINE_DISTANCE_PX",
    "MARGIN_X_PX",
    "ROWS_ABOVE",
    "ROWS_ABOVE_SCORE",
    "ROWS_BELOW",
    "WIDTH_MULTIPLE_PX",
    "CanvasPlacement",
    "NormalisedSystem",
    "Page",
    "ScoreImageProcessor",
    "SystemRegion",
    "draw_on_canvas",
    "find_systems",
    "normalise_from_lines",
    "normalise_page",
    "normalise_system",
    "read_page",
]


class ScoreImageProcessorKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]
    """Settings of `ScoreImageProcessor`. The geometry is stored so that a checkpoint for another canvas is refused."""

    line_distance_px: int
    rows_above: int
    rows_above_score: int
    rows_below: int
    width_multiple_px: int
    margin_px: int
    do_locate: bool


_GEOMETRY = {
    "line_distance_px": LINE_DISTANCE_PX,
    "rows_above": ROWS_ABOVE,
    "rows_above_score": ROWS_ABOVE_SCORE,
    "rows_below": ROWS_BELOW,
}


def flat_list(images: Any) -> Iterator[Any]:
    """Pictures out of a picture, a stack of pictures or nested lists of either."""
    if isinstance(images, (list, tuple)):
        for item in images:
            yield from flat_list(item)
    elif hasattr(images, "ndim") and images.ndim == 4:
        yield from images
    else:
        yield images


def _grey_array(image: Any, index: int) -> np.ndarray:
    """`(H, W)` uint8 from a PIL picture, or an array or tensor `(H, W)`, `(C, H, W)` or `(H, W, C)`, 0..1 or 0..255."""
    if isinstance(image, Image.Image):
        if image.width * image.height > MAX_PIXELS:
            image = image.copy()
            factor = (MAX_PIXELS / (image.width * image.height)) ** 0.5
            image.thumbnail((int(image.width * factor), int(image.height * factor)), Image.Resampling.BOX)
        return np.asarray(grey_on_white(image))
    return np.asarray(grey_on_white(picture_of_array(image, f"picture {index}")))


class ScoreImageProcessor(TorchvisionBackend):
    """Turns pictures of one tab system each into a batch.

    Attributes:
        do_locate: Find, straighten and scale the system in each picture. With `False` the pictures must be canvases
            already (from `normalise_system` or `normalise_from_lines`).
        margin_px: Blank columns right of the widest picture, as far as the tower's convolutions see: a picture is then
            read in the same way whatever it shares a batch with.
        width_multiple_px: Batches are padded on the right to a multiple of this.
        line_distance_px, rows_above, rows_above_score, rows_below: The canvas this version draws; stored for checking.

    Calling it gives a `BatchFeature` of

    - `pixel_values`: float `(B, 1, H, W)` in 0..1 with 1 = ink. `H` is 240 for tab alone; when any system of the batch
      has a score staff, all have 320 rows, and the missing ones are added on top (rows count from the bottom).
    - `widths`: int64 `(B,)`, columns that belong to the picture; what is to the right is padding.
    - `string_count`: int64 `(B,)`, lines of the tab staff; 0 when `do_locate` is off.
    - `has_score`: int64 `(B,)`, 1 where a score staff stands above the tab.

    A picture with several systems gives its largest; use `read_page` and `normalise_page` for whole pages.

    Raises:
        InputError: One line that names the picture by its file or its index in the batch.
    """

    valid_kwargs = ScoreImageProcessorKwargs
    model_input_names = ["pixel_values", "widths", "string_count", "has_score"]
    line_distance_px = LINE_DISTANCE_PX
    rows_above = ROWS_ABOVE
    rows_above_score = ROWS_ABOVE_SCORE
    rows_below = ROWS_BELOW
    width_multiple_px = WIDTH_MULTIPLE_PX
    margin_px = BATCH_MARGIN_PX
    do_locate = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in _GEOMETRY.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but this version draws canvases with {name} = {value}"
                )
        if self.width_multiple_px < 1 or self.width_multiple_px % WIDTH_MULTIPLE_PX:
            raise ValueError(
                f"width_multiple_px must be a multiple of {WIDTH_MULTIPLE_PX}, got {self.width_multiple_px}"
            )

    def preprocess(
        self, images: Any, *, do_locate: bool | None = None, return_tensors: Any = None, **kwargs: Any
    ) -> BatchFeature:
        """See the class. Other keyword arguments of transformers' image processors have no meaning here."""
        locate = self.do_locate if do_locate is None else do_locate
        pictures = list(flat_list(images))
        if not pictures:
            raise InputError(None, "there is no picture in the batch")
        systems = [self._system(picture, index, locate) for index, picture in enumerate(pictures)]
        return self._batch(systems, return_tensors)

    def _system(self, picture: Any, index: int, locate: bool) -> NormalisedSystem:
        name = getattr(picture, "filename", "") or f"picture {index}"
        array = _grey_array(picture, index)
        if not locate:
            if array.shape[0] not in (CANVAS_HEIGHT_PX, CANVAS_HEIGHT_SCORE_PX):
                heights = f"{CANVAS_HEIGHT_PX} or {CANVAS_HEIGHT_SCORE_PX}"
                raise InputError(name, f"is {array.shape[0]} pixels high; a canvas has {heights}")
            return NormalisedSystem(array, 0, array.shape[0] == CANVAS_HEIGHT_SCORE_PX, CanvasPlacement(1, 0, 1, 0))
        page = read_page(array)
        if not page.systems:
            raise InputError(name, page.why_empty)
        best = max(page.systems, key=lambda r: (r.x_range[1] - r.x_range[0]) * (r.tab_line_ys[-1] - r.tab_line_ys[0]))
        return draw_region(page, best)

    def _batch(self, systems: list[NormalisedSystem], return_tensors: Any) -> BatchFeature:
        height = max(s.array.shape[0] for s in systems)
        widest = max(s.array.shape[1] for s in systems)
        width = -(-(widest + self.margin_px) // self.width_multiple_px) * self.width_multiple_px
        values = np.zeros((len(systems), 1, height, width), np.float32)  # (B, 1, H, W)
        for i, system in enumerate(systems):
            rows, columns = system.array.shape
            values[i, 0, height - rows :, :columns] = (255.0 - system.array) / 255.0
        data = {
            "pixel_values": values,
            "widths": np.array([s.array.shape[1] for s in systems], np.int64),
            "string_count": np.array([s.string_count for s in systems], np.int64),
            "has_score": np.array([int(s.has_score) for s in systems], np.int64),
        }
        return BatchFeature(data=data, tensor_type=return_tensors)
