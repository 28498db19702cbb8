"""Codes of small pictures that are chosen by how they look to a reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.configuration.configuration_image_vq import ImageVQConfig, image_vq_glyphs, image_vq_tiny
from intermezzo.datasets_scripts.build_interleaved import fingerprint
from intermezzo.modeling.image_vq_choosing import ALIKE, give_eyes
from intermezzo.modeling.image_vq_tower import at_tower_size
from intermezzo.modeling.modeling_image_vq import ImageVQModel
from intermezzo.modeling.modeling_score_tower import ScoreTowerModel
from intermezzo.processing.errors import InputError
from intermezzo.processing.grid_pictures import to_ink
from intermezzo.train.image_vq_data import ChosenPictures, GridPictures, PictureCollate
from intermezzo.train.score_vlm_data import PackedSystems
from intermezzo.train.train_image_vq import main as train_image_vq

from .tiny_lessons import packed_folder, pieces
from .tiny_score_vlm import tower_config

torch.set_num_threads(1)


def glyphs(codes: int = 12) -> ImageVQModel:
    torch.manual_seed(0)
    return ImageVQModel(image_vq_glyphs(codebook_size=codes, channels=(4, 4, 4), code_depth=0, depth=0)).eval()


def tower() -> ScoreTowerModel:
    torch.manual_seed(1)
    return ScoreTowerModel(tower_config()).eval()


def ink(seed: int = 2, rows: int = 3, columns: int = 5) -> torch.Tensor:
    return torch.rand(1, 1, 8 * rows, 8 * columns, generator=torch.Generator().manual_seed(seed))


def test_of_all_candidates_the_one_that_looks_most_alike_is_taken() -> None:
    model = glyphs()
    give_eyes(model, tower(), candidates=12)
    picture = ink()
    codes = model.encode(picture, by_looks=True)[0]
    assert not torch.equal(codes, model.encode(picture)[0])  # the nearest in pixels look otherwise
    padded = torch.nn.functional.pad(picture[0, 0], (8, 8, 8, 8))
    for row in range(3):
        for column in range(5):
            window = padded[8 * row : 8 * row + 24, 8 * column : 8 * column + 24]
            tried = window.repeat(12, 1, 1)
            tried[:, 8:16, 8:16] = model.quantizer.codebook.view(12, 8, 8)
            apart = (model.chooser._look(tried) - model.chooser._look(window[None])).square().sum(-1)
            assert codes[row, column] == apart.argmin()


def test_few_candidates_are_the_nearest_and_what_matches_is_left_alone() -> None:
    model = glyphs()
    give_eyes(model, tower(), candidates=2)
    picture = ink()
    picture[:, :, 8:16, 16:24] = model.quantizer.codebook[7].view(8, 8) + 0.5 * ALIKE**0.5 / 8
    codes = model.encode(picture, by_looks=True)[0]
    assert codes[1, 2] == 7
    patches = picture.unfold(2, 8, 8).unfold(3, 8, 8).flatten(-2)[0, 0]  # (3, 5, 64)
    nearest = (patches[:, :, None] - model.quantizer.codebook).square().sum(-1).topk(2, largest=False).indices
    assert (nearest == codes[..., None]).any(-1).all()


def test_pictures_of_a_batch_are_chosen_for_alone() -> None:
    model = glyphs()
    give_eyes(model, tower(), candidates=6)
    first, second = ink(3), ink(4)
    both = model.encode(torch.cat([first, second]), by_looks=True)
    assert torch.equal(both[0], model.encode(first, by_looks=True)[0])
    assert torch.equal(both[1], model.encode(second, by_looks=True)[0])


def test_the_whole_model_chooses_by_looks_but_not_while_it_learns(tmp_path: Path) -> None:
    model = glyphs()
    plain = fingerprint(model)
    assert torch.equal(model.encode(ink(), by_looks=True), model.encode(ink()))  # it has no eyes yet
    give_eyes(model, tower(), candidates=6)
    assert fingerprint(model) == plain  # lessons with its codes stay good
    assert torch.equal(model(ink()).codes, model.encode(ink(), by_looks=True))
    model.keep_codes()
    assert torch.equal(model.train()(ink()).codes, model.encode(ink()))
    assert not any(value.requires_grad for value in model.chooser.parameters())
    assert not model.chooser.eyes.training
    model.eval().save_pretrained(tmp_path)
    again = ImageVQModel.from_pretrained(tmp_path)
    assert again.config.candidates == 6
    assert torch.equal(again(ink()).codes, model(ink()).codes)
    again.half().eval()
    assert again.encode(ink(), by_looks=True).shape == (1, 3, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            dict(codebook="patches", candidates=4),
            "with a tower, otherwise 0; the codebook is 'patches', without a tower",
        ),
        (dict(candidates=4), "candidates is 4: above 0 for codebook 'patches'"),
        (dict(codebook="patches", candidates=-1), "candidates is -1"),
    ],
)
def test_eyes_and_candidates_come_together(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageVQConfig(patch_height=8, patch_width=8, channels=(4, 4, 4), **settings)


def test_models_without_small_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="codebook must be 'patches'"):
        give_eyes(ImageVQModel(image_vq_tiny()), tower())
    with pytest.raises(InputError, match="candidates is 1; it must be 2 or more"):
        give_eyes(glyphs(), tower(), 1)


def test_the_stage_gives_eyes_and_trains_nothing(tmp_path: Path) -> None:
    model, eyes = glyphs(), tower()
    model.save_pretrained(tmp_path / "blind")
    eyes.save_pretrained(tmp_path / "tower")
    flags = ["--stage", "eyes", "--model", str(tmp_path / "blind"), "--candidates", "5"]
    train_image_vq([*flags, "--tower", str(tmp_path / "tower"), "--output_dir", str(tmp_path / "seeing")])
    seeing = ImageVQModel.from_pretrained(tmp_path / "seeing")
    assert seeing.config.candidates == 5
    assert torch.equal(seeing.chooser.eyes.stem.weight, eyes.stem.weight)
    assert torch.equal(seeing.decoder.out.weight, model.decoder.out.weight)
    with pytest.raises(InputError, match="say whose eyes to give to what"):
        train_image_vq([*flags, "--output_dir", str(tmp_path / "none")])


def test_eyes_see_a_grid_picture_as_they_see_the_canvas_it_is_made_of() -> None:
    """Rows of features begin at a line in both; half a row beside it they would see what they have never met."""
    from intermezzo.modeling.tower_convolutions import convolve
    from intermezzo.processing.grid_pictures import GridGeometry, canvas_to_grid

    canvas = np.full((240, 160), 255, np.uint8)
    for line in range(6):
        canvas[120 + 10 * line, 8:150] = 0
    canvas[124:137, 40:46] = 0
    geometry = GridGeometry(8, 8)
    grid = torch.from_numpy(to_ink(canvas_to_grid(canvas, geometry)))[None, None]
    eyes = tower()
    with torch.no_grad():
        there = convolve(eyes, torch.from_numpy(to_ink(canvas))[None, None])[0, :, 12:18]  # (C, 6 rows of lines, T)
        here = convolve(eyes, at_tower_size(grid))[0]
        beside = convolve(eyes, torch.nn.functional.pad(at_tower_size(grid)[:, :, 5:], (0, 0, 0, 5)))[0]
    first = (grid.shape[-2] - 80) // 8 + 1  # rows above the staff, and the half row that is put on top
    wide = min(there.shape[-1], here.shape[-1]) - 2
    near, far = (
        (there[..., 1:wide] - seen[:, row : row + 6, 1:wide]).square().mean()
        for seen, row in ((here, first), (beside, first))
    )
    assert near < 0.8 * far  # the rest is the blur of scaling down and up


def test_a_decoder_learns_from_codes_that_were_chosen_by_looks(tmp_path: Path) -> None:
    packs = packed_folder(tmp_path / "packs", [row for name in "xyz" for row in pieces(name, 2)])
    model = glyphs()
    give_eyes(model, tower(), candidates=6)
    model.save_pretrained(tmp_path / "seeing")
    pictures = GridPictures(PackedSystems([str(packs)]), model.config.geometry, 2, 128)
    chosen = ChosenPictures(pictures, model, 4)
    assert len(chosen) == len(chosen.rows) == 4
    for row in (chosen[0], chosen[3]):
        whole = model.encode(torch.from_numpy(to_ink(row["picture"]))[None, None], by_looks=True)[0]
        assert np.array_equal(row["codes"], whole.numpy())
    tall = dict(chosen[0])  # with a row of patches more on top, of code 3
    tall["picture"] = np.pad(tall["picture"], ((8, 0), (0, 0)), constant_values=255)
    tall["codes"] = np.pad(tall["codes"], ((1, 0), (0, 0)), constant_values=3)
    batch = PictureCollate(model.config.geometry)([chosen[3], tall])
    assert batch["codes"].shape == (2, *(size // 8 for size in batch["pixel_values"].shape[2:]))
    assert (batch["codes"][0, 0] == chosen[0]["blank_code"]).all() and (batch["codes"][1, 0, :2] == 3).all()
    out = model(batch["pixel_values"], batch["widths"], codes=batch["codes"])
    assert torch.equal(out.codes, batch["codes"])
    assert torch.allclose(out.reconstruction, model.decode(batch["codes"]), atol=1e-5)

    flags = [
        "--packed",
        str(packs),
        "--model",
        str(tmp_path / "seeing"),
        "--max_steps",
        "2",
        "--cpu",
        "--tracker",
        "none",
    ]
    flags += ["--output_dir", str(tmp_path / "run"), "--no-progress", "--chosen_pictures", "4"]
    with pytest.raises(InputError, match="chosen_pictures goes with --decoder_only"):
        train_image_vq(flags)
    assert train_image_vq([*flags, "--decoder_only"]) == 0
    learnt = ImageVQModel.from_pretrained(tmp_path / "run" / "final")
    assert learnt.config.candidates == 6 and torch.equal(learnt.quantizer.codebook, model.quantizer.codebook)
    assert not torch.equal(learnt.decoder.out.bias, model.decoder.out.bias)
