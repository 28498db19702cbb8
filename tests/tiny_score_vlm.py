"""Small towers, language models and pictures for the tests of ScoreVLM."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from intermezzo.configuration.configuration_score_tower import ScoreTowerConfig
from intermezzo.configuration.configuration_score_vlm import ScoreVLMConfig
from intermezzo.processing.dense_labels import SLOT_PX, SparseLabels, expand
from intermezzo.processing.multimodal_utils import count_image_tokens

LABELS = {
    "frets": ["0", "1", "2", "3", "x", "t"],
    "note_effects": ["h", "ss"],
    "durations": ["1", "2", "4", "8", "16", "32", "64"],
    "tuplets": ["3:2"],
    "graces": ["gr"],
    "beat_effects": ["v"],
    "bar_starts": ["ro", "ts 4,4", "tempo"],
    "bar_ends": ["rc 2"],
}
IMAGE, PAD, BOS, END, USER, ASSISTANT = 6, 0, 1, 2, 4, 5  # as in AlphaTexTokenizer


def tower_config(**changes: Any) -> ScoreTowerConfig:
    options: dict[str, Any] = dict(
        stem_channels=4,
        stage_channels=(4, 6, 8),
        fine_channels=(4, 6),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        string_hidden_size=8,
        labels=LABELS,
    )
    return ScoreTowerConfig(**options | changes)


def text_config(vocab_size: int = 24) -> dict[str, Any]:
    return dict(
        model_type="nanochat",
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=1024,
        bos_token_id=BOS,
        eos_token_id=END,
        pad_token_id=PAD,
    )


def vlm_config(vocab_size: int = 24, **changes: Any) -> ScoreVLMConfig:
    options: dict[str, Any] = dict(
        vision_config=tower_config(), text_config=text_config(vocab_size), image_token_id=IMAGE
    )
    return ScoreVLMConfig(**options | changes)


def pictures(count: int, width: int = 64, height: int = 320) -> torch.Tensor:
    """Random ink, `(count, 1, height, width)`."""
    return (torch.rand(count, 1, height, width) > 0.8).float()


def dense_labels(count: int, width: int = 64) -> dict[str, torch.Tensor]:
    """A bar with two voices' beats in each picture, a little different in each."""
    samples = []
    for i in range(count):
        x = 20.0 + 4 * (i % 3)
        notes = [[i % 6, x, 1 + i % 6, 0, i % 4], [(i + 3) % 7, x + 16, 2, 1, 0]]
        beats = [[0, x, 1, i % 7, i % 3, i % 2, 0, i % 2], [1, x + 16, 1, 3, 0, 0, 1, 0], [0, x + 24, 2, 2, 0, 0, 0, 0]]
        bars = [[8.0, width - 6.0, 1 + i % 7, i % 2, 90 + 7 * i]]
        samples.append(SparseLabels(*(np.asarray(rows, dtype=np.float64) for rows in (notes, beats, bars))))
    arrays = expand(samples, [width] * count, width // SLOT_PX, LABELS)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def prompt(widths: list[int], answer: int = 0, vocab_size: int = 24) -> dict[str, torch.Tensor]:
    """The turn that asks to read one picture of each width, padded on the left, and random answers."""
    counts = [count_image_tokens(width, 8) for width in widths]
    rows = [
        [BOS, USER, *[IMAGE] * n, END, ASSISTANT, *torch.randint(7, vocab_size, (answer,)).tolist()] for n in counts
    ]
    length = max(map(len, rows))
    ids = torch.tensor([[PAD] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    inputs = {"input_ids": ids, "attention_mask": mask, "widths": torch.tensor(widths)}
    if answer:
        inputs["labels"] = torch.where(torch.arange(length) < length - answer, -100, ids)
    return inputs
