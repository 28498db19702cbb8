"""Lines are taken from under numbers where they run through them, and nowhere else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.reading_views import VIEWS, look
from intermezzo.processing.struck_numbers import clear_numbers, line_rows, numbers, without_lines
from intermezzo.processing.system_canvas import CANVAS_HEIGHT_PX, CanvasPlacement, NormalisedSystem

from .test_image_processing_score import PICTURES

WIDTH = 320


def drawn(strings: int, dark: float, gaps: bool = False, digits: str = "0358926407") -> tuple[np.ndarray, np.ndarray]:
    """A canvas of numbers on lines, and the numbers' own ink; `dark` is the lines' ink."""
    height = CANVAS_HEIGHT_PX
    own = np.zeros((height, WIDTH), dtype=np.uint8)
    places = []
    for i, digit in enumerate(digits):
        x, y = 20 + 28 * i, line_rows(height, strings)[i % strings]
        cv2.putText(own, digit, (x, y + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.32, 255, 1, cv2.LINE_AA)
        places.append((x, y))
    own_ink = own.astype(np.float32) / 255
    lines = np.zeros_like(own_ink)
    lines[line_rows(height, strings), 8:-8] = dark
    if gaps:
        for x, y in places:
            lines[y, x - 3 : x + 10] = 0
    ink = own_ink + lines - own_ink * lines
    return np.rint(255 * (1 - ink)).astype(np.uint8), own_ink


@pytest.mark.parametrize("strings", [4, 6, 7])
@pytest.mark.parametrize("dark", [0.35, 0.6, 0.8])
def test_the_numbers_own_ink_comes_back(strings, dark):
    canvas, own = drawn(strings, dark)
    cleared = 1 - clear_numbers(canvas, strings).astype(np.float32) / 255
    columns = np.flatnonzero(own.max(0) > 0.3)
    rows = [row for line in line_rows(canvas.shape[0], strings) for row in (line - 1, line, line + 1)]
    near = np.ix_(rows, columns)
    wrong = np.abs(cleared - own)[near]
    # A line of another string runs on above and below a number: only the number's own line is taken away.
    struck = np.abs((1 - canvas.astype(np.float32) / 255) - own)[near]
    assert wrong.sum() < struck.sum() - 0.9 * dark * columns.size / 2
    for x in (12, WIDTH - 12):  # beside all numbers the lines stand as they did
        assert np.array_equal(cleared[:, x], 1 - canvas[:, x].astype(np.float32) / 255)


def test_each_digit_is_found_where_it_stands_and_reads_as_alone():
    canvas, own = drawn(6, 0.6)
    found = sorted(numbers(without_lines((255 - canvas) / np.float32(255), 6), 6), key=lambda place: place[1])
    assert [line for line, _, _ in found] == [line_rows(canvas.shape[0], 6)[i % 6] for i in range(10)]
    cleared = 1 - clear_numbers(canvas, 6) / np.float32(255)
    for line, first, after in found:
        part = np.s_[line - 3 : line + 4, first:after]
        assert np.abs(cleared[part] - own[part]).max() < 0.2


def test_black_lines_stay_as_nobody_can_tell_what_lies_under_them():
    canvas, _ = drawn(6, 1.0)
    assert clear_numbers(canvas, 6) is canvas


@pytest.mark.parametrize("dark", [0.4, 0.8, 1.0])
def test_numbers_in_gaps_are_left_as_they_are(dark):
    canvas, _ = drawn(6, dark, gaps=True)
    assert clear_numbers(canvas, 6) is canvas
    blank = np.full((CANVAS_HEIGHT_PX, 16), 255, dtype=np.uint8)
    assert clear_numbers(blank, 6) is blank


def test_an_engravers_own_gaps_are_known():
    system = ScoreImageProcessor()._system(Image.open(PICTURES / "system_score.png"), 0, True)
    assert clear_numbers(system.array, system.string_count) is system.array


def test_every_second_look_frees_the_numbers():
    canvas, _ = drawn(6, 0.6)
    system = NormalisedSystem(canvas, 6, False, CanvasPlacement(1, 0, 1, 0))
    assert [view.clear for view in VIEWS] == [False, True] * 3
    plain = look(system, VIEWS[0]).array
    moved = look(system, VIEWS[1]).array
    assert np.array_equal(plain, canvas)
    assert np.array_equal(moved[:, 4:WIDTH], clear_numbers(canvas, 6)[:, :-4])
