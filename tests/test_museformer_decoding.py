"""Museformer's own decoding: every text is music, plans and headers are kept, all bars at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import symusic
import torch

from intermezzo.processing.bar_midi_grammar import BarGrammar, BarGrammarLogitsProcessor
from intermezzo.processing.bar_midi_vocabulary import BAR_ID, EOS_ID, PAD_ID, PROGRAM, token_names
from intermezzo.processing.processing_museformer import BarMidiProcessor

from .tiny_museformer import batch_of, make, random_text, starts_of

torch.set_num_threads(1)
SETTINGS: dict[str, Any] = {"grammar": BarGrammar, "max_bar_tokens": 14}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plan_of(rows: int, bars: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, bars, 6, generator=seeded(seed))


def check(ids: torch.Tensor, bars: int, tmp_path: Any = None) -> None:
    """The text is music: it reads strictly, has so many bars, and survives a MIDI file."""
    processor = BarMidiProcessor()
    for row in ids:
        text = row[row != PAD_ID]
        assert int((text == BAR_ID).sum()) == bars and text[-1] == EOS_ID and (text == EOS_ID).sum() == 1
        score = processor.decode(text, strict=True)
        if tmp_path is not None and score.note_num():
            score.dump_midi(str(tmp_path / "x.mid"))
            again = processor(tmp_path / "x.mid")["input_ids"]
            assert int((again == BAR_ID).sum()) == bars
            assert symusic.Score(str(tmp_path / "x.mid")).note_num() == score.note_num()


def test_every_text_of_an_untrained_model_is_music(tmp_path: Any) -> None:
    model = make()
    for seed in range(2):
        check(model.write(5, num_samples=3, generator=seeded(seed), **SETTINGS), 5, tmp_path)
    check(model.write(3, summary_tokens=plan_of(2, 3), num_samples=4, generator=seeded(), **SETTINGS), 3, tmp_path)
    parallel = model.write(4, summary_tokens=plan_of(2, 4), parallel=True, generator=seeded(), **SETTINGS)
    assert len(parallel) == 2
    check(parallel, 4, tmp_path)


def test_generate_with_the_grammar_writes_music() -> None:
    """Also with beams, which change places; and the grammar's own step agrees with reading the text anew."""
    model, processor = make(), BarMidiProcessor()
    prompt = torch.tensor([processor.header(), processor.header()])
    for options in ({"do_sample": True}, {"num_beams": 2, "do_sample": False}):
        torch.manual_seed(0)
        rules = processor.logits_processor(num_bars=3, max_bar_tokens=12)
        ids = model.generate(prompt, logits_processor=[rules], max_new_tokens=60, **options)
        check(torch.cat([ids, torch.full((2, 1), PAD_ID)], 1), 3)
    text = random_text(4, 3)[None]
    step = BarGrammar(1)
    for place in range(text.shape[1]):
        step.advance(text[:, place])
        assert torch.equal(step.allowed(), BarGrammar.after(text[:, : place + 1]).allowed())
    scores = torch.zeros(1, 1023)
    assert torch.equal(BarGrammarLogitsProcessor()(text, scores).isfinite(), step.allowed())


def test_seeds_reproduce_and_greedy_needs_none() -> None:
    model = make()
    one, two = (model.write(3, generator=seeded(1), **SETTINGS) for _ in range(2))
    assert torch.equal(one, two) and not torch.equal(one, model.write(3, generator=seeded(2), **SETTINGS))
    greedy = [model.write(3, temperature=0, generator=seeded(s), **SETTINGS) for s in (0, 1)]
    assert torch.equal(*greedy)
    assert torch.equal(model.write(3, top_k=1, generator=seeded(5), **SETTINGS), greedy[0])
    assert torch.equal(model.write(3, top_p=1e-6, generator=seeded(5), **SETTINGS), greedy[0])


def test_the_lean_loop_writes_what_generate_writes() -> None:
    model, processor = make(), BarMidiProcessor()
    rules = processor.logits_processor(num_bars=4, max_bar_tokens=14)
    wanted = model.generate(torch.tensor([[BAR_ID]]), logits_processor=[rules], do_sample=False, max_new_tokens=100)
    assert torch.equal(model.write(4, temperature=0, **SETTINGS), wanted)


def test_a_plan_moves_every_bar_and_rows_follow_their_own() -> None:
    model = make()
    plan = plan_of(2, 4)
    both = model.write(4, summary_tokens=plan, temperature=0, **SETTINGS)
    for row in range(2):
        alone = model.write(4, summary_tokens=plan[row : row + 1], temperature=0, **SETTINGS)
        assert torch.equal(both[row][both[row] != PAD_ID], alone[0])
    assert not torch.equal(both[0], both[1])
    with model.inject_summary_tokens(plan[:1]):
        assert torch.equal(model.write(4, temperature=0, **SETTINGS), alone if row == 0 else model.write(
            4, summary_tokens=plan[:1], temperature=0, **SETTINGS))  # fmt: skip


def test_a_header_is_kept_in_every_bar() -> None:
    model, processor = make(), BarMidiProcessor()
    header = processor.header(tempo=97, metre="3/4")
    for options in ({}, {"parallel": True}):
        ids = model.write(3, summary_tokens=plan_of(1, 3), header=header, generator=seeded(), **SETTINGS, **options)
        for start in starts_of(ids[0])[:-1]:
            assert ids[0, start : start + 3].tolist() == header, options
        check(ids, 3)
    free = model.write(3, summary_tokens=plan_of(1, 3), parallel=True, generator=seeded(), **SETTINGS)
    heads = {tuple(free[0, start : start + 3].tolist()) for start in starts_of(free[0])[:-1]}
    assert len(heads) == 1  # bars written at once agree about metre and tempo


def test_banned_words_are_never_written() -> None:
    model = make()
    banned = [PROGRAM + k for k in range(129) if k != 41]
    ids = model.write(4, num_samples=2, banned=banned, generator=seeded(), **SETTINGS)
    programs = {token_names()[int(word)] for word in ids.flatten() if PROGRAM <= word < PROGRAM + 129}
    assert programs <= {"Program_40"} and programs


def test_one_bar_is_the_same_alone_and_at_once() -> None:
    model = make()
    plan = plan_of(1, 1)
    one = model.write(1, summary_tokens=plan, temperature=0, **SETTINGS)
    for passes in (1, 2):
        at_once = model.write(1, summary_tokens=plan, temperature=0, parallel=True, passes=passes, **SETTINGS)
        assert torch.equal(one, at_once)


def test_the_second_pass_sees_the_words_of_other_bars_as_whole_texts_do() -> None:
    """A bar read word by word behind a finished text, all bars at once: as in that text under the same plan."""
    texts = [random_text(6, 1), random_text(6, 2)]
    ids, mask = batch_of(texts)
    model, plan = make(), plan_of(2, 6)
    rows = torch.arange(2).repeat_interleave(6)
    with torch.no_grad():
        read = model.model(ids, mask, plan=True, summary_tokens=plan, use_cache=True)
        whole = model.lm_head(read.last_hidden_state)
        cache = model.model.start_cache(
            12, plan[rows], torch.ones(12, 6, dtype=torch.bool), torch.zeros(12, dtype=torch.bool)
        )
        cache.bar = torch.arange(6).repeat(2) - 1
        cache.look_back(read.past_key_values.store, read.past_key_values.store_bar, rows)
        starts = [starts_of(row) for row in ids]
        for place in range(3):
            words = torch.stack([ids[r, starts[r][b] + place] for r in range(2) for b in range(6)])
            logits = model.lm_head(model.model.step(words, cache))[:, 0]
            for at in range(12):
                wanted = whole[at // 6, starts[at // 6][at % 6] + place]
                torch.testing.assert_close(logits[at], wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "options, told",
    [
        (dict(num_bars=0), "num_bars 0"),
        (dict(num_bars=2, num_samples=0), "num_samples 0"),
        (dict(num_bars=2, temperature=-1.0), "temperature -1.0"),
        (dict(num_bars=2, top_p=0.0), "top_p 0.0"),
        (dict(num_bars=2, parallel=True), "plan for each of 2 bars; summary_tokens have 0"),
        (dict(num_bars=2, parallel=True, summary_tokens=torch.zeros(1, 1, 6)), "summary_tokens have 1"),
        (dict(num_bars=2, num_samples=3, summary_tokens=torch.zeros(2, 2, 6)), "3 is not a multiple of the 2"),
        (dict(num_bars=2, header=[5]), "begins with word 2, not 5"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told) as caught:
        make().write(**{**SETTINGS, **options})
    assert "\n" not in str(caught.value)


def test_a_bar_ends_in_time_and_a_text_without_grammar_ends_too() -> None:
    model = make()
    ids = model.write(3, num_samples=2, generator=seeded(), **SETTINGS)
    for row in ids:
        assert max(np.diff(starts_of(row))) <= 14 + 4  # a note that has begun is finished
    free = model.write(2, max_bar_tokens=8, generator=seeded())
    assert free.shape[1] <= 2 * 9 + 1 and free[0, -1] == EOS_ID
