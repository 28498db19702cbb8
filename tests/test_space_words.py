"""What the Space says, in both languages, without a browser."""

from __future__ import annotations

import re
import string

import pytest

from intermezzo.composing_words import ask
from intermezzo.processing.errors import InputError
from intermezzo.processing.music_attributes import ATTRIBUTES
from intermezzo.space.words import _WORDS, Words


def test_both_languages_say_the_same_things() -> None:
    fields = string.Formatter().parse
    for name, (english, chinese) in _WORDS.items():
        assert english and chinese, name
        assert {f[1] for f in fields(english) if f[1]} == {f[1] for f in fields(chinese) if f[1]}, name


def test_what_is_measured_is_told_in_the_page_s_language() -> None:
    for attribute in ATTRIBUTES.values():
        for name in attribute.classes:
            told = Words("zh").music(f"77.5 {name} ✓")
            assert re.search("[a-z]{2}", told) is None and told.startswith("77.5 ") and told.endswith(" ✓"), told
    assert Words("zh").music('above 104 ("a fast piano")') == '高于 104 ("a fast piano")'
    assert Words("zh").music("guitar, synth effects, drums") == "吉他, 合成效果, 鼓"
    assert Words("en").music("99 calm ✗") == "99 calm ✗"


def test_remarks_on_a_song_are_in_the_page_s_language() -> None:
    texts = ("一场缓慢的流星雨", "a fast slow piece", "slow, 180 bpm", "slow in A minor and C major", "not a rainstorm",
             "a rainstorm and a meteor shower", "no thunder")  # fmt: skip
    remarks = {note for text in texts for note in ask(text).notes}
    assert len(remarks) >= 5
    remarks |= {
        "read as: rain", "nothing in these words is known to me: composed without a wish",
        "the text encoder was not made for Greek letters: the music may not follow the words",
        "the list of words (English, Chinese) has none of these: the music follows the text encoder alone, and there "
        "is nothing to compare it with",
        "heard as a picture: fast, stepwise, low, minor",
        'looks most like "rain" (0.41)', "64 bars: 2 plans of 32 bars, as they were learnt, one after the other",
        "no text of more than 64 bars was learnt: the music may lose its thread",
        "the text has 900 characters; the first 500 are read", "rain: moved by +2 semitones to A minor",
        "rain: no pitched note sounds, so there is nothing to measure",
    }  # fmt: skip
    for remark in remarks:
        told = Words("zh").remark(remark)
        assert re.search("[\u4e00-\u9fff]", re.sub('[("“].+?[)"”]', "", told)), remark
        assert Words("en").remark(remark) == remark
    assert (
        Words("zh").remark('tempo: "缓慢" is counted, not what "秋雨" suggests') == '速度：按"缓慢"，不按"秋雨"的意象'
    )
    assert Words("zh").remark("something else") == "something else"


def test_errors_become_one_friendly_line() -> None:
    error = InputError("/srv/tmp/ab12/notes.png", "no tab staff (4 to 7 parallel lines) was found; crop it")
    assert Words("en").problem(error) == "No tab staff (4 to 7 parallel lines) was found; crop it."
    assert "六线谱" in Words("zh").problem(error)
    hidden = Words("en").problem(InputError(None, "/srv/tmp/ab12/notes.png: is odd"))
    assert hidden == "Notes.png: is odd." or hidden == "notes.png: is odd."
    assert "srv" not in Words("zh").problem(InputError(None, "/srv/tmp/x.png: is odd"))
    assert "secret" not in Words("en").problem(RuntimeError("secret detail"))
    with pytest.raises(InputError, match="language"):
        Words("fr")
