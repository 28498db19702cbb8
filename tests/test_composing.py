"""`intermezzo compose`: songs, files and reports, settings that are kept, odd words, and one line for each mistake."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from intermezzo.composing import ComposeSettings, compose
from intermezzo.composing_parts import Composer, load_composer
from intermezzo.composing_songs import draw_song, make_song, move_to_key
from intermezzo.processing.bar_midi_vocabulary import BAR_ID, EOS_ID
from intermezzo.processing.errors import InputError
from intermezzo.processing.music_wishes import SIDED, measure_score
from intermezzo.processing.processing_museformer import BarMidiProcessor
from intermezzo.processing.score_files import read_score_file

from .tiny_composer import ENCODER, encoder_module, tiny_bridge, tiny_composer
from .tiny_style_encoder import save_tiny, stripes

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def composer() -> Iterator[Composer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, ENCODER, encoder_module())
        yield tiny_composer()


@pytest.fixture
def asked_of_bridge(composer: Composer, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the bridge is asked for."""
    seen: list[dict[str, Any]] = []
    sample = composer.bridge.sample_summary_tokens

    def spy(**options: Any) -> torch.Tensor:
        seen.append(options)
        return sample(**options)

    monkeypatch.setattr(composer.bridge, "sample_summary_tokens", spy)
    return seen


def bars_of(ids: np.ndarray) -> int:
    return int((ids == BAR_ID).sum())


def score_ids(score: Any) -> list[int]:
    return BarMidiProcessor(snap=False).tokens(score).ids.tolist()


# --- Songs ------------------------------------------------------------------------------------------------------------


def test_words_become_files(composer: Composer, tmp_path: Path) -> None:
    (result,) = compose("流星雨", bars=3, num_samples=2, out=tmp_path / "new", composer=composer)
    assert [song.name for song in result.songs] == ["流星雨-1", "流星雨-2"]
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"流星雨-1.mid", "流星雨-1.png", "流星雨-2.mid", "流星雨-2.png", "流星雨.txt"}
    for song in result.songs:
        assert bars_of(song.ids) == 3 and song.ids[-1] == EOS_ID
        composer.music.decode(song.ids, strict=True)
        written = read_score_file(song.files[0]).score
        assert score_ids(written) == score_ids(song.score)
        if song.values is not None:
            again = measure_score(written)
            assert {name: again[name] for name in ("density", "register")} == {
                name: song.values[name] for name in ("density", "register")
            }
        with Image.open(song.files[1]) as picture:
            assert picture.format == "PNG" and picture.width % 4 == 0
            assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 3, "ground, lines and notes"
    assert (result.songs[0].ids.shape != result.songs[1].ids.shape) or (
        result.songs[0].ids != result.songs[1].ids
    ).any()
    text = (tmp_path / "new" / "流星雨.txt").read_text(encoding="utf-8")
    assert text == f"{result}\n" and text.startswith("流星雨\n")
    assert result.asked.sides == {"tempo": 1, "density": -1, "register": 1, "leaps": 1}
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "above 104" in rows["tempo"] and "below 4.547" in rows["density"] and "of 4" in rows["kept"]
    for name in result.asked.sides:
        marks = [mark for mark in rows[name] if mark in "✓✗"]
        assert marks == ["✗✓"[kept[name]] for kept in result.kept()]


def test_a_seed_makes_the_same_songs(composer: Composer) -> None:
    first, again, other = (
        compose("calm sea", bars=2, num_samples=2, seed=seed, composer=composer)[0].songs for seed in (5, 5, 6)
    )
    assert all((a.ids.tolist() == b.ids.tolist()) for a, b in zip(first, again, strict=True))
    assert any((a.ids.tolist() != b.ids.tolist()) for a, b in zip(first, other, strict=True))


def test_prompts_do_not_disturb_each_other(composer: Composer) -> None:
    alone = compose("calm sea", bars=2, composer=composer)[0]
    both = compose(["wild horses", "calm sea", "calm sea"], bars=2, composer=composer)
    assert [result.name for result in both] == ["wild-horses", "calm-sea", "calm-sea_2"]
    assert both[1].songs[0].ids.tolist() == both[2].songs[0].ids.tolist() == alone.songs[0].ids.tolist()
    assert both[0].songs[0].ids.tolist() != alone.songs[0].ids.tolist(), "words matter"


def test_words_and_settings_reach_the_bridge(composer: Composer, asked_of_bridge: list[dict[str, Any]]) -> None:
    compose("calm sea", bars=2, num_samples=3, cfg=2.5, steps=4, composer=composer)
    (options,) = asked_of_bridge
    assert options["guidance_scale"] == 2.5 and options["num_inference_steps"] == 4 and options["num_samples"] == 3
    wanted = composer.bridge_processor("calm sea")
    for name in ("text_embed", "text_pooled", "text_mask"):
        assert torch.equal(options[name], wanted[name])


def test_long_songs_chain_whole_plans(composer: Composer, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = []
    write = composer.museformer.write
    monkeypatch.setattr(
        composer.museformer, "write", lambda bars, **o: plans.append(o["summary_tokens"]) or write(bars, **o)
    )
    monkeypatch.setattr(composer.bridge.config, "window_bars", 4, raising=False)
    (result,) = compose("calm sea", bars=10, composer=composer)
    assert bars_of(result.songs[0].ids) == 10 and plans[0].shape == (1, 10, 6)
    assert any("3 plans of 4 bars" in note for note in result.notes)
    assert not torch.equal(plans[0][:, :4], plans[0][:, 4:8]), "each plan is drawn anew"
    short = compose("calm sea", bars=4, composer=composer)[0]
    assert not any("plans" in note for note in short.notes)


def test_bars_come_from_the_words_unless_told(composer: Composer) -> None:
    assert bars_of(compose("3 bars of rain", composer=composer)[0].songs[0].ids) == 3
    told = compose("写3小节", bars=2, composer=composer)[0].songs[0]
    assert bars_of(told.ids) == 2 and (told.values is None or told.values["bars"] == 2)
    with pytest.raises(InputError, match="the words ask for 0 bars"):
        compose("0 bars", composer=composer)


def test_tempo_metre_and_program_are_kept(composer: Composer) -> None:
    options: dict[str, Any] = dict(bars=3, tempo=90, metre="3/4", program="piano", num_samples=2, composer=composer)
    for parallel in (False, True):
        for song in compose("calm sea", bar_parallel=parallel, **options)[0].songs:
            assert {round(mark.qpm) for mark in song.score.tempos} == {90}
            assert {(s.numerator, s.denominator) for s in song.score.time_signatures} == {(3, 4)}
            assert all(not track.is_drum and track.program < 8 for track in song.score.tracks)
            assert sum(len(track.notes) for track in song.score.tracks) > 0 and bars_of(song.ids) == 3
    waltz = compose("a waltz", bars=2, tempo=90, composer=composer)[0].songs[0]
    assert waltz.score.time_signatures[0].numerator == 3, "the words' metre, not 4/4"


def test_all_bars_at_once(composer: Composer) -> None:
    plain, parallel, again = (
        compose("calm sea", bars=3, num_samples=2, bar_parallel=how, composer=composer)[0].songs
        for how in (False, True, True)
    )
    assert [bars_of(song.ids) for song in parallel] == [3, 3]
    assert [song.ids.tolist() for song in parallel] == [song.ids.tolist() for song in again]
    assert [song.ids.tolist() for song in parallel] != [song.ids.tolist() for song in plain]


def scale(tonic: int) -> np.ndarray:
    import symusic

    score: Any = symusic.Score(480)
    track: Any = symusic.Track("", 0, False)
    for number, step in enumerate((0, 4, 7, 12, 5, 9, 11, 7, 2, 4, 0, 0)):
        track.notes.append(symusic.Note(480 * number, 480, tonic + step, 80))
    score.tracks.append(track)
    return BarMidiProcessor().tokens(score).ids.astype(np.int64)


def test_a_song_is_moved_to_the_key() -> None:
    processor, ids = BarMidiProcessor(), scale(60)
    song = make_song(processor, ids, "a", key=("A", None))
    assert song.values is not None and song.values["key"] == "A" and song.values["register"] < 66
    assert song.note == "moved by -3 semitones to A major"
    assert "can not make it minor" in make_song(processor, ids, "a", key=("A", "minor")).note
    high = scale(114)  # F#; up to C there is no room
    values = measure_score(processor.decode(high))
    moved, note = move_to_key(high, values, "B", None)
    assert note.startswith("moved by -7 semitones") and measure_score(processor.decode(moved))["key"] == "B"


def test_songs_without_pitched_notes_are_said_to_be(composer: Composer) -> None:
    processor = composer.music
    silent = make_song(processor, np.array([*processor.header(100, "4/4"), EOS_ID, 0, 0]), "silent", key=("A", None))
    assert silent.values is None and silent.note == "no pitched note sounds, so there is nothing to measure"
    assert draw_song(silent).startswith(b"\x89PNG")
    import symusic

    score: Any = symusic.Score(480)
    score.tracks.append(symusic.Track("", 0, True))
    score.tracks[0].notes.append(symusic.Note(0, 480, 38, 100))
    drums = make_song(processor, processor.tokens(score).ids.astype(np.int64), "drums")
    assert drums.values is None and draw_song(drums) != draw_song(silent)


# --- Odd words --------------------------------------------------------------------------------------------------------


def test_a_long_text_is_cut_and_said(composer: Composer, asked_of_bridge: list[dict[str, Any]], tmp_path: Path) -> None:
    (result,) = compose("calm sea " * 1112, bars=1, out=tmp_path, composer=composer)
    assert any("10007 characters" in note for note in result.notes)
    assert len(max(path.name for path in tmp_path.iterdir())) < 60


def test_emoji_are_read_by_their_names(composer: Composer, asked_of_bridge: list[dict[str, Any]]) -> None:
    emoji, words = (compose(text, bars=1, composer=composer)[0] for text in ("🌠", "shooting star"))
    assert emoji.songs[0].ids.tolist() == words.songs[0].ids.tolist() and emoji.asked.sides == words.asked.sides != {}
    assert "read as: shooting star" in emoji.notes and emoji.name == "shooting-star" and emoji.prompt == "🌠"


def test_no_words_at_all_is_no_wish(composer: Composer, asked_of_bridge: list[dict[str, Any]]) -> None:
    (result,) = compose("?!…", bars=1, composer=composer)
    assert result.notes[0] == "nothing in these words is known to me: composed without a wish"
    assert result.name == "music" and bars_of(result.songs[0].ids) == 1
    assert "text_embed" not in asked_of_bridge[0]


def test_unknown_and_contradictory_words_are_said(composer: Composer) -> None:
    unknown, torn = compose(["xyzzy", "very slow and very fast"], bars=1, composer=composer)
    assert any("nothing to compare it with" in note for note in unknown.notes) and not unknown.asked
    assert any("contradict each other about tempo" in note for note in torn.notes)
    assert "kept" not in str(unknown).split()


# --- Pictures ---------------------------------------------------------------------------------------------------------


def test_a_picture_becomes_music(composer: Composer, asked_of_bridge: list[dict[str, Any]], tmp_path: Path) -> None:
    from intermezzo.processing.style_looker import StyleLooker

    looker = StyleLooker.from_pretrained(save_tiny(tmp_path / "style"), "cpu")
    whole = Composer(composer.museformer, composer.music, composer.bridge, composer.bridge_processor, looker)
    stripes("red", 2).save(tmp_path / "red stripes.png")
    (result,) = compose(picture=tmp_path / "red stripes.png", bars=2, out=tmp_path / "out", composer=whole)
    assert not asked_of_bridge[0]["sides"].any()  # it is seen, not looked up
    assert (tmp_path / "out" / "red-stripes.mid").exists() and result.prompt == "red stripes.png"
    (seen,) = looker.look([tmp_path / "red stripes.png"])
    assert np.allclose(asked_of_bridge[0]["text_pooled"][0], seen.pooled)  # type: ignore[union-attr]
    assert result.notes[0].startswith('looks most like "')
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    for name in ("broken.png", "none.png"):
        with pytest.raises(InputError, match=name) as caught:
            compose(picture=tmp_path / name, composer=whole)
        assert "\n" not in str(caught.value)
    wide = StyleLooker.from_pretrained(save_tiny(tmp_path / "wide", references=False, embed_size=8), "cpu")
    with pytest.raises(InputError, match="same text encoder"):
        Composer(composer.museformer, composer.music, composer.bridge, composer.bridge_processor, wide)


# --- Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"prompts": ""}, "text is empty"), ({"prompts": " \n\x00"}, "text is empty"), ({"prompts": []}, "no words"),
        ({"prompts": None}, "give words"), ({"picture": "a.png"}, "one of them"), ({"bars": 0}, "bars is 0"),
        ({"bars": 513}, "bars is 513; it must be 1 to 512"), ({"prompts": "9999 bars"}, "ask for 9999 bars"),
        ({"num_samples": 0}, "num_samples is 0"), ({"temperature": -1.0}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"), ({"top_p": 0.0}, "top_p is 0"), ({"cfg": -1}, "cfg is"),
        ({"steps": 0}, "steps is 0"), ({"seed": -1}, "seed is -1"), ({"tempo": 5}, "tempo 5: choose 20 to 260"),
        ({"metre": "7"}, "metre '7'"), ({"key": "H"}, "key can not be"), ({"program": "kazoo"}, "no program 'kazoo'"),
        ({"prompts": None, "picture": "a.png"}, "need a StyleEncoder"), ({"soundfont": "none.sf2"}, "no such sound"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line(composer: Composer, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        compose(**{"prompts": "calm sea", "composer": composer, **options})
    assert "\n" not in str(caught.value)


def test_500_bars_are_a_matter_of_settings_only() -> None:
    assert ComposeSettings(bars=500).bars == 500


def test_of_several_prompts_a_bad_one_does_not_stop_the_others(composer: Composer) -> None:
    prompts: list[Any] = ["calm sea", "", 3, "rain"]
    good, bad, number, last = compose(prompts, bars=1, composer=composer)
    assert good.error is None and last.error is None and len(last.songs) == 1
    assert bad.error is not None and "empty" in str(bad.error) and not bad.songs
    assert "got a int" in str(number.error)


def test_a_folder_that_can_not_be_written(composer: Composer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can not be made a folder"):
        compose("calm sea", bars=1, out=tmp_path / "file", composer=composer)


def test_models_that_do_not_belong_together(composer: Composer, tmp_path: Path) -> None:
    from . import tiny_museformer

    with pytest.raises(InputError, match=r"have 6 numbers, SummaryBridge's 5"):
        Composer(composer.museformer, composer.music, tiny_bridge(summary_size=5), composer.bridge_processor)
    with pytest.raises(InputError, match="full attention"):
        full = tiny_museformer.make(full_attention=True)
        Composer(full, composer.music, composer.bridge, composer.bridge_processor)
    with pytest.raises(InputError, match="learnt from 'use'"):
        Composer(composer.museformer, composer.music, tiny_bridge(text_encoder="use"), composer.bridge_processor)
    wide = Composer(composer.museformer, composer.music, tiny_bridge(text_size=9), composer.bridge_processor)
    with pytest.raises(InputError, match="SummaryBridge can not take this"):
        compose("calm sea", bars=1, composer=wide)
    with pytest.raises(InputError, match="does not load as a Museformer checkpoint"):
        load_composer(tmp_path, tmp_path, device="cpu")
    composer.bridge.save_pretrained(tmp_path / "bridge")
    with pytest.raises(InputError, match="is a checkpoint of 'summary_bridge'; give one of 'museformer'"):
        load_composer(tmp_path / "bridge", tmp_path / "bridge", device="cpu")


# --- The command line -------------------------------------------------------------------------------------------------


def test_the_verb_is_there_when_its_models_are() -> None:
    import typer.main

    from intermezzo import cli

    verbs = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    folder = Path(cli.__file__).parent / "checkpoints"
    there = all((folder / stem / "config.json").exists() for stem in ("museformer", "summary_bridge"))
    assert ("compose" in verbs) == there


def test_the_command_composes_with_saved_checkpoints(composer: Composer, tmp_path: Path) -> None:
    import typer
    from typer.testing import CliRunner

    from intermezzo.cli_compose import add_compose_verb

    for name, parts in {
        "m": (composer.museformer, composer.music),
        "b": (composer.bridge, composer.bridge_processor),
    }.items():
        for part in parts:
            part.save_pretrained(tmp_path / name)
    (tmp_path / "words.txt").write_text("\ufeff\ncalm sea\n\n 🌠 \n", encoding="utf-8")
    app = typer.Typer()
    add_compose_verb(app)
    models = ["--museformer", tmp_path / "m", "--bridge", tmp_path / "b", "--device", "cpu", "--out", tmp_path / "out"]
    words = [" ", "--file", tmp_path / "words.txt", "--bars", 1, "--seed", 3, "--cfg", 1.5, "--tempo", 100, *models]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 1, "the empty one fails"
    assert "words: the text is empty" in done.output and done.output.count("written: ") == 2
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{name}.{suffix}" for name in ("calm-sea", "shooting-star") for suffix in ("mid", "png", "txt")}
    loaded = load_composer(tmp_path / "m", tmp_path / "b", device="cpu")
    (wanted,) = compose("calm sea", bars=1, seed=3, cfg=1.5, tempo=100, composer=loaded)
    written = read_score_file(tmp_path / "out" / "calm-sea.mid").score
    assert score_ids(written) == score_ids(wanted.songs[0].score)


@pytest.mark.parametrize("words", [[], ["--file", "none.txt"]])
def test_the_command_without_words_is_one_line(words: list[str]) -> None:
    import typer
    from typer.testing import CliRunner

    from intermezzo.cli_compose import add_compose_verb

    app = typer.Typer()
    add_compose_verb(app)
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, InputError) and "\n" not in str(done.exception)


def test_images_of_the_lexicon_are_looked_up_and_pictures_are_not(
    composer: Composer, asked_of_bridge: list[dict[str, Any]]
) -> None:
    for words in ("流星雨", "a slow meteor shower", "a fast piece"):
        compose(words, bars=1, composer=composer)
    known = [dict(zip(SIDED, options["sides"][0].tolist(), strict=True)) for options in asked_of_bridge]
    assert {name: side for name, side in known[0].items() if side} == dict(tempo=1, density=-1, register=1, leaps=1)
    assert known[1]["tempo"] == 0 and known[1]["register"] == 1  # what is stated goes before what an image suggests
    assert not any(known[2].values())
