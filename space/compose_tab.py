"""The tab Compose: words, or a picture, become a piece; what was asked for stands beside what came."""

from __future__ import annotations

import html
import logging
import tempfile
from typing import Any

import numpy as np

from ..processing.errors import InputError
from . import widgets
from .limits import check_file, check_text
from .models import Models
from .words import Refused, Words

MAX_BARS = 32
EXAMPLES = {
    "en": ("a calm waltz in A minor", "meteor shower", "a fast, dense dance in C major", "🌙"),
    "zh": ("安静的圆舞曲，小调", "流星雨", "欢快而密集的舞曲", "🌙"),
}


def compose_piece(
    models: Models, words: Words, text: str, picture: str | None, bars: int, seed: int
) -> tuple[str, str, dict[str, Any]]:
    """Composes by `intermezzo.compose`.

    Returns:
        A notice and a table of what was asked and measured (HTML), and what the page shows, for `Intermezzo.painted`
        in `assets/roll.js`.

    Raises:
        InputError: Neither words nor a picture, or one that can not be read.
    """
    from ..composing import compose

    text = check_text(text or "", words).strip()
    if not text and not picture:
        raise Refused(None, words["need_words"])
    source: dict[str, Any] = {"prompts": text} if text else {"picture": check_file(str(picture), words)}
    with models.busy, tempfile.TemporaryDirectory() as folder:
        composer = models.composer(with_pictures=not text)
        (result,) = compose(**source, out=folder, composer=composer, bars=int(bars), seed=int(seed))
        (song,) = result.songs
        midi = next(path for path in song.files if path.suffix == ".mid")
        files = {"mid": widgets.file_link(midi, "audio/midi")}
    told = " · ".join([words.say("composed", seconds=song.seconds), *map(words.remark, result.notes)])
    return widgets.notice(told), _table(result, song, words), {**_roll(song.score), "files": files}


def _roll(score: Any) -> dict[str, Any]:
    """The song as a roll that plays; its drums are not shown."""
    from ..processing.music_attributes import mean_tempo
    from ..processing.piano_roll import NUM_PITCHES, codes_of_score, notes_of_codes
    from ..processing.roll_windows import bar_lines

    try:
        codes = codes_of_score(score)
    except InputError:  # nothing but drums or rests
        codes = np.zeros((NUM_PITCHES, 16), np.uint8)
    bars = [line.step for line in bar_lines(score, codes.shape[1])]
    tempo = float(mean_tempo(score) or 120.0)
    shown = {"steps": int(codes.shape[1]), "bars": bars, "tempo": tempo, "notes": notes_of_codes(codes).tolist()}
    return {**shown, "codes": widgets.pack(codes.astype(np.uint8))}


def _table(result: Any, song: Any, words: Words) -> str:
    """Asked against measured, a row for each attribute that something is known of."""
    from ..composing_report import attribute_table

    # Columns of the report are two blanks apart; their first line is the heading.
    _, *lines = attribute_table(result.asked, [song.values]).splitlines()
    rows = []
    for line in lines:
        cells = [cell for cell in line.split("  ") if cell.strip()]
        if len(cells) != 3 or cells[2].strip() == "-":
            continue
        name, asked, measured = (cell.strip() for cell in cells)
        mark = {"✓": "im-kept", "✗": "im-missed"}.get(measured[-1:], "")
        shown = "" if asked == "-" else words.music(asked)
        rows.append(f'<tr class="{mark}"><th scope="row">{html.escape(words.attribute(name))}</th>'
                    f"<td>{html.escape(shown)}</td><td>{html.escape(words.music(measured))}</td></tr>")  # fmt: skip
    head = f'<tr><th></th><th scope="col">{words["asked"]}</th><th scope="col">{words["measured"]}</th></tr>'
    return f'<table class="im-attributes"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def build(models: Models, words: Words) -> None:
    """Puts the tab's parts into the Gradio page under construction."""
    import gradio as gr

    gr.HTML(widgets.heading(words, "compose"))
    with gr.Row(elem_classes="im-columns"):
        with gr.Column(scale=5, min_width=300):
            text = gr.Textbox(
                label=words["words"], placeholder=words["words_hint"], lines=2, max_lines=6, elem_id="im-compose-text"
            )
            with gr.Row(elem_classes="im-pills"):
                buttons = [gr.Button(name, size="sm", elem_classes="im-soft") for name in EXAMPLES[words.language]]
            picture = gr.Image(
                type="filepath", label=words["or_picture"], sources=["upload", "clipboard"], height=170,
                visible=models.has("style_encoder"), elem_id="im-compose-picture",
            )  # fmt: skip
            with gr.Row():
                bars = gr.Slider(4, MAX_BARS, 16, step=1, label=words["bars"], min_width=150)
                seed = gr.Number(0, label=words["seed"], precision=0, minimum=0, maximum=2**31 - 1, min_width=90)
            go = gr.Button(words["do_compose"], variant="primary", elem_id="im-compose-go")
        with gr.Column(scale=7, min_width=300):
            gr.HTML(widgets.roll(words, "im-compose-roll", draw=False))
            news = gr.HTML(widgets.notice(), elem_id="im-compose-news")
            table = gr.HTML(elem_id="im-compose-table")
    payload = gr.Textbox(visible="hidden")

    def run(given: str, seen: str | None, count: int, number: float) -> tuple[str, str, str]:
        try:
            told, attributes, shown = compose_piece(models, words, given, seen, count, int(number or 0))
        except Exception as error:
            if not isinstance(error, InputError):
                logging.getLogger(__name__).exception("while composing")
            return widgets.notice(words.problem(error), "problem"), "", widgets.send()
        return told, attributes, widgets.send(**shown)

    asked = [text, picture, bars, seed]
    options = {"outputs": [news, table, payload], "show_progress": "minimal", "show_progress_on": news}
    go.click(run, asked, api_name=f"compose_{words.language}", **options)
    text.submit(run, asked, api_visibility="private", **options)
    for button, words_of_it in zip(buttons, EXAMPLES[words.language], strict=True):
        chosen = button.click(lambda given=words_of_it: given, None, text, api_visibility="private")
        chosen.then(run, asked, api_visibility="private", **options)
    payload.change(None, payload, None, js="(payload) => window.Intermezzo.painted('im-compose-roll', payload)")


__all__ = ["build", "compose_piece"]
