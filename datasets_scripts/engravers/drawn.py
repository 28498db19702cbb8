"""What an engraver gives: a picture of one system, what it really shows, and where that stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..degrade import degrade

if TYPE_CHECKING:
    from ...train.score_vlm_data import SystemRow

#: A line of a staff that a bend of the paper moves by more than this part of the distance of two lines is not straight.
STRAIGHT = 0.3


@dataclass
class EngravedSystem:
    """One system with its truth, in continuous pixels of the picture.

    Attributes:
        image: `(H, W)` uint8, white = 255.
        text: Canonical alphaTex of what is drawn; what the engraver can not draw is not in it.
        beat_x: Middle of the numbers of each beat by (bar, voice, beat).
        note_y: y of each number by (bar, voice, beat, string).
        bar_x: Left and right edge of each bar.
        tab_line_ys: Middles of the tab lines, from the top.
        has_score: Whether a score staff stands above.
        engraver: `"vexflow"`, `"verovio"`, ...
        name: Where it comes from, for messages.
        metre: In force before the first bar.
    """

    image: np.ndarray
    text: str
    beat_x: dict[tuple[int, int, int], float]
    bar_x: list[tuple[float, float]]
    tab_line_ys: list[float]
    has_score: bool
    engraver: str
    name: str = ""
    metre: tuple[int, int] = (4, 4)
    note_y: dict[tuple[int, int, int, int], float] = field(default_factory=dict)

    @property
    def line_px(self) -> float:
        """Distance of two tab lines."""
        return (self.tab_line_ys[-1] - self.tab_line_ys[0]) / (len(self.tab_line_ys) - 1)

    def row(self) -> SystemRow:
        """The same as the trainer's row."""
        from ...train.score_vlm_data import SystemRow

        names = ("image", "text", "beat_x", "bar_x", "tab_line_ys", "has_score", "name", "metre")
        return SystemRow(**{name: getattr(self, name) for name in names})


def check_order(beat_x: dict[tuple[int, int, int], float]) -> None:
    """Beats in the order of the text stand from left to right.

    Raises:
        ValueError: They do not.
    """
    if list(beat_x.values()) != sorted(beat_x.values()):
        raise ValueError("the beats do not stand in their order")


def degraded_row(
    row: SystemRow, severity: float, rng: np.random.Generator, recipe: str | None = None, geometry_part: float = 0.1
) -> SystemRow | None:
    """A training row made worse, its truth moved along.

    Args:
        row: Changed by nobody; any row with true lines (`canvas` is not looked at).
        severity: 0 to 1, see `degrade`.
        rng: Source of chance.
        recipe: Name of a recipe, drawn when left out.
        geometry_part: 0.1 is what a page finder leaves of slants and bends.

    Returns:
        The row, or `None` where the staff is bent by more than `STRAIGHT` spaces, so that no straight canvas fits.
    """
    from dataclasses import replace

    lines, width = np.array(row.tab_line_ys), row.image.shape[1]
    keys = list(row.beat_x)
    middle = float(lines.mean())
    places = [(row.beat_x[key], middle) for key in keys]
    places += [(x, middle) for edges in row.bar_x for x in edges]
    at = np.linspace(row.bar_x[0][0], min(row.bar_x[-1][1], width), 9)
    places += [(x, y) for y in lines for x in at]
    space = (lines[-1] - lines[0]) / (len(lines) - 1)
    image, moved = degrade(row.image, np.array(places), severity, rng, recipe, float(space), geometry_part)
    first, rest = moved[: len(keys)], moved[len(keys) :]
    edges, rest = rest[: 2 * len(row.bar_x)], rest[2 * len(row.bar_x) :]
    ys = rest[:, 1].reshape(len(lines), len(at))
    middles = ys.mean(axis=1)
    if np.abs(ys - middles[:, None]).max() > STRAIGHT * (middles[-1] - middles[0]) / (len(lines) - 1):
        return None
    return replace(
        row,
        image=image,
        beat_x={key: float(x) for key, x in zip(keys, first[:, 0], strict=True)},
        bar_x=[(float(edges[2 * k, 0]), float(edges[2 * k + 1, 0])) for k in range(len(row.bar_x))],
        tab_line_ys=[float(y) for y in middles],
        canvas=None,
    )


__all__ = ["STRAIGHT", "EngravedSystem", "check_order", "degraded_row"]
