"""What the reader sees of a training picture: made worse, found by the page finder, its truth moved along.

A tower that is trained on pictures as they were drawn does not know what a photograph looks like after the page finder
evened out its light, turned it level and scaled it. So training pictures go the same way as a person's:

    picture -> degrade -> grey on white -> read_page -> the region at the true place -> canvas
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from PIL import Image

from ..datasets_scripts.degrade import degrade
from ..processing.page_slopes import Bend
from ..processing.page_systems import Page, SystemRegion, draw_region, read_page
from ..processing.picture_files import grey_on_white
from .score_vlm_data import SystemRow

#: How far (in line distances) the found lines may lie from the true ones: half of them, and the worst.
NEAR, WORST = 0.45, 0.9
_SAMPLES = 9  # places along each line that are followed


@dataclass(frozen=True)
class Lost:
    """A picture that is left out, and counted.

    Attributes:
        name: Name of the system.
        reason: Why, as a few words that are the same for all of a kind.
    """

    name: str
    reason: str


def upright_points(
    points: np.ndarray,
    shape: tuple[int, int],
    quarter_turns: int,
    angle_degrees: float,
    bend: Bend | None = None,
) -> np.ndarray:
    """Where points of a picture lie on the page that `read_page` makes of it.

    Args:
        points: `(N, 2)` x and y in continuous pixels.
        shape: `(H, W)` of the picture.
        quarter_turns: Of the found region: anticlockwise turns, of which two come after the skew was taken out.
        angle_degrees: Of the found region.
        bend: Of the found region.
    """
    out = np.array(points, dtype=np.float64).reshape(-1, 2)
    height, width = shape
    if quarter_turns % 2:
        out = np.column_stack([out[:, 1], width - out[:, 0]])
        height, width = width, height
    if angle_degrees:
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle_degrees, 1.0)
        cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
        larger = int(np.ceil(width * cos + height * sin)), int(np.ceil(height * cos + width * sin))
        matrix[:, 2] += (larger[0] - width) / 2, (larger[1] - height) / 2
        # OpenCV counts from the middle of the first pixel.
        out = (out - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
        width, height = larger
    if bend is not None:
        out = bend.flat_points(out)
        height += 2 * bend.margin_px
    if quarter_turns >= 2:
        out = np.array((width, height)) - out
    return out


def places_of(row: SystemRow) -> np.ndarray:
    """`(N, 2)` points to follow: beats, both edges of each bar (at the middle of the tab), places along the lines."""
    lines = np.array(row.tab_line_ys)
    middle = float(lines.mean())
    places = [(x, middle) for x in row.beat_x.values()]
    places += [(x, middle) for edges in row.bar_x for x in edges]
    along = np.linspace(row.bar_x[0][0], min(row.bar_x[-1][1], row.image.shape[1]), _SAMPLES)
    places += [(x, y) for y in lines for x in along]
    return np.array(places, dtype=np.float64)


def seen(row: SystemRow, image: np.ndarray | None = None, places: np.ndarray | None = None) -> SystemRow | Lost:
    """The row as the page finder cuts its system out of a picture.

    Args:
        row: What is drawn, with true lines; changed by nobody.
        image: The picture, `(H, W)` or `(H, W, 3)` uint8; the row's own when left out.
        places: Where the points of `places_of` lie in that picture; they are where they were when left out.

    Returns:
        The row in pixels of the upright page, with its canvas; or why a reader would not see it so.
    """
    image = row.image if image is None else image
    places = places_of(row) if places is None else places
    grey = np.asarray(grey_on_white(Image.fromarray(image)))
    page = read_page(grey)
    if not page.systems:
        return Lost(row.name, "no staff found")
    first = page.systems[0]
    moved = upright_points(places, grey.shape, first.quarter_turns, first.angle_degrees, first.bend)
    beats, edges = moved[: len(row.beat_x), 0], moved[len(row.beat_x) :][: 2 * len(row.bar_x), 0]
    lines = moved[len(beats) + len(edges) :, 1].reshape(len(row.tab_line_ys), _SAMPLES)
    if lines[0].mean() > lines[-1].mean() or edges[0] > edges[-1]:
        return Lost(row.name, "turned over")
    region = _region_at(page, lines)
    if region is None:
        return Lost(row.name, "other staves found")
    if region.has_score != row.has_score:
        return Lost(row.name, "score staff missed" if row.has_score else "score staff made up")
    if _distance(region, lines).max() > WORST:
        return Lost(row.name, "bent")
    system = draw_region(page, region)
    place, width = system.placement, system.array.shape[1]
    if not _inside(np.concatenate([beats, edges[1:-1]]) * place.x_scale + place.x_offset, width):
        return Lost(row.name, "cut off")
    return replace(
        row,
        image=page.image,
        beat_x={key: float(x) for key, x in zip(row.beat_x, beats, strict=True)},
        bar_x=[(float(a), float(b)) for a, b in edges.reshape(-1, 2)],
        tab_line_ys=[float(y) for y in lines.mean(axis=1)],
        canvas=(system.array, place),
    )


def _distance(region: SystemRegion, lines: np.ndarray) -> np.ndarray:
    """How far the true places lie from the found lines, in line distances."""
    return np.abs(lines - np.array(region.tab_line_ys)[:, None]) / region.line_distance_px


def _region_at(page: Page, lines: np.ndarray) -> SystemRegion | None:
    """The found system whose lines are the true ones."""
    same = [region for region in page.systems if region.string_count == len(lines)]
    best = min(same, key=lambda region: float(np.median(_distance(region, lines))), default=None)
    return best if best is not None and float(np.median(_distance(best, lines))) <= NEAR else None


def _inside(xs: np.ndarray, width: int) -> bool:
    return not xs.size or bool(xs.min() >= 0 and xs.max() < width)


def spoilt(
    row: SystemRow, severity: float, rng: np.random.Generator | int, recipe: str | None = None
) -> SystemRow | Lost:
    """A training row made worse and seen by the reader's page finder.

    Args:
        row: Any row with true lines (`canvas` is not looked at); changed by nobody.
        severity: 0 to 1, see `datasets_scripts.degrade.degrade`.
        rng: Source of chance, or a seed.
        recipe: Name of a recipe; drawn by weight when left out.
    """
    places = places_of(row)
    space = (row.tab_line_ys[-1] - row.tab_line_ys[0]) / (len(row.tab_line_ys) - 1)
    image, moved = degrade(row.image, places, severity, rng, recipe, float(space), geometry_part=1.0)
    return seen(row, image, moved)


__all__ = ["Lost", "places_of", "seen", "spoilt", "upright_points"]
