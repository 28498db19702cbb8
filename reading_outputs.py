"""What `intermezzo read` leaves in a folder: notation files, MIDI, and a picture that shows how well it went."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Container
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .processing.alphatex_grammar import read_alphatex
from .processing.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from .datasets_scripts.render import AlphaTabPool, RenderedPicture

SUFFIXES = {
    "alphatex": ".alphatex",
    "mid": ".mid",
    "gp": ".gp",
    "musicxml": ".musicxml",
    "png": ".png",
    "html": ".html",
}
_MAX_WIDTH_PX = 2400
_SCALES = (0.35, 4.0)  # of the drawing; outside of these nobody can read it
_PAPER, _INK, _RULE = 255, 90, 200


class OutputsError(InputError):
    """Some of the formats could not be written; one line names each of them.

    Attributes:
        written: Files that were written all the same.
    """

    def __init__(self, name: str, message: str, written: list[Path]) -> None:
        self.written = written
        super().__init__(name, message)


def check_formats(formats: tuple[str, ...]) -> tuple[str, ...]:
    """The formats without repetition, `midi` as `mid`.

    Raises:
        InputError: If one of them does not exist.
    """
    names = tuple(dict.fromkeys("mid" if name == "midi" else name for name in formats))
    unknown = [name for name in names if name not in SUFFIXES]
    if unknown:
        raise InputError(None, f"there is no format {', '.join(unknown)}; choose {', '.join(SUFFIXES)}")
    return names


def write_outputs(
    name: str,
    text: str,
    picture: Image.Image,
    out: Path,
    formats: tuple[str, ...],
    pool: AlphaTabPool,
    *,
    systems: int | None = None,
    proof: Callable[[], str] | None = None,
) -> list[Path]:
    """Writes what was read, in each of the formats, as `OUT/NAME.SUFFIX`.

    Every file appears whole or not at all. A format that fails does not stop the others.

    Args:
        name: Name of the files, without folder and suffix.
        text: Canonical alphaTex.
        picture: What it was read from, any mode; only for the format "png".
        out: Folder; made when it is not there.
        formats: Any of "alphatex", "mid", "gp", "musicxml", "png", "html".
        pool: Draws and converts.
        systems: Number of systems on the picture; by default guessed from its shape.
        proof: Makes the page of the format "html".

    Returns:
        The files, in the order of the formats.

    Raises:
        OutputsError: After all formats were tried, when some failed; its `written` has the rest.
        InputError: If a format does not exist, or `name` is no plain file name; then nothing is written.
    """
    formats = check_formats(formats)
    if "html" in formats and proof is None:
        raise InputError(None, "there is nothing to make a proof page of: the format html is for what was read")
    if name in ("", ".", "..") or Path(name).name != name:
        raise InputError(name or None, "is no name for a file; leave out folders")
    makers: dict[str, Callable[[], bytes]] = {
        "alphatex": lambda: text.encode("utf-8"),
        "mid": lambda: pool.convert(text, target_format="midi"),
        "gp": lambda: pool.convert(text, target_format="gp7"),
        "musicxml": lambda: _musicxml(text),
        "png": lambda: _png(comparison(picture, text, pool, systems=systems)),
        "html": lambda: proof().encode("utf-8") if proof else b"",
    }
    written, problems = [], []
    for kind in formats:
        target = out / f"{name}{SUFFIXES[kind]}"
        try:
            write_whole(target, makers[kind]())
            written.append(target)
        except InputError as error:
            problems.append(f"{target.name} not written: {error.message}")
        except OSError as error:
            problems.append(f"{target.name} not written: {error.strerror or error}")
    if problems:
        raise OutputsError(name, "; ".join(problems), written)
    return written


def _musicxml(text: str) -> bytes:
    from .processing.musicxml import to_musicxml

    return to_musicxml(read_alphatex(text)).encode("utf-8")


def write_whole(target: Path, content: bytes) -> None:
    """Writes a file through a temporary one beside it, so that no reader ever meets half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem[:40]}-", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes private files
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def unique_name(name: str, taken: Container[str], mark: str = "_") -> str:
    """The name, or with a number behind it where it is taken: `song`, `song_2`, `song_3`."""
    number, found = 2, name
    while found in taken:
        found, number = f"{name}{mark}{number}", number + 1
    return found


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _png(picture: Image.Image) -> bytes:
    import io

    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def redraw(text: str, width_px: int, height_px: int, pool: AlphaTabPool, systems: int | None = None) -> Image.Image:
    """The text drawn at the width of a picture, on about as many systems.

    Args:
        text: Canonical alphaTex; its `\\staff` says which staves are drawn.
        width_px: Width of the picture.
        height_px: Height of the picture it should look like; only for guessing the systems.
        pool: Draws it.
        systems: Number of systems; `None` guesses.

    Returns:
        Mode `L`, exactly `width_px` wide.
    """
    from .datasets_scripts.render import RenderJob

    # alphaTab would put an f under the first note of a text that says nothing of loudness.
    loudness = any("dy" in beat.effects for *_, beat in read_alphatex(text).beats())
    options: dict[str, Any] = {
        "text": text, "staves": "auto", "line_gray": 120, "dynamics": loudness, "tracks": "all"
    }  # fmt: skip
    (line,) = pool.render(RenderJob(layout="system", **options))
    if systems is None:
        # One long line of w x h, cut into n lines of the picture's width, is n times as high: solve for n.
        systems = max(1, round(sqrt(height_px * line.width / (width_px * line.height))))
    scale = width_px * systems / line.width
    if systems == 1:
        drawn: RenderedPicture = line
        if not 0.97 <= scale <= 1.03:
            (drawn,) = pool.render(RenderJob(layout="system", scale=_bounded(scale), **options))
    else:
        for _ in range(5):  # how many bars alphaTab puts on a line shows only when it is drawn
            page = RenderJob(layout="page", scale=_bounded(scale), width_px=width_px, **options)
            (drawn,) = pool.render(page)
            if len(drawn.systems) <= systems:
                break
            scale *= 0.9
    return _fitted(drawn.image().convert("L"), width_px)


def _bounded(scale: float) -> float:
    return min(max(scale, _SCALES[0]), _SCALES[1])


def _fitted(picture: Image.Image, width_px: int) -> Image.Image:
    """Scaled down to the width, or put on paper of that width."""
    from PIL import Image

    if picture.width > width_px:
        height = max(1, round(picture.height * width_px / picture.width))
        return picture.resize((width_px, height), Image.Resampling.LANCZOS)
    if picture.width == width_px:
        return picture
    paper = Image.new("L", (width_px, picture.height), _PAPER)
    paper.paste(picture, ((width_px - picture.width) // 2, 0))
    return paper


def _without_empty_end(picture: Image.Image) -> Image.Image:
    """A page that is half empty would push the drawing out of sight: its white end goes, but for a margin."""
    import numpy as np

    rows = np.flatnonzero(np.asarray(picture).min(axis=1) < 160)
    end = (int(rows[-1]) if len(rows) else picture.height) + picture.height // 20
    return picture if end > 0.85 * picture.height else picture.crop((0, 0, picture.width, end))


def comparison(picture: Image.Image, text: str, pool: AlphaTabPool, *, systems: int | None = None) -> Image.Image:
    """The picture above the text drawn again, with a thin line and small captions.

    The white end of a half-empty page is left out.

    Args:
        picture: What was read; transparent, 16-bit and dark pictures come out as dark ink on white.
        text: What was read from it.
        pool: Draws the text.
        systems: Number of systems on the picture; `None` guesses.

    Returns:
        Mode `L`, as wide as the picture, at most 2,400 px.

    Raises:
        InputError: If the text can not be read or drawn.
    """
    from PIL import Image, ImageDraw, ImageFont

    from .processing.picture_files import grey_on_white

    above = grey_on_white(picture)
    if above.width > _MAX_WIDTH_PX:
        above = _fitted(above, _MAX_WIDTH_PX)
    above = _without_empty_end(above)
    below = redraw(text, above.width, above.height, pool, systems)
    size = min(max(above.width // 70, 10), 20)
    band = round(size * 1.8)
    font = ImageFont.load_default(size)
    sheet = Image.new("L", (above.width, above.height + below.height + 2 * band + 1), _PAPER)
    sheet.paste(above, (0, band))
    sheet.paste(below, (0, above.height + 2 * band + 1))
    pen = ImageDraw.Draw(sheet)
    middle = above.height + band
    pen.line([(0, middle), (above.width, middle)], fill=_RULE)
    for top, caption in ((0, "original"), (middle, "read, and drawn again")):
        pen.text((size // 2, top + size // 3), caption, fill=_INK, font=font)
    return sheet
