"""Pictures to music, measured: which pictures count, and whose wishes their songs are judged by."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from intermezzo.composing_parts import Composer
from intermezzo.processing.errors import InputError
from intermezzo.processing.style_looker import StyleLooker
from intermezzo.train import evaluation_picture_music as measured
from intermezzo.train.evaluation import EvaluationRequest
from intermezzo.train.evaluation_report import EvaluationReport, Target
from intermezzo.train.style_encoder_looks import choose_rows

from .tiny_composer import ENCODER, encoder_module, tiny_composer
from .tiny_style_encoder import save_tiny, write_split

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_split(folder, "test", ["red", "blue", "green"], ["shooting star", "run fast", "zzz", "rainstorm"])
    return folder


@pytest.fixture(scope="module")
def looker(tmp_path_factory) -> StyleLooker:
    return StyleLooker.from_pretrained(save_tiny(tmp_path_factory.mktemp("style") / "model"), "cpu")


@pytest.fixture
def parts(looker, monkeypatch) -> Composer:
    monkeypatch.setitem(sys.modules, ENCODER, encoder_module())
    tiny = tiny_composer(short=True)
    whole = Composer(tiny.museformer, tiny.music, tiny.bridge, tiny.bridge_processor, looker)
    monkeypatch.setattr(measured, "load_composing", lambda *_: (whole, ""))
    return whole


def a_report() -> EvaluationReport:
    return EvaluationReport("style_encoder", "c", "d", 0, 0)


def a_request() -> EvaluationRequest:
    return EvaluationRequest("style_encoder", checkpoint="c", progress=False)


def test_only_names_that_ask_for_something_count(data) -> None:
    told = measured.told_rows(choose_rows(data, "test", 99, 0), 99)
    assert {one.row["content"] for one in told} == {"shooting star", "run fast", "rainstorm"}
    assert all(
        sum(other.row["content"] == one.row["content"] for other in told) == 2 for one in told
    )  # of three styles
    fast = next(one for one in told if one.text == "run fast")
    assert "tempo" in {**fast.wish["stated"], **fast.wish["sides"]}
    assert len(measured.told_rows(choose_rows(data, "test", 99, 0), 3)) == 3


def test_a_song_is_judged_by_words_and_images_together() -> None:
    wish = {"stated": {"register": [2, 2]}, "sides": {"tempo": 1}}
    fast, slow = {"tempo": 240.0, "register": 90.0}, {"tempo": 30.0, "register": 30.0}
    assert measured.wish_kept(wish, fast) == {"register": True, "tempo": True}
    assert measured.wish_kept(wish, slow) == {"register": False, "tempo": False}
    assert not any(measured.wish_kept(wish, {}).values())


def test_pictures_and_their_words_go_the_same_way(data, parts, monkeypatch) -> None:
    taken: list[dict[str, torch.Tensor]] = []
    sample = parts.bridge.sample_summary_tokens

    def spy(**options):
        taken.append(options)
        return sample(**options)

    monkeypatch.setattr(parts.bridge, "sample_summary_tokens", spy)
    report, rows = a_report(), choose_rows(data, "test", 99, 0)
    found = measured.measure_picture_music(parts.looker, rows, a_request(), report, 6, bars=2)
    assert set(found) == {"picture_music_attributes", "word_music_attributes"}
    assert all(0 <= figure.value <= 1 and figure.n >= 6 for figure in found.values())
    assert set(report.sections) == {"music of pictures", "music of words"}
    assert all("other names' wishes" in section for section in report.sections.values())
    assert len(report.notes) == 1 and "6 held-out pictures of 3 contents" in report.notes[0]
    told = measured.told_rows(rows, 6)
    seen = list(parts.looker.look([measured._picture(one.row) for one in told]))
    np.testing.assert_allclose(taken[0]["text_pooled"], np.stack([one.pooled for one in seen]), atol=1e-5)
    words = parts.bridge_processor([one.text for one in told])
    torch.testing.assert_close(taken[1]["text_pooled"], words["text_pooled"])


def test_a_broken_picture_is_left_out(data, parts) -> None:
    rows = choose_rows(data, "test", 99, 0)
    place = next(k for k, row in enumerate(rows) if row["content"] == "run fast")
    rows[place] = {**rows[place], "image": b"no picture"}
    report = a_report()
    measured.measure_picture_music(parts.looker, rows, a_request(), report, 99, bars=1)
    assert "5 held-out pictures" in report.notes[0]


def test_without_models_or_pictures_a_note_says_so(data, parts, looker, monkeypatch, tmp_path) -> None:
    report = a_report()
    report.targets["picture_music_attributes"] = Target(0.7)
    nothing = [row for row in choose_rows(data, "test", 99, 0) if row["content"] == "zzz"]
    assert measured.measure_picture_music(looker, nothing, a_request(), report, 9) == {}
    assert "no picture's name" in report.notes[0] and not report.targets
    monkeypatch.undo()
    monkeypatch.setattr("intermezzo.composing_parts.default_checkpoint", lambda stem: tmp_path / stem)
    assert measured.load_composing(looker) == (None, "no SummaryBridge or Museformer is there")
    with pytest.raises(InputError, match="checkpoint"):
        measured.load_composing(looker, str(tmp_path / "none"), str(tmp_path / "none"))
