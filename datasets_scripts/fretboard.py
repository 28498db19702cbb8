"""Lays melodies and chords on a fretboard so that the hand moves least.

Dynamic programming over the ways to hold each chord: the cost of a path is what each grip costs by itself plus what
the hand moves between grips, and moving is cheaper when there is time for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

Place = tuple[int, int]  # string (1 = highest line of the tab), fret
Grip = tuple[Place, ...]

State = tuple[float, int, int, int]  # total cost, number of the grip, hand, index of the state before

MAX_GRIPS = 28
HAND_FRETS = 4
MAX_STATES = 48


@lru_cache(maxsize=65536)
def grips(
    pitches: tuple[int, ...], strings: tuple[int, ...], max_fret: int, reach: int
) -> tuple[tuple[Grip, int, float], ...]:
    """Ways to hold some pitches at once.

    Args:
        pitches: MIDI numbers, different from each other, highest first.
        strings: MIDI numbers of the open strings, highest line of the tab first.
        max_fret: Highest fret of the instrument.
        reach: Largest distance between the lowest and the highest stopped fret.

    Returns:
        The cheapest `(grip, position, cost)`; the position is the lowest stopped fret, 0 when all strings are open.
        Empty when no hand can hold them.
    """
    found: list[tuple[Grip, int, float]] = []
    places: list[Place] = []

    def hold(index: int, low: int, high: int) -> None:
        if index == len(pitches):
            cost = 0.06 * high + 0.35 * (high - low if high else 0) ** 1.3
            used = sorted(string for string, _ in places)
            cost += 0.5 * sum(b - a - 1 for a, b in pairwise(used))
            found.append((tuple(sorted(places)), low if high else 0, cost))
            return
        taken = {string for string, _ in places}
        for string, pitch in enumerate(strings, 1):
            fret = pitches[index] - pitch
            if string in taken or not 0 <= fret <= max_fret:
                continue
            new_low, new_high = (min(low, fret), max(high, fret)) if fret else (low, high)
            if new_high and new_high - new_low > (reach if new_low < 7 else reach + 1):
                continue
            places.append((string, fret))
            hold(index + 1, new_low, new_high)
            places.pop()

    hold(0, 99, 0)
    found.sort(key=lambda entry: (entry[2], entry[0]))
    return tuple(found[:MAX_GRIPS])


def playable(pitches: Sequence[int], strings: tuple[int, ...], max_fret: int = 20, reach: int = 4) -> tuple[int, ...]:
    """The pitches that an instrument can play at once.

    Pitches out of range move by octaves; of chords that no hand can hold, inner notes are left out, then low ones.

    Args:
        pitches: MIDI numbers.
        strings: MIDI numbers of the open strings, highest line first.
        max_fret: Highest fret.
        reach: See `grips`.

    Returns:
        MIDI numbers, highest first, at least one when `pitches` has one.
    """
    low, high = min(strings), max(strings) + max_fret
    inside = set()
    for pitch in pitches:
        while pitch < low:
            pitch += 12
        while pitch > high:
            pitch -= 12
        inside.add(pitch)
    chosen = sorted(inside, reverse=True)
    while chosen and not (len(chosen) <= len(strings) and grips(tuple(chosen), strings, max_fret, reach)):
        chosen.pop(len(chosen) // 2 if len(chosen) > 2 else -1)
    return tuple(chosen)


def _hand(hand: int, low: int, high: int) -> int:
    """Where the first finger goes for the next grip: four fingers on four frets need not move for what they cover."""
    if not high or (hand <= low and high <= hand + HAND_FRETS - 1):
        return hand
    return low if low < hand or high - low >= HAND_FRETS else max(high - HAND_FRETS + 1, 1)


def lay_out(
    chords: Sequence[Sequence[int]],
    onsets: Sequence[float],
    strings: tuple[int, ...],
    max_fret: int = 20,
    reach: int = 4,
) -> list[Grip]:
    """Strings and frets for a line of chords (single notes are chords of one).

    Args:
        chords: MIDI numbers of each chord; an empty one gives an empty grip.
        onsets: Start of each chord, in quarter notes, not falling.
        strings: MIDI numbers of the open strings, highest line of the tab first.
        max_fret: Highest fret that is used.
        reach: Frets between the lowest and the highest finger.

    Returns:
        A grip for each chord, its places in ascending string order.
    """
    if len(chords) != len(onsets):
        raise ValueError(f"{len(chords)} chords but {len(onsets)} onsets")
    sounding = [i for i, chord in enumerate(chords) if chord]
    result: list[Grip] = [()] * len(chords)
    layers = [grips(playable(chords[i], strings, max_fret, reach), strings, max_fret, reach) for i in sounding]
    if not layers:
        return result
    # A state is a grip and the fret of the first finger: the same grip can be reached by different hands.
    layer: list[State] = [(cost + 0.05 * low, g, max(low, 1), -1) for g, (_, low, cost) in enumerate(layers[0])]
    states = [layer]
    for k in range(1, len(layers)):
        gap = max(onsets[sounding[k]] - onsets[sounding[k - 1]], 0.0)
        weight = 1.0 / (0.6 + min(gap, 4.0))
        best: dict[tuple[int, int], State] = {}
        for g, (grip, low, cost) in enumerate(layers[k]):
            high = max(fret for _, fret in grip)
            for index, (total, before, hand, _) in enumerate(states[-1]):
                wanted = _hand(hand, low, high)
                move = abs(wanted - hand)
                step = abs(grip[0][0] - layers[k - 1][before][0][0][0])
                price = total + cost + weight * (move + 0.8 * (move > 0)) + 0.08 * step
                if (g, wanted) not in best or price < best[g, wanted][0]:
                    best[g, wanted] = (price, g, wanted, index)
        states.append(sorted(best.values())[:MAX_STATES])
    index = 0 if len(states) > 1 else min(range(len(layer)), key=lambda i: layer[i][0])
    for k in range(len(layers) - 1, -1, -1):
        _, g, _, before = states[k][index]
        result[sounding[k]] = layers[k][g][0]
        index = before
    return result
