"""Verovio: guitar tab of the Music Encoding Initiative, stems above the staff and loose from the numbers.

    pip install intermezzo[engravers]       # the `verovio` package; the picture needs Node as the other engravers do

We write MEI (`tabGrp`, `tabDurSym`), Verovio lays it out, and its drawing tells by our names where everything stands.
No training recipe of ours names it: with abcjs it stands for the engravers that a reader has never seen.
"""

from __future__ import annotations

import importlib.util
import random
import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ...processing.alphatex_grammar import Bar, Beat, Score, read_alphatex, write_alphatex
from .drawn import EngravedSystem, check_order
from .grouping import beam_groups, check_links, tuplet_groups
from .process import EngraverWorker, picture_of, why_absent

NAME = "verovio"
NOTE_EFFECTS = frozenset("h sl ss t".split())
BEAT_EFFECTS: frozenset[str] = frozenset()
FONTS = ("Leipzig", "Bravura", "Gootville", "Leland", "Petaluma")
_SVG = "{http://www.w3.org/2000/svg}"
_REST_MIDDLE = 95  # units of the drawing right of a rest's place
_MEI = """<?xml version="1.0" encoding="UTF-8"?>
<mei xmlns="http://www.music-encoding.org/ns/mei" meiversion="5.0"><meiHead><fileDesc><titleStmt><title/></titleStmt>
<pubStmt/></fileDesc></meiHead><music><body><mdiv><score><scoreDef><staffGrp{symbol}>
<staffDef n="1" lines="{strings}" notationtype="tab.guitar"{metre}>{clef}</staffDef></staffGrp></scoreDef>
<section>{measures}</section></score></mdiv></body></music></mei>
"""


def absent() -> str | None:
    """What lacks, in one line; `None` when it can draw."""
    if importlib.util.find_spec("verovio") is None:
        return "Verovio is not installed; run `pip install verovio`"
    return why_absent("vexflow")


def visible(score: Score) -> Score:
    """The same score, changed in place, without what Verovio does not draw of it on a tab.

    Raises:
        ValueError: More than one voice, no strings, or grace notes.
    """
    staff = score.staves[0]
    if any(len([v for v in bar.voices if v]) > 1 for bar in staff.bars) or staff.tuning == ():
        raise ValueError("Verovio draws one voice on strings here")
    for bar in staff.bars:
        bar.section, bar.other, bar.key_signature, bar.tempo = None, {}, None, None
        bar.repeat_close = min(bar.repeat_close, 2)  # how often is not written above the bar
        for beat in bar.voices[0]:
            if beat.grace or beat.duration < 1:
                raise ValueError("Verovio's tab has no grace notes and nothing longer than a whole")
            beat.effects = {}
            for note in beat.notes:
                note.effects = {name: args for name, args in note.effects.items() if name in NOTE_EFFECTS}
    check_links(score)
    return score


def random_style(rng: random.Random) -> dict[str, Any]:
    """How a system is drawn."""
    return {
        "line_px": round(rng.uniform(7, 20), 2),
        "font": rng.choice(FONTS),
        "text_font": rng.choice(("tinos", "tinos", "arimo", "lora")),
        "bold": rng.random() < 0.25,
        "symbol": rng.choice(("", "", "bracket", "brace")),
        "clef": rng.random() < 0.85,
        "final_bar": rng.random() < 0.4,
        "options": {
            "spacingLinear": round(rng.uniform(0.2, 0.4), 2),
            "spacingNonLinear": round(rng.uniform(0.5, 0.65), 2),
            "staffLineWidth": round(rng.uniform(0.1, 0.2), 2),
            "stemWidth": round(rng.uniform(0.15, 0.3), 2),
            "barLineWidth": round(rng.uniform(0.2, 0.4), 2),
        },
    }


# --- MEI -----------------------------------------------------------------------------------------------------------


def _beat(beat: Beat, name: str) -> str:
    length = f'dur="{beat.duration}"' + (f' dots="{beat.dots}"' if beat.dots else "")
    if beat.is_rest:
        return f'<rest xml:id="{name}" {length}/>'
    notes = "".join(
        f'<note xml:id="{name}.{n.string}" tab.course="{n.string}" tab.fret="{n.fret}"/>' for n in beat.notes
    )
    return f'<tabGrp xml:id="{name}" {length}><tabDurSym/>{notes}</tabGrp>'


def _layer(bar: Bar, number: int, metre: tuple[int, int]) -> str:
    """The beats of a bar in their beams and tuplets; a beam ends where a tuplet begins or ends."""
    beats = bar.voices[0]
    tuplets = tuplet_groups(beats)
    keys = list(zip(tuplets, beam_groups(beats, metre), strict=True))
    out, k = "", 0
    while k < len(beats):
        last = k
        while last + 1 < len(beats) and keys[last + 1] == keys[k] and keys[k][1] >= 0:
            last += 1
        inner = "".join(_beat(beats[i], f"b{number}.{i}") for i in range(k, last + 1))
        tuplet = beats[k].tuplet
        if tuplets[k] >= 0 and tuplet and (k == 0 or tuplets[k - 1] != tuplets[k]):
            out += f'<tuplet num="{tuplet[0]}" numbase="{tuplet[1]}">'
        out += f"<beam>{inner}</beam>" if last > k else inner
        if tuplets[k] >= 0 and (last + 1 == len(beats) or tuplets[last + 1] != tuplets[k]):
            out += "</tuplet>"
        k = last + 1
    return out


def _links(score: Score) -> dict[int, str]:
    """Ties, slurs and slides under the number of the bar that they begin in."""
    named = [(f"b{bar}.{k}", bar, beat) for _, bar, _, k, beat in score.beats()]
    out: dict[int, str] = {}
    for (name, bar, beat), (goal, _, after) in pairwise(named):
        there = {n.string: n for n in after.notes}
        for note in beat.notes:
            ends = f'startid="#{name}.{note.string}" endid="#{goal}.{note.string}"'
            if note.string in there and "t" in there[note.string].effects:
                out[bar] = out.get(bar, "") + f"<tie {ends}/>"
            if note.effects.keys() & {"h", "sl"}:
                out[bar] = out.get(bar, "") + f'<slur {ends} curvedir="above"/>'
            if note.effects.keys() & {"sl", "ss"}:
                out[bar] = out.get(bar, "") + f"<gliss {ends}/>"
    return out


def mei_of(score: Score, style: dict[str, Any], metre: tuple[int, int] = (4, 4)) -> str:
    """MEI of a score of `visible`; beat `k` of bar `b` is called `b<b>.<k>`, its notes `b<b>.<k>.<string>`."""
    staff, links, measures = score.staves[0], _links(score), ""
    shown = staff.bars[0].time_signature
    for number, bar in enumerate(staff.bars):
        before = staff.bars[number - 1].endings if number else ()
        metre = bar.time_signature or metre
        measures += "</ending>" if before and before != bar.endings else ""
        if number and bar.time_signature:
            measures += f'<scoreDef meter.count="{metre[0]}" meter.unit="{metre[1]}"/>'
        if bar.endings and before != bar.endings:
            measures += f'<ending n="{". ".join(map(str, bar.endings))}.">'
        last = number + 1 == len(staff.bars)
        right = "rptend" if bar.repeat_close else "end" if last and style["final_bar"] else "single"
        left = ' left="rptstart"' if bar.repeat_open else ""
        measures += f'<measure xml:id="m{number}" n="{number + 1}" right="{right}"{left}><staff n="1"><layer n="1">'
        measures += f"{_layer(bar, number, metre)}</layer></staff>{links.get(number, '')}</measure>\n"
    measures += "</ending>" if staff.bars[-1].endings else ""
    return _MEI.format(
        symbol=f' symbol="{style["symbol"]}"' if style["symbol"] else "",
        strings=staff.strings,
        metre=f' meter.count="{shown[0]}" meter.unit="{shown[1]}"' if shown else "",
        clef='<clef shape="TAB" line="5"/>' if style["clef"] else "",
        measures=measures,
    )


# --- the drawing ---------------------------------------------------------------------------------------------------


def _lay_out(mei: str, style: dict[str, Any]) -> ElementTree.Element:
    """Verovio's drawing of one endless line."""
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    toolkit.setOptions(
        {"adjustPageHeight": True, "adjustPageWidth": True, "breaks": "none", "header": "none", "footer": "none",
         "svgViewBox": True, "font": style["font"], "mnumInterval": 1000} | style["options"]
    )  # fmt: skip
    if not toolkit.loadData(mei):
        raise ValueError("Verovio does not take the text")
    return ElementTree.fromstring(toolkit.renderToSVG(1))


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]


def _drop_placeholders(parent: ElementTree.Element) -> None:
    """Takes out what Verovio's style sheet hides: where sections and endings begin."""
    for child in list(parent):
        if child.tag == f"{_SVG}ellipse" and "placeholder" in parent.get("class", ""):
            parent.remove(child)
        _drop_placeholders(child)


def _take_texts(parent: ElementTree.Element, bold: bool = False) -> list[dict[str, Any]]:
    """Takes all texts out of the drawing: they are drawn as outlines, so that no font has to be installed."""
    out: list[dict[str, Any]] = []
    for child in list(parent):
        if child.tag == f"{_SVG}text":
            parent.remove(child)
            sizes = [float(t.get("font-size", "0px")[:-2]) for t in child.iter() if t.get("font-size")]
            text = "".join(child.itertext()).strip()
            place = {"x": float(child.get("x", 0)), "y": float(child.get("y", 0)), "size": max(sizes, default=0)}
            out.append(place | {"text": text, "anchor": child.get("text-anchor", "start"), "bold": bold})
        else:
            out += _take_texts(child, bold or child.get("class") == "ending")
    return out


def _bar_lines(measure: ElementTree.Element) -> list[list[float]]:
    """x of the strokes of each bar line of a measure, from left to right."""
    drawn = [g for g in measure.iter(f"{_SVG}g") if g.get("class") == "barLine"]
    return sorted(xs for g in drawn if (xs := [_numbers(p.get("d", ""))[0] for p in g.iter(f"{_SVG}path")]))


def _places(page: ElementTree.Element, score: Score) -> dict[str, Any]:
    """Tab lines, numbers, rests and bar lines in units of the drawing.

    Raises:
        ValueError: Something that the text names was not drawn.
    """
    staff = score.staves[0]
    named = {g.get("id"): g for g in page.iter(f"{_SVG}g") if g.get("id")}
    system = next(g for g in page.iter(f"{_SVG}g") if g.get("class") == "system")
    paths = [p for g in system.iter(f"{_SVG}g") if g.get("class") == "staff" for p in g.findall(f"{_SVG}path")]
    rows = [_numbers(p.get("d", "")) for p in paths]
    lines = sorted({row[1] for row in rows})
    if len(lines) != staff.strings:
        raise ValueError(f"{len(lines)} lines were drawn")
    heads, rests = [], []
    for _, bar, _, k, beat in score.beats():
        name = f"b{bar}.{k}"
        if beat.is_rest:
            use = next(named[name].iter(f"{_SVG}use"), None) if name in named else None
            if use is None:
                raise ValueError(f"the rest {k + 1} of bar {bar + 1} was not drawn")
            rests.append({"x": _numbers(use.get("transform", ""))[0] + _REST_MIDDLE, "name": name})
        for note in beat.notes:
            text = next((named[f"{name}.{note.string}"].iter(f"{_SVG}text")), None)
            if text is None or "".join(text.itertext()).strip() != str(note.fret):
                raise ValueError(f"beat {k + 1} of bar {bar + 1} was not drawn as the text says")
            y = lines[note.string - 1]
            if not 0 < float(text.get("y", 0)) - y < 0.6 * (lines[1] - lines[0]):
                raise ValueError(f"beat {k + 1} of bar {bar + 1} was drawn on another string")
            heads.append({"x": float(text.get("x", 0)), "y": y, "name": name, "string": note.string})
    edges = []
    for number in range(len(staff.bars)):
        # A repeat that starts the next bar takes the place of the bar line at the end of this one.
        opens = number + 1 < len(staff.bars) and staff.bars[number + 1].repeat_open
        found = _bar_lines(named[f"m{number + opens}"])
        if not found:
            raise ValueError(f"bar {number + 1} was drawn without its bar line")
        line = found[0] if opens else found[-1]
        edges.append((min(line) + max(line)) / 2)
    starts = [min(row[0] for row in rows), *edges[:-1]]
    bars = [list(pair) for pair in zip(starts, edges, strict=True)]
    return {"lines": lines, "heads": heads, "rests": rests, "bars": bars}


def job_of(score: Score, style: dict[str, Any], metre: tuple[int, int] = (4, 4)) -> dict[str, Any]:
    """The drawing job of a score of `visible`: Verovio's drawing without its texts, these, and the places.

    Raises:
        ValueError: Verovio did not draw what the text says.
    """
    svg = _lay_out(mei_of(score, style, metre), style)
    page = svg.find(f"{_SVG}svg")
    margin = page.find(f"{_SVG}g") if page is not None else None
    if page is None or margin is None:
        raise ValueError("Verovio drew nothing")
    places = _places(page, score)
    left, top = _numbers(margin.get("transform", "translate(0, 0)"))
    _drop_placeholders(margin)
    texts = _take_texts(margin)
    ElementTree.register_namespace("", _SVG[1:-1])
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    parts = [ElementTree.tostring(part, "unicode") for part in (svg.find(f"{_SVG}defs"), margin) if part is not None]
    width, height = _numbers(page.get("viewBox", ""))[2:]
    for kind in ("heads", "rests"):
        for item in places[kind]:
            item["x"] += left
            if "y" in item:
                item["y"] += top
    places["bars"] = [[x + left for x in edges] for edges in places["bars"]]
    places["lines"] = [y + top for y in places["lines"]]
    texts = [text | {"x": text["x"] + left, "y": text["y"] + top} for text in texts if text["text"]]
    look = {"text_font": style["text_font"], "bold": style["bold"]}
    space = places["lines"][1] - places["lines"][0]
    return look | places | {
        "verb": "draw", "engraver": NAME, "body": "".join(parts), "texts": texts, "width": width, "height": height,
        "scale": style["line_px"] / space,
    }  # fmt: skip


def engrave(
    text: str, style: dict[str, Any], worker: EngraverWorker, name: str = "", metre: tuple[int, int] = (4, 4)
) -> EngravedSystem:
    """Draws the canonical text of one system as tab; see `vexflow.engrave`.

    Raises:
        ValueError: A text that Verovio can not draw, or a drawing that does not agree with it.
        RenderError: The picture could not be made.
    """
    from ..guitar_parts import shown_as

    score = shown_as(visible(read_alphatex(text)), "tabs")
    answer = worker.ask(job_of(score, style, metre))
    xs: dict[str, list[float]] = {}
    for item in [*answer["heads"], *answer["rests"]]:
        xs.setdefault(item["name"], []).append(item["x"])
    key = lambda name: (int(name[1:].split(".")[0]), 0, int(name.split(".")[1]))  # noqa: E731
    beat_x = {key(name): float(np.mean(places)) for name, places in xs.items()}
    beat_x = {(bar, 0, k): beat_x[bar, 0, k] for _, bar, _, k, _ in score.beats()}
    check_order(beat_x)
    return EngravedSystem(
        image=picture_of(answer),
        text=write_alphatex(score),
        beat_x=beat_x,
        bar_x=[(left, right) for left, right in answer["bars"]],
        tab_line_ys=answer["lines"],
        has_score=False,
        engraver=NAME,
        name=name,
        metre=metre,
        note_y={(*key(h["name"]), h["string"]): h["y"] for h in answer["heads"]},
    )


__all__ = ["FONTS", "NAME", "absent", "engrave", "job_of", "mei_of", "random_style", "visible"]
