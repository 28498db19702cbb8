"""Where the Node modules of the engravers lie, and the process that draws with them."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from ...processing.errors import InputError
from ..render.runtime import find_modules, find_node
from ..render.worker import RenderWorker

HERE = Path(__file__).resolve().parent
ENGRAVER_VARIABLE = "INTERMEZZO_ENGRAVER_MODULES"


def engraver_modules(package: str) -> Path | None:
    """Folder `node_modules` that holds a package, or `None` when it is not installed."""
    named = os.environ.get(ENGRAVER_VARIABLE)
    folder = Path(named) if named else HERE / "node_modules"
    return folder if (folder / package).is_dir() else None


def why_absent(package: str) -> str | None:
    """One line that says what lacks for an engraver of Node, or `None` when it can draw."""
    try:
        find_node()
    except InputError as error:
        return str(error)
    if find_modules() is None:
        return "the renderer is not installed; run `intermezzo render` once"
    if engraver_modules(package) is None:
        return f"{package} is not installed; run `npm ci` in {HERE}, or name a folder in {ENGRAVER_VARIABLE}"
    return None


def picture_of(answer: dict[str, Any]) -> np.ndarray:
    """`(H, W)` uint8 picture of a process's answer, white = 255."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["png"]))).convert("L"))


class EngraverWorker(RenderWorker):
    """A Node process that draws with the engravers; it is renewed often, since MuseScore keeps all it has read."""

    def __init__(self, job_seconds: float = 120.0, recycle_after: int = 400) -> None:
        super().__init__(job_seconds, recycle_after)

    what, server = "engraver", HERE / "server.mjs"

    def _environment(self) -> dict[str, str]:
        modules = engraver_modules("vexflow")
        if modules is None:
            raise InputError(None, why_absent("vexflow") or "the engravers are not installed")
        return super()._environment() | {ENGRAVER_VARIABLE: str(modules)}


__all__ = ["ENGRAVER_VARIABLE", "EngraverWorker", "engraver_modules", "picture_of", "why_absent"]
