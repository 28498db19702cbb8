"""How staff lines slope: a page that lies askew, paper that waves, a book that curls, a camera that stood aslant.

    page -> thin_points -> skew_degrees (one angle for the whole page) -> bend_of (what is left, if lines stray)

Points of thin lines are cheap and tell both whether lines are level and how much a correction gains. A bend is told by
the slopes of lines: along a line the darkness does not change, so with the gradient `(gx, gy)` and the slope `s` of the
line `gx + s * gy = 0`. A slope that changes slowly over the page, `s = f(x) + v * g(x)` with `v` from -1 (top) to 1
(bottom), is fitted to many such places at once; its integral is how far the lines stray.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .page_lines import LINE_DARKNESS, open_rows, turned_back

_MAX_ANGLE_DEGREES = 6.0
_WIDTH_PX = 1600  # wider pages are looked at in this width
_MOST_POINTS = 12000
_MOST_SLOPES = 4000
_FEWEST_POINTS = 200
_STRIPS = 10  # columns of the page in which lines are level, however they stray
_LEVEL = 0.8  # how well the rows of the strips agree on a page without a bend
_GAIN = 1.03  # how much more the points must pile up on rows for a bend to be believed
_KNOTS = 10  # places across the page between which the slope changes evenly
_STIFF, _STIFF_FAN = 0.003, 0.01  # how little `f` and `g` may change from knot to knot
_NO_FAN = 0.0005  # pulls `g` to 0 where all lines lie at one height
_SLOPE_SPREAD = (0.08, 0.04, 0.03, 0.02)  # further off the fitted slope, a point counts less; one fit each


@dataclass(frozen=True)
class ThinPoints:
    """A sample of the pixels of thin lines.

    Attributes:
        xs: `(N,)` continuous pixels of the page.
        ys: The same; spread by chance over the height of the pixel.
        shape: `(H, W)` of the page.
        shrink: By how much the page was made smaller to find them.
    """

    xs: np.ndarray
    ys: np.ndarray
    shape: tuple[int, int]
    shrink: float

    def straightened(self, angle_degrees: float) -> ThinPoints:
        """The points on the page that `straighten` makes."""
        if angle_degrees == 0.0:
            return self
        matrix, (width, height) = turned_back(self.shape, angle_degrees)
        xs, ys = (matrix[:, :2] @ (np.stack([self.xs, self.ys]) - 0.5) + matrix[:, 2:]) + 0.5
        return ThinPoints(xs, ys, (height, width), self.shrink)


@dataclass(frozen=True)
class Bend:
    """How the lines of a page stray: ink that belongs at `(x, y)` lies `a[x] + v(y) * b[x]` lower.

    Attributes:
        a: `(W,)` float32, pixels; mean over the height.
        b: `(W,)` float32, pixels; what is added at the bottom and taken away at the top.
        height_px: Height of the bent page.
        margin_px: Rows that the flat page has more at the top, and at the bottom, so that nothing is cut.
    """

    a: np.ndarray
    b: np.ndarray
    height_px: int
    margin_px: int

    def flat_points(self, points: np.ndarray) -> np.ndarray:
        """Where points of the bent page lie on the flat one, `(N, 2)` continuous x and y."""
        xs, ys = np.array(points, dtype=np.float64).reshape(-1, 2).T
        at = np.arange(len(self.a)) + 0.5
        a, b = np.interp(xs, at, self.a), np.interp(xs, at, self.b)
        # Solves ys = flat + a + (2 * flat / height - 1) * b.
        flat = (ys - a + b) / (1 + 2 * b / self.height_px)
        return np.column_stack([xs, flat + self.margin_px])

    def flattened(self, page: np.ndarray) -> np.ndarray:
        """The page with level lines, `(H + 2 * margin_px, W)`, on white."""
        height, width = page.shape
        ys = np.arange(-self.margin_px, height + self.margin_px, dtype=np.float32)
        v = (2 * (ys + 0.5) / self.height_px - 1)[:, None]
        source = ys[:, None] + self.a[None] + v * self.b[None]
        columns = np.repeat(np.arange(width, dtype=np.float32)[None], len(ys), axis=0)
        return cv2.remap(page, columns, source.astype(np.float32), cv2.INTER_CUBIC, borderValue=255)


def _shrunk(page: np.ndarray) -> tuple[np.ndarray, float]:
    shrink = max(1.0, page.shape[1] / _WIDTH_PX)
    if shrink > 1:
        size = (int(page.shape[1] / shrink), int(page.shape[0] / shrink))
        page = cv2.resize(page, size, interpolation=cv2.INTER_AREA)
    return page, shrink


def _thin(darkness: np.ndarray, length: int = 9) -> np.ndarray:
    """Mask, four rows shorter at the top and at the bottom, of dark runs that are white four rows above and below.

    This keeps beams, text and pictures out.
    """
    runs = open_rows(darkness, length)
    return (runs[4:-4] > LINE_DARKNESS) & (darkness[:-8] < LINE_DARKNESS) & (darkness[8:] < LINE_DARKNESS)


def thin_points(page: np.ndarray) -> ThinPoints:
    """Pixels of thin lines, at most 12,000 of them.

    Args:
        page: `(H, W)` uint8, dark ink on white.
    """
    small, shrink = _shrunk(page)
    thin = _thin(255 - small)
    points = np.flatnonzero(thin)
    points = points[:: max(1, points.size // _MOST_POINTS)]
    ys, xs = np.divmod(points, thin.shape[1])
    # Whole rows would favour the angle 0, where all points of a line share one bin.
    ys = ys + 4.5 + np.random.default_rng(0).uniform(-0.5, 0.5, ys.shape)
    return ThinPoints((xs + 0.5) * shrink, ys * shrink, (page.shape[0], page.shape[1]), shrink)


def _sharpness(xs: np.ndarray, ys: np.ndarray, angles: np.ndarray, bin_px: float) -> np.ndarray:
    """How strongly points pile up on rows when the page is turned back by each angle."""
    scores = np.empty(len(angles))
    for i, angle in enumerate(angles):
        rows = (ys - xs * np.tan(np.radians(angle))) / bin_px
        rows = rows - rows.min()
        counts = np.bincount(rows.astype(np.int64))
        scores[i] = np.square(counts, dtype=np.float64).sum()
    return scores


def skew_degrees(points: ThinPoints) -> float:
    """Angle by which the staff lines fall to the right (clockwise on screen), within 6 degrees; 0 if unclear."""
    if points.xs.size < _FEWEST_POINTS:
        return 0.0
    xs, ys = (points.xs - points.shape[1] / 2) / points.shrink, points.ys / points.shrink
    coarse = np.arange(-_MAX_ANGLE_DEGREES, _MAX_ANGLE_DEGREES + 0.01, 0.2)
    best = float(coarse[_sharpness(xs[::2], ys[::2], coarse, 2.0).argmax()])
    fine = best + np.arange(-0.24, 0.25, 0.03)
    best = float(fine[_sharpness(xs, ys, fine, 1.0).argmax()])
    finest = best + np.arange(-0.03, 0.031, 0.01)
    scores = _sharpness(xs, ys, finest, 0.5)
    # Rows are whole numbers, so tiny angles tie: take the middle of the plateau, and no turning where it gains nothing.
    best = float(finest[scores >= 0.99 * scores.max()].mean())
    upright = float(_sharpness(xs, ys, np.zeros(1), 0.5)[0])
    return best if upright < 0.9 * scores.max() else 0.0


def _piled(xs: np.ndarray, ys: np.ndarray, width: int) -> tuple[float, float]:
    """How strongly points pile up on rows: over the whole page, and as if the rows of all strips agreed."""
    rows = (ys - ys.min()).astype(np.int64)
    strips = np.clip(xs * (_STRIPS / width), 0, _STRIPS - 1).astype(np.int64)
    counts = np.bincount(rows * _STRIPS + strips, minlength=(int(rows.max()) + 1) * _STRIPS).reshape(-1, _STRIPS)
    squares = np.square(counts, dtype=np.float64)
    used = np.count_nonzero(counts.sum(axis=0))
    return float(np.square(counts.sum(axis=1), dtype=np.float64).sum()), float(squares.sum() * used)


def bend_of(page: np.ndarray, points: ThinPoints) -> Bend | None:
    """How the lines of a page stray from level ones; `None` where they do not, or where it is unclear.

    Args:
        page: `(H, W)` uint8, dark ink on white, its skew taken out.
        points: Of this page.
    """
    if points.xs.size < _FEWEST_POINTS or page.shape[1] < 40:
        return None
    xs, ys = points.xs / points.shrink, points.ys / points.shrink
    before, best = _piled(xs, ys, round(points.shape[1] / points.shrink))
    if before > _LEVEL * best:
        return None
    bend = fitted_bend(page)
    flat = bend.flat_points(np.column_stack([points.xs, points.ys]))[:, 1] / points.shrink
    after, _ = _piled(xs, flat, round(points.shape[1] / points.shrink))
    return bend if after > _GAIN * before else None


def _slopes_seen(page: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places on thin lines, `xs` and `ys`, the slope there, and how clear it is (these sum to 1)."""
    darkness = 255 - page
    # The rims of a line have the slopes, its ridge has none.
    thin = cv2.dilate(_thin(darkness).astype(np.uint8), np.ones((3, 1), np.uint8))
    points = np.flatnonzero(thin)
    points = points[:: max(1, points.size // _MOST_SLOPES)]
    ys, xs = np.divmod(points, page.shape[1])
    soft = cv2.GaussianBlur(darkness.astype(np.float32), (0, 0), sigmaX=3, sigmaY=1)[3:-3]
    gx, gy = (cv2.Scharr(soft, cv2.CV_32F, dx, 1 - dx)[1:-1].ravel()[points].astype(np.float64) for dx in (1, 0))
    strong = gy * gy
    slope = -gx / np.where(np.abs(gy) < 1e-6, 1e-6, gy)
    return xs + 0.5, ys + 4.5, slope, strong / (strong.sum() + 1e-9)


def _stiffness() -> np.ndarray:
    step = np.diff(np.eye(_KNOTS), axis=0)
    even, zero = step.T @ step, np.zeros((_KNOTS, _KNOTS))
    fan = _STIFF_FAN * even + _NO_FAN * np.eye(_KNOTS)
    return np.block([[_STIFF * even, zero], [zero, fan]])


def fitted_bend(page: np.ndarray) -> Bend:
    """The bend that fits the slopes of thin lines best, believable or not.

    Args:
        page: `(H, W)` uint8, dark ink on white.
    """
    full_height, full_width = page.shape
    page, _ = _shrunk(page)
    height, width = page.shape
    xs, ys, seen, strong = _slopes_seen(page)
    place = xs / width * (_KNOTS - 1)
    hats = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(_KNOTS)))
    columns, at = np.arange(width) + 0.5, np.linspace(0, width, _KNOTS)
    stiff = _stiffness()
    slopes, a, b, flat = np.zeros(2 * _KNOTS), np.zeros(width), np.zeros(width), ys
    for spread in _SLOPE_SPREAD:
        basis = np.concatenate([hats, (2 * flat / height - 1)[:, None] * hats], axis=1)
        weight = strong / np.square(1 + np.square((seen - basis @ slopes) / spread))
        weighted = basis * (weight / (weight.sum() + 1e-12))[:, None]
        slopes = np.linalg.solve(basis.T @ weighted + stiff, weighted.T @ seen)
        a, b = (np.cumsum(np.interp(columns, at, part)) for part in np.split(slopes, 2))
        a, b = a - a[width // 2], b - b[width // 2]
        b = np.clip(b, -0.4 * height, 0.4 * height)  # the page may not be folded over itself
        here = xs.astype(np.int64)
        flat = (ys - a[here] + b[here]) / (1 + 2 * b[here] / height)
    full = np.arange(full_width) + 0.5
    a, b = (np.interp(full, columns * full_width / width, part) * (full_height / height) for part in (a, b))
    margin = int(np.ceil((np.abs(a) + np.abs(b)).max()))
    return Bend(a.astype(np.float32), b.astype(np.float32), full_height, margin)


__all__ = ["Bend", "ThinPoints", "bend_of", "fitted_bend", "skew_degrees", "thin_points"]
