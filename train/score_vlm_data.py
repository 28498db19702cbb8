"""Systems as the trainer wants them: normalised pictures and sparse truth in one packed folder.

A Parquet set keeps pictures as they were engraved. Decoding and scaling them again in each epoch would cost as much as
the training itself on a small machine, so they are brought to the canvas once and kept compressed (about 10 kB each).
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..processing.alphatex_grammar import read_alphatex
from ..processing.dense_labels import SLOT_PX, SparseLabels, encode_system, expand, relabel
from ..processing.errors import InputError
from ..processing.multimodal_utils import count_image_tokens
from ..processing.page_systems import draw_region, read_page
from ..processing.system_canvas import BATCH_MARGIN_PX, WHITE, CanvasPlacement, draw_on_canvas
from .score_vlm_vary import vary


@dataclass
class SystemRow:
    """One engraved system with its truth, in pixels of the picture.

    Attributes:
        image: `(H, W)` uint8, white = 255.
        text: Canonical alphaTex.
        beat_x: Centre of each beat by (bar, voice, beat).
        bar_x: Left and right edge of each bar.
        tab_line_ys: Centres of the tab lines, from the top.
        has_score: Whether a score staff stands above.
        name: Where it comes from, for messages.
        metre: In force before the first bar; matters where the picture shows none.
        canvas: The system on its canvas, where it is already cut out.
    """

    image: np.ndarray
    text: str
    beat_x: dict[tuple[int, int, int], float]
    bar_x: list[tuple[float, float]]
    tab_line_ys: list[float]
    has_score: bool
    name: str = ""
    metre: tuple[int, int] = (4, 4)
    canvas: tuple[np.ndarray, CanvasPlacement] | None = None


class PackWriter:
    """Writes a packed folder; `close` makes it complete.

    Args:
        directory: Folder, made when it is not there.
        space: Class names of the dense heads.
        locate: Cut systems out as a reader does, by the page finder, where that finds the right staves; otherwise, and
            always when false, by the true lines.
    """

    def __init__(self, directory: Path, space: dict[str, list[str]], locate: bool = False) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.space, self.locate = directory, space, locate
        self.pixels = open(directory / "pixels.bin", "wb")  # noqa: SIM115 - closed by `close`
        self.rows: list[dict[str, Any]] = []
        self.labels: dict[str, list[np.ndarray]] = {"notes": [], "beats": [], "bars": []}
        self.failures: list[str] = []

    def add(self, row: SystemRow) -> bool:
        """Adds one system; one that does not fit is named in `failures` and left out."""
        try:
            score = read_alphatex(row.text)
            canvas, place = row.canvas or (located(row) if self.locate else None) or true_canvas(row)
            beat_x = {key: x * place.x_scale + place.x_offset for key, x in row.beat_x.items()}
            bar_x = [(a * place.x_scale + place.x_offset, b * place.x_scale + place.x_offset) for a, b in row.bar_x]
            labels = encode_system(score, beat_x, bar_x, self.space)
        except (ValueError, KeyError, IndexError) as error:
            self.failures.append(f"{row.name}: {type(error).__name__} {error}")
            return False
        packed = zlib.compress(np.ascontiguousarray(canvas).tobytes(), 1)
        height, width = canvas.shape
        entry = {"offset": self.pixels.tell(), "size": len(packed), "height": height, "width": width}
        entry |= {"text": row.text, "strings": score.staves[0].strings, "score": row.has_score, "name": row.name}
        entry["metre"] = list(row.metre)
        self.pixels.write(packed)
        self.rows.append(entry)
        for name, arrays in self.labels.items():
            arrays.append(getattr(labels, name))
        return True

    def close(self) -> None:
        """Writes the index and the truth."""
        self.pixels.close()
        arrays = {}
        for name, width in (("notes", 5), ("beats", 8), ("bars", 5)):
            arrays[name] = np.concatenate([*self.labels[name], np.zeros((0, width))])
            arrays[f"{name}_end"] = np.cumsum([len(a) for a in self.labels[name]])
        np.savez(self.directory / "labels.npz", **arrays)  # type: ignore[arg-type]
        (self.directory / "failures.txt").write_text("\n".join(self.failures), encoding="utf-8")
        index = {"space": self.space, "rows": self.rows}
        (self.directory / "index.json").write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")


def true_canvas(row: SystemRow) -> tuple[np.ndarray, CanvasPlacement]:
    """The system on its canvas, by the lines that the engraver tells."""
    return draw_on_canvas(row.image, row.tab_line_ys, row.has_score)


def located(row: SystemRow) -> tuple[np.ndarray, CanvasPlacement] | None:
    """The system on its canvas, as the page finder cuts it; `None` where it finds other staves than there are."""
    page = read_page(row.image)
    if len(page.systems) != 1:
        return None
    region = page.systems[0]
    lines, true = region.tab_line_ys, row.tab_line_ys
    if region.has_score != row.has_score or len(lines) != len(true) or abs(lines[0] - true[0]) > lines[1] - lines[0]:
        return None
    system = draw_region(page, region)
    return system.array, system.placement


def pack_folders(directories: Sequence[Path | str]) -> Iterator[Path]:
    """Packed folders, those that were packed in parts as their parts."""
    for directory in map(Path, directories):
        parts = sorted(directory.glob("part-[0-9]*[0-9]")) if not (directory / "index.json").is_file() else []
        yield from parts or [directory]


class PackedSystems(Dataset):
    """Reads packed folders; item `i` is a dict with `canvas`, `labels`, `text`, `strings`, `score`.

    Args:
        directories: One or more folders of `PackWriter`, or folders of such parts, with the same class names.
        space: Class names by head in the order of the model that learns from them; those of the first folder if
            `None`. Truth packed in another order is told in this one.
    """

    def __init__(self, directories: Sequence[Path | str], space: dict[str, list[str]] | None = None) -> None:
        self.rows: list[tuple[Path, dict[str, Any], int]] = []
        self.arrays: dict[Path, dict[str, np.ndarray]] = {}
        self.space: dict[str, list[str]] = space or {}
        for directory in pack_folders(directories):
            if not (directory / "index.json").is_file():
                raise InputError(directory, "no packed systems here; make them with `train score_vlm --stage pack`")
            index = json.loads((directory / "index.json").read_text(encoding="utf-8"))
            self.space = self.space or index["space"]
            with np.load(directory / "labels.npz") as arrays:
                self.arrays[directory] = dict(arrays)
            if index["space"] != self.space:
                try:
                    relabel(self.arrays[directory], index["space"], self.space)
                except KeyError as problem:
                    raise InputError(directory, f"class {problem} is not among the model's; pack it again") from problem
            self.rows += [(directory, row, i) for i, row in enumerate(index["rows"])]
        self._maps: dict[Path, np.memmap] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        directory, row, k = self.rows[i]
        if directory not in self._maps:
            self._maps[directory] = np.memmap(directory / "pixels.bin", dtype=np.uint8, mode="r")
        packed = self._maps[directory][row["offset"] : row["offset"] + row["size"]]
        canvas = np.frombuffer(zlib.decompress(packed.data), dtype=np.uint8).reshape(row["height"], row["width"])
        arrays = self.arrays[directory]
        parts = {}
        for name in ("notes", "beats", "bars"):
            end = arrays[f"{name}_end"]
            parts[name] = arrays[name][(end[k - 1] if k else 0) : end[k]]
        return {"canvas": canvas, "labels": SparseLabels(**parts), **row}

    def texts(self) -> Iterator[str]:
        """The texts of all systems."""
        return (row["text"] for _, row, _ in self.rows)


class Buckets(Dataset):
    """Groups systems of like size into batches of about the same number of pixels.

    Args:
        systems: Where the pictures come from.
        pixels: Pixels of a batch.
        seed: Decides which systems of like width come together.
    """

    def __init__(self, systems: PackedSystems, pixels: int, seed: int = 0) -> None:
        self.systems = systems
        draw = random.Random(seed)
        size = lambda row: (row["height"], row["width"] * draw.uniform(0.97, 1.03))  # noqa: E731
        keyed = sorted((size(row), i) for i, (_, row, _) in enumerate(systems.rows))
        self.batches: list[list[int]] = []
        batch: list[int] = []
        height = width = 0
        for _, i in keyed:
            row = systems.rows[i][1]
            wide = max(width, row["width"])
            if batch and (row["height"] != height or wide * height * (len(batch) + 1) > pixels):
                self.batches.append(batch)
                batch, wide = [], row["width"]
            height, width = row["height"], wide
            batch.append(i)
        if batch:
            self.batches.append(batch)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, i: int) -> list[dict[str, Any]]:
        return [self.systems[k] for k in self.batches[i]]


class DenseCollate:
    """Makes a batch for the tower: `pixel_values`, `widths`, `dense_labels`.

    Args:
        space: Class names of the dense heads.
        augment: Vary the pictures.
        strings, voices: Axes of the labels.
    """

    def __init__(self, space: dict[str, list[str]], augment: bool, strings: int = 7, voices: int = 2) -> None:
        self.space, self.augment, self.strings, self.voices = space, augment, strings, voices

    def __call__(self, rows: Iterable[Any]) -> dict[str, Any]:
        """Batch of rows, or of lists of rows."""
        rows = [row for entry in rows for row in (entry if isinstance(entry, list) else [entry])]
        height, width = max(r["height"] for r in rows), max(r["width"] for r in rows)
        # Convolutions see 64 px beyond a picture. Training meets the bare edge too, and saves that time.
        width += BATCH_MARGIN_PX if not self.augment or np.random.rand() < 0.25 else 0
        width += -width % 16
        pixels = np.zeros((len(rows), 1, height, width), dtype=np.float32)
        samples = []
        for i, row in enumerate(rows):
            ink, scale, shift = (WHITE - row["canvas"]).astype(np.float32) / 255, 1.0, 0.0
            if self.augment:
                ink, scale, shift = vary(row["canvas"], np.random.default_rng(np.random.randint(2**31)))
            pixels[i, 0, height - row["height"] :, : row["width"]] = ink
            samples.append(row["labels"].moved(scale, shift))
        widths = [row["width"] for row in rows]
        labels = expand(samples, widths, width // SLOT_PX, self.space, self.strings, self.voices)
        return {
            "pixel_values": torch.from_numpy(pixels),
            "widths": torch.tensor(widths),
            "dense_labels": {name: torch.from_numpy(array) for name, array in labels.items()},
        }


class Texts(Dataset):
    """The texts of packed systems, as rows `{"text": …}`."""

    def __init__(self, systems: PackedSystems) -> None:
        self.texts_ = list(systems.texts())

    def __len__(self) -> int:
        return len(self.texts_)

    def __getitem__(self, i: int) -> dict[str, str]:
        return {"text": self.texts_[i]}


class TextCollate:
    """Turns texts into what a causal language model trains on: `<|assistant|>` text `<|end|>`, padded on the right."""

    def __init__(self, tokenizer: Any, max_tokens: int = 1500) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self.start = tokenizer.convert_tokens_to_ids("<|assistant|>")

    def __call__(self, rows: Iterable[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Batch of rows with a `text`."""
        end = self.tokenizer.eos_token_id
        texts = [[self.start, *self.tokenizer.encode(r["text"], add_special_tokens=False), end] for r in rows]
        return pad_right([(ids[: self.max_tokens], 1) for ids in texts], self.tokenizer.pad_token_id)


def pad_right(rows: list[tuple[list[int], int]], pad: int) -> dict[str, torch.Tensor]:
    """`input_ids`, `attention_mask` and `labels` of `(tokens, length of the prompt)`; a prompt is not learnt."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), width), pad)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, (row, prompt) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
        labels[i, prompt : len(row)] = ids[i, prompt : len(row)]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class ReaderCollate:
    """Makes a batch for ScoreVLM: pictures, the turn that asks to read them, and the text as the answer.

    Args:
        space: Class names of the dense heads.
        processor: `ScoreVLMProcessor`.
        augment: Vary the pictures.
        dense: Give the dense labels too, so that the tower goes on learning from them.
    """

    def __init__(self, space: dict[str, list[str]], processor: Any, augment: bool, dense: bool) -> None:
        self.pictures, self.processor, self.dense = DenseCollate(space, augment), processor, dense

    def __call__(self, rows: Iterable[Any]) -> dict[str, Any]:
        """Batch of rows, or of lists of rows."""
        rows = [row for entry in rows for row in (entry if isinstance(entry, list) else [entry])]
        batch = self.pictures(rows)
        tokenizer, texts = self.processor.tokenizer, []
        prompt = self.processor.read_prompt()
        for row in rows:
            count = count_image_tokens(row["width"], self.processor.image_column_px)
            asked = tokenizer.encode(prompt.replace("<|image|>", "<|image|>" * count), add_special_tokens=False)
            answer = tokenizer.encode(row["text"], add_special_tokens=False)
            texts.append((asked + answer + [tokenizer.eos_token_id], len(asked)))
        if not self.dense:
            del batch["dense_labels"]
        return batch | pad_right(texts, tokenizer.pad_token_id)


def row_from_picture(
    picture: Any, text: str, name: str = "", first_bar: int = 0, metre: tuple[int, int] = (4, 4)
) -> SystemRow:
    """A training row from what the renderer gives.

    Args:
        picture: A `RenderedPicture` of one system.
        text: The canonical alphaTex it was engraved from.
        name: For messages.
        first_bar: Number that the engraver gave to the first bar of the picture.
        metre: In force before that bar.
    """
    system = picture.systems[0]
    tab, score = system.staff("tab"), system.staff("score")
    if len(picture.systems) != 1 or tab is None:
        raise ValueError(f"{name}: one system with a tab staff is needed, there are {len(picture.systems)}")
    return SystemRow(
        image=np.asarray(picture.image()),
        text=text,
        beat_x={(b.bar - first_bar, b.voice, b.beat): b.on_x for b in picture.beats if b.kind == "tab"},
        bar_x=[(bar.x, bar.x + bar.w) for bar in sorted(picture.bars, key=lambda bar: bar.bar)],
        tab_line_ys=list(tab.lines),
        has_score=score is not None,
        name=name,
        metre=metre,
    )
