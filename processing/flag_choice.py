"""Which independent signs are written: those that exclude each other are chosen as one, signs of a chord together."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# Signs of which a note, a beat or a bar has at most one. Each is unlikely by itself when the heads waver between two
# heights of a bend; that there is a bend may be certain all the same.
KINDS = {
    "sib": "slide in", "sia": "slide in", "sou": "link", "sod": "link",
    "h": "link", "sl": "link", "ss": "link", "nh": "harmonic", "ah": "harmonic", "ph": "harmonic",
    "v": "vibrato", "vw": "vibrato", "ac": "accent", "hac": "accent",
    "su": "stroke", "sd": "stroke", "bu": "brush", "bd": "brush", "au": "arpeggio", "ad": "arpeggio",
}  # fmt: skip
#: Drawn once for all notes of a chord, and written at each of them.
WHOLE_BEAT = frozenset({"pm", "lr", "v", "vw", "st", "ac", "hac", "ten"})


@lru_cache(maxsize=16)
def _groups(names: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        word = name.partition(" ")[0]
        groups.setdefault(KINDS.get(word, word), []).append(index)
    return tuple(tuple(group) for group in groups.values())


def choose_flags(names: list[str], chances: np.ndarray) -> tuple[list[str], float]:
    """The signs that are more likely there than not.

    Args:
        names: Class names, as `dense_labels.effect_key` makes them.
        chances: `(K,)` probabilities.

    Returns:
        The chosen names, in their order, and the chance that all of them and no others are there.
    """
    chosen: list[int] = []
    sure = 1.0
    for group in _groups(tuple(names)):
        part = chances[list(group)]
        total, best = min(float(part.sum()), 1.0), int(part.argmax())
        if total > 0.5:
            chosen.append(group[best])
            sure *= float(part[best])
        else:
            sure *= 1.0 - total
    return [names[i] for i in sorted(chosen)], sure


def agree(names: list[str], chances: np.ndarray) -> np.ndarray:
    """Lets the notes of a chord speak together where a sign is drawn once for all of them.

    Args:
        names: Class names.
        chances: `(notes, K)` probabilities.

    Returns:
        The same shape; equal rows in the columns of `WHOLE_BEAT`, the mean of the log odds.
    """
    shared = [i for i, name in enumerate(names) if name in WHOLE_BEAT]
    if len(chances) < 2 or not shared:
        return chances
    part = np.clip(chances[:, shared].astype(np.float64), 1e-9, 1 - 1e-9)  # in float32 the bound would be 1
    mean = np.log(part / (1 - part)).mean(axis=0)
    out = chances.copy()
    out[:, shared] = 1 / (1 + np.exp(-mean))
    return out


__all__ = ["WHOLE_BEAT", "agree", "choose_flags"]
