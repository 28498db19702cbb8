"""What stands beside a code: cells of its picture that were written before, told to it with its own embedding.

A picture is written line by line, so the cell beside is a whole line of tokens away, and a digit that is cut by the
border of two patches, or a line that just goes on, has to be looked up by attention. A small convolution over cells
that are known already says it at once; nothing that comes later is seen.
"""

from __future__ import annotations

import torch
from torch import nn

from ..processing.native_vocabulary import NativeVocabulary
from .native_positions import read_spans

#: Steps (along the line, lines) from a cell to what it is told of: the cell before, and five of the line before. Those
#: further on are beside the cell that comes next, which has to be foretold here.
OFFSETS = ((-1, 0), (-1, -1), (0, -1), (1, -1), (2, -1), (1, -2))


def neighbour_ids(input_ids: torch.Tensor, vocabulary: NativeVocabulary) -> torch.Tensor:
    """Ids of the cells beside each code, −1 where there is none: `(B, T, len(OFFSETS))`.

    The end of a line is told of the next line's first cell, as if it stood before it.

    Args:
        input_ids: `(B, T)`, the whole sequences.
        vocabulary: Ids.
    """
    spans = read_spans(input_ids, vocabulary)
    step = spans.length + 1  # tokens of a line, its end included
    line = torch.div(spans.place + 1, step, rounding_mode="floor")
    along = spans.place + 1 - line * step - 1  # −1 for the end of the line before
    index = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    found = []
    for more, lines in OFFSETS:
        there = spans.inside & (along + more >= 0) & (along + more < spans.length) & (line + lines >= 0)
        place = (index + more + lines * step).clamp(0, input_ids.shape[1] - 1)
        found.append(torch.where(there, input_ids.gather(1, place), -1))
    return torch.stack(found, dim=-1)


class Beside(nn.Module):
    """A layer for each of `OFFSETS`; what it says is added to a token's embedding.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Linear(width * len(OFFSETS), width, bias=False)

    def forward(self, table: nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
        """`(B, T, len(OFFSETS))` ids, −1 for nothing, to `(B, T, D)`."""
        seen = table(ids.clamp(min=0)) * (ids >= 0)[..., None].to(table.weight.dtype)
        return self.mix(seen.flatten(2))


__all__ = ["OFFSETS", "Beside", "neighbour_ids"]
