"""Configuration of SummaryBridge, its presets, and those of the models it is compared with."""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..modeling.scheduling_bridge import MAX_STEPS, check_bridge
from .configuration_museformer import NUM_MEASURES

SOURCES = ("text", "none")


@strict
class SummaryBridgeConfig(PreTrainedConfig):
    """A transformer over bars that carries a text's place among Museformer's summaries to summaries of music.

    Args:
        summary_size: Numbers in a summary: Museformer's `summary_size`.
        text_size: Width of the text encoder's sequence and pooled embedding.
        hidden_size: Width inside.
        num_hidden_layers: Layers.
        num_attention_heads: Heads.
        intermediate_size: Width of the feed-forward.
        dropout: Dropout after attention and feed-forward.
        prediction_type: What the network says: `i2sb`, `x0`, `flow` or `epsilon`; see `modeling.scheduling_bridge`.
        schedule: Course of the way over time, `linear` or `cosine`.
        bridge_noise: Noise on the way, in units of the whitened summaries.
        end_noise: Noise at the text end.
        source: Where the way begins: `text`, the place that a line through the data gives a text, or `none`, the middle
            of all summaries.
        place_size: Width of the small network that says of a text's place what a line can not (`modeling.text_place`);
            0: the line alone.
        wish_size: Width of the network that reads what a text wants of the music, so that plans can be moved to it
            (`modeling.text_wishes`); 0: plans stay as the bridge makes them.
        wish_images: Texts of images that it compares a picture in words with.
        second_text_size: Width of another text encoder's embedding, by which it compares them, too; 0: there is none.
        single_step: Learn at the text end only and answer in one step: plain regression, without any noise.
        condition_dropout: Part of the training rows that hide their text, for guidance.
        spacing: How much finer the sampler's steps are near the music; 1: even.
        num_inference_steps: Steps of the sampler, where nothing else is asked for.
        guidance_scale: How far samples are pushed from what they would be without a text; 1: not at all.
        noise_scale: Part of the noise at the text end that samples begin with: 1 as in training; less keeps nearer to
            what most music of such a text is, and makes songs of one text more alike.
        eta: Part of the new noise in each step, 0 … 1.
        max_bars: Most bars that may be asked for.
        text_encoder: The text encoder that it learnt from, as `processing.text_encoder` names it, where it is known.
        initializer_range: Standard deviation of new matrices.
    """

    model_type = "summary_bridge"

    summary_size: int = 32
    text_size: int = 512
    hidden_size: int = 256
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 512
    dropout: float | int = 0.1
    prediction_type: str = "i2sb"
    schedule: str = "cosine"
    bridge_noise: float | int = 1.0
    end_noise: float | int = 1.0
    source: str = "text"
    place_size: int = 256
    wish_size: int = 0
    wish_images: int = 0
    second_text_size: int = 0
    single_step: bool = False
    condition_dropout: float | int = 0.1
    spacing: float | int = 1.5
    num_inference_steps: int = 10
    guidance_scale: float | int = 1.5
    noise_scale: float | int = 1.0
    eta: float | int = 0.0
    max_bars: int = 1024
    text_encoder: str = ""
    initializer_range: float | int = 0.02

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        sizes = ("summary_size", "text_size", "hidden_size", "num_hidden_layers", "intermediate_size", "max_bars")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        heads = self.num_attention_heads
        if heads < 1 or self.hidden_size % (2 * heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of twice the num_attention_heads {heads}"
            )
        check_bridge(self.prediction_type, self.schedule, self.bridge_noise, self.end_noise, self.spacing)
        if self.source not in SOURCES:
            raise ValueError(f"source is {self.source!r}; use one of {', '.join(SOURCES)}")
        if self.place_size < 0:
            raise ValueError(f"place_size is {self.place_size}; it must be 0 or more")
        if min(self.wish_size, self.wish_images, self.second_text_size) < 0 or (
            self.wish_size and self.summary_size < NUM_MEASURES
        ):
            raise ValueError(
                f"wish_size {self.wish_size}, wish_images {self.wish_images} and second_text_size "
                f"{self.second_text_size} must be 0 or more, and wishes need "
                f"summaries that begin with {NUM_MEASURES} measures; summary_size is {self.summary_size}"
            )
        if self.single_step and (self.prediction_type != "x0" or self.bridge_noise or self.end_noise):
            raise ValueError(
                f"single_step is plain regression: prediction_type 'x0' and no noise, got {self.prediction_type!r}, "
                f"bridge_noise {self.bridge_noise} and end_noise {self.end_noise}"
            )
        if not 1 <= self.num_inference_steps <= MAX_STEPS:
            raise ValueError(f"num_inference_steps is {self.num_inference_steps}; it must be 1 … {MAX_STEPS}")
        for name in ("condition_dropout", "eta"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1]")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1)")
        if not 0 <= self.noise_scale < float("inf"):
            raise ValueError(f"noise_scale is {self.noise_scale}; it must be 0 or more")
        if self.guidance_scale < 0:
            raise ValueError(f"guidance_scale is {self.guidance_scale}; it must be 0 or more")


def bridge_tiny(**changes: Any) -> SummaryBridgeConfig:
    """For tries: seconds on one core."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    sizes["place_size"] = 64
    return SummaryBridgeConfig(**{**sizes, **changes})


def bridge_small(**changes: Any) -> SummaryBridgeConfig:
    """The bridge: 4 million parameters. Its text end is a cloud around the text's place: songs differ from there on."""
    return SummaryBridgeConfig(**changes)


def bridge_pinned(**changes: Any) -> SummaryBridgeConfig:
    """A bridge that begins at the text's very place, as I²SB does; on a toy with two songs for each text less exact."""
    return SummaryBridgeConfig(**{"end_noise": 0.0, **changes})


def noise_flow(**changes: Any) -> SummaryBridgeConfig:
    """To compare with: flow matching from noise, the text as condition only (arXiv 2210.02747)."""
    settings: dict[str, Any] = dict(
        prediction_type="flow",
        schedule="linear",
        bridge_noise=0.0,
        end_noise=1.0,
        source="none",
        spacing=1.0,
        place_size=0,
    )
    return SummaryBridgeConfig(**{**settings, **changes})


def regression(**changes: Any) -> SummaryBridgeConfig:
    """To compare with: the same network says the mean at once."""
    settings: dict[str, Any] = dict(
        prediction_type="x0", bridge_noise=0.0, end_noise=0.0, single_step=True, num_inference_steps=1,
        guidance_scale=1.0,
    )  # fmt: skip
    return SummaryBridgeConfig(**{**settings, **changes})


PRESETS = {
    "tiny": bridge_tiny, "small": bridge_small, "pinned": bridge_pinned, "noise_flow": noise_flow,
    "regression": regression,
}  # fmt: skip

__all__ = ["PRESETS", "SummaryBridgeConfig"]
