"""Trains a causal language model of NanoChat's architecture on canonical alphaTex.

    accelerate launch train alphatex_lm --stage pack --generate 4000 --split test --output_dir TEXTS/test
    accelerate launch train alphatex_lm --stage pack --generate 4000 --split validation --output_dir TEXTS/validation
    accelerate launch train alphatex_lm --stage pack --generate 400000 --held_out TEXTS/test TEXTS/validation \\
        --output_dir TEXTS/train
    accelerate launch train alphatex_lm --tokens TEXTS/train --tokens_validation TEXTS/validation --output_dir RUN/lm \\
        --max_minutes 45 --schedule_by time --learning_rate 2e-3 --warmup_steps 100 --eval_minutes 5
    intermezzo evaluate alphatex_lm --checkpoint RUN/lm/best

Texts also come from `--packed_systems` (folders of `train score_vlm --stage pack`), `--data` (Parquet made by
build_score_tab) and `--music` (MIDI and MusicXML, laid on the fretboard); all that is named goes into one pack. The
model is an ordinary causal language model: `train score_vlm --lm` builds on it, `connector="cross_attention"` freezes
it. `--smoke` takes 4 steps of a tiny model on texts made up on the spot.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from .arguments import TrainingArguments, option, parse_arguments

STAGES = ("pack", "train")


@dataclass
class AlphaTexLMArguments:
    """What only the language model's training needs."""

    stage: str = option("train", "which stage to run", choices=STAGES)
    generate: int = option(0, "stage pack: texts of generated pieces")
    whole: float = option(0.15, "stage pack: part of the generated pieces that also come as a whole")
    packed_systems: list[str] = option([], "stage pack: folders of `train score_vlm --stage pack`")  # noqa: RUF009
    data: list[str] = option([], "stage pack: folders of Parquet files made by build_score_tab")  # noqa: RUF009
    music: list[str] = option([], "stage pack: files and folders of MIDI and MusicXML")  # noqa: RUF009
    split: str = option("train", "stage pack: which pieces", choices=("train", "validation", "test"))
    held_out: list[str] = option([], "stage pack: packs whose texts must not come in, those of other splits")  # noqa: RUF009
    tokens: list[str] = option([], "packs to train on")  # noqa: RUF009
    tokens_validation: list[str] = option([], "packs to choose by")  # noqa: RUF009
    validation_rows: int = option(64, "rows of the validation packs at each evaluation")
    context: int = option(512, "tokens of a row")
    preset: str = option("small", "size of a new model: 6.8 M or 19.4 M parameters", choices=("small", "reference"))
    hidden_size: int = option(0, "width of a new model, a multiple of 32; 0: the preset's")
    num_layers: int = option(0, "layers of a new model; 0: the preset's")
    model: str = option("", "model folder to go on from")
    attention: str = option("sdpa", "eager is much the faster in bf16 on a CPU", choices=("sdpa", "eager"))
    smoke: bool = option(False, "4 steps of a tiny model on made-up texts")


def run_pack(args: AlphaTexLMArguments, training: TrainingArguments) -> dict[str, Any]:
    """Gathers texts and packs their tokens; `--output_dir` is the pack.

    Raises:
        InputError: Nothing was named, or some sources could not be read (the rest is packed).
    """
    from ..processing.tokenization_alphatex import AlphaTexTokenizer
    from .alphatex_lm_data import (
        PackedTexts,
        generated_texts,
        pack_texts,
        text_digest,
        texts_of_music,
        texts_of_packed_systems,
        texts_of_parquet,
    )

    if not (args.generate or args.packed_systems or args.data or args.music):
        raise InputError(None, "say what to pack: --generate COUNT, --packed_systems, --data or --music FOLDER")
    failures: list[str] = []

    def texts() -> Iterator[Any]:
        yield from texts_of_packed_systems(args.packed_systems)
        yield from chain.from_iterable(texts_of_parquet(folder, args.split) for folder in args.data)
        yield from texts_of_music(args.music, training.seed, args.split, failures)
        if args.generate:
            yield from generated_texts(training.seed, args.generate, args.split, args.whole)

    folder = Path(training.output_dir)
    tokenizer = AlphaTexTokenizer()
    other = PackedTexts(args.held_out, tokenizer) if args.held_out else ()
    held_out = frozenset(text_digest(tokenizer.decode(ids[:-1].tolist())) for ids in other)
    index = pack_texts(texts(), tokenizer, folder, args.split, held_out)
    print(
        f"{index['texts']} texts, {index['tokens']} tokens in {folder} "
        f"({index['repeated']} repeated and {index['too_long']} too long ones left out)"
    )
    (folder / "failures.txt").write_text("\n".join(failures), encoding="utf-8")
    if failures:
        raise InputError(folder / "failures.txt", f"{len(failures)} sources gave nothing; the rest is packed")
    return index


def text_config(args: AlphaTexLMArguments, tokenizer: Any) -> Any:
    """NanoChat of the asked size, for this vocabulary."""
    from transformers import AutoConfig

    from ..configuration.score_vlm_towers import text_options

    options = text_options(args.preset, len(tokenizer))
    if args.hidden_size:
        options["intermediate_size"] = options["intermediate_size"] * args.hidden_size // options["hidden_size"]
        options |= {"hidden_size": args.hidden_size, "num_attention_heads": args.hidden_size // 32}
    if args.num_layers:
        options["num_hidden_layers"] = args.num_layers
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return AutoConfig.for_model(**options | ids)


def build_model(args: AlphaTexLMArguments, tokenizer: Any) -> Any:
    """A new model, or the one of a folder.

    Raises:
        InputError: The folder's model has another vocabulary.
    """
    from transformers import AutoModelForCausalLM

    if not args.model:
        model = AutoModelForCausalLM.from_config(text_config(args, tokenizer), attn_implementation=args.attention)
    else:
        model = AutoModelForCausalLM.from_pretrained(args.model, attn_implementation=args.attention)
        if model.config.vocab_size < len(tokenizer):
            raise InputError(
                args.model, f"has a vocabulary of {model.config.vocab_size}, the tokenizer one of {len(tokenizer)}"
            )
    # A text that is sampled ends by itself, and pictures are never written.
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    return model


def run_train(args: AlphaTexLMArguments, training: TrainingArguments) -> Any:
    """Trains on packs.

    Raises:
        InputError: No pack is named, or a pack for training is one of a test split.
    """
    import torch

    from ..processing.tokenization_alphatex import AlphaTexTokenizer
    from .alphatex_lm_data import PackedTexts, TokenRows, read_frame
    from .loop import train

    if not args.tokens:
        raise InputError(None, "say what to train on: --tokens FOLDER (made by --stage pack)")
    tokenizer = AlphaTexTokenizer()
    packed = PackedTexts(args.tokens, tokenizer)
    if packed.splits - {"train"}:
        raise InputError(None, f"--tokens holds texts of the split {', '.join(sorted(packed.splits - {'train'}))}")
    options = {"frame": read_frame(tokenizer), "bos": tokenizer.bos_token_id}
    rows = TokenRows(packed, args.context, seed=training.seed, **options)
    evaluate = None
    if args.tokens_validation:
        validation = TokenRows(PackedTexts(args.tokens_validation, tokenizer), args.context, seed=0, **options)
        count = min(args.validation_rows, len(validation))
        evaluate = lambda m: evaluate_rows(m, validation, count, training.batch_size)  # noqa: E731
    torch.manual_seed(training.seed)
    model = build_model(args, tokenizer)
    return train(model, rows, training, evaluate_fn=evaluate, processor=tokenizer)


def evaluate_rows(model: Any, rows: Any, count: int, batch_size: int) -> dict[str, float]:
    """Loss on the first rows of a set, and how many tokens the model would choose right.

    Returns:
        `loss` in nats a token, `token_accuracy`; both with the truth as prefix.
    """
    import torch

    total = right = tokens = 0.0
    for start in range(0, count, batch_size):
        chosen = [rows[i] for i in range(start, min(start + batch_size, count))]
        batch = {name: torch.stack([row[name] for row in chosen]).to(model.device) for name in chosen[0]}
        with torch.no_grad():
            logits = model(input_ids=batch["input_ids"]).logits[:, :-1].float()
        wanted = batch["labels"][:, 1:]
        learnt = wanted != -100
        total += float(torch.nn.functional.cross_entropy(logits[learnt], wanted[learnt], reduction="sum"))
        right += float((logits.argmax(-1) == wanted)[learnt].sum())
        tokens += float(learnt.sum())
    return {"loss": total / tokens, "token_accuracy": right / tokens}


def run_smoke(training: TrainingArguments) -> Any:
    """Four steps on texts drawn on the spot, with an evaluation."""
    folder = Path(training.output_dir)
    args = AlphaTexLMArguments(stage="pack", generate=60)
    run_pack(args, replace(training, output_dir=str(folder / "texts")))
    tokens = [str(folder / "texts")]
    args = AlphaTexLMArguments(
        tokens=tokens, tokens_validation=tokens, validation_rows=2, context=128, hidden_size=32, num_layers=2
    )
    steps: dict[str, Any] = dict(max_steps=4, max_minutes=0.0, num_epochs=0.0, batch_size=2)
    steps |= dict(logging_steps=1, eval_steps=4, overwrite=True, schedule_by="steps")
    return run_train(args, replace(training, output_dir=str(folder / "lm"), **steps))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one stage; see the module's text for the commands."""
    flags = list(sys.argv[1:] if argv is None else argv)
    if "--smoke" in flags or "pack" in flags:
        flags += ["--max_steps", "4"]  # the loop wants to know how long; here it is no question
    args, training = parse_arguments((AlphaTexLMArguments, TrainingArguments), flags, prog="train alphatex_lm")
    if args.smoke:
        run_smoke(training)
    else:
        (run_pack if args.stage == "pack" else run_train)(args, training)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
