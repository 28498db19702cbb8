"""`intermezzo serve`: the verbs over HTTP, for one machine and many clients.

    POST /read      a picture or PDF        ─▶ alphaTex, and files
    POST /compare   two pictures            ─▶ how alike they are in style
    POST /paint     wishes, a piece, a mask ─▶ MIDI, pictures
    POST /compose   words, or a picture     ─▶ MIDI, pictures, what of the words they keep
    GET  /health, /metrics (Prometheus), /openapi.json, / (forms for people)

An endpoint is there when the checkpoint of its model is. Whatever is refused is refused in one line, as
`{"error": "..."}`: 408 and 413 for what is sent too slowly or is too large, 422 for what can not be read, 429 when too
many wait, 503 while the server ends, 504 when an answer takes too long.
"""

from __future__ import annotations

import logging
import math
import signal
import socket
import warnings
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from .processing.errors import InputError
from .serving_answers import CompareAnswer, ComposeAnswer, PaintAnswer, Problem, ReadAnswer
from .serving_limits import Gate, Limits, Refused
from .serving_memory import memory_given_back, use_few_arenas
from .serving_office import Metrics, Office
from .serving_page import PAGE
from .serving_queue import Dropped
from .serving_works import WORKS, find_checkpoints

_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        408: "The upload took too long.",
        413: "The upload has too many bytes or pixels.",
        422: "The upload, or a setting, can not be used.",
        429: "Too many requests wait; `Retry-After` says when to try again.",
        503: "The server is about to end.",
        504: "The answer took too long.",
    }.items()
}


def create_app(works: Mapping[str, Any], limits: Limits | None = None, threads: int = 8) -> FastAPI:
    """The server as an ASGI application.

    Args:
        works: Loaded verbs by the stem of their model (`load_works`).
        limits: What is taken.
        threads: Requests that are worked on at the same time.
    """
    from . import __version__

    limits = limits or Limits()
    office, metrics = Office(works, limits, threads), getattr(works, "metrics", None) or Metrics()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        with memory_given_back():
            yield
        office.stopping = True
        await run_in_threadpool(office.close)

    app = FastAPI(
        title="intermezzo serve",
        version=__version__,
        description=(__doc__ or "").split("\n\n")[0],
        lifespan=life,
        docs_url=None,  # the usual pages load their parts from afar; ours is `/`
        redoc_url=None,
    )
    paths = tuple(work.path for work in works.values())
    gates: list[Gate] = []

    def gate(inner: Any) -> Gate:
        gates.append(Gate(inner, limits, paths, metrics.note))
        for path in paths:
            metrics.inside.labels(path).set_function(lambda path=path: gates[-1].inside[path])  # type: ignore[misc]
        return gates[-1]

    app.add_middleware(gate)  # type: ignore[arg-type] # anything that takes an application and gives one
    app.state.office, app.state.metrics = office, metrics
    _add_errors(app)
    _add_pages(app, office, metrics)
    adds = {"/read": _add_read, "/compare": _add_compare, "/paint": _add_paint, "/compose": _add_compose}
    for work in works.values():
        adds[work.path](app, office, work)
    return app


def _add_errors(app: FastAPI) -> None:
    """Whatever goes wrong is one line."""

    async def refused(request: Request, error: Any) -> Response:
        return error.response()

    async def wrong_input(request: Request, error: Any) -> Response:
        return JSONResponse({"error": error.message}, 422)

    async def invalid(request: Request, error: Any) -> Response:
        lines = [f"{item['loc'][-1] if item['loc'] else 'request'}: {item['msg']}" for item in error.errors()]
        return JSONResponse({"error": "; ".join(lines)}, 422)

    async def http(request: Request, error: Any) -> Response:
        close = {"Connection": "close"} if error.status_code in (408, 413) else {}
        headers = {**(error.headers or {}), **close}
        return JSONResponse({"error": str(error.detail)}, error.status_code, headers=headers)

    async def dropped(request: Request, error: Any) -> Response:
        return Refused(503, "the server is about to end; try again in a moment", 5).response()

    async def broken(request: Request, error: Exception) -> Response:  # Starlette logs where it happened
        return JSONResponse({"error": f"something went wrong inside ({type(error).__name__})"}, 500)

    handlers: dict[Any, Any] = {
        Refused: refused, InputError: wrong_input, RequestValidationError: invalid, HTTPException: http,
        Dropped: dropped, Exception: broken,
    }  # fmt: skip
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def _add_pages(app: FastAPI, office: Office, metrics: Metrics) -> None:
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return PAGE

    @app.get("/health", summary="Whether requests are taken")
    async def health() -> JSONResponse:
        state = "stopping" if office.stopping else "ok"
        found = {"status": state, "version": app.version, "models": sorted(office.works)}
        return JSONResponse(found, 503 if office.stopping else 200)

    @app.get("/metrics", summary="Figures for Prometheus", response_class=Response)
    async def figures() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_read(app: FastAPI, office: Office, work: Any) -> None:
    @app.post("/read", response_model=ReadAnswer, responses=_REFUSALS, summary="Read tablature from a picture or PDF")
    async def read(
        request: Request,
        picture: Annotated[UploadFile, File(description="PNG, JPEG, TIFF, WebP, BMP, GIF or PDF.")],
        formats: Annotated[
            str, Form(description="Files wanted beside the text, by commas: alphatex, mid, gp, musicxml, png.")
        ] = "",
    ) -> Any:
        from .reading_outputs import check_formats

        names = tuple(name for name in formats.lower().replace(" ", "").split(",") if name)
        return await office.do(request, work, [picture], formats=check_formats(names))


def _add_compare(app: FastAPI, office: Office, work: Any) -> None:
    @app.post("/compare", response_model=CompareAnswer, responses=_REFUSALS, summary="Compare two pictures by style")
    async def compare(
        request: Request,
        first: Annotated[UploadFile, File(description="A picture.")],
        second: Annotated[UploadFile, File(description="Another picture.")],
    ) -> Any:
        return await office.do(request, work, [first, second])


def _add_paint(app: FastAPI, office: Office, work: Any) -> None:
    @app.post("/paint", response_model=PaintAnswer, responses=_REFUSALS, summary="Paint piano rolls into MIDI")
    async def paint(
        request: Request,
        source: Annotated[UploadFile | None, File(description="MIDI to go on after, or to mask.")] = None,
        mask: Annotated[str | None, Form(description="What to paint anew, such as 5-8:C4-B5.")] = None,
        conditions: Annotated[str | None, Form(description="Wishes: density=dense,key=A,mode=minor.")] = None,
        bars: Annotated[int | None, Form(description="Bars to paint or to add.")] = None,
        num_samples: Annotated[int, Form(description="How many different ones.")] = 1,
        seed: Annotated[int, Form(ge=0, lt=2**31, description="The same seed paints the same.")] = 0,
        steps: Annotated[str | None, Form(description="Steps of each level, such as 8,4,2,1.", max_length=40)] = None,
        temperature: Annotated[float, Form(gt=0, le=10)] = 1.0,
        cfg: Annotated[float | None, Form(ge=0, le=20, description="How closely wishes are followed; else 2.")] = None,
        sparsity_bias: Annotated[float, Form(ge=-20, le=20)] = 0.0,
        top_p: Annotated[float, Form(gt=0, le=1)] = 1.0,
        gif: Annotated[bool, Form(description="Also a GIF of how it grew.")] = False,
    ) -> Any:
        return await office.do(
            request, work, [source], mask=mask, conditions=conditions, bars=bars, num_samples=num_samples, seed=seed,
            steps=steps, temperature=temperature, cfg=cfg, sparsity_bias=sparsity_bias, top_p=top_p, gif=gif,
        )  # fmt: skip


def _add_compose(app: FastAPI, office: Office, work: Any) -> None:
    @app.post("/compose", response_model=ComposeAnswer, responses=_REFUSALS, summary="Compose music to words")
    async def compose(
        request: Request,
        words: Annotated[str | None, Form(description="What the music is like.", max_length=2000)] = None,
        picture: Annotated[UploadFile | None, File(description="A picture, in place of words.")] = None,
        bars: Annotated[int | None, Form(description="Bars; without it what the words say, or 16.")] = None,
        num_samples: Annotated[int, Form(description="How many different songs.")] = 1,
        seed: Annotated[int, Form(ge=0, lt=2**31, description="The same seed composes the same.")] = 0,
        cfg: Annotated[float | None, Form(ge=0, le=20, description="How closely the words are followed.")] = None,
        steps: Annotated[int | None, Form(ge=1, le=100, description="Steps from words to plan.")] = None,
        temperature: Annotated[float, Form(ge=0, le=10)] = 1.0,
        top_p: Annotated[float, Form(gt=0, le=1)] = 1.0,
        tempo: Annotated[float | None, Form(gt=0, le=1000, description="Quarter notes a minute.")] = None,
        metre: Annotated[str | None, Form(description="Such as 3/4.", max_length=20)] = None,
        key: Annotated[str | None, Form(description="Such as A or Bb minor.", max_length=20)] = None,
        program: Annotated[str | None, Form(description="Instruments, by commas.", max_length=400)] = None,
        bar_parallel: Annotated[bool, Form(description="Write all bars at once.")] = False,
    ) -> Any:
        return await office.do(
            request, work, [picture], words=words, bars=bars, num_samples=num_samples, seed=seed, cfg=cfg, steps=steps,
            temperature=temperature, top_p=top_p, tempo=tempo, metre=metre, key=key, program=program,
            bar_parallel=bar_parallel,
        )  # fmt: skip


class Works(dict[str, Any]):
    """Loaded verbs by stem, with the figures that they write."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self.metrics = metrics


def load_works(
    checkpoints: Mapping[str, str], limits: Limits, device: str = "auto", views: int | None = None, batch: int = 8
) -> Works:
    """Loads the models.

    Args:
        checkpoints: Folder or Hub name by stem (`find_checkpoints`).
        limits: What is taken; the verbs check pictures against it.
        device: `"auto"`, `"cpu"`, `"cuda"`, ...
        views: Looks at each system, see `reading.read`.
        batch: Waiting requests that share one call of a model.

    Raises:
        InputError: A checkpoint does not load.
    """
    works = Works(Metrics())
    for stem in [name for name in WORKS if name in checkpoints]:
        works[stem] = WORKS[stem](checkpoints, device, views, batch, limits.max_pixels, works.metrics.on_batch(stem))
    return works


def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    limits: Limits | None = None,
    models: Sequence[str] = (),
    device: str = "auto",
    views: int | None = None,
    batch: int = 8,
    say: Callable[[str], None] = print,
) -> None:
    """Serves until SIGTERM or Ctrl-C, then finishes what is being done.

    Args:
        host, port: Where to listen; port 0 takes a free one.
        limits: What is taken.
        models: `STEM` or `STEM=FOLDER` each; all that come along when empty.
        device, views, batch: As `load_works`.
        say: Told in one line where the server is, once it listens.

    Raises:
        InputError: The address is taken, or a model does not load.
    """
    import uvicorn
    from PIL import Image

    limits = limits or Limits()
    if batch < 1:
        raise InputError(None, f"batch is {batch}; it must be at least 1")
    use_few_arenas()
    with _listen(host, port) as listening:
        works = load_works(find_checkpoints(models), limits, device, views, batch)
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of what is wrong in an upload
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # the same: its sender is told, the log is not
        Image.MAX_IMAGE_PIXELS = None  # `check_picture` has its own limit; Pillow's would only warn
        config = uvicorn.Config(
            create_app(works, limits, threads=batch), log_level="warning", access_log=False,
            timeout_graceful_shutdown=math.ceil(limits.timeout),
        )  # fmt: skip
        address = f"http://{host}:{listening.getsockname()[1]}"
        say(f"serving {', '.join(work.path for work in works.values())} at {address} (Ctrl-C ends it)")
        before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            # uvicorn raises the signal that ended it once more at the end: a graceful stop is no failure.
            uvicorn.Server(config).run(sockets=[listening])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
        return listening
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(None, f"can not listen at {host}:{port} ({why}); choose another --host or --port") from error


__all__ = ["Limits", "Office", "create_app", "find_checkpoints", "load_works", "serve"]
