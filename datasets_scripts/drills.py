"""Systems crowded with rare signs, so that a reader sees each of them often enough to learn it."""

from __future__ import annotations

import random

from ..processing.alphatex_grammar import Bar, Beat, Note, read_alphatex, write_alphatex
from ..processing.alphatex_visible import SCORE_ONLY_NOTE
from .guitar_neck import MAX_FRET
from .guitar_techniques import HARMONIC_FRETS, LINKS, Rates, random_bend

#: Chance of each sign at a note (or beat) that has none of its kind yet.
NOTE_RATES: Rates = {
    "be": 0.09, "sib": 0.03, "sia": 0.04, "sou": 0.03, "sod": 0.03, "ph": 0.04, "ah": 0.03, "nh": 0.02, "tr": 0.03,
    "v": 0.03, "vw": 0.05, "g": 0.03, "x": 0.03,
}  # fmt: skip
HEAD_RATES: Rates = {"st": 0.12, "ac": 0.09, "hac": 0.06}
#: Chance of first and second endings in a system of two bars or more, and of a grace note before a note.
ENDINGS, GRACES = 0.25, 0.05
BEAT_RATES: Rates = {"ad": 0.05, "au": 0.05, "bd": 0.03, "bu": 0.03, "su": 0.05, "sd": 0.05, "tt": 0.04}


def with_rare_signs(text: str, rng: random.Random) -> str:
    """Puts rare signs on a system: techniques, accents, grace notes, tempo marks at many bars, repeats and endings.

    Args:
        text: Canonical alphaTex of one system.
        rng: Source of chance.

    Returns:
        Canonical alphaTex with the same notes and rhythm, except that harmonics and dead notes have their own frets,
        and that grace notes come in.
    """
    score = read_alphatex(text)
    staff = score.staves[0]
    if rng.random() < ENDINGS:
        _put_endings(staff.bars, rng)
    for place, bar in enumerate(staff.bars):
        if rng.random() < (0.7 if place == 0 else 0.3):
            bar.tempo = rng.randint(40, 240)
        if bar.repeat_close:
            bar.repeat_close = rng.choice((2, 3, 4, 8))
        for voice in bar.voices:
            for here, beat in enumerate(voice):
                following = voice[here + 1] if here + 1 < len(voice) else None
                if beat.notes and not beat.grace and not _joined(beat, following):
                    _mark(beat, "score" in staff.show, rng)
            voice[:] = _with_graces(voice, "score" in staff.show, rng)
    return write_alphatex(score)


def _put_endings(bars: list[Bar], rng: random.Random) -> None:
    """A first and a second ending at two neighbouring bars that have no repeats of their own."""
    if len(bars) < 2:
        return
    place = rng.randrange(len(bars) - 1)
    first, second = bars[place], bars[place + 1]
    if first.anacrusis or any(bar.repeat_open or bar.repeat_close or bar.endings for bar in bars):
        return
    first.endings, first.repeat_close, second.endings = (1,), 2, (2,)
    bars[rng.randrange(place + 1)].repeat_open = True


def _with_graces(voice: list[Beat], flags: bool, rng: random.Random) -> list[Beat]:
    """Grace notes on any fret, so that their small digits are read and not guessed from the note they lead to.

    Only a score staff shows the flags that tell a sixteenth from an eighth.
    """
    found: list[Beat] = []
    for place, beat in enumerate(voice):
        before = voice[place - 1] if place else None
        free = place and beat.notes and not beat.grace and before is not None and before.notes and not before.grace
        tied = any("t" in note.effects for note in beat.notes)
        linked = before is not None and any(note.effects.keys() & {*LINKS, "be"} for note in before.notes)
        if free and not tied and not linked and rng.random() < GRACES:
            target = rng.choice(beat.notes)
            fret = rng.randint(0, MAX_FRET)
            if fret != target.fret and not target.effects.keys() & {"x", "nh", "sib", "sia"}:
                duration = rng.choice((8, 8, 16)) if flags else 8
                found.append(Beat([Note(fret, target.string)], duration, grace="bb"))
        found.append(beat)
    return found


def _joined(beat: Beat, following: Beat | None) -> bool:
    """A tied note, or one that a tie goes on from, must keep what it is; at the end of a bar nobody knows."""
    tied = any("t" in note.effects for note in beat.notes)
    return tied or following is None or any("t" in note.effects for note in following.notes)


def _mark(beat: Beat, heads: bool, rng: random.Random) -> None:
    notes = beat.notes
    if heads and not any(note.effects.keys() & {*SCORE_ONLY_NOTE, "g", "nh", "x"} for note in notes):
        for name, rate in HEAD_RATES.items():
            if rng.random() < rate:
                for note in notes:
                    note.effects[name] = ()
                break
    note = rng.choice(notes)
    plain = not any(n.effects.keys() - {*SCORE_ONLY_NOTE, "pm", "lr"} for n in notes)
    if plain and len(notes) <= 2:
        name = rng.choices([*NOTE_RATES, ""], [*NOTE_RATES.values(), 1 - sum(NOTE_RATES.values())])[0]
        if name in ("v", "vw"):
            for each in notes:
                each.effects[name] = ()
        elif name == "nh" and not note.effects.keys() & {*SCORE_ONLY_NOTE}:
            note.fret, note.effects[name] = rng.choice(HARMONIC_FRETS), ()
        elif name == "x" and not note.effects:
            note.fret, note.effects[name] = 0, ()
        elif note.fret > 1:
            arguments = _arguments(name, note.fret, beat, rng)
            if arguments is not None:
                note.effects[name] = arguments
    if not beat.effects:
        name = rng.choices([*BEAT_RATES, ""], [*BEAT_RATES.values(), 1 - sum(BEAT_RATES.values())])[0]
        if name and (name[0] not in "ba" or len(notes) > 2):
            beat.effects[name] = ()


def _arguments(name: str, fret: int, beat: Beat, rng: random.Random) -> tuple[str | int, ...] | None:
    """Arguments of a technique on this note; `None` where it is not possible."""
    if name == "be":
        return random_bend(rng)
    if name in ("ph", "ah"):
        return (rng.choice((12, 12, 7, 5, 19)),) if fret <= 19 and len(beat.notes) == 1 else None
    if name == "tr":
        return (fret + rng.choice((1, 2)),) if fret <= 14 and len(beat.notes) == 1 and beat.duration <= 8 else None
    return () if name in ("sib", "sia", "sou", "sod", "g") else None


__all__ = ["with_rare_signs"]
