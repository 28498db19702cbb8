"""Trains ScoreVLM, stage by stage.

    accelerate launch train score_vlm --stage pack --data DIR --packed PACKED      # Parquet to canvases, once
    accelerate launch train score_vlm --stage tower --packed PACKED --output_dir RUN/tower --max_minutes 60
    accelerate launch train score_vlm --stage lm --packed PACKED --output_dir RUN/lm --max_minutes 10
    accelerate launch train score_vlm --stage projector --packed PACKED --tower RUN/tower/best --lm RUN/lm/best ...
    accelerate launch train score_vlm --stage instruct --packed PACKED --model RUN/projector/best ...

*tower*: dense labels. *lm*: alphaTex as text. *projector*: tower and language model frozen. *instruct*: projector, and the
language model by LoRA or whole; the tower too when asked. `--smoke` runs 4 steps of a tiny model on systems made up on
the spot, to see that everything fits together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from .arguments import TrainingArguments, option, parse_arguments

STAGES = ("pack", "tower", "lm", "projector", "instruct")


@dataclass
class ScoreVLMArguments:
    """What only ScoreVLM's training needs."""

    stage: str = option("tower", "which stage to run", choices=STAGES)
    data: str = option("", "stage pack: folder of Parquet files made by build_score_tab")
    packed: list[str] = option([], "packed folders to train on")
    packed_validation: list[str] = option([], "packed folders to choose the best weights on")
    validation_systems: int = option(300, "systems of the validation set that are read at each evaluation")
    pixels: int = option(4_000_000, "pixels of a batch of pictures; systems of like size come together")
    tower: str = option("", "model folder of a trained tower")
    lm: str = option("", "model folder of a trained language model")
    model: str = option("", "model folder of a ScoreVLM to go on from")
    train_tower: bool = option(False, "stage instruct: the tower learns too, from text and dense labels")
    lora_rank: int = option(0, "stage instruct: rank of LoRA on the language model; 0: all its weights learn")
    hidden_size: int = option(256, "width of a new language model")
    num_layers: int = option(6, "layers of a new language model")
    smoke: bool = option(False, "4 steps of a tiny model on made-up systems")


def run_tower(args: ScoreVLMArguments, training: TrainingArguments) -> Any:
    """Dense labels: strings × columns, beats, bars."""
    from ..configuration.configuration_score_tower import ScoreTowerConfig
    from ..modeling.modeling_score_tower import ScoreTowerModel
    from .loop import train
    from .score_vlm_data import Buckets, DenseCollate, PackedSystems
    from .score_vlm_evaluation import evaluate_tower

    systems = PackedSystems(args.packed)
    if args.tower:
        model = ScoreTowerModel.from_pretrained(args.tower)
    else:
        model = ScoreTowerModel(ScoreTowerConfig(labels=systems.space))
    validation = PackedSystems(args.packed_validation) if args.packed_validation else None
    evaluate = None
    if validation is not None:
        evaluate = lambda m: evaluate_tower(m, validation, args.validation_systems)  # noqa: E731
    training.batch_size = 1  # a row is a bucket, which is a batch already
    return train(
        model,
        Buckets(systems, args.pixels, training.seed),
        training,
        collate=DenseCollate(systems.space, augment=True),
        loss_fn=tower_loss,
        evaluate_fn=evaluate,
    )


def tower_loss(model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    out = model(**batch)
    return out.loss, out.losses


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one stage; see the module's text for the commands."""
    args, training = parse_arguments((ScoreVLMArguments, TrainingArguments), argv, prog="train score_vlm")
    if args.stage != "pack" and not args.packed and not args.smoke:
        raise InputError(None, "say what to train on: --packed FOLDER (made by --stage pack)")
    stages = {"tower": run_tower}
    stages[args.stage](args, training)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
