"""Confidence intervals that every metric of the project shares.

A test set of systems is not a set of independent draws: the systems of one piece are alike. So intervals
of ratios resample whole pieces, and intervals of shares count fewer systems where the pieces agree.

Sources: percentile bootstrap, B. Efron and R. Tibshirani, *An Introduction to the Bootstrap* (1993), ch. 13;
resampling whole groups, A. Davison and D. Hinkley, *Bootstrap Methods and their Application* (1997), ch. 3.8;
score interval of a share, E. B. Wilson, JASA 22 (1927), 209-212; design effect, L. Kish, *Survey Sampling* (1965).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """One figure with its 95 % confidence interval.

    Args:
        value: The figure; `nan` when there was nothing to measure.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Units measured (systems, bars, symbols: see `unit`).
        unit: What `n` counts.
        groups: Pieces that the units come from; 0 when unknown.
        method: `"wilson"` or `"bootstrap"`.
    """

    value: float
    low: float
    high: float
    n: int
    unit: str = "systems"
    groups: int = 0
    method: str = "bootstrap"

    def as_dict(self) -> dict[str, Any]:
        """The estimate as plain values for JSON (`nan` becomes `None`)."""
        return {k: None if isinstance(v, float) and v != v else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Estimate:
        """The estimate that `as_dict` wrote."""
        values: dict[str, Any] = {k: float("nan") if v is None else v for k, v in plain.items()}
        return cls(**values)


def _group_index(groups: Sequence[Hashable] | None, count: int) -> np.ndarray:
    """Number the groups 0..G-1 in order of appearance; without groups each unit is its own.

    Returns:
        Integers, shape `(count,)`.

    Raises:
        ValueError: `groups` has another length than the data.
    """
    if groups is None:
        return np.arange(count)
    if len(groups) != count:
        raise ValueError(f"{len(groups)} groups for {count} values")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)


def wilson_interval(successes: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share.

    Args:
        successes: Number of successes, 0..n (a fraction is allowed for an effective sample size).
        n: Number of trials; 0 gives the interval (0, 1).

    Returns:
        Lower and upper end, inside [0, 1].

    Raises:
        ValueError: More successes than trials, or a negative count.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} trials")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    scale = 1 + Z_95**2 / n
    centre = (share + Z_95**2 / (2 * n)) / scale
    half = Z_95 / scale * (share * (1 - share) / n + Z_95**2 / (4 * n * n)) ** 0.5
    # The ends are exactly 0 and 1 at the edges; rounding must not make them 1e-17 or 0.9999....
    return (0.0 if successes == 0 else max(0.0, centre - half)), (1.0 if successes == n else min(1.0, centre + half))


def design_effect(outcomes: Sequence[float], groups: Sequence[Hashable] | None) -> float:
    """How much wider the variance of a mean is because units of one group are alike (Kish).

    Args:
        outcomes: 0/1 outcome of each unit, shape `(n,)`.
        groups: Group of each unit; `None` for independent units.

    Returns:
        At least 1. It is 1 when all outcomes are equal: then there is no variance to compare.
    """
    values = np.asarray(outcomes, dtype=np.float64)
    index = _group_index(groups, len(values))
    count, number = len(values), int(index.max(initial=-1)) + 1
    share = float(values.mean()) if count else 0.0
    if number < 2 or number == count or share in (0.0, 1.0):
        return 1.0
    deviations = np.bincount(index, weights=values - share, minlength=number)  # (G,)
    clustered = number / (number - 1) * float((deviations**2).sum()) / count**2
    return max(1.0, clustered / (share * (1 - share) / count))


def proportion(
    outcomes: Sequence[bool | int], groups: Sequence[Hashable] | None = None, unit: str = "systems"
) -> Estimate:
    """Share of successes with Wilson's interval on the effective sample size n / design effect.

    Args:
        outcomes: Success of each unit, shape `(n,)`.
        groups: Piece of each unit, shape `(n,)`, or `None`.
        unit: What a unit is.

    Returns:
        The share; `nan` with interval (0, 1) for no units.
    """
    values = [float(bool(outcome)) for outcome in outcomes]
    count = len(values)
    number = len(set(groups)) if groups is not None else 0
    if count == 0:
        return Estimate(float("nan"), 0.0, 1.0, 0, unit, 0, "wilson")
    share = sum(values) / count
    effective = count / design_effect(values, groups)
    low, high = wilson_interval(min(share * effective, effective), effective)
    return Estimate(share, low, high, count, unit, number, "wilson")


def ratio(
    numerators: Sequence[float],
    denominators: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    resamples: int = 2000,
    unit: str = "systems",
) -> Estimate:
    """Ratio of sums with a percentile bootstrap over whole groups.

    `sum(numerators) / sum(denominators)` covers means (denominators 1), error rates (errors / symbols) and
    F1 (2 true positives / (predicted + true)). The interval closes to a point when every unit is the same,
    which says that the sample shows no spread, not that there is none: read the Wilson share beside it.

    Args:
        numerators: Numerator of each unit, shape `(n,)`.
        denominators: Denominator of each unit, shape `(n,)`, not negative.
        groups: Piece of each unit, shape `(n,)`, or `None` (each unit its own group).
        seed: Seed of the resampling; the same seed gives the same interval.
        resamples: Number of bootstrap samples.
        unit: What the denominators count.

    Returns:
        The ratio; `nan` when the denominators sum to 0.

    Raises:
        ValueError: The three sequences differ in length.
    """
    top = np.asarray(numerators, dtype=np.float64)
    bottom = np.asarray(denominators, dtype=np.float64)
    if top.shape != bottom.shape:
        raise ValueError(f"{top.size} numerators for {bottom.size} denominators")
    index = _group_index(groups, top.size)
    total = float(bottom.sum())
    number = int(index.max(initial=-1)) + 1
    if total == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, unit, number, "bootstrap")
    tops = np.bincount(index, weights=top, minlength=number)  # (G,)
    bottoms = np.bincount(index, weights=bottom, minlength=number)  # (G,)
    generator = np.random.default_rng(seed)
    samples = []
    for start in range(0, resamples, 200):  # chunks bound the memory at 200 x G integers
        rows = min(200, resamples - start)
        draws = generator.integers(0, number, size=(rows, number))  # (rows, G)
        below = bottoms[draws].sum(axis=1)
        samples.append(np.divide(tops[draws].sum(axis=1), below, out=np.full(rows, np.nan), where=below > 0))
    low, high = np.nanpercentile(np.concatenate(samples), [2.5, 97.5])
    return Estimate(float(top.sum()) / total, float(low), float(high), round(total), unit, number, "bootstrap")
