"""What StyleEncoder learns by: nearness to a text encoder's output, and agreement of pictures of one style.

All functions compute in float32 and give a scalar that is 0, with a gradient of 0, where there is nothing to learn
from, so that one bad batch does not turn the weights into NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
import torch.nn.functional as F

UNKNOWN_STYLE = -1
_SAME_TARGET = 1 - 1e-4  # cosine from which on two targets count as one text


def _without_autocast(loss: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Autocast would multiply in bfloat16, whose three digits are not enough once divided by a temperature."""

    @wraps(loss)
    def in_float32(first: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        with torch.autocast(first.device.type, enabled=False):
            return loss(first, *args, **kwargs)

    return in_float32


def masked_regression(predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Squared error as a part of the target's own square: 0 = exact, 1 = no better than predicting zeros.

    A part, because text encoders differ a thousandfold in the size of their outputs, and the weights of the losses
    should not have to.

    Args:
        predicted: `(B, L, D)` or `(B, D)`.
        target: The same shape.
        mask: `(B, L)`, or `(B,)` for `(B, D)`: 1 where the target counts; everywhere when left out.
    """
    predicted, target = predicted.float(), target.float()
    error, size = (predicted - target).square().sum(-1), target.square().sum(-1)  # (B, L) or (B,)
    if mask is not None:
        # Chosen, not multiplied: 0 times the NaN of a padded place would be NaN.
        error = torch.where(mask.bool(), error, error.new_zeros(()))
        size = torch.where(mask.bool(), size, size.new_zeros(()))
    total = size.sum()
    if total == 0:
        return predicted.sum() * 0.0
    return error.sum() / total


def masked_cosine(predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Mean of 1 − cosine, 0 … 2, over the places that count; arguments as `masked_regression`."""
    distance = 1 - F.cosine_similarity(predicted.float(), target.float(), dim=-1)  # (B, L) or (B,)
    if mask is None:
        return distance.mean()
    chosen = torch.where(mask.bool(), distance, distance.new_zeros(()))
    return chosen.sum() / mask.bool().sum().clamp(min=1)


def mask_loss(logits: torch.Tensor, target: torch.Tensor, rows: torch.Tensor | None = None) -> torch.Tensor:
    """Binary cross entropy of the places of the mask.

    Args:
        logits: `(B, L)`.
        target: `(B, L)` of 0 and 1.
        rows: `(B,)`, 1 where the row has a target; all have when left out.
    """
    each = F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none").mean(-1)  # (B,)
    if rows is None:
        return each.mean()
    return torch.where(rows.bool(), each, each.new_zeros(())).sum() / rows.bool().sum().clamp(min=1)


@_without_autocast
def supervised_contrastive(vectors: torch.Tensor, labels: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """Pictures of one style agree, those of others do not (SupCon, arXiv 2004.11362, equation 2, the "out" form).

    Args:
        vectors: `(B, S)`; normalised here.
        labels: `(B,)` whole numbers; -1 takes no part, neither as anchor nor as contrast. An anchor without a second
            picture of its style is passed over.
        temperature: Of the softmax.
    """
    known = labels != UNKNOWN_STYLE
    vectors = F.normalize(vectors.float(), dim=-1)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    others = known[:, None] & known[None] & ~itself  # (B, B)
    positive = others & (labels[:, None] == labels[None])
    count = positive.sum(-1)  # (B,)
    if not count.any():
        return vectors.sum() * 0.0
    similarity = vectors @ vectors.T / temperature  # (B, B)
    anchors = count > 0
    log_part = similarity[anchors].masked_fill(~others[anchors], float("-inf"))
    log_part = similarity[anchors] - log_part.logsumexp(-1, keepdim=True)
    each = torch.where(positive[anchors], log_part, log_part.new_zeros(())).sum(-1) / count[anchors]
    return -each.mean()


@_without_autocast
def pair_agreement(
    vectors: torch.Tensor, labels: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Is a pair of one style or of two? By one threshold for all pairs, where `supervised_contrastive` only ranks.

    Logistic loss of each pair (SigLIP, arXiv 2303.15343, equation 1), with the mean of the pairs of one style and that
    of the pairs of two for equal halves: what the area under the curve over all pairs asks for.

    Args:
        vectors: `(B, S)`; normalised here.
        labels: `(B,)` whole numbers; -1 takes no part.
        scale, bias: Scalars that turn cosines into log odds; they learn, too.
    """
    known = labels != UNKNOWN_STYLE
    vectors = F.normalize(vectors.float(), dim=-1)
    others = torch.triu(known[:, None] & known[None], diagonal=1)  # (B, B), each pair once
    same = labels[:, None] == labels[None]
    odds = scale * (vectors @ vectors.T) + bias
    parts = [F.softplus(sign * odds[others & chosen]) for sign, chosen in ((-1, same), (1, ~same))]
    return sum((part.mean() for part in parts if len(part)), vectors.sum() * 0.0)


@_without_autocast
def contrastive_match(
    predicted: torch.Tensor, target: torch.Tensor, temperature: float = 0.1, rows: torch.Tensor | None = None
) -> torch.Tensor:
    """A picture is nearer to its own text than to the other texts of the batch, and the other way round.

    As CLIP (arXiv 2103.00020, section 2.3), but texts that are equal count as one answer: a batch may hold the same
    icon in several styles. The batch's mean text is taken from both sides first, because sentence encoders crowd into
    a narrow cone in which all cosines are high.

    Args:
        predicted: `(B, D)` pooled embeddings of pictures.
        target: `(B, D)` those of their texts.
        temperature: Of the softmax.
        rows: `(B,)`, 1 where the row has a target; all have when left out.
    """
    predicted, target = predicted.float(), target.float()
    if rows is not None:
        predicted, target = predicted[rows.bool()], target[rows.bool()]
    if len(target) < 2:
        return predicted.sum() * 0.0
    same = F.cosine_similarity(target[:, None], target[None], dim=-1) >= _SAME_TARGET  # (B, B)
    mean = target.mean(0)
    logits = F.normalize(predicted - mean, dim=-1) @ F.normalize(target - mean, dim=-1).T / temperature
    answer = same.float() / same.sum(-1, keepdim=True)
    return (F.cross_entropy(logits, answer) + F.cross_entropy(logits.T, answer)) / 2


@_without_autocast
def soft_answers(targets: torch.Tensor, names: torch.Tensor, softness: float = 0.07) -> torch.Tensor:
    """Which names a picture may be given: above all its own, and a little those that mean nearly the same.

    "waste basket" is no wrong answer for a picture called "bin", and a text encoder knows that.

    Args:
        targets: `(B, D)` texts of the pictures.
        names: `(M, D)` texts to choose from.
        softness: Temperature; towards 0 only a picture's own name remains.

    Returns:
        `(B, M)`, rows that sum to 1.
    """
    mean = names.float().mean(0)
    own, others = (F.normalize(part.float() - mean, dim=-1) for part in (targets, names))
    return (own @ others.T / softness).softmax(-1)


@_without_autocast
def name_match(
    predicted: torch.Tensor,
    names: torch.Tensor,
    answers: torch.Tensor,
    temperature: float = 0.05,
    rows: torch.Tensor | None = None,
) -> torch.Tensor:
    """A picture is nearer to its own name than to all others of a table.

    Texts do not learn, so the whole table can stand in place of a batch's few (as the fixed weights of a classifier).

    Args:
        predicted: `(B, D)` pooled embeddings of pictures.
        names: `(M, D)` pooled embeddings of names; their mean is taken from both sides, as in `contrastive_match`.
        answers: `(B, M)` how far each name is right; rows sum to 1.
        temperature: Of the softmax.
        rows: `(B,)`, 1 where the row has a target; all have when left out.
    """
    mean = names.float().mean(0)
    pictures, texts = (F.normalize(part.float() - mean, dim=-1) for part in (predicted, names))
    each = -(answers.float() * (pictures @ texts.T / temperature).log_softmax(-1)).sum(-1)  # (B,)
    if rows is None:
        return each.mean()
    return torch.where(rows.bool(), each, each.new_zeros(())).sum() / rows.bool().sum().clamp(min=1)


__all__ = [
    "contrastive_match",
    "mask_loss",
    "masked_cosine",
    "masked_regression",
    "name_match",
    "pair_agreement",
    "soft_answers",
    "supervised_contrastive",
]
