"""The evaluation of FractalMidi: its figures by hand, its controls, and a whole report of a tiny model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.configuration.configuration_fractal_midi import FractalMidiConfig
from intermezzo.modeling.fractal_cells import codes_to_roll
from intermezzo.modeling.modeling_fractal_midi import FractalMidiModel
from intermezzo.processing.errors import InputError
from intermezzo.processing.piano_roll import values_of_codes
from intermezzo.processing.processing_fractal_midi import FractalMidiProcessor
from intermezzo.train.evaluation import DEFAULT_N, EvaluationRequest, find_evaluator
from intermezzo.train.evaluation_fractal_data import HeldOut, load_held_out, other_real_music, read_held_out
from intermezzo.train.evaluation_fractal_fill import (
    HIDING,
    hidden_nats,
    located_nats,
    measure_attribute,
    measure_filling,
    measure_seams,
    off_by,
    seam_figures,
)
from intermezzo.train.evaluation_fractal_midi import TARGETS, evaluate_fractal_midi
from intermezzo.train.evaluation_report import EvaluationReport, update_card
from intermezzo.train.fractal_midi_baselines import measure_markov
from intermezzo.train.fractal_midi_data import made_up_rolls

from .test_fractal_baselines import write_parquet
from .tiny_fractal_midi import KINDS, make, random_codes

torch.set_num_threads(1)
STEPS = 128


def request(**changes: Any) -> EvaluationRequest:
    return replace(EvaluationRequest("fractal_midi", "nowhere", n=4, progress=False), **changes)


def held_out(count: int = 4) -> HeldOut:
    rolls = made_up_rolls(count)
    codes = np.stack([rolls[k]["codes"][:, :STEPS] for k in range(count)])
    values = [rolls[k]["values"] for k in range(count)]
    return HeldOut(codes, [f"piece {k // 2}" for k in range(count)], values, "made up")


@pytest.fixture(scope="module")
def painter() -> tuple[FractalMidiModel, FractalMidiProcessor]:
    processor = FractalMidiProcessor(window_steps=STEPS, source_names=["made up", "other"])
    names, sizes = tuple(processor.condition_names), tuple(processor.condition_sizes)
    torch.manual_seed(0)
    config = FractalMidiConfig(
        level_sizes=((128, STEPS), (32, 32), (8, 8), (1, 1)), hidden_sizes=(16, 16, 16), num_hidden_layers=(1, 1, 1),
        num_attention_heads=(2, 2, 2), context_margins=((4, 4), (4, 4)), attribute_names=names, attribute_sizes=sizes,
    )  # fmt: skip
    model = FractalMidiModel(config).eval()
    with torch.no_grad():
        for level in model.levels[:-1]:
            level.head.bias += torch.tensor([1.0, -1.0])  # not too dense, for speed
    return model, processor


# --- Figures by hand --------------------------------------------------------------------------------------------------


def test_how_far_two_means_lie_apart() -> None:
    assert off_by([1.0, 2.0, 3.0], [4.0, 4.0]).value == pytest.approx(0.5)
    assert off_by([6.0], [4.0]).value == pytest.approx(0.5)
    found = off_by([1.0, float("nan"), 3.0], [2.0, float("nan")], ["a", "b"])
    assert found.value == pytest.approx(0) and found.n == 2 and found.low <= found.value <= found.high
    assert np.isnan(off_by([float("nan")], [1.0]).value) and np.isnan(off_by([1.0], [0.0]).value)
    rng = np.random.default_rng(0)
    real = rng.normal(10, 3, 60)
    made, pieces = real * 1.2, [k // 2 for k in range(60)]
    paired, loose = (off_by(made, real, pieces, paired=pair) for pair in (True, False))
    assert paired.value == pytest.approx(0.2) and loose.value == pytest.approx(0.2)
    assert paired.high - paired.low < 1e-9 < 0.05 < loose.high - loose.low
    assert off_by(made, real, pieces, seed=1) == off_by(made, real, pieces, seed=1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_nats_of_all_places_are_those_of_the_roll(kind: str) -> None:
    model = make(kind)
    roll = codes_to_roll(random_codes(3), 5)
    draw = torch.Generator().manual_seed(0)
    mask = torch.rand(3, 8, 16, generator=draw) < 0.4
    with torch.no_grad():
        whole = model(roll, generator=torch.Generator().manual_seed(7)).nll.double().numpy()
        everywhere = located_nats(model, roll, torch.ones_like(mask), 1, 7)
        parts = [located_nats(model, roll, m, 1, 7) for m in (mask, ~mask)]
        np.testing.assert_allclose(everywhere, whole, rtol=1e-5)
        np.testing.assert_allclose(sum(parts), whole, rtol=1e-5)
        assert all((part > 0).all() for part in parts)
        np.testing.assert_allclose(hidden_nats(model, roll, torch.ones_like(mask), 1, 7), whole, rtol=1e-5)


def test_nats_are_put_where_they_arise() -> None:
    """A louder cell costs more where it is, and what lies before it in an `ar` model costs what it did."""
    model = make("ar")
    codes = random_codes(1)
    codes[0, 5, 13] = 2
    other = codes.clone()
    other[0, 5, 13] = 4
    first = torch.zeros(1, 8, 16, dtype=torch.bool)
    first[:, :, :8] = True
    with torch.no_grad():
        before, after = (
            [float(located_nats(model, codes_to_roll(c, 5), m, 1, 0)[0]) for m in (first, ~first)]
            for c in (codes, other)
        )
    assert before[0] == pytest.approx(after[0], abs=1e-4) and abs(before[1] - after[1]) > 1e-3


@pytest.mark.parametrize("hide", HIDING)
def test_masks_hide_a_part_that_sounds(hide: str) -> None:
    data = held_out(4)
    masks = HIDING[hide](data, np.random.default_rng(0))
    assert masks.shape == data.codes.shape and masks.dtype == bool
    assert all(mask.any() and not mask.all() for mask in masks)
    assert (HIDING[hide](data, np.random.default_rng(0)) == masks).all()
    if hide == "four bars":
        assert (
            (masks.all(axis=1).sum(axis=1) == 64).all() and not masks[:, :, :16].any() and not masks[:, :, -16:].any()
        )
    if hide == "one hand":
        assert ((data.codes > 0) & masks).any(axis=(1, 2)).all() and ((data.codes > 0) & ~masks).any(axis=(1, 2)).all()


def test_seams_of_the_real_music_are_not_off_and_silent_ones_are() -> None:
    data = held_out(4)
    masks = HIDING["four bars"](data, np.random.default_rng(0))
    same = seam_figures(data.codes, data, masks, 0)
    assert {name: one.value for name, one in same.items()} == {"pitch_step_off": 0, "onset_rate_off": 0}
    silent = np.where(masks, 0, data.codes)
    found = seam_figures(silent, data, masks, 0)
    assert found["onset_rate_off"].value == 1 and np.isnan(found["pitch_step_off"].value)


class Filler:
    """Answers with the truth where something is hidden, and with density as asked."""

    def __init__(self, model: FractalMidiModel, keeps: bool = True) -> None:
        self.model, self.keeps = model, keeps
        self.levels, self.device, self.config = model.levels, model.device, model.config

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)

    def generate(self, num_samples: Any = None, conditions: Any = None, *, roll: Any = None, **settings: Any) -> Any:
        if roll is not None:
            return roll if self.keeps else roll.roll(1, 2)
        count = num_samples or len(conditions)
        codes = np.zeros((count, 128, STEPS), dtype=np.uint8)
        for k in range(count):
            density = 1 if conditions is None else int(conditions[k, 0])
            codes[k, [60, 64, 67, 71][: density + 1], :: [4, 2, 1][density]] = 20
        return torch.from_numpy(values_of_codes(codes[:, None]))


def test_a_model_that_keeps_the_known_and_one_that_does_not(painter: Any) -> None:
    for keeps in (True, False):
        found = measure_filling(Filler(painter[0], keeps), held_out(), "four bars", request(), 1, {})
        assert found["known_cells_kept"].value == (1.0 if keeps else 0.0)
    assert found["bits_over_unconditional"].value > 0 and found["bits_over_wrong_rest"].value > 0
    seams = measure_seams(Filler(painter[0], True), held_out(), request(), {})
    assert seams["onset_rate_off"].value == seams["pitch_step_off"].value == 0
    assert "pitch_step_off_pasted" in seams and seams["onset_rate_off_pasted"].value > 0


def test_what_is_known_is_filled_in_with_fewer_stray_patches(painter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set()
    generate = painter[0].generate

    def paint(*args: Any, **settings: Any) -> torch.Tensor:
        asked.add(("roll" in settings, settings["structure_temperature"]))
        return generate(*args, **settings)

    monkeypatch.setattr(painter[0], "generate", paint)
    few: dict[str, Any] = dict(likelihood_n=1, free_n=0, fill_n=1, seam_n=2, wish_n=0, timing_n=1, draws=1)
    few["num_iter_list"] = (2, 1, 1, 1)
    evaluate_fractal_midi(request(baselines=False), painter=painter, held_out=held_out(2), **few)
    assert {temperature for known, temperature in asked if known} == {0.3}
    assert {temperature for known, temperature in asked if not known} == {0.3, 0.6}  # pasted ones, free ones


def test_hidden_bars_cost_the_same_with_and_without_the_rest_where_nothing_tells_of_anything() -> None:
    config = FractalMidiConfig(
        level_sizes=((128, STEPS), (16, 16), (4, 4), (1, 1)), hidden_sizes=(16, 16, 16), num_hidden_layers=(1, 1, 1),
        num_attention_heads=(2, 2, 2), context_margins=((4, 4), (4, 4)), generator_types=("ar", "ar", "ar", "ar"),
        attribute_names=(), attribute_sizes=(),
    )  # fmt: skip
    model = FractalMidiModel(config).eval()
    with torch.no_grad():
        for level in model.levels:
            for tensor in level.head.parameters():
                tensor.zero_()

    def paint(num_samples: int = 0, roll: Any = None, **settings: Any) -> torch.Tensor:
        return torch.full((num_samples, 1, 128, STEPS), -1.0) if roll is None else roll

    model.generate = paint
    found = measure_filling(model, held_out(), "four bars", request(), 1, {})
    for over in ("unconditional", "any_order", "wrong_rest"):
        assert found[f"bits_over_{over}"].value == pytest.approx(1, rel=1e-5), over


def test_wishes_that_are_granted_hit_and_shuffled_ones_do_not(painter: Any) -> None:
    processor = FractalMidiProcessor(window_steps=STEPS, attribute_names=["density", "tempo"])
    found = measure_attribute(Filler(painter[0]), processor, "density", 60, request(), {})
    assert found["density_hit"].value == 1.0 and found["density_hit"].n == 60
    assert 0.15 < found["density_hit_shuffled"].value < 0.55
    tempo = measure_attribute(Filler(painter[0]), processor, "tempo", 6, request(), {})
    assert tempo["tempo_hit"].value == 1.0


# --- Data -------------------------------------------------------------------------------------------------------------


def test_held_out_rolls_come_in_a_random_order_that_only_grows(tmp_path: Path) -> None:
    write_parquet(tmp_path, "test", 6, 0)
    write_parquet(tmp_path, "train", 3, 9)
    whole, few = read_held_out(tmp_path, 100, 3, []), read_held_out(tmp_path, 4, 3, [])
    assert len(whole) == 6 and (whole.codes[:4] == few.codes).all() and whole.pieces[:4] == few.pieces
    assert whole.digest(4) == few.digest(4) != whole.digest(3)
    assert str(tmp_path.parent) not in whole.data and whole.first(2).rolls().shape == (2, 1, 128, 256)
    assert load_held_out(request(data=str(tmp_path), n=2), 2, []).values[0]["source"] == "folk"
    assert (read_held_out(tmp_path, 100, 4, []).codes != whole.codes).any()


def test_real_music_of_other_pieces_stands_beside_the_samples(painter: Any, tmp_path: Path) -> None:
    write_parquet(tmp_path, "test", 4, 0)
    assert other_real_music(None, 9, 0) is other_real_music(tmp_path, 9, 0) is None
    write_parquet(tmp_path, "validation", 6, 5)
    assert len(other_real_music(tmp_path, 9, 0) or ()) == 6 and len(other_real_music(tmp_path, 2, 0) or ()) == 2
    asked = request(data=str(tmp_path), baselines=False)
    few: dict[str, Any] = dict(likelihood_n=1, wish_n=0, timing_n=1, draws=1, quick=True, num_iter_list=(2, 1, 1, 1))
    report = evaluate_fractal_midi(asked, painter=painter, held_out=held_out(2), **few)
    real = report.sections["real music of other pieces"]
    assert real["overlap_velocity"].n and any("real music of other pieces" in note for note in report.notes)


def test_data_that_can_not_be_used_is_one_line(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pytest.raises(InputError, match="build_midi"):
        read_held_out(tmp_path, 1, 0, [])
    pq.write_table(pa.table({"codes": [b"x"]}), tmp_path / "test.parquet")
    with pytest.raises(InputError, match="has no column piece_id"):
        read_held_out(tmp_path, 1, 0, [])
    (tmp_path / "test.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match="not a readable Parquet"):
        read_held_out(tmp_path, 1, 0, [])


def test_without_data_the_test_pieces_of_the_corpus_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from intermezzo.datasets_scripts import midi_sources
    from intermezzo.processing.piano_roll import score_of_codes

    tune = np.concatenate([made_up_rolls(6, 5)[k]["codes"] for k in range(6)], axis=1)  # 6 windows
    files = [midi_sources.SourceFile(str(k), "music21-made", f"piece{k}") for k in range(400)]
    tests = [file.name for file in files if file.split == "test"]
    assert 2 < len(tests) < 100
    read: list[str] = []

    def read_pieces(file: midi_sources.SourceFile) -> list[midi_sources.Piece]:
        read.append(file.name)
        if file.name == tests[0]:
            raise InputError(file.path, "is damaged")
        return [midi_sources.Piece(score_of_codes(tune), file.name, file.name)]

    monkeypatch.setattr(midi_sources, "files_of_corpus", lambda limit: files)
    monkeypatch.setattr(midi_sources, "read_pieces", read_pieces)
    count = 4 * len(tests)
    failures: list[Any] = []
    found = load_held_out(request(out=tmp_path), count, failures)
    assert set(found.pieces) == set(tests) - {tests[0]} and set(read) == set(tests)
    assert len(found) == 4 * (len(tests) - 1) and [failure.message for failure in failures] == ["is damaged"]
    assert "music21" in found.data and found.values[0]["source"] == "music21-made"
    read.clear()
    again = load_held_out(request(out=tmp_path), count, [])
    assert not read and (again.codes == found.codes).all()


# --- The whole report -------------------------------------------------------------------------------------------------


def test_a_whole_report_has_every_target_and_finds_its_way_to_a_card(painter: Any, tmp_path: Path) -> None:
    data = held_out(4)
    (tmp_path / "model").mkdir()
    measure_markov([{"codes": one} for one in data.codes], data, 2, 0, tmp_path / "model")
    asked = request(checkpoint=str(tmp_path / "model"), out=tmp_path / "out")
    report = evaluate_fractal_midi(
        asked, painter=painter, held_out=data, num_iter_list=(2, 1, 1, 1), draws=1, free_n=2, fill_n=2, wish_n=3,
        timing_n=1,
    )  # fmt: skip
    missing = [name for name in TARGETS if report.figure(name) is None]
    assert missing == ["bits_over_pixel_ar"] and any("pixel-AR" in note for note in report.notes)
    assert report.figures["bits_over_markov"].value > 1 and report.is_met("bits_over_markov") is False
    assert report.is_met("inpainting, four bars/known_cells_kept")
    assert any("`cfg_scale` 2" in note for note in report.notes)  # wishes are not sampled as `paint` does by itself
    assert report.figures["times_faster_than_pixel_ar"].value > 0
    assert {"music, samples", "music, held out", "free samples", "wishes"} <= set(report.sections)
    assert len(list((tmp_path / "out" / "fractal_midi_samples").glob("*.mid"))) == 4
    again = EvaluationReport.load(report.save(tmp_path / "out"))
    assert again.as_dict() == report.as_dict() and again.task == "other"
    (tmp_path / "README.md").write_text(
        "---\nlicense: apache-2.0\n---\n<!-- results:fractal_midi -->\n<!-- /results:fractal_midi -->\n"
    )
    update_card(tmp_path / "README.md", report)
    card = (tmp_path / "README.md").read_text()
    assert "piano_rolls" in card and "| `bits_per_sounding_cell` |" in card and str(tmp_path) not in card


def test_a_quick_report_leaves_the_long_parts_out(painter: Any) -> None:
    report = evaluate_fractal_midi(
        request(baselines=()), painter=painter, held_out=held_out(2), quick=True, num_iter_list=(1, 1, 1, 1), draws=1,
        timing_n=1,
    )  # fmt: skip
    assert set(report.sections) == {"music, samples", "music, held out"} and "bits_over_markov" not in report.figures
    with pytest.raises(TypeError):
        evaluate_fractal_midi(request(), painter=painter, held_out=held_out(2), speed="high")


def test_the_evaluator_is_registered_with_its_own_n() -> None:
    assert find_evaluator("fractal_midi") is evaluate_fractal_midi and DEFAULT_N["fractal_midi"] == 256
