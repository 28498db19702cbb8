"""An encoder with a tower's eyes: what it sees lies where it stands, and the eyes never change."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from intermezzo.configuration.configuration_image_vq import ImageVQConfig
from intermezzo.configuration.configuration_score_tower import ScoreTowerConfig
from intermezzo.modeling.image_vq_tower import copy_eyes, tower_sizes
from intermezzo.modeling.modeling_image_vq import ImageVQModel
from intermezzo.modeling.modeling_score_tower import ScoreTowerModel
from intermezzo.modeling.quantizers import FiniteScalarQuantizer
from intermezzo.modeling.tower_convolutions import convolve
from intermezzo.processing.dense_labels import build_label_space
from intermezzo.processing.errors import InputError
from intermezzo.processing.grid_pictures import GridGeometry, canvas_to_grid, to_ink
from intermezzo.train.train_image_vq import ImageVQArguments, build_model

from .test_modeling_image_vq import TINY, ImageVQLaws, pictures
from .tiny_lessons import system_row

torch.set_num_threads(1)

EYES = dict(stem_channels=6, stage_channels=[6, 8, 10], stage_depths=[0, 1, 1], fine_channels=[4, 6])
SIZES: dict[str, Any] = dict(
    patch_height=8, patch_width=16, channels=(6, 8, 8, 8), code_depth=1, codebook="fsq", fsq_levels=(4, 4, 3)
)


def with_eyes(**changes: Any) -> ImageVQConfig:
    return ImageVQConfig(**{**TINY, **SIZES, "codebook_size": None, "tower": EYES, **changes})


class TestEyes(ImageVQLaws):
    frozen = ("encoder.eyes.",)

    def tiny_config(self) -> ImageVQConfig:
        return with_eyes()

    def tiny_inputs(self, config: Any, batch_size: int = 2) -> dict[str, Any]:
        return {"pixel_values": pictures(batch_size, 96), "widths": torch.full((batch_size,), 32)}


def tower() -> ScoreTowerModel:
    torch.manual_seed(0)
    config = ScoreTowerConfig(**EYES, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                              string_hidden_size=8, labels=build_label_space([]))  # fmt: skip
    return ScoreTowerModel(config).eval()


@pytest.mark.parametrize("wide", [8, 16])
def test_what_is_seen_lies_where_it_stands(wide: int) -> None:
    """The grid picture's patches see what the tower sees at the same string and place of the canvas."""
    model = ImageVQModel(with_eyes(patch_width=wide, channels=(6, 8, 8, 8) if wide == 16 else (6, 8, 8))).eval()
    eyes = tower()
    assert tower_sizes(eyes.config) == EYES
    copy_eyes(model.encoder, eyes)
    canvas = system_row((2, 12, 5, 7), "a 0").image[:240]
    canvas = F.pad(torch.from_numpy(canvas), (0, 8), value=255).numpy()
    rolled = torch.from_numpy(canvas).roll(240 - 120 - 100, 0).numpy()  # the top line 120 px above the bottom
    seen = convolve(eyes, torch.from_numpy(to_ink(rolled))[None, None])[0]  # (C, 24, 16)
    grid = canvas_to_grid(rolled, GridGeometry(8, wide))
    found = model.encoder.look(torch.from_numpy(to_ink(grid))[None, None])[0]
    halves = wide // 8
    found = found.unflatten(0, (-1, halves)).permute(0, 2, 3, 1).flatten(2)  # (C, h, places of 10 px)
    where = (torch.arange(found.shape[-1]) + 0.5) * 10 / 8 - 0.5

    def likeness(down: int, right: float) -> float:
        at = (where + right).round().long().clamp(1, seen.shape[-1] - 2)
        other = seen[:, 12 + down : 18 + down, at]
        return float(F.cosine_similarity(found[:, -10:-4].flatten(), other.flatten(), dim=0))

    right_place = likeness(0, 0.0)
    assert right_place > 0.7
    assert all(likeness(down, right) < right_place for down, right in ((1, 0), (-1, 0), (0, 1.5), (0, -1.5)))


def test_the_eyes_never_change() -> None:
    model = ImageVQModel(with_eyes(reading_weight=1.0)).train()
    before = {name: value.clone() for name, value in model.encoder.eyes.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        model(pictures(2, 96)).loss.backward()
        optimiser.step()
    after = model.encoder.eyes.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(p.requires_grad for p in model.encoder.eyes.parameters())


def test_reading_alone_draws_nothing_and_the_next_stage_draws_again(tmp_path) -> None:
    torch.manual_seed(0)
    model = ImageVQModel(with_eyes(reading_weight=0.5, pixel_weight=0.0, edge_weight=0.0)).train()
    frets, beats = torch.zeros(2, 10, 4, dtype=torch.long), torch.ones(2, 4, dtype=torch.long)
    out = model(pictures(2, 96), frets=frets, beats=beats)
    assert out.reconstruction is None and set(out.losses) == {"frets", "values"}
    out.loss.backward()
    assert model.decoder.out.weight.grad is None and model.encoder.out.weight.grad.abs().sum() > 0
    assert model.eval()(pictures(2, 96)).reconstruction is not None
    model.save_pretrained(tmp_path)
    again = build_model(ImageVQArguments(model=str(tmp_path), fsq_dither=0.25))
    assert (again.config.pixel_weight, again.config.edge_weight, again.quantizer.dither) == (1.0, 1.0, 0.25)
    ImageVQModel(with_eyes()).save_pretrained(tmp_path / "plain")
    with pytest.raises(InputError, match="has a head to read"):
        build_model(ImageVQArguments(model=str(tmp_path / "plain"), read_only=True))
    with pytest.raises(ValueError, match="16 px high"):
        with_eyes(patch_height=16)


@pytest.mark.parametrize("codebook", ["fsq", "vq"])
def test_a_decoder_may_learn_on_while_codes_stay(tmp_path, codebook: str) -> None:
    torch.manual_seed(0)
    config = with_eyes(reading_weight=0.5) if codebook == "fsq" else ImageVQConfig(**TINY)
    ImageVQModel(config).save_pretrained(tmp_path)
    ink = pictures(2, 96)
    drawn = ImageVQModel.from_pretrained(tmp_path).eval()(ink).reconstruction
    model = build_model(ImageVQArguments(model=str(tmp_path), decoder_only=True, decoder_table=True)).eval()
    assert torch.equal(model(ink).reconstruction, drawn)  # the table says nothing yet
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    codes = model.encode(ink)
    optimiser = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=0.05)
    losses = []
    for _ in range(12):
        out = model(ink)
        assert torch.equal(out.codes, codes)
        out.loss.backward()
        optimiser.step()
        losses.append(float(out.loss))
    assert losses[-1] < losses[0]
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert "decoder.table.weight" in changed and all(name.startswith("decoder.") for name in changed)
    model.eval().save_pretrained(tmp_path / "again")
    again = ImageVQModel.from_pretrained(tmp_path / "again").eval()
    assert torch.equal(again.decode(codes), model.decode(codes))
    for wrong in (dict(decoder_only=True), dict(model=str(tmp_path), decoder_only=True, read_only=True)):
        with pytest.raises(InputError, match="decoder_only goes on from a model"):
            build_model(ImageVQArguments(**wrong))


def test_dither_moves_less_than_a_level_and_only_in_training() -> None:
    torch.manual_seed(0)
    plain, dithered = FiniteScalarQuantizer((5, 3)), FiniteScalarQuantizer((5, 3), dither=0.5)
    features = torch.randn(400, 2)
    rounded = plain.train()(features)
    moved = dithered.train()(features)
    assert torch.equal(moved.codes, rounded.codes)  # what is kept is always rounded
    level = torch.tensor([2 / 4, 2 / 2])
    bounded = torch.sigmoid(features) * 2 - 1
    same = (moved.values == rounded.values).float().mean()
    assert 0.4 < float(same) < 0.6
    assert ((moved.values - bounded).abs() <= level / 2 + 1e-6).all()
    assert torch.equal(dithered.eval()(features).values, rounded.values)
