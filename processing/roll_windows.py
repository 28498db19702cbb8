"""Bar lines of a score, and the windows that a long roll is cut into; each begins at a bar line."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .piano_roll import STEPS_PER_QUARTER, WINDOW_STEPS, fit_steps, in_ticks


@dataclass(frozen=True)
class BarLine:
    """Where a bar begins (in steps), and its metre."""

    step: int
    metre: tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A stretch of a piece that begins at a bar line.

    Attributes:
        codes: uint8 `(P, window_steps)`, silent after `num_steps`.
        start_step: Its first step in the piece.
        num_steps: Steps before the piece ends.
        bar: Number of its first bar, from 0.
        metre: The metre of most of its bars.
    """

    codes: np.ndarray
    start_step: int
    num_steps: int
    bar: int
    metre: tuple[int, int]


def bar_lines(score: Any, num_steps: int, steps_per_quarter: int = STEPS_PER_QUARTER) -> list[BarLine]:
    """Bar lines before `num_steps`, from the time signatures (4/4 where none is given)."""
    score = in_ticks(score)
    marks = [(0, (4, 4))]
    for sign in sorted(score.time_signatures, key=lambda t: t.time):
        count, unit = sign.numerator, sign.denominator
        if 1 <= count <= 64 and unit in (1, 2, 4, 8, 16, 32):
            marks = [m for m in marks if m[0] != sign.time] + [(sign.time, (count, unit))]
    per_tick = steps_per_quarter / score.ticks_per_quarter
    bounds = [m[0] for m in marks[1:]] + [int(np.ceil(num_steps / per_tick))]
    lines: list[BarLine] = []
    for (first, metre), stop in zip(marks, bounds, strict=True):
        length = score.ticks_per_quarter * 4 * metre[0] / metre[1]
        for k in range(int(np.ceil((stop - first) / length))):
            step = int(np.floor((first + k * length) * per_tick + 0.5))
            if step < num_steps and (not lines or step > lines[-1].step):
                lines.append(BarLine(step, metre))
    return lines or [BarLine(0, (4, 4))]


def cut_windows(
    codes: np.ndarray,
    bars: Sequence[BarLine],
    window_steps: int = WINDOW_STEPS,
    hop_steps: int = WINDOW_STEPS,
    min_steps: int = WINDOW_STEPS // 4,
) -> list[Window]:
    """Cuts a piece into windows that begin at bar lines, from the bar of its first note on.

    In 4/4 with sixteenths a window is 16 bars. In other metres the next window begins at the last bar line that leaves
    no step out. The last window is moved back so that it ends with the piece; an end of less than `min_steps` is left
    out, unless it is all there is.
    """
    steps, total = [bar.step for bar in bars], codes.shape[1]
    sounding = np.flatnonzero(codes.any(axis=0))
    if not len(sounding):
        return []
    start = steps[max(bisect_right(steps, int(sounding[0])) - 1, 0)]
    starts = [start]
    while start + window_steps < total:
        following = steps[bisect_right(steps, start + hop_steps) - 1]
        following = following if following > start else start + hop_steps
        if following + window_steps > total:
            if total - start - window_steps < min_steps:
                break
            place = bisect_left(steps, total - window_steps)
            following = steps[place] if place < len(steps) else total - window_steps
        if following <= start:
            break
        starts.append(start := following)
    windows = []
    for start in starts:
        first = max(bisect_right(steps, start) - 1, 0)
        inside = bars[first : bisect_left(steps, start + window_steps)]
        metre = Counter(bar.metre for bar in inside).most_common(1)[0][0]
        part = fit_steps(codes[:, start : start + window_steps], window_steps)
        windows.append(Window(part, start, min(total - start, window_steps), first, metre))
    return windows


__all__ = ["BarLine", "Window", "bar_lines", "cut_windows"]
