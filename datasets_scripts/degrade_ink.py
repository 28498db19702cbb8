"""Degradations of ink, paper and light. Each changes a sheet in place; strength goes from 0 to 1."""

from __future__ import annotations

import cv2
import numpy as np

from .degrade_sheet import Sheet, smooth_noise

_PAPERS = ((250, 242, 215), (240, 228, 190), (255, 250, 200), (205, 230, 250), (250, 210, 215), (215, 240, 205),
           (235, 235, 230), (222, 205, 170))  # fmt: skip
_SCREENS = (((24, 26, 30), (225, 228, 232)), ((0, 0, 0), (255, 255, 255)), ((30, 34, 48), (200, 215, 240)),
            ((38, 32, 28), (240, 225, 200)), ((18, 18, 18), (120, 220, 150)))  # fmt: skip


# ------------------------------------------------------------------ paper
def paper(sheet: Sheet, strength: float) -> None:
    """Grain, cloudiness and specks of paper."""
    rng, shape = sheet.rng, (sheet.height, sheet.width)
    clouds = smooth_noise(*shape, sheet.unit * rng.uniform(3, 12), rng) * 0.10
    grain = rng.standard_normal(shape).astype(np.float32) * 0.02
    sheet.shade(1 - strength * (0.03 + np.abs(clouds) + grain))


def coloured_paper(sheet: Sheet, strength: float) -> None:
    """Cream, blue, pink, green or browned paper."""
    colour = np.array(_PAPERS[sheet.rng.integers(len(_PAPERS))], dtype=np.float32) / 255
    full = 1 - (1 - colour) * (0.5 + strength)
    sheet.shade(np.broadcast_to(np.clip(full, 0.25, 1), (sheet.height, sheet.width, 3)))


def bleed_through(sheet: Sheet, strength: float) -> None:
    """The other side of the leaf shines through, mirrored and soft."""
    rng = sheet.rng
    back = cv2.flip(sheet.grey(), 1 if rng.random() < 0.7 else -1)
    back = np.roll(back, (int(rng.integers(-3, 4) * sheet.unit), int(rng.integers(0, sheet.width))), axis=(0, 1))
    back = cv2.GaussianBlur(back, (0, 0), max(0.6, sheet.unit * 0.12))
    sheet.shade(1 - (0.08 + 0.27 * strength) * (1 - back.astype(np.float32) / 255))


def dirt(sheet: Sheet, strength: float) -> None:
    """Specks, hairs and smudges."""
    rng = sheet.rng
    mask = np.zeros((sheet.height, sheet.width), dtype=np.float32)
    for _ in range(rng.poisson(4 + 40 * strength)):
        place = tuple(int(v) for v in rng.uniform(0, 1, 2) * (sheet.width, sheet.height))
        cv2.circle(mask, place, int(rng.choice((0, 0, 1, 1, 2))), float(rng.uniform(0.3, 0.9)), -1, cv2.LINE_AA)
    for _ in range(rng.poisson(2 * strength)):
        start = rng.uniform(0, 1, 2) * (sheet.width, sheet.height)
        walk = start + np.cumsum(rng.normal(0, sheet.unit * 0.35, (12, 2)) + rng.normal(0, 2, 2), axis=0)
        cv2.polylines(mask, [walk.astype(np.int32)], False, float(rng.uniform(0.3, 0.7)), 1, cv2.LINE_AA)
    sheet.shade(1 - mask)


# ------------------------------------------------------------------ ink
def ink_bleed(sheet: Sheet, strength: float) -> None:
    """Ink that runs into the paper: thicker, ragged strokes."""
    rng = sheet.rng
    size = max(0.5, sheet.unit * 0.06)
    soft = cv2.GaussianBlur(sheet.pixels, (0, 0), size).astype(np.float32)
    ragged = smooth_noise(sheet.height, sheet.width, 2.5, rng) * 30
    ragged = ragged if sheet.pixels.ndim == 2 else ragged[..., None]
    dark = np.clip((soft - 128 + ragged) * 2.2 + 128 - 55 * strength, 0, 255)
    mixed = sheet.pixels * (1 - strength) + np.minimum(dark, sheet.pixels) * strength
    sheet.pixels = mixed.astype(np.uint8)


def faded_ink(sheet: Sheet, strength: float) -> None:
    """Little toner: grey ink, thinner in patches."""
    rng = sheet.rng
    patches = smooth_noise(sheet.height, sheet.width, sheet.unit * rng.uniform(2, 8), rng)
    lost = strength * np.clip(0.35 + 0.35 * patches, 0, 0.62)
    lost = lost if sheet.pixels.ndim == 2 else lost[..., None]
    white = float(np.percentile(sheet.pixels, 95))
    sheet.pixels = (sheet.pixels + (white - sheet.pixels) * lost).clip(0, 255).astype(np.uint8)


def threshold(sheet: Sheet, strength: float) -> None:
    """One bit a pixel, with a threshold that the light makes uneven."""
    grey = cv2.GaussianBlur(sheet.grey(), (0, 0), 0.3 + 0.25 * strength).astype(np.float32)
    hills = smooth_noise(sheet.height, sheet.width, sheet.unit * 8, sheet.rng)
    low, high = np.percentile(grey, (1, 90))
    level = low + (high - low) * (0.74 + 0.08 * strength * hills)  # staff lines are often printed in grey
    sheet.pixels = np.where(grey > level, 255, 0).astype(np.uint8)


def fax_lines(sheet: Sheet, strength: float) -> None:
    """Rows that were lost or printed twice, and pepper."""
    rng = sheet.rng
    for y in np.flatnonzero(rng.random(sheet.height) < 0.012 * strength):
        sheet.pixels[y] = sheet.pixels[max(int(y) - 1, 0)] if rng.random() < 0.7 else 255
    sheet.pixels[rng.random((sheet.height, sheet.width)) < 0.004 * strength] = 0


# ------------------------------------------------------------------ light
def uneven_light(sheet: Sheet, strength: float) -> None:
    """A lamp on one side, darker corners, slow stains of light."""
    rng, height, width = sheet.rng, sheet.height, sheet.width
    angle = rng.uniform(0, 2 * np.pi)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None] * np.float32(np.cos(angle))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    light = (x + y) * rng.uniform(0.1, 0.35) + smooth_noise(height, width, max(width, height) / 2.5, rng) * 0.12
    sheet.shade(1 - strength * (0.18 - light))
    if rng.random() < 0.6:
        warm = np.array(((1.0, 0.95, 0.84), (0.90, 0.96, 1.0), (1.0, 0.98, 0.93))[rng.integers(3)], dtype=np.float32)
        sheet.shade(np.broadcast_to(1 - strength * (1 - warm), (height, width, 3)))


def shadow(sheet: Sheet, strength: float) -> None:
    """The shadow of a hand, an arm or a phone: a soft-edged shape."""
    rng, height, width = sheet.rng, sheet.height, sheet.width
    mask = np.zeros((height, width), dtype=np.float32)
    for _ in range(int(rng.integers(1, 3))):
        start = rng.uniform(-0.2, 1.0) * width
        edge = start + np.cumsum(rng.uniform(0.03, 0.25, 2)) * width
        slope = rng.uniform(-0.6, 0.6) * height
        shape = [(start, 0), (edge[0], 0), (edge[1] + slope, height), (start + slope, height)]
        cv2.fillPoly(mask, [np.array(shape, dtype=np.int32)], float(rng.uniform(0.5, 1.0)))
    mask = cv2.blur(mask, (int(sheet.unit * rng.uniform(0.5, 5)) | 1,) * 2)
    sheet.shade(1 - (0.12 + 0.45 * strength) * mask)


def glare(sheet: Sheet, strength: float) -> None:
    """A lamp mirrored on glossy paper; what lies under it keeps a third of its contrast at least."""
    rng = sheet.rng
    x = (np.arange(sheet.width, dtype=np.float32) - rng.uniform(0, sheet.width)) / (sheet.unit * rng.uniform(4, 14))
    y = (np.arange(sheet.height, dtype=np.float32) - rng.uniform(0, sheet.height)) / (sheet.unit * rng.uniform(2, 7))
    spot = np.exp(-(x[None] ** 2 + y[:, None] ** 2)) * 0.66 * strength
    spot = spot if sheet.pixels.ndim == 2 else spot[..., None]
    sheet.pixels = (sheet.pixels + (255 - sheet.pixels) * spot).astype(np.uint8)


def exposure(sheet: Sheet, strength: float) -> None:
    """Too dark or too light, flat or hard."""
    rng = sheet.rng
    contrast = 1 + strength * rng.uniform(-0.5, 0.15)
    level = strength * rng.uniform(-60, 25)
    gamma = float(np.exp(strength * rng.uniform(-0.45, 0.45)))
    table = 255 * (np.arange(256, dtype=np.float32) / 255) ** gamma
    table = (table - 160) * contrast + 160 + level
    sheet.pixels = cv2.LUT(sheet.pixels, np.clip(table, 0, 255).astype(np.uint8))


def dark_mode(sheet: Sheet, strength: float) -> None:
    """Light ink on a dark screen."""
    del strength  # there is no half of it
    ground, ink = (np.array(c, dtype=np.float32) for c in _SCREENS[sheet.rng.integers(len(_SCREENS))])
    part = sheet.grey().astype(np.float32)[..., None] / 255
    sheet.pixels = (ink + (ground - ink) * part).astype(np.uint8)


def moire(sheet: Sheet, strength: float) -> None:
    """A screen seen by a camera: the stripes of its grid, in colour."""
    rng = sheet.rng
    x, y = np.meshgrid(np.arange(sheet.width, dtype=np.float32), np.arange(sheet.height, dtype=np.float32))
    bend = smooth_noise(sheet.height, sheet.width, max(sheet.width, sheet.height) / 3, rng) * rng.uniform(2, 9)
    factor = np.empty((sheet.height, sheet.width, 3), dtype=np.float32)
    angle, length = rng.uniform(0, np.pi), rng.uniform(3, 16)
    for channel in range(3):
        turn = np.float32(angle + 0.05 * channel)
        wave = np.sin((x * np.cos(turn) + y * np.sin(turn)) * np.float32(2 * np.pi / length) + bend + channel)
        factor[..., channel] = 1 + 0.13 * strength * wave
    factor *= (1 - 0.10 * strength * (y % 3 < 1))[..., None]
    sheet.shade(factor * np.array((0.94, 0.98, 1.04), dtype=np.float32))


# ------------------------------------------------------------------ lens, sensor, file
def blur(sheet: Sheet, strength: float) -> None:
    """Out of focus, or moved; less than a quarter of the distance of two lines."""
    rng = sheet.rng
    reach = strength * rng.uniform(0.5, 1.0) * 0.14 * min(sheet.unit, 14)
    kind = rng.random()
    if kind < 0.5:
        sheet.pixels = cv2.GaussianBlur(sheet.pixels, (0, 0), max(reach, 0.2))
        return
    size = 2 * max(1, int(np.ceil(2 * reach))) + 1
    kernel = np.zeros((size, size), dtype=np.float32)
    if kind < 0.75:
        cv2.circle(kernel, (size // 2, size // 2), max(1, int(1.5 * reach)), 1.0, -1, cv2.LINE_AA)
    else:
        way = np.array([np.cos(a := rng.uniform(0, np.pi)), np.sin(a)]) * 2 * reach
        ends = [tuple(round(float(v)) for v in size // 2 + sign * way) for sign in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA)
    sheet.pixels = cv2.filter2D(sheet.pixels, -1, kernel / kernel.sum())


def noise(sheet: Sheet, strength: float) -> None:
    """A sensor in little light: grains of one to two pixels, in colour."""
    rng = sheet.rng
    grain = rng.standard_normal(sheet.pixels.shape, dtype=np.float32)
    if rng.random() < 0.5:
        grain = cv2.GaussianBlur(grain, (0, 0), 0.8) * 2.2
    spoilt = sheet.pixels + grain * np.float32(2 + 20 * strength * rng.uniform(0.5, 1.0))
    sheet.pixels = np.clip(spoilt, 0, 255).astype(np.uint8)


def jpeg(sheet: Sheet, strength: float) -> None:
    """Saved as JPEG, once or twice."""
    rng = sheet.rng
    for _ in range(1 if rng.random() < 0.7 else 2):
        quality = int(np.clip(92 - 74 * strength * rng.uniform(0.6, 1.0), 14, 95))
        done, data = cv2.imencode(".jpg", sheet.pixels[..., ::-1] if sheet.pixels.ndim == 3 else sheet.pixels,
                                  [cv2.IMWRITE_JPEG_QUALITY, quality])  # fmt: skip
        back = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if done else None
        if back is not None:
            sheet.pixels = np.ascontiguousarray(back[..., ::-1]) if back.ndim == 3 else back


def sharpen(sheet: Sheet, strength: float) -> None:
    """A phone's own sharpening: bright rims."""
    soft = cv2.GaussianBlur(sheet.pixels, (0, 0), 1.2)
    sheet.pixels = cv2.addWeighted(sheet.pixels, 1 + 1.4 * strength, soft, -1.4 * strength, 0)
