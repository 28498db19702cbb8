"""What the Space takes: sizes, pages, time; and the files it looks at before a verb does."""

from __future__ import annotations

from pathlib import Path

from .words import Refused, Words

MAX_MEGABYTES = 20
MAX_PAGES = 6
MAX_MEGAPIXELS = 60
MAX_SECONDS = 120  # of one request; what is done by then is shown
MAX_TEXT = 60_000  # characters
MAX_BARS = 64
QUEUE = 24  # requests that may wait
KEEP_SECONDS = 3600  # files of people


def check_file(path: str | Path, words: Words, picture: bool = True) -> Path:
    """The file, if it is of a size that is taken here.

    Raises:
        Refused: It is too large, or has too many pixels.
    """
    from PIL import Image

    path = Path(path)
    if path.stat().st_size > MAX_MEGABYTES * 1_000_000:
        raise Refused(None, words.say("too_large", name=path.name, mb=MAX_MEGABYTES))
    if not picture or path.suffix.lower() == ".pdf":
        return path
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # the size is told by us, before anything is decoded
    try:
        with Image.open(path) as found:
            width, height = found.size
    except Exception:  # whatever Pillow says of a file it does not know: the verb names it better
        return path
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    if width * height > MAX_MEGAPIXELS * 1_000_000:
        raise Refused(
            None, words.say("too_many_pixels", name=path.name, width=width, height=height, most=MAX_MEGAPIXELS)
        )
    return path


def check_text(text: str, words: Words) -> str:
    """The text, if it is not too long.

    Raises:
        Refused: It is.
    """
    if len(text) > MAX_TEXT:
        raise Refused(None, words.say("too_long", most=f"{MAX_TEXT:,}"))
    return text


__all__ = [
    "KEEP_SECONDS",
    "MAX_BARS",
    "MAX_MEGABYTES",
    "MAX_PAGES",
    "MAX_SECONDS",
    "MAX_TEXT",
    "QUEUE",
    "check_file",
    "check_text",
]
