"""Rhythms that close their bars by construction.

A bar is cut into groups (a beat, or several beats joined), and each group is filled with a cell: a short rhythm of
exactly that length. Lengths are counted in 64ths of a whole note.
"""

from __future__ import annotations

import random
from itertools import accumulate
from typing import NamedTuple

TUPLETS = {3: (3, 2), 5: (5, 4), 6: (6, 4), 7: (7, 4)}
METRES: dict[tuple[int, int], float] = {
    (4, 4): 46, (3, 4): 13, (2, 4): 7, (6, 8): 9, (12, 8): 5, (5, 4): 5, (7, 8): 5, (9, 8): 4, (3, 8): 3, (7, 4): 3,
}  # fmt: skip


class Slot(NamedTuple):
    """Duration of one beat: note value, dots and tuplet as in `alphatex_grammar.Beat`."""

    duration: int
    dots: int = 0
    tuplet: tuple[int, int] | None = None


def parse_cell(text: str) -> tuple[Slot, ...]:
    """Reads `"8. 16"`, or `"3:8 8 8"` for a tuplet; a `/` joins several of them."""
    slots: list[Slot] = []
    for part in text.split("/"):
        tuplet = None
        if ":" in part:
            head, part = part.split(":")
            tuplet = TUPLETS[int(head)]
        for word in part.split():
            slots.append(Slot(int(word.rstrip(".")), word.count("."), tuplet))
    return tuple(slots)


# Group length in 64ths -> feel -> cells with weights. "any" is the fall-back of a feel that names no cell.
_CELLS: dict[int, dict[str, dict[str, float]]] = {
    8: {"any": {"8": 6, "16 16": 3, "16. 32": 0.5, "32 32 16": 0.4, "16 32 32": 0.4, "3:16 16 16": 0.5}},
    16: {
        "any": {"4": 3, "8 8": 4, "8. 16": 1, "16 16 8": 1, "8 16 16": 1, "3:8 8 8": 0.6},
        "slow": {"4": 8, "8 8": 3, "8. 16": 0.7, "3:4 8": 0.3},
        "eighth": {"4": 2, "8 8": 9, "8 16 16": 0.8, "16 16 8": 0.5, "8. 16": 0.6, "3:8 8 8": 0.2},
        "sixteenth": {
            "16 16 16 16": 7, "8 16 16": 3, "16 16 8": 2.5, "16 8 16": 1.4, "8. 16": 1.2, "16 8.": 0.8, "8 8": 2,
            "4": 0.6, "6:16 16 16 16 16 16": 0.4, "8 16 32 32": 0.3, "16 16 16 32 32": 0.3,
        },
        "triplet": {
            "3:8 8 8": 8, "3:4 8": 4, "3:8 4": 0.9, "4": 1.5, "8 8": 0.5, "3:8 16 16 8": 0.6, "3:8 8 16 16": 0.4,
            "6:16 16 16 16 16 16": 0.8,
        },
        "fast": {
            "16 16 16 16": 3, "6:16 16 16 16 16 16": 3, "5:16 16 16 16 16": 1.6, "32 32 32 32 32 32 32 32": 1.4,
            "16 16 32 32 32 32": 1, "32 32 32 32 8": 0.8, "8 32 32 32 32": 0.8, "8": 0, "4": 1, "8 8": 1,
            "3:16 16 16/8": 0.8, "8/3:16 16 16": 0.8, "7:16 16 16 16 16 16 16": 0.15, "8.. 32": 0.25,
            "64 64 64 64 64 64 64 64 8": 0.12, "16. 32 8": 0.4, "16. 32 16. 32": 0.3, "8 16. 32": 0.3,
        },
    },
    24: {
        "any": {"4.": 2, "8 8 8": 6, "4 8": 3, "8 4": 1, "8. 16 8": 0.8, "8 8 16 16": 1, "8 16 16 8": 0.7},
        "slow": {"4.": 7, "4 8": 5, "8 8 8": 2},
        "sixteenth": {
            "16 16 16 16 16 16": 5, "8 16 16 16 16": 2, "8 8 16 16": 2, "16 16 8 8": 1.5, "8. 16 16 16": 0.8,
            "8 8 8": 2, "8. 8.": 0.5, "4 16 16": 0.8, "8. 16 8": 0.8,
        },
        "fast": {
            "16 16 16 16 16 16": 5, "8 16 16 32 32 32 32": 0.8, "16 16 16 16 32 32 32 32": 0.8, "8 8 8": 2,
            "5:16 16 16 16 16/8": 0.5, "8. 32 32 8": 0.4, "4.": 1,
        },
    },
    32: {
        "any": {"2": 5, "4. 8": 3, "8 4.": 0.8, "8 4 8": 1.6, "3:4 4 4": 0.9, "4.. 16": 0.3, "8. 8. 8": 1.2, "4 4": 1},
        "slow": {"2": 8, "4. 8": 2, "3:4 4 4": 0.7, "4.. 16": 0.2, "3:2 4": 0.2},
        "triplet": {"3:4 4 4": 5, "2": 2, "3:4 8 8 4": 1, "3:2 4": 1},
        "fast": {"8. 8. 8": 2, "2": 1, "5:8 8 8 8 8": 1, "3:8 8 8 8 8 8": 1, "8 4 8": 1},
    },
    48: {"any": {"2.": 6, "2 4": 2, "4 2": 1, "4. 4.": 2, "4. 4 8": 0.6}},
    64: {"any": {"1": 6, "2. 4": 2, "4 2.": 0.6, "2. 8 8": 0.8, "4. 4. 4": 1.4, "2.. 8": 0.25, "4 2 4": 0.6}},
}  # fmt: skip
FEELS = ("slow", "eighth", "sixteenth", "triplet", "fast", "any")
_TABLE: dict[tuple[int, str], tuple[list[tuple[Slot, ...]], list[float]]] = {
    (length, feel): (
        [parse_cell(cell) for cell, weight in cells.get(feel, cells["any"]).items() if weight],
        list(accumulate(weight for weight in cells.get(feel, cells["any"]).values() if weight)),
    )
    for length, cells in _CELLS.items()
    for feel in FEELS
}
_LONG = {"slow": 0.5, "eighth": 0.14, "sixteenth": 0.08, "triplet": 0.12, "fast": 0.1, "any": 0.25}
_FREE = [
    (64, Slot(1)), (48, Slot(2, 1)), (32, Slot(2)), (24, Slot(4, 1)), (28, Slot(4, 2)), (16, Slot(4)),
    (12, Slot(8, 1)), (8, Slot(8)), (6, Slot(16, 1)), (4, Slot(16)), (2, Slot(32)), (3, Slot(32, 1)), (1, Slot(64)),
    (14, Slot(8, 2)), (56, Slot(2, 2)),
]  # fmt: skip
_FREE_WEIGHTS = [2.5, 2, 6, 4, 0.4, 12, 5, 14, 2.5, 12, 7, 0.6, 1.2, 0.4, 0.2]


def metre_length(metre: tuple[int, int]) -> int:
    """Length of a bar in 64ths of a whole note."""
    return metre[0] * (64 // metre[1])


def groups(metre: tuple[int, int], rng: random.Random) -> list[int]:
    """Lengths (64ths) of the beats of a bar; uneven metres are cut in a random order of twos and threes."""
    count, unit = metre
    if unit != 8:
        return [64 // unit] * count
    if count % 3 == 0:
        return [24] * (count // 3)
    threes = 1 if count % 2 else 2
    cut = [24] * threes + [16] * ((count - 3 * threes) // 2)
    rng.shuffle(cut)
    return cut


def _join(cut: list[int], long: float, rng: random.Random) -> list[int]:
    """Joins neighbouring equal groups, so that notes longer than a beat appear."""
    joined: list[int] = []
    place = 0
    while place < len(cut):
        step = 1
        if rng.random() < long:
            for wish in (rng.choice((2, 2, 2, 3, 4)), 2):
                same = cut[place : place + wish]
                if len(same) == wish and len(set(same)) == 1 and wish * cut[place] in _CELLS:
                    step = wish
                    break
        joined.append(sum(cut[place : place + step]))
        place += step
    return joined


def fill_bar(metre: tuple[int, int], feel: str, rng: random.Random) -> list[Slot]:
    """A rhythm of exactly one bar.

    Args:
        metre: Time signature.
        feel: One of `FEELS`.
        rng: Source of chance.
    """
    slots: list[Slot] = []
    for length in _join(groups(metre, rng), _LONG[feel], rng):
        slots += fill_length(length, feel, rng)
    return slots


def fill_length(length: int, feel: str, rng: random.Random) -> tuple[Slot, ...]:
    """A cell of one group length (8, 16, 24, 32, 48 or 64 sixty-fourths)."""
    cells, weights = _TABLE[length, feel]
    return rng.choices(cells, cum_weights=weights)[0]


def free_bar(length: int, rng: random.Random) -> list[Slot]:
    """Any durations at all, in any order, that add up to `length` 64ths: coverage, not music."""
    slots: list[Slot] = []
    while length:
        if length >= 16 and rng.random() < 0.12:
            slots += rng.choice(_FREE_TUPLETS)
            length -= 16
            continue
        fitting = [i for i, (size, _) in enumerate(_FREE) if size <= length]
        if length % 4 == 0 and rng.random() < 0.8:  # short tails only now and then, or each bar ends in dust
            fitting = [i for i in fitting if _FREE[i][0] % 4 == 0] or fitting
        elif length % 4:
            fitting = [i for i in fitting if (length - _FREE[i][0]) % 4 == 0] or fitting
        size, slot = _FREE[rng.choices(fitting, [_FREE_WEIGHTS[i] for i in fitting])[0]]
        slots.append(slot)
        length -= size
    return slots


_FREE_TUPLETS = [
    parse_cell(text)
    for text in (
        "3:8 8 8", "3:8 8 8", "3:4 8", "3:8 4", "5:16 16 16 16 16", "6:16 16 16 16 16 16", "3:8 16 16 8",
        "7:16 16 16 16 16 16 16", "3:16 16 16/3:16 16 16", "3:8. 16 8",
    )
]  # fmt: skip
