"""FractalMidi: the laws of every model, painting and filling in, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from intermezzo.configuration.configuration_fractal_midi import PRESETS, FractalMidiConfig, fractal_midi_tiny
from intermezzo.modeling.fractal_cells import codes_to_roll, roll_to_codes
from intermezzo.modeling.modeling_fractal_midi import FractalMidiModel
from intermezzo.processing.errors import InputError
from intermezzo.train.loop_support import checkpoint_activations

from .common import ModelLaws, assert_same
from .tiny_fractal_midi import KINDS, make, random_codes, seeded, tiny

torch.set_num_threads(1)


class Laws(ModelLaws):
    model_class = FractalMidiModel
    auto_class = AutoModel
    kind = "mar"
    steps_to_fit = 300
    fit_learning_rate = 1e-2
    wrong_configs = (
        {"level_sizes": [[8, 16], [3, 8], [2, 2], [1, 1]]},
        {"level_sizes": [[8, 16], [4, 8], [2, 2]]},
        {"generator_types": ["ar", "mar"]},
        {"generator_types": ["ar", "mar", "ar", "raster"]},
        {"hidden_sizes": [16, 16]},
        {"hidden_sizes": [30, 24, 16], "num_attention_heads": [4, 2, 2]},
        {"context_margins": [[2, 3], [3, 3]]},
        {"attribute_sizes": [4]},
        {"num_codes": 2},
        {"condition_dropout": 1.0},
    )

    fitting = False

    def tiny_config(self) -> FractalMidiConfig:
        if not self.fitting:
            return tiny(self.kind)
        kinds = KINDS[self.kind]
        return tiny(
            level_sizes=((4, 8), (2, 4), (1, 1)), generator_types=(*kinds[:2], kinds[3]), hidden_sizes=(32, 32),
            num_hidden_layers=(1, 1), num_attention_heads=(2, 2), context_margins=((1, 2),), train_nodes=(12,),
            initializer_scale=1.0,
        )  # fmt: skip

    def tiny_inputs(self, config: Any, batch_size: int = 2) -> dict[str, Any]:
        rows = torch.arange(batch_size)
        return {
            "roll": codes_to_roll(random_codes(batch_size, config.level_sizes[0]), config.num_codes),
            "conditions": torch.stack([rows % 4, rows // 4 % 2], dim=1),
        }

    def test_the_loss_falls_tenfold_on_eight_samples(self):
        self.fitting = True
        super().test_the_loss_falls_tenfold_on_eight_samples()


class TestMarLaws(Laws):
    kind = "mar"


class TestArLaws(Laws):
    kind = "ar"


class TestMixedLaws(Laws):
    kind = "mixed"


# --- Sampling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_reproduce_and_rows_do_not_depend_on_each_other(kind: str) -> None:
    model = make(kind)
    roll = model.generate(3, generator=seeded())
    assert roll.shape == (3, 1, 8, 16) and not torch.equal(roll[0], roll[1])
    torch.testing.assert_close(codes_to_roll(roll_to_codes(roll, 5), 5), roll, rtol=0, atol=0)
    assert torch.equal(roll, model.generate(3, generator=seeded()))
    assert not torch.equal(roll, model.generate(3, generator=seeded(1)))
    assert torch.equal(roll[:1], model.generate(1, generator=seeded()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["bars", "rectangle", "pitches", "scattered", "nothing", "all"])
def test_known_cells_come_back_bit_for_bit_and_the_others_are_painted(kind: str, shape: str) -> None:
    model = make(kind)
    codes = random_codes(2)
    roll = codes_to_roll(codes, 5)
    mask = torch.zeros(8, 16, dtype=torch.bool)
    if shape == "bars":
        mask[:, 5:9] = True
    elif shape == "rectangle":
        mask[1:6, 3:11] = True
    elif shape == "pitches":
        mask[:3] = True
    elif shape == "scattered":
        mask = torch.rand(8, 16, generator=seeded(2)) < 0.5
    elif shape == "all":
        mask[:] = True
    painted = [model.generate(roll=roll, mask=mask, generator=seeded(s)) for s in (0, 1)]
    for one in painted:
        assert torch.equal(one[..., ~mask], roll[..., ~mask])
        assert one.min() >= -1 and one.max() <= 1
    if mask.any():
        assert not torch.equal(painted[0], painted[1])
    if shape == "all":
        assert torch.equal(painted[0], model.generate(2, generator=seeded()))


def test_what_is_known_changes_what_is_painted() -> None:
    """Decoding starts from the known part: another known part, another filling, from the same random numbers."""
    model = make("mar")
    mask = torch.zeros(8, 16, dtype=torch.bool)
    mask[2:7, 4:12] = True
    a, b = (codes_to_roll(random_codes(1, seed=s), 5) for s in (3, 4))
    one, two = (model.generate(4, roll=r, mask=mask, generator=seeded()) for r in (a, b))
    assert not torch.equal(one[..., mask], two[..., mask])


def test_fully_known_patches_are_never_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("mar")
    mask = torch.zeros(8, 16, dtype=torch.bool)
    mask[1, 1] = True
    sizes = []
    for level in model.levels:
        plain = level.sample
        monkeypatch.setattr(
            level, "sample", lambda nodes, painter, f=plain: sizes.append(len(nodes.view)) or f(nodes, painter)
        )
    codes = torch.full((2, 8, 16), 2)
    model.generate(roll=codes_to_roll(codes, 5), mask=mask, generator=seeded())
    assert sizes == [2, 2, 2]  # per roll one patch of each level is looked into


@pytest.mark.parametrize("kind", ["ar", "mar"])
def test_greedy_is_the_same_for_every_seed_where_the_order_is(kind: str) -> None:
    model = make(kind)
    settings = dict(temperature=0.0, num_iter_list=[1, 1, 1, 1])
    assert torch.equal(*(model.generate(1, generator=seeded(s), **settings) for s in (0, 1)))


def test_sparsity_bias_and_top_p_and_temperature_do_what_they_say() -> None:
    model = make("mar")
    sounding = [
        float((model.generate(16, generator=seeded(), sparsity_bias=b) > -1).float().mean()) for b in (-4, 0, 4)
    ]
    assert sounding[0] > sounding[1] > sounding[2]
    assert len(model.generate(8, generator=seeded(), top_p=1e-6).unique()) <= len(
        model.generate(8, generator=seeded()).unique()
    )


def test_guidance_moves_away_from_the_free_model() -> None:
    model = make("mar")
    conditions = torch.tensor([[3, 1]] * 8)
    plain, bound, far = (
        model.generate(conditions=conditions, cfg_scale=s, generator=seeded()) for s in (0.0, 1.0, 6.0)
    )
    free = model.generate(8, generator=seeded())
    assert (plain == free).float().mean() > 0.99  # scale 0 is the free model
    assert not torch.equal(bound, free) and not torch.equal(far, bound)


SCALE = [0, 2, 4, 5, 7, 9, 11]


@pytest.mark.parametrize("kind", KINDS)
def test_asked_keys_prefer_their_pitches_and_nothing_else_changes(kind: str) -> None:
    profile = [0.5 if step in SCALE else -30.0 for step in range(12)]
    names: dict[str, Any] = dict(attribute_names=("key", "mode"), attribute_sizes=(12, 2))
    plain, guided = make(kind, **names), make(kind, **names, key_profiles=(profile, profile[::-1]))
    guided.load_state_dict(plain.state_dict())
    for conditions in (None, {"key": 7}, {"key": 7, "mode": 0}):  # a tonic alone is no key
        free = conditions is None or "mode" not in conditions
        before, after = (model.generate(6, conditions, generator=seeded()) for model in (plain, guided))
        assert torch.equal(before, after) == free
        assert torch.equal(before, guided.generate(6, conditions, generator=seeded(), key_guidance=0.0))

    def in_key(painted: torch.Tensor) -> float:
        pitches = torch.nonzero(painted[:, 0] > -1)[:, 1].tolist()
        return sum((pitch - 7) % 12 in SCALE for pitch in pitches) / len(pitches)

    assert in_key(after) > 0.9 > in_key(before)
    roll = codes_to_roll(random_codes(2), 5)
    kept = {"conditions": torch.tensor([[7, 0], [2, 1]])}
    assert torch.equal(plain(roll, **kept).nll, guided(roll, **kept).nll)  # likelihood is the model's own


def test_what_is_not_asked_for_is_taken_from_a_training_roll(tmp_path: Path) -> None:
    rows = torch.tensor([[0, 1], [0, 1], [2, 0], [3, -1]], dtype=torch.int16)
    plain, model = make("mar"), make("mar", known_conditions=4)
    model.load_state_dict({**plain.state_dict(), "known_conditions": rows})
    asked: list[Any] = []
    look = model.embed_conditions
    model.embed_conditions = lambda c, n: asked.append(c) or look(c, n)  # type: ignore[method-assign]
    free = model.generate(64, generator=seeded())
    met = sorted(map(tuple, asked[-1].tolist()))
    assert set(met) == {(0, 1), (2, 0), (3, -1)} and 20 < met.count((0, 1)) < 44  # two rows of four
    assert torch.equal(free[:2], model.generate(2, generator=seeded()))
    model.generate(3, {"density": 0}, generator=seeded())
    assert asked[-1].tolist() == [[2, 0]] * 3
    model.generate(3, {"key": 1}, generator=seeded())  # no roll has it
    assert asked[-1].tolist() == [[1, -1]] * 3
    assert not torch.equal(free, plain.generate(64, generator=seeded()))
    assert torch.equal(plain.generate(3, generator=seeded()), model.generate(3, generator=seeded(), usual=False))
    roll, mask = codes_to_roll(random_codes(1), 5), torch.ones(8, 16, dtype=torch.bool)
    mask[:, :4] = False  # what is known says what it is like
    assert torch.equal(*(m.generate(roll=roll, mask=mask, generator=seeded()) for m in (plain, model)))
    del model.embed_conditions
    model.save_pretrained(tmp_path)
    assert torch.equal(FractalMidiModel.from_pretrained(tmp_path).known_conditions, rows)


def test_what_is_not_asked_of_a_key_is_drawn_by_the_shares() -> None:
    from intermezzo.modeling.fractal_inputs import tonality

    both = tuple([x if step in SCALE else -4.0 for step in range(12)] for x in (0.5, 0.25))
    shares = [0.0] * 24
    shares[2], shares[14], shares[9] = 0.5, 0.25, 0.25  # D major, D minor, A major
    names: dict[str, Any] = dict(attribute_names=("key", "mode"), attribute_sizes=(12, 2), key_profiles=both)
    config = tiny("mar", **names, key_shares=shares)
    keys = torch.randint(0, 1 << 62, (400,), generator=seeded())
    rows, bias = tonality(config, None, keys, 2.0)
    met = {pair: int((rows == torch.tensor(pair)).all(1).sum()) for pair in ((2, 0), (2, 1), (9, 0))}
    assert sum(met.values()) == 400 and 160 < met[2, 0] < 240 and 60 < met[2, 1] < 140, met
    assert bias is not None
    for row in range(0, 400, 57):
        tonic, mode = rows[row].tolist()
        assert bias[row].tolist() == [2.0 * both[mode][(pitch - tonic) % 12] for pitch in range(8)]
    minor, _ = tonality(config, {"mode": 1}, keys, 1.0)
    assert (minor == torch.tensor([2, 1])).all()
    unmet, _ = tonality(config, {"key": 5}, keys[:50], 1.0)  # a tonic never met is still what was asked for
    assert (unmet[:, 0] == 5).all() and set(unmet[:, 1].tolist()) <= {0, 1}
    mixed, bias = tonality(config, torch.tensor([[3, 0], [-1, -1]]), keys[:2], 1.0, free=False)
    assert mixed.tolist() == [[3, 0], [-1, -1]] and bias is not None and not bias[1].any() and bias[0].any()
    without, bias = tonality(tiny("mar", **names), {"mode": 1}, keys[:3], 1.0)
    assert without.tolist() == [[-1, 1]] * 3 and bias is not None and not bias.any()
    with pytest.raises(InputError, match="key_guidance is -1"):
        tonality(config, None, keys[:1], -1.0)
    for wrong, told in (
        ({"key_profiles": ((0.0,) * 11, (0.0,) * 12)}, "12 numbers"),
        ({"key_shares": (1.0,)}, "24 parts"),
        ({"known_conditions": -1}, "number of rows"),
    ):
        with pytest.raises(Exception, match=told):
            tiny("mar", **wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_grow_from_silence_to_the_roll(kind: str) -> None:
    model = make(kind)
    calls = []
    got = model.generate(
        2,
        return_intermediates=True,
        callback=lambda *a: calls.append(a[:2]),
        generator=seeded(),
        num_iter_list=[4, 2, 2, 1],
    )
    assert torch.equal(got.intermediates[-1], got.roll)
    assert torch.equal(got.roll, model.generate(2, generator=seeded(), num_iter_list=[4, 2, 2, 1]))
    assert len(calls) == len(got.intermediates) and {level for level, _ in calls} == {0, 1, 2}
    decided = [int(frame.isfinite().sum()) for frame in got.intermediates]
    assert decided == sorted(decided) and 0 < decided[0] < decided[-1] == got.roll.numel()
    for frame in got.intermediates:  # what is decided stays
        assert torch.equal(frame[frame.isfinite()], got.roll[frame.isfinite()])
    assert all(frame.shape == (2, 1, 8, 16) and frame.device.type == "cpu" for frame in got.intermediates)


def test_a_roll_is_extended_window_by_window() -> None:
    model = make("mar")
    roll = codes_to_roll(random_codes(2), 5)
    longer = model.extend(roll, 20, overlap_steps=8, generator=seeded())
    assert longer.shape == (2, 1, 8, 36) and torch.equal(longer[..., :16], roll)
    assert model.extend(roll[..., :3], 5, overlap_steps=8, generator=seeded()).shape[-1] == 8


def test_what_is_asked_of_a_key_in_part_is_one_key_in_all_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = dict(attribute_names=("key", "mode"), attribute_sizes=(12, 2))
    model = make("mar", **names, key_profiles=([0.5] * 12,) * 2, key_shares=[1.0] * 24)
    asked = []
    generate = model.generate
    monkeypatch.setattr(model, "generate", lambda **given: asked.append(given["conditions"]) or generate(**given))
    model.extend(codes_to_roll(random_codes(2), 5), 20, overlap_steps=8, conditions={"mode": 1}, generator=seeded())
    assert len(asked) == 3 and all(torch.equal(one, asked[0]) for one in asked)
    assert (asked[0][:, 1] == 1).all() and (asked[0][:, 0] >= 0).all()


def test_gradient_checkpointing_changes_no_gradient() -> None:
    found = []
    for on in (False, True):
        model = make("mixed", train_nodes=(2, 3)).train()
        if on:
            checkpoint_activations(model)
        torch.manual_seed(0)
        model(codes_to_roll(random_codes(2), 5)).loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6)


# --- Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, told",
    [
        (dict(temperature=-0.5), "temperature is -0.5"),
        (dict(temperature=float("nan")), "temperature is nan"),
        (dict(top_p=0.0), "top_p is 0.0"),
        (dict(num_iter_list=[8, 4]), r"num_iter_list is \[8, 4\]"),
        (dict(num_iter_list=[8, 4, 0, 1]), "at least 1"),
        (dict(cfg_scale=-1.0), "cfg_scale is -1.0"),
        (dict(sparsity_bias=float("inf")), "sparsity_bias"),
        (dict(conditions={"tempo": 1}), "no attribute 'tempo'; there are key, density"),
        (dict(conditions={"key": 4}), "key is 4; it has the bins 0 to 3"),
        (dict(conditions=torch.tensor([[0, -2]])), "density is -2"),
        (dict(conditions=torch.tensor([[0]])), r"\(1, 1\), but the model has 2 attributes"),
        (dict(num_samples=3, conditions=torch.tensor([[0, 0]] * 2)), "num_samples 3, conditions 2"),
        (dict(num_samples=0), "how many rolls"),
        (dict(roll=torch.zeros(1, 1, 8, 16)), "belong together"),
        (dict(mask=torch.ones(8, 16, dtype=torch.bool)), "belong together"),
        (dict(roll=torch.zeros(1, 1, 8, 16), mask=torch.ones(8, 15, dtype=torch.bool)), r"\(8, 15\).*\(1, 8, 16\)"),
        (dict(roll=torch.zeros(1, 1, 8, 16), mask=torch.ones(8, 16)), "must be bool"),
        (dict(roll=torch.zeros(1, 1, 8, 12), mask=torch.ones(8, 16, dtype=torch.bool)), r"\(1, 1, 8, 12\)"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_in_one_line(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        make("mar").generate(**options)
    assert "\n" not in str(caught.value)


def test_rolls_outside_the_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"outside \[-1, 1\]"):
        make("mar")(torch.full((1, 1, 8, 16), 2.0))


def test_a_checkpoint_of_another_structure_is_refused_with_both_named(tmp_path: Any) -> None:
    make("ar").save_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path).config.generator_types == KINDS["ar"]
    for load in (FractalMidiModel.from_pretrained, AutoModel.from_pretrained):
        with pytest.raises(
            InputError, match=r'\["ar", "ar", "ar", "ar"\], asked for is \["mar", "mar", "mar", "mar"\]'
        ):
            load(tmp_path, generator_types=["mar"] * 4)
    with pytest.raises(InputError, match="hidden_sizes"):
        FractalMidiModel.from_pretrained(tmp_path, config=tiny("ar", hidden_sizes=(16, 16, 16)))
    assert FractalMidiModel.from_pretrained(tmp_path, config=tiny("ar", dropout=0.1)).config.dropout == 0.1


def test_presets_have_the_announced_sizes() -> None:
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in FractalMidiModel(preset()).parameters()) for name, preset in PRESETS.items()
        }
    assert sizes["tiny"] < 0.5e6 and 1e6 < sizes["small"] < 5e6 < sizes["base"] < 10e6, sizes


def test_conditions_are_hidden_as_often_as_asked() -> None:
    model = make("mar", condition_dropout=0.5, attribute_dropout=0.0)
    keys = torch.randint(0, 1 << 62, (2000,), generator=seeded())
    dropped = model.drop_conditions(torch.ones(2000, 2, dtype=torch.long), keys)
    assert torch.equal(dropped[:, 0], dropped[:, 1])
    assert float((dropped[:, 0] == -1).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_evaluation_is_the_same_each_time_and_training_is_not() -> None:
    model = make("mar")
    roll = codes_to_roll(random_codes(2), 5)
    with torch.no_grad():
        assert_same(model(roll), model(roll))
        model.train()
        assert not torch.equal(model(roll).nll, model(roll).nll)


def test_the_tiny_preset_paints() -> None:
    roll = FractalMidiModel(fractal_midi_tiny()).eval().generate(1, generator=seeded())
    assert roll.shape == (1, 1, 32, 64)
