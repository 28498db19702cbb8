r"""Text that says where in the picture it stands: before each beat the column of patches in which the beat is drawn.

    \staff {tabs} \ts (4 4) <column 9> 3.3.4 <column 14> 5.3.4 … |

A reader that writes like this has found the next beat before it has to say what it is; and who draws decides first
where the beats go, and then what stands there. The words are those that give the width of a picture, which outside of
a picture's header have no other meaning. `rope="placed"` also puts the words of a beat at its column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor

from .alphatex_grammar import read_alphatex
from .errors import InputError
from .grid_pictures import LINE_PX
from .native_vocabulary import NativeVocabulary

_MARK = "\x00"
#: Phases of the grammar in which the next token may be the first of a beat.
_BEFORE_A_BEAT = frozenset({"bar", "beat_start", "after_beat", "after_duration"})
#: Kinds of tokens that may come there and begin something else.
_NO_BEAT = frozenset(
    "special staff track staff_tag mark metre voice bar_line effect info hide_dynamics voice_mode byte".split()
)


def beat_starts(tokenizer: Any, text: str) -> tuple[list[int], list[int]]:
    """Ids of a text, and the index of the first token of each beat, in the order of `Score.beats`.

    Args:
        tokenizer: `AlphaTexTokenizer`.
        text: Canonical alphaTex.

    Raises:
        AlphaTexError: It is not alphaTex.
    """
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ends = [end for _, end in found["offset_mapping"]]
    starts, index = [], 0
    for *_, beat in read_alphatex(text).beats():
        while index < len(ends) and ends[index] <= beat.span[0]:
            index += 1
        starts.append(index)
    return list(found["input_ids"]), starts


def with_places(
    ids: Sequence[int], starts: Sequence[int], columns: Sequence[int], vocabulary: NativeVocabulary
) -> tuple[list[int], list[bool]]:
    """Ids with the column before each beat, and which of them are such columns.

    Args:
        ids, starts: From `beat_starts`.
        columns: Of each beat, from 0; one below 0 is left out.
        vocabulary: Ids.

    Raises:
        InputError: There are not as many columns as beats.
    """
    if len(starts) != len(columns):
        raise InputError(None, f"the text has {len(starts)} beats, but {len(columns)} columns are given")
    at = {start: column for start, column in zip(starts, columns, strict=True) if column >= 0}
    out: list[int] = []
    said: list[bool] = []
    for index, token in enumerate(ids):
        if index in at:
            out.append(vocabulary.place(at[index]))
            said.append(True)
        out.append(token)
        said.append(False)
    return out, said


def begins_beat(state: Any) -> frozenset[int]:
    """Tokens that may come now and would be the first of a beat.

    Args:
        state: `AlphaTexState`.
    """
    if state.phase not in _BEFORE_A_BEAT:
        return frozenset()
    grammar = state.grammar
    taken = set().union(*(grammar.items[item] for item in state.stack))  # what still belongs to what was begun
    return frozenset(t for t in state.allowed() if t not in taken and grammar.piece[t].kind not in _NO_BEAT)


def column_bounds(text: str, columns: int) -> list[tuple[tuple[int, ...], int]]:
    """What is known of the column of each beat before it is chosen, in the order of `Score.beats`.

    In one voice each beat is drawn at least one column further right than the one before.

    Args:
        text: Canonical alphaTex.
        columns: Widest picture.

    Returns:
        For each beat the indices of beats that stand to its left, the one just before it among them, and the last
        column (from 0) that leaves one for each beat behind it.

    Raises:
        AlphaTexError: It is not alphaTex.
        InputError: More beats follow each other than there are columns.
    """
    where = [tuple(place) for *place, _ in read_alphatex(text).beats()]  # (staff, bar, voice, position)
    lengths: dict[tuple[int, int], int] = {}  # of the longest voice, by staff and bar
    for staff, bar, _, position in where:
        lengths[staff, bar] = max(lengths.get((staff, bar), 0), position + 1)
    voices: dict[tuple[int, int, int], int] = {}
    for staff, bar, voice, position in where:
        voices[staff, bar, voice] = position + 1
    found = []
    for index, (staff, bar, voice, position) in enumerate(where):
        left: tuple[int, ...] = (index - 1,)
        if not position:
            left = tuple(i for i, other in enumerate(where[:index]) if other[0] == staff and other[1] < bar)
        behind = sum(count for (other, later), count in lengths.items() if other == staff and later > bar)
        room = columns - 1 - behind - (voices[staff, bar, voice] - 1 - position)
        if room < 0:
            raise InputError(None, f"has more beats than the {columns} columns of a picture; give fewer bars at a time")
        found.append((left, room))
    return found


class PlacesLogitsProcessor(LogitsProcessor):
    """Makes a model write a given text and leaves it only the columns before the beats, from left to right.

    Args:
        vocabulary: Ids.
        prompt_length: Tokens before the text.
        wanted: Tokens of the text; `None` where a column has to come.
        bounds: Of each of these columns, see `column_bounds`.
    """

    def __init__(
        self,
        vocabulary: NativeVocabulary,
        prompt_length: int,
        wanted: Sequence[int | None],
        bounds: Sequence[tuple[tuple[int, ...], int]],
    ) -> None:
        self.vocabulary, self.prompt_length, self.wanted, self.bounds = vocabulary, prompt_length, wanted, bounds

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(B, V)`, minus infinity for all but the next token of the text, or but the columns."""
        place = input_ids.shape[1] - self.prompt_length
        token = self.wanted[place] if place < len(self.wanted) else self.wanted[-1]
        v, out = self.vocabulary, torch.full_like(scores, -torch.inf)
        if token is not None:
            out[:, token] = scores[:, token]
            return out
        for row, ids in enumerate(input_ids.tolist()):
            written = zip(ids[self.prompt_length :], self.wanted, strict=False)
            said = [token - v.first_columns for token, word in written if word is None]
            left, last = self.bounds[len(said)]
            first = max((said[i] + 1 for i in left), default=0)
            span = slice(v.place(first), v.place(last) + 1)
            out[row, span] = scores[row, span]
        return out


@torch.no_grad()
def drawing_prompt(model: Any, processor: Any, text: str) -> torch.Tensor:
    """Ids `(1, T)` that ask to draw a text; with `places` the model decides here where its beats go.

    Args:
        model, processor: NativeVLM's.
        text: AlphaTex.

    Raises:
        AlphaTexError: It is not alphaTex.
        InputError: The text, or the picture behind it, does not fit into the window.
    """
    v, geometry = processor.vocabulary, processor.geometry
    if not processor.places:
        row = processor(text=processor.draw_prompt(text))["input_ids"].to(model.device)
        digits = v.max_columns * geometry.patch_width // LINE_PX  # of one column each, side by side
        beats = max((digits - last for _, last in column_bounds(text, digits)), default=0)  # that follow each other
        check_room(processor, row.shape[1], -(-beats * LINE_PX // geometry.patch_width))
        return row
    before, _, after = processor.draw_prompt(_MARK).partition(_MARK)
    ids, starts = beat_starts(processor.tokenizer, text)
    head, tail = (processor.tokenizer.encode(part, add_special_tokens=False) for part in (before, after))
    first = starts[0] if starts else len(ids)
    prompt = [*head, *ids[:first]]
    wanted: list[int | None] = []
    for index in range(first, len(ids)):
        wanted += [None, ids[index]] if index in set(starts) else [ids[index]]
    processor.check_length(len(prompt) + len(wanted) + len(tail))
    row = torch.tensor([prompt], device=model.device)
    if wanted:
        rule = PlacesLogitsProcessor(v, len(prompt), wanted, column_bounds(text, v.max_columns))
        row = model.generate(
            row,
            attention_mask=torch.ones_like(row),
            logits_processor=[rule],
            max_new_tokens=len(wanted),
            min_new_tokens=len(wanted),
            do_sample=False,
        )
    last = max((token - v.first_columns for token in row[0].tolist() if v.is_place(token)), default=0)
    check_room(processor, row.shape[1] + len(tail), last + 1)
    return torch.cat([row, torch.tensor([tail], device=row.device)], dim=1)


def check_room(processor: Any, length: int, columns: int) -> None:
    """Raises where a picture of so many columns, as low as pictures are, does not fit behind a prompt."""
    needed = processor.vocabulary.span(processor.geometry.rows_below, max(columns, 1))
    room = processor.max_length - length
    if needed > room:
        raise InputError(
            None,
            f"its picture takes {needed} tokens or more, but behind the text there is room for {max(room, 0)} in the "
            f"model's window of {processor.max_length}; give fewer bars at a time",
        )


__all__ = [
    "PlacesLogitsProcessor",
    "beat_starts",
    "begins_beat",
    "check_room",
    "column_bounds",
    "drawing_prompt",
    "with_places",
]
