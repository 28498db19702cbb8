"""A baseline of FractalMidi: a plain transformer that writes a roll cell by cell, with a KV cache.

    accelerate launch train fractal_midi --data data/midi --baseline pixel_ar --output_dir RUN --max_minutes 60 ...

Cells follow each other in time, low pitches first. A roll of 128 × 256 cells is too long for attention over all of it
on small machines, so the model sees a window: blocks of half a window are written with the block before in view. The
likelihood and the sampler use the same windows, so the likelihood is exact and the samples follow it.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ..modeling.fractal_cells import codes_to_roll, pick, roll_to_codes
from ..modeling.layers import TransformerLayer, rotary_angles, rotate
from ..processing.errors import InputError

_SEGMENTS_AT_ONCE = 8


@dataclass(frozen=True)
class PixelARConfig:
    """Sizes of the model.

    Attributes:
        size: Pitches and steps of a roll.
        num_codes: Classes of a cell.
        width, layers, heads: Of the transformer.
        window: Cells in view, a multiple of 2 that divides the cells of a roll twice over.
    """

    size: tuple[int, int] = (128, 256)
    num_codes: int = 34
    width: int = 320
    layers: int = 7
    heads: int = 5
    window: int = 1024

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        cells = self.size[0] * self.size[1]
        if self.window % 2 or cells % (self.window // 2) or self.window > cells:
            raise ValueError(f"half a window of {self.window} cells does not divide the {cells} cells of a roll")
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of 2 x {self.heads} heads")

    @classmethod
    def like(cls, parameters: int, **changes: Any) -> PixelARConfig:
        """The width whose number of parameters comes nearest."""
        plain = cls(**changes)
        step = 2 * plain.heads
        widths = range(step, 2048 // step * step, step)
        best = min(widths, key=lambda width: abs(cls(**{**changes, "width": width}).num_parameters - parameters))
        return cls(**{**changes, "width": best})

    @property
    def num_parameters(self) -> int:
        """Numbers that are learnt."""
        inputs = self.width * (self.num_codes + 1 + sum(self.size))
        layer = 12 * self.width**2 + 13 * self.width
        return inputs + self.layers * layer + 2 * self.width + self.num_codes * (self.width + 1)


@dataclass
class PixelAROutput:
    """Loss in nats per step (a column of pitches), as that of FractalMidi."""

    loss: torch.Tensor


class PixelARModel(nn.Module):
    """The transformer; cell `i` is predicted from the cells before it in its window."""

    def __init__(self, config: PixelARConfig) -> None:
        super().__init__()
        self.config = config
        width, (pitches, steps) = config.width, config.size
        self.code = nn.Embedding(config.num_codes + 1, width)  # the last: before the first cell
        self.pitch, self.step = nn.Embedding(pitches, width), nn.Embedding(steps, width)
        self.layers = nn.ModuleList(TransformerLayer(width, config.heads, 4 * width) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.num_codes)
        for table in (self.code, self.pitch, self.step):
            nn.init.normal_(table.weight, std=0.5)
        for layer in self.layers:
            for out in (layer.attention.out, layer.fc2):
                nn.init.normal_(out.weight, std=(2 * config.layers * out.in_features) ** -0.5)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.head.weight.device

    # --- Likelihood ---------------------------------------------------------------------------------------------------

    def sequence(self, roll: torch.Tensor) -> torch.Tensor:
        """`(B, 1, P, T)` float rolls to codes in order, `(B, P · T)`."""
        return roll_to_codes(roll, self.config.num_codes).transpose(1, 2).flatten(1)

    def inputs(self, before: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Codes before `(B, L)` and places `(B or 1, L)` in the roll to `(B, L, D)`."""
        pitches = self.config.size[0]
        return self.code(before) + self.pitch(place % pitches) + self.step(place // pitches)

    def segment_costs(self, codes: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """Nats of each cell of the windows that begin at cells `start` `(B,)` of sequences `(B, L)`; `(B, window)`."""
        window = self.config.window
        place = start[:, None] + torch.arange(window, device=codes.device)  # (B, window)
        target = codes.gather(1, place)
        before = codes.gather(1, (place - 1).clamp(min=0))
        before = torch.cat([torch.full_like(before[:, :1], self.config.num_codes), before[:, 1:]], dim=1)
        angles = rotary_angles(torch.arange(window, device=codes.device), self.config.width // self.config.heads)
        causal = torch.ones(window, window, dtype=torch.bool, device=codes.device).tril()
        x = self.inputs(before, place)
        for layer in self.layers:
            x = layer(x, angles, causal)
        logits = self.head(self.norm(x)).float()
        return F.cross_entropy(logits.transpose(1, 2), target, reduction="none")

    def forward(self, roll: torch.Tensor, **kwargs: Any) -> PixelAROutput:
        """Loss on one window of each roll, drawn from those that the likelihood uses; nothing else is looked at."""
        codes = self.sequence(roll.to(self.device))
        half = self.config.window // 2
        start = torch.randint(0, codes.shape[1] // half - 1, (len(codes),)).to(codes.device) * half
        return PixelAROutput(self.segment_costs(codes, start).mean() * self.config.size[0])

    @torch.no_grad()
    def nats(self, roll: torch.Tensor) -> torch.Tensor:
        """Exact negative log-likelihood of rolls, float64 `(B,)`."""
        codes = self.sequence(roll.to(self.device))
        half = self.config.window // 2
        starts = torch.arange(codes.shape[1] // half - 1, device=codes.device) * half
        total = torch.zeros(len(codes), dtype=torch.float64, device=codes.device)
        for row in range(len(codes)):
            for part in starts.split(_SEGMENTS_AT_ONCE):
                cost = self.segment_costs(codes[row].expand(len(part), -1), part).double()
                total[row] += cost[:, half:].sum() + (cost[0, :half].sum() if part[0] == 0 else 0)
        return total

    # --- Sampling -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self, num_samples: int = 1, generator: torch.Generator | None = None, num_cells: int | None = None
    ) -> torch.Tensor:
        """Rolls `(B, 1, P, T)`, cell by cell; after `num_cells` the rest is silence."""
        (pitches, steps), half = self.config.size, self.config.window // 2
        cells = pitches * steps
        wanted = cells if num_cells is None else num_cells
        codes = torch.zeros(num_samples, cells, dtype=torch.long, device=self.device)
        cache: list[tuple[torch.Tensor, ...]] = []
        first = 0
        for cell in range(wanted):
            if cell == 0 or (cell % half == 0 and cell > half):  # a new window: its first half is read at once
                first = max(0, cell - half)
                cache = self.new_cache(num_samples)
                if cell:
                    self.read(codes, first, cell, cache)
            u = torch.rand(num_samples, generator=generator).to(self.device)
            logits = self.read(codes, cell, cell + 1, cache, first)[:, -1]
            codes[:, cell] = pick(torch.softmax(logits, dim=-1), u)
        return codes_to_roll(codes.view(num_samples, steps, pitches).transpose(1, 2), self.config.num_codes)

    def new_cache(self, count: int) -> list[tuple[torch.Tensor, ...]]:
        """Room for keys and values of a window, per layer."""
        heads = self.config.heads
        shape = (2, count, heads, self.config.window, self.config.width // heads)
        return [self.head.weight.new_zeros(shape).unbind(0) for _ in self.layers]

    def read(self, codes: torch.Tensor, start: int, stop: int, cache: Any, first: int | None = None) -> torch.Tensor:
        """Logits of cells `start` to `stop` of a window that begins at `first`; their keys go to the cache."""
        first = start if first is None else first
        place = torch.arange(start, stop, device=codes.device)
        before = codes[:, (place - 1).clamp(min=0)]
        if start == first:  # what lies before a window is not seen
            before = torch.cat([torch.full_like(before[:, :1], self.config.num_codes), before[:, 1:]], dim=1)
        x = self.inputs(before, place[None])
        inside = place - first
        angles = rotary_angles(inside, self.config.width // self.config.heads)
        end = stop - first
        mask = torch.arange(end, device=codes.device) <= inside[:, None]  # (L, end)
        for layer, (keys, values) in zip(self.layers, cache, strict=True):
            attention = layer.attention
            qkv = attention.qkv(layer.norm1(x)).unflatten(-1, (3, attention.num_heads, -1))  # (B, L, 3, heads, d)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            keys[:, :, start - first : end], values[:, :, start - first : end] = rotate(k, *angles), v
            seen = F.scaled_dot_product_attention(
                rotate(q, *angles), keys[:, :, :end], values[:, :, :end], attn_mask=None if len(place) == 1 else mask
            )
            x = x + attention.out(seen.transpose(1, 2).flatten(2))
            x = x + layer.fc2(F.gelu(layer.fc1(layer.norm2(x))))
        return self.head(self.norm(x)).float()

    # --- Files --------------------------------------------------------------------------------------------------------

    def save_pretrained(self, directory: str | Path, **kwargs: Any) -> None:
        """Writes weights and sizes."""
        from safetensors.torch import save_model

        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"model_type": "pixel_ar", **asdict(self.config)}, indent=1))
        save_model(self, str(folder / "model.safetensors"))

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> PixelARModel:
        """Reads what `save_pretrained` wrote.

        Raises:
            InputError: It is not there, or another model's.
        """
        from safetensors.torch import load_model

        try:
            told = json.loads((Path(directory) / "config.json").read_text(encoding="utf-8"))
            if told.pop("model_type", "") != "pixel_ar":
                raise ValueError("another kind of model")
            model = cls(PixelARConfig(**told))
            load_model(model, str(Path(directory) / "model.safetensors"))
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise InputError(directory, f"holds no pixel-AR baseline ({str(error).splitlines()[0][:150]})") from error
        return model.eval()


def seconds_per_roll(model: PixelARModel, batch_size: int = 1) -> float:
    """Seconds that one roll takes: one block is written and timed, and a roll has so many of them."""
    half = model.config.window // 2
    codes = torch.zeros(batch_size, model.config.size[0] * model.config.size[1], dtype=torch.long, device=model.device)
    with torch.no_grad():
        cache = model.new_cache(batch_size)
        model.read(codes, 0, half, cache)  # once, not timed
        started = time.perf_counter()
        cache = model.new_cache(batch_size)
        model.read(codes, 0, half, cache)
        for cell in range(half, 2 * half):
            probabilities = torch.softmax(model.read(codes, cell, cell + 1, cache, 0)[:, -1], dim=-1)
            codes[:, cell] = pick(probabilities, torch.full((batch_size,), 0.5, device=model.device))
    return (time.perf_counter() - started) * (codes.shape[1] / half) / batch_size


@torch.no_grad()
def evaluate_pixel_ar(model: PixelARModel, rolls: Any, collate: Any, count: int = 8) -> dict[str, float]:
    """Bits that the first `count` held-out rolls cost, as `fractal_midi_evaluation.evaluate_rolls` tells them."""
    count = min(count, len(rolls))
    roll = collate([rolls[index] for index in range(count)])["roll"]
    nats = float(model.nats(roll).sum())
    sounding = float((roll > -1).sum())
    return {
        "loss": nats / count / rolls.size[1],
        "bits_per_cell": nats / math.log(2) / roll.numel(),
        "bits_per_sounding_cell": nats / math.log(2) / max(sounding, 1),
    }
