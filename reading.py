"""`intermezzo read`: pictures, pages and PDFs of tab to alphaTex and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .processing.alphatex_grammar import Score, write_alphatex
from .processing.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from .datasets_scripts.render import AlphaTabPool
    from .processing.system_reader import SystemReader, SystemReading

FORMATS = ("alphatex", "mid", "gp", "musicxml", "png", "html")
_CUT_OFF = "if a line of it is cut off, its strings and tuning are wrong; give a little more of the page"


@dataclass
class NamedSystem:
    """One system in the table that is shown at the end.

    Attributes:
        name: Name of the file, with the page and the number of the system where there are several.
        bars, notes: Their numbers.
        seconds: Time it took.
        bars_close: Whether every bar fills its metre.
        unsure_bars: Bars, counted from 1 in the system, that are more likely wrong than right.
    """

    name: str
    bars: int
    notes: int
    seconds: float
    bars_close: bool
    unsure_bars: list[int]


@dataclass
class ReadResult:
    """What came of one picture or page.

    Attributes:
        name: Results are named after it.
        text: Canonical alphaTex of all its systems, one after the other; empty when nothing could be read.
        systems: The systems from the top.
        files: What was written.
        error: `None`, or one line that names the file and what is wrong.
        note: `None`, or one line on what could make the result worse.
    """

    name: str
    text: str = ""
    systems: list[NamedSystem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    error: str | None = None
    note: str | None = None


def default_checkpoint() -> Path:
    """The checkpoint that comes along."""
    return Path(__file__).resolve().parent / "checkpoints" / "score_vlm"


def join_systems(readings: Sequence[SystemReading]) -> str:
    """One text of the systems of a page; what is in force is not written again.

    A page is written for the staves and strings of its first system; a system of other strings can not follow in the
    same staff and keeps its notes by string number.
    """
    scores = [reading.score for reading in readings if reading.score is not None]
    if not scores:
        return ""
    whole: Score = scores[0]
    metre, key = (4, 4), None
    bars = [bar for score in scores for bar in score.staves[0].bars]
    for index, bar in enumerate(bars):
        if index and bar.time_signature == metre:
            bar.time_signature = None
        if index and bar.key_signature == key:
            bar.key_signature = None
        metre, key = bar.time_signature or metre, bar.key_signature or key
        if index:
            bar.anacrusis = False if bar.voices and _fills(bar, metre) else bar.anacrusis
    whole.staves[0].bars = bars
    voices = max(len(bar.voices) for bar in bars)
    for bar in bars:
        bar.voices += [[] for _ in range(voices - len(bar.voices))]
    return write_alphatex(whole)


def _fills(bar: Any, metre: tuple[int, int]) -> bool:
    from .processing.alphatex_bars import bar_capacity

    return sum((beat.length for beat in bar.voices[0]), start=0 * bar_capacity(metre)) == bar_capacity(metre)


def read(
    inputs: Iterable[str | Path],
    out: str | Path | None = None,
    formats: Sequence[str] = ("alphatex",),
    model: str | Path | None = None,
    device: str = "auto",
    constrained: bool = True,
    views: int | None = None,
    progress: bool = False,
    reader: SystemReader | None = None,
    pool: AlphaTabPool | None = None,
) -> list[ReadResult]:
    """Reads tab from pictures.

    Args:
        inputs: Pictures, PDFs, or folders of them.
        out: Folder for `NAME.alphatex` and so on; `None` writes nothing.
        formats: Any of `FORMATS`; `png` shows the original above the text drawn again, `html` marks doubtful bars too.
        model: Checkpoint folder or Hub name; left out: the one that comes along.
        device: `"auto"`, `"cpu"`, `"cuda"`, ...
        constrained: Keep to the grammar, so that what is written parses and its bars close.
        views: Looks at each system whose readings vote, 1 to 6 (the default); 1 is fastest.
        progress: Show a progress bar.
        reader, pool: A loaded reader in place of `model`, and what draws and converts in place of a new process.

    Returns:
        One result for each picture or page, in order; one that can not be read has its `error`.

    Raises:
        InputError: Nothing can be read at all: a wrong format or model.
    """
    from .processing.picture_files import find_picture_files
    from .processing.system_reader import SystemReader as Reader

    for wrong in sorted(set(formats) - set(FORMATS)):
        raise InputError(None, f"format {wrong!r} can not be written; choose from {', '.join(FORMATS)}")
    results: list[ReadResult] = []
    files: list[Path] = []
    for given in inputs:
        try:
            files += find_picture_files(given)
        except InputError as error:
            results.append(ReadResult(Path(given).name, error=str(error)))
    if reader is None and files:
        switches = {"grammar": constrained} | ({} if views is None else {"views": views})
        reader = Reader.from_pretrained(model or default_checkpoint(), device=device, **switches)
    with ExitStack() as stack:
        if pool is None and out is not None and set(formats) - {"alphatex", "musicxml"}:
            from .datasets_scripts.render.client import AlphaTabPool as Pool

            pool = stack.enter_context(Pool(workers=1))
        names: set[str] = set()
        for file in _bar(files, progress):
            assert reader is not None
            for result, picture, readings in _read_file(file, reader):
                _name_apart(result, names)
                if out is not None and result.error is None and picture is not None:
                    _write(result, picture, readings, Path(out), formats, pool)
                results.append(result)
    return results


def _bar(files: list[Path], progress: bool) -> Iterable[Path]:
    from tqdm.auto import tqdm

    return tqdm(files, desc="reading", unit="file", disable=not progress or not files, leave=False)


def _name_apart(result: ReadResult, names: set[str]) -> None:
    """Two files of one name in different folders must not overwrite each other."""
    name, number = result.name, 2
    while result.name in names:
        result.name, number = f"{name}-{number}", number + 1
    names.add(result.name)


def _read_file(
    file: Path, reader: SystemReader
) -> Iterable[tuple[ReadResult, Image.Image | None, Sequence[SystemReading]]]:
    from .processing.picture_files import load_pictures

    try:
        pages = list(load_pictures(file))
    except InputError as error:
        yield ReadResult(file.stem, error=str(error)), None, ()
        return
    for page in pages:
        name = file.stem if len(pages) == 1 else f"{file.stem}-page{page.page + 1}"
        result, readings = ReadResult(name), list["SystemReading"]()
        if page.scale < 1:
            result.note = f"{file}: too large to be read as it is; it was read at {page.scale:.0%} of its size"
        try:
            readings = _read_page(result, page.image, reader)
            if edges := sorted({edge for reading in readings for edge in reading.cut_off}, reverse=True):
                told = f"{file}: tab at the {' and '.join(edges)} edge of the picture: {_CUT_OFF}"
                result.note = "; ".join(filter(None, (result.note, told)))
        except InputError as error:
            result.error = f"{file}: {error.message}"
        except (RuntimeError, MemoryError) as error:
            result.error = f"{file}: could not be read: {' '.join(str(error).split())[:200]}"
        if result.error and len(pages) > 1:
            result.error = result.error.replace(f"{file}:", f"{file}: page {page.page + 1}:", 1)
        yield result, page.image, readings


def _read_page(result: ReadResult, image: Image.Image, reader: SystemReader) -> list[SystemReading]:
    import numpy as np

    from .processing.page_systems import read_page

    readings = reader.read_page(np.asarray(image))
    if not readings:
        raise InputError(None, read_page(np.asarray(image)).why_empty)
    result.text = join_systems(readings)
    for number, reading in enumerate(readings, start=1):
        name = result.name if len(readings) == 1 else f"{result.name} system {number}"
        result.systems.append(
            NamedSystem(name, reading.bars, reading.notes, reading.seconds, reading.closes, reading.unsure_bars)
        )
    return readings


def _write(
    result: ReadResult,
    picture: Image.Image,
    readings: Sequence[SystemReading],
    out: Path,
    formats: Sequence[str],
    pool: Any,
) -> None:
    from .reading_outputs import write_outputs
    from .reading_proof import proof_page

    def proof() -> str:
        return proof_page(result.name, picture, readings, pool)

    try:
        result.files = list(
            write_outputs(
                result.name, result.text, picture, out, tuple(formats), pool, systems=len(result.systems), proof=proof
            )
        )
    except InputError as error:
        result.error = str(error)
        result.files = list(getattr(error, "written", []))


__all__ = ["FORMATS", "NamedSystem", "ReadResult", "default_checkpoint", "join_systems", "read"]
