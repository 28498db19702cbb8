"""Builds captions for a built data set of music, in English and Chinese, out of what was measured there.

    python -m intermezzo.datasets_scripts.build_captions --source data/midi --out data/captions
    python -m intermezzo.datasets_scripts.build_captions --source data/midi --quartiles

`--source` is a folder that `build_midi` made: a row is a window of a piece with its measurements. Each window gets, in
each language, captions of five kinds (how many of each is an option): `plain` ("A fast, sparse piece in a high
register."), `template` (many wordings and all attributes), `terms` (a title as scores have them: "Adagio in E-flat
major, con sordino"), `imagery` (a picture whose every suggestion the music keeps, drawn by how strongly it does), and
`mixed` (a picture and a plain statement).

A caption states only what is true of its window, and its row carries what it states: `stated`, JSON of the classes it
allows by attribute, and `sides`, JSON of the sides of the median its image suggests. `music_wishes.fulfilled` and
`sides_kept` compare them with a measurement. Splits are those of the source; an image belongs to one split.

The same arguments always give the same rows; a run that was interrupted goes on where it stopped. Files that can not be
read and windows of which nothing can be said are listed in failures.tsv, and the exit status is then 1. Load it with
`datasets.load_dataset("parquet", data_dir="data/captions/data")`.

`--quartiles` prints the quartiles of the training windows, as `processing/music_wishes.py` keeps them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from ..processing.music_wishes import QUARTILES
from .build_folder import check_settings, write_failures
from .caption_words import LANGUAGES, WORDINGS, Caption, Teller, sayable
from .imagery import LEXICON, MORE, Image, ImageSet, draw_images, load_lexicon

FORMAT = 1  # raise when the rows of the same arguments change
COUNTS = {"plain": 1, "template": 2, "terms": 1, "imagery": 2, "mixed": 1}
KINDS = tuple(COUNTS)
_WITH_IMAGE = ("imagery", "mixed")
_KEYS = ("piece_id", "window", "split")
_MEASURES = (*QUARTILES, "key_fit", "metre", "key", "mode")
_OPTIONAL = ("bars", "seconds", "programs", "num_steps")
_ATTEMPTS = 4  # a caption that a window has already is drawn again so often


def features() -> Any:
    """Columns of the data set."""
    from datasets import Features, Value

    columns = {name: Value("string") for name in ("text", "language", "kind", "frame", "image", "stated", "sides")}
    return Features({"piece_id": Value("string"), "window": Value("int32"), "split": Value("string"), **columns})


def _rng(seed: int, *names: Any) -> random.Random:
    """A generator of its own for each caption, so that no caption depends on another one's draws."""
    digest = hashlib.blake2b("\0".join(map(str, (seed, *names))).encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "big"))


def captions_of(
    values: Mapping[str, Any],
    images: ImageSet,
    counts: Mapping[str, int] | None = None,
    seed: int = 0,
    name: str = "",
) -> list[Caption]:
    """Captions of one window, in both languages.

    Training may call it for windows that it has transposed or sped up: `values` are then the measures of the new music.

    Args:
        values: A measurement, with `key_fit`; `bars`, `seconds` and `programs` where known.
        images: Images that may be used (`images_by_split`).
        counts: Captions of each kind and language; `COUNTS` when left out.
        seed: Seed.
        name: Name of the window; other windows draw other words.

    Returns:
        Different texts only. Fewer than asked for where little can be said, or no image fits.
    """
    fitting = images.fitting(sayable(values))
    found: dict[str, Caption] = {}
    for language in LANGUAGES:
        teller = Teller(language, values)
        for kind, count in (counts or COUNTS).items():
            drawn: list[tuple[Image, ...]] = [()] * count
            if kind in _WITH_IMAGE:
                drawn = [(image,) for image in draw_images(fitting, count, _rng(seed, name, kind, language))]
            for number, image in enumerate(drawn):
                rng = _rng(seed, name, kind, language, number)
                for _ in range(_ATTEMPTS):
                    caption = getattr(teller, kind)(*image, rng)
                    if caption is None or caption.text not in found:
                        break
                if caption is not None:
                    found.setdefault(caption.text, caption)
    return list(found.values())


def images_by_split(*lexicons: str | Path) -> dict[str, ImageSet]:
    """Images of lexicons, see `load_lexicon`, by split."""
    found: dict[str, list[Image]] = {}
    for image in load_lexicon(*lexicons):
        found.setdefault(image.split, []).append(image)
    return {split: ImageSet(images) for split, images in found.items()}


# --- Reading ----------------------------------------------------------------------------------------------------------


def source_files(source: str | Path) -> list[Path]:
    """Parquet files of a built data set.

    Raises:
        InputError: There are none.
    """
    folder = Path(source)
    files = sorted((folder / "data").glob("*.parquet")) or sorted(folder.glob("*.parquet"))
    if not files:
        raise InputError(source, "holds no Parquet files; build a data set of music with build_midi first")
    return files


def read_windows(path: Path, steps_per_quarter: int) -> Iterator[dict[str, Any]]:
    """Windows of one Parquet file: names and measures, not the music.

    Raises:
        InputError: It can not be read, or has no columns of measures.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        present = set(file.schema_arrow.names)
        missing = [name for name in (*_KEYS, *_MEASURES) if name not in present]
        if missing:
            raise InputError(path, f"has no column {', '.join(missing)}; build it with build_midi")
        names = [*_KEYS, *_MEASURES, *(name for name in _OPTIONAL if name in present)]
        rows = file.read(columns=names).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise InputError(path, "can not be read as Parquet; build it again") from error
    for row in rows:
        for name in _MEASURES:
            if row[name] != row[name]:  # NaN is what was not measured
                row[name] = None
        if row.get("seconds") is None and row["tempo"] and row.get("num_steps"):
            row["seconds"] = row["num_steps"] / steps_per_quarter * 60 / row["tempo"]
        yield row


def _steps_per_quarter(source: Path) -> int:
    """Grid of the data set, out of the settings it was built with."""
    try:
        return int(json.loads((source / "build.json").read_text(encoding="utf-8"))["steps_per_quarter"])
    except (OSError, ValueError, KeyError, TypeError):
        return 4


def quartiles(source: str | Path) -> dict[str, tuple[float, float, float]]:
    """Quartiles of the training windows, four significant digits; dynamics without scores that have no marks."""
    import numpy as np

    folder = Path(source)
    files = source_files(folder)
    rows = [sayable(row) for path in files for row in read_windows(path, _steps_per_quarter(folder))]
    found = {}
    for name in QUARTILES:
        values = [row[name] for row in rows if row["split"] == "train" and row[name] is not None]
        if values:
            low, median, high = (float(f"{q:.4g}") for q in np.quantile(values, (0.25, 0.5, 0.75)))
            found[name] = (low, median, high)
    return found


# --- Building ---------------------------------------------------------------------------------------------------------


def build(
    source: str | Path,
    out: str | Path,
    counts: Mapping[str, int] | None = None,
    seed: int = 0,
    progress: bool = True,
    lexicon: str | Path | None = None,
) -> dict[str, Any]:
    """Builds the captions, or goes on with ones that were interrupted.

    Args:
        source: Folder of a data set that `build_midi` made.
        out: Folder; Parquet files go to `out/data`, one for each of the source, of the same name.
        counts: Captions of each kind, for each window and language.
        seed: Seed.
        progress: Show a progress bar.
        lexicon: Table of images; those of this package when `None`.

    Returns:
        `{"rows": {split: captions}, "kinds": {...}, "images": {split: number used}, "failures": count}`.

    Raises:
        InputError: No such data set, `out` holds other captions, or a piece is in two splits of the source.
    """
    from tqdm import tqdm

    source, out, counts = Path(source), Path(out), dict(counts or COUNTS)
    if set(counts) - set(KINDS) or min(counts.values()) < 0 or not any(counts.values()):
        raise InputError(None, f"captions are counted by {', '.join(KINDS)}, 0 or more of each and one at least")
    lexicons = (LEXICON, MORE) if lexicon is None else (lexicon,)
    files, images = source_files(source), images_by_split(*lexicons)
    (out / "data").mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"format": FORMAT, "seed": seed, "counts": counts}
    settings["words"] = [hashlib.sha256(Path(p).read_bytes()).hexdigest()[:16] for p in (*lexicons, WORDINGS)]
    settings["source files"] = [[path.name, path.stat().st_size] for path in files]
    check_settings(out, settings)
    totals: dict[str, Counter[str]] = {"rows": Counter(), "kinds": Counter(), "windows": Counter()}
    used: dict[str, set[str]] = {}
    pieces: dict[str, str] = {}
    failures: list[list[str]] = []
    for path in tqdm(files, desc="caption", unit="file", disable=not progress):
        about = _finish_shard(path, out / "data" / path.name, images, counts, seed, _steps_per_quarter(source))
        for name, total in totals.items():
            total.update(about[name])
        for split, names in about["images"].items():
            used.setdefault(split, set()).update(names)
        for piece, split in about["pieces"].items():
            if pieces.setdefault(piece, split) != split:
                raise InputError(source, f"the piece {piece!r} is in {split} and in {pieces[piece]}; build it again")
        failures += about["failures"]
    write_failures(out / "failures.tsv", failures)
    report: dict[str, Any] = {name: dict(total) for name, total in totals.items()}
    report |= {"images": {split: len(names) for split, names in sorted(used.items())}, "failures": len(failures)}
    (out / "README.md").write_text(_card(settings, report, images), encoding="utf-8")
    return report


def _finish_shard(
    source: Path, path: Path, images: Mapping[str, ImageSet], counts: Mapping[str, int], seed: int, per_quarter: int
) -> dict[str, Any]:
    """Captions one Parquet file unless that is done already; returns what is to be known about it."""
    notes = _notes(path)
    if path.exists():
        return json.loads(notes.read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {"failures": [], "pieces": {}, "images": {}, "windows": Counter()}
    try:
        windows = list(read_windows(source, per_quarter))
    except InputError as error:
        windows, about["failures"] = [], [[source.name, error.message]]
    for window in windows:
        piece, split = window["piece_id"], window["split"]
        if about["pieces"].setdefault(piece, split) != split:
            raise InputError(source, f"the piece {piece!r} is in two splits; build it again")
        captions = captions_of(window, images.get(split, ImageSet([])), counts, seed, f"{piece}\0{window['window']}")
        if not captions:
            about["failures"].append([f"{piece}, window {window['window']}", "nothing can be said of it"])
            continue
        about["windows"][split] += 1
        rows += [_row(caption, window) for caption in captions]
        about["images"].setdefault(split, []).extend(caption.image for caption in captions if caption.image)
    about["images"] = {split: sorted(set(names)) for split, names in about["images"].items()}
    about["rows"] = Counter(row["split"] for row in rows)
    about["kinds"] = Counter(f"{row['language']} {row['kind']}" for row in rows)
    if windows:
        _write_shard(path, rows, about)
    return about


def _notes(path: Path) -> Path:
    """Where notes about a Parquet file lie: not beside it, for `load_dataset` takes every file of that folder."""
    return path.parent.parent / "notes" / f"{path.stem}.json"


def _row(caption: Caption, window: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {name: window[name] for name in _KEYS}
    row |= {name: getattr(caption, name) for name in ("text", "language", "kind", "frame", "image")}
    return row | {name: json.dumps(getattr(caption, name), sort_keys=True) for name in ("stated", "sides")}


def _write_shard(path: Path, rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Writes the notes, then the rows; the Parquet file appears whole or not at all."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    _notes(path).parent.mkdir(exist_ok=True)
    _notes(path).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    partial = path.with_suffix(".partial")
    columns = {name: [row[name] for row in rows] for name in features()}
    Dataset.from_dict(columns, features=features()).to_parquet(str(partial))
    partial.replace(path)


def _card(settings: dict[str, Any], report: dict[str, Any], images: Mapping[str, ImageSet]) -> str:
    """Data set card."""
    splits = [split for split in ("train", "validation", "test") if report["rows"].get(split)]
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in splits)
    table = "".join(
        f"| {split} | {report['windows'][split]} | {report['rows'][split]} "
        f"| {report['images'].get(split, 0)} of {len(images[split].images) if split in images else 0} |\n"
        for split in splits
    )
    kinds = "".join(f"| {name} | {count} |\n" for name, count in sorted(report["kinds"].items()))
    return f"""---
pretty_name: Captions of music in English and Chinese
language:
- en
- zh
tags:
- music
- captions
configs:
- config_name: default
  data_files:
{files}---
# Captions of music in English and Chinese

Captions of windows of music, made out of measurements; `piece_id` and `window` name the window in the data set of
piano rolls. Seed {settings["seed"]}.

| split | windows | captions | images used |
|---|---|---|---|
{table}
| language and kind | captions |
|---|---|
{kinds}
**Columns.** `text` · `language` en, zh · `kind` plain, template, terms, imagery, mixed · `frame` the wording it was
made with · `stated` JSON: first and last class it allows for each attribute it states, or the number (bpm, bars,
seconds) · `sides` JSON: -1 or 1 for each attribute its image suggests · `image` its name in the lexicon ·
`piece_id`, `window`, `split` as in the source.

**Truth.** A caption states only what was measured in its window, and an image is used only where the music lies on the
suggested side of the median in everything the image suggests. Loudness of scores without marks, and keys that fit
poorly, are not spoken of. Tempo counts quarter notes, whatever the beat is.

**Splits** of pieces are those of the source; no piece is in two. Images have splits of their own, by families of
near-synonyms: no image and no near-synonym of a held-out image is in the training split.

**Not in it.** Real titles, composers, styles and lyrics. {report["failures"]} files or windows failed.

**Licence.** The words are this project's own (Apache-2.0); the pieces they describe keep their own licences.
"""


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="build_captions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--source", required=True, help="folder that build_midi made")
    add("--out", help="folder of the captions (made when it is not there)")
    for kind, count in COUNTS.items():
        add(
            f"--{kind}", type=int, default=count, metavar="N",
            help=f"{kind} captions for each window and language (default %(default)s)",
        )  # fmt: skip
    add("--seed", type=int, default=0, help="seed (default %(default)s)")
    add("--quartiles", action="store_true", help="print the quartiles of the training windows and stop")
    add("--quiet", action="store_true", help="no progress bar")
    a = parser.parse_args(arguments)
    if not a.quartiles and not a.out:
        parser.error("--out must name the folder of the captions")
    try:
        if a.quartiles:
            print(json.dumps(quartiles(a.source), indent=1))
            return 0
        report = build(a.source, a.out, {kind: getattr(a, kind) for kind in KINDS}, a.seed, not a.quiet)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    rows = ", ".join(f"{split} {count}" for split, count in sorted(report["rows"].items()))
    print(f"captions: {rows}; failed: {report['failures']}; in {a.out}")
    if report["failures"]:
        place = Path(a.out) / "failures.tsv"
        print(f"{place}: {report['failures']} files or windows failed; the file names each", file=sys.stderr)
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
