"""Scores to sound, by a soundfont and the `tinysoundfont` package, which is installed by itself."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError

SAMPLE_RATE = 44_100
#: The MIDI channels of a synthesizer; more tracks are played one group after the other and added up.
_CHANNELS = 16
_RINGING_SECONDS = 2.0  # after the last note
_PEAK = 0.9  # of what would be louder than a file can hold
_SHIPPED = Path("datasets_scripts/render/node_modules/@coderline/alphatab/dist/soundfont/sonivox.sf2")
_SYSTEM = (Path("/usr/share/sounds/sf2"), Path("/usr/share/sounds/sf3"), Path("/usr/share/soundfonts"))


def find_soundfont(folders: Iterable[Path] = _SYSTEM) -> Path:
    """A soundfont that is there already: the one of the renderer, or one of the system.

    Raises:
        InputError: There is none.
    """
    shipped = Path(__file__).resolve().parent.parent / _SHIPPED
    if shipped.is_file():
        return shipped
    for folder in folders:
        for path in sorted(folder.glob("*.sf[23]")) if folder.is_dir() else ():
            return path
    raise InputError(None, "there is no soundfont to make sound with; name one: --soundfont FILE.sf2")


class SoundMaker:
    """Plays scores into WAV files.

    Args:
        soundfont: A `.sf2` or `.sf3` file; one that is there already when left out.

    Raises:
        InputError: No soundfont, one that can not be read, or the package is not installed.
    """

    def __init__(self, soundfont: str | Path | None = None) -> None:
        self.soundfont = find_soundfont() if soundfont is None else Path(soundfont)
        if not self.soundfont.is_file():
            raise InputError(self.soundfont, "no such soundfont; name a .sf2 or .sf3 file")
        try:
            import tinysoundfont
        except ImportError as error:
            raise InputError(
                None,
                "sound needs the package tinysoundfont, which is not installed; try: pip install tinysoundfont",
            ) from error
        self._library = tinysoundfont
        self._synth()  # a file that is no soundfont is refused before any music is made

    def _synth(self) -> tuple[Any, int]:
        synth = self._library.Synth(gain=-6.0, samplerate=SAMPLE_RATE)
        try:
            return synth, synth.sfload(str(self.soundfont))
        except Exception as error:  # the library's own kinds, which differ between its versions
            raise InputError(self.soundfont, "is no soundfont that can be read; name a .sf2 or .sf3 file") from error

    def play(self, score: Any) -> np.ndarray:
        """Sound of a `symusic.Score`: float32 `(samples, 2)`, -1 to 1."""
        seconds = score.to("second")
        tracks = [track for track in seconds.tracks if len(track.notes)]
        length = int((max((t.end() for t in tracks), default=0.0) + _RINGING_SECONDS) * SAMPLE_RATE)
        sound = np.zeros((length, 2), dtype=np.float32)
        for first in range(0, len(tracks), _CHANNELS):
            sound += self._play_group(tracks[first : first + _CHANNELS], length)
        peak = float(np.abs(sound).max(initial=0.0))
        return sound * (_PEAK / peak) if peak > 1 else sound

    def _play_group(self, tracks: list[Any], length: int) -> np.ndarray:
        """As many tracks as there are channels."""
        synth, font = self._synth()
        events: list[tuple[int, int, int, int, int]] = []  # sample, 0 off or 1 on, channel, pitch, velocity
        for channel, track in enumerate(tracks):
            if not self._choose(synth, font, channel, track):
                continue
            for note in track.notes:
                begin, end = round(note.time * SAMPLE_RATE), round((note.time + note.duration) * SAMPLE_RATE)
                events.append((begin, 1, channel, note.pitch, note.velocity))
                events.append((max(end, begin + 1), 0, channel, note.pitch, 0))
        sound, now = np.zeros((length, 2), dtype=np.float32), 0
        for at, on, channel, pitch, velocity in sorted(events):
            at = min(at, length)
            if at > now:
                sound[now:at] = _samples(synth, at - now)
                now = at
            if on:
                synth.noteon(channel, pitch, velocity)
            else:
                synth.noteoff(channel, pitch)
        if length > now:
            sound[now:] = _samples(synth, length - now)
        return sound

    @staticmethod
    def _choose(synth: Any, font: int, channel: int, track: Any) -> bool:
        """Gives a channel its instrument, or the first one where the soundfont lacks it; drums are then left out."""
        for preset in dict.fromkeys((0 if track.is_drum else track.program, 0)):
            try:
                synth.program_select(channel, font, 0, preset, track.is_drum)
                return True
            except Exception:  # the library's own kinds: no such instrument
                continue
        return False

    def wav(self, score: Any) -> bytes:
        """A WAV file of a score: 16 bits, stereo."""
        values = np.round(np.clip(self.play(score), -1, 1) * 32767).astype("<i2")
        stream = io.BytesIO()
        with wave.open(stream, "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(values.tobytes())
        return stream.getvalue()


def _samples(synth: Any, count: int) -> np.ndarray:
    return np.frombuffer(bytes(synth.generate(count)), dtype=np.float32).reshape(-1, 2)


__all__ = ["SAMPLE_RATE", "SoundMaker", "find_soundfont"]
