"""The mathematics of a diffusion bridge between the place of a text and music, with the names that diffusers uses.

Time goes from 0 (music) to 1 (text); `τ(t)` is how far the way has gone, and the forward marginal is

    q(z_t | z_text, z_music) = N(α z_music + (1 − α) z_text, β I),   α = 1 − τ,   β = σ² τ (1 − τ) + ν² τ²

with `σ` the noise on the way (a Brownian bridge) and `ν` that at the text end. σ = 0, ν = 1 and z_text = 0 is flow
matching from noise (arXiv 2210.02747), σ > 0 and ν = 0 the bridge that is pinned at both ends. Both belong to one
Gaussian process, whose covariance `τ_s (σ² (1 − τ_t) + ν² τ_t)` for s < t says how much noise a step may put in the
place of the old one.

What a network may predict:

* `epsilon`: the noise, as DDBM-like models do. At the text end α is 0 and nothing of the music is left in z_t, so that
  the way back to the music divides by 0: kept to show it, not to be used.
* `i2sb`: (z_t − z_music) / sqrt(σ² τ + ν² τ²), as in I²SB (arXiv 2302.05872, equation 12); finite everywhere.
* `x0`: the music.
* `flow`: the velocity d z / d τ of the straight way, z_text + ν ε − z_music; wants σ = 0, or it is not finite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

PREDICTION_TYPES = ("epsilon", "i2sb", "x0", "flow")
SCHEDULES = ("linear", "cosine")
#: Below it, `epsilon` divides by this in place of α.
MIN_ALPHA = 1e-2
MAX_STEPS = 1000


@dataclass
class BridgeStepOutput:
    """What one step of the sampler gives.

    Attributes:
        prev_sample: The sample at the next time, which is earlier.
        pred_original_sample: The music as it is expected now.
    """

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor


class BridgeScheduler:
    """Forward marginal, targets and sampler. It has no weights, and all its tensors are those it is given.

    Args:
        prediction_type: What the network says; see the module's text.
        schedule: `linear`: τ = t; `cosine`: τ = sin²(π t / 2), with finer steps at both ends.
        bridge_noise: σ.
        end_noise: ν.
        spacing: The sampler's times are evenly spread numbers of 0 … 1 to this power: above 1, steps are finer near the
            music, where a last long step would wipe out small differences.

    Raises:
        ValueError: Names that do not exist, noise below 0, or a prediction that needs other noise.
    """

    def __init__(
        self,
        prediction_type: str = "i2sb",
        schedule: str = "cosine",
        bridge_noise: float = 1.0,
        end_noise: float = 0.0,
        spacing: float = 1.0,
    ) -> None:
        check_bridge(prediction_type, schedule, bridge_noise, end_noise, spacing)
        self.prediction_type, self.schedule = prediction_type, schedule
        self.bridge_noise, self.end_noise = float(bridge_noise), float(end_noise)
        self.spacing = float(spacing)
        self.timesteps = torch.ones(1)
        self.num_inference_steps = 1

    # --- The process --------------------------------------------------------------------------------------------------

    def progress(self, t: torch.Tensor) -> torch.Tensor:
        """τ, 0 … 1, at times 0 … 1."""
        return t if self.schedule == "linear" else torch.sin(t * (math.pi / 2)) ** 2

    def alpha(self, t: torch.Tensor) -> torch.Tensor:
        """Part of the music in the mean."""
        # cos² at the text end is 1 − 1 = 0 exactly, where cos(π / 2) is not.
        return 1 - self.progress(t)

    def beta(self, t: torch.Tensor) -> torch.Tensor:
        """Variance of the marginal."""
        tau = self.progress(t)
        return self.bridge_noise**2 * tau * (1 - tau) + self.end_noise**2 * tau**2

    def covariance(self, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Of z_s and z_t around their means, for s ≤ t."""
        tau = self.progress(t)
        return self.progress(s) * (self.bridge_noise**2 * (1 - tau) + self.end_noise**2 * tau)

    def spread(self, t: torch.Tensor) -> torch.Tensor:
        """Scale of `z_t − z_music` that `i2sb` divides by."""
        tau = self.progress(t)
        return (self.bridge_noise**2 * tau + self.end_noise**2 * tau**2).sqrt()

    def centre(self, sample: torch.Tensor, source: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """z_t around the text's part of its mean and at unit scale, for music of unit variance.

        What a network should look at: near a pinned text end, all that tells songs apart is tiny beside the text.
        """
        t = _beside(t, sample)
        size = (self.alpha(t) ** 2 + self.beta(t)).clamp(min=1e-8)
        return (sample - self.progress(t) * source) * size.rsqrt()

    def add_noise(
        self, original: torch.Tensor, source: torch.Tensor, noise: torch.Tensor, t: torch.Tensor
    ) -> torch.Tensor:
        """Draws z_t of the forward marginal.

        Args:
            original: Music `(B, …)`.
            source: Where the text lies, the same shape.
            noise: Standard normal, the same shape.
            t: Times `(B,)`, 0 … 1.
        """
        t = _beside(t, original)
        tau = self.progress(t)
        return (1 - tau) * original + tau * source + self.beta(t).sqrt() * noise

    def target(
        self, original: torch.Tensor, source: torch.Tensor, noise: torch.Tensor, t: torch.Tensor
    ) -> torch.Tensor:
        """What the network is to say of `add_noise(original, source, noise, t)`, at times above 0."""
        if self.prediction_type == "epsilon":
            return noise
        if self.prediction_type == "x0":
            return original
        if self.prediction_type == "flow":
            return source + self.end_noise * noise - original
        t = _beside(t, original)
        return (self.progress(t) * (source - original) + self.beta(t).sqrt() * noise) / self.spread(t)

    def predict_original(
        self, model_output: torch.Tensor, sample: torch.Tensor, source: torch.Tensor, t: torch.Tensor
    ) -> torch.Tensor:
        """The music that a prediction at time `t` amounts to; the inverse of `target`."""
        t = _beside(t, sample)
        if self.prediction_type == "x0":
            return model_output
        if self.prediction_type == "flow":
            return sample - self.progress(t) * model_output
        if self.prediction_type == "i2sb":
            return sample - self.spread(t) * model_output
        rest = sample - self.progress(t) * source - self.beta(t).sqrt() * model_output
        return rest / self.alpha(t).clamp(min=MIN_ALPHA)

    # --- The sampler --------------------------------------------------------------------------------------------------

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Chooses the times of the sampler, `timesteps`, from 1 down; the last step goes to 0.

        Raises:
            ValueError: Fewer than 1 step, or more than `MAX_STEPS`.
        """
        if not 1 <= num_inference_steps <= MAX_STEPS:
            raise ValueError(f"num_inference_steps is {num_inference_steps}; it must be 1 … {MAX_STEPS}")
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.linspace(1, 0, num_inference_steps + 1, device=device)[:-1] ** self.spacing

    def previous_timestep(self, t: torch.Tensor) -> torch.Tensor:
        """The time that the sampler goes to from one of `timesteps`."""
        following = int((self.timesteps - t).abs().argmin()) + 1
        return self.timesteps[following] if following < len(self.timesteps) else torch.zeros_like(self.timesteps[0])

    def start(self, source: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """z at the text end: the place of the text, with noise where there is some."""
        if not self.end_noise:
            return source.clone()
        return source + self.end_noise * draw_noise(source, generator)

    def step(
        self,
        model_output: torch.Tensor,
        timestep: torch.Tensor,
        sample: torch.Tensor,
        source: torch.Tensor,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> BridgeStepOutput:
        """One step of the sampler.

        Args:
            model_output: Prediction at `timestep`.
            timestep: One of `timesteps`.
            sample: z at this time.
            source: Where the text lies.
            eta: See `move`.
            generator: Of the noise.
        """
        original = self.predict_original(model_output, sample, source, timestep)
        earlier = self.previous_timestep(timestep)
        return BridgeStepOutput(self.move(original, sample, source, timestep, earlier, eta, generator), original)

    def move(
        self,
        original: torch.Tensor,
        sample: torch.Tensor,
        source: torch.Tensor,
        t: torch.Tensor,
        s: torch.Tensor,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """From time `t` to an earlier `s`, with the music that is expected (DBIM, arXiv 2405.15885, section 4.1).

        The noise in `sample` goes on by one part, and new noise takes the place of the other, so that the marginal at
        `s` is right whatever the parts are. Where a sample has no noise yet, at the pinned text end, it gets some: all
        that differs between the songs of one text begins there ("booting noise").

        Args:
            original: The music that is expected now.
            sample: z_t.
            source: Where the text lies.
            t: Present time.
            s: Next time, earlier.
            eta: 0: all noise goes on, nothing new is drawn; 1: as much is new as in the Gaussian process.
            generator: Of the noise.
        """
        if not 0 <= eta <= 1:
            raise ValueError(f"eta is {eta}; it must be in [0, 1]")
        t, s = _beside(t, sample), _beside(s, sample)
        before, after = self.beta(t), self.beta(s)
        tau = self.progress(t)
        mean = (1 - self.progress(s)) * original + self.progress(s) * source
        known = before > 1e-12
        safe = torch.where(known, before, torch.ones_like(before))
        noise = (sample - (1 - tau) * original - tau * source) / safe.sqrt()
        if not bool(known.all()):
            noise = torch.where(known, noise, draw_noise(sample, generator))
        kept = torch.where(known, self.covariance(s, t) ** 2 / safe, after)  # of the variance, when eta is 1
        new = eta**2 * (after - kept).clamp(min=0)
        found = mean + (after - new).clamp(min=0).sqrt() * noise
        if eta:
            found = found + new.sqrt() * draw_noise(sample, generator)
        return found


def check_bridge(
    prediction_type: str, schedule: str, bridge_noise: float, end_noise: float, spacing: float = 1.0
) -> None:
    """Refuses settings that can not work; see `BridgeScheduler`."""
    if prediction_type not in PREDICTION_TYPES:
        raise ValueError(f"prediction_type is {prediction_type!r}; use one of {', '.join(PREDICTION_TYPES)}")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}; use one of {', '.join(SCHEDULES)}")
    if not (0 <= bridge_noise < math.inf and 0 <= end_noise < math.inf):
        raise ValueError(f"bridge_noise {bridge_noise} and end_noise {end_noise} must be 0 or more")
    if not 0 < spacing < math.inf:
        raise ValueError(f"spacing is {spacing}; it must be above 0")
    if prediction_type == "flow" and bridge_noise:
        raise ValueError(f"flow is the velocity of a straight way: bridge_noise must be 0, got {bridge_noise}")
    if prediction_type in ("epsilon", "i2sb") and not (bridge_noise or end_noise):
        raise ValueError(f"{prediction_type} divides by the noise, but bridge_noise and end_noise are both 0")


def draw_noise(like: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Standard normal noise of a tensor's shape, drawn where the generator lives: one seed, one noise, any device."""
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device, dtype=torch.float32).to(like)


def _beside(t: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Times `()` or `(B,)` with axes of length 1, so that they broadcast over `values` `(B, …)`."""
    t = torch.as_tensor(t, device=values.device, dtype=values.dtype)
    return t.reshape(*t.shape, *([1] * (values.ndim - t.ndim))) if t.ndim else t


__all__ = [
    "MAX_STEPS", "PREDICTION_TYPES", "SCHEDULES", "BridgeScheduler", "BridgeStepOutput", "check_bridge", "draw_noise",
]  # fmt: skip
