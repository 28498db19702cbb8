"""What NativeVLM can do without a picture, beside the language model that it grew from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor

from ..modeling.native_neighbours import OFFSETS
from ..processing.native_decoding import NativeLogitsProcessor
from .evaluation import EvaluationRequest
from .evaluation_alphatex_lm import EndNotAtOnce, LanguageText, Options, Writer, measure_notes, measure_writing
from .evaluation_report import EvaluationReport
from .metrics_common import Estimate

NAMES = ("structure", "tab_completion", "note_completion", "note_completion_left")


class TextOnly(LogitsProcessor):
    """No codes and no columns.

    Args:
        size: Ids of the text.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(B, V)`."""
        scores = scores.clone()
        scores[:, self.size :] = -torch.inf
        return scores


class NativeWriter(Writer):
    """Runs NativeVLM on texts alone, asked for nothing in particular, as its lessons `text` do."""

    def __init__(self, model: Any, tokenizer: Any, options: Options, seed: int = 0) -> None:
        super().__init__(model, tokenizer, options, seed)
        asked = ("<|bos|>", "<|user|>", "<|end|>", "<|assistant|>")
        self.before_text = [tokenizer.convert_tokens_to_ids(name) for name in asked]

    def rules(self, prompt: int, room: int, grammar: bool) -> list[LogitsProcessor]:
        """As ever, and no pictures."""
        vocabulary = self.model.config.vocabulary
        rules = [TextOnly(vocabulary.text_size), EndNotAtOnce(self.tokenizer.eos_token_id, prompt)]
        if grammar:
            rules[0] = NativeLogitsProcessor(vocabulary, self.grammar, max_length=prompt + room, want="text")
        return rules

    def whereabouts(self, rows: torch.Tensor, past: int) -> dict[str, Any]:
        """Text is counted, and has nothing beside it."""
        places = torch.arange(past, past + rows.shape[1], device=rows.device).expand_as(rows)
        found = {"position_ids": places}
        if self.model.config.neighbours:
            found["neighbours"] = rows.new_full((*rows.shape, len(OFFSETS)), -1)
        return found


def behind(before: Estimate, after: Estimate) -> Estimate:
    """How much less one share is than another, with Newcombe's interval of a difference (Stat. Med. 17 (1998), 873)."""
    value = before.value - after.value
    low = value - math.hypot(before.value - before.low, after.high - after.value)
    high = value + math.hypot(before.high - before.value, after.value - after.low)
    return Estimate(value, low, high, min(before.n, after.n), before.unit, before.groups, "newcombe")


def measure_text(writer: Writer, texts: Sequence[LanguageText], request: EvaluationRequest) -> dict[str, Estimate]:
    """Structure of free texts, tab completion and note completion, without the grammar; as many as there are texts."""
    part = EvaluationRequest(request.stem, "", n=len(texts), seed=request.seed, progress=request.progress)
    report = EvaluationReport(request.stem, "", "", len(texts), request.seed)
    figures = measure_writing(writer, texts, report, part, grammar=False) | measure_notes(writer, texts, report, part)
    return {name: figures[name] for name in NAMES if name in figures}


__all__ = ["NAMES", "NativeWriter", "TextOnly", "behind", "measure_text"]
