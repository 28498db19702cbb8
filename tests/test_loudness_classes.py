"""Rolls with 127 loudness classes: from MIDI to a data set, a model and MIDI again, never mixed with those of 32."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import symusic
import torch

from intermezzo.configuration import configuration_fractal_midi
from intermezzo.configuration.configuration_fractal_midi import FractalMidiConfig
from intermezzo.datasets_scripts import build_midi
from intermezzo.modeling.modeling_fractal_midi import FractalMidiModel
from intermezzo.painting import load_painter, paint
from intermezzo.painting_windows import prepare_canvas, strike_anew
from intermezzo.processing.errors import InputError
from intermezzo.processing.piano_roll import codes_of_score, codes_of_values
from intermezzo.processing.processing_fractal_midi import FractalMidiProcessor
from intermezzo.processing.score_files import read_score_file
from intermezzo.train.baseline_pixel_ar import PixelARConfig, PixelARModel
from intermezzo.train.evaluation import EvaluationRequest
from intermezzo.train.evaluation_fractal_data import read_held_out
from intermezzo.train.evaluation_fractal_midi import evaluate_fractal_midi
from intermezzo.train.fractal_midi_baselines import measure_markov, measure_pixel_ar
from intermezzo.train.fractal_midi_data import RollCollate, made_up_rolls, read_rolls
from intermezzo.train.train_fractal_midi import main

torch.set_num_threads(1)

STEPS = [1, 1, 1, 1]


def song(seed: int, bars: int = 16) -> symusic.Score:
    """A song on the grid in which every velocity is met."""
    rng = np.random.default_rng(seed)
    score = symusic.Score(480)
    score.tempos.append(symusic.Tempo(0, 100))
    score.time_signatures.append(symusic.TimeSignature(0, 4, 4))
    track = symusic.Track("", 0, False)
    velocities = [*rng.permutation(np.arange(1, 128)).tolist(), 64]
    for k in range(bars * 8):
        track.notes.append(symusic.Note(240 * k, 120, int(rng.integers(48, 80)), velocities[k % 128]))
    score.tracks.append(track)
    return score


def notes_of(score: symusic.Score) -> list[tuple[int, int, int, int]]:
    return sorted((n.time, n.duration, n.pitch, n.velocity) for t in score.tracks for n in t.notes)


def narrow(**changes: Any) -> FractalMidiConfig:
    settings: dict[str, Any] = dict(
        hidden_sizes=(16, 16, 16), num_hidden_layers=(1, 1, 1), num_attention_heads=(2, 2, 2), train_nodes=(4, 8)
    )
    return FractalMidiConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same songs as a data set of each kind."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "songs").mkdir()
    for k in range(40):
        song(k).dump_midi(str(folder / "songs" / f"song{k}.mid"))
    for classes in (32, 127):
        words = ["--out", str(folder / str(classes)), "--source", f"songs={folder / 'songs'}", "--quiet"]
        assert build_midi.main([*words, "--loudness-classes", str(classes)]) == 0
    return {classes: folder / str(classes) for classes in (32, 127)}


@pytest.fixture(scope="module")
def trained(built: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A model of each kind, after a step."""
    runs = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(configuration_fractal_midi.PRESETS, "small", narrow)
        for classes, data in built.items():
            runs[classes] = tmp_path_factory.mktemp(f"run{classes}")
            words = ["--data", str(data), "--output_dir", str(runs[classes]), "--preset", "small", "--max_steps", "1"]
            words += ["--batch_size", "1", "--validation_rolls", "1", "--log_images_every_n_steps", "1"]
            assert main([*words, "--num_images_to_log", "1", "--num_iter_list", *"1111", "--cpu", "--no-progress"]) == 0
    return {classes: run / "final" for classes, run in runs.items()}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def refused(told: str) -> Any:
    """An `InputError` of one line that names 32 and 127, or what they make of codes."""
    return pytest.raises(InputError, match=rf"\A[^\n]*{told}[^\n]*\Z")


# --- Processor --------------------------------------------------------------------------------------------------------


def test_midi_to_roll_to_midi_keeps_every_velocity(tmp_path: Path) -> None:
    processor = FractalMidiProcessor(loudness_classes=127)
    file = tmp_path / "song.mid"
    song(1).dump_midi(str(file))
    roll = processor(file)["roll"]
    back = symusic.Score.from_midi(processor.decode(roll, tempo=100).dumps_midi())
    assert notes_of(back) == notes_of(song(1)) and {note[3] for note in notes_of(back)} == set(range(1, 128))
    codes = processor.windows(file)[0].codes
    torch.testing.assert_close(roll[0, 0], torch.from_numpy(-1 + 2 * codes.astype(np.float32) / 128))
    assert torch.equal(processor(codes)["roll"], roll) and (processor.join([roll, codes])[:, 256:] == codes).all()
    assert processor.num_codes == 129 and FractalMidiProcessor().num_codes == 34


def test_measures_are_the_same_for_both_kinds() -> None:
    fine, few = (FractalMidiProcessor(loudness_classes=n) for n in (127, 32))
    one, two = (processor.measure(processor.windows(song(2))[0], song(2)) for processor in (fine, few))
    velocities = [note[3] for note in notes_of(song(2))]
    assert one["dynamics"] == pytest.approx(np.mean(velocities)) and abs(one["dynamics"] - two["dynamics"]) < 2
    assert {**one, "dynamics": 0} == {**two, "dynamics": 0}


def test_a_saved_processor_knows_its_classes_and_an_old_one_has_32(tmp_path: Path) -> None:
    FractalMidiProcessor(loudness_classes=127, attribute_names=["key"]).save_pretrained(tmp_path)
    again = FractalMidiProcessor.from_pretrained(tmp_path)
    assert again.loudness_classes == 127 and again.condition_names == ["key"]
    file = next(path for path in tmp_path.iterdir() if "loudness_classes" in path.read_text())
    told = json.loads(file.read_text())
    del told["loudness_classes"]
    file.write_text(json.dumps(told))
    assert FractalMidiProcessor.from_pretrained(tmp_path).loudness_classes == 32
    for wrong in (33, 0, "many"):
        with refused(f"loudness_classes is {wrong!r}; it must be 32 or 127"):
            FractalMidiProcessor(loudness_classes=wrong)  # type: ignore[arg-type]


# --- Data -------------------------------------------------------------------------------------------------------------


def test_the_builder_writes_the_same_music_in_both_kinds(built: dict[int, Path]) -> None:
    few, fine = rows_of(built[32]), rows_of(built[127])
    assert len(few) == len(fine) == 40 and {row.pop("loudness_classes") for row in fine} == {127}
    assert "loudness_classes" not in few[0] and "loudness_classes" not in (built[32] / "build.json").read_text()
    assert json.loads((built[127] / "build.json").read_text())["loudness_classes"] == 127
    for one, other in zip(few, fine, strict=True):
        score = song(int(one["title"].removeprefix("song")) if one["title"] else int(one["piece_id"][10:]))
        for row, classes in ((one, 32), (other, 127)):
            assert row.pop("codes") == codes_of_score(score, num_steps=256, loudness_classes=classes).tobytes()
        assert other.pop("dynamics") == pytest.approx(one.pop("dynamics"), abs=2)
        assert one == other
    cards = [(built[classes] / "README.md").read_text(encoding="utf-8") for classes in (32, 127)]
    assert "2 to 33 onset by loudness ·" in cards[0] and "2 to 128 onset by velocity (`loudness_classes`) ·" in cards[1]


def test_a_folder_keeps_its_kind_and_others_are_refused(
    built: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = [f"songs={built[32].parent / 'songs'}"]
    with refused("was built with other loudness_classes"):
        build_midi.build(built[127], source, progress=False)
    with refused("tokens have 32 loudness classes, rolls alone may have 127"):
        build_midi.build(tmp_path / "x", source, tokens=True, loudness_classes=127, progress=False)
    with refused("loudness_classes is 64; it must be 32 or 127"):
        build_midi.build(tmp_path / "x", source, loudness_classes=64, progress=False)
    with pytest.raises(SystemExit):
        build_midi.main(["--out", str(tmp_path / "x"), "--loudness-classes", "64"])
    assert "32, 127" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_rolls_know_their_kind_and_two_kinds_do_not_mix(built: dict[int, Path], tmp_path: Path) -> None:
    for classes, folder in built.items():
        rolls = read_rolls(folder, "train")
        assert rolls.loudness_classes == classes == read_held_out(folder, 9, 0, []).loudness_classes
        batch = RollCollate(loudness_classes=classes)([rolls[0]])
        assert (codes_of_values(batch["roll"][0, 0], loudness_classes=classes) == rolls[0]["codes"]).all()
    for classes, folder in built.items():
        (tmp_path / f"train-{classes}.parquet").write_bytes(
            next(iter(sorted((folder / "data").glob("train*")))).read_bytes()
        )
    with refused("has 32 loudness classes, the data 127"):
        read_rolls(tmp_path, "train")
    packed = tmp_path / "packed"
    (packed / "train").mkdir(parents=True)
    np.save(packed / "train" / "codes.npy", np.full((1, 128, 256), 128, np.uint8))
    assert read_rolls(packed, "train").loudness_classes == 32
    (packed / "attributes.json").write_text('{"loudness_classes": 127}')
    assert read_rolls(packed, "train").loudness_classes == 127


# --- Training and painting --------------------------------------------------------------------------------------------


def test_training_takes_the_classes_of_the_data_and_painting_those_of_the_model(
    trained: dict[int, Path], tmp_path: Path
) -> None:
    for classes, folder in trained.items():
        model, processor = load_painter(folder, "cpu")
        assert model.config.num_codes == classes + 2 == processor.num_codes
        options: dict[str, Any] = dict(num_iter_list=STEPS, painter=(model, processor), gif=True)
        (result,) = paint(None, bars=1, out=tmp_path / str(classes), **options)
        read = read_score_file(result.files[0]).score
        assert result.codes.max() < classes + 2
        written = codes_of_score(read, num_steps=16, loudness_classes=classes)
        assert (written == codes_of_score(processor.decode(result.codes), num_steps=16, loudness_classes=classes)).all()
        (after,) = paint(song(3), "2", out=tmp_path / str(classes), **options)
        known = codes_of_score(song(3), loudness_classes=classes)
        assert (after.codes[:, 32:255] == known[:, 32:255]).all() and (after.codes[:, :16] == known[:, :16]).all()
        assert known.max() == classes + 1 and (after.frames[-1] == after.codes).all()
        assert (after.codes[:, 16:32] > 1).any() and after.heard is not None
        if classes == 127:
            kept = {note for note in notes_of(read_score_file(after.files[0]).score) if not 16 <= note[0] // 120 < 32}
            assert {note for note in notes_of(song(3)) if not 16 <= note[0] // 120 < 32} == kept
            assert (after.codes[:, 16:32] > 33).any() and (result.codes > 33).any()


def test_models_processors_and_data_of_two_kinds_are_refused(
    built: dict[int, Path], trained: dict[int, Path], tmp_path: Path
) -> None:
    words = ["--output_dir", str(tmp_path / "run"), "--max_steps", "1", "--cpu", "--no-progress"]
    for data, model, told in (
        (built[32], trained[127], "has 127 loudness classes, the data 32"),
        (built[127], trained[32], "has 32 loudness classes, the data 127"),
    ):
        with refused(told):
            main([*words, "--data", str(data), "--model", str(model)])
    mixed = tmp_path / "mixed"
    FractalMidiModel.from_pretrained(trained[127]).save_pretrained(mixed)
    FractalMidiProcessor.from_pretrained(trained[32]).save_pretrained(mixed)
    with refused("has 127 loudness classes, the data 32"):  # its processor fits the data, its model does not
        main([*words, "--data", str(built[32]), "--model", str(mixed)])
    with refused("do not belong together: 129 codes and 34"):
        load_painter(mixed)
    with refused("do not belong together: 34 codes and 129"):
        paint(painter=(load_painter(trained[32])[0], load_painter(trained[127])[1]))
    with refused("has 127 loudness classes, the data 32"):
        request = EvaluationRequest("fractal_midi", str(trained[127]), data=str(built[32]), n=2, progress=False)
        evaluate_fractal_midi(request)
    PixelARModel(PixelARConfig(width=10, layers=1)).save_pretrained(tmp_path / "pixel")
    with refused("has 32 loudness classes, the data 127"):
        measure_pixel_ar(str(tmp_path / "pixel"), read_held_out(built[127], 1, 0, []), 1, 1, 0)


def test_a_model_of_129_codes_is_evaluated_like_others(
    built: dict[int, Path], trained: dict[int, Path], tmp_path: Path
) -> None:
    data = read_held_out(built[127], 2, 0, [])
    measure_markov(read_rolls(built[127], "train", 2), data, 1, 0, tmp_path)
    request = EvaluationRequest("fractal_midi", str(tmp_path), n=2, out=tmp_path / "out", progress=False)
    painter = load_painter(trained[127], "cpu")
    report = evaluate_fractal_midi(
        request, painter=painter, held_out=data, quick=True, num_iter_list=tuple(STEPS), draws=1, timing_n=1
    )
    assert report.figures["bits_over_markov"].value > 0 and "overlap_velocity" in report.figures
    assert len(list((tmp_path / "out").rglob("*.mid"))) == 2
    measure_markov(made_up_rolls(2), read_held_out(built[32], 2, 0, []), 1, 0, tmp_path)
    report = evaluate_fractal_midi(
        request, painter=painter, held_out=data.first(1), quick=True, num_iter_list=tuple(STEPS), draws=1, timing_n=1
    )
    assert any("No markov.npz of 129 codes" in note for note in report.notes)


def test_a_note_struck_anew_is_as_loud_as_it_was() -> None:
    processor = FractalMidiProcessor(window_steps=64, loudness_classes=127)
    codes = np.zeros((128, 64), dtype=np.uint8)
    codes[60, 12:40] = [101] + [1] * 27
    codes[67, :40] = 1  # began before the roll
    canvas = prepare_canvas(processor, codes, "2", None)
    assert canvas.loudness_classes == 127
    painted = codes.copy()
    painted[:, 16:32] = 0
    heard = strike_anew(painted, canvas)
    assert heard[60, 32] == 101 and heard[67, 32] == 2 + 63


def test_the_page_is_sent_32_classes(tmp_path: Path) -> None:
    from intermezzo.space import paint_tab

    song(4).dump_midi(str(tmp_path / "song.mid"))
    shown = []
    for classes in (32, 127):
        painter = (None, FractalMidiProcessor(loudness_classes=classes))
        models: Any = SimpleNamespace(painter=lambda painter=painter: painter)
        shown.append(paint_tab.show_piece(tmp_path / "song.mid", models))
    assert shown[0] == shown[1] and max(note[3] for note in shown[0]["notes"]) == 31
