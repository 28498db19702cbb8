"""Pictures for the picture tokenizer, out of packed folders: cropped, scaled, in batches of like size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..modeling.image_vq_reading import BAR_SIGNS, BEAT_SIGNS, FRET_CLASSES, NOTE_SIGNS, STRING_ROWS, count_signs
from ..processing.dense_labels import SparseLabels
from ..processing.errors import InputError
from ..processing.grid_pictures import SCALE, GridGeometry, canvas_to_grid, from_ink, to_ink
from ..processing.native_snap import anchors_of, snap_to_columns, snapped_labels
from ..processing.system_canvas import WHITE
from .score_vlm_data import PackedSystems
from .score_vlm_vary import vary


class GridPictures(Dataset):
    """Systems of few bars as grid pictures; rows as of `PackedSystems`, with `picture` `(H, W)` uint8, white = 255.

    A system whose ink does not fit on the grid has `picture = None`; there are about 3 of 1,000.

    Args:
        systems: Packed folders.
        geometry: Patches.
        max_bars: Leave out systems of more bars; 0: none.
        max_columns: Leave out systems wider than so many patches.
        augment: Part of the pictures that is moved, scaled, blurred a little; see `score_vlm_data.vary`.
        snap: Part of the pictures whose beats are moved to the middle of columns; see `native_snap`.
    """

    def __init__(
        self,
        systems: PackedSystems,
        geometry: GridGeometry,
        max_bars: int = 2,
        max_columns: int = 96,
        augment: float = 0.0,
        snap: float = 0.0,
    ) -> None:
        self.systems, self.geometry, self.augment, self.space = systems, geometry, augment, systems.space
        self.snap = snap
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
        if self.snap and np.random.rand() < self.snap:
            canvas = snap_to_columns(canvas, anchors_of(labels), self.geometry)
            labels = snapped_labels(labels, self.geometry)
        elif self.augment and np.random.rand() < self.augment:
            ink, scale, shift = vary(canvas, np.random.default_rng(np.random.randint(2**31)))
            canvas, labels = from_ink(ink), labels.moved(scale, shift)
        try:
            row["picture"] = canvas_to_grid(canvas, self.geometry, row["name"])
        except InputError:
            row["picture"] = None
        row["labels"] = labels.moved(SCALE, SCALE / 2)
        return row


class ChosenPictures(Dataset):
    """Some grid pictures with `codes` `(h, w)` that were chosen by looks, as everywhere but in training.

    Choosing takes a part of a second a picture, so it is done once, and the pictures stay as they are.

    Args:
        pictures: Where they come from.
        model: `ImageVQModel` with eyes.
        count: How many are drawn, evenly.
        progress: Wraps an iterable, such as `tqdm`.
    """

    def __init__(
        self, pictures: GridPictures, model: Any, count: int, progress: Callable[[Any], Any] = lambda every: every
    ) -> None:
        kept = np.linspace(0, len(pictures) - 1, min(count, len(pictures))).astype(int)
        blank = torch.zeros(1, 1, 3 * pictures.geometry.patch_height, 3 * pictures.geometry.patch_width)
        blank_code = int(model.encode(blank)[0, 1, 1])
        self._all: list[dict[str, Any]] = []
        self.rows: list[Any] = []
        for i in progress(kept.tolist()):
            row = pictures[i]
            if row["picture"] is None:
                continue
            with torch.no_grad():
                codes = model.encode(torch.from_numpy(to_ink(row["picture"]))[None, None], by_looks=True)[0].numpy()
            self._all.append(row | {"codes": codes, "blank_code": blank_code})
            self.rows.append(pictures.rows[i])

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self._all[i]


def _flags(bits: np.ndarray, count: int) -> np.ndarray:
    """Flags `(N, count)` of numbers that hold them as bits."""
    return (bits.astype(np.int64)[:, None] >> np.arange(count)) & 1


def slot_labels(
    labels: SparseLabels, width: int, space: Mapping[str, Sequence[str]] | None = None
) -> dict[str, np.ndarray]:
    """What stands in each slot of 8 px, as `CodeReader` has to tell it.

    Args:
        labels: In px of the grid picture.
        width: Of the picture in px.
        space: Names of signs by kind; `None`: signs are not wanted.

    Returns:
        `frets` int64 `(10, W / 8)` and `beats` of the first voice int64 `(W / 8,)`, 0: nothing. With `space` int8
        `note_signs` `(K, 10, W / 8)` and `beat_signs` `(K, W / 8)`, −1 where no note or beat is; `bar_signs` `(K,)`.
    """
    slots = width // 8
    frets, beats = np.zeros((STRING_ROWS, slots), np.int64), np.zeros(slots, np.int64)
    places = {name: np.clip(array[:, 1] // 8, 0, slots - 1).astype(int) for name, array in vars(labels).items()}
    notes, rows = labels.notes, labels.notes[:, 0].astype(int)
    fits = (rows < STRING_ROWS) & (notes[:, 2] < FRET_CLASSES)
    frets[rows[fits], places["notes"][fits]] = notes[fits, 2]
    first = labels.beats[:, 0] == 0
    _, _, kind, duration, dots, tuplet, *_ = labels.beats.astype(np.int64).T
    beats[places["beats"][first]] = (1 + 21 * (kind - 1) + 3 * duration + np.minimum(dots, 2))[first]
    found = {"frets": frets, "beats": beats}
    if space is None:
        return found
    note_signs = np.full((count_signs(space, NOTE_SIGNS), STRING_ROWS, slots), -1, np.int8)
    note_signs[:, rows[fits], places["notes"][fits]] = _flags(notes[fits, 4], len(note_signs)).T
    beat_signs = np.full((count_signs(space, BEAT_SIGNS), slots), -1, np.int8)
    effects = _flags(labels.beats[:, 7], len(space["beat_effects"]))
    tuplets = np.eye(1 + len(space["tuplets"]), dtype=np.int64)[tuplet][:, 1:]
    for place, signs in zip(places["beats"], np.concatenate([effects, tuplets], axis=1), strict=True):
        beat_signs[:, place] = np.maximum(beat_signs[:, place], signs)
    starts, ends = (_flags(labels.bars[:, 2 + i], len(space[name])) for i, name in enumerate(BAR_SIGNS))
    bar_signs = np.concatenate([starts, ends], axis=1).max(0, initial=0).astype(np.int8)
    return found | {"note_signs": note_signs, "beat_signs": beat_signs, "bar_signs": bar_signs}


class PictureCollate:
    """Batches `pixel_values` `(B, 1, H, W)`, `widths` `(B,)`, and what stands where (see `slot_labels`). Lower pictures
    are padded on top, since all end below the staff at the same height.

    Args:
        geometry: Patches.
        space: Names of signs by kind, where they are wanted.
    """

    def __init__(self, geometry: GridGeometry, space: Mapping[str, Sequence[str]] | None = None) -> None:
        self.geometry, self.space = geometry, space

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
        for ink, picture in zip(pixels, pictures, strict=True):
            ink[0, height - picture.shape[0] :, : picture.shape[1]] = to_ink(picture)
        found = {"pixel_values": pixels, "widths": np.array([picture.shape[1] for picture in pictures])}
        if rows and "codes" in rows[0]:
            high, wide = self.geometry.patch_height, self.geometry.patch_width
            codes = np.full((len(pictures), height // high, width // wide), rows[0]["blank_code"], np.int64)
            for grid, row in zip(codes, rows, strict=True):
                grid[len(grid) - len(row["codes"]) :, : row["codes"].shape[1]] = row["codes"]
            found["codes"] = codes
        nothing = SparseLabels(np.zeros((0, 5)), np.zeros((0, 8)), np.zeros((0, 5)))
        truths = [slot_labels(row["labels"], row["picture"].shape[1], self.space) for row in rows]
        for name, like in slot_labels(nothing, width, self.space).items():
            blank = -100 if like.dtype == np.int64 else -1
            found[name] = np.full((len(pictures), *like.shape), blank, like.dtype)
            for i, truth in enumerate(truths):
                found[name][i, ..., : truth[name].shape[-1]] = truth[name]
        return {name: torch.from_numpy(value) for name, value in found.items()}


__all__ = ["ChosenPictures", "GridPictures", "PictureCollate", "slot_labels"]
