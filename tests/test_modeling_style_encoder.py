"""StyleEncoder: laws of every model, any backbone, what learns, what the losses mean, bad weights."""

from __future__ import annotations

import copy
import math
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoModel

from intermezzo.configuration.configuration_style_encoder import PRESETS, StyleEncoderConfig
from intermezzo.modeling.modeling_style_encoder import StyleEncoderModel
from intermezzo.modeling.style_backbone import build_backbone, layer_groups, lora_targets, read_features
from intermezzo.processing.errors import InputError
from intermezzo.processing.processing_style_encoder import StyleEncoderProcessor

from .common import ModelLaws, assert_same

torch.set_num_threads(1)

SIZE = 32
SMALL = {"depths": (1, 1), "embed_dim": 16, "num_heads": (2, 2), "img_size": SIZE}
BACKBONES: dict[str, dict[str, Any]] = {
    "test_resnet": {"zero_init_last": False},  # else its branches begin at 0 and get no gradient in the first step
    "test_efficientnet": {},
    "test_convnext": {},
    "test_vit": {"img_size": SIZE},
    "test_mambaout": {},  # channels last
    "swin_tiny_patch4_window7_224": {**SMALL, "patch_size": 2, "window_size": 4},
    "swinv2_tiny_window8_256": {**SMALL, "window_size": 4},
    "eva02_tiny_patch14_224": {"img_size": 28, "embed_dim": 32, "depth": 2, "num_heads": 2},
}
PARTS = ("embed", "pooled", "mask")


def config_of(name: str = "test_resnet", **changes: Any) -> StyleEncoderConfig:
    sizes = dict(num_tokens=4, embed_size=12, style_size=8, hidden_size=16, num_query_layers=1, num_attention_heads=2)
    return StyleEncoderConfig(model_name=name, model_args=BACKBONES[name], **{**sizes, **changes})


def make(name: str = "test_resnet", **changes: Any) -> StyleEncoderModel:
    torch.manual_seed(0)
    return StyleEncoderModel(config_of(name, **changes)).eval()


def pictures(name: str = "test_resnet", count: int = 2) -> torch.Tensor:
    side = BACKBONES[name].get("img_size", SIZE)
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def inputs_of(config: StyleEncoderConfig, count: int) -> dict[str, torch.Tensor]:
    length, width = config.num_tokens, config.embed_size
    mask = (torch.arange(length) <= torch.arange(count)[:, None] % length).long()
    return {
        "pixel_values": torch.randn(count, 3, SIZE, SIZE),
        "target_embed": torch.randn(count, length, width),
        "target_pooled": torch.randn(count, width),
        "target_mask": mask,
        "style_labels": torch.arange(count) // 2,
    }


class TestStyleEncoderLaws(ModelLaws):
    model_class = StyleEncoderModel
    auto_class = AutoModel
    steps_to_fit = 120
    wrong_configs = (
        {"ignore_targets": ["embeds"]},
        {"loss_weights": {"cosine": 1.0}},
        {"loss_weights": {"style": -1.0}},
        {"num_attention_heads": 3},
        {"num_tokens": 0},
        {"temperature": 0.0},
        {"match_temperature": -1.0},
        {"model_args": {"pretrained": True}},
    )

    def tiny_config(self) -> StyleEncoderConfig:
        return config_of()

    def tiny_inputs(self, config: StyleEncoderConfig, batch_size: int = 2) -> dict[str, Any]:
        return inputs_of(config, batch_size)

    def make_inputs(self, model: Any, batch_size: int = 2) -> dict[str, Any]:
        # Two pictures of one style have no others to be told from: the contrastive loss needs two styles.
        return super().make_inputs(model, max(4, batch_size) if model.training else batch_size)

    def tiny_processor(self) -> StyleEncoderProcessor:
        return StyleEncoderProcessor.from_backbone("test_resnet")


# --- Any backbone


@pytest.mark.parametrize("name", BACKBONES)
def test_any_backbone_gives_the_triple_and_survives_a_reload(name, tmp_path, monkeypatch) -> None:
    model, x = make(name), pictures(name)
    with torch.no_grad():
        out = model(x, output_attentions=True)
    assert out.embed.shape == (2, 4, 12) and out.pooled.shape == (2, 12)
    assert out.mask.shape == out.mask_logits.shape == (2, 4)
    assert out.loss is None and bool(((out.mask > 0) & (out.mask < 1)).all())
    torch.testing.assert_close(out.mask, out.mask_logits.sigmoid())
    torch.testing.assert_close(out.style.norm(dim=-1), torch.ones(2))
    grid = out.attentions
    assert grid.shape[:2] == (2, 5) and grid.ndim == 4
    torch.testing.assert_close(grid.sum((2, 3)), torch.ones(2, 5))
    model.save_pretrained(tmp_path)
    # No network: a reload must not even try.
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *a, **k: pytest.fail("asked for weights"))
    again = AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert_same(dict(out.items()), dict(again(x, output_attentions=True).items()))


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_features_are_timms_own_and_tokens_lie_on_their_grid(name) -> None:
    torch.manual_seed(0)
    backbone, x = build_backbone(name, BACKBONES[name]).eval(), pictures(name)
    tokens, (high, wide), maps = read_features(backbone, x, [0, -1])
    assert tokens.shape == (2, high * wide, backbone.num_features) and len(maps) == 2
    whole = backbone.forward_features(x)
    if whole.ndim == 3:
        assert torch.equal(tokens, whole[:, whole.shape[1] - tokens.shape[1] :])
    else:
        last = whole if whole.shape[-1] == backbone.num_features else whole.permute(0, 2, 3, 1)
        assert torch.equal(tokens, last.reshape(2, -1, last.shape[-1]))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_mambaout"])
def test_what_was_looked_at_before_gives_the_same(name) -> None:
    model, x = make(name), pictures(name)
    with torch.no_grad():
        tokens, statistics, grid = model.look(x)
        plain = model(x, output_attentions=True)
        kept = model(feature_tokens=tokens, feature_statistics=statistics, output_attentions=True)
    for part in (*PARTS, "style"):
        assert_same(plain[part], kept[part])
    assert plain.attentions.shape[-2:] == grid and kept.attentions.shape[-2:] == (1, grid[0] * grid[1])
    for missing in ({}, {"feature_tokens": tokens}):
        with pytest.raises(ValueError, match="neither pixel_values nor both"):
            model(**missing)


def test_names_take_the_place_of_the_batchs_texts_in_the_match() -> None:
    model = make(loss_weights={"match": 1.0, "style": 0.0, "mask": 0.0, "embed": 0.0, "pooled": 0.0})
    inputs = inputs_of(model.config, 3)
    names = torch.randn(9, 12)
    answers = torch.eye(9)[:3]
    alone, among = model(**inputs), model(**inputs, target_names=names, name_answers=answers)
    assert set(alone.losses) == set(among.losses) == {"match"} and alone.loss != among.loss
    other = model(**inputs, target_names=names, name_answers=answers.roll(1, 0))
    assert other.loss != among.loss
    without = model(**{**inputs, "has_target": torch.zeros(3)}, target_names=names, name_answers=answers)
    assert without.loss == 0


def test_unknown_backbones_and_arguments_are_one_line() -> None:
    with pytest.raises(InputError, match="has no model 'test_resnot'"):
        StyleEncoderModel(StyleEncoderConfig(model_name="test_resnot"))
    with pytest.raises(InputError, match="test_resnet does not take") as caught:
        StyleEncoderModel(StyleEncoderConfig(model_name="test_resnet", model_args={"patch_size": 3}))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="does not take pictures"):
        make("swin_tiny_patch4_window7_224")(torch.zeros(1, 3, 48, 48))


def test_presets_are_the_promised_models() -> None:
    assert PRESETS["small"]().model_name == "tf_efficientnet_lite0"
    assert PRESETS["vit"](num_tokens=8).to_dict()["model_name"] == "vit_base_patch16_224"
    assert PRESETS["vit"](num_tokens=8).num_tokens == 8
    assert StyleEncoderConfig(loss_weights={"style": 2}).loss_weights["embed"] == 1.0  # the others keep theirs


# --- Weights


def test_weights_come_from_a_file_a_package_or_in_order(tmp_path, monkeypatch) -> None:
    torch.manual_seed(7)
    state = build_backbone("test_resnet", {}).state_dict()
    wanted = state["layer1.0.conv1.weight"]
    save_file({**state, "fc.weight": torch.zeros(10, 96)}, tmp_path / "weights.safetensors")
    model = StyleEncoderModel.from_backbone("test_resnet", str(tmp_path / "weights.safetensors"), num_tokens=2)
    assert torch.equal(model.backbone.state_dict()["layer1.0.conv1.weight"], wanted)
    renamed = {f"layer_{k}": v for k, v in enumerate(v for k, v in state.items() if "num_batches" not in k)}
    folder = tmp_path / "packaged"
    folder.mkdir()
    torch.save({"state_dict": {**renamed, "head": torch.zeros(3)}}, folder / "model.pth")
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    model = StyleEncoderModel.from_backbone("test_resnet", "package:packaged")
    assert torch.equal(model.backbone.state_dict()["layer1.0.conv1.weight"], wanted)


class RunsCode:
    def __reduce__(self) -> Any:
        return (sys.exit, (3,))


def test_wrong_weights_are_one_clear_line(tmp_path, monkeypatch) -> None:
    other = tmp_path / "other.pt"
    torch.save(build_backbone("test_convnext", {}).state_dict(), other)
    with pytest.raises(InputError, match=r"other.pt: is of another backbone: \d+ of \d+ weights lack"):
        StyleEncoderModel.from_backbone("test_resnet", str(other))
    wide = {k: v if v.ndim < 4 else v[:1] for k, v in build_backbone("test_resnet", {}).state_dict().items()}
    torch.save(wide, other)
    with pytest.raises(InputError, match=r"is of another backbone: 'conv1.*here"):
        StyleEncoderModel.from_backbone("test_resnet", str(other))
    torch.save(RunsCode(), other)
    with pytest.raises(InputError, match="would run code"):
        StyleEncoderModel.from_backbone("test_resnet", str(other))
    torch.save([1, 2], other)
    with pytest.raises(InputError, match="holds no weights by name"):
        StyleEncoderModel.from_backbone("test_resnet", str(other))
    other.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="damaged"):
        StyleEncoderModel.from_backbone("test_resnet", str(other))
    with pytest.raises(InputError, match="there is no such file"):
        StyleEncoderModel.from_backbone("test_resnet", str(tmp_path / "none.pt"))
    with pytest.raises(InputError, match="is not installed"):
        StyleEncoderModel.from_backbone("test_resnet", "package:no_such_package_here")

    def offline(*args: Any, **kwargs: Any) -> ModuleType:
        raise OSError("no route to host\nmore")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(InputError, match=r"no weights from the Hub \(no route to host\)"):
        from intermezzo.modeling.style_backbone import load_backbone_weights

        load_backbone_weights(nn.Identity(), "test_resnet", "hub")


# --- What learns


def learning(model: StyleEncoderModel) -> list[str]:
    return [name for name, parameter in model.backbone.named_parameters() if parameter.requires_grad]


def backward(model: StyleEncoderModel, name: str = "test_resnet") -> None:
    inputs = inputs_of(model.config, 4) | {"pixel_values": pictures(name, 4)}
    model.train()(**inputs).loss.backward()


def test_frozen_and_partly_frozen_backbones() -> None:
    model = make()
    model.set_backbone_learning("frozen")
    before = copy.deepcopy(model.backbone.state_dict())
    backward(model)
    assert learning(model) == [] and model.from_features.weight.grad is not None
    assert_same(before, dict(model.backbone.state_dict()))  # running statistics, too
    model.set_backbone_learning("partial", last_groups=1)
    last = layer_groups(model.backbone)[-1]
    assert learning(model) == last and 0 < len(last) < len(list(model.backbone.parameters()))
    assert all(name.startswith("layer4") for name in last)
    backward(model)
    after = model.backbone.state_dict()
    assert torch.equal(after["bn1.running_mean"], before["bn1.running_mean"])
    moved = [k for k in after if "running_mean" in k and not torch.equal(after[k], before[k])]
    assert moved and all(k.startswith("layer4") for k in moved)
    model.set_backbone_learning("full")
    assert len(learning(model)) == len(list(model.backbone.parameters()))
    with pytest.raises(InputError, match="9 groups of layers"):
        model.set_backbone_learning("partial", last_groups=9)
    with pytest.raises(InputError, match="'half'"):
        model.set_backbone_learning("half")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "eva02_tiny_patch14_224", "swin_tiny_patch4_window7_224"])
def test_lora_learns_everywhere_and_saves_a_plain_model(name, tmp_path) -> None:
    model = make(name)
    plain = model(pictures(name)).pooled
    keys = set(model.state_dict())
    model.set_backbone_learning("lora", lora_rank=2)
    assert torch.equal(model.eval()(pictures(name)).pooled, plain)  # begins as nothing
    assert learning(model) and all("lora_" in key for key in learning(model))
    backward(model, name)
    for key, parameter in model.backbone.named_parameters():
        if "lora_B" in key:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, key
            with torch.no_grad():
                parameter -= 0.1 * parameter.grad.sign()
    moved = model.eval()(pictures(name)).pooled
    assert not torch.allclose(moved, plain)
    model.save_pretrained(tmp_path)
    again = StyleEncoderModel.from_pretrained(tmp_path).eval()
    assert set(again.state_dict()) == keys
    torch.testing.assert_close(again(pictures(name)).pooled, moved, rtol=1e-4, atol=1e-5)
    assert all("lora_" in key for key in learning(model))  # the model in hand goes on


def test_lora_leaves_out_what_it_can_not_reach() -> None:
    eva = build_backbone("eva02_base_patch14_224", {"depth": 1, "embed_dim": 32, "num_heads": 2, "img_size": 28})
    assert eva.blocks[0].attn.q_bias is None or not any(name.endswith("qkv") for name in lora_targets(eva))
    swin = build_backbone("swinv2_tiny_window8_256", BACKBONES["swinv2_tiny_window8_256"])
    assert lora_targets(swin) and not any(name.endswith("qkv") for name in lora_targets(swin))


def test_peft_wraps_the_model(tmp_path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    model = make("test_vit")
    wrapped = get_peft_model(model, LoraConfig(r=2, target_modules=r"backbone\..*\.(qkv|fc1)", init_lora_weights=False))
    found = wrapped.eval()(pictures("test_vit")).pooled
    wrapped.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(make("test_vit"), tmp_path).eval()
    torch.testing.assert_close(again(pictures("test_vit")).pooled, found)


# --- Targets


@pytest.mark.parametrize("ignored", PARTS)
def test_an_ignored_target_teaches_nothing(ignored) -> None:
    model = make(ignore_targets=[ignored], loss_weights={"match": 1.0})
    inputs = inputs_of(model.config, 4)
    out = model(**inputs)
    assert not any(name.startswith(ignored) for name in out.losses)
    out.loss.backward()
    head = getattr(model, f"{ignored}_head")
    assert head.weight.grad is None or head.weight.grad.abs().sum() == 0
    if ignored != "mask":  # the mask still says which places of the embedding count
        changed = {**inputs, f"target_{ignored}": inputs[f"target_{ignored}"] + 1}
        assert torch.equal(model(**changed).loss, out.loss)


@torch.no_grad()
def test_rows_without_targets_and_masked_places_teach_nothing() -> None:
    model = make(loss_weights={"style": 0.0})
    inputs = inputs_of(model.config, 4)
    rows = torch.tensor([1, 0, 1, 0])
    found = model(**inputs, has_target=rows).losses
    changed = {k: v.clone() for k, v in inputs.items()}
    for name in PARTS:
        value = changed[f"target_{name}"]
        changed[f"target_{name}"] = torch.where(
            rows.view(-1, *[1] * (value.ndim - 1)).bool(), value, torch.full_like(value, 1 if name == "mask" else 9)
        )
    assert_same(found, model(**changed, has_target=rows).losses)
    changed = {**inputs, "target_embed": inputs["target_embed"].clone()}
    changed["target_embed"][inputs["target_mask"] == 0] = math.nan  # padding of the text encoder may hold anything
    assert_same(model(**inputs).losses, model(**changed).losses)


def test_targets_of_another_shape_show_both() -> None:
    model = make()
    inputs = inputs_of(model.config, 2)
    inputs["target_embed"] = inputs["target_embed"][:, :3]
    with pytest.raises(ValueError, match=r"target_embed has the shape \(2, 3, 12\), the model gives \(2, 4, 12\)"):
        model(**inputs)


@pytest.mark.parametrize(
    ("count", "wanted"), [(1, [4]), (2, [2, 4]), (3, [1, 3, 4]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])]
)
def test_maps_of_the_style_are_spread_over_the_depth_and_all_where_so_many_are_asked_for(
    count: int, wanted: list[int]
) -> None:
    from intermezzo.modeling.style_backbone import build_backbone, map_indices

    backbone = build_backbone("test_efficientnet", {})
    indices, channels = map_indices(backbone, count)
    assert indices == wanted and channels == [backbone.feature_info[k]["num_chs"] for k in wanted]
