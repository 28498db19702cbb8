"""Instructions to learn from, made up as they are needed, and how well a model understands those it has not seen."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from ..datasets_scripts.edit_templates import templated
from ..datasets_scripts.edit_wordings import LANGUAGES, instruction, random_program
from ..processing.edit_language import MAX_STEPS, UNKNOWN, EditStep, Program, contradiction, write_program
from ..processing.processing_edit import HIDDEN, MIN_CHANCE, ScoreEditProcessor, Understanding, parts_of, plain

_LONGEST = 150  # of the 200 characters that the model reads: long ones take long and teach little more
_SEVERAL = 0.4  # part of the training programs of one step that are drawn once more, for several steps teach more
_AGAIN = 0.6  # part of the training programs of nothing but these that are drawn once more: their names tell them
_EASY = frozenset(("style", "tuning", "metre", "key", "position", "capo"))
TEXT_BATCH = 32  # texts that the text encoder reads at once in training
_WORD = re.compile(r"[a-z]{3,}|[\u4e00-\u9fff]{1,2}")


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


def _training_program(rng: random.Random) -> Program:
    """A program to learn from: more of several steps, and of what people say in the most ways, than they ask for."""
    program = random_program(rng)
    while all(step.operation in _EASY for step in program) and rng.random() < _AGAIN:
        program = random_program(rng)
    if len(program) == 1 and program[0].operation != UNKNOWN and rng.random() < _SEVERAL:
        program = random_program(rng, unknown=0.0)
    return program


class Instructions(Dataset):
    """Row `i` is always the same instruction, in Chinese or English, in wordings of one split.

    Those of training are made of the templates too, and so are nearly all different.

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
        program = _training_program(rng) if self.split == "train" else random_program(rng)
        language = rng.choice(LANGUAGES)
        text = self._said(program, language, rng)
        return noisy(text, rng) if rng.random() < self.noise else text, program, language

    def _said(self, program: Program, language: str, rng: random.Random) -> str:
        if self.split != "train":
            return instruction(program, language, self.split, rng)
        while True:
            text = templated(program, language, rng)
            if len(plain(text)) < _LONGEST:
                return text


class ByLength(Dataset):
    """The rows of a set, each block of them in batches of like length: little padding is half the work.

    Made for reading from front to back; the batches of a block come in any order, so that short ones do not lead.

    Args:
        rows: `Instructions`.
        batch_size: Rows that are read together.
        batches: Of one block.
        seed: Of the order of the batches.
    """

    def __init__(self, rows: Instructions, batch_size: int, batches: int = 16, seed: int = 0) -> None:
        self.rows, self.batch_size, self.batches, self.seed = rows, batch_size, batches, seed
        self._block: tuple[int, list[tuple[str, Program, str]]] = (-1, [])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[str, Program, str]:
        """As `Instructions`."""
        size = self.batch_size * self.batches
        number, place = divmod(index, size)
        if self._block[0] != number:
            rows = [self.rows[i] for i in range(number * size, min((number + 1) * size, len(self.rows)))]
            rows.sort(key=lambda row: len(row[0]))
            parts = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
            last = [parts.pop()] if len(parts[-1]) < self.batch_size else []  # a short batch stays at the end
            random.Random(f"{self.seed} {number}").shuffle(parts)
            self._block = number, [row for part in parts + last for row in part]
        return self._block[1][place]


class InstructionCollate:
    """Batches of `Instructions`.

    Args:
        processor: Of the model.
        hidden_words: Part of the rows one of whose words is hidden from the characters, though not from the text
            encoder: words that were never seen are met the same way.
    """

    def __init__(self, processor: ScoreEditProcessor, hidden_words: float = 0.0) -> None:
        self.processor, self.hidden_words = processor, hidden_words

    def __call__(self, rows: Sequence[tuple[str, Program, str]]) -> dict[str, torch.Tensor]:
        """Inputs and labels of the model."""
        texts = [row[0] for row in rows]
        batch = dict(self.processor(text=texts, programs=[row[1] for row in rows], text_batch=TEXT_BATCH))
        for place, text in enumerate(texts):
            rng = random.Random(f"hide {text}")
            words = [found.span() for found in _WORD.finditer(plain(text))]
            if words and rng.random() < self.hidden_words:
                start, end = rng.choice(words)
                batch["input_ids"][place, start:end] = HIDDEN
        return batch


def understand(model: Any, processor: ScoreEditProcessor, texts: Sequence[str], batch_size: int = 64) -> list[Any]:
    """What a model takes instructions for, as `Understanding`s.

    Where it is not sure of the whole, or takes it for steps that contradict each other, the parts between stops and
    words such as "then" are understood each by itself, and what they say together is taken if that is surer.
    """
    found = _read(model, processor, texts, batch_size)
    for place, (text, whole) in enumerate(zip(texts, found, strict=True)):
        if whole.chance < MIN_CHANCE or contradiction(whole.program):
            parts = parts_of(plain(text), processor.text_places + 1)[1:]
            apart = _together(_read(model, processor, parts, batch_size)) if parts else whole
            if apart.program and apart.chance > whole.chance and not contradiction(apart.program):
                found[place] = apart
    return found


def _read(model: Any, processor: ScoreEditProcessor, texts: Sequence[str], batch_size: int) -> list[Understanding]:
    """What a model takes instructions for, each as a whole."""
    found: list[Understanding] = []
    with torch.no_grad():
        for start in range(0, len(texts), batch_size):
            inputs = processor(text=list(texts[start : start + batch_size])).to(model.device)
            output = model(**inputs)
            found += processor.decode(output.operation_logits, output.argument_logits)
    return found


def _together(parts: Sequence[Understanding]) -> Understanding:
    """What parts of an instruction say one after another; a part that is no edit ("it is for tonight") says nothing."""
    steps: list[EditStep] = []
    chance = 1.0
    for part in parts:
        if part.program and all(step.operation != UNKNOWN for step in part.program):
            chance *= part.chance
            steps += [step for step in part.program if step not in steps]
    return Understanding(tuple(steps), chance) if 0 < len(steps) <= MAX_STEPS else Understanding((), 0.0)


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


__all__ = ["ByLength", "InstructionCollate", "Instructions", "evaluate_instructions", "noisy", "understand"]
