"""abcjs: the ABC that we write for it, and the numbers that it chooses, read off its drawing."""

from __future__ import annotations

import random

import numpy as np
import pytest

from intermezzo.datasets_scripts.engravers import EngravedSystem, abcjs, engraved_systems
from intermezzo.datasets_scripts.engravers.lilypond_source import semitone
from intermezzo.datasets_scripts.engravers.process import EngraverWorker
from intermezzo.processing.alphatex_grammar import bars_close, read_alphatex, write_alphatex
from intermezzo.processing.alphatex_types import DEFAULT_TUNING
from intermezzo.processing.dense_labels import build_label_space, encode_system

HEAD = "\\staff {tabs}\n"
STYLE = abcjs.random_style(random.Random(1)) | {"line_px": 13.0, "final_bar": False, "text_font": "arimo"}
installed = pytest.mark.skipif(abcjs.absent() is not None, reason=f"{abcjs.absent()}")


@pytest.fixture(scope="module")
def worker():
    process = EngraverWorker()
    yield process
    process.close()


def draw(body: str, worker: EngraverWorker, **changes: object) -> EngravedSystem:
    return abcjs.engrave(HEAD + body + " |\n", STYLE | changes, worker)


def music(body: str, **changes: object) -> str:
    return abcjs.abc_of(abcjs.visible(read_alphatex(HEAD + body + " |\n")), STYLE | changes).splitlines()[-1]


def pitches(text: str) -> list[list[int]]:
    return [
        sorted(semitone(DEFAULT_TUNING[n.string - 1]) + n.fret for n in beat.notes)
        for *_, beat in read_alphatex(text).beats()
    ]


def test_pitches_are_written_an_octave_higher() -> None:
    assert music("\\ts (4 4) 0.6.4 3.5.4 0.1.4 8.1.4") == "E,16 C16 e16 c'16 |"
    assert music("\\ts (4 4) (0.6 2.5 2.4).2{d} r.8 r.8") == "[E,B,E]48 z8 z8 |"


def test_signs_are_written_where_the_key_and_the_bar_do_not_tell_them() -> None:
    assert music("\\ks d \\ts (4 4) 2.1.4 1.1.4 2.1.4 3.2.4 | 2.1.1") == "f16 =f16 ^f16 d16 |f64 |"
    assert music("\\ks f \\ts (2 4) 3.3.4 6.2.4 | \\ks g 2.1.2") == "B16 f16 |[K:G]f32 |"
    assert abcjs.abc_of(abcjs.visible(read_alphatex(HEAD + "\\ks bb 1.1.1 |\n")), STYLE).splitlines()[2:4] == [
        "M:none", "K:Bb",
    ]  # fmt: skip


def test_beams_tuplets_ties_and_repeats_are_told() -> None:
    three = "0.1.8{tu (3 2)} "
    assert music(f"\\ro \\ts (2 4) 0.1.8 0.1.8 {three * 3} | \\rc 3 0.1.8{{d}} 0.1.16 0.1.4 | \\ro 0.1.2") == (
        "|:e8e8 (3:2:3e8e8e8 |e12e4 e16 ::e32 |"
    )
    assert music("0.1.2 0.1{t}.2 | (0.1 0.2).2 (0.1{t} 0.2{t}).2", final_bar=True) == "e32- e32 |[B-e-]32 [Be]32 |]"


@pytest.mark.parametrize(("body", "why"), [
    ("1.1.8{gr} 1.1.1", "grace notes"), ("\\ae (1) 1.1.1", "ending"), ("5.2{t}.1", "outside"),
    ("(5.2 3.1).2 (5.2{t} 5.1).2", "part of a chord"), ("1.1.-2", "longer than a whole"),
])  # fmt: skip
def test_what_it_can_not_draw_is_refused(body: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        abcjs.visible(read_alphatex(HEAD + body + " |\n"))
    with pytest.raises(ValueError, match="six strings"):
        abcjs.visible(read_alphatex("\\staff {tabs}\n\\tuning (G2 D2 A1 E1)\n1.1.1 |\n"))


def test_an_absent_package_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abcjs, "why_absent", lambda package: f"{package} is not installed")
    assert abcjs.absent() == "abcjs is not installed"


# --- drawings ------------------------------------------------------------------------------------------------------


@installed
def test_the_truth_is_what_abcjs_chose(worker) -> None:
    """The same pitches at other places of the neck: as low as they can be."""
    body = "\\ts (4 4) 12.6.4 5.1{h}.8 7.1.8 (7.5 9.4).4 r.4 | 5.2.2 5.2{t}.2"
    system = draw(body, worker)
    assert pitches(system.text) == pitches(HEAD + body + " |\n")
    assert system.text == ("\\staff {score tabs}\n\\ts (4 4) 2.4.4 5.1.8 7.1.8 (0.2 2.4).4 r.4 |\n0.1.2 0.1{t}.2 |\n")


@installed
def test_numbers_stand_where_the_truth_says(worker) -> None:
    system = draw("\\ts (4 4) 0.6.4 3.5.4 2.4.8 0.3.8 (1.2 0.1).4 | 3.1.2 r.2", worker)
    space, lines = system.line_px, system.tab_line_ys
    assert len(lines) == 6 and np.ptp(np.diff(lines)) < 0.1 and system.has_score
    ordered = [system.beat_x[key] for key in sorted(system.beat_x)]
    assert ordered == sorted(ordered) and len(system.note_y) == 7
    for (bar, voice, k, string), y in system.note_y.items():
        assert abs(y - lines[string - 1]) < 0.1 * space
        x = system.beat_x[bar, voice, k]
        assert system.bar_x[bar][0] < x < system.bar_x[bar][1]
        half = 0.45 * space
        here = system.image[int(y - half) : int(y + half) + 1, int(x - half) : int(x + half) + 1]
        bare = system.image[int(y - half) : int(y + half) + 1, int(x - 2.5 * half) : int(x - 1.5 * half) + 1]
        assert (255.0 - here).sum() > 1.5 * (255.0 - bare).sum()
    above = system.image[: int(lines[0] - 3 * space)]
    assert ((above < 160).mean(axis=1) > 0.6).sum() >= 5  # the score staff
    assert system.image[-3:].min() == 255  # nothing is cut off


@installed
def test_other_numbers_than_the_pitches_are_refused(worker, monkeypatch: pytest.MonkeyPatch) -> None:
    told = abcjs.abc_of
    for old, new, why in (("e16", "f16", "other notes"), ("e16", "z16", "not those of the text"),
                          ("e16", "!f!e16 e16", "not those of the text")):  # fmt: skip
        monkeypatch.setattr(abcjs, "abc_of", lambda *a, old=old, new=new: told(*a).replace(old, new))
        with pytest.raises(ValueError, match=why):
            draw("\\ts (4 4) 0.1.4 3.1.2{d}", worker)


@installed
def test_generated_systems_can_be_labelled() -> None:
    systems = [s for s in engraved_systems(3, 30, "train", ["abcjs"]) if isinstance(s, EngravedSystem)]
    assert len(systems) >= 8
    space = build_label_space(read_alphatex(s.text) for s in systems)
    for system in systems:
        score = read_alphatex(system.text)
        assert bars_close(score, first_may_be_short=True) and write_alphatex(score) == system.text
        labels = encode_system(score, system.beat_x, system.bar_x, space)
        assert len(labels.beats) == len(system.beat_x)
