"""Techniques, put where a player puts them.

Rates say how often a technique is tried at a place where it is possible. What joins two notes (hammer-on, pull-off,
slide, tie) is written only where the next beat has a note on that string, because the picture shows nothing else.
"""

from __future__ import annotations

import random

from ..processing.alphatex_grammar import Beat, Note
from .guitar_neck import MAX_FRET

Rates = dict[str, float]
LINKS = ("h", "sl", "ss")
HARMONIC_FRETS = (12, 7, 5, 19, 24, 9, 4)
NOTE_TECHNIQUES = "h sl ss sib sia sou sod be x t g v vw pm lr nh ah ph tr ac hac st".split()
BEAT_TECHNIQUES = "tt s p bd bu ad au su sd".split()

#: Typical rates by manner of playing.
MANNERS: dict[str, Rates] = {
    "lead": dict(h=0.16, sl=0.07, ss=0.03, be=0.09, v=0.16, vw=0.02, sib=0.01, sia=0.006, sou=0.008, sod=0.015,
                 grace=0.04, tie=0.05, x=0.008, g=0.015, ph=0.008, tr=0.006, st=0.012, ac=0.015, lr=0.02, pm=0.02,
                 su=0.01, sd=0.01),
    "riff": dict(h=0.08, sl=0.06, ss=0.03, be=0.015, v=0.04, pm=0.12, x=0.04, ph=0.012, sod=0.02, tie=0.04, ac=0.03,
                 hac=0.006, st=0.02, g=0.008, grace=0.015, su=0.008, sd=0.012),
    "chords": dict(x=0.02, bd=0.04, bu=0.03, ad=0.015, au=0.004, tie=0.06, st=0.02, ac=0.02, pm=0.03, lr=0.04, ss=0.02,
                   sl=0.015, su=0.03, sd=0.04, v=0.01, sod=0.01),
    "picking": dict(lr=0.2, h=0.05, sl=0.03, nh=0.006, tie=0.05, g=0.01, ad=0.01, bd=0.008, st=0.006, ac=0.008, v=0.01,
                    grace=0.012),
    "bass": dict(h=0.06, sl=0.05, ss=0.02, x=0.04, g=0.03, tie=0.06, st=0.03, ac=0.012, pm=0.02, sod=0.02, sib=0.008,
                 v=0.015, grace=0.012),
    "plain": dict(tie=0.03, h=0.02, sl=0.01, v=0.01),
    "wild": dict(h=0.12, sl=0.08, ss=0.06, be=0.07, v=0.06, vw=0.03, sib=0.02, sia=0.02, sou=0.02, sod=0.02, grace=0.05,
                 tie=0.07, x=0.05, g=0.05, nh=0.03, ah=0.02, ph=0.02, tr=0.012, st=0.025, ac=0.025, hac=0.012, pm=0.06,
                 lr=0.05, bd=0.02, bu=0.02, ad=0.012, au=0.012, su=0.02, sd=0.02, tt=0.02, s=0.01, p=0.01),
}  # fmt: skip


def piece_rates(manner: str, rng: random.Random) -> Rates:
    """Rates of one piece: each piece favours some techniques and leaves others out."""
    level = rng.choice((0.0, 0.5, 1.0, 1.0, 1.6, 2.4))
    keep = 0.9 if manner == "wild" else 0.7
    return {name: rate * level * rng.uniform(0.3, 2.0) for name, rate in MANNERS[manner].items() if rng.random() < keep}


def random_bend(rng: random.Random) -> tuple[str | int, ...]:
    """Arguments of a bend; heights in quarter tones (4 = a whole tone), places in 60ths of the note."""
    kind = rng.choices(("bend", "bendrelease", "prebend", "prebendrelease", "prebendbend"), (56, 20, 10, 11, 3))[0]
    if kind == "bend":
        return ("bend", 0, 0, 60, rng.choices((4, 2, 6, 1, 3, 8), (58, 22, 6, 8, 3, 3))[0])
    height = rng.choice((4, 4, 4, 2, 2, 6)) if kind == "bendrelease" else rng.choice((4, 4, 2))
    if kind == "bendrelease":
        return ("bendrelease", 0, 0, 30, height, 30, height, 60, 0)
    if kind == "prebend":
        return ("prebend", 0, height, 60, height)
    if kind == "prebendrelease":
        return ("prebendrelease", 0, height, 60, 0)
    return ("prebendbend", 0, 2, 60, 4)


def _link(note: Note, following: Beat | None, name: str) -> bool:
    """Joins a note to the one on the same string in the next beat, when there is one on another fret."""
    if following is None:
        return False
    for other in following.notes:
        if other.string == note.string and other.fret != note.fret and not other.effects.keys() & {"x", "t", "nh"}:
            note.effects[name] = ()
            return True
    return False


def _main_technique(beat: Beat, note: Note, following: Beat | None, name: str, rng: random.Random) -> None:
    """One technique that excludes the others on its note."""
    if name in LINKS:
        targets = beat.notes if name != "h" or rng.random() < 0.4 else [note]
        for target in targets:
            if not target.effects:
                _link(target, following, name)
    elif name == "be":
        # A tied bend would need its continuation; the plain one ends with its note.
        if note.fret > 1 and len(beat.notes) <= 2 and not _goes_on(note, following):
            note.effects["be"] = random_bend(rng)
    elif name == "nh":
        note.fret = rng.choice(HARMONIC_FRETS)
        note.effects["nh"] = ()
    elif name in ("ah", "ph"):
        if len(beat.notes) == 1 and 0 < note.fret <= 19:
            note.effects[name] = (rng.choice((12, 12, 12, 7, 5, 19) if note.fret < 6 else (12, 12, 7, 5)),)
    elif name == "tr":
        if len(beat.notes) == 1 and 2 <= note.fret <= 14 and beat.duration <= 8:
            note.effects["tr"] = (note.fret + rng.choice((1, 2)),)
    elif name == "x":
        for target in beat.notes if rng.random() < 0.6 else [note]:
            if not target.effects:
                target.fret, target.effects = 0, {"x": ()}
    elif note.fret > 1:  # slides in and out
        note.effects[name] = ()


def _goes_on(note: Note, following: Beat | None) -> bool:
    return following is not None and any(n.string == note.string and "t" in n.effects for n in following.notes)


_MAIN = ("h", "sl", "ss", "be", "nh", "ah", "ph", "tr", "x", "sib", "sia", "sou", "sod")
_BEAT_MARKS = ("bd", "bu", "ad", "au", "su", "sd", "tt", "s", "p")


def add_ties(beats: list[Beat], rate: float, rng: random.Random) -> None:
    """Ties some beats to their successor, which takes over all notes."""
    for place in range(1, len(beats)):
        if rng.random() >= rate:
            continue
        before, beat = beats[place - 1], beats[place]
        if not before.notes or not beat.notes or before.grace or beat.grace:
            continue
        if any("x" in note.effects for note in before.notes):
            continue
        if place + 1 < len(beats) and any("t" in note.effects for note in beats[place + 1].notes):
            continue
        beat.notes = [Note(note.fret, note.string, {"t": ()}) for note in before.notes]
        beat.effects.clear()


def _add_grace(beats: list[Beat], rate: float, rng: random.Random) -> None:
    place = 0
    while place < len(beats):
        beat = beats[place]
        if beat.notes and not beat.grace and rng.random() < rate and "tt" not in beat.effects:
            target = rng.choice(beat.notes)
            if not target.effects.keys() & {"t", "x", "nh", "sib", "sia"} and target.fret < MAX_FRET:
                count = 1 if rng.random() < 0.88 else 2
                frets = {max(0, target.fret + rng.choice((-3, -2, -2, -1, -1, 1, 2))) for _ in range(count)} - {
                    target.fret
                }
                ornaments = [
                    Beat([Note(min(fret, MAX_FRET), target.string)], 8 if len(frets) == 1 else 16, grace="bb")
                    for fret in sorted(frets)
                ]
                for k, ornament in enumerate(ornaments):
                    if rng.random() < 0.65:
                        following = ornaments[k + 1] if k + 1 < len(ornaments) else beat
                        _link(ornament.notes[0], following, rng.choice(("h", "h", "sl", "ss")))
                beats[place:place] = ornaments
                place += len(ornaments)
        place += 1


def _runs(beats: list[Beat], name: str, rate: float, rng: random.Random) -> None:
    """Palm mute and let ring come in runs of several beats."""
    place = 0
    while place < len(beats):
        if rng.random() < rate / 3:
            stop = place + rng.choice((1, 2, 3, 4, 6, 8))
            for beat in beats[place:stop]:
                for note in beat.notes:
                    if name == "pm" or "pm" not in note.effects:
                        note.effects[name] = ()
            place = stop
        place += 1


def decorate(beats: list[Beat], rates: Rates, rng: random.Random) -> list[Beat]:
    """Adds techniques to the beats of one voice, in place.

    Args:
        beats: All beats of the voice, bar after bar; their notes may carry effects already.
        rates: Chance of each technique where it is possible.
        rng: Source of chance.

    Returns:
        The same list; grace notes were put in.
    """
    if not rates:
        return beats
    add_ties(beats, rates.get("tie", 0), rng)
    names = [name for name in _MAIN if name in rates]
    total = sum(rates[name] for name in names)
    weights = [rates[name] for name in names]
    marks = [(name, rates[name]) for name in _BEAT_MARKS if name in rates]
    small = [(name, rates[name]) for name in ("g", "ac", "hac", "st") if name in rates]
    for place, beat in enumerate(beats):
        if not beat.notes or beat.grace:
            continue
        following = beats[place + 1] if place + 1 < len(beats) else None
        tied = any("t" in note.effects for note in beat.notes)
        if not tied and rng.random() < total:
            note = rng.choice(beat.notes)
            if not note.effects:
                _main_technique(beat, note, following, rng.choices(names, weights)[0], rng)
        if rng.random() < rates.get("v", 0) * (2.5 if beat.duration <= 4 else 0.25):
            name = "vw" if rng.random() < rates.get("vw", 0) * 4 else "v"
            if not any(n.effects.keys() & {"x", "tr"} for n in beat.notes):
                for target in beat.notes:
                    target.effects[name] = ()
        for name, rate in small:
            if not tied and rng.random() < rate:
                target = rng.choice(beat.notes)
                if not target.effects.keys() & {"nh", "x", "ac", "hac", "g"}:
                    for n in beat.notes if name != "g" else [target]:
                        if name == "g" or not n.effects.keys() & {"ac", "hac"}:
                            n.effects[name] = ()
        for name, rate in marks:
            if not tied and rng.random() < rate and not beat.effects and (name[0] not in "ba" or len(beat.notes) > 2):
                beat.effects[name] = ()
    for name in ("pm", "lr"):
        if rates.get(name):
            _runs(beats, name, rates[name], rng)
    if rates.get("grace"):
        _add_grace(beats, rates["grace"], rng)
    return beats


def repair_links(beats: list[Beat]) -> None:
    """Takes away, in place, what has no partner in these beats: a tie without a start, a slide without a goal.

    For the beats of one voice of one text, after it was cut out of a longer one.
    """
    for place, beat in enumerate(beats):
        before = beats[place - 1] if place else None
        following = beats[place + 1] if place + 1 < len(beats) else None
        for note in beat.notes:
            if "t" in note.effects and not (
                before
                and any(n.string == note.string and n.fret == note.fret and "x" not in n.effects for n in before.notes)
            ):
                del note.effects["t"]
            for name in LINKS:
                if name in note.effects and not (following and any(n.string == note.string for n in following.notes)):
                    del note.effects[name]
