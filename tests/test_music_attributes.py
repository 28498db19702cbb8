"""What is measured of music: exact on rolls made by hand, and the same in every key."""

from __future__ import annotations

import numpy as np
import pytest
import symusic
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from intermezzo.processing.errors import InputError
from intermezzo.processing.music_attributes import (
    ATTRIBUTES,
    KEY_NAMES,
    MAJOR_PROFILE,
    MINOR_PROFILE,
    asked_bin,
    bins_of,
    find_key,
    mean_tempo,
    measure_roll,
    middle_of_bin,
    pitch_class_weights,
    top_line,
    transposed,
)
from intermezzo.processing.piano_roll import transpose_codes

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 11)


def roll(notes: list[tuple[int, int, int, int]], steps: int = 64) -> np.ndarray:
    """Codes of (start, steps, pitch, loudness class)."""
    codes = np.zeros((128, steps), np.uint8)
    for start, length, pitch, loudness in notes:
        codes[pitch, start : start + length] = 1
        codes[pitch, start] = loudness + 2
    return codes


def test_numbers_of_a_roll_made_by_hand() -> None:
    notes = [(4, 4, 60, 10), (8, 4, 62, 10), (12, 4, 69, 20), (4, 12, 48, 10)]
    found = measure_roll(roll(notes), tempo_bpm=90, metre=(3, 4))
    assert found["tempo"] == 90 and found["metre"] == "3/4"
    assert found["density"] == pytest.approx(4 / 12 * 4)  # 12 steps from the first note to the end of the last
    assert found["register"] == pytest.approx((60 + 62 + 69 + 48) / 4)
    assert found["polyphony"] == 2 and found["range"] == 21
    assert found["dynamics"] == pytest.approx(4 * 12.5 + 2.5)
    assert found["sustain"] == pytest.approx((4 + 4 + 4 + 12) / 4 / 4)
    assert found["leaps"] == pytest.approx(0.5)  # 60-62 is a step, 62-69 a leap


def test_the_top_line_leaves_out_what_lies_below_a_sounding_note() -> None:
    codes = roll([(0, 8, 72, 5), (2, 2, 60, 5), (8, 4, 74, 5), (8, 4, 50, 5), (12, 2, 55, 5)])
    assert top_line(codes).tolist() == [72, 74, 55]


def test_a_note_from_before_the_roll_sounds_but_is_no_onset() -> None:
    codes = roll([(8, 4, 64, 5)])
    codes[60, :4] = 1
    codes[50, 30] = 1  # belongs to no note
    found = measure_roll(codes)
    assert found["register"] == 64 and found["range"] == 4 and found["density"] == pytest.approx(1 / 12 * 4)


def test_silence_has_nothing_to_measure() -> None:
    found = measure_roll(np.zeros((128, 16), int), tempo_bpm=100)
    assert found.pop("tempo") == 100 and set(found.values()) == {None}
    assert set(bins_of(found).values()) == {-1}


@pytest.mark.parametrize("tonic", range(12))
@pytest.mark.parametrize(("mode", "scale"), [("major", MAJOR), ("minor", MINOR)])
def test_scales_are_heard_in_their_key(tonic: int, mode: str, scale: tuple[int, ...]) -> None:
    weights = np.zeros(12)
    for degree in scale:
        weights[(tonic + degree) % 12] = 1
    for degree in (0, 7, 4 if mode == "major" else 3):
        weights[(tonic + degree) % 12] += 1
    found = find_key(weights)
    assert found is not None and found[:2] == (KEY_NAMES[tonic], mode) and found[2] > 0.8


def test_no_key_where_none_is_better_than_another() -> None:
    assert find_key(np.ones(12)) is None and find_key(np.zeros(12)) is None
    assert find_key([1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]) is None  # a fifth is neither major nor minor


@settings(max_examples=40, deadline=None)
@example(4664, 2)  # B flat minor and D minor fit alike
@given(st.integers(0, 2**32 - 1), st.integers(-24, 24))
def test_a_transposed_roll_measures_as_the_transposed_measurement(seed: int, semitones: int) -> None:
    rng = np.random.default_rng(seed)
    notes = [(int(rng.integers(60)), 2, int(rng.integers(30, 90)), int(rng.integers(32))) for _ in range(12)]
    codes = roll(notes)
    moved = transpose_codes(codes, semitones)
    assert moved is not None
    profiles = [np.roll(profile, k) for profile in (MAJOR_PROFILE, MINOR_PROFILE) for k in range(12)]
    best = sorted(np.corrcoef([pitch_class_weights(codes), *profiles])[0, 1:])
    assume(best[-1] - best[-2] > 1e-9)  # of two keys that fit alike either may be found
    expected, found = transposed(measure_roll(codes), semitones), measure_roll(moved)
    assert found["mode"] == expected["mode"] and found["key"] == expected["key"]
    for name in ("density", "register", "polyphony", "range", "dynamics", "sustain", "leaps"):
        assert found[name] == pytest.approx(expected[name])


def test_weights_count_sounding_time() -> None:
    weights = pitch_class_weights(roll([(0, 4, 60, 5), (0, 2, 72, 5), (0, 1, 61, 5)]))
    assert weights.tolist() == [6, 1] + [0] * 10


def test_tempo_is_quarters_over_minutes() -> None:
    score = symusic.Score(480)
    assert mean_tempo(score) is None
    score.tempos.append(symusic.Tempo(480 * 4, 60))
    score.tempos.append(symusic.Tempo(480 * 8, 120))
    assert mean_tempo(score, 0, 8) == pytest.approx(60)  # the first tempo also counts before it is written
    assert mean_tempo(score, 8, 12) == pytest.approx(120)
    assert mean_tempo(score, 4, 12) == pytest.approx(8 / (4 / 60 + 4 / 120))
    assert mean_tempo(score, 20, 20) == pytest.approx(120)


def test_edges_belong_to_the_upper_class() -> None:
    for name, attribute in ATTRIBUTES.items():
        assert not attribute.edges or len(attribute.edges) == len(attribute.classes) - 1
        assert list(attribute.edges) == sorted(attribute.edges)
        for k, edge in enumerate(attribute.edges):
            assert attribute.bin_of(edge) == k + 1 and attribute.bin_of(edge - 1e-6) == k
        assert attribute.bin_of(None) == -1
        if attribute.edges:
            assert attribute.bin_of(float("nan")) == -1
            assert [attribute.bin_of(middle_of_bin(name, k)) for k in range(len(attribute.classes))] == list(
                range(len(attribute.classes))
            )


def test_pairs_of_tempo_classes_are_the_three_of_musecoco() -> None:
    coarse = [ATTRIBUTES["tempo"].bin_of(bpm) // 2 for bpm in (40, 75, 77, 119, 120, 200)]
    assert coarse == [0, 0, 1, 1, 2, 2]


def test_wishes_are_names_or_numbers() -> None:
    assert asked_bin("density", "Dense") == asked_bin("density", 9.0) == asked_bin("density", "9") == 2
    assert asked_bin("key", "Bb") == asked_bin("key", "a#") == 10 and asked_bin("key", "db") == 1
    assert asked_bin("mode", "minor") == 1 and asked_bin("metre", "3/4") == 2 and asked_bin("mode", None) == -1
    assert ATTRIBUTES["metre"].bin_of("11/8") == ATTRIBUTES["metre"].classes.index("other")


@pytest.mark.parametrize(
    ("name", "wish", "message"),
    [
        ("mood", "sad", "there is no attribute 'mood'; choose among tempo, metre"),
        ("density", "loud", "density can not be 'loud'; choose sparse, medium, dense, or a number of onsets a quarter"),
        ("mode", "dorian", "mode can not be 'dorian'; choose major, minor$"),
        ("key", "H", "key can not be 'H'"),
        ("tempo", -5, "tempo can not be '-5'"),
        ("tempo", float("nan"), "tempo can not be 'nan'"),
        ("key", 3, "key can not be '3'"),
    ],
)
def test_impossible_wishes_are_named(name: str, wish: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        asked_bin(name, wish)
