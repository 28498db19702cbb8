"""Builds lessons of text and picture codes for NativeVLM, from systems with their alphaTex.

    python -m intermezzo.datasets_scripts.build_interleaved --image-vq checkpoints/image_vq --out data/interleaved \
        --score-tab data/score_tab
    python -m intermezzo.datasets_scripts.build_interleaved --image-vq checkpoints/image_vq --out data/interleaved \
        --packed train=packs/train --packed validation=packs/held_out

Systems come from folders of build_score_tab (which know their splits) or from packed folders of ScoreVLM's training,
one split each. Pictures that are to be drawn have their beats in the middle of columns (`native_snap`). Every picture
goes through the picture tokenizer once; lessons hold its codes, so a model trained on them needs that tokenizer, whose
fingerprint is kept. Each system gives three lessons: read, draw, and one other; see
`interleaved_lessons`. A run that was interrupted goes on where it stopped. What failed is listed in failures.tsv.

Load it with `datasets.load_dataset("parquet", data_dir="data/interleaved/data")`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..processing.errors import InputError
from .interleaved_card import card_of
from .interleaved_lessons import LESSONS, System, lessons_of

FORMAT = 3  # raise when the rows of the same arguments change
SPLITS = ("validation", "test", "train")  # training last: held-out texts are known by then
_NUMBER = re.compile(r"(?: system)? (\d+)$")

Source = Any  # a sequence of rows with `canvas`, `text`, `name`


def features() -> Any:
    """Columns of the data set."""
    from datasets import Features, List, Value

    part = {"role": Value("string"), "kind": Value("string"), "text": Value("string")}
    part |= {"rows": Value("int32"), "columns": Value("int32"), "codes": List(Value("int32"))}
    part |= {"places": List(Value("int32"))}
    names = ("lesson", "name", "piece_id", "split")
    return Features({**{name: Value("string") for name in names}, "parts": List(part)})


def fingerprint(model: Any) -> str:
    """What tells one picture tokenizer from another, whatever precision it is stored in."""
    digest = hashlib.sha256(json.dumps([model.config.patch_height, model.config.patch_width]).encode())
    for name, value in sorted(model.state_dict().items()):
        if name.endswith(("codebook", "encoder.out.weight", "quantize.embedding.weight")):
            digest.update(value.detach().half().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def piece_and_place(name: str) -> tuple[str, int]:
    """The piece that a system is from, and its number in the piece, by the system's name."""
    found = _NUMBER.search(name)
    return (name[: found.start()], int(found[1])) if found else (name, 0)


class ScoreTabRows:
    """Systems of a split of a build_score_tab folder, on their canvas, in order."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split

    def __iter__(self) -> Iterator[dict[str, Any]]:
        from ..train.score_vlm_data import true_canvas
        from ..train.score_vlm_pack import rows_from_parquet

        try:
            for row in rows_from_parquet(self.folder, self.split):
                canvas, place = true_canvas(row)
                xs = [x * place.x_scale + place.x_offset for _, x in sorted(row.beat_x.items())]
                edges = [x * place.x_scale + place.x_offset for bar in row.bar_x for x in bar]
                yield {"canvas": canvas, "text": row.text, "name": row.name, "beat_xs": xs, "bar_xs": edges}
        except KeyError as error:
            raise InputError(self.folder, f"is no data set of build_score_tab: it has no column {error}") from error


class PackedRows:
    """Systems of a packed folder, in order."""

    def __init__(self, folder: Path) -> None:
        from ..train.score_vlm_data import PackedSystems

        self.systems = PackedSystems([folder])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for i in range(len(self.systems)):
            row = self.systems[i]
            labels = row["labels"]
            yield {**row, "beat_xs": labels.beats[:, 1].tolist(), "bar_xs": labels.bars[:, :2].ravel().tolist()}


def collect_sources(score_tab: Sequence[str], packed: Sequence[str]) -> dict[str, list[Any]]:
    """Sources by split.

    Raises:
        InputError: A folder is not there, or a split's name is not known.
    """
    found: dict[str, list[Any]] = {}
    for folder in map(Path, score_tab):
        files = [path.name for path in folder.rglob("*.parquet")]
        splits = [split for split in SPLITS if any(split in name for name in files)]
        if not splits:
            raise InputError(folder, "has no Parquet files; make them with build_score_tab")
        for split in splits:
            found.setdefault(split, []).append(ScoreTabRows(folder, split))
    for entry in packed:
        split, sign, name = entry.partition("=")
        if not sign or split not in SPLITS:
            raise InputError(entry, f"write SPLIT=FOLDER, where SPLIT is one of {', '.join(SPLITS)}")
        found.setdefault(split, []).append(PackedRows(Path(name)))
    if not found:
        raise InputError(None, "say what to build from: --score-tab FOLDER or --packed SPLIT=FOLDER")
    return found


class Builder:
    """One build; `run` does it.

    Args:
        out: Folder.
        model: `ImageVQModel`.
        max_bars, max_codes: Longer and larger systems are left out.
        seed, kinds: See `lessons_of`.
        shard_systems: Systems of a Parquet file.
        limit: Systems of a split at most; 0: all.
        snap: See `build`.
    """

    def __init__(
        self, out: Path, model: Any, max_bars: int, max_codes: int, seed: int, kinds: tuple[str, ...],
        shard_systems: int, limit: int, progress: bool, snap: bool = True,
    ) -> None:  # fmt: skip
        self.out, self.model, self.max_bars, self.max_codes = out, model.eval(), max_bars, max_codes
        self.snap = snap
        self.seed, self.kinds, self.shard_systems, self.limit, self.progress = (
            seed,
            kinds,
            shard_systems,
            limit,
            progress,
        )
        self.held_out_texts: set[str] = set()
        self.split_of: dict[str, str] = {}
        self.counts: Counter[str] = Counter()
        self.failures: list[list[str]] = []
        self.dropped = self.left_out = 0

    def run(self, sources: dict[str, list[Any]]) -> None:
        """Builds all splits."""
        for split in SPLITS:
            number, waiting = 0, []
            for row in self._rows(split, sources.get(split, [])):
                waiting.append(row)
                if len(waiting) == self.shard_systems:
                    self._shard(split, number, waiting)
                    number, waiting = number + 1, []
            if waiting:
                self._shard(split, number, waiting)

    def _rows(self, split: str, sources: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """Systems of a split that are short enough, and are not held out elsewhere."""
        from tqdm import tqdm

        taken = 0
        rows = (row for source in sources for row in source)
        for row in tqdm(rows, desc=split, unit="system", disable=not self.progress):
            if self.limit and taken >= self.limit:
                return
            piece, place = piece_and_place(row["name"])
            if self.split_of.setdefault(piece, split) != split:
                raise InputError(piece, f"is in {self.split_of[piece]} and in {split}; a piece belongs to one split")
            if self.max_bars and row["text"].count("|\n") > self.max_bars:
                self.left_out += 1
            elif split == "train" and row["text"] in self.held_out_texts:
                self.dropped += 1
            else:
                if split != "train":
                    self.held_out_texts.add(row["text"])
                taken += 1
                yield {**row, "piece_id": piece, "place": place}

    def _shard(self, split: str, number: int, rows: list[dict[str, Any]]) -> None:
        """Writes one Parquet file, unless it is there."""
        from datasets import Dataset, disable_progress_bars

        path = self.out / "data" / f"{split}-{number:05d}.parquet"
        notes = self.out / "failures" / f"{path.stem}.json"
        if path.exists():
            kept = json.loads(notes.read_text(encoding="utf-8"))
            self.failures += kept["failures"]
            self.counts.update(kept["counts"])
            self.left_out += kept["left_out"]
            return
        failures: list[list[str]] = []
        systems, large = self._encode(rows, failures)
        lessons = []
        for system in systems:
            for kind, parts in lessons_of(system, self.seed, self.kinds):
                about = {"lesson": kind, "name": system.name, "piece_id": system.piece_id, "split": split}
                lessons.append({**about, "parts": parts})
        counts = Counter(f"{split} {row['lesson']}" for row in lessons)
        disable_progress_bars()
        notes.parent.mkdir(exist_ok=True)
        kept = {"failures": failures, "counts": counts, "left_out": large}
        notes.write_text(json.dumps(kept, ensure_ascii=False), encoding="utf-8")
        partial = path.with_suffix(".partial")
        Dataset.from_list(lessons, features=features()).to_parquet(str(partial))
        partial.replace(path)
        self.failures += failures
        self.counts.update(counts)
        self.left_out += large

    def _encode(self, rows: list[dict[str, Any]], failures: list[list[str]]) -> tuple[list[System], int]:
        """Systems with their codes, in order, and how many were too large."""
        from ..processing.grid_pictures import SCALE, canvas_to_grid
        from ..processing.native_snap import snap_to_columns, snapped_columns

        geometry = self.model.config.geometry
        pictures: dict[tuple[int, bool], np.ndarray] = {}
        large = 0
        for i, row in enumerate(rows):
            try:
                found = {False: canvas_to_grid(row["canvas"], geometry)}
                if self.snap:
                    anchors = [*row["beat_xs"], *row["bar_xs"]]
                    found[True] = canvas_to_grid(snap_to_columns(row["canvas"], anchors, geometry), geometry)
            except InputError as error:
                failures.append([row["name"], str(error)])
                continue
            if max(np.prod(geometry.size(picture)) for picture in found.values()) > self.max_codes:
                large += 1
                continue
            pictures |= {(i, snapped): picture for snapped, picture in found.items()}
        codes = self._codes(pictures)
        systems = {}
        for i in sorted({i for i, _ in codes}):
            row, grid, drawn = rows[i], codes[i, False], codes.get((i, True))
            places = [int((x + 0.5) * SCALE // geometry.patch_width) for x in row["beat_xs"]]
            places = [min(max(place, 0), grid.shape[1] - 1) for place in places]
            systems[i] = System(row["text"], grid, row["piece_id"], row["name"], places=places)
            if drawn is not None:
                columns = snapped_columns(row["beat_xs"], [*row["beat_xs"], *row["bar_xs"]], geometry)
                systems[i].drawn, systems[i].drawn_places = drawn, [min(k, drawn.shape[1] - 1) for k in columns]
        for i, system in systems.items():
            before = systems.get(i - 1)
            if before and before.piece_id == system.piece_id and rows[i]["place"] == rows[i - 1]["place"] + 1:
                system.before = System(before.text, before.codes, before.piece_id, before.name)
        return list(systems.values()), large

    def _codes(self, pictures: dict[tuple[int, bool], np.ndarray]) -> dict[tuple[int, bool], np.ndarray]:
        """Codes of pictures, those of one size together: padding would change them."""
        import torch

        from ..processing.grid_pictures import to_ink

        sizes: dict[tuple[int, ...], list[tuple[int, bool]]] = {}
        for name, picture in pictures.items():
            sizes.setdefault(picture.shape, []).append(name)
        codes: dict[tuple[int, bool], np.ndarray] = {}
        for group in sizes.values():
            for start in range(0, len(group), 32):
                part = group[start : start + 32]
                ink = torch.from_numpy(np.stack([to_ink(pictures[name]) for name in part]))[:, None]
                with torch.no_grad():
                    found = self.model.encode(ink)
                codes |= {name: grid.numpy() for name, grid in zip(part, found, strict=True)}
        return codes


def build(
    out: str | Path,
    image_vq: str | Path,
    score_tab: Sequence[str] = (),
    packed: Sequence[str] = (),
    max_bars: int = 2,
    max_codes: int = 600,
    seed: int = 0,
    lessons: Sequence[str] = LESSONS,
    shard_systems: int = 1000,
    limit: int = 0,
    progress: bool = True,
    snap: bool = True,
) -> dict[str, Any]:
    """Builds the data set, or goes on with one that was interrupted.

    Args:
        out: Folder; Parquet files go to `out/data`.
        image_vq: Model folder of the picture tokenizer.
        score_tab: Folders of build_score_tab.
        packed: Packed folders, `SPLIT=FOLDER` each.
        max_bars, max_codes: Longer and larger systems are left out.
        seed: Decides the third lesson of each system, cuts and intervals.
        lessons: Kinds of lessons that are wanted.
        shard_systems: Systems in a Parquet file.
        limit: Systems of a split at most; 0: all.
        progress: Show progress bars.
        snap: Pictures to draw have their beats in the middle of columns; see `native_snap`.

    Returns:
        `{"lessons": {"split lesson": count}, "failures": count, "dropped": count, "left_out": count}`: `dropped` have a
        held-out text, `left_out` are too long or too large.

    Raises:
        InputError: A source does not exist, a piece is in two splits, or `out` holds another data set.
    """
    from ..modeling.modeling_image_vq import ImageVQModel
    from .build_folder import check_settings, write_failures

    unknown = sorted(set(lessons) - set(LESSONS))
    if unknown:
        raise InputError(None, f"there is no lesson {unknown[0]!r}; use {', '.join(LESSONS)}")
    if not (Path(image_vq) / "config.json").is_file():
        raise InputError(image_vq, "is no model folder; train one with `train image_vq`")
    sources = collect_sources(score_tab, packed)
    model = ImageVQModel.from_pretrained(image_vq).float()
    out = Path(out)
    (out / "data").mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"format": FORMAT, "seed": seed, "score_tab": list(map(str, score_tab))}
    settings |= {"packed": list(packed), "max_bars": max_bars, "max_codes": max_codes, "lessons": list(lessons)}
    settings |= {"shard_systems": shard_systems, "limit": limit, "image_vq": fingerprint(model)}
    settings |= {"snap": snap, "codebook_size": model.config.codebook_size}
    settings |= {"patch": [model.config.patch_height, model.config.patch_width]}
    check_settings(out, settings)
    builder = Builder(out, model, max_bars, max_codes, seed, tuple(lessons), shard_systems, limit, progress, snap)
    builder.run(sources)
    write_failures(out / "failures.tsv", builder.failures)
    (out / "README.md").write_text(card_of(settings, builder), encoding="utf-8")
    figures = {"failures": len(builder.failures), "dropped": builder.dropped, "left_out": builder.left_out}
    return {"lessons": dict(builder.counts), **figures}


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="build_interleaved", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", required=True, help="folder of the data set (made when it is not there)")
    add("--image-vq", required=True, metavar="DIR", help="model folder of the picture tokenizer")
    add("--score-tab", action="append", default=[], metavar="DIR", help="folder of build_score_tab; may be repeated")
    add("--packed", action="append", default=[], metavar="SPLIT=DIR", help="packed folder; may be repeated")
    add("--max-bars", type=int, default=2, metavar="N", help="longest systems (default %(default)s; 0: all)")
    add("--max-codes", type=int, default=600, metavar="N", help="largest pictures (default %(default)s)")
    add("--lessons", nargs="+", default=list(LESSONS), metavar="NAME", help=f"of {', '.join(LESSONS)}")
    add("--limit", type=int, default=0, metavar="N", help="systems of a split at most (default: all)")
    add("--seed", type=int, default=0, help="decides the third lessons (default %(default)s)")
    add("--shard-systems", type=int, default=1000, metavar="N", help="systems in a Parquet file")
    add("--no-snap", action="store_true", help="pictures to draw keep the engraver's places; see native_snap")
    add("--quiet", action="store_true", help="no progress bars")
    a = parser.parse_args(arguments)
    if min(a.max_bars, a.limit) < 0 or min(a.max_codes, a.shard_systems) < 1:
        parser.error("--max-bars and --limit must be 0 or more, --max-codes and --shard-systems 1 or more")
    sizes = (a.max_bars, a.max_codes, a.seed, a.lessons, a.shard_systems, a.limit)
    try:
        report = build(a.out, a.image_vq, a.score_tab, a.packed, *sizes, progress=not a.quiet, snap=not a.no_snap)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    lessons = ", ".join(f"{name} {count}" for name, count in sorted(report["lessons"].items())) or "none"
    print(f"lessons: {lessons}; failed: {report['failures']}; left out: {report['left_out']}; in {a.out}")
    if report["failures"]:
        print(f"{Path(a.out) / 'failures.tsv'}: {report['failures']} systems failed; it names each", file=sys.stderr)
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
