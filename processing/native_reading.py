"""Reading by NativeVLM: what it sees is written down freely, then its bars are made to fill; see `alphatex_filling`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from .alphatex_bars import bars_close
from .alphatex_choices import DecodingContext
from .alphatex_constraints import SLACK_TOKENS
from .alphatex_filling import BeatChances, fill_bars
from .alphatex_grammar import read_alphatex
from .alphatex_token_grammar import TokenGrammar
from .alphatex_types import AlphaTexError, Score
from .alphatex_writer import write_alphatex
from .native_places import beat_starts

_STRICT = {"first_may_be_short": False, "empty_bars": False}
#: Note values that are less likely than this are not thought of (natural logarithm).
_UNLIKELY = -12.0


def beat_chances(
    score: Score, ids: Sequence[int], starts: Sequence[int], scores: torch.Tensor, grammar: TokenGrammar
) -> list[BeatChances]:
    """What a reader thought of each beat of its text.

    Args:
        score: The text, read.
        ids: Its tokens, those beside the text among them.
        starts: Where in `ids` each beat begins, in the order of `Score.beats`.
        scores: `(len(ids), V)`, log-probabilities; row `i` is what it expected in place of `ids[i]`.
        grammar: Of the tokenizer.

    Returns:
        `BeatChances` of each beat; values that follow another one's dots or tuplet are taken to be as likely as
        behind the one that was written.
    """
    effects = {value: index for (value, opens), index in grammar.effect_ids.items() if opens}
    changes = {(len(value[0]), None): i for value, i in effects.items() if value in (("d",), ("dd",))}
    changes |= {(0, value[1]): i for value, i in effects.items() if value[0] == "tu"}
    lengths = {grammar.piece[i].value: i for i in grammar.of_kind["duration"]}
    found = []
    ends = [*starts[1:], len(ids)]
    for number, (*_, beat) in enumerate(score.beats()):
        begin, before = starts[number], starts[max(number - 1, 0)]
        lines = [i for i in range(before, begin) if ids[i] == grammar.id["Ġ|⏎"]]
        line = float(scores[lines[-1] if lines else begin, grammar.id["Ġ|⏎"]])
        at = next(i for i in range(begin, ends[number]) if ids[i] in grammar.of_kind["duration"])
        values = {(beat.duration, beat.dots, beat.tuplet): 0.0}
        if not beat.grace and not (beat.dots and beat.tuplet):
            thought = {change: float(scores[at + 1, i]) for change, i in changes.items()}
            thought[0, None] = _log_of_the_rest(thought.values())
            pairs = ((length, change) for length in lengths for change in thought)
            chances = {(d, *change): float(scores[at, lengths[d]]) + thought[change] for d, change in pairs}
            values = {value: chance for value, chance in chances.items() if chance > _UNLIKELY or value in values}
        found.append(BeatChances(values, line, _log_of_the_rest([line])))
    return found


def _log_of_the_rest(chances: Iterable[float]) -> float:
    """Logarithm of the probability that none of these happens, given the logarithms of theirs."""
    return math.log(max(1.0 - sum(map(math.exp, chances)), 1e-9))


@torch.no_grad()
def read_prompts(
    model: Any,
    processor: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    max_length: int,
    num_beams: int = 1,
    **pictures: Any,
) -> list[tuple[str, bool]]:
    """Texts that follow prompts: read freely, then filled, and where that fails, written bar by full bar.

    Args:
        model, processor: NativeVLM's.
        input_ids, attention_mask: `(B, T)`, padded on the left.
        max_length: Length, prompt included, by which texts are closed.
        num_beams: Of the search; 1: greedily.
        **pictures: `pixel_values` and `image_sizes`, where the prompt has placeholders.

    Returns:
        For each prompt canonical alphaTex, and whether it is whole: texts are closed early where the window ends.
    """
    how: dict[str, Any] = {"max_length": max_length, "do_sample": False, "num_beams": num_beams}

    def write(rows: list[int] | slice, context: DecodingContext, **given: Any) -> torch.Tensor:
        rules = [processor.logits_processor(max_length=max_length, want="text", context=context)]
        mask = attention_mask[rows]
        return model.generate(input_ids[rows], attention_mask=mask, logits_processor=rules, **how, **given)

    drafts = write(slice(None), DecodingContext(measured=False), **pictures)
    asked = input_ids.shape[1]
    found: dict[int, tuple[str, bool]] = {}
    for row, ids in enumerate(drafts):
        begin = asked - int(attention_mask[row].sum())
        text = _filled(model, processor, ids[begin:], asked - begin)
        if text is not None:
            found[row] = text, _is_whole(processor, ids, max_length)
    again = [row for row in range(len(drafts)) if row not in found]
    if again:
        input_ids = drafts[:, :asked]  # placeholders of pictures are codes by now
        for row, ids in zip(again, write(again, DecodingContext()), strict=True):
            found[row] = _text(processor, ids[asked:].tolist()), _is_whole(processor, ids, max_length)
    return [found[row] for row in range(len(drafts))]


def _is_whole(processor: Any, ids: torch.Tensor, max_length: int) -> bool:
    """Whether a row (`(T,)`, padded behind) ends before the end is forced."""
    written = len(ids) - int((ids.flip(0) == processor.tokenizer.pad_token_id).int().cumprod(0).sum())
    return written < max_length - SLACK_TOKENS


def _text(processor: Any, ids: Sequence[int]) -> str:
    size = len(processor.tokenizer)
    return processor.tokenizer.decode([token for token in ids if token < size], skip_special_tokens=True)


def _filled(model: Any, processor: Any, ids: torch.Tensor, asked: int) -> str | None:
    """The text of one draft if its bars are full or can be filled.

    Args:
        model, processor: NativeVLM's.
        ids: `(T,)`, prompt and draft.
        asked: Length of the prompt.
    """
    answer = ids[asked:].tolist()
    text = _text(processor, answer)
    try:
        score = read_alphatex(text)
    except AlphaTexError:
        return None  # the window has ended
    if bars_close(score, **_STRICT):
        return text
    grammar = processor.logits_processor().text.grammar
    tokens, firsts = beat_starts(processor.tokenizer, text)
    where = [i for i, token in enumerate(answer) if token < len(processor.tokenizer) and token != grammar.end]
    where = where[: len(tokens)]
    if [answer[i] for i in where] != tokens:
        return None
    v = processor.vocabulary
    starts = [where[i] - (where[i] > 0 and v.is_place(answer[where[i] - 1])) for i in firsts]
    logits = model(input_ids=ids[None]).logits[0, asked - 1 : -1]
    chances = beat_chances(score, answer, starts, logits.float().log_softmax(-1).cpu(), grammar)
    found = fill_bars(score, chances)
    return None if found is None else write_alphatex(found)


__all__ = ["beat_chances", "read_prompts"]
