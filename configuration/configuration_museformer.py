"""Configuration of Museformer, and its presets."""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

NUM_MEASURES = 23  # numbers of a summary that are measured, see `modeling.museformer_measures`


@strict
class MuseformerConfig(PreTrainedConfig):
    """A music language model with fine- and coarse-grained attention (Museformer, arXiv 2210.10349).

    A token sees its own bar so far and the tokens of a few earlier bars (fine), and of all other earlier bars one
    summary each (coarse). With a plan, it also sees the summary of its own bar.

    Args:
        vocab_size: Words of `intermezzo.processing.bar_midi_vocabulary`.
        hidden_size: Width.
        num_hidden_layers: Layers that predict.
        num_attention_heads: Heads.
        intermediate_size: Width of the feed-forward.
        fine_bars: How far back the bars lie of which every token is seen (paper, section 3.3).
        full_attention: See all tokens of all earlier bars instead and make no summaries: the model to compare with.
        num_summary_layers: Layers that sum up a bar.
        summary_intermediate_size: Width of their feed-forward.
        summary_size: Numbers in a summary: the bottleneck.
        plan_dropout: Part of the bars (of a training run) that do not see their own summary.
        alone_rate: Part of the training rows with a whole plan in which bars see no other bar's tokens, only its
            summary, as when all bars are written at once.
        measure_bars: The first numbers of a summary are measured (`modeling.museformer_measures`), the others learnt.
        measure_noise: Standard deviation of the noise upon measured numbers in training; theirs is 1.
        summary_noise: The same upon learnt numbers.
        kl_weight: Weight of the summaries' distance from a standard normal distribution, in the training loss.
        bag_weight: Weight, in the training loss, of telling a bar's words from its summary in no order.
        rotary_sizes: Pairs of each head that turn with the bar, with the time in the bar, and with the place of the
            token in the bar; together half a head.
        dropout: Dropout after attention and feed-forward.
        initializer_range: Standard deviation of the first weights.
        gather_bars: With `sdpa` and without a cache, compute bar by bar on the keys that are visible, not on all keys
            under a mask: the same numbers, faster on a CPU, slower on a GPU. `None`: on the CPU only.
        bar_token_id: The word that begins a bar.
        position_token_id: The word for the first position of a bar; those of the others follow it.
        num_positions: How many there are.
    """

    model_type = "museformer"
    keys_to_ignore_at_inference = ["past_key_values"]

    vocab_size: int = 1023
    hidden_size: int = 256
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    fine_bars: list[int] | tuple[int, ...] = (1, 2, 4, 8, 12, 16, 24, 32)
    full_attention: bool = False
    num_summary_layers: int = 2
    summary_intermediate_size: int = 768
    summary_size: int = 32
    plan_dropout: float | int = 0.5
    alone_rate: float | int = 0.2
    measure_bars: bool = True
    measure_noise: float | int = 0.15
    summary_noise: float | int = 0.5
    kl_weight: float | int = 0.0
    bag_weight: float | int = 0.5
    rotary_sizes: list[int] | tuple[int, ...] = (8, 12, 12)
    dropout: float | int = 0.1
    initializer_range: float | int = 0.02
    gather_bars: bool | None = None
    tie_word_embeddings: bool = True
    use_cache: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    bos_token_id: int | None = 2
    bar_token_id: int = 2
    position_token_id: int = 337
    num_positions: int = 144

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.fine_bars, self.rotary_sizes = tuple(self.fine_bars), tuple(self.rotary_sizes)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        half = self.hidden_size // self.num_attention_heads / 2
        if len(self.rotary_sizes) != 3 or sum(self.rotary_sizes) != half or min(self.rotary_sizes) < 1:
            raise ValueError(f"rotary_sizes are three numbers that make {half:g} together, got {self.rotary_sizes}")
        if any(bar < 1 for bar in self.fine_bars) or sorted(set(self.fine_bars)) != list(self.fine_bars):
            raise ValueError(f"fine_bars are rising numbers from 1 on, got {self.fine_bars}")
        for name in ("hidden_size", "num_hidden_layers", "num_summary_layers", "summary_size", "num_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("plan_dropout", "alone_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1]")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1)")
        if self.measure_bars and not self.full_attention and self.summary_size <= NUM_MEASURES:
            raise ValueError(f"summary_size {self.summary_size} must be more than the {NUM_MEASURES} measured numbers")
        for name in ("kl_weight", "measure_noise", "summary_noise", "bag_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it can not be below 0")
        last = max(self.bar_token_id, self.position_token_id + self.num_positions - 1)
        if last >= self.vocab_size:
            raise ValueError(f"token {last} is not among vocab_size {self.vocab_size}")


def museformer_tiny(**changes: Any) -> MuseformerConfig:
    """For tries: seconds on one core."""
    settings: dict[str, Any] = dict(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, num_summary_layers=1,
        summary_intermediate_size=128, rotary_sizes=(4, 6, 6), dropout=0.0,
    )  # fmt: skip
    return MuseformerConfig(**{**settings, **changes})


def museformer_small(**changes: Any) -> MuseformerConfig:
    """About 3 million parameters, for quick runs on few cores."""
    settings: dict[str, Any] = dict(
        hidden_size=192, num_hidden_layers=5, num_attention_heads=3, intermediate_size=768,
        summary_intermediate_size=512,
    )  # fmt: skip
    return MuseformerConfig(**{**settings, **changes})


def museformer_base(**changes: Any) -> MuseformerConfig:
    """The default: about 7 million parameters."""
    return MuseformerConfig(**changes)


def museformer_full(**changes: Any) -> MuseformerConfig:
    """Full attention at the default's size: what its perplexity, memory and time are compared with."""
    settings: dict[str, Any] = dict(full_attention=True, num_hidden_layers=9)
    return MuseformerConfig(**{**settings, **changes})


def museformer_small_full(**changes: Any) -> MuseformerConfig:
    """Full attention at the size of `museformer_small`."""
    return museformer_small(**{"full_attention": True, "num_hidden_layers": 8, **changes})


PRESETS = {
    "tiny": museformer_tiny,
    "small": museformer_small,
    "base": museformer_base,
    "full": museformer_full,
    "small_full": museformer_small_full,
}

__all__ = ["NUM_MEASURES", "MuseformerConfig"]
