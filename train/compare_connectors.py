"""Three ways for a picture to come into a text, at equal budget and data: a table and its figures, by one command.

    python -m intermezzo.train.compare_connectors --packed PACKED --packed_validation HELD_OUT --tower TOWER \\
        --lm RUN/lm/best --minutes 12 --output_dir RUN/comparison

`mlp`: projected columns stand in the text (LLaVA), the language model learns by LoRA. `cross_attention`: gated layers
on a frozen language model. `encoder_decoder`: a decoder of like size, trained whole from nothing. All see the columns
of one frozen tower, take the same batches in the same order and write under the same grammar. `TOWER` is a model
folder of stage tower, or one of a ScoreVLM, whose reader as shipped is measured beside them.

Writes `comparison.md`, `comparison.json`, and for each rival a folder with `final/` (loadable), `done.json` (its
training) and `readings.jsonl`. What is done is not done again: a stopped command goes on where it was.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..configuration.configuration_score_vlm import FUSION_COUNT
from ..processing.errors import InputError
from .arguments import TrainingArguments, option, parse_arguments

NAMES = ("mlp", "cross_attention", "encoder_decoder")
TOWER = "tower"  # folder of the tower, when it had to be taken out of a ScoreVLM


@dataclass
class CompareArguments:
    """What is compared, and how long."""

    output_dir: str = option(help="folder for the rivals, the table and its figures")
    packed: list[str] = option([], "packed folders to train on")  # noqa: RUF009 - as `dataclasses.field`
    packed_validation: list[str] = option([], "packed folders of other pieces, to measure on")  # noqa: RUF009
    tower: str = option("", "model folder of a trained tower, or of a ScoreVLM with one")
    lm: str = option("", "model folder of a trained language model (`train alphatex_lm`)")
    shipped: str = option("", "ScoreVLM whose reader is measured beside the rivals; default: --tower, if it is one")
    rivals: list[str] = option(list(NAMES), "which of them")  # noqa: RUF009
    minutes: float = option(12.0, "training time of each rival")
    steps: int = option(0, "training steps of each rival, in place of minutes")
    max_text_tokens: int = option(160, "leave out systems with longer texts; 0: none")
    max_bars: int = option(0, "leave out systems with more bars; 0: none")
    pixels: int = option(1_000_000, "pixels of a batch of pictures; systems of like size come together")
    learning_rate: float = option(1e-3, "peak learning rate")
    rates: dict[str, float] = option({}, "own peak for a rival: NAME=RATE …")  # noqa: RUF009
    warmup_steps: int = option(50, "steps of linear warm-up")
    optimizer: str = option("adamw", "of all rivals", ("adamw", "muon"))
    gate_rate: float = option(10.0, "cross_attention: rate of the gates, as a multiple of the others'")
    lora_rank: int = option(16, "mlp: rank of LoRA on the language model")
    mixed_precision: str = option("no", "autocast while training", ("no", "bf16"))
    attention: str = option("eager", "of the language models; eager is the faster in bf16 on a CPU", ("eager", "sdpa"))
    n: int = option(100, "held-out systems to read")
    blank_n: int = option(50, "of them, how many are read from a blank picture too")
    timing_n: int = option(15, "of them, how many are read one by one and timed")
    text_n: int = option(50, "texts for each of the text abilities; 0: leave them out")
    seed: int = option(0, "of data, training, samples and intervals")
    num_threads: int = option(1, "threads of PyTorch")
    save_minutes: float = option(4.0, "a checkpoint of the rival in training every so many minutes; 0: none")
    apart: bool = option(True, "train each rival in a process of its own, so that its memory can be told")
    progress: bool = option(True, "show progress bars")

    def __post_init__(self) -> None:
        for name in self.rivals:
            if name not in NAMES:
                raise InputError(None, f"there is no rival {name!r}; there are {', '.join(NAMES)}")
        for name in self.rates:
            if name not in NAMES:
                raise InputError(None, f"rates names {name!r}; there are {', '.join(NAMES)}")
        for name in ("packed", "packed_validation", "tower", "lm"):
            if not getattr(self, name):
                raise InputError(None, f"{name} is missing; give --{name}")
        if not self.steps and self.minutes <= 0:
            raise InputError(None, f"minutes is {self.minutes} and steps is 0; say how long each rival learns")

    def training(self, name: str) -> TrainingArguments:
        """How one rival is trained: all alike, but for the rate where one is given."""
        length: dict[str, Any] = {"max_steps": self.steps}
        if not self.steps:
            length = {"max_minutes": self.minutes, "schedule_by": "time", "save_minutes": self.save_minutes}
        rate = self.rates.get(name, self.learning_rate)
        # Gates start shut and Adam moves each by about the rate a step: in minutes they would hardly open.
        parts = [f"connector.layers.{i}.{gate}" for i in range(FUSION_COUNT) for gate in ("gate_attention", "gate_mlp")]
        gates = dict.fromkeys(parts, self.gate_rate * rate) if name == "cross_attention" else {}
        return TrainingArguments(
            output_dir=str(Path(self.output_dir) / name),
            batch_size=1,  # a row is a bucket, which is a batch already
            learning_rate=rate,
            learning_rates=gates,
            optimizer=self.optimizer,
            warmup_steps=self.warmup_steps,
            mixed_precision=self.mixed_precision,
            seed=self.seed,
            num_threads=self.num_threads,
            progress=self.progress,
            resume=True,
            **length,
        )

    def budget(self, name: str) -> dict[str, Any]:
        """The settings that a trained rival depends on; a rival trained by others can not stand in for it."""
        names = "minutes steps max_text_tokens max_bars pixels warmup_steps mixed_precision seed"
        kept = {key: getattr(self, key) for key in names.split()}
        kept |= {} if self.optimizer == "adamw" else {"optimizer": self.optimizer}  # others were trained before
        kept |= {"learning_rate": self.rates.get(name, self.learning_rate), "lm": self.lm, "tower": self.tower}
        own: dict[str, dict[str, Any]] = {
            "mlp": {"lora_rank": self.lora_rank},
            "cross_attention": {"gate_rate": self.gate_rate},
        }
        return kept | {"packed": list(self.packed)} | own.get(name, {})


def short_systems(folders: Sequence[str], space: Any, args: CompareArguments) -> Any:
    """Packed systems whose texts are short enough.

    Raises:
        InputError: None is.
    """
    from ..processing.tokenization_alphatex import AlphaTexTokenizer
    from .score_vlm_data import PackedSystems

    systems = PackedSystems(folders, space)
    tokenizer = AlphaTexTokenizer()
    kept = []
    for entry in systems.rows:
        text = entry[1]["text"]
        if args.max_bars and sum(line.endswith("|") for line in text.splitlines()) > args.max_bars:
            continue
        # A token has a character or more, so only long texts have to be taken apart.
        tokens = len(text)
        if 0 < args.max_text_tokens < tokens:
            tokens = len(tokenizer.encode(text, add_special_tokens=False))
        if not args.max_text_tokens or tokens <= args.max_text_tokens:
            kept.append(entry)
    if not kept:
        raise InputError(folders[0], "no system is as short as max_text_tokens and max_bars ask; allow longer ones")
    systems.rows = kept
    return systems


def tower_folder(args: CompareArguments) -> str:
    """The folder of the tower alone; that of a ScoreVLM is taken out once.

    Raises:
        InputError: There is neither.
    """
    from transformers import AutoConfig

    from ..configuration import configuration_score_vlm  # noqa: F401 - registers its type
    from ..modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration

    try:
        kind = AutoConfig.from_pretrained(args.tower).model_type
        if kind == "score_vlm":
            out = Path(args.output_dir) / TOWER
            if not (out / "model.safetensors").is_file():
                model = ScoreVLMForConditionalGeneration.from_pretrained(args.tower)
                model.vision_tower.float().save_pretrained(out)
            return str(out)
    except (OSError, ValueError) as error:
        raise InputError(args.tower, f"holds no trained tower ({str(error).splitlines()[0]})") from error
    if kind != "score_tower":
        raise InputError(args.tower, f"is a {kind}; --tower wants a score_tower, or a score_vlm with one")
    return args.tower


def tower_labels(tower: str) -> dict[str, list[str]]:
    """Class names of a tower's dense heads."""
    from ..configuration.configuration_score_tower import ScoreTowerConfig

    return ScoreTowerConfig.from_pretrained(tower).labels


def build_rival(name: str, args: CompareArguments, tower: str) -> tuple[Any, Any]:
    """One untrained rival and its processor; what does not learn is frozen."""
    from .train_score_vlm import ScoreVLMArguments, add_lora, build_model

    if name == "encoder_decoder":
        model, processor = build_encoder_decoder(args, tower)
        model.vision_tower.requires_grad_(False)
        model.decoder.set_attn_implementation(args.attention)
        return model, processor
    connector = "mlp" if name == "mlp" else "cross_attention"
    model, processor = build_model(ScoreVLMArguments(tower=tower, lm=args.lm, connector=connector))
    model.requires_grad_(False)
    model.connector.requires_grad_(True)
    model.language_model.set_attn_implementation(args.attention)
    if name == "mlp":
        add_lora(model, args.lora_rank)
    return model, processor


def build_encoder_decoder(args: CompareArguments, tower: str) -> tuple[Any, Any]:
    """The encoder-decoder in the language model's sizes, on the trained tower."""
    from transformers import AutoConfig

    from ..configuration.score_vlm_towers import WHOLE_PICTURE_PX
    from ..modeling.modeling_score_tower import ScoreTowerModel
    from ..processing.image_processing_score import ScoreImageProcessor
    from ..processing.processing_score_vlm import ScoreVLMProcessor
    from ..processing.tokenization_alphatex import AlphaTexTokenizer
    from .baseline_encoder_decoder import EncoderDecoderReader, config_like

    trained = ScoreTowerModel.from_pretrained(tower)
    trained.config._name_or_path = ""  # a folder of this machine says nothing to others
    positions = 1024 if 0 < args.max_text_tokens <= 512 else 4096
    model = EncoderDecoderReader(config_like(trained.config, AutoConfig.from_pretrained(args.lm), positions))
    model.vision_tower.load_state_dict(trained.state_dict())
    return model, ScoreVLMProcessor(ScoreImageProcessor(), AlphaTexTokenizer(), image_column_px=WHOLE_PICTURE_PX)


def merge_lora(model: Any) -> None:
    """Adds LoRA's part to the weights and takes its layers away, so that the model loads without PEFT."""
    from peft.tuners.lora import LoraLayer

    for path, module in [(path, module) for path, module in model.named_modules() if isinstance(module, LoraLayer)]:
        module.merge()
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, module.get_base_layer())


def pictures_seen(buckets: Any, seed: int, steps: int) -> int:
    """Pictures of the first `steps` batches, in the order in which the loop takes them."""
    from .loading import EpochKeys

    count, epoch = 0, 0
    while steps > 0:
        order = EpochKeys(len(buckets), seed, shuffle=True)
        order.set_epoch(epoch)
        for key in list(order)[:steps]:
            count += len(buckets.batches[key % len(buckets)])
        steps, epoch = steps - len(buckets), epoch + 1
    return count


def memory_bytes(what: str) -> int:
    """Memory of this process: `"now"` or `"peak"`; 0 where the system does not tell.

    Linux hands a parent's `getrusage` peak down to its children, so its own book is read.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0
    field = {"now": "VmRSS:", "peak": "VmHWM:"}[what]
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def train_rival(name: str, args: CompareArguments, tower: str) -> dict[str, Any]:
    """Trains one rival, saves it, and tells what that took; the last thing it writes is `done.json`."""
    import torch

    from .loop import train
    from .score_vlm_data import Buckets, ReaderCollate

    torch.set_num_threads(args.num_threads)
    torch.manual_seed(args.seed)
    systems = short_systems(args.packed, tower_labels(tower), args)
    memory_before, cpu_before = memory_bytes("now"), time.process_time()
    model, processor = build_rival(name, args, tower)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    buckets = Buckets(systems, args.pixels, args.seed)
    result = train(
        model,
        buckets,
        args.training(name),
        collate=ReaderCollate(systems.space, processor, augment=True, dense=False),
        processor=processor,
    )
    cpu_seconds, memory_peak = time.process_time() - cpu_before, memory_bytes("peak")
    if name == "mlp":
        merge_lora(model)
        model.save_pretrained(result.directory)
    facts = {
        "settings": args.budget(name), "steps": result.step, "seconds": result.seconds, "cpu_seconds": cpu_seconds,
        "pictures": pictures_seen(buckets, args.seed, result.step), "pictures_to_see": len(systems),
        "loss": result.loss, "trainable": trainable, "total": total,
        "memory_peak": memory_peak, "memory_growth": max(0, memory_peak - memory_before),
    }  # fmt: skip
    write_json(Path(args.output_dir) / name / "done.json", facts)
    return facts


def write_json(path: Path, values: Any) -> None:
    """Writes a file that is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def _train_apart(name: str, args: CompareArguments, tower: str) -> None:
    try:
        train_rival(name, args, tower)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def trained(name: str, args: CompareArguments, tower: str) -> dict[str, Any]:
    """Facts of a rival's training, which is done first where it is not.

    Raises:
        InputError: It was trained with other settings, or its training failed.
    """
    done = Path(args.output_dir) / name / "done.json"
    if not done.is_file():
        if args.apart:
            process = multiprocessing.get_context("spawn").Process(target=_train_apart, args=(name, args, tower))
            process.start()
            process.join()
            if process.exitcode:
                raise InputError(done.parent, f"its training ended with {process.exitcode}; the same command goes on")
        else:
            train_rival(name, args, tower)
    facts = json.loads(done.read_text(encoding="utf-8"))
    for key, value in args.budget(name).items():
        if facts["settings"].get(key) != value:
            was = facts["settings"].get(key)
            raise InputError(done, f"was trained with {key} {was!r}, now it is {value!r}; use another output_dir")
    return facts


def compare(args: CompareArguments, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Trains what is not trained, measures all, writes the table.

    Args:
        args: Settings.
        say: Takes a line for each thing done.

    Returns:
        What `comparison.json` holds.
    """
    from .compare_connectors_reading import Measuring
    from .compare_connectors_table import number, percent, table

    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    tower = tower_folder(args)
    found: dict[str, Any] = {}
    for name in args.rivals:
        found[name] = {"training": trained(name, args, tower)}
        facts = found[name]["training"]
        say(f"{name}: {facts['steps']} steps, {facts['pictures']} pictures, loss {facts['loss']:.3f}")
    measuring = Measuring(args, tower_labels(tower))
    for name in args.rivals:
        found[name] |= measuring.rival(name)
        reading = found[name]["reading"]
        say(f"{name}: systems exact {percent(reading, 'system_exact')}, Tab-NED {number(reading, 'tab_ned')}")
    found |= measuring.others(args.shipped or (args.tower if tower != args.tower else ""))
    told = {"settings": asdict(args), "facts": measuring.facts, "columns": found}
    write_json(Path(args.output_dir) / "comparison.json", told)
    markdown = table(told)
    (Path(args.output_dir) / "comparison.md").write_text(markdown, encoding="utf-8")
    say(markdown)
    return told


def run_comparison(settings: Any, run: Callable[[Any], Any], prog: str, argv: Iterable[str] | None) -> int:
    """Parses the flags and runs; exit status 1 after a told error, 130 when stopped."""
    try:
        (args,) = parse_arguments((settings,), None if argv is None else list(argv), prog=prog)
        run(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def main(argv: Iterable[str] | None = None) -> int:
    """Runs the comparison."""
    return run_comparison(CompareArguments, compare, "train.compare_connectors", argv)


if __name__ == "__main__":
    raise SystemExit(main())
