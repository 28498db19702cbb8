"""The bridge's mathematics against closed forms: marginals, inverses, and a Gaussian whose best predictor is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from intermezzo.modeling.scheduling_bridge import BridgeScheduler, draw_noise

torch.set_num_threads(1)

# All predictions, each with noise that it goes with.
SETTINGS: list[dict[str, Any]] = [
    dict(prediction_type="epsilon", bridge_noise=1.0, end_noise=0.5, schedule="linear"),
    dict(prediction_type="i2sb", bridge_noise=0.8),
    dict(prediction_type="i2sb", bridge_noise=0.8, end_noise=0.6, schedule="linear"),
    dict(prediction_type="x0", bridge_noise=1.0),
    dict(prediction_type="flow", bridge_noise=0.0, end_noise=1.0, schedule="linear"),
]
MEAN, VARIANCE, SOURCE = 1.5, 0.49, -2.0
COUNT = 20_000


def name_of(settings: dict[str, Any]) -> str:
    return "-".join(str(value) for value in settings.values())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parts(count: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    music, source, noise = (torch.randn(count, 3, 4, generator=generator(k)).double() for k in range(3))
    return music, source, noise, torch.linspace(0.05, 0.95, count).double()


def to_float64(scheduler: BridgeScheduler, steps: int) -> BridgeScheduler:
    scheduler.set_timesteps(steps)
    scheduler.timesteps = scheduler.timesteps.double()
    return scheduler


def best_original(scheduler: BridgeScheduler, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """E[music | z_t] where music is N(MEAN, VARIANCE)."""
    alpha, beta, tau = scheduler.alpha(t), scheduler.beta(t), scheduler.progress(t)
    total = alpha**2 * VARIANCE + beta
    gain = torch.where(total > 1e-12, alpha * VARIANCE / total.clamp(min=1e-12), torch.zeros_like(total))
    return MEAN + gain * (z - tau * SOURCE - alpha * MEAN)


def best_output(scheduler: BridgeScheduler, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The same as the network would say it."""
    music, source = best_original(scheduler, z, t), torch.full_like(z, SOURCE)
    root = scheduler.beta(t).sqrt()
    noise = (z - scheduler.alpha(t) * music - scheduler.progress(t) * source) / root.clamp(min=1e-6)
    return scheduler.target(music, source, noise, t.expand(len(z)))


def samples(scheduler: BridgeScheduler, steps: int, eta: float, seed: int = 0) -> torch.Tensor:
    to_float64(scheduler, steps)
    random = generator(seed)
    source = torch.full((COUNT, 1), SOURCE, dtype=torch.float64)
    z = scheduler.start(source, random)
    for t in scheduler.timesteps:
        z = scheduler.step(best_output(scheduler, z, t), t, z, source, eta, random).prev_sample
    return z


# --- Forward ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_ends_are_music_and_text(schedule: str) -> None:
    music, source, noise, _ = parts()
    pinned = BridgeScheduler("i2sb", schedule, 0.7, 0.0)
    zeros, ones = torch.zeros(6).double(), torch.ones(6).double()
    assert torch.equal(pinned.add_noise(music, source, noise, zeros), music)
    torch.testing.assert_close(pinned.add_noise(music, source, noise, ones), source, rtol=0, atol=1e-9)
    loose = BridgeScheduler("i2sb", schedule, 0.7, 0.3)
    torch.testing.assert_close(loose.add_noise(music, source, noise, ones), source + 0.3 * noise, rtol=0, atol=1e-9)


def test_the_marginal_has_the_stated_mean_and_variance() -> None:
    scheduler = BridgeScheduler("x0", "cosine", 0.9, 0.4)
    t = torch.tensor(0.3).double()
    music, source = torch.full((COUNT, 1), 2.0).double(), torch.full((COUNT, 1), -1.0).double()
    noise = torch.randn(COUNT, 1, generator=generator()).double()
    z = scheduler.add_noise(music, source, noise, t.expand(COUNT))
    tau = math.sin(0.15 * math.pi) ** 2
    variance = 0.81 * tau * (1 - tau) + 0.16 * tau**2
    assert float(z.mean()) == pytest.approx(2 * (1 - tau) - tau, abs=0.01)
    assert float(z.var()) == pytest.approx(variance, rel=0.03)


def test_a_brownian_bridge_has_this_covariance() -> None:
    """Against paths that are built step by step from independent increments."""
    scheduler, steps = BridgeScheduler("x0", "linear", 1.3, 0.6), 40
    walk = torch.randn(COUNT, steps, generator=generator(3)).double().cumsum(1) * (1.3 / steps**0.5)
    times = torch.arange(1, steps + 1).double() / steps
    end = 0.6 * torch.randn(COUNT, 1, generator=generator(4)).double()
    path = walk - times * walk[:, -1:] + times * end  # pinned at 0, and at a point that is drawn
    early, late = 9, 29
    found = float((path[:, early] * path[:, late]).mean())
    wanted = float(scheduler.covariance(times[early], times[late]))
    assert found == pytest.approx(wanted, rel=0.05)
    assert float(path[:, late].var()) == pytest.approx(float(scheduler.beta(times[late])), rel=0.05)


@pytest.mark.parametrize("settings", SETTINGS, ids=name_of)
def test_the_music_comes_back_out_of_its_target(settings: dict[str, Any]) -> None:
    scheduler = BridgeScheduler(**settings)
    music, source, noise, t = parts()
    z = scheduler.add_noise(music, source, noise, t)
    found = scheduler.predict_original(scheduler.target(music, source, noise, t), z, source, t)
    torch.testing.assert_close(found, music, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", SETTINGS, ids=name_of)
def test_what_the_network_sees_has_unit_scale(settings: dict[str, Any]) -> None:
    scheduler = BridgeScheduler(**settings)
    music, noise = (torch.randn(COUNT, 1, generator=generator(k)).double() for k in (1, 2))
    source = torch.full((COUNT, 1), 5.0).double()
    for t in (0.01, 0.5, 0.97):
        z = scheduler.add_noise(music, source, noise, torch.full((COUNT,), t).double())
        seen = scheduler.centre(z, source, torch.full((COUNT,), t).double())
        assert float(seen.mean()) == pytest.approx(0, abs=0.03) and float(seen.std()) == pytest.approx(1, rel=0.03)
    pinned = BridgeScheduler("i2sb")
    assert not pinned.centre(source, source, torch.ones(COUNT).double()).abs().max() > 1e-6


def test_targets_are_what_their_names_say() -> None:
    music, source, noise, t = parts()
    i2sb = BridgeScheduler("i2sb", "linear", 0.8, 0.0)
    z = i2sb.add_noise(music, source, noise, t)
    side = t[:, None, None]
    torch.testing.assert_close(i2sb.target(music, source, noise, t), (z - music) / (0.8 * side.sqrt()))
    flow = BridgeScheduler("flow", "linear", 0.0, 1.0)
    step = 1e-6
    ahead = flow.add_noise(music, source, noise, t + step)
    speed = (ahead - flow.add_noise(music, source, noise, t)) / step
    torch.testing.assert_close(flow.target(music, source, noise, t), speed, rtol=1e-6, atol=1e-6)


def test_epsilon_is_lost_at_the_text_end_and_i2sb_is_not() -> None:
    """The reason why `epsilon` is not the default: the same error in the prediction, at t = 0.97."""
    music, source, noise, _ = parts()
    t = torch.full((6,), 0.97).double()
    errors = {}
    for kind in ("epsilon", "i2sb"):
        scheduler = BridgeScheduler(kind, "linear", 1.0)
        z = scheduler.add_noise(music, source, noise, t)
        said = scheduler.target(music, source, noise, t) + 0.1
        errors[kind] = float((scheduler.predict_original(said, z, source, t) - music).abs().mean())
    assert errors["i2sb"] == pytest.approx(0.1 * 0.97**0.5, rel=1e-6)
    assert errors["epsilon"] > 5 * errors["i2sb"]


# --- Sampler ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("settings", SETTINGS[1:], ids=name_of)
def test_many_steps_draw_the_gaussian(settings: dict[str, Any], eta: float) -> None:
    found = samples(BridgeScheduler(**settings), 150 if eta == 1 else 50, eta)  # fresh noise needs finer steps
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(found.var()) == pytest.approx(VARIANCE, rel=0.08)


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_few_steps_keep_the_mean(steps: int) -> None:
    found = samples(BridgeScheduler("i2sb", "cosine", 1.0), steps, 0.0)
    assert float(found.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(found.var()) < 1.1 * VARIANCE


def test_more_steps_come_nearer() -> None:
    found = [samples(BridgeScheduler("i2sb", "cosine", 1.0), steps, 0.0).var() for steps in (1, 3, 10, 50)]
    errors = [abs(float(variance) - VARIANCE) for variance in found]
    assert errors == sorted(errors, reverse=True), errors
    assert errors[0] == pytest.approx(VARIANCE, rel=1e-6)  # one step knows the mean alone


@pytest.mark.parametrize("settings", SETTINGS[1:], ids=name_of)
def test_one_step_gives_what_the_network_expects(settings: dict[str, Any]) -> None:
    scheduler = to_float64(BridgeScheduler(**settings), 1)
    source = torch.full((5, 2), SOURCE).double()
    z = scheduler.start(source, generator())
    output = torch.randn(5, 2, generator=generator(7)).double()
    out = scheduler.step(output, scheduler.timesteps[0], z, source)
    assert torch.equal(out.prev_sample, out.pred_original_sample)
    wanted = scheduler.predict_original(output, z, source, torch.ones(()).double())
    torch.testing.assert_close(out.prev_sample, wanted)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_step_keeps_the_marginal(eta: float) -> None:
    """With the true music in hand, z_t of the forward marginal becomes z_s of the forward marginal."""
    scheduler = BridgeScheduler("x0", "linear", 1.0, 0.5)
    t, s = torch.tensor(0.8).double(), torch.tensor(0.3).double()
    music, source = torch.full((COUNT, 1), 1.0).double(), torch.full((COUNT, 1), -1.0).double()
    z = scheduler.add_noise(music, source, torch.randn(COUNT, 1, generator=generator(5)).double(), t.expand(COUNT))
    moved = scheduler.move(music, z, source, t, s, eta, generator(6))
    assert float(moved.mean()) == pytest.approx(0.7 - 0.3, abs=0.02)
    assert float(moved.var()) == pytest.approx(float(scheduler.beta(s)), rel=0.04)
    joint = float(((moved - moved.mean()) * (z - z.mean())).mean())
    root = float((scheduler.beta(s) * scheduler.beta(t)).sqrt())
    wanted = {0.0: root, 1.0: float(scheduler.covariance(s, t))}[eta]  # all noise goes on; the process' own part does
    assert joint == pytest.approx(wanted, abs=0.02)


def test_flow_steps_are_euler_steps() -> None:
    scheduler = to_float64(BridgeScheduler("flow", "linear", 0.0, 1.0), 8)
    source = torch.zeros(4, 3).double()
    z, speed = (torch.randn(4, 3, generator=generator(k)).double() for k in (1, 2))
    t = scheduler.timesteps[3]
    moved = scheduler.step(speed, t, z, source).prev_sample
    torch.testing.assert_close(moved, z - speed / 8)


def test_without_eta_the_booting_noise_decides_all() -> None:
    scheduler = BridgeScheduler("i2sb", "cosine", 1.0)
    assert torch.equal(samples(scheduler, 7, 0.0, seed=1), samples(scheduler, 7, 0.0, seed=1))
    assert not torch.equal(samples(scheduler, 7, 0.0, seed=1), samples(scheduler, 7, 0.0, seed=2))
    # After the first step nothing is drawn any more: a step from the middle needs no generator.
    to_float64(scheduler, 4)
    z, source = torch.randn(5, 2).double(), torch.zeros(5, 2).double()
    moved = [scheduler.step(z * 0, scheduler.timesteps[2], z, source).prev_sample for _ in range(2)]
    assert torch.equal(*moved)


def test_timesteps_fall_from_one_and_end_at_zero() -> None:
    for steps, spacing in ((1, 1.0), (2, 2.0), (7, 0.5), (50, 1.5), (1000, 1.0)):
        scheduler = BridgeScheduler(spacing=spacing)
        scheduler.set_timesteps(steps)
        assert len(scheduler.timesteps) == steps and float(scheduler.timesteps[0]) == 1.0
        following = [float(scheduler.previous_timestep(t)) for t in scheduler.timesteps]
        assert following[:-1] == scheduler.timesteps[1:].tolist() and following[-1] == 0.0
        assert all(a > b for a, b in zip(scheduler.timesteps.tolist(), following, strict=True))


def test_times_of_a_batch_go_row_by_row() -> None:
    scheduler = BridgeScheduler("i2sb", "cosine", 1.0, 0.2)
    music, source, noise, t = parts()
    whole = scheduler.add_noise(music, source, noise, t)
    single = [scheduler.add_noise(music[k : k + 1], source[k : k + 1], noise[k : k + 1], t[k]) for k in range(6)]
    torch.testing.assert_close(whole, torch.cat(single))


def test_noise_depends_on_the_seed_alone() -> None:
    like = torch.zeros(3, 4, dtype=torch.float64)
    assert torch.equal(draw_noise(like, generator(3)), draw_noise(like.clone(), generator(3)))
    assert draw_noise(like.half(), generator(3)).dtype == torch.float16


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (dict(prediction_type="v"), "'v'"),
        (dict(schedule="sine"), "'sine'"),
        (dict(bridge_noise=-1.0), "-1.0"),
        (dict(end_noise=float("nan")), "nan"),
        (dict(spacing=0.0), "spacing is 0.0"),
        (dict(prediction_type="flow", bridge_noise=0.5), "0.5"),
        (dict(prediction_type="i2sb", bridge_noise=0.0), "both 0"),
    ],
)
def test_settings_that_can_not_work_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        BridgeScheduler(**settings)


def test_steps_and_eta_out_of_range_are_refused() -> None:
    scheduler = BridgeScheduler()
    for steps in (0, -1, 1001):
        with pytest.raises(ValueError, match=str(steps)):
            scheduler.set_timesteps(steps)
    z = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="eta"):
        scheduler.move(z, z, z, torch.tensor(0.5), torch.tensor(0.2), eta=1.5)
