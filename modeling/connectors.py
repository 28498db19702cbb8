"""What joins a vision tower to a language model. (`processing.multimodal_utils` counts and fills image tokens.)"""

from __future__ import annotations

import torch
from torch import nn
from transformers.activations import ACT2FN


class MLPConnector(nn.Module):
    """Two-layer projector (LLaVA-1.5, arXiv 2310.03744, section 3.2)."""

    def __init__(self, inputs: int, outputs: int, act: str = "gelu") -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inputs)
        self.linear_1 = nn.Linear(inputs, outputs)
        self.act = ACT2FN[act]
        self.linear_2 = nn.Linear(outputs, outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(B, T, inputs)` to `(B, T, outputs)`."""
        return self.linear_2(self.act(self.linear_1(self.norm(features))))


def running_counts(presence: torch.Tensor, periods: int = 8) -> torch.Tensor:
    """How many things have been passed so far, as sines and cosines of growing period.

    Tells a column which beat (or bar) of the system it belongs to, so that a decoder that knows how many beats it
    has written finds the next one without following the picture step by step.

    Args:
        presence: Chance that a thing is at each column, `(B, T)`.
        periods: Number of periods 2, 4, 8, ...

    Returns:
        `(B, T, 2 * periods)`, same dtype as a float32 computation.
    """
    count = presence.float().cumsum(dim=-1)[..., None]  # (B, T, 1)
    period = 2.0 ** torch.arange(1, periods + 1, device=presence.device, dtype=torch.float32)
    angle = 2 * torch.pi * count / period
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
