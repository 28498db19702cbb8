"""Evaluator of NativeVLM: reading, drawing read back, grids, ink, speed.

The test set is a folder of `build_interleaved` (`--data`): its split `test`, or `validation` where there is none.
Without `--data`, systems in the plain style are drawn by the seed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..processing.alphatex_grammar import Score, read_alphatex
from ..processing.errors import InputError
from ..processing.native_settings import GUIDANCE, NUM_BEAMS, TRIES
from .evaluation_museformer import read_options
from .evaluation_reader import PictureReader, load_reader
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
    **{f"text alone, lost/{name}": Target(0.02, at_most=True) for name in ("structure", "tab_completion")},
    "text alone, lost/note_completion": Target(0.02, at_most=True),
}


@dataclass(frozen=True)
class Options:
    """Settings of the evaluator.

    Attributes:
        quick: No reading without the grammar.
        drawings: Systems that are drawn; 0: as many as are read.
        batch: Rows that are read or drawn together; a beam is one.
        timed: Systems whose reading and drawing is timed, one by one.
        guidance_scale: Of the drawings.
        tries: Drawings at most of each text; the model keeps the one that it reads best itself.
        num_beams: Of the readings.
        rows, columns: Size of the drawings in patches; 0: the model chooses.
        texts: Texts that are written, completed and asked for a note, without a picture; 0: none.
        lm: Language model to compare them with, or a ScoreVLM that has one; empty: the repository's own ScoreVLM.
    """

    quick: bool = False
    drawings: int = 0
    batch: int = 16
    timed: int = 20
    guidance_scale: float = GUIDANCE
    tries: int = TRIES
    num_beams: int = NUM_BEAMS
    rows: int = 0
    columns: int = 0
    texts: int = 100
    lm: str = ""

    def drawing(self) -> dict[str, Any]:
        """Arguments of `draw_texts`."""
        sizes = {"rows": self.rows or None, "columns": self.columns or None}
        return {"guidance_scale": self.guidance_scale, "tries": self.tries, **sizes}


def load_parts(request: EvaluationRequest, reader: str | None) -> tuple[Any, Any, PictureReader]:
    """Model, processor, and the ScoreVLM that reads drawings."""
    from ..drawing import load_drawer

    model, processor = load_drawer(request.checkpoint)
    whole = load_reader(folder := reader or str(ROOT / "checkpoints" / "score_vlm"), model.device)
    if whole is None:
        raise InputError(folder, "is no ScoreVLM checkpoint; it has to read the drawings back")
    return model, processor, whole


def lessons_of_split(
    request: EvaluationRequest, image_vq: Any, failures: list[Failure]
) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """What is tested on in words, and its lessons to read and to draw, as many of each as are asked for."""
    from .evaluation_plain_systems import plain_lessons
    from .native_vlm_data import read_lessons

    if request.data is None:
        folder = plain_lessons(request.n, request.seed, request.out or Path("out") / "evaluation", image_vq, failures)
        split, where = "test", "plain systems of one and two bars"
    else:
        folder = Path(request.data)
        split = "test" if any(folder.glob("data/test-*.parquet")) else "validation"
        where = f"{split} split of {folder.name}"
    return where, *(read_lessons(folder, split, [kind], request.n) for kind in ("read", "draw"))  # type: ignore[return-value]


def by_size(lessons: Sequence[dict[str, Any]], part: int, size: int) -> list[list[int]]:
    """Numbers of lessons in batches of like pictures; `part` is the picture's place in them."""
    order = sorted(range(len(lessons)), key=lambda i: len(lessons[i]["parts"][part]["codes"]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def piece_names(lessons: Sequence[dict[str, Any]]) -> list[str]:
    """The piece of each lesson."""
    from ..datasets_scripts.build_interleaved import piece_and_place

    return [piece_and_place(lesson["name"])[0] for lesson in lessons]


def measure_reading(
    model: Any, processor: Any, lessons: Sequence[dict[str, Any]], request: EvaluationRequest, options: Options,
    grammar: bool = True,
) -> dict[str, Estimate]:  # fmt: skip
    """Figures of what is read off pictures, in batches of like sizes."""
    from ..datasets_scripts.interleaved_lessons import part_codes
    from .native_vlm_evaluation import read_codes

    scores: dict[int, PairScores] = {}
    size = max(1, options.batch // options.num_beams)  # beams are rows, too: more than some 20 thrash the caches
    for numbers in request.track(by_size(lessons, 0, size), "reading" if grammar else "reading freely"):
        grids = [part_codes(lessons[i]["parts"][0]) for i in numbers]
        texts = read_codes(model, processor, grids, grammar, num_beams=options.num_beams)
        for i, got in zip(numbers, texts, strict=True):
            scores[i] = score_pair(got, lessons[i]["parts"][1]["text"])
    return summarise([scores[i] for i in range(len(lessons))], piece_names(lessons), seed=request.seed)


def draw_or_tell(
    model: Any, processor: Any, lessons: Sequence[dict[str, Any]], numbers: Sequence[int], failures: list[Failure],
    options: Options,
) -> dict[int, Any]:  # fmt: skip
    """Drawings by number, of one batch; where it fails each by itself, and what fails then is named."""
    from .native_vlm_evaluation import draw_texts

    try:
        texts = [lessons[i]["parts"][0]["text"] for i in numbers]
        return dict(zip(numbers, draw_texts(model, processor, texts, **options.drawing()), strict=True))
    except InputError as error:  # a grid that does not read, or a text that does not fit
        if len(numbers) == 1:
            failures.append(Failure(lessons[numbers[0]]["name"], "draw", str(error)))
            return {}
    found: dict[int, Any] = {}
    for i in numbers:
        found |= draw_or_tell(model, processor, lessons, [i], failures, options)
    return found


def measure_drawing(
    model: Any, processor: Any, whole: PictureReader, lessons: Sequence[dict[str, Any]], request: EvaluationRequest,
    failures: list[Failure], options: Options,
) -> dict[str, Estimate]:  # fmt: skip
    """Draws, reads back, and counts; see `drawing_figures`."""
    from ..datasets_scripts.interleaved_lessons import part_codes
    from .native_vlm_evaluation import read_drawing

    drawings: dict[int, Any] = {}
    tower = whole.model.vision_tower
    for numbers in request.track(by_size(lessons, 1, options.batch), "drawing"):
        for i, picture in draw_or_tell(model, processor, lessons, numbers, failures, options).items():
            text, true = lessons[i]["parts"]
            drawings[i] = read_drawing(model, processor, picture, text["text"], part_codes(true), tower, whole)
    return drawing_figures(drawings, lessons, request.seed)


def drawing_figures(drawings: dict[int, Any], lessons: Sequence[dict[str, Any]], seed: int) -> dict[str, Estimate]:
    """Figures of drawings, read back by ScoreVLM: `note_f1` against what was asked, `codes_note_f1` of the true
    pictures, decoded from their codes, both again by its dense tower alone (`tower_…`); `legal_grids`, `ink_iou`.

    Args:
        drawings: `Drawing` by the number of its lesson; one that is missing was not drawn.
        lessons: All that were asked for.
        seed: Of the intervals.
    """
    counts: dict[str, list[tuple[int, int, int]]] = {}
    read = {"note_f1": "whole_read", "codes_note_f1": "whole_true_read"}
    read |= {"tower_note_f1": "read", "tower_codes_note_f1": "true_read"}
    for i, lesson in enumerate(lessons):
        truth, one = read_alphatex(lesson["parts"][0]["text"]), drawings.get(i)
        for name, version in read.items():
            counts.setdefault(name, []).append(note_counts(getattr(one, version) if one else Score(), truth))
    pieces = piece_names(lessons)
    figures = {"legal_grids": proportion([i in drawings for i in range(len(lessons))], pieces)}
    for name, found in counts.items():
        halves = [(predicted + true) / 2 for _, predicted, true in found]
        figures[name] = ratio([float(hit) for hit, _, _ in found], halves, pieces, seed=seed, unit="notes")
    overlap = [drawings[i].ink_iou if i in drawings else 0.0 for i in range(len(lessons))]
    figures["ink_iou"] = ratio(overlap, [1.0] * len(overlap), pieces, seed=seed)
    return figures


def measure_speed(
    model: Any, processor: Any, lessons: Sequence[dict[str, Any]], request: EvaluationRequest, options: Options
) -> dict[str, Estimate]:
    """Seconds to read and to draw one system, each by itself."""
    from ..datasets_scripts.interleaved_lessons import part_codes
    from .native_vlm_evaluation import draw_texts, read_codes

    seconds: dict[str, list[float]] = {"seconds_to_read": [], "seconds_to_draw": []}
    for lesson in request.track(lessons, "one by one"):
        text, picture = lesson["parts"]
        started = time.monotonic()
        read_codes(model, processor, [part_codes(picture)], num_beams=options.num_beams)
        read = time.monotonic()
        draw_texts(model, processor, [text["text"]], **options.drawing())
        seconds["seconds_to_read"].append(read - started)
        seconds["seconds_to_draw"].append(time.monotonic() - read)
    pieces = piece_names(lessons)
    return {name: ratio(found, [1.0] * len(found), pieces, seed=request.seed) for name, found in seconds.items()}


def measure_texts(
    model: Any, processor: Any, lessons: Sequence[dict[str, Any]], request: EvaluationRequest, options: Options
) -> dict[str, dict[str, Estimate]]:
    """What it can do without a picture, and what the language model that it grew from can, on the lessons' texts.

    Returns:
        A section of each, and `text alone, lost`: how far the first is behind the second.
    """
    from .evaluation_alphatex_lm import LanguageText, Writer, load_language_model
    from .evaluation_alphatex_lm import Options as WritingOptions
    from .evaluation_native_text import NativeWriter, behind, measure_text

    how = WritingOptions(max_new_tokens=400)
    found = {}
    own = NativeWriter(model, processor.tokenizer, how, request.seed)
    before = Writer(*load_language_model(options.lm or str(ROOT / "checkpoints" / "score_vlm")), how, request.seed)
    for name, writer in (("text alone", own), ("text alone, the language model", before)):
        encode = writer.tokenizer.encode
        texts = [encode(lesson["parts"][1]["text"], add_special_tokens=False) for lesson in lessons]
        pairs = [LanguageText(ids, piece) for ids, piece in zip(texts, piece_names(lessons), strict=True)]
        found[name] = measure_text(writer, pairs, request)
    after, first = found.values()
    return found | {"text alone, lost": {name: behind(first[name], after[name]) for name in after if name in first}}


def evaluate_native_vlm(request: EvaluationRequest, *, reader: str | None = None, **settings: Any) -> EvaluationReport:
    """Measures reading and drawing on held-out systems.

    Args:
        request: `data` is a folder of `build_interleaved`; without it plain systems are drawn.
        reader: ScoreVLM checkpoint whose dense tower reads drawings; the repository's own when `None`.
        **settings: Of `Options`.

    Raises:
        InputError: No checkpoint, or a setting that does not exist.
    """
    options = read_options(Options, settings)
    model, processor, whole = load_parts(request, reader)
    failures: list[Failure] = []
    where, to_read, to_draw = lessons_of_split(request, model.image_vq, failures)
    report = EvaluationReport(request.stem, request.checkpoint, where, len(to_read), request.seed)
    report.targets, report.failures = dict(TARGETS), failures
    report.figures |= measure_reading(model, processor, to_read, request, options)
    if not options.quick:
        report.sections["reading without the grammar"] = measure_reading(
            model, processor, to_read, request, options, False
        )
    to_draw = to_draw[: options.drawings or None]
    report.sections["drawing"] = measure_drawing(model, processor, whole, to_draw, request, report.failures, options)
    report.sections["speed"] = measure_speed(model, processor, to_draw[: options.timed], request, options)
    if options.texts:
        report.sections |= measure_texts(model, processor, to_read[: options.texts], request, options)
    report.facts["parameters"] = sum(p.numel() for p in model.parameters())
    report.facts |= {"guidance_scale": options.guidance_scale, "tries": options.tries, "num_beams": options.num_beams}
    report.notes += [
        "Pictures are read from their codes; drawings are read back by ScoreVLM, which is not told what was asked for.",
        "Each drawing is the one of up to `tries` that the model itself reads best; ScoreVLM does not choose.",
        "Texts alone are sampled at temperature 0.7 without the grammar; the language model is that of `lm`.",
        "`codes_note_f1`: what it reads off the true pictures after the codes.",
        "`tower_…`: what its dense tower reads alone, in one look, told metre, strings and staves.",
        "`ink_iou`: overlap with the engraver's picture as the lessons have it, beats in columns, after the codes.",
    ]
    return report


__all__ = ["Options", "evaluate_native_vlm", "measure_drawing", "measure_reading", "measure_speed"]
