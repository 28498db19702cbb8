"""The parts of the page that Gradio has no component for: sheet of music, piano roll, messages."""

from __future__ import annotations

import base64
import html
import itertools
import json
import zlib
from pathlib import Path
from typing import Any

from .words import Words

FORMATS = ("alphatex", "gp", "mid", "musicxml")
_PLAY = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M8 5.5v13l11-6.5z"/></svg>'
_PAUSE = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 5.5h3.6v13H7zm6.4 0H17v13h-3.6z"/></svg>'
_STOP = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 5.5h2.4v13H6zm13 0v13L9.4 12z"/></svg>'


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _play_button(words: Words, disabled: bool = True) -> str:
    play, pause = _text(words["play"]), _text(words["pause"])
    return (
        f'<button type="button" class="im-play im-round" aria-label="{play}" data-play="{play}" data-pause="{pause}"'
        f'{" disabled" if disabled else ""}><span class="im-when-still">{_PLAY}</span>'
        f'<span class="im-when-playing">{_PAUSE}</span></button>'
    )


def heading(words: Words, tab: str) -> str:
    """One line on what a tab does."""
    return f'<p class="im-lead">{_text(words[f"{tab}_lead"])}</p>'


def sheet(words: Words, identity: str, editor: bool = True, mark: str = "doubt", strings: bool = False) -> str:
    """A sheet of music with its player, and an editor and downloads where it can be changed.

    Args:
        words: The page's language.
        identity: Id of the section.
        editor: Whether it can be changed and kept.
        mark: What it means that a bar is marked: `"doubt"` or `"changed"`.
        strings: Whether an unusual tuning is shown, which no picture would show.
    """
    stop = _text(words["stop"])
    toolbar = f"""
<div class="im-toolbar" role="toolbar" aria-label="{_text(words["play"])}">
  {_play_button(words)}
  <button type="button" class="im-stop im-round" aria-label="{stop}" title="{stop}" disabled>{_STOP}</button>
  <span class="im-clock">0:00 / 0:00</span>
  <label class="im-tempo">{_text(words["speed"])}
    <input type="range" class="im-speed" min="40" max="150" step="5" value="100">
    <span class="im-speed-value">100 %</span></label>
  <label class="im-check"><input type="checkbox" class="im-loop"> {_text(words["loop"])}</label>
</div>"""
    below = ""
    if editor:
        download = _text(words["download"])
        buttons = "".join(
            f'<button type="button" class="im-pill" data-format="{name}" aria-label="{download} .{name}">'
            f".{name}</button>"
            for name in FORMATS
        )
        below = f"""
<label class="im-label" for="{identity}-text">{_text(words["editor"])}</label>
<textarea id="{identity}-text" class="im-editor" spellcheck="false" autocomplete="off" autocapitalize="off"
 rows="7"></textarea>
<div class="im-downloads"><span class="im-label">{download}</span>{buttons}</div>"""
    return f"""<section class="im-score im-empty" id="{identity}" data-line="{_text(words["line"])}"
 data-broken="{_text(words["broken"])}" data-told="{_text(words[mark])}" data-mark="{mark}"
 data-strings="{"yes" if strings else "no"}">
<p class="im-hint">{_text(words["sheet_hint"])}</p>
<div class="im-filled">{toolbar}<div class="im-paper">
<div class="im-stage"><div class="im-marks"></div><div class="im-engraving"></div></div></div>
<p class="im-problem" role="status" aria-live="polite"></p>{below}</div></section>"""


def pages(words: Words) -> str:
    """Where the pages of a file are shown with their systems boxed."""
    return f"""<div id="im-read-tabs" class="im-pills" data-page="{_text(words["page"])}"></div>
<div id="im-read-pages" data-system="{_text(words["system"])}"></div>
<p id="im-read-problem" class="im-problem" role="status" aria-live="polite"></p>"""


def roll(words: Words, identity: str, draw: bool) -> str:
    """A piano roll; with `draw` a mask can be drawn on it."""
    tools = note = ""
    told = _text(f"{words['roll']}. {words['cover']}" if draw else words["roll"])
    if draw:
        tools = (
            f'<button type="button" class="im-erase im-pill" aria-pressed="false">{_text(words["erase"])}</button>'
            f'<button type="button" class="im-clear im-pill">{_text(words["clear"])}</button>'
        )
        note = f'<p class="im-note">{_text(words["cover"])}</p>'
    links = "".join(
        f'<a class="im-pill" data-file="{kind}" hidden>{_text(words["download"])} .{kind}</a>'
        for kind in ("mid", "gif")
    )
    return f"""<section class="im-roll" id="{identity}" data-draw="{"yes" if draw else "no"}">
<div class="im-toolbar" role="toolbar" aria-label="{_text(words["roll"])}">{_play_button(words)}{tools}
<span class="im-space"></span>{links}</div>
<canvas tabindex="0" role="application" aria-label="{told}"></canvas>
{note}</section>"""


def notice(text: str = "", kind: str = "quiet") -> str:
    """One line of news: `quiet`, `busy` or `problem`."""
    if not text:
        return '<p class="im-notice" role="status" aria-live="polite"></p>'
    return f'<p class="im-notice im-{kind}" role="status" aria-live="polite">{_text(text)}</p>'


def pack(values: Any) -> str:
    """An array of bytes as the page unpacks it: zlib, base64."""
    return base64.b64encode(zlib.compress(values.tobytes(), 6)).decode()


def file_link(path: Path, media: str) -> dict[str, str]:
    """A file as a link that needs no server."""
    data = base64.b64encode(path.read_bytes()).decode()
    return {"name": path.name, "data": f"data:{media};base64,{data}"}


_turns = itertools.count()


def send(**values: Any) -> str:
    """Values for the page's scripts as JSON; two of the same values differ, so that the second is heard too."""
    return json.dumps({**values, "turn": next(_turns)})


__all__ = ["FORMATS", "file_link", "heading", "notice", "pack", "pages", "roll", "send", "sheet"]
