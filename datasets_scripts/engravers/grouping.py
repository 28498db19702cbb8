"""Which beats share a beam, and which a tuplet's bracket: what a text leaves to the engraver; and what joins two."""

from __future__ import annotations

from fractions import Fraction

from ...processing.alphatex_grammar import Beat, Score, beat_length

COMPOUND = {3, 6, 9, 12}


def beam_unit(metre: tuple[int, int]) -> Fraction:
    """Length of a group of beams: a quarter, or a dotted quarter in 6/8 and its like."""
    return Fraction(3, 8) if metre[1] == 8 and metre[0] in COMPOUND else Fraction(1, 4)


def beam_groups(beats: list[Beat], metre: tuple[int, int]) -> list[int]:
    """Number of the beam of each beat of one voice; -1 for none. A beam has two notes or more."""
    unit, place, number = beam_unit(metre), Fraction(0), 0
    out: list[int] = []
    before: int | None = None
    for beat in beats:
        if beat.grace:
            out.append(-1)
            continue
        group = place // unit
        place += beat.length
        if beat.is_rest or beat.duration < 8:
            out.append(-1)
            before = None
            continue
        if before != group:
            number += 1
        out.append(number)
        before = group if place // unit == group else None
    return [n if n >= 0 and out.count(n) > 1 else -1 for n in out]


def tuplet_groups(beats: list[Beat]) -> list[int]:
    """Number of the tuplet of each beat of one voice; -1 for none."""
    out: list[int] = []
    number, total, least = -1, Fraction(0), Fraction(1)
    current: tuple[int, int] | None = None
    for beat in beats:
        if beat.grace or beat.tuplet is None:
            out.append(-1)
            current = None if not beat.grace else current
            continue
        if beat.tuplet != current:
            number, total, least, current = number + 1, Fraction(0), Fraction(1), beat.tuplet
        total += beat_length(beat.duration, beat.dots)
        least = min(least, Fraction(1, beat.duration))
        out.append(number)
        count = total / least / current[0]
        if count.denominator == 1 and count.numerator & (count.numerator - 1) == 0:
            current = None
    return out


def check_links(score: Score) -> None:
    """A slur, slide or tie needs a numbered note to go to.

    Raises:
        ValueError: A tie that has no start, or a slur that looks like a tie.
    """
    beats = [beat for bar in score.staves[0].bars for beat in bar.voices[0]]
    for place, beat in enumerate(beats):
        before = {n.string: n for n in beats[place - 1].notes} if place else {}
        after = {n.string: n for n in beats[place + 1].notes} if place + 1 < len(beats) else {}
        for note in beat.notes:
            origin, goal = before.get(note.string), after.get(note.string)
            if "t" in note.effects and (origin is None or origin.fret != note.fret):
                raise ValueError("a tie that starts outside of the system is not drawn")
            if goal is None or "t" in goal.effects:
                for name in ("h", "sl", "ss"):
                    note.effects.pop(name, None)
            elif "h" in note.effects and goal.fret == note.fret:
                raise ValueError("a slur between equal numbers looks like a tie")


__all__ = ["beam_groups", "beam_unit", "check_links", "tuplet_groups"]
