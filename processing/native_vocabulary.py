"""One vocabulary for text and pictures: the only place that knows which id means what.

    0 … text_size − 1        the text tokenizer's own ids
    text_size                <boi>        a picture begins
    text_size + 1            <eoi>        it ends
    text_size + 2            <line>       a line of codes ends
    + 3 …                    <rows 1>, <rows 2>, … <rows max_rows>
    + 3 + max_rows …         <columns 1>, … <columns max_columns>
    + 3 + max_rows + max_columns …   the codes of the picture tokenizer

A picture of `h` rows and `w` columns is written

    <boi> <rows h> <columns w>  line <line>  line <line>  …  <eoi>

In text, `<columns k>` says that what comes next is drawn in column k; see `native_places`.

A line is a column from top to bottom (`scan="columns"`: music runs from left to right, so what is drawn next
belongs to what is read next) or a row from left to right (`scan="rows"`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .errors import InputError

HEADER = 3  # <boi>, <rows>, <columns>


@dataclass(frozen=True)
class NativeVocabulary:
    """See the module.

    Args:
        text_size: Ids of the text tokenizer.
        codes: Codes of the picture tokenizer.
        max_rows, max_columns: Largest picture, in patches.
        scan: Whether a line of codes is a column or a row.
    """

    text_size: int
    codes: int
    max_rows: int
    max_columns: int
    scan: str = "columns"

    # --- ids

    @property
    def boi(self) -> int:
        """Begin of a picture."""
        return self.text_size

    @property
    def eoi(self) -> int:
        """End of a picture."""
        return self.text_size + 1

    @property
    def line(self) -> int:
        """End of a line of codes."""
        return self.text_size + 2

    @property
    def first_rows(self) -> int:
        """Id of `<rows 1>`."""
        return self.text_size + HEADER

    @property
    def first_columns(self) -> int:
        """Id of `<columns 1>`."""
        return self.first_rows + self.max_rows

    @property
    def first_code(self) -> int:
        """Id of code 0."""
        return self.first_columns + self.max_columns

    @property
    def size(self) -> int:
        """All ids."""
        return self.first_code + self.codes

    # --- places in text

    def place(self, column: int) -> int:
        """Id that says, outside of pictures, that what comes next is drawn in this column (from 0).

        Raises:
            InputError: There is no such column.
        """
        if not 0 <= column < self.max_columns:
            raise InputError(None, f"column {column} lies outside a picture of {self.max_columns} columns")
        return self.first_columns + column

    def is_place(self, token: int) -> bool:
        """Whether a token, outside of pictures, names a column."""
        return self.first_columns <= token < self.first_code

    def places_at_the_end(self, ids: Sequence[int]) -> list[int]:
        """Columns that are named behind the last picture."""
        rest = ids[self.after_pictures(ids) :]
        return [token - self.first_columns for token in rest if self.is_place(token)]

    def after_pictures(self, ids: Sequence[int]) -> int:
        """Where the tokens behind the last picture begin; 0 where there is none."""
        ids = list(ids)
        return len(ids) - ids[::-1].index(self.eoi) if self.eoi in ids else 0

    # --- pictures

    def lines(self, rows: int, columns: int) -> tuple[int, int]:
        """Number of lines of a picture, and codes in each."""
        return (columns, rows) if self.scan == "columns" else (rows, columns)

    def span(self, rows: int, columns: int) -> int:
        """Tokens of a picture, from `<boi>` to `<eoi>`."""
        lines, length = self.lines(rows, columns)
        return HEADER + lines * (length + 1) + 1

    def write_grid(self, codes: np.ndarray) -> list[int]:
        """Ids of a picture.

        Args:
            codes: `(h, w)` whole numbers.

        Raises:
            InputError: Too large a picture, or a code outside the codebook.
        """
        codes = np.asarray(codes)
        if codes.ndim != 2 or not codes.size:
            raise InputError(None, f"codes of a picture have the shape (rows, columns), got {codes.shape}")
        rows, columns = codes.shape
        self.check_size(rows, columns)
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.codes:
            wrong = low if low < 0 else high
            raise InputError(None, f"code {wrong} lies outside the codebook of {self.codes}; use the same image_vq")
        lined = codes.T if self.scan == "columns" else codes
        body = np.pad(lined + self.first_code, ((0, 0), (0, 1)), constant_values=self.line)
        head = [self.boi, self.first_rows + rows - 1, self.first_columns + columns - 1]
        return [*head, *body.ravel().tolist(), self.eoi]

    def placeholders(self, rows: int, columns: int, placeholder: int) -> list[int]:
        """`write_grid` with a placeholder in place of each code."""
        ids = self.write_grid(np.zeros((rows, columns), dtype=np.int64))
        return [placeholder if token == self.first_code else token for token in ids]

    def check_size(self, rows: int, columns: int) -> None:
        """Raises where a picture is larger than the vocabulary can say."""
        if not (1 <= rows <= self.max_rows and 1 <= columns <= self.max_columns):
            raise InputError(
                None,
                f"a picture of {rows} x {columns} patches does not fit into {self.max_rows} x {self.max_columns}; "
                "take fewer bars",
            )

    def read_grid(self, ids: Sequence[int]) -> np.ndarray:
        """Codes `(h, w)` of a whole picture, `<boi>` to `<eoi>`.

        Raises:
            InputError: It is not one; the message says which token is wrong.
        """
        ids = list(ids)
        for place, token in enumerate(ids):
            if not self.may_follow(ids[:HEADER], place, token):
                raise InputError(None, f"token {place} of a picture is {token}, which may not stand there")
        if not ids or ids[-1] != self.eoi:
            raise InputError(None, f"a picture of {len(ids)} tokens is unfinished: its <eoi> is missing")
        rows, columns = ids[1] - self.first_rows + 1, ids[2] - self.first_columns + 1
        lines, length = self.lines(rows, columns)
        body = np.array(ids[HEADER:-1], dtype=np.int64).reshape(lines, length + 1)[:, :-1] - self.first_code
        return body.T if self.scan == "columns" else body

    def may_follow(self, head: Sequence[int], place: int, token: int) -> bool:
        """Whether a token may stand at this place of a picture (counted from `<boi>` = 0), after a right header."""
        if place < HEADER:
            first, count = [(self.boi, 1), (self.first_rows, self.max_rows), (self.first_columns, self.max_columns)][
                place
            ]
            return first <= token < first + count
        kind = self.kind_at(head, place)
        if kind == "code":
            return self.first_code <= token < self.size
        return token == {"line": self.line, "eoi": self.eoi}.get(kind)

    def kind_at(self, head: Sequence[int], place: int) -> str:
        """What stands at a place after the header: `"code"`, `"line"`, `"eoi"`, or `"after"` behind the end."""
        lines, length = self.lines(head[1] - self.first_rows + 1, head[2] - self.first_columns + 1)
        done = place - HEADER
        if done >= lines * (length + 1):
            return "eoi" if done == lines * (length + 1) else "after"
        return "line" if done % (length + 1) == length else "code"

    def spans(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Begin and end (behind `<eoi>`) of each picture of a sequence.

        Raises:
            InputError: A picture is unfinished, broken, or a token of a picture stands outside of any.
        """
        ids = list(ids)
        found: list[tuple[int, int]] = []
        place = 0
        while place < len(ids):
            if ids[place] < self.text_size or self.is_place(ids[place]):
                place += 1
                continue
            if ids[place] != self.boi:
                raise InputError(None, f"token {place} ({ids[place]}) belongs to a picture, but none begins before it")
            if self.eoi not in ids[place:]:
                raise InputError(None, f"the picture that begins at token {place} is unfinished; write it to its <eoi>")
            end = ids.index(self.eoi, place) + 1
            self.read_grid(ids[place:end])
            found.append((place, end))
            place = end
        return found


__all__ = ["HEADER", "NativeVocabulary"]
