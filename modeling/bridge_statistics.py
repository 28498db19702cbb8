"""What SummaryBridge knows of its data before it learns: means, whitening, and a line from texts to summaries.

All of it is worked out in closed form from one table of moments, and kept with the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

NUM_PLACES = 8  # numbers that say where a bar is in its piece
#: Directions in which summaries hardly differ are not blown up to 1: this part of the mean variance is added.
WHITENING_FLOOR = 0.02
RIDGE = 0.01


def bar_places(bar_mask: torch.Tensor) -> torch.Tensor:
    """Where bars are in their pieces.

    Args:
        bar_mask: `(B, N)`, 1 for bars that exist, from the left.

    Returns:
        `(B, N, NUM_PLACES)` float32: waves over the piece, distance from both ends, length.
    """
    counts = bar_mask.sum(1, keepdim=True).clamp(min=1).float()  # (B, 1)
    index = torch.arange(bar_mask.shape[1], device=bar_mask.device, dtype=torch.float32)[None]
    part = (index + 0.5) / counts  # (B, N), 0 … 1
    waves = [torch.cos(torch.pi * k * part) for k in (1, 2, 3, 4)]
    near = [torch.exp(-index / 2), torch.exp(-(counts - 1 - index).clamp(min=0) / 2)]
    length = (counts.log2() - 4).expand_as(part) / 2
    odd = 1 - 2 * (index % 2).expand_as(part)
    return torch.stack([*waves, *(x.expand_as(part) for x in near), length, odd], dim=-1)


class BridgeStatistics(nn.Module):
    """Means, whitening and the line from texts to summaries, as persistent buffers.

    A new one changes nothing: means 0, whitening 1, and every text lies at 0.

    Attributes:
        summary_mean, whitening, unwhitening: `(Z,)`, `(Z, Z)`, `(Z, Z)`; whitened summaries have about unit covariance.
        pooled_mean, pooled_scale: `(T,)` of the pooled embedding.
        embed_mean, embed_scale: `(T,)` of the sequence embedding, over the places in use.
        line: `(T + NUM_PLACES + 1, Z)`: from the pooled embedding, the bar's place and 1 to a whitened summary.
    """

    def __init__(self, summary_size: int, text_size: int) -> None:
        super().__init__()
        self.summary_size, self.text_size = summary_size, text_size
        for name, value in self.defaults().items():
            self.register_buffer(name, value)

    def defaults(self) -> dict[str, torch.Tensor]:
        """Buffers as they are before anything is known."""
        z, t = self.summary_size, self.text_size
        return {
            "summary_mean": torch.zeros(z), "whitening": torch.eye(z), "unwhitening": torch.eye(z),
            "pooled_mean": torch.zeros(t), "pooled_scale": torch.ones(t),
            "embed_mean": torch.zeros(t), "embed_scale": torch.ones(t),
            "line": torch.zeros(t + NUM_PLACES + 1, z),
        }  # fmt: skip

    def whiten(self, summaries: torch.Tensor) -> torch.Tensor:
        """Summaries `(…, Z)` to whitened ones, float32."""
        return (summaries.float() - self.summary_mean.float()) @ self.whitening.float()

    def unwhiten(self, values: torch.Tensor) -> torch.Tensor:
        """The inverse of `whiten`."""
        return values.float() @ self.unwhitening.float() + self.summary_mean.float()

    def pooled(self, pooled: torch.Tensor) -> torch.Tensor:
        """Pooled embeddings `(B, T)` around 0, float32."""
        return (pooled.float() - self.pooled_mean.float()) * self.pooled_scale.float()

    def embed(self, embed: torch.Tensor) -> torch.Tensor:
        """Sequence embeddings `(B, L, T)` around 0, float32."""
        return (embed.float() - self.embed_mean.float()) * self.embed_scale.float()

    def source(self, pooled: torch.Tensor, bar_mask: torch.Tensor) -> torch.Tensor:
        """Where texts lie among the whitened summaries: `(B, T)` and `(B, N)` to `(B, N, Z)`, float32."""
        text, place, one = self.line.float().split([self.text_size, NUM_PLACES, 1])
        return (self.pooled(pooled) @ text + one)[:, None] + bar_places(bar_mask) @ place

    @torch.no_grad()
    def fit(self, batches: Iterable[Mapping[str, Any]]) -> int:
        """Works out all of it from data.

        Args:
            batches: With `summary_tokens` `(B, N, Z)`, `text_embed` `(B, L, T)`, `text_pooled` `(B, T)`, `text_mask`
                `(B, L)` and, where bars are padded, `bar_mask` `(B, N)`.

        Returns:
            How many bars were seen.

        Raises:
            ValueError: No bars, or values that are no finite numbers.
        """
        size = self.text_size + NUM_PLACES + 1 + self.summary_size
        moments = torch.zeros(size, size, dtype=torch.float64)
        words = torch.zeros(3, self.text_size, dtype=torch.float64)  # count, sum, sum of squares
        for batch in batches:
            summaries, pooled = batch["summary_tokens"].double().cpu(), batch["text_pooled"].double().cpu()
            mask = batch.get("bar_mask")
            mask = torch.ones(summaries.shape[:2], dtype=torch.bool) if mask is None else mask.bool().cpu()
            rows = torch.cat(
                [
                    pooled[:, None].expand(-1, mask.shape[1], -1), bar_places(mask).double(),
                    torch.ones(*mask.shape, 1, dtype=torch.float64), summaries,
                ],
                dim=-1,
            )[mask]  # (M, size)  # fmt: skip
            moments += rows.T @ rows
            used = batch["text_embed"].double().cpu()[batch["text_mask"].bool().cpu()]
            words += torch.stack([torch.full((self.text_size,), float(len(used))), used.sum(0), (used**2).sum(0)])
        count = int(moments[-self.summary_size - 1, -self.summary_size - 1])
        if not count or not bool(moments.isfinite().all()) or not bool(words.isfinite().all()):
            raise ValueError(f"statistics need finite summaries and texts; saw {count} bars")
        self._take(moments / count, words)
        return count

    def _take(self, moments: torch.Tensor, words: torch.Tensor) -> None:
        """Fills the buffers from mean products of (pooled, place, 1, summary)."""
        t, z = self.text_size, self.summary_size
        one = t + NUM_PLACES
        mean = moments[one]
        covariance = moments - torch.outer(mean, mean)
        values, vectors = torch.linalg.eigh(covariance[-z:, -z:])
        values = values.clamp(min=0)
        values = values + WHITENING_FLOOR * values.mean().clamp(min=1e-12)
        whitening = vectors @ torch.diag(values.rsqrt()) @ vectors.T
        scale = _scale(covariance.diagonal()[:t])
        # The line is fitted on scaled texts, so that the ridge weighs all alike; it never shrinks the constant.
        inside = covariance[:one, :one].clone()
        inside[:t] *= scale[:, None]
        inside[:, :t] *= scale
        across = covariance[:one, -z:].clone()
        across[:t] *= scale[:, None]
        line = torch.linalg.solve(inside + RIDGE * torch.eye(one, dtype=torch.float64), across @ whitening)
        constant = -(mean[t:one] @ line[t:])
        count = words[0].clamp(min=1)
        word_mean = words[1] / count
        found = {
            "summary_mean": mean[-z:], "whitening": whitening,
            "unwhitening": vectors @ torch.diag(values.sqrt()) @ vectors.T,
            "pooled_mean": mean[:t], "pooled_scale": scale,
            "embed_mean": word_mean, "embed_scale": _scale(words[2] / count - word_mean**2),
            "line": torch.cat([line, constant[None]]),
        }  # fmt: skip
        for name, value in found.items():
            buffer = getattr(self, name)
            buffer.copy_(value.to(buffer))


def _scale(variance: torch.Tensor) -> torch.Tensor:
    """One over the spread; numbers that hardly change are not blown up."""
    return (variance.clamp(min=0) + 1e-3 * variance.mean().clamp(min=1e-12)).rsqrt()


__all__ = ["NUM_PLACES", "BridgeStatistics", "bar_places"]
