"""Held-out piano rolls for the evaluation of FractalMidi: from Parquet, or built from the music21 corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..processing.errors import InputError
from ..processing.music_attributes import ATTRIBUTES
from ..processing.piano_roll import NUM_LOUDNESS, NUM_PITCHES, WINDOW_STEPS, codes_in_all, values_of_codes
from .evaluation_report import Failure
from .fractal_midi_data import classes_of_files

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest

WINDOWS_OF_A_PIECE = 4  # many pieces say more than many windows of one piece: they are alike


@dataclass(frozen=True)
class HeldOut:
    """Held-out rolls, in a random order: the first few are a fair sample too.

    Attributes:
        codes: uint8 `(N, P, T)`.
        pieces: Piece of each roll; rolls of one piece are resampled together.
        values: What was measured of each, with its `source`.
        data: Where they come from, in words.
        loudness_classes: Of the codes.
    """

    codes: np.ndarray
    pieces: list[str]
    values: list[dict[str, Any]]
    data: str
    loudness_classes: int = NUM_LOUDNESS

    def __len__(self) -> int:
        return len(self.codes)

    def first(self, count: int) -> HeldOut:
        """The first so many rolls."""
        parts = self.codes[:count], self.pieces[:count], self.values[:count]
        return HeldOut(*parts, self.data, self.loudness_classes)

    @property
    def num_codes(self) -> int:
        """Classes of a cell."""
        return codes_in_all(self.loudness_classes)

    def rolls(self) -> torch.Tensor:
        """Float rolls `(N, 1, P, T)`."""
        return torch.from_numpy(values_of_codes(self.codes[:, None], loudness_classes=self.loudness_classes))

    def digest(self, count: int) -> str:
        """A hash of the first so many rolls: two figures of one hash are of the same rolls."""
        return hashlib.sha256(np.ascontiguousarray(self.codes[:count]).tobytes()).hexdigest()[:16]


def _table(data: str | Path) -> tuple[Any, int]:
    """All rows, and the loudness classes of their rolls."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(data)
    files = [path] if path.is_file() else sorted(path.rglob("test*.parquet")) or sorted(path.rglob("*.parquet"))
    if not files:
        raise InputError(
            path, "no Parquet file there; make one with `python -m intermezzo.datasets_scripts.build_midi`"
        )
    wanted, tables = ["codes", "piece_id", "source", *ATTRIBUTES], []
    for file in files:
        try:
            missing = [name for name in wanted if name not in pq.read_schema(file).names]
            tables.append(None if missing else pq.read_table(file, columns=wanted))
        except (OSError, ValueError) as error:
            raise InputError(file, f"not a readable Parquet file ({str(error).splitlines()[0]})") from error
        if missing:
            raise InputError(file, f"has no column {', '.join(missing)}; build_midi writes them")
    return pa.concat_tables(tables), classes_of_files(files)


def read_held_out(data: str | Path, n: int, seed: int, failures: list[Failure], what: str = "") -> HeldOut:
    """Draws rolls from a test set, in a random order.

    Args:
        data: Parquet file, or a folder; of its files those named `test*` when there are some.
        n: Rolls; all when there are fewer.
        seed: Seed of the draw.
        failures: Rows of another size are added here and left out.
        what: The data in words; its name when left out (a report must not carry one machine's paths).

    Raises:
        InputError: No such data, or no usable roll in it.
    """
    table, classes = _table(data)
    order = np.random.default_rng(seed).permutation(len(table))[:n]
    codes, pieces, values = [], [], []
    for number, row in zip(order.tolist(), table.take(order).to_pylist(), strict=True):
        flat = np.frombuffer(row.pop("codes"), dtype=np.uint8)
        piece = str(row.pop("piece_id"))
        if flat.size != NUM_PITCHES * WINDOW_STEPS:
            failures.append(Failure(f"row {number} ({piece})", "read", f"a roll of {flat.size} cells"))
            continue
        codes.append(flat.reshape(NUM_PITCHES, WINDOW_STEPS))
        pieces.append(piece)
        values.append(row)
    if not codes:
        raise InputError(data, "has no roll that can be used; give another test set")
    return HeldOut(np.stack(codes), pieces, values, what or f"test split of {Path(data).resolve().name}", classes)


def other_real_music(data: str | Path | None, n: int, seed: int) -> HeldOut | None:
    """Rolls of the validation split beside a test set: what is real, and yet of other pieces.

    Args:
        data: Folder of `build_midi`; anything else has no such rolls.
        n: Rolls; all when there are fewer.
        seed: Seed of the draw.
    """
    files = sorted(Path(data).rglob("validation*.parquet")) if data is not None and Path(data).is_dir() else []
    return read_held_out(files[0], n, seed, []) if files else None


def build_held_out(
    n: int,
    seed: int,
    out: Path,
    failures: list[Failure],
    request: EvaluationRequest,
    loudness_classes: int = NUM_LOUDNESS,
) -> Path:
    """Windows of pieces of the music21 corpus that belong to the test split, in one Parquet file, unless it is there.

    A piece belongs to a split by a hash of its name alone, so no training set of ours has one of these pieces.
    """
    from ..datasets_scripts import build_midi
    from ..datasets_scripts.midi_sources import files_of_corpus, read_pieces

    kind = "" if loudness_classes == NUM_LOUDNESS else f"_loudness{loudness_classes}"
    path = out / f"midi_test_v{build_midi.FORMAT}_n{n}_seed{seed}{kind}.parquet"
    if path.exists():
        return path
    from datasets import Dataset, disable_progress_bars

    files = [file for file in files_of_corpus(None) if file.split == "test"]
    files = [files[k] for k in np.random.default_rng(seed).permutation(len(files))]
    rows: list[dict[str, Any]] = []
    for file in request.track(files, "read held-out pieces", len(files)):
        if len(rows) >= n:
            break
        try:
            for piece in read_pieces(file):
                found = build_midi.rows_of_piece(
                    piece, file.source, "test", 4, WINDOW_STEPS, loudness_classes=loudness_classes
                )
                rows += _spread(found, WINDOWS_OF_A_PIECE)
        except InputError as error:
            failures.append(Failure(file.name, "build", error.message))
    kinds = build_midi.features(loudness_classes=loudness_classes)
    columns = {name: [row[name] for row in rows[:n]] for name in kinds}
    out.mkdir(parents=True, exist_ok=True)
    disable_progress_bars()
    part = path.with_suffix(".part")
    Dataset.from_dict(columns, features=kinds).to_parquet(str(part))
    part.replace(path)  # the file appears whole or not at all
    return path


def _spread(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many rows, evenly out of all."""
    places = np.unique(np.linspace(0, max(len(rows) - 1, 0), min(count, len(rows))).round().astype(int))
    return [rows[k] for k in places] if len(rows) else []


def load_held_out(
    request: EvaluationRequest, n: int, failures: list[Failure], loudness_classes: int = NUM_LOUDNESS
) -> HeldOut:
    """The rolls that a request names, or the held-out split built from its seed (kept in the request's folder).

    What is built has so many loudness classes; what a request names has its own.

    Raises:
        InputError: No such data, or no corpus to build it from.
    """
    if request.data is not None:
        return read_held_out(request.data, n, request.seed, failures)
    folder = request.out or Path("out") / "evaluation"
    path = build_held_out(n, request.seed, folder, failures, request, loudness_classes)
    what = f"test split of the music21 corpus, drawn with seed {request.seed}"
    return read_held_out(path, n, request.seed, failures, what)
