"""What was composed against what was asked for: a small table for people."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from .composing_words import Asked
from .processing.music_attributes import ATTRIBUTES
from .processing.music_wishes import QUARTILES

_OTHERS = ("bars", "seconds", "programs")


def attribute_table(asked: Asked, measured: Sequence[Mapping[str, Any] | None]) -> str:
    """A row for each attribute: what was asked for and by which words, then what each song is.

    Args:
        asked: What was asked for.
        measured: Of each song (`music_wishes.measure_score`); `None` where there was nothing to measure.
    """
    kept = [asked.kept(values or {}) for values in measured]
    counts = [f"{sum(one.values())} of {len(one)}" for one in kept]
    rows = [["", "asked", *(str(number + 1) for number in range(len(measured)))]]
    for name in (*ATTRIBUTES, *_OTHERS):
        keys = ("tempo", "bpm") if name == "tempo" else (name,)
        told = [_asked(asked, key) for key in keys]
        cells = []
        for values, one in zip(measured, kept, strict=True):
            verdicts = [one[key] for key in keys if key in one]
            mark = (" ✓" if all(verdicts) else " ✗") if verdicts else ""
            cells.append(_measured(name, values or {}) + mark)
        rows.append([name, "; ".join(filter(None, told)) or "-", *cells])
    if asked:
        rows.append(["kept", "", *counts])
    return _lines(rows)


def _asked(asked: Asked, name: str) -> str:
    if name in asked.stated:
        wanted = asked.stated[name]
        if name in ATTRIBUTES:
            classes = ATTRIBUTES[name].classes[wanted[0] : wanted[1] + 1]
            shown = classes[0] if len(classes) == 1 else f"{classes[0]} … {classes[-1]}"
        else:
            shown = ", ".join(wanted) if name == "programs" else f"{wanted} bpm" if name == "bpm" else str(wanted)
    elif name in asked.sides:
        side = asked.sides[name]
        if name == "mode":
            shown = "major" if side > 0 else "minor"
        else:
            shown = f"{'above' if side > 0 else 'below'} {QUARTILES[name][1]:g}"
    else:
        return ""
    return f"{shown} ({asked.words.get(name, '')})"


def _measured(name: str, values: Mapping[str, Any]) -> str:
    value = values.get(name)
    if value is None or value != value:
        return "-"
    if name == "programs":
        return ", ".join(value)
    if name not in ATTRIBUTES or not ATTRIBUTES[name].edges:
        return f"{value:.0f}" if isinstance(value, float) else str(value)
    return f"{value:.3g} {ATTRIBUTES[name].classes[ATTRIBUTES[name].bin_of(value)]}"


def width_of(text: str) -> int:
    """Columns of a terminal that a text takes: Chinese letters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _lines(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(width_of(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = [[cell + " " * (width - width_of(cell)) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join("  ".join(row).rstrip() for row in padded)


__all__ = ["attribute_table", "width_of"]
