"""What compares NativeVLM's choices: runs, table, and readings beside those of other readers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import NanoChatConfig, NanoChatForCausalLM

from intermezzo.processing.errors import InputError
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer
from intermezzo.train import compare_native
from intermezzo.train.native_vlm_data import read_lessons

from .tiny_lessons import lessons_folder

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("compared")
    lessons_folder(where)
    config = NanoChatConfig(
        vocab_size=len(AlphaTexTokenizer()), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1024,
    )  # fmt: skip
    NanoChatForCausalLM(config).save_pretrained(where / "lm")
    AlphaTexTokenizer().save_pretrained(where / "lm")
    return where


def flags(folder: Path, out: Path, *more: str) -> list[str]:
    settings = {
        "lessons": folder / "lessons", "image_vq": folder / "image_vq", "lm": folder / "lm", "output_dir": out,
        "steps": 2, "preset": "tiny", "batch_size": 1, "mixed_precision": "no", "n": 3,
    }  # fmt: skip
    return [*(str(x) for key, value in settings.items() for x in (f"--{key}", value)), "--no-progress", *more]


def test_runs_are_compared_once_and_readings_stand_beside_those_of_others(folder: Path, tmp_path: Path) -> None:
    lessons = read_lessons(folder / "lessons", "validation", ["read"])[1:3]
    other = tmp_path / "comparison" / "mlp"
    other.mkdir(parents=True)
    truths = {row["name"]: row["parts"][1]["text"] for row in lessons}
    lines = [{"name": name, "prediction": text, "truth": text} for name, text in truths.items()]
    (other / "readings.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    out = tmp_path / "out"
    command = flags(folder, out, "--rivals", "plain", "both", "--seeds", "0", "--jobs", "2")
    command += ["--comparison", str(other.parent)]
    assert compare_native.main(command) == 0
    told = json.loads((out / "native.json").read_text(encoding="utf-8"))
    assert [run["steps"] for run in told["runs"].values()] == [2, 2]
    for run in told["runs"].values():
        assert run["held_out"]["image_loss"] > 0 and run["norms"] and not run["not_finite"]
    assert told["readers"]["mlp"]["reading"]["note_f1"]["value"] == 1  # the truth itself
    native = told["readers"]["NativeVLM, both, seed 0"]["reading"]
    assert native["note_f1"]["value"] < 1 and native["parses"]["n"] == len(lessons)
    assert "| mlp |" not in (out / "native.md").read_text(encoding="utf-8")  # by its title
    assert Image.open(out / "gradients.png").size == (810, 190)
    written = (out / "both_0" / "log.jsonl").read_bytes()
    assert compare_native.main(command) == 0
    assert (out / "both_0" / "log.jsonl").read_bytes() == written
    assert compare_native.main([*command, "--learning_rate", "1e-4"]) == 1  # trained in another way


def test_a_run_that_fails_names_its_output(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = flags(folder, tmp_path, "--rivals", "plain", "--seeds", "0", "--image_vq", str(tmp_path / "absent"))
    assert compare_native.main(command) == 1
    assert "output.txt: its training ended with" in capsys.readouterr().err.replace("\n", " ")


def test_what_can_not_be_compared_is_told(folder: Path, tmp_path: Path) -> None:
    Settings = compare_native.CompareNativeArguments
    with pytest.raises(InputError, match="no rival 'best'"):
        Settings(output_dir="x", lessons="y", rivals=["best"])
    with pytest.raises(InputError, match="--lessons"):
        Settings(output_dir="x")
    with pytest.raises(InputError, match=r"run train\.compare_connectors first"):
        compare_native.rival_readings(str(tmp_path))
    other = tmp_path / "mlp"
    other.mkdir()
    (other / "readings.jsonl").write_text(json.dumps({"name": "elsewhere"}), encoding="utf-8")
    args = Settings(output_dir="x", lessons=str(folder / "lessons"), comparison=str(tmp_path))
    with pytest.raises(InputError, match="not among the lessons"):
        compare_native.held_out_systems(args)
