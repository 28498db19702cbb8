"""Trains StyleEncoder on pictures with styles and text embeddings.

    accelerate launch train style_encoder --data_dir pairs --model_name tf_efficientnet_lite0 --epochs 50 \
        --batch_size 32 --learning_rate 1e-4 --ignore_targets pooled,mask
    accelerate launch train style_encoder --data_dir grid --cache_dir packs --backbone_weights FILE --image_size 112 \
        --crop_pct 1 --batch_size 128 --pictures_per_style 8 --loss_weights match=1 --channels_last
    accelerate launch train style_encoder --config settings.yaml --resume
    accelerate launch train style_encoder --data_dir pairs --model_name vit_base_patch16_224 --backbone_weights hub \
        --backbone lora --lora_rank 8

`--data_dir` is made by build_style_pairs; a folder of styles as it was collected is turned into Parquet first. There is
a checkpoint after each epoch, and `--resume` goes on from the last. `tensorboard --logdir OUTPUT_DIR` shows the losses,
and how well styles are told apart on the validation split. With `--cache_dir` pictures are decoded once, and a frozen
backbone (`--backbone frozen --crop 1`) looks at each of them once. `--smoke` takes 4 steps of a small model on pictures
that are made up on the spot.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..configuration.configuration_style_encoder import LOSSES, TARGETS
from ..processing.errors import InputError
from .arguments import TrainingArguments, option, parse_arguments, refuse_unknown

_MODEL_OPTIONS = ("style_size", "hidden_size", "loss_weights", "temperature", "match_temperature")
BACKBONES = ("full", "frozen", "partial", "lora")
DEFAULT_EPOCHS = 50.0


@dataclass
class StyleEncoderTrainingArguments(TrainingArguments):
    """The loop's settings, with this model's own defaults."""

    output_dir: str = option("runs/style_encoder", "folder for checkpoints, logs, best/ and final/")
    epochs: float = option(
        0.0, f"passes over the data, as num_epochs; {DEFAULT_EPOCHS:g} where nothing else says how long"
    )
    batch_size: int = option(32, "pictures per batch and process")
    learning_rate: float = option(1e-4, "peak learning rate")

    def __post_init__(self) -> None:
        if self.epochs and self.num_epochs and self.epochs != self.num_epochs:
            raise InputError(None, f"epochs is {self.epochs:g} and num_epochs {self.num_epochs:g}; give one of them")
        limited = self.max_steps or self.max_minutes or self.num_epochs
        self.num_epochs = self.num_epochs or self.epochs or (0.0 if limited else DEFAULT_EPOCHS)
        super().__post_init__()


@dataclass
class StyleEncoderArguments:
    """What only StyleEncoder's training needs."""

    data_dir: str = option("", "folder made by build_style_pairs, or a folder with a folder of pictures for each style")
    model_name: str = option("tf_efficientnet_lite0", "any model of timm, by name")
    backbone_weights: str = option("none", "weights to begin with: none, hub, package:NAME, or a weight file")
    image_size: int = option(0, "side of the pictures in pixels; 0: the backbone's own")
    crop_pct: float = option(0.0, "part of a scaled picture's shorter side that is looked at; 0: the backbone's own")
    cache_dir: str = option("", "keep decoded pictures in this folder; empty: decode them anew in each epoch")
    model: str = option("", "model folder to go on from, in place of a new one on model_name")
    ignore_targets: list[str] = option([], f"targets that are not learnt, of {', '.join(TARGETS)}")  # noqa: RUF009
    backbone: str = option("full", "what of the backbone learns", choices=BACKBONES)
    last_groups: int = option(1, "backbone partial: its last groups of layers learn")
    lora_rank: int = option(8, "backbone lora: rank")
    loss_weights: dict[str, float] = option({}, f"weights of the losses, of {', '.join(LOSSES)}: NAME=WEIGHT …")  # noqa: RUF009
    temperature: float = option(0.1, "of the contrastive losses")
    match_temperature: float = option(0.05, "of the contrastive loss over all names (with cache_dir)")
    name_softness: float = option(0.07, "how freely near synonyms count as right names (with cache_dir); small: not")
    num_tokens: int = option(16, "L, where the data have no targets that say so")
    embed_size: int = option(384, "D, where the data have no targets that say so")
    style_size: int = option(128, "width of a new model's style vector")
    hidden_size: int = option(256, "width inside a new model's heads")
    pictures_per_style: int = option(4, "pictures of one style that come together in a batch")
    shared_contents: float = option(0.5, "part of the batches in which all styles show the same contents")
    crop: float = option(0.85, "each side of a training picture keeps at least this part; 1: whole pictures")
    validation_pictures: int = option(1000, "pictures of the validation split to evaluate on; 0: do not evaluate")
    smoke: bool = option(False, "4 steps of a small model on made-up pictures")


def ignored_targets(values: Sequence[str]) -> list[str]:
    """`pooled,mask` or `pooled mask` as a list.

    Raises:
        InputError: There is no such target.
    """
    names = [name for value in values for name in value.split(",") if name]
    refuse_unknown(names, TARGETS, what="target")
    return names


def prepare_data(args: StyleEncoderArguments, training: Any) -> Path:
    """The folder with Parquet files; a folder of pictures becomes one under the output folder.

    Raises:
        InputError: No such folder, or one of pictures where several processes train.
    """
    from .style_encoder_data import parquet_files

    folder = Path(args.data_dir)
    if not folder.is_dir():
        raise InputError(folder, "no such folder; make the data with build_style_pairs")
    if parquet_files(folder, "train"):
        return folder
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            folder, "holds no Parquet files; make them with build_style_pairs before several processes train"
        )
    from ..datasets_scripts.build_style_pairs import build
    from ..datasets_scripts.style_sources import FolderSource

    out = Path(training.output_dir) / "pairs"
    report = build(
        out, [FolderSource(folder)], ignore_targets=args.ignore_targets, test=0.0, validation=0.1,
        settings={"sources": [str(folder)]}, progress=training.progress,
    )  # fmt: skip
    if report["failures"]:
        print(f"{out / 'failures.tsv'}: {report['failures']} files failed and are left out", file=sys.stderr)
    if not report["rows"].get("train"):
        raise InputError(folder, f"gave no picture to train on; {out / 'failures.tsv'} says why")
    return out


def build_model(args: StyleEncoderArguments, length: int | None, width: int | None, styles: Sequence[str]) -> Any:
    """Model and processor, new or from a folder.

    Raises:
        InputError: An unknown backbone, weights of another one, or settings that can not work.
    """
    import timm

    from ..modeling.modeling_style_encoder import StyleEncoderModel
    from ..processing.processing_style_encoder import StyleEncoderProcessor

    if args.model:
        _check_kind(Path(args.model))
        model = StyleEncoderModel.from_pretrained(args.model, ignore_targets=tuple(args.ignore_targets))
        model.config.style_names = tuple(styles)
        model.config.loss_weights = {**model.config.loss_weights, **args.loss_weights}
        processor = StyleEncoderProcessor.from_pretrained(args.model)
    else:
        known = timm.get_pretrained_cfg(args.model_name) if timm.is_model(args.model_name) else None
        fixed = args.image_size and known is not None and known.fixed_input_size
        options: dict[str, Any] = {"model_args": {"img_size": args.image_size} if fixed else {}}
        options |= {"num_tokens": length or args.num_tokens, "embed_size": width or args.embed_size}
        options |= {name: getattr(args, name) for name in _MODEL_OPTIONS}
        options |= {"ignore_targets": tuple(args.ignore_targets), "style_names": tuple(styles)}
        try:
            model = StyleEncoderModel.from_backbone(args.model_name, args.backbone_weights, **options)
        except InputError:
            raise
        except Exception as error:  # huggingface_hub wraps what a validator raises
            raise InputError(None, str(error.__cause__ or error).splitlines()[-1].strip()) from error
        changes = {"crop_pct": args.crop_pct} if args.crop_pct else {}
        processor = StyleEncoderProcessor.from_backbone(
            args.model_name, options["model_args"], args.image_size, **changes
        )
    model.set_backbone_learning(args.backbone, args.last_groups, args.lora_rank)
    for target in args.ignore_targets:
        getattr(model, f"{target}_head").requires_grad_(False)
    return model, processor


def _check_kind(folder: Path) -> None:
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(folder, "holds no config.json that can be read, so it is no model folder") from error
    if kind != "style_encoder":
        raise InputError(folder, f"is a checkpoint of {kind!r}; give one of 'style_encoder'")


def text_encoder_of(folder: Path) -> str:
    """The text encoder that made a data set's targets, "" where that is not known."""
    path = folder / "build.json"
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("encoder", ""))
    except (OSError, ValueError):
        return ""


def run(args: StyleEncoderArguments, training: Any) -> Any:
    """Reads the data, builds the model, trains."""
    import torch

    from .loop import train
    from .style_encoder_data import StylePictures

    folder = prepare_data(args, training)
    known = StylePictures(folder, "train")
    torch.manual_seed(training.seed)
    model, processor = build_model(args, *known.sizes(), sorted(known.of_style))
    model.config.text_encoder = model.config.text_encoder or text_encoder_of(folder)
    sources = _packed if args.cache_dir else _decoded
    pictures, collate, evaluate = sources(args, training, folder, model, processor)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    epoch = max(1, len(pictures) // (training.batch_size * processes * training.gradient_accumulation_steps))
    if not (training.save_steps or training.save_minutes):
        training = replace(training, save_steps=epoch)
    if not (training.eval_steps or training.eval_minutes):
        training = replace(training, eval_steps=epoch)
    return train(
        model, pictures, training, collate=collate, loss_fn=style_loss, evaluate_fn=evaluate, processor=processor
    )


def _decoded(args: StyleEncoderArguments, training: Any, folder: Path, model: Any, processor: Any) -> tuple[Any, ...]:
    """Data, collate and evaluation on pictures that are decoded as they are asked for."""
    from .style_encoder_data import StyleCollate, StylePictures, evaluate_pictures, parquet_files

    config = model.config
    pictures = StylePictures(folder, "train", args.pictures_per_style, args.shared_contents)
    make = partial(StyleCollate, processor, config.num_tokens, config.embed_size, ignore_targets=config.ignore_targets)
    evaluate = None
    if args.validation_pictures and parquet_files(folder, "validation"):
        held = StylePictures(folder, "validation", limit=args.validation_pictures)
        plain = make(sorted(held.of_style))
        evaluate = partial(evaluate_pictures, pictures=held, collate=plain, batch_size=training.batch_size)
    return pictures, make(sorted(pictures.of_style), crop=args.crop), evaluate


def _packed(args: StyleEncoderArguments, training: Any, folder: Path, model: Any, processor: Any) -> tuple[Any, ...]:
    """The same on pictures that are decoded once."""
    from .style_encoder_data import evaluate_pictures, parquet_files
    from .style_encoder_pack import NameTable, PackedCollate, PackedPictures, look_once, pack_pictures

    config, once = model.config, args.backbone == "frozen" and args.crop >= 1
    wanted = ["train"]
    if args.validation_pictures and parquet_files(folder, "validation"):
        wanted.append("validation")
    folders = {split: pack_pictures(folder, split, processor, args.cache_dir, training.progress) for split in wanted}
    packs = {name: PackedPictures(place) for name, place in folders.items()}
    seen = {name: look_once(model, pack, processor) if once else None for name, pack in packs.items()}
    pictures = PackedPictures(folders["train"], args.pictures_per_style, args.shared_contents)
    by_name = config.loss_weights["match"] and "pooled" in pictures.targets
    names = NameTable(pictures, args.name_softness) if by_name else None
    make = partial(PackedCollate, processor=processor, ignore_targets=config.ignore_targets)
    collate = make(
        pictures, style_names=sorted(pictures.of_style), crop=args.crop, names=names, features=seen["train"]
    )  # fmt: skip
    evaluate = None
    if "validation" in packs:
        held = packs["validation"]
        plain = make(held, style_names=sorted(held.of_style), features=seen["validation"])
        evaluate = partial(evaluate_pictures, pictures=held, collate=plain, batch_size=training.batch_size)
    return pictures, collate, evaluate


def style_loss(model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The loss, and its parts for the log.

    Raises:
        InputError: Nothing in the batch can be learnt from.
    """
    out = model(**batch)
    if out.loss is None:
        raise InputError(None, "there is nothing to learn: no targets, or all ignored, and no weight on the style")
    return out.loss, out.losses


def smoke_data(folder: Path) -> Path:
    """Pictures of stripes in four colours, a style each, with targets; written as a person would have them."""
    import torch
    from PIL import Image, ImageDraw

    for style, colour in enumerate(("red", "green", "blue", "black")):
        place = folder / f"style_{colour}"
        place.mkdir(parents=True, exist_ok=True)
        for number in range(6):
            picture = Image.new("RGB", (48, 48), "white")
            ImageDraw.Draw(picture).line((8 * number, 0, 47, 40), fill=colour, width=2 + style)
            picture.save(place / f"image{number:02d}_img.png")
            torch.save(torch.full((4, 8), 0.1 * number), place / f"image{number:02d}_embed.pt")
            torch.save(torch.full((8,), 0.1 * number + 0.1), place / f"image{number:02d}_pooled.pt")
            torch.save((torch.arange(4) <= number % 4).long(), place / f"image{number:02d}_mask.pt")
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the training; see the module's text for the commands."""
    flags = list(sys.argv[1:] if argv is None else argv)
    args, training = parse_arguments(
        (StyleEncoderArguments, StyleEncoderTrainingArguments), flags, prog="train style_encoder"
    )
    args.ignore_targets = ignored_targets(args.ignore_targets)
    if args.smoke:
        out = Path(training.output_dir)
        args = replace(
            args, data_dir=str(smoke_data(out / "data")), model_name="test_resnet", image_size=32, hidden_size=32
        )
        training = replace(training, max_steps=4, max_minutes=0.0, batch_size=8, logging_steps=1)
        training = training if training.resume else replace(training, overwrite=True)
    elif not args.data_dir:
        raise InputError(None, "say what to train on: --data_dir FOLDER (made by build_style_pairs)")
    if args.pictures_per_style < 1 or not 0 < args.crop <= 1 or not 0 <= args.shared_contents <= 1:
        raise InputError(
            None,
            f"pictures_per_style is {args.pictures_per_style}, crop {args.crop:g}, shared_contents "
            f"{args.shared_contents:g}; they are 1 or more, above 0 up to 1, and 0 to 1",
        )
    if not 0 <= args.crop_pct <= 1 or args.name_softness <= 0:
        raise InputError(
            None,
            f"crop_pct is {args.crop_pct:g}, name_softness {args.name_softness:g}; they are 0 to 1, and above 0",
        )
    run(args, training)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
