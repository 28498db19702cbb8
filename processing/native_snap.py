"""Pictures whose beats stand in the middle of a column of patches.

An engraver puts a beat anywhere, so one digit has eight codes and more, and which one it is can not be known from the
text. Who draws need not repeat that: here the space between beats is made a little wider or narrower until each beat
and bar line stands in the middle of a column. Signs stay as they are, since only the space between them changes; a
digit is then one code, and the same one everywhere. Pictures to read are left as people have them.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from .dense_labels import SparseLabels
from .grid_pictures import SCALE, GridGeometry
from .system_canvas import WHITE

#: Canvas px on either side of a beat that are moved with it, unstretched.
REACH_PX = 9.0
#: Beats nearer than so many columns are only moved apart: their digits would touch.
CROWDED = 2.3
#: Anchors nearer than this are one.
SAME_PX = 4.0


def column_middles(geometry: GridGeometry) -> tuple[float, float]:
    """Canvas px between columns of patches, and the middle of the first one (its px index, not its edge)."""
    step = geometry.patch_width / SCALE
    return step, step / 2 - 0.5


def snapped_places(anchors: Sequence[float], geometry: GridGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Where anchors are, sorted, nearly equal ones once, and where they go: both `(K,)` float64 canvas px.

    Each goes to the nearest middle of a column as seen from the one before, at least one column further on. Space is
    only added before the second one, behind the clef and the metre.
    """
    step, first = column_middles(geometry)
    kept: list[float] = []
    for x in sorted(anchors):
        if not kept or x - kept[-1] >= SAME_PX:
            kept.append(float(x))
    goals: list[float] = []
    for number, x in enumerate(kept):
        if number == 0:
            goals.append(first + step * round((x - first) / step))
        else:
            columns = (x - kept[number - 1]) / step
            rounded = np.ceil(columns - 0.05) if number == 1 or columns < CROWDED else round(columns)
            goals.append(goals[-1] + step * max(1.0, float(rounded)))
    return np.array(kept), np.array(goals)


def snap_to_columns(canvas: np.ndarray, anchors: Sequence[float], geometry: GridGeometry) -> np.ndarray:
    """The canvas with its anchors in the middle of columns.

    Args:
        canvas: `(H, W)` uint8, white = 255.
        anchors: Canvas px of beats and bar lines, in any order.
        geometry: Patches.

    Returns:
        `(H, W')` uint8; without anchors the canvas itself.
    """
    places, goals = snapped_places(anchors, geometry)
    if not len(places):
        return canvas
    from_, to = [], []
    for number, (x, goal) in enumerate(zip(places, goals, strict=True)):
        for side, other in ((-1, number - 1), (1, number + 1)):
            reach = REACH_PX
            if 0 <= other < len(places):
                room = min(abs(places[other] - x), abs(goals[other] - goal))
                reach = room - REACH_PX - 1 if number == 0 and room > 3 * REACH_PX else min(reach, 0.45 * room)
            from_.append(x + side * reach)
            to.append(goal + side * reach)
    width = int(np.ceil(canvas.shape[1] + max(goals[-1] - places[-1], 0)))
    x = np.arange(width, dtype=np.float64)
    source = np.interp(x, to, from_)
    source = np.where(x < to[0], x - to[0] + from_[0], np.where(x > to[-1], x - to[-1] + from_[-1], source))
    rows = np.arange(canvas.shape[0], dtype=np.float32)
    map_x = np.broadcast_to(source.astype(np.float32), (len(rows), width)).copy()
    map_y = np.broadcast_to(rows[:, None], (len(rows), width)).copy()
    return cv2.remap(canvas, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=WHITE)


def snapped_columns(xs: Sequence[float], anchors: Sequence[float], geometry: GridGeometry) -> list[int]:
    """Columns, from 0, in which anchors at canvas px `xs` stand after `snap_to_columns`."""
    places, goals = snapped_places(anchors, geometry)
    step, first = column_middles(geometry)
    nearest = [int(np.abs(places - x).argmin()) for x in xs]
    return [round((goals[k] - first) / step) for k in nearest]


def snapped_labels(labels: SparseLabels, geometry: GridGeometry) -> SparseLabels:
    """Where everything is after `snap_to_columns` by the beats and bars of these labels."""
    places, goals = snapped_places(anchors_of(labels), geometry)
    if not len(places):
        return labels
    moved = labels.moved(1.0, 0.0)
    for x in (moved.notes[:, 1], moved.beats[:, 1], moved.bars[:, 0], moved.bars[:, 1]):  # views
        inside = np.interp(x, places, goals)
        x += np.where(x < places[0], goals[0] - places[0], np.where(x > places[-1], goals[-1] - places[-1], inside - x))
    return moved


def anchors_of(labels: SparseLabels) -> list[float]:
    """Beats and edges of bars."""
    return [*labels.beats[:, 1].tolist(), *labels.bars[:, :2].ravel().tolist()]


__all__ = ["anchors_of", "snap_to_columns", "snapped_columns", "snapped_labels", "snapped_places"]
