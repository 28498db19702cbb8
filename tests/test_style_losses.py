"""What StyleEncoder learns by, against the papers and cases made by hand."""

from __future__ import annotations

import math

import torch
from torch import nn

from intermezzo.modeling.style_losses import (
    contrastive_match,
    mask_loss,
    masked_cosine,
    masked_regression,
    supervised_contrastive,
)

torch.set_num_threads(1)


def test_regression_is_a_part_of_the_targets_size_and_counts_only_the_mask() -> None:
    torch.manual_seed(0)
    target, mask = torch.randn(3, 4, 5), torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]])
    assert masked_regression(target, target, mask) == 0
    torch.testing.assert_close(masked_regression(torch.zeros_like(target), target, mask), torch.tensor(1.0))
    guess = target + 0.1 * torch.randn_like(target)
    small = masked_regression(guess, target, mask)
    torch.testing.assert_close(masked_regression(1e3 * guess, 1e3 * target, mask), small)  # no unit
    moved = torch.where(mask.bool()[..., None], guess, guess + 100)
    assert torch.equal(masked_regression(moved, target, mask), small)
    assert masked_regression(guess, target, torch.zeros_like(mask)) == 0
    torch.testing.assert_close(masked_cosine(-target, target, mask), torch.tensor(2.0))
    torch.testing.assert_close(masked_cosine(3 * target, target), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_mask_loss_is_the_mean_over_rows_with_a_target() -> None:
    logits = torch.tensor([[2.0, -2.0], [0.0, 0.0]])
    target = torch.tensor([[1, 0], [1, 1]])
    first = -math.log(1 / (1 + math.exp(-2)))
    torch.testing.assert_close(mask_loss(logits, target), torch.tensor((first + math.log(2)) / 2))
    torch.testing.assert_close(mask_loss(logits, target, torch.tensor([1, 0])), torch.tensor(first))


def supcon_by_the_book(vectors: torch.Tensor, labels: list[int], temperature: float) -> float:
    """Equation 2 of the paper, with loops."""
    z = nn.functional.normalize(vectors, dim=-1)
    losses = []
    for i, own in enumerate(labels):
        others = [a for a in range(len(labels)) if a != i and labels[a] != -1]
        positive = [p for p in others if labels[p] == own]
        if own != -1 and positive:
            below = sum(math.exp(float(z[i] @ z[a]) / temperature) for a in others)
            part = [math.log(math.exp(float(z[i] @ z[p]) / temperature) / below) for p in positive]
            losses.append(-sum(part) / len(part))
    return sum(losses) / len(losses)


def test_the_contrastive_loss_is_the_papers() -> None:
    torch.manual_seed(0)
    vectors, labels = torch.randn(7, 5), [0, 0, 0, 1, 1, 2, -1]
    found = supervised_contrastive(vectors, torch.tensor(labels), 0.5)
    assert abs(found.item() - supcon_by_the_book(vectors, labels, 0.5)) < 1e-5
    moved = vectors.clone()
    moved[6] += 5  # unknown style: no part in it
    assert torch.equal(supervised_contrastive(moved, torch.tensor(labels), 0.5), found)
    alone = vectors.clone().requires_grad_()
    loss = supervised_contrastive(alone, torch.arange(7), 0.5)
    loss.backward()
    assert loss == 0 and alone.grad.abs().sum() == 0  # no pair: nothing to learn, and no NaN


def test_matching_counts_equal_texts_as_one_answer() -> None:
    torch.manual_seed(0)
    texts = torch.randn(3, 6) + 4  # a narrow cone, as sentence encoders give
    target = texts[[0, 0, 1, 2]]
    right = contrastive_match(target, target, 0.05)
    assert right < 0.4  # two equal texts share one answer: log 2 for half of the rows at most
    assert contrastive_match(target.flip(0), target, 0.05) > right + 1
    swapped = contrastive_match(target[[1, 0, 2, 3]], target, 0.05)
    torch.testing.assert_close(swapped, right)
    assert contrastive_match(target[:1], target[:1]) == 0
    rows = torch.tensor([1, 1, 1, 0])
    noise = target.clone()
    noise[3] = 99
    torch.testing.assert_close(contrastive_match(target, noise, rows=rows), contrastive_match(target[:3], target[:3]))
