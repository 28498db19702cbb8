"""Systems of a page: a tab staff, the score staff above it if there is one, and the ink that belongs to both.

    picture -> on_white -> quarter turns, skew, bend -> staves (page_lines) -> pairs -> one region per system

Coordinates are continuous pixels of the upright page, which `read_page` gives with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from .page_lines import INK_DARKNESS, Staff, find_staves, lies_on_its_side, on_white, straighten
from .page_slopes import Bend, bend_of, skew_degrees, thin_points
from .staff_pairs import is_upside_down, pair_staves
from .system_canvas import NormalisedSystem, draw_on_canvas

_MAX_BELOW = 7.2  # line distances under the bottom tab line; rendered stems, tuplets and dynamics reach 6.8
_MAX_ABOVE = 12.0  # over the top line of a tab; rendered effects reach 11.8
_MAX_ABOVE_SCORE = 11.0  # over the top line of a score staff, in tab line distances
_STEM_END = 1.8  # line distances under the staff where the shortest stems end
_AT_EDGE = 1.25  # line distances between a tab and the picture's edge, within which one more line would have been seen
_SYSTEM_GAP = 0.9  # blank line distances that part systems; 1.5 are usual


@dataclass(frozen=True)
class SystemRegion:
    """Where one system lies on the upright page.

    Attributes:
        tab: The tab staff.
        score: The score staff above it, or `None`.
        box: `(left, top, right, bottom)` in whole pixels, right and bottom exclusive: all ink of the system.
        quarter_turns: Anticlockwise turns by 90 degrees that make the page upright.
        angle_degrees: Skew that was taken out after the turns.
        bend: How lines strayed that were made level after that; `None` where they were level.
        foreign: `(H, W)` bool mask over `box` of ink that belongs to neighbours; `None` when there is none.
    """

    tab: Staff
    score: Staff | None
    box: tuple[int, int, int, int]
    quarter_turns: int = 0
    angle_degrees: float = 0.0
    bend: Bend | None = field(default=None, repr=False, compare=False)
    foreign: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def tab_line_ys(self) -> tuple[float, ...]:
        """Centres of the tab lines, from the top."""
        return self.tab.line_ys

    @property
    def line_distance_px(self) -> float:
        """Distance between neighbouring tab lines."""
        return self.tab.distance_px

    @property
    def string_count(self) -> int:
        """Number of tab lines."""
        return len(self.tab.line_ys)

    @property
    def has_score(self) -> bool:
        """Whether a score staff stands above the tab staff."""
        return self.score is not None

    @property
    def x_range(self) -> tuple[float, float]:
        """Left and right end of the tab lines."""
        return self.tab.x0, self.tab.x1


@dataclass(frozen=True)
class Page:
    """An upright page with its systems from the top.

    Attributes:
        image: `(H, W)` uint8, dark ink on white, straightened.
        systems: Its systems.
        score_staves: Number of five-line staves without a tab staff; they are no systems for a tab reader.
    """

    image: np.ndarray
    systems: list[SystemRegion]
    score_staves: int = 0

    @property
    def why_empty(self) -> str:
        """One line for a page without systems."""
        if self.score_staves:
            return (
                f"shows {self.score_staves} score staves but no tab staff; only tab (with or without score) can be read"
            )
        return "no tab staff (4 to 7 parallel lines) was found; crop or scan the page so that its lines are clear"


def _blank_bands(inked: np.ndarray, low: int, high: int) -> list[tuple[int, int]]:
    """Runs `[start, end)` of blank rows between `low` and `high`."""
    if high <= low:
        return []
    blank = ~inked[low:high]
    edges = np.flatnonzero(np.diff(np.r_[False, blank, False].astype(np.int8)))
    return [(low + int(a), low + int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _split_row(inked: np.ndarray, upper: Staff, top_of_lower: float) -> tuple[int, bool]:
    """Row between two systems, and whether it is blank.

    What hangs under a tab staff follows closely (stems, then tuplet brackets after 0.4 line distances), while systems
    stand 1.5 and more apart: the first band that is wide enough and not between the staff and its stems is the border.
    """
    d, bottom = upper.distance_px, upper.line_ys[-1]
    low, high = int(bottom) + 2, int(top_of_lower) - 1
    bands = [b for b in _blank_bands(inked, low, high) if (b[0] - bottom) / d < _MAX_BELOW + 1]
    for i, (start, end) in enumerate(bands):
        if (end - start) / d < _SYSTEM_GAP:
            continue
        if (start - bottom) / d < _STEM_END and i + 1 < len(bands):
            following = bands[i + 1]
            near = (end - bottom) / d < 4.6 and (following[0] - end) / d < 1.6
            if near and (following[1] - following[0]) / d >= _SYSTEM_GAP:
                continue  # a bracket or a dynamic mark under a bar without stems
        return start + int(0.5 * min(end - start, d)), True
    if bands:
        start, end = max(bands, key=lambda b: b[1] - b[0])
        return (start + end) // 2, True
    return int((bottom + top_of_lower) / 2), False


def _top_limit(page: np.ndarray, inked: np.ndarray, tab: Staff, score: Staff | None) -> int:
    """First row of the uppermost system: headings (title, tuning) above are left out where a blank band allows it."""
    d = tab.distance_px
    top = (score or tab).line_ys[0]
    reach = _MAX_ABOVE_SCORE if score else _MAX_ABOVE
    limit = int(max(0, top - reach * d))
    bands = _blank_bands(inked, 0, int(top) - 1)
    row = limit
    if limit > 0 and inked[limit]:  # a letter stands on the limit: take it whole if it ends soon, else leave it out
        above = [b for b in bands if b[1] <= limit and limit - b[1] < 1.5 * d]
        below = [b for b in bands if b[0] >= limit]
        row = above[-1][1] if above else (below[0][0] if below else limit)
    if not bands:
        return row
    ink = np.less(page[: int(top)], 255 - INK_DARKNESS)
    pieces = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)[2][1:]
    # From the staff upwards: the first heading ends the system, everything above it is left out too.
    for start, _ in reversed([band for band in bands if row <= band[0] < top - 1.5 * d]):
        first = max([band[1] for band in bands if band[1] <= start] or [0])
        low = max(row, first)
        y, height = pieces[:, cv2.CC_STAT_TOP], pieces[:, cv2.CC_STAT_HEIGHT]
        if _is_heading(ink[low:start], pieces[(y < start) & (y + height > low)], tab):
            return start
    return row


def _is_heading(ink: np.ndarray, pieces: np.ndarray, tab: Staff) -> bool:
    """Whether rows above the first staff hold a title or a tuning: they start left of all music or are centred.

    The bracket of a first or second ending starts there too, and a tempo mark or a broken line may stand in the middle
    by chance: a long thin stroke tells the one, dashes (an equals sign has two) the others.

    Args:
        ink: Rows between two blank bands.
        pieces: The connected pieces of ink that reach into these rows (a bracket's hook is too thin to keep them
            together), as OpenCV describes them.
        tab: The staff below.
    """
    columns = np.flatnonzero(ink.any(axis=0))
    if columns.size == 0:
        return False
    d = tab.distance_px
    left = tab.x0 - 2 * d <= columns[0] <= tab.x0 + 1.2 * d
    off_centre = abs((columns[0] + columns[-1]) / 2 - ink.shape[1] / 2)
    compact = np.diff(columns).max(initial=0) < 2.5 * d  # letters over many notes are fingers' names
    centred = bool(columns.size > 2 * d and off_centre < 0.012 * ink.shape[1] and compact)
    if not left and not centred:
        return False
    width, area = pieces[:, cv2.CC_STAT_WIDTH], pieces[:, cv2.CC_STAT_AREA]
    long = (width > 3 * d) & (area < 0.35 * d * width)
    dashes = (width > 0.3 * d) & (pieces[:, cv2.CC_STAT_HEIGHT] < 0.45 * width)
    letters = len(pieces) >= 4 and not (width > 3 * d).any() and dashes.sum() < 2
    return not long.any() and (left or letters)


def _is_text_line(ink: np.ndarray, distance: float) -> bool:
    """Whether rows hold one line of running text (a footer): one long chain of small pieces without a long stroke."""
    if ink.shape[0] > 2 * distance:
        return False
    count, _, stats, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    if count < 9 or stats[1:, cv2.CC_STAT_WIDTH].max() > 2.5 * distance:
        return False
    width, height, area = (stats[1:, k] for k in (cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT, cv2.CC_STAT_AREA))
    if ((width > 0.8 * distance) & (width > height) & (area < 0.5 * width * height)).sum() >= 2:
        return False  # halves of tuplet brackets
    columns = np.flatnonzero(ink.any(axis=0))
    return bool(np.diff(columns).max() < distance and columns[-1] - columns[0] > 6 * distance)


def _bottom_limit(ink: np.ndarray, tab: Staff) -> int:
    """Last row (exclusive) of the lowest system: goes down while ink follows closely, footers stay out."""
    inked = ink.sum(axis=1) > 1
    d, bottom = tab.distance_px, tab.line_ys[-1]
    end = int(bottom) + 2
    bands = _blank_bands(inked, end, len(inked))
    following = [start for start, _ in bands[1:]] + [len(inked)]
    for (start, stop), next_start in zip(bands, following, strict=False):  # ink to the end: there is no band
        next_is_near = stop < len(inked) and (stop - bottom) / d < 4.6 and (stop - start) / d < 2.0
        if not next_is_near or _is_text_line(ink[stop:next_start], d):
            return start
    return min(len(inked), int(bottom + _MAX_BELOW * d))


def _left_right(ink: np.ndarray, top: int, bottom: int, tab: Staff, score: Staff | None) -> tuple[int, int]:
    """Columns of a system: the bracket left of the staff, text that runs out on the right, not the track's name."""
    d = tab.distance_px
    staff_top, staff_bottom = int((score or tab).line_ys[0]), int(tab.line_ys[-1]) + 1
    x0, x1 = int(min(tab.x0, score.x0 if score else tab.x0)), int(np.ceil(max(tab.x1, score.x1 if score else 0)))
    beside = np.asarray(ink[staff_top:staff_bottom].any(axis=0))
    left, gap = x0, 0
    for x in range(x0 - 1, max(-1, int(x0 - 2.5 * d)), -1):
        gap = 0 if beside[x] else gap + 1
        if beside[x]:
            left = x
        elif gap > 0.4 * d:
            break
    outside = np.asarray(ink[top:staff_top].any(axis=0) | ink[staff_bottom:bottom].any(axis=0))
    near = np.flatnonzero(outside[max(0, int(x0 - 1.2 * d)) : left])
    if near.size:
        left = max(0, int(x0 - 1.2 * d)) + int(near[0])
    columns = np.flatnonzero((outside | beside)[: int(x1 + 6 * d)])
    right = max(x1, int(columns[-1]) + 1) if columns.size else x1
    return left, min(right, ink.shape[1])


def _share_ink(ink: np.ndarray, low: int, high: int, split: int) -> np.ndarray:
    """Mask over rows `[low, high)`: True where a piece of ink hangs on the lower system, for systems that interlock."""
    zone = ink[low:high].astype(np.uint8)
    count, labels, _, centres = cv2.connectedComponentsWithStats(zone, connectivity=8)
    lower = centres[:, 1] > split - low
    touches_top = np.zeros(count, bool)
    touches_top[np.unique(labels[0])] = True
    touches_bottom = np.zeros(count, bool)
    touches_bottom[np.unique(labels[-1])] = True
    lower = (lower | touches_bottom) & ~(touches_top & ~touches_bottom)
    lower[0] = False
    return lower[labels]


def _regions(page: np.ndarray, pairs: list[tuple[Staff, Staff | None]]) -> list[SystemRegion]:
    """Crop boxes of all systems of one page."""
    ink: np.ndarray = np.less(page, 255 - INK_DARKNESS)
    tops, bottoms = [0] * len(pairs), [0] * len(pairs)
    shared: dict[int, tuple[int, int, np.ndarray]] = {}
    for i, (tab, score) in enumerate(pairs):
        d = tab.distance_px
        x0, x1 = int(max(0, tab.x0 - 1.2 * d)), int(tab.x1 + 4 * d)
        if i == 0:
            tops[0] = _top_limit(page, ink[:, x0:x1].sum(axis=1) > 1, tab, score)
        if i + 1 == len(pairs):
            bottoms[i] = _bottom_limit(ink[:, x0:x1], tab)
            continue
        next_tab, next_score = pairs[i + 1]
        x0, x1 = min(x0, int(max(0, next_tab.x0 - d))), max(x1, int(next_tab.x1 + 4 * d))
        next_top = (next_score or next_tab).line_ys[0]
        split, blank = _split_row(np.asarray(ink[:, x0:x1].any(axis=1)), tab, next_top)
        bottoms[i] = tops[i + 1] = split
        if not blank:
            low, high = int(tab.line_ys[-1]) + 2, int(next_top) - 1
            if high - low > 4:
                shared[i] = (low, high, _share_ink(ink, low, high, split))
                bottoms[i], tops[i + 1] = high, low
    result = []
    for i, (tab, score) in enumerate(pairs):
        foreign = np.zeros(page.shape, bool) if i in shared or i - 1 in shared else None
        if foreign is not None and i in shared:
            low, high, lower = shared[i]
            foreign[low:high] |= lower
        if foreign is not None and i - 1 in shared:
            low, high, lower = shared[i - 1]
            foreign[low:high] |= ink[low:high] & ~lower
        own = ink if foreign is None else ink & ~foreign
        left, right = _left_right(own, tops[i], bottoms[i], tab, score)
        rows = np.flatnonzero(own[tops[i] : bottoms[i], left:right].any(axis=1))
        top = min(tops[i] + int(rows[0]) if rows.size else tops[i], int((score or tab).line_ys[0]))
        bottom = max(tops[i] + int(rows[-1]) + 1 if rows.size else bottoms[i], int(tab.line_ys[-1]) + 1)
        box = (left, max(0, top), right, min(page.shape[0], bottom))
        if foreign is not None:  # the soft rim of a foreign stroke goes with it
            foreign = cv2.dilate(foreign.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~own
            foreign = foreign[box[1] : box[3], box[0] : box[2]]
        result.append(SystemRegion(tab, score, box, foreign=foreign))
    return result


def read_page(image: np.ndarray) -> Page:
    """Finds the systems of a page, upright or turned, level or a little skew.

    Args:
        image: `(H, W)` uint8 greyscale, any background.

    Returns:
        The page as it should stand and its systems; none when it shows no tab staff.
    """
    if image.ndim != 2 or image.dtype != np.uint8:
        raise ValueError(f"expected a (H, W) uint8 picture, got shape {image.shape} of {image.dtype}")
    if min(image.shape) < 20:
        return Page(image, [])
    white = on_white(image)
    for turns in (1, 0) if lies_on_its_side(white) else (0, 1):
        turned = straighten(white, turns, 0.0)
        points = thin_points(turned)
        angle = skew_degrees(points)
        page = straighten(turned, 0, angle)
        bend = bend_of(page, points.straightened(angle))
        page = page if bend is None else bend.flattened(page)
        staves = find_staves(page)
        if not staves:
            continue
        if is_upside_down(page, staves):
            turns += 2
            page = straighten(page, 2, 0.0)
            staves = find_staves(page)
        pairs, alone = pair_staves(page, staves)
        regions = [replace(r, quarter_turns=turns, angle_degrees=angle, bend=bend) for r in _regions(page, pairs)]
        return Page(page, regions, alone)
    return Page(white, [])


def cut_off_at(page: Page, region: SystemRegion) -> tuple[str, ...]:
    """Edges of the picture, `"upper"` and `"lower"`, that may have cut off a line of a tab.

    Something inked runs out of the picture less than a line distance from the tab's outermost line. The lines that are
    left look like a tab of fewer strings.
    """
    tab, height = region.tab, page.image.shape[0]
    row = slice(int(max(0, tab.x0)), int(tab.x1))
    edges = {"lower": (height - tab.line_ys[-1], page.image[-1, row])}
    if not region.has_score:
        edges = {"upper": (tab.line_ys[0], page.image[0, row])} | edges
    near = _AT_EDGE * tab.distance_px
    return tuple(name for name, (gap, ink) in edges.items() if gap < near and (ink < 255 - INK_DARKNESS).any())


def find_systems(image: np.ndarray) -> list[SystemRegion]:
    """The systems of a page from the top; see `read_page`, which also gives the straightened page."""
    return read_page(image).systems


def draw_region(page: Page, region: SystemRegion) -> NormalisedSystem:
    """Draws a system of an upright page (from `read_page`) on its canvas."""
    image = page.image
    left, top, right, bottom = region.box
    if region.foreign is not None:
        image = image.copy()
        image[top:bottom, left:right][region.foreign] = 255
    canvas, placement = draw_on_canvas(image, list(region.tab_line_ys), region.has_score, region.box)
    return NormalisedSystem(canvas, region.string_count, region.has_score, placement)


def normalise_system(image: np.ndarray, region: SystemRegion) -> NormalisedSystem:
    """One system of a page as a reader takes it.

    Args:
        image: The picture that was given to `find_systems`: `(H, W)` uint8, any background.
        region: One of its regions.
    """
    half = 2 * (region.quarter_turns >= 2)  # half turns come after the skew was taken out, as in `read_page`
    upright = straighten(on_white(image), region.quarter_turns - half, region.angle_degrees)
    upright = upright if region.bend is None else region.bend.flattened(upright)
    upright = straighten(upright, half, 0.0)
    return draw_region(Page(upright, [region]), region)


def normalise_page(image: np.ndarray) -> list[NormalisedSystem]:
    """All systems of a page, from the top, ready for a reader. Empty when the page has no tab staff."""
    page = read_page(image)
    return [draw_region(page, region) for region in page.systems]
