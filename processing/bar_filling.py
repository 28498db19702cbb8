"""Which beats of a bar, and how long: the likeliest choice whose lengths make a full bar."""

from __future__ import annotations

from math import log

import numpy as np

MIN_PROBABILITY = 1e-4
LENGTH_BEAM = 256  # totals kept after each candidate


def fill_bar(
    options: list[dict[int, tuple[float, tuple]]], absent: list[float], capacity: int | None
) -> tuple[list[tuple[int, tuple]] | None, float, int]:
    """Chooses which candidates are beats, and how long each is, so that they fill a bar.

    Args:
        options: By candidate, from left to right: length in ticks to (log probability, choice).
        absent: Chance that a candidate is no beat.
        capacity: Ticks of the bar; `None` = whatever is likeliest.

    Returns:
        Pairs of (candidate, choice), the log probability and the total length; `None` when nothing fills the bar.
    """
    states: dict[int, tuple[float, tuple | None]] = {0: (0.0, None)}
    for i, lengths in enumerate(options):
        skip = log(max(absent[i], MIN_PROBABILITY))
        following: dict[int, tuple[float, tuple | None]] = {}
        for total, (score, path) in states.items():
            _keep(following, total, score + skip, path)
            for length, (value, choice) in lengths.items():
                if capacity is None or total + length <= capacity:
                    _keep(following, total + length, score + value, (path, i, choice))
        if len(following) > LENGTH_BEAM:
            best = sorted(following.items(), key=lambda item: -item[1][0])[:LENGTH_BEAM]
            following = dict(best)
        states = following
    if capacity is None:
        total = max(states, key=lambda key: states[key][0])
    elif capacity in states:
        total = capacity
    else:
        return None, -np.inf, 0
    score, node = states[total]
    chosen: list[tuple[int, tuple]] = []
    while node is not None:
        node, i, choice = node
        chosen.append((i, choice))
    return chosen[::-1], score, total


def _keep(states: dict, total: int, score: float, path: tuple | None) -> None:
    if total not in states or score > states[total][0]:
        states[total] = (score, path)


__all__ = ["MIN_PROBABILITY", "fill_bar"]
