"""What canonical alphaTex says, as typed Python values.

A `Score` has tracks, a track has staves, a staff has bars, a bar has voices, a voice has beats, a beat has notes.
Every duration is an exact fraction of a whole note. Positions in the source text never take part in comparisons, so
two texts that say the same read as equal scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from os import PathLike

from .errors import InputError

Argument = str | int | float
Arguments = tuple[Argument, ...]
Effects = dict[str, Arguments]

STANDARD_TUNINGS: dict[int, tuple[str, ...]] = {
    6: ("E4", "B3", "G3", "D3", "A2", "E2"),
    7: ("E4", "B3", "G3", "D3", "A2", "E2", "B1"),
    5: ("G2", "D2", "A1", "E1", "B0"),
    4: ("G2", "D2", "A1", "E1"),
}
DEFAULT_TUNING = STANDARD_TUNINGS[6]
PITCH = re.compile(r"[A-Ga-g](?:##?|bb?)?-?\d{1,2}\Z")
DEFAULT_TIME_SIGNATURE = (4, 4)


class AlphaTexError(InputError):
    """A text that does not read as alphaTex.

    Args:
        line: Line of the first character that does not fit, counted from 1.
        column: Column of that character, counted from 1.
        message: What was found and what was expected.
        path: File the text came from, when there is one.
    """

    def __init__(self, line: int, column: int, message: str, path: str | PathLike[str] | None = None) -> None:
        self.line = line
        self.column = column
        super().__init__(path, f"line {line}, column {column}: {message}")


@lru_cache(maxsize=4096)
def beat_length(duration: int, dots: int = 0, tuplet: tuple[int, int] | None = None) -> Fraction:
    """Length of one beat, as a fraction of a whole note.

    Args:
        duration: Note value: 1 whole, 2 half, ... 256; -2 a double whole, -4 a quadruple whole.
        dots: Number of augmentation dots.
        tuplet: `(n, m)`: n notes in the time of m; `None` for none.
    """
    length = Fraction(-duration) if duration < 0 else Fraction(1, duration)
    length *= 2 - Fraction(1, 2**dots)
    return length if tuplet is None else length * Fraction(tuplet[1], tuplet[0])


_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SPELLINGS = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")


@lru_cache(maxsize=1024)
def spell_pitch(name: str) -> str:
    """A pitch as alphaTab spells it, `Gb3` for `F#3`: the name says what sounds, the key says how it is drawn.

    Raises:
        ValueError: When the name is no pitch.
    """
    if not PITCH.match(name):
        raise ValueError(f"{name!r} is no pitch such as E4 or Bb3")
    letter, rest = name[0].upper(), name[1:]
    signs = rest.rstrip("-0123456789")
    octave = int(rest[len(signs) :])
    semitone = _SEMITONES[letter] + signs.count("#") - signs.count("b")
    return f"{_SPELLINGS[semitone % 12]}{octave + semitone // 12}"


@dataclass(slots=True)
class Note:
    """One head of a beat.

    Attributes:
        fret: Fret number; -1 when the note has no string.
        string: String, 1 = the highest line of the tab; 0 when the note has none.
        effects: Effect name to its arguments, for example `{"h": (), "be": ("bend", 0, 0, 60, 4)}`. A dead note
            has `"x"`, the end of a tie `"t"`.
        pitch: Pitch (`"C#4"`) of a note without a string, or the name of a drum articulation.
    """

    fret: int = -1
    string: int = 0
    effects: Effects = field(default_factory=dict)
    pitch: str | None = None


@dataclass(slots=True)
class Beat:
    """Notes that start together, or a rest.

    Attributes:
        notes: Empty for a rest; ascending by string number in canonical text.
        duration: Note value: 1, 2, 4, ... 256, or -2 (double whole), -4 (quadruple whole).
        dots: Augmentation dots.
        tuplet: `(n, m)`, n in the time of m; `None` for none.
        grace: `None`, `"bb"` before the beat, `"ob"` on the beat or `"b"` bend grace.
        effects: Effect name to its arguments.
        span: Offsets (start, end) in the source text, in characters.
    """

    notes: list[Note] = field(default_factory=list)
    duration: int = 4
    dots: int = 0
    tuplet: tuple[int, int] | None = None
    grace: str | None = None
    effects: Effects = field(default_factory=dict)
    span: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)

    @property
    def length(self) -> Fraction:
        """Fraction of a whole note that the beat takes in its bar; grace notes take none."""
        return Fraction(0) if self.grace else beat_length(self.duration, self.dots, self.tuplet)

    @property
    def is_rest(self) -> bool:
        """True when nothing sounds."""
        return not self.notes


@dataclass(slots=True)
class Bar:
    """One bar of one staff.

    What all staves share (metre, tempo, repeats, section) is kept on the bars of the first staff of the first track
    only, as alphaTab writes it.

    Attributes:
        voices: Beats of each voice; a voice without beats is an empty list.
        time_signature: Metre that starts here; `None` when nothing changes.
        key_signature: Key that starts here (`"d"`, `"bbminor"`), `None` when nothing changes.
        tempo: Tempo that starts here, in quarter notes a minute.
        repeat_open: A repeat starts with this bar.
        repeat_close: Times that the repeat ending with this bar is played; 0 for none.
        endings: Passes of the repeat that this bar belongs to, from 1.
        section: Name drawn above the bar.
        anacrusis: A pick-up bar, allowed to be shorter than its metre.
        other: Everything else; names that may come more than once (`alphatex_vocabulary.REPEATABLE`) hold a tuple of
            argument tuples.
        span: Offsets (start, end) in the source text, in characters.
    """

    voices: list[list[Beat]] = field(default_factory=lambda: [[]])
    time_signature: tuple[int, int] | None = None
    key_signature: str | None = None
    tempo: int | float | None = None
    repeat_open: bool = False
    repeat_close: int = 0
    endings: tuple[int, ...] = ()
    section: str | None = None
    anacrusis: bool = False
    other: dict[str, tuple] = field(default_factory=dict)
    span: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)


@dataclass(slots=True)
class Staff:
    """Bars of one staff.

    Attributes:
        bars: The bars.
        show: What is drawn: any of `"score"`, `"tabs"`, `"slash"`, `"numbered"`.
        tuning: Open strings from the highest line down; `None` for the standard one of six strings, `()` for a
            staff of pitches without strings.
        capo: Fret of the capo, 0 for none.
        percussion: A drum staff; its notes name articulations.
        other: Anything else that belongs to the staff, for example chord diagrams.
    """

    bars: list[Bar] = field(default_factory=list)
    show: tuple[str, ...] = ("tabs",)
    tuning: tuple[str, ...] | None = None
    capo: int = 0
    percussion: bool = False
    other: dict[str, tuple] = field(default_factory=dict)

    @property
    def strings(self) -> int:
        """Number of lines of the tab."""
        return 6 if self.tuning is None else len(self.tuning)


@dataclass(slots=True)
class Track:
    """One instrument."""

    name: str = ""
    staves: list[Staff] = field(default_factory=list)
    short_name: str = ""


@dataclass(slots=True)
class Score:
    """A whole notation text."""

    tracks: list[Track] = field(default_factory=list)
    title: str = ""
    subtitle: str = ""
    artist: str = ""
    album: str = ""
    words: str = ""
    music: str = ""
    copyright: str = ""
    transcriber: str = ""
    hide_dynamics: bool = False
    source_text: str = field(default="", compare=False, repr=False)

    @property
    def staves(self) -> list[Staff]:
        """All staves of all tracks, in order."""
        return [staff for track in self.tracks for staff in track.staves]

    def beats(self) -> Iterator[tuple[int, int, int, int, Beat]]:
        """Every beat as `(staff, bar, voice, position, beat)`, staves counted through all tracks, all from 0."""
        for staff_index, staff in enumerate(self.staves):
            for bar_index, bar in enumerate(staff.bars):
                for voice_index, voice in enumerate(bar.voices):
                    for position, beat in enumerate(voice):
                        yield staff_index, bar_index, voice_index, position, beat


@dataclass(frozen=True, slots=True)
class BarIssue:
    """A voice that does not fill its bar.

    Attributes:
        staff: Staff, counted through all tracks, from 0.
        bar: Bar, from 0.
        voice: Voice, from 0.
        have: Sum of the beats, as a fraction of a whole note.
        want: What the metre asks for.
    """

    staff: int
    bar: int
    voice: int
    have: Fraction
    want: Fraction

    def __str__(self) -> str:
        return (
            f"bar {self.bar + 1}, voice {self.voice + 1}: {self.have} of a whole note, the metre asks for {self.want}"
        )
