"""What words ask of music, and whether a piece of music keeps it.

Plain words ask for classes of `music_attributes.ATTRIBUTES`; words that paint a picture ask for a side: faster or
slower than the median piece. `QUARTILES` holds the medians. `measure_score` measures a MIDI file, `fulfilled` and
`sides_kept` compare, and the last part puts a measurement into the classes of other systems, so that figures can be
compared.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import InputError
from .music_attributes import ATTRIBUTES, KEY_NAMES, MODES, mean_tempo, measure_roll
from .piano_roll import STEPS_PER_QUARTER, codes_of_score, in_ticks
from .roll_windows import bar_lines

# --- Measures of a score ----------------------------------------------------------------------------------------------

#: Families of General MIDI programs, eight programs each, and drums.
PROGRAM_FAMILIES = (
    *("piano", "chromatic percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass", "reed", "pipe"),
    *("synth lead", "synth pad", "synth effects", "ethnic", "percussive", "sound effects", "drums"),
)


def program_families(programs: Iterable[Any]) -> list[str]:
    """Families of General MIDI programs, each once, in the order of `PROGRAM_FAMILIES`; -1 and 128 are drums.

    Raises:
        InputError: A program outside -1..128.
    """
    numbers = {int(p) for p in programs}
    if any(not -1 <= number <= 128 for number in numbers):
        raise InputError(None, f"programs go from 0 to 127, drums are -1 or 128, got {sorted(numbers)}")
    return [PROGRAM_FAMILIES[k] for k in sorted({16 if n in (-1, 128) else n // 8 for n in numbers})]


def measure_score(
    score: Any,
    start_quarter: float = 0.0,
    end_quarter: float | None = None,
    steps_per_quarter: int = STEPS_PER_QUARTER,
    name: Any = None,
) -> dict[str, Any]:
    """Measures a score, or a stretch of it.

    Args:
        score: `symusic.Score`.
        start_quarter: Where the stretch begins.
        end_quarter: Where it ends; the end of the score when left out.
        steps_per_quarter: Grid of the measurement.
        name: File that an error message is about.

    Returns:
        What `measure_roll` gives, and `bars` (bar lines in the stretch), `seconds` (`None` without a tempo) and
        `programs` (families of General MIDI, of tracks that have notes anywhere in the score).

    Raises:
        InputError: No pitched notes, or too long.
    """
    score = in_ticks(score)
    codes = codes_of_score(score, steps_per_quarter, name=name)
    first = max(round(start_quarter * steps_per_quarter), 0)
    last = codes.shape[1] if end_quarter is None else min(round(end_quarter * steps_per_quarter), codes.shape[1])
    if last <= first:
        raise InputError(name, f"has nothing between quarter {start_quarter:g} and {end_quarter}")
    bars = [bar for bar in bar_lines(score, last, steps_per_quarter) if bar.step >= first]
    metre = Counter(bar.metre for bar in bars).most_common(1)[0][0] if bars else None
    tempo = mean_tempo(score, first / steps_per_quarter, last / steps_per_quarter)
    values = measure_roll(codes[:, first:last], tempo, metre, steps_per_quarter)
    values["bars"] = len(bars)
    values["seconds"] = None if tempo is None else (last - first) / steps_per_quarter * 60 / tempo
    tracks = [track for track in score.tracks if len(track.notes)]
    values["programs"] = program_families(-1 if track.is_drum else track.program for track in tracks)
    return values


# --- Sides of the median ----------------------------------------------------------------------------------------------

#: First quartile, median and third quartile over the 23,382 training windows of POP909, OpenScore Lieder and String
#: Quartets and 500 files of the music21 corpus, as `build_midi` cuts them; `build_captions --quartiles` prints them.
#: Windows without loudness marks are left out of dynamics.
QUARTILES: dict[str, tuple[float, float, float]] = {
    "tempo": (76.0, 104.0, 128.0),
    "density": (3.422, 4.547, 5.812),
    "register": (61.19, 63.38, 65.82),
    "polyphony": (3.206, 3.655, 4.071),
    "range": (43.0, 48.0, 53.0),
    "dynamics": (57.76, 73.97, 85.79),
    "sustain": (0.599, 0.754, 0.973),
    "leaps": (0.149, 0.221, 0.308),
}
#: What an image can suggest: a side of the median, or minor (-1) and major (+1).
SIDED = ("tempo", "density", "register", "dynamics", "sustain", "leaps", "mode")
#: Mean velocity of music whose every note is mezzo forte, because its score does not say how loud it is.
UNMARKED_DYNAMICS = 78.5

#: MIDI keeps whole microseconds a quarter, so that a tempo of 104 is read as 104.00002: that is still the median.
_ON_THE_MEDIAN = 0.01


def side_strength(name: str, value: Any) -> float | None:
    """How far a value lies from the median: 0 on it, -1 and 1 at the quartiles, cut off at -2 and 2.

    The two halves are scaled apart, as the distributions are skewed. Minor is -1, major 1; `None` where nothing was
    measured.

    Raises:
        InputError: The attribute has no sides.
    """
    if name == "mode":
        return None if value is None else (1.0, -1.0)[ATTRIBUTES["mode"].bin_of(value)]
    if name not in QUARTILES:
        raise InputError(None, f"{name!r} has no median; choose among {', '.join((*QUARTILES, 'mode'))}")
    if value is None or float(value) != float(value):
        return None
    low, median, high = QUARTILES[name]
    distance = float(value) - median
    strength = distance / (high - median if distance > 0 else median - low)
    if abs(strength) < _ON_THE_MEDIAN:
        return 0.0
    return max(-2.0, min(2.0, strength))


def sides_agreement(sides: Mapping[str, float], values: Mapping[str, Any] | None) -> float:
    """How much of what is suggested a piece has: of several the one with most can be kept.

    Each side that it lies on counts as much as the side weighs (-1 to 1), and how far on it a hundredth of that.
    """
    total = 0.0
    for name, side in sides.items() if values else ():
        strength = side_strength(name, values.get(name)) if side and values else None
        if strength is not None:
            there = strength if side > 0 else -strength
            total += abs(side) * ((there > 0) + 0.01 * max(-1.0, min(1.0, there)))
    return total


def sides_kept(sides: Mapping[str, int], values: Mapping[str, Any]) -> dict[str, bool]:
    """Whether music lies on the sides that were asked for.

    Args:
        sides: -1 or 1 by attribute (see `SIDED`); 0 asks for nothing.
        values: A measurement.

    Returns:
        One answer for each attribute that is asked for. What could not be measured, or lies on the median, is not kept.
    """
    strengths = {name: side_strength(name, values.get(name)) for name, side in sides.items() if side}
    return {name: strength is not None and strength * sides[name] > 0 for name, strength in strengths.items()}


def fulfilled(stated: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, bool]:
    """Whether music is what words state.

    Args:
        stated: For each of `ATTRIBUTES` the first and the last class that the words allow; `bpm`, `bars` and `seconds`
            a number; `programs` a list of families.
        values: A measurement (`measure_score`).

    Returns:
        One answer for each statement. `bpm` and `seconds` allow 5 %, `bars` one more or less; all stated programs must
        sound, and no others. What could not be measured is not fulfilled.

    Raises:
        InputError: A statement about something else.
    """
    kept = {}
    for name, wanted in stated.items():
        if name in ATTRIBUTES:
            kept[name] = wanted[0] <= ATTRIBUTES[name].bin_of(values.get(name)) <= wanted[1]
        elif name == "programs":
            kept[name] = set(values.get(name) or ()) == set(wanted)
        elif name in ("bpm", "bars", "seconds"):
            value = values.get("tempo" if name == "bpm" else name)
            allowed = 1 if name == "bars" else 0.05 * wanted
            kept[name] = value is not None and abs(value - wanted) <= allowed
        else:
            raise InputError(
                None, f"words can not state {name!r}; choose among {', '.join(ATTRIBUTES)}, bpm, bars, ..."
            )
    return kept


# --- Classes of other systems -----------------------------------------------------------------------------------------

#: Edges of the tempo classes (quarter notes a minute) that Text2midi (arXiv 2412.16526) takes from Mustango
#: (arXiv 2311.08355).
TEXT2MIDI_TEMPO_EDGES = (40, 60, 70, 90, 110, 140, 160, 210)


def text2midi_tempo_bin(tempo_bpm: float) -> int:
    """Tempo class 0..8 of Text2midi's evaluation, which counts a class exactly and within one."""
    return bisect_right(TEXT2MIDI_TEMPO_EDGES, tempo_bpm)


def duplicate_key(key: str, mode: str) -> tuple[str, str]:
    """The other key with the same notes (A minor for C major), which Text2midi's second figure counts as right."""
    other = (KEY_NAMES.index(key) + (9 if mode == "major" else 3)) % 12
    return KEY_NAMES[other], MODES[1 - MODES.index(mode)]


def musecoco_classes(values: Mapping[str, Any]) -> dict[str, str]:
    """A measurement in the classes of MuseCoco (arXiv 2306.00110, table of attributes), as far as both measure it.

    Args:
        values: A measurement; `bars` and `seconds` where known.

    Returns:
        `tempo` slow (up to 76), moderate or fast (from 120), `key` major or minor, `range` whole octaves 0..11, `bars`
        in groups of four up to 16, `time` in quarters of a minute, `time_signature`; what is unknown is left out.
    """
    found = {}
    if values.get("tempo") is not None:
        tempo = float(values["tempo"])
        found["tempo"] = "slow" if tempo <= 76 else "moderate" if tempo < 120 else "fast"
    if values.get("mode") is not None:
        found["key"] = values["mode"]
    if values.get("range") is not None:
        found["range"] = str(min(int(values["range"]) // 12, 11))
    if values.get("bars") and values["bars"] <= 16:
        found["bars"] = ("1-4", "5-8", "9-12", "13-16")[(int(values["bars"]) - 1) // 4]
    if values.get("seconds") is not None:
        places = ("0-15", "15-30", "30-45", "45-60", ">60")
        found["time"] = places[bisect_left((15, 30, 45, 60), float(values["seconds"]))]
    if values.get("metre") is not None:
        known = values["metre"] in ("4/4", "2/4", "3/4", "1/4", "6/8", "3/8")
        found["time_signature"] = values["metre"] if known else "other"
    return found
