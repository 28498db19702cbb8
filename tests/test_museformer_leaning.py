"""Words that lean to a side: each attribute moves, the rest and the grammar stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.modeling.museformer_leaning import STRENGTHS, Leaning, leaning
from intermezzo.processing.bar_midi_grammar import BarGrammar
from intermezzo.processing.bar_midi_vocabulary import (
    BAR_ID,
    KIND_OF,
    KINDS,
    PAD_ID,
    PLACE_OF,
    SECTIONS,
    VOCAB_SIZE,
)
from intermezzo.processing.music_wishes import SIDED, measure_score
from intermezzo.processing.processing_museformer import BarMidiProcessor
from intermezzo.processing.tokenization_bar_midi import decode

from .tiny_museformer import make, random_text

torch.set_num_threads(1)
SETTINGS: dict[str, Any] = {"grammar": BarGrammar, "max_bar_tokens": 40}


def side(name: str, value: float, rows: int = 1) -> torch.Tensor:
    sides = torch.zeros(rows, len(SIDED))
    sides[:, SIDED.index(name)] = value
    return sides


def words(*kinds_places: tuple[str, int]) -> list[int]:
    return [SECTIONS[kind].first + place for kind, place in kinds_places]


def after(text: list[int], sides: torch.Tensor) -> torch.Tensor:
    """What is added to even logits after a text, `(V,)`."""
    follower = leaning(None, sides)(1)
    for word in text:
        follower.advance(torch.tensor([word]))
    return follower.constrain(torch.zeros(1, VOCAB_SIZE))[0]


BEGUN = [BAR_ID, *words(("TimeSig", 20), ("Tempo", 100), ("Position", 0), ("Program", 1))]


def chances(logits: torch.Tensor, kind: str) -> torch.Tensor:
    section = SECTIONS[kind]
    return logits[section.first : section.first + section.size].softmax(0)


@pytest.mark.parametrize("name", ["sustain", "dynamics", "register"])
def test_one_side_makes_what_adds_to_it_likelier(name: str) -> None:
    kind = {"sustain": "Duration", "dynamics": "Velocity", "register": "Pitch"}[name]
    place = torch.arange(SECTIONS[kind].size).float()
    means = [float((chances(after(BEGUN, side(name, value)), kind) * place).sum()) for value in (-1.0, 0.0, 1.0)]
    assert means[0] < means[1] < means[2]
    flat = after(BEGUN, side(name, 0.0))
    assert not flat.any()
    pushed = after(BEGUN, side(name, 2.0))
    assert not pushed[KINDS.index(kind) != KIND_OF].any()  # nothing else is touched


def test_leaps_are_counted_from_the_top_of_the_place_before() -> None:
    note = words(("Pitch", 60), ("Velocity", 20), ("Duration", 11))
    text = [*BEGUN, *note, *words(("Pitch", 72), ("Velocity", 20), ("Duration", 11)), *words(("Position", 12))]
    leapt, stepped = (chances(after(text, side("leaps", value)), "Pitch") for value in (1.0, -1.0))
    assert leapt[77] > leapt[40] > leapt[76] and leapt[76] == leapt[68] and leapt[67] == leapt[40]
    assert stepped[77] < stepped[40] < stepped[76]
    first = after(BEGUN, side("leaps", 1.0))
    assert not first.abs().max() > 1e-5  # nothing sounded before


def test_whether_a_pitch_comes_at_all_is_left_as_it_is() -> None:
    """Also in a chord, whose next note must lie above the last."""
    chord = words(("Pitch", 60), ("Velocity", 20), ("Duration", 11))
    text = [*BEGUN, *chord, *words(("Position", 12)), *words(("Pitch", 64), ("Velocity", 20), ("Duration", 11))]
    logits = torch.randn(1, VOCAB_SIZE, generator=torch.Generator().manual_seed(0))
    follower = leaning(None, side("leaps", 2.0) + side("register", -1.0))(1)
    for word in text:
        follower.advance(torch.tensor([word]))
    section = SECTIONS["Pitch"]
    above = slice(section.first + 65, section.first + section.size)
    found = follower.constrain(logits.clone())
    assert float(found[0, above].logsumexp(0)) == pytest.approx(float(logits[0, above].logsumexp(0)), abs=1e-4)
    assert not torch.allclose(found[0, above], logits[0, above], atol=0.1)


def test_dense_music_waits_less() -> None:
    text = [*BEGUN, *words(("Pitch", 60), ("Velocity", 20), ("Duration", 11))]
    dense, sparse = (after(text, side("density", value)) for value in (1.0, -1.0))
    near, far = words(("Position", 3), ("Position", 40))
    assert dense[near] > dense[far] > dense[BAR_ID] - 2 and sparse[near] < sparse[far]
    assert dense[BAR_ID] < 0 < sparse[BAR_ID]


def test_texts_stay_in_the_grammar_and_move_to_the_side() -> None:
    model, processor = make(), BarMidiProcessor()
    strong = dict.fromkeys(STRENGTHS, 4.0)
    for name, value in strong.items():
        found = []
        for sign in (-1.0, 1.0):
            lean = side(name, sign * value, 6)
            draw = torch.Generator().manual_seed(1)
            ids = model.write(4, num_samples=6, lean=lean, grammar=BarGrammar, max_bar_tokens=100, generator=draw)
            for row in ids:
                processor.decode(row[row != PAD_ID], strict=True)
            measured = [measure_score(decode(row[row != PAD_ID].numpy())).get(name) for row in ids]
            found.append(np.mean([x for x in measured if x is not None]))
        assert found[0] < found[1], (name, found)


def test_no_side_is_as_if_nothing_leant_and_rows_lean_by_themselves() -> None:
    model = make()
    draws = [torch.Generator().manual_seed(2) for _ in range(2)]
    free = model.write(3, num_samples=4, generator=draws[0], **SETTINGS)
    level = model.write(3, num_samples=4, lean=torch.zeros(2, 7), generator=draws[1], **SETTINGS)
    assert torch.equal(free, level)
    plan = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    lean = torch.cat([side("sustain", -30.0), side("sustain", 30.0)])
    ids = model.write(
        3, summary_tokens=plan, lean=lean, parallel=True, generator=torch.Generator().manual_seed(3), **SETTINGS
    )
    lengths = [PLACE_OF[row[KIND_OF[row] == KINDS.index("Duration")]].mean() for row in ids.numpy()]
    assert lengths[1] > 95 and lengths[0] < 2  # eight quarters are as long as anything, an eighth of one as short


def test_it_follows_the_text_as_the_grammar_does() -> None:
    """Place, length of the bar and last pitch are the grammar's own, whatever the text."""
    for seed in range(5):
        grammar = BarGrammar(1)
        follower = Leaning(grammar, torch.zeros(1, 7))
        for word in random_text(3, seed, words=30).tolist():
            follower.advance(torch.tensor([word]))
            assert int(follower.place) == max(int(grammar.position), 0) and int(follower.length) == int(grammar.length)
            if KINDS[KIND_OF[word]] != "PitchDrum" and int(grammar.program) != 128:
                assert int(follower.pitch) == int(grammar.pitch)
            assert follower.bars is grammar.bars  # what it does not know is the grammar's


def test_sides_that_can_not_be_are_refused() -> None:
    for wrong in (torch.zeros(7), torch.zeros(1, 6), torch.full((1, 7), float("nan"))):
        with pytest.raises(ValueError, match="lean"):
            leaning(BarGrammar, wrong)
    with pytest.raises(ValueError, match="multiple of the 2 rows of lean"):
        make().write(2, num_samples=3, lean=torch.zeros(2, 7), **SETTINGS)
