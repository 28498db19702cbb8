"""Shards of StyleEncoder's data set: targets of each picture, from files or captions, and how rows are stored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..configuration.configuration_style_encoder import TARGETS
from ..processing.errors import InputError
from ..processing.text_encoder import TextEncoder
from .style_sources import StyleJob


def features() -> Any:
    """Columns of the data set."""
    from datasets import Features, Image, List, Value

    vector = List(Value("float32"))
    texts = {name: Value("string") for name in ("style", "content", "name", "source", "caption", "caption_zh", "split")}
    return Features(
        {
            "image": Image(),
            **texts,
            "embed": List(vector),
            "pooled": vector,
            "mask": List(Value("int8")),
            "pooled_zh": vector,
        }
    )


def read_targets(job: StyleJob, learnt: Sequence[str], like: dict[str, int]) -> dict[str, Any]:
    """The targets of a picture from its `.pt` files.

    Args:
        job: With any target file, it must have all learnt ones; without any, its style is all that is learnt.
        learnt: Targets that count.
        like: L and D of the data set, filled by the first picture that has targets.

    Raises:
        InputError: A target is missing, or one of another shape; the message names the file.
    """
    from ..processing.tensor_files import load_tensor

    wanted = [target for target in learnt if target in job.targets]
    if not wanted:
        return {}
    beside = next(iter(job.targets.values()))
    for target in learnt:
        if target not in job.targets:
            path = beside.with_name(f"{job.name}_{target}.pt")
            raise InputError(path, f"is missing; make it, or give --ignore-targets {target}")
    length, width = like.get("L"), like.get("D")
    shapes = {"embed": (length, width), "pooled": (width,), "mask": (length,)}
    found: dict[str, Any] = {}
    sizes = dict(like)
    for target in wanted:
        value = load_tensor(job.targets[target], shapes[target])
        if target == "mask" and not bool(((value == 0) | (value == 1)).all()):
            raise InputError(job.targets[target], "holds other values than 0 and 1")
        own = {"embed": ("L", "D"), "pooled": ("D",), "mask": ("L",)}[target]
        for axis, size in zip(own, value.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise InputError(job.targets[target], f"has {axis} = {size}, where {sizes[axis]} is needed")
        found[target] = value.to(int).numpy() if target == "mask" else value.numpy()
    like |= sizes
    return found


def rows_of(
    jobs: Sequence[StyleJob],
    split: str,
    drawn: Iterator[bytes | str],
    encoder: TextEncoder | None,
    learnt: Sequence[str],
    like: dict[str, int],
) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Rows of some jobs, and those that failed."""
    rows, failures, kept = [], [], []
    for job, picture in zip(jobs, drawn, strict=True):
        where = str(job.payload) if job.source == "folder" else f"{job.source}: {job.style} {job.name}"
        try:
            if isinstance(picture, str):
                raise InputError(None, picture)
            targets = read_targets(job, learnt, like)
        except InputError as error:
            failures.append([error.path or where, error.message])
            continue
        row = {name: getattr(job, name) for name in ("style", "content", "name", "source", "caption", "caption_zh")}
        rows.append({"image": {"bytes": picture, "path": None}, **row, "split": split, **dict.fromkeys(TARGETS)})
        rows[-1] |= {"pooled_zh": None, **{target: value.tolist() for target, value in targets.items()}}
        kept.append(job)
    if encoder is not None:
        _encode(rows, kept, encoder, learnt)
    return rows, failures


def _encode(rows: list[dict[str, Any]], jobs: Sequence[StyleJob], encoder: TextEncoder, learnt: Sequence[str]) -> None:
    """Targets from captions for the rows that have none from files; equal captions are encoded once."""
    lacking = [row for row, job in zip(rows, jobs, strict=True) if row["caption"] and not job.targets]
    texts = sorted({row[key] for row in lacking for key in ("caption", "caption_zh") if row[key]})
    if not texts:
        return
    encoded = encoder(texts)
    place = {text: number for number, text in enumerate(texts)}
    for row in lacking:
        found = encoded.row(place[row["caption"]])
        row |= {target: found[target].tolist() for target in learnt}
        if row["caption_zh"]:
            row["pooled_zh"] = encoded.pooled[place[row["caption_zh"]]].tolist()


def _about(path: Path) -> Path:
    """Beside the data folder, not in it: `load_dataset` would take it for data."""
    return path.parent.parent / "about" / f"{path.stem}.json"


def _write_shard(path: Path, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Writes what is known of the shard, then its rows; the Parquet file appears whole or not at all."""
    import pyarrow.parquet as pq
    from datasets import Dataset

    _about(path).parent.mkdir(exist_ok=True)
    _about(path).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    partial = path.with_suffix(".partial")
    # Pictures of one content lie side by side and share their targets, which zstd then stores about once.
    table = Dataset.from_list(rows, features=features()).data.table
    pq.write_table(table.replace_schema_metadata(features().arrow_schema.metadata), partial, compression="zstd")
    partial.replace(path)


def finish_shard(
    path: Path,
    jobs: Sequence[StyleJob],
    split: str,
    source: Any,
    pool: Any,
    encoder: TextEncoder | None,
    learnt: Sequence[str],
    like: dict[str, int],
) -> dict[str, Any]:
    """Makes one shard unless it is there already; returns what is known of it."""
    if path.exists():
        about = json.loads(_about(path).read_text(encoding="utf-8"))
        like |= about["like"]
        return about
    rows, failed = rows_of(jobs, split, source.draw(jobs, pool), encoder, learnt, like)
    about = {"rows": len(rows), "failures": failed, "like": like}
    if rows:
        _write_shard(path, rows, about)
    return about
