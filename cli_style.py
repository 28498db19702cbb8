"""The verbs of StyleEncoder on the command line; there as soon as its weights are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .processing.errors import InputError

_EXAMPLE = "[bold]Examples[/bold]\n\n"
_Model = Annotated[str | None, typer.Option(help="Model folder or Hub name; without it the one that comes along.")]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")]


def compare(
    pictures: Annotated[
        list[Path] | None, typer.Argument(metavar="A B", help="Two pictures.", show_default=False)
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="All pictures of this folder, in place of two.")] = None,
    out: Annotated[Path, typer.Option(help="With --folder: where matrix, neighbours and clusters go.")] = Path(
        "out/compare"
    ),
    threshold: Annotated[
        float | None, typer.Option(help="With --folder: least similarity within a cluster, -1 to 1.")
    ] = None,
    model: _Model = None,
    device: _Device = "auto",
) -> None:
    """Compare pictures by style: two of them, or all of a folder.

    Says how alike they are (-1 to 1), whatever they show, and how that stands among known pairs of one style and of
    two. With --folder: a matrix as PNG and CSV, the nearest neighbours, and clusters.
    """
    from .comparing import compare as run
    from .comparing import compare_folder

    given = pictures or []
    if (folder is None) == (not given) or len(given) not in (0, 2):
        raise InputError(None, f"give two pictures, or --folder FOLDER; got {len(given)} pictures")
    if folder is None:
        typer.echo(run(given[0], given[1], model=model, device=device))
        return
    report = compare_folder(folder, out=out, threshold=threshold, model=model, device=device, progress=True)
    for number in sorted(set(report.clusters)):
        own = [name for name, cluster in zip(report.names, report.clusters, strict=True) if cluster == number]
        typer.echo(f"cluster {number} ({len(own)}): {', '.join(own[:8])}{', …' if len(own) > 8 else ''}")
    typer.echo("written: " + ", ".join(map(str, report.files)))
    for error in report.failures:
        typer.echo(str(error), err=True)
    if report.failures:
        raise typer.Exit(1)


def inspect(
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE", help="Pictures.")],
    captions: Annotated[
        Path | None, typer.Option(help="Text file to choose the nearest captions from, one a line.")
    ] = None,
    count: Annotated[int, typer.Option(min=0, help="Captions to name.")] = 8,
    out: Annotated[Path, typer.Option(help="Folder for NAME_attention.png.")] = Path("out/inspect"),
    model: _Model = None,
    device: _Device = "auto",
) -> None:
    """Inspect what StyleEncoder makes of a picture.

    Shape, range and norm of its outputs, where it looked, and the nearest captions.
    """
    from .comparing import load_looker
    from .inspecting import inspect_picture as run
    from .reading_outputs import unique_name

    looker = load_looker(model, device)
    failed, taken = False, set[str]()
    for picture in pictures:
        taken.add(stem := unique_name(picture.stem, taken))
        try:
            report = run(picture, captions=captions, count=count, out=out, stem=stem, model=looker)
        except InputError as error:
            failed = True
            typer.echo(str(error), err=True)
            continue
        typer.echo(report)
        typer.echo("written: " + ", ".join(map(str, report.files)))
    if failed:
        raise typer.Exit(1)


def add_style_verbs(app: typer.Typer) -> None:
    """Registers `compare` and `inspect`."""
    examples = "intermezzo compare a.png b.png\n\nintermezzo compare --folder pictures --out out"
    app.command(epilog=_EXAMPLE + examples)(compare)
    app.command(epilog=_EXAMPLE + "intermezzo inspect bell.png\n\nintermezzo inspect *.png --captions words.txt")(
        inspect
    )


__all__ = ["add_style_verbs"]
