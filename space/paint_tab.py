"""The tab Paint: a piano roll grows out of nothing, or into the covered part of a piece."""

from __future__ import annotations

import base64
import logging
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..processing.errors import InputError
from . import widgets
from .limits import MAX_BARS, check_file
from .models import Models
from .words import Refused, Words

MAX_FRAMES = 48  # that a page is sent
_UNKNOWN = 255
_WISHES = ("density", "register", "polyphony", "key", "mode", "tempo")
# "Ode to Joy": something to cover where a person has no file at hand.
EXAMPLE = r"""\title "Ode to Joy" \tempo 104
\ts (4 4) b3.4 b3 c4 d4 | d4 c4 b3 a3 | g3 g3 a3 b3 | b3.4{d} a3.8 a3.2 |
b3.4 b3 c4 d4 | d4 c4 b3 a3 | g3 g3 a3 b3 | a3.4{d} g3.8 g3.2 |
a3.4 a3 b3 g3 | a3.4 b3.8 c4 b3.4 g3 | a3.4 b3.8 c4 b3.4 a3 | g3.4 a3 d3.2 |
b3.4 b3 c4 d4 | d4 c4 b3 a3 | g3 g3 a3 b3 | a3.4{d} g3.8 g3.2 |"""


@dataclass
class Piece:
    """What lies on the roll.

    Attributes:
        source: A file, or the codes of what was painted.
        tempo: Quarter notes a minute of painted codes; a file knows its own.
        from_nothing: Painted out of nothing: without a cover it is painted anew.
    """

    source: Any
    tempo: float | None = None
    from_nothing: bool = False


def _canvas(source: Any, models: Models) -> Any:
    """The canvas that `paint` will paint on: the piece, to the end of its last bar."""
    from ..painting_windows import prepare_canvas

    return prepare_canvas(models.painter()[1], source, "1-", None)


def show_piece(path: str | Path, models: Models) -> dict[str, Any]:
    """A piece as the page shows it: codes, bar lines, notes to play."""
    from ..processing.piano_roll import coarse_codes

    canvas = _canvas(str(path), models)
    tempo = float(canvas.measured.get("tempo") or 120.0)
    codes = coarse_codes(canvas.codes, loudness_classes=canvas.loudness_classes)
    return {**_shown(codes, canvas.bars, tempo), "codes": widgets.pack(codes.astype(np.uint8))}


def _shown(codes: np.ndarray, bars: list[int], tempo: float) -> dict[str, Any]:
    """What the page knows of codes in 32 loudness classes, the only ones that it draws and plays."""
    from ..processing.piano_roll import clean_codes, notes_of_codes

    notes = notes_of_codes(clean_codes(codes)).tolist()
    return {"steps": int(codes.shape[1]), "bars": list(map(int, bars)), "tempo": tempo, "notes": notes}


def unpack_mask(text: str, steps: int) -> np.ndarray:
    """Mask of the page (bits of the rows from the lowest pitch, base64) as bool `(128, steps)`.

    Raises:
        InputError: It is of another size.
    """
    count = 128 * steps
    try:
        bits = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    except ValueError as error:
        raise InputError(None, "the mask is damaged; draw it again") from error
    if len(bits) != (count + 7) // 8:
        raise InputError(None, f"the mask has {8 * len(bits)} cells, the roll {count}; draw it again")
    return np.unpackbits(bits)[:count].astype(bool).reshape(128, steps)


def paint_roll(
    models: Models, words: Words, piece: Piece | None, mask: str, bars: int, seed: int, closeness: float,
    wishes: dict[str, str],
) -> tuple[str, dict[str, Any], Piece]:  # fmt: skip
    """Paints by `intermezzo.paint`.

    Returns:
        A notice (HTML), what the page shows, for `Intermezzo.painted` in `assets/roll.js`, and what lies there now.

    Raises:
        InputError: Nothing of a piece is covered, or wishes that can not be.
    """
    from ..painting import paint
    from ..processing.piano_roll import coarse_codes

    conditions: dict[str, Any] = {name: value for name, value in wishes.items() if value}
    hidden, wished = None, bool(conditions)
    if piece is not None:
        hidden = unpack_mask(mask, _canvas(piece.source, models).codes.shape[1]) if mask else None
        if hidden is None or not hidden.any():
            if not piece.from_nothing:
                raise Refused(None, words["nothing_hidden"])
            piece = hidden = None
        elif piece.tempo is not None:
            conditions.setdefault("tempo", piece.tempo)
    with models.busy, tempfile.TemporaryDirectory() as folder:
        painter = models.painter()
        (result,) = paint(
            piece.source if piece else None, hidden, conditions=conditions, bars=None if piece else int(bars),
            out=folder, gif=True, seed=int(seed), cfg_scale=float(closeness) if wished else None, painter=painter,
        )  # fmt: skip
        midi, _, gif = result.files
        files = {"mid": widgets.file_link(midi, "audio/midi"), "gif": widgets.file_link(gif, "image/gif")}
    length = max(1, 4 * painter[1].steps_per_quarter * result.metre[0] // result.metre[1])
    lines = list(range(0, result.codes.shape[1], length))
    cells = result.codes.size if hidden is None else int(hidden.sum())
    told = words.say("painted", cells=f"{cells:,}", seconds=result.seconds)
    codes, film = (
        coarse_codes(roll, loudness_classes=painter[1].loudness_classes) for roll in (result.codes, _film(result))
    )
    shown = {**_shown(codes, lines, result.tempo), "frames": _packed(film), "files": files}
    # Codes alone know no metre: what is not in 4/4 is painted again from its file.
    if piece is None or result.metre == (4, 4):
        piece = Piece(result.codes, result.tempo, from_nothing=hidden is None)
    return widgets.notice(told), shown, piece


def _film(result: Any) -> np.ndarray:
    """Some of the frames of how a roll grew, the last one whole; int16 `(N, P, T)`, -1 where nothing is decided."""
    count = len(result.frames)
    chosen = np.unique(np.linspace(0, count - 1, min(count, MAX_FRAMES)).round().astype(int))
    return np.stack([*(result.frames[k] for k in chosen), result.codes.astype(np.int16)])


def _packed(frames: np.ndarray) -> str:
    return widgets.pack(np.where(frames < 0, _UNKNOWN, frames).astype(np.uint8))


@cache
def _example_folder() -> tempfile.TemporaryDirectory[str]:
    """Goes with the program."""
    return tempfile.TemporaryDirectory(prefix="intermezzo-")


def example_piece() -> Path:
    """The example as a MIDI file."""
    from ..datasets_scripts.render.verbs import convert

    file = Path(_example_folder().name) / "ode_to_joy.mid"
    return file if file.exists() else convert(EXAMPLE, file)


def _choices(name: str, words: Words) -> list[tuple[str, str]]:
    from ..processing.music_attributes import ATTRIBUTES

    named = [(words.attribute(value), value) for value in ATTRIBUTES[name].classes]
    return [(words["as_it_comes"], ""), *named]


def _controls(words: Words) -> dict[str, Any]:
    """What can be chosen under the roll."""
    import gradio as gr

    with gr.Row(elem_classes="im-columns"):
        with gr.Column(min_width=280):
            kinds = [".mid", ".midi", ".musicxml", ".xml", ".mxl"]
            file = gr.File(label=words["piece"], file_types=kinds, height=150, type="filepath", elem_id="im-paint-file")
            with gr.Row(elem_classes="im-pills"):
                blank = gr.Button(words["blank"], size="sm", elem_classes="im-soft")
                joy = gr.Button(words["ode_to_joy"], size="sm", elem_classes="im-soft")
            bars = gr.Slider(1, 16, 4, step=1, label=words["bars"])
        with gr.Column(min_width=280):
            gr.HTML(f'<p class="im-label">{words["wishes"]}</p>')
            with gr.Row():
                shape = dict(value="", min_width=120, filterable=False)
                wishes = [gr.Dropdown(_choices(name, words), label=words.attribute(name), **shape) for name in _WISHES]
            with gr.Row():
                closeness = gr.Slider(1, 4, 2, step=0.5, label=words["closeness"], min_width=150)
                seed = gr.Number(0, label=words["seed"], precision=0, minimum=0, maximum=2**31 - 1, min_width=90)
    return {"file": file, "blank": blank, "joy": joy, "bars": bars, "settings": [bars, seed, closeness, *wishes]}


def load_piece(path: str | None, bars: int, models: Models, words: Words) -> tuple[str, str, Piece | None]:
    """Notice, what the page shows, and what lies there, of a file; of none, so many empty bars."""
    empty = widgets.send(empty=int(bars))
    if not path:
        return widgets.notice(), empty, None
    try:
        check_file(path, words, picture=False)
        with models.busy:
            shown = show_piece(path, models)
        if len(shown["bars"]) > MAX_BARS:
            raise Refused(None, words.say("too_long", most=words.count("n_bars", MAX_BARS)))
    except Exception as error:
        _log(error)
        return widgets.notice(words.problem(error), "problem"), empty, None
    told = words.say("loaded", bars=words.count("n_bars", len(shown["bars"])))
    return widgets.notice(told), widgets.send(**shown), Piece(str(path))


def build(models: Models, words: Words) -> None:
    """Puts the tab's parts into the Gradio page under construction."""
    import gradio as gr

    gr.HTML(widgets.heading(words, "paint"))
    gr.HTML(widgets.roll(words, "im-paint-roll", draw=True))
    news = gr.HTML(widgets.notice(), elem_id="im-paint-news")
    go = gr.Button(words["do_paint"], variant="primary", elem_id="im-paint-go")
    parts = _controls(words)
    payload, mask = gr.Textbox(visible="hidden", elem_id="im-paint-payload"), gr.Textbox(visible="hidden")
    piece = gr.State(None)

    def load(path: str | None, count: int) -> tuple[str, str, Piece | None]:
        return load_piece(path, count, models, words)

    def run(
        before: Piece | None, drawn: str, count: int, number: float, close: float, *asked: str
    ) -> tuple[str, str, Piece | None]:
        chosen = dict(zip(_WISHES, asked, strict=True))
        try:
            told, shown, after = paint_roll(models, words, before, drawn, count, int(number or 0), close, chosen)
        except Exception as error:
            _log(error)
            return widgets.notice(words.problem(error), "problem"), widgets.send(), before
        return told, widgets.send(**shown), after

    file, bars, results = parts["file"], parts["bars"], [news, payload, piece]
    loaded = {"outputs": results, "api_visibility": "private", "show_progress_on": news}
    file.upload(load, [file, bars], **loaded)
    for event in (file.clear, parts["blank"].click):
        event(lambda count: load(None, count), bars, **loaded)
    parts["joy"].click(lambda count: load(str(example_piece()), count), bars, **loaded)
    empty = "(count) => { const roll = Intermezzo.roll('im-paint-roll'); if (roll.fromNothing) roll.empty(count); }"
    bars.change(None, bars, None, js=empty)
    packed = "(piece, mask, ...rest) => [piece, Intermezzo.roll('im-paint-roll').packed(), ...rest]"
    shown_on: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": news}
    go.click(run, [piece, mask, *parts["settings"]], results, js=packed, api_name=f"paint_{words.language}", **shown_on)
    payload.change(None, payload, None, js="(payload) => window.Intermezzo.painted('im-paint-roll', payload)")


def _log(error: Exception) -> None:
    if not isinstance(error, InputError):
        logging.getLogger(__name__).exception("while painting")


__all__ = ["build", "example_piece", "load_piece", "paint_roll", "show_piece", "unpack_mask"]
