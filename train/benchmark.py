"""Speed of the parts, in one run on one machine, and as ratios, which travel better than seconds.

python -m intermezzo.train.benchmark [--systems 40] [--out out]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..processing.errors import InputError

TWO_BARS = "\\ts (4 4) 3.3.8 0.1.8 (2.2 2.3).4 r.4 5.1{h}.8 7.1.8 | 3.3.4 (0.1 1.2 0.3).4 2.2.8 3.2.8 0.6.4 |"


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_renderer(count: int) -> dict[str, float]:
    """Two-bar systems a second, engraved by one worker and by two; the first picture of a worker is not counted."""
    from ..datasets_scripts.render.client import AlphaTabPool, RenderJob

    found = {}
    for workers in (1, 2):
        with AlphaTabPool(workers=workers) as pool:
            list(pool.map_render(RenderJob(text=TWO_BARS, layout="system") for _ in range(8)))
            jobs = [RenderJob(text=TWO_BARS, layout="system") for _ in range(count)]
            found[f"two-bar systems a second, {workers} worker{'s' * (workers > 1)}"] = count / _seconds(
                lambda pool=pool, jobs=jobs: list(pool.map_render(jobs))  # type: ignore[misc]
            )
    return found


def measure_reader(count: int, checkpoint: str | Path) -> dict[str, float]:
    """Seconds a system at batch 1: the reader as it is, and with parts of it switched off."""
    from ..datasets_scripts.guitar_parts import iter_system_jobs
    from ..datasets_scripts.render.client import AlphaTabPool, RenderJob
    from ..processing.system_reader import SystemReader

    with AlphaTabPool(workers=1) as pool:
        jobs = [RenderJob(text=text, layout="system", **style) for text, style, _ in iter_system_jobs(0, count, "test")]
        pictures = [answer[0].image() for answer in pool.map_render(jobs) if isinstance(answer, list)]
    found = {}
    kinds: dict[str, dict[str, Any]] = {
        "reader": {},
        "one look": {"views": 1},
        "dense heads alone": {"dense_only": True},
        "no evidence, token by token": {"evidence": False},
        "no grammar, token by token": {"evidence": False, "grammar": False},
    }
    for name, switches in kinds.items():
        reader = SystemReader.from_pretrained(checkpoint, **switches)
        part = pictures if "evidence" not in switches else pictures[: max(count // 8, 2)]
        reader.read_batch(part[:1])
        total = _seconds(lambda reader=reader, part=part: [reader.read_batch([p]) for p in part])  # type: ignore[misc]
        found[f"seconds a system, {name}"] = total / len(part)
    return found


def ratios(found: dict[str, float]) -> dict[str, float]:
    """What the second worker brings, and what each part of the decoder costs."""
    read = found["seconds a system, reader"]
    return {
        "two workers / one": found["two-bar systems a second, 2 workers"] / found["two-bar systems a second, 1 worker"],
        "reader / one look": read / found["seconds a system, one look"],
        "reader / dense heads alone": read / found["seconds a system, dense heads alone"],
        "token by token / reader": found["seconds a system, no evidence, token by token"] / read,
        "grammar / no grammar": found["seconds a system, no evidence, token by token"]
        / found["seconds a system, no grammar, token by token"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints a table, saves `benchmark.json`."""
    from ..reading import default_checkpoint

    parser = argparse.ArgumentParser(prog="benchmark", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--systems", type=int, default=40, help="systems read (default: %(default)s)")
    parser.add_argument("--rendered", type=int, default=600, help="systems engraved (default: %(default)s)")
    parser.add_argument("--checkpoint", default=str(default_checkpoint()), help="default: the one that comes along")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of benchmark.json (default: %(default)s)")
    given = parser.parse_args(arguments)
    try:
        found = measure_renderer(given.rendered) | measure_reader(given.systems, given.checkpoint)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    found |= ratios(found)
    for name, value in found.items():
        print(f"{name:48s} {value:10.3f}")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "benchmark.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
