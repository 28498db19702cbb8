"""What Museformer measures of bars: by hand, against the measurements of whole pieces, and as the head of a summary."""

from __future__ import annotations

import math

import pytest
import torch

from intermezzo.configuration.configuration_museformer import NUM_MEASURES, MuseformerConfig, museformer_small
from intermezzo.modeling.modeling_museformer import MuseformerForCausalLM
from intermezzo.modeling.museformer_measures import CENTRES, MEASURES, SPREADS, BarMeasures
from intermezzo.processing.bar_midi_vocabulary import BAR_ID, DRUM, DURATION, PITCH, POSITION, PROGRAM, VELOCITY
from intermezzo.processing.processing_museformer import BarMidiProcessor

from .tiny_museformer import batch_of, make, random_text

SIZE = NUM_MEASURES + 3


def header(tempo: float, metre: str) -> list[int]:
    return BarMidiProcessor().header(tempo, metre)


def note(tick: int, pitch: int, loudness: int, ticks: int) -> list[int]:
    return [POSITION + tick, PROGRAM + 1, PITCH + pitch, VELOCITY + loudness, DURATION + ticks - 1]


def raw(ids: list[int]) -> dict[str, float]:
    """Measures of one bar without centre and spread."""
    words = torch.tensor([ids])
    found = BarMeasures()(words, torch.zeros_like(words), 1)[0, 0]
    return dict(zip(MEASURES, (found * torch.tensor(SPREADS) + torch.tensor(CENTRES)).tolist(), strict=True))


def test_measures_of_a_bar_worked_out_by_hand() -> None:
    found = raw([*header(240, "3/4"), *note(0, 60, 8, 12), *note(12, 72, 24, 48)])
    wanted = {
        "tempo": 1.0, "length": math.log2(3 / 4), "onsets": 2 / 3, "density": 2 / 3, "register": 0.5, "range": 0.5,
        "loudness": 0.5, "dynamics": 0.25, "sustain": 1.0, "articulation": 1.0, "drums": 0.0, "pitch_class_0": 1.0,
    }  # fmt: skip
    for name, value in found.items():
        assert value == pytest.approx(wanted.get(name, 0.0), abs=1e-5), name


def test_a_silent_bar_and_drums_have_finite_measures() -> None:
    assert all(math.isfinite(value) for value in raw([BAR_ID]).values())
    drums = raw([*header(120, "4/4"), POSITION, PROGRAM, DRUM + 5, VELOCITY + 16, DURATION + 2])
    assert drums["drums"] == 1.0 and drums["density"] == pytest.approx(0.25)
    assert not any(drums[f"pitch_class_{number}"] for number in range(12))


def test_bars_are_measured_apart_and_padding_not_at_all() -> None:
    texts = [random_text(4, 3), random_text(2, 9)]
    ids, mask = batch_of(texts)
    bars = torch.where(mask.bool(), (ids == BAR_ID).cumsum(1) - 1, -1)
    together = BarMeasures()(ids, bars, 4)
    starts = [*torch.nonzero(texts[0] == BAR_ID)[:, 0].tolist(), len(texts[0])]
    for bar in range(4):
        words = texts[0][None, starts[bar] : starts[bar + 1]]
        torch.testing.assert_close(together[0, bar], BarMeasures()(words, torch.zeros_like(words), 1)[0, 0])
    nothing = BarMeasures()(ids[:1], torch.full_like(ids[:1], -1), 1)[0, 0]
    assert torch.equal(together[1, 3], nothing)


def test_a_summary_begins_with_the_measures_and_loads_with_them(tmp_path) -> None:
    model = make(summary_size=SIZE, measure_bars=True)
    text = random_text(5, 3)[None]
    bars = (text == BAR_ID).cumsum(1) - 1
    summaries = model.get_summary_tokens(text)
    torch.testing.assert_close(summaries[..., :NUM_MEASURES], BarMeasures()(text, bars, 5))
    model.save_pretrained(tmp_path)
    again = MuseformerForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again.get_summary_tokens(text), summaries)
    assert "model.measures.table" not in model.state_dict()


def test_nothing_of_a_bar_leaks_through_the_measures_where_it_has_no_plan() -> None:
    model = make(summary_size=SIZE, measure_bars=True)
    text = random_text(6, 3)
    start = int(torch.nonzero(text == BAR_ID)[4, 0])
    other = torch.cat([text[: start + 1], random_text(2, 8)[1:]])
    length = start + 1
    one, two = (model(ids[None], plan=False).logits[0, :length] for ids in (text, other))
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(
        model(text[None], plan=True).logits[0, :start], model(other[None], plan=True).logits[0, :start]
    )


def test_noise_is_less_upon_what_is_measured() -> None:
    model = make(summary_size=SIZE, measure_bars=True, measure_noise=0.1, summary_noise=1.0).train()
    text = random_text(40, 3)[None]
    quiet = model.get_summary_tokens(text)
    torch.manual_seed(0)
    noise = model(text, labels=text, plan=True).summary_tokens - quiet
    assert float(noise[..., :NUM_MEASURES].std()) == pytest.approx(0.1, rel=0.15)
    assert float(noise[..., NUM_MEASURES:].std()) > 0.6


def test_too_narrow_summaries_are_refused() -> None:
    with pytest.raises(Exception, match="summary_size 23 must be more than the 23 measured"):
        MuseformerConfig(summary_size=NUM_MEASURES)
    assert museformer_small().measure_bars and MuseformerConfig(summary_size=4, measure_bars=False).summary_size == 4
