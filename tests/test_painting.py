"""`intermezzo paint`: masks, windows over long pieces, what is kept, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from intermezzo.configuration.configuration_fractal_midi import FractalMidiConfig
from intermezzo.modeling.modeling_fractal_midi import FractalMidiModel
from intermezzo.painting import paint, read_wishes, whole_numbers
from intermezzo.painting_windows import plan_windows, prepare_canvas, strike_anew
from intermezzo.processing.errors import InputError
from intermezzo.processing.piano_roll import codes_of_score, codes_of_values, score_of_codes
from intermezzo.processing.processing_fractal_midi import FractalMidiProcessor
from intermezzo.processing.roll_masks import mask_of_words, pitch_of_name, read_mask
from intermezzo.processing.roll_windows import BarLine

torch.set_num_threads(1)

BARS = [BarLine(16 * k, (4, 4)) for k in range(4)]
STEPS = [2, 1, 1, 1]


@pytest.fixture(scope="module")
def painter() -> tuple[FractalMidiModel, FractalMidiProcessor]:
    processor = FractalMidiProcessor(window_steps=64)
    torch.manual_seed(0)
    names, sizes = tuple(processor.condition_names), tuple(processor.condition_sizes)
    config = FractalMidiConfig(
        level_sizes=((128, 64), (32, 32), (8, 8), (1, 1)), hidden_sizes=(16, 16, 16), num_hidden_layers=(1, 1, 1),
        num_attention_heads=(2, 2, 2), context_margins=((4, 4), (4, 4)), attribute_names=names, attribute_sizes=sizes,
    )  # fmt: skip
    return FractalMidiModel(config).eval(), processor


def tune(steps: int = 64) -> np.ndarray:
    codes = np.zeros((128, steps), dtype=np.uint8)
    for step in range(0, steps, 4):
        codes[60 + step // 4 % 7, step : step + 3] = [20, 1, 1]
    codes[40, ::16] = 15
    return codes


# --- Masks ------------------------------------------------------------------------------------------------------------


def test_note_names() -> None:
    names = {"C4": 60, "a4": 69, "F#3": 54, "Bb3": 58, "C-1": 0, "G9": 127, "Cb4": 59}
    assert {name: pitch_of_name(name) for name in names} == names
    for name in ("H4", "C", "G#9", "4", "Cb-1"):
        with pytest.raises(InputError, match="no note"):
            pitch_of_name(name)


@pytest.mark.parametrize(
    ("text", "rows", "columns"),
    [
        ("2", slice(None), slice(16, 32)),
        ("2-3", slice(None), slice(16, 48)),
        ("3-", slice(None), slice(32, 60)),
        ("-2", slice(None), slice(0, 32)),
        ("C4-B4", slice(60, 72), slice(None)),
        ("C4", slice(60, 61), slice(None)),
        ("C4-", slice(60, 128), slice(None)),
        ("-B3", slice(0, 60), slice(None)),
        ("C-1-C0", slice(0, 13), slice(None)),
        ("2-3 : C4-", slice(60, 128), slice(16, 48)),
    ],
)
def test_one_range_is_one_rectangle(text: str, rows: slice, columns: slice) -> None:
    wanted = np.zeros((128, 60), dtype=bool)
    wanted[rows, columns] = True
    assert (mask_of_words(text, BARS, 60) == wanted).all()


def test_a_list_is_the_union_of_its_parts() -> None:
    parts = ["1", "3:C4-C5", "E2"]
    union = np.any([mask_of_words(part, BARS, 64) for part in parts], axis=0)
    assert (mask_of_words(", ".join(parts), BARS, 64) == union).all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("5", "bars 1 to 4"), ("0", "bars 1 to 4"), ("3-2", "from bar 3 back"), ("C5-C4", "from C5 down to C4"),
        ("-", "can not be understood"), ("", "can not be understood"), ("2:", "can not be understood"),
        (":C4", "can not be understood"), ("1-2-3", "can not be understood"), ("2,,3", "can not be understood"),
        ("the end", "can not be understood"), ("2:3", "can not be understood"), ("C4-H9", "can not be understood"),
        ("C12", "no note 'C12'"),
    ],
)  # fmt: skip
def test_a_mask_that_can_not_be_is_told_in_one_line(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        mask_of_words(text, BARS, 64)
    assert "\n" not in str(caught.value)


def test_a_picture_is_a_mask_with_high_pitches_on_top(tmp_path: Path) -> None:
    pixels = np.zeros((128, 64), dtype=np.uint8)
    pixels[0, 5] = 255  # the top row
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    mask = read_mask(str(tmp_path / "mask.png"), BARS, 64)
    assert mask.sum() == 1 and mask[127, 5]
    with pytest.raises(InputError, match=r"64 x 128 pixels; for this roll it needs 80 x 128"):
        read_mask(tmp_path / "mask.png", BARS, 80)
    clear = np.full((128, 64, 4), (255, 255, 255, 0), dtype=np.uint8)  # painted in white on nothing
    clear[127, 7, 3] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    drawn = read_mask(tmp_path / "clear.png", BARS, 64)
    assert drawn.sum() == 1 and drawn[0, 7]
    (tmp_path / "bad.png").write_bytes(b"no picture")
    for name, told in (("bad.png", "not a readable picture"), ("none.png", "no such file")):
        with pytest.raises(InputError, match=told):
            read_mask(str(tmp_path / name), BARS, 64)
    Image.new("L", (64, 128), 0).save(tmp_path / "black.png")
    with pytest.raises(InputError, match="hides nothing"):
        read_mask(tmp_path / "black.png", BARS, 64)
    with pytest.raises(InputError, match=r"shape \(128, 63\)"):
        read_mask(np.ones((128, 63), dtype=bool), BARS, 64)
    with pytest.raises(InputError, match="float64"):
        read_mask(np.ones((128, 64)), BARS, 64)


# --- Windows ----------------------------------------------------------------------------------------------------------


def test_windows_cover_all_that_is_hidden_and_begin_at_bars() -> None:
    draw = np.random.default_rng(0)
    for _ in range(300):
        total, bar = int(draw.integers(1, 300)), int(draw.choice([1, 12, 14, 16, 90]))
        hidden = np.zeros((2, total), dtype=bool)
        for _ in range(int(draw.integers(1, 4))):
            first = int(draw.integers(total))
            hidden[0, first : first + int(draw.integers(1, 200))] = True
        starts = plan_windows(hidden, list(range(0, total, bar)), 64)
        covered = np.zeros(total + 64, dtype=bool)
        for start in starts:
            covered[start : start + 64] = True
        assert covered[:total][hidden.any(0)].all()
        assert starts == sorted(set(starts)) and starts[0] >= 0
        if bar <= 16 and 64 % bar == 0:
            assert all(start % bar == 0 or start == total - 64 or start > total - 64 - bar for start in starts)
    assert plan_windows(np.zeros((2, 9), dtype=bool), [0], 64) == []


def test_a_short_part_stands_in_the_middle_of_its_window() -> None:
    hidden = np.zeros((1, 640), dtype=bool)
    hidden[0, 320:352] = True
    assert plan_windows(hidden, range(0, 640, 16), 64) == [304]


def test_a_long_part_is_painted_with_half_a_window_of_the_past() -> None:
    hidden = np.ones((1, 160), dtype=bool)
    assert plan_windows(hidden, range(0, 160, 16), 64) == [0, 32, 64, 96]


# --- Painting ---------------------------------------------------------------------------------------------------------


def test_from_nothing_seeds_reproduce_and_do_not_depend_on_the_number(painter: Any) -> None:
    two = paint(num_samples=2, bars=6, num_iter_list=STEPS, painter=painter, seed=5)
    three = paint(num_samples=3, bars=6, num_iter_list=STEPS, painter=painter, seed=5)
    other = paint(num_samples=1, bars=6, num_iter_list=STEPS, painter=painter, seed=6)
    assert [result.name for result in three] == ["painted-1", "painted-2", "painted-3"] and other[0].name == "painted"
    assert all(result.codes.shape == (128, 96) and result.codes.dtype == np.uint8 for result in three)
    for a, b in zip(two, three, strict=False):
        assert (a.codes == b.codes).all()
    assert (two[0].codes != two[1].codes).any() and (two[0].codes != other[0].codes).any()


def test_known_cells_stay_and_hidden_ones_change(painter: Any) -> None:
    codes = tune(160)
    painted = paint(codes, "3-8:C3-", num_iter_list=STEPS, painter=painter)[0].codes
    mask = mask_of_words("3-8:C3-", [BarLine(16 * k, (4, 4)) for k in range(10)], 160)
    assert (painted[~mask] == codes[~mask]).all()
    assert (painted[mask] != codes[mask]).any()


def test_what_is_known_matters_on_both_sides(painter: Any) -> None:
    """Leak's opposite: with the same seed, another past or another future gives another middle."""
    codes = tune(64)
    middle = paint(codes, "2-3", num_iter_list=STEPS, painter=painter)[0].codes[:, 16:48]
    for side in (slice(0, 16), slice(48, 64)):
        other = codes.copy()
        other[30:90, side] = 25
        changed = paint(other, "2-3", num_iter_list=STEPS, painter=painter)[0].codes
        assert (changed[:, side] == 25)[30:90].all()
        assert (changed[:, 16:48] != middle).any()


def test_a_piece_goes_on_after_its_last_whole_bar(painter: Any, tmp_path: Path) -> None:
    file = tmp_path / "song.mid"
    score_of_codes(tune(88), 93.0, (3, 4)).dump_midi(str(file))
    result = paint(file, bars=10, num_iter_list=STEPS, painter=painter, out=tmp_path / "out", gif=True)[0]
    assert result.name == "song-painted" and result.metre == (3, 4) and result.tempo == pytest.approx(93, abs=0.01)
    assert result.codes.shape == (128, 96 + 120)
    assert (result.codes[:, :88] == tune(88)).all() and not result.codes[:, 88:96].any()
    assert [path.name for path in result.files] == ["song-painted.mid", "song-painted.png", "song-painted.gif"]
    assert (result.frames[0] == -1).any() and (result.frames[-1] == result.codes).all()
    undecided = [int((frame == -1).sum()) for frame in result.frames]
    assert undecided == sorted(undecided, reverse=True) and len(set(undecided)) > 4
    with Image.open(result.files[2]) as gif:
        assert gif.format == "GIF" and gif.n_frames > 4  # type: ignore[attr-defined]
    import symusic

    again = symusic.Score.from_midi(result.files[0].read_bytes())
    assert again.time_signatures[0].numerator == 3
    assert (codes_of_score(again, num_steps=88) == tune(88)).all()


def in_key_model(painter: Any) -> Any:
    """The model, with keys as sharp as a knife: only D and E major are met, and only their scales are liked."""
    import copy

    model = copy.deepcopy(painter[0])
    scale = [0.5 if step in (0, 2, 4, 5, 7, 9, 11) else -30.0 for step in range(12)]
    shares = [0.5 if key in (2, 4) else 0.0 for key in range(24)]
    model.config.update({"key_profiles": (scale, scale), "key_shares": shares})
    return model


def keys_of(codes: np.ndarray) -> list[int]:
    """Tonics, D or E, in whose major scale nearly all onsets are."""
    pitches = np.nonzero(codes >= 2)[0]
    scale = (0, 2, 4, 5, 7, 9, 11)
    return [key for key in (2, 4) if np.mean(np.isin((pitches - key) % 12, scale)) > 0.97]


def test_from_nothing_and_from_half_a_wish_all_windows_are_in_one_key(painter: Any) -> None:
    model = in_key_model(painter)
    for wish, few in ((None, 6), ("mode=major", 6)):
        options: dict[str, Any] = dict(bars=10, num_iter_list=STEPS, conditions=wish, num_samples=few, seed=1)
        results = paint(painter=(model, painter[1]), **options)
        found = [keys_of(result.codes) for result in results]
        assert all(len(keys) == 1 for keys in found) and len({keys[0] for keys in found}) == 2, found
        assert not any(keys_of(result.codes) for result in paint(painter=painter, **options))
    window = paint(painter=(model, painter[1]), bars=4, num_iter_list=STEPS, seed=3, structure_temperature=1.0)[0]
    alone = model.generate(1, num_iter_list=STEPS, generator=torch.Generator().manual_seed(3))
    assert (codes_of_values(alone[0, 0].numpy()) == window.codes).all()  # what is evaluated is what a person gets


def test_beside_known_music_few_patches_sound_by_chance(painter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    generate = painter[0].generate
    spy = lambda *args, **options: asked.append(options["structure_temperature"]) or generate(*args, **options)  # noqa: E731
    monkeypatch.setattr(painter[0], "generate", spy)
    for source, told in ((None, None), (tune(), None), (tune(), 0.7)):
        asked.clear()
        mask = None if source is None else "2"
        paint(source, mask, painter=painter, num_iter_list=STEPS, structure_temperature=told)
        assert set(asked) == {told or (0.6 if source is None else 0.3)}


def test_a_known_note_whose_beginning_is_painted_over_still_sounds(painter: Any, tmp_path: Path) -> None:
    codes = np.zeros((128, 64), dtype=np.uint8)
    codes[60, 12:40] = [25] + [1] * 27  # from bar 1 into bar 3
    codes[64, 20:40] = [9] + [1] * 19
    codes[67, 0:8] = 1  # began before the roll
    canvas = prepare_canvas(painter[1], codes, "2", None)
    painted = codes.copy()
    painted[:, 16:32] = 0
    heard = strike_anew(painted, canvas)
    wanted = painted.copy()
    wanted[60, 32], wanted[64, 32] = 25, 9
    assert (heard == wanted).all()
    painted[64, 30:32] = [20, 1]  # here the model led a note of its own up to the seam
    assert strike_anew(painted, canvas)[64, 32] == 1
    result = paint(codes, "2", num_iter_list=STEPS, painter=painter, out=tmp_path, sparsity_bias=60.0)[0]
    assert (result.codes[:, 32:] == codes[:, 32:]).all() and not result.codes[:, 16:32].any()
    from intermezzo.processing.score_files import read_score_file

    written = codes_of_score(read_score_file(result.files[0]).score, num_steps=64)
    assert ((written > 0) == (result.codes > 0)).all() and written[60, 32] == 25


def test_wishes_change_what_is_painted_and_the_tempo(painter: Any) -> None:
    options: dict[str, Any] = dict(num_iter_list=STEPS, painter=painter, bars=4)
    plain = paint(**options)[0]
    asked = paint(conditions="tempo=84,metre=3/4", **options)[0]
    assert plain.tempo == 120 and asked.tempo == 84 and asked.metre == (3, 4) and asked.codes.shape == (128, 48)
    dense = paint(conditions={"density": "dense"}, **options)[0]
    assert (dense.codes != plain.codes).any() and dense.codes.shape == plain.codes.shape
    assert paint(conditions={"tempo": "very fast"}, **options)[0].tempo > 150


def test_tempo_and_key_of_a_piece_are_kept_unless_a_wish_says_otherwise(painter: Any) -> None:
    _, processor = painter
    canvas = prepare_canvas(processor, score_of_codes(tune(), 70.0), None, 4)
    kept = {"tempo": canvas.measured["tempo"], "key": canvas.measured["key"]}
    assert kept["tempo"] == pytest.approx(70, abs=0.01) and kept["key"] is not None
    assert canvas.hidden[:, :64].sum() == 0 and canvas.hidden[:, 64:].all()


def test_hidden_notes_are_not_measured(painter: Any) -> None:
    codes = tune()
    loud = codes.copy()
    loud[60:90, 16:32] = 33
    measured = [prepare_canvas(painter[1], c, "2", None).measured for c in (codes, loud)]
    assert measured[0] == measured[1]


# --- Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"temperature": 0.0}, "temperature is 0"), ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"), ({"seed": 10**20}, "seed is 1000"),
        ({"conditions": "tempo=0"}, "tempo can not be '0'"), ({"num_samples": 0}, "num_samples is 0"),
        ({"bars": 0}, "bars is 0"), ({"mask": "2"}, "a mask needs a piece"), ({"num_iter_list": [8]}, "num_iter_list"),
        ({"top_p": 0.0}, "top_p is 0"), ({"conditions": "density=loudest"}, "density can not be"),
        ({"conditions": "colour=red"}, "'colour' can not be asked for"), ({"conditions": "dense"}, "write NAME=VALUE"),
        ({"conditions": "key=A,key=B"}, "wished for twice"), ({"source": tune(), "mask": "9"}, "bars 1 to 4"),
        ({"source": tune(), "mask": "2", "bars": 3}, "give one of them"),
        ({"source": np.zeros((100, 64), dtype=np.uint8)}, "shape"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line(painter: Any, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        paint(**{"painter": painter, "num_iter_list": STEPS, **settings})
    assert "\n" not in str(caught.value)


def test_files_that_are_no_music_are_one_line_each(painter: Any, tmp_path: Path) -> None:
    import symusic

    (tmp_path / "empty.mid").write_bytes(b"")
    (tmp_path / "corrupt.mid").write_bytes(b"MThd\x00\x00\x00\x06nothing of use")
    score_of_codes(np.zeros((128, 16), dtype=np.uint8), drums=tune(16)).dump_midi(str(tmp_path / "drums.mid"))
    long = symusic.Score(480)
    track = symusic.Track("piano", 0, False)
    track.notes.append(symusic.Note(480 * 120 * 180, 480, 60, 80))
    long.tracks.append(track)
    long.dump_midi(str(tmp_path / "long.mid"))
    told = {"empty.mid": "is empty", "corrupt.mid": "not a readable MIDI", "drums.mid": "drums only",
            "long.mid": "180 minutes", "none.mid": "no such file"}  # fmt: skip
    for name, words in told.items():
        with pytest.raises(InputError, match=words) as caught:
            paint(tmp_path / name, painter=painter)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_is_no_checkpoint_or_can_not_be_written(painter: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not load as a FractalMidi checkpoint"):
        paint(model=tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "style_encoder"}')
    with pytest.raises(InputError, match="is a checkpoint of 'style_encoder'; give one of 'fractal_midi'"):
        paint(model=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can not be made a folder"):
        paint(painter=painter, num_iter_list=STEPS, out=tmp_path / "file")


def test_words_of_the_command_line() -> None:
    assert whole_numbers("8,4, 2,1") == [8, 4, 2, 1]
    with pytest.raises(InputError, match="write whole numbers"):
        whole_numbers("8,x")
    assert read_wishes(" key = A , mode=minor,") == {"key": "A", "mode": "minor"} and read_wishes(None) == {}


def test_the_verb_is_there_when_its_model_is() -> None:
    import typer.main

    from intermezzo import cli

    verbs = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    assert ("paint" in verbs) == (Path(cli.__file__).parent / "checkpoints" / "fractal_midi" / "config.json").exists()


def test_the_command_paints_with_a_saved_checkpoint(painter: Any, tmp_path: Path) -> None:
    import typer
    from typer.testing import CliRunner

    from intermezzo.cli_paint import add_paint_verb

    for part in painter:
        part.save_pretrained(tmp_path / "model")
    score_of_codes(tune()).dump_midi(str(tmp_path / "song.mid"))
    app = typer.Typer()
    add_paint_verb(app)
    words = ["--from", tmp_path / "song.mid", "--mask", "2", "--steps", "2,1,1,1", "--seed", 3, "--num-samples", 2]
    words += ["--with", "density=dense", "--cfg", 1.5, "--model", tmp_path / "model", "--out", tmp_path / "out"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"song-painted-{k}.{suffix}" for k in (1, 2) for suffix in ("mid", "png")}
    wanted = paint(tune(), "2", conditions="density=dense,tempo=120,metre=4/4", cfg_scale=1.5, num_iter_list=STEPS,
                   painter=painter, seed=3, num_samples=2)  # fmt: skip
    from intermezzo.processing.score_files import read_score_file

    for k, result in enumerate(wanted):
        written = codes_of_score(read_score_file(tmp_path / "out" / f"song-painted-{k + 1}.mid").score, num_steps=64)
        assert (written == codes_of_score(painter[1].decode(result.codes), num_steps=64)).all()
