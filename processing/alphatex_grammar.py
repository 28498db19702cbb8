"""Canonical alphaTex: typed reading, writing and bar closure.

`read_alphatex` reads our canonical text and the normal form that alphaTab's exporter writes; `write_alphatex` writes
the canonical text, which says only what the picture shows.
"""

from __future__ import annotations

from .alphatex_bars import bar_capacity, bars_close, check_bars, metres, voice_length
from .alphatex_reader import read_alphatex
from .alphatex_types import (
    DEFAULT_TIME_SIGNATURE,
    STANDARD_TUNINGS,
    AlphaTexError,
    Bar,
    BarIssue,
    Beat,
    Note,
    Score,
    Staff,
    Track,
    beat_length,
)
from .alphatex_visible import strip_invisible
from .alphatex_writer import write_alphatex, write_bar, write_beat, write_note

__all__ = [
    "DEFAULT_TIME_SIGNATURE",
    "STANDARD_TUNINGS",
    "AlphaTexError",
    "Bar",
    "BarIssue",
    "Beat",
    "Note",
    "Score",
    "Staff",
    "Track",
    "bar_capacity",
    "bars_close",
    "beat_length",
    "check_bars",
    "metres",
    "read_alphatex",
    "strip_invisible",
    "voice_length",
    "write_alphatex",
    "write_bar",
    "write_beat",
    "write_note",
]
