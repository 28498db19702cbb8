"""Tiny FractalMidi models and rolls, for the tests."""

from __future__ import annotations

from typing import Any

import torch

from intermezzo.configuration.configuration_fractal_midi import FractalMidiConfig
from intermezzo.modeling.modeling_fractal_midi import FractalMidiModel

KINDS = {
    "ar": ("ar",) * 4,
    "mar": ("mar",) * 4,
    "mixed": ("mar", "ar", "mar", "ar"),
    "other": ("ar", "mar", "ar", "ar"),
}


def tiny(kind: str = "mar", **changes: Any) -> FractalMidiConfig:
    """8 pitches × 16 steps → 4 × 8 → 2 × 2 → 1, not square."""
    settings: dict[str, Any] = dict(
        level_sizes=((8, 16), (4, 8), (2, 2), (1, 1)),
        generator_types=KINDS[kind],
        hidden_sizes=(32, 24, 16),
        num_hidden_layers=(2, 1, 1),
        num_attention_heads=(2, 2, 2),
        context_margins=((3, 4), (2, 3)),
        train_nodes=(8, 64),
        num_codes=5,
        attribute_names=("key", "density"),
        attribute_sizes=(4, 2),
        condition_dropout=0.0,
        attribute_dropout=0.0,
        initializer_scale=3.0,  # an untrained model with an opinion, so that a leak would show
    )
    return FractalMidiConfig(**{**settings, **changes})


def random_codes(count: int, size: tuple[int, int] = (8, 16), num_codes: int = 5, seed: int = 3) -> torch.Tensor:
    """Sparse rolls with some sound in all patches of the first column, and empty patches elsewhere."""
    draw = torch.Generator().manual_seed(seed)
    codes = torch.randint(1, num_codes, (count, *size), generator=draw)
    codes = codes * (torch.rand(codes.shape, generator=draw) < 0.25)
    codes[:, : size[0] // 2, size[1] // 2 :] = 0
    codes[:, 0, 0] = 2
    return codes


def make(kind: str = "mar", seed: int = 0, **changes: Any) -> FractalMidiModel:
    torch.manual_seed(seed)
    model = FractalMidiModel(tiny(kind, **changes)).eval()
    with torch.no_grad():
        for level in model.levels[:-1]:
            level.head.bias += torch.tensor([-1.0, 1.0])  # so that not much is empty
    return model


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
