"""Tab-NED: what a tab text prints, in symbols of five fields, and the fewest errors between two texts.

A text is a row of elements: the head of each staff, each bar, each voice after the
first, each beat. An element prints symbols in five fields:

| field | symbols |
|---|---|
| string | one for each note: the line it stands on |
| fret | one for each note: its number, `x` when dead, its pitch when there is no string |
| duration | one for each beat: value, dots, tuplet, kind of grace |
| technique | one for each effect with its arguments, of notes and of beats |
| meta | one for each bar line, each further voice, each mark of a bar (metre, tempo, ...) or head (title, ...) |

Adding, dropping or exchanging a symbol costs 1. Elements are aligned in order (Levenshtein 1966; only like is
exchanged for like), the notes of two aligned beats are paired as sets at least cost, as musicdiff pairs the notes of a
bar (F. Foscarin, F. Jacquemard, R. Fournier-S'niehotta, *A diff procedure for music score files*, DLfM 2019). One
alignment, the cheapest over all fields together (ties: fewest string, then fret, duration, technique errors), serves
every field: so a wrong fret moves only the fret rate, even inside a chord. Tab-NED of a field over a set of systems is
sum(errors) / sum(max(symbols predicted, symbols true)), in [0, 1] and symmetric. Our own measure: OMR-NED
(`metrics_omr_ned`) is the published neighbour, blind to strings and frets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any

from ..processing.alphatex_grammar import Bar, Beat, Note, Score, Staff

FIELDS = ("string", "fret", "duration", "technique", "meta")
_WIDTH = 20  # bits of one packed count: a text of a million symbols still fits
_MASK = (1 << _WIDTH) - 1

Element = tuple[Any, ...]


def _pack(counts: dict[str, int]) -> int:
    """Counts by field as one integer that orders by their sum first, then by field.

    Such integers add like the counts do, so an ordinary dynamic programme finds the one cheapest alignment.
    """
    packed = sum(counts.values())
    for name in FIELDS:
        packed = packed << _WIDTH | counts.get(name, 0)
    return packed


def _unpack(packed: int) -> dict[str, int]:
    counts = {}
    for name in reversed(FIELDS):
        counts[name] = packed & _MASK
        packed >>= _WIDTH
    return {name: counts[name] for name in FIELDS}


# --- symbols -------------------------------------------------------------------------------------------------------


def _effects(effects: dict[str, tuple], leave_out: tuple[str, ...] = ()) -> tuple[tuple[str, tuple], ...]:
    return tuple(sorted(((k, v) for k, v in effects.items() if k not in leave_out), key=repr))


def fret_symbol(note: Note) -> int | str:
    """What stands on the line: the number, `x` for a dead note, the pitch where there are no strings."""
    if "x" in note.effects:
        return "x"
    return note.fret if note.pitch is None else note.pitch


def _beat_element(beat: Beat) -> Element:
    notes = tuple(
        sorted(((n.string, fret_symbol(n), _effects(n.effects, ("x",))) for n in beat.notes), key=repr)
    )  # fmt: skip
    value = (beat.duration, beat.dots, beat.tuplet, beat.grace)
    return ("beat", value, notes, _effects(beat.effects))


def _bar_element(bar: Bar) -> Element:
    marks = {
        "ts": bar.time_signature,
        "ks": bar.key_signature,
        "tempo": bar.tempo,
        "ro": bar.repeat_open or None,
        "rc": bar.repeat_close or None,
        "ae": bar.endings or None,
        "section": bar.section,
        "ac": bar.anacrusis or None,
    }
    shown = [(name, value) for name, value in marks.items() if value is not None]
    return ("bar", tuple(shown + sorted(bar.other.items(), key=repr)))


def _staff_element(staff: Staff, names: tuple[tuple[str, Any], ...]) -> Element:
    marks: list[tuple[str, Any]] = [*names, ("show", staff.show)]
    marks += [("tuning", staff.tuning)] if staff.tuning is not None else []
    marks += [("capo", staff.capo)] if staff.capo else []
    marks += [("percussion", True)] if staff.percussion else []
    return ("staff", tuple(marks + sorted(staff.other.items(), key=repr)))


def elements(score: Score) -> list[Element]:
    """The row of elements that a score prints, left to right: heads, bars, voices and beats.

    Args:
        score: A typed reading.

    Returns:
        Hashable tuples whose first item is the kind: `"staff"`, `"bar"`, `"voice"` or `"beat"`.
    """
    titles = ("title", "subtitle", "artist", "album", "words", "music", "copyright", "transcriber")
    heads: list[tuple[str, Any]] = [(name, getattr(score, name)) for name in titles if getattr(score, name)]
    row: list[Element] = []
    for track in score.tracks:
        heads += [("track", track.name)] if track.name else []
        for staff in track.staves:
            row.append(_staff_element(staff, tuple(heads)))
            heads = []
            for bar in staff.bars:
                row.append(_bar_element(bar))
                for number, voice in enumerate(bar.voices):
                    row += [("voice",)] if number else []
                    row += [_beat_element(beat) for beat in voice]
    return row


# --- edit distance -------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 16)
def _size(element: Element) -> int:
    """Packed number of symbols of one element."""
    kind = element[0]
    if kind == "beat":
        notes = element[2]
        techniques = len(element[3]) + sum(len(note[2]) for note in notes)
        return _pack({"string": len(notes), "fret": len(notes), "duration": 1, "technique": techniques})
    if kind == "voice":
        return _pack({"meta": 1})
    return _pack({"meta": len(element[1]) + (kind == "bar")})


def _set_distance(left: Sequence[Hashable], right: Sequence[Hashable]) -> int:
    """Least additions, drops and exchanges between two multisets."""
    a, b = Counter(left), Counter(right)
    return max((a - b).total(), (b - a).total())


def _note_distance(left: tuple, right: tuple) -> int:
    return _pack(
        {
            "string": int(left[0] != right[0]),
            "fret": int(left[1] != right[1]),
            "technique": _set_distance(left[2], right[2]),
        }
    )


def _notes_distance(left: tuple, right: tuple) -> int:
    """Cheapest pairing of the notes of two beats; notes without a partner cost all their symbols."""
    a, b = Counter(left), Counter(right)
    rest_a, rest_b = list((a - b).elements()), list((b - a).elements())
    if len(rest_a) > len(rest_b):
        rest_a, rest_b = rest_b, rest_a
    sizes = [_pack({"string": 1, "fret": 1, "technique": len(note[2])}) for note in rest_b]
    # Every note of the smaller side gets a partner (a pair never costs more than a drop and an addition);
    # `best` maps the set of partners taken so far to its least cost. A chord has at most a dozen notes.
    best = {0: 0}
    for note in rest_a:
        following: dict[int, int] = {}
        for taken, cost in best.items():
            for index, other in enumerate(rest_b):
                if not taken >> index & 1:
                    key, value = taken | 1 << index, cost + _note_distance(note, other)
                    following[key] = min(value, following.get(key, value))
        best = following
    return min(cost + sum(s for i, s in enumerate(sizes) if not taken >> i & 1) for taken, cost in best.items())


@lru_cache(maxsize=1 << 18)
def _exchange(left: Element, right: Element) -> int:
    """Packed cost of turning one element into another of its kind."""
    if left == right:
        return 0
    if left[0] != "beat":
        return _pack({"meta": _set_distance(left[1], right[1])})
    own = _pack({"duration": int(left[1] != right[1]), "technique": _set_distance(left[3], right[3])})
    return own + _notes_distance(left[2], right[2])


def symbols(row: Sequence[Element]) -> dict[str, int]:
    """Number of symbols that a row of elements prints, by field."""
    return _unpack(sum(map(_size, row)))


def edit_distance(left: Sequence[Element], right: Sequence[Element]) -> dict[str, int]:
    """Errors by field between two rows of elements, under their cheapest common alignment.

    Args:
        left: Elements of one score.
        right: Elements of the other; the result is symmetric.

    Returns:
        Number of errors for each name in `FIELDS`.
    """
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    end = 0
    while end < min(len(left), len(right)) - start and left[-1 - end] == right[-1 - end]:
        end += 1
    a, b = left[start : len(left) - end], right[start : len(right) - end]
    row = [0]
    for other in b:
        row.append(row[-1] + _size(other))
    for one in a:
        drop = _size(one)
        following = [row[0] + drop]
        for j, other in enumerate(b):
            cost = min(row[j + 1] + drop, following[j] + _size(other))
            if one[0] == other[0]:
                cost = min(cost, row[j] + _exchange(one, other))
            following.append(cost)
        row = following
    return _unpack(row[-1])
