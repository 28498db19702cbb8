"""StyleEncoder's training: settings, batches in which styles meet, a short run from a folder of pictures."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

from intermezzo.datasets_scripts.style_shards import features
from intermezzo.processing.errors import InputError
from intermezzo.processing.processing_style_encoder import StyleEncoderProcessor
from intermezzo.train.arguments import parse_arguments
from intermezzo.train.style_encoder_data import StyleCollate, StylePictures, evaluate_pictures
from intermezzo.train.train_style_encoder import (
    StyleEncoderArguments,
    StyleEncoderTrainingArguments,
    ignored_targets,
    main,
    smoke_data,
)

torch.set_num_threads(1)
STYLES, CONTENTS, L, D = 5, 8, 4, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Five styles by eight contents; the last style has no targets."""
    import io

    import pyarrow.parquet as pq
    from datasets import Dataset

    out = tmp_path_factory.mktemp("pairs")
    rows = []
    for style in range(STYLES):
        for content in range(CONTENTS):
            buffer = io.BytesIO()
            Image.new("RGB", (40, 30), (50 * style, 30 * content, 9)).save(buffer, "PNG")
            row: dict[str, Any] = dict.fromkeys(features())
            row |= {"image": {"bytes": buffer.getvalue(), "path": None}, "style": f"s{style}", "content": f"c{content}"}
            if style < STYLES - 1:
                row |= {"embed": [[float(content)] * D] * L, "pooled": [content + 1.0] * D, "mask": [1, 1, 0, 0]}
            rows.append(row)
    table = Dataset.from_list(rows, features=features()).data.table
    for split in ("train", "validation"):
        pq.write_table(table.replace_schema_metadata(features().arrow_schema.metadata), out / f"{split}-00000.parquet")
    return out


def parse(*flags: str) -> tuple[Any, Any]:
    return parse_arguments((StyleEncoderArguments, StyleEncoderTrainingArguments), flags)


def test_settings_have_this_models_defaults(tmp_path) -> None:
    args, training = parse("--data_dir", "x", "--ignore_targets", "pooled,mask")
    assert (training.num_epochs, training.batch_size, training.learning_rate) == (50.0, 32, 1e-4)
    assert ignored_targets(args.ignore_targets) == ["pooled", "mask"]
    assert parse("--epochs", "3")[1].num_epochs == 3
    assert parse("--num_epochs", "2")[1].num_epochs == 2
    limited = parse("--max_steps", "7")[1]
    assert (limited.max_steps, limited.num_epochs) == (7, 0)
    with pytest.raises(InputError, match="epochs is 3 and num_epochs 2"):
        parse("--epochs", "3", "--num_epochs", "2")
    with pytest.raises(InputError, match="there is no target 'pool'; did you mean 'pooled'"):
        ignored_targets(["mask", "pool"])
    config = tmp_path / "settings.yaml"
    config.write_text("epochs: 4\nignore_targets: [mask]\nbackbone: lora\nloss_weights: {match: 1}\n")
    args, training = parse("--config", str(config), "--backbone", "frozen")
    assert (training.num_epochs, args.ignore_targets, args.backbone) == (4, ["mask"], "frozen")
    assert args.loss_weights == {"match": 1.0}


def test_batches_hold_groups_of_a_style(folder) -> None:
    pictures = StylePictures(folder, group_size=4)
    random.seed(0)
    indices = random.sample(range(len(pictures)), 20)
    found = pictures.arranged(indices)
    assert len(found) == 20 and found[::4] == indices[::4]
    for start in range(0, 20, 4):
        group = found[start : start + 4]
        assert len({pictures.styles[k] for k in group}) == 1 and len(set(group)) == 4
    assert len(pictures.arranged(indices[:7])) == 7
    assert StylePictures(folder).arranged(indices) == indices
    assert [row["style"] for row in pictures.__getitems__(indices[:4])] == [pictures.styles[indices[0]]] * 4


def test_shared_contents_leave_only_the_style_to_tell(folder) -> None:
    pictures = StylePictures(folder, group_size=4, shared_contents=1.0)
    anchors = [0, 9, 18, 27]  # of four styles
    found = pictures.arranged([index for index in anchors for _ in range(4)])
    shown = [[pictures.contents[k] for k in found[start : start + 4]] for start in range(0, 16, 4)]
    assert shown == [shown[0]] * 4 and len(set(shown[0])) == 4
    assert [pictures.styles[k] for k in found[::4]] == ["s0", "s1", "s2", "s3"]


def test_sizes_limits_and_missing_splits(folder) -> None:
    assert StylePictures(folder).sizes() == (L, D)
    assert len(StylePictures(folder, "validation", limit=7)) == 7
    with pytest.raises(InputError, match="has no files test-"):
        StylePictures(folder, "test")


def test_rows_without_targets_are_marked_and_sizes_are_checked(folder) -> None:
    pictures = StylePictures(folder)
    processor = StyleEncoderProcessor(image_size=16)
    rows = [pictures[0], pictures[len(pictures) - 1]]
    batch = StyleCollate(processor, L, D, ["s0", "s1"], crop=0.5)(rows)
    assert batch["has_target"].tolist() == [1, 0] and batch["style_labels"].tolist() == [0, -1]
    assert batch["pixel_values"].shape == (2, 3, 16, 16)
    assert batch["target_mask"].tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
    assert batch["target_pooled"].shape == (2, D) and batch["target_embed"].shape == (2, L, D)
    # The mask is not learnt, yet says which places of the embedding count.
    batch = StyleCollate(processor, L, D, ["s0"], ignore_targets=["mask", "pooled"])(rows)
    assert "target_mask" in batch and "target_pooled" not in batch
    assert not any(key.startswith("target") for key in StyleCollate(processor, L, D, [])(rows[1:]))
    with pytest.raises(InputError, match=r"its embed has the shape \(4, 6\), the model gives \(4, 7\)"):
        StyleCollate(processor, L, 7, ["s0"])(rows)


def test_the_evaluation_sees_what_a_perfect_model_would_say(folder) -> None:
    class Perfect(torch.nn.Linear):
        def forward(self, pixel_values, style_labels, has_target, **targets):  # type: ignore[override]
            from types import SimpleNamespace

            style = torch.nn.functional.one_hot(style_labels, STYLES).float()
            pooled, mask = targets.get("target_pooled"), targets.get("target_mask")
            return SimpleNamespace(loss=torch.tensor(2.0), style=style, pooled=pooled, mask=mask)

    pictures = StylePictures(folder, limit=32)
    collate = StyleCollate(StyleEncoderProcessor(image_size=8), L, D, sorted(pictures.of_style))
    figures = evaluate_pictures(Perfect(1, 1), pictures, collate, 8)
    assert figures["loss"] == 2 and figures["style_auc"] == 1 and figures["mask_exact"] == 1
    assert figures["pooled_cosine"] == pytest.approx(1) and figures["name_top5"] <= 1


def test_a_run_from_a_folder_of_pictures_saves_each_epoch_and_goes_on(tmp_path, capsys) -> None:
    data, out = smoke_data(tmp_path / "data"), tmp_path / "out"
    (data / "style_red" / "image00_mask.pt").unlink()
    (data / "style_red" / "image01_img.png").write_bytes(b"junk")
    flags = ["--data_dir", str(data), "--output_dir", str(out), "--model_name", "test_resnet", "--image_size", "32"]
    flags += ["--hidden_size", "16", "--batch_size", "8", "--cpu", "--no-progress", "--tracker", "none"]
    flags += ["--ignore_targets", "mask", "--backbone", "lora", "--lora_rank", "2", "--validation_pictures", "0"]
    assert main([*flags, "--epochs", "1", "--logging_steps", "1"]) == 0
    assert "1 files failed and are left out" in capsys.readouterr().err
    steps = [path.name for path in sorted((out / "checkpoints").iterdir())]
    assert steps == ["step_00000002"]
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {"embed", "pooled", "style"} <= lines[0].keys() and "mask" not in lines[0]
    model = AutoModel.from_pretrained(out / "final")
    assert model.config.num_tokens == 4 and model.config.embed_size == 8
    assert model.config.style_names == ("style_black", "style_blue", "style_green", "style_red")
    assert not any("lora" in name for name in model.state_dict())
    processor = AutoProcessor.from_pretrained(out / "final")
    assert model(**processor(Image.new("RGB", (9, 9)))).embed.shape == (1, 4, 8)
    assert main([*flags, "--epochs", "2", "--resume"]) == 0
    assert (out / "checkpoints" / "step_00000004").is_dir()


def test_what_can_not_be_trained_is_one_line(tmp_path, folder) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "image_vq"}')
    for flags, message in (
        ([], "say what to train on"),
        (["--data_dir", str(tmp_path / "none")], "no such folder"),
        (["--data_dir", str(tmp_path)], "holds no pictures"),
        (["--data_dir", str(folder), "--model_name", "no_such_net"], "has no model 'no_such_net'"),
        (["--data_dir", str(folder), "--loss_weights", "styl=1"], "names 'styl'"),
        (["--data_dir", str(folder), "--crop", "0"], "crop 0"),
        (["--data_dir", str(folder), "--model", str(tmp_path)], "no model folder"),
        (["--data_dir", str(folder), "--model", str(tmp_path / "other")], "is a checkpoint of 'image_vq'"),
        (
            ["--data_dir", str(folder), "--backbone_weights", "nowhere.pt", "--model_name", "test_resnet"],
            "no such file",
        ),
    ):
        with pytest.raises(InputError, match=message) as caught:
            main([*flags, "--output_dir", str(tmp_path / "out"), "--cpu", "--no-progress"])
        assert "\n" not in str(caught.value)
