"""The dense score tower: one picture of a system in, one labelled column every 8 pixels out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from ..configuration.configuration_score_tower import ScoreTowerConfig
from .dense_losses import dense_loss
from .layers import TransformerLayer, rotary_angles
from .tower_convolutions import add_convolutions, convolve

SLOTS = 2  # of 4 px in a column of 8 px
LABELLED = frozenset(
    {"frets", "note_effects", "durations", "tuplets", "graces", "beat_effects", "bar_starts", "bar_ends"}
)  # fields whose classes the configuration names
BAR_CHANNELS, WINDOW_LEFT, WINDOW_RIGHT = 96, 2, 22  # columns


@dataclass
class ScoreTowerOutput(ModelOutput):
    """What the tower sees.

    Attributes:
        loss: Sum of the dense losses, when labels were given.
        last_hidden_state: Column features `(B, T, D)`.
        dense_logits: Logits by field, see `DenseHeads`.
        losses: The single losses by field, detached.
    """

    loss: torch.FloatTensor | None = None
    last_hidden_state: torch.FloatTensor | None = None
    dense_logits: dict[str, torch.Tensor] | None = None
    losses: dict[str, torch.Tensor] | None = None


class DenseHeads(nn.Module):
    """Linear heads over columns, and over strings in columns.

    A column of 8 px feature has two slots of 4 px, because grace notes stand nearer to their beat than a column is
    wide. Axes: `B` batch, `T` slots, `S` strings, `V` voices; the last axis is the classes of the field.

    | field | shape | meaning |
    |---|---|---|
    | `frets` | `(B, S, T, 1 + frets)` | class 0 = no note here |
    | `string_voice` | `(B, S, T, V)` | voice of the note |
    | `note_effects` | `(B, S, T, K)` | independent (sigmoid) |
    | `beats` | `(B, V, T, 3)` | none, notes, rest |
    | `durations`, `dots`, `tuplets`, `graces` | `(B, V, T, ·)` | of the beat |
    | `beat_effects` | `(B, V, T, K)` | independent |
    | `bar_edges` | `(B, T, 2)` | a bar starts, ends here; independent |
    | `bar_starts`, `bar_ends` | `(B, T, K)` | what is written there; independent |
    | `tempo_digits` | `(B, T, 3, 10)` | of the tempo mark, at the first beat of its bar |
    """

    def __init__(self, config: ScoreTowerConfig) -> None:
        super().__init__()
        sizes = {name: len(classes) for name, classes in config.labels.items()}
        missing = sorted(LABELLED - sizes.keys())
        if missing:
            raise ValueError(
                f"labels names the classes of {sorted(sizes) or 'nothing'}, but not of {', '.join(missing)}: "
                "make them with intermezzo.processing.dense_labels.build_label_space"
            )
        self.max_voices = config.max_voices
        self.column_fields = {
            "bar_edges": 2,
            "bar_starts": sizes["bar_starts"],
            "bar_ends": sizes["bar_ends"],
            "tempo_digits": 30,
        }
        self.voice_fields = {
            "beats": 3,
            "durations": sizes["durations"],
            "dots": 3,
            "tuplets": 1 + sizes["tuplets"],
            "graces": 1 + sizes["graces"],
            "beat_effects": sizes["beat_effects"],
        }
        self.string_fields = {
            "frets": 1 + sizes["frets"],
            "string_voice": config.max_voices,
            "note_effects": sizes["note_effects"],
        }
        width, inner = config.hidden_size, config.string_hidden_size
        self.columns = nn.Linear(width, SLOTS * sum(self.column_fields.values()))
        # Metre, key and tempo stand up to some 180 px to the right of the bar line that they are labelled at.
        self.bar_window = nn.Conv1d(width, BAR_CHANNELS, WINDOW_LEFT + 1 + WINDOW_RIGHT)
        self.from_bar_window = nn.Linear(BAR_CHANNELS, SLOTS * sum(self.column_fields.values()))
        self.voices = nn.Linear(width, SLOTS * config.max_voices * sum(self.voice_fields.values()))
        self.string_from_picture = nn.Conv2d(config.stage_channels[-1], SLOTS * inner, (1, 3), padding=(0, 1))
        self.string_from_column = nn.Linear(width, SLOTS * inner)
        self.string_hidden = nn.Linear(inner, inner)
        self.strings = nn.Linear(inner, sum(self.string_fields.values()))

    def forward(self, columns: torch.Tensor, string_rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Reads column features `(B, T / 2, D)` and the string rows of the picture `(B, C, S, T / 2)`."""
        batch, length, _ = columns.shape
        slots = SLOTS * length
        window = F.pad(columns.transpose(1, 2), (WINDOW_LEFT, WINDOW_RIGHT))
        window = F.gelu(self.bar_window(window)).transpose(1, 2)  # (B, T / 2, BAR_CHANNELS)
        bars = self.columns(columns) + self.from_bar_window(window)
        logits = _split(bars.view(batch, slots, -1), self.column_fields)
        logits["tempo_digits"] = logits["tempo_digits"].view(batch, slots, 3, 10)

        voices = self.voices(columns).view(batch, slots, self.max_voices, -1).transpose(1, 2)  # (B, V, T, ·)
        logits |= _split(voices, self.voice_fields)

        strings = self.string_from_picture(string_rows).permute(0, 2, 3, 1)  # (B, S, T / 2, 2 * inner)
        strings = F.gelu(strings + self.string_from_column(columns)[:, None])
        strings = strings.reshape(batch, strings.shape[1], slots, -1)  # (B, S, T, inner)
        strings = strings + F.gelu(self.string_hidden(strings))
        return logits | _split(self.strings(strings), self.string_fields)


def _split(x: torch.Tensor, fields: dict[str, int]) -> dict[str, torch.Tensor]:
    return dict(zip(fields, x.float().split(list(fields.values()), dim=-1), strict=True))


class ScoreTowerPreTrainedModel(PreTrainedModel):
    """What transformers has to know of the tower, and how its weights begin."""

    config_class = ScoreTowerConfig  # an annotation alone is only a string under deferred annotations
    base_model_prefix = "score_tower"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True
    _no_split_modules = ["TransformerLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, (nn.Conv1d, nn.Conv2d)):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)


class ScoreTowerModel(ScoreTowerPreTrainedModel):
    """Convolutions down to one row a string, a transformer along the columns, dense heads on both.

    ```
    pixel_values (B, 1, H, W) ─stem─▶ (H/5, W/4) ─stage 1─▶ (H/10, W/4) ─stage 2, 3─▶ (C, H/10, W/8)
              └─fine─▶ (H/2, W/2) ─▶ (H/2, W/4) ─▶ (H/10, W/4) ─▲
         all rows of a column ─linear─▶ (B, T, D) ─transformer─▶ column features ─▶ beats, bars
         the rows of the strings ───────────────────────────────+ column feature ─▶ frets, effects
    ```
    """

    def __init__(self, config: ScoreTowerConfig) -> None:
        super().__init__(config)
        add_convolutions(self, config)
        three = config.stage_channels[-1]
        self.from_lower = nn.Linear(three * config.lower_rows, config.hidden_size)
        self.from_upper = nn.Linear(three * config.upper_rows, config.hidden_size)
        # Marks over the tab (tempo, palm mute, bends) stand at any height: their strongest sight in a column counts.
        self.mark_features = nn.Conv2d(three, three, 1)
        self.from_marks = nn.Linear(three, config.hidden_size)
        self.from_upper_marks = nn.Linear(three, config.hidden_size)
        self.layers = nn.ModuleList(
            TransformerLayer(
                config.hidden_size, config.num_attention_heads, config.intermediate_size, float(config.dropout)
            )
            for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size)
        self.heads = DenseHeads(config)
        self.post_init()

    def forward_features(
        self, pixel_values: torch.Tensor, widths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Column features and string rows.

        Args:
            pixel_values: `(B, 1, H, W)` in [0, 1], 1 = ink; `H` a multiple of 10, `W` of 16.
            widths: `(B,)` width of each picture in pixels before padding; `None` = all full. With 64 px of blank paper
                to the right of the widest picture (as far as a column sees through the convolutions), what is read
                of a picture does not depend on the other pictures of its batch.

        Returns:
            `(B, T, D)` and `(B, C, S, T)` with `T = W / 8`.

        Raises:
            ValueError: A size that the strides do not divide, or a picture lower than the tab.
        """
        height, width = pixel_values.shape[-2:]
        low, cfg = self.config.lower_rows, self.config
        if height % 10 or width % 16 or height < 10 * low:
            raise ValueError(
                f"a picture must be a multiple of 10 high (at least {10 * low}) and of 16 wide, got {height} x {width}"
            )
        x = convolve(self, pixel_values)
        rows, columns = x.shape[-2:]
        lower = x[:, :, -low:]  # (B, C, low, T)
        hidden = self.from_lower(lower.flatten(1, 2).transpose(1, 2))  # (B, T, D)
        marks = F.relu(self.mark_features(x[:, :, : rows - low + cfg.tab_row]))  # (B, C, rows over the tab, T)
        hidden = hidden + self.from_marks(marks[:, :, -cfg.tab_row :].amax(dim=2).transpose(1, 2))
        if rows > low:
            upper = x[:, :, :-low][:, :, -cfg.upper_rows :]
            upper = F.pad(upper, (0, 0, cfg.upper_rows - upper.shape[2], 0))  # (B, C, up, T)
            # A tab alone gets blank rows on top when it shares a batch with taller systems: they must not speak.
            inked = pixel_values[:, :, : -10 * low].flatten(1).amax(dim=1) > 0  # (B,)
            above = self.from_upper(upper.flatten(1, 2).transpose(1, 2))
            above = above + self.from_upper_marks(marks[:, :, : rows - low].amax(dim=2).transpose(1, 2))
            hidden = hidden + above * inked[:, None, None]

        positions = torch.arange(columns, device=hidden.device)
        angles = rotary_angles(positions, cfg.hidden_size // cfg.num_attention_heads)
        mask = None
        if widths is not None:
            mask = (positions * cfg.column_px < widths[:, None])[:, None, None]  # (B, 1, 1, T)
        for layer in self.layers:
            hidden = layer(hidden, angles, mask)
        hidden, strings = self.norm(hidden), lower[:, :, cfg.tab_row : cfg.tab_row + cfg.max_strings]
        if mask is not None:  # what lies beyond a picture must not reach its last bars
            hidden, strings = hidden * mask[:, 0, 0, :, None], strings * mask
        return hidden, strings

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        widths: torch.Tensor | None = None,
        dense_labels: dict[str, torch.Tensor] | None = None,
        **kwargs: Any,
    ) -> ScoreTowerOutput:
        """Reads pictures; see `forward_features` for the inputs and `dense_losses` for the labels."""
        columns, string_rows = self.forward_features(pixel_values.to(self.dtype), widths)
        logits = self.heads(columns, string_rows)
        loss, losses = (None, None) if dense_labels is None else dense_loss(logits, dense_labels)
        return ScoreTowerOutput(loss=loss, last_hidden_state=columns, dense_logits=logits, losses=losses)


__all__ = ["ScoreTowerModel", "ScoreTowerOutput", "ScoreTowerPreTrainedModel"]
