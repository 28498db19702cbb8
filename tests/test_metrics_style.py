"""Figures of StyleEncoder against hand-made cases and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from intermezzo.train.metrics_style import (
    auc,
    mask_exact,
    mean_cosine,
    mean_vector_baseline,
    pair_auc,
    retrieval_ranks,
    retrieval_top_k,
    standing,
)


def test_auc_is_the_chance_to_lie_above() -> None:
    assert auc([2, 3], [0, 1]) == 1.0
    assert auc([0, 1], [2, 3]) == 0.0
    assert auc([1, 1], [1, 1]) == 0.5
    assert auc([0.5, 2], [0, 1]) == 0.75
    assert math.isnan(auc([], [1]))
    generator = np.random.default_rng(0)
    same, different = generator.integers(0, 9, 40), generator.integers(0, 7, 30)
    pairs = [(a > b) + 0.5 * (a == b) for a in same for b in different]
    assert auc(same, different) == pytest.approx(np.mean(pairs))


def styled(noise: float, count: int = 60, seed: int = 0) -> tuple[np.ndarray, list[int], list[int]]:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(4, 6))
    styles = [k % 4 for k in range(count)]
    return centres[styles] + noise * generator.normal(size=(count, 6)), styles, [k // 4 for k in range(count)]


def test_pairs_of_clear_styles_are_told_apart_and_noise_is_not() -> None:
    vectors, styles, groups = styled(0.01)
    clear = pair_auc(vectors, styles, groups, resamples=50)
    assert clear.value == clear.low == clear.high == 1.0
    assert clear.n == 60 * 59 // 2 and clear.groups == 15 and clear.unit == "pairs"
    vectors, styles, groups = styled(1e4)
    noise = pair_auc(vectors, styles, groups, resamples=200)
    assert noise.low < 0.5 < noise.high and noise.high - noise.low < 0.2
    middle = pair_auc(*styled(1.0), resamples=200)
    assert noise.value < middle.low < middle.value < middle.high < 1


def test_pair_auc_equals_the_plain_count_and_knows_no_length() -> None:
    vectors, styles, _ = styled(1.0, 24)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [(unit[i] @ unit[j], styles[i] == styles[j]) for i in range(24) for j in range(i)]
    plain = auc([s for s, same in pairs if same], [s for s, same in pairs if not same])
    found = pair_auc(torch.tensor(vectors), styles, resamples=10)
    assert found.value == pytest.approx(plain, abs=1e-6)
    again = pair_auc(vectors * np.arange(1, 25)[:, None], styles, resamples=10)
    assert again.value == pytest.approx(found.value, abs=1e-6)
    assert pair_auc(vectors, styles, resamples=10, seed=3) == pair_auc(vectors, styles, resamples=10, seed=3)


def test_many_pairs_are_drawn_at_random() -> None:
    vectors, styles, groups = styled(1.0, 120)
    whole = pair_auc(vectors, styles, groups, resamples=20)
    part = pair_auc(vectors, styles, groups, max_pairs=2000, resamples=20)
    assert part.n == 2000 and part.value == pytest.approx(whole.value, abs=0.05)


def test_alike_contents_widen_the_interval() -> None:
    """Ten copies of each picture are no new evidence when their content is one group."""
    vectors, styles, groups = styled(1.0, 24)
    many = np.repeat(vectors, 10, axis=0) + 1e-3 * np.random.default_rng(1).normal(size=(240, 6))
    more_styles, more_groups = np.repeat(styles, 10).tolist(), np.repeat(groups, 10).tolist()
    by_group = pair_auc(many, more_styles, more_groups, resamples=100)
    by_picture = pair_auc(many, more_styles, None, resamples=100)
    assert by_group.high - by_group.low > 1.5 * (by_picture.high - by_picture.low)


def test_one_style_or_none_gives_no_figure() -> None:
    assert math.isnan(pair_auc(np.eye(3), [1, 1, 1]).value)
    assert math.isnan(pair_auc(np.eye(3), [1, 2, 3]).value)
    with pytest.raises(ValueError, match="3 vectors, 2 styles"):
        pair_auc(np.eye(3), [1, 2])
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        pair_auc(np.ones(3), [1, 2, 3])


def test_standing_among_known_pairs() -> None:
    assert standing(0.6, [0.5, 0.7, 0.8, 0.9], [0.1, 0.2]) == {"above_same": 0.25, "above_different": 1.0}


def test_ranks_of_names() -> None:
    names = np.eye(4)
    assert retrieval_ranks(names, names, [0, 1, 2, 3]).tolist() == [1, 1, 1, 1]
    assert retrieval_ranks(names, names, [1, 2, 3, 0], centred=False).tolist() == [4, 4, 4, 4]  # ties come last
    assert retrieval_ranks(np.zeros((1, 4)), names, [2]).tolist() != [1]  # saying nothing finds nothing
    top = retrieval_top_k(names[[0, 1]], names, [0, 3], k=1)
    assert (top.value, top.n, top.method) == (0.5, 2, "wilson")
    assert 0 < top.low < 0.5 < top.high < 1


def test_a_narrow_cone_does_not_decide() -> None:
    generator = np.random.default_rng(0)
    names = 50 * generator.normal(size=8) + generator.normal(size=(30, 8))
    pictures = 0.5 * (names - names.mean(0)) + names.mean(0) * 0.2
    centred = retrieval_top_k(pictures + 0.8 * names.mean(0), names, range(30), k=1)
    assert centred.value == 1.0


def test_answers_must_be_candidates() -> None:
    with pytest.raises(ValueError, match="reach from 0 to 4, there are 4"):
        retrieval_ranks(np.eye(4), np.eye(4), [0, 1, 2, 4])
    with pytest.raises(ValueError, match="3 answers"):
        retrieval_ranks(np.eye(4), np.eye(4), [0, 1, 2])


def test_masks_are_right_as_a_whole() -> None:
    target = torch.tensor([[1, 1, 0], [1, 0, 0]])
    found = mask_exact(torch.tensor([[0.9, 0.6, 0.1], [0.9, 0.6, 0.1]]), target)
    assert (found.value, found.n) == (0.5, 2)
    with pytest.raises(ValueError, match="masks of"):
        mask_exact(target[:1], target)


def test_cosine_and_its_baseline() -> None:
    target = np.array([[3.0, 0.0], [0.0, 2.0]])
    assert mean_cosine(target * [[5], [0.1]], target).value == pytest.approx(1.0)
    assert mean_cosine(-target, target).value == pytest.approx(-1.0)
    assert mean_vector_baseline(target, [1.0, 1.0]).value == pytest.approx(math.sqrt(0.5))
    with pytest.raises(ValueError, match="vectors of"):
        mean_cosine(target[:1], target)
