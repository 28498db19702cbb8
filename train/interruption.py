"""SIGTERM and SIGINT as a wish that the loop reads between two steps."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class Interruption:
    """Within the `with` block the first SIGTERM, SIGINT or SIGUSR1 only sets `signal_number`.

    A second SIGINT raises `KeyboardInterrupt` at once, for a person who does not want to wait. With one process
    `accelerate launch` does not pass its SIGTERM on: the loss of that parent counts as a SIGTERM too.
    Outside the main thread, where Python allows no handlers, nothing is installed.
    """

    signals = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))

    def __init__(self) -> None:
        self.signal_number = 0
        self._before: dict[int, Any] = {}
        self._parent = os.getppid() if "ACCELERATE_MIXED_PRECISION" in os.environ else None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number

    def poll(self) -> int:
        """The number of the signal that came, or 0."""
        if not self.signal_number and self._parent is not None and os.getppid() != self._parent:
            self.signal_number = int(signal.SIGTERM)
        return self.signal_number

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in self.signals}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
