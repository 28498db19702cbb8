"""SummaryBridge: from a text to one summary for each bar, which Museformer then plays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from ..configuration.configuration_summary_bridge import SummaryBridgeConfig
from .bridge_layers import TIME_WAVES, BridgeLayer, Known, TextTriple, time_waves, word_places
from .bridge_statistics import NUM_PLACES, BridgeStatistics, bar_places
from .layers import rotary_angles
from .scheduling_bridge import BridgeScheduler
from .text_place import TextPlace
from .text_wishes import TextWishes

#: Earliest time that is learnt: before it, nearly nothing is left to say.
FIRST_TIME = 1e-3


@dataclass
class SummaryBridgeOutput(ModelOutput):
    """What SummaryBridge says.

    Attributes:
        loss: Mean squared error of the prediction over the bars that exist.
        prediction: `(B, N, Z)` what the network says, of the configuration's `prediction_type`, float32.
        summary_tokens: `(B, N, Z)` the summaries that this amounts to, in Museformer's own units.
        sample: `(B, N, Z)` z_t that it looked at, whitened.
    """

    loss: torch.FloatTensor | None = None
    prediction: torch.FloatTensor | None = None
    summary_tokens: torch.FloatTensor | None = None
    sample: torch.FloatTensor | None = None


class SummaryBridgePreTrainedModel(PreTrainedModel):
    """What transformers has to know of SummaryBridge, and how its weights begin."""

    config_class = SummaryBridgeConfig
    base_model_prefix = "summary_bridge"
    main_input_name = "summary_tokens"
    _supports_sdpa = True
    _no_split_modules = ["BridgeLayer", "TextPlace", "TextWishes"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=std * getattr(module, "initial_scale", 1.0))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm) and module.weight is not None:
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, BridgeLayer):
            init.zeros_(module.offsets)
        elif isinstance(module, BridgeStatistics | TextWishes):
            for name, value in module.defaults().items():
                init.copy_(getattr(module, name), value)
        elif isinstance(module, SummaryBridgeModel):
            init.normal_(module.first_word, mean=0.0, std=std)


class SummaryBridgeModel(SummaryBridgePreTrainedModel):
    """The bridge.

    ```
    text ─ encoder (frozen, outside) ─▶ sequence, pooled, mask
               │ a line and a small network, fitted to the data ─▶ z_text, the place where the way begins
               └──────────── words, pooled ───────────────┐
    z_t (B, N, Z), bar places, time ─▶ transformer over bars ─▶ prediction ─▶ z_music ─▶ summaries for Museformer
    ```

    A departure from bridges whose text end is learnt: a place that learns beside the network can buy a small loss by
    running far away, so it is fitted once, before (`fit_statistics`, `fit_place`), and stays.
    """

    def __init__(self, config: SummaryBridgeConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.scheduler = BridgeScheduler(
            config.prediction_type, config.schedule, config.bridge_noise, config.end_noise, config.spacing
        )
        self.statistics = BridgeStatistics(config.summary_size, config.text_size)
        has_place = config.place_size and config.source == "text"
        self.place = TextPlace(config.text_size, config.summary_size, config.place_size) if has_place else None
        self.wishes = TextWishes.of(config)
        self.from_sample = nn.Linear(2 * config.summary_size, width)
        self.from_place = nn.Linear(NUM_PLACES, width)
        self.from_word = nn.Linear(config.text_size, width)
        self.from_pooled = nn.Linear(config.text_size, width)
        self.first_word = nn.Parameter(torch.zeros(width))  # there is always something to look at
        self.time1 = nn.Linear(2 * TIME_WAVES, width)
        self.time2 = nn.Linear(width, width)
        self.table = nn.Linear(width, 4 * width)
        self.layers = nn.ModuleList(BridgeLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.summary_size)
        self.post_init()

    def fit_statistics(self, batches: Any) -> int:
        """Works out means, whitening and the texts' places from data, before the training; see `BridgeStatistics.fit`.

        With `source="none"` the line is left at 0: every text begins in the middle.
        """
        count = self.statistics.fit(batches)
        if self.config.source == "none":
            self.statistics.line.zero_()
        return count

    def fit_place(self, batches: Any, learning_rate: float = 2e-3, dropout: float = 0.2) -> float:
        """Fits what the line does not say of texts' places, once, after `fit_statistics`.

        Args:
            batches: A sequence of such batches as `fit_statistics` takes.
            learning_rate: Peak; it rises for a tenth of the batches and falls to 0.
            dropout: Part of the text's numbers that are dropped.

        Returns:
            The part of the variance of the pieces' means that places explain, over the last tenth of the batches; 0
            where there is no such network.
        """
        if self.place is None:
            return 0.0
        self.place.requires_grad_(True)
        optimizer = torch.optim.AdamW(self.place.parameters(), learning_rate, weight_decay=0.05)
        total = max(len(batches), 1)
        late = [0.0, 0.0]
        for number, batch in enumerate(batches):
            rate = min((number + 1) / (0.1 * total), 1) * 0.5 * (1 + math.cos(math.pi * number / total))
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * rate
            text = self.text_triple(batch["text_embed"], batch["text_pooled"], batch["text_mask"])
            bars = batch["bar_mask"] > 0.5
            line = self.statistics.source(text.pooled, bars)
            rest = self.statistics.whiten(batch["summary_tokens"]) - line
            counts = bars.sum(1, keepdim=True).clamp(min=1)
            wanted = (rest * bars[..., None]).sum(1) / counts  # (B, Z)
            loss = ((self._beside_line(text, dropout) - wanted) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if number >= 0.9 * total:
                middle = ((wanted + line.mean(1)) ** 2).mean()
                late = [late[0] + loss.item(), late[1] + middle.item()]
        self.place.requires_grad_(False)
        return 1 - late[0] / late[1] if late[1] else 0.0

    # --- One look -----------------------------------------------------------------------------------------------------

    def text_triple(
        self,
        text_embed: torch.Tensor | None,
        text_pooled: torch.Tensor | None,
        text_mask: torch.Tensor | None,
        batch: int | None = None,
    ) -> TextTriple:
        """The text as the network sees it; without one, `batch` rows of nothing.

        Raises:
            ValueError: Shapes that do not fit; all are shown.
        """
        size = self.config.text_size
        if text_embed is None and text_pooled is None:
            rows, weight = batch or 1, self.from_word.weight
            zeros = weight.new_zeros(rows, 1, size, dtype=torch.float32)
            no = torch.zeros(rows, 1, dtype=torch.bool, device=weight.device)
            return TextTriple(zeros, zeros[:, 0], no, no[:, 0])
        if text_pooled is None or text_embed is None:
            raise ValueError("a text is text_embed, text_pooled and text_mask; one of the first two is missing")
        if text_mask is None:
            text_mask = torch.ones(text_embed.shape[:2], device=text_embed.device)
        shapes = [tuple(x.shape) for x in (text_embed, text_pooled, text_mask)]
        rows, length = shapes[2] if len(shapes[2]) == 2 else (-1, -1)
        if shapes[:2] != [(rows, length, size), (rows, size)] or (batch is not None and rows != batch):
            raise ValueError(
                f"text_embed, text_pooled and text_mask have the shapes {shapes}; "
                f"wanted ({'B' if batch is None else batch}, L, {size}), (B, {size}) and (B, L)"
            )
        present = torch.ones(rows, dtype=torch.bool, device=text_pooled.device)
        return TextTriple(text_embed, text_pooled, text_mask > 0.5, present)

    def source(self, text: TextTriple, bar_mask: torch.Tensor) -> torch.Tensor:
        """Where the way begins, whitened `(B, N, Z)` float32; 0 for rows without a text."""
        found = self.statistics.source(text.pooled, bar_mask)
        if self.place is not None:
            found = found + self._beside_line(text)[:, None]
        return found * text.present[:, None, None]

    def _beside_line(self, text: TextTriple, dropout: float = 0.0) -> torch.Tensor:
        """What the small network adds to the line, `(B, Z)` float32."""
        assert self.place is not None
        embed, pooled = self.statistics.embed(text.embed), self.statistics.pooled(text.pooled)
        return self.place(embed, pooled, text.mask, dropout)

    def listen(self, text: TextTriple, bar_mask: torch.Tensor) -> Known:
        """What texts of B rows and their bars, bool `(B, N)`, say to the network at all times."""
        dtype, config = self.from_sample.weight.dtype, self.config
        has_text = text.present[:, None]
        pooled = self.from_pooled(self.statistics.pooled(text.pooled).to(dtype)) * has_text  # (B, W)
        words = self.from_word(self.statistics.embed(text.embed).to(dtype))  # (B, L, W)
        words = words + word_places(words.shape[1], words.shape[2], words.device).to(dtype)
        first = self.first_word.expand(len(words), 1, -1)
        words = torch.cat([first, pooled[:, None], words], dim=1)  # (B, 2 + L, W)
        mask = torch.cat([torch.ones_like(has_text), has_text, text.mask & has_text], dim=1)
        head = config.hidden_size // config.num_attention_heads
        return Known(
            pooled=pooled,
            heard=[layer.text_attention.hear(words) for layer in self.layers],  # type: ignore[union-attr, operator]
            mask=mask[:, None, None],
            places=self.from_place(bar_places(bar_mask).to(dtype)),
            angles=rotary_angles(torch.arange(bar_mask.shape[1], device=words.device), head, base=1000.0),
            bars=bar_mask[:, None, None],
        )

    def at(self, t: torch.Tensor, known: Known) -> tuple[torch.Tensor, torch.Tensor]:
        """What times `(…, 1)` or `(B,)` and texts say to all bars, `(…, B, W)` and `(…, B, 4, W)`."""
        waves = time_waves(t.reshape(-1)).to(self.from_sample.weight.dtype).reshape(*t.shape, -1)
        state = self.time2(F.silu(self.time1(waves))) + known.pooled
        return state, self.table(F.silu(state)).unflatten(-1, (4, -1))

    def predict(
        self, sample: torch.Tensor, source: torch.Tensor, t: torch.Tensor, known: Known, told: Any = None
    ) -> torch.Tensor:
        """What the network says of z_t.

        Args:
            sample, source: z_t and where its way begins, whitened `(B, N, Z)`.
            t: Times `(B,)`.
            known: What `listen` gave.
            told: What `at` gave for these times, where that is known already.

        Returns:
            `(B, N, Z)` float32, of the configuration's `prediction_type`.
        """
        dtype = self.from_sample.weight.dtype
        state, table = self.at(t, known) if told is None else told
        seen = torch.cat([self.scheduler.centre(sample, source, t), source], dim=-1)  # (B, N, 2Z)
        x = self.from_sample(seen.to(dtype)) + known.places + state[:, None]  # (B, N, W)
        for layer, heard in zip(self.layers, known.heard, strict=True):
            x = layer(x, table, heard, known)
        return self.out(self.norm(x)).float()

    @can_return_tuple
    def forward(
        self,
        summary_tokens: torch.Tensor,
        text_embed: torch.Tensor | None = None,
        text_pooled: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        bar_mask: torch.Tensor | None = None,
        timesteps: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SummaryBridgeOutput:
        """Looks at summaries somewhere on their way, and learns to say where they come from.

        Args:
            summary_tokens: `(B, N, Z)` of music, in Museformer's own units.
            text_embed: `(B, L, T)` sequence of the text that goes with it.
            text_pooled: `(B, T)`.
            text_mask: `(B, L)`, 1 for places in use.
            bar_mask: `(B, N)`, 1 for bars that exist, from the left; all do when left out.
            timesteps: `(B,)` times, above 0 up to 1; drawn when left out.
            noise: `(B, N, Z)` standard normal; drawn when left out.
            **kwargs: Not used; there for pipelines.

        Raises:
            ValueError: Shapes that do not fit; both are shown.
        """
        config = self.config
        if summary_tokens.ndim != 3 or summary_tokens.shape[2] != config.summary_size or not summary_tokens.shape[1]:
            raise ValueError(
                f"summary_tokens have the shape {tuple(summary_tokens.shape)}, wanted (B, N, {config.summary_size})"
            )
        batch, device = len(summary_tokens), summary_tokens.device
        text = self.text_triple(text_embed, text_pooled, text_mask, batch)
        bars = torch.ones(summary_tokens.shape[:2], device=device) if bar_mask is None else bar_mask
        if tuple(bars.shape) != tuple(summary_tokens.shape[:2]):
            raise ValueError(f"bar_mask is {tuple(bars.shape)} for summaries of {tuple(summary_tokens.shape)}")
        bars = bars > 0.5
        if self.training and config.condition_dropout:
            text.present = text.present & (torch.rand(batch, device=device) >= config.condition_dropout)
        t = self._times(batch, device) if timesteps is None else timesteps.float()
        music = self.statistics.whiten(summary_tokens)
        source = self.source(text, bars)
        noise = torch.randn_like(music) if noise is None else noise.float()
        sample = self.scheduler.add_noise(music, source, noise, t)
        said = self.predict(sample, source, t, self.listen(text, bars))
        wanted = self.scheduler.target(music, source, noise, t)
        found = self.scheduler.predict_original(said, sample, source, t)
        return SummaryBridgeOutput(
            loss=((said - wanted) ** 2)[bars].mean(),
            prediction=said,
            summary_tokens=self.statistics.unwhiten(found) * bars[..., None],
            sample=sample,
        )

    def _times(self, batch: int, device: Any) -> torch.Tensor:
        """Times of a batch, spread evenly over the way with one common shift, which keeps the loss calm."""
        if self.config.single_step:
            return torch.ones(batch, device=device)
        even = (torch.arange(batch, device=device) + torch.rand(1, device=device)) / batch
        even = even[torch.randperm(batch, device=device)]
        return FIRST_TIME + (1 - FIRST_TIME) * even

    # --- The whole way ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample_summary_tokens(
        self,
        text_embed: torch.Tensor | None = None,
        text_pooled: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        num_bars: int = 16,
        num_samples: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        eta: float | None = None,
        noise_scale: float | None = None,
        generator: torch.Generator | None = None,
        sides: torch.Tensor | None = None,
        text_second: torch.Tensor | None = None, text_gloss: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Summaries for texts, to be put into Museformer.

        Args:
            text_embed, text_pooled, text_mask: As in `forward`; without them, any music.
            num_bars: N.
            num_samples: S, songs for each text.
            num_inference_steps: Steps of the sampler, 1 … 50 are of use.
            guidance_scale, noise_scale: See the configuration.
            eta: 0: the first noise decides all; up to 1: every step draws some.
            generator: Of the noise; one seed, one result.
            sides, text_second, text_gloss: See `TextWishes.steer` and `hear`.

        Returns:
            `(B · S, N, Z)` in Museformer's own units, the samples of one text one after the other.

        Raises:
            ValueError: Numbers out of range.
        """
        config = self.config
        if not 1 <= num_bars <= config.max_bars or num_samples < 1:
            raise ValueError(f"num_bars {num_bars} must be 1 … {config.max_bars}, num_samples {num_samples} 1 or more")
        guidance = config.guidance_scale if guidance_scale is None else guidance_scale
        eta = config.eta if eta is None else eta
        scale = config.noise_scale if noise_scale is None else noise_scale
        if not (0 <= guidance < math.inf and 0 <= scale < math.inf):
            raise ValueError(f"guidance_scale {guidance} and noise_scale {scale} must be 0 or more")
        steps = config.num_inference_steps if num_inference_steps is None else num_inference_steps
        steps = 1 if config.single_step else steps
        text = self.text_triple(text_embed, text_pooled, text_mask).repeat(num_samples)
        bars = torch.ones(len(text.pooled), num_bars, dtype=torch.bool, device=text.pooled.device)
        source, scheduler, parts = self.source(text, bars), self.scheduler, text.guided(guidance)
        every = bars.repeat(len(parts), 1)
        joined = TextTriple(*(torch.cat(same) for same in zip(*(vars(part).values() for part in parts), strict=True)))
        known, sources = self.listen(joined, every), source if guidance == 1 else self.source(joined, every)
        scheduler.set_timesteps(steps, device=source.device)
        sample = source + scale * (scheduler.start(source, generator) - source)
        told = zip(*self.at(scheduler.timesteps[:, None], known), strict=True)  # of all steps at once
        for t, here in zip(scheduler.timesteps, told, strict=True):
            music = self._guided(sample, source, sources, t, known, guidance, here)
            sample = scheduler.move(music, sample, source, t, scheduler.previous_timestep(t), eta, generator)
        if self.wishes is not None:
            sample = self.wishes.steer(sample, text, self.statistics, sides, text_second, text_gloss)
        return self.statistics.unwhiten(sample).to(self.dtype)

    def _guided(
        self, sample: torch.Tensor, source: torch.Tensor, sources: torch.Tensor, t: torch.Tensor, known: Known,
        guidance: float, told: Any = None,
    ) -> torch.Tensor:  # fmt: skip
        """Expected music with the text, without, or beyond (classifier-free guidance, arXiv 2207.12598).

        Without a text the way begins at 0, so the sample is moved there first: the same music, the same noise.
        """
        tau, count = self.scheduler.progress(t), len(sources) // len(sample)
        moved = sample if sources is source else (sample - tau * source).repeat(count, 1, 1) + tau * sources
        music = self.scheduler.predict_original(self.predict(moved, sources, t, known, told), moved, sources, t)
        if count == 1:
            return music
        led, free = music.chunk(2)
        return free + guidance * (led - free)


__all__ = ["SummaryBridgeModel", "SummaryBridgeOutput", "SummaryBridgePreTrainedModel", "TextTriple"]
