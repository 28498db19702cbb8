"""Figures of StyleEncoder: does it tell styles apart, find the name of a picture, and hit a text encoder's output?

Sources: the area under the ROC curve as the chance that a same-style pair scores above a different-style one, ties
counted half, J. A. Hanley and B. J. McNeil, Radiology 143 (1982), 29-36; intervals as in `metrics_common`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from .metrics_common import Estimate, proportion, ratio


def _rows(values: Any) -> np.ndarray:
    """Array or tensor as float64 `(N, D)`.

    Raises:
        ValueError: Another number of axes.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu().float().numpy()
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"vectors have the shape (N, D), got {array.shape}")
    return array


def _unit(array: np.ndarray) -> np.ndarray:
    return array / np.maximum(np.linalg.norm(array, axis=-1, keepdims=True), 1e-12)


def auc(same: Any, different: Any) -> float:
    """Chance that a value of `same` lies above one of `different`; ties count half, `nan` where one is empty."""
    same, different = np.ravel(np.asarray(same, float)), np.sort(np.ravel(np.asarray(different, float)))
    if not len(same) or not len(different):
        return float("nan")
    below = np.searchsorted(different, same, "left")
    upto = np.searchsorted(different, same, "right")
    return float((below + upto).sum() / (2 * len(same) * len(different)))


def _weighted_auc(order: np.ndarray, ties: np.ndarray, is_same: np.ndarray, weights: np.ndarray) -> float:
    """`auc` of weighted pairs that are sorted by `order` and numbered by equal scores in `ties`."""
    weights, is_same = weights[order], is_same[order]
    number = int(ties[-1]) + 1
    same = np.bincount(ties, weights=weights * is_same, minlength=number)
    different = np.bincount(ties, weights=weights * ~is_same, minlength=number)
    if not same.sum() or not different.sum():
        return float("nan")
    below = np.cumsum(different) - different
    return float((same * (below + different / 2)).sum() / (same.sum() * different.sum()))


def pair_auc(
    vectors: Any,
    styles: Sequence[Hashable],
    groups: Sequence[Hashable] | None = None,
    *,
    max_pairs: int = 200_000,
    resamples: int = 500,
    seed: int = 0,
) -> Estimate:
    """Do pictures of one style score higher than pictures of two?

    All pairs of two pictures are compared by the cosine of their vectors. Pairs share pictures, and pictures of one
    content are alike, so the interval comes from resampling whole contents: a pair counts as often as its two pictures
    were drawn.

    Args:
        vectors: `(N, S)`.
        styles: Style of each picture.
        groups: Content of each picture, such as the piece or the name; each picture by itself when left out.
        max_pairs: Draw so many pairs at random where there are more.
        resamples: Bootstrap samples.
        seed: Decides drawing and resampling.

    Returns:
        The area; `n` counts pairs. `nan` where there are no pairs of one of the two kinds.

    Raises:
        ValueError: The sequences differ in length.
    """
    unit = _unit(_rows(vectors))
    count = len(unit)
    groups = list(range(count)) if groups is None else list(groups)
    if len(styles) != count or len(groups) != count:
        raise ValueError(f"{count} vectors, {len(styles)} styles, {len(groups)} groups")
    generator = np.random.default_rng(seed)
    first, second = np.triu_indices(count, 1)
    if len(first) > max_pairs:
        chosen = np.sort(generator.choice(len(first), max_pairs, replace=False))
        first, second = first[chosen], second[chosen]
    style, group = _numbered(styles), _numbered(groups)
    number = int(group.max(initial=-1)) + 1
    is_same = style[first] == style[second]
    if not is_same.any() or is_same.all():
        return Estimate(float("nan"), float("nan"), float("nan"), 0, "pairs", number)
    starts = range(0, len(first), 10_000)  # in parts: all pairs of wide vectors at once would take gigabytes
    parts = [np.einsum("nd,nd->n", unit[first[k : k + 10_000]], unit[second[k : k + 10_000]]) for k in starts]
    scores = np.concatenate(parts).round(12)  # rounding noise is no difference
    order = np.argsort(scores, kind="stable")
    ties = np.concatenate([[0], np.cumsum(np.diff(scores[order]) > 0)])
    value = _weighted_auc(order, ties, is_same, np.ones(len(first)))
    samples = []
    for _ in range(resamples):
        drawn = np.bincount(generator.integers(0, number, number), minlength=number)[group]  # (N,) times drawn
        samples.append(_weighted_auc(order, ties, is_same, (drawn[first] * drawn[second]).astype(float)))
    low, high = np.nanpercentile(samples, [2.5, 97.5]) if np.isfinite(samples).any() else (np.nan, np.nan)
    return Estimate(value, float(low), float(high), len(first), "pairs", number)


def _numbered(items: Sequence[Hashable]) -> np.ndarray:
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(item, len(numbers)) for item in items], dtype=np.int64)


def standing(value: float, same: Any, different: Any) -> dict[str, float]:
    """How one similarity stands among known pairs.

    Args:
        value: Cosine of the pair in question.
        same, different: Cosines of pairs of one style, and of two.

    Returns:
        `above_same` and `above_different`: the part of each that it exceeds, 0 … 1, ties counted half.
    """
    return {"above_same": auc([value], same), "above_different": auc([value], different)}


def retrieval_ranks(queries: Any, candidates: Any, answers: Sequence[int], centred: bool = True) -> np.ndarray:
    """Place of the right candidate, from 1, among all by cosine; of equal ones it comes last.

    Args:
        queries: `(N, D)` pooled embeddings of pictures.
        candidates: `(M, D)` embeddings of names.
        answers: Index of the right candidate of each query.
        centred: Take the candidates' mean from both sides first: sentence encoders crowd into a narrow cone, where
            what is common to all texts would decide.

    Raises:
        ValueError: Widths or lengths that do not fit, or an answer that is no candidate.
    """
    queries, candidates = _rows(queries), _rows(candidates)
    wanted = np.asarray(answers, dtype=np.int64)
    if queries.shape[1] != candidates.shape[1] or len(wanted) != len(queries):
        raise ValueError(f"queries {queries.shape}, candidates {candidates.shape}, {len(wanted)} answers")
    if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(candidates)):
        raise ValueError(f"answers reach from {wanted.min()} to {wanted.max()}, there are {len(candidates)} candidates")
    if centred and len(candidates):
        mean = candidates.mean(0)
        queries, candidates = queries - mean, candidates - mean
    scores = (_unit(queries) @ _unit(candidates).T).round(12)  # (N, M)
    own = scores[np.arange(len(wanted)), wanted]
    return (scores >= own[:, None]).sum(-1)


def retrieval_top_k(
    queries: Any,
    candidates: Any,
    answers: Sequence[int],
    k: int = 5,
    groups: Sequence[Hashable] | None = None,
    centred: bool = True,
) -> Estimate:
    """Part of the pictures whose name is among the `k` nearest; arguments as `retrieval_ranks` and `proportion`."""
    ranks = retrieval_ranks(queries, candidates, answers, centred)
    return proportion([bool(rank <= k) for rank in ranks], groups, "pictures")


def mask_exact(
    predicted: Any, target: Any, groups: Sequence[Hashable] | None = None, threshold: float = 0.5
) -> Estimate:
    """Part of the pictures whose whole mask is right.

    Args:
        predicted: `(N, L)` probabilities, or 0 and 1.
        target: `(N, L)` of 0 and 1.
        groups: Content of each picture.
        threshold: Least probability of a 1.

    Raises:
        ValueError: Shapes that differ.
    """
    found, wanted = _rows(predicted), _rows(target)
    if found.shape != wanted.shape:
        raise ValueError(f"masks of {found.shape} for targets of {wanted.shape}")
    return proportion(((found >= threshold) == (wanted >= 0.5)).all(-1).tolist(), groups, "pictures")


def mean_cosine(predicted: Any, target: Any, groups: Sequence[Hashable] | None = None, seed: int = 0) -> Estimate:
    """Mean cosine of `(N, D)` vectors to their targets, −1 … 1.

    A mean vector, the same for all pictures, is the baseline: `mean_cosine(np.tile(mean, (N, 1)), target)`.

    Raises:
        ValueError: Shapes that differ.
    """
    found, wanted = _rows(predicted), _rows(target)
    if found.shape != wanted.shape:
        raise ValueError(f"vectors of {found.shape} for targets of {wanted.shape}")
    cosines = (_unit(found) * _unit(wanted)).sum(-1)
    return ratio(cosines.tolist(), [1.0] * len(cosines), groups, seed=seed, unit="pictures")


def mean_vector_baseline(target: Any, training_mean: Any, groups: Sequence[Hashable] | None = None) -> Estimate:
    """`mean_cosine` of always answering with the mean of the training targets."""
    wanted = _rows(target)
    mean = _rows(np.asarray(training_mean, dtype=np.float64)[None])
    return mean_cosine(np.repeat(mean, len(wanted), axis=0), wanted, groups)


__all__ = [
    "auc",
    "mask_exact",
    "mean_cosine",
    "mean_vector_baseline",
    "pair_auc",
    "retrieval_ranks",
    "retrieval_top_k",
    "standing",
]
