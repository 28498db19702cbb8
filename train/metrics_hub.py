"""The tab figures as an `evaluate.Metric`, for those who measure with that library.

metric = TabMetric()
metric.compute(predictions=texts, references=truths)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from . import metrics_tab


class TabMetric(evaluate.Metric):
    """All figures of `metrics_tab.summarise`, flat: `note_f1`, `note_f1_low`, `note_f1_high`, ..."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Error rates by field, note F1, exactness, parse rate and bar closure of alphaTex texts.",
            citation="",
            inputs_description=metrics_tab.__doc__ or "",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[str],
        groups: Sequence[str] | None = None,
        seed: int = 0,
    ) -> dict[str, Any]:
        scores = [metrics_tab.score_pair(p, r) for p, r in zip(predictions, references, strict=True)]
        flat: dict[str, Any] = {}
        for name, figure in metrics_tab.summarise(scores, groups, seed=seed).items():
            flat |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
        return flat
