"""Sound: what is played when, on which channel, and one line where something lacks."""

from __future__ import annotations

import io
import sys
import wave
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import symusic

from intermezzo.processing import sound
from intermezzo.processing.errors import InputError
from intermezzo.processing.sound import SAMPLE_RATE, SoundMaker, find_soundfont


class Synth:
    """A synthesizer whose sound is 0.1 for each note that is on."""

    made: list[Synth] = []

    def __init__(self, gain: float = 0, samplerate: int = 44100) -> None:
        assert samplerate == SAMPLE_RATE
        self.on: set[tuple[int, int]] = set()
        self.programs: dict[int, tuple[int, bool]] = {}
        Synth.made.append(self)

    def sfload(self, name: str, gain: float = 0.0, max_voices: int = 256) -> int:
        if not Path(name).read_bytes().startswith(b"RIFF"):
            raise RuntimeError("Could not load soundfont")
        return 3

    def program_select(self, chan: int, sfid: int, bank: int, preset: int, is_drums: bool = False) -> None:
        assert sfid == 3 and 0 <= chan < 16
        if preset == 99:
            raise RuntimeError("no such preset")
        self.programs[chan] = (preset, is_drums)

    def noteon(self, chan: int, key: int, velocity: int) -> bool:
        self.on.add((chan, key))
        return True

    def noteoff(self, chan: int, key: int) -> bool:
        self.on.discard((chan, key))
        return True

    def generate(self, samples: int, buffer: Any = None) -> memoryview:
        return memoryview(np.full(2 * samples, 0.1 * len(self.on), np.float32).tobytes())


@pytest.fixture
def font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    module = ModuleType("tinysoundfont")
    module.Synth = Synth  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tinysoundfont", module)
    Synth.made = []
    (tmp_path / "font.sf2").write_bytes(b"RIFF....sfbk")
    return tmp_path / "font.sf2"


def score_of(*tracks: tuple[int, bool, list[tuple[int, int, int]]]) -> Any:
    score: Any = symusic.Score(480)
    score.tempos.append(symusic.Tempo(0, 120))  # a quarter is half a second
    for program, is_drum, notes in tracks:
        track: Any = symusic.Track("", program, is_drum)
        for start, length, pitch in notes:
            track.notes.append(symusic.Note(start, length, pitch, 90))
        score.tracks.append(track)
    return score


def test_notes_sound_while_they_last(font: Path) -> None:
    score = score_of((40, False, [(0, 480, 60), (480, 480, 60), (480, 240, 64)]), (0, True, [(960, 240, 38)]))
    played = SoundMaker(font).play(score)
    half = SAMPLE_RATE // 2
    assert played.shape == (round((1.25 + 2) * SAMPLE_RATE), 2) and played.dtype == np.float32
    middle = [float(played[at, 0]) for at in (half // 2, half + half // 4, half + 3 * half // 4, 2 * half + 100, -1)]
    np.testing.assert_allclose(middle, [0.1, 0.2, 0.1, 0.1, 0.0], atol=1e-6)
    assert Synth.made[-1].programs == {0: (40, False), 1: (0, True)}


def test_more_tracks_than_channels_are_added_up(font: Path) -> None:
    played = SoundMaker(font).play(score_of(*[(k, False, [(0, 480, 60)]) for k in range(20)]))
    assert float(np.abs(played).max()) == pytest.approx(0.9), "what is too loud is made softer as a whole"
    assert [len(synth.programs) for synth in Synth.made if synth.programs] == [16, 4]


def test_an_instrument_that_lacks_is_the_first_one(font: Path) -> None:
    SoundMaker(font).play(score_of((99, False, [(0, 480, 60)])))
    assert Synth.made[-1].programs == {0: (0, False)}


def test_a_wav_file(font: Path) -> None:
    with wave.open(io.BytesIO(SoundMaker(font).wav(score_of((0, False, [(0, 480, 60)])))), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, SAMPLE_RATE)
        values = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert values[:100].tolist() == [3277] * 100 and len(values) == 5 * SAMPLE_RATE
    assert len(SoundMaker(font).wav(score_of())) == 44 + 8 * SAMPLE_RATE, "no notes: two seconds of silence"


def test_what_lacks_is_one_line(font: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.sf2").write_text("hello")
    for path, words in ((tmp_path / "text.sf2", "is no soundfont"), (tmp_path / "none.sf2", "no such soundfont")):
        with pytest.raises(InputError, match=words) as caught:
            SoundMaker(path)
        assert path.name in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "tinysoundfont", None)  # as if it were not installed
    with pytest.raises(InputError, match="pip install tinysoundfont"):
        SoundMaker(font)
    monkeypatch.setattr(sound, "_SHIPPED", Path("none.sf2"))
    with pytest.raises(InputError, match="--soundfont FILE"):
        find_soundfont([tmp_path / "none"])
    assert find_soundfont([tmp_path / "none", tmp_path]) == font


def test_the_real_library_plays() -> None:
    pytest.importorskip("tinysoundfont", reason="pip install tinysoundfont")
    try:
        maker = SoundMaker()
    except InputError as error:
        pytest.skip(str(error))
    played = maker.play(score_of((0, False, [(0, 480, 60)])))
    assert 0.001 < float(np.sqrt((played[: SAMPLE_RATE // 2] ** 2).mean())) < 1 and np.abs(played[-100:]).max() < 0.05
