"""Museformer: the laws of every model, who sees whom, the plan slot, and the cache."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from transformers import AutoModel, AutoModelForCausalLM

from intermezzo.configuration.configuration_museformer import PRESETS, MuseformerConfig
from intermezzo.modeling.modeling_museformer import MuseformerForCausalLM, MuseformerModel
from intermezzo.modeling.museformer_attention import Rule, flex_mask, place_tokens
from intermezzo.processing.bar_midi_vocabulary import BAR_ID, POSITION, SECTIONS, VOCAB_SIZE
from intermezzo.processing.processing_museformer import BarMidiProcessor
from intermezzo.train.loop_support import checkpoint_activations

from .common import GenerationLaws
from .tiny_museformer import batch_of, make, random_text, starts_of, tiny

torch.set_num_threads(1)
FINE = (1, 3)


class TestLaws(GenerationLaws):
    model_class = MuseformerForCausalLM
    auto_class = AutoModelForCausalLM
    fit_learning_rate = 1e-2
    wrong_configs = (
        {"hidden_size": 33},
        {"rotary_sizes": [2, 3, 4]},
        {"fine_bars": [3, 1]},
        {"fine_bars": [0, 1]},
        {"plan_dropout": 1.5},
        {"dropout": 1.0},
        {"summary_size": 0},
        {"kl_weight": -1.0},
        {"vocab_size": 400},
    )

    def tiny_config(self) -> MuseformerConfig:
        return tiny(kl_weight=0.01, bag_weight=0.0)

    def tiny_processor(self) -> Any:
        return BarMidiProcessor()

    def tiny_inputs(self, config: Any, batch_size: int = 2) -> dict[str, Any]:
        texts = [random_text(3, seed)[:24] for seed in range(batch_size)]
        ids, mask = batch_of(texts, left=True)
        bars = int((ids == BAR_ID).sum(1).max())
        plan = torch.arange(batch_size * bars).view(batch_size, bars) % 2 == 0
        return {
            "input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100), "plan": plan
        }  # fmt: skip

    def prompt(self, model: Any, batch_size: int = 2) -> dict[str, Any]:
        inputs = super().prompt(model, batch_size)
        return {name: value for name, value in inputs.items() if name != "plan"}

    def test_rows_do_not_see_each_other(self):
        """As the law says; the summaries of the row's own bars only, for a batch counts the bars of its longest row."""
        model = make()
        inputs = self.make_inputs(model)
        both = model(**inputs)
        bars = int((inputs["input_ids"][0] == BAR_ID).sum())
        alone = {name: value[:1] for name, value in inputs.items()} | {"plan": inputs["plan"][:1, :bars]}
        out = model(**alone)
        kept = inputs["attention_mask"][0].bool()
        torch.testing.assert_close(both.logits[0][kept], out.logits[0][kept], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(both.summary_tokens[0, :bars], out.summary_tokens[0], rtol=1e-4, atol=1e-5)

    def test_labels_shift_once(self):
        model = make()
        out = model(**self.make_inputs(model))
        labels = self.make_inputs(model)["labels"]
        wanted = torch.nn.functional.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        torch.testing.assert_close(out.loss, wanted)
        torch.testing.assert_close(out.loss, out.token_loss)


def test_the_base_model_is_registered_and_loads_the_same_weights(tmp_path: Any) -> None:
    model = make()
    model.save_pretrained(tmp_path)
    base = AutoModel.from_pretrained(tmp_path).eval()
    assert type(base) is MuseformerModel
    ids = random_text(3)[None]
    torch.testing.assert_close(base(ids).last_hidden_state, model.model(ids).last_hidden_state, rtol=0, atol=0)


def test_numbers_of_the_words_are_those_of_the_language() -> None:
    config = MuseformerConfig()
    assert (config.vocab_size, config.bar_token_id, config.position_token_id) == (VOCAB_SIZE, BAR_ID, POSITION)
    assert config.num_positions == SECTIONS["Position"].size
    with torch.device("meta"):
        count = lambda preset: sum(p.numel() for p in MuseformerForCausalLM(preset()).parameters())  # noqa: E731
        sizes = {name: count(preset) for name, preset in PRESETS.items()}
    assert 6e6 < sizes["base"] < 8.5e6, sizes
    assert all(abs(sizes[a] / sizes[b] - 1) < 0.06 for a, b in (("full", "base"), ("small_full", "small"))), sizes
    assert sizes["tiny"] < 0.5e6 < sizes["small"] < 4e6, sizes


# --- Who sees whom ----------------------------------------------------------------------------------------------------


def reference(bars: list[int], num_bars: int, plan: list[bool], alone: bool) -> torch.Tensor:
    """The rule, written down again word for word: rows are words, columns words and then summaries."""
    out = torch.zeros(len(bars), len(bars) + num_bars, dtype=torch.bool)
    for i, mine in enumerate(bars):
        near = {mine - back for back in FINE} if not alone else set()
        for j, other in enumerate(bars):
            if (mine < 0) != (other < 0):
                continue
            out[i, j] = (other == mine and j <= i) or (mine >= 0 and other in near)
        for bar in range(num_bars):
            past = bar < mine and bar not in near
            out[i, len(bars) + bar] = mine >= 0 and (past or (bar == mine and plan[bar]))
    return out


def test_one_rule_serves_all_ways_and_equals_the_reference() -> None:
    ids, mask = batch_of([random_text(6, 1), random_text(5, 2), random_text(7, 3)], left=True)
    places = place_tokens(ids, mask, tiny())
    count = places.num_bars
    filled = torch.rand(3, count, generator=torch.Generator().manual_seed(0)) < 0.5
    alone = torch.tensor([False, False, True])
    rule = Rule(FINE)
    dense = rule.between(places.bar, places.index, places.bar, places.index, filled, alone)
    for row in range(3):
        wanted = reference(places.bar[row].tolist(), count, filled[row].tolist(), bool(alone[row]))
        kept = places.bar[row] >= 0
        assert torch.equal(dense[row][kept], wanted[kept])
        assert dense[row].any(1).all()  # no query without a key, or its softmax would be no number
    block = flex_mask(rule, places, filled, alone)
    q, k = torch.meshgrid(torch.arange(ids.shape[1]), torch.arange(dense.shape[2]), indexing="ij")
    for row in range(3):
        told = block.mask_mod(torch.tensor(row), torch.tensor(0), q, k)
        assert torch.equal(told, dense[row])


def test_bars_places_and_times_are_counted() -> None:
    text = torch.tensor([0, BAR_ID, 5, 100, POSITION + 6, 700, 800, 900, POSITION + 12, 700, BAR_ID, 5, 100])
    places = place_tokens(text[None], (text != 0)[None].long(), tiny())
    assert places.bar[0].tolist() == [-1] + [0] * 9 + [1] * 3
    assert places.tick[0].tolist()[1:] == [0, 0, 0, 6, 6, 6, 6, 12, 12, 0, 0, 0]
    assert places.offset[0].tolist()[1:] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2]
    assert places.exists.tolist() == [[True, True]]


@pytest.mark.parametrize("plan", [False, True, "some"])
def test_bar_by_bar_and_all_under_a_mask_are_equal(plan: Any) -> None:
    """Also their gradients; the batch has rows of different lengths."""
    ids, mask = batch_of([random_text(6, 1), random_text(3, 2)])
    slots = torch.arange(12).view(2, 6) % 3 == 0 if plan == "some" else torch.tensor(plan)
    found = []
    for gather, implementation in ((True, "sdpa"), (False, "sdpa"), (None, "eager")):
        model = make(gather_bars=gather)
        model.set_attn_implementation(implementation)
        out = model(ids, mask, plan=slots, labels=ids.masked_fill(mask == 0, -100))
        out.loss.backward()
        found.append((out.logits[mask.bool()], {name: p.grad for name, p in model.named_parameters()}))
    for logits, gradients in found[1:]:
        torch.testing.assert_close(logits, found[0][0], rtol=1e-4, atol=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, found[0][1][name], rtol=1e-3, atol=1e-6, msg=name)


def test_flex_attention_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlexAttention uncompiled, since compiling takes longer than all other tests."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    def plain(module: Any, q: Any, k: Any, v: Any, mask: Any, scaling: float, **_: Any) -> tuple[Any, None]:
        return flex_attention(q, k, v, block_mask=mask, scale=scaling).transpose(1, 2), None

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "flex_attention", plain)
    ids, mask = batch_of([random_text(5, 1), random_text(4, 2)])
    model = make()
    model.set_attn_implementation("eager")
    wanted = model(ids, mask, plan=True, use_cache=False).logits
    model.config._attn_implementation = "flex_attention"
    with torch.no_grad():
        found = model(ids, mask, plan=True, use_cache=False).logits
    torch.testing.assert_close(found[mask.bool()], wanted[mask.bool()], rtol=1e-4, atol=1e-5)


def test_full_attention_sees_every_earlier_word_and_makes_no_summaries() -> None:
    ids = random_text(6, 4)[None]
    model = make(full_attention=True, num_hidden_layers=1)
    assert not any("summary" in name or "encoder" in name for name in model.state_dict())
    other = ids.clone()
    place = starts_of(ids[0])[1] + 2  # a tempo of bar 1
    other[0, place] += 1
    moved = (model(ids).logits - model(other).logits).abs().amax(-1)[0] > 1e-6
    assert moved[place:].all() and not moved[:place].any()
    with pytest.raises(ValueError, match="full attention"):
        model.get_summary_tokens(ids)


def test_one_layer_sees_its_fine_bars_and_no_others_but_by_summary() -> None:
    text = random_text(8, 5)
    ids, starts = text[None], starts_of(text)
    model = make(num_hidden_layers=1)
    summaries = model.get_summary_tokens(ids)
    base = model(ids, summary_tokens=summaries).logits
    for bar in range(8):
        other = ids.clone()
        other[0, starts[bar] + 2] += 1 if other[0, starts[bar] + 2] < SECTIONS["Tempo"].first + 100 else -1
        moved = (model(other, summary_tokens=summaries).logits - base).abs().amax(-1)[0] > 1e-6
        seen = [bool(moved[starts[k] : starts[k + 1]].any()) for k in range(8)]
        assert seen == [k - bar in (0, *FINE) for k in range(8)], bar
        free = (model(other).logits - base).abs().amax(-1)[0] > 1e-6
        assert all(free[starts[k] : starts[k + 1]].any() for k in range(bar, 8))  # now by summaries too


# --- The plan slot ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gather", [True, False])
def test_with_an_empty_slot_nothing_of_the_future_leaks(gather: bool) -> None:
    text = random_text(6, 6)
    model = make(gather_bars=gather)
    base = model(text[None], plan=False, use_cache=False).logits
    for place in range(1, len(text)):
        if text[place] == BAR_ID:
            continue
        other = text.clone()
        other[place] = POSITION + 1 if text[place] == POSITION else POSITION
        changed = model(other[None], plan=False, use_cache=False).logits
        torch.testing.assert_close(changed[:, :place], base[:, :place], rtol=0, atol=2e-5)
        assert not torch.allclose(changed[:, place], base[:, place])
    shorter = model(text[None, :-5], plan=False, use_cache=False).logits
    torch.testing.assert_close(shorter, base[:, :-5], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("gather", [True, False])
def test_with_a_filled_slot_all_that_flows_back_goes_through_the_summary(gather: bool) -> None:
    text = random_text(5, 7)
    starts = starts_of(text)
    model = make(gather_bars=gather)
    summaries = model.get_summary_tokens(text[None])
    with model.inject_summary_tokens(summaries):
        base = model(text[None], use_cache=False).logits
    torch.testing.assert_close(base, model(text[None], plan=True, use_cache=False).logits)
    bar = 2
    place = starts[bar + 1] - 1  # its last word
    other = text.clone()
    other[place] = POSITION if text[place] != POSITION else POSITION + 1
    before = slice(starts[bar], place)
    changed = model(other[None], plan=True, use_cache=False).logits
    assert (changed - base)[0, before].abs().amax(-1).min() > 1e-6  # the whole bar hears of it
    torch.testing.assert_close(changed[:, : starts[bar]], base[:, : starts[bar]])  # bars before it do not
    with model.inject_summary_tokens(summaries):
        fixed = model(other[None], use_cache=False).logits
    torch.testing.assert_close(fixed[0, before], base[0, before], rtol=0, atol=2e-5)


def test_slots_are_dropped_as_often_as_asked_and_rows_are_whole_or_mixed() -> None:
    model = make(plan_dropout=0.3, alone_rate=0.5).model
    torch.manual_seed(0)
    filled, alone = model.draw_plans(4000, 8, "cpu")
    assert float(filled.float().mean()) == pytest.approx(0.7, abs=0.03)
    whole = filled.all(1)
    assert 0.5 < float(whole.float().mean()) < 0.65
    assert float(alone[whole].float().mean()) == pytest.approx(0.5, abs=0.05) and not alone[~whole].any()
    never, _ = make(plan_dropout=1.0).model.draw_plans(50, 8, "cpu")
    assert not never.any()


def test_a_summary_tells_of_its_own_bar_alone_and_is_narrow() -> None:
    text = random_text(4, 8)
    starts = starts_of(text)
    model = make()
    all_bars = model.get_summary_tokens(text[None])
    assert all_bars.shape == (1, 4, 6)
    for bar in range(4):
        one = model.get_summary_tokens(text[None, starts[bar] : starts[bar + 1]])
        torch.testing.assert_close(one[0, 0], all_bars[0, bar], rtol=1e-4, atol=1e-5)
    ids, mask = batch_of([text, random_text(2, 9)], left=True)
    batch = model.get_summary_tokens(ids, mask)
    torch.testing.assert_close(batch[0], all_bars[0], rtol=1e-4, atol=1e-5)
    assert (batch[1, 2:] == 0).all() and (batch[1, :2].abs() > 0).any()


def silence(model: MuseformerForCausalLM) -> None:
    """Summaries that say nothing: zeros for every bar."""
    for parameter in model.model.bottleneck.parameters():
        torch.nn.init.zeros_(parameter)


def test_summaries_have_noise_and_a_price_in_training_only() -> None:
    text = random_text(4, 8)[None]
    model = make(kl_weight=0.5, bag_weight=0.25)
    assert torch.equal(model(text).summary_tokens, model(text).summary_tokens)
    model.train()
    torch.manual_seed(0)
    one, two = model(text, labels=text, plan=True), model(text, labels=text, plan=True)
    assert not torch.equal(one.summary_tokens, two.summary_tokens) and one.logits is None
    bars = int((text == BAR_ID).sum())
    price = 0.5 * one.summary_nats * bars / (text.shape[1] - 1) + 0.25 * one.bag_loss
    torch.testing.assert_close(one.loss, one.token_loss + price)
    assert float(one.summary_nats) > 0
    silent = make(summary_noise=1.0)  # with this noise nothing is left of the bar: the prior itself
    silence(silent)
    assert float(silent(text).summary_nats) == pytest.approx(0.0, abs=1e-6)
    half = make(summary_noise=0.5)
    silence(half)
    assert float(half(text).summary_nats) == pytest.approx(6 * 0.5 * (0.25 - 1 - 2 * math.log(0.5)))


def test_summaries_keep_their_spread_whatever_the_encoder_does() -> None:
    """Where all bars are nearly alike to the encoder, the little that tells them apart is brought to a spread of 1."""
    torch.manual_seed(0)
    bottleneck = make(summary_noise=0.5).model.bottleneck.train()
    states = 5 + 0.05 * torch.randn(40, 50, 32)
    present = torch.ones(50, dtype=torch.bool)
    for step in states:
        bottleneck(step[None], None, present[None], sample=True)
    quiet = bottleneck(states[-1:], None, present[None], sample=False)[0][0]
    assert 0.7 < float(quiet.std(0).mean()) < 1.3 and float(quiet.mean(0).abs().max()) < 0.7
    noisy = bottleneck(states[-1:], None, present[None], sample=True)[0][0]
    assert float((noisy - quiet).std()) == pytest.approx(0.5, rel=0.1)
    before = {name: value.clone() for name, value in bottleneck.state_dict().items()}
    bottleneck.eval()(100 * states[:1], None, present[None], sample=False)  # only training moves the running figures
    bottleneck.train()(states[:1, :1], None, present[None, :1], sample=True)  # one bar has no spread
    assert all(torch.equal(value, before[name]) for name, value in bottleneck.state_dict().items())


# --- Injection --------------------------------------------------------------------------------------------------------


def test_injected_summaries_take_the_place_of_the_models_own_within_the_block() -> None:
    text = random_text(5, 10)[None]
    model = make()
    own = model.get_summary_tokens(text)
    draw = torch.Generator().manual_seed(0)
    other = torch.randn(own.shape, generator=draw)
    free = model(text).logits
    with model.inject_summary_tokens(other):
        steered = model(text).logits
        torch.testing.assert_close(steered, model(text, plan=True, summary_tokens=other).logits)
        with model.inject_summary_tokens(own, fill=False):
            torch.testing.assert_close(model(text).logits, model(text, plan=True, summary_tokens=own).logits)
    assert not torch.allclose(steered[:, 1], free[:, 1])  # from the first bar on
    assert torch.equal(model(text).logits, free)
    with pytest.raises(RuntimeError, match="stop"), model.inject_summary_tokens(other):
        raise RuntimeError("stop")
    assert torch.equal(model(text).logits, free)  # the hook is gone after an error, too
    with model.inject_summary_tokens(other[:, :2]):  # the first bars only
        part = model(text).logits
    starts = starts_of(text[0])
    torch.testing.assert_close(part[:, : starts[2]], steered[:, : starts[2]])
    with model.inject_summary_tokens(other, fill=False):  # for later bars only: the first one hears nothing
        later = model(text).logits
    torch.testing.assert_close(later[:, : starts[1]], free[:, : starts[1]])
    assert not torch.allclose(later[:, starts[2] :], free[:, starts[2] :])


def test_all_zero_summaries_say_nothing_about_the_piece() -> None:
    """Under zeros a bar's first words are predicted alike whatever the piece; with its own summaries they are not."""
    a, b = random_text(4, 11), random_text(4, 12)
    model = make()
    zeros = torch.zeros(1, 4, 6)
    with model.inject_summary_tokens(zeros):
        blank = [model(text[None]).logits[0, 0] for text in (a, b)]
    torch.testing.assert_close(blank[0], blank[1])
    own = [model(text[None], plan=True).logits[0, 0] for text in (a, b)]
    assert not torch.allclose(own[0], own[1], atol=1e-3) and not torch.allclose(own[0], blank[0], atol=1e-3)
    with model.inject_summary_tokens(zeros):
        torch.testing.assert_close(model(a[None]).logits, model(a[None], plan=True, summary_tokens=zeros).logits)


def test_what_can_not_be_injected_is_refused_with_both_shapes() -> None:
    model = make()
    for wrong in (torch.zeros(1, 4, 5), torch.zeros(4, 6), torch.zeros(0, 4, 6)):
        with pytest.raises(ValueError, match=r"\(B, n, 6\), got"):
            model.inject_summary_tokens(wrong)
    ids, mask = batch_of([random_text(2, s) for s in range(3)])
    refused = pytest.raises(ValueError, match="2 rows of summaries were injected, but the batch has 3")
    with refused, model.inject_summary_tokens(torch.zeros(2, 2, 6)):
        model(ids, mask)
    with pytest.raises(ValueError, match=r"summary_tokens have the shape \(3, 1, 6\), expected \(3, 2, 6\)"):
        model(ids, mask, summary_tokens=torch.zeros(3, 1, 6))
    with pytest.raises(ValueError, match=r"plan is a bool or has the shape \(3, 2\)"):
        model(ids, mask, plan=torch.ones(3, 5, dtype=torch.bool))


def test_gradient_checkpointing_changes_no_gradient() -> None:
    text = random_text(3, 4)[None]
    found = []
    for on in (False, True):
        model = make().train()
        if on:
            checkpoint_activations(model)
        torch.manual_seed(0)
        model(text, labels=text, plan=True).loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6)
