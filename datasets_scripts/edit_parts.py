"""Edits of what is there: fewer notes, the highest line alone, a bass under it."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise
from typing import Any

from ..processing.alphatex_grammar import Bar, Beat, Note, Score, Staff, bar_capacity, metres, voice_length
from .edit_music import (
    EditError,
    harmony,
    held,
    holds,
    pitch_of_note,
    rests,
    sounds,
    spell_length,
    strings_of,
)
from .guitar_techniques import repair_links

MAX_SIMPLE_NOTES = 3
EIGHTH = Fraction(1, 8)
#: Techniques that an easy version keeps.
EASY = frozenset({"t", "x", "pm", "lr", "nh"})  # a natural harmonic is easy, and without its mark another tone
_STRUM = frozenset({"bd", "bu", "ad", "au", "rasg"})


def one_staff(score: Score, what: str) -> Staff:
    """The only staff of a piece.

    Raises:
        EditError: There are more.
    """
    if len(score.staves) != 1:
        raise EditError(f"{what} works on one staff, this piece has {len(score.staves)}")
    return score.staves[0]


def _silence_lost_ties(line: list[Beat]) -> None:
    """A tie whose start is gone becomes a rest: struck anew it would be a note that nobody wrote."""
    for before, beat in pairwise([Beat(), *line]):
        held_places = {(n.string, n.fret) for n in before.notes if "x" not in n.effects}
        kept = [n for n in beat.notes if "t" not in n.effects or (n.string, n.fret) in held_places]
        if beat.notes and not kept and beat is not line[0]:  # an excerpt may begin with a tie
            beat.notes = []


def melody(score: Score, _: str) -> None:
    """Keeps the highest note of each beat of the first voice.

    Raises:
        EditError: It is a single line already.
    """
    changed = False
    for staff in score.staves:
        strings = strings_of(staff)
        for bar in staff.bars:
            changed |= any(len(voice) for voice in bar.voices[1:])
            bar.voices = bar.voices[:1]
            for beat in bar.voices[0]:
                sounding = [n for n in beat.notes if pitch_of_note(n, strings) is not None]
                top = max(sounding, key=lambda n: pitch_of_note(n, strings) or 0, default=None)
                kept = [top] if top else beat.notes[:1]
                changed |= len(kept) < len(beat.notes)
                beat.notes = kept
                for name in _STRUM & beat.effects.keys():
                    del beat.effects[name]
        line = [beat for bar in staff.bars for beat in bar.voices[0]]
        _silence_lost_ties(line)
        repair_links(line)
    if not changed:
        raise EditError("it is a single line already")


def _chord_notes(beat: Beat, strings: tuple[int, ...]) -> list[Note]:
    """At most three notes that a hand holds easily: the highest, the lowest, one between."""
    notes = [n for n in beat.notes if pitch_of_note(n, strings) is not None]
    if not notes:
        return [Note(0, beat.notes[0].string, {"x": ()})]
    notes.sort(key=lambda n: -(pitch_of_note(n, strings) or 0))
    chosen = notes if len(notes) <= MAX_SIMPLE_NOTES else [notes[0], notes[1], notes[-1]]
    chosen = [Note(n.fret, n.string, {k: v for k, v in n.effects.items() if k in EASY}) for n in chosen]
    while len(chosen) > 1 and not holds((n.string, n.fret) for n in chosen if "nh" not in n.effects):
        chosen.pop(len(chosen) // 2 if len(chosen) > 2 else -1)
    return chosen


def _easy_voice(voice: list[Beat], strings: tuple[int, ...]) -> list[Beat]:
    """A voice on a grid of eighths: what starts in an eighth is heard once, at its start."""
    total = voice_length(voice)
    slots: dict[Fraction, Beat | None] = {}
    now = Fraction(0)
    for beat in voice:
        if beat.grace:
            continue
        end = now + beat.length
        slot = now // EIGHTH * EIGHTH
        tied = bool(beat.notes) and all("t" in n.effects for n in beat.notes)
        if not tied or not slots:
            held_before = slots.get(slot)
            if slot not in slots or (held_before is None and beat.notes):
                slots[slot] = beat if beat.notes else None
        now = end
    starts = sorted(slots)
    made: list[Beat] = []
    for place, start in enumerate(starts):
        end = starts[place + 1] if place + 1 < len(starts) else total
        found = slots[start]
        if found is None:
            made += rests(end - start)
            continue
        new = held(_chord_notes(found, strings), end - start)
        if new is None:
            raise EditError("its bars are no whole number of eighths")
        new[0].effects = {k: v for k, v in found.effects.items() if k in ("ch", "txt", "lyrics")}
        made += new
    return made


def _writing(staff: Staff) -> list[Any]:
    return [
        (
            beat.duration,
            beat.dots,
            beat.tuplet,
            beat.effects.keys(),
            [(n.string, n.fret, n.effects) for n in beat.notes],
        )
        for bar in staff.bars
        for voice in bar.voices
        for beat in voice
    ]


def simplify(score: Score, _: str) -> None:
    """Takes out ornaments and techniques, notes of big chords, and whatever is shorter than an eighth.

    Raises:
        EditError: It is as simple already, or its bars are no whole number of eighths.
    """
    changed = False
    for staff in score.staves:
        before = _writing(staff)
        strings = strings_of(staff)
        for bar in staff.bars:
            for index, voice in enumerate(bar.voices):
                lone_rest = len(voice) == 1 and not voice[0].notes
                if voice and not lone_rest:
                    if (voice_length(voice) / EIGHTH).denominator != 1:
                        raise EditError("its bars are no whole number of eighths")
                    bar.voices[index] = _easy_voice(voice, strings)
        for index in range(max(len(bar.voices) for bar in staff.bars)):
            line = [beat for bar in staff.bars for beat in (bar.voices[index : index + 1] or [[]])[0]]
            _silence_lost_ties(line)
            repair_links(line)
        changed |= _writing(staff) != before
    if not changed:
        raise EditError("it is as simple as this gets already")


def _moments(staff: Staff, bar: Bar, start: Fraction, end: Fraction) -> list[Beat]:
    found, now = [], Fraction(0)
    for beat in bar.voices[0]:
        if (now < end and now + beat.length > start) or (beat.grace and start <= now < end):
            found.append(beat)
        now += beat.length
    return found


def _bass_note(
    staff: Staff, bar: Bar, chord: tuple[int, bool], start: Fraction, end: Fraction, root: bool
) -> Note | None:
    """A root (or fifth) under what sounds from `start` to `end`, on a string that is free, within the hand's reach."""
    strings = strings_of(staff)
    beats = _moments(staff, bar, start, end)
    busy = {n.string for beat in beats for n in beat.notes}
    lowest = min(
        (p for b in beats for n in b.notes if (p := pitch_of_note(n, strings, staff.capo)) is not None), default=99
    )
    tones = [chord[0], (chord[0] + 7) % 12] if root else [(chord[0] + 7) % 12, chord[0]]
    for tone in tones:
        for string in (len(strings), len(strings) - 1, len(strings) - 2):
            for fret in range(13):
                pitch = strings[string - 1] + staff.capo + fret
                if pitch % 12 != tone or string in busy or pitch >= lowest:
                    continue
                note = Note(fret, string)
                with_others = (
                    [(n.string, n.fret) for n in b.notes if not n.effects.keys() & {"x", "nh"}] for b in beats
                )
                if all(holds([*places, (string, fret)]) for places in with_others if holds(places)):
                    return note
    return None


MIN_BASS_BARS = 0.5


def bass(score: Score, _: str, rng: random.Random) -> None:
    """Adds a voice of roots and fifths on the low strings, two to the bar, where the hand can reach them.

    Raises:
        EditError: There are two voices already, it is a part for bass, or there is no room below it.
    """
    staff = one_staff(score, "a bass")
    if any(len(bar.voices) > 1 for bar in staff.bars):
        raise EditError("it has a second voice already")
    if staff.strings < 6:
        raise EditError(f"it is a part for {staff.strings} strings; a bass is added to guitars")
    line, found, loud = sounds(staff), 0, 0
    for index, (bar, metre) in enumerate(zip(staff.bars, metres(score), strict=True)):
        voice = bar.voices[0]
        full = len(voice) == 1 and not voice[0].notes and voice[0].duration == 1
        length = bar_capacity(metre) if full else voice_length(voice)
        chord = harmony(line, index)
        if not voice:
            bar.voices.append([])
            continue
        if chord is None:
            bar.voices.append(rests(length))
            continue
        loud += 1
        half = length / 2 if spell_length(length / 2) and metre[0] % 2 == 0 and metre[0] > 2 else length
        made: list[Beat] = []
        start = Fraction(0)
        while start < length:
            note = _bass_note(staff, bar, chord, start, start + half, root=start == 0 or rng.random() < 0.5)
            made += (held([note], half) if note else rests(half)) or []
            start += half
        found += any(beat.notes for beat in made)
        bar.voices.append(made)
    if not loud or found < MIN_BASS_BARS * loud:
        raise EditError(f"there is room for a bass in only {found} of {loud} bars")


__all__ = ["MAX_SIMPLE_NOTES", "bass", "melody", "one_staff", "simplify"]
