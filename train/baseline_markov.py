"""A baseline of FractalMidi: one first-order Markov chain a pitch, which knows no harmony, no bar and no other pitch.

The chance of a code given the code before, at a pitch, is counted in the training split and blended with the chances
over all pitches, and these with an even distribution (T. Bell, J. Cleary and I. Witten, *Text Compression* (1990), on
blending contexts). Its likelihood is exact.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..processing.errors import InputError
from ..processing.piano_roll import NUM_CODES, NUM_PITCHES

PITCH_WEIGHT = 30.0  # how many counts of a pitch's own the chances over all pitches are worth
EVEN_WEIGHT = 1.0
_ROLLS_AT_ONCE = 64


class PitchMarkov:
    """The chain of every pitch.

    Args:
        counts: uint32 `(P, K + 1, K)`: how often a code follows another; the last row of the middle axis is the start.
    """

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = counts
        self.num_codes = counts.shape[2]
        together = counts.sum(axis=0, dtype=np.float64)  # (K + 1, K)
        together = (together + EVEN_WEIGHT / self.num_codes) / (together.sum(axis=1, keepdims=True) + EVEN_WEIGHT)
        own = counts.sum(axis=2, keepdims=True, dtype=np.float64)
        self.probabilities = (counts + PITCH_WEIGHT * together) / (own + PITCH_WEIGHT)  # (P, K + 1, K)

    @classmethod
    def fit(cls, rolls: Any, num_codes: int = NUM_CODES) -> PitchMarkov:
        """Counts in `Rolls`, or anything indexed whose rows have `codes` `(P, T)`."""
        pitches = rolls[0]["codes"].shape[0]
        size = pitches * (num_codes + 1) * num_codes
        counts = np.zeros(size, dtype=np.int64)
        for start in range(0, len(rolls), _ROLLS_AT_ONCE):
            batch = np.stack([rolls[k]["codes"] for k in range(start, min(start + _ROLLS_AT_ONCE, len(rolls)))])
            counts += np.bincount(_transitions(batch, num_codes).ravel(), minlength=size)
        return cls(counts.reshape(pitches, num_codes + 1, num_codes).astype(np.uint32))

    def nats(self, codes: np.ndarray) -> np.ndarray:
        """Negative log-likelihood of rolls `(N, P, T)`; float64 `(N,)`."""
        cost = -np.log(self.probabilities).ravel()
        return np.array([cost[_transitions(one[None], self.num_codes)].sum() for one in codes])

    def sample(self, count: int, steps: int, seed: int = 0) -> np.ndarray:
        """Rolls uint8 `(count, P, steps)`."""
        rng = np.random.default_rng(seed)
        pitch = np.arange(len(self.counts))
        total = self.probabilities.cumsum(axis=2)
        codes = np.zeros((count, len(pitch), steps), dtype=np.uint8)
        before = np.full((count, len(pitch)), self.num_codes)
        for step in range(steps):
            passed = total[pitch, before] < rng.random((count, len(pitch), 1))  # (count, P, K)
            before = passed.sum(axis=2).clip(max=self.num_codes - 1)
            codes[:, :, step] = before
        return codes

    def save(self, path: str | Path) -> None:
        """Writes the counts, compressed."""
        np.savez_compressed(path, counts=self.counts)

    @classmethod
    def load(cls, path: str | Path) -> PitchMarkov:
        """Reads what `save` wrote.

        Raises:
            InputError: It is not there, or damaged.
        """
        try:
            with np.load(path) as stored:
                counts = stored["counts"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(path, f"holds no counts of the Markov baseline ({type(error).__name__})") from error
        if counts.ndim != 3 or counts.shape[1] != counts.shape[2] + 1 or counts.shape[0] != NUM_PITCHES:
            raise InputError(path, f"counts of shape {counts.shape} are not those of a Markov baseline")
        return cls(counts)


def _transitions(codes: np.ndarray, num_codes: int) -> np.ndarray:
    """`(N, P, T)` codes to places in the flat counts, of the same shape."""
    before = np.full_like(codes, num_codes, dtype=np.int64)
    before[:, :, 1:] = codes[:, :, :-1]
    pitch = np.arange(codes.shape[1])[None, :, None]
    return (pitch * (num_codes + 1) + before) * num_codes + codes
