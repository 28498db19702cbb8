"""Guitar and bass parts made by rule: whole pieces, and the systems that a page would cut them into.

`generate_piece(seed)` always gives the same piece for the same seed. `iter_system_jobs` gives the texts and the ways of
drawing them that a training set needs; pieces go to a split by a hash of their name, before anything is drawn.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ..processing.alphatex_grammar import Bar, Beat, Note, Score, Staff, Track, write_alphatex
from ..processing.alphatex_visible import SCORE_ONLY_NOTE
from . import guitar_bass
from . import guitar_phrases as phrases
from .guitar_neck import SCALES, TUNINGS, key_name, open_pitches
from .guitar_rhythm import METRES, metre_length
from .guitar_techniques import decorate, piece_rates, repair_links
from .guitar_wild import wild

SPLITS = ("train", "validation", "test")
#: Share of pieces, in percent, that are held out.
HELD_OUT = {"test": 3, "validation": 2}
SYSTEM_LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8)
SYSTEM_WEIGHTS = (25, 35, 20, 10, 4, 3, 2, 1)
WILD_SHARE = 0.25
TWO_VOICE_SHARE = 0.08
TEXT_FONTS = ("arimo", "tinos", "lora", "roboto-condensed")
MUSIC_FONTS = ("bravura", "leland", "petaluma")
#: Grey of the staff lines, 0 black; `None` leaves alphaTab's light grey.
LINE_GRAYS = (0, 0, 40, 80, 120, None)

# way of playing -> (function, manner of its techniques, feels, weight), by number of strings
_GUITAR = {
    "lead": (phrases.lead, "lead", ("eighth", "sixteenth", "triplet", "fast", "any", "slow"), 22),
    "single string": (phrases.single_string, "lead", ("eighth", "sixteenth", "triplet", "fast", "any"), 9),
    "riff": (phrases.riff, "riff", ("eighth", "sixteenth", "any", "triplet"), 11),
    "power chords": (phrases.power_chords, "riff", ("eighth", "slow", "any", "sixteenth"), 8),
    "strum": (phrases.strum, "chords", ("eighth", "sixteenth", "slow", "any"), 12),
    "arpeggio": (phrases.arpeggio, "picking", ("eighth", "sixteenth", "triplet"), 12),
    "double stops": (phrases.double_stops, "lead", ("eighth", "slow", "any", "triplet"), 7),
    "shuffle": (phrases.shuffle, "plain", ("eighth", "triplet"), 3),
    "tapping": (phrases.tapping, "plain", ("sixteenth", "fast", "triplet"), 3),
    "harmonics": (phrases.harmonics, "picking", ("slow", "eighth"), 2),
    "funk": (phrases.funk, "chords", ("sixteenth",), 4),
}
_SEVEN = {
    "riff": (phrases.riff, "riff", ("eighth", "sixteenth", "any", "fast"), 12),
    "power chords": (phrases.power_chords, "riff", ("eighth", "any"), 5),
    "lead": (phrases.lead, "lead", ("eighth", "sixteenth", "fast"), 5),
    "single string": (phrases.single_string, "lead", ("eighth", "sixteenth"), 3),
    "double stops": (phrases.double_stops, "lead", ("eighth", "slow"), 2),
}
_BASS = {
    "bass line": (guitar_bass.bass_line, "bass", ("eighth", "any", "slow", "sixteenth", "triplet"), 12),
    "slap": (guitar_bass.slap, "bass", ("sixteenth", "eighth"), 4),
    "single string": (phrases.single_string, "bass", ("eighth", "sixteenth"), 2),
}
_KINDS = {6: _GUITAR, 7: _SEVEN, 5: _BASS, 4: _BASS}
_STRING_COUNTS, _STRING_WEIGHTS = (6, 7, 4, 5), (80, 6, 9, 5)


@dataclass
class Piece:
    """One part for one instrument.

    Attributes:
        score: One track with one staff; its bars close.
        piece_id: Name of the piece.
        seed: What it was made from; -1 when it was not generated.
        kind: Way of playing, for statistics.
        tuning: Real open strings, highest line first; a picture of a system does not tell them.
        capo: Fret of the capo; not told by a system either.
        source: `"generated"`, or where the piece was taken from.
        work: Name that the split is drawn by when several pieces belong to one work; empty: the piece's own name.
        info: Anything else worth keeping.
    """

    score: Score
    piece_id: str
    seed: int = -1
    kind: str = ""
    tuning: tuple[str, ...] = TUNINGS[6]["standard"]
    capo: int = 0
    source: str = "generated"
    work: str = ""
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def split(self) -> str:
        """Split of the piece, by hash of the name of its work alone."""
        return split_of(self.work or self.piece_id)

    @property
    def voices(self) -> int:
        """Most voices of any bar."""
        return max(len(bar.voices) for bar in self.score.staves[0].bars)


def split_of(piece_id: str) -> str:
    """Split by hash of a piece's name, the same on every machine and in every run."""
    bucket = int.from_bytes(hashlib.sha256(piece_id.encode()).digest()[:4], "big") % 100
    if bucket < HELD_OUT["test"]:
        return "test"
    return "validation" if bucket < HELD_OUT["test"] + HELD_OUT["validation"] else "train"


def piece_name(seed: int) -> str:
    """Name of the generated piece of one seed."""
    return f"generated-{seed:016x}"


def make_staff(bars: list[Bar], strings: int) -> Score:
    """A score of one staff in the usual tuning of that many strings, as a picture of a system tells it."""
    tuning = None if strings == 6 else TUNINGS[strings]["standard"]
    return Score(tracks=[Track(staves=[Staff(bars=bars, show=("tabs",), tuning=tuning)])])


def _metres(bars: int, rng: random.Random) -> list[tuple[int, int]]:
    metres = list(METRES)
    weights = list(METRES.values())
    if rng.random() < 0.2:  # rare metres are seen often enough to be learned
        weights = [1.0] * len(metres)
    metre = rng.choices(metres, weights)[0]
    run = [metre] * bars
    if rng.random() < 0.08:
        for _ in range(rng.choice((1, 1, 2))):
            place, length = rng.randrange(bars), rng.choice((1, 1, 2, 4, bars))
            other = rng.choices(metres, weights)[0]
            run[place : place + length] = [other] * len(run[place : place + length])
    return run


def _assemble(voices: list[list[list[Beat]]], metres: list[tuple[int, int]]) -> list[Bar]:
    bars = []
    for index, metre in enumerate(metres):
        changed = index == 0 or metre != metres[index - 1]
        bars.append(Bar(voices=[voice[index] for voice in voices], time_signature=metre if changed else None))
    return bars


def _decorated(bars: list[list[Beat]], rates: dict[str, float], rng: random.Random) -> list[list[Beat]]:
    """Techniques over the whole voice, then bars again (grace notes were put in)."""
    ends = {id(bar[-1]) for bar in bars}
    out: list[list[Beat]] = [[]]
    for beat in decorate([beat for bar in bars for beat in bar], rates, rng):
        out[-1].append(beat)
        if id(beat) in ends:
            out.append([])
    return out[:-1]


def _pick_up(bars: list[Bar], metre: tuple[int, int], rng: random.Random) -> None:
    """Shortens the first bar, from its front, to a pick-up."""
    voice = bars[0].voices[0]
    limit = metre_length(metre) * 3 // 4
    kept: list[Beat] = []
    length = Fraction(0)
    want = rng.choice((8, 8, 16, 16, 24, 32))
    for beat in reversed(voice):
        size = beat.length * 64
        if beat.tuplet or length + size > min(want, limit):
            break
        kept.insert(0, beat)
        length += size
    while kept and kept[0].grace:
        kept.pop(0)
    if kept and length and any(beat.notes for beat in kept):
        bars[0].voices[0] = kept
        bars[0].anacrusis = True
        repair_links(kept)


def _forms(bars: list[Bar], rng: random.Random) -> None:
    """Repeats with counts, and first and second endings."""
    place = 1 if bars[0].anacrusis else 0
    while place < len(bars) - 1:
        if rng.random() < 0.22:
            stop = min(place + rng.choice((0, 1, 1, 2, 3, 3, 7)), len(bars) - 1)
            bars[place].repeat_open = place > 0 or rng.random() < 0.8
            bars[stop].repeat_close = rng.choices((2, 3, 4, 8), (75, 10, 12, 3))[0]
            if stop > place and stop + 1 < len(bars) and rng.random() < 0.35:
                bars[stop].repeat_close = 2
                bars[stop].endings, bars[stop + 1].endings = (1,), (2,)
                stop += 1
                if rng.random() < 0.3:
                    bars[stop].repeat_close = 2
            place = stop
        place += rng.randint(1, 4)


def _scene(rng: random.Random, strings: int, bars: int) -> phrases.Scene:
    return phrases.Scene(
        rng=rng,
        strings=open_pitches(TUNINGS[strings]["standard"]),
        root=rng.randrange(12),
        scale=rng.choice(list(SCALES)),
        metres=_metres(bars, rng),
        feel="eighth",
        rests=rng.choice((0.0, 0.03, 0.06, 0.12, 0.25)),
    )


def generate_piece(seed: int) -> Piece:
    """A piece of 8 to 24 bars, the same for the same seed on every machine.

    Three quarters are made as guitarists and bassists play; one quarter is wild: any fret on any string in any rhythm.
    """
    rng = random.Random(seed)
    strings = rng.choices(_STRING_COUNTS, _STRING_WEIGHTS)[0]
    count = rng.randint(8, 24)
    scene = _scene(rng, strings, count)
    if rng.random() < WILD_SHARE:
        kind, manner = "wild", "wild"
        voices = [wild(scene)]
    elif strings == 6 and rng.random() < TWO_VOICE_SHARE / (1 - WILD_SHARE) / 0.8:
        kind, manner = "fingerstyle", "picking"
        scene.feel = rng.choice(("eighth", "eighth", "slow", "sixteenth", "any"))
        voices = list(phrases.fingerstyle(scene))
    else:
        kinds = _KINDS[strings]
        kind = rng.choices(list(kinds), [entry[3] for entry in kinds.values()])[0]
        make, manner, feels, _ = kinds[kind]
        scene.feel = rng.choice(feels)
        voices = [make(scene)]
    rates = piece_rates(manner, rng)
    if len(voices) > 1:
        # a line over two voices could belong to either of them: only what sits on a note stays
        rates = {name: rate for name, rate in rates.items() if name not in ("pm", "lr", "v", "vw")}
    voices = [_decorated(voice, rates, rng) for voice in voices]
    for voice in voices:
        repair_links([beat for bar in voice for beat in bar])
    bars = _assemble(voices, scene.metres)
    if len(voices) == 1 and rng.random() < 0.1:
        _pick_up(bars, scene.metres[0], rng)
    bars[0].key_signature = key_name(scene.root, scene.scale)
    if rng.random() < 0.03:
        # another root is another signature: a change to the same one would not be drawn
        bars[rng.randrange(1, count)].key_signature = key_name(scene.root + rng.randint(1, 11), scene.scale)
    if rng.random() < 0.8:
        bars[0].tempo = rng.randint(40, 240)
    if rng.random() < 0.05:
        faster = rng.randint(40, 240)  # the same tempo again would not be drawn
        bars[rng.randrange(1, count)].tempo = faster if faster != bars[0].tempo else faster + 1
    _forms(bars, rng)
    tunings = TUNINGS[strings]
    tuning = tunings["standard"] if rng.random() < 0.6 else rng.choice(list(tunings.values()))
    capo = rng.randint(1, 7) if strings == 6 and rng.random() < 0.15 else 0
    return Piece(make_staff(bars, strings), piece_name(seed), seed, kind, tuning, capo)


def _copy_beat(beat: Beat) -> Beat:
    notes = [Note(n.fret, n.string, dict(n.effects), n.pitch) for n in beat.notes]
    return Beat(notes, beat.duration, beat.dots, beat.tuplet, beat.grace, dict(beat.effects))


def _copy_bar(bar: Bar) -> Bar:
    return Bar(
        voices=[[_copy_beat(beat) for beat in voice] for voice in bar.voices],
        time_signature=bar.time_signature,
        key_signature=bar.key_signature,
        tempo=bar.tempo,
        repeat_open=bar.repeat_open,
        repeat_close=bar.repeat_close,
        endings=bar.endings,
        section=bar.section,
        anacrusis=bar.anacrusis,
        other=dict(bar.other),
    )


def take_bars(score: Score, start: int, stop: int) -> Score:
    """Some bars of the only staff of a score, as a picture of their own shows them.

    The metre and the key in force are written at the first bar; ties, slides and hammer-ons that lose their partner
    go, and voices that no bar uses go as well.
    """
    staff = score.staves[0]
    metre, key = (4, 4), None
    for bar in staff.bars[: start + 1]:
        metre, key = bar.time_signature or metre, bar.key_signature or key
    bars = [_copy_bar(bar) for bar in staff.bars[start:stop]]
    bars[0].time_signature, bars[0].key_signature = metre, None if key == "c" else key
    width = max((index + 1 for bar in bars for index, voice in enumerate(bar.voices) if voice), default=1)
    for bar in bars:
        bar.voices = bar.voices[:width] + [[] for _ in range(width - len(bar.voices))]
    for index in range(width):
        repair_links([beat for bar in bars for beat in bar.voices[index]])
    return Score(tracks=[Track(staves=[Staff(bars, ("tabs",), staff.tuning)])])


def split_systems(piece: Piece, rng: random.Random) -> list[Score]:
    """Cuts a piece into systems of 1 to 8 bars, in order; every bar comes in exactly one."""
    systems, place = [], 0
    total = len(piece.score.staves[0].bars)
    while place < total:
        length = min(rng.choices(SYSTEM_LENGTHS, SYSTEM_WEIGHTS)[0], total - place)
        systems.append(take_bars(piece.score, place, place + length))
        place += length
    return systems


def shown_as(system: Score, staves: str) -> Score:
    """Keeps, in place, what one kind of picture shows of a system.

    Args:
        system: Score of one staff, from `split_systems`.
        staves: `"tabs"` or `"score+tabs"`.

    Returns:
        The same score. A tab alone has no key signature, accents and staccato dots.
    """
    staff = system.staves[0]
    staff.show = ("tabs",) if staves == "tabs" else ("score", "tabs")
    if staves == "tabs":
        for bar in staff.bars:
            bar.key_signature = None
            for beat in (beat for voice in bar.voices for beat in voice):
                for note in beat.notes:
                    for name in SCORE_ONLY_NOTE:
                        note.effects.pop(name, None)
    return system


#: One way to draw tab with rhythm, for a model that draws: whoever asks for a picture asks for no font.
PLAIN_STYLE: dict[str, Any] = {
    "staves": "tabs", "scale": 1.0, "rhythm": "bars", "stretch": 1.0, "text_font": "arimo", "serif_font": "tinos",
    "music_font": "bravura", "bar_numbers": "none", "line_gray": 0, "second_voice_gray": None, "dynamics": False,
}  # fmt: skip


def random_style(rng: random.Random, voices: int = 1) -> dict[str, Any]:
    """How a system is drawn: arguments of `render.RenderJob` besides the text.

    55 % tab with rhythm, 45 % with the score staff above; two voices are told apart only with the score staff.
    """
    tabs = rng.random() < 0.55 and voices == 1
    return {
        "staves": "tabs" if tabs else "score+tabs",
        "scale": round(rng.uniform(0.7, 1.6), 2),
        "rhythm": rng.choice(("bars", "bars", "bars", "beams") if tabs else ("bars", "hidden")),
        "stretch": round(rng.choice((1.0, rng.uniform(0.85, 1.4))), 2),
        "text_font": rng.choice(TEXT_FONTS),
        "serif_font": rng.choice(TEXT_FONTS),
        "music_font": rng.choices(MUSIC_FONTS, (80, 12, 8))[0],
        "bar_numbers": rng.choice(("none", "first", "all")),
        "line_gray": rng.choice(LINE_GRAYS),
        "second_voice_gray": rng.choice((None, 0, 100)),
        "dynamics": False,
    }


def piece_seeds(seed: int, split: str | None = None) -> Iterator[int]:
    """Endless seeds of pieces of one split (`None`: all)."""
    if split is not None and split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    rng = random.Random(f"pieces {seed}")
    while True:
        candidate = rng.getrandbits(63)
        if split is None or split_of(piece_name(candidate)) == split:
            yield candidate


def iter_system_jobs(
    seed: int, count: int, split: str | None = None, plain: bool = False, max_bars: int = 0
) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Texts to draw, with the way to draw them.

    Args:
        seed: The same seed gives the same jobs.
        count: Number of systems.
        split: `"train"`, `"validation"` or `"test"`; `None` for all. Splits never share a piece, whatever the seed.
        plain: All in `PLAIN_STYLE`, and only parts of one voice as they are played; no wild ones.
        max_bars: Leave out longer systems; 0: none.

    Yields:
        `(text, style, piece_id)`: canonical alphaTex, see `random_style`, name of the piece.
    """
    done = 0
    for candidate in piece_seeds(seed, split):
        if done >= count:
            return
        piece = generate_piece(candidate)
        if plain and (piece.voices > 1 or piece.kind == "wild"):
            continue
        rng = random.Random(candidate ^ 0x5EED)
        systems = split_systems(piece, rng)
        kept = [system for system in systems if not max_bars or len(system.staves[0].bars) <= max_bars]
        for system in kept[: count - done]:
            style = dict(PLAIN_STYLE) if plain else random_style(rng, piece.voices)
            yield write_alphatex(shown_as(system, style["staves"])), style, piece.piece_id
            done += 1
