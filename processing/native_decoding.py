"""Decoding of text and pictures in one sequence: grids are always whole, alphaTex always parses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .alphatex_constraints import DecodingContext, GrammarLogitsProcessor
from .errors import InputError
from .native_grids import GridLogitsProcessor
from .native_places import begins_beat
from .native_vocabulary import NativeVocabulary

_RESTARTS = ("\\voice", "\\staff", "\\track")  # beats behind these begin at the left again


class NativeLogitsProcessor(GridLogitsProcessor):
    """Text by the grammar of alphaTex, pictures by the grid, in any order.

    An answer is a row of parts: each a whole alphaTex or a whole picture. After a picture comes another part or the
    end; after a text comes the end, since `<|end|>` closes both the text and the turn.

    Args:
        vocabulary: Ids.
        tokenizer: `AlphaTexTokenizer`, or its `TokenGrammar`.
        context: What is known of the texts; see `GrammarLogitsProcessor`.
        max_length: Length, prompt included, by which all is closed.
        want: `"text"`, `"picture"` (one, then the end) or `"any"`.
        rows, columns: Size of the pictures, where it is given.
        places: Before each beat its column is written; see `native_places`.
    """

    def __init__(
        self,
        vocabulary: NativeVocabulary,
        tokenizer: object,
        context: DecodingContext | Sequence[DecodingContext] | None = None,
        max_length: int | None = None,
        want: str = "any",
        rows: int | None = None,
        columns: int | None = None,
        places: bool = False,
    ) -> None:
        if want not in ("text", "picture", "any"):
            raise InputError(None, f"want is {want!r}; use 'text', 'picture' or 'any'")
        super().__init__(vocabulary, max_length, rows, columns)
        self.want, self.places = want, places
        self.text = _SpanGrammar(tokenizer, context, max_length, vocabulary.eoi)
        if len(self.text.grammar.id) > vocabulary.text_size:
            raise InputError(
                None, f"the tokenizer has {len(self.text.grammar.id)} tokens, the model's text {vocabulary.text_size}"
            )

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(B, V)`, minus infinity for what may not come."""
        self.check_prompts(input_ids)
        v, grammar = self.vocabulary, self.text.grammar
        out = torch.full_like(scores, -torch.inf)
        rows = input_ids.tolist()
        pictures = [self.open_picture(ids) for ids in rows]
        outside = [i for i, picture in enumerate(pictures) if picture is None]
        if outside:
            texts = scores.clone()
            # The grammar keeps what it knows of rows by their tokens, so all rows are shown to it, in their order.
            out[:, : v.text_size] = self.text(input_ids, texts[:, : v.text_size])
            if self.places:
                self._place_beats(input_ids, scores, out, outside)
        for i, picture in enumerate(pictures):
            if picture is not None:
                allowed = self.allowed(picture, len(rows[i]))
                out[i] = -torch.inf
                out[i, allowed.start : allowed.stop] = scores[i, allowed.start : allowed.stop]
                continue
            begins, after = self.text.begins(rows[i]), self.text.after_picture(rows[i])
            if begins and not after and self.want == "picture" and not self.fits(len(rows[i])):
                raise InputError(None, f"a picture does not fit behind a prompt of {len(rows[i])} tokens; shorten it")
            if begins and self.want != "text" and self.fits(len(rows[i])) and not (after and self.want == "picture"):
                out[i, v.boi] = scores[i, v.boi]
                if self.want == "picture":
                    out[i, : v.text_size] = -torch.inf
            if after:
                if self.want == "picture":
                    out[i] = -torch.inf
                out[i, grammar.end] = scores[i, grammar.end]
        return out

    def _place_beats(
        self, input_ids: torch.Tensor, scores: torch.Tensor, out: torch.Tensor, outside: Sequence[int]
    ) -> None:
        """Where a beat may begin, its column comes in place of its first token; behind a column only that."""
        v, states = self.vocabulary, self.text.states(input_ids)
        for i in outside:
            state = states[i]
            if state is None or state.finished:
                continue
            found = sorted(begins_beat(state))
            said = v.is_place(int(input_ids[i, -1]))
            if said:
                kept = out[i, found].clone()
                out[i] = -torch.inf
                out[i, found] = kept
            elif found and bool(out[i, found].isfinite().any()):
                out[i, found] = -torch.inf
                first, last = self._columns_left(input_ids[i].tolist())
                out[i, v.place(first) : v.place(last) + 1] = scores[i, v.place(first) : v.place(last) + 1]

    def _columns_left(self, ids: Sequence[int]) -> tuple[int, int]:
        """Where the next beat may stand: not left of the one before it in its voice, nor right of the picture."""
        v = self.vocabulary
        begin = v.after_pictures(ids)
        said = 0
        for token in ids[begin:]:
            if v.is_place(token):
                said = token - v.first_columns
            elif token in self.text.restarts:
                said = 0
        if begin and v.boi in ids[:begin]:
            start = begin - 1 - ids[:begin][::-1].index(v.boi)
            return said, max(said, ids[start + 2] - v.first_columns)
        return said, v.max_columns - 1


class _SpanGrammar(GrammarLogitsProcessor):
    """The grammar for texts that begin after a special token or after a picture."""

    def __init__(self, tokenizer: object, context: object, max_length: int | None, eoi: int) -> None:
        super().__init__(tokenizer, context, max_length)  # type: ignore[arg-type]
        self.eoi, self.text_size = eoi, eoi - 1
        self._starts = torch.cat([self._starts, torch.tensor([eoi])])
        self.start_ids = frozenset(self._starts.tolist())
        vocabulary = self.grammar.id
        self.restarts = {id for word, id in vocabulary.items() if word.strip("Ġ⏎").startswith(_RESTARTS)}

    def begins(self, ids: Sequence[int]) -> bool:
        """Whether the next token would be the first of a text."""
        return not ids or ids[-1] in self.start_ids

    def _state(self, context: DecodingContext, written: tuple[int, ...]) -> Any:
        """As ever, columns left out: the grammar knows nothing of places."""
        before = (context, written[:-1])
        if written and written[-1] >= self.text_size and before in self._known:
            return self._known[before]
        if before not in self._known:
            written = tuple(token for token in written if token < self.text_size)
        return super()._state(context, written)

    def after_picture(self, ids: Sequence[int]) -> bool:
        """Whether a picture has just ended."""
        return bool(ids) and ids[-1] == self.eoi


__all__ = ["NativeLogitsProcessor"]
