"""Small models and sequences for the tests of NativeVLM."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from intermezzo.configuration.configuration_native_vlm import NativeVLMConfig

VQ: dict[str, Any] = dict(
    patch_height=16,
    patch_width=8,
    channels=(4, 4, 4, 4),
    depth=0,
    code_depth=0,
    codebook="vq",
    codebook_size=16,
    codebook_dim=4,
    codebook_warmup=0,
)
PAD, BOS, END, USER, ASSISTANT, IMAGE = 0, 1, 2, 4, 5, 6  # as in AlphaTexTokenizer


def native_config(**changes: Any) -> NativeVLMConfig:
    options: dict[str, Any] = dict(
        vq_config=VQ,
        text_vocab_size=24,
        max_rows=4,
        max_columns=6,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        z_loss_weight=0.0,
        max_position_embeddings=128,
        image_token_id=IMAGE,
        initializer_range=0.1,
    )
    return NativeVLMConfig(**{**options, **changes})


def grid(rows: int, columns: int, codes: int = 16) -> np.ndarray:
    """Random codes, from torch's generator."""
    return torch.randint(codes, (rows, columns)).numpy()


def sequences(config: NativeVLMConfig, batch: int = 2) -> torch.Tensor:
    """Text, a picture of 2 x 3, text: all of one length."""
    rows = []
    for _ in range(batch):
        text = torch.randint(7, config.text_vocab_size, (6,)).tolist()
        picture = config.vocabulary.write_grid(grid(2, 3))
        rows.append([BOS, USER, *text[:3], *picture, END, ASSISTANT, *text[3:], END])
    return torch.tensor(rows)
