"""Systems crowded with rare signs: still correct text, with the same notes in the same rhythm."""

from __future__ import annotations

import random

from intermezzo.datasets_scripts.drills import with_rare_signs
from intermezzo.datasets_scripts.guitar_parts import iter_system_jobs
from intermezzo.processing.alphatex_grammar import bars_close, read_alphatex, write_alphatex

TEXTS = [text for text, _, _ in iter_system_jobs(4, 60, "train")]


def test_a_drill_is_canonical_and_closes() -> None:
    rng = random.Random(0)
    for text in TEXTS:
        drilled = with_rare_signs(text, rng)
        score = read_alphatex(drilled)
        assert write_alphatex(score) == drilled
        assert bars_close(score, first_may_be_short=False, empty_bars=False) == bars_close(
            read_alphatex(text), first_may_be_short=False, empty_bars=False
        )


def test_a_drill_keeps_rhythm_and_strings_and_repeats_by_seed() -> None:
    for text in TEXTS:
        drilled = with_rare_signs(text, random.Random(text))
        assert drilled == with_rare_signs(text, random.Random(text))
        old = [beat for *_, beat in read_alphatex(text).beats() if not beat.grace]
        new = [beat for *_, beat in read_alphatex(drilled).beats() if not beat.grace]
        for before, after in zip(old, new, strict=True):
            assert before.length == after.length
            assert [n.string for n in before.notes] == [n.string for n in after.notes]


def test_drills_bring_every_rare_sign() -> None:
    rng = random.Random(1)
    drilled = " ".join(with_rare_signs(text, rng) for text in TEXTS)
    signs = "st ac hac ph ah tr sia vw".split()
    for sign in (*signs, "be (prebend ", "au", "\\tempo", "\\ae (1)", "\\ae (2)"):
        assert sign in drilled, sign
    scores = [with_rare_signs(text, rng) for text in TEXTS if text.startswith("\\staff {tabs}")]
    assert not any(name in text for text in scores for name in (" st}", "{st", "{ac", "{hac"))
