"""`intermezzo serve`: painting and composing over HTTP give what the functions give, within a server's limits."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

for package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason="pip install 'intermezzo[serve]'")

from intermezzo.configuration.configuration_fractal_midi import FractalMidiConfig  # noqa: E402
from intermezzo.modeling.modeling_fractal_midi import FractalMidiModel  # noqa: E402
from intermezzo.painting import paint  # noqa: E402
from intermezzo.processing.processing_fractal_midi import FractalMidiProcessor  # noqa: E402
from intermezzo.serving import Limits, create_app, load_works  # noqa: E402

from .serving_client import ask, one_line, running  # noqa: E402
from .tiny_composer import ENCODER, encoder_module, tiny_composer  # noqa: E402

torch.set_num_threads(1)


def tiny_painter() -> tuple[Any, Any]:
    processor = FractalMidiProcessor(window_steps=64)
    torch.manual_seed(0)
    names, sizes = tuple(processor.condition_names), tuple(processor.condition_sizes)
    config = FractalMidiConfig(
        level_sizes=((128, 64), (32, 32), (8, 8), (1, 1)), hidden_sizes=(16, 16, 16), num_hidden_layers=(1, 1, 1),
        num_attention_heads=(2, 2, 2), context_margins=((4, 4), (4, 4)), attribute_names=names, attribute_sizes=sizes,
    )  # fmt: skip
    return FractalMidiModel(config).eval(), processor


@pytest.fixture(scope="module")
def painter() -> tuple[Any, Any]:
    return tiny_painter()


@pytest.fixture(scope="module")
def server(painter: Any) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, ENCODER, encoder_module())
        patch.setattr("intermezzo.painting.load_painter", lambda *_: painter)
        patch.setattr("intermezzo.composing.load_composer", lambda *_, **__: tiny_composer())
        checkpoints = {"fractal_midi": "tiny", "museformer": "tiny", "summary_bridge": "tiny"}
        with running(create_app(load_works(checkpoints, Limits(), "cpu"), threads=2)) as found:
            yield found


def files_of(found: list[dict[str, Any]]) -> dict[str, bytes]:
    return {file["name"]: base64.b64decode(file["base64"]) for part in found for file in part["files"]}


SETTINGS = {"bars": "4", "steps": "2,1,1,1", "seed": "5", "conditions": "tempo=90"}


def test_painting_is_that_of_the_function(server: Any, painter: Any, tmp_path: Path) -> None:
    status, found = ask(server.port, "POST", "/paint", {**SETTINGS, "num_samples": "2"})
    assert status == 200 and [one["tempo"] for one in found["results"]] == [90.0, 90.0]
    paint(
        bars=4, num_iter_list=[2, 1, 1, 1], seed=5, conditions="tempo=90", num_samples=2, out=tmp_path, painter=painter
    )
    files = files_of(found["results"])
    assert set(files) == {path.name for path in tmp_path.iterdir()}
    for name, content in files.items():
        assert content == (tmp_path / name).read_bytes(), name


def test_a_piece_is_painted_into(server: Any, painter: Any, tmp_path: Path) -> None:
    codes = np.zeros((128, 64), dtype=np.uint8)
    for step in range(0, 64, 4):
        codes[60 + step // 4 % 7, step : step + 3] = [20, 1, 1]
    painter[1].decode(codes, 100.0, (4, 4)).dump_midi(str(tmp_path / "song.mid"))
    fields = {"source": tmp_path / "song.mid", "mask": "2-3:C3-", "steps": "2,1,1,1"}
    status, found = ask(server.port, "POST", "/paint", fields)
    assert status == 200 and found["results"][0]["tempo"] == pytest.approx(100, abs=0.1)
    files = files_of(found["results"])
    assert set(files) == {"song-painted.mid", "song-painted.png"}
    (tmp_path / "painted.mid").write_bytes(files["song-painted.mid"])
    kept, painted = (painter[1].load(tmp_path / name)[0] for name in ("song.mid", "painted.mid"))
    assert (kept[:, :16] == painted[:, :16]).all() and (kept[:, 48:64] == painted[:, 48:64]).all()


@pytest.mark.parametrize(
    "fields,words",
    [
        ({"bars": "4000"}, "bars is 4000"),
        ({"num_samples": "99"}, "num_samples is 99"),
        ({"mask": "/etc/passwd.png"}, "mask"),
        ({"mask": "../mask.png"}, "mask"),
        ({"mask": "5-8"}, "piece"),
        ({"conditions": "density"}, "NAME=VALUE"),
        ({"steps": "8,x"}, "whole numbers"),
        ({"steps": "8,4000,1,1"}, "4000"),
        ({"temperature": "0"}, "temperature"),
        ({"temperature": "nan"}, "temperature"),
        ({"bars": "many"}, "bars"),
        ({"source": ("a.mid", b"MThd")}, "a.mid"),
        ({"source": ("a.mid", b"")}, "a.mid"),
        ({"source": ("a.xml", b"<?xml version='1.0'?>")}, "ending in .mid"),
    ],
)
def test_what_can_not_be_painted_is_one_line(server: Any, fields: dict[str, Any], words: str) -> None:
    status, found = ask(server.port, "POST", "/paint", {"steps": "2,1,1,1", **fields})
    assert status == 422 and words in one_line(found)


def test_composing_over_http(server: Any) -> None:
    fields = {"words": "calm sea", "bars": "1", "num_samples": "2", "seed": "3", "tempo": "100"}
    answers = [ask(server.port, "POST", "/compose", fields) for _ in range(2)]
    assert answers[0] == answers[1], "the same seed"
    status, found = answers[0]
    assert status == 200 and found["prompt"] == "calm sea" and "calm sea" in found["report"]
    files = files_of(found["songs"])
    assert set(files) == {f"calm-sea-{number}.{suffix}" for number in (1, 2) for suffix in ("mid", "png")}
    assert files["calm-sea-1.mid"].startswith(b"MThd")


@pytest.mark.parametrize(
    "fields,words",
    [
        ({}, "words"),
        ({"words": "a song of 500 bars"}, "bars is 500"),
        ({"words": "sea", "bars": "129"}, "bars is 129"),
        ({"words": "sea", "key": "H flat"}, "H flat"),
        ({"words": "sea", "num_samples": "0"}, "num_samples"),
        ({"picture": ("a.png", b"none")}, "picture"),
    ],
)
def test_what_can_not_be_composed_is_one_line(server: Any, fields: dict[str, Any], words: str) -> None:
    status, found = ask(server.port, "POST", "/compose", fields)
    assert status == 422 and words in one_line(found)
