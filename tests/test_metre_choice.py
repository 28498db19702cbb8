"""A metre that was misread, found by the bars that it spoils."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from intermezzo.processing.alphatex_grammar import read_alphatex, write_alphatex
from intermezzo.processing.dense_labels import build_label_space
from intermezzo.processing.dense_reading import DenseReader
from intermezzo.processing.metre_choice import seen_metres, settle_metre

from .dense_truth import perfect_logits, truth

HEAD = "\\staff {tabs}\n"
SIX = HEAD + "\\ts (6 8) 3.3.8 5.3.8 7.3.8 3.3.8 5.3.8 7.3.8 |\n1.2.4 3.2.8 1.2.4 3.2.8 |\n"
FOUR = SIX.replace("(6 8)", "(4 8)")
SHORT = HEAD + "\\ts (4 8) 3.3.8 5.3.8 7.3.8 3.3.8 |\n1.2.4 3.2.4 |\n"
FIVE = HEAD + "\\ts (4 8) 3.3.8 5.3.8 7.3.8 3.3.8 |\n\\ts (5 8) 1.2.8 3.2.8 1.2.8 3.2.8 1.2.8 |\n"
SPACE = build_label_space(map(read_alphatex, (SIX, FOUR, SHORT, FIVE)))


def looks(text: str, chances: dict[tuple[int, int], float]) -> tuple[dict[str, np.ndarray], int]:
    """What the heads say of a text whose time signature is blurred."""
    labels, width = truth(read_alphatex(text), SPACE)
    logits = perfect_logits(labels, width, SPACE)
    starts = logits["bar_starts"].copy()
    slot = int(np.argmax(starts[:, [names_of(metre) for metre in chances]].max(axis=1)))
    for metre, chance in chances.items():
        starts[slot, names_of(metre)] = np.log(chance / (1 - chance))
    return {**logits, "bar_starts": starts}, width


def names_of(metre: tuple[int, int]) -> int:
    return next(i for i, name in enumerate(SPACE["bar_starts"]) if name.startswith("ts") and metre_of(name) == metre)


def metre_of(name: str) -> tuple[int, int]:
    from intermezzo.processing.dense_labels import effect_from_key

    above, below = effect_from_key(name)[1][:2]
    return int(above), int(below)


def read(logits: dict[str, np.ndarray], width: int) -> tuple[Any, Any, Any]:
    reader = DenseReader(SPACE)
    first = reader.read(logits, width)
    return reader, first, settle_metre(reader, logits, width, first)


def test_bars_that_are_plainly_longer_make_the_metre() -> None:
    logits, width = looks(SIX, {(4, 8): 0.9, (6, 8): 0.05})
    reader, first, settled = read(logits, width)
    assert first.score.staves[0].bars[0].time_signature == (4, 8)  # two beats are left out of each bar
    assert write_alphatex(settled.score) == SIX
    assert min(settled.bar_confidence) > min(first.bar_confidence)
    assert reader.instead == {}  # the next system is read as it is seen


def test_a_metre_whose_bars_are_full_stays() -> None:
    logits, width = looks(SHORT, {(4, 8): 0.6, (6, 8): 0.4})
    _, first, settled = read(logits, width)
    assert settled is first and write_alphatex(settled.score) == SHORT


def test_what_is_tried_in_vain_leaves_no_trace_in_the_reader() -> None:
    """Ties of the next system are read with what the last bar holds."""
    text = HEAD + "\\ts (4 8) 3.3.8 5.3.8 7.3.8 3.3.8 5.3.8 |\n1.2.4 3.2.4 |\n"
    logits, width = looks(text, {(4, 8): 0.9, (6, 8): 2e-4})
    reader, first, settled = read(logits, width)
    assert settled is not first and settled == first  # the first bar was in doubt, and stayed as it was
    alone = DenseReader(SPACE)
    alone.read(logits, width)
    assert (reader._held, reader._before) == (alone._held, alone._before)


def test_a_metre_that_was_not_seen_is_not_thought_of() -> None:
    logits, width = looks(SIX, {(4, 8): 0.9, (6, 8): 1e-6})
    reader, first, settled = read(logits, width)
    assert settled is first
    assert set(seen_metres(reader, logits, first)[0]) == {(4, 8), None}


def test_a_reading_without_a_metre_stays() -> None:
    blind = looks(SIX, {(4, 8): 1e-6, (6, 8): 1e-6})
    _, first, settled = read(*blind)
    assert first.score.staves[0].bars[0].time_signature is None and settled is first


@pytest.mark.parametrize("bar", [0, 1])
def test_a_metre_that_changes_inside_is_settled_too(bar: int) -> None:
    text = SIX if bar == 0 else HEAD + "3.3.4 5.3.4 7.3.4 3.3.4 |\n\\ts (6 8) 3.3.8 5.3.8 7.3.8 3.3.8 5.3.8 7.3.8 |\n"
    logits, width = looks(text, {(4, 8): 0.9, (6, 8): 0.05})
    assert write_alphatex(read(logits, width)[2].score) == text


def test_a_time_signature_that_was_overlooked_is_found_by_the_bars_behind_it() -> None:
    logits, width = looks(FIVE, {(5, 8): 0.02})
    _, first, settled = read(logits, width)
    assert first.score.staves[0].bars[1].time_signature is None  # a beat is left out
    assert write_alphatex(settled.score) == FIVE


def test_a_time_signature_that_is_not_there_is_dropped() -> None:
    text = FIVE.replace("\\ts (5 8) 1.2.8 3.2.8 1.2.8 3.2.8 1.2.8", "1.2.8 3.2.8 1.2.8 3.2.8")
    labels, width = truth(read_alphatex(text), SPACE)
    logits = perfect_logits(labels, width, SPACE)
    starts = logits["bar_starts"].copy()
    second = DenseReader(SPACE)
    second.read(logits, width)
    starts[second.bar_edges[1][0], names_of((5, 8))] = np.log(0.6 / 0.4)
    _, first, settled = read({**logits, "bar_starts": starts}, width)
    assert first.score.staves[0].bars[1].time_signature == (5, 8)
    assert write_alphatex(settled.score) == text


def test_a_pick_up_that_is_full_in_another_metre_is_none() -> None:
    logits, width = looks(SHORT.replace("1.2.4 3.2.4", "1.2.4{d} 3.2.8"), {(6, 8): 0.8, (4, 8): 0.1})
    _, first, settled = read(logits, width)
    assert first.score.staves[0].bars[0].anacrusis
    bars = settled.score.staves[0].bars
    assert bars[0].time_signature == (4, 8) and not bars[0].anacrusis
