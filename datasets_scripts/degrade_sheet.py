"""The sheet that degradations work on, and the warps that move its points along with its pixels.

Coordinates are continuous pixels: pixel `i` covers `[i, i + 1)`, so the middle of the first pixel is 0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

#: Maps `(N, 2)` points to `(N, 2)` points.
PointMap = Callable[[np.ndarray], np.ndarray]
_GRID_PX = 8  # warps are smooth: they are worked out on every 8th pixel and interpolated
_RIM_PX = 3
_ROUNDS = 25  # of the fixed-point search for where a point goes


@dataclass
class Sheet:
    """A picture that is being spoilt.

    Attributes:
        pixels: `(H, W)` or `(H, W, 3)` uint8 RGB.
        points: `(N, 2)` float64, x and y of what has to stay known.
        rng: Source of chance.
        line_px: Distance of two staff lines, or `None` where it is not known.
        geometry: Factor on all that moves points unevenly; 0 keeps straight lines straight and level.
    """

    pixels: np.ndarray
    points: np.ndarray
    rng: np.random.Generator
    line_px: float | None = None
    geometry: float = 1.0

    @property
    def height(self) -> int:
        """Rows."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.pixels.shape[1]

    @property
    def unit(self) -> float:
        """Distance of two staff lines in pixels, guessed from the height where it is not known."""
        return self.line_px or max(self.height / 16, 4.0)

    def colour(self) -> np.ndarray:
        """The pixels, made `(H, W, 3)`."""
        if self.pixels.ndim == 2:
            self.pixels = cv2.cvtColor(self.pixels, cv2.COLOR_GRAY2RGB)
        return self.pixels

    def grey(self) -> np.ndarray:
        """`(H, W)` copy in grey."""
        return self.pixels.copy() if self.pixels.ndim == 2 else cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY)

    def shade(self, factor: np.ndarray) -> None:
        """Multiplies by `(H, W)` or `(H, W, 3)`; a factor above 1 makes brighter."""
        if factor.ndim == 2 and self.pixels.ndim == 3:
            factor = factor[..., None]
        if factor.ndim == 3:
            self.colour()
        self.pixels = np.clip(self.pixels * factor.astype(np.float32), 0, 255).astype(np.uint8)

    def pad(self, top: int, right: int, bottom: int, left: int) -> None:
        """Adds paper of the colour that the corners have."""
        if not any((top, right, bottom, left)):
            return
        corners = self.pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
        value = np.median(corners.reshape(4, -1), axis=0)
        self.pixels = cv2.copyMakeBorder(
            self.pixels, top, bottom, left, right, cv2.BORDER_CONSTANT, value=tuple(map(float, value))
        )
        self.points = self.points + np.array((left, top), dtype=np.float64)

    def crop(self, left: int, top: int, right: int, bottom: int) -> None:
        """Keeps columns `left` to `right` and rows `top` to `bottom`, ends exclusive."""
        self.pixels = np.ascontiguousarray(self.pixels[top:bottom, left:right])
        self.points = self.points - np.array((left, top), dtype=np.float64)

    def resize(self, factor: float, how: int = cv2.INTER_AREA) -> None:
        """Changes the size of the picture, and of everything that is measured in it."""
        width, height = max(1, round(self.width * factor)), max(1, round(self.height * factor))
        self.points = self.points * (width / self.width, height / self.height)
        if self.line_px is not None:
            self.line_px *= height / self.height
        self.pixels = cv2.resize(self.pixels, (width, height), interpolation=how)

    def ink_box(self) -> tuple[int, int, int, int]:
        """`(left, top, right, bottom)` of all that is darker than the paper, ends exclusive; the sheet when blank."""
        grey = self.grey()
        dark = grey < int(np.percentile(grey, 90)) - 40
        rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
        if not rows.size:
            return 0, 0, self.width, self.height
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def smooth_noise(height: int, width: int, cell_px: float, rng: np.random.Generator) -> np.ndarray:
    """`(H, W)` float32 in [-1, 1]: soft hills about `cell_px` wide."""
    rows, columns = max(2, round(height / cell_px) + 1), max(2, round(width / cell_px) + 1)
    hills = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return np.clip(cv2.resize(hills, (width, height), interpolation=cv2.INTER_CUBIC), -1, 1)


class Warp:
    """Some moves one after the other, done to the pixels in one go so that they are interpolated only once."""

    def __init__(self) -> None:
        self.steps: list[tuple[PointMap, PointMap]] = []

    def project(self, source: np.ndarray, target: np.ndarray) -> None:
        """The projective map that brings four points to four others."""
        matrix = cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))
        back = np.linalg.inv(matrix)
        self.steps.append((lambda p: _projected(p, matrix), lambda p: _projected(p, back)))

    def displace(self, offset: PointMap) -> None:
        """Point `q` of the result comes from `q + offset(q)`; the offset changes by less than 1 a pixel."""

        def forward(p: np.ndarray) -> np.ndarray:
            q = p.copy()
            for _ in range(_ROUNDS):
                q = p - offset(q)
            return q

        self.steps.append((forward, lambda q: q + offset(q)))

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Where points go."""
        for step, _ in self.steps:
            points = step(points)
        return points

    def backward(self, points: np.ndarray) -> np.ndarray:
        """Where points come from."""
        for _, step in reversed(self.steps):
            points = step(points)
        return points

    def apply(self, sheet: Sheet, outside: np.ndarray | float | None = None) -> None:
        """Moves pixels and points; the result is as large as the moved sheet.

        Args:
            sheet: Changed in place.
            outside: What lies beside the sheet: a colour, or `None` for more of the same paper.
        """
        if not self.steps:
            return
        if outside is None:
            # Ink at the rim would be drawn out into stripes.
            sheet.pad(_RIM_PX, _RIM_PX, _RIM_PX, _RIM_PX)
        height, width = sheet.height, sheet.width
        across, down = np.linspace(0, width, 33), np.linspace(0, height, 17)
        rim = [(x, y) for x in across for y in (0.0, float(height))]
        rim += [(x, y) for y in down for x in (0.0, float(width))]
        moved = self.forward(np.array(rim))
        low, high = np.floor(moved.min(axis=0)), np.ceil(moved.max(axis=0))
        size = np.maximum(high - low, 2).astype(int)
        # A runaway perspective must not ask for a picture of any size.
        size = np.minimum(size, (4 * width + 64, 4 * height + 64))
        maps = _coarse_maps(self, low, size)
        border: dict[str, Any] = {"borderMode": cv2.BORDER_REPLICATE}
        if outside is not None:
            value = np.broadcast_to(np.asarray(outside, dtype=float), (3,))
            border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": tuple(value)}
        sheet.pixels = cv2.remap(sheet.pixels, maps[0], maps[1], cv2.INTER_CUBIC, **border)
        if len(sheet.points):
            sheet.points = self.forward(sheet.points) - low


def _projected(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    out = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return out[:, :2] / out[:, 2:]


def _coarse_maps(warp: Warp, low: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps for `cv2.remap`, which counts from the middle of the first pixel."""
    width, height = int(size[0]), int(size[1])
    columns, rows = width // _GRID_PX + 3, height // _GRID_PX + 3
    # Middles of blocks of pixels, one block more on each side: what `cv2.resize` interpolates between.
    x, y = np.meshgrid(np.arange(columns) - 0.5, np.arange(rows) - 0.5)
    grid = np.column_stack([x.ravel(), y.ravel()]) * _GRID_PX + low
    source = warp.backward(grid).reshape(rows, columns, 2).astype(np.float32) - np.float32(0.5)
    whole = cv2.resize(source, (columns * _GRID_PX, rows * _GRID_PX), interpolation=cv2.INTER_LINEAR)
    fine = whole[_GRID_PX : _GRID_PX + height, _GRID_PX : _GRID_PX + width]
    return np.ascontiguousarray(fine[..., 0]), np.ascontiguousarray(fine[..., 1])
