"""Reads bar-wise REMI words one after the other into a score."""

from __future__ import annotations

from typing import Any

import numpy as np

from .bar_midi_vocabulary import DRUM_PITCHES, DRUMS, MIN_TEMPO, SIGNATURES, TICKS_PER_QUARTER, ticks_of_signature
from .piano_roll import velocity_of_loudness

DEFAULT_TEMPO = 120
#: Ticks of the MIDI files that are written, for each tick of the grid.
FILE_TICKS = 40
END_MARK = "end of the last bar"


class BarReader:
    """Reads word after word."""

    def __init__(self) -> None:
        self.start, self.ticks, self.signature = 0, 0, (4, 4)
        self.tick, self.program, self.tempo, self.before = 0, 0, 0, ""
        self.pitch, self.loudness, self.drum = -1, 0, False
        self.signs: list[tuple[int, tuple[int, int]]] = []
        self.tempos: list[tuple[int, int]] = []
        self.notes: dict[int, list[tuple[int, int, int, int]]] = {}
        self.in_bar = False

    def read(self, kind: str, place: int) -> bool:
        """Takes one word in; whether it makes sense here."""
        before, self.before = self.before, kind
        if kind == "Bar":
            self.start = self.tick = self.start + self.ticks
            self.ticks = ticks_of_signature(self.signature)
            self.in_bar = True
            return True
        if not self.in_bar:
            return False
        if kind == "TimeSig":
            self.signature = SIGNATURES[place]
            self.ticks = ticks_of_signature(self.signature)
            if not self.signs or self.signs[-1][1] != self.signature:
                self.signs.append((self.start, self.signature))
            return before == "Bar"
        if kind == "Tempo":
            if place != self.tempo or not self.tempos:
                self.tempo = place
                self.tempos.append((self.tick, place + MIN_TEMPO))
            return before in ("TimeSig", "Position")
        if kind == "Position":
            if place >= self.ticks:
                return False
            forwards = before in ("Tempo", "TimeSig", "Bar") or place > self.tick - self.start
            self.tick = self.start + place
            return forwards
        return self._read_note(kind, place, before)

    def _read_note(self, kind: str, place: int, before: str) -> bool:
        if kind == "Program":
            self.program = place + DRUMS
            return before in ("Position", "Duration", "Tempo")
        if kind in ("Pitch", "PitchDrum"):
            self.drum = kind == "PitchDrum"
            self.pitch = place + (DRUM_PITCHES[0] if self.drum else 0)
            return before in ("Position", "Program", "Duration", "Tempo")
        if kind == "Velocity":
            self.loudness = place
            return before in ("Pitch", "PitchDrum")
        if before != "Velocity" or self.pitch < 0:  # a duration without a note before it
            return False
        track = DRUMS if self.drum else max(self.program, 0)
        self.notes.setdefault(track, []).append((self.tick, place + 1, self.pitch, self.loudness))
        self.pitch = -1
        return True

    def score(self) -> Any:
        """The score of all that was read."""
        import symusic

        score: Any = symusic.Score(FILE_TICKS * TICKS_PER_QUARTER)
        for tick, sign in self.signs or [(0, (4, 4))]:
            score.time_signatures.append(symusic.TimeSignature(tick * FILE_TICKS, *sign))
        for tick, tempo in self.tempos or [(0, DEFAULT_TEMPO)]:
            score.tempos.append(symusic.Tempo(tick * FILE_TICKS, float(tempo)))
        for program in sorted(self.notes, key=lambda program: program % 129):
            is_drum = program == DRUMS
            track: Any = symusic.Track("Drums" if is_drum else "", max(program, 0), is_drum)
            start, length, pitch, loudness = np.array(self.notes[program], dtype=np.int64).T
            length = np.minimum(length, self.start + self.ticks - start)  # the piece is over with its last bar
            times = ((start * FILE_TICKS).astype(np.int32), (length * FILE_TICKS).astype(np.int32))
            velocity = velocity_of_loudness(loudness).astype(np.int8)
            track.notes = symusic.Note.from_numpy(*times, pitch.astype(np.int8), velocity, "tick")
            score.tracks.append(track)
        end = (self.start + self.ticks) * FILE_TICKS
        if end > score.end():
            score.markers.append(symusic.TextMeta(end, END_MARK))
        return score


__all__ = ["DEFAULT_TEMPO", "BarReader"]
