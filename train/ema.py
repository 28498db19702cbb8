"""Exponential moving average of the weights that learn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class ExponentialMovingAverage:
    """Keeps a slow copy of every parameter that learns: `slow += (1 − decay) · (fast − slow)` after each step.

    The decay rises from 0.1 (`(1 + n) / (10 + n)` after n updates) to `decay`, so the random start is soon forgotten.

    Args:
        model: the unwrapped model; only parameters with `requires_grad` are followed.
        decay: final decay, 0 < decay < 1.
    """

    def __init__(self, model: nn.Module, decay: float):
        if not 0.0 < decay < 1.0:
            raise ValueError(f"ema decay is {decay}; it must lie between 0 and 1, both excluded")
        self.decay = decay
        self.updates = 0
        self._fast = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.slow = {name: p.detach().clone() for name, p in self._fast.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Moves the slow weights towards the present ones; call once after each optimiser step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.slow.values()), [p.detach() for p in self._fast.values()], 1.0 - decay)
        self.updates += 1

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Writes the slow weights into the model for good."""
        for name, parameter in self._fast.items():
            parameter.copy_(self.slow[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Lends the slow weights to the model within a `with` block, then gives the fast ones back, bit for bit."""
        kept = {name: p.detach().clone() for name, p in self._fast.items()}
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._fast.items():
                    parameter.copy_(kept[name])

    def state_dict(self) -> dict[str, Any]:
        """The slow weights and the number of updates."""
        return {"updates": self.updates, "slow": self.slow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave.

        Raises:
            ValueError: other parameters learn now than then.
        """
        missing = set(self.slow) ^ set(state["slow"])
        if missing:
            raise ValueError(f"the averaged weights differ from those that learn now: {sorted(missing)[:5]}")
        self.updates = int(state["updates"])
        for name, tensor in state["slow"].items():
            self.slow[name].copy_(tensor)
