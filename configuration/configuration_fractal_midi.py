"""Configuration of FractalMidi, and its presets."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

GENERATOR_TYPES = ("ar", "mar")


@strict
class FractalMidiConfig(PreTrainedConfig):
    """A generator inside a generator inside a generator (FractalGen, arXiv 2502.17437) over piano rolls.

    A roll is a grid of patches, a patch a grid of smaller patches, down to one cell. Each grid has its own generator.
    Sizes are (pitches, steps). `G` = number of grids = levels − 1.

    Args:
        level_sizes: The roll, then the patch of each level; the last is one cell.
        generator_types: `ar` (one patch after the other, time first) or `mar` (masked, any order) for each level. That
            of the last level, one cell, says nothing: one thing has one order.
        hidden_sizes: Width of each grid's transformer (`G` numbers).
        num_hidden_layers: Layers of each grid's transformer (`G` numbers).
        num_attention_heads: Heads of each grid's transformer (`G` numbers).
        mlp_ratio: Width of the feed-forward, in hidden sizes.
        context_margins: How far a patch of level 1, 2, ... sees the known cells around it, in (pitches, steps)
            (`G − 1` pairs, none larger than the one before).
        num_codes: Classes of a cell: silence, held, and the loudness classes of an onset.
        train_nodes: How many patches of level 1, 2, ... a training step looks into, per roll (`G − 1` numbers). They
            are drawn so that the loss stays right on average.
        attribute_names: What `conditions` are about, in the order of its columns.
        attribute_sizes: Bins of each attribute.
        key_profiles: How much more often each pitch class sounds in a key than anywhere, as natural logarithms, counted
            from the tonic: 12 numbers for major, 12 for minor; empty: not known. Guides samples that are asked for a
            key or a mode.
        key_shares: How often the 12 major and the 12 minor keys are met; 24 numbers, or empty: not known. Samples that
            are asked for no key take one by these.
        known_conditions: How many rows of conditions are kept, of training rolls; samples take what is not asked for
            from one of them (`FractalMidiModel.known_conditions`).
        condition_dropout: Part of the training rolls that hide all their conditions, for classifier-free guidance.
        attribute_dropout: Part of the single conditions that are hidden besides.
        dropout: Dropout in the transformers.
        initializer_scale: Size of the first weights, relative to 1 / √(number of inputs).
    """

    model_type = "fractal_midi"

    level_sizes: list | tuple = ((128, 256), (16, 16), (4, 4), (1, 1))
    generator_types: list[str] | tuple[str, ...] = ("mar", "mar", "mar", "mar")
    hidden_sizes: list[int] | tuple[int, ...] = (256, 192, 128)
    num_hidden_layers: list[int] | tuple[int, ...] = (5, 4, 3)
    num_attention_heads: list[int] | tuple[int, ...] = (4, 4, 4)
    mlp_ratio: int = 4
    context_margins: list | tuple = ((12, 16), (12, 16))
    num_codes: int = 34
    train_nodes: list[int] | tuple[int, ...] = (16, 64)
    attribute_names: list[str] | tuple[str, ...] = ()
    attribute_sizes: list[int] | tuple[int, ...] = ()
    key_profiles: list | tuple = ()
    key_shares: list | tuple = ()
    known_conditions: int = 0
    condition_dropout: float | int = 0.1
    attribute_dropout: float | int = 0.1
    dropout: float | int = 0.0
    initializer_scale: float | int = 1.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for name in ("level_sizes", "context_margins"):
            pairs = tuple(tuple(pair) for pair in getattr(self, name))
            if any(len(pair) != 2 or not all(isinstance(n, int) and n >= 0 for n in pair) for pair in pairs):
                raise ValueError(f"{name} is made of pairs (pitches, steps), got {pairs}")
            setattr(self, name, pairs)
        for name in ("generator_types", "hidden_sizes", "num_hidden_layers", "num_attention_heads", "train_nodes",
                     "attribute_names", "attribute_sizes"):  # fmt: skip
            setattr(self, name, tuple(getattr(self, name)))
        self._check_levels()
        self._check_lengths()
        self._check_numbers()

    def _check_levels(self) -> None:
        sizes = self.level_sizes
        if len(sizes) < 2 or sizes[-1] != (1, 1):
            raise ValueError(f"level_sizes goes from the roll down to one cell, (1, 1), got {sizes}")
        for upper, lower in pairwise(sizes):
            if not all(b and a % b == 0 for a, b in zip(upper, lower, strict=True)) or upper == lower:
                raise ValueError(f"level_sizes: patches of {lower} do not divide {upper} into several")
        margins = self.context_margins
        for upper, lower in pairwise(margins):
            if any(b > a for a, b in zip(upper, lower, strict=True)):
                raise ValueError(f"context_margins: {lower} is wider than {upper} of the level above")

    def _check_lengths(self) -> None:
        levels = len(self.level_sizes)
        wanted = {"generator_types": levels, "hidden_sizes": levels - 1, "num_hidden_layers": levels - 1}
        wanted |= {"num_attention_heads": levels - 1, "context_margins": levels - 2, "train_nodes": levels - 2}
        for name, length in wanted.items():
            if len(getattr(self, name)) != length:
                raise ValueError(
                    f"{name} needs {length} entries for {levels} level_sizes, got {len(getattr(self, name))}"
                )
        if len(self.attribute_names) != len(self.attribute_sizes):
            raise ValueError(
                f"{len(self.attribute_names)} attribute_names, but {len(self.attribute_sizes)} attribute_sizes"
            )

    def _check_numbers(self) -> None:
        self.key_profiles = tuple(tuple(float(x) for x in row) for row in self.key_profiles)
        if self.key_profiles and [len(row) for row in self.key_profiles] != [12, 12]:
            raise ValueError(f"key_profiles has 12 numbers for major and 12 for minor, got {self.key_profiles}")
        self.key_shares = tuple(float(x) for x in self.key_shares)
        if self.key_shares and (len(self.key_shares) != 24 or min(self.key_shares) < 0 or not sum(self.key_shares)):
            raise ValueError(f"key_shares are 24 parts, none below 0, got {self.key_shares}")
        for kind in self.generator_types:
            if kind not in GENERATOR_TYPES:
                raise ValueError(f"generator_types: {kind!r} is none of {', '.join(GENERATOR_TYPES)}")
        for width, heads in zip(self.hidden_sizes, self.num_attention_heads, strict=True):
            if heads < 1 or width < 1 or width % (2 * heads):
                raise ValueError(f"hidden size {width} is not a multiple of 2 x {heads} attention heads")
        for name in ("num_hidden_layers", "train_nodes", "attribute_sizes"):
            if any(number < 1 for number in getattr(self, name)):
                raise ValueError(f"{name} must be at least 1 each, got {getattr(self, name)}")
        if self.num_codes < 3:
            raise ValueError(f"num_codes counts silence, held and at least one onset, got {self.num_codes}")
        if self.known_conditions < 0:
            raise ValueError(f"known_conditions is a number of rows, got {self.known_conditions}")
        for name in ("condition_dropout", "attribute_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1)")

    @property
    def num_grids(self) -> int:
        """Grids of patches = transformers."""
        return len(self.level_sizes) - 1

    def margins(self, level: int) -> tuple[int, int]:
        """(pitches, steps) that a patch of this level sees around itself; the roll is padded for its patches."""
        if not self.context_margins or level == self.num_grids:
            return (0, 0)
        return self.context_margins[max(0, level - 1)]


def fractal_midi_tiny(**changes: Any) -> FractalMidiConfig:
    """Two grids over 32 × 64 cells, for tries: seconds on one core."""
    settings: dict[str, Any] = dict(
        level_sizes=((32, 64), (8, 8), (1, 1)),
        generator_types=("mar", "mar", "mar"),
        hidden_sizes=(64, 48),
        num_hidden_layers=(2, 2),
        num_attention_heads=(2, 2),
        context_margins=((4, 8),),
        train_nodes=(16,),
    )
    return FractalMidiConfig(**{**settings, **changes})


def fractal_midi_small(**changes: Any) -> FractalMidiConfig:
    """The full roll with narrow transformers, for quick runs on few cores."""
    settings: dict[str, Any] = dict(hidden_sizes=(160, 128, 96), num_hidden_layers=(4, 3, 2))
    return FractalMidiConfig(**{**settings, **changes})


def fractal_midi_base(**changes: Any) -> FractalMidiConfig:
    """The default: 128 pitches × 256 steps (16 bars of sixteenths)."""
    return FractalMidiConfig(**changes)


PRESETS = {"tiny": fractal_midi_tiny, "small": fractal_midi_small, "base": fractal_midi_base}

__all__ = ["FractalMidiConfig"]
