"""StyleEncoder: a timm backbone that gives what a text encoder gives, and a vector of the picture's style."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from ..configuration.configuration_style_encoder import StyleEncoderConfig
from .style_backbone import (
    build_backbone,
    choose_learning,
    load_backbone_weights,
    map_indices,
    merge_lora,
    read_features,
)
from .style_drawing import DRAWING_SIZE, drawing_measures
from .style_losses import (
    contrastive_match,
    mask_loss,
    masked_cosine,
    masked_regression,
    name_match,
    supervised_contrastive,
)

FARTHEST = 5.0  # ranges from what is usual, beyond which a measure of the drawing counts no more


@dataclass
class StyleEncoderOutput(ModelOutput):
    """What StyleEncoder says of pictures.

    Attributes:
        loss: Weighted sum of the losses, when there was anything to learn from.
        embed: `(B, L, D)` sequence embedding, in the space of the text encoder's last hidden state.
        pooled: `(B, D)` pooled embedding.
        mask: `(B, L)` probabilities, 0 … 1, that a place of the sequence is in use.
        mask_logits: `(B, L)` the same as logits.
        style: `(B, S)` vector of length 1; the cosine of two says how alike the pictures are in style.
        attentions: `(B, L + 1, h, w)` where in the picture each place of the sequence, and last the pooled embedding,
            looked, summing to 1; only with `output_attentions`.
        losses: Single losses by name, detached.
    """

    loss: torch.FloatTensor | None = None
    embed: torch.FloatTensor | None = None
    pooled: torch.FloatTensor | None = None
    mask: torch.FloatTensor | None = None
    mask_logits: torch.FloatTensor | None = None
    style: torch.FloatTensor | None = None
    attentions: torch.FloatTensor | None = None
    losses: dict[str, torch.Tensor] | None = None


class QueryLayer(nn.Module):
    """Learned queries look at the picture: pre-norm cross-attention, then a GELU feed-forward."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(hidden_size)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.norm2 = nn.LayerNorm(hidden_size)
        self.fc1 = nn.Linear(hidden_size, 2 * hidden_size)
        self.fc2 = nn.Linear(2 * hidden_size, hidden_size)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, ·, W / heads)

    def forward(
        self, queries: torch.Tensor, tokens: torch.Tensor, with_weights: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Queries `(B, Q, W)` and tokens `(B, N, W)` to queries and, if asked for, mean weights `(B, Q, N)`."""
        q = self._heads(self.query(self.norm1(queries)))
        k, v = (self._heads(x) for x in self.key_value(tokens).chunk(2, dim=-1))
        seen = F.scaled_dot_product_attention(q, k, v)  # (B, heads, Q, W / heads)
        queries = queries + self.out(seen.transpose(1, 2).flatten(2))
        queries = queries + self.fc2(F.gelu(self.fc1(self.norm2(queries))))
        if not with_weights:
            return queries, None
        weights = (q.float() @ k.float().transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        return queries, weights.mean(1)


class StyleStatistics(nn.Module):
    """A picture's style from the mean and spread of its feature maps, whatever stands where in it.

    That such statistics hold the style and little of the content is the finding behind neural style transfer
    (arXiv 1508.06576, and 1703.06868, section 3, for mean and spread in place of Gram matrices). Beside them there can
    be what `drawing_measures` says of the pixels.

    Attributes:
        centre, range: `(DRAWING_SIZE,)`, with `drawing`: what of the measures is usual, and how far they range.
    """

    centre: torch.Tensor
    range: torch.Tensor

    def __init__(self, channels: list[int], hidden_size: int, style_size: int, drawing: bool = False) -> None:
        super().__init__()
        widths = [2 * count for count in channels] + [DRAWING_SIZE] * drawing
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.hidden = nn.Linear(sum(widths), hidden_size)
        self.out = nn.Linear(hidden_size, style_size)
        self.drawing = drawing
        if drawing:
            self.register_buffer("centre", torch.zeros(DRAWING_SIZE))
            self.register_buffer("range", torch.ones(DRAWING_SIZE))

    @staticmethod
    def measure(maps: list[torch.Tensor]) -> torch.Tensor:
        """Maps `(B, C', h', w')` to their means and spreads, float32 `(B, 2ΣC')`."""
        found = []
        for values in maps:
            variance, mean = torch.var_mean(values.float(), dim=(2, 3), correction=0)  # (B, C')
            # The root of 0 has no gradient: a map of 1×1 or of one colour has no spread.
            found += [mean, (variance + 1e-5).sqrt()]
        return torch.cat(found, dim=-1)

    def forward(self, statistics: torch.Tensor) -> torch.Tensor:
        """Means and spreads, and measures of the drawing, `(B, 2ΣC' + M)` to `(B, S)` of length 1."""
        parts = list(statistics.split([norm.normalized_shape[0] for norm in self.norms], dim=-1))  # type: ignore[misc, index]
        if self.drawing:
            parts[-1] = ((parts[-1] - self.centre) / self.range).clamp(-FARTHEST, FARTHEST)
        normed = [norm(part.to(norm.weight.dtype)) for norm, part in zip(self.norms, parts, strict=True)]
        return F.normalize(self.out(F.gelu(self.hidden(torch.cat(normed, dim=-1)))).float(), dim=-1)


class StyleEncoderPreTrainedModel(PreTrainedModel):
    """What transformers has to know of StyleEncoder, and how its weights begin."""

    config_class = StyleEncoderConfig
    base_model_prefix = "style_encoder"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True
    _no_split_modules = ["QueryLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if hasattr(module, "init_non_persistent_buffers"):
            module.init_non_persistent_buffers()  # Swin and EVA-02: tables that no checkpoint holds
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):  # of a backbone that a checkpoint lacks; a new one begins as timm says
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, (nn.LayerNorm, nn.BatchNorm2d)):
            if module.weight is not None:
                init.ones_(module.weight)
                init.zeros_(module.bias)
            if isinstance(module, nn.BatchNorm2d):
                init.zeros_(module.running_mean)
                init.ones_(module.running_var)
                init.zeros_(module.num_batches_tracked)
        elif isinstance(module, StyleStatistics) and module.drawing:
            init.zeros_(module.centre)
            init.ones_(module.range)
        elif isinstance(module, StyleEncoderModel):
            init.normal_(module.queries, mean=0.0, std=1.0)


class StyleEncoderModel(StyleEncoderPreTrainedModel):
    """Backbone, learned queries over its feature map, a head for each output.

    ```
    pixel_values (B, 3, H, W) ─timm─┬▶ tokens (B, h·w, C) ─linear─▶ (B, h·w, W)
                                    │                                   ▼ keys, values
                                    │   L + 1 learned queries ─query layers─┬▶ L: embed (B, L, D), mask (B, L)
                                    │                                       └▶ 1: pooled (B, D)
                                    └▶ maps of some stages ─mean, spread─┬▶ MLP ─▶ style (B, S), length 1
    pixel_values ─with `drawing`: widths, edges, tones, colours──────────┘
    ```
    `embed`, `pooled` and `mask` stand wherever a text encoder's output can. What a picture *shows* and how it is
    *drawn* must not share a vector: two drawings of a bell have one name and two styles. Hence `style`.
    """

    def __init__(self, config: StyleEncoderConfig) -> None:
        super().__init__(config)
        self.backbone = build_backbone(config.model_name, config.model_args)
        if not any(parameter.is_meta for parameter in self.backbone.parameters()):
            for module in self.backbone.modules():  # timm has initialised them, better than a general rule would
                module._is_hf_initialized = True  # type: ignore[assignment]
        self.map_indices, channels = map_indices(self.backbone, config.style_maps)
        features, width = self.backbone.num_features, config.hidden_size
        self.feature_norm = nn.LayerNorm(features)  # type: ignore[arg-type]
        self.from_features = nn.Linear(features, width)  # type: ignore[arg-type]
        self.queries = nn.Parameter(torch.zeros(1, config.num_tokens + 1, width))
        self.query_layers = nn.ModuleList(
            QueryLayer(width, config.num_attention_heads) for _ in range(config.num_query_layers)
        )
        self.query_norm = nn.LayerNorm(width)
        self.embed_head = nn.Linear(width, config.embed_size)
        self.mask_head = nn.Linear(width, 1)
        self.pooled_head = nn.Linear(width, config.embed_size)
        self.style_head = StyleStatistics(channels, width, config.style_size, config.drawing)
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; the outputs equal those of the saved model to the last bit.

        Weights that are mapped from a file lie at odd addresses, where kernels for matrices take another path and round
        otherwise. So they are copied to where new tensors lie.
        """
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        for parameter in model.parameters():
            if parameter.device.type == "cpu" and parameter.data_ptr() % 64:
                parameter.data = parameter.data.clone()
        return loaded

    @classmethod
    def from_backbone(cls, model_name: str, weights: str = "none", **options: Any) -> StyleEncoderModel:
        """A new encoder on a backbone.

        Args:
            model_name: Any model of timm.
            weights: Of the backbone: `"hub"`, `"none"`, a weight file, or `"package:NAME"` for the weight file in an
                installed Python package.
            **options: Of `StyleEncoderConfig`.

        Raises:
            InputError: No such model, or weights that are not there or belong to another backbone.
        """
        model = cls(StyleEncoderConfig(model_name=model_name, **options))
        load_backbone_weights(model.backbone, model_name, weights)
        return model

    def set_backbone_learning(self, mode: str, last_groups: int = 1, lora_rank: int = 8) -> None:
        """Trains the backbone whole, not at all, in its last groups of layers, or by LoRA; see `choose_learning`.

        Heads always learn. LoRA is merged into the weights when the model is saved, so that the folder loads anywhere.
        """
        merge_lora(self.backbone)
        choose_learning(self.backbone, mode, last_groups, lora_rank)
        self.train(self.training)

    def train(self, mode: bool = True) -> StyleEncoderModel:
        """Training mode; the running statistics of frozen parts of the backbone stay as they are."""
        super().train(mode)
        for module in self.backbone.modules() if mode else ():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As in transformers; LoRA of the backbone is merged into what is written, and goes on here."""
        with_lora = any(hasattr(module, "lora_A") for module in self.backbone.modules())
        if with_lora and kwargs.get("state_dict") is None:
            merged = copy.deepcopy(self)
            merge_lora(merged.backbone)
            return merged.save_pretrained(save_directory, *args, **kwargs)
        return super().save_pretrained(save_directory, *args, **kwargs)

    def look(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
        """What the backbone sees in pictures `(B, 3, H, W)`, before any head.

        Returns:
            Tokens `(B, h·w, C)`, the statistics of its maps float32 `(B, 2ΣC')`, with `drawing` the measures of
            `drawing_measures` after them, and the grid `(h, w)`.
        """
        given = pixel_values
        if pixel_values.ndim == 4 and pixel_values.device.type == "cpu" and not self.training:
            # A colour beside the other: convolutions on a CPU take a third less time.
            pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
        tokens, grid, maps = read_features(self.backbone, pixel_values, self.map_indices)
        statistics = self.style_head.measure(maps)
        if self.config.drawing:
            statistics = torch.cat([statistics, drawing_measures(given)], dim=-1)
        return tokens, statistics, grid

    def _features(
        self, pixel_values: torch.Tensor | None, tokens: torch.Tensor | None, statistics: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
        """What the backbone sees, or saw before."""
        if tokens is not None and statistics is not None:
            return tokens, statistics, (1, tokens.shape[1])
        if pixel_values is None:
            raise ValueError("there are neither pixel_values nor both feature_tokens and feature_statistics")
        return self.look(pixel_values)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        target_embed: torch.Tensor | None = None,
        target_pooled: torch.Tensor | None = None,
        target_mask: torch.Tensor | None = None,
        has_target: torch.Tensor | None = None,
        style_labels: torch.Tensor | None = None,
        target_names: torch.Tensor | None = None,
        name_answers: torch.Tensor | None = None,
        feature_tokens: torch.Tensor | None = None,
        feature_statistics: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> StyleEncoderOutput:
        """Looks at pictures, and learns from what is given beside them.

        Args:
            pixel_values: `(B, 3, H, W)`, normalised as the backbone wants it; `StyleEncoderProcessor` does so.
            target_embed: `(B, L, D)` last hidden state of the text encoder.
            target_pooled: `(B, D)`.
            target_mask: `(B, L)` of 0 and 1; also says which places of `target_embed` count.
            has_target: `(B,)`, 1 for the rows that have targets; all have when left out.
            style_labels: `(B,)`; rows of the same number agree in style, -1 is unknown.
            target_names: `(M, D)` pooled embeddings of all names that a picture might have, for the part `match`, which
                without them tells the texts of the batch apart.
            name_answers: `(B, M)` how far each is right; rows sum to 1.
            feature_tokens, feature_statistics: What `look` gave, in place of `pixel_values`: a frozen backbone needs to
                see a picture once only.
            output_attentions: Also say where in the picture each query looked.

        Raises:
            ValueError: Shapes that do not fit the configuration; both are shown.
        """
        tokens, statistics, grid = self._features(pixel_values, feature_tokens, feature_statistics)
        batch = tokens.shape[0]
        tokens = self.from_features(self.feature_norm(tokens.to(self.feature_norm.weight.dtype)))  # (B, N, W)
        x, weights = self.queries.expand(batch, -1, -1), None  # (B, L + 1, W)
        for layer in self.query_layers:
            x, weights = layer(x, tokens, bool(output_attentions))
        x = self.query_norm(x)
        mask_logits = self.mask_head(x[:, :-1]).squeeze(-1)  # (B, L)
        out = StyleEncoderOutput(
            embed=self.embed_head(x[:, :-1]),  # (B, L, D)
            pooled=self.pooled_head(x[:, -1]),  # (B, D)
            mask=mask_logits.sigmoid(),
            mask_logits=mask_logits,
            style=self.style_head(statistics),  # (B, S)
            attentions=None if weights is None else weights.unflatten(-1, grid),
        )
        targets = {"embed": target_embed, "pooled": target_pooled, "mask": target_mask}
        self._check_targets(targets, batch)
        names = None if target_names is None or name_answers is None else (target_names, name_answers)
        losses = self._losses(out, targets, has_target, style_labels, names)
        if losses:
            weight = self.config.loss_weights
            out.loss = sum(weight[name.split("_")[0]] * loss for name, loss in losses.items())
            out.losses = {name: loss.detach() for name, loss in losses.items()}
        return out

    def _check_targets(self, targets: dict[str, torch.Tensor | None], batch: int) -> None:
        length, width = self.config.num_tokens, self.config.embed_size
        wanted = {"embed": (batch, length, width), "pooled": (batch, width), "mask": (batch, length)}
        for name, target in targets.items():
            if target is not None and tuple(target.shape) != wanted[name]:
                raise ValueError(f"target_{name} has the shape {tuple(target.shape)}, the model gives {wanted[name]}")

    def _losses(
        self,
        out: StyleEncoderOutput,
        targets: dict[str, torch.Tensor | None],
        rows: torch.Tensor | None,
        style_labels: torch.Tensor | None,
        names: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> dict[str, torch.Tensor]:
        """Losses by name; the part before `_` says which weight counts."""
        assert out.embed is not None and out.pooled is not None and out.mask_logits is not None
        places = targets["mask"]  # says which places count even where the mask itself is not learnt
        learnt = {name: None if name in self.config.ignore_targets else value for name, value in targets.items()}
        weight, losses = self.config.loss_weights, {}
        if learnt["embed"] is not None and weight["embed"]:
            count = out.embed.new_ones(out.embed.shape[:2]).bool() if places is None else places.bool()
            count = count if rows is None else count & rows.bool()[:, None]  # (B, L)
            losses["embed"] = masked_regression(out.embed, learnt["embed"], count)
            losses["embed_cosine"] = masked_cosine(out.embed, learnt["embed"], count)
        if learnt["pooled"] is not None and weight["pooled"]:
            losses["pooled"] = masked_regression(out.pooled, learnt["pooled"], rows)
            losses["pooled_cosine"] = masked_cosine(out.pooled, learnt["pooled"], rows)
        if learnt["pooled"] is not None and weight["match"] and names is not None:
            losses["match"] = name_match(out.pooled, *names, self.config.match_temperature, rows)  # type: ignore[arg-type]
        elif learnt["pooled"] is not None and weight["match"]:
            losses["match"] = contrastive_match(out.pooled, learnt["pooled"], self.config.temperature, rows)
        if learnt["mask"] is not None and weight["mask"]:
            losses["mask"] = mask_loss(out.mask_logits, learnt["mask"], rows)
        if style_labels is not None and weight["style"]:
            losses["style"] = supervised_contrastive(out.style, style_labels, self.config.temperature)  # type: ignore[arg-type]
        return losses


__all__ = ["StyleEncoderModel", "StyleEncoderOutput", "StyleEncoderPreTrainedModel"]
