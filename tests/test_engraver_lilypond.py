"""LilyPond: the source that we write for it, and that it draws each sign at the note that the text names."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intermezzo.datasets_scripts.engravers import EngravedSystem, lilypond
from intermezzo.datasets_scripts.engravers.lilypond_source import pitch_name, repeat_commands, semitone, source_of
from intermezzo.datasets_scripts.render.jobs import RenderError
from intermezzo.processing.alphatex_grammar import read_alphatex, write_alphatex

STYLE = lilypond.random_style(random.Random(1)) | {
    "line_px": 13.0, "staff_size": 20, "grey": 0, "clef": "tab", "bar_number": 0, "final_bar": False, "spread": 1.2,
}  # fmt: skip
ABOVE = STYLE | {"score": True, "full": False}
HEAD = "\\staff {tabs}\n"
installed = pytest.mark.skipif(lilypond.absent() is not None, reason=f"{lilypond.absent()}")


def draw(body: str, style: dict | None = None, metre: tuple[int, int] = (4, 4)) -> EngravedSystem:
    return lilypond.engrave(HEAD + body + " |\n", style or STYLE, metre=metre)


def written(body: str, style: dict | None = None) -> tuple[list[str], dict[int, tuple[int, int, int]]]:
    """Lines of the source, and the lines of the beats of the tab."""
    text, places, _ = source_of(lilypond.visible(read_alphatex(HEAD + body + " |\n")), style or STYLE)
    return text.split("\n"), places


def kept(body: str) -> str:
    text = write_alphatex(lilypond.visible(read_alphatex(HEAD + body + " |\n")))
    return " ".join(text.removeprefix(HEAD).split()).removesuffix(" |")


# --- the source ----------------------------------------------------------------------------------------------------


def test_pitches_have_lilyponds_names() -> None:
    assert [pitch_name(2 * semitone(n)) for n in "E4 B3 G3 D3 A2 E2 B1".split()] == "e' b g d a, e, b,,".split()
    assert pitch_name(2 * 70, flat=True) == "bes'" and pitch_name(2 * 70) == "ais'"
    assert pitch_name(2 * 60 + 1) == "cih'" and pitch_name(2 * 61 + 1, flat=True) == "cisih'"
    steps = dict(zip("c cis d dis e f fis g gis a ais b".split(), range(12), strict=True))
    for number in range(128):
        name, marks = re.fullmatch(r"([a-z]+)([',]*)", pitch_name(2 * number)).groups()  # type: ignore[union-attr]
        assert steps[name] + 12 * (4 + marks.count("'") - marks.count(",")) == number


def test_each_beat_has_a_line_of_its_own() -> None:
    lines, places = written(
        "\\ts (4 4) 5.2{h}.4 3.2.16{gr} 7.2{g}.8 r.8{d} (0.6{x} 2.4).16 | 1.1.2{d} 12.3{nh}.4{tu (3 2)} 5.3.8{tu (3 2)}"
    )
    beats = {place: lines[number - 1] for number, place in places.items()}
    assert beats == {
        (0, 0, 0): "<e'\\2\\=1(>4",
        (0, 0, 1): "<d'\\2\\=1)>16",
        (0, 0, 2): "<\\parenthesize fis'\\2>8",
        (0, 0, 3): "r8.",
        (0, 0, 4): "<e\\4 \\deadNote e,\\6>16",
        (1, 0, 0): "<f'\\1>2.",
        (1, 0, 1): "<g'\\3\\harmonic>4",
        (1, 0, 2): "<c'\\3>8",
    }


def test_repeats_and_endings_are_told_at_the_bar_lines() -> None:
    bars = (
        read_alphatex(
            HEAD + "\\ro 1.1.1 | \\ae (1 2) 1.1.1 | \\ae (1 2) \\rc 3 1.1.1 | \\ae (3) \\ro 1.1.1 | \\rc 2 1.1.1 |\n"
        )
        .staves[0]
        .bars
    )
    assert [repeat_commands(bars, k) for k in range(len(bars) + 1)] == [
        "", '(volta "1. 2.")', "", '(volta #f) end-repeat (volta "3.") start-repeat', "(volta #f)",
        "end-repeat",
    ]  # fmt: skip


@pytest.mark.parametrize(("body", "why"), [
    ("5.2{t}.1", "tie that starts outside"), ("5.2.2 6.2{t}.2", "tie that starts outside"),
    ("5.2.2 | 5.2.1", None), ("5.2.1 | 5.2.2", "bar 2 does not fill"), ("5.2.1 5.2.4", "bar 1 does not fill"),
    ("5.2.1 5.1.8{gr}", "grace note needs"), ("(5.2{pm} 3.1).1", "pm of some notes"),
    ("5.2{h}.2 5.2.2", "looks like a tie"), ("\\tempo 96.5 5.2.1", "whole numbers"), ("5.2.-2", "longer than a whole"),
])  # fmt: skip
def test_what_would_not_be_true_is_refused(body: str, why: str | None) -> None:
    if why is None:
        assert any("\\partial 1*1/2" in line for line in written(body)[0])
        return
    with pytest.raises(ValueError, match=why):
        written(body)


@pytest.mark.parametrize(("body", "left"), [
    ("(5.2{be (bend 0 0 60 4)} 3.1).1", "(3.1 5.2).1"), ("5.2{be (prebend 0 4 60 4)}.1", "5.2.1"),
    ("5.2{be (bend 0 0 60 9)}.1", "5.2.1"),
    ("5.2{h}.2 7.2{sib}.2", "5.2{h}.2 7.2.2"), ("5.2{h}.2 7.2{sou}.2", "5.2{h}.2 7.2{sou}.2"),
    ("5.2{sou}.2 5.2{t}.2", "5.2.2 5.2{t}.2"), ("5.2{sl}.2 7.1.2", "5.2.2 7.1.2"),
    ("(5.2{sou} 3.1{sod}).1", "(3.1 5.2).1"), ("5.2{tr 7}.1", "5.2.1"), ("5.2.1{gr ob} 5.2.1", "5.2.1{gr} 5.2.1"),
])  # fmt: skip
def test_what_it_can_not_show_is_left_out_of_the_text(body: str, left: str) -> None:
    assert kept(body) == left


def test_a_system_tells_neither_tuning_nor_capo() -> None:
    score = read_alphatex("\\staff {tabs}\n\\tuning (E4 B3 G3 D3 A2 D2)\n\\capo 3\n3.6.1 |\n")
    assert write_alphatex(lilypond.visible(score)) == "\\staff {tabs}\n3.6.1 |\n"


def test_an_old_or_absent_program_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lilypond, "find_program", lambda: None)
    assert "pip install lilypond" in str(lilypond.absent()) and "\n" not in str(lilypond.absent())
    monkeypatch.setattr(lilypond, "find_program", lambda: Path("lilypond-old"))
    monkeypatch.setattr(lilypond, "_version", lambda program: (2, 22))
    assert lilypond.absent() == "lilypond-old is older than 2.24; run `pip install lilypond`"
    monkeypatch.setattr(lilypond, "_version", lambda program: (2, 24))
    assert lilypond.absent() is None


# --- drawings ------------------------------------------------------------------------------------------------------


@installed
@pytest.mark.parametrize(("first", "second"), [
    ("(5.2{h} 5.3).2 (7.2 7.3).2", "(5.2 5.3{h}).2 (7.2 7.3).2"),
    ("(5.2{ss} 5.3).2 (7.2 7.3).2", "(5.2 5.3{ss}).2 (7.2 7.3).2"),
])  # fmt: skip
def test_the_notes_of_a_chord_are_told_apart(first: str, second: str) -> None:
    """What is drawn between two chords lies one line lower when the text names the next string."""
    one, other = draw(first), draw(second)
    x0, x1 = (round(one.beat_x[0, 0, k]) for k in (0, 1))
    changed = []
    for system in (one, other):
        ys = np.flatnonzero((system.image[:, x0 + 12 : x1 - 12] < 128).mean(axis=1) < 0.9)
        ink = (system.image[ys][:, x0 + 12 : x1 - 12] < 160).sum(axis=1)
        changed.append(float((ink * ys).sum() / ink.sum()) - system.tab_line_ys[0])
    assert 0.5 * one.line_px < changed[1] - changed[0] < 1.6 * one.line_px


@installed
def test_unseen_notes_are_no_part_of_the_truth() -> None:
    body = "5.2{sib}.4 5.2{sou}.4 5.2{be (bend 0 0 60 4)}.4 5.2{be (bendrelease 0 0 30 2 30 2 60 0)}.4"
    system = draw(body)
    assert kept(body) + " |" in system.text and len(system.beat_x) == len(system.note_y) == 4
    ink = []
    for k in range(4):  # no number stands beside those of the text
        x, y, half = round(system.beat_x[0, 0, k]), round(system.tab_line_ys[1]), round(0.4 * system.line_px)
        ink.append((system.image[y - half : y + half, x - half : x + half] < 128).mean())
    assert min(ink) > 0.1 and np.ptp(ink) < 0.1


@installed
def test_a_score_staff_stands_above_the_tab_and_hides_its_ties() -> None:
    body = "\\ks bb 5.2.4 5.2{t}.4 7.2{st}.4 r.4"
    system = draw(body, ABOVE)
    assert system.has_score and "\\ks bb" in system.text and "{st}" in system.text and "5.2{t}" in system.text
    above = system.image[: int(system.tab_line_ys[0] - 2 * system.line_px)]
    assert ((above < 160).mean(axis=1) > 0.6).sum() >= 5
    xs = [system.beat_x[0, 0, k] for k in range(4)]
    assert xs == sorted(xs) and len(system.note_y) == 3  # the hidden number has its place, the rest that above
    assert not np.array_equal(system.image.shape, draw(body).image.shape)


@installed
def test_the_metre_in_force_fills_the_bars() -> None:
    system = draw("5.2.4 7.2.4 8.2.4 | 5.2.2{d}", metre=(3, 4))
    assert "\\ts" not in system.text and system.metre == (3, 4) and len(system.bar_x) == 2
    assert system.image.shape[1] < draw("\\ts (3 4) 5.2.4 7.2.4 8.2.4 | 5.2.2{d}").image.shape[1]


@installed
def test_a_drawing_that_differs_from_the_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(old: str, new: str) -> Callable:
        def change(*arguments: Any) -> tuple:
            text, places, above = source_of(*arguments)
            assert old in text
            return text.replace(old, new), places, above

        return change

    for old, new in (("<e'\\2>", "<f'\\2>"), ("<e'\\2>", "<e'\\3>"), ("<e'\\2>", "r"), ("<e'\\2>", "<e'\\2 c'\\3>")):
        monkeypatch.setattr(lilypond, "source_of", other(old, new))
        with pytest.raises(ValueError, match="beat 1 of bar 1 was not drawn as the text says"):
            draw("5.2.1")
    monkeypatch.setattr(lilypond, "source_of", other("<e'\\2>1", "<e'\\2>2"))
    with pytest.raises(ValueError, match="in doubt"):
        draw("5.2.1")
    monkeypatch.setattr(lilypond, "source_of", other("\\new TabStaff", "\\new Tablature"))
    with pytest.raises((RenderError, ValueError), match="LilyPond") as caught:
        draw("5.2.1")
    assert "\n" not in str(caught.value)
