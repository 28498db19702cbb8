"""Untrained models that compose, with a made-up text encoder, for the tests."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np
import torch

from intermezzo.composing_parts import Composer
from intermezzo.configuration.configuration_summary_bridge import SummaryBridgeConfig
from intermezzo.modeling.modeling_summary_bridge import SummaryBridgeModel
from intermezzo.processing.processing_museformer import BarMidiProcessor
from intermezzo.processing.processing_summary_bridge import SummaryBridgeProcessor

from . import tiny_museformer

ENCODER = "made_up_composer_words"
WIDTH = 6  # of the tiny StyleEncoder too


def vectors(texts: list[str]) -> np.ndarray:
    """A text encoder: letters counted into bins."""
    return np.array([np.bincount([ord(c) % WIDTH for c in text], minlength=WIDTH) for text in texts], np.float32)


def encoder_module() -> ModuleType:
    """The module that `ENCODER:vectors` names."""
    module = ModuleType(ENCODER)
    module.vectors = vectors  # type: ignore[attr-defined]
    return module


def tiny_bridge(**changes: Any) -> SummaryBridgeModel:
    torch.manual_seed(1)
    sizes: dict[str, Any] = dict(
        summary_size=6, text_size=WIDTH, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=48, dropout=0.0, initializer_range=0.3, num_inference_steps=2,
    )  # fmt: skip
    return SummaryBridgeModel(SummaryBridgeConfig(**{**sizes, **changes})).eval()


def tiny_composer(short: bool = True, **changes: Any) -> Composer:
    """Models that know nothing; `short`: no bar has more than 20 words."""
    museformer: Any = tiny_museformer.make()
    if short:
        museformer.write = functools.partial(museformer.write, max_bar_tokens=20)
    words = SummaryBridgeProcessor(text_encoder=f"{ENCODER}:vectors", num_tokens=4)
    return Composer(museformer, BarMidiProcessor(), tiny_bridge(**changes), words)


__all__ = ["ENCODER", "WIDTH", "encoder_module", "tiny_bridge", "tiny_composer", "vectors"]
