"""The same music in longer or shorter note values: 4/4 as 4/2 or 4/8, as early prints and some dances have it."""

from __future__ import annotations

import random

from ..processing.alphatex_grammar import read_alphatex, write_alphatex
from ..processing.dense_labels import ALWAYS

_COMMON = ("2,4", "3,4", "4,4", "5,4", "6,8", "7,8", "9,8", "12,8", "3,8", "7,4")
#: Metres that a reader has a class for.
METRES = frozenset({*_COMMON, *(name[3:] for name in ALWAYS if name.startswith("ts "))})
_LONGEST, _SHORTEST = 1, 64


def retimed(text: str, rng: random.Random) -> str | None:
    """Doubles or halves all note values and the unit of the metre.

    Args:
        text: Canonical alphaTex of one system, in 4/4 until it says otherwise.
        rng: Decides between longer and shorter, where both are possible.

    Returns:
        Canonical alphaTex; `None` when neither is possible: a note value or a metre would be out of the usual.
    """
    for longer in rng.sample((True, False), 2):
        changed = _retimed(text, longer)
        if changed is not None:
            return changed
    return None


def _retimed(text: str, longer: bool) -> str | None:
    score = read_alphatex(text)
    bars = score.staves[0].bars
    for place, bar in enumerate(bars):
        metre = bar.time_signature or ((4, 4) if place == 0 else None)
        if metre is not None:
            count, unit = metre[0], metre[1] // 2 if longer else metre[1] * 2
            if f"{count},{unit}" not in METRES:
                return None
            bar.time_signature = (count, unit)
    for *_, beat in score.beats():
        value = beat.duration // 2 if longer else beat.duration * 2
        # A lone whole rest stands for any full bar, so it can not be told from one that fills it.
        if beat.grace:
            continue
        if beat.duration == 1 or not _LONGEST <= value <= _SHORTEST:
            return None
        beat.duration = value
    return write_alphatex(score)


__all__ = ["METRES", "retimed"]
