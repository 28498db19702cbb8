"""Typed settings from flags and from YAML or JSON files; a name that does not exist is refused with the closest one.

Any dataclass made of `option(...)` fields can be read, several at once:

    training, stage = parse_arguments((TrainingArguments, StageArguments), argv, prog="train score_vlm")

Each field is a flag (`--batch_size 8`, `--batch-size 8`, `--resume`, `--no-resume`,
`--learning_rates tower=1e-4 head=3e-4`), and a key of the file given by `--config`. Flags win over the file.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import sys
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..processing.errors import InputError

_MISSING = dataclasses.MISSING


def option(default: Any = _MISSING, help: str = "", choices: Sequence[Any] | None = None) -> Any:
    """One dataclass field with its help text; without a default the flag is required."""
    metadata = {"help": help, "choices": None if choices is None else tuple(choices)}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass
class TrainingArguments:
    """What the one training loop can be told. Sizes are per process; steps are optimiser steps.

    Raises:
        InputError: a value out of range, or two that contradict each other; the message shows both.
    """

    output_dir: str = option(help="folder for checkpoints, logs, best/ and final/")
    max_steps: int = option(0, "optimiser steps to take; 0: see num_epochs and max_minutes")
    num_epochs: float = option(0.0, "passes over the data, where max_steps is 0")
    max_minutes: float = option(0.0, "stop after this many minutes of training, resumes counted together; 0: no limit")
    batch_size: int = option(8, "rows per batch and process")
    gradient_accumulation_steps: int = option(1, "batches per optimiser step")
    learning_rate: float = option(1e-3, "peak learning rate")
    learning_rates: dict[str, float] = option({}, "own peak for parameters by name prefix: PREFIX=RATE …")  # noqa: RUF009
    optimizer: str = option(
        "adamw", "muon: matrices and kernels by timm's Muon, the rest by AdamW; same rates", ("adamw", "muon")
    )
    weight_decay: float = option(0.01, "decay of matrices and kernels (never of biases, norms, embeddings)")
    adam_beta1: float = option(0.9, "AdamW: decay of the mean")
    adam_beta2: float = option(0.98, "AdamW: decay of the square")
    adam_epsilon: float = option(1e-8, "AdamW: smallest divisor")
    max_grad_norm: float = option(1.0, "clip the gradient's norm to this; 0: do not clip")
    schedule: str = option("cosine", "course of the learning rate after the warm-up", ("cosine", "linear", "constant"))
    schedule_by: str = option("steps", "what the course follows: steps, or the part of max_minutes", ("steps", "time"))
    warmup_steps: int = option(0, "steps of linear warm-up")
    min_learning_rate_ratio: float = option(0.0, "where a falling schedule ends, as a part of the peak")
    mixed_precision: str = option("no", "autocast", ("no", "bf16", "fp16"))
    ema_decay: float = option(0.0, "decay of the averaged weights, such as 0.999; 0: none")
    seed: int = option(0, "seed of the order of the data, augmentation and dropout")
    shuffle: bool = option(True, "shuffle the rows anew in each epoch")
    num_workers: int = option(0, "loader processes")
    logging_steps: int = option(10, "write loss and rates every so many steps")
    save_steps: int = option(0, "checkpoint every so many steps; 0: never by steps")
    save_minutes: float = option(0.0, "checkpoint every so many minutes; 0: never by time")
    save_total_limit: int = option(2, "checkpoints to keep; the oldest go; 0: keep all")
    eval_steps: int = option(0, "evaluate every so many steps; 0: never by steps")
    eval_minutes: float = option(0.0, "evaluate every so many minutes; 0: never by time")
    metric_for_best: str = option("loss", "figure of the evaluation that decides which weights are best")
    greater_is_better: bool = option(False, "whether a larger figure is better")
    early_stopping_patience: int = option(0, "stop after so many evaluations without a better figure; 0: never")
    resume: bool = option(False, "go on from the last checkpoint in output_dir; start anew where there is none")
    overwrite: bool = option(False, "throw away the checkpoints in output_dir and start anew")
    tracker: str = option("tensorboard", "where the curves go, beside log.jsonl", ("tensorboard", "none"))
    progress: bool = option(True, "show a progress bar")
    cpu: bool = option(False, "stay on the CPU even where there is a GPU")
    channels_last: bool = option(False, "keep pictures and kernels channels-last (faster convolutions)")
    compile: bool = option(False, "compile the model with torch.compile")
    find_unused_parameters: bool = option(False, "several processes: some parameters get no gradient in some steps")
    num_threads: int = option(0, "threads of PyTorch's CPU kernels; 0: leave as it is")

    def __post_init__(self) -> None:
        check_choices(self)
        if not (self.max_steps or self.num_epochs or self.max_minutes):
            raise InputError(None, "say how long to train: max_steps, num_epochs or max_minutes is 0 in all three")
        if self.schedule_by == "time" and not self.max_minutes:
            raise InputError(None, "schedule_by is 'time', but max_minutes is 0; give the minutes")
        if self.schedule_by == "steps" and self.schedule != "constant" and not (self.max_steps or self.num_epochs):
            raise InputError(
                None,
                f"schedule is {self.schedule!r} by steps, but max_steps and num_epochs are 0; use schedule_by='time'",
            )
        if self.resume and self.overwrite:
            raise InputError(None, "resume and overwrite are both set; choose one")
        at_least = {"batch_size": 1, "gradient_accumulation_steps": 1, "logging_steps": 1}
        for name, value in vars(self).items():
            smallest = at_least.get(name, 0)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and not value >= smallest:
                raise InputError(None, f"{name} is {value}; it must be at least {smallest}")
        if self.ema_decay >= 1.0:
            raise InputError(None, f"ema_decay is {self.ema_decay}; it must be below 1")


def check_choices(settings: Any) -> None:
    """Refuses values of a dataclass that are not among its fields' `choices`."""
    for field in dataclasses.fields(settings):
        choices, value = field.metadata.get("choices"), getattr(settings, field.name)
        if choices and value not in choices:
            raise InputError(None, f"{field.name} is {value!r}; use one of {', '.join(map(repr, choices))}")


def _kind(annotation: Any) -> tuple[Any, Any]:
    """(container or None, element type) of a field's annotation; `X | None` counts as X."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _kind(next(a for a in inner if a is not type(None)))
    if origin in (list, tuple):
        return list, inner[0]
    if origin is dict:
        return dict, inner[1]
    return None, annotation


def _scalar(name: str, kind: Any, value: Any) -> Any:
    """One value out of a flag or a file as `kind`; '1e-4' in YAML is text and becomes a number here."""
    if kind is bool:
        words = {"true": True, "yes": True, "false": False, "no": False}
        if isinstance(value, bool):
            return value
        if str(value).lower() in words:
            return words[str(value).lower()]
    elif kind is Any or (kind is str and isinstance(value, (str, int, float))):
        return str(value) if kind is str else value
    elif kind in (int, float) and not isinstance(value, bool):
        try:
            number = kind(value)
            if kind is float or float(value) == number:
                return number
        except (TypeError, ValueError):
            pass
    raise InputError(None, f"{name} is {value!r}; expected {getattr(kind, '__name__', kind)}")


def convert(name: str, annotation: Any, value: Any) -> Any:
    """A value from a flag (text, list of texts) or a file as the annotated type, or an `InputError` that says why."""
    if value is None:
        if type(None) in typing.get_args(annotation):
            return None
        raise InputError(None, f"{name} is empty; give a value")
    container, kind = _kind(annotation)
    if container is list:
        return [_scalar(name, kind, item) for item in (value if isinstance(value, (list, tuple)) else [value])]
    if container is dict:
        if isinstance(value, (list, tuple)):
            pairs = [part.partition("=") for item in value for part in str(item).split(",") if part]
            if not all(sign for _, sign, _ in pairs):
                raise InputError(None, f"{name} is {' '.join(map(str, value))!r}; write NAME=VALUE")
            value = {key: text for key, _, text in pairs}
        if not isinstance(value, dict):
            raise InputError(None, f"{name} is {value!r}; expected names with values")
        return {str(key): _scalar(f"{name}.{key}", kind, item) for key, item in value.items()}
    return _scalar(name, kind, value)


def refuse_unknown(names: Sequence[str], known: Sequence[str], where: str | None = None, what: str = "setting") -> None:
    """Raises an `InputError` that names the first unknown setting and the known one most like it."""
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else "; --help lists them"
            raise InputError(where, f"there is no {what} {name!r}{hint}")


def read_config_file(path: str | Path) -> dict[str, Any]:
    """The settings in a YAML or JSON file, as one flat mapping.

    Raises:
        InputError: the file is absent, does not parse, or is not a mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            values = json.loads(text)
        else:
            import yaml

            values = yaml.safe_load(text)
    except FileNotFoundError:
        raise InputError(path, "no such settings file") from None
    except Exception as error:
        raise InputError(path, f"does not read as settings: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise InputError(path, "must hold names with values, such as 'batch_size: 8'")
    return values


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(None, message)


def _build_parser(classes: Sequence[type], prog: str | None, description: str | None) -> _Parser:
    parser = _Parser(
        prog=prog,
        description=description,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML or JSON file with the settings below; flags win over it")
    for cls in classes:
        annotations = typing.get_type_hints(cls)
        group = parser.add_argument_group(cls.__name__)
        for field in dataclasses.fields(cls):
            container, kind = _kind(annotations[field.name])
            flags = list(dict.fromkeys([f"--{field.name}", f"--{field.name.replace('_', '-')}"]))
            default = field.default if field.default is not _MISSING else None
            told = "required" if default is None and field.default_factory is _MISSING else f"default {default}"
            settings: dict[str, Any] = {"help": f"{field.metadata.get('help', '')} [{told}]".replace("%", "%%")}
            if kind is bool and container is None:
                settings["action"] = argparse.BooleanOptionalAction
            else:
                settings["metavar"] = "|".join(map(str, field.metadata.get("choices") or [])) or kind.__name__.upper()
                if container is not None:
                    settings["nargs"] = "*"
            group.add_argument(*flags, dest=field.name, **settings)
    return parser


def parse_arguments(
    classes: Sequence[type], argv: Sequence[str] | None = None, prog: str | None = None, description: str | None = None
) -> tuple[Any, ...]:
    """Reads flags (and the file of `--config`) into one object per dataclass.

    Args:
        classes: dataclasses whose fields are `option(...)`; no name may occur twice.
        argv: flags; those of this process if not given.

    Raises:
        InputError: a flag or key that does not exist (with the closest one), a wrong value, a missing required one.
    """
    names = [field.name for cls in classes for field in dataclasses.fields(cls)]
    if len(names) != len(set(names)):
        raise ValueError(f"settings of the same name: {sorted(n for n in set(names) if names.count(n) > 1)}")
    parser = _build_parser(classes, prog, description)
    found, unknown = parser.parse_known_args(list(sys.argv[1:] if argv is None else argv))
    known = [*names, "config"]
    flags = [word.split("=")[0].lstrip("-").replace("-", "_") for word in unknown if word.startswith("--")]
    refuse_unknown(flags, [*known, *(f"no_{name}" for name in names)])
    if unknown:
        raise InputError(None, f"{unknown[0]!r} belongs to no flag; --help lists them")
    values = vars(found)
    if config := values.pop("config", None):
        from_file = read_config_file(config)
        refuse_unknown(list(from_file), names, where=config)
        values = {**from_file, **values}
    built = []
    for cls in classes:
        annotations = typing.get_type_hints(cls)
        mine = {
            f.name: convert(f.name, annotations[f.name], values[f.name])
            for f in dataclasses.fields(cls)
            if f.name in values
        }
        for field in dataclasses.fields(cls):
            if field.name not in mine and field.default is _MISSING and field.default_factory is _MISSING:
                raise InputError(None, f"{field.name} is missing; give --{field.name}")
        built.append(cls(**mine))
    return tuple(built)
