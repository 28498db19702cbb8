"""Configuration of ScoreVLM: a picture of tab or score in, alphaTex out."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .configuration_score_tower import ScoreTowerConfig

AutoConfig.register("score_tower", ScoreTowerConfig, exist_ok=True)  # a flat export has no package to do it


def sub_config(value: dict | PreTrainedConfig | None, default: str) -> PreTrainedConfig:
    """A part's configuration from what a file or a caller gives.

    Args:
        value: A configuration, its dictionary (with `model_type`), or `None`.
        default: Model type when the value names none.
    """
    if isinstance(value, PreTrainedConfig):
        return value
    options = dict(value or {})
    return AutoConfig.for_model(options.pop("model_type", default), **options)


@strict
class ScoreVLMConfig(PreTrainedConfig):
    """Vision tower, connector and language model.

    Args:
        vision_config: Configuration of the tower: `score_tower` (default, with dense heads), or any that `AutoModel`
            knows, timm's wrapper among them.
        text_config: Configuration of any causal language model; transformers' NanoChat by default.
        connector: `"mlp"`: projected image features take the place of the `<|image|>` tokens.
        image_token_id: Id of `<|image|>`.
        image_column_px: Width of the column of pixels behind one image token.
        vision_rows: Rows that a feature map of a general tower is pooled to before its columns are projected.
        projector_hidden_act: Activation in the projector.
        evidence_weight: How much the tower's dense heads weigh in the choices of the language model when systems are
            read (factor on their log odds); chosen on validation data: it depends on how well both were trained.
    """

    model_type = "score_vlm"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    connector: Literal["mlp"] = "mlp"
    image_token_id: int = 4
    image_column_px: int = 8
    vision_rows: int = 4
    projector_hidden_act: str = "gelu"
    evidence_weight: float | int = 1.0
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        self.vision_config = sub_config(self.vision_config, "score_tower")
        self.text_config = sub_config(self.text_config, "nanochat")
        super().__post_init__(**kwargs)
        vocab_size = self.text_config.vocab_size  # type: ignore[union-attr] # a config by now
        if not 0 <= self.image_token_id < vocab_size:
            raise ValueError(f"image_token_id {self.image_token_id} lies outside the vocabulary of {vocab_size}")
        if self.evidence_weight < 0:
            raise ValueError(f"evidence_weight must not be negative, got {self.evidence_weight}")
        column_px = getattr(self.vision_config, "column_px", None)
        if column_px is not None and column_px != self.image_column_px:
            raise ValueError(f"image_column_px {self.image_column_px} differs from the tower's column_px {column_px}")


__all__ = ["ScoreVLMConfig"]
