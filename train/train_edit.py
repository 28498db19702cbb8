"""Trains the model that understands edits: instructions in Chinese and English to lines of the edit language.

    accelerate launch train edit --output_dir RUN/edit --max_minutes 10 --schedule_by time --batch_size 64 \\
        --learning_rate 1e-3 --warmup_steps 100 --eval_minutes 1
    intermezzo evaluate edit --checkpoint RUN/edit/best

Instructions are made up as they are needed; a fifth of the wordings of each edit chooses the best weights, another
fifth is kept for the evaluation; what is learnt from are the rest and the templates of
`datasets_scripts.edit_templates`, none of which makes a wording of the other two. `--smoke` takes 4 steps of a tiny
model.

**Why the model writes a program and not the music.** Three ways to edit by instruction were weighed:

* *The language model writes the whole new text.* One model does all, but one of 2 to 20 M parameters has to copy some
  hundred tokens without a slip and to do sums on each fret. Every slip is a wrong note that closes its bar and so is
  seen by nobody, and what it learns in minutes on two cores is mostly copying.
* *The language model writes the differences.* Shorter, but transposition or a style changes every note, so it is as
  long as the text just where it matters.
* *A model understands the instruction, a program carries it out* (this one). What has to be learnt is language: which
  of some hundred things is meant, in words not seen before. What has to be exact is exact: a transposition is right on
  every note, on a piece of any length, and what can not be done is refused with a reason. The price is that only what
  the edit language names can be asked for; the rest is answered by "unknown".

The model is no part of ScoreVLM's text model: that one has never seen a sentence, so nothing would be shared but
weights, and its text abilities stay as they are. A picture is first read by ScoreVLM and the text that was read is
edited. It reads characters, not words, so that Chinese needs no word list and a slip of the finger costs little.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..processing.errors import InputError
from .arguments import TrainingArguments, option, parse_arguments


@dataclass
class EditArguments:
    """What only this training needs."""

    model: str = option("", "model folder to go on from")
    rows: int = option(1_000_000, "different instructions")
    noise: float = option(0.15, "part of the instructions with slips of the finger")
    hidden_size: int = option(192, "width of a new model, a multiple of 32")
    num_layers: int = option(4, "layers of a new model")
    dropout: float = option(0.1, "dropout of a new model")
    text_encoder: str = option("use", "text encoder whose vectors are read beside the characters; none: none")
    text_dropout: float = option(0.2, "part of the instructions whose vectors are hidden")
    hidden_words: float = option(0.15, "part of the instructions one of whose words is hidden from the characters")
    validation_rows: int = option(400, "instructions in unseen wordings at each evaluation; 0: none")
    smoke: bool = option(False, "4 steps of a tiny model")

    def __post_init__(self) -> None:
        parts = {"noise": self.noise, "hidden_words": self.hidden_words, "text_dropout": self.text_dropout}
        if self.rows < 1 or self.validation_rows < 0 or not all(0 <= part <= 1 for part in parts.values()):
            told = ", ".join(f"{name} {part}" for name, part in parts.items())
            raise InputError(
                None, f"rows is {self.rows}, validation_rows {self.validation_rows}, {told}: "
                "at least 1, at least 0, and the others 0 to 1"
            )  # fmt: skip


def edit_config(**changes: Any) -> Any:
    """Configuration of a model of the whole edit language."""
    from ..configuration.configuration_edit import ScoreEditConfig
    from ..processing.edit_language import ARGUMENTS, DOMAINS, MAX_STEPS, OPERATIONS

    domains = {name: list(domain) for name, domain in DOMAINS.items()}
    return ScoreEditConfig(
        **{"operations": OPERATIONS, "arguments": ARGUMENTS, "domains": domains, "max_steps": MAX_STEPS, **changes}
    )


def build_model(args: EditArguments, text_size: int = 0) -> Any:
    """The model to train, new or from a folder; one that read characters alone gets room for vectors.

    Args:
        args: Of the training.
        text_size: Width of the text encoder's vectors, 0 without one.

    Raises:
        InputError: No model there, or values that the configuration refuses.
    """
    from ..configuration.configuration_edit import ScoreEditConfig
    from ..modeling.modeling_edit import ScoreEditModel

    text = dict(text_size=text_size, text_dropout=args.text_dropout)
    try:
        if args.model:
            config = ScoreEditConfig.from_pretrained(args.model, **text)
            return ScoreEditModel.from_pretrained(args.model, config=config, dtype="float32")
        width = args.hidden_size
        sizes = dict(hidden_size=width, num_attention_heads=max(width // 32, 1), intermediate_size=8 * width // 3)
        return ScoreEditModel(edit_config(**sizes, **text, num_hidden_layers=args.num_layers, dropout=args.dropout))
    except OSError as error:
        raise InputError(args.model, f"no model is there ({str(error).splitlines()[0]})") from error
    except Exception as error:  # huggingface_hub wraps what a validator raises
        raise InputError(args.model or None, str(error.__cause__ or error).splitlines()[-1].strip()) from error


def run(args: EditArguments, training: TrainingArguments) -> Any:
    """Builds the model and trains it."""
    import torch

    from ..processing.processing_edit import ScoreEditProcessor
    from .edit_data import ByLength, InstructionCollate, Instructions, evaluate_instructions
    from .loop import train

    torch.manual_seed(training.seed)
    encoder = "" if args.text_encoder in ("", "none") else args.text_encoder
    size = ScoreEditProcessor(text_encoder=encoder).vectors(["a"])["text_features"].shape[-1] if encoder else 0
    model = build_model(args, size)
    settings = model.config
    processor = ScoreEditProcessor(settings.vocab_size, settings.max_characters, encoder, settings.text_places)
    evaluate = None
    if args.validation_rows:
        unseen = Instructions(args.validation_rows, "validation")
        evaluate = partial(evaluate_instructions, rows=unseen, processor=processor)
    made = Instructions(args.rows, "train", seed=training.seed, noise=args.noise)
    rows = ByLength(made, training.batch_size, seed=training.seed)
    training = replace(training, shuffle=False)  # rows are in no order but that of their lengths
    return train(
        model,
        rows,
        training,
        collate=InstructionCollate(processor, args.hidden_words),
        evaluate_fn=evaluate,
        processor=processor,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the training; see the module's text for the commands."""
    flags = list(sys.argv[1:] if argv is None else argv)
    if "--smoke" in flags:
        flags += ["--max_steps", "4"]
    if not any(flag.split("=")[0] in ("--metric_for_best", "--metric-for-best") for flag in flags):
        flags += ["--metric_for_best", "error"]
    args, training = parse_arguments((EditArguments, TrainingArguments), flags, prog="train edit")
    if args.smoke:
        args = replace(args, hidden_size=32, num_layers=1, rows=64, validation_rows=8)
        steps: dict[str, Any] = dict(max_minutes=0.0, num_epochs=0.0, batch_size=4, logging_steps=1, eval_steps=4)
        training = replace(training, overwrite=True, schedule_by="steps", **steps)
    run(args, training)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
