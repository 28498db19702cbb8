"""Builds the data set of piano rolls: windows of 128 pitches by 256 steps, with what can be measured of each.

    python -m intermezzo.datasets_scripts.build_midi --out data/midi
    python -m intermezzo.datasets_scripts.build_midi --out data/mine --source my_midis --source songs/one.mid
    python -m intermezzo.datasets_scripts.build_midi --out data/all --source pop909=POP909 --corpus -1 --workers 4
    python -m intermezzo.datasets_scripts.build_midi --out data/bars --tokens

Sources are folders or files of MIDI, MusicXML, ABC and Humdrum (`--source`, may be given again; NAME=PATH calls it NAME
in the data set), and the music21 corpus (`--corpus`, number of files, -1 for all of its free collections). Without any
--source, 400 files of the corpus are taken, so that the first line above works on any machine.

A roll holds codes: 0 silence, 1 a held note, 2 to 33 an onset in one of 32 loudness classes, or 2 to 128 in one of 127,
which keeps every velocity (--loudness-classes 127). A step is a sixteenth (--steps-per-quarter). Drums are left out.
Windows begin at bar lines; in the training split they may overlap (--hop).
With --tokens, rows are not rolls but chunks of up to 64 bars of tokens, for Museformer (`bar_token_rows.py`).
Files go to train, validation and test by a hash of their work's name, before anything is cut. Training windows that
share four bars with a held-out one, in whatever key and loudness, are left out.

The same arguments always give the same rows, with any number of workers; a run that was interrupted goes on where it
stopped. What failed is listed in failures.tsv, and the exit status is then 1.

Load it with `datasets.load_dataset("parquet", data_dir="data/midi/data")`; a roll is
`numpy.frombuffer(row["codes"], "uint8").reshape(128, 256)`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..processing.errors import InputError
from ..processing.music_attributes import mean_tempo, measure_roll
from ..processing.piano_roll import (
    FIRST_ONSET,
    LOUDNESS_CLASSES,
    NUM_LOUDNESS,
    STEPS_PER_QUARTER,
    WINDOW_STEPS,
    codes_in_all,
    codes_of_score,
    grid_phase,
    notes_of_codes,
)
from ..processing.roll_windows import Window, bar_lines, cut_windows
from . import bar_token_rows
from .build_folder import check_settings, write_failures
from .midi_sources import Piece, SourceFile, files_of_corpus, files_of_source, read_pieces
from .roll_card import card as roll_card

FORMAT = 1  # raise when the rows of the same arguments change
KIND: tuple[dict[str, Any], dict[str, Any]] = ({}, {"tokens": True})  # said of a data set of rolls, of tokens
DEFAULT_CORPUS = 400
MIN_NOTES = 16
SHINGLE_QUARTERS = 16
MIN_SHINGLE_NOTES = 12
SPLITS = ("test", "validation", "train")  # what is held out comes first: training windows are compared with it
_FLOATS = ("tempo", "density", "register", "polyphony", "range", "dynamics", "sustain", "leaps", "key_fit")
_NAMES = ("metre", "key", "mode")


def features(tokens: bool = False, loudness_classes: int = NUM_LOUDNESS) -> Any:
    """Columns of the data set of rolls, or of tokens; other rolls than those of 32 loudness classes name theirs."""
    from datasets import Features, Value

    columns = bar_token_rows.columns() if tokens else {"codes": Value("binary")}
    columns |= {name: Value("string") for name in ("source", "piece_id", "title", "composer")}
    if not tokens:
        columns |= {name: Value("int32") for name in ("window", "bar", "start_step", "num_steps")}
    if loudness_classes != NUM_LOUDNESS:
        columns["loudness_classes"] = Value("int32")
    columns |= {name: Value("float32") for name in _FLOATS}
    columns |= {name: Value("string") for name in _NAMES}
    return Features(columns | {"split": Value("string")})


def rows_of_piece(
    piece: Piece, source: str, split: str, steps_per_quarter: int, hop_steps: int, *,
    loudness_classes: int = NUM_LOUDNESS,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of all windows of a piece that have notes enough.

    Raises:
        InputError: The piece has no pitched notes, or is too long.
    """
    score = piece.score
    phase, agreement = grid_phase(score, steps_per_quarter)
    offset = -phase if agreement > 0.5 else 0.0
    codes = codes_of_score(
        score, steps_per_quarter, offset_ticks=offset, name=piece.piece_id, loudness_classes=loudness_classes
    )
    bars = bar_lines(score, codes.shape[1], steps_per_quarter)
    rows, classes = [], {"loudness_classes": loudness_classes}
    for number, window in enumerate(cut_windows(codes, bars, hop_steps=hop_steps)):
        if len(notes_of_codes(window.codes, loudness_classes=loudness_classes)) < MIN_NOTES:
            continue
        stop = (window.start_step + window.num_steps) / steps_per_quarter
        tempo = mean_tempo(score, window.start_step / steps_per_quarter, stop)
        measured = measure_roll(window.codes, tempo, window.metre, steps_per_quarter, **classes)
        row: dict[str, Any] = {"codes": window.codes.tobytes(), "source": source, "piece_id": piece.piece_id}
        row |= {"title": piece.title, "composer": piece.composer, "window": number, "bar": window.bar}
        row |= {"start_step": window.start_step, "num_steps": window.num_steps, "split": split}
        row |= {name: measured[name] for name in (*_FLOATS, *_NAMES)}
        rows.append(row | classes | {"_shingles": shingles(window, steps_per_quarter)})
    return rows


def shingles(window: Window, steps_per_quarter: int = STEPS_PER_QUARTER) -> list[int]:
    """Hashes of every 16 quarters from a bar line on, the same in every key and loudness; thin stretches have none."""
    notes = notes_of_codes(np.minimum(window.codes, FIRST_ONSET))
    length = SHINGLE_QUARTERS * steps_per_quarter
    bar = max(1, 4 * steps_per_quarter * window.metre[0] // window.metre[1])
    found = []
    for first in range(0, window.codes.shape[1] - length + 1, bar):
        part = notes[(notes[:, 0] >= first) & (notes[:, 0] < first + length)]
        if len(part) >= MIN_SHINGLE_NOTES:
            places = np.stack([part[:, 0] - first, part[:, 2] - part[:, 2].min()], axis=1).astype("<i4")
            found.append(int.from_bytes(hashlib.blake2b(places.tobytes(), digest_size=8).digest(), "big"))
    return found


def read_file(job: tuple[SourceFile, str, int, int, bool, int]) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Rows of one file, and what went wrong with it or its pieces."""
    file, split, steps_per_quarter, hop_steps, tokens, classes = job
    try:
        pieces = read_pieces(file)
    except InputError as error:
        return [], [[f"{file.source}/{file.name}", error.message]]
    rows, failures = [], []
    for piece in pieces:
        try:
            if tokens:
                rows += bar_token_rows.rows_of_piece(piece, file.source, split, MIN_NOTES, shingles)
            else:
                about = (piece, file.source, split, steps_per_quarter, hop_steps)
                rows += rows_of_piece(*about, loudness_classes=classes)
        except InputError as error:
            failures.append([piece.piece_id, error.message])
    return rows, failures


@contextmanager
def _readers(workers: int) -> Iterator[Any]:
    """A `map` that keeps the order, over so many processes."""
    if workers == 1:
        yield map
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield lambda function, jobs: pool.imap(function, jobs, chunksize=4)


def collect_files(sources: list[str], corpus: int) -> dict[str, list[SourceFile]]:
    """Files of all sources by split, in a fixed order.

    Raises:
        InputError: A source does not exist or is given twice, or music21 is wanted and not installed.
    """
    files = [file for source in sources for file in files_of_source(source)]
    files += files_of_corpus(None if corpus < 0 else corpus) if corpus else []
    twice = [name for name, count in Counter((f.source, f.name, f.path) for f in files).items() if count > 1]
    if twice:
        raise InputError(twice[0][2], "is in the sources twice; give each file once")
    return {split: [file for file in files if file.split == split] for split in SPLITS}


def build(
    out: str | Path,
    sources: list[str] | None = None,
    corpus: int | None = None,
    steps_per_quarter: int = STEPS_PER_QUARTER,
    hop_steps: int = WINDOW_STEPS,
    shard_files: int = 100,
    workers: int = 1,
    progress: bool = True,
    tokens: bool = False,
    loudness_classes: int = NUM_LOUDNESS,
) -> dict[str, Any]:
    """Builds the data set, or goes on with one that was interrupted.

    Args:
        out: Folder; Parquet files go to `out/data`.
        sources: Folders or files, also as NAME=PATH.
        corpus: Files of the music21 corpus, -1 for all; left out, 400 when there are no sources, else none.
        steps_per_quarter: Steps in a quarter note.
        hop_steps: Steps from one training window to the next; held-out windows do not overlap.
        shard_files: Files of music behind one Parquet file.
        workers: Processes; rows do not depend on it.
        progress: Show a progress bar.
        tokens: Rows are chunks of tokens, not rolls; steps and hops do not matter then.
        loudness_classes: Of the rolls: 32, or 127 so that every velocity is kept. Tokens have 32.

    Returns:
        `{"rows": {split: windows}, "pieces": {split: count}, "failures": count, "dropped": count}`.

    Raises:
        InputError: A source does not exist, `out` holds another data set, or the loudness classes can not be.
    """
    from tqdm import tqdm

    kind = _kind_of_rows(tokens, loudness_classes)
    sources = sources or []
    corpus = (0 if sources else DEFAULT_CORPUS) if corpus is None else corpus
    files = collect_files(sources, corpus)
    out = Path(out)
    _make_folders(out)
    settings: dict[str, Any] = {"format": FORMAT, "sources": sources, "corpus": corpus, "hop_steps": hop_steps}
    settings |= {"steps_per_quarter": steps_per_quarter, "shard_files": shard_files} | kind
    check_settings(out, settings)
    held: set[int] = set()
    totals: dict[str, Any] = {"rows": Counter(), "pieces": Counter(), "sources": Counter(), "dropped": 0}
    failures: list[list[str]] = []
    total, kinds = sum(map(len, files.values())), features(tokens, loudness_classes)
    with _readers(workers) as run, tqdm(total=total, desc="read", unit="file", disable=not progress) as bar:
        for split in SPLITS:
            hop = hop_steps if split == "train" else WINDOW_STEPS
            for number, start in enumerate(range(0, len(files[split]), shard_files)):
                part = files[split][start : start + shard_files]
                jobs = [(file, split, steps_per_quarter, hop, tokens, loudness_classes) for file in part]
                path = out / "data" / f"{split}-{number:05d}.parquet"
                _add_up(totals, _finish_shard(path, jobs, run, held, bar, kinds), split, held, failures)
    write_failures(out / "failures.tsv", failures)
    totals["failures"] = len(failures)
    (out / "README.md").write_text(_card(settings, totals), encoding="utf-8")
    return totals


def _kind_of_rows(tokens: bool, loudness_classes: int) -> dict[str, Any]:
    """What the settings say of the rows: nothing where they are rolls with 32 loudness classes.

    Raises:
        InputError: Rolls, or tokens, can not have so many loudness classes.
    """
    codes_in_all(loudness_classes)  # refuses what can not be
    if tokens and loudness_classes != NUM_LOUDNESS:
        raise InputError(None, f"tokens have {NUM_LOUDNESS} loudness classes, rolls alone may have {loudness_classes}")
    told = {"loudness_classes": loudness_classes} if loudness_classes != NUM_LOUDNESS else {}
    return {"tokens": True} if tokens else told


def _card(settings: dict[str, Any], report: dict[str, Any]) -> str:
    """Data set card."""
    splits = [split for split in reversed(SPLITS) if report["rows"][split]]
    if settings.get("tokens"):
        return bar_token_rows.card(settings, report, splits)
    return roll_card(settings, report, splits, MIN_NOTES)


def _notes_of(shard: Path) -> Path:
    """What is known of a shard; not beside it, so that `data` holds Parquet and nothing else."""
    return shard.parent.parent / "notes" / f"{shard.stem}.json"


def _make_folders(out: Path) -> None:
    """Makes the folders of the data set; notes that an older version left in `data` go where they belong."""
    for name in ("data", "notes"):
        (out / name).mkdir(parents=True, exist_ok=True)
    for old in (out / "data").glob("*.json"):
        old.replace(_notes_of(old))


def _add_up(
    totals: dict[str, Any], about: dict[str, Any], split: str, held: set[int], failures: list[list[str]]
) -> None:
    """Adds what is known of a finished shard to what is known of all."""
    held.update(about["shingles"])
    failures += about["failures"]
    totals["rows"][split] += about["rows"]
    totals["pieces"][split] += about["pieces"]
    totals["sources"].update(about["sources"])
    totals["dropped"] += about["dropped"]


def _finish_shard(path: Path, jobs: list[Any], run: Any, held: set[int], bar: Any, kinds: Any) -> dict[str, Any]:
    """Reads the files of one shard unless it is there already; returns what is to be known about it."""
    if path.exists():
        bar.update(len(jobs))
        return json.loads(_notes_of(path).read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = []
    about: dict[str, Any] = {"failures": [], "dropped": 0, "shingles": []}
    for found, failed in run(read_file, jobs):
        about["failures"] += failed
        for row in found:
            marks = row.pop("_shingles")
            if row["split"] == "train" and not held.isdisjoint(marks):
                about["dropped"] += 1
                continue
            about["shingles"] += marks if row["split"] != "train" else []
            rows.append(row)
        bar.update()
    about |= {"rows": len(rows), "pieces": len({row["piece_id"] for row in rows})}
    about["sources"] = dict(sorted(Counter(row["source"] for row in rows).items()))
    _write_shard(path, rows, about, kinds)
    return about


def _write_shard(path: Path, rows: list[dict[str, Any]], about: dict[str, Any], kinds: Any) -> None:
    """Writes the notes, then the rows; the Parquet file appears whole or not at all."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    _notes_of(path).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    partial = path.with_suffix(".partial")
    columns = {name: [row[name] for row in rows] for name in kinds}
    Dataset.from_dict(columns, features=kinds).to_parquet(str(partial))
    partial.replace(path)


def digest_of_rows(folder: str | Path) -> str:
    """One hash over all rows of a built data set, to compare two builds."""
    import pyarrow.parquet as pq

    total = hashlib.sha256()
    for path in sorted(Path(folder, "data").glob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            total.update(row.pop("codes", b""))
            total.update(json.dumps(row, sort_keys=True).encode())
    return total.hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="build_midi", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", required=True, help="folder of the data set (made when it is not there)")
    add("--source", action="append", default=[], metavar="[NAME=]PATH", help="folder or file; may be given again")
    add(
        "--corpus", type=int, metavar="N", help="files of the music21 corpus, -1 for all (default 400 without --source)"
    )
    add("--steps-per-quarter", type=int, default=STEPS_PER_QUARTER, metavar="N", help="grid (default %(default)s)")
    add(
        "--hop", type=int, default=WINDOW_STEPS, metavar="STEPS",
        help="from one training window to the next; 128 gives about twice the windows (default %(default)s)",
    )  # fmt: skip
    add("--shard-files", type=int, default=100, metavar="N", help="files behind one Parquet file (default %(default)s)")
    add("--workers", type=int, default=1, metavar="N", help="processes; rows do not depend on it (default %(default)s)")
    add(
        "--loudness-classes", type=int, default=NUM_LOUDNESS, choices=LOUDNESS_CLASSES,
        help="of the onsets of a roll; 127 keeps every velocity (default %(default)s)",
    )  # fmt: skip
    add("--tokens", action="store_true", help="chunks of tokens for Museformer instead of rolls")
    add("--quiet", action="store_true", help="no progress bar")
    a = parser.parse_args(arguments)
    if min(a.steps_per_quarter, a.hop, a.shard_files, a.workers) < 1 or (a.corpus or 0) < -1:
        parser.error("--steps-per-quarter, --hop, --shard-files, --workers must be 1 or more, --corpus -1 or more")
    try:
        settings = (a.steps_per_quarter, a.hop, a.shard_files, a.workers)
        kind: dict[str, Any] = {"tokens": a.tokens, "loudness_classes": a.loudness_classes}
        report = build(a.out, a.source, a.corpus, *settings, progress=not a.quiet, **kind)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    rows = ", ".join(f"{split} {report['rows'][split]}" for split in SPLITS)
    unit = "chunks" if a.tokens else "windows"
    told = f"failed: {report['failures']}; left out as overlap: {report['dropped']}; in {a.out}"
    print(f"{unit}: {rows}; {told}")
    if report["failures"]:
        place = Path(a.out) / "failures.tsv"
        print(f"{place}: {report['failures']} files or pieces failed; the file names each", file=sys.stderr)
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
