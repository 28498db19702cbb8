"""The words of the bar-wise REMI language: their names, numbers and ranges.

Names are those of MidiTok's REMI (Pop Music Transformer, arXiv 2002.00212, with the `Program`, `TimeSig` and `Tempo`
tokens of FIGARO's REMI+), so that MidiTok can read the texts where it can express them. Tempos are whole quarter notes
a minute, positions and durations whole twelfths of a quarter note in every metre.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from .piano_roll import NUM_LOUDNESS, velocity_of_loudness

TICKS_PER_QUARTER = 12
MAX_BAR_TICKS = 12 * TICKS_PER_QUARTER
MAX_DURATION_TICKS = 16 * TICKS_PER_QUARTER
MIN_TEMPO, MAX_TEMPO = 20, 260
DRUM_PITCHES = (27, 87)  # General MIDI level 2
DRUMS = -1  # the "program" of the drum track, as in MidiTok
#: Largest numerator of each denominator; bars last 12 quarters at most.
MAX_NUMERATORS = {1: 3, 2: 6, 4: 12, 8: 24, 16: 48}
SIGNATURES = tuple((count, unit) for unit, most in MAX_NUMERATORS.items() for count in range(1, most + 1))
KINDS = ("PAD", "EOS", "Bar", "TimeSig", "Tempo", "Position", "Program", "Pitch", "PitchDrum", "Velocity", "Duration")
PAD_ID, EOS_ID, BAR_ID = 0, 1, 2


class Section(NamedTuple):
    """The numbers of one kind of word: `first` to `first + size - 1`."""

    first: int
    size: int


_SIZES = (
    1, 1, 1, len(SIGNATURES), MAX_TEMPO - MIN_TEMPO + 1, MAX_BAR_TICKS, 129, 128, DRUM_PITCHES[1] - DRUM_PITCHES[0] + 1,
    NUM_LOUDNESS, MAX_DURATION_TICKS,
)  # fmt: skip
SECTIONS = {
    kind: Section(first, size) for kind, first, size in zip(KINDS, accumulate((0, *_SIZES[:-1])), _SIZES, strict=True)
}
VOCAB_SIZE = sum(_SIZES)
(TIME_SIGNATURE, TEMPO, POSITION, PROGRAM, PITCH, DRUM, VELOCITY, DURATION) = (
    SECTIONS[kind].first for kind in KINDS[3:]
)
#: Number of the kind of each word, `(V,)`.
KIND_OF = np.repeat(np.arange(len(KINDS)), _SIZES)
#: Place of each word in its section, `(V,)`.
PLACE_OF = np.concatenate([np.arange(size) for size in _SIZES])


def ticks_of_signature(signature: tuple[int, int]) -> int:
    """Length of a bar in twelfths of a quarter."""
    return signature[0] * 4 * TICKS_PER_QUARTER // signature[1]


#: Length of the bar that each time signature begins, `(93,)`.
SIGNATURE_TICKS = np.array([ticks_of_signature(signature) for signature in SIGNATURES])


def signature_of_ticks(ticks: int) -> tuple[int, int]:
    """Time signature of a bar of so many ticks (a multiple of 3, at most `MAX_BAR_TICKS`): the largest unit that fits.

    Used for bars that a file cuts short, whose length no signature names.
    """
    for unit in (4, 8, 16):
        beat = 4 * TICKS_PER_QUARTER // unit
        if ticks % beat == 0:
            return ticks // beat, unit
    raise ValueError(f"{ticks} ticks are no bar of sixteenths")


@lru_cache(maxsize=1)
def token_names() -> tuple[str, ...]:
    """Names of all words as MidiTok writes them, by number."""
    quarter = TICKS_PER_QUARTER
    velocities = velocity_of_loudness(np.arange(NUM_LOUDNESS)).tolist()
    values: dict[str, list[str]] = {kind: ["None"] for kind in KINDS[:3]}
    values["TimeSig"] = [f"{count}/{unit}" for count, unit in SIGNATURES]
    values["Tempo"] = [f"{tempo}.0" for tempo in range(MIN_TEMPO, MAX_TEMPO + 1)]
    values["Position"] = [str(tick) for tick in range(MAX_BAR_TICKS)]
    values["Program"] = [str(program) for program in range(DRUMS, 128)]
    values["Pitch"] = [str(pitch) for pitch in range(128)]
    values["PitchDrum"] = [str(pitch) for pitch in range(DRUM_PITCHES[0], DRUM_PITCHES[1] + 1)]
    values["Velocity"] = [str(velocity) for velocity in velocities]
    values["Duration"] = [f"{t // quarter}.{t % quarter}.{quarter}" for t in range(1, MAX_DURATION_TICKS + 1)]
    return tuple(f"{kind}_{value}" for kind in KINDS for value in values[kind])
