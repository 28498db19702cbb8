"""Pieces of music as performances: the music21 corpus, and folders of MIDI, MusicXML, ABC and Humdrum files.

MIDI is read by symusic and MusicXML by our own reader; what neither can read goes to music21. Two things that files
leave out are found beside them: POP909 (https://github.com/music-x-lab/POP909-Dataset, MIT) keeps its bar lines in
`beat_midi.txt` and its titles in `index.xlsx`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..processing.errors import InputError
from ..processing.score_files import MIDI_SUFFIXES, MUSICXML_SUFFIXES, read_score_file
from .guitar_parts import split_of
from .music_events import TICKS
from .music_sources import CORPUS_COLLECTIONS, corpus_paths, parts_of_stream, work_of

MUSIC21_SUFFIXES = (".abc", ".krn")
#: Collections of the music21 corpus; the ABC files of josquin have no bar lines that music21 keeps.
COLLECTIONS = tuple(name for name in CORPUS_COLLECTIONS if name != "josquin")
SUFFIXES = MIDI_SUFFIXES + MUSICXML_SUFFIXES + MUSIC21_SUFFIXES
_BEAT_TICKS = 480
_MAX_GRID_DISTANCE = 0.024  # quarters; files made on a grid lie below 0.01, free ones at 0.035
_VELOCITY = 80  # mezzo forte, for formats without dynamics


@dataclass(frozen=True)
class SourceFile:
    """A file to be read.

    Attributes:
        path: Where it lies.
        source: Name of its source.
        name: Name below the source, the same on every machine.
    """

    path: str
    source: str
    name: str

    @property
    def split(self) -> str:
        """Split of all that is in the file, by hash of the work's name alone; movements of one folder are one work."""
        place = Path(self.name)
        return split_of(place.parent.name if place.name.lower().startswith("movement") else work_of(self.name))


@dataclass
class Piece:
    """One piece.

    Attributes:
        score: `symusic.Score` in ticks; its time signatures put a bar line at every bar.
        piece_id: Its name, the same on every machine.
        title: Title, or the name of the file.
        composer: Composer (or artist), empty when not told.
    """

    score: Any
    piece_id: str
    title: str
    composer: str = ""


# --- Which files ------------------------------------------------------------------------------------------------------


def files_of_source(source: str) -> list[SourceFile]:
    """Music files of a folder, or one file; `NAME=PATH` gives the source another name than the folder's.

    Raises:
        InputError: There is no such file or folder, or no music in it.
    """
    name, _, place = source.rpartition("=")
    path = Path(source)
    if name and not path.exists():
        path = Path(place)
    name = (name if path != Path(source) else "") or (path.resolve().parent if path.is_file() else path.resolve()).name
    if path.is_file():
        return [SourceFile(str(path), name, path.stem)]
    if not path.is_dir():
        raise InputError(source, "no such file or folder")
    found = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(source, f"no file there ends in {', '.join(SUFFIXES)}")
    return [SourceFile(str(p), name, p.relative_to(path).with_suffix("").as_posix()) for p in found]


def files_of_corpus(limit: int | None, collections: Sequence[str] = COLLECTIONS) -> list[SourceFile]:
    """Files of the music21 corpus, in turn from each collection; `None` for all.

    Raises:
        InputError: music21 is not installed.
    """
    _music21()
    files = []
    for path in corpus_paths(collections, limit):
        group = next(name for name in (path.parent.name, path.parent.parent.name) if name in collections)
        name = path.stem if path.parent.name == group else f"{path.parent.name}/{path.stem}"
        files.append(SourceFile(str(path), f"music21-{group}", name))
    return files


def _music21() -> Any:
    try:
        import music21
    except ImportError as error:
        raise InputError(None, "this needs music21; install intermezzo[data]") from error
    return music21


# --- Reading ----------------------------------------------------------------------------------------------------------


def read_pieces(file: SourceFile) -> list[Piece]:
    """Pieces of one file; only ABC files may hold several.

    Raises:
        InputError: It can not be read, or it is a MIDI file whose notes lie on no grid.
    """
    path, piece_id = Path(file.path), f"{file.source}/{file.name}"
    if path.suffix.lower() in MUSIC21_SUFFIXES:
        pieces = _pieces_by_music21(path, piece_id)
    else:
        found = read_score_file(path)
        pieces = [Piece(found.score, piece_id, found.title.removesuffix(path.suffix) or path.stem, found.composer)]
        if path.suffix.lower() in MIDI_SUFFIXES and (path.parent / "beat_midi.txt").is_file():
            pieces[0].score = _with_bars(found.score, path.parent / "beat_midi.txt")
            titles = _pop909_titles(str(path.parent.parent / "index.xlsx"))
            pieces[0].title, pieces[0].composer = titles.get(path.parent.name, (path.stem, ""))
    if path.suffix.lower() in MIDI_SUFFIXES and (distance := grid_distance(pieces[0].score)) > _MAX_GRID_DISTANCE:
        raise InputError(
            path, f"its notes lie on no grid (mean distance {distance:.3f} quarters): a performance without a beat"
        )
    return pieces


def grid_distance(score: Any) -> float:
    """Mean distance of onsets, in quarters, to the nearest sixteenth or triplet, whichever is nearer.

    Notes without any grid have 0.035. A common shift of all onsets does not count.
    """
    onsets = np.concatenate([t.notes.numpy()["time"] for t in score.tracks if len(t.notes)] or [np.zeros(0)])
    if not len(onsets):
        return 0.0
    places = onsets / score.ticks_per_quarter
    places = places - np.angle(np.exp(8j * np.pi * places).mean()) / (8 * np.pi)
    return float(np.min([np.abs(places * n - np.round(places * n)) / n for n in (4, 6)], axis=0).mean())


def _pieces_by_music21(path: Path, piece_id: str) -> list[Piece]:
    music21 = _music21()
    try:
        loaded = music21.converter.parse(str(path))
        tunes = list(loaded.scores) if isinstance(loaded, music21.stream.Opus) else [loaded]
        pieces = []
        for k, tune in enumerate(tunes):
            name = f"{piece_id}-{k}" if len(tunes) > 1 else piece_id
            parts = list(parts_of_stream(tune, name, name, ""))
            about = tune.metadata
            title, composer = (about.title or "", about.composer or "") if about is not None else ("", "")
            if parts:
                pieces.append(Piece(_score_of_parts(parts), name, title or path.stem, composer))
    except Exception as error:  # music21 raises many kinds
        raise InputError(path, f"not readable as music ({type(error).__name__})") from error
    if not pieces:
        raise InputError(path, "has no notes in bars")
    return pieces


def _score_of_parts(parts: list[Any]) -> Any:
    """Score of parts of `music_sources`; their ticks are 48 to the quarter."""
    import symusic

    score: Any = symusic.Score(TICKS)
    before = None
    longest = max(parts, key=lambda part: len(part.bars))
    for place, metre in longest.bars:
        if metre != before:
            score.time_signatures.append(symusic.TimeSignature(place, *metre))
        before = metre
    if parts[0].tempo:
        score.tempos.append(symusic.Tempo(0, float(parts[0].tempo)))
    if parts[0].key is not None:
        score.key_signatures.append(symusic.KeySignature(0, parts[0].key, 0))
    for part in parts:
        track: Any = symusic.Track(part.name.rpartition("/")[2], 0, False)
        for sound in part.sounds:
            start, stop = round(sound.start * TICKS), round((sound.start + sound.length) * TICKS)
            for pitch in sound.pitches:
                track.notes.append(symusic.Note(start, max(stop - start, 1), pitch, _VELOCITY))
        score.tracks.append(track)
    return score


# --- POP909 -----------------------------------------------------------------------------------------------------------


def _ticks_of_seconds(score: Any, seconds: np.ndarray) -> np.ndarray:
    marks = sorted((t.time, t.mspq) for t in score.tempos) or [(0, 500_000)]
    places = np.array([0, *(t for t, _ in marks[1:])], dtype=np.float64)
    rates = score.ticks_per_quarter * 1e6 / np.array([m for _, m in marks], dtype=np.float64)  # ticks a second
    starts = np.concatenate([[0.0], np.cumsum(np.diff(places) / rates[:-1])])
    at = np.maximum(np.searchsorted(starts, seconds, side="right") - 1, 0)
    return places[at] + (seconds - starts[at]) * rates[at]


def _with_bars(score: Any, beats_file: Path) -> Any:
    """The score as its beat file hears it: a quarter for each beat, bars where they begin there, one mean tempo.

    Columns: time in seconds; first beat of a bar in simple metre; first beat of a bar of twice the length. Times are
    taken from the beats and not from the ticks, since some files of POP909 keep their ticks at a wrong tempo.
    """
    import symusic

    try:
        rows = np.loadtxt(beats_file, ndmin=2)
        seconds, single, double = rows[:, 0], np.flatnonzero(rows[:, 1] == 1), np.flatnonzero(rows[:, 2] == 1)
    except (ValueError, IndexError) as error:
        raise InputError(beats_file, "not a list of beats in three columns") from error
    ternary = len(single) > 1 and np.median(np.diff(single)) == 3
    count, firsts = (3, single) if ternary else (4, double)
    if len(firsts) < 2 or (np.diff(seconds) <= 0).any():
        raise InputError(beats_file, "names no bars, or beats that do not go on in time")
    beats = _ticks_of_seconds(score, seconds)
    front = -int(firsts[0]) % count  # beats before the first bar that make it a whole one

    def place(ticks: np.ndarray) -> np.ndarray:
        at = np.clip(np.searchsorted(beats, ticks, side="right") - 1, 0, len(beats) - 2)
        return np.round((at + (ticks - beats[at]) / (beats[at + 1] - beats[at]) + front) * _BEAT_TICKS)

    moved: Any = symusic.Score(_BEAT_TICKS)
    moved.tempos.append(symusic.Tempo(0, float(60 / np.median(np.diff(seconds)))))
    bar, before = firsts[0] + front, count
    moved.time_signatures.append(symusic.TimeSignature(0, count, 4))
    for length in np.diff(firsts).tolist():
        if length != before:
            moved.time_signatures.append(symusic.TimeSignature(int(bar) * _BEAT_TICKS, length, 4))
        bar, before = bar + length, length
    for track in score.tracks:
        notes = track.notes.numpy()
        start = np.maximum(place(notes["time"]), 0)
        length = np.maximum(place(notes["time"] + notes["duration"]) - start, 1)
        times = (start.astype(np.int32), length.astype(np.int32))
        copy: Any = symusic.Track(track.name, track.program, track.is_drum)
        copy.notes = symusic.Note.from_numpy(*times, notes["pitch"], notes["velocity"], "tick")
        moved.tracks.append(copy)
    return moved


@lru_cache(maxsize=4)
def _pop909_titles(path: str) -> dict[str, tuple[str, str]]:
    """Title and artist by song number; empty where the table is not there."""
    try:
        with zipfile.ZipFile(path) as book:
            sheet = ElementTree.fromstring(book.read("xl/worksheets/sheet1.xml"))
    except (OSError, KeyError, zipfile.BadZipFile, ElementTree.ParseError):
        return {}
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    titles = {}
    for row in sheet.iter(f"{space}row"):
        cells = ["".join(t.text or "" for t in cell.iter(f"{space}t")) for cell in row.iter(f"{space}c")]
        if len(cells) >= 3 and cells[0].isdigit():
            titles[cells[0]] = (cells[1], cells[2])
    return titles
