"""Training systems cut out of drawn pages: what stands in the middle of a page looks unlike a system drawn alone.

A line in the middle of a page shows no metre, draws its key again, and may begin with a tie, a slide or a let-ring line
that comes over from the line before; ink of the neighbours reaches into it. Pages are drawn, their systems are found as
a reader finds them, and the truth of each is what its line shows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ..processing.alphatex_grammar import Bar, Score, Staff, Track, read_alphatex, write_alphatex
from ..processing.errors import InputError
from ..processing.page_systems import Page, SystemRegion, draw_region, read_page
from .score_vlm_data import SystemRow

Metre = tuple[int, int]
#: Bars of a page, and of each excerpt that it is put together from.
PAGE_BARS, EXCERPT_BARS = (6, 36), (1, 14)
#: Part of the pages with rare signs all over.
RARE_SIGNS = 0.35


def page_texts(seed: int, split: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Endless texts of pages: excerpts of pieces for as many strings and voices, one after the other.

    Args:
        seed: The same seed gives the same pages.
        split: Split that the pieces are of.

    Yields:
        Canonical alphaTex of the page with nothing that is not drawn (no metre, key or tempo that is in force anyway),
        how to draw it, and its name.
    """
    from ..datasets_scripts.drills import with_rare_signs
    from ..datasets_scripts.guitar_parts import generate_piece, piece_seeds, random_style, shown_as, take_bars

    rng = random.Random(f"pages {seed}")
    waiting: dict[tuple[int, int], list[Any]] = {}
    for number, candidate in enumerate(piece_seeds(seed, split)):
        piece = generate_piece(candidate)
        staff = piece.score.staves[0]
        parts = waiting.setdefault((staff.strings, piece.voices), [])
        total = len(staff.bars)
        length = min(rng.randint(*EXCERPT_BARS), total)
        start = rng.randint(0, total - length)
        excerpt = take_bars(piece.score, start, start + length)
        if parts and any(bar.anacrusis for bar in excerpt.staves[0].bars):
            continue
        parts.append(excerpt)
        bars = sum(len(part.staves[0].bars) for part in parts)
        if bars < PAGE_BARS[0] or (bars < PAGE_BARS[1] and rng.random() < 0.6):
            continue
        score = _joined(parts)
        waiting[staff.strings, piece.voices] = []
        style = random_style(rng, max(len(bar.voices) for bar in score.staves[0].bars)) | page_style(rng)
        text = write_alphatex(shown_as(score, style["staves"]))
        if rng.random() < RARE_SIGNS:
            text = with_rare_signs(text, rng)
        yield write_alphatex(only_changes(read_alphatex(text))), style, f"page {seed} {number}"


def page_style(rng: random.Random) -> dict[str, Any]:
    """What `RenderJob` needs for a page besides `random_style`."""
    scale = round(rng.uniform(0.7, 1.5), 2)
    return {
        "layout": "page",
        "scale": scale,
        "width_px": round(scale * rng.choice((950, rng.randint(600, 1500)))),
        "titles": rng.random() < 0.5,
        "tuning": rng.random() < 0.5,
    }


def _joined(parts: list[Score]) -> Score:
    staff: Staff = parts[0].staves[0]
    bars: list[Bar] = [bar for part in parts for bar in part.staves[0].bars]
    voices = max(len(bar.voices) for bar in bars)
    for bar in bars:
        bar.voices += [[] for _ in range(voices - len(bar.voices))]
    return Score(tracks=[Track(staves=[replace(staff, bars=bars)])], title="A page")


def only_changes(score: Score) -> Score:
    """Takes out, in place, metres, keys and tempos that say again what is in force: engravers do not draw them."""
    metre: Metre | None = None
    key = tempo = None
    for bar in score.staves[0].bars:
        bar.time_signature = None if bar.time_signature == metre else bar.time_signature
        bar.key_signature = None if bar.key_signature == key else bar.key_signature
        bar.tempo = None if bar.tempo == tempo else bar.tempo
        metre, key = bar.time_signature or metre, bar.key_signature or key
        tempo = bar.tempo or tempo
    return score


def line_truth(score: Score, first: int, last: int) -> tuple[Score, Metre]:
    """What the line of bars `first` to `last` (from 0, both inside) shows, and the metre in force before it."""
    staff = score.staves[0]
    metre, key = (4, 4), None
    for bar in staff.bars[:first]:
        metre, key = bar.time_signature or metre, bar.key_signature or key
    bars = list(staff.bars[first : last + 1])
    if "score" in staff.show:
        again = bars[0].key_signature or key
        bars[0] = replace(bars[0], key_signature=None if again == "c" else again)
    used = max((i + 1 for bar in bars for i, voice in enumerate(bar.voices) if voice), default=1)
    bars = [replace(bar, voices=bar.voices[:used]) for bar in bars]
    return Score(tracks=[Track(staves=[replace(staff, bars=bars)])]), metre


def rows_of_page(picture: Any, text: str, name: str) -> Iterator[SystemRow | InputError]:
    """The systems of one drawn page that the page finder finds at their true place; the others as errors.

    Args:
        picture: A `RenderedPicture` with one page.
        text: What it was drawn from, of `page_texts`.
        name: For messages.
    """
    score = read_alphatex(text)
    page = read_page(np.asarray(picture.image()))
    if page.image.shape != (picture.height, picture.width):
        yield InputError(name, "the page finder turned the page")
        return
    for number, system in enumerate(picture.systems):
        tab, where = system.staff("tab"), f"{name} system {number}"
        region = None if tab is None else _region_at(page, tab.lines)
        own = sorted((bar for bar in picture.bars if bar.system == number), key=lambda bar: bar.bar)
        if tab is None or region is None or not own or region.has_score != (system.staff("score") is not None):
            yield InputError(where, "the page finder does not find it")
            continue
        first, last = own[0].bar, own[-1].bar
        truth, metre = line_truth(score, first, last)
        beats = [b for b in picture.beats if b.kind == "tab" and first <= b.bar <= last]
        drawn = draw_region(page, region)
        yield SystemRow(
            image=page.image,
            text=write_alphatex(truth),
            beat_x={(b.bar - first, b.voice, b.beat): b.on_x for b in beats},
            bar_x=[(bar.x, bar.x + bar.w) for bar in own],
            tab_line_ys=list(tab.lines),
            has_score=region.has_score,
            name=where,
            metre=metre,
            canvas=(drawn.array, drawn.placement),
        )


def _region_at(page: Page, lines: tuple[float, ...]) -> SystemRegion | None:
    """The found system with these tab lines."""
    near = lines[1] - lines[0]
    for region in page.systems:
        if len(region.tab_line_ys) == len(lines) and abs(region.tab_line_ys[0] - lines[0]) < near / 2:
            return region
    return None


def page_rows(seed: int, count: int, split: str) -> Iterator[SystemRow | InputError]:
    """Systems of pages of generated pieces, drawn as they are asked for; `count` of them, found or not."""
    from ..datasets_scripts.render.client import AlphaTabPool, RenderJob

    def jobs() -> Iterator[RenderJob]:
        for text, style, name in page_texts(seed, split):
            yield RenderJob(text=text, key=(text, name), **style)

    left = count
    with AlphaTabPool(workers=1) as pool:
        for answer in pool.map_render(jobs()):
            if not isinstance(answer, list):
                yield answer
                continue
            text, name = answer[0].key
            try:
                rows = list(rows_of_page(answer[0], text, name))
            except (ValueError, KeyError, IndexError) as error:
                rows = [InputError(name, f"{type(error).__name__} {error}")]
            yield from rows[:left]
            left -= len(rows)
            if left <= 0:
                return


__all__ = ["line_truth", "only_changes", "page_rows", "page_texts", "rows_of_page"]
