"""ScoreVLM: reads a picture of tab or score and writes alphaTex."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, Cache, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from ..configuration.configuration_score_tower import ScoreTowerConfig
from ..configuration.configuration_score_vlm import ScoreVLMConfig
from ..processing.multimodal_utils import check_placeholders, count_image_tokens, place_features
from .connectors import MLPConnector
from .fusion import FusionConnector, Pictures
from .modeling_score_tower import ScoreTowerModel, ScoreTowerOutput
from .tower_evidence import dense_evidence, evidence_size
from .tower_features import (
    as_photograph,
    feature_map,
    feature_width,
    fit_pictures,
    pooled_columns,
    shown_tokens,
    unread_parameters,
)

AutoModel.register(ScoreTowerConfig, ScoreTowerModel, exist_ok=True)  # a flat export has no package to do it


@dataclass
class ScoreVLMOutput(ModelOutput):
    """Output of ScoreVLM.

    Attributes:
        loss: Language modelling loss, plus the dense loss when dense labels were given.
        logits: `(B, L, vocab)`.
        past_key_values: Cache.
        image_hidden_states: Projected image features of all pictures in a row, `(sum of columns, D)`; with
            cross-attention `(pictures, K, D)`.
        losses: Single losses by name, detached.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    image_hidden_states: torch.FloatTensor | None = None
    losses: dict[str, torch.Tensor] | None = None


def _sum_losses(
    text: torch.Tensor | None, dense: ScoreTowerOutput | None
) -> tuple[torch.Tensor | None, dict[str, torch.Tensor] | None]:
    """The loss of the text and, when there is one, of the dense heads; and the single losses, detached."""
    losses = {} if text is None else {"text": text.detach()}
    if dense is None or dense.loss is None:
        return text, losses or None
    return dense.loss if text is None else text + dense.loss, losses | (dense.losses or {})


class ScoreVLMPreTrainedModel(PreTrainedModel):
    """What transformers has to know of ScoreVLM, and how its own weights begin."""

    config_class = ScoreVLMConfig  # an annotation alone is only a string under deferred annotations
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_attention_backend = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Tower and language model initialise themselves: transformers walks into each of them by its own rule.
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=0.02)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)


class ScoreVLMForConditionalGeneration(ScoreVLMPreTrainedModel, GenerationMixin):
    """Vision tower, connector, causal language model.

    `connector="mlp"`:
    ```
    pixel_values ─tower─▶ columns (B, T, D) + dense evidence ─projector─▶ (sum T, D') ─┐
    input_ids ─embedding─▶ (B, L, D'), features in place of <|image|> ◀────────────────┘ ─▶ language model ─▶ logits
    ```
    The projector sees what the tower's dense heads read, beside its features: early in training the heads are by far
    the better reader. (LLaVA projects features only.)

    `connector="cross_attention"`, the language model frozen:
    ```
    pixel_values ─tower─▶ tokens (N, K, D) ─projection─▶ (N, K, D') ───keys, values───┐
    input_ids ─▶ layers 0 1 2 ─▶ three gated layers that look at the last picture shown ◀┘ ─▶ layers 3 … 7 ─▶ logits
    ```
    Without a picture the gated layers are passed by: the answer is the language model's, bit for bit.
    """

    def __init__(self, config: ScoreVLMConfig) -> None:
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        vision: Any = config.vision_config
        text: Any = config.text_config
        self.dense = isinstance(vision, ScoreTowerConfig)
        self.fused = config.connector == "cross_attention"
        width = feature_width(self.vision_tower, config.vision_feature_layer if self.fused else -1)
        if self.fused:
            inputs = width + evidence_size(vision) if self.dense else width
            heads, places = text.num_attention_heads, config.fusion_layers or []
            self.connector: nn.Module = FusionConnector(inputs, text.hidden_size, heads, places)
        else:
            inputs = width + evidence_size(vision) if self.dense else width * config.vision_rows
            self.connector = MLPConnector(inputs, text.hidden_size, config.projector_hidden_act)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        if self.fused:
            self.connector.attach(self.get_decoder().layers)
            self.requires_grad_(True)
        self.post_init()
        self.generation_config.suppress_tokens = [config.image_token_id]  # pictures are read, never written

    def get_input_embeddings(self) -> nn.Module:
        """The language model's token embedding."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replaces it."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The language model's head."""
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replaces it; `resize_token_embeddings` does."""
        self.language_model.set_output_embeddings(new_embeddings)

    def get_decoder(self) -> nn.Module:
        """The language model without its head."""
        return self.language_model.get_decoder()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As transformers does it; loading sets every parameter free, so what is frozen is frozen again."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if model.fused:
            model.requires_grad_(True)
        return loaded

    def requires_grad_(self, requires_grad: bool = True) -> ScoreVLMForConditionalGeneration:
        """Lets all learn or nothing; with cross-attention never the language model, nor what of the tower is unread."""
        super().requires_grad_(requires_grad)
        if self.fused:
            self.language_model.requires_grad_(False)
            if not self.dense:
                for parameter in unread_parameters(self.vision_tower, self.config.vision_feature_layer):
                    parameter.requires_grad_(False)
        return self

    def read_dense(
        self,
        pixel_values: torch.Tensor,
        widths: torch.Tensor | None = None,
        dense_labels: dict[str, torch.Tensor] | None = None,
    ) -> ScoreTowerOutput:
        """What the tower's dense heads see; see `ScoreTowerModel.forward`."""
        if not self.dense:
            raise ValueError(f"a {self.config.vision_config.model_type} tower has no dense heads; use a score_tower")
        return self.vision_tower(pixel_values, widths=widths, dense_labels=dense_labels)

    def get_image_features(
        self,
        pixel_values: torch.Tensor | None = None,
        widths: torch.Tensor | None = None,
        dense: ScoreTowerOutput | None = None,
    ) -> torch.Tensor:
        """Projected features of the columns of all pictures, one after the other, padding left out.

        Args:
            pixel_values: `(B, C, H, W)`; not needed with `dense`.
            widths: `(B,)` widths in pixels before padding.
            dense: Output of `read_dense`, when it is there already.

        Returns:
            `(sum of columns, D')`; with cross-attention `(B, K, D')`, padding as zeros.
        """
        if self.fused:
            return self.connector.project(*self._picture_tokens(pixel_values, widths, dense))
        if self.dense:
            columns = self._dense_columns(pixel_values, widths, dense)
        else:
            assert pixel_values is not None
            count = count_image_tokens(pixel_values.shape[-1], self.config.image_column_px)
            columns = pooled_columns(self.vision_tower, pixel_values, self.dtype, self.config.vision_rows, count)
        features = self.connector(columns)  # (B, T, D')
        if widths is None:
            return features.flatten(0, 1)
        counts = [count_image_tokens(width, self.config.image_column_px) for width in widths.tolist()]
        return torch.cat([row[:count] for row, count in zip(features, counts, strict=True)])

    def _dense_columns(
        self, pixel_values: torch.Tensor | None, widths: torch.Tensor | None, dense: ScoreTowerOutput | None
    ) -> torch.Tensor:
        """Columns of our own tower with what its dense heads read, `(B, T, D + E)`."""
        out = dense or self.read_dense(pixel_values, widths)
        assert out.dense_logits is not None and out.last_hidden_state is not None
        evidence = dense_evidence(out.dense_logits).to(out.last_hidden_state.dtype)
        return torch.cat([out.last_hidden_state, evidence], dim=-1)

    def _picture_tokens(
        self, pixel_values: torch.Tensor | None, widths: torch.Tensor | None, dense: ScoreTowerOutput | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens `(B, K, ·)` for the fusion layers, and which of them show no padding, `(B, K)` bool."""
        config = self.config
        if self.dense:
            found = self._dense_columns(pixel_values, widths, dense)[:, None]  # (B, 1, T, ·): a map of one row
            return shown_tokens(found, found.shape[2] * config.vision_config.column_px, widths)
        assert pixel_values is not None
        if config.picture_size is not None:
            pixel_values, widths = fit_pictures(pixel_values, widths, config.picture_size)
        channels = getattr(config.vision_config, "num_channels", 3)
        pixels = as_photograph(pixel_values, channels, config.picture_mean, config.picture_std).to(self.dtype)
        found = feature_map(self.vision_tower, pixels, config.vision_feature_layer)  # (B, D, h, w)
        return shown_tokens(found.permute(0, 2, 3, 1), pixel_values.shape[-1], widths)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        widths: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        dense_labels: dict[str, torch.Tensor] | None = None,
        image_features: torch.Tensor | None = None,
        pictures: Pictures | None = None,
        **kwargs: Any,
    ) -> ScoreVLMOutput:
        """One pass.

        Args:
            input_ids: `(B, L)`, with `<|image|>` once for each column of each picture (cross-attention: once for each
                picture).
            pixel_values: `(pictures, 1, H, W)` in [0, 1], 1 = ink.
            widths: `(pictures,)` widths in pixels before padding.
            labels: `(B, L)`, -100 where nothing is learnt.
            dense_labels: Also adds the tower's dense loss; see `dense_losses`.
            image_features: Output of `get_image_features`, in place of `pixel_values`.
            pictures: Cross-attention: what was looked at before, in place of both.

        Raises:
            ValueError: Neither or both of `input_ids` and `inputs_embeds`, or image tokens that do not match the
                pictures.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        dense = None
        if pixel_values is not None and image_features is None:
            dense = self.read_dense(pixel_values, widths, dense_labels) if self.dense else None
            image_features = self.get_image_features(pixel_values, widths, dense)
        if self.fused:
            pictures = pictures or self._pictures(input_ids, image_features)
            kwargs |= {} if pictures is None else {"pictures": pictures}
        elif image_features is not None:
            inputs_embeds = self._place(input_ids, inputs_embeds, image_features)
        out = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            return_dict=True,
            **kwargs,
        )
        loss, losses = _sum_losses(out.loss, dense)
        parts = {name: out.get(name) for name in ("logits", "past_key_values", "hidden_states", "attentions")}
        return ScoreVLMOutput(loss=loss, losses=losses, image_hidden_states=image_features, **parts)

    def _place(
        self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor, features: torch.Tensor
    ) -> torch.Tensor:
        if input_ids is None:
            raise ValueError("pictures need input_ids: the <|image|> tokens tell where they go")
        return place_features(input_ids, inputs_embeds, features, self.config.image_token_id)

    def _pictures(self, input_ids: torch.Tensor | None, features: torch.Tensor | None) -> Pictures | None:
        """What the fusion layers look at; `None` where there is no picture."""
        if self.training and any(p.requires_grad for p in self.language_model.parameters()):
            raise ValueError("the language model under connector='cross_attention' is frozen; let the connector learn")
        if features is None:
            return None
        if input_ids is None:
            raise ValueError("pictures need input_ids: the <|image|> tokens tell where they go")
        shown = (input_ids == self.config.image_token_id).long()  # (B, L)
        return self.connector.look(features, shown.sum(-1)).at(shown.cumsum(-1) - 1)

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        pixel_values: torch.Tensor | None = None,
        widths: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        picture_states: torch.Tensor | None = None,
        picture_mask: torch.Tensor | None = None,
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> dict:
        """Adds the pictures to the first step; with a cache they are in it afterwards.

        Fusion layers look at every step, at keys and values that were made once.
        """
        inputs = super().prepare_inputs_for_generation(input_ids, is_first_iteration=is_first_iteration, **kwargs)
        if self.fused:
            if picture_states is not None and picture_mask is not None:
                index = (input_ids == self.config.image_token_id).long().cumsum(-1) - 1
                index = index[:, -inputs["input_ids"].shape[1] :]
                inputs["pictures"] = Pictures(picture_states, picture_mask, index)
            return inputs
        if is_first_iteration or not kwargs.get("use_cache", True):
            inputs |= {"pixel_values": pixel_values, "widths": widths, "image_features": image_features}
        return inputs

    def _expand_inputs_for_generation(
        self,
        expand_size: int = 1,
        is_encoder_decoder: bool = False,
        input_ids: torch.LongTensor | None = None,
        **model_kwargs: Any,
    ) -> tuple[torch.LongTensor, dict[str, Any]]:
        """Beams and samples of a prompt share its pictures, which are looked at once.

        transformers repeats every tensor row by row; a prompt with two pictures would get the first one twice.
        """
        pictures, widths = model_kwargs.pop("pixel_values", None), model_kwargs.pop("widths", None)
        features = model_kwargs.pop("image_features", None)
        if self.fused and input_ids is not None and (pictures is not None or features is not None):
            features = self.get_image_features(pictures, widths) if features is None else features
            looked = self.connector.look(features, (input_ids == self.config.image_token_id).sum(-1))
            model_kwargs |= {"picture_states": looked.states, "picture_mask": looked.mask}  # repeated row by row
            return super()._expand_inputs_for_generation(expand_size, is_encoder_decoder, input_ids, **model_kwargs)
        if expand_size == 1 or input_ids is None or (pictures is None and features is None):
            model_kwargs |= {"pixel_values": pictures, "widths": widths, "image_features": features}
            return super()._expand_inputs_for_generation(expand_size, is_encoder_decoder, input_ids, **model_kwargs)
        if features is None:
            features = self.get_image_features(pictures, widths)
        counts = (input_ids == self.config.image_token_id).sum(-1).tolist()  # of each prompt
        check_placeholders(sum(counts), features.shape[0])
        copies = [part for part in features.split(counts) for _ in range(expand_size)]
        ids, expanded = super()._expand_inputs_for_generation(
            expand_size, is_encoder_decoder, input_ids, **model_kwargs
        )
        return ids, expanded | {"image_features": torch.cat(copies)}


__all__ = [
    "ScoreVLMForConditionalGeneration",
    "ScoreVLMOutput",
    "ScoreVLMPreTrainedModel",
    "dense_evidence",
    "evidence_size",
]
