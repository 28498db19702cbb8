"""Evaluator of the tab reader: systems, baselines, decoder variants, pictures drawn again, whole pages."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..processing.errors import InputError
from .evaluation_data import Sample, load_samples
from .evaluation_pictures import measure_pages, measure_pictures
from .evaluation_report import EvaluationReport, Failure, Target
from .metrics_common import Estimate, ratio
from .metrics_tab import PairScores, score_pair, summarise

if TYPE_CHECKING:
    from PIL import Image

    from .evaluation import EvaluationRequest

TARGETS = {
    "system_exact": Target(0.85),
    "bar_exact": Target(0.93),
    "note_f1": Target(0.985),
    "parses": Target(1.0),
    "bars_close": Target(1.0),
    "seconds_per_system": Target(1.5, at_most=True),
    "pages/all_systems_found": Target(0.98),
    "pages/note_f1": Target(0.97),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "one look": {"views": 1},
    "grammar off": {"grammar": False},
    "evidence off": {"evidence": False},
    "dense heads alone": {"dense_only": True},
}
MAIN_FIGURES = ("system_exact", "bar_exact", "note_f1", "parses", "bars_close", "tab_ned")
#: Failures of a renderer or reader on one sample must not end an evaluation of a thousand; bugs of ours must.
OURS = (AssertionError, NameError, KeyboardInterrupt)


@dataclass(frozen=True)
class Options:
    """How much of what is measured.

    Attributes:
        variants: Decoder variants, names of `VARIANTS`.
        batch_size: Pictures read at once.
        baseline_n: Systems for each baseline.
        variant_n: Systems for each variant.
        timing_n: Systems timed at batch 1.
        picture_n: Systems drawn again and compared.
        omr_ned_n: Systems compared by musicdiff.
        pages_n: Pages drawn and read.
        quick: Leave out variants, pictures, OMR-NED and pages.
    """

    variants: tuple[str, ...] = tuple(VARIANTS)
    batch_size: int = 8
    baseline_n: int = 200
    variant_n: int = 60
    timing_n: int = 50
    picture_n: int = 200
    omr_ned_n: int = 60
    pages_n: int = 50
    quick: bool = False


class Reading(Protocol):
    """One system as read."""

    text: str


class Reader(Protocol):
    """What is evaluated: pictures of one system in, texts out."""

    def read_batch(self, pictures: list[Image.Image]) -> Sequence[Reading]:
        """Read pictures in order."""
        ...


def load_reader(checkpoint: str, **switches: Any) -> Reader:
    """The product's own reader, so that what is measured is what people run.

    Args:
        checkpoint: Folder or Hub name.
        **switches: Decoder variant, for example `grammar=False` or `views=1`.
    """
    from ..processing.system_reader import SystemReader

    return SystemReader.from_pretrained(checkpoint, **switches)


def read_all(
    reader: Reader, pictures: Sequence[tuple[str, Image.Image]], failures: list[Failure], request: EvaluationRequest,
    *, stage: str = "read", batch_size: int = 8,
) -> list[str]:  # fmt: skip
    """Read named pictures in batches; one that fails is read as an empty text and named.

    A failing batch is read again picture by picture, so that one bad picture spoils no other.
    """
    texts: list[str] = []
    starts = range(0, len(pictures), batch_size)
    for start in request.track(starts, stage, len(starts)):
        batch = pictures[start : start + batch_size]
        try:
            texts += _read(reader, [picture for _, picture in batch])
        except Exception as error:
            if isinstance(error, OURS):
                raise
            for name, picture in batch:
                try:
                    texts += _read(reader, [picture])
                except Exception as single:
                    failures.append(Failure(name, stage, f"{type(single).__name__}: {single}"))
                    texts.append("")
    return texts


def _read(reader: Reader, pictures: list[Image.Image]) -> list[str]:
    readings = reader.read_batch(pictures)
    if len(readings) != len(pictures):
        raise AssertionError(f"the reader returned {len(readings)} readings for {len(pictures)} pictures")
    return [reading.text for reading in readings]


def score_all(
    texts: Sequence[str], samples: Sequence[Sample], request: EvaluationRequest, what: str = "compare"
) -> list[PairScores]:
    """Score one text for each sample (their truths are known to parse: `load_samples` keeps no other)."""
    pairs = zip(texts, samples, strict=True)
    return [score_pair(text, sample.text) for text, sample in request.track(pairs, what, len(samples))]


def _pieces(samples: Sequence[Sample]) -> list[str]:
    return [sample.piece for sample in samples]


def _main_figures(scores: Sequence[PairScores], samples: Sequence[Sample], seed: int) -> dict[str, Estimate]:
    figures = summarise(scores, _pieces(samples), seed=seed)
    return {name: figures[name] for name in MAIN_FIGURES}


def time_reader(reader: Reader, samples: Sequence[Sample], count: int, seed: int) -> Estimate:
    """Seconds for one system at batch 1, wall clock, one unmeasured warm-up first.

    Pictures that cannot be read are left out here: they are counted where they are read.
    """
    seconds: list[float] = []
    pieces: list[str] = []
    for number, sample in enumerate([samples[0], *samples[:count]] if samples else []):
        started = time.perf_counter()
        try:
            _read(reader, [sample.image])
        except Exception as error:
            if isinstance(error, OURS):
                raise
            continue
        if number:
            seconds.append(time.perf_counter() - started)
            pieces.append(sample.piece)
    return ratio(seconds, [1.0] * len(seconds), pieces, seed=seed)


def wrong_partners(samples: Sequence[Sample], seed: int) -> list[int | None]:
    """For each sample another one of another piece whose reading it is given; `None` when all are of one piece.

    Each reading is used about once: samples are shuffled and paired with the next one of another piece.
    """
    order = np.random.default_rng(seed).permutation(len(samples))
    partners: list[int | None] = [None] * len(samples)
    for place, index in enumerate(order):
        for step in range(1, len(order)):
            other = int(order[(place + step) % len(order)])
            if samples[other].piece != samples[index].piece:
                partners[int(index)] = other
                break
    return partners


def measure_blank(
    reader: Reader, samples: Sequence[Sample], failures: list[Failure], request: EvaluationRequest, batch_size: int
) -> dict[str, Estimate]:
    """White pictures of the same sizes: what the reader knows without looking.

    A reader that refuses a picture without a staff scores as an empty text, which is right here and no failure.
    """
    from PIL import Image

    sizes = sorted({sample.image.size for sample in samples})
    blanks = [(f"blank {width}x{height}", Image.new("L", (width, height), 255)) for width, height in sizes]
    refused: list[Failure] = []
    texts = dict(
        zip(sizes, read_all(reader, blanks, refused, request, stage="blank", batch_size=batch_size), strict=True)
    )
    failures += [failure for failure in refused if "InputError" not in failure.message]
    scores = score_all([texts[sample.image.size] for sample in samples], samples, request, "compare blank")
    return _main_figures(scores, samples, request.seed)


def measure_wrong(
    texts: Sequence[str], samples: Sequence[Sample], request: EvaluationRequest, count: int
) -> dict[str, Estimate]:
    """Readings of other pieces' pictures: what any tab has in common with any other."""
    partners = wrong_partners(samples, request.seed)
    chosen = [(i, other) for i, other in enumerate(partners) if other is not None][:count]
    kept = [samples[i] for i, _ in chosen]
    return _main_figures(
        score_all([texts[other] for _, other in chosen], kept, request, "compare wrong"), kept, request.seed
    )


def by_kind(
    scores: Sequence[PairScores], samples: Sequence[Sample], kind: Callable[[Sample], str], seed: int
) -> dict[str, dict[str, Estimate]]:
    """Main figures of each kind of sample."""
    parts: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        parts.setdefault(kind(sample), []).append(index)
    return {
        name: _main_figures([scores[i] for i in indices], [samples[i] for i in indices], seed)
        for name, indices in sorted(parts.items())
    }


def measure_wild(
    reader: Reader, wild: Sequence[Sample], scores: Sequence[PairScores], samples: Sequence[Sample],
    report: EvaluationReport, request: EvaluationRequest, batch_size: int,
) -> None:  # fmt: skip
    """Parts that nobody plays, alone and together with the parts as they are played."""
    pictures = [(sample.name, sample.image) for sample in wild]
    texts = read_all(reader, pictures, report.failures, request, stage="read wild parts", batch_size=batch_size)
    found = score_all(texts, wild, request)
    report.sections["wild parts"] = _main_figures(found, wild, request.seed)
    report.sections["as played and wild"] = _main_figures([*scores, *found], [*samples, *wild], request.seed)
    report.notes.append(
        "Figures are of parts as they are played: real melodies, and parts made as guitarists and bassists play. "
        f"{len(wild)} wild parts (any fret in any rhythm, techniques anywhere) were read beside them."
    )


def measure_omr_ned(
    texts: Sequence[str], samples: Sequence[Sample], report: EvaluationReport, request: EvaluationRequest, count: int
) -> None:
    """OMR-NED on the first `count` samples, within its time limits."""
    from .metrics_omr_ned import bounded_omr_ned, is_available

    if not is_available():
        report.notes.append("OMR-NED is not measured: musicdiff is not installed.")
        return
    pairs = [(text, sample.text) for text, sample in zip(texts[:count], samples[:count], strict=True)]
    errors, symbols, pieces = [], [], []
    for sample, result in zip(
        samples[:count], request.track(bounded_omr_ned(pairs), "OMR-NED", len(pairs)), strict=True
    ):
        if result.message:
            report.failures.append(Failure(sample.name, "omr_ned", result.message))
            continue
        errors.append(float(result.errors))
        symbols.append(float(result.symbols))
        pieces.append(sample.piece)
    report.figures["omr_ned"] = ratio(errors, symbols, pieces, seed=request.seed, unit="symbols")
    report.notes.append(f"OMR-NED (musicdiff) on {len(errors)} systems does not see strings and frets: read Tab-NED.")


def save_predictions(
    texts: Sequence[str], samples: Sequence[Sample], scores: Sequence[PairScores], request: EvaluationRequest
) -> None:
    """One JSON line for each system beside the report: name, exact or not, prediction, truth."""
    if request.out is None:
        return
    request.out.mkdir(parents=True, exist_ok=True)
    with (request.out / f"{request.stem}_predictions.jsonl").open("w", encoding="utf-8") as stream:
        for text, sample, score in zip(texts, samples, scores, strict=True):
            line: dict[str, Any] = {"name": sample.name, "exact": score.exact, "parses": score.parses}
            line |= {"message": score.message, "prediction": text, "truth": sample.text}
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def measure_variants(
    scores: Sequence[PairScores], samples: Sequence[Sample], report: EvaluationReport, request: EvaluationRequest,
    options: Options,
) -> None:  # fmt: skip
    """The same systems with a part of the decoder switched off, beside the usual decoder on them."""
    part = samples[: options.variant_n]
    usual = _main_figures(scores[: options.variant_n], part, request.seed)
    report.sections["decoder: as it is"] = usual | {"seconds_per_system": report.figures["seconds_per_system"]}
    for name in options.variants:
        reader = load_reader(request.checkpoint, **VARIANTS[name])
        pictures = [(sample.name, sample.image) for sample in part]
        texts = read_all(reader, pictures, report.failures, request, stage=name, batch_size=options.batch_size)
        figures = _main_figures(score_all(texts, part, request), part, request.seed)
        figures["seconds_per_system"] = time_reader(reader, part, min(options.timing_n, 20), request.seed)
        report.sections[f"decoder: {name}"] = figures


def measure_baselines(
    reader: Reader, texts: Sequence[str], samples: Sequence[Sample], report: EvaluationReport,
    request: EvaluationRequest, options: Options,
) -> None:  # fmt: skip
    """What a reader gets right without looking, and what any tab has in common with any other."""
    if "blank" in request.baselines:
        part = samples[: options.baseline_n]
        report.sections["blank picture"] = measure_blank(reader, part, report.failures, request, options.batch_size)
    if "wrong" in request.baselines:
        report.sections["wrong picture"] = measure_wrong(texts, samples, request, options.baseline_n)


def evaluate_score_vlm(
    request: EvaluationRequest,
    *,
    reader: Reader | None = None,
    samples: Sequence[Sample] | None = None,
    picture_set: str = "clean",
    **settings: Any,
) -> EvaluationReport:
    """Measure a tab reader.

    Args:
        request: Checkpoint, data, sample size, seed.
        reader: Reader to measure; the product's own on `request.checkpoint` when `None`. Decoder variants are
            measured only for the product's own.
        samples: Test set; read or built as `request` says when `None`.
        picture_set: `"clean"`, or one of `evaluation_sets.SETS`, which are measured in fewer figures.
        **settings: Fields of `Options`.

    Raises:
        InputError: There is no checkpoint, or no readable sample.
        TypeError: A setting that `Options` does not have.
    """
    options = Options(**settings)
    failures: list[Failure] = []
    own = reader is None
    reader = load_reader(request.checkpoint) if reader is None else reader
    if picture_set != "clean":
        from .evaluation_sets import evaluate_set

        return evaluate_set(picture_set, request, reader=reader, samples=samples, options=options)
    wild: Sequence[Sample] = []
    if samples is None:
        played, others = load_samples(request, failures)
        samples, wild = (played, others) if played else (others, [])
    if not samples:
        raise InputError(request.data, "no sample with a readable picture and truth; give another test set")
    data = request.data or f"held-out split built with seed {request.seed}"
    report = EvaluationReport(request.stem, request.checkpoint, data, len(samples), request.seed, failures=failures)
    report.targets = dict(TARGETS)
    pictures = [(sample.name, sample.image) for sample in samples]
    texts = read_all(reader, pictures, failures, request, batch_size=options.batch_size)
    scores = score_all(texts, samples, request)
    report.figures = summarise(scores, _pieces(samples), seed=request.seed)
    report.figures["seconds_per_system"] = time_reader(reader, samples, options.timing_n, request.seed)
    unparsable = [s.name for s, score in zip(samples, scores, strict=True) if not score.parses][:50]
    report.facts |= {"unparsable": unparsable, "batch_size": options.batch_size}
    save_predictions(texts, samples, scores, request)

    measure_baselines(reader, texts, samples, report, request, options)
    report.sections |= by_kind(scores, samples, lambda s: f"staves: {s.staves}", request.seed)
    report.sections |= by_kind(scores, samples, lambda s: f"source: {s.source}", request.seed)
    if wild:
        measure_wild(reader, wild, scores, samples, report, request, options.batch_size)
    if not options.quick:
        measure_omr_ned(texts, samples, report, request, options.omr_ned_n)
        measure_pictures(texts, samples, report, request, options.picture_n)
        measure_pages(reader, samples, report, request, options.pages_n)
        if own:
            measure_variants(scores, samples, report, request, options)
    return report
