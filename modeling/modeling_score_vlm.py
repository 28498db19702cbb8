"""ScoreVLM: reads a picture of tab or score and writes alphaTex."""

from __future__ import annotations

import inspect
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
from .connectors import MLPConnector, running_counts
from .dense_losses import FLAGS
from .modeling_score_tower import SLOTS, ScoreTowerModel, ScoreTowerOutput

AutoModel.register(ScoreTowerConfig, ScoreTowerModel, exist_ok=True)  # a flat export has no package to do it

COUNT_PERIODS = 8


@dataclass
class ScoreVLMOutput(ModelOutput):
    """Output of ScoreVLM.

    Attributes:
        loss: Language modelling loss, plus the dense loss when dense labels were given.
        logits: `(B, L, vocab)`.
        past_key_values: Cache.
        image_hidden_states: Projected image features of all pictures in a row, `(sum of columns, D)`.
        losses: Single losses by name, detached.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    image_hidden_states: torch.FloatTensor | None = None
    losses: dict[str, torch.Tensor] | None = None


def dense_evidence(logits: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the dense heads saw, as features of columns: probabilities, and how many beats and bars have passed.

    Args:
        logits: Fields of `DenseHeads`.

    Returns:
        `(B, T / 2, E)` float32, one row a column; attributes count only as far as the thing they belong to is there.
    """
    frets = logits["frets"].softmax(-1)  # (B, S, T, F)
    beats = logits["beats"].softmax(-1)  # (B, V, T, 3)
    note_here, beat_here = 1 - frets[..., :1], 1 - beats[..., :1]
    start = logits["bar_edges"].sigmoid()  # (B, T, 2)
    parts = [frets[..., 1:], logits["string_voice"].softmax(-1) * note_here]
    parts += [logits["note_effects"].sigmoid() * note_here]
    parts += [beats[..., 1:]]
    for name in ("durations", "dots", "tuplets", "graces", "beat_effects"):
        values = logits[name].sigmoid() if name in FLAGS else logits[name].softmax(-1)
        parts.append(values * beat_here)
    features = [part.transpose(1, 2).flatten(2) for part in parts]  # each (B, T, ·)
    features += [
        start,
        logits["bar_starts"].sigmoid() * start[..., :1],
        logits["bar_ends"].sigmoid() * start[..., 1:],
        logits["tempo_digits"].softmax(-1).flatten(2) * beat_here[:, 0],
        running_counts(beat_here[:, 0, :, 0], COUNT_PERIODS),
        running_counts(start[..., 0], COUNT_PERIODS),
    ]
    evidence = torch.cat(features, dim=-1)  # (B, T, ·)
    return evidence.reshape(evidence.shape[0], evidence.shape[1] // SLOTS, -1)  # both slots of a column together


def evidence_size(config: ScoreTowerConfig) -> int:
    """Number of features of `dense_evidence`."""
    size = {name: len(classes) for name, classes in config.labels.items()}
    string = size["frets"] + config.max_voices + size["note_effects"]
    voice = 2 + size["durations"] + 3 + (1 + size["tuplets"]) + (1 + size["graces"]) + size["beat_effects"]
    column = 2 + size["bar_starts"] + size["bar_ends"] + 30 + 4 * COUNT_PERIODS
    return SLOTS * (config.max_strings * string + config.max_voices * voice + column)


def feature_width(tower: nn.Module) -> int:
    """Channels of the features that a tower gives; timm's wrapper keeps them out of its configuration."""
    return tower.timm_model.num_features if hasattr(tower, "timm_model") else tower.config.hidden_size


def patch_size(tower: nn.Module) -> tuple[int, int]:
    """Height and width in pixels of a transformer tower's patches.

    Raises:
        ValueError: The tower does not say.
    """
    wrapped = getattr(tower, "timm_model", None)
    size = getattr(tower.config if wrapped is None else getattr(wrapped, "patch_embed", None), "patch_size", None)
    if size is None:
        raise ValueError(f"a {tower.config.model_type} tower gives a sequence of patches, but no patch_size")
    return (size, size) if isinstance(size, int) else tuple(size)


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
    """Vision tower, projector, causal language model.

    ```
    pixel_values ─tower─▶ columns (B, T, D) + dense evidence ─projector─▶ (sum T, D') ─┐
    input_ids ─embedding─▶ (B, L, D'), features in place of <|image|> ◀────────────────┘ ─▶ language model ─▶ logits
    ```
    The projector sees what the tower's dense heads read, beside its features: early in training the heads are by far
    the better reader. (LLaVA projects features only.)
    """

    def __init__(self, config: ScoreVLMConfig) -> None:
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        vision: Any = config.vision_config
        text: Any = config.text_config
        self.dense = isinstance(vision, ScoreTowerConfig)
        width = feature_width(self.vision_tower)
        inputs = width + evidence_size(vision) if self.dense else width * config.vision_rows
        self.connector = MLPConnector(inputs, text.hidden_size, config.projector_hidden_act)
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
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
            `(sum of columns, D')`.
        """
        if self.dense:
            out = dense or self.read_dense(pixel_values, widths)
            assert out.dense_logits is not None and out.last_hidden_state is not None
            evidence = dense_evidence(out.dense_logits).to(out.last_hidden_state.dtype)
            columns = torch.cat([out.last_hidden_state, evidence], dim=-1)  # (B, T, D + E)
        else:
            columns = self._general_columns(pixel_values)
        features = self.connector(columns)  # (B, T, D')
        if widths is None:
            return features.flatten(0, 1)
        counts = [count_image_tokens(width, self.config.image_column_px) for width in widths.tolist()]
        return torch.cat([row[:count] for row, count in zip(features, counts, strict=True)])

    def _general_columns(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Columns of the feature map of any tower, `(B, T, D * rows)`."""
        columns = count_image_tokens(pixel_values.shape[-1], self.config.image_column_px)
        if pixel_values.shape[1] == 1:
            pixel_values = pixel_values.expand(-1, 3, -1, -1)
        # Pictures of music are long: a transformer's position table is stretched to them.
        stretch = "interpolate_pos_encoding" in inspect.signature(self.vision_tower.forward).parameters
        options = {"interpolate_pos_encoding": True} if stretch else {}
        hidden = self.vision_tower(pixel_values.to(self.dtype), **options).last_hidden_state
        if hidden.ndim == 3:  # (B, prefix + h * w, D): a transformer's patches, after its class token
            high, wide = patch_size(self.vision_tower)
            grid = pixel_values.shape[-2] // high, pixel_values.shape[-1] // wide
            hidden = hidden[:, -grid[0] * grid[1] :].transpose(1, 2).unflatten(2, grid)  # (B, D, h, w)
        elif hidden.shape[1] != feature_width(self.vision_tower):
            hidden = hidden.permute(0, 3, 1, 2)  # timm's Swin keeps channels last
        # Rows are pooled to a fixed number, columns to one for each image token; a wide picture stays wide.
        hidden = nn.functional.adaptive_avg_pool2d(hidden, (self.config.vision_rows, columns))  # (B, D, rows, T)
        return hidden.flatten(1, 2).transpose(1, 2)

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
        **kwargs: Any,
    ) -> ScoreVLMOutput:
        """One pass.

        Args:
            input_ids: `(B, L)`, with `<|image|>` once for each column of each picture.
            pixel_values: `(pictures, 1, H, W)` in [0, 1], 1 = ink.
            widths: `(pictures,)` widths in pixels before padding.
            labels: `(B, L)`, -100 where nothing is learnt.
            dense_labels: Also adds the tower's dense loss; see `dense_losses`.
            image_features: Output of `get_image_features`, in place of `pixel_values`.

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
            if self.dense:
                dense = self.read_dense(pixel_values, widths, dense_labels)
            image_features = self.get_image_features(pixel_values, widths, dense)
        if image_features is not None:
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
        return ScoreVLMOutput(
            loss=loss,
            logits=out.logits,
            past_key_values=out.past_key_values,
            hidden_states=out.hidden_states,
            attentions=out.attentions,
            image_hidden_states=image_features,
            losses=losses,
        )

    def _place(
        self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor, features: torch.Tensor
    ) -> torch.Tensor:
        if input_ids is None:
            raise ValueError("pictures need input_ids: the <|image|> tokens tell where they go")
        return place_features(input_ids, inputs_embeds, features, self.config.image_token_id)

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        pixel_values: torch.Tensor | None = None,
        widths: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None,
        is_first_iteration: bool = False,
        **kwargs: Any,
    ) -> dict:
        """Adds the pictures to the first step; with a cache they are in it afterwards."""
        inputs = super().prepare_inputs_for_generation(input_ids, is_first_iteration=is_first_iteration, **kwargs)
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


__all__ = ["ScoreVLMForConditionalGeneration", "ScoreVLMOutput", "ScoreVLMPreTrainedModel", "dense_evidence"]
