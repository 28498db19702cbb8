"""The verb of NativeVLM on the command line; there as soon as its weights are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .processing.native_settings import GUIDANCE, TRIES

_EXAMPLES = """[bold]Examples[/bold]

intermezzo draw song.alphatex                (out/song.png)

intermezzo draw song.alphatex --guidance 2 --seed 1

intermezzo draw --read system.png            (prints alphaTex)"""


def draw(
    inputs: Annotated[list[Path], typer.Argument(metavar="FILE", help="alphaTex files; with --read, pictures.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for NAME.png or NAME.alphatex; texts are printed without it.")
    ] = None,
    read: Annotated[bool, typer.Option("--read", help="Read pictures of one system each, by the same model.")] = False,
    guidance: Annotated[float, typer.Option(help="How closely the text is followed; 1 is as learnt.")] = GUIDANCE,
    tries: Annotated[
        int, typer.Option(help="Drawings of each system at most; the one that the model reads best is kept.")
    ] = TRIES,
    seed: Annotated[int | None, typer.Option(help="Draw with chance; without it always the likeliest.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Model folder or Hub name; without it the one that comes along.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")] = "auto",
) -> None:
    """Draw tablature from alphaTex, code by code, or read it: one model does both."""
    from .drawing import draw as run

    if out is None and not read:
        out = Path("out")
    results = run(
        inputs, out=out, read=read, guidance=guidance, tries=tries, seed=seed, model=model, device=device,
        progress=True,
    )  # fmt: skip
    for result in results:
        if result.error:
            print(result.error, file=sys.stderr)
        else:
            typer.echo(result.text if result.file is None else result.file)
            if result.note:
                print(result.note, file=sys.stderr)
    if any(result.error for result in results):
        raise typer.Exit(1)


def add_draw_verb(app: typer.Typer) -> None:
    """Registers `draw`."""
    app.command(epilog=_EXAMPLES)(draw)


__all__ = ["add_draw_verb"]
