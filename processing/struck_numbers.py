"""Numbers that the lines of the tab run through: the lines are taken away from under them.

Most engravers leave a gap in the line for each number; some programs and most pens do not, and then a 0 looks like an
8, a 3 like a 7 and a 5 like a 9. Ink on ink is darker than either, so the number's own ink can be told from the line's:
where a line of darkness `l` lies under ink of darkness `a`, the page shows `a + l - a * l`.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from .system_canvas import LINE_DISTANCE_PX, ROWS_BELOW, WHITE

HALF_LINE_PX = 2  # rows on either side of a line's own that its ink may reach
FAINT, INKED = 0.04, 0.3
BLACK = 0.85  # a line as dark as this hides what lies under it, and stays
NOISE = 0.12  # what is left of a line where it was a little darker than it is elsewhere
NUMBER_HEIGHT_PX, NUMBER_WIDTH_PX = range(5, 12), range(1, 10)
OFF_LINE_PX = 2.5
MARGIN_PX = 1
BESIDE_PX = 2
SHARE = 0.9  # of the white inside of numbers, and of their sides, how much a line crosses
LEAST_PX = 8  # of white inside of numbers, to tell


def line_rows(height: int, strings: int) -> list[int]:
    """Row of each line of the tab, on a canvas of so many rows."""
    return [height - ROWS_BELOW + line * LINE_DISTANCE_PX for line in range(strings)]


def without_lines(ink: np.ndarray, strings: int) -> np.ndarray:
    """The same ink without the tab's lines.

    Args:
        ink: `(H, W)` float32 in [0, 1], 0 = white, of a canvas.
        strings: Lines of the tab.
    """
    bare = ink.copy()
    for line in line_rows(ink.shape[0], strings):
        for row in range(line - HALF_LINE_PX, line + HALF_LINE_PX + 1):
            inked = ink[row][ink[row] > FAINT]
            if inked.size < ink.shape[1] / 4:
                continue
            dark = float(np.median(inked))
            if dark <= BLACK:
                own = np.clip((ink[row] - dark) / (1 - dark), 0.0, 1.0)
                bare[row] = np.where(own < NOISE, 0.0, own)
    return bare


def numbers(bare: np.ndarray, strings: int) -> Iterator[tuple[int, int, int]]:
    """Digits that stand on lines: row of the line, first column, column after the last.

    Args:
        bare: Ink without lines.
        strings: Lines of the tab.
    """
    rows = line_rows(bare.shape[0], strings)
    top = rows[0] - LINE_DISTANCE_PX + 2
    inked = (bare[top : rows[-1] + LINE_DISTANCE_PX - 1] > INKED).astype(np.uint8)
    for x, y, width, height, _ in cv2.connectedComponentsWithStats(inked, connectivity=8)[2][1:].tolist():
        middle = top + y + (height - 1) / 2
        line = min(rows, key=lambda row: abs(row - middle))
        if height in NUMBER_HEIGHT_PX and width in NUMBER_WIDTH_PX and abs(line - middle) <= OFF_LINE_PX:
            yield line, x, x + width


def clear_numbers(canvas: np.ndarray, strings: int) -> np.ndarray:
    """A canvas whose numbers no line runs through; the canvas itself where none does.

    Args:
        canvas: `(H, W)` uint8, 255 = white; see `system_canvas`.
        strings: Lines of the tab.
    """
    ink = (WHITE - canvas).astype(np.float32) / WHITE
    bare = without_lines(ink, strings)
    cleared, crossed, touched = ink.copy(), [], []
    for line, first, after in numbers(bare, strings):
        lined = ink[line - 1 : line + 2].max(0) > INKED  # (W,)
        crossed += lined[first:after][bare[line, first:after] == 0.0].tolist()
        touched += lined[[max(0, first - BESIDE_PX), min(lined.size, after + BESIDE_PX) - 1]].tolist()
        rows = slice(line - HALF_LINE_PX, line + HALF_LINE_PX + 1)
        columns = slice(max(0, first - MARGIN_PX), after + MARGIN_PX)
        cleared[rows, columns] = bare[rows, columns]
    if len(crossed) < LEAST_PX or min(np.mean(crossed), np.mean(touched)) < SHARE:
        return canvas
    return np.rint(WHITE * (1 - cleared)).astype(np.uint8)


__all__ = ["clear_numbers", "line_rows", "numbers", "without_lines"]
