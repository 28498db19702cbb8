"""What long music costs: seconds a word with a cache, and memory and time of a training step, beside full attention."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..processing.bar_midi_vocabulary import EOS_ID
from .metrics_common import Estimate
from .museformer_data import BarPieces


def spread_of(values: list[float], unit: str) -> Estimate:
    """Median, with the least and the greatest in place of an interval."""
    return Estimate(float(np.median(values)), min(values), max(values), len(values), unit, 0, "range")


def bars_in_a_circle(pieces: BarPieces, period: int, length: int) -> tuple[torch.Tensor, int]:
    """A long text of the same bars again and again, so that the same words stand early and late in it.

    Args:
        pieces: Real music.
        period: Words of one round, about.
        length: Words that the text has at least.

    Returns:
        Words `(T,)`, T a multiple of the round; and the words of one round, whole bars of one piece.
    """
    best: np.ndarray | None = None
    for ids, starts in zip(pieces.ids, pieces.starts, strict=True):
        text = ids[ids != EOS_ID]
        edges = np.append(starts, len(text))
        stop = int(edges[1:][np.abs(edges[1:] - period).argmin()])
        if best is None or abs(stop - period) < abs(len(best) - period):
            best = text[:stop]
    assert best is not None
    rounds = -(-length // len(best))
    return torch.from_numpy(np.tile(best, rounds).astype(np.int64)), len(best)


def wait(device: torch.device) -> None:
    """Until the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.no_grad()
def seconds_a_word(model: Any, text: torch.Tensor, period: int, places: tuple[int, ...]) -> list[float]:
    """Seconds that writing one word takes at these places of a text, as in the decoding loop, without the grammar.

    The text up to two rounds before the place is read at once. The first of these rounds is written to warm up, the
    second is timed as a whole, with the words of the text in place of drawn ones; both begin and end with a bar.

    Args:
        model: `MuseformerForCausalLM`.
        text: From `bars_in_a_circle`.
        period: Words of a round.
        places: Words that come before the end of the timed round, about; two rounds at least are written.
    """
    found = []
    for place in places:
        rounds = max(round(place / period), 2)
        ids = text[: rounds * period].to(model.device)[None]
        first = (rounds - 2) * period
        cache = (
            model.model(ids[:, :first], use_cache=True).past_key_values if first else model.model.start_cache(1)
        )  # fmt: skip
        words = ids[0, first:].split(1)
        started = 0.0
        for number, word in enumerate(words):
            if number == period:
                wait(model.device)
                started = time.perf_counter()
            logits = model.lm_head(model.model.step(word, cache)[:, 0])
            torch.multinomial(logits.softmax(-1), 1)
        wait(model.device)
        found.append((time.perf_counter() - started) / period)
    return found


def token_times(
    model: Any, pieces: BarPieces, places: tuple[int, int], rounds: int, period: int = 256
) -> dict[str, Estimate]:
    """Seconds a word late and early in a song, and their ratio.

    Args:
        model: `MuseformerForCausalLM` in evaluation mode.
        pieces: Real music, whose bars are written.
        places: Early and late, in words.
        rounds: Measurements; one more is thrown away.
        period: Words between two equal bars.
    """
    text, period = bars_in_a_circle(pieces, period, max(places) + 2 * period)
    pairs = [seconds_a_word(model, text, period, places) for _ in range(rounds + 1)][1:]
    return {
        f"seconds_a_token_at_{places[0]}": spread_of([early for early, _ in pairs], "rounds"),
        f"seconds_a_token_at_{places[1]}": spread_of([late for _, late in pairs], "rounds"),
        "late_over_early": spread_of([late / early for early, late in pairs], "rounds"),
    }


# --- Training ---------------------------------------------------------------------------------------------------------


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int:
    """Most bytes of tensors at one time while something runs, beyond what was there before.

    On a CPU the profiler's record of every allocation is added up; on CUDA the allocator counts.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        wait(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    assert record.profiler is not None
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def full_attention_like(config: Any) -> Any:
    """A configuration with full attention and as many weights, as near as whole layers allow.

    The layers of the model that makes summaries go to the one that predicts.
    """
    wanted = count_weights(config)
    sizes = []
    for layers in range(config.num_hidden_layers, config.num_hidden_layers + 8):
        other = copy.deepcopy(config)
        other.full_attention, other.num_hidden_layers = True, layers
        sizes.append((abs(count_weights(other) - wanted), layers, other))
    return min(sizes, key=lambda item: item[:2])[2]


def count_weights(config: Any) -> int:
    """Weights of a model of this configuration; it is not built."""
    from ..modeling.modeling_museformer import MuseformerForCausalLM

    with torch.device("meta"):
        return sum(p.numel() for p in MuseformerForCausalLM(config).parameters())


def training_step(model: Any, batch: dict[str, torch.Tensor]) -> Callable[[], None]:
    """A step forwards and backwards, gradients set to zero before; without the optimizer, which is the same for all."""

    def run() -> None:
        model.zero_grad(set_to_none=True)
        model(**batch).loss.backward()

    return run


def training_costs(
    config: Any, pieces: BarPieces, length: int, rounds: int, device: Any = "cpu"
) -> dict[str, dict[str, Estimate]]:
    """Seconds and memory of a training step on one row of so many words, for a model and for full attention.

    Both models have new weights: what they cost does not depend on what they know. They take turns, so that what else
    the machine does meets both.

    Args:
        config: `MuseformerConfig`.
        pieces: Real music, whose bars make the row.
        length: Words.
        rounds: Steps timed; one more is thrown away.
        device: Where.

    Returns:
        By title: figures of the model, of full attention, and of one over the other.
    """
    from ..modeling.modeling_museformer import MuseformerForCausalLM

    device = torch.device(device)
    text, _ = bars_in_a_circle(pieces, 256, length)
    ids = text[:length][None].to(device)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    configs = {"museformer": config, "full attention": full_attention_like(config)}
    steps: dict[str, Callable[[], None]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in configs}
    found: dict[str, dict[str, Estimate]] = {}
    for name, settings in configs.items():
        model = MuseformerForCausalLM(settings).train().to(device)
        steps[name] = training_step(model, batch)
        steps[name]()  # memory of the gradients is there from now on
        peak = peak_bytes(steps[name], device)
        flat = Estimate(peak / 2**20, peak / 2**20, peak / 2**20, 1, "steps", 0, "point")
        weights = sum(p.numel() for p in model.parameters())
        found[name] = {
            "peak_mebibytes": flat,
            "parameters": Estimate(weights, weights, weights, 1, "models", 0, "point"),
        }
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            wait(device)
            seconds[name].append(time.perf_counter() - started)
    for name, values in seconds.items():
        found[name]["seconds_a_step"] = spread_of(values, "steps")
    ours, theirs = found["museformer"], found["full attention"]
    less = ours["peak_mebibytes"].value / theirs["peak_mebibytes"].value
    pairs = [a / b for a, b in zip(seconds["museformer"], seconds["full attention"], strict=True)]
    over = {
        "memory_over_full_attention": Estimate(less, less, less, 1, "steps", 0, "point"),
        "time_over_full_attention": spread_of(pairs, "steps"),
    }
    return {"museformer": ours, "full attention": theirs, "over": over}


__all__ = [
    "bars_in_a_circle",
    "full_attention_like",
    "peak_bytes",
    "seconds_a_word",
    "token_times",
    "training_costs",
]
