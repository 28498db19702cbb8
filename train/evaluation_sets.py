"""Sets of pictures beside the clean one: other engravers, degraded pictures, whole pages.

    intermezzo evaluate score_vlm --set vexflow    # or musescore, lilypond, verovio, abcjs, degraded, pages; --n 500

All are made of the pieces of the test split that the clean set is made of, so that figures can be compared; which
systems, styles and damages depends on the seed alone. The report is `score_vlm_<set>.json`.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..processing.alphatex_grammar import read_alphatex
from ..processing.errors import InputError
from .evaluation_data import Sample, load_samples, read_samples
from .evaluation_pages import measure_whole_pages
from .evaluation_report import EvaluationReport, Failure, Target
from .evaluation_score_vlm import Options, Reader, by_kind, read_all, save_predictions, score_all, time_reader
from .metrics_common import proportion
from .metrics_tab import PairScores, summarise

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest

ENGRAVED = ("vexflow", "musescore", "lilypond", "verovio", "abcjs")
#: The shipped weights have not learnt from it: it stands for the engravers that a reader has never seen.
LEFT_OUT = ("abcjs",)
SETS = ("clean", *ENGRAVED, "degraded", "pages")
_ALWAYS = {"parses": Target(1.0), "bars_close": Target(1.0)}
TARGETS: dict[str, dict[str, Target]] = {
    **{name: {"note_f1": Target(0.98), "bar_exact": Target(0.90)} | _ALWAYS for name in ENGRAVED},
    **{name: {"note_f1": Target(0.95)} | _ALWAYS for name in LEFT_OUT},
    "degraded": {"note_f1": Target(0.93)} | _ALWAYS,
    "pages": {"all_systems_found": Target(0.98), "note_f1": Target(0.97)} | _ALWAYS,
}
_FORMAT = 2  # of the stored pictures: another number, other pictures
_SPARE = 1.4  # systems beyond those asked for: an engraver refuses what it can not draw truly
#: Severity is drawn from this Beta distribution, as in training.
SEVERITY = (2.0, 3.0)


class SetReport(EvaluationReport):
    """The report of a set: its stem is `score_vlm_<set>`, which is no word of the command."""

    def markdown(self) -> str:
        """The report as Markdown, with the command that made it."""
        stem, _, name = self.stem.rpartition("_")
        return super().markdown().replace(f"evaluate {self.stem}`", f"evaluate {stem} --set {name}`")


# --- pictures ------------------------------------------------------------------------------------------------------


def engraver_samples(engraver: str, request: EvaluationRequest, failures: list[Failure]) -> list[Sample]:
    """Systems of the test split by one of the other engravers, with what it really drew as their truth.

    They stay in the request's folder and are used again for the same seed and size.

    Raises:
        InputError: The engraver is not installed.
    """
    from ..datasets_scripts.engravers import ENGRAVERS

    folder = request.out or Path("out") / "evaluation"
    path = folder / f"score_tab_{engraver}_v{_FORMAT}_n{request.n}_seed{request.seed}.parquet"
    if not path.exists():
        lacking = ENGRAVERS[engraver].absent()
        if lacking is not None:
            raise InputError(None, f"--set {engraver}: {lacking}")
        _store(_engraved(engraver, request, failures), path)
    return read_samples(path, request.n, request.seed, failures)


def _engraved(engraver: str, request: EvaluationRequest, failures: list[Failure]) -> list[dict[str, Any]]:
    """Rows of pictures; a system that the engraver refuses is replaced by another."""
    from PIL import Image

    from ..datasets_scripts.engravers import Engravers
    from .evaluation_held_out import held_out_jobs

    jobs = held_out_jobs(math.ceil(request.n * _SPARE) + 8, request.seed, failures)
    order = np.random.default_rng([request.seed, 3]).permutation(len(jobs))  # the corpus comes first otherwise
    rows: list[dict[str, Any]] = []
    with Engravers([engraver]) as engravers:
        for place in request.track(order, f"draw by {engraver}", len(order)):
            job = jobs[int(place)]
            if len(rows) >= request.n:
                break
            if len(read_alphatex(job.text).staves[0].bars[0].voices) > 1:
                continue
            name = f"{job.piece_id}, system {job.system + 1}"
            try:
                drawn = engravers.draw(job.text, random.Random(f"{request.seed} {name}"), engraver, name)
            except InputError as error:
                failures.append(Failure(name, "build", str(error)))
                continue
            except ValueError:
                continue  # refused: it would not show what a text of ours says
            stream = io.BytesIO()
            Image.fromarray(drawn.image).save(stream, format="PNG")
            rows.append(
                {
                    "image": {"bytes": stream.getvalue(), "path": None},
                    "text": drawn.text,
                    "piece_id": job.piece_id,
                    "source": job.source,
                    "style": "score+tabs" if drawn.has_score else "tabs",
                    "kind": job.kind,
                }
            )
    return rows


def _store(rows: list[dict[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    if not rows:
        raise InputError(path, "no system could be drawn for it")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    parquet.write_table(pa.Table.from_pylist(rows), part)
    part.replace(path)  # the file appears whole or not at all


def degraded_samples(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """The same systems as people have them; `kind` becomes the name of the recipe.

    Each sample's damage depends on the seed and its place alone.
    """
    from PIL import Image

    from ..datasets_scripts.degrade import degrade, draw_recipe
    from ..processing.page_systems import read_page

    worse = []
    for place, sample in enumerate(samples):
        rng = np.random.default_rng([seed, place, 17])
        recipe, severity = draw_recipe(rng), float(rng.beta(*SEVERITY))
        systems = read_page(np.asarray(sample.image.convert("L"))).systems
        line_px = max((region.line_distance_px for region in systems), default=None)
        image, _ = degrade(np.asarray(sample.image.convert("RGB")), np.zeros((0, 2)), severity, rng, recipe, line_px)
        name = f"{sample.name}, {recipe} {severity:.2f}"
        worse.append(replace(sample, name=name, image=Image.fromarray(image), kind=recipe))
    return worse


# --- figures -------------------------------------------------------------------------------------------------------


def _measure(
    reader: Reader, samples: Sequence[Sample], report: EvaluationReport, request: EvaluationRequest, options: Options
) -> None:
    """Figures of pictures of one system each.

    A reader that says that it finds no staff gives no text: it is wrong about every note, but there is nothing that
    could parse or close. It is counted as `staff_found` and is no failure of the evaluation.
    """
    failed: list[Failure] = []
    pictures = [(sample.name, sample.image) for sample in samples]
    texts = read_all(reader, pictures, failed, request, batch_size=options.batch_size)
    refused = {failure.name for failure in failed if failure.message.startswith("InputError")}
    report.failures += [failure for failure in failed if failure.name not in refused]
    scores = score_all(texts, samples, request)
    pieces = [sample.piece for sample in samples]
    report.figures = summarise(scores, pieces, seed=request.seed)
    answered: list[tuple[PairScores, str]] = [
        (score, sample.piece) for score, sample in zip(scores, samples, strict=True) if sample.name not in refused
    ]
    groups = [piece for _, piece in answered]
    report.figures["parses"] = proportion([score.parses for score, _ in answered], groups)
    report.figures["bars_close"] = proportion([score.closes for score, _ in answered], groups)
    report.figures["staff_found"] = proportion([sample.name not in refused for sample in samples], pieces)
    report.figures["seconds_per_system"] = time_reader(reader, samples, options.timing_n, request.seed)
    report.sections |= by_kind(scores, samples, lambda s: f"staves: {s.staves}", request.seed)
    if report.stem.endswith("degraded"):
        report.sections |= by_kind(scores, samples, lambda s: f"recipe: {s.kind}", request.seed)
    report.facts["refused"] = sorted(refused)[:50]
    save_predictions(texts, samples, scores, replace(request, stem=report.stem))
    if refused:
        report.notes.append(
            f"In {len(refused)} pictures no staff was found: all their notes count as missed; "
            "parses and bars_close are of the others."
        )


def evaluate_set(
    name: str,
    request: EvaluationRequest,
    *,
    reader: Reader,
    samples: Sequence[Sample] | None = None,
    options: Options,
) -> EvaluationReport:
    """Measure a tab reader on one of the sets.

    Args:
        name: One of `SETS` besides `"clean"`.
        request: Checkpoint, data (clean systems, for `degraded` and `pages`), sample size (pages, for `pages`), seed.
        reader: Reader to measure.
        samples: Pictures to begin with, in place of those that the request names: what another engraver drew,
            or the clean systems that are degraded or put on pages.
        options: How much of what is measured.

    Raises:
        InputError: There is no such set, or nothing to make it of.
    """
    if name not in TARGETS:
        raise InputError(None, f"there is no set {name!r}; choose of {', '.join(SETS)}")
    if name in ENGRAVED and request.data is not None:
        raise InputError(request.data, f"the set {name} is drawn, so it takes no --data")
    failures: list[Failure] = []
    if samples is None and name in ENGRAVED:
        samples = engraver_samples(name, request, failures)
    elif samples is None:
        wanted = request.n * 8 if name == "pages" else request.n
        played, wild = load_samples(replace(request, n=wanted), failures)
        samples = (played or wild)[: wanted if name == "pages" else request.n]
    if not samples:
        raise InputError(request.data, f"no picture for the set {name}; give a larger --n")
    report = SetReport(
        f"{request.stem}_{name}", request.checkpoint, f"{name}, held-out split, seed {request.seed}", len(samples),
        request.seed, failures=failures, targets=dict(TARGETS[name]),
    )  # fmt: skip
    report.facts["set"] = name
    if name == "pages":
        measure_whole_pages(reader, samples, report, request, request.n)
        return report
    if name == "degraded":
        samples = degraded_samples(samples, request.seed)
    _measure(reader, samples, report, request, options)
    return report


__all__ = ["SETS", "SEVERITY", "SetReport", "degraded_samples", "engraver_samples", "evaluate_set"]
