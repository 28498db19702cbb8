"""Folders of pictures as users have them, and the `.pt` targets beside them that any text encoder can make."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..configuration.configuration_style_encoder import TARGETS
from ..processing.errors import InputError
from ..processing.picture_files import PICTURE_SUFFIXES
from ..processing.text_encoder import TextEncoder, load_text_encoder

_PICTURE_MARK = re.compile(r"_(img|image)$")
CAPTION_TABLE = "captions.csv"


@dataclass(frozen=True)
class StylePicture:
    """One picture of a folder of styles.

    Attributes:
        style: Its folder, named from the root.
        name: File name without suffix and `_img`.
        path: The file.
        caption: What `NAME.txt` or the folder's `captions.csv` says, or `None`.
        targets: The `.pt` files that are there, by target.
    """

    style: str
    name: str
    path: Path
    caption: str | None = None
    targets: dict[str, Path] = field(default_factory=dict)


def target_path(picture: StylePicture, target: str) -> Path:
    """Where a target of a picture lies: `image01_embed.pt` beside `image01_img.png`."""
    return picture.path.with_name(f"{picture.name}_{target}.pt")


def find_style_pictures(root: str | Path) -> tuple[list[StylePicture], list[list[str]]]:
    """All pictures below a folder, each in the style of its own folder, and what is wrong with others.

    Raises:
        InputError: No such folder, or no picture in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(root, "no such folder; give one that holds a folder of pictures for each style")
    pictures: list[StylePicture] = []
    failures: list[list[str]] = []
    seen: dict[tuple[Path, str], Path] = {}
    tables: dict[Path, dict[str, str]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() not in PICTURE_SUFFIXES or not path.is_file() or path.name.startswith("."):
            continue
        name = _PICTURE_MARK.sub("", path.stem)
        first = seen.setdefault((path.parent, name), path)
        if first != path:
            failures.append([str(path), f"{first.name} has the same name and would share its targets; rename one"])
            continue
        if path.parent not in tables:
            tables[path.parent] = dict(_caption_table(path.parent / CAPTION_TABLE))
        beside = path.with_name(f"{name}.txt")
        caption = beside.read_text(encoding="utf-8", errors="replace").strip() if beside.is_file() else None
        caption = caption or tables[path.parent].get(name) or tables[path.parent].get(path.name)
        style = path.parent.relative_to(root).as_posix()
        picture = StylePicture(root.name if style == "." else style, name, path, caption)
        there = {target: target_path(picture, target) for target in TARGETS}
        pictures.append(
            StylePicture(
                picture.style, name, path, caption, {t: file for t, file in there.items() if file.is_file()}
            )
        )  # fmt: skip
    if not pictures:
        raise InputError(root, f"holds no pictures ({', '.join(PICTURE_SUFFIXES)})")
    return pictures, failures


def _caption_table(path: Path) -> Iterator[tuple[str, str]]:
    """Rows of a table with the columns name and caption; a heading is passed over."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.reader(file):
            if len(row) >= 2 and [cell.strip().lower() for cell in row[:2]] != ["name", "caption"]:
                yield row[0].strip(), row[1].strip()


def make_targets(
    folder: str | Path,
    encoder: TextEncoder | str,
    num_tokens: int = 16,
    overwrite: bool = False,
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, Any]:
    """Writes `NAME_embed.pt`, `NAME_pooled.pt` and `NAME_mask.pt` beside each picture that has a caption.

    Args:
        folder: Folders of pictures by style, with `NAME.txt` beside a picture or a `captions.csv` (name, caption) in
            its folder.
        encoder: From `load_text_encoder`, or what it takes.
        num_tokens: L, where `encoder` is a name.
        overwrite: Also where all three files are there already.
        batch_size: Texts that are encoded together.
        progress: Show a progress bar.

    Returns:
        `{"made": count, "kept": count, "failures": [[file, what], …]}`; a picture without a caption is a failure.

    Raises:
        InputError: No such folder or encoder, or no pictures.
    """
    import torch
    from tqdm import tqdm

    encode = load_text_encoder(encoder, num_tokens) if isinstance(encoder, str) else encoder
    pictures, failures = find_style_pictures(folder)
    failures += [[str(p.path), f"has no caption; write {p.name}.txt beside it"] for p in pictures if not p.caption]
    todo = [p for p in pictures if p.caption and (overwrite or len(p.targets) < len(TARGETS))]
    for start in tqdm(range(0, len(todo), batch_size), desc="encode", unit="batch", disable=not progress):
        part = todo[start : start + batch_size]
        encoded = encode([str(picture.caption) for picture in part])
        for row, picture in enumerate(part):
            for target, value in encoded.row(row).items():
                torch.save(torch.from_numpy(np.array(value)), target_path(picture, target))
    kept = sum(1 for picture in pictures if picture.caption) - len(todo)
    return {"made": len(todo), "kept": kept, "failures": failures}


__all__ = [
    "StylePicture",
    "find_style_pictures",
    "make_targets",
    "target_path",
]
