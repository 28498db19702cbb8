"""Learning-rate schedules, parameter groups and the optimiser: pure functions, no state of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..processing.errors import InputError

if TYPE_CHECKING:
    from .arguments import TrainingArguments


def warmup_scale(step: int, warmup_steps: int) -> float:
    """Linear rise over the first `warmup_steps` optimiser steps; step 0 already moves a little."""
    if warmup_steps <= 0:
        return 1.0
    return min(1.0, (step + 1) / warmup_steps)


def decay_scale(schedule: str, fraction: float, floor: float = 0.0) -> float:
    """Scale of the learning rate after `fraction` (0 to 1) of the run.

    Args:
        schedule: `"constant"`, `"linear"` or `"cosine"`.
        fraction: part of the run that is over; values outside 0..1 are clamped.
        floor: scale at the end of a falling schedule, as a part of the peak.
    """
    fraction = min(1.0, max(0.0, fraction))
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return floor + (1.0 - floor) * (1.0 - fraction)
    if schedule == "cosine":
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * fraction))
    raise ValueError(f"schedule is {schedule!r}; use 'constant', 'linear' or 'cosine'")


def learning_rate_scale(args: TrainingArguments, step: int, max_steps: int | None, elapsed_seconds: float) -> float:
    """Scale of every group's learning rate for optimiser step `step` (counted from 0).

    By steps the decay starts where the warm-up ends; by time the two are multiplied, since nobody knows beforehand how
    many seconds the warm-up takes.
    """
    warmup_steps = args.warmup_steps
    if args.schedule_by == "time":
        fraction = elapsed_seconds / (args.max_minutes * 60.0)
    elif max_steps is None:
        fraction = 0.0
    else:
        fraction = (step - warmup_steps) / max(1, max_steps - warmup_steps)
    return warmup_scale(step, warmup_steps) * decay_scale(args.schedule, fraction, args.min_learning_rate_ratio)


def parameter_groups(model: nn.Module, args: TrainingArguments) -> list[dict[str, Any]]:
    """Sorts the parameters that learn into groups by learning rate and weight decay.

    `args.learning_rates` maps a prefix of parameter names to a learning rate; the longest prefix that fits wins. Weight
    decay acts on matrices and kernels, not on biases, norms (fewer than two axes) and embeddings. Muon, where it is
    chosen, moves what decays, but for the layer that gives logits: its rows are classes, which it would make equal.

    Raises:
        InputError: nothing learns, or a prefix fits no parameter that learns.
    """
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, (nn.Embedding, nn.EmbeddingBag))
    }
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    groups: dict[tuple[str, bool, bool], dict[str, Any]] = {}
    unused = set(args.learning_rates)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        prefix = max((p for p in args.learning_rates if name.startswith(p)), key=len, default="")
        unused.discard(prefix)
        decays = parameter.ndim >= 2 and id(parameter) not in embeddings
        muon = args.optimizer == "muon" and decays and (output is None or parameter is not output.weight)
        group = groups.setdefault(
            (prefix, decays, muon),
            {
                "params": [],
                "lr": args.learning_rates.get(prefix, args.learning_rate),
                "weight_decay": args.weight_decay if decays else 0.0,
                "name": f"{prefix or 'all'}{'' if decays else '.no_decay'}{'.muon' if muon else ''}",
                **({"use_fallback": not muon} if args.optimizer == "muon" else {}),
            },
        )
        group["params"].append(parameter)
    if unused:
        raise InputError(None, f"learning_rates names {sorted(unused)}, but no parameter that learns starts so")
    if not groups:
        raise InputError(None, "no parameter of the model learns (requires_grad is False everywhere)")
    return list(groups.values())


def build_optimizer(groups: Sequence[dict[str, Any]], args: TrainingArguments) -> torch.optim.Optimizer:
    """AdamW over `groups`, in its fused form (one pass over memory) where all parameters are floating point.

    With `args.optimizer == "muon"` it is timm's Muon (K. Jordan et al., 2024), whose steps are scaled to the size of
    AdamW's (arXiv 2502.16982, section 2.2), and which leaves groups that say `use_fallback` to AdamW.
    """
    betas = (args.adam_beta1, args.adam_beta2)
    if args.optimizer == "muon":
        from timm.optim import Muon

        return Muon(list(groups), lr=args.learning_rate, betas=betas, weight_decay=args.weight_decay)
    return torch.optim.AdamW(
        list(groups),
        lr=args.learning_rate,
        betas=betas,
        eps=args.adam_epsilon,
        weight_decay=args.weight_decay,
        fused=True,
    )
