"""What Museformer's summaries know: linear probes of the attributes of bars, and pictures of the summaries.

    python -m intermezzo.train.museformer_probes --model RUN/final --data data/bars --out probes

writes `probes.json` (R² of each attribute on pieces the probe has not seen) and `summaries.png` (the two main
directions of the summaries, once for each attribute, blue low and red high).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..processing.bar_midi_vocabulary import (
    BAR_ID,
    KIND_OF,
    KINDS,
    MIN_TEMPO,
    PLACE_OF,
    SIGNATURE_TICKS,
    TICKS_PER_QUARTER,
)
from ..processing.errors import InputError
from ..processing.piano_roll import velocity_of_loudness
from .museformer_data import BarPieces, read_pieces

#: What is measured of a bar; units as in `music_attributes.ATTRIBUTES`.
BAR_ATTRIBUTES = ("tempo", "density", "register", "range", "dynamics", "sustain")


def bar_attributes(ids: np.ndarray) -> np.ndarray:
    """Attributes of each bar of a text, float64 `(N, A)` in the order of `BAR_ATTRIBUTES`; NaN for silent bars.

    Tempo is measured in silent bars, too. Drums count for density, dynamics and sustain only.
    """
    ids = np.asarray(ids)
    edges = [*np.flatnonzero(ids == BAR_ID).tolist(), len(ids)]
    rows = np.full((len(edges) - 1, len(BAR_ATTRIBUTES)), np.nan)
    for bar in range(len(edges) - 1):
        part = ids[edges[bar] : edges[bar + 1]]
        kind, place = KIND_OF[part], PLACE_OF[part]
        said = {
            name: place[kind == KINDS.index(name)] for name in ("TimeSig", "Tempo", "Pitch", "Velocity", "Duration")
        }
        if len(said["Tempo"]):
            rows[bar, 0] = said["Tempo"][0] + MIN_TEMPO
        lengths = said["Duration"] + 1
        if not len(lengths):
            continue
        quarters = SIGNATURE_TICKS[said["TimeSig"][0]] / TICKS_PER_QUARTER if len(said["TimeSig"]) else 4.0
        rows[bar, 1] = len(lengths) / quarters
        if len(said["Pitch"]):
            rows[bar, 2:4] = said["Pitch"].mean(), np.ptp(said["Pitch"])
        rows[bar, 4] = velocity_of_loudness(said["Velocity"]).mean()
        rows[bar, 5] = lengths.mean() / TICKS_PER_QUARTER
    return rows


def summaries_and_attributes(model: Any, pieces: BarPieces, batch_size: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Summaries `(bars, Z)` and attributes `(bars, A)` of all bars of all chunks."""
    import torch

    found, told = [], []
    for start in range(0, len(pieces.ids), batch_size):
        texts = [torch.from_numpy(ids.astype(np.int64)) for ids in pieces.ids[start : start + batch_size]]
        ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=model.config.pad_token_id)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
        summaries = model.get_summary_tokens(ids.to(model.device), mask.to(model.device)).float().cpu().numpy()
        for row, text in enumerate(texts):
            told.append(bar_attributes(text.numpy()))
            found.append(summaries[row, : len(told[-1])])
    return np.concatenate(found), np.concatenate(told)


def probe(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, ridge: float = 1e-2) -> float:
    """R² on the second pair of a ridge regression fitted to the first; NaN where there is too little to measure.

    Args:
        x, x_test: `(n, Z)`, `(m, Z)`.
        y, y_test: `(n,)`, `(m,)`; rows with NaN are left out.
        ridge: Weight of the squared coefficients, for numbers of unit spread.
    """
    keep, keep_test = np.isfinite(y), np.isfinite(y_test)
    x, y, x_test, y_test = x[keep], y[keep], x_test[keep_test], y_test[keep_test]
    if len(y) < 2 or len(y_test) < 2 or np.ptp(y_test) == 0:
        return float("nan")
    mean, spread = x.mean(0), x.std(0) + 1e-6
    design = np.concatenate([(x - mean) / spread, np.ones((len(x), 1))], axis=1)
    test = np.concatenate([(x_test - mean) / spread, np.ones((len(x_test), 1))], axis=1)
    weights = np.linalg.solve(design.T @ design + ridge * len(x) * np.eye(design.shape[1]), design.T @ y)
    return float(1 - ((test @ weights - y_test) ** 2).sum() / ((y_test - y_test.mean()) ** 2).sum())


def main_directions(x: np.ndarray) -> np.ndarray:
    """The two directions of greatest spread, `(n, 2)` (principal component analysis)."""
    centred = x - x.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return centred @ directions[:2].T


def draw_summaries(points: np.ndarray, attributes: np.ndarray, size_px: int = 320) -> Any:
    """Picture of points `(n, 2)`, once for each attribute of `(n, A)`: blue in its lower ranks, red in its upper."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (size_px * attributes.shape[1], size_px + 20), "white")
    pen = ImageDraw.Draw(picture)
    low, high = np.quantile(points, [0.005, 0.995], axis=0)
    places = np.clip((points - low) / np.maximum(high - low, 1e-9), 0, 1) * (size_px - 12) + 6
    for column in range(attributes.shape[1]):
        values = attributes[:, column]
        pen.text((size_px * column + 6, 4), BAR_ATTRIBUTES[column], fill="black")
        rank = np.argsort(np.argsort(values)) / max(np.isfinite(values).sum() - 1, 1)
        for (x, y), value, part in zip(places, values, rank, strict=True):
            if np.isfinite(value):
                left, top = size_px * column + x, 20 + size_px - y
                colour = (int(40 + 215 * part), 60, int(255 - 215 * part))
                pen.ellipse((left - 1.5, top - 1.5, left + 1.5, top + 1.5), fill=colour)
    return picture


def measure(model: Any, train: BarPieces, held_out: BarPieces, out: str | Path | None = None) -> dict[str, float]:
    """R² of each attribute, fitted on some chunks and measured on others; with `out`, also the picture.

    Args:
        model: Museformer in evaluation mode.
        train: Chunks that the probes are fitted on.
        held_out: Chunks of other works.
        out: Folder for `probes.json` and `summaries.png`.
    """
    x, y = summaries_and_attributes(model, train)
    x_test, y_test = summaries_and_attributes(model, held_out)
    figures = {name: probe(x, y[:, k], x_test, y_test[:, k]) for k, name in enumerate(BAR_ATTRIBUTES)}
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        told = {"r2": figures, "bars": len(x), "held_out_bars": len(x_test)}
        (folder / "probes.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
        some = np.linspace(0, len(x_test) - 1, min(len(x_test), 4000)).astype(int)
        draw_summaries(main_directions(x_test)[some], y_test[some]).save(folder / "summaries.png")
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="museformer_probes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--data", required=True, help="folder made by build_midi --tokens")
    parser.add_argument("--out", required=True, help="folder for the figures and the picture")
    parser.add_argument("--chunks", type=int, default=200, help="chunks of each split at most (default %(default)s)")
    a = parser.parse_args(arguments)
    try:
        train, held_out = (read_pieces(a.data, split, a.chunks) for split in ("train", "validation"))
        from ..modeling.modeling_museformer import MuseformerForCausalLM

        if not (Path(a.model) / "config.json").is_file():
            raise InputError(a.model, "no model folder")
        figures = measure(MuseformerForCausalLM.from_pretrained(a.model).eval(), train, held_out, a.out)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, value in figures.items():
        print(f"{name}: R² {value:.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
