"""Parts that nobody would play, so that a reader meets every fret on every string in every rhythm."""

from __future__ import annotations

from ..processing.alphatex_grammar import Beat
from .guitar_neck import MAX_FRET
from .guitar_phrases import Bars, Scene, beat, with_repeats
from .guitar_rhythm import free_bar, metre_length


def wild(scene: Scene) -> Bars:
    """Anything on any string, so that a reader meets every fret on every string with every duration."""
    rng, count = scene.rng, len(scene.strings)
    near, free = rng.random() < 0.5, rng.random() < 0.6
    sizes = rng.choice(((1,), (1, 1, 1, 2, 3), (1, 2, 3, 4), (1, 1, 2, count), (2, 3, 4, 5, count)))
    base = rng.randint(0, MAX_FRET - 4)
    stay = rng.choice((0.0, 0.2, 0.6))
    before: list[int] = []

    def make(bar: int) -> list[Beat]:
        nonlocal base, before
        slots = (
            free_bar(metre_length(scene.metres[bar]), rng)
            if free
            else scene.rhythm(bar, rng.choice(("fast", "any", "sixteenth", "triplet")))
        )
        beats = []
        for slot in slots:
            if rng.random() < scene.rests * 1.6:
                beats.append(beat(slot, ()))
                continue
            size = min(rng.choice(sizes), count)
            chosen = before if before and rng.random() < stay else rng.sample(range(1, count + 1), size)
            if near and rng.random() < 0.1:
                base = rng.randint(0, MAX_FRET - 4)
            beats.append(
                beat(slot, [(s, rng.randint(base, base + 4) if near else rng.randint(0, MAX_FRET)) for s in chosen])
            )
            before = chosen
        return beats

    return with_repeats(scene, make, 0.03)
