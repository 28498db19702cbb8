"""What StyleEncoder says of the pictures of a data set's split, and where their names stand among others."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..processing.errors import InputError
from .evaluation_report import EvaluationReport, Failure
from .metrics_common import Estimate, proportion
from .metrics_style import retrieval_ranks
from .style_encoder_data import parquet_files
from .style_encoder_pack import read_rows

POOL = 500  # names that a picture's own is found among
TOP = 5
MAKE_DATA = "make the data with build_style_pairs (its --help has the commands) and name the folder by --data"


@dataclass
class Looked:
    """What a model says of the pictures of a split, and what is known of them; a row each.

    Attributes:
        styles, contents, captions, captions_zh: Of each picture.
        targets: `pooled`, `mask`, `pooled_zh`, `None` where a row lacks it.
        arrays: `style`, `pooled`, `mask` of the model; `features`, the mean of its backbone's last map, and
            `statistics`, the means and spreads of its maps.
    """

    styles: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    captions: list[str | None] = field(default_factory=list)
    captions_zh: list[str | None] = field(default_factory=list)
    targets: dict[str, list[np.ndarray | None]] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.styles)

    def having(self, target: str) -> list[int]:
        """Rows that have a target."""
        return [index for index, value in enumerate(self.targets.get(target, ())) if value is not None]

    def target(self, target: str, rows: Sequence[int]) -> np.ndarray:
        """Targets of rows that have one, stacked."""
        return np.stack([np.asarray(self.targets[target][row]) for row in rows])


def place_of(content: str, seed: int) -> bytes:
    """What to sort by for an order that is at random, but the same for all who know the seed."""
    return hashlib.sha256(f"{seed} {content}".encode()).digest()


def choose_rows(folder: Path, split: str, n: int, seed: int) -> list[dict[str, Any]]:
    """About `n` rows of a split, whole contents at a time, so that a content keeps all its styles.

    Raises:
        InputError: There is no such split.
    """
    if not parquet_files(folder, split):
        raise InputError(folder, f"has no split {split!r}; {MAKE_DATA}")
    rows = list(read_rows(folder, split))
    rows.sort(key=lambda row: (place_of(row["content"], seed), row["style"]))
    if len(rows) <= n:
        return rows
    last = rows[n - 1]["content"]
    return [row for k, row in enumerate(rows) if k < n or row["content"] == last]


def look_at_rows(model: Any, processor: Any, rows: Sequence[dict[str, Any]], report: EvaluationReport) -> Looked:
    """Runs a model over rows; a picture that can not be read is a failure and left out."""
    import torch
    from PIL import Image

    seen, parts = Looked(), dict[str, list[np.ndarray]]()
    names = ("embed", "pooled", "mask", "pooled_zh")
    seen.targets = {name: [] for name in names}
    for start in range(0, len(rows), 32):
        batch, pictures = [], []
        for row in rows[start : start + 32]:
            try:
                pictures.append(processor.load(Image.open(io.BytesIO(row["image"]))))
                batch.append(row)
            except (InputError, OSError) as error:
                report.failures.append(Failure(f"{row['style']}/{row['content']}", "read", str(error)))
        if not batch:
            continue
        with torch.no_grad():
            pixels = processor(pictures)["pixel_values"].to(model.device)
            tokens, statistics, _ = model.look(pixels)
            out = model(feature_tokens=tokens, feature_statistics=statistics)
        found = {"style": out.style, "pooled": out.pooled, "mask": out.mask, "features": tokens.mean(1)}
        for name, value in {**found, "statistics": statistics}.items():
            parts.setdefault(name, []).append(value.float().cpu().numpy())
        for row in batch:
            for name in ("styles", "contents"):
                getattr(seen, name).append(row[name.removesuffix("s")])
            seen.captions.append(row["caption"])
            seen.captions_zh.append(row["caption_zh"])
            for name in names:
                seen.targets[name].append(row[name])
    seen.arrays = {name: np.concatenate(values) for name, values in parts.items()}
    return seen


# --- Names


def name_pool(folder: Path, splits: Sequence[str] = ("test", "test_style")) -> dict[str, dict[str, np.ndarray]]:
    """All names of some splits by language, `en` and `zh`, with their pooled embeddings."""
    found: dict[str, dict[str, np.ndarray]] = {"en": {}, "zh": {}}
    for split in splits:
        for row in read_rows(folder, split):
            for language, caption, target in (("en", "caption", "pooled"), ("zh", "caption_zh", "pooled_zh")):
                if row[caption] and row[target] is not None:
                    found[language].setdefault(row[caption], row[target])
    return found


def pools_of(names: Sequence[str], seed: int, size: int = POOL) -> dict[str, list[int]]:
    """For each name the `size` names, itself among them, that its pictures choose from: one of some random pools."""
    order = [int(k) for k in np.random.default_rng(seed).permutation(len(names))]
    found = {}
    for start in range(0, len(names), size):
        pool = order[start : start + size]
        pool = pool if len(pool) == size else order[-size:]
        for index in order[start : start + size]:
            found[names[index]] = pool
    return found


def name_ranks(
    seen: Looked, rows: Sequence[int], captions: Sequence[str | None], names: dict[str, np.ndarray], seed: int
) -> list[int]:
    """Place of its own name, from 1, for each row, among its pool."""
    listed = sorted(names)
    number, vectors = {name: k for k, name in enumerate(listed)}, np.stack([names[name] for name in listed])
    pools = pools_of(listed, seed)
    ranks = [0] * len(rows)
    by_pool: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        by_pool.setdefault(id(pools[str(captions[row])]), []).append(place)
    for places in by_pool.values():
        pool = pools[str(captions[rows[places[0]]])]
        where = {index: k for k, index in enumerate(pool)}
        answers = [where[number[str(captions[rows[place]])]] for place in places]
        queries = seen.arrays["pooled"][[rows[place] for place in places]]
        for place, rank in zip(places, retrieval_ranks(queries, vectors[pool], answers), strict=True):
            ranks[place] = int(rank)
    return ranks


def measure_names(
    seen: Looked, pool: dict[str, dict[str, np.ndarray]], known_words: set[str], report: EvaluationReport, prefix: str
) -> dict[str, Estimate]:
    """Top 5 in both languages, and in English of the names that share no word with any name of the training."""
    found = {}
    for language, target, captions in (("en", "pooled", seen.captions), ("zh", "pooled_zh", seen.captions_zh)):
        names = pool[language]
        rows = [row for row in seen.having(target) if captions[row] in names]
        if not rows:
            continue
        if len(names) < POOL:
            report.notes.append(f"{prefix}name_top5_{language}: only {len(names)} names are there to choose from.")
        hits = [rank <= TOP for rank in name_ranks(seen, rows, captions, names, report.seed)]
        found[f"{prefix}name_top5_{language}"] = proportion(hits, [seen.contents[row] for row in rows], "pictures")
        if language == "en" and known_words:
            new = [k for k, row in enumerate(rows) if not known_words & set(str(captions[row]).split())]
            found[f"{prefix}name_top5_en_new_words"] = proportion(
                [hits[k] for k in new], [seen.contents[rows[k]] for k in new], "pictures"
            )
    return found


__all__ = [
    "Looked",
    "choose_rows",
    "look_at_rows",
    "measure_names",
    "name_pool",
    "name_ranks",
    "place_of",
    "pools_of",
]
