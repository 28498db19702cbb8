"""Evaluator of NativeVLM: reading, drawing read back, grids, ink, speed.

The test set is a folder of `build_interleaved` (`--data`): its split `test`, or `validation` where there is none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..processing.alphatex_grammar import Score, read_alphatex
from ..processing.errors import InputError
from .evaluation_report import ROOT, EvaluationReport, Failure, Target
from .metrics_common import Estimate, proportion, ratio
from .metrics_tab import PairScores, note_counts, score_pair, summarise

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest

TARGETS = {
    "note_f1": Target(0.9),
    "parses": Target(1.0),
    "drawing/legal_grids": Target(1.0),
    "drawing/note_f1": Target(0.85),
}


def load_parts(request: EvaluationRequest, reader: str | None) -> tuple[Any, Any, Any]:
    """Model, processor, and the dense tower that reads drawings."""
    from ..drawing import load_drawer
    from ..modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration

    folder = reader or str(ROOT / "checkpoints" / "score_vlm")
    if not (Path(folder) / "config.json").is_file():
        raise InputError(folder, "is no ScoreVLM checkpoint; it has to read the drawings back")
    tower = ScoreVLMForConditionalGeneration.from_pretrained(folder).vision_tower.float().eval()
    model, processor = load_drawer(request.checkpoint)
    return model, processor, tower.to(model.device)


def lessons_of_split(request: EvaluationRequest) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """Name of the split, and its lessons to read and to draw, as many of each as are asked for."""
    from .native_vlm_data import read_lessons

    if request.data is None:
        raise InputError(None, "say what to test on: --data FOLDER (made by build_interleaved)")
    split = "test" if any(Path(request.data).glob("data/test-*.parquet")) else "validation"
    return split, *(read_lessons(request.data, split, [kind], request.n) for kind in ("read", "draw"))  # type: ignore[return-value]


def measure_reading(
    model: Any, processor: Any, lessons: Sequence[dict[str, Any]], request: EvaluationRequest, grammar: bool = True
) -> dict[str, Estimate]:
    """Figures of what is read off pictures, and seconds a picture."""
    from ..datasets_scripts.build_interleaved import piece_and_place
    from ..datasets_scripts.interleaved_lessons import part_codes
    from .native_vlm_evaluation import read_codes

    scores: list[PairScores] = []
    seconds = []
    for lesson in request.track(lessons, "reading" if grammar else "reading freely"):
        started = time.monotonic()
        got = read_codes(model, processor, part_codes(lesson["parts"][0]), grammar)
        seconds.append(time.monotonic() - started)
        scores.append(score_pair(got, lesson["parts"][1]["text"]))
    pieces = [piece_and_place(lesson["name"])[0] for lesson in lessons]
    figures = summarise(scores, pieces, seed=request.seed)
    figures["seconds"] = ratio(seconds, [1.0] * len(seconds), pieces, seed=request.seed)
    return figures


def measure_drawing(
    model: Any, processor: Any, tower: Any, lessons: Sequence[dict[str, Any]], request: EvaluationRequest,
    failures: list[Failure], **options: Any,
) -> dict[str, Estimate]:  # fmt: skip
    """Figures of drawings, read back by the dense tower: `note_f1` against what was asked, `codes_note_f1` of the true
    pictures, decoded from their codes, `legal_grids`, `ink_iou`, `seconds`.
    """
    from ..datasets_scripts.build_interleaved import piece_and_place
    from ..datasets_scripts.interleaved_lessons import part_codes
    from .native_vlm_evaluation import draw_and_read

    counts: dict[str, list[tuple[int, int, int]]] = {"note_f1": [], "codes_note_f1": []}
    legal, overlap, seconds = [], [], []
    for lesson in request.track(lessons, "drawing"):
        text, codes = lesson["parts"][0]["text"], part_codes(lesson["parts"][1])
        truth = read_alphatex(text)
        try:
            drawing = draw_and_read(model, processor, text, codes, tower, **options)
        except InputError as error:  # a grid that does not read, or a text that does not fit
            failures.append(Failure(lesson["name"], "draw", str(error)))
            legal.append(False)
            overlap.append(0.0)
            seconds.append(0.0)
            for found in counts.values():
                found.append(note_counts(Score(), truth))
            continue
        legal.append(True)
        overlap.append(drawing.ink_iou)
        seconds.append(drawing.seconds)
        counts["note_f1"].append(note_counts(drawing.read, truth))
        counts["codes_note_f1"].append(note_counts(drawing.true_read, truth))
    pieces = [piece_and_place(lesson["name"])[0] for lesson in lessons]
    figures = {"legal_grids": proportion(legal, pieces)}
    for name, found in counts.items():
        halves = [(predicted + true) / 2 for _, predicted, true in found]
        figures[name] = ratio([float(hit) for hit, _, _ in found], halves, pieces, seed=request.seed, unit="notes")
    for name, values in (("ink_iou", overlap), ("seconds", seconds)):
        figures[name] = ratio(values, [1.0] * len(values), pieces, seed=request.seed)
    return figures


def evaluate_native_vlm(
    request: EvaluationRequest,
    *,
    quick: bool = False,
    reader: str | None = None,
    guidance_scale: float = 1.0,
    **options: Any,
) -> EvaluationReport:
    """Measures reading and drawing on held-out systems.

    Args:
        request: `data` is a folder of `build_interleaved`.
        quick: No reading without the grammar.
        reader: ScoreVLM checkpoint whose dense tower reads drawings; the repository's own when `None`.
        guidance_scale: Of the drawings.
        **options: Of `generate_images`.

    Raises:
        InputError: No data, no checkpoint.
    """
    split, to_read, to_draw = lessons_of_split(request)
    model, processor, tower = load_parts(request, reader)
    report = EvaluationReport(
        request.stem, request.checkpoint, f"{split} split of {Path(str(request.data)).name}", len(to_read), request.seed
    )
    report.targets = dict(TARGETS)
    report.figures |= measure_reading(model, processor, to_read, request)
    if not quick:
        report.sections["reading without the grammar"] = measure_reading(model, processor, to_read, request, False)
    drawn = measure_drawing(
        model, processor, tower, to_draw, request, report.failures, guidance_scale=guidance_scale, **options
    )
    report.sections["drawing"] = drawn
    report.facts["parameters"] = sum(p.numel() for p in model.parameters())
    report.facts["guidance_scale"] = guidance_scale
    report.notes += [
        "Pictures are read from their codes; drawings are read back by the dense tower of ScoreVLM alone.",
        "`codes_note_f1`: what the tower reads off the true pictures after the codes; drawings can not beat it.",
    ]
    return report


__all__ = ["evaluate_native_vlm", "measure_drawing", "measure_reading"]
