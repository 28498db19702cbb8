"""Figures of music: how dense, how full, how steady it is, and how much generated music is distributed like real music.

All functions are pure and take rolls of codes (`processing/piano_roll.py`), one `(128, T)` or a batch `(N, 128, T)`.
Figures of one roll are computed roll by roll; means over rolls come with a bootstrap over pieces (`metrics_common.py`).

Sources: scale consistency O. Mogren, C-RNN-GAN (arXiv 1611.09904); groove similarity S.-L. Wu and Y.-H. Yang, Jazz
Transformer (arXiv 2008.01307), here between neighbouring bars as MusPy (arXiv 2008.01951) does; empty-beat rate after
the empty bars of H.-W. Dong et al., MuseGAN (arXiv 1709.06298); histograms and their overlapping area L.-C. Yang and
A. Lerch, Neural Computing and Applications 32 (2020), here of the pooled histograms, without kernel smoothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from ..processing.piano_roll import (
    FIRST_ONSET,
    NUM_LOUDNESS,
    NUM_PITCHES,
    SILENCE,
    STEPS_PER_QUARTER,
    clean_codes,
    coarse_codes,
    notes_of_codes,
)
from .metrics_common import Estimate, _group_index, ratio

MAX_DURATION_STEPS = 64  # longer notes are counted with these
MAX_INTERVAL_STEPS = 32
BAR_STEPS = 16
_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_HARMONIC_MINOR = (0, 2, 3, 5, 7, 8, 11)


def _batch(rolls: Any) -> np.ndarray:
    """Codes `(N, 128, T)` without held cells that follow silence."""
    codes = np.asarray(rolls)
    if codes.ndim == 4 and codes.shape[1] == 1:
        codes = codes[:, 0]
    codes = codes[None] if codes.ndim == 2 else codes
    if codes.ndim != 3 or codes.shape[1] != NUM_PITCHES or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"codes have the shape (N, {NUM_PITCHES}, steps) and whole numbers, not {codes.shape}")
    return clean_codes(codes)


# --- Figures of each roll ---------------------------------------------------------------------------------------------


def note_density(rolls: Any, steps_per_quarter: int = STEPS_PER_QUARTER) -> np.ndarray:
    """Onsets a quarter note, over the whole roll, silence included; float64 `(N,)`."""
    codes = _batch(rolls)
    return (codes >= FIRST_ONSET).sum(axis=(1, 2)) / codes.shape[2] * steps_per_quarter


def mean_polyphony(rolls: Any) -> np.ndarray:
    """Mean number of sounding pitches in steps in which anything sounds; `nan` for silence; `(N,)`."""
    sounding = (_batch(rolls) != SILENCE).sum(axis=1)  # (N, T)
    busy = (sounding > 0).sum(axis=1)
    return np.where(busy > 0, sounding.sum(axis=1) / np.maximum(busy, 1), np.nan)


def pitch_range(rolls: Any) -> np.ndarray:
    """Semitones from the lowest sounding pitch to the highest; `nan` for silence; `(N,)`."""
    used = (_batch(rolls) != SILENCE).any(axis=2)  # (N, P)
    low, high = used.argmax(axis=1), NUM_PITCHES - 1 - used[:, ::-1].argmax(axis=1)
    return np.where(used.any(axis=1), (high - low).astype(np.float64), np.nan)


def scale_consistency(rolls: Any) -> np.ndarray:
    """Share of onsets in the major or harmonic minor scale that holds most of them; `nan` without onsets; `(N,)`."""
    counts = histogram_of_pitch_classes(rolls)  # (N, 12)
    scales = np.zeros((24, 12))
    for k in range(12):
        scales[k, [(k + d) % 12 for d in _MAJOR]] = 1
        scales[12 + k, [(k + d) % 12 for d in _HARMONIC_MINOR]] = 1
    best, total = (counts @ scales.T).max(axis=1), counts.sum(axis=1)
    return np.where(total > 0, best / np.maximum(total, 1), np.nan)


def groove_similarity(rolls: Any, bar_steps: int = BAR_STEPS) -> np.ndarray:
    """1 - mean share of steps in which neighbouring bars differ about having an onset; `nan` for one bar; `(N,)`."""
    onsets = np.any(_batch(rolls) >= FIRST_ONSET, axis=1)  # (N, T)
    bars = onsets.shape[1] // bar_steps
    if bars < 2:
        return np.full(len(onsets), np.nan)
    grooves = onsets[:, : bars * bar_steps].reshape(len(onsets), bars, bar_steps)
    return 1 - (grooves[:, 1:] != grooves[:, :-1]).mean(axis=(1, 2))


def empty_beat_rate(rolls: Any, steps_per_quarter: int = STEPS_PER_QUARTER) -> np.ndarray:
    """Share of quarters in which nothing sounds; `(N,)`."""
    sounding = np.any(_batch(rolls) != SILENCE, axis=1)  # (N, T)
    beats = max(1, sounding.shape[1] // steps_per_quarter)
    whole = sounding[:, : beats * steps_per_quarter].reshape(len(sounding), beats, -1)
    return 1 - whole.any(axis=2).mean(axis=1)


FIGURES: dict[str, Callable[[Any], np.ndarray]] = {
    "note_density": note_density,
    "mean_polyphony": mean_polyphony,
    "pitch_range": pitch_range,
    "scale_consistency": scale_consistency,
    "groove_similarity": groove_similarity,
    "empty_beat_rate": empty_beat_rate,
}


# --- Histograms -------------------------------------------------------------------------------------------------------


def histogram_of_pitch_classes(rolls: Any) -> np.ndarray:
    """Onsets of each pitch class, C first; `(N, 12)`."""
    onsets = (_batch(rolls) >= FIRST_ONSET).sum(axis=2)  # (N, P)
    return onsets @ np.eye(12)[np.arange(NUM_PITCHES) % 12]


def histogram_of_durations(rolls: Any) -> np.ndarray:
    """Notes of each length in steps, 1 first; `(N, MAX_DURATION_STEPS)`."""
    rows = []
    for codes in _batch(rolls):
        steps = _onset_notes(codes)[:, 1]
        rows.append(np.bincount(np.minimum(steps, MAX_DURATION_STEPS) - 1, minlength=MAX_DURATION_STEPS))
    return np.array(rows, dtype=np.float64).reshape(-1, MAX_DURATION_STEPS)


def histogram_of_velocities(rolls: Any, *, loudness_classes: int = NUM_LOUDNESS) -> np.ndarray:
    """Onsets of each loudness class of 32, also of rolls with 127, so that they compare; `(N, 32)`."""
    batch = coarse_codes(_batch(rolls), loudness_classes=loudness_classes)
    classes = range(FIRST_ONSET, FIRST_ONSET + NUM_LOUDNESS)
    return np.stack([(batch == k).sum(axis=(1, 2)) for k in classes], axis=1).astype(np.float64)


def histogram_of_onset_intervals(rolls: Any) -> np.ndarray:
    """Steps from one onset (of any pitch) to the next in time, 1 first; `(N, MAX_INTERVAL_STEPS)`."""
    rows = []
    for codes in _batch(rolls):
        gaps = np.diff(np.flatnonzero((codes >= FIRST_ONSET).any(axis=0)))
        rows.append(np.bincount(np.minimum(gaps, MAX_INTERVAL_STEPS) - 1, minlength=MAX_INTERVAL_STEPS))
    return np.array(rows, dtype=np.float64).reshape(-1, MAX_INTERVAL_STEPS)


#: Of rolls in 32 loudness classes; `histograms_of` takes others, too.
HISTOGRAMS: dict[str, Callable[[Any], np.ndarray]] = {
    "pitch_class": histogram_of_pitch_classes,
    "duration": histogram_of_durations,
    "velocity": histogram_of_velocities,
    "onset_interval": histogram_of_onset_intervals,
}


def histograms_of(rolls: Any, *, loudness_classes: int = NUM_LOUDNESS) -> dict[str, np.ndarray]:
    """All `HISTOGRAMS` of rolls; their bins do not depend on the number of loudness classes."""
    coarse = coarse_codes(rolls, loudness_classes=loudness_classes)
    return {name: histogram(coarse) for name, histogram in HISTOGRAMS.items()}


def _onset_notes(codes: np.ndarray) -> np.ndarray:
    """Notes whose onset is in the roll; their loudness is left out."""
    notes = notes_of_codes(np.minimum(codes, FIRST_ONSET))
    return notes[codes[notes[:, 2], notes[:, 0]] >= FIRST_ONSET]


def overlapping_area(first: Any, second: Any) -> float:
    """Common area of two histograms after each is scaled to area 1: 1 for the same shape, 0 for no common bin.

    Args:
        first: Counts `(K,)`, or `(N, K)`, which are added up.
        second: Counts of the same bins.

    Returns:
        `nan` when one of them is empty.
    """
    shapes = []
    for counts in (first, second):
        pooled = np.asarray(counts, dtype=np.float64).reshape(-1, np.shape(counts)[-1]).sum(axis=0)
        if not pooled.sum() > 0:
            return float("nan")
        shapes.append(pooled / pooled.sum())
    if len(shapes[0]) != len(shapes[1]):
        raise ValueError(f"{len(shapes[0])} bins against {len(shapes[1])}")
    return float(np.minimum(*shapes).sum())


def overlap_estimate(
    generated: Any,
    real: Any,
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Estimate:
    """Overlapping area of two sets of histograms, with a percentile bootstrap over rolls and pieces.

    A resample repeats some rolls and leaves out others, so its area is a little smaller than that of the sample: the
    interval lies low rather than high.

    Args:
        generated: Counts `(N, K)` of generated rolls; each is a unit.
        real: Counts `(M, K)` of real rolls.
        groups: Piece of each real roll; whole pieces are drawn.
        seed: Seed of the resampling.
        resamples: Number of bootstrap samples.
    """
    made, true = np.asarray(generated, dtype=np.float64), np.asarray(real, dtype=np.float64)
    index = _group_index(groups, len(true))
    pieces = np.zeros((int(index.max(initial=-1)) + 1, true.shape[1]))
    np.add.at(pieces, index, true)
    value = overlapping_area(made, true)
    if value != value:
        return Estimate(value, value, value, 0, "rolls", len(pieces))
    rng = np.random.default_rng(seed)
    areas = []
    for _ in range(resamples):
        one = rng.multinomial(len(made), np.full(len(made), 1 / len(made))) @ made
        other = rng.multinomial(len(pieces), np.full(len(pieces), 1 / len(pieces))) @ pieces
        areas.append(overlapping_area(one, other))
    low, high = np.nanpercentile(areas, [2.5, 97.5])
    return Estimate(value, float(low), float(high), len(made), "rolls", len(pieces))


# --- Seams of inpainting ----------------------------------------------------------------------------------------------


def seam_pitch_step(codes: Any, step: int, reach: int = BAR_STEPS) -> float:
    """Semitones between the top onsets on both sides of a place in time.

    Args:
        codes: One roll `(128, T)`.
        step: First step after the seam.
        reach: How far to look for an onset on each side.

    Returns:
        Absolute interval from the last step with an onset before the seam to the first one at or after it, between
        their highest onsets; `nan` when a side has none.
    """
    roll = _batch(codes)[0]
    onsets = roll >= FIRST_ONSET
    before = np.flatnonzero(onsets[:, max(0, step - reach) : step].any(axis=0))
    after = np.flatnonzero(onsets[:, step : step + reach].any(axis=0))
    if not len(before) or not len(after):
        return float("nan")
    top = [int(np.flatnonzero(onsets[:, t])[-1]) for t in (max(0, step - reach) + before[-1], step + after[0])]
    return float(abs(top[1] - top[0]))


def seam_onset_rates(codes: Any, step: int, reach: int = STEPS_PER_QUARTER) -> tuple[float, float]:
    """Onsets a step in the last `reach` steps before a seam, and in the first ones after it."""
    onsets = (_batch(codes)[0] >= FIRST_ONSET).sum(axis=0)
    before, after = onsets[max(0, step - reach) : step], onsets[step : step + reach]
    return tuple(float(side.mean()) if len(side) else float("nan") for side in (before, after))  # type: ignore[return-value]


# --- All together -----------------------------------------------------------------------------------------------------


def summarise(rolls: Any, groups: Sequence[Hashable] | None = None, *, seed: int = 0) -> dict[str, Estimate]:
    """Mean of every figure over rolls, with a bootstrap over pieces; silent rolls have some figures only."""
    found = {}
    for name, figure in FIGURES.items():
        values = figure(rolls)
        has = ~np.isnan(values)
        kept = None if groups is None else [group for group, keep in zip(groups, has, strict=True) if keep]
        found[name] = ratio(values[has].tolist(), [1.0] * int(has.sum()), kept, seed=seed, unit="rolls")
    return found


def compare(
    generated: Any,
    real: Any,
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    loudness_classes: int = NUM_LOUDNESS,
) -> dict[str, dict[str, Any]]:
    """Generated against real rolls.

    Args:
        generated: Codes `(N, 128, T)`.
        real: Codes `(M, 128, T)`.
        groups: Piece of each real roll.
        seed: Seed of the bootstraps.
        loudness_classes: Of both.

    Returns:
        For each of `FIGURES`: `generated`, `real` (`Estimate`s of the means) and `relative`, their difference over the
        real one; for each of `HISTOGRAMS`, as `overlap_<name>`: `overlap`, an `Estimate`.
    """
    made, true = summarise(generated, seed=seed), summarise(real, groups, seed=seed)
    found: dict[str, dict[str, Any]] = {}
    for name in FIGURES:
        base = true[name].value
        relative = (made[name].value - base) / base if base else float("nan")
        found[name] = {"generated": made[name], "real": true[name], "relative": relative}
    ours, theirs = (histograms_of(rolls, loudness_classes=loudness_classes) for rolls in (generated, real))
    for name in HISTOGRAMS:
        area = overlap_estimate(ours[name], theirs[name], groups, seed=seed)
        found[f"overlap_{name}"] = {"overlap": area}
    return found


def flat_figures(compared: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """`compare` as plain numbers, for logs: `note_density`, `note_density_relative`, `overlap_duration`, ..."""
    flat: dict[str, float] = {}
    for name, entry in compared.items():
        if "overlap" in entry:
            flat[name] = entry["overlap"].value
        else:
            flat |= {name: entry["generated"].value, f"{name}_relative": entry["relative"]}
    return flat
