"""Bad pictures: the same by seed, still legible, and their points stay on the ink."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from intermezzo.datasets_scripts import degrade_geometry as geometry
from intermezzo.datasets_scripts.degrade import RECIPES, contact_sheet, degrade, draw_recipe, main
from intermezzo.datasets_scripts.degrade_sheet import Sheet, Warp
from intermezzo.processing.errors import InputError

LINE_PX = 12.0
TOP, LEFT = 60, 40
LINES = TOP + LINE_PX * np.arange(6)
MARKS = np.array([(x, y) for x in np.arange(80, 560, 40.0) for y in LINES[1:5:3]])


def picture() -> np.ndarray:
    """Six lines with fat round marks on two of them."""
    image = np.full((190, 620), 255, np.uint8)
    for y in LINES:
        cv2.line(image, (LEFT, int(y)), (580, int(y)), 90, 1)
    for x, y in MARKS:  # a point at 80.5 is the middle of pixel 80
        cv2.circle(image, (int(x), int(y)), 5, 0, -1)
    return image


PICTURE, POINTS = picture(), MARKS + 0.5


def contrast_at(image: np.ndarray, points: np.ndarray, away_px: float) -> np.ndarray:
    """How far the ink at each point stands out from what lies left and right of it, in grey values."""
    soft = cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32)

    def value(p: np.ndarray) -> np.ndarray:
        x = np.clip(p[:, 0].astype(int), 0, image.shape[1] - 1)
        y = np.clip(p[:, 1].astype(int), 0, image.shape[0] - 1)
        return soft[y, x]

    sides = [value(points + np.array((sign * away_px, 0.4 * away_px))) for sign in (-1, 1)]
    return np.abs(value(points) - np.mean(sides, axis=0))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_the_same_by_seed_and_keeps_its_input(name: str) -> None:
    image, points = PICTURE.copy(), POINTS.copy()
    first, moved = degrade(image, points, 0.7, 5, name, LINE_PX)
    second, again = degrade(image, points, 0.7, np.random.default_rng(5), name, LINE_PX)
    assert np.array_equal(first, second) and np.array_equal(moved, again)
    assert np.array_equal(image, PICTURE) and np.array_equal(points, POINTS)
    assert first.dtype == np.uint8 and first.ndim == 2 and moved.shape == points.shape
    others = [degrade(image, points, 0.7, seed, name, LINE_PX)[0] for seed in (6, 7, 8)]
    assert any(other.shape != first.shape or not np.array_equal(other, first) for other in others)
    assert not (first.shape == image.shape and np.array_equal(first, image))


@pytest.mark.parametrize("name", RECIPES)
def test_points_stay_on_their_ink_at_any_severity(name: str) -> None:
    for seed, severity in enumerate((0.0, 0.4, 0.8, 1.0)):
        image, moved = degrade(PICTURE, POINTS, severity, 100 + seed, name, LINE_PX)
        inside = (moved >= 0).all() and (moved < image.shape[::-1]).all()
        scale = np.linalg.norm(moved[-1] - moved[0]) / np.linalg.norm(POINTS[-1] - POINTS[0])
        seen = contrast_at(image, moved, 13 * scale)
        assert inside and np.median(seen) > 30 and (seen > 12).mean() > 0.93, (name, severity, np.sort(seen)[:5])


def centroid(image: np.ndarray, point: np.ndarray, reach: int) -> np.ndarray:
    x, y = (int(v) for v in point)
    ink = 255.0 - image[y - reach : y + reach + 1, x - reach : x + reach + 1]
    ink[ink < 150] = 0
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.array((x + 0.5 + (columns * ink).sum() / ink.sum(), y + 0.5 + (rows * ink).sum() / ink.sum()))


@pytest.mark.parametrize("step", [geometry.photograph, geometry.curl, geometry.crumple, geometry.tilt])
def test_a_moved_point_is_the_middle_of_its_mark_to_a_fraction_of_a_pixel(step) -> None:
    clean = np.full((190, 620), 255, np.uint8)
    for x, y in MARKS:
        cv2.circle(clean, (int(x), int(y)), 4, 0, -1)
    for seed in range(6):
        sheet = Sheet(clean.copy(), POINTS.copy(), np.random.default_rng(seed), LINE_PX)
        step(sheet, 1.0)
        grey = sheet.grey()
        grey = np.clip(grey.astype(np.float32) * 255 / np.percentile(grey, 80), 0, 255)
        off = [np.abs(centroid(grey, p, 6) - p).max() for p in sheet.points]
        assert np.median(off) < 0.25 and np.quantile(off, 0.95) < 0.8, (step.__name__, seed, max(off))


def test_strong_geometry_does_move_points() -> None:
    moves = []
    for seed in range(8):
        _, moved = degrade(PICTURE, POINTS, 1.0, seed, "phone photo", LINE_PX)
        rows = moved.reshape(-1, 2, 2)[:, 0]
        slope = np.polyfit(rows[:, 0], rows[:, 1], 1)
        moves.append(abs(slope[0]) + np.abs(rows[:, 1] - np.polyval(slope, rows[:, 0])).max() / 100)
    assert np.mean(moves) > 0.02


@pytest.mark.parametrize("name", RECIPES)
def test_without_geometry_staff_lines_stay_straight_and_level(name: str) -> None:
    line = np.column_stack([np.linspace(LEFT, 580, 40), np.full(40, LINES[0] + 0.5)])
    for seed in range(4):
        _, moved = degrade(PICTURE, line, 1.0, seed, name, LINE_PX, geometry_part=0.0)
        assert np.ptp(moved[:, 1]) < 0.02


def test_no_picture_is_smaller_than_five_pixels_between_lines() -> None:
    lines = np.column_stack([np.full(6, 100.0), LINES + 0.5])
    least = []
    for name in RECIPES:
        for seed in range(6):
            _, moved = degrade(PICTURE, lines, 1.0, seed, name, LINE_PX, geometry_part=0.0)
            least.append(np.diff(moved[:, 1]).min())
    assert 4.9 <= min(least) < 6.5


def test_cropping_never_cuts_ink_or_points() -> None:
    outer = np.array([(3.0, 4.0), (610.0, 185.0)])
    for seed in range(20):
        sheet = Sheet(PICTURE.copy(), outer.copy(), np.random.default_rng(seed), LINE_PX)
        geometry.crop_margins(sheet, 1.0)
        assert (sheet.points >= 0).all() and (sheet.points <= (sheet.width, sheet.height)).all()
        assert (sheet.grey() < 128).sum() == (PICTURE < 128).sum()


def test_a_warp_goes_back_where_it_came_from() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        warp = Warp()
        corners = np.array([(0, 0), (600, 0), (600, 200), (0, 200)], dtype=float)
        warp.project(corners, corners + rng.uniform(-30, 30, (4, 2)))
        k, a = rng.uniform(0.005, 0.03), rng.uniform(1, 12)
        warp.displace(lambda q, k=k, a=a: np.column_stack([np.zeros(len(q)), a * np.sin(k * q[:, 0])]))
        points = rng.uniform((0, 0), (600, 200), (50, 2))
        assert np.abs(warp.backward(warp.forward(points)) - points).max() < 1e-6


def test_colour_stays_colour_and_recipes_that_need_it_have_it() -> None:
    rgb = cv2.cvtColor(PICTURE, cv2.COLOR_GRAY2RGB)
    for name in RECIPES:
        assert degrade(rgb, POINTS, 0.5, 3, name, LINE_PX)[0].ndim == 3
    tinted = [degrade(rgb, POINTS, 0.8, seed, "coloured paper", LINE_PX)[0] for seed in range(6)]
    assert max(np.abs(t[..., 0].astype(int) - t[..., 2]).mean() for t in tinted) > 15
    dark = degrade(rgb, POINTS, 0.5, 1, "dark mode", LINE_PX)[0]
    assert np.median(dark) < 80


def test_worse_is_worse() -> None:
    def harm(severity: float) -> float:
        total = []
        for name in ("night photo", "phone photo", "video", "screen photo"):
            for seed in range(6):
                image, moved = degrade(PICTURE, POINTS, severity, seed, name, LINE_PX, geometry_part=0.0)
                total.append(np.median(contrast_at(image, moved, 13)))
        return float(np.mean(total))

    clean = float(np.median(contrast_at(PICTURE, POINTS, 13)))
    assert harm(1.0) < 0.9 * harm(0.2) and harm(0.2) > 0.6 * clean


def test_recipes_are_drawn_by_weight() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_recipe(rng) for _ in range(2000)]
    assert set(drawn) == set(RECIPES)
    assert drawn.count("phone photo") > drawn.count("fax")


def test_wrong_input_is_one_clear_line(tmp_path, capsys) -> None:
    for bad in (PICTURE.astype(np.float32), PICTURE[None], np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(InputError, match="uint8"):
            degrade(bad, POINTS)
    with pytest.raises(InputError, match=r"severity is 1\.5"):
        degrade(PICTURE, POINTS, 1.5)
    with pytest.raises(InputError, match="phone photo"):
        degrade(PICTURE, POINTS, recipe="polaroid")
    assert main([str(tmp_path / "none.png"), "--out", str(tmp_path / "out.png")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_blank_or_tiny_picture_is_taken_too() -> None:
    for name in RECIPES:
        for shape in ((60, 80), (24, 400)):
            image, moved = degrade(np.full(shape, 255, np.uint8), np.zeros((0, 2)), 1.0, 0, name)
            assert image.size and moved.shape == (0, 2)


def test_the_contact_sheet_shows_every_recipe(tmp_path) -> None:
    sheet = contact_sheet(PICTURE[:, :200], severities=(0.5,), line_px=LINE_PX)
    assert sheet.ndim == 3 and sheet.shape[0] > 15 * 100
    path = tmp_path / "clean.png"
    cv2.imwrite(str(path), PICTURE)
    assert main([str(path), "--out", str(tmp_path / "bad.png"), "--recipe", "fax", "--line-px", "12"]) == 0
    assert cv2.imread(str(tmp_path / "bad.png")) is not None
