"""Real music for guitar and bass: the music21 corpus, and folders of MIDI and MusicXML files.

A part is quantised, its bars are made to close, and it is laid on the fretboard with the least hand movement.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ..processing.alphatex_grammar import Bar, Beat, bars_close
from ..processing.errors import InputError
from .fretboard import lay_out
from .guitar_neck import TUNINGS, open_pitches
from .guitar_parts import Piece, make_staff
from .guitar_techniques import decorate, piece_rates, repair_links
from .music_events import SIXTEENTH, TICKS, Sound, bar_ticks, bars_of_beats, quantise

MIDI_SUFFIXES = (".mid", ".midi")
MUSICXML_SUFFIXES = (".musicxml", ".mxl", ".xml", ".abc", ".krn")
#: Collections of the music21 corpus that are used unless others are named: old music and folk tunes. The Essen
#: collection is left out, its licence is non-commercial.
CORPUS_COLLECTIONS = tuple(
    "bach ryansMammoth oneills1850 airdsAirs palestrina monteverdi trecento haydn mozart beethoven josquin".split()
)
MIN_SOUNDS = 16
MAX_BARS = 64
_KEYS = "cb gb db ab eb bb f c g d a e b f# c#".split()
_METRES = {(n, d) for d in (2, 4, 8, 16) for n in range(1, 16)}


@dataclass
class Part:
    """A part as it was read.

    Attributes:
        name: Name that its piece gets, stable over machines.
        work: Name shared by all parts and versions of one work; a split never cuts through it.
        sounds: In the order of their onsets.
        bars: First tick (48 to the quarter) and metre of each bar, without gaps.
        key: Key signature by fifths (-7 to 7), `None` when not told.
        tempo: Quarter notes a minute, `None` when not told.
        pick_up_ticks: How many ticks of the first bar are missing at its front.
        source: Where it came from.
    """

    name: str
    work: str
    sounds: list[Sound]
    bars: list[tuple[int, tuple[int, int]]]
    key: int | None = None
    tempo: int | None = None
    pick_up_ticks: int = 0
    source: str = "midi"


def piece_of_part(part: Part, max_bars: int = MAX_BARS) -> Piece | None:
    """A guitar or bass piece of a part; the same name always gives the same piece.

    Returns:
        `None` when the part has too few notes.
    """
    if len(part.sounds) < MIN_SOUNDS:
        return None
    seed = int.from_bytes(hashlib.sha256(part.name.encode()).digest()[:8], "big")
    rng = random.Random(seed)
    mean = sum(p for s in part.sounds for p in s.pitches) / sum(len(s.pitches) for s in part.sounds)
    count = rng.choices((4, 5), (3, 1))[0] if mean < 50 else rng.choices((6, 7), (12, 1))[0]
    tuning = TUNINGS[count]["standard"]
    strings = open_pitches(tuning)
    shift = _octaves(part.sounds, strings, rng)
    bars = part.bars[:max_bars]
    end = (bars[-1][0] + bar_ticks(bars[-1][1])) / TICKS
    sounds = [Sound(s.start, s.length, tuple(p + shift for p in s.pitches)) for s in part.sounds if s.start < end]
    events, ternary = quantise(sounds, bars)
    grips = lay_out([e[2] for e in events], [e[0] / TICKS for e in events], strings, rng.choice((9, 12, 15, 20)))
    voices = bars_of_beats(events, grips, bars, ternary, part.pick_up_ticks // SIXTEENTH * SIXTEENTH)
    voices, bars = _without_silence(voices, bars)
    manner = "bass" if count < 6 else rng.choice(("lead", "lead", "picking", "plain"))
    rates = {k: v * 0.7 for k, v in piece_rates(manner, rng).items() if k not in ("tie", "x", "nh", "pm")}
    flat = decorate([beat for bar in voices for beat in bar], rates, rng)
    repair_links(flat)
    staff_bars, at = [], 0
    for index, (bar, (_, metre)) in enumerate(zip(voices, bars, strict=True)):
        last, beats = bar[-1], []
        while True:
            beats.append(flat[at])
            at += 1
            if beats[-1] is last:
                break
        changed = index == 0 or metre != bars[index - 1][1]
        staff_bars.append(Bar(voices=[beats], time_signature=metre if changed else None))
    _finish(staff_bars, part)
    score = make_staff(staff_bars, count)
    if not bars_close(score):
        raise InputError(part.name, "its bars do not close")  # a fault of ours: it is listed, not hidden
    return Piece(score, part.name, kind="melody", tuning=tuning, source=part.source, work=part.work)


def _without_silence(voices: list[list[Beat]], bars: list[tuple[int, tuple[int, int]]]) -> tuple[list, list]:
    """Of several silent bars in a row keeps one: they teach nothing."""
    kept = [
        k for k, beats in enumerate(voices)
        if k == 0 or any(b.notes for b in beats) or any(b.notes for b in voices[k - 1])
    ]  # fmt: skip
    return [voices[k] for k in kept], [bars[k] for k in kept]


def _finish(bars: list[Bar], part: Part) -> None:
    if part.pick_up_ticks:
        bars[0].anacrusis = True
    if part.key is not None:
        bars[0].key_signature = _KEYS[part.key + 7]
    if part.tempo:
        bars[0].tempo = min(max(part.tempo, 40), 240)


def _octaves(sounds: Sequence[Sound], strings: tuple[int, ...], rng: random.Random) -> int:
    """Octaves, in semitones, that bring most pitches into the playable range."""
    pitches = [p for s in sounds for p in s.pitches]
    low, high = min(strings), max(strings) + rng.choice((7, 12, 15))
    return max(range(-48, 49, 12), key=lambda d: (sum(low <= p + d <= high for p in pitches), -abs(d)))


def _name(path: str | Path) -> str:
    return f"{Path(path).parent.name}/{Path(path).stem}"


def work_of(path: str | Path) -> str:
    """Name of the work: versions of one file (`001-v2`) share it."""
    return re.sub(r"[-_ ]?v\d+$", "", Path(path).stem)


# --- MIDI -------------------------------------------------------------------------------------------------------------


def read_midi(path: str | Path) -> list[Part]:
    """Parts of a MIDI file, one for each track that is not drums.

    Raises:
        InputError: The file can not be read as MIDI.
    """
    import symusic

    try:
        score: Any = symusic.Score(str(path))  # its time unit, and so its members, are unknown to its types
    except Exception as error:  # symusic raises plain RuntimeError and ValueError
        raise InputError(
            path, f"not a readable MIDI file ({str(error).splitlines()[0] if str(error) else 'empty'})"
        ) from error
    quarter = score.ticks_per_quarter
    metres = sorted((round(t.time / quarter * TICKS), (t.numerator, t.denominator)) for t in score.time_signatures)
    end = max((n.end for t in score.tracks for n in t.notes), default=0) / quarter * TICKS
    bars = _midi_bars(metres, int(end) + 1)
    key = score.key_signatures[0].key if score.key_signatures else None
    tempo = round(score.tempos[0].qpm) if score.tempos else None
    parts = []
    for index, track in enumerate(score.tracks):
        if track.is_drum or not track.notes:
            continue
        notes = sorted(track.notes, key=lambda n: (n.time, -n.pitch))
        sounds = [Sound(n.time / quarter, n.duration / quarter, (n.pitch,)) for n in notes]
        name, work = f"{_name(path)}-{index}", work_of(path)
        parts.append(
            _from_first_sound(Part(name, work, sounds, bars, key if key is not None and abs(key) <= 7 else None, tempo))
        )
    return parts


def _midi_bars(metres: list[tuple[int, tuple[int, int]]], end: int) -> list[tuple[int, tuple[int, int]]]:
    bars: list[tuple[int, tuple[int, int]]] = []
    metre, place = (4, 4), 0
    while place < end:
        for start, named in metres:
            if start <= place + 6 and named in _METRES:
                metre = named
        bars.append((place, metre))
        place += bar_ticks(metre)
    return bars or [(0, metre)]


def _from_first_sound(part: Part) -> Part:
    """Leaves out silent bars at the front."""
    first = part.sounds[0].start * TICKS + 6
    skip = max((i for i, (start, _) in enumerate(part.bars) if start <= first), default=0)
    offset = part.bars[skip][0]
    part.bars = [(start - offset, metre) for start, metre in part.bars[skip:]]
    part.sounds = [Sound(s.start - offset / TICKS, s.length, s.pitches) for s in part.sounds]
    return part


# --- MusicXML, abc, and the music21 corpus ----------------------------------------------------------------------------


def parts_of_stream(stream: object, name: str, work: str, source: str) -> Iterator[Part]:
    """Parts of a music21 stream; parts in metres that have no sixteenth grid are passed over."""
    from music21 import key as m21key
    from music21 import meter, tempo

    parts = list(stream.parts) or [stream]  # type: ignore[attr-defined]
    marks = [m.number for m in stream.flatten().getElementsByClass(tempo.MetronomeMark) if m.number]  # type: ignore[attr-defined]
    for index, raw in enumerate(parts):
        measures = list(raw.getElementsByClass("Measure"))
        if not measures:
            continue
        bars: list[tuple[int, tuple[int, int]]] = []
        sounds: list[Sound] = []
        metre, place, pick_up = (4, 4), 0, 0
        keys = list(raw.flatten().getElementsByClass(m21key.KeySignature))
        for number, measure in enumerate(measures):
            signature = next(iter(measure.getElementsByClass(meter.TimeSignature)), None)
            if signature is not None:
                metre = (signature.numerator, signature.denominator)
            if metre not in _METRES:
                break
            full = bar_ticks(metre)
            length = round(float(measure.duration.quarterLength) * TICKS)
            front = full - length if number == 0 and 0 < length < full else 0
            if number == 0:
                pick_up = front
            for element in measure.flatten().notes:
                pitches = tuple(p.midi for p in element.pitches)
                start = (place + front) / TICKS + float(element.offset)
                if not pitches or element.duration.isGrace or start >= (place + full) / TICKS:
                    continue
                if element.tie is not None and element.tie.type in ("stop", "continue") and sounds:
                    last = sounds[-1]
                    sounds[-1] = Sound(last.start, start + float(element.quarterLength) - last.start, last.pitches)
                else:
                    sounds.append(Sound(start, float(element.quarterLength), pitches))
            bars.append((place, metre))
            place += full
        if bars and sounds:
            sounds.sort(key=lambda s: s.start)
            fifths = keys[0].sharps if keys and abs(keys[0].sharps) <= 7 else None
            beats = round(marks[0]) if marks else None
            yield Part(f"{name}-{index}", work, sounds, bars, fifths, beats, pick_up, source)


def read_musicxml(path: str | Path, source: str = "musicxml") -> list[Part]:
    """Parts of a MusicXML, abc or kern file.

    Raises:
        InputError: music21 can not read the file.
    """
    from music21 import converter, stream

    try:
        loaded = converter.parse(str(path))
        works = list(loaded.scores) if isinstance(loaded, stream.Opus) else [loaded]
        found: list[Part] = []
        for k, one in enumerate(works):
            mark = f"-{k}" if len(works) > 1 else ""
            found += parts_of_stream(one, _name(path) + mark, work_of(path) + mark, source)
        return found
    except Exception as error:  # music21 raises many kinds
        raise InputError(path, f"not readable as music ({type(error).__name__})") from error


def corpus_paths(collections: Sequence[str] = CORPUS_COLLECTIONS, limit: int | None = None) -> list[Path]:
    """Files of the music21 corpus, in turn from each collection, always in the same order."""
    from music21 import corpus

    groups: dict[str, list[Path]] = {name: [] for name in collections}
    for path in (p for p in map(Path, corpus.getPaths()) if p.suffix.lower() in MUSICXML_SUFFIXES):
        group = next((name for name in (path.parent.name, path.parent.parent.name) if name in groups), None)
        if group:
            groups[group].append(path)
    for group_paths in groups.values():
        group_paths.sort(key=lambda p: hashlib.sha256(p.name.encode()).digest())
    turns = zip_longest(*groups.values())
    return [path for turn in turns for path in turn if path is not None][:limit]


def source_files(source: str | Path) -> list[Path]:
    """Music files of a folder (or the file itself), sorted.

    Raises:
        InputError: There is no such file or folder.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(source, "no such file or folder")
    return sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in MIDI_SUFFIXES + MUSICXML_SUFFIXES)


def pieces_of_file(path: str | Path, source: str | None = None) -> list[Piece]:
    """Guitar and bass pieces of one MIDI or MusicXML file.

    Raises:
        InputError: The file can not be read.
    """
    midi = Path(path).suffix.lower() in MIDI_SUFFIXES
    parts = read_midi(path) if midi else read_musicxml(path, source or "musicxml")
    if source:
        for part in parts:
            part.source = source
    return [piece for piece in map(piece_of_part, parts) if piece is not None]
