"""The model that understands edits: an instruction in, up to three steps of the edit language out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from ..configuration.configuration_edit import ScoreEditConfig
from .layers import TransformerLayer, rotary_angles

IGNORED = -100


@dataclass
class ScoreEditOutput(ModelOutput):
    """What an instruction asks for.

    Attributes:
        loss: Sum of the two cross entropies, when labels were given.
        operation_logits: `(B, S, 1 + operations)`; class 0: no further step.
        argument_logits: `(B, S, arguments)`, over the arguments of all operations.
    """

    loss: torch.FloatTensor | None = None
    operation_logits: torch.FloatTensor | None = None
    argument_logits: torch.FloatTensor | None = None


class ScoreEditPreTrainedModel(PreTrainedModel):
    """What transformers has to know of the model, and how its weights begin."""

    config_class = ScoreEditConfig  # an annotation alone is only a string under deferred annotations
    base_model_prefix = "score_edit"
    main_input_name = "input_ids"
    input_modalities = ("text",)
    _supports_sdpa = True
    _no_split_modules = ["TransformerLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Embedding)):
            # A convolution sums over its kernel: the same deviation would make its output so much larger.
            wide = module.kernel_size[0] ** 0.5 if isinstance(module, nn.Conv1d) else 1.0
            std = 0.1 if isinstance(module, nn.Embedding) else self.config.initializer_range * 2.0 / wide
            init.normal_(module.weight, mean=0.0, std=std)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)


class ScoreEditModel(ScoreEditPreTrainedModel):
    """Characters to features of their neighbourhood, then a transformer in which each step has a place of its own.

    ```
    input_ids (B, T) ─table─▶ (B, T, D) ─2 convolutions─▶ (B, T, D) ─┐
                     steps: a learnt vector each (S, D) ─────────────┴─▶ (B, S + T, D) ─transformer─▶ the first S
                                                                         ├─▶ operation of each step, or none
                                                                         └─▶ argument of each step
    text_features (B, P, E) ─linear─▶ (B, P, D), where text_size is not 0: more to look at, for words it never saw
    ```
    """

    def __init__(self, config: ScoreEditConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.characters = nn.Embedding(config.vocab_size, width)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, config.conv_kernel, padding=config.conv_kernel // 2) for _ in range(2)
        )
        self.conv_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.drop = nn.Dropout(float(config.dropout))
        self.steps = nn.Embedding(config.max_steps, width)
        self.layers = nn.ModuleList(
            TransformerLayer(width, config.num_attention_heads, config.intermediate_size, float(config.dropout))
            for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(width)
        if config.text_size:
            self.text = nn.Linear(config.text_size, width)
            self.text_places = nn.Embedding(config.text_places, width)
        self.operation_head = nn.Linear(width, 1 + max(len(config.operations), 1))
        self.argument_head = nn.Linear(width, max(len(config.arguments), 1))
        self.post_init()

    def _text(self, features: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors of an instruction as places to look at `(B, P, D)`, and which of them are there `(B, P)`."""
        # Vectors of length 1 have elements of 1/sqrt(E): brought to about 1, as a linear layer expects.
        hidden = self.text(features * self.config.text_size**0.5) + self.text_places.weight[: features.shape[1]]
        seen = mask.bool()
        if self.training and self.config.text_dropout:
            kept = torch.rand(seen.shape[0], 1, device=seen.device) >= self.config.text_dropout
            seen = seen & kept
        return self.drop(hidden), seen

    def forward_features(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Features of the steps `(B, S, D)`; see `forward` for the inputs."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        seen = attention_mask.bool()  # (B, T)
        hidden = self.drop(self.characters(input_ids))  # (B, T, D)
        for convolution, norm in zip(self.convolutions, self.conv_norms, strict=True):
            inside = norm(hidden) * seen[..., None]  # what is beyond a text must not reach its end
            hidden = hidden + F.gelu(convolution(inside.transpose(1, 2)).transpose(1, 2))
        batch, count = input_ids.shape[0], self.config.max_steps
        slots = self.steps.weight[None].expand(batch, -1, -1)  # (B, S, D)
        hidden = torch.cat([slots, hidden], dim=1)  # (B, S + T, D)
        seen = F.pad(seen, (count, 0), value=True)  # (B, S + T)
        positions = torch.arange(hidden.shape[1], device=hidden.device)
        if self.config.text_size and text_features is not None:
            if text_mask is None:
                text_mask = torch.ones_like(text_features[..., 0])
            told, there = self._text(text_features, text_mask)
            hidden, seen = torch.cat([hidden, told], dim=1), torch.cat([seen, there], dim=1)  # (B, S + T + P)
            positions = torch.cat([positions, torch.arange(told.shape[1], device=hidden.device)])  # near the steps
        seen = seen[:, None, None]  # (B, 1, 1, S + T + P)
        angles = rotary_angles(positions, self.config.hidden_size // self.config.num_attention_heads)
        for layer in self.layers:
            hidden = layer(hidden, angles, seen)
        return self.norm(hidden[:, :count])

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        operation_labels: torch.Tensor | None = None,
        argument_labels: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> ScoreEditOutput:
        """Reads instructions.

        Args:
            input_ids: `(B, T)` numbers of characters, from the processor.
            attention_mask: `(B, T)`, 1: a character, 0: padding; all when left out.
            operation_labels: `(B, S)`, 0: no further step, else 1 + the operation; -100: not learnt.
            argument_labels: `(B, S)` argument; -100 where a step takes none.
            text_features: `(B, P, text_size)` a text encoder's vectors of the instruction and its parts, from the
                processor; left out, or with a `text_size` of 0, the characters are all that is read.
            text_mask: `(B, P)`, 1: there is such a part; all when left out.
        """
        hidden = self.forward_features(input_ids, attention_mask, text_features, text_mask)
        operations = self.operation_head(hidden)  # (B, S, 1 + operations)
        arguments = self.argument_head(hidden)  # (B, S, arguments)
        loss = None
        if operation_labels is not None:
            loss = _cross_entropy(operations, operation_labels)
            if argument_labels is not None:
                loss = loss + _cross_entropy(arguments, argument_labels)
        return ScoreEditOutput(loss=loss, operation_logits=operations, argument_logits=arguments)


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over the labels that are learnt; 0 where there are none."""
    total = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


__all__ = ["IGNORED", "ScoreEditModel", "ScoreEditOutput", "ScoreEditPreTrainedModel"]
