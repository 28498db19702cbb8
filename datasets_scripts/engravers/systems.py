"""Systems of generated pieces, drawn by whichever engravers are installed."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from ...processing.errors import InputError
from . import abcjs, lilypond, manners, musescore, verovio, vexflow
from .drawn import EngravedSystem
from .process import EngraverWorker

ENGRAVERS: dict[str, Any] = {
    "vexflow": vexflow,
    "musescore": musescore,
    "lilypond": lilypond,
    "verovio": verovio,
    "abcjs": abcjs,
    "manners": manners,
}
#: Those that draw a score staff above the tab, too.
WITH_SCORE = ("vexflow", "lilypond", "manners")
#: How often each is drawn: VexFlow knows more techniques, MuseScore is met more often.
WEIGHTS = {"vexflow": 5, "musescore": 4, "lilypond": 3, "verovio": 2, "abcjs": 2, "manners": 5}
SCORE_SHARE = 0.4


def available(names: Sequence[str] | None = None, warn: bool = True) -> list[str]:
    """Engravers that can draw here; what lacks for the others is said in one line each.

    Args:
        names: Those that are wanted; all when left out.
        warn: Say on standard error what lacks.

    Raises:
        InputError: A name that there is no engraver for.
    """
    found = []
    for name in ENGRAVERS if names is None else names:
        if name not in ENGRAVERS:
            raise InputError(None, f"there is no engraver {name!r}; choose of {', '.join(ENGRAVERS)}")
        lacking = ENGRAVERS[name].absent()
        if lacking is None:
            found.append(name)
        elif warn:
            print(f"engraver {name} left out: {lacking}", file=sys.stderr)
    return found


class Engravers:
    """One process for each engraver, started at its first system.

    Args:
        names: Engravers to use; those that are installed when left out.
    """

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self.names = available(names)
        self._workers = {name: EngraverWorker() for name in self.names}

    def __enter__(self) -> Engravers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        for worker in self._workers.values():
            worker.close()

    def draw(
        self, text: str, rng: random.Random, engraver: str, name: str = "", metre: tuple[int, int] = (4, 4)
    ) -> EngravedSystem:
        """Draws a text in a style of chance.

        Raises:
            ValueError: A text that the engraver can not draw truly.
            RenderError: It failed.
        """
        module = ENGRAVERS[engraver]
        style = (
            module.random_style(rng, rng.random() < SCORE_SHARE) if engraver in WITH_SCORE else module.random_style(rng)
        )
        return module.engrave(text, style, self._workers[engraver], name, metre)


def engraved_systems(
    seed: int, count: int, split: str | None, names: Sequence[str] | None = None
) -> Iterator[EngravedSystem | InputError]:
    """Systems of generated pieces, one voice each, each by one engraver; failures come as values.

    Args:
        seed: The same seed and engravers give the same systems.
        count: Systems drawn, those that fail included.
        split: `"train"`, `"validation"`, `"test"`, or `None` for all.
        names: Engravers; those that are installed when left out.

    Raises:
        InputError: None of the engravers is installed.
    """
    from ...processing.alphatex_grammar import read_alphatex
    from ..guitar_parts import iter_system_jobs

    rng = random.Random(f"engravers {seed}")
    with Engravers(names) as engravers:
        if not engravers.names:
            raise InputError(
                None, "no engraver is installed; run `npm ci` in datasets_scripts/engravers, or `pip install lilypond`"
            )
        weights = [WEIGHTS[name] for name in engravers.names]
        done = 0
        for text, _, piece in iter_system_jobs(seed, sys.maxsize, split):
            if done >= count:
                return
            # A generator of its own for each system: what one engraver does leaves the next system as it was.
            one = random.Random(rng.getrandbits(64))
            if len(read_alphatex(text).staves[0].bars[0].voices) > 1:
                continue
            engraver = one.choices(engravers.names, weights)[0]
            done += 1
            name = f"{piece} {done} by {engraver}"
            try:
                yield engravers.draw(text, one, engraver, name)
            except (ValueError, InputError) as error:
                yield InputError(name, str(error))


__all__ = ["ENGRAVERS", "Engravers", "available", "engraved_systems"]
