"""Edits of time: twice as fast, half as fast, other bar lines."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from ..processing.alphatex_grammar import Bar, Beat, Note, Score, bar_capacity, metres, voice_length
from .edit_music import EditError, held, rests


def _scaled(beat: Beat, double: bool) -> None:
    """Halves (double time) or doubles a beat's note value, in place."""
    if beat.grace:
        return
    order = [-4, -2, 1, 2, 4, 8, 16, 32, 64, 128, 256]
    place = order.index(beat.duration) + (1 if double else -1)
    if not 0 <= place < len(order):
        raise EditError(f"a note value of {beat.duration} can not be made {'shorter' if double else 'longer'}")
    beat.duration = order[place]


def _full_rest(voice: list[Beat]) -> bool:
    return len(voice) == 1 and not voice[0].notes and voice[0].duration == 1 and not voice[0].dots


def _going_on(notes: list[Note]) -> list[Note]:
    """What goes on when notes are tied; a dead note does not."""
    return [Note(n.fret, n.string, {"t": ()}) for n in notes if "x" not in n.effects]


def _part(notes: list[Note], length: Fraction) -> list[Beat]:
    """Notes for a length, tied where one note value is not enough."""
    made = held(notes, length) if notes else rests(length)
    if made is None:
        raise EditError("a tuplet would have to be cut by a bar line")
    return made


def split_at(voice: list[Beat], at: Fraction) -> tuple[list[Beat], list[Beat]]:
    """Cuts a voice at a moment; a beat across it is written as two that are tied.

    Raises:
        EditError: A tuplet lies across it.
    """
    left: list[Beat] = []
    right: list[Beat] = []
    now = Fraction(0)
    for beat in voice:
        end = now + beat.length
        if now >= at:
            right.append(beat)
        elif end <= at:
            left.append(beat)
        else:
            for note in beat.notes:
                for name in ("h", "sl", "ss", "sou", "sod"):  # these belong to the end of a note
                    note.effects.pop(name, None)
            first = _part(beat.notes, at - now)
            first[0].effects = dict(beat.effects)
            left += first
            right += _part(_going_on(beat.notes), end - at)
        now = end
    while left and left[-1].grace and right:  # an ornament belongs to the note it leads to
        right.insert(0, left.pop())
    return left, right


def _torn_ties(score: Score) -> int:
    """How many ties have no note before them that they could go on from."""
    torn = 0
    for staff in score.staves:
        for voice in range(max(len(bar.voices) for bar in staff.bars)):
            line = [beat for bar in staff.bars if voice < len(bar.voices) for beat in bar.voices[voice]]
            for before, beat in pairwise([Beat(), *line]):
                places = {(note.string, note.fret) for note in before.notes}
                torn += any("t" in note.effects and (note.string, note.fret) not in places for note in beat.notes)
    return torn


def change_time(score: Score, operation: str, argument: str) -> None:
    """Carries out `time` or `metre`, in place.

    Raises:
        EditError: See `double_time`, `half_time` and `metre`; or a tie would be torn by rests that fill a bar.
    """
    torn = _torn_ties(score)
    if operation == "metre":
        metre(score, argument)
    else:
        (double_time if argument == "double" else half_time)(score)
    if _torn_ties(score) > torn:
        raise EditError("a tie would be torn by rests that fill a bar")


def half_time(score: Score) -> None:
    """All notes twice as long: each bar becomes two of the same metre, what lies across the middle is tied.

    Raises:
        EditError: A note gets too long, or a tuplet lies across the middle of a bar.
    """
    capacities = [bar_capacity(metre) for metre in metres(score)]
    for staff in score.staves:
        bars: list[Bar] = []
        for bar, capacity in zip(staff.bars, capacities, strict=True):
            bars += _halved(bar, capacity)
        staff.bars = bars


def _halved(bar: Bar, capacity: Fraction) -> list[Bar]:
    """One or, usually, two bars that hold one bar at half speed."""
    loud = [voice for voice in bar.voices if voice and not _full_rest(voice)]
    lengths = {voice_length(voice) for voice in loud} or {capacity}
    cut = capacity
    if lengths != {capacity}:
        if not bar.anacrusis or len(lengths) > 1:
            raise EditError("a bar in the middle is not full, so it can not be cut in two")
        cut = 2 * lengths.pop() - capacity
    second = Bar(voices=[])
    for index, voice in enumerate(bar.voices):
        if not voice or _full_rest(voice):
            second.voices.append([Beat([], 1)] if voice else [])
            continue
        for beat in voice:
            _scaled(beat, double=False)
        if cut > 0:
            bar.voices[index], rest = split_at(voice, cut)
            second.voices.append(rest)
    if cut <= 0:  # a pick-up that still is one
        return [bar]
    second.repeat_close, bar.repeat_close = bar.repeat_close, 0
    second.endings = bar.endings
    for name in ("jump", "barlineright"):
        if name in bar.other:
            second.other[name] = bar.other.pop(name)
    return [bar, second]


def _marked(bar: Bar) -> bool:
    """Something is written at the start of this bar, so the bar line before it has to stay."""
    marks = bar.repeat_open or bar.endings or bar.section is not None or bar.key_signature or bar.tempo is not None
    return bool(marks or bar.time_signature or bar.other)


def double_time(score: Score) -> None:
    """All notes twice as fast: two bars become one, a bar that is left over is filled with rests.

    Raises:
        EditError: A note gets too short, or a bar in the middle is not full.
    """
    every = metres(score)
    marks = score.staves[0].bars
    groups: list[list[int]] = []
    for index in range(len(marks)):
        alone = bool(groups) and len(groups[-1]) == 1 and every[index] == every[groups[-1][0]]
        before = marks[index - 1]
        if alone and not (before.anacrusis or before.repeat_close or any(_marked(s.bars[index]) for s in score.staves)):
            groups[-1].append(index)
        else:
            groups.append([index])
    for staff in score.staves:
        staff.bars = [_joined([staff.bars[i] for i in group], bar_capacity(every[group[0]])) for group in groups]


def _joined(bars: list[Bar], capacity: Fraction) -> Bar:
    """One bar of one or two, at double speed."""
    first = bars[0]
    voices: list[list[Beat]] = []
    pick_up = first.anacrusis
    for index in range(max(len(bar.voices) for bar in bars)):
        line: list[Beat] = []
        parts = [bar.voices[index] if index < len(bar.voices) else [] for bar in bars]
        if all(not part for part in parts):
            voices.append([])
            continue
        for part in parts:
            if not part or _full_rest(part):
                line += rests(capacity / 2)
                continue
            for beat in part:
                _scaled(beat, double=True)
            line += part
            missing = capacity / 2 - voice_length(part)
            if missing > 0 and not pick_up:
                if part is not parts[-1]:
                    raise EditError("a bar in the middle is not full")
                line += _tail(missing)
        missing = capacity - voice_length(line)
        if missing > 0 and not pick_up:
            line += _tail(missing)
        voices.append(line)
    first.voices = voices
    last = bars[-1]
    first.repeat_close = last.repeat_close
    return first


def _tail(missing: Fraction) -> list[Beat]:
    """Rests at the end of a bar, the shortest first."""
    return rests(missing)[::-1]


def metre(score: Score, argument: str) -> None:
    """The same notes under other bar lines; what lies across one is tied, the end of a section is filled with rests.

    Raises:
        EditError: The metre is this one already, or a tuplet would have to be cut.
    """
    count, unit = map(int, argument.split("/"))
    wanted = (count, unit)
    old = metres(score)
    if all(m == wanted for m in old):
        raise EditError(f"the metre is {argument} already")
    if any("ft" in bar.other for staff in score.staves for bar in staff.bars):
        raise EditError("a piece in free time has no metre to change")
    marks = score.staves[0].bars
    starts = [0]
    for index in range(1, len(marks)):
        before = marks[index - 1]
        kept = any(_marked(_without_metre(staff.bars[index])) for staff in score.staves)
        if kept or before.repeat_close or before.endings or before.anacrusis or "jump" in before.other:
            starts.append(index)
    ends = [*starts[1:], len(marks)]
    for staff in score.staves:
        bars: list[Bar] = []
        for start, end in zip(starts, ends, strict=True):
            bars += _rebarred(staff.bars[start:end], old[start:end], bar_capacity(wanted))
        for bar in bars:
            bar.time_signature = None
        staff.bars = bars
    score.staves[0].bars[0].time_signature = wanted


def _without_metre(bar: Bar) -> Bar:
    other = {name: value for name, value in bar.other.items() if name != "beaming"}
    return Bar([], None, bar.key_signature, bar.tempo, bar.repeat_open, 0, bar.endings, bar.section, False, other)


def _rebarred(bars: list[Bar], old: list[tuple[int, int]], capacity: Fraction) -> list[Bar]:
    """The bars of one section under a new metre."""
    first, last = bars[0], bars[-1]
    pick_up = first.anacrusis and max((voice_length(v) for v in first.voices), default=Fraction(0)) < capacity
    width = max(len(bar.voices) for bar in bars)
    lines: list[list[Beat]] = []
    for index in range(width):
        line: list[Beat] = []
        for bar, metre_of_bar in zip(bars, old, strict=True):
            voice = bar.voices[index] if index < len(bar.voices) else []
            length = max((voice_length(v) for v in bar.voices), default=Fraction(0)) if bar.anacrusis else None
            full = length if length else bar_capacity(metre_of_bar)
            if not voice or _full_rest(voice):
                line += rests(full)
            else:
                line += voice + (rests(full - voice_length(voice)) if voice_length(voice) < full else [])
        lines.append(line)
    total = max(voice_length(line) for line in lines)
    made: list[Bar] = []
    if pick_up:
        first.voices = lines
        return [first]
    while total > 0:
        bar = Bar(voices=[])
        for index, line in enumerate(lines):
            left, lines[index] = split_at(line, capacity)
            missing = capacity - voice_length(left)
            bar.voices.append(left + (_tail(missing) if missing else []))
        made.append(bar)
        total -= capacity
    for name in ("key_signature", "tempo", "repeat_open", "section"):
        setattr(made[0], name, getattr(first, name))
    made[0].other = {k: v for k, v in first.other.items() if k != "beaming"}
    for bar in made:
        bar.endings = first.endings
    made[-1].repeat_close = last.repeat_close
    if last is not first and "jump" in last.other:
        made[-1].other["jump"] = last.other["jump"]
    return made


__all__ = ["change_time", "double_time", "half_time", "metre", "split_at"]
