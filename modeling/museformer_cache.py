"""Keys and values that Museformer keeps while it writes: those that can still be seen.

Each layer has a *store* of the bars within reach, and an *active* part: the keys that the present bar sees, in one
block, which each new word joins. The active part is put together anew when a bar begins. So a word costs the same in
the first bar and in the hundredth, and bars out of reach are forgotten; of those only the summaries stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import ModelOutput

from .layers import attend
from .museformer_attention import LATE, Places, Rule

_ROOM = 64  # columns by which the active part grows
_Pair = tuple[torch.Tensor, torch.Tensor]


class BarCache:
    """What is kept of `B` texts that are written word by word.

    Attributes:
        bar, tick, offset: `(B,)`, places of the last word; see `Places`.
        summaries: `(B, N, Z)` of the bars so far; that of an unfinished bar says nothing.
        filled: Bool `(B, N)`, which bars see their own summary.
        alone: Bool `(B,)`, whose bars see no other bar's tokens.
        plan: `(B, 2D)` what the present bar's summary adds to each of its words.
        stale: The active part has to be put together.
    """

    is_compileable = False

    def __init__(self, rule: Rule, num_layers: int, summaries: torch.Tensor, filled: torch.Tensor, alone: torch.Tensor):
        batch, device = len(alone), alone.device
        none = torch.zeros(batch, 0, dtype=torch.long, device=device)
        self.rule, self.num_layers = rule, num_layers
        self.summaries, self.filled, self.alone = summaries, filled, alone
        self.bar = torch.full((batch,), -1, device=device)
        self.tick = self.offset = torch.zeros(batch, dtype=torch.long, device=device)
        self.words = Places(none, none, none, none)  # of the words in `ids`
        self.ids = none
        self.store_bar = none
        self.store: list[_Pair] = []
        self.active: list[_Pair] = []
        self.mask = torch.zeros(batch, 0, dtype=torch.bool, device=device)
        self.new_bar: list[torch.Tensor] = []  # bars of the words since the active part was put together
        self.background: tuple[list[_Pair], torch.Tensor, torch.Tensor] | None = None
        self.start = self.fill = self.seen = 0
        self.plan: torch.Tensor | None = None
        self.stale = True

    # --- What transformers asks for

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Words taken in so far."""
        return self.seen

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Rows in a new order; a row may be taken several times."""
        self._collect()
        for name in ("bar", "tick", "offset", "summaries", "filled", "alone", "ids", "store_bar"):
            setattr(self, name, getattr(self, name).index_select(0, beam_idx))
        kept = self.words
        self.words = Places(*(x.index_select(0, beam_idx) for x in (kept.bar, kept.tick, kept.offset, kept.index)))
        self.store = [(k.index_select(0, beam_idx), v.index_select(0, beam_idx)) for k, v in self.store]
        if self.background is not None:
            self.background = (*self.background[:2], self.background[2].index_select(0, beam_idx))
        self.stale = True

    def crop(self, max_length: int) -> None:
        """Not offered."""
        raise NotImplementedError("words can not be taken back, so assisted decoding is not offered")

    # --- Filling

    def remember(self, ids: torch.Tensor, places: Places, pairs: list[_Pair]) -> None:
        """Takes in words `(B, T)` that were computed together, with the keys and values of each layer."""
        self.ids, self.words, self.store_bar, self.store = ids, places, places.bar, list(pairs)
        self.bar, self.tick, self.offset = (x[:, -1].clone() for x in (places.bar, places.tick, places.offset))
        self.seen = ids.shape[1]
        self.stale = True

    def move_on(self, ids: torch.Tensor, config: Any) -> torch.Tensor:
        """Places of the next word `(B,)`; says which rows begin a bar with it."""
        begins = ids == config.bar_token_id
        said = ids - config.position_token_id
        spoken = (said >= 0) & (said < config.num_positions)
        self.bar = torch.where(begins, self.bar + 1, self.bar.clamp(min=0))
        self.tick = torch.where(begins, 0, torch.where(spoken, said, self.tick))
        self.offset = torch.where(begins, 0, self.offset + 1)
        return begins

    def add_word(self, ids: torch.Tensor) -> None:
        """Keeps the word just placed, for the summary of its bar."""
        index = torch.full_like(ids, self.seen)
        new = (self.bar, self.tick, self.offset, index)
        old = (self.words.bar, self.words.tick, self.words.offset, self.words.index)
        self.words = Places(*(torch.cat([a, b[:, None]], dim=1) for a, b in zip(old, new, strict=True)))
        self.ids = torch.cat([self.ids, ids[:, None]], dim=1)
        self.new_bar.append(self.bar)
        self.seen += 1

    def forget_words(self) -> None:
        """Drops the words of bars that are summed up: of each row, all before the present bar."""
        keep = (self.words.bar >= self.bar[:, None]).any(0)
        if not keep.all():
            old = (self.words.bar, self.words.tick, self.words.offset, self.words.index)
            self.words = Places(*(x[:, keep] for x in old))
            self.ids = self.ids[:, keep]

    def extend_bars(self, num_bars: int) -> None:
        """Room for the summaries of so many bars."""
        missing = num_bars - self.summaries.shape[1]
        if missing > 0:
            self.summaries = torch.nn.functional.pad(self.summaries, (0, 0, 0, missing))
            self.filled = torch.nn.functional.pad(self.filled, (0, missing))

    def _collect(self) -> None:
        """Moves the new columns of the active part to the store, and forgets bars out of reach."""
        if not self.new_bar:
            return
        bars = torch.stack(self.new_bar, dim=1)
        self.store_bar = torch.cat([self.store_bar, bars], dim=1)
        new = slice(self.start, self.fill)
        parts = [(k[:, :, new], v[:, :, new]) for k, v in self.active]
        if self.store:
            parts = [
                (torch.cat([a, k], 2), torch.cat([b, v], 2)) for (a, b), (k, v) in zip(self.store, parts, strict=True)
            ]
        self.store, self.new_bar = parts, []
        if self.rule.reach is not None:
            keep = (self.store_bar >= self.bar[:, None] - self.rule.reach).any(0)
            if not keep.all():
                self.store = [(k[:, :, keep], v[:, :, keep]) for k, v in self.store]
                self.store_bar = self.store_bar[:, keep]

    def look_back(self, pairs: list[_Pair], bars: torch.Tensor, rows: torch.Tensor) -> None:
        """Lets bars see other texts that are there already, but not the bars of their own number in them.

        Args:
            pairs: Keys and values of these texts for each layer, `(S, H, T, d)`.
            bars: Their bars `(S, T)`.
            rows: For each row of the cache the text it sees, `(B,)`.
        """
        self.background = (pairs, bars, rows)
        self.stale = True

    def assemble(self, summaries: list[_Pair] | None, filled: torch.Tensor | None) -> None:
        """Puts the active part of each layer together for the present bars.

        Args:
            summaries: Keys and values of all summaries, `(B, H, N, d)` for each layer; `None`: there are none.
            filled: `(B, N)`.
        """
        self._collect()
        now, late = self.bar[:, None], torch.full_like(self.bar, LATE)[:, None]
        columns = torch.zeros_like(self.store_bar)
        order, seen = _first(self.rule.between(now, late, self.store_bar, columns, filled, self.alone)[:, 0])
        back_order, back_seen, rows = order[:, :0], seen[:, :0], None
        if self.background is not None:
            bars, rows = self.background[1][self.background[2]], self.background[2]
            sees = self.rule.between(now, late, bars, torch.zeros_like(bars), None, self.alone)[:, 0]
            back_order, back_seen = _first(sees & (bars != now))
        count, back = order.shape[1], back_order.shape[1]
        room = count + back + _ROOM
        self.mask = torch.nn.functional.pad(torch.cat([seen, back_seen], dim=1), (0, _ROOM))
        self.active = []
        for layer in range(self.num_layers):
            parts = [self.store[layer]] if self.store else []
            parts += [summaries[layer]] if summaries is not None else []
            if not parts:  # the first word of all; made when its keys are there
                break
            both = []
            for kind in (0, 1):
                out = _take([pair[kind] for pair in parts], order, room)
                if rows is not None and self.background is not None:
                    behind = self.background[0][layer][kind].transpose(1, 2)[rows[:, None], back_order]  # (B, C, H, d)
                    out[:, :, count : count + back] = behind.transpose(1, 2)
                both.append(out)
            self.active.append((both[0], both[1]))
        self.start = self.fill = count + back
        self.stale = False

    # --- Seeing

    def column(self) -> None:
        """A column for the next word in the active part of every layer."""
        if self.fill == self.mask.shape[1]:
            self.mask = torch.nn.functional.pad(self.mask, (0, _ROOM))
            grow = lambda x: torch.nn.functional.pad(x, (0, 0, 0, _ROOM))  # noqa: E731
            self.active = [(grow(k), grow(v)) for k, v in self.active]
        self.mask[:, self.fill] = True
        self.fill += 1

    def attention(self, layer: int) -> Any:
        """Attention of one word of each row in this layer; see `MaskedAttention`."""

        def see(module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: Any) -> torch.Tensor:
            if len(self.active) == layer:
                empty = k.new_zeros(*k.shape[:2], self.mask.shape[1], k.shape[3])
                self.active.append((empty, torch.zeros_like(empty)))
            keys, values = self.active[layer]
            keys[:, :, self.fill - 1 : self.fill], values[:, :, self.fill - 1 : self.fill] = k, v
            mask = None if len(q) == 1 else self.mask[:, None, None, : self.fill]
            return attend(q, keys[:, :, : self.fill], values[:, :, : self.fill], mask).transpose(1, 2)

        return see


def _first(sees: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns that are seen, in front, `(B, C)`, C the most of any row; and which of those are seen indeed."""
    count = int(sees.sum(1).max()) if sees.shape[1] else 0
    order = sees.long().argsort(dim=1, descending=True, stable=True)[:, :count]
    return order, sees.gather(1, order)


def _take(parts: list[torch.Tensor], order: torch.Tensor, room: int) -> torch.Tensor:
    """Columns `order` `(B, C)` of tensors side by side `(B, H, ., d)`, in a new one with room for more."""
    joined = torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
    batch, heads, _, size = joined.shape
    out = joined.new_zeros(batch, heads, room, size)
    count = order.shape[1]
    if count:
        index = order[:, None, :, None].expand(-1, heads, -1, size)
        out[:, :, :count] = joined.gather(2, index)
    return out


@dataclass
class MuseformerOutput(ModelOutput):
    """What Museformer says.

    Attributes:
        loss: Nats a token, mean over the labels; in training with the summaries' distance from the prior.
        logits: `(B, T, V)`; while training with labels they are not made whole, and this is `None`.
        past_key_values: A `BarCache`, where asked for.
        summary_tokens: `(B, N, Z)` summaries as the layers saw them; zeros for bars that a row does not have.
        summary_nats: Mean distance from the prior of the bars' summaries.
        token_loss: The loss without that distance and the next.
        bag_loss: Nats a word to tell the words of each bar from its summary, while training.
        last_hidden_state: `(B, T, D)`.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    past_key_values: Any = None
    summary_tokens: torch.FloatTensor | None = None
    summary_nats: torch.FloatTensor | None = None
    token_loss: torch.FloatTensor | None = None
    bag_loss: torch.FloatTensor | None = None
    last_hidden_state: torch.FloatTensor | None = None


__all__ = ["BarCache", "MuseformerOutput"]
