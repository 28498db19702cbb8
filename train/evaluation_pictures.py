"""Figures that need the renderer: texts drawn again, and whole pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..processing.alphatex_grammar import Score, read_alphatex, write_alphatex
from .evaluation_data import Sample, joined, part_of
from .evaluation_report import EvaluationReport, Failure
from .metrics_common import Estimate, proportion, ratio
from .metrics_image import ImageMatch, image_match
from .metrics_tab import note_counts, read_or_none

if TYPE_CHECKING:
    from PIL import Image

    from .evaluation import EvaluationRequest

Box = tuple[float, float, float, float]  # x, y, width, height in px
PageReader = Callable[["Image.Image"], Sequence[tuple[Box, str]]]
SAME, NOTHING = ImageMatch(1.0, 1.0, 1.0, 1.0), ImageMatch(0.0, 0.0, 0.0, 0.0)
SMALLEST_COVER = 0.9
PICTURE_SCALE = 2.0  # a 5 differs from a 6 by more than the tolerance of one pixel only in a large picture
SYSTEMS_OF_A_PAGE = (3, 8)


def open_pool() -> AbstractContextManager[Any]:
    """The renderer, one process: evaluation shares its machine with the reader."""
    from ..datasets_scripts.render.client import AlphaTabPool

    return AlphaTabPool(workers=1)


def _draw(pool: Any, text: str, **settings: Any) -> Any:
    """The first picture of a text.

    Raises:
        Exception: Whatever the renderer cannot do.
    """
    from ..datasets_scripts.render.client import RenderJob

    pictures = pool.render(RenderJob(text=text, **settings))
    if not pictures:
        raise ValueError("the renderer drew nothing")
    return pictures[0]


# --- texts drawn again ---------------------------------------------------------------------------------------------


def match_of(pool: Any, text: str, sample: Sample) -> tuple[ImageMatch, str]:
    """How far a text draws what its truth draws, and why it could not be drawn.

    Equal canonical texts draw equal pictures and are not drawn; a text that does not parse or draw matches nothing.
    """
    read, message = read_or_none(text)
    if read is None:
        return NOTHING, ""
    if write_alphatex(read) == write_alphatex(read_alphatex(sample.text)):
        return SAME, ""
    settings = {"layout": "system", "staves": sample.staves, "scale": PICTURE_SCALE}
    truth = _draw(pool, sample.text, **settings).image()
    try:
        return image_match(_draw(pool, text, **settings).image(), truth), ""
    except Exception as error:  # the text parses for us and not for the renderer: this text's own result
        message = f"the reading could not be drawn: {type(error).__name__}: {error}"
    return NOTHING, message


def measure_pictures(
    texts: Sequence[str], samples: Sequence[Sample], report: EvaluationReport, request: EvaluationRequest, count: int,
    pool: AbstractContextManager[Any] | None = None,
) -> None:  # fmt: skip
    """Ink IoU and stroke F1 of the first `count` readings, means over systems."""
    matches: list[ImageMatch] = []
    pieces: list[str] = []
    pairs = list(zip(texts[:count], samples[:count], strict=True))
    with pool or open_pool() as renderer:
        for text, sample in request.track(pairs, "draw again", len(pairs)):
            try:
                match, message = match_of(renderer, text, sample)
            except Exception as error:  # the truth could not be drawn: nothing to compare with
                report.failures.append(Failure(sample.name, "render", f"{type(error).__name__}: {error}"))
                continue
            if message:
                report.failures.append(Failure(sample.name, "render", message))
            matches.append(match)
            pieces.append(sample.piece)
    ones = [1.0] * len(matches)
    for name in ("ink_iou", "stroke_f1"):
        values = [float(getattr(match, name)) for match in matches]
        report.figures[f"picture_{name}"] = ratio(values, ones, pieces, seed=request.seed)


# --- pages ---------------------------------------------------------------------------------------------------------


def cover(found: Box, true: Box) -> float:
    """Share of the true box that the found one covers."""
    width = min(found[0] + found[2], true[0] + true[2]) - max(found[0], true[0])
    height = min(found[1] + found[3], true[1] + true[3]) - max(found[1], true[1])
    return max(width, 0.0) * max(height, 0.0) / (true[2] * true[3])


def pair_systems(found: Sequence[Box], true: Sequence[Box]) -> dict[int, int]:
    """Found system to true system, best first, one to one.

    A system is found when a box covers at least 90 % of its staff lines' rectangle: how much white or how many stems
    lie around them is a matter of taste. A box over two systems finds one of them.
    """
    covers = [(cover(one, other), i, j) for i, one in enumerate(found) for j, other in enumerate(true)]
    pairs: dict[int, int] = {}
    for value, i, j in sorted(covers, key=lambda c: (-c[0], c[1], c[2])):
        if value >= SMALLEST_COVER and i not in pairs and j not in pairs.values():
            pairs[i] = j
    return pairs


def score_page(found: Sequence[tuple[Box, str]], true: Sequence[tuple[Box, str]]) -> tuple[bool, tuple[int, int, int]]:
    """One page read.

    Args:
        found: Box and text of each system found.
        true: Box and text of each system there.

    Returns:
        Whether each system is found and nothing else, and the notes found, predicted and true, summed over systems;
        a system without a partner has all its notes missed or all of them false.
    """
    pairs = pair_systems([box for box, _ in found], [box for box, _ in true])
    counts = np.zeros(3, dtype=np.int64)
    for i, (_, text) in enumerate(found):
        read, _ = read_or_none(text)
        if read is not None:
            partner = read_alphatex(true[pairs[i]][1]) if i in pairs else Score()
            counts += note_counts(read, partner)
    missed = [text for j, (_, text) in enumerate(true) if j not in pairs.values()]
    unread = [true[j][1] for i, j in pairs.items() if read_or_none(found[i][1])[0] is None]
    for text in missed + unread:
        counts += note_counts(Score(), read_alphatex(text))
    hit, predicted, there = (int(count) for count in counts)
    return len(pairs) == len(true) == len(found), (hit, predicted, there)


def default_page_reader(reader: Any) -> PageReader:
    """How the product reads a page: its own `read_page` where the reader has one, else find, cut out, read.

    Args:
        reader: `read_page(picture)` gives readings with `text` and `box` (left, top, right, bottom in px);
            `read_batch(pictures)` gives readings with `text`.
    """

    def read_page(page: Image.Image) -> list[tuple[Box, str]]:
        if hasattr(reader, "read_page"):
            return [(_to_box(reading.box), reading.text) for reading in reader.read_page(page)]
        cuts = cut_systems(page)
        readings = reader.read_batch([picture for _, picture in cuts]) if cuts else []
        return [(box, reading.text) for (box, _), reading in zip(cuts, readings, strict=True)]

    return read_page


def _to_box(corners: Sequence[float]) -> Box:
    left, top, right, bottom = corners
    return left, top, right - left, bottom - top


def cut_systems(page: Image.Image) -> list[tuple[Box, Image.Image]]:
    """Box and picture of each system of a page, from the top; ink of neighbours is painted over."""
    from PIL import Image

    from ..processing.page_systems import read_page

    upright = read_page(np.asarray(page.convert("L")))
    cuts = []
    for region in upright.systems:
        left, top, right, bottom = region.box
        ink = upright.image[top:bottom, left:right].copy()
        if region.foreign is not None:
            ink[region.foreign] = 255
        cuts.append((_to_box(region.box), Image.fromarray(ink)))
    return cuts


def draw_page(pool: Any, texts: Sequence[str], **settings: Any) -> tuple[Image.Image, list[tuple[Box, str]]] | None:
    """A page of the bars of several texts; `None` when it does not come out with 3 to 8 systems.

    Args:
        pool: The renderer.
        texts: One-staff texts.
        **settings: Fields of the render job.

    Returns:
        The page, and for each of its systems, as the engraver broke them, staff rectangle and text.
    """
    score = joined(list(texts))
    score.title = "A page of systems"
    page = _draw(pool, write_alphatex(score), layout="page", **settings)
    if not SYSTEMS_OF_A_PAGE[0] <= len(page.systems) <= SYSTEMS_OF_A_PAGE[1]:
        return None
    true: list[tuple[Box, str]] = []
    first = 0
    for box, count in systems_of(page):
        true.append((box, write_alphatex(part_of(score, first, first + count - 1))))
        first += count
    return page.image(), true


def systems_of(page: Any) -> list[tuple[Box, int]]:
    """Rectangle of the staff lines of each system of a rendered page, and how many bars it has."""
    counts = [0] * len(page.systems)
    for bar in page.bars:
        counts[bar.system] += 1
    boxes = []
    for system in page.systems:
        left, right = min(staff.x0 for staff in system.staves), max(staff.x1 for staff in system.staves)
        top, bottom = min(min(staff.lines) for staff in system.staves), max(max(staff.lines) for staff in system.staves)
        boxes.append((left, top, right - left, bottom - top))
    return list(zip(boxes, counts, strict=True))


def page_style(generator: np.random.Generator) -> dict[str, Any]:
    """How one page looks: size, spacing, fonts, title and bar numbers, drawn at random."""
    return {
        "scale": float(generator.choice([0.8, 1.0, 1.3])),
        "text_font": str(generator.choice(["arimo", "tinos", "lora", "roboto-condensed"])),
        "music_font": str(generator.choice(["bravura", "leland", "petaluma"])),
        "bar_numbers": str(generator.choice(["none", "first", "all"])),
        "titles": bool(generator.integers(2)),
        "tuning": bool(generator.integers(2)),
    }


def pages_of(samples: Sequence[Sample], seed: int) -> list[list[Sample]]:
    """Groups of systems that could make a page: same staves and strings, in a seeded order, 3 to 8 each."""
    generator = np.random.default_rng(seed)
    groups: list[list[Sample]] = []
    kinds = [(sample.staves, read_alphatex(sample.text).staves[0].strings) for sample in samples]
    for kind in sorted(set(kinds)):
        kept = [sample for sample, own in zip(samples, kinds, strict=True) if own == kind]
        order = [kept[int(i)] for i in generator.permutation(len(kept))]
        while len(order) >= SYSTEMS_OF_A_PAGE[0]:
            size = min(len(order), int(generator.integers(SYSTEMS_OF_A_PAGE[0], SYSTEMS_OF_A_PAGE[1] + 1)))
            groups.append([order.pop() for _ in range(size)])
    return [groups[int(i)] for i in generator.permutation(len(groups))]


def measure_pages(
    reader: Any, samples: Sequence[Sample], report: EvaluationReport, request: EvaluationRequest, count: int,
    *, pool: AbstractContextManager[Any] | None = None, read_page: PageReader | None = None,
) -> None:  # fmt: skip
    """Draw `count` pages of 3 to 8 systems, read them, and report systems found and note F1."""
    read_page = read_page or default_page_reader(reader)
    complete: list[bool] = []
    notes: list[tuple[int, int, int]] = []
    groups = iter(pages_of(samples, request.seed))
    generator = np.random.default_rng([request.seed, 1])
    with pool or open_pool() as renderer:
        for number in request.track(range(count), "pages", count):
            page = None
            for group in groups:
                try:
                    style = page_style(generator) | {"staves": group[0].staves}
                    page = draw_page(renderer, [sample.text for sample in group], **style)
                except Exception as error:
                    report.failures.append(
                        Failure(f"page of {group[0].name}", "render", f"{type(error).__name__}: {error}")
                    )
                if page is not None:
                    break
            if page is None:
                report.notes.append(f"Only {number} pages: the test set has no more systems to make them of.")
                break
            try:
                found = read_page(page[0])
            except Exception as error:  # a page that fails counts as one without systems
                report.failures.append(Failure(f"page of {group[0].name}", "page", f"{type(error).__name__}: {error}"))
                found = []
            whole, counts = score_page(found, page[1])
            complete.append(whole)
            notes.append(counts)
    report.sections["pages"] = page_figures(complete, notes, request.seed)


def page_figures(complete: Sequence[bool], notes: Sequence[tuple[int, int, int]], seed: int) -> dict[str, Estimate]:
    """Share of pages with all systems found, and note F1, pages taken as independent."""
    found = [float(count[0]) for count in notes]
    halves = [(count[1] + count[2]) / 2 for count in notes]
    return {
        "all_systems_found": proportion(list(complete), unit="pages"),
        "note_f1": ratio(found, halves, seed=seed, unit="notes"),
    }
