"""What bassists play, in the manner of `guitar_phrases`."""

from __future__ import annotations

from ..processing.alphatex_grammar import Beat
from .guitar_neck import MAX_FRET, scale_box
from .guitar_phrases import Bars, Scene, beat, walk, with_repeats


def bass_line(scene: Scene) -> Bars:
    """Roots, fifths, octaves and walking notes."""
    rng = scene.rng
    position = rng.choice((0, 0, 0, 2, 3, 5, 5, 7, 10, 12, 15))
    box = scale_box(scene.strings, scene.root, scene.scale, position, 4)
    where = rng.randrange(max(len(box) // 2, 1))
    pedal = rng.random() < 0.4

    def make(bar: int) -> list[Beat]:
        nonlocal where
        slots = scene.rhythm(bar)
        line, where = walk(scene, box, len(slots), where)
        if pedal:
            held = line[0]
            line = [held if rng.random() < 0.7 else p for p in line]
        return [beat(s, () if rng.random() < scene.rests else (p,)) for s, p in zip(slots, line, strict=True)]

    return with_repeats(scene, make, 0.3)


def slap(scene: Scene) -> Bars:
    """Slapped low notes and popped octaves, with dead notes between."""
    rng, count = scene.rng, len(scene.strings)

    def make(bar: int) -> list[Beat]:
        string, fret = rng.randint(3, count), rng.choice((0, 0, 1, 3, 5, 5, 7, 8, 10, 12))
        beats = []
        for k, slot in enumerate(scene.rhythm(bar)):
            chance = rng.random()
            if chance < scene.rests:
                beats.append(beat(slot, ()))
                continue
            popped = chance > 0.65 or (k % 2 == 1 and chance > 0.4)
            place = (string - 2, min(fret + 2, MAX_FRET)) if popped else (string, fret)
            if rng.random() < 0.18:
                beats.append(beat(slot, ((place[0], 0),), x=()))
            else:
                beats.append(beat(slot, (place,)))
            beats[-1].effects["p" if popped else "s"] = ()
        return beats

    return with_repeats(scene, make, 0.35)
