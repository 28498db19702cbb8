"""What words ask for is judged against what is measured: sides, statements, and other systems' classes."""

from __future__ import annotations

import numpy as np
import pytest
import symusic

from intermezzo.processing.errors import InputError
from intermezzo.processing.music_attributes import ATTRIBUTES, KEY_NAMES, MODES, find_key, measure_roll
from intermezzo.processing.music_wishes import (
    PROGRAM_FAMILIES,
    QUARTILES,
    SIDED,
    duplicate_key,
    fulfilled,
    measure_score,
    musecoco_classes,
    program_families,
    side_strength,
    sides_kept,
    text2midi_tempo_bin,
)
from intermezzo.processing.piano_roll import codes_of_score


def score(programs: tuple[int, ...] = (0,), drums: bool = False) -> symusic.Score:
    """Eight bars of 3/4 at 90 a minute: a C major scale, then its chord."""
    made = symusic.Score(480)
    made.tempos.append(symusic.Tempo(0, 90))
    made.time_signatures.append(symusic.TimeSignature(0, 3, 4))
    for program in programs:
        track = symusic.Track("", program, False)
        for k in range(12):
            track.notes.append(symusic.Note(480 * k, 480, 60 + (0, 2, 4, 5, 7, 9, 11, 12)[k % 8], 80))
        for pitch in (60, 64, 67):
            track.notes.append(symusic.Note(480 * 12, 480 * 12, pitch, 100))
        made.tracks.append(track)
    if drums:
        track = symusic.Track("", 0, True)
        track.notes.append(symusic.Note(0, 480, 36, 100))
        made.tracks.append(track)
    return made


def test_strengths_are_one_at_the_quartiles_and_zero_between() -> None:
    for name, (low, median, high) in QUARTILES.items():
        assert low < median < high and ATTRIBUTES[name].edges
        assert side_strength(name, low) == -1 and side_strength(name, median) == 0 and side_strength(name, high) == 1
        assert side_strength(name, 1e6) == 2 and side_strength(name, -1e6) == -2
        assert side_strength(name, None) is None and side_strength(name, float("nan")) is None
        grid = [side_strength(name, v) for v in np.linspace(low - (high - low), high + (high - low), 50)]
        assert grid == sorted(grid)
    assert side_strength("tempo", 104.00002) == 0  # a tempo of 104, as MIDI files keep it
    assert side_strength("mode", "major") == 1 and side_strength("mode", "minor") == -1
    assert set(SIDED) <= {*QUARTILES, "mode"}


@pytest.mark.parametrize("name", ["metre", "key", "mood"])
def test_what_has_no_order_has_no_side(name: str) -> None:
    with pytest.raises(InputError, match="has no median; choose among tempo, density"):
        side_strength(name, "C")


def test_sides_are_kept_only_beyond_the_median() -> None:
    values = {"tempo": 150.0, "register": QUARTILES["register"][1], "mode": "minor", "density": None}
    wishes = {"tempo": 1, "register": 1, "mode": -1, "density": -1, "leaps": 0}
    assert sides_kept(wishes, values) == {"tempo": True, "register": False, "mode": True, "density": False}
    assert sides_kept({"tempo": -1, "mode": 1, "leaps": 1}, values) == {"tempo": False, "mode": False, "leaps": False}


def test_statements_are_kept_at_their_edges_and_not_beyond() -> None:
    values = {
        "tempo": 119.9,
        "density": 5.25,
        "key": "A",
        "bars": 15,
        "seconds": 31.0,
        "programs": ["piano", "strings"],
    }
    assert fulfilled({"tempo": [2, 3], "density": [2, 2], "key": [9, 9], "bars": 16}, values) == {
        "tempo": True, "density": True, "key": True, "bars": True,
    }  # fmt: skip
    assert not any(fulfilled({"tempo": [4, 5], "density": [0, 1], "key": [8, 8], "bars": 17}, values).values())
    assert fulfilled({"bpm": 120, "seconds": 30}, values) == {"bpm": True, "seconds": True}
    assert fulfilled({"bpm": 127, "seconds": 29}, values) == {"bpm": False, "seconds": False}
    assert fulfilled({"programs": ["strings", "piano"]}, values) == {"programs": True}
    assert fulfilled({"programs": ["piano"]}, values) == {"programs": False}
    assert not any(fulfilled({"mode": [0, 1], "leaps": [0, 2], "bpm": 90, "programs": ["piano"]}, {}).values())
    with pytest.raises(InputError, match="words can not state 'mood'"):
        fulfilled({"mood": [0, 0]}, values)


def test_a_score_is_measured_whole_and_in_part() -> None:
    whole = measure_score(score((0, 40), drums=True))
    assert whole["tempo"] == pytest.approx(90) and whole["metre"] == "3/4" and whole["bars"] == 8
    assert whole["seconds"] == pytest.approx(24 / 90 * 60)
    assert whole["programs"] == ["piano", "strings", "drums"]
    assert (whole["key"], whole["mode"]) == ("C", "major")
    part = measure_score(score(), 12, 24)
    assert part["bars"] == 4 and part["sustain"] == 12 and part["polyphony"] == 3
    first = measure_score(score(), 0, 12)
    roll = measure_roll(codes_of_score(score())[:, :48], first["tempo"], (3, 4))
    assert {name: first[name] for name in roll} == roll


def test_nothing_there_is_said_so() -> None:
    with pytest.raises(InputError, match="has nothing between quarter 99"):
        measure_score(score(), 99, 120)
    empty = symusic.Score(480)
    with pytest.raises(InputError, match=r"song.mid: has no notes"):
        measure_score(empty, name="song.mid")


def test_programs_have_families() -> None:
    assert program_families([0, 7, 40, -1, 127]) == ["piano", "strings", "sound effects", "drums"]
    assert program_families([128]) == ["drums"] and program_families([]) == []
    assert len(set(PROGRAM_FAMILIES)) == 17
    for wrong in (-2, 129):
        with pytest.raises(InputError, match="programs go from 0 to 127"):
            program_families([0, wrong])


def test_text2midis_duplicate_key_has_the_same_notes_and_is_its_own_inverse() -> None:
    scales = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
    for key in KEY_NAMES:
        for mode in MODES:
            other = duplicate_key(key, mode)
            notes = {(KEY_NAMES.index(key) + step) % 12 for step in scales[mode]}
            assert notes == {(KEY_NAMES.index(other[0]) + step) % 12 for step in scales[other[1]]}
            assert other != (key, mode) and duplicate_key(*other) == (key, mode)
    assert duplicate_key("C", "major") == ("A", "minor")
    assert [text2midi_tempo_bin(bpm) for bpm in (39, 40, 69, 70, 209, 210)] == [0, 1, 2, 3, 7, 8]


def test_musecocos_classes() -> None:
    values = {"tempo": 76.0, "mode": "minor", "range": 30, "bars": 16, "seconds": 30.0, "metre": "9/8"}
    expected = {"tempo": "slow", "key": "minor", "range": "2", "bars": "13-16", "time": "15-30"}
    assert musecoco_classes(values) == {**expected, "time_signature": "other"}
    assert musecoco_classes({"tempo": 120, "bars": 17, "metre": "6/8"}) == {"tempo": "fast", "time_signature": "6/8"}
    assert musecoco_classes({"tempo": 119.9})["tempo"] == "moderate" and musecoco_classes({}) == {}


def test_the_profiles_still_hear_a_scale() -> None:
    found = find_key(np.bincount([0, 2, 4, 5, 7, 9, 11, 0, 4, 7], minlength=12))
    assert found is not None and duplicate_key(*found[:2]) == ("A", "minor")
