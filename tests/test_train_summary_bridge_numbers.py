"""Even tempos and keys for the reader of stated wishes: what is told of them, what is learnt, what stays."""

from __future__ import annotations

import functools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.modeling.text_wishes import WISHES, PictureSides
from intermezzo.processing.errors import InputError
from intermezzo.processing.music_attributes import KEY_NAMES
from intermezzo.processing.music_wishes import fulfilled
from intermezzo.processing.text_encoder import EncodedTexts
from intermezzo.train import train_summary_bridge
from intermezzo.train.summary_bridge_numbers import TEMPOS, drawn_values, encoded, teach_numbers, told_of
from intermezzo.train.summary_bridge_wishes import in_measure

from .test_text_wishes import make as make_bridge

torch.set_num_threads(1)
T = 12
MEASURED: list[dict[str, Any]] = [
    {
        "tempo": 120.0, "density": 4.0, "register": 60.0, "dynamics": 70.0, "sustain": 1.0, "leaps": 0.1, "key": "C",
        "mode": "major", "key_fit": 0.9, "metre": "4/4", "bars": 16, "seconds": 32.0, "polyphony": 2.0, "range": 30,
    }
]  # fmt: skip


def encode(texts: Any) -> EncodedTexts:
    """An encoder that hears the first number in a text, roughly, and a few letters."""
    rows = np.zeros((len(texts), 2, T), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        numbers = [int(x) for x in re.findall(r"\d+", text) if 30 < int(x) < 240]
        if numbers:
            row[0, :3] = [1, np.log2(numbers[0] / 90), np.log2(numbers[0] / 90) ** 2]
        row[1, 3:] = [text.count(letter) / 4 for letter in "ABCDEFGmn"]
    mask = np.ones(rows.shape[:2], dtype=np.int8)
    return EncodedTexts(rows, rows.mean(1), mask)


make = functools.partial(make_bridge, text_size=T)


def test_tempos_and_keys_are_drawn_evenly_and_captions_are_true() -> None:
    captions, values = told_of(MEASURED, 1200)
    assert len(captions) == len(values) == 1200
    languages = Counter(one.language for one in captions)
    assert min(languages.values()) > 500
    bpm = np.array([one.stated["bpm"] for one in captions if "bpm" in one.stated])
    low, high = np.log2(TEMPOS)
    share, _ = np.histogram(np.log2(bpm), bins=5, range=(low, high))
    assert len(bpm) > 500 and share.min() > 0.12 * len(bpm)
    keys = Counter((one.stated["key"][0], one.stated["mode"][0]) for one in captions if "key" in one.stated)
    assert len(keys) == 2 * len(KEY_NAMES)
    for one, row in zip(captions, values, strict=True):
        if "bpm" in one.stated:
            np.testing.assert_allclose(row[0], in_measure(one.stated["bpm"]), rtol=1e-4)
            assert str(one.stated["bpm"]) in one.text


def test_another_tempo_makes_another_length_and_all_stays_true() -> None:
    import random

    drawn = drawn_values(dict(MEASURED[0]), random.Random(3))
    assert drawn["seconds"] * drawn["tempo"] == pytest.approx(32 * 120)
    assert drawn["density"] == 4.0 and MEASURED[0]["tempo"] == 120.0
    assert fulfilled({"bpm": round(drawn["tempo"])}, drawn) == {"bpm": True}


def test_the_same_seed_tells_the_same() -> None:
    first, again, other = (told_of(MEASURED, 40, seed)[0] for seed in (0, 0, 1))
    assert first == again and first != other


def test_texts_keep_their_rows() -> None:
    words = ["at 50 bpm", "A", "at 200 bpm"]
    told, whole = encoded(encode, words), encode(words)
    np.testing.assert_allclose(told.rows[told.places], whole.embed, atol=1e-3)
    np.testing.assert_allclose(told.pooled, whole.pooled)


def test_numbers_are_learnt_and_the_rest_stays() -> None:
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one_number = [{**MEASURED[0], "seconds": None, "bars": None}]
    teach_numbers(model, one_number, encode, 2500, 60, learning_rate=5e-3)
    others, values = told_of(one_number, 400, seed=9)
    has = np.array(["bpm" in one.stated for one in others])
    heard, statistics = encode([one.text for one in others]), model.statistics
    read = model.wishes.read(  # type: ignore[union-attr]
        statistics.embed(torch.from_numpy(heard.embed)), statistics.pooled(torch.from_numpy(heard.pooled)),
        torch.from_numpy(heard.mask).bool(),
    ).numpy()  # fmt: skip
    assert ((read[has, 0] > 0).mean()) > 0.9
    error = np.abs(read[has, len(WISHES)] - values[has, 0])
    assert error.mean() < 0.25 * values[has, 0].std()
    learnt = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert learnt and {name.rsplit(".", 2)[-2] for name in learnt} <= {"word", "fc1", "fc2", "out"}
    assert all(name.startswith("wishes.") for name in learnt)
    assert not any(parameter.requires_grad for parameter in model.wishes.parameters())  # type: ignore[union-attr]


def test_what_can_not_be_taught_is_said() -> None:
    with pytest.raises(InputError, match="--stage wishes"):
        teach_numbers(make(wish_size=0), MEASURED, encode, 10, 1)
    with pytest.raises(InputError, match="no training music"):
        teach_numbers(make(), [], encode, 10, 1)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "--model"),
        (["--model", "x"], "--music"),
        (["--model", "x", "--music", "y", "--number_captions", "0"], "number_captions"),
        (["--model", "nowhere", "--music", "y"], "nowhere"),
    ],
)
def test_flags_of_the_stage_are_told_in_one_line(tmp_path: Path, flags: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        train_summary_bridge.main(["--stage", "numbers", "--output_dir", str(tmp_path / "out"), *flags])
    assert "\n" not in str(caught.value)


def test_kept_lengths_follow_their_centres() -> None:
    torch.manual_seed(1)
    sides, fresh = PictureSides(4, 5), PictureSides(4, 5)
    texts = torch.randn(3, 4)
    for change in (lambda: None, lambda: sides.centres.normal_(), lambda: sides.double().float()):
        sides(texts)
        change()
        sides.suggests.normal_()
        fresh.load_state_dict(sides.state_dict())
        fresh._kept = None
        torch.testing.assert_close(sides(texts), fresh(texts))
    with torch.inference_mode():
        inside = PictureSides(4, 5)
        inside.centres.normal_()
        assert inside(texts).shape == (3, 7)
