"""`intermezzo edit`: tablature, in a picture or as text, changed as an instruction in Chinese or English says.

A small model understands the instruction as a line of the edit language (`processing.edit_language`); a program carries
the line out, so that what an edit promises holds on every note. What is not understood, contradicts itself or is not
possible for the piece is told in one line, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .processing.alphatex_grammar import read_alphatex, write_alphatex
from .processing.edit_language import (
    MEANINGS,
    Program,
    check_program,
    looks_like_program,
    parse_program,
    write_program,
)
from .processing.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("alphatex", "mid", "gp", "musicxml", "png")
TEXT_SUFFIXES = (".alphatex", ".atex", ".tex")
SCORE_SUFFIXES = (".gp", ".gp3", ".gp4", ".gp5", ".gpx", ".gp7", ".gp8", ".musicxml", ".mxl", ".xml")
_WIDTH_PX, _SYSTEM_PX, _BARS_A_LINE = 1200, 150, 4
_PAPER, _INK, _RULE = 255, 90, 200


@dataclass
class EditResult:
    """What came of one piece.

    Attributes:
        name: Results are named after it.
        before, text: Canonical alphaTex before and after.
        program: The line of the edit language that the instruction was understood as.
        chance: How sure the model was, 0 to 1; 1 where a person wrote the line.
        files: What was written.
        note: `None`, or one line on what could make the result worse.
    """

    name: str
    before: str
    text: str
    program: str
    chance: float = 1.0
    files: list[Path] = field(default_factory=list)
    note: str | None = None


def default_checkpoint() -> Path:
    """The checkpoint that comes along."""
    return Path(__file__).resolve().parent / "checkpoints" / "edit"


def understand_instruction(
    instruction: str, model: str | Path | None = None, device: str = "auto", editor: tuple[Any, Any] | None = None
) -> tuple[Program, float]:
    """The program that an instruction asks for, and how sure that is.

    Args:
        instruction: Chinese or English, or a line of the edit language.
        model: Checkpoint folder or Hub name; left out: the one that comes along.
        device: `"auto"`, `"cpu"`, `"cuda"`, ...
        editor: A loaded model and its processor, in place of `model`.

    Raises:
        InputError: Empty, not understood, contradictory, or no edit.
    """
    from .processing.processing_edit import MIN_CHANCE

    if not instruction.strip():
        raise InputError(None, f"the instruction is empty; say what to change, such as {'改为摇滚风格'!r}")
    if looks_like_program(instruction):
        program, chance = parse_program(instruction), 1.0
    else:
        from .train.edit_data import understand
        from .train.evaluation_edit import load_edit_model

        loaded, processor = editor or load_edit_model(str(model or default_checkpoint()), device)
        (found,) = understand(loaded, processor, [instruction])
        program, chance = found.program, found.chance
    check_program(program)
    if chance < MIN_CHANCE:
        raise InputError(
            None, f"not sure what {instruction!r} means (perhaps '{write_program(program)}', {chance:.0%}); "
            "say it in other words, or write the edit itself"
        )  # fmt: skip
    return program, chance


def _text_of(
    source: Path, reader: Any, reader_model: str | None, device: str
) -> tuple[str, Image.Image | None, str | None]:
    """Text of a file, its picture when it is one, and a note."""
    from .processing.picture_files import load_pictures
    from .reading import read

    suffix = source.suffix.lower()
    if not source.is_file():
        raise InputError(source, "no such file; give a picture, or a file of alphaTex, Guitar Pro or MusicXML")
    if suffix in TEXT_SUFFIXES:
        from .datasets_scripts.render.client import canonical_text

        try:
            return canonical_text(source.read_text(encoding="utf-8")), None, None
        except UnicodeDecodeError as error:
            raise InputError(source, "is no text in UTF-8") from error
        except InputError as error:
            raise InputError(source, error.message) from error
    if suffix in SCORE_SUFFIXES:
        from .datasets_scripts.render.client import AlphaTabPool
        from .datasets_scripts.render.verbs import named

        with AlphaTabPool(workers=1) as pool, named(source):
            return write_alphatex(read_alphatex(pool.canonicalise(source, is_path=True))), None, None
    results = read([source], model=reader_model, device=device, reader=reader)
    if results and results[0].error:
        raise InputError(None, results[0].error)
    if len(results) != 1:
        raise InputError(source, f"has {len(results)} pages; give a picture of one page")
    picture = next(iter(load_pictures(source))).image
    unsure = sorted({f"{system.name} bar {bar}" for system in results[0].systems for bar in system.unsure_bars})
    note = "a picture does not tell tuning and capo: the usual tuning is taken"
    if unsure:
        note += f"; the reader is unsure of {', '.join(unsure)}"
    return results[0].text, picture, note


def edit(
    source: str | Path,
    instruction: str,
    out: str | Path | None = None,
    formats: Sequence[str] = ("alphatex",),
    seed: int = 0,
    model: str | Path | None = None,
    reader_model: str | None = None,
    device: str = "auto",
    editor: tuple[Any, Any] | None = None,
    reader: Any = None,
) -> EditResult:
    """Changes a piece as an instruction says.

    Args:
        source: A picture of tablature, or a file of alphaTex, Guitar Pro or MusicXML.
        instruction: What to change, in Chinese or English (`"改为摇滚风格"`), or a line of the edit language
            (`"transpose +2; style rock"`).
        out: Folder for `NAME-edited.alphatex` and so on; `None` writes nothing.
        formats: Any of `FORMATS`; `png` shows the piece before and after.
        seed: Decides what styles and basses leave to chance.
        model: Checkpoint of the model that understands; left out: the one that comes along.
        reader_model: Checkpoint that reads pictures; left out: the one that comes along.
        device: `"auto"`, `"cpu"`, `"cuda"`, ...
        editor, reader: Loaded models, in place of `model` and `reader_model`.

    Raises:
        InputError: Nothing was written: the file can not be read, the instruction is empty, not understood or
            contradicts itself, or the piece does not allow the edit.
    """
    from .datasets_scripts.edit_programs import apply_program

    path = Path(source)
    for wrong in sorted(set(formats) - set(FORMATS)):
        raise InputError(None, f"format {wrong!r} can not be written; choose from {', '.join(FORMATS)}")
    program, chance = understand_instruction(instruction, model, device, editor)
    before, picture, note = _text_of(path, reader, reader_model, device)
    try:
        text = apply_program(before, program, seed)
    except InputError as error:
        raise InputError(path, error.message) from error
    result = EditResult(f"{path.stem}-edited", before, text, write_program(program), chance, note=note)
    if out is not None:
        result.files = _write(result, picture, Path(out), tuple(formats))
    return result


def _write(result: EditResult, picture: Image.Image | None, out: Path, formats: tuple[str, ...]) -> list[Path]:
    from PIL import Image as Pillow

    from .reading_outputs import write_outputs, write_whole

    with ExitStack() as stack:
        pool: Any = None
        if set(formats) - {"alphatex", "musicxml"}:
            from .datasets_scripts.render.client import AlphaTabPool

            pool = stack.enter_context(AlphaTabPool(workers=1))
        # The sheet comes first: when it can not be drawn, nothing is written.
        sheet = before_and_after(result, pool, picture) if "png" in formats else None
        plain = tuple(name for name in formats if name != "png")
        files = write_outputs(result.name, result.text, Pillow.new("L", (1, 1)), out, plain, pool) if plain else []
        if sheet is not None:
            import io

            target, buffer = out / f"{result.name}.png", io.BytesIO()
            sheet.save(buffer, "PNG", optimize=True)
            write_whole(target, buffer.getvalue())
            files.append(target)
    return files


def before_and_after(result: EditResult, pool: Any, picture: Image.Image | None = None) -> Image.Image:
    """The piece before above the piece after, with the edit's line between them.

    Args:
        result: Texts and program.
        pool: Draws.
        picture: What the piece was read from; without it the text is drawn.

    Returns:
        Mode `L`.
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    from .processing.picture_files import grey_on_white
    from .reading_outputs import redraw

    def drawn(text: str) -> Image.Image:
        bars = max(len(staff.bars) for staff in read_alphatex(text).staves)
        return redraw(text, _WIDTH_PX, _SYSTEM_PX * -(-bars // _BARS_A_LINE), pool, -(-bars // _BARS_A_LINE))

    above, below = drawn(result.before) if picture is None else grey_on_white(picture), drawn(result.text)
    if above.width != _WIDTH_PX:
        above = above.resize((_WIDTH_PX, max(1, round(above.height * _WIDTH_PX / above.width))))
    size, band = 16, 30
    sheet = Pillow.new("L", (_WIDTH_PX, above.height + below.height + 2 * band), _PAPER)
    sheet.paste(above, (0, band))
    sheet.paste(below, (0, above.height + 2 * band))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size)
    middle = above.height + band
    pen.line([(0, middle), (_WIDTH_PX, middle)], fill=_RULE)
    for top, caption in ((0, "before"), (middle, f"after: {result.program}")):
        pen.text((size // 2, top + size // 3), caption, fill=_INK, font=font)
    return sheet


def known_edits() -> str:
    """What can be asked for, one line each, for a help text."""
    return "\n".join(f"{name}: {meaning}" for name, meaning in MEANINGS.items())


__all__ = [
    "FORMATS",
    "EditResult",
    "before_and_after",
    "default_checkpoint",
    "edit",
    "known_edits",
    "understand_instruction",
]
