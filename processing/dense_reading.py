"""From dense evidence to a typed score: the best reading in which every bar closes.

The heads say, column by column, how likely a beat, a fret, a duration is. A beat is taken or skipped, and has one of a
few lengths; a dynamic programme finds the choice of highest probability whose lengths fill the bar exactly. A single
misread flag or dot is so repaired by the sum of its bar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import log

import numpy as np

from .alphatex_types import STANDARD_TUNINGS, Bar, Beat, Note, Score, Staff, Track, beat_length
from .alphatex_visible import SCORE_ONLY_NOTE
from .bar_filling import MIN_PROBABILITY, TICKS, fill_bar
from .dense_labels import SLOT_PX, effect_from_key
from .dense_peaks import first_beat, gather_neighbours, peaks
from .flag_choice import agree, choose_flags

CANDIDATE = 0.03  # a column with less chance of a beat is not looked at
PICKUP_PRIOR = -7.0  # natural log; a first bar is taken as a pick-up only when the sum fits much worse otherwise
LONG_PICKUP_PRIOR = -14.0  # of one that nearly fills its bar: none of 391 in the training data is longer than 0.8 bars
LONG_PICKUP = 0.8
MAX_CANDIDATES = 48  # in one voice of one bar; an untrained reader sees beats everywhere, and must not hang


@dataclass
class BeatReading:
    """A beat, and how sure the heads were of it: probabilities."""

    beat: Beat
    column: int
    confidence: dict[str, float] = field(default_factory=dict)


@dataclass
class DenseReading:
    """A reading by the dense heads alone.

    Attributes:
        score: Typed score with one staff, every bar closed.
        bar_confidence: Chance that a bar is right as a whole, by bar.
        beats: Readings by (bar, voice, beat).
        metre: That in which it was read, before any that it shows.
    """

    score: Score
    bar_confidence: list[float]
    beats: dict[tuple[int, int, int], BeatReading]
    metre: tuple[int, int] = (4, 4)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


FLAG_FIELDS = ("note_effects", "beat_effects", "bar_starts", "bar_ends", "bar_edges")


def probabilities(logits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turns the logits of one picture into probabilities, field by field."""
    return {n: sigmoid(x) if n in FLAG_FIELDS else softmax(x) for n, x in logits.items()}


class DenseReader:
    """Reads the probabilities of one picture.

    Args:
        labels: Class names by head (`ScoreTowerConfig.labels`).
        show: Staves in the picture.
        strings: Strings of the tab.
        metre: Metre in force before the first bar, when the picture is no beginning.
        earlier: Reader of the system before on the page, after it has read: ties may come from its last beat.
    """

    def __init__(
        self,
        labels: dict[str, list[str]],
        show: tuple[str, ...] = ("tabs",),
        strings: int = 6,
        metre: tuple[int, int] | None = None,
        earlier: DenseReader | None = None,
    ) -> None:
        self.labels = labels
        self.earlier = earlier
        self.show = show
        self.strings = strings
        self.metre = metre
        self.instead: dict[int, tuple[int, int] | None] = {}
        self.bar_edges: list[tuple[int, int]] = []
        ratios = (key.partition(":") for key in labels["tuplets"])
        self.tuplets = [None, *((int(many), int(usual)) if usual else None for many, _, usual in ratios)]

    def read(self, logits: dict[str, np.ndarray], width_px: int) -> DenseReading:
        """Reads one picture.

        Args:
            logits: Fields as in `DenseHeads`, without the batch axis.
            width_px: Width of the picture; columns after it are not looked at.
        """
        p = probabilities(logits)
        self.bar_edges = edges = self._bar_columns(p["bar_edges"][: -(-width_px // SLOT_PX)])
        beats: dict[tuple[int, int, int], BeatReading] = {}
        bars, confidence = [], []
        metre = self.metre or (4, 4)
        self._held: dict[int, int] = dict(self.earlier._held) if self.earlier else {}
        self._before: dict[int, set[int] | None] = dict(self.earlier._before) if self.earlier else {}
        for b, (left, right) in enumerate(edges):
            bar, sure = self._bar_marks(p, left, right)
            bar.time_signature = self.instead.get(b, bar.time_signature)
            metre = bar.time_signature or metre
            capacity = TICKS * metre[0] // metre[1]
            voices = []
            for v in range(p["beats"].shape[0]):
                first = b == v == 0 and not self.earlier
                readings, chance, short = self._voice(p, v, left, right, capacity, first)
                if v and not any(r.beat.notes or r.confidence.get("beats", 0) > 0.5 for r in readings):
                    break
                bar.anacrusis |= short
                if short:
                    capacity = sum(_ticks(r.beat) for r in readings)
                voices.append([r.beat for r in readings])
                sure *= chance
                beats |= {(b, v, k): r for k, r in enumerate(readings)}
            bar.voices = voices
            bars.append(bar)
            confidence.append(float(sure))
        tuning = None if self.strings == 6 else STANDARD_TUNINGS[self.strings]
        score = Score(tracks=[Track(staves=[Staff(bars=bars, show=self.show, tuning=tuning)])])
        return DenseReading(score, confidence, beats, self.metre or (4, 4))

    def read_as(
        self, instead: Mapping[int, tuple[int, int] | None], logits: dict[str, np.ndarray], width_px: int
    ) -> DenseReading:
        """As `read`, with these time signatures, or none, at the bars of these numbers."""
        self.instead = dict(instead)
        try:
            return self.read(logits, width_px)
        finally:
            self.instead = {}

    def _bar_columns(self, edges: np.ndarray) -> list[tuple[int, int]]:
        """Left and right column of each bar; `edges` is `(T, 2)`."""
        starts = peaks(edges[:, 0], 0.4, reach=6) or [0]
        ends = peaks(edges[:, 1], 0.4, reach=6)
        bars = []
        for i, left in enumerate(starts):
            limit = starts[i + 1] if i + 1 < len(starts) else len(edges) - 1
            inside = [t for t in ends if left + 1 < t <= limit + 1]
            bars.append((left, inside[-1] if inside else limit))
        return bars

    def _bar_marks(self, p: dict[str, np.ndarray], left: int, right: int) -> tuple[Bar, float]:
        """What is written at the edges of a bar, and how sure that is."""
        bar = Bar()
        starts, ends = p["bar_starts"][left], p["bar_ends"][min(right, len(p["bar_ends"]) - 1)]
        for key in choose_flags(self.labels["bar_starts"], starts)[0]:
            kind, arguments = effect_from_key(key)
            if kind == "ro":
                bar.repeat_open = True
            elif kind == "ae":
                bar.endings = tuple(arguments)
            elif kind == "ts":
                bar.time_signature = (int(arguments[0]), int(arguments[1]))
            elif kind == "ks":
                bar.key_signature = str(arguments[0])
            elif kind == "tempo":
                digits = p["tempo_digits"][first_beat(p["beats"], left, right)]
                hundreds, tens, units = (int(d) for d in digits.argmax(-1))
                bar.tempo = 100 * hundreds + 10 * tens + units
        for key in choose_flags(self.labels["bar_ends"], ends)[0]:
            if key != "-":
                bar.repeat_close = int(effect_from_key(key)[1][0])
        sure = np.maximum(starts, 1 - starts).prod() * np.maximum(ends, 1 - ends).prod()
        if bar.tempo is not None:
            sure *= digits.max(-1).prod()
        return bar, float(sure)

    def _voice(
        self, p: dict[str, np.ndarray], v: int, left: int, right: int, capacity: int, first: bool
    ) -> tuple[list[BeatReading], float, bool]:
        """Beats of one voice in one bar that fill it exactly.

        Returns:
            The beats, the chance that all are right, and whether the bar was taken as a pick-up.
        """
        stop = max(right, left + 1)
        present = 1 - p["beats"][v, left:stop, 0]
        columns = [left + t for t in peaks(present, CANDIDATE)]
        if len(columns) > MAX_CANDIDATES:
            columns = sorted(sorted(columns, key=lambda t: -present[t - left])[:MAX_CANDIDATES])
        absent = (1 - gather_neighbours(present, [t - left for t in columns])).tolist()
        options = [self._options(p, v, t, 1 - a) for t, a in zip(columns, absent, strict=True)]
        path, score, total = fill_bar(options, absent, capacity)
        short = False
        if first:
            free, free_score, free_total = fill_bar(options, absent, capacity, full=False)
            prior = PICKUP_PRIOR if free_total <= LONG_PICKUP * capacity else LONG_PICKUP_PRIOR
            if free and 0 < free_total < capacity and (path is None or free_score + prior > score):
                path, score, total, short = free, free_score, free_total, True
        if path is None:
            path, score, total = fill_bar(options, absent, None)
        assert path is not None  # without a capacity something always fits
        others = set(columns)
        readings = [self._beat(p, v, columns[i], option, 1 - absent[i], others) for i, option in path]
        chance = float(np.prod([np.prod(list(r.confidence.values())) for r in readings])) if readings else 0.5
        chosen = {i for i, _ in path}
        chance *= float(np.prod([a for i, a in enumerate(absent) if i not in chosen]))
        if total != capacity and not short:
            readings, chance = close_bar(readings, capacity), 0.0
        return readings, chance, short

    def _options(self, p: dict[str, np.ndarray], v: int, t: int, present: float) -> dict[int, tuple[float, tuple]]:
        """Log probability and choice by length in ticks of the beat at column `t`."""
        durations, dots, tuplets, graces = (p[n][v, t] for n in ("durations", "dots", "tuplets", "graces"))
        kind = log(max(present, MIN_PROBABILITY))
        options: dict[int, tuple[float, tuple]] = {}
        g = int(graces.argmax())
        if g and graces[g] > 0.5:
            d = int(durations.argmax())
            options[0] = (kind + log(graces[g]), (d, 0, 0, g))
            return options
        for d in np.argsort(-durations)[:4]:
            for k in np.argsort(-dots)[:2]:
                for u in np.argsort(-tuplets)[:3]:
                    chance = durations[d] * dots[k] * tuplets[u]
                    if chance < MIN_PROBABILITY:
                        continue
                    length = beat_length(2 ** int(d), int(k), self.tuplets[u]) * TICKS
                    if length.denominator != 1:
                        continue
                    value = kind + log(chance)
                    if value > options.get(int(length), (-np.inf, ()))[0]:
                        options[int(length)] = (value, (int(d), int(k), int(u), 0))
        return options

    def _beat(
        self, p: dict[str, np.ndarray], v: int, t: int, option: tuple, present: float, others: set[int]
    ) -> BeatReading:
        d, dots, u, g = option
        beat = Beat(duration=2**d, dots=dots, tuplet=self.tuplets[u], grace=self.labels["graces"][g - 1] if g else None)
        sure = {
            "durations": float(p["durations"][v, t, d]),
            "dots": float(p["dots"][v, t, dots]),
            "tuplets": float(p["tuplets"][v, t, u]),
            "graces": float(p["graces"][v, t, g]),
            "beats": present * float(p["beats"][v, t, 1:].max() / max(p["beats"][v, t, 1:].sum(), MIN_PROBABILITY)),
        }
        if p["beats"][v, t, 1] >= p["beats"][v, t, 2]:
            beat.notes, chances = self._notes(p, v, t, others)
            sure |= {f"string {string}": chance for string, chance in chances.items()}
        keys, sure["beat_effects"] = choose_flags(self.labels["beat_effects"], p["beat_effects"][v, t])
        beat.effects = dict(effect_from_key(key) for key in keys)
        if not beat.grace:
            self._before[v] = {note.string - 1 for note in beat.notes}
        return BeatReading(beat, t, sure)

    def _notes(self, p: dict[str, np.ndarray], v: int, t: int, others: set[int]) -> tuple[list[Note], dict[int, float]]:
        """Notes at a slot; a beat with notes has at least one, the likeliest."""
        here = 1 - p["frets"][: self.strings, :, 0]  # (S, T)
        near = [t, *(n for n in (t - 1, t + 1) if 0 <= n < here.shape[1] and n not in others)]
        best = [near[int(here[s, near].argmax())] for s in range(self.strings)]  # a head may be seen one slot aside
        shared = p["beats"][1 - v, t, 1] > 0.5 if p["beats"].shape[0] > 1 else False
        there = gather_neighbours(here, [t])[:, 0] if len(near) == 3 else np.minimum(here[:, near].sum(1), 1.0)
        mine = np.array([p["string_voice"][s, best[s], v] for s in range(self.strings)])
        there = there * mine if shared else there
        frets = p["frets"][np.arange(self.strings), best]  # (S, 1 + F)
        there, chosen = self._ties(frets, there, self._before.get(v))
        effects = dict(zip(chosen, self._effects(p["note_effects"][chosen, [best[s] for s in chosen]]), strict=True))
        notes, chances = [], {}
        for s in range(self.strings):
            if s not in chosen:
                chances[s + 1] = float(1 - there[s])
                continue
            heads = frets[s, 1:]
            note = self._note(s + 1, self.labels["frets"][int(heads.argmax())])
            keys, agreed = choose_flags(self.labels["note_effects"], effects[s])
            note.effects |= dict(effect_from_key(key) for key in keys)
            notes.append(note)
            sure = there[s] * heads.max() / max(heads.sum(), MIN_PROBABILITY)
            chances[s + 1] = float(sure * agreed)
        return notes, chances

    def _ties(self, frets: np.ndarray, there: np.ndarray, before: set[int] | None) -> tuple[np.ndarray, list[int]]:
        """Which strings have a note, knowing that only a string of the beat before can be tied.

        Args:
            frets: `(S, 1 + F)` probabilities of the heads; what can not be is taken out of it.
            there: `(S,)` chance of a note.
            before: Strings of the beat before, from 0; `None` where the picture begins.

        Returns:
            The chances again, and the strings, at least one.
        """
        tie = 1 + self.labels["frets"].index("t")
        tied = frets[:, tie].copy()
        if before is not None:
            for s in set(range(self.strings)) - before:
                there[s], frets[s, tie] = max(there[s] - tied[s], 0.0), 0.0
        chosen = [s for s in range(self.strings) if there[s] > 0.5]
        if before and (any(int(frets[s].argmax()) == tie for s in chosen) or (not chosen and tied.sum() > 0.5)):
            # Seen to be tied, but not clearly on which strings: a beat is mostly held as a whole.
            for s in before - set(chosen):
                if frets[s, tie] > 0.1 or not chosen:
                    frets[s, tie] = max(frets[s, tie], 0.5)
                    frets[s, [k for k in range(frets.shape[1]) if k != tie]] *= 0.5
                    there[s] = max(there[s], 0.5)
            chosen = sorted({*chosen, *(s for s in before if int(frets[s].argmax()) == tie)})
        return there, chosen or [int(there.argmax())]

    def _effects(self, chances: np.ndarray) -> np.ndarray:
        """Chances of the effects of a beat's notes `(notes, K)`; a tab alone shows nothing of note heads."""
        names = self.labels["note_effects"]
        chances = agree(names, chances)
        if "score" not in self.show:
            chances[:, [i for i, name in enumerate(names) if name in SCORE_ONLY_NOTE]] = 0.0
        return chances

    def _note(self, string: int, head: str) -> Note:
        if head == "x":
            return Note(fret=0, string=string, effects={"x": ()})
        if head == "t":
            return Note(fret=self._held.get(string, 0), string=string, effects={"t": ()})
        self._held[string] = int(head)
        return Note(fret=int(head), string=string)


def _ticks(beat: Beat) -> int:
    return int(beat.length * TICKS)


def close_bar(readings: list[BeatReading], capacity: int) -> list[BeatReading]:
    """Makes a bar close when no likely reading does: drops what overflows, fills what lacks with rests."""
    kept: list[BeatReading] = []
    total = 0
    for reading in readings:
        length = _ticks(reading.beat)
        if total + length > capacity:
            break
        kept.append(reading)
        total += length
    while kept and rests_for(Fraction(capacity - total, TICKS)) is None:
        total -= _ticks(kept.pop().beat)
    for rest in rests_for(Fraction(capacity - total, TICKS)) or []:
        kept.append(BeatReading(rest, kept[-1].column if kept else 0, {"beats": 0.0}))
    return kept


def rests_for(length: Fraction) -> list[Beat] | None:
    """Plain rests of an exact total length, longest first; `None` when 64ths can not make it."""
    rests = []
    for k in range(7):
        while length >= Fraction(1, 2**k):
            rests.append(Beat(duration=2**k))
            length -= Fraction(1, 2**k)
    return None if length else rests


__all__ = ["BeatReading", "DenseReader", "DenseReading", "close_bar", "probabilities"]
