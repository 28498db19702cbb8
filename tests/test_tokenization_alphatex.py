"""The tokenizer of canonical alphaTex: nothing is lost, one piece is one token, it saves and loads."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from intermezzo.datasets_scripts.guitar_parts import iter_system_jobs
from intermezzo.processing.alphatex_pieces import MARKS, SPECIAL_TOKENS, canonical_pieces
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

FIXTURES = sorted((Path(__file__).parent / "fixtures").glob("*.alphatex"))
TOKENIZER = AlphaTexTokenizer()
MESSAGES = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Read this."}]},
    {"role": "assistant", "content": "\\staff {tabs}\n3.3.8 |\n"},
]

canonical_scraps = st.lists(
    st.sampled_from([*"\n (){}.\\|\"'♪♩⟮⏎Ġ0123rhx", "3.3.8", "(0.1 2.2).4", "r.4", "{tu (3 2)}", " |\n", "\\ts (4 4)"])
).map("".join)


def roundtrip(text: str) -> str:
    return TOKENIZER.decode(TOKENIZER(text).input_ids)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), canonical_scraps, st.text(alphabet=MARKS + " .\n(3Ċ")))
@example("\x00\x1f\x7f\r\n\u2028👩‍👩‍👧 é e\u0301 流星雨")
@example("a\n b\n\n<|end|>\n (5.4.8)<|image|> ")
def test_every_text_comes_back(text: str) -> None:
    assert roundtrip(text) == text


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.stem)
def test_fixtures_come_back(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert roundtrip(text) == text


def test_vocabulary_is_small_and_its_pieces_are_tokens() -> None:
    assert len(TOKENIZER) == TOKENIZER.vocab_size == len(canonical_pieces()) <= 1024
    assert list(TOKENIZER.get_vocab()) and set(TOKENIZER.pieces()) == set(range(len(TOKENIZER)))


def test_string_and_duration_are_different_tokens() -> None:
    assert TOKENIZER.tokenize(" 4.4.4") == ["♪4", ".4", "♩4"]
    assert TOKENIZER.tokenize(" (4.4 4.5{h}).4{d}") == ["Ġ⟮", "♪4", ".4", "♪4", ".5", "{h", "}", ")", "♩4", "{d", "}"]


def test_a_fret_is_the_same_token_everywhere() -> None:
    tokens = TOKENIZER.tokenize("\\staff {tabs}\n12.3.8 12.3.8 (12.3 12.4).8 |\n12.3.8 |\n")
    assert tokens.count("♪12") == 5
    assert tokens.count("Ġ|⏎") == 2


def test_a_plain_beat_is_three_tokens() -> None:
    beats = 16
    text = "\\staff {tabs}\n\\ts (4 4) " + " ".join(["10.2.16"] * beats) + " |\n"
    assert len(TOKENIZER(text).input_ids) <= 3 * beats + 5


def test_generated_systems_are_short() -> None:
    counts = [
        (len(TOKENIZER(text).input_ids), text.count("|"))
        for text in ((job[0] if job[0].startswith("\\") else job[2]) for job in iter_system_jobs(3, 40))
    ]
    tokens, bars = (sum(column) for column in zip(*counts, strict=True))
    assert tokens / bars < 100


def test_saved_and_loaded_by_auto_tokenizer(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    text = MESSAGES[1]["content"]
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), AlphaTexTokenizer.from_pretrained(tmp_path)):
        assert loaded.get_vocab() == TOKENIZER.get_vocab()
        assert loaded(text).input_ids == TOKENIZER(text).input_ids
        assert loaded.decode(loaded(text).input_ids) == text
        assert (loaded.pad_token, loaded.bos_token, loaded.eos_token) == ("<|pad|>", "<|bos|>", "<|end|>")
        assert loaded.image_token == "<|image|>"
        assert loaded.chat_template == TOKENIZER.chat_template


def test_special_tokens_have_the_first_ids() -> None:
    assert TOKENIZER.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(len(SPECIAL_TOKENS)))
    assert TOKENIZER("<|user|><|image|>").input_ids == TOKENIZER.convert_tokens_to_ids(["<|user|>", "<|image|>"])


def test_chat_template() -> None:
    said = TOKENIZER.apply_chat_template(MESSAGES, tokenize=False)
    assert said == "<|bos|><|user|><|image|>Read this.<|end|><|assistant|>\\staff {tabs}\n3.3.8 |\n<|end|>"
    asked = TOKENIZER.apply_chat_template(MESSAGES[:1], tokenize=False, add_generation_prompt=True)
    assert said.startswith(asked) and asked.endswith("<|assistant|>")
    found = TOKENIZER.apply_chat_template(MESSAGES, return_dict=True, return_assistant_tokens_mask=True)
    learned = [i for i, m in zip(found["input_ids"], found["assistant_masks"], strict=True) if m]
    assert TOKENIZER.decode(learned) == "\\staff {tabs}\n3.3.8 |\n<|end|>"
