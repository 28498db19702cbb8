"""Draws some systems by the engravers with their truth on top, to look at.

    python -m intermezzo.datasets_scripts.engravers.try_out --out look.png --count 8 --engraver musescore

Red ticks are beats, blue boxes numbers, green and violet lines the edges of bars, red dots the tab lines.
"""

from __future__ import annotations

import argparse
import sys

import cv2
import numpy as np

from ...processing.errors import InputError
from .drawn import EngravedSystem
from .systems import ENGRAVERS, engraved_systems


def with_truth(system: EngravedSystem) -> np.ndarray:
    """`(H, W, 3)` BGR picture with marks where the truth says that things stand."""
    image = cv2.cvtColor(system.image, cv2.COLOR_GRAY2BGR)
    top, bottom, half = int(system.tab_line_ys[0]), int(system.tab_line_ys[-1]), round(system.line_px * 0.4)
    for x in map(int, system.beat_x.values()):
        cv2.line(image, (x, top - 7), (x, top - 2), (0, 0, 255), 1)
    for key, y in system.note_y.items():
        x = int(system.beat_x[key[:3]])
        cv2.rectangle(image, (x - half, int(y) - half), (x + half, int(y) + half), (255, 120, 0), 1)
    for left, right in system.bar_x:
        cv2.line(image, (int(left), top), (int(left), bottom), (0, 190, 0), 1)
        cv2.line(image, (int(right) - 1, top), (int(right) - 1, bottom), (200, 0, 200), 1)
    for y in system.tab_line_ys:
        cv2.circle(image, (int(system.bar_x[0][0]), int(y)), 2, (0, 0, 255), -1)
    return image


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="try_out", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="PNG to write")
    parser.add_argument("--count", type=int, default=8, help="systems (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other systems (default %(default)s)")
    parser.add_argument("--engraver", choices=list(ENGRAVERS), help="only this one")
    a = parser.parse_args(arguments)
    pictures = []
    try:
        for item in engraved_systems(a.seed, a.count, "train", [a.engraver] if a.engraver else None):
            print(item.text if isinstance(item, EngravedSystem) else f"failed: {item}")
            if isinstance(item, EngravedSystem):
                pictures.append(with_truth(item))
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    if not pictures:
        print("nothing was drawn", file=sys.stderr)
        return 1
    width = max(p.shape[1] for p in pictures)
    pad = lambda p: cv2.copyMakeBorder(p, 4, 4, 0, width - p.shape[1], cv2.BORDER_CONSTANT, value=(255, 245, 220))  # noqa: E731
    if not cv2.imwrite(a.out, np.vstack([pad(p) for p in pictures])):
        print(f"{a.out}: can not be written", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
