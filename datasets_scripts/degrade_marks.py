"""What people and programs put on and around a staff: pens, words, chord names, video pictures.

Each function changes a sheet in place; strength goes from 0 to 1.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .degrade_sheet import Sheet, smooth_noise

_PENS = ((20, 20, 24), (60, 60, 66), (30, 50, 160), (190, 30, 40), (20, 120, 60))
_MARKERS = ((255, 250, 120), (180, 255, 170), (255, 190, 220), (170, 225, 255))
_HANDS = (cv2.FONT_HERSHEY_SCRIPT_SIMPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX, cv2.FONT_HERSHEY_COMPLEX_SMALL)
_ROOTS = ("C", "D", "E", "F", "G", "A", "B", "Bb", "Eb", "F#", "C#", "Ab")
_ENDINGS = ("", "", "", "m", "m", "7", "m7", "maj7", "sus4", "add9", "5", "/G", "dim", "6")
_SYLLABLES = ("la", "oh", "love", "the", "a-", "way", "in", "to", "night", "and", "you", "see", "morn-", "ing", "when",
              "I", "was", "young", "riv-", "er", "light", "down", "we", "go", "my", "heart", "yeah", "no", "more",
              "ain't", "time", "re-", "mem-", "ber", "blue", "sky", "for", "ev-", "road")  # fmt: skip
#: Words that mean nothing in notation: "p.m." by hand would be an instruction that the truth lacks.
_NOTES = (
    "slow!",
    "watch",
    "cut",
    "easy",
    "solo",
    "ok",
    "bridge",
    "check",
    "intro",
    "again",
    "verse",
    "ask Tom",
    "nice",
)


def _ink(sheet: Sheet, mask: np.ndarray, colour: tuple[int, int, int], cover: float) -> None:
    """Lays a colour on by a `(H, W)` uint8 mask; black on grey stays grey."""
    part = (mask.astype(np.float32) / 255 * cover)[..., None]
    pixels = sheet.colour()
    sheet.pixels = (pixels + (np.array(colour, dtype=np.float32) - pixels) * part).astype(np.uint8)


def _stroke(sheet: Sheet, points: np.ndarray, thick: float) -> np.ndarray:
    """Mask of a wobbling hand-drawn line through some points."""
    steps = max(8, len(points) * 6)
    at = np.linspace(0, len(points) - 1, steps)
    line = np.column_stack([np.interp(at, np.arange(len(points)), points[:, k]) for k in (0, 1)])
    shake = smooth_noise(steps, 2, 4, sheet.rng)[:, :2]
    line = line + shake * sheet.unit * 0.18
    mask = np.zeros((sheet.height, sheet.width), dtype=np.uint8)
    fixed = np.round(line * 8).astype(np.int32)
    cv2.polylines(mask, [fixed], False, 255, max(1, round(thick)), cv2.LINE_AA, 3)
    return mask


def handwriting(sheet: Sheet, strength: float) -> None:
    """Circles, underlines, arrows and short words by pen; they cross the staff as little as a player's do."""
    rng, unit = sheet.rng, sheet.unit
    left, top, right, bottom = sheet.ink_box()
    more = round(unit * rng.uniform(0.5, 2.5))
    sheet.pad(more, 0, more, 0)
    top, bottom = top + more, bottom + more
    for _ in range(int(rng.integers(1, 2 + round(3 * strength)))):
        colour = _PENS[rng.integers(len(_PENS))]
        x = rng.uniform(left, max(left + 1, right - 4 * unit))
        kind = rng.random()
        if kind < 0.3:
            angle = np.linspace(0, 2.1 * np.pi, 24)
            size = np.array([rng.uniform(1.2, 5), rng.uniform(1.0, 3.2)]) * unit
            middle = np.array([x, rng.uniform(top, bottom)])
            mask = _stroke(sheet, middle + np.column_stack([np.cos(angle), np.sin(angle)]) * size, unit * 0.1)
        elif kind < 0.55:
            y = rng.choice((top - 0.5 * unit, bottom + 0.3 * unit))
            line = np.array([(x, y), (x + rng.uniform(3, 12) * unit, y + rng.uniform(-0.5, 0.5) * unit)])
            mask = _stroke(sheet, line, unit * 0.12)
        elif kind < 0.7:
            tip = np.array([x, rng.choice((top, bottom))], dtype=float)
            tail = tip + np.array([rng.uniform(-3, 3), -2.0 if tip[1] == top else 2.0]) * unit
            barb = tip + (tail - tip) * 0.35 + np.array([0.5, 0]) * unit
            mask = _stroke(sheet, np.array([tail, tip, barb]), unit * 0.1)
        else:
            y = rng.choice((top - 0.2 * unit, bottom + 1.0 * unit))
            mask = np.zeros((sheet.height, sheet.width), dtype=np.uint8)
            word, font = str(rng.choice(_NOTES)), int(rng.choice(_HANDS))
            cv2.putText(mask, word, (int(x), int(y)), font, unit / 17, 255, max(1, round(unit / 11)), cv2.LINE_AA)
        _ink(sheet, mask, colour, rng.uniform(0.55, 0.95))


def highlighter(sheet: Sheet, strength: float) -> None:
    """A see-through band of marker over some bars."""
    rng = sheet.rng
    colour = np.array(_MARKERS[rng.integers(len(_MARKERS))], dtype=np.float32) / 255
    left, top, right, bottom = sheet.ink_box()
    x, y = rng.uniform(left, right), rng.uniform(top, bottom)
    line = np.array([(x, y), (x + rng.uniform(4, 20) * sheet.unit, y + rng.uniform(-1, 1) * sheet.unit)])
    mask = _stroke(sheet, line, sheet.unit * rng.uniform(1.5, 4)).astype(np.float32)[..., None] / 255
    sheet.shade(1 - mask * (1 - colour) * (0.6 + 0.4 * strength))


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(7.0, size))


def _words(sheet: Sheet, words: list[tuple[float, float, str]], size: float, grey: int) -> None:
    """Prints words at (x of their left, y of their top)."""
    page = Image.new("L", (sheet.width, sheet.height), 0)
    draw, font = ImageDraw.Draw(page), _font(size)
    for x, y, word in words:
        draw.text((x, y), word, fill=255, font=font)
    _ink(sheet, np.asarray(page), (grey, grey, grey), 1.0)


def _columns(sheet: Sheet, step: float) -> np.ndarray:
    """x of places for words: where points lie, or at even steps; never closer than `step`."""
    left, _, right, _ = sheet.ink_box()
    places = np.sort(sheet.points[:, 0]) if len(sheet.points) > 3 else np.arange(left, right, step * 1.5)
    kept: list[float] = []
    for x in places:
        if left <= x <= right - step / 2 and (not kept or x - kept[-1] >= step):
            kept.append(float(x))
    return np.array(kept)


def chord_names(sheet: Sheet, strength: float) -> None:
    """Chord names in a row above everything else."""
    rng, size = sheet.rng, sheet.unit * sheet.rng.uniform(1.1, 1.7)
    sheet.pad(round(size * 1.8), 0, 0, 0)
    y = sheet.ink_box()[1] - size * 1.4
    words = []
    for x in _columns(sheet, size * 3.2):
        if rng.random() < 0.3 + 0.5 * strength:
            words.append((x, y, str(rng.choice(_ROOTS)) + str(rng.choice(_ENDINGS))))
    _words(sheet, words, size, int(rng.choice((0, 0, 40, 90))))


def lyrics(sheet: Sheet, strength: float) -> None:
    """One to three lines of words under everything else."""
    rng, size = sheet.rng, sheet.unit * sheet.rng.uniform(0.95, 1.4)
    rows = int(rng.integers(1, 2 + round(2 * strength)))
    sheet.pad(0, 0, round(size * (1.25 * rows + 0.9)), 0)
    bottom = sheet.ink_box()[3]
    words = []
    for row in range(rows):
        y = bottom + size * (0.35 + 1.25 * row)
        words += [(x, y, str(rng.choice(_SYLLABLES))) for x in _columns(sheet, size * 2.6) if rng.random() < 0.85]
    _words(sheet, words, size, int(rng.choice((0, 0, 60))))


def _scene(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """`(H, W, 3)` float32: a blurred picture such as a video has, made of hills, bars and lights."""
    out = np.empty((height, width, 3), dtype=np.float32)
    base = rng.uniform(20, 190, 3)
    hills = smooth_noise(height, width, max(height, width) / rng.uniform(1.5, 6), rng)
    for channel in range(3):
        own = smooth_noise(height, width, max(height, width) / 4, rng)
        out[..., channel] = base[channel] + 45 * hills + 25 * own
    for _ in range(int(rng.integers(2, 8))):
        colour = tuple(float(c) for c in rng.uniform(0, 235, 3))
        a, b = (tuple(int(v) for v in rng.uniform(-0.1, 1.1, 2) * (width, height)) for _ in range(2))
        if rng.random() < 0.5:
            cv2.line(out, a, b, colour, int(rng.uniform(2, max(3, height / 4))))
        else:
            cv2.circle(out, a, int(rng.uniform(2, max(3, height / 3))), colour, -1)
    return cv2.GaussianBlur(out, (0, 0), rng.uniform(2, 9))


def video_overlay(sheet: Sheet, strength: float) -> None:
    """Notation laid over a video: dark on a light veil, or light on a dark one."""
    rng = sheet.rng
    scene = _scene(sheet.height, sheet.width, rng)
    part = sheet.grey().astype(np.float32)[..., None] / 255
    light = rng.random() < 0.6
    veil = np.float32(238 if light else 18)
    cover = np.float32(1 - (0.10 + 0.40 * strength) * rng.uniform(0.7, 1.0))
    ground = veil * cover + scene * (1 - cover)
    ink = np.float32(12 if light else 245)
    sheet.pixels = np.clip(ink + (ground - ink) * part, 0, 255).astype(np.uint8)


def window(sheet: Sheet, strength: float) -> None:
    """A screenshot's surroundings: a bar of buttons, a play cursor, a coloured bar."""
    rng, unit = sheet.rng, sheet.unit
    grey = int(rng.choice((30, 60, 225, 240)))
    if rng.random() < 0.6:
        bar = round(unit * rng.uniform(1.2, 3))
        sheet.pad(bar + round(unit * 2), 0, 0, 0)
        pixels = sheet.colour()
        pixels[:bar] = grey
        for x in range(round(unit), sheet.width, round(unit * 3)):
            if rng.random() < 0.5:
                cv2.circle(pixels, (x, bar // 2), max(2, bar // 4), (128, 128, int(rng.integers(90, 230))), -1)
    if rng.random() < 0.5 and len(sheet.points):
        x = int(sheet.points[rng.integers(len(sheet.points)), 0])
        part = np.ones((sheet.height, sheet.width, 3), dtype=np.float32)
        part[:, max(0, x - round(unit * 0.6)) : x + round(unit * 0.6)] = (0.75, 0.9, 1.0)
        sheet.shade(1 - (1 - part) * (0.4 + 0.6 * strength))


__all__ = ["chord_names", "handwriting", "highlighter", "lyrics", "video_overlay", "window"]
