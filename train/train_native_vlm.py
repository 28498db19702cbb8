"""Trains NativeVLM on lessons of text and pictures (`datasets_scripts.build_interleaved`).

    accelerate launch train native_vlm --data data/interleaved --image_vq checkpoints/image_vq --output_dir RUN \
        --max_minutes 60 --schedule_by time --mixed_precision bf16
    accelerate launch train native_vlm --data data/interleaved --image_vq checkpoints/image_vq --lm LM \
        --new_rows_only --max_steps 500 --output_dir RUN/rows           # from a language model: its new rows first,
    accelerate launch train native_vlm --data data/interleaved --model RUN/rows/final --output_dir RUN/all  # then all
    accelerate launch train native_vlm ... --rope plain --no-modality_embedding                             # ablations

`LM` is a NanoChat on alphaTex (`train score_vlm --stage lm`, `train alphatex_lm`), or a ScoreVLM that has one.
`--smoke` takes 4 steps of a tiny model on made-up lessons.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from .arguments import TrainingArguments, option, parse_arguments


@dataclass
class NativeVLMTrainingArguments(TrainingArguments):
    """The loop's settings, with this model's own defaults."""

    output_dir: str = option("runs/native_vlm", "folder for checkpoints, logs, best/ and final/")
    batch_size: int = option(4, "packed rows per batch and process")
    learning_rate: float = option(1.5e-3, "peak learning rate")
    warmup_steps: int = option(200, "steps of linear warm-up")

    def __post_init__(self) -> None:
        if not (self.max_steps or self.num_epochs or self.max_minutes):
            self.num_epochs = 5.0
        super().__post_init__()


@dataclass
class NativeVLMArguments:
    """What only NativeVLM's training needs."""

    data: str = option("", "folder made by build_interleaved")
    lessons: list[str] = option([], "kinds of lessons to train on; empty: all")  # noqa: RUF009 - as `dataclasses.field`
    validation_lessons: int = option(300, "held-out lessons that are looked at; 0: none")
    image_vq: str = option("", "model folder of the picture tokenizer, for a new model")
    model: str = option("", "model folder of a NativeVLM to go on from")
    lm: str = option("", "model folder of a language model to start a new model from")
    new_rows_only: bool = option(
        False, "only what belongs to pictures learns: rows of embedding and head, and how neighbours are told"
    )
    preset: str = option("base", "size of a new model; --lm brings its own", choices=("tiny", "small", "base"))
    rope: str = option("placed", "positions of a new model", choices=("placed", "mixed", "plain"))
    query_gain: bool = option(True, "whether heads of a new model learn how sharply they look")
    neighbours: bool = option(True, "whether codes of a new model are told what stands beside them")
    scan: str = option("columns", "order of the codes of a new model", choices=("columns", "rows"))
    modality_embedding: bool = option(True, "whether a new model tells text from pictures by an embedding")
    text_loss_weight: float = option(1.0, "what a label that is text counts")
    image_loss_weight: float = option(1.0, "what a label that belongs to a picture counts")
    z_loss_weight: float = option(1e-4, "weight of the z-loss")
    dropout: float = option(0.0, "dropout after attention and feed-forward")
    window: int = option(512, "tokens of a packed row; a longer lesson has a row of its own")
    longest: int = option(0, "tokens of the longest lesson, longer ones are left out; 0: the model's window")
    others: float = option(1.0, "part of the lessons that neither read nor draw that is kept")
    reread: float = option(0.0, "part of the drawings that is read, too")
    unasked: float = option(0.1, "part of the drawing lessons without their text, for guidance")
    learn_prompts: bool = option(False, "learn what is asked, too")
    smoke: bool = option(False, "4 steps of a tiny model on made-up lessons")


def _language_model(folder: str) -> Any:
    """A NanoChat, by itself or inside of a ScoreVLM."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    kind = AutoConfig.from_pretrained(folder).model_type
    if kind == "score_vlm":
        return AutoModelForImageTextToText.from_pretrained(folder).language_model.float()
    if kind != "nanochat":
        raise InputError(folder, f"is a {kind}; a nanochat, or a score_vlm that has one, can be taken over")
    return AutoModelForCausalLM.from_pretrained(folder).float()


def build_model(args: NativeVLMArguments) -> tuple[Any, Any]:
    """The model and its processor."""
    from ..configuration.configuration_native_vlm import PRESETS
    from ..modeling.modeling_image_vq import ImageVQModel
    from ..modeling.modeling_native_vlm import NativeVLMForCausalLM
    from ..modeling.native_start import start_codes_from_patches, take_over_language_model
    from ..processing.image_processing_score import ScoreImageProcessor
    from ..processing.processing_native_vlm import NativeVLMProcessor
    from ..processing.tokenization_alphatex import AlphaTexTokenizer

    for folder in filter(None, (args.model, args.image_vq, args.lm)):
        if not (Path(folder) / "config.json").is_file():
            raise InputError(folder, "is no model folder")
    weights = {name: getattr(args, name) for name in ("text_loss_weight", "image_loss_weight", "z_loss_weight")}
    if args.model:
        model = NativeVLMForCausalLM.from_pretrained(args.model, dropout=args.dropout).float()
        for name, value in weights.items():
            setattr(model.config, name, value)
        return model, NativeVLMProcessor.from_pretrained(args.model)
    if not args.image_vq:
        raise InputError(None, "say which picture tokenizer to use: --image_vq FOLDER, or --model FOLDER to go on")
    image_vq = ImageVQModel.from_pretrained(args.image_vq).float()
    image_vq.config._name_or_path = ""  # a folder of this machine says nothing to others
    tokenizer = AlphaTexTokenizer()
    source = _language_model(args.lm) if args.lm else None
    changes: dict[str, Any] = {"vq_config": image_vq.config, "text_vocab_size": len(tokenizer), **weights}
    changes |= {name: getattr(args, name) for name in ("rope", "scan", "modality_embedding", "dropout", "query_gain")}
    changes["neighbours"] = args.neighbours
    changes |= {"max_rows": image_vq.config.geometry.max_rows(), "initializer_range": 0.02}
    if source is not None:
        names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        changes |= {name: getattr(source.config, name) for name in names}
    try:
        model = NativeVLMForCausalLM(PRESETS[args.preset](**changes))
    except ValueError as error:
        raise InputError(None, str(error)) from error
    model.image_vq.load_state_dict(image_vq.state_dict())
    if source is not None:
        take_over_language_model(model, source)
    start_codes_from_patches(model)
    return model, NativeVLMProcessor.for_model(model.config, ScoreImageProcessor(), tokenizer)


def native_loss_with_parts(model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The loss, and its parts for the log: `text` and `image` are missing where a batch has no such labels."""
    out = model(**batch)
    return out.loss, out.losses


def run_train(args: NativeVLMArguments, training: TrainingArguments) -> Any:
    """Trains; returns the loop's result."""
    from ..modeling.native_start import freeze_all_but_new_rows
    from .loop import train
    from .native_vlm_data import LessonCollate, PackedLessons, Sequences, check_tokenizer, read_lessons
    from .native_vlm_evaluation import evaluate_lessons

    model, processor = build_model(args)
    check_tokenizer(args.data, model.image_vq)
    longest = max(args.window, args.longest or model.config.max_position_embeddings)
    if longest > model.config.max_position_embeddings:
        raise InputError(None, f"longest is {longest}, the model has places for {model.config.max_position_embeddings}")
    model.image_vq.requires_grad_(False)
    if args.new_rows_only:
        freeze_all_but_new_rows(model)
        training = replace(training, weight_decay=0.0)
    write = Sequences(processor.tokenizer, model.config.vocabulary, args.learn_prompts, model.config.rope == "placed")
    lessons = read_lessons(args.data, "train", args.lessons)
    rows = PackedLessons(lessons, write, args.window, training.seed, args.unasked, longest, args.others, args.reread)
    if rows.too_long:
        print(f"{rows.too_long} of {len(lessons)} lessons are longer than {longest} tokens and left out")
    evaluate, pad = None, processor.tokenizer.pad_token_id
    if args.validation_lessons and any(Path(args.data).glob("data/validation-*.parquet")):
        held_out = read_lessons(args.data, "validation", args.lessons, args.validation_lessons)
        looked_at = PackedLessons(held_out, write, args.window, 0, 0.0, longest)
        evaluate = lambda m: evaluate_lessons(m, looked_at, pad)  # noqa: E731
    return train(
        model,
        rows,
        training,
        collate=LessonCollate(pad),
        loss_fn=native_loss_with_parts,
        evaluate_fn=evaluate,
        processor=processor,
    )


def run_smoke(args: NativeVLMArguments, training: TrainingArguments) -> Any:
    """Four steps of a tiny model with an untrained picture tokenizer, on systems drawn on the spot."""
    from ..configuration.configuration_image_vq import image_vq_tiny
    from ..datasets_scripts.build_interleaved import build
    from ..modeling.modeling_image_vq import ImageVQModel
    from .score_vlm_pack import generated_rows, pack

    folder = Path(training.output_dir)
    pack(generated_rows(0, 12, "train", 0.0), folder / "packed")
    ImageVQModel(image_vq_tiny(patch_height=16, channels=(4, 4, 4, 4))).save_pretrained(folder / "image_vq")
    sizes = dict(max_bars=0, max_codes=3000, progress=False)
    if not (folder / "lessons" / "README.md").exists():
        build(folder / "lessons", folder / "image_vq", packed=[f"train={folder / 'packed'}"], **sizes)  # type: ignore[arg-type]
    args = replace(
        args, data=str(folder / "lessons"), image_vq=str(folder / "image_vq"), preset="tiny", model="", lm=""
    )
    common: dict[str, Any] = dict(max_steps=4, max_minutes=0.0, num_epochs=0.0, logging_steps=1, overwrite=True)
    return run_train(args, replace(training, **common, schedule_by="steps", batch_size=1))


def main(argv: Sequence[str] | None = None) -> int:
    """Trains; see the module's text for the commands."""
    from .loading import seed_everything

    flags = list(sys.argv[1:] if argv is None else argv)
    args, training = parse_arguments((NativeVLMArguments, NativeVLMTrainingArguments), flags, prog="train native_vlm")
    seed_everything(training.seed)  # the first weights too
    if args.smoke:
        run_smoke(args, training)
        return 0
    if not args.data:
        raise InputError(None, "say what to train on: --data FOLDER (made by build_interleaved)")
    run_train(args, training)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
