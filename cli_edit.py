"""The verb of edits on the command line; there as soon as the weights are that understand instructions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .processing.edit_language import MEANINGS

_EXAMPLES = """[bold]Examples[/bold]

intermezzo edit song.png "改为摇滚风格" --out out --format alphatex,mid,png

intermezzo edit song.alphatex "up a whole tone, then make it easier"

intermezzo edit song.gp5 "capo 3; style folk" --out out     (the edit language itself)

[bold]Edits[/bold]

""" + "\n\n".join(f"{name}: {meaning}" for name, meaning in MEANINGS.items())


def edit(
    source: Annotated[Path, typer.Argument(metavar="PICTURE|FILE", help="A picture, alphaTex, Guitar Pro, MusicXML.")],
    instruction: Annotated[str, typer.Argument(help="What to change, in Chinese or English.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for NAME-edited.alphatex and so on; without it the text is printed.")
    ] = None,
    format: Annotated[
        str, typer.Option(help="What to write, by commas: alphatex, mid, gp, musicxml, png (before and after).")
    ] = "alphatex",
    seed: Annotated[int, typer.Option(help="Decides what styles and basses leave to chance.")] = 0,
    model: Annotated[
        str | None, typer.Option(help="Model folder or Hub name; without it the one that comes along.")
    ] = None,
    reader: Annotated[
        str | None, typer.Option(help="Model that reads pictures; without it the one that comes along.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")] = "auto",
) -> None:
    """Change tablature as an instruction says: style, key, capo, tuning, difficulty, metre ...

    A model understands the instruction, a program carries it out. What is not understood or not possible makes one
    line and exit status 1, and nothing is written.
    """
    from .editing import edit as run

    formats = tuple(name for name in format.lower().replace(" ", "").split(",") if name)
    result = run(
        source, instruction, out=out, formats=formats, seed=seed, model=model, reader_model=reader, device=device
    )  # fmt: skip
    typer.echo(f"understood: {result.program}", err=True)
    if result.note:
        typer.echo(result.note, err=True)
    typer.echo(result.text if out is None else "  ".join(map(str, result.files)))


def add_edit_verb(app: typer.Typer) -> None:
    """Registers `edit`."""
    app.command(epilog=_EXAMPLES)(edit)


__all__ = ["add_edit_verb"]
