"""Losses of the picture tokenizer: what matters in engraved music are thin strokes and small digits."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

LINE_RUN_PX = 25  # level runs of ink of at least this length are staff lines (or beams and brackets)


def staff_lines(ink: torch.Tensor, run_px: int = LINE_RUN_PX) -> torch.Tensor:
    """Ink that is part of a long level run: a morphological opening with a level bar.

    Args:
        ink: `(B, 1, H, W)` in [0, 1], 1 = ink.
        run_px: Length of the bar, odd.

    Returns:
        The same shape.
    """
    around = run_px // 2
    eroded = -F.max_pool2d(-ink, (1, run_px), stride=1, padding=(0, around))
    return F.max_pool2d(eroded, (1, run_px), stride=1, padding=(0, around))


def edges(ink: torch.Tensor) -> torch.Tensor:
    """Differences to the right and the lower neighbour, `(B, 2, H, W)`; 0 at the last ones."""
    right = F.pad(ink[..., :, 1:] - ink[..., :, :-1], (0, 1))
    down = F.pad(ink[..., 1:, :] - ink[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([right, down], dim=1)


def pixel_weights(ink: torch.Tensor, stroke_weight: float, edge_weight: float) -> torch.Tensor:
    """How much each pixel counts, `(B, 1, H, W)`, 1 or more: strokes with a rim of one pixel, and edges, count more."""
    strokes = F.max_pool2d((ink - staff_lines(ink)).clamp(min=0), 3, stride=1, padding=1)
    change = edges(ink).abs().amax(1, keepdim=True)
    return 1 + stroke_weight * strokes + edge_weight * change


def width_mask(widths: torch.Tensor | None, ink: torch.Tensor) -> torch.Tensor:
    """1 where a batch holds picture and not padding, `(B, 1, 1, W)`."""
    columns = torch.arange(ink.shape[-1], device=ink.device)
    if widths is None:
        return torch.ones_like(columns, dtype=ink.dtype).expand(len(ink), 1, 1, -1)
    return (columns < widths[:, None]).to(ink.dtype)[:, None, None]


def reconstruction_losses(
    logits: torch.Tensor,
    ink: torch.Tensor,
    mask: torch.Tensor,
    stroke_weight: float,
    edge_weight: float,
    more: torch.Tensor | float = 0.0,
) -> dict[str, torch.Tensor]:
    """`pixel`: weighted cross entropy of grey values, above what the picture itself has; `edge`: of the edges.

    Args:
        logits, ink: `(B, 1, H, W)`.
        mask: `(B, 1, 1, W)`.
        more: `(B, 1, H, W)`, what pixels count beyond that.
    """
    logits, ink = logits.float(), ink.float()
    weights = (pixel_weights(ink, stroke_weight, edge_weight) + more) * mask
    error = F.binary_cross_entropy_with_logits(logits, ink, reduction="none")
    # Grey pixels have an entropy that no picture gets below; without it a perfect picture costs nothing.
    error = error + torch.special.xlogy(ink, ink) + torch.special.xlogy(1 - ink, 1 - ink)
    total = (mask.sum() * ink.shape[-2]).clamp(min=1)
    edge = (edges(logits.sigmoid()) - edges(ink)).abs() * mask
    return {"pixel": (weights * error).sum() / total, "edge": edge.sum() / total}


class _Reversed(torch.autograd.Function):
    """The same forwards, minus the gradient times a factor backwards (arXiv 1409.7495, section 3.1)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.factor * gradient, None


class PatchDiscriminator(nn.Module):
    """Tells places of engraved pictures from places of decoded ones (PatchGAN, arXiv 1611.07004, section 3.2.2).

    Both sides learn from one loss in one step: the gradient is turned round between discriminator and decoder. That is
    the saturating form of the game, weaker than alternating steps, but it needs no second optimiser.
    """

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        sizes = (1, channels, 2 * channels, 2 * channels)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in itertools.pairwise(sizes))
        self.head = nn.Conv2d(sizes[-1], 1, 3, padding=1)

    def judge(self, ink: torch.Tensor) -> torch.Tensor:
        """Above 0 for what looks engraved, `(B, 1, H / 8, W / 8)`."""
        for conv in self.convs:
            ink = F.leaky_relu(conv(ink), 0.2)
        return self.head(ink)

    def forward(self, real: torch.Tensor, drawn: torch.Tensor, weight: float) -> torch.Tensor:
        """Hinge loss; the drawn pictures' gradient is turned round and multiplied with `weight`."""
        fooled = self.judge(_Reversed.apply(drawn, weight))
        return F.relu(1 - self.judge(real)).mean() + F.relu(1 + fooled).mean()


__all__ = ["PatchDiscriminator", "pixel_weights", "reconstruction_losses", "staff_lines", "width_mask"]
