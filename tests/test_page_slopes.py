"""Pages that do not lie flat or stand straight: bends, fans, leaning pages, grain, frames, shadows."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from intermezzo.processing.page_lines import above_paper, find_staves
from intermezzo.processing.page_slopes import Bend, bend_of, thin_points
from intermezzo.processing.page_systems import Page, draw_region, normalise_system, read_page
from intermezzo.processing.staff_pairs import pair_staves
from intermezzo.train.score_vlm_seen import upright_points

PICTURES = Path(__file__).parent / "fixtures" / "pictures"
TRUTH = json.loads((PICTURES / "lines.json").read_text(encoding="utf-8"))
HEIGHT, WIDTH, LEFT, RIGHT = 260, 900, 40, 860


def tab(strings: int = 4, distance: float = 12.0, top: float = 90.0) -> tuple[np.ndarray, np.ndarray]:
    """A tab staff with clef, frets in gaps of the lines, bar lines, stems; and points along its lines, `(L, N, 2)`."""
    page = np.full((HEIGHT, WIDTH), 255, np.uint8)
    ys = top + 0.5 + distance * np.arange(strings)
    bottom = int(ys[-1])
    for y in ys:
        page[int(y), LEFT:RIGHT] = 70
    page[int(top) : bottom + 1, [LEFT, 400, RIGHT - 1]] = 60
    for k, letter in enumerate("TAB"):
        at = (LEFT + 10, int(top + (k + 0.9) * (bottom - top) / 3))
        cv2.putText(page, letter, at, cv2.FONT_HERSHEY_SIMPLEX, 0.035 * distance, 0, 2)
    for k, x in enumerate(range(120, 840, 45)):
        y = int(ys[k % strings])
        page[y - 4 : y + 5, x - 4 : x + 10] = 255
        cv2.putText(page, str(k % 10), (x - 2, y + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 0, 1)
        page[bottom + 12 : bottom + 36, x + 2] = 0
    xs = np.linspace(LEFT, RIGHT, 15)
    return page, np.stack([np.column_stack([xs, np.full(xs.size, y)]) for y in ys])


def lowered(page: np.ndarray, rise: np.ndarray) -> np.ndarray:
    """The page with its ink at `(x, y)` put `rise[y, x]` lower, near enough for slow rises."""
    columns, rows = np.meshgrid(np.arange(page.shape[1]), np.arange(page.shape[0]))
    source = (rows - rise).astype(np.float32)
    return cv2.remap(page, columns.astype(np.float32), source, cv2.INTER_LINEAR, borderValue=255)


def wave(height: float) -> np.ndarray:
    return np.tile(height * np.sin(np.linspace(0.3, 7, WIDTH)), (HEIGHT, 1))


def fan(height: float) -> np.ndarray:
    return height * np.outer(np.linspace(-1, 1, HEIGHT), np.linspace(-1, 1, WIDTH))


def curl(height: float) -> np.ndarray:
    return np.tile(height * np.exp(-np.arange(WIDTH) / 200), (HEIGHT, 1))


@pytest.mark.parametrize("rise", [wave(9), wave(-7), fan(16), fan(-12), curl(20), curl(-15), wave(5) + fan(10)])
@pytest.mark.parametrize("strings", [4, 6])
def test_bent_lines_are_made_level(rise: np.ndarray, strings: int) -> None:
    page, points = tab(strings)
    bent = lowered(page, rise)
    points[..., 1] += rise[points[..., 1].astype(int), points[..., 0].astype(int)]
    found = read_page(bent)
    (region,) = found.systems
    assert region.string_count == strings and region.bend is not None
    flat = upright_points(
        points.reshape(-1, 2), bent.shape, region.quarter_turns, region.angle_degrees, region.bend
    ).reshape(points.shape)
    # Of bends by up to 24 pixels, a sixth of a line distance may be left.
    assert np.abs(flat[..., 1] - np.array(region.tab_line_ys)[:, None]).max() < 2.0
    # The same canvas comes from the picture alone.
    np.testing.assert_array_equal(normalise_system(bent, region).array, draw_region(found, region).array)


@pytest.mark.parametrize("name", sorted(TRUTH))
def test_clean_pages_stay_as_they_are(name: str) -> None:
    image = np.asarray(Image.open(PICTURES / f"{name}.png").convert("L"))
    page = read_page(image)
    assert page.image.shape == image.shape and (page.image == image).all()
    assert all(region.bend is None and region.angle_degrees == 0 for region in page.systems)
    np.testing.assert_array_equal(above_paper(image), 255 - image)


def test_what_has_no_lines_has_no_bend() -> None:
    for page in (np.full((200, 300), 255, np.uint8), np.random.default_rng(0).integers(0, 255, (300, 400), np.uint8)):
        assert bend_of(page.astype(np.uint8), thin_points(page.astype(np.uint8))) is None


def test_points_go_where_flattening_moves_the_ink() -> None:
    xs = np.arange(160, dtype=np.float32)
    bend = Bend(a=6 * np.sin(xs / 40), b=xs / 20 - 4, height_px=90, margin_px=11)
    points = np.array([(20.5, 30.5), (120.5, 70.5), (150.5, 8.5)])
    image = np.full((90, 160), 255, np.uint8)
    for x, y in points:
        image[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = 0
    page = bend.flattened(image)
    assert page.shape == (90 + 22, 160)
    for x, y in bend.flat_points(points):
        near = 255.0 - page[int(y) - 5 : int(y) + 6, int(x) - 5 : int(x) + 6]
        rows, columns = np.indices(near.shape)
        assert near.sum() > 1500
        assert (columns * near).sum() / near.sum() + int(x) - 5 + 0.5 == pytest.approx(x, abs=0.2)
        assert (rows * near).sum() / near.sum() + int(y) - 5 + 0.5 == pytest.approx(y, abs=0.2)


@pytest.mark.parametrize("lean", [-0.3, -0.15, 0.15, 0.3])
@pytest.mark.parametrize("strings", [4, 6])
def test_a_page_that_leans_keeps_its_outer_lines(lean: float, strings: int) -> None:
    page, _ = tab(strings)
    matrix = np.array([(1.0, lean, -lean * HEIGHT / 2), (0.0, 1.0, 0.0)])
    (region,) = read_page(cv2.warpAffine(page, matrix, (WIDTH, HEIGHT), borderValue=255)).systems
    assert region.string_count == strings


@pytest.mark.parametrize("lean", [-0.2, 0.0, 0.2])
def test_a_leaning_bar_line_ties_a_score_staff_to_its_tab(lean: float) -> None:
    page, _ = tab(6, top=170)
    for y in range(20, 55, 8):
        page[y, LEFT:RIGHT] = 70
    page[20:171, LEFT] = 60
    page[1:19, 500:800:30] = 0  # notes' stems above, more than the tab has below
    page[236:] = 255
    matrix = np.array([(1.0, lean, -lean * HEIGHT / 2), (0.0, 1.0, 0.0)])
    (region,) = read_page(cv2.warpAffine(page, matrix, (WIDTH, HEIGHT), borderValue=255)).systems
    assert region.has_score and region.quarter_turns == 0


def test_a_desk_of_grain_and_a_shadow_do_not_hide_or_lengthen_a_staff() -> None:
    page, _ = tab(4)
    rng = np.random.default_rng(3)
    desk = rng.normal(150, 6, (HEIGHT + 60, WIDTH + 120))
    light = np.tile(np.linspace(0.7, 1.0, WIDTH), (HEIGHT, 1))
    light[:, 300:420] *= 0.8
    desk[30:-30, 60:-60] = page * light + rng.normal(0, 3, page.shape)
    (region,) = read_page(np.clip(cv2.GaussianBlur(desk, (3, 3), 0), 0, 255).astype(np.uint8)).systems
    assert region.string_count == 4
    np.testing.assert_allclose(region.x_range, (LEFT + 60, RIGHT + 60), atol=6)


def test_the_frame_of_a_window_is_no_part_of_a_staff() -> None:
    page, _ = tab(6)
    framed = np.full((HEIGHT + 40, WIDTH + 50), 120, np.uint8)
    framed[40:, 25:-25] = page
    (staff,) = find_staves(framed)
    assert len(staff.line_ys) == 6 and abs(staff.x0 - LEFT - 25) < 4 and abs(staff.x1 - RIGHT - 25) < 4
    assert not read_page(framed).systems[0].has_score


@pytest.mark.parametrize("stems", [True, False])
@pytest.mark.parametrize("blur", [0.0, 1.2])
def test_five_lines_are_a_tab_if_they_show_frets_or_hang_stems(stems: bool, blur: float) -> None:
    page, _ = tab(5, distance=14)
    bottom = 90 + 4 * 14
    if stems:  # no frets: whole rests only
        page[90 - 8 : bottom + 8, 110:390] = page[90 - 8 : bottom + 8, 410:850] = 255
        page[90 : bottom + 1 : 14, LEFT:RIGHT] = 70
    else:
        page[bottom + 8 :] = 255
    page = cv2.GaussianBlur(page, (0, 0), blur) if blur else page
    pairs, alone = pair_staves(page, find_staves(page))
    assert len(pairs) == 1 and alone == 0
    bare = np.full_like(page, 255)
    bare[90 : bottom + 1 : 14, LEFT:RIGHT] = 70
    bare[100 : bottom + 40, 200:800:60] = 0  # stems of notes in the staff
    assert pair_staves(bare, find_staves(bare)) == ([], 1)


def test_regions_of_a_bent_page_turned_over_are_drawn_from_its_picture() -> None:
    image = np.asarray(Image.open(PICTURES / "page_tab.png").convert("L"))
    height, width = image.shape
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    bent = cv2.remap(image, columns, rows - 6 * np.sin(columns / 90), cv2.INTER_LINEAR, borderValue=255)
    for turns in (0, 2):
        turned = np.ascontiguousarray(np.rot90(bent, turns))
        page = read_page(turned)
        assert len(page.systems) == len(TRUTH["page_tab"]["systems"])
        for region in page.systems:
            assert region.bend is not None and region.quarter_turns == turns
            own = draw_region(Page(page.image, [region]), region).array
            np.testing.assert_array_equal(normalise_system(turned, region).array, own)
