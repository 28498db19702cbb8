"""Systems from the middle of a page: no metre is drawn, and with a score staff the key is drawn again."""

from __future__ import annotations

from ..processing.alphatex_bars import bar_capacity
from ..processing.alphatex_grammar import Bar, Score, read_alphatex, write_alphatex
from ..processing.dense_reading import rests_for


def as_continuation(text: str) -> tuple[str, str, tuple[int, int]] | None:
    """Makes a system look as if others came before it.

    Args:
        text: Canonical alphaTex of one system, with its metre at the first bar.

    Returns:
        The text to draw, which has one bar of rest in front (draw from bar 1 on); the truth of the picture, without
        the metre; and the metre in force. `None` when the first bar is a pick-up, which only begins a piece.
    """
    truth = read_alphatex(text)
    first = truth.staves[0].bars[0]
    metre = first.time_signature or (4, 4)
    rests = rests_for(bar_capacity(metre))
    if first.anacrusis or rests is None:
        return None
    drawn: Score = read_alphatex(text)
    staff = drawn.staves[0]
    empty: list = [[] for _ in staff.bars[0].voices[1:]]
    staff.bars[0].time_signature = staff.bars[0].key_signature = None
    staff.bars.insert(0, Bar(voices=[rests, *empty], time_signature=metre, key_signature=first.key_signature))
    first.time_signature = None
    return write_alphatex(drawn), write_alphatex(truth), metre
