"""Whole pages, read as `intermezzo read` reads them: every system against what its line of the page means."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..processing.alphatex_grammar import Score, write_alphatex
from .evaluation_data import Sample, joined
from .evaluation_pictures import (
    SYSTEMS_OF_A_PAGE,
    Box,
    default_page_reader,
    open_pool,
    page_figures,
    page_style,
    pages_of,
    pair_systems,
    score_page,
    systems_of,
)
from .evaluation_report import EvaluationReport, Failure
from .metrics_tab import PairScores, read_or_none, score_pair, summarise
from .score_vlm_pages import line_truth, only_changes

if TYPE_CHECKING:
    from PIL import Image

    from .evaluation import EvaluationRequest

Found = Sequence[tuple[Box, str]]


def meant(score: Score, metre: tuple[int, int] = (4, 4)) -> str:
    """Canonical text of one line that says its metre, which a line in the middle of a page does not show.

    Args:
        score: The line; changed in place.
        metre: In force before it; a text that says nothing is in 4/4.
    """
    first = score.staves[0].bars[0]
    first.time_signature = first.time_signature or metre
    return write_alphatex(score)


def draw_whole_page(pool: Any, texts: Sequence[str], **style: Any) -> tuple[Image.Image, list[tuple[Box, str]]] | None:
    """A page of the bars of several systems, and what each of its lines means.

    Args:
        pool: The renderer.
        texts: One-staff texts of one kind.
        **style: Fields of the render job.

    Returns:
        The page, and the staff rectangle and the text of each line; `None` where it has other than 3 to 8 lines.
    """
    from ..datasets_scripts.render.client import RenderJob

    score = only_changes(joined(list(texts)))
    voices = max(len(bar.voices) for bar in score.staves[0].bars)
    for bar in score.staves[0].bars:
        bar.voices += [[] for _ in range(voices - len(bar.voices))]
    score.title = "A page of systems"
    (page,) = pool.render(RenderJob(text=write_alphatex(score), layout="page", **style))
    if not SYSTEMS_OF_A_PAGE[0] <= len(page.systems) <= SYSTEMS_OF_A_PAGE[1]:
        return None
    true: list[tuple[Box, str]] = []
    first = 0
    for box, count in systems_of(page):
        line, metre = line_truth(score, first, first + count - 1)
        true.append((box, meant(line, metre)))
        first += count
    return page.image(), true


def score_lines(found: Found, true: Found) -> list[PairScores]:
    """Counts of each true line against the reading that stands there; an empty one where there is none."""
    partner = {j: i for i, j in pair_systems([box for box, _ in found], [box for box, _ in true]).items()}
    scores = []
    for j, (_, text) in enumerate(true):
        reading = found[partner[j]][1] if j in partner else ""
        read, _ = read_or_none(reading)
        ready = read is not None and read.staves and read.staves[0].bars
        scores.append(score_pair(meant(read) if ready and read is not None else reading, text))
    return scores


def measure_whole_pages(
    reader: Any, samples: Sequence[Sample], report: EvaluationReport, request: EvaluationRequest, count: int,
    *, pool: AbstractContextManager[Any] | None = None,
) -> None:  # fmt: skip
    """Draw `count` pages, read them, and put the figures into the report.

    `note_f1` counts systems that are no systems too; the other figures are of the true systems, and what is not found
    is wrong in all of them but `parses` and `bars_close`, which are of what was read.
    """
    read_page = default_page_reader(reader)
    complete: list[bool] = []
    notes: list[tuple[int, int, int]] = []
    scores: list[PairScores] = []
    pages: list[int] = []
    generator = np.random.default_rng([request.seed, 1])
    groups = iter(pages_of(samples, request.seed))
    with pool or open_pool() as renderer:
        for number in request.track(range(count), "pages", count):
            drawn = _next_page(renderer, groups, generator, report)
            if drawn is None:
                report.notes.append(f"Only {number} pages: the test set has no more systems to make them of.")
                break
            found: Found = []
            try:
                found = read_page(drawn[0])
            except Exception as error:  # a page that fails counts as one without systems
                report.failures.append(Failure(f"page {number}", "page", f"{type(error).__name__}: {error}"))
            lines = score_lines(found, drawn[1])
            whole, counts = score_page(found, drawn[1])
            complete.append(whole)
            notes.append(counts)
            scores += lines
            pages += [number] * len(lines)
    report.n = len(complete)
    read = [(score, page) for score, page in zip(scores, pages, strict=True) if score.message != "empty text"]
    figures = summarise(scores, pages, seed=request.seed)
    answered = summarise([score for score, _ in read], [page for _, page in read], seed=request.seed)
    figures |= {name: answered[name] for name in ("parses", "bars_close")}
    report.figures = figures | page_figures(complete, notes, request.seed)


def _next_page(
    pool: Any, groups: Any, generator: np.random.Generator, report: EvaluationReport
) -> tuple[Image.Image, list[tuple[Box, str]]] | None:
    """The next group of systems that makes a page; `None` when there are no more."""
    for group in groups:
        style = page_style(generator) | {"staves": group[0].staves}
        try:
            page = draw_whole_page(pool, [sample.text for sample in group], **style)
        except Exception as error:
            name = f"page of {group[0].name}"
            report.failures.append(Failure(name, "render", f"{type(error).__name__}: {error}"))
            continue
        if page is not None:
            return page
    return None


__all__ = ["draw_whole_page", "meant", "measure_whole_pages", "score_lines"]
