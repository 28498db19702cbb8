"""Which score staff stands over which tab staff, and whether a page stands on its head."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np

from .page_lines import INK_DARKNESS, LINE_DARKNESS, SCORE_LINES, Staff

_SCORE_RATIO = (0.45, 0.95)  # score line distance over tab line distance; engravers use 0.6 to 0.92
_USUAL_SCORE_RATIO = 0.69
_LEAST_REACH = 3.1  # tab line distances from the tab up to the top of a score staff that stands as near as can be


def _joined(page: np.ndarray, upper: Staff, lower: Staff, at_right: bool = False) -> bool:
    """Whether a vertical line (bar line, bracket) ties two staves together at their left (or right) end.

    It may lean, as the camera stood: it is followed from piece to piece.
    """
    y0, y1 = int(upper.line_ys[-1]) + 1, int(lower.line_ys[0])
    if y1 - y0 < 2:
        return False
    reach = lower.distance_px
    ends = [s.x1 if at_right else s.x0 for s in (upper, lower)]
    ends = ends if abs(ends[0] - ends[1]) < 4 * reach else ends[1:]
    before, after = (0.6 * reach + 2, 1.5 * reach) if at_right else (1.5 * reach, 0.6 * reach + 2)
    zone = page[y0:y1, int(max(0, min(ends) - before)) : int(max(ends) + after)]
    if not zone.size:
        return False
    ink = cv2.dilate((zone < 255 - INK_DARKNESS).astype(np.uint8), np.ones((1, 3), np.uint8))
    pieces = np.array_split(ink, max(1, round((y1 - y0) / max(4.0, 0.7 * reach))))
    drift = np.ones((1, 2 * int(0.25 * len(pieces[0])) + 1), np.uint8)
    reached = np.ones((1, ink.shape[1]), np.uint8)
    for piece in pieces:
        reached = cv2.dilate(reached, drift) & (piece.mean(axis=0, keepdims=True) > 0.8)
    return bool(reached.any())


def _is_score_over_tab(page: np.ndarray, upper: Staff, lower: Staff) -> bool:
    """Five lines closer together than those of the tab below, same left end, near or tied together."""
    ratio = upper.distance_px / lower.distance_px
    gap = (lower.line_ys[0] - upper.line_ys[-1]) / lower.distance_px
    if len(upper.line_ys) < SCORE_LINES or not _SCORE_RATIO[0] <= ratio <= _SCORE_RATIO[1] or not 0 < gap < 30:
        return False
    if abs(upper.x0 - lower.x0) > 2 * lower.distance_px:
        # Crowded notes hide where a score staff begins; a desk's grain or a leaning page moves the ends apart.
        shared = min(upper.x1, lower.x1) - max(upper.x0, lower.x0)
        return shared > 0.6 * (lower.x1 - lower.x0) and _joined(page, upper, lower)
    if gap < 10 and len(upper.line_ys) == SCORE_LINES:
        return True
    return _joined(page, upper, lower)


def _five_lines(page: np.ndarray, staff: Staff) -> Staff:
    """The five fullest neighbouring lines of a staff that ledger lines made longer."""
    ys = staff.line_ys
    if len(ys) <= SCORE_LINES:
        return staff
    x0, x1 = int(staff.x0), int(staff.x1)
    share = [float((page[max(0, int(y) - 1) : int(y) + 2, x0:x1].min(axis=0) < 230).mean()) for y in ys]
    sums = [sum(share[k : k + SCORE_LINES]) for k in range(len(ys) - SCORE_LINES + 1)]
    first = int(np.argmax(sums))
    return replace(staff, line_ys=ys[first : first + SCORE_LINES], solid=min(share[first : first + SCORE_LINES]))


def _score_from_bar_line(page: np.ndarray, tab: Staff, above: float) -> Staff | None:
    """A score staff whose lines were not found, told by the line that opens the system and goes on above the tab.

    Args:
        above: Bottom of the staff above; a stroke that reaches it belongs to staves of another kind.
    """
    d, top = tab.distance_px, tab.line_ys[0]
    zone = page[int(above) + 1 : int(top), int(max(0, tab.x0 - 1)) : int(tab.x0 + 0.4 * d) + 2] < 255 - INK_DARKNESS
    if zone.shape[0] < _LEAST_REACH * d:
        return None
    blank = [np.flatnonzero(~column[::-1]) for column in zone.T]
    reach = max(int(b[0]) if b.size else zone.shape[0] for b in blank)
    if not _LEAST_REACH * d <= reach < zone.shape[0]:
        return None
    step = _USUAL_SCORE_RATIO * d
    return Staff(tuple(top - reach + k * step for k in range(SCORE_LINES)), tab.x0, tab.x1, 1.0)


def _shows_frets(page: np.ndarray, staff: Staff) -> bool:
    """Whether a line stops and goes on around a piece of ink: left and right of a fret on a tab, never on a score."""
    x0, x1, d = int(staff.x0) + 1, int(staff.x1) - 1, staff.distance_px
    high = max(2, round(0.3 * d))
    for y in staff.line_ys:
        row = page[max(0, int(y) - 1) : int(y) + 2, x0:x1].min(axis=0)
        # Blur fills the gaps beside a digit up to half of the line's darkness.
        usual = min(255 - LINE_DARKNESS, 0.5 * (255 + float(np.median(row))))
        bare = (row > usual).astype(np.int8)
        edges = np.flatnonzero(np.diff(np.r_[0, bare, 0]))
        starts, ends = edges[::2], edges[1::2]
        narrow = ends - starts <= d
        inked = page[max(0, int(y) - high) : int(y) + high + 1, x0:x1] <= usual
        for k in np.flatnonzero(narrow[:-1] & narrow[1:] & (starts[1:] - ends[:-1] < 2 * d)):
            if inked[:, starts[k] : ends[k + 1]].any(axis=1).all():
                return True
    return False


def _stems_hang_free(page: np.ndarray, staff: Staff) -> bool:
    """Whether strokes stand under a staff without touching it, as a tab's rhythm does and stems of notes do not."""
    d, bottom = staff.distance_px, staff.line_ys[-1]
    ink = page[:, int(staff.x0) : int(staff.x1)] < 255 - INK_DARKNESS
    stroke = ink[int(bottom + 0.9 * d) : int(bottom + 1.9 * d)]
    between = ink[int(bottom + 0.25 * d) : int(bottom + 0.45 * d) + 1]
    if stroke.shape[0] < 0.9 * d - 1:
        return False
    free = (stroke.all(axis=0) & ~between.any(axis=0)).astype(np.int8)
    return int((np.diff(free, prepend=0) > 0).sum()) >= 2


def pair_staves(page: np.ndarray, staves: list[Staff]) -> tuple[list[tuple[Staff, Staff | None]], int]:
    """Puts score staves to the tab staves below them; the second value counts score staves left alone."""
    pairs: list[tuple[Staff, Staff | None]] = []
    alone = 0
    tab_distances = [s.distance_px for s in staves if len(s.line_ys) != SCORE_LINES or s.solid < 0.97]
    fretted = [s.distance_px for s in staves if len(s.line_ys) == SCORE_LINES and _shows_frets(page, s)]
    tab_distances += fretted if len(fretted) > 1 else []  # one may be a slip
    for i, staff in enumerate(staves):
        below = staves[i + 1] if i + 1 < len(staves) else None
        if below is not None and _is_score_over_tab(page, staff, below):
            continue
        paired = i > 0 and _is_score_over_tab(page, staves[i - 1], staff)
        score = _five_lines(page, staves[i - 1]) if paired else None
        like_a_tab = any(abs(staff.distance_px / d - 1) < 0.06 for d in tab_distances)
        like_a_tab = like_a_tab or _shows_frets(page, staff) or _stems_hang_free(page, staff)
        if score is None and len(staff.line_ys) == SCORE_LINES and staff.solid >= 0.97 and not like_a_tab:
            alone += 1
            continue
        if score is None:
            score = _score_from_bar_line(page, staff, staves[i - 1].line_ys[-1] if i else -1.0)
        pairs.append((staff, score))
    return pairs, alone


def _stems(page: np.ndarray, y0: float, y1: float, x0: float, x1: float) -> int:
    """Number of vertical strokes that fill the rows from `y0` to `y1`."""
    zone = page[max(0, int(y0)) : max(0, int(y1)), int(x0) : int(x1)]
    if zone.shape[0] < 3:
        return 0
    full = (zone < 255 - INK_DARKNESS).all(axis=0).astype(np.int8)
    return int((np.diff(full, prepend=0) > 0).sum())


def _ink_inside(page: np.ndarray, staff: Staff, x0: float, x1: float) -> float:
    """Ink between the lines of a staff, in squares of the line distance."""
    d, top = staff.distance_px, staff.line_ys[0] - 0.4 * staff.distance_px
    rows = np.arange(max(0, int(top)), min(len(page), int(staff.line_ys[-1] + 0.4 * d) + 1))
    between = np.abs(rows[:, None] - np.array(staff.line_ys)).min(axis=1, initial=np.inf) > 0.22 * d
    return float((255.0 - page[rows[between], max(0, int(x0)) : max(0, int(x1))]).sum()) / (255 * d * d)


def _clef_at_left(page: np.ndarray, staves: list[Staff]) -> float:
    """How much fuller staves are at their left end than at their right: log of the ratio, below 0 on their head.

    A clef or a time signature stands at the beginning; the last note of a system is less.
    """
    left = right = 0.5
    for staff in staves:
        near, far = 0.8 * staff.distance_px, 5 * staff.distance_px  # past brackets and final bar lines
        left += _ink_inside(page, staff, staff.x0 + near, staff.x0 + far)
        right += _ink_inside(page, staff, staff.x1 - far, staff.x1 - near)
    return float(np.log(left / right))


def is_upside_down(page: np.ndarray, staves: list[Staff]) -> bool:
    """Whether score staves hang under tabs; or stems stand on the tab staves instead of hanging below.

    Some engravers draw stems upwards: then it also counts at which end a clef seems to be.
    """
    turned = usual = 0
    for upper, lower in pairwise(staves):
        usual += 4 * (_is_score_over_tab(page, upper, lower) and _joined(page, upper, lower))
        ratio = lower.distance_px / upper.distance_px
        if len(lower.line_ys) >= SCORE_LINES and _SCORE_RATIO[0] <= ratio <= _SCORE_RATIO[1]:
            turned += 4 * _joined(page, upper, lower, at_right=True)
    if turned == usual:
        for staff in staves:
            d, top, bottom = staff.distance_px, staff.line_ys[0], staff.line_ys[-1]
            usual += _stems(page, bottom + 0.3 * d, bottom + 1.6 * d, staff.x0 + d, staff.x1 - d)
            turned += _stems(page, top - 1.6 * d, top - 0.3 * d, staff.x0 + d, staff.x1 - d)
        clef = _clef_at_left(page, staves)
        return (turned > 2 * usual + 3 and clef < 0.25) or (turned > usual and clef < -0.5)
    return turned > 2 * usual + 3
