"""Songs for the evaluations of Museformer and SummaryBridge: written in batches, checked, measured, and real ones."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..processing.bar_midi_vocabulary import BAR_ID, EOS_ID, PAD_ID
from ..processing.errors import InputError
from ..processing.music_wishes import measure_score
from ..processing.piano_roll import NUM_LOUDNESS
from ..processing.tokenization_bar_midi import decode
from .evaluation_report import Failure
from .loading import mix_seed
from .museformer_data import BarPieces, read_pieces

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest


@dataclass(frozen=True)
class Writing:
    """How songs are written.

    Attributes:
        num_bars: Bars of a song.
        batch_size: Songs at once.
        parallel: All bars at once, where there is a plan.
        temperature, top_p: Of the words.
        max_bar_tokens: Words after which a bar must end.
    """

    num_bars: int = 16
    batch_size: int = 16
    parallel: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    max_bar_tokens: int = 256

    def __post_init__(self) -> None:
        if self.num_bars < 1 or self.batch_size < 1:
            raise InputError(None, f"bars {self.num_bars} and batch_size {self.batch_size} must be 1 or more")

    def writing(self) -> Writing:
        """This alone, without what the options of an evaluator add."""
        return Writing(**{own.name: getattr(self, own.name) for own in fields(Writing)})

    def options(self) -> dict[str, Any]:
        """Arguments of `MuseformerForCausalLM.write`."""
        return {"temperature": self.temperature, "top_p": self.top_p, "max_bar_tokens": self.max_bar_tokens}


@dataclass
class Song:
    """A song and what is known of it.

    Attributes:
        ids: Words `(T,)` without padding.
        score: As it comes back out of its MIDI file; `None` where no file could be made.
        values: Measured from that score; empty for silent music.
        fault: Why it is no valid MIDI of so many bars; empty for one that is.
        group: Piece it is from, or text it was written for.
    """

    ids: np.ndarray
    score: Any = None
    values: dict[str, Any] = field(default_factory=dict)
    fault: str = ""
    group: Hashable = ""


def check_folder(folder: str, files: Sequence[str], advice: str) -> None:
    """Sees to it that a model folder has one of these files; names on the Hub (`owner/name`) pass.

    Raises:
        InputError: There is no such folder, or none of the files in it.
    """
    place = Path(folder)
    if not place.exists():
        if place.is_absolute() or folder.count("/") != 1:
            raise InputError(folder, f"no such folder; {advice}")
    elif not any((place / name).is_file() for name in files):
        raise InputError(folder, f"holds no {' and no '.join(files)}; {advice}")


def without_padding(ids: Any) -> np.ndarray:
    """Words of one row, int64 `(T,)`."""
    ids = ids.detach().cpu().numpy() if hasattr(ids, "detach") else np.asarray(ids)
    return ids[ids != PAD_ID].astype(np.int64)


def check_song(ids: Any, num_bars: int, group: Hashable = "") -> Song:
    """Makes a MIDI file of words, in memory, reads it again and measures it.

    Valid is what keeps to the grammar, has so many bars and comes back out of the file with every note. Silent music is
    valid, but has nothing that could be measured.
    """
    import symusic

    song = Song(without_padding(ids), group=group)
    try:
        score = decode(song.ids, strict=True)
    except InputError as error:
        song.fault = error.message
        try:
            score = decode(song.ids)
        except InputError:
            return song
    bars = int((song.ids == BAR_ID).sum())
    if bars != num_bars and not song.fault:
        song.fault = f"has {bars} bars, {num_bars} were asked for"
    try:
        song.score = symusic.Score.from_midi(score.dumps_midi())
    except Exception as error:  # symusic raises what its C++ does
        song.fault = song.fault or f"its MIDI file can not be read again ({error})"
        return song
    if song.score.note_num() != score.note_num() and not song.fault:
        song.fault = f"{score.note_num()} notes were written, {song.score.note_num()} are in the file"
    if song.score.note_num():
        try:
            song.values = measure_score(song.score)
            # MIDI keeps whole microseconds a quarter: 110 comes back as 109.9999, on the wrong side of an edge.
            song.values["tempo"] = None if song.values["tempo"] is None else round(song.values["tempo"], 2)
        except InputError:  # drums alone, for instance
            song.values = {}
    return song


# --- Writing ----------------------------------------------------------------------------------------------------------


class MusicWriter:
    """Writes songs with a Museformer.

    Args:
        museformer: `MuseformerForCausalLM` in evaluation mode.
        writing: See there.
    """

    def __init__(self, museformer: Any, writing: Writing) -> None:
        from ..processing.processing_museformer import BarMidiProcessor

        self.museformer, self.writing = museformer, writing
        self.grammar = BarMidiProcessor().grammar

    def generator(self, seed: int) -> torch.Generator:
        """Random numbers on the model's device."""
        return torch.Generator(self.museformer.device).manual_seed(seed)

    @torch.no_grad()
    def write(
        self, plan: torch.Tensor | None, count: int, seed: int, parallel: bool | None = None,
        lean: torch.Tensor | None = None,
    ) -> list[np.ndarray]:  # fmt: skip
        """Words of so many songs.

        Args:
            plan: Summaries `(count, N, Z)`; `None`: music without a plan.
            count: Songs.
            seed: Of the words.
            parallel: Other than `Writing` says.
            lean: `(count, 7)`, see `museformer_decoding.write_bars`.
        """
        parallel = self.writing.parallel if parallel is None else parallel
        ids = self.museformer.write(
            self.writing.num_bars, summary_tokens=plan, num_samples=count, grammar=self.grammar,
            parallel=parallel and plan is not None, generator=self.generator(seed), lean=lean,
            **self.writing.options(),
        )  # fmt: skip
        return [without_padding(row) for row in ids]


def in_batches(
    write: Callable[[list[int], int], Sequence[Any]],
    count: int,
    groups: Sequence[Hashable] | None,
    writing: Writing,
    request: EvaluationRequest,
    what: str,
) -> list[Song]:
    """Writes and checks so many songs with a progress bar.

    Args:
        write: From numbers of songs, and a seed, to their words.
        count: Songs.
        groups: Of each song; its number when left out.
        writing: Batch size and bars.
        request: Seed and progress.
        what: Said by the progress bar.
    """
    songs: list[Song] = []
    starts = range(0, count, writing.batch_size)
    for start in request.track(starts, what, len(starts)):
        numbers = list(range(start, min(start + writing.batch_size, count)))
        for number, ids in zip(numbers, write(numbers, mix_seed(request.seed, start)), strict=True):
            group = number if groups is None else groups[number]
            songs.append(check_song(ids, writing.num_bars, group))
    return songs


# --- Real music -------------------------------------------------------------------------------------------------------


def held_out_pieces(request: EvaluationRequest, n: int, failures: list[Failure]) -> tuple[BarPieces, str]:
    """Held-out chunks of bars, at most `n` (evenly out of all), and where they are from, in words.

    Args:
        request: `data` is a folder made by `build_midi --tokens`; without one, test pieces of the music21 corpus are
            read and kept in the request's folder.
        n: Chunks at most.
        failures: Pieces that can not be read are added here.

    Raises:
        InputError: No such data.
    """
    if request.data is not None:
        return read_pieces(request.data, "test", n), f"test split of {Path(request.data).resolve().name}"
    folder = build_held_out(request, n, failures)
    return read_pieces(folder, "test", n), f"test split of the music21 corpus, drawn with seed {request.seed}"


def build_held_out(request: EvaluationRequest, n: int, failures: list[Failure]) -> Path:
    """Chunks of pieces of the music21 corpus that belong to the test split by the hash of their name, unless there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ..datasets_scripts import build_midi
    from ..datasets_scripts.midi_sources import files_of_corpus

    folder = (request.out or Path("out") / "evaluation") / f"bars_v{build_midi.FORMAT}_n{n}_seed{request.seed}"
    path = folder / "test-00000.parquet"
    if path.exists():
        return folder
    files = [file for file in files_of_corpus(None) if file.split == "test"]
    files = [files[k] for k in np.random.default_rng(request.seed).permutation(len(files))]
    rows: list[dict[str, Any]] = []
    for file in request.track(files, "read held-out pieces", len(files)):
        if len(rows) >= n:
            break
        found, bad = build_midi.read_file((file, "test", 4, 128, True, NUM_LOUDNESS))
        rows += [{name: row[name] for name in ("tokens", "piece_id", "source")} for row in found]
        failures += [Failure(name, "build", why) for name, why in bad]
    if not rows:
        raise InputError(None, "the corpus has no test piece; give a folder with --data")
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    pq.write_table(pa.Table.from_pylist(rows[:n]), partial)
    partial.replace(path)  # the file appears whole or not at all
    return folder


def real_songs(pieces: BarPieces, num_bars: int, count: int, seed: int = 0) -> list[Song]:
    """Held-out windows of so many bars as songs, one of each piece in turn; `group` is the piece.

    Windows of one chunk have half of their bars in common at most. Silent ones are left out.

    Raises:
        InputError: No chunk has so many bars.
    """
    draw = np.random.default_rng(seed)
    by_piece: dict[str, list[np.ndarray]] = {}
    for ids, starts, about in zip(pieces.ids, pieces.starts, pieces.about, strict=True):
        edges = np.append(starts, len(ids))
        for first in range(0, len(starts) - num_bars + 1, max(num_bars // 2, 1)):
            part = ids[edges[first] : edges[first + num_bars]].astype(np.int64)
            by_piece.setdefault(str(about.get("piece_id")), []).append(part[part != EOS_ID])
    if not by_piece:
        raise InputError(None, f"no held-out piece has {num_bars} bars; ask for fewer with --with num_bars=N")
    names = [sorted(by_piece)[k] for k in draw.permutation(len(by_piece))]
    for name in names:
        by_piece[name] = [by_piece[name][k] for k in draw.permutation(len(by_piece[name]))]
    songs: list[Song] = []
    for turn in range(max(map(len, by_piece.values()))):
        for name in names:
            if turn < len(by_piece[name]) and len(songs) < count:
                song = check_song(np.append(by_piece[name][turn], EOS_ID), num_bars, name)
                songs += [song] if song.values else []
    return songs


# --- Output -----------------------------------------------------------------------------------------------------------


def save_songs(songs: Sequence[Song], names: Sequence[str], request: EvaluationRequest, count: int = 16) -> None:
    """Keeps some songs as MIDI, for the ear; nothing where the request has no folder."""
    if request.out is None:
        return
    folder = request.out / f"{request.stem}_samples"
    folder.mkdir(parents=True, exist_ok=True)
    for number, (song, name) in enumerate(list(zip(songs, names, strict=True))[:count]):
        kept = "".join(c if c.isalnum() else "_" for c in name)[:40]
        if song.score is not None:
            (folder / f"{number:02d}_{kept}.mid").write_bytes(song.score.dumps_midi())


__all__ = [
    "MusicWriter",
    "Song",
    "Writing",
    "check_folder",
    "check_song",
    "held_out_pieces",
    "in_batches",
    "real_songs",
    "save_songs",
]
