"""A metre that was misread, found by the bars that it spoils.

A 4 read for a 6 of a time signature makes every bar of the system too short: beats that are plainly there are left out,
or note values bent, until the sums are right. Then a metre that the heads held for less likely, but that leaves the
beats alone, is likelier as a whole.
"""

from __future__ import annotations

from math import log

import numpy as np

from .dense_labels import effect_from_key
from .dense_reading import DenseReader, DenseReading, probabilities

Metre = tuple[int, int]
DOUBTFUL = 1e-4  # a bar with less chance makes its metre doubtful
THINKABLE = 1e-4  # a metre with less chance was not seen
_LEAST = 1e-30


def settle_metre(
    reader: DenseReader, logits: dict[str, np.ndarray], width_px: int, reading: DenseReading
) -> DenseReading:
    """The reading again, or a likelier one in another metre than the first that is written.

    Args:
        reader: Whose reading it is; it goes on as the reader of what is given back.
        logits: Fields as in `DenseHeads`, without the batch axis.
        width_px: As it was read.
        reading: In the metre that is likeliest by itself.
    """
    written = [bar.time_signature for bar in reading.score.staves[0].bars if bar.time_signature]
    if not written or min(reading.bar_confidence) > DOUBTFUL:
        return reading
    chances = seen_metres(reader, logits, reading)
    if written[0] not in chances:
        return reading
    best, chosen = _likelihood(reading) + log(chances.pop(written[0])), written[0]
    for metre, chance in chances.items():
        found = reader.read_as({written[0]: metre}, logits, width_px)
        value = _likelihood(found) + log(chance)
        if value > best:
            best, chosen = value, metre
    # Read once more even if nothing changes: the reader must know what is held over into the next system.
    return reader.read_as({written[0]: chosen}, logits, width_px) if chances else reading


def seen_metres(reader: DenseReader, logits: dict[str, np.ndarray], reading: DenseReading) -> dict[Metre, float]:
    """Chances of the metres that may be written where the reading has its first one."""
    names = reader.labels["bar_starts"]
    places = [i for i, name in enumerate(names) if effect_from_key(name)[0] == "ts"]
    starts = probabilities({"bar_starts": logits["bar_starts"]})["bar_starts"]
    number = next(k for k, bar in enumerate(reading.score.staves[0].bars) if bar.time_signature)
    row = starts[reader.bar_edges[number][0]]
    found: dict[Metre, float] = {}
    for i in places:
        if row[i] >= THINKABLE:
            above, below = effect_from_key(names[i])[1][:2]
            found[int(above), int(below)] = float(row[i])
    return found


def _likelihood(reading: DenseReading) -> float:
    return sum(log(max(chance, _LEAST)) for chance in reading.bar_confidence)


__all__ = ["seen_metres", "settle_metre"]
