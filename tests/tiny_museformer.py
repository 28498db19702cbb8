"""Tiny Museformers, and random texts that keep to the grammar, for the tests."""

from __future__ import annotations

from typing import Any

import torch

from intermezzo.configuration.configuration_museformer import MuseformerConfig
from intermezzo.modeling.modeling_museformer import MuseformerForCausalLM
from intermezzo.processing.bar_midi_grammar import BarGrammar
from intermezzo.processing.bar_midi_vocabulary import BAR_ID, EOS_ID, PAD_ID


def tiny(**changes: Any) -> MuseformerConfig:
    """Bars 1 and 3 back are seen word by word."""
    settings: dict[str, Any] = dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, num_summary_layers=1,
        summary_intermediate_size=48, summary_size=6, measure_bars=False, rotary_sizes=(2, 3, 3), fine_bars=(1, 3),
        dropout=0.0,
        initializer_range=0.25,  # an untrained model with an opinion, so that a leak would show
    )  # fmt: skip
    return MuseformerConfig(**{**settings, **changes})


def make(seed: int = 0, **changes: Any) -> MuseformerForCausalLM:
    torch.manual_seed(seed)
    return MuseformerForCausalLM(tiny(**changes)).eval()


def random_text(num_bars: int, seed: int = 0, words: int = 9) -> torch.Tensor:
    """A random text of the grammar, `(T,)`, with about so many words in each bar and no `EOS`."""
    draw = torch.Generator().manual_seed(seed)
    grammar = BarGrammar(1, num_bars, max_bar_tokens=words)
    ids, word = [], torch.tensor([BAR_ID])
    while int(word) != EOS_ID:
        ids.append(int(word))
        grammar.advance(word)
        chances = grammar.allowed().double()
        chances[:, [BAR_ID, EOS_ID]] *= 20
        word = torch.multinomial(chances, 1, generator=draw)[:, 0]
    return torch.tensor(ids)


def batch_of(texts: list[torch.Tensor], left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded words and mask, `(B, T)`."""
    longest = max(map(len, texts))
    ids = torch.full((len(texts), longest), PAD_ID)
    for row, text in enumerate(texts):
        ids[row, longest - len(text) :] = text if left else ids[row, longest - len(text) :]
        if not left:
            ids[row, : len(text)] = text
    return ids, (ids != PAD_ID).long()


def starts_of(ids: torch.Tensor) -> list[int]:
    """Where the bars of a text `(T,)` begin, and its end."""
    return [*(ids == BAR_ID).nonzero()[:, 0].tolist(), int((ids != PAD_ID).sum())]


__all__ = ["batch_of", "make", "random_text", "starts_of", "tiny"]
