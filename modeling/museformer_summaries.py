"""Museformer's summaries: one narrow vector for each bar, and the slot where another can be put in its place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..configuration.configuration_museformer import NUM_MEASURES
from .layers import TransformerLayer
from .museformer_attention import Places, rotary_of_places

#: Power of what summaries tell, at first.
FIRST_GATE = 0.7
#: Part of the running figures of the summaries that a step replaces.
RATE = 0.05
_TOKENS_AT_ONCE = 4096  # of bars that are summed up together


class BarEncoder(nn.Module):
    """Sums up each bar by itself: a summary token in front of the bar's words, all of which see each other, and the
    mean of what they become. (The summary token's own state begins as nearly the same for all bars, and stayed so.)

    Bars are batched by length, so that padding costs little.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.rotary_sizes = tuple(config.rotary_sizes)
        self.summary_token = nn.Parameter(torch.zeros(config.hidden_size))
        self.layers = nn.ModuleList(
            TransformerLayer(
                config.hidden_size, config.num_attention_heads, config.summary_intermediate_size, config.dropout
            )
            for _ in range(config.num_summary_layers)
        )
        self.norm_words = nn.LayerNorm(config.hidden_size)  # first embeddings are small beside what layers add
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, embedded: torch.Tensor, places: Places, num_bars: int) -> torch.Tensor:
        """States of all bars.

        Args:
            embedded: `(B, T, D)` words.
            places: Of the words.
            num_bars: `N`.

        Returns:
            `(B, N, D)`; zeros for bars that a row does not have.
        """
        batch, _, width = embedded.shape
        kept = places.bar >= 0
        words = self.norm_words(embedded[kept])  # (M, D)
        tick, offset = places.tick[kept], places.offset[kept]  # (M,)
        rows = torch.arange(batch, device=kept.device)[:, None].expand_as(kept)
        number = (rows * num_bars + places.bar)[kept]
        lengths = torch.bincount(number, minlength=batch * num_bars)
        starts = lengths.cumsum(0) - lengths
        found, parts = [], []
        for bars in _batches(lengths):
            index = torch.tensor(bars, device=kept.device)
            found.append(index)
            parts.append(self._sum_up(words, tick, offset, starts[index], lengths[index]))
        states = words.new_zeros(batch * num_bars, width)
        if parts:
            states = states.index_copy(0, torch.cat(found), torch.cat(parts).to(states.dtype))
        return states.view(batch, num_bars, width)

    def _sum_up(
        self,
        words: torch.Tensor,
        tick: torch.Tensor,
        offset: torch.Tensor,
        starts: torch.Tensor,
        lengths: torch.Tensor,
    ) -> torch.Tensor:
        """`(G, D)` states of `G` bars that lie at `starts` in the packed words."""
        steps = torch.arange(int(lengths.max()), device=starts.device)
        inside = steps < lengths[:, None]  # (G, L)
        index = torch.where(inside, starts[:, None] + steps, 0)
        token = self.summary_token.to(words.dtype).expand(len(starts), 1, -1)
        x = torch.cat([token, words[index]], dim=1)  # (G, 1 + L, D)
        zero = tick.new_zeros(len(starts), 1)
        ticks, offsets = (torch.cat([zero, place], dim=1) for place in (tick[index], offset[index] + 1))
        angles = rotary_of_places(torch.zeros_like(ticks), ticks, offsets, self.rotary_sizes)
        mask = torch.cat([torch.ones_like(inside[:, :1]), inside], dim=1)[:, None, None]  # (G, 1, 1, 1 + L)
        for layer in self.layers:
            x = layer(x, angles, mask)
        kept = mask[:, 0, 0, :, None]  # (G, 1 + L, 1)
        return self.norm((x * kept).sum(1) / kept.sum(1))


def _batches(lengths: torch.Tensor) -> list[list[int]]:
    """Numbers of the bars that are not empty, in groups of nearly equal length."""
    sizes = lengths.tolist()
    order = sorted((k for k, size in enumerate(sizes) if size), key=lambda k: sizes[k], reverse=True)
    groups: list[list[int]] = []
    longest = 0
    for k in order:
        if groups and (len(groups[-1]) + 1) * (longest + 1) <= _TOKENS_AT_ONCE and sizes[k] * 4 >= longest * 3:
            groups[-1].append(k)
        else:
            groups.append([k])
            longest = sizes[k]
    return groups


class SummaryBottleneck(nn.Module):
    """A state to a few numbers, and noise upon them in training.

    So a summary can not spell its bar out, and a small error in it is a small error in the music (MuseMorphose, arXiv
    2105.04090, section 3.3, has one a bar). The numbers are brought to mean 0 and variance 1 over the bars
    of the training, by running figures, and the noise is as large as the configuration says: each number says at most
    ½ ln(1 + 1 / noise²) nats. (A learnt variance with a price on the distance from the prior, as in a variational
    autoencoder, was tried first: the price moved the states of all bars into one direction before anything looked at
    them, and the summaries of all bars became the same. BN-VAE, arXiv 2004.12585, found a fixed spread against this.)
    """

    centre: torch.Tensor
    spread: torch.Tensor
    seen: torch.Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        measured = NUM_MEASURES if config.measure_bars else 0
        self.noises = (float(config.measure_noise), float(config.summary_noise))
        self.mean = nn.Linear(config.hidden_size, config.summary_size - measured)
        self.register_buffer("centre", torch.zeros(self.mean.out_features))
        self.register_buffer("spread", torch.ones(self.mean.out_features))
        self.register_buffer("seen", torch.zeros(()))  # steps that the running figures have seen

    def forward(
        self, states: torch.Tensor, measures: torch.Tensor | None, present: torch.Tensor, sample: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`(B, N, D)` to summaries `(B, N, Z)` and their distance from a standard normal distribution, nats `(B, N)`.

        Args:
            states: From `BarEncoder`.
            measures: From `BarMeasures`, where the configuration wants them: the first numbers.
            present: Bars that there are, bool `(B, N)`.
            sample: Add the noise.
        """
        said = self.mean(states).float()
        if self.training and sample:
            self._watch(said.detach()[present])
        summaries = (said - self.centre) / self.spread
        noise = torch.full_like(self.spread, self.noises[1])
        if measures is not None:
            summaries = torch.cat([measures, summaries], dim=-1)
            noise = torch.cat([noise.new_full(measures.shape[-1:], self.noises[0]), noise])
        nats = 0.5 * (summaries**2 + noise**2 - 1 - 2 * noise.clamp(min=1e-4).log()).sum(-1)  # (B, N)
        if sample:
            summaries = summaries + noise * torch.randn_like(summaries)
        return summaries.to(states.dtype), nats

    @torch.no_grad()
    def _watch(self, said: torch.Tensor) -> None:
        """Brings the running figures up to date with bars `(M, Z)`."""
        if len(said) < 2:
            return
        self.seen += 1
        rate = torch.clamp(1 / self.seen, min=RATE)
        self.centre.lerp_(said.mean(0), rate)
        self.spread.copy_(
            torch.sqrt(torch.lerp(self.spread**2, ((said - self.centre) ** 2).mean(0), rate)).clamp(min=1e-3)
        )


class SummarySlot(nn.Module):
    """Where summaries enter the layers that predict: a module of its own, so that a hook can put others in."""

    def forward(self, summaries: torch.Tensor, filled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Hands through summaries `(B, N, Z)` and which bars see their own, bool `(B, N)`."""
        return summaries, filled


class SummaryExpansion(nn.Module):
    """`(B, N, Z)` to the width of the layers `(B, N, D)`.

    Without a norm, which would blow up what lies near zero, the middle of the prior.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.summary_size, config.hidden_size)
        self.fc2 = nn.Linear(config.hidden_size, config.hidden_size)
        for linear in (self.fc1, self.fc2):  # what comes in has a spread of one, and keeps it
            linear.initial_scale = linear.in_features**-0.5 / config.initializer_range  # type: ignore[assignment]

    def forward(self, summaries: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.fc2(nn.functional.gelu(self.fc1(summaries)))


class BagOfWords(nn.Module):
    """What a summary says of its bar's words, in no order, and how that raises their chances.

    States `(…, D)` of both kinds go through the same head. So what is learnt of bags helps to predict at once: chances
    are multiplied, as in a product of experts, to the power that a gate gives. Layers alone took no notice of summaries
    for a thousand steps, when this alone already saved 0.16 nats a word.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.state = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.usual = nn.Parameter(torch.zeros(width))  # what is so of most bars is known without a summary
        self.gate = nn.Linear(width, 1)

    def forward(self, wide: torch.Tensor) -> torch.Tensor:
        """Expanded summaries to states whose logits tell the bar's words."""
        return self.norm(self.state(wide))

    def beyond(self, wide: torch.Tensor) -> torch.Tensor:
        """The same without what is usual."""
        return self(wide) - self.usual

    def join(self, states: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """States of the layers with what the bars' summaries tell, zeros where there is no plan."""
        return states + self.gate(states) * told


def bag_loss(model: Any, summaries: torch.Tensor, ids: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Nats a word to tell the words of each bar from its summary alone, in no order (arXiv 1703.10960, section 3.3).

    Without it nothing is asked of summaries until the layers know how to use them, and that comes late or never.

    Args:
        model: `MuseformerForCausalLM`.
        summaries: `(B, N, Z)`.
        ids: `(B, T)`.
        kept: `(B, T)` words that count.
    """
    begins = ids == model.config.bar_token_id
    bar = begins.cumsum(1) - 1  # (B, T)
    kept = kept & ~begins & (bar >= 0) & (bar < summaries.shape[1])
    states = model.model.bag(model.model.expansion(summaries))
    chances = model.lm_head(states).float().log_softmax(-1)  # (B, N, V)
    rows = torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)
    return -chances[rows[kept], bar[kept], ids[kept]].mean()


@contextmanager
def injected(slot: SummarySlot, tokens: torch.Tensor, fill: bool = True) -> Iterator[None]:
    """Puts summaries in the place of the model's own, for the first bars of each row, as long as the block lasts.

    Args:
        slot: The model's slot.
        tokens: `(B, n, Z)`; with fewer rows than the batch, each serves as many rows one after the other.
        fill: The bars see their own; else only later bars see them.

    Raises:
        ValueError: while running, when the batch is no multiple of the rows.
    """

    def put(module: Any, inputs: Any, outputs: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        summaries, filled = outputs
        batch, bars, _ = summaries.shape
        if batch % tokens.shape[0]:
            raise ValueError(f"{tokens.shape[0]} rows of summaries were injected, but the batch has {batch} rows")
        count = min(bars, tokens.shape[1])
        given = tokens[:, :count].to(summaries).repeat_interleave(batch // tokens.shape[0], dim=0)
        summaries = torch.cat([given, summaries[:, count:]], dim=1)
        filled = torch.cat([torch.full_like(filled[:, :count], fill), filled[:, count:]], dim=1)
        return summaries, filled

    handle = slot.register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()


__all__ = [
    "FIRST_GATE",
    "BagOfWords",
    "BarEncoder",
    "SummaryBottleneck",
    "SummaryExpansion",
    "SummarySlot",
    "bag_loss",
    "injected",
]
