"""Gated cross-attention: a frozen language model looks at pictures (Flamingo, arXiv 2204.14198, section 3.1.2).

    fusion = FusionConnector(inputs=256, hidden_size=256, num_heads=8, places=[3, 3, 3])
    fusion.attach(language_model.get_decoder().layers)
    pictures = fusion.look(fusion.project(features), counts)         # once for a prompt
    language_model(inputs_embeds=..., pictures=pictures.at(index))   # layers 3 … see them

A token sees the picture that was shown last before it, as in the paper; earlier ones it knows by self-attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..processing.multimodal_utils import check_placeholders, create_attention_mask_from_embed
from .layers import attend


@dataclass
class Pictures:
    """What the fusion layers know of a batch's pictures, padded to the most pictures of a prompt.

    Attributes:
        states: `(B, M, layers, 2, heads, K, dim)`, keys and values of each fusion layer.
        mask: `(B, M, K)` bool, what is no padding.
        index: `(B, L)` picture of its prompt that each token sees, -1 = none.
    """

    states: torch.Tensor
    mask: torch.Tensor
    index: torch.Tensor | None = None

    def at(self, index: torch.Tensor) -> Pictures:
        """The same pictures for the tokens at hand."""
        return Pictures(self.states, self.mask, index)

    def layer(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values `(B, heads, M * K, dim)` of one fusion layer."""
        chosen = self.states[:, :, number].permute(2, 0, 3, 1, 4, 5).flatten(3, 4)  # (2, B, heads, M * K, dim)
        return chosen[0], chosen[1]

    def attention_mask(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Which tokens see which keys `(B, 1, L, M * K)`, and which see any `(B, L, 1)`; a blind one may look anywhere.

        Softmax over nothing is not a number; what a blind token finds is thrown away by the layer.
        """
        assert self.index is not None
        places = torch.arange(self.mask.shape[1], device=self.index.device)
        chosen = self.index[..., None] == places  # (B, L, M)
        seen = (chosen[..., None] & self.mask[:, None]).flatten(2)  # (B, L, M * K)
        sighted = seen.any(-1, keepdim=True)  # (B, L, 1)
        return (seen | ~sighted)[:, None], sighted


class GatedCrossAttention(nn.Module):
    """Attention to a picture, then a gated feed-forward; both come in through a tanh gate that starts at 0.

    Norms of queries and keys and the SwiGLU feed-forward follow Mllama (arXiv 2407.21783, section 7.2); Flamingo has
    neither.
    """

    def __init__(self, hidden_size: int, num_heads: int, intermediate_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_1 = nn.LayerNorm(hidden_size)
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.o_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.gate_attention = nn.Parameter(torch.zeros(1))
        self.norm_2 = nn.LayerNorm(hidden_size)
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)
        self.gate_mlp = nn.Parameter(torch.zeros(1))

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)  # (..., heads, T, dim)

    def look(self, features: torch.Tensor) -> torch.Tensor:
        """Keys and values `(N, 2, heads, K, dim)` of picture tokens `(N, K, D)`."""
        keys = self._heads(self.k_proj(features))
        return torch.stack([F.rms_norm(keys, keys.shape[-1:]), self._heads(self.v_proj(features))], dim=1)

    def forward(
        self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, sighted: torch.Tensor
    ) -> torch.Tensor:
        """One layer; a token that sees no picture comes out as it went in, bit for bit.

        Args:
            x: `(B, L, D)`.
            keys, values: `(B, heads, S, dim)`.
            mask: `(B, 1, L, S)` bool, true = may look.
            sighted: `(B, L, 1)` bool, tokens that see a picture.
        """
        queries = self._heads(self.q_proj(self.norm_1(x)))  # (B, heads, L, dim)
        queries = F.rms_norm(queries, queries.shape[-1:])
        found = attend(queries, keys.to(queries.dtype), values.to(queries.dtype), mask)  # (B, heads, L, dim)
        y = x + self.gate_attention.tanh() * self.o_proj(found.transpose(1, 2).flatten(2))
        normed = self.norm_2(y)
        y = y + self.gate_mlp.tanh() * self.down_proj(F.silu(self.gate_proj(normed)) * self.up_proj(normed))
        return torch.where(sighted, y.to(x.dtype), x)


class _BeforeLayer:
    """Runs fusion layers before a layer of the language model.

    A hook, so that the language model keeps the names of its parameters and any decoder fits that hands keyword
    arguments down to its layers; an object, so that a copied model has hooks of its own.
    """

    def __init__(self, fusion: FusionConnector, numbers: list[int]) -> None:
        self.fusion, self.numbers = fusion, numbers

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        kwargs = dict(kwargs)
        pictures = kwargs.pop("pictures", None)
        if pictures is not None and self.numbers:
            first, *rest = args or (kwargs.pop("hidden_states"),)
            args = (self.fusion(first, pictures, self.numbers), *rest)
        return args, kwargs


class FusionConnector(nn.Module):
    """Projects the tokens of a tower, and holds the fusion layers.

    Args:
        inputs: Width of a tower's token.
        hidden_size: Width of the language model.
        num_heads: Of each fusion layer.
        places: For each fusion layer the layer of the language model before which it stands, in order.
    """

    def __init__(self, inputs: int, hidden_size: int, num_heads: int, places: Sequence[int]) -> None:
        super().__init__()
        self.places = list(places)
        self.norm = nn.LayerNorm(inputs)
        self.projection = nn.Linear(inputs, hidden_size)
        self.layers = nn.ModuleList(GatedCrossAttention(hidden_size, num_heads, 4 * hidden_size) for _ in places)

    def attach(self, layers: nn.ModuleList) -> None:
        """Hooks the fusion layers in front of the layers of a language model."""
        for place, layer in enumerate(layers):
            numbers = [number for number, wanted in enumerate(self.places) if wanted == place]
            layer.register_forward_pre_hook(_BeforeLayer(self, numbers), with_kwargs=True)

    def project(self, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens of pictures in the language model's width, `(N, K, inputs)` to `(N, K, D)`; padding becomes zeros."""
        features = self.projection(self.norm(tokens))
        return features if mask is None else features * mask[..., None].to(features.dtype)

    def look(self, features: torch.Tensor, counts: torch.Tensor) -> Pictures:
        """Keys and values of the pictures, sorted to their prompts.

        Args:
            features: `(N, K, D)` output of `project`, all pictures of a batch in the order of their prompts.
            counts: `(B,)` pictures of each prompt.

        Raises:
            ValueError: The counts do not sum to the pictures.
        """
        check_placeholders(int(counts.sum()), features.shape[0])
        states = torch.stack([layer.look(features) for layer in self.layers], dim=1)  # (N, layers, 2, heads, K, dim)
        mask = create_attention_mask_from_embed(features.detach()).bool()  # (N, K)
        most = int(counts.max())
        if int(counts.min()) == most:
            return Pictures(states.unflatten(0, (-1, most)), mask.unflatten(0, (-1, most)))
        rows = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        places = torch.arange(len(rows), device=counts.device) - (counts.cumsum(0) - counts)[rows]
        all_states = states.new_zeros(len(counts), most, *states.shape[1:])
        all_mask = mask.new_zeros(len(counts), most, mask.shape[1])
        where = (rows, places)
        return Pictures(all_states.index_put(where, states), all_mask.index_put(where, mask))

    def forward(self, x: torch.Tensor, pictures: Pictures, numbers: Sequence[int]) -> torch.Tensor:
        """Some of the fusion layers, one after the other, on `(B, L, D)`."""
        mask, sighted = pictures.attention_mask()
        for number in numbers:
            x = self.layers[number](x, *pictures.layer(number), mask, sighted)
        return x


__all__ = ["FusionConnector", "GatedCrossAttention", "Pictures"]
