"""Which cells of a roll are to be painted: bars, pitches, rectangles of both, or a black and white picture.

A mask in words is a list with commas; each part is bars, pitches, or `BARS:PITCHES`, a rectangle. Bars count from 1 and
pitches are note names (C4 is middle C), both ends belong to a range, and an end that is left out is the first or last:

    5-8            bars 5 to 8              C4-B5          these pitches in all bars
    2,9-           bar 2, and all from 9    5-8:C4-        bars 5 to 8, from middle C upwards
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .piano_roll import NUM_PITCHES
from .roll_windows import BarLine

PICTURE_SUFFIXES = (".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_NOTE = r"[A-Ga-g][#b]?-?\d+"
_BARS = re.compile(r"(\d+)?(-)?(\d+)?")
_PITCHES = re.compile(rf"({_NOTE})?(-)?({_NOTE})?")
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_HOW = "write bars (5-8), pitches (C4-B5), both (5-8:C4-B5), lists of these with commas, or a picture's name"


def pitch_of_name(name: str) -> int:
    """MIDI pitch of a note name such as `F#3`, `Bb4` or `C-1`.

    Raises:
        InputError: No such note between C-1 and G9.
    """
    found = re.fullmatch(r"([A-Ga-g])([#b]?)(-?\d+)", name)
    pitch = -1
    if found:
        letter, sign, octave = found.groups()
        pitch = 12 * (int(octave) + 1) + _SEMITONES[letter.upper()] + {"": 0, "#": 1, "b": -1}[sign]
    if not 0 <= pitch < NUM_PITCHES:
        raise InputError(None, f"there is no note {name!r}; notes go from C-1 to G9")
    return pitch


def _range(pattern: re.Pattern[str], text: str) -> tuple[str | None, str | None] | None:
    """Both ends of a range, `None` for one that is left out; or `None` where the text is no range."""
    found = pattern.fullmatch(text)
    if not found or not (found[1] or found[3]) or (found[1] and found[3] and not found[2]):
        return None
    return found[1], (found[3] if found[2] or found[3] else found[1])


def _bar_steps(text: str, bars: Sequence[BarLine], num_steps: int) -> slice | None:
    ends = _range(_BARS, text)
    if ends is None:
        return None
    first, last = int(ends[0] or 1), int(ends[1] or len(bars))
    for bar in (first, last):
        if not 1 <= bar <= len(bars):
            raise InputError(None, f"bar {bar} of the mask is not there; there are the bars 1 to {len(bars)}")
    if last < first:
        raise InputError(None, f"the mask goes from bar {first} back to bar {last}; write the lower one first")
    return slice(bars[first - 1].step, bars[last].step if last < len(bars) else num_steps)


def _pitch_rows(text: str) -> slice | None:
    ends = _range(_PITCHES, text)
    if ends is None:
        return None
    low = pitch_of_name(ends[0]) if ends[0] else 0
    high = pitch_of_name(ends[1]) if ends[1] else NUM_PITCHES - 1
    if high < low:
        raise InputError(None, f"the mask goes from {ends[0]} down to {ends[1]}; write the lower note first")
    return slice(low, high + 1)


def mask_of_words(text: str, bars: Sequence[BarLine], num_steps: int) -> np.ndarray:
    """A mask in words as bool `(P, num_steps)`, true = to be painted.

    Args:
        text: See the module.
        bars: Bar lines of the piece.
        num_steps: Its steps.

    Raises:
        InputError: It can not be understood, or names a bar or a note that does not exist.
    """
    mask = np.zeros((NUM_PITCHES, num_steps), dtype=bool)
    for part in text.replace(" ", "").split(","):
        left, colon, right = part.partition(":")
        steps = _bar_steps(left, bars, num_steps) if left else None
        rows = _pitch_rows(right if colon else left) if (right if colon else steps is None) else None
        if (colon and (steps is None or rows is None)) or (steps is None and rows is None):
            raise InputError(None, f"the mask {part!r} can not be understood; {_HOW}")
        mask[rows or slice(None), steps or slice(None)] = True
    return mask


def mask_of_picture(path: str | PathLike[str], num_steps: int) -> np.ndarray:
    """A picture, one pixel a cell, as bool `(P, num_steps)`: light pixels are to be painted; high pitches on top.

    What is transparent is not light, whatever colour it has.

    Raises:
        InputError: It can not be read, or has another size.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.load()
            seen = picture.convert("RGBA") if picture.has_transparency_data else picture
            dark = Image.new("RGBA", picture.size, "black")
            grey = (Image.alpha_composite(dark, seen) if seen.mode == "RGBA" else seen).convert("L")
    except FileNotFoundError as error:
        raise InputError(path, "no such file") from error
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise InputError(path, f"not a readable picture ({type(error).__name__})") from error
    if grey.size != (num_steps, NUM_PITCHES):
        raise InputError(
            path,
            f"the mask has {grey.width} x {grey.height} pixels; for this roll it needs {num_steps} x {NUM_PITCHES}, "
            "one a cell",
        )
    return np.asarray(grey)[::-1] >= 128


def read_mask(mask: Any, bars: Sequence[BarLine], num_steps: int) -> np.ndarray:
    """A mask in words, as a picture's path, or as an array `(P, num_steps)`; bool, true = to be painted.

    Raises:
        InputError: As `mask_of_words` and `mask_of_picture`; an array of another shape; or it hides nothing.
    """
    if isinstance(mask, (str, PathLike)):
        text = str(mask)
        is_picture = isinstance(mask, PathLike) or text.lower().endswith(PICTURE_SUFFIXES) or Path(text).is_file()
        found = mask_of_picture(text, num_steps) if is_picture else mask_of_words(text, bars, num_steps)
    else:
        found = np.asarray(mask.detach().cpu() if hasattr(mask, "detach") else mask)
        if found.shape != (NUM_PITCHES, num_steps) or found.dtype != bool:
            raise InputError(
                None,
                f"a mask of {found.dtype} and shape {found.shape}; for this roll it must be bool and "
                f"({NUM_PITCHES}, {num_steps})",
            )
    if not found.any():
        raise InputError(None, "the mask hides nothing; there is nothing to paint")
    return found
