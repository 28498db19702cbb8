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
    name_match,
    soft_answers,
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


def test_a_picture_is_matched_to_its_name_among_all() -> None:
    torch.manual_seed(0)
    names = torch.randn(6, 8) + 4  # a narrow cone again
    answers = torch.eye(6)[[2, 5]]
    centred = [nn.functional.normalize(part - names.mean(0), dim=-1) for part in (names[[2, 0]], names)]
    wanted = nn.functional.cross_entropy(centred[0] @ centred[1].T / 0.1, torch.tensor([2, 5]))
    torch.testing.assert_close(name_match(names[[2, 0]], names, answers, 0.1), wanted)
    assert name_match(names[[2, 5]], names, answers, 0.05) < 0.01 < wanted
    rows = torch.tensor([1, 0])
    torch.testing.assert_close(
        name_match(names[[2, 0]], names, answers, 0.1, rows), name_match(names[[2]], names, answers[:1], 0.1)
    )
    predicted = torch.randn(2, 8, requires_grad=True)
    nothing = name_match(predicted, names, answers, 0.1, torch.zeros(2))
    nothing.backward()
    assert nothing == 0 and predicted.grad is not None and predicted.grad.abs().sum() == 0


def test_near_synonyms_share_the_answer_and_strangers_do_not() -> None:
    names = torch.tensor([[1.0, 0.0, 0.0], [0.95, 0.3, 0.0], [-1.0, 0.2, 0.0], [0.0, -1.0, 0.4]])
    hard, soft = soft_answers(names, names, 1e-3), soft_answers(names, names, 0.2)
    torch.testing.assert_close(hard, torch.eye(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(soft.sum(-1), torch.ones(4))
    assert soft.argmax(-1).tolist() == [0, 1, 2, 3]
    assert soft[0, 1] > 20 * soft[0, 2] and soft[0, 1] > 5 * soft[0, 3]


def test_autocast_does_not_coarsen_the_contrastive_losses() -> None:
    torch.manual_seed(0)
    vectors, names = torch.randn(8, 16), torch.randn(12, 16)
    answers, labels = soft_answers(vectors, names), torch.arange(8) // 2

    def losses() -> list[torch.Tensor]:
        return [
            supervised_contrastive(vectors, labels, 0.05),
            contrastive_match(vectors, names[:8], 0.05),
            name_match(vectors, names, answers, 0.01),
            soft_answers(vectors, names, 0.01),
        ]

    plain = losses()
    with torch.autocast("cpu", torch.bfloat16):
        for found, wanted in zip(losses(), plain, strict=True):
            assert torch.equal(found, wanted)
