"""One sampling of FractalMidi: its settings, its choices, and who watches it grow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from .fractal_cells import class_probabilities, codes_to_roll, pick, still_masked
from .fractal_nodes import MAX_LOGIT, LevelGenerator, Nodes

Watcher = Callable[[int, int, torch.Tensor], Any]
MAX_FRAMES = 512


def shown(codes: torch.Tensor, num_codes: int) -> torch.Tensor:
    """Codes `(B, P, T)` as a float roll `(B, 1, P, T)`; not-a-number where nothing is decided (code `num_codes`)."""
    roll = codes_to_roll(codes, num_codes)
    return roll.masked_fill(codes[:, None] == num_codes, float("nan"))


class Painter:
    """What the levels share while rolls are sampled.

    Args:
        levels: The generators, the whole roll first.
        attributes: `(S, B, A)` embedded conditions, `S` = 2 with guidance (the second without conditions).
        num_iter_list: Steps of each `mar` level; `ar` levels take one step a child.
        temperature: Divides all logits; 0 = the most likely class.
        cfg_scale: 1 = as conditioned; more follows the conditions more closely (arXiv 2207.12598, equation 6).
        sparsity_bias: Added to the logit of silence and emptiness at all levels.
        top_p: Nucleus of the codes of a cell.
        structure_temperature: Of the choices which patches sound; `temperature` when `None`.
        pitch_bias: `(B, P)` added to the log-odds that a cell of this pitch sounds.
        canvas: `(B, P, T)` codes known at the start, where someone wants to watch.
        watch: Called with (level, step, canvas as a float roll) after each step of each level; see `shown`.
    """

    def __init__(
        self,
        levels: Sequence[LevelGenerator],
        attributes: torch.Tensor | None,
        num_iter_list: Sequence[int],
        temperature: float = 1.0,
        cfg_scale: float = 1.0,
        sparsity_bias: float = 0.0,
        top_p: float = 1.0,
        structure_temperature: float | None = None,
        pitch_bias: torch.Tensor | None = None,
        canvas: torch.Tensor | None = None,
        watch: Watcher | None = None,
    ) -> None:
        self.levels, self.attributes, self.num_iter_list = levels, attributes, num_iter_list
        self.temperature, self.cfg_scale = temperature, cfg_scale
        self.sparsity_bias, self.top_p = sparsity_bias, top_p
        self.structure_temperature = temperature if structure_temperature is None else structure_temperature
        self.pitch_bias = pitch_bias
        self.canvas, self.watch = canvas, watch

    def steps(self, level: LevelGenerator) -> int:
        """Steps that one patch of this level takes at most."""
        if level.kind == "ar":
            return level.num_children
        return min(self.num_iter_list[level.level], level.num_children)

    def schedule(self, level: LevelGenerator, count: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Steps of a `mar` level, each with how many of `count` children stay masked after it."""
        steps = self.steps(level)
        for step in range(steps):
            yield step, still_masked(count, step, steps)

    def combine(self, logits: torch.Tensor, lift: torch.Tensor | None = None) -> torch.Tensor:
        """Clamped logits `(S, J, K)` of one or two streams to the guided `(J, K)`, silence lowered by `lift` `(J,)`."""
        if logits.shape[0] == 1:
            found = logits[0]
        else:
            found = (logits[1] + self.cfg_scale * (logits[0] - logits[1])).clamp(-MAX_LOGIT, MAX_LOGIT)
        return found if lift is None else torch.cat([found[:, :1] - lift[:, None], found[:, 1:]], dim=1)

    def lift(self, level: LevelGenerator, nodes: Nodes, m: torch.Tensor, i: torch.Tensor) -> torch.Tensor | None:
        """The bias of chosen children `(J,)`; `None` where they are more than cells, or there is none."""
        if self.pitch_bias is None or not level.is_last:
            return None
        return self.pitch_bias[nodes.owner[m], nodes.origin[m, 0] + i % level.grid[0]]

    def temperature_of(self, logits: torch.Tensor) -> float:
        """Temperature of a choice by its logits `(…, K)`: two classes say whether a patch sounds."""
        return self.structure_temperature if logits.shape[-1] == 2 else self.temperature

    def log_odds(self, logits: torch.Tensor, lift: torch.Tensor | None = None) -> torch.Tensor:
        """Log-odds `(J,)` that something sounds, at this temperature."""
        scaled = self.combine(logits, lift) / max(self.temperature_of(logits), 1e-8)
        return scaled[:, 1:].logsumexp(-1) - scaled[:, 0]

    def choose(
        self, logits: torch.Tensor, u: torch.Tensor, sounding: torch.Tensor, lift: torch.Tensor | None = None
    ) -> torch.Tensor:
        """A class for each `(J,)`, from uniform numbers `(J,)`; never 0 where `sounding`."""
        logits = self.combine(logits, lift)
        silence = torch.arange(logits.shape[-1], device=logits.device) == 0
        logits = logits.masked_fill(sounding[:, None] & silence, float("-inf"))
        top_p = self.top_p if logits.shape[-1] > 2 else 1.0
        return pick(class_probabilities(logits, self.temperature_of(logits), self.sparsity_bias, top_p), u)

    def show(self, level: LevelGenerator, nodes: Nodes, children: torch.Tensor, step: int) -> None:
        """Brings the present state of patches to the canvas and calls who watches."""
        if self.canvas is None or self.watch is None:
            return
        rows, (h, w) = level.grid[0], level.child_size
        n, device = level.num_children, children.device
        i = torch.arange(n, device=device)
        pitch = (i % rows * h)[:, None] + torch.arange(h, device=device)  # (n, h)
        time = (i // rows * w)[:, None] + torch.arange(w, device=device)  # (n, w)
        pitch = nodes.origin[:, 0, None, None] + pitch  # (M, n, h)
        time = nodes.origin[:, 1, None, None] + time  # (M, n, w)
        self.canvas[nodes.owner[:, None, None, None], pitch[..., None], time[..., None, :]] = children
        self.watch(level.level, step, shown(self.canvas, level.num_codes))


class Film:
    """Keeps the frames of a sampling, as deep as `MAX_FRAMES` of them allow.

    Frames are float rolls `(B, 1, P, T)` on the CPU, kept as codes of one byte until they are asked for.
    """

    def __init__(self, painter: Painter, num_codes: int, callback: Watcher | None = None) -> None:
        frames = [math.prod(painter.steps(level) for level in painter.levels[: n + 1]) for n in
                  range(len(painter.levels))]  # fmt: skip
        self.depth = max([n for n, count in enumerate(frames) if count <= MAX_FRAMES], default=0)
        self.num_codes, self.callback = num_codes, callback
        self.codes: list[torch.Tensor] = []

    def __call__(self, level: int, step: int, roll: torch.Tensor) -> None:
        """Takes one frame."""
        if level <= self.depth:
            codes = ((roll[:, 0] + 1) * ((self.num_codes - 1) / 2)).round()
            self.codes.append(codes.nan_to_num(self.num_codes).to("cpu", torch.uint8))
        if self.callback is not None:
            self.callback(level, step, roll)

    def frames(self) -> list[torch.Tensor]:
        """The frames as float rolls; not-a-number where nothing is decided yet."""
        return [shown(codes, self.num_codes) for codes in self.codes]
