"""What Museformer trains on: chunks of bars out of Parquet, cut anew each time, transposed, faster and slower.

Batches need not be sorted by length: on a CPU the model packs its rows and computes nothing for padding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..processing.bar_midi_vocabulary import BAR_ID, KIND_OF, KINDS, PAD_ID, PLACE_OF
from ..processing.errors import InputError
from ..processing.tokenization_bar_midi import encode, scale_tempo


class BarPieces:
    """Chunks of tokens, and where their bars begin.

    Args:
        crop_bars: Bars that a training row has in the middle; a chunk counts as so many rows as it has such parts.
    """

    def __init__(self, crop_bars: float = 24.0) -> None:
        self.crop_bars = crop_bars
        self.ids: list[np.ndarray] = []
        self.starts: list[np.ndarray] = []
        self.about: list[dict[str, Any]] = []
        self.rows: list[int] = []

    def add(self, ids: Any, **about: Any) -> None:
        """Appends a chunk, which begins with a bar, and what is known of it."""
        ids = np.asarray(ids, dtype=np.uint16)
        starts = np.flatnonzero(ids == BAR_ID)
        if not len(starts) or starts[0]:
            raise InputError(about.get("piece_id"), "a chunk of tokens must begin with a bar")
        self.rows += [len(self.ids)] * max(1, round(len(starts) / self.crop_bars))
        self.ids.append(ids)
        self.starts.append(starts)
        self.about.append(about)

    @property
    def num_tokens(self) -> int:
        """Words of all chunks."""
        return sum(map(len, self.ids))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        chunk = self.rows[index]
        return {"ids": self.ids[chunk].astype(np.int64), "starts": self.starts[chunk], **self.about[chunk]}


def read_pieces(folder: str | Path, split: str, limit: int = 0, crop_bars: float = 24.0) -> BarPieces:
    """Chunks of a split out of a folder made by `build_midi --tokens`.

    Args:
        folder: Where they are.
        split: `train`, `validation` or `test`.
        limit: Take so many chunks at most, evenly out of all; 0: all.
        crop_bars: See `BarPieces`.

    Raises:
        InputError: There are none, or they are rolls.
    """
    import pyarrow.parquet as pq

    folder = Path(folder)
    files = sorted(folder.glob(f"data/{split}-*.parquet")) or sorted(folder.glob(f"{split}-*.parquet"))
    if not files:
        raise InputError(folder, f"holds no {split}-*.parquet; `build_midi --tokens` writes them")
    rows: list[dict[str, Any]] = []
    for file in files:
        if "tokens" not in pq.read_schema(file).names:
            raise InputError(file, "holds rolls, not tokens; build the data set again with --tokens")
        rows += pq.read_table(file, columns=["tokens", "piece_id", "source"]).to_pylist()
    if not rows:
        raise InputError(folder, f"has no rows of split {split!r}")
    chosen = np.linspace(0, len(rows) - 1, min(limit or len(rows), len(rows))).round().astype(int)
    pieces = BarPieces(crop_bars)
    for index in chosen:
        row = rows[index]
        pieces.add(row["tokens"], piece_id=row["piece_id"], source=row["source"])
    return pieces


def crop(ids: np.ndarray, starts: np.ndarray, first: int, count: int, max_tokens: int) -> np.ndarray:
    """So many bars from bar `first` on, fewer where they have too many words; one bar at least, cut if need be."""
    edges = np.append(starts, len(ids))
    stop = min(first + count, len(starts))
    while stop - first > 1 and edges[stop] - edges[first] > max_tokens:
        stop -= 1
    return ids[edges[first] : edges[stop]][:max_tokens]


def shift_range(ids: np.ndarray) -> tuple[int, int]:
    """How many semitones the pitched notes of a text can go down and up."""
    pitches = PLACE_OF[ids][KIND_OF[ids] == KINDS.index("Pitch")]
    return (-int(pitches.min()), 127 - int(pitches.max())) if len(pitches) else (0, 0)


class BarCollate:
    """Chunks to a batch: `input_ids`, `attention_mask`, `labels` `(B, T)`.

    Args:
        min_bars, max_bars: A row has so many bars, drawn; with the same number, that many from the chunk's start on.
        max_tokens: Words of a row at most.
        transpose: Semitones up or down at most.
        tempo: Greatest change of tempo, as a part of it.
    """

    def __init__(
        self, min_bars: int = 16, max_bars: int = 32, max_tokens: int = 2048, transpose: int = 0, tempo: float = 0.0
    ) -> None:
        self.min_bars, self.max_bars, self.max_tokens = min_bars, max_bars, max_tokens
        self.transpose, self.tempo = transpose, tempo

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """See the class; draws from NumPy's global generator, which the loader seeds for each batch."""
        rng = np.random.default_rng(np.random.randint(0, 2**31))
        texts = [self._text(row["ids"], row["starts"], rng) for row in rows]
        batch = np.full((len(texts), max(map(len, texts))), PAD_ID, dtype=np.int64)
        for row, text in enumerate(texts):
            batch[row, : len(text)] = text
        ids = torch.from_numpy(batch)
        mask = ids != PAD_ID
        return {"input_ids": ids, "attention_mask": mask.long(), "labels": ids.masked_fill(~mask, -100)}

    def _text(self, ids: np.ndarray, starts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        first, count = 0, self.max_bars
        if self.max_bars > self.min_bars:
            count = int(rng.integers(self.min_bars, self.max_bars + 1))
            first = int(rng.integers(0, max(len(starts) - count, 0) + 1))
        ids = crop(ids, starts, first, count, self.max_tokens)
        if self.transpose:
            low, high = shift_range(ids)
            semitones = int(rng.integers(max(low, -self.transpose), min(high, self.transpose) + 1))
            ids = np.where(KIND_OF[ids] == KINDS.index("Pitch"), ids + semitones, ids)
        if self.tempo:
            ids = scale_tempo(ids, math.exp(rng.uniform(-1, 1) * math.log1p(self.tempo)))
        return ids


def made_up_pieces(count: int, seed: int = 0, bars: int = 16) -> BarPieces:
    """Simple tunes over held basses, for smoke runs without data."""
    import symusic

    rng = np.random.default_rng(seed)
    pieces = BarPieces(crop_bars=bars)
    for number in range(count):
        score: Any = symusic.Score(12)
        score.tempos.append(symusic.Tempo(0, float(rng.integers(60, 180))))
        track: Any = symusic.Track("", int(rng.integers(0, 2)) * 40, False)
        scale = 60 + int(rng.integers(12)) + np.array([0, 2, 4, 5, 7, 9, 11])
        place, step = 0, int(rng.choice([3, 6, 12]))
        for tick in range(0, bars * 48, step):
            place = int(np.clip(place + rng.integers(-2, 3), 0, 6))
            track.notes.append(symusic.Note(tick, step, int(scale[place]), 80))
            if tick % 48 == 0:
                track.notes.append(symusic.Note(tick, 48, int(scale[0]) - 24, 64))
        score.tracks.append(track)
        pieces.add(encode(score, num_bars=bars).ids, piece_id=f"made up/{number}", source="made up")
    return pieces


# --- Figures ----------------------------------------------------------------------------------------------------------


def measured_loss(model: Any, batch: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The loss, and for the log the part of it that is about words, and what a summary holds."""
    out = model(**batch)
    figures = {"token_loss": out.token_loss}
    if out.summary_nats is not None:
        figures["nats_per_summary"] = out.summary_nats
    if out.bag_loss is not None:
        figures["bag_loss"] = out.bag_loss
    return out.loss, {name: value.detach() for name, value in figures.items()}


@torch.no_grad()
def evaluate_pieces(model: Any, pieces: BarPieces, collate: BarCollate, batch_size: int = 8) -> dict[str, float]:
    """What held-out words cost.

    Args:
        model: In evaluation mode.
        pieces: Chunks; of each, the first bars are taken.
        collate: Without augmentation.
        batch_size: Chunks at a time.

    Returns:
        `loss` nats a word without a plan, its exponential `perplexity`, nats a bar `bar_loss`; and with the bars' own
        summaries as plan, `plan_loss`, what the summaries hold, `nats_per_summary`, and how far they tell bars apart,
        `summary_spread`: the standard deviation of their numbers over all bars (near 1 is as the prior has it).
    """
    totals: dict[str, float] = {"free": 0.0, "planned": 0.0, "words": 0.0, "bars": 0.0, "nats": 0.0}
    seen = []
    for start in range(0, len(pieces.ids), batch_size):
        chunks = range(start, min(start + batch_size, len(pieces.ids)))
        rows = [{"ids": pieces.ids[k].astype(np.int64), "starts": pieces.starts[k]} for k in chunks]
        batch = {name: value.to(model.device) for name, value in collate(rows).items()}
        words, bars = float((batch["labels"][:, 1:] != -100).sum()), float((batch["input_ids"] == BAR_ID).sum())
        totals["words"] += words
        totals["bars"] += bars
        totals["free"] += float(model(**batch, plan=None).loss) * words
        if not model.config.full_attention:
            out = model(**batch, plan=True)
            totals["planned"] += float(out.loss) * words
            totals["nats"] += float(out.summary_nats) * bars
            exists = torch.arange(out.summary_tokens.shape[1], device=model.device) < (
                (batch["input_ids"] == BAR_ID).sum(1, keepdim=True)
            )
            seen.append(out.summary_tokens[exists].float().cpu())
    loss = totals["free"] / totals["words"]
    figures = {"loss": loss, "perplexity": math.exp(loss), "bar_loss": totals["free"] / totals["bars"]}
    if seen:
        figures["plan_loss"] = totals["planned"] / totals["words"]
        figures["nats_per_summary"] = totals["nats"] / totals["bars"]
        figures["summary_spread"] = float(torch.cat(seen).std(0).mean())
    return figures


__all__ = [
    "BarCollate", "BarPieces", "crop", "evaluate_pieces", "made_up_pieces", "measured_loss", "read_pieces",
]  # fmt: skip
