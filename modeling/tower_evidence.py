"""What the dense heads of our tower read, as features of columns for a connector."""

from __future__ import annotations

import torch

from ..configuration.configuration_score_tower import ScoreTowerConfig
from .connectors import running_counts
from .dense_losses import FLAGS
from .modeling_score_tower import SLOTS

COUNT_PERIODS = 8


def dense_evidence(logits: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the dense heads saw, as features of columns: probabilities, and how many beats and bars have passed.

    Args:
        logits: Fields of `DenseHeads`.

    Returns:
        `(B, T / 2, E)` float32, one row a column; attributes count only as far as the thing they belong to is there.
    """
    frets = logits["frets"].softmax(-1)  # (B, S, T, F)
    beats = logits["beats"].softmax(-1)  # (B, V, T, 3)
    note_here, beat_here = 1 - frets[..., :1], 1 - beats[..., :1]
    start = logits["bar_edges"].sigmoid()  # (B, T, 2)
    parts = [frets[..., 1:], logits["string_voice"].softmax(-1) * note_here]
    parts += [logits["note_effects"].sigmoid() * note_here]
    parts += [beats[..., 1:]]
    for name in ("durations", "dots", "tuplets", "graces", "beat_effects"):
        values = logits[name].sigmoid() if name in FLAGS else logits[name].softmax(-1)
        parts.append(values * beat_here)
    features = [part.transpose(1, 2).flatten(2) for part in parts]  # each (B, T, ·)
    features += [
        start,
        logits["bar_starts"].sigmoid() * start[..., :1],
        logits["bar_ends"].sigmoid() * start[..., 1:],
        logits["tempo_digits"].softmax(-1).flatten(2) * beat_here[:, 0],
        running_counts(beat_here[:, 0, :, 0], COUNT_PERIODS),
        running_counts(start[..., 0], COUNT_PERIODS),
    ]
    evidence = torch.cat(features, dim=-1)  # (B, T, ·)
    return evidence.reshape(evidence.shape[0], evidence.shape[1] // SLOTS, -1)  # both slots of a column together


def evidence_size(config: ScoreTowerConfig) -> int:
    """Number of features of `dense_evidence`."""
    size = {name: len(classes) for name, classes in config.labels.items()}
    string = size["frets"] + config.max_voices + size["note_effects"]
    voice = 2 + size["durations"] + 3 + (1 + size["tuplets"]) + (1 + size["graces"]) + size["beat_effects"]
    column = 2 + size["bar_starts"] + size["bar_ends"] + 30 + 4 * COUNT_PERIODS
    return SLOTS * (config.max_strings * string + config.max_voices * voice + column)


__all__ = ["dense_evidence", "evidence_size"]
