"""Texts as targets for pictures: any text encoder to a sequence embedding, a pooled embedding and a mask.

Encoders by what `--encoder` says:

* a model folder or the Hub's name of a model that `AutoModel` and `AutoTokenizer` load: last hidden state, its mean
  over the mask, and the mask;
* `module:name`: a function, or a class made without arguments, that takes a list of texts and gives either vectors
  `(N, D)` (a sentence encoder: for the sequence each word is then encoded by itself), or the triple `(N, L, D)`,
  `(N, D)`, `(N, L)`.
"""

from __future__ import annotations

import csv
import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..configuration.configuration_style_encoder import TARGETS
from ..processing.errors import InputError
from ..processing.picture_files import PICTURE_SUFFIXES

#: A word, or a single Chinese or Japanese character, which stands for one.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
_PICTURE_MARK = re.compile(r"_(img|image)$")
CAPTION_TABLE = "captions.csv"


@dataclass(frozen=True)
class EncodedTexts:
    """What a text encoder says of N texts: `embed` `(N, L, D)`, `pooled` `(N, D)` float32, `mask` `(N, L)` int8."""

    embed: np.ndarray
    pooled: np.ndarray
    mask: np.ndarray

    def row(self, index: int) -> dict[str, np.ndarray]:
        """The targets of one text by name."""
        return {name: getattr(self, name)[index] for name in TARGETS}


TextEncoder = Callable[[Sequence[str]], EncodedTexts]


def load_text_encoder(spec: str, num_tokens: int = 16, prefix: str = "") -> TextEncoder:
    """An encoder by what `--encoder` says; see the module's text.

    Args:
        spec: Model folder, name on the Hub, or `module:name`.
        num_tokens: L; longer texts are cut, shorter ones padded.
        prefix: Put before each text, as some encoders want (`"query: "` for E5).

    Raises:
        InputError: No such encoder.
    """
    module, colon, name = spec.partition(":")
    if colon and not Path(spec).exists() and re.fullmatch(r"[A-Za-z_][\w.]*", module):
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise InputError(None, f"encoder {spec!r} can not be imported ({error}); install its package") from error
        encode = found() if isinstance(found, type) else found
        encode = encode if callable(encode) else encode.encode
        return _CallableEncoder(spec, encode, num_tokens, prefix)
    return _HubEncoder(spec, num_tokens, prefix)


class _HubEncoder:
    def __init__(self, name: str, num_tokens: int, prefix: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name)
            self.model = AutoModel.from_pretrained(name).eval()
        except Exception as error:  # missing folder, no network, another kind of model: all end here
            told = " ".join(str(error).split())[:160]
            raise InputError(name, f"is no text encoder that transformers can load ({told})") from error
        self.num_tokens, self.prefix = num_tokens, prefix

    def __call__(self, texts: Sequence[str]) -> EncodedTexts:
        import torch

        options = {"max_length": self.num_tokens, "padding": "max_length", "truncation": True, "return_tensors": "pt"}
        inputs = self.tokenizer([self.prefix + text for text in texts], **options)
        with torch.no_grad():
            hidden = self.model(**inputs).last_hidden_state.float()  # (N, L, D)
        mask = inputs["attention_mask"]  # (N, L)
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return EncodedTexts((hidden * mask[..., None]).numpy(), pooled.numpy(), mask.to(torch.int8).numpy())


class _CallableEncoder:
    """A function of a package; its vectors of words are kept, for names share them."""

    def __init__(self, name: str, encode: Callable[[list[str]], Any], num_tokens: int, prefix: str) -> None:
        self.name, self.encode, self.num_tokens, self.prefix = name, encode, num_tokens, prefix
        self.words: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> EncodedTexts:
        found = self.encode([self.prefix + text for text in texts])
        if isinstance(found, tuple):
            embed, pooled, mask = (np.asarray(part, dtype=np.float32) for part in found)
            return EncodedTexts(*_fitted(embed, mask, self.num_tokens, pooled))
        pooled = self._vectors(found, len(texts))  # (N, D)
        spelt = [_WORD.findall(text)[: self.num_tokens] or [text] for text in texts]
        new = sorted({word for words in spelt for word in words} - self.words.keys())
        if new:
            vectors = self._vectors(self.encode([self.prefix + word for word in new]), len(new))
            self.words |= dict(zip(new, vectors, strict=True))
        embed = np.zeros((len(texts), self.num_tokens, pooled.shape[1]), np.float32)
        mask = np.zeros(embed.shape[:2], np.int8)
        for row, words in enumerate(spelt):
            embed[row, : len(words)] = [self.words[word] for word in words]
            mask[row, : len(words)] = 1
        return EncodedTexts(embed, pooled, mask)

    def _vectors(self, found: Any, count: int) -> np.ndarray:
        vectors = np.asarray(found.detach().cpu() if hasattr(found, "detach") else found, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != count or not np.isfinite(vectors).all():
            raise InputError(
                None, f"encoder {self.name!r} made {vectors.shape} of {count} texts; expected ({count}, D)"
            )
        return vectors


def _fitted(
    embed: np.ndarray, mask: np.ndarray, length: int, pooled: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut or padded with zeros to `length` places."""
    embed, mask = embed[:, :length], mask[:, :length]
    lack = length - embed.shape[1]
    embed = np.pad(embed, ((0, 0), (0, lack), (0, 0)))
    return embed, pooled, np.pad(mask, ((0, 0), (0, lack))).astype(np.int8)


# --- Folders as users have them


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
    "EncodedTexts",
    "StylePicture",
    "TextEncoder",
    "find_style_pictures",
    "load_text_encoder",
    "make_targets",
    "target_path",
]
