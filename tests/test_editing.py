"""`intermezzo edit` as a function and as a verb: what is written, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from intermezzo import editing, reading
from intermezzo.cli_edit import add_edit_verb
from intermezzo.editing import before_and_after, edit, known_edits, understand_instruction
from intermezzo.processing.edit_language import DOMAINS, EditStep, parse_program
from intermezzo.processing.errors import InputError
from intermezzo.processing.processing_edit import Understanding
from intermezzo.train import edit_data

TEXT = "\\staff {tabs}\n0.1.4 3.1.4 5.2.4 3.2.4 |\n"
UP = "\\staff {tabs}\n2.1.4 5.1.4 7.2.4 5.2.4 |\n"
EDITOR = (None, None)


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.alphatex"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def means(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Decides what the model takes every instruction for."""

    def set_to(line: str, chance: float = 0.9) -> None:
        program = (EditStep("unknown"),) if line == "unknown" else parse_program(line) if line else ()
        monkeypatch.setattr(edit_data, "understand", lambda m, p, texts: [Understanding(program, chance)] * len(texts))

    return set_to


def test_an_instruction_changes_a_text(song: Path, tmp_path: Path, means: Any) -> None:
    means("transpose +2")
    result = edit(song, "升高一个全音", out=tmp_path / "out", formats=("alphatex", "musicxml"), editor=EDITOR)
    assert (result.before, result.text, result.program, result.chance) == (TEXT, UP, "transpose +2", 0.9)
    assert [file.name for file in result.files] == ["song-edited.alphatex", "song-edited.musicxml"]
    assert result.files[0].read_text(encoding="utf-8") == UP


def test_the_edit_language_needs_no_model(song: Path) -> None:
    assert edit(song, "transpose +2", model="nowhere").text == UP
    assert understand_instruction("Style rock; capo 2")[1] == 1.0


@pytest.mark.parametrize(
    ("line", "chance", "why"),
    [
        ("unknown", 0.9, "none that this can carry out"),
        ("", 0.9, "nothing to do"),
        ("transpose +2; transpose -2", 0.9, "contradicts itself"),
        ("style rock", 0.2, "not sure what"),
        ("capo 0", 0.9, "song.alphatex: there is no capo"),
    ],
)
def test_what_is_not_understood_or_not_possible_writes_nothing(
    song: Path, tmp_path: Path, means: Any, line: str, chance: float, why: str
) -> None:
    means(line, chance)
    with pytest.raises(InputError, match=why) as told:
        edit(song, "做点什么", out=tmp_path / "out", editor=EDITOR)
    assert "\n" not in str(told.value) and not (tmp_path / "out").exists()


def test_bad_inputs_are_told_in_one_line(song: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.alphatex"
    broken.write_text("3.3.4 5.5 oops", encoding="utf-8")
    binary = tmp_path / "binary.alphatex"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    cut, words = tmp_path / "cut.gp", tmp_path / "words.gp"
    cut.write_bytes(b"PK\x03\x04broken")  # control characters are no alphaTex, whatever else they are
    words.write_text("hand clap zzz")
    for source, instruction, formats, why in (
        (cut, "capo 2", ("alphatex",), "cut.gp: a damaged"),
        (words, "capo 2", ("alphatex",), "words.gp: line 1.{,280}$"),
        (song, "   ", ("alphatex",), "empty"),
        (song, "capo 2", ("wav",), "'wav' can not be written"),
        (tmp_path / "none.png", "capo 2", ("alphatex",), "no such file"),
        (broken, "capo 2", ("alphatex",), "broken.alphatex: line 1"),
        (binary, "capo 2", ("alphatex",), "no text in UTF-8"),
    ):
        with pytest.raises(InputError, match=why):
            edit(source, instruction, formats=formats)
    with pytest.raises(InputError, match="holds no model of edits"):
        edit(song, "升两个半音", model=tmp_path)


def test_a_picture_is_read_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "tab.png"
    Image.new("L", (300, 100), 255).save(picture)
    system = reading.NamedSystem("tab", 1, 4, 0.1, True, [1])
    monkeypatch.setattr(reading, "read", lambda *a, **k: [reading.ReadResult("tab", TEXT, [system])])
    result = edit(picture, "transpose +2")
    assert result.text == UP and "tuning" in (result.note or "") and "bar 1" in (result.note or "")
    monkeypatch.setattr(reading, "read", lambda *a, **k: [reading.ReadResult("tab", error="tab.png: blank")])
    with pytest.raises(InputError, match="blank"):
        edit(picture, "transpose +2")
    monkeypatch.setattr(reading, "read", lambda *a, **k: [reading.ReadResult("a", TEXT), reading.ReadResult("b", TEXT)])
    with pytest.raises(InputError, match="2 pages"):
        edit(picture, "transpose +2")


def test_the_sheet_shows_both(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = edit(song, "transpose +2")
    drawn: list[str] = []

    def redraw(text: str, width: int, height: int, pool: Any, systems: int | None = None) -> Image.Image:
        drawn.append(text)
        return Image.new("L", (width, 80), 128)

    monkeypatch.setattr("intermezzo.reading_outputs.redraw", redraw)
    sheet = before_and_after(result, None)
    assert drawn == [TEXT, UP] and sheet.size == (1200, 220)
    assert before_and_after(result, None, Image.new("RGB", (600, 50), "white")).height == 100 + 80 + 60


def test_the_verb(song: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    add_edit_verb(app)
    runner = CliRunner()
    printed = runner.invoke(app, ["edit", str(song), "transpose +2"])
    assert printed.exit_code == 0 and UP in printed.output and "understood: transpose +2" in printed.output
    written = runner.invoke(app, ["edit", str(song), "capo 2", "--out", str(tmp_path / "out")])
    assert written.exit_code == 0 and (tmp_path / "out" / "song-edited.alphatex").is_file()
    failed = runner.invoke(app, ["edit", str(song), ""])
    assert isinstance(failed.exception, InputError)
    assert all(name in known_edits() for name in DOMAINS) and editing.default_checkpoint().name == "edit"
