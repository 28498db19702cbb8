"""LilyPond: tab with rhythm as its users print it, alone or under a score staff, in its own fonts.

    pip install intermezzo[engravers]       # the `lilypond` package brings the program; one on PATH serves too

Each system is one run of the program with its own picture writer, so no Node and no Ghostscript are needed. It tells
where everything stands; the truth is checked against that: every number on the string that the text names.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...processing.alphatex_grammar import STANDARD_TUNINGS, Score, read_alphatex, write_alphatex
from ..render.jobs import RenderError
from .drawn import EngravedSystem, check_order
from .grouping import check_links
from .lilypond_source import BENDS, SLIDES_IN, SLIDES_OUT, Places, source_of

NAME = "lilypond"
NOTE_EFFECTS = frozenset("h sl ss sib sia sou sod be x t g v pm lr nh ac hac st".split())
BEAT_EFFECTS = frozenset("tt s p ad au su sd".split())
OLDEST = (2, 24)  # the first that writes pictures by itself
MARGIN_PX = 6
_SECONDS = 60
_ENGLISH = {"LC_ALL": "C", "LANGUAGE": "C"}  # its warnings are looked for
_INCH_MM, _POINTS = 25.4, 72.27  # of an inch
_HIGHEST_BEND = 8  # quarter tones
_NUMBER = r"(-?[\d.]+(?:e-?\d+)?)"
_TOLD = re.compile(rf"^@(\w+) {_NUMBER} {_NUMBER} {_NUMBER} {_NUMBER} (\d+) (.*)$", re.MULTILINE)


# --- the program ---------------------------------------------------------------------------------------------------


def find_program() -> Path | None:
    """The program of the `lilypond` package, or the one on PATH."""
    try:
        import lilypond
    except ImportError:
        found = shutil.which("lilypond")
        return Path(found) if found else None
    return Path(lilypond.executable())


@lru_cache(maxsize=4)
def _version(program: Path) -> tuple[int, ...]:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=False)
    found = re.search(r"LilyPond (\d+)\.(\d+)", done.stdout)
    return tuple(int(part) for part in found.groups()) if found else ()


def absent() -> str | None:
    """What lacks, in one line; `None` when it can draw."""
    program = find_program()
    if program is None:
        return "LilyPond is not installed; run `pip install lilypond`, or put a `lilypond` of 2.24 or later on PATH"
    try:
        version = _version(program)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{program} does not run ({error}); install LilyPond 2.24 or later"
    if version < OLDEST:
        return f"{program} is older than 2.24; run `pip install lilypond`"
    return None


# --- what is drawn -------------------------------------------------------------------------------------------------


def visible(score: Score) -> Score:
    """The same score, changed in place, without what LilyPond does not draw of it.

    Raises:
        ValueError: More than one voice, or no strings.
    """
    staff = score.staves[0]
    if any(len([v for v in bar.voices if v]) > 1 for bar in staff.bars) or staff.tuning == ():
        raise ValueError("LilyPond draws one voice on strings here")
    # A system does not tell its tuning and its capo: the usual tuning of that many strings stands for all.
    staff.tuning, staff.capo = STANDARD_TUNINGS.get(staff.strings, staff.tuning), 0
    if staff.strings == 6:
        staff.tuning = None
    for bar in staff.bars:
        bar.section, bar.other = None, {}
        for beat in bar.voices[0]:
            if beat.duration < 1:
                raise ValueError("a tab shows no notes longer than a whole")
            beat.effects = {name: args for name, args in beat.effects.items() if name in BEAT_EFFECTS}
            if beat.grace:
                beat.grace = "bb"
            for note in beat.notes:
                kept = {name: args for name, args in note.effects.items() if name in NOTE_EFFECTS}
                if "be" in kept and (len(beat.notes) > 1 or not _bend_is_known(kept["be"])):
                    del kept["be"]
                note.effects = kept
    check_links(score)
    _drop_crowded(score)
    return score


def _bend_is_known(arguments: tuple) -> bool:
    heights = [int(a) for a in arguments if not isinstance(a, str)][1::2]
    return bool(heights) and arguments[0] in BENDS and heights[0] == 0 and 0 < max(heights) <= _HIGHEST_BEND


def _drop_crowded(score: Score) -> None:
    """Bends and slides to nowhere are drawn by unseen notes, which take the place of what joins two beats."""
    beats = [beat for bar in score.staves[0].bars for beat in bar.voices[0]]
    unseen, links = {"be", *SLIDES_IN, *SLIDES_OUT}, {"h", "sl", "ss"}
    names = [{name for note in beat.notes for name in note.effects} for beat in beats]
    for place, beat in enumerate(beats):
        before = names[place - 1] if place else set()
        after = names[place + 1] if place + 1 < len(beats) else set()
        joined = "t" in names[place] or "t" in after or beat.grace or names[place] & links
        alone = sum(len(note.effects.keys() & unseen) for note in beat.notes) == 1
        dropped = unseen if joined or not alone else SLIDES_IN.keys() if before & links else set()
        for note in beat.notes:
            for name in dropped & note.effects.keys():
                del note.effects[name]


def random_style(rng: random.Random, score: bool = False) -> dict[str, Any]:
    """How a system is drawn; `score`: with a score staff above."""
    return {
        "score": score,
        "full": not score or rng.random() < 0.35,
        "group": rng.choice(("", "StaffGroup", "ChoirStaff")),
        "staff_size": rng.choice((14, 16, 18, 20, 20, 20, 23, 26)),
        "line_px": round(rng.uniform(7, 20), 2),
        "tab_space": rng.choice((1.5, 1.5, 1.5, 1.4, 1.65)),
        "thickness": rng.choice((1, 1, 1, 0.7, 1.4)),
        "grey": rng.choice((0, 0, 0, 0, 0.35, 0.55)),
        "clef": rng.choice(("tab", "tab", "moderntab", "moderntab", "")),
        "font": rng.choice(("", "", "sans", "sans", "typewriter")),
        "bold": rng.random() < 0.7,
        "number_size": rng.choice((-2, -2, -2, -1.5, -2.5)),
        "numeric": rng.random() < 0.6,
        "stems": rng.choice(("auto", "auto", "down", "up")),
        "spread": rng.choice((1.2, 1.2, 1.6, 2.0, 2.6)),
        "final_bar": rng.random() < 0.3,
        "bar_number": rng.choice((0, 0, rng.randint(2, 120))),
        "written_octave": rng.random() < 0.4,
        "pm": rng.choice(("P.M.", "P.M.", "PM")),
    }


# --- drawing -------------------------------------------------------------------------------------------------------


class _Thing(NamedTuple):
    """One thing of the drawing, in staff spaces (y upward), with its line of the source and its number."""

    name: str
    x0: float
    x1: float
    y0: float
    y1: float
    line: int
    text: str

    @property
    def middle(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2


def _run(source: str, resolution: int, name: str) -> tuple[np.ndarray, list[_Thing]]:
    """Picture `(H, W)` uint8 and what LilyPond tells of it."""
    from PIL import Image

    program = find_program()
    if program is None:
        raise RenderError("renderer_error", absent() or "LilyPond is not installed")
    with tempfile.TemporaryDirectory(prefix="intermezzo-") as folder:
        (Path(folder) / "system.ly").write_text(source, encoding="utf-8")
        command = [str(program), "-dbackend=cairo", "--png", f"-dresolution={resolution}", "--loglevel=WARNING"]
        try:
            done = subprocess.run(
                [*command, "-o", "system", "system.ly"], cwd=folder, capture_output=True, text=True,
                timeout=_SECONDS, check=False, encoding="utf-8", errors="replace", env=os.environ | _ENGLISH,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise RenderError("time_limit", f"LilyPond took longer than {_SECONDS} seconds for {name}") from None
        picture = Path(folder) / "system.png"
        said = [line for line in done.stderr.splitlines() if "warning" in line or "error" in line]
        if done.returncode != 0 or not picture.exists():
            what = said[0] if said else f"exit status {done.returncode}"
            raise RenderError("renderer_error", f"LilyPond failed: {what}")
        if said:
            raise ValueError(f"LilyPond is in doubt: {said[0]}")
        with Image.open(picture) as opened:
            paper = Image.new("RGBA", opened.size, "white")
            paper.alpha_composite(opened.convert("RGBA"))
    things = [
        _Thing(m[1], float(m[2]), float(m[3]), float(m[4]), float(m[5]), int(m[6]), m[7].strip())
        for m in _TOLD.finditer(done.stdout)
    ]
    return np.asarray(paper.convert("L")), things


class _Drawing:
    """A picture cut to its ink, and where things stand on it."""

    def __init__(self, image: np.ndarray, things: list[_Thing], resolution: int) -> None:
        systems = [t for t in things if t.name == "System"]
        if len(systems) != 1:
            raise ValueError(f"{len(systems)} systems were drawn")
        scale_mm, left, top = systems[0].x0, systems[0].x1, systems[0].y0
        rows, columns = np.flatnonzero((image < 255).any(axis=1)), np.flatnonzero((image < 255).any(axis=0))
        if min(rows[0], columns[0]) == 0 or rows[-1] == len(image) - 1 or columns[-1] == image.shape[1] - 1:
            raise ValueError("the drawing does not fit on its page")
        y0, x0 = int(rows[0]) - MARGIN_PX, int(columns[0]) - MARGIN_PX
        y1, x1 = int(rows[-1]) + MARGIN_PX + 1, int(columns[-1]) + MARGIN_PX + 1
        padded = np.pad(image, MARGIN_PX, constant_values=255)
        self.image = np.ascontiguousarray(padded[y0 + MARGIN_PX : y1 + MARGIN_PX, x0 + MARGIN_PX : x1 + MARGIN_PX])
        #: Pixels of a staff space.
        self.unit = unit = scale_mm / _INCH_MM * resolution
        self.things = [
            _Thing(t.name, (left + t.x0) * unit - x0, (left + t.x1) * unit - x0,
                   (top - t.y1) * unit - y0, (top - t.y0) * unit - y0, t.line, t.text)
            for t in things if t.name != "System"
        ]  # fmt: skip

    def named(self, name: str) -> list[_Thing]:
        """All things of one kind."""
        return [t for t in self.things if t.name == name]


def _bar_edges(bars: list[_Thing], staff: _Thing, count: int) -> list[tuple[float, float]]:
    """Edges of the bars of the tab, from its bar lines."""
    places = sorted(t.middle[0] for t in bars if t.y0 < staff.middle[1] < t.y1)
    if len(places) not in (count, count + 1):  # one more where a repeat starts at the first bar
        raise ValueError(f"{len(places)} bar lines were drawn for {count} bars")
    inner = places[-count:-1]
    return list(zip([staff.x0, *inner], [*inner, staff.x1], strict=True))


def _resolution(style: dict[str, Any]) -> int:
    """Dots an inch that put two tab lines about `line_px` apart: a staff space is a quarter of the staff's size."""
    return round(style["line_px"] / (style["tab_space"] * style["staff_size"] / 4) * _POINTS)


def _truth(
    drawing: _Drawing, score: Score, style: dict[str, Any], tab: Places, above: Places
) -> tuple[list[float], dict[tuple[int, int, int], float], dict[tuple[int, int, int, int], float]]:
    """Tab lines, middles of the beats, heights of the numbers.

    Raises:
        ValueError: The numbers do not stand where the text says.
    """
    staff = max(drawing.named("StaffSymbol"), key=lambda t: t.y0)
    count = score.staves[0].strings
    space = style["tab_space"] * drawing.unit
    lines = [staff.middle[1] + (k - (count - 1) / 2) * space for k in range(count)]
    heads: dict[tuple[int, int, int], dict[int, _Thing]] = {}
    for head in drawing.named("TabNoteHead"):
        string = round((head.middle[1] - lines[0]) / space) + 1
        if head.line in tab:  # unseen notes have lines of their own
            heads.setdefault(tab[head.line], {})[string] = head
    rests = {(above or tab).get(t.line): t for t in drawing.named("Rest")}
    beat_x: dict[tuple[int, int, int], float] = {}
    note_y: dict[tuple[int, int, int, int], float] = {}
    for _, bar, voice, k, beat in score.beats():
        key = (bar, voice, k)
        here = heads.get(key, {})
        shown = {n.string: "" if "x" in n.effects else str(n.fret) for n in beat.notes}
        told = {string: head.text if shown.get(string) else "" for string, head in here.items()}
        if told != shown or (beat.is_rest and key not in rests):
            raise ValueError(f"beat {k + 1} of bar {bar + 1} was not drawn as the text says")
        beat_x[key] = rests[key].middle[0] if beat.is_rest else float(np.mean([t.middle[0] for t in here.values()]))
        note_y |= {(*key, string): lines[string - 1] for string in here}
    check_order(beat_x)
    return lines, beat_x, note_y


def engrave(
    text: str, style: dict[str, Any], worker: object = None, name: str = "", metre: tuple[int, int] = (4, 4)
) -> EngravedSystem:
    """Draws the canonical text of one system; see `vexflow.engrave`.

    Args:
        text: What to draw; techniques that LilyPond lacks are left out of picture and truth.
        style: Of `random_style`.
        worker: Not used: each system is a run of its own.
        name: For messages.
        metre: In force before the first bar.

    Raises:
        ValueError: A text that LilyPond can not draw, or a drawing that does not agree with it.
        RenderError: LilyPond failed.
    """
    from ..guitar_parts import shown_as

    score = shown_as(visible(read_alphatex(text)), "score+tabs" if style["score"] else "tabs")
    source, tab, above = source_of(score, style, metre)
    resolution = _resolution(style)
    drawing = _Drawing(*_run(source, resolution, name), resolution)
    lines, beat_x, note_y = _truth(drawing, score, style, tab, above)
    staff = max(drawing.named("StaffSymbol"), key=lambda t: t.y0)
    return EngravedSystem(
        image=drawing.image,
        text=write_alphatex(score),
        beat_x=beat_x,
        bar_x=_bar_edges(drawing.named("BarLine"), staff, len(score.staves[0].bars)),
        tab_line_ys=lines,
        has_score=style["score"],
        engraver=NAME,
        name=name,
        metre=metre,
        note_y=note_y,
    )


__all__ = ["NAME", "absent", "engrave", "find_program", "random_style", "visible"]
