"""What a prompt asks for, looked up; and the table that compares music with it."""

from __future__ import annotations

from typing import Any

import pytest

from intermezzo.composing_report import attribute_table, width_of
from intermezzo.composing_words import Asked, ask, phrases, read_key, read_programs, spell_emoji, unread_writing
from intermezzo.datasets_scripts.build_captions import captions_of, images_by_split
from intermezzo.processing.errors import InputError

METEOR = {"tempo": 1, "density": -1, "register": 1, "leaps": 1}


@pytest.mark.parametrize(
    ("text", "stated", "sides"),
    [
        ("流星雨", {}, METEOR), ("Two METEOR SHOWERS!", {}, METEOR), ("meteorshower, showers", {}, {}),
        ("A fast, sparse piece in a high register.", {"tempo": [4, 5], "density": [0, 0], "register": [2, 2]}, {}),
        ("速度非常快，音符稀疏", {"tempo": [5, 5], "density": [0, 0]}, {}),
        ("降E大调慢板", {"key": [3, 3], "mode": [0, 0], "tempo": [0, 1]}, {}),
        ("Adagio in C-sharp minor", {"key": [1, 1], "mode": [1, 1], "tempo": [0, 1]}, {}),
        ("a very slow, slow piece", {"tempo": [0, 0]}, {}), ("120 bpm, 8 bars", {"bpm": 120, "bars": 8}, {}),
        ("速度90，写32小节，约20秒", {"bpm": 90, "bars": 32, "seconds": 20}, {}),
        ("a waltz for piano and strings", {"metre": [2, 2], "tempo": [3, 5], "programs": ["piano", "strings"]}, {}),
        ("a jazz tune with saxophone", {}, {}),
        ("highway, below, slowpoke, breakfast", {}, {}), ("in 13/4 time", {}, {}), ("雨", {}, {}), ("", {}, {}),
    ],
)  # fmt: skip
def test_what_words_ask_for(text: str, stated: dict[str, Any], sides: dict[str, int]) -> None:
    asked = ask(text)
    assert (asked.stated, asked.sides, asked.notes) == (stated, sides, [])
    assert set(asked.words) == {*stated, *sides} and bool(asked) == bool(stated or sides)


def test_plain_words_go_before_images() -> None:
    asked = ask("a slow meteor shower")
    assert asked.stated == {"tempo": [0, 1]} and asked.sides == {n: s for n, s in METEOR.items() if n != "tempo"}
    assert asked.notes == ['tempo: "slow" is counted, not what "meteor shower" suggests']
    assert "tempo" not in ask("每分钟60拍的流星雨").sides and "mode" not in ask("thunderstorm in C major").sides


def test_contradictions_are_not_counted() -> None:
    for text in ("very slow and very fast", "速度非常慢，速度非常快"):
        asked = ask(text)
        assert not asked and "contradict each other about tempo" in asked.notes[0]
    images = ask("流星雨 and 暴风雨")
    assert images.sides == {"tempo": 1, "leaps": 1, "dynamics": 1, "sustain": 1}
    assert [note.split("about ")[1].split()[0] for note in images.notes] == ["density", "register"]
    assert (
        ask("slow, at 180 bpm").stated == {"bpm": 180} and "the number is counted" in ask("slow, at 180 bpm").notes[0]
    )
    assert "bars" not in ask("8 bars or 16 bars").stated


@pytest.mark.parametrize("text", ["not too fast", "never fast", "不要快速", "it is not very fast"])
def test_what_is_denied_is_not_asked_for(text: str) -> None:
    asked = ask(text)
    assert not asked and len(asked.notes) == 1 and "is not looked up" in asked.notes[0]


def test_captions_are_read_back() -> None:
    """The captions of the training say what they state; the list of words has to find nothing else."""
    values = {
        "tempo": 132.0, "metre": "3/4", "key": "Eb", "mode": "minor", "key_fit": 0.9, "density": 6.0, "register": 59.0,
        "polyphony": 4.2, "range": 50, "dynamics": 60.0, "sustain": 0.4, "leaps": 0.4, "bars": 16, "seconds": 40.0,
        "programs": ["piano", "strings"],
    }  # fmt: skip
    counts = {"plain": 6, "template": 10, "terms": 6, "imagery": 6, "mixed": 6}
    captions = captions_of(values, images_by_split()["test"], counts)
    exact = 0
    for caption in captions:
        asked = ask(caption.text)
        for name in asked.stated.keys() & caption.stated.keys():
            assert asked.stated[name] == caption.stated[name] or name in ("tempo", "mode"), caption.text
        assert not set(asked.sides.items()) - set(caption.sides.items()), caption.text
        exact += asked.stated == dict(caption.stated) and asked.sides == dict(caption.sides)
    assert len(captions) > 50 and exact >= 0.8 * len(captions)


def test_the_list_is_in_lower_case_and_speaks_of_what_is_known() -> None:
    known = phrases()
    assert len(known) > 4000 and all(text == text.lower() and text.strip() for text in known)


def test_emoji_are_spelt() -> None:
    assert spell_emoji("🌠") == "shooting star" and spell_emoji("a 👍🏽!") == "a thumbs up sign !"
    assert spell_emoji("calm  sea") == "calm  sea" and spell_emoji("🌧️") == "cloud with rain"


def test_writings_that_the_encoder_was_not_made_for() -> None:
    assert unread_writing("βροχή", "use") == "Greek" and unread_writing("βροχή", "other") == ""
    for text in ("流星雨", "дождь", "lluvia", "あめ", "비", "مطر", "a β", "🌠", "12"):
        assert unread_writing(text, "use") == ""


def test_keys_and_programs() -> None:
    keys = {"A": ("A", None), "f#": ("F#", None), "Bb minor": ("Bb", "minor"), "降E大调": ("Eb", "major"),
            "C-sharp minor": ("C#", "minor"), "升g小调": ("Ab", "minor"), "Cb": ("B", None)}  # fmt: skip
    assert {text: read_key(text) for text in keys} == keys
    for text in ("H", "", "minor", "A dorian"):
        with pytest.raises(InputError, match="key can not be"):
            read_key(text)
    assert read_programs("0, Drums,钢琴、弦乐器") == [-1, *range(8), *range(40, 48)] and read_programs("128") == [-1]
    for text in ("kazoo", "129", ",", "-2"):
        with pytest.raises(InputError, match="program"):
            read_programs(text)


def test_the_table_stands_in_columns() -> None:
    asked = Asked({"tempo": [4, 5], "bpm": 130}, {"register": 1, "mode": -1}, {"tempo": '"快"', "register": '"流星雨"'})
    values = {"tempo": 132.0, "register": 60.0, "mode": "minor", "density": 3.25, "programs": ["piano"], "seconds": 9.6}
    lines = attribute_table(asked, [values, None]).splitlines()
    rows = {line.split()[0]: line for line in lines}
    assert rows["tempo"].split()[-5:] == ["132", "fast", "✓", "-", "✗"] and "fast … very fast" in rows["tempo"]
    assert "130 bpm" in rows["tempo"] and "60 low ✗" in rows["register"] and "minor ✓" in rows["mode"]
    assert "3.25 medium" in rows["density"] and rows["seconds"].split() == ["seconds", "-", "10", "-"]
    assert rows["kept"].split() == ["kept", "3", "of", "4", "0", "of", "4"]
    starts = {width_of(line[: line.index(mark)]) for line, mark in ((rows["register"], "60"), (rows["tempo"], "132"))}
    assert len(starts) == 1, "Chinese letters take two columns"
