"""The alphaTab renderer: checks, engraves and converts alphaTex through long-lived Node processes.

`AlphaTabPool` is for many jobs, `render` and `convert` for one file.
"""

from .client import AlphaTabPool
from .jobs import (
    BarBox,
    BeatBox,
    Diagnostic,
    NoteBox,
    RenderedPicture,
    RenderError,
    RenderJob,
    StaffBox,
    SystemBox,
)
from .runtime import ensure_installed
from .verbs import convert, render

__all__ = [
    "AlphaTabPool",
    "BarBox",
    "BeatBox",
    "Diagnostic",
    "NoteBox",
    "RenderError",
    "RenderJob",
    "RenderedPicture",
    "StaffBox",
    "SystemBox",
    "convert",
    "ensure_installed",
    "render",
]
