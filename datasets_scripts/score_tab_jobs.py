"""Which systems a data set of tab pictures has: pieces from all sources, cut, styled and told apart by split."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..processing.alphatex_grammar import Score, bars_close, read_alphatex, strip_invisible, write_alphatex
from ..processing.errors import InputError
from .guitar_parts import Piece, generate_piece, piece_seeds, random_style, shown_as, split_systems
from .music_sources import MIDI_SUFFIXES, MUSICXML_SUFFIXES, corpus_paths, pieces_of_file

if TYPE_CHECKING:
    from .render.client import AlphaTabPool

GUITAR_SUFFIXES = (".gp", ".gp3", ".gp4", ".gp5", ".gpx", ".gp7", ".gp8", ".alphatex", ".atex", ".tex")
_DYNAMICS = ("dy", "cre", "dec")


@dataclass(frozen=True)
class SystemJob:
    """One row to be: a text, how to draw it, and where it comes from."""

    text: str
    style: dict[str, Any]
    piece_id: str
    system: int
    source: str
    kind: str
    split: str


@dataclass
class JobList:
    """All systems of a data set.

    Attributes:
        jobs: By split, in a fixed order.
        failures: `(where, what)` for each file, piece or system that gave nothing.
        dropped: Training systems left out because the same text is in a held-out split.
        pieces: Number of pieces by split.
    """

    jobs: dict[str, list[SystemJob]] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    dropped: int = 0
    pieces: dict[str, int] = field(default_factory=dict)
    _works: dict[str, str] = field(default_factory=dict)

    def add(self, piece: Piece, seed: int, limit: int | None = None) -> int:
        """Cuts a piece into systems and adds them; returns how many."""
        split = piece.split
        if self._works.setdefault(piece.work or piece.piece_id, split) != split:
            raise AssertionError(f"{piece.work or piece.piece_id} is in two splits")
        digest = hashlib.sha256(f"{seed} {piece.piece_id}".encode()).digest()
        rng = random.Random(int.from_bytes(digest[:8], "big"))
        made = 0
        for number, system in enumerate(split_systems(piece, rng)):
            style = random_style(rng, piece.voices)
            if limit is not None and made >= limit:
                break
            if piece.source != "generated" and not any(beat.notes for *_, beat in system.beats()):
                continue  # an instrument that waits
            try:
                text = _checked_text(system, style["staves"], piece.source != "generated")
            except ValueError as error:
                self.failures.append((f"{piece.piece_id}, system {number + 1}", str(error)))
                continue
            job = SystemJob(text, style, piece.piece_id, number, piece.source, piece.kind, split)
            self.jobs.setdefault(split, []).append(job)
            made += 1
        self.pieces[split] = self.pieces.get(split, 0) + 1
        return made

    def drop_overlap(self) -> None:
        """Takes out of the training split what a held-out split says too, so that nothing is tested by heart."""
        held = {job.text for split, jobs in self.jobs.items() if split != "train" for job in jobs}
        kept = [job for job in self.jobs.get("train", []) if job.text not in held]
        self.dropped = len(self.jobs.get("train", [])) - len(kept)
        if "train" in self.jobs:
            self.jobs["train"] = kept


def _checked_text(system: Score, staves: str, foreign: bool) -> str:
    """Canonical text of a system, read back and found closed.

    Raises:
        ValueError: A bar does not close, or the text does not read back as it was written.
    """
    shown_as(system, staves)
    if foreign:
        system = strip_invisible(system, staves)
        for *_, beat in system.beats():
            for name in _DYNAMICS:
                beat.effects.pop(name, None)
    text = write_alphatex(system)
    again = read_alphatex(text)
    if write_alphatex(again) != text:
        raise ValueError("the text does not read back as it was written")
    if not bars_close(again, first_may_be_short=False, empty_bars=False):
        raise ValueError("its bars do not close")
    return text


def pieces_of_score_file(path: Path, pool: AlphaTabPool) -> list[Piece]:
    """Pieces of a Guitar Pro or alphaTex file: one for each staff with 4 to 7 strings.

    Raises:
        InputError: alphaTab can not read the file.
    """
    score = read_alphatex(pool.canonicalise(path, is_path=True))
    marks = score.staves[0].bars if score.staves else []
    pieces = []
    for index, staff in enumerate(score.staves):
        if staff.percussion or staff.tuning == () or not 4 <= staff.strings <= 7:
            continue
        for bar, mark in zip(staff.bars, marks, strict=True):
            if bar is not mark:  # what all staves share is written at the first only
                bar.time_signature, bar.tempo, bar.section = mark.time_signature, mark.tempo, mark.section
                bar.repeat_open, bar.repeat_close, bar.endings = mark.repeat_open, mark.repeat_close, mark.endings
                bar.anacrusis = mark.anacrusis
        one = Score(tracks=[type(score.tracks[0])(staves=[staff])])
        tuning, capo = staff.tuning or (), staff.capo
        name = f"{path.parent.name}/{path.name}-{index}"
        pieces.append(Piece(one, name, kind="file", tuning=tuning, capo=capo, source="file", work=path.stem))
    return pieces


def _files(source: str) -> list[Path]:
    path = Path(source)
    wanted = GUITAR_SUFFIXES + MIDI_SUFFIXES + MUSICXML_SUFFIXES
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(source, "no such file or folder; give a folder, a file, or leave --source out")
    found = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in wanted)
    if not found:
        raise InputError(source, f"no file there ends in {', '.join(wanted)}")
    return found


def collect_jobs(
    seed: int,
    generated: int,
    corpus: int,
    sources: list[str],
    pool: AlphaTabPool,
    progress: Callable[[Iterator[Path], int], Iterator[Path]] | None = None,
) -> JobList:
    """All systems from all sources.

    Args:
        seed: Decides pieces, cuts and styles.
        generated: Number of generated systems.
        corpus: Number of files of the music21 corpus.
        sources: Folders or files of MIDI, MusicXML, Guitar Pro and alphaTex.
        pool: Reads Guitar Pro and alphaTex files.
        progress: Wraps the iterator of files, with their number.
    """
    jobs = JobList()
    left = generated
    for candidate in piece_seeds(seed) if generated else ():
        left -= jobs.add(generate_piece(candidate), seed, left)
        if left <= 0:
            break
    files = [(path, "corpus") for path in (corpus_paths(limit=corpus) if corpus else [])]
    files += [(path, "") for source in sources for path in _files(source)]
    paths = iter([path for path, _ in files])
    for (path, origin), _ in zip(files, progress(paths, len(files)) if progress else paths, strict=True):
        try:
            if path.suffix.lower() in GUITAR_SUFFIXES:
                pieces = pieces_of_score_file(path, pool)
            else:
                pieces = pieces_of_file(path, origin or None)
        except (InputError, ValueError) as error:
            jobs.failures.append((str(path), str(error).removeprefix(f"{path}: ")))
            continue
        for piece in pieces:
            jobs.add(piece, seed)
    jobs.drop_overlap()
    return jobs
