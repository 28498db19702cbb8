"""Trains Museformer on bars of music.

    python -m intermezzo.datasets_scripts.build_midi --tokens --out data/bars
    accelerate launch train museformer --data data/bars --output_dir RUN --max_minutes 90 --schedule_by time \
        --mixed_precision bf16
    accelerate launch train museformer --data data/bars --output_dir FULL --preset full ...   (what it is compared with)

`--smoke` takes 4 steps of a tiny model on made-up tunes. The evaluation tells the perplexity of held-out music without
a plan, the loss with the bars' own summaries as a plan, and how much those summaries hold.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..processing.errors import InputError
from .arguments import TrainingArguments, option, parse_arguments

PRESETS = ("base", "small", "tiny", "full", "small_full")


@dataclass
class MuseformerArguments:
    """What only Museformer's training needs."""

    data: str = option("", "folder made by build_midi --tokens")
    preset: str = option(
        "base", "size of a new model; full, small_full: full attention, to compare with", choices=PRESETS
    )
    model: str = option("", "model folder to go on from")
    fine_bars: list[int] = option([], "how far back bars are seen word by word; 1 2 4 8 12 16 24 32 without")  # noqa: RUF009
    summary_size: int = option(32, "numbers in a new model's summaries")
    summary_noise: float = option(0.5, "noise upon the numbers of a summary in training, whose spread is 1")
    bag_weight: float = option(0.5, "how much it counts to tell the words of a bar from its summary, in no order")
    kl_weight: float = option(0.0, "how much the summaries are held near a normal distribution")
    plan_dropout: float = option(0.5, "part of the bars that do not see their own summary")
    alone_rate: float = option(0.2, "part of the fully planned rows whose bars see each other's summaries only")
    dropout: float = option(0.1, "dropout of a new model")
    min_bars: int = option(16, "bars of a row at least (fewer where the chunk is shorter)")
    max_bars: int = option(32, "bars of a row at most, up to 64")
    max_tokens: int = option(2048, "words of a row at most")
    transpose: int = option(5, "transpose each row by up to so many semitones")
    tempo: float = option(0.15, "make each row faster or slower by up to this part")
    limit: int = option(0, "take so many training chunks only; 0: all")
    validation_chunks: int = option(48, "chunks of the validation set to evaluate on; 0: none")
    gradient_checkpointing: bool = option(False, "compute layers twice to save memory")
    smoke: bool = option(False, "4 steps of a tiny model on made-up tunes")

    def __post_init__(self) -> None:
        if not 1 <= self.min_bars <= self.max_bars:
            raise InputError(None, f"min_bars {self.min_bars} and max_bars {self.max_bars}: 1 or more, in this order")
        if self.max_tokens < 64 or self.tempo < 0:
            raise InputError(None, f"max_tokens {self.max_tokens} must be at least 64, tempo {self.tempo} at least 0")


def build_model(args: MuseformerArguments) -> Any:
    """The model to train, new or from a folder.

    Raises:
        InputError: A value that the configuration refuses.
    """
    from ..configuration.configuration_museformer import PRESETS as MAKE
    from ..modeling.modeling_museformer import MuseformerForCausalLM

    training = ("summary_noise", "kl_weight", "bag_weight", "plan_dropout", "alone_rate")
    changes: dict[str, Any] = {name: getattr(args, name) for name in training}
    try:
        if args.model:
            model = MuseformerForCausalLM.from_pretrained(args.model, **changes)
        else:
            changes |= {"dropout": args.dropout, "summary_size": args.summary_size}
            changes |= {"fine_bars": tuple(args.fine_bars)} if args.fine_bars else {}
            model = MuseformerForCausalLM(MAKE[args.preset](**changes))
    except OSError as error:
        raise InputError(args.model, f"no model is there ({str(error).splitlines()[0]})") from error
    except Exception as error:  # huggingface_hub wraps what a validator raises
        raise InputError(args.model or None, str(error.__cause__ or error).splitlines()[-1].strip()) from error
    if args.gradient_checkpointing:
        from .loop_support import checkpoint_activations

        checkpoint_activations(model)
    return model


def prepare_data(args: MuseformerArguments) -> tuple[Any, Any]:
    """Training chunks, and validation chunks or `None`."""
    from .museformer_data import made_up_pieces, read_pieces

    if args.smoke:
        return made_up_pieces(8), made_up_pieces(2, seed=1)
    middle = (args.min_bars + args.max_bars) / 2
    train = read_pieces(args.data, "train", args.limit, middle)
    validation = read_pieces(args.data, "validation", args.validation_chunks) if args.validation_chunks else None
    return train, validation


def run(args: MuseformerArguments, training: TrainingArguments) -> Any:
    """Reads the data, builds the model, trains."""
    import torch

    from ..processing.processing_museformer import BarMidiProcessor
    from .loop import train
    from .museformer_data import BarCollate, evaluate_pieces, measured_loss

    pieces, validation = prepare_data(args)
    print(f"{len(pieces.ids)} chunks, {pieces.num_tokens} words, {len(pieces)} rows an epoch", file=sys.stderr)
    torch.manual_seed(training.seed)
    model = build_model(args)
    evaluate = None
    if validation is not None:
        plain = BarCollate(args.max_bars, args.max_bars, args.max_tokens)
        evaluate = partial(evaluate_pieces, pieces=validation, collate=plain, batch_size=training.batch_size)
    return train(
        model,
        pieces,
        training,
        collate=BarCollate(args.min_bars, args.max_bars, args.max_tokens, args.transpose, args.tempo),
        loss_fn=measured_loss,
        evaluate_fn=evaluate,
        processor=BarMidiProcessor(),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the training; see the module's text for the commands."""
    flags = list(sys.argv[1:] if argv is None else argv)
    if "--smoke" in flags:
        flags += ["--max_steps", "4"]
    args, training = parse_arguments((MuseformerArguments, TrainingArguments), flags, prog="train museformer")
    if args.smoke:
        args = replace(args, preset="tiny")
        training = replace(training, max_minutes=0.0, num_epochs=0.0, batch_size=2, logging_steps=1, overwrite=True)
    elif not args.data:
        raise InputError(None, "say what to train on: --data FOLDER (made by build_midi --tokens)")
    run(args, training)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
