"""Stage `pack` of ScoreVLM: systems from Parquet, or drawn on the spot, to a packed folder."""

from __future__ import annotations

import io
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..processing.alphatex_grammar import read_alphatex
from ..processing.dense_labels import build_label_space
from ..processing.errors import InputError
from .score_vlm_data import PackWriter, SystemRow, row_from_picture

SPACE_SYSTEMS = 30_000  # generated texts that the class names are counted on
SPACE_SEED = 777


def label_space() -> dict[str, list[str]]:
    """Class names of the dense heads, from a fixed stream of generated pieces: the same for every pack."""
    from ..datasets_scripts.guitar_parts import iter_system_jobs

    return build_label_space(read_alphatex(text) for text, _, _ in iter_system_jobs(SPACE_SEED, SPACE_SYSTEMS, "train"))


def rows_from_parquet(folder: Path, split: str) -> Iterator[SystemRow]:
    """Rows of a data set made by `build_score_tab`.

    Raises:
        InputError: There is no Parquet file for the split.
    """
    from PIL import Image

    files = sorted(str(path) for path in folder.rglob("*.parquet") if split in path.as_posix())
    if not files:
        raise InputError(folder, f"has no Parquet files of the split {split!r}; make them with build_score_tab")
    import pyarrow.parquet as parquet

    for file in files:
        for batch in parquet.ParquetFile(file).iter_batches(batch_size=64):
            for row in batch.to_pylist():
                if row["split"] == split:
                    image = Image.open(io.BytesIO(row["image"]["bytes"])).convert("L")
                    yield _row(row, np.asarray(image))


def _row(row: dict[str, Any], image: np.ndarray) -> SystemRow:
    boxes = row["boxes"]
    return SystemRow(
        image=image,
        text=row["text"],
        beat_x={(b["bar"], b["voice"], b["beat"]): b["on_x"] for b in boxes["beats"]},
        bar_x=[(b["x"], b["x"] + b["w"]) for b in sorted(boxes["bars"], key=lambda b: b["bar"])],
        tab_line_ys=list(boxes["tab_lines"]),
        has_score=row["style"]["staves"] == "score+tabs",
        name=f"{row['piece_id']} system {row['system']}",
    )


def generated_rows(
    seed: int,
    count: int,
    split: str,
    continuations: float,
    drills: float = 0.0,
    retimings: float = 0.0,
    decorations: float = 0.0,
    plain: bool = False,
    max_bars: int = 0,
) -> Iterator[SystemRow | InputError]:
    """Systems of generated pieces, drawn as they are asked for.

    Args:
        seed: Of the pieces.
        count: Systems.
        split: `"train"`, `"validation"` or `"test"`.
        continuations: Part of the systems that look as if others came before them.
        drills: Part of the systems that are crowded with rare signs.
        retimings: Part of the systems in which longer or shorter note values are tried.
        decorations: Part of the systems with words and signs around them that the truth does not name.
        plain, max_bars: All in one style; longest systems. See `iter_system_jobs`.
    """
    from ..datasets_scripts.continuations import as_continuation
    from ..datasets_scripts.decorations import decorated
    from ..datasets_scripts.drills import with_rare_signs
    from ..datasets_scripts.guitar_parts import iter_system_jobs
    from ..datasets_scripts.render.client import AlphaTabPool, RenderJob
    from ..datasets_scripts.retiming import retimed

    draw = random.Random(seed)
    adorn = random.Random(f"decorations {seed}")  # of its own: without decorations a seed draws what it always drew

    def jobs() -> Iterator[RenderJob]:
        for number, (text, style, piece) in enumerate(iter_system_jobs(seed, count, split, plain, max_bars)):
            if draw.random() < drills:
                text = with_rare_signs(text, draw)
            if draw.random() < retimings:
                text = retimed(text, draw) or text
            later = as_continuation(text) if draw.random() < continuations else None
            drawn, truth, metre = later or (text, text, (4, 4))
            key = (f"{piece} {number}", truth, metre, 1 if later else 0)
            if adorn.random() < decorations:
                extra = decorated(drawn, adorn, key[3])
                drawn, style = extra.text, style | extra.style
            yield RenderJob(text=drawn, layout="system", first_bar=key[3], key=key, **style)

    with AlphaTabPool(workers=1) as pool:
        for answer in pool.map_render(jobs()):
            if not isinstance(answer, list):
                yield answer
                continue
            name, truth, metre, first = answer[0].key
            try:
                yield row_from_picture(answer[0], truth, name, first, metre)
            except (ValueError, KeyError, IndexError) as error:
                yield InputError(name, f"{type(error).__name__} {error}")


def pack(
    rows: Iterable[SystemRow | InputError], folder: Path, total: int | None = None, locate: bool = True
) -> list[str]:
    """Writes a packed folder with a progress bar; returns what failed, a line each."""
    from tqdm.auto import tqdm

    writer = PackWriter(folder, label_space(), locate)
    for row in tqdm(rows, desc=f"packing {folder.name}", total=total, unit="system"):
        if isinstance(row, SystemRow):
            writer.add(row)
        else:
            writer.failures.append(str(row))
    writer.close()
    return writer.failures


__all__ = ["generated_rows", "label_space", "pack", "rows_from_parquet"]
