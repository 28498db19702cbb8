"""What a vision tower of any make gives: width, patches, feature maps of a layer, and what of it is never read."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_AFTER_THE_LAYERS = ("pooler", "head", "post_layernorm", "layernorm", "norm", "fc_norm", "norm_pre", "conv_head", "bn2")


def _timm_model(tower: nn.Module) -> Any:
    return getattr(tower, "timm_model", None)


def feature_width(tower: nn.Module, layer: int = -1) -> int:
    """Channels of the features that a tower gives; timm's wrapper keeps them out of its configuration.

    Args:
        tower: Any tower.
        layer: Which layer's, counted from the end.
    """
    wrapped = _timm_model(tower)
    if wrapped is None:
        return tower.config.hidden_size  # type: ignore[union-attr] # a transformers model
    return wrapped.num_features if layer == -1 else wrapped.feature_info[layer]["num_chs"]


def patch_size(tower: nn.Module) -> tuple[int, int]:
    """Height and width in pixels of a transformer tower's patches.

    Raises:
        ValueError: The tower does not say.
    """
    wrapped = _timm_model(tower)
    size = getattr(tower.config if wrapped is None else getattr(wrapped, "patch_embed", None), "patch_size", None)
    if size is None:
        raise ValueError(f"a {tower.config.model_type} tower gives a sequence of patches, but no patch_size")
    return (size, size) if isinstance(size, int) else tuple(size)


def as_map(hidden: torch.Tensor, tower: nn.Module, pixel_values: torch.Tensor) -> torch.Tensor:
    """A feature map `(N, D, h, w)` of what a tower gives for pictures `(N, C, H, W)`."""
    if hidden.ndim == 3:  # (N, prefix + h * w, D): a transformer's patches, after its class token
        high, wide = patch_size(tower)
        grid = pixel_values.shape[-2] // high, pixel_values.shape[-1] // wide
        return hidden[:, -grid[0] * grid[1] :].transpose(1, 2).unflatten(2, grid)
    if hidden.shape[1] != feature_width(tower):
        return hidden.permute(0, 3, 1, 2)  # timm's Swin keeps channels last
    return hidden


def pooled_columns(
    tower: nn.Module, pixel_values: torch.Tensor, dtype: torch.dtype, rows: int, columns: int
) -> torch.Tensor:
    """A tower's output as columns from left to right.

    Args:
        tower: Any tower.
        pixel_values: `(N, 1 or 3, H, W)`.
        dtype: The tower's.
        rows: Rows that the feature map is pooled to.
        columns: Columns wanted, T.

    Returns:
        `(N, T, D * rows)`.
    """
    if pixel_values.shape[1] == 1:
        pixel_values = pixel_values.expand(-1, 3, -1, -1)
    # Pictures of music are long: a transformer's position table is stretched to them.
    stretch = "interpolate_pos_encoding" in inspect.signature(tower.forward).parameters
    options = {"interpolate_pos_encoding": True} if stretch else {}
    hidden = tower(pixel_values.to(dtype), **options).last_hidden_state
    hidden = as_map(hidden, tower, pixel_values)  # (N, D, h, w)
    # Rows are pooled to a fixed number, columns to one for each image token; a wide picture stays wide.
    hidden = F.adaptive_avg_pool2d(hidden, (rows, columns))  # (N, D, rows, T)
    return hidden.flatten(1, 2).transpose(1, 2)


def feature_map(tower: nn.Module, pixel_values: torch.Tensor, layer: int) -> torch.Tensor:
    """Feature map of one layer of any tower.

    Args:
        tower: Any tower.
        pixel_values: `(N, C, H, W)` as the tower wants them.
        layer: -1 is the tower's own output, its last norm included; -2 what the layer before the last gives.

    Returns:
        `(N, D, h, w)`.
    """
    wrapped = _timm_model(tower)
    if wrapped is not None and layer != -1:
        options = {"indices": [layer], "intermediates_only": True, "stop_early": True}
        return wrapped.forward_intermediates(pixel_values, **options)[0]  # timm gives (N, D, h, w) whatever the kind
    options = {}
    own = getattr(tower.config, "image_size", None)
    sizes = [own, own] if isinstance(own, int) else own
    # A position table is stretched only where it has to be: tables of oblong pictures can not be.
    differs = sizes is not None and list(sizes) != list(pixel_values.shape[-2:])
    if differs and "interpolate_pos_encoding" in inspect.signature(tower.forward).parameters:
        options["interpolate_pos_encoding"] = True
    if layer == -1:
        return as_map(tower(pixel_values, **options).last_hidden_state, tower, pixel_values)
    hidden = tower(pixel_values, output_hidden_states=True, **options).hidden_states
    if not -len(hidden) <= layer < 0:
        raise ValueError(f"vision_feature_layer is {layer}, but the tower has {len(hidden)} layers to read")
    return as_map(hidden[layer], tower, pixel_values)


def unread_parameters(tower: nn.Module, layer: int) -> list[nn.Parameter]:
    """Parameters that have no part in the feature map of a layer: what comes after it, and heads for other uses.

    No gradient reaches them, so they should not count as learning (nor wait for a gradient in several processes).
    """
    wrapped = _timm_model(tower)
    body = tower if wrapped is None else wrapped
    after = 0 if layer == -1 else -layer - 1  # layers that are not read
    unread: list[nn.Module] = []
    for name, child in body.named_children():
        if name in ("pooler", "head") or (after and name in _AFTER_THE_LAYERS):
            unread.append(child)
    if getattr(tower.config, "model_type", "").startswith("clip"):
        unread += [child for name, child in body.named_children() if name == "post_layernorm"]  # of the pooled output
    if wrapped is not None:
        stages = wrapped.feature_info
        unread += [wrapped.get_submodule(info["module"]) for info in stages[len(stages) - after :]]
    elif after:
        count = tower.config.num_hidden_layers  # type: ignore[union-attr]
        stack = next(m for m in tower.modules() if isinstance(m, nn.ModuleList) and len(m) == count)
        unread += list(stack)[-after:]
    return [parameter for module in unread for parameter in module.parameters()]


def fit_pictures(
    pixel_values: torch.Tensor, widths: torch.Tensor | None, size: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of one size: each scaled as a whole to fit, blank on the right and below.

    Args:
        pixel_values: `(N, C, H, W)`, 0 = blank.
        widths: `(N,)` widths in pixels before padding.
        size: Height and width wanted.

    Returns:
        `(N, C, *size)`, and the widths that the pictures have in it.
    """
    height, width = size
    count, channels, high, wide = pixel_values.shape
    given = [wide] * count if widths is None else widths.tolist()
    if (high, wide) == (height, width) and all(w == wide for w in given):
        return pixel_values, torch.full((count,), wide)
    fitted = pixel_values.new_zeros(count, channels, height, width)
    kept = []
    for number, own in enumerate(given):
        scale = min(height / high, width / own)
        target = (max(1, min(height, round(high * scale))), max(1, min(width, round(own * scale))))
        picture = pixel_values[number : number + 1, :, :, :own].float()
        picture = F.interpolate(picture, target, mode="bilinear", align_corners=False, antialias=True)
        fitted[number, :, : target[0], : target[1]] = picture[0].to(fitted.dtype)
        kept.append(target[1])
    return fitted, torch.tensor(kept)


def as_photograph(
    pixel_values: torch.Tensor, channels: int, mean: Sequence[float] | None, std: Sequence[float] | None
) -> torch.Tensor:
    """Ink `(N, C, H, W)`, 1 = black, as a tower wants it.

    Args:
        pixel_values: Grey, one channel, or with the tower's own number of channels.
        channels: The tower's.
        mean, std: By channel, of a tower that knows photographs: white is 1 there; `None` leaves the ink as it is.
    """
    pixel_values = pixel_values.expand(-1, channels, -1, -1)
    if mean is None:
        return pixel_values
    centre, spread = pixel_values.new_tensor([mean, std])[..., None, None]  # 2 x (C, 1, 1)
    return (1 - pixel_values - centre) / spread


def shown_tokens(tokens: torch.Tensor, width_px: int, widths: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of a map in a row, and which of them show no padding.

    Args:
        tokens: `(N, h, w, D)`.
        width_px: Width of the pictures with their padding.
        widths: `(N,)` without it.

    Returns:
        `(N, h * w, D)` and bool `(N, h * w)`.
    """
    high, wide = tokens.shape[1:3]
    left = torch.arange(wide, device=tokens.device) * (width_px / wide)  # edge of each column, px
    own = torch.full((len(tokens),), width_px) if widths is None else widths
    shown = left < own.to(tokens.device)[:, None]  # (N, w)
    return tokens.flatten(1, 2), shown[:, None].expand(-1, high, -1).flatten(1)


__all__ = [
    "as_map",
    "as_photograph",
    "feature_map",
    "feature_width",
    "fit_pictures",
    "patch_size",
    "pooled_columns",
    "shown_tokens",
    "unread_parameters",
]
