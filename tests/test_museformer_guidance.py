"""What a plan measures is taken at its word: the tempo, the metre and the pitch classes of the whole piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from intermezzo.modeling.modeling_museformer import MuseformerForCausalLM
from intermezzo.modeling.museformer_guidance import guide_of
from intermezzo.processing.bar_midi_grammar import BarGrammar
from intermezzo.processing.bar_midi_vocabulary import (
    BAR_ID,
    DURATION,
    MIN_TEMPO,
    PITCH,
    POSITION,
    SECTIONS,
    SIGNATURE_TICKS,
    TEMPO,
    TICKS_PER_QUARTER,
    TIME_SIGNATURE,
    VELOCITY,
    VOCAB_SIZE,
)
from intermezzo.processing.processing_museformer import BarMidiProcessor

from .tiny_museformer import make

torch.set_num_threads(1)
TEMPOS, METRES, PITCHES = (
    slice(SECTIONS[kind].first, SECTIONS[kind].first + SECTIONS[kind].size) for kind in ("Tempo", "TimeSig", "Pitch")
)
C_MAJOR = (0, 2, 4, 5, 7, 9, 11)


def model_that_measures(seed: int = 0) -> MuseformerForCausalLM:
    return make(seed, summary_size=26, measure_bars=True)


def text(tempo: int, metre: str, bars: Sequence[Sequence[int]]) -> torch.Tensor:
    """Bars of so many pitches, one on each eighth."""
    header = BarMidiProcessor().header(tempo=tempo, metre=metre)
    words: list[int] = []
    for pitches in bars:
        words += header
        for number, pitch in enumerate(pitches):
            words += [POSITION + 6 * number, PITCH + pitch, VELOCITY + 15, DURATION + 5]
    assert words[0] == BAR_ID
    return torch.tensor(words)


def plan_of(*texts: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
    """Measured plans `(S, N, 26)` of texts of equally many bars; the numbers that are learnt are noise."""
    model = model_that_measures()
    plans = torch.cat([model.get_summary_tokens(one[None]) for one in texts])
    return plans + noise * torch.randn(plans.shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("tempo", "metre", "quarters"), [(47, "4/4", 4), (97, "3/4", 3), (180, "5/4", 5)])
def test_the_plans_own_tempo_and_metre_are_likeliest(tempo: int, metre: str, quarters: int) -> None:
    bars = [[60, 64], [62, 67], [60], [71]]
    exact = guide_of(plan_of(text(tempo, metre, bars)), 1.0)[0]
    assert int(exact[TEMPOS].argmax()) + MIN_TEMPO == tempo and float(exact[TEMPOS].max()) == pytest.approx(0, abs=1e-3)
    assert exact[TEMPO + tempo - MIN_TEMPO + 20] < -3  # another tempo is not
    best = exact[METRES] == exact[METRES].max()  # all metres of that length
    assert [SIGNATURE_TICKS[k] for k in best.nonzero()[:, 0]] == [quarters * TICKS_PER_QUARTER] * int(best.sum())
    assert TIME_SIGNATURE + best.nonzero()[0, 0] in range(METRES.start, METRES.stop)
    noisy = guide_of(plan_of(text(tempo, metre, bars * 8), noise=0.15), 1.0)[0]
    assert int(noisy[TEMPOS].argmax()) + MIN_TEMPO == pytest.approx(tempo, rel=0.05)


def test_pitch_classes_weigh_as_often_as_the_plan_has_them() -> None:
    bars = [[60, 60, 64, 67], [62, 65, 69], [72, 76, 79, 83]]
    guide = guide_of(plan_of(text(120, "4/4", bars)), 1.0)[0, PITCHES]
    for pitch in range(12, 116):
        assert (guide[pitch] > guide[61]) == (pitch % 12 in C_MAJOR), pitch
        assert guide[pitch] == guide[pitch % 12 + 60]
    assert guide[60] > guide[64]  # mean shares of C and E: a quarter and a sixth
    half = guide_of(plan_of(text(120, "4/4", bars)), 0.5)[0, PITCHES]
    torch.testing.assert_close(half, guide / 2)
    shares = (guide.double().exp()[60:72] / 12 * (1 + 0.12) - 0.01).tolist()
    assert sum(shares) == pytest.approx(1, abs=1e-3) and shares[0] == pytest.approx((1 / 2 + 0 + 1 / 4) / 3, abs=1e-3)


def test_nothing_else_is_touched_and_no_guidance_is_none() -> None:
    plan = plan_of(text(100, "4/4", [[60]]), text(60, "3/4", [[61]]))
    guide = guide_of(plan, 1.0)
    assert guide.shape == (2, VOCAB_SIZE) and guide.dtype == torch.float32
    rest = torch.ones(VOCAB_SIZE, dtype=torch.bool)
    for words in (TEMPOS, METRES, PITCHES):
        rest[words] = False
        assert not torch.equal(guide[0, words], guide[1, words])
    assert not guide[:, rest].any()
    assert not guide_of(plan, 0.0).any()


@pytest.mark.parametrize("parallel", [False, True])
def test_what_is_written_has_the_tempo_metre_and_key_of_its_own_plan(parallel: bool) -> None:
    """Of an untrained model, which knows nothing: with no guidance it has none of them."""
    wanted = [(70, "3/4", C_MAJOR), (150, "4/4", [(k + 6) % 12 for k in C_MAJOR])]
    plan = plan_of(*(text(t, m, [[60 + k for k in classes[:5]]] * 3) for t, m, classes in wanted))
    options: dict[str, Any] = dict(grammar=BarGrammar, max_bar_tokens=40, parallel=parallel, num_samples=4)
    model = model_that_measures(1)
    draw = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    found = model.write(3, summary_tokens=plan, guidance=2.0, generator=draw(), **options)
    free = model.write(3, summary_tokens=plan, guidance=0.0, generator=draw(), **options)

    def kept(ids: torch.Tensor, row: int) -> tuple[bool, bool, float]:
        tempo, metre, classes = wanted[row // 2]
        tempos = ids[(ids >= TEMPOS.start) & (ids < TEMPOS.stop)] - TEMPOS.start + MIN_TEMPO
        metres = ids[(ids >= METRES.start) & (ids < METRES.stop)] - METRES.start
        pitches = ids[(ids >= PITCHES.start) & (ids < PITCHES.stop)] - PITCHES.start
        lengths = [SIGNATURE_TICKS[k] for k in metres]
        right = [int(pitch) % 12 in classes[:5] for pitch in pitches]
        return (
            bool(((tempos / tempo).log2().abs() < 0.3).all()),
            all(abs(length / (int(metre[0]) * TICKS_PER_QUARTER) - 1) < 0.15 for length in lengths),
            sum(right) / max(len(right), 1),
        )

    guided, loose = ([kept(row, number) for number, row in enumerate(ids)] for ids in (found, free))
    assert all(tempo and metre for tempo, metre, _ in guided) and min(share for *_, share in guided) > 0.7
    assert not any(tempo for tempo, _, _ in loose)
    assert sum(share for *_, share in loose) / 4 < 0.7


def test_a_header_wins_over_the_plan_and_plans_that_measure_nothing_guide_nothing() -> None:
    plan = plan_of(text(70, "3/4", [[60, 64, 67]] * 2))
    header = BarMidiProcessor().header(tempo=200, metre="4/4")
    ids = model_that_measures().write(2, summary_tokens=plan, header=header, grammar=BarGrammar, max_bar_tokens=20)
    assert set(ids[(ids >= TEMPOS.start) & (ids < TEMPOS.stop)].tolist()) == {header[2]}
    learnt = make()  # measures nothing
    plan = torch.randn(1, 2, 6, generator=torch.Generator().manual_seed(0))
    settings: dict[str, Any] = dict(summary_tokens=plan, grammar=BarGrammar, max_bar_tokens=20, temperature=0)
    assert torch.equal(learnt.write(2, guidance=3.0, **settings), learnt.write(2, guidance=0.0, **settings))
    with pytest.raises(ValueError, match=r"guidance -1\.0 must be 0 or more"):
        learnt.write(2, guidance=-1.0)
