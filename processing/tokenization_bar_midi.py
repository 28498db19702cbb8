"""MIDI to bar-wise REMI tokens and back, without loss for files on the grid.

Each bar stands for itself: it begins with `Bar`, `TimeSig`, `Tempo`, and names the program of its first note, so that
bars can be cut, summarised and written one by one. Then come groups, in the order of time:

    Position  [Tempo]  ([Program] Pitch Velocity Duration)...

`Program` (−1: drums) stands where it changes within the bar; notes of one position go by program, then upwards. Silent
bars, at the end too, are bars with nothing in them. The index of a bar is ours: the number of `Bar` words before it.

MidiTok's own REMI is not used here, for it loses what this must keep: silent bars at the end, bars that a change of
metre cuts short, and the length of notes above its grid of durations (see `tests/test_tokenization_bar_midi.py`, where
both are compared on what both can say).

The grid is a twelfth of a quarter (`bar_midi_vocabulary.py`). What is not kept: tempos are rounded to whole quarters a
minute, velocities to 32 classes, notes of one pitch and program never overlap (the later one cuts the earlier), none
lasts longer than 16 quarters, tracks of one program become one, and there are no controllers, pedals or lyrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .bar_midi_reader import DEFAULT_TEMPO, BarReader
from .bar_midi_vocabulary import (
    BAR_ID,
    DRUM,
    DRUM_PITCHES,
    DURATION,
    EOS_ID,
    KIND_OF,
    KINDS,
    MAX_BAR_TICKS,
    MAX_DURATION_TICKS,
    MAX_TEMPO,
    MIN_TEMPO,
    PITCH,
    PLACE_OF,
    POSITION,
    PROGRAM,
    SIGNATURES,
    TEMPO,
    TICKS_PER_QUARTER,
    TIME_SIGNATURE,
    VELOCITY,
    VOCAB_SIZE,
    signature_of_ticks,
    token_names,
)
from .errors import InputError
from .piano_roll import check_length, in_ticks, loudness_of_velocity

MAX_BARS = 4096
#: Notes are snapped to beats where this part of the onsets lies further than this (in ticks) from the grid.
_OFF_GRID_SHARE, _OFF_GRID_TICKS = 0.05, 0.15


@dataclass(frozen=True)
class BarSpan:
    """A bar: first tick, length in ticks, time signature."""

    start: int
    ticks: int
    signature: tuple[int, int]


@dataclass
class BarTokens:
    """A piece as tokens.

    Attributes:
        ids: int32 `(T,)`.
        bar_ids: int32 `(T,)`, the bar that each token is in, from 0.
    """

    ids: np.ndarray
    bar_ids: np.ndarray

    @property
    def num_bars(self) -> int:
        """Bars of the piece."""
        return int(self.bar_ids[-1]) + 1 if len(self.bar_ids) else 0


def bar_ids_of(ids: Any) -> np.ndarray:
    """Bar of each token `(T,)`; −1 before the first `Bar`."""
    return (np.cumsum(np.asarray(ids) == BAR_ID) - 1).astype(np.int32)


# --- Scores to tokens -------------------------------------------------------------------------------------------------


def encode(
    score: Any,
    *,
    num_bars: int | None = None,
    snap: bool | None = None,
    offset_ticks: float = 0.0,
    end_of_piece: bool = True,
    name: Any = None,
) -> BarTokens:
    """Tokens of a score.

    Args:
        score: `symusic.Score`.
        num_bars: Fill up with silent bars, or cut, to this number.
        snap: Move onsets to the sixteenths or triplets of their beat, whichever fit better; left out, this is done for
            files whose notes do not lie on the grid. A file on the grid is never touched then.
        offset_ticks: Added to all times of the score before rounding, in its own ticks.
        end_of_piece: Write `EOS` at the end.
        name: File that an error message is about.

    Raises:
        InputError: No notes, too long, or too many bars.
    """
    score = in_ticks(score)
    check_length(score, TICKS_PER_QUARTER, name)
    notes = _notes(score, offset_ticks, snap)
    if not len(notes):
        raise InputError(name, "has no notes")
    scale = TICKS_PER_QUARTER / score.ticks_per_quarter
    last = max(int(np.ceil((_last_event(score) + offset_ticks) * scale - 0.5)), int((notes[:, 0] + notes[:, 1]).max()))
    bars = bars_of_score(score, last, offset_ticks, num_bars)
    if len(bars) > MAX_BARS:
        raise InputError(name, f"has {len(bars)} bars; at most {MAX_BARS}: cut it")
    if not len(notes := notes[notes[:, 0] < bars[-1].start + bars[-1].ticks]):
        raise InputError(name, f"has no notes in its first {len(bars)} bars")
    ids = _write(bars, notes, _tempos(score, offset_ticks))
    if end_of_piece:
        ids.append(EOS_ID)
    array = np.array(ids, dtype=np.int32)
    return BarTokens(array, bar_ids_of(array))


def _last_event(score: Any) -> int:
    """Last tick at which anything is said, apart from notes."""
    lists = [score.tempos, score.time_signatures, score.key_signatures, score.markers]
    return max((event.time for events in lists for event in events), default=0)


def _notes(score: Any, offset_ticks: float, snap: bool | None) -> np.ndarray:
    """Notes on the grid: int64 `(N, 5)` of start, length, rank of the program (drums last), pitch, loudness; sorted."""
    parts = []
    for track in score.tracks:
        if not len(track.notes):
            continue
        found = track.notes.numpy()
        rank = np.full(len(found["time"]), 128 if track.is_drum else int(np.clip(track.program, 0, 127)))
        parts.append(np.stack([found[key] for key in ("time", "duration", "pitch", "velocity")] + [rank], axis=1))
    notes = np.concatenate(parts).astype(np.int64) if parts else np.zeros((0, 5), np.int64)
    notes = notes[(notes[:, 2] >= 0) & (notes[:, 2] < 128) & (notes[:, 3] > 0)]
    low, high = DRUM_PITCHES
    notes = notes[(notes[:, 4] < 128) | ((notes[:, 2] >= low) & (notes[:, 2] <= high))]
    if not len(notes):
        return notes
    scale = TICKS_PER_QUARTER / score.ticks_per_quarter
    start = (notes[:, 0] + offset_ticks) * scale
    stop = start + notes[:, 1] * scale
    if snap is None:
        snap = bool((np.abs(start - np.round(start)) > _OFF_GRID_TICKS).mean() > _OFF_GRID_SHARE)
    start, stop = _snapped(start, stop) if snap else (np.floor(start + 0.5), np.floor(stop + 0.5))
    first = np.maximum(start, 0).astype(np.int64)
    length = np.clip(stop.astype(np.int64) - first, 1, MAX_DURATION_TICKS)
    loudness = loudness_of_velocity(notes[:, 3])
    return _without_overlaps(np.stack([first, length, notes[:, 4], notes[:, 2], loudness], axis=1))


def _snapped(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times on the sixteenths or the triplets of each quarter, whichever its onsets lie nearer to."""
    quarter = TICKS_PER_QUARTER
    beat = np.floor((start + 1.5) / quarter).astype(np.int64)
    beat -= beat.min()
    misses = []
    for size in (quarter // 4, quarter // 3):
        miss = np.zeros(int(beat.max()) + 1)
        np.add.at(miss, beat, np.abs(start - np.round(start / size) * size))
        misses.append(miss)
    step = np.where(misses[1] + 0.5 < misses[0], quarter // 3, quarter // 4)[beat]  # sixteenths where in doubt
    first = np.floor(start / step + 0.5) * step
    return first, np.maximum(np.floor(stop / step + 0.5) * step, first + step)


def _without_overlaps(notes: np.ndarray) -> np.ndarray:
    """Each note ends where the next of its pitch and program begins; of two that begin together one stays.

    That one has the longest length and the greatest loudness of both.
    """
    notes = notes[np.lexsort((notes[:, 0], notes[:, 3], notes[:, 2]))]
    new = np.ones(len(notes), dtype=bool)
    new[1:] = (notes[1:, [0, 2, 3]] != notes[:-1, [0, 2, 3]]).any(axis=1)
    firsts = np.flatnonzero(new)
    merged = notes[firsts]
    merged[:, 1] = np.maximum.reduceat(notes[:, 1], firsts)
    merged[:, 4] = np.maximum.reduceat(notes[:, 4], firsts)
    same = (merged[1:, [2, 3]] == merged[:-1, [2, 3]]).all(axis=1)
    gap = np.where(same, merged[1:, 0] - merged[:-1, 0], MAX_DURATION_TICKS)
    merged[:-1, 1] = np.minimum(merged[:-1, 1], gap)
    return merged[np.lexsort((merged[:, 3], merged[:, 2], merged[:, 0]))]


def _tempos(score: Any, offset_ticks: float) -> list[tuple[int, int]]:
    """(tick, tempo) of each change, on the grid, from tick 0 on; of several at one tick the last counts."""
    scale = TICKS_PER_QUARTER / score.ticks_per_quarter
    found: dict[int, int] = {}
    for mark in sorted(score.tempos, key=lambda mark: mark.time):
        if mark.qpm > 0:
            tick = max(int(np.floor((mark.time + offset_ticks) * scale + 0.5)), 0)
            found[tick] = int(np.clip(round(mark.qpm), MIN_TEMPO, MAX_TEMPO))
    marks = sorted(found.items()) or [(0, DEFAULT_TEMPO)]
    marks[0] = (0, marks[0][1])  # the first tempo also counts before it is written
    return marks


def bars_of_score(score: Any, last_tick: int, offset_ticks: float = 0.0, num_bars: int | None = None) -> list[BarSpan]:
    """Bars from tick 0 on that cover `last_tick`, or so many as are asked for.

    A bar that the next time signature cuts short, and one of more than 12 quarters, becomes a bar (or bars) of the
    length it has. Signs that are no music (0/4, 4/3) are passed over.
    """
    scale = TICKS_PER_QUARTER / score.ticks_per_quarter
    signs: dict[int, tuple[int, int]] = {0: (4, 4)}
    for sign in sorted(score.time_signatures, key=lambda sign: sign.time):
        pair = (int(sign.numerator), int(sign.denominator))
        length = pair[0] * 4 * TICKS_PER_QUARTER / pair[1] if pair[1] > 0 else 0
        if 0 < length <= 8 * MAX_BAR_TICKS and length % 3 == 0:
            signs[max(int(np.floor((sign.time + offset_ticks) * scale / 3 + 0.5)) * 3, 0)] = pair
    places = sorted(signs)
    bars: list[BarSpan] = []
    start = 0
    while start < max(last_tick, 1) if num_bars is None else len(bars) < num_bars:
        at = max(place for place in places if place <= start)
        following = min((place for place in places if place > start), default=None)
        count, unit = signs[at]
        full = count * 4 * TICKS_PER_QUARTER // unit
        # The rest of a bar that was too long to be one goes on from where it was cut.
        ticks = full - (start - at) % full if full > MAX_BAR_TICKS else full
        ticks = min(ticks, MAX_BAR_TICKS, following - start if following is not None else ticks)
        known = ticks == full and (count, unit) in SIGNATURES
        bars.append(BarSpan(start, ticks, (count, unit) if known else signature_of_ticks(ticks)))
        start += ticks
        if len(bars) > MAX_BARS:
            break
    return bars


def _write(bars: Sequence[BarSpan], notes: np.ndarray, tempos: Sequence[tuple[int, int]]) -> list[int]:
    """The words of all bars."""
    rows, marks = notes.tolist(), list(tempos)
    note = mark = 0
    tempo = DEFAULT_TEMPO
    ids: list[int] = []
    for bar in bars:
        stop = bar.start + bar.ticks
        while mark < len(marks) and marks[mark][0] <= bar.start:
            tempo, mark = marks[mark][1], mark + 1
        ids += (BAR_ID, TIME_SIGNATURE + SIGNATURES.index(bar.signature))
        ids.append(TEMPO + tempo - MIN_TEMPO)
        place, program = -1, -1
        while True:
            next_note = rows[note][0] if note < len(rows) else stop
            next_mark = marks[mark][0] if mark < len(marks) else stop
            at = min(next_note, next_mark)
            if at >= stop:
                break
            if next_mark == at:
                changed, tempo, mark = marks[mark][1] != tempo, marks[mark][1], mark + 1
                if not changed:
                    continue
                ids += (POSITION + at - bar.start, TEMPO + tempo - MIN_TEMPO)
                place = at
                continue
            if at != place:
                ids.append(POSITION + at - bar.start)
                place = at
            _, length, rank, pitch, loudness = rows[note]
            if rank != program:
                program = rank
                ids.append(PROGRAM + (0 if rank == 128 else rank + 1))
            ids.append(DRUM + pitch - DRUM_PITCHES[0] if rank == 128 else PITCH + pitch)
            ids += (VELOCITY + loudness, DURATION + length - 1)
            note += 1
    return ids


# --- Tokens to scores -------------------------------------------------------------------------------------------------


def decode(ids: Any, *, strict: bool = False) -> Any:
    """Score of tokens: one track for each program, drums last; 480 ticks to the quarter.

    Words that make no sense where they stand are passed over, so that a text that breaks off is still music. Notes end
    with the last bar at the latest. A marker at the end keeps silent bars after the last note.

    Args:
        ids: `(T,)` numbers; padding is passed over, `EOS` ends the piece.
        strict: Refuse words that make no sense.

    Returns:
        `symusic.Score`; `dump_midi(path)` writes it.

    Raises:
        InputError: A number that is no word; with `strict`, a word in a wrong place.
    """
    array = np.asarray(ids).reshape(-1).astype(np.int64)
    if array.size and (array.min() < 0 or array.max() >= VOCAB_SIZE):
        raise InputError(None, f"token {array.min()} or {array.max()} is no word; they go to {VOCAB_SIZE - 1}")
    reader = BarReader()
    kinds, places = KIND_OF[array].tolist(), PLACE_OF[array].tolist()
    for index, (kind, place) in enumerate(zip(kinds, places, strict=True)):
        name = KINDS[kind]
        if name == "EOS":
            break
        if name != "PAD" and not reader.read(name, place) and strict:
            raise InputError(None, f"token {index}, {token_names()[array[index]]}, makes no sense where it is")
    return reader.score()


# --- Changes to tokens ------------------------------------------------------------------------------------------------


def transpose(ids: np.ndarray, semitones: int) -> np.ndarray | None:
    """The same music so many semitones higher, drums as they are; `None` when a note would leave the 128 pitches."""
    pitched = KIND_OF[ids] == KINDS.index("Pitch")
    moved = PLACE_OF[ids] + semitones
    if not (pitched & ((moved < 0) | (moved >= 128))).any():
        # Packed texts are unsigned, and a shift down is not.
        return np.where(pitched, ids.astype(np.int64) + semitones, ids).astype(ids.dtype)
    return None


def scale_tempo(ids: np.ndarray, factor: float) -> np.ndarray:
    """The same music faster (factor above 1) or slower, within the tempos that exist."""
    is_tempo = KIND_OF[ids] == KINDS.index("Tempo")
    tempo = np.round((PLACE_OF[ids] + MIN_TEMPO) * factor)
    tempo = np.clip(tempo, MIN_TEMPO, MAX_TEMPO) - MIN_TEMPO
    return np.where(is_tempo, TEMPO + tempo, ids).astype(ids.dtype)
