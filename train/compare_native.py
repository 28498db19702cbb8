"""What NativeVLM's choices are worth, at equal budget and data: positions, seeds, start, drawing; and ScoreVLM.

    python -m intermezzo.train.compare_native --lessons LESSONS --image_vq checkpoints/image_vq \\
        --lm checkpoints/score_vlm --minutes 5 --output_dir RUN/native_rivals
    python -m intermezzo.train.compare_native ... --rivals read both --minutes 10 --comparison RUN/comparison

Rivals, by name (`--seeds` for each): `mixed`: mixed RoPE and modality embedding; `mixed_bare`: without the embedding;
`plain`: 1-D RoPE and none; `placed`: the default, in which text says the columns; these begin at nothing and learn to
read and draw. `placed_lm`: the default from a language model. `read`: that one on reading lessons alone; `both`:
reading and drawing in the same time; these two read held-out systems too. With `--comparison`, a folder of
`train.compare_connectors` on the packs that the lessons were built from, its rivals' readings of the very same systems
stand beside them.

Writes `native.md`, `native.json`, `gradients.png` and a folder for each rival. What is done is not done again.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from .arguments import option
from .compare_connectors import run_comparison, write_json
from .compare_connectors_table import TITLES, number, percent

BARE = ("--no-modality_embedding",)
RIVALS: dict[str, tuple[str, ...]] = {
    "mixed": ("--rope", "mixed"),
    "mixed_bare": ("--rope", "mixed", *BARE),
    "plain": ("--rope", "plain", *BARE),
    "placed": ("--rope", "placed"),
    "placed_lm": ("--rope", "placed", "--lm"),
    "read": ("--rope", "placed", "--lm", "--lessons", "read"),
    "both": ("--rope", "placed", "--lm"),
}
READERS = ("read", "both")
READING = ("note_f1", "system_exact", "bar_exact", "tab_ned", "parses")


@dataclass
class CompareNativeArguments:
    """What is compared, and how long."""

    output_dir: str = option(help="folder for the rivals, the table and its figures")
    lessons: str = option("", "folder made by build_interleaved")
    image_vq: str = option("checkpoints/image_vq", "model folder of the picture tokenizer")
    lm: str = option("checkpoints/score_vlm", "language model for those that begin with one, or a ScoreVLM with one")
    rivals: list[str] = option(["mixed", "plain", "placed", "placed_lm"], "which of them")  # noqa: RUF009
    seeds: list[int] = option([0, 1], "seeds of each")  # noqa: RUF009
    minutes: float = option(5.0, "training time of each run")
    steps: int = option(0, "training steps of each run, in place of minutes")
    preset: str = option("small", "size of all", ("tiny", "small", "base"))
    batch_size: int = option(2, "packed rows of a batch")
    window: int = option(1024, "tokens of a packed row")
    learning_rate: float = option(1.5e-3, "peak learning rate")
    validation_lessons: int = option(200, "held-out lessons whose loss is told")
    mixed_precision: str = option("bf16", "autocast while training", ("no", "bf16"))
    jobs: int = option(1, "runs at a time, each on one thread")
    n: int = option(100, "held-out systems that `read` and `both` read")
    comparison: str = option("", "folder of compare_connectors whose rivals read the same systems")
    progress: bool = option(True, "say what is done")

    def __post_init__(self) -> None:
        for name in self.rivals:
            if name not in RIVALS:
                raise InputError(None, f"there is no rival {name!r}; there are {', '.join(RIVALS)}")
        if not self.lessons:
            raise InputError(None, "say what to train on: --lessons FOLDER (made by build_interleaved)")
        if not self.seeds or not self.rivals:
            raise InputError(None, "give at least one rival and one seed")
        if not self.steps and self.minutes <= 0:
            raise InputError(None, f"minutes is {self.minutes} and steps is 0; say how long each run learns")

    def command(self, rival: str, seed: int) -> list[str]:
        """The flags of `train native_vlm` for one run."""
        words = list(RIVALS[rival])
        if "--lm" in words:
            words.insert(words.index("--lm") + 1, self.lm)
        if "--lessons" not in words:
            words += ["--lessons", "read", "draw"]
        length = ["--max_steps", str(self.steps)]
        if not self.steps:
            length = ["--max_minutes", str(self.minutes), "--schedule_by", "time", "--save_minutes", "4"]
        settings = {
            "data": self.lessons, "image_vq": self.image_vq, "preset": self.preset, "seed": seed,
            "batch_size": self.batch_size, "window": self.window, "learning_rate": self.learning_rate,
            "warmup_steps": 40, "validation_lessons": self.validation_lessons, "mixed_precision": self.mixed_precision,
            "num_threads": 1, "logging_steps": 5, "output_dir": self.folder(rival, seed),
        }  # fmt: skip
        return [*words, *length, "--resume", *(str(x) for key, value in settings.items() for x in (f"--{key}", value))]

    def folder(self, rival: str, seed: int) -> Path:
        """Of one run."""
        return Path(self.output_dir) / f"{rival}_{seed}"


def train_all(args: CompareNativeArguments) -> None:
    """Trains what is not trained yet, `jobs` at a time.

    Raises:
        InputError: A run ended with an error, or one was trained in another way.
    """
    todo = []
    for rival in args.rivals:
        for seed in args.seeds:
            done = args.folder(rival, seed) / "done.json"
            if not done.is_file():
                todo.append((done, args.command(rival, seed)))
            elif json.loads(done.read_text(encoding="utf-8"))["command"] != args.command(rival, seed):
                raise InputError(done, "was trained with other settings; use another output_dir")
    running: list[tuple[Path, list[str], subprocess.Popen[bytes]]] = []
    try:
        while todo or running:
            while todo and len(running) < max(1, args.jobs):
                done, flags = todo.pop(0)
                done.parent.mkdir(parents=True, exist_ok=True)
                with (done.parent / "output.txt").open("ab") as stream:
                    command = [sys.executable, "-m", "intermezzo.train", "native_vlm", *flags]
                    once = {**os.environ, "OMP_NUM_THREADS": "1"}
                    running.append((done, flags, subprocess.Popen(command, stdout=stream, stderr=stream, env=once)))
            time.sleep(0.5)
            for entry in [entry for entry in running if entry[2].poll() is not None]:
                running.remove(entry)
                done, flags, process = entry
                if process.returncode:
                    raise InputError(done.parent / "output.txt", f"its training ended with {process.returncode}")
                write_json(done, {"command": flags})
                if args.progress:
                    print(f"{done.parent.name}: trained", file=sys.stderr, flush=True)
    finally:
        for _, _, process in running:
            process.terminate()


def read_log(folder: Path) -> dict[str, Any]:
    """Last held-out figures, gradient norms and steps of a run."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines() if line]
    steps = [line for line in lines if line["kind"] == "train"]
    held_out = [line for line in lines if line["kind"] == "evaluation"]
    norms = [line["gradient_norm"] for line in steps if "gradient_norm" in line]
    losses = [line["loss"] for line in steps]
    last = {k: v for k, v in (held_out[-1] if held_out else {}).items() if k not in ("kind", "step", "seconds")}
    whole = [norm for norm in norms if math.isfinite(norm)]
    return {
        "steps": steps[-1]["step"] if steps else 0,
        "seconds": steps[-1]["seconds"] if steps else 0.0,
        "held_out": last,
        "norms": norms,
        "norm_median": statistics.median(whole) if whole else None,
        "norm_largest": max(whole, default=None),
        "not_finite": len(norms) - len(whole) + sum(not math.isfinite(loss) for loss in losses),
    }


def held_out_systems(args: CompareNativeArguments) -> list[dict[str, Any]]:
    """Reading lessons of held-out systems; with a comparison those that its rivals have read."""
    from .native_vlm_data import read_lessons

    lessons = read_lessons(args.lessons, "validation", ["read"])
    if not args.comparison:
        return lessons[: args.n]
    names = set(rival_readings(args.comparison).popitem()[1])
    found = [lesson for lesson in lessons if lesson["name"] in names][: args.n]
    if not found:
        raise InputError(args.comparison, "its held-out systems are not among the lessons; build both from one pack")
    return found


def rival_readings(folder: str) -> dict[str, dict[str, dict[str, str]]]:
    """Readings of each rival of `compare_connectors`, by system."""
    found = {}
    for file in sorted(Path(folder).glob("*/readings.jsonl")):
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        found[file.parent.name] = {line["name"]: line for line in lines}
    if not found:
        raise InputError(folder, "holds no readings; run train.compare_connectors first")
    return found


def figures_of(texts: Sequence[str], lessons: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Reading figures, as plain values."""
    from .evaluation_native_vlm import piece_names
    from .metrics_tab import score_pair, summarise

    truths = [lesson["parts"][1]["text"] for lesson in lessons]
    scores = [score_pair(text, truth) for text, truth in zip(texts, truths, strict=True)]
    figures = summarise(scores, piece_names(lessons), seed=0)
    return {name: figures[name].as_dict() for name in READING}


def read_with(folder: Path, lessons: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a trained NativeVLM reads; kept in `figures.json`, since it takes a while."""
    from ..datasets_scripts.interleaved_lessons import part_codes
    from ..drawing import load_drawer
    from .evaluation_native_vlm import by_size
    from .native_vlm_evaluation import read_codes

    kept, names = folder / "figures.json", [lesson["name"] for lesson in lessons]
    if kept.is_file() and (found := json.loads(kept.read_text(encoding="utf-8")))["names"] == names:
        return found
    model, processor = load_drawer(str(folder / "final"), "cpu")
    texts, started = [""] * len(lessons), time.perf_counter()
    for numbers in by_size(lessons, 0, 16):
        grids = [part_codes(lessons[i]["parts"][0]) for i in numbers]
        for i, text in zip(numbers, read_codes(model, processor, grids, num_beams=1), strict=True):
            texts[i] = text
    seconds = (time.perf_counter() - started) / len(lessons)
    found = {"names": names, "reading": figures_of(texts, lessons), "seconds": seconds}
    write_json(kept, found)
    return found


def gradient_picture(runs: dict[str, dict[str, Any]], path: Path) -> None:
    """Gradient norms of all runs over their steps, logarithmic, as a PNG: a band for each."""
    from PIL import Image, ImageDraw

    wide, high, left = 640, 90, 150
    norms = [x for run in runs.values() for x in run["norms"] if math.isfinite(x) and x > 0]
    low, top = math.log10(min(norms, default=0.1)), math.log10(max(norms, default=1.0))
    sheet = Image.new("RGB", (left + wide + 20, high * len(runs) + 10), "white")
    draw = ImageDraw.Draw(sheet)
    scale = (high - 20) / max(top - low, 1e-6)
    for place, (name, run) in enumerate(runs.items()):
        floor = (place + 1) * high - 8
        draw.line([(left, floor), (left + wide, floor)], fill="#bbbbbb")
        draw.text((8, floor - high // 2 - 6), f"{name}\nlargest {run['norm_largest'] or 0:.2f}", fill="black")
        draw.text((left - 40, floor - 8), f"{10**low:.2f}", fill="#777777")
        draw.text((left - 40, floor - high + 16), f"{10**top:.2f}", fill="#777777")
        step = wide / max(1, len(run["norms"]) - 1)
        shown = [(i, math.log10(x)) for i, x in enumerate(run["norms"]) if math.isfinite(x) and x > 0]
        points = [(left + i * step, floor - (x - low) * scale) for i, x in shown]
        if len(points) > 1:
            draw.line(points, fill="#3b528b", width=1)
    sheet.save(path)


def _cell(values: dict[str, Any], name: str, form: str) -> str:
    return format(values[name], form) if name in values else "–"


def table(told: dict[str, Any]) -> str:
    """The tables in Markdown."""
    lines = [
        "| run | steps | nats a text label | nats a column | nats a code | text right | codes right "
        "| gradient norm, median (largest) | not finite |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, run in told["runs"].items():
        held = run["held_out"]
        norm = "–" if run["norm_median"] is None else f"{run['norm_median']:.2f} ({run['norm_largest']:.2f})"
        losses = " | ".join(_cell(held, loss, ".3f") for loss in ("text_loss", "place_loss", "image_loss"))
        right = " | ".join(_cell(held, part, ".1%") for part in ("text_accuracy", "image_accuracy"))
        lines.append(f"| {name} | {run['steps']} | {losses} | {right} | {norm} | {run['not_finite']} |")
    if told["readers"]:
        lines += ["", "| reader | note F1 | system exact | Tab-NED | s a system |", "|---|---|---|---|---|"]
        for name, found in told["readers"].items():
            reading, seconds = found["reading"], found.get("seconds")
            lines.append(
                f"| {TITLES.get(name, name)} | {number(reading, 'note_f1')} | {percent(reading, 'system_exact')} "
                f"| {number(reading, 'tab_ned')} | {'–' if seconds is None else f'{seconds:.2f}'} |"
            )
    return "\n".join(lines) + "\n"


def compare(args: CompareNativeArguments) -> dict[str, Any]:
    """Trains what is not trained, measures all, writes tables and picture."""
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    train_all(args)
    runs = {f"{rival}_{seed}": read_log(args.folder(rival, seed)) for rival in args.rivals for seed in args.seeds}
    readers: dict[str, Any] = {}
    if args.n and (wanted := [rival for rival in args.rivals if rival in READERS]):
        lessons = held_out_systems(args)
        for rival in wanted:
            for seed in args.seeds:
                found = read_with(args.folder(rival, seed), lessons)
                readers[f"NativeVLM, {rival}, seed {seed}"] = {k: found[k] for k in ("reading", "seconds")}
        for name, read in (rival_readings(args.comparison) if args.comparison else {}).items():
            texts = [read[lesson["name"]]["prediction"] for lesson in lessons]
            readers[name] = {"reading": figures_of(texts, lessons)}
    told = {"settings": asdict(args), "runs": runs, "readers": readers}
    write_json(Path(args.output_dir) / "native.json", told)
    gradient_picture(runs, Path(args.output_dir) / "gradients.png")
    (Path(args.output_dir) / "native.md").write_text(table(told), encoding="utf-8")
    return told


def main(argv: Iterable[str] | None = None) -> int:
    """Runs the comparison and prints its tables."""
    show = lambda args: print(table(compare(args)))  # noqa: E731
    return run_comparison(CompareNativeArguments, show, "train.compare_native", argv)


if __name__ == "__main__":
    raise SystemExit(main())
