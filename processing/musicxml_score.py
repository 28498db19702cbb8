"""MusicXML to a performance: what is written becomes notes in time.

Read: pitches (sounding, also of transposing instruments), ties, several voices and staves, metres, pick-ups and other
irregular bars, key signatures, tempo and dynamics marks, programs. Not heard: repeats and jumps (every bar once),
hairpins, articulations, ornaments, grace and cue notes, unpitched percussion.

Reading the XML directly takes milliseconds; music21 takes seconds, and would be needed by whoever paints from a score.
"""

from __future__ import annotations

import zipfile
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from .errors import InputError

TICKS = 480  # a quarter note
MAX_XML_BYTES = 200_000_000
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_DYNAMICS = {
    "pppp": 10, "ppp": 16, "pp": 33, "p": 49, "mp": 64, "mf": 80, "f": 96, "ff": 112, "fff": 126, "ffff": 127,
    "fp": 49, "sfp": 49, "pf": 96,
}  # fmt: skip
_DEFAULT_VELOCITY = _DYNAMICS["mf"]
_BEAT_UNITS = {"breve": 8, "whole": 4, "half": 2, "quarter": 1, "eighth": 0.5, "16th": 0.25, "32nd": 0.125}


@dataclass
class _Note:
    measure: int
    start: int  # ticks in its measure
    length: int
    pitch: int
    stops: bool  # ends a tie: it is no onset of its own


@dataclass
class _Part:
    """One part as it is written; places are (measure, ticks in the measure)."""

    name: str
    program: int
    notes: list[_Note] = field(default_factory=list)
    extents: list[int] = field(default_factory=list)
    dynamics: list[tuple[int, int, int]] = field(default_factory=list)
    tempos: list[tuple[int, int, float]] = field(default_factory=list)
    metres: dict[int, tuple[int, int]] = field(default_factory=dict)
    keys: dict[int, tuple[int, int]] = field(default_factory=dict)


def _document(path: Path) -> Element:
    """Root of a `.musicxml`, `.xml` or compressed `.mxl` file."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = [n for n in archive.namelist() if not n.startswith("META-INF")]
                names = [n for n in names if n.lower().endswith((".musicxml", ".xml"))]
                if "META-INF/container.xml" in archive.namelist():
                    container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
                    named = [e.get("full-path") for e in container.iter() if e.tag.endswith("rootfile")]
                    names = [n for n in named if n in archive.namelist()] or names
                if not names:
                    raise InputError(path, "an archive without a MusicXML file in it")
                if archive.getinfo(names[0]).file_size > MAX_XML_BYTES:
                    raise InputError(path, f"over {MAX_XML_BYTES // 1_000_000} MB of XML; split it")
                data = archive.read(names[0])
        else:
            data = path.read_bytes()
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
        raise InputError(path, f"not a readable MusicXML file ({' '.join(str(error).split())})") from error


def _number(element: Element, name: str, default: float = 0) -> float:
    try:
        return float(element.findtext(name) or default)
    except ValueError:
        return default


def _pitch(note: Element, shift: int) -> int | None:
    pitch = note.find("pitch")
    if pitch is None or pitch.findtext("step") not in _STEPS:
        return None
    midi = 12 * (int(_number(pitch, "octave", 4)) + 1) + _STEPS[pitch.findtext("step") or "C"]
    midi += round(_number(pitch, "alter")) + shift
    return midi if 0 <= midi <= 127 else None


class _PartReader:
    """Walks through one part."""

    def __init__(self, element: Element, part: _Part) -> None:
        self.element, self.part = element, part
        self.divisions, self.shift = 1.0, 0

    def read(self) -> _Part:
        for index, measure in enumerate(self.element.findall("measure")):
            self.index, self.place, self.previous, extent = index, 0.0, 0.0, 0.0
            for child in measure:
                self._child(child)
                extent = max(extent, self.place)
            self.part.extents.append(self._ticks(extent))
        return self.part

    def _ticks(self, place: float) -> int:
        return round(place * TICKS / self.divisions)

    def _child(self, child: Element) -> None:
        if child.tag == "note":
            self._note(child)
        elif child.tag in ("backup", "forward"):
            step = _number(child, "duration")
            self.place = max(0.0, self.place + (step if child.tag == "forward" else -step))
        elif child.tag == "attributes":
            self._attributes(child)
        elif child.tag == "direction":
            self._direction(child)
        elif child.tag == "sound":
            self._tempo(child.get("tempo"))

    def _note(self, note: Element) -> None:
        if note.find("grace") is not None or note.find("cue") is not None:
            return
        length = _number(note, "duration")
        chord = note.find("chord") is not None
        start = self.previous if chord else self.place
        pitch = None if note.find("rest") is not None else _pitch(note, self.shift)
        if pitch is not None and length > 0:
            stops = any(tie.get("type") == "stop" for tie in note.findall("tie"))
            first = self._ticks(start)
            self.part.notes.append(_Note(self.index, first, self._ticks(start + length) - first, pitch, stops))
        if not chord:
            self.previous = self.place
            self.place += length

    def _attributes(self, attributes: Element) -> None:
        divisions = _number(attributes, "divisions")
        if divisions > 0:
            self.place *= divisions / self.divisions
            self.divisions = divisions
        for time in attributes.findall("time")[:1]:
            beats, unit = time.findtext("beats") or "", time.findtext("beat-type") or ""
            counts = [int(b) for b in beats.replace("+", " ").split() if b.isdigit()]
            if counts and unit.isdigit() and int(unit) in (1, 2, 4, 8, 16, 32) and 0 < sum(counts) <= 64:
                self.part.metres[self.index] = (sum(counts), int(unit))
        for key in attributes.findall("key")[:1]:
            fifths = int(_number(key, "fifths"))
            if abs(fifths) <= 7:
                self.part.keys[self.index] = (fifths, int(key.findtext("mode") == "minor"))
        for move in attributes.findall("transpose")[:1]:
            self.shift = int(_number(move, "chromatic")) + 12 * int(_number(move, "octave-change"))

    def _direction(self, direction: Element) -> None:
        sound = direction.find("sound")
        marks = [
            mark.tag for kind in direction.findall("direction-type") for d in kind.findall("dynamics") for mark in d
        ]
        velocity = next((_DYNAMICS[mark] for mark in marks if mark in _DYNAMICS), None)
        if velocity is not None:
            self.part.dynamics.append((self.index, self._ticks(self.place), velocity))
        if sound is not None and sound.get("tempo"):
            self._tempo(sound.get("tempo"))
            return
        for metronome in direction.iter("metronome"):
            unit = _BEAT_UNITS.get(metronome.findtext("beat-unit") or "")
            if unit:
                dotted = 1.5 if metronome.find("beat-unit-dot") is not None else 1
                self._tempo((metronome.findtext("per-minute") or "").strip("()c. ="), unit * dotted)

    def _tempo(self, text: str | None, unit: float = 1) -> None:
        try:
            tempo = float(text or 0) * unit
        except ValueError:
            return
        if 5 <= tempo <= 1000:
            self.part.tempos.append((self.index, self._ticks(self.place), tempo))


def _metre_of(length: int) -> tuple[int, int]:
    """Metre of an irregular bar, by its ticks."""
    part = Fraction(length, TICKS * 4)
    unit = next((u for u in (4, 8, 16, 32) if (part * u).denominator == 1), 32)
    return max(1, round(part * unit)), unit


def _measures(parts: list[_Part]) -> list[tuple[int, tuple[int, int], int]]:
    """First tick, metre, and ticks that are missing at the front (a pick-up) of each measure."""
    out: list[tuple[int, tuple[int, int], int]] = []
    place, metre = 0, (4, 4)
    metres = {k: m for part in reversed(parts) for k, m in part.metres.items()}
    for index in range(max((len(part.extents) for part in parts), default=0)):
        metre = metres.get(index, metre)
        full = TICKS * 4 * metre[0] // metre[1]
        length = max((part.extents[index] for part in parts if index < len(part.extents)), default=0) or full
        front = full - length if index == 0 and length < full else 0
        length += front
        out.append((place, metre if length == full else _metre_of(length), front))
        named = out[-1][1]
        place += TICKS * 4 * named[0] // named[1]
    return out


def _sounding(part: _Part, begins: list[int]) -> Iterator[tuple[int, int, int]]:
    """Onset, length (ticks of the piece) and pitch of each note, ties joined."""
    placed = sorted(
        ((begins[n.measure] + n.start, n.pitch, n.length, n.stops) for n in part.notes), key=lambda n: n[:3]
    )
    open_notes: dict[int, list[int]] = {}
    for start, pitch, length, stops in placed:
        last = open_notes.get(pitch)
        if stops and last is not None and abs(last[1] - start) <= TICKS // 32:
            last[1] = start + length
            continue
        if last is not None:
            yield last[0], last[1] - last[0], pitch
        open_notes[pitch] = [start, start + length]
    for pitch, (start, stop) in open_notes.items():
        yield start, stop - start, pitch


def _program(entry: Element) -> int:
    number = _number(entry, "midi-instrument/midi-program", 1)
    return int(number) - 1 if 1 <= number <= 128 else 0


def _head(root: Element) -> tuple[str, str]:
    """Title and composer."""
    named = [root.findtext("work/work-title"), root.findtext("movement-title")]
    titles = list(dict.fromkeys(" ".join(t.split()) for t in named if t and t.strip()))
    people = root.findall("identification/creator")
    composer = next((p.text for p in people if p.get("type") == "composer" and p.text), "")
    return ": ".join(titles), " ".join(composer.split())


def read_musicxml_score(path: str | PathLike[str]) -> tuple[Any, str, str]:
    """Score, title and composer of a MusicXML file.

    Returns:
        `symusic.Score` in ticks, 480 to the quarter, one track for each part; its time signatures put a bar line at
        each bar of the file, also at irregular ones. Title and composer are empty where the file has none.

    Raises:
        InputError: Not MusicXML, or no notes in it.
    """
    import symusic

    path = Path(path)
    root = _document(path)
    if root.tag != "score-partwise":
        raise InputError(path, f"its root is <{root.tag}>; only partwise MusicXML can be read")
    entries = {entry.get("id"): entry for entry in root.iter("score-part")}
    parts = []
    for element in root.findall("part"):
        entry = entries.get(element.get("id"), Element("score-part"))
        name = " ".join((entry.findtext("part-name") or "").split())
        parts.append(_PartReader(element, _Part(name, _program(entry))).read())
    measures = _measures(parts)
    begins = [place + front for place, _, front in measures]
    score: Any = symusic.Score(TICKS)
    before = None
    for place, metre, _ in measures:
        if metre != before:
            score.time_signatures.append(symusic.TimeSignature(place, *metre))
        before = metre
    tempos = {begins[m] + t: q for part in reversed(parts) for m, t, q in part.tempos}
    for place, tempo in sorted(tempos.items()):
        score.tempos.append(symusic.Tempo(place, tempo))
    for index, (fifths, minor) in sorted({k: v for part in reversed(parts) for k, v in part.keys.items()}.items()):
        score.key_signatures.append(symusic.KeySignature(measures[index][0], fifths, minor))
    for part in parts:
        if part.notes:
            score.tracks.append(_track(part, begins))
    if not len(score.tracks):
        raise InputError(path, "has no pitched notes")
    return score, *_head(root)


def _track(part: _Part, begins: list[int]) -> Any:
    import symusic

    marks = sorted((begins[m] + t, v) for m, t, v in part.dynamics)
    places = [place for place, _ in marks]
    track: Any = symusic.Track(part.name, part.program, False)
    for start, length, pitch in sorted(_sounding(part, begins)):
        at = bisect_right(places, start) - 1
        track.notes.append(symusic.Note(start, length, pitch, marks[at][1] if at >= 0 else _DEFAULT_VELOCITY))
    return track
