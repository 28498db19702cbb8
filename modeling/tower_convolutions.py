"""The convolutions of the dense score tower, for the tower itself and for what borrows them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .layers import ConvBlock, ResidualBlock, convolve_and_normalise


class FinePath(nn.Module):
    """From the picture to the size of the second stage in small steps.

    The stem looks at 9×8 px at once and steps 5 px down: a staccato dot or a digit of a grace note is lost between its
    few filters. Here the first steps are 2 px.
    """

    def __init__(self, channels: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        first, second = channels
        self.conv1 = nn.Conv2d(1, first, 5, stride=2, padding=2, bias=False)
        self.norm1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, second, 3, stride=(1, 2), padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(second)
        self.conv3 = nn.Conv2d(second, outputs, (5, 3), stride=(5, 1), padding=(0, 1), bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(B, 1, H, W)` to `(B, outputs, H / 10, W / 4)`."""
        x = F.relu(convolve_and_normalise(self.conv1, self.norm1, x))  # (B, first, H/2, W/2)
        x = F.relu(convolve_and_normalise(self.conv2, self.norm2, x))  # (B, second, H/2, W/4)
        return convolve_and_normalise(self.conv3, self.norm3, x)


def add_convolutions(module: Any, config: Any) -> None:
    """Gives a module the tower's stem, stages and fine path.

    Args:
        module: `nn.Module`.
        config: `ScoreTowerConfig`, or anything with its sizes of convolutions.
    """
    one, two, three = config.stage_channels
    module.stem = nn.Conv2d(1, config.stem_channels, (9, 8), stride=(5, 4), padding=(2, 2), bias=False)
    module.stem_norm = nn.BatchNorm2d(config.stem_channels)
    depths = config.stage_depths
    module.stages = nn.Sequential(
        ConvBlock(config.stem_channels, one),
        *[ResidualBlock(one) for _ in range(depths[0])],
        ConvBlock(one, two, stride=(2, 1)),
        *[ResidualBlock(two) for _ in range(depths[1])],
        ConvBlock(two, three, stride=(1, 2)),
        *[ResidualBlock(three) for _ in range(depths[2])],
    )
    module.fine = FinePath(tuple(config.fine_channels), two) if config.fine_channels else None
    module.fine_joins = 1 + depths[0]  # behind the first block of the second stage


def convolve(module: Any, pixel_values: torch.Tensor) -> torch.Tensor:
    """`(B, 1, H, W)` with tab lines 10 px apart to `(B, C, H / 10, W / 8)`: one row for each string."""
    x = F.relu(convolve_and_normalise(module.stem, module.stem_norm, pixel_values))  # (B, C, H/5, W/4)
    for place, stage in enumerate(module.stages):
        x = stage(x)
        if module.fine is not None and place == module.fine_joins:
            x = x + module.fine(pixel_values)  # (B, C, H/10, W/4)
    return x


__all__ = ["FinePath", "add_convolutions", "convolve"]
