"""The alphaTab renderer: checks, engraves and converts alphaTex through long-lived Node processes.

`AlphaTabPool` is for many jobs, `render` and `convert` for files.
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
from .many_files import FileResult, convert, render
from .runtime import ensure_installed

__all__ = [
    "AlphaTabPool",
    "BarBox",
    "BeatBox",
    "Diagnostic",
    "FileResult",
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
