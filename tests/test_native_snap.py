"""Beats in the middle of columns: where they go, that signs stay as they are, and that labels go with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intermezzo.processing.dense_labels import SparseLabels
from intermezzo.processing.grid_pictures import SCALE, GridGeometry
from intermezzo.processing.native_snap import (
    CROWDED,
    anchors_of,
    column_middles,
    snap_to_columns,
    snapped_columns,
    snapped_labels,
    snapped_places,
)

GEOMETRY = GridGeometry(8, 8)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(8, 900), min_size=1, max_size=40))
def test_anchors_keep_their_order_and_stand_in_the_middle_of_columns(xs: list[float]) -> None:
    places, goals = snapped_places(xs, GEOMETRY)
    step, first = column_middles(GEOMETRY)
    columns = (goals - first) / step
    np.testing.assert_allclose(columns, np.round(columns), atol=1e-9)
    assert (np.diff(columns.round()) >= 1).all() and (np.diff(places) >= 4).all()
    middle = ((goals + 0.5) * SCALE) % GEOMETRY.patch_width
    np.testing.assert_allclose(middle, GEOMETRY.patch_width / 2, atol=1e-9)
    gaps, moved = np.diff(places) / step, np.diff(columns)
    assert (np.abs(moved - gaps)[gaps > CROWDED] <= 1.01).all()  # no gap changes by more than a column
    assert (moved >= gaps - 0.06)[gaps < CROWDED - 1e-6].all()  # crowded ones never shrink


def canvas_with(xs: list[float]) -> np.ndarray:
    """A line, and a block of 7 px around each beat."""
    canvas = np.full((240, 400), 255, np.uint8)
    canvas[120, 5:-5] = 0
    for x in xs:
        canvas[100:110, round(x) - 3 : round(x) + 4] = 0
    return canvas


def test_signs_go_with_their_beats_and_stay_as_they_are() -> None:
    xs = [20.0, 87.0, 113.0, 152.0, 166.0, 300.0]
    moved = snap_to_columns(canvas_with(xs), xs, GEOMETRY)
    _, goals = snapped_places(xs, GEOMETRY)
    assert moved.shape[0] == 240 and moved[120, 10 : moved.shape[1] - 12].max() < 60
    for goal in goals:
        ink = 255 - moved[103:107, int(goal) - 8 : int(goal) + 9].astype(float)
        wide = ink.sum(1) / 255
        np.testing.assert_allclose(wide, 7, atol=0.8)
        centre = (ink[0] * np.arange(int(goal) - 8, int(goal) + 9)).sum() / ink[0].sum()
        assert centre == pytest.approx(goal, abs=0.3)


def test_where_beats_went_is_told() -> None:
    beats, bars = [40.0, 87.0, 113.0], [8.0, 150.0]
    columns = snapped_columns(beats, [*beats, *bars], GEOMETRY)
    labels = SparseLabels(
        np.array([[0, 87.0, 4, 0, 0], [2, 113.0, 6, 0, 0]]),
        np.array([[0, x, 1, 2, 0, 0, 0, 0] for x in beats]),
        np.array([[8.0, 150.0, 0, 0, -1]]),
    )
    assert anchors_of(labels) == [*beats, 8.0, 150.0]
    moved = snapped_labels(labels, GEOMETRY)
    step, first = column_middles(GEOMETRY)
    np.testing.assert_allclose((moved.beats[:, 1] - first) / step, columns)
    np.testing.assert_allclose(moved.notes[:, 1], moved.beats[1:, 1])
    assert labels.beats[0, 1] == 40.0  # the old ones are as they were


def test_without_anchors_nothing_moves() -> None:
    canvas = canvas_with([50.0])
    assert snap_to_columns(canvas, [], GEOMETRY) is canvas
