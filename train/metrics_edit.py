"""Judges of edits: programs that look at a text before and after, and say whether what was asked for is so.

    verdict = judge_edit(before, after, EditStep("transpose", "+2"))
    verdict.right        # parses, closes, playable, the asked property holds, the melody is kept where it should be

A judge measures the result; it does not carry the edit out again and compare. What is asked of each edit is written at
its function. `judge_chain` judges an edit of several steps by the text after each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, permutations

from ..datasets_scripts.edit_music import Sound, harmony, sounds, strings_of, top_at, unplayable_beats
from ..datasets_scripts.edit_pitch import LEAST_IN_POSITION, in_position, key_of, signature
from ..datasets_scripts.guitar_neck import TUNINGS, open_pitches
from ..processing.alphatex_grammar import AlphaTexError, Beat, Score, bars_close, metres, read_alphatex
from ..processing.edit_language import EditStep

KEPT = 0.9  # share of the melody's tones that a style has to keep
EIGHTH = Fraction(1, 8)
_EASY = frozenset({"t", "x", "pm", "lr", "nh"})


@dataclass(frozen=True)
class EditVerdict:
    """What a judge found.

    Attributes:
        parses: The result reads.
        closes: Its bars are full.
        playable: It has no more moments beyond one hand than there were before.
        holds: The asked property is there.
        melody: What has to stay of the notes stayed.
        why: The first thing that is wrong, in words; empty when nothing is.
    """

    parses: bool = False
    closes: bool = False
    playable: bool = False
    holds: bool = False
    melody: bool = False
    why: str = ""

    @property
    def valid(self) -> bool:
        """Whether it is a good text, whatever was asked for."""
        return self.parses and self.closes and self.playable

    @property
    def right(self) -> bool:
        """Whether all is as it should be."""
        return self.valid and self.holds and self.melody


def _lines(score: Score) -> list[list[Sound]]:
    """What sounds in each voice of each staff; dead notes are left out."""
    found = []
    for staff in score.staves:
        for voice in range(max((len(bar.voices) for bar in staff.bars), default=0)):
            found.append([sound for sound in sounds(staff, voice) if sound.pitches])
    return found


def _beats(score: Score) -> list[Beat]:
    return [beat for *_, beat in score.beats()]


def _share(outcomes: Sequence[bool]) -> float:
    return sum(outcomes) / len(outcomes) if outcomes else 0.0


def _moved(before: Score, after: Score, semitones: int, exact: float = 0.7) -> tuple[bool, bool]:
    """(most highest tones moved by just so much, every tone's pitch class did) at the same times."""
    old, new = _lines(before), _lines(after)
    pairs = [pair for a, b in zip(old, new, strict=False) for pair in zip(a, b, strict=False)]
    same_times = [[(s.bar, s.start) for s in line] for line in old] == [
        [(s.bar, s.start) for s in line] for line in new
    ]
    steps = [b.pitches[0] - a.pitches[0] == semitones for a, b in pairs]
    tops = [(a.pitches[0] + semitones) % 12 in {p % 12 for p in b.pitches} for a, b in pairs]
    inside = [{p % 12 for p in b.pitches} <= {(p + semitones) % 12 for p in a.pitches} for a, b in pairs]
    return _share(steps) >= exact, same_times and all(tops) and all(inside)


def _transpose(before: Score, after: Score, argument: str) -> tuple[bool, bool]:
    return _moved(before, after, int(argument))


def _key(before: Score, after: Score, argument: str) -> tuple[bool, bool]:
    """All tones move by the way from the old signature to the asked one, up or down."""
    way = (key_of(argument) - signature(before)) % 12
    tries = [_moved(before, after, way), _moved(before, after, way - 12)]
    return any(t[0] for t in tries) and way != 0, tries[0][1]


def _capo(before: Score, after: Score, argument: str) -> tuple[bool, bool]:
    """The capo is there and no fret moved."""
    there = all(s.capo == int(argument) for s in after.staves) and any(s.capo != int(argument) for s in before.staves)
    places = [[[(n.string, n.fret) for n in beat.notes] for beat in _beats(score)] for score in (before, after)]
    return there, places[0] == places[1]


def _recapo(before: Score, after: Score, argument: str) -> tuple[bool, bool]:
    """The capo is there and what sounds is the same."""
    there = all(s.capo == int(argument) for s in after.staves) and any(s.capo != int(argument) for s in before.staves)
    return there, all(_moved(before, after, 0))


def _tuning(before: Score, after: Score, argument: str) -> tuple[bool, bool]:
    """The strings are tuned so and what sounds is the same."""
    name = argument.replace("-", " ")
    goals = [open_pitches(TUNINGS.get(staff.strings, {}).get(name, ())) for staff in after.staves]
    there = [strings_of(staff) for staff in after.staves] == goals
    return there and [strings_of(staff) for staff in before.staves] != goals, all(_moved(before, after, 0))


def _position(before: Score, after: Score, argument: str) -> tuple[bool, bool]:
    """More notes than before, and most, lie near the fret; what sounds is the same."""
    pairs = [
        (in_position(a, int(argument)), in_position(b, int(argument)))
        for a, b in zip(before.staves, after.staves, strict=True)
    ]
    there = all(new >= LEAST_IN_POSITION for _, new in pairs) and any(new > old for old, new in pairs)
    return there, all(_moved(before, after, 0, exact=0.9))


def _is_easy(beat: Beat) -> bool:
    return all(note.effects.keys() <= _EASY for note in beat.notes)


def _simplify(before: Score, after: Score, _: str) -> tuple[bool, bool]:
    """No ornament or technique, at most 3 notes, nothing shorter than an eighth; what is left was there at its time."""
    easy = all(
        not (b.grace or b.tuplet) and b.length >= EIGHTH and len(b.notes) <= 3 and _is_easy(b) for b in _beats(after)
    )
    kept = [
        any(o.bar == s.bar and s.start <= o.start < s.start + EIGHTH and o.pitches[0] == s.pitches[0] for o in old)
        for old, new in zip(_lines(before), _lines(after), strict=False)
        for s in new
    ]
    return easy, _share(kept) == 1.0


def _said(score: Score, scale: Fraction = Fraction(1)) -> list[list[tuple[tuple[int, ...], Fraction]]]:
    return [[(sound.pitches, sound.length * scale) for sound in line] for line in _lines(score)]


def _time(before: Score, after: Score, argument: str) -> tuple[bool, bool]:
    """The same notes in the same order, each half as long, or twice; no metre changes."""
    scale = Fraction(1, 2) if argument == "double" else Fraction(2)
    return _said(after) == _said(before, scale) and set(metres(after)) == set(metres(before)), True


def _metre(before: Score, after: Score, argument: str) -> tuple[bool, bool]:
    """Every bar has the metre; the same notes in the same order, each as long as it was."""
    wanted = tuple(map(int, argument.split("/")))
    there = all(metre == wanted for metre in metres(after)) and any(metre != wanted for metre in metres(before))
    return there, _said(before) == _said(after)


def _melody(before: Score, after: Score, _: str) -> tuple[bool, bool]:
    """One note at a time in one voice: the highest of what was there."""
    single = all(len(bar.voices) == 1 for staff in after.staves for bar in staff.bars)
    single = single and all(len(beat.notes) <= 1 for beat in _beats(after))
    tops = [
        [[(s.bar, s.start, s.pitches[0]) for s in sounds(st) if s.pitches] for st in score.staves]
        for score in (before, after)
    ]
    return single, tops[0] == tops[1]


def _bass(before: Score, after: Score, _: str) -> tuple[bool, bool]:
    """A second voice, lower than the first and on root or fifth, in at least half of the bars that sound."""
    staff, old = after.staves[0], _lines(before)
    if len(old) != 1 or max(len(bar.voices) for bar in staff.bars) < 2:
        return False, True
    line, low = sounds(staff), sounds(staff, 1)
    loud = {s.bar for s in line if s.pitches}
    right = set()
    for sound in low:
        chord = harmony(line, sound.bar)
        together = [s for s in line if s.bar == sound.bar and s.start < sound.start + sound.length]
        together = [s for s in together if s.start + s.length > sound.start and s.pitches]
        if not chord or sound.pitches[0] % 12 not in {chord[0], (chord[0] + 7) % 12}:
            continue
        if all(sound.pitches[0] < s.pitches[-1] for s in together):
            right.add(sound.bar)
    said = [(s.pitches, s.length) for s in line if s.pitches]
    return len(right) >= 0.5 * len(loud) and bool(loud), said == _said(before)[0]


# --- styles -----------------------------------------------------------------------------------------------------------


def _struck(score: Score) -> list[Beat]:
    return [beat for beat in _beats(score) if beat.notes and not all("t" in note.effects for note in beat.notes)]


def _is_power(sound: Sound) -> bool:
    low = sound.pitches[-1]
    return len(sound.pitches) > 1 and {(p - low) % 12 for p in sound.pitches} in ({0, 7}, {0})


def _muted(beats: Sequence[Beat]) -> float:
    return _share([any("pm" in note.effects for note in beat.notes) for beat in beats])


def _has_rock(score: Score) -> bool:
    return _share([_is_power(s) for s in _lines(score)[0]]) >= 0.9 and _muted(_struck(score)) >= 0.15


def _has_punk(score: Score) -> bool:
    straight = [b.length == EIGHTH and "sd" in b.effects for b in _struck(score)]
    fast = float(score.staves[0].bars[0].tempo or 0) >= 160
    return _share([_is_power(s) for s in _lines(score)[0]]) >= 0.9 and _share(straight) >= 0.9 and fast


def _has_metal(score: Score) -> bool:
    gallops = 0
    for bar in score.staves[0].bars:
        values = [beat.duration for beat in bar.voices[0]]
        gallops += sum(values[i : i + 3] == [8, 16, 16] for i in range(len(values)))
    return _muted(_struck(score)) >= 0.6 and 3 * gallops >= 0.6 * max(len(_struck(score)), 1)


def _has_blues(score: Score) -> bool:
    pairs = bends = count = 0
    for bar in score.staves[0].bars:
        voice = bar.voices[0]
        pairs += 2 * sum(
            a.tuplet == b.tuplet == (3, 2) and (a.duration, b.duration) == (4, 8) for a, b in pairwise(voice)
        )
        count += len(voice)
        bends += sum("be" in note.effects for beat in voice for note in beat.notes)
    return bends > 0 and pairs >= 0.4 * max(count, 1)


def _has_folk(score: Score) -> bool:
    struck = [b for bar in score.staves[0].bars for b in bar.voices[0] if b.notes]
    small = _share([len(b.notes) <= 2 and b.length == EIGHTH for b in struck])
    rings = _share([all("lr" in n.effects for n in b.notes) for b in struck])
    moves = [{n.string for n in a.notes} != {n.string for n in b.notes} for a, b in pairwise(struck)]
    return min(small, rings) >= 0.95 and _share(moves) >= 0.5


def _has_bossa(score: Score) -> bool:
    on = off = bars = 0
    whole = [s for s in sounds(score.staves[0]) if s.pitches]
    for index in range(len(score.staves[0].bars)):
        line = [s for s in whole if s.bar == index]
        if not line:
            continue
        bars += 1
        low = min(p for s in line for p in s.pitches)
        on += bool(line[0].start == 0 and len(line[0].pitches) <= 2 and line[0].pitches[-1] < low + 8)
        off += any(len(s.pitches) >= 3 and s.start % Fraction(1, 4) == EIGHTH for s in line)
    return bars > 0 and on >= 0.9 * bars and off >= 0.9 * bars


def _has_reggae(score: Score) -> bool:
    line = _lines(score)[0]
    short = [all("st" in note.effects for note in s.beat.notes) for s in line]
    return (
        _share([s.start % Fraction(1, 4) == EIGHTH and len(s.pitches) >= 2 for s in line]) >= 0.95
        and _share(short) >= 0.95
    )


_STYLES: dict[str, tuple[Callable[[Score], bool], str]] = {
    "rock": (_has_rock, "sounds"), "punk": (_has_punk, "sounds"), "metal": (_has_metal, "sounds"),
    "blues": (_has_blues, "beats"), "folk": (_has_folk, "starts"), "bossa": (_has_bossa, "sounds"),
    "reggae": (_has_reggae, "sounds"),
}  # fmt: skip


def _style(before: Score, after: Score, argument: str) -> tuple[bool, bool]:
    """The marks of the style are there; where it strikes while the melody sounds (or starts), that tone is struck."""
    has, when = _STYLES[argument]
    old, new = sounds(before.staves[0]), [s for s in sounds(after.staves[0]) if s.pitches]
    grid = Fraction(1, 4) if when == "beats" else EIGHTH
    starts = {(s.bar, s.start): s.pitches[0] for s in old if s.pitches}
    kept = []
    for sound in new:
        if sound.start % grid:
            continue
        tone = top_at(old, sound.bar, sound.start) if when == "sounds" else starts.get((sound.bar, sound.start))
        if tone is not None:
            kept.append(tone % 12 in {pitch % 12 for pitch in sound.pitches})
    return has(after), not kept or _share(kept) >= KEPT


_JUDGES: dict[str, Callable[[Score, Score, str], tuple[bool, bool]]] = {
    "transpose": _transpose, "key": _key, "capo": _capo, "recapo": _recapo, "tuning": _tuning, "position": _position,
    "style": _style, "simplify": _simplify, "time": _time, "bass": _bass, "melody": _melody, "metre": _metre,
}  # fmt: skip


def judge_edit(before: str, after: str, step: EditStep) -> EditVerdict:
    """Judges one step of an edit.

    Args:
        before: AlphaTex that was given.
        after: What came of it.
        step: What was asked for.
    """
    old = read_alphatex(before)
    try:
        new = read_alphatex(after)
    except AlphaTexError as error:
        return EditVerdict(why=f"does not read: {error}")
    closes = bars_close(new)
    playable = bool(new.staves) and unplayable_beats(new) <= unplayable_beats(old)
    if not new.staves or len(new.staves) != len(old.staves) or not new.staves[0].bars:
        return EditVerdict(True, closes, playable, why="staves are missing")
    holds, melody = _JUDGES[step.operation](old, new, step.argument)
    found = {"bars are open": closes, "not playable": playable, f"no {step}": holds, "the melody is not kept": melody}
    return EditVerdict(
        True, closes, playable, holds, melody, next((why for why, good in found.items() if not good), "")
    )


def judge_chain(texts: Sequence[str], program: Sequence[EditStep]) -> EditVerdict:
    """Judges an edit of several steps; their order may differ from the one that was asked for.

    Args:
        texts: The text that was given, and the one after each step that was carried out.
        program: What was asked for.

    Returns:
        The verdict of the first wrong step, or of the last when all are right.
    """
    if len(texts) != len(program) + 1:
        return EditVerdict(True, True, True, why=f"{len(texts) - 1} steps were carried out, {len(program)} asked for")
    verdict = EditVerdict(why="nothing was asked for")
    for order in permutations(program):
        for (before, after), step in zip(pairwise(texts), order, strict=True):
            verdict = judge_edit(before, after, step)
            if not verdict.right:
                break
        else:
            return verdict
    return verdict


__all__ = ["EditVerdict", "judge_chain", "judge_edit"]
