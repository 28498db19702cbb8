"""What a frozen part of StyleEncoder sees of the pictures of a split, worked out once and kept."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..processing.errors import InputError
from .arguments import parse_arguments


@dataclass
class Seen:
    """Pictures of a split as they were seen.

    Attributes:
        values: `(N, W)` float32.
        columns: What the data set says of them by column, a text each; empty where it says nothing.
    """

    values: torch.Tensor
    columns: dict[str, list[str]]


def key_of(weights: Iterable[tuple[str, torch.Tensor]], files: Sequence[Path], said: Sequence[str]) -> str:
    """What values are of: the weights that saw, the files and the columns; those of others are not taken."""
    digest = hashlib.sha256(repr(([(path.name, path.stat().st_size) for path in files], list(said))).encode())
    for name, value in sorted(weights, key=lambda item: item[0]):
        digest.update(name.encode() + value.float().numpy().tobytes())
    return digest.hexdigest()


def _kept(path: Path, key: str, columns: Sequence[str]) -> Seen | None:
    """What a file holds, where it is of this key."""
    if not path.is_file():
        return None
    with np.load(path) as kept:
        if str(kept["of"]) != key:
            return None
        return Seen(torch.from_numpy(kept["values"]).float(), {name: kept[name].tolist() for name in columns})


def _pixels(processor: Any, rows: Sequence[Mapping[str, Any]], file: Path) -> torch.Tensor:
    """Pictures of some rows as the backbone takes them.

    Raises:
        InputError: One can not be read.
    """
    from PIL import Image

    try:
        return processor([processor.load(Image.open(io.BytesIO(row["image"]["bytes"]))) for row in rows])[
            "pixel_values"
        ]
    except (InputError, OSError) as error:
        raise InputError(file, f"holds a picture that can not be read ({error})") from error


def look_at(
    see: Callable[[torch.Tensor], torch.Tensor], weights: Iterable[tuple[str, torch.Tensor]], processor: Any,
    folder: str | Path, split: str, cache: Path, columns: Sequence[str],
    wanted: Callable[[Mapping[str, str]], bool] | None = None, batch_size: int = 32,
) -> Seen:  # fmt: skip
    """What is seen of a split, from the cache where it is there.

    Args:
        see: From pixels `(B, 3, H, W)` to `(B, W)`.
        weights: All that what is seen depends on, by name.
        processor: `StyleEncoderProcessor`.
        folder: Made by build_style_pairs.
        split: Of it.
        cache: Folder for what was seen; a file for each split.
        columns: Of the data set, to be given along.
        wanted: Whether a picture of these columns is looked at; all are when left out.
        batch_size: Pictures at a time.

    Raises:
        InputError: There is no such split, or a picture can not be read.
    """
    import pyarrow.parquet as pq
    from tqdm import tqdm

    from .style_encoder_data import parquet_files

    files = parquet_files(Path(folder), split)
    if not files:
        raise InputError(folder, f"has no files {split}-*.parquet; make them with build_style_pairs")
    total = sum(pq.ParquetFile(path).metadata.num_rows for path in files)
    path, key = cache / f"{split}.npz", key_of(weights, files, [*columns, getattr(wanted, "__name__", "")])
    kept = _kept(path, key, columns)
    if kept is not None:
        return kept
    values: list[np.ndarray] = []
    found: dict[str, list[str]] = {name: [] for name in columns}
    with tqdm(total=total, desc=f"look at {split}", unit="picture") as bar:
        for file in files:
            for batch in pq.ParquetFile(file).iter_batches(batch_size, columns=["image", *columns]):
                rows = [{**row, **{name: row[name] or "" for name in columns}} for row in batch.to_pylist()]
                bar.update(len(rows))
                rows = [row for row in rows if wanted is None or wanted(row)]
                if not rows:
                    continue
                with torch.no_grad():
                    values.append(see(_pixels(processor, rows, file)).half().numpy())
                for name in columns:
                    found[name] += [row[name] for row in rows]
    if not values:
        raise InputError(folder, f"has no picture in its split {split} that is wanted here")
    cache.mkdir(parents=True, exist_ok=True)
    joined = np.concatenate(values)
    said_arrays: dict[str, Any] = {name: np.array(texts) for name, texts in found.items()}
    np.savez(path, of=np.array(key), values=joined, **said_arrays)
    return Seen(torch.from_numpy(joined).float(), found)


def open_model(folder: str, data: Any, out: Path, overwrite: bool) -> tuple[Any, Any]:
    """A StyleEncoder to train on, in float32, and its processor.

    Args:
        folder: Of the model.
        data: Folders of pictures, as they were given.
        out: Folder for the model afterwards.
        overwrite: Whether a model there may be replaced.

    Raises:
        InputError: Folders that are not there, or a model where the new one shall be.
    """
    from ..modeling.modeling_style_encoder import StyleEncoderModel
    from ..processing.processing_style_encoder import StyleEncoderProcessor

    if not data or not (Path(folder) / "config.json").is_file():
        raise InputError(folder or None, "give --data_dir FOLDER and --model FOLDER of a StyleEncoder")
    if (out / "config.json").exists() and not overwrite:
        raise InputError(out, "holds a model; choose another folder, or say --overwrite")
    model = StyleEncoderModel.from_pretrained(folder, dtype="float32").eval()
    return model, StyleEncoderProcessor.from_pretrained(folder)


def dtype_of(folder: str) -> torch.dtype:
    """What a model's weights are kept as."""
    from ..configuration.configuration_style_encoder import StyleEncoderConfig

    told = str(StyleEncoderConfig.from_pretrained(folder).dtype).removeprefix("torch.")
    return getattr(torch, told, torch.float32)


def run_command(kind: Any, run: Callable[[Any], Any], prog: str, text: str | None, argv: Sequence[str] | None) -> int:
    """A command of one group of settings; its exit status."""
    try:
        (args,) = parse_arguments((kind,), list(sys.argv[1:] if argv is None else argv), prog=prog, description=text)
        run(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


__all__ = ["Seen", "dtype_of", "key_of", "look_at", "open_model", "run_command"]
