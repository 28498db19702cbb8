"""Captions and targets of folders as users have them: what can not be read is told, what is there stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from intermezzo.datasets_scripts.build_style_pairs import main
from intermezzo.datasets_scripts.style_targets import find_style_pictures, make_targets
from intermezzo.processing.text_encoder import EncodedTexts

torch.set_num_threads(1)
L, D = 4, 6


def encode(texts: list[str]) -> EncodedTexts:
    """Letters counted into six bins, for the pooled embedding; the rest is ones."""
    pooled = np.array([np.bincount([ord(c) % D for c in text], minlength=D) for text in texts], np.float32)
    return EncodedTexts(np.ones((len(texts), L, D), np.float32), pooled, np.ones((len(texts), L), np.int8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    style = tmp_path / "data" / "style"
    style.mkdir(parents=True)
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8), "red").save(style / f"{name}_img.png")
    return tmp_path / "data"


def test_captions_in_another_encoding_are_told_and_not_guessed(folder: Path, capsys) -> None:
    style = folder / "style"
    (style / "a.txt").write_text("一个铃", encoding="gb18030")
    (style / "b.txt").write_text("a bell", encoding="utf-8-sig")  # as some editors write it
    (style / "captions.csv").write_text("name,caption\nc,流星\n", encoding="gb18030")
    report = make_targets(folder, encode, progress=False)
    told = dict(report["failures"])
    assert set(told) == {str(style / name) for name in ("a.txt", "captions.csv", "a_img.png", "c_img.png")}
    assert all("UTF-8" in told[str(style / name)] for name in ("a.txt", "captions.csv"))
    assert report["made"] == 1 and not list(style.glob("a_*.pt"))
    np.testing.assert_array_equal(torch.load(style / "b_pooled.pt"), encode(["a bell"]).pooled[0])
    (style / "captions.csv").write_text('name,caption\nc,"two\nlines"\n', encoding="utf-8-sig")
    captions = {picture.name: picture.caption for picture in find_style_pictures(folder)[0]}
    assert captions == {"a": None, "b": "a bell", "c": "two\nlines"}
    assert main(["--make-targets", str(folder), "--encoder", "os:path"]) == 1
    assert "os:path" in capsys.readouterr().err


def test_targets_that_are_there_stay_unless_they_are_to_be_overwritten(folder: Path) -> None:
    style = folder / "style"
    (style / "a.txt").write_text("a bell", encoding="utf-8")
    own = torch.full((L, D), 7.0)
    torch.save(own, style / "a_embed.pt")
    assert make_targets(folder, encode, progress=False)["made"] == 1
    assert torch.equal(torch.load(style / "a_embed.pt"), own) and (style / "a_pooled.pt").is_file()
    assert make_targets(folder, encode, progress=False) | {"failures": []} == {"made": 0, "kept": 1, "failures": []}
    make_targets(folder, encode, overwrite=True, progress=False)
    assert torch.equal(torch.load(style / "a_embed.pt"), torch.ones(L, D))
    assert not list(style.glob("*.part"))


def test_pictures_without_targets_are_counted(folder: Path, tmp_path: Path, capsys) -> None:
    (folder / "style" / "a.txt").write_text("a bell", encoding="utf-8")
    make_targets(folder, encode, progress=False)
    words = ["--source", str(folder), "--test", "0", "--validation", "0", "--quiet"]
    assert main(["--out", str(tmp_path / "out"), *words]) == 0
    assert "without targets, so that only their style is learnt: 2" in capsys.readouterr().out
    assert main(["--out", str(tmp_path / "all"), *words, "--ignore-targets", "embed,pooled,mask"]) == 0
    assert "without targets" not in capsys.readouterr().out
