"""The neck: tunings, scales in a position, and chord shapes."""

from __future__ import annotations

import random
from functools import lru_cache

MAX_FRET = 24
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
TUNINGS: dict[int, dict[str, tuple[str, ...]]] = {
    6: {
        "standard": ("E4", "B3", "G3", "D3", "A2", "E2"),
        "drop d": ("E4", "B3", "G3", "D3", "A2", "D2"),
        "half step down": ("Eb4", "Bb3", "Gb3", "Db3", "Ab2", "Eb2"),
        "d standard": ("D4", "A3", "F3", "C3", "G2", "D2"),
        "drop c": ("D4", "A3", "F3", "C3", "G2", "C2"),
        "dadgad": ("D4", "A3", "G3", "D3", "A2", "D2"),
        "open g": ("D4", "B3", "G3", "D3", "G2", "D2"),
        "open d": ("D4", "A3", "F#3", "D3", "A2", "D2"),
    },
    7: {
        "standard": ("E4", "B3", "G3", "D3", "A2", "E2", "B1"),
        "drop a": ("E4", "B3", "G3", "D3", "A2", "E2", "A1"),
    },
    5: {"standard": ("G2", "D2", "A1", "E1", "B0")},
    4: {"standard": ("G2", "D2", "A1", "E1"), "drop d": ("G2", "D2", "A1", "D1")},
}
SCALES: dict[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "minor pentatonic": (0, 3, 5, 7, 10),
    "major pentatonic": (0, 2, 4, 7, 9),
    "blues": (0, 3, 5, 6, 7, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
}
# Fifths above the tonic of a mode's parent major scale, to name the key signature of a root.
_PARENT = {
    "major": 0, "major pentatonic": 0, "minor": 3, "minor pentatonic": 3, "blues": 3, "harmonic minor": 3,
    "dorian": 10, "mixolydian": 5, "phrygian": 8,
}  # fmt: skip
_KEY_NAMES = ("c", "db", "d", "eb", "e", "f", "f#", "g", "ab", "a", "bb", "b")
# Chord shapes, lowest string of six first; None is a string that is not played.
OPEN_SHAPES: tuple[tuple[int | None, ...], ...] = tuple(
    tuple(None if c == "x" else int(c) for c in shape)
    for shape in (
        "x32010 xx0232 022100 320003 x02220 x02210 022000 xx0231 133211 xx3210 320001 x32310 xx0212 020100 x02020 "
        "x21202 x32030 xx0233 x02200 x02010 022030 xx0222 x20232 320033 xx0230 x02230 022200 3x0033 x32013 244222"
    ).split()
)
MOVABLE_SHAPES: tuple[tuple[int | None, ...], ...] = tuple(
    tuple(None if c == "x" else int(c) for c in shape)
    for shape in (
        "022100 022000 020100 020000 x02220 x02210 x02020 x02120 x02010 xx0221 xx0232 xx0231 022xxx x022xx xx023x "
        "0221xx xxx000 xxx010 xxx120 xxx221 xx021x xx000x xx1020 x0212x 0x110x x1020x 02x1xx x02x2x xxx43x xx23xx"
    ).split()
)


@lru_cache(maxsize=256)
def pitch_of(name: str) -> int:
    """MIDI number of a pitch name: `"E4"` (64), `"Bb1"`, `"F#3"`."""
    letter, rest = name[0].upper(), name[1:]
    shift = rest.count("#") - rest.count("b")
    return _SEMITONES[letter] + shift + 12 * (int(rest.lstrip("#b")) + 1)


@lru_cache(maxsize=256)
def open_pitches(tuning: tuple[str, ...]) -> tuple[int, ...]:
    """MIDI numbers of the open strings, highest line of the tab first."""
    return tuple(pitch_of(name) for name in tuning)


def key_name(root: int, scale: str) -> str:
    """Major key with the key signature that a scale on `root` (pitch class) is written in."""
    return _KEY_NAMES[(root + _PARENT[scale]) % 12]


@lru_cache(maxsize=4096)
def scale_box(
    strings: tuple[int, ...], root: int, scale: str, position: int, reach: int
) -> tuple[tuple[int, int], ...]:
    """Notes of a scale under one hand position, from the lowest pitch up.

    Args:
        strings: MIDI numbers of the open strings, highest line first.
        root: Pitch class of the tonic.
        scale: A name of `SCALES`.
        position: Lowest fret of the hand.
        reach: Frets that the hand covers.

    Returns:
        `(string, fret)` pairs, string 1 the highest line; each pitch once.
    """
    steps = SCALES[scale]
    notes: dict[int, tuple[int, int]] = {}
    for index in range(len(strings) - 1, -1, -1):
        for fret in range(position, min(position + reach, MAX_FRET) + 1):
            pitch = strings[index] + fret
            if (pitch - root) % 12 in steps and pitch not in notes:
                notes[pitch] = (index + 1, fret)
    return tuple(notes[pitch] for pitch in sorted(notes))


def shape_notes(shape: tuple[int | None, ...], base: int) -> list[tuple[int, int]]:
    """`(string, fret)` of a six-string shape moved up by `base` frets, string 1 first."""
    return [(6 - i, fret + base) for i, fret in reversed(list(enumerate(shape))) if fret is not None]


def random_chord(rng: random.Random, open_share: float = 0.5) -> list[tuple[int, int]]:
    """A chord that a hand can hold on six strings."""
    if rng.random() < open_share:
        return shape_notes(rng.choice(OPEN_SHAPES), 0)
    base = min(int(rng.triangular(1, 18, 4)), MAX_FRET - 5)
    return shape_notes(rng.choice(MOVABLE_SHAPES), base)
