"""`intermezzo draw` as a function, with an untrained model: files, systems, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from intermezzo.cli import app
from intermezzo.configuration.configuration_image_vq import ImageVQConfig
from intermezzo.drawing import draw, draw_text, load_drawer, stack_systems, systems_of
from intermezzo.modeling.modeling_image_vq import ImageVQModel
from intermezzo.modeling.modeling_native_vlm import NativeVLMForCausalLM
from intermezzo.processing.alphatex_grammar import bars_close, read_alphatex
from intermezzo.processing.errors import InputError
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.processing_native_vlm import NativeVLMProcessor
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

from .tiny_lessons import system_row
from .tiny_native_vlm import VQ, native_config

torch.set_num_threads(1)

TEXT = "\\staff {tabs}\n\\ts (3 4) 3.3.4 5.3.4 r.4 |\n3.3.2{d} |\n0.6.2{d} |\n"


@pytest.fixture(scope="module")
def drawer() -> tuple[Any, Any]:
    torch.manual_seed(0)
    tokenizer = AlphaTexTokenizer()
    config = native_config(text_vocab_size=len(tokenizer), max_rows=8, max_columns=20, max_position_embeddings=340)
    return NativeVLMForCausalLM(config).eval(), NativeVLMProcessor.for_model(config, ScoreImageProcessor(), tokenizer)


def test_a_text_is_cut_into_systems() -> None:
    parts = systems_of(TEXT)
    assert parts == [TEXT.rpartition("0.6")[0], "\\staff {tabs}\n\\ts (3 4) 0.6.2{d} |\n"]
    assert systems_of(TEXT, 5) == [TEXT]
    both = systems_of(TEXT.replace("{tabs}", "{score tabs}"), 5)
    assert both == [TEXT]  # the staff above is not drawn
    with pytest.raises(InputError, match="no bars"):
        systems_of("")
    with pytest.raises(InputError, match="line 1"):
        systems_of("what is this")
    with pytest.raises(InputError, match="tablature"):
        systems_of("\\staff {score}\n\\ts (3 4) C4.2{d} |\n")


def test_a_system_that_is_too_long_is_told_before_anything_is_drawn(drawer: tuple[Any, Any], monkeypatch) -> None:
    monkeypatch.setattr(drawer[0], "decode_pictures", lambda *a: pytest.fail("drawn"))
    with pytest.raises(InputError, match=r"^from bar 3 on: .*window"):
        draw_text(*drawer, TEXT.replace("0.6.2{d}", "0.6.16 " * 300))


def test_pictures_are_stacked() -> None:
    sheet = stack_systems([Image.new("L", (10, 6), 0), Image.new("L", (14, 4), 0)])
    assert sheet.size == (14, 18) and sheet.getpixel((12, 2)) == 255 and sheet.getpixel((13, 15)) == 0


def test_files_are_drawn_and_what_fails_is_named(tmp_path: Path, drawer: tuple[Any, Any]) -> None:
    (tmp_path / "song.alphatex").write_text(TEXT, encoding="utf-8")
    (tmp_path / "bad.alphatex").write_text("what is this", encoding="utf-8")
    (tmp_path / "long.alphatex").write_text("\\staff {tabs}\n" + " ".join(["3.3.64"] * 128) + " |\n", encoding="utf-8")
    Image.new("L", (30, 30), 255).save(tmp_path / "picture.alphatex", "PNG")
    names = ["song", "bad", "absent", "long", "picture"]
    results = draw([tmp_path / f"{name}.alphatex" for name in names], tmp_path / "out", drawer=drawer, guidance=1.5)
    song, *failed = results
    assert song.error is None and song.text == TEXT
    with Image.open(song.file) as picture:
        assert picture.size == song.picture.size
    told = ("line 1", "can not be read", "window is 340", "--read to read a picture")
    for name, result, message in zip(names[1:], failed, told, strict=True):
        assert result.error.startswith(str(tmp_path / f"{name}.alphatex")) and message in result.error
        assert "\n" not in result.error
    chance = [draw([tmp_path / "song.alphatex"], seed=seed, drawer=drawer)[0].picture for seed in (1, 1, 2)]
    assert chance[0].tobytes() == chance[1].tobytes()
    assert chance[0].size != chance[2].size or chance[0].tobytes() != chance[2].tobytes()


def test_pictures_are_read(tmp_path: Path, drawer: tuple[Any, Any]) -> None:
    Image.fromarray(system_row((3, 5, 7, 0), "a 0").image).save(tmp_path / "tab.png")
    Image.new("L", (60, 60), 255).save(tmp_path / "white.png")
    good, bad = draw([tmp_path / "tab.png", tmp_path / "white.png"], tmp_path / "out", read=True, drawer=drawer)
    assert good.error is None, good.error
    assert read_alphatex(good.file.read_text(encoding="utf-8")).tracks
    assert bad.error.startswith(str(tmp_path / "white.png")) and "\n" not in bad.error
    with pytest.raises(InputError, match="does not load"):
        draw([tmp_path / "tab.png"], model=tmp_path)


def test_what_was_read_in_part_is_told(tmp_path: Path, drawer: tuple[Any, Any]) -> None:
    """Several systems are refused; a text that the window closes is noted; a picture that fills it is refused."""
    one = np.pad(system_row((3, 5, 7, 0), "a 0").image, ((0, 0), (0, 200)), mode="edge")
    files = {"one": one, "two": np.concatenate([one, one])}
    for name, picture in files.items():
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    single, double = draw([tmp_path / f"{name}.png" for name in files], read=True, drawer=drawer)
    assert double.error == f"{tmp_path / 'two.png'}: shows 2 systems; give a picture of one, or use `intermezzo read`"
    assert single.error is None and single.text
    model, processor = drawer
    asked = processor(images=[Image.open(tmp_path / "one.png")])["input_ids"].shape[1]
    length = len(processor.tokenizer.encode(single.text, add_special_tokens=False)) + 1
    assert (single.note is None) == (asked + length < 340 - 64)
    for room, message in ((63, "too few are left for its text"), (70, None)):
        processor.max_length = asked + room
        (found,) = draw([tmp_path / "one.png"], read=True, drawer=(model, processor))
        processor.max_length = 340
        if message is None:
            assert found.error is None and "bars may be missing" in found.note
            assert bars_close(read_alphatex(found.text))
        else:
            assert message in found.error and "\n" not in found.error


def test_files_do_not_overwrite_each_other_and_places_to_write_are_checked(
    tmp_path: Path, drawer: tuple[Any, Any]
) -> None:
    files = [tmp_path / folder / "song.alphatex" for folder in ("a", "b")]
    for file, text in zip(files, (TEXT, "\\staff {tabs}\n0.6.1 |\n"), strict=True):
        file.parent.mkdir()
        file.write_text(text, encoding="utf-8")
    results = draw(files, tmp_path / "out", drawer=drawer)
    assert [result.file.name for result in results] == ["song.png", "song-2.png"]
    (tmp_path / "taken").write_text("", encoding="utf-8")
    (result,) = draw(files[:1], tmp_path / "taken", drawer=drawer)
    assert result.file is None and "song.png: can not be written" in result.error and "\n" not in result.error
    for seed in (-1, 2**63):
        with pytest.raises(InputError, match="seed is"):
            draw(files, seed=seed, drawer=drawer)
    for guidance in (-1.0, float("nan"), float("inf")):
        (result,) = draw(files[:1], guidance=guidance, drawer=drawer)
        assert "guidance_scale is" in result.error


def test_other_checkpoints_are_refused_by_name(tmp_path: Path, drawer: tuple[Any, Any]) -> None:
    ImageVQModel(ImageVQConfig(**VQ)).save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="is a checkpoint of 'image_vq'"):
        load_drawer(tmp_path / "other")
    for part in drawer:
        part.save_pretrained(tmp_path / "whole")
    load_drawer(tmp_path / "whole")
    weights = tmp_path / "whole" / "model.safetensors"
    state = load_file(weights)
    save_file({name: value for name, value in state.items() if "q_proj" not in name}, weights, {"format": "pt"})
    with pytest.raises(InputError, match="2 weights are missing"):
        load_drawer(tmp_path / "whole")
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(InputError, match="does not load as a NativeVLM checkpoint"):
        load_drawer(tmp_path / "whole")


def test_the_verb_tells_what_failed_in_one_line_each(
    tmp_path: Path, drawer: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intermezzo.drawing.load_drawer", lambda model, device: drawer)
    (tmp_path / "song.alphatex").write_text(TEXT, encoding="utf-8")
    (tmp_path / "bad.alphatex").write_text("what is this", encoding="utf-8")
    Image.fromarray(system_row((3, 5, 7, 0), "a 0").image).save(tmp_path / "tab.png")
    run = CliRunner()
    drawn = run.invoke(app, ["draw", str(tmp_path / "song.alphatex"), "--out", str(tmp_path)])
    assert drawn.exit_code == 0 and drawn.stdout.strip() == str(tmp_path / "song.png"), drawn.output
    both = run.invoke(
        app, ["draw", *(str(tmp_path / f"{n}.alphatex") for n in ("bad", "song")), "--out", str(tmp_path)]
    )
    assert both.exit_code == 1 and both.stdout.strip() == str(tmp_path / "song.png")
    told = [line for line in both.stderr.splitlines() if "bad.alphatex" in line]
    assert len(told) == 1 and "Traceback" not in both.output
    read = run.invoke(app, ["draw", "--read", str(tmp_path / "tab.png")])
    assert read.exit_code == 0 and read_alphatex(read.stdout).tracks
