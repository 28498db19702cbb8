"""Which durations may still be written in a bar: exact, and never one that leaves a rest nothing can fill."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import NamedTuple

from .alphatex_pieces import TUPLETS
from .alphatex_types import beat_length
from .alphatex_vocabulary import DURATIONS

SHORTEST = 256
GRACE_DURATIONS = frozenset({8, 16, 32, 64})
NO_CHANGE, DOTTED, IN_TUPLET, GRACED = range(4)  # how far the changes of a duration are written
Tuplet = tuple[int, int]


class Room(NamedTuple):
    """What a voice can still take.

    Attributes:
        length: Fraction of a whole note that is free; `None` in free time, where everything fits.
        whole_rest: A whole rest may stand for all of the bar: nothing is written in the voice yet.
        grace: A grace note may come.
    """

    length: Fraction | None
    whole_rest: bool = False
    grace: bool = True


class Changes(NamedTuple):
    """What may follow a duration.

    Attributes:
        plain: The duration may stay as it is.
        dots: Numbers of dots that may be written next.
        tuplets: Tuplets that may be written next.
        grace: The beat may become a grace note next.
    """

    plain: bool
    dots: tuple[int, ...]
    tuplets: tuple[Tuplet, ...]
    grace: bool


@cache
def fillable(length: Fraction) -> bool:
    """Whether beats can fill this length exactly."""
    if length <= 0:
        return length == 0
    denominator = length.denominator
    if denominator & (denominator - 1) == 0:
        return denominator <= SHORTEST
    # Off the binary grid only a tuplet leads back: some number of its shortest notes has to fit.
    return any((length / Fraction(m, n * SHORTEST)).denominator == 1 for n, m in TUPLETS)


@cache
def fits(room: Room, duration: int, dots: int, tuplet: Tuplet | None, rest: bool) -> bool:
    """Whether a beat of this length may stand."""
    if room.length is None:
        return True
    if rest and room.whole_rest and duration == 1 and not dots and not tuplet:
        return True
    length = beat_length(duration, dots, tuplet)
    return length <= room.length and fillable(room.length - length)


@cache
def changes(room: Room, duration: int, dots: int, tuplet: Tuplet | None, stage: int, rest: bool) -> Changes:
    """What may follow `duration` once changes up to `stage` are written (dots, then tuplet, then grace)."""
    tuplets = tuple(t for t in TUPLETS if fits(room, duration, dots, t, rest)) if stage < IN_TUPLET else ()
    more_dots: tuple[int, ...] = ()
    if stage < DOTTED:
        more_dots = tuple(d for d in (1, 2) if any(fits(room, duration, d, t, rest) for t in (None, *TUPLETS)))
    grace = stage < GRACED and not rest and room.grace and duration in GRACE_DURATIONS
    return Changes(stage == GRACED or fits(room, duration, dots, tuplet, rest), more_dots, tuplets, grace)


@cache
def durations(room: Room, rest: bool) -> tuple[int, ...]:
    """Durations that may be written, bare or with changes."""
    return tuple(d for d in sorted(DURATIONS) if any(changes(room, d, 0, None, NO_CHANGE, rest)))


@cache
def longest(room: Room, rest: bool) -> tuple[int, Tuplet | None]:
    """The beat that fills most of the room: duration and tuplet."""
    choices = [
        (beat_length(d, 0, t), t is None, d, t)
        for d in DURATIONS
        for t in (None, *TUPLETS)
        if (room.length is None or d > 0) and fits(room, d, 0, t, rest)
    ]
    if room.length is None:
        return 4, None
    best = max((c for c in choices if c[0] <= room.length), key=lambda c: (c[0], c[1]))
    return best[2], best[3]
