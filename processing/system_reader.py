"""Reads systems with a trained ScoreVLM: dense evidence, grammar, language model, one text a picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .alphatex_bars import bars_close
from .alphatex_grammar import AlphaTexError, Score, read_alphatex, write_alphatex
from .dense_reading import DenseReader, DenseReading
from .errors import InputError
from .metre_choice import settle_metre
from .reading_views import VIEWS, look, vote
from .system_canvas import NormalisedSystem

if TYPE_CHECKING:
    from PIL import Image

    from .page_systems import Page

Metre = tuple[int, int]
COMMON_METRES: tuple[Metre, ...] = ((4, 4), (3, 4), (6, 8), (2, 4), (12, 8), (9, 8), (5, 4), (7, 8), (3, 8), (7, 4))
UNSURE = 0.5  # a bar with less chance of being right is named
MAX_PIXELS = 12_000_000  # of the canvases in one pass through the tower
MAX_NEW_TOKENS = 1400


@dataclass
class SystemReading:
    """One system, read.

    Attributes:
        text: Canonical alphaTex.
        bar_confidence: Chance that a bar is right as a whole, by bar.
        seconds: Share of the time that its batch took.
        bars: Number of bars.
        notes: Number of notes, ties counted.
        closes: Whether every bar fills its metre.
        box: `(left, top, right, bottom)` on its upright page, in pixels; `None` for a picture of one system.
        score: The typed text.
        cut_off: `"upper"`, `"lower"`: edges of the picture that may have cut off a line of this tab; see `cut_off_at`.
    """

    text: str
    bar_confidence: list[float]
    seconds: float = 0.0
    bars: int = 0
    notes: int = 0
    closes: bool = False
    box: tuple[float, float, float, float] | None = None
    score: Score | None = field(default=None, repr=False)
    cut_off: tuple[str, ...] = ()

    @property
    def unsure_bars(self) -> list[int]:
        """Bars, counted from 1, that are more likely wrong than right."""
        return [i + 1 for i, chance in enumerate(self.bar_confidence) if chance < UNSURE]


def infer_metre(reader: DenseReader, logits: dict[str, np.ndarray], width: int) -> tuple[Metre, DenseReading]:
    """The metre in which a system without a time signature makes most sense, with its reading."""
    best: tuple[float, Metre, DenseReading] | None = None
    for metre in COMMON_METRES:
        reader.metre = metre
        reading = reader.read(logits, width)
        value = float(np.sum(np.log(np.maximum(reading.bar_confidence, 1e-12))))
        if best is None or value > best[0]:
            best = (value, metre, reading)
    assert best is not None
    return best[1], best[2]


def metre_after(score: Score, before: Metre) -> Metre:
    """The metre in force after the last bar."""
    for bar in score.staves[0].bars:
        before = bar.time_signature or before
    return before


class SystemReader:
    """A trained reader.

    Args:
        model: `ScoreVLMForConditionalGeneration` with a `score_tower`.
        processor: Its `ScoreVLMProcessor`.
        grammar: Keep to the grammar: what is written parses, and its bars close.
        evidence: Weight of the dense heads' evidence in the language model's choices; 0 or `False` for none, `None` or
            `True` for the one that the checkpoint's configuration names.
        dense_only: Write what the dense heads read, without the language model.
        views: Looks at each system, in sizes and places a little apart, whose readings vote (`reading_views`); 1 is
            fastest.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        grammar: bool = True,
        evidence: float | bool | None = None,
        dense_only: bool = False,
        views: int = len(VIEWS),
    ) -> None:
        from .alphatex_constraints import TokenGrammar

        if not 1 <= views <= len(VIEWS):
            raise InputError(None, f"views is {views}; it must be between 1 and {len(VIEWS)}")

        self.model, self.processor = model.eval(), processor
        if evidence is None or evidence is True:
            evidence = model.config.evidence_weight
        self.grammar, self.evidence, self.dense_only = grammar, float(evidence), dense_only
        self.views = VIEWS[:views]
        self.tokens = TokenGrammar(processor.tokenizer.get_vocab())
        self.labels = model.config.vision_config.labels

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path, device: str = "auto", **switches: Any) -> SystemReader:
        """Loads a checkpoint.

        Raises:
            InputError: The folder is no ScoreVLM checkpoint, or the device is not there.
        """
        import torch
        from transformers.utils import logging

        from ..modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
        from .processing_score_vlm import ScoreVLMProcessor

        logging.disable_progress_bar()  # loading takes no time; its bar would stand between the person's own lines
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            model = ScoreVLMForConditionalGeneration.from_pretrained(str(checkpoint), dtype=torch.float32).to(device)
            processor = ScoreVLMProcessor.from_pretrained(str(checkpoint))
        except (OSError, ValueError, KeyError, RuntimeError, AssertionError) as error:
            why = " ".join(str(error).split())[:200]
            raise InputError(checkpoint, f"does not load as a ScoreVLM checkpoint on {device}: {why}") from error
        return cls(model, processor, **switches)

    def read_batch(self, pictures: Sequence[Image.Image | np.ndarray]) -> list[SystemReading]:
        """Reads pictures of one system each, in order; their first bars show the metre or it is inferred.

        Raises:
            InputError: A picture shows no system; its index in the batch is named.
        """
        systems = [self.processor.image_processor._system(picture, i, True) for i, picture in enumerate(pictures)]
        return self.read_systems(systems, chained=False)

    def read_page(self, page: Image.Image | np.ndarray) -> list[SystemReading]:
        """Reads all systems of a page from the top, each with the metre that the one before ended in."""
        from .page_systems import read_page
        from .picture_files import grey_on_white

        array = page if isinstance(page, np.ndarray) else np.asarray(grey_on_white(page))
        return self.read_pages([read_page(array)])[0]

    def read_pages(self, pages: Sequence[Page]) -> list[list[SystemReading]]:
        """Reads pages whose systems are found already; the systems of all of them go through the tower together."""
        from .page_systems import cut_off_at, draw_region

        canvases = [draw_region(page, region) for page in pages for region in page.systems]
        chained = [place > 0 for page in pages for place in range(len(page.systems))]
        flat = iter(self.read_systems(canvases, chained) if canvases else [])
        found = [[next(flat) for _ in page.systems] for page in pages]
        for page, readings in zip(pages, found, strict=True):
            for reading, region in zip(readings, page.systems, strict=True):
                reading.box = tuple(map(float, region.box))  # type: ignore[assignment]
                reading.cut_off = cut_off_at(page, region)
        return found

    def read_systems(self, systems: Sequence[NormalisedSystem], chained: bool | Sequence[bool]) -> list[SystemReading]:
        """Reads canvases.

        Args:
            systems: Canvases with what is known of them.
            chained: They follow each other, or which of them follow the one before: a metre stays in force until
                another is written.
        """
        started = time.perf_counter()
        follows = [chained] * len(systems) if isinstance(chained, bool) else chained
        seen = [[look(system, view) for view in self.views] for system in systems]
        flat = self._look([canvas for canvases in seen for canvas in canvases])
        looks = [flat[i : i + len(self.views)] for i in range(0, len(flat), len(self.views))]
        readings: list[DenseReading] = []
        metres: list[Metre] = []
        metre: Metre | None = None
        earlier: DenseReader | None = None
        for goes_on, canvases, outputs in zip(follows, seen, looks, strict=True):
            if not goes_on:
                metre, earlier = None, None
            reading, before, reader = self._vote(canvases, outputs, metre, earlier)
            readings.append(reading)
            metres.append(before)
            metre, earlier = metre_after(reading.score, before), reader
        texts = self._write(systems, [outputs[0] for outputs in looks], readings, metres)
        seconds = (time.perf_counter() - started) / max(len(systems), 1)
        return [self._result(*parts, seconds) for parts in zip(texts, readings, metres, strict=True)]

    def _vote(
        self, canvases: Sequence[NormalisedSystem], outputs: list[Any], metre: Metre | None, earlier: DenseReader | None
    ) -> tuple[DenseReading, Metre, DenseReader]:
        """What the looks at one system agree on, the metre before it, and the reader that saw its last bar.

        A look that sees no metre where none is known takes the one of the first look, inferred if that sees none.
        """
        readings: list[DenseReading] = []
        readers: list[DenseReader] = []
        before = metre
        for canvas, output in zip(canvases, outputs, strict=True):
            show = ("score", "tabs") if canvas.has_score else ("tabs",)
            strings = canvas.string_count if 4 <= canvas.string_count <= 7 else 6
            logits = {name: value[0].float().cpu().numpy() for name, value in output.dense_logits.items()}
            reader = DenseReader(self.labels, show, strings, before, earlier)
            reading = settle_metre(reader, logits, canvas.array.shape[1], reader.read(logits, canvas.array.shape[1]))
            if before is None:
                before = reading.score.staves[0].bars[0].time_signature
                if before is None:
                    before, reading = infer_metre(reader, logits, canvas.array.shape[1])
            readings.append(reading)
            readers.append(reader)
        assert before is not None
        voted, last = vote(readings)
        if metre is None and voted.score.staves[0].bars[0].time_signature is not None:
            before = (4, 4)  # nothing has to be known where the picture tells
        return voted, before, readers[last]

    def _look(self, systems: Sequence[NormalisedSystem]) -> list[Any]:
        """The tower's `ScoreTowerOutput` for each canvas; like sizes go through the tower together."""
        import torch

        from ..modeling.modeling_score_tower import ScoreTowerOutput

        found: list[Any] = [None] * len(systems)
        for group in _by_size(systems):
            values, widths = self._tensors([systems[i] for i in group])
            with torch.inference_mode():
                out = self.model.read_dense(values, widths)
            for row, i in enumerate(group):
                logits = {name: value[row : row + 1] for name, value in out.dense_logits.items()}
                columns = out.last_hidden_state[row : row + 1]
                found[i] = ScoreTowerOutput(last_hidden_state=columns, dense_logits=logits)
        return found

    def _tensors(self, systems: Sequence[NormalisedSystem]) -> tuple[Any, Any]:
        batch = self.processor.image_processor._batch(list(systems), "pt")
        device = self.model.device
        return batch["pixel_values"].to(device), batch["widths"].to(device)

    def _write(
        self,
        systems: Sequence[NormalisedSystem],
        looks: list[Any],
        readings: list[DenseReading],
        metres: list[Metre],
    ) -> list[str]:
        """Texts of the language model, or the dense drafts."""
        import torch

        if self.dense_only:
            return [write_alphatex(reading.score) for reading in readings]
        texts = []
        for system, seen, reading, metre in zip(systems, looks, readings, metres, strict=True):
            with torch.inference_mode():
                features = self.model.get_image_features(widths=torch.tensor([system.array.shape[1]]), dense=seen)
                texts.append(self._write_one(features, reading, metre))
        return texts

    def _write_one(self, features: Any, reading: DenseReading, metre: Metre) -> str:
        """Greedy decoding of one system.

        With evidence the result nearly always is the draft. So the draft is checked in one pass, and the model writes
        on from the first token that it would choose otherwise: the same text as token by token, many times faster.
        """
        import torch

        from .alphatex_constraints import SLACK_TOKENS, GrammarLogitsProcessor
        from .dense_evidence import DraftEvidence, ReadingContext

        tokenizer, device = self.processor.tokenizer, self.model.device
        prompt = self.processor.read_prompt().replace("<|image|>", "<|image|>" * len(features))
        start = tokenizer.encode(prompt, add_special_tokens=False)
        max_bars = len(reading.score.staves[0].bars) + 4
        context = ReadingContext(strings=6, metre=metre, max_bars=max_bars, picture=0)
        evidence, room = None, MAX_NEW_TOKENS
        accepted: list[int] = []
        if self.evidence:
            evidence = DraftEvidence(self.tokens, [reading], [context], tokenizer, self.evidence)
            draft = evidence.drafts[0]
            # Closing a text early is forced when little room is left; the whole draft must fit before that.
            room = len(draft) * 3 // 2 + 7 * SLACK_TOKENS
            limit = self.model.config.text_config.max_position_embeddings - len(start)
            if self.grammar and room > limit:
                return write_alphatex(reading.score)  # longer than the language model can look
            room = min(room, limit)
        rules = GrammarLogitsProcessor(
            self.tokens,
            context=context,
            max_length=len(start) + room if self.grammar else None,
            evidence=evidence,
            enabled=self.grammar,
        )
        if evidence is not None and self.grammar:
            accepted, forbidden = self._accept(features, start, draft, rules)
            if accepted and accepted[-1] == tokenizer.eos_token_id:
                return tokenizer.decode(accepted[:-1])
            if forbidden and bars_close(reading.score):
                return write_alphatex(reading.score)  # rare, but alphaTex: with evidence behind it, better than none
        ids = torch.tensor([start + accepted], device=device)
        out = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            image_features=features,
            logits_processor=[rules],
            max_new_tokens=room - len(accepted),
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        return tokenizer.decode(out[0, len(start) :], skip_special_tokens=True)

    def _accept(self, features: Any, start: list[int], draft: list[int], rules: Any) -> tuple[list[int], bool]:
        """The draft up to the first token that greedy decoding would choose otherwise.

        Returns:
            What is kept, and whether it ends because the grammar forbids what follows, not because another is likelier.
        """
        import torch

        whole = torch.tensor([start + draft], device=self.model.device)
        logits = self.model(input_ids=whole, image_features=features).logits[0, len(start) - 1 :].float()
        accepted: list[int] = []
        for place, wanted in enumerate([*draft, self.processor.tokenizer.eos_token_id]):
            prefix = whole[:, : len(start) + place]
            choices = rules(prefix, logits[place : place + 1])[0]
            if int(choices.argmax()) != wanted:
                return accepted, bool(choices[wanted] == -torch.inf)
            accepted.append(wanted)
        return accepted, False

    def _result(self, text: str, dense: DenseReading, metre: Metre, seconds: float) -> SystemReading:
        try:
            score = read_alphatex(text)
        except AlphaTexError:
            return SystemReading(text, [0.0] * max(len(dense.bar_confidence), 1), seconds)
        bars = score.staves[0].bars
        drafted = dense.score.staves[0].bars
        confidence = [
            chance if i < len(drafted) and bar == drafted[i] else min(chance, 0.4)
            for i, (bar, chance) in enumerate(zip(bars, [*dense.bar_confidence, *[0.0] * len(bars)], strict=False))
        ]
        if bars and bars[0].time_signature is None and metre != (4, 4):
            bars[0].time_signature = metre  # not drawn, but without it the text would mean 4/4
        notes = sum(len(beat.notes) for *_, beat in score.beats())
        return SystemReading(
            text=write_alphatex(score),
            bar_confidence=confidence,
            seconds=seconds,
            bars=len(bars),
            notes=notes,
            closes=bars_close(score),
            score=score,
        )


def _by_size(systems: Sequence[NormalisedSystem]) -> list[list[int]]:
    """Indices in groups of one height and of bounded size."""
    order = sorted(range(len(systems)), key=lambda i: (systems[i].array.shape, i))
    groups: list[list[int]] = []
    for i in order:
        height, width = systems[i].array.shape
        last = groups[-1] if groups else None
        if last and systems[last[0]].array.shape[0] == height and (len(last) + 1) * height * width <= MAX_PIXELS:
            last.append(i)
        else:
            groups.append([i])
    return groups


__all__ = ["SystemReader", "SystemReading", "infer_metre"]
