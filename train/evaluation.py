"""Measure a checkpoint on held-out data and say how sure the figures are.

    intermezzo evaluate score_vlm
    intermezzo evaluate score_vlm --set degraded --n 500      # or vexflow, musescore, verovio, pages
    python -m intermezzo.train.evaluation score_vlm --n 1000 --seed 0
    python -m intermezzo.train.evaluation score_vlm --checkpoint DIR --data test.parquet --write-into README.md

Every model has one evaluator, a function `(EvaluationRequest, **options) -> EvaluationReport` named in `EVALUATORS`.
The report goes to `out/evaluation/<stem>.json` and, on demand, between the result markers of a README or model card.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..processing.errors import InputError
from .evaluation_report import ROOT, EvaluationReport, gather_facts, update_card, update_marked

T = TypeVar("T")

#: Stem to "module:function"; the module is relative to this package and imported when it is asked for.
EVALUATORS: dict[str, str | Callable[..., EvaluationReport]] = {
    "score_vlm": ".evaluation_score_vlm:evaluate_score_vlm",
    "alphatex_lm": ".evaluation_alphatex_lm:evaluate_alphatex_lm",
    "edit": ".evaluation_edit:evaluate_edit",
    "fractal_midi": ".evaluation_fractal_midi:evaluate_fractal_midi",
    "image_vq": ".evaluation_image_vq:evaluate_image_vq",
    "museformer": ".evaluation_museformer:evaluate_museformer",
    "native_vlm": ".evaluation_native_vlm:evaluate_native_vlm",
    "style_encoder": ".evaluation_style_encoder:evaluate_style_encoder",
    "summary_bridge": ".evaluation_summary_bridge:evaluate_summary_bridge",
}
DEFAULT_N = {
    "fractal_midi": 256,
    "museformer": 128,
    "summary_bridge": 300,
    "native_vlm": 500,
    "image_vq": 500,
    "alphatex_lm": 300,
    "edit": 400,
    "style_encoder": 8000,
}  # samples, where it is not 1000
WITH_RIVALS = ("museformer", "summary_bridge")
OUT = Path("out") / "evaluation"


@dataclass(frozen=True)
class EvaluationRequest:
    """What every evaluator is asked.

    Attributes:
        stem: The model's stem.
        checkpoint: Folder or Hub name.
        data: Test set (Parquet file or folder), `None` to build the held-out one.
        n: Samples to evaluate.
        seed: Seed of data, samples and bootstrap.
        baselines: Baselines to measure beside the model.
        out: Folder for the report and what belongs to it; `None` to write nothing.
        progress: Show a progress bar on standard error.
    """

    stem: str
    checkpoint: str
    data: str | None = None
    n: int = 1000
    seed: int = 0
    baselines: tuple[str, ...] = ("blank", "wrong")
    out: Path | None = None
    progress: bool = True

    def track(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Iterate with a progress bar (none when `progress` is off)."""
        if not self.progress:
            yield from items
            return
        from rich.console import Console
        from rich.progress import track

        yield from track(items, description=what, total=total, console=Console(stderr=True), transient=True)


def register_evaluator(stem: str, evaluator: Callable[..., EvaluationReport]) -> None:
    """Add or replace the evaluator of a model."""
    EVALUATORS[stem] = evaluator


def find_evaluator(stem: str) -> Callable[..., EvaluationReport]:
    """The evaluator of a model.

    Raises:
        InputError: No model of that name can be evaluated.
    """
    found = EVALUATORS.get(stem)
    if found is None:
        raise InputError(None, f"no evaluator for {stem!r}; there are: {', '.join(sorted(EVALUATORS))}")
    if callable(found):
        return found
    module, _, name = found.partition(":")
    return getattr(importlib.import_module(module, __package__), name)


def evaluate(
    stem: str,
    *,
    checkpoint: str | Path | None = None,
    data: str | Path | None = None,
    n: int = 1000,
    seed: int = 0,
    baselines: Sequence[str] = ("blank", "wrong"),
    out: str | Path | None = OUT,
    progress: bool = True,
    **options: Any,
) -> EvaluationReport:
    """Measure a checkpoint.

    Args:
        stem: Model to evaluate, for example `"score_vlm"`.
        checkpoint: Folder or Hub name; the repository's own `checkpoints/<stem>` when `None`.
        data: Held-out Parquet file or folder; built from `seed` when `None`.
        n: Samples.
        seed: Seed of everything drawn at random.
        baselines: Names of baselines, `()` for none.
        out: Folder for `<stem>.json`; `None` to write nothing.
        progress: Show progress on standard error.
        **options: The evaluator's own options (see its docstring).

    Returns:
        The report, already saved when `out` is given.

    Raises:
        InputError: Unknown stem, no data, no checkpoint, or `n` below 1.
    """
    if n < 1:
        raise InputError(None, f"n is {n}, but at least 1 sample is needed")
    evaluator = find_evaluator(stem)
    folder = None if out is None else Path(out)
    source = str(checkpoint or ROOT / "checkpoints" / stem)
    request = EvaluationRequest(
        stem, source, None if data is None else str(data), n, seed, tuple(baselines), folder, progress
    )
    report = evaluator(request, **options)
    # A folder inside the repository is named from its root: reports must not carry one machine's paths.
    if Path(source).is_relative_to(ROOT):
        report.checkpoint = str(Path(source).relative_to(ROOT))
    report.facts = {**gather_facts(source), **report.facts}
    if folder is not None:
        report.save(folder)
    return report


def default_n(stem: str, picture_set: str = "clean") -> int:
    """Samples to measure where nothing else is asked for; a page is many systems."""
    return 100 if picture_set == "pages" else DEFAULT_N.get(stem, 1000)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="intermezzo evaluate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("stem", help=f"model to evaluate: {', '.join(sorted(EVALUATORS))}")
    parser.add_argument("--checkpoint", help="folder or Hub name; without it checkpoints/STEM")
    parser.add_argument("--data", help="held-out Parquet file or folder; built from the seed without it")
    parser.add_argument("--n", type=int, help="samples (default: the model's own, mostly 1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all that is drawn (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the report (default: %(default)s)")
    flag = argparse.BooleanOptionalAction
    parser.add_argument("--baselines", action=flag, default=True, help="measure the blank and the wrong picture too")
    parser.add_argument("--quick", action=flag, default=False, help="no variants, redrawn pictures, OMR-NED or pages")
    parser.add_argument(
        "--set",
        default="clean",
        help="score_vlm: clean, vexflow, musescore, lilypond, verovio, abcjs, degraded or pages (default: %(default)s)",
    )
    parser.add_argument(
        "--rival", nargs="*", action="extend", default=[], metavar="NAME=FOLDER",
        help="trained models to compare with (museformer, summary_bridge)",
    )  # fmt: skip
    parser.add_argument(
        "--with", nargs="*", action="extend", default=[], metavar="NAME=VALUE", dest="settings",
        help="settings of the evaluator's own, see its Options",
    )  # fmt: skip
    parser.add_argument(
        "--write-into", type=Path, nargs="*", action="extend", default=[], metavar="FILE",
        help="README or model cards whose marked results are replaced",
    )  # fmt: skip
    return parser


def _pairs(given: Sequence[str], flag: str) -> dict[str, str]:
    """`NAME=VALUE`s of a flag.

    Raises:
        InputError: One has no name or no value, or a name is there twice.
    """
    found: dict[str, str] = {}
    for pair in given:
        name, _, value = pair.partition("=")
        if not name or not value:
            raise InputError(None, f"{flag} {pair!r} must look like NAME=VALUE")
        if name in found:
            raise InputError(None, f"{flag} names {name!r} twice")
        found[name] = value
    return found


def _options(given: argparse.Namespace) -> dict[str, Any]:
    """The evaluator's own options of a command line; a value that Python can read is read as Python's."""
    options: dict[str, Any] = {"quick": True} if given.quick else {}
    if given.set != "clean":
        options["picture_set"] = given.set
    for name, text in _pairs(given.settings, "--with").items():
        try:
            options[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[name] = text
    rivals = _pairs(given.rival, "--rival")
    if rivals and given.stem not in WITH_RIVALS:
        raise InputError(None, f"--rival is for {', '.join(WITH_RIVALS)}, not for {given.stem}")
    return options | ({"rivals": rivals} if rivals else {})


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure a checkpoint, print its table and save its report.

    Args:
        arguments: Command line after `intermezzo evaluate`; the process's own when `None`.

    Returns:
        Exit status: 0, or 1 when something failed (a target that is missed is a result, no failure).
    """
    given = _parser().parse_args(arguments)
    baselines = ("blank", "wrong") if given.baselines else ()
    try:
        options = _options(given)
        if given.set != "clean" and given.stem != "score_vlm":
            raise InputError(None, f"--set is for score_vlm; {given.stem} has one set of its own")
        report = evaluate(
            given.stem, checkpoint=given.checkpoint, data=given.data, seed=given.seed, out=given.out,
            n=default_n(given.stem, given.set) if given.n is None else given.n, baselines=baselines, **options,
        )  # fmt: skip
        for path in given.write_into:
            is_card = path.is_file() and path.read_text(encoding="utf-8").startswith("---")
            (update_card if is_card else update_marked)(path, report)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    from rich.console import Console

    console = Console()
    console.print(report.table())
    for note in report.notes:
        console.print(f"note: {note}", markup=False)
    for failure in report.failures[:20]:
        print(f"{failure.name}: {failure.stage}: {failure.message}", file=sys.stderr)
    if report.failures:
        print(f"{len(report.failures)} failed; {given.out / report.stem}.json names them all", file=sys.stderr)
    return 1 if report.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
