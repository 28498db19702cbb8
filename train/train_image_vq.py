"""Trains ImageVQ, the picture tokenizer of NativeVLM, on packed folders (`train score_vlm --stage pack`).

    accelerate launch train image_vq --packed PACKED --packed_validation HELD_OUT --output_dir RUN --max_minutes 30 \
        --schedule_by time --mixed_precision bf16
    accelerate launch train image_vq --packed PACKED --output_dir RUN --codebook vq --max_steps 5000
    accelerate launch train image_vq --stage codebook --packed PACKED --output_dir GLYPHS     # small pictures, then
    accelerate launch train image_vq --packed PACKED --model GLYPHS --decoder_only --output_dir RUN --max_minutes 20
    accelerate launch train image_vq --stage eyes --model RUN/best --tower checkpoints/score_vlm --output_dir SEEING
    accelerate launch train image_vq --stage probe --model RUN/best --tower TOWER --packed_validation HELD_OUT

Pictures are cropped to their ink, with tab lines 8 px apart; a system of one or two bars is then 200 to 600 codes.
*eyes* lets codes be chosen by looks (`modeling/image_vq_choosing.py`); nothing is trained. *probe* compares what a
dense tower reads before and after the codes. `--smoke` takes 4 steps of a tiny model on systems drawn on the spot.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from .arguments import TrainingArguments, option, parse_arguments


@dataclass
class ImageVQTrainingArguments(TrainingArguments):
    """The loop's settings, with this model's own defaults."""

    output_dir: str = option("runs/image_vq", "folder for checkpoints, logs, best/ and final/")
    learning_rate: float = option(2e-3, "peak learning rate")
    warmup_steps: int = option(100, "steps of linear warm-up")
    metric_for_best: str = option("stroke_f1_exact", "figure of the evaluation that decides which weights are best")
    greater_is_better: bool = option(True, "whether a larger figure is better")

    def __post_init__(self) -> None:
        if not (self.max_steps or self.num_epochs or self.max_minutes):
            self.num_epochs = 3.0
        super().__post_init__()


@dataclass
class ImageVQArguments:
    """What only ImageVQ's training needs."""

    stage: str = option(
        "train",
        "train; codebook: find small pictures by k-means; eyes: choose among them by looks; probe: what a reader reads;"
        " borrow: take one of transformers",
        choices=("train", "codebook", "eyes", "probe", "borrow"),
    )
    packed: list[str] = option([], "packed folders to train on")  # noqa: RUF009 - as `dataclasses.field`
    packed_validation: list[str] = option([], "packed folders to choose by")  # noqa: RUF009
    validation_pictures: int = option(200, "pictures of the validation set that are looked at")
    model: str = option("", "model folder to go on from, or to probe")
    tower: str = option("", "folder of a ScoreTower, or of a ScoreVLM that has one: eyes of a new model; probe: reader")
    preset: str = option("strings", "kind of a new model", choices=("tiny", "base", "strings", "square"))
    codebook_systems: int = option(6000, "stage codebook: systems to take patches from")
    codebook_patches: int = option(250_000, "stage codebook: different patches at most")
    codebook_rounds: int = option(12, "stage codebook: rounds of k-means")
    codebook: str = option("", "of a new model: vq or fsq; empty: the preset's own", choices=("", "vq", "fsq"))
    codebook_size: int = option(0, "codes of a new vq model; 0: 2,048")
    fsq_levels: list[int] = option([], "levels of a new fsq model; empty: the preset's own")  # noqa: RUF009
    codebook_warmup: int = option(400, "steps in which the decoder of a new vq model sees features, not yet codes")
    read_only: bool = option(False, "only the head that reads the codes learns: a first stage, three times as fast")
    decoder_only: bool = option(False, "the codes stay what they are, and what was built with them good; needs --model")
    decoder_table: bool = option(False, "give the decoder a table of the codes, if it has none")
    decoder_channels: list[int] = option([], "give a model of small pictures a new decoder of these widths")  # noqa: RUF009
    decoder_depth: int = option(3, "residual blocks of that new decoder at the size of the codes")
    looks_weight: float = option(0.0, "how much pictures have to look like the originals to the eyes of --tower")
    chosen_pictures: int = option(0, "with --decoder_only: learn so many pictures, their codes chosen by looks; 0: off")
    digit_weight: float = option(-1.0, "how much more a pixel on a digit counts; below 0: as the model has it")
    fsq_dither: float = option(0.5, "part of an fsq model's numbers that get noise instead of being rounded")
    adversarial_weight: float = option(0.0, "weight of the discriminator in a new model; 0: there is none")
    candidates: int = option(32, "stage eyes: small pictures that are looked at for a patch that none matches")
    max_bars: int = option(2, "longest systems, in bars; 0: all")
    max_columns: int = option(128, "widest systems, in patches")
    pixels: int = option(700_000, "pixels of the canvases of a batch; pictures of like size come together")
    augment: float = option(0.3, "part of the pictures that is moved, scaled, blurred a little")
    snap: float = option(0.0, "part of the pictures whose beats are moved to the middle of columns, as NativeVLM draws")
    smoke: bool = option(False, "4 steps of a tiny model on made-up systems")


def label_space(folders: Sequence[str]) -> dict[str, list[str]]:
    """Names of the signs that packed systems are labelled with, by kind."""
    from ..modeling.image_vq_reading import BAR_SIGNS, BEAT_SIGNS, NOTE_SIGNS
    from .score_vlm_data import PackedSystems

    space = PackedSystems(folders[:1]).space  # the first folder's names are those of all: the others are told in them
    return space if any(space[name] for name in (*NOTE_SIGNS, *BEAT_SIGNS, *BAR_SIGNS)) else {}


def build_model(args: ImageVQArguments, labels: dict[str, list[str]] | None = None) -> Any:
    """A new model of the preset, which reads the signs that `labels` name, or the one to go on from."""
    from ..configuration.configuration_image_vq import PRESETS
    from ..modeling.image_vq_tower import copy_eyes, tower_sizes
    from ..modeling.modeling_image_vq import ImageVQModel

    if args.model:
        if not (Path(args.model) / "config.json").is_file():
            raise InputError(args.model, "is no model folder")
        model = ImageVQModel.from_pretrained(args.model)
        return set_losses(model, args)
    changes: dict[str, Any] = {name: getattr(args, name) for name in ("adversarial_weight", "codebook_warmup")}
    if labels and PRESETS[args.preset]().reading_weight:
        changes["reading_labels"] = labels
    if args.codebook:
        changes |= {"codebook": args.codebook, "codebook_size": None}
    if args.codebook_size:
        changes["codebook_size"] = args.codebook_size
    if args.fsq_levels:
        changes["fsq_levels"] = args.fsq_levels
    tower = load_tower(args.tower) if args.tower else None
    if tower is not None:
        changes["tower"] = tower_sizes(tower.config)
    try:
        model = ImageVQModel(PRESETS[args.preset](**changes))
    except ValueError as error:
        raise InputError(None, str(error)) from error
    if tower is not None:
        copy_eyes(model.encoder, tower)
    return set_losses(model, args)


def set_losses(model: Any, args: ImageVQArguments) -> Any:
    """What this stage learns from."""
    config, usual = model.config, type(model.config)
    if config.borrowed is None and config.codebook == "fsq":
        config.fsq_dither = model.quantizer.dither = args.fsq_dither
    if args.digit_weight >= 0:
        config.digit_weight = args.digit_weight
    if args.decoder_channels:
        if not args.decoder_only:
            raise InputError(None, "decoder_channels goes with --decoder_only")
        model.renew_decoder(args.decoder_channels, args.decoder_depth)
        config = model.config
    if args.decoder_table and not config.decoder_table and config.borrowed is None:
        model.add_table()
    for name in ("pixel_weight", "edge_weight"):
        if args.read_only or not getattr(config, name):
            setattr(config, name, 0.0 if args.read_only else getattr(usual, name))
    if args.decoder_only:
        if not args.model or args.read_only or config.borrowed is not None:
            raise InputError(None, "decoder_only goes on from a model of ours (--model FOLDER), and not with read_only")
        model.keep_codes()
    if args.read_only and not config.reading_weight:
        raise InputError(None, "read_only asks for a model that has a head to read: --preset strings")
    return model


def load_tower(folder: str) -> Any:
    """A dense tower, by itself or out of a ScoreVLM, in float32."""
    from transformers import AutoConfig

    from ..modeling.modeling_score_tower import ScoreTowerModel
    from ..modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration

    if not (Path(folder) / "config.json").is_file():
        raise InputError(folder, "is no model folder")
    if AutoConfig.from_pretrained(folder).model_type == "score_vlm":
        return ScoreVLMForConditionalGeneration.from_pretrained(folder).vision_tower.float().eval()
    return ScoreTowerModel.from_pretrained(folder).float().eval()


def image_vq_loss(model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The loss, and its parts for the log."""
    out = model(**batch)
    return out.loss, out.losses


def pictures_of(args: ImageVQArguments, folders: list[str], model: Any, augment: float, learnt: bool = False) -> Any:
    """Grid pictures of packed folders for this model; those it learns from are labelled in its own order."""
    from .image_vq_data import GridPictures
    from .score_vlm_data import PackedSystems

    systems = PackedSystems(folders, model.config.reading_labels if learnt else None)
    snap = args.snap if learnt else 0.0
    return GridPictures(systems, model.config.geometry, args.max_bars, args.max_columns, augment, snap)


def chosen_pictures(args: ImageVQArguments, pictures: Any, model: Any, training: TrainingArguments) -> Any:
    """Pictures with the codes that the model gives them outside training."""
    from tqdm import tqdm

    from .image_vq_data import ChosenPictures

    if not (args.decoder_only and model.config.candidates):
        raise InputError(None, "chosen_pictures goes with --decoder_only and a --model that has eyes (--stage eyes)")
    model.float().eval()
    bar = lambda rows: tqdm(rows, "choose codes", unit="picture", disable=not training.progress)  # noqa: E731
    return ChosenPictures(pictures, model, args.chosen_pictures, bar)


def run_train(args: ImageVQArguments, training: TrainingArguments) -> Any:
    """Trains; returns the loop's result."""
    from .image_vq_data import PictureCollate
    from .image_vq_evaluation import evaluate_image_vq
    from .loop import train
    from .score_vlm_data import Buckets

    model = build_model(args, label_space(args.packed))
    if model.config.borrowed is not None:
        raise InputError(args.model, "is a borrowed tokenizer, which does not learn; train NativeVLM with it as it is")
    pictures = pictures_of(args, args.packed, model, args.augment, learnt=True)
    if args.chosen_pictures:
        pictures = chosen_pictures(args, pictures, model, training)
    evaluate = None
    if args.packed_validation:
        held_out = pictures_of(args, args.packed_validation, model, 0.0)
        evaluate = lambda m: evaluate_image_vq(m, held_out, args.validation_pictures)  # noqa: E731
    loss = image_vq_loss
    if args.looks_weight:
        if not args.tower or args.read_only:
            raise InputError(None, "looks_weight needs the eyes of a tower (--tower FOLDER), and not read_only")
        from .image_vq_looks import LossWithLooks

        loss = LossWithLooks(load_tower(args.tower), args.looks_weight)
    training.batch_size = 1  # a row is a bucket, which is a batch already
    return train(
        model,
        Buckets(pictures, args.pixels, training.seed),
        training,
        collate=PictureCollate(model.config.geometry, model.config.reading_labels),
        loss_fn=loss,
        evaluate_fn=evaluate,
        processor=processor_of(model),
    )


def processor_of(model: Any) -> Any:
    """The processor that goes with a model."""
    from ..processing.image_processing_score import ScoreImageProcessor
    from ..processing.processing_image_vq import ImageVQProcessor

    return ImageVQProcessor.for_model(model.config, ScoreImageProcessor())


def run_codebook(args: ImageVQArguments, training: TrainingArguments) -> dict[str, float]:
    """Finds the small pictures of a new model and saves it; its decoder only puts them side by side."""
    from .image_vq_patches import fit_patches

    if not args.packed:
        raise InputError(None, "say where to take patches from: --packed FOLDER")
    model = build_model(replace(args, preset="glyphs", model=""))
    pictures = pictures_of(args, args.packed, model, 0.0, learnt=True)
    sizes = (args.codebook_systems, args.codebook_patches, args.codebook_rounds)
    figures = fit_patches(model, pictures, *sizes, seed=training.seed)
    model.save_pretrained(training.output_dir)
    processor_of(model).save_pretrained(training.output_dir)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}, indent=1))
    return figures


def run_eyes(args: ImageVQArguments, training: TrainingArguments) -> None:
    """Gives a model of small pictures the eyes of a tower; nothing is trained."""
    if not (args.model and args.tower):
        raise InputError(None, "say whose eyes to give to what: --tower FOLDER --model FOLDER")
    from ..modeling.image_vq_choosing import give_eyes

    model = build_model(replace(args, tower=""))
    give_eyes(model, load_tower(args.tower), args.candidates)
    model.to(model.dtype).save_pretrained(training.output_dir)
    processor_of(model).save_pretrained(training.output_dir)


def run_probe(args: ImageVQArguments) -> dict[str, float]:
    """Figures of the tokenizer and of the reader, printed as JSON."""
    from .image_vq_evaluation import digit_probe, evaluate_image_vq

    if not (args.model and args.packed_validation):
        raise InputError(None, "say what to probe and on what: --model FOLDER --packed_validation FOLDER")
    model = build_model(args).float().eval()
    pictures = pictures_of(args, args.packed_validation, model, 0.0)
    figures = evaluate_image_vq(model, pictures, args.validation_pictures)
    if args.tower:
        figures |= digit_probe(model, load_tower(args.tower), pictures, args.validation_pictures)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}, indent=1))
    return figures


def run_smoke(args: ImageVQArguments, training: TrainingArguments) -> Any:
    """Four steps of a tiny model on systems drawn on the spot."""
    from .score_vlm_pack import generated_rows, pack

    folder = Path(training.output_dir)
    pack(generated_rows(0, 12, "train", 0.0), folder / "packed")
    packed = [str(folder / "packed")]
    args = replace(args, preset="tiny", packed=packed, packed_validation=packed, validation_pictures=4, pixels=200_000)
    common: dict[str, Any] = dict(max_steps=4, max_minutes=0.0, num_epochs=0.0, logging_steps=1, overwrite=True)
    return run_train(replace(args, max_bars=0, max_columns=400), replace(training, **common, schedule_by="steps"))


def main(argv: Sequence[str] | None = None) -> int:
    """Trains or probes; see the module's text for the commands."""
    from .loading import seed_everything

    flags = list(sys.argv[1:] if argv is None else argv)
    args, training = parse_arguments((ImageVQArguments, ImageVQTrainingArguments), flags, prog="train image_vq")
    seed_everything(training.seed)  # the first weights too
    if args.smoke:
        run_smoke(args, training)
    elif args.stage == "codebook":
        run_codebook(args, training)
    elif args.stage == "probe":
        run_probe(args)
    elif args.stage == "eyes":
        run_eyes(args, training)
    elif args.stage == "borrow":
        from ..modeling.modeling_image_vq import borrow_image_vq

        if not args.model:
            raise InputError(None, "say which tokenizer to borrow: --model FOLDER_OR_HUB_NAME")
        model = borrow_image_vq(args.model)
        model.save_pretrained(training.output_dir)
        processor_of(model).save_pretrained(training.output_dir)
    else:
        if not args.packed:
            raise InputError(None, "say what to train on: --packed FOLDER (made by train score_vlm --stage pack)")
        run_train(args, training)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
