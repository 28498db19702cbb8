"""Words and signs around the notes: drawn, and nothing that the truth names is another."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest

from intermezzo.datasets_scripts.continuations import as_continuation
from intermezzo.datasets_scripts.decorations import EXPRESSIONS, JUMPS, RATES, SECTIONS, TEMPO_WORDS, decorated
from intermezzo.datasets_scripts.guitar_parts import iter_system_jobs
from intermezzo.datasets_scripts.render.client import AlphaTabPool, RenderJob
from intermezzo.processing.alphatex_grammar import Score, read_alphatex, write_alphatex

TEXTS = [text for text, *_ in iter_system_jobs(21, 40, "train")]
PLAIN = "\\staff {tabs}\n\\ts (4 4) \\tempo 96 3.3.4 5.3.4 7.3.4 8.3.4 |\n5.2.4 7.2.4 8.2.4 r.4 |\n"
ADDED = {"dy", "cre", "dec", "lyrics", "txt", "fermata", "ch"}


def without(score: Score) -> str:
    """The text without what decorations put on it."""
    staff = score.staves[0]
    staff.other.pop("chord", None)
    for bar in staff.bars:
        bar.section = None
        for name in ("jump", "tempolabel"):
            bar.other.pop(name, None)
        for beat in (beat for voice in bar.voices for beat in voice):
            beat.effects = {name: value for name, value in beat.effects.items() if name not in ADDED}
    return write_alphatex(score)


def test_the_music_stays_and_every_kind_comes() -> None:
    rng = random.Random(4)
    kinds: set[str] = set()
    changed = 0
    for text in TEXTS:
        done = decorated(text, rng)
        assert without(read_alphatex(done.text)) == text
        changed += done.text != text
        kinds |= set(done.kinds)
    assert kinds == set(RATES) and changed > 0.9 * len(TEXTS)


def test_chance_alone_decides() -> None:
    first, again, other = (decorated(TEXTS[0], random.Random(seed)) for seed in (3, 3, 4))
    assert first == again != other


def test_bars_that_are_not_drawn_stay() -> None:
    later = next(found for text in TEXTS if (found := as_continuation(text)))
    for seed in range(20):
        hidden = read_alphatex(decorated(later[0], random.Random(seed), first_bar=1).text).staves[0].bars[0]
        assert hidden == read_alphatex(later[0]).staves[0].bars[0]


def test_no_word_means_something_in_our_texts() -> None:
    words = {word.strip("().,").lower() for word in (*TEMPO_WORDS, *SECTIONS, *EXPRESSIONS)}
    assert not words & {"p.m", "let ring", "h", "p", "t", "s", "tr", "sl", "full", "x2", "x3", "x4", "x8", "n.h", "a.h"}


def test_alphatab_draws_them_and_the_notes_stay_where_the_text_says() -> None:
    with AlphaTabPool(workers=1) as pool:
        plain = pool.render(RenderJob(text=PLAIN, dynamics=False))[0]
        looks = set()
        for seed in range(6):
            done = decorated(PLAIN, random.Random(seed))
            assert not [d for d in pool.verify(done.text) if d.severity == "error"], done.text
            drawn = pool.render(RenderJob(text=done.text, **done.style))[0]
            assert [(n.bar, n.beat, n.string, n.fret) for n in drawn.notes] == [
                (n.bar, n.beat, n.string, n.fret) for n in plain.notes
            ]
            looks.add(np.asarray(drawn.image()).tobytes())
        assert np.asarray(plain.image()).tobytes() not in looks and len(looks) == 6
        for name in JUMPS:
            text = PLAIN.replace("\\ts", f"\\jump {name} \\ts")
            assert not [d for d in pool.verify(text) if d.severity == "error"], name


def test_a_pack_without_decorations_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    from intermezzo.datasets_scripts.render import client
    from intermezzo.train import score_vlm_pack

    asked: list[RenderJob] = []

    class Pool:
        def __init__(self, workers: int) -> None: ...
        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: object) -> None: ...
        def map_render(self, jobs):
            for job in jobs:
                asked.append(job)
                yield client.RenderError("parse_error", "not drawn here")

    monkeypatch.setattr(client, "AlphaTabPool", Pool)
    runs = []
    for share in (0.0, 0.5):
        asked.clear()
        list(islice(score_vlm_pack.generated_rows(5, 30, "train", 0.3, 0.2, 0.1, share), 30))
        runs.append(list(asked))
    same = [a.text == b.text for a, b in zip(*runs, strict=True)]
    assert [job.key for job in runs[0]] == [job.key for job in runs[1]]  # the truth is the same
    assert 5 < sum(same) < 25
    for plain, drawn in zip(*runs, strict=True):
        assert without(read_alphatex(drawn.text)) == plain.text
