"""Dense labels of a system: what stands where, in pixels, and the classes of the dense heads.

The truth comes from the typed text and the boxes of the engraver: beat `k` of voice `v` in bar `b` is the same beat in
both. A sample keeps it sparsely (`SparseLabels`); `expand` paints it on the slots of a batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .alphatex_types import Bar, Beat, Note, Score

IGNORE = -100
SLOT_PX = 4  # grace notes stand as near as 5 px to their beat
MAX_FLAGS = 52  # a set of flags travels as the bits of one float64, exact up to 53


def effect_key(name: str, arguments: tuple) -> str:
    """One effect as the name of a class: `h`, `be bend,0,0,60,4`."""
    return f"{name} {','.join(map(str, arguments))}" if arguments else name


def effect_from_key(key: str) -> tuple[str, tuple]:
    """The inverse of `effect_key`."""
    name, _, rest = key.partition(" ")
    if not rest:
        return name, ()
    return name, tuple(int(word) if word.lstrip("-").isdigit() else word for word in rest.split(","))


def note_class(note: Note) -> str:
    """Class of a note's head: its fret, `x` (dead) or `t` (end of a tie)."""
    return "t" if "t" in note.effects else "x" if "x" in note.effects else str(note.fret)


def note_flags(note: Note) -> list[str]:
    """Effects of a note as class names."""
    return [effect_key(name, args) for name, args in note.effects.items() if name not in ("t", "x")]


def beat_flags(beat: Beat) -> list[str]:
    """Effects of a beat as class names."""
    return [effect_key(name, args) for name, args in beat.effects.items()]


def bar_start_flags(bar: Bar) -> list[str]:
    """What is written at the start of a bar; a pick-up is not written, it only is short."""
    flags = []
    if bar.repeat_open:
        flags.append("ro")
    if bar.endings:
        flags.append("ae " + ",".join(map(str, bar.endings)))
    if bar.time_signature:
        flags.append(f"ts {bar.time_signature[0]},{bar.time_signature[1]}")
    if bar.key_signature:
        flags.append(f"ks {bar.key_signature}")
    if bar.tempo is not None:
        flags.append("tempo")
    return flags


def bar_end_flags(bar: Bar) -> list[str]:
    """What is written at the end of a bar."""
    return [f"rc {bar.repeat_close}"] if bar.repeat_close else []


#: Metres and keys that have a class even where the training texts lack them: real music has them.
ALWAYS = (
    *(f"ts {a},{b}" for a, b in ((2, 2), (3, 2), (4, 2), (6, 4), (4, 8), (8, 4), (9, 4), (5, 8), (1, 4), (10, 4))),
    *(f"ks {key}" for key in ("gb", "cb", "c#")),
)


def build_label_space(scores: Iterable[Score], max_fret: int = 24) -> dict[str, list[str]]:
    """Counts what occurs and gives the classes of every head, the most frequent first.

    Args:
        scores: Texts of the training set.
        max_fret: Highest fret with a class of its own.

    Returns:
        Lists of class names; they go to `ScoreTowerConfig.labels`.
    """
    counts: dict[str, Counter] = {
        name: Counter() for name in ("note_effects", "beat_effects", "tuplets", "graces", "bar_starts", "bar_ends")
    }
    for score in scores:
        for bar in (bar for staff in score.staves for bar in staff.bars):
            counts["bar_starts"].update(bar_start_flags(bar))
            counts["bar_ends"].update(bar_end_flags(bar))
        for *_, beat in score.beats():
            counts["beat_effects"].update(beat_flags(beat))
            counts["tuplets"].update([f"{beat.tuplet[0]}:{beat.tuplet[1]}"] if beat.tuplet else [])
            counts["graces"].update([beat.grace] if beat.grace else [])
            for note in beat.notes:
                counts["note_effects"].update(note_flags(note))
    space = {name: [key for key, _ in c.most_common(MAX_FLAGS)] or ["-"] for name, c in counts.items()}
    missing = [name for name in ALWAYS if name not in space["bar_starts"]]
    space["bar_starts"] = space["bar_starts"][: MAX_FLAGS - len(missing)] + missing
    space["frets"] = [str(fret) for fret in range(max_fret + 1)] + ["x", "t"]
    space["durations"] = [str(2**k) for k in range(7)]
    return space


#: Where `SparseLabels` holds a class (array, column, head, places before the first class), and where flags as bits.
_CLASS_COLUMNS = (
    ("notes", 2, "frets", 1),
    ("beats", 3, "durations", 0),
    ("beats", 5, "tuplets", 1),
    ("beats", 6, "graces", 1),
)
_FLAG_COLUMNS = (
    ("notes", 4, "note_effects"),
    ("beats", 7, "beat_effects"),
    ("bars", 2, "bar_starts"),
    ("bars", 3, "bar_ends"),
)


@dataclass
class SparseLabels:
    """Truth of one picture, in pixels of the picture that the network sees.

    Attributes:
        notes: float64 `(N, 5)`: string from 0, x, class of `frets` + 1, voice, flags as bits (exact up to 2**53).
        beats: float64 `(M, 8)`: voice, x, kind (1 notes, 2 rest), duration, dots, tuplet (0 none), grace (0 none),
            flags.
        bars: float64 `(K, 5)`: x of the start, x of the end, start flags, end flags, tempo (-1 none).
    """

    notes: np.ndarray
    beats: np.ndarray
    bars: np.ndarray

    def moved(self, scale: float, shift: float) -> SparseLabels:
        """The truth of the picture with every x at `x * scale + shift`."""
        notes, beats, bars = self.notes.copy(), self.beats.copy(), self.bars.copy()
        for x in (notes[:, 1], beats[:, 1], bars[:, 0], bars[:, 1]):  # views
            x *= scale
            x += shift
        return SparseLabels(notes, beats, bars)


def _bits(flags: Iterable[str], index: dict[str, int]) -> int:
    return sum(1 << index[flag] for flag in flags if flag in index)


def encode_system(
    score: Score,
    beat_x: dict[tuple[int, int, int], float],
    bar_x: list[tuple[float, float]],
    space: dict[str, list[str]],
) -> SparseLabels:
    """Truth of one system from its text and the engraver's boxes.

    Args:
        score: Typed text with one staff.
        beat_x: Centre of each beat in pixels by (bar, voice, beat).
        bar_x: Left and right edge of each bar in pixels.
        space: Class names by head.

    Raises:
        KeyError: The engraver drew no box for a beat, or a class is not in the space.
    """
    index = {name: {key: i for i, key in enumerate(classes)} for name, classes in space.items()}
    notes, beats, bars = [], [], []
    for b, bar in enumerate(score.staves[0].bars):
        left, right = bar_x[b]
        tempo = -1 if bar.tempo is None else int(bar.tempo)
        starts, ends = _bits(bar_start_flags(bar), index["bar_starts"]), _bits(bar_end_flags(bar), index["bar_ends"])
        bars.append((left, right, starts, ends, tempo))
    for _, b, voice, k, beat in score.beats():
        x = beat_x[b, voice, k]
        tuplet = 1 + index["tuplets"][f"{beat.tuplet[0]}:{beat.tuplet[1]}"] if beat.tuplet else 0
        grace = 1 + index["graces"][beat.grace] if beat.grace else 0
        duration = index["durations"][str(beat.duration)]
        flags = _bits(beat_flags(beat), index["beat_effects"])
        beats.append((voice, x, 2 if beat.is_rest else 1, duration, beat.dots, tuplet, grace, flags))
        for note in beat.notes:
            head = 1 + index["frets"][note_class(note)]
            notes.append((note.string - 1, x, head, voice, _bits(note_flags(note), index["note_effects"])))
    shape = lambda rows, width: np.asarray(rows, dtype=np.float64).reshape(-1, width)  # noqa: E731
    return SparseLabels(shape(notes, 5), shape(beats, 8), shape(bars, 5))


def relabel(arrays: dict[str, np.ndarray], source: dict[str, list[str]], target: dict[str, list[str]]) -> None:
    """Rewrites, in place, truth whose classes stand in another order.

    Args:
        arrays: `notes`, `beats` and `bars` of `SparseLabels`.
        source: Class names by head as they were when the truth was written.
        target: As they shall be; may have more names.

    Raises:
        KeyError: A class that the truth may use is not in `target`.
    """
    for array, column, head, spare in _CLASS_COLUMNS:
        places = {"-": 0} | {key: i for i, key in enumerate(target[head])}  # "-" stands for no class at all
        moved = np.array([0] * spare + [places[key] + spare for key in source[head]])
        arrays[array][:, column] = moved[arrays[array][:, column].astype(np.int64)]
    for array, column, head in _FLAG_COLUMNS:
        places = {"-": 0} | {key: i for i, key in enumerate(target[head])}
        bits = arrays[array][:, column].astype(np.int64)
        moves = [((bits >> i) & 1) << places[key] for i, key in enumerate(source[head])]
        arrays[array][:, column] = np.sum(moves, axis=0)


def _slot(x: float, slots: int) -> int:
    return min(max(int(x // SLOT_PX), 0), slots - 1)


def _unpack(bits: float, count: int) -> np.ndarray:
    value = int(bits)
    return np.array([value >> i & 1 for i in range(count)], dtype=np.int8)


def expand(
    samples: list[SparseLabels],
    widths_px: list[int],
    slots: int,
    space: dict[str, list[str]],
    strings: int = 7,
    voices: int = 2,
) -> dict[str, np.ndarray]:
    """Paints the truth of a batch on slots of 4 px; shapes as in `DenseHeads`, without the axis of classes.

    Args:
        samples: One for each picture.
        widths_px: Width of each picture; slots after it are left out of the losses.
        slots: Slots of the padded batch.
        space: Class names by head.
        strings, voices: Sizes of these axes.
    """
    size = len(samples)
    full = lambda *shape, value=IGNORE: np.full((size, *shape), value, dtype=np.int16)  # noqa: E731
    flags = lambda name, *shape: np.full((size, *shape, len(space[name])), -1, dtype=np.int8)  # noqa: E731
    out = {name: full(voices, slots) for name in ("durations", "dots", "tuplets", "graces")}
    out |= {
        "frets": full(strings, slots, value=0),
        "string_voice": full(strings, slots),
        "note_effects": flags("note_effects", strings, slots),
        "beats": full(voices, slots, value=0),
        "beat_effects": flags("beat_effects", voices, slots),
        "bar_starts": flags("bar_starts", slots),
        "bar_ends": flags("bar_ends", slots),
        "bar_edges": np.zeros((size, slots, 2), dtype=np.int8),
        "tempo_digits": full(slots, 3),
    }
    for i, sample in enumerate(samples):
        end = -(-widths_px[i] // SLOT_PX)
        out["frets"][i, :, end:] = out["beats"][i, :, end:] = IGNORE
        out["bar_edges"][i, end:] = -1
        one = {name: array[i] for name, array in out.items()}
        _paint_notes(one, sample, slots, space)
        _paint_beats(one, sample, slots, space)
        _paint_bars(one, sample, slots, space)
    return out


def _paint_notes(out: dict, sample: SparseLabels, slots: int, space: dict) -> None:
    for string, x, head, voice, bits in sample.notes:
        s = int(string)
        t = _slot(x, slots)
        out["frets"][s, t] = head
        out["string_voice"][s, t] = voice
        out["note_effects"][s, t] = _unpack(bits, len(space["note_effects"]))


def _paint_beats(out: dict, sample: SparseLabels, slots: int, space: dict) -> None:
    for voice, x, kind, duration, dots, tuplet, grace, bits in sample.beats:
        v = int(voice)
        t = _slot(x, slots)
        out["beats"][v, t] = kind
        for name, value in (("durations", duration), ("dots", dots), ("tuplets", tuplet), ("graces", grace)):
            out[name][v, t] = value
        out["beat_effects"][v, t] = _unpack(bits, len(space["beat_effects"]))


def _paint_bars(out: dict, sample: SparseLabels, slots: int, space: dict) -> None:
    for left, right, starts, ends, tempo in sample.bars:
        for side, x in ((0, left), (1, right)):
            t = _slot(x, slots)
            out["bar_edges"][t, side] = 1
            if side == 0:
                out["bar_starts"][t] = _unpack(starts, len(space["bar_starts"]))
                if tempo >= 0:
                    # The mark is drawn over the first beat, a fixed way from it, but anywhere behind the bar line.
                    first = min((x for x in sample.beats[:, 1] if x > left), default=left)
                    digits = [int(tempo) // 100 % 10, int(tempo) // 10 % 10, int(tempo) % 10]
                    out["tempo_digits"][_slot(first, slots)] = digits
            else:
                out["bar_ends"][t] = _unpack(ends, len(space["bar_ends"]))
