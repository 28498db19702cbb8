"""Other engravers: they draw what the text says, where the truth says, and what they lack is not in the text."""

from __future__ import annotations

import random

import numpy as np
import pytest

from intermezzo.datasets_scripts.engravers import (
    ENGRAVERS,
    EngravedSystem,
    available,
    degraded_row,
    engraved_systems,
    lilypond,
    manners,
    musescore,
    verovio,
    vexflow,
)
from intermezzo.datasets_scripts.engravers.grouping import beam_groups, tuplet_groups
from intermezzo.datasets_scripts.engravers.process import ENGRAVER_VARIABLE, EngraverWorker
from intermezzo.processing.alphatex_grammar import bars_close, read_alphatex
from intermezzo.processing.dense_labels import build_label_space, encode_system
from intermezzo.processing.errors import InputError

INSTALLED = available(warn=False)
each = pytest.mark.parametrize("name", [  # abcjs chooses its own numbers: see test_engraver_abcjs
    pytest.param(name, marks=pytest.mark.skipif(name not in INSTALLED, reason=f"{name} is not installed"))
    for name in ENGRAVERS if name != "abcjs"
])  # fmt: skip

PLAIN = "\\staff {tabs}\n\\ts (4 4) 5.2.4 7.2.8 8.2.8 (0.1 2.3 2.4).2 | r.4 12.5.4{d} 3.6.8 5.6.8 r.8 |\n"
#: One text for each technique, to compare with the same text without it.
NOTE_TECHNIQUES = {
    name: PLAIN.replace("5.2.4", f"5.2{{{name}}}.4") for name in "h sl ss sib sia sou sod v g nh lr pm".split()
} | {
    "be": PLAIN.replace("5.2.4", "5.2{be (bend 0 0 60 4)}.4"),
    "prebend": PLAIN.replace("5.2.4", "5.2{be (prebend 0 4 60 4)}.4"),
    "x": PLAIN.replace("5.2.4", "5.2{x}.4"),
    "t": PLAIN.replace("5.2.4 7.2.8", "5.2.4 5.2{t}.8"),
    "tr": PLAIN.replace("5.2.4", "5.2{tr 7}.4"),
    "vw": PLAIN.replace("5.2.4", "5.2{vw}.4"),
}
BEAT_TECHNIQUES = {
    name: PLAIN.replace("(0.1 2.3 2.4).2", f"(0.1 2.3 2.4).2{{{name}}}") for name in "bd bu ad au su sd tt s p".split()
}
BAR_MARKS = {
    "repeat": PLAIN.replace("\\ts", "\\ro \\ts"), "times": PLAIN.replace("| r.4", "| \\rc 4 r.4"),
    "tempo": PLAIN.replace("\\ts", "\\tempo 96 \\ts"), "ending": PLAIN.replace("\\ts", "\\ae (1) \\ts"),
    "metre": PLAIN.replace("\\ts (4 4)", "\\ts (8 8)"),
}  # fmt: skip
STYLES = {
    "vexflow": vexflow.random_style(random.Random(1), score=False)
    | {"scale": 1.0, "spread": 1.4, "line_colour": "black"},
    "manners": manners.random_style(random.Random(1), score=False)
    | {
        "scale": 1.0,
        "spread": 1.4,
        "line_colour": "black",
        "own_stems": True,
        "number_gaps": True,
        "number_rise": 0.0,
        "text_font": "arimo",
        "number_font": "arimo",
        "music_font": "bravura",
        "tight": 0.0,
        "letter_metre": False,
    },
    "musescore": {"line_px": 13.0, "fill": False},
    "lilypond": lilypond.random_style(random.Random(1))
    | {"line_px": 13.0, "staff_size": 20, "thickness": 1.4, "grey": 0, "final_bar": False},
    "verovio": verovio.random_style(random.Random(1))
    | {"line_px": 13.0, "font": "Leipzig", "clef": True, "final_bar": False},
}
_DRAWN: dict[tuple, EngravedSystem] = {}


@pytest.fixture(scope="module")
def worker():
    process = EngraverWorker()
    yield process
    process.close()


def draw(name: str, text: str, worker: EngraverWorker) -> EngravedSystem:
    """One drawing of each text: LilyPond starts anew for each."""
    if (name, text) not in _DRAWN:
        _DRAWN[name, text] = ENGRAVERS[name].engrave(text, STYLES[name], worker, "a test")
    return _DRAWN[name, text]


def same(a: EngravedSystem, b: EngravedSystem) -> bool:
    return a.image.shape == b.image.shape and np.array_equal(a.image, b.image)


@each
@pytest.mark.parametrize("technique", [*NOTE_TECHNIQUES, *BEAT_TECHNIQUES, *BAR_MARKS])
def test_picture_and_text_have_a_technique_both_or_neither(name: str, technique: str, worker) -> None:
    text = (NOTE_TECHNIQUES | BEAT_TECHNIQUES | BAR_MARKS)[technique]
    base = {"t": PLAIN.replace("7.2.8", "5.2.8"), "times": text.replace("\\rc 4", "\\rc 2")}.get(technique, PLAIN)
    drawn, plain = draw(name, text, worker), draw(name, base, worker)
    assert same(drawn, plain) == (drawn.text == plain.text)


@each
def test_what_is_left_out_is_what_is_documented(name: str, worker) -> None:
    kept = {
        t for t, text in (NOTE_TECHNIQUES | BEAT_TECHNIQUES).items() if draw(name, text, worker).text != PLAIN_TRUTH
    }
    module = ENGRAVERS[name]
    expected = {t for t in NOTE_TECHNIQUES if t in module.NOTE_EFFECTS} | {
        t for t in BEAT_TECHNIQUES if t in module.BEAT_EFFECTS
    }
    assert kept - {"t"} == expected - {"t"}


PLAIN_TRUTH = "\\staff {tabs}\n\\ts (4 4) 5.2.4 7.2.8 8.2.8 (0.1 2.3 2.4).2 |\nr.4 12.5.4{d} 3.6.8 5.6.8 r.8 |\n"


@each
def test_numbers_stand_where_the_truth_says(name: str, worker) -> None:
    system = draw(name, PLAIN, worker)
    space, lines = system.line_px, system.tab_line_ys
    assert len(lines) == 6 and np.ptp(np.diff(lines)) < 0.02 and not system.has_score
    assert system.text == PLAIN_TRUTH
    score = read_alphatex(system.text)
    assert set(system.beat_x) == {(b, v, k) for _, b, v, k, _ in score.beats()}
    ordered = [system.beat_x[key] for key in sorted(system.beat_x)]
    assert ordered == sorted(ordered)
    for (bar, voice, k, string), y in system.note_y.items():
        assert abs(y - lines[string - 1]) < 0.1 * space
        x = system.beat_x[bar, voice, k]
        left, right = system.bar_x[bar]
        assert left < x < right
        here = system.image[
            int(y - 0.45 * space) : int(y + 0.45 * space) + 1, int(x - 0.6 * space) : int(x + 0.6 * space)
        ]
        assert (here < 128).mean() > 0.08  # a number
    for y in lines:
        row = system.image[int(y - 1) : int(y + 2), :].min(axis=0)
        inside = row[int(system.bar_x[0][0]) + 2 : int(system.bar_x[-1][1]) - 2]
        assert (inside < 200).mean() > 0.7
    assert len(system.bar_x) == 2 and abs(system.bar_x[0][1] - system.bar_x[1][0]) < 2


@each
def test_frets_are_drawn_as_written(name: str, worker) -> None:
    """The same number looks the same on every string; another number looks different."""
    pictures = {}
    text = "\\staff {tabs}\n\\ts (4 4) 5.2.4 5.3.4 8.2.4 8.3.4 |\n"
    system = draw(name, text, worker)
    half = int(0.45 * system.line_px)
    for (key, y), fret in zip(sorted(system.note_y.items()), (5, 5, 8, 8), strict=True):
        x = system.beat_x[key[:3]]
        pictures.setdefault(fret, []).append(
            system.image[int(y) - half : int(y) + half, int(x) - half : int(x) + half].astype(float)
        )

    def apart(a: np.ndarray, b: np.ndarray) -> float:  # drawn at different parts of a pixel
        shifts = [np.roll(b, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        return min(float(np.abs(a - s).mean()) for s in shifts)

    assert apart(*pictures[5]) < apart(pictures[5][0], pictures[8][0])
    assert apart(*pictures[8]) < apart(pictures[5][1], pictures[8][1])


@each
def test_generated_systems_can_be_labelled(name: str) -> None:
    systems = [s for s in engraved_systems(3, 8, "train", [name]) if isinstance(s, EngravedSystem)]
    assert len(systems) >= 7
    space = build_label_space(read_alphatex(s.text) for s in systems)
    for system in systems:
        score = read_alphatex(system.text)
        assert bars_close(score, first_may_be_short=True)
        labels = encode_system(score, system.beat_x, system.bar_x, space)
        assert len(labels.beats) == len(system.beat_x) and len(labels.notes) == len(system.note_y)
        assert system.engraver == name and system.name
        row = system.row()
        assert row.text == system.text and row.image is system.image
    again = [s for s in engraved_systems(3, 2, "train", [name]) if isinstance(s, EngravedSystem)]
    assert all(same(a, b) and a.text == b.text for a, b in zip(systems, again, strict=False))


@pytest.mark.skipif("vexflow" not in INSTALLED, reason="vexflow is not installed")
def test_a_score_staff_stands_above_the_tab(worker) -> None:
    style = vexflow.random_style(random.Random(0), score=True) | {"scale": 1.0}
    text = PLAIN.replace("{tabs}", "{score tabs}").replace("5.2.4", "5.2{st}.4").replace("\\ts", "\\ks d \\ts")
    system = vexflow.engrave(text, style, worker)
    assert system.has_score and "{st}" in system.text and "\\ks d" in system.text
    above = system.image[: int(system.tab_line_ys[0] - 3 * system.line_px)]
    dark_rows = (above < 160).mean(axis=1) > 0.6
    assert dark_rows.sum() >= 5  # the lines of the score staff


@pytest.mark.skipif("vexflow" not in INSTALLED, reason="vexflow is not installed")
def test_numbers_stand_under_their_notes_behind_a_key(worker) -> None:
    """The signs of a key stand on the score staff alone, and push the tab's first number as far as the first note."""
    style = vexflow.random_style(random.Random(0), score=True) | {"scale": 1.0, "stems": False, "clef": True}
    text = "\\staff {score tabs}\n\\ks KEY \\ts (4 4) 1.1.4 2.1.4 3.1.4 3.1.4 | 1.1.1 |\n"
    many, none = (vexflow.engrave(text.replace("KEY", key), style, worker) for key in ("b", "c"))
    assert many.beat_x[0, 0, 0] - none.beat_x[0, 0, 0] > 3 * many.line_px
    bottom = int(many.tab_line_ys[0] - 2 * many.line_px)
    inked = lambda s, x: float((s.image[:bottom, round(x) - 5 : round(x) + 6] < 128).sum())  # noqa: E731
    heads = [inked(many, x) for x in many.beat_x.values()]
    assert min(heads) > 1.3 * inked(many, (many.beat_x[0, 0, 0] + many.beat_x[0, 0, 1]) / 2)


@pytest.mark.skipif("manners" not in INSTALLED, reason="VexFlow is not installed")
def test_metres_rests_and_letters_stand_where_a_manner_wants_them(worker) -> None:
    text = "\\staff {score tabs}\n\\ts (4 4) 5.2.4{p} r.4 5.2.2 |\n"
    style = manners.random_style(random.Random(2), score=True) | {
        "scale": 1.0, "stems": False, "clef": False, "letter_metre": False, "metre_on_score": False, "tab_rests": True,
        "words_on_score": False, "upright_words": False, "line_colour": "black",
    }  # fmt: skip

    def ink(**changes: object) -> tuple[float, float]:
        """Above the tab and on it, in squares of its distance."""
        system = manners.engrave(text, style | changes, worker)
        assert system.text == text
        dark, top = 1 - system.image / 255.0, int(system.tab_line_ys[0] - system.line_px)
        return float(dark[:top].sum()) / system.line_px**2, float(dark[top:].sum()) / system.line_px**2

    as_it_is = ink()
    assert ink(metre_on_score=True)[1] < as_it_is[1] and ink(tab_rests=False)[1] < as_it_is[1]
    assert ink(letter_metre=True)[0] != as_it_is[0] and ink(letter_metre=True)[1] != as_it_is[1]
    systems = [manners.engrave(text, style | {"words_on_score": on}, worker) for on in (False, True)]
    near = []
    for s in systems:
        top, x = int(s.tab_line_ys[0]), round(s.beat_x[0, 0, 0])
        near.append(s.image[top - round(3 * s.line_px) : top - 3, x - 6 : x + 7].min())
    assert near[0] < 128 < near[1]  # the letter stands right above the tab, or on the score staff


@pytest.mark.skipif(not INSTALLED, reason="no engraver is installed")
@pytest.mark.skipif("manners" not in INSTALLED, reason="VexFlow is not installed")
def test_stems_stand_where_a_manner_wants_them(worker) -> None:
    def ink(**changes: object) -> tuple[float, float, float]:
        """Above, within and below the tab lines, in squares of their distance."""
        own = {"stem_end": "inside", "stem_from": "number", "stem_spaces": 3.0, "halves": "plain", "stem_px": 1.5,
               "beam_px": 4.0, "tight": 0.0}  # fmt: skip
        system = manners.engrave(PLAIN, STYLES["manners"] | own | changes, worker)
        dark, lines = 1 - system.image / 255.0, system.tab_line_ys
        first, last = int(lines[0]) - 1, int(lines[-1]) + 2
        parts = (dark[:first].sum(), dark[first:last].sum(), dark[last:].sum())
        return tuple(float(part) / system.line_px**2 for part in parts)  # type: ignore[return-value]

    up, down = ink(stem_direction="up", stem_end="outside"), ink(stem_direction="down", stem_end="outside")
    assert up[0] > 3 * up[2] and down[2] > 3 * down[0]
    assert ink(stem_direction="down")[2] < 0.8 * down[2]  # most stems end within the staff
    assert sum(ink(halves="double")) > sum(ink(halves="plain")) > sum(ink(halves="short"))
    loose = ink(stem_direction="up", stem_from="edge", stem_end="inside")
    assert loose[0] > 3 * loose[2] and loose[1] < up[1]  # nothing between the numbers and the edge of the staff


@pytest.mark.skipif("manners" not in INSTALLED, reason="VexFlow is not installed")
def test_beats_stand_as_close_as_a_manner_wants_them(worker) -> None:
    text = "\\staff {tabs}\n\\ts (4 4) 5.2.8 5.2.8 5.2.8 5.2.8 5.2.2 |\n"

    def width(tight: float) -> float:
        system = manners.engrave(text, STYLES["manners"] | {"tight": tight}, worker)
        return (system.bar_x[0][1] - system.bar_x[0][0]) / system.line_px

    assert width(1.6) < width(2.2) < width(0.0)
    with pytest.raises(ValueError, match="numbers would touch"):
        manners.engrave(text.replace("5.2", "15.2"), STYLES["manners"] | {"tight": 0.8}, worker)


@pytest.mark.skipif("manners" not in INSTALLED, reason="VexFlow is not installed")
def test_a_tied_number_is_drawn_as_a_manner_wants_it(worker) -> None:
    ink = {}
    for how in ("hidden", "plain", "brackets"):
        system = manners.engrave(NOTE_TECHNIQUES["t"], STYLES["manners"] | {"tie_numbers": how}, worker)
        x, y, half = round(system.beat_x[0, 0, 1]), round(system.tab_line_ys[1]), round(0.7 * system.line_px)
        ink[how] = float((255 - system.image[y - half : y + half, x - half : x + half].astype(float)).sum())
        assert "5.2{t}" in system.text
    assert ink["hidden"] < ink["plain"] < ink["brackets"]


@pytest.mark.skipif("manners" not in INSTALLED, reason="VexFlow is not installed")
def test_numbers_are_drawn_in_the_family_that_is_asked_for(worker) -> None:
    drawn = {
        family: manners.engrave(PLAIN, STYLES["manners"] | {"number_font": family}, worker)
        for family in (*manners.OWN, *manners.PRINTED, *manners.WRITTEN)
    }
    pictures = {(*system.image.shape, system.image.tobytes()) for system in drawn.values()}
    assert len(pictures) == len(drawn)
    assert {system.text for system in drawn.values()} == {PLAIN_TRUTH}
    bend = NOTE_TECHNIQUES["be"]
    own = {"text_font": "patrick-hand", "bend_words": dict.fromkeys(range(1, 9), "⅞")}
    lacking = manners.engrave(bend, STYLES["manners"] | own, worker)  # a sign that the family has not
    assert lacking.text == draw("manners", bend, worker).text


@pytest.mark.skipif("manners" not in INSTALLED, reason="VexFlow is not installed")
def test_numbers_are_as_large_as_a_manner_wants_them(worker) -> None:
    def number(**changes: object) -> np.ndarray:
        """The ink about a number on the third of six lines, three spaces high, in hundredths of a space."""
        system = manners.engrave("\\staff {tabs}\n8.3.1 |\n", STYLES["manners"] | changes, worker)
        (x,), (y,) = system.beat_x.values(), system.note_y.values()
        middle, side = round(y), round(0.25 * system.line_px)
        rows = slice(middle - round(0.9 * system.line_px), middle + round(0.9 * system.line_px))
        return 1 - system.image[rows, round(x) - side : round(x) + side] / 255.0

    def height(part: np.ndarray) -> int:
        inked = np.flatnonzero(part.max(axis=1) > 0.5)
        return int(inked[-1] - inked[0])

    def centre(part: np.ndarray) -> float:
        return float(np.average(np.arange(len(part)), weights=part.sum(axis=1)))

    large, small = number(number_scale=1.2), number(number_scale=0.8)
    assert 1.3 < height(large) / height(small) < 1.7
    assert centre(large) == pytest.approx(centre(small), abs=1)
    up, down = number(number_rise=0.15), number(number_rise=-0.15)
    assert centre(down) - centre(up) == pytest.approx(0.3 * height(up) / 0.72, rel=0.35)  # a figure is 0.72 em high
    assert number(number_bold=True).sum() > number(number_bold=False).sum()
    assert number(number_gaps=False).sum() > number(number_gaps=True).sum()


def test_two_voices_are_refused(worker) -> None:
    text = "\\voiceMode barWise\n\\staff {tabs}\n\\ts (4 4) \\voice 5.2.1 \\voice 3.6.2 3.6.2 |\n"
    for name in INSTALLED:
        with pytest.raises(ValueError, match="one voice"):
            ENGRAVERS[name].visible(read_alphatex(text)) if name != "manners" else draw(name, text, worker)


@pytest.mark.skipif(not INSTALLED, reason="no engraver is installed")
def test_a_degraded_row_keeps_its_truth(worker) -> None:
    row = draw(INSTALLED[0], PLAIN, worker).row()
    kept = 0
    for seed in range(12):
        bad = degraded_row(row, 0.6, np.random.default_rng(seed))
        if bad is None:
            continue
        kept += 1
        assert bad.text == row.text and set(bad.beat_x) == set(row.beat_x) and len(bad.bar_x) == len(row.bar_x)
        assert all(0 < x < bad.image.shape[1] for x in bad.beat_x.values())
        assert sorted(bad.tab_line_ys) == bad.tab_line_ys and bad.tab_line_ys[-1] < bad.image.shape[0]
        ordered = [bad.beat_x[key] for key in sorted(bad.beat_x)]
        assert ordered == sorted(ordered)
    assert kept >= 9
    bent = [degraded_row(row, 1.0, np.random.default_rng(s), "book", geometry_part=1.0) for s in range(4)]
    assert bent.count(None) >= 3  # no straight canvas fits a curled page


def test_beams_follow_the_metre_and_break_at_rests() -> None:
    beats = (
        read_alphatex("\\staff {tabs}\n\\ts (4 4) 1.1.8 1.1.8 1.1.8 r.8 1.1.16 1.1.16 1.1.8 1.1.4 |\n")
        .staves[0]
        .bars[0]
    )
    assert beam_groups(beats.voices[0], (4, 4)) == [1, 1, -1, -1, 3, 3, 3, -1]
    beats = read_alphatex("\\staff {tabs}\n\\ts (6 8) 1.1.8 1.1.8 1.1.8 1.1.8 1.1.8 1.1.8 |\n").staves[0].bars[0]
    assert beam_groups(beats.voices[0], (6, 8)) == [1, 1, 1, 2, 2, 2]


def test_tuplets_close_when_they_are_full() -> None:
    three = "1.1.8{tu (3 2)} "
    text = f"\\staff {{tabs}}\n\\ts (4 4) {three * 6} 1.1.4{{tu (3 2)}} 1.1.8{{tu (3 2)}} 1.1.8 1.1.8 |\n"
    groups = tuplet_groups(read_alphatex(text).staves[0].bars[0].voices[0])
    assert groups == [0, 0, 0, 1, 1, 1, 2, 2, -1, -1]
    five = read_alphatex(f"\\staff {{tabs}}\n\\ts (2 4) {'1.1.16{tu (5 4)} ' * 10} |\n").staves[0].bars[0].voices[0]
    assert tuplet_groups(five) == [0] * 5 + [1] * 5


def test_an_absent_engraver_is_left_out_with_one_line(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setenv(ENGRAVER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(lilypond, "find_program", lambda: None)
    assert available() == []
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == len(ENGRAVERS) and all("left out" in line for line in said)
    with pytest.raises(InputError, match="npm ci"):
        next(engraved_systems(0, 1, "train"))
    with pytest.raises(InputError, match="no engraver 'finale'"):
        available(["finale"])


def test_pieces_are_changed_only_where_signs_lack() -> None:
    text = PLAIN.replace("5.2.4", "5.2{h v}.4")
    assert "{v h}" in _text(vexflow, text) and "{v h}" in _text(lilypond, text) and "{h}" in _text(musescore, text)


def _text(module, text: str) -> str:
    from intermezzo.processing.alphatex_grammar import write_alphatex

    return write_alphatex(module.visible(read_alphatex(text)))
