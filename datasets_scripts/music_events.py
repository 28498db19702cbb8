"""From notes in time to bars that close: quantising and spelling of rhythm.

Time is counted in ticks, 48 to the quarter note. Each beat of a simple metre is heard either in sixteenths or in
triplets, whichever fits its onsets better; compound metres are heard in sixteenths.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from ..processing.alphatex_grammar import Beat, Note
from .fretboard import Grip

TICKS = 48  # a quarter note
SIXTEENTH, TRIPLET = 12, 16
_PLAIN = {
    192: (1, 0),
    144: (2, 1),
    96: (2, 0),
    72: (4, 1),
    48: (4, 0),
    36: (8, 1),
    24: (8, 0),
    12: (16, 0),
    288: (1, 1),
}
_TERNARY = {48: (4, 0, None), 32: (4, 0, (3, 2)), 16: (8, 0, (3, 2))}


@dataclass(frozen=True)
class Sound:
    """Pitches that start together.

    Attributes:
        start: Onset in quarter notes from the start of the first bar.
        length: Duration in quarter notes.
        pitches: MIDI numbers.
    """

    start: float
    length: float
    pitches: tuple[int, ...]


@dataclass(frozen=True)
class Span:
    """A stretch of one bar: a chord (by number), or silence."""

    start: int
    stop: int
    chord: int | None
    tied: bool


def beat_ticks(metre: tuple[int, int]) -> int:
    """Ticks of one beat: a dotted quarter in 6/8, 9/8, 12/8, else the unit of the metre (a quarter at the most)."""
    count, unit = metre
    if unit == 8 and count % 3 == 0:
        return 72
    return min(192 // unit, 48) if unit >= 4 else 48


def bar_ticks(metre: tuple[int, int]) -> int:
    """Ticks of one bar."""
    return metre[0] * 192 // metre[1]


def _grid(onsets: Sequence[float], beat: int) -> int:
    """Step that fits the onsets (ticks from the start of the beat) best."""
    if beat != 48 or not onsets:
        return SIXTEENTH
    miss = {step: sum(abs(o - round(o / step) * step) for o in onsets) for step in (SIXTEENTH, TRIPLET)}
    return TRIPLET if miss[TRIPLET] + 1.0 < miss[SIXTEENTH] else SIXTEENTH


def quantise(
    sounds: Sequence[Sound], bars: Sequence[tuple[int, tuple[int, int]]]
) -> tuple[list[tuple[int, int, tuple[int, ...]]], set[int]]:
    """Puts sounds on the grid.

    Args:
        sounds: In the order of their onsets.
        bars: First tick and metre of each bar, without gaps.

    Returns:
        `(start, stop, pitches)` in ticks, one for each onset (sounds that fall together are joined, each ends where
        the next starts at the latest), and the first ticks of the beats that are heard in triplets.
    """
    beats: list[tuple[int, int]] = []
    for start, metre in bars:
        beat, length = beat_ticks(metre), bar_ticks(metre)
        beats += [(start + t, min(beat, length - t)) for t in range(0, length, beat)]
    starts = [s.start * TICKS for s in sounds]
    total = beats[-1][0] + beats[-1][1]
    placed: dict[int, tuple[float, set[int]]] = {}
    ternary: set[int] = set()
    at = 0
    for first, length in beats:
        here = at
        while at < len(starts) and starts[at] < first + length - 0.25 * SIXTEENTH:
            at += 1
        step = _grid([max(starts[i] - first, 0) for i in range(here, at)], length)
        if step == TRIPLET:
            ternary.add(first)
        for i in range(here, at):
            tick = first + min(int((starts[i] - first) / step + 0.5) * step, length)
            tick = max(tick, first)
            end, pitches = placed.setdefault(tick, (0.0, set()))
            pitches.update(sounds[i].pitches)
            placed[tick] = (max(end, starts[i] + sounds[i].length * TICKS), pitches)
    order = sorted(tick for tick in placed if tick < total)
    # an onset rounded up to the next beat leaves its own beat, which may have no triplet left
    ternary = {t for t in ternary if any(t < o < t + 48 for o in order)}
    firsts = [first for first, _ in beats]
    out = []
    for k, tick in enumerate(order):
        limit = order[k + 1] if k + 1 < len(order) else total
        end, pitches = placed[tick]
        out.append((tick, _stop(tick, end, limit, firsts, ternary), tuple(sorted(pitches, reverse=True))))
    return out, ternary


def _stop(tick: int, end: float, limit: int, beats: Sequence[int], ternary: set[int]) -> int:
    """End of a sound on the grid of its beat; short silences before the next sound are not written."""
    if limit - end < 0.5 * TICKS:
        return limit
    first = beats[bisect_right(beats, end) - 1]
    step = TRIPLET if first in ternary else SIXTEENTH
    stop = first + round((end - first) / step) * step
    return stop if tick < stop < limit else limit


def spell_bar(
    spans: Sequence[Span], start: int, metre: tuple[int, int], ternary: set[int]
) -> list[tuple[Span, tuple[int, int, tuple[int, int] | None]]]:
    """Note values for the spans of one bar.

    A span that no single value can write is cut at beats; what follows is tied.

    Args:
        spans: Stretches that fill the bar from its first to its last tick.
        start: First tick of the bar.
        metre: Its metre.
        ternary: First ticks of the beats in triplets.

    Returns:
        Spans with `(duration, dots, tuplet)`.
    """
    beat = beat_ticks(metre)
    out = []
    for span in spans:
        place, tied = span.start, span.tied
        while place < span.stop:
            stop, value = _next_value(place, span.stop, start, beat, ternary)
            out.append((Span(place, stop, span.chord, tied), value))
            place, tied = stop, span.chord is not None
    return out


def _next_value(
    place: int, stop: int, start: int, beat: int, ternary: set[int]
) -> tuple[int, tuple[int, int, tuple[int, int] | None]]:
    first = start + (place - start) // beat * beat
    end = first + beat
    if first in ternary:
        stop = min(stop, end)
        for length in (48, 32, 16):
            if length <= stop - place and (place - first) % 16 == 0:
                return place + length, _TERNARY[length]
    whole = stop
    for later in range(end, stop, beat):  # plain values may not run into a beat in triplets half-way
        if later in ternary and later + beat > stop:
            whole = later
            break
    if place != first:
        whole = min(whole, end)
    length = whole - place
    if length not in _PLAIN or not _fits(place, length, first, beat):
        length = next(
            size for size in sorted(_PLAIN, reverse=True) if size < length and _fits(place, size, first, beat)
        )
    return place + length, (*_PLAIN[length], None)


def _fits(place: int, size: int, first: int, beat: int) -> bool:
    """A value starts on a beat, or stays inside one; compound beats are never joined in part."""
    return (place == first and (beat != 72 or size % beat == 0)) or (place - first + size <= beat)


def bars_of_beats(
    events: Sequence[tuple[int, int, tuple[int, ...]]],
    layout: Sequence[Grip],
    bars: Sequence[tuple[int, tuple[int, int]]],
    ternary: set[int],
    skip: int = 0,
) -> list[list[Beat]]:
    """Beats of each bar, with ties where a sound goes on over a bar line or can not be written by one value.

    Args:
        events: From `quantise`.
        layout: A grip for each event.
        bars: First tick and metre of each bar.
        ternary: From `quantise`.
        skip: Ticks that the first bar leaves out at its front, because it is a pick-up.
    """
    out: list[list[Beat]] = []
    at = 0
    for start, metre in bars:
        stop, place = start + bar_ticks(metre), start if out else start + skip
        spans: list[Span] = []
        while place < stop:
            while at < len(events) and events[at][1] <= place:
                at += 1
            if at == len(events) or events[at][0] >= stop:
                spans.append(Span(place, stop, None, False))
                break
            begin, end, _ = events[at]
            if begin > place:
                spans.append(Span(place, begin, None, False))
                place = begin
            spans.append(Span(place, min(end, stop), at, begin < place))
            place = min(end, stop)
        beats = []
        for span, (duration, dots, tuplet) in spell_bar(spans, start, metre, ternary):
            grip = () if span.chord is None else layout[span.chord]
            effects = {"t": ()} if span.tied else {}
            beats.append(Beat([Note(fret, string, dict(effects)) for string, fret in grip], duration, dots, tuplet))
        out.append(beats)
    return out
