"""Combs of lines that are no staff: chord diagrams side by side, ledger lines of far notes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_STROKES = 8  # upright strokes of two small chord diagrams; one alone is too narrow for a staff
_MAY_LEAN_PX = 9.0  # line distance from which a stroke may lean by a pixel without meeting its neighbour
_LEDGER_STEPS = 2.6  # the first ledger line lies one step from the staff, and may have been missed


def is_row_of_diagrams(darkness: np.ndarray, ys: Sequence[float], extent: tuple[int, int], faintest: int) -> bool:
    """Whether chord diagrams stand side by side: upright strokes from the first line to the last, as near as strings.

    Bar lines are as long, but far apart; stems go on below, further than to a last fret that was not found.

    Args:
        darkness: `(H, W)` uint8 page, 0 = white.
        ys: Centres of the lines, from the top.
        extent: Columns `[left, right)` of the lines.
        faintest: Darkness over which a pixel counts as ink.
    """
    distance = (ys[-1] - ys[0]) / (len(ys) - 1)
    top, bottom = int(ys[0]) + 1, int(ys[-1])
    ink = darkness[top : int(bottom + 1.5 * distance), extent[0] : extent[1]] > faintest
    if distance >= _MAY_LEAN_PX:
        ink = ink | np.roll(ink, 1, axis=1) | np.roll(ink, -1, axis=1)
    inside, below = ink[: bottom - top], ink[bottom - top :]
    if not inside.size:
        return False
    near, far = (below[int(low * distance) : int(high * distance) + 1] for low, high in ((0.35, 0.6), (1.15, 1.5)))
    goes_on = near.all(axis=0) & far.all(axis=0) if len(below) > 1.2 * distance else np.zeros(ink.shape[1], bool)
    strokes = np.r_[False, (inside.mean(axis=0) > 0.93) & ~goes_on, False].astype(np.int8)
    edges = np.flatnonzero(np.diff(strokes))
    places = (edges[::2] + edges[1::2]) / 2
    crowded = len(places) > 0.45 * (extent[1] - extent[0]) / distance  # diagrams may overlap, or stand apart
    return crowded and len(places) >= _STROKES and float(np.median(np.diff(places))) < 1.3 * distance


def are_ledger_lines(
    ys: Sequence[float], extent: tuple[int, int], staff_ys: Sequence[float], staff_extent: tuple[float, float]
) -> bool:
    """Whether a narrow comb goes on in the steps of a wide staff beside it.

    Args:
        ys: Centres of the comb's lines, from the top.
        extent: Columns of the comb.
        staff_ys: Centres of the staff's lines.
        staff_extent: Columns of the staff.
    """
    distance, usual = ((lines[-1] - lines[0]) / (len(lines) - 1) for lines in (ys, staff_ys))
    steps = (ys[0] - staff_ys[-1] if ys[0] > staff_ys[0] else staff_ys[0] - ys[-1]) / usual
    return bool(
        abs(distance / usual - 1) < 0.04
        and 0.5 < steps < _LEDGER_STEPS
        and abs(steps - round(steps)) < 0.2
        and extent[1] - extent[0] < 0.4 * (staff_extent[1] - staff_extent[0])
    )


__all__ = ["are_ledger_lines", "is_row_of_diagrams"]
