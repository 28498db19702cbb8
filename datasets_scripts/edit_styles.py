"""Styles: what a piece says, played the way a kind of music plays it.

All of them hear the highest line of the first voice on a grid of eighths and write one new voice of the same bars, so
that forms, tempo marks and names stay. What is kept of the melody differs:

| style | what is written | what is kept |
|---|---|---|
| rock | power chords, open where the melody moves, palm-muted between | the tone of the melody is the root |
| punk | power chords in eighths, all down, at 170 or faster | the same |
| metal | a gallop of eighth and two sixteenths, palm-muted | the same |
| blues | long-short triplets, bends | the melody itself where it starts on a beat |
| folk | broken chords that ring, a bass at each bar | the melody where it starts on an eighth |
| bossa | bass on one and three, chords off the beat | the melody's tone on top of each chord |
| reggae | short chords off the beat, nothing on it | the same |
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from ..processing.alphatex_grammar import Beat, Note, Score, Staff, voice_length
from .edit_music import EditError, Sound, grip_for, harmony, holds, new_bar, pitch_of_note, rests, sounds, strings_of
from .edit_music import top_at as tone_at
from .edit_parts import EIGHTH, one_staff

PUNK_BPM = 170
_TEXTS = ("ch", "txt", "lyrics")
Places = list[tuple[int, int]]


@dataclass
class Scene:
    """One piece while a style is laid over it.

    Attributes:
        staff: The staff as it was.
        line: Its highest line.
        rng: Source of chance.
        hand: Fret that the hand was at last.
    """

    staff: Staff
    line: list[Sound]
    rng: random.Random
    hand: int = 3
    strings: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.strings = strings_of(self.staff)

    @property
    def capo(self) -> int:
        return self.staff.capo

    def starting(self, bar: int, start: Fraction) -> Sound | None:
        """What starts in a bar at a moment."""
        return next((s for s in self.line if s.bar == bar and s.start == start and s.pitches), None)

    def tones(self, bar: int, slots: int) -> list[int | None]:
        """Pitch of the melody at each eighth of a bar; in a pause the last one goes on, a silent bar has none."""
        found: list[int | None] = []
        for slot in range(slots):
            tone = tone_at(self.line, bar, slot * EIGHTH)
            found.append(tone if tone is not None else (found[-1] if found else None))
        first = next((tone for tone in found if tone is not None), None)
        return [first if tone is None else tone for tone in found]


def _notes(places: Places, **effects: tuple) -> list[Note]:
    return [Note(fret, string, dict(effects)) for string, fret in sorted(places)]


def power_chord(scene: Scene, tone: int) -> Places:
    """Root, fifth and octave on the low strings, near the hand."""
    ways: list[tuple[float, Places]] = []
    count = len(scene.strings)
    for string in (count, count - 1):
        for fret in range(13):
            root = scene.strings[string - 1] + fret
            if (root + scene.capo - tone) % 12:
                continue
            places = [(string, fret)]
            for step, rise in ((1, 7), (2, 12)):
                there = root + rise - scene.strings[string - 1 - step]
                if there >= 0 and holds([*places, (string - step, there)]):
                    places.append((string - step, there))
            if len(places) > 1:
                ways.append((abs(fret - scene.hand) + 4 * (len(places) < 3), places))
    if not ways:
        raise EditError("this tuning has no power chords on its low strings")
    places = min(ways)[1]
    scene.hand = places[0][1]
    return places


def voicing(scene: Scene, tone: int, chord: tuple[int, bool]) -> Places:
    """Three notes on neighbouring high strings, the melody's tone on top."""
    root, minor = chord
    triad = {root, (root + (3 if minor else 4)) % 12, (root + 7) % 12}
    best: tuple[float, Places] | None = None
    for top in (1, 2):
        for fret in range(1, 13):
            if (scene.strings[top - 1] + scene.capo + fret - tone) % 12:
                continue
            places = [(top, fret)]
            for string in (top + 1, top + 2):
                used = {(scene.strings[s - 1] + scene.capo + f) % 12 for s, f in places}
                near = sorted(range(max(fret - 4, 0), fret + 5), key=lambda f: abs(f - fret))
                for wanted in (triad - used, triad):
                    fits = [
                        f for f in near
                        if (scene.strings[string - 1] + scene.capo + f) % 12 in wanted and holds([*places, (string, f)])
                    ]  # fmt: skip
                    if fits:
                        places.append((string, fits[0]))
                        break
            cost = abs(fret - scene.hand) + 10 * (3 - len(places))
            if best is None or cost < best[0]:
                best = (cost, places)
    assert best is not None  # every tone is on every string within an octave
    scene.hand = best[1][0][1]
    return best[1]


def _on_strings(scene: Scene, tone: int, strings: range, other: Places) -> tuple[int, int] | None:
    """A tone, in any octave, on one of some strings, near the hand and together with what is held."""
    taken = {string for string, _ in other}
    ways = [
        (abs(fret - scene.hand) if fret else 1, string, fret)
        for string in strings
        for fret in range(13)
        if string not in taken
        and (scene.strings[string - 1] + scene.capo + fret - tone) % 12 == 0
        and holds([*other, (string, fret)])
    ]
    return min(ways)[1:] if ways else None


def pinch(scene: Scene, bass: int, tone: int | None) -> Places:
    """A bass tone with the melody's tone on the high strings above it."""
    count = len(scene.strings)
    held: Places = []
    if tone is not None and (place := _on_strings(scene, tone, range(1, 4), [])):
        held.append(place)
        scene.hand = place[1] or scene.hand
    for wanted in (bass, bass + 7):
        if place := _on_strings(scene, wanted, range(count, count - 3, -1), held):
            return [*held, place]
    # No hand holds both: the bass is what makes the style.
    place = _on_strings(scene, bass, range(count, count - 3, -1), [])
    return [place] if place else held


def _rock(scene: Scene, bar: int, slots: int) -> list[Beat]:
    beats: list[Beat] = []
    tones, slot = scene.tones(bar, slots), 0
    while slot < slots:
        tone, start = tones[slot], slot * EIGHTH
        if tone is None:
            beats += rests(EIGHTH)
            slot += 1
            continue
        sound = scene.starting(bar, start)
        places = power_chord(scene, tone)
        struck = sound is not None and sound.length >= 2 * EIGHTH
        if struck and slot + 2 < slots and slot % 2 == 0 and scene.rng.random() < 0.3:
            beats.append(Beat(_notes(places), 4))
            slot += 2
            continue
        beats.append(Beat(_notes(places) if struck else _notes(places, pm=()), 8))
        slot += 1
    if beats and not any("pm" in note.effects for beat in beats for note in beat.notes):
        for note in beats[-1].notes:
            note.effects["pm"] = ()
    return beats


def _punk(scene: Scene, bar: int, slots: int) -> list[Beat]:
    made = []
    for tone in scene.tones(bar, slots):
        made.append(Beat([], 8) if tone is None else Beat(_notes(power_chord(scene, tone)), 8, effects={"sd": ()}))
    return made


def _metal(scene: Scene, bar: int, slots: int) -> list[Beat]:
    made: list[Beat] = []
    for slot, tone in enumerate(scene.tones(bar, slots)):
        if tone is None:
            made.append(Beat([], 8))
            continue
        places = power_chord(scene, tone)
        if slot % 2 == 0 or (slots % 2 and slot == slots - 1):
            struck = scene.starting(bar, slot * EIGHTH) is not None
            made.append(Beat(_notes(places) if struck and slot == 0 else _notes(places, pm=()), 8))
        else:
            made += [Beat(_notes(places[:1], pm=()), 16) for _ in range(2)]
    return made


def _melody_note(scene: Scene, sound: Sound) -> list[Note]:
    top = max(sound.beat.notes, key=lambda n: pitch_of_note(n, scene.strings) or -1)
    if "nh" in top.effects:
        return _notes(list(grip_for(sound.pitches[:1], scene.strings, scene.capo, scene.hand).values()))
    return [Note(top.fret, top.string)]


def _sounding(scene: Scene, bar: int, start: Fraction) -> Sound | None:
    found = [s for s in scene.line if s.bar == bar and s.start <= start < s.start + s.length and s.pitches]
    return found[-1] if found else None


def _blues(scene: Scene, bar: int, slots: int) -> list[Beat]:
    made: list[Beat] = []
    slot = 0
    while slot < slots:
        start = slot * EIGHTH
        first = _sounding(scene, bar, start)
        if slot + 1 == slots:  # the odd eighth of an uneven metre
            made.append(Beat(_melody_note(scene, first) if first else [], 8))
            break
        second = _sounding(scene, bar, start + EIGHTH) or first
        slot += 2
        if first is None and second is None:
            made.append(Beat([], 4))
            continue
        one = _melody_note(scene, first) if first else []
        if first is second and first is not None and first.length >= 2 * EIGHTH and scene.rng.random() < 0.35:
            made.append(Beat(one, 4))
            if one[0].fret > 1:
                one[0].effects["be"] = ("bend", 0, 0, 60, scene.rng.choice((1, 2, 2, 4)))
            continue
        two = _melody_note(scene, second) if second else []
        made += [Beat(one, 4, tuplet=(3, 2)), Beat(two, 8, tuplet=(3, 2))]
    return made


def _bend_somewhere(bars: list[list[Beat]]) -> None:
    """A blues without a bend is none: the highest long note gets one."""
    notes = [n for bar in bars for beat in bar if beat.duration == 4 for n in beat.notes if n.fret > 1]
    if any("be" in note.effects for note in notes):
        return
    if not notes:
        raise EditError("it has no note that can be bent")
    max(notes, key=lambda n: (-n.string, n.fret)).effects["be"] = ("bend", 0, 0, 60, 2)


def _folk(scene: Scene, bar: int, slots: int) -> list[Beat]:
    chord = harmony(scene.line, bar)
    if chord is None:
        return rests(slots * EIGHTH)
    root, minor = chord
    triad = (root, (root + (3 if minor else 4)) % 12, (root + 7) % 12)
    made: list[Beat] = []
    last = 0
    order = scene.rng.choice(((3, 2, 4), (4, 3, 2), (3, 4, 3)))
    for slot in range(slots):
        sound = scene.starting(bar, slot * EIGHTH)
        tone = sound.pitches[0] if sound else None
        if slot == 0:
            places = pinch(scene, root, tone)
        else:
            place = _on_strings(scene, tone, range(1, 4), []) if tone is not None else None
            string = order[slot % len(order)]
            string = string if string != last else string + 1
            near = [p for p in (_on_strings(scene, t, range(string, string + 1), []) for t in triad) if p]
            places = [place or min(near, key=lambda p: abs(p[1] - scene.hand) if p[1] else 1)]
        last = places[0][0]
        made.append(Beat(_notes(places, lr=()), 8))
    return made


#: Bossa in eighths of 4/4: start, length, bass (B) or chord (C); two bars that alternate.
_BOSSA = (
    ((0, 1, "B"), (1, 2, "C"), (3, 1, "C"), (4, 1, "B"), (5, 2, "C"), (7, 1, "C")),
    ((0, 2, "B"), (2, 1, "C"), (3, 1, "C"), (4, 2, "B"), (6, 1, "r"), (7, 1, "C")),
)


def _bossa(scene: Scene, bar: int, slots: int) -> list[Beat]:
    if slots not in (4, 8):
        raise EditError("bossa nova is in 4/4 or 2/4; ask for another metre first")
    chord = harmony(scene.line, bar)
    if chord is None:
        return rests(slots * EIGHTH)
    tones, made = scene.tones(bar, slots), []
    for start, length, what in _BOSSA[bar % 2]:
        if start >= slots:
            break
        tone = tones[start]
        assert tone is not None  # only a silent bar has none
        if what == "B":
            places = pinch(scene, chord[0] if start == 0 else chord[0] + 7, tone)
        else:
            places = voicing(scene, tone, chord) if what == "C" else []
        made.append(Beat(_notes(places), 8 if length == 1 else 4))
    return made


def _reggae(scene: Scene, bar: int, slots: int) -> list[Beat]:
    chord = harmony(scene.line, bar)
    if chord is None:
        return rests(slots * EIGHTH)
    tones, made = scene.tones(bar, slots), []
    for slot in range(slots):
        tone = tones[slot]
        assert tone is not None
        off = slot % 2 == 1
        made.append(Beat(_notes(voicing(scene, tone, chord), st=()) if off else [], 8))
    return made


_STYLES: dict[str, Callable[[Scene, int, int], list[Beat]]] = {
    "rock": _rock, "punk": _punk, "metal": _metal, "blues": _blues, "folk": _folk, "bossa": _bossa, "reggae": _reggae,
}  # fmt: skip


def style(score: Score, argument: str, rng: random.Random) -> None:
    """Plays a piece in a style, in place.

    Raises:
        EditError: There are several staves or fewer than six strings, bars that are no whole number of eighths, or
            the style does not go with the metre.
    """
    staff = one_staff(score, "a style")
    if staff.strings < 6:
        raise EditError(f"styles are for guitars of six strings or more, this one has {staff.strings}")
    scene = Scene(staff, sounds(staff), rng)
    if not any(sound.pitches for sound in scene.line):
        raise EditError("nothing sounds in it")
    stopped = [n.fret for s in scene.line[:4] for n in s.beat.notes if n.fret]
    scene.hand = min(min(stopped, default=3), 9)
    made: list[list[Beat]] = []
    for index, bar in enumerate(staff.bars):
        voice = bar.voices[0]
        if not any(beat.notes for beat in voice):
            made.append([Beat(list(b.notes), b.duration, b.dots, b.tuplet, effects=dict(b.effects)) for b in voice])
            continue
        slots = voice_length(voice) / EIGHTH
        if slots.denominator != 1:
            raise EditError("its bars are no whole number of eighths")
        made.append(_with_texts(_STYLES[argument](scene, index, int(slots)), voice))
    if argument == "blues":
        _bend_somewhere(made)
    staff.bars = [new_bar(bar, [beats]) for bar, beats in zip(staff.bars, made, strict=True)]
    if argument == "punk" and float(staff.bars[0].tempo or 0) < PUNK_BPM:
        for bar in staff.bars:
            bar.tempo = None
        staff.bars[0].tempo = PUNK_BPM


def _with_texts(made: list[Beat], voice: list[Beat]) -> list[Beat]:
    """Chord names, words and lyrics go to the beat that starts where theirs did."""
    texts, now = dict[Fraction, dict[str, tuple]](), Fraction(0)
    for beat in voice:
        if found := {name: beat.effects[name] for name in _TEXTS if name in beat.effects}:
            texts.setdefault(now, found)
        now += beat.length
    now = Fraction(0)
    for beat in made:
        beat.effects |= texts.get(now, {})
        now += beat.length
    return made


__all__ = ["PUNK_BPM", "power_chord", "style", "voicing"]
