"""Configuration of the dense score tower."""

from dataclasses import field

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class ScoreTowerConfig(PreTrainedConfig):
    """A convolutional tower that reads one system of tab, column by column and string by string.

    The picture is scaled so that tab lines are `row_px` apart, with the top line of the tab at a fixed distance
    from the bottom: string `s` then always falls in feature row `tab_row + s - 1`, counted from `lower_rows`.

    Args:
        row_px: Height of a feature row = distance of two tab lines, in pixels.
        column_px: Width of a feature column, in pixels (a multiple of 8).
        lower_rows: Rows from the bottom of the picture that hold the tab staff and what belongs to it.
        upper_rows: Rows above them, for a staff over the tab; a picture may have none of them.
        tab_row: Row of the first string, counted from the top of the lower rows.
        max_strings: Strings that the string heads look at.
        max_voices: Voices that the beat heads tell apart.
        stem_channels: Channels after the stem (at half a row high, half a column wide).
        stage_channels: Channels of the three stages; vertical strides 5, 10, 10 px, horizontal 4, 4, 8 px.
        stage_depths: Residual blocks of each stage.
        fine_channels: Channels of a second way from the picture to the second stage, which keeps 2 px and then 4 px of
            detail for small digits, dots and brackets: at half the size, then at half the height and a quarter of the
            width. Empty: no such way.
        hidden_size: Width of a column's feature.
        num_hidden_layers, num_attention_heads, intermediate_size: The transformer along the columns.
        string_hidden_size: Width of the string heads.
        dropout: Dropout in the column transformer.
        labels: What each class of each head means; see `intermezzo.processing.dense_labels`. Sizes of the heads
            follow from the lists: `frets`, `note_effects`, `durations`, `tuplets`, `graces`, `beat_effects`,
            `bar_starts`, `bar_ends`, `tempo_digits`, `string_counts`.
    """

    model_type = "score_tower"

    row_px: int = 10
    column_px: int = 8
    lower_rows: int = 24
    upper_rows: int = 8
    tab_row: int = 12
    max_strings: int = 7
    max_voices: int = 2
    stem_channels: int = 32
    stage_channels: list[int] | tuple[int, ...] = (32, 48, 96)
    stage_depths: list[int] | tuple[int, ...] = (0, 1, 2)
    fine_channels: list[int] | tuple[int, ...] = (24, 32)
    hidden_size: int = 256
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 768
    string_hidden_size: int = 192
    dropout: float | int = 0.0
    initializer_range: float = 0.02
    labels: dict = field(default_factory=dict)

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.stage_channels = tuple(self.stage_channels)
        self.stage_depths = tuple(self.stage_depths)
        self.fine_channels = tuple(self.fine_channels)
        if len(self.fine_channels) not in (0, 2):
            raise ValueError(f"fine_channels has two numbers or none, got {len(self.fine_channels)}")
        if len(self.stage_channels) != 3 or len(self.stage_depths) != 3:
            raise ValueError(
                f"the tower has 3 stages: got {len(self.stage_channels)} stage_channels and "
                f"{len(self.stage_depths)} stage_depths"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.tab_row + self.max_strings > self.lower_rows:
            raise ValueError(
                f"strings end at row {self.tab_row + self.max_strings}, but there are {self.lower_rows} lower rows"
            )
        if self.column_px != 8 or self.row_px != 10:
            raise ValueError(
                f"the strides of the tower make rows of 10 px and columns of 8 px, "
                f"not {self.row_px} and {self.column_px}"
            )


__all__ = ["ScoreTowerConfig"]
