"""`intermezzo draw` as a function, with an untrained model: files, systems, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from intermezzo.drawing import draw, stack_systems, systems_of
from intermezzo.modeling.modeling_native_vlm import NativeVLMForCausalLM
from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.errors import InputError
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.processing_native_vlm import NativeVLMProcessor
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

from .tiny_lessons import system_row
from .tiny_native_vlm import native_config

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
