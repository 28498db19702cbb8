"""Engravers beside alphaTab: the same pieces by other hands, each with the truth of what it really drew.

    cd datasets_scripts/engravers && npm ci          # once: VexFlow, MuseScore (webmscore) and abcjs, all optional
    pip install lilypond verovio                     # LilyPond and Verovio, optional as well
    python -m intermezzo.datasets_scripts.engravers.try_out --out look.png

Each engraver is a module with `NAME`, `absent()` (what lacks, in one line), `random_style(rng, ...)` and
`engrave(text, style, worker, name, metre)`, which gives an `EngravedSystem` or raises `ValueError` for what it can not
draw truly. `engraved_systems` draws generated pieces by all that are installed. `manners` is nobody's hand: VexFlow's
notes with stems, numbers and words set in habits drawn by chance.
"""

from .drawn import EngravedSystem, degraded_row
from .systems import ENGRAVERS, Engravers, available, engraved_systems

__all__ = ["ENGRAVERS", "EngravedSystem", "Engravers", "available", "degraded_row", "engraved_systems"]
