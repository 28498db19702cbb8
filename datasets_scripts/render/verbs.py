"""`intermezzo render` and `intermezzo convert` as plain functions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

from ...processing.alphatex_grammar import read_alphatex
from ...processing.errors import InputError
from ...processing.musicxml import to_musicxml
from .client import AlphaTabPool, load_source
from .jobs import RenderedPicture, RenderError, RenderJob

ALPHATEX_SUFFIXES = (".atex", ".alphatex", ".tex", ".txt")
PICTURE_SUFFIXES = (".png", ".svg", ".pdf")
MUSICXML_SUFFIXES = (".musicxml", ".xml")
_TARGETS = {".gp": "gp7", ".mid": "midi", ".midi": "midi"}
# A picture for people, as alphaTab shows a score; RenderJob's own defaults are for training data.
_PAGE = {"layout": "page", "staves": "auto", "titles": True, "tuning": True, "bar_numbers": "first", "color": True,
         "chord_diagrams": True, "tracks": "all"}  # fmt: skip


@cache
def default_pool() -> AlphaTabPool:
    """One shared process for single calls; it ends with the program."""
    return AlphaTabPool(workers=1, job_seconds=120.0)


@contextmanager
def named(path: str | PathLike[str] | None) -> Iterator[None]:
    """Puts the file's name in front of a message that has none."""
    try:
        yield
    except RenderError as error:
        if path is None or error.path is not None:
            raise
        raise RenderError(error.name, error.message, error.diagnostics, str(path)) from error
    except InputError as error:
        if path is None or error.path is not None:
            raise
        raise InputError(path, str(error)) from error


def _source_path(source: str | PathLike[str]) -> Path | None:
    if not isinstance(source, str):
        return Path(source)
    if "\n" in source or len(source) > 1024:
        return None
    path = Path(source)
    # "song.gp" is meant as a file even when it lacks: the message should say so, and not complain of alphaTex.
    # A suffix with a letter and no blank tells it from notes such as "3.3.4 5.3.4".
    names_a_file = path.suffix[1:2].isalpha() and " " not in path.suffix
    return path if names_a_file or path.is_file() else None


def render(
    source: str | PathLike[str],
    out: str | PathLike[str],
    *,
    boxes: bool = False,
    pool: AlphaTabPool | None = None,
    **options: Any,
) -> list[Path]:
    """Draws a score.

    Args:
        source: Path of an alphaTex, Guitar Pro or MusicXML file, or alphaTex itself.
        out: Picture to write, `.png`, `.svg` or `.pdf`. With more than one page a PNG or SVG becomes `NAME-1.png`,
            `NAME-2.png`...
        boxes: Also write `NAME.json` with the boxes of systems, staff lines, bars, beats and notes.
        pool: Pool to use instead of the shared one.
        options: Fields of `RenderJob`; by default a page with titles.

    Returns:
        The files written.

    Raises:
        InputError: If the source can not be read (with file, line and column), or an option is wrong.
    """
    target = Path(out)
    suffix = target.suffix.lower()
    if suffix not in PICTURE_SUFFIXES:
        raise InputError(target, f"a picture can not end in {suffix!r}; use .png, .svg or .pdf")
    unknown = sorted(set(options) - set(RenderJob.__dataclass_fields__))
    if unknown:
        raise InputError(None, f"render has no option {', '.join(unknown)}")
    path = _source_path(source)
    loaded = load_source(source, is_path=path is not None)
    with named(path):
        carried: dict[str, Any] = {"text": loaded} if isinstance(loaded, str) else {"data": loaded}
        fields = {**_PAGE, **options, "format": "svg" if suffix == ".svg" else "png"}
        pictures = (pool or default_pool()).render(RenderJob(**carried, **fields))
    return _write_pictures(pictures, target, boxes)


def _write_pictures(pictures: list[RenderedPicture], target: Path, boxes: bool) -> list[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    several = len(pictures) > 1
    written = []
    if target.suffix.lower() == ".pdf":
        first, *rest = [picture.image() for picture in pictures]
        first.save(target, save_all=True, append_images=rest, resolution=150.0)
        written.append(target)
    else:
        for number, picture in enumerate(pictures, start=1):
            page = target.with_stem(f"{target.stem}-{number}") if several else target
            page.write_bytes(picture.png if picture.svg is None else picture.svg.encode())
            written.append(page)
    if boxes:
        notes = target.with_suffix(".json")
        pages = [{"width": p.width, "height": p.height, **p.boxes()} for p in pictures]
        notes.write_text(json.dumps({"pages": pages}, indent=1), encoding="utf-8")
        written.append(notes)
    return written


def convert(
    source: str | PathLike[str],
    out: str | PathLike[str],
    *,
    canonical: bool = True,
    pool: AlphaTabPool | None = None,
) -> Path:
    """Writes a score in another format, which the suffix of `out` names.

    Args:
        source: Path of an alphaTex, Guitar Pro (gp3 to gp8, gpx) or MusicXML file, or alphaTex itself.
        out: `.alphatex` (or `.atex`, `.tex`, `.txt`), `.gp` (Guitar Pro 7 and 8), `.mid`, `.musicxml` (or `.xml`), or a
            picture suffix.
        canonical: alphaTex in canonical form; false keeps alphaTab's own form with all that no picture shows.
        pool: Pool to use instead of the shared one.

    Raises:
        InputError: If the source can not be read, or the suffix names a format that can not be written.
    """
    target = Path(out)
    suffix = target.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return render(source, out, pool=pool)[0]
    if suffix not in (*ALPHATEX_SUFFIXES, *MUSICXML_SUFFIXES, *_TARGETS):
        known = ".alphatex, .gp, .mid, .musicxml, .png, .svg or .pdf"
        raise InputError(target, f"can not write a file ending in {suffix!r}; use {known}")
    path = _source_path(source)
    loaded = load_source(source, is_path=path is not None)
    pool = pool or default_pool()
    with named(path):
        if suffix in _TARGETS:
            content = pool.convert(loaded, target_format=_TARGETS[suffix])
        elif suffix in MUSICXML_SUFFIXES:
            content = to_musicxml(read_alphatex(pool.canonicalise(loaded, is_path=False))).encode()
        elif canonical:
            content = pool.canonicalise(loaded, is_path=False).encode()
        else:
            content = pool.convert(loaded, target_format="alphatex")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target
