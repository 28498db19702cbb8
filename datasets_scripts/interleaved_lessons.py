"""Lessons for a model that reads and draws: what is asked, and what is answered, in parts of text and picture.

| lesson | asked | answered |
|---|---|---|
| read | picture | its alphaTex |
| draw | alphaTex | its picture |
| continue | the left part of a picture | the rest of it |
| again | "play", picture, "then the same … frets up" | alphaTex of both, one after the other |
| join | two pictures, systems of one piece that follow each other | one alphaTex |
| text | nothing | alphaTex |
| picture | nothing | picture |
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..processing.alphatex_grammar import AlphaTexError, Score, read_alphatex, write_alphatex

LESSONS = ("read", "draw", "continue", "again", "join", "text", "picture")
MAIN = ("read", "draw")  # of every system; one of the others is drawn
WEIGHTS = {"continue": 3, "again": 3, "join": 2, "text": 1, "picture": 1}
MAX_FRET = 24

_AGAIN = (
    ("play ", ", then the same {by} frets {way}"),
    ("先弹 ", "，再{way} {by} 品弹一遍"),
)
_OCTAVE = (("play ", ", then the same an octave {way}"), ("先弹 ", "，再{way}八度弹一遍"))
_WAYS = {True: ("up", "高"), False: ("down", "低")}


@dataclass
class System:
    """What lessons are made of.

    Attributes:
        text: Canonical alphaTex.
        codes: `(h, w)`, its picture.
        piece_id: The piece it is from.
        name: For messages.
        before: The system before it in the piece, where that is there.
        places: Column of patches, from 0, in which each beat is drawn, in the order of the text; empty: not known.
        drawn, drawn_places: The picture as it is to be drawn, where it is not the same; see `native_snap`.
    """

    text: str
    codes: np.ndarray
    piece_id: str
    name: str
    before: System | None = None
    places: list[int] = field(default_factory=list)
    drawn: np.ndarray | None = None
    drawn_places: list[int] = field(default_factory=list)

    @property
    def to_draw(self) -> tuple[np.ndarray, list[int]]:
        """Codes and columns of beats of the picture that is to be drawn."""
        return (self.codes, self.places) if self.drawn is None else (self.drawn, self.drawn_places)


def text_part(role: str, text: str, places: Sequence[int] = ()) -> dict[str, Any]:
    """A part that is text; `places` are the columns of its beats, where it goes with one picture."""
    part = {"role": role, "kind": "text", "text": text, "rows": 0, "columns": 0, "codes": []}
    return part | {"places": list(places)}


def picture_part(role: str, codes: np.ndarray) -> dict[str, Any]:
    """A part that is a picture, row by row."""
    rows, columns = codes.shape
    flat = codes.astype(int).ravel().tolist()
    part = {"role": role, "kind": "picture", "text": "", "rows": rows, "columns": columns, "codes": flat}
    return part | {"places": []}


def part_codes(part: dict[str, Any]) -> np.ndarray:
    """Codes `(h, w)` of a picture's part."""
    return np.asarray(part["codes"], dtype=np.int64).reshape(part["rows"], part["columns"])


def moved_frets(score: Score, frets: int) -> Score | None:
    """The same music so many frets higher on the same strings; `None` where the neck ends, or nothing would move."""
    moved, count = copy.deepcopy(score), 0
    for staff in moved.staves:
        for bar in staff.bars:
            for beat in (beat for voice in bar.voices for beat in voice):
                if beat.effects.keys() & {"ch", "barre"}:
                    return None  # a chord's name would no longer be right
                for note in beat.notes:
                    if note.pitch is not None or note.effects.keys() & {"tr", "ah", "th", "ph", "sh", "fh"}:
                        return None  # these name frets of their own
                    if "x" in note.effects:
                        continue
                    if not 0 <= note.fret + frets <= MAX_FRET:
                        return None
                    note.fret += frets
                    count += 1
    return moved if count else None


def joined(first: Score, second: Score) -> Score | None:
    """The bars of one score behind those of another; `None` where their staves differ."""
    if len(first.staves) != 1 or len(second.staves) != 1:
        return None
    a, b = first.staves[0], second.staves[0]
    if (a.show, a.tuning, a.capo, a.other) != (b.show, b.tuning, b.capo, b.other):
        return None
    whole = copy.deepcopy(first)
    whole.staves[0].bars.extend(copy.deepcopy(b.bars))
    return whole


def _readable(score: Score | None) -> str | None:
    """Canonical text of a score that was put together, where it reads back as that score."""
    if score is None:
        return None
    try:
        text = write_alphatex(score)
        return text if read_alphatex(text) == score else None
    except AlphaTexError:
        return None


def _read(system: System, draw: random.Random) -> list[dict[str, Any]]:
    return [picture_part("user", system.codes), text_part("assistant", system.text, system.places)]


def _draw(system: System, draw: random.Random) -> list[dict[str, Any]]:
    codes, places = system.to_draw
    return [text_part("user", system.text, places), picture_part("assistant", codes)]


def _continue(system: System, draw: random.Random) -> list[dict[str, Any]] | None:
    codes, _ = system.to_draw
    width = codes.shape[1]
    if width < 6:
        return None
    cut = draw.randint(width // 3, 2 * width // 3)
    return [picture_part("user", codes[:, :cut]), picture_part("assistant", codes[:, cut:])]


def _again(system: System, draw: random.Random) -> list[dict[str, Any]] | None:
    score = read_alphatex(system.text)
    by = draw.choice((12, 12, 2, 1, 5, 7, 3))
    up = draw.random() < 0.7
    moved = moved_frets(score, by if up else -by)
    if moved is None:
        return None
    text = _readable(joined(score, moved))
    if text is None:
        return None
    language = draw.randrange(2)
    before, after = (_OCTAVE if by == 12 else _AGAIN)[language]
    after = after.format(by=by, way=_WAYS[up][language])
    parts = [text_part("user", before), picture_part("user", system.codes), text_part("user", after)]
    return [*parts, text_part("assistant", text)]


def _join(system: System, draw: random.Random) -> list[dict[str, Any]] | None:
    if system.before is None:
        return None
    text = _readable(joined(read_alphatex(system.before.text), read_alphatex(system.text)))
    if text is None:
        return None
    pictures = [picture_part("user", part.codes) for part in (system.before, system)]
    return [*pictures, text_part("assistant", text)]


def _text(system: System, draw: random.Random) -> list[dict[str, Any]]:
    return [text_part("user", ""), text_part("assistant", system.text)]


def _picture(system: System, draw: random.Random) -> list[dict[str, Any]]:
    return [text_part("user", ""), picture_part("assistant", system.to_draw[0])]


_MAKERS: dict[str, Callable[[System, random.Random], list[dict[str, Any]] | None]] = {
    "read": _read, "draw": _draw, "continue": _continue, "again": _again, "join": _join, "text": _text,
    "picture": _picture,
}  # fmt: skip


def lessons_of(system: System, seed: int, kinds: tuple[str, ...] = LESSONS) -> list[tuple[str, list[dict[str, Any]]]]:
    """The lessons of one system: to read it, to draw it, and one other, drawn by seed and name.

    Args:
        system: A system with its codes.
        seed: Of the draw.
        kinds: Lessons that are wanted.
    """
    draw = random.Random(f"{seed} {system.name}")
    found = [(kind, parts) for kind in MAIN if kind in kinds if (parts := _MAKERS[kind](system, draw))]
    others = [kind for kind in WEIGHTS if kind in kinds]
    while others:
        kind = draw.choices(others, [WEIGHTS[k] for k in others])[0]
        if parts := _MAKERS[kind](system, draw):
            return [*found, (kind, parts)]
        others.remove(kind)
    return found


__all__ = ["LESSONS", "System", "joined", "lessons_of", "moved_frets", "part_codes", "picture_part", "text_part"]
