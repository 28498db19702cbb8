"""The canvas a reader sees: one system, tab lines 10 px apart, the top tab line on a fixed row.

Coordinates are continuous pixels: pixel `i` covers `[i, i + 1)`, so a one-pixel line drawn in row 3 lies at 3.5. A
point of the source picture goes to the canvas by `x * x_scale + x_offset`, `y * y_scale + y_offset`. Between the top
and the bottom tab line this is exact. Ink that stands further out than the canvas has rows is squeezed towards the
staff, never cut.

     tab only            score + tab
    +---------+          +---------+  row 0
    | effects |          | effects |
    |         |          |  score  |  ROWS_ABOVE = 120   ROWS_ABOVE_SCORE = 200
    |=========| tab top  |=========|  row height - ROWS_BELOW in both
    |  stems  |          |  stems  |  ROWS_BELOW = 120
    +---------+          +---------+

The row counts come from 849 systems of alphaTab's own Guitar Pro test files (tab with rhythm below): at 10 px a line
space, tab-only systems reach 41 (75 %), 109 (99 %) and at most 118 px above the top line; score + tab 133, 202 and
208 px; both reach 100 (99 %) and at most 117 px below the top line of six. The heights differ by 80 rows, so that
strides up to 16 stay aligned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

LINE_DISTANCE_PX = 10
ROWS_ABOVE = 120
ROWS_ABOVE_SCORE = 200
ROWS_BELOW = 120
CANVAS_HEIGHT_PX = ROWS_ABOVE + ROWS_BELOW
CANVAS_HEIGHT_SCORE_PX = ROWS_ABOVE_SCORE + ROWS_BELOW
WIDTH_MULTIPLE_PX = 16
BATCH_MARGIN_PX = 64  # blank columns right of the widest picture of a batch: as far as the tower's convolutions see
MARGIN_X_PX = 8
WHITE = 255
INK_BELOW = 200  # grey values under this count as ink when the extent of a drawing is measured
_EDGE_PX = 2  # white rows kept at the top and the bottom of the canvas
_RIGID_ABOVE_PX = 14  # next to the staff nothing is squeezed: fret digits and slurs touch the outer lines
_RIGID_BELOW_PX = 34  # rhythm stems end 20 to 34 px under the bottom line, with the flags that carry the durations


@dataclass(frozen=True)
class CanvasPlacement:
    """Where source coordinates lie on the canvas (continuous pixels).

    Attributes:
        x_scale: Canvas pixels per source pixel, horizontally.
        x_offset: Canvas x of source x = 0.
        y_scale: The same vertically, valid from the top to the bottom tab line and wherever nothing is squeezed.
        y_offset: Canvas y of source y = 0.
        squeeze_above: Factor by which the ink above was pressed together; 1.0 when it was not.
        squeeze_below: The same for the ink below.
    """

    x_scale: float
    x_offset: float
    y_scale: float
    y_offset: float
    squeeze_above: float = 1.0
    squeeze_below: float = 1.0


@dataclass(frozen=True)
class NormalisedSystem:
    """One system as a reader takes it.

    Attributes:
        array: `(H, W)` uint8, white = 255; the top tab line lies in row `H - ROWS_BELOW`.
        string_count: Number of tab lines.
        has_score: Whether a score staff stands above the tab staff (then `H` is `CANVAS_HEIGHT_SCORE_PX`).
        placement: Where points of the upright page lie on the canvas.
    """

    array: np.ndarray
    string_count: int
    has_score: bool
    placement: CanvasPlacement


def canvas_height(has_score: bool) -> int:
    """Height in pixels of the canvas for a tab-only system or one with a score staff above."""
    return CANVAS_HEIGHT_SCORE_PX if has_score else CANVAS_HEIGHT_PX


def tab_top_row(has_score: bool) -> int:
    """Pixel row of the canvas in which the top tab line lies (its centre is half a pixel further down)."""
    return canvas_height(has_score) - ROWS_BELOW


def ink_box(image: np.ndarray, ink_below: int = INK_BELOW) -> tuple[int, int, int, int] | None:
    """Smallest box `(left, top, right, bottom)` around all ink, right and bottom exclusive; `None` for a blank picture.

    Args:
        image: `(H, W)` uint8, white = 255.
        ink_below: Grey values under this are ink.
    """
    rows = np.flatnonzero(image.min(axis=1) < ink_below)
    if rows.size == 0:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(image[top:bottom].min(axis=0) < ink_below)
    return int(columns[0]), top, int(columns[-1]) + 1, bottom


def _resample(source: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Antialiased picture of a fractional box; the part of the box outside the source is white."""
    left, top, right, bottom = box
    pad_left, pad_top = max(0, int(np.ceil(-left))), max(0, int(np.ceil(-top)))
    pad_right = max(0, int(np.ceil(right - source.width)))
    pad_bottom = max(0, int(np.ceil(bottom - source.height)))
    if pad_left or pad_top or pad_right or pad_bottom:
        padded = Image.new("L", (source.width + pad_left + pad_right, source.height + pad_top + pad_bottom), WHITE)
        padded.paste(source, (pad_left, pad_top))
        source = padded
    moved = (left + pad_left, top + pad_top, right + pad_left, bottom + pad_top)
    moved = (max(0.0, moved[0]), max(0.0, moved[1]), min(source.width, moved[2]), min(source.height, moved[3]))
    return np.asarray(source.resize(size, Image.Resampling.BICUBIC, box=moved))


def _bands(
    ink_top: float, ink_bottom: float, tab_top: float, tab_bottom: float, scale: float, has_score: bool
) -> tuple[list[tuple[float, float, int]], float, float]:
    """Splits the canvas into bands `(source top, source bottom, canvas rows)`; one when nothing needs squeezing."""
    height, row = canvas_height(has_score), tab_top_row(has_score) + 0.5
    source_top, source_bottom = tab_top - row / scale, tab_top + (height - row) / scale
    bands: list[tuple[float, float, int]] = []
    squeeze_above = squeeze_below = 1.0
    first, last = source_top, source_bottom
    first_row, last_row = 0, height
    if ink_top < source_top:
        first_row = int(row) - _RIGID_ABOVE_PX
        first = tab_top - (row - first_row) / scale
        squeeze_above = (first - ink_top) * scale / (first_row - _EDGE_PX)
        bands.append((first - first_row * squeeze_above / scale, first, first_row))
    if ink_bottom > source_bottom:
        last_row = min(int(np.ceil(row + (tab_bottom - tab_top) * scale)) + _RIGID_BELOW_PX, height - 8)
        last = tab_top + (last_row - row) / scale
        squeeze_below = (ink_bottom - last) * scale / (height - last_row - _EDGE_PX)
    bands.append((first, last, last_row - first_row))
    if last_row < height:
        bands.append((last, last + (height - last_row) * squeeze_below / scale, height - last_row))
    return bands, squeeze_above, squeeze_below


def draw_on_canvas(
    image: np.ndarray,
    tab_line_ys: list[float],
    has_score: bool,
    box: tuple[int, int, int, int] | None = None,
) -> tuple[np.ndarray, CanvasPlacement]:
    """Draws one system on its canvas.

    Args:
        image: `(H, W)` uint8 greyscale, white = 255. All its ink inside `box` belongs to the system.
        tab_line_ys: Centres of the tab lines from the top, in continuous source pixels; at least two.
        has_score: Whether a score staff stands above the tab staff, which asks for the taller canvas.
        box: `(left, top, right, bottom)` of the ink that counts; measured when left out.

    Returns:
        The canvas, `(CANVAS_HEIGHT_PX or CANVAS_HEIGHT_SCORE_PX, W')` uint8 with white = 255 and `W'` a multiple of
        `WIDTH_MULTIPLE_PX`, and the placement. The leftmost ink lies `MARGIN_X_PX` from the left edge.
    """
    lines = sorted(float(y) for y in tab_line_ys)
    if len(lines) < 2 or lines[-1] <= lines[0]:
        raise ValueError(f"a tab staff needs at least two different line positions, got {tab_line_ys}")
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(f"expected a (H, W) uint8 picture, got shape {image.shape} of {image.dtype}")
    box = box or ink_box(image) or (0, int(lines[0]), image.shape[1], int(lines[-1]) + 1)
    left, top, right, bottom = box
    scale = LINE_DISTANCE_PX * (len(lines) - 1) / (lines[-1] - lines[0])
    width = int(np.ceil(((right - left) * scale + 2 * MARGIN_X_PX) / WIDTH_MULTIPLE_PX)) * WIDTH_MULTIPLE_PX
    x_start = left - MARGIN_X_PX / scale
    x_end = x_start + width / scale
    bands, above, below = _bands(top, bottom, lines[0], lines[-1], scale, has_score)
    # Ink of neighbours may stand in the same picture: only what lies in the box is drawn (with a soft one-pixel rim).
    keep = (max(0, left - 1), max(0, top - 1), min(image.shape[1], right + 1), min(image.shape[0], bottom + 1))
    source = Image.fromarray(np.ascontiguousarray(image[keep[1] : keep[3], keep[0] : keep[2]]))
    strips = [
        _resample(source, (x_start - keep[0], y0 - keep[1], x_end - keep[0], y1 - keep[1]), (width, rows))
        for y0, y1, rows in bands
    ]
    canvas = strips[0] if len(strips) == 1 else np.concatenate(strips)
    placement = CanvasPlacement(
        x_scale=scale,
        x_offset=-x_start * scale,
        y_scale=scale,
        y_offset=tab_top_row(has_score) + 0.5 - lines[0] * scale,
        squeeze_above=above,
        squeeze_below=below,
    )
    return canvas, placement


def normalise_from_lines(
    image: np.ndarray, tab_line_ys: list[float], has_score: bool
) -> tuple[np.ndarray, float, float, float, float]:
    """`draw_on_canvas` for pictures whose line positions are known, as plain numbers.

    Returns:
        `(canvas, x_scale, x_offset, y_scale, y_offset)`.
    """
    canvas, placement = draw_on_canvas(image, tab_line_ys, has_score)
    return canvas, placement.x_scale, placement.x_offset, placement.y_scale, placement.y_offset
