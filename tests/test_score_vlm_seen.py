"""Training pictures as the reader sees them: wherever the ink went, the label went too."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from intermezzo.datasets_scripts.degrade import RECIPES, degrade
from intermezzo.processing.page_lines import straighten
from intermezzo.processing.system_canvas import ROWS_BELOW
from intermezzo.train.score_vlm_data import SystemRow, located
from intermezzo.train.score_vlm_seen import Lost, places_of, seen, spoilt, upright_points

from .test_score_vlm_data import ONE_SYSTEM, system


def with_ticks(name: str = "system_4") -> SystemRow:
    """A system with a thick stroke through the tab at each labelled beat, and nothing else between the lines there."""
    row = system(name)
    image, lines = row.image.copy(), row.tab_line_ys
    top, bottom = round(lines[0]), round(lines[-1])
    for x in row.beat_x.values():
        image[top + 2 : bottom - 1, int(x) - 12 : int(x) + 13] = 255
        for y in lines:
            image[int(y), int(x) - 12 : int(x) + 13] = 0
        image[top:bottom, int(x) - 2 : int(x) + 2] = 0
    row.image, row.beat_x = image, {key: float(int(x)) for key, x in row.beat_x.items()}
    return row


def tick_errors(found: SystemRow) -> list[float]:
    """How far, on the canvas, the darkest stroke near each label lies from it; px of a canvas with 10 px a space."""
    assert found.canvas is not None
    canvas, place = found.canvas
    ink = 255.0 - canvas[canvas.shape[0] - ROWS_BELOW + 2 : canvas.shape[0] - ROWS_BELOW + 28]
    errors = []
    for x in found.beat_x.values():
        at = x * place.x_scale + place.x_offset
        columns = np.arange(max(0, int(at) - 9), min(canvas.shape[1], int(at) + 10))
        dark = ink[:, columns].mean(axis=0)
        weight = np.maximum(dark - dark.min() - 0.5 * (dark.max() - dark.min()), 0)
        errors.append(abs(float((columns + 0.5) @ weight / max(weight.sum(), 1e-9)) - at))
    return errors


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("angle", [0.0, 2.5, -4.0])
def test_points_go_where_straightening_moves_the_ink(turns: int, angle: float) -> None:
    image = np.full((90, 160), 255, np.uint8)
    points = np.array([(20.5, 30.5), (120.5, 70.5), (150.5, 8.5)])
    for x, y in points:
        image[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = 0
    page = straighten(straighten(image, turns % 2, 0.0), 0, angle)  # in this order, as `read_page` does
    page = straighten(page, 2, 0.0) if turns >= 2 else page
    for x, y in upright_points(points, image.shape, turns, angle):
        near = 255.0 - page[max(0, int(y) - 4) : int(y) + 5, max(0, int(x) - 4) : int(x) + 5]
        rows, columns = np.indices(near.shape)
        assert near.sum() > 1500
        assert (columns * near).sum() / near.sum() + max(0, int(x) - 4) + 0.5 == pytest.approx(x, abs=0.15)
        assert (rows * near).sum() / near.sum() + max(0, int(y) - 4) + 0.5 == pytest.approx(y, abs=0.15)


@pytest.mark.parametrize("name", ONE_SYSTEM)
def test_a_clean_picture_is_cut_as_the_packer_cuts_it(name: str) -> None:
    row = system(name)
    found, expected = seen(row), located(row)
    assert isinstance(found, SystemRow) and found.canvas is not None and expected is not None
    np.testing.assert_array_equal(found.canvas[0], expected[0])
    assert found.canvas[1] == expected[1]
    assert found.beat_x == row.beat_x and found.text == row.text


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_picture_keeps_its_labels(turns: int) -> None:
    row = with_ticks()
    height, width = row.image.shape
    places = places_of(row)
    for _ in range(turns):
        places = np.column_stack([places[:, 1], width - places[:, 0]])
        height, width = width, height
    found = seen(row, np.ascontiguousarray(np.rot90(row.image, turns)), places)
    if isinstance(found, Lost):  # the finder may take a system without letters for upright; then it must say so
        assert found.reason == "turned over"
        return
    assert max(tick_errors(found)) < 1.0
    assert list(found.beat_x.values()) == sorted(found.beat_x.values())


def test_labels_follow_the_ink_through_every_recipe() -> None:
    row = with_ticks("system_thin")
    before = row.image.copy(), dict(row.beat_x)
    kept, all_errors = 0, []
    for number, recipe in enumerate(2 * [*RECIPES]):
        found = spoilt(row, 0.3, number, recipe)
        if isinstance(found, Lost):
            continue
        kept += 1
        errors = tick_errors(found)
        all_errors += errors
        assert np.median(errors) < 1.5, recipe  # letters and pens may stand beside a stroke
        assert found.text == row.text and found.canvas is not None and found.canvas[0].shape[0] == 240
    assert kept > 1.2 * len(RECIPES)
    assert np.median(all_errors) < 0.6
    np.testing.assert_array_equal(row.image, before[0])
    assert row.beat_x == before[1]


def test_one_seed_one_picture() -> None:
    row = with_ticks()
    first, again, other = (spoilt(row, 0.4, seed, "scan") for seed in (5, 5, 6))
    assert isinstance(first, SystemRow) and isinstance(again, SystemRow) and isinstance(other, SystemRow)
    np.testing.assert_array_equal(first.canvas[0], again.canvas[0])
    assert first.canvas[0].shape != other.canvas[0].shape or (first.canvas[0] != other.canvas[0]).any()


def test_what_a_reader_would_not_see_is_lost_with_its_reason() -> None:
    row = with_ticks()
    blank = np.full_like(row.image, 255)
    assert seen(row, blank) == Lost(row.name, "no staff found")
    row.has_score = True
    assert seen(row) == Lost(row.name, "score staff missed")
    row.has_score = False
    row.tab_line_ys = row.tab_line_ys[:-1]
    assert seen(row) == Lost(row.name, "other staves found")
    row = with_ticks()
    row.beat_x[0, 0, 3] = row.image.shape[1] + 80.0
    assert seen(row) == Lost(row.name, "cut off")


def test_a_bent_staff_is_lost() -> None:
    row = with_ticks()
    places = places_of(row)
    bend = places.copy()
    space = row.tab_line_ys[1] - row.tab_line_ys[0]
    bend[:, 1] += 1.5 * space * (bend[:, 0] / row.image.shape[1]) ** 8  # the labels say that its end hangs down
    assert seen(row, row.image, bend) == Lost(row.name, "bent")
    assert isinstance(seen(row, row.image, places), SystemRow)


def test_colour_goes_the_same_way_as_grey() -> None:
    row = with_ticks()
    colour = cv2.cvtColor(row.image, cv2.COLOR_GRAY2RGB)
    image, moved = degrade(colour, places_of(row), 0.3, 1, "coloured paper", row.tab_line_ys[1] - row.tab_line_ys[0])
    found = seen(row, image, moved)
    assert isinstance(found, SystemRow) and max(tick_errors(found)) < 1.2
