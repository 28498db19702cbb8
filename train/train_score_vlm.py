"""Trains ScoreVLM, stage by stage.

    accelerate launch train score_vlm --stage pack --data DIR --output_dir PACKED            # from Parquet, or
    accelerate launch train score_vlm --stage pack --generate 36000 --output_dir PACKED      # drawn on the spot
    accelerate launch train score_vlm --stage pack --generate 60000 --output_dir PACKED --degrade 0.45 \\
        --decorations 0.5 --engravers alphatab=0.6 vexflow=0.25 musescore=0.15    # by many hands; goes on if stopped
    accelerate launch train score_vlm --stage tower --packed PACKED --output_dir RUN/tower --max_minutes 60
    accelerate launch train score_vlm --stage lm --packed PACKED --output_dir RUN/lm --max_minutes 10
    accelerate launch train score_vlm --stage projector --packed PACKED --tower RUN/tower/best --lm RUN/lm/best ...
    accelerate launch train score_vlm --stage instruct --packed PACKED --model RUN/projector/best ...

    accelerate launch train score_vlm --stage instruct --packed PACKED --connector cross_attention --vision small \\
        --lm RUN/lm/best ...      # gated cross-attention on a frozen language model of `train alphatex_lm`

*tower*: dense labels. *lm*: alphaTex as text. *projector*: tower and language model frozen. *instruct*: projector, and
the language model by LoRA or whole; the tower too when asked. `--smoke` runs 4 steps of a tiny model on systems made
up on the spot, to see that everything fits together.
"""

from __future__ import annotations

import sys
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
    generate: int = option(0, "stage pack: systems of generated pieces to draw, in place of --data")
    pages: int = option(0, "stage pack: systems cut out of drawn pages of generated pieces, in place of --data")
    split: str = option("train", "stage pack: which pieces", choices=("train", "validation", "test"))
    continuations: float = option(0.15, "stage pack: part of the generated systems without a metre at the start")
    drills: float = option(0.2, "stage pack: part of the generated systems that are crowded with rare signs")
    retimings: float = option(0.1, "stage pack: part of the generated systems in longer or shorter note values")
    decorations: float = option(0.0, "stage pack: part of the generated systems with words that the truth leaves out")
    plain: bool = option(False, "stage pack: generated systems all in one style, for a model that draws")
    max_bars: int = option(0, "stage pack: longest generated systems, in bars; 0: all")
    degrade: float = option(0.0, "stage pack: part of the generated systems as photos, scans, screenshots, ...")
    engravers: dict[str, float] = option({}, "stage pack: who draws how much, NAME=WEIGHT …")  # noqa: RUF009
    packed: list[str] = option([], "packed folders to train on")  # noqa: RUF009 - as `dataclasses.field`
    packed_validation: list[str] = option([], "packed folders to choose by")  # noqa: RUF009
    validation_systems: int = option(300, "systems of the validation set that are read at each evaluation")
    pixels: int = option(4_000_000, "pixels of a batch of pictures; systems of like size come together")
    tower: str = option("", "model folder of a trained tower; with --model, in place of that model's own")
    deepen: list[int] = option(  # noqa: RUF009
        [], "stage tower: residual blocks of each stage and transformer layers that --tower grows to, as in 0 3 4 6"
    )
    lm: str = option("", "model folder of a trained language model")
    model: str = option("", "model folder of a ScoreVLM to go on from")
    train_tower: bool = option(False, "stage instruct: the tower learns too, from text and dense labels")
    lora_rank: int = option(0, "stage instruct: rank of LoRA on the language model; 0: all its weights learn")
    connector: str = option("mlp", "how a new ScoreVLM sees", choices=("mlp", "cross_attention"))
    vision: str = option("", "cross_attention: a tower by name, such as small, clip, timm/NAME; in place of --tower")
    hidden_size: int = option(192, "width of a new language model")
    num_layers: int = option(4, "layers of a new language model")
    smoke: bool = option(False, "4 steps of a tiny model on made-up systems")


def run_pack(args: ScoreVLMArguments, training: TrainingArguments) -> Any:
    """Brings pictures to their canvas once; `--output_dir` is the packed folder."""
    from .score_vlm_pack import generated_rows, pack, rows_from_parquet
    from .score_vlm_pages import page_rows

    if [bool(args.data), bool(args.generate), bool(args.pages)].count(True) != 1:
        raise InputError(None, "say what to pack: one of --data FOLDER, --generate COUNT, --pages COUNT")
    folder = Path(training.output_dir)
    if (args.engravers or args.degrade or not args.generate) and (args.plain or args.max_bars):
        raise InputError(None, "plain and max_bars are for --generate alone, without --engravers and --degrade")
    if args.engravers or args.degrade:
        failures = pack_mix(args, training)
    elif args.data:
        failures = pack(rows_from_parquet(Path(args.data), args.split), folder)
    elif args.pages:
        failures = pack(page_rows(training.seed, args.pages, args.split), folder, args.pages)
    else:
        shares = (args.continuations, args.drills, args.retimings, args.decorations)
        rows = generated_rows(training.seed, args.generate, args.split, *shares, args.plain, args.max_bars)
        failures = pack(rows, folder, args.generate)
    if failures:
        raise InputError(folder / "failures.txt", f"{len(failures)} systems could not be packed; the rest are")


def pack_mix(args: ScoreVLMArguments, training: TrainingArguments) -> list[str]:
    """Systems by several engravers, some degraded; what failed, a line each."""
    from .score_vlm_pack_mixed import Mix, counts_table, pack_mixed

    if not args.generate:
        raise InputError(None, "--engravers and --degrade draw generated pieces; say how many: --generate COUNT")
    mix = Mix(
        args.generate, training.seed, args.split, args.engravers or {"alphatab": 1.0}, args.degrade, args.decorations,
        args.continuations, args.drills, args.retimings,
    )  # fmt: skip
    failures, counts = pack_mixed(mix, Path(training.output_dir))
    print(counts_table(counts), file=sys.stderr)
    return failures


def run_smoke(training: TrainingArguments) -> None:
    """Four steps of the tower, then of the reader, tiny, on systems drawn on the spot."""
    from dataclasses import replace

    from .score_vlm_pack import generated_rows, pack

    folder = Path(training.output_dir)
    pack(generated_rows(0, 12, "train", 0.3), folder / "packed")
    common: dict[str, Any] = dict(max_steps=4, max_minutes=0.0, num_epochs=0.0, logging_steps=1, overwrite=True)
    args = ScoreVLMArguments(packed=[str(folder / "packed")], pixels=400_000, hidden_size=64, num_layers=2)
    run_tower(args, replace(training, output_dir=str(folder / "tower"), **common))
    args = replace(args, stage="instruct", tower=str(folder / "tower" / "final"))
    run_reader(args, replace(training, output_dir=str(folder / "reader"), **common))


def run_tower(args: ScoreVLMArguments, training: TrainingArguments) -> Any:
    """Dense labels: strings × columns, beats, bars."""
    from ..configuration.configuration_score_tower import ScoreTowerConfig
    from ..modeling.modeling_score_tower import ScoreTowerModel
    from .loop import train
    from .score_vlm_data import Buckets, DenseCollate, PackedSystems
    from .score_vlm_evaluation import evaluate_tower

    model = ScoreTowerModel.from_pretrained(args.tower) if args.tower else None
    if args.deepen:
        model = grown(model, args.deepen)
    systems = PackedSystems(args.packed, model.config.labels if model else None)
    model = model or ScoreTowerModel(ScoreTowerConfig(labels=systems.space))
    validation = PackedSystems(args.packed_validation, systems.space) if args.packed_validation else None
    evaluate = None
    if validation is not None:
        evaluate = lambda m: evaluate_tower(m, validation, args.validation_systems)  # noqa: E731
    training.batch_size = 1  # a row is a bucket, which is a batch already
    training.find_unused_parameters = True  # a batch of tabs alone leaves out what reads the staff above them
    return train(
        model,
        Buckets(systems, args.pixels, training.seed),
        training,
        collate=DenseCollate(systems.space, augment=True),
        loss_fn=tower_loss,
        evaluate_fn=evaluate,
    )


def grown(tower: Any, sizes: list[int]) -> Any:
    """A trained tower made deeper; `sizes`: residual blocks of each stage, then transformer layers."""
    from ..modeling.tower_growth import deepened

    if tower is None:
        raise InputError(None, "--deepen makes a trained tower deeper; name it: --tower FOLDER")
    try:
        return deepened(tower, sizes[:-1], sizes[-1])
    except ValueError as problem:
        raise InputError(None, f"--deepen {' '.join(map(str, sizes))}: {problem}") from None


def tower_loss(model: Any, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The dense loss, and its parts for the log."""
    out = model(**batch)
    return out.loss, out.losses


def run_lm(args: ScoreVLMArguments, training: TrainingArguments) -> Any:
    """A small NanoChat on canonical alphaTex, without pictures."""
    from transformers import AutoModelForCausalLM

    from ..processing.tokenization_alphatex import AlphaTexTokenizer
    from .loop import train
    from .score_vlm_data import PackedSystems, TextCollate, Texts

    tokenizer = AlphaTexTokenizer()
    model = AutoModelForCausalLM.from_config(text_config(args, tokenizer))
    return train(
        model,
        Texts(PackedSystems(args.packed)),
        training,
        collate=TextCollate(tokenizer),
        processor=tokenizer,
    )


def text_config(args: ScoreVLMArguments, tokenizer: Any) -> Any:
    """NanoChat of the asked size, for this vocabulary."""
    from transformers import NanoChatConfig

    return NanoChatConfig(
        vocab_size=len(tokenizer),
        hidden_size=args.hidden_size,
        intermediate_size=4 * args.hidden_size,
        num_hidden_layers=args.num_layers,
        num_attention_heads=args.hidden_size // 32,
        max_position_embeddings=4096,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def build_model(args: ScoreVLMArguments) -> tuple[Any, Any]:
    """ScoreVLM and its processor: a whole checkpoint, or put together from a tower and a language model."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from ..configuration.configuration_score_vlm import ScoreVLMConfig
    from ..configuration.score_vlm_towers import WHOLE_PICTURE_PX
    from ..modeling.modeling_score_tower import ScoreTowerModel
    from ..modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
    from ..processing.image_processing_score import ScoreImageProcessor
    from ..processing.processing_score_vlm import ScoreVLMProcessor
    from ..processing.tokenization_alphatex import AlphaTexTokenizer

    if args.model:
        model = ScoreVLMForConditionalGeneration.from_pretrained(args.model)
        if args.tower:  # the tower was trained further since
            model.vision_tower = ScoreTowerModel.from_pretrained(args.tower)
            model.vision_tower.config._name_or_path = ""
            model.config.vision_config = model.vision_tower.config
        return model, ScoreVLMProcessor.from_pretrained(args.model)
    if args.connector == "cross_attention" and args.vision:
        return build_fused(args)
    if not args.tower:
        raise InputError(None, "say which tower to build on: --tower FOLDER (of stage tower), or --model FOLDER")
    tokenizer = AlphaTexTokenizer()
    tower = ScoreTowerModel.from_pretrained(args.tower)
    language = AutoConfig.from_pretrained(args.lm) if args.lm else text_config(args, tokenizer)
    for part in (tower.config, language):
        part._name_or_path = ""  # a folder of this machine says nothing to others
    image_token = tokenizer.convert_tokens_to_ids("<|image|>")
    config = ScoreVLMConfig(
        vision_config=tower.config, text_config=language, image_token_id=image_token, connector=args.connector
    )
    model = ScoreVLMForConditionalGeneration(config)
    model.vision_tower.load_state_dict(tower.state_dict())
    if args.lm:
        model.language_model.load_state_dict(AutoModelForCausalLM.from_pretrained(args.lm).state_dict())
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    column_px = WHOLE_PICTURE_PX if model.fused else config.image_column_px
    return model, ScoreVLMProcessor(ScoreImageProcessor(), tokenizer, image_column_px=column_px)


def build_fused(args: ScoreVLMArguments) -> tuple[Any, Any]:
    """ScoreVLM with cross-attention to a tower by name, new but for a trained language model, and its processor."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from ..configuration.configuration_score_vlm import ScoreVLMConfig
    from ..configuration.score_vlm_towers import WHOLE_PICTURE_PX, tower_options
    from ..modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
    from ..processing.image_processing_score import ScoreImageProcessor
    from ..processing.processing_score_vlm import ScoreVLMProcessor
    from ..processing.tokenization_alphatex import AlphaTexTokenizer

    if not args.lm:
        raise InputError(None, "the language model under cross_attention is frozen; name a trained one: --lm FOLDER")
    try:
        vision = tower_options(args.vision)
    except (OSError, ValueError) as error:
        raise InputError(args.vision, f"no such tower ({str(error).splitlines()[0]})") from error
    tokenizer = AlphaTexTokenizer()
    language = AutoConfig.from_pretrained(args.lm)
    language._name_or_path = ""  # a folder of this machine says nothing to others
    image_token = tokenizer.convert_tokens_to_ids("<|image|>")
    config = ScoreVLMConfig(connector="cross_attention", text_config=language, image_token_id=image_token, **vision)
    model = ScoreVLMForConditionalGeneration(config)
    model.language_model.load_state_dict(AutoModelForCausalLM.from_pretrained(args.lm).state_dict())
    load_tower_weights(model.vision_tower, args.vision)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, ScoreVLMProcessor(ScoreImageProcessor(), tokenizer, image_column_px=WHOLE_PICTURE_PX)


def load_tower_weights(tower: Any, name: str) -> None:
    """Weights of a tower that others trained; small ViTs of our own begin from nothing.

    Raises:
        InputError: They can not be fetched.
    """
    from transformers import AutoModel

    from ..configuration.score_vlm_towers import PRETRAINED, TOWERS

    if name in TOWERS and name not in PRETRAINED:
        return
    try:
        trained = AutoModel.from_pretrained(PRETRAINED.get(name, name))
    except OSError as error:
        raise InputError(name, f"its weights can not be fetched ({str(error).splitlines()[0]})") from error
    tower.load_state_dict(getattr(trained, "vision_model", trained).state_dict())


def run_reader(args: ScoreVLMArguments, training: TrainingArguments) -> Any:
    """Stages projector and instruct: text from pictures."""
    from .loop import train
    from .score_vlm_data import Buckets, PackedSystems, ReaderCollate
    from .score_vlm_evaluation import evaluate_text_loss

    model, processor = build_model(args)
    model.requires_grad_(False)
    model.connector.requires_grad_(True)
    if model.fused:  # the language model never learns; a general tower always does
        model.vision_tower.requires_grad_(False)
        if args.train_tower or not model.dense:
            model.requires_grad_(True)
    elif args.stage == "instruct":
        if args.lora_rank:
            add_lora(model, args.lora_rank)
        else:
            model.language_model.requires_grad_(True)
        model.vision_tower.requires_grad_(args.train_tower)
    systems = PackedSystems(args.packed, model.vision_tower.config.labels if model.dense else None)
    validation = PackedSystems(args.packed_validation, systems.space) if args.packed_validation else None
    collate = ReaderCollate(systems.space, processor, augment=True, dense=args.train_tower and model.dense)
    evaluate = None
    if validation is not None:
        plain = ReaderCollate(systems.space, processor, augment=False, dense=False)
        evaluate = lambda m: evaluate_text_loss(m, validation, plain, args.validation_systems)  # noqa: E731
    training.batch_size = 1  # a row is a bucket, which is a batch already
    return train(
        model,
        Buckets(systems, args.pixels, training.seed),
        training,
        collate=collate,
        evaluate_fn=evaluate,
        processor=processor,
    )


def add_lora(model: Any, rank: int) -> None:
    """Puts LoRA (arXiv 2106.09685) on the attention and the feed-forward of the language model."""
    from peft import LoraConfig, inject_adapter_in_model

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets), model.language_model)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one stage; see the module's text for the commands."""
    from .loading import seed_everything

    flags = list(sys.argv[1:] if argv is None else argv)
    if "--smoke" in flags or "pack" in flags:
        flags += ["--max_steps", "4"]  # the loop wants to know how long; here it is no question
    args, training = parse_arguments((ScoreVLMArguments, TrainingArguments), flags, prog="train score_vlm")
    seed_everything(training.seed)  # the first weights too
    if args.stage != "pack" and not args.packed and not args.smoke:
        raise InputError(None, "say what to train on: --packed FOLDER (made by --stage pack)")
    if args.smoke:
        run_smoke(training)
        return 0
    stages = {"pack": run_pack, "tower": run_tower, "lm": run_lm, "projector": run_reader, "instruct": run_reader}
    stages[args.stage](args, training)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
