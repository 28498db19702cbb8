"""The evaluation of SummaryBridge: what obedient, blind and contrary composers score, and a whole tiny report."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.configuration.configuration_summary_bridge import bridge_tiny
from intermezzo.modeling.modeling_summary_bridge import SummaryBridgeModel
from intermezzo.processing.bar_midi_vocabulary import EOS_ID, KIND_OF, KINDS, MIN_TEMPO, TEMPO
from intermezzo.processing.errors import InputError
from intermezzo.processing.music_attributes import KEY_NAMES
from intermezzo.processing.music_wishes import duplicate_key, fulfilled, sides_kept
from intermezzo.processing.tokenization_bar_midi import encode, transpose
from intermezzo.train import evaluation_summary_bridge as module
from intermezzo.train.bridge_baselines import SoftPrompt, SoftPromptSizes
from intermezzo.train.evaluation import DEFAULT_N, EvaluationRequest, find_evaluator, main
from intermezzo.train.evaluation_composers import BridgeComposer, PromptComposer, load_composer
from intermezzo.train.evaluation_prompts import (
    LANGUAGES,
    Prompt,
    exact_prompts,
    held_out_images,
    image_prompts,
    plain_prompts,
)
from intermezzo.train.evaluation_report import EvaluationReport
from intermezzo.train.evaluation_songs import MusicWriter, Song, Writing, check_song
from intermezzo.train.evaluation_summary_bridge import TARGETS, Asked, Options, evaluate_summary_bridge, make_texts
from intermezzo.train.metrics_words_music import (
    PLAIN,
    accuracy,
    attributes_kept,
    first_to_reach,
    judge_all,
    key_figures,
    key_of_statement,
    learning_figures,
    shuffled,
    tempo_figures,
)
from intermezzo.train.museformer_data import made_up_pieces

from . import tiny_museformer
from .test_evaluation_museformer import muspy, write_data  # noqa: F401

torch.set_num_threads(1)
BARS = 2
WRITING = Writing(num_bars=BARS, batch_size=8, max_bar_tokens=16)
SMALL: dict[str, Any] = dict(num_bars=BARS, batch_size=8, max_bar_tokens=16, each=1, samples=2, rounds=1)


def request(**changes: Any) -> EvaluationRequest:
    return replace(EvaluationRequest("summary_bridge", "nowhere", n=4, progress=False), **changes)


def tune(draw: np.random.Generator) -> np.ndarray:
    """Words of two bars of some music, of any tempo, density, register, loudness, length of notes, mode and leaps."""
    import symusic

    score: Any = symusic.Score(12)
    score.tempos.append(symusic.Tempo(0, float(draw.integers(50, 180))))
    track: Any = symusic.Track("", 0, False)
    step, voices = int(draw.choice([3, 6, 12])), int(draw.integers(1, 4))
    base, loudness = int(draw.integers(40, 75)), int(draw.integers(40, 120))
    length = int(draw.choice([3, 6, 9, 12, 24]))
    triad = [0, int(draw.choice([3, 4])), 7]
    steps = triad if draw.random() < 0.5 else [*triad, 12, 19, 24]
    for number, tick in enumerate(range(0, BARS * 48, step)):
        for voice in range(voices):
            pitch = base + steps[number % len(steps)] - 12 * voice
            track.notes.append(symusic.Note(tick, length, pitch, loudness))
    score.tracks.append(track)
    return encode(score, num_bars=BARS).ids.astype(np.int64)


@functools.cache
def pool(count: int = 150) -> list[Song]:
    """Songs to choose from."""
    draw = np.random.default_rng(4)
    return [check_song(tune(draw), BARS, f"tune {k}") for k in range(count)]


class Chooser:
    """A composer that knows what each text wants, and takes the song of the pool that keeps most, or least, of it.

    Args:
        prompts: Texts.
        way: 1: obedient; −1: contrary; 0: takes any song.
        other_key: Writes in the key with the same notes as the one asked for.
    """

    def __init__(self, prompts: Sequence[Prompt], way: int, other_key: bool = False) -> None:
        self.known = {prompt.text: prompt for prompt in prompts}
        self.way, self.other_key = way, other_key

    def compose(self, texts: Sequence[str], seed: int) -> list[np.ndarray]:
        draw = np.random.default_rng(seed)
        return [self.song(self.known[text], draw) for text in texts]

    def song(self, prompt: Prompt, draw: np.random.Generator) -> np.ndarray:
        if self.way == 0:
            return pool()[draw.integers(len(pool()))].ids
        stated = dict(prompt.stated)
        bpm, key = stated.pop("bpm", None), prompt.key
        if key is not None:
            key = duplicate_key(*key) if self.other_key else key
            del stated["key"], stated["mode"]

        def share(song: Song) -> float:
            kept = [*fulfilled(stated, song.values).values(), *sides_kept(prompt.sides, song.values).values()]
            return self.way * sum(kept) + 100 * (key is not None and song.values["mode"] == key[1])

        best = max(pool(), key=share)
        ids = best.ids
        if key is not None:
            up = (KEY_NAMES.index(key[0]) - KEY_NAMES.index(best.values["key"]) + 6) % 12 - 6
            moved = transpose(ids, up)
            assert moved is not None
            ids = moved
        if bpm is not None:
            ids = np.where(KIND_OF[ids] == KINDS.index("Tempo"), TEMPO + bpm - MIN_TEMPO, ids)
        return ids


@functools.cache
def real() -> list[Song]:
    """Music that captions are spoken of: another pool."""
    draw = np.random.default_rng(9)
    return [check_song(tune(draw), BARS, f"piece {k // 2}") for k in range(24)]


# --- Figures by hand --------------------------------------------------------------------------------------------------


def test_wishes_are_counted_by_attribute_and_silence_keeps_none() -> None:
    stated = [{"tempo": [4, 5], "mode": [1, 1], "leaps": [0, 0]}, {"tempo": [0, 0]}, {"density": [2, 2], "bars": 9}]
    values = [{"tempo": 130.0, "mode": "major"}, {"tempo": 59.0}, {}]
    judged = judge_all(stated, values, "abc", attributes_kept)
    assert judged == [("tempo", True, "a"), ("mode", False, "a"), ("tempo", True, "b"), ("density", False, "c")]
    whole, parts = accuracy(judged)
    assert whole.value == 0.5 and whole.n == 4 and whole.groups == 3
    assert {name: one.value for name, one in parts.items()} == {"tempo": 1.0, "mode": 0.0, "density": 0.0}


def test_shuffled_wishes_are_never_of_the_same_piece() -> None:
    seen: list[tuple[str, str]] = []

    def judge(wish: Any, values: Any) -> dict[str, bool]:
        seen.append((wish["piece"], values["piece"]))
        return {"x": True}

    groups = ["a", "a", "b", "c", "c", "c"]
    rows = [{"piece": group} for group in groups]
    found = shuffled(rows, rows, groups, judge)
    assert seen and all(one != other for one, other in seen) and len(found) == len(seen)
    assert {song for _, song in seen} == {"a", "b", "c"}
    assert shuffled(rows[:1], rows[:1], groups[:1], judge) == []


def test_tempo_classes_are_counted_as_text2midi_counts() -> None:
    # Edges 40 60 70 90 110 140 160 210: 100 is of the class from 90 to 110.
    values = [{"tempo": 100.0}, {"tempo": 95.0}, {"tempo": 139.0}, {"tempo": 141.0}, {}]
    found = tempo_figures([100.0] * 5, values, list("abcde"))
    assert found["tempo_bin_exact"].value == 0.4 and found["tempo_bin_within_one"].value == 0.6


def test_keys_are_counted_exactly_and_with_their_relatives() -> None:
    wanted = [("C", "major")] * 4
    values = [{"key": "C", "mode": "major"}, {"key": "A", "mode": "minor"}, {"key": "C", "mode": "minor"}, {}]
    found = key_figures(wanted, values, list("abcd"))
    assert found["key_exact"].value == 0.25 and found["key_or_duplicate"].value == 0.5
    assert key_of_statement({"key": [2, 2], "mode": [1, 1]}) == ("D", "minor")
    assert key_of_statement({"mode": [1, 1]}) is None


def test_a_curve_reaches_a_level_between_two_points() -> None:
    curve = [(300.0, 0.9), (100.0, 0.5), (200.0, 0.7)]
    assert first_to_reach(curve, 0.6) == pytest.approx(150) and first_to_reach(curve, 0.9) == 300
    assert first_to_reach(curve, 0.5) == 100 and first_to_reach(curve, 0.91) is None and first_to_reach([], 0) is None


def test_learning_is_compared_seed_by_seed() -> None:
    prompt = {"prompt#0@1000:100": 0.5, "prompt#0@5000:500": 0.6, "prompt#1@4000:400": 0.7, "prompt#2@800": 0.4}
    fast = {"bridge#0@100:50": 0.55, "bridge#0@200:60": 0.65, "bridge#1@400:10": 0.6, "other": 0.9, "bridge#7@9": 1.0}
    found = learning_figures(prompt | fast)
    # Seed 0: 5000 steps over 150, 500 seconds over 55; seed 1 never gets there; seed 7 has no prompt.
    steps, seconds = found["times_fewer_steps_bridge"], found["times_less_time_bridge"]
    assert (steps.low, steps.high, steps.n) == (0, pytest.approx(5000 / 150), 2)
    assert steps.value == pytest.approx(steps.high / 2) and seconds.high == pytest.approx(500 / 55)
    assert learning_figures(fast) == {} == learning_figures({"prompt@5": 0.5})


# --- Texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_true_of_their_windows(language: str) -> None:
    plain, exact = (make(real(), language, 40, 1) for make in (plain_prompts, exact_prompts))
    assert len(plain) == 40 and all(set(PLAIN) & set(prompt.stated) for prompt in plain)
    for prompt in [*plain, *exact]:
        song = real()[prompt.source]
        assert song.group == prompt.group and all(fulfilled(prompt.stated, song.values).values())
        assert any("\u4e00" <= c <= "\u9fff" for c in prompt.text) == (language == "zh")
    assert all(prompt.bpm is not None or prompt.key is not None for prompt in exact)
    assert all(str(prompt.bpm) in prompt.text for prompt in exact if prompt.bpm is not None)
    assert [prompt.text for prompt in plain_prompts(real(), language, 40, 1)] == [prompt.text for prompt in plain]
    assert len({prompt.source for prompt in plain}) > 20


def test_images_are_of_the_test_split_only() -> None:
    images = held_out_images(10_000)
    assert len(images) >= 100 and {image.split for image in images} == {"test"}
    assert len(held_out_images(7, seed=3)) == 7
    for language in LANGUAGES:
        prompts = image_prompts(images[:9], language, 3)
        assert len(prompts) == 27 and len({prompt.text for prompt in prompts}) == 27
        assert all(prompt.sides == images[k // 3].sides for k, prompt in enumerate(prompts))
        assert images[0].phrases(language)[0].casefold() in prompts[0].text.casefold()


# --- Composers whose figures are known --------------------------------------------------------------------------------


def asked_of(way: int) -> tuple[dict[str, Asked], EvaluationReport]:
    texts = make_texts(real(), request(n=60), Options(each=1))
    prompts = [prompt for some in texts.values() for prompt in some]
    asked = module.ask_plain_and_images(Chooser(prompts, way), texts, WRITING, request())
    report = EvaluationReport("summary_bridge", "c", "d", 60, 0)
    module.measure_words(asked, report)
    return asked, report


def test_an_obedient_composer_is_told_from_a_blind_and_a_contrary_one() -> None:
    names = ("attributes_en", "attributes_zh", "imagery_en", "imagery_zh")
    best, blind, worst = (asked_of(way)[1] for way in (1, 0, -1))
    for name in names:
        assert best.figures[name].value > 0.9 > 0.7 > blind.figures[name].value > 0.15 > worst.figures[name].value
        chance = best.sections["shuffled prompts"][name].value
        assert 0.2 < chance < 0.7
    assert blind.figures["imagery_en"].value == pytest.approx(0.5, abs=0.16)
    assert set(best.sections["attributes, zh"]) <= set(PLAIN) and len(best.sections["attributes, zh"]) >= 5
    blind_chance = blind.sections["shuffled prompts"]["attributes_en"]
    assert blind_chance.value == pytest.approx(blind.figures["attributes_en"].value, abs=0.15)


@pytest.mark.parametrize("other", [False, True])
def test_tempo_and_key_of_composers_that_know_them(other: bool) -> None:
    report = EvaluationReport("summary_bridge", "c", "d", 0, 0)
    prompts = [prompt for k in LANGUAGES for prompt in exact_prompts(real(), k, 20, 0)]
    songs = module.measure_exact(Chooser(prompts, 1, other), real(), request(n=40), WRITING, report)
    assert len(songs) == 40 and not any(song.fault for song in songs)
    assert report.figures["tempo_bin_exact"].value == report.figures["tempo_bin_within_one"].value == 1
    assert report.figures["key_exact"].value == (0 if other else 1) and report.figures["key_or_duplicate"].value == 1
    assert report.figures["tempo_bin_exact"].n == 40 and "key_exact_zh" in report.sections["tempo and key"]
    chance = report.sections["shuffled prompts"]
    assert chance["tempo_bin_exact"].value < 0.5 and chance["key_exact"].value < 0.5


def test_diversity_of_a_composer_that_always_writes_the_same() -> None:
    report = EvaluationReport("summary_bridge", "c", "d", 0, 0)
    prompts = plain_prompts(real(), "en", 3)
    module.measure_diversity(Chooser(prompts, 1), prompts, real(), request(n=60), Options(**SMALL), report)
    assert report.figures["diversity_against_real"].value == 0
    module.measure_diversity(Chooser(prompts, 0), prompts, real(), request(n=60), Options(**SMALL), report)
    assert report.figures["diversity_against_real"].value > 0.5


def test_other_songs_are_judged_by_the_same_texts() -> None:
    prompts = plain_prompts(real(), "en", 30)
    one = Asked(prompts, [], attributes_kept)
    assert one.kept_by([real()[prompt.source] for prompt in prompts]).value == 1
    assert one.kept_by([Song(np.zeros(0))] * 30).value == 0


# --- Real models ------------------------------------------------------------------------------------------------------


def hear(texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """A text encoder: a hash."""
    seeds = [int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") for text in texts]
    rows = np.stack([np.random.default_rng(seed).standard_normal((4, 5)).astype(np.float32) for seed in seeds])
    embed = torch.from_numpy(rows)
    return {"text_embed": embed[:, 1:], "text_pooled": embed[:, 0], "text_mask": torch.ones(len(texts), 3).long()}


@functools.cache
def music() -> Any:
    return tiny_museformer.make()


def bridge(size: int = 6) -> SummaryBridgeModel:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(hidden_size=16, num_hidden_layers=1, intermediate_size=32, num_inference_steps=2)
    return SummaryBridgeModel(bridge_tiny(summary_size=size, text_size=5, **sizes)).eval()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_data(tmp_path_factory.mktemp("bars"), test=made_up_pieces(5, seed=2, bars=6)))


def test_a_composer_writes_what_its_plan_and_seed_say() -> None:
    composer = BridgeComposer(bridge(), hear, MusicWriter(music(), WRITING))
    one, again = (composer.compose(["fast", "slow"], 5) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True)) and one[0][-1] == EOS_ID
    assert not np.array_equal(one[0], composer.compose(["fast", "slow"], 6)[0])
    plans = composer.plan(composer.hear(["fast", "slow"]), 5)
    assert plans.shape == (2, BARS, 6) and not torch.equal(plans[0], plans[1])
    assert all(not check_song(ids, BARS).fault for ids in one)
    with pytest.raises(InputError, match="summaries of 5 numbers, Museformer takes 6"):
        BridgeComposer(bridge(5), hear, MusicWriter(music(), WRITING))


def test_a_soft_prompt_writes_a_song_for_each_text(tmp_path: Path) -> None:
    torch.manual_seed(0)
    prompt = SoftPrompt(music(), SoftPromptSizes(5, music().config.hidden_size, num_prompts=3, hidden_size=16))
    torch.nn.init.normal_(prompt.out.weight, std=0.5)
    prompt.save_pretrained(tmp_path)
    composer = load_composer(str(tmp_path), MusicWriter(music(), WRITING), hear)
    assert isinstance(composer, PromptComposer)
    songs = composer.compose(["fast", "slow", "calm"], 0)
    assert len(songs) == 3 and not any(check_song(ids, BARS).fault for ids in songs)
    with pytest.raises(InputError, match="text encoder is not known"):
        load_composer(str(tmp_path), MusicWriter(music(), WRITING))


def test_a_whole_report_has_every_target(data: str, tmp_path: Path, muspy: None) -> None:  # noqa: F811
    composer = BridgeComposer(bridge(), hear, MusicWriter(music(), WRITING))
    bridge().save_pretrained(tmp_path / "rival")
    report = evaluate_summary_bridge(
        request(data=data, n=4, out=tmp_path), museformer=music(), composer=composer, **SMALL,
        rivals={"again": str(tmp_path / "rival"), "chooser": composer},
    )  # fmt: skip
    assert not [name for name in TARGETS if report.figure(name) is None and not name.startswith("learning/")]
    assert report.figures["valid_midi"].value == 1 and not report.failures
    wanted = {"attributes, en", "imagery, zh", "shuffled prompts", "all-zero plan", "own summaries", "rival: again"}
    assert wanted <= set(report.sections) and report.sections["rival: again"] == report.sections["rival: chooser"]
    assert report.sections["rival: again"]["imagery_en"] == report.figures["imagery_en"]
    assert {"attributes_en", "tempo_bin_exact", "key_exact"} <= set(report.sections["shuffled prompts"])
    assert report.sections["speed"]["song_seconds_parallel"].value > 0 and report.figures["bridge_ms"].n == 1
    again = EvaluationReport.load(report.save(tmp_path))
    assert again.as_dict() == report.as_dict() and "| `imagery_zh` |" in again.markdown()
    assert str(tmp_path) not in json.dumps([report.data, report.notes]) and "2 images" in " ".join(report.notes)
    assert list((tmp_path / "summary_bridge_samples").glob("*.mid"))


def test_a_quick_report_leaves_rivals_and_ceiling_out(data: str) -> None:
    composer = BridgeComposer(bridge(), hear, MusicWriter(music(), WRITING))
    report = evaluate_summary_bridge(
        request(data=data, n=2), museformer=music(), composer=composer, quick=True, rivals={"x": composer}, **SMALL
    )  # fmt: skip
    assert "own summaries" not in report.sections and "rival: x" not in report.sections
    assert "all-zero plan" in report.sections


def test_what_can_not_be_measured_is_told_in_one_line(data: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "empty").mkdir()
    music().save_pretrained(tmp_path / "music")
    bridge().save_pretrained(tmp_path / "bridge")
    writer = MusicWriter(music(), WRITING)
    for folder, told in (
        (tmp_path / "empty", "holds no config.json and no soft_prompt.json"),
        (tmp_path / "bridge", "processor_config"),
        (tmp_path / "nowhere", "no such folder"),
    ):
        with pytest.raises(InputError, match=told) as caught:
            load_composer(str(folder), writer)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no setting 'speed'"):
        evaluate_summary_bridge(request(data=data), museformer=music(), speed=3)
    flags = ["summary_bridge", "--data", data, "--n", "1", "--checkpoint", str(tmp_path / "bridge"), "--with"]
    for wrong, told in (
        (f"museformer={tmp_path / 'empty'}", "no config.json"),
        (f"museformer={tmp_path / 'music'}", "processor_config.json"),
        ("museformer", "NAME=VALUE"),
    ):
        assert main([*flags, wrong]) == 1
        said = capsys.readouterr().err.strip()  # perhaps after a bar of progress, of weights that were loaded
        assert told in said.splitlines()[-1] and "Traceback" not in said


def test_the_evaluator_is_registered_with_its_own_n() -> None:
    assert find_evaluator("summary_bridge") is evaluate_summary_bridge and DEFAULT_N["summary_bridge"] == 300
