"""Which beats of a bar, and how long: the likeliest choice whose lengths make a full bar."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import log

import numpy as np

from .alphatex_fitting import fillable

TICKS = 26_880  # of a whole note: holds 64ths with two dots, and tuplets of 3, 5 and 7
MIN_PROBABILITY = 1e-4
LENGTH_BEAM = 256  # totals kept after each candidate

States = dict[tuple[int, bool], tuple[float, tuple | None]]  # by (total, a grace note waits for its beat)


def fill_bar(
    options: list[dict[int, tuple[float, tuple]]], absent: list[float], capacity: int | None, full: bool = True
) -> tuple[list[tuple[int, tuple]] | None, float, int]:
    """Chooses which candidates are beats, and how long each is, so that they fill a bar.

    What is left of the bar after each beat can still be filled, so a tuplet is complete before another kind begins, or
    a beat of none; and a grace note has a beat to lean on. Little else could be written in the grammar.

    Args:
        options: By candidate, from left to right: length in ticks (0: a grace note) to log probability and choice,
            whose third value is 0 where the beat is of no tuplet.
        absent: Chance that a candidate is no beat.
        capacity: Ticks of the bar; `None` = whatever is likeliest, with no rule at all.
        full: The bar is filled; otherwise it is a pick-up, which may end sooner, with no tuplet begun.

    Returns:
        Pairs of (candidate, choice), the log probability and the total length; `None` when nothing fills the bar.
    """
    states: States = {(0, False): (0.0, None)}
    for i, lengths in enumerate(options):
        skip = log(max(absent[i], MIN_PROBABILITY))
        following: States = {}
        for (total, waits), (score, path) in states.items():
            _keep(following, (total, waits), score + skip, path)
            for length, (value, choice) in lengths.items():
                after, plain = total + length, bool(length) and not choice[2]
                if capacity is None or (after <= capacity and _may_follow(total, plain, capacity - after)):
                    _keep(following, (after, not length), score + value, (path, i, choice))
        if len(following) > LENGTH_BEAM:
            best = sorted(following.items(), key=lambda item: -item[1][0])[:LENGTH_BEAM]
            following = dict(best)
        states = following
    ends = [key for key in states if _may_end(*key, capacity, full)]
    if not ends:
        return None, -np.inf, 0
    end = max(ends, key=lambda key: states[key][0])
    score, node = states[end]
    chosen: list[tuple[int, tuple]] = []
    while node is not None:
        node, i, choice = node
        chosen.append((i, choice))
    return chosen[::-1], score, end[0]


def _may_end(total: int, waits: bool, capacity: int | None, full: bool) -> bool:
    if capacity is None:
        return True
    if full or waits:
        return total == capacity and not waits
    return not _within_a_tuplet(capacity - total)


def _may_follow(total: int, plain: bool, left: int) -> bool:
    return _fillable(left) and not (plain and _within_a_tuplet(total))


@cache
def _fillable(ticks: int) -> bool:
    return fillable(Fraction(ticks, TICKS))


@cache
def _within_a_tuplet(ticks: int) -> bool:
    parts = Fraction(ticks, TICKS).denominator
    return bool(parts & (parts - 1))


def _keep(states: States, key: tuple[int, bool], score: float, path: tuple | None) -> None:
    if key not in states or score > states[key][0]:
        states[key] = (score, path)


__all__ = ["MIN_PROBABILITY", "TICKS", "fill_bar"]
