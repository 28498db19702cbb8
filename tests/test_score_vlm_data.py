"""What the trainer sees of a system: packed, cut as a reader cuts it, varied, and still labelled where it stands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.dense_labels import SparseLabels, build_label_space
from intermezzo.processing.errors import InputError
from intermezzo.train import score_vlm_data
from intermezzo.train.score_vlm_data import (
    DenseCollate,
    PackedSystems,
    PackWriter,
    SystemRow,
    located,
    true_canvas,
    vary,
)
from intermezzo.train.score_vlm_vary import strike_numbers

from .test_image_processing_score import TRUTH, grey

ONE_SYSTEM = [name for name, truth in TRUTH.items() if len(truth["systems"]) == 1]
TEXT = "\\staff {tabs}\n3.3.4 3.3.4 3.3.4 3.3.4 |\n"


def system(name: str) -> SystemRow:
    truth = TRUTH[name]["systems"][0]
    left, right = truth["x"]
    return SystemRow(
        image=grey(name),
        text=TEXT,
        beat_x={(0, 0, k): left + (right - left) * (k + 1) / 5 for k in range(4)},
        bar_x=[(left, right)],
        tab_line_ys=truth["tab"],
        has_score=truth["has_score"],
        name=name,
    )


@pytest.mark.parametrize("name", ONE_SYSTEM)
def test_a_found_system_lies_where_the_true_lines_put_it(name: str) -> None:
    row = system(name)
    found = located(row)
    assert found is not None
    (canvas, place), (true, expected) = found, true_canvas(row)
    assert canvas.shape[0] == true.shape[0]
    for x in row.bar_x[0]:
        assert x * place.x_scale + place.x_offset == pytest.approx(
            x * expected.x_scale + expected.x_offset, rel=0.012, abs=1.0
        )
    for y in (row.tab_line_ys[0], row.tab_line_ys[-1]):  # drawn lines lie on whole pixels, up to half a one away
        assert y * place.y_scale + place.y_offset == pytest.approx(y * expected.y_scale + expected.y_offset, abs=0.6)


def test_a_system_that_is_found_otherwise_is_not_taken() -> None:
    row = system("system_score")
    row.has_score = False
    assert located(row) is None
    row = system("system_4")
    row.tab_line_ys = row.tab_line_ys[:-1]
    assert located(row) is None
    row.image = np.full((100, 300), 255, np.uint8)
    assert located(row) is None


def test_packed_systems_come_back(tmp_path: Path) -> None:
    space = build_label_space([read_alphatex(TEXT)])
    writer = PackWriter(tmp_path, space, locate=True)
    rows = [system(name) for name in ONE_SYSTEM]
    rows[-1].text = "\\staff {tabs}\n3.3.4 |"  # can not be labelled: does not read as beats that were drawn
    rows[-1].beat_x = {}
    assert [writer.add(row) for row in rows] == [True] * (len(rows) - 1) + [False]
    writer.close()
    packed = PackedSystems([tmp_path])
    assert len(packed) == len(rows) - 1 and list(packed.texts()) == [TEXT] * len(packed)
    for item, row in zip((packed[i] for i in range(len(packed))), rows, strict=False):
        found = located(row)
        assert found is not None
        np.testing.assert_array_equal(item["canvas"], found[0])
        assert item["labels"].beats.shape == (4, 8) and item["strings"] == 6
    assert rows[-1].name in (tmp_path / "failures.txt").read_text(encoding="utf-8")


def test_folders_are_told_in_one_order_of_classes(tmp_path: Path) -> None:
    text = "\\staff {tabs}\n\\ts (3 4) 3.3{h}.4 3.3.4{tu (3 2)} r.4 |\n"
    space = build_label_space([read_alphatex(TEXT), read_alphatex(text)])
    turned = {name: classes[::-1] for name, classes in space.items()}
    row = system("system_thin")
    row.text, row.beat_x = text, {(0, 0, k): x for (_, _, k), x in row.beat_x.items() if k < 3}
    for name, names in (("a", space), ("b", turned)):
        writer = PackWriter(tmp_path / name, names, locate=True)
        assert writer.add(row)
        writer.close()
    both = PackedSystems([tmp_path / "a", tmp_path / "b"])
    assert both.space == space
    asked = PackedSystems([tmp_path / "a", tmp_path / "b"], turned)
    assert asked.space == turned
    for systems in (both, asked):
        for name in ("notes", "beats", "bars"):
            np.testing.assert_array_equal(*(getattr(systems[i]["labels"], name) for i in (0, 1)))
    assert not np.array_equal(both[0]["labels"].notes, asked[0]["labels"].notes)
    with pytest.raises(InputError, match="pack it again"):
        PackedSystems([tmp_path / "a"], {**space, "tuplets": ["5:4"]})


def test_ink_moves_as_vary_says_and_stays_in_the_picture() -> None:
    canvas = np.full((240, 400), 255, np.uint8)
    columns = [30, 111, 250, 388]
    for x in columns:
        canvas[100:190, x] = 0
    shifts, scales = set(), set()
    for seed in range(60):
        ink, scale, shift = vary(canvas, np.random.default_rng(seed))
        assert ink.shape == canvas.shape and ink.dtype == np.float32 and ink.min() >= 0 and ink.max() <= 1
        rows = ink[130:160].mean(axis=0)
        for x in columns:
            expected = (x + 0.5) * scale + shift
            near = np.arange(max(0, int(expected) - 3), min(400, int(expected) + 4))
            weight = rows[near] - 0.1 * rows.max()
            centre = (near + 0.5) @ np.maximum(weight, 0) / np.maximum(weight, 0).sum()
            assert centre == pytest.approx(expected, abs=0.8), (seed, x)
        shifts.add(round(shift))
        scales.add(round(scale, 2))
    assert len(shifts) > 3 and len(scales) > 3


def test_lines_run_through_numbers_and_nothing_else_changes() -> None:
    top = 240 - 120
    ink = np.zeros((240, 300), np.uint8)
    for line in range(6):
        ink[top + 10 * line, 20:280] = 90
        ink[top + 10 * line + 1, 20:280] = 30  # a line between two rows
    whole = ink.copy()
    ink[top + 17 : top + 24, 100:112] = 0  # a gap, and a number in it
    ink[top + 17 : top + 24, 104] = 255
    ink[60, 50:90] = 200  # something above the tab
    struck = strike_numbers(ink)
    assert (struck[top + 20, 20:280] == np.where(np.arange(20, 280) == 104, 255, 90)).all()
    assert (struck[top + 21, 100:112] == np.where(np.arange(100, 112) == 104, 255, 30)).all()
    lines = np.zeros(240, bool)
    lines[[top + 10 * line + row for line in range(6) for row in (0, 1)]] = True
    np.testing.assert_array_equal(struck[~lines], ink[~lines])
    np.testing.assert_array_equal(strike_numbers(whole), whole)
    number = np.zeros((240, 300), np.uint8)
    number[top - 1 : top + 2, 40:44] = number[top - 1 : top + 2, 80:84] = 255
    np.testing.assert_array_equal(strike_numbers(number), number)  # there is no line to draw on


def test_labels_of_a_batch_follow_the_varied_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    space = build_label_space([read_alphatex(TEXT)])
    labels = SparseLabels(
        np.array([[2, 100.0, 4, 0, 0]]), np.array([[0, 100.0, 1, 2, 0, 0, 0, 0]]), np.array([[20.0, 180.0, 0, 0, -1]])
    )
    row = {"canvas": np.full((240, 208), 255, np.uint8), "labels": labels, "height": 240, "width": 208}
    monkeypatch.setattr(score_vlm_data, "vary", lambda canvas, draw: ((255 - canvas) / 255, 1.1, 6.0))
    batch = DenseCollate(space, augment=True)([row])["dense_labels"]
    assert np.flatnonzero(batch["beats"][0, 0] > 0).tolist() == [int((100 * 1.1 + 6) // 4)]
    assert np.flatnonzero(batch["bar_edges"][0, :, 1] > 0).tolist() == [int((180 * 1.1 + 6) // 4)]
    plain = DenseCollate(space, augment=False)([row])["dense_labels"]
    assert np.flatnonzero(plain["beats"][0, 0] > 0).tolist() == [25]
