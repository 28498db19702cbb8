"""Beats of a typed score as MusicXML `<note>` elements, with strings, frets and techniques."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from xml.etree.ElementTree import Element, SubElement

from .alphatex_types import DEFAULT_TUNING, PITCH, Beat, Note, Staff, beat_length, spell_pitch

_TYPES = {
    -4: "long", -2: "breve", 1: "whole", 2: "half", 4: "quarter", 8: "eighth", 16: "16th", 32: "32nd", 64: "64th",
    128: "128th", 256: "256th",
}  # fmt: skip
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
# Techniques that are one empty element: our name -> (group in <notations>, element).
_NOTE_SIGNS = {
    "ac": ("articulations", "accent"), "hac": ("articulations", "strong-accent"), "st": ("articulations", "staccato"),
    "ten": ("articulations", "tenuto"), "sib": ("articulations", "scoop"), "sia": ("articulations", "plop"),
    "sou": ("articulations", "doit"), "sod": ("articulations", "falloff"), "turn": ("ornaments", "turn"),
    "iturn": ("ornaments", "inverted-turn"), "umordent": ("ornaments", "inverted-mordent"),
    "lmordent": ("ornaments", "mordent"), "tr": ("ornaments", "trill-mark"),
}  # fmt: skip
_BEAT_SIGNS = {
    "su": ("technical", "up-bow"), "sd": ("technical", "down-bow"), "tt": ("technical", "tap"),
}  # fmt: skip
# Techniques without an element of their own.
_NAMED = {
    "pm": "palm mute", "lr": "let ring", "lht": "left hand tap", "psu": "pick slide up", "psd": "pick slide down",
}  # fmt: skip
_NAMED_BEAT = {
    "s": "slap", "p": "pop", "f": "fade in", "fo": "fade out", "vs": "volume swell", "tbe": "tremolo bar",
    "vw": "wide tremolo bar vibrato", "waho": "wah open", "wahc": "wah closed", "rasg": "rasgueado",
    "ds": "dead slap", "barre": "barre",
}  # fmt: skip
_HARMONICS = {"nh": "natural", "ah": "artificial", "ph": "artificial", "th": "artificial", "sh": "artificial",
              "fh": "artificial"}  # fmt: skip
_FINGERS = {"lf": ("fingering", ("T", "1", "2", "3", "4")), "rf": ("pluck", ("p", "i", "m", "a", "c"))}


def text_element(parent: Element, tag: str, text: object, **attributes: str) -> Element:
    """A child element with text."""
    child = SubElement(parent, tag, attributes)
    child.text = str(text)
    return child


def pitch_number(name: str) -> int:
    """MIDI number of a pitch name; `C4` is 60.

    Raises:
        ValueError: When the name is no pitch.
    """
    name = spell_pitch(name)
    letters = name.rstrip("-0123456789")
    return 12 * (int(name[len(letters) :]) + 1) + _SEMITONES[letters[0]] - letters.count("b")


def spelled(number: int, fifths: int) -> tuple[str, int, int]:
    """Step, alteration and octave of a MIDI number, as a key with that many sharps (negative: flats) spells it."""
    # The twelve names nearest to the key on the line of fifths, from three below its tonic: in C, Eb ... G#.
    place = next(f for f in range(fifths - 3, fifths + 9) if 7 * f % 12 == number % 12)
    step = "FCGDAEB"[(place + 1) % 7]
    alter = (place + 1) // 7
    return step, alter, (number - alter - _SEMITONES[step]) // 12 - 1


@dataclass
class NoteLinks:
    """What has to be known of a note's neighbours.

    Attributes:
        tie_start: The next beat of the voice holds this note on.
        starts: Elements that begin here, as `(group or "", element, number, text)`.
        stops: Elements that end here, in the same form.
    """

    tie_start: bool = False
    starts: list[tuple[str, str, str, str]] = field(default_factory=list)
    stops: list[tuple[str, str, str, str]] = field(default_factory=list)


def _same_place(note: Note, other: Note) -> bool:
    return note.string == other.string if note.fret >= 0 else note.pitch == other.pitch


def link_notes(beats: list[Beat]) -> dict[int, NoteLinks]:
    """Ties, hammer-ons, pull-offs, slides and slurs of one voice through all its bars, by `id` of the note.

    A link whose other end is missing is left out, because one-sided elements confuse every reader.
    """
    links: dict[int, NoteLinks] = {}
    number = 0
    slurs: dict[str, Note] = {}

    def join(start: Note, stop: Note, group: str, tag: str, text: str = "") -> None:
        nonlocal number
        number = number % 6 + 1  # MusicXML has numbers 1 to 6 (16 since version 4.0) to tell overlapping links apart
        links.setdefault(id(start), NoteLinks()).starts.append((group, tag, str(number), text))
        links.setdefault(id(stop), NoteLinks()).stops.append((group, tag, str(number), text))

    for index, beat in enumerate(beats):
        following = beats[index + 1].notes if index + 1 < len(beats) else []
        for note in beat.notes:
            target = next((other for other in following if _same_place(note, other)), None)
            if target is not None and "t" in target.effects:
                links.setdefault(id(note), NoteLinks()).tie_start = True
            if target is not None and "h" in note.effects:
                pull = target.fret < note.fret
                join(note, target, "technical", "pull-off" if pull else "hammer-on", "P" if pull else "H")
            if target is not None and "sl" in note.effects:
                join(note, target, "", "slur")
            if target is not None and ("sl" in note.effects or "ss" in note.effects):
                join(note, target, "", "slide")
            for name in note.effects.get("slur", ()):
                if str(name) in slurs:
                    join(slurs.pop(str(name)), note, "", "slur")
                else:
                    slurs[str(name)] = note
    return links


def tuplet_marks(beats: list[Beat]) -> dict[int, tuple[bool, bool]]:
    """Where the brackets of tuplets start and stop in one voice of one bar: `(start, stop)` by position."""
    marks: dict[int, tuple[bool, bool]] = {}
    group: list[int] = []

    def close() -> None:
        for position in group:
            marks[position] = (position == group[0], position == group[-1])
        group.clear()

    for index, beat in enumerate(beats):
        if beat.grace:
            continue
        if group and beat.tuplet != beats[group[-1]].tuplet:
            close()
        if beat.tuplet is None:
            continue
        group.append(index)
        total = sum((beats[i].length for i in group), Fraction(0))
        shortest = min(beat_length(beats[i].duration) for i in group)
        # Full when it fills the m short notes it stands for, on a place that exists without tuplets.
        if not total.denominator & (total.denominator - 1) and total >= beat.tuplet[1] * shortest:
            close()
    close()
    return marks


@dataclass
class BeatWriter:
    """Writes the beats of one staff.

    Attributes:
        staff: The staff, for tuning and capo.
        divisions: Units of `<duration>` in a quarter note.
        fifths: Sharps of the key in force, negative for flats; decides the spelling.
        links: Links of all notes of the voice that is being written.
    """

    staff: Staff
    divisions: int
    fifths: int = 0
    links: dict[int, NoteLinks] = field(default_factory=dict)

    def units(self, length: Fraction) -> int:
        """A length (fraction of a whole note) in units of `<duration>`."""
        return int(length * 4 * self.divisions)

    def write(
        self, beat: Beat, voice: int, bracket: tuple[bool, bool], whole_bar: Fraction | None = None
    ) -> Iterator[Element]:
        """The `<note>` elements of a beat, one for each note.

        Args:
            beat: The beat.
            voice: Number of the voice, from 1.
            bracket: Whether a tuplet bracket starts, stops here.
            whole_bar: Length of the bar when the beat is a rest for all of it.
        """
        heads: list[Note | None] = list(beat.notes) or [None]
        for place, note in enumerate(heads):
            element = Element("note")
            if beat.grace:
                SubElement(element, "grace", {} if beat.grace == "ob" else {"slash": "yes"})
            if place:
                SubElement(element, "chord")
            self._head(element, note, whole_bar is not None)
            if not beat.grace:
                text_element(element, "duration", self.units(beat.length if whole_bar is None else whole_bar))
            links = NoteLinks() if note is None else self.links.get(id(note), NoteLinks())
            ends_tie = note is not None and "t" in note.effects
            if ends_tie:
                SubElement(element, "tie", {"type": "stop"})
            if links.tie_start:
                SubElement(element, "tie", {"type": "start"})
            text_element(element, "voice", voice)
            if whole_bar is None:
                self._value(element, beat)
            if note is not None and "x" in note.effects:
                text_element(element, "notehead", "x")
            elif note is not None and "g" in note.effects:
                text_element(element, "notehead", "normal", parentheses="yes")
            self._notations(element, beat, note, links, bracket if place == 0 else (False, False), place == 0)
            if place == 0:
                for line, words in enumerate(beat.effects.get("lyrics", ())):
                    lyric = SubElement(element, "lyric", {"number": str(line + 1)})
                    text_element(lyric, "text", words)
            if note is not None and "pm" in note.effects:
                text_element(SubElement(element, "play"), "mute", "palm")
            yield element

    def _head(self, element: Element, note: Note | None, whole_bar: bool) -> None:
        if note is None:
            SubElement(element, "rest", {"measure": "yes"} if whole_bar else {})
            return
        tuning = DEFAULT_TUNING if self.staff.tuning is None else self.staff.tuning
        if note.fret >= 0 and 1 <= note.string <= len(tuning):
            number = pitch_number(tuning[note.string - 1]) + self.staff.capo + note.fret
        elif note.pitch and PITCH.match(note.pitch):
            number = pitch_number(note.pitch)
        else:
            unpitched = SubElement(element, "unpitched")
            text_element(unpitched, "display-step", "C")
            text_element(unpitched, "display-octave", 5)
            return
        step, alter, octave = spelled(number, self.fifths)
        pitch = SubElement(element, "pitch")
        text_element(pitch, "step", step)
        if alter:
            text_element(pitch, "alter", alter)
        text_element(pitch, "octave", octave)

    @staticmethod
    def _value(element: Element, beat: Beat) -> None:
        text_element(element, "type", _TYPES[beat.duration])
        for _ in range(beat.dots):
            SubElement(element, "dot")
        if beat.tuplet:
            ratio = SubElement(element, "time-modification")
            text_element(ratio, "actual-notes", beat.tuplet[0])
            text_element(ratio, "normal-notes", beat.tuplet[1])

    def _notations(
        self, element: Element, beat: Beat, note: Note | None, links: NoteLinks, bracket: tuple[bool, bool], first: bool
    ) -> None:
        notations = Element("notations")
        groups: dict[str, Element] = {}

        def group(name: str) -> Element:
            if not name:
                return notations
            if name not in groups:
                groups[name] = SubElement(notations, name)
            return groups[name]

        if note is not None:
            if "t" in note.effects:
                SubElement(notations, "tied", {"type": "stop"})
            if links.tie_start:
                SubElement(notations, "tied", {"type": "start"})
            if "lr" in note.effects:
                SubElement(notations, "tied", {"type": "let-ring"})
        for there, kind in zip(bracket, ("start", "stop"), strict=True):
            if there:
                SubElement(notations, "tuplet", {"type": kind})
        for items, kind in ((links.stops, "stop"), (links.starts, "start")):
            for name, tag, number, words in items:
                item = SubElement(group(name), tag, {"number": number, "type": kind})
                if words and kind == "start":
                    item.text = words
        if note is not None:
            self._techniques(note, beat, group)
        if first:
            _beat_notations(beat, group)
        if len(notations):
            element.append(notations)

    def _techniques(self, note: Note, beat: Beat, group: Callable[[str], Element]) -> None:
        if note.fret >= 0:
            text_element(group("technical"), "string", note.string)
            text_element(group("technical"), "fret", note.fret)
        if "be" in note.effects:
            _bends(group("technical"), [a for a in note.effects["be"] if not isinstance(a, str)])
        for name in note.effects:
            if name in _NOTE_SIGNS:
                SubElement(group(_NOTE_SIGNS[name][0]), _NOTE_SIGNS[name][1])
            elif name in _NAMED:
                text_element(group("technical"), "other-technical", _NAMED[name])
            elif name in _HARMONICS:
                harmonic = SubElement(group("technical"), "harmonic")
                SubElement(harmonic, _HARMONICS[name])
                # <pitch> is the fret that is touched or held, as in the tab, not the sound.
                SubElement(harmonic, "touching-pitch" if name == "nh" else "base-pitch")
            elif name in _FINGERS:
                tag, words = _FINGERS[name]
                finger = note.effects[name][0]
                if isinstance(finger, int) and 1 <= finger <= len(words):
                    text_element(group("technical"), tag, words[finger - 1])
        if {"v", "vw"} & note.effects.keys() or {"v"} & beat.effects.keys():
            # Start and stop on one note: a wavy line over that note only.
            for kind in ("start", "stop"):
                SubElement(group("ornaments"), "wavy-line", {"type": kind})


def _bends(technical: Element, numbers: list[int | float]) -> None:
    """Heights in quarter tones at places in the note, as steps of `<bend>` in semitones."""
    heights = [float(value) for value in numbers[1::2]]
    if not heights:
        return
    if heights[0]:
        bend = SubElement(technical, "bend")
        text_element(bend, "bend-alter", f"{heights[0] / 2:g}")
        SubElement(bend, "pre-bend")
    for before, after in pairwise(heights):
        if before != after:
            bend = SubElement(technical, "bend")
            text_element(bend, "bend-alter", f"{(after - before) / 2:g}")
            if after < before:
                SubElement(bend, "release")


def _beat_notations(beat: Beat, group: Callable[[str], Element]) -> None:
    for name, arguments in beat.effects.items():
        if name in _BEAT_SIGNS:
            SubElement(group(_BEAT_SIGNS[name][0]), _BEAT_SIGNS[name][1])
        elif name in _NAMED_BEAT:
            text_element(group("technical"), "other-technical", _NAMED_BEAT[name])
        elif name in ("bu", "au", "bd", "ad"):
            # A brush "down" is the hand's way: from the low strings to the high ones, which on paper points up.
            SubElement(group(""), "arpeggiate", {"direction": "up" if name[1] == "d" else "down"})
        elif name == "tp":
            marks = next((a for a in arguments if isinstance(a, int)), 3)
            text_element(group("ornaments"), "tremolo", marks, type="single")
        elif name == "fermata":
            shape = {"short": "angled", "long": "square"}.get(str(arguments[0]) if arguments else "", "normal")
            text_element(group(""), "fermata", shape, type="upright")
