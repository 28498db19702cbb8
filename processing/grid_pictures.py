"""Systems as an image tokenizer takes them: small, cropped, cut into patches that fit the staff.

A canvas (`system_canvas`) has tab lines 10 px apart. Here they are 8 px apart: at that size a reader makes no more
mistakes than at full size (24 systems of one or two bars: 17 read without an error at factors 1.0 and 0.8, 13 at 0.6,
7 at 0.5), and one string is as high as half a patch of 16 px, so that digits are never cut in two:

    row of patches            16 px
    -2  |                 |   effects, score staff: as many rows as the ink needs
    -1  |                 |
     0  | -- string 1 --- |   the grid begins LEAD_PX above the top line, so lines run through the middle of 8 px
        | -- string 2 --- |
     1  | -- string 3 --- |
     …
     4  |   stems, flags  |   ROWS_BELOW_PX are always there: the height alone tells where the staff is
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from .errors import InputError
from .system_canvas import (
    CANVAS_HEIGHT_PX,
    CANVAS_HEIGHT_SCORE_PX,
    INK_BELOW,
    LINE_DISTANCE_PX,
    MARGIN_X_PX,
    ROWS_BELOW,
    WHITE,
    WIDTH_MULTIPLE_PX,
    ink_box,
)

LINE_PX = 8
SCALE = LINE_PX / LINE_DISTANCE_PX
LEAD_PX = LINE_PX // 2
ROWS_BELOW_PX = 80  # 99.7 % of systems end within the 95 canvas px that this is below the top line
FEWEST_LINES, MOST_LINES = 4, 7
FAINTEST, GREY, BLACK = 0.06, 0.27, 0.4  # ink on the two rows of a line: hardly there; lighter than black; black
RIGHT_MARGIN_PX = 4  # of the canvas


@dataclass(frozen=True)
class GridGeometry:
    """How pictures are cut.

    Args:
        patch_height, patch_width: Pixels of a patch, 8 or 16.
    """

    patch_height: int = 16
    patch_width: int = 8

    def __post_init__(self) -> None:
        if self.patch_height not in (8, 16) or self.patch_width not in (8, 16):
            raise ValueError(f"patches are 8 or 16 px, got {self.patch_height} x {self.patch_width}")

    @property
    def rows_below(self) -> int:
        """Rows of patches from the top tab line down."""
        return ROWS_BELOW_PX // self.patch_height

    def max_rows(self, has_score: bool = True) -> int:
        """Rows of patches of the tallest picture."""
        height = CANVAS_HEIGHT_SCORE_PX if has_score else CANVAS_HEIGHT_PX
        return self.rows_below + int((_edge(height) * SCALE) // self.patch_height) + 1

    def size(self, picture: np.ndarray) -> tuple[int, int]:
        """Rows and columns of patches.

        Raises:
            InputError: The picture does not divide into patches.
        """
        height, width = picture.shape[-2:]
        rows, rest_y = divmod(height, self.patch_height)
        columns, rest_x = divmod(width, self.patch_width)
        if rest_y or rest_x or rows < self.rows_below or not columns:
            raise InputError(
                None,
                f"a picture of {height} x {width} px does not divide into patches of {self.patch_height} x "
                f"{self.patch_width} with at least {self.rows_below} rows; make it with canvas_to_grid",
            )
        return rows, columns


def _edge(height: int) -> float:
    """Where on a canvas of this height the row of patches with the top tab line begins, continuous px."""
    return height - ROWS_BELOW + 0.5 - LEAD_PX / SCALE


def canvas_to_grid(canvas: np.ndarray, geometry: GridGeometry, name: str | None = None) -> np.ndarray:
    """Crops a canvas to its ink and scales it down.

    Args:
        canvas: `(240 or 320, W)` uint8, white = 255, the top tab line 120 px above the bottom.
        geometry: Patches.
        name: For messages.

    Returns:
        `(rows · patch_height, columns · patch_width)` uint8, white = 255.

    Raises:
        InputError: Another height, no ink, or ink so far below the staff that it would be lost.
    """
    height, width = canvas.shape
    if height not in (CANVAS_HEIGHT_PX, CANVAS_HEIGHT_SCORE_PX):
        raise InputError(name, f"is {height} pixels high; a canvas has {CANVAS_HEIGHT_PX} or {CANVAS_HEIGHT_SCORE_PX}")
    box = ink_box(canvas)
    if box is None:
        raise InputError(name, "shows nothing")
    edge = _edge(height)
    bottom = edge + ROWS_BELOW_PX / SCALE
    if box[3] > bottom:
        raise InputError(name, f"has ink {box[3] - bottom:.0f} px below what a grid picture keeps; crop it off")
    above = max(0, int(np.ceil((edge - box[1]) * SCALE / geometry.patch_height)))
    rows = geometry.rows_below + above
    columns = int(np.ceil((box[2] + RIGHT_MARGIN_PX) * SCALE / geometry.patch_width))
    x_end = columns * geometry.patch_width / SCALE
    top = edge - above * geometry.patch_height / SCALE
    pad_top, pad_right = max(0, int(np.ceil(-top))), max(0, int(np.ceil(x_end)) - width)
    padded = np.pad(canvas, ((pad_top, 0), (0, pad_right)), constant_values=WHITE)
    size = (columns * geometry.patch_width, rows * geometry.patch_height)
    region = (0.0, top + pad_top, x_end, bottom + pad_top)
    return np.asarray(Image.fromarray(padded).resize(size, Image.Resampling.BICUBIC, box=region))


def grid_to_canvas(picture: np.ndarray, geometry: GridGeometry, has_score: bool | None = None) -> np.ndarray:
    """Back to the canvas that readers take.

    Args:
        picture: `(rows · patch_height, columns · patch_width)` uint8, white = 255.
        geometry: Patches.
        has_score: Draw on the tall canvas of systems with a score staff; by default only where the picture needs it.

    Returns:
        `(240 or 320, W)` uint8, white = 255; `W` a multiple of 16.

    Raises:
        InputError: The picture does not divide into patches, or is taller than the canvas.
    """
    rows, _ = geometry.size(picture)
    above = (rows - geometry.rows_below) * geometry.patch_height / SCALE
    height = CANVAS_HEIGHT_PX
    if has_score or (has_score is None and _ink_above(picture, geometry) > _edge(CANVAS_HEIGHT_PX)):
        height = CANVAS_HEIGHT_SCORE_PX
    if rows > geometry.max_rows():
        raise InputError(
            None, f"a picture of {rows} rows of patches is taller than the {geometry.max_rows()} there are"
        )
    top = _edge(height) - above
    width = int(np.ceil((picture.shape[1] / SCALE + MARGIN_X_PX) / WIDTH_MULTIPLE_PX)) * WIDTH_MULTIPLE_PX
    matrix = np.array([[1 / SCALE, 0.0, 0.5 / SCALE - 0.5], [0.0, 1 / SCALE, 0.5 / SCALE - 0.5 + top]])
    return cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderValue=WHITE)


def _ink_above(picture: np.ndarray, geometry: GridGeometry) -> float:
    """Canvas px that ink reaches above the row of the top tab line."""
    rows = np.flatnonzero(picture.min(axis=1) < INK_BELOW)
    if not rows.size:
        return 0.0
    line = picture.shape[0] - geometry.rows_below * geometry.patch_height
    return max(0.0, (line - int(rows[0])) / SCALE)


def system_to_grid(image_processor: Any, image: Any, geometry: GridGeometry, name: str | None = None) -> np.ndarray:
    """A picture of one system, cut and scaled to patches.

    Args:
        image_processor: `ScoreImageProcessor`, which finds the system.
        image: PIL picture or array.
        geometry: Patches.
        name: For messages; left out, the file that a PIL picture was opened from.

    Returns:
        uint8 with white = 255.

    Raises:
        InputError: It shows no system, or one with ink where a grid picture keeps none, of signs that stand on the
            staff; others that do not fit, such as dynamics below the beams, are left out.
    """
    found = image_processor(images=[image], return_tensors="np")
    ink = found["pixel_values"][0, 0, :, : int(found["widths"][0])]
    canvas = np.round(WHITE * (1 - ink)).astype(np.uint8)
    drop_below(canvas)
    return darken_lines(canvas_to_grid(canvas, geometry, name or getattr(image, "filename", None) or None))


def drop_below(canvas: np.ndarray) -> None:
    """Wipes signs out of a canvas that stand below the staff by themselves and reach below a grid picture.

    Args:
        canvas: As for `canvas_to_grid`; changed.
    """
    height = len(canvas)
    limit, staff = int(_edge(height) + ROWS_BELOW_PX / SCALE), height - ROWS_BELOW + MOST_LINES * LINE_DISTANCE_PX
    _, names, boxes, _ = cv2.connectedComponentsWithStats((canvas < INK_BELOW).astype(np.uint8), connectivity=8)
    for number, (left, top, wide, high, _) in enumerate(boxes[1:].tolist(), 1):
        if top + high > limit and top >= staff:
            grown = slice(max(0, top - 1), top + high + 1), slice(max(0, left - 1), left + wide + 1)
            sign = cv2.dilate((names[grown] == number).astype(np.uint8), np.ones((3, 3), np.uint8))
            canvas[grown][sign > 0] = WHITE  # with the grey around it


def darken_lines(picture: np.ndarray) -> np.ndarray:
    """Gives staff lines that are printed in light grey the ink of black ones.

    Picture tokenizers learn from black engravings; grey lines come back in pieces, and digits with them. Lines of
    usual ink are left alone, so pictures that a tokenizer learns from stay what they are.

    Args:
        picture: `(H, W)` uint8, white = 255, as of `canvas_to_grid`; the lines are known to be there.

    Returns:
        The same shape.
    """
    ink = to_ink(picture)
    first = len(picture) - ROWS_BELOW_PX + LEAD_PX
    tops = first + LINE_PX * np.arange(FEWEST_LINES)
    lines = (ink[tops - 1] + ink[tops]) / 2  # (4, W); a line 1 px wide lies on two rows
    usual = float(np.median(lines[:, np.median(lines, axis=0) > FAINTEST])) if (lines > FAINTEST).any() else 0.0
    if not FAINTEST < usual < GREY:
        return picture
    rows = np.arange(first - 1, len(picture) - LEAD_PX, LINE_PX)[:MOST_LINES, None] + np.arange(2)
    on_lines = ink[rows]  # (7, 2, W)
    ink[rows] = np.where((on_lines > FAINTEST) & (on_lines < 1.5 * usual), on_lines * (BLACK / usual), on_lines)
    return from_ink(ink)


def stack_pictures(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """`(P, 1, H, W)` float32 with 1 = ink; smaller ones are padded below and on the right."""
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    out = np.zeros((len(pictures), 1, height, width), dtype=np.float32)
    for ink, picture in zip(out, pictures, strict=True):
        ink[0, : picture.shape[0], : picture.shape[1]] = to_ink(picture)
    return out


def to_ink(picture: np.ndarray) -> np.ndarray:
    """uint8 with white = 255 to float32 with 1 = ink."""
    return (WHITE - picture.astype(np.float32)) / WHITE


def from_ink(ink: np.ndarray) -> np.ndarray:
    """Float with 1 = ink to uint8 with white = 255."""
    return np.round(WHITE * (1 - np.clip(ink, 0, 1))).astype(np.uint8)


__all__ = [
    "GridGeometry",
    "canvas_to_grid",
    "darken_lines",
    "from_ink",
    "grid_to_canvas",
    "stack_pictures",
    "system_to_grid",
    "to_ink",
]
