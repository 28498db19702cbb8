"""From a reading whose bars do not fill to the likeliest one whose bars do.

A reader that must fill every bar is led astray by one wrong note value: it has to go on writing until the bar is full,
over the bar line and past the end of the picture. It had better write what it sees, and be asked afterwards which other
note values it held for possible: the likeliest choice of values and bar lines that fills all bars is found exactly, by
dynamic programming over the beats (Bellman 1957; the state is how much of the bar is taken).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

from .alphatex_bars import bar_capacity, metres
from .alphatex_types import Bar, Beat, Score

Value = tuple[int, int, tuple[int, int] | None]
#: Ways to fill the beats so far that are followed at once.
_WAYS = 400


@dataclass
class BeatChances:
    """What the reader thought of one beat.

    Attributes:
        values: Natural logarithms of the probabilities of its note values `(duration, dots, tuplet)`.
        line: Of a bar line before the beat.
        no_line: Of none.
    """

    values: dict[Value, float] = field(default_factory=dict)
    line: float = 0.0
    no_line: float = 0.0


@dataclass(slots=True)
class _Way:
    """One way to fill the beats so far: where it stands, and how it came there."""

    used: Fraction
    begun: bool  # a bar is open, be it only by a grace note
    paid: bool  # what stands before the next beat is counted
    chance: float
    before: _Way | None = None
    beat: Beat | None = None  # as it is written now; None where a rest was left out
    opens: int | None = None  # the draft's bar whose marks stand here; -1: a bar without marks; None: no new bar


def fill_bars(score: Score, chances: list[BeatChances]) -> Score | None:
    """The likeliest score near a draft whose bars are all full.

    Note values change, bar lines come and go, and a rest that was read where a bar line stands is left out; notes stay.

    Args:
        score: The draft: one staff of one voice.
        chances: Of each beat, in order.

    Returns:
        A new score; `None` where no choice fills the bars, or the draft is not of that kind.
    """
    staves = score.staves
    if len(staves) != 1 or any(len(bar.voices) != 1 or bar.anacrusis or "ft" in bar.other for bar in staves[0].bars):
        return None
    sizes = [bar_capacity(metre) for metre in metres(score)]
    drafts = [(number, i, beat) for number, bar in enumerate(staves[0].bars) for i, beat in enumerate(bar.voices[0])]
    if len(drafts) != len(chances):
        return None
    ways = [_Way(Fraction(0), False, True, 0.0)]
    for (number, i, beat), chance in zip(drafts, chances, strict=True):
        bar = staves[0].bars[number]
        marked = not i and replace(bar, voices=[[]], span=(0, 0)) != Bar(voices=[[]])
        options = (beat, chance, sizes[number], number if not i else None, marked)
        ways = _best([new for way in ways for new in _next(way, *options)])
    full = [way for way in ways if not way.begun]
    return _written(score, max(full, key=lambda way: way.chance)) if full else None


def _best(ways: list[_Way]) -> list[_Way]:
    best: dict[tuple[Fraction, bool, bool], _Way] = {}
    for way in ways:
        key = way.used, way.begun, way.paid
        if key not in best or way.chance > best[key].chance:
            best[key] = way
    return sorted(best.values(), key=lambda way: -way.chance)[:_WAYS]


def _next(way: _Way, beat: Beat, chance: BeatChances, size: Fraction, number: int | None, marked: bool) -> list[_Way]:
    """Ways that also hold this beat.

    Args:
        way: What stands before.
        beat: The beat as it was read.
        chance: What else it may be.
        size: Length of its bar.
        number: The draft's bar that it begins, or `None`.
        marked: That bar has a metre, a repeat or another mark.
    """
    if marked and way.begun:
        return []
    so_far, found = way.chance, []
    if not way.paid:
        so_far += chance.no_line if way.begun else chance.line
    if not way.begun and number is None and beat.is_rest:
        found.append(_Way(Fraction(0), False, True, so_far, way))
    opens = None if way.begun else -1 if number is None else number
    for value, extra in chance.values.items():
        new = replace(beat, duration=value[0], dots=value[1], tuplet=value[2])
        used = way.used + new.length
        if not way.begun and beat.is_rest and value == (1, 0, None):
            used = size  # a whole rest alone rests for a bar of any metre
        if used == size:
            found.append(_Way(Fraction(0), False, False, so_far + extra, way, new, opens))
        elif used < size:
            found.append(_Way(used, True, False, so_far + extra, way, new, opens))
    return found


def _written(score: Score, last: _Way) -> Score:
    chain: list[_Way] = []
    way: _Way | None = last
    while way is not None and way.before is not None:
        chain.append(way)
        way = way.before
    draft = score.staves[0]
    bars: list[Bar] = []
    for way in reversed(chain):
        if way.beat is None:
            continue
        if way.opens is not None:
            bars.append(replace(draft.bars[way.opens] if way.opens >= 0 else Bar(), voices=[[]]))
        bars[-1].voices[0].append(way.beat)
    staff = replace(draft, bars=bars)
    return replace(score, tracks=[replace(track, staves=[staff] if track.staves else []) for track in score.tracks])


__all__ = ["BeatChances", "fill_bars"]
