"""The layers of Museformer that predict."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .layers import rotate


class MuseformerAttention(nn.Module):
    """Attention on tokens and summaries, which have key and value projections of their own (paper, section 3.3)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)
        self.summary_kv = None if config.full_attention else nn.Linear(config.hidden_size, 2 * config.hidden_size)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)  # (B, H, T, d)

    def summary_keys(self, summaries: torch.Tensor, angles: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values `(B, H, N, d)` of summaries `(B, N, D)`."""
        assert self.summary_kv is not None
        k, v = (self._heads(x) for x in self.summary_kv(summaries).chunk(2, dim=-1))
        return rotate(k, *angles), v

    def forward(self, x: torch.Tensor, angles: Any, attention: Any, summaries: Any = None) -> torch.Tensor:
        """`x` `(B, T, D)`; `summaries`: `(B, N, D)` with their angles, or `None`."""
        q, k, v = (self._heads(part) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = rotate(q, *angles), rotate(k, *angles)
        sums = () if summaries is None else self.summary_keys(*summaries)
        return self.out(attention(self, q, k, v, *sums).flatten(2))  # (B, T, D)


class MuseformerLayer(GradientCheckpointingLayer):
    """Pre-norm layer; what the bar's own summary says is added to each of its words (MuseMorphose, section 3.2)."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_size)
        self.attention = MuseformerAttention(config)
        self.norm2 = nn.LayerNorm(config.hidden_size)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self, x: torch.Tensor, angles: Any, attention: Any, summaries: Any = None, plan: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`x` and `plan` `(B, T, D)`; see `MuseformerAttention.forward`."""
        x = x if plan is None else x + plan
        x = x + self.drop(self.attention(self.norm1(x), angles, attention, summaries))
        return x + self.drop(self.fc2(F.gelu(self.fc1(self.norm2(x)))))


__all__ = ["MuseformerAttention", "MuseformerLayer"]
