"""What a language model of alphaTex can do without a picture: structure, tab completion, note completion.

*Structure*: a text parses, every bar is as full as its metre asks, and what it says of itself (metre, tempo, tuning,
frets) is possible. *Tab completion*: given the first half of a text's bars, the model goes on to an end of its own, and
the whole has structure. *Note completion*: one fret is masked; the true one is among the model's five best.

Pure functions; `evaluation_alphatex_lm` runs the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..processing.alphatex_grammar import Score, bars_close
from .metrics_common import Estimate, proportion
from .metrics_tab import read_or_none

TOP = 5
TEMPO_BPM = (20, 400)
MAX_FRET, MAX_CAPO, MAX_PLAYS = 30, 12, 16
STRINGS = range(4, 10)
METRE_COUNTS, METRE_UNITS = range(1, 33), (1, 2, 4, 8, 16, 32)


def metadata_issues(score: Score) -> list[str]:
    """What a text says of its music that can not be, one line each.

    Looks at tempo (20 to 400 quarters a minute), metre, number of strings, capo, frets (0 to 30), strings of notes,
    number of plays of a repeat, and repeats that close.
    """
    issues = []
    if not any(staff.bars for staff in score.staves):
        issues.append("there is no bar")
    for staff in score.staves:
        if staff.tuning != () and staff.strings not in STRINGS:
            issues.append(f"{staff.strings} strings")
        if not 0 <= staff.capo <= MAX_CAPO:
            issues.append(f"capo {staff.capo}")
        for number, bar in enumerate(staff.bars, start=1):
            if bar.tempo is not None and not TEMPO_BPM[0] <= bar.tempo <= TEMPO_BPM[1]:
                issues.append(f"bar {number}: tempo {bar.tempo}")
            metre = bar.time_signature
            if metre is not None and (metre[0] not in METRE_COUNTS or metre[1] not in METRE_UNITS):
                issues.append(f"bar {number}: metre {metre[0]}/{metre[1]}")
            if not 0 <= bar.repeat_close <= MAX_PLAYS:
                issues.append(f"bar {number}: played {bar.repeat_close} times")
    for staff_index, bar_index, _, _, beat in score.beats():
        staff = score.staves[staff_index]
        for note in beat.notes:
            if note.string and (not 1 <= note.string <= staff.strings or not 0 <= note.fret <= MAX_FRET):
                issues.append(f"bar {bar_index + 1}: fret {note.fret} on string {note.string} of {staff.strings}")
    return issues


@dataclass(frozen=True)
class TextChecks:
    """What is right about one text that a model wrote.

    Attributes:
        parses: It is alphaTex, and not empty.
        closes: It parses and every bar is full; a short bar passes only as a pick-up that is marked as one.
        sane: It parses and `metadata_issues` finds nothing.
        ends: The model wrote an end by itself.
        bars: Its bars.
        message: The first thing that is wrong.
    """

    parses: bool
    closes: bool
    sane: bool
    ends: bool = True
    bars: int = 0
    message: str = ""

    @property
    def whole(self) -> bool:
        """Nothing is wrong, and it came to an end."""
        return self.parses and self.closes and self.sane and self.ends


def check_text(text: str, ends: bool = True) -> TextChecks:
    """Checks one text.

    Args:
        text: What a model wrote; anything.
        ends: Whether it wrote an end.
    """
    score, message = read_or_none(text)
    if score is None:
        return TextChecks(False, False, False, ends, 0, message)
    closes = bars_close(score, first_may_be_short=False, empty_bars=False)
    issues = metadata_issues(score)
    if not message:
        faults = [*issues, *([] if closes else ["a bar is not full"]), *([] if ends else ["it does not end"])]
        message = faults[0] if faults else ""
    bars = max((len(staff.bars) for staff in score.staves), default=0)
    return TextChecks(True, closes, not issues, ends, bars, message)


def structure_figures(
    checks: Sequence[TextChecks], groups: Sequence[Hashable] | None = None, name: str = "structure"
) -> dict[str, Estimate]:
    """Shares of texts by what is right about them; under `name` that of texts in which all is.

    Args:
        checks: One for each text.
        groups: Piece that each text goes on from, if it does.
        name: Of the main figure.
    """
    figures = {name: proportion([c.whole for c in checks], groups, "texts")}
    for part in ("parses", "closes", "sane", "ends"):
        figures[f"{name}_{part}"] = proportion([getattr(c, part) for c in checks], groups, "texts")
    return figures


def check_completion(text: str, prefix_bars: int, ends: bool) -> TextChecks:
    """Checks a text that goes on from some bars; one that adds no bar does not count as closed."""
    checks = check_text(text, ends)
    if checks.parses and checks.bars <= prefix_bars:
        return TextChecks(True, False, checks.sane, ends, checks.bars, "no bar was added")
    return checks


def first_half(ids: Sequence[int], bar_line: int) -> tuple[int, int] | None:
    """How many tokens, and bars, the first half of a text has.

    Args:
        ids: Tokens of one text.
        bar_line: The token that ends a bar.

    Returns:
        `None` for a text of one bar: there is nothing to go on with.
    """
    places = np.flatnonzero(np.asarray(ids) == bar_line)
    if len(places) < 2:
        return None
    bars = len(places) // 2
    return int(places[bars - 1]) + 1, bars


def choose_masked(ids: Sequence[int], frets: Iterable[int], draw: np.random.Generator) -> int | None:
    """Place of one fret to mask, drawn from the last three quarters of a text's frets: something is known before it."""
    places = np.flatnonzero(np.isin(np.asarray(ids), list(frets)))
    places = places[len(places) // 4 :]
    return int(draw.choice(places)) if len(places) else None


def among_best(scores: Sequence[float], true: int, top: int = TOP) -> bool:
    """Whether the true candidate is among the `top` of the highest score; equal scores count against it."""
    values = np.asarray(scores, dtype=np.float64)
    return int((values >= values[true]).sum()) <= top


def usual_frets(texts: Iterable[Sequence[int]], frets: Sequence[int], top: int = TOP) -> list[int]:
    """The most usual frets of some texts, as token ids: what one can say of a masked note without a model."""
    wanted = set(frets)
    counts = Counter(int(token) for ids in texts for token in ids if int(token) in wanted)
    return [token for token, _ in counts.most_common(top)]


__all__ = [
    "TextChecks",
    "among_best",
    "check_completion",
    "check_text",
    "choose_masked",
    "first_half",
    "metadata_issues",
    "structure_figures",
    "usual_frets",
]
