"""Rows of the token data set of `build_midi --tokens`: chunks of bars in the language of `tokenization_bar_midi.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..processing.bar_midi_vocabulary import DRUMS, EOS_ID, SECTIONS, SIGNATURES, VOCAB_SIZE
from ..processing.errors import InputError
from ..processing.music_attributes import mean_tempo, measure_roll
from ..processing.piano_roll import codes_of_score, grid_phase
from ..processing.roll_windows import Window
from ..processing.tokenization_bar_midi import BarTokens, bar_ids_of, decode, encode
from .midi_sources import Piece

CHUNK_BARS = 64
#: Silent bars that may stay at the front and at the end of a piece.
MAX_SILENT_BARS = 1
MIN_BARS = 4


def columns() -> dict[str, Any]:
    """Columns that only this data set has."""
    from datasets import Sequence as ListOf
    from datasets import Value

    found = {"tokens": ListOf(Value("uint16")), "programs": ListOf(Value("int16"))}
    return found | {name: Value("int32") for name in ("chunk", "bar", "num_bars", "num_notes")}


def cut_bars(num_bars: int, most: int = CHUNK_BARS) -> list[tuple[int, int]]:
    """First bar and bar after the last of each chunk: as few chunks as can be, of nearly equal length."""
    count = -(-num_bars // most)
    edges = [round(k * num_bars / count) for k in range(count + 1)]
    return list(pairwise(edges))


def tokens_of_piece(piece: Piece) -> BarTokens:
    """Tokens of a piece without the silence around it, moved onto the grid as the rolls are.

    Raises:
        InputError: No notes, too long, or fewer than `MIN_BARS` bars.
    """
    phase, agreement = grid_phase(piece.score)
    offset = -phase if agreement > 0.5 else 0.0
    tokens = encode(piece.score, offset_ticks=offset, name=piece.piece_id)
    sizes = np.bincount(tokens.bar_ids, minlength=tokens.num_bars)
    sounding = np.flatnonzero(sizes[:-1] > 3) if len(sizes) > 1 else np.zeros(0, int)  # the header has three words
    if sizes[-1] > 4:  # the last bar has `EOS` as well
        sounding = np.append(sounding, len(sizes) - 1)
    if not len(sounding) or sounding[-1] - sounding[0] + 1 < MIN_BARS:
        raise InputError(piece.piece_id, f"has {len(sounding)} bars with notes; at least {MIN_BARS} are needed")
    first = max(int(sounding[0]) - MAX_SILENT_BARS, 0)
    stop = int(sounding[-1]) + 1 + MAX_SILENT_BARS
    kept = (tokens.bar_ids >= first) & (tokens.bar_ids < stop)
    ids = tokens.ids[kept]
    ids = ids if ids[-1] == EOS_ID else np.append(ids, np.int32(EOS_ID))
    return BarTokens(ids, bar_ids_of(ids))


def rows_of_piece(piece: Piece, source: str, split: str, min_notes: int, shingles: Any) -> list[dict[str, Any]]:
    """Rows of all chunks of a piece that have notes enough.

    Args:
        piece: The piece.
        source: Name of its source.
        split: Its split.
        min_notes: Notes that a chunk must have.
        shingles: Function of a `Window` that gives the marks overlaps are found by.

    Raises:
        InputError: As `tokens_of_piece`.
    """
    tokens = tokens_of_piece(piece)
    rows = []
    for number, (first, stop) in enumerate(cut_bars(tokens.num_bars)):
        ids = tokens.ids[(tokens.bar_ids >= first) & (tokens.bar_ids < stop)]
        score = decode(ids)
        count = score.note_num()
        if count < min_notes or all(track.is_drum for track in score.tracks):
            continue
        codes = codes_of_score(score, name=piece.piece_id)
        metre = _usual_metre(ids)
        measured = measure_roll(codes, mean_tempo(score), metre)
        row: dict[str, Any] = {"tokens": ids.tolist(), "programs": programs_of(ids), "num_notes": count}
        row |= {"source": source, "piece_id": piece.piece_id, "title": piece.title, "composer": piece.composer}
        row |= {"chunk": number, "bar": first, "num_bars": stop - first, "split": split, **measured}
        row["_shingles"] = shingles(Window(codes, 0, codes.shape[1], first, metre))
        rows.append(row)
    return rows


def _places(ids: np.ndarray, kind: str) -> list[int]:
    """Places of the words of one kind in their section, in the order of the text."""
    first, size = SECTIONS[kind]
    return (ids[(ids >= first) & (ids < first + size)] - first).tolist()


def _usual_metre(ids: np.ndarray) -> tuple[int, int]:
    return SIGNATURES[Counter(_places(ids, "TimeSig")).most_common(1)[0][0]]


def programs_of(ids: np.ndarray) -> list[int]:
    """Programs of a text, −1 for drums, the most frequent first."""
    return [place + DRUMS for place, _ in Counter(_places(ids, "Program")).most_common()]


def card(settings: dict[str, Any], report: dict[str, Any], splits: Sequence[str]) -> str:
    """Data set card."""
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in splits)
    table = "".join(f"| {split} | {report['pieces'][split]} | {report['rows'][split]} |\n" for split in splits)
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(report["sources"].items()))
    return f"""---
pretty_name: Bar-wise REMI tokens with attributes
tags:
- music
- midi
configs:
- config_name: default
  data_files:
{files}---
# Bar-wise REMI tokens with attributes

Chunks of at most {CHUNK_BARS} bars. Every bar begins with `Bar`, `TimeSig` and `Tempo`, so a chunk may be cut at any
bar.

| split | pieces | chunks |
|---|---|---|
{table}
Chunks by source: {kinds}.

{settings["corpus"]} files of the music21 corpus were asked for (-1: all). {report["failures"]} files or pieces failed;
{report["dropped"]} training chunks were left out because they share four bars with a held-out chunk.

**Columns.** `tokens` numbers of the {VOCAB_SIZE} words, `EOS` where the piece ends · `programs` the most frequent
first, −1 for drums · `source`, `piece_id`, `title`, `composer` · `chunk` its number in the piece, `bar` its first bar
(from 0), `num_bars`, `num_notes` · `tempo` quarters a minute, `metre`, `key`, `mode`, `key_fit`, `density` onsets a
quarter, `register` mean pitch, `polyphony` sounding pitches, `range` semitones, `dynamics` mean velocity, `sustain`
mean length in quarters, `leaps` share of leaps in the top line: measured in the chunk on sixteenths, without drums ·
`split`.

**Splits** are drawn by a hash of the name of the work before anything is cut, so no work is in two of them.

**Not in it.** Pedal, grace notes, repeats of scores (every bar once), silence before and after a piece.

**Licence.** Every piece keeps its own licence.
"""


__all__ = ["card", "columns", "cut_bars", "programs_of", "rows_of_piece", "tokens_of_piece"]
