"""FractalMidi's likelihood sums to one, samples follow it, and no decision sees what it decides."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from intermezzo.modeling.fractal_cells import codes_to_roll, roll_to_codes
from intermezzo.modeling.modeling_fractal_midi import FractalMidiModel

from .tiny_fractal_midi import KINDS, make, random_codes

torch.set_num_threads(1)


# --- Likelihood -------------------------------------------------------------------------------------------------------


def every_roll(cells: int, num_codes: int, size: tuple[int, int]) -> torch.Tensor:
    rolls = torch.tensor(list(itertools.product(range(num_codes), repeat=cells)))
    return rolls.view(-1, *size)


def nll_of(model: FractalMidiModel, codes: torch.Tensor, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(codes_to_roll(codes, model.config.num_codes), **options).nll.double()


ENUMERABLE: dict[str, Any] = dict(
    level_sizes=((2, 4), (2, 2), (1, 2), (1, 1)), context_margins=((1, 2), (1, 1)), num_codes=3,
    hidden_sizes=(8, 8, 8), attribute_names=(), attribute_sizes=(), initializer_scale=5.0,
)  # fmt: skip


def test_the_likelihood_of_an_ar_model_sums_to_one_over_all_rolls() -> None:
    model = make("ar", **ENUMERABLE)
    nll = nll_of(model, every_roll(8, 3, (2, 4)))
    assert nll.max() - nll.min() > 2  # it is no even distribution that sums to one by itself
    assert float((-nll).exp().sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_likelihood_of_hidden_cells_sums_to_one_whatever_is_given(seed: int) -> None:
    model = make("ar", seed, **ENUMERABLE)
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(2, 4, generator=draw) < 0.6
    known = torch.randint(0, 3, (2, 4), generator=draw)
    hidden = every_roll(int(mask.sum()), 3, (int(mask.sum()),))
    codes = known.repeat(len(hidden), 1, 1)
    codes[:, mask] = hidden
    nll = nll_of(model, codes, mask=mask)
    assert float((-nll).exp().sum()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("place", [(0, 0), (1, 1), (1, 3)])
@pytest.mark.parametrize("kind", ["mar", "mixed", "other"])
def test_the_likelihood_of_one_hidden_cell_is_exact_for_mar_too(kind: str, place: tuple[int, int]) -> None:
    """With one hidden cell there is one order, and the bound is the likelihood; forced cells included."""
    model = make(kind, **ENUMERABLE)
    for known in (torch.zeros(2, 4, dtype=torch.long), random_codes(1, (2, 4), 3)[0]):
        codes = known.repeat(3, 1, 1)
        mask = torch.zeros(2, 4, dtype=torch.bool)
        mask[place] = True
        codes[:, place[0], place[1]] = torch.arange(3)
        nll = nll_of(model, codes, mask=mask)
        assert float((-nll).exp().sum()) == pytest.approx(1.0, abs=1e-5)


def test_the_mar_bound_is_one_of_a_distribution() -> None:
    """exp(−bound) sums to less than one over all rolls (Jensen), but not to much less."""
    model = make("mar", **{**ENUMERABLE, "level_sizes": ((1, 4), (1, 2), (1, 1)), "generator_types": ("mar",) * 3,
                           "hidden_sizes": (8, 8), "num_hidden_layers": (1, 1), "num_attention_heads": (2, 2),
                           "context_margins": ((0, 2),), "train_nodes": (8,), "initializer_scale": 2.0})  # fmt: skip
    nll = nll_of(model, every_roll(4, 3, (1, 4)), draws=150)
    assert 0.3 < float((-nll).exp().sum()) < 1.02


def test_samples_have_the_frequencies_of_the_likelihood() -> None:
    """With the cached sampler of an `ar` model, given cells and forced cells included."""
    small = {**ENUMERABLE, "level_sizes": ((2, 2), (2, 1), (1, 1)), "generator_types": ("ar",) * 3}
    small |= {"hidden_sizes": (8, 8), "num_hidden_layers": (2, 1), "num_attention_heads": (2, 2)}
    small |= {"context_margins": ((1, 1),), "train_nodes": (8,)}
    model = make(seed=1, **small)
    codes = every_roll(4, 3, (2, 2))
    given = codes_to_roll(torch.tensor([[[0, 0], [0, 1]]]), 3)
    for mask in (torch.ones(2, 2, dtype=torch.bool), torch.tensor([[True, True], [True, False]])):
        wanted = codes[:, 1, 1] == 1 if not mask.all() else torch.ones(81, dtype=torch.bool)
        expected = (-nll_of(model, codes, mask=mask)).exp() * wanted
        assert float(expected.sum()) == pytest.approx(1, abs=1e-5)
        drawn = model.generate(4000, roll=given, mask=mask, generator=torch.Generator().manual_seed(0))
        found = roll_to_codes(drawn, 3).flatten(1) @ torch.tensor([27, 9, 3, 1])
        frequency = torch.bincount(found, minlength=81) / 4000
        assert 0.5 * (frequency - expected).abs().sum() < 0.06  # total variation; some 0.03 is chance


def test_one_at_a_time_mar_samples_have_the_frequencies_of_the_likelihood() -> None:
    """Two children and one decision a step: both orders are equally likely, so the distribution is their mean."""
    small = {**ENUMERABLE, "level_sizes": ((1, 2), (1, 1)), "generator_types": ("mar",) * 2, "train_nodes": ()}
    small |= {"hidden_sizes": (8,), "num_hidden_layers": (1,), "num_attention_heads": (2,), "context_margins": ()}
    model = make(**small)
    codes = every_roll(2, 3, (1, 2))
    first, second = torch.tensor([[True, False]]), torch.tensor([[False, True]])
    alone = []  # p(cell) with the other unknown: sum over the other of p(cell) p(other | cell) = p(cell)
    with torch.no_grad():
        for draw in range(30):  # until both cells have been masked
            out = model(codes_to_roll(codes[:1], 3), generator=torch.Generator().manual_seed(draw),
                        output_decisions=True)  # fmt: skip
            if out.decisions[0]["predicted"].all():
                alone = out.decisions[0]["logits"][0].double().softmax(-1)
                break
    a, b = codes[:, 0, 0], codes[:, 0, 1]
    a_given_b, b_given_a = (-nll_of(model, codes, mask=mask) for mask in (first, second))
    expected = 0.5 * alone[0][a] * b_given_a.exp() + 0.5 * alone[1][b] * a_given_b.exp()
    drawn = model.generate(6000, num_iter_list=[2, 1], generator=torch.Generator().manual_seed(0))
    found = roll_to_codes(drawn, 3).flatten(1) @ torch.tensor([3, 1])
    assert 0.5 * (torch.bincount(found, minlength=9) / 6000 - expected).abs().sum() < 0.03


def test_a_draw_of_patches_leaves_the_training_loss_right_on_average() -> None:
    model = make("ar", train_nodes=(2, 5))
    roll = codes_to_roll(random_codes(2), 5)
    exact = model(roll).nll
    model.train()
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = torch.stack([model(roll).nll for _ in range(150)])
    error = drawn.std(0) / math.sqrt(150)
    assert (drawn.std(0) > 0).all()
    assert ((drawn.mean(0) - exact).abs() < 4 * error).all()


# --- Leaks ------------------------------------------------------------------------------------------------------------


def decisions(model: FractalMidiModel, codes: torch.Tensor, seed: int) -> list[dict[tuple, torch.Tensor]]:
    """Logits of all predicted children by (row, pitch, step) of the child, for each level."""
    with torch.no_grad():
        out = model(codes_to_roll(codes, 5), generator=torch.Generator().manual_seed(seed), output_decisions=True)
    found = []
    for level, told in zip(model.levels, out.decisions, strict=True):
        cells = {}
        for m, i in torch.nonzero(told["predicted"]).tolist():
            row, column = i % level.grid[0], i // level.grid[0]
            pitch = int(told["origin"][m, 0]) + row * level.child_size[0]
            step = int(told["origin"][m, 1]) + column * level.child_size[1]
            cells[int(told["owner"][m]), pitch, step] = told["logits"][m, i]
        found.append(cells)
    return found


def sees(model: FractalMidiModel, depth: int, child: tuple[int, int], cell: tuple[int, int]) -> bool | None:
    """Whether an `ar` chain may show `cell` to the decision over `child` at `depth`; `None` where `mar` decides."""
    for level in range(depth + 1):
        size, inner = model.config.level_sizes[level], model.config.level_sizes[level + 1]
        places = []
        for pitch, step in (child, cell):
            places.append((step % size[1] // inner[1], pitch % size[0] // inner[0]))
        if places[0] != places[1]:
            return None if model.config.generator_types[level] == "mar" else places[1] < places[0]
    return False  # its own cell


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("louder", [True, False], ids=["another code", "made silent"])
def test_no_decision_sees_its_own_cells_or_later_ones(kind: str, louder: bool) -> None:
    """Each cell is changed in turn; what no decision may see must leave it as it is, at every level."""
    model = make(kind)
    codes = random_codes(1)
    seen_change = [0] * len(model.levels)
    for seed in range(2):
        before = decisions(model, codes, seed)
        for pitch, step in torch.nonzero(codes[0]).tolist():
            other = codes.clone()
            other[0, pitch, step] = codes[0, pitch, step] % 4 + 1 if louder else 0
            after = decisions(model, other, seed)
            for depth, (old, new) in enumerate(zip(before, after, strict=True)):
                for place in old.keys() & new.keys():
                    moved = (old[place] - new[place]).nan_to_num(0, 0, 0).abs().max() > 1e-5
                    seen_change[depth] += int(moved)
                    allowed = sees(model, depth, place[1:], (pitch, step))
                    own = allowed is False
                    # A forced child (−inf) tells that its brothers are empty; that is no leak of its own cells.
                    assert not (moved and own), (kind, depth, place, (pitch, step))
    assert all(count > 0 for count in seen_change), "no level looks at anything: the test could not fail"


@pytest.mark.parametrize("kind", KINDS)
def test_masked_cells_are_never_seen_by_their_brothers(kind: str) -> None:
    """In one draw, what a `mar` level has masked does not move the logits of anything masked beside it."""
    model = make(kind)
    codes = random_codes(1)
    compared = 0
    for depth, seed in itertools.product(range(len(model.levels)), range(4)):
        level = model.levels[depth]
        if level.kind != "mar":
            continue
        before = decisions(model, codes, seed)[depth]
        for place in before:
            other = codes.clone()
            cells = other[0, place[1] : place[1] + level.child_size[0], place[2] : place[2] + level.child_size[1]]
            if not cells.any():
                continue
            cells.copy_(torch.where(cells > 0, cells % 4 + 1, 0))
            after = decisions(model, other, seed)[depth]
            for brother in before.keys() & after.keys():
                if all(a // s == b // s for a, b, s in zip(brother[1:], place[1:], level.size, strict=True)):
                    torch.testing.assert_close(before[brother], after[brother], rtol=0, atol=1e-5)
                    compared += 1
    assert compared > 20 or "mar" not in model.config.generator_types[:3]


def test_gradients_of_an_ar_decision_reach_no_later_token() -> None:
    """The loss of the first patches alone gives no gradient to what only later patches see."""
    model = make("ar").train()
    codes = random_codes(1)
    seen = []
    level = model.levels[0]
    level.token.register_forward_hook(lambda module, args, out: (out.retain_grad(), seen.append(out))[1])
    out = model(codes_to_roll(codes, 5), output_decisions=True)
    out.decisions[0]["logits"][0, 1].logsumexp(-1).backward()
    grads = seen[0].grad[0].abs().sum(-1)
    assert (grads[:2] > 0).all() and not grads[2:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_conditions_matter_and_absent_ones_do_not(kind: str) -> None:
    model = make(kind)
    roll = codes_to_roll(random_codes(1).repeat(2, 1, 1), 5)
    with torch.no_grad():
        a = model(roll, conditions=torch.tensor([[0, 1], [3, 1]])).nll
        none, absent = model(roll).nll, model(roll, conditions=torch.full((2, 2), -1)).nll
    assert not torch.allclose(a[0], a[1])
    torch.testing.assert_close(none, absent, rtol=0, atol=0)
