"""Instructions to learn from, made up as they are needed, and how well a model understands those it has not seen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from ..datasets_scripts.edit_wordings import LANGUAGES, instruction, random_program
from ..processing.edit_language import Program, write_program
from ..processing.processing_edit import ScoreEditProcessor


def noisy(text: str, rng: random.Random) -> str:
    """Slips of the finger: a letter or two is lost, doubled, or changes place with its neighbour."""
    letters = list(text)
    for _ in range(rng.choice((1, 1, 2))):
        if len(letters) < 6:
            break
        place = rng.randrange(len(letters) - 1)
        if any(letter.isdecimal() for letter in letters[place : place + 2]):
            continue  # another number is another wish
        kind = rng.random()
        if kind < 0.4:
            del letters[place]
        elif kind < 0.7:
            letters.insert(place, letters[place])
        else:
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)


class Instructions(Dataset):
    """Row `i` is always the same instruction, in Chinese or English, in wordings of one split.

    Args:
        count: Rows.
        split: Of the wordings.
        seed: Of the rows.
        noise: Part of the rows with slips of the finger.
    """

    def __init__(self, count: int, split: str, seed: int = 0, noise: float = 0.0) -> None:
        self.count, self.split, self.seed, self.noise = count, split, seed, noise

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[str, Program, str]:
        """Instruction, program, language."""
        rng = random.Random(f"{self.seed} {self.split} {index}")
        program = random_program(rng)
        language = rng.choice(LANGUAGES)
        text = instruction(program, language, self.split, rng)
        return noisy(text, rng) if rng.random() < self.noise else text, program, language


class InstructionCollate:
    """Batches of `Instructions`."""

    def __init__(self, processor: ScoreEditProcessor) -> None:
        self.processor = processor

    def __call__(self, rows: Sequence[tuple[str, Program, str]]) -> dict[str, torch.Tensor]:
        """Inputs and labels of the model."""
        return dict(self.processor(text=[row[0] for row in rows], programs=[row[1] for row in rows]))


def understand(model: Any, processor: ScoreEditProcessor, texts: Sequence[str], batch_size: int = 64) -> list[Any]:
    """What a model takes instructions for, as `Understanding`s."""
    found: list[Any] = []
    with torch.no_grad():
        for start in range(0, len(texts), batch_size):
            inputs = processor(text=list(texts[start : start + batch_size])).to(model.device)
            output = model(**inputs)
            found += processor.decode(output.operation_logits, output.argument_logits)
    return found


def evaluate_instructions(model: Any, rows: Any, processor: ScoreEditProcessor) -> dict[str, float]:
    """Share of instructions understood to the letter: `exact`, `exact_zh`, `exact_en`; `error` is the rest."""
    data = [rows[i] for i in range(len(rows))]
    found = understand(model, processor, [text for text, _, _ in data])
    right = [write_program(f.program) == write_program(p) for f, (_, p, _) in zip(found, data, strict=True)]
    figures = {"exact": sum(right) / len(right)}
    for language in LANGUAGES:
        own = [good for good, row in zip(right, data, strict=True) if row[2] == language]
        figures[f"exact_{language}"] = sum(own) / max(len(own), 1)
    return figures | {"error": 1.0 - figures["exact"]}


__all__ = ["InstructionCollate", "Instructions", "evaluate_instructions", "noisy", "understand"]
