"""Bar closure: does every voice fill its bar? alphaTab does not ask, so we do."""

from __future__ import annotations

from fractions import Fraction

from .alphatex_types import DEFAULT_TIME_SIGNATURE, Bar, BarIssue, Beat, Score


def voice_length(beats: list[Beat]) -> Fraction:
    """Sum of the beats, as a fraction of a whole note; grace notes take no time."""
    return sum((beat.length for beat in beats), Fraction(0))


def bar_capacity(time_signature: tuple[int, int]) -> Fraction:
    """What one bar of this metre holds, as a fraction of a whole note."""
    return Fraction(*time_signature)


def metres(score: Score, before: tuple[int, int] = DEFAULT_TIME_SIGNATURE) -> list[tuple[int, int]]:
    """The metre in force in each bar; the one `before` until the text names one.

    Metre belongs to all staves and is written on the first; another staff that names its own is heard too, so that a
    staff cut out of a score keeps its metre.
    """
    staves = score.staves
    found: list[tuple[int, int]] = []
    current = before
    for index in range(max((len(staff.bars) for staff in staves), default=0)):
        named = (staff.bars[index].time_signature for staff in staves if index < len(staff.bars))
        current = next((metre for metre in named if metre), current)
        found.append(current)
    return found


def _is_full_bar_rest(beats: list[Beat]) -> bool:
    """A whole rest alone in its bar rests for the whole bar in every metre."""
    return len(beats) == 1 and beats[0].is_rest and beats[0].duration == 1 and not beats[0].dots


def _shared_marks(score: Score) -> list[Bar]:
    first = next((staff.bars for staff in score.staves if staff.bars), [])
    longest = max((len(staff.bars) for staff in score.staves), default=0)
    return [*first, *(Bar() for _ in range(longest - len(first)))]


def _partners(marks: list[Bar], index: int) -> list[int]:
    """Bars that can hold the rest of a bar which a repeat or the end of the piece cuts in two."""
    last = len(marks) - 1
    bar = marks[index]
    found = []
    ends = bar.repeat_close or index == last or bool(bar.endings)
    if ends:
        opening = next((i for i in range(index, -1, -1) if marks[i].repeat_open), 0)
        found += [0, opening, opening - 1]
    if index < last and (ends or marks[index + 1].repeat_open or marks[index + 1].endings):
        found.append(index + 1)
    before = marks[index - 1] if index else None
    if before and (before.repeat_close or bar.repeat_open or bar.endings or before.endings):
        found.append(index - 1)
    if bar.repeat_open:
        found += [i for i in range(index, last + 1) if marks[i].repeat_close][:1]
    return [i for i in found if 0 <= i <= last and i != index]


def check_bars(score: Score, *, first_may_be_short: bool = True, empty_bars: bool = True) -> list[BarIssue]:
    r"""Voices that do not fill their bars.

    No issue: voices without beats, a pick-up bar (`\ac`, or the first bar) that is short, two bars that a repeat or
    an ending cuts out of one and that fill it together, a last bar that completes the pick-up, a whole rest alone in
    any metre, and bars in free time.

    Args:
        score: Any score.
        first_may_be_short: Take a short first bar for a pick-up. Say False for a system from the middle of a piece.
        empty_bars: Take a bar without any beat for complete.
    """
    marks = _shared_marks(score)
    wants = [bar_capacity(metre) for metre in metres(score)]
    issues = []
    for staff_index, staff in enumerate(score.staves):
        haves = [max((voice_length(voice) for voice in bar.voices), default=Fraction(0)) for bar in staff.bars]
        for index, bar in enumerate(staff.bars):
            want, mark = wants[index], marks[index]
            if "ft" in mark.other or "ft" in bar.other:
                continue
            if not any(bar.voices):
                if not empty_bars:
                    issues.append(BarIssue(staff_index, index, 0, Fraction(0), want))
                continue
            may_be_short = mark.anacrusis or bar.anacrusis or (index == 0 and first_may_be_short)
            for voice_index, voice in enumerate(bar.voices):
                have = voice_length(voice)
                if not voice or have == want or _is_full_bar_rest(voice):
                    continue
                if have < want:
                    if may_be_short and have > 0:
                        continue
                    partners = [p for p in _partners(marks, index) if p < len(haves)]
                    if any(haves[p] < wants[p] and have + haves[p] == want for p in partners):
                        continue
                issues.append(BarIssue(staff_index, index, voice_index, have, want))
    return issues


def bars_close(score: Score, **options: bool) -> bool:
    """True when `check_bars` finds nothing; it takes the same options."""
    return not check_bars(score, **options)
