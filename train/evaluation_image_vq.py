"""Evaluator of ImageVQ: what its codes keep of a picture, and what a reader still finds on it.

    intermezzo evaluate image_vq --n 500
    intermezzo evaluate image_vq --data packs/held_out

Without `--data` (a packed folder of `train score_vlm --stage pack`), systems in the plain style are drawn by the seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..processing.alphatex_grammar import read_alphatex
from ..processing.errors import InputError
from ..processing.grid_pictures import grid_to_canvas
from .evaluation_plain_systems import MAX_BARS, plain_systems
from .evaluation_reader import PictureReader, load_reader
from .evaluation_report import ROOT, EvaluationReport, Target
from .image_vq_data import GridPictures
from .image_vq_evaluation import codebook_use, psnr_db, read_canvas, reconstruct
from .metrics_common import Estimate, ratio
from .metrics_image import image_match
from .metrics_tab import note_counts

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest

TARGETS = {"note_f1_gap": Target(0.02, at_most=True), "codebook_usage": Target(0.6)}
VERSIONS = ("original", "scaled", "blank", "note_f1")


def load_parts(request: EvaluationRequest, reader: str | None) -> tuple[Any, Any, PictureReader | None]:
    """The tokenizer, the dense tower that reads, and the whole ScoreVLM around it, if there is one.

    Raises:
        InputError: One of them is not there.
    """
    from ..modeling.modeling_image_vq import ImageVQModel
    from .train_image_vq import load_tower

    try:
        model = ImageVQModel.from_pretrained(request.checkpoint).float().eval()
    except (OSError, ValueError) as error:
        raise InputError(request.checkpoint, f"does not load: {str(error).splitlines()[0]}") from error
    folder = reader or str(ROOT / "checkpoints" / "score_vlm")
    return model, load_tower(folder), load_reader(folder)


def held_out_pictures(request: EvaluationRequest, model: Any, report: EvaluationReport) -> GridPictures:
    """Grid pictures of the folder that is asked for, or of plain systems."""
    from .score_vlm_data import PackedSystems

    folder = request.data or str(
        plain_systems(request.n, request.seed, request.out or Path("out") / "evaluation", report.failures)
    )
    return GridPictures(PackedSystems([folder]), model.config.geometry, MAX_BARS, 4096 // model.config.patch_width)


def evaluate_image_vq(
    request: EvaluationRequest, *, quick: bool = False, reader: str | None = None
) -> EvaluationReport:
    """Measures a picture tokenizer on held-out systems.

    Args:
        request: `data` is a packed folder; without it plain systems are drawn.
        quick: Nothing is read, only pixels are compared.
        reader: ScoreVLM checkpoint that reads, or a tower alone; the repository's own when `None`.

    Returns:
        `stroke_f1` (ink without staff lines, 1 px tolerance), `stroke_f1_exact`, `ink_iou`, `psnr_db`, `codes` a
        picture, `codebook_usage`; `note_f1` of what is read off the reconstructions, and `note_f1_gap` to the
        originals. Section `reading`: the originals. Section `tower alone`: the same figures where ScoreVLM's dense
        tower reads by itself, in one look, told metre and strings; and the originals scaled down and up without codes,
        and a blank picture.

    Raises:
        InputError: No checkpoint, no data.
    """
    model, tower, whole = load_parts(request, reader)
    where = Path(request.data).name if request.data else "plain systems of one and two bars"
    report = EvaluationReport(request.stem, request.checkpoint, where, request.n, request.seed)
    report.task, report.dataset_type, report.targets = "image-to-image", "score_tab", dict(TARGETS)
    pictures = held_out_pictures(request, model, report)
    pieces: list[str] = []
    grids: list[np.ndarray] = []
    values: dict[str, list[float]] = {}
    counts: dict[str, list[tuple[int, int, int]]] = {name: [] for name in VERSIONS}
    read: dict[str, list[tuple[int, int, int]]] = {"original": [], "note_f1": []}
    for i in request.track(range(len(pictures)), "pictures", len(pictures)):
        row = pictures[i]
        if row["picture"] is None or len(grids) == request.n:
            continue
        codes, again, _ = reconstruct(model, row["picture"])
        grids.append(codes)
        pieces.append(row["name"].rpartition(" ")[0])
        for name, value in compare(again, row["picture"], codes).items():
            values.setdefault(name, []).append(value)
        if not quick:
            count_notes(counts, row, again, pictures, tower)
        if not quick and whole is not None:
            for name, score in zip(read, whole([row["canvas"], again]), strict=True):
                read[name].append(note_counts(score, read_alphatex(row["text"])))
    if not grids:
        raise InputError(request.data, "holds no picture that fits the grid")
    report.n = len(grids)
    ones = [1.0] * len(grids)
    report.figures = {name: ratio(found, ones, pieces, seed=request.seed) for name, found in values.items()}
    usage, perplexity = codebook_use(grids, model.config.codebook_size)
    for name, value in (("codebook_usage", usage), ("codebook_perplexity", perplexity)):
        report.figures[name] = Estimate(value, value, value, len(grids))
    if not quick:
        alone = reading_figures(counts, pieces, request.seed)
        tell_reading(report, alone, None if whole is None else reading_figures(read, pieces, request.seed))
    return report


def tell_reading(report: EvaluationReport, alone: dict[str, Estimate], whole: dict[str, Estimate] | None) -> None:
    """Puts what was read into the report: by the whole ScoreVLM if it was asked, otherwise by the tower alone."""
    figures = dict(alone if whole is None else whole)
    report.figures |= {name: figures.pop(name) for name in ("note_f1", "note_f1_gap")}
    report.sections["reading"] = figures
    if whole is not None:
        report.sections["tower alone"] = alone
        report.notes.append("Read by the whole ScoreVLM; `tower alone` is its dense tower by itself, in one look.")


def compare(again: np.ndarray, picture: np.ndarray, codes: np.ndarray) -> dict[str, float]:
    """Figures of one picture after the codes."""
    one, two = Image.fromarray(again), Image.fromarray(picture)
    match = image_match(one, two)
    return {
        "stroke_f1": match.stroke_f1,
        "stroke_f1_exact": image_match(one, two, 0).stroke_f1,
        "ink_iou": match.ink_iou,
        "psnr_db": psnr_db(again, picture),
        "codes": float(codes.size),
    }


def count_notes(
    counts: dict[str, list[tuple[int, int, int]]], row: dict[str, Any], again: np.ndarray, pictures: Any, tower: Any
) -> None:
    """Adds the notes that the tower finds on each version of a picture."""
    geometry, truth = pictures.geometry, read_alphatex(row["text"])
    versions = {
        "original": row["canvas"],
        "scaled": grid_to_canvas(row["picture"], geometry, row["score"]),
        "blank": np.full_like(row["canvas"], 255),
        "note_f1": grid_to_canvas(again, geometry, row["score"]),
    }
    for name, canvas in versions.items():
        counts[name].append(note_counts(read_canvas(tower, canvas, row, pictures.space), truth))


def reading_figures(counts: dict[str, list[tuple[int, int, int]]], pieces: list[str], seed: int) -> dict[str, Estimate]:
    """F1 of each version, and what the codes cost."""
    figures = {name: note_f1(found, pieces, seed) for name, found in counts.items()}
    return figures | {"note_f1_gap": gap(counts, pieces, seed)}


def note_f1(found: list[tuple[int, int, int]], pieces: list[str], seed: int) -> Estimate:
    """F1 of (right, found, there) of each picture."""
    halves = [(predicted + true) / 2 for _, predicted, true in found]
    return ratio([float(hit) for hit, _, _ in found], halves, pieces, seed=seed, unit="notes")


def gap(counts: dict[str, list[tuple[int, int, int]]], pieces: list[str], seed: int) -> Estimate:
    """F1 of the originals less that of the reconstructions, with a bootstrap over pieces that draws both alike."""
    names = sorted(set(pieces))
    place = {name: k for k, name in enumerate(names)}
    sums = np.zeros((2, len(names), 3))
    for version, which in enumerate(("original", "note_f1")):
        np.add.at(sums[version], [place[name] for name in pieces], np.array(counts[which], dtype=float))
    draw = np.random.default_rng(seed)

    def difference(rows: np.ndarray) -> float:
        hit, predicted, true = np.moveaxis(sums[:, rows].sum(1), -1, 0)
        f1 = 2 * hit / np.maximum(predicted + true, 1)
        return float(f1[0] - f1[1])

    drawn = [difference(draw.integers(len(names), size=len(names))) for _ in range(1000)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Estimate(difference(np.arange(len(names))), float(low), float(high), len(pieces))


__all__ = ["evaluate_image_vq"]
