"""The trained models that the Space has, each loaded once, when it is first asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Models:
    """Checkpoints in a folder.

    Args:
        folder: Holds one folder a stem; that of the package when left out.
        device: `"auto"`, `"cpu"`, `"cuda"`, ...

    Attributes:
        busy: Held by whoever computes. The pages of both languages have queues of their own, the machine is one.
    """

    def __init__(self, folder: str | Path | None = None, device: str = "auto") -> None:
        self.folder = Path(folder) if folder is not None else ROOT / "checkpoints"
        self.device = device
        self.busy = threading.RLock()
        self._loaded: dict[str, Any] = {}

    def has(self, *stems: str) -> bool:
        """Whether all of them are there."""
        return all((self.folder / stem / "config.json").is_file() for stem in stems)

    def _get(self, stem: str, load: Callable[[Path], Any]) -> Any:
        with self.busy:
            if stem not in self._loaded:
                self._loaded[stem] = load(self.folder / stem)
            return self._loaded[stem]

    def reader(self) -> Any:
        """`SystemReader`."""
        from ..processing.system_reader import SystemReader

        return self._get("score_vlm", lambda folder: SystemReader.from_pretrained(folder, device=self.device))

    def painter(self) -> Any:
        """FractalMidi and its processor."""
        from ..painting import load_painter

        return self._get("fractal_midi", lambda folder: load_painter(folder, self.device))

    def looker(self) -> Any:
        """`StyleLooker`."""
        from ..comparing import load_looker

        return self._get("style_encoder", lambda folder: load_looker(folder, self.device))

    def editor(self) -> Any:
        """ScoreEdit and its processor."""
        from ..train.evaluation_edit import load_edit_model

        return self._get("edit", lambda folder: load_edit_model(str(folder), self.device))

    def drawer(self) -> Any:
        """NativeVLM and its processor."""
        from ..drawing import load_drawer

        return self._get("native_vlm", lambda folder: load_drawer(folder, self.device))

    def composer(self, with_pictures: bool) -> Any:
        """Museformer with SummaryBridge; with StyleEncoder where pictures are to be composed to."""
        from ..composing import load_composer

        folders: dict[str, Any] = {
            "museformer": self.folder / "museformer",
            "bridge": self.folder / "summary_bridge",
            "style_encoder": self.folder / "style_encoder",
        }
        with self.busy:
            found = self._get("composer", lambda _: load_composer(**folders, device=self.device))
            if with_pictures and found.looker is None:
                found.looker = self.looker()
            return found


__all__ = ["ROOT", "Models"]
