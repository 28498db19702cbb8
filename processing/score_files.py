"""Files of music to performances: MIDI by symusic, MusicXML by our own reader; one line for what is unreadable."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from .errors import InputError
from .musicxml_score import read_musicxml_score

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".smf")
MUSICXML_SUFFIXES = (".musicxml", ".mxl", ".xml")


@dataclass
class ScoreFile:
    """What a file says.

    Attributes:
        score: `symusic.Score` in ticks.
        title: Title in the file; empty where it has none.
        composer: Composer in the file; empty where it has none.
    """

    score: Any
    title: str = ""
    composer: str = ""


def read_score_file(path: str | PathLike[str]) -> ScoreFile:
    """Reads a MIDI or MusicXML file.

    Raises:
        InputError: No such file, another kind, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "is a folder, not a file" if path.is_dir() else "no such file")
    suffix = path.suffix.lower()
    if suffix in MUSICXML_SUFFIXES:
        return ScoreFile(*read_musicxml_score(path))
    if suffix not in MIDI_SUFFIXES:
        known = ", ".join(MIDI_SUFFIXES[:2] + MUSICXML_SUFFIXES)
        raise InputError(path, f"files of this kind can not be read as music; give one of {known}")
    import symusic

    data = path.read_bytes()
    if not data:
        raise InputError(path, "is empty (0 bytes)")
    try:
        return ScoreFile(symusic.Score.from_midi(data))
    except Exception as error:  # symusic raises plain RuntimeError and ValueError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(path, f"not a readable MIDI file ({reason})") from error
