"""NativeVLM: one transformer over text and picture codes; it reads pictures and draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, Cache, DynamicCache, PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from ..configuration.configuration_image_vq import ImageVQConfig
from ..configuration.configuration_native_vlm import NativeVLMConfig
from .modeling_image_vq import ImageVQModel
from .native_generation import NativeGenerationMixin
from .native_layers import (
    HeadGain,
    ModalityEmbedding,
    NativeLayer,
    document_spans,
    rms_norm,
)
from .native_loss import head_loss, native_loss
from .native_neighbours import Beside, neighbour_ids
from .native_positions import mixed_angles, placed_angles, placed_positions, token_positions

AutoModel.register(ImageVQConfig, ImageVQModel, exist_ok=True)  # a flat export has no package to do it


@dataclass
class NativeVLMOutput(ModelOutput):
    """What NativeVLM says.

    Attributes:
        loss: Nats a label, by the weights of the modalities, plus the z-loss.
        logits: `(B, T, V)`, or of the last tokens (`logits_to_keep`); in training with labels they are not made whole,
            and this is `None`.
        past_key_values: Cache, where asked for.
        losses: `text`, `image` (nats a label, where there are labels) and `z`, detached.
        last_hidden_state: `(B, T, D)`.
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    past_key_values: Cache | None = None
    losses: dict[str, torch.Tensor] | None = None
    last_hidden_state: torch.FloatTensor | None = None


class NativeVLMPreTrainedModel(PreTrainedModel):
    """What transformers has to know of the model, and how its weights begin."""

    config_class = NativeVLMConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ["NativeLayer"]
    _skip_keys_device_placement = ["past_key_values"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=std * getattr(module, "initial_scale", 1.0))
        elif isinstance(module, ModalityEmbedding | HeadGain):
            init.zeros_(module.weight)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, mean=0.0, std=std)


class NativeVLMModel(NativeVLMPreTrainedModel):
    """Embeddings and layers, without the head.

    ```
    ids (B, T) ─embedding + modality─▶ (B, T, D) ─layers─▶ (B, T, D)
        └─▶ positions (B, 3, T): time, row, column ─▶ rotary angles
    ```
    """

    def __init__(self, config: NativeVLMConfig) -> None:
        super().__init__(config)
        assert config.vocab_size is not None
        self.vocabulary = config.vocabulary
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_modality = ModalityEmbedding(2, config.hidden_size) if config.modality_embedding else None
        self.beside = Beside(config.hidden_size) if config.neighbours else None
        self.layers = nn.ModuleList(NativeLayer(config, i) for i in range(config.num_hidden_layers))
        self.drop = nn.Dropout(config.dropout)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Embedding of the ids."""
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Puts another one in its place."""
        self.embed_tokens = value

    def positions(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, document_ids: Any = None
    ) -> torch.Tensor:
        """Positions `(B, 3, T)` of whole sequences; see `token_positions`."""
        if self.config.rope == "placed":
            return placed_positions(input_ids, self.vocabulary, attention_mask, document_ids)
        mixed = self.config.rope == "mixed"
        return token_positions(input_ids, self.vocabulary, attention_mask, document_ids, mixed)

    def _mask(self, length: int, past: int, attention_mask: Any, document_ids: Any, device: Any) -> Any:
        """Which keys each token sees, `(B or 1, 1, T, past + T)`: earlier ones, of its document, and itself.

        Packed rows are given as their documents instead, which attend one by one.
        """
        if document_ids is not None and past:
            raise ValueError("packed documents are for training, not for decoding with a cache")
        if document_ids is not None and attention_mask is None and self.config._attn_implementation != "eager":
            return document_spans(document_ids)
        keys = torch.arange(past + length, device=device)
        own = keys[past:, None] == keys
        mask = (keys <= keys[past:, None])[None]  # (1, T, K)
        if attention_mask is not None:
            if attention_mask.shape[-1] != past + length:
                raise ValueError(f"the attention mask has {attention_mask.shape[-1]} places, expected {past + length}")
            mask = mask & attention_mask[:, None].bool()
        if document_ids is not None:
            mask = mask & (document_ids[:, :, None] == document_ids[:, None])
        return (mask | own)[:, None]  # padding sees itself: a softmax over nothing is not a number

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        document_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        neighbours: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> NativeVLMOutput:
        """See `NativeVLMForCausalLM.forward`."""
        if past_key_values is None and use_cache and not self.training:
            past_key_values = DynamicCache(config=self.config)
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if position_ids is None:
            if past:
                raise ValueError("with a cache, give position_ids: where a token lies depends on all before it")
            position_ids = self.positions(input_ids, attention_mask, document_ids)
        placed = self.config.rope == "placed"
        if position_ids.ndim == 2:
            others = torch.full_like(position_ids, -1) if placed else position_ids
            position_ids = torch.stack([position_ids, others, others], dim=1)
        x = self.embed_tokens(input_ids)  # (B, T, D)
        if self.embed_modality is not None:
            x = x + self.embed_modality((input_ids >= self.vocabulary.text_size).long())
        if self.beside is not None:
            if neighbours is None and past:
                raise ValueError("with a cache, give neighbours: what stands beside a code came before")
            x = x + self.beside(
                self.embed_tokens, neighbour_ids(input_ids, self.vocabulary) if neighbours is None else neighbours
            )
        x = self.drop(rms_norm(x, self.config.rms_norm_eps))
        dim = x.shape[-1] // self.config.num_attention_heads
        turn = placed_angles if placed else mixed_angles
        angles = turn(position_ids, dim, self.config.rope_theta)
        angles = tuple(part[:, None] for part in angles)  # (B, 1, T, d)
        mask = self._mask(x.shape[1], past, attention_mask, document_ids, x.device)
        for layer in self.layers:
            x = layer(x, angles, mask, past_key_values)
        x = rms_norm(x, self.config.rms_norm_eps)
        return NativeVLMOutput(last_hidden_state=x, past_key_values=past_key_values)


class NativeVLMForCausalLM(NativeVLMPreTrainedModel, NativeGenerationMixin):
    """Layers, head, and the picture tokenizer, which is frozen.

    ```
    pictures ─image_vq─▶ codes ─▶ ids ─┐
    text ─────────────────────▶ ids ───┴─▶ model ─▶ logits over text and codes ─▶ ids ─image_vq─▶ pictures
    ```
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: NativeVLMConfig) -> None:
        super().__init__(config)
        assert config.vocab_size is not None and isinstance(config.vq_config, ImageVQConfig)
        self.model = NativeVLMModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.image_vq = ImageVQModel(config.vq_config)
        self.image_vq.requires_grad_(False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Embedding of the ids."""
        return self.model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Puts another one in its place."""
        self.model.embed_tokens = value

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Puts another one in its place."""
        self.lm_head = new_embeddings

    def positions(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Positions `(B, 3, T)` of whole sequences."""
        return self.model.positions(input_ids, attention_mask)

    def whereabouts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None, last: int) -> dict[str, Any]:
        """What the last tokens of whole sequences need beside a cache: `position_ids`, and `neighbours` if any."""
        found = {"position_ids": self.positions(input_ids, attention_mask)[..., -last:]}
        if self.config.neighbours:
            found["neighbours"] = neighbour_ids(input_ids, self.config.vocabulary)[:, -last:]
        return found

    def _head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits `(..., V)` of states `(..., D)`."""
        logits, cap = self.lm_head(hidden), self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits.float() / cap).to(logits.dtype)

    def _training_loss(self, hidden: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
        """Loss of states `(N, D)` and labels `(N,)`; an adapter on the head, or no cap, takes the plain way."""
        if type(self.lm_head) is nn.Linear and self.config.logit_softcap is not None:
            return head_loss(hidden, self.lm_head.weight, labels, self.config)
        return native_loss(self._head(hidden), labels, self.config)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        document_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        pixel_values: torch.Tensor | None = None,
        image_sizes: torch.Tensor | None = None,
        neighbours: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> NativeVLMOutput:
        """One pass.

        Args:
            input_ids: `(B, T)` text and codes; with `pixel_values` a placeholder for each code.
            attention_mask: `(B, T)`, with a cache `(B, past + T)`; 0 for padding.
            position_ids: `(B, 3, T)`, or `(B, T)` for text; needed with a cache, otherwise found from the ids.
            document_ids: `(B, T)`, for several documents in one row: none sees, or is predicted from, another.
            labels: `(B, T)`, −100 where nothing is learnt; shifted here.
            logits_to_keep: Logits of so many last tokens only; 0: of all.
            pixel_values: `(P, 1, H, W)`, pictures that take the place of placeholders.
            image_sizes: `(P, 2)`, their rows and columns of patches.
            neighbours: `(B, T, 6)` of `neighbour_ids`; needed with a cache where the configuration has neighbours.
            **kwargs: Not used.

        Raises:
            InputError: Pictures and placeholders do not fit together.
        """
        if pixel_values is not None:
            input_ids = self.fill_pictures(input_ids, pixel_values, image_sizes)
        out = self.model(
            input_ids, attention_mask, position_ids, document_ids, past_key_values, use_cache, neighbours,
            return_dict=True,
        )  # fmt: skip
        hidden, loss, losses, logits = out.last_hidden_state, None, None, None
        wanted = None
        if labels is not None:
            wanted = labels[:, 1:]
            if document_ids is not None:
                wanted = wanted.masked_fill(document_ids[:, 1:] != document_ids[:, :-1], -100)
        if wanted is not None and self.training:  # what is asked and padding need no logits
            learnt = wanted != -100
            loss, losses = self._training_loss(hidden[:, :-1][learnt], wanted[learnt])
        else:
            logits = self._head(hidden[:, -logits_to_keep:])  # (B, T, V)
            if wanted is not None:
                loss, losses = native_loss(logits[:, :-1].flatten(0, 1), wanted.flatten(), self.config)
        return NativeVLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=out.past_key_values,
            losses=losses,
            last_hidden_state=out.last_hidden_state,
        )


__all__ = ["NativeVLMForCausalLM", "NativeVLMModel", "NativeVLMOutput", "native_loss"]
