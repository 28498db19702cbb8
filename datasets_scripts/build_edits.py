"""Builds the data set of edits: a text, an instruction in Chinese or English, the program it means, the text after it.

    python -m intermezzo.datasets_scripts.build_edits --out data/edits --generated 20000
    python -m intermezzo.datasets_scripts.build_edits --out data/edits --generated 5000 --music my_midis song.alphatex

Pieces go to train, validation and test by a hash of their name, and every instruction is said in a wording of the same
split, so that neither a piece nor a wording is in two of them. The same arguments always give the same rows; a run that
was interrupted goes on where it stopped. What failed is listed in failures.tsv, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ..processing.alphatex_grammar import Score, read_alphatex
from ..processing.edit_language import write_program
from ..processing.errors import InputError
from .build_folder import check_settings, write_failures
from .edit_music import EditError
from .edit_pairs import EditPair, WrongEdit, generated_pieces, make_pair
from .edit_wordings import SPLITS
from .guitar_parts import HELD_OUT, Piece
from .music_sources import MIDI_SUFFIXES, MUSICXML_SUFFIXES, pieces_of_file

FORMAT = 1  # raise when the rows of the same arguments change
TEXT_SUFFIXES = (".alphatex", ".atex", ".tex")
COLUMNS = ("before", "instruction", "program", "after", "language", "seed", "piece_id", "source", "kind", "split")


def _row(pair: EditPair) -> dict[str, Any]:
    row = {name: getattr(pair, name) for name in COLUMNS}
    return row | {"program": write_program(pair.program)}


def _rng(*words: object) -> random.Random:
    digest = hashlib.sha256(" ".join(map(str, words)).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def pieces_of_text(path: Path) -> list[Piece]:
    """Pieces of an alphaTex file: one for each staff with strings.

    Raises:
        InputError: The file can not be read.
    """
    try:
        score = read_alphatex(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(path, f"does not read as alphaTex: {' '.join(str(error).split())[:200]}") from error
    found = []
    for index, staff in enumerate(score.staves):
        if staff.percussion or staff.tuning == () or index:  # what all staves share is written at the first
            continue
        one = Score(tracks=[type(score.tracks[0])(staves=[staff])])
        found.append(
            Piece(
                one, f"{path.name}-{index}", tuning=staff.tuning or (), capo=staff.capo, source="file", work=path.stem
            )
        )
    return found


def music_files(sources: Sequence[str]) -> list[Path]:
    """Files of music in some folders, in a fixed order.

    Raises:
        InputError: A source is not there or has no music.
    """
    wanted = MIDI_SUFFIXES + MUSICXML_SUFFIXES + TEXT_SUFFIXES
    files: list[Path] = []
    for source in map(Path, sources):
        found = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.suffix.lower() in wanted)
        if not found:
            raise InputError(source, f"is no file or folder with music ({', '.join(wanted)})")
        files += found
    return files


def _pieces_of_files(files: Sequence[Path], failures: list[list[str]]) -> Iterator[Piece]:
    for path in files:
        try:
            yield from pieces_of_text(path) if path.suffix.lower() in TEXT_SUFFIXES else pieces_of_file(path)
        except (InputError, ValueError) as error:
            failures.append([path.name, str(error).removeprefix(f"{path}: ")])


def _pairs(
    pieces: Iterator[Piece], split: str, settings: dict[str, Any], failures: list[list[str]], skipped: list[str]
) -> Iterator[EditPair]:
    """Pairs of pieces; a piece that allows no edit is counted, a wrong one is named."""
    for piece in pieces:
        for number in range(settings["per_piece"]):
            rng = _rng(settings["seed"], piece.piece_id, number)
            try:
                yield make_pair(piece, split, rng)
            except WrongEdit as error:
                failures.append([piece.piece_id, f"the judge says no: {error}"])
            except (EditError, InputError) as error:
                if piece.source == "generated":
                    skipped.append(str(error))
                else:
                    failures.append([piece.piece_id, str(error)])


def _counts(generated: int) -> dict[str, int]:
    held = {split: round(generated * share / 100) for split, share in HELD_OUT.items()}
    return {"train": generated - sum(held.values()), **held}


def _write_shard(path: Path, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"seed": pa.int64()}
    table = pa.Table.from_pylist(rows, schema=pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS]))
    part = path.with_suffix(".part")
    pq.write_table(table, part, compression="zstd")
    part.replace(path)  # a shard is there as a whole or not at all


def _shards(
    settings: dict[str, Any], files: Sequence[Path], failures: list[list[str]]
) -> Iterator[tuple[str, int, Any]]:
    """Split, number and pieces of each shard; pieces are made only when they are asked for."""
    size = settings["shard_size"]
    for split, count in _counts(settings["generated"]).items():
        for number, start in enumerate(range(0, count, size)):
            stop = min(start + size, count)

            def generated(split: str = split, start: int = start, stop: int = stop) -> Iterator[Piece]:
                # Each shard has its own run of pieces, so that one can be made without those before it.
                return islice(
                    generated_pieces(int.from_bytes(f"{settings['seed']} {split} {start}".encode(), "big"), split),
                    stop - start,
                )

            yield split, number, generated
    by_split: dict[str, list[Piece]] = {split: [] for split in SPLITS}
    for piece in _pieces_of_files(files, failures):
        by_split[piece.split].append(piece)
    for split, pieces in by_split.items():
        for number, start in enumerate(range(0, len(pieces), size)):
            yield split, 10_000 + number, lambda part=pieces[start : start + size]: iter(part)


def build(
    out: str | Path,
    generated: int = 20_000,
    music: Sequence[str] = (),
    seed: int = 0,
    per_piece: int = 1,
    shard_size: int = 1000,
    progress: bool = True,
) -> dict[str, Any]:
    """Builds the data set, or goes on with one that was interrupted.

    Args:
        out: Folder; Parquet files go to `out/data`.
        generated: Number of pieces made by rule.
        music: Files and folders of MIDI, MusicXML and alphaTex.
        seed: Decides pieces, cuts, edits and wordings.
        per_piece: Edits of each piece.
        shard_size: Pieces in a Parquet file.
        progress: Show a progress bar.

    Returns:
        `{"rows": {split: count}, "failures": count, "skipped": count}`; skipped pieces allow no edit.

    Raises:
        InputError: A source does not exist, or `out` holds another data set.
    """
    from tqdm import tqdm

    out = Path(out)
    files = music_files(music)
    (out / "data").mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"format": FORMAT, "generated": generated, "music": [str(m) for m in music]}
    settings |= {"seed": seed, "per_piece": per_piece, "shard_size": shard_size}
    check_settings(out, settings)
    failures: list[list[str]] = []
    rows: Counter[str] = Counter()
    skipped = 0
    for split, number, pieces in tqdm(
        _shards(settings, files, failures), desc="edit", unit="shard", disable=not progress
    ):
        path, notes = out / "data" / f"{split}-{number:05d}.parquet", out / "data" / f"{split}-{number:05d}.json"
        if not (path.exists() and notes.exists()):
            failed: list[list[str]] = []
            passed: list[str] = []
            made = [_row(pair) for pair in _pairs(pieces(), split, settings, failed, passed)]
            _write_shard(path, made)
            notes.write_text(
                json.dumps({"rows": len(made), "failures": failed, "skipped": len(passed)}), encoding="utf-8"
            )
        told = json.loads(notes.read_text(encoding="utf-8"))
        rows[split] += told["rows"]
        skipped += told["skipped"]
        failures += told["failures"]
    write_failures(out / "failures.tsv", failures)
    (out / "README.md").write_text(_card(settings, rows, len(failures), skipped), encoding="utf-8")
    return {"rows": dict(rows), "failures": len(failures), "skipped": skipped}


def _card(settings: dict[str, Any], rows: Counter[str], failures: int, skipped: int) -> str:
    """Data set card."""
    named = [split for split in SPLITS if rows[split]]
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in named)
    table = "".join(f"| {split} | {rows[split]} |\n" for split in named)
    return f"""---
pretty_name: Edits of guitar tablature by instruction
task_categories:
- text-generation
language:
- zh
- en
tags:
- music
- guitar
- tablature
- alphatex
configs:
- config_name: default
  data_files:
{files}---
# Edits of guitar tablature by instruction

Texts in canonical alphaTex, an instruction in Chinese or English, the line of the edit language that it means, and the
text after the edit. Every edit is made by a program and accepted by a judge that looks at the result alone.

| split | edits |
|---|---|
{table}
Arguments: `{json.dumps(settings)}`. {failures} files or edits failed (failures.tsv); {skipped} pieces allow no edit.

**Columns.** `before`, `after` canonical alphaTex · `instruction` and its `language` · `program` in the edit language ·
`seed` of what the edit leaves to chance · `piece_id`, `source`, `kind` · `split`.

**Splits** are drawn by a hash of the name of the work; the wordings of each edit are split too, so that a test row has
neither a piece nor a wording of a training row.

**Licence.** Generated parts are free of rights. Parts from files keep their own licences.
"""


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="build_edits", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="folder of the data set (made when it is not there)")
    parser.add_argument(
        "--generated", type=int, default=20_000, metavar="N", help="pieces made by rule (default %(default)s)"
    )
    parser.add_argument(
        "--music", nargs="*", action="extend", default=[], metavar="PATH",
        help="files and folders of MIDI, MusicXML, alphaTex",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="decides pieces, edits and wordings (default %(default)s)")
    parser.add_argument(
        "--per-piece", type=int, default=1, metavar="N", help="edits of each piece (default %(default)s)"
    )
    parser.add_argument(
        "--shard-size", type=int, default=1000, metavar="N", help="pieces in one file (default %(default)s)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    a = parser.parse_args(arguments)
    if a.generated < 0 or a.per_piece < 1 or a.shard_size < 1:
        parser.error("--generated must be 0 or more, --per-piece and --shard-size 1 or more")
    try:
        report = build(a.out, a.generated, a.music, a.seed, a.per_piece, a.shard_size, progress=not a.quiet)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    told = ", ".join(f"{split} {count}" for split, count in sorted(report["rows"].items())) or "none"
    print(f"edits: {told}; failed: {report['failures']}; without an edit: {report['skipped']}; in {a.out}")
    if report["failures"]:
        print(f"{Path(a.out) / 'failures.tsv'}: {report['failures']} failed; the file names each", file=sys.stderr)
    return 1 if report["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
