"""How good a picture tokenizer is: strokes, noise, use of the codebook, and whether a reader can still read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..processing.alphatex_grammar import read_alphatex
from ..processing.dense_reading import DenseReader
from ..processing.grid_pictures import from_ink, grid_to_canvas, to_ink
from ..processing.system_canvas import BATCH_MARGIN_PX
from .image_vq_data import GridPictures
from .metrics_image import image_match
from .metrics_tab import note_counts


def psnr_db(first: np.ndarray, second: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibel of two uint8 pictures of one size; 99 where they are equal."""
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return 99.0 if error == 0 else min(99.0, 10 * float(np.log10(255.0**2 / error)))


def codebook_use(codes: Sequence[np.ndarray], size: int) -> tuple[float, float]:
    """Part of the codebook that occurs, and its perplexity: how many equally frequent codes would say as much."""
    counts = np.bincount(np.concatenate([c.ravel() for c in codes]), minlength=size)
    share = counts[counts > 0] / counts.sum()
    return float((counts > 0).mean()), float(np.exp(-(share * np.log(share)).sum()))


@torch.no_grad()
def reconstruct(model: Any, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """A picture (uint8, white = 255) through the codes: codes `(h, w)`, the picture again, and the loss.

    A borrowed tokenizer has no loss of ours: `nan`.
    """
    ink = torch.from_numpy(to_ink(picture))[None, None].to(model.device)
    out = model(ink)
    loss = float("nan") if out.loss is None else float(out.loss)
    return out.codes[0].cpu().numpy(), from_ink(out.reconstruction[0, 0].float().cpu().numpy()), loss


def evaluate_image_vq(model: Any, pictures: GridPictures, count: int) -> dict[str, float]:
    """Reconstructs the first `count` pictures, each by itself.

    Returns:
        `loss`, where there is one; `stroke_f1` (ink without staff lines, 1 px tolerance) and `stroke_f1_exact` (0 px);
        `ink_iou`; `psnr_db`; `codebook_usage` and `codebook_perplexity` over all of them; `codes`, mean number of a
        picture.
    """
    figures: dict[str, list[float]] = {}
    grids = []
    for i in range(min(count, len(pictures))):
        picture = pictures[i]["picture"]
        if picture is None:
            continue
        codes, again, loss = reconstruct(model, picture)
        grids.append(codes)
        one, two = Image.fromarray(again), Image.fromarray(picture)
        match = image_match(one, two)
        found = {"loss": loss, "stroke_f1": match.stroke_f1, "ink_iou": match.ink_iou}
        found |= {"stroke_f1_exact": image_match(one, two, 0).stroke_f1, "psnr_db": psnr_db(again, picture)}
        found["codes"] = float(codes.size)
        for name, value in found.items():
            figures.setdefault(name, []).append(value)
    usage, perplexity = codebook_use(grids, model.config.codebook_size)
    means = {name: float(np.mean(values)) for name, values in figures.items() if not np.isnan(values).all()}
    return means | {"codebook_usage": usage, "codebook_perplexity": perplexity}


@torch.no_grad()
def digit_probe(model: Any, tower: Any, pictures: GridPictures, count: int) -> dict[str, float]:
    """Reads pictures before and after the codes with a dense tower.

    Args:
        model: `ImageVQModel`.
        tower: `ScoreTowerModel`.
        pictures: Systems.
        count: How many.

    Returns:
        Note F1 of the tower on the originals (`original_note_f1`), on the same pictures scaled down and up without
        codes (`scaled_note_f1`), and on the reconstructions (`reconstructed_note_f1`); `note_f1_gap` is the first
        minus the last, which should stay under 0.02. `systems`: how many were read.
    """
    sums = {name: np.zeros(3) for name in ("original", "scaled", "reconstructed")}
    read = 0
    for i in range(min(count, len(pictures))):
        row = pictures[i]
        if row["picture"] is None:
            continue
        read += 1
        again = reconstruct(model, row["picture"])[1]
        versions = {
            "original": row["canvas"],
            "scaled": grid_to_canvas(row["picture"], pictures.geometry, row["score"]),
            "reconstructed": grid_to_canvas(again, pictures.geometry, row["score"]),
        }
        truth = read_alphatex(row["text"])
        for name, canvas in versions.items():
            sums[name] += note_counts(read_canvas(tower, canvas, row, pictures.space), truth)
    figures = {f"{name}_note_f1": 2 * s[0] / max(s[1] + s[2], 1) for name, s in sums.items()}
    figures["note_f1_gap"] = figures["original_note_f1"] - figures["reconstructed_note_f1"]
    return figures | {"systems": float(read)}


@torch.no_grad()
def read_canvas(tower: Any, canvas: np.ndarray, row: dict[str, Any], space: dict[str, list[str]]) -> Any:
    """The score that a dense tower reads off a canvas; `row` says `strings`, `score` (is there a staff) and `metre`."""
    width = canvas.shape[1]
    room = BATCH_MARGIN_PX - width % -16  # up to a multiple of 16, and as far as convolutions see
    ink = torch.from_numpy(np.pad(to_ink(canvas), ((0, 0), (0, room))))[None, None]
    out = tower(ink.to(tower.device), torch.tensor([width], device=tower.device))
    logits = {name: value[0].float().cpu().numpy() for name, value in out.dense_logits.items()}
    show = ("score", "tabs") if row["score"] else ("tabs",)
    reader = DenseReader(space, show, row["strings"], tuple(row.get("metre", (4, 4))))
    return reader.read(logits, width).score


__all__ = ["codebook_use", "digit_probe", "evaluate_image_vq", "psnr_db", "read_canvas", "reconstruct"]
