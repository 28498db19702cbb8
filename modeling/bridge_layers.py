"""Bricks of SummaryBridge: the text as the network sees it, layers over bars, waves of time and place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..configuration.configuration_summary_bridge import SummaryBridgeConfig
from .layers import SelfAttention, attend, rotary_angles

TIME_WAVES = 32


@dataclass
class TextTriple:
    """A text, or a picture in text space, as the network sees it.

    Attributes:
        embed: `(B, L, T)` sequence.
        pooled: `(B, T)`.
        mask: `(B, L)` bool, places of the sequence in use.
        present: `(B,)` bool; a row without a text is seen as none at all.
    """

    embed: torch.Tensor
    pooled: torch.Tensor
    mask: torch.Tensor
    present: torch.Tensor

    def repeat(self, count: int) -> TextTriple:
        """Each row so many times, one after the other."""
        return TextTriple(*(x.repeat_interleave(count, 0) for x in vars(self).values()))

    def guided(self, guidance: float) -> list[TextTriple]:
        """What the network has to look at for guidance: the text, nothing, or both."""
        if guidance == 1 or not bool(self.present.any()):
            return [self]
        nothing = TextTriple(self.embed, self.pooled, self.mask, torch.zeros_like(self.present))
        return [nothing] if guidance == 0 else [self, nothing]


@dataclass
class Known:
    """What does not change on the way from a text to its music, worked out once.

    Attributes:
        pooled: `(B, W)` the text as a whole, 0 without one.
        heard: Keys and values of the words for each layer.
        mask: Bool `(B, 1, 1, L')`, words in use.
        places: `(B, N, W)` where the bars are.
        angles: Of the bars' rotary positions.
        bars: Bool `(B, 1, 1, N)`, bars that exist.
    """

    pooled: torch.Tensor
    heard: list[tuple[torch.Tensor, torch.Tensor]]
    mask: torch.Tensor
    places: torch.Tensor
    angles: tuple[torch.Tensor, torch.Tensor]
    bars: torch.Tensor


class TextAttention(nn.Module):
    """Bars look at the words of the text."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, ·, W / heads)

    def hear(self, words: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values `(B, heads, L', W / heads)` of words `(B, L', W)`; they stay the same on the whole way."""
        k, v = (self._heads(part) for part in self.key_value(words).chunk(2, dim=-1))
        return k, v

    def forward(self, x: torch.Tensor, heard: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
        """Bars `(B, N, W)`, what `hear` gave, mask bool `(B, 1, 1, L')` to `(B, N, W)`."""
        seen = attend(self._heads(self.query(x)), *heard, mask)  # (B, heads, N, W / heads)
        return self.out(seen.transpose(1, 2).flatten(2))


class BridgeLayer(nn.Module):
    """Bars look at each other, then at the text; time and text scale and shift the norms (DiT, arXiv 2212.09748).

    A departure from there: one table for all layers, with offsets of each layer's own (as PixArt-α, arXiv 2310.00426,
    section 2.3), and no gates.
    """

    def __init__(self, config: SummaryBridgeConfig) -> None:
        super().__init__()
        width, heads = config.hidden_size, config.num_attention_heads
        self.offsets = nn.Parameter(torch.zeros(4, width))
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = SelfAttention(width, heads, config.dropout)
        self.norm2 = nn.LayerNorm(width)
        self.text_attention = TextAttention(width, heads)
        self.norm3 = nn.LayerNorm(width, elementwise_affine=False)
        self.fc1 = nn.Linear(width, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, width)
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self, x: torch.Tensor, table: torch.Tensor, heard: tuple[torch.Tensor, torch.Tensor], known: Known
    ) -> torch.Tensor:
        """One layer.

        Args:
            x: `(B, N, W)`.
            table: `(B, 4, W)` scales and shifts.
            heard: Keys and values of the words, of this layer's `text_attention`.
            known: The rest that does not change on the way.
        """
        scale1, shift1, scale3, shift3 = (table + self.offsets)[:, :, None].unbind(1)  # 4 x (B, 1, W)
        x = x + self.drop(self.attention(self.norm1(x) * (1 + scale1) + shift1, known.angles, known.bars))
        x = x + self.drop(self.text_attention(self.norm2(x), heard, known.mask))
        return x + self.drop(self.fc2(F.gelu(self.fc1(self.norm3(x) * (1 + scale3) + shift3))))


def time_waves(t: torch.Tensor) -> torch.Tensor:
    """Times `(B,)`, 0 … 1, as sines and cosines `(B, 2 · TIME_WAVES)`."""
    pitch = torch.logspace(-1, 1.5, TIME_WAVES, device=t.device) * 2 * torch.pi
    angle = t.float()[:, None] * pitch
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def word_places(length: int, width: int, device: Any) -> torch.Tensor:
    """Sines and cosines `(L, W)` that say which word comes first."""
    cos, sin = rotary_angles(torch.arange(length, device=device), 2 * ((width + 3) // 4))
    half = cos.shape[-1] // 2
    return 0.1 * torch.cat([cos[:, :half], sin[:, :half]], dim=-1).repeat(1, 2)[:, :width]


__all__ = ["TIME_WAVES", "BridgeLayer", "Known", "TextAttention", "TextTriple", "time_waves", "word_places"]
