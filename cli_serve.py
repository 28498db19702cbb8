"""The verb that serves the others over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from .processing.errors import InputError

_EXAMPLES = """[bold]Examples[/bold]

intermezzo serve

intermezzo serve --host 0.0.0.0 --port 80 --queue 256 --timeout 60

intermezzo serve --models score_vlm=runs/reader/final --views 1

curl -F picture=@song.png http://127.0.0.1:8000/read"""


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
    max_pixels: Annotated[int, typer.Option(help="Pixels of an upload, all its pages together.")] = 60_000_000,
    max_megabytes: Annotated[float, typer.Option(help="Megabytes of a request.")] = 20.0,
    queue: Annotated[int, typer.Option(help="Requests of one kind that may wait; more are sent away (429).")] = 64,
    timeout: Annotated[float, typer.Option(help="Seconds to an answer; then 504.")] = 120.0,
    models: Annotated[
        str, typer.Option(metavar="STEM[=FOLDER],...", help="What to serve; without it all that comes along.")
    ] = "",
    batch: Annotated[int, typer.Option(help="Waiting requests that share one call of a model.")] = 8,
    views: Annotated[
        int | None, typer.Option(help="Looks at each system whose readings vote, 1 to 6; 1 is fastest, 6 reads best.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")] = "auto",
) -> None:
    """Serve the other verbs over HTTP: forms at /, the description at /openapi.json, /health and /metrics.

    SIGTERM and Ctrl-C let it finish what it is doing.
    """
    try:
        from .serving import Limits
        from .serving import serve as run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in {"fastapi", "uvicorn", "starlette", "pydantic", "prometheus_client"}:
            raise
        raise InputError(None, f"serving needs {error.name}; pip install 'intermezzo[serve]'") from error
    run(
        host, port,
        limits=Limits(max_pixels=max_pixels, max_megabytes=max_megabytes, queue=queue, timeout=timeout),
        models=tuple(part.strip() for part in models.split(",") if part.strip()),
        device=device, views=views, batch=batch, say=typer.echo,
    )  # fmt: skip


def add_serve_verb(app: typer.Typer) -> None:
    """Registers `serve`."""
    app.command(epilog=_EXAMPLES)(serve)


__all__ = ["add_serve_verb"]
