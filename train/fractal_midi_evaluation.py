"""Figures and pictures while FractalMidi trains; the published figures come from `evaluation.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .checkpoints import TrainingState
from .fractal_midi_data import RollCollate, Rolls
from .loop import Callback
from .loop_support import set_training_mode


def measured_loss(model: Any, batch: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The loss, and for the log what each level costs in nats a roll."""
    out = model(**batch)
    means = out.level_nll.detach().mean(0)
    return out.loss, {f"level_{level}_nats": value for level, value in enumerate(means)}


@torch.no_grad()
def evaluate_rolls(
    model: Any, rolls: Rolls, collate: RollCollate, batch_size: int = 8, draws: int = 2, masks: Any = None
) -> dict[str, float]:
    """How many bits held-out rolls cost.

    Args:
        model: In evaluation mode.
        rolls: What to evaluate on.
        collate: Without augmentation.
        batch_size: Rolls at a time.
        draws: Masks of each `mar` patch to average over; the seed is fixed.
        masks: `(N, P, T)` bool, true = hidden, the rest given; `None`: all hidden.

    Returns:
        `loss` (nats a step), `bits_per_cell` and `bits_per_sounding_cell`: all bits over all hidden (sounding) cells.
        For models with `mar` levels these bound the truth from above.
    """
    nats = cells = sounding = 0.0
    for start in range(0, len(rolls), batch_size):
        stop = min(start + batch_size, len(rolls))
        batch = collate([rolls[index] for index in range(start, stop)])
        if masks is not None:
            batch["mask"] = torch.as_tensor(np.asarray(masks[start:stop]), dtype=torch.bool)
        batch = {name: value.to(model.device) for name, value in batch.items()}
        generator = torch.Generator().manual_seed(start)
        out = model(**batch, draws=draws, generator=generator)
        nats += float(out.nll.double().sum())
        cells += float(batch["mask"].sum())
        sounding += float((batch["mask"] & (batch["roll"][:, 0] > -1)).sum())
    bits = nats / math.log(2)
    return {
        "loss": nats / max(cells, 1) * rolls.size[0],
        "bits_per_cell": bits / max(cells, 1),
        "bits_per_sounding_cell": bits / max(sounding, 1),
    }


class Pictures(Callback):
    """Shows in TensorBoard what the model paints, and how; the files on the disk stay few.

    Tags: `val/ground_truth/N` (once), `val/generated/N`, `val/generation_preview` (an animated GIF), `val_loss`.

    Args:
        output_dir: Of the run.
        rolls: Validation rolls; generated ones have their conditions.
        collate: Without augmentation.
        every: Steps between two shows; 0: only `val_loss`.
        count: Rolls to show.
        num_iter_list: Steps of each level.
    """

    def __init__(
        self, output_dir: str, rolls: Rolls, collate: RollCollate, every: int, count: int, num_iter_list: Sequence[int]
    ) -> None:
        self.folder, self.rolls, self.collate = Path(output_dir), rolls, collate
        self.every, self.count, self.num_iter_list = every, min(count, len(rolls)), list(num_iter_list)
        self._writer: Any = None

    @property
    def writer(self) -> Any:
        """Opened at first use, beside the files of the loop's own tracker."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder / "tensorboard"))
        return self._writer

    def on_evaluate(self, state: TrainingState, figures: Mapping[str, float]) -> None:
        """Writes `val_loss`."""
        if _is_main():
            self.writer.add_scalar("val_loss", figures["loss"], state.step)
            self.writer.flush()

    def on_step_end(self, state: TrainingState, model: Any) -> None:
        """Paints, every so many steps."""
        if not self.every or state.step % self.every or not self.count or not _is_main():
            return
        from ..processing.roll_pictures import draw_roll

        batch = self.collate([self.rolls[index] for index in range(self.count)])
        model.eval()
        made = model.generate(
            None if "conditions" in batch else self.count,
            batch.get("conditions"),
            num_iter_list=self.num_iter_list,
            return_intermediates=True,
            generator=torch.Generator().manual_seed(0),
        )
        set_training_mode(model)
        shown = {"generated": made.roll.cpu()}
        if state.step == self.every:
            shown["ground_truth"] = batch["roll"]
        for name, rolls in shown.items():
            for index, roll in enumerate(rolls):
                picture = np.asarray(draw_roll(roll, scale=3, loudness_classes=self.rolls.loudness_classes))
                self.writer.add_image(f"val/{name}/{index}", picture, state.step, dataformats="HWC")
        self._show_growth([frame[:1] for frame in made.intermediates], state.step)
        self.writer.flush()

    def _show_growth(self, frames: list[torch.Tensor], step: int) -> None:
        """An animated GIF as an image summary; TensorBoard's own video writer would need another package."""
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        from ..processing.roll_pictures import write_gif

        file, classes = self.folder / "generation_preview.gif", self.rolls.loudness_classes
        path = write_gif(frames, file, loudness_classes=classes)
        with Image.open(path) as picture:
            width, height = picture.size
        image = Summary.Image(encoded_image_string=path.read_bytes(), colorspace=3, width=width, height=height)
        value = Summary.Value(tag="val/generation_preview", image=image)
        self.writer.file_writer.add_summary(Summary(value=[value]), step)


def _is_main() -> bool:
    from accelerate import PartialState

    return PartialState().is_main_process
