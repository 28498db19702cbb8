"""Codes that are small pictures: k-means, the picture put together again, and rows of NativeVLM that begin as them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from intermezzo.configuration.configuration_image_vq import ImageVQConfig, image_vq_glyphs, image_vq_tiny
from intermezzo.configuration.configuration_native_vlm import native_vlm_tiny
from intermezzo.datasets_scripts.guitar_parts import PLAIN_STYLE, generate_piece, iter_system_jobs
from intermezzo.modeling.modeling_image_vq import ImageVQModel
from intermezzo.modeling.modeling_native_vlm import NativeVLMForCausalLM
from intermezzo.modeling.native_start import start_codes_from_patches
from intermezzo.modeling.quantizers import PatchQuantizer
from intermezzo.processing.errors import InputError
from intermezzo.train.train_image_vq import ImageVQArguments, build_model
from intermezzo.train.train_image_vq import main as train_image_vq
from intermezzo.train.train_score_vlm import main as train_score_vlm

torch.set_num_threads(1)


def glyphs(**changes: Any) -> ImageVQModel:
    """A small model, untrained."""
    torch.manual_seed(0)
    settings: dict[str, Any] = dict(codebook_size=40, patch_width=16, channels=(4, 4, 4, 4), code_depth=0, depth=0)
    return ImageVQModel(image_vq_glyphs(**{**settings, **changes})).eval()


def grey_patches(count: int, dim: int = 128, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, dim, generator=torch.Generator().manual_seed(seed))


def fit(quantizer: PatchQuantizer, patches: torch.Tensor, rounds: int) -> list[float]:
    errors: list[float] = []
    quantizer.fit(patches, torch.ones(len(patches)), rounds, torch.Generator().manual_seed(0), errors.append)
    return errors


def test_the_nearest_small_picture_is_found_also_of_equal_patches() -> None:
    quantizer = PatchQuantizer(60, 128)
    patches = grey_patches(500, seed=1)
    patches[::3] = 0
    patches[1::5] = patches[1]
    expected = torch.cdist(patches, quantizer.codebook).argmin(-1)
    assert torch.equal(quantizer.nearest(patches, rows=77), expected)
    assert quantizer.nearest(patches[:0]).shape == (0,)


def test_patches_whose_pixels_make_up_for_each_other_are_told_apart() -> None:
    """One pixel black, or another one half as dark: not alike, however they are looked up."""
    quantizer = PatchQuantizer(64, 64)
    quantizer.codebook.copy_(torch.eye(64))
    patches = torch.cat([torch.eye(64) * grey for grey in (1.0, 0.75, 0.5, 0.25)])
    assert torch.equal(quantizer.nearest(patches), torch.arange(64).repeat(4))


def test_k_means_never_gets_worse_and_finds_groups() -> None:
    centres = grey_patches(12, 16)
    patches = (centres[:, None] + 0.01 * torch.randn(12, 30, 16, generator=torch.Generator().manual_seed(2))).flatten(
        0, 1
    )
    quantizer = PatchQuantizer(40, 16)  # drawn first pictures leave groups out where there are just as many
    errors = fit(quantizer, patches, 10)
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(errors))
    assert torch.cdist(centres, quantizer.codebook).min(-1).values.max() < 0.05


def test_as_many_codes_as_patches_lose_nothing() -> None:
    patches = grey_patches(40)
    quantizer = PatchQuantizer(40, 128)
    fit(quantizer, patches, 3)
    assert torch.allclose(quantizer.lookup(quantizer.nearest(patches)), patches)


def test_too_few_patches_are_told() -> None:
    with pytest.raises(InputError, match="9 different patches are too few for 40 codes"):
        fit(PatchQuantizer(40, 128), grey_patches(9), 1)


def test_an_untrained_decoder_puts_the_small_pictures_side_by_side() -> None:
    model = glyphs()
    codes = torch.randint(40, (2, 3, 5), generator=torch.Generator().manual_seed(3))
    drawn = model.decode(codes)
    assert drawn.shape == (2, 1, 24, 80)
    for row, column in ((0, 0), (2, 4), (1, 3)):
        patch = drawn[1, 0, 8 * row : 8 * row + 8, 16 * column : 16 * column + 16]
        expected = model.quantizer.codebook[codes[1, row, column]].view(8, 16).clamp(0.02, 0.98)
        assert torch.allclose(patch, expected, atol=1e-5)
    assert torch.equal(model.encode(drawn), codes)


def test_only_the_decoder_learns() -> None:
    model = glyphs()
    model.keep_codes()
    model.train()
    ink = model.decode(torch.arange(40).view(1, 5, 8)).round().detach()  # black and white: the codes are grey
    book = model.quantizer.codebook.clone()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(ink).loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] * 0.9
    assert torch.equal(model.quantizer.codebook, book)


def test_it_comes_back_from_its_folder_bit_for_bit(tmp_path: Path) -> None:
    model = glyphs()
    model.save_pretrained(tmp_path)
    codes = torch.arange(40).view(1, 5, 8)
    assert torch.equal(ImageVQModel.from_pretrained(tmp_path).decode(codes), model.decode(codes))


@pytest.mark.parametrize("wrong", [{"reading_weight": 0.3}, {"codebook_size": 1}, {"patch_width": 12}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        ImageVQConfig(**{"patch_height": 8, "patch_width": 16, "codebook": "patches", **wrong})


def test_rows_of_like_codes_begin_alike() -> None:
    vq = glyphs()
    book = vq.quantizer.codebook
    book[1] = (book[0] + 0.02 * grey_patches(1)[0]).clamp(0, 1)
    config = native_vlm_tiny(vq_config=vq.config, text_vocab_size=30, max_rows=8, max_columns=16)
    model = NativeVLMForCausalLM(config)
    model.image_vq.load_state_dict(vq.state_dict())
    before = model.model.embed_tokens.weight.detach().clone()
    start_codes_from_patches(model)
    first = config.vocabulary.first_code
    moved = model.model.embed_tokens.weight.detach() - before
    assert not moved[:first].any()
    likeness = torch.nn.functional.cosine_similarity(moved[first], moved[first + 1 :], dim=-1)
    assert likeness[0] > 0.9 and likeness[1:].max() < 0.6
    assert moved[first:].square().mean().sqrt().item() == pytest.approx(config.initializer_range, rel=0.01)


def test_plain_systems_have_one_style_and_no_wild_parts() -> None:
    jobs = list(iter_system_jobs(3, 40, "train", plain=True, max_bars=2))
    assert len(jobs) == 40
    assert all(style == PLAIN_STYLE and text.count("|\n") <= 2 for text, style, _ in jobs)
    kinds = {generate_piece(int(name.removeprefix("generated-"), 16)).kind for _, _, name in jobs}
    assert "wild" not in kinds
    assert PLAIN_STYLE is not jobs[0][1]  # a job may be changed


def test_a_codebook_is_found_and_its_decoder_trained(tmp_path: Path) -> None:
    packed, found, run = (str(tmp_path / name) for name in ("packed", "glyphs", "run"))
    plain = ["--plain", "--max_bars", "1", "--drills", "0", "--continuations", "0"]
    train_score_vlm(["--stage", "pack", "--generate", "6", *plain, "--output_dir", packed])
    sizes = ["--codebook_systems", "6", "--codebook_rounds", "2", "--codebook_size", "64"]
    train_image_vq(["--stage", "codebook", "--packed", packed, *sizes, "--output_dir", found])
    flags = ["--packed", packed, "--model", found, "--decoder_only", "--augment", "0", "--max_steps", "2"]
    train_image_vq([*flags, "--output_dir", run])
    before, after = (ImageVQModel.from_pretrained(folder) for folder in (found, f"{run}/final"))
    assert torch.equal(before.quantizer.codebook, after.quantizer.codebook)
    assert not torch.equal(before.decoder.out.weight, after.decoder.out.weight)
    larger = ["--decoder_channels", "4", "4", "8", "--decoder_depth", "2"]
    train_image_vq([*flags, *larger, "--model", f"{run}/final", "--output_dir", f"{run}/larger"])
    renewed = ImageVQModel.from_pretrained(f"{run}/larger/final")
    assert torch.equal(before.quantizer.codebook, renewed.quantizer.codebook)
    assert renewed.config.channels == (4, 4, 8) and len(renewed.decoder.middle) == 2


def test_a_new_decoder_begins_at_the_small_pictures() -> None:
    torch.manual_seed(0)
    model = ImageVQModel(image_vq_glyphs(codebook_size=16, channels=(4, 4, 4)))
    codes = torch.arange(16).view(1, 4, 4)
    begun = model.eval().decode(codes)
    torch.nn.init.normal_(model.decoder.out.weight)
    assert not torch.allclose(begun, model.decode(codes))
    model.renew_decoder([8, 4, 16], 3)
    model.eval()
    assert torch.allclose(begun, model.decode(codes)) and model.config.code_depth == 3
    assert len(model.decoder.middle) == 3 and model.decoder.inp.conv.out_channels == 16


@pytest.mark.parametrize(
    ("model", "channels", "message"),
    [
        (lambda: ImageVQModel(image_vq_tiny()), [4, 4, 4], "only a codebook of patches"),
        (lambda: ImageVQModel(image_vq_glyphs(codebook_size=16, channels=(4, 4, 4))), [4, 4], "need 3 channels"),
    ],
)
def test_decoders_that_can_not_be_renewed_are_refused(model: Any, channels: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model().renew_decoder(channels, 1)


def test_a_new_decoder_is_not_for_models_whose_codes_learn(tmp_path: Path) -> None:
    ImageVQModel(image_vq_glyphs(codebook_size=16, channels=(4, 4, 4))).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="decoder_channels goes with --decoder_only"):
        build_model(ImageVQArguments(model=str(tmp_path), decoder_channels=[4, 4, 4]))


def test_plain_is_for_generated_pieces(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="for --generate alone"):
        train_score_vlm(["--stage", "pack", "--pages", "2", "--plain", "--output_dir", str(tmp_path)])
