"""Constrained decoding: all that may be written reads and closes its bars; all that is canonical may be written."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LogitsProcessorList

from intermezzo.datasets_scripts.guitar_parts import iter_system_jobs
from intermezzo.processing.alphatex_constraints import (
    AlphaTexState,
    DecodingContext,
    GrammarLogitsProcessor,
    TokenGrammar,
)
from intermezzo.processing.alphatex_fitting import Room, durations, fillable
from intermezzo.processing.alphatex_grammar import bars_close, read_alphatex
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

FIXTURES = Path(__file__).parent / "fixtures"
TOKENIZER = AlphaTexTokenizer()
GRAMMAR = TokenGrammar(TOKENIZER.get_vocab())
HEAD = "\\staff {tabs}\n"
# Drums and staves of figures are left out of the grammar, as its docstring says.
ACCEPTED = ("beat_effects", "note_effects", "seven_strings", "structure", "pitches", "voices_and_staves")


def follow(text: str, context: DecodingContext | None = None) -> AlphaTexState:
    state = AlphaTexState(GRAMMAR, context or DecodingContext())
    for token in TOKENIZER(text).input_ids:
        state = state.advance(token)
    return state


def after(text: str, *pieces: str, context: DecodingContext | None = None) -> AlphaTexState:
    """The state after a text and some single tokens: half a note has no spelling of its own."""
    state = follow(text, context)
    for piece in pieces:
        state = state.advance(GRAMMAR.id[piece])
    return state


def tokens_of(state: AlphaTexState) -> set[str]:
    return set(TOKENIZER.convert_ids_to_tokens(sorted(state.allowed())))


def closes(text: str) -> bool:
    return bars_close(read_alphatex(text), first_may_be_short=False, empty_bars=False)


def walk(seed: int, context: DecodingContext | None = None) -> str:
    """A text sampled evenly among what is allowed, closed after some tokens."""
    chance, state, tokens = random.Random(seed), AlphaTexState(GRAMMAR, context or DecodingContext()), []
    if seed % 2:  # without a start most walks end inside a title
        prefix = "\\voiceMode barWise\n" + HEAD if seed % 4 == 1 else HEAD
        tokens = list(TOKENIZER(prefix).input_ids)
        state = follow(prefix, context)
    budget = chance.randrange(10, 150)
    while not state.finished:
        token = chance.choice(sorted(state.allowed())) if len(tokens) < budget else state.closing_token()
        tokens.append(token)
        state = state.advance(token)
    assert len(tokens) < budget + 160
    return TOKENIZER.decode(tokens[:-1])


def test_random_walks_read_and_close() -> None:
    for seed in range(200):
        text = walk(seed, DecodingContext(max_staves=1 + seed % 3))
        assert closes(text), text


def test_random_walks_satisfy_alphatab() -> None:
    from intermezzo.datasets_scripts.render import AlphaTabPool

    texts = [walk(seed) for seed in range(1000, 1060)]
    with AlphaTabPool(workers=1) as pool:
        for text, found in zip(texts, pool.map_verify(texts), strict=True):
            assert not isinstance(found, Exception), found
            assert not [d for d in found if str(d.severity).lower() == "error"], (found, text)


def test_generated_systems_are_accepted() -> None:
    for job in iter_system_jobs(5, 120):
        text = job[0] if job[0].startswith("\\") else job[2]
        assert GRAMMAR.end in follow(text).allowed(), text


@pytest.mark.parametrize("name", ACCEPTED)
def test_fixtures_are_accepted(name: str) -> None:
    text = (FIXTURES / f"{name}.alphatex").read_text(encoding="utf-8")
    context = DecodingContext(max_staves=99, empty_bars=True)
    state = AlphaTexState(GRAMMAR, context)
    for token in TOKENIZER(text).input_ids:
        state = state.advance(token)
    assert GRAMMAR.end in state.allowed()


def test_a_bar_line_comes_only_when_the_bar_is_full() -> None:
    assert "Ġ|⏎" not in tokens_of(follow(HEAD + "\\ts (3 4) 3.3.4 3.3.4"))
    full = tokens_of(follow(HEAD + "\\ts (3 4) 3.3.4 3.3.4 3.3.4"))
    assert "Ġ|⏎" in full and "♪3" not in full and "Ġr" not in full
    assert tokens_of(follow(HEAD + "\\ts (3 4) 3.3.2{d} |\n")) >= {"<|end|>", "♪3"}
    assert "<|end|>" not in tokens_of(follow(HEAD + "\\ts (3 4) 3.3.2{d} |\n3.3.4"))


def test_durations_that_overflow_are_forbidden() -> None:
    may = tokens_of(follow(HEAD + "\\ts (2 4) 3.3.4 r"))
    assert "♩4" in may and "♩8" in may and "♩1" not in may
    # a triplet half, 2/3 of a half, is longer than a quarter but one of 5 in the time of 2 is not
    assert "♩2" in may
    needs_a_change = tokens_of(follow(HEAD + "\\ts (2 4) 3.3.4 r.2"))
    assert needs_a_change and all(t.startswith("{tu") for t in needs_a_change)


def test_a_tuplet_has_to_complete() -> None:
    text = HEAD + "\\ts (1 4) 3.3.8{tu (3 2)} 3.3.8{tu (3 2)}"
    state = follow(text)
    assert "Ġ|⏎" not in tokens_of(state)
    assert "Ġ|⏎" in tokens_of(follow(text + " 3.3.8{tu (3 2)}"))
    assert not fillable(Fraction(1, 17)) and fillable(Fraction(1, 12)) and fillable(Fraction(1, 20))
    assert 1 not in durations(Room(Fraction(1, 12)), True)


def test_only_a_pick_up_may_be_short() -> None:
    assert "Ġ|⏎" in tokens_of(follow(HEAD + "\\ts (4 4) \\ac 3.3.4"))
    assert "Ġ|⏎" not in tokens_of(follow(HEAD + "\\ts (4 4) 3.3.4"))
    later = follow("\\voiceMode barWise\n" + HEAD + "\\ts (4 4) \\ac \\voice 3.3.4 \\voice 3.4.8")
    assert "Ġ|⏎" not in tokens_of(later)
    assert "Ġ|⏎" in tokens_of(follow(HEAD + "\\ts (3 4) r.1"))


def test_strings_ascend_and_exist() -> None:
    assert tokens_of(after(HEAD + "(3.2", "♪3")) == {".3", ".4", ".5", ".6"}
    assert tokens_of(after(HEAD, "Ġ⟮", "♪3")) == {".1", ".2", ".3", ".4", ".5"}  # a second note must find its string
    four = DecodingContext(strings=4)
    assert tokens_of(after(HEAD + "(3.1", "♪3", context=four)) == {".2", ".3", ".4"}
    assert "♪3" not in tokens_of(follow(HEAD + "(3.1 3.6"))
    assert tokens_of(after(HEAD + "\\tuning (G2 D2 A1 E1)\n(3.1", "♪3")) == {".2", ".3", ".4"}


def test_every_voice_fills_the_bar() -> None:
    text = "\\voiceMode barWise\n" + HEAD + "\\ts (2 4) \\voice 3.1.2"
    assert "Ġ|⏎" not in tokens_of(follow(text)) and "Ġ\\voice" in tokens_of(follow(text))
    assert "Ġ|⏎" not in tokens_of(follow(text + " \\voice 3.6.4"))
    assert "Ġ|⏎" in tokens_of(follow(text + " \\voice 3.6.4 r.4"))


def test_the_cursor_says_what_is_chosen() -> None:
    text = HEAD + "3.3.8 (0.1 2.2).8 r.4 r.2 |\n5.3{h}.8{d} 7.3"
    fields, state = [], AlphaTexState(GRAMMAR)
    for token in TOKENIZER(text).input_ids:
        fields.append(state.cursor.field)
        state = state.advance(token)
    assert fields[:6] == ["header", "argument", "bar_start", "string", "after_note", "after_duration"]
    assert fields[6:11] == ["fret", "string", "after_note", "string", "after_note"]
    place = follow(HEAD + "r.2 r.2 |\n5.3.8 7.2{h}.8").cursor
    assert (place.bar, place.voice, place.beat, place.field) == (1, 0, 1, "after_duration")
    assert follow(HEAD + "(3.1 3.2{h").cursor[3:] == (1, "note_effect")
    assert follow('\\title "a').cursor.field == "text"


def test_states_do_not_change() -> None:
    state = follow(HEAD + "3.3.8")
    before = state.allowed()
    state.advance(GRAMMAR.id["Ġr"]).advance(GRAMMAR.id["♩8"])
    assert state.allowed() == before and state.cursor.beat == 0
    with pytest.raises(ValueError, match="may not come"):
        state.advance(GRAMMAR.id["Ġ|⏎"])


@pytest.fixture(scope="module")
def language_model() -> Iterator[LlamaForCausalLM]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a model this small only waits for its threads
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENIZER) + 8,  # padded, as some models do
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=TOKENIZER.pad_token_id, eos_token_id=TOKENIZER.eos_token_id, bos_token_id=TOKENIZER.bos_token_id,
    )  # fmt: skip
    yield LlamaForCausalLM(config).eval()
    torch.set_num_threads(threads)


def generate(model: LlamaForCausalLM, length: int = 260, **options: object) -> list[str]:
    prompts = ["<|bos|><|user|>read<|end|><|assistant|>", "<|bos|><|user|>read it<|end|><|assistant|>"]
    batch = TOKENIZER(prompts, return_tensors="pt", padding=True)
    processor = GrammarLogitsProcessor(TOKENIZER, DecodingContext(max_bars=3), max_length=length)
    found = model.generate(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        max_length=length,
        logits_processor=LogitsProcessorList([processor]),
        **options,
    )
    rows = found[:, batch.input_ids.shape[1] :].tolist()
    assert all(TOKENIZER.eos_token_id in row for row in rows)
    return [TOKENIZER.decode(row, skip_special_tokens=True) for row in rows]


@pytest.mark.parametrize("options", [{"do_sample": False}, {"do_sample": True}, {"num_beams": 3}], ids=str)
def test_generate_writes_what_reads(language_model: LlamaForCausalLM, options: dict[str, object]) -> None:
    torch.manual_seed(1)
    for text in generate(language_model, **options):
        assert closes(text), text


def test_processor_can_be_switched_off_and_weighs_evidence() -> None:
    ids = TOKENIZER("<|assistant|>" + HEAD + "3", return_tensors="pt").input_ids[:, :-1]
    scores = torch.zeros(1, len(TOKENIZER))
    off = GrammarLogitsProcessor(GRAMMAR, enabled=False)
    assert torch.equal(off(ids, scores), scores)

    def evidence(state: AlphaTexState) -> torch.Tensor:
        weights = torch.zeros(len(TOKENIZER))
        weights[GRAMMAR.id["♪7"]] = 3.0
        return weights

    weighed = GrammarLogitsProcessor(GRAMMAR, evidence=evidence)(ids, scores)
    assert weighed.argmax().item() == GRAMMAR.id["♪7"]
    assert scores.abs().max() == 0  # the input is left alone
    assert torch.isinf(weighed[0, GRAMMAR.id["Ġ|⏎"]])


def test_beams_that_swap_places_keep_their_states() -> None:
    first, second = (TOKENIZER("<|assistant|>" + HEAD + text).input_ids for text in ("3.3.8", "(3.3"))
    length = min(len(first), len(second))
    processor, scores = GrammarLogitsProcessor(GRAMMAR), torch.zeros(2, len(TOKENIZER))
    for end in range(2, length):
        processor(torch.tensor([first[:end], second[:end]]), scores)
    swapped = processor(torch.tensor([second[:length], first[:length]]), scores)
    fresh = GrammarLogitsProcessor(GRAMMAR)(torch.tensor([second[:length], first[:length]]), scores)
    assert torch.equal(swapped, fresh)
    assert not torch.equal(swapped[0], swapped[1])
