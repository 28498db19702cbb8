"""A metre that was misread or overlooked, found by the bars that it spoils.

A 4 read for a 6 of a time signature makes every bar of the system too short: beats that are plainly there are left out,
or note values bent, until the sums are right; or the first bar passes for a pick-up. Then a metre that the heads held
for less likely, but that leaves the beats alone, is likelier as a whole.
"""

from __future__ import annotations

from math import log

import numpy as np

from .dense_labels import effect_from_key
from .dense_reading import PICKUP_PRIOR, DenseReader, DenseReading, probabilities

Metre = tuple[int, int]
DOUBTFUL = 1e-4  # a bar with less chance makes its metre doubtful
THINKABLE = 1e-4  # a metre with less chance was not seen
_LEAST = 1e-30


def settle_metre(
    reader: DenseReader, logits: dict[str, np.ndarray], width_px: int, reading: DenseReading
) -> DenseReading:
    """The reading again, or a likelier one with another time signature, or one more, or one less.

    Args:
        reader: Whose reading it is; it goes on as the reader of what is given back.
        logits: Fields as in `DenseHeads`, without the batch axis.
        width_px: As it was read.
        reading: In the metres that are likeliest by themselves.
    """
    chosen: dict[int, Metre | None] = {}
    tried = False
    for bar, chances in enumerate(seen_metres(reader, logits, reading)):
        if len(chances) < 2 or not _is_doubtful(reading, bar):
            continue
        written = reading.score.staves[0].bars[bar].time_signature
        best, here = _likelihood(reading) + log(chances.pop(written, _LEAST)), reading
        if not bar and reader.metre is None:
            chances.pop(None, None)  # there is none that could go on
        for metre, chance in chances.items():
            found, tried = reader.read_as({**chosen, bar: metre}, logits, width_px), True
            value = _likelihood(found) + log(chance)
            if value > best:
                best, here, chosen[bar] = value, found, metre
        reading = here
    # Read once more even if nothing changes: the reader must know what is held over into the next system.
    return reader.read_as(chosen, logits, width_px) if tried else reading


def seen_metres(
    reader: DenseReader, logits: dict[str, np.ndarray], reading: DenseReading
) -> list[dict[Metre | None, float]]:
    """Chances of the metres that may be written where each bar of the reading begins; `None`: none is."""
    names = reader.labels["bar_starts"]
    metres = {i: effect_from_key(name)[1][:2] for i, name in enumerate(names) if effect_from_key(name)[0] == "ts"}
    starts = probabilities({"bar_starts": logits["bar_starts"]})["bar_starts"]
    found: list[dict[Metre | None, float]] = []
    for left, _ in reader.bar_edges:
        row = starts[left]
        none = float(np.prod([1 - row[i] for i in metres])) if metres else 1.0
        every: dict[Metre | None, float] = {(int(a), int(b)): float(row[i]) for i, (a, b) in metres.items()}
        found.append({metre: chance for metre, chance in (every | {None: none}).items() if chance >= THINKABLE})
    return found


def _is_doubtful(reading: DenseReading, first: int) -> bool:
    """Whether a bar in the metre that is written, or in force, at bar `first` is hardly possible, or is a pick-up."""
    bars = reading.score.staves[0].bars
    later = (k for k in range(first + 1, len(bars)) if bars[k].time_signature)
    span = range(first, next(later, len(bars)))
    return any(bars[k].anacrusis or reading.bar_confidence[k] <= DOUBTFUL for k in span)


def _likelihood(reading: DenseReading) -> float:
    pickups = sum(bar.anacrusis for bar in reading.score.staves[0].bars)
    return sum(log(max(chance, _LEAST)) for chance in reading.bar_confidence) + PICKUP_PRIOR * pickups


__all__ = ["seen_metres", "settle_metre"]
