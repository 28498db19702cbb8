"""Stage `pack` of SummaryBridge: windows of music, their summaries out of a frozen Museformer, and captions of them.

Captions are spoken of the very window, after it was transposed or sped up, so that they are true of what is learnt.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..processing.bar_midi_vocabulary import EOS_ID
from ..processing.errors import InputError
from ..processing.music_wishes import measure_score
from ..processing.tokenization_bar_midi import decode, scale_tempo, transpose
from .loading import mix_seed
from .museformer_data import BarPieces
from .summary_bridge_data import ATTRIBUTE_NAMES, FORMAT, values_row, wanted_row

SPLITS = ("train", "validation", "test")
MIN_BARS = 4

#: Gives captions of a measurement: `(values, split, seed, name)`.
Captions = Callable[[Mapping[str, Any], str, int, str], Sequence[Any]]


@dataclass
class PackSettings:
    """How windows are cut and spoken of.

    Attributes:
        window_bars: Lengths of the windows; each length is cut out of a piece with half of it in common.
        copies: How often a training piece is there: once as it is, and transposed and faster or slower after that.
        transpose: Semitones up or down at most.
        tempo: Greatest change of tempo, as a part of it.
        captions: Captions of each window at most, half in each language.
        seed: Of all draws.
    """

    window_bars: tuple[int, ...] = (16,)
    copies: int = 2
    transpose: int = 5
    tempo: float = 0.15
    captions: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.window_bars or min(self.window_bars) < MIN_BARS:
            raise InputError(None, f"window_bars are {list(self.window_bars)}; a window has {MIN_BARS} bars or more")
        if self.copies < 1 or self.captions < 1 or not 0 <= self.tempo < 1 or self.transpose < 0:
            raise InputError(
                None,
                f"copies {self.copies} and captions {self.captions} must be 1 or more, transpose {self.transpose} 0 or "
                f"more and tempo {self.tempo} in [0, 1)",
            )


@dataclass
class _Split:
    """A split as it grows."""

    summaries: list[np.ndarray] = field(default_factory=list)
    tokens: list[np.ndarray] = field(default_factory=list)
    bar_starts: list[int] = field(default_factory=list)
    windows: list[tuple[int, int]] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)
    captions: list[int] = field(default_factory=lambda: [0])
    texts: list[int] = field(default_factory=list)
    wanted: list[np.ndarray] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)  # texts, each once
    failures: list[tuple[str, str]] = field(default_factory=list)
    num_tokens: int = 0


def default_captions() -> Captions:
    """Captions as `build_captions` speaks them; images of a split's own."""
    from ..datasets_scripts.build_captions import captions_of, images_by_split

    images = images_by_split()
    return lambda values, split, seed, name: captions_of(values, images[split], seed=seed, name=name)


def cut_windows(num_bars: int, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """First bar and length of each window; a piece shorter than all of them is one window."""
    found = [(first, size) for size in lengths for first in range(0, num_bars - size + 1, max(1, size // 2))]
    return found or ([(0, num_bars)] if num_bars >= MIN_BARS else [])


def versions(ids: np.ndarray, count: int, settings: PackSettings, seed: int) -> Iterator[np.ndarray]:
    """The piece as it is, then transposed and faster or slower."""
    ids = ids.astype(np.int64)  # numbers below 0 are added to them
    yield ids
    for number in range(1, count):
        draw = random.Random(mix_seed(seed, number))
        shifts = [s for s in range(-settings.transpose, settings.transpose + 1) if s]
        moved = transpose(ids, draw.choice(shifts)) if shifts else None
        yield scale_tempo(ids if moved is None else moved, 1 + draw.uniform(-settings.tempo, settings.tempo))


def choose_captions(captions: Sequence[Any], count: int, seed: int) -> list[Any]:
    """So many of the captions at most, half in each language, of as many kinds as can be."""
    draw = random.Random(seed)
    chosen: list[Any] = []
    languages = sorted({caption.language for caption in captions})
    for place, language in enumerate(languages):
        share = count // len(languages) + (place < count % len(languages))
        mine = [caption for caption in captions if caption.language == language]
        draw.shuffle(mine)
        seen: dict[str, int] = {}
        order: list[tuple[int, int, Any]] = []
        for caption in mine:
            seen[caption.kind] = seen.get(caption.kind, 0) + 1
            order.append((seen[caption.kind], len(order), caption))
        chosen += [caption for _, _, caption in sorted(order, key=lambda item: item[:2])[:share]]
    return chosen


def add_piece(
    split: _Split,
    name: str,
    split_name: str,
    ids: np.ndarray,
    settings: PackSettings,
    summarize: Callable[[np.ndarray], np.ndarray],
    captions: Captions,
    seed: int,
    bar_id: int,
) -> None:
    """Adds all windows of one piece, one version after the other.

    Args:
        split: Where to.
        name: The piece's, for messages and draws.
        split_name: Which split's images may be spoken of.
        ids: Words, from a bar on.
        settings: See there.
        summarize: Words `(T,)` to summaries `(N, Z)`.
        captions: See `Captions`.
        seed: Of this piece.
        bar_id: The word that begins a bar.
    """
    ids = ids[ids != EOS_ID]
    count = settings.copies if split_name == "train" else 1
    for number, version in enumerate(versions(ids, count, settings, seed)):
        starts = np.append(np.flatnonzero(version == bar_id), len(version))
        first_row, before = len(split.bar_starts), len(split.windows)
        for first, size in cut_windows(len(starts) - 1, settings.window_bars):
            key = f"{name}, version {number}, bars {first + 1} to {first + size}"
            try:
                values = measure_score(decode(version[starts[first] : starts[first + size]]), name=key)
            except InputError as error:
                split.failures.append((key, error.message))
                continue
            spoken = captions(values, split_name, settings.seed, key)
            spoken = choose_captions(spoken, settings.captions, mix_seed(seed, number, first, size))
            if not spoken:
                split.failures.append((key, "nothing can be said of it"))
                continue
            split.windows.append((first_row + first, size))
            split.values.append(values_row(values))
            for caption in spoken:
                split.texts.append(split.numbers.setdefault(caption.text, len(split.numbers)))
                split.wanted.append(wanted_row(caption.stated, caption.sides))
                split.told.append({"window": len(split.windows) - 1, **_told(caption)})
            split.captions.append(len(split.texts))
        if len(split.windows) == before:
            continue
        split.summaries.append(summarize(version).astype(np.float16))
        split.tokens.append(version.astype(np.uint16))
        split.bar_starts += (split.num_tokens + starts[:-1]).tolist()
        split.num_tokens += len(version)


def _told(caption: Any) -> dict[str, Any]:
    return {name: getattr(caption, name) for name in ("text", "language", "kind", "image", "stated", "sides")}


def write_split(folder: Path, split: _Split, encode: Any, progress: bool, batch_size: int = 64) -> dict[str, int]:
    """Encodes the texts, and writes all arrays; returns counts.

    Raises:
        InputError: No window at all.
    """
    from tqdm import tqdm

    if not split.windows:
        raise InputError(folder, f"got no windows; {len(split.failures)} were tried and failed")
    texts = list(split.numbers)
    pooled: list[np.ndarray] = []
    places: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    known: dict[bytes, int] = {}
    rows: list[np.ndarray] = []
    for start in tqdm(range(0, len(texts), batch_size), desc=f"{folder.name}: texts", disable=not progress):
        found = encode(texts[start : start + batch_size])
        pooled.append(found.pooled.astype(np.float16))
        masks.append(found.mask.astype(np.int8))
        embed = (found.embed * found.mask[..., None]).astype(np.float16)
        place = np.zeros(found.mask.shape, dtype=np.int32)
        for where in np.ndindex(place.shape):
            key = embed[where].tobytes()
            if key not in known:
                known[key] = len(rows)
                rows.append(embed[where])
            place[where] = known[key]
        places.append(place)
    arrays = {
        "summaries": np.concatenate(split.summaries), "tokens": np.concatenate(split.tokens),
        "bar_starts": np.array([*split.bar_starts, split.num_tokens], dtype=np.int64),
        "windows": np.array(split.windows, dtype=np.int64), "values": np.stack(split.values),
        "captions": np.array(split.captions, dtype=np.int64), "texts": np.array(split.texts, dtype=np.int32),
        "wanted": np.stack(split.wanted), "pooled": np.concatenate(pooled), "rows": np.stack(rows),
        "places": np.concatenate(places), "mask": np.concatenate(masks),
    }  # fmt: skip
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(partial / f"{name}.npy", array)
    with open(partial / "captions.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in split.told)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)  # a split appears whole or not at all
    counts = {"bars": len(split.bar_starts), "windows": len(split.windows), "captions": len(split.texts)}
    return counts | {"texts": len(texts), "failures": len(split.failures)}


def pack(
    out: str | Path,
    pieces: Mapping[str, BarPieces],
    summarize: Callable[[np.ndarray], np.ndarray],
    encode: Any,
    settings: PackSettings,
    about: Mapping[str, Any],
    bar_id: int,
    captions: Captions | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Packs all splits; those that are there already, of the same settings, stay.

    Args:
        out: Folder of the pack.
        pieces: By split.
        summarize: Words `(T,)` of a piece to summaries `(N, Z)`.
        encode: Text encoder: a list of texts to `EncodedTexts`.
        settings: See there.
        about: What else decides the content, such as names and fingerprints; kept in pack.json.
        bar_id: The word that begins a bar.
        captions: See `Captions`; those of `build_captions` by default.
        progress: Show progress bars.

    Returns:
        What pack.json holds: settings, and counts of each split.

    Raises:
        InputError: `out` holds a pack of other settings, or a split gives no window.
    """
    from tqdm import tqdm

    out, captions = Path(out), captions or default_captions()
    told: dict[str, Any] = {"format": FORMAT, **vars(settings), **about, "attributes": list(ATTRIBUTE_NAMES)}
    told["window_bars"] = list(settings.window_bars)
    path = out / "pack.json"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in told if before.get(name) != told[name]]
        if other:
            raise InputError(
                out, f"holds a pack made with another {other[0]} ({before.get(other[0])}); choose another folder"
            )
        told = before
    out.mkdir(parents=True, exist_ok=True)
    told.setdefault("splits", {})
    for place, (name, chunks) in enumerate(pieces.items()):
        if (out / name).is_dir() and name in told["splits"]:
            continue
        split = _Split()
        for k in tqdm(range(len(chunks.ids)), desc=f"{name}: music", unit="piece", disable=not progress):
            title = f"{chunks.about[k].get('piece_id', 'piece')}, chunk {k}"
            seed = mix_seed(settings.seed, place, k)
            add_piece(split, title, name, chunks.ids[k], settings, summarize, captions, seed, bar_id)
        told["splits"][name] = write_split(out / name, split, encode, progress)
        lines = [f"{window}\t{why}\n" for window, why in split.failures]
        (out / f"{name}-failures.tsv").write_text("".join(lines), encoding="utf-8")
        path.write_text(json.dumps(told, ensure_ascii=False, indent=1), encoding="utf-8")
    return told


__all__ = ["MIN_BARS", "SPLITS", "PackSettings", "choose_captions", "cut_windows", "pack", "versions"]
