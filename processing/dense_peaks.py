"""Things that stand out along the columns of dense evidence."""

from __future__ import annotations

import numpy as np

SURE = 0.8  # two neighbours this likely are two things, not one on the border


def peaks(probability: np.ndarray, threshold: float, reach: int = 1) -> list[int]:
    """Slots that stand out: above `threshold` and the highest within `reach` slots.

    Args:
        probability: `(T,)`.
    """
    found: list[int] = []
    for t in np.argsort(-probability, kind="stable"):
        if probability[t] < threshold:
            break
        near = [other for other in found if abs(int(t) - other) <= reach]
        if not near or (reach == 1 and probability[t] > SURE):
            found.append(int(t))
    return sorted(found)


def first_beat(beats: np.ndarray, left: int, right: int) -> int:
    """Slot of the first beat of a bar, of any voice; tempo marks are drawn over it.

    Args:
        beats: `(V, T, 3)` chances of no beat, notes, rest.
        left, right: Slots of the bar's edges.
    """
    present = (1 - beats[:, left : max(right, left + 1), 0]).max(axis=0)  # (T',)
    likely = np.flatnonzero(present > 0.5)
    if not likely.size:
        return left
    start = int(likely[0])
    return left + start + int(present[start : start + 2].argmax())


def gather_neighbours(probability: np.ndarray, slots: list[int]) -> np.ndarray:
    """Chance of a thing at each peak, with what its neighbours that are no peaks hold of it.

    Args:
        probability: `(..., T)` chance that a thing is in a slot.
        slots: Peaks.

    Returns:
        `(..., len(slots))`, at most 1.
    """
    chosen, last = set(slots), probability.shape[-1] - 1
    near = [[t, *(n for n in (t - 1, t + 1) if 0 <= n <= last and n not in chosen)] for t in slots]
    sums = [probability[..., n].sum(axis=-1) for n in near]
    return np.minimum(np.stack(sums, axis=-1), 1.0) if sums else np.zeros((*probability.shape[:-1], 0))


__all__ = ["first_beat", "gather_neighbours", "peaks"]
