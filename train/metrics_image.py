"""Image match: do two texts draw the same picture?

Both texts are drawn with the same settings and their ink is compared, top left corners together, the smaller picture
padded with white. A wrong duration shifts all that follows, so the match falls fast: 1 means "draws the same".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class ImageMatch:
    """How far the ink of two pictures agrees, each in [0, 1].

    Attributes:
        ink_iou: Ink in both / ink in either, staff lines included; ink of one side counts as in both when the other
            side has ink within the tolerance (mean of the two directions' counts).
        stroke_precision: Share of the first picture's strokes that lie within the tolerance of the second's.
        stroke_recall: Share of the second picture's strokes that lie within the tolerance of the first's.
        stroke_f1: Their harmonic mean. Strokes are the ink without staff lines, which would make any two tabs alike.
    """

    ink_iou: float
    stroke_precision: float
    stroke_recall: float
    stroke_f1: float


def ink_mask(picture: Image.Image, threshold: float = 128.0) -> np.ndarray:
    """Where a picture is dark.

    Args:
        picture: Any mode; transparency is laid on white, 16-bit grey is scaled.
        threshold: Grey value, 0 black to 255 white, below which a pixel is ink.

    Returns:
        Booleans, shape `(height, width)`.
    """
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, dtype=np.float64)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        return values / top * 255.0 < threshold
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(picture.convert("L"), dtype=np.float64) < threshold


def _in_long_runs(mask: np.ndarray, shortest_px: int) -> np.ndarray:
    """Ink that is part of a horizontal run of at least `shortest_px`; same shape as `mask`."""
    height, width = mask.shape
    padded = np.zeros((height, width + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded, axis=1)  # (height, width + 1): +1 where a run starts, -1 where it has ended
    rows, starts = np.nonzero(steps == 1)
    _, ends = np.nonzero(steps == -1)  # runs end in the order in which they start
    long = ends - starts >= shortest_px
    marks = np.zeros((height, width + 1), dtype=np.int32)
    np.add.at(marks, (rows[long], starts[long]), 1)
    np.add.at(marks, (rows[long], ends[long]), -1)
    return np.cumsum(marks, axis=1)[:, :width] > 0


def without_staff_lines(mask: np.ndarray, shortest_run_px: int = 24, thickest_px: int = 3) -> np.ndarray:
    """Ink that is not part of a thin, long, level line.

    Args:
        mask: Ink, shape `(height, width)`, bool.
        shortest_run_px: Level runs of at least this length may be lines; numbers and heads are shorter.
        thickest_px: Lines are at most this thick; so beams and stems stay.

    Returns:
        Booleans, shape `(height, width)`.
    """
    return mask & (~_in_long_runs(mask, shortest_run_px) | _in_long_runs(mask.T, thickest_px + 1).T)


def dilate(mask: np.ndarray, radius_px: int) -> np.ndarray:
    """Grow ink by a square of side 2 radius + 1."""
    for axis in (0, 1):
        grown = mask.copy()
        for shift in range(1, radius_px + 1):
            ahead = [slice(None), slice(None)]
            behind = [slice(None), slice(None)]
            ahead[axis], behind[axis] = slice(shift, None), slice(None, -shift)
            grown[tuple(ahead)] |= mask[tuple(behind)]
            grown[tuple(behind)] |= mask[tuple(ahead)]
        mask = grown
    return mask


def _pad(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    padded = np.zeros(shape, dtype=bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return padded


def _covered(of: np.ndarray, by: np.ndarray, radius_px: int) -> int:
    return int((of & dilate(by, radius_px)).sum())


def image_match(first: Image.Image, second: Image.Image, tolerance_px: int = 1) -> ImageMatch:
    """Compare the ink of two pictures; symmetric but for precision and recall, which change places.

    Args:
        first: The picture drawn from the prediction.
        second: The picture drawn from the truth.
        tolerance_px: Pixels that ink may be off.
    """
    a, b = ink_mask(first), ink_mask(second)
    shape = (max(a.shape[0], b.shape[0]), max(a.shape[1], b.shape[1]))
    a, b = _pad(a, shape), _pad(b, shape)
    both = (_covered(a, b, tolerance_px) + _covered(b, a, tolerance_px)) / 2
    either = int(a.sum()) + int(b.sum()) - both
    strokes_a, strokes_b = without_staff_lines(a), without_staff_lines(b)
    count_a, count_b = int(strokes_a.sum()), int(strokes_b.sum())
    if count_a == 0 and count_b == 0:
        precision = recall = 1.0
    else:
        precision = _covered(strokes_a, strokes_b, tolerance_px) / count_a if count_a else 0.0
        recall = _covered(strokes_b, strokes_a, tolerance_px) / count_b if count_b else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return ImageMatch(both / either if either else 1.0, precision, recall, f1)
