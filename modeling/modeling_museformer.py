"""Museformer: a music language model with one summary for each bar, which can be read, and replaced."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.utils import can_return_tuple

from ..configuration.configuration_museformer import MuseformerConfig
from .museformer_attention import (
    GatheredAttention,
    MaskedAttention,
    Places,
    Rule,
    flex_mask,
    place_tokens,
    rotary_of_places,
)
from .museformer_cache import BarCache, MuseformerOutput
from .museformer_decoding import write_bars
from .museformer_layers import MuseformerLayer
from .museformer_measures import BarMeasures, new_table
from .museformer_summaries import (
    FIRST_GATE,
    BagOfWords,
    BarEncoder,
    SummaryBottleneck,
    SummaryExpansion,
    SummarySlot,
    bag_loss,
    injected,
)

_WHOLE = 0.8  # part of the training rows whose bars all have a plan, or none has


class MuseformerPreTrainedModel(PreTrainedModel):
    """What transformers has to know of the model, and how its weights begin."""

    config_class = MuseformerConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["MuseformerLayer", "BarEncoder"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=std * getattr(module, "initial_scale", 1.0))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=std)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, BarEncoder):
            init.normal_(module.summary_token, mean=0.0, std=std)
        elif isinstance(module, BagOfWords):
            init.zeros_(module.usual)
            init.zeros_(module.gate.weight)
            init.constant_(module.gate.bias, FIRST_GATE)
        elif isinstance(module, BarMeasures):
            init.copy_(module.table, new_table())
        elif isinstance(module, SummaryBottleneck):
            init.normal_(module.mean.weight, mean=0.0, std=module.mean.in_features**-0.5)
            init.zeros_(module.centre)
            init.ones_(module.spread)
            init.zeros_(module.seen)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the cache is a `BarCache`, made in the first forward pass


class MuseformerModel(MuseformerPreTrainedModel):
    """The layers without the head.

    ```
    words (B, T) ─embedding─▶ bars ─BarEncoder─▶ bottleneck ─▶ (B, N, Z) ─slot─▶ expansion (B, N, D)
          │                                                     hook: others in their place    │ own bar: plan
          └──▶ layers: fine attention on words, coarse attention on summaries ◀────────────────┘ others: coarse
    ```

    A departure from the paper: it makes summaries anew in each layer. Here they are made once, before the layers, from
    the bar alone, so that one vector for each bar is all that goes from bar to bar beyond the fine bars, and all that
    has to be put in place to steer the music. The expansion and each layer's own projection take the place of the
    summaries' own states.
    """

    def __init__(self, config: MuseformerConfig) -> None:
        super().__init__(config)
        self.rule = Rule(tuple(config.fine_bars), config.full_attention)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.drop = nn.Dropout(config.dropout)
        if not config.full_attention:
            self.encoder = BarEncoder(config)
            self.measures = BarMeasures() if config.measure_bars else None
            self.bottleneck = SummaryBottleneck(config)
            self.slot = SummarySlot()
            self.expansion = SummaryExpansion(config)
            self.plan = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
            self.plan.initial_scale = 0.01  # an unlearnt plan would drown words in noise
            self.bag = BagOfWords(config.hidden_size)
        self.layers = nn.ModuleList(MuseformerLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.post_init()

    # --- Summaries ----------------------------------------------------------------------------------------------------

    def summarize(
        self, ids: torch.Tensor, places: Places, num_bars: int, sample: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Summaries `(B, N, Z)` of the bars of words `(B, T)`, and their distances from the prior `(B, N)`."""
        states = self.encoder(self.embed_tokens(ids), places, num_bars)
        measures = None if self.measures is None else self.measures(ids, places.bar, num_bars)
        return self.bottleneck(states, measures, places.exists[:, :num_bars], sample)

    def draw_plans(self, batch: int, num_bars: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Which bars see their own summary in a training step `(B, N)`, and whose see no other bar's words `(B,)`."""
        rate = self.config.plan_dropout
        kind, whole = torch.rand(batch, 1, device=device), torch.rand(batch, 1, device=device) >= rate
        each = torch.rand(batch, num_bars, device=device) >= rate
        filled = torch.where(kind < _WHOLE, whole.expand_as(each), each)
        alone = torch.rand(batch, device=device) < self.config.alone_rate
        return filled, alone & filled.all(1)

    def _slots(
        self, ids: torch.Tensor, places: Places, plan: Any, summary_tokens: Any
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Summaries `(B, N, Z)`, filled slots `(B, N)`, lonely rows `(B,)` and mean nats of the summaries."""
        batch, count = len(ids), places.num_bars
        nats = None
        if summary_tokens is None:
            summary_tokens, each = self.summarize(ids, places, count, sample=self.training)
            nats = (each * places.exists).sum() / places.exists.sum()
        elif summary_tokens.shape != (batch, count, self.config.summary_size):
            wanted = (batch, count, self.config.summary_size)
            raise ValueError(f"summary_tokens have the shape {tuple(summary_tokens.shape)}, expected {wanted}")
        alone = torch.zeros(batch, dtype=torch.bool, device=ids.device)
        if plan is None and self.training:
            plan, alone = self.draw_plans(batch, count, ids.device)
        filled = torch.zeros(batch, count, dtype=torch.bool, device=ids.device)
        if plan is not None:
            plan = torch.as_tensor(plan, device=ids.device)
            if plan.dtype != torch.bool or (plan.ndim and tuple(plan.shape) != (batch, count)):
                raise ValueError(f"plan is a bool or has the shape {(batch, count)}, got {tuple(plan.shape)}")
            filled = filled | plan
        summary_tokens, filled = self.slot(summary_tokens, filled)
        return summary_tokens, filled, alone, nats

    def _angles(self, bar: torch.Tensor, tick: torch.Tensor, offset: torch.Tensor) -> Any:
        return rotary_of_places(bar, tick, offset, self.config.rotary_sizes)

    def _summary_angles(self, num_bars: int, device: Any) -> Any:
        bars = torch.arange(num_bars, device=device)[None]
        return self._angles(bars, torch.zeros_like(bars), torch.zeros_like(bars))

    def _expand(self, summaries: torch.Tensor, filled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Summaries at full width `(B, N, D)`, and what they add to the words of their own bars, `(B, N, 2D)`: in every
        layer, and before the head."""
        wide = self.expansion(summaries)
        return wide, torch.cat([self.plan(wide), self.bag.beyond(wide)], dim=-1) * filled[..., None]

    # --- Whole texts --------------------------------------------------------------------------------------------------

    def _attention(self, places: Places, filled: Any, alone: torch.Tensor, record: Any) -> Any:
        implementation = self.config._attn_implementation or "sdpa"
        gather = self.config.gather_bars
        gather = places.bar.device.type == "cpu" if gather is None else gather
        if implementation == "sdpa" and gather and record is None:
            return GatheredAttention(self.rule, places, filled, alone)
        if implementation == "flex_attention":
            return MaskedAttention(flex_mask(self.rule, places, filled, alone), implementation, record)
        mask = self.rule.between(places.bar, places.index, places.bar, places.index, filled, alone)
        return MaskedAttention(mask[:, None], implementation, record)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        plan: torch.Tensor | bool | None = None,
        summary_tokens: torch.Tensor | None = None,
        past_key_values: BarCache | None = None,
        use_cache: bool = False,
        **kwargs: Any,
    ) -> MuseformerOutput:
        """Reads texts, or with a cache the next words of them.

        Args:
            input_ids: `(B, T)`.
            attention_mask: `(B, T)`, 1 for words, 0 for padding on either side; not used with a cache.
            plan: Which bars see their own summary, bool `(B, N)` or one for all. Left out: none, but in training a
                draw (`plan_dropout`).
            summary_tokens: `(B, N, Z)` in the place of the model's own. See also `inject_summary_tokens`.
            past_key_values: What a pass before this one gave back.
            use_cache: Give back a cache.
            **kwargs: Not used.
        """
        if past_key_values is not None:
            states = [self.step(column, past_key_values) for column in input_ids.unbind(1)]
            return MuseformerOutput(last_hidden_state=torch.cat(states, dim=1), past_key_values=past_key_values)
        places = place_tokens(input_ids, attention_mask, self.config)
        filled = summaries = nats = sums = added = None
        alone = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        if not self.config.full_attention:
            summaries, filled, alone, nats = self._slots(input_ids, places, plan, summary_tokens)
            wide, each = self._expand(summaries, filled)
            sums = (wide, self._summary_angles(wide.shape[1], wide.device))
            bars = places.bar.clamp(min=0)[..., None].expand(-1, -1, each.shape[-1])
            added = each.gather(1, bars)  # (B, T, D)
        record: list[Any] | None = [] if use_cache else None
        attention = self._attention(places, filled, alone, record)
        x = self.drop(self.embed_tokens(input_ids))  # (B, T, D)
        where = (places.bar, places.tick, places.offset)
        if isinstance(attention, GatheredAttention):
            x, where = attention.pack(x), tuple(attention.pack(place) for place in where)
            added = None if added is None else attention.pack(added)
        angles = self._angles(*where)
        plan, told = (None, None) if added is None else added.chunk(2, dim=-1)
        for layer in self.layers:
            x = layer(x, angles, attention, sums, plan)
        x = self.norm(x) if told is None else self.bag.join(self.norm(x), told)
        x = attention.unpack(x) if isinstance(attention, GatheredAttention) else x
        cache = None
        if record is not None:
            cache = self.start_cache(len(input_ids), summaries, filled, alone)
            cache.remember(input_ids, places, record)
        return MuseformerOutput(last_hidden_state=x, past_key_values=cache, summary_tokens=summaries, summary_nats=nats)

    # --- Word by word -------------------------------------------------------------------------------------------------

    def start_cache(self, batch: int, summaries: Any = None, filled: Any = None, alone: Any = None) -> BarCache:
        """An empty cache for so many rows; the arguments are those of `BarCache`, none by default."""
        if summaries is None:
            summaries = torch.zeros(batch, 0, self.config.summary_size, device=self.device, dtype=self.dtype)
        if filled is None:
            filled = torch.zeros(summaries.shape[:2], dtype=torch.bool, device=self.device)
        if alone is None:
            alone = torch.zeros(batch, dtype=torch.bool, device=self.device)
        return BarCache(self.rule, self.config.num_hidden_layers, summaries, filled, alone)

    def _open_bars(self, cache: BarCache, begins: torch.Tensor) -> None:
        """Sums up the bars that have ended, and makes ready what the present ones see."""
        if self.config.full_attention:
            cache.assemble(None, None)
            return
        cache.extend_bars(int(cache.bar.max()) + 1)
        ended = (begins & (cache.bar > 0)).nonzero()[:, 0]
        if len(ended) and cache.ids.shape[1]:
            self._close_bars(cache, ended)
        cache.forget_words()
        summaries, filled = self.slot(cache.summaries, cache.filled)
        wide, added = self._expand(summaries, filled)
        rows = torch.arange(len(wide), device=wide.device)
        cache.plan = added[rows, cache.bar]
        angles = self._summary_angles(wide.shape[1], wide.device)
        cache.assemble([layer.attention.summary_keys(wide, angles) for layer in self.layers], filled)

    def _close_bars(self, cache: BarCache, ended: torch.Tensor) -> None:
        """Summaries of the bars before the present ones, for the rows `ended`."""
        words, last = cache.words, cache.bar[ended] - 1
        inside = words.bar[ended] == last[:, None]  # (n, S)
        rows = inside.any(1)
        if not rows.any():  # bars that were given as summaries only
            return
        ended, last, inside = ended[rows], last[rows], inside[rows]
        place = Places(torch.where(inside, 0, -1), words.tick[ended], words.offset[ended], words.index[ended])
        summaries, _ = self.summarize(cache.ids[ended], place, 1)
        cache.summaries = cache.summaries.index_put((ended, last), summaries[:, 0].to(cache.summaries.dtype))

    def step(self, ids: torch.Tensor, cache: BarCache) -> torch.Tensor:
        """States `(B, 1, D)` after the next word `(B,)` of each row."""
        begins = cache.move_on(ids, self.config)
        if cache.stale or bool(begins.any()):
            self._open_bars(cache, begins)
        cache.add_word(ids)
        cache.column()
        x = self.embed_tokens(ids)[:, None]  # (B, 1, D)
        angles = self._angles(cache.bar[:, None], cache.tick[:, None], cache.offset[:, None])
        plan, told = (None, None) if cache.plan is None else cache.plan[:, None].chunk(2, dim=-1)
        for number, layer in enumerate(self.layers):
            x = layer(x, angles, cache.attention(number), None, plan)
        return self.norm(x) if told is None else self.bag.join(self.norm(x), told)


class MuseformerForCausalLM(MuseformerPreTrainedModel, GenerationMixin):
    """Writes music bar by bar, by itself or after a plan of one summary for each bar."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: MuseformerConfig) -> None:
        super().__init__(config)
        self.model = MuseformerModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        plan: torch.Tensor | bool | None = None,
        summary_tokens: torch.Tensor | None = None,
        past_key_values: BarCache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> MuseformerOutput:
        """How likely each next word is.

        Args:
            labels: `(B, T)`, the words themselves; −100 where none is to be predicted.
            use_cache: Give back a cache; left out, not where there are labels.
            logits_to_keep: Logits of so many last places; 0: all.
            input_ids, attention_mask, plan, summary_tokens, past_key_values: See `MuseformerModel.forward`.
            **kwargs: Not used.
        """
        use_cache = bool(self.config.use_cache and labels is None) if use_cache is None else use_cache
        out = self.model(
            input_ids, attention_mask, plan, summary_tokens, past_key_values, use_cache and not self.training
        )
        hidden = out.last_hidden_state
        if labels is None or not self.training:
            out.logits = self.lm_head(hidden[:, -logits_to_keep:] if logits_to_keep else hidden)
        if labels is not None:
            following = F.pad(labels[:, 1:], (0, 1), value=-100)
            counts = following != -100
            told = self.lm_head(hidden[counts]) if out.logits is None else out.logits[counts]  # (M, V)
            out.token_loss = out.loss = F.cross_entropy(told.float(), following[counts])
            if self.training and out.summary_nats is not None:
                bars = (input_ids == self.config.bar_token_id).sum()
                out.loss = out.loss + self.config.kl_weight * out.summary_nats * bars / counts.sum()
                if self.config.bag_weight:
                    out.bag_loss = bag_loss(self, out.summary_tokens, input_ids, labels != -100)
                    out.loss = out.loss + self.config.bag_weight * out.bag_loss
        return out

    # --- Summaries ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def get_summary_tokens(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Summaries `(B, N, Z)` of the bars of texts `(B, T)`, without noise; zeros for bars that a row lacks.

        Raises:
            ValueError: the model has full attention, and so no summaries.
        """
        self._must_summarize()
        places = place_tokens(input_ids, attention_mask, self.config)
        return self.model.summarize(input_ids, places, places.num_bars)[0] * places.exists[..., None]

    def inject_summary_tokens(self, tokens: torch.Tensor, fill: bool = True) -> AbstractContextManager[None]:
        """Puts summaries in the place of the model's own, for the first bars of each row, within a `with` block.

        A forward hook on the one place where summaries enter; `generate` and `write` run under it as ever.

        Args:
            tokens: `(B, n, Z)`; with fewer rows than the batch has, each serves several in turn.
            fill: The bars also see their own summary; else only later bars do.

        Raises:
            ValueError: another shape, or a model without summaries.
        """
        self._must_summarize()
        if tokens.ndim != 3 or tokens.shape[2] != self.config.summary_size or not tokens.shape[0]:
            raise ValueError(f"summaries have the shape (B, n, {self.config.summary_size}), got {tuple(tokens.shape)}")
        return injected(self.model.slot, tokens, fill)

    def _must_summarize(self) -> None:
        if self.config.full_attention:
            raise ValueError("this model has full attention: it makes no summaries")

    def write(self, num_bars: int, **options: Any) -> torch.Tensor:
        """Writes bars in a lean loop of its own; see `museformer_decoding.write_bars`."""
        return write_bars(self, num_bars, **options)


__all__ = ["MuseformerForCausalLM", "MuseformerModel", "MuseformerOutput", "MuseformerPreTrainedModel"]
