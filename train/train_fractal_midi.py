"""Trains FractalMidi on piano rolls.

    python -m intermezzo.datasets_scripts.build_midi --out data/midi
    accelerate launch train fractal_midi --data data/midi --output_dir RUN --max_minutes 120 --schedule_by time
    accelerate launch train fractal_midi --data data/midi --output_dir RUN --generator_types ar mar mar mar ...
    accelerate launch train fractal_midi --data data/midi --output_dir RUN --baseline pixel_ar ...

`--smoke` takes 4 steps of a small model on made-up tunes. `tensorboard --logdir RUN` shows `train/loss`, `val_loss`
and, every `--log_images_every_n_steps`, rolls of the validation set, generated ones, and how one of them grew.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..processing.errors import InputError
from ..processing.piano_roll import FIRST_ONSET, NUM_LOUDNESS, codes_in_all
from .arguments import TrainingArguments, check_choices, option, parse_arguments

PRESETS = ("base", "small")


@dataclass
class FractalMidiArguments:
    """What only FractalMidi's training needs."""

    data: str = option("", "folder made by build_midi, or of packed arrays (codes.npy, conditions.npy)")
    preset: str = option("base", "size of a new model", choices=PRESETS)
    generator_types: list[str] = option([], "ar or mar for each of the 4 levels; a new model without is all mar")  # noqa: RUF009
    baseline: str = option("none", "train a baseline with as many parameters instead", choices=("none", "pixel_ar"))
    model: str = option("", "model folder to go on from; with --generator_types, they must be its own")
    conditions: bool = option(True, "learn to follow attributes")
    condition_dropout: float = option(0.1, "part of the rolls that hide their conditions, for guidance")
    dropout: float = option(0.0, "dropout in the transformers of a new model")
    transpose: int = option(5, "transpose each training roll by up to so many semitones")
    fill_rate: float = option(0.3, "part of the training rolls of which only a part is hidden, as in inpainting")
    limit: int = option(0, "take so many training rolls only; 0: all")
    validation_rolls: int = option(128, "rolls of the validation set to evaluate on; 0: none")
    num_iter_list: list[int] = option([8, 4, 2, 1], "steps of each mar level when pictures are made")  # noqa: RUF009
    log_images_every_n_steps: int = option(0, "show generated rolls every so many steps; 0: never")
    num_images_to_log: int = option(4, "rolls to show each time")
    gradient_checkpointing: bool = option(False, "compute layers twice to save memory")
    smoke: bool = option(False, "4 steps of a small model on made-up tunes")


def build_model(
    args: FractalMidiArguments,
    names: Sequence[str],
    sizes: Sequence[int],
    size: Any,
    loudness_classes: int = NUM_LOUDNESS,
) -> Any:
    """The model to train, new or from a folder.

    Raises:
        InputError: The rolls, the conditions or the generator types are not those of the checkpoint.
    """
    from ..configuration.configuration_fractal_midi import PRESETS as MAKE
    from ..modeling.modeling_fractal_midi import FractalMidiModel
    from .fractal_midi_data import check_classes

    if args.model:
        asked = {"generator_types": tuple(args.generator_types)} if args.generator_types else {}
        model = FractalMidiModel.from_pretrained(args.model, **asked)
        check_classes(args.model, model.config.num_codes - FIRST_ONSET, loudness_classes)
        if tuple(model.config.attribute_sizes) != tuple(sizes):
            raise InputError(
                args.model, f"has attributes of {list(model.config.attribute_sizes)} bins, the data of {list(sizes)}"
            )
    else:
        changes: dict[str, Any] = {"condition_dropout": args.condition_dropout, "dropout": args.dropout}
        changes |= {"attribute_names": tuple(names), "attribute_sizes": tuple(sizes)}
        changes["num_codes"] = codes_in_all(loudness_classes)
        if args.generator_types:
            changes["generator_types"] = tuple(args.generator_types)
        try:
            config = MAKE[args.preset](**changes)
        except Exception as error:  # huggingface_hub wraps what a validator raises
            raise InputError(None, str(error.__cause__ or error).splitlines()[-1].strip()) from error
        model = FractalMidiModel(config)
    if tuple(model.config.level_sizes[0]) != tuple(size):
        raise InputError(
            args.data or None, f"holds rolls of {tuple(size)}, the model takes {model.config.level_sizes[0]}"
        )
    if args.gradient_checkpointing:
        from .loop_support import checkpoint_activations

        checkpoint_activations(model)
    return model


def prepare_data(args: FractalMidiArguments) -> tuple[Any, Any, Any, list[str], list[int]]:
    """Training rolls, validation rolls or `None`, processor or `None`, and names and sizes of the attributes.

    Raises:
        InputError: There are no such rolls, or those of the splits or of the checkpoint have other loudness classes.
    """
    from ..processing.processing_fractal_midi import FractalMidiProcessor
    from .fractal_midi_data import check_classes, made_up_rolls, packed_attributes, read_rolls

    validation: Any = None
    if args.smoke:
        train, validation = made_up_rolls(12), made_up_rolls(4, seed=1)
    else:
        train = read_rolls(args.data, "train", args.limit)
        if args.validation_rolls:
            try:
                validation = read_rolls(args.data, "validation", args.validation_rolls)
            except InputError as error:  # a few files can all fall to the training
                raise InputError(error.path, f"{error.message}; --validation_rolls 0 trains without") from error
            check_classes(f"{args.data} (validation)", validation.loudness_classes, train.loudness_classes)
    if train.about[0].get("values") is None:
        names, sizes = packed_attributes(args.data, train) if args.conditions else ([], [])
        return train, validation, None, names, sizes
    if args.model:
        processor = FractalMidiProcessor.from_pretrained(args.model)
        check_classes(args.model, processor.loudness_classes, train.loudness_classes)
    else:
        sources, classes = train.sources(), train.loudness_classes
        if args.conditions:
            shown = sources if len(sources) > 1 else ()
            processor = FractalMidiProcessor(source_names=shown, loudness_classes=classes)
        else:
            processor = FractalMidiProcessor(attribute_names=(), loudness_classes=classes)
    return train, validation, processor, processor.condition_names, processor.condition_sizes


def run(args: FractalMidiArguments, training: TrainingArguments) -> Any:
    """Reads the data, builds the model, trains."""
    import torch

    from ..modeling.fractal_inputs import keep_conditions
    from ..painting import check_kind
    from .fractal_midi_data import RollCollate, known_conditions, measure_keys
    from .fractal_midi_evaluation import Pictures, evaluate_rolls, measured_loss
    from .loop import train

    check_choices(args)
    if args.model:
        check_kind(args.model)
    rolls, validation, processor, names, sizes = prepare_data(args)
    torch.manual_seed(training.seed)
    model = build_model(args, names, sizes, rolls.size, rolls.loudness_classes)
    if not model.config.key_profiles:
        model.config.update(measure_keys(rolls))
    if processor is not None and processor.condition_names and not model.config.known_conditions:
        keep_conditions(model, known_conditions(rolls, processor))
    if args.baseline == "pixel_ar":
        return train_pixel_ar(model, args, training, rolls, validation, processor)
    plain = RollCollate(processor, loudness_classes=rolls.loudness_classes)
    evaluate = None
    callbacks: list[Any] = []
    if validation is not None:
        evaluate = partial(evaluate_rolls, rolls=validation, collate=plain, batch_size=training.batch_size)
        callbacks.append(
            Pictures(
                training.output_dir, validation, plain, args.log_images_every_n_steps, args.num_images_to_log,
                args.num_iter_list,
            )
        )  # fmt: skip
    return train(
        model,
        rolls,
        training,
        collate=RollCollate(processor, args.transpose, args.fill_rate, rolls.loudness_classes),
        loss_fn=measured_loss,
        evaluate_fn=evaluate,
        callbacks=callbacks,
        processor=processor,
    )


def train_pixel_ar(
    model: Any, args: FractalMidiArguments, training: TrainingArguments, rolls: Any, validation: Any, processor: Any
) -> Any:
    """Trains the pixel-AR transformer with as many parameters as `model` has, on the same rolls."""
    import torch

    from .baseline_pixel_ar import PixelARConfig, PixelARModel, evaluate_pixel_ar
    from .fractal_midi_data import RollCollate
    from .loop import train

    torch.manual_seed(training.seed)
    classes, parameters = rolls.loudness_classes, sum(p.numel() for p in model.parameters())
    config = PixelARConfig.like(parameters, size=tuple(rolls.size), num_codes=codes_in_all(classes))
    evaluate = None
    if validation is not None and not args.smoke:  # a roll takes seconds
        evaluate = partial(evaluate_pixel_ar, rolls=validation, collate=RollCollate(loudness_classes=classes))
    collate = RollCollate(processor, args.transpose, 0.0, classes)  # conditions and masks are not looked at
    return train(PixelARModel(config), rolls, training, collate=collate, evaluate_fn=evaluate)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the training; see the module's text for the commands."""
    flags = list(sys.argv[1:] if argv is None else argv)
    if "--smoke" in flags:
        flags += ["--max_steps", "4"]
    args, training = parse_arguments((FractalMidiArguments, TrainingArguments), flags, prog="train fractal_midi")
    if args.smoke:
        args = replace(args, preset="small", log_images_every_n_steps=4, num_images_to_log=1)
        training = replace(training, max_minutes=0.0, num_epochs=0.0, batch_size=2, logging_steps=1, overwrite=True)
    elif not args.data:
        raise InputError(None, "say what to train on: --data FOLDER (made by build_midi)")
    run(args, training)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
