"""ScoreVLM: laws of every model, writing in batches and beams, other towers, adapters, the picture matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from intermezzo.configuration.configuration_score_vlm import ScoreVLMConfig
from intermezzo.modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.processing_score_vlm import ScoreVLMProcessor
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

from .common import GenerationLaws, assert_same
from .tiny_score_vlm import IMAGE, dense_labels, pictures, prompt, text_config, vlm_config

torch.set_num_threads(1)


class TestScoreVLMLaws(GenerationLaws):
    model_class = ScoreVLMForConditionalGeneration
    auto_class = AutoModelForImageTextToText
    fit_learning_rate = 1e-2
    wrong_configs = (
        {"image_token_id": 24},
        {"image_token_id": -1},
        {"connector": "bridge"},
        {"image_column_px": 16},
        {"vision_rows": "four"},
    )

    def tiny_config(self) -> ScoreVLMConfig:
        return vlm_config()

    def tiny_inputs(self, config: Any, batch_size: int = 2) -> dict[str, Any]:
        return {"pixel_values": pictures(batch_size), **prompt([64] * batch_size, answer=6)}

    def tiny_processor(self) -> ScoreVLMProcessor:
        return ScoreVLMProcessor(ScoreImageProcessor(), AlphaTexTokenizer())


@pytest.fixture
def model() -> ScoreVLMForConditionalGeneration:
    torch.manual_seed(0)
    return ScoreVLMForConditionalGeneration(vlm_config()).eval()


def ask(widths: list[int], seed: int = 1, room: int = 64, **options: Any) -> dict[str, torch.Tensor]:
    """Prompts with pictures of different widths, on one canvas with blank columns on the right."""
    torch.manual_seed(seed)
    pixels = pictures(len(widths), max(widths) + room)
    for picture, width in zip(pixels, widths, strict=True):
        picture[..., width:] = 0
    return {"pixel_values": pixels, **prompt(widths, **options)}


def row(inputs: dict[str, torch.Tensor], i: int) -> dict[str, torch.Tensor]:
    """One prompt alone, without the padding of its batch on the left."""
    start = int((inputs["attention_mask"][i] == 0).sum())
    return {
        k: v[i : i + 1, start:] if k in ("input_ids", "attention_mask") else v[i : i + 1] for k, v in inputs.items()
    }


def write(model: Any, inputs: dict[str, torch.Tensor], **options: Any) -> Any:
    settings = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False, **options}
    return model.generate(**inputs, **settings)


@pytest.mark.parametrize("beams", [1, 2])
def test_a_batch_of_different_widths_writes_what_each_writes_alone(model: Any, beams: int) -> None:
    inputs = ask([96, 40, 64])
    both = write(model, inputs, num_beams=beams)[:, inputs["input_ids"].shape[1] :]
    for i in range(3):
        alone = row(inputs, i)
        assert torch.equal(both[i], write(model, alone, num_beams=beams)[0, alone["input_ids"].shape[1] :]), i


def test_a_batch_of_different_widths_has_the_logits_of_each_alone(model: Any) -> None:
    inputs = ask([96, 40, 64])
    with torch.no_grad():
        both = model(**inputs).logits
        for i in range(3):
            alone = model(**row(inputs, i)).logits
            torch.testing.assert_close(both[i : i + 1, -alone.shape[1] :], alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("beams", [1, 2])
def test_two_pictures_in_one_prompt_stay_in_order(model: Any, beams: int) -> None:
    """Also with beams, where transformers would repeat the first picture."""
    inputs = ask([64, 48])
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    joined = {**inputs, "input_ids": ids.reshape(1, -1), "attention_mask": mask.reshape(1, -1)}
    features = model.get_image_features(inputs["pixel_values"], inputs["widths"])
    given = {"input_ids": joined["input_ids"], "attention_mask": joined["attention_mask"], "image_features": features}
    options = dict(num_beams=beams, return_dict_in_generate=True, output_logits=True)
    a, b = write(model, joined, **options), write(model, given, **options)
    assert torch.equal(a.sequences, b.sequences)
    plain = write(model, joined, **{**options, "num_beams": 1})
    torch.testing.assert_close(a.logits[0][:1], plain.logits[0], rtol=1e-4, atol=1e-5)
    again = write(model, joined, **options, use_cache=False)
    assert torch.equal(a.sequences, again.sequences)


def test_samples_of_several_prompts_keep_their_pictures(model: Any) -> None:
    inputs = ask([64, 48])
    options = dict(return_dict_in_generate=True, output_logits=True)
    greedy = write(model, inputs, **options)
    torch.manual_seed(0)
    sampled = write(model, inputs, do_sample=True, num_return_sequences=3, **options)
    first = greedy.logits[0].repeat_interleave(3, dim=0)
    torch.testing.assert_close(sampled.logits[0], first, rtol=1e-4, atol=1e-5)


def test_it_never_writes_pictures(model: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        model.language_model.lm_head.weight.zero_()
        model.language_model.lm_head.weight[IMAGE] = 1.0
    model.save_pretrained(tmp_path)
    again = ScoreVLMForConditionalGeneration.from_pretrained(tmp_path)
    assert IMAGE not in write(again, ask([64]))[0, 12:].tolist()


def test_placeholders_that_do_not_fit_are_counted(model: Any) -> None:
    inputs = ask([64, 48])
    inputs["widths"] = torch.tensor([64, 64])
    with pytest.raises(ValueError, match=r"14 image tokens, the pictures give 16"):
        model(**inputs)
    with pytest.raises(ValueError, match=r"14 image tokens, the pictures give 16"):
        write(model, inputs, num_beams=2)
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model(pixel_values=inputs["pixel_values"])
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    with pytest.raises(ValueError, match="pictures need input_ids"):
        model(inputs_embeds=embeds, pixel_values=inputs["pixel_values"], widths=inputs["widths"])


def test_text_alone_is_the_language_model(model: Any) -> None:
    ids = torch.randint(7, 24, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids).logits, model.language_model(input_ids=ids).logits)
        torch.testing.assert_close(
            model(inputs_embeds=model.get_input_embeddings()(ids)).logits, model.language_model(input_ids=ids).logits
        )


def test_a_later_answer_does_not_move_an_earlier_prediction(model: Any) -> None:
    """No leak: other tokens at and after position i leave all predictions before i."""
    inputs = ask([64], answer=8)
    labels = inputs.pop("labels")
    start = int((labels[0] == -100).sum())
    with torch.no_grad():
        before = model(**inputs).logits
        for i in range(start, labels.shape[1]):
            other = dict(inputs, input_ids=inputs["input_ids"].clone())
            other["input_ids"][:, i:] = 7 + (other["input_ids"][:, i:] + 3) % 17
            after = model(**other).logits
            torch.testing.assert_close(after[:, :i], before[:, :i], rtol=1e-5, atol=1e-5)


def test_the_picture_matters(model: Any) -> None:
    """After a short fit two prompts differ only by their pictures: a swap swaps the answers, a blank gives neither."""
    inputs = ask([64, 64], room=0, answer=2)
    pixels = torch.zeros(2, 1, 240, 64)
    pixels[0, :, 118:126, 20:28] = 1
    pixels[1, :, 158:166, 44:52] = pixels[1, :, 60:80, 10:50] = 1
    inputs["pixel_values"] = pixels
    model.train()
    model.vision_tower.requires_grad_(False).eval()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    for _ in range(120):
        loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.05:
            break
    with torch.no_grad():
        right, swapped, blank = (
            float(model(**{**inputs, "pixel_values": other}).loss) for other in (pixels, pixels.flip(0), 0 * pixels)
        )
    assert right < 0.1 and swapped > right + 1 and blank > right + 0.2


def test_dense_labels_add_the_loss_of_the_tower(model: Any) -> None:
    inputs = ask([64, 64], room=0, answer=4)
    with torch.no_grad():
        text = model(**inputs)
        both = model(**inputs, dense_labels=dense_labels(2))
        alone = model.read_dense(inputs["pixel_values"], inputs["widths"], dense_labels(2))
    torch.testing.assert_close(both.loss, text.loss + alone.loss)
    assert set(both.losses) == {"text", *alone.losses} and set(text.losses) == {"text"}
    torch.testing.assert_close(both.logits, text.logits)


VIT = dict(
    model_type="vit",
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    image_size=32,
    patch_size=16,
)
OTHER_TOWERS = {
    "transformers ViT": VIT,
    "timm convolutions": dict(model_type="timm_wrapper", architecture="test_convnext"),
    "timm ViT": dict(
        model_type="timm_wrapper",
        architecture="test_vit",
        model_args={"dynamic_img_size": True},
    ),
}


@pytest.mark.parametrize("name", OTHER_TOWERS)
def test_any_tower_of_transformers_or_timm_fits(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ScoreVLMForConditionalGeneration(vlm_config(vision_config=OTHER_TOWERS[name], vision_rows=2)).eval()
    inputs = ask([96, 48], room=0)
    with torch.no_grad():
        before = model(**inputs)
        changed = model(**{**inputs, "pixel_values": 1 - inputs["pixel_values"]})
    assert before.image_hidden_states.shape == (12 + 6, 16)
    assert not torch.allclose(before.logits[:, -1], changed.logits[:, -1], atol=1e-6)
    assert write(model, inputs).shape[0] == 2
    model.save_pretrained(tmp_path)
    torch.manual_seed(9)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert_same(before.logits, again(**inputs).logits)
    with pytest.raises(ValueError, match="no dense heads"):
        model.read_dense(inputs["pixel_values"])


def test_columns_of_a_general_tower_are_in_order() -> None:
    """Ink at the right end moves the features of the last columns most."""
    torch.manual_seed(0)
    config = vlm_config(vision_config=OTHER_TOWERS["timm convolutions"], vision_rows=2)
    model = ScoreVLMForConditionalGeneration(config).eval()
    blank = torch.zeros(1, 1, 64, 512)
    inked = blank.clone()
    inked[..., 448:] = 1
    with torch.no_grad():
        moved = (model.get_image_features(inked) - model.get_image_features(blank)).abs().sum(-1)
    assert moved.shape == (64,) and int(moved.argmax()) >= 48


def test_any_language_model_fits() -> None:
    torch.manual_seed(0)
    llama = {**text_config(), "model_type": "llama", "num_key_value_heads": 1}
    model = ScoreVLMForConditionalGeneration(vlm_config(text_config=llama)).eval()
    assert type(model.language_model).__name__ == "LlamaForCausalLM"
    assert write(model, ask([64, 40])).shape == (2, 12 + 5)


def lora(model: Any, targets: list[str]) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=targets, init_lora_weights=False))


def test_an_adapter_saved_alone_gives_the_same_logits(model: Any, tmp_path: Path) -> None:
    from peft import PeftModel

    inputs = ask([64, 40])
    model.save_pretrained(tmp_path / "base")
    with torch.no_grad():
        plain = model(**inputs).logits
    adapted = lora(model, ["q_proj", "v_proj"]).eval()
    with torch.no_grad():
        before = adapted(**inputs).logits
    assert not torch.allclose(before, plain, atol=1e-5)
    adapted.save_pretrained(tmp_path / "adapter")
    assert sum(file.stat().st_size for file in (tmp_path / "adapter").glob("*.safetensors")) < 20_000
    base = AutoModelForImageTextToText.from_pretrained(tmp_path / "base")
    again = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        assert_same(before, again(**inputs).logits)


def test_a_merged_adapter_gives_the_same_logits(model: Any, tmp_path: Path) -> None:
    inputs = ask([64, 40])
    adapted = lora(model, ["q_proj", "v_proj", "connector.linear_1"]).eval()
    with torch.no_grad():
        before = adapted(**inputs).logits
    merged = adapted.merge_and_unload()
    assert type(merged) is ScoreVLMForConditionalGeneration
    merged.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(merged(**inputs).logits, before, rtol=1e-4, atol=1e-5)
        assert_same(merged(**inputs).logits, again(**inputs).logits)
