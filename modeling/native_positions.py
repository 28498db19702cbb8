"""Where tokens lie: in time, and codes of a picture in its rows and columns. From the ids alone, without a loop."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..processing.native_vocabulary import HEADER, NativeVocabulary


class Spans(NamedTuple):
    """What is known of each token's picture, all `(B, T)`.

    Attributes:
        inside: Whether the token is a code or the end of a line.
        place: Its place in the picture, counted from the first code.
        lines, length: Lines of the picture, and codes in each.
        closes: Whether the token is the `<eoi>` of a picture.
    """

    inside: torch.Tensor
    place: torch.Tensor
    lines: torch.Tensor
    length: torch.Tensor
    closes: torch.Tensor


def read_spans(input_ids: torch.Tensor, vocabulary: NativeVocabulary) -> Spans:
    """Pictures of sequences `(B, T)`; what is not a right picture gets some numbers, but never an error."""
    v = vocabulary
    index = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    none = torch.full_like(input_ids, -1)
    begin = torch.where(input_ids == v.boi, index, none).cummax(1).values  # of the last picture so far
    end = torch.where(input_ids == v.eoi, index, none).cummax(1).values
    before = torch.cat([none[:, :1], end[:, :-1]], dim=1)  # the last <eoi> before this token
    place = index - begin - HEADER
    open_ = (begin >= 0) & (before < begin) & (input_ids >= v.text_size)
    header = (begin.clamp(min=0)[..., None] + torch.tensor([1, 2], device=index.device)).clamp(max=index.shape[1] - 1)
    said = input_ids.gather(1, header.flatten(1)).view(*input_ids.shape, 2)
    rows = (said[..., 0] - v.first_rows + 1).clamp(1, v.max_rows)
    columns = (said[..., 1] - v.first_columns + 1).clamp(1, v.max_columns)
    lines, length = (columns, rows) if v.scan == "columns" else (rows, columns)
    closes = open_ & (place >= 0) & (input_ids == v.eoi)
    return Spans(open_ & (place >= 0) & ~closes, place, lines, length, closes)


def token_positions(
    input_ids: torch.Tensor,
    vocabulary: NativeVocabulary,
    attention_mask: torch.Tensor | None = None,
    document_ids: torch.Tensor | None = None,
    mixed: bool = True,
) -> torch.Tensor:
    """Positions in time, rows and columns, `(B, 3, T)`.

    Text and the marks of a picture are counted, on all three axes alike. Inside of a picture that begins at `t`, a code
    lies at `(t, t + row, t + column)`; what comes behind the picture begins after its longer side, as in Qwen2-VL.

    Args:
        input_ids: `(B, T)`, the whole sequences.
        vocabulary: Ids.
        attention_mask: `(B, T)`, 0 for padding, which is not counted.
        document_ids: `(B, T)`, number of the document of each token in packed sequences; each is counted from 0.
        mixed: Codes lie in the plane; otherwise all tokens are counted.
    """
    counted = torch.ones_like(input_ids) if attention_mask is None else attention_mask.to(input_ids.dtype)
    spans = read_spans(input_ids, vocabulary) if mixed else None
    step = counted
    if spans is not None:
        extent = torch.maximum(spans.lines, spans.length + 1)
        step = torch.where(spans.inside, 0, counted) + torch.where(spans.closes, extent, 0)
    time = (step.cumsum(1) - 1).clamp(min=0)  # (B, T)
    if document_ids is not None:
        first = torch.ones_like(document_ids, dtype=torch.bool)
        first[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
        time = time - torch.where(first, time, 0).cummax(1).values
    if spans is None:
        return time[:, None].expand(-1, 3, -1)
    # The header is counted up to `time`; the codes begin one further.
    line = torch.div(spans.place, spans.length + 1, rounding_mode="floor")
    along = spans.place - line * (spans.length + 1)
    row, column = (along, line) if vocabulary.scan == "columns" else (line, along)
    inside = spans.inside.long()
    return torch.stack([time + inside, time + inside * (1 + row), time + inside * (1 + column)], dim=1)


def mixed_angles(positions: torch.Tensor, dim: int, base: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines `(B, T, dim)` of positions `(B, 3, T)`: frequencies 0, 3, 6, … turn with time, 1, 4, 7, … with
    the row, 2, 5, 8, … with the column. Where the three are equal this is plain rotary embedding.
    """
    order = torch.arange(dim // 2, device=positions.device)
    frequency = base ** (-2 * order.float() / dim)
    angle = positions[:, order % 3].transpose(1, 2).float() * frequency  # (B, T, dim / 2)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


__all__ = ["mixed_angles", "read_spans", "token_positions"]
