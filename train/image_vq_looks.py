"""A decoder that is taught to look right to a reader: a perceptual loss by the tower's convolutions.

After Johnson et al. 2016 (arXiv 1603.08155, section 3.2), with the eyes that read tablature in place of a network for
photographs: pixels weigh a closed and an open loop of a digit alike, who reads does not.
"""

from __future__ import annotations

from typing import Any

import torch

from ..modeling.image_vq_tower import at_tower_size
from ..modeling.tower_convolutions import convolve


def looks_apart(tower: Any, drawn: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How far two pictures are apart to a tower: squared distance of features as a part of their mean square.

    Args:
        tower: `ScoreTowerModel`, frozen and in evaluation mode.
        drawn: `(B, 1, H, W)` in [0, 1], 1 = ink, tab lines 8 px apart; gradients reach it.
        wanted: The same shape.

    Returns:
        A scalar, 0 where they look the same.
    """
    with torch.no_grad():
        there = convolve(tower, at_tower_size(wanted.float()))
    here = convolve(tower, at_tower_size(drawn.float()))
    return (here - there).square().mean() / there.square().mean().clamp(min=1e-8)


class LossWithLooks:
    """The loss of ImageVQ, and a part for how its pictures look to a tower.

    Args:
        tower: `ScoreTowerModel`; it does not learn.
        weight: Of the new part.
    """

    def __init__(self, tower: Any, weight: float) -> None:
        self.tower, self.weight = tower.eval().requires_grad_(False), weight

    def __call__(self, model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The loss, and its parts for the log."""
        out = model(**batch)
        apart = looks_apart(self.tower.to(out.reconstruction.device), out.reconstruction, batch["pixel_values"])
        return out.loss + self.weight * apart, out.losses | {"looks": apart.detach()}


__all__ = ["LossWithLooks", "looks_apart"]
