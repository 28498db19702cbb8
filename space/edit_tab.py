"""The tab Edit: tablature is changed as an instruction says; before and after stand one above the other."""

from __future__ import annotations

import html
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..editing import SCORE_SUFFIXES, TEXT_SUFFIXES
from ..processing.errors import InputError
from . import widgets
from .limits import check_file, check_text
from .models import ROOT, Models
from .words import LANGUAGES, Refused, Words

MAX_BARS = 200
MIDI_SUFFIXES = (".mid", ".midi", ".kar")
# The language of the page comes first; the other is one click away as well.
INSTRUCTIONS = {
    "en": ("make it rock", "up a whole tone", "make it easier", "put a capo on fret 2", "add a bass line"),
    "zh": ("改为摇滚风格", "升高一个全音", "简化一下", "变调夹夹2品", "加上低音"),
}
_OTHERS = 3
_GREENSLEEVES = """\\staff {tabs}
\\ts (6 8) \\tempo 96 (1.2 0.5).4 3.2.8 0.1.8{d} 2.1.16 0.1.8 |
(3.2 3.6).4 0.2.8 0.3.8{d} 2.3.16 0.2.8 |
(1.2 0.5).4 2.3.8 2.3.8{d} 1.3.16 2.3.8 |
(0.2 0.6).4 1.3.8 2.4.4 2.3.8 |
(1.2 0.5).4 3.2.8 0.1.8{d} 2.1.16 0.1.8 |
(3.2 3.6).4 0.2.8 0.3.8{d} 2.3.16 0.2.8 |
(1.2 0.5).8{d} 0.2.16 2.3.8 (1.3 0.6).8{d} 4.4.16 1.3.8 |
(2.3 2.4 0.5).2{d} |
"""
_ODE_TO_JOY = """\\staff {score tabs}
\\ts (4 4) \\ks g \\tempo 108 (0.2 3.6).4 0.2.4 1.2.4 3.2.4 |
(3.2 0.4).4 1.2.4 0.2.4 2.3.4 |
(0.3 3.6).4 0.3.4 2.3.4 0.2.4 |
(0.2 0.4).4{d} 2.3.8 (2.3 0.4).2 |
"""
PIECES = {  # text, or file in `examples/`: (English, Chinese); both tunes are in the public domain
    _GREENSLEEVES: ("Greensleeves", "绿袖子"),
    _ODE_TO_JOY: ("Ode to Joy", "欢乐颂"),
    "malaguena.png": ("Malagueña (picture)", "马拉加舞曲（图片）"),
}


def open_piece(path: str | Path, models: Models, words: Words) -> tuple[str, dict[str, Any]]:
    """A file as alphaTex, by `intermezzo.convert` or, for a picture, `intermezzo.read`.

    Returns:
        A notice (HTML) and what the page shows, for `Intermezzo.edited` in `assets/edit.js`.

    Raises:
        InputError: It is not taken here, or can not be read.
    """
    suffix = Path(path).suffix.lower()
    doubtful: list[int] = []
    told: list[str] = []
    if suffix in MIDI_SUFFIXES:
        raise Refused(None, words["no_strings"])
    if suffix in (*TEXT_SUFFIXES, *SCORE_SUFFIXES):
        file = check_file(path, words, picture=False)
        text = _canonical(file, words)
    else:
        if not models.has("score_vlm"):
            raise Refused(None, words["no_strings"])
        file = check_file(path, words)
        text, doubtful = _read_page(file, models, words)
        told = [words["from_picture"]]
        told += [words.say("unsure", bars=_ranges(doubtful))] if doubtful else []
    opened = words.say("opened", bars=words.count("n_bars", _number_of_bars(text, words)))
    shown = {"before": text, "after": "", "doubtful": doubtful, "name": file.stem}
    return widgets.notice(" · ".join([opened, *told])), shown


def _canonical(file: Path, words: Words) -> str:
    """Canonical alphaTex of whatever alphaTab reads: people write more of alphaTex than edits are made for."""
    from ..datasets_scripts.render.verbs import convert

    with tempfile.TemporaryDirectory() as folder:
        made = convert(file, Path(folder) / "canonical.alphatex")
        return check_text(made.read_text(encoding="utf-8"), words)


def _read_page(file: Path, models: Models, words: Words) -> tuple[str, list[int]]:
    """Text of a picture, and its doubtful bars, counted from 1."""
    from ..processing.picture_files import load_pictures
    from ..reading import read

    pages = load_pictures(file)
    next(pages, None)
    if next(pages, None) is not None:  # found out before any page is read
        raise Refused(None, words["one_page"])
    with models.busy:
        (result,) = read([file], reader=models.reader())
    if result.error:
        raise InputError(None, result.error.removeprefix(f"{file}: "))
    doubtful, first = [], 0
    for system in result.systems:
        doubtful += [first + bar for bar in system.unsure_bars]
        first += system.bars
    return result.text, doubtful


def _number_of_bars(text: str, words: Words) -> int:
    from ..processing.alphatex_grammar import read_alphatex

    count = max((len(staff.bars) for staff in read_alphatex(text).staves), default=0)
    if count > MAX_BARS:
        raise Refused(None, words.say("too_long", most=words.count("n_bars", MAX_BARS)))
    return count


def edit_piece(
    text: str, instruction: str, seed: int, name: str, models: Models, words: Words
) -> tuple[str, dict[str, Any]]:
    """Edits by `intermezzo.edit`.

    Returns:
        What was understood and changed (HTML), and what the page shows, for `Intermezzo.edited` in `assets/edit.js`.

    Raises:
        InputError: Something lacks, or the edit is refused; the message says why.
    """
    from ..editing import edit

    text = check_text(text or "", words)
    if not text.strip():
        raise Refused(None, words["need_piece"])
    if not (instruction or "").strip():
        raise Refused(None, words["need_instruction"])
    with models.busy, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "piece.alphatex"
        file.write_text(text, encoding="utf-8")
        canonical = _canonical(file, words)
        _number_of_bars(canonical, words)
        file.write_text(canonical, encoding="utf-8")
        result = edit(file, instruction, seed=seed, editor=models.editor())
    changed, told = _changes(result.before, result.text, words)
    shown = {"before": result.before, "after": result.text, "changed": changed, "name": name or "piece"}
    return _understood(result, told, words), shown


def changed_bars(before: str, after: str) -> list[int] | None:
    """Bars, from 1, that are written differently; `None` where the bars do not correspond.

    Args:
        before: Canonical alphaTex.
        after: The same, of the edited piece.
    """
    from ..processing.alphatex_grammar import read_alphatex

    pieces = [read_alphatex(text) for text in (before, after)]
    # A voice that is empty in this bar alone is padding.
    staves = [
        [[replace(bar, voices=[v for v in bar.voices if v]) for bar in staff.bars] for staff in piece.staves]
        for piece in pieces
    ]
    if [len(bars) for bars in staves[0]] != [len(bars) for bars in staves[1]]:
        return None
    pairs = [pair for one, other in zip(*staves, strict=True) for pair in enumerate(zip(one, other, strict=True), 1)]
    return sorted({number for number, (one, other) in pairs if one != other})


def _changes(before: str, after: str, words: Words) -> tuple[list[int], str]:
    """Bars to mark, and a sentence on what changed; where all bars did, none is marked."""
    old, new = (_number_of_bars(text, words) for text in (before, after))
    changed = changed_bars(before, after)
    if changed is None:
        was, became = (words.count("n_bars", number) for number in (old, new))
        return [], words.say("bars_became", before=was, after=became)
    if not changed:
        return [], words["strings_changed"]
    if len(changed) == old:
        return [], words["all_changed"]
    return changed, words.say("bars_changed", bars=_ranges(changed))


def _ranges(numbers: Sequence[int]) -> str:
    """`1–3, 7` of 1, 2, 3, 7."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def _understood(result: Any, told: str, words: Words) -> str:
    """Each step of the edit with its meaning, then what it changed."""
    by_model = result.chance < 1  # a line of the edit language needs none
    head = words.say("understood_so", chance=f"{result.chance:.0%}") if by_model else words["understood"]
    steps = [step.strip() for step in result.program.split(";")]
    rows = "".join(
        f"<li><code>{html.escape(step)}</code>{html.escape(words.edit(step.split()[0]))}</li>" for step in steps
    )
    return (
        f'<div class="im-understood" role="status" aria-live="polite">{html.escape(head)}<ul>{rows}</ul>'
        f"{html.escape(told)}</div>"
    )


def _known(words: Words) -> str:
    """All that can be asked for, folded away."""
    from ..processing.edit_language import DOMAINS, NO_ARGUMENT

    def form(name: str, domain: tuple[str, ...]) -> str:
        if domain == (NO_ARGUMENT,):
            return name
        return f"{name} {' | '.join(domain) if len(domain) < 10 else f'{domain[0]} … {domain[-1]}'}"

    rows = "".join(
        f"<li><code>{html.escape(form(name, domain))}</code>{html.escape(words.edit(name))}</li>"
        for name, domain in DOMAINS.items()
    )
    return f'<details class="im-known"><summary>{html.escape(words["known_edits"])}</summary><ul>{rows}</ul></details>'


def _sheets(words: Words) -> str:
    before, after = (html.escape(words[name]) for name in ("before", "after"))
    return f"""<div class="im-edited"><p class="im-label">{before}</p>
{widgets.sheet(words, "im-edit-before", editor=False, strings=True)}
<p class="im-label im-of-after">{after}</p>
{widgets.sheet(words, "im-edit-after", mark="changed", strings=True)}</div>"""


def _inputs(models: Models, words: Words) -> dict[str, Any]:
    """What a person gives: a piece, and what to change in it."""
    import gradio as gr

    reads = models.has("score_vlm")
    kinds = [*TEXT_SUFFIXES, *SCORE_SUFFIXES]
    text = gr.Textbox(
        _GREENSLEEVES, lines=5, max_lines=9, label=words["text"], elem_id="im-edit-text", elem_classes="im-code"
    )
    file = gr.File(
        label=words["edit_file" if reads else "edit_score"], file_types=["image", ".pdf", *kinds] if reads else kinds,
        height=140, type="filepath", elem_id="im-edit-file",
    )  # fmt: skip
    gr.HTML(f'<p class="im-label">{words["examples"]}</p>')
    with gr.Row(elem_classes="im-pills"):
        pieces = {
            piece: gr.Button(names[words.language == "zh"], size="sm", elem_classes="im-soft")
            for piece, names in PIECES.items()
            if "\n" in piece or (reads and (ROOT / "examples" / piece).is_file())
        }
    instruction = gr.Textbox(
        label=words["instruction"], placeholder=words["instruction_hint"], lines=1, max_lines=3, max_length=400,
        elem_id="im-edit-instruction",
    )  # fmt: skip
    others = next(language for language in LANGUAGES if language != words.language)
    with gr.Row(elem_classes="im-pills"):
        wishes = {
            wish: gr.Button(wish, size="sm", elem_classes="im-soft")
            for wish in (*INSTRUCTIONS[words.language], *INSTRUCTIONS[others][:_OTHERS])
        }
    seed = gr.Number(0, label=words["seed"], precision=0, minimum=0, maximum=2**31 - 1, min_width=90)
    go = gr.Button(words["do_edit"], variant="primary", elem_id="im-edit-go")
    gr.HTML(_known(words))
    return {"text": text, "file": file, "pieces": pieces, "instruction": instruction, "wishes": wishes, "seed": seed,
            "go": go}  # fmt: skip


def build(models: Models, words: Words) -> None:
    """Puts the tab's parts into the Gradio page under construction."""
    import gradio as gr

    gr.HTML(widgets.heading(words, "edit"))
    with gr.Row(elem_classes="im-columns"):
        with gr.Column(scale=5, min_width=300):
            parts = _inputs(models, words)
        with gr.Column(scale=7, min_width=300):
            news = gr.HTML(widgets.notice(), elem_id="im-edit-news")
            gr.HTML(_sheets(words))
            on = gr.Button(words["go_on"], size="sm", elem_classes="im-soft", elem_id="im-edit-on")
    payload, name = gr.Textbox(visible="hidden", elem_id="im-edit-payload"), gr.State("piece")
    _connect(parts, news, on, payload, name, models, words)


def _connect(parts: dict[str, Any], news: Any, on: Any, payload: Any, name: Any, models: Models, words: Words) -> None:
    text, instruction = parts["text"], parts["instruction"]

    def failed(error: Exception, **shown: Any) -> tuple[str, str]:
        if not isinstance(error, InputError):
            logging.getLogger(__name__).exception("while editing")
        return widgets.notice(words.problem(error), "problem"), widgets.send(after="", **shown)

    def take(path: str | None) -> tuple[str, str, Any, str]:
        import gradio as gr

        if not path:
            return widgets.notice(), widgets.send(), gr.skip(), "piece"
        try:
            told, shown = open_piece(path, models, words)
        except Exception as error:
            return *failed(error, before=""), gr.skip(), "piece"
        return told, widgets.send(**shown), shown["before"], shown["name"]

    def run(given: str, asked: str, number: float, called: str) -> tuple[str, str]:
        try:
            told, shown = edit_piece(given, asked, int(number or 0), called, models, words)
        except Exception as error:
            return failed(error)
        return told, widgets.send(**shown)

    shown_on: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": news}
    opened = {"outputs": [news, payload, text, name], "api_visibility": "private", **shown_on}
    edited = {"inputs": [text, instruction, parts["seed"], name], "outputs": [news, payload], **shown_on}
    parts["file"].upload(take, parts["file"], **opened)
    parts["go"].click(run, api_name=f"edit_{words.language}", **edited)
    instruction.submit(run, api_visibility="private", **edited)
    for piece, button in parts["pieces"].items():

        def example(piece: str = piece) -> tuple[str, str, Any, str]:
            if "\n" not in piece:
                return take(str(ROOT / "examples" / piece))
            called = PIECES[piece][0].lower().replace(" ", "-")
            return widgets.notice(), widgets.send(before=piece, after="", name=called), piece, called

        button.click(example, None, **opened)
    for wish, button in parts["wishes"].items():
        chosen = button.click(lambda wish=wish: wish, None, instruction, api_visibility="private")
        chosen.then(run, api_visibility="private", **edited)
    payload.change(None, payload, None, js="(payload) => window.Intermezzo.edited(payload)")
    on.click(None, text, text, js="(text) => window.Intermezzo.editOn(text)")


__all__ = ["INSTRUCTIONS", "MAX_BARS", "PIECES", "build", "changed_bars", "edit_piece", "open_piece"]
