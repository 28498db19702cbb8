"""Probes of the summaries: attributes of bars are right, a probe finds what is there and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import symusic

from intermezzo.processing.tokenization_bar_midi import encode
from intermezzo.train.museformer_data import made_up_pieces
from intermezzo.train.museformer_probes import (
    BAR_ATTRIBUTES,
    bar_attributes,
    draw_summaries,
    main,
    main_directions,
    measure,
    probe,
    summaries_and_attributes,
)

from .tiny_museformer import make


def test_attributes_of_bars_are_counted_by_hand() -> None:
    score = symusic.Score(12)
    score.time_signatures.append(symusic.TimeSignature(0, 3, 4))
    for at, tempo in ((0, 90), (36, 150)):
        score.tempos.append(symusic.Tempo(at, tempo))
    track = symusic.Track("", 0, False)
    for start, length, pitch, velocity in ((0, 12, 60, 64), (12, 24, 72, 96), (72, 6, 40, 127)):
        track.notes.append(symusic.Note(start, length, pitch, velocity))
    score.tracks.append(track)
    found = bar_attributes(encode(score).ids)
    wanted = [[90, 2 / 3, 66, 12, 80, 1.5], [150] + [np.nan] * 5, [150, 1 / 3, 40, 0, 127, 0.5]]
    np.testing.assert_allclose(found, wanted)


def test_a_probe_finds_what_is_there_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    x, x_test = rng.normal(size=(400, 5)), rng.normal(size=(200, 5))
    weights = rng.normal(size=5)
    y, y_test = x @ weights * 30 + 100, x_test @ weights * 30 + 100
    y[::7] = np.nan
    assert probe(x, y, x_test, y_test) > 0.99
    assert probe(x, rng.normal(size=400), x_test, rng.normal(size=200)) < 0.1
    assert np.isnan(probe(x, y, x_test, np.full(200, np.nan)))
    points = main_directions(np.concatenate([x[:, :1] * 9, x[:, 1:2] * 4, x[:, 2:] * 0.1], axis=1))
    assert np.abs(np.corrcoef(points[:, 0], x[:, 0])[0, 1]) > 0.99
    assert draw_summaries(points, np.stack([x[:, 0], y], 1), 60).size == (120, 80)


def test_figures_and_picture_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make()
    x, y = summaries_and_attributes(model, made_up_pieces(3, bars=4), batch_size=2)
    assert x.shape == (12, 6) and y.shape == (12, len(BAR_ATTRIBUTES)) and np.isfinite(y).all()
    figures = measure(model, made_up_pieces(4, bars=4), made_up_pieces(3, seed=1, bars=4), tmp_path)
    told = json.loads((tmp_path / "probes.json").read_text())
    assert set(figures) == set(told["r2"]) == set(BAR_ATTRIBUTES) and told["held_out_bars"] == 12
    assert (tmp_path / "summaries.png").stat().st_size > 500
    assert main(["--model", str(tmp_path), "--data", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert "build_midi --tokens" in capsys.readouterr().err
