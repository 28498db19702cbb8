"""The tab Draw: one model draws the tablature of a text, beside what an engraver makes of it."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from ..processing.native_settings import GUIDANCE
from . import widgets
from .limits import check_text
from .models import Models
from .words import Refused, Words

MAX_BARS = 8  # a system of two bars takes some seconds
EXAMPLES = {
    "en": {"A scale": 0, "Power chords": 1},
    "zh": {"音阶": 0, "强力和弦": 1},
}
_TEXTS = (
    "\\staff {tabs}\n\\ts (4 4) 3.5.8 5.5.8 2.4.8 3.4.8 5.4.8 2.3.8 4.3.8 5.3.8 | 5.3.4 4.3.4 2.3.4 5.4.4 |\n",
    "\\staff {tabs}\n\\ts (4 4) (0.6 2.5 2.4).4 r.4 (3.6 5.5 5.4).2 | (5.6 7.5 7.4).4 r.4 (3.6 5.5 5.4).2 |\n",
)


def draw_picture(text: str, guidance: float, seed: int | None, models: Models, words: Words) -> tuple[Any, str]:
    """Draws by `intermezzo.draw`.

    Returns:
        The picture, and the canonical text that was drawn.

    Raises:
        InputError: The text can not be read, or is too long.
    """
    from ..drawing import BARS_PER_SYSTEM, draw, systems_of

    check_text(text, words)
    if BARS_PER_SYSTEM * len(systems_of(text)) > MAX_BARS:
        raise Refused(None, words.say("too_long", most=words.count("n_bars", MAX_BARS)))
    with models.busy, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "text.alphatex"
        file.write_text(text, encoding="utf-8")
        (result,) = draw([file], guidance=guidance, seed=seed, drawer=models.drawer())
    if result.error:
        raise InputError(None, result.error.removeprefix(f"{file}: "))
    return result.picture, result.text


def build(models: Models, words: Words) -> None:
    """Puts the tab's parts into the Gradio page under construction."""
    import gradio as gr

    gr.HTML(widgets.heading(words, "draw"))
    with gr.Row(elem_classes="im-columns"):
        with gr.Column(scale=5, min_width=300):
            text = gr.Textbox(
                _TEXTS[0], lines=6, max_lines=14, label=words["text"], elem_id="im-draw-text", elem_classes="im-code"
            )
            with gr.Row(elem_classes="im-pills"):
                names = EXAMPLES[words.language]
                buttons = [gr.Button(name, size="sm", elem_classes="im-soft") for name in names]
            guidance = gr.Slider(1, 4, GUIDANCE, step=0.5, label=words["guidance"])
            with gr.Row():
                chance = gr.Checkbox(False, label=words["chance"], min_width=120)
                seed = gr.Number(0, label=words["seed"], precision=0, minimum=0, maximum=2**31 - 1, min_width=100)
            go = gr.Button(words["do_draw"], variant="primary", elem_id="im-draw-go")
            news = gr.HTML(widgets.notice(), elem_id="im-draw-news")
        with gr.Column(scale=7, min_width=300):
            gr.HTML(f'<p class="im-label">{words["drawn"]}</p>')
            picture = gr.Image(
                show_label=False, interactive=False, height=220, elem_id="im-draw-picture", buttons=["download"]
            )
            gr.HTML(f'<p class="im-label">{words["engraved"]}</p>')
            gr.HTML(widgets.sheet(words, "im-draw-sheet", False))
    drawn = gr.Textbox(visible="hidden")

    def run(given: str, close: float, with_chance: bool, number: float) -> tuple[str, Any, str]:
        try:
            made, canonical = draw_picture(given, close, int(number or 0) if with_chance else None, models, words)
        except Exception as error:
            if not isinstance(error, InputError):
                logging.getLogger(__name__).exception("while drawing")
            return widgets.notice(words.problem(error), "problem"), None, widgets.send(text="")
        return widgets.notice(), made, widgets.send(text=canonical)

    go.click(
        run, [text, guidance, chance, seed], [news, picture, drawn], api_name=f"draw_{words.language}",
        show_progress="minimal", show_progress_on=[news, picture],
    )  # fmt: skip
    for button, number in zip(buttons, names.values(), strict=True):
        button.click(lambda number=number: _TEXTS[number], None, text, api_visibility="private")
    drawn.change(None, drawn, None, js="(text) => window.Intermezzo.sheet('im-draw-sheet').show(JSON.parse(text).text)")


__all__ = ["build", "draw_picture"]
