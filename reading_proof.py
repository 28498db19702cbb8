"""The proof page of `intermezzo read`: each system as it was, what was read of it drawn again, doubtful bars marked.

One HTML file without anything outside it: pictures are inlined, nothing runs, nothing is fetched.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .processing.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from .datasets_scripts.render import AlphaTabPool, RenderedPicture
    from .processing.system_reader import SystemReading

DOUBTFUL, SURE = 0.5, 0.9  # chances: below the first a bar is red, below the second amber
_MARGIN = 0.12  # of a system's height, shown around it
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; color: #222; }
section { border: 1px solid #ccc; border-radius: 8px; margin: 1.5rem 0; padding: 1rem; }
h2 { font-size: 1.05rem; margin: 0 0 .5rem; } p { margin: .3rem 0; }
.frame { position: relative; display: inline-block; max-width: 100%; }
img { display: block; max-width: 100%; height: auto; background: #fff; }
.bar { position: absolute; border-radius: 4px; }
.red { background: rgba(220, 30, 30, .16); outline: 2px solid rgba(200, 0, 0, .75); }
.amber { background: rgba(240, 160, 0, .13); outline: 1px dashed rgba(190, 120, 0, .8); }
.label { color: #666; font-size: .85rem; } pre { white-space: pre-wrap; background: #f6f6f6; padding: .6rem; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } pre { background: #262626; } }
"""


def proof_page(name: str, picture: Image.Image, readings: Sequence[SystemReading], pool: AlphaTabPool) -> str:
    """One page of HTML to check a reading by eye.

    Args:
        name: What was read, as a heading.
        picture: The page.
        readings: Its systems from the top, of `SystemReader.read_page`; their boxes are places on the upright page.
        pool: Draws the texts.

    Returns:
        A whole HTML document.
    """
    import numpy as np

    from .processing.page_systems import read_page
    from .processing.picture_files import grey_on_white

    upright = read_page(np.asarray(grey_on_white(picture))).image
    doubtful = sum(chance < DOUBTFUL for reading in readings for chance in reading.bar_confidence)
    bars = sum(reading.bars for reading in readings)
    title = html.escape(name)
    summary = f"{len(readings)} systems, {bars} bars, {doubtful} of them more likely wrong than right"
    parts = [_section(number, reading, upright, pool) for number, reading in enumerate(readings, start=1)]
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n'
        f"<h1>{title}</h1>\n<p>{summary}. Red: check this bar. Amber: less sure than usual.</p>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _section(number: int, reading: SystemReading, page: np.ndarray, pool: AlphaTabPool) -> str:
    """One system: the picture, the drawing with its marks, the text."""
    unsure = ", ".join(str(i + 1) for i, chance in enumerate(reading.bar_confidence) if chance < DOUBTFUL)
    words = f"bars to check: {unsure}" if unsure else "no bar in doubt"
    words += "" if reading.closes else "; its bars do not close"
    return (
        f"<section><h2>System {number}: {words}</h2>\n"
        f'<p class="label">picture</p>{_image(_cut(page, reading.box), "the picture")}\n'
        f'<p class="label">read, and drawn again</p>{_drawn(reading, pool)}\n'
        f"<details><summary>alphaTex</summary><pre>{html.escape(reading.text)}</pre></details></section>"
    )


def _cut(page: np.ndarray, box: tuple[float, float, float, float] | None) -> Image.Image:
    from PIL import Image

    if box is None:
        return Image.fromarray(page)
    left, top, right, bottom = box
    more = _MARGIN * (bottom - top)
    height, width = page.shape
    rows = slice(max(0, round(top - more)), min(height, round(bottom + more)))
    return Image.fromarray(page[rows, max(0, round(left - more)) : min(width, round(right + more))])


def _image(picture: Image.Image, what: str) -> str:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img alt="{what}" src="data:image/png;base64,{data}">'


def _drawn(reading: SystemReading, pool: AlphaTabPool) -> str:
    """The text drawn on one line with its doubtful bars marked, or why it can not be drawn."""
    from .datasets_scripts.render import RenderJob

    if reading.score is None:
        return "<p>The text does not read as alphaTex, so it can not be drawn.</p>"
    loudness = any("dy" in beat.effects for *_, beat in reading.score.beats())
    options: dict[str, Any] = {"staves": "auto", "line_gray": 120, "dynamics": loudness, "tracks": "all"}
    try:
        (drawn,) = pool.render(RenderJob(text=reading.text, layout="system", **options))
    except InputError as error:
        return f"<p>It can not be drawn: {html.escape(error.message)}</p>"
    marks = "".join(_marks(drawn, reading.bar_confidence))
    return f'<div class="frame">{_image(drawn.image(), "what was read")}{marks}</div>'


def _marks(drawn: RenderedPicture, confidence: Sequence[float]) -> list[str]:
    """Boxes over bars that are not sure, in parts of the picture's size so that they grow with it."""
    marks = []
    for bar in drawn.bars:
        chance = confidence[bar.bar] if bar.bar < len(confidence) else 0.0
        if chance >= SURE:
            continue
        kind = "red" if chance < DOUBTFUL else "amber"
        where = (bar.x / drawn.width, bar.y / drawn.height, bar.w / drawn.width, bar.h / drawn.height)
        left, top, width, height = (f"{100 * part:.2f}%" for part in where)
        place = f"left:{left};top:{top};width:{width};height:{height}"
        words = f"bar {bar.bar + 1}: {chance:.0%} sure"
        marks.append(f'<div class="bar {kind}" style="{place}" title="{words}"></div>')
    return marks


__all__ = ["DOUBTFUL", "SURE", "proof_page"]
