"""Makes the pictures in `examples/`: tunes nobody owns, and held-out pieces of our own generator, drawn by alphaTab.

python -m intermezzo.datasets_scripts.make_examples --out examples
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..processing.alphatex_grammar import Score, bars_close, read_alphatex, strip_invisible, write_alphatex
from .guitar_parts import generate_piece, shown_as, take_bars
from .guitar_techniques import repair_links

if TYPE_CHECKING:
    from .render import AlphaTabPool

# What the first reader knows; other techniques of a generated piece are left out of its picture.
_NOTE_EFFECTS = frozenset("x t be nh v ss sl h pm lr".split())
_PAGE_DPI = 300
_PAGE_PX = (2480, 3508)  # A4

_MALAGUENA = """
\\ts (3 4) \\tempo 112
(0.1 0.2 1.3 2.4 2.5 0.6).4 2.4.8{3} 0.1.8{3} 3.4.8{3} 0.3.8{3} 3.4.8{3} 2.4.8{3} |
(1.1 1.2 2.3 3.4 3.5 1.6).4 3.4.8{3} 1.1.8{3} 0.3.8{3} 2.3.8{3} 0.3.8{3} 3.4.8{3} |
(3.1 0.2 0.3 0.4 2.5 3.6).4 0.3.8{3} 3.1.8{3} 2.3.8{3} 0.2.8{3} 2.3.8{3} 0.3.8{3} |
(1.1 1.2 2.3 3.4 3.5 1.6).4 (0.1 0.2 1.3 2.4 2.5 0.6).2 |
""".replace("{3}", "{tu (3 2)}")

_ODE_TO_JOY = """
\\ts (4 4) \\ks g \\tempo 108
(0.2 3.6).4 0.2.4 1.2.4 3.2.4 |
(3.2 0.4).4 1.2.4 0.2.4 2.3.4 |
(0.3 3.6).4 0.3.4 2.3.4 0.2.4 |
(0.2 0.4).4{d} 2.3.8 (2.3 0.4).2 |
"""

# Written for this repository: one of most things a lead guitarist does.
_BLUES_LICK = """
\\ts (4 4) \\tempo 84
7.3{be (bend 0 0 60 4)}.4 5.2.8 8.2{h}.8 5.2.8 7.3{be (bendrelease 0 0 30 4 30 4 60 0)}.4 5.3.8 |
6.3.8{gr} 7.3{v}.4 0.5{x}.8 0.5{x}.8 5.4{sl}.8 7.4.8 5.4.8{tu (3 2)} 7.4.8{tu (3 2)} 5.3.8{tu (3 2)} |
0.6{pm}.8 0.6{pm}.8 3.6.8 0.6{pm}.8 (12.1{nh} 12.2{nh} 12.3{nh}).4{d} r.8 |
"""

_GREENSLEEVES = """
\\ts (6 8) \\tempo 96 r.4{d} r.4 2.3.8 |
(1.2 0.5).4 3.2.8 0.1.8{d} 2.1.16 0.1.8 |
(3.2 3.6).4 0.2.8 0.3.8{d} 2.3.16 0.2.8 |
(1.2 0.5).4 2.3.8 2.3.8{d} 1.3.16 2.3.8 |
(0.2 0.6).4 1.3.8 2.4.4 2.3.8 |
(1.2 0.5).4 3.2.8 0.1.8{d} 2.1.16 0.1.8 |
(3.2 3.6).4 0.2.8 0.3.8{d} 2.3.16 0.2.8 |
(1.2 0.5).8{d} 0.2.16 2.3.8 (1.3 0.6).8{d} 4.4.16 1.3.8 |
(2.3 2.4 0.5).2{d} |
\\ro (3.1 3.5).4{d} 3.1.8{d} 2.1.16 0.1.8 |
(3.2 3.6).4 0.2.8 0.3.8{d} 2.3.16 0.2.8 |
(1.2 0.5).4 2.3.8 2.3.8{d} 1.3.16 2.3.8 |
(0.2 0.6).4 1.3.8 2.4.4{d} |
(3.1 3.5).4{d} 3.1.8{d} 2.1.16 0.1.8 |
(3.2 3.6).4 0.2.8 0.3.8{d} 2.3.16 0.2.8 |
(1.2 0.5).8{d} 0.2.16 2.3.8 (1.3 0.6).8{d} 4.4.16 1.3.8 |
\\rc 2 (2.3 2.4 0.5).2{d} |
"""


@dataclass(frozen=True)
class Example:
    """One picture.

    Attributes:
        name: File name; `.pdf` for a whole page, `.png` for one system.
        text: Canonical alphaTex of what the picture shows (of a page: without its header).
        header: What a page has above its music.
        style: Arguments of `RenderJob`.
        piece: Seed of the generated piece; `None` for a tune written by hand.
    """

    name: str
    text: str
    header: dict[str, str] = field(default_factory=dict)
    style: dict[str, Any] = field(default_factory=dict)
    piece: int | None = None

    @property
    def staves(self) -> str:
        """What is drawn: "tabs" or "score+tabs"."""
        return "+".join(read_alphatex(self.text).staves[0].show)


def _by_hand(music: str, staves: str) -> str:
    return write_alphatex(shown_as(read_alphatex("\\staff {score tabs}" + music), staves))


def _generated(seed: int, start: int, stop: int, staves: str) -> str:
    """Some bars of a generated piece, without the techniques that the first reader does not know."""
    piece = generate_piece(seed)
    if piece.split != "test":
        raise AssertionError(f"{piece.piece_id} is in the split {piece.split}; an example must not be learned from")
    system: Score = take_bars(piece.score, start, stop)
    for bar in system.staves[0].bars:
        for voice in bar.voices:
            for beat in voice:
                beat.effects.clear()
                for note in beat.notes:
                    note.effects = {name: value for name, value in note.effects.items() if name in _NOTE_EFFECTS}
            repair_links(voice)
    return write_alphatex(strip_invisible(shown_as(system, staves), staves))


# name, seed of the piece, first bar, bar after the last, staves, manner of drawing
_PIECES: tuple[tuple[str, int, int, int, str, dict[str, Any]], ...] = (
    ("power_chords.png", 0x7AB108C8FA81D10C, 0, 4, "tabs", {"line_gray": 120}),
    ("lead.png", 0x395541F40135DB75, 0, 3, "tabs", {"line_gray": 60, "text_font": "roboto-condensed"}),
    ("double_stops_score_tab.png", 0x557E9BC9C41F67BF, 0, 3, "score+tabs", {}),
    ("bass.png", 0x3272BD464EFD205F, 0, 3, "tabs", {"line_gray": 80}),
)


def examples() -> Iterator[Example]:
    """All examples, with the text that a perfect reader gives."""
    yield Example("malaguena.png", _by_hand(_MALAGUENA, "tabs"), style={"scale": 1.2, "line_gray": 80})
    yield Example("ode_to_joy_score_tab.png", _by_hand(_ODE_TO_JOY, "score+tabs"), style={"scale": 1.2})
    lick = {"scale": 1.2, "line_gray": 0, "text_font": "tinos"}
    yield Example("blues_lick.png", _by_hand(_BLUES_LICK, "tabs"), style=lick)
    for name, seed, start, stop, staves, style in _PIECES:
        yield Example(name, _generated(seed, start, stop, staves), style={"scale": 1.2, **style}, piece=seed)
    header = {"title": "Greensleeves", "artist": "Traditional, England, 16th century"}
    style = {"scale": 2.4, "line_gray": 0, "bar_numbers": "first"}
    yield Example("greensleeves_page.pdf", _by_hand(_GREENSLEEVES, "tabs"), header, style)


def draw(example: Example, pool: AlphaTabPool, out: Path) -> Path:
    """Draws one example into a folder.

    Raises:
        AssertionError: Its bars do not close, or its text is not canonical.
    """
    from .render import RenderJob

    score = read_alphatex(example.text)
    assert bars_close(score, first_may_be_short=False), f"{example.name}: its bars do not close"
    assert write_alphatex(score) == example.text, f"{example.name}: its text is not canonical"
    target = out / example.name
    common: dict[str, Any] = {"staves": example.staves, "dynamics": False, **example.style}
    if target.suffix == ".png":
        (picture,) = pool.render(RenderJob(text=example.text, **common))
        picture.image().save(target, optimize=True)
        return target
    for name, value in example.header.items():
        setattr(score, name, value)
    width, height = _PAGE_PX
    page: dict[str, Any] = {"layout": "page", "titles": True, "width_px": width, "page_height_px": height}
    first, *rest = (p.image() for p in pool.render(RenderJob(text=write_alphatex(score), **page, **common)))
    # Black and white: small, without JPEG's grey around the lines, and like a good scan.
    first, *rest = (image.convert("L").point(lambda grey: 255 * (grey > 140)).convert("1") for image in (first, *rest))
    moment = time.gmtime(0)  # the same file whenever it is made
    first.save(target, save_all=True, append_images=rest, resolution=float(_PAGE_DPI), title=example.header["title"],
               creationDate=moment, modDate=moment)  # fmt: skip
    return target


def main() -> None:
    """Draws all examples."""
    from .render import AlphaTabPool

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("examples"), help="folder for the pictures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with AlphaTabPool(workers=1) as pool:
        for example in examples():
            path = draw(example, pool, out)
            print(
                f"{path}  {path.stat().st_size / 1024:.0f} kB, {len(read_alphatex(example.text).staves[0].bars)} bars"
            )


if __name__ == "__main__":
    main()
