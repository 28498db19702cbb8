"""timm backbones as StyleEncoder uses them: built by name, read as tokens and maps, filled, frozen or adapted."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from ..processing.errors import InputError
from ..processing.tensor_files import load_tensor_file

LEARNING = ("full", "frozen", "partial", "lora")
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")


def build_backbone(model_name: str, model_args: Mapping[str, Any]) -> nn.Module:
    """A timm model without head and without weights; never asks the network.

    Raises:
        InputError: timm knows no such model, or the model does not take these arguments.
    """
    if not timm.is_model(model_name):
        close = timm.list_models(f"*{model_name.split('.')[0].split('_')[0]}*")[:3]
        hint = f"; there are {', '.join(close)}" if close else "; timm.list_models() names them"
        raise InputError(None, f"timm {timm.__version__} has no model {model_name!r}{hint}")
    options = {"num_classes": 0, "global_pool": "", **model_args}
    try:
        backbone = timm.create_model(model_name, pretrained=False, **options)
    except (TypeError, AssertionError, ValueError) as error:
        raise InputError(None, f"{model_name} does not take {dict(model_args)}: {error}") from error
    if not hasattr(backbone, "forward_intermediates"):
        raise InputError(None, f"{model_name} gives no feature maps of its stages; choose another model of timm")
    return backbone


def map_indices(backbone: nn.Module, count: int) -> tuple[list[int], list[int]]:
    """Which of the backbone's stages are looked at, spread over its depth with the last among them; their channels."""
    channels = [stage["num_chs"] for stage in list(backbone.feature_info)]  # type: ignore[arg-type]
    first = 0 if count >= len(channels) else 1  # as many as there are stages: all of them
    spots = torch.linspace(0, len(channels) - 1, count + first)[first:]
    indices = sorted({round(float(spot)) for spot in spots})
    return indices, [channels[index] for index in indices]


def read_features(
    backbone: nn.Module, pixel_values: torch.Tensor, indices: list[int]
) -> tuple[torch.Tensor, tuple[int, int], list[torch.Tensor]]:
    """One pass through the backbone.

    Args:
        backbone: From `build_backbone`.
        pixel_values: `(B, 3, H, W)`.
        indices: Of `map_indices`.

    Returns:
        The final features as tokens `(B, h·w, C)` without class token, their grid `(h, w)`, and the maps
        `(B, C', h', w')` at the indices.

    Raises:
        ValueError: A size of pictures that the backbone does not take.
    """
    try:
        final, maps = backbone.forward_intermediates(pixel_values, indices=indices)  # type: ignore[operator]
    except AssertionError as error:
        raise ValueError(f"the backbone does not take pictures {tuple(pixel_values.shape)}: {error}") from error
    if final.ndim == 3:  # (B, prefix + N, C)
        tokens = final[:, getattr(backbone, "num_prefix_tokens", 0) or 0 :]
        high, wide = maps[-1].shape[-2:]
        if high * wide != tokens.shape[1]:
            high, wide = 1, tokens.shape[1]
        return tokens, (high, wide), maps
    if getattr(backbone, "output_fmt", "NCHW") != "NHWC":
        final = final.permute(0, 2, 3, 1)  # (B, h, w, C)
    return final.flatten(1, 2), (final.shape[1], final.shape[2]), maps


# --- Weights


def load_backbone_weights(backbone: nn.Module, model_name: str, weights: str) -> None:
    """Fills a backbone.

    Args:
        backbone: From `build_backbone`; changed in place.
        model_name: Its name.
        weights: `"none"`; `"hub"`: those that timm names, downloaded; `"package:NAME"`: the weight file in an installed
            Python package; else a weight file.

    Raises:
        InputError: The file is not there, holds code, or belongs to another backbone.
    """
    if weights == "none":
        return
    if weights == "hub":
        state, name = _hub_weights(backbone, model_name), f"{model_name} of the Hub"
    else:
        path = _packaged_file(weights.partition(":")[2]) if weights.startswith("package:") else Path(weights)
        state, name = load_tensor_file(path), str(path)
    fill(backbone, state, name)


def _hub_weights(backbone: nn.Module, model_name: str) -> dict[str, torch.Tensor]:
    options = {"num_classes": 0, "global_pool": ""}
    size = getattr(getattr(backbone, "patch_embed", None), "img_size", None)
    if size and timm.get_pretrained_cfg(model_name).fixed_input_size:
        options["img_size"] = size  # type: ignore[assignment]
    try:
        return timm.create_model(model_name, pretrained=True, **options).state_dict()
    except Exception as error:  # each transport has its own
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            model_name, f"no weights from the Hub ({told[:200]}); give a weight file, package:NAME, or none"
        ) from error


def _packaged_file(package: str) -> Path:
    spec = importlib.util.find_spec(package.replace("-", "_")) if package else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(None, f"the package {package!r} is not installed; install it with pip, or give a weight file")
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(path for path in folder.rglob("*") if path.suffix in WEIGHT_SUFFIXES)
    if len(files) != 1:
        raise InputError(folder, f"holds {len(files)} weight files; give the path of the one that is meant")
    return files[0]


def fill(backbone: nn.Module, state: Any, name: str) -> None:
    """Copies weights in, matched by name, or where no name fits by the order of their shapes.

    Other repositories of a model often name its layers differently but define them in the same order. A head at the end
    is left out.

    Raises:
        InputError: They belong to another backbone; the message shows what does not fit.
    """
    for key in ("state_dict", "state_dict_ema", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(name, "holds no weights by name; save model.state_dict()")
    state = {key.removeprefix("module.").removeprefix("backbone."): value for key, value in state.items()}
    own = {key: value for key, value in backbone.state_dict().items() if not key.endswith("num_batches_tracked")}
    if not own.keys() & state.keys():
        given = [(key, value) for key, value in state.items() if not key.endswith("num_batches_tracked")]
        if len(given) >= len(own) and all(a.shape == b[1].shape for a, b in zip(own.values(), given, strict=False)):
            state = {key: value for key, (_, value) in zip(own, given, strict=False)}
    missing = [key for key in own if key not in state]
    if missing:
        raise InputError(
            name, f"is of another backbone: {len(missing)} of {len(own)} weights lack, such as {missing[0]!r}"
        )
    for key, value in own.items():
        if state[key].shape != value.shape:
            raise InputError(
                name, f"is of another backbone: {key!r} is {tuple(state[key].shape)}, here {tuple(value.shape)}"
            )
    backbone.load_state_dict({key: value for key, value in state.items() if key in own}, strict=False)


# --- What learns


def choose_learning(backbone: nn.Module, mode: str, last_groups: int = 1, lora_rank: int = 8) -> None:
    """Decides what of a backbone learns; changes it in place.

    Args:
        backbone: From `build_backbone`.
        mode: `"full"`, `"frozen"`, `"partial"` (only its last groups of layers, as timm groups them), or `"lora"`
            (arXiv 2106.09685: low-rank additions to its matrices and plain convolutions).
        last_groups: Of `"partial"`.
        lora_rank: Of `"lora"`.

    Raises:
        InputError: Another mode, no group, or a backbone without a layer that LoRA can be put on.
    """
    if mode not in LEARNING:
        raise InputError(None, f"the backbone's learning is {mode!r}; use one of {', '.join(LEARNING)}")
    backbone.requires_grad_(mode == "full")
    if mode == "partial":
        groups = layer_groups(backbone)
        if not 1 <= last_groups <= len(groups):
            raise InputError(None, f"{last_groups} groups of layers are to learn; the backbone has {len(groups)}")
        learning = {name for group in groups[-last_groups:] for name in group}
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_(name in learning)
    elif mode == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        names = lora_targets(backbone)
        if not names or lora_rank < 1:
            raise InputError(None, f"no LoRA of rank {lora_rank} fits on {len(names)} layers; choose another mode")
        # One pattern for all: a list would match by the ends of names, so that `conv1` also meant `layer1.0.conv1`.
        pattern = "|".join(re.escape(name) for name in names)
        inject_adapter_in_model(LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, target_modules=pattern), backbone)


def layer_groups(backbone: nn.Module) -> list[list[str]]:
    """Names of parameters, grouped from the picture to the output as timm's layer-wise learning rates are."""
    from timm.models import group_parameters

    try:
        matcher = backbone.group_matcher(coarse=True)  # type: ignore[operator]
        found = group_parameters(backbone, matcher)
        groups = [list(names) for _, names in sorted(found.items())]
    except (AttributeError, NotImplementedError):
        groups = [[f"{name}.{key}" for key, _ in child.named_parameters()] for name, child in backbone.named_children()]
    return [group for group in groups if group]


def lora_targets(backbone: nn.Module) -> list[str]:
    """Names of the layers that LoRA can be put on.

    Left out: grouped convolutions, and subclasses (timm's "same" padding or weight standardisation would be lost in the
    addition); and `qkv` of an attention that keeps its biases apart (EVA-02, Swin v2, BEiT): it multiplies with the
    bare weight, past the addition.
    """
    names = []
    for name, module in backbone.named_modules():
        if type(module) is nn.Linear:
            parent, _, child = name.rpartition(".")
            owner = backbone.get_submodule(parent) if parent else backbone
            if not (child == "qkv" and getattr(owner, "q_bias", None) is not None):
                names.append(name)
        elif type(module) is nn.Conv2d and module.groups == 1:
            names.append(name)
    return names


def merge_lora(backbone: nn.Module) -> bool:
    """Adds low-rank additions to their matrices and takes them away; true if there were any."""
    found = [(name, module) for name, module in backbone.named_modules() if hasattr(module, "lora_A")]
    for name, module in found:
        module.merge()  # type: ignore[operator]
        parent, _, child = name.rpartition(".")
        setattr(backbone.get_submodule(parent) if parent else backbone, child, module.get_base_layer())  # type: ignore[operator]
    return bool(found)
