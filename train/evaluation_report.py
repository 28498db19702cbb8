"""What an evaluation hands back: figures with intervals, where they come from, and what failed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..processing.errors import InputError
from .metrics_common import Estimate

if TYPE_CHECKING:
    from rich.table import Table

PACKAGES = ("torch", "transformers", "timm", "accelerate", "numpy", "pillow", "music21", "musicdiff")
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Failure:
    """One thing that could not be evaluated as it should.

    Attributes:
        name: The sample.
        stage: What was being done: `"read"`, `"truth"`, `"render"`, `"omr_ned"`, `"page"`, ...
        message: What went wrong.
    """

    name: str
    stage: str
    message: str


@dataclass(frozen=True)
class Target:
    """A figure that must be reached: at least `value`, or at most when `at_most`."""

    value: float
    at_most: bool = False

    def is_met(self, figure: Estimate) -> bool:
        """Whether the figure itself (not its interval) reaches the target; `nan` never does."""
        return figure.value <= self.value if self.at_most else figure.value >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.value:g}"


@dataclass
class EvaluationReport:
    """Figures of one checkpoint on one test set.

    Attributes:
        stem: The model's stem.
        checkpoint: Folder or Hub name that was loaded.
        data: Test set, in words or as a path.
        n: Samples evaluated.
        seed: Seed of data, samples and bootstrap.
        figures: The main figures.
        sections: Further tables by name: baselines, decoder variants, styles, pages.
        targets: What must be reached, by `"figure"` or `"section/figure"`.
        failures: What failed, named.
        notes: Sentences a reader of the figures must know.
        facts: Commit, versions, hardware, time.
        task: Hub task name of the results.
        dataset_type: What the test set is made of.
    """

    stem: str
    checkpoint: str
    data: str
    n: int
    seed: int
    figures: dict[str, Estimate] = field(default_factory=dict)
    sections: dict[str, dict[str, Estimate]] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    task: str = "image-to-text"
    dataset_type: str = "score_tab"

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        plain = asdict(self)
        plain["figures"] = {name: figure.as_dict() for name, figure in self.figures.items()}
        plain["sections"] = {
            title: {name: figure.as_dict() for name, figure in section.items()}
            for title, section in self.sections.items()
        }
        plain["met"] = {name: self.is_met(name) for name in self.targets}
        return plain

    @classmethod
    def load(cls, path: str | Path) -> EvaluationReport:
        """Read a report that `save` wrote.

        Raises:
            InputError: The file is missing or is no report.
        """
        try:
            plain = json.loads(Path(path).read_text(encoding="utf-8"))
            plain.pop("met", None)

            def figures(values: dict[str, Any]) -> dict[str, Estimate]:
                return {name: Estimate.from_dict(value) for name, value in values.items()}

            plain["figures"] = figures(plain["figures"])
            plain["sections"] = {title: figures(section) for title, section in plain["sections"].items()}
            plain["targets"] = {name: Target(**target) for name, target in plain["targets"].items()}
            plain["failures"] = [Failure(**failure) for failure in plain["failures"]]
            return cls(**plain)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                path, f"not an evaluation report ({error}); write one with `intermezzo evaluate`"
            ) from error

    def save(self, folder: str | Path) -> Path:
        """Write `<stem>.json` into a folder (made when missing) and return its path."""
        path = Path(folder) / f"{self.stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".json.part")
        temporary.write_text(json.dumps(self.as_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
        return path

    def figure(self, name: str) -> Estimate | None:
        """A figure by `"name"` or `"section/name"`, `None` when it was not measured."""
        section, _, last = name.rpartition("/")
        return (self.sections.get(section, {}) if section else self.figures).get(last)

    def is_met(self, name: str) -> bool | None:
        """Whether a target is reached; `None` when its figure was not measured."""
        figure = self.figure(name)
        return None if figure is None else self.targets[name].is_met(figure)

    def table(self) -> Table:
        """The report as a table for the terminal."""
        from rich.table import Table

        title = f"{self.stem}: {self.checkpoint} on {self.n} samples, seed {self.seed}"
        table = Table("figure", "value", "95 % interval", "n", "must reach", title=title)
        for title, section in {"": self.figures, **self.sections}.items():
            if title and section:
                table.add_section()
                table.add_row(f"[bold]{title}[/bold]")
            for name, figure in section.items():
                table.add_row(*self._row(f"{title}/{name}" if title else name, name, figure))
        return table

    def _row(self, key: str, name: str, figure: Estimate) -> tuple[str, str, str, str, str]:
        target = self.targets.get(key)
        mark = "" if target is None else f"{target} {'met' if target.is_met(figure) else 'MISSED'}"
        if figure.n == 0:
            return name, "none", "none", f"0 {figure.unit}", mark
        digits = f"{figure.value:.4f}", f"{figure.low:.4f} to {figure.high:.4f}"
        return name, *digits, f"{figure.n:,} {figure.unit}", mark

    def markdown(self) -> str:
        """The report as Markdown: one table, then where the figures come from."""
        lines = ["| figure | value | 95 % interval | n | must reach |", "|---|---|---|---|---|"]
        for title, section in {"": self.figures, **self.sections}.items():
            for name, figure in section.items():
                key = f"{title}/{name}" if title else name
                row = self._row(key, f"{title}: `{name}`" if title else f"`{name}`", figure)
                lines.append("| " + " | ".join(row) + " |")
        facts = self.facts
        lines += [
            "",
            f"`intermezzo evaluate {self.stem}`: {self.n} samples, seed {self.seed}, commit `{facts.get('commit')}`, "
            f"weights `{facts.get('weights_sha256')}`, {facts.get('hardware')}, {facts.get('created')}. "
            f"Data: {self.data}. Failures: {len(self.failures)}.",
        ]
        return "\n".join(lines + [""] + [f"- {note}" for note in self.notes]).rstrip()


def commit_id() -> str | None:
    """Commit of the code that runs, with `+changes` when tracked files differ from it; `None` outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def weights_sha256(checkpoint: str | Path | None) -> str | None:
    """First 12 digits of the SHA-256 of a folder's safetensors, `None` when there are none here."""
    files = sorted(Path(checkpoint).glob("*.safetensors")) if checkpoint and Path(checkpoint).is_dir() else []
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]


def hardware() -> str:
    """The machine in words: processor, cores this process may use, threads of torch, GPU."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        found = re.search(r"model name\s*:\s*(.+)", information.read_text(encoding="utf-8", errors="replace"))
        name = found.group(1) if found else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {cores} cores, {torch.get_num_threads()} threads{gpu}"


def gather_facts(checkpoint: str | Path | None) -> dict[str, Any]:
    """Where and with what an evaluation ran."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "commit": commit_id(),
        "weights_sha256": weights_sha256(checkpoint),
        "versions": versions,
        "hardware": hardware(),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def update_marked(path: str | Path, report: EvaluationReport) -> None:
    """Replace what stands between `<!-- results:STEM -->` and `<!-- /results:STEM -->` by the report's table.

    Raises:
        InputError: The file or one of its two markers is missing.
    """
    path = Path(path)
    start, end = f"<!-- results:{report.stem} -->", f"<!-- /results:{report.stem} -->"
    if not path.is_file():
        raise InputError(path, "no such file; give a README or a card with the result markers")
    text = path.read_text(encoding="utf-8")
    head, found_start, rest = text.partition(start)
    _, found_end, tail = rest.partition(end)
    if not found_start or not found_end:
        raise InputError(path, f"the markers {start} and {end} are not both there; add them where the table belongs")
    path.write_text(f"{head}{start}\n{report.markdown()}\n{end}{tail}", encoding="utf-8")


def update_card(path: str | Path, report: EvaluationReport, task: str | None = None) -> None:
    """Put the main figures into a model card: `model-index` of its front matter, and its marked table when it has one.

    Args:
        path: The card, a README.md with front matter.
        report: The figures.
        task: Hub task name of the results; the report's own when left out.

    Raises:
        InputError: There is no such card.
    """
    from huggingface_hub import EvalResult, ModelCard

    path = Path(path)
    if not path.is_file():
        raise InputError(path, "no such model card")
    card = ModelCard.load(path, ignore_metadata_errors=True)
    card.data.model_name = card.data.model_name or report.stem
    card.data.eval_results = [
        EvalResult(
            task_type=task or report.task,
            dataset_type=report.dataset_type,
            dataset_name=report.data,
            metric_type=name,
            metric_value=round(figure.value, 6),
            metric_args={"low": round(figure.low, 6), "high": round(figure.high, 6), "n": figure.n},
        )
        for name, figure in report.figures.items()
        if figure.value == figure.value
    ]
    card.save(path)
    if f"<!-- results:{report.stem} -->" in card.content:
        update_marked(path, report)
