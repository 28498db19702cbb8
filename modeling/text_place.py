"""Where a text lies among the summaries: what a straight line can not say of it, by a small network fitted once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class TextPlace(nn.Module):
    """From a text to the mean summary of the music it is spoken of, beside what the line of `BridgeStatistics` says.

    A line through 512 numbers does not tell 24 keys apart (a third of them right on held-out captions); two hidden
    layers do (six of seven), and learn it in a quarter of a minute, for all they have to say is one mean. The bridge
    itself, which learns from noisy bars, had not found the keys after thousands of steps. It is fitted before the
    bridge and stays, like the line: a place that learns beside the network could run far away.

    Args:
        text_size: T, width of the text's embeddings.
        summary_size: Z.
        hidden_size: Width inside.
    """

    def __init__(self, text_size: int, summary_size: int, hidden_size: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(2 * text_size, hidden_size)
        self.fc2 = nn.Linear(hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, summary_size)
        self.out.initial_scale = 0.0  # type: ignore[assignment] # a new one says nothing
        self.requires_grad_(False)

    def forward(
        self, embed: torch.Tensor, pooled: torch.Tensor, mask: torch.Tensor, dropout: float = 0.0
    ) -> torch.Tensor:
        """Places `(B, Z)`, whitened, float32.

        Args:
            embed: `(B, L, T)` words around 0.
            pooled: `(B, T)` around 0.
            mask: Bool `(B, L)`, words in use.
            dropout: Part of the text's numbers that are dropped.
        """
        used = mask[..., None].to(embed)
        mean = (embed * used).sum(1) / used.sum(1).clamp(min=1)
        x = F.dropout(torch.cat([pooled, mean], dim=-1), dropout, dropout > 0).to(self.fc1.weight.dtype)
        return self.out(F.gelu(self.fc2(F.gelu(self.fc1(x))))).float()


__all__ = ["TextPlace"]
