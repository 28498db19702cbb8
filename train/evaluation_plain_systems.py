"""Held-out systems in the plain style: of one or two bars, of generated pieces that no training has seen.

They are drawn by the seed, kept in the report's folder and used again for the same seed and size.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from .evaluation_report import Failure

SPARE = 0.06  # some are too long or too large to be drawn
MAX_BARS, MAX_CODES = 2, 900


def plain_systems(n: int, seed: int, out: Path, failures: list[Failure]) -> Path:
    """A packed folder of at least `n` plain systems of the test split.

    Args:
        n: Systems.
        seed: Decides the pieces and cuts.
        out: Folder of the folder.
        failures: What could not be drawn is added here.
    """
    from .score_vlm_pack import generated_rows, pack

    folder = out / f"plain_n{n}_seed{seed}"
    if folder.is_dir():
        return folder
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    count = n + max(int(n * SPARE), 4)
    rows = generated_rows(seed, count, "test", 0.0, 0.0, 0.1, 0.0, plain=True, max_bars=MAX_BARS)
    failures += [Failure(folder.name, "build", line) for line in pack(rows, part, count)]
    part.rename(folder)
    return folder


def plain_lessons(n: int, seed: int, out: Path, image_vq: Any, failures: list[Failure]) -> Path:
    """A folder of `build_interleaved` with lessons to read and to draw at least `n` plain systems, as split `test`.

    Args:
        n, seed, out, failures: As for `plain_systems`.
        image_vq: `ImageVQModel` that makes the codes.

    Raises:
        InputError: Too few systems could be made.
    """
    from ..datasets_scripts.build_interleaved import build, fingerprint

    packed = plain_systems(n + n // 5, seed, out, failures)  # every tenth or so is too large
    folder = out / f"lessons_n{n}_seed{seed}_{fingerprint(image_vq)}"
    model = out / f"image_vq_{fingerprint(image_vq)}"
    if not (model / "config.json").is_file():
        image_vq.save_pretrained(model)
    found = build(
        folder, model, packed=[f"test={packed}"], max_bars=MAX_BARS, max_codes=MAX_CODES, lessons=("read", "draw"),
        limit=0, progress=False,
    )  # fmt: skip
    if found["lessons"].get("test read", 0) < n:
        raise InputError(folder, f"has {found['lessons'].get('test read', 0)} lessons to read, {n} are asked for")
    return folder


__all__ = ["plain_lessons", "plain_systems"]
