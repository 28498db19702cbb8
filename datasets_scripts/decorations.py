"""Words and signs around the notes that real pages have and our texts do not name: drawn, and not in the truth.

Dynamics, words at the tempo, names of parts, chord names and diagrams, lyrics, expressions, fermatas, jumps. A reader
that never saw them takes them for something it knows (a loud *p* for a popped string), so it must see them and learn to
say nothing. What means something in our texts ("P.M.", "let ring", "T", "x3") is never among the words.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from ..processing.alphatex_grammar import Bar, Beat, Staff, read_alphatex, write_alphatex

DYNAMICS = ("ppp", "pp", "p", "mp", "mf", "f", "ff", "fff")
_DYNAMIC_WEIGHTS = (1, 3, 8, 6, 10, 10, 5, 1)
TEMPO_WORDS = (
    "Moderate", "Moderately", "Slow", "Slowly", "Fast", "Medium Rock", "Medium Swing", "Slow Blues", "Ballad",
    "Moderato", "Allegro", "Allegretto", "Andante", "Adagio", "Largo", "Lento", "Presto", "Vivace", "Freely", "Bright",
    "With a beat", "Easy Rock", "Half-time feel", "Double-time feel", "Free time", "Moderately fast", "Up-tempo",
    "Andante con moto", "Swing", "Shuffle feel", "a tempo", "Tempo I",
)  # fmt: skip
SECTIONS = (
    "Intro", "Verse", "Verse 1", "Verse 2", "Chorus", "Pre-Chorus", "Bridge", "Solo", "Guitar Solo", "Outro", "Coda",
    "Interlude", "Refrain", "Riff A", "Riff 1", "Main Riff", "Break", "Breakdown", "Ending", "Head", "A", "B", "C", "D",
    "Part 1", "Theme", "Fill", "Hook", "Variation 1", "Turnaround",
)  # fmt: skip
EXPRESSIONS = (
    "dolce", "rit.", "rall.", "accel.", "a tempo", "cresc.", "dim.", "legato", "espress.", "con fuoco", "N.C.",
    "(clean tone)", "with distortion", "w/ dist.", "w/ clean tone", "w/ fingers", "w/ pick", "w/ slide", "Gtr. 1",
    "Gtr. 2", "Rhy. Fig. 1", "Riff A", "Capo 2", "Capo III", "Drop D", "play 2nd time only", "1.x tacet", "fade out",
    "tutti", "solo", "ad lib.", "mute", "vol. swell", "steady gliss", "grad. release", "hold", "loco", "cantabile",
    "Fine", "D.C. al Fine", "D.S. al Coda", "To Coda", "bring in drums", "arp.", "Half time", "ring out", "Bass fill",
)  # fmt: skip
SYLLABLES = (
    "la", "oh", "love", "the", "a-", "way", "in", "to", "night", "and", "you", "see", "morn-", "ing", "when", "I",
    "was", "young", "riv-", "er", "light", "down", "we", "go", "my", "heart", "yeah", "no", "more", "ain't", "time",
    "re-", "mem-", "ber", "blue", "sky", "for", "ev-", "road", "Oh,", "so", "long.", "baby", "come", "home,", "where",
    "did", "é-", "toi", "für", "dich", "que-", "ré-", "na", "hey", "ooh", "(ah)",
)  # fmt: skip
JUMPS = ("Fine", "Segno", "Coda", "DaCapo", "DalSegno", "DaCapoAlFine", "DalSegnoAlCoda", "DaCoda")
_ROOTS = ("C", "D", "E", "F", "G", "A", "B", "Bb", "Eb", "F#", "C#", "Ab")
_KINDS = ("", "", "", "m", "m", "7", "m7", "maj7", "sus4", "sus2", "add9", "5", "/G", "/F#", "dim", "6", "m7b5", "9")
#: Chance of each kind of decoration in a decorated system.
RATES = {
    "dynamics": 0.55, "tempo words": 0.5, "section": 0.35, "chords": 0.35, "lyrics": 0.25, "expressions": 0.4,
    "fermata": 0.08, "jump": 0.1, "hairpin": 0.25,
}  # fmt: skip
_DIAGRAMS, _TUNING_LINE = 0.4, 0.1


@dataclass(frozen=True)
class Decorated:
    """A text with decorations.

    Attributes:
        text: alphaTex to draw.
        style: What `RenderJob` needs besides, on top of the usual style.
        kinds: Kinds of decoration that are on it, for statistics.
    """

    text: str
    style: dict[str, Any]
    kinds: tuple[str, ...]


def decorated(text: str, rng: random.Random, first_bar: int = 0) -> Decorated:
    """Puts words and signs around a system that its truth says nothing of.

    Args:
        text: Canonical alphaTex of one staff.
        rng: Source of chance.
        first_bar: Bars before this one are not drawn and stay as they are.

    Returns:
        The text to draw: the same notes, rhythm, techniques and bar marks.
    """
    score = read_alphatex(text)
    staff = score.staves[0]
    bars = staff.bars[first_bar:]
    kinds = [kind for kind, rate in RATES.items() if rng.random() < rate] or ["dynamics"]
    beats = [beat for bar in bars for beat in bar.voices[0] if not beat.grace]
    style: dict[str, Any] = {"dynamics": "dynamics" in kinds}
    head = ""
    if not beats:
        return Decorated(text, style, ())
    _put_beats(kinds, beats, rng)
    _put_bars(kinds, bars, rng)
    if "chords" in kinds:
        head = _put_chords(staff, bars, rng)
    if rng.random() < _TUNING_LINE:
        style["tuning"] = True
    return Decorated(head + write_alphatex(score), style, tuple(kinds))


def _put_beats(kinds: list[str], beats: list[Beat], rng: random.Random) -> None:
    """Signs and words that stand at beats."""
    if "dynamics" in kinds:
        chance = rng.choice((0.0, 0.03, 0.08, 0.2))
        now = ""
        for beat in beats:
            loudness = rng.choices(DYNAMICS, _DYNAMIC_WEIGHTS)[0]
            if beat.notes and loudness != now and (not now or rng.random() < chance):
                beat.effects["dy"], now = (loudness,), loudness
    if "hairpin" in kinds and len(beats) > 2:
        start = rng.randrange(len(beats) - 1)
        name = rng.choice(("cre", "dec"))
        for beat in beats[start : start + rng.randint(2, 6)]:
            beat.effects[name] = ()
    if "lyrics" in kinds:
        lines, share = rng.choice((1, 1, 1, 2)), rng.choice((0.5, 0.9, 1.0))
        for beat in beats:
            if beat.notes and rng.random() < share:
                beat.effects["lyrics"] = tuple(rng.choice(SYLLABLES) for _ in range(lines))
    if "expressions" in kinds:
        for beat in rng.sample(beats, min(len(beats), rng.choice((1, 1, 1, 2, 3)))):
            beat.effects["txt"] = (rng.choice(EXPRESSIONS),)
    if "fermata" in kinds:
        rng.choice(beats).effects["fermata"] = (rng.choice(("short", "medium", "long")),)


def _put_bars(kinds: list[str], bars: list[Bar], rng: random.Random) -> None:
    """Words that stand at bars."""
    if "section" in kinds:
        bar = bars[0] if rng.random() < 0.7 else rng.choice(bars)
        bar.section = rng.choice(SECTIONS)
    if "tempo words" in kinds:
        for bar in bars:
            if bar.tempo is not None:
                bar.other["tempolabel"] = (rng.choice(TEMPO_WORDS),)
        if bars[0].tempo is None and bars[0].voices[0]:  # a word without a number
            bars[0].voices[0][0].effects["txt"] = (rng.choice(TEMPO_WORDS),)
    if "jump" in kinds:
        rng.choice(bars).other["jump"] = ((rng.choice(JUMPS),),)


def _put_chords(staff: Staff, bars: list[Bar], rng: random.Random) -> str:
    """Chord names over bars or beats, some with a diagram; returns what the text's head needs."""
    names = [rng.choice(_ROOTS) + rng.choice(_KINDS) for _ in range(rng.choice((1, 2, 3, 4)))]
    often = rng.choice((0.0, 0.0, 0.15, 0.4))
    for bar in bars:
        for place, beat in enumerate(bar.voices[0]):
            # The name of a part stands where a chord's name would.
            if not beat.grace and not (place == 0 and bar.section) and (place == 0 or rng.random() < often):
                beat.effects["ch"] = (rng.choice(names),)
    if staff.strings != 6 or rng.random() >= _DIAGRAMS:
        return ""
    shapes = []
    for name in dict.fromkeys(names):
        base = rng.choice((0, 0, 0, 1, 2))
        shapes.append((name, *("x" if rng.random() < 0.12 else base + rng.randint(0, 3) for _ in range(6))))
    staff.other["chord"] = tuple(shapes)
    return "\\chordDiagramsInScore\n"


__all__ = ["RATES", "Decorated", "decorated"]
