"""Whether music is what words asked for: attributes, tempo classes, keys, sides of the median, and chance.

All functions are pure. A *wish* is what one text asks (`music_wishes.fulfilled` and `sides_kept` say how it is judged),
a *measurement* what `music_wishes.measure_score` says of the music that was written for it. Silent music has an empty
measurement and keeps nothing. Texts of one piece, and images of one family, are alike, so they are resampled together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from ..processing.music_attributes import KEY_NAMES, MODES
from ..processing.music_wishes import duplicate_key, fulfilled, sides_kept, text2midi_tempo_bin
from .metrics_common import Estimate, proportion

#: What plain captions are judged by, in the order of the reports.
PLAIN = ("tempo", "density", "register", "dynamics", "sustain", "mode")
SHIFTS = 8  # other texts that each piece of music is judged by, for chance

Wish = Mapping[str, Any]
Values = Mapping[str, Any]
Judge = Callable[[Wish, Values], dict[str, bool]]


def attributes_kept(wish: Wish, values: Values) -> dict[str, bool]:
    """For each of `PLAIN` that a caption states, whether the music is of the class (or classes) it states."""
    return fulfilled({name: wanted for name, wanted in wish.items() if name in PLAIN}, values)


def image_kept(wish: Wish, values: Values) -> dict[str, bool]:
    """For each attribute that an image suggests, whether the music lies on that side of the training median."""
    return sides_kept(wish, values)


def judge_all(
    wishes: Sequence[Wish], measured: Sequence[Values], groups: Sequence[Hashable], judge: Judge
) -> list[tuple[str, bool, Hashable]]:
    """Attribute, answer and group of every wish.

    Raises:
        ValueError: The three sequences differ in length.
    """
    found = []
    for wish, values, group in zip(wishes, measured, groups, strict=True):
        found += [(name, kept, group) for name, kept in judge(wish, values).items()]
    return found


def accuracy(
    judged: Sequence[tuple[str, bool, Hashable]], unit: str = "wishes"
) -> tuple[Estimate, dict[str, Estimate]]:
    """Share of wishes that are kept, in all and by attribute; whole groups count as one where they agree."""

    def share(rows: Sequence[tuple[str, bool, Hashable]]) -> Estimate:
        return proportion([kept for _, kept, _ in rows], [group for _, _, group in rows], unit)

    names = sorted({name for name, _, _ in judged})
    return share(judged), {name: share([row for row in judged if row[0] == name]) for name in names}


def shuffled(
    wishes: Sequence[Wish], measured: Sequence[Values], groups: Sequence[Hashable], judge: Judge, seed: int = 0
) -> list[tuple[str, bool, Hashable]]:
    """The same music judged by the wishes of other texts: chance.

    Each piece of music is judged by `SHIFTS` other texts (fewer where there are fewer), never by one of its own group.
    The group of an answer is that of the music.
    """
    count, found = len(wishes), []
    order = np.random.default_rng(seed).permutation(count)  # neighbours may be of one piece
    for shift in np.unique(np.linspace(1, max(count - 1, 1), min(SHIFTS, max(count - 1, 1))).round().astype(int)):
        for place, other in zip(order.tolist(), np.roll(order, shift).tolist(), strict=True):
            if groups[place] != groups[other]:
                found += judge_all([wishes[other]], [measured[place]], [groups[place]], judge)
    return found


# --- As Text2midi counts ----------------------------------------------------------------------------------------------


def tempo_figures(
    wanted_bpm: Sequence[float], measured: Sequence[Values], groups: Sequence[Hashable]
) -> dict[str, Estimate]:
    """Tempo in the class of the tempo asked for, and in it or a neighbouring one (Text2midi, arXiv 2412.16526).

    Args:
        wanted_bpm: Quarter notes a minute that each text states.
        measured: Measurements.
        groups: Piece of each text.
    """
    gaps = []
    for bpm, values in zip(wanted_bpm, measured, strict=True):
        tempo = values.get("tempo")
        gaps.append(None if tempo is None else abs(text2midi_tempo_bin(tempo) - text2midi_tempo_bin(bpm)))
    return {
        "tempo_bin_exact": proportion([gap == 0 for gap in gaps], groups, "texts"),
        "tempo_bin_within_one": proportion([gap is not None and gap <= 1 for gap in gaps], groups, "texts"),
    }


def key_of_statement(stated: Wish) -> tuple[str, str] | None:
    """Tonic and mode that a caption states, `None` where it does not name one key."""
    if "key" not in stated or "mode" not in stated:
        return None
    (key, last_key), (mode, last_mode) = stated["key"], stated["mode"]
    return (KEY_NAMES[key], MODES[mode]) if key == last_key and mode == last_mode else None


def key_figures(
    wanted: Sequence[tuple[str, str]], measured: Sequence[Values], groups: Sequence[Hashable]
) -> dict[str, Estimate]:
    """Key exactly as asked, and that or the other key with the same notes (A minor for C major)."""
    found = [(values.get("key"), values.get("mode")) for values in measured]
    exact = [key == asked for key, asked in zip(found, wanted, strict=True)]
    alike = [
        right or key == duplicate_key(*asked) for right, key, asked in zip(exact, found, wanted, strict=True)
    ]  # fmt: skip
    return {
        "key_exact": proportion(exact, groups, "texts"),
        "key_or_duplicate": proportion(alike, groups, "texts"),
    }


# --- Steps to a level -------------------------------------------------------------------------------------------------


def first_to_reach(curve: Sequence[tuple[float, float]], level: float) -> float | None:
    """Where a learning curve first reaches a level.

    Args:
        curve: (steps or seconds, figure), in any order.
        level: Figure to be reached.

    Returns:
        Steps or seconds, between two points on the line between them; `None` where it never does.
    """
    before: tuple[float, float] | None = None
    for place, figure in sorted(curve):
        if figure >= level:
            if before is None or figure == before[1]:
                return place
            return before[0] + (place - before[0]) * (level - before[1]) / (figure - before[1])
        before = (place, figure)
    return None


def learning_figures(accuracies: Mapping[str, float], slow: str = "prompt") -> dict[str, Estimate]:
    """How many times fewer steps, and less time, methods need to the best accuracy that another one ever reaches.

    Args:
        accuracies: By checkpoint, `METHOD#SEED@STEPS:SECONDS` (`#SEED` and `:SECONDS` may be left out); other names are
            passed over.
        slow: The method to be reached.

    Returns:
        `times_fewer_steps_METHOD` and `times_less_time_METHOD`: median over the seeds that both methods have, with the
        least and the greatest in place of an interval; 0 for a seed that never gets there.
    """
    curves: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for name, value in accuracies.items():
        found = re.fullmatch(r"([^#@]+)(?:#([^@]*))?@(\d+)(?::([\d.]+))?", name)
        if found:
            seconds = float(found[4]) if found[4] else float("nan")
            curves.setdefault((found[1], found[2] or ""), []).append((float(found[3]), seconds, value))
    times: dict[str, list[float]] = {}
    for (method, seed), curve in curves.items():
        goal = curves.get((slow, seed))
        if method == slow or not goal:
            continue
        best = max(value for _, _, value in goal)
        for column, what in enumerate(("fewer_steps", "less_time")):
            theirs = first_to_reach([(row[column], row[2]) for row in goal], best)
            ours = first_to_reach([(row[column], row[2]) for row in curve], best)
            if theirs is not None and theirs == theirs and (ours is None or ours == ours):
                times.setdefault(f"times_{what}_{method}", []).append(theirs / ours if ours else 0.0)
    return {
        name: Estimate(float(np.median(values)), min(values), max(values), len(values), "seeds", 0, "range")
        for name, values in times.items()
    }


__all__ = [
    "PLAIN",
    "accuracy",
    "attributes_kept",
    "first_to_reach",
    "image_kept",
    "judge_all",
    "key_figures",
    "key_of_statement",
    "learning_figures",
    "shuffled",
    "tempo_figures",
]
