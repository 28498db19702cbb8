"""How the time of `read` and `render` over a Ray cluster grows with pages and workers: measured, then projected.

python -m intermezzo.train.benchmark_ray [--verb read] [--pages 24 72] [--workers 1 2] [--out out]

Time is taken as `start + pages * seconds a page`, fitted for each number of workers. With more workers, seconds a page
fall by Amdahl's law; the part of them that does not shrink is what the measured numbers of workers say. Everything
beyond them is a projection, and is labelled so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from .benchmark import TWO_BARS

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PROJECTED_PAGES = (1_000, 100_000, 1_000_000)
PROJECTED_WORKERS = (1, 2, 8, 32, 128)


@dataclass(frozen=True)
class Cost:
    """What a run takes.

    Attributes:
        start: Seconds until all workers are at work, and after the last page.
        page: Seconds a page with one worker.
        serial: Part of them that more workers do not shrink, 0 to 1.
        measured: Largest number of workers that was measured.
    """

    start: float
    page: float
    serial: float
    measured: int

    def seconds(self, pages: int, workers: int) -> float:
        """Amdahl's law on top of the start."""
        return self.start + pages * self.page * (self.serial + (1 - self.serial) / workers)


def fit_line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Least squares `y = start + x * slope`, neither below 0; one point gives a slope alone."""
    if len(points) == 1:
        return 0.0, points[0][1] / points[0][0]
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    if slope <= 0:
        return 0.0, mean_y / mean_x
    return max(0.0, mean_y - slope * mean_x), slope


def fit_cost(measured: Mapping[tuple[int, int], float]) -> Cost:
    """The cost behind seconds by (pages, workers); one worker has to be among them.

    Raises:
        InputError: Nothing was measured with one worker.
    """
    lines = {
        workers: fit_line([(pages, seconds) for (pages, w), seconds in sorted(measured.items()) if w == workers])
        for workers in sorted({w for _, w in measured})
    }
    if 1 not in lines:
        raise InputError(None, "measure one worker, too: --workers 1 ...")
    page, most = lines[1][1], max(lines)
    # slope(w) = page * (s + (1 - s) / w)  ⇒  s = (slope(w) / page - 1 / w) / (1 - 1 / w)
    shares = [(slope / page - 1 / w) / (1 - 1 / w) for w, (_, slope) in lines.items() if w > 1]
    serial = min(1.0, max(0.0, sum(shares) / len(shares))) if shares else 1.0
    return Cost(max(start for start, _ in lines.values()), page, serial, most)


def make_files(verb: str, pages: int, folder: Path) -> list[Path]:
    """So many inputs of a verb."""
    pictures = sorted(EXAMPLES.glob("*.png"))
    files = []
    for number in range(pages):
        files.append(folder / f"{number:05d}{'.png' if verb == 'read' else '.alphatex'}")
        if verb == "read":
            shutil.copyfile(pictures[number % len(pictures)], files[-1])
        else:
            files[-1].write_text(TWO_BARS * 4, encoding="utf-8")
    return files


def measure(verb: str, pages: int, workers: int, views: int) -> float:
    """Seconds of one run, from nothing to the last file.

    Raises:
        InputError: A file failed, so the time says nothing.
    """
    from ..ray_verbs import read_with_ray, render_with_ray

    with tempfile.TemporaryDirectory(prefix="intermezzo-") as name:
        files, out = make_files(verb, pages, Path(name)), Path(name) / "out"
        started = time.perf_counter()
        results: Sequence[Any]
        if verb == "read":
            results = read_with_ray(files, out, device="cpu", views=views, workers=workers)
        else:
            results = render_with_ray(files, out, workers=workers)
        seconds = time.perf_counter() - started
    for result in results:
        if result.error:
            raise InputError(None, str(result.error))
    return seconds


def _clock(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def table(verb: str, measured: Mapping[tuple[int, int], float], cost: Cost) -> list[str]:
    """The table's lines."""
    lines = [f"{verb}: measured on this machine", f"{'pages':>10} {'workers':>8} {'time':>10} {'pages a second':>15}"]
    for (pages, workers), seconds in sorted(measured.items()):
        lines.append(f"{pages:>10,} {workers:>8} {_clock(seconds):>10} {pages / seconds:>15.2f}")
    lines += [
        f"fitted: {cost.start:.1f} s to start, {cost.page:.3f} s a page with one worker, "
        f"{cost.serial:.0%} of them not shared",
        f"{verb}: PROJECTED from this by Amdahl's law; nothing below was run, and workers are assumed to have a "
        "processor each",
        f"{'pages':>10} {'workers':>8} {'time':>10} {'worker-hours':>15}",
    ]
    for pages in PROJECTED_PAGES:
        for workers in PROJECTED_WORKERS:
            seconds = cost.seconds(pages, workers)
            lines.append(f"{pages:>10,} {workers:>8} {_clock(seconds):>10} {seconds * workers / 3600:>15.1f}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table, saves `ray_VERB.json`."""
    parser = argparse.ArgumentParser(prog="benchmark_ray", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--verb", choices=("read", "render"), default="read", help="default: %(default)s")
    parser.add_argument("--pages", type=int, nargs="+", help="default: 24 72; to render 200 600")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    parser.add_argument("--views", type=int, default=6, help="looks at each system (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of ray_VERB.json (default: %(default)s)")
    given = parser.parse_args(arguments)
    try:
        counts = given.pages or ([24, 72] if given.verb == "read" else [200, 600])
        measure(given.verb, 2, 1, given.views)  # what is read from the disk once is no part of a run
        measured = {(p, w): measure(given.verb, p, w, given.views) for w in given.workers for p in counts}
        cost = fit_cost(measured)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(table(given.verb, measured, cost)))
    given.out.mkdir(parents=True, exist_ok=True)
    found = {
        "verb": given.verb,
        "measured": [{"pages": p, "workers": w, "seconds": s} for (p, w), s in sorted(measured.items())],
        "fitted": {"start": cost.start, "page": cost.page, "serial": cost.serial},
        "projected": [
            {"pages": p, "workers": w, "seconds": cost.seconds(p, w)}
            for p in PROJECTED_PAGES
            for w in PROJECTED_WORKERS
        ],
    }
    (given.out / f"ray_{given.verb}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
