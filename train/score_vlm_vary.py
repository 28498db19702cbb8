"""Changes of a system's picture while it is learnt, so that no two looks at it are alike."""

from __future__ import annotations

import cv2
import numpy as np

from ..processing.system_canvas import LINE_DISTANCE_PX, ROWS_BELOW, WHITE

MAX_SHIFT_PX = 8
SQUEEZED, BOLDER = 0.15, 0.2  # parts of the pictures with narrower signs, with other widths of strokes
STRUCK = 0.12  # with the tab's lines drawn through its numbers
MOST_LINES = 7


def vary(canvas: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """Small changes that a scaler, a printer, a font or a line finder makes: place, size, strokes, contrast, noise.

    Lines lie up to about a pixel beside where they should, since what reads a picture only knows them so well.

    Args:
        canvas: `(H, W)` uint8, white = 255.

    Returns:
        `(H, W)` float32 in [0, 1], 1 = ink, and the `scale` and `shift` (px) that every x was moved by; ink never
        leaves the canvas on the right.
    """
    height, width = canvas.shape
    scale, shift = 1.0, float(draw.integers(0, MAX_SHIFT_PX))
    if draw.random() < 0.6:
        scale, shift = float(draw.uniform(0.97, 1.03)), float(draw.uniform(-2, MAX_SHIFT_PX))
    squeezed = draw.random() < SQUEEZED
    if squeezed:
        scale = float(draw.uniform(0.88, 1.0))
    last = int(np.flatnonzero((canvas < WHITE).any(axis=0))[-1:].sum()) + 2
    if last * scale + shift > width:
        scale, shift = min(scale, 1.0), 0.0
    ink = WHITE - canvas
    if draw.random() < STRUCK:
        ink = strike_numbers(ink)
    if scale != 1.0:
        # About the tab's middle, and not the same as across: a line finder errs in height alone.
        alike = draw.random() < 0.5 and not squeezed
        tall = scale * float(draw.uniform(0.99, 1.01)) if alike else float(draw.uniform(0.985, 1.015))
        middle = height - ROWS_BELOW + 25.0
        down = middle * (1 - tall) + float(draw.normal(0, 0.5))
        matrix = np.array([[scale, 0.0, shift + (scale - 1) / 2], [0.0, tall, down]])
        how = cv2.INTER_LINEAR if draw.random() < 0.5 else cv2.INTER_CUBIC
        ink = cv2.warpAffine(ink, matrix, (width, height), flags=how, borderValue=0)
    elif shift:
        ink = np.roll(ink, int(shift), axis=1)
    ink = ink.astype(np.float32) / 255
    if draw.random() < 0.5:
        ink = np.clip(ink * draw.uniform(0.6, 1.4), 0, 1)
    if draw.random() < BOLDER:
        ink = weigh_strokes(ink, draw)
    if draw.random() < 0.25:
        axis, part = int(draw.integers(0, 2)), float(draw.uniform(0.1, 0.5))
        ink = (1 - part) * ink + part * np.roll(ink, 1, axis=axis)
    if draw.random() < 0.25:
        ink = ink + draw.normal(0, draw.uniform(0.01, 0.06), ink.shape).astype(np.float32)
    return np.clip(ink, 0, 1), scale, shift


def strike_numbers(ink: np.ndarray) -> np.ndarray:
    """The same drawing with the lines of the tab running through its numbers, as some programs and pens leave them.

    Args:
        ink: `(H, W)`, 0 = white, of a canvas: the lines lie `LINE_DISTANCE_PX` apart from row `H - ROWS_BELOW` on.
    """
    struck, top = ink.copy(), ink.shape[0] - ROWS_BELOW
    for line in range(MOST_LINES):
        for row in range(top + line * LINE_DISTANCE_PX - 1, top + line * LINE_DISTANCE_PX + 2):
            inked = np.flatnonzero(ink[row])
            if inked.size:
                part = slice(inked[0], inked[-1] + 1)
                struck[row, part] = np.maximum(ink[row, part], np.median(ink[row, part]).astype(ink.dtype))
    return struck


def weigh_strokes(ink: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """The same drawing in bolder or lighter strokes, as another font or printer has them; `(H, W)` float32."""
    kernel = np.ones((int(draw.integers(1, 3)), int(draw.integers(1, 3))), dtype=np.uint8)
    if draw.random() < 0.6:
        part, other = float(draw.uniform(0.2, 0.9)), cv2.dilate(ink, kernel)
    else:  # lines are one pixel wide, so never wholly
        part, other = float(draw.uniform(0.2, 0.6)), cv2.erode(ink, kernel)
    return (1 - part) * ink + part * other


__all__ = ["MAX_SHIFT_PX", "strike_numbers", "vary", "weigh_strokes"]
