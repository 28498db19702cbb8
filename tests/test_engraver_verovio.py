"""Verovio: the MEI that we write for it, and that its drawing is taken as it is."""

from __future__ import annotations

import random
from xml.etree import ElementTree

import numpy as np
import pytest

from intermezzo.datasets_scripts.engravers import EngravedSystem, verovio
from intermezzo.datasets_scripts.engravers.process import EngraverWorker
from intermezzo.processing.alphatex_grammar import read_alphatex, write_alphatex

HEAD = "\\staff {tabs}\n"
STYLE = verovio.random_style(random.Random(1)) | {
    "line_px": 13.0, "font": "Leipzig", "clef": True, "final_bar": False, "symbol": "",
}  # fmt: skip
NAMESPACE = "{http://www.music-encoding.org/ns/mei}"
XML_ID = "{http://www.w3.org/XML/1998/namespace}id"
installed = pytest.mark.skipif(verovio.absent() is not None, reason=f"{verovio.absent()}")


@pytest.fixture(scope="module")
def worker():
    process = EngraverWorker()
    yield process
    process.close()


def draw(body: str, worker: EngraverWorker, **changes: object) -> EngravedSystem:
    return verovio.engrave(HEAD + body + " |\n", STYLE | changes, worker)


def mei(body: str, **changes: object) -> ElementTree.Element:
    score = verovio.visible(read_alphatex(HEAD + body + " |\n"))
    return ElementTree.fromstring(verovio.mei_of(score, STYLE | changes))


def shape(element: ElementTree.Element) -> list:
    """Names of beats in their beams and tuplets."""
    out: list = []
    for child in element:
        name = child.tag.removeprefix(NAMESPACE)
        out.append([name, *shape(child)] if name in ("beam", "tuplet") else child.get(XML_ID))
    return out


def layers(body: str) -> list:
    return [shape(layer) for layer in mei(body).iter(f"{NAMESPACE}layer")]


def test_beams_and_tuplets_hold_their_beats() -> None:
    three = "1.1.8{tu (3 2)} "
    assert layers(f"\\ts (4 4) 1.1.8 1.1.8 {three * 3} 1.1.4{{tu (3 2)}} 1.1.8{{tu (3 2)}} r.4") == [
        [["beam", "b0.0", "b0.1"], ["tuplet", ["beam", "b0.2", "b0.3", "b0.4"]], ["tuplet", "b0.5", "b0.6"], "b0.7"]
    ]
    assert layers("\\ts (6 8) 1.1.8 1.1.8 1.1.8 1.1.4 1.1.8 | 1.1.2{d}") == [
        [["beam", "b0.0", "b0.1", "b0.2"], "b0.3", "b0.4"], ["b1.0"],
    ]  # fmt: skip


def test_strings_frets_and_what_joins_them_are_told() -> None:
    tree = mei("\\ts (4 4) (3.2{h} 12.4).4 5.2{ss}.4 7.2{sl}.8{d} 9.2.16 9.2{t}.4 | r.1")
    notes = {n.get(XML_ID): (n.get("tab.course"), n.get("tab.fret")) for n in tree.iter(f"{NAMESPACE}note")}
    assert notes == {
        "b0.0.2": ("2", "3"), "b0.0.4": ("4", "12"), "b0.1.2": ("2", "5"), "b0.2.2": ("2", "7"),
        "b0.3.2": ("2", "9"), "b0.4.2": ("2", "9"),
    }  # fmt: skip
    joined = [
        (child.tag.removeprefix(NAMESPACE), child.get("startid"), child.get("endid"))
        for child in tree.iter() if child.get("startid")
    ]  # fmt: skip
    assert joined == [
        ("slur", "#b0.0.2", "#b0.1.2"), ("gliss", "#b0.1.2", "#b0.2.2"), ("slur", "#b0.2.2", "#b0.3.2"),
        ("gliss", "#b0.2.2", "#b0.3.2"), ("tie", "#b0.3.2", "#b0.4.2"),
    ]  # fmt: skip
    assert [g.get("dots") for g in tree.iter(f"{NAMESPACE}tabGrp")] == [None, None, "1", None, None]


def test_repeats_endings_and_metres_are_told() -> None:
    tree = mei("\\ro \\ts (2 4) 1.1.2 | \\ae (1 2) \\rc 4 1.1.2 | \\ae (3) 1.1.2 | \\ts (3 4) 1.1.2{d}", final_bar=True)
    measures = list(tree.iter(f"{NAMESPACE}measure"))
    assert [(m.get("left"), m.get("right")) for m in measures] == [
        ("rptstart", "single"), (None, "rptend"), (None, "single"), (None, "end"),
    ]  # fmt: skip
    assert [e.get("n") for e in tree.iter(f"{NAMESPACE}ending")] == ["1. 2.", "3."]
    assert [s.get("meter.count") for s in tree.iter(f"{NAMESPACE}scoreDef")] == [None, "3"]
    assert next(tree.iter(f"{NAMESPACE}staffDef")).get("meter.count") == "2"
    assert next(mei("1.1.1").iter(f"{NAMESPACE}staffDef")).get("meter.count") is None


@pytest.mark.parametrize(("body", "why"), [
    ("1.1.8{gr} 1.1.1", "no grace notes"), ("1.1.-2", "nothing longer"), ("5.2{t}.1", "starts outside"),
])  # fmt: skip
def test_what_it_can_not_draw_is_refused(body: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        verovio.visible(read_alphatex(HEAD + body + " |\n"))


def test_signs_that_it_lacks_are_left_out() -> None:
    score = verovio.visible(read_alphatex(HEAD + "\\tempo 90 \\ks d 5.2{v h}.2{tt} 7.2{x}.2 | \\rc 4 5.2.1 |\n"))
    assert write_alphatex(score) == HEAD + "5.2{h}.2 7.2.2 |\n\\rc 2 5.2.1 |\n"


def test_an_absent_package_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verovio.importlib.util, "find_spec", lambda name: None)
    assert verovio.absent() == "Verovio is not installed; run `pip install verovio`"


# --- drawings ------------------------------------------------------------------------------------------------------


@installed
def test_stems_stand_above_the_staff(worker) -> None:
    """A whole note has none, a half's is shorter than a quarter's."""
    heights = []
    for body in ("5.3.1", "5.3.2 r.2", "5.3.4 r.4 r.2"):
        system = draw(body, worker)
        x, top = round(system.beat_x[0, 0, 0]), int(system.tab_line_ys[0])
        heights.append(int((system.image[: top - 2, x - 2 : x + 3].min(axis=1) < 128).sum()))
    assert heights[0] == 0 < heights[1] < heights[2]


@installed
def test_bar_lines_of_repeats_are_the_edges_of_the_bars(worker) -> None:
    system = draw("\\ts (4 4) 1.1.1 | \\ro 2.1.1 | \\rc 2 3.1.1 | 4.1.1", worker)
    edges = [right for _, right in system.bar_x]
    assert len(edges) == 4 and edges == sorted(edges) and len(set(edges)) == 4
    for (bar, _, _), x in system.beat_x.items():
        assert system.bar_x[bar][0] < x < system.bar_x[bar][1]
    middle = round(np.mean(system.tab_line_ys[:2]))
    for x in edges[:3]:  # ink of the bar line between two lines of the tab
        assert system.image[middle, round(x) - 6 : round(x) + 7].min() < 128


@installed
def test_what_the_style_sheet_hides_is_not_drawn(worker) -> None:
    """Sections begin at the corner of the page with a dot that no one should see."""
    system = draw("5.3.1", worker)
    assert system.image[: int(system.tab_line_ys[0]) - 4, : int(system.bar_x[0][0]) + 8].min() == 255


@installed
def test_a_drawing_that_differs_from_the_text_is_refused(worker, monkeypatch: pytest.MonkeyPatch) -> None:
    told = verovio.mei_of
    for old, new in (('tab.fret="5"', 'tab.fret="6"'), ('tab.course="3"', 'tab.course="2"'), ("<rest", "<space")):
        monkeypatch.setattr(verovio, "mei_of", lambda *a, old=old, new=new: told(*a).replace(old, new))
        with pytest.raises(ValueError, match=r"was not drawn|was drawn on another string"):
            draw("5.3.2 r.2", worker)
    monkeypatch.setattr(verovio, "mei_of", lambda *a: "<mei>")
    with pytest.raises(ValueError, match="Verovio does not take the text"):
        draw("5.3.1", worker)
