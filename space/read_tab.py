"""The tab Read: a picture, page or PDF becomes music."""

from __future__ import annotations

import base64
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from . import widgets
from .limits import MAX_MEGABYTES, MAX_PAGES, MAX_SECONDS, check_file
from .models import ROOT, Models
from .words import Words

EXAMPLES = {  # file in `examples/`: (English, Chinese)
    "malaguena.png": ("Malagueña", "马拉加舞曲"),
    "ode_to_joy_score_tab.png": ("Ode to Joy", "欢乐颂"),
    "blues_lick.png": ("Blues lick", "布鲁斯乐句"),
    "power_chords.png": ("Power chords", "强力和弦"),
    "bass.png": ("Bass in 7/8", "7/8 贝斯"),
    "greensleeves_page.pdf": ("Greensleeves (page)", "绿袖子（整页）"),
}
_SHOWN_WIDTH_PX = 1400
# The camera that looks away from the person, at its finest: a page has small digits.
CAMERA = {"video": {"facingMode": {"ideal": "environment"}, "width": {"ideal": 3840}, "height": {"ideal": 2160}}}


def read_file(path: str | Path, models: Models, words: Words) -> Iterator[tuple[str, dict[str, Any]]]:
    """Reads the pages of a file, one after the other, by `intermezzo.read`.

    Yields:
        A notice (HTML) and what the page shows so far, for `Intermezzo.read` in `assets/read.js`.
    """
    from ..processing.picture_files import load_pictures

    pages: list[dict[str, Any]] = []
    started = time.monotonic()
    notes: list[str] = []
    try:
        file = check_file(path, words)
        yield widgets.notice(words["finding"], "busy"), {"pages": []}
        for picture in load_pictures(file):
            if picture.page >= MAX_PAGES:
                notes.append(words.say("only_pages", pages=MAX_PAGES))
                break
            if time.monotonic() - started > MAX_SECONDS:
                notes.append(words.say("time_up", seconds=MAX_SECONDS))
                break
            for page in _read_page(picture.image, f"{file.stem}-{picture.page + 1}", models, words):
                shown = {"pages": [*pages, page]}
                count = len(page["systems"])
                if not page["text"] and not page["problem"]:
                    busy = words.say("reading", page=picture.page + 1, systems=words.count("n_systems", count))
                    yield widgets.notice(busy, "busy"), shown
            pages.append(page)
    except Exception as error:  # a person is never shown a traceback
        _log(error)
        notes.append(words.problem(error))
    yield widgets.notice(_summary(pages, notes, words), "problem" if not pages else "quiet"), {"pages": pages}


def _read_page(image: Any, name: str, models: Models, words: Words) -> Iterator[dict[str, Any]]:
    """First the boxes of a page, then its text."""
    import numpy as np

    from ..processing.page_systems import cut_off_at, read_page
    from ..reading import read

    found = read_page(np.asarray(image))
    upright = _without_empty_end(found.image, [region.box for region in found.systems])
    page: dict[str, Any] = {"name": name, "text": "", "problem": "", "seconds": 0.0, "picture": _data_url(upright)}
    page["systems"] = [_system(region.box, upright.shape) for region in found.systems]
    page["cutOff"] = any(cut_off_at(found, region) for region in found.systems)
    yield page
    with models.busy, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.png"
        image.save(file)
        (result,) = read([file], reader=models.reader())
    page = {**page, "text": result.text}
    if result.error:
        message = result.error.removeprefix(f"{file}: ")
        page |= {"problem": words.problem(InputError(None, message))}
    first = 0
    for system, read_one in zip(page["systems"], result.systems, strict=False):
        system |= {"firstBar": first, "bars": read_one.bars, "notes": read_one.notes, "doubtful": read_one.unsure_bars}
        system["words"] = f"{words.count('n_bars', read_one.bars)}, {words.count('n_notes', read_one.notes)}"
        page["seconds"] += read_one.seconds
        first += read_one.bars
    yield page


def _system(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> dict[str, Any]:
    """A system not read yet; its box in per cent of the page."""
    height, width = shape[:2]
    left, top, right, bottom = box
    places = [100 * left / width, 100 * top / height, 100 * right / width, 100 * bottom / height]
    return {"box": [round(place, 3) for place in places], "firstBar": 0, "bars": 0, "notes": 0, "doubtful": [],
            "words": ""}  # fmt: skip


def _without_empty_end(image: Any, boxes: list[tuple[int, int, int, int]]) -> Any:
    """A page that ends early would push what matters out of sight on a phone."""
    if not boxes:
        return image
    height = image.shape[0]
    end = max(bottom for *_, bottom in boxes) + height // 25
    inked = (image[end:] < 160).any()
    return image if inked or end > 0.9 * height else image[:end]


def _data_url(image: Any) -> str:
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((_SHOWN_WIDTH_PX, 4 * _SHOWN_WIDTH_PX))
    stream = io.BytesIO()
    picture.save(stream, format="WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def _summary(pages: list[dict[str, Any]], notes: list[str], words: Words) -> str:
    systems = [system for page in pages for system in page["systems"]]
    told = []
    if any(page["text"] for page in pages):
        told.append(words.count("n_systems", len(systems)))
        told += [words.count(f"n_{name}", sum(system[name] for system in systems)) for name in ("bars", "notes")]
        told.append(words.count("n_seconds", round(sum(page["seconds"] for page in pages), 1)))
        for number, page in enumerate(pages, start=1):
            doubtful = [system["firstBar"] + bar for system in page["systems"] for bar in system["doubtful"]]
            if doubtful:
                where = f"{words['page']} {number}: " if len(pages) > 1 else ""
                told.append(where + words.say("unsure", bars=", ".join(map(str, doubtful))))
            told += [words["cut_off"]] if page["cutOff"] else []
        if not any(system["doubtful"] for system in systems):
            told.append(words["sure"])
    return " · ".join([*told, *notes])


def _log(error: Exception) -> None:
    """What is our fault belongs into the server's log."""
    import logging

    if not isinstance(error, InputError):
        logging.getLogger(__name__).exception("while reading")


def build(models: Models, words: Words) -> None:
    """Puts the tab's parts into the Gradio page under construction."""
    import gradio as gr

    gr.HTML(widgets.heading(words, "read"))
    with gr.Row(elem_classes="im-columns"):
        with gr.Column(scale=5, min_width=300):
            file = gr.File(
                label=words["drop"], file_types=["image", ".pdf"], elem_id="im-read-file", height=150, type="filepath"
            )
            hint = words.say("drop_hint", mb=MAX_MEGABYTES, pages=MAX_PAGES)
            gr.HTML(f'<p class="im-note">{hint}</p>')
            camera = gr.Button(words["camera"], size="sm", elem_classes="im-soft im-desktop", elem_id="im-read-camera")
            photo = gr.Image(
                sources=["webcam"], type="filepath", visible=False, label=words["camera"], elem_id="im-read-photo",
                webcam_options=gr.WebcamOptions(mirror=False, constraints=CAMERA),  # no one reads music in a mirror
            )  # fmt: skip
            gr.HTML(f'<p class="im-label">{words["examples"]}</p>')
            with gr.Row(elem_classes="im-pills"):
                examples = [
                    gr.Button(names[words.language == "zh"], size="sm", elem_classes="im-soft")
                    for name, names in EXAMPLES.items()
                    if (ROOT / "examples" / name).is_file()
                ]
            news = gr.HTML(widgets.notice(), elem_id="im-read-news")
            gr.HTML(widgets.pages(words))
        with gr.Column(scale=7, min_width=300):
            gr.HTML(widgets.sheet(words, "im-read-sheet"))
    payload = gr.Textbox(visible="hidden", elem_id="im-read-payload")

    def run(path: str | None) -> Iterator[tuple[str, str]]:
        if not path:
            yield widgets.notice(), widgets.send(pages=[])
            return
        for told, shown in read_file(path, models, words):
            yield told, widgets.send(**shown)

    def example(name: str) -> Iterator[tuple[str, str]]:
        path = ROOT / "examples" / name
        yield from run(str(path))

    options = {"outputs": [news, payload], "show_progress": "minimal", "show_progress_on": news}
    file.upload(run, file, api_name=f"read_{words.language}", **options)
    file.clear(lambda: (widgets.notice(), widgets.send(pages=[])), None, [news, payload], api_visibility="private")
    photo.change(run, photo, api_visibility="private", **options)
    shown = gr.State(False)

    def open_camera(is_open: bool) -> tuple[Any, Any, bool]:
        label = words["camera"] if is_open else words["camera_close"]
        return gr.update(visible=not is_open), gr.update(value=label), not is_open

    camera.click(open_camera, shown, [photo, camera, shown], api_visibility="private")
    names = [name for name in EXAMPLES if (ROOT / "examples" / name).is_file()]
    for button, name in zip(examples, names, strict=True):

        def run_example(name: str = name) -> Iterator[tuple[str, str]]:
            yield from example(name)

        button.click(run_example, None, api_visibility="private", **options)
    payload.change(None, payload, None, js="(payload) => window.Intermezzo.read(payload)")


__all__ = ["EXAMPLES", "build", "read_file"]
