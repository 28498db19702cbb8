"""Builds StyleEncoder's data set: pictures with a style, and what a text encoder says of what they show.

    python -m intermezzo.datasets_scripts.build_style_pairs --out pairs --source data
    python -m intermezzo.datasets_scripts.build_style_pairs --out pairs --source data --ignore-targets pooled,mask
    python -m intermezzo.datasets_scripts.build_style_pairs --make-targets data --encoder use
    python -m intermezzo.datasets_scripts.build_style_pairs --make-targets data --encoder intfloat/multilingual-e5-small
    python -m intermezzo.datasets_scripts.build_style_pairs --out hands --engravings 500
    npm install --prefix icons @iconify-json/{ph,solar,icon-park,icon-park-outline,icon-park-solid,icon-park-twotone} \
        @iconify-json/{tabler,mdi,game-icons,noto,noto-v1,twemoji,emojione,streamline-emojis} \
        @iconify-json/{fluent-emoji-flat,fluent-emoji-high-contrast} @icon-park/svg emojibase-data
    python -m intermezzo.datasets_scripts.build_style_pairs --out grid --icons icons --engravings 150 --encoder use \
        --num-tokens 8 --per-style 3000 --without solar-outline --test 0.15 --validation 0.04

Three sources can be mixed:

* `--source`: a folder with one folder for each style, in it `image01_img.png` with `image01_embed.pt` `(L, D)`,
  `image01_pooled.pt` `(D,)`, `image01_mask.pt` `(L,)`. `--make-targets` writes those files, from captions beside the
  pictures (`image01.txt`, or `captions.csv` with name and caption).
* `--engravings`: systems of music made by rule, each drawn by twelve hands.
* `--icons`: icon and emoji sets of npm whose licence allows it; the target is the encoder's output for the name.

Splits keep contents apart and, where styles are held out, styles too: *train*; *validation* and *test* have unseen
contents in known styles; *test_style* has unseen contents in unseen styles. Pictures of an unseen style with a known
content are left out. A missing or mis-shaped target is named in failures.tsv, and the exit status is then 1. Of a
picture without any target only the style is learnt; how many there are is told.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..configuration.configuration_style_encoder import TARGETS
from ..processing.errors import InputError
from ..processing.text_encoder import DEFAULT_ENCODER, TextEncoder, load_text_encoder
from .build_folder import check_settings, write_failures
from .style_shards import finish_shard
from .style_sources import LICENCES, EngravingSource, FolderSource, IconSource, StyleJob
from .style_targets import make_targets

FORMAT = 1  # raise when the rows of the same arguments change
SPLITS = ("train", "validation", "test", "test_style")


def split_of(content: str, style: str, held_out: Sequence[str], test: float, validation: float) -> str | None:
    """Split of a picture, by a hash of its content alone and whether its style is held out.

    Args:
        content: What it shows.
        style: Its style.
        held_out: Styles that are not trained on; `NAME*` means all that begin so.
        test, validation: Parts of the contents.

    Returns:
        One of `SPLITS`, or `None` for a picture of a held-out style with a content that is trained on.
    """
    place = int.from_bytes(hashlib.sha256(content.encode()).digest()[:6], "big") / 2**48
    own = "test" if place < test else "validation" if place < test + validation else "train"
    if any(style == name or (name.endswith("*") and style.startswith(name[:-1])) for name in held_out):
        return "test_style" if own == "test" else None
    return own


def _plan(
    sources: Sequence[Any], held_out: Sequence[str], test: float, validation: float
) -> tuple[list[list[str]], dict[str, list[tuple[Any, list[StyleJob]]]], int, int]:
    """Failures, jobs of each source by split, number of styles, and how many jobs no split may have."""
    failures: list[list[str]] = []
    parts: dict[str, list[tuple[Any, list[StyleJob]]]] = {split: [] for split in SPLITS}
    dropped, styles = 0, set()
    for source in sources:
        jobs, bad = source.jobs()
        failures += bad
        for job in jobs:
            split = split_of(job.content, job.style, held_out, test, validation)
            if split is None:
                dropped += 1
                continue
            styles.add(job.style)
            if not parts[split] or parts[split][-1][0] is not source:
                parts[split].append((source, []))
            parts[split][-1][1].append(job)
    return failures, parts, len(styles), dropped


def _learnt(ignored: Sequence[str]) -> list[str]:
    unknown = [name for name in ignored if name not in TARGETS]
    if unknown:
        raise InputError(None, f"there is no target {unknown[0]!r}; ignore some of {', '.join(TARGETS)}")
    return [name for name in TARGETS if name not in ignored]


def build(
    out: str | Path,
    sources: Sequence[FolderSource | EngravingSource | IconSource],
    encoder: TextEncoder | None = None,
    ignore_targets: Sequence[str] = (),
    held_out_styles: Sequence[str] | None = None,
    test: float = 0.2,
    validation: float = 0.05,
    shard_size: int = 500,
    settings: dict[str, Any] | None = None,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Builds the data set, or goes on with one that was interrupted.

    Args:
        out: Folder; Parquet files go to `out/data`.
        sources: Where pictures come from.
        encoder: Makes targets of captions for pictures without target files.
        ignore_targets: Targets that are not stored and may be missing.
        held_out_styles: Styles that are not trained on, `NAME*` for all that begin so; each source's own by default.
        test, validation: Parts of the contents that are held out.
        shard_size: Pictures in a Parquet file.
        settings: What else decides the rows, stored to refuse going on with another data set.
        workers: Renderer processes; rows do not depend on it.
        progress: Show a progress bar.

    Returns:
        `{"rows": {split: count}, "failures": count, "dropped": count, "styles": count, "bare": without targets}`.

    Raises:
        InputError: A source is not there, `out` holds another data set, or a target is unknown.
    """
    from tqdm import tqdm

    from .render.client import AlphaTabPool

    learnt = _learnt(ignore_targets)
    held_out = [s for source in sources for s in source.held_out] if held_out_styles is None else held_out_styles
    out = Path(out)
    failures, parts, styles, dropped = _plan(sources, held_out, test, validation)
    (out / "data").mkdir(parents=True, exist_ok=True)
    fixed = {"format": FORMAT, "ignore_targets": sorted(ignore_targets), "held_out_styles": sorted(held_out)}
    fixed |= {"test": test, "validation": validation, "shard_size": shard_size, **(settings or {})}
    check_settings(out, fixed)
    counts, like = Counter[str](), dict[str, int]()
    total = sum(len(jobs) for split in parts.values() for _, jobs in split)
    with AlphaTabPool(workers) as pool, tqdm(total=total, desc="draw", unit="picture", disable=not progress) as bar:
        for split, groups in parts.items():
            for number, (source, jobs) in enumerate(_shards(groups, shard_size)):
                path = out / "data" / f"{split}-{number:05d}.parquet"
                about = finish_shard(path, jobs, split, source, pool, encoder, learnt, like)
                failures += about["failures"]
                counts[split] += about["rows"]
                bar.update(len(jobs))
    write_failures(out / "failures.tsv", failures)
    report = {"rows": dict(counts), "failures": len(failures), "dropped": dropped, "styles": styles}
    report["bare"] = _bare(parts, learnt, encoder)
    (out / "README.md").write_text(_card(fixed, report, sources), encoding="utf-8")
    return report


def _bare(
    parts: dict[str, list[tuple[Any, list[StyleJob]]]], learnt: Sequence[str], encoder: TextEncoder | None
) -> int:  # fmt: skip
    """How many have no target that is learnt, neither from files nor from a caption."""
    jobs = [job for groups in parts.values() for _, own in groups for job in own]
    plain = [job for job in jobs if not job.targets.keys() & {*learnt}]
    return sum(1 for job in plain if learnt and (encoder is None or not job.caption or job.targets))


def _shards(groups: list[tuple[Any, list[StyleJob]]], size: int) -> Iterator[tuple[Any, list[StyleJob]]]:
    for source, jobs in groups:
        ordered = sorted(jobs, key=lambda job: (hashlib.sha256(job.content.encode()).digest(), job.style, job.name))
        for start in range(0, len(ordered), size):
            yield source, ordered[start : start + size]


def _card(settings: dict[str, Any], report: dict[str, Any], sources: Sequence[Any]) -> str:
    rows = report["rows"]
    licences = {name: text for source in sources for name, text in source.licences.items()}
    files = "".join(f"  - split: {s}\n    path: data/{s}-*.parquet\n" for s in SPLITS if rows.get(s))
    table = "".join(f"| {split} | {rows[split]} |\n" for split in SPLITS if rows.get(split))
    listed = "".join(f"- `{name}`: {text}\n" for name, text in sorted(licences.items()))
    return f"""---
pretty_name: Pictures with styles and text embeddings
task_categories:
- image-feature-extraction
configs:
- config_name: default
  data_files:
{files}---
# Pictures with styles and text embeddings

Pictures of {report["styles"]} styles, each with the sequence embedding, pooled embedding and mask that a text encoder
gives for what it shows, where that is known.

| split | pictures |
|---|---|
{table}
*train*; *validation* and *test*: unseen contents in known styles; *test_style*: unseen contents in unseen styles.
{report["dropped"]} pictures of unseen styles were left out because their content is trained on.

**Columns.** `image` PNG · `style`, `content` (splits keep it together), `name`, `source` · `caption`, `caption_zh` ·
`embed` (L × D), `pooled` (D), `mask` (L): targets, empty where there are none · `pooled_zh` (D) of the Chinese caption.

Arguments: `{json.dumps(settings)}`. {report["failures"]} files or pictures failed (failures.tsv).

**Licences.** Pictures from folders keep their own.
{listed}"""


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="build_style_pairs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", help="folder of the data set (made when it is not there)")
    parser.add_argument("--source", action="append", default=[], metavar="FOLDER", help="folder of styles; repeatable")
    parser.add_argument("--engravings", type=int, default=0, metavar="N", help="systems that every hand draws")
    parser.add_argument("--icons", default="", metavar="FOLDER", help="folder of npm with @iconify-json sets")
    parser.add_argument("--per-style", type=int, default=0, metavar="N", help="icons of each style at most; 0: all")
    parser.add_argument("--without", default="", metavar="A,B", help="styles of icons that are left out")
    parser.add_argument("--side-px", type=int, default=128, metavar="PX", help="longer side of icons (default 128)")
    parser.add_argument("--licence", action="append", default=[], metavar="SPDX", help="also allow sets under it")
    parser.add_argument("--make-targets", default="", metavar="FOLDER", help="only write .pt files beside its pictures")
    encoders = f"text encoder: {DEFAULT_ENCODER} (packaged), model folder or name, or module:name"
    parser.add_argument("--encoder", default="", metavar="NAME", help=encoders)
    parser.add_argument("--prefix", default="", help="text before each caption, such as 'query: ' for E5")
    parser.add_argument("--num-tokens", type=int, default=16, metavar="L", help="places of the sequence (default 16)")
    parser.add_argument("--overwrite", action="store_true", help="--make-targets: also where files are there already")
    parser.add_argument("--ignore-targets", default="", metavar="A,B", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--held-out-styles", default=None, metavar="A,B*", help="styles that are not trained on")
    parser.add_argument("--test", type=float, default=0.2, help="part of the contents to test on (default %(default)s)")
    parser.add_argument("--validation", type=float, default=0.05, help="part to validate on (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="decides the engraved systems (default %(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="renderer processes (default %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    a = parser.parse_args(arguments)
    if min(a.test, a.validation) < 0 or a.test + a.validation >= 1:
        parser.error("--test and --validation are parts of the contents, together below 1")
    if a.num_tokens < 1 or a.engravings < 0 or a.per_style < 0 or a.workers < 1:
        parser.error("--num-tokens and --workers must be 1 or more, --engravings and --per-style 0 or more")
    try:
        return _make_targets(a) if a.make_targets else _build(a)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1


def _make_targets(a: argparse.Namespace) -> int:
    if not a.encoder:
        raise InputError(None, "say which text encoder: --encoder NAME")
    encoder = load_text_encoder(a.encoder, a.num_tokens, a.prefix)
    report = make_targets(a.make_targets, encoder, overwrite=a.overwrite, progress=not a.quiet)
    for where, what in report["failures"]:
        print(f"{where}: {what}", file=sys.stderr)
    print(f"targets made: {report['made']}; there already: {report['kept']}; failed: {len(report['failures'])}")
    return 1 if report["failures"] else 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _build(a: argparse.Namespace) -> int:
    sources: list[Any] = [FolderSource(folder) for folder in a.source]
    sources += [EngravingSource(a.engravings, a.seed)] if a.engravings else []
    licences = (*LICENCES, *a.licence)
    without = _names(a.without)
    sources += [IconSource(a.icons, a.side_px, a.per_style, licences, without)] if a.icons else []
    if not a.out or not sources:
        raise InputError(None, "give --out FOLDER and a source: --source FOLDER, --engravings N or --icons FOLDER")
    encoder = load_text_encoder(a.encoder, a.num_tokens, a.prefix) if a.encoder else None
    settings = {"sources": a.source, "engravings": a.engravings, "icons": a.icons, "per_style": a.per_style}
    settings |= {"encoder": a.encoder, "prefix": a.prefix, "num_tokens": a.num_tokens, "seed": a.seed}
    settings |= {"without": without, "side_px": a.side_px, "licences": list(licences)}
    held_out = None if a.held_out_styles is None else _names(a.held_out_styles)
    report = build(
        a.out, sources, encoder, _names(a.ignore_targets), held_out, a.test, a.validation, settings=settings,
        workers=a.workers, progress=not a.quiet,
    )  # fmt: skip
    rows = ", ".join(f"{split} {count}" for split, count in sorted(report["rows"].items())) or "none"
    print(f"pictures: {rows}; failed: {report['failures']}; left out: {report['dropped']}; in {a.out}")
    if report["bare"]:
        print(f"without targets, so that only their style is learnt: {report['bare']}")
    if report["failures"]:
        print(f"{Path(a.out) / 'failures.tsv'}: {report['failures']} failed; the file names each", file=sys.stderr)
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
