"""Classifier-free guidance for what a NativeVLM writes (arXiv 2207.12598, equation 6, on log-probabilities)."""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers import DynamicCache, LogitsProcessor

from ..processing.errors import InputError


class GuidanceLogitsProcessor(LogitsProcessor):
    """Moves scores away from what the model would write without its prompt.

    Beside `generate`, the same model reads another prompt, followed by what has been written so far, with a cache of
    its own. Sampling and greedy choice only: beams change places, and the cache would not follow.

    Args:
        model: `NativeVLMForCausalLM`.
        prompt_length: Tokens of the real prompt.
        unconditional_ids: `(B, U)` or `(1, U)`, the prompt without a condition.
        scale: 1 changes nothing, 0 writes without the condition, more than 1 exaggerates it.
    """

    def __init__(self, model: Any, prompt_length: int, unconditional_ids: torch.Tensor, scale: float) -> None:
        if not 0 <= scale < math.inf:
            raise InputError(None, f"guidance_scale is {scale}; it must be 0 or more, and a number")
        self.model, self.prompt_length, self.scale = model, prompt_length, scale
        self.prefix = unconditional_ids
        self.cache: Any = None
        self.seen: torch.Tensor | None = None  # what the cache holds

    @torch.no_grad()
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(B, V)` as log-probabilities."""
        if self.scale == 1:
            return scores
        prefix = self.prefix.to(input_ids.device).expand(len(input_ids), -1)
        whole = torch.cat([prefix, input_ids[:, self.prompt_length :]], dim=1)
        known = 0 if self.seen is None else self.seen.shape[1]
        if self.seen is not None and (known >= whole.shape[1] or not torch.equal(self.seen, whole[:, :known])):
            raise InputError(None, "guidance goes with greedy choice and sampling, one sequence a row; not with beams")
        if self.cache is None:
            self.cache = DynamicCache(config=self.model.config)
        where = self.model.whereabouts(whole, None, whole.shape[1] - known)
        out = self.model(whole[:, known:], past_key_values=self.cache, use_cache=True, **where)
        self.seen = whole
        free = out.logits[:, -1].float().log_softmax(-1)
        asked = scores.float().log_softmax(-1)
        return (free + self.scale * (asked - free)).to(scores.dtype)


__all__ = ["GuidanceLogitsProcessor"]
