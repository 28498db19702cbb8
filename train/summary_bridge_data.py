"""What SummaryBridge trains on: summaries of windows of music and texts that go with them, packed once.

A pack has a folder for each split:

    summaries.npy   float16 (R, Z)      summaries of all bars, the bars of a piece one after the other
    tokens.npy      uint16 (K,)         their words, and
    bar_starts.npy  int64 (R + 1,)      where each bar's words begin
    windows.npy     int64 (W, 2)        first bar of each window, and how many it has
    values.npy      float32 (W, A)      what was measured of its music; `ATTRIBUTE_NAMES`, NaN where nothing was
    captions.npy    int64 (W + 1,)      where each window's captions begin
    texts.npy       int32 (C,)          the text of each caption
    wanted.npy      float32 (C, A, 2)   the least and the most that a caption allows of each attribute, NaN: all
    pooled.npy      float16 (M, T)      the texts' pooled embeddings
    rows.npy        float16 (V, T)      rows of their sequences, each different one once
    places.npy      int32 (M, L)        which row stands at each place of a text's sequence
    mask.npy        int8 (M, L)         places in use
    captions.jsonl                      the captions' words and what they state
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..processing.errors import InputError
from ..processing.music_attributes import ATTRIBUTES
from ..processing.music_wishes import QUARTILES

FORMAT = 1
#: Attributes in the columns of `values.npy`; major is 1 and minor -1.
ATTRIBUTE_NAMES = (*QUARTILES, "mode")
_ARRAYS = ("summaries", "tokens", "bar_starts", "windows", "values", "captions", "texts", "wanted")
_TEXT_ARRAYS = ("pooled", "rows", "places", "mask")


class BridgeWindows:
    """Windows of one split of a pack.

    Args:
        folder: Folder of the pack.
        split: `train`, `validation` or `test`.
        limit: Take so many windows only, evenly out of all; 0: all.

    Raises:
        InputError: There is no such pack, or it has another format.
    """

    def __init__(self, folder: str | Path, split: str, limit: int = 0) -> None:
        self.folder, self.split = Path(folder) / split, split
        self.about = read_about(folder)
        missing = [name for name in (*_ARRAYS, *_TEXT_ARRAYS) if not (self.folder / f"{name}.npy").is_file()]
        if missing:
            raise InputError(self.folder, f"holds no {missing[0]}.npy; make the pack with --stage pack")
        arrays = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in (*_ARRAYS, *_TEXT_ARRAYS)}
        self.summaries, self.tokens, self.bar_starts = (arrays[name] for name in _ARRAYS[:3])
        self.windows, self.values, self.captions, self.texts, self.wanted = (arrays[name] for name in _ARRAYS[3:])
        self.pooled, self.rows, self.places, self.mask = (arrays[name] for name in _TEXT_ARRAYS)
        count = len(self.windows)
        if not count:
            raise InputError(self.folder, "has no windows; give it longer pieces, or more of them")
        self.chosen = np.unique(np.linspace(0, count - 1, min(limit or count, count)).round().astype(np.int64))

    @property
    def summary_size(self) -> int:
        """Numbers in a summary."""
        return self.summaries.shape[1]

    @property
    def text_size(self) -> int:
        """Width of the texts' embeddings."""
        return self.pooled.shape[1]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> dict[str, int]:
        return {"window": int(self.chosen[index])}

    def summaries_of(self, window: int) -> np.ndarray:
        """Summaries of the bars of a window, float32 `(N, Z)`."""
        first, count = self.windows[window]
        return np.asarray(self.summaries[first : first + count], dtype=np.float32)

    def tokens_of(self, window: int) -> np.ndarray:
        """Words of a window, int64 `(T,)`."""
        first, count = self.windows[window]
        return np.asarray(self.tokens[self.bar_starts[first] : self.bar_starts[first + count]], dtype=np.int64)

    def text(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sequence `(L, T)`, pooled embedding `(T,)` and mask `(L,)` of a text."""
        mask = np.asarray(self.mask[number])
        embed = np.asarray(self.rows[self.places[number]], dtype=np.float32) * mask[:, None]
        return embed, np.asarray(self.pooled[number], dtype=np.float32), mask


class TextBlur:
    """Makes texts of a batch uncertain, as words never heard and StyleEncoder's guesses of a picture's words are.

    Half of the rows stay as they are. Each other row goes a part of the way, between 0 and `most`, to the mean of all
    texts, and gets as much noise, in standard deviations of the texts. A tenth of all rows lose their sequence, so that
    the pooled embedding alone is of use, too.

    Args:
        data: Windows of the training split, whose texts say what the mean and the spread are.
        most: Greatest part of the way, in (0, 1].
    """

    def __init__(self, data: BridgeWindows, most: float) -> None:
        self.most = most
        step = max(1, len(data.pooled) // 20000)
        few = np.asarray(data.pooled[::step], dtype=np.float32)
        words = np.asarray(data.rows[:: max(1, len(data.rows) // 20000)], dtype=np.float32)
        self.pooled, self.words = ((x.mean(0), x.std(0)) for x in (few, words))

    def __call__(
        self, embed: np.ndarray, pooled: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Blurred copies of `(B, L, T)`, `(B, T)` and `(B, L)`."""
        rng = np.random.default_rng(np.random.randint(2**31))  # the loader seeds NumPy's generator for each batch
        count = len(pooled)
        part = (rng.random(count) * self.most * (rng.random(count) < 0.5)).astype(np.float32)
        pooled = self._mix(pooled, self.pooled, part[:, None], rng)
        embed = self._mix(embed, self.words, part[:, None, None], rng)
        mask = mask * (rng.random(count) >= 0.1)[:, None].astype(mask.dtype)
        return embed * mask[..., None], pooled, mask

    @staticmethod
    def _mix(
        x: np.ndarray, told: tuple[np.ndarray, np.ndarray], part: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        mean, spread = told
        return x + part * (mean - x + spread * rng.standard_normal(x.shape, np.float32))


class BridgeCollate:
    """Windows to a batch of `SummaryBridgeModel.forward`.

    Args:
        data: The windows.
        draw: Take one of a window's captions at random (from NumPy's generator, which the loader seeds for each
            batch); else its first.
        with_tokens: Also `input_ids`, `attention_mask` and `labels`, for a model that reads words.
        with_wishes: Also what the caption wants of each attribute, `wanted` `(B, A, 2)`.
        blur: See `TextBlur`; `None`: texts as they are.
    """

    def __init__(
        self, data: BridgeWindows, draw: bool = True, with_tokens: bool = False, with_wishes: bool = False,
        blur: TextBlur | None = None,
    ) -> None:  # fmt: skip
        self.data, self.draw, self.with_tokens, self.with_wishes = data, draw, with_tokens, with_wishes
        self.blur = blur

    def __call__(self, rows: Sequence[Mapping[str, int]]) -> dict[str, torch.Tensor]:
        """See the class."""
        data, windows = self.data, [row["window"] for row in rows]
        captions = [self._caption(window, row.get("caption")) for window, row in zip(windows, rows, strict=True)]
        texts = [data.text(int(data.texts[caption])) for caption in captions]
        summaries, bar_mask = _padded([data.summaries_of(window) for window in windows], 0.0)
        embed, pooled, mask = (np.stack(column) for column in zip(*texts, strict=True))
        if self.blur is not None:
            embed, pooled, mask = self.blur(embed, pooled, mask)
        batch = {
            "summary_tokens": torch.from_numpy(summaries), "bar_mask": torch.from_numpy(bar_mask),
            "text_embed": torch.from_numpy(embed), "text_pooled": torch.from_numpy(pooled),
            "text_mask": torch.from_numpy(mask.astype(np.int64)),
        }  # fmt: skip
        if self.with_tokens:
            words, mask = _padded([data.tokens_of(window) for window in windows], 0)
            ids = torch.from_numpy(words)
            batch |= {"input_ids": ids, "attention_mask": torch.from_numpy(mask)}
            batch["labels"] = ids.masked_fill(batch["attention_mask"] == 0, -100)
        if self.with_wishes:
            batch["wanted"] = torch.from_numpy(np.stack([data.wanted[caption] for caption in captions]))
        return batch

    def _caption(self, window: int, asked: int | None) -> int:
        first, stop = self.data.captions[window], self.data.captions[window + 1]
        if asked is not None:
            return int(asked)
        return int(np.random.randint(first, stop)) if self.draw else int(first)


def _padded(parts: Sequence[np.ndarray], value: float) -> tuple[np.ndarray, np.ndarray]:
    """Parts of different lengths in one array, and int64 `(B, longest)`, 1 where there is something."""
    longest = max(map(len, parts))
    found = np.full((len(parts), longest, *parts[0].shape[1:]), value, dtype=parts[0].dtype)
    mask = np.zeros((len(parts), longest), dtype=np.int64)
    for row, part in enumerate(parts):
        found[row, : len(part)], mask[row, : len(part)] = part, 1
    return found, mask


def read_about(folder: str | Path) -> dict[str, Any]:
    """What a pack was made of.

    Raises:
        InputError: There is none, or it has another format.
    """
    path = Path(folder) / "pack.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(folder, "is no pack of summaries and texts; make one with --stage pack") from None
    if about.get("format") != FORMAT:
        raise InputError(folder, f"has the format {about.get('format')}, this program reads {FORMAT}; pack it again")
    return about


# --- Wishes -----------------------------------------------------------------------------------------------------------


def values_row(values: Mapping[str, Any]) -> np.ndarray:
    """A measurement as a row `(A,)` of `values.npy`."""
    row = np.full(len(ATTRIBUTE_NAMES), np.nan, dtype=np.float32)
    for column, name in enumerate(ATTRIBUTE_NAMES):
        value = values.get(name)
        if value is not None:
            row[column] = (1.0 if value == "major" else -1.0) if name == "mode" else float(value)
    return row


def wanted_row(stated: Mapping[str, Any], sides: Mapping[str, int]) -> np.ndarray:
    """What a caption allows `(A, 2)`: the classes that it states, or the side of the median that its image suggests."""
    row = np.full((len(ATTRIBUTE_NAMES), 2), np.nan, dtype=np.float32)
    for column, name in enumerate(ATTRIBUTE_NAMES):
        if name == "tempo" and "bpm" in stated:
            row[column] = 0.95 * stated["bpm"], 1.05 * stated["bpm"]
        elif name == "mode" and name in stated:
            first, last = stated[name]
            row[column] = (0.0 if last == 0 else -np.inf), (0.0 if first == 1 else np.inf)
        elif name in stated:
            edges, (first, last) = ATTRIBUTES[name].edges, stated[name]
            row[column] = (edges[first - 1] if first else -np.inf), (edges[last] if last < len(edges) else np.inf)
        elif sides.get(name):
            middle = 0.0 if name == "mode" else QUARTILES[name][1]
            row[column] = (middle, np.inf) if sides[name] > 0 else (-np.inf, middle)
    return row


def wishes_met(wanted: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which wishes `(…, A, 2)` values `(…, A)` meet, and which wishes there are, bool `(…, A)` both."""
    asked = ~np.isnan(wanted[..., 0]) & ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        met = (wanted[..., 0] <= values) & (values <= wanted[..., 1])
    return met & asked, asked


__all__ = [
    "ATTRIBUTE_NAMES", "FORMAT", "BridgeCollate", "BridgeWindows", "TextBlur", "read_about", "values_row", "wanted_row",
    "wishes_met",
]  # fmt: skip
