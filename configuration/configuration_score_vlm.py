"""Configuration of ScoreVLM: a picture of tab or score in, alphaTex out."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from .configuration_score_tower import ScoreTowerConfig
from .score_vlm_towers import text_options, tower_options

AutoConfig.register("score_tower", ScoreTowerConfig, exist_ok=True)  # a flat export has no package to do it

FUSION_COUNT, BEFORE_THE_LAST = 3, 5


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
            knows, timm's wrapper among them. With `cross_attention` a small ViT by default.
        text_config: Configuration of any causal language model; transformers' NanoChat by default.
        connector: `"mlp"`: projected image features take the place of the `<|image|>` tokens (LLaVA).
            `"cross_attention"`: the language model is frozen and looks at the picture through gated layers of its own;
            the text has one `<|image|>` for each picture.
        image_token_id: Id of `<|image|>`.
        image_column_px: `mlp`: width of the column of pixels behind one image token.
        vision_rows: `mlp`: rows that a feature map of a general tower is pooled to before its columns are projected.
        fusion_layers: `cross_attention`: for each fusion layer the layer of the language model before which it stands,
            counted from 0; three before the last five by default. `[3, 5, 7]` spreads them.
        vision_feature_layer: `cross_attention`: layer of a general tower that is read, from its end; -1 is its output.
        picture_size: `cross_attention`: height and width that pictures are scaled to fit for a general tower; `None`
            leaves them as they are.
        picture_mean, picture_std: `cross_attention`: of a general tower that knows photographs, by channel: it gets
            white as 1, then normalised. `None`: it gets the ink as it is.
        projector_hidden_act: Activation in the projector.
        evidence_weight: How much the tower's dense heads weigh in the choices of the language model when systems are
            read (factor on their log odds); chosen on validation data: it depends on how well both were trained.
    """

    model_type = "score_vlm"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}

    vision_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    connector: Literal["mlp", "cross_attention"] = "mlp"
    image_token_id: int = 4
    image_column_px: int = 8
    vision_rows: int = 4
    projector_hidden_act: str = "gelu"
    evidence_weight: float | int = 1.0
    fusion_layers: list[int] | None = None
    vision_feature_layer: int = -2
    picture_size: list[int] | None = None
    picture_mean: list[float] | None = None
    picture_std: list[float] | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        if self.connector == "cross_attention":
            self._set_fusion_defaults()
        self.vision_config = sub_config(self.vision_config, "score_tower")
        self.text_config = sub_config(self.text_config, "nanochat")
        super().__post_init__(**kwargs)
        vocab_size = self.text_config.vocab_size  # type: ignore[union-attr] # a config by now
        if not 0 <= self.image_token_id < vocab_size:
            raise ValueError(f"image_token_id {self.image_token_id} lies outside the vocabulary of {vocab_size}")
        if self.evidence_weight < 0:
            raise ValueError(f"evidence_weight must not be negative, got {self.evidence_weight}")
        if self.connector == "cross_attention":
            self._check_fusion()
            return
        column_px = getattr(self.vision_config, "column_px", None)
        if column_px is not None and column_px != self.image_column_px:
            raise ValueError(f"image_column_px {self.image_column_px} differs from the tower's column_px {column_px}")

    def _set_fusion_defaults(self) -> None:
        if self.vision_config is None:
            for name, value in tower_options("small").items():
                setattr(self, name, value)
        text: Any = sub_config(self.text_config or text_options(), "nanochat")
        self.text_config = text
        if self.fusion_layers is None:
            layers = text.num_hidden_layers
            self.fusion_layers = [max(0, layers - BEFORE_THE_LAST)] * FUSION_COUNT

    def _check_fusion(self) -> None:
        text: Any = self.text_config
        places = self.fusion_layers or []
        if not places or places != sorted(places) or places[0] < 0 or places[-1] >= text.num_hidden_layers:
            raise ValueError(
                f"fusion_layers is {places}, but the language model has the layers 0 to {text.num_hidden_layers - 1}; "
                "name at least one of them, in order"
            )
        if self.vision_feature_layer >= 0:
            raise ValueError(f"vision_feature_layer counts from the end, -1 or less, got {self.vision_feature_layer}")
        if self.picture_size is not None and (len(self.picture_size) != 2 or min(self.picture_size) < 1):
            raise ValueError(f"picture_size is a height and a width, got {self.picture_size}")
        if (self.picture_mean is None) != (self.picture_std is None):
            raise ValueError(f"picture_mean {self.picture_mean} and picture_std {self.picture_std} go together")


__all__ = ["ScoreVLMConfig"]
