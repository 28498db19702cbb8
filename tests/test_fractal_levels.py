"""What FractalMidi is made of: patches, windows, keys, draws, schedules, and the generator of one level."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from intermezzo.modeling import fractal_levels, layers
from intermezzo.modeling.fractal_cells import (
    cell_features,
    child_keys,
    class_probabilities,
    codes_to_roll,
    crop_children,
    fill_inside,
    inside,
    neighbour_index,
    patchify,
    pick,
    ranks,
    roll_to_codes,
    still_masked,
    systematic_draw,
    uniform,
    unpatchify,
)
from intermezzo.modeling.fractal_nodes import Nodes
from intermezzo.modeling.layers import attend, lay_out_by_columns

from .tiny_fractal_midi import make, random_codes, seeded

torch.set_num_threads(1)


@pytest.mark.parametrize("num_codes", [5, 34, 129])
def test_codes_survive_the_float_roll_and_half_precision(num_codes: int) -> None:
    codes = torch.arange(num_codes).view(1, 1, -1)
    roll = codes_to_roll(codes, num_codes)
    assert float(roll.min()) == -1 and float(roll.max()) == pytest.approx(1)
    assert torch.equal(roll_to_codes(roll, num_codes), codes)
    assert torch.equal(roll_to_codes(roll.to(torch.bfloat16), num_codes), codes)


def test_rolls_are_the_ones_of_the_processor() -> None:
    from intermezzo.processing.piano_roll import NUM_CODES, values_of_codes

    codes = torch.arange(NUM_CODES).view(1, 1, -1)
    torch.testing.assert_close(codes_to_roll(codes, NUM_CODES)[:, 0], torch.from_numpy(values_of_codes(codes.numpy())))


def test_an_unknown_cell_has_the_value_of_silence_and_is_told_apart() -> None:
    silence, held, onset, unknown = cell_features(torch.tensor([0, 1, 4, 5]), 5, torch.float32).tolist()
    assert silence == [0, 0, 0, 0] and unknown == [1, 0, 0, 0]
    assert held == [0, 1, 0, 0.5] and onset == [0, 1, 1, 2]


def test_children_are_numbered_time_first_and_come_back() -> None:
    x = torch.arange(2 * 4 * 6).view(2, 4, 6)
    children = patchify(x, (2, 3))  # 2 x 2 children
    assert torch.equal(children[0, 1], x[0, 2:4, 0:3])  # the second is the next pitches at the same time
    assert torch.equal(children[0, 2], x[0, 0:2, 3:6])
    assert torch.equal(unpatchify(children, 2), x)
    assert patchify(x[:0], (2, 3)).shape == (0, 4, 2, 3)


def test_windows_show_what_lies_around_a_child() -> None:
    roll = torch.arange(8 * 12).view(1, 8, 12)
    view = torch.nn.functional.pad(roll, (3, 3, 2, 2), value=-1)
    m, i = torch.tensor([0, 0]), torch.tensor([0, 5])  # 2 x 4 children of 4 x 3
    windows = crop_children(view, m, i, (4, 3), (2, 3), (1, 2))
    assert windows.shape == (2, 6, 7)
    assert torch.equal(windows[1, :5], roll[0, 3:8, 4:11]) and (windows[1, 5] == -1).all()
    assert (windows[0, 0] == -1).all() and (windows[0, :, :2] == -1).all()
    changed = fill_inside(view, roll + 1, (2, 3))
    assert torch.equal(inside(changed, (2, 3)), roll + 1) and torch.equal(inside(view, (2, 3)), roll)


def test_neighbours_outside_the_grid_are_none() -> None:
    found = neighbour_index(torch.tensor([0, 3]), (2, 3), ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)))
    assert found.tolist() == [[0, 6, 1, 6, 2], [3, 2, 6, 1, 5]]


def test_keys_give_even_unrelated_numbers_that_do_not_depend_on_the_batch() -> None:
    keys = torch.arange(1000)
    u = uniform(keys, 16, salt=3)
    assert float(u.min()) > 0 and float(u.max()) < 1
    assert float(u.mean()) == pytest.approx(0.5, abs=0.01) and float(u.var()) == pytest.approx(1 / 12, abs=0.003)
    correlation = torch.corrcoef(torch.cat([u.T, uniform(keys, 16, salt=4).T])) - torch.eye(32)
    assert float(correlation.abs().max()) < 0.15
    assert torch.equal(u[3:5], uniform(keys[3:5], 16, salt=3))
    children = child_keys(keys[:, None].expand(-1, 16).flatten(), torch.arange(16).repeat(1000))
    assert len(children.unique()) == 16_000


def test_a_draw_is_in_proportion_and_even() -> None:
    weights = torch.tensor([1.0, 0.0, 2.0, 5.0])
    starts = torch.linspace(0, 0.999, 200).tolist()
    counts = torch.stack([systematic_draw(weights, 4, start).bincount(minlength=4) for start in starts]).double()
    torch.testing.assert_close(counts.mean(0), 4 * weights.double() / 8, atol=0.02, rtol=0)
    assert (counts[:, 1] == 0).all()
    assert ((counts - 4 * weights / 8).abs() < 1).all()  # never off by one or more


def test_the_schedule_begins_slowly_and_ends_with_nothing_masked() -> None:
    counts = torch.tensor([128, 16, 3, 0])
    left = torch.stack([still_masked(counts, step, 8) for step in range(8)])
    assert (left[1:] <= left[:-1]).all() and (left[-1] == 0).all() and (left >= 0).all()
    decided = 128 - left[:, 0]
    assert decided[0] < 8 and decided.diff().max() == decided.diff()[-1]
    assert left[:, 2].tolist() == [2, 1, 0, 0, 0, 0, 0, 0]  # fewer children than steps: one at a time


def test_ranks_put_candidates_first() -> None:
    noise = torch.tensor([[0.5, 0.1, 0.9, 0.3]])
    assert ranks(noise, torch.tensor([[True, False, True, True]])).tolist() == [[1, 3, 2, 0]]


def test_probabilities_follow_temperature_bias_and_nucleus() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -20.0]])
    plain = class_probabilities(logits)
    torch.testing.assert_close(plain, logits.softmax(-1))
    torch.testing.assert_close(class_probabilities(logits, 0.5), (2 * logits).softmax(-1))  # it divides
    assert class_probabilities(logits, 0.0).tolist() == [[0, 0, 1, 0]]
    assert class_probabilities(logits, sparsity_bias=3.0).argmax() == 0
    nucleus = class_probabilities(logits, top_p=0.8)
    assert (nucleus > 0).tolist() == [[False, True, True, False]] and float(nucleus.sum()) == pytest.approx(1)
    ruled_out = class_probabilities(torch.tensor([[float("-inf"), 0.0, 0.0, -20.0]]), 1e-9)
    assert ruled_out.isfinite().all() and ruled_out[0, 0] == 0


def test_what_is_picked_has_its_probability_and_never_none() -> None:
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]]).expand(1000, -1)
    picked = pick(probabilities, (torch.arange(1000) + 0.5) / 1000)
    assert picked.bincount(minlength=5).tolist() == [0, 250, 0, 750, 0]
    assert pick(probabilities[:2], torch.tensor([0.0, 1 - 2**-24])).tolist() == [1, 3]


# --- One level --------------------------------------------------------------------------------------------------------


def root_nodes(model, codes: torch.Tensor, given: torch.Tensor | None = None) -> Nodes:
    given = torch.full_like(codes, model.config.num_codes) if given is None else given
    attributes = model.embed_conditions(None, len(codes))[None]
    nodes = model.root(given, torch.arange(len(codes)) + 5, attributes)
    nodes.truth, nodes.weight = codes, torch.ones(len(codes))
    return nodes


def test_cached_steps_equal_the_full_pass() -> None:
    model = make("ar")
    level, codes = model.levels[0], random_codes(3)
    nodes = root_nodes(model, codes)
    nodes.cond = torch.stack([nodes.cond[0], nodes.cond[0] + 1])  # two streams, as with guidance
    given, truth = (patchify(x, level.child_size) for x in (inside(nodes.view, level.margins), codes))
    with torch.no_grad():
        full = level.contexts(nodes, given, truth, torch.ones(truth.shape[:2], dtype=torch.bool))[0]
        cache, before = level.new_cache(nodes.cond), torch.full_like(truth[:, 0], model.config.num_codes)
        for i in range(level.num_children):
            tokens = torch.cat([level.features(before), level.features(given[:, i])], dim=-1)
            torch.testing.assert_close(level.step(tokens, nodes.cond, i, cache), full[:, :, i], rtol=1e-4, atol=1e-4)
            before = truth[:, i]


def test_an_ar_child_sees_the_children_before_it_and_given_cells_only() -> None:
    model = make("ar")
    level, codes = model.levels[0], random_codes(1) + 10  # no code is 5 = unknown
    given = torch.full_like(codes, 5)
    given[0, 5, 15] = codes[0, 5, 15]  # one given cell at the end
    nodes = root_nodes(model, codes, given)
    cells, truth = (patchify(x, level.child_size) for x in (inside(nodes.view, level.margins), codes))
    hidden, _ = level.hidden_children(cells)
    everything = torch.ones_like(hidden)
    m, i = torch.nonzero(everything, as_tuple=True)
    windows = level.windows(nodes, cells, truth, everything, m, i)
    (h, w), (p, t) = level.child_size, level.child_margins
    order = unpatchify(torch.arange(4).view(1, 4, 1, 1).expand(1, 4, h, w), level.grid[0])[0]
    for child in range(4):
        top, left = child % 2 * h, child // 2 * w
        for a in range(h + 2 * p):
            for b in range(w + 2 * t):
                pitch, step = top + a - p, left + b - t
                seen = windows[child, a, b] != 5
                inner = 0 <= pitch < 8 and 0 <= step < 16
                assert bool(seen) == (inner and (bool(order[pitch, step] < child) or (pitch, step) == (5, 15)))


def test_a_mar_child_sees_no_masked_cell() -> None:
    model = make("mar")
    level, codes = model.levels[0], random_codes(2) + 10
    nodes = root_nodes(model, codes)
    cells, truth = (patchify(x, level.child_size) for x in (inside(nodes.view, level.margins), codes))
    masked = torch.tensor([[True, False, True, False], [True, True, True, True]])
    m, i = torch.nonzero(masked, as_tuple=True)
    windows = level.windows(nodes, cells, truth, masked, m, i)
    assert (windows[m == 1] == 5).all()
    (p, t), (h, w) = level.child_margins, level.child_size
    assert (windows[:, p : p + h, t : t + w] == 5).all()
    assert (windows[m == 0] != 5).any()


def test_the_part_masked_is_even_over_all_counts() -> None:
    """Each number of masked children is as likely as any, and the weights make the sum right."""
    model = make("mar")
    level = model.levels[1].train()  # 4 x 8 in 2 x 2: 8 children
    hidden = torch.ones(8000, 8, dtype=torch.bool)
    hidden[:, 5:] = False
    given = torch.where(hidden[..., None, None], 5, 0).expand(-1, -1, 2, 2).clone()
    nodes = Nodes(given, torch.zeros(1, 8000, 24), torch.zeros(8000), torch.zeros(8000, 2), torch.arange(8000), True)
    with torch.no_grad():
        _, masked, final, factor = level.contexts(nodes, given, torch.zeros_like(given), hidden)
    assert not (masked & ~hidden).any()
    counts = masked.sum(1)
    assert counts.bincount(minlength=6)[1:].double().div(8000).sub(0.2).abs().max() < 0.01
    torch.testing.assert_close(factor, 5 / counts)
    assert torch.equal(final.any(1), counts == 1)
    weighted = (masked * factor[:, None]).mean(0)
    assert float((weighted[:5] - 1).abs().max()) < 4 * math.sqrt(2.0 / 8000) * 2


@pytest.mark.parametrize("short", [256, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_for_bf16_training_is_pytorchs(masked: bool, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Value and gradients against float32 SDPA, to what bfloat16 can hold; other inputs go to SDPA itself."""
    monkeypatch.setattr(layers, "_SHORT", short)
    draw = torch.Generator().manual_seed(0)
    q, k, v, g = (torch.randn(2, 3, 7, 8, generator=draw) for _ in range(4))
    mask = torch.ones(7, 7, dtype=torch.bool).tril() if masked else None
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        inputs = [x.bfloat16().to(dtype).requires_grad_() for x in (q, k, v)]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = attend(*inputs, mask)
        out.backward(g.to(dtype))
        found.append([out, *(x.grad for x in inputs)])
    for ours, exact in zip(*found, strict=True):
        assert ours is not None and exact is not None
        assert (ours.float() - exact).norm() < 0.02 * exact.norm()
    with torch.no_grad():
        torch.testing.assert_close(attend(q, k, v, mask), F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


def test_the_costs_of_all_decisions_are_the_likelihood() -> None:
    for kind in ("ar", "mixed"):
        model, codes = make(kind), random_codes(3)
        with torch.no_grad():
            out = model(codes_to_roll(codes, 5), output_decisions=True)
        total = torch.zeros(3)
        for told in out.decisions:
            assert not told["cost"][~told["predicted"]].any()
            total.index_add_(0, told["owner"], told["cost"].sum(1))
        torch.testing.assert_close(total, out.nll)


# --- Cells in passes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filling", [False, True], ids=["from nothing", "filling in"])
@pytest.mark.parametrize("cfg_scale", [1.0, 2.0])
@pytest.mark.parametrize("sparsity_bias", [-2.0, 0.0, 3.0])
def test_cells_in_passes_are_the_cells_one_by_one(
    filling: bool, cfg_scale: float, sparsity_bias: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guesses settle on what a step a cell gives; with few notes, many, none but the one that must sound."""
    model = make("mixed", level_sizes=((8, 16), (4, 8), (4, 4), (1, 1)), generator_types=("mar", "mar", "ar", "mar"))
    passes: list[int] = []
    plain = fractal_levels.AutoregressiveLevel.look_again

    def look_again(self: Any, tokens: torch.Tensor, *given: Any) -> torch.Tensor:
        passes.append(len(tokens))
        return plain(self, tokens, *given)

    monkeypatch.setattr(fractal_levels.AutoregressiveLevel, "look_again", look_again)
    given: dict[str, Any] = {}
    if filling:
        given = {"roll": codes_to_roll(random_codes(3), 5), "mask": torch.rand(3, 8, 16, generator=seeded(4)) < 0.6}
    made = []
    for few in (0, 10**6):
        monkeypatch.setattr(fractal_levels, "FEW", few)
        settings = dict(sparsity_bias=sparsity_bias, cfg_scale=cfg_scale, num_iter_list=[3, 2, 1, 1], **given)
        made.append([model.generate(3, {"density": 1}, generator=seeded(s), **settings) for s in range(4)])
        assert bool(passes) == bool(few)
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))
    assert len({float((roll > -1).float().mean()) for roll in made[0]}) > 1


def test_weights_by_columns_have_the_same_values_and_can_be_kept(tmp_path: Path) -> None:
    model = make("mar")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lay_out_by_columns(model)
    assert {layer.weight.stride(0) for layer in model.modules() if isinstance(layer, torch.nn.Linear)} == {1}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.save_pretrained(tmp_path)
    kept = type(model).from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(before[name], value) for name, value in kept.items())
    loss = model.train()(codes_to_roll(random_codes(2), 5)).loss  # and learns on
    loss.backward()
    torch.optim.AdamW(model.parameters(), 0.1).step()
    assert not torch.equal(before["levels.0.token.weight"], model.levels[0].token.weight)
