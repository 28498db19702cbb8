"""The evaluation of Museformer: its figures by hand, broken songs, and a whole report of tiny checkpoints."""

from __future__ import annotations

import functools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.processing.bar_midi_vocabulary import (
    BAR_ID,
    DURATION,
    EOS_ID,
    PITCH,
    POSITION,
    PROGRAM,
    SIGNATURES,
    TEMPO,
    TIME_SIGNATURE,
    VELOCITY,
)
from intermezzo.processing.errors import InputError
from intermezzo.train import evaluation_museformer as module
from intermezzo.train import evaluation_museformer_speed as speed
from intermezzo.train.evaluation import DEFAULT_N, EvaluationRequest, evaluate, find_evaluator, main
from intermezzo.train.evaluation_museformer import TARGETS, evaluate_museformer, load_music_model, measure_probes
from intermezzo.train.evaluation_museformer_songs import classes_kept, summaries_of
from intermezzo.train.evaluation_report import EvaluationReport
from intermezzo.train.evaluation_songs import Song, check_song, held_out_pieces, real_songs
from intermezzo.train.metrics_song_sets import (
    MUSPY,
    bar_histograms,
    diversity_against_real,
    feature_rows,
    frechet,
    frechet_figures,
    load_muspy,
    mean_distance,
    muspy_figures,
    song_distance,
)
from intermezzo.train.museformer_data import BarCollate, BarPieces, made_up_pieces

from . import tiny_museformer

torch.set_num_threads(1)
SMALL: dict[str, Any] = dict(
    num_bars=2, bars=4, max_bar_tokens=16, noise=(1.0,), samples=2, early=64, late=128, rounds=1, train_tokens=96,
    batch_size=4,
)  # fmt: skip


def request(**changes: Any) -> EvaluationRequest:
    return replace(EvaluationRequest("museformer", "nowhere", n=4, progress=False), **changes)


@functools.cache
def model(full: bool = False) -> Any:
    return tiny_museformer.make(full_attention=full)


@functools.cache
def pieces() -> BarPieces:
    return made_up_pieces(4, seed=3, bars=8)


def write_data(folder: Path, **splits: BarPieces) -> Path:
    """A folder as `build_midi --tokens` writes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split, chunks in splits.items():
        rows = [
            {"tokens": ids.tolist(), "piece_id": about["piece_id"], "source": "made up"}
            for ids, about in zip(chunks.ids, chunks.about, strict=True)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / "data" / f"{split}-00000.parquet")
    return folder


def bar(*notes: tuple[int, int, int], tempo: int = 120, metre: tuple[int, int] = (4, 4)) -> list[int]:
    """A bar of notes (tick, pitch, ticks), a piano's."""
    ids = [BAR_ID, TIME_SIGNATURE + SIGNATURES.index(metre), TEMPO + tempo - 20]
    for number, (tick, pitch, ticks) in enumerate(notes):
        ids += [POSITION + tick] + ([PROGRAM + 1] if not number else [])
        ids += [PITCH + pitch, VELOCITY + 20, DURATION + ticks - 1]
    return ids


# --- Songs by hand ----------------------------------------------------------------------------------------------------


def test_histograms_of_bars_by_hand() -> None:
    ids = bar((0, 60, 12), (24, 67, 12)) + bar() + bar((12, 72, 48), metre=(2, 4)) + [EOS_ID]
    rows = bar_histograms(ids)
    assert rows.shape == (3, 36) and not rows[1].any()
    assert rows[0, 0] == rows[0, 7] == 0.5 and rows[0, 12] == rows[0, 12 + 8] == 0.5 and rows[0, :12].sum() == 1
    assert rows[2, 0] == 1 and rows[2, 12 + 8] == 1  # a quarter into a bar of two is its middle
    assert rows[0, 28:].argmax() != rows[2, 28:].argmax() and rows[0, 28:].max() == rows[2, 28:].max() == 1


def test_distances_of_songs_are_between_none_and_all() -> None:
    one, other = bar_histograms(bar((0, 60, 12))), bar_histograms(bar((3, 61, 48)))
    silent = bar_histograms(bar())
    assert song_distance(one, one) == 0 == song_distance(silent, silent) and song_distance(one, other) == 1
    assert song_distance(one, silent) == 1 and song_distance(silent, one) == 1
    half = bar_histograms(bar((0, 60, 12), (3, 61, 48)))
    assert song_distance(one, half) == pytest.approx(0.5) == song_distance(half, one)
    assert song_distance(np.concatenate([one, one]), np.concatenate([one, other])) == 0.5
    assert math.isnan(song_distance(one, one[:0]))


def test_diversity_compares_samples_of_a_text_with_other_pieces() -> None:
    a, b, half = bar((0, 60, 12)), bar((3, 61, 48)), bar((0, 60, 12), (3, 61, 48))
    found = diversity_against_real({"x": [a, half], "y": [a, a]}, [a, a, b], ["p", "p", "q"])
    # Within texts 0.5 and 0; between pieces twice 1, for the two songs of p are no pair.
    assert found["bar_distance"].value == pytest.approx(0.25) and found["bar_distance_real"].value == 1
    assert found["diversity_against_real"].value == pytest.approx(0.25)
    assert found["diversity_against_real"].low == 0 and found["diversity_against_real"].high == pytest.approx(0.5)
    assert mean_distance([bar_histograms(a)] * 3, ["p", "p", "q"]) == 0
    same = diversity_against_real({"x": [a, a]}, [a, a], ["p", "q"])
    assert math.isnan(same["diversity_against_real"].value)


def test_frechet_distance_in_closed_form() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 3))
    assert frechet(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet(x, x + np.array([3.0, 0.0, 4.0])) == pytest.approx(25)
    spread = x.std(0, ddof=1)
    assert frechet(x, 3 * (x - x.mean(0)) + x.mean(0)) == pytest.approx(4 * (spread**2).sum())
    assert math.isnan(frechet(x[:1], x))


def test_frechet_of_songs_tells_other_music(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(1)
    names = ("tempo", "density", "register", "polyphony", "range", "dynamics", "sustain", "leaps")

    def values(shift: float) -> dict[str, Any]:
        return {name: float(draw.normal() + shift) for name in names} | {"mode": ("major", "minor")[draw.integers(2)]}

    real, same, other = ([values(shift) for _ in range(120)] for shift in (0, 0, 2))
    near, far = frechet_figures(same, real), frechet_figures(other, real)
    assert near["frechet"].value < 1 < 20 < far["frechet"].value and far["frechet"].low > 20
    assert near["frechet_real"].value == far["frechet_real"].value < 2
    assert len(feature_rows([*real[:2], {**real[2], "key": None, "mode": None}, {}])) == 2
    assert math.isnan(frechet_figures([], real)["frechet"].value)


def test_songs_are_checked_through_a_midi_file() -> None:
    ids = bar((0, 60, 12), (24, 67, 12)) + bar((0, 64, 48)) + [EOS_ID]
    song = check_song(torch.tensor([*ids, 0, 0]), 2, "mine")
    assert not song.fault and song.group == "mine" and song.values["tempo"] == pytest.approx(120)
    assert song.values["register"] == pytest.approx((60 + 67 + 64) / 3) and song.values["bars"] == 2
    assert "3 were asked" in check_song(ids, 3).fault
    broken = check_song([*ids[:3], VELOCITY, *ids[3:]], 2)
    assert "makes no sense" in broken.fault and broken.values == song.values
    assert check_song(bar((0, 60, 12), tempo=110), 1).values["tempo"] == 110  # although MIDI keeps microseconds
    silent = check_song(bar() + bar() + [EOS_ID], 2)
    assert not silent.fault and silent.values == {}


def test_real_songs_take_turns_among_pieces() -> None:
    songs = real_songs(pieces(), 4, 6, seed=1)
    assert len(songs) == 6 and len({song.group for song in songs[:4]}) == 4
    assert all(not song.fault and (song.ids == BAR_ID).sum() == 4 for song in songs)
    again = real_songs(pieces(), 4, 3, seed=1)
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(again, songs, strict=False))
    assert len(real_songs(pieces(), 4, 99)) == 12  # three windows of each piece
    with pytest.raises(InputError, match="has 9 bars"):
        real_songs(pieces(), 9, 1)


def test_classes_are_kept_by_the_song_itself_and_less_by_others() -> None:
    songs = real_songs(pieces(), 4, 8)
    assert classes_kept(songs, songs).value == 1
    assert classes_kept(songs, songs, 1).value < 0.95
    assert classes_kept([Song(song.ids, group=song.group) for song in songs], songs).value == 0


# --- MusPy ------------------------------------------------------------------------------------------------------------


def test_muspy_is_asked_for_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "muspy", None)
    with pytest.raises(InputError, match=r"intermezzo\[metrics\]") as caught:
        load_muspy()
    assert "\n" not in str(caught.value)


def test_muspy_measures_a_known_song() -> None:
    pytest.importorskip("muspy")
    song = check_song(bar((0, 60, 12), (12, 72, 12), (24, 67, 24)) + bar((0, 60, 48)), 2)
    found = muspy_figures([song.score, song.score], ["p", "p"])
    assert found["pitch_range"].value == 12 and found["n_pitches_used"].value == 3
    assert found["n_pitch_classes_used"].value == 2 and found["polyphony"].value == 1
    assert found["empty_beat_rate"].value == 0 and found["pitch_range"].n == 2


# --- Perplexity -------------------------------------------------------------------------------------------------------


def plainly(items: Any, *_: Any) -> Any:
    return items


@pytest.mark.parametrize("plan", [None, True])
def test_nats_are_those_of_the_model_s_loss(plan: bool | None) -> None:
    collate = BarCollate(4, 4, 2048)
    nats, words = module.nats_of_chunks(model(), pieces(), collate, plan, plainly, batch_size=3)
    rows = [{"ids": pieces().ids[k].astype(np.int64), "starts": pieces().starts[k]} for k in range(4)]
    with torch.no_grad():
        losses = [float(model()(**collate([row]), plan=plan).loss) for row in rows]
    assert words == [float((collate([row])["labels"][:, 1:] != -100).sum()) for row in rows]
    np.testing.assert_allclose(np.divide(nats, words), losses, rtol=1e-4)


def test_perplexity_over_itself_is_one_and_over_a_guesser_is_small() -> None:
    report = EvaluationReport("museformer", "c", "d", 0, 0)
    guesser = tiny_museformer.make(full_attention=True)
    torch.nn.init.zeros_(guesser.model.embed_tokens.weight)  # tied: every word is as likely
    options = module.Options(bars=4)
    module.perplexities(model(), {"self": model(), "guesser": guesser}, pieces(), options, request(), report)
    assert report.figures["perplexity_over_full_attention"].value == pytest.approx(1)
    assert report.sections["rival: guesser"]["perplexity"].value == pytest.approx(guesser.config.vocab_size, rel=1e-3)
    over = report.sections["rival: guesser"]["perplexity_over_this"].value
    assert over == pytest.approx(report.figures["perplexity"].value / guesser.config.vocab_size, rel=1e-3)
    assert report.figures["perplexity"].groups == 4


# --- Speed and memory -------------------------------------------------------------------------------------------------


def test_a_circle_repeats_whole_bars() -> None:
    text, period = speed.bars_in_a_circle(pieces(), 40, 300)
    assert len(text) % period == 0 and len(text) >= 300 and abs(period - 40) < 25
    assert text[0] == BAR_ID and torch.equal(text[:period], text[-period:]) and EOS_ID not in text


@pytest.mark.parametrize("full", [False, True])
def test_words_are_timed_at_both_places(full: bool) -> None:
    found = speed.token_times(model(full), pieces(), (60, 120), 2, period=30)
    assert set(found) == {"seconds_a_token_at_60", "seconds_a_token_at_120", "late_over_early"}
    assert all(0 < one.low <= one.value <= one.high and one.n == 2 for one in found.values())


def test_peak_memory_by_hand() -> None:
    def run() -> None:
        a, b = torch.empty(1 << 20), torch.empty(1 << 20)  # 4 MiB each
        del a
        c = torch.empty(1 << 21)  # 8 MiB
        del b, c

    run()
    assert 12 * 2**20 <= speed.peak_bytes(run, torch.device("cpu")) < 12.1 * 2**20


def test_full_attention_of_equal_size() -> None:
    config = tiny_museformer.tiny(num_summary_layers=2)
    other = speed.full_attention_like(config)
    assert other.full_attention and not config.full_attention and other.num_hidden_layers > config.num_hidden_layers
    ours, theirs = speed.count_weights(config), speed.count_weights(other)
    layer = speed.count_weights(tiny_museformer.tiny(full_attention=True, num_hidden_layers=3)) - speed.count_weights(
        tiny_museformer.tiny(full_attention=True)
    )
    assert abs(ours - theirs) <= layer / 2 and theirs == sum(
        p.numel() for p in type(model())(other).parameters()
    )  # fmt: skip


def test_a_training_step_is_measured_for_both() -> None:
    found = speed.training_costs(model().config, pieces(), 80, 2)
    assert found["museformer"]["peak_mebibytes"].value > 0 and found["full attention"]["seconds_a_step"].n == 2
    ratio = found["museformer"]["peak_mebibytes"].value / found["full attention"]["peak_mebibytes"].value
    assert found["over"]["memory_over_full_attention"].value == pytest.approx(ratio)


# --- Probes -----------------------------------------------------------------------------------------------------------


def test_probes_see_what_is_there_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def summaries(model: Any, chunks: BarPieces) -> tuple[np.ndarray, np.ndarray]:
        draw = np.random.default_rng(len(chunks.ids))
        count = sum(map(len, chunks.starts))
        x = draw.normal(size=(count, 3))
        return x, np.stack([x @ [1.0, 2.0, -1.0], draw.normal(size=count)] + [x[:, 0]] * 4, axis=1)

    monkeypatch.setattr(module, "summaries_and_attributes", summaries)
    found = measure_probes(None, made_up_pieces(9, bars=8), module.Options(), request(), resamples=20)
    assert found["r2_tempo"].value > 0.98 and found["r2_tempo"].low <= found["r2_tempo"].value
    assert found["r2_density"].value < 0.3 and found["r2_tempo"].n == 32  # four pieces of nine
    assert found["r2_tempo"].groups == 4


def test_probes_are_fitted_on_training_chunks_where_there_are_some(tmp_path: Path) -> None:
    data = write_data(tmp_path, train=made_up_pieces(3, seed=8, bars=8), test=pieces())
    found = measure_probes(model(), pieces(), module.Options(), request(data=str(data)), resamples=3)
    assert found["r2_density"].groups == 4 and found["r2_density"].n == 32


# --- The whole report -------------------------------------------------------------------------------------------------


@pytest.fixture
def muspy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that takes no time to import and says 1 of everything."""
    fake: Any = SimpleNamespace(Track=SimpleNamespace, Note=lambda *values: values, Music=SimpleNamespace)
    for name in MUSPY:
        setattr(fake, name, lambda music, measure_resolution=1: 1.0)
    monkeypatch.setitem(sys.modules, "muspy", fake)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    root = tmp_path_factory.mktemp("museformer")
    model().save_pretrained(root / "ours")
    model(True).save_pretrained(root / "full")
    return SimpleNamespace(
        ours=str(root / "ours"), full=str(root / "full"), data=str(write_data(root / "bars", test=pieces()))
    )


def test_a_whole_report_has_every_target(folders: SimpleNamespace, tmp_path: Path, muspy: None) -> None:
    report = evaluate(
        "museformer", checkpoint=folders.ours, data=folders.data, n=3, out=tmp_path, progress=False,
        rivals={"full": folders.full}, **SMALL,
    )  # fmt: skip
    assert not [name for name in TARGETS if report.figure(name) is None]
    assert report.figures["valid_midi"].value == 1 and not report.failures
    assert {"plans", "noisy plans", "rival: full", "training step, museformer", "speed"} <= set(report.sections)
    assert "classes_kept_noise_1" in report.sections["noisy plans"]
    assert "seconds_a_token_at_128" in report.sections["rival: full"]
    assert report.figures["memory_over_full_attention"].value > 0
    assert set(report.sections["MusPy, held out"]) == set(MUSPY) == set(report.sections["MusPy, free"])
    again = EvaluationReport.load(tmp_path / "museformer.json")
    assert again.as_dict() == report.as_dict() and "| `late_over_early` |" in again.markdown()
    assert str(Path(folders.data).parent) not in json.dumps([report.data, report.notes, report.sections], default=str)
    assert len(list((tmp_path / "museformer_samples").glob("*.mid"))) == 6


def test_a_quick_report_needs_no_rival_and_no_muspy(folders: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "muspy", None)
    found = evaluate_museformer(request(data=folders.data, n=2), model=model(), quick=True, **SMALL)
    assert "perplexity_over_full_attention" not in found.figures and any("--rival" in note for note in found.notes)
    assert any("intermezzo[metrics]" in note for note in found.notes) and "MusPy, free" not in found.sections
    assert "noisy plans" not in found.sections and "memory_over_full_attention" not in found.figures


def test_plans_are_summaries_of_bars_alone(folders: SimpleNamespace) -> None:
    songs = real_songs(pieces(), 2, 3)
    found = summaries_of(model(), songs)
    assert found.shape == (3, 2, 6)
    assert torch.allclose(found[0], model().get_summary_tokens(torch.from_numpy(songs[0].ids[:-1])[None])[0], atol=1e-5)


def test_what_can_not_be_measured_is_told_in_one_line(folders: SimpleNamespace, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    for folder, full, told in (
        (str(tmp_path / "empty"), None, "holds no config.json"),
        (str(tmp_path / "nowhere"), None, "no such folder; give a trained Museformer"),
        (folders.full, False, "has full attention; give one that makes summaries"),
        (folders.ours, True, "makes summaries; give one with full attention"),
    ):
        with pytest.raises(InputError, match=told) as caught:
            load_music_model(folder, full)
        assert "\n" not in str(caught.value)
    for settings, told in (({"colour": 1}, "no setting 'colour'"), ({"num_bars": "two"}, "num_bars is 'two'")):
        with pytest.raises(InputError, match=told):
            evaluate_museformer(request(data=folders.data), model=model(), **settings)
    with pytest.raises(InputError, match="test-"):
        held_out_pieces(request(data=str(tmp_path / "empty")), 1, [])
    for flags in (["--rival", "full"], ["--with", "num_bars=0"], ["--rival", f"x={folders.ours}"]):
        assert main(["museformer", "--checkpoint", folders.ours, "--data", folders.data, "--n", "1", *flags]) == 1
        said = capsys.readouterr().err.strip()
        assert said and "\n" not in said and "Traceback" not in said
    assert main(["score_vlm", "--rival", "a=b"]) == 1 and "--rival is for" in capsys.readouterr().err


def test_the_evaluator_is_registered_with_its_own_n() -> None:
    assert find_evaluator("museformer") is evaluate_museformer and DEFAULT_N["museformer"] == 128


def test_options_may_be_given_one_by_one_or_together() -> None:
    from intermezzo.train.evaluation import _options, _parser

    one_by_one = ["museformer", "--rival", "a=x", "--rival", "b=y", "--with", "each=1", "--with", "parallel=True"]
    together = ["museformer", "--rival", "a=x", "b=y", "--with", "each=1", "parallel=True"]
    for given in (one_by_one, together):
        assert _options(_parser().parse_args(given)) == {
            "each": 1, "parallel": True, "rivals": {"a": "x", "b": "y"},
        }  # fmt: skip
