"""Edits of where notes lie: transposition, key, capo, tuning, position."""

from __future__ import annotations

import re
from collections import defaultdict

from ..processing.alphatex_grammar import Score, Staff
from ..processing.alphatex_types import DEFAULT_TUNING, spell_pitch
from .edit_music import (
    EditError,
    copy_score,
    copy_staff,
    pitch_of_note,
    refinger,
    sounds,
    strings_of,
)
from .guitar_neck import TUNINGS

_KEYS = ("c", "db", "d", "eb", "e", "f", "f#", "g", "ab", "a", "bb", "b")
_CHORD_NAME = re.compile(r"^([A-G][#b]?)(.*?)(?:/([A-G][#b]?))?$")
_NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
_CLASSES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SPELLINGS = {"cb": "b", "gb": "f#", "c#": "db", "g#": "ab"}
# Weights of the degrees of a major key and of a minor one (C. Krumhansl, Cognitive Foundations of Musical Pitch, 1990).
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)
MOST_FOLDED = 0.25  # share of the notes that may move by octaves before an edit is refused


def transposed_chord(name: str, semitones: int) -> str:
    """A chord name moved by semitones: `Am/G` up 2 is `Bm/A`; what is no chord name stays."""
    match = _CHORD_NAME.match(name)
    if not match:
        return name

    def move(root: str) -> str:
        return _NAMES[(_CLASSES[root[0]] + root.count("#") - root.count("b") + semitones) % 12]

    bass = f"/{move(match[3])}" if match[3] else ""
    return f"{move(match[1])}{match[2]}{bass}"


def key_of(name: str) -> int:
    """Pitch class of the major key that has a key's signature: `g` and `em` are both 7."""
    minor = len(name) > 1 and name.endswith("m")
    tonic = name[:-1] if minor else name
    return (_KEYS.index(_SPELLINGS.get(tonic, tonic)) + 3 * minor) % 12


def signature(score: Score) -> int:
    """Key signature of a piece as the pitch class of its major key: as written, or guessed where it is not.

    A tab alone does not show its key; it is guessed from how long each tone sounds.
    """
    first = score.staves[0]
    if "score" in first.show or first.bars[0].key_signature:
        return key_of(first.bars[0].key_signature or "c")
    weights: dict[int, float] = defaultdict(float)
    for staff in score.staves:
        for sound in sounds(staff):
            for pitch in sound.pitches:
                weights[pitch % 12] += float(sound.length)
    best = (-1.0, 0)
    for tonic in range(12):
        for profile, rise in ((_MAJOR, 0), (_MINOR, 3)):
            fit = sum(weight * profile[(tone - tonic) % 12] for tone, weight in weights.items())
            mean = sum(profile) / 12 * sum(weights.values())
            spread = sum((p - sum(profile) / 12) ** 2 for p in profile) ** 0.5
            best = max(best, ((fit - mean) / spread, (tonic + rise) % 12))
    return best[1]


def _refuse_far(folded: int, staff: Staff, what: str) -> None:
    count = sum(len(beat.notes) for bar in staff.bars for voice in bar.voices for beat in voice)
    if folded > MOST_FOLDED * max(count, 1):
        raise EditError(f"{what} takes {folded} of {count} notes off the fretboard; ask for a smaller step")


def transpose(score: Score, argument: str) -> None:
    """Moves every note by so many semitones, in place; few notes that leave the neck move by octaves.

    Raises:
        EditError: Too many notes would leave the neck.
    """
    semitones = int(argument)
    for staff in score.staves:
        before = copy_staff(staff)
        _refuse_far(refinger(before, staff, lambda p: p + semitones), before, f"transposing by {argument}")
        if "chord" in staff.other:
            del staff.other["chord"]  # diagrams show other frets now
        for bar in staff.bars:
            if bar.key_signature:
                bar.key_signature = _KEYS[(key_of(bar.key_signature) + semitones) % 12]
            for beat in (beat for voice in bar.voices for beat in voice):
                if "ch" in beat.effects:
                    beat.effects["ch"] = (transposed_chord(str(beat.effects["ch"][0]), semitones),)
    first = score.staves[0]
    if "score" in first.show and first.bars and not first.bars[0].key_signature:
        first.bars[0].key_signature = _KEYS[semitones % 12]
    for staff in score.staves:
        if staff.bars and staff.bars[0].key_signature == "c":
            staff.bars[0].key_signature = None


def to_key(score: Score, argument: str) -> None:
    """Moves the piece, by the shorter way, so that its signature is that of a key.

    Raises:
        EditError: It is there already, or too many notes would leave the neck.
    """
    away = (key_of(argument) - signature(score) + 6) % 12 - 6
    if not away:
        raise EditError(f"the piece has the signature of {argument} already")
    nearer = copy_score(score)
    try:
        transpose(nearer, f"{away:+d}")
    except EditError:  # off the neck on this side: the other way round leads to the same key
        transpose(score, f"{away - 12 if away > 0 else away + 12:+d}")
        return
    score.tracks = nearer.tracks


def capo(score: Score, argument: str) -> None:
    """Puts the capo on a fret and leaves the shapes.

    Raises:
        EditError: It is there already.
    """
    if all(staff.capo == int(argument) for staff in score.staves):
        raise EditError(f"the capo is at {argument} already" if int(argument) else "there is no capo to take off")
    for staff in score.staves:
        staff.capo = int(argument)


def recapo(score: Score, argument: str) -> None:
    """Puts the capo on a fret and moves the frets so that the same sounds.

    Raises:
        EditError: It is there already, or too many notes lie below it.
    """
    before = copy_score(score)
    capo(score, argument)
    for old, staff in zip(before.staves, score.staves, strict=True):
        _refuse_far(refinger(old, staff, lambda p: p), old, f"a capo at {argument} with the same sound")
        staff.other.pop("chord", None)


def tuning(score: Score, argument: str) -> None:
    """Writes the piece for another tuning; the same sounds.

    Raises:
        EditError: The tuning is not one for so many strings, is there already, or can not reach the notes.
    """
    name = argument.replace("-", " ")
    for staff in score.staves:
        known = TUNINGS.get(staff.strings, {})
        if name not in known:
            names = ", ".join(n.replace(" ", "-") for n in known) or "none"
            raise EditError(f"{argument} is no tuning of {staff.strings} strings; there are: {names}")
        wanted = tuple(spell_pitch(pitch) for pitch in known[name])
        if tuple(map(spell_pitch, staff.tuning or DEFAULT_TUNING)) == wanted:
            raise EditError(f"the tuning is {argument} already")
        before = copy_staff(staff)
        staff.tuning = None if wanted == DEFAULT_TUNING else wanted
        _refuse_far(refinger(before, staff, lambda p: p), before, f"the tuning {argument}")
        staff.other.pop("chord", None)


def in_position(staff: Staff, fret: int) -> float:
    """Share of the notes that the hand plays when its first finger is at a fret; open strings are not among them."""
    strings = strings_of(staff)
    frets = [
        note.fret
        for bar in staff.bars
        for voice in bar.voices
        for beat in voice
        for note in beat.notes
        if pitch_of_note(note, strings) is not None
    ]
    low = 0 if fret == 1 else fret - 1
    return sum(low <= f <= fret + 4 for f in frets) / max(len(frets), 1)


LEAST_IN_POSITION = 0.6


def position(score: Score, argument: str) -> None:
    """Plays the same notes near a fret.

    Raises:
        EditError: Most notes are there already, or most are not to be had there.
    """
    fret = int(argument)
    changed = False
    for staff in score.staves:
        before = copy_staff(staff)
        refinger(before, staff, lambda p: p, hand=fret, stay=False)
        share, was = in_position(staff, fret), in_position(before, fret)
        if share < LEAST_IN_POSITION:
            raise EditError(f"only {share:.0%} of the notes can be had at fret {fret}; ask for another position")
        changed |= share > was
    if not changed:
        raise EditError(f"it is played at fret {fret} already")


__all__ = [
    "capo",
    "in_position",
    "key_of",
    "position",
    "recapo",
    "signature",
    "to_key",
    "transpose",
    "transposed_chord",
    "tuning",
]
