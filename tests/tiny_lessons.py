"""Packed systems and lessons without a renderer, for the tests of ImageVQ's and NativeVLM's data and training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from intermezzo.configuration.configuration_image_vq import ImageVQConfig
from intermezzo.modeling.modeling_image_vq import ImageVQModel
from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.dense_labels import build_label_space
from intermezzo.train.score_vlm_data import PackWriter, SystemRow

from .tiny_native_vlm import VQ


def text_of(frets: Sequence[int], bars: int = 1) -> str:
    """Four quarters a bar."""
    bar = " ".join(f"{fret}.{1 + i % 6}.4" for i, fret in enumerate(frets)) + " |\n"
    return "\\staff {tabs}\n" + bar * bars


def system_row(frets: Sequence[int], name: str, bars: int = 1, low: bool = False) -> SystemRow:
    """A tab whose frets are blocks of different size, on six lines 10 px apart."""
    image = np.full((240, 120 * bars), 255, np.uint8)
    lines = [100.5 + 10 * i for i in range(6)]
    for y in lines:
        image[int(y), 4:-4] = 0
    beat_x = {}
    for bar in range(bars):
        for beat, fret in enumerate(frets):
            x, y = 120 * bar + 16 + 24 * beat, int(lines[beat % 6])
            image[y - 4 : y + 5, x : x + 3 + fret] = 0
            beat_x[(bar, 0, beat)] = x + 2.0
    if low:
        image[230:, 40] = 0  # further below the staff than a grid picture keeps
    bar_x = [(120.0 * bar + 4, 120.0 * bar + 116) for bar in range(bars)]
    return SystemRow(image, text_of(frets, bars), beat_x, bar_x, lines, False, name)


def packed_folder(folder: Path, rows: Sequence[SystemRow]) -> Path:
    space = build_label_space(read_alphatex(text_of((f, f, f, f))) for f in range(13))
    writer = PackWriter(folder, space)
    for row in rows:
        assert writer.add(row), writer.failures
    writer.close()
    return folder


def tiny_image_vq(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    ImageVQModel(ImageVQConfig(**VQ)).save_pretrained(folder)
    return folder


def pieces(kind: str, count: int, systems: int = 2) -> list[SystemRow]:
    draw = np.random.default_rng(len(kind))
    return [
        system_row(tuple(int(f) for f in draw.integers(0, 9, 4)), f"{kind}-{piece} {system}")
        for piece in range(count)
        for system in range(systems)
    ]


def lessons_folder(folder: Path, **options: Any) -> Path:
    """Lessons of 4 training and 2 held-out pieces of two systems each."""
    from intermezzo.datasets_scripts.build_interleaved import build

    vq = tiny_image_vq(folder / "image_vq")
    train, held_out = pieces("train", 4), pieces("held-out", 2)
    packed = [f"train={packed_folder(folder / 'a', train)}", f"validation={packed_folder(folder / 'b', held_out)}"]
    build(folder / "lessons", vq, packed=packed, progress=False, **options)
    return folder / "lessons"
