"""Quick figures while ScoreVLM trains, to choose the best weights; the published ones come from `evaluation.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..processing.alphatex_grammar import write_alphatex
from ..processing.dense_reading import DenseReader
from .score_vlm_data import DenseCollate, PackedSystems

EVALUATION_PIXELS = 8_000_000


def batches_by_size(systems: PackedSystems, count: int) -> list[list[dict[str, Any]]]:
    """The first `count` systems, in batches of like size."""
    rows = sorted((systems[i] for i in range(min(count, len(systems)))), key=lambda r: (r["height"], r["width"]))
    batches: list[list[dict[str, Any]]] = []
    for row in rows:
        last = batches[-1] if batches else None
        fits = last and last[0]["height"] == row["height"]
        if last is not None and fits and (len(last) + 1) * row["width"] * row["height"] <= EVALUATION_PIXELS:
            last.append(row)
        else:
            batches.append([row])
    return batches


@torch.no_grad()
def evaluate_tower(model: Any, systems: PackedSystems, count: int) -> dict[str, float]:
    """Reads systems by the dense heads alone.

    Returns:
        `system_exact` and `bar_exact`: parts of systems (bars) whose text is right; `note_errors`: wrong beats by all.
    """
    collate = DenseCollate(systems.space, augment=False)
    exact = bars = bars_right = total = 0
    loss = 0.0
    for rows in batches_by_size(systems, count):
        batch = collate(rows)
        with torch.autocast(model.device.type, torch.bfloat16):
            out = model(**batch)
        loss += float(out.loss) * len(rows)
        logits = {name: value.float().cpu().numpy() for name, value in out.dense_logits.items()}
        for i, row in enumerate(rows):
            show = ("score", "tabs") if row["score"] else ("tabs",)
            reader = DenseReader(systems.space, show, row["strings"], tuple(row.get("metre", (4, 4))))
            got = write_alphatex(reader.read({n: x[i] for n, x in logits.items()}, row["width"]).score)
            exact += got == row["text"]
            total += 1
            want_bars, got_bars = row["text"].split("|\n"), got.split("|\n")
            bars += len(want_bars) - 1
            bars_right += sum(a == b for a, b in zip(want_bars[:-1], got_bars[:-1], strict=False))
    return {
        "system_exact": exact / total,
        "bar_exact": bars_right / bars,
        "loss": float(np.float64(loss) / total),
    }


@torch.no_grad()
def evaluate_text_loss(model: Any, systems: PackedSystems, collate: Any, count: int) -> dict[str, float]:
    """Loss of the language model on validation systems, and how many of its tokens it would choose right.

    Returns:
        `loss` in nats a token, `token_accuracy`; both with the truth as prefix.
    """
    total = right = tokens = 0.0
    for rows in batches_by_size(systems, count):
        batch = collate(rows)
        with torch.autocast(model.device.type, torch.bfloat16):
            out = model(**batch)
        wanted = batch["labels"][:, 1:]
        learnt = wanted != -100
        right += float((out.logits[:, :-1].argmax(-1) == wanted)[learnt].sum())
        tokens += float(learnt.sum())
        total += float(out.loss) * float(learnt.sum())
    return {"loss": total / tokens, "token_accuracy": right / tokens}
