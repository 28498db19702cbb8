"""What stands between systems and looks like a staff: chord diagrams, ledger lines; and lines that are hard to see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intermezzo.datasets_scripts.render.client import AlphaTabPool, RenderJob
from intermezzo.processing.page_lines import LINE_DARKNESS, Staff, find_staves, on_white
from intermezzo.processing.page_lookalikes import are_ledger_lines, is_row_of_diagrams
from intermezzo.processing.page_systems import _regions, cut_off_at, find_systems, read_page

_SHAPES = '\\chord ("Am" 0 1 2 2 0 x) \\chord ("F" 1 1 2 3 3 1) \\chord ("G" 3 0 0 0 2 3)'
_BAR = '0.2{ch "Am"}.4 3.3{ch "F" lyrics "see"}.4 5.3{ch "Am" lyrics "the"}.4 3.2{ch "G"}.4 |\n'
_PLAIN = "0.2.4 3.3.4 5.3.4 3.2.4 |\n"
SONG = f"\\chordDiagramsInScore\n\\staff {{score tabs}} {_SHAPES}\n\\ts (4 4) " + 4 * (_BAR + _PLAIN + _BAR)


@pytest.fixture(scope="module")
def pool():
    with AlphaTabPool(workers=1) as started:
        yield started


@pytest.mark.parametrize("staves", ["tabs", "score+tabs"])
@pytest.mark.parametrize("scale", [0.5, 0.8, 1.3])
def test_systems_under_chord_diagrams_are_found_and_the_diagrams_are_none(
    pool: AlphaTabPool, staves: str, scale: float
) -> None:
    job = RenderJob(text=SONG, layout="page", staves=staves, scale=scale, width_px=round(700 * scale), titles=True)  # type: ignore[arg-type]
    (page,) = pool.render(job)
    image = np.asarray(page.image().convert("L"))
    regions = find_systems(image)
    assert len(regions) == len(page.systems) >= 4
    for region, system in zip(regions, page.systems, strict=True):
        tab = system.staff("tab")
        assert tab is not None and region.has_score == (staves != "tabs")
        np.testing.assert_allclose(region.tab_line_ys, tab.lines, atol=1.0)
        # The diagrams over the staff belong to its system, none of those over the next one does.
        assert region.box[1] < tab.lines[0] - 4 * tab.line_distance_px
    for upper, lower in zip(page.systems[1:], page.systems[2:], strict=False):
        bottom = next(r.box[3] for r in regions if abs(r.tab_line_ys[0] - upper.staff("tab").lines[0]) < 2)
        assert bottom <= lower.y + 2


def test_the_diagrams_are_told_on_a_blurred_and_grainy_page_too(pool: AlphaTabPool) -> None:
    (page,) = pool.render(RenderJob(text=SONG, layout="page", staves="tabs", width_px=700))
    grey = page.image().convert("L").rotate(1.3, Image.Resampling.BICUBIC, expand=True, fillcolor=255)
    values = np.asarray(grey) * 0.94 + np.random.default_rng(0).normal(0, 6, (grey.height, grey.width))
    assert len(find_systems(np.clip(values, 0, 255).astype(np.uint8))) == len(page.systems)


def _sheet(ys: list[float], left: int = 40, right: int = 560) -> np.ndarray:
    page = np.full((300, 600), 255, np.uint8)
    for y in ys:
        page[int(y), left:right] = 60
    return page


LINES = [100.5 + 10 * k for k in range(6)]


def _bar_lines(page: np.ndarray) -> None:
    page[100:151, 40:560:35] = 60


def _stems(page: np.ndarray) -> None:
    page[100:175, 45:550:9] = 60


def _diagrams(page: np.ndarray) -> None:
    page[100:151, 40:560] = 255
    for x in range(40, 520, 60):
        for y in LINES:
            page[int(y), x : x + 41] = 60
        page[100:151, x : x + 41 : 8] = 60


@pytest.mark.parametrize(("drawn", "expected"), [(_bar_lines, False), (_stems, False), (_diagrams, True)])
def test_upright_strokes_tell_diagrams_from_staves(drawn: Callable[[np.ndarray], None], expected: bool) -> None:
    page = _sheet(LINES)
    drawn(page)
    assert is_row_of_diagrams(255 - page, LINES, (40, 560), LINE_DARKNESS) is expected
    assert len(find_staves(page)) == (not expected)


@pytest.mark.parametrize("steps", [(6, 7, 6, 7, 6), (7, 6, 7, 6, 7), (5, 6, 5, 6, 5), (8, 9, 8, 9, 8)])
def test_lines_on_whole_pixels_with_uneven_steps_are_a_staff(steps: tuple[int, ...]) -> None:
    ys = [100.0, *(100.0 + np.cumsum(steps))]
    (staff,) = find_staves(_sheet(ys))
    assert len(staff.line_ys) == 6
    np.testing.assert_allclose(staff.line_ys, np.array(ys) + 0.5, atol=0.8)


@pytest.mark.parametrize("seed", range(3))
def test_grain_of_paper_does_not_lengthen_a_staff(seed: int) -> None:
    page = np.full((300, 900), 255, np.uint8)
    page[[int(y) for y in LINES], 200:700] = 60
    grainy = page - 18.0 + np.random.default_rng(seed).normal(0, 7, page.shape)
    (staff,) = find_staves(on_white(np.clip(grainy, 0, 255).astype(np.uint8)))
    assert len(staff.line_ys) == 6 and abs(staff.x0 - 200) < 5 and abs(staff.x1 - 700) < 5


def test_ledger_lines_go_on_in_the_steps_of_a_staff() -> None:
    staff = [100.0 + 9 * k for k in range(5)]
    far = [100.0 + 9 * (4 + k) for k in range(2, 6)]
    assert are_ledger_lines(far, (300, 360), staff, (40, 560))
    assert are_ledger_lines([100.0 - 9 * k for k in range(5, 0, -1)], (300, 360), staff, (40, 560))
    assert not are_ledger_lines(far, (40, 400), staff, (40, 560)), "too wide"
    assert not are_ledger_lines([y + 4.5 for y in far], (300, 360), staff, (40, 560)), "between the steps"
    assert not are_ledger_lines([y + 45 for y in far], (40, 100), staff, (40, 560)), "a short last system"
    assert not are_ledger_lines([163.0 + 13 * k for k in range(4)], (300, 360), staff, (40, 560)), "other steps"


@pytest.mark.parametrize("top", [-1.7, 0.2, 0.9, 1.4])
def test_a_staff_at_the_very_edge_has_nothing_above_it(top: float) -> None:
    """A picture that is cut off at its first line: OpenCV ends the process on a picture without rows."""
    page = np.full((100, 400), 255, np.uint8)
    page[2:60:12] = 0
    staff = Staff(tuple(top + 12 * k for k in range(6)), 0, 400, 1)
    assert _regions(page, [(staff, None)])[0].box[1] == max(0, int(top))


@pytest.mark.parametrize(("rows", "edges"), [((104, 242), ("upper",)), ((0, 178), ("lower",)), ((0, 242), ())])
def test_a_line_that_is_cut_off_is_told(rows: tuple[int, int], edges: tuple[str, ...]) -> None:
    """Five lines of a guitar's six look like a bass."""
    example = Path(__file__).parent.parent / "examples" / "blues_lick.png"
    page = read_page(np.asarray(Image.open(example).convert("L"))[slice(*rows)])
    assert cut_off_at(page, page.systems[0]) == edges and page.systems[0].string_count == (5 if edges else 6)
