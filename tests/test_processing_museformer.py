"""Museformer's processor: music to padded tokens and back, saved folders, one clear line for bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import symusic
import torch
from transformers import AutoProcessor

from intermezzo.processing.bar_midi_vocabulary import BAR_ID, EOS_ID, PAD_ID
from intermezzo.processing.errors import InputError
from intermezzo.processing.processing_museformer import BarMidiProcessor

from .test_processing_fractal_midi import notes_of, song
from .tiny_museformer import make


@pytest.fixture
def midi(tmp_path: Path) -> Path:
    song(5).dump_midi(str(tmp_path / "song.mid"))
    return tmp_path / "song.mid"


def test_paths_and_scores_give_the_same_padded_batch(midi: Path) -> None:
    processor = BarMidiProcessor()
    one = processor(midi)
    assert set(one) == {"input_ids", "attention_mask", "bar_ids"} and one["input_ids"].dtype == torch.int64
    assert torch.equal(one["input_ids"], processor(song(5))["input_ids"])
    assert one["bar_ids"].max() == 4 and one["input_ids"][0, -1] == EOS_ID
    for side in ("right", "left"):
        batch = BarMidiProcessor(padding_side=side)([str(midi), song(3)])
        ids, mask, bars = batch["input_ids"], batch["attention_mask"].bool(), batch["bar_ids"]
        assert torch.equal(mask, ids != PAD_ID) and torch.equal(mask, bars >= 0)
        assert torch.equal(ids[1][mask[1]], processor(song(3))["input_ids"][0])
        assert bool(mask[1, 0]) == (side == "right")


def test_midi_comes_back_note_by_note(midi: Path, tmp_path: Path) -> None:
    processor = BarMidiProcessor()
    scores = processor.batch_decode(processor([midi, song(3)])["input_ids"], strict=True)
    scores[0].dump_midi(str(tmp_path / "back.mid"))
    assert notes_of(symusic.Score(str(tmp_path / "back.mid"))) == notes_of(song(5))
    assert notes_of(processor.decode(processor(song(3))["input_ids"])) == notes_of(scores[1])
    assert processor.names([BAR_ID, EOS_ID]) == ["Bar_None", "EOS_None"]
    with pytest.raises(InputError, match="use batch_decode"):
        processor.decode(np.zeros((2, 3), int))


def test_bars_are_taken_out_and_added(midi: Path) -> None:
    processor = BarMidiProcessor()
    part = processor(midi, start_bar=2, num_bars=2)
    assert part["bar_ids"].max() == 1 and (part["input_ids"] != EOS_ID).all()
    assert notes_of(processor.decode(part["input_ids"])) == [
        (t - 1920, d, p, v) for t, d, p, v in notes_of(song(5)) if 1920 <= t < 3 * 1920
    ]
    assert processor(midi, num_bars=9)["bar_ids"].max() == 8
    assert processor(midi, start_bar=5)["input_ids"][0, -1] == EOS_ID
    assert processor(midi, end_of_piece=False)["input_ids"][0, -1] != EOS_ID
    for options, told in (({"start_bar": 6}, "has 5 bars; bar 6"), ({"num_bars": 0}, "num_bars is 0")):
        with pytest.raises(InputError, match=told):
            processor(midi, **options)


def test_headers_name_metre_and_tempo() -> None:
    processor = BarMidiProcessor()
    assert processor.header() == [BAR_ID]
    assert processor.names(processor.header(96.4, "6/8")) == ["Bar_None", "TimeSig_6/8", "Tempo_96.0"]
    assert processor.names(processor.header(metre=(3, 4), first=False)) == ["TimeSig_3/4"]
    assert processor.names(processor.header(100)) == ["Bar_None", "TimeSig_4/4", "Tempo_100.0"]
    for options, told in (
        ({"tempo": 5}, "tempo 5: choose 20 to 260"), ({"metre": "4/5"}, "metre '4/5'"), ({"metre": "waltz"}, "'waltz'"),
        ({"metre": (4,)}, r"\(4,\)"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=told):
            processor.header(**options)


def test_what_can_not_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    processor = BarMidiProcessor()
    (tmp_path / "empty.mid").write_bytes(b"")
    (tmp_path / "corrupt.mid").write_bytes(b"MThd nothing")
    (tmp_path / "text.txt").write_text("la la la")
    symusic.Score(480).dump_midi(str(tmp_path / "silent.mid"))
    cases = {
        "empty.mid": "is empty", "corrupt.mid": "not a readable MIDI", "text.txt": "can not be read as music",
        "silent.mid": "has no notes", "absent.mid": "no such file",
    }  # fmt: skip
    for name, told in cases.items():
        with pytest.raises(InputError, match=told) as caught:
            processor(tmp_path / name)
        assert "\n" not in str(caught.value) and name in str(caught.value)
    for music, told in ((None, "no music"), ([], "no music"), ([3], "a int is no music")):
        with pytest.raises(InputError, match=told):
            processor(music)


def test_a_folder_holds_it_and_another_language_is_refused(tmp_path: Path) -> None:
    BarMidiProcessor(snap=False, padding_side="left").save_pretrained(tmp_path)
    make().config.save_pretrained(tmp_path)
    back = AutoProcessor.from_pretrained(tmp_path)
    assert type(back) is BarMidiProcessor and (back.snap, back.padding_side) == (False, "left")
    assert torch.equal(back(song(3))["input_ids"], BarMidiProcessor()(song(3))["input_ids"])
    with pytest.raises(InputError, match="a language of 900 words, this one has 1023"):
        BarMidiProcessor(vocab_size=900)
    with pytest.raises(InputError, match="padding_side is 'top'"):
        BarMidiProcessor(padding_side="top")
