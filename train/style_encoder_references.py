"""Writes what `compare` and `inspect` measure by beside a model's weights.

python -m intermezzo.train.style_encoder_references --checkpoint checkpoints/style_encoder --data grid
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..processing.errors import InputError
from .evaluation_report import EvaluationReport
from .style_encoder_data import parquet_files
from .style_encoder_looks import choose_rows, look_at_rows, name_pool, place_of


def write_references(
    checkpoint: str | Path, data: str | Path, n: int = 4000, captions: int = 2000, seed: int = 0, points: int = 501
) -> list[Path]:
    """Writes what `compare` and `inspect` measure by: similarities of held-out pairs, and names with their embeddings.

    Args:
        checkpoint: Model folder.
        data: Folder made by build_style_pairs; its split `test` is looked at.
        n: Pictures.
        captions: Names to keep, English and Chinese together.
        seed: Decides which.
        points: Quantiles of each kind of pair.

    Raises:
        InputError: No such checkpoint or data.
    """
    from safetensors.numpy import save_file

    from ..processing.style_looker import CAPTIONS_FILE, PAIRS_FILE, StyleLooker

    looker = StyleLooker.from_pretrained(checkpoint)
    report = EvaluationReport("style_encoder", str(checkpoint), str(data), n, seed)
    seen = look_at_rows(looker.model, looker.processor, choose_rows(Path(data), "test", n, seed), report)
    cosines = seen.arrays["style"] @ seen.arrays["style"].T
    styles = np.array(seen.styles)
    upper = np.triu(np.ones(cosines.shape, dtype=bool), 1)
    alike = styles[:, None] == styles[None]
    levels = np.linspace(0, 1, points)
    pairs: dict[str, Any] = {
        name: np.quantile(cosines[upper & kind], levels).round(4).tolist()
        for name, kind in (("same", alike), ("different", ~alike))
    }
    pairs |= {"pictures": len(seen), "styles": len(set(seen.styles)), "note": "quantiles of cosines, held-out contents"}
    splits = [split for split in ("train", "validation", "test") if parquet_files(data, split)]
    pool = {name: vector for own in name_pool(Path(data), splits).values() for name, vector in own.items()}
    kept = sorted(sorted(pool, key=lambda name: place_of(name, seed))[:captions])
    paths = [Path(checkpoint) / PAIRS_FILE, Path(checkpoint) / CAPTIONS_FILE]
    paths[0].write_text(json.dumps(pairs), encoding="utf-8")
    if kept:
        vectors = np.stack([pool[name] for name in kept]).astype(np.float16)
        save_file({"pooled": vectors}, paths[1], metadata={"names": json.dumps(kept, ensure_ascii=False)})
    return [path for path in paths if path.is_file()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes a checkpoint's references; returns the exit status."""
    parser = argparse.ArgumentParser(prog="style_encoder_references", description=write_references.__doc__)
    parser.add_argument("--checkpoint", required=True, help="model folder; the files go there")
    parser.add_argument("--data", required=True, help="folder made by build_style_pairs")
    parser.add_argument("--n", type=int, default=4000, help="pictures (default %(default)s)")
    given = parser.parse_args(arguments)
    try:
        print(", ".join(map(str, write_references(given.checkpoint, given.data, given.n))))
        return 0
    except InputError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
