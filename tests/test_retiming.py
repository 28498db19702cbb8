"""Longer and shorter note values: the same music, still closed."""

from __future__ import annotations

import random

from intermezzo.datasets_scripts.guitar_parts import iter_system_jobs
from intermezzo.datasets_scripts.retiming import METRES, retimed
from intermezzo.processing.alphatex_grammar import bars_close, read_alphatex, write_alphatex

TEXTS = [text for text, _, _ in iter_system_jobs(5, 80, "train")]


def test_all_lengths_change_by_one_factor_and_bars_still_close() -> None:
    factors = set()
    for text in TEXTS:
        changed = retimed(text, random.Random(text))
        if changed is None:
            continue
        before, after = read_alphatex(text), read_alphatex(changed)
        assert write_alphatex(after) == changed
        assert bars_close(after, first_may_be_short=True)
        pairs = list(zip(before.beats(), after.beats(), strict=True))
        ratios = {b.length / a.length for (*_, a), (*_, b) in pairs if a.length}
        assert len(ratios) == 1
        factors |= ratios
        assert all(a.notes == b.notes and a.effects == b.effects for (*_, a), (*_, b) in pairs)
        metre = after.staves[0].bars[0].time_signature
        assert metre is not None and f"{metre[0]},{metre[1]}" in METRES
    assert factors == {2, 0.5}


def test_a_metre_that_was_not_written_is_written() -> None:
    found = {retimed("\\staff {tabs}\n3.3.4 3.3.4 3.3.4 3.3.4 |\n", random.Random(k)) for k in range(9)}
    assert found == {
        "\\staff {tabs}\n\\ts (4 2) 3.3.2 3.3.2 3.3.2 3.3.2 |\n",
        "\\staff {tabs}\n\\ts (4 8) 3.3.8 3.3.8 3.3.8 3.3.8 |\n",
    }


def test_what_has_no_such_values_is_left_alone() -> None:
    assert retimed("\\staff {tabs}\n\\ts (7 8) 3.3.64 3.3.64 3.3.32 3.3.16 3.3.8 3.3.1 |\n", random.Random(0)) is None
    assert retimed("\\staff {tabs}\nr.1 |\n3.3.2 3.3.2 |\n", random.Random(0)) is None
