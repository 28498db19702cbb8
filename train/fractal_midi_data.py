"""What FractalMidi trains on: rolls from Parquet or packed arrays, transposed, with parts to fill in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..processing.errors import InputError
from ..processing.music_attributes import ATTRIBUTES, KEY_NAMES, MODES, measure_roll, transposed
from ..processing.piano_roll import (
    FIRST_ONSET,
    HELD,
    NUM_LOUDNESS,
    NUM_PITCHES,
    WINDOW_STEPS,
    codes_in_all,
    transpose_codes,
    values_of_codes,
)
from ..processing.processing_fractal_midi import FractalMidiProcessor

STEPS_PER_BAR = 16


class Rolls:
    """Rows of a split, kept sparse: a roll of 32 KB has some thousand bytes that are not silence.

    Rows are dicts: `codes` uint8 `(P, T)`; `values`, a measurement that conditions are made of; or `conditions`.

    Args:
        size: Pitches and steps of a roll.
        loudness_classes: Of all rolls.
    """

    def __init__(
        self, size: tuple[int, int] = (NUM_PITCHES, WINDOW_STEPS), loudness_classes: int = NUM_LOUDNESS
    ) -> None:
        codes_in_all(loudness_classes)  # refuses what can not be
        self.size, self.loudness_classes = size, loudness_classes
        self.cells: list[tuple[np.ndarray, np.ndarray]] = []
        self.about: list[dict[str, Any]] = []

    def add(self, codes: np.ndarray, **about: Any) -> None:
        """Appends a roll and what is known of it (`values` or `conditions`)."""
        flat = codes.reshape(-1)
        places = np.flatnonzero(flat).astype(np.uint32)
        self.cells.append((places, flat[places].astype(np.uint8)))
        self.about.append(about)

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, index: int) -> dict[str, Any]:
        places, codes = self.cells[index]
        flat = np.zeros(self.size[0] * self.size[1], dtype=np.uint8)
        flat[places] = codes
        return {"codes": flat.reshape(self.size), **self.about[index]}

    def sources(self) -> list[str]:
        """Names of the sources, sorted."""
        return sorted({row["values"]["source"] for row in self.about if (row.get("values") or {}).get("source")})


def read_rolls(folder: str | Path, split: str, limit: int = 0) -> Rolls:
    """Rolls of a split out of a folder made by build_midi, or of packed arrays.

    Packed arrays: `codes.npy` uint8 `(N, P, T)` and `conditions.npy` int64 `(N, C)`, in a folder named after the split,
    or beside a `split.npy` with the name of each row's split. Their `attributes.json` may name `loudness_classes`.

    Args:
        folder: Where they are.
        split: `train`, `validation` or `test`.
        limit: Take so many rows at most; 0: all.

    Raises:
        InputError: Neither is there, or no row of this split, or rolls of several numbers of loudness classes.
    """
    folder = Path(folder)
    files = sorted(folder.glob(f"data/{split}-*.parquet")) or sorted(folder.glob(f"{split}-*.parquet"))
    if files:
        rolls = _read_parquet(files, limit)
    elif (folder / split / "codes.npy").exists():
        rolls = _read_packed(folder / split, None, limit, _told(folder))
    elif (folder / "codes.npy").exists() and (folder / "split.npy").exists():
        rolls = _read_packed(folder, split, limit, _told(folder))
    else:
        raise InputError(
            folder, f"holds neither {split}-*.parquet (build_midi writes them) nor packed codes.npy of split {split!r}"
        )
    if not len(rolls):
        raise InputError(folder, f"has no rows of split {split!r}")
    return rolls


def _read_parquet(files: Sequence[Path], limit: int) -> Rolls:
    import pyarrow.parquet as pq

    rolls = Rolls(loudness_classes=classes_of_files(files))
    for file in files:
        has = set(pq.read_schema(file).names)
        names = [*ATTRIBUTES, "source", *sorted({"key_fit", "piece_id"} & has)]
        for batch in pq.ParquetFile(file).iter_batches(batch_size=256, columns=["codes", *names]):
            for row in batch.to_pylist():
                codes = np.frombuffer(row.pop("codes"), dtype=np.uint8)
                if codes.size != NUM_PITCHES * WINDOW_STEPS:
                    raise InputError(file, f"a roll of {codes.size} cells, expected {NUM_PITCHES} x {WINDOW_STEPS}")
                rolls.add(codes, piece=row.pop("piece_id", None), values=row)
                if limit and len(rolls) >= limit:
                    return rolls
    return rolls


def classes_of_files(files: Sequence[Path]) -> int:
    """Loudness classes of the rolls in Parquet files: those that all rows name, 32 where no column does.

    Raises:
        InputError: Rows name several, or another number than 32 and 127.
    """
    import pyarrow.parquet as pq

    named: dict[int, Path] = {}
    for file in files:
        column = "loudness_classes"
        noted = column in pq.read_schema(file).names
        told = pq.read_table(file, columns=[column])[column].unique().to_pylist() if noted else [NUM_LOUDNESS]
        named |= dict.fromkeys(told, file)
    for classes, file in named.items():
        check_classes(file, classes, next(iter(named)))
    return next(iter(named), NUM_LOUDNESS)


def check_classes(path: Any, classes: int, wanted: int) -> None:
    """Refuses what belongs to rolls of another number of loudness classes.

    Args:
        path: What is refused.
        classes: How many it has.
        wanted: How many the data have.

    Raises:
        InputError: They differ; both are named.
    """
    if classes != wanted:
        raise InputError(path, f"has {classes} loudness classes, the data {wanted}; they can not be used together")


def _told(folder: Path) -> dict[str, Any]:
    """What `attributes.json` says of packed arrays; nothing where it is not there."""
    path = folder / "attributes.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _read_packed(folder: Path, split: str | None, limit: int, told: dict[str, Any]) -> Rolls:
    codes = np.load(folder / "codes.npy", mmap_mode="r")
    conditions = np.load(folder / "conditions.npy") if (folder / "conditions.npy").exists() else None
    if conditions is not None and len(conditions) != len(codes):
        raise InputError(folder, f"{len(codes)} rolls in codes.npy, but {len(conditions)} rows in conditions.npy")
    chosen = np.arange(len(codes))
    if split is not None:
        chosen = np.flatnonzero(np.load(folder / "split.npy").astype(str) == split)
    rolls = Rolls(codes.shape[1:], told.get("loudness_classes", NUM_LOUDNESS))
    for index in chosen[: limit or None]:
        rolls.add(np.asarray(codes[index]), conditions=None if conditions is None else conditions[index])
    return rolls


def packed_attributes(folder: str | Path, rolls: Rolls) -> tuple[list[str], list[int]]:
    """Names and sizes of the columns of packed conditions: from `attributes.json`, else as many as are seen."""
    told = _told(Path(folder))
    if "names" in told:
        return list(told["names"]), [int(size) for size in told["sizes"]]
    rows = [row["conditions"] for row in rolls.about if row.get("conditions") is not None]
    if not rows:
        return [], []
    sizes = np.max(rows, axis=0) + 1
    return [f"attribute_{column}" for column in range(len(sizes))], [max(1, int(size)) for size in sizes]


def measure_keys(rolls: Rolls, least_fit: float = 0.8) -> dict[str, Any]:
    """`key_profiles` and `key_shares` of a configuration; see `FractalMidiConfig`.

    Args:
        rolls: Of the training split, with their measurements.
        least_fit: Only rolls count whose key is as clear as this (`key_fit`).

    Returns:
        Both, rounded; nothing where a mode lacks clear rolls.
    """
    totals, met = np.zeros((len(MODES), 12)), np.zeros((len(MODES), 12))
    for row in (rolls[index] for index in range(len(rolls))):
        values = row.get("values") or {}
        if values.get("key") not in KEY_NAMES or values.get("mode") not in MODES:
            continue
        if (values.get("key_fit") or 0.0) >= least_fit:
            onsets = (row["codes"] >= FIRST_ONSET).sum(1)  # (P,)
            classes = np.bincount(np.arange(len(onsets)) % 12, weights=onsets, minlength=12)
            share = np.roll(classes, -KEY_NAMES.index(values["key"])) / max(classes.sum(), 1)
            totals[MODES.index(values["mode"])] += share
            met[MODES.index(values["mode"]), KEY_NAMES.index(values["key"])] += 1
    if not totals.sum(1).all():
        return {}
    logarithms = np.log(12 * np.maximum(totals / totals.sum(1, keepdims=True), 1e-3))
    profiles = tuple(tuple(round(float(x), 3) for x in row) for row in logarithms)
    return {"key_profiles": profiles, "key_shares": tuple(round(float(x), 4) for x in (met / met.sum()).flatten())}


def known_conditions(rolls: Rolls, processor: FractalMidiProcessor, count: int = 512, windows: int = 4) -> np.ndarray:
    """Conditions of training rolls drawn evenly, for `FractalMidiModel.known_conditions`.

    Args:
        rolls: Of the training split, with their measurements.
        processor: Says what the conditions are.
        count: Rows at most.
        windows: Rows of one piece at most, so that long pieces do not count for more.

    Returns:
        int16 `(N, C)`.
    """
    rows, met = [], Counter[Any]()
    for index in np.random.default_rng(0).permutation(len(rolls)):
        about = rolls.about[index]
        met[about.get("piece")] += 1
        if about.get("values") is not None and (about.get("piece") is None or met[about["piece"]] <= windows):
            rows.append(processor.condition_bins(measured=about["values"]))
        if len(rows) == count:
            break
    return np.asarray(rows, dtype=np.int16).reshape(len(rows), len(processor.condition_names))


def fill_mask(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A random part to fill in, bool `(P, T)`, true = hidden: bars, what comes next, a rectangle, or a hand."""
    pitches, steps = size
    mask = np.zeros(size, dtype=bool)
    kind = rng.integers(4)
    bars = max(1, steps // STEPS_PER_BAR)
    if kind == 0:  # some bars out of the middle, at bar lines or not
        length = int(rng.integers(1, max(2, bars // 2 + 1))) * min(STEPS_PER_BAR, steps)
        start = int(rng.integers(0, steps - length + 1))
        if rng.random() < 0.5:
            start = start // STEPS_PER_BAR * STEPS_PER_BAR
        mask[:, start : start + length] = True
    elif kind == 1:  # continuation, from a bar line on or from the middle of a bar
        start = (int(rng.integers(bars)) + rng.choice((0.5, 1.0))) * STEPS_PER_BAR
        mask[:, int(start) % steps :] = True
    elif kind == 2:
        height, width = int(rng.integers(1, pitches + 1)), int(rng.integers(1, steps + 1))
        low, start = int(rng.integers(0, pitches - height + 1)), int(rng.integers(0, steps - width + 1))
        mask[low : low + height, start : start + width] = True
    else:  # one hand: all above or below a pitch
        split = int(pitches * rng.uniform(0.35, 0.6))
        mask[split:] = True
        mask = mask if rng.random() < 0.5 else ~mask
    if not mask.any():
        mask[:] = True
    return mask


class RollCollate:
    """Rows to a batch: `roll` `(B, 1, P, T)`, `conditions` `(B, C)`, `mask` `(B, P, T)`.

    Args:
        processor: Makes conditions out of measurements; not needed where rows bring their own.
        transpose: Semitones up or down at most, drawn for each row that has a measurement.
        fill_rate: Part of the rows of which only a part is hidden; the others are hidden whole.
        loudness_classes: Of the rows; see `Rolls`.
    """

    def __init__(
        self,
        processor: FractalMidiProcessor | None = None,
        transpose: int = 0,
        fill_rate: float = 0.0,
        loudness_classes: int = NUM_LOUDNESS,
    ) -> None:
        self.processor, self.transpose, self.fill_rate = processor, transpose, fill_rate
        self.loudness_classes = loudness_classes

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """See the class; draws from NumPy's global generator, which the loader seeds for each batch."""
        rng = np.random.default_rng(np.random.randint(0, 2**31))
        codes, conditions, masks = [], [], []
        for row in rows:
            one, bins = self._conditioned(row, rng)
            codes.append(one)
            conditions.append(bins)
            hidden = fill_mask(one.shape, rng) if rng.random() < self.fill_rate else np.ones(one.shape, dtype=bool)
            masks.append(hidden)
        values = values_of_codes(np.stack(codes), loudness_classes=self.loudness_classes)  # (B, P, T)
        batch = {"roll": torch.from_numpy(values[:, None])}
        if conditions[0] is not None:
            batch["conditions"] = torch.from_numpy(np.asarray(conditions, dtype=np.int64))
        return batch | {"mask": torch.from_numpy(np.stack(masks))}

    def _conditioned(self, row: dict[str, Any], rng: np.random.Generator) -> tuple[np.ndarray, Any]:
        codes, values = row["codes"], row.get("values")
        if values is None or self.processor is None:
            return codes, row.get("conditions")
        if self.transpose:
            semitones = int(rng.integers(-self.transpose, self.transpose + 1))
            moved = transpose_codes(codes, semitones)
            if moved is not None:
                codes, values = moved, transposed(values, semitones)
        return codes, self.processor.condition_bins(measured=values)


def made_up_rolls(count: int, seed: int = 0) -> Rolls:
    """Simple tunes over held basses, for smoke runs without data."""
    rng = np.random.default_rng(seed)
    rolls = Rolls()
    for _ in range(count):
        codes = np.zeros(rolls.size, dtype=np.uint8)
        scale = rng.integers(0, 12) + np.array([0, 2, 4, 5, 7, 9, 11])
        place = int(rng.integers(7))
        for step in range(0, WINDOW_STEPS, 4):
            place = int(np.clip(place + rng.integers(-2, 3), 0, 6))
            codes[60 + scale[place], step : step + 4] = [FIRST_ONSET + int(rng.integers(12, 22)), HELD, HELD, 0]
            if step % STEPS_PER_BAR == 0:
                codes[36 + scale[rng.integers(7)], step : step + STEPS_PER_BAR] = [FIRST_ONSET + 12] + [HELD] * 15
        rolls.add(codes, values=dict(measure_roll(codes, 100.0, (4, 4)), source="made up"))
    return rolls
