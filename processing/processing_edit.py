"""ScoreEdit's processor: instructions to characters, and what the model says to steps of the edit language."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .edit_language import ARGUMENTS, DOMAINS, MAX_STEPS, NO_ARGUMENT, OPERATIONS, EditStep, Program
from .errors import InputError

PAD, FIRST_ASCII = 0, 2
#: What is understood with less than this is not carried out: a person is asked to say it in other words.
MIN_CHANCE = 0.5
_HASHED = FIRST_ASCII + 128
_SAME = str.maketrans({"♭": "b", "♯": "#", "，": ",", "。": ".", "；": ";", "＋": "+", "－": "-", "−": "-", "–": "-"})


@dataclass(frozen=True)
class Understanding:
    """What an instruction was understood as.

    Attributes:
        program: The steps, in order; `unknown` is what is no edit.
        chance: How sure the model is of all of it, 0 to 1.
    """

    program: Program
    chance: float


def plain(text: str) -> str:
    """An instruction without differences that mean nothing: width of letters, case, spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(_SAME).casefold().split())


def character_id(letter: str, vocab_size: int) -> int:
    """Row of a character: its own for ASCII, for others a hashed one (D. Knuth, TAOCP 3, section 6.4)."""
    code = ord(letter)
    return FIRST_ASCII + code if code < 128 else _HASHED + (code * 2654435761 % 2**32) % (vocab_size - _HASHED)


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


class ScoreEditProcessor(ProcessorMixin):
    """Turns instructions in any language into characters, and logits into programs.

    Args:
        vocab_size: Rows of the model's table of characters.
        max_characters: Longest instruction; a longer one is refused.
    """

    def __init__(self, vocab_size: int = 8192, max_characters: int = 200, **kwargs: Any) -> None:
        self.vocab_size = vocab_size
        self.max_characters = max_characters
        super().__init__(**kwargs)

    @property
    def model_input_names(self) -> list[str]:
        """What `__call__` gives."""
        return ["input_ids", "attention_mask"]

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        programs: Sequence[Program] | None = None,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Characters of instructions.

        Args:
            text: One instruction or several.
            programs: What each of them asks for, to learn from.
            return_tensors: As everywhere in transformers.
            **kwargs: Not used; there for pipelines.

        Returns:
            `input_ids` and `attention_mask`, int64 `(B, T)`; with `programs` also `operation_labels` and
            `argument_labels`, int64 `(B, S)`.

        Raises:
            InputError: An instruction is empty or too long.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        rows = [self.ids(one) for one in texts]
        if not rows:
            raise InputError(None, "no instruction was given")
        ids = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
        for row, numbers in enumerate(rows):
            ids[row, : len(numbers)] = numbers
        data: dict[str, Any] = {"input_ids": ids, "attention_mask": (ids != PAD).astype(np.int64)}
        if programs is not None:
            data |= self.labels(programs)
        return BatchFeature(data, tensor_type=return_tensors)

    def ids(self, text: str) -> list[int]:
        """Numbers of the characters of one instruction; errors as in `__call__`."""
        letters = plain(text)
        if not letters:
            raise InputError(None, "the instruction is empty; say what to change, such as 'up two semitones'")
        if len(letters) > self.max_characters:
            raise InputError(
                None,
                f"the instruction has {len(letters)} characters, at most {self.max_characters} are read; shorten it",
            )
        return [character_id(letter, self.vocab_size) for letter in letters]

    def labels(self, programs: Sequence[Program]) -> dict[str, np.ndarray]:
        """Classes of programs; see `ScoreEditModel.forward`."""
        operations = np.zeros((len(programs), MAX_STEPS), dtype=np.int64)
        arguments = np.full((len(programs), MAX_STEPS), -100, dtype=np.int64)
        for row, program in enumerate(programs):
            for place, step in enumerate(program):
                operations[row, place] = 1 + OPERATIONS.index(step.operation)
                if step.argument != NO_ARGUMENT:
                    arguments[row, place] = ARGUMENTS.index(step.argument)
        return {"operation_labels": operations, "argument_labels": arguments}

    def decode(self, operation_logits: Any, argument_logits: Any) -> list[Understanding]:
        """Programs of a batch: the likeliest operation of each step, the likeliest argument that it takes.

        Args:
            operation_logits: `(B, S, 1 + operations)`.
            argument_logits: `(B, S, arguments)`.
        """
        found = []
        for rows, values in zip(_numbers(operation_logits), _numbers(argument_logits), strict=True):
            steps, sure = [], 1.0
            for row, value in zip(_softmax(rows), values, strict=True):
                best = int(row.argmax())
                sure *= float(row[best])
                if best == 0:
                    break
                operation = OPERATIONS[best - 1]
                domain = DOMAINS.get(operation, (NO_ARGUMENT,))
                chances = _softmax(value[[ARGUMENTS.index(argument) for argument in domain]])
                sure *= float(chances.max())
                steps.append(EditStep(operation, domain[int(chances.argmax())]))
            found.append(Understanding(tuple(steps), sure))
        return found


def _numbers(values: Any) -> np.ndarray:
    values = values.detach().float().cpu().numpy() if hasattr(values, "detach") else values
    return np.asarray(values, dtype=np.float64)


__all__ = ["MIN_CHANCE", "ScoreEditProcessor", "Understanding", "character_id", "plain"]
