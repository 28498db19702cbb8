"""How well a tab was read: error rates by field, note F1, exactness, parse rate and bar closure.

Every figure compares a predicted text with a true one, both alphaTex. A predicted text that does not parse counts as an
empty score everywhere: all its symbols are missing, nothing in it is right. `score_pair` counts one system,
`summarise` turns many counts into figures with intervals; `edit_distance` and `note_counts` are the parts.

*Tab-NED*, the error rate by field, is defined in `metrics_tab_edit`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from ..processing.alphatex_grammar import Score, bars_close, read_alphatex, write_alphatex
from ..processing.errors import InputError
from .metrics_common import Estimate, proportion, ratio
from .metrics_tab_edit import FIELDS, Element, edit_distance, elements, fret_symbol, symbols

NoteKey = tuple[int, Fraction, int, int | str]


# --- notes and bars ------------------------------------------------------------------------------------------------


def note_keys(score: Score) -> Counter[NoteKey]:
    """Every note as (bar, onset, string, fret), counted.

    The bar is counted from 0 through all staves in order, the onset is a fraction of a whole note from the start
    of the bar, the fret is `"x"` for dead notes and the pitch for notes without a string. A grace note has the onset
    of the beat it belongs to. Voices are not told apart.
    """
    keys: Counter[NoteKey] = Counter()
    first = 0
    for staff in score.staves:
        for number, bar in enumerate(staff.bars, start=first):
            for voice in bar.voices:
                onset = Fraction(0)
                for beat in voice:
                    keys.update((number, onset, note.string, fret_symbol(note)) for note in beat.notes)
                    onset += beat.length
        first += len(staff.bars)
    return keys


def note_counts(prediction: Score, truth: Score) -> tuple[int, int, int]:
    """Notes found, notes predicted, notes true; F1 = 2 found / (predicted + true)."""
    predicted, true = note_keys(prediction), note_keys(truth)
    return (predicted & true).total(), predicted.total(), true.total()


def _bar_rows(score: Score) -> list[tuple[Element, ...]]:
    """Elements of each bar, through all staves in order."""
    bars: list[list[Element]] = []
    for element in elements(score):
        if element[0] == "bar":
            bars.append([])
        if element[0] != "staff":
            bars[-1].append(element)
    return [tuple(bar) for bar in bars]


# --- one system ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairScores:
    """Counts of one predicted text against its truth (see the module's text for the definitions).

    Attributes:
        errors: Errors by field.
        symbols_predicted: Symbols by field in the prediction.
        symbols_true: Symbols by field in the truth.
        notes: Notes found, predicted, true.
        bars_exact: Bars that are right in all fields, each at its own place.
        bars: The larger number of bars.
        exact: Canonical texts are equal.
        parses: The prediction parses.
        closes: It parses and its bars are full (`closes_as_well_as`).
        truth_closes: The truth closes by the lenient rule (first bar may be short, bars may be empty).
        message: Why it does not parse.
    """

    errors: dict[str, int]
    symbols_predicted: dict[str, int]
    symbols_true: dict[str, int]
    notes: tuple[int, int, int]
    bars_exact: int
    bars: int
    exact: bool
    parses: bool
    closes: bool
    truth_closes: bool = True
    message: str = field(default="", compare=False)


def read_or_none(text: str) -> tuple[Score | None, str]:
    """Read a text; on failure `None` and the reason, for text that a model wrote.

    An empty text counts as a failure: alphaTex accepts it, but nothing was read.
    """
    if not text.strip():
        return None, "empty text"
    try:
        return read_alphatex(text), ""
    except (InputError, RecursionError) as error:
        return None, str(error)


def closes_as_well_as(predicted: Score, true: Score) -> bool:
    """Whether every bar of a reading is as full as its metre asks.

    A short first bar (a pick-up that no mark shows) and bars without beats pass only where the truth has such bars too.

    Args:
        predicted: The reading; without bars it does not close.
        true: The truth. One that never closes asks no more than the most lenient rule.
    """
    rules = [(False, False), (True, False), (False, True), (True, True)]
    for short, empty in rules:
        if (short, empty) == rules[-1] or bars_close(true, first_may_be_short=short, empty_bars=empty):
            break
    has_bars = any(staff.bars for staff in predicted.staves)
    return has_bars and bars_close(predicted, first_may_be_short=short, empty_bars=empty)


def score_pair(prediction: str, truth: str) -> PairScores:
    """Count all that one predicted text has right and wrong.

    Args:
        prediction: What a model wrote; anything.
        truth: The true alphaTex.

    Raises:
        InputError: The truth does not parse.
    """
    true = read_alphatex(truth)
    read, message = read_or_none(prediction)
    predicted = Score() if read is None else read
    row_predicted, row_true = elements(predicted), elements(true)
    bars_predicted, bars_true = _bar_rows(predicted), _bar_rows(true)
    return PairScores(
        errors=edit_distance(row_predicted, row_true),
        symbols_predicted=symbols(row_predicted),
        symbols_true=symbols(row_true),
        notes=note_counts(predicted, true),
        bars_exact=sum(a == b for a, b in zip(bars_predicted, bars_true, strict=False)),
        bars=max(len(bars_predicted), len(bars_true)),
        exact=read is not None and write_alphatex(predicted) == write_alphatex(true),
        parses=read is not None,
        closes=closes_as_well_as(predicted, true),
        truth_closes=bars_close(true),
        message=message,
    )


def summarise(
    scores: Sequence[PairScores], groups: Sequence[Hashable] | None = None, *, seed: int = 0, resamples: int = 2000
) -> dict[str, Estimate]:
    """All figures of a test set, each with a 95 % interval.

    Shares of systems have Wilson's interval, widened by the design effect of the pieces; ratios are bootstrapped over
    pieces (see `metrics_common`).

    Args:
        scores: Counts of each system.
        groups: Piece of each system; `None` when every system is a piece of its own.
        seed: Seed of the bootstrap.
        resamples: Bootstrap samples.

    Returns:
        `system_exact`, `bar_exact`, `note_f1`, `note_precision`, `note_recall`, `parses`, `bars_close`, `tab_ned` and
        `tab_ned_<field>`.
    """

    def over(top: list[float], bottom: list[float], unit: str) -> Estimate:
        return ratio(top, bottom, groups, seed=seed, resamples=resamples, unit=unit)

    found = [float(s.notes[0]) for s in scores]
    predicted, true = [float(s.notes[1]) for s in scores], [float(s.notes[2]) for s in scores]
    figures = {
        "system_exact": proportion([s.exact for s in scores], groups),
        "bar_exact": over([float(s.bars_exact) for s in scores], [float(s.bars) for s in scores], "bars"),
        # F1 = 2 found / (predicted + true): halves above and below keep n as a number of notes.
        "note_f1": over(found, [(p + t) / 2 for p, t in zip(predicted, true, strict=True)], "notes"),
        "note_precision": over(found, predicted, "notes"),
        "note_recall": over(found, true, "notes"),
        "parses": proportion([s.parses for s in scores], groups),
        "bars_close": proportion([s.closes for s in scores], groups),
    }
    for name, members in {"": FIELDS, **{f"_{one}": (one,) for one in FIELDS}}.items():
        sizes = [
            float(max(sum(s.symbols_predicted[m] for m in members), sum(s.symbols_true[m] for m in members)))
            for s in scores
        ]
        # Two misplaced symbols of a short text can cost more than it has: the rate stays in [0, 1].
        errors = [min(float(sum(s.errors[m] for m in members)), n) for s, n in zip(scores, sizes, strict=True)]
        figures[f"tab_ned{name}"] = over(errors, sizes, "symbols")
    return figures
