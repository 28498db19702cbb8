"""Grid pictures of what people have: staff lines in light grey are read like black ones."""

from __future__ import annotations

import numpy as np
import pytest

from intermezzo.processing.errors import InputError
from intermezzo.processing.grid_pictures import (
    GridGeometry,
    canvas_to_grid,
    darken_lines,
    drop_below,
    system_to_grid,
    to_ink,
)

GEOMETRY = GridGeometry(8, 8)


def canvas(line: int, strings: int = 6) -> np.ndarray:
    """A staff whose lines have this grey, a black digit, and a black stem through all lines."""
    page = np.full((240, 160), 255, np.uint8)
    page[120 : 120 + 10 * strings : 10, 8:150] = line
    page[124:137, 40:46] = 0
    page[110:200, 90:92] = 0
    return page


def line_rows(picture: np.ndarray, strings: int = 7) -> np.ndarray:
    """Both rows of each line."""
    return (len(picture) - 80 + 3 + 8 * np.arange(strings))[:, None] + np.arange(2)


@pytest.mark.parametrize("strings", [4, 6, 7])
def test_grey_staff_lines_become_black_and_nothing_else_changes(strings: int) -> None:
    pale = canvas_to_grid(canvas(150, strings), GEOMETRY)
    dark, black = darken_lines(pale), canvas_to_grid(canvas(0, strings), GEOMETRY)
    rows = line_rows(pale, strings)
    usual = [float(np.median(to_ink(picture)[rows, 20:30])) for picture in (pale, dark, black)]
    assert usual[0] < 0.27 and usual[1] == pytest.approx(0.4, abs=0.02) and abs(usual[1] - usual[2]) < 0.12
    others = np.ones(len(pale), dtype=bool)
    others[line_rows(pale)] = False
    assert np.array_equal(dark[others], pale[others])
    assert np.array_equal(dark[rows, 73], pale[rows, 73])  # the stem has no more ink than it had


def test_black_lines_are_what_a_tokenizer_learns_from_and_stay_as_they_are() -> None:
    for line in (0, 60):
        black = canvas_to_grid(canvas(line), GEOMETRY)
        assert darken_lines(black) is black
    nothing = np.full((80, 40), 255, np.uint8)
    assert darken_lines(nothing) is nothing
    faint = np.full((80, 40), 255, np.uint8)
    faint[line_rows(faint)] = 245  # no line at all, but the paper's grain
    assert darken_lines(faint) is faint


def test_dynamics_that_do_not_fit_below_are_left_out_and_long_stems_are_refused() -> None:
    page = canvas(0)
    page[208:226, 30:40] = 0  # a dynamic, lower than a grid picture
    page[206:212, 60:80] = 0  # a bracket that fits
    wanted = page.copy()
    wanted[208:226, 30:40] = 255
    found = page.copy()
    drop_below(found)
    assert np.array_equal(found, wanted)
    canvas_to_grid(found, GEOMETRY)
    page[110:226, 90:92] = 0  # a stem through the staff
    drop_below(page)
    with pytest.raises(InputError, match="px below what a grid picture keeps; crop it off"):
        canvas_to_grid(page, GEOMETRY, "song.png")


def test_pictures_that_are_read_get_black_lines() -> None:
    page = canvas(150)

    def found(images: list[object], return_tensors: str) -> dict[str, np.ndarray]:
        return {"pixel_values": to_ink(page)[None, None], "widths": np.array([160])}

    expected = darken_lines(canvas_to_grid(page, GEOMETRY))
    assert np.array_equal(system_to_grid(found, None, GEOMETRY), expected)
    assert not np.array_equal(expected, canvas_to_grid(page, GEOMETRY))
