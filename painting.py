"""`intermezzo paint`: piano rolls from nothing, after a piece, or into the hidden part of one, by FractalMidi."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .processing.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from .painting_windows import Canvas

STEM = "fractal_midi"
GUIDANCE = 2.0  # where something is wished for
STRUCTURE_TEMPERATURE = 0.6  # of the choices which patches sound: at 1 stray ones would widen the range by a third
FILL_STRUCTURE_TEMPERATURE = 0.3  # the same beside known music, where a stray patch makes melodies leap at the seam
BATCH = 8  # rolls painted at once; more take more memory and are hardly faster on a CPU
#: What a continued piece keeps of itself, unless asked otherwise.
KEPT = ("tempo", "metre", "key", "mode")


@dataclass
class PaintResult:
    """One painted roll.

    Attributes:
        name: Its files are named after it.
        codes: uint8 `(128, T)` in the processor's loudness classes, see `processing/piano_roll.py`; known cells are as
            they were.
        tempo: Quarter notes a minute.
        metre: Time signature.
        seconds: Time it took, its share of a batch.
        files: What was written.
        frames: How it grew (codes, -1 = not decided yet), where a GIF was asked for.
        heard: Codes that were written: as `codes`, but known notes whose beginning was painted over begin at the seam.
    """

    name: str
    codes: np.ndarray
    tempo: float
    metre: tuple[int, int]
    seconds: float
    files: list[Path] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    heard: np.ndarray | None = None


def default_checkpoint() -> Path:
    """The checkpoint that comes along."""
    return Path(__file__).resolve().parent / "checkpoints" / STEM


def load_painter(model: str | Path | None = None, device: str = "auto") -> tuple[Any, Any]:
    """Model in float32 on its device, and processor.

    Raises:
        InputError: No FractalMidi checkpoint there, or the device is not there.
    """
    import torch
    from transformers.utils import logging

    from .modeling.modeling_fractal_midi import FractalMidiModel
    from .processing.processing_fractal_midi import FractalMidiProcessor

    checkpoint = str(model or default_checkpoint())
    logging.disable_progress_bar()  # loading takes no time; its bar would stand between the person's own lines
    check_kind(checkpoint)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        loaded = FractalMidiModel.from_pretrained(checkpoint, dtype=torch.float32).to(device).eval()
        processor = FractalMidiProcessor.from_pretrained(checkpoint)
    except (OSError, ValueError, KeyError, RuntimeError, AssertionError) as error:
        why = " ".join(str(error).split())[:200]
        raise InputError(checkpoint, f"does not load as a FractalMidi checkpoint on {device}: {why}") from error
    check_pair(loaded, processor, checkpoint)
    return loaded, processor


def check_pair(model: Any, processor: Any, checkpoint: Any = None) -> None:
    """Refuses a model and a processor of two minds about conditions or loudness.

    Args:
        model: `FractalMidiModel`.
        processor: `FractalMidiProcessor`.
        checkpoint: Where they come from, for the message.

    Raises:
        InputError: They differ; both are named.
    """
    sizes, apart = list(model.config.attribute_sizes), "model and processor do not belong together"
    if sizes != list(processor.condition_sizes):
        raise InputError(checkpoint, f"{apart}: attributes of {sizes} and {processor.condition_sizes} classes")
    if model.config.num_codes != processor.num_codes:
        told = f"{model.config.num_codes} codes and {processor.num_codes} (silence, held, loudness classes)"
        raise InputError(checkpoint, f"{apart}: {told}")


def check_kind(checkpoint: str | Path) -> None:
    """Refuses a folder with another kind of model; where no configuration can be read, loading says why.

    Raises:
        InputError: Its configuration names another kind; both are named.
    """
    try:
        kind = json.loads((Path(checkpoint) / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if kind != STEM:
        raise InputError(checkpoint, f"is a checkpoint of {kind!r}; give one of {STEM!r}")


def paint(
    source: Any = None, mask: Any = None, *, conditions: Mapping[str, Any] | str | None = None, bars: int | None = None,
    num_samples: int = 1, out: str | Path | None = None, gif: bool = False, seed: int = 0,
    num_iter_list: Sequence[int] | None = None, temperature: float = 1.0, cfg_scale: float | None = None,
    sparsity_bias: float = 0.0, top_p: float = 1.0, model: str | Path | None = None, device: str = "auto",
    structure_temperature: float | None = None, progress: bool = False,
    painter: tuple[Any, Any] | None = None,
) -> list[PaintResult]:  # fmt: skip
    """Paints piano rolls: from nothing, on after a piece, or into the masked part of one.

    What is longer than a window is painted window after window, each after half a window of what is there already.

    Args:
        source: MIDI or MusicXML file, or a roll `(128, T)`; `None` paints from nothing.
        mask: What to paint anew, see `processing/roll_masks.py`; left out, the piece goes on after its end.
        conditions: Wishes such as `{"density": "dense", "key": "A", "mode": "minor", "tempo": 96}`, or
            `"density=dense,key=A"`. Of a piece, tempo, metre, key and mode are kept where no wish says otherwise.
        bars: How many to paint from nothing, or to add; a window (16 bars of 4/4) when left out.
        num_samples: How many different ones; the first do not depend on how many follow.
        out: Folder for `NAME.mid` and `NAME.png` (and `NAME.gif`); `None` writes nothing.
        gif: Keep frames of how they grew, and write the GIF.
        seed: The same seed paints the same.
        num_iter_list, temperature, cfg_scale, sparsity_bias, top_p, structure_temperature: As in
            `FractalMidiModel.generate`. `cfg_scale` left out is 2 where something is wished for, otherwise 1;
            `structure_temperature` 0.6 from nothing, 0.3 beside known music.
        model: Checkpoint folder or Hub name; the one that comes along when left out.
        device: `"auto"`, `"cpu"`, `"cuda"`, ...
        progress: Show a progress bar.
        painter: A loaded model and processor, in place of `model`.

    Raises:
        InputError: Music, a mask, a wish or a setting that can not be.
    """
    from .painting_windows import prepare_canvas

    _check(num_samples, temperature, bars, seed)
    if out is not None:
        _make_folder(Path(out))
    wishes = read_wishes(conditions)
    loaded, processor = painter or load_painter(model, device)
    check_pair(loaded, processor)
    canvas = prepare_canvas(processor, source, mask, bars, wishes)
    row = _conditions(processor, canvas, wishes)
    cfg_scale = (GUIDANCE if wishes else 1.0) if cfg_scale is None else cfg_scale
    if structure_temperature is None:
        structure_temperature = STRUCTURE_TEMPERATURE if source is None else FILL_STRUCTURE_TEMPERATURE
    settings = dict(num_iter_list=num_iter_list, temperature=temperature, cfg_scale=cfg_scale)
    settings |= dict(sparsity_bias=sparsity_bias, top_p=top_p, structure_temperature=structure_temperature)
    settings |= _condition_tensor(row)
    results: list[PaintResult] = []
    for start in _bar(range(0, num_samples, BATCH), progress):
        count = min(BATCH, num_samples - start)
        for result in _paint_batch(loaded, canvas, count, seed + 7919 * start, gif, settings):
            result.name = canvas.name if num_samples == 1 else f"{canvas.name}-{len(results) + 1}"
            result.tempo = _tempo(processor, canvas, wishes, row)
            if out is not None:
                write_result(result, Path(out), processor, gif)
            results.append(result)
    return results


def _condition_tensor(row: list[int] | None) -> dict[str, Any]:
    import torch

    return {"conditions": torch.tensor([row])} if row else {}


def _paint_batch(
    model: Any, canvas: Any, count: int, seed: int, gif: bool, settings: dict[str, Any]
) -> Iterator[PaintResult]:
    """Some rolls that are painted together; their tempo is not known here."""
    from .painting_windows import paint_canvas, strike_anew

    started = time.perf_counter()
    painted, films = paint_canvas(model, canvas, count, seed, gif, settings)
    seconds = (time.perf_counter() - started) / count
    for roll, film in zip(painted, films, strict=True):
        heard = strike_anew(roll, canvas)
        yield PaintResult(canvas.name, roll, 0.0, canvas.metre, seconds, frames=film, heard=heard)


def read_wishes(conditions: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """Wishes as a mapping, out of one or out of `NAME=VALUE,NAME=VALUE`.

    Raises:
        InputError: A part without an equals sign, or a name given twice.
    """
    if conditions is None or isinstance(conditions, Mapping):
        return dict(conditions or {})
    wishes: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in conditions.split(","))):
        name, sign, value = (text.strip() for text in part.partition("="))
        if not sign or not name or not value:
            raise InputError(None, f"the wish {part!r} can not be understood; write NAME=VALUE, such as density=dense")
        if name in wishes:
            raise InputError(None, f"{name} is wished for twice: {wishes[name]} and {value}")
        wishes[name] = value
    return wishes


def whole_numbers(text: str) -> list[int]:
    """Steps such as `8,4,2,1` as numbers.

    Raises:
        InputError: Something else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(None, f"the steps are {text!r}; write whole numbers with commas, such as 8,4,2,1") from None


def _check(num_samples: int, temperature: float, bars: int | None, seed: int) -> None:
    if num_samples < 1:
        raise InputError(None, f"num_samples is {num_samples}; it must be at least 1")
    if not 0 < temperature < float("inf"):
        raise InputError(None, f"temperature is {temperature}; it must be above 0 (1 is as learnt, 0.8 is safer)")
    if bars is not None and not 1 <= bars <= 4000:
        raise InputError(None, f"bars is {bars}; it must be 1 to 4000")
    if abs(seed) >= 1 << 62:
        raise InputError(None, f"seed is {seed}; it must be below 2^62")


def _conditions(processor: Any, canvas: Canvas, wishes: Mapping[str, Any]) -> list[int]:
    kept = {name: value for name, value in canvas.measured.items() if name in KEPT}
    return processor.condition_bins(wishes, kept)


def _tempo(processor: Any, canvas: Canvas, wishes: Mapping[str, Any], row: Sequence[int]) -> float:
    """Tempo of the MIDI file: the number asked for, that of the piece, or the middle of the class asked for."""
    wish = wishes.get("tempo")
    try:
        return float(wish)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        pass
    if wish is None and canvas.measured.get("tempo"):
        return float(canvas.measured["tempo"])
    return float(processor.tempo_of(row))


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(out, f"can not be made a folder ({error.strerror}); give another --out") from error


def write_result(result: PaintResult, out: Path, processor: Any, gif: bool) -> None:
    """Writes MIDI, picture and, where asked for, the GIF.

    Raises:
        InputError: A file can not be written.
    """
    from .processing.roll_pictures import draw_roll, write_gif

    files = [out / f"{result.name}.{suffix}" for suffix in ("mid", "png", *(["gif"] if gif else []))]
    bar_steps = max(1, 4 * processor.steps_per_quarter * result.metre[0] // result.metre[1])
    shown: dict[str, Any] = dict(crop=True, bar_steps=bar_steps, loudness_classes=processor.loudness_classes)
    try:
        codes = result.codes if result.heard is None else result.heard
        processor.decode(codes, result.tempo, result.metre).dump_midi(str(files[0]))
        draw_roll(codes, **shown).save(files[1])
        if gif:
            write_gif(result.frames, files[2], **shown)
    except OSError as error:
        raise InputError(out, f"can not be written to ({error.strerror or error})") from error
    result.files = files


def _bar(batches: range, progress: bool) -> Any:
    from tqdm.auto import tqdm

    return tqdm(batches, desc="painting", unit="batch", disable=not progress or len(batches) < 2, leave=False)


__all__ = ["PaintResult", "default_checkpoint", "load_painter", "paint", "read_wishes", "whole_numbers"]
