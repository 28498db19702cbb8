"""A typed score as MusicXML 4.0, for MuseScore, Finale, Dorico and all that can not read alphaTex.

Tab is written as MusicXML means it: a TAB clef, `<staff-details>` with the lines and their tuning, and string and fret
on every note beside its sounding pitch. A staff that shows score and tab is written once, as tab: the notation program
adds the other view, and nothing is played twice.

Not written, because MusicXML or its readers have no place for it: triplet feel, chord diagrams, simile marks, beaming
and stem hints, legato lines over beats, jumps other than segno, coda and fine. Pick slides, slap, pop, fades, wah and
tremolo bar go into `<other-technical>`.
"""

from __future__ import annotations

from fractions import Fraction
from math import lcm
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from .alphatex_bars import bar_capacity, metres, voice_length
from .alphatex_types import DEFAULT_TUNING, Bar, Beat, Score, Staff, Track
from .alphatex_visible import canonical_key
from .musicxml_notes import BeatWriter, link_notes, pitch_number, spelled, text_element, tuplet_marks

_HEADER = (
    '<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n'
    '<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" '
    '"http://www.musicxml.org/dtds/partwise.dtd">\n'
)
_CLEFS = {"g2": ("G", 2), "f4": ("F", 4), "c3": ("C", 3), "c4": ("C", 4), "neutral": ("percussion", 0)}
_JUMPS = {"segno": "segno", "coda": "coda"}


def _fifths(key: str | None) -> int:
    """Sharps of a key, negative for flats."""
    if key is None:
        return 0
    name = canonical_key(key)
    return "fcgdaeb".index(name[0]) - 1 + 7 * (name.count("#") - name[1:].count("b"))


def to_musicxml(score: Score) -> str:
    """MusicXML 4.0, partwise, one part for each staff.

    Args:
        score: Any score that `read_alphatex` gives.

    Returns:
        The document, with its XML header. The same score gives the same text.
    """
    root = Element("score-partwise", {"version": "4.0"})
    _write_head(root, score)
    names = SubElement(root, "part-list")
    pairs = [(track, staff) for track in score.tracks for staff in track.staves]
    marks = pairs[0][1].bars if pairs else []
    measures = metres(score)
    for number, (track, staff) in enumerate(pairs, start=1):
        entry = SubElement(names, "score-part", {"id": f"P{number}"})
        text_element(entry, "part-name", track.name or _default_name(track, staff))
        if track.short_name:
            text_element(entry, "part-abbreviation", track.short_name)
        part = SubElement(root, "part", {"id": f"P{number}"})
        _PartWriter(part, staff, marks, measures).write()
    indent(root, space=" ")
    return _HEADER + tostring(root, encoding="unicode") + "\n"


def _default_name(track: Track, staff: Staff) -> str:
    if staff.percussion:
        return "Drums"
    if staff.tuning == ():
        return "Music"
    return "Bass" if staff.strings < 6 else "Guitar"


def _write_head(root: Element, score: Score) -> None:
    if score.title:
        text_element(SubElement(root, "work"), "work-title", score.title)
    if score.subtitle:
        text_element(root, "movement-title", score.subtitle)
    people = [("composer", score.music or score.artist), ("lyricist", score.words), ("arranger", score.transcriber)]
    if score.copyright or any(name for _, name in people):
        identification = SubElement(root, "identification")
        for kind, name in people:
            if name:
                text_element(identification, "creator", name, type=kind)
        if score.copyright:
            text_element(identification, "rights", score.copyright)


def _divisions(staff: Staff) -> int:
    lengths = [beat.length for bar in staff.bars for voice in bar.voices for beat in voice]
    return lcm(1, *((length * 4).denominator for length in lengths))


class _PartWriter:
    """Writes one staff as one part."""

    def __init__(self, part: Element, staff: Staff, marks: list[Bar], measures: list[tuple[int, int]]) -> None:
        self.part = part
        self.staff = staff
        self.marks = marks  # bars of the first staff: repeats, tempo and sections are written there for all
        self.metres = measures
        # A bar of a metre such as 3/16 must be countable too, for rests of a whole bar.
        units = [(bar_capacity(metre) * 4).denominator for metre in measures]
        self.beats = BeatWriter(staff, lcm(_divisions(staff), *units))
        voices = max((len(bar.voices) for bar in staff.bars), default=0)
        self.links = [
            link_notes([beat for bar in staff.bars if len(bar.voices) > index for beat in bar.voices[index]])
            for index in range(voices)
        ]
        self.wedge_open = False

    def write(self) -> None:
        short_start = bool(self.marks and self.marks[0].anacrusis)
        for index, bar in enumerate(self.staff.bars):
            shared = self.marks[index] if index < len(self.marks) else Bar()
            attributes = {"number": str(index if short_start else index + 1)}
            if shared.anacrusis or bar.anacrusis:
                attributes["implicit"] = "yes"
            measure = SubElement(self.part, "measure", attributes)
            self._left_barline(measure, index, shared)
            self._attributes(measure, index, bar)
            self._directions(measure, bar, shared)
            self._voices(measure, index, bar)
            self._right_barline(measure, index, shared)
        if not self.staff.bars:
            SubElement(self.part, "measure", {"number": "1"})

    def _endings(self, index: int) -> tuple[int, ...]:
        return self.marks[index].endings if 0 <= index < len(self.marks) else ()

    def _left_barline(self, measure: Element, index: int, shared: Bar) -> None:
        starts = shared.endings and shared.endings != self._endings(index - 1)
        if not (starts or shared.repeat_open):
            return
        barline = SubElement(measure, "barline", {"location": "left"})
        if shared.repeat_open:
            text_element(barline, "bar-style", "heavy-light")
        if starts:
            numbers = ", ".join(map(str, shared.endings))
            SubElement(barline, "ending", {"number": numbers, "type": "start"})
        if shared.repeat_open:
            SubElement(barline, "repeat", {"direction": "forward"})

    def _right_barline(self, measure: Element, index: int, shared: Bar) -> None:
        stops = shared.endings and (shared.endings != self._endings(index + 1) or shared.repeat_close)
        if not (stops or shared.repeat_close):
            return
        barline = SubElement(measure, "barline", {"location": "right"})
        if shared.repeat_close:
            text_element(barline, "bar-style", "light-heavy")
        if stops:
            kind = "stop" if shared.repeat_close else "discontinue"
            SubElement(barline, "ending", {"number": ", ".join(map(str, shared.endings)), "type": kind})
        if shared.repeat_close:
            SubElement(barline, "repeat", {"direction": "backward", "times": str(shared.repeat_close)})

    def _attributes(self, measure: Element, index: int, bar: Bar) -> None:
        first = index == 0
        attributes = Element("attributes")
        if first:
            text_element(attributes, "divisions", self.beats.divisions)
        if first or bar.key_signature is not None:
            self.beats.fifths = _fifths(bar.key_signature)
            text_element(SubElement(attributes, "key"), "fifths", self.beats.fifths)
        if index < len(self.metres) and (first or self.metres[index] != self.metres[index - 1]):
            time = SubElement(attributes, "time")
            text_element(time, "beats", self.metres[index][0])
            text_element(time, "beat-type", self.metres[index][1])
        if first or "clef" in bar.other:
            self._clef(attributes, str(bar.other.get("clef", ("g2",))[0]).lower(), first)
        if first and self._is_tab:
            self._staff_details(attributes)
        if len(attributes):
            measure.append(attributes)

    @property
    def _is_tab(self) -> bool:
        return not self.staff.percussion and self.staff.tuning != ()

    def _clef(self, attributes: Element, name: str, first: bool) -> None:
        if self._is_tab and "tabs" in self.staff.show:
            if first:
                clef = SubElement(attributes, "clef")
                text_element(clef, "sign", "TAB")
                text_element(clef, "line", 5 if self.staff.strings > 4 else self.staff.strings)
            return
        sign, line = _CLEFS["neutral"] if self.staff.percussion else _CLEFS.get(name, _CLEFS["g2"])
        clef = SubElement(attributes, "clef")
        text_element(clef, "sign", sign)
        if line:
            text_element(clef, "line", line)
        if self._is_tab:  # a guitar sounds an octave lower than it is written
            text_element(clef, "clef-octave-change", -1)

    def _staff_details(self, attributes: Element) -> None:
        tuning = DEFAULT_TUNING if self.staff.tuning is None else self.staff.tuning
        details = SubElement(attributes, "staff-details")
        text_element(details, "staff-lines", len(tuning))
        for line, name in enumerate(reversed(tuning), start=1):  # line 1 is the lowest
            string = SubElement(details, "staff-tuning", {"line": str(line)})
            step, alter, octave = spelled(pitch_number(name), 0)
            text_element(string, "tuning-step", step)
            if alter:
                text_element(string, "tuning-alter", alter)
            text_element(string, "tuning-octave", octave)
        if self.staff.capo:
            text_element(details, "capo", self.staff.capo)

    def _directions(self, measure: Element, bar: Bar, shared: Bar) -> None:
        if bar is shared:  # the first part says what belongs to all
            if shared.section is not None:
                text_element(_direction(measure), "rehearsal", shared.section)
            if shared.tempo is not None:
                metronome = SubElement(_direction(measure), "metronome")
                text_element(metronome, "beat-unit", "quarter")
                text_element(metronome, "per-minute", f"{shared.tempo:g}")
                SubElement(measure[-1], "sound", {"tempo": f"{shared.tempo:g}"})
            for name, *_ in shared.other.get("jump", ()):
                if name in _JUMPS:
                    SubElement(_direction(measure), _JUMPS[name])
                elif name == "fine":
                    text_element(_direction(measure), "words", "Fine")
                    SubElement(measure[-1], "sound", {"fine": "yes"})

    def _voices(self, measure: Element, index: int, bar: Bar) -> None:
        capacity = bar_capacity(self.metres[index]) if index < len(self.metres) else Fraction(1)
        voices = [(number, beats) for number, beats in enumerate(bar.voices, start=1) if beats]
        if not voices:
            rest = Beat(duration=1)
            measure.extend(self.beats.write(rest, 1, (False, False), capacity))
        back = Fraction(0)
        for number, beats in voices:
            if back:
                text_element(SubElement(measure, "backup"), "duration", self.beats.units(back))
            self.beats.links = self.links[number - 1]
            full_rest = len(beats) == 1 and beats[0].is_rest and beats[0].duration == 1 and not beats[0].dots
            brackets = tuplet_marks(beats)
            for position, beat in enumerate(beats):
                self._beat_directions(measure, beat)
                whole = capacity if full_rest else None
                measure.extend(self.beats.write(beat, number, brackets.get(position, (False, False)), whole))
            back = capacity if full_rest else voice_length(beats)

    def _beat_directions(self, measure: Element, beat: Beat) -> None:
        wedge = {"cre": "crescendo", "dec": "diminuendo"}
        kind = next((wedge[name] for name in wedge if name in beat.effects), "")
        if self.wedge_open and not kind:
            SubElement(_direction(measure, "below"), "wedge", {"type": "stop"})
            self.wedge_open = False
        elif kind and not self.wedge_open:
            SubElement(_direction(measure, "below"), "wedge", {"type": kind})
            self.wedge_open = True
        if "dy" in beat.effects:
            SubElement(SubElement(_direction(measure, "below"), "dynamics"), str(beat.effects["dy"][0]))
        for name in ("ch", "txt"):
            if beat.effects.get(name):
                text_element(_direction(measure), "words", beat.effects[name][0])


def _direction(measure: Element, placement: str = "above") -> Element:
    """A new `<direction>` at this place of the measure; returns its `<direction-type>`."""
    return SubElement(SubElement(measure, "direction", {"placement": placement}), "direction-type")
