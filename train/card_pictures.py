"""Pictures of what each trained model does, for its card: made by the model itself, the same for the same weights.

python -m intermezzo.train.card_pictures [STEM ...]

Writes `example.png` into each model folder, and shows it at the top of the card where the card does not show it yet.
`intermezzo push` takes both along.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..processing.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
NAME = "example.png"
SCALE = r"\staff {tabs} \ts (4 4) 3.5.8 5.5.8 2.4.8 3.4.8 5.4.8 2.3.8 4.3.8 5.3.8 | 5.3.4 4.3.4 2.3.4 5.4.4 |"
WISH = "流星雨"
EDIT = "make it rock"


def _only(paths: Sequence[Path]) -> Path:
    """The picture among the files of a verb."""
    return next(path for path in paths if path.suffix == ".png")


def _raise(error: str | None) -> None:
    if error:
        raise InputError(None, error)


def _score_vlm(folder: Path, out: Path) -> Path:
    from ..reading import read

    (result,) = read([ROOT / "examples" / "blues_lick.png"], out=out, formats=("png",), model=str(folder))
    _raise(result.error)
    return _only(list(out.iterdir()))


def _fractal_midi(folder: Path, out: Path) -> Path:
    from ..painting import paint

    (result,) = paint(out=out, seed=3, model=str(folder))
    return _only(result.files)


def _music(folder: Path, out: Path) -> Path:
    from ..composing import compose, load_composer

    composer = load_composer(museformer=folder.parent / "museformer", bridge=folder.parent / "summary_bridge")
    (result,) = compose(WISH, out=out, seed=1, composer=composer)
    return _only(result.songs[0].files)


def _style_encoder(folder: Path, out: Path) -> Path:
    from ..comparing import compare_folder

    pictures = out / "pictures"
    pictures.mkdir()
    for picture in sorted((ROOT / "space" / "assets").glob("style_*.png")):
        shutil.copyfile(picture, pictures / picture.name)
    compare_folder(pictures, out=out / "compared", model=str(folder))
    return _only(list((out / "compared").iterdir()))


def _edit(folder: Path, out: Path) -> Path:
    from ..editing import edit

    piece = out / "piece.alphatex"
    piece.write_text(SCALE, encoding="utf-8")
    result = edit(piece, EDIT, out=out, formats=("png",), model=str(folder))
    return _only([path for path in out.iterdir() if path != piece] if result else [])


def _engraved() -> Any:
    """The scale as alphaTab sets it in the plain style, a picture in grey."""
    from ..datasets_scripts.guitar_parts import PLAIN_STYLE
    from ..datasets_scripts.render import RenderJob
    from ..datasets_scripts.render.verbs import default_pool
    from ..processing.alphatex_grammar import read_alphatex, write_alphatex

    text = write_alphatex(read_alphatex(SCALE))
    (drawn,) = default_pool().render(RenderJob(text=text, layout="system", **PLAIN_STYLE))
    return drawn.image().convert("L")


def _native_vlm(folder: Path, out: Path) -> Path:
    """Engraved above, drawn below."""
    from ..drawing import draw_text, load_drawer, stack_systems

    drawn = draw_text(*load_drawer(folder), SCALE)
    stack_systems([_engraved(), drawn]).save(out / NAME)
    return out / NAME


def _image_vq(folder: Path, out: Path) -> Path:
    """As it was cut, and below from its codes."""
    import torch
    from transformers import AutoModel, AutoProcessor

    from ..drawing import stack_systems

    model = AutoModel.from_pretrained(folder, dtype="float32").eval()
    processor = AutoProcessor.from_pretrained(folder)
    ink = processor(_engraved())["pixel_values"]
    with torch.no_grad():
        again = model.decode(model.encode(ink, by_looks=True))
    stack_systems([*processor.pictures(ink), *processor.pictures(again)]).save(out / NAME)
    return out / NAME


#: Stem to what it shows, and who makes it.
PICTURES: dict[str, tuple[str, Callable[[Path, Path], Path]]] = {
    "score_vlm": ("A blues lick as it was given, and drawn again from what was read", _score_vlm),
    "score_vlm_fused": ("A blues lick as it was given, and drawn again from what was read", _score_vlm),
    "fractal_midi": ("A piano roll from nothing: time from left to right, pitch upwards", _fractal_midi),
    "museformer": (f"What was composed to {WISH} (a shower of meteors), as a piano roll", _music),
    "summary_bridge": (f"What was composed to {WISH} (a shower of meteors), as a piano roll", _music),
    "style_encoder": ("How alike four drawings are in style", _style_encoder),
    "edit": (f"A scale, and the same after “{EDIT}”", _edit),
    "native_vlm": ("A scale as an engraver sets it, and as the model draws it", _native_vlm),
    "image_vq": ("A system, and the same from its codes", _image_vq),
}


def show_in_card(card: str, text: str) -> str:
    """The card with the picture before its first section; as it is where it shows the picture already."""
    if f"]({NAME})" in card:
        return card
    place = re.search(r"^## ", card, re.M)
    if place is None:
        raise InputError(None, "the card has no section to put a picture before")
    return f"{card[: place.start()]}![{text}]({NAME})\n\n{card[place.start() :]}"


def make_picture(stem: str, folder: Path) -> Path:
    """Makes the picture of one model, and shows it in its card.

    Raises:
        InputError: No such model, or it could not be run.
    """
    if stem not in PICTURES:
        raise InputError(None, f"no picture is known for {stem!r}; there are: {', '.join(PICTURES)}")
    if not (folder / "config.json").is_file():
        raise InputError(folder, "holds no config.json, so it is no model folder")
    text, make = PICTURES[stem]
    with tempfile.TemporaryDirectory() as name:
        shutil.copyfile(make(folder, Path(name)), folder / NAME)
    card = folder / "README.md"
    if card.is_file():
        card.write_text(show_in_card(card.read_text(encoding="utf-8"), text), encoding="utf-8")
    return folder / NAME


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the pictures of the models that are named, or of all that are there."""
    parser = argparse.ArgumentParser(prog="card_pictures", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("stems", nargs="*", metavar="STEM", help=f"of {', '.join(PICTURES)}; all that are there")
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "checkpoints", help="default: checkpoints")
    given = parser.parse_args(arguments)
    stems = given.stems or [stem for stem in PICTURES if (given.checkpoints / stem / "config.json").is_file()]
    failed = False
    for stem in stems:
        try:
            print(make_picture(stem, given.checkpoints / stem))
        except InputError as error:
            print(error, file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
