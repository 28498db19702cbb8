"""What a server answers, as its OpenAPI description tells it."""

from __future__ import annotations

import base64
from pathlib import Path

from pydantic import BaseModel, Field

MEDIA_TYPES = {
    ".alphatex": "text/plain", ".mid": "audio/midi", ".gp": "application/octet-stream", ".png": "image/png",
    ".gif": "image/gif", ".musicxml": "application/vnd.recordare.musicxml+xml",
}  # fmt: skip


class Problem(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="One line: what is wrong, and what to do.")


class WrittenFile(BaseModel):
    """A file in an answer."""

    name: str
    media_type: str
    base64: str = Field(description="Its bytes.")

    @classmethod
    def of(cls, path: Path) -> WrittenFile:
        """A file on the disk."""
        kind = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
        return cls(name=path.name, media_type=kind, base64=base64.b64encode(path.read_bytes()).decode())


class SystemAnswer(BaseModel):
    """One system that was read."""

    name: str
    bars: int
    notes: int
    bars_close: bool = Field(description="Whether every bar fills its metre.")
    unsure_bars: list[int] = Field(description="Bars, from 1, that are more likely wrong than right.")


class PageAnswer(BaseModel):
    """One picture or page."""

    name: str
    text: str = Field(description="Canonical alphaTex of all its systems; empty where nothing could be read.")
    systems: list[SystemAnswer]
    note: str | None = Field(description="What could make the result worse.")
    error: str | None = Field(description="Why nothing, or not everything, came of this page.")


class ReadAnswer(BaseModel):
    """What was read."""

    text: str = Field(description="alphaTex of all pages, as the command line prints it.")
    pages: list[PageAnswer]
    files: list[WrittenFile]


class CompareAnswer(BaseModel):
    """How alike two pictures are in style."""

    similarity: float = Field(description="-1 to 1.")
    verdict: str
    above_same: float | None = Field(description="Part of known pairs of one style that are less alike, 0 to 1.")
    above_different: float | None = Field(description="The same for pairs of two styles.")


class PaintedAnswer(BaseModel):
    """One painted roll."""

    name: str
    tempo: float
    metre: tuple[int, int]
    files: list[WrittenFile]


class PaintAnswer(BaseModel):
    """What was painted."""

    results: list[PaintedAnswer]


class SongAnswer(BaseModel):
    """One song."""

    name: str
    files: list[WrittenFile]


class ComposeAnswer(BaseModel):
    """What was composed."""

    prompt: str = Field(description="The words as they were understood, or the picture's name.")
    report: str = Field(description="A table of what of the words the music keeps, as far as it can be measured.")
    notes: list[str]
    songs: list[SongAnswer]


__all__ = [
    "CompareAnswer", "ComposeAnswer", "PageAnswer", "PaintAnswer", "PaintedAnswer", "Problem", "ReadAnswer",
    "SongAnswer", "SystemAnswer", "WrittenFile",
]  # fmt: skip
