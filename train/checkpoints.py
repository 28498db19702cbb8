"""Checkpoints that are whole or absent: written beside, then renamed; the oldest go."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..processing.errors import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from .arguments import TrainingArguments

STATE_FILE = "training_state.json"


@dataclass
class TrainingState:
    """Where a run stands; saved with every checkpoint.

    Attributes:
        step: optimiser steps taken.
        epoch: epoch of the data the next batch comes from.
        batch_in_epoch: batches of that epoch that one process has used up.
        rows: rows seen, all processes together.
        elapsed_seconds: training time over all resumes, evaluation included.
        best_metric, best_step: best figure of an evaluation so far, and its step.
        bad_evaluations: evaluations since then.
        evaluations: `{"step": …, figures…}` of every evaluation.
        rows_per_step: rows of one optimiser step; a resume with another number can not be exact.
    """

    step: int = 0
    epoch: int = 0
    batch_in_epoch: int = 0
    rows: int = 0
    elapsed_seconds: float = 0.0
    best_metric: float | None = None
    best_step: int = 0
    bad_evaluations: int = 0
    evaluations: list[dict[str, float]] = field(default_factory=list)
    rows_per_step: int = 0


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """The whole checkpoints under `output_dir`, oldest first."""
    folder = Path(output_dir) / "checkpoints"
    return sorted(path for path in folder.glob("step_*") if (path / STATE_FILE).is_file())


def prepare_output_dir(args: TrainingArguments, is_main: bool) -> Path | None:
    """Makes the output folder and says which checkpoint to resume from, if any.

    Raises:
        InputError: checkpoints are there and neither `resume` nor `overwrite` says what to do with them.
    """
    output_dir = Path(args.output_dir)
    found = list_checkpoints(output_dir)
    if found and not (args.resume or args.overwrite):
        raise InputError(
            output_dir, f"holds {len(found)} checkpoint(s); pass --resume to go on or --overwrite to start anew"
        )
    if args.overwrite and is_main:
        for name in ("checkpoints", "best", "final", "tensorboard"):
            shutil.rmtree(output_dir / name, ignore_errors=True)
        (output_dir / "log.jsonl").unlink(missing_ok=True)
    output_dir.mkdir(parents=True, exist_ok=True)
    return found[-1] if found and args.resume else None


def save_checkpoint(accelerator: Accelerator, args: TrainingArguments, state: TrainingState) -> Path:
    """Writes everything that a bit-exact resume needs; called by all processes."""
    folder = Path(args.output_dir) / "checkpoints"
    final, partial = folder / f"step_{state.step:08d}", folder / f".partial_{state.step:08d}"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        # The file that marks a checkpoint as whole is written last, and the folder gets its name in one go.
        (partial / STATE_FILE).write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        if args.save_total_limit:
            for old in list_checkpoints(args.output_dir)[: -args.save_total_limit]:
                shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()
    return final


def load_checkpoint(accelerator: Accelerator, path: Path) -> TrainingState:
    """Loads model, optimiser, scaler and averages; gives back where the run stood."""
    accelerator.load_state(str(path))
    values: dict[str, Any] = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
    return TrainingState(**values)


def save_model(accelerator: Accelerator, model: Any, directory: Path, companions: list[Any]) -> None:
    """Writes a loadable model folder (weights, config, processors); called by all processes."""
    unwrapped = accelerator.unwrap_model(model, keep_torch_compile=False)
    sharded = str(accelerator.distributed_type).endswith(("FSDP", "DEEPSPEED"))
    weights = accelerator.get_state_dict(model) if sharded else None
    if accelerator.is_main_process:
        directory.mkdir(parents=True, exist_ok=True)
        if hasattr(unwrapped, "save_pretrained"):
            unwrapped.save_pretrained(directory, **({"state_dict": weights} if sharded else {}))
        elif weights is not None:
            from safetensors.torch import save_file

            save_file(weights, directory / "model.safetensors")
        else:
            from safetensors.torch import save_model as save_module

            save_module(unwrapped, str(directory / "model.safetensors"))
        for companion in companions:
            companion.save_pretrained(directory)
    accelerator.wait_for_everyone()
