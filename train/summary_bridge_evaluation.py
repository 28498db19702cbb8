"""What held-out windows say of a bridge, without playing a note: loss, closeness, and wishes met by a linear probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .summary_bridge_data import ATTRIBUTE_NAMES, BridgeCollate, BridgeWindows, wishes_met

#: Times at which the loss of held-out windows is taken.
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
RIDGE = 1.0


def energy_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of two samples `(N, K)`; 0: equal distributions (G. Székely, M. Rizzo, J. Stat. Plan. Inference 143 (2013))."""
    within = [torch.cdist(x, x).sum() / max(1, len(x) * (len(x) - 1)) for x in (a, b)]
    return float(2 * torch.cdist(a, b).mean() - within[0] - within[1])


def window_features(summaries: torch.Tensor) -> torch.Tensor:
    """Whitened summaries `(B, N, Z)` of whole windows to mean, spread and mean step over the bars, `(B, 3Z)`."""
    steps = (summaries[:, 1:] - summaries[:, :-1]).abs().mean(1)
    return torch.cat([summaries.mean(1), summaries.std(1), steps], dim=-1)


class AttributeProbe:
    """A line from the summaries of a window to what is measured of its music.

    It stands in for playing and measuring, so that a bridge can be judged in seconds while it learns. What it can not
    see, it can not judge: `score` of real summaries is the ceiling.

    Args:
        statistics: `BridgeStatistics` of the bridge, for whitening.
        data: Windows to learn from.
        most: So many of them at most.
    """

    def __init__(self, statistics: Any, data: BridgeWindows, most: int = 8000) -> None:
        self.statistics = statistics
        chosen = data.chosen[np.linspace(0, len(data) - 1, min(most, len(data))).astype(int)]
        features = torch.cat([self.features(torch.from_numpy(data.summaries_of(int(k)))[None]) for k in chosen])
        values = torch.from_numpy(np.asarray(data.values[chosen])).double()  # (N, A)
        self.mean, self.scale = features.mean(0), features.std(0).clamp(min=1e-3)
        x = torch.cat([(features - self.mean) / self.scale, torch.ones(len(features), 1)], dim=1).double()
        self.lines = []
        for column in values.unbind(1):
            known = ~column.isnan()
            rows, wanted = x[known], column[known]
            ridge = RIDGE * torch.eye(x.shape[1], dtype=torch.float64)
            self.lines.append(torch.linalg.solve(rows.T @ rows + ridge, rows.T @ wanted))

    def features(self, summaries: torch.Tensor) -> torch.Tensor:
        """Summaries `(B, N, Z)` in Museformer's units to `(B, 3Z)`."""
        return window_features(self.statistics.whiten(summaries)).cpu()

    def values(self, summaries: torch.Tensor) -> np.ndarray:
        """Expected attributes `(B, A)` of windows `(B, N, Z)`."""
        features = (self.features(summaries) - self.mean) / self.scale
        x = torch.cat([features, torch.ones(len(features), 1)], dim=1).double()
        return (x @ torch.stack(self.lines, dim=1)).numpy()

    def score(self, wanted: np.ndarray, summaries: torch.Tensor) -> tuple[int, int, np.ndarray]:
        """Wishes `(B, A, 2)` met, wishes in all, and both by attribute `(2, A)`."""
        met, asked = wishes_met(wanted, self.values(summaries))
        return int(met.sum()), int(asked.sum()), np.stack([met.sum(0), asked.sum(0)])


def of_one_length(data: BridgeWindows, most: int) -> list[int]:
    """So many windows of the commonest length, evenly out of all."""
    lengths = np.asarray(data.windows[data.chosen, 1])
    usual = np.bincount(lengths).argmax()
    found = data.chosen[lengths == usual]
    return [int(k) for k in found[np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).astype(int))]]


class BridgeEvaluation:
    """Figures of a bridge on held-out windows, the same draws each time.

    Args:
        data: Held-out windows.
        probe: Learnt from training windows; `None`: no wishes are judged.
        most: Windows at most.
        batch_size: Windows at once.
        seed: Of the noise.
    """

    def __init__(
        self, data: BridgeWindows, probe: AttributeProbe | None, most: int = 512, batch_size: int = 64, seed: int = 0
    ) -> None:
        self.data, self.probe, self.batch_size, self.seed = data, probe, batch_size, seed
        self.windows = of_one_length(data, most)
        draw = np.random.default_rng(seed)
        self.captions = [int(draw.integers(data.captions[k], data.captions[k + 1])) for k in self.windows]

    def batches(self, captions: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """All windows with these captions."""
        collate = BridgeCollate(self.data, draw=False, with_wishes=True)
        rows = [{"window": window, "caption": k} for window, k in zip(self.windows, captions, strict=True)]
        return [collate(rows[start : start + self.batch_size]) for start in range(0, len(rows), self.batch_size)]

    @torch.no_grad()
    def __call__(self, model: Any) -> dict[str, float]:
        """Figures by name.

        Returns:
            `loss`, and `loss_at_text` its part at the text end; `energy`, the energy distance between drawn and real
            windows, and `energy_floor` that between two halves of the real ones; with a probe `asked`, the part of the
            captions' wishes that drawn windows meet, `asked_real` the same of real ones, and `asked_shuffled` where the
            samples were drawn for other captions: chance.
        """
        figures: dict[str, float] = {}
        batches = self.batches(self.captions)
        figures |= self._losses(model, batches)
        drawn, real = [], []
        generator = torch.Generator().manual_seed(self.seed)
        for batch in batches:
            bars = batch["summary_tokens"].shape[1]
            texts = {name: value.to(model.device) for name, value in batch.items() if name.startswith("text_")}
            drawn.append(model.sample_summary_tokens(**texts, num_bars=bars, generator=generator).float().cpu())
            real.append(batch["summary_tokens"])
        found, truth = torch.cat(drawn), torch.cat(real)
        a, b = (window_features(model.statistics.whiten(x.to(model.device))).cpu() for x in (found, truth))
        figures["energy"], figures["energy_floor"] = energy_distance(a, b), energy_distance(b[::2], b[1::2])
        if self.probe is not None:
            wanted = np.concatenate([batch["wanted"].numpy() for batch in batches])
            figures |= self._wishes(wanted, found, truth)
        return figures

    def _losses(self, model: Any, batches: Sequence[dict[str, torch.Tensor]]) -> dict[str, float]:
        generator = torch.Generator().manual_seed(self.seed)
        times = (1.0,) if model.config.single_step else TIMES
        sums = dict.fromkeys(times, 0.0)
        for batch in batches:
            kept = {name: value.to(model.device) for name, value in batch.items() if name != "wanted"}
            noise = torch.randn(batch["summary_tokens"].shape, generator=generator).to(model.device)
            for t in times:
                out = model(**kept, timesteps=torch.full((len(noise),), t, device=model.device), noise=noise)
                sums[t] += float(out.loss) * len(noise) / len(self.windows)
        return {"loss": sum(sums.values()) / len(sums), "loss_at_text": sums[1.0]}

    def _wishes(self, wanted: np.ndarray, found: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
        assert self.probe is not None
        figures: dict[str, float] = {}
        turned = np.roll(wanted, len(wanted) // 2, axis=0)
        cases = {"asked": (wanted, found), "asked_real": (wanted, truth), "asked_shuffled": (turned, found)}
        for name, (wishes, summaries) in cases.items():
            met, asked, by_attribute = self.probe.score(wishes, summaries)
            figures[name] = met / max(1, asked)
            if name == "asked":
                for k, attribute in enumerate(ATTRIBUTE_NAMES):
                    if by_attribute[1, k]:
                        figures[f"asked/{attribute}"] = float(by_attribute[0, k] / by_attribute[1, k])
        return figures


class PromptEvaluation:
    """Nats a word of held-out windows under a soft prompt, with the right texts and with others.

    Args:
        data: Held-out windows.
        most: Windows at most.
        batch_size: Windows at once.
    """

    def __init__(self, data: BridgeWindows, most: int = 128, batch_size: int = 8) -> None:
        collate = BridgeCollate(data, draw=False, with_tokens=True)
        rows = [{"window": window} for window in of_one_length(data, most)]
        self.batches = [collate(rows[start : start + batch_size]) for start in range(0, len(rows), batch_size)]

    @torch.no_grad()
    def __call__(self, model: Any) -> dict[str, float]:
        """`loss`, and `loss_shuffled` with each text at another window of its batch."""
        figures = {"loss": 0.0, "loss_shuffled": 0.0}
        words = sum(int((batch["labels"] != -100).sum()) for batch in self.batches)
        device = next(model.parameters()).device
        for batch in self.batches:
            batch = {name: value.to(device) for name, value in batch.items()}
            part = int((batch["labels"] != -100).sum()) / words
            turned = {name: value.roll(1, 0) if name.startswith("text_") else value for name, value in batch.items()}
            figures["loss"] += float(model(**batch).loss) * part
            figures["loss_shuffled"] += float(model(**turned).loss) * part
        return figures


__all__ = [
    "AttributeProbe",
    "BridgeEvaluation",
    "PromptEvaluation",
    "energy_distance",
    "of_one_length",
    "window_features",
]
