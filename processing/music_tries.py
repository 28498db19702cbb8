"""A song that is tried until it has what a picture suggests, each time pushed towards what the last ones lacked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .music_attributes import ATTRIBUTES
from .music_wishes import SIDED, sides_agreement, sides_kept

#: How much farther a plan is moved, as part of the side, for each try that missed it.
FURTHER = 0.4


@dataclass
class Tries:
    """The tries of one song.

    Attributes:
        sides: What the picture suggests, −1 … 1 by attribute of `SIDED`; what is not named or 0 is not.
        best: Whatever was given as the song of the best try.
        agreement: What that one has (`music_wishes.sides_agreement`).
        misses: How often each attribute was on the other side.
    """

    sides: Mapping[str, float]
    best: Any = None
    agreement: float = float("-inf")
    misses: Counter[str] = field(default_factory=Counter)

    def take(self, song: Any, values: Mapping[str, Any] | None) -> bool:
        """Takes a try in and keeps it where it is the best so far.

        Args:
            song: To be kept.
            values: Its measurement; `None` or empty where nothing could be measured.

        Returns:
            Whether it lacks something, so that another is worth its while.
        """
        found = sides_agreement(self.sides, values)
        if self.best is None or found > self.agreement:
            self.best, self.agreement = song, found
        asked = {name: 1 if side > 0 else -1 for name, side in self.sides.items() if side}
        missed = [name for name, kept in sides_kept(asked, values or {}).items() if not kept]
        self.misses.update(missed)
        return bool(missed)

    def wanted(self) -> list[float]:
        """Sides that the next plan is moved to, in the order of `SIDED`: farther where they were missed."""
        return [self.sides.get(name, 0.0) * (1 + FURTHER * self.misses[name]) for name in SIDED]

    def lean(self) -> list[float]:
        """Sides that the next try's words lean to: those that were missed, more each time."""
        return [self.sides.get(name, 0.0) * self.misses[name] for name in SIDED]


#: Writes songs of these numbers for the try of this number: each with its measurement, if it has one. From the second
#: try on it is given `Tries.wanted` and `Tries.lean` of each, before that `None`.
Write = Callable[[list[int], int, list[list[float]] | None, list[list[float]] | None], Sequence[tuple[Any, Any]]]


def best_of(sides: Sequence[Mapping[str, float]], write: Write, most: int) -> list[Any]:
    """One song for each of many pictures: tried until nothing is missed, the best of its tries.

    Args:
        sides: What each suggests; what suggests nothing is written once.
        write: See `Write`.
        most: Tries of each at most, 1 or more.
    """
    songs, left = [Tries(one) for one in sides], list(range(len(sides)))
    for number in range(most):
        if not left:
            break
        further = ([songs[k].wanted() for k in left], [songs[k].lean() for k in left]) if number else (None, None)
        made = write(left, number, *further)
        left = [k for k, (song, values) in zip(left, made, strict=True) if songs[k].take(song, values)]
    return [one.best for one in songs]


def spoken_sides(sides: Mapping[str, float]) -> str:
    """Sides in words, those that are heard plainly first: `fast, high, sparse`."""
    ends = {name: (ATTRIBUTES[name].classes[0], ATTRIBUTES[name].classes[-1]) for name in SIDED}
    ends |= {"tempo": ("slow", "fast"), "mode": ("minor", "major")}
    order = sorted((name for name in SIDED if sides.get(name)), key=lambda name: -abs(sides[name]))
    return ", ".join(ends[name][sides[name] > 0] for name in order)


__all__ = ["FURTHER", "Tries", "best_of", "spoken_sides"]
