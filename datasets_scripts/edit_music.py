"""What edits need to know of music on a fretboard: what sounds, when, whether a hand can hold it, and how to write it.

Pitches are MIDI numbers as they sound, the capo included. Lengths and times are fractions of a whole note.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from ..processing.alphatex_grammar import Bar, Beat, Note, Score, Staff, voice_length
from ..processing.alphatex_types import DEFAULT_TUNING
from ..processing.errors import InputError
from .fretboard import grips
from .guitar_neck import MAX_FRET, open_pitches
from .guitar_techniques import repair_links

REACH = 4
#: Where the natural harmonic of a fret sounds, in semitones above the open string.
HARMONICS = {12: 12, 7: 19, 19: 19, 5: 24, 24: 24, 4: 28, 9: 28, 16: 28, 3: 31}
#: Effects that say how one certain place is fingered: another place does not keep them.
FINGERING = ("lf", "rf", "string")
_BENT = frozenset({"be", "sib", "sia", "sou", "sod", "tr"})
_VALUES = [(1, 1), (1, 0), (2, 1), (2, 0), (4, 1), (4, 0), (8, 1), (8, 0), (16, 1), (16, 0), (32, 0), (64, 0)]


class EditError(InputError):
    """An edit that this piece does not allow."""

    def __init__(self, message: str) -> None:
        super().__init__(None, message)


def strings_of(staff: Staff) -> tuple[int, ...]:
    """What the open strings sound without the capo, highest line first."""
    return open_pitches(staff.tuning or DEFAULT_TUNING)


def pitch_of_note(note: Note, strings: tuple[int, ...], capo: int = 0) -> int | None:
    """What a note sounds; `None` for a dead one."""
    if "x" in note.effects or not 1 <= note.string <= len(strings) or note.fret < 0:
        return None
    rise = HARMONICS.get(note.fret, note.fret) if "nh" in note.effects else note.fret
    return strings[note.string - 1] + capo + rise


def pitches(beat: Beat, strings: tuple[int, ...], capo: int = 0) -> list[int]:
    """What a beat sounds, highest first; a tone on two strings counts once."""
    found = {pitch_of_note(note, strings, capo) for note in beat.notes}
    return sorted((pitch for pitch in found if pitch is not None), reverse=True)


def holds(places: Iterable[tuple[int, int]]) -> bool:
    """Whether a hand can hold some `(string, fret)`: one note a string, stopped frets within reach, on the neck."""
    places = list(places)
    stopped = [fret for _, fret in places if fret]
    if len({string for string, _ in places}) < len(places) or any(not 0 <= fret <= MAX_FRET for _, fret in places):
        return False
    return not stopped or max(stopped) - min(stopped) <= REACH + (min(stopped) >= 7)


def beat_playable(beat: Beat) -> bool:
    """Whether one hand (two when it is tapped) can play a beat; dead notes and harmonics need no stopped fret."""
    firm = [n for n in beat.notes if not n.effects.keys() & {"x", "nh"}]
    if "tt" in beat.effects:
        return len({n.string for n in beat.notes}) == len(beat.notes)
    return holds((n.string, n.fret) for n in firm) and len({n.string for n in beat.notes}) == len(beat.notes)


def _starts(voice: list[Beat]) -> list[tuple[Fraction, Fraction, Beat]]:
    """Start, end and beat of each beat that takes time."""
    found, at = [], Fraction(0)
    for beat in voice:
        if not beat.grace:
            found.append((at, at + beat.length, beat))
            at += beat.length
    return found


def unplayable_beats(score: Score) -> int:
    """How many moments of a piece no hand can play, two voices of a bar together."""
    bad = 0
    for staff in score.staves:
        for bar in staff.bars:
            bad += sum(not beat_playable(beat) for voice in bar.voices for beat in voice)
            if len(bar.voices) < 2:
                continue
            spans = [_starts(voice) for voice in bar.voices]
            for start, _, beat in spans[0]:
                others = [b for spots in spans[1:] for s, e, b in spots if s <= start < e]
                notes = [n for b in (beat, *others) for n in b.notes if not n.effects.keys() & {"x", "nh"}]
                bad += beat_playable(beat) and not holds((n.string, n.fret) for n in notes)
    return bad


@dataclass(frozen=True, slots=True)
class Sound:
    """What starts at one moment of a voice.

    Attributes:
        bar: Bar, from 0.
        start: From the start of the bar.
        at: From the start of the piece, read from left to right.
        length: Until the voice goes on; ties are added up.
        pitches: Highest first; empty for dead notes.
        beat: The beat that starts it.
    """

    bar: int
    start: Fraction
    at: Fraction
    length: Fraction
    pitches: tuple[int, ...]
    beat: Beat


def sounds(staff: Staff, voice: int = 0) -> list[Sound]:
    """What starts in a voice, in order; rests, grace notes and beats that only go on are left out."""
    strings, found, begin = strings_of(staff), list[Sound](), Fraction(0)
    open_sound: Sound | None = None
    for index, bar in enumerate(staff.bars):
        beats = bar.voices[voice] if voice < len(bar.voices) else []
        for start, end, beat in _starts(beats):
            tied = bool(beat.notes) and all("t" in note.effects for note in beat.notes)
            if tied and open_sound is not None:
                longer = open_sound.length + end - start
                found[-1] = open_sound = Sound(
                    open_sound.bar, open_sound.start, open_sound.at, longer, open_sound.pitches, open_sound.beat
                )
                continue
            open_sound = None
            if beat.notes:
                struck = tuple(pitches(beat, strings, staff.capo))
                open_sound = Sound(index, start, begin + start, end - start, struck, beat)
                found.append(open_sound)
        begin += max((voice_length(v) for v in bar.voices), default=Fraction(0))
    return found


def top_at(line: Sequence[Sound], bar: int, start: Fraction) -> int | None:
    """Highest pitch that sounds in a bar at a moment: what starts there or still goes on; `None` in silence."""
    before = [s for s in line if s.bar == bar and s.start <= start and s.pitches]
    if before and before[-1].start + before[-1].length > start:
        return before[-1].pitches[0]
    return None


def spell_length(length: Fraction) -> list[tuple[int, int]] | None:
    """Note values `(duration, dots)` that add up to a length, longest first; `None` when none do."""
    found: list[tuple[int, int]] = []
    while length > 0:
        for duration, dots in _VALUES:
            value = Fraction(1, duration) * (2 - Fraction(1, 2**dots))
            if value <= length:
                found.append((duration, dots))
                length -= value
                break
        else:
            return None
    return found


def rests(length: Fraction) -> list[Beat]:
    """Silence of a length.

    Raises:
        EditError: No note values add up to it.
    """
    values = spell_length(length)
    if values is None:
        raise EditError(f"a rest of {length} of a whole note can not be written")
    return [Beat([], duration, dots) for duration, dots in values]


def held(notes: list[Note], length: Fraction) -> list[Beat] | None:
    """Notes of a length, tied where one note value is not enough; `None` when none add up."""
    values = spell_length(length)
    if values is None:
        return None
    tied = [[Note(n.fret, n.string, {"t": ()}) for n in notes if "x" not in n.effects] for _ in values[1:]]
    return [Beat(n, duration, dots) for n, (duration, dots) in zip([notes, *tied], values, strict=True)]


def fold(pitch: int, strings: Sequence[int], capo: int, top: int = MAX_FRET - 2) -> int:
    """The same tone by octaves within what the strings can play."""
    low, high = min(strings) + capo, max(strings) + top
    while pitch < low:
        pitch += 12
    while pitch > high:
        pitch -= 12
    return pitch


def grip_for(
    wanted: Sequence[int], strings: tuple[int, ...], capo: int, hand: int, strict: bool = False
) -> dict[int, tuple[int, int]]:
    """Where to play some pitches near a hand position; of what no hand can hold, inner pitches are left out.

    Args:
        wanted: Pitches, within the range of the strings.
        strings: Open strings without the capo.
        capo: Fret of the capo; frets count from it.
        hand: Fret that the first finger is at.
        strict: Open strings count as away from the hand.

    Returns:
        Pitch to `(string, fret)`.
    """
    chosen = sorted(set(wanted), reverse=True)
    top = MAX_FRET - 2 - capo
    while chosen:
        ways = grips(tuple(p - capo for p in chosen), strings, top, REACH) if len(chosen) <= len(strings) else ()
        if ways:

            def price(way: tuple) -> float:
                grip, _, cost = way
                away = sum((0 if fret == 0 else max(hand - fret, fret - hand - 3, 0)) for _, fret in grip)
                return cost * (0.05 if strict else 1) + away + 3 * strict * sum(fret == 0 for _, fret in grip)

            grip = min(ways, key=price)[0]
            return {strings[string - 1] + capo + fret: (string, fret) for string, fret in grip}
        chosen.pop(len(chosen) // 2 if len(chosen) > 2 else -1)
    return {}


def _placed(note: Note, place: tuple[int, int]) -> Note:
    """A note at another place, with those of its effects that still make sense there."""
    effects = {name: arguments for name, arguments in note.effects.items() if name not in ("nh", "t")}
    if place != (note.string, note.fret):
        effects = {name: arguments for name, arguments in effects.items() if name not in FINGERING}
    if place[1] == 0:
        effects = {name: arguments for name, arguments in effects.items() if name not in _BENT}
    if "tr" in effects:
        effects["tr"] = (int(effects["tr"][0]) + place[1] - note.fret,)
    return Note(place[1], place[0], effects)


def _placed_beat(beat: Beat, targets: dict[int, int], staff: Staff, hand: int, stay: bool) -> list[Note]:
    """The notes of a beat, given what each (by its place in the list) shall sound."""
    strings, capo = strings_of(staff), staff.capo
    dead = [Note(0, n.string, dict(n.effects)) for n in beat.notes if "x" in n.effects]
    if stay:
        moved = {k: beat.notes[k].string for k in targets}
        places = {k: (string, targets[k] - capo - strings[string - 1]) for k, string in moved.items()}
        if holds(places.values()) and all(fret <= MAX_FRET - 2 for _, fret in places.values()):
            return [_placed(beat.notes[k], place) for k, place in places.items()] + dead
    found = grip_for(list(targets.values()), strings, capo, hand, strict=not stay)
    notes, used = [], set()
    for k, pitch in sorted(targets.items(), key=lambda item: -item[1]):
        if pitch in found and pitch not in used:
            used.add(pitch)
            notes.append(_placed(beat.notes[k], found[pitch]))
    taken = {note.string for note in notes}
    return notes + [note for note in dead if note.string not in taken]


def refinger(
    before: Staff, after: Staff, sound: Callable[[int], int], hand: int | None = None, stay: bool = True
) -> int:
    """Writes what a staff sounds for another tuning, capo, pitch or hand position.

    Args:
        before: Staff as it was.
        after: Copy of it with its new tuning and capo; its notes are changed in place.
        sound: What shall sound where a pitch sounded.
        hand: Fret of the first finger; `None`: where it was.
        stay: Stay on the string where that is possible.

    Returns:
        How many notes had to move by octaves.
    """
    folded = 0
    voices = max((len(bar.voices) for bar in after.bars), default=0)
    for voice in range(voices):
        line = [beat for bar in after.bars for beat in (bar.voices[voice] if voice < len(bar.voices) else [])]
        last: dict[int, Note] = {}  # string that a note was on -> the note as it is now
        near = hand or 1
        for beat in line:
            if hand is None and (stopped := [n.fret for n in beat.notes if n.fret]):
                near = min(stopped)
            folded += _move_beat(beat, last, before, after, sound, near, stay)
        repair_links(line)
    return folded


def _move_beat(
    beat: Beat, last: dict[int, Note], before: Staff, after: Staff, sound: Callable[[int], int], hand: int, stay: bool
) -> int:
    """One beat of `refinger`; keeps `last` up to date and returns how many notes moved by octaves."""
    strings, was, folded = strings_of(after), list(beat.notes), 0
    targets: dict[int, int] = {}
    now: dict[int, Note] = {}
    for k, note in enumerate(was):
        if "t" in note.effects and note.string in last:
            goal = last[note.string]
            now[note.string] = Note(goal.fret, goal.string, {"t": ()})
        elif (pitch := pitch_of_note(note, strings_of(before), before.capo)) is not None:
            wanted = sound(pitch)
            targets[k] = fold(wanted, strings, after.capo)
            folded += targets[k] != wanted
    taken = {note.string for note in now.values()}
    placed = [n for n in _placed_beat(beat, targets, after, hand, stay) if n.string not in taken]
    by_pitch = {pitch_of_note(note, strings, after.capo): note for note in placed}
    beat.notes = sorted([*placed, *now.values()], key=lambda note: note.string)
    last.clear()  # a tie goes on only from the beat before it
    last |= now | {was[k].string: by_pitch[pitch] for k, pitch in targets.items() if pitch in by_pitch}
    if was and not beat.notes:
        beat.effects = {name: value for name, value in beat.effects.items() if name in ("txt", "ch", "lyrics")}
    beat.effects.pop("barre", None)
    return folded


def harmony(line: Sequence[Sound], bar: int) -> tuple[int, bool] | None:
    """Root (pitch class) and whether it is minor of the triad that a bar fits best; `None` for a silent bar."""
    weights: dict[int, float] = defaultdict(float)
    first: int | None = None
    for sound in line:
        if sound.bar != bar or not sound.pitches:
            continue
        if first is None:
            first = sound.pitches[-1] % 12
        for pitch in sound.pitches:
            weights[pitch % 12] += float(min(sound.length, Fraction(1)))
    if first is None:
        return None
    best: tuple[float, int, bool] | None = None
    for root in range(12):
        for minor in (False, True):
            third = 3 if minor else 4
            score = 1.2 * weights[root] + weights[(root + third) % 12] + 0.9 * weights[(root + 7) % 12]
            score += 0.4 * (root == first)
            if best is None or score > best[0] + 1e-9:
                best = (score, root, minor)
    assert best is not None
    return best[1], best[2]


def new_bar(bar: Bar, voices: list[list[Beat]]) -> Bar:
    """A bar with the marks of another one and these voices."""
    return replace(bar, voices=voices, other=dict(bar.other))


def _copy_beat(beat: Beat) -> Beat:
    notes = [Note(n.fret, n.string, dict(n.effects), n.pitch) for n in beat.notes]
    return replace(beat, notes=notes, effects=dict(beat.effects))


def copy_staff(staff: Staff) -> Staff:
    """A copy that shares nothing that edits change (much faster than `copy.deepcopy`)."""
    bars = [new_bar(bar, [[_copy_beat(beat) for beat in voice] for voice in bar.voices]) for bar in staff.bars]
    return replace(staff, bars=bars, other=dict(staff.other))


def copy_score(score: Score) -> Score:
    """A copy that shares nothing that edits change."""
    tracks = [replace(track, staves=[copy_staff(staff) for staff in track.staves]) for track in score.tracks]
    return replace(score, tracks=tracks)


__all__ = [
    "EditError",
    "Sound",
    "beat_playable",
    "copy_score",
    "copy_staff",
    "fold",
    "grip_for",
    "harmony",
    "held",
    "holds",
    "new_bar",
    "pitch_of_note",
    "pitches",
    "refinger",
    "rests",
    "sounds",
    "spell_length",
    "strings_of",
    "top_at",
    "unplayable_beats",
]
