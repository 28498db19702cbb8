"""The tab Compare: how alike two pictures are in style."""

from __future__ import annotations

import base64
import html
import io
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..processing.errors import InputError
from . import widgets
from .limits import check_file
from .models import Models
from .words import Refused, Words

ASSETS = Path(__file__).resolve().parent / "assets"
# Names among the words: `style_*.png` beside the drawings they were made from, which are free of rights.
EXAMPLES = {
    "one_hand_lines": ("line_guitar", "line_cup"),
    "one_hand_colours": ("flat_guitar", "flat_boat"),
    "two_hands": ("line_guitar", "flat_guitar"),
}
_WIDTH, _HEIGHT, _BINS = 640, 120, 48


def compare_pictures(first: str | None, second: str | None, models: Models, words: Words) -> str:
    """The result of `intermezzo.compare` as HTML, with where the model looked in each picture.

    Raises:
        InputError: A picture is missing, or can not be read.
    """
    from ..comparing import compare
    from ..inspecting import inspect_picture

    if not first or not second:
        raise Refused(None, words["need_two"])
    files = [check_file(path, words) for path in (first, second)]
    with models.busy:
        looker = models.looker()
        found = compare(*files, model=looker)
        reports = [inspect_picture(file, model=looker, count=4) for file in files]
    return render(found, reports, looker.pairs(), words)


def render(found: Any, reports: Sequence[Any], known: dict[str, np.ndarray], words: Words) -> str:
    """A `Comparison` and the `PictureReport` of each picture as HTML."""
    verdict = words[found.verdict] if found.above_same is not None else words["unknown_verdict"]
    looked = "".join(
        f'<figure><img src="{_data_url(report.attention)}" alt="{html.escape(words["where"])}">'
        f"<figcaption>{html.escape(_nearest(report, words))}</figcaption></figure>"
        for report in reports
    )
    return f"""<section class="im-compared">
<p class="im-figure"><b>{found.similarity:.2f}</b> <span>{html.escape(words["similarity"])} (−1 … 1)</span></p>
<p class="im-verdict">{html.escape(verdict)}</p>
{draw_standing(found.similarity, known, words)}
<p class="im-label">{html.escape(words["where"])}</p><div class="im-looked">{looked}</div></section>"""


def _nearest(report: Any, words: Words) -> str:
    if not report.captions:
        return ""
    return words.say("near", names=", ".join(text for text, _ in report.captions))


def _data_url(picture: Any) -> str:
    stream = io.BytesIO()
    picture.save(stream, format="WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def _hill(values: np.ndarray, top: float) -> str:
    """A smoothed histogram as an SVG path over -1 … 1."""
    counts, _ = np.histogram(values, bins=_BINS, range=(-1, 1))
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.6) ** 2)
    smooth = np.convolve(counts / max(len(values), 1), kernel / kernel.sum(), "same")
    smooth = smooth / max(float(smooth.max()), 1e-9)
    xs = (np.arange(_BINS) + 0.5) * _WIDTH / _BINS
    points = " ".join(f"L{x:.1f},{top - 78 * y:.1f}" for x, y in zip(xs, smooth, strict=True))
    return f"M0,{top} {points} L{_WIDTH},{top} Z"


def draw_standing(similarity: float, known: dict[str, np.ndarray], words: Words) -> str:
    """Where a similarity stands among known pairs of one style and of two, as SVG; empty where none are known."""
    if not known:
        return ""
    x, base = (similarity + 1) / 2 * _WIDTH, _HEIGHT - 22
    marks = "".join(
        f'<text x="{place * _WIDTH / 4:.0f}" y="{_HEIGHT - 5}" text-anchor="{anchor}">{value}</text>'
        for place, value, anchor in ((0, "−1", "start"), (2, "0", "middle"), (4, "1", "end"))
    )
    return f"""<svg class="im-standing" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"
 aria-label="{html.escape(words["similarity"])} {similarity:.2f}">
<path class="im-different" d="{_hill(known["different"], base)}"/>
<path class="im-same" d="{_hill(known["same"], base)}"/>
<line x1="0" x2="{_WIDTH}" y1="{base}" y2="{base}"/>
<line class="im-here" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{base}"/>
<circle class="im-here" cx="{x:.1f}" cy="{base}" r="5"/>{marks}</svg>
<p class="im-legend"><span class="im-different">{html.escape(words["different_pairs"])}</span>
<span class="im-same">{html.escape(words["same_pairs"])}</span></p>"""


def build(models: Models, words: Words) -> None:
    """Puts the tab's parts into the Gradio page under construction."""
    import gradio as gr

    gr.HTML(widgets.heading(words, "compare"))
    with gr.Row(elem_classes="im-columns"):
        pictures = [
            gr.Image(type="filepath", label=words[name], height=260, sources=["upload", "clipboard"],
                     elem_id=f"im-compare-{name}")
            for name in ("first", "second")
        ]  # fmt: skip
    examples = _examples(words)
    gr.HTML(f'<p class="im-label">{words["examples"]}</p>')
    with gr.Row(elem_classes="im-pills"):
        buttons = [gr.Button(name, size="sm", elem_classes="im-soft") for name in examples]
    go = gr.Button(words["do_compare"], variant="primary", elem_id="im-compare-go")
    result = gr.HTML(elem_id="im-compare-result", min_height=60)

    def run(first: str | None, second: str | None) -> str:
        try:
            return compare_pictures(first, second, models, words)
        except Exception as error:
            if not isinstance(error, InputError):
                logging.getLogger(__name__).exception("while comparing")
            return widgets.notice(words.problem(error), "problem")

    options = {"outputs": result, "show_progress": "minimal"}
    go.click(run, pictures, api_name=f"compare_{words.language}", **options)
    for button, pair in zip(buttons, examples.values(), strict=True):

        def fill(pair: list[str] = pair) -> list[str]:
            return pair

        chosen = button.click(fill, None, pictures, api_visibility="private")
        chosen.then(run, pictures, api_visibility="private", **options)


def _examples(words: Words) -> dict[str, list[str]]:
    """Pairs of pictures that come along: two things by one hand, one thing by two."""
    return {words[name]: [str(ASSETS / f"style_{one}.png") for one in pair] for name, pair in EXAMPLES.items()}


__all__ = ["EXAMPLES", "build", "compare_pictures", "draw_standing", "render"]
