"""ScoreVLM with gated cross-attention: laws of every model, a frozen language model, any tower, cached decoding."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from intermezzo.configuration.configuration_score_vlm import ScoreVLMConfig
from intermezzo.configuration.score_vlm_towers import TOWERS, WHOLE_PICTURE_PX, text_options, tower_options
from intermezzo.modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
from intermezzo.modeling.tower_features import fit_pictures
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.processing_score_vlm import ScoreVLMProcessor
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

from .common import GenerationLaws, assert_same
from .tiny_score_vlm import ASSISTANT, BOS, END, IMAGE, LABELS, PAD, USER, pictures, text_config, tower_config

torch.set_num_threads(1)

SMALL = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
VIT = {"model_type": "vit", **SMALL, "image_size": [32, 48], "patch_size": 16, "num_channels": 1}


def fusion_config(**changes: Any) -> ScoreVLMConfig:
    options: dict[str, Any] = dict(
        connector="cross_attention",
        vision_config=VIT,
        picture_size=[32, 48],
        vision_feature_layer=-1,
        text_config={**text_config(), "num_hidden_layers": 4},
        fusion_layers=[1, 1, 3],
        image_token_id=IMAGE,
    )
    return ScoreVLMConfig(**options | changes)


def make_model(seed: int = 0, gates: float | None = 1.0, **changes: Any) -> Any:
    """A tiny model whose gates stand open (`None`: as they start), with a language model that has opinions."""
    torch.manual_seed(seed)
    model = ScoreVLMForConditionalGeneration(fusion_config(**changes)).eval()
    with torch.no_grad():
        model.language_model.lm_head.weight.normal_(generator=torch.Generator().manual_seed(seed))
        open_gates(model, gates)
    return model


def open_gates(model: Any, value: float | None) -> None:
    if value is not None:
        for layer in model.connector.layers:
            layer.gate_attention.data.fill_(value)
            layer.gate_mlp.data.fill_(value)


def prompt(counts: list[int], answer: int = 0, width: int = 48, height: int = 32) -> dict[str, torch.Tensor]:
    """Prompts with so many pictures each, padded on the left, one `<|image|>` for each picture."""
    rows = []
    for count in counts:
        shown = [token for _ in range(count) for token in (IMAGE, 8)]
        rows.append([BOS, USER, *shown, END, ASSISTANT, *torch.randint(9, 24, (answer,)).tolist()])
    length = max(map(len, rows))
    ids = torch.tensor([[PAD] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    inputs = {"input_ids": ids, "attention_mask": mask}
    if sum(counts):
        inputs["pixel_values"] = pictures(sum(counts), width, height)
    if answer:
        inputs["labels"] = torch.where(torch.arange(length) < length - answer, -100, ids)
    return inputs


class TestFusionLaws(GenerationLaws):
    model_class = ScoreVLMForConditionalGeneration
    auto_class = AutoModelForImageTextToText
    frozen = ("language_model.", "vision_tower.pooler.")
    fit_learning_rate = 1e-2
    wrong_configs = (
        {"fusion_layers": [4]},
        {"fusion_layers": []},
        {"fusion_layers": [3, 1]},
        {"vision_feature_layer": 1},
        {"picture_size": [32]},
        {"picture_mean": [0.5]},
    )

    def tiny_config(self) -> ScoreVLMConfig:
        return fusion_config()

    def make(self, seed: int = 0, config: Any = None) -> Any:
        return make_model(seed)

    def tiny_inputs(self, config: Any, batch_size: int = 2) -> dict[str, Any]:
        return prompt([1] * batch_size, answer=6)

    def tiny_processor(self) -> ScoreVLMProcessor:
        return ScoreVLMProcessor(ScoreImageProcessor(), AlphaTexTokenizer(), image_column_px=WHOLE_PICTURE_PX)


def train_briefly(model: Any, steps: int = 3) -> None:
    torch.manual_seed(3)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    model.train()
    for _ in range(steps):
        model(**prompt([1, 2], answer=5)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def test_without_a_picture_it_is_the_language_model_before_and_after_training() -> None:
    model = make_model(gates=None)
    text = copy.deepcopy(model.language_model)  # its hooks look for pictures and find none
    before = {name: value.clone() for name, value in model.language_model.state_dict().items()}
    inputs = prompt([0, 0], answer=7)
    for _ in range(2):
        with torch.no_grad():
            ours, theirs = model(**inputs), text(**inputs)
        assert torch.equal(ours.logits, theirs.logits) and torch.equal(ours.loss, theirs.loss)
        options = dict(max_new_tokens=5, min_new_tokens=5, do_sample=False, num_beams=2, suppress_tokens=[IMAGE])
        del inputs["labels"]
        assert torch.equal(model.generate(**inputs, **options), text.generate(**inputs, **options))
        inputs = prompt([0, 0], answer=7)
        train_briefly(model)
    assert_same(before, dict(model.language_model.state_dict()))
    assert all(layer.gate_attention.abs() > 0 and layer.gate_mlp.abs() > 0 for layer in model.connector.layers)


def test_closed_gates_hide_the_picture_and_let_only_themselves_learn() -> None:
    model = make_model(gates=None)
    inputs = prompt([1, 1], answer=4)
    text = {key: value for key, value in inputs.items() if key != "pixel_values"}
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, model(**text).logits)
    model.train()(**inputs).loss.backward()
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached == {f"connector.layers.{i}.gate_{kind}" for i in range(3) for kind in ("attention", "mlp")}


def test_a_prompt_without_a_picture_in_a_mixed_batch_is_not_touched() -> None:
    model = make_model()
    inputs = prompt([1, 0, 2], answer=4)
    text = {key: value for key, value in inputs.items() if key != "pixel_values"}
    with torch.no_grad():
        mixed, plain = model(**inputs).logits, model(**text).logits
    assert torch.equal(mixed[1], plain[1])
    first = int((inputs["input_ids"][0] == IMAGE).nonzero()[0])
    assert torch.equal(mixed[0, :first], plain[0, :first])  # before the picture nothing is known of it
    for row in (0, 2):
        assert not torch.allclose(mixed[row, -1], plain[row, -1], atol=1e-3)


def test_text_parameters_can_not_be_set_free() -> None:
    model = make_model()
    model.requires_grad_(False)
    model.requires_grad_(True)
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {"connector", "vision_tower"}
    model.language_model.requires_grad_(True)
    with pytest.raises(ValueError, match="frozen"):
        model.train()(**prompt([1], answer=3))
    model.eval()(**prompt([1], answer=3))


def test_the_freeze_outlives_a_reload(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    again = ScoreVLMForConditionalGeneration.from_pretrained(tmp_path)
    assert not any(p.requires_grad for p in again.language_model.parameters())
    assert all(p.requires_grad for p in again.connector.parameters())
    again.train()(**prompt([1], answer=3)).loss.backward()


def test_a_copy_looks_through_its_own_layers() -> None:
    model = make_model()
    other = copy.deepcopy(model)
    inputs = prompt([1], answer=3)
    with torch.no_grad():
        before = model(**inputs).logits
        open_gates(other, 0.0)
        assert torch.equal(model(**inputs).logits, before)
        assert not torch.allclose(other(**inputs).logits, before, atol=1e-3)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("counts", [[1, 1], [2, 0, 1]])
def test_a_batch_writes_what_each_prompt_writes_alone(counts: list[int], beams: int) -> None:
    model = make_model()
    inputs = prompt(counts)
    options = dict(max_new_tokens=6, min_new_tokens=6, do_sample=False, num_beams=beams)
    both = model.generate(**inputs, **options)
    assert torch.equal(both, model.generate(**inputs, **options, use_cache=False))
    taken = 0
    for row, count in enumerate(counts):
        start = int((inputs["attention_mask"][row] == 0).sum())
        alone = {key: inputs[key][row : row + 1, start:] for key in ("input_ids", "attention_mask")}
        if count:
            alone["pixel_values"] = inputs["pixel_values"][taken : taken + count]
        taken += count
        assert torch.equal(both[row, start:], model.generate(**alone, **options)[0]), row


def test_samples_of_several_prompts_keep_their_pictures() -> None:
    model = make_model()
    inputs = prompt([1, 2])
    options = dict(max_new_tokens=3, min_new_tokens=3, return_dict_in_generate=True, output_logits=True)
    greedy = model.generate(**inputs, do_sample=False, **options)
    sampled = model.generate(**inputs, do_sample=True, num_return_sequences=3, **options)
    torch.testing.assert_close(sampled.logits[0], greedy.logits[0].repeat_interleave(3, dim=0), rtol=1e-4, atol=1e-4)


def test_each_stretch_of_text_sees_the_picture_before_it() -> None:
    model = make_model(fusion_layers=[3])  # in the last layer alone, so that self-attention can not pass it on
    inputs = prompt([2], answer=3)
    first, second = (inputs["input_ids"][0] == IMAGE).nonzero().flatten().tolist()
    with torch.no_grad():
        before = model(**inputs).logits[0]
        moved = []
        for number in range(2):
            pixels = inputs["pixel_values"].clone()
            pixels[number] = 1 - pixels[number]
            after = model(**{**inputs, "pixel_values": pixels}).logits[0]
            moved.append(((after - before).abs().amax(-1) > 1e-5).nonzero().flatten().tolist())
    assert moved[0][0] == first and moved[1] == list(range(second, len(before)))


def test_the_picture_matters() -> None:
    model = make_model(gates=None)
    inputs = prompt([1, 1], answer=2)
    pixels = torch.zeros(2, 1, 32, 48)
    pixels[0, :, 4:10, 20:28], pixels[1, :, 20:30, 4:12] = 1, 1
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(150):
        loss = model(**{**inputs, "pixel_values": pixels}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.05:
            break
    with torch.no_grad():
        right, swapped = (float(model(**{**inputs, "pixel_values": p}).loss) for p in (pixels, pixels.flip(0)))
    assert right < 0.1 and swapped > right + 1


def test_wrong_counts_are_told() -> None:
    model = make_model()
    inputs = prompt([1, 1])
    one = {**inputs, "pixel_values": inputs["pixel_values"][:1]}
    for act in (lambda: model(**one), lambda: model.generate(**one, max_new_tokens=2)):
        with pytest.raises(ValueError, match="2 image tokens, the pictures give 1"):
            act()
    with pytest.raises(ValueError, match="pictures need input_ids"):
        model(inputs_embeds=torch.zeros(2, 3, 16), pixel_values=inputs["pixel_values"])


def test_a_picture_is_scaled_whole_and_its_padding_is_not_seen() -> None:
    wide, widths = pictures(2, 96, 32), torch.tensor([96, 40])
    wide[1, :, :, 40:] = 0
    fitted, kept = fit_pictures(wide, widths, [32, 48])
    assert fitted.shape == (2, 1, 32, 48) and kept.tolist() == [48, 40]
    assert float(fitted[0, :, 17:].abs().sum()) == 0  # half as wide, so half as high
    torch.testing.assert_close(fitted[1, :, :, :40], wide[1, :, :, :40])
    model = make_model()
    inputs = prompt([1], answer=2) | {"widths": torch.tensor([20])}
    narrow = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
    narrow["pixel_values"][..., 20:] = 1 - narrow["pixel_values"][..., 20:]
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, model(**narrow).logits)
        assert model(**inputs).image_hidden_states.shape == (1, 6, 16)


WORDS = {"model_type": "clip_vision_model", **SMALL, "image_size": 32, "patch_size": 16}
PHOTO = dict(picture_size=[32, 32], picture_mean=[0.5] * 3, picture_std=[0.5] * 3)
OTHER_TOWERS: dict[str, dict[str, Any]] = {
    "our own": dict(vision_config=tower_config(), picture_size=None),
    "CLIP": dict(vision_config=WORDS, vision_feature_layer=-2, **PHOTO),
    "SigLIP": dict(vision_config={**WORDS, "model_type": "siglip_vision_model"}, vision_feature_layer=-2, **PHOTO),
    "SigLIP, its output": dict(vision_config={**WORDS, "model_type": "siglip_vision_model"}, **PHOTO),
    "timm ViT": dict(
        vision_config=dict(model_type="timm_wrapper", architecture="test_vit", model_args={"img_size": 64}),
        vision_feature_layer=-2, **PHOTO | {"picture_size": [64, 64]},
    ),
    "timm convolutions": dict(
        vision_config=dict(model_type="timm_wrapper", architecture="test_convnext"), vision_feature_layer=-2, **PHOTO
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_TOWERS)
def test_any_tower_fits_and_all_that_counts_as_learning_learns(name: str, tmp_path: Path) -> None:
    model = make_model(**OTHER_TOWERS[name])
    inputs = prompt([1, 2], answer=3)
    if name == "our own":
        inputs["pixel_values"] = pictures(3, 64, 320)
        inputs["widths"] = torch.tensor([64, 40, 56])
    with torch.no_grad():
        before = model(**inputs).logits
        moved = model(**{**inputs, "pixel_values": 1 - inputs["pixel_values"]}).logits
    assert not torch.allclose(before[:, -1], moved[:, -1], atol=1e-5)
    if name == "our own":  # what a reader looked at already is not looked at again
        seen = model.read_dense(inputs["pixel_values"], inputs["widths"])
        features = model.get_image_features(widths=inputs["widths"], dense=seen)
        torch.testing.assert_close(features, model.get_image_features(inputs["pixel_values"], inputs["widths"]))
        assert (features[1, 5:] == 0).all() and (features[1, :5] != 0).any(-1).all()
    model.train()(**inputs).loss.backward()
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    reached = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert learning == reached, sorted(learning ^ reached)
    model.eval().zero_grad()
    with torch.no_grad():
        before = model(**inputs).logits  # running statistics moved in training
    model.save_pretrained(tmp_path)
    torch.manual_seed(9)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert_same(before, again(**inputs).logits)


def test_any_language_model_that_hands_arguments_down_fits() -> None:
    llama = {**text_config(), "model_type": "llama", "num_key_value_heads": 1, "num_hidden_layers": 4}
    model = make_model(text_config=llama)
    inputs = prompt([1, 1])
    options = dict(max_new_tokens=5, min_new_tokens=5, do_sample=False)
    assert torch.equal(model.generate(**inputs, **options), model.generate(**inputs, **options, use_cache=False))


def test_the_reference_preset_has_the_size_that_is_told() -> None:
    with torch.device("meta"):
        model = ScoreVLMForConditionalGeneration(ScoreVLMConfig(connector="cross_attention", image_token_id=IMAGE))
    config = model.config
    assert config.fusion_layers == [3, 3, 3] and config.text_config.num_hidden_layers == 8
    assert config.vision_config.num_hidden_layers == 3 and config.picture_size == [224, 224]
    assert (model.connector.projection.in_features, model.connector.projection.out_features) == (256, 256)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert learning == 5_701_382 and sum(p.numel() for p in model.parameters()) == 25_165_830
    features = model.get_image_features(torch.zeros(1, 1, 224, 224, device="meta"))
    assert features.shape == (1, 196, 256)


def test_towers_have_names(tmp_path: Path) -> None:
    for name in TOWERS:
        config = ScoreVLMConfig(connector="cross_attention", text_config=text_options("small"), **tower_options(name))
        assert config.vision_feature_layer == (-2 if "lip" in name else -1)
        assert all(side % config.vision_config.patch_size == 0 for side in config.picture_size)
        assert (config.picture_mean is not None) == ("lip" in name)
    options = tower_options("timm/test_vit.r160_in1k")
    assert options["picture_size"] == [160, 160] and len(options["picture_mean"]) == 3
    with pytest.raises(ValueError, match="no architecture 'vit_of_nobody'"):
        tower_options("timm/vit_of_nobody")
    make_model(**OTHER_TOWERS["CLIP"]).vision_tower.save_pretrained(tmp_path)
    options = tower_options(str(tmp_path))
    assert options["vision_config"].model_type == "clip_vision_model" and options["picture_size"] == [32, 32]
    assert options["picture_mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    with pytest.raises(ValueError, match="no language model 'huge'"):
        text_options("huge")


def test_a_processor_writes_one_token_for_a_picture() -> None:
    processor = ScoreVLMProcessor(ScoreImageProcessor(), AlphaTexTokenizer(), image_column_px=WHOLE_PICTURE_PX)
    assert processor.replace_image_token({"widths": [1700]}, 0) == "<|image|>"


def test_the_defaults_of_the_other_connector_are_as_they_were() -> None:
    config = ScoreVLMConfig()
    assert config.connector == "mlp" and config.fusion_layers is None and config.picture_size is None
    assert config.vision_config.model_type == "score_tower" and config.text_config.num_hidden_layers == 12


def test_the_training_script_builds_it_on_a_trained_language_model(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    from intermezzo.processing.dense_labels import SparseLabels
    from intermezzo.processing.errors import InputError
    from intermezzo.train.score_vlm_data import ReaderCollate
    from intermezzo.train.train_score_vlm import ScoreVLMArguments, build_model

    text = {**text_config(1024), "num_hidden_layers": 6}
    language = AutoModelForCausalLM.from_config(AutoConfig.for_model(text.pop("model_type"), **text))
    language.save_pretrained(tmp_path / "lm")
    args = ScoreVLMArguments(connector="cross_attention", vision="small", lm=str(tmp_path / "lm"))
    model, processor = build_model(args)
    assert_same(dict(language.state_dict()), dict(model.language_model.state_dict()))
    assert model.config.fusion_layers == [1, 1, 1] and str(tmp_path) not in str(model.config.to_dict())
    none = SparseLabels(*(np.zeros((0, n)) for n in (5, 8, 5)))
    canvas = np.full((240, 400), 255, dtype=np.uint8)
    rows = [{"canvas": canvas, "width": 400, "height": 240, "labels": none, "text": "\\staff {tabs}\n3.3.1 |\n"}] * 2
    batch = ReaderCollate(LABELS, processor, augment=False, dense=False)(rows)
    assert (batch["input_ids"] == IMAGE).sum(-1).tolist() == [1, 1]
    out = model.train()(**batch)
    out.loss.backward()
    assert out.image_hidden_states.shape == (2, 196, 16) and model.connector.layers[0].gate_mlp.grad.abs() > 0
    with pytest.raises(InputError, match="name a trained one"):
        build_model(ScoreVLMArguments(connector="cross_attention", vision="small"))
    with pytest.raises(InputError, match="no such tower"):
        build_model(ScoreVLMArguments(connector="cross_attention", vision="timm/nobodys", lm=str(tmp_path / "lm")))
