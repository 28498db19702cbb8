"""OMR-NED of two alphaTex texts by musicdiff, in a process of its own with a time limit.

OMR-NED (J. C. Martinez-Sevilla and others, *Sheet Music Benchmark: Standardized Optical Music Recognition Evaluation*,
2025, arXiv 2506.10488; `musicdiff` by G. Chapman) is the number of notation edits over the symbols of both scores.

It compares staff notation: **strings and frets are invisible to it**. The same pitch on another string costs nothing,
a wrong fret counts as a wrong pitch, and the techniques that only tab shows are left out by our conversion. Read it
beside Tab-NED, never in its place. What we compare are pitches, rhythm, ties, rests, tuplets, grace notes, metre,
repeats and voices; slurs, text, tempo and dynamics are not converted, on either side.

`musicdiff` and `music21` are optional; each pair has a time limit because the comparison can be exponential in size.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from ..processing.alphatex_grammar import (
    DEFAULT_TIME_SIGNATURE,
    STANDARD_TUNINGS,
    Bar,
    Beat,
    Score,
    Staff,
    read_alphatex,
)

if TYPE_CHECKING:
    from music21.stream import Score as StaffScore


@dataclass(frozen=True)
class OmrNed:
    """One comparison.

    Attributes:
        errors: Edits, as musicdiff costs them.
        symbols: Symbols of both scores together; OMR-NED = errors / symbols.
        message: Why there is no result; then `errors` and `symbols` are 0.
    """

    errors: int
    symbols: int
    message: str = ""


def is_available() -> bool:
    """Whether musicdiff and music21 are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("musicdiff", "music21"))


def _pitch_numbers(beat: Beat, staff: Staff) -> list[tuple[Any, bool]]:
    """MIDI number (or pitch name) of each note of a beat, and whether it is the end of a tie."""
    from music21.pitch import Pitch

    tuning = staff.tuning or STANDARD_TUNINGS[6]
    found: list[tuple[Any, bool]] = []
    for note in beat.notes:
        if 1 <= note.string <= len(tuning):
            number: Any = int(Pitch(tuning[note.string - 1].replace("b", "-")).midi) + max(note.fret, 0) + staff.capo
        elif note.pitch is not None and note.pitch[-1:].isdigit():
            number = note.pitch.replace("b", "-")
        else:
            continue
        found.append((number, "t" in note.effects))
    return found


def _staff_beat(beat: Beat, staff: Staff) -> Any:
    """One beat as a music21 note, chord or rest."""
    from music21 import chord, duration, note, tie

    value = beat.duration if beat.duration > 0 else 1 / -beat.duration
    length = duration.Duration(type=duration.typeFromNumDict[value], dots=beat.dots)
    if beat.tuplet is not None:
        length.appendTuplet(duration.Tuplet(beat.tuplet[0], beat.tuplet[1]))
    heads = _pitch_numbers(beat, staff)
    if not heads:
        return note.Rest(duration=length)
    notes = []
    for pitch, tied in heads:
        one = note.Note(pitch)
        if tied:
            one.tie = tie.Tie("stop")
        notes.append(one)
    general = notes[0] if len(notes) == 1 else chord.Chord(notes)
    general.duration = length
    return general.getGrace() if beat.grace else general


def _fill_measure(measure: Any, bar: Bar, staff: Staff) -> None:
    from music21 import bar as barlines
    from music21 import stream

    if bar.repeat_open:
        measure.leftBarline = barlines.Repeat(direction="start")
    if bar.repeat_close:
        measure.rightBarline = barlines.Repeat(direction="end", times=bar.repeat_close)
    voices = [voice for voice in bar.voices if voice]
    for number, voice in enumerate(voices):
        target = measure if len(voices) == 1 else stream.Voice(id=str(number + 1))
        for beat in voice:
            target.append(_staff_beat(beat, staff))
        if target is not measure:
            measure.insert(0, target)


def to_staff_notation(score: Score) -> StaffScore:
    """What a staff above the tab would show, as a music21 score: sounding pitches and rhythm.

    Args:
        score: A typed reading.

    Returns:
        One part for each staff of the score.
    """
    from music21 import meter, stream

    whole = stream.Score()
    for staff in score.staves:
        part = stream.Part()
        metre = DEFAULT_TIME_SIGNATURE
        for number, bar in enumerate(staff.bars, start=1):
            measure = stream.Measure(number=number)
            if bar.time_signature is not None or number == 1:
                metre = bar.time_signature or metre
                measure.timeSignature = meter.TimeSignature(f"{metre[0]}/{metre[1]}")
            _fill_measure(measure, bar, staff)
            part.append(measure)
        whole.insert(0, part)
    return whole


def omr_ned(prediction: str, truth: str) -> OmrNed:
    """OMR-NED of one pair, in this process and without a time limit.

    Args:
        prediction: alphaTex; where it does not parse, it counts as an empty score (OMR-NED 1).
        truth: alphaTex.

    Raises:
        InputError: The truth does not parse.
        ImportError: musicdiff is not installed.
    """
    from musicdiff.annotation import AnnScore
    from musicdiff.comparison import Comparison
    from musicdiff.detaillevel import DetailLevel

    from .metrics_tab import read_or_none

    true = read_alphatex(truth)
    read, _ = read_or_none(prediction)
    left, right = (
        AnnScore(to_staff_notation(score), DetailLevel.AllObjects)
        for score in (Score() if read is None else read, true)
    )
    _, errors = Comparison.annotated_scores_diff(left, right)
    return OmrNed(int(errors), int(left.notation_size() + right.notation_size()))


def _serve(pipe: Connection) -> None:
    """Answer pairs until the other side closes."""
    while True:
        try:
            prediction, truth = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(omr_ned(prediction, truth))
        except Exception as error:  # any failure inside music21 or musicdiff is this pair's answer
            pipe.send(OmrNed(0, 0, f"{type(error).__name__}: {error}"))


def _start() -> tuple[Any, Connection]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def bounded_omr_ned(
    pairs: Iterable[tuple[str, str]], *, seconds_per_pair: float = 20.0, seconds_in_all: float = 600.0
) -> Iterator[OmrNed]:
    """OMR-NED of many pairs within a time limit.

    Args:
        pairs: (prediction, truth).
        seconds_per_pair: Limit of one comparison; the first has 60 s more, for the imports.
        seconds_in_all: Limit of all; pairs after it are answered with a message at once.

    Yields:
        One result for each pair, in order; a pair out of time has a message and counts nothing.
    """
    process, pipe = None, None
    started, allowance = time.monotonic(), 60.0
    try:
        for pair in pairs:
            left = seconds_in_all - (time.monotonic() - started)
            if left <= 0:
                yield OmrNed(0, 0, f"not compared: the {seconds_in_all:.0f} s for OMR-NED were spent")
                continue
            if process is None or pipe is None:
                process, pipe = _start()
                allowance = 60.0
            pipe.send(pair)
            limit = min(seconds_per_pair + allowance, left)
            allowance = 0.0
            try:
                ready = pipe.poll(limit)
                answer = pipe.recv() if ready else OmrNed(0, 0, f"no result within {limit:.0f} s")
            except EOFError:
                ready, answer = False, OmrNed(0, 0, "the comparing process died")
            if not ready:
                process.kill()
                process.join()
                process = pipe = None
            yield answer
    finally:
        if process is not None and pipe is not None:
            pipe.close()
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
