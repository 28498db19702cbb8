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


class PlacesLogitsProcessor(LogitsProcessor):
    """Makes a model write a given text and leaves it only the columns before the beats.

    Args:
        vocabulary: Ids.
        prompt_length: Tokens before the text.
        wanted: Tokens of the text; `None` where a column has to come.
    """

    def __init__(self, vocabulary: NativeVocabulary, prompt_length: int, wanted: Sequence[int | None]) -> None:
        self.vocabulary, self.prompt_length, self.wanted = vocabulary, prompt_length, wanted

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(B, V)`, minus infinity for all but the next token of the text, or but the columns."""
        place = input_ids.shape[1] - self.prompt_length
        token = self.wanted[place] if place < len(self.wanted) else self.wanted[-1]
        v = self.vocabulary
        allowed = slice(v.first_columns, v.first_code) if token is None else slice(token, token + 1)
        out = torch.full_like(scores, -torch.inf)
        out[:, allowed] = scores[:, allowed]
        return out


@torch.no_grad()
def drawing_prompt(model: Any, processor: Any, text: str) -> torch.Tensor:
    """Ids `(1, T)` that ask to draw a text; with `places` the model decides here where its beats go.

    Args:
        model, processor: NativeVLM's.
        text: AlphaTex.

    Raises:
        AlphaTexError: It is not alphaTex.
        InputError: It does not fit into the window.
    """
    if not processor.places:
        return processor(text=processor.draw_prompt(text))["input_ids"].to(model.device)
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
        rule = PlacesLogitsProcessor(processor.vocabulary, len(prompt), wanted)
        row = model.generate(
            row,
            attention_mask=torch.ones_like(row),
            logits_processor=[rule],
            max_new_tokens=len(wanted),
            min_new_tokens=len(wanted),
            do_sample=False,
        )
    return torch.cat([row, torch.tensor([tail], device=row.device)], dim=1)


__all__ = ["PlacesLogitsProcessor", "beat_starts", "begins_beat", "drawing_prompt", "with_places"]
