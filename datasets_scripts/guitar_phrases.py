"""What guitarists and bassists play: one function for each way of playing.

Every function takes a `Scene` (instrument, key, metre, chance) and a number of bars and gives the beats of each bar.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from ..processing.alphatex_grammar import Beat, Note
from .guitar_neck import MAX_FRET, SCALES, random_chord, scale_box
from .guitar_rhythm import Slot, fill_bar, groups

Bars = list[list[Beat]]
Place = tuple[int, int]  # string, fret


@dataclass
class Scene:
    """What a piece is made for.

    Attributes:
        rng: Source of chance.
        strings: MIDI numbers of the open strings, highest line first.
        root: Pitch class of the tonic.
        scale: A name of `guitar_neck.SCALES`.
        metres: Metre of each bar.
        feel: A name of `guitar_rhythm.FEELS`.
        rests: Chance of a rest in place of a note.
    """

    rng: random.Random
    strings: tuple[int, ...]
    root: int
    scale: str
    metres: list[tuple[int, int]]
    feel: str
    rests: float = 0.06

    def rhythm(self, bar: int, feel: str | None = None) -> list[Slot]:
        """A rhythm for one bar."""
        return fill_bar(self.metres[bar], feel or self.feel, self.rng)


def beat(slot: Slot, places: list[Place] | tuple[Place, ...], **effects: tuple) -> Beat:
    """A beat of these places, a rest for none; the effects go to all its notes."""
    notes = [Note(fret, string, dict(effects)) for string, fret in sorted(places)]
    return Beat(notes, slot.duration, slot.dots, slot.tuplet)


def _copy(beats: list[Beat]) -> list[Beat]:
    return [
        Beat(
            [Note(n.fret, n.string, dict(n.effects)) for n in b.notes],
            b.duration,
            b.dots,
            b.tuplet,
            b.grace,
            dict(b.effects),
        )
        for b in beats
    ]


def with_repeats(scene: Scene, make: Callable[[int], list[Beat]], again: float) -> Bars:
    """Bars of which many come back, as riffs do; a bar comes back only under its own metre."""
    bars: Bars = []
    seen: dict[tuple[int, int], list[list[Beat]]] = {}
    for bar, metre in enumerate(scene.metres):
        old = seen.setdefault(metre, [])
        if old and scene.rng.random() < again:
            bars.append(_copy(scene.rng.choice(old[:2])))
        else:
            bars.append(make(bar))
            old.append(bars[-1])
    return bars


def walk(scene: Scene, box: tuple[Place, ...], count: int, place: int) -> tuple[list[Place], int]:
    """A melody inside a box: mostly steps, some leaps, runs in one direction."""
    rng, line, direction = scene.rng, [], scene.rng.choice((-1, 1))
    for _ in range(count):
        line.append(box[place])
        if rng.random() < 0.22:
            direction = -direction
        step = direction * rng.choices((1, 2, 3, 0, 5), (70, 13, 6, 8, 3))[0]
        if not 0 <= place + step < len(box):
            direction, step = -direction, -step
        place = min(max(place + step, 0), len(box) - 1)
    return line, place


def lead(scene: Scene) -> Bars:
    """Melodies and scale runs in one position, which moves now and then."""
    rng = scene.rng
    position = rng.choice((0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 7, 8, 9, 10, 11, 12, 12, 13, 14, 15, 16, 17, 19))
    pentatonic = len(SCALES[scene.scale]) < 7
    box = scale_box(scene.strings, scene.root, scene.scale, position, 4 if pentatonic or rng.random() < 0.7 else 5)
    where = rng.randrange(len(box))

    def make(bar: int) -> list[Beat]:
        nonlocal box, where, position
        if rng.random() < 0.15:
            position = min(max(position + rng.choice((-5, -3, -2, 2, 3, 5, 7)), 0), 20)
            box = scale_box(scene.strings, scene.root, scene.scale, position, 4)
            where = min(where, len(box) - 1)
        slots = scene.rhythm(bar)
        line, where = walk(scene, box, len(slots), where)
        return [beat(s, () if rng.random() < scene.rests else (p,)) for s, p in zip(slots, line, strict=True)]

    return with_repeats(scene, make, 0.12)


def single_string(scene: Scene) -> Bars:
    """Lines along one or two strings: hammer-ons, pull-offs and slides have their place here."""
    rng, count = scene.rng, len(scene.strings)
    string = rng.randint(1, count)

    def make(bar: int) -> list[Beat]:
        nonlocal string
        if rng.random() < 0.4:
            string = rng.randint(1, count)
        low = rng.randint(0, 17)
        frets = [
            f
            for f in range(low, min(low + 8, MAX_FRET) + 1)
            if (scene.strings[string - 1] + f - scene.root) % 12 in SCALES[scene.scale]
        ]
        frets = frets[:4] or [low]
        if rng.random() < 0.35:
            frets.insert(0, 0)
        motif = [rng.choice(frets) for _ in range(rng.choice((3, 4, 4, 6)))]
        beats = []
        for k, slot in enumerate(scene.rhythm(bar)):
            fret = motif[k % len(motif)] if rng.random() < 0.85 else rng.choice(frets)
            beats.append(beat(slot, () if rng.random() < scene.rests else ((string, fret),)))
        return beats

    return with_repeats(scene, make, 0.25)


def riff(scene: Scene) -> Bars:
    """Low strings: pedal tones under palm mute, with single notes and power chords between them."""
    rng, count = scene.rng, len(scene.strings)
    low = count - rng.choice((0, 0, 0, 1))
    pedal = (low, 0 if rng.random() < 0.6 else rng.randint(1, 9))
    box = [p for p in scale_box(scene.strings, scene.root, scene.scale, max(pedal[1] - 1, 0), 5) if p[0] > count - 4]
    mute = rng.random() < 0.75

    def make(bar: int) -> list[Beat]:
        beats = []
        for slot in scene.rhythm(bar):
            chance = rng.random()
            if chance < scene.rests:
                beats.append(beat(slot, ()))
            elif chance < 0.52:
                beats.append(beat(slot, (pedal,), **({"pm": ()} if mute else {})))
            elif chance < 0.8 and box:
                beats.append(beat(slot, (rng.choice(box),)))
            else:
                beats.append(beat(slot, _power(rng, count)))
        return beats

    return with_repeats(scene, make, 0.5)


def _power(rng: random.Random, count: int) -> list[Place]:
    """A power chord: root, fifth and often the octave."""
    string = rng.randint(max(count - 2, 3), count)
    fret = min(int(rng.triangular(0, 17, 2)), MAX_FRET - 3)
    up = 3 if string == 3 else 2
    shape = rng.random()
    if shape < 0.1:
        return [(string, fret), (string - 1, fret)]  # inverted, a fourth
    if shape < 0.18 and string == count:
        return [(string - k, fret) for k in range(3)]  # one finger, dropped tuning
    places = [(string, fret), (string - 1, fret + 2)]
    return [*places, (string - 2, fret + up)] if shape < 0.65 else places


def power_chords(scene: Scene) -> Bars:
    """Rock accompaniment: one chord for several strokes, chugged or held."""
    rng, count = scene.rng, len(scene.strings)

    def make(bar: int) -> list[Beat]:
        chord, beats = _power(rng, count), []
        mute = rng.random() < 0.35
        for slot in scene.rhythm(bar):
            if rng.random() < 0.25:
                chord = _power(rng, count)
            if rng.random() < scene.rests:
                beats.append(beat(slot, ()))
            else:
                beats.append(beat(slot, chord, **({"pm": ()} if mute and slot.duration >= 8 else {})))
        return beats

    return with_repeats(scene, make, 0.3)


def strum(scene: Scene) -> Bars:
    """Strummed open and barre chords, sometimes with muted strokes and partial strums."""
    rng = scene.rng
    openness, dead = rng.random(), rng.choice((0, 0, 0.05, 0.15, 0.4))
    brushes = rng.random() < 0.25

    def make(bar: int) -> list[Beat]:
        chord, beats = random_chord(rng, openness), []
        for k, slot in enumerate(scene.rhythm(bar)):
            if rng.random() < 0.12:
                chord = random_chord(rng, openness)
            chance = rng.random()
            if chance < scene.rests:
                beats.append(beat(slot, ()))
            elif chance < scene.rests + dead:
                beats.append(beat(slot, [(s, 0) for s, _ in chord], x=()))
            else:
                part = chord if rng.random() < 0.75 else chord[: rng.randint(2, len(chord))]
                beats.append(beat(slot, part))
                if brushes and len(part) > 2:
                    beats[-1].effects["bd" if k % 2 == 0 else "bu"] = ()
        return beats

    return with_repeats(scene, make, 0.35)


def arpeggio(scene: Scene) -> Bars:
    """Broken chords, one or two strings at a time, often left ringing."""
    rng, ring = scene.rng, scene.rng.random() < 0.6

    def make(bar: int) -> list[Beat]:
        chord = random_chord(rng, 0.6)
        order = list(range(len(chord)))
        order = order[::-1] + order[1:-1] if rng.random() < 0.6 else rng.sample(order, len(order))
        beats = []
        for k, slot in enumerate(scene.rhythm(bar)):
            if rng.random() < scene.rests / 2:
                beats.append(beat(slot, ()))
                continue
            places = {chord[order[k % len(order)]]}
            if rng.random() < 0.15:
                places.add(rng.choice(chord))
            beats.append(beat(slot, list(places), **({"lr": ()} if ring else {})))
        return beats

    return with_repeats(scene, make, 0.25)


def double_stops(scene: Scene) -> Bars:
    """Two notes at a time: thirds, fourths, sixths and octaves in the scale."""
    rng = scene.rng
    box = scale_box(scene.strings, scene.root, scene.scale, rng.randint(0, 17), 4)
    gap = rng.choice((2, 2, 3, 5, 7))
    where = rng.randrange(len(box))

    def make(bar: int) -> list[Beat]:
        nonlocal where
        slots = scene.rhythm(bar)
        line, where = walk(scene, box, len(slots), where)
        beats = []
        for slot, place in zip(slots, line, strict=True):
            other = box[min(box.index(place) + gap, len(box) - 1)]
            pair = [place] if other[0] == place[0] or rng.random() < 0.15 else [place, other]
            beats.append(beat(slot, () if rng.random() < scene.rests else pair))
        return beats

    return with_repeats(scene, make, 0.2)


def shuffle(scene: Scene) -> Bars:
    """The blues pattern: a root with fifth, sixth and seventh above."""
    rng, count = scene.rng, len(scene.strings)
    mute = {"pm": ()} if rng.random() < 0.5 else {}

    def make(bar: int) -> list[Beat]:
        string, fret = rng.randint(count - 2, count), rng.choice((0, 0, 0, 3, 5, 7, 8, 10))
        uppers = rng.choice(((2, 4), (2, 2, 4, 4), (2, 2, 4, 4, 5, 5, 4, 4)))
        return [
            beat(slot, ((string, fret), (string - 1, fret + uppers[k % len(uppers)])), **mute)
            for k, slot in enumerate(scene.rhythm(bar))
        ]

    return with_repeats(scene, make, 0.3)


def tapping(scene: Scene) -> Bars:
    """Two hands on one string: tap, pull off, hammer on."""
    rng = scene.rng

    def make(bar: int) -> list[Beat]:
        string, low = rng.randint(1, 4), rng.randint(0, 12)
        cycle = [min(low + rng.choice((7, 9, 10, 12)), MAX_FRET), low, low + rng.choice((3, 4))]
        if rng.random() < 0.4:
            cycle.append(low)
        beats = []
        for k, slot in enumerate(scene.rhythm(bar)):
            fret = cycle[k % len(cycle)]
            beats.append(beat(slot, ((string, fret),), h=()))
            if k % len(cycle) == 0:
                beats[-1].effects["tt"] = ()
        del beats[-1].notes[0].effects["h"]
        return beats

    return with_repeats(scene, make, 0.4)


def harmonics(scene: Scene) -> Bars:
    """Natural harmonics, single and in chords."""
    rng, count = scene.rng, len(scene.strings)

    def make(bar: int) -> list[Beat]:
        fret, beats = rng.choice((12, 7, 5, 12, 7, 19)), []
        for slot in scene.rhythm(bar):
            if rng.random() < 0.2:
                fret = rng.choice((12, 7, 5, 4, 9, 19, 24))
            size = rng.choices((0, 1, 2, 3), (8, 70, 14, 8))[0]
            first = rng.randint(1, count - max(size - 1, 0))
            beats.append(beat(slot, [(first + k, fret) for k in range(size)], nh=()))
        return beats

    return with_repeats(scene, make, 0.25)


def funk(scene: Scene) -> Bars:
    """Sixteenths with muted strokes around a small chord."""
    rng, count = scene.rng, min(len(scene.strings), 6)

    def make(bar: int) -> list[Beat]:
        fret, size = rng.randint(2, 14), rng.randint(2, 4)
        first = rng.randint(1, count - size)
        chord = [(first + k, fret + rng.choice((0, 0, 1, 2))) for k in range(size)]
        beats = []
        for slot in scene.rhythm(bar, "sixteenth"):
            chance = rng.random()
            if chance < 0.45:
                beats.append(beat(slot, [(s, 0) for s, _ in chord], x=()))
            else:
                beats.append(beat(slot, () if chance < 0.55 else chord))
        return beats

    return with_repeats(scene, make, 0.4)


def fingerstyle(scene: Scene) -> tuple[Bars, Bars]:
    """Two voices: a melody on the high strings over a thumbed bass. Gives (melody, bass)."""
    rng, count = scene.rng, len(scene.strings)
    position = rng.choice((0, 0, 0, 2, 3, 5, 7, 9))
    box = [p for p in scale_box(scene.strings, scene.root, scene.scale, position, 4) if p[0] <= 3]
    low = [p for p in scale_box(scene.strings, scene.root, scene.scale, max(position - 1, 0), 5) if p[0] > count - 3]
    where, alternate = rng.randrange(len(box)), rng.random() < 0.6
    melody: Bars = []
    bass: Bars = []
    for bar, metre in enumerate(scene.metres):
        slots = scene.rhythm(bar)
        line, where = walk(scene, tuple(box), len(slots), where)
        melody.append(
            [
                beat(s, () if rng.random() < 0.08 else (p, rng.choice(box)) if rng.random() < 0.1 else (p,))
                for s, p in zip(slots, line, strict=True)
            ]
        )
        for made in melody[-1]:
            if len(made.notes) == 2 and made.notes[0].string == made.notes[1].string:
                made.notes.pop()
        roots = [rng.choice(low), rng.choice(low)]
        lower = fill_bar(metre, "slow", rng) if not alternate else _pulse(metre, rng)
        bass.append([beat(s, (roots[k % 2],)) for k, s in enumerate(lower)])
    return melody, bass


def _pulse(metre: tuple[int, int], rng: random.Random) -> list[Slot]:
    """One note a beat."""
    names = {16: Slot(4), 24: Slot(4, 1), 32: Slot(2), 8: Slot(8)}
    return [names[length] for length in groups(metre, rng)]
