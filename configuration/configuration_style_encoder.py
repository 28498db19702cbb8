"""Configuration of StyleEncoder, and its presets."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

TARGETS = ("embed", "pooled", "mask")
#: Parts of the loss; see `modeling.style_losses`.
LOSSES = ("embed", "pooled", "mask", "style", "match")
LOSS_WEIGHTS = {"embed": 1.0, "pooled": 1.0, "mask": 0.5, "style": 0.5, "match": 0.0}


@strict
class StyleEncoderConfig(PreTrainedConfig):
    """A timm backbone that looks at a picture and gives what a text encoder gives.

    Args:
        model_name: Any model of timm, by its name there.
        model_args: More arguments for `timm.create_model`, such as `{"img_size": 112}` for a vision transformer. Kept
            so that a reload builds the same backbone; `pretrained` is not among them: weights come from the checkpoint.
        num_tokens: L, places of the sequence embedding.
        embed_size: D, width of the sequence and the pooled embedding: that of the text encoder to be matched.
        style_size: Width of the style vector.
        hidden_size: Width inside the heads.
        num_query_layers: Layers in which the learned queries attend over the feature map.
        num_attention_heads: Their heads.
        style_maps: Feature maps, spread evenly over the depth of the backbone, whose statistics make the style; all of
            them where there are no more.
        drawing: Whether the style also goes by what is measured at the pixels (`modeling.style_drawing`): widths of
            lines and gaps, edges, tones, colours.
        ignore_targets: Targets that are not learnt, of `embed`, `pooled`, `mask`; given ones are passed over.
        loss_weights: Weights of the parts of the loss, of `embed`, `pooled`, `mask`, `style`, `match`; a part that is
            not named keeps its default.
        temperature: Of the contrastive part over styles, and over the texts of a batch.
        match_temperature: Of the contrastive part over a table of names.
        text_encoder: The text encoder whose output is learnt, as `processing.text_encoder` names it, where it is known.
        style_names: What the style labels stand for, where it is known.
        initializer_range: Standard deviation of new matrices.
    """

    model_type = "style_encoder"

    model_name: str = "tf_efficientnet_lite0"
    model_args: dict[str, Any] = field(default_factory=dict)
    num_tokens: int = 16
    embed_size: int = 384
    style_size: int = 128
    hidden_size: int = 256
    num_query_layers: int = 2
    num_attention_heads: int = 4
    style_maps: int = 3
    drawing: bool = False
    ignore_targets: list[str] | tuple[str, ...] = ()
    loss_weights: dict[str, float | int] = field(default_factory=dict)
    temperature: float = 0.1
    match_temperature: float = 0.05
    text_encoder: str = ""
    style_names: list[str] | tuple[str, ...] = ()
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.ignore_targets = tuple(self.ignore_targets)
        self.style_names = tuple(self.style_names)
        for name in ("num_tokens", "embed_size", "style_size", "hidden_size", "num_query_layers", "style_maps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        unknown = [name for name in self.ignore_targets if name not in TARGETS]
        if unknown:
            raise ValueError(f"ignore_targets names {unknown[0]!r}; there are {', '.join(TARGETS)}")
        unknown = [name for name in self.loss_weights if name not in LOSSES]
        if unknown:
            raise ValueError(f"loss_weights names {unknown[0]!r}; there are {', '.join(LOSSES)}")
        negative = {name: weight for name, weight in self.loss_weights.items() if weight < 0}
        if negative:
            raise ValueError(f"loss_weights must not be negative, got {negative}")
        for name in ("temperature", "match_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if "pretrained" in self.model_args:
            raise ValueError("model_args holds 'pretrained', but weights of a checkpoint come from the checkpoint")
        self.loss_weights = {**LOSS_WEIGHTS, **self.loss_weights}


def small_config(**changes: Any) -> StyleEncoderConfig:
    """EfficientNet-Lite0: 5.4 M parameters with the heads, for the CPU."""
    return StyleEncoderConfig(**{"model_name": "tf_efficientnet_lite0", **changes})


def vit_config(**changes: Any) -> StyleEncoderConfig:
    """ViT-B/16 at 224 pixels: 88 M parameters, for a GPU."""
    sizes = {"hidden_size": 512, "num_attention_heads": 8}
    return StyleEncoderConfig(**{"model_name": "vit_base_patch16_224", **sizes, **changes})


PRESETS = {"small": small_config, "vit": vit_config}

__all__ = ["LOSSES", "LOSS_WEIGHTS", "PRESETS", "TARGETS", "StyleEncoderConfig", "small_config", "vit_config"]
