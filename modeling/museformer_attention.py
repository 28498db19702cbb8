"""Who sees whom in Museformer: one rule for every way of computing attention.

Shapes: `B` rows, `T` tokens, `N` bars, `H` heads, `d` size of a head. Keys are the tokens, then the summaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .layers import attend

LATE = 1 << 30  # a place after all others


@dataclass(frozen=True)
class Places:
    """Where tokens stand, int64 `(B, T)` each.

    Attributes:
        bar: Number of the bar, −1 for padding.
        tick: Time of the last position word in the bar.
        offset: Number of the token in its bar.
        index: Number of the token in its row.
    """

    bar: torch.Tensor
    tick: torch.Tensor
    offset: torch.Tensor
    index: torch.Tensor

    @property
    def num_bars(self) -> int:
        """Bars of the row that has most, at least 1."""
        return max(int(self.bar.max()) + 1, 1)

    @property
    def exists(self) -> torch.Tensor:
        """Which bars each row has, bool `(B, N)`."""
        return torch.arange(self.num_bars, device=self.bar.device) <= self.bar.amax(1, keepdim=True)


def place_tokens(ids: torch.Tensor, mask: torch.Tensor | None, config: Any) -> Places:
    """Places of tokens `(B, T)`; what stands before the first bar counts as part of it."""
    index = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    first = ids == config.bar_token_id
    inside = torch.ones_like(first) if mask is None else mask.bool()
    bar = ((first & inside).cumsum(1) - 1).clamp(min=0)
    begin = torch.where(first | ~inside, index, -1).cummax(1).values  # index of the bar's first word
    begin = begin.clamp(min=0)
    said = ids - config.position_token_id
    is_position = (said >= 0) & (said < config.num_positions)
    spoken = torch.where(is_position, index, -1).cummax(1).values
    tick = torch.where(spoken > begin, said.gather(1, spoken.clamp(min=0)), 0)
    return Places(torch.where(inside, bar, -1), tick, index - begin, index)


@dataclass(frozen=True)
class Rule:
    """The one rule of visibility (paper, section 3.3, and the plan slot).

    A token key is seen from later on in its own bar, and from all of the bars that lie a distance in `fine_bars` after
    it. A summary is seen from the later bars that do not see its tokens; from its own bar where the plan is filled.
    Where `alone` holds, no bar sees another bar's tokens.

    Attributes:
        fine_bars: Distances in bars.
        full: All earlier bars are seen token by token, and summaries never.
    """

    fine_bars: tuple[int, ...]
    full: bool = False

    @property
    def reach(self) -> int | None:
        """Greatest distance at which tokens are seen; `None` without end."""
        return None if self.full else max(self.fine_bars, default=0)

    def near(self, distance: Any, alone: Any) -> Any:
        """Whether all tokens of a bar so far back are seen."""
        if self.full:
            return distance > 0
        found = distance < -LATE  # false, in the shape it has to have
        for bars in self.fine_bars:
            found = found | (distance == bars)
        return found & ~alone

    def visible(
        self, q_bar: Any, q_index: Any, k_bar: Any, k_index: Any, is_summary: Any, filled: Any, alone: Any
    ) -> Any:
        """Whether a query sees a key; all arguments are tensors that broadcast.

        Args:
            q_bar, q_index: Bar and index in the row of the query; padding (bar −1) sees padding alone.
            k_bar, k_index: The same of the key.
            is_summary: The key is a summary.
            filled: The plan slot of the key's bar is filled.
            alone: The row's bars see no other bar's tokens.
        """
        distance = q_bar - k_bar
        near = self.near(distance, alone) & (k_bar >= 0)
        own = distance == 0
        token = near | (own & (k_index <= q_index))
        summary = (own & filled) | ((distance > 0) & (k_bar >= 0) & ~near)
        if self.full:
            summary = summary & (distance < -LATE)
        return (is_summary & summary) | (~is_summary & token)

    def between(
        self, q_bar: Any, q_index: Any, k_bar: Any, k_index: Any, filled: Any | None, alone: Any
    ) -> torch.Tensor:
        """Bool `(B, Q, K + N)` for queries `(B, Q)`, token keys `(B, K)` and summaries with `filled` `(B, N)`."""
        q_bar, q_index, alone = q_bar[:, :, None], q_index[:, :, None], alone[:, None, None]
        no = torch.zeros((), dtype=torch.bool, device=q_bar.device)
        tokens = self.visible(q_bar, q_index, k_bar[:, None], k_index[:, None], no, no, alone)
        if filled is None:
            return tokens
        bars = torch.arange(filled.shape[1], device=q_bar.device)
        summaries = self.visible(q_bar, q_index, bars, bars, ~no, filled[:, None], alone)
        return torch.cat([tokens, summaries], dim=-1)


def flex_mask(rule: Rule, places: Places, filled: torch.Tensor | None, alone: torch.Tensor) -> Any:
    """Block mask for FlexAttention by the same rule."""
    from torch.nn.attention.flex_attention import create_block_mask

    batch, length = places.bar.shape
    count = 0 if filled is None else filled.shape[1]
    slots = torch.zeros(batch, 1, dtype=torch.bool, device=alone.device) if filled is None else filled

    def mask_mod(b: Any, h: Any, q: Any, k: Any) -> Any:
        is_summary = k >= length
        token, bar = torch.where(is_summary, 0, k), torch.where(is_summary, k - length, 0)
        k_bar = torch.where(is_summary, bar, places.bar[b, token])
        return rule.visible(places.bar[b, q], q, k_bar, token, is_summary, slots[b, bar], alone[b])

    return create_block_mask(mask_mod, batch, None, length, length + count, device=str(alone.device))


# --- Ways of computing it ---------------------------------------------------------------------------------------------


def eager_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention written out; shapes as in transformers: out `(B, T, H, d)`, weights `(B, H, T, K)`."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query @ key.transpose(-1, -2)).float() * scale  # (B, H, T, K)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, float("-inf"))
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    return (weights @ value).transpose(1, 2), weights


class MaskedAttention:
    """Attention on all keys under a mask, by the implementation that the model is set to.

    Args:
        mask: Bool `(B, 1, T, T + N)`, or a block mask for `flex_attention`.
        implementation: `eager`, `sdpa`, `flex_attention`, or another that transformers knows and that takes a mask.
        record: Gets the keys and values of each layer's tokens, for a cache.
    """

    def __init__(self, mask: Any, implementation: str, record: list[Any] | None = None) -> None:
        self.mask, self.implementation, self.record = mask, implementation, record

    def __call__(
        self, module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sk: Any = None, sv: Any = None
    ) -> torch.Tensor:
        """`q`, `k`, `v` `(B, H, T, d)`, summaries `(B, H, N, d)`; gives `(B, T, H, d)`."""
        if self.record is not None:
            self.record.append((k, v))
        if sk is not None:
            k, v = torch.cat([k, sk], dim=2), torch.cat([v, sv], dim=2)
        if self.implementation == "sdpa":
            return attend(q, k, v, self.mask).transpose(1, 2)
        function = ALL_ATTENTION_FUNCTIONS.get_interface(self.implementation, eager_attention)
        return function(module, q, k, v, self.mask, scaling=q.shape[-1] ** -0.5, is_causal=False)[0]


class GatheredAttention:
    """Attention bar by bar, on the keys that can be seen alone: rows of all lengths one after the other, no padding.

    The cost of a token does not grow with the length of its row, only the number of summaries does.

    Args:
        rule: The rule.
        places: Of the padded batch.
        filled: `(B, N)`.
        alone: `(B,)`.
    """

    def __init__(self, rule: Rule, places: Places, filled: torch.Tensor | None, alone: torch.Tensor) -> None:
        self.kept = places.bar >= 0
        self.lengths: list[int] = []
        self.seen: list[list[int]] = []  # for each bar the bars whose tokens it gathers, itself last
        self.rows: list[int] = []  # for each bar the row it is in
        self.masks: list[torch.Tensor] = []
        self.num_summaries = 0 if filled is None else filled.shape[1]
        for row in range(len(places.bar)):
            self._add_row(rule, places, row, filled, alone)

    def _add_row(self, rule: Rule, places: Places, row: int, filled: Any, alone: torch.Tensor) -> None:
        kept = self.kept[row]
        bars, index = places.bar[row][kept], places.index[row][kept]
        lengths = torch.bincount(bars).tolist() if len(bars) else []
        bars_of, index_of = bars.split(lengths), index.split(lengths)
        base = len(self.lengths)
        lonely = bool(alone[row])
        slots = None if filled is None else filled[row : row + 1]
        for bar in range(len(lengths)):
            if rule.full:
                seen = list(range(bar + 1))
            else:
                near = [] if lonely else [bar - back for back in reversed(rule.fine_bars) if back <= bar]
                seen = [*near, bar]
            k_bar = torch.cat([bars_of[j] for j in seen])[None]
            k_index = torch.cat([index_of[j] for j in seen])[None]
            mask = rule.between(bars_of[bar][None], index_of[bar][None], k_bar, k_index, slots, alone[row : row + 1])
            self.masks.append(mask[:, None])
            self.seen.append([base + j for j in seen])
            self.rows.append(row)
        self.lengths += lengths

    def pack(self, x: torch.Tensor) -> torch.Tensor:
        """`(B, T, ...)` to `(1, M, ...)`, without padding."""
        return x[self.kept][None]

    def unpack(self, x: torch.Tensor) -> torch.Tensor:
        """The way back; zeros where padding was."""
        out = x.new_zeros(*self.kept.shape, *x.shape[2:])
        out[self.kept] = x[0]
        return out

    def __call__(
        self, module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sk: Any = None, sv: Any = None
    ) -> torch.Tensor:
        """`q`, `k`, `v` `(1, H, M, d)` packed, summaries `(B, H, N, d)`; gives `(1, M, H, d)`."""
        queries, keys, values = (x.split(self.lengths, dim=2) for x in (q, k, v))
        # One split for all bars: taking parts of a tensor one by one would cost its whole size again in the way back.
        sums = [(None, None)] * len(self.lengths) if sk is None else list(zip(sk.split(1), sv.split(1), strict=True))
        out = []
        for bar, seen in enumerate(self.seen):
            more_k, more_v = sums[self.rows[bar]]
            key = torch.cat([*(keys[j] for j in seen), *([] if more_k is None else [more_k])], dim=2)
            value = torch.cat([*(values[j] for j in seen), *([] if more_v is None else [more_v])], dim=2)
            out.append(attend(queries[bar], key, value, self.masks[bar]))
        return torch.cat(out, dim=2).transpose(1, 2)


# --- Rotary positions -------------------------------------------------------------------------------------------------


def rotary_of_places(
    bar: torch.Tensor, tick: torch.Tensor, offset: torch.Tensor, sizes: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines that tell the bar, the time in the bar and the place in the bar apart.

    Three groups of rotary pairs (RoFormer, arXiv 2104.09864, section 3.2), one for each; so the same beat of an earlier
    bar has the same angles in the second group, however many notes lie between.

    Args:
        bar, tick, offset: `(B, T)`.
        sizes: Pairs of each group.

    Returns:
        Two float32 tensors `(B, 1, T, d)`, d = 2 × all pairs.
    """
    groups = []
    for places, pairs, longest in zip((bar, tick, offset), sizes, (64.0, 256.0, 256.0), strict=True):
        step = torch.arange(pairs, device=bar.device, dtype=torch.float32) / pairs
        groups.append(places.float()[..., None] * longest**-step)
    angle = torch.cat(groups, dim=-1)
    angle = torch.cat([angle, angle], dim=-1)[:, None]
    return angle.cos(), angle.sin()


__all__ = ["GatheredAttention", "MaskedAttention", "Places", "Rule", "flex_mask", "place_tokens", "rotary_of_places"]
