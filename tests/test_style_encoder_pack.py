"""Packs of StyleEncoder's pictures: decoded once, looked at once, the names they are told apart by."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from intermezzo.modeling.modeling_style_encoder import StyleEncoderModel
from intermezzo.modeling.style_losses import UNKNOWN_STYLE, soft_answers
from intermezzo.processing.errors import InputError
from intermezzo.processing.processing_style_encoder import StyleEncoderProcessor
from intermezzo.train.style_encoder_data import StyleCollate, StylePictures, evaluate_pictures
from intermezzo.train.style_encoder_pack import NameTable, PackedCollate, PackedPictures, look_once, pack_pictures
from intermezzo.train.train_style_encoder import main

from .tiny_style_encoder import LENGTH, WIDTH, save_tiny, vector_of, write_split

torch.set_num_threads(1)
STYLES, CONTENTS = ["red", "blue", "green"], ["bell", "red apple", "big old tree", "moon"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two splits; half of one style has no targets."""
    folder = tmp_path_factory.mktemp("grid")
    write_split(folder, "train", STYLES, CONTENTS)
    write_split(folder, "validation", STYLES, ["star", "green leaf"])
    write_split(folder, "bare", ["black"], CONTENTS, targets=False)
    return folder


@pytest.fixture(scope="module")
def processor() -> StyleEncoderProcessor:
    return StyleEncoderProcessor.from_backbone("test_resnet", image_size=32, crop_pct=1.0)


@pytest.fixture(scope="module")
def pack(data, processor, tmp_path_factory) -> PackedPictures:
    return PackedPictures(pack_pictures(data, "train", processor, tmp_path_factory.mktemp("packs"), progress=False))


def test_a_packed_batch_is_the_decoded_one(data, processor, pack) -> None:
    plain = StylePictures(data, "train")
    assert (pack.styles, pack.contents) == (plain.styles, plain.contents) and pack.sizes() == plain.sizes()
    indices = [0, 5, 7, 11]
    wanted = StyleCollate(processor, LENGTH, WIDTH, STYLES)([plain[index] for index in indices])
    found = PackedCollate(pack, processor, STYLES)([pack[index] for index in indices])
    assert found.keys() == wanted.keys()
    step = 1 / 255 / min(processor.std)  # pixels are kept as whole numbers
    torch.testing.assert_close(found["pixel_values"], wanted["pixel_values"], atol=step, rtol=0)
    for name in wanted.keys() - {"pixel_values"}:
        torch.testing.assert_close(found[name], wanted[name], check_dtype=False)
    assert found["pixel_values"].is_contiguous(memory_format=torch.channels_last)


def test_ignored_targets_and_unknown_styles_are_left_out(processor, pack) -> None:
    batch = PackedCollate(pack, processor, ["blue"], ignore_targets=("mask", "pooled"))([pack[0], pack[4]])
    assert batch["style_labels"].tolist() == [UNKNOWN_STYLE, 0]
    assert "target_pooled" not in batch and "target_mask" in batch  # the mask says which places of embed count
    nothing = PackedCollate(pack, processor, STYLES, ignore_targets=("mask", "pooled", "embed"))([pack[0]])
    assert nothing["has_target"].tolist() == [0] and not any(name.startswith("target") for name in nothing)


def test_rows_without_targets_are_marked(data, processor, tmp_path) -> None:
    bare = PackedPictures(pack_pictures(data, "bare", processor, tmp_path, progress=False))
    assert bare.targets == {} and bare.sizes() == (None, None)
    batch = PackedCollate(bare, processor, ["black"])([bare[0], bare[1]])
    assert batch["has_target"].tolist() == [0, 0] and "target_embed" not in batch


def test_equal_targets_are_kept_once(pack) -> None:
    assert len(pack) == 12 and pack.targets["pooled"].shape == (4, WIDTH)
    for content in CONTENTS:
        numbers = {int(pack.texts[k]) for k in range(12) if pack.contents[k] == content}
        assert len(numbers) == 1
        np.testing.assert_allclose(pack.targets["pooled"][numbers.pop()], vector_of(content))


def test_a_pack_is_made_once_and_anew_for_other_settings(data, processor, tmp_path) -> None:
    folder = pack_pictures(data, "train", processor, tmp_path, progress=False)
    before = (folder / "pictures.u8").stat().st_mtime_ns
    assert pack_pictures(data, "train", processor, tmp_path, progress=False) == folder
    assert (folder / "pictures.u8").stat().st_mtime_ns == before
    smaller = StyleEncoderProcessor.from_backbone("test_resnet", image_size=16, crop_pct=1.0)
    assert PackedPictures(pack_pictures(data, "train", smaller, tmp_path, progress=False)).side == 16
    with pytest.raises(InputError, match="build_style_pairs"):
        pack_pictures(data, "none", processor, tmp_path, progress=False)
    assert not list(tmp_path.glob("*.part"))


def test_windows_are_repeatable_and_neither_smaller_nor_larger_on_average(processor, pack) -> None:
    collate = PackedCollate(pack, processor, STYLES, crop=0.8)
    random.seed(3)
    first = collate.pixel_values(np.arange(12))
    random.seed(3)
    torch.testing.assert_close(collate.pixel_values(np.arange(12)), first)
    assert not torch.equal(collate.pixel_values(np.arange(12)), first)
    whole = PackedCollate(pack, processor, STYLES).pixel_values(np.arange(12))
    assert first.shape == whole.shape
    random.seed(0)
    grid = collate._windows(4000)
    spans = (grid[:, 0, -1, 0] - grid[:, 0, 0, 0]) / (2 * 31 / 32)
    assert 0.8 <= spans.min() < 0.83 and 1.17 < spans.max() <= 1.2 + 1e-5 and abs(float(spans.mean()) - 1) < 0.01


def test_names_are_answered_in_both_languages(pack) -> None:
    table = NameTable(pack, softness=1e-3)
    assert len(table.names) == 8
    texts = torch.tensor([int(pack.texts[pack.contents.index(content)]) for content in CONTENTS])
    answers = table.answers(texts)
    torch.testing.assert_close(answers.sum(-1), torch.ones(4))
    for row, content in zip(answers, CONTENTS, strict=True):
        chosen = {tuple(np.round(table.names[k].numpy(), 4)) for k in (row > 0.4).nonzero().flatten()}
        wanted = {tuple(np.round(vector_of(text), 4)) for text in (content, f"中{content}")}
        assert chosen == wanted


def test_a_table_answers_as_the_plain_function_does(pack) -> None:
    table = NameTable(pack, softness=0.3)
    texts = torch.tensor([0, 3, 1])
    english = soft_answers(pack.targets["pooled"][texts], table.names, 0.3)
    chinese = soft_answers(pack.targets["pooled_zh"][texts], table.names, 0.3)
    torch.testing.assert_close(table.answers(texts), (english + chinese) / 2)


def test_a_name_without_chinese_is_answered_in_english_alone(pack) -> None:
    import copy

    english = copy.copy(pack)
    english.targets = {**pack.targets, "pooled_zh": torch.full_like(pack.targets["pooled"], torch.nan)}
    table = NameTable(english, softness=1e-3)
    assert len(table.names) == 4
    assert table.answers(torch.tensor([2])).max() > 0.99
    del english.targets["pooled_zh"]
    assert len(NameTable(english).names) == 4


def test_a_frozen_backbone_looks_once(pack, processor, tmp_path_factory, monkeypatch) -> None:
    model = StyleEncoderModel.from_pretrained(save_tiny(tmp_path_factory.mktemp("tiny"))).eval()
    tokens, statistics = look_once(model, pack, processor, batch_size=5, progress=False)
    assert len(tokens) == len(statistics) == 12 and tokens.dtype == np.float16
    plain = PackedCollate(pack, processor, STYLES)([pack[3], pack[8]])
    kept = PackedCollate(pack, processor, STYLES, features=(tokens, statistics))([pack[3], pack[8]])
    assert "pixel_values" not in kept
    with torch.no_grad():
        a, b = model(**plain), model(**kept)
    torch.testing.assert_close(a.pooled, b.pooled, atol=2e-3, rtol=2e-3)  # tokens are kept in half precision
    torch.testing.assert_close(a.style, b.style, atol=1e-5, rtol=1e-4)
    assert float(a.loss) == pytest.approx(float(b.loss), rel=1e-2)
    looks = []
    monkeypatch.setattr(model, "look", lambda pixels: looks.append(pixels))
    look_once(model, pack, processor, progress=False)
    assert not looks
    monkeypatch.undo()
    with torch.no_grad():
        next(model.backbone.parameters()).add_(0.5)
    other, _ = look_once(model, pack, processor, progress=False)  # other weights see something else
    assert not np.array_equal(other, tokens)


def test_the_evaluation_of_a_pack_is_that_of_the_pictures(data, pack, processor, tmp_path_factory) -> None:
    model = StyleEncoderModel.from_pretrained(save_tiny(tmp_path_factory.mktemp("tiny"))).eval()
    plain = StylePictures(data, "train")
    wanted = evaluate_pictures(model, plain, StyleCollate(processor, LENGTH, WIDTH, STYLES), 5)
    found = evaluate_pictures(model, pack, PackedCollate(pack, processor, STYLES), 5)
    assert found.keys() == wanted.keys() and "score" in found
    assert found == pytest.approx(wanted, rel=0.02, abs=0.02)


@pytest.mark.parametrize("flags", [["--backbone", "frozen", "--crop", "1"], ["--crop", "0.8", "--channels_last"]])
def test_training_on_packs_learns_the_names(data, tmp_path, flags) -> None:
    import json

    out = tmp_path / "run"
    arguments = [
        "--data_dir", str(data), "--cache_dir", str(tmp_path / "packs"), "--model_name", "test_resnet",
        "--image_size", "32", "--crop_pct", "1", "--hidden_size", "32", "--output_dir", str(out), "--batch_size", "12",
        "--pictures_per_style", "4", "--loss_weights", "match=1", "--learning_rate", "1e-2", "--max_steps", "40",
        "--eval_steps", "20", "--save_steps", "40", "--tracker", "none", "--no-progress", "--cpu",
        "--metric_for_best", "score", "--greater_is_better", *flags,
    ]  # fmt: skip
    assert main(arguments) == 0
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = [line["match"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < 0.7 * losses[0]
    assert {"style_auc", "name_top5", "score"} <= lines[-1].keys() | lines[-2].keys()
    model = StyleEncoderModel.from_pretrained(out / "final")
    assert model.config.embed_size == WIDTH and model.config.match_temperature == 0.05
