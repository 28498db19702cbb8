"""Ways from words to songs that the evaluation of SummaryBridge compares: bridges, and soft prompts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from ..modeling.text_wishes import WISHES, pictured_sides
from ..processing.errors import InputError
from ..processing.music_tries import best_of
from ..processing.tokenization_bar_midi import decode
from .evaluation_museformer_speed import spread_of, wait
from .evaluation_songs import MusicWriter, check_folder, check_song, without_padding
from .metrics_common import Estimate


class Composer(Protocol):
    """Words to songs."""

    def compose(self, texts: Sequence[str], seed: int) -> list[np.ndarray]:
        """The words of one song for each text."""


class BridgeComposer:
    """A SummaryBridge in front of a Museformer.

    Args:
        bridge: `SummaryBridgeModel` in evaluation mode.
        processor: Its `SummaryBridgeProcessor`, or a function of texts to its inputs.
        writer: The music model.
        guidance: `guidance_scale`; the configuration's own by default.
        steps: Sampling steps; the configuration's own by default.
        tries: Songs written at most for a text that is a picture, until one has all that the bridge heard; the one that
            has most of it is kept (`music_tries`).
    """

    def __init__(
        self, bridge: Any, processor: Any, writer: MusicWriter, guidance: float | None = None, steps: int | None = None,
        tries: int = 1,
    ) -> None:  # fmt: skip
        sizes = (bridge.config.summary_size, writer.museformer.config.summary_size)
        if sizes[0] != sizes[1]:
            raise InputError(None, f"the bridge makes summaries of {sizes[0]} numbers, Museformer takes {sizes[1]}")
        self.bridge, self.processor, self.writer = bridge, processor, writer
        self.options, self.tries = {"guidance_scale": guidance, "num_inference_steps": steps}, tries

    def hear(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """What the text encoder says."""
        return {name: value.to(self.bridge.device) for name, value in self.processor(list(texts)).items()}

    def plan(self, heard: dict[str, torch.Tensor], seed: int, sides: torch.Tensor | None = None) -> torch.Tensor:
        """Summaries `(B, N, Z)` for texts; `sides` `(B, 7)` are known."""
        generator = torch.Generator(self.bridge.device).manual_seed(seed)
        return self.bridge.sample_summary_tokens(
            **heard, num_bars=self.writer.writing.num_bars, generator=generator, sides=sides, **self.options
        )

    def compose(self, texts: Sequence[str], seed: int, parallel: bool | None = None) -> list[np.ndarray]:
        """See `Composer`; `parallel` other than `Writing` says."""
        return self.play(self.hear(texts), seed, parallel)

    def play(self, heard: dict[str, torch.Tensor], seed: int, parallel: bool | None = None) -> list[np.ndarray]:
        """The words of one song for each row of the bridge's inputs: texts that were heard, or pictures."""
        count = len(heard["text_pooled"])
        sides = pictured_sides(self.bridge, **heard).tolist() if self.tries > 1 else [[0.0] * len(WISHES)] * count

        def write(rows: list[int], number: int, wanted: Any, lean: Any) -> list[tuple[np.ndarray, dict[str, Any]]]:
            few, again = {name: value[rows] for name, value in heard.items()}, seed + 1_000_003 * number
            wanted, lean = (None if x is None else torch.tensor(x, device=self.bridge.device) for x in (wanted, lean))
            found = self.writer.write(self.plan(few, again, wanted), len(rows), again, parallel, lean)
            return [(song, self._measured(song) if any(sides[k]) else {}) for k, song in zip(rows, found, strict=True)]

        return best_of([dict(zip(WISHES, one, strict=True)) for one in sides], write, self.tries)

    def _measured(self, ids: np.ndarray) -> dict[str, Any]:
        return check_song(ids, self.writer.writing.num_bars).values

    def speed(self, texts: Sequence[str], rounds: int) -> dict[str, Estimate]:
        """Milliseconds of the text encoder and of the bridge, seconds of a whole song to its MIDI, one at a time.

        The first round, which loads and warms up, is thrown away.
        """
        columns: dict[str, list[float]] = {
            name: [] for name in ("text_encoder_ms", "bridge_ms", "song_seconds", "song_seconds_parallel")
        }
        for number in range(rounds + 1):
            text, marks = [texts[number % len(texts)]], [time.perf_counter()]
            heard = self.hear(text)
            marks.append(time.perf_counter())
            plan = self.plan(heard, number)
            wait(self.bridge.device)
            marks.append(time.perf_counter())
            for parallel in (False, True):
                for ids in self.writer.write(plan, 1, number, parallel):
                    decode(ids).dumps_midi()
                marks.append(time.perf_counter())
            if number:
                spent = np.diff(marks).tolist()
                before = spent[0] + spent[1]
                values = (1000 * spent[0], 1000 * spent[1], before + spent[2], before + spent[3])
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
        return {name: spread_of(values, "songs") for name, values in columns.items()}

    def picture_seconds(self, pictures: Sequence[str], rounds: int) -> Estimate:
        """Seconds from a picture in words to a MIDI file, with all its tries."""
        found: list[float] = []
        for number in range(rounds + 1):
            began = time.perf_counter()
            for ids in self.compose([pictures[number % len(pictures)]], number, False):
                decode(ids).dumps_midi()
            found.append(time.perf_counter() - began)
        return spread_of(found[1:], "songs")


class PromptComposer:
    """A soft prompt in front of a Museformer.

    Args:
        prompt: `SoftPrompt`.
        processor: The text encoder's processor.
        writer: The music model.
    """

    def __init__(self, prompt: Any, processor: Any, writer: MusicWriter) -> None:
        self.prompt, self.processor, self.writer = prompt, processor, writer

    def compose(self, texts: Sequence[str], seed: int) -> list[np.ndarray]:
        """See `Composer`; one text after the other, as a soft prompt writes them."""
        device, writing = self.writer.museformer.device, self.writer.writing
        generator, found = self.writer.generator(seed), []
        for text in texts:
            heard = {name: value.to(device) for name, value in self.processor([text]).items()}
            ids = self.prompt.write(
                heard, writing.num_bars, 1, self.writer.grammar, writing.temperature, writing.max_bar_tokens, generator
            )
            found.append(without_padding(ids[0]))
        return found


def load_composer(
    folder: str, writer: MusicWriter, processor: Any = None, guidance: float | None = None, steps: int | None = None,
    tries: int = 1,
) -> Composer:  # fmt: skip
    """A bridge, or a soft prompt, by its folder.

    Args:
        folder: Model folder of a bridge (of any method), or of a soft prompt.
        writer: The music model.
        processor: Text encoder's processor for folders that have none of their own.
        guidance, steps, tries: Of a bridge.

    Raises:
        InputError: Neither is there, or it belongs to other sizes of texts or summaries.
    """
    from ..modeling.modeling_summary_bridge import SummaryBridgeModel
    from ..processing.processing_summary_bridge import SummaryBridgeProcessor
    from .bridge_baselines import SoftPrompt

    check_folder(folder, ["config.json", "soft_prompt.json"], "give a trained bridge or soft prompt")
    place = Path(folder)
    if (place / "soft_prompt.json").is_file():
        prompt = SoftPrompt.from_pretrained(place, writer.museformer)
        return PromptComposer(prompt.to(writer.museformer.device), _needed(processor, folder), writer)
    try:
        if not place.is_dir() or (place / "processor_config.json").is_file():
            processor = SummaryBridgeProcessor.from_pretrained(folder)
        processor = _needed(processor, folder)
        bridge = SummaryBridgeModel.from_pretrained(folder, dtype="float32").eval().requires_grad_(False)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(folder, f"no SummaryBridge can be loaded ({str(error).splitlines()[0]})") from error
    return BridgeComposer(bridge.to(writer.museformer.device), processor, writer, guidance, steps, tries)


def _needed(processor: Any, folder: str) -> Any:
    if processor is None:
        raise InputError(folder, "holds no processor_config.json, so its text encoder is not known")
    return processor


__all__ = ["BridgeComposer", "Composer", "PromptComposer", "load_composer"]
