"""A deeper score tower out of a trained one, which reads just as the trained one does before it learns on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..configuration.configuration_score_tower import ScoreTowerConfig
from .layers import ResidualBlock
from .modeling_score_tower import ScoreTowerModel


@torch.no_grad()
def deepened(tower: ScoreTowerModel, stage_depths: Sequence[int], layers: int) -> ScoreTowerModel:
    """The tower with more residual blocks and transformer layers; new ones add nothing at first.

    A residual block whose last norm has weight 0 passes on what comes in, and so does a transformer layer whose two
    output projections are 0 (Net2Net, arXiv 1511.05641, section 2.4; zero init: arXiv 1706.02677, section 5.1).

    Args:
        tower: Trained; it stays as it is.
        stage_depths: Residual blocks of each of the three stages.
        layers: Transformer layers.

    Returns:
        A new tower in evaluation mode, its logits those of `tower`.

    Raises:
        ValueError: Fewer blocks or layers than the tower has.
    """
    old = tower.config
    depths = list(stage_depths)
    if len(depths) != len(old.stage_depths) or any(a < b for a, b in zip(depths, old.stage_depths, strict=True)):
        raise ValueError(f"{list(old.stage_depths)} residual blocks a stage can not become {depths}")
    if layers < old.num_hidden_layers:
        raise ValueError(f"{old.num_hidden_layers} transformer layers can not become {layers}")
    settings = old.to_dict() | {"stage_depths": depths, "num_hidden_layers": layers}
    grown = ScoreTowerModel(ScoreTowerConfig.from_dict(settings)).to(tower.dtype).eval()
    place_of: dict[str, str] = {}  # stages of the old tower -> of the new one
    place = before = 0
    new_blocks: list[nn.Module] = []
    for had, has in zip(old.stage_depths, depths, strict=True):
        place_of |= {str(before + k): str(place + k) for k in range(1 + had)}
        new_blocks += [grown.stages[place + k] for k in range(1 + had, 1 + has)]
        place, before = place + 1 + has, before + 1 + had
    weights = grown.state_dict()
    for name, value in tower.state_dict().items():
        parts = name.split(".")
        if parts[0] == "stages":
            parts[1] = place_of[parts[1]]
        weights[".".join(parts)] = value.clone()
    grown.load_state_dict(weights)
    for block in new_blocks:
        assert isinstance(block, ResidualBlock)
        block.conv2.norm.weight.zero_()
    for layer in list(grown.layers)[old.num_hidden_layers :]:
        for linear in (layer.attention.out, layer.fc2):  # type: ignore[union-attr]
            linear.weight.zero_()  # type: ignore[operator, union-attr]
            linear.bias.zero_()  # type: ignore[operator, union-attr]
    return grown


__all__ = ["deepened"]
