"""Layers of NativeVLM: those of NanoChat, with the norm of queries and keys before they turn."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from ..configuration.configuration_native_vlm import NativeVLMConfig
from .layers import attend, rotate


def rms_norm(x: torch.Tensor, eps: float) -> torch.Tensor:
    """Root mean square norm without weights, computed in float32."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def eager_attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attention written out, to compare with; see `layers.attend`."""
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    return scores.masked_fill(~mask, float("-inf")).softmax(-1).to(v.dtype) @ v


Spans = list[tuple[int, int, int]]


def document_spans(document_ids: torch.Tensor) -> Spans:
    """Documents of packed rows `(B, T)`, as (row, start, end); padding (0) is one of them, so that nothing is left out.

    Raises:
        ValueError: The tokens of a document do not stand together.
    """
    spans: Spans = []
    for row, ids in enumerate(document_ids.tolist()):
        starts = [0, *(i for i in range(1, len(ids)) if ids[i] != ids[i - 1])]
        if len({ids[start] for start in starts}) != len(starts):
            raise ValueError("the tokens of each packed document must stand together")
        spans += [(row, start, end) for start, end in zip(starts, [*starts[1:], len(ids)], strict=True)]
    return spans


def attend_documents(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, spans: Spans) -> torch.Tensor:
    """Causal attention inside of each document: no mask, and the work of each alone. See `layers.attend`."""
    out = torch.empty_like(q)
    slow = q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad
    for row, start, end in spans:
        queries, keys, values = (x[row : row + 1, :, start:end] for x in (q, k, v))
        with torch.autocast(q.device.type, enabled=False):
            if slow:
                queries, keys, values = queries.float(), keys.float(), values.float()
            seen = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        out[row : row + 1, :, start:end] = seen.to(q.dtype)
    return out


class HeadGain(nn.Module):
    """One learnt factor for each head; begins at one. `SPEED` lets it double within a hundred steps of Adam."""

    SPEED = 10.0

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(heads, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(B, H, T, d)` to the same."""
        return x * (1 + self.SPEED * self.weight).to(x.dtype)


class NativeAttention(nn.Module):
    """Causal attention with rotary positions and a norm on queries and keys."""

    def __init__(self, config: NativeVLMConfig, index: int) -> None:
        super().__init__()
        self.config, self.index = config, index
        self.num_heads = config.num_attention_heads
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(config.hidden_size, config.hidden_size, bias=False))
        self.o_proj.initial_scale = (2 * config.num_hidden_layers) ** -0.5  # type: ignore[assignment]
        self.gain = HeadGain(self.num_heads) if config.query_gain else None

    def forward(self, x: torch.Tensor, angles: Any, mask: torch.Tensor | Spans, cache: Cache | None) -> torch.Tensor:
        """`x` `(B, T, D)`; `mask` bool `(B, 1, T, K)`, true = may look, or the documents of packed rows."""
        heads = lambda t: t.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)  # noqa: E731 - (B, H, T, d)
        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        if self.config.qk_norm:
            q, k = rms_norm(q, self.config.rms_norm_eps), rms_norm(k, self.config.rms_norm_eps)
        if self.gain is not None:
            q = self.gain(q)
        q, k = rotate(q, *angles), rotate(k, *angles)
        if cache is not None:
            k, v = cache.update(k, v, self.index)
        if isinstance(mask, list):
            seen = attend_documents(q, k, v, mask)
        else:
            seen = (eager_attend if self.config._attn_implementation == "eager" else attend)(q, k, v, mask)
        return self.o_proj(seen.transpose(1, 2).flatten(2))  # (B, T, D)


class NativeMLP(nn.Module):
    """Feed-forward with a squared ReLU."""

    def __init__(self, config: NativeVLMConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.fc2.initial_scale = (2 * config.num_hidden_layers) ** -0.5  # type: ignore[assignment]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(B, T, D)` to the same."""
        return self.fc2(F.relu(self.fc1(x)).square())


class ModalityEmbedding(nn.Embedding):
    """One vector for text, one for pictures; both begin at zero, so that nothing learnt before is disturbed."""


class NativeLayer(GradientCheckpointingLayer):
    """Pre-norm layer."""

    def __init__(self, config: NativeVLMConfig, index: int) -> None:
        super().__init__()
        self.eps = config.rms_norm_eps
        self.self_attn = NativeAttention(config, index)
        self.mlp = NativeMLP(config)
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self, x: torch.Tensor, angles: Any, mask: torch.Tensor | Spans, cache: Cache | None = None
    ) -> torch.Tensor:
        """See `NativeAttention.forward`."""
        x = x + self.drop(self.self_attn(rms_norm(x, self.eps), angles, mask, cache))
        return x + self.drop(self.mlp(rms_norm(x, self.eps)))


__all__ = [
    "HeadGain",
    "ModalityEmbedding",
    "NativeAttention",
    "NativeLayer",
    "NativeMLP",
    "attend_documents",
    "document_spans",
    "eager_attend",
    "rms_norm",
]
