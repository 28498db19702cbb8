"""Lean decoding: words one after the other without `generate`'s overhead, or all bars of a planned piece at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from .museformer_guidance import guide_of
from .museformer_leaning import leaning

#: Makes a grammar for so many texts: `grammar(batch_size, num_bars, max_bar_tokens=..., device=...)` with `constrain`
#: (of logits), `advance` (by words) and `select` (of rows), such as `BarMidiProcessor.grammar`.
Grammar = Callable[..., Any]
#: Words that a grammar may let a bar have beyond the most: a note is not broken off.
_OVER = 8


class _Chooser:
    """Draws words from logits."""

    def __init__(self, temperature: float, top_k: int, top_p: float, banned: Any, generator: Any) -> None:
        if not 0 <= temperature < float("inf") or not 0 < top_p <= 1 or top_k < 0:
            raise ValueError(
                f"temperature {temperature} must be 0 or more, top_p {top_p} in (0, 1], top_k {top_k} 0 or more"
            )
        self.temperature, self.top_k, self.top_p, self.generator = temperature, top_k, top_p, generator
        self.banned = None if banned is None else torch.as_tensor(banned, dtype=torch.long)

    def prepare(self, logits: torch.Tensor, grammar: Any, guide: torch.Tensor | None = None) -> torch.Tensor:
        """Logits `(B, V)` with what a plan adds to them, and without what may not come."""
        logits = logits.float() if guide is None else logits.float() + guide
        if self.banned is not None:
            logits = logits.index_fill(1, self.banned.to(logits.device), -1e9)
        return logits if grammar is None else grammar.constrain(logits)

    def choose(self, logits: torch.Tensor) -> torch.Tensor:
        """`(B,)` words."""
        if self.temperature == 0:
            return logits.argmax(-1)
        logits = logits / self.temperature
        if self.top_k and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k).values[:, -1:]
            logits = logits.masked_fill(logits < least, float("-inf"))
        chances = logits.softmax(-1)
        if self.top_p < 1:
            falling, order = chances.sort(descending=True)
            beyond = falling.cumsum(-1) - falling >= self.top_p  # the first word always stays
            chances = chances.masked_fill(beyond.scatter(1, order, beyond), 0.0)
        return torch.multinomial(chances, 1, generator=self.generator)[:, 0]


def _count(num_bars: int, num_samples: int | None, summary_tokens: Any, passes: int, max_bar_tokens: int) -> int:
    """How many pieces to write; refuses numbers that do not go together."""
    plan_rows = None if summary_tokens is None else summary_tokens.shape[0]
    count = (plan_rows or 1) if num_samples is None else num_samples
    if num_bars < 1 or count < 1 or max_bar_tokens < 8 or passes < 1:
        raise ValueError(
            f"num_bars {num_bars}, num_samples {count} and passes {passes} must be at least 1, max_bar_tokens 8"
        )
    if plan_rows is not None and count % plan_rows:
        raise ValueError(f"num_samples {count} is not a multiple of the {plan_rows} rows of summary_tokens")
    return count


def _guide(model: Any, plan: torch.Tensor | None, num_bars: int, count: int, guidance: float) -> torch.Tensor | None:
    """What the plan as a whole adds to the logits of each piece, `(S, V)`; `None` for nothing."""
    if not 0 <= guidance < float("inf"):
        raise ValueError(f"guidance {guidance} must be 0 or more")
    if not guidance or plan is None or not model.config.measure_bars:
        return None
    guide = guide_of(plan[:, :num_bars], guidance).to(model.device)
    return guide.repeat_interleave(count // len(guide), 0)


def _whole_plan(model: Any, plan: torch.Tensor | None, num_bars: int, count: int) -> torch.Tensor:
    """The plan of every piece, `(S, N, Z)`; refuses one that lacks bars."""
    if plan is None or plan.shape[1] < num_bars:
        has = 0 if plan is None else plan.shape[1]
        raise ValueError(f"all bars at once need a plan for each of {num_bars} bars; summary_tokens have {has}")
    return plan[:, :num_bars].to(model.device, model.dtype).repeat_interleave(count // len(plan), 0)


def _header(model: Any, header: Sequence[int]) -> list[int]:
    """First words of every bar, one at least; refuses those that begin with another word."""
    found = list(header) or [model.config.bar_token_id]
    if found[0] != model.config.bar_token_id:
        raise ValueError(f"a header begins with word {model.config.bar_token_id}, not {found[0]}")
    return found


def _leant(grammar: Grammar | None, lean: torch.Tensor | None, count: int) -> Grammar | None:
    """The grammar of so many pieces, which also leans where that is asked for."""
    if lean is None:
        return grammar
    if not len(lean) or count % len(lean):
        raise ValueError(f"num_samples {count} is not a multiple of the {len(lean)} rows of lean")
    return leaning(grammar, lean.repeat_interleave(count // len(lean), 0))


@torch.no_grad()
def write_bars(
    model: Any,
    num_bars: int,
    *,
    summary_tokens: torch.Tensor | None = None,
    num_samples: int | None = None,
    header: Sequence[int] = (),
    grammar: Grammar | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    banned: Sequence[int] | torch.Tensor | None = None,
    parallel: bool = False,
    passes: int = 2,
    guidance: float = 1.0,
    lean: torch.Tensor | None = None,
    max_bar_tokens: int = 256,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Writes pieces of so many bars.

    Args:
        model: `MuseformerForCausalLM` in evaluation mode.
        num_bars: Bars of each piece, `N`.
        summary_tokens: Plan `(n, N', Z)`: bars beyond `N'` are written freely. `None`: as injected, or freely.
        num_samples: Pieces, `S`; by default as many as the plan has rows, else 1. A multiple of `n`.
        header: First words of every bar, from `Bar` on (see `BarMidiProcessor.header`); the rest of the header is
            drawn, and with `parallel` it is one for all bars of a piece.
        grammar: See `Grammar`; without it, the text may be no music.
        temperature: Divides the logits; 0 takes the most likely word.
        top_k, top_p: Draw from so many words (0: all), from the likeliest that have this chance together.
        banned: Words never to be written.
        parallel: Write all bars at once, each after its own summary and those before it; wants a plan for every bar.
        passes: With `parallel`: 2 write each bar anew after the first pass's words of the bars it sees; and so on.
        guidance: How far the piece is held to the tempo, the metre and the pitch classes of the plan as a whole, where
            the plan is measured (see `museformer_guidance`); 0 leaves it to the layers.
        lean: `(l, 7)`, sides of `music_wishes.SIDED` that words lean to (see `museformer_leaning`), 0 for none; `S` is
            a multiple of `l`.
        max_bar_tokens: Words after which a bar must end.
        generator: Of random numbers; by default torch's.

    Returns:
        `(S, T)` words with `EOS` at the end, padded on the right.

    Raises:
        ValueError: numbers that do not go together; both are named.
    """
    count = _count(num_bars, num_samples, summary_tokens, passes, max_bar_tokens)
    chooser = _Chooser(temperature, top_k, top_p, banned, generator)
    header = _header(model, header)
    options: dict[str, Any] = {"max_bar_tokens": max_bar_tokens, "device": model.device}
    guide = _guide(model, summary_tokens, num_bars, count, guidance)
    grammar = _leant(grammar, lean, count)
    if not parallel:
        make = None if grammar is None else grammar(count, num_bars, **options)
        given = None if summary_tokens is None else summary_tokens.to(model.device)
        with nullcontext() if given is None else model.inject_summary_tokens(given):
            return _one_by_one(model, num_bars, count, header, make, chooser, guide, max_bar_tokens)
    plan = _whole_plan(model, summary_tokens, num_bars, count)
    return _all_at_once(model, plan, header, grammar, chooser, guide, passes, options)


def _one_by_one(
    model: Any,
    num_bars: int,
    count: int,
    header: list[int],
    grammar: Any,
    chooser: _Chooser,
    guide: torch.Tensor | None,
    most: int,
) -> torch.Tensor:
    """Word after word; rows that are done get padding."""
    config = model.config
    cache = model.model.start_cache(count)
    forced = torch.tensor(header, device=model.device)
    words = forced[:1].expand(count)
    done = torch.zeros(count, dtype=torch.bool, device=model.device)
    found, bars = [words], torch.ones(count, dtype=torch.long, device=model.device)
    for _ in range(num_bars * (most + 1 + (_OVER if grammar is not None else 0))):
        if grammar is not None:
            grammar.advance(words)
        logits = model.lm_head(model.model.step(words, cache)[:, 0])
        words = chooser.choose(chooser.prepare(logits, grammar, guide))
        if len(forced) > 1:  # the wished part of the header, in every bar
            place = cache.offset + 1
            words = torch.where(place < len(forced), forced[place.clamp(max=len(forced) - 1)], words)
        over = (words == config.bar_token_id) & (bars >= num_bars)  # only without a grammar
        words = torch.where(done, config.pad_token_id, torch.where(over, config.eos_token_id, words))
        bars = bars + (words == config.bar_token_id).long()
        found.append(words)
        done = done | (words == config.eos_token_id)
        if bool(done.all()):
            break
    ids = torch.stack(found, dim=1)
    ids[~done, -1] = config.eos_token_id
    return ids


def _all_at_once(
    model: Any,
    plan: torch.Tensor,
    header: list[int],
    grammar: Grammar | None,
    chooser: _Chooser,
    guide: torch.Tensor | None,
    passes: int,
    options: dict[str, Any],
) -> torch.Tensor:
    """All bars as rows of one batch; `plan` `(S, N, Z)`."""
    count, num_bars, _ = plan.shape
    rows = torch.arange(count, device=plan.device).repeat_interleave(num_bars)  # (S * N,)
    text: torch.Tensor | None = None
    for number in range(passes):
        alone = torch.full((count * num_bars,), number == 0, device=plan.device)
        filled = torch.ones(count * num_bars, num_bars, dtype=torch.bool, device=plan.device)
        cache = model.model.start_cache(count * num_bars, plan[rows], filled, alone)
        cache.bar = torch.arange(num_bars, device=plan.device).repeat(count) - 1  # the first word begins the bar
        if text is not None:
            mask = (text != model.config.pad_token_id).long()
            read = model.model(text, mask, plan=True, summary_tokens=plan, use_cache=True).past_key_values
            cache.look_back(read.store, read.store_bar, rows)
        make = None if grammar is None else grammar(count * num_bars, None, **options)
        told = None if guide is None else guide[rows]
        bars = _bars_of_rows(model, cache, make, header, chooser, told, count, options["max_bar_tokens"])
        text = _join(model, bars, count)
    assert text is not None
    return text


def _bars_of_rows(
    model: Any,
    cache: Any,
    grammar: Any,
    header: list[int],
    chooser: _Chooser,
    guide: torch.Tensor | None,
    count: int,
    most: int,
) -> list[list[int]]:
    """One bar for each row, without the word that ends it; rows that are done are dropped now and then."""
    config, total = model.config, len(cache.bar)
    bars: list[list[int]] = [[config.bar_token_id] for _ in range(total)]
    rows = list(range(total))
    words = torch.full((total,), config.bar_token_id, device=model.device)
    open_rows = [True] * total
    for place in range(1, most + 1 + (_OVER if grammar is not None else 0)):
        if grammar is not None:
            grammar.advance(words)
        logits = chooser.prepare(model.lm_head(model.model.step(words, cache)[:, 0]), grammar, guide)
        if place < 3:  # metre and tempo: one for all bars of a piece, by the mean of what its bars say
            joint = logits.log_softmax(-1).clamp(min=-1e4).view(count, -1, logits.shape[-1]).mean(1)  # (S, V)
            words = chooser.choose(joint).repeat_interleave(total // count)
            words = torch.full_like(words, header[place]) if place < len(header) else words
        else:
            words = chooser.choose(logits)
        for at, word in enumerate(words.tolist()):
            if not open_rows[at]:
                continue
            if word in (config.bar_token_id, config.eos_token_id):
                open_rows[at] = False
            else:
                bars[rows[at]].append(word)
        left = [at for at, is_open in enumerate(open_rows) if is_open]
        if not left:
            break
        words = torch.where(torch.tensor(open_rows, device=words.device), words, config.pad_token_id)
        if place >= 3 and len(left) <= len(rows) * 3 // 4:
            index = torch.tensor(left, device=words.device)
            cache.reorder_cache(index)
            words, rows, open_rows = words[index], [rows[at] for at in left], [True] * len(left)
            guide = None if guide is None else guide[index]
            if grammar is not None:
                grammar.select(index)
    return bars


def _join(model: Any, bars: list[list[int]], count: int) -> torch.Tensor:
    """Bars one after the other, `EOS` at the end of each piece, `(S, T)`."""
    per = len(bars) // count
    texts = [
        [word for bar in bars[row * per : (row + 1) * per] for word in bar] + [model.config.eos_token_id]
        for row in range(count)
    ]
    out = torch.full((count, max(map(len, texts))), model.config.pad_token_id, device=model.device)
    for row, text in enumerate(texts):
        out[row, : len(text)] = torch.tensor(text, device=model.device)
    return out


__all__ = ["write_bars"]
