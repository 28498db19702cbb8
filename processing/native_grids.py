"""Decoding in which every picture is whole; needs no tokenizer. `native_decoding` adds the grammar of the text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from .errors import InputError
from .native_vocabulary import HEADER, NativeVocabulary


class GridLogitsProcessor(LogitsProcessor):
    """Inside a picture only what makes it whole may come.

    Args:
        vocabulary: Ids.
        max_length: Length, prompt included, by which a picture has to be finished; `None`: no limit.
        rows, columns: Size of the pictures, where it is given.
        reserve: Tokens that have to fit behind a picture (an end token).
    """

    def __init__(
        self,
        vocabulary: NativeVocabulary,
        max_length: int | None = None,
        rows: int | None = None,
        columns: int | None = None,
        reserve: int = 1,
    ) -> None:
        vocabulary.check_size(rows or 1, columns or 1)
        self.vocabulary, self.max_length, self.rows, self.columns = vocabulary, max_length, rows, columns
        self.reserve = reserve
        self._length = -1  # of what was seen last

    def check_prompts(self, input_ids: torch.Tensor) -> None:
        """Looks at prompts, once. What ends inside of a picture is written on.

        Raises:
            InputError: Something else stands behind an unfinished picture.
        """
        length, self._length = self._length, input_ids.shape[1]
        if self._length == length + 1:
            return
        for ids in input_ids.tolist():
            picture = self.open_picture(ids) or []
            if not all(self.vocabulary.may_follow(picture[:HEADER], i, token) for i, token in enumerate(picture)):
                begin = len(ids) - len(picture)
                raise InputError(
                    None, f"the picture that begins at token {begin} is unfinished or broken; write it to its <eoi>"
                )

    def open_picture(self, ids: Sequence[int]) -> list[int] | None:
        """Tokens of the picture that is being written, from `<boi>` on; `None` outside of pictures."""
        for place in range(len(ids) - 1, -1, -1):
            if ids[place] == self.vocabulary.eoi:
                return None
            if ids[place] == self.vocabulary.boi:
                return list(ids[place:])
        return None

    def room(self, length: int) -> float:
        """Tokens that may still be written after `length`."""
        return float("inf") if self.max_length is None else self.max_length - length - self.reserve

    def fits(self, length: int) -> bool:
        """Whether a picture of the given (or else the smallest) size may begin now."""
        return self.vocabulary.span(self.rows or 1, self.columns or 1) <= self.room(length)

    def allowed(self, picture: Sequence[int], length: int, least: int = 1) -> range:
        """Ids that may come next inside a picture of `least` columns or more."""
        v = self.vocabulary
        if len(picture) < HEADER:
            by_rows = len(picture) == 1
            given, first = (self.rows, v.first_rows) if by_rows else (self.columns, v.first_columns)
            if given:
                return range(first + given - 1, first + given)
            left = self.room(length) + len(picture)  # what the whole picture may take
            most = 0
            for number in range(1, (v.max_rows if by_rows else v.max_columns) + 1):
                rows = number if by_rows else picture[1] - v.first_rows + 1
                if v.span(rows, (self.columns or least) if by_rows else number) <= left:
                    most = number
            low = 1 if by_rows else least
            return range(first + low - 1, first + max(most, low))
        kind = v.kind_at(picture, len(picture))
        if kind == "code":
            return range(v.first_code, v.size)
        token = v.line if kind == "line" else v.eoi
        return range(token, token + 1)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(B, V)`, minus infinity for what would break a picture."""
        self.check_prompts(input_ids)
        v = self.vocabulary
        mask = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
        for row, ids in enumerate(input_ids.tolist()):
            picture = self.open_picture(ids)
            if picture is None:
                mask[row, v.boi + 1 :] = True
                mask[row, v.boi] = not self.fits(len(ids))
            else:
                allowed = self.allowed(picture, len(ids))
                mask[row] = True
                mask[row, allowed.start : allowed.stop] = False
        return scores.masked_fill(mask, -torch.inf)


class PictureLogitsProcessor(GridLogitsProcessor):
    """Makes a model write one whole picture after the prompt, and then nothing but padding.

    Args:
        vocabulary: Ids.
        prompt_length: Tokens of the prompt.
        pad: Padding.
        least_columns: Of each row; a picture that is less wide would leave out what the prompt places further right.
        **options: Of `GridLogitsProcessor`.
    """

    def __init__(
        self,
        vocabulary: NativeVocabulary,
        prompt_length: int,
        pad: int,
        least_columns: Sequence[int] = (1,),
        **options: int | None,
    ) -> None:
        super().__init__(vocabulary, reserve=0, **options)  # type: ignore[arg-type]
        self.prompt_length, self.pad, self.least_columns = prompt_length, pad, tuple(least_columns)
        needed = vocabulary.span(self.rows or 1, self.columns or max(self.least_columns))
        if needed > self.room(prompt_length):
            raise InputError(
                None,
                f"a picture needs {needed} tokens, but after the prompt there is room for {self.room(prompt_length)}",
            )

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(B, V)`, minus infinity for all but the picture's next token."""
        v = self.vocabulary
        mask = torch.ones(scores.shape, dtype=torch.bool, device=scores.device)
        for row, ids in enumerate(input_ids.tolist()):
            written = ids[self.prompt_length :]
            if not written:
                mask[row, v.boi] = False
            elif v.eoi in written:
                mask[row, [v.eoi, self.pad]] = False  # the row is done; others may not be
            else:
                least = self.least_columns[row * len(self.least_columns) // len(mask)]  # beams share a prompt
                allowed = self.allowed(written, len(ids), least)
                mask[row, allowed.start : allowed.stop] = False
        return scores.masked_fill(mask, -torch.inf)


__all__ = ["GridLogitsProcessor", "PictureLogitsProcessor"]
