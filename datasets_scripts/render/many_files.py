"""`render` and `convert` over several files: what fails is told by name, the rest is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from ...processing.errors import InputError
from .client import AlphaTabPool
from .verbs import ALPHATEX_SUFFIXES, PICTURE_SUFFIXES
from .verbs import convert as convert_one
from .verbs import render as render_one

FORMATS = {"alphatex": ".alphatex", "gp": ".gp", "musicxml": ".musicxml", "mid": ".mid"}
_FORMAT_OF = {
    **dict.fromkeys(ALPHATEX_SUFFIXES, "alphatex"), ".gp": "gp", ".mid": "mid", ".midi": "mid",
    ".musicxml": "musicxml", ".xml": "musicxml",
}  # fmt: skip
_Source = str | PathLike[str]


@dataclass
class FileResult:
    """What became of one file.

    Attributes:
        source: The file.
        written: Files made from it.
        error: What went wrong, one line with the file's name; `None` when all was written.
    """

    source: Path
    written: list[Path] = field(default_factory=list)
    error: InputError | None = None


def _each(
    inputs: Sequence[_Source], suffixes: Iterable[str], out: Path, make: Callable[[Path, Path], list[Path]]
) -> list[FileResult]:
    from tqdm import tqdm

    if out.exists() and not out.is_dir():
        raise InputError(out, "is a file; --out names a folder")
    made: dict[Path, Path] = {}
    results = []
    bar = tqdm(inputs, unit="file", leave=False, disable=None if len(inputs) > 1 else True)
    for source in map(Path, bar):
        result = FileResult(source)
        results.append(result)
        problems = []
        for suffix in suffixes:
            target = out / f"{source.stem}{suffix}"
            try:
                if target.resolve() == source.resolve():
                    raise InputError(source, "would be overwritten by its own result; choose another --out")
                if target in made:
                    raise InputError(source, f"{target} is the result of {made[target]} already; rename one of the two")
                result.written += make(source, target)
                made[target] = source
            except InputError as error:
                problems.append(error)
            except OSError as error:
                problems.append(InputError(source, f"{target} can not be written ({error.strerror})"))
        if problems:
            # The same trouble with every format (the file can not be read) is told once.
            messages = list(dict.fromkeys(error.message for error in problems))
            result.error = InputError(source, "; ".join(messages))
    return results


def render(
    source: _Source | Sequence[_Source],
    out: _Source,
    *,
    boxes: bool = False,
    width: int | None = None,
    pool: AlphaTabPool | None = None,
    **options: Any,
) -> list[Path] | list[FileResult]:
    """Draws one score, or each of several.

    Args:
        source: Path of an alphaTex, Guitar Pro or MusicXML file, or alphaTex itself; or a list of paths.
        out: For one score the picture, `.png`, `.svg` or `.pdf` (more than one page makes `NAME-1.png`, ...). For a
            list a folder, where each file gives `NAME.png`.
        boxes: Also write `NAME.json` with the boxes of systems, staff lines, bars, beats and notes.
        width: Width of the page in pixels; the same as the option `width_px`.
        pool: Pool to use instead of the shared one.
        options: Fields of `RenderJob`; by default a page with titles.

    Returns:
        The files written; for a list of paths one `FileResult` each, where failures are values.

    Raises:
        InputError: For one score that can not be read (with file, line and column), or a wrong option.
    """
    if width is not None:
        options["width_px"] = width
    if isinstance(source, (str, PathLike)):
        return render_one(source, out, boxes=boxes, pool=pool, **options)
    _check_options(options)
    return _each(
        source, [".png"], Path(out), lambda path, target: render_one(path, target, boxes=boxes, pool=pool, **options)
    )


def _check_options(options: dict[str, Any]) -> None:
    """A wrong option is one message, not one for every file."""
    from .jobs import RenderJob

    unknown = sorted(set(options) - set(RenderJob.__dataclass_fields__))
    if unknown:
        raise InputError(None, f"render has no option {', '.join(unknown)}")
    RenderJob(text="", **options)


def convert(
    source: _Source | Sequence[_Source],
    out: _Source,
    *,
    formats: Sequence[str] | None = None,
    canonical: bool = True,
    pool: AlphaTabPool | None = None,
) -> Path | list[FileResult]:
    """Writes one score, or each of several, in another format.

    Args:
        source: Path of an alphaTex, Guitar Pro (gp3 to gp8, gpx) or MusicXML file, or alphaTex itself; or a list.
        out: For one score the file, whose suffix names the format: `.alphatex`, `.gp` (Guitar Pro 7 and 8), `.mid`,
            `.musicxml`, or a picture suffix. For a list, or with `formats`, a folder.
        formats: Any of "alphatex", "gp", "musicxml", "mid": each file gives `NAME.SUFFIX` in each of them. Without
            formats a list of two paths whose last does not exist is taken as `source` and `out`.
        canonical: alphaTex in canonical form; false keeps alphaTab's own form with all that no picture shows.
        pool: Pool to use instead of the shared one.

    Returns:
        The file written; for a list or with `formats` one `FileResult` each, where failures are values.

    Raises:
        InputError: For one score that can not be read, or a format that does not exist.
    """
    one = isinstance(source, (str, PathLike))
    if one and formats is None:
        return convert_one(source, out, canonical=canonical, pool=pool)  # type: ignore[arg-type]
    inputs: list[_Source] = [source] if one else list(source)  # type: ignore[arg-type, list-item]
    if not formats:
        if len(inputs) == 2 and names_a_target(inputs[1]):
            result = FileResult(Path(inputs[0]))
            try:
                result.written = [convert_one(Path(inputs[0]), inputs[1], canonical=canonical, pool=pool)]
            except InputError as error:
                result.error = error
            except OSError as error:
                result.error = InputError(inputs[1], f"can not be written ({error.strerror})")
            return [result]
        raise InputError(None, f"say which format: --to {', '.join(FORMATS)}")
    wanted = [_FORMAT_OF.get(f".{name.lstrip('.')}", name) for name in formats]
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown:
        raise InputError(None, f"there is no format {', '.join(unknown)}; choose {', '.join(FORMATS)}")

    def make(path: Path, target: Path) -> list[Path]:
        return [convert_one(path, target, canonical=canonical, pool=pool)]

    return _each(inputs, [FORMATS[name] for name in dict.fromkeys(wanted)], Path(out), make)


def names_a_target(path: _Source) -> bool:
    """Whether a path is one that `convert` can write to: a known suffix, and not the name of a file that is there."""
    path = Path(path)
    return path.suffix.lower() in (*_FORMAT_OF, *PICTURE_SUFFIXES) and not path.exists()
