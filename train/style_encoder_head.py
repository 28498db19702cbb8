"""Trains StyleEncoder's style head further, on what the frozen backbone saw of each picture once.

    python -m intermezzo.train.style_encoder_head --data_dir grid --model checkpoints/style_encoder --output_dir LAST

The backbone is looked through once (statistics of its maps, kept in `--cache_dir`); then the head learns in a minute.
Its loss asks of all pairs by one threshold whether they are of one style, beside the contrast that the whole model was
trained with; noise and dropout on the statistics keep it from learning the training pictures by heart. The weights that
tell the validation's styles apart best are kept, those of the model where none do better. All other outputs stay as
they are; `style_encoder_references` then says anew how pairs of one style and of two look to it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..modeling.style_losses import pair_agreement, supervised_contrastive
from ..processing.errors import InputError
from .arguments import option
from .metrics_style import pair_auc
from .style_encoder_seen import dtype_of, look_at, open_model, run_command

CHECKS = 10  # times that the validation's styles are told apart
CONTRAST = 0.3  # weight of the contrast beside the agreement of pairs
FIRST_SCALE, FIRST_BIAS = 7.4, -3.0


@dataclass
class HeadArguments:
    """What the training of the head takes."""

    data_dir: str = option("", "folder made by build_style_pairs")
    model: str = option("", "StyleEncoder to go on from")
    output_dir: str = option("runs/style_head", "folder for the model")
    cache_dir: str = option("", "folder for what the backbone saw; empty: beside the model")
    drawing: bool = option(False, "measure lines, gaps, edges, tones, colours at the pixels, too; a head anew")
    steps: int = option(1000, "steps")
    batch_size: int = option(512, "pictures per step")
    learning_rate: float = option(1e-3, "peak learning rate")
    weight_decay: float = option(0.1, "weight decay")
    noise: float = option(0.5, "noise on the statistics, in their spreads over the pictures")
    dropout: float = option(0.2, "part of the statistics that are dropped")
    evenness: float = option(
        0.5, "styles are drawn by their number of pictures to this power; 1: as they are, 0: alike"
    )
    seed: int = option(0, "seed")
    overwrite: bool = option(False, "replace a model in the folder")

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size - 1) < 1 or not self.learning_rate > 0:
            raise InputError(None, "steps must be 1 or more, batch_size 2 or more, learning_rate above 0")
        if self.noise < 0 or not 0 <= self.dropout < 1 or not 0 <= self.evenness <= 1 or self.weight_decay < 0:
            raise InputError(None, "noise and weight_decay are 0 or more, dropout 0 up to 1, evenness 0 to 1")


@dataclass
class Statistics:
    """Pictures of a split as the backbone saw them: `(N, 2ΣC')` float32, with styles and contents."""

    values: torch.Tensor
    styles: list[str]
    contents: list[str]


def statistics_of(model: Any, processor: Any, folder: str | Path, split: str, cache: Path) -> Statistics:
    """The statistics of a split, from the cache where they are there.

    Raises:
        InputError: There is no such split, or a picture can not be read.
    """
    weights = [*model.backbone.state_dict().items(), ("drawing", torch.tensor(float(model.config.drawing)))]
    see = lambda pixels: model.look(pixels)[1]  # noqa: E731
    seen = look_at(see, weights, processor, folder, split, cache, ("style", "content"))
    return Statistics(seen.values, seen.columns["style"], seen.columns["content"])


def tell_apart(head: Any, seen: Statistics) -> float:
    """How well a head tells the styles of pictures apart: the area under the curve over their pairs."""
    with torch.no_grad():
        vectors = head.eval()(seen.values).numpy()
    return pair_auc(vectors, seen.styles, seen.contents, resamples=2).value


def train_head(head: Any, train: Statistics, held: Statistics, args: HeadArguments, temperature: float) -> list[float]:
    """Trains a style head in place, and leaves in it the weights that did best on held-out pictures.

    Args:
        head: `StyleStatistics`, float32.
        train: What it learns from.
        held: What it is chosen by.
        args: Settings.
        temperature: Of the contrast, as the model was trained with it.

    Returns:
        The areas on the held-out pictures, before the training and at each check.
    """
    names = sorted(set(train.styles))
    labels = torch.tensor([names.index(style) for style in train.styles])
    rows = [np.flatnonzero(labels.numpy() == number) for number in range(len(names))]
    chances = np.array([len(one) for one in rows], dtype=np.float64) ** args.evenness
    chances /= chances.sum()
    spread, usual = train.values.std(0), torch.zeros(train.values.shape[1])
    if head.drawing:  # a width of 0 would be a measure like any other: what is dropped is as usual
        usual[-len(head.centre) :] = head.centre.float()
    odds = [torch.nn.Parameter(torch.tensor(value)) for value in (FIRST_SCALE, FIRST_BIAS)]
    groups = [{"params": list(head.parameters())}, {"params": odds, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, args.learning_rate, weight_decay=args.weight_decay)
    rates = [args.learning_rate, 10 * args.learning_rate]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, args.steps + 1, pct_start=0.1)
    draw = np.random.default_rng(args.seed)
    torch.manual_seed(args.seed)
    areas = [tell_apart(head, held)]
    best = copy.deepcopy(head.state_dict())
    every = max(args.steps // CHECKS, 1)
    for step in range(args.steps):
        chosen = [draw.choice(rows[k]) for k in draw.choice(len(rows), args.batch_size, p=chances)]
        values, label = train.values[chosen], labels[chosen]
        values = values + args.noise * spread * torch.randn_like(values)
        values = usual + F.dropout(values - usual, args.dropout)
        vectors = head.train()(values)
        loss = pair_agreement(vectors, label, *odds) + CONTRAST * supervised_contrastive(vectors, label, temperature)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % every == 0 or step + 1 == args.steps:
            areas.append(tell_apart(head, held))
            print(f"step {step + 1}: loss {loss.item():.3f}, held-out styles told apart {areas[-1]:.4f}")
            if areas[-1] > max(areas[:-1]):
                best = copy.deepcopy(head.state_dict())
    head.load_state_dict(best)
    head.eval()
    return areas


def with_drawing(model: Any, seed: int = 0) -> Any:
    """The same model with a new style head that also goes by what is measured at the pixels."""
    config = copy.deepcopy(model.config)
    config.drawing = True
    torch.manual_seed(seed)
    new = type(model)(config)
    known = {name: value for name, value in model.state_dict().items() if not name.startswith("style_head.")}
    new.load_state_dict(known, strict=False)
    for linear in (new.style_head.hidden, new.style_head.out):
        linear.reset_parameters()  # the general rule for new matrices is too small to begin with here
    return new.eval()


def measure_range(head: Any, seen: Statistics, dtype: torch.dtype) -> None:
    """Sets what of the measures of a drawing is usual, and how far they range, as the file will hold them."""
    measures = seen.values[:, -len(head.centre) :]
    head.centre.copy_(measures.mean(0).to(dtype))
    head.range.copy_((measures.std(0) + 1e-4).to(dtype))


def run(args: HeadArguments) -> list[float]:
    """Trains the head of `--model` and keeps the whole in `--output_dir`; the areas of `train_head`.

    Raises:
        InputError: Folders that are not there or hold something else.
    """
    out = Path(args.output_dir)
    model, processor = open_model(args.model, args.data_dir, out, args.overwrite)
    dtype = dtype_of(args.model)
    cache = Path(args.cache_dir or out / "seen")
    if args.drawing and not model.config.drawing:
        model = with_drawing(model, args.seed)
    train, held = (statistics_of(model, processor, args.data_dir, split, cache) for split in ("train", "validation"))
    if model.config.drawing:
        measure_range(model.style_head, train, dtype)
    areas = train_head(model.style_head, train, held, args, model.config.temperature)
    print(f"held-out styles told apart: {areas[0]:.4f} before, {max(areas):.4f} after")
    model.to(dtype).save_pretrained(out)
    processor.save_pretrained(out)
    return areas


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    return run_command(HeadArguments, run, "train.style_encoder_head", __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
