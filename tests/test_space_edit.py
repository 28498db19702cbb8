"""The Space's tab Edit: what it opens, what it says of an edit, what it refuses, and how it looks in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from intermezzo.datasets_scripts.edit_programs import apply_program
from intermezzo.processing.alphatex_grammar import read_alphatex, write_alphatex
from intermezzo.processing.edit_language import DOMAINS, MEANINGS, parse_program
from intermezzo.processing.errors import InputError
from intermezzo.space import edit_tab
from intermezzo.space.edit_tab import INSTRUCTIONS, PIECES, changed_bars, edit_piece, open_piece
from intermezzo.space.models import Models
from intermezzo.space.words import _EDITS_ZH, Refused, Words

from .test_space import (  # noqa: F401
    EXAMPLES,
    address,
    browser,
    models,
    no_sideways_scroll,
    server,
    shoot,
    visit,
    wait_engraved,
)

torch.set_num_threads(1)
TUNES = [piece for piece in PIECES if "\n" in piece]
TEXT = "\\staff {tabs}\n\\ts (3 4) 3.3.4 5.3.4 r.4 |\n(3.3 5.4).2{d} |\n0.6.2{d} |\n"
# What each instruction that stands there to be clicked is meant to do.
MEANT = {
    "make it rock": "style rock", "up a whole tone": "transpose +2", "make it easier": "simplify",
    "put a capo on fret 2": "capo 2", "add a bass line": "bass", "改为摇滚风格": "style rock",
    "升高一个全音": "transpose +2", "简化一下": "simplify", "变调夹夹2品": "capo 2", "加上低音": "bass",
}  # fmt: skip


def edited(models: Models, text: str, line: str, language: str = "en") -> tuple[str, dict[str, Any]]:  # noqa: F811
    return edit_piece(text, line, 0, "song", models, Words(language))


# --- Without a browser ------------------------------------------------------------------------------------------------


def test_what_stands_there_to_be_clicked_does_what_it_says(models: Models) -> None:  # noqa: F811
    assert {wish for wishes in INSTRUCTIONS.values() for wish in wishes} == set(MEANT)
    tune = TUNES[0]  # stands in the box from the start
    for wish, line in MEANT.items():
        told, shown = edited(models, tune, wish)
        assert f"<code>{line}</code>" in told, (wish, told)
        assert shown["after"] == apply_program(tune, parse_program(line)) != shown["before"] == tune


def test_the_pieces_that_come_along_are_canonical() -> None:
    for tune in TUNES:
        assert write_alphatex(read_alphatex(tune)) == tune
    assert all("\n" in piece or (EXAMPLES / piece).is_file() for piece in PIECES)


def test_bars_that_are_written_differently_are_found() -> None:
    other = TEXT.replace("(3.3 5.4)", "(3.3 7.4)")
    assert changed_bars(TEXT, TEXT) == [] and changed_bars(TEXT, other) == [2]
    assert changed_bars(TEXT, TEXT + "3.3.2{d} |\n") is None
    assert changed_bars(TEXT, apply_program(TEXT, parse_program("capo 2"))) == []
    assert changed_bars(TEXT, apply_program(TEXT, parse_program("melody"))) == [2]
    assert changed_bars(TEXT, apply_program(TEXT, parse_program("transpose +2"))) == [1, 2, 3]
    low = apply_program(TEXT, parse_program("bass"))  # its own second voice; no bar gets one as mere padding
    assert changed_bars(TEXT, low) == [
        1 + i for i, bar in enumerate(read_alphatex(low).staves[0].bars) if bar.voices[1]
    ]


def test_the_sentence_says_what_changed(models: Models) -> None:  # noqa: F811
    told, shown = edited(models, TEXT, "melody")
    assert "Bars changed: 2" in told and shown["changed"] == [2] and MEANINGS["melody"] in told
    told, shown = edited(models, TEXT, "transpose +2")
    assert "Every bar is changed." in told and shown["changed"] == []
    told, shown = edited(models, TEXT, "capo 2", "zh")
    assert "变调夹" in told and shown["changed"] == [] and "\\capo 2" in shown["after"] and "把握" not in told
    told, shown = edited(models, "\\staff {tabs}\n3.3.1 |\n5.3.1 |\n", "metre 2/4")
    assert "2 bars became 4 bars." in told and shown["changed"] == []
    told, _ = edited(models, TEXT, "只留旋律", "zh")
    assert re.search(r"把握 \d+%", told)
    assert edit_tab._ranges([1, 2, 3, 7, 9, 10]) == "1–3, 7, 9–10"


def test_text_that_alphatab_reads_is_edited(models: Models) -> None:  # noqa: F811
    _, shown = edited(models, '\\title "Tune"\n\\tempo 90 :4 3.3 5.3 r r | 3.3.1', "transpose +2")
    assert "5.3.4 7.3.4" in shown["after"]


def test_an_edit_can_be_edited(models: Models) -> None:  # noqa: F811
    text = TEXT
    for line in ("capo 2", "tuning drop-d", "transpose +2"):
        _, shown = edited(models, text, line)
        assert shown["before"] == text
        text = shown["after"]
    assert "\\capo 2" in text and "\\tuning" in text


@pytest.mark.parametrize(
    ("text", "line", "english", "chinese"),
    [
        ("", "capo 2", "Give a piece", "请先给出乐谱"),
        (TEXT, "  ", "Say what to change", "请说要怎样改"),
        ("what is this", "capo 2", "Line", "无法处理"),
        ("\\staff {tabs}\n3.3.1 |\n3.3.4 |\n3.3.1 |\n", "capo 2", "Bar 2, voice 1", "第 2 小节拍数不对"),
        (TEXT, "capo 2; capo 3", "contradicts", "自相矛盾：'capo 2' 与 'capo 3'"),
        (TEXT, "capo 0", "no capo", "没有变调夹"),
        (TEXT, "metre 3/4", "already", "已经是 3/4 了"),
        (TEXT, "讲个笑话", "carry out", "可以怎样改"),
        (TEXT, "改" * 300, "300 characters", "最多 200 个字"),
        ("3.3.4 " * 20_000, "capo 2", "too long", "太长"),
        ("\\staff {tabs}\n" + "3.3.1 |\n" * 201, "capo 2", "200 bars", "200 小节"),
    ],
)
def test_what_can_not_be_edited_is_one_friendly_line(
    models: Models, text: str, line: str, english: str, chinese: str  # noqa: F811
) -> None:  # fmt: skip
    for language, expected in (("en", english), ("zh", chinese)):
        words = Words(language)
        with pytest.raises(InputError) as told:
            edit_piece(text, line, 0, "song", models, words)
        said = words.problem(told.value)
        assert expected in said and "\n" not in said and "piece.alphatex" not in said and len(said) < 400


def test_files_are_opened(models: Models, tmp_path: Path) -> None:  # noqa: F811
    from intermezzo.datasets_scripts.render.verbs import convert

    words = Words("en")
    for suffix in (".alphatex", ".gp", ".musicxml"):
        file = tmp_path / f"song{suffix}"
        convert(TEXT, file)
        told, shown = open_piece(file, models, words)
        assert "Opened: 3 bars" in told and shown["name"] == "song" and shown["after"] == ""
        assert edited(models, shown["before"], "transpose +2")[1]["after"].count("5.3") == 2, suffix


def test_a_picture_is_read_and_its_doubts_are_counted_through(
    models: Models, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    from intermezzo import reading

    systems = [reading.NamedSystem("a", 2, 4, 0.1, True, [2]), reading.NamedSystem("b", 1, 2, 0.1, True, [1])]
    monkeypatch.setattr(models, "reader", lambda: None)
    monkeypatch.setattr(reading, "read", lambda *a, **k: [reading.ReadResult("malaguena", TEXT, systems)])
    told, shown = open_piece(EXAMPLES / "malaguena.png", models, Words("en"))
    assert shown["doubtful"] == [2, 3] and "bars in doubt: 2–3" in told and "tuning and capo" in told
    lost = reading.ReadResult("malaguena", error=f"{EXAMPLES / 'malaguena.png'}: no tab staff was found")
    monkeypatch.setattr(reading, "read", lambda *a, **k: [lost])
    with pytest.raises(InputError) as refused:
        open_piece(EXAMPLES / "malaguena.png", models, Words("zh"))
    assert "没有找到六线谱" in Words("zh").problem(refused.value)


def test_files_that_are_not_taken_are_refused(models: Models, tmp_path: Path) -> None:  # noqa: F811
    from PIL import Image

    words = Words("en")
    midi, several, broken = tmp_path / "song.mid", tmp_path / "pages.pdf", tmp_path / "song.gp"
    midi.write_bytes(b"MThd")
    broken.write_bytes(b"PK no zip")
    page = Image.new("L", (200, 200), 255)
    page.save(several, save_all=True, append_images=[page])
    for file, kind, why in ((midi, Refused, "strings and frets"), (several, Refused, "several pages")):
        with pytest.raises(kind, match=why):
            open_piece(file, models, words)
    with pytest.raises(InputError) as told:
        open_piece(broken, models, words)
    assert "\n" not in words.problem(told.value) and str(tmp_path) not in words.problem(told.value)
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "edit").symlink_to(models.folder / "edit")
    with pytest.raises(Refused, match="strings and frets"):  # no reader: no pictures
        open_piece(EXAMPLES / "lead.png", Models(tmp_path / "only"), words)


def test_every_edit_is_described_in_both_languages() -> None:
    assert set(_EDITS_ZH) == set(MEANINGS) == set(DOMAINS)
    for language in ("en", "zh"):
        folded = edit_tab._known(Words(language))
        assert all(f"<code>{name}" in folded and Words(language).edit(name) in folded for name in DOMAINS)


# --- In a browser -----------------------------------------------------------------------------------------------------


def test_an_instruction_changes_the_piece_and_both_play(visit: Callable[..., Any]) -> None:  # noqa: F811
    page = visit("edit")
    assert not page.locator("#im-edit-after").is_visible() and not page.locator("#im-edit-on").is_visible()
    page.locator("#im-edit-go").click()
    page.wait_for_selector("#im-edit-news .im-problem")
    page.locator("#im-edit-text textarea").fill(TEXT)
    page.locator("#im-edit-instruction textarea, #im-edit-instruction input").fill("melody; capo 2")
    page.keyboard.press("Enter")
    wait_engraved(page, "im-edit-before")
    wait_engraved(page, "im-edit-after")
    assert "Bars changed: 2" in page.locator("#im-edit-news").inner_text()
    page.wait_for_selector("#im-edit-after .im-doubt", state="attached")
    assert page.locator("#im-edit-after .im-doubt").count() == 1
    assert "changed" in page.locator("#im-edit-after .im-doubt").get_attribute("title")
    assert page.locator("#im-edit-before .im-doubt").count() == 0
    for sheet in ("before", "after"):
        page.wait_for_selector(f"#im-edit-{sheet}[data-ready=yes]")
        page.locator(f"#im-edit-{sheet} .im-play").click()
        page.wait_for_function(f"Number(document.getElementById('im-edit-{sheet}').dataset.tick || 0) > 300")
    assert page.locator("#im-edit-before .im-playing").count() == 0, "only one sounds at a time"
    page.locator("#im-edit-after .im-play").click()
    shoot(page, "edit")
    starts = {"alphatex": b"\\staff", "mid": b"MThd", "gp": b"PK", "musicxml": b"<?xml"}
    for kind, start in starts.items():
        with page.expect_download() as kept:
            page.locator(f"#im-edit-after [data-format={kind}]").click()
        assert kept.value.suggested_filename == f"piece-edited.{kind}"
        assert Path(kept.value.path()).read_bytes().startswith(start)
    page.locator("#im-edit-on").click()
    page.wait_for_function("document.querySelector('#im-edit-text textarea').value.includes('\\\\capo 2')")
    assert not page.locator("#im-edit-after").is_visible()


def test_a_picture_is_edited_with_one_click_in_chinese_on_a_phone(visit: Callable[..., Any]) -> None:  # noqa: F811
    page = visit("edit", language="zh", width=390, height=844)
    no_sideways_scroll(page)
    page.set_input_files("#im-edit-file input[type=file]", EXAMPLES / "malaguena.png")
    wait_engraved(page, "im-edit-before")
    assert "已打开：4 小节" in page.locator("#im-edit-news").inner_text()
    page.get_by_role("button", name="改为摇滚风格", exact=True).click()
    wait_engraved(page, "im-edit-after")
    assert "style rock" in page.locator("#im-edit-news").inner_text()
    page.get_by_text("可以怎样改", exact=True).click()
    page.wait_for_selector(".im-known li >> nth=0")
    no_sideways_scroll(page)
    shoot(page, "edit-phone")
