"""Staff lines on a page: background, rows that are lines, lines that are staves. Only numpy and OpenCV.

All functions take `(H, W)` uint8 pictures with white = 255. A staff line is faint, thin and, on tab, broken by fret
digits; so long horizontal runs propose rows, a regular comb of rows makes a staff, and short runs confirm its weakest
lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .page_lookalikes import are_ledger_lines, is_row_of_diagrams

MIN_LINES, MAX_LINES = 4, 7
SCORE_LINES = 5
MIN_STAFF_WIDTH = 6.5  # in line distances: a chord diagram is a comb of lines too, but only about four wide
INK_DARKNESS = 55  # darkness from which a pixel counts as ink of a system (staff lines are fainter and need not)
LINE_DARKNESS = 22  # a grey line of 0.8 px that straddles two rows is this faint
_LONG_RUN_PX, _SHORT_RUN_PX = 21, 4
_LEAST_SOLID = 0.2  # of the columns of a line that show ink; digits count too
_MIN_DISTANCE_PX, _MAX_DISTANCE_PX = 4.5, 90.0


@dataclass(frozen=True)
class Staff:
    """Parallel lines of one staff (continuous pixels of the upright page).

    Attributes:
        line_ys: Centres of the lines, from the top.
        x0: Left end of the lines.
        x1: Right end of the lines.
        solid: Smallest share of a line that is inked: near 1 for score staves, less where digits interrupt tab lines.
    """

    line_ys: tuple[float, ...]
    x0: float
    x1: float
    solid: float

    @property
    def distance_px(self) -> float:
        """Mean distance between neighbouring lines."""
        return (self.line_ys[-1] - self.line_ys[0]) / (len(self.line_ys) - 1)


def on_white(grey: np.ndarray) -> np.ndarray:
    """Same picture with dark ink on white: inverts dark pages, evens out shadows, stretches faint ink.

    Clean pictures come back unchanged (the same array).
    """
    step = max(1, min(grey.shape) // 200)
    sample = grey[::step, ::step]
    if np.bincount(sample.ravel(), minlength=256).argmax() < 110 and np.median(sample) < 128:
        grey, sample = 255 - grey, 255 - sample
    height, width = grey.shape
    small = cv2.resize(grey, (max(1, width // 8), max(1, height // 8)), interpolation=cv2.INTER_AREA)
    if min(small.shape) >= 8:
        paper = cv2.dilate(small, np.ones((7, 7), np.uint8))
        low, high = np.percentile(paper, (2, 98))
        if high - low > 14 or high < 249:
            paper = cv2.GaussianBlur(paper, (0, 0), 4)
            paper = cv2.resize(paper, (width, height), interpolation=cv2.INTER_LINEAR)
            grey = cv2.divide(grey, np.maximum(paper, 1), scale=255)
            sample = grey[::step, ::step]
    darkest = float(np.percentile(sample, 0.3))
    if darkest > 110 and darkest < 235:
        table = np.clip((np.arange(256) - darkest) * 255.0 / (250.0 - darkest), 0, 255).astype(np.uint8)
        grey = table[grey]
    return grey


def open_rows(darkness: np.ndarray, length: int) -> np.ndarray:
    """Keeps what is dark over `length` pixels to the side."""
    kernel = np.ones((1, length), np.uint8)
    return cv2.morphologyEx(darkness, cv2.MORPH_OPEN, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)


def above_paper(page: np.ndarray) -> np.ndarray:
    """Darkness of ink over that of what it stands on: shadows, grain, a desk around the paper, frames of windows.

    Nothing that is thinner than 40 pixels belongs to the ground. Clean pages lose nothing.

    Args:
        page: `(H, W)` uint8, dark ink on white.

    Returns:
        `(H, W)` uint8, 0 = ground.
    """
    darkness = 255 - page
    height, width = page.shape
    small = cv2.resize(darkness, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    ground = cv2.morphologyEx(small, cv2.MORPH_OPEN, np.ones((11, 11), np.uint8), borderType=cv2.BORDER_REPLICATE)
    if not ground.any():
        return darkness
    return cv2.subtract(darkness, cv2.resize(ground, (width, height), interpolation=cv2.INTER_LINEAR))


def straighten(image: np.ndarray, quarter_turns: int, angle_degrees: float) -> np.ndarray:
    """Turns a page: first `quarter_turns` times 90 degrees anticlockwise, then back by the skew angle, on white.

    The turned page is larger where needed; nothing is cut.
    """
    if quarter_turns % 4:
        image = np.ascontiguousarray(np.rot90(image, quarter_turns))
    if angle_degrees == 0.0:
        return image
    matrix, size = turned_back(image.shape, angle_degrees)
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderValue=255)


def turned_back(shape: tuple[int, ...], angle_degrees: float) -> tuple[np.ndarray, tuple[int, int]]:
    """How `straighten` takes a skew out: a `(2, 3)` matrix of pixel indices, the new `(width, height)`."""
    height, width = shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle_degrees, 1.0)
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    new_width, new_height = int(np.ceil(width * cos + height * sin)), int(np.ceil(height * cos + width * sin))
    matrix[0, 2] += (new_width - width) / 2
    matrix[1, 2] += (new_height - height) / 2
    return matrix, (new_width, new_height)


def lies_on_its_side(page: np.ndarray) -> bool:
    """Whether long straight strokes run down the page rather than across."""
    darkness = 255 - page
    across, down = (
        int(np.count_nonzero(open_rows(np.ascontiguousarray(view), 2 * _LONG_RUN_PX) > LINE_DARKNESS))
        for view in (darkness, darkness.T)
    )
    return down > 2 * across


class _Rows:
    """Row statistics of one page that the staff search asks for again and again."""

    def __init__(self, page: np.ndarray) -> None:
        self.darkness = above_paper(page)
        self.height, self.width = page.shape
        self.long = open_rows(self.darkness, _LONG_RUN_PX) > LINE_DARKNESS
        self.profile = self.long.sum(axis=1).astype(np.float64)
        self.weight = (self.darkness * self.long).sum(axis=1, dtype=np.float64)
        self._short: np.ndarray | None = None

    @property
    def short(self) -> np.ndarray:
        if self._short is None:
            self._short = open_rows(self.darkness, _SHORT_RUN_PX) > LINE_DARKNESS
        return self._short

    def near(self, y: float, reach: int) -> np.ndarray:
        """Columns where a short run lies within `reach` rows of row centre `y`."""
        row = int(y)
        return np.asarray(self.short[max(0, row - reach) : row + reach + 1].any(axis=0))

    def peaks(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres (continuous y) and strengths (pixels) of the rows that could be staff lines."""
        profile = self.profile
        floor = max(30.0, 0.02 * self.width)
        padded = np.pad(profile, 1)
        is_top = (profile >= floor) & (profile >= padded[:-2]) & (profile > padded[2:])
        centres: list[float] = []
        strengths: list[float] = []
        for row in np.flatnonzero(is_top):
            low = high = int(row)
            while low > 0 and row - low < 12 and profile[low - 1] > 0.5 * profile[row]:
                low -= 1
            while high < self.height - 1 and high - row < 12 and profile[high + 1] > 0.5 * profile[row]:
                high += 1
            # A thin line lies over two rows, unequally dark: counting both alike would shift it by half a pixel.
            weights = self.weight[low : high + 1]
            centre = float((np.arange(low, high + 1) + 0.5) @ weights / weights.sum())
            if centres and centre - centres[-1] < 1.5:
                if profile[row] <= strengths[-1]:
                    continue
                centres.pop()
                strengths.pop()
            centres.append(centre)
            strengths.append(float(profile[row]))
        return np.array(centres), np.array(strengths)


def _extent(rows: _Rows, ys: list[float], distance: float) -> tuple[int, int] | None:
    """Longest stretch of columns where at least two of the lines are there, gaps up to 3.5 line distances closed."""
    bands = [rows.near(y, 1) for y in ys]
    count = np.sum(bands, axis=0)
    # Beside a staff may stand what is dark from the first line to the last: the frame of a window, the rim of a photo.
    gaps = [int(y + 0.5 * distance) for y in ys[:-1]]
    count[(rows.long[gaps] & (rows.darkness[gaps] > INK_DARKNESS)).all(axis=0)] = 0
    present = np.flatnonzero(count >= 2)
    if present.size == 0:
        return None
    breaks = np.flatnonzero(np.diff(present) > max(3.5 * distance, _LONG_RUN_PX))
    starts = present[np.r_[0, breaks + 1]]
    ends = present[np.r_[breaks, present.size - 1]] + 1
    longest = int((ends - starts).argmax())
    start, end = int(starts[longest]), int(ends[longest])
    # At its ends a staff shows most of its lines over some length; a name written beside it does not.
    needed = min(4, int(np.ceil(0.7 * len(ys))))
    long = np.sum([rows.long[max(0, int(y) - 1) : int(y) + 2, start:end].any(axis=0) for y in ys], axis=0)
    full = np.flatnonzero(long >= needed)
    if full.size == 0:
        return None
    left, right = start + int(full[0]), start + int(full[-1]) + 1
    # Crowded digits leave no long run near an end, yet two of the lines nearly everywhere; grain of paper does neither.
    if left - start >= 3 * distance and (count[start:left] >= 2).mean() > 0.5:
        left = start
    if end - right >= 3 * distance and (count[right:end] >= 2).mean() > 0.5:
        right = end
    return left, right


def _is_line(rows: _Rows, y: float, x0: int, x1: int, distance: float) -> bool:
    """Whether a weak row is a line: it reaches both ends of the staff, which no ledger line or beam does."""
    if y < 1 or y > rows.height - 1:
        return False
    reach = 1 if distance < 16 else 2
    row = rows.near(y, reach)[x0:x1]
    below = rows.near(y + 0.5 * distance, 0)[x0:x1]
    if not (row.mean() > 0.15 and row.mean() > below.mean()):
        return False
    edge = max(3, int(0.8 * distance))
    if row[:edge].mean() > 0.6 and row[-edge:].mean() > 0.6:
        return True
    # Seen aslant, lines begin and end one after the other; what goes on above and below is a clef or a bar line.
    alone = row & ~below & ~rows.near(y - 0.5 * distance, 0)[x0:x1]
    near = edge + int(min(2 * edge, 0.1 * row.size))
    sides = (np.convolve(side, np.ones(edge), "valid").max() for side in (alone[:near], alone[-near:]))
    return bool(alone.mean() > 0.35) and all(longest > 0.6 * edge for longest in sides)


def _comb(centres: np.ndarray, start: int, second: int) -> list[float] | None:
    """Follows equal steps downwards from two neighbouring peaks, then confirms weak lines on both sides."""
    ys = [float(centres[start]), float(centres[second])]
    while len(ys) <= 2 * MAX_LINES:  # ledger lines lengthen the comb; they are dropped later
        distance = (ys[-1] - ys[0]) / (len(ys) - 1)
        nearest = int(np.abs(centres - (ys[-1] + distance)).argmin())
        # Lines drawn on whole pixels, 6.5 apart, lie 6, 7, 6, 7 ... apart: two of them mislead by a whole pixel.
        reach = 1.05 if len(ys) == 2 else 0.8
        if abs(centres[nearest] - ys[-1] - distance) > max(reach, 0.09 * distance):
            break
        ys.append(float(centres[nearest]))
    return ys if 3 <= len(ys) <= 2 * MAX_LINES else None


def _grow(rows: _Rows, ys: list[float], extent: tuple[int, int]) -> list[float]:
    """Adds weak lines above and below, drops ends that are no lines."""
    distance = (ys[-1] - ys[0]) / (len(ys) - 1)
    while len(ys) > 2 and not _is_line(rows, ys[0], *extent, distance):
        ys = ys[1:]
    while len(ys) > 2 and not _is_line(rows, ys[-1], *extent, distance):
        ys = ys[:-1]
    while len(ys) <= MAX_LINES and _is_line(rows, ys[0] - distance, *extent, distance):
        ys = [ys[0] - distance, *ys]
    while len(ys) <= MAX_LINES and _is_line(rows, ys[-1] + distance, *extent, distance):
        ys = [*ys, ys[-1] + distance]
    return ys


def _skips_lines(ys: list[float], centres: np.ndarray, strengths: np.ndarray) -> bool:
    """Whether strong rows lie between the teeth of a comb: then it jumps from staff to staff."""
    distance = (ys[-1] - ys[0]) / (len(ys) - 1)
    inside = (centres > ys[0]) & (centres < ys[-1])
    phase = np.abs((centres - ys[0]) / distance - np.round((centres - ys[0]) / distance))
    on_comb = phase < 0.2
    usual = float(np.median(strengths[inside & on_comb])) if (inside & on_comb).any() else 0.0
    return bool((strengths[inside & ~on_comb] > 0.5 * usual).sum() >= 2)


def _is_thick(rows: _Rows, ys: list[float], extent: tuple[int, int]) -> bool:
    """Whether the lines fill much of their spacing, as the beams of fast notes and the grain of photos do."""
    distance = (ys[-1] - ys[0]) / (len(ys) - 1)
    on = off = 0
    for y in ys:
        on += int(rows.long[int(y), extent[0] : extent[1]].sum())
        for side in (y - 0.3 * distance, y + 0.3 * distance):
            off += int(rows.long[min(rows.height - 1, max(0, int(side))), extent[0] : extent[1]].sum())
    area = rows.darkness[int(ys[0]) : int(ys[-1]) + 1, extent[0] : extent[1]]
    return off > 0.7 * on or float((area > INK_DARKNESS).mean()) > 0.5  # noise and pictures are dark all over


def _refined(rows: _Rows, ys: list[float], extent: tuple[int, int]) -> list[float]:
    """Line centres from the darkness around them, then pulled onto the even grid that all lines share."""
    distance = (ys[-1] - ys[0]) / (len(ys) - 1)
    reach = max(1, round(0.22 * distance))
    x0, x1 = extent
    found = []
    for y in ys:
        low, high = max(0, int(y) - reach), min(rows.height, int(y) + reach + 1)
        columns = rows.long[low:high, x0:x1].any(axis=0)  # long runs leave out digits; crowded lines have none
        if columns.sum() < 3 * distance:
            columns = rows.short[low:high, x0:x1].any(axis=0)
        # The median over the columns sees the line alone, with its faint outer row; stems and letters do not count.
        band = rows.darkness[low:high, x0:x1][:, columns]
        weights = np.median(band, axis=1) if band.size else np.zeros(1)
        total = weights.sum()
        found.append(float((np.arange(low, high) + 0.5) @ weights / total) if total > 0 else y)
    steps = np.arange(len(found))
    slope, start = np.polyfit(steps, found, 1)
    return [float(start + slope * k) for k in steps]


def _solid(rows: _Rows, ys: list[float], extent: tuple[int, int]) -> float:
    """Share of the columns in which the emptiest line shows ink."""
    reach = 1
    x0, x1 = extent
    shares = []
    for y in ys:
        band = rows.darkness[max(0, int(y) - reach) : int(y) + reach + 1, x0:x1].max(axis=0)
        shares.append(float((band > LINE_DARKNESS).mean()))
    return min(shares)


def _without_shared(candidate: list[float], others: list[list[float]]) -> list[float]:
    """A comb without the end line that belongs to a score staff, when the staves stand one line distance apart."""
    distance = (candidate[-1] - candidate[0]) / (len(candidate) - 1)
    for ys in others:
        step = (ys[-1] - ys[0]) / (len(ys) - 1)
        if len(ys) != SCORE_LINES or step > 0.92 * distance or len(candidate) <= MIN_LINES:
            continue
        if abs(ys[-1] - candidate[0]) < 0.15 * distance:
            candidate = candidate[1:]
        elif abs(ys[0] - candidate[-1]) < 0.15 * distance:  # the page stands on its head
            candidate = candidate[:-1]
    return candidate


def find_staves(page: np.ndarray) -> list[Staff]:
    """All staves of four to seven lines on an upright page, from the top.

    Args:
        page: `(H, W)` uint8, dark ink on white.
    """
    if min(page.shape) < 20:
        return []
    rows = _Rows(page)
    centres, strengths = rows.peaks()
    candidates: list[tuple[float, list[float], tuple[int, int]]] = []
    for start in range(len(centres)):
        for second in range(start + 1, min(start + 4, len(centres))):
            distance = centres[second] - centres[start]
            if not _MIN_DISTANCE_PX <= distance <= _MAX_DISTANCE_PX:
                continue
            ys = _comb(centres, start, second)
            if ys is None:
                continue
            distance = (ys[-1] - ys[0]) / (len(ys) - 1)
            extent = _extent(rows, ys, distance)
            if extent is None or extent[1] - extent[0] < MIN_STAFF_WIDTH * distance:
                continue
            for _ in range(2):  # ledger lines can shorten the first extent; the grown staff shows the whole
                ys = _grow(rows, ys, extent)
                extent = _extent(rows, ys, distance) or extent
            plausible = MIN_LINES <= len(ys) <= MAX_LINES and not _skips_lines(ys, centres, strengths)
            plausible = plausible and _solid(rows, ys, extent) > _LEAST_SOLID and not _is_thick(rows, ys, extent)
            if plausible and not is_row_of_diagrams(rows.darkness, ys, extent, LINE_DARKNESS):
                weight = sum(float(rows.profile[max(0, int(y) - 1) : int(y) + 2].max(initial=0)) for y in ys)
                candidates.append((weight, ys, extent))
    combs = [ys for _, ys, _ in candidates]
    candidates = [(weight, _without_shared(ys, combs), extent) for weight, ys, extent in candidates]
    staves: list[Staff] = []
    for _, ys, extent in sorted(candidates, key=lambda c: -c[0]):
        distance = (ys[-1] - ys[0]) / (len(ys) - 1)
        if any(
            ys[0] < s.line_ys[-1] + 0.5 * distance
            and s.line_ys[0] < ys[-1] + 0.5 * distance
            and extent[0] < s.x1
            and s.x0 < extent[1]
            for s in staves
        ) or any(are_ledger_lines(ys, extent, s.line_ys, (s.x0, s.x1)) for s in staves):
            continue
        ys = _refined(rows, ys, extent)
        staves.append(Staff(tuple(ys), float(extent[0]), float(extent[1]), _solid(rows, ys, extent)))
    return sorted(staves, key=lambda s: s.line_ys[0])
