"""The verb of SummaryBridge and Museformer on the command line; there as soon as the weights of both are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .processing.errors import InputError

_EXAMPLES = """[bold]Examples[/bold]

intermezzo compose "流星雨" --num-samples 4

intermezzo compose "a slow, quiet piece in a low register" --bars 32 --key "A minor" --program piano

intermezzo compose --file prompts.txt --out songs --seed 7"""
_PICTURE_EXAMPLE = "\n\nintermezzo compose --picture bell.png --wav"
# Pictures need a third model; the option is not shown before that one is there.
_PICTURES = (Path(__file__).parent / "checkpoints" / "style_encoder" / "config.json").is_file()
_Model = Annotated[str | None, typer.Option(help="Its folder or Hub name; without it the one that comes along.")]


def compose(
    prompts: Annotated[
        list[str] | None, typer.Argument(metavar="WORDS", help="What the music is like; several make several.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Text file with words of its own in each line.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Compose to a picture, in place of words.", hidden=not _PICTURES)
    ] = None,
    bars: Annotated[int | None, typer.Option(help="Bars; without it what the words say, or 16.")] = None,
    num_samples: Annotated[int, typer.Option(help="How many different songs for each.")] = 1,
    tries: Annotated[
        int,
        typer.Option(help="For words that paint a picture: write up to so many for each, keep the one most like it."),
    ] = 4,
    out: Annotated[Path, typer.Option(help="Folder for NAME.mid, NAME.png, NAME.txt (and NAME.wav).")] = Path("out"),
    seed: Annotated[int, typer.Option(help="The same seed composes the same.")] = 0,
    cfg: Annotated[
        float | None,
        typer.Option(help="How closely the words are followed; 1 is as learnt."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps from words to plan, 1 to 50 are of use.")] = None,
    temperature: Annotated[float, typer.Option(help="Lower is safer, higher is wilder; 0 has no chance in it.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Leave out what is unlikely: part of the mass to keep.")] = 1.0,
    tempo: Annotated[float | None, typer.Option(help="Quarter notes a minute, whatever the words say.")] = None,
    metre: Annotated[str | None, typer.Option(help="Such as 3/4.")] = None,
    key: Annotated[str | None, typer.Option(help="Move the music to this key, such as A or 'Bb minor'.")] = None,
    program: Annotated[
        str | None, typer.Option(help="Instruments, by commas: General MIDI numbers, or piano, strings, drums ...")
    ] = None,
    bar_parallel: Annotated[
        bool, typer.Option("--bar-parallel", help="Write all bars at once: faster, and less coherent.")
    ] = False,
    wav: Annotated[bool, typer.Option("--wav", help="Make sound too.")] = False,
    soundfont: Annotated[Path | None, typer.Option(help="Soundfont for it, .sf2 or .sf3.")] = None,
    museformer: _Model = None,
    bridge: _Model = None,
    style_encoder: Annotated[
        str | None,
        typer.Option(help="Its folder or Hub name; without it the one that comes along.", hidden=not _PICTURES),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")] = "auto",
) -> None:
    """Compose music to words, in Chinese or English, as MIDI, piano roll and sound.

    A table tells what of the words the music keeps, as far as it can be measured.
    Words that can not be composed to make one line and exit status 1; the others are composed.
    """
    texts = [*(prompts or []), *(_lines(file) if file else [])]
    if (picture is None) == (not texts):
        raise InputError(None, 'give words, such as: intermezzo compose "a calm sea"' + (", or --picture" * _PICTURES))
    from .composing import compose as run

    results = run(
        texts or None, picture=picture, out=out, wav=wav, soundfont=soundfont, museformer=museformer, bridge=bridge,
        style_encoder=style_encoder, device=device, progress=True, bars=bars, num_samples=num_samples, tries=tries,
        seed=seed, cfg=cfg, steps=steps, temperature=temperature, top_p=top_p, tempo=tempo, metre=metre, key=key,
        program=program, bar_parallel=bar_parallel,
    )  # fmt: skip
    _show(results)


def _show(results: list[Any]) -> None:
    """The report of each, or what was wrong with it; the exit status tells."""
    for result in results:
        if result.error is not None:
            typer.echo(f"{result.prompt[:60] or 'words'}: {result.error}", err=True)
            continue
        typer.echo(result)
        written = [path for song in result.songs for path in song.files] + result.files
        typer.echo("written: " + ", ".join(map(str, written)) + "\n")
    if any(result.error for result in results):
        raise typer.Exit(1)


def _lines(file: Path) -> list[str]:
    """The lines of a file that are not empty.

    Raises:
        InputError: It can not be read, or holds nothing.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(file, "can not be read; give a text file (UTF-8) with words in each line") from error
    if not lines:
        raise InputError(file, "holds no words; write some in each line")
    return lines


def add_compose_verb(app: typer.Typer) -> None:
    """Registers `compose`."""
    app.command(epilog=_EXAMPLES + (_PICTURE_EXAMPLE if _PICTURES else ""))(compose)


__all__ = ["add_compose_verb"]
