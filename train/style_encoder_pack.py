"""StyleEncoder's pictures made ready once: decoded at one size in a flat file, or looked at by a frozen backbone.

Decoding a PNG and scaling it costs more than a small backbone's forward pass at half its size, and targets of thousands
of pictures are those of a few thousand names. So a pack holds pictures as bytes and each name's targets once; and where
the backbone does not learn, a second file holds what it saw, and training needs the heads alone.
"""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..configuration.configuration_style_encoder import TARGETS
from ..modeling.style_losses import UNKNOWN_STYLE
from ..processing.errors import InputError
from .style_encoder_data import GroupedRows, parquet_files

FORMAT = 1
_COLUMNS = ["image", "style", "content", "caption", "caption_zh", *TARGETS, "pooled_zh"]


def _settings(folder: Path, split: str, processor: Any) -> dict[str, Any]:
    """What decides a pack; another one is made anew."""
    files = [[path.name, path.stat().st_size] for path in parquet_files(folder, split)]
    names = ("image_size", "interpolation", "crop_pct", "crop_mode")
    return {"format": FORMAT, "files": files, **{name: getattr(processor, name) for name in names}}


def pack_pictures(folder: str | Path, split: str, processor: Any, out: str | Path, progress: bool = True) -> Path:
    """Writes `out/SPLIT` with all pictures of a split as the processor scales them, unless it is there already.

    Args:
        folder: Made by build_style_pairs.
        split: Its split.
        processor: Decides the size; its mean and spread play no part.
        out: Folder of the packs.
        progress: Show a progress bar.

    Raises:
        InputError: There is no such split, or a picture can not be read; the message names it.
    """
    from tqdm import tqdm

    folder, target = Path(folder), Path(out) / split
    if not parquet_files(folder, split):
        raise InputError(folder, f"has no files {split}-*.parquet; make them with build_style_pairs")
    settings = _settings(folder, split, processor)
    about = target / "rows.json"
    if about.is_file() and json.loads(about.read_text(encoding="utf-8"))["settings"] == settings:
        return target
    part = Path(out) / f"{split}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    transform = type(processor)(**_plain(processor)).transform()
    columns: dict[str, list[Any]] = {name: [] for name in ("style", "content", "caption", "caption_zh", "text")}
    texts: dict[bytes, int] = {}
    targets: dict[str, list[np.ndarray | None]] = {name: [] for name in (*TARGETS, "pooled_zh")}
    total = _row_count(parquet_files(folder, split))
    with (part / "pictures.u8").open("wb") as file:
        for row in tqdm(
            read_rows(folder, split), desc=f"pack {split}", total=total, unit="picture", disable=not progress
        ):
            try:
                picture = processor.load(Image.open(io.BytesIO(row["image"])))
            except (InputError, OSError) as error:
                raise InputError(f"{row['style']}/{row['content']}", f"can not be read ({error})") from error
            file.write((transform(picture) * 255).round().byte().permute(1, 2, 0).contiguous().numpy().tobytes())
            for name in ("style", "content", "caption", "caption_zh"):
                columns[name].append(row[name])
            columns["text"].append(_text_number(row, texts, targets))
    np.savez(part / "texts.npz", **_tables(targets))  # type: ignore[arg-type] # stubs hold any name for allow_pickle
    (part / "rows.json").write_text(json.dumps({"settings": settings, **columns}, ensure_ascii=False), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    part.replace(target)
    return target


def _plain(processor: Any) -> dict[str, Any]:
    names = ("image_size", "interpolation", "crop_pct", "crop_mode")
    return {"mean": (0.0,) * 3, "std": (1.0,) * 3, **{name: getattr(processor, name) for name in names}}


def _row_count(files: Sequence[Path]) -> int:
    import pyarrow.parquet as pq

    return sum(pq.ParquetFile(path).metadata.num_rows for path in files)


def read_rows(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    """Rows with their targets as arrays; Python lists of so many numbers would take minutes."""
    import pyarrow.parquet as pq

    for path in parquet_files(folder, split):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=256, columns=_COLUMNS):
            plain = batch.select(["style", "content", "caption", "caption_zh"]).to_pylist()
            for number, row in enumerate(plain):
                row["image"] = batch.column("image")[number]["bytes"].as_py()
                for name in (*TARGETS, "pooled_zh"):
                    row[name] = _array(batch.column(name)[number])
                yield row


def _array(value: Any) -> np.ndarray | None:
    """A list of numbers, or of lists of numbers, out of Arrow."""
    inner = value.values
    if inner is None or not len(inner):
        return None
    shape: tuple[int, ...] = (len(inner),)
    if hasattr(inner, "flatten") and inner.type.num_fields:
        flat = inner.flatten()
        shape, inner = (len(inner), len(flat) // len(inner)), flat
    return np.array(inner.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(shape)


def _text_number(
    row: dict[str, Any], texts: dict[bytes, int], targets: dict[str, list[np.ndarray | None]]
) -> int:  # fmt: skip
    """Number of the row's targets among those that differ; -1 where it has none."""
    values = [row[name] for name in (*TARGETS, "pooled_zh")]
    if all(row[name] is None for name in TARGETS):
        return -1
    key = b"|".join(b"" if value is None else value.tobytes() for value in values)
    if key not in texts:
        texts[key] = len(texts)
        for name, value in zip((*TARGETS, "pooled_zh"), values, strict=True):
            targets[name].append(value)
    return texts[key]


def _tables(targets: dict[str, list[np.ndarray | None]]) -> dict[str, np.ndarray]:
    """One array for each target, rows of NaN where a text lacks it; targets that none has are left out."""
    found = {}
    for name, values in targets.items():
        like = next((value for value in values if value is not None), None)
        if like is not None:
            found[name] = np.stack([np.full_like(like, np.nan) if v is None else v for v in values])
    return found


class PackedPictures(GroupedRows):
    """A pack in memory; rows are numbers, which `PackedCollate` turns into a batch.

    Args:
        folder: What `pack_pictures` gave.
        group_size, shared_contents: As in `GroupedRows`.
    """

    def __init__(self, folder: str | Path, group_size: int = 1, shared_contents: float = 0.0) -> None:
        folder = Path(folder)
        about = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
        super().__init__(about["style"], about["content"], group_size, shared_contents)
        self.folder, self.side = folder, int(about["settings"]["image_size"])
        self.captions, self.captions_zh = about["caption"], about["caption_zh"]
        self.texts = np.array(about["text"], dtype=np.int64)
        self.pixels = np.memmap(folder / "pictures.u8", np.uint8, "r", shape=(len(self), self.side, self.side, 3))
        with np.load(folder / "texts.npz") as tables:
            self.targets = {name: torch.from_numpy(tables[name]) for name in tables.files}

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"index": index}

    def sizes(self) -> tuple[int | None, int | None]:
        """L and D of the targets, `None` where no row has any."""
        length = next((self.targets[name].shape[1] for name in ("embed", "mask") if name in self.targets), None)
        width = next((self.targets[name].shape[-1] for name in ("embed", "pooled") if name in self.targets), None)
        return length, width


class NameTable:
    """All names of a pack, English and Chinese, that a picture's own is to be told from.

    Args:
        pictures: The pack.
        softness: Of `soft_answers`.
    """

    def __init__(self, pictures: PackedPictures, softness: float = 0.07) -> None:
        own = pictures.targets["pooled"]  # (M, D)
        chinese = pictures.targets.get("pooled_zh", torch.full_like(own, torch.nan))
        self.has_chinese = ~chinese.isnan().any(-1)  # (M,)
        self.softness = softness
        self.names = torch.cat([own, chinese[self.has_chinese]]).unique(dim=0)  # (M', D)
        # As `soft_answers` does, but once: thousands of names at every step would cost as much as the pictures.
        mean = self.names.mean(0)
        self._units, self._english, self._chinese = (
            F.normalize(part - mean, dim=-1) for part in (self.names, own, chinese.nan_to_num())
        )

    def answers(self, texts: torch.Tensor) -> torch.Tensor:
        """How far each name is right for rows with these texts `(B,)`: `(B, M')`, half by each language that it has."""
        numbers = texts.clamp(min=0).cpu()
        found = self._soft(self._english[numbers])
        rows = self.has_chinese[numbers]
        if rows.any():
            found[rows] = (found[rows] + self._soft(self._chinese[numbers[rows]])) / 2
        return found

    def _soft(self, own: torch.Tensor) -> torch.Tensor:
        return (own @ self._units.T / self.softness).softmax(-1)


class PackedCollate:
    """Numbers of a pack's rows to a batch.

    Args:
        pictures: The pack.
        processor: For the mean and spread of the pixels, and the size.
        style_names: Styles by label; others are unknown.
        ignore_targets: Targets that are left out.
        crop: Each side of a training picture is seen through a window of this part of it up to 2 less this part: no
            larger and no smaller on average than pictures are later. 1: pictures stay whole.
        names: For the answers of the part `match`.
        features: What a frozen backbone saw, `(tokens, statistics)`, in place of pixels.
    """

    def __init__(
        self,
        pictures: PackedPictures,
        processor: Any,
        style_names: Sequence[str],
        ignore_targets: Sequence[str] = (),
        crop: float = 1.0,
        names: NameTable | None = None,
        features: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.pictures, self.crop, self.names, self.features = pictures, crop, names, features
        self.side = processor.image_size
        self.mean = torch.tensor(processor.mean).view(3, 1, 1) * 255
        self.spread = torch.tensor(processor.std).view(3, 1, 1) * 255
        self.labels = {name: number for number, name in enumerate(style_names)}
        self.learnt = [target for target in TARGETS if target not in ignore_targets]
        # The mask also says which places of the embedding count, so it comes along even where it is not learnt.
        carried = [*self.learnt, *(["mask"] if "embed" in self.learnt and "mask" not in self.learnt else [])]
        self.carried = [name for name in carried if name in pictures.targets]
        self.shapes = {name: tuple(table.shape[1:]) for name, table in pictures.targets.items()}
        self.complete = torch.zeros(max(1, int(pictures.texts.max(initial=0)) + 1), dtype=torch.long)
        if self.learnt and all(name in pictures.targets for name in self.learnt):
            tables = [pictures.targets[name].flatten(1).isnan().any(-1) for name in self.learnt]
            self.complete = (~torch.stack(tables).any(0)).long()

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Arguments of `StyleEncoderModel.forward`."""
        indices = np.array([row["index"] for row in rows])
        texts = torch.from_numpy(self.pictures.texts[indices])
        labels = [self.labels.get(self.pictures.styles[index], UNKNOWN_STYLE) for index in indices]
        has_target = (texts >= 0).long() * self.complete[texts.clamp(min=0)]
        batch = {"style_labels": torch.tensor(labels), "has_target": has_target}
        if self.features is None:
            batch["pixel_values"] = self.pixel_values(indices)
        else:
            tokens, statistics = self.features
            batch["feature_tokens"] = torch.from_numpy(tokens[indices]).float()
            batch["feature_statistics"] = torch.from_numpy(statistics[indices])
        if has_target.any():
            for target in self.carried:
                value = self.pictures.targets[target][texts.clamp(min=0)]
                batch[f"target_{target}"] = value.nan_to_num(nan=float(target == "mask"))  # without one all counts
            if self.names is not None:
                batch["target_names"], batch["name_answers"] = self.names.names, self.names.answers(texts)
        return batch

    def pixel_values(self, indices: np.ndarray) -> torch.Tensor:
        """Pictures `(B, 3, side, side)`, channels last in memory, cut at random and normalised."""
        values = torch.from_numpy(self.pictures.pixels[indices]).permute(0, 3, 1, 2).float()  # (B, 3, S, S)
        if self.crop < 1:
            values = F.grid_sample(values, self._windows(len(indices)), padding_mode="border", align_corners=False)
        elif self.side != self.pictures.side:
            size = (self.side, self.side)
            values = F.interpolate(values, size, mode="bilinear", antialias=True, align_corners=False)
        return values.sub_(self.mean).div_(self.spread)

    def _windows(self, count: int) -> torch.Tensor:
        """Where each picture is looked at `(B, side, side, 2)`: a window a little smaller or larger, somewhere."""
        theta = torch.zeros(count, 2, 3)
        for row in theta:
            for axis in range(2):
                part = random.uniform(self.crop, 2 - self.crop)
                row[axis, axis], row[axis, 2] = part, random.uniform(-1, 1) * abs(1 - part)
        return F.affine_grid(theta, [count, 3, self.side, self.side], align_corners=False)


@torch.no_grad()
def look_once(
    model: Any, pictures: PackedPictures, processor: Any, batch_size: int = 64, progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """What a frozen backbone sees in whole pictures, kept in the pack's folder for the next run.

    Args:
        model: `StyleEncoderModel`; only its backbone counts.
        pictures: The pack.
        processor: The model's.
        batch_size: Pictures at once.
        progress: Show a progress bar.

    Returns:
        Tokens float16 `(N, T, C)` and statistics float32 `(N, K)`.
    """
    from tqdm import tqdm

    key = f"{model.config.model_name}-{processor.image_size}-{_fingerprint(model.backbone)}"
    paths = [pictures.folder / f"{key}.{part}.npy" for part in ("tokens", "statistics")]
    if not all(path.is_file() for path in paths):
        collate = PackedCollate(pictures, processor, ())
        was_training = model.training
        model.eval()
        found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        starts = range(0, len(pictures), batch_size)
        for start in tqdm(starts, desc="look", unit="batch", disable=not progress):
            pixels = collate.pixel_values(np.arange(start, min(start + batch_size, len(pictures))))
            tokens, statistics, _ = model.look(pixels.to(model.device))
            found[0].append(tokens.to(torch.float16).cpu().numpy())
            found[1].append(statistics.float().cpu().numpy())
        model.train(was_training)
        for path, parts in zip(paths, found, strict=True):
            partial = path.with_suffix(".part.npy")
            np.save(partial, np.concatenate(parts))
            partial.replace(path)
    return np.load(paths[0], mmap_mode="r"), np.load(paths[1], mmap_mode="r")


def _fingerprint(backbone: torch.nn.Module) -> str:
    """Tells other weights of the same backbone."""
    import hashlib

    digest = hashlib.sha256()
    for value in backbone.state_dict().values():
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


__all__ = ["NameTable", "PackedCollate", "PackedPictures", "look_once", "pack_pictures", "read_rows"]
