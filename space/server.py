"""The web server around the page: both languages, the page's own files, downloads in other formats."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from ..datasets_scripts.render.runtime import ensure_installed
from ..processing.errors import InputError
from .limits import MAX_MEGABYTES, MAX_TEXT, QUEUE, check_text
from .models import ROOT, Models
from .page import build_page, make_theme, tabs_of
from .words import LANGUAGES, Refused, Words

ASSETS = Path(__file__).resolve().parent / "assets"
SCRIPTS = ("score.js", "read.js", "edit.js", "synth.js", "roll.js", "tabs.js")
MEDIA = {"alphatex": "text/plain", "gp": "application/octet-stream", "mid": "audio/midi",
         "musicxml": "application/vnd.recordare.musicxml+xml"}  # fmt: skip
# Whatever a library of the page may try: the browser asks nobody but this server.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; worker-src 'self' blob:"
)


def _preferred(header: str) -> str:
    """The language of ours that a browser asks for first."""
    for part in header.lower().split(","):
        for language in LANGUAGES:
            if part.strip().startswith(language):
                return language
    return LANGUAGES[0]


def convert_text(text: str, kind: str, words: Words) -> bytes:
    """AlphaTex in another format, by `intermezzo.convert`.

    Raises:
        InputError: The text can not be read, or there is no such format.
    """
    from ..datasets_scripts.render.verbs import convert

    if kind not in MEDIA:
        raise InputError(None, f"there is no format {kind!r}; choose {', '.join(MEDIA)}")
    check_text(text, words)
    if not text.strip():
        raise Refused(None, words["broken"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "music.alphatex"
        file.write_text(text, encoding="utf-8")
        return convert(file, Path(folder) / f"converted.{kind}").read_bytes()


def _head(language: str) -> str:
    """What comes first in the page: Gradio's own words in its language, whatever the browser's, then own scripts."""
    tongue = {"en": "en", "zh": "zh-CN"}[language]
    first = (
        f"<script>document.documentElement.lang='{tongue}';"
        f"Object.defineProperty(navigator,'language',{{get:()=>'{tongue}'}});"
        f"Object.defineProperty(navigator,'languages',{{get:()=>['{tongue}']}});</script>"
    )
    first += '<link rel="stylesheet" href="/assets/own/layout.css">'
    return first + "".join(f'<script src="/assets/own/{name}"></script>' for name in SCRIPTS)


async def _with_head(answer: Any, language: str) -> Any:
    """The page with our head first: what Gradio is given as head comes after it has chosen a language."""
    body = b"".join([part async for part in answer.body_iterator]).decode("utf-8")
    kept = {name: value for name, value in answer.headers.items() if name not in ("content-length", "content-type")}
    return HTMLResponse(body.replace("<head>", "<head>" + _head(language), 1), answer.status_code, kept)


def _add_routes(app: FastAPI) -> None:
    """All that is not Gradio's: head and policy of the page, the way to a language, downloads."""

    @app.middleware("http")
    async def at_home(request: Request, go_on: Any) -> Any:
        answer = await go_on(request)
        language = request.url.path.strip("/")
        if language in LANGUAGES and answer.headers.get("content-type", "").startswith("text/html"):
            answer = await _with_head(answer, language)
        answer.headers["Content-Security-Policy"] = POLICY
        return answer

    @app.get("/")
    async def choose_language(request: Request) -> Any:
        return RedirectResponse(f"./{_preferred(request.headers.get('accept-language', ''))}/")

    @app.get("/favicon.ico")
    async def icon() -> Any:
        return FileResponse(ASSETS / "icon.svg", media_type="image/svg+xml")

    @app.get("/manifest.json")
    async def manifest() -> Any:
        icon = {"src": "/favicon.ico", "sizes": "any", "type": "image/svg+xml"}
        return {"name": "Intermezzo", "start_url": "/", "display": "standalone", "icons": [icon]}

    @app.post("/convert/{kind}")
    async def convert_route(kind: str, request: Request) -> Any:
        words = Words(_preferred(request.headers.get("accept-language", "")))
        try:
            body = bytearray()
            async for part in request.stream():
                body += part
                if len(body) > 4 * MAX_TEXT:
                    raise Refused(None, words.say("too_long", most=f"{MAX_TEXT:,}"))
            content = await run_in_threadpool(convert_text, body.decode("utf-8"), kind, words)
        except (InputError, UnicodeDecodeError) as error:
            return JSONResponse({"problem": words.problem(error)}, status_code=422)
        return Response(content, media_type=MEDIA[kind])


def make_server(models: Models) -> FastAPI:
    """The whole Space as a FastAPI application.

    Raises:
        InputError: No trained model is there, or alphaTab can not be installed.
    """
    if not tabs_of(models):
        raise InputError(models.folder, "holds no trained model, so there is nothing to show")
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/assets/alphatab", StaticFiles(directory=ensure_installed() / "@coderline" / "alphatab" / "dist"))
    app.mount("/assets/own", StaticFiles(directory=ASSETS))
    _add_routes(app)
    for language in LANGUAGES:
        page = build_page(models, Words(language))
        page.queue(default_concurrency_limit=1, max_size=QUEUE)
        gr.mount_gradio_app(
            app,
            page,
            path=f"/{language}",
            allowed_paths=[str(ROOT / "examples"), str(ASSETS)],
            max_file_size=MAX_MEGABYTES * 1_000_000,
            theme=make_theme(),
            css_paths=[ASSETS / "space.css"],
            footer_links=[],
            ssr_mode=False,
        )
    return app


__all__ = ["convert_text", "make_server"]
