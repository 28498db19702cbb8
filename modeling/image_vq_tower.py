"""An encoder of pictures of music that borrows the eyes of the dense tower, which can read digits already."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .layers import ConvBlock, ResidualBlock
from .tower_convolutions import add_convolutions, convolve

#: What of a `ScoreTowerConfig` says the sizes of its convolutions.
SIZES = ("stem_channels", "stage_channels", "stage_depths", "fine_channels")
ROW_PX, COLUMN_PX, UP = 10, 8, 1.25  # of the tower; its tab lines are 10 px apart, those of grid pictures 8
HALF_ROW_PX = 5  # the tower's rows begin at a line, patches half a row above it


def tower_sizes(config: Any) -> dict[str, Any]:
    """Sizes of a tower's convolutions, for `ImageVQConfig(tower=...)`."""
    found = {name: getattr(config, name) for name in SIZES}
    return {name: list(value) if isinstance(value, (tuple, list)) else value for name, value in found.items()}


def at_tower_size(ink: torch.Tensor) -> torch.Tensor:
    """Grid pictures as a tower takes them: tab lines 10 px apart, and each row of its features beginning at a line.

    Args:
        ink: `(B, 1, H, W)` in [0, 1], 1 = ink, the upper edge half a row above a line; gradients pass.

    Returns:
        `(B, 1, 1.25 H + 10, W')`, rounded up to what the tower's steps divide.
    """
    large = F.interpolate(ink, scale_factor=UP, mode="bilinear", align_corners=False)
    height, width = large.shape[-2:]
    return F.pad(large, (0, -width % 16, HALF_ROW_PX, HALF_ROW_PX + -height % ROW_PX))


class TowerEncoder(nn.Module):
    """Frozen convolutions of a tower, and a few of its own down to a code's value.

    ```
    ink (B, 1, 8 h, 16 w) ─×1.25─▶ tower (B, C, h, 2.5 w) ─resampled─▶ (B, 2 C, h, w) ─convolutions─▶ (B, outputs, h, w)
    ```
    """

    def __init__(self, config: Any, outputs: int) -> None:
        super().__init__()
        self.eyes = nn.Module()
        add_convolutions(self.eyes, SimpleNamespace(**config.tower))
        width, inputs = config.channels[-1], config.tower["stage_channels"][-1]
        self.halves = config.patch_width // 8
        blocks: list[nn.Module] = [ConvBlock(self.halves * inputs, width)]
        blocks += [ResidualBlock(width) for _ in range(config.code_depth)]
        self.blocks = nn.Sequential(*blocks)
        self.out = nn.Conv2d(width, outputs, 1)
        self.eyes.requires_grad_(False)

    def train(self, mode: bool = True) -> TowerEncoder:
        """As ever; the eyes keep their norms."""
        super().train(mode)
        self.eyes.eval()
        return self

    def look(self, ink: torch.Tensor) -> torch.Tensor:
        """What the tower sees in each patch, `(B, halves · C, h, w)`; no gradient passes."""
        rows, columns = ink.shape[-2] // 8, ink.shape[-1] // 8  # halves of patches, 10 px of the tower
        with torch.no_grad():
            seen = convolve(self.eyes, at_tower_size(ink))[:, :, 1 : 1 + rows]  # (B, C, h, T)
            centre = (torch.arange(columns, device=ink.device) + 0.5) * ROW_PX / COLUMN_PX - 0.5
            centre = centre.clamp(0, seen.shape[-1] - 1)
            left = centre.floor().long()
            right = (left + 1).clamp(max=seen.shape[-1] - 1)
            part = (centre - left).to(seen.dtype)
            seen = seen[..., left] * (1 - part) + seen[..., right] * part  # (B, C, h, 2 w)
            seen = seen.unflatten(-1, (-1, self.halves))
            return seen.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def forward(self, ink: torch.Tensor) -> torch.Tensor:
        """`(B, 1, H, W)` to `(B, outputs, h, w)`."""
        return self.out(self.blocks(self.look(ink)))


def copy_eyes(module: Any, tower: Any) -> None:
    """Puts a trained tower's convolutions into what has eyes.

    Args:
        module: `TowerEncoder` or `CodeChooser` of an `ImageVQModel`.
        tower: `ScoreTowerModel` of the same sizes.
    """
    wanted = module.eyes.state_dict()
    source = tower.state_dict()
    module.eyes.load_state_dict({name: source[name] for name in wanted})


__all__ = ["TowerEncoder", "at_tower_size", "copy_eyes", "tower_sizes"]
