"""What `paint` paints on: a piece with hidden cells, and the windows that the model sees of it, one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .modeling.fractal_inputs import tonality
from .processing.errors import InputError
from .processing.music_attributes import asked_bin, mean_tempo, measure_roll
from .processing.piano_roll import (
    HELD,
    NUM_LOUDNESS,
    NUM_PITCHES,
    SILENCE,
    UNKNOWN,
    codes_of_values,
    default_onset,
    origins,
    values_of_codes,
)
from .processing.roll_masks import read_mask
from .processing.roll_windows import BarLine

MAX_FRAMES = 160  # of all windows together


@dataclass
class Canvas:
    """A piece and what of it is to be painted.

    Attributes:
        name: For the files that come of it.
        codes: uint8 `(P, T)`.
        hidden: Bool `(P, T)`, true = to be painted.
        bars: First steps of the bars.
        metre: Time signature of the result.
        measured: What is known of the piece (`measure_roll` of its known cells); empty from nothing.
        loudness_classes: Of the codes.
    """

    name: str
    codes: np.ndarray
    hidden: np.ndarray
    bars: list[int]
    metre: tuple[int, int] = (4, 4)
    measured: dict[str, Any] = field(default_factory=dict)
    loudness_classes: int = NUM_LOUDNESS


def _metre_of(wishes: Mapping[str, Any]) -> tuple[int, int] | None:
    """The metre wished for, `None` where none is, or one that is not one metre (`other`)."""
    wish = wishes.get("metre")
    if wish is None:
        return None
    asked_bin("metre", wish)
    count, sign, unit = str(wish).partition("/")
    return (int(count), int(unit)) if sign and count.isdigit() and unit.isdigit() and int(unit) else None


def prepare_canvas(
    processor: Any, source: Any, mask: Any, bars: int | None, wishes: Mapping[str, Any] | None = None
) -> Canvas:
    """What is to be painted; see `painting.paint` for the arguments.

    Raises:
        InputError: Music or a mask that can not be, or settings that contradict each other.
    """
    wishes, classes = wishes or {}, processor.loudness_classes
    if source is None:
        if mask is not None:
            raise InputError(None, "a mask needs a piece; give one with --from")
        metre = _metre_of(wishes) or (4, 4)
        length = max(1, 4 * processor.steps_per_quarter * metre[0] // metre[1])
        steps = length * (bars or max(1, processor.window_steps // length))
        codes = np.zeros((NUM_PITCHES, steps), dtype=np.uint8)
        hidden, starts = np.ones_like(codes, dtype=bool), list(range(0, steps, length))
        return Canvas("painted", codes, hidden, starts, metre, loudness_classes=classes)
    codes, lines, score = processor.load(source)
    name = f"{Path(source).stem}-painted" if isinstance(source, (str, PathLike)) else "painted"
    metre = lines[0].metre
    lines, steps = _whole_bars(lines, codes.shape[1], processor.steps_per_quarter)
    codes = np.pad(codes, ((0, 0), (0, steps - codes.shape[1])))
    hidden = np.zeros(codes.shape, dtype=bool)
    if mask is None:
        length = lines[-1].step if len(lines) < 2 else lines[-1].step - lines[-2].step
        length = length or steps
        added = length * (bars or max(1, processor.window_steps // length))
        codes = np.pad(codes, ((0, 0), (0, added)))
        hidden = np.pad(hidden, ((0, 0), (0, added)), constant_values=True)
        lines = lines + [BarLine(step, lines[-1].metre) for step in range(steps, steps + added, length)]
    elif bars is not None:
        raise InputError(None, "a mask says what to paint and bars how much to add; give one of them")
    else:
        hidden = read_mask(mask, lines, steps)
    known = np.where(hidden, SILENCE, codes)
    tempo = None if score is None else mean_tempo(score)
    told = None if score is None else metre
    measured = measure_roll(known, tempo, told, processor.steps_per_quarter, loudness_classes=classes)
    return Canvas(name, codes, hidden, [line.step for line in lines], metre, measured, classes)


def _whole_bars(lines: Sequence[BarLine], steps: int, steps_per_quarter: int) -> tuple[list[BarLine], int]:
    """Bar lines, and the steps to the end of the last bar."""
    count, unit = lines[-1].metre
    end = lines[-1].step + max(1, round(4 * steps_per_quarter * count / unit))
    return list(lines), max(end, steps)


def plan_windows(hidden: np.ndarray, bars: Sequence[int], window: int) -> list[int]:
    """First steps of the windows that cover all hidden cells, in order, each at a bar line where possible.

    What fits into one window stands in its middle; otherwise each window begins half a window before the first cell
    that is still to be painted.

    Args:
        hidden: Bool `(P, T)`.
        bars: First steps of the bars.
        window: Steps the model sees.
    """
    columns = np.flatnonzero(hidden.any(axis=0))
    total = hidden.shape[1]
    starts: list[int] = []
    while len(columns):
        first, last = int(columns[0]), int(columns[-1])
        spare = window - (last + 1 - first)
        start = first - (spare // 2 if spare >= 0 and not starts else window // 2)
        start = max(0, min(start, total - window))
        at_bar = bars[max(bisect_right(bars, start) - 1, 0)] if len(bars) else start
        floor = starts[-1] + 1 if starts else 0
        # A bar line further left must neither lose the first hidden cell nor stand still.
        start = at_bar if at_bar >= floor and first < at_bar + window else max(start, floor)
        starts.append(start)
        columns = columns[columns >= start + window]
    return starts


def paint_canvas(
    model: Any, canvas: Canvas, count: int, seed: int, film: bool, settings: dict[str, Any]
) -> tuple[np.ndarray, list[list[np.ndarray]]]:
    """Paints the hidden cells, window after window.

    Args:
        model: `FractalMidiModel`.
        canvas: What to paint.
        count: Different results.
        seed: Each window has a seed of its own after it, so that a result does not depend on how many are beside it.
        film: Whether to keep frames.
        settings: Of `FractalMidiModel.generate`.

    Returns:
        Codes uint8 `(count, P, T)`, and for each its frames, int16 `(P, T)` with -1 = not decided (empty without film).
    """
    window = int(model.config.level_sizes[0][1])
    total, classes = canvas.codes.shape[1], canvas.loudness_classes
    starts = plan_windows(canvas.hidden, canvas.bars, window)
    longest = max([total, *(start + window for start in starts)])
    # Music that ends before its window is followed by silence; where the end is painted, nobody knows what follows.
    open_end = bool(canvas.hidden[:, -1].any())
    codes = np.pad(canvas.codes, ((0, 0), (0, longest - total)))
    hidden = np.pad(canvas.hidden, ((0, 0), (0, longest - total)), constant_values=open_end)
    done = np.repeat(codes[None], count, axis=0)  # (count, P, T')
    settings = settings | choose_keys(model, canvas, count, seed, settings)
    films: list[list[np.ndarray]] = [[] for _ in range(count)]
    if film:
        for frames in films:
            frames.append(np.where(hidden, UNKNOWN, codes.astype(np.int16))[:, :total])
    for number, start in enumerate(starts):
        part = slice(start, start + window)
        roll = torch.from_numpy(values_of_codes(done[:, None, :, part], loudness_classes=classes))
        made = model.generate(
            count,
            roll=roll,
            mask=torch.from_numpy(hidden[:, part].copy()),
            generator=torch.Generator().manual_seed(seed + 104_729 * number),
            return_intermediates=film,
            **settings,
        )
        if film:
            frames = made.intermediates[:: max(1, len(made.intermediates) * len(starts) // MAX_FRAMES)]
            _add_frames(films, frames, done, hidden, part, canvas)
        painted = codes_of_values((made.roll if film else made)[:, 0].cpu().numpy(), loudness_classes=classes)
        done[:, :, part] = np.where(hidden[None, :, part], painted, done[:, :, part])
        hidden[:, part] = False
        if film:
            for k, film_of in enumerate(films):
                film_of.append(np.where(hidden, UNKNOWN, done[k].astype(np.int16))[:, :total])
    return done[:, :, :total], films


def choose_keys(
    model: Any, canvas: Canvas, count: int, seed: int, settings: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """One key for all windows of a result, where part of a key is asked for, or nothing is known that has one.

    A window by itself would take another key than the one before, or, because it is given cells, none at all.

    Returns:
        `conditions` `(count, C)` with the keys, the same as `generate` draws for the first window; nothing where the
        model knows no keys.
    """
    keys = torch.randint(0, 1 << 62, (count,), generator=torch.Generator().manual_seed(seed))
    free = not canvas.codes[~canvas.hidden].any()
    conditions, _ = tonality(model.config, settings.get("conditions"), keys, 1.0, free=free)
    return {} if conditions is None else {"conditions": conditions}


def strike_anew(painted: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Codes for the ear: a known note whose beginning was painted over begins at the seam, as loud as it was.

    Its known cells are held ones after silence, which a MIDI file can not say: it would leave the note out.

    Args:
        painted: `(P, T)`, known cells as in the canvas.
        canvas: What it was painted on.
    """

    def began(codes: np.ndarray) -> np.ndarray:  # code that each note began with; -1 where it began before the roll
        source = origins(codes)
        return np.where(source < 0, -1, np.take_along_axis(codes, np.maximum(source, 0), axis=1).astype(np.int16))

    lost = ~canvas.hidden & (painted == HELD) & (began(painted) == SILENCE) & (began(canvas.codes) != SILENCE)
    first = lost & ~np.pad(lost, ((0, 0), (1, 0)))[:, :-1]
    before = began(canvas.codes)
    unheard = default_onset(loudness_classes=canvas.loudness_classes)
    return np.where(first, np.where(before < 0, unheard, before), painted).astype(np.uint8)


def _add_frames(
    films: list[list[np.ndarray]],
    frames: Sequence[Any],
    done: np.ndarray,
    hidden: np.ndarray,
    part: slice,
    canvas: Canvas,
) -> None:
    """Puts the frames `(B, 1, P, window)` of one window into pictures of the whole piece."""
    for frame in frames:
        values = frame[:, 0].numpy()
        unknown = np.isnan(values)
        codes = codes_of_values(np.where(unknown, -1.0, values), loudness_classes=canvas.loudness_classes)
        shown = np.where(unknown, UNKNOWN, codes.astype(np.int16))
        for k, film_of in enumerate(films):
            whole = np.where(hidden, UNKNOWN, done[k].astype(np.int16))
            whole[:, part] = shown[k]
            film_of.append(whole[:, : canvas.codes.shape[1]])
