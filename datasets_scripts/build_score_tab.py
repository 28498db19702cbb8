"""Builds the data set of tab pictures: systems with their canonical alphaTex and the boxes of all beats and notes.

    python -m intermezzo.datasets_scripts.build_score_tab --out data/score_tab --generated 20000
    python -m intermezzo.datasets_scripts.build_score_tab --out data/real --generated 0 --corpus 200
    python -m intermezzo.datasets_scripts.build_score_tab --out data/mine --source my_midis --source songs/tab.gp5

Three sources can be mixed: parts made by rule (`--generated`), the music21 corpus (`--corpus`, number of files), and
your own MIDI, MusicXML, Guitar Pro and alphaTex files (`--source`). Pieces go to train, validation and test by a hash
of their name, before anything is drawn. The same arguments always give the same rows, with any number of workers; a run
that was interrupted goes on where it stopped. What failed is listed in failures.tsv, and the exit status is then 1.

Load it with `datasets.load_dataset("parquet", data_dir="data/score_tab/data")` or as a Hub data set folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from .build_folder import check_settings, write_failures
from .score_tab_jobs import JobList, SystemJob, collect_jobs

FORMAT = 1  # raise when the rows of the same arguments change


def features() -> Any:
    """Columns of the data set."""
    from datasets import Features, Image, List, Value

    place = {name: Value("int32") for name in ("bar", "voice", "beat")}
    box = {name: Value("float32") for name in ("x", "y", "w", "h")}
    style = {
        name: Value("string") for name in ("staves", "rhythm", "text_font", "serif_font", "music_font", "bar_numbers")
    }
    style |= {"scale": Value("float32"), "stretch": Value("float32"), "dynamics": Value("bool")}
    style |= {"line_gray": Value("int32"), "second_voice_gray": Value("int32")}
    return Features(
        {
            "image": Image(),
            "text": Value("string"),
            "boxes": {
                "beats": List(place | box | {"on_x": Value("float32")}),
                "notes": List(place | {"string": Value("int32")} | box),
                "bars": List({"bar": Value("int32")} | box),
                "tab_lines": List(Value("float32")),
                "tab_x": List(Value("float32")),
            },
            "source": Value("string"),
            "piece_id": Value("string"),
            "system": Value("int32"),
            "kind": Value("string"),
            "style": style,
            "split": Value("string"),
        }
    )


def _row(job: SystemJob, picture: Any) -> dict[str, Any]:
    """A row; only boxes of the tab staff are kept."""
    tab = picture.systems[0].staff("tab")
    pick = lambda item, names: {name: getattr(item, name) for name in names}  # noqa: E731
    beats = [pick(b, ("bar", "voice", "beat", "x", "y", "w", "h", "on_x")) for b in picture.beats if b.kind == "tab"]
    notes = [pick(n, ("bar", "voice", "beat", "string", "x", "y", "w", "h")) for n in picture.notes if n.kind == "tab"]
    bars = [pick(b, ("bar", "x", "y", "w", "h")) for b in picture.bars]
    return {
        "image": {"bytes": picture.png, "path": None},
        "text": job.text,
        "boxes": {
            "beats": beats,
            "notes": notes,
            "bars": bars,
            "tab_lines": list(tab.lines),
            "tab_x": [tab.x0, tab.x1],
        },
        "source": job.source,
        "piece_id": job.piece_id,
        "system": job.system,
        "kind": job.kind,
        "style": job.style,
        "split": job.split,
    }


def draw(jobs: list[SystemJob], pool: Any) -> Iterator[tuple[SystemJob, dict[str, Any] | str]]:
    """Rows of some jobs, in order; a job that can not be drawn gives what is wrong with it instead."""
    from .render.jobs import RenderError, RenderJob

    remarks = pool.map_verify(job.text for job in jobs)
    pictures = pool.map_render(RenderJob(text=job.text, **job.style) for job in jobs)
    for job, remark, result in zip(jobs, remarks, pictures, strict=True):
        errors = [str(d) for d in remark if d.severity != "hint"] if isinstance(remark, list) else [str(remark)]
        if errors:
            yield job, errors[0]
        elif isinstance(result, RenderError):
            yield job, str(result)
        elif (problem := _disagreement(job, result[0])) is not None:
            yield job, problem
        else:
            yield job, _row(job, result[0])


def _disagreement(job: SystemJob, picture: Any) -> str | None:
    """Do picture and text have the same beats and notes?"""
    from ..processing.alphatex_grammar import read_alphatex

    if len(picture.systems) != 1 or picture.systems[0].staff("tab") is None:
        return f"{len(picture.systems)} systems were drawn, or none has a tab"
    beats = [(bar, voice, beat, len(b.notes)) for _, bar, voice, beat, b in read_alphatex(job.text).beats()]
    drawn = {(b.bar, b.voice, b.beat) for b in picture.beats if b.kind == "tab"}
    missing = {beat[:3] for beat in beats} - drawn
    return f"{len(missing)} of {len(beats)} beats have no box" if missing else None


def _failures_of(shard: Path) -> Path:
    """What failed in a shard; not beside it, so that `data` holds Parquet and nothing else."""
    return shard.parent.parent / "failures" / f"{shard.stem}.json"


def _write_shard(path: Path, rows: list[dict[str, Any]], failures: list[list[str]]) -> None:
    """Writes failures, then rows; the Parquet file appears whole or not at all."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    notes = _failures_of(path)
    notes.parent.mkdir(exist_ok=True)
    notes.write_text(json.dumps(failures, ensure_ascii=False), encoding="utf-8")
    partial = path.with_suffix(".partial")
    Dataset.from_list(rows, features=features()).to_parquet(str(partial))
    partial.replace(path)


def build(
    out: str | Path,
    generated: int = 10_000,
    corpus: int = 0,
    sources: list[str] | None = None,
    seed: int = 0,
    shard_size: int = 500,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Builds the data set, or goes on with one that was interrupted.

    Args:
        out: Folder; Parquet files go to `out/data`.
        generated: Number of systems made by rule.
        corpus: Number of files of the music21 corpus.
        sources: Folders or files of MIDI, MusicXML, Guitar Pro, alphaTex.
        seed: Decides pieces, cuts and styles.
        shard_size: Systems in a Parquet file.
        workers: Renderer processes; rows do not depend on it.
        progress: Show progress bars.

    Returns:
        `{"rows": {split: count}, "failures": count, "dropped": count}`.

    Raises:
        InputError: A source does not exist, or `out` holds another data set.
    """
    from tqdm import tqdm

    from .render.client import AlphaTabPool

    out = Path(out)
    data = out / "data"
    data.mkdir(parents=True, exist_ok=True)
    names = [str(source) for source in sources or []]
    settings: dict[str, Any] = {"format": FORMAT, "seed": seed, "generated": generated, "corpus": corpus}
    settings |= {"sources": names, "shard_size": shard_size}
    check_settings(out, settings)
    failures: list[list[str]] = []
    counts: Counter[str] = Counter()
    with AlphaTabPool(workers) as pool:

        def watch(files: Iterator[Path], total: int) -> Iterator[Path]:
            return tqdm(files, total=total, desc="read", unit="file", disable=not progress or not total)

        jobs = collect_jobs(seed, generated, corpus, names, pool, watch)
        failures += [list(failure) for failure in jobs.failures]
        with tqdm(total=sum(map(len, jobs.jobs.values())), desc="draw", unit="system", disable=not progress) as bar:
            for split, todo in sorted(jobs.jobs.items()):
                for number, start in enumerate(range(0, len(todo), shard_size)):
                    part = todo[start : start + shard_size]
                    failed = _finish_shard(data / f"{split}-{number:05d}.parquet", part, pool, bar)
                    failures += failed
                    counts[split] += len(part) - len(failed)
    write_failures(out / "failures.tsv", failures)
    (out / "README.md").write_text(_card(settings, jobs, counts, len(failures)), encoding="utf-8")
    return {"rows": dict(counts), "failures": len(failures), "dropped": jobs.dropped}


def _finish_shard(path: Path, part: list[SystemJob], pool: Any, bar: Any) -> list[list[str]]:
    """Draws one shard unless it is there already; returns its failures."""
    if path.exists():
        bar.update(len(part))
        return json.loads(_failures_of(path).read_text(encoding="utf-8"))
    rows, failed = [], []
    for job, result in draw(part, pool):
        if isinstance(result, str):
            failed.append([f"{job.piece_id}, system {job.system + 1}", result])
        else:
            rows.append(result)
        bar.update()
    _write_shard(path, rows, failed)
    return failed


def digest_of_rows(folder: str | Path) -> str:
    """One hash over all rows of a built data set, to compare two builds."""
    import pyarrow.parquet as pq

    total = hashlib.sha256()
    for path in sorted(Path(folder, "data").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            total.update(row["image"]["bytes"])
            total.update(json.dumps({k: v for k, v in row.items() if k != "image"}, sort_keys=True).encode())
    return total.hexdigest()


def _card(settings: dict[str, Any], jobs: JobList, counts: Counter[str], failures: int) -> str:
    """Data set card."""
    files = "".join(
        f"  - split: {split}\n    path: data/{split}-*.parquet\n"
        for split in ("train", "validation", "test")
        if counts[split]
    )
    kinds = Counter(job.kind for part in jobs.jobs.values() for job in part)
    table = "".join(f"| {split} | {jobs.pieces.get(split, 0)} | {counts[split]} |\n" for split in sorted(counts))
    return f"""---
pretty_name: Tab systems with alphaTex
task_categories:
- image-to-text
tags:
- music
- guitar
- tablature
- alphatex
configs:
- config_name: default
  data_files:
{files}---
# Tab systems with alphaTex

Pictures of one system of guitar or bass tablature (tab with rhythm, or tab under a score staff), drawn by alphaTab,
each with the canonical alphaTex of what it shows and the boxes of all its beats and notes.

| split | pieces | systems |
|---|---|---|
{table}
Ways of playing: {", ".join(f"{kind} {count}" for kind, count in kinds.most_common())}.

Arguments: `{json.dumps(settings)}`. {failures} pieces or systems failed (failures.tsv); {jobs.dropped} training
systems were left out because a held-out split has the same text.

**Columns.** `image` grey PNG · `text` canonical alphaTex, without what the picture does not show (tuning, capo, key in
a tab alone, dynamics) · `boxes` in pixels: `beats` and `notes` of the tab staff by (bar, voice, beat[, string])
counted from 0 (strings from 1, the highest line), `on_x` the middle of the numbers; `bars`; `tab_lines` the y of each
line; `tab_x` its two ends · `source`, `piece_id`, `system` (its number in the piece), `kind` · `style` arguments of the
renderer · `split`.

**Splits** are drawn by a hash of the name of the work before anything is drawn, so no work is in two of them; and no
training text is a held-out text.

**Licence.** Generated parts are free of rights. Parts from the music21 corpus and from files keep their own licences.
"""


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="build_score_tab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="folder of the data set (made when it is not there)")
    parser.add_argument(
        "--generated", type=int, default=10_000, metavar="N", help="systems made by rule (default %(default)s)"
    )
    parser.add_argument(
        "--corpus", type=int, default=0, metavar="N", help="files of the music21 corpus (default %(default)s)"
    )
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="PATH",
        help="folder or file of MIDI, MusicXML, Guitar Pro or alphaTex; may be given again",
    )
    parser.add_argument("--seed", type=int, default=0, help="decides pieces, cuts and styles (default %(default)s)")
    parser.add_argument(
        "--shard-size", type=int, default=500, metavar="N", help="systems in one Parquet file (default %(default)s)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="renderer processes; rows do not depend on it (default %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    a = parser.parse_args(arguments)
    if a.generated < 0 or a.corpus < 0 or a.shard_size < 1 or a.workers < 1:
        parser.error("--generated and --corpus must be 0 or more, --shard-size and --workers 1 or more")
    try:
        report = build(a.out, a.generated, a.corpus, a.source, a.seed, a.shard_size, a.workers, progress=not a.quiet)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    rows = ", ".join(f"{split} {count}" for split, count in sorted(report["rows"].items())) or "none"
    print(f"systems: {rows}; failed: {report['failures']}; left out as overlap: {report['dropped']}; in {a.out}")
    if report["failures"]:
        print(
            f"{Path(a.out) / 'failures.tsv'}: {report['failures']} pieces or systems failed; the file names each",
            file=sys.stderr,
        )
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
