"""Where tokens lie: in time, and codes of a picture in its rows and columns. From the ids alone, without a loop."""

from __future__ import annotations

from typing import Any, NamedTuple

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
    """Positions in time, rows and columns, `(B, 3, T)`; see `placed_positions` for the third way.

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
    time = _counted_in_documents(step, document_ids)
    if spans is None:
        return time[:, None].expand(-1, 3, -1)
    # The header is counted up to `time`; the codes begin one further.
    line = torch.div(spans.place, spans.length + 1, rounding_mode="floor")
    along = spans.place - line * (spans.length + 1)
    row, column = (along, line) if vocabulary.scan == "columns" else (line, along)
    inside = spans.inside.long()
    return torch.stack([time + inside, time + inside * (1 + row), time + inside * (1 + column)], dim=1)


def _first_of_documents(document_ids: torch.Tensor) -> torch.Tensor:
    first = torch.ones_like(document_ids, dtype=torch.bool)
    first[:, 1:] = document_ids[:, 1:] != document_ids[:, :-1]
    return first


def _counted_in_documents(step: torch.Tensor, document_ids: torch.Tensor | None) -> torch.Tensor:
    """Sum of the steps before each token, from the beginning of its document."""
    time = (step.cumsum(1) - 1).clamp(min=0)  # (B, T)
    if document_ids is not None:
        time = time - torch.where(_first_of_documents(document_ids), time, 0).cummax(1).values
    return time


def placed_positions(
    input_ids: torch.Tensor,
    vocabulary: NativeVocabulary,
    attention_mask: torch.Tensor | None = None,
    document_ids: torch.Tensor | None = None,
) -> torch.Tensor:
    """Positions `(B, 3, T)` in a plane that all pictures of a document, and the words of placed beats, share.

    A code lies at `(time, row, column)`, rows counted so that the lowest of every picture is the same one, where the
    staff stands. Text behind `<columns k>` lies at `(time, below the lowest row, k)`, up to the next picture. All else
    has no place: row and column are -1, and `placed_angles` turns it by time alone. A picture takes one step of time.

    Args:
        input_ids, vocabulary, attention_mask, document_ids: As for `token_positions`.
    """
    v, ids = vocabulary, input_ids
    counted = torch.ones_like(ids) if attention_mask is None else attention_mask.to(ids.dtype)
    spans = read_spans(ids, v)
    time = _counted_in_documents(torch.where(spans.inside, 0, counted), document_ids) + spans.inside.long()
    line = torch.div(spans.place, spans.length + 1, rounding_mode="floor")
    along = spans.place - line * (spans.length + 1)
    row, column = (along, line) if v.scan == "columns" else (line, along)
    height = spans.length if v.scan == "columns" else spans.lines
    index = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    header = torch.nn.functional.pad(ids, (2, 0), value=-1)[:, :-2] == v.boi  # gives the width
    says = (ids >= v.first_columns) & (ids < v.first_code) & ~spans.inside & ~header
    forgets = ids == v.boi
    if document_ids is not None:
        forgets = forgets | _first_of_documents(document_ids)
    none = torch.full_like(ids, -1)
    last = torch.where(says, index, none).cummax(1).values
    placed = (last > torch.where(forgets & ~says, index, none).cummax(1).values) & ~spans.inside
    said = ids.gather(1, last.clamp(min=0)) - v.first_columns
    columns = torch.where(spans.inside, column, torch.where(placed, said, none))
    rows = torch.where(spans.inside, v.max_rows - height + row, torch.where(placed, v.max_rows + 1, none))
    return torch.stack([time, rows, columns], dim=1)


def placed_angles(positions: torch.Tensor, dim: int, base: float, base_plane: float = 100.0) -> Any:
    """Cosines and sines `(B, T, dim)` of `placed_positions`; of text without a place plain rotary embedding.

    Frequencies 0, 3, 6, … turn with time as ever. 1, 4, 7, … turn with the row and 2, 5, 8, … with the column, from one
    radian a patch on downwards: neighbours have to be told apart.
    """
    order = torch.arange(dim // 2, device=positions.device)
    axis, rank = order % 3, torch.div(order, 3, rounding_mode="floor")
    plain = base ** (-2 * order.float() / dim)
    plane = base_plane ** (-rank.float() / max(-(-dim // 6), 1))
    where = positions.float()
    time = where[:, 0, :, None] * plain  # (B, T, dim / 2)
    angle = torch.where(axis == 0, time, where[:, axis].transpose(1, 2) * plane)
    angle = torch.where((positions[:, 1] < 0)[..., None], time, angle)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def mixed_angles(positions: torch.Tensor, dim: int, base: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines `(B, T, dim)` of positions `(B, 3, T)`: frequencies 0, 3, 6, … turn with time, 1, 4, 7, … with
    the row, 2, 5, 8, … with the column. Where the three are equal this is plain rotary embedding.
    """
    order = torch.arange(dim // 2, device=positions.device)
    frequency = base ** (-2 * order.float() / dim)
    angle = positions[:, order % 3].transpose(1, 2).float() * frequency  # (B, T, dim / 2)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


__all__ = ["mixed_angles", "placed_angles", "placed_positions", "read_spans", "token_positions"]
