"""Pictures for the picture tokenizer, out of packed folders: cropped, scaled, in batches of like size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..modeling.image_vq_reading import FRET_CLASSES, STRING_ROWS
from ..processing.dense_labels import SparseLabels
from ..processing.errors import InputError
from ..processing.grid_pictures import SCALE, GridGeometry, canvas_to_grid, from_ink, to_ink
from ..processing.system_canvas import WHITE
from .score_vlm_data import PackedSystems, vary


class GridPictures(Dataset):
    """Systems of few bars as grid pictures; rows as of `PackedSystems`, with `picture` `(H, W)` uint8, white = 255.

    A system whose ink does not fit on the grid has `picture = None`; there are about 3 of 1,000.

    Args:
        systems: Packed folders.
        geometry: Patches.
        max_bars: Leave out systems of more bars; 0: none.
        max_columns: Leave out systems wider than so many patches.
        augment: Part of the pictures that is moved, scaled, blurred a little; see `score_vlm_data.vary`.
    """

    def __init__(
        self,
        systems: PackedSystems,
        geometry: GridGeometry,
        max_bars: int = 2,
        max_columns: int = 96,
        augment: float = 0.0,
    ) -> None:
        self.systems, self.geometry, self.augment, self.space = systems, geometry, augment, systems.space
        widest = max_columns * geometry.patch_width / SCALE

        def fits(row: dict[str, Any]) -> bool:
            return row["width"] <= widest and (not max_bars or row["text"].count("|\n") <= max_bars)

        self.kept = [i for i, (_, row, _) in enumerate(systems.rows) if fits(row)]
        self.rows = [systems.rows[i] for i in self.kept]
        if not self.rows:
            raise InputError(None, f"no packed system has {max_bars} bars or fewer and {max_columns} columns or fewer")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        row = self.systems[self.kept[i]]
        canvas, labels = row["canvas"], row["labels"]
        if self.augment and np.random.rand() < self.augment:
            ink, scale, shift = vary(canvas, np.random.default_rng(np.random.randint(2**31)))
            canvas, labels = from_ink(ink), labels.moved(scale, shift)
        try:
            row["picture"] = canvas_to_grid(canvas, self.geometry, row["name"])
        except InputError:
            row["picture"] = None
        row["labels"] = labels.moved(SCALE, SCALE / 2)
        return row


def slot_labels(labels: SparseLabels, width: int) -> tuple[np.ndarray, np.ndarray]:
    """What stands in each slot of 8 px, as `CodeReader` has to tell it.

    Args:
        labels: In px of the grid picture.
        width: Of the picture in px.

    Returns:
        Frets int64 `(10, W / 8)` and beats of the first voice int64 `(W / 8,)`; 0: nothing.
    """
    slots = width // 8
    frets, beats = np.zeros((STRING_ROWS, slots), np.int64), np.zeros(slots, np.int64)
    place = lambda x: min(max(int(x // 8), 0), slots - 1)  # noqa: E731
    for string, x, head, *_ in labels.notes:
        if string < STRING_ROWS and head < FRET_CLASSES:
            frets[int(string), place(x)] = int(head)
    for voice, x, kind, duration, dots, *_ in labels.beats:
        if voice == 0:
            beats[place(x)] = 1 + 21 * (int(kind) - 1) + 3 * int(duration) + min(int(dots), 2)
    return frets, beats


class PictureCollate:
    """Batches `pixel_values` `(B, 1, H, W)`, `widths` `(B,)`, and of what stands where `frets` and `beats` (see
    `slot_labels`). Lower pictures are padded on top, since all end below the staff at the same height.
    """

    def __init__(self, geometry: GridGeometry) -> None:
        self.geometry = geometry

    def __call__(self, rows: Iterable[Any]) -> dict[str, torch.Tensor]:
        """Batch of rows, or of lists of rows."""
        rows = [row for entry in rows for row in (entry if isinstance(entry, list) else [entry])]
        rows = [row for row in rows if row["picture"] is not None]
        pictures = [row["picture"] for row in rows]
        if not pictures:  # a batch must hold something: a blank column of patches is the least
            height = self.geometry.rows_below * self.geometry.patch_height
            pictures = [np.full((height, self.geometry.patch_width), WHITE, np.uint8)]
        height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
        pixels = np.zeros((len(pictures), 1, height, width), dtype=np.float32)
        frets = np.full((len(pictures), STRING_ROWS, width // 8), -100)
        beats = np.full((len(pictures), width // 8), -100)
        for i, picture in enumerate(pictures):
            pixels[i, 0, height - picture.shape[0] :, : picture.shape[1]] = to_ink(picture)
            if rows:
                slots = picture.shape[1] // 8
                frets[i, :, :slots], beats[i, :slots] = slot_labels(rows[i]["labels"], picture.shape[1])
        widths = torch.tensor([picture.shape[1] for picture in pictures])
        found = {"pixel_values": pixels, "frets": frets, "beats": beats}
        return {"widths": widths, **{name: torch.from_numpy(value) for name, value in found.items()}}


__all__ = ["GridPictures", "PictureCollate"]
