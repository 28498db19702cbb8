"""Several looks at one system, and a vote over what each of them reads.

The dense heads are sensitive to the least change of size: the same system, a hundredth wider or half a pixel lower, is
often read otherwise in one doubtful place. So a system is looked at in a few sizes and places, each look is read on its
own, and each bar is taken as most of the looks, weighed by how sure they are, agree on. This is test-time augmentation
(Krizhevsky et al. 2012, section 4.1), with a vote in place of a mean, since columns of different sizes do not line up.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .alphatex_bars import metres
from .alphatex_types import Bar
from .dense_reading import BeatReading, DenseReading
from .struck_numbers import clear_numbers
from .system_canvas import LINE_DISTANCE_PX, ROWS_BELOW, WHITE, WIDTH_MULTIPLE_PX, NormalisedSystem

_STAFF_MIDDLE_PX = 2.5 * LINE_DISTANCE_PX  # heights are scaled about the middle of a six-line tab
_SHARE = 0.3  # weight of a look's vote that does not depend on how sure it is


@dataclass(frozen=True)
class View:
    """How one look differs from the canvas: factors of width and height, a move in px, numbers freed of lines."""

    x_scale: float = 1.0
    y_scale: float = 1.0
    x_shift: float = 0.0
    y_shift: float = 0.0
    clear: bool = False


#: The canvas as it is comes first: it wins a tie, and with one view nothing is changed.
VIEWS = (
    View(),
    View(x_shift=4.0, clear=True),
    View(0.98, 0.985),
    View(1.02, 1.01, 3.0, clear=True),
    View(0.99, 1.015, 5.0, 0.3),
    View(1.01, 0.99, 2.0, -0.3, clear=True),
)


def look(system: NormalisedSystem, view: View) -> NormalisedSystem:
    """The system as one view shows it; its placement stays that of the canvas.

    Args:
        system: Canvas of one system, `(H, W)` uint8.
        view: What to change; the tab's lines stay within a pixel of where they were.

    Returns:
        A canvas of the same height, its width again a multiple of `WIDTH_MULTIPLE_PX`.
    """
    if view == View():
        return system
    if view.clear:
        system = replace(system, array=clear_numbers(system.array, system.string_count))
    height, width = system.array.shape
    wide = int(np.ceil(width * view.x_scale + view.x_shift))
    wide += -wide % WIDTH_MULTIPLE_PX
    down = (height - ROWS_BELOW + _STAFF_MIDDLE_PX) * (1 - view.y_scale) + view.y_shift
    matrix = np.array([[view.x_scale, 0.0, view.x_shift + (view.x_scale - 1) / 2], [0.0, view.y_scale, down]])
    exact = view.x_scale == view.y_scale == 1.0 and view.x_shift % 1 == view.y_shift % 1 == 0
    how = cv2.INTER_NEAREST if exact else cv2.INTER_CUBIC
    ink = cv2.warpAffine(WHITE - system.array, matrix, (wide, height), flags=how, borderValue=0)
    return replace(system, array=WHITE - ink)


def vote(readings: Sequence[DenseReading]) -> tuple[DenseReading, int]:
    """Puts together the bars that most readings agree on.

    A bar counts only if it was read in the metre that the bars before it leave in force, or shows one itself: half of a
    bar in one metre is no bar in another.

    Args:
        readings: Of one system; the first wins ties.

    Returns:
        The reading, whose confidence of a bar is the mean over all looks of how sure they are of what was chosen (0 for
        a look that reads otherwise), and which of the readings gave the last bar.

    Raises:
        ValueError: There is no reading.
    """
    if not readings:
        raise ValueError("a vote needs at least one reading")
    counts = Counter(len(reading.bar_confidence) for reading in readings)
    most = max(counts.values())
    length = next(n for n in (len(r.bar_confidence) for r in readings) if counts[n] == most)
    voters = [i for i, reading in enumerate(readings) if len(reading.bar_confidence) == length]
    first = readings[voters[0]]
    metre: tuple[int, int] | None = None
    in_force = {i: metres(readings[i].score, readings[i].metre) for i in voters}
    bars: list[Bar] = []
    confidence, last = [], voters[0]
    beats: dict[tuple[int, int, int], BeatReading] = {}
    for b in range(length):
        weights: dict[str, float] = defaultdict(float)
        choices = {i: readings[i].score.staves[0].bars[b] for i in voters}
        fit = [i for i in voters if metre is None or in_force[i][b] == (choices[i].time_signature or metre)]
        written = {i: repr(choices[i]) for i in fit}
        for i, text in written.items():
            weights[text] += _SHARE + readings[i].bar_confidence[b]
        winner = max(weights, key=lambda text: weights[text])  # the first of equals
        agree = [i for i, text in written.items() if text == winner]
        last = max(agree, key=lambda i: readings[i].bar_confidence[b])
        bars.append(choices[last])
        metre = in_force[last][b]
        confidence.append(sum(readings[i].bar_confidence[b] for i in agree) / len(readings))
        beats |= {place: beat for place, beat in readings[last].beats.items() if place[0] == b}
    staff = replace(first.score.staves[0], bars=bars)
    score = replace(first.score, tracks=[replace(first.score.tracks[0], staves=[staff])])
    begun = next(readings[i].metre for i in voters if readings[i].score.staves[0].bars[0] is bars[0])
    return DenseReading(score, confidence, beats, begun), last


__all__ = ["VIEWS", "View", "look", "vote"]
