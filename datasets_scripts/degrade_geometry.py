"""Degradations that move things: camera angle, curled pages, crumples, scanners, cropped and shrunk pictures.

Each takes a sheet and a strength in [0, 1] and changes the sheet in place, points too.
"""

from __future__ import annotations

import cv2
import numpy as np

from .degrade_sheet import PointMap, Sheet, Warp, smooth_noise

LOWEST_LINE_PX = 5.0  # no person reads tab with less between its lines
_DESKS = ((70, 50, 35), (40, 40, 44), (120, 95, 70), (150, 150, 148), (30, 45, 60), (200, 190, 175))


def photograph(sheet: Sheet, strength: float) -> None:
    """A page seen by a camera: slanted, turned, a little bent; sometimes with the desk around it."""
    rng, s = sheet.rng, strength * sheet.geometry
    warp = Warp()
    _slant(warp, sheet, s)
    if rng.random() < 0.5:
        warp.displace(_bulge(sheet, s))
    if rng.random() < 0.25 and strength > 0:
        margin = round(sheet.unit * rng.uniform(1, 4))
        sheet.pad(margin, margin, margin, margin)
        warp = Warp()
        _slant(warp, sheet, s)
        warp.apply(sheet, np.array(_DESKS[rng.integers(len(_DESKS))], dtype=float))
        return
    warp.apply(sheet)


def tilt(sheet: Sheet, strength: float) -> None:
    """Laid askew on a scanner."""
    warp = Warp()
    angle = np.radians(sheet.rng.normal(0, 1.2) * strength * sheet.geometry)
    warp.project(*_turned(sheet, angle))
    warp.apply(sheet)


def _turned(sheet: Sheet, angle: float) -> tuple[np.ndarray, np.ndarray]:
    corners = np.array([(0, 0), (sheet.width, 0), (sheet.width, sheet.height), (0, sheet.height)], dtype=float)
    middle = corners.mean(axis=0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return corners, (corners - middle) @ turn.T + middle


def _slant(warp: Warp, sheet: Sheet, s: float) -> None:
    rng = sheet.rng
    corners, moved = _turned(sheet, np.radians(rng.normal(0, 2.5) * s))
    # How far a corner may go is measured on the shorter side: a long strip would else be turned inside out.
    reach = np.array([min(0.04 * sheet.width, 0.35 * sheet.height), 0.16 * sheet.height]) * s
    warp.project(corners, moved + rng.uniform(-1, 1, (4, 2)) * reach)


def _bulge(sheet: Sheet, s: float) -> PointMap:
    """Paper that does not lie flat: slow waves along the staff."""
    rng = sheet.rng
    rise = rng.uniform(0.2, 0.9) * sheet.unit * s
    length, phase = rng.uniform(0.7, 2.0) * sheet.width, rng.uniform(0, 2 * np.pi)
    skew = rng.uniform(-0.3, 0.3) / max(sheet.height, 1)

    def offset(q: np.ndarray) -> np.ndarray:
        wave = rise * np.sin(2 * np.pi * q[:, 0] / length + phase) * (1 + skew * q[:, 1])
        return np.column_stack([np.zeros(len(q)), wave])

    return offset


def curl(sheet: Sheet, strength: float) -> None:
    """A thick book: lines bend and crowd towards the spine, which is darker."""
    rng, s = sheet.rng, strength * sheet.geometry
    left = rng.random() < 0.5
    drop = rng.uniform(0.6, 1.8) * sheet.unit * s
    width = float(sheet.width)
    reach = width * rng.uniform(0.15, 0.35)

    def offset(q: np.ndarray) -> np.ndarray:
        far = q[:, 0] if left else width - q[:, 0]
        near = np.exp(-np.maximum(far, 0) / reach)
        crowd = 0.25 * s * reach * near * (1 if left else -1)
        return np.column_stack([crowd, -drop * near])

    warp = Warp()
    warp.displace(offset)
    warp.apply(sheet)
    along = np.linspace(0, 1, sheet.width, dtype=np.float32)
    along = along if left else along[::-1]
    sheet.shade(np.repeat((1 - 0.6 * strength * np.exp(-along * width / reach * 2.5))[None], sheet.height, axis=0))


def crumple(sheet: Sheet, strength: float) -> None:
    """Folds: the paper breaks along straight lines, and each facet takes the light in its own way."""
    rng, s = sheet.rng, strength * sheet.geometry
    folds = []
    for _ in range(int(rng.integers(3, 9))):
        angle = rng.uniform(0, np.pi)
        normal = np.array([np.cos(angle), np.sin(angle)])
        place = normal @ (rng.uniform(0, 1, 2) * (sheet.width, sheet.height))
        folds.append((normal, place, rng.uniform(-1, 1), rng.uniform(3, 9) * sheet.unit))

    def offset(q: np.ndarray) -> np.ndarray:
        out = np.zeros_like(q)
        for normal, place, height, reach in folds:
            ridge = np.maximum(0, 1 - np.abs(q @ normal - place) / reach)
            out += np.outer(ridge * height * 0.22 * s * sheet.unit, (normal[1], abs(normal[0])))
        return out

    warp = Warp()
    warp.displace(offset)
    warp.apply(sheet)
    x, y = np.meshgrid(np.arange(sheet.width, dtype=np.float32), np.arange(sheet.height, dtype=np.float32))
    light = np.ones((sheet.height, sheet.width), dtype=np.float32)
    for normal, place, height, reach in folds:
        side = (x * np.float32(normal[0]) + y * np.float32(normal[1]) - np.float32(place)) / np.float32(reach)
        light -= np.float32(0.16 * strength * height) * np.clip(1 - np.abs(side), 0, 1) * np.sign(side)
        light -= np.float32(0.20 * strength) * np.exp(-np.square(side * reach / 1.5))
    sheet.shade(light)


def jitter_rows(sheet: Sheet, strength: float) -> None:
    """A feeder that slips: bands of rows are shifted sideways by a pixel or two."""
    rng = sheet.rng
    shift = np.round(smooth_noise(sheet.height, 1, sheet.unit * 2, rng)[:, 0] * 2 * strength).astype(int)
    for y in np.flatnonzero(shift):
        sheet.pixels[y] = np.roll(sheet.pixels[y], shift[y], axis=0)


def crop_margins(sheet: Sheet, strength: float) -> None:
    """Cut close to the ink, or with paper to spare; ink and points are never cut off."""
    rng, unit = sheet.rng, sheet.unit
    left, top, right, bottom = sheet.ink_box()
    if len(sheet.points):
        inside = sheet.points[np.isfinite(sheet.points).all(axis=1)]
        if len(inside):
            low, high = inside.min(axis=0), inside.max(axis=0)
            left, top = min(left, int(low[0])), min(top, int(low[1]))
            right, bottom = max(right, int(np.ceil(high[0]))), max(bottom, int(np.ceil(high[1])))
    room = [max(1, round(unit * (2 - 2 * strength) * rng.uniform(0.2, 2))) for _ in range(4)]
    box = [left - room[0], top - room[1], right + room[2], bottom + room[3]]
    more = [max(0, -box[1]), max(0, box[2] - sheet.width), max(0, box[3] - sheet.height), max(0, -box[0])]
    sheet.pad(*more)
    sheet.crop(box[0] + more[3], box[1] + more[0], box[2] + more[3], box[3] + more[0])


def shrink(sheet: Sheet, strength: float) -> None:
    """Fewer pixels, down to 5 between two lines at full strength; half of the time it is blown up again."""
    rng = sheet.rng
    now = sheet.unit
    lowest = LOWEST_LINE_PX if sheet.line_px else now * 0.45
    goal = max(lowest, now + (lowest - now) * strength * rng.uniform(0.75, 1.0))
    if goal >= now:
        return
    before = sheet.width
    sheet.resize(goal / now, (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.choice(3, p=(0.6, 0.15, 0.25))])
    if rng.random() < 0.5:
        how = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST)[rng.choice(3, p=(0.5, 0.4, 0.1))]
        sheet.resize(before / sheet.width, how)


__all__ = ["LOWEST_LINE_PX", "crop_margins", "crumple", "curl", "jitter_rows", "photograph", "shrink", "tilt"]
