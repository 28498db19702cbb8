"""Hands that nobody has: VexFlow's notes, with stems, beams, numbers and words set in manners drawn by chance.

Engravers differ in a few habits: whether stems begin at the numbers or beyond the staff, which way they point, how a
half note is told from a quarter, where dots and tuplets stand, how close beats are set, how a tied number is drawn,
where letters, metres and rests are written, what a bend is called, whether lines run through the numbers. A reader that
has met many mixtures of these should know an engraver that it never saw better than one that has met three real ones
(domain randomisation: Tobin et al. 2017, arXiv 1703.06907). No mixture is one engraver's own.
"""

from __future__ import annotations

import random
from typing import Any

from . import vexflow
from .drawn import EngravedSystem
from .process import EngraverWorker

NAME = "manners"
NOTE_EFFECTS, BEAT_EFFECTS = vexflow.NOTE_EFFECTS, vexflow.BEAT_EFFECTS
_BENDS = (
    vexflow.HEIGHTS,
    {1: "¼", 2: "½", 3: "¾", 4: "1", 5: "1¼", 6: "1½", 7: "1¾", 8: "2"},
    {1: "1/4", 2: "1/2", 3: "3/4", 4: "1", 5: "1 1/4", 6: "1 1/2", 7: "1 3/4", 8: "2"},
    {1: "1/4", 2: "1/2", 3: "3/4", 4: "full", 5: "1 1/4", 6: "1 1/2", 7: "1 3/4", 8: "2"},
)
#: Families of `families.mjs`, and the renderer's own.
WRITTEN = ("architects-daughter", "kalam", "patrick-hand")
PRINTED = ("courier-prime", "crimson-text", "libre-baskerville", "open-sans", "pt-sans")
OWN = ("arimo", "tinos", "lora", "roboto-condensed")


def absent() -> str | None:
    """What lacks, in one line; `None` when it can draw."""
    return vexflow.absent()


def random_style(rng: random.Random, score: bool) -> dict[str, Any]:
    """How a system is drawn; `score`: with a score staff above."""
    style = vexflow.random_style(rng, score)
    space = rng.choice((9, 10, 11, 12, 13, 14))
    own = {
        "engraver": NAME,
        "own_stems": rng.random() < 0.9,
        "stems": not score or rng.random() < 0.7,
        "tab_space": space,
        "number_scale": round(space / 12 * rng.uniform(0.85, 1.25), 2),
        "number_bold": rng.random() < 0.4,
        "number_gaps": rng.random() < 0.6,
        "number_rise": 0.0 if rng.random() < 0.5 else round(rng.uniform(-0.15, 0.15), 3),
        "stem_direction": rng.choices(("auto", "up", "down"), (35, 20, 45))[0],
        "stem_spaces": round(rng.uniform(2.0, 4.0), 2),
        "stem_end": rng.choices(("inside", "outside"), (70, 30))[0],
        "stem_from": rng.choices(("number", "edge"), (65, 35))[0],
        "stem_px": round(rng.uniform(0.7, 1.8), 2),
        "beam_px": round(rng.uniform(2.5, 5.5), 2),
        "beam_slope": rng.choice((0.0, 0.0, 0.06, 0.12)),
        "halves": rng.choices(("double", "short", "plain"), (50, 35, 15))[0],
        "dot_place": rng.choices(("each", "top", "stem"), (40, 35, 25))[0],
        "tight": 0.0 if score or rng.random() < 0.5 else round(rng.uniform(1.25, 2.2), 2),
        "tie_numbers": rng.choice(("brackets", "hidden", "plain")),
        "tuplet_side": rng.choice(("beam", "above", "below")),
        "tuplet_bracket": rng.random() < 0.5,
        "tuplet_bold": rng.random() < 0.3,
        "bend_words": rng.choice(_BENDS),
        "letter_metre": rng.random() < 0.3,
        "metre_on_score": rng.random() < 0.3,
        "tab_rests": rng.random() < 0.6,
        "words_on_score": rng.random() < 0.5,
        "upright_words": rng.random() < 0.5,
    }
    text_font = rng.choice((*OWN, *PRINTED, *WRITTEN))
    own |= {"text_font": text_font, "number_font": rng.choice((text_font, *OWN, *PRINTED, *WRITTEN))}
    if text_font in WRITTEN:
        own["music_font"] = rng.choice(("petaluma", "petaluma", "leland"))
    return style | own


def engrave(
    text: str, style: dict[str, Any], worker: EngraverWorker, name: str = "", metre: tuple[int, int] = (4, 4)
) -> EngravedSystem:
    """Draws the canonical text of one system; arguments, result and errors as of `vexflow.engrave`."""
    return vexflow.engrave(text, style, worker, name, metre)


__all__ = ["BEAT_EFFECTS", "NAME", "NOTE_EFFECTS", "absent", "engrave", "random_style"]
