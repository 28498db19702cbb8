"""Makes clean pictures of notation look as people have them: photos, scans, screenshots, faxes, stills of videos.

    python -m intermezzo.datasets_scripts.degrade clean.png --out sheet.png        # one picture by all recipes
    python -m intermezzo.datasets_scripts.degrade clean.png --out bad.png --recipe "phone photo" --severity 0.7

`degrade` carries points along (beats, bar edges, ends of staff lines), so that labels stay where their ink is. A recipe
is an ordered list of steps, each with its chance; one seed always gives one picture.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..processing.errors import InputError
from . import degrade_geometry as geometry
from . import degrade_ink as ink
from . import degrade_marks as marks
from .degrade_sheet import Sheet

Step = Callable[[Sheet, float], None]


@dataclass(frozen=True)
class Recipe:
    """One way of being bad.

    Attributes:
        weight: How often it is drawn among all.
        steps: `(step, chance, share of the severity)`, in order: first the paper, then the light, then the camera.
    """

    weight: float
    steps: tuple[tuple[Step, float, float], ...]


RECIPES: dict[str, Recipe] = {
    "phone photo": Recipe(14, (
        (ink.ink_bleed, 0.3, 0.5), (ink.paper, 0.7, 0.7), (ink.bleed_through, 0.15, 0.5), (geometry.photograph, 1, 1),
        (ink.uneven_light, 0.9, 1), (ink.shadow, 0.5, 0.8), (ink.glare, 0.15, 0.8), (ink.exposure, 0.7, 0.7),
        (geometry.shrink, 0.4, 0.8), (ink.blur, 0.7, 0.9), (ink.noise, 0.7, 0.6), (ink.sharpen, 0.3, 0.7),
        (ink.jpeg, 0.9, 0.8))),
    "night photo": Recipe(5, (
        (ink.paper, 0.7, 0.7), (geometry.photograph, 1, 1), (ink.uneven_light, 1, 1), (ink.shadow, 0.6, 1),
        (ink.exposure, 1, 1), (ink.blur, 0.9, 1), (ink.noise, 1, 1), (ink.jpeg, 1, 0.8))),
    "book": Recipe(7, (
        (ink.coloured_paper, 0.5, 0.3), (ink.bleed_through, 0.7, 1), (ink.paper, 0.8, 0.8), (geometry.curl, 1, 1),
        (geometry.photograph, 0.6, 0.5), (ink.uneven_light, 0.7, 0.7), (ink.blur, 0.4, 0.6), (ink.noise, 0.4, 0.4),
        (ink.jpeg, 0.7, 0.6))),
    "crumpled": Recipe(5, (
        (ink.paper, 1, 1), (ink.dirt, 0.6, 0.8), (geometry.crumple, 1, 1), (geometry.photograph, 0.6, 0.6),
        (ink.uneven_light, 0.7, 0.8), (ink.blur, 0.4, 0.6), (ink.jpeg, 0.7, 0.7))),
    "scan": Recipe(12, (
        (ink.faded_ink, 0.3, 0.6), (ink.ink_bleed, 0.3, 0.6), (ink.bleed_through, 0.4, 0.7), (ink.paper, 0.6, 0.6),
        (ink.dirt, 0.4, 0.5), (geometry.tilt, 0.9, 1), (geometry.shrink, 0.3, 0.7), (ink.blur, 0.4, 0.4),
        (ink.noise, 0.5, 0.3), (ink.jpeg, 0.7, 0.8))),
    "photocopy": Recipe(7, (
        (ink.ink_bleed, 0.7, 1), (ink.faded_ink, 0.5, 0.6), (ink.dirt, 1, 1), (geometry.tilt, 0.9, 1),
        (ink.threshold, 0.7, 0.8), (ink.noise, 0.5, 0.3), (ink.blur, 0.4, 0.4))),
    "fax": Recipe(5, (
        (geometry.tilt, 0.8, 0.8), (geometry.shrink, 1, 0.55), (ink.dirt, 0.5, 0.5), (ink.threshold, 1, 1),
        (ink.fax_lines, 1, 1), (geometry.jitter_rows, 0.6, 0.8))),
    "screenshot": Recipe(12, (
        (marks.window, 0.5, 1), (geometry.crop_margins, 0.7, 1), (geometry.shrink, 0.8, 1), (ink.jpeg, 0.6, 0.8))),
    "dark mode": Recipe(6, (
        (marks.window, 0.3, 1), (ink.dark_mode, 1, 1), (geometry.crop_margins, 0.4, 1), (geometry.shrink, 0.5, 0.8),
        (ink.jpeg, 0.6, 0.7))),
    "screen photo": Recipe(5, (
        (ink.dark_mode, 0.2, 1), (geometry.shrink, 0.3, 0.4), (ink.moire, 1, 1), (geometry.photograph, 1, 0.7),
        (ink.glare, 0.4, 0.8), (ink.exposure, 0.6, 0.6), (ink.blur, 0.5, 0.6), (ink.noise, 0.5, 0.4),
        (ink.jpeg, 0.9, 0.7))),
    "video": Recipe(7, (
        (marks.video_overlay, 1, 1), (geometry.shrink, 0.7, 0.8), (ink.blur, 0.4, 0.5), (ink.jpeg, 1, 1))),
    "coloured paper": Recipe(4, (
        (ink.coloured_paper, 1, 1), (ink.paper, 0.8, 0.6), (ink.faded_ink, 0.3, 0.5), (geometry.tilt, 0.5, 0.7),
        (ink.jpeg, 0.6, 0.6))),
    "marked up": Recipe(6, (
        (ink.paper, 0.5, 0.5), (marks.handwriting, 1, 1), (marks.highlighter, 0.4, 1), (geometry.tilt, 0.5, 0.6),
        (ink.uneven_light, 0.5, 0.6), (ink.blur, 0.3, 0.4), (ink.jpeg, 0.6, 0.6))),
    "song sheet": Recipe(8, (
        (marks.chord_names, 0.8, 1), (marks.lyrics, 0.8, 1), (ink.paper, 0.4, 0.4), (geometry.tilt, 0.4, 0.6),
        (geometry.shrink, 0.3, 0.7), (ink.jpeg, 0.5, 0.6))),
    "thumbnail": Recipe(5, ((geometry.crop_margins, 0.5, 1), (geometry.shrink, 1, 1), (ink.jpeg, 0.8, 0.5))),
}  # fmt: skip


def degrade(
    image: np.ndarray,
    points: np.ndarray,
    severity: float = 0.5,
    rng: np.random.Generator | int | None = None,
    recipe: str | None = None,
    line_px: float | None = None,
    geometry_part: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """A worse picture, and where its points went.

    Args:
        image: `(H, W)` or `(H, W, 3)` uint8, dark ink on light paper.
        points: `(N, 2)` x and y in continuous pixels (the middle of the first pixel is 0.5). Points at beats also tell
            where words may stand.
        severity: 0 hardly visible to 1 as bad as a person still reads.
        rng: Source of chance, or a seed.
        recipe: A name of `RECIPES`; drawn by weight when left out.
        line_px: Distance of two staff lines; a picture is never made smaller than 5 px between lines when it is given.
        geometry_part: Factor on bends and slants; 0 keeps staff lines straight and level. A reader that straightens
            pages first needs 1, one that is trained behind that step needs what the step leaves, about 0.1.

    Returns:
        The picture, with as many channels as it came with, of another size; and the moved points, float64 `(N, 2)`.

    Raises:
        InputError: A wrong shape, severity or name.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise InputError(None, f"a picture is (H, W) or (H, W, 3) uint8, not {image.shape} {image.dtype}")
    where = np.array(points, dtype=np.float64).reshape(-1, 2)
    if not 0 <= severity <= 1:
        raise InputError(None, f"severity is {severity}; it must be between 0 and 1")
    rng = np.random.default_rng(rng)
    name = recipe or draw_recipe(rng)
    if name not in RECIPES:
        raise InputError(None, f"there is no recipe {name!r}; choose one of {', '.join(RECIPES)}")
    sheet = Sheet(image.copy(), where, rng, line_px, geometry_part)
    for step, chance, share in RECIPES[name].steps:
        # The chance is drawn for every step, so that a step more or less does not change the others' luck.
        luck, seed = rng.random(), int(rng.integers(2**63))
        if luck < chance:
            sheet.rng = np.random.default_rng(seed)
            step(sheet, share * severity)
    out = sheet.colour() if image.ndim == 3 else sheet.grey()
    return np.ascontiguousarray(out), sheet.points


def draw_recipe(rng: np.random.Generator) -> str:
    """Name of a recipe, by weight."""
    names = list(RECIPES)
    weights = np.array([RECIPES[name].weight for name in names])
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def contact_sheet(
    image: np.ndarray, severities: Sequence[float] = (0.3, 0.6, 1.0), seed: int = 0, line_px: float | None = None
) -> np.ndarray:
    """All recipes at some severities on one `(H, W, 3)` picture, one recipe a row, with its name."""
    rows = []
    for name in RECIPES:
        cells = []
        for severity in severities:
            cell, _ = degrade(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image,
                              np.zeros((0, 2)), severity, seed, name, line_px)  # fmt: skip
            cells.append(cv2.copyMakeBorder(cell, 22, 4, 4, 4, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
            cv2.putText(cells[-1], f"{name} {severity:g}", (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (200, 0, 0), 1)
        height = max(cell.shape[0] for cell in cells)
        width = max(image.shape[1] + 40, *(cell.shape[1] for cell in cells))
        padded = [
            cv2.copyMakeBorder(c, 0, height - c.shape[0], 0, width - c.shape[1], cv2.BORDER_CONSTANT, value=(255,) * 3)
            for c in cells
        ]
        rows.append(np.hstack(padded))
    width = max(row.shape[1] for row in rows)
    return np.vstack(
        [cv2.copyMakeBorder(r, 0, 0, 0, width - r.shape[1], cv2.BORDER_CONSTANT, value=(255,) * 3) for r in rows]
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="degrade", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("picture", help="clean picture of one system or page")
    parser.add_argument("--out", required=True, help="PNG to write")
    parser.add_argument("--recipe", help=f"one of {', '.join(RECIPES)}; without it, all of them on one sheet")
    parser.add_argument("--severity", type=float, default=0.6, help="0 to 1 (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another picture (default %(default)s)")
    parser.add_argument("--line-px", type=float, help="pixels between two staff lines, when known")
    a = parser.parse_args(arguments)
    try:
        image = cv2.imread(a.picture)
        if image is None:
            raise InputError(a.picture, "is no picture that can be read; give a PNG or JPEG")
        image = np.ascontiguousarray(image[..., ::-1])
        if a.recipe:
            out, _ = degrade(image, np.zeros((0, 2)), a.severity, a.seed, a.recipe, a.line_px)
        else:
            out = contact_sheet(image, seed=a.seed, line_px=a.line_px)
        if not (Path(a.out).suffix and cv2.imwrite(a.out, out[..., ::-1])):
            raise InputError(a.out, "can not be written; give the path of a PNG")
    except (InputError, cv2.error) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
