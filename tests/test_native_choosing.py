"""Of several drawings the one is kept that the model itself reads best."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from intermezzo.modeling.modeling_native_vlm import NativeVLMForCausalLM
from intermezzo.processing import native_choosing
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.native_choosing import asked_text, draw_prompts, reading_chance
from intermezzo.processing.native_places import drawing_prompt
from intermezzo.processing.processing_native_vlm import NativeVLMProcessor
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

from .tiny_native_vlm import native_config

torch.set_num_threads(1)

TEXTS = ("\\staff {tabs}\n\\ts (3 4) 3.3.4 5.3.4 r.4 |\n", "\\staff {tabs}\n\\ts (4 4) (0.1 2.2).1 |\n")
SIZE = {"rows": 3, "columns": 5}


@pytest.fixture(scope="module", params=["placed", "mixed"])
def drawer(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    torch.manual_seed(0)
    tokenizer = AlphaTexTokenizer()
    sizes = {"max_rows": 8, "max_columns": 20, "max_position_embeddings": 340}
    config = native_config(text_vocab_size=len(tokenizer), rope=request.param, **sizes)
    return NativeVLMForCausalLM(config).eval(), NativeVLMProcessor.for_model(config, ScoreImageProcessor(), tokenizer)


def prompts(drawer: tuple[Any, Any]) -> list[list[int]]:
    return [drawing_prompt(*drawer, text)[0].tolist() for text in TEXTS]


def test_the_text_is_found_in_its_prompt(drawer: tuple[Any, Any]) -> None:
    tokenizer = drawer[1].tokenizer
    for prompt, text in zip(prompts(drawer), TEXTS, strict=True):
        said = asked_text(drawer[1], prompt)
        assert tokenizer.decode([token for token in said if token < len(tokenizer)]) == text
        assert any(drawer[1].vocabulary.is_place(token) for token in said) == drawer[1].places


def test_the_chance_of_a_reading_is_that_of_its_tokens(drawer: tuple[Any, Any]) -> None:
    model, processor = drawer
    codes, said = torch.zeros(3, 5, dtype=torch.long), asked_text(processor, prompts(drawer)[0])
    chance, right = reading_chance(model, processor, codes, said)
    before, _, after = processor.read_prompt().partition(processor.image_token)
    ids = processor.encode_parts([before, codes.numpy(), after])
    expected = 0.0
    for token in (*said, processor.tokenizer.convert_tokens_to_ids("<|end|>")):
        with torch.no_grad():
            expected += float(model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)[token])
        ids.append(token)
    assert chance == pytest.approx(expected, abs=1e-3) and not right


def test_the_best_read_drawing_is_kept_and_it_is_the_same_every_time(drawer: tuple[Any, Any]) -> None:
    model, processor = drawer
    asked = prompts(drawer)
    first = draw_prompts(model, processor, asked, 1.5, tries=1, **SIZE)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    many = draw_prompts(model, processor, asked, 1.5, tries=4, **SIZE)
    assert torch.equal(torch.get_rng_state(), state)  # nobody else's chance is touched
    torch.manual_seed(6)
    again = draw_prompts(model, processor, asked, 1.5, tries=4, **SIZE)
    assert all(torch.equal(a, b) for a, b in zip(many, again, strict=True))
    gains = []
    for prompt, one, best in zip(asked, first, many, strict=True):
        said = asked_text(processor, prompt)
        chances = [reading_chance(model, processor, codes, said)[0] for codes in (one, best)]
        assert chances[1] >= chances[0]
        gains.append(chances[1] > chances[0])
    assert any(gains)


def test_what_is_read_right_is_not_drawn_again(drawer: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = drawer
    asked, calls = prompts(drawer), []
    draw = model.generate_images

    def count(ids: torch.Tensor, *args: Any, **options: Any) -> Any:
        calls.append(len(ids))
        return draw(ids, *args, **options)

    answers = iter([(-3.0, True), (-9.0, False), (-8.0, False), (-7.0, True), (-8.5, False)])
    monkeypatch.setattr(model, "generate_images", count)
    monkeypatch.setattr(native_choosing, "reading_chance", lambda *args: next(answers))
    draw_prompts(model, processor, asked, 1.0, tries=4, **SIZE)
    assert calls == [2, 3]  # only the second, three times


def test_a_picture_drawn_with_chance_follows_the_seed(drawer: tuple[Any, Any]) -> None:
    model, processor = drawer
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(processor.draw(model, TEXTS[0], do_sample=True, tries=3, **SIZE))
    assert found[0].tobytes() == found[1].tobytes() != found[2].tobytes()
