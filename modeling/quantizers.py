"""Codebooks: continuous features to whole numbers and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ..processing.errors import InputError


class Quantized(NamedTuple):
    """What a codebook makes of features.

    Attributes:
        values: Shape of the features; gradients pass straight through to them.
        codes: int64, that shape without the last axis.
        loss: How far the features are from their codes, a scalar.
    """

    values: torch.Tensor
    codes: torch.Tensor
    loss: torch.Tensor


def check_codes(codes: torch.Tensor, size: int) -> None:
    """Raises an `InputError` for a code that is not in the codebook."""
    if codes.numel() and (int(codes.min()) < 0 or int(codes.max()) >= size):
        wrong = int(codes.min()) if int(codes.min()) < 0 else int(codes.max())
        raise InputError(None, f"code {wrong} lies outside the codebook of {size}")


def _sum_over_processes(*tensors: torch.Tensor) -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for tensor in tensors:
            torch.distributed.all_reduce(tensor)


class VectorQuantizer(nn.Module):
    """Nearest of learnt vectors of length one; they are averages of what chose them (arXiv 1711.00937, appendix A).

    Vectors that nobody chooses any more start anew at a feature of the present batch, all of them in the first step.
    For the first steps of a training the features pass as they are, and only the vectors learn: pictures are mostly
    white, and a decoder that begins with codes settles for white and asks for no others.

    Args:
        size, dim: Number and size of the vectors.
        decay: How slowly they follow.
        revive_below: Average choices in a batch under which a vector starts anew.
        warmup: Training steps in which features pass as they are.
    """

    def __init__(self, size: int, dim: int, decay: float = 0.99, revive_below: float = 0.02, warmup: int = 0) -> None:
        super().__init__()
        self.size, self.dim, self.decay, self.revive_below, self.warmup = size, dim, decay, revive_below, warmup
        self.register_buffer("codebook", F.normalize(torch.randn(size, dim), dim=-1))
        self.register_buffer("counts", torch.zeros(size))
        self.register_buffer("sums", torch.zeros(size, dim))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.steps: torch.Tensor
        self.codebook: torch.Tensor
        self.counts: torch.Tensor
        self.sums: torch.Tensor

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors `(..., dim)` of codes `(...)`."""
        check_codes(codes, self.size)
        return self.codebook[codes]

    def forward(self, features: torch.Tensor) -> Quantized:
        """`(..., dim)`; in training the vectors move."""
        directions = F.normalize(features.float(), dim=-1)
        flat = directions.detach().reshape(-1, self.dim)  # (N, dim)
        if self.training and torch.is_grad_enabled():
            self._revive(flat)
        with torch.autocast(flat.device.type, enabled=False):  # neighbours differ by less than bfloat16 can tell
            codes = (flat @ self.codebook.float().t()).argmax(-1)  # (N,)
        chosen = self.codebook.float()[codes].reshape(directions.shape)
        if self.training and torch.is_grad_enabled():
            self._move(flat, codes)
        loss = (directions - chosen.detach()).square().sum(-1).mean()
        if self.training and int(self.steps) <= self.warmup and self.warmup:
            return Quantized(directions.to(features.dtype), codes.reshape(features.shape[:-1]), 0.0 * loss)
        values = directions + (chosen - directions).detach()
        return Quantized(values.to(features.dtype), codes.reshape(features.shape[:-1]), loss)

    @torch.no_grad()
    def _revive(self, flat: torch.Tensor) -> None:
        dead = (self.counts < self.revive_below).nonzero()[:, 0]
        if dead.numel():
            drawn = flat[torch.randint(len(flat), (len(dead),), device=flat.device)].to(self.codebook.dtype)
            self.codebook[dead], self.sums[dead], self.counts[dead] = drawn, drawn, 1.0

    @torch.no_grad()
    def _move(self, flat: torch.Tensor, codes: torch.Tensor) -> None:
        self.steps += 1
        counts = torch.bincount(codes, minlength=self.size).to(self.counts.dtype)
        sums = torch.zeros_like(self.sums).index_add_(0, codes, flat.to(self.sums.dtype))
        _sum_over_processes(counts, sums)
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        self.codebook.copy_(F.normalize(self.sums, dim=-1))


class FiniteScalarQuantizer(nn.Module):
    """Each number rounded to one of a few levels (arXiv 2309.15505).

    The paper bounds with a shifted tanh so that even counts of levels fit; here a sigmoid times the number of steps
    does the same for all counts.

    Args:
        levels: Of each number.
        dither: Part of the numbers that training moves by noise as wide as a level, in place of rounding them: what
            has to be told apart then moves apart, where rounding gives no gradient that says so.
    """

    def __init__(self, levels: Sequence[int], dither: float = 0.0) -> None:
        super().__init__()
        self.levels, self.size, self.dim, self.dither = tuple(levels), math.prod(levels), len(levels), dither

    def _steps(self, like: torch.Tensor) -> torch.Tensor:
        return torch.tensor([n - 1 for n in self.levels], device=like.device, dtype=torch.float32)

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Vectors `(..., dim)` in [−1, 1] of codes `(...)`."""
        check_codes(codes, self.size)
        places = []
        for count in self.levels:
            places.append(codes % count)
            codes = codes // count
        return torch.stack(places, dim=-1).float() * 2 / self._steps(codes) - 1

    def forward(self, features: torch.Tensor) -> Quantized:
        """`(..., dim)`; there is nothing to learn, and the loss is 0."""
        steps = self._steps(features)
        bounded = torch.sigmoid(features.float()) * steps
        rounded = bounded.detach().round()
        moved = rounded - bounded.detach()
        if self.training and self.dither:
            noisy = torch.rand_like(bounded) < self.dither
            moved = torch.where(noisy, torch.rand_like(bounded) - 0.5, moved)
        values = (bounded + moved) * 2 / steps - 1
        codes = torch.zeros(features.shape[:-1], dtype=torch.long, device=features.device)
        for place in reversed(range(self.dim)):
            codes = codes * self.levels[place] + rounded[..., place].long()
        return Quantized(values.to(features.dtype), codes, features.new_zeros(()))


class PatchQuantizer(nn.Module):
    """Nearest of learnt small pictures: codes are what stands there, pixel by pixel.

    Engraved music has few signs in few places, so that a patch is nearly one of some thousands. `fit` finds them by
    k-means; nothing here moves while a network trains.

    Args:
        size, dim: Number of pictures, and their pixels.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.size, self.dim = size, dim
        self.register_buffer("codebook", torch.rand(size, dim))
        self.codebook: torch.Tensor

    def lookup(self, codes: torch.Tensor) -> torch.Tensor:
        """Pixels `(..., dim)` of codes `(...)`."""
        check_codes(codes, self.size)
        return self.codebook[codes]

    def nearest(self, patches: torch.Tensor, rows: int = 8192) -> torch.Tensor:
        """Codes `(N,)` of patches `(N, dim)`, some `rows` of them at a time.

        Most patches of a page are white or a piece of a line, and equal to others: each is looked up once.
        """
        if not len(patches):
            return torch.zeros(0, dtype=torch.long, device=patches.device)
        book = self.codebook.float()
        half = book.square().sum(-1) / 2
        # Equal sums mean equal patches: by chance alone no two grey values make up for each other under such weights.
        mark = torch.rand(self.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        marks, places = torch.unique((patches.double() * mark.to(patches.device)).sum(-1), return_inverse=True)
        first = torch.zeros(len(marks), dtype=torch.long, device=patches.device)
        first[places] = torch.arange(len(patches), device=patches.device)  # one of those that are equal
        with torch.autocast(patches.device.type, enabled=False):
            found = [(part.float() @ book.t() - half).argmax(-1) for part in patches[first].split(rows)]
        return torch.cat(found)[places]

    def forward(self, features: torch.Tensor) -> Quantized:
        """`(..., dim)`; there is no gradient, and the loss is 0."""
        codes = self.nearest(features.detach().reshape(-1, self.dim)).reshape(features.shape[:-1])
        return Quantized(self.codebook[codes].to(features.dtype), codes, features.new_zeros(()))

    @torch.no_grad()
    def fit(
        self, patches: torch.Tensor, weights: torch.Tensor, iterations: int, generator: torch.Generator,
        on_step: Callable[[float], None] | None = None,
    ) -> None:  # fmt: skip
        """K-means (Lloyd): begins at drawn patches, and a picture that nobody chooses begins anew at the worst patch.

        Args:
            patches: `(N, dim)` float, all different, at least as many as codes.
            weights: `(N,)` how much each counts.
            iterations: Rounds.
            generator: Draws the first ones.
            on_step: Sees the mean squared error of a patch after each round.

        Raises:
            InputError: Fewer patches than codes.
        """
        if len(patches) < self.size:
            raise InputError(None, f"{len(patches)} different patches are too few for {self.size} codes")
        drawn = torch.multinomial(weights.sqrt()[: 1 << 24], self.size, replacement=False, generator=generator)
        self.codebook.copy_(patches[drawn])
        for _ in range(iterations):
            codes = self.nearest(patches)
            error = (patches - self.codebook[codes]).square().sum(-1) * weights
            total = torch.zeros(self.size).index_add_(0, codes, weights)
            sums = torch.zeros(self.size, self.dim).index_add_(0, codes, patches * weights[:, None])
            moved = total > 0
            self.codebook[moved] = sums[moved] / total[moved, None]
            lost = (~moved).nonzero()[:, 0]
            self.codebook[lost] = patches[error.topk(len(lost)).indices]
            if on_step is not None:
                on_step(float(error.sum() / weights.sum()))


__all__ = ["FiniteScalarQuantizer", "PatchQuantizer", "Quantized", "VectorQuantizer", "check_codes"]
