"""Readings whose bars do not fill are made to fill by what else the reader held for possible."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from intermezzo.processing.alphatex_bars import bars_close
from intermezzo.processing.alphatex_constraints import TokenGrammar
from intermezzo.processing.alphatex_filling import BeatChances, fill_bars
from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.alphatex_types import beat_length
from intermezzo.processing.alphatex_writer import write_alphatex
from intermezzo.processing.native_decoding import NativeLogitsProcessor
from intermezzo.processing.native_places import beat_starts, with_places
from intermezzo.processing.native_reading import beat_chances, read_prompts
from intermezzo.processing.native_vocabulary import NativeVocabulary
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

HEAD = "\\staff {tabs}\n\\ts (4 4) "
VALUES = [(2, 0, None), (4, 0, None), (8, 0, None), (4, 1, None), (8, 0, (3, 2))]


def draft(text: str) -> Any:
    return read_alphatex(HEAD + text)


def sure(score: Any, **changes: Any) -> list[BeatChances]:
    """A reader that thinks of nothing but what it wrote; lines where they are."""
    found, before = [], 0
    for _, bar, _, _, beat in score.beats():
        line = -0.01 if bar != before else -9.0
        before = bar
        found.append(BeatChances({(beat.duration, beat.dots, beat.tuplet): -0.1}, line, -0.01 if line < -1 else -9.0))
    return found


def say(score: Any) -> str:
    return write_alphatex(score).removeprefix(write_alphatex(read_alphatex(HEAD + "r.1 |")).partition("r.1")[0])


def test_the_likeliest_note_value_that_fills_the_bar_is_taken() -> None:
    score = draft("3.3.4 5.3.4 7.3.4 |")
    chances = sure(score)
    assert fill_bars(score, chances) is None  # nothing else was thought of
    for number, likely in enumerate((-3.0, -1.0, -2.0)):
        chances[number].values[2, 0, None] = likely
    found = fill_bars(score, chances)
    assert found is not None and say(found).strip() == "3.3.4 5.3.2 7.3.4 |"
    assert say(score).strip() == "3.3.4 5.3.4 7.3.4 |"  # the draft stays


def test_a_bar_line_taken_for_a_rest_comes_back() -> None:
    score = draft("3.3.4 5.3.4 7.3.2 r.8 r.4 7.3.2 5.3.4 3.3.4 |")
    chances = sure(score)
    chances[3].line = -2.0
    found = fill_bars(score, chances)
    assert found is not None and say(found).split() == "3.3.4 5.3.4 7.3.2 | 7.3.2 5.3.4 3.3.4 |".split()


def test_a_line_too_early_is_taken_away_but_not_one_with_marks() -> None:
    score = draft("3.3.4 5.3.4 | 7.3.2 |")
    found = fill_bars(score, sure(score))
    assert found is not None and say(found).strip() == "3.3.4 5.3.4 7.3.2 |"
    marked = draft("3.3.4 5.3.4 | \\ro 7.3.2 |")
    assert fill_bars(marked, sure(marked)) is None


def test_metres_grace_notes_and_whole_rests_keep_their_rules() -> None:
    score = draft("3.3.4 5.3.4 7.3.2 | \\ts (3 4) 2.3.8{gr} 3.3.2 5.3.8 | r.1 |")
    chances = sure(score)
    chances[5].values[4, 0, None] = -4.0
    found = fill_bars(score, chances)
    assert found is not None and say(found).split()[3:] == "| \\ts (3 4) 2.3.8{gr} 3.3.2 5.3.4 | r.1 |".split()
    assert bars_close(found, first_may_be_short=False, empty_bars=False)


def test_what_it_does_not_know_is_left_alone() -> None:
    for text in ("\\ac 3.3.4 |", "\\ft 3.3.4 |", "\\voice 3.3.4 \\voice 5.3.1 |"):
        score = draft(text)
        assert fill_bars(score, sure(score)) is None
    score = draft("3.3.1 |")
    assert fill_bars(score, []) is None


@pytest.mark.parametrize("seed", range(30))
def test_it_is_the_best_of_all_choices(seed: int) -> None:
    """Against trying everything: values, and lines wherever bars are full."""
    draw = random.Random(seed)
    count = draw.randint(3, 6)
    score = draft(" ".join(f"{draw.randint(0, 9)}.3.4" for _ in range(count)) + " |")
    chances = [
        BeatChances({v: draw.uniform(-5, 0) for v in draw.sample(VALUES, 3)}, draw.uniform(-5, 0), draw.uniform(-5, 0))
        for _ in range(count)
    ]
    best = None
    for choice in itertools.product(*(chance.values for chance in chances)):
        used, total = Fraction(0), 0.0
        for number, (value, chance) in enumerate(zip(choice, chances, strict=True)):
            total += chance.values[value] + (0 if not number else chance.no_line if used else chance.line)
            used += beat_length(*value)
            if used > 1:
                break
            used %= 1
        if not used and (best is None or total > best[0]):
            best = total, choice
    found = fill_bars(score, chances)
    if best is None:
        assert found is None
        return
    assert found is not None and bars_close(found, first_may_be_short=False, empty_bars=False)
    assert [(b.duration, b.dots, b.tuplet) for *_, b in found.beats()] == list(best[1])


# --- with what a model thought


@pytest.fixture(scope="module")
def tokenizer() -> AlphaTexTokenizer:
    return AlphaTexTokenizer()


class Scripted:
    """A model that writes one text and would as soon have written another."""

    def __init__(self, answer: list[int], doubts: dict[int, dict[int, float]], size: int) -> None:
        self.answer, self.doubts, self.size, self.asked = answer, doubts, size, []

    def generate(self, ids: torch.Tensor, **options: Any) -> torch.Tensor:
        self.asked.append(options)
        return torch.cat([ids, torch.tensor([self.answer]).repeat(len(ids), 1)], dim=1)

    def __call__(self, input_ids: torch.Tensor) -> Any:
        length, begin = input_ids.shape[1], input_ids.shape[1] - len(self.answer)
        logits = torch.full((1, length, self.size), -20.0)
        for place, token in enumerate(self.answer):
            logits[0, begin + place - 1, token] = 5.0
            for other, score in self.doubts.get(place, {}).items():
                logits[0, begin + place - 1, other] = score
        return SimpleNamespace(logits=logits)


def answer_of(tokenizer: AlphaTexTokenizer, v: NativeVocabulary, text: str, places: bool) -> list[int]:
    ids, starts = beat_starts(tokenizer, text)
    if places:
        ids, _ = with_places(ids, starts, range(len(starts)), v)
    return [*ids, tokenizer.convert_tokens_to_ids("<|end|>")]


@pytest.mark.parametrize("places", [False, True])
def test_a_reading_is_mended_by_its_own_doubts(tokenizer: AlphaTexTokenizer, places: bool) -> None:
    v = NativeVocabulary(len(tokenizer), 16, 4, 12, "columns")
    text = write_alphatex(draft("(3.3 5.4).4 5.3{h}.4 7.3.4{v} | 3.3.1 |"))
    answer = answer_of(tokenizer, v, text, places)
    grammar = TokenGrammar(tokenizer.get_vocab())
    lengths = [i for i, token in enumerate(answer) if token in grammar.of_kind["duration"]]
    half = next(iter(grammar.of("duration", [2])))
    model = Scripted(answer, {lengths[1]: {half: 4.0}, lengths[2]: {half: 2.0}}, v.size)
    processor = SimpleNamespace(
        tokenizer=tokenizer,
        vocabulary=v,
        logits_processor=lambda **options: NativeLogitsProcessor(v, tokenizer, places=places, **options),
    )
    prompt = torch.tensor([[0, 0, 1], [2, 1, 1]])
    mask = torch.tensor([[0, 0, 1], [1, 1, 1]])
    found = read_prompts(model, processor, prompt, mask, 300)
    assert len(model.asked) == 1  # the draft was enough
    assert [whole for _, whole in found] == [True, True]
    for got, _ in found:
        assert [beat.duration for *_, beat in read_alphatex(got).beats()] == [4, 2, 4, 1]
        assert got == text.replace("5.3{h}.4", "5.3{h}.2")
    assert not read_prompts(model, processor, prompt, mask, len(answer) + 3)[0][1]  # it ends where the window does


def test_what_can_not_be_filled_is_written_again_bar_by_full_bar(tokenizer: AlphaTexTokenizer) -> None:
    v = NativeVocabulary(len(tokenizer), 16, 4, 12, "columns")
    answer = answer_of(tokenizer, v, write_alphatex(draft("3.3.4 | \\ro 3.3.1 |")), False)
    model = Scripted(answer, {}, v.size)
    rules: list[Any] = []

    def rule(**options: Any) -> NativeLogitsProcessor:
        rules.append(options.get("context"))
        return NativeLogitsProcessor(v, tokenizer, **options)

    processor = SimpleNamespace(tokenizer=tokenizer, vocabulary=v, logits_processor=rule)
    read_prompts(model, processor, torch.tensor([[1]]), torch.tensor([[1]]), 300)
    assert [context.measured for context in rules if context] == [False, True] and len(model.asked) == 2


def test_dots_and_tuplets_are_thought_of(tokenizer: AlphaTexTokenizer) -> None:
    text = write_alphatex(draft("3.3.4{d} 5.3.8 7.3.2 |"))
    ids, starts = beat_starts(tokenizer, text)
    grammar = TokenGrammar(tokenizer.get_vocab())
    scores = torch.full((len(ids), len(tokenizer)), -30.0)
    dot, triplet = grammar.effect_ids[("d",), True], grammar.effect_ids[("tu", (3, 2)), True]
    lengths = [i for i, token in enumerate(ids) if token in grammar.of_kind["duration"]]
    for place, token in enumerate(ids):
        scores[place, token] = -0.01
    scores[lengths[0] + 1, dot] = -0.5  # the rest of the probability: no dot
    scores[lengths[1] + 1, triplet] = -3.0
    found = beat_chances(read_alphatex(text), ids, starts, scores, grammar)
    assert found[0].values[4, 1, None] == pytest.approx(-0.51)
    assert found[0].values[4, 0, None] == pytest.approx(
        -0.01 + float(torch.tensor(1 - 2.718281828**-0.5).log()), abs=1e-4
    )
    assert found[1].values[8, 0, (3, 2)] == pytest.approx(-3.01)
    assert set(found[2].values) == {(2, 0, None)} and len(found) == 3
