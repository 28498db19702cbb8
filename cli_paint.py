"""The verb of FractalMidi on the command line; there as soon as its weights are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_EXAMPLES = """[bold]Examples[/bold]

intermezzo paint --num-samples 4 --gif

intermezzo paint --with density=sparse,key=A,mode=minor,tempo=80 --cfg 3

intermezzo paint --from song.mid --bars 16          (goes on after its end)

intermezzo paint --from song.mid --mask 5-8:C4-     (bars 5 to 8 from middle C upwards)"""


def paint(
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="MIDI or MusicXML to go on after, or to mask.")
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(help="What to paint anew: bars 5-8, pitches C4-B5, both 5-8:C4-B5, lists, a PNG (light = anew)."),
    ] = None,
    conditions: Annotated[
        str | None,
        typer.Option("--with", metavar="NAME=VALUE,...", help="Wishes, such as density=dense,key=A,mode=minor."),
    ] = None,
    bars: Annotated[int | None, typer.Option(help="Bars to paint or to add; without it 16 (of 4/4).")] = None,
    num_samples: Annotated[int, typer.Option(help="How many different ones.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for NAME.mid, NAME.png, NAME.gif.")] = Path("out"),
    gif: Annotated[bool, typer.Option(help="Show how it grew, level by level.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed paints the same.")] = 0,
    steps: Annotated[str, typer.Option(help="Steps of each level; more are slower and finer.")] = "8,4,2,1",
    temperature: Annotated[float, typer.Option(help="Above 0; lower is safer, higher is wilder.")] = 1.0,
    cfg: Annotated[
        float | None, typer.Option(help="How closely wishes are followed; 1 is as learnt, without it 2.")
    ] = None,
    sparsity_bias: Annotated[float, typer.Option(help="Above 0 for fewer notes, below for more.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Leave out what is unlikely: part of the mass to keep.")] = 1.0,
    model: Annotated[
        str | None, typer.Option(help="Model folder or Hub name; without it the one that comes along.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")] = "auto",
) -> None:
    """Paint piano rolls into MIDI and pictures: from nothing, on after a piece, or into a part of one."""
    from .painting import paint as run
    from .painting import whole_numbers

    results = run(
        source, mask, conditions=conditions, bars=bars, num_samples=num_samples, out=out, gif=gif, seed=seed,
        num_iter_list=whole_numbers(steps), temperature=temperature, cfg_scale=cfg, sparsity_bias=sparsity_bias,
        top_p=top_p, model=model, device=device, progress=True,
    )  # fmt: skip
    for result in results:
        typer.echo("  ".join(map(str, result.files)))


def add_paint_verb(app: typer.Typer) -> None:
    """Registers `paint`."""
    app.command(epilog=_EXAMPLES)(paint)


__all__ = ["add_paint_verb"]
