"""Figures of music against numbers worked out by hand, and laws that any of them must keep."""

from __future__ import annotations

import numpy as np
import pytest

from intermezzo.processing.piano_roll import coarse_codes, transpose_codes
from intermezzo.train import metrics_music as mm


def roll(notes: list[tuple[int, int, int]], steps: int = 32) -> np.ndarray:
    """Codes of (start, steps, pitch)."""
    codes = np.zeros((128, steps), np.uint8)
    for start, length, pitch in notes:
        codes[pitch, start : start + length] = 1
        codes[pitch, start] = 21
    return codes


def random_rolls(count: int, seed: int, share: float = 0.02) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random((count, 128, 64)) < share, rng.integers(2, 34, (count, 128, 64)), 0)
    codes[:, :40] = codes[:, 90:] = 0
    return codes


SILENCE = np.zeros((128, 32), np.uint8)


def test_density_polyphony_range() -> None:
    rolls = np.stack([roll([(0, 4, 60), (0, 8, 67), (8, 2, 90)]), SILENCE])
    assert mm.note_density(rolls).tolist() == [3 / 32 * 4, 0]
    polyphony = mm.mean_polyphony(rolls)
    assert polyphony[0] == pytest.approx((4 * 2 + 4 * 1 + 2) / 10) and np.isnan(polyphony[1])
    extent = mm.pitch_range(rolls)
    assert extent[0] == 30 and np.isnan(extent[1])
    assert mm.note_density(rolls[0]).shape == (1,)


def test_held_cells_after_silence_are_no_music() -> None:
    codes = roll([(0, 4, 60)])
    codes[100, 10:20] = 1
    assert mm.pitch_range(codes)[0] == 0 and mm.mean_polyphony(codes)[0] == 1


def test_scale_consistency() -> None:
    scale = [(2 * k, 1, 60 + d) for k, d in enumerate((0, 2, 4, 5, 7, 9, 11))]
    assert mm.scale_consistency(roll(scale))[0] == 1
    assert mm.scale_consistency(roll([*scale, (20, 1, 61)]))[0] == pytest.approx(7 / 8)
    assert mm.scale_consistency(roll([(k, 1, 60 + k) for k in range(12)]))[0] == pytest.approx(7 / 12)
    harmonic = [(2 * k, 1, 57 + d) for k, d in enumerate((0, 2, 3, 5, 7, 8, 11))]
    assert mm.scale_consistency(roll(harmonic))[0] == 1
    assert np.isnan(mm.scale_consistency(SILENCE)[0])


def test_groove_similarity() -> None:
    bar = [(0, 1, 60), (4, 1, 62), (8, 1, 64), (12, 1, 65)]
    same = bar + [(start + 16, 1, 70) for start, _, _ in bar]
    assert mm.groove_similarity(roll(same))[0] == 1
    assert mm.groove_similarity(roll(bar))[0] == pytest.approx(1 - 4 / 16)
    assert np.isnan(mm.groove_similarity(roll(bar, 16))[0])


def test_empty_beats() -> None:
    assert mm.empty_beat_rate(roll([(0, 5, 60), (15, 1, 60)]))[0] == pytest.approx(1 - 3 / 8)
    assert mm.empty_beat_rate(SILENCE)[0] == 1


def test_histograms_count_what_they_name() -> None:
    codes = roll([(0, 4, 60), (0, 2, 72), (6, 1, 61), (7, 20, 62)], 100)
    codes[62, 7] = 33
    assert mm.histogram_of_pitch_classes(codes)[0].tolist() == [2, 1, 1] + [0] * 9
    durations = mm.histogram_of_durations(codes)[0]
    assert {k + 1: int(n) for k, n in enumerate(durations) if n} == {4: 1, 2: 1, 1: 1, 20: 1}
    velocities = mm.histogram_of_velocities(codes)[0]
    assert {k: int(n) for k, n in enumerate(velocities) if n} == {19: 3, 31: 1}
    intervals = mm.histogram_of_onset_intervals(codes)[0]
    assert {k + 1: int(n) for k, n in enumerate(intervals) if n} == {6: 1, 1: 1}
    long = roll([(0, 90, 60), (95, 1, 62)], 100)
    assert mm.histogram_of_durations(long)[0, -1] == 1 and mm.histogram_of_onset_intervals(long)[0, -1] == 1


def test_velocities_have_32_bins_for_both_kinds_of_rolls() -> None:
    rng = np.random.default_rng(0)
    fine = np.where(rng.random((4, 128, 64)) < 0.02, rng.integers(1, 129, (4, 128, 64)), 0).astype(np.uint8)
    coarse = coarse_codes(fine, loudness_classes=127)
    found = mm.histogram_of_velocities(fine, loudness_classes=127)
    assert found.shape == (4, 32) and found.sum() == (mm._batch(fine) >= 2).sum()
    assert (found == mm.histogram_of_velocities(coarse)).all()
    for k in range(127):
        assert mm.histogram_of_velocities(roll([(0, 1, 60)]) // 21 * (k + 2), loudness_classes=127)[0, k // 4] == 1
    several = mm.histograms_of(fine, loudness_classes=127)
    assert set(several) == set(mm.HISTOGRAMS)
    assert all((counts == mm.HISTOGRAMS[name](coarse)).all() for name, counts in several.items())
    assert str(mm.compare(fine, fine, loudness_classes=127)) == str(mm.compare(coarse, coarse))  # also nan


def test_a_note_from_before_the_roll_has_no_length_that_counts() -> None:
    codes = roll([(8, 2, 60)])
    codes[70, :5] = 1
    assert mm.histogram_of_durations(codes).sum() == 1


def test_overlapping_area() -> None:
    assert mm.overlapping_area([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert mm.overlapping_area([1, 0], [0, 5]) == 0
    assert mm.overlapping_area([3, 1], [1, 1]) == pytest.approx(0.75)
    assert mm.overlapping_area([[3, 0], [0, 1]], [1, 1]) == pytest.approx(0.75)
    assert np.isnan(mm.overlapping_area([0, 0], [1, 1]))
    with pytest.raises(ValueError, match="2 bins against 3"):
        mm.overlapping_area([1, 2], [1, 2, 3])


def test_intervals_narrow_with_more_rolls_and_whole_pieces_widen_them() -> None:
    few, many = random_rolls(8, 1), random_rolls(80, 2)
    histogram = mm.histogram_of_velocities
    wide = mm.overlap_estimate(histogram(few), histogram(few[::-1]), resamples=200)
    narrow = mm.overlap_estimate(histogram(many), histogram(many[::-1]), resamples=200)
    assert wide.value == narrow.value == pytest.approx(1)
    assert 1 >= narrow.low > wide.low
    assert mm.overlap_estimate(histogram(few), histogram(few), resamples=50, seed=3) == mm.overlap_estimate(
        histogram(few), histogram(few), resamples=50, seed=3
    )
    one_piece = mm.overlap_estimate(histogram(many), histogram(many), ["a"] * 80, resamples=50)
    assert one_piece.groups == 1 and one_piece.n == 80


def test_the_same_rolls_compare_as_equal_and_a_dense_copy_does_not() -> None:
    real = random_rolls(20, 3)
    groups = [k // 4 for k in range(20)]
    same = mm.compare(real, real, groups)
    assert set(same) == {*mm.FIGURES, *(f"overlap_{name}" for name in mm.HISTOGRAMS)}
    for name in mm.FIGURES:
        assert same[name]["relative"] == 0 and same[name]["real"].groups == 5
    for name in mm.HISTOGRAMS:
        assert same[f"overlap_{name}"]["overlap"].value == pytest.approx(1)
    dense = mm.flat_figures(mm.compare(random_rolls(20, 4, share=0.2), real, groups))
    assert dense["note_density_relative"] > 5 and dense["mean_polyphony_relative"] > 1
    assert dense["overlap_onset_interval"] < 0.9
    assert dense["overlap_velocity"] > 0.9  # density alone does not move loudness


def test_silent_samples_do_not_break_a_comparison() -> None:
    real = random_rolls(4, 5)
    found = mm.flat_figures(mm.compare(np.zeros_like(real), real))
    assert found["note_density"] == 0 and found["note_density_relative"] == -1
    assert np.isnan(found["overlap_duration"]) and np.isnan(found["mean_polyphony"])


def test_transposing_moves_only_pitch_classes() -> None:
    real = random_rolls(6, 6)
    moved = np.stack([transpose_codes(codes, 5) for codes in real])  # type: ignore[arg-type]
    for name, figure in mm.FIGURES.items():
        assert np.allclose(figure(moved), figure(real)), name
    assert np.array_equal(np.roll(mm.histogram_of_pitch_classes(real), 5, axis=1), mm.histogram_of_pitch_classes(moved))


def test_seams() -> None:
    codes = roll([(0, 2, 60), (10, 2, 64), (10, 2, 40), (16, 2, 69), (18, 1, 30), (19, 1, 30)])
    assert mm.seam_pitch_step(codes, 16) == 5
    assert mm.seam_pitch_step(codes, 16, reach=4) != mm.seam_pitch_step(codes, 16)  # the onset at 10 is out of reach
    assert np.isnan(mm.seam_pitch_step(codes, 16, reach=4))
    assert np.isnan(mm.seam_pitch_step(SILENCE, 16))
    assert mm.seam_onset_rates(codes, 16) == (0, 3 / 4)
    assert np.isnan(mm.seam_onset_rates(codes, 0)[0])


def test_only_codes_are_taken() -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        mm.note_density(np.zeros((1, 128, 16)))
    with pytest.raises(ValueError, match="shape"):
        mm.note_density(np.zeros((1, 88, 16), int))
    assert mm.note_density(np.zeros((2, 1, 128, 16), int)).shape == (2,)
