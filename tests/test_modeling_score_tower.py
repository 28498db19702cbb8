"""The dense tower: laws of every model, geometry, padding, golden numbers, loss."""

from __future__ import annotations

import copy
import itertools
import re
from typing import Any

import pytest
import torch
from transformers import AutoModel

from intermezzo.configuration.configuration_score_tower import ScoreTowerConfig
from intermezzo.modeling.dense_losses import dense_loss
from intermezzo.modeling.modeling_score_tower import SLOTS, ScoreTowerModel
from intermezzo.modeling.tower_growth import deepened
from intermezzo.processing.system_canvas import BATCH_MARGIN_PX

from .common import ModelLaws, tensors
from .tiny_score_vlm import LABELS, dense_labels, pictures, tower_config

torch.set_num_threads(1)


class TestScoreTowerLaws(ModelLaws):
    model_class = ScoreTowerModel
    auto_class = AutoModel
    fit_learning_rate = 1e-2
    wrong_configs = (
        {"stage_channels": [4, 6]},
        {"num_attention_heads": 3},
        {"max_strings": 20},
        {"column_px": 16},
        {"fine_channels": [4, 6, 8]},
        {"hidden_size": "wide"},
    )

    def tiny_config(self) -> ScoreTowerConfig:
        return tower_config()

    def tiny_inputs(self, config: Any, batch_size: int = 2) -> dict[str, Any]:
        return {
            "pixel_values": pictures(batch_size),
            "widths": torch.full((batch_size,), 64),
            "dense_labels": dense_labels(batch_size),
        }

    def test_rows_do_not_see_each_other(self) -> None:
        model = self.make()
        inputs = {k: v for k, v in self.make_inputs(model).items() if k != "dense_labels"}
        both = dict(tensors(self.outputs(model, inputs)))
        alone = dict(tensors(self.outputs(model, {k: v[:1] for k, v in inputs.items()})))
        for name, value in alone.items():
            torch.testing.assert_close(both[name][:1], value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def look(model: ScoreTowerModel, pixels: torch.Tensor, widths: list[int] | None = None) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        out = model(pixels, None if widths is None else torch.tensor(widths))
    return {"columns": out.last_hidden_state, **out.dense_logits}


@pytest.fixture(scope="module")
def tower() -> ScoreTowerModel:
    torch.manual_seed(0)
    return ScoreTowerModel(tower_config()).eval()


def test_shapes_of_all_fields(tower: ScoreTowerModel) -> None:
    found = {name: tuple(value.shape) for name, value in look(tower, pictures(2, 96, 240)).items()}
    assert found == {
        "columns": (2, 12, 16),
        "frets": (2, 7, 24, 7),
        "string_voice": (2, 7, 24, 2),
        "note_effects": (2, 7, 24, 2),
        "beats": (2, 2, 24, 3),
        "durations": (2, 2, 24, 7),
        "dots": (2, 2, 24, 3),
        "tuplets": (2, 2, 24, 2),
        "graces": (2, 2, 24, 2),
        "beat_effects": (2, 2, 24, 1),
        "bar_edges": (2, 24, 2),
        "bar_starts": (2, 24, 3),
        "bar_ends": (2, 24, 1),
        "tempo_digits": (2, 24, 3, 10),
    }


@pytest.mark.parametrize("size", [(240, 72), (245, 64), (230, 64)])
def test_sizes_that_do_not_fit_are_refused_with_the_size(tower: ScoreTowerModel, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]}"):
        tower(torch.zeros(1, 1, *size))


def test_labels_without_a_field_are_refused_by_name() -> None:
    some = {name: classes for name, classes in LABELS.items() if name not in ("graces", "frets")}
    with pytest.raises(ValueError, match="frets, graces"):
        ScoreTowerModel(tower_config(labels=some))
    with pytest.raises(ValueError, match="nothing"):
        ScoreTowerModel(ScoreTowerConfig())


def test_a_string_head_looks_at_its_own_line(tower: ScoreTowerModel) -> None:
    """Ink one line lower is seen one row lower, and nearest to the row of its string."""
    blank = torch.zeros(1, 1, 400, 128)
    seen = []
    with torch.no_grad():
        _, before = tower.forward_features(blank)
        for string in range(tower.config.max_strings):
            inked = blank.clone()
            y = 280 + 10 * string  # the top line of the tab is 120 px above the bottom
            inked[..., y - 4 : y + 5, 60:68] = 1
            seen.append(tower.forward_features(inked)[1] - before)
    for string, (one, next_one) in enumerate(itertools.pairwise(seen)):
        torch.testing.assert_close(one[:, :, :-1], next_one[:, :, 1:], rtol=1e-4, atol=1e-5)
        assert abs(int(one.abs().sum(dim=(0, 1, 3)).argmax()) - string) <= 1


def test_blank_rows_above_a_tab_say_nothing(tower: ScoreTowerModel) -> None:
    """A tab that shares a batch with taller systems is padded on top; its rows of strings are the same."""
    tab = pictures(1, 64, 240)
    tab[:, :, :80] = 0  # the canvas above the highest effects
    tall = torch.nn.functional.pad(tab, (0, 0, 80, 0))
    with torch.no_grad():
        _, low = tower.forward_features(tab)
        _, high = tower.forward_features(tall)
    torch.testing.assert_close(low, high, rtol=1e-5, atol=1e-6)


def test_padding_does_not_change_what_is_read() -> None:
    """Right of a picture there may be any number of blank columns, put there by wider pictures of its batch."""
    torch.manual_seed(0)
    model = ScoreTowerModel(tower_config()).eval()
    picture = pictures(1, 64, 240)
    alone, far = (torch.nn.functional.pad(picture, (0, room)) for room in (BATCH_MARGIN_PX, 192))
    a, b = look(model, alone, [64]), look(model, far, [64])
    for name in sorted(a.keys() - {"columns"}):
        along = -3 if a[name].ndim == 4 and name == "tempo_digits" else -2
        one, other = (x.narrow(along, 0, 16) for x in (a[name], b[name]))  # slots of 4 px
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")
    torch.testing.assert_close(a["columns"][:, :8], b["columns"][:, :8], rtol=1e-4, atol=1e-5)


def fill(model: ScoreTowerModel) -> ScoreTowerModel:
    """Weights that no random generator decides."""
    with torch.no_grad():
        for k, (name, parameter) in enumerate(model.named_parameters()):
            wave = torch.cos(torch.arange(parameter.numel(), dtype=torch.float64) * 0.7 + k)
            scale = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.25
            parameter.copy_((wave * scale).reshape(parameter.shape).float() + (scale == 1.0))
    return model


GOLDEN = {
    "columns": [0.1343, 1.26099],
    "bar_edges": [-0.312403, 2.17922],
    "bar_starts": [0.796669, 2.68182],
    "bar_ends": [-3.872, 1.75655],
    "tempo_digits": [0.0609929, 2.62141],
    "beats": [-0.534107, 1.36329],
    "durations": [0.0894859, 1.5555],
    "dots": [0.151658, 1.47325],
    "tuplets": [-0.943484, 1.24251],
    "graces": [0.494767, 1.49014],
    "beat_effects": [1.50819, 0.884319],
    "frets": [-0.744008, 10.587],
    "string_voice": [2.80877, 5.71996],
    "note_effects": [-5.39781, 9.89803],
    "gradient of the stem": [-15.5582, 372.441],
    "loss": [808.552, 0],
}


def golden_numbers() -> dict[str, list[float]]:
    model = fill(ScoreTowerModel(tower_config())).eval()
    y, x = torch.meshgrid(torch.arange(320), torch.arange(64), indexing="ij")
    picture = ((y * 7 + x * 13) % 11 < 3).float()[None, None]
    out = model(picture, torch.tensor([64]), dense_labels(1))
    out.loss.backward()
    values = {"columns": out.last_hidden_state, **out.dense_logits}
    values["gradient of the stem"] = model.stem.weight.grad
    values["loss"] = out.loss.detach()
    return {
        name: [float(v.detach().mean()), float(v.detach().std()) if v.numel() > 1 else 0.0]
        for name, v in values.items()
    }


def test_golden_numbers() -> None:
    """Features, logits and a gradient, in fp32: an unnoticed change of the computation shows here."""
    found = golden_numbers()
    assert found.keys() == GOLDEN.keys()
    for name, value in found.items():
        assert value == pytest.approx(GOLDEN[name], rel=1e-4, abs=1e-4), name


def test_left_out_places_do_not_count() -> None:
    """The loss and its gradient stay when logits at places without a label move."""
    torch.manual_seed(0)
    model = ScoreTowerModel(tower_config()).eval()
    labels = dense_labels(2)
    labels["frets"][0, :, 10:] = labels["beats"][0, :, 10:] = -100
    labels["bar_edges"][0, 10:] = -1
    logits = look(model, pictures(2))
    logits.pop("columns")
    loss, parts = dense_loss(logits, labels)
    assert set(parts) == set(logits)
    torch.testing.assert_close(loss, torch.stack(list(parts.values())).sum())
    other = copy.deepcopy(logits)
    other["frets"][0, :, 10:] += torch.randn(7, 6, 7)
    other["bar_edges"][0, 10:] -= 3
    other["durations"][labels["durations"] == -100] += torch.randn(7)
    other["note_effects"][labels["note_effects"][..., 0] < 0] += 5
    torch.testing.assert_close(dense_loss(other, labels)[0], loss)


def test_the_loss_of_a_batch_without_labels_is_finite() -> None:
    torch.manual_seed(0)
    model = ScoreTowerModel(tower_config())
    labels = {
        name: torch.full_like(value, -1 if value.dtype == torch.int8 else -100)
        for name, value in dense_labels(1).items()
    }
    loss = model(pictures(1), dense_labels=labels).loss
    loss.backward()
    assert float(loss) == 0.0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_perfect_logits_have_no_loss() -> None:
    labels = dense_labels(2)
    torch.manual_seed(0)
    logits = look(ScoreTowerModel(tower_config()).eval(), pictures(2))
    logits.pop("columns")
    for name, value in logits.items():
        wanted = labels[name]
        if value.ndim == wanted.ndim:  # flags
            logits[name] = torch.where(wanted > 0, 30.0, -30.0)
        else:
            logits[name] = torch.nn.functional.one_hot(wanted.clamp(min=0).long(), value.shape[-1]) * 60.0
    assert float(dense_loss(logits, labels)[0]) < 1e-6


def test_a_deepened_tower_reads_the_same_and_can_learn(tower: ScoreTowerModel) -> None:
    old = fill(ScoreTowerModel(tower_config(stage_depths=[0, 1, 2], num_hidden_layers=1))).eval()
    new = deepened(old, [1, 3, 2], 3)
    assert new.num_parameters() > old.num_parameters() and list(new.config.stage_depths) == [1, 3, 2]
    pixels = pictures(2)
    before, after = look(old, pixels), look(new, pixels)
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    new.train()
    new(pixels, dense_labels=dense_labels(2)).loss.backward()
    assert new.layers[2].fc2.weight.grad.abs().sum() > 0
    assert all(new.stages[k].conv2.norm.weight.grad.abs().sum() > 0 for k in (1, 4, 5))
    for depths, layers in (([0, 0, 2], 3), ([0, 1], 3), ([0, 1, 2], 0)):
        with pytest.raises(ValueError, match="can not become"):
            deepened(old, depths, layers)


def test_the_docstring_of_the_heads_names_every_field(tower: ScoreTowerModel) -> None:
    from intermezzo.modeling.modeling_score_tower import DenseHeads

    fields = {*tower.heads.column_fields, *tower.heads.voice_fields, *tower.heads.string_fields}
    assert fields == set(re.findall(r"`(\w+)`", DenseHeads.__doc__ or "")) & fields
    assert SLOTS == 2
