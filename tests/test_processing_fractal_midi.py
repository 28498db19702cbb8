"""FractalMidi's processor: music to rolls and conditions and back, saved folders, one clear line for bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import symusic
import torch

from intermezzo.processing.errors import InputError
from intermezzo.processing.music_attributes import ATTRIBUTES
from intermezzo.processing.piano_roll import codes_of_score, values_of_codes
from intermezzo.processing.processing_fractal_midi import CONDITIONS, FractalMidiProcessor

torch.set_num_threads(1)


def song(bars: int = 20, tempo: float = 96, first_bar: int = 0) -> symusic.Score:
    """A made-up song in A minor, 4/4: a bass note and four upper notes in each bar."""
    score = symusic.Score(480)
    score.tempos.append(symusic.Tempo(0, tempo))
    score.time_signatures.append(symusic.TimeSignature(0, 4, 4))
    track = symusic.Track("", 0, False)
    for bar in range(first_bar, bars):
        start = bar * 1920
        track.notes.append(symusic.Note(start, 1920, (45, 50, 52, 45)[bar % 4], 60))
        for k, pitch in enumerate((69, 72, 76, 71)):
            track.notes.append(symusic.Note(start + 480 * k, 480, pitch, 100))
    score.tracks.append(track)
    return score


def notes_of(score: symusic.Score) -> list[tuple[int, int, int, int]]:
    return sorted((n.time, n.duration, n.pitch, n.velocity) for t in score.tracks for n in t.notes)


@pytest.fixture(scope="module")
def processor() -> FractalMidiProcessor:
    return FractalMidiProcessor()


@pytest.fixture
def midi(tmp_path: Path) -> Path:
    song().dump_midi(str(tmp_path / "song.mid"))
    return tmp_path / "song.mid"


def test_path_score_codes_and_values_give_the_same_roll(processor: FractalMidiProcessor, midi: Path) -> None:
    codes = codes_of_score(song())[:, :256]
    values = values_of_codes(codes)
    inputs = [midi, str(midi), song(), codes, values, torch.tensor(codes), torch.tensor(values)[None, None]]
    rolls = [processor(music)["roll"] for music in inputs]
    assert rolls[0].shape == (1, 1, 128, 256) and rolls[0].dtype == torch.float32
    assert all(torch.equal(roll, rolls[0]) for roll in rolls)
    batch = processor([midi, song(), values])
    assert torch.equal(batch["roll"], torch.cat(rolls[:1] * 3))
    assert batch["conditions"].shape == (3, len(CONDITIONS)) and (batch["conditions"] == -1).all()
    assert torch.equal(processor(torch.cat(rolls[:2]))["roll"], torch.cat(rolls[:2]))


def test_midi_to_roll_to_midi_is_exact(processor: FractalMidiProcessor, midi: Path, tmp_path: Path) -> None:
    back = processor.decode(processor(midi)["roll"], tempo=96)
    back.dump_midi(str(tmp_path / "back.mid"))
    read = symusic.Score(str(tmp_path / "back.mid"))
    assert notes_of(read) == notes_of(song(16)) and read.tempos[0].qpm == pytest.approx(96)
    both = processor.batch_decode(processor([midi, song()])["roll"], tempo=[96, 60])
    assert [round(s.tempos[0].qpm) for s in both] == [96, 60] and notes_of(both[1]) == notes_of(song(16))
    with pytest.raises(InputError, match="3 tempos for 2 rolls"):
        processor.batch_decode(processor([midi, song()])["roll"], tempo=[1, 2, 3])


def test_windows_chain_into_the_whole_piece(processor: FractalMidiProcessor) -> None:
    windows = processor.windows(song(32))
    assert [w.start_step for w in windows] == [0, 256] and [w.bar for w in windows] == [0, 16]
    whole = processor.join([values_of_codes(w.codes) for w in windows])
    assert notes_of(processor.decode(whole)) == notes_of(song(32))
    with pytest.raises(InputError, match="silent"):
        processor.windows(np.zeros((128, 300), int))


def test_the_window_begins_where_the_music_does_or_where_it_is_asked_to(processor: FractalMidiProcessor) -> None:
    late = song(24, first_bar=6)
    assert torch.equal(processor(late)["roll"], processor(late, start_bar=7)["roll"])
    assert not torch.equal(processor(late)["roll"], processor(late, start_bar=8)["roll"])
    with pytest.raises(InputError, match="has 24 bars; bar 25 is not among them"):
        processor(late, start_bar=25)
    with pytest.raises(InputError, match="bar 0 is not among them"):
        processor(late, start_bar=0)
    with pytest.raises(InputError, match="has no notes in the 256 steps from bar 1 on"):
        processor(song(40, first_bar=30), start_bar=1)


def test_conditions_are_wished_for_or_measured(processor: FractalMidiProcessor) -> None:
    names = processor.condition_names
    measured = dict(zip(names, processor(song(), measure=True)["conditions"][0].tolist(), strict=True))
    said = {n: ATTRIBUTES[n].classes[k] for n, k in measured.items()}
    assert said["tempo"] == "calm" and said["metre"] == "4/4" and (said["key"], said["mode"]) == ("A", "minor")
    assert said["density"] == "sparse" and said["polyphony"] == "medium" and said["sustain"] == "long"
    wished = processor(song(), {"density": "dense", "key": "Bb", "tempo": 200}, measure=True)["conditions"][0].tolist()
    changed = {n for n, a, b in zip(names, measured.values(), wished, strict=True) if a != b}
    assert changed == {"density", "key", "tempo"} and wished[names.index("key")] == 10
    assert wished[names.index("tempo")] == 5
    alone = processor(conditions=[{"mode": "minor"}, {"register": "high", "mode": None}])
    assert set(alone) == {"conditions"} and alone["conditions"].dtype == torch.int64
    assert alone["conditions"][:, names.index("mode")].tolist() == [1, -1]
    assert (alone["conditions"] >= 0).sum() == 2
    with pytest.raises(InputError, match="2 sets of conditions for 3 pieces"):
        processor([song()] * 3, [{}, {}])


def test_sizes_are_those_of_the_columns() -> None:
    processor = FractalMidiProcessor(attribute_names=["mode", "density"], source_names=["pop909", "lieder"])
    assert processor.condition_names == ["mode", "density", "source"] and processor.condition_sizes == [2, 3, 2]
    row = {"mode": "minor", "density": 9.0, "source": "lieder", "tempo": 4.0}
    assert processor.condition_bins(measured=row) == [1, 2, 1]
    assert processor.condition_bins({"source": "pop909"}, row) == [1, 2, 0]
    assert processor.condition_bins(measured={"source": "unheard of"}) == [-1, -1, -1]
    for name, size in zip(CONDITIONS, FractalMidiProcessor().condition_sizes, strict=True):
        assert size == len(ATTRIBUTES[name].classes)


def test_tempo_of_conditions_lies_in_the_asked_class(processor: FractalMidiProcessor) -> None:
    for wish in ATTRIBUTES["tempo"].classes:
        bins = processor.condition_bins({"tempo": wish})
        assert ATTRIBUTES["tempo"].bin_of(processor.tempo_of(bins)) == bins[0]
    assert processor.tempo_of([-1] * len(CONDITIONS)) == 120
    with pytest.raises(InputError, match="2 conditions, but"):
        processor.tempo_of([0, 0])


def test_impossible_input_is_one_clear_line(processor: FractalMidiProcessor, tmp_path: Path) -> None:
    (tmp_path / "empty.mid").write_bytes(b"")
    (tmp_path / "corrupt.mid").write_bytes(b"MThd nothing of the kind")
    drums, hours = song(), song(1)
    drums.tracks[0].is_drum = True
    drums.dump_midi(str(tmp_path / "drums.mid"))
    hours.tracks[0].notes.append(symusic.Note(480 * 96 * 180, 480, 60, 90))
    hours.dump_midi(str(tmp_path / "hours.mid"))
    symusic.Score(480).dump_midi(str(tmp_path / "silent.mid"))
    for name, message in (
        ("empty.mid", "is empty"), ("corrupt.mid", "not a readable MIDI"), ("drums.mid", "has drums only"),
        ("hours.mid", "lasts 180 minutes"), ("silent.mid", "has no notes"), ("none.mid", "no such file"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message) as caught:
            processor(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    for wish, message in (
        ({"mood": "sad"}, "'mood' can not be asked for; choose among tempo"),
        ({"mode": "dorian"}, "choose major, minor"),
        ({"source": "jazz"}, "'source' can not be asked for"), ({"tempo": "0 bpm"}, "tempo can not be"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            processor(conditions=wish)
    with pytest.raises(InputError, match=r"shape \(128, steps\), not \(88, 256\)"):
        processor(np.zeros((88, 256), int))
    with pytest.raises(InputError, match="no music"):
        processor([])
    with pytest.raises(InputError, match="there is no attribute 'mood'"):
        FractalMidiProcessor(attribute_names=["mood"])


def test_the_processor_survives_saving(tmp_path: Path) -> None:
    other = FractalMidiProcessor(
        window_steps=64, steps_per_quarter=2, attribute_names=["key", "mode"], source_names=["a", "流行"]
    )
    other.save_pretrained(tmp_path)
    again = FractalMidiProcessor.from_pretrained(tmp_path)
    assert again.to_dict() == other.to_dict() and again.condition_names == ["key", "mode", "source"]
    assert again.window_steps == 64 and again.source_names == ["a", "流行"]
    one, two = other(song(), measure=True), again(song(), measure=True)
    assert one["roll"].shape == (1, 1, 128, 64)
    assert torch.equal(one["roll"], two["roll"]) and torch.equal(one["conditions"], two["conditions"])


def test_auto_processor_finds_it(tmp_path: Path) -> None:
    from transformers import AutoProcessor

    from intermezzo.configuration.configuration_fractal_midi import FractalMidiConfig

    FractalMidiConfig().save_pretrained(tmp_path)
    FractalMidiProcessor(attribute_names=["density"]).save_pretrained(tmp_path)
    found = AutoProcessor.from_pretrained(tmp_path)
    assert type(found) is FractalMidiProcessor and found.condition_names == ["density"]
