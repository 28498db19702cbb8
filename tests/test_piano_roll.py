"""Rolls of codes: notes survive the way there and back, windows begin at bars, pictures show what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import symusic
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from intermezzo.processing import piano_roll as pr
from intermezzo.processing import roll_windows as rw
from intermezzo.processing.errors import InputError
from intermezzo.processing.music_attributes import measure_roll
from intermezzo.processing.roll_pictures import draw_roll, palette, write_gif

QUICK = settings(max_examples=60, deadline=None)


def make_score(notes: list[tuple[int, int, int, int]], tpq: int = 480, drums: bool = False, **kwargs: Any) -> Any:
    """A score of one track; notes are (start, duration, pitch, velocity) in ticks."""
    score = symusic.Score(tpq)
    track = symusic.Track("", 0, drums)
    for note in notes:
        track.notes.append(symusic.Note(*note))
    score.tracks.append(track)
    for time, count, unit in kwargs.get("metres", []):
        score.time_signatures.append(symusic.TimeSignature(time, count, unit))
    return score


def as_set(score: Any) -> set[tuple[int, int, int, int]]:
    tpq = score.ticks_per_quarter
    return {(n.time * 480 // tpq, n.duration * 480 // tpq, n.pitch, n.velocity) for t in score.tracks for n in t.notes}


@st.composite
def quantised_notes(draw: Any) -> list[tuple[int, int, int, int]]:
    """Notes on a grid of sixteenths; those of one pitch follow each other, often without a gap."""
    notes = []
    for pitch in draw(st.lists(st.integers(0, 127), min_size=1, max_size=6, unique=True)):
        place = 0
        for _ in range(draw(st.integers(1, 6))):
            place += draw(st.sampled_from((0, 0, 1, 3)))
            length = draw(st.integers(1, 7))
            notes.append((place, length, pitch, draw(st.integers(1, 127))))
            place += length
    return notes


@QUICK
@given(quantised_notes(), st.sampled_from((24, 96, 480, 960)))
def test_a_quantised_file_comes_back_note_by_note(notes: list[tuple[int, int, int, int]], tpq: int) -> None:
    step = tpq // 4
    score = make_score([(start * step, length * step, pitch, v) for start, length, pitch, v in notes], tpq)
    read = symusic.Score.from_midi(score.dumps_midi())
    codes = pr.codes_of_score(read)
    back = symusic.Score.from_midi(pr.score_of_codes(codes, tempo_bpm=97).dumps_midi())
    wanted = {(s * 120, n * 120, p, int(pr.velocity_of_loudness(pr.loudness_of_velocity(v)))) for s, n, p, v in notes}
    assert as_set(back) == wanted and len(back.tracks[0].notes) == len(notes)
    assert back.tempos[0].qpm == pytest.approx(97, rel=1e-5)
    assert (pr.codes_of_score(back) == codes).all()


@QUICK
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_any_roll_without_orphans_comes_back(seed: int, steps: int) -> None:
    codes = np.random.default_rng(seed).choice([0, 0, 0, 1, 1, 7, 33], (128, steps)).astype(np.uint8)
    clean = pr.clean_codes(codes)
    assert (pr.clean_codes(clean) == clean).all()
    assert ((clean == codes) | ((codes == 1) & (clean == 0))).all()
    clean[clean[:, 0] == 1, 0] = pr.default_onset()
    if clean.any():
        back = pr.codes_of_score(pr.score_of_codes(clean), num_steps=steps)
        assert (back == clean).all()
    assert (pr.codes_of_values(pr.values_of_codes(codes)) == codes).all()


def test_velocities_keep_their_class_and_the_usual_ones_their_number() -> None:
    velocities = np.arange(1, 128)
    classes = pr.loudness_of_velocity(velocities)
    assert classes.min() == 0 and classes.max() == 31 and (np.diff(classes) >= 0).all()
    again = pr.velocity_of_loudness(classes)
    assert (pr.loudness_of_velocity(again) == classes).all() and np.abs(again - velocities).max() <= 3
    usual = [16, 64, 80, 96, 100, 112, 127]
    assert pr.velocity_of_loudness(pr.loudness_of_velocity(usual)).tolist() == usual


@QUICK
@given(st.permutations(range(1, 128)), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_all_127_velocities_come_back_exactly_with_as_many_classes(
    velocities: list[int], length: int, seed: int
) -> None:
    pitches = np.random.default_rng(seed).permutation(128).tolist()
    notes = [(120 * length * k, 120 * length, pitches[k], v) for k, v in enumerate(velocities)]
    codes = pr.codes_of_score(make_score(notes), loudness_classes=127)
    assert codes.dtype == np.uint8 and codes.max() == 128
    back = pr.score_of_codes(codes, loudness_classes=127)
    assert as_set(symusic.Score.from_midi(back.dumps_midi())) == set(notes)
    values = pr.values_of_codes(codes, loudness_classes=127)
    np.testing.assert_allclose(values, -1 + 2 * codes.astype(float) / 128, atol=1e-6)
    assert (pr.codes_of_values(values, loudness_classes=127) == codes).all()
    coarse = pr.coarse_codes(codes, loudness_classes=127)
    assert coarse.dtype == np.uint8 and (coarse == pr.codes_of_score(make_score(notes))).all()
    assert pr.coarse_codes(coarse, loudness_classes=32) is coarse


@pytest.mark.parametrize("classes", [0, 1, 31, 64, 128, -32, None, "127"])
def test_other_numbers_of_loudness_classes_are_refused(classes: Any) -> None:
    codes = np.zeros((128, 16), np.uint8)
    for function, given_ in (
        (pr.codes_in_all, None), (pr.loudness_of_velocity, 64), (pr.velocity_of_loudness, 3), (pr.default_onset, None),
        (pr.values_of_codes, codes), (pr.codes_of_values, codes), (pr.check_codes, codes), (pr.coarse_codes, codes),
        (pr.codes_of_score, make_score([(0, 120, 60, 80)])), (pr.notes_of_codes, codes), (pr.score_of_codes, codes),
        (measure_roll, codes), (draw_roll, codes),
    ):  # fmt: skip
        told = [] if given_ is None else [given_]
        with pytest.raises(InputError, match="it must be 32 or 127") as caught:
            function(*told, loudness_classes=classes)  # type: ignore[operator]
        assert repr(classes) in str(caught.value) and "\n" not in str(caught.value)


def test_codes_of_many_classes_are_refused_where_few_are_meant() -> None:
    codes = np.zeros((128, 16), np.uint8)
    codes[60, 0] = 128
    with pytest.raises(InputError, match="codes go from 0 to 128; a roll has 0 to 33"):
        pr.notes_of_codes(codes)
    assert pr.notes_of_codes(codes, loudness_classes=127).tolist() == [[0, 1, 60, 126]]
    codes[60, 0] = 1  # from before the roll: velocity 64 in both kinds
    for classes in (32, 127):
        loudness = pr.notes_of_codes(codes, loudness_classes=classes)[0, 3]
        assert pr.velocity_of_loudness(loudness, loudness_classes=classes) == pr.DEFAULT_VELOCITY


def test_values_are_evenly_spaced_and_rounded_to_the_nearest_code() -> None:
    codes = np.arange(pr.NUM_CODES)
    values = pr.values_of_codes(codes)
    assert values.dtype == np.float32 and values[0] == -1 and values[-1] == 1
    assert np.allclose(np.diff(values), 2 / 33)
    noise = np.random.default_rng(0).uniform(-0.99 / 33, 0.99 / 33, codes.shape)
    assert (pr.codes_of_values(values + noise) == codes).all()
    assert pr.codes_of_values(np.array([-3.0, 3.0])).tolist() == [0, 33]
    with pytest.raises(InputError, match="1 of 2 values of the roll are not numbers"):
        pr.codes_of_values(np.array([0.0, np.nan]))
    with pytest.raises(InputError, match="codes go from -1 to 34"):
        pr.values_of_codes(np.array([-1, 34]))


def test_repeated_notes_of_one_pitch_stay_two_notes() -> None:
    codes = pr.codes_of_score(make_score([(0, 240, 60, 80), (240, 240, 60, 80)]))
    assert codes[60].tolist() == [21, 1, 21, 1]
    assert pr.notes_of_codes(codes).tolist() == [[0, 2, 60, 19], [2, 2, 60, 19]]


def test_rounding_and_overlaps() -> None:
    late = pr.codes_of_score(make_score([(59, 10, 60, 80), (60, 10, 61, 80)]))
    assert late[60].tolist() == [21, 0] and late[61].tolist() == [0, 21]  # half a step goes up, a note lasts a step
    over = pr.codes_of_score(make_score([(0, 960, 60, 40), (240, 120, 60, 80)]))
    assert over[60].tolist() == [11, 1, 21, 1, 1, 1, 1, 1]
    louder = pr.codes_of_score(make_score([(0, 120, 60, 40), (0, 240, 60, 80), (0, 120, 60, 60)]))
    assert louder[60].tolist() == [21, 1]


@pytest.mark.parametrize("per_quarter", [1, 2, 3, 6, 12])
def test_other_steps(per_quarter: int) -> None:
    score = make_score([(0, 480, 60, 80), (480, 960, 64, 80)])
    codes = pr.codes_of_score(score, per_quarter)
    assert codes.shape == (128, 3 * per_quarter)
    back = pr.score_of_codes(codes, steps_per_quarter=per_quarter)
    assert as_set(back) == {(0, 480, 60, 80), (480, 960, 64, 80)}


def test_drums_are_apart() -> None:
    score = make_score([(0, 120, 60, 80)])
    score.tracks.append(make_score([(0, 120, 36, 100)], drums=True).tracks[0])
    pitched, drums = pr.codes_of_score(score), pr.codes_of_score(score, drums=True)
    assert pitched[36].sum() == 0 and drums[60].sum() == 0 and drums[36, 0] > 1
    back = pr.score_of_codes(pitched, drums=drums)
    assert [(t.is_drum, [n.pitch for n in t.notes]) for t in back.tracks] == [(False, [60]), (True, [36])]
    with pytest.raises(InputError, match=r"^song: has drums only"):
        pr.codes_of_score(make_score([(0, 120, 36, 80)], drums=True), name="song")
    with pytest.raises(InputError, match="has no drums"):
        pr.codes_of_score(make_score([(0, 120, 36, 80)]), drums=True)
    with pytest.raises(InputError, match="has no notes"):
        pr.codes_of_score(symusic.Score(480))


def test_three_hours_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(InputError, match=r"lasts 180 minutes .* at most 60 and 65536: cut it"):
        pr.codes_of_score(make_score([(0, 480, 60, 80), (480 * (180 * 120 - 1), 480, 60, 80)]))
    with pytest.raises(InputError, match="cut it"):
        pr.codes_of_score(make_score([(2_000_000_000, 480, 60, 80)]))


def test_impossible_rolls_and_tempos() -> None:
    with pytest.raises(InputError, match=r"shape \(128, steps\), not \(88, 16\)"):
        pr.score_of_codes(np.zeros((88, 16), int))
    for tempo in (0, -1, float("inf"), float("nan")):
        with pytest.raises(InputError, match="tempo must be a positive number"):
            pr.score_of_codes(np.zeros((128, 16), int), tempo)


def test_a_silent_roll_is_a_valid_midi() -> None:
    assert symusic.Score.from_midi(pr.score_of_codes(np.zeros((128, 16), int)).dumps_midi()).note_num() == 0


def test_transposition_moves_rows_and_refuses_to_lose_notes() -> None:
    codes = np.zeros((128, 4), np.uint8)
    codes[[3, 120], 1] = 9
    up = pr.transpose_codes(codes, 7)
    assert up is not None and up[10, 1] == up[127, 1] == 9 and np.count_nonzero(up) == 2
    assert (pr.transpose_codes(up, -7) == codes).all()
    assert pr.transpose_codes(codes, 8) is None and pr.transpose_codes(codes, -4) is None
    assert (pr.transpose_codes(codes, 0) == codes).all()


# --- Bars and windows -------------------------------------------------------------------------------------------------


def test_bar_lines_follow_the_metres() -> None:
    metres = [(0, 1, 4), (480, 3, 4), (480 * 7, 6, 8)]  # a pick-up of one quarter, two bars of 3/4, then 6/8
    lines = rw.bar_lines(make_score([], metres=metres), 60)
    assert [line.step for line in lines] == [0, 4, 16, 28, 40, 52]
    assert [line.metre for line in lines] == [(1, 4), (3, 4), (3, 4), (6, 8), (6, 8), (6, 8)]
    assert [line.step for line in rw.bar_lines(make_score([]), 33)] == [0, 16, 32]
    late = rw.bar_lines(make_score([], metres=[(960, 2, 4)]), 20)  # 4/4 until told otherwise
    assert [(line.step, line.metre) for line in late] == [(0, (4, 4)), (8, (2, 4)), (16, (2, 4))]


@pytest.mark.parametrize(("count", "unit"), [(4, 4), (3, 4), (7, 8), (12, 8), (1, 4)])
@pytest.mark.parametrize("hop", [256, 128])
def test_windows_begin_at_bars_and_leave_nothing_out(count: int, unit: int, hop: int) -> None:
    codes = np.random.default_rng(0).choice([0, 0, 9], (128, 1000)).astype(np.uint8)
    bars = rw.bar_lines(make_score([], metres=[(0, count, unit)]), 1000)
    windows = rw.cut_windows(codes, bars, hop_steps=hop)
    covered = np.zeros(1000, bool)
    for window in windows:
        assert window.codes.shape == (128, 256) and window.metre == (count, unit)
        assert bars[window.bar].step == window.start_step
        stop = window.start_step + window.num_steps
        assert (window.codes[:, : window.num_steps] == codes[:, window.start_step : stop]).all()
        assert not window.codes[:, window.num_steps :].any()
        covered[window.start_step : stop] = True
    assert covered[: 1000 - 64].all()  # an end of less than a quarter of a window may be left out
    assert windows[-1].num_steps > 256 - 24  # the last one is moved back, not padded with silence
    assert [w.start_step for w in windows] == sorted({w.start_step for w in windows})


def test_windows_of_short_silent_and_late_pieces() -> None:
    bars = [rw.BarLine(k, (4, 4)) for k in range(0, 320, 16)]
    codes = np.zeros((128, 320), np.uint8)
    assert rw.cut_windows(codes, bars) == []
    codes[60, 40] = 9
    (window,) = rw.cut_windows(codes[:, :50], bars)
    assert (window.start_step, window.num_steps, window.bar) == (32, 18, 2) and window.codes[60, 8] == 9
    codes[60, 0] = 9
    assert len(rw.cut_windows(codes[:, :300], bars)) == 1  # 44 steps are left: less than a quarter of a window
    assert [w.start_step for w in rw.cut_windows(codes, bars)] == [0, 64]


def test_a_common_shift_of_all_onsets_is_found() -> None:
    notes = [(37 + 120 * k, 100, 60, 80) for k in range(16)]
    phase, agreement = pr.grid_phase(make_score(notes))
    assert phase == pytest.approx(37) and agreement == pytest.approx(1)
    codes = pr.codes_of_score(make_score(notes), offset_ticks=-phase)
    assert np.flatnonzero(codes[60] > 1).tolist() == list(range(16))
    scattered = [(7 * k, 10, 60, 80) for k in range(120 * 7)]
    assert pr.grid_phase(make_score(scattered))[1] < 0.05
    assert pr.grid_phase(symusic.Score(480)) == (0.0, 0.0)


# --- Pictures ---------------------------------------------------------------------------------------------------------


def pixel(picture: Image.Image, pitch: int, step: int, scale: int) -> tuple[int, ...]:
    """Colour in the middle of a cell."""
    return picture.convert("RGB").getpixel((step * scale + scale // 2, (127 - pitch) * scale + scale // 2))  # type: ignore[return-value]


def test_a_picture_has_high_pitches_on_top_and_held_cells_in_their_colour() -> None:
    codes = np.zeros((128, 32), np.uint8)
    codes[100, 3:8] = [33, 1, 1, 33, 1]
    codes[20, 3:5] = [2, 1]
    picture = draw_roll(codes, scale=4)
    assert picture.size == (32 * 4, 128 * 4) and picture.mode == "RGB"
    viridis_ends = ((68, 1, 84), (253, 231, 37))
    assert np.abs(np.subtract(pixel(picture, 60, 5, 4), viridis_ends[0])).max() <= 2
    for step in range(3, 8):
        assert np.abs(np.subtract(pixel(picture, 100, step, 4), viridis_ends[1])).max() <= 2
    assert pixel(picture, 20, 3, 4) == pixel(picture, 20, 4, 4) != pixel(picture, 100, 3, 4)
    row = (127 - 100) * 4 + 1
    assert picture.getpixel((6 * 4, row)) == picture.getpixel((3 * 4, row)) == pixel(picture, 60, 5, 4)
    assert picture.getpixel((5 * 4, row)) == pixel(picture, 100, 5, 4)  # held: no edge
    values = draw_roll(pr.values_of_codes(codes)[None, None], scale=4)
    assert values.tobytes() == picture.tobytes()


def test_unknown_cells_are_nearly_white_in_all_kinds_of_rolls() -> None:
    torch = pytest.importorskip("torch")
    codes = np.zeros((128, 8), np.int64)
    codes[40, 2], codes[40, 3] = -1, 34
    values = np.full((128, 8), -1.0)
    values[40, 2:4] = np.nan
    for roll in (codes, codes.astype(np.uint8), values, torch.tensor(values), torch.tensor(codes)):
        picture = draw_roll(roll, scale=3, bar_steps=0)
        assert min(pixel(picture, 40, 2, 3)) > 240 and min(pixel(picture, 40, 3, 3)) > 240
        assert max(pixel(picture, 40, 4, 3)) < 100


def test_cropping_and_wrong_rolls() -> None:
    codes = np.zeros((128, 8), np.uint8)
    codes[60:90, 1] = 9
    assert draw_roll(codes, scale=1, crop=True).size == (8, 36)
    assert draw_roll(np.zeros((128, 8), int), scale=1, crop=True).height >= 24
    with pytest.raises(InputError, match="shape"):
        draw_roll(np.zeros((127, 8), int))
    with pytest.raises(InputError, match="codes go from 0 to 40"):
        draw_roll(np.full((128, 8), 40) * np.eye(128, 8, dtype=int))


def test_a_gif_shows_every_level_loops_and_stays_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.choice([0] * 30 + [9, 20], (128, 256))
    frames = []
    for k in range(200):
        frame = np.full((128, 256), -1)
        frame[:, : k + 57] = codes[:, : k + 57]
        frames.append(frame)
    path = write_gif(frames, tmp_path / "grow.gif", max_frames=20, scale=2)
    with Image.open(path) as gif:
        assert gif.n_frames == 20 and gif.size == (512, 256) and gif.info["loop"] == 0
        gif.seek(0)
        assert min(pixel(gif, 3, 255, 2)) > 220 and gif.info["duration"] == 120
        gif.seek(19)
        shown = gif.convert("RGB")
        assert gif.info["duration"] == 1800
    assert np.array_equal(np.asarray(shown), np.asarray(draw_roll(codes, scale=2)))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(InputError, match="at least one frame"):
        write_gif([], tmp_path / "none.gif")
    assert len({tuple(c) for c in palette()[8:40]}) == 32  # every loudness has its own colour


def test_pictures_of_127_classes_go_as_far_as_those_of_32(tmp_path: Path) -> None:
    colours = palette(127)
    assert len({tuple(c) for c in colours[8 : 8 + 127]}) > 120  # viridis itself repeats a few
    for place, other in ((8, 8), (8 + 126, 8 + 31)):
        assert (colours[place] == palette()[other]).all()
    fine = np.zeros((128, 8), np.int64)
    fine[40, :4], fine[50, 1] = [128, 1, -1, 129], 2
    picture = draw_roll(fine, scale=4, loudness_classes=127)
    coarse = np.where(fine == 129, -1, pr.coarse_codes(fine, loudness_classes=127))
    assert picture.tobytes() == draw_roll(coarse, scale=4).tobytes()  # softest, loudest and unknown look the same
    values = np.where((fine < 0) | (fine > 128), np.nan, -1 + fine / 64)
    assert draw_roll(values, scale=4, loudness_classes=127).tobytes() == picture.tobytes()
    with pytest.raises(InputError, match="codes go from -1 to 129; a picture has -1 to 34"):
        draw_roll(fine)
    path = write_gif([fine, np.abs(fine)], tmp_path / "fine.gif", scale=4, loudness_classes=127)
    with Image.open(path) as gif:
        assert np.array_equal(np.asarray(gif.convert("RGB")), np.asarray(picture))
