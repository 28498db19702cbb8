"""Test sets of the tab reader: pictures with their true text, from Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..processing.alphatex_grammar import Score, Staff, Track, read_alphatex
from ..processing.errors import InputError
from .evaluation_report import Failure

if TYPE_CHECKING:
    from PIL import Image

    from .evaluation import EvaluationRequest

COLUMNS = ("image", "text", "piece_id")


@dataclass(frozen=True)
class Sample:
    """One picture of one system.

    Attributes:
        name: Name in reports.
        image: The picture.
        text: True alphaTex.
        piece: Piece it is cut from: systems of one piece are resampled together.
        source: Where the piece comes from.
        staves: `"tabs"` or `"score+tabs"`.
        kind: Kind of part (riff, picking, melody ...; `wild`: any fret in any rhythm, as nobody plays).
    """

    name: str
    image: Image.Image
    text: str
    piece: str
    source: str = ""
    staves: str = "tabs"
    kind: str = ""


def staves_of(style: Any) -> str:
    """`"tabs"` or `"score+tabs"` out of a row's style: a name, a JSON object or a mapping with `staves`."""
    if isinstance(style, str) and style.startswith("{"):
        style = json.loads(style)
    if isinstance(style, dict):
        style = style.get("staves", "")
    return "score+tabs" if "score" in str(style) else "tabs"


def parquet_files(data: str | Path) -> list[Path]:
    """The Parquet files of a test set, those named `test*` when a folder has some.

    Raises:
        InputError: There are none.
    """
    path = Path(data)
    if path.is_file():
        return [path]
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else []
    files = [file for file in files if file.name.startswith("test")] or files
    if not files:
        raise InputError(
            path, "no Parquet file there; make one with `python -m intermezzo.datasets_scripts.build_score_tab`"
        )
    return files


def _rows(files: list[Path], wanted: set[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows by their number through all files; row groups without a wanted row are not decoded."""
    import pyarrow.parquet as pq

    first = 0
    for file in files:
        with pq.ParquetFile(file) as table:
            names = [name for name in (*COLUMNS, "source", "style", "kind") if name in table.schema_arrow.names]
            for group in range(table.num_row_groups):
                count = table.metadata.row_group(group).num_rows
                inside = sorted(number - first for number in wanted if first <= number < first + count)
                if inside:
                    for offset, row in zip(
                        inside, table.read_row_group(group, names).take(inside).to_pylist(), strict=True
                    ):
                        yield first + offset, row
                first += count


def _count_rows(files: list[Path]) -> int:
    import pyarrow.parquet as pq

    total = 0
    for file in files:
        try:
            with pq.ParquetFile(file) as table:
                missing = [name for name in COLUMNS if name not in table.schema_arrow.names]
                total += table.metadata.num_rows
        except (OSError, ValueError) as error:
            raise InputError(file, f"not a readable Parquet file ({str(error).splitlines()[0]})") from error
        if missing:
            raise InputError(file, f"has no column {', '.join(missing)}; build_score_tab writes {', '.join(COLUMNS)}")
    return total


def read_samples(data: str | Path, n: int, seed: int, failures: list[Failure]) -> list[Sample]:
    """Draw samples from a test set, in a random order, so that the first few are a fair sample too.

    Args:
        data: Parquet file or folder.
        n: Samples; all when there are fewer.
        seed: Seed of the draw.
        failures: Rows with an unreadable picture or truth are added here and left out.

    Raises:
        InputError: No Parquet file, or one without the needed columns.
    """
    from PIL import Image

    files = parquet_files(data)
    total = _count_rows(files)
    wanted = [int(number) for number in np.random.default_rng(seed).permutation(total)[:n]]
    samples: dict[int, Sample] = {}
    for number, row in _rows(files, set(wanted)):
        name = f"row {number} ({row['piece_id']})"
        try:
            read_alphatex(row["text"])
        except InputError as error:
            failures.append(Failure(name, "truth", str(error)))
            continue
        try:
            image = Image.open(io.BytesIO(row["image"]["bytes"]))
            image.load()
        except (OSError, TypeError, ValueError) as error:
            failures.append(Failure(name, "picture", str(error)))
            continue
        style = staves_of(row.get("style", ""))
        source, kind = (str(row.get(field) or "") for field in ("source", "kind"))
        samples[number] = Sample(name, image, row["text"], str(row["piece_id"]), source, style, kind)
    return [samples[number] for number in wanted if number in samples]


def load_samples(request: EvaluationRequest, failures: list[Failure]) -> tuple[list[Sample], list[Sample]]:
    """The test set that a request names, or the held-out split built from its seed: as played, and wild parts.

    A named set is told apart by its rows' `kind`. Of the built split, wild parts come on top of the systems asked for,
    a quarter as many. It stays in the request's folder and is used again for the same seed and size.
    """
    from .evaluation_held_out import WILD, build_held_out

    if request.data is not None:
        samples = read_samples(request.data, request.n, request.seed, failures)
        return [s for s in samples if s.kind != WILD], [s for s in samples if s.kind == WILD]
    folder = request.out or Path("out") / "evaluation"
    sets = []
    for n, wild in ((request.n, False), (request.n // 4, True)):
        data = build_held_out(n, request.seed, folder, failures, progress=request.progress, wild=wild) if n else None
        sets.append(read_samples(data, n, request.seed, failures) if data else [])
    return sets[0], sets[1]


def part_of(score: Score, first: int, last: int) -> Score:
    """Bars `first` to `last` (from 0, both inside) of a one-staff score, as a system picture shows them."""
    staff = score.staves[0]
    return Score(tracks=[Track(staves=[replace(staff, bars=staff.bars[first : last + 1])])])


def joined(texts: Sequence[str]) -> Score:
    """One score of the bars of several one-staff texts (an empty score for none).

    The first staff gives strings and what is drawn; marks that a line repeats (metre, tempo) stay as they were.
    """
    staves: list[Staff] = [staff for text in texts for staff in read_alphatex(text).staves[:1]]
    if not staves:
        return Score()
    return Score(tracks=[Track(staves=[replace(staves[0], bars=[bar for staff in staves for bar in staff.bars])])])
