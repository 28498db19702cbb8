"""What Museformer measures of a bar: the first numbers of its summary, which can so be steered by from the start.

A departure from the paper, whose summaries are learnt as a whole. Learnt ones alone said nothing of their bars after
1,000 steps, and the layers did not look at them; numbers that mean something from the first step on are used at once.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..configuration.configuration_museformer import NUM_MEASURES
from ..processing.bar_midi_vocabulary import (
    DURATION,
    KIND_OF,
    KINDS,
    MIN_TEMPO,
    PITCH,
    PLACE_OF,
    SECTIONS,
    SIGNATURE_TICKS,
    TEMPO,
    TICKS_PER_QUARTER,
    TIME_SIGNATURE,
    VELOCITY,
    VOCAB_SIZE,
)

#: What is measured, in the order of the numbers: octaves of 120 quarters a minute; octaves of a bar of 4/4; places with
#: onsets, and notes, a quarter; octaves above middle C and their spread; loudness and its spread; octaves of a quarter
#: that notes last, and their spread; part of the notes that are drums; part of the others on each pitch class.
MEASURES = (
    "tempo", "length", "onsets", "density", "register", "range", "loudness", "dynamics", "sustain", "articulation",
    "drums", *(f"pitch_class_{number}" for number in range(12)),
)  # fmt: skip
assert len(MEASURES) == NUM_MEASURES
#: What is about the middle of much music, and how far music is from it; fixed, for running figures of what is rare
#: (drums, bars of 2/4) would blow it up.
CENTRES = (0.0, 0.0, 1.8, 3.0, 0.3, 0.7, 0.6, 0.06, -0.5, 0.6, 0.0, *[1 / 12] * 12)
SPREADS = (0.4, 0.4, 0.8, 2.0, 0.7, 0.5, 0.15, 0.05, 0.8, 0.4, 0.3, *[0.12] * 12)
_COUNTED = ("Tempo", "TimeSig", "Position", "Pitch", "PitchDrum", "Velocity", "Duration")
_VALUES = {"Tempo": 1, "TimeSig": 1, "Pitch": 2, "Velocity": 2, "Duration": 2}  # powers that are summed


def word_values() -> np.ndarray:
    """What each word says of its kind, float64 `(V,)`: octaves (tempo, metre, pitch, duration) or loudness; else 0."""
    value = np.zeros(VOCAB_SIZE)
    place = PLACE_OF.astype(np.float64)
    for first, kind in ((TEMPO, "Tempo"), (PITCH, "Pitch"), (VELOCITY, "Velocity"), (DURATION, "Duration")):
        part = slice(first, first + SECTIONS[kind].size)
        value[part] = {
            "Tempo": np.log2((place[part] + MIN_TEMPO) / 120),
            "Pitch": (place[part] - 60) / 12,
            "Velocity": place[part] / SECTIONS["Velocity"].size,
            "Duration": np.log2((place[part] + 1) / TICKS_PER_QUARTER),
        }[kind]
    signatures = slice(TIME_SIGNATURE, TIME_SIGNATURE + SECTIONS["TimeSig"].size)
    value[signatures] = np.log2(SIGNATURE_TICKS / (4 * TICKS_PER_QUARTER))
    return value


def new_table() -> torch.Tensor:
    """What each word adds to the sums of its bar, float32 `(V, K)`; see `measures_of`."""
    value = word_values()
    marks = {kind: (np.full(VOCAB_SIZE, KINDS.index(kind)) == KIND_OF).astype(np.float64) for kind in _COUNTED}
    columns = list(marks.values())
    for kind, powers in _VALUES.items():
        columns += [value**power * marks[kind] for power in range(1, powers + 1)]
    columns += [marks["Pitch"] * np.equal(PLACE_OF % 12, number) for number in range(12)]
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))


def measures_of(sums: torch.Tensor) -> torch.Tensor:
    """Sums of words `(…, K)` to measures `(…, M)`, as many spreads from the centre; bars of nothing get raw zeros."""
    count = dict(zip(_COUNTED, sums[..., : len(_COUNTED)].unbind(-1), strict=True))
    column, found = len(_COUNTED), {}
    for kind, powers in _VALUES.items():
        total = count[kind].clamp(min=1)
        mean = sums[..., column] / total
        found[kind] = [mean]
        if powers == 2:
            found[kind].append((sums[..., column + 1] / total - mean**2).clamp(min=0).sqrt())
        column += powers
    quarters = 4 * 2 ** found["TimeSig"][0]
    notes = count["Pitch"] + count["PitchDrum"]
    classes = sums[..., column:] / count["Pitch"].clamp(min=1)[..., None]
    measured = [
        *found["Tempo"], *found["TimeSig"], count["Position"] / quarters, notes / quarters, *found["Pitch"],
        *found["Velocity"], *found["Duration"], count["PitchDrum"] / notes.clamp(min=1),
    ]  # fmt: skip
    raw = torch.cat([torch.stack(measured, dim=-1), classes], dim=-1)
    return (raw - raw.new_tensor(CENTRES)) / raw.new_tensor(SPREADS)


class BarMeasures(nn.Module):
    """Measures bars out of their words; nothing in it is learnt."""

    table: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", new_table(), persistent=False)

    def forward(self, ids: torch.Tensor, bar: torch.Tensor, num_bars: int) -> torch.Tensor:
        """Measures float32 `(B, N, M)`.

        Args:
            ids: `(B, T)`.
            bar: `(B, T)` number of each word's bar, −1 for none.
            num_bars: N.
        """
        each = self.table.float()[ids] * (bar >= 0)[..., None]  # (B, T, K)
        sums = each.new_zeros(len(ids), num_bars, each.shape[-1])
        sums.scatter_add_(1, bar.clamp(min=0)[..., None].expand_as(each), each)
        return measures_of(sums)


__all__ = ["MEASURES", "NUM_MEASURES", "BarMeasures", "measures_of", "new_table", "word_values"]
