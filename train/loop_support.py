"""What the training loop needs around it: the accelerator, modes and memory order, running means."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..processing.errors import InputError

if TYPE_CHECKING:
    from .arguments import TrainingArguments


def checkpoint_activations(model: Any) -> None:
    """Computes activations again in the backward pass, in place of keeping them (transformers 5.17: the older name)."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable()


def set_training_mode(model: nn.Module) -> None:
    """Training mode for what learns; modules whose parameters are all frozen stay in evaluation mode.

    So the running statistics of a frozen tower do not drift and its dropout does not blur its features.
    """
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()


def channels_last(batch: Any) -> Any:
    """The batch with its 4-D floating tensors in channels-last memory order."""
    if isinstance(batch, Tensor):
        fits = batch.ndim == 4 and batch.is_floating_point()
        return batch.contiguous(memory_format=torch.channels_last) if fits else batch
    if isinstance(batch, Mapping):
        return {key: channels_last(value) for key, value in batch.items()}
    return batch


def make_accelerator(args: TrainingArguments) -> Any:
    """The `Accelerator` for these settings; what `accelerate launch` chose (processes, FSDP) stays."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState
    from accelerate.utils import (
        DataLoaderConfiguration,
        DistributedDataParallelKwargs,
        GradientAccumulationPlugin,
        ProjectConfiguration,
    )

    # Accelerate keeps the settings of the first run for the life of the process; a second run has its own.
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    accelerator = Accelerator(
        cpu=args.cpu,
        mixed_precision=args.mixed_precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=args.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=args.seed),
        project_config=ProjectConfiguration(project_dir=args.output_dir, logging_dir=args.output_dir),
        log_with="tensorboard" if args.tracker == "tensorboard" else None,
        dynamo_backend="inductor" if args.compile else "no",
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=args.find_unused_parameters)],
    )
    check_sharding(str(accelerator.distributed_type), accelerator.num_processes)
    return accelerator


def check_sharding(distributed_type: str, num_processes: int = 1) -> None:
    """Refuses to train unsharded where sharding was asked for.

    Accelerate shards on accelerators only. On CPUs it would train whole copies without a word.

    Raises:
        InputError: `accelerate launch` asked for FSDP or DeepSpeed, and this is not what it became, or its processes
            do not know of each other.
    """
    for name in ("FSDP", "DEEPSPEED"):
        asked = os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true"
        if asked and not distributed_type.upper().endswith(name):
            became = distributed_type.rpartition(".")[2]
            raise InputError(
                None, f"{name} was asked for, and it became {became}: that needs accelerators, and no --cpu; on CPUs "
                "launch with train/configs/ddp.yaml"
            )  # fmt: skip
        if asked and int(os.environ.get("WORLD_SIZE", "1")) > num_processes:
            raise InputError(
                None, f"{name} was asked for over {os.environ['WORLD_SIZE']} processes, and each trains by itself: "
                "that needs accelerators; on CPUs take --num_processes 1, or train/configs/ddp.yaml"
            )  # fmt: skip


class Meters:
    """Sums of losses and logged figures since the last log line; stays on the device until it is read."""

    def __init__(self) -> None:
        self.sums: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.started, self.rows = time.monotonic(), 0

    def add(self, figures: Mapping[str, Any]) -> None:
        """Adds one value of each figure; tensors are not read yet."""
        for name, value in figures.items():
            if value is None:  # DeepSpeed does not know the gradient's norm before its first step
                continue
            if hasattr(value, "full_tensor"):  # FSDP's norm lies in parts on the processes
                value = value.full_tensor()
            value = value.detach().float() if isinstance(value, Tensor) else float(value)
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Means since the last reading, and rows a second; starts anew."""
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        means["rows_per_second"] = self.rows / max(1e-9, time.monotonic() - self.started)
        self.__init__()  # type: ignore[misc]
        return means
