"""The perceptual loss: what looks the same to the tower costs nothing, and gradients make pictures look more alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from intermezzo.modeling.modeling_image_vq import ImageVQModel
from intermezzo.modeling.modeling_score_tower import ScoreTowerModel
from intermezzo.processing.errors import InputError
from intermezzo.train import train_image_vq
from intermezzo.train.image_vq_looks import LossWithLooks, looks_apart

from .tiny_lessons import packed_folder, pieces, tiny_image_vq
from .tiny_score_vlm import tower_config

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tower() -> ScoreTowerModel:
    torch.manual_seed(0)
    return ScoreTowerModel(tower_config()).eval().requires_grad_(False)


def test_the_same_picture_looks_the_same(tower: ScoreTowerModel) -> None:
    torch.manual_seed(0)
    ink = (torch.rand(2, 1, 72, 40) < 0.1).float()
    assert float(looks_apart(tower, ink, ink)) == 0
    near, far = ink * 0.9, ink.flip(-1)
    assert 0 < float(looks_apart(tower, near, ink)) < float(looks_apart(tower, far, ink))
    assert float(looks_apart(tower, ink, torch.zeros_like(ink))) > 0  # a blank original divides by nothing


def test_gradients_lead_to_the_original(tower: ScoreTowerModel) -> None:
    torch.manual_seed(0)
    wanted = (torch.rand(1, 1, 64, 48) < 0.1).float()
    drawn = torch.full_like(wanted, 0.1).requires_grad_(True)
    optimiser = torch.optim.Adam([drawn], lr=0.05)
    first = None
    for _ in range(60):
        loss = looks_apart(tower, drawn, wanted)
        first = first or loss.item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < first / 5
    assert all(p.grad is None for p in tower.parameters())


def test_the_loss_is_the_models_own_and_a_part_more(tmp_path: Path, tower: ScoreTowerModel) -> None:
    torch.manual_seed(0)
    model = ImageVQModel.from_pretrained(tiny_image_vq(tmp_path))
    batch = {"pixel_values": torch.rand(1, 1, 64, 48)}
    loss, losses = LossWithLooks(tower, 2.0)(model, batch)
    out = model(**batch)
    apart = looks_apart(tower, out.reconstruction, batch["pixel_values"])
    assert loss.item() == pytest.approx((out.loss + 2 * apart).item(), rel=1e-5)
    assert float(losses["looks"]) == pytest.approx(float(apart), rel=1e-5)


def test_it_trains_a_decoder_alone(tmp_path: Path, tower: ScoreTowerModel) -> None:
    packs = packed_folder(tmp_path, [row for name in "xyz" for row in pieces(name, 2)])
    tower.save_pretrained(tmp_path / "tower")
    tiny_image_vq(tmp_path / "vq")
    flags = ["--packed", str(packs), "--model", str(tmp_path / "vq"), "--decoder_only", "--max_steps", "2", "--cpu"]
    flags += ["--output_dir", str(tmp_path / "run"), "--tracker", "none", "--no-progress", "--looks_weight", "1"]
    with pytest.raises(InputError, match="looks_weight needs the eyes of a tower"):
        train_image_vq.main(flags)
    assert train_image_vq.main([*flags, "--tower", str(tmp_path / "tower")]) == 0
    assert '"looks"' in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8")
