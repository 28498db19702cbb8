"""What can be measured of a piece of music, and the classes that words and conditions use.

Everything is measured from a roll of codes (`piano_roll.py`); tempo and metre are not in a roll and are handed through.
Each attribute is a number with edges that cut it into classes, or a name out of a list. The classes are what
FractalMidi is conditioned on and what captions are made of. The tempo classes are chosen so that pairs of them are the
three of MuseCoco (arXiv 2306.00110): slow up to 76 a minute, fast from 120 on. The other edges are round numbers near
the thirds of a mixture of pop songs, art songs, quartets and folk tunes, so that no class is rare.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InputError
from .piano_roll import (
    FIRST_ONSET,
    NUM_LOUDNESS,
    SILENCE,
    STEPS_PER_QUARTER,
    check_codes,
    clean_codes,
    notes_of_codes,
    velocities_in_a_class,
)

KEY_NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_OTHER_NAMES = {"Db": "C#", "D#": "Eb", "Gb": "F#", "G#": "Ab", "A#": "Bb", "Cb": "B", "E#": "F", "Fb": "E", "B#": "C"}
MODES = ("major", "minor")
METRES = ("4/4", "2/4", "3/4", "6/8", "2/2", "3/8", "other")
#: An interval of the top line above this many semitones is a leap: more than a major third.
LEAP_SEMITONES = 4

# How well each degree of the scale fits a key (C. Krumhansl and E. Kessler, Psychological Review 89 (1982), 334-368).
MAJOR_PROFILE = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR_PROFILE = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


@dataclass(frozen=True)
class Attribute:
    """One attribute and its classes.

    Attributes:
        name: Key in a measurement.
        classes: Names of the classes, lowest first where there is an order.
        edges: Where one class ends and the next begins (an edge itself belongs to the upper class), one less than
            classes; empty for names.
        unit: Unit of the number, empty for names.
        meaning: What is measured.
    """

    name: str
    classes: tuple[str, ...]
    edges: tuple[float, ...] = ()
    unit: str = ""
    meaning: str = ""

    def bin_of(self, value: Any) -> int:
        """Class number of a measured value; -1 for `None`.

        Raises:
            InputError: A name that is none of the classes.
        """
        if value is None:
            return -1
        if self.edges:
            number = float(value)
            if number != number:
                return -1
            return bisect_right(self.edges, number)
        if value in self.classes:
            return self.classes.index(value)
        if "other" in self.classes:
            return self.classes.index("other")
        raise InputError(None, f"{self.name} {value!r} does not exist; choose {', '.join(self.classes)}")


_LIST = (
    Attribute(
        "tempo",
        ("very slow", "slow", "calm", "moderate", "fast", "very fast"),
        (60, 76, 98, 120, 150),
        "quarter notes a minute",
        "mean tempo; pairs of classes are MuseCoco's slow, moderate, fast (76 itself is slow there and calm here)",
    ),
    Attribute("metre", METRES, (), "", "time signature of most bars"),
    Attribute("key", KEY_NAMES, (), "", "tonic, by correlation of sounding time with the profiles of all 24 keys"),
    Attribute("mode", MODES, (), "", "mode of that key"),
    Attribute(
        "density",
        ("sparse", "medium", "dense"),
        (3.0, 5.25),
        "onsets a quarter note",
        "how many notes begin, over all steps from the first note to the end of the last",
    ),
    Attribute(
        "register", ("low", "middle", "high"), (61.5, 65.0), "MIDI pitch", "mean pitch, each note counted by its onset"
    ),
    Attribute(
        "polyphony",
        ("thin", "medium", "full"),
        (2.0, 3.75),
        "sounding pitches",
        "mean number of pitches in steps in which anything sounds",
    ),
    Attribute("range", ("narrow", "medium", "wide"), (24, 45), "semitones", "from the lowest pitch to the highest"),
    Attribute("dynamics", ("soft", "medium", "loud"), (66, 88), "MIDI velocity", "mean velocity of onsets"),
    Attribute("sustain", ("short", "medium", "long"), (0.58, 0.85), "quarter notes", "mean length of a note"),
    Attribute(
        "leaps",
        ("stepwise", "medium", "leaping"),
        (0.15, 0.3),
        "share",
        f"share of the top line's intervals above {LEAP_SEMITONES} semitones",
    ),
)
ATTRIBUTES: dict[str, Attribute] = {attribute.name: attribute for attribute in _LIST}


# --- Measures ---------------------------------------------------------------------------------------------------------


def pitch_class_weights(codes: Any, *, loudness_classes: int = NUM_LOUDNESS) -> np.ndarray:
    """Sounding steps of each pitch class, float64 `(12,)`, C first."""
    sounding = (check_codes(codes, loudness_classes=loudness_classes) != SILENCE).sum(axis=1)
    return np.bincount(np.arange(len(sounding)) % 12, weights=sounding, minlength=12)


def find_key(weights: Any) -> tuple[str, str, float] | None:
    """Tonic, mode and correlation of the key that fits best (Krumhansl and Schmuckler's algorithm).

    Args:
        weights: How long (or how often) each pitch class sounds, `(12,)`, C first.

    Returns:
        `None` where fewer than three pitch classes sound, or all sound alike: then no key is better than another.
    """
    heard = np.asarray(weights, dtype=np.float64)
    if np.count_nonzero(heard) < 3 or np.ptp(heard) == 0:
        return None
    profiles = np.stack([np.roll(p, k) for p in (MAJOR_PROFILE, MINOR_PROFILE) for k in range(12)])  # (24, 12)
    profiles = profiles - profiles.mean(axis=1, keepdims=True)
    centred = heard - heard.mean()
    fits = profiles @ centred / (np.linalg.norm(profiles, axis=1) * np.linalg.norm(centred))
    best = int(fits.argmax())
    return KEY_NAMES[best % 12], MODES[best // 12], float(fits[best])


def top_line(codes: Any, *, loudness_classes: int = NUM_LOUDNESS) -> np.ndarray:
    """Pitches of the upper melody: onsets with nothing sounding above them, in the order of time."""
    array = check_codes(codes, loudness_classes=loudness_classes)
    highest = array.shape[0] - 1 - (array[::-1] != SILENCE).argmax(axis=0)  # (T,)
    return highest[array[highest, np.arange(array.shape[1])] >= FIRST_ONSET]


def measure_roll(
    codes: Any,
    tempo_bpm: float | None = None,
    metre: tuple[int, int] | str | None = None,
    steps_per_quarter: int = STEPS_PER_QUARTER,
    *,
    loudness_classes: int = NUM_LOUDNESS,
) -> dict[str, Any]:
    """Measures a roll.

    Args:
        codes: `(P, T)` codes or float roll.
        tempo_bpm: Handed through.
        metre: Handed through as `"4/4"`.
        steps_per_quarter: Steps in a quarter note.
        loudness_classes: Of the roll; only `dynamics` knows of it, which is exact with 127.

    Returns:
        A value for each of `ATTRIBUTES`, `None` where there is nothing to measure, and `key_fit`, the correlation that
        the key was chosen by. Numbers are in the units that `ATTRIBUTES` names.
    """
    array = clean_codes(check_codes(codes, loudness_classes=loudness_classes))
    notes = notes_of_codes(array, loudness_classes=loudness_classes)
    began = array[notes[:, 2], notes[:, 0]] >= FIRST_ONSET if len(notes) else np.zeros(0, bool)
    values: dict[str, Any] = dict.fromkeys(ATTRIBUTES)
    values["key_fit"] = None
    values["tempo"] = None if tempo_bpm is None else float(tempo_bpm)
    if metre is not None:
        values["metre"] = metre if isinstance(metre, str) else f"{metre[0]}/{metre[1]}"
    if not began.any():
        return values
    onsets, sounding = notes[began], (array != SILENCE).sum(axis=0)
    busy = np.flatnonzero(sounding)
    steps = int(busy[-1]) + 1 - int(busy[0])
    values["density"] = len(onsets) / steps * steps_per_quarter
    values["register"] = float(onsets[:, 2].mean())
    values["polyphony"] = float(sounding[busy].mean())
    values["range"] = int(notes[:, 2].max() - notes[:, 2].min())
    width = velocities_in_a_class(loudness_classes)
    values["dynamics"] = float((width * onsets[:, 3] + (width + 1) / 2).mean())  # the middle of each class
    values["sustain"] = float(onsets[:, 1].mean()) / steps_per_quarter
    intervals = np.abs(np.diff(top_line(array, loudness_classes=loudness_classes)))
    values["leaps"] = float((intervals > LEAP_SEMITONES).mean()) if len(intervals) else None
    found = find_key(pitch_class_weights(array, loudness_classes=loudness_classes))
    if found is not None:
        values["key"], values["mode"], values["key_fit"] = found
    return values


def mean_tempo(score: Any, start_quarter: float = 0.0, end_quarter: float | None = None) -> float | None:
    """Tempo of a stretch of a score: its quarters over its minutes; `None` where the score tells no tempo.

    Args:
        score: `symusic.Score` in ticks.
        start_quarter: Where the stretch begins.
        end_quarter: Where it ends; the end of the score when left out.
    """
    quarter = score.ticks_per_quarter
    marks = sorted((t.time / quarter, t.qpm) for t in score.tempos if t.qpm > 0)
    if not marks:
        return None
    end = score.end() / quarter if end_quarter is None else end_quarter
    end = max(end, start_quarter + 1e-6)
    minutes, bounds = 0.0, [place for place, _ in marks[1:]] + [float("inf")]
    for k, ((place, qpm), stop) in enumerate(zip(marks, bounds, strict=True)):
        first = 0.0 if k == 0 else place  # the first tempo also counts before it is written
        minutes += max(0.0, min(stop, end) - max(first, start_quarter)) / qpm
    return (end - start_quarter) / minutes


# --- Classes ----------------------------------------------------------------------------------------------------------


def bins_of(values: Mapping[str, Any]) -> dict[str, int]:
    """Class number of every attribute; -1 where `values` has none."""
    return {name: attribute.bin_of(values.get(name)) for name, attribute in ATTRIBUTES.items()}


def transposed(values: Mapping[str, Any], semitones: int) -> dict[str, Any]:
    """The measurement of the same music moved up by so many semitones."""
    moved = dict(values)
    if moved.get("key") is not None:
        moved["key"] = KEY_NAMES[(KEY_NAMES.index(moved["key"]) + semitones) % 12]
    if moved.get("register") is not None:
        moved["register"] = moved["register"] + semitones
    return moved


def asked_bin(name: str, wish: Any) -> int:
    """Class number of what a person asked for: a class by name, or a value to be classed.

    Args:
        name: One of `ATTRIBUTES`.
        wish: `"dense"`, `"A"`, `"minor"`, `"3/4"`, or a number in the attribute's unit; `None` for no wish (-1).

    Raises:
        InputError: No such attribute or class.
    """
    if name not in ATTRIBUTES:
        raise InputError(None, f"there is no attribute {name!r}; choose among {', '.join(ATTRIBUTES)}")
    attribute = ATTRIBUTES[name]
    if wish is None:
        return -1
    text = str(wish).strip()
    if name == "key":
        text = _OTHER_NAMES.get(text[:1].upper() + text[1:], text)
    lowered = {c.lower(): k for k, c in enumerate(attribute.classes)}
    if text.lower() in lowered:
        return lowered[text.lower()]
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not attribute.edges or not 0 <= number < 1000 or (name == "tempo" and not number):
        choices = ", ".join(attribute.classes) + (f", or a number of {attribute.unit}" if attribute.edges else "")
        raise InputError(None, f"{name} can not be {text!r}; choose {choices}")
    return attribute.bin_of(number)


def middle_of_bin(name: str, number: int) -> float:
    """A value in the middle of a class of a numeric attribute; the outer classes reach as far as their neighbours.

    Raises:
        InputError: The attribute has no numbers, or no such class.
    """
    attribute = ATTRIBUTES.get(name)
    if attribute is None or not attribute.edges or not 0 <= number < len(attribute.classes):
        raise InputError(None, f"{name} has no class {number} with numbers")
    edges = attribute.edges
    width = lambda k: edges[k + 1] - edges[k]  # noqa: E731
    if len(edges) == 1:
        return edges[0] * (0.5 if number == 0 else 1.5)
    if number == 0:
        return max(edges[0] - width(0) / 2, edges[0] / 2)
    if number == len(edges):
        return edges[-1] + width(len(edges) - 2) / 2
    return (edges[number - 1] + edges[number]) / 2
