"""The command line: each verb is one call of a public function; nothing heavy is imported before a verb runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from .cli_serve import add_serve_verb
from .processing.errors import InputError

app = typer.Typer(
    name="intermezzo",
    help="Reads guitar tablature from pictures into alphaTex, and the working verbs around it.",
    epilog="Start with:  intermezzo read examples --out out",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_EXAMPLE = "[bold]Examples[/bold]\n\n"
Ray = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Spread files over workers by Ray: local for this machine, or a cluster's."),
]
RayWorkers = Annotated[int | None, typer.Option(help="With --ray: how many workers; without it all there is room for.")]
PassOn = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _version(show: bool) -> None:
    if show:
        from . import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    pass


def _say(message: object) -> None:
    """One line on standard error, whatever the message holds."""
    typer.echo(" ".join(str(message).split()) or "unknown error", err=True)


def _names(value: str) -> tuple[str, ...]:
    return tuple(name for name in value.lower().replace(" ", "").split(",") if name)


def _leave(errors: Iterable[object]) -> None:
    """Tells each failure in one line; the exit status says whether there was one."""
    failed = [error for error in errors if error]
    for error in failed:
        _say(error)
    if failed:
        raise typer.Exit(1)


@app.command(
    epilog=_EXAMPLE
    + "intermezzo read song.png\n\n"
    + "intermezzo read scans/ book.pdf --out out --format alphatex,mid,gp,png\n\n"
    + "intermezzo read song.png > song.alphatex\n\n"
    + "intermezzo read scans --out out --ray local          (as many at once as there are processors)"
)
def read(
    inputs: Annotated[list[Path], typer.Argument(metavar="PICTURE", help="Pictures, PDFs, or folders of them.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for NAME.alphatex and so on; without it the text is printed.")
    ] = None,
    format: Annotated[
        str,
        typer.Option(help="By commas: alphatex, mid, gp, musicxml, png (original above redrawn), html (to check it)."),
    ] = "alphatex",
    model: Annotated[
        str | None, typer.Option(help="Model folder or Hub name; without it the one that comes along.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")] = "auto",
    constrained: Annotated[
        bool, typer.Option(help="Keep to the grammar: what is written always parses and its bars close.")
    ] = True,
    views: Annotated[
        int | None, typer.Option(help="Looks at each system whose readings vote, 1 to 6; 1 is fastest, 6 reads best.")
    ] = None,
    ray: Ray = None,
    ray_workers: RayWorkers = None,
) -> None:
    """Read tablature in pictures into alphaTex, MIDI, Guitar Pro, MusicXML.

    Pages are cut into systems, and bars that the reader is unsure of are named.
    A file that can not be read makes one line and exit status 1; the others are read.
    """
    more: dict[str, Any] = {}
    if ray is None:
        from .reading import read as run
    else:
        from .ray_verbs import read_with_ray as run  # type: ignore[assignment] # it knows two settings more

        more = {"address": ray, "workers": ray_workers}
    results = run(
        inputs,
        out=out,
        formats=_names(format),
        model=model,
        device=device,
        constrained=constrained,
        views=views,
        progress=True,
        **more,
    )
    if out is None:
        for result in results:
            if not result.error:
                typer.echo(result.text)
    else:
        _print_table(results)
    for result in results:
        if result.note and not result.error:
            typer.echo(result.note, err=True)
    _leave(result.error for result in results)


def _print_table(results: list[Any]) -> None:
    """One row for each system that was read."""
    from rich.console import Console
    from rich.table import Table

    table = Table("system", "bars", "notes", "seconds", "bars close", "unsure of bars", box=None, pad_edge=False)
    for result in results:
        for system in getattr(result, "systems", ()):
            unsure = ", ".join(map(str, system.unsure_bars)) or "-"
            closes = "yes" if system.bars_close else "no"
            table.add_row(system.name, str(system.bars), str(system.notes), f"{system.seconds:.2f}", closes, unsure)
    if table.row_count:
        Console(width=None if sys.stdout.isatty() else 120).print(table)


@app.command(
    epilog=_EXAMPLE + "intermezzo render song.alphatex --out out\n\n"
    "intermezzo render song.gp --staves score+tabs --layout page --scale 1.5"
)
def render(
    inputs: Annotated[list[Path], typer.Argument(metavar="FILE", help="alphaTex, Guitar Pro or MusicXML files.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.png.")] = Path("out"),
    staves: Annotated[str, typer.Option(help="tabs, score+tabs or score.")] = "tabs",
    layout: Annotated[str, typer.Option(help="page, horizontal or system (all bars in one line, cropped).")] = "page",
    scale: Annotated[float, typer.Option(help="Size; 1 puts tab lines about 10 px apart.")] = 1.0,
    width: Annotated[int | None, typer.Option(help="Width of the page in px.")] = None,
    ray: Ray = None,
    ray_workers: RayWorkers = None,
) -> None:
    """Engrave notation into PNG pictures by alphaTab."""
    options = {"staves": staves, "layout": layout, "scale": scale, "width": width}
    if ray is not None:
        from .ray_verbs import render_with_ray

        _leave(_errors(render_with_ray(inputs, out, address=ray, workers=ray_workers, progress=True, **options)))
        return
    from .datasets_scripts.render import render as run

    _leave(_errors(run(inputs, out, **options)))  # type: ignore[arg-type] # a mapping of several kinds


@app.command(
    epilog=_EXAMPLE + "intermezzo convert song.gp5 --to alphatex\n\nintermezzo convert *.alphatex --to mid,gp --out out"
)
def convert(
    inputs: Annotated[list[Path], typer.Argument(metavar="FILE", help="alphaTex, Guitar Pro or MusicXML files.")],
    to: Annotated[
        str, typer.Option(help="Formats by commas: alphatex, gp, musicxml, mid. Left out, the last file is the result.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("out"),
) -> None:
    """Convert between alphaTex, Guitar Pro, MusicXML and MIDI."""
    from .datasets_scripts.render import convert as run

    _leave(_errors(run(inputs, out, formats=_names(to))))  # type: ignore[arg-type] # several give a list


def _errors(results: Iterable[Any] | None) -> list[object]:
    return [getattr(result, "error", None) for result in results or ()]


@app.command(
    context_settings=PassOn,
    epilog=_EXAMPLE + "intermezzo train score_vlm --stage tower --output_dir runs/tower --max_steps 1000\n\n"
    "intermezzo train score_vlm --help      (all settings of that model)\n\n"
    "accelerate launch train score_vlm --stage lm     (the same, over several processes)",
)
def train(context: typer.Context) -> None:
    """Train a model: train STEM [SETTINGS]."""
    arguments = list(context.args)
    if not arguments or arguments[0] in {"-h", "--help"}:
        typer.echo(context.get_help())
        return
    from .train.__main__ import main as run

    raise typer.Exit(run(arguments) or 0)


@app.command(
    context_settings=PassOn,
    epilog=_EXAMPLE + "intermezzo evaluate score_vlm\n\nintermezzo evaluate score_vlm --help",
)
def evaluate(context: typer.Context) -> None:
    """Measure a trained model on unseen pieces: evaluate STEM [SETTINGS]."""
    arguments = list(context.args)
    if not arguments or arguments[0] in {"-h", "--help"}:
        typer.echo(context.get_help())
        return
    from .train.evaluation import main as run

    raise typer.Exit(run(arguments) or 0)


@app.command(
    epilog=_EXAMPLE + "intermezzo push score_vlm --repo-id someone/intermezzo-score-vlm --with-space\n\n"
    "intermezzo push score_vlm --export-only out/flat\n\n"
    "intermezzo push dataset data/score_tab --repo-id someone/score-tab --private"
)
def push(
    stem: Annotated[str, typer.Argument(help="Model, such as score_vlm; or the word dataset.")],
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of the model (without it checkpoints/STEM), adapter, or data set.")
    ] = None,
    repo_id: Annotated[str | None, typer.Option("--repo-id", "--repo", help="On the Hub: OWNER/NAME.")] = None,
    export_only: Annotated[Path | None, typer.Option(help="Write the flat export here, upload nothing.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    with_space: Annotated[bool, typer.Option("--with-space", help="Upload the demo beside it, as a Space.")] = False,
) -> None:
    """Upload a model with its code and card, or a data set, to the Hugging Face Hub.

    Run it again after an interruption: what has arrived is not sent twice.
    """
    from .train.push_to_hub import push as run

    typer.echo(run(stem, repo_id, folder, export_only=export_only, private=private, with_space=with_space))


add_serve_verb(app)

if (Path(__file__).parent / "checkpoints" / "style_encoder" / "config.json").is_file():
    from .cli_style import add_style_verbs

    add_style_verbs(app)

if (Path(__file__).parent / "checkpoints" / "fractal_midi" / "config.json").is_file():
    from .cli_paint import add_paint_verb

    add_paint_verb(app)

if (Path(__file__).parent / "checkpoints" / "edit" / "config.json").is_file():
    from .cli_edit import add_edit_verb

    add_edit_verb(app)

if (Path(__file__).parent / "checkpoints" / "native_vlm" / "config.json").is_file():
    from .cli_draw import add_draw_verb

    add_draw_verb(app)

_COMPOSERS = ("museformer", "summary_bridge")
if all((Path(__file__).parent / "checkpoints" / stem / "config.json").is_file() for stem in _COMPOSERS):
    from .cli_compose import add_compose_verb

    add_compose_verb(app)


def _fail(message: object) -> NoReturn:
    _say(message)
    sys.exit(1)


def main() -> NoReturn:
    """Runs the command line; whatever goes wrong is told in one line (INTERMEZZO_DEBUG=1 shows where)."""
    try:
        app()
    except InputError as error:
        _fail(error)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(130)
    except BrokenPipeError:  # `intermezzo ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ModuleNotFoundError as error:
        if os.environ.get("INTERMEZZO_DEBUG") or not error.name:
            raise
        if error.name.startswith("intermezzo"):
            _fail(f"the installation is not complete: {error.name} is missing; try: pip install -e .")
        _fail(f"the Python package {error.name!r} is missing; try: pip install 'intermezzo[dev]'")
    except Exception as error:
        if os.environ.get("INTERMEZZO_DEBUG"):
            raise
        _fail(f"{type(error).__name__}: {error} (INTERMEZZO_DEBUG=1 shows where)")
    sys.exit(0)


if __name__ == "__main__":
    main()
