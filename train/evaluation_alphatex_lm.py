"""Evaluator of the language model of alphaTex; also of the one inside a ScoreVLM, after it has learnt to read."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from ..processing.errors import InputError
from .alphatex_lm_data import PackedTexts, generated_texts
from .evaluation_report import EvaluationReport, Failure, Target
from .metrics_alphatex_lm import (
    TextChecks,
    among_best,
    check_completion,
    check_text,
    choose_masked,
    first_half,
    structure_figures,
    usual_frets,
)
from .metrics_common import Estimate, proportion

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest

TARGETS = {"structure": Target(0.979), "tab_completion": Target(0.933), "note_completion": Target(0.933)}
BAR_LINE = "Ġ|⏎"


@dataclass(frozen=True)
class Options:
    """How the model is run.

    Attributes:
        batch_size: Texts written at once.
        max_new_tokens: Longest text or continuation; one that has not ended by then counts as a failure.
        temperature: Of the sampling.
        context: Longest text taken from the test set, in tokens; longer ones are passed over.
        note_window: Tokens after a masked note that the model may judge it by.
        quick: Leave out decoding with the grammar.
    """

    batch_size: int = 16
    max_new_tokens: int = 640
    temperature: float = 0.7
    context: int = 640
    note_window: int = 32
    quick: bool = False


@dataclass(frozen=True)
class LanguageText:
    """One text of the test set: its tokens without `<|end|>`, its piece, and its source where that is known."""

    ids: list[int]
    piece: str
    source: str = ""


def load_language_model(checkpoint: str) -> tuple[Any, Any]:
    """A causal language model and its tokenizer; of a ScoreVLM the language model in it.

    Raises:
        InputError: There is no model, or one without the tokenizer of alphaTex.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    from ..modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
    from ..processing.tokenization_alphatex import AlphaTexTokenizer

    try:
        tokenizer = AlphaTexTokenizer.from_pretrained(checkpoint)
        if AutoConfig.from_pretrained(checkpoint).model_type == "score_vlm":
            model = ScoreVLMForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).language_model
        else:
            model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    except (OSError, ValueError) as error:
        hint = "holds no language model of alphaTex; train one with `train alphatex_lm`"
        raise InputError(checkpoint, f"{hint} ({str(error).splitlines()[0]})") from error
    if BAR_LINE not in tokenizer.get_vocab():
        raise InputError(checkpoint, "its tokenizer is not that of alphaTex; train with `train alphatex_lm`")
    return model.eval(), tokenizer


def load_texts(request: EvaluationRequest, tokenizer: Any, context: int) -> list[LanguageText]:
    """Texts of the test split: of a pack, or generated from the seed.

    Raises:
        InputError: The pack is of another split, or nothing fits.
    """
    found: list[LanguageText] = []
    if request.data is None:
        for text, source, piece in generated_texts(request.seed, 3 * request.n, "test"):
            ids = tokenizer.encode(text, add_special_tokens=False)
            if len(ids) <= context and len(found) < request.n:
                found.append(LanguageText(ids, piece, source))
    else:
        packed = PackedTexts([request.data], tokenizer)
        if packed.splits != {"test"}:
            raise InputError(request.data, f"is of the split {', '.join(sorted(packed.splits))}; pack --split test")
        for i in np.random.default_rng(request.seed).permutation(len(packed)):
            if packed.lengths[i] <= context and len(found) < request.n:
                found.append(LanguageText(packed[int(i)][:-1].tolist(), packed.piece(int(i))))
    if not found:
        raise InputError(request.data, f"no text of at most {context} tokens; give another test set")
    return found


class EndNotAtOnce(LogitsProcessor):
    """Asks for at least one token before the end, wherever another one may come.

    Half of a text is often a whole text as well; a model that ends there is right, and shows nothing.

    Args:
        end: Id of `<|end|>`.
        length: Length of the prompt.
    """

    def __init__(self, end: int, length: int) -> None:
        self.end, self.length = end, length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(B, V)`."""
        if input_ids.shape[1] > self.length:
            return scores
        others = scores.clone()
        others[:, self.end] = -torch.inf
        return torch.where(others.isfinite().any(-1, keepdim=True), others, scores)


class Writer:
    """Runs one model on prompts of token ids.

    Args:
        model: Causal language model.
        tokenizer: An `AlphaTexTokenizer`.
        options: How.
        seed: Of the sampling.
    """

    def __init__(self, model: Any, tokenizer: Any, options: Options, seed: int = 0) -> None:
        from ..processing.alphatex_token_grammar import TokenGrammar

        self.model, self.tokenizer, self.options, self.seed = model, tokenizer, options, seed
        self.grammar = TokenGrammar(tokenizer.get_vocab())
        self.frets = [index for index, piece in tokenizer.pieces().items() if piece.kind == "fret"]
        self.bar_line = tokenizer.get_vocab()[BAR_LINE]
        self.before_text = [tokenizer.bos_token_id]

    def rules(self, prompt: int, room: int, grammar: bool) -> list[LogitsProcessor]:
        """What holds while it writes, behind a prompt of so many tokens."""
        from ..processing.alphatex_constraints import GrammarLogitsProcessor

        rules: list[LogitsProcessor] = [EndNotAtOnce(self.tokenizer.eos_token_id, prompt)]
        if grammar:  # first, as what it forces must stay
            rules.insert(0, GrammarLogitsProcessor(self.grammar, max_length=prompt + room))
        return rules

    def whereabouts(self, rows: torch.Tensor, past: int) -> dict[str, Any]:
        """What the model wants to know of tokens `(B, T)` that come after `past` others in its cache."""
        return {}

    @torch.no_grad()
    def write(self, prompts: Sequence[Sequence[int]], grammar: bool) -> list[tuple[str, bool]]:
        """Goes on from each prompt.

        Args:
            prompts: Token ids after `before_text`; all of a batch are written at once.
            grammar: Let it write only what the grammar allows.

        Returns:
            The whole text, and whether it ended by itself, for each prompt.
        """
        tokenizer, rows = self.tokenizer, [[*self.before_text, *prompt] for prompt in prompts]
        longest = max(map(len, rows))
        ids = torch.tensor([[tokenizer.pad_token_id] * (longest - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
        room = min(self.options.max_new_tokens, self.model.config.max_position_embeddings - longest)
        rules = self.rules(longest, room, grammar)
        device = self.model.device
        out = self.model.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), max_new_tokens=room, do_sample=True, top_k=0,
            top_p=1.0, temperature=self.options.temperature, logits_processor=LogitsProcessorList(rules),
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        found = []
        for row, prompt in zip(out.tolist(), prompts, strict=True):
            written = row[longest:]
            ended = tokenizer.eos_token_id in written
            written = written[: written.index(tokenizer.eos_token_id)] if ended else written
            found.append((tokenizer.decode([*prompt, *written]), ended))
        return found

    def write_all(
        self, prompts: Sequence[Sequence[int]], grammar: bool, track: Callable[..., Iterator[int]], what: str
    ) -> list[tuple[str, bool]]:
        """`write` in batches of prompts of like length, in the order given; the same seed gives the same texts."""
        torch.manual_seed(self.seed)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        found: dict[int, tuple[str, bool]] = {}
        starts = range(0, len(order), self.options.batch_size)
        for start in track(starts, what, len(starts)):
            batch = order[start : start + self.options.batch_size]
            found |= dict(zip(batch, self.write([prompts[i] for i in batch], grammar), strict=True))
        return [found[i] for i in range(len(prompts))]

    @torch.no_grad()
    def fret_scores(self, ids: Sequence[int], place: int) -> tuple[list[float], list[float]]:
        """Log-probabilities of every fret at a place of a text, up to a constant.

        Returns:
            Knowing what stands before it; and knowing also the `note_window` tokens after it, as the probability of
            the text with each fret in turn.
        """
        device = self.model.device
        before = torch.tensor([[*self.before_text, *ids[:place]]], device=device)
        out = self.model(input_ids=before, use_cache=True)
        left = out.logits[0, -1].float().log_softmax(-1)[self.frets]  # (F,)
        after = torch.tensor(
            list(ids[place + 1 : place + 1 + self.options.note_window]), device=device, dtype=torch.long
        )
        if not len(after):
            return left.tolist(), left.tolist()
        candidates = torch.tensor(self.frets, device=device)[:, None]
        rows = torch.cat([candidates, after.expand(len(self.frets), -1)], dim=1)  # (F, 1 + window)
        cache = out.past_key_values
        cache.batch_repeat_interleave(len(self.frets))
        beside = self.whereabouts(rows[:, :-1], before.shape[1])
        logits = self.model(input_ids=rows[:, :-1], past_key_values=cache, use_cache=True, **beside).logits.float()
        right = logits.log_softmax(-1).gather(-1, rows[:, 1:, None])[..., 0].sum(-1)  # (F,)
        return left.tolist(), (left + right).tolist()


def measure_writing(
    writer: Writer, texts: Sequence[LanguageText], report: EvaluationReport, request: EvaluationRequest, grammar: bool
) -> dict[str, Estimate]:
    """Structure of texts written from nothing, and of texts written on from their first bars."""
    how = "grammar on" if grammar else "grammar off"
    free = writer.write_all([[] for _ in range(request.n)], grammar, request.track, f"writing, {how}")
    checks = [check_text(text, ends) for text, ends in free]
    figures = structure_figures(checks)
    halves = [(text, half) for text in texts if (half := first_half(text.ids, writer.bar_line)) is not None]
    prompts = [text.ids[: half[0]] for text, half in halves]
    written = writer.write_all(prompts, grammar, request.track, f"completing, {how}")
    completed = [check_completion(text, half[1], ends) for (text, ends), (_, half) in zip(written, halves, strict=True)]
    figures |= structure_figures(completed, [text.piece for text, _ in halves], "tab_completion")
    report.facts[f"faults, {how}"] = _faults([*checks, *completed])
    return figures


def _faults(checks: Sequence[TextChecks], count: int = 20) -> list[str]:
    """What went wrong first in some of the texts, to look at."""
    return [check.message for check in checks if not check.whole][:count]


def measure_notes(
    writer: Writer, texts: Sequence[LanguageText], report: EvaluationReport, request: EvaluationRequest
) -> dict[str, Estimate]:
    """One masked fret of each text."""
    draw = np.random.default_rng(request.seed)
    usual = usual_frets([text.ids for text in texts], writer.frets)
    both, left, plain, groups, sources = [], [], [], [], []
    for text in request.track(texts, "masked notes", len(texts)):
        place = choose_masked(text.ids, writer.frets, draw)
        if place is None:
            continue
        before, around = writer.fret_scores(text.ids, place)
        true = writer.frets.index(text.ids[place])
        both.append(among_best(around, true))
        left.append(among_best(before, true))
        plain.append(text.ids[place] in usual)
        groups.append(text.piece)
        sources.append(text.source)
    report.sections["baseline: the five most usual frets"] = {"note_completion": proportion(plain, groups, "notes")}
    for source in sorted({*sources} - {""}):
        chosen = [i for i, name in enumerate(sources) if name == source]
        report.sections[f"source: {source}"] = {
            "note_completion": _part(both, groups, chosen),
            "note_completion_left": _part(left, groups, chosen),
        }
    return {
        "note_completion": proportion(both, groups, "notes"),
        "note_completion_left": proportion(left, groups, "notes"),
    }


def _part(outcomes: Sequence[bool], groups: Sequence[Hashable], chosen: Sequence[int]) -> Estimate:
    return proportion([outcomes[i] for i in chosen], [groups[i] for i in chosen], "notes")


def evaluate_alphatex_lm(
    request: EvaluationRequest, *, model: Any = None, tokenizer: Any = None, **settings: Any
) -> EvaluationReport:
    """Measure a language model of alphaTex without pictures.

    Args:
        request: `data`: a pack of the split `test`; generated texts of held-out pieces when `None`. `n` texts are
            written, `n` are completed, `n` notes are masked.
        model: In place of the checkpoint's.
        tokenizer: Its tokenizer.
        **settings: Fields of `Options`.

    Raises:
        InputError: No such checkpoint or data.
        TypeError: A setting that `Options` does not have.
    """
    options = Options(**settings)
    if model is None:
        model, tokenizer = load_language_model(request.checkpoint)
    texts = load_texts(request, tokenizer, options.context)
    data = str(Path(request.data).name) if request.data else f"held-out pieces generated with seed {request.seed}"
    report = EvaluationReport(request.stem, request.checkpoint, data, len(texts), request.seed, targets=dict(TARGETS))
    writer = Writer(model, tokenizer, options, request.seed)
    report.figures = measure_writing(writer, texts, report, request, grammar=False)
    report.figures |= measure_notes(writer, texts, report, request)
    if not options.quick:
        report.sections["grammar on"] = measure_writing(writer, texts, report, request, grammar=True)
        for message in report.facts["faults, grammar on"]:  # the grammar promises that there are none
            if message != "it does not end":
                report.failures.append(Failure("grammar on", "write", message))
    report.notes += [
        f"Texts are sampled at temperature {options.temperature}; the main figures are without the grammar. One that "
        f"has not ended after {options.max_new_tokens} tokens counts as a failure.",
        "`note_completion`: the true fret is among the five best of 37, the string and the "
        f"{options.note_window} tokens after it being known; `note_completion_left`: only what stands before it.",
    ]
    return report


__all__ = ["Options", "Writer", "evaluate_alphatex_lm", "load_language_model", "load_texts"]
