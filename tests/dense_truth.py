"""Where an engraver could have put the beats of a text, and what a perfect tower would say of the picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from intermezzo.processing.alphatex_types import Score
from intermezzo.processing.dense_labels import SLOT_PX, SparseLabels, encode_system, expand

BEAT_PX = 12.0
CLASSES = {"frets": 1, "tuplets": 1, "graces": 1, "durations": 0}  # classes that a field has before the named ones
FLAGS = ("note_effects", "beat_effects", "bar_starts", "bar_ends", "bar_edges")


def place_system(score: Score) -> tuple[dict[tuple[int, int, int], float], list[tuple[float, float]], int]:
    """Beats from left to right by onset; beats of two voices at one onset stand at one place.

    Returns:
        Centres of the beats, edges of the bars, width of the picture, in pixels.
    """
    x, beat_x, bar_x = 40.0, {}, []
    for b, bar in enumerate(score.staves[0].bars):
        left, x = x, x + 40
        events = []
        for v, voice in enumerate(bar.voices):
            onset: Any = 0
            for k, beat in enumerate(voice):
                events.append((onset, 0 if beat.grace else 1, v, k))
                onset += beat.length
        places: dict[tuple, float] = {}
        for onset, main, v, k in sorted(events, key=lambda e: (e[0], e[1], e[3])):
            place = (onset, main) if main else (onset, main, v, k)
            if place not in places:
                places[place], x = x, x + BEAT_PX
            beat_x[b, v, k] = places[place]
        x += 16
        bar_x.append((left, x))
    return beat_x, bar_x, int(x) + 40


def truth(score: Score, space: dict[str, list[str]]) -> tuple[SparseLabels, int]:
    """Labels and width of a picture of a system."""
    beat_x, bar_x, width = place_system(score)
    return encode_system(score, beat_x, bar_x, space), width


def perfect_logits(labels: SparseLabels, width: int, space: dict[str, list[str]]) -> dict[str, np.ndarray]:
    """Logits of one picture from which nothing else can be read."""
    painted = {name: array[0] for name, array in expand([labels], [width], -(-width // SLOT_PX), space).items()}
    sizes = {name: extra + len(space[name]) for name, extra in CLASSES.items()}
    sizes |= {"string_voice": 2, "beats": 3, "dots": 3, "tempo_digits": 10}
    logits = {name: np.eye(size)[painted[name].clip(0)] * 20 for name, size in sizes.items()}
    return logits | {name: np.where(painted[name] > 0, 15.0, -15.0) for name in FLAGS}
