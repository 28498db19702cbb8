"""Lessons of text and pictures as NativeVLM trains on them: one sequence each, several packed into a row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..datasets_scripts.interleaved_lessons import part_codes
from ..processing.errors import InputError
from ..processing.native_places import beat_starts, with_places
from .loading import mix_seed


def read_lessons(folder: str | Path, split: str, kinds: Sequence[str] = (), limit: int = 0) -> list[dict[str, Any]]:
    """Rows of a split of a folder made by `build_interleaved`: `lesson`, `name` and `parts`.

    Args:
        folder: The data set.
        split: `"train"`, `"validation"` or `"test"`.
        kinds: Lessons that are wanted; empty: all.
        limit: Rows at most; 0: all.

    Raises:
        InputError: The folder holds no lessons of the split, or not of the kinds.
    """
    import pyarrow.parquet as parquet

    files = sorted(Path(folder).glob(f"data/{split}-*.parquet"))
    if not files:
        raise InputError(folder, f"has no lessons of the split {split!r}; make them with build_interleaved")
    rows: list[dict[str, Any]] = []
    for file in files:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=256, columns=["lesson", "name", "parts"]):
            rows += [_compact(row) for row in batch.to_pylist() if not kinds or row["lesson"] in kinds]
            if limit and len(rows) >= limit:
                return rows[:limit]
    if not rows:
        raise InputError(folder, f"has no lessons {', '.join(kinds)} in the split {split!r}")
    return rows


def _compact(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its codes as arrays; lists of Python numbers take ten times the memory."""
    parts = [{**part, "codes": np.asarray(part["codes"], dtype=np.int32)} for part in row["parts"]]
    return {**row, "parts": parts}


def check_tokenizer(folder: str | Path, image_vq: Any) -> None:
    """Raises where the codes of a data set are those of another picture tokenizer."""
    from ..datasets_scripts.build_interleaved import fingerprint

    path = Path(folder) / "build.json"
    if not path.is_file():
        raise InputError(folder, "is no data set of build_interleaved: build.json is missing")
    theirs, ours = json.loads(path.read_text(encoding="utf-8"))["image_vq"], fingerprint(image_vq)
    if theirs != ours:
        raise InputError(
            folder, f"holds codes of the picture tokenizer {theirs}, the model has {ours}; build it again with that one"
        )


class Sequences:
    """Writes lessons as ids.

        <|bos|><|user|> asked <|end|><|assistant|> answered <|end|>

    Args:
        tokenizer: `AlphaTexTokenizer`.
        vocabulary: `NativeVocabulary`.
        learn_prompts: Learn what is asked, too, beside the answers.
        places: Say before each beat its column, where it is known; in what is asked too, and learn it there.
    """

    def __init__(self, tokenizer: Any, vocabulary: Any, learn_prompts: bool = False, places: bool = False) -> None:
        self.tokenizer, self.vocabulary, self.learn_prompts = tokenizer, vocabulary, learn_prompts
        self.places = places
        names = ("<|bos|>", "<|user|>", "<|end|>", "<|assistant|>")
        self.bos, self.user, self.end, self.assistant = (tokenizer.convert_tokens_to_ids(name) for name in names)

    def part(self, part: dict[str, Any]) -> tuple[list[int], list[bool]]:
        """Ids of one part, and which of them are columns of beats."""
        if part["kind"] == "picture":
            ids = self.vocabulary.write_grid(part_codes(part))
        elif self.places and len(part["places"]):
            return with_places(*beat_starts(self.tokenizer, part["text"]), part["places"], self.vocabulary)
        else:
            ids = self.tokenizer.encode(part["text"], add_special_tokens=False)
        return ids, [False] * len(ids)

    def __call__(self, lesson: dict[str, Any], unasked: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Ids `(T,)`, and which of them are learnt, bool `(T,)`.

        Args:
            lesson: A row of `read_lessons`.
            unasked: Leave out what is asked, so that the model also learns to answer nothing in particular (for
                guidance).
        """
        asked = [] if unasked else [self.part(p) for p in lesson["parts"] if p["role"] == "user"]
        answered = [self.part(p) for p in lesson["parts"] if p["role"] == "assistant"]
        prompt = [self.bos, self.user, *(token for ids, _ in asked for token in ids), self.end, self.assistant]
        ids = [*prompt, *(token for ids, _ in answered for token in ids), self.end]
        learnt = np.ones(len(ids), dtype=bool)
        learnt[: len(prompt)] = self.learn_prompts
        learnt[2 : len(prompt) - 2] |= np.array([place for _, said in asked for place in said], dtype=bool)
        learnt[0] = False
        return np.array(ids, dtype=np.int32), learnt


def turned(lesson: dict[str, Any]) -> dict[str, Any]:
    """A lesson that answers what was asked, and asks what was answered."""
    roles = {"user": "assistant", "assistant": "user"}
    return {**lesson, "parts": [{**part, "role": roles[part["role"]]} for part in lesson["parts"][::-1]]}


class PackedLessons(Dataset):
    """Rows of up to `window` tokens, each of several lessons, put together anew by the seed.

    Every lesson comes once in an epoch. Longer ones than the window have a row of their own; those longer than
    `longest` are left out, and `too_long` counts them.

    Args:
        lessons: Rows of `read_lessons`.
        sequences: Writes them as ids.
        window: Tokens of a row.
        seed: Decides which lessons come together, and which go unasked.
        unasked: Part of the lessons `draw` that leave out what is asked.
        longest: Tokens of the longest lesson; 0: the window.
        others: Part of the lessons that neither read nor draw that is kept.
        reread: Part of the lessons `draw` whose picture is read, too: what a model draws it should be able to read.
    """

    def __init__(
        self,
        lessons: Sequence[dict[str, Any]],
        sequences: Sequences,
        window: int,
        seed: int = 0,
        unasked: float = 0.1,
        longest: int = 0,
        others: float = 1.0,
        reread: float = 0.0,
    ) -> None:
        self.sequences: list[tuple[np.ndarray, np.ndarray]] = []
        draw = np.random.default_rng(mix_seed(seed, 7))
        self.too_long, longest = 0, max(window, longest)
        for lesson in lessons:
            if others < 1 and lesson["lesson"] not in ("read", "draw") and draw.random() >= others:
                continue
            drawing = lesson["lesson"] == "draw"
            found = [sequences(lesson, drawing and draw.random() < unasked)]
            if drawing and reread and draw.random() < reread:
                found.append(sequences(turned(lesson)))
            self.too_long += sum(len(ids) > longest for ids, _ in found)
            self.sequences += [one for one in found if len(one[0]) <= longest]
        if not self.sequences:
            raise InputError(None, f"all {self.too_long} lessons are longer than the window of {longest} tokens")
        order = draw.permutation(len(self.sequences))
        self.rows = first_fit([(int(i), len(self.sequences[i][0])) for i in order], window)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self.sequences[k] for k in self.rows[i]]


def first_fit(items: Sequence[tuple[int, int]], window: int, open_rows: int = 32) -> list[list[int]]:
    """Puts `(name, length)` into rows of at most `window`: each into the first of the open rows that has room."""
    rows: list[list[int]] = []
    opened: list[tuple[int, int]] = []  # (row, room)
    for name, length in items:
        for place, (row, room) in enumerate(opened):
            if length <= room:
                rows[row].append(name)
                opened[place] = (row, room - length)
                break
        else:
            rows.append([name])
            opened.append((len(rows) - 1, window - length))
            opened = opened[-open_rows:]
    return rows


class LessonCollate:
    """Batches packed rows: `input_ids`, `document_ids` (1, 2, …; 0 for padding) and `labels`, all `(B, T)`."""

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: Iterable[list[tuple[np.ndarray, np.ndarray]]]) -> dict[str, torch.Tensor]:
        """Batch of rows of lessons."""
        rows = list(rows)
        width = max(sum(len(ids) for ids, _ in row) for row in rows)
        batch = torch.full((len(rows), width), self.pad)
        documents, labels = torch.zeros_like(batch), torch.full_like(batch, -100)
        for i, row in enumerate(rows):
            place = 0
            for number, (ids, learnt) in enumerate(row, start=1):
                span = slice(place, place + len(ids))
                tokens = torch.from_numpy(ids.astype(np.int64))
                batch[i, span], documents[i, span] = tokens, number
                labels[i, span] = tokens.masked_fill(torch.from_numpy(~learnt), -100)
                place += len(ids)
        return {"input_ids": batch, "document_ids": documents, "labels": labels}


__all__ = ["LessonCollate", "PackedLessons", "Sequences", "check_tokenizer", "first_fit", "read_lessons"]
