"""Folders of pictures as users have them, and the `.pt` targets beside them that any text encoder can make."""

from __future__ import annotations

import csv
import io
import os
import re
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
        caption = _caption_of(path, name, tables, failures)
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


def _caption_of(path: Path, name: str, tables: dict[Path, dict[str, str]], failures: list[list[str]]) -> str | None:
    """What `NAME.txt`, or else the table of the folder, says of a picture; what can not be read is told once."""
    folder, beside = path.parent, ""
    try:
        beside = _text_of(path.with_name(f"{name}.txt")).strip()
    except InputError as error:
        failures.append([str(error.path), error.message])
    if folder not in tables:
        tables[folder] = {}
        try:
            tables[folder] = _caption_table(folder / CAPTION_TABLE)
        except InputError as error:
            failures.append([str(error.path), error.message])
    return beside or tables[folder].get(name) or tables[folder].get(path.name)


def _text_of(path: Path) -> str:
    """A file's text, empty where there is none.

    Raises:
        InputError: It is written in another encoding; a guess would make other words of it.
    """
    try:
        return path.read_text(encoding="utf-8-sig") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"can not be read as UTF-8 ({type(error).__name__}); save it so") from error


def _caption_table(path: Path) -> dict[str, str]:
    """Captions by name of a table with the columns name and caption; a heading is passed over.

    Raises:
        InputError: It can not be read.
    """
    try:
        rows = list(csv.reader(io.StringIO(_text_of(path), newline="")))
    except csv.Error as error:
        raise InputError(path, f"is no table of names and captions ({error})") from error
    heading = ["name", "caption"]
    return {
        row[0].strip(): row[1].strip()
        for row in rows
        if len(row) >= 2 and [cell.strip().lower() for cell in row[:2]] != heading
    }


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
        overwrite: Also write files that are there already; without it they stay as they are.
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
                if overwrite or target not in picture.targets:
                    path = target_path(picture, target)
                    partial = path.with_suffix(".part")
                    torch.save(torch.from_numpy(np.array(value)), partial)
                    os.replace(partial, path)  # a file appears whole or not at all, since it will be kept
    kept = sum(1 for picture in pictures if picture.caption) - len(todo)
    return {"made": len(todo), "kept": kept, "failures": failures}


__all__ = [
    "StylePicture",
    "find_style_pictures",
    "make_targets",
    "target_path",
]
