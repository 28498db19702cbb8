"""ScoreEdit's processor: instructions to characters, and what the model says to steps of the edit language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .edit_language import ARGUMENTS, DOMAINS, MAX_STEPS, NO_ARGUMENT, OPERATIONS, EditStep, Program
from .errors import InputError
from .text_encoder import TextEncoder, load_text_encoder

PAD, HIDDEN, FIRST_ASCII = 0, 1, 2
#: What is understood with less than this is not carried out: a person is asked to say it in other words.
MIN_CHANCE = 0.5
_HASHED = FIRST_ASCII + 128
_SAME = str.maketrans({"♭": "b", "♯": "#", "，": ",", "。": ".", "；": ";", "＋": "+", "－": "-", "−": "-", "–": "-"})
#: Where one wish may end and the next begin: stops, and words that lead over.
_BETWEEN = re.compile(
    r"[,;!?:。、&]+|\.(?!\d)|\b(?:and then|after that|and also|as well as|then|and|also|plus|finally|next|afterwards)\b"
    r"|然后|并且|同时|最后|还要|接着|另外|而且|顺便|之后|以及|还有|接下来|随后"
)
_ENCODERS: dict[tuple[str, int], TextEncoder] = {}


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


def parts_of(text: str, most: int) -> list[str]:
    """A plain instruction, then its parts between stops and words such as "then", where there are several.

    Args:
        text: As `plain` gives it.
        most: Of so many in all.
    """
    parts = [part.strip() for part in _BETWEEN.split(text)]
    parts = [part for part in parts if len(part) > 1]
    return [text, *(parts if len(parts) > 1 else [])][:most]


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
        text_encoder: Whose vectors the model reads beside the characters, by a name of `text_encoder.py` such as
            `use`; empty: none.
        text_places: Vectors of one instruction: the whole, then its parts.
    """

    def __init__(
        self,
        vocab_size: int = 8192,
        max_characters: int = 200,
        text_encoder: str = "",
        text_places: int = 5,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.max_characters = max_characters
        self.text_encoder = text_encoder
        self.text_places = text_places
        super().__init__(**kwargs)

    @property
    def model_input_names(self) -> list[str]:
        """What `__call__` gives."""
        return ["input_ids", "attention_mask", *(["text_features", "text_mask"] if self.text_encoder else [])]

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        programs: Sequence[Program] | None = None,
        return_tensors: str | None = "pt",
        text_batch: int = 1,
        **kwargs: Any,
    ) -> BatchFeature:
        """Characters of instructions, and vectors of what they say.

        Args:
            text: One instruction or several.
            programs: What each of them asks for, to learn from.
            return_tensors: As everywhere in transformers.
            text_batch: Texts that the text encoder reads at once; with 1 its vectors hang on nothing but the text.
            **kwargs: Not used; there for pipelines.

        Returns:
            `input_ids` and `attention_mask`, int64 `(B, T)`; with a text encoder `text_features`, float32 `(B, P, E)`,
            and `text_mask`, int64 `(B, P)`; with `programs` also `operation_labels` and `argument_labels`, int64
            `(B, S)`.

        Raises:
            InputError: An instruction is empty or too long, or the text encoder is not installed.
        """
        texts = [text] if isinstance(text, str) else list(text or [])
        rows = [self.ids(one) for one in texts]
        if not rows:
            raise InputError(None, "no instruction was given")
        ids = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
        for row, numbers in enumerate(rows):
            ids[row, : len(numbers)] = numbers
        data: dict[str, Any] = {"input_ids": ids, "attention_mask": (ids != PAD).astype(np.int64)}
        if self.text_encoder:
            data |= self.vectors(texts, text_batch)
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

    def vectors(self, texts: Sequence[str], text_batch: int = 1) -> dict[str, np.ndarray]:
        """Vectors of instructions and their parts, and which there are; see `__call__`."""
        key = (self.text_encoder, text_batch)
        if key not in _ENCODERS:
            _ENCODERS[key] = load_text_encoder(self.text_encoder, num_tokens=1, batch_size=text_batch)
        rows = [parts_of(plain(text), self.text_places) for text in texts]
        found = _ENCODERS[key]([part for row in rows for part in row]).pooled
        features = np.zeros((len(rows), self.text_places, found.shape[1]), dtype=np.float32)
        mask = np.zeros(features.shape[:2], dtype=np.int64)
        start = 0
        for place, row in enumerate(rows):
            features[place, : len(row)] = found[start : start + len(row)]
            mask[place, : len(row)] = 1
            start += len(row)
        return {"text_features": features, "text_mask": mask}

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

        What is said twice ("too hard, make it easier") is one step.

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
                step = EditStep(operation, domain[int(chances.argmax())])
                if step not in steps:
                    steps.append(step)
            found.append(Understanding(tuple(steps), sure))
        return found


def _numbers(values: Any) -> np.ndarray:
    values = values.detach().float().cpu().numpy() if hasattr(values, "detach") else values
    return np.asarray(values, dtype=np.float64)


__all__ = ["MIN_CHANCE", "ScoreEditProcessor", "Understanding", "character_id", "parts_of", "plain"]
