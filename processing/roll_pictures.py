"""Pictures of piano rolls: PNG in viridis, and GIFs of how a roll grew.

High pitches are on top. A held cell has the colour of its onset; a thin dark edge at the left of each onset keeps
repeated notes apart. Cells that are not decided yet (code -1 or 34, not-a-number in a float roll) are nearly white.
Of rolls with 127 loudness classes, the code after the last is 129, and the colours go as far as those of 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError
from .piano_roll import (
    FIRST_ONSET,
    HELD,
    LOUDNESS_CLASSES,
    NUM_LOUDNESS,
    NUM_PITCHES,
    SILENCE,
    UNKNOWN,
    codes_in_all,
    codes_of_values,
    default_onset,
    origins,
)

if TYPE_CHECKING:
    from PIL import Image

BAR_STEPS = 16
_UNKNOWN_COLOUR = (250, 249, 245)
_QUIETEST = 0.3  # place of the softest note in viridis; below it, notes would sink into the ground
# Places in the palette: ground, its two kinds of lines, unknown, lines over unknown, then loudness.
_GROUND, _BAR, _OCTAVE, _BLANK, _BLANK_BAR, _LOUD = 0, 1, 2, 3, 4, 8


@lru_cache(maxsize=len(LOUDNESS_CLASSES))
def palette(loudness_classes: int = NUM_LOUDNESS) -> np.ndarray:
    """Colours of a picture, uint8 `(256, 3)` RGB; those of the loudness classes go from soft to loud.

    Raises:
        InputError: Another number of classes than 32 and 127.
    """
    import cv2

    codes_in_all(loudness_classes)  # refuses what can not be
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    viridis = cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)[:, 0]
    colours = np.zeros((256, 3), dtype=np.uint8)
    ground = viridis[0].astype(int)
    colours[_GROUND] = ground
    colours[_BAR] = ground + (255 - ground) // 5
    colours[_OCTAVE] = ground + (255 - ground) // 12
    colours[_BLANK] = _UNKNOWN_COLOUR
    colours[_BLANK_BAR] = np.array(_UNKNOWN_COLOUR) - 25
    places = np.round(255 * np.linspace(_QUIETEST, 1, loudness_classes)).astype(int)
    colours[_LOUD : _LOUD + loudness_classes] = viridis[places]
    return colours


def _codes_and_unknown(roll: Any, loudness_classes: int) -> np.ndarray:
    """The roll as int16 codes `(P, T)`, -1 where it is unknown.

    Raises:
        InputError: Another shape, or codes that do not exist.
    """
    if hasattr(roll, "detach"):  # a tensor, on any device and in any precision
        roll = roll.detach().cpu()
        roll = (roll.float() if roll.is_floating_point() else roll).numpy()
    array = np.asarray(roll)
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or array.shape[0] != NUM_PITCHES or not array.shape[1]:
        raise InputError(None, f"a roll has the shape ({NUM_PITCHES}, steps), not {tuple(np.shape(roll))}")
    if np.issubdtype(array.dtype, np.integer):
        if array.dtype == np.uint8:  # numpy writes -1 into bytes as 255
            array = np.where(array == 255, UNKNOWN, array.astype(np.int16))
        undecided = codes_in_all(loudness_classes)
        if array.min() < UNKNOWN or array.max() > undecided:
            raise InputError(
                None, f"codes go from {array.min()} to {array.max()}; a picture has {UNKNOWN} to {undecided}"
            )
        return np.where(array == undecided, UNKNOWN, array).astype(np.int16)
    unknown = np.isnan(array)
    codes = codes_of_values(np.where(unknown, -1, array), loudness_classes=loudness_classes)
    return np.where(unknown, UNKNOWN, codes.astype(np.int16))


def _indices(roll: Any, scale: int, low: int, high: int, bar_steps: int, loudness_classes: int) -> np.ndarray:
    """Palette places, uint8 `(pitches * scale, T * scale)`."""
    codes, middle = _codes_and_unknown(roll, loudness_classes), default_onset(loudness_classes=loudness_classes)
    source = origins(codes)
    sounding = np.take_along_axis(codes, np.maximum(source, 0), axis=1)
    sounding = np.where(source < 0, middle, sounding)  # held from before the roll
    # Held cells after unknown ones belong to a note not decided yet: they are drawn in a middle colour.
    sounding = np.where((codes == HELD) & (sounding == UNKNOWN), middle, sounding)
    cells = np.where(sounding >= FIRST_ONSET, _LOUD + sounding - FIRST_ONSET, _GROUND)
    cells = np.where(sounding == UNKNOWN, _BLANK, np.where(codes == SILENCE, _GROUND, cells)).astype(np.uint8)
    picture = cells.repeat(scale, axis=0).repeat(scale, axis=1)  # (P * scale, T * scale), low pitches first
    if bar_steps and scale > 1:
        column = picture[:, :: bar_steps * scale]
        column[column == _GROUND] = _BAR
        column[column == _BLANK] = _BLANK_BAR
        row = picture[:: 12 * scale]  # the lower edge of each C
        row[row == _GROUND] = _OCTAVE
    if scale > 2:
        pitch, step = np.nonzero(codes >= FIRST_ONSET)
        for k in range(scale):
            picture[pitch * scale + k, step * scale] = _GROUND
    return np.ascontiguousarray(picture[low * scale : (high + 1) * scale][::-1])


def pitch_range(rolls: Sequence[Any], margin: int = 3, *, loudness_classes: int = NUM_LOUDNESS) -> tuple[int, int]:
    """Lowest and highest row that any of the rolls uses, with a margin; two octaves at least."""
    used = np.zeros(NUM_PITCHES, dtype=bool)
    for roll in rolls:
        used |= (_codes_and_unknown(roll, loudness_classes) > SILENCE).any(axis=1)
    rows = np.flatnonzero(used)
    low, high = (int(rows[0]), int(rows[-1])) if len(rows) else (48, 72)
    grow = max(0, 24 - (high - low) + 1) // 2
    return max(0, low - margin - grow), min(NUM_PITCHES - 1, high + margin + grow)


def draw_roll(
    roll: Any, scale: int = 4, crop: bool = False, bar_steps: int = BAR_STEPS, *, loudness_classes: int = NUM_LOUDNESS
) -> Image.Image:
    """Picture of a roll.

    Args:
        roll: Codes or float roll `(P, T)`, `(1, P, T)` or `(1, 1, P, T)`, array or tensor; -1 and 34
            (codes) and not-a-number (floats) are unknown cells.
        scale: Pixels a cell.
        crop: Show only the pitches in use.
        bar_steps: Steps between the thin vertical lines; 0 for none.
        loudness_classes: Of the roll; with 127, 129 in place of 34 is unknown.

    Returns:
        RGB picture, `T * scale` pixels wide.

    Raises:
        InputError: Another shape, or codes that do not exist.
    """
    from PIL import Image

    low, high = pitch_range([roll], loudness_classes=loudness_classes) if crop else (0, NUM_PITCHES - 1)
    colours = palette(loudness_classes)
    return Image.fromarray(colours[_indices(roll, scale, low, high, bar_steps, loudness_classes)])


def write_gif(
    frames: Sequence[Any],
    path: str | PathLike[str],
    scale: int = 3,
    crop: bool = False,
    bar_steps: int = BAR_STEPS,
    ms_per_frame: int = 120,
    last_ms: int = 1800,
    max_frames: int = 80,
    *,
    loudness_classes: int = NUM_LOUDNESS,
) -> Path:
    """Writes a GIF that shows how a roll grew, again and again.

    Args:
        frames: Rolls as `draw_roll` takes them, in order.
        path: File to write.
        scale: Pixels a cell.
        crop: Show only the pitches that some frame uses.
        bar_steps: Steps between the thin vertical lines; 0 for none.
        ms_per_frame: How long a frame stays.
        last_ms: How long the last one stays.
        max_frames: Of more frames, so many are shown, evenly chosen; the last is always among them.
        loudness_classes: Of the rolls.

    Raises:
        InputError: No frames, or one of another shape.
    """
    from PIL import Image

    if not len(frames):
        raise InputError(path, "a GIF needs at least one frame")
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), max_frames)).round().astype(int))
    shown = [frames[k] for k in chosen]
    low, high = pitch_range(shown, loudness_classes=loudness_classes) if crop else (0, NUM_PITCHES - 1)
    pictures = []
    for roll in shown:
        picture = Image.fromarray(_indices(roll, scale, low, high, bar_steps, loudness_classes))
        picture.putpalette(palette(loudness_classes).tobytes())  # one palette for all frames: no dithering, small files
        pictures.append(picture)
    times = [ms_per_frame] * (len(pictures) - 1) + [last_ms]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=times, loop=0, optimize=False)
    return Path(path)
