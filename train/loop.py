"""The one training loop, on Accelerate: every `train_<stem>.py` calls `train(...)`.

    result = train(model, rows, args, collate=collate, evaluate_fn=evaluate, processor=processor)

Laws it keeps:
* The randomness of step n is a function of (seed, n, process), that of a batch one of (seed, its rows): evaluation,
  checkpoints and restarts change nothing, and a resumed run equals an unbroken one bit for bit.
* Every optimiser step has the same number of rows: accumulation goes on across the ends of epochs.
* Processes decide together: time, signals and stops are read by one and agreed upon once a step.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..processing.errors import InputError
from .arguments import TrainingArguments
from .checkpoints import TrainingState, load_checkpoint, prepare_output_dir, save_checkpoint, save_model
from .ema import ExponentialMovingAverage
from .interruption import Interruption
from .loading import BatchStream, Collate, build_dataloader, mix_seed, seed_everything
from .loop_support import Meters, channels_last, make_accelerator, set_training_mode
from .schedules import build_optimizer, learning_rate_scale, parameter_groups

Loss = Callable[[nn.Module, Any], "Tensor | tuple[Tensor, Mapping[str, Any]]"]
Evaluate = Callable[[nn.Module], Mapping[str, float]]


@dataclass
class TrainingResult:
    """How a run ended.

    Attributes:
        step: optimiser steps taken, resumed ones included.
        loss: mean loss since the last but one log line; NaN if no step was taken.
        stopped_by: `"steps"`, `"time"`, `"early_stop"` or `"callback"`. (A signal leaves by `SystemExit`.)
        seconds: training time, resumed part included.
        evaluations: `{"step": …, figures…}` of every evaluation.
        best_metric, best_step: best figure of an evaluation, if there was one; its weights are in `output_dir/best`.
        directory: `output_dir/final`, a loadable model folder (averaged weights where EMA is on).
        num_processes: how many processes trained.
    """

    step: int
    loss: float
    stopped_by: str
    seconds: float
    directory: Path
    num_processes: int
    best_metric: float | None = None
    best_step: int = 0
    evaluations: list[dict[str, float]] = field(default_factory=list)


class Callback:
    """Hooks into the loop, called on every process.

    Each may return `True` on any process to end the training: after the present step, or where several processes have
    to agree first, after the next.
    """

    def on_step_end(self, state: TrainingState, model: nn.Module) -> bool | None:
        """After each optimiser step."""

    def on_log(self, state: TrainingState, figures: Mapping[str, float]) -> bool | None:
        """After each log line."""

    def on_evaluate(self, state: TrainingState, figures: Mapping[str, float]) -> bool | None:
        """After each evaluation."""


def default_loss(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    """`model(**batch).loss`."""
    return model(**batch).loss


class _Run:
    """The parts of one training run; `go` is the loop."""

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        args: TrainingArguments,
        collate: Collate | None,
        loss_fn: Loss,
        evaluate_fn: Evaluate | None,
        groups: Any,
        callbacks: Sequence[Callback],
        processor: Any,
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        self.args, self.loss_fn, self.evaluate_fn, self.callbacks = args, loss_fn, evaluate_fn, list(callbacks)
        self.companions = [] if processor is None else [processor]
        if args.num_threads:
            torch.set_num_threads(args.num_threads)
        self.accelerator = make_accelerator(args)
        self.is_main = self.accelerator.is_main_process
        checkpoint = prepare_output_dir(args, self.is_main)
        self.accelerator.wait_for_everyone()
        if args.channels_last:
            model = model.to(memory_format=torch.channels_last)
        groups = groups(model) if callable(groups) else groups
        optimizer = optimizer or build_optimizer(groups or parameter_groups(model, args), args)
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        loader = build_dataloader(data, args, collate)
        self.model, self.optimizer, loader = self.accelerator.prepare(model, optimizer, loader)
        self.ema = self._make_ema() if args.ema_decay else None
        self.state = TrainingState(rows_per_step=self._rows_per_step(loader))
        self.max_steps = self._count_steps(loader)
        if checkpoint is not None:
            self._resume(checkpoint)
        self.stream = BatchStream(loader, self.state.epoch, self.state.batch_in_epoch)
        self.meters, self.loss, self.stopped_by, self.wants_stop = Meters(), float("nan"), "", False
        self.before, self.started = self.state.elapsed_seconds, time.monotonic()
        self.last_save = self.last_evaluation = self.before
        if args.tracker == "tensorboard":
            self.accelerator.init_trackers("tensorboard")
        self.bar = self._make_bar()

    def _make_ema(self) -> ExponentialMovingAverage:
        if str(self.accelerator.distributed_type).endswith(("FSDP", "DEEPSPEED")):
            raise InputError(None, "averaged weights (ema_decay) do not go with sharded training; set ema_decay to 0")
        ema = ExponentialMovingAverage(
            self.accelerator.unwrap_model(self.model, keep_torch_compile=False), self.args.ema_decay
        )
        self.accelerator.register_for_checkpointing(ema)
        return ema

    def _rows_per_step(self, loader: Any) -> int:
        batch_size = getattr(loader, "batch_size", None) or self.args.batch_size
        return batch_size * self.accelerator.num_processes * self.args.gradient_accumulation_steps

    def _count_steps(self, loader: Any) -> int | None:
        if self.args.max_steps or not self.args.num_epochs:
            return self.args.max_steps or None
        try:
            batches = len(loader)
        except TypeError:
            raise InputError(None, "num_epochs needs data of known length; give max_steps or max_minutes") from None
        return max(1, round(self.args.num_epochs * batches / self.args.gradient_accumulation_steps))

    def _resume(self, checkpoint: Path) -> None:
        rows_per_step = self.state.rows_per_step
        self.state = load_checkpoint(self.accelerator, checkpoint)
        self.accelerator.print(f"resumed from {checkpoint} at step {self.state.step}")
        if self.state.rows_per_step != rows_per_step:
            self.accelerator.print(
                f"the checkpoint was made with {self.state.rows_per_step} rows a step, now there are {rows_per_step}: "
                "going on, but not exactly as an unbroken run would"
            )
            self.state.rows_per_step = rows_per_step

    def _make_bar(self) -> Any:
        from tqdm.auto import tqdm

        return tqdm(
            total=self.max_steps,
            initial=self.state.step,
            desc="training",
            unit="step",
            disable=not (self.args.progress and self.is_main),
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
        )

    def _step(self) -> None:
        """One optimiser step over `gradient_accumulation_steps` batches."""
        args, accelerator = self.args, self.accelerator
        scale = learning_rate_scale(args, self.state.step, self.max_steps, self.state.elapsed_seconds)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * scale
        for micro_step in range(args.gradient_accumulation_steps):
            batch = next(self.stream)
            # After the fetch: opening a loader draws from the global generator, and a resume opens one more.
            seed_everything(mix_seed(args.seed, self.state.step, micro_step, accelerator.process_index))
            batch = channels_last(batch) if args.channels_last else batch
            with accelerator.accumulate(self.model):
                # Accelerate casts inside the wrapped forward only; a loss function may compute outside of it.
                with accelerator.autocast():
                    outcome = self.loss_fn(self.model, batch)
                loss, figures = outcome if isinstance(outcome, tuple) else (outcome, {})
                accelerator.backward(loss)
                if accelerator.sync_gradients and args.max_grad_norm:
                    norm = accelerator.clip_grad_norm_(self.model.parameters(), args.max_grad_norm)
                    self.meters.add({"gradient_norm": norm})
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
            self.meters.add({"loss": loss, **figures})
        if self.ema is not None:
            self.ema.update()
        state = self.state
        state.step += 1
        state.rows += state.rows_per_step
        state.epoch, state.batch_in_epoch = self.stream.epoch, self.stream.batch_in_epoch
        self.meters.rows += state.rows_per_step
        self.bar.update(1)

    def _agree(self, signal_number: int) -> int:
        """Sets the common elapsed time and returns the common signal number (0: none)."""
        elapsed = self.before + time.monotonic() - self.started
        if self.accelerator.num_processes > 1:
            mine = [elapsed if self.is_main else 0.0, float(signal_number), float(self.wants_stop)]
            every = self.accelerator.gather(torch.tensor([mine], device=self.accelerator.device))
            elapsed, signal_number = float(every[:, 0].max()), int(every[:, 1].max())
            if every[:, 2].any():
                self.stopped_by = self.stopped_by or "callback"
        self.state.elapsed_seconds = elapsed
        return signal_number

    def _log(self) -> None:
        figures = self.meters.read()
        if self.accelerator.num_processes > 1:
            names = sorted(name for name in figures if name != "rows_per_second")
            values = torch.tensor([figures[name] for name in names], device=self.accelerator.device)
            figures.update(zip(names, self.accelerator.reduce(values, "mean").tolist(), strict=True))
        self.loss = figures["loss"]
        if self.loss != self.loss or abs(self.loss) == float("inf"):
            raise FloatingPointError(f"the loss is {self.loss} near step {self.state.step}; lower the learning rate")
        for index, group in enumerate(self.optimizer.param_groups):
            figures[f"learning_rate/{group.get('name', index)}"] = group["lr"]
        figures["epoch"] = self.state.epoch
        self.bar.set_postfix(loss=f"{self.loss:.4g}", rows_s=f"{figures['rows_per_second']:.1f}", refresh=False)
        self._record("train", figures)
        self._ask("on_log", figures)

    def _record(self, kind: str, figures: Mapping[str, float]) -> None:
        if not self.is_main:
            return
        line = {"kind": kind, "step": self.state.step, "seconds": round(self.state.elapsed_seconds, 2), **figures}
        with open(Path(self.args.output_dir) / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.args.tracker == "tensorboard":
            self.accelerator.log({f"{kind}/{name}": value for name, value in figures.items()}, step=self.state.step)

    def _ask(self, hook: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            self.wants_stop |= bool(getattr(callback, hook)(self.state, *arguments))
        if self.wants_stop and self.accelerator.num_processes == 1:
            self.stopped_by = self.stopped_by or "callback"

    def _evaluate(self) -> None:
        """Evaluates the averaged weights where there are some, keeps the best, and counts towards the early stop."""
        from accelerate.utils import broadcast_object_list

        args, state = self.args, self.state
        assert self.evaluate_fn is not None
        with self.ema.applied() if self.ema else nullcontext():
            self.model.eval()
            with torch.no_grad():
                found = [dict(self.evaluate_fn(self.accelerator.unwrap_model(self.model)))]
            figures = {name: float(value) for name, value in broadcast_object_list(found)[0].items()}
            if args.metric_for_best not in figures:
                raise InputError(
                    None, f"metric_for_best is {args.metric_for_best!r}; the evaluation gave {sorted(figures)}"
                )
            value = figures[args.metric_for_best]
            best = state.best_metric
            if best is None or (value > best if args.greater_is_better else value < best):
                state.best_metric, state.best_step, state.bad_evaluations = value, state.step, 0
                save_model(self.accelerator, self.model, Path(args.output_dir) / "best", self.companions)
            else:
                state.bad_evaluations += 1
        set_training_mode(self.model)
        state.evaluations.append({"step": state.step, **figures})
        self._record("evaluation", figures)
        self._ask("on_evaluate", figures)
        if self.is_main and not self.bar.disable:
            self.bar.write(f"step {state.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))
        if args.early_stopping_patience and state.bad_evaluations >= args.early_stopping_patience:
            self.stopped_by = "early_stop"

    def _due(self, steps: int, minutes: float, last: float) -> bool:
        by_steps = bool(steps) and self.state.step % steps == 0
        return by_steps or (bool(minutes) and self.state.elapsed_seconds - last >= minutes * 60)

    def _save(self) -> Path:
        self.last_save = self.state.elapsed_seconds
        return save_checkpoint(self.accelerator, self.args, self.state)

    def _leave_on(self, signal_number: int) -> None:
        path = self._save()
        self.bar.close()
        self.accelerator.end_training()
        self.accelerator.print(
            f"stopped by signal {signal_number} at step {self.state.step}; --resume goes on from {path}"
        )
        raise SystemExit(128 + signal_number)

    def _between_steps(self, interruption: Interruption) -> None:
        """Logs, evaluates, saves and decides whether to stop; the order keeps a checkpoint's figures complete."""
        args, state = self.args, self.state
        self._ask("on_step_end", self.accelerator.unwrap_model(self.model))
        signal_number = self._agree(interruption.poll())
        finished = self.max_steps is not None and state.step >= self.max_steps
        if finished or (args.max_minutes and state.elapsed_seconds >= args.max_minutes * 60):
            self.stopped_by = "steps" if finished else "time"
        if state.step % args.logging_steps == 0 or self.stopped_by:
            self._log()
        if signal_number:
            self._leave_on(signal_number)
        if self.evaluate_fn and (
            self._due(args.eval_steps, args.eval_minutes, self.last_evaluation) or self.stopped_by
        ):
            self._evaluate()
            self._agree(0)
            self.last_evaluation = state.elapsed_seconds
        saves = args.save_steps or args.save_minutes
        if self._due(args.save_steps, args.save_minutes, self.last_save) or (saves and self.stopped_by):
            self._save()

    def go(self) -> TrainingResult:
        set_training_mode(self.model)
        state = self.state
        if self.max_steps is not None and state.step >= self.max_steps:
            self.stopped_by = "steps"
        with Interruption() as interruption:
            while not self.stopped_by:
                self._step()
                self._between_steps(interruption)
        self.bar.close()
        if self.ema is not None:
            self.ema.copy_to_model()
        self.model.eval()
        directory = Path(self.args.output_dir) / "final"
        save_model(self.accelerator, self.model, directory, self.companions)
        self.accelerator.end_training()
        return TrainingResult(
            step=state.step,
            loss=self.loss,
            stopped_by=self.stopped_by,
            seconds=state.elapsed_seconds,
            directory=directory,
            num_processes=self.accelerator.num_processes,
            best_metric=state.best_metric,
            best_step=state.best_step,
            evaluations=state.evaluations,
        )


def train(
    model: nn.Module,
    train_data: Any,
    args: TrainingArguments,
    *,
    collate: Collate | None = None,
    loss_fn: Loss = default_loss,
    evaluate_fn: Evaluate | None = None,
    param_groups: Sequence[dict[str, Any]] | Callable[[nn.Module], Sequence[dict[str, Any]]] | None = None,
    callbacks: Sequence[Callback] = (),
    processor: Any = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> TrainingResult:
    """Trains `model` in place, with checkpoints, logs, evaluation and exact resume under `args.output_dir`.

    Args:
        model: any module; what has `requires_grad=False` stays as it is. A model in half precision (as
            checkpoints are kept) is made float32: small steps would not change it.
        train_data: map-style dataset (rows), iterable dataset, or a ready `DataLoader`.
        args: see `TrainingArguments`.
        collate: rows to batch, usually a dict of tensors. Random numbers drawn in here or in the dataset from Python,
            NumPy or PyTorch are seeded per batch, so an augmentation is repeatable.
        loss_fn: `(model, batch)` to a scalar loss (a mean over the batch), or to `(loss, figures to log)`. With several
            processes it must call `model(...)` itself, not a part of it.
        evaluate_fn: takes the unwrapped model in evaluation mode (averaged weights where EMA is on), gives named
            figures. Called on every process; the main one's figures count.
        param_groups: optimiser groups or a function that makes them; default: `parameter_groups(model, args)`.
        callbacks: see `Callback`.
        processor: saved beside the model in `best/` and `final/`, so that they load as they are.
        optimizer: in place of AdamW.

    Returns:
        A `TrainingResult`. The model holds the last (with EMA: the averaged) weights, on the device it trained on.

    Raises:
        InputError: settings that can not work, checkpoints in the way, too few rows.
        FloatingPointError: the loss is no longer a number.
        SystemExit: status 128 + signal after SIGTERM (143), SIGINT (130); a checkpoint is saved first.
    """
    if any(p.requires_grad and p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()):
        model.float()
    run = _Run(model, train_data, args, collate, loss_fn, evaluate_fn, param_groups, callbacks, processor, optimizer)
    return run.go()
