"""The card of a data set of lessons."""

from __future__ import annotations

import json
from typing import Any


def card_of(settings: dict[str, Any], builder: Any) -> str:
    """Data set card."""
    splits = [split for split in ("train", "validation", "test") if any(k.startswith(split) for k in builder.counts)]
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in splits)
    table = "".join(f"| {name} | {count} |\n" for name, count in sorted(builder.counts.items()))
    return f"""---
pretty_name: Lessons of tab pictures and alphaTex
task_categories:
- image-to-text
- text-to-image
tags:
- music
- guitar
- tablature
- alphatex
configs:
- config_name: default
  data_files:
{files}---
# Lessons of tab pictures and alphaTex

What a model that reads and draws learns from: turns of text and pictures, the pictures as codes of one picture
tokenizer (fingerprint `{settings["image_vq"]}`, {settings["codebook_size"]} codes, patches of
{settings["patch"][0]} x {settings["patch"][1]} px, tab lines 8 px apart).

| split and lesson | rows |
|---|---|
{table}
**Columns.** `lesson` · `parts` in order: `role` (user asks, assistant answers), `kind` (text or picture), `text`, and
of a picture `rows`, `columns` and its `codes` row by row, `places` (of a text that goes with one picture: the
column of patches, from 0, in which each beat is drawn) · `name`, `piece_id`, `split`.

**Splits** are those of the systems: no piece is in two of them, and no training text is a held-out text
({builder.dropped} systems were left out for that; {builder.left_out} were too long or too large).

Arguments: `{json.dumps({k: v for k, v in settings.items() if k not in ("score_tab", "packed")})}`.
{len(builder.failures)} systems failed (failures.tsv).

**Licence.** As the systems that the lessons were made of.
"""


__all__ = ["card_of"]
