"""SummaryBridge: laws of every model, statistics in closed form, the toy with two songs for each text, bad inputs."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from transformers import AutoModel

from intermezzo.configuration.configuration_summary_bridge import PRESETS, SummaryBridgeConfig
from intermezzo.modeling.bridge_statistics import NUM_PLACES, BridgeStatistics, bar_places
from intermezzo.modeling.modeling_summary_bridge import SummaryBridgeModel

from . import toy_bridge as toy
from .common import ModelLaws

torch.set_num_threads(1)


def tiny(**changes: Any) -> SummaryBridgeConfig:
    sizes: dict[str, Any] = dict(
        summary_size=4, text_size=6, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
        dropout=0.0, condition_dropout=0.0, initializer_range=0.1,
    )  # fmt: skip
    return SummaryBridgeConfig(**{**sizes, **changes})


def make(seed: int = 0, **changes: Any) -> SummaryBridgeModel:
    torch.manual_seed(seed)
    return SummaryBridgeModel(tiny(**changes)).eval()


def inputs_of(config: SummaryBridgeConfig, count: int, bars: int = 5, seed: int = 1) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shape = (count, bars, config.summary_size)
    return {
        "summary_tokens": torch.randn(shape, generator=draw),
        "text_embed": torch.randn(count, 3, config.text_size, generator=draw),
        "text_pooled": torch.randn(count, config.text_size, generator=draw),
        "text_mask": (torch.arange(3) <= torch.arange(count)[:, None] % 3).long(),
        "bar_mask": (torch.arange(bars) < bars - torch.arange(count)[:, None] % 2).long(),
        "timesteps": torch.tensor([0.25, 0.5, 0.75, 1.0]).repeat(count)[:count],  # whole in bfloat16
        "noise": torch.randn(shape, generator=draw),
    }


def text_of(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in inputs.items() if name.startswith("text_")}


class TestSummaryBridgeLaws(ModelLaws):
    model_class = SummaryBridgeModel
    auto_class = AutoModel
    frozen = ("place.",)  # fitted before, see `fit_place`
    wrong_configs = (
        {"place_size": -1},
        {"hidden_size": 33},
        {"prediction_type": "v"},
        {"schedule": "sine"},
        {"source": "picture"},
        {"spacing": 0.0},
        {"prediction_type": "flow"},
        {"bridge_noise": 0.0, "end_noise": 0.0},
        {"single_step": True},
        {"condition_dropout": 1.5},
        {"num_inference_steps": 0},
        {"guidance_scale": -1.0},
        {"noise_scale": -1.0},
        {"summary_size": 0},
    )

    def tiny_config(self) -> SummaryBridgeConfig:
        return tiny()

    def tiny_inputs(self, config: Any, batch_size: int = 2) -> dict[str, torch.Tensor]:
        return inputs_of(config, batch_size)

    def tiny_processor(self) -> Any:
        from intermezzo.processing.processing_summary_bridge import SummaryBridgeProcessor

        return SummaryBridgeProcessor()


def test_statistics_survive_a_reload(tmp_path: Any) -> None:
    model = make()
    model.fit_statistics([inputs_of(model.config, 40)])
    model.save_pretrained(tmp_path)
    again = SummaryBridgeModel.from_pretrained(tmp_path)
    for name, value in model.statistics.named_buffers():
        assert torch.equal(value, again.statistics.get_buffer(name)), name
        assert not torch.equal(value, model.statistics.defaults()[name]), name


def test_presets_have_the_stated_size() -> None:
    sizes = {}
    for name, preset in PRESETS.items():
        with torch.device("meta"):
            sizes[name] = sum(p.numel() for p in SummaryBridgeModel(preset()).parameters() if p.requires_grad)
    assert 3e6 < sizes["small"] < 5e6, sizes
    assert sizes["small"] == sizes["noise_flow"] == sizes["regression"] == sizes["pinned"]
    assert sizes["tiny"] < 4e5


# --- Statistics -------------------------------------------------------------------------------------------------------


def test_whitened_summaries_have_unit_covariance_and_come_back() -> None:
    torch.manual_seed(0)
    mixed = torch.randn(300, 7, 4) @ torch.randn(4, 4) + torch.tensor([5.0, -3.0, 0.0, 1.0])
    statistics = BridgeStatistics(4, 6)
    count = statistics.fit([{**_texts(300), "summary_tokens": mixed}])
    assert count == 2100
    white = statistics.whiten(mixed).flatten(0, 1)
    assert white.mean(0).abs().max() < 1e-4
    deviation = (white.T.cov() - torch.eye(4)).abs().max()
    assert deviation < 0.35  # the weakest direction stays below 1 by the floor
    torch.testing.assert_close(statistics.unwhiten(statistics.whiten(mixed)), mixed, rtol=1e-3, atol=1e-3)


def test_a_dead_direction_is_not_blown_up() -> None:
    torch.manual_seed(0)
    values = torch.randn(200, 5, 4)
    values[..., 3] *= 1e-4
    statistics = BridgeStatistics(4, 6)
    statistics.fit([{**_texts(200), "summary_tokens": values}])
    assert statistics.whiten(values)[..., 3].std() < 0.01


def test_padded_bars_do_not_count() -> None:
    torch.manual_seed(0)
    values, texts = torch.randn(50, 6, 4), _texts(50)
    mask = torch.ones(50, 6)
    mask[:, 4:] = 0
    wild = values.clone()
    wild[:, 4:] = 1e3
    found = []
    for summaries in (values, wild):
        statistics = BridgeStatistics(4, 6)
        assert statistics.fit([{**texts, "summary_tokens": summaries, "bar_mask": mask}]) == 200
        found.append(statistics.state_dict())
    for name in found[0]:
        assert torch.equal(found[0][name], found[1][name]), name


def test_the_line_finds_a_linear_law() -> None:
    """Summaries that are a line in the text and the bar's place are found, batch by batch as at once."""
    torch.manual_seed(0)
    texts = _texts(400)
    mask = torch.ones(400, 6)
    law, course = torch.randn(6, 4), torch.randn(NUM_PLACES, 4)
    summaries = (texts["text_pooled"] @ law)[:, None] + bar_places(mask) @ course + 2.0
    whole, parts = BridgeStatistics(4, 6), BridgeStatistics(4, 6)
    whole.fit([{**texts, "summary_tokens": summaries}])
    parts.fit([{**{k: v[a:b] for k, v in texts.items()}, "summary_tokens": summaries[a:b]} for a, b in _CUTS])
    found = whole.unwhiten(whole.source(texts["text_pooled"], mask))
    assert (found - summaries).pow(2).mean() < 0.01 * summaries.var()
    torch.testing.assert_close(parts.line, whole.line, rtol=1e-3, atol=1e-5)


_CUTS = ((0, 150), (150, 390), (390, 400))


def _texts(count: int) -> dict[str, torch.Tensor]:
    return {
        "text_embed": torch.randn(count, 3, 6),
        "text_pooled": 3 + 2 * torch.randn(count, 6),
        "text_mask": torch.ones(count, 3),
    }


def test_statistics_of_nothing_or_of_no_numbers_are_refused() -> None:
    statistics = BridgeStatistics(4, 6)
    with pytest.raises(ValueError, match="0 bars"):
        statistics.fit([])
    with pytest.raises(ValueError, match="finite"):
        statistics.fit([{**_texts(2), "summary_tokens": torch.full((2, 3, 4), float("nan"))}])


# --- The network ------------------------------------------------------------------------------------------------------


def test_padding_of_bars_and_words_changes_nothing() -> None:
    model = make()
    inputs = inputs_of(model.config, 1, bars=4)
    inputs["bar_mask"] = torch.ones(1, 4)
    wide = dict(inputs)
    for name in ("summary_tokens", "noise"):
        wide[name] = torch.cat([inputs[name], torch.full((1, 3, 4), 9.0)], dim=1)
    wide["bar_mask"] = torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
    wide["text_embed"] = torch.cat([inputs["text_embed"], torch.full((1, 5, 6), 9.0)], dim=1)
    wide["text_mask"] = torch.cat([inputs["text_mask"], torch.zeros(1, 5)], dim=1)
    with torch.no_grad():
        a, b = model(**inputs), model(**wide)
    torch.testing.assert_close(a.prediction, b.prediction[:, :4], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(a.loss, b.loss, rtol=1e-4, atol=1e-5)
    assert not b.summary_tokens[:, 4:].any()


@pytest.mark.parametrize("name", ["text_embed", "text_pooled", "text_mask", "timesteps", "noise", "summary_tokens"])
def test_every_input_is_heard(name: str) -> None:
    model = make()
    inputs = inputs_of(model.config, 2)
    other = dict(inputs)
    other[name] = 1 - inputs[name] if name == "text_mask" else inputs[name] * 0.5
    with torch.no_grad():
        a, b = model(**inputs).prediction, model(**other).prediction
    assert (a - b).abs().max() > 1e-4


def test_bars_are_told_apart_by_their_place() -> None:
    model = make()
    inputs = inputs_of(model.config, 1, bars=6)
    inputs["summary_tokens"] = inputs["noise"] = torch.zeros(1, 6, 4)
    inputs["bar_mask"] = torch.ones(1, 6)
    with torch.no_grad():
        said = model(**inputs).prediction[0]
    assert torch.pdist(said).min() > 1e-3


def test_at_the_text_end_nothing_of_the_music_is_left() -> None:
    """The leak test of a bridge: at t = 1 the prediction can not depend on the song."""
    model = make()
    inputs = inputs_of(model.config, 2)
    inputs["timesteps"] = torch.ones(2)
    other = dict(inputs, summary_tokens=inputs["summary_tokens"] + 3.0)
    with torch.no_grad():
        a, b = model(**inputs), model(**other)
    torch.testing.assert_close(a.prediction, b.prediction, rtol=1e-5, atol=1e-5)
    assert float(a.loss) != float(b.loss)


def test_a_hidden_text_is_as_none() -> None:
    model = make()
    inputs = inputs_of(model.config, 2)
    bare = {name: value for name, value in inputs.items() if not name.startswith("text_")}
    model.train()
    model.config.condition_dropout = 1.0
    hidden = model(**inputs)
    assert torch.equal(hidden.prediction, model(**bare).prediction)
    model.config.condition_dropout = 0.0
    assert not torch.allclose(hidden.prediction, model(**inputs).prediction)


def test_times_cover_the_way() -> None:
    model = make()
    torch.manual_seed(0)
    t = model._times(400, "cpu").sort().values
    assert t[0] > 0 and t[-1] <= 1 and (t[1:] - t[:-1]).max() < 0.01
    assert torch.equal(make(**_REGRESSION)._times(3, "cpu"), torch.ones(3))


_REGRESSION: dict[str, Any] = dict(prediction_type="x0", bridge_noise=0.0, end_noise=0.0, single_step=True)


# --- Sampling ---------------------------------------------------------------------------------------------------------


def test_a_seed_decides_the_samples() -> None:
    model = make()
    text = text_of(inputs_of(model.config, 2))

    def draw(seed: int, **options: Any) -> torch.Tensor:
        random = torch.Generator().manual_seed(seed)
        return model.sample_summary_tokens(**text, num_bars=5, num_samples=3, generator=random, **options)

    found = draw(1)
    assert found.shape == (6, 5, 4) and found.isfinite().all()
    assert torch.equal(found, draw(1)) and not torch.equal(found, draw(2))
    assert torch.pdist(found.flatten(1)).min() > 1e-3
    assert draw(1, num_inference_steps=1).isfinite().all() and draw(1, num_inference_steps=50, eta=1.0).isfinite().all()


def test_less_noise_makes_samples_of_a_text_more_alike_and_none_makes_them_equal() -> None:
    model = make()
    text = text_of(inputs_of(model.config, 1))
    spread = []
    for scale in (None, 1.0, 0.4, 0.0):
        draw = torch.Generator().manual_seed(0)
        songs = model.sample_summary_tokens(**text, num_bars=5, num_samples=4, noise_scale=scale, generator=draw)
        spread.append(float(songs.std(0).mean()))
    assert spread[0] == spread[1] > 1.5 * spread[2] > 0 and spread[3] < 1e-5
    model.config.noise_scale = 0.0
    songs = model.sample_summary_tokens(**text, num_bars=5, num_samples=2)
    torch.testing.assert_close(songs[0], songs[1])


def test_guidance_pushes_on_from_the_music_without_a_text() -> None:
    model = make(bridge_noise=1.0)
    model.fit_statistics([inputs_of(model.config, 40)])
    inputs = inputs_of(model.config, 2)
    text = model.text_triple(*text_of(inputs).values())
    bars = torch.ones(2, 5, dtype=torch.bool)
    source, sample, t = model.source(text, bars), torch.randn(2, 5, 4), torch.tensor(0.5)
    with torch.no_grad():
        found = []
        for scale in (0.0, 1.0, 3.0):
            parts = text.guided(scale)
            joined = parts[0] if len(parts) == 1 else toy.join(*parts)
            every = bars.repeat(len(parts), 1)
            known, sources = model.listen(joined, every), model.source(joined, every)
            found.append(model._guided(sample, source, sources, t, known, scale))
    none, plain, far = found
    torch.testing.assert_close(far, none + 3 * (plain - none), rtol=1e-4, atol=1e-4)
    assert (plain - none).abs().max() > 1e-3


def test_regression_has_one_answer() -> None:
    model = make(**_REGRESSION)
    text = text_of(inputs_of(model.config, 1))
    found = model.sample_summary_tokens(**text, num_bars=4, num_samples=2, num_inference_steps=9)
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_bars": 0}, "num_bars 0"),
        ({"num_bars": 2000}, "1024"),
        ({"num_samples": 0}, "num_samples 0"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"guidance_scale": -1.0}, "-1.0"),
        ({"guidance_scale": float("nan")}, "nan"),
        ({"noise_scale": -0.5}, "noise_scale -0.5"),
        ({"eta": 2.0}, "eta is 2.0"),
    ],
)
def test_wishes_out_of_range_are_refused(options: dict[str, Any], told: str) -> None:
    model = make()
    with pytest.raises(ValueError, match=told):
        model.sample_summary_tokens(**text_of(inputs_of(model.config, 1)), **options)


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("summary_tokens", (2, 5, 3), r"\(2, 5, 3\)"),
        ("text_pooled", (2, 7), r"\(2, 7\)"),
        ("text_embed", (2, 3, 7), r"\(2, 3, 7\)"),
        ("text_mask", (2, 4), r"\(2, 4\)"),
        ("bar_mask", (2, 4), r"\(2, 4\)"),
    ],
)
def test_shapes_that_do_not_fit_are_shown(name: str, shape: tuple[int, ...], told: str) -> None:
    model = make()
    with pytest.raises(ValueError, match=told):
        model(**{**inputs_of(model.config, 2), name: torch.ones(shape)})


# --- The toy ----------------------------------------------------------------------------------------------------------


@functools.cache
def bridge() -> SummaryBridgeModel:
    return toy.trained()


def test_the_bridge_draws_both_songs_of_a_text() -> None:
    """10 steps come near to the floor; the mean of the songs, which is what regression says, is far."""
    distance, floor = toy.distance_to_songs(bridge(), num_inference_steps=10), toy.floor()
    assert distance < floor + 0.1, (distance, floor)
    mean = torch.stack([toy.CENTRES[k].expand(toy.BARS, -1) for k in range(4) for _ in range(250)])
    blurred = 0.0
    for text in range(4):
        real = toy.songs(torch.full((250,), text), torch.Generator().manual_seed(100 + text))
        blurred += toy.energy_distance(mean[text * 250 : (text + 1) * 250] + 1e-4 * torch.randn(250, 3, 2), real) / 4
    assert blurred > 15 * distance, (blurred, distance)


@pytest.mark.slow
def test_a_pinned_bridge_draws_them_too() -> None:
    """All noise is drawn on the way; less exact than with noise at the text end (0.14 against 0.04, floor 0.01)."""
    distance = toy.distance_to_songs(toy.trained(end_noise=0.0), num_inference_steps=10)
    assert distance < toy.floor() + 0.3


def test_another_text_is_another_song() -> None:
    """The shuffled-text control: with the texts exchanged, the samples lie elsewhere."""
    right = toy.distance_to_songs(bridge())
    wrong = toy.distance_to_songs(bridge(), asked=[1, 2, 3, 0])
    assert wrong > 5.0 and wrong > 50 * right, (right, wrong)


def test_without_a_text_all_songs_come() -> None:
    draw = torch.Generator().manual_seed(1)
    found = bridge().sample_summary_tokens(num_bars=toy.BARS, num_samples=300, generator=draw)
    real = toy.songs(torch.randint(4, (300,), generator=draw), draw)
    assert toy.energy_distance(found, real) < 0.5


def test_all_bars_of_a_song_keep_to_one_side() -> None:
    text = torch.zeros(200, dtype=torch.long)
    draw = torch.Generator().manual_seed(3)
    found = bridge().sample_summary_tokens(**toy.words(text), num_bars=toy.BARS, generator=draw)
    side = (found[..., 1] - torch.linspace(-0.5, 0.5, 3)).sign()
    assert (side.sum(1).abs() == 3).float().mean() > 0.9
    assert 0.3 < float((side[:, 0] > 0).float().mean()) < 0.7
