"""MuseScore (the `webmscore` package): tab with rhythm as the most used free notation program draws it.

It reads our MusicXML and keeps strings and frets. The truth is checked against the drawing: every number must stand on
the string that the text names, in the order of the text, or the system is refused.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from ...processing.alphatex_grammar import Note, Score, read_alphatex, write_alphatex
from ...processing.musicxml import to_musicxml
from .drawn import EngravedSystem
from .process import EngraverWorker, picture_of, why_absent

NAME = "musescore"
NOTE_EFFECTS = frozenset("h sl ss t g nh".split())  # a dead note is drawn as its number
BEAT_EFFECTS = frozenset("ad au su sd".split())
_SPACE_UNITS = 37.2  # units of the drawing between two tab lines, at MuseScore's own size
_PAGE = """ <defaults>
  <scaling><millimeters>7</millimeters><tenths>40</tenths></scaling>
  <page-layout><page-height>2400</page-height><page-width>{width}</page-width>
   <page-margins type="both"><left-margin>60</left-margin><right-margin>60</right-margin>
    <top-margin>600</top-margin><bottom-margin>60</bottom-margin></page-margins></page-layout>
 </defaults>
"""


def absent() -> str | None:
    """What lacks, in one line; `None` when it can draw."""
    return why_absent("webmscore")


def visible(score: Score) -> Score:
    """The same score, changed in place, without what MuseScore does not draw of it.

    Raises:
        ValueError: More than one voice, or no strings.
    """
    staff = score.staves[0]
    if any(len([v for v in bar.voices if v]) > 1 for bar in staff.bars) or staff.tuning == ():
        raise ValueError("MuseScore draws one voice on strings here")
    for bar in staff.bars:
        bar.section, bar.other, bar.key_signature = None, {}, None
        bar.repeat_close = min(bar.repeat_close, 2)  # how often is not written above the bar
        for beat in bar.voices[0]:
            beat.effects = {name: args for name, args in beat.effects.items() if name in BEAT_EFFECTS}
            for note in beat.notes:
                note.effects = {name: args for name, args in note.effects.items() if name in NOTE_EFFECTS}
    _drop_lone_links(score)
    return score


def _drop_lone_links(score: Score) -> None:
    """Slurs and slides need a numbered note to go to."""
    beats = [beat for bar in score.staves[0].bars for beat in bar.voices[0]]
    for place, beat in enumerate(beats):
        targets = {n.string: n for n in beats[place + 1].notes} if place + 1 < len(beats) else {}
        for note in beat.notes:
            goal = targets.get(note.string)
            if goal is None or "t" in goal.effects or beat.grace:
                for name in ("h", "sl", "ss"):
                    note.effects.pop(name, None)


def random_style(rng: random.Random) -> dict[str, Any]:
    """How a system is drawn."""
    return {"line_px": round(rng.uniform(7, 20), 2), "fill": rng.random() < 0.3}


def _for_drawing(text: str) -> str:
    """MusicXML: hammer-ons and pull-offs as the slurs that people draw for them."""
    score = read_alphatex(text)
    beats = [beat for bar in score.staves[0].bars for beat in bar.voices[0]]
    number = 0
    for place, beat in enumerate(beats):
        for note in beat.notes:
            if "h" not in note.effects:
                continue
            del note.effects["h"]
            goal: Note = next(n for n in beats[place + 1].notes if n.string == note.string)
            number += 1
            for end in (note, goal):
                end.effects["slur"] = (*end.effects.get("slur", ()), f"s{number}")
    return to_musicxml(score)


def job_of(text: str, style: dict[str, Any]) -> dict[str, Any]:
    """The drawing job of a text of `visible`."""
    xml = _for_drawing(text)
    beats = sum(1 for _ in read_alphatex(text).beats())
    # A last line that fills less than a third of its page keeps its natural width.
    width = 700 + beats * (75 if style["fill"] else 400)
    place = xml.index(" <part-list>")
    xml = xml[:place] + _PAGE.format(width=width) + xml[place:]
    return {"verb": "draw", "engraver": NAME, "xml": xml, "scale": style["line_px"] / _SPACE_UNITS}


def _onsets(answer: dict[str, Any]) -> list[tuple[float, list[tuple[int, float]]]]:
    """What was drawn, from left to right: x, and (string, y) of each number; nothing for a rest."""
    lines = answer["lines"]
    space = (lines[-1] - lines[0]) / (len(lines) - 1)
    heads = sorted((h["x"], h["y"]) for h in answer["heads"])
    groups: list[list[tuple[float, float]]] = []
    for x, y in heads:
        if groups and x - groups[-1][-1][0] < 0.3 * space:
            groups[-1].append((x, y))
        else:
            groups.append([(x, y)])
    out = [
        (float(np.mean([x for x, _ in g])), sorted((round((y - lines[0]) / space) + 1, y) for _, y in g))
        for g in groups
    ]
    return sorted([*out, *((r["x"], []) for r in answer["rests"])])


def _bar_edges(answer: dict[str, Any], count: int) -> list[tuple[float, float]]:
    """Edges of the bars; lines that stand close together are one bar line."""
    space = (answer["lines"][-1] - answer["lines"][0]) / (len(answer["lines"]) - 1)
    edges: list[list[float]] = []
    for left, right in sorted(answer["barlines"]):
        if edges and left - edges[-1][1] < 1.2 * space:
            edges[-1][1] = max(right, edges[-1][1])
        else:
            edges.append([left, right])
    places = [(a + b) / 2 for a, b in edges]
    starts = [answer["x0"], *places[-count:-1]]
    if len(places) not in (count, count + 1):  # one more where a repeat starts at the first bar
        raise ValueError(f"{len(places)} bar lines were drawn for {count} bars")
    return list(zip(starts, [*places[-count:-1], answer["x1"]], strict=True))


def engrave(
    text: str, style: dict[str, Any], worker: EngraverWorker, name: str = "", metre: tuple[int, int] = (4, 4)
) -> EngravedSystem:
    """Draws the canonical text of one system as tab; see `vexflow.engrave`.

    Raises:
        ValueError: A text that MuseScore can not draw, or a drawing that does not agree with it.
        RenderError: MuseScore failed.
    """
    from ..guitar_parts import shown_as

    score = shown_as(visible(read_alphatex(text)), "tabs")
    truth = write_alphatex(score)
    answer = worker.ask(job_of(truth, style))
    beats = list(score.beats())
    if len(answer["lines"]) != score.staves[0].strings:
        raise ValueError(f"{len(answer['lines'])} lines were drawn")
    onsets = _onsets(answer)
    if [[s for s, _ in heads] for _, heads in onsets] != [sorted(n.string for n in b.notes) for *_, b in beats]:
        raise ValueError("the numbers that were drawn are not those of the text")
    edges = _bar_edges(answer, len(score.staves[0].bars))
    beat_x: dict[tuple[int, int, int], float] = {}
    note_y: dict[tuple[int, int, int, int], float] = {}
    for (_, bar, voice, k, _), (x, heads) in zip(beats, onsets, strict=True):
        if not edges[bar][0] - 2 < x < edges[bar][1] + 2:
            raise ValueError(f"beat {k + 1} of bar {bar + 1} was drawn in another bar")
        beat_x[bar, voice, k] = x
        note_y |= {(bar, voice, k, s): y for s, y in heads}
    return EngravedSystem(
        image=picture_of(answer),
        text=truth,
        beat_x=beat_x,
        bar_x=edges,
        tab_line_ys=answer["lines"],
        has_score=False,
        engraver=NAME,
        name=name,
        metre=metre,
        note_y=note_y,
    )


__all__ = ["NAME", "absent", "engrave", "job_of", "random_style", "visible"]
