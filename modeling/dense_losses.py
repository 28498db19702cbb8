"""Losses of the dense score tower: pure functions of logits and labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F

# A label of -100 is left out, as in torch's cross entropy. Presence fields are labelled everywhere, attribute fields
# only where the thing is, so the weights bring them to a like scale.
PRESENCE = {"frets": 1.0, "beats": 1.0}
ATTRIBUTES = {
    "string_voice": 0.3,
    "durations": 1.0,
    "dots": 0.5,
    "tuplets": 0.5,
    "graces": 0.5,
    "tempo_digits": 0.5,
}
FLAGS = {"note_effects": 2.0, "beat_effects": 1.0, "bar_starts": 0.5, "bar_ends": 0.5}


def dense_loss(
    logits: dict[str, torch.Tensor], labels: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Sums the losses of all fields.

    Presence (`frets`, `beats`) is a cross entropy over every column, divided by the number of *present* ones: nearly
    all columns are empty, and a plain mean would drown the few that matter. Attributes are means over the labelled
    places; flags are sums over the classes, averaged over the labelled places.

    Args:
        logits: See `DenseHeads`.
        labels: Same leading axes; integer classes, or floats in {0, 1} for flags with -100 where left out.

    Returns:
        The scalar loss, and the detached losses by field.
    """
    losses: dict[str, torch.Tensor] = {}
    for name, weight in PRESENCE.items():
        target = labels[name].long()
        total = F.cross_entropy(logits[name].flatten(0, -2), target.flatten(), ignore_index=-100, reduction="sum")
        losses[name] = weight * total / (target > 0).sum().clamp(min=1)
    for name, weight in ATTRIBUTES.items():
        target = labels[name].long()
        count = (target != -100).sum().clamp(min=1)
        total = F.cross_entropy(logits[name].flatten(0, -2), target.flatten(), ignore_index=-100, reduction="sum")
        losses[name] = weight * total / count
    for name, weight in FLAGS.items():
        losses[name] = weight * _flag_loss(logits[name], labels[name])
    edges = labels["bar_edges"].float()
    valid = (edges >= 0).float()
    total = F.binary_cross_entropy_with_logits(logits["bar_edges"], edges.clamp(min=0), weight=valid, reduction="sum")
    losses["bar_edges"] = total / (edges > 0).sum().clamp(min=1)
    return torch.stack(list(losses.values())).sum(), {name: value.detach() for name, value in losses.items()}


def _flag_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """`target` is `(..., K)`; a place whose first flag is negative is left out."""
    place = target[..., 0] >= 0
    if not place.any():
        return logits.sum() * 0.0
    chosen, wanted = logits[place], target[place].float()
    return F.binary_cross_entropy_with_logits(chosen, wanted, reduction="sum") / place.sum()
