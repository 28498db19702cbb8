"""The picture tokenizer: laws of every model, codebooks, losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModel, AutoProcessor

from intermezzo.configuration.configuration_image_vq import BORROWED_KINDS, ImageVQConfig
from intermezzo.modeling.image_vq_losses import pixel_weights, reconstruction_losses, staff_lines
from intermezzo.modeling.modeling_image_vq import ImageVQModel, borrow_image_vq
from intermezzo.modeling.modeling_score_tower import ScoreTowerModel
from intermezzo.modeling.quantizers import FiniteScalarQuantizer, VectorQuantizer
from intermezzo.processing.errors import InputError
from intermezzo.processing.grid_pictures import GridGeometry
from intermezzo.train.score_vlm_data import PackedSystems
from intermezzo.train.train_image_vq import main as train_image_vq

from .common import ModelLaws
from .tiny_lessons import packed_folder, pieces
from .tiny_score_vlm import tower_config

torch.set_num_threads(1)

TINY: dict[str, Any] = dict(
    patch_height=8,
    patch_width=8,
    channels=(6, 8, 8),
    depth=0,
    code_depth=1,
    codebook="vq",
    codebook_size=32,
    codebook_dim=4,
    codebook_warmup=0,
)


def pictures(count: int, height: int = 16, width: int = 32) -> torch.Tensor:
    """Lines and blocks."""
    ink = torch.zeros(count, 1, height, width)
    ink[:, :, 4::8] = 1
    for i in range(count):
        ink[i, :, 2 : 6 + i % 4, 3 * i % 24 : 3 * i % 24 + 5] = 0.75
    return ink


class ImageVQLaws(ModelLaws):
    model_class = ImageVQModel
    auto_class = AutoModel
    fit_learning_rate = 2e-2
    # A feature between two codes goes to either one by the last bits of bfloat16, and the patch with it.
    bfloat16_tolerance = 1.0
    wrong_configs = (
        {"patch_height": 12},
        {"channels": [4, 6]},
        {"codebook": "lfq"},
        {"codebook_size": 1},
        {"ema_decay": 1.0},
        {"stroke_weight": -1},
        {"line_px": 10},
    )

    def tiny_config(self) -> ImageVQConfig:
        return ImageVQConfig(**TINY)

    def tiny_inputs(self, config: Any, batch_size: int = 2) -> dict[str, Any]:
        return {"pixel_values": pictures(batch_size), "widths": torch.full((batch_size,), 32)}


class TestVectorCodebook(ImageVQLaws):
    pass


class TestScalarCodebook(ImageVQLaws):
    def tiny_config(self) -> ImageVQConfig:
        return ImageVQConfig(**{**TINY, "codebook": "fsq", "fsq_levels": (4, 4, 3), "codebook_size": None})


def make(**changes: Any) -> ImageVQModel:
    torch.manual_seed(0)
    return ImageVQModel(ImageVQConfig(**{**TINY, **changes}))


def test_sizes_of_the_codebook_must_agree() -> None:
    assert ImageVQConfig(codebook="fsq", fsq_levels=(8, 5, 5)).codebook_size == 200
    with pytest.raises(Exception, match=r"512.*200"):
        ImageVQConfig(codebook="fsq", fsq_levels=(8, 5, 5), codebook_size=512)


@pytest.mark.parametrize(("patch", "channels"), [((16, 8), 4), ((16, 16), 4), ((8, 8), 3), ((8, 16), 4)])
def test_patches_and_grids(patch: tuple[int, int], channels: int) -> None:
    model = make(patch_height=patch[0], patch_width=patch[1], channels=(4,) * channels).eval()
    ink = torch.rand(2, 1, 32, 48)
    codes = model.encode(ink)
    assert codes.shape == (2, 32 // patch[0], 48 // patch[1]) and codes.dtype == torch.int64
    with torch.no_grad():
        drawn = model.decode(codes)
        torch.testing.assert_close(drawn, model(ink).reconstruction)
    assert drawn.shape == ink.shape and drawn.min() >= 0 and drawn.max() <= 1


def test_a_code_changes_what_lies_around_it() -> None:
    """The decoder puts each patch where its code stands, rows and columns not mixed up."""
    model = make(patch_height=16, channels=(6, 8, 8, 8), code_depth=0).eval()
    base = torch.zeros(1, 9, 15, dtype=torch.long)
    with torch.no_grad():
        before = model.decode(base)
        for row, column in ((0, 0), (4, 2), (8, 14), (2, 11), (6, 7)):
            codes = base.clone()
            codes[0, row, column] = 5
            moved = (model.decode(codes) != before)[0, 0]
            ys, xs = moved.any(1).nonzero()[:, 0], moved.any(0).nonzero()[:, 0]
            # Convolutions see as far to each side; the picture's edge may cut that off.
            assert int(ys[0]) in range(16 * row - 32, 16 * row + 1) or row < 2
            assert int(ys[-1]) in range(16 * row + 15, 16 * row + 48) or row > 6
            assert int(xs[0]) in range(8 * column - 24, 8 * column + 1) or column < 3
            assert int(xs[-1]) in range(8 * column + 7, 8 * column + 32) or column > 11
            assert moved[16 * row : 16 * row + 16, 8 * column : 8 * column + 8].float().mean() > 0.5


def test_bad_inputs_are_told_in_one_line() -> None:
    model = make().eval()
    for codes in (torch.full((1, 2, 2), 32), torch.full((1, 2, 2), -1)):
        with pytest.raises(InputError, match="outside the codebook of 32"):
            model.decode(codes)
    with pytest.raises(InputError, match="20 x 32 px"):
        model.encode(torch.zeros(1, 1, 20, 32))
    with pytest.raises(InputError, match="shape"):
        model.encode(torch.zeros(1, 3, 16, 32))
    with pytest.raises(InputError, match="shape"):
        model.decode(torch.zeros(2, 2, dtype=torch.long))


def test_fsq_codes_and_vectors_belong_together() -> None:
    quantizer = FiniteScalarQuantizer((4, 3, 2))
    codes = torch.arange(24)
    vectors = quantizer.lookup(codes)
    assert len({tuple(v.tolist()) for v in vectors}) == 24
    # Features whose sigmoid is at a level come back as that level's code.
    features = torch.logit(((vectors + 1) / 2).clamp(1e-3, 1 - 1e-3))
    found = quantizer(features)
    assert torch.equal(found.codes, codes)
    torch.testing.assert_close(found.values, vectors)


def test_gradients_pass_straight_through() -> None:
    for quantizer in (FiniteScalarQuantizer((5, 5)), VectorQuantizer(8, 2)):
        features = torch.randn(6, 2, requires_grad=True)
        quantizer.eval()(features).values.square().sum().backward()
        assert features.grad is not None and features.grad.abs().sum() > 0


def test_evaluation_leaves_the_codebook_alone() -> None:
    quantizer = VectorQuantizer(8, 2)
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer.eval()(torch.randn(5, 2))
    with torch.no_grad():
        quantizer.train()(torch.randn(5, 2))
    for name, value in quantizer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_vectors_move_to_what_chooses_them_and_dead_ones_start_anew() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(16, 2, decay=0.8, revive_below=0.02).train()
    angles = torch.tensor([0.1, 1.2, 2.9, 4.4])
    centres = torch.stack([angles.cos(), angles.sin()], dim=-1)
    for _ in range(60):
        quantizer(centres[torch.randint(4, (64,))] + 0.01 * torch.randn(64, 2))
    found = quantizer.eval()(centres)
    assert float(found.loss) < 1e-3
    assert len(set(found.codes.tolist())) == 4
    # Another place is now what there is: codes that were left behind move there.
    quantizer.train()
    place = torch.nn.functional.normalize(torch.tensor([[-0.3, -0.9]]), dim=-1)
    for _ in range(60):
        quantizer(place.expand(64, 2) + 0.01 * torch.randn(64, 2))
    assert float((quantizer.codebook @ place.T).gt(0.99).float().mean()) > 0.9


def test_features_pass_as_they_are_while_the_codebook_warms_up() -> None:
    quantizer = VectorQuantizer(4, 2, warmup=2).train()
    features = torch.randn(20, 2, requires_grad=True)
    directions = torch.nn.functional.normalize(features, dim=-1)
    for step in range(4):
        found = quantizer(features)
        assert torch.allclose(found.values, directions) == (step < 2)
    assert not torch.allclose(quantizer.eval()(features).values, directions)


def test_staff_lines_weigh_less_than_digits() -> None:
    ink = torch.zeros(1, 1, 24, 64)
    ink[..., 4, :] = 1
    ink[..., 10:18, 30:34] = 1
    assert torch.equal(staff_lines(ink)[..., 4, 13:51], torch.ones(1, 1, 38))
    assert float(staff_lines(ink)[..., 10:18, :].max()) == 0
    weights = pixel_weights(ink, 4.0, 0.0)
    assert float(weights[..., 14, 31]) == 5 and float(weights[..., 4, 32]) == 1
    assert float(weights[..., 14, 29]) == 5 and float(weights[..., 14, 27]) == 1


def test_a_perfect_picture_costs_nothing_and_padding_does_not_count() -> None:
    ink = torch.rand(2, 1, 8, 24)
    mask = (torch.arange(24) < 16).float().expand(2, 1, 1, 24)
    losses = reconstruction_losses(torch.logit(ink.clamp(1e-6, 1 - 1e-6)), ink, mask, 2.0, 1.0)
    assert float(losses["pixel"]) == pytest.approx(0, abs=1e-4) and float(losses["edge"]) == pytest.approx(0, abs=1e-4)
    logits = torch.randn(2, 1, 8, 24)
    other = logits.clone()
    other[..., 18:] += 5
    a, b = (reconstruction_losses(x, ink, mask, 2.0, 1.0) for x in (logits, other))
    torch.testing.assert_close(a, b)


def test_the_discriminator_pulls_the_decoder_the_other_way() -> None:
    model = make(adversarial_weight=0.5, pixel_weight=0, edge_weight=0, commitment_weight=0).train()
    ink = torch.rand(2, 1, 16, 32)
    model(ink).loss.backward()
    assert model.discriminator.head.weight.grad.abs().sum() > 0
    weight = model.decoder.out.weight
    gradient = weight.grad.clone()
    fooled = []
    for step in (0.0, 0.1 / float(gradient.norm())):
        with torch.no_grad():
            weight -= step * gradient
            fooled.append(float(model.discriminator.judge(model(ink).reconstruction).mean()))
    assert fooled[1] > fooled[0]


# --- tokenizers of transformers ---------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {"base_channels": 32, "num_res_blocks": 1, "attn_resolutions": [], "embed_dim": 4}
BORROWED = {
    "emu3_vqgan": {
        **SMALL,
        "hidden_size": 32,
        "channel_multiplier": [1, 1, 1, 1],
        "codebook_size": 32,
        "latent_channels": 4,
    },
    "janus_vqgan": {**SMALL, "channel_multiplier": [1, 1, 1, 1, 1], "num_embeddings": 32, "latent_channels": 8},
    "chameleon_vqgan": {**SMALL, "channel_multiplier": [1, 1, 1, 1, 1], "num_embeddings": 32, "latent_channels": 8},
}


@pytest.mark.parametrize("kind", sorted(BORROWED))
def test_a_tokenizer_of_transformers_stands_in(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = BORROWED[kind]
    source = getattr(transformers, BORROWED_KINDS[kind])(
        getattr(transformers, BORROWED_KINDS[kind] + "Config")(**options)
    ).eval()
    source.save_pretrained(tmp_path / "source")
    model = borrow_image_vq(str(tmp_path / "source"))
    patch = 8 if kind == "emu3_vqgan" else 16
    assert model.config.geometry == GridGeometry(patch, patch) and model.config.codebook_size == 32
    model.save_pretrained(tmp_path / "ours")
    again = ImageVQModel.from_pretrained(tmp_path / "ours").eval()
    ink = pictures(2, 48, 96)
    with torch.no_grad():
        codes = model.encode(ink)
        assert codes.shape == (2, 48 // patch, 96 // patch)
        assert torch.equal(again.encode(ink), codes)
        assert torch.equal(model.encode(ink[1:]), codes[1:])
        if kind == "chameleon_vqgan":
            with pytest.raises(InputError, match="not drawn"):
                again.decode(codes)
        else:
            drawn = again.decode(codes)
            assert drawn.shape == ink.shape and torch.equal(drawn, again(ink).reconstruction)
            assert not torch.equal(drawn, again.decode((codes + 1) % 32))
    with pytest.raises(InputError, match="outside the codebook"):
        again.decode(torch.full((1, 1, 1), 32))


@pytest.mark.parametrize("kind", ["emu3_vqgan", "janus_vqgan"])
def test_a_borrowed_tokenizer_has_its_gates_and_does_not_learn(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    name = BORROWED_KINDS[kind]
    source = getattr(transformers, name)(getattr(transformers, name + "Config")(**BORROWED[kind]))
    source.save_pretrained(tmp_path / "source")
    ours, packed = str(tmp_path / "ours"), str(packed_folder(tmp_path / "packed", pieces("x", 1)))
    assert train_image_vq(["--stage", "borrow", "--model", str(tmp_path / "source"), "--output_dir", ours]) == 0
    patch = AutoModel.from_pretrained(ours).config.patch_height
    assert AutoProcessor.from_pretrained(ours).geometry == GridGeometry(patch, patch)
    ScoreTowerModel(tower_config(labels=PackedSystems([packed]).space)).save_pretrained(tmp_path / "tower")
    probe = ["--stage", "probe", "--model", ours, "--packed_validation", packed, "--tower", str(tmp_path / "tower")]
    capsys.readouterr()
    assert train_image_vq([*probe, "--validation_pictures", "2"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert {"stroke_f1", "psnr_db", "codebook_usage", "note_f1_gap"} < figures.keys() and "loss" not in figures
    with pytest.raises(InputError, match="does not learn"):
        train_image_vq(["--packed", packed, "--model", ours, "--output_dir", str(tmp_path / "run")])


def test_what_can_not_stand_in_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent: does not load"):
        borrow_image_vq(str(tmp_path / "absent"))
    with pytest.raises(Exception, match="no picture tokenizer"):
        ImageVQConfig(borrowed={"model_type": "llama"})
    with pytest.raises(Exception, match="16 x 8"):
        ImageVQConfig(borrowed={"model_type": "janus_vqgan", **BORROWED["janus_vqgan"]})
