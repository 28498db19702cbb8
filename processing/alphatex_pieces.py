r"""The pieces of canonical alphaTex: what one token is, and how text is rewritten so that each piece has one spelling.

Text is first mapped byte by byte to printable letters (GPT-2's table, a space is `Ġ`, a line end `Ċ`). Five letters
outside that table then mark what plain characters leave ambiguous; because they cannot come from any text, taking
them back is exact:

- `♩` is the dot before a duration (`3.3.4` is fret 3, string `.3`, duration `♩4`; the string 4 is `.4`);
- `♪` is the space before a fret;
- `⟮Ġ` is a bracket directly followed by a number or a pitch, so that a first element looks like the others;
- `⏎Ġ` is a line end before more text (`⏎` at the end), so that a bar starts as any beat does.

The same fret is thus the same token at the start of a bar, inside a chord and between beats.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

from .alphatex_vocabulary import BEAT_EFFECTS, DURATIONS, INFO_FIELDS, NOTE_EFFECTS

SPECIAL_TOKENS = (
    "<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|image|>", "<|image_start|>",
    "<|image_end|>", "<|alphatex|>", "<|reserved_0|>", "<|reserved_1|>", "<|reserved_2|>",
)  # fmt: skip
SPACE, FRET, BRACKET, LINE, BEFORE_DURATION = "Ġ", "♪", "⟮", "⏎", "♩"
MARKS = FRET + BRACKET + LINE + BEFORE_DURATION
MAX_FRET, MAX_STRING, MAX_NUMBER, MIN_NUMBER = 36, 9, 60, -20
TUPLETS = (
    (3, 2), (5, 4), (6, 4), (7, 4), (9, 8), (10, 8), (11, 8), (12, 8), (13, 8), (2, 3), (4, 3), (5, 2), (5, 3),
)  # fmt: skip
METRE_UNITS, MAX_METRE = (1, 2, 4, 8, 16, 32, 64), 32
BENDS = {
    "bend": (0, 60), "release": (0, 60), "hold": (0, 60), "prebend": (0, 60), "prebendbend": (0, 60),
    "prebendrelease": (0, 60), "bendrelease": (0, 30, 30, 60), "custom": (),
}  # fmt: skip
DIVES = {"dive": (0, 60), "hold": (0, 60), "predive": (0, 60), "predivedive": (0, 60), "dip": (0, 30, 60), "custom": ()}
_BARLINES = "automatic dashed dotted heavy heavyheavy heavylight lightheavy lightlight none regular short tick"
MARK_WORDS: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in {
        "ks": "cb gb db ab eb bb f c g d a e b f# c#",
        "clef": "neutral c3 c4 f4 g2",
        "ottava": "15ma 8va regular 8vb 15mb",
        "simile": "simple firstofdouble secondofdouble",
        "tf": "none triplet16th triplet8th dotted16th dotted8th scottish16th scottish8th",
        "jump": "fine segno segnosegno coda doublecoda dacapo dacapoalcoda dacapoaldoublecoda dacapoalfine dalsegno "
        "dalsegnoalcoda dalsegnoaldoublecoda dalsegnoalfine dalsegnosegno dalsegnosegnoalcoda "
        "dalsegnosegnoaldoublecoda dalsegnosegnoalfine dacoda dadoublecoda",
        "barlineleft": _BARLINES,
        "barlineright": _BARLINES,
    }.items()
}
EFFECT_WORDS: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in {
        "acc": "forcenone forcenatural forcesharp forcedoublesharp forceflat forcedoubleflat # x b bb",
        "dy": "ppp pp p mp mf f ff fff sf sfz fz rf rfz fp",
        "ot": "15ma 8va regular 8vb 15mb",
        "fermata": "short medium long",
        "rasg": "ii mi miitriplet miianapaest pmptriplet pmpanapaest peitriplet peianapaest paitriplet paianapaest "
        "amitriplet amianapaest ppp amii amip eami eamii peami",
        "beam": "invert up down auto split merge splitsecondary",
        "barre": "full half",
        "tp": "default buzzroll",
    }.items()
}
SHOWN = ("score", "tabs", "slash", "numbered")
_STAVES = [show for size in range(1, 5) for show in combinations(SHOWN, size)]
NOTE_NAMES = frozenset(NOTE_EFFECTS)
BEAT_NAMES = frozenset(BEAT_EFFECTS)


@dataclass(frozen=True, slots=True)
class Piece:
    """What a token says.

    Attributes:
        kind: For example `"fret"`, `"string"`, `"duration"`, `"effect"`, `"mark"`, `"byte"`, `"special"`.
        value: Fret, string, duration, number or word; `(name, ...)` for effects; the byte for a byte.
        opens: For effects: True when the piece opens the braces.
    """

    kind: str
    value: Any = None
    opens: bool = False


def byte_letters() -> dict[int, str]:
    """Byte to the printable letter that stands for it (GPT-2's table)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def _tags(pieces: dict[str, Piece]) -> None:
    for lead in ("", SPACE):  # a text starts without the space
        for rank, name in enumerate(INFO_FIELDS):
            pieces[f"{lead}\\{name}"] = Piece("info", rank)
        pieces[f"{lead}\\hideDynamics"] = Piece("hide_dynamics")
        pieces[f"{lead}\\voiceModeĠbarWise"] = Piece("voice_mode")
        pieces[f"{lead}\\track"] = Piece("track")
        for show in _STAVES:
            pieces[f"{lead}\\staffĠ{{{SPACE.join(show)}}}"] = Piece("staff", show)
    for name in ("capo", "transpose", "displaytranspose", "chord", "tuning"):
        pieces[f"Ġ\\{name}"] = Piece("staff_tag", name)
    pieces["Ġ\\tuningĠ(none)"] = Piece("staff_tag", "no_tuning")
    pieces["Ġ\\accidentalsĠauto"] = Piece("staff_tag", "accidentals")
    for name in ("firstfret", "barre"):
        pieces[f"Ġ{{{name}"] = Piece("diagram", name)
    for name in ("ro", "rc", "ae", "section", "ac", "ft", "beaming", "spd", "sph", "spu"):
        pieces[f"Ġ\\{name}"] = Piece("mark", name)
    pieces["Ġ\\tempoĠ"] = Piece("mark", "tempo")
    pieces["Ġ\\tempoĠ⟮Ġ"] = Piece("mark", "labelled_tempo")
    for count in range(1, MAX_METRE + 1):
        pieces[f"Ġ\\tsĠ⟮Ġ{count}"] = Piece("metre", count)
    for unit in METRE_UNITS:
        pieces[f"Ġ{unit})"] = Piece("metre_unit", unit)
    for name, words in MARK_WORDS.items():
        for word in words:
            pieces[f"Ġ\\{name}Ġ{word}"] = Piece("mark", (name, word))


def _effects(pieces: dict[str, Piece]) -> None:
    spelled: list[tuple[str, tuple[object, ...]]] = [
        (name, (name,))
        for name in dict.fromkeys(NOTE_EFFECTS + BEAT_EFFECTS)
        if name not in ("tu", "be", "tbe", "slur")
    ]
    spelled += [(f"grĠ{kind}", ("gr", kind)) for kind in ("ob", "b")]
    spelled += [(f"tuĠ⟮Ġ{n}Ġ{m})", ("tu", (n, m))) for n, m in TUPLETS]
    spelled += [(f"beĠ({kind}", ("be", kind)) for kind in BENDS]
    spelled += [(f"tbeĠ({kind}", ("tbe", kind)) for kind in DIVES]
    spelled.append(("slurĠs", ("slur",)))
    for text, value in spelled:
        pieces["{" + text] = Piece("effect", value, opens=True)
        pieces[SPACE + text] = Piece("effect", value)


def canonical_pieces() -> dict[str, Piece]:
    """Every token's spelling (as rewritten text), in the order of the ids, and what it says."""
    pieces: dict[str, Piece] = {token: Piece("special", token) for token in SPECIAL_TOKENS}
    letters = byte_letters()
    for byte, letter in letters.items():
        if byte not in (0xC0, 0xC1) and byte < 0xF5:  # the others never come up in UTF-8
            pieces[letter] = Piece("byte", byte)
    for mark in MARKS:
        pieces[mark] = Piece("line" if mark == LINE else "stray")
    for fret in range(MAX_FRET + 1):
        pieces[f"{FRET}{fret}"] = Piece("fret", fret)
    for string in range(1, MAX_STRING + 1):
        pieces[f".{string}"] = Piece("string", string)
    for duration in sorted(DURATIONS):
        pieces[f"{BEFORE_DURATION}{duration}"] = Piece("duration", duration)
    pieces |= {
        "Ġr": Piece("rest"), "Ġ⟮": Piece("bracket"), "Ġ()": Piece("empty_chord"), "Ġ|⏎": Piece("bar_line"),
        "Ġ\\voice": Piece("voice"), 'Ġ"': Piece("quote"), 'Ġ("': Piece("bracket_quote"),
    }  # fmt: skip
    for number in range(MIN_NUMBER, MAX_NUMBER + 1):
        pieces[f"Ġ{number}"] = Piece("number", number)
    for octave in range(8):
        for letter in "CDEFGAB":
            for accidental in ("", "#", "b"):
                pieces[f"Ġ{letter}{accidental}{octave}"] = Piece("pitch", f"{letter}{accidental}{octave}")
    _tags(pieces)
    _effects(pieces)
    words = dict.fromkeys(word for words in EFFECT_WORDS.values() for word in words)
    for word in (*words, "gradual"):
        pieces.setdefault(SPACE + word, Piece("word", word))
    return pieces


# What is rewritten after the bytes became letters, in this order: (pattern, replacement).
REWRITES = (
    (r"Ċ(?=.)", LINE + SPACE),
    (r"Ċ", LINE),
    (r"(?<=Ġ)\((?=\d|[A-G][#b]?-?\d)", BRACKET + SPACE),
    (
        r"(?<=\.[1-9]|[)}]|Ġr|[A-G]\d|[A-G][#b]\d)\.(?=(?:1|2|4|8|16|32|64|128|256|-2|-4)(?![\d.]))",
        BEFORE_DURATION,
    ),
    (r"Ġ(?=\d{1,2}\.[1-9](?!\d))", FRET),
)
# How the rewritten text reads as plain letters again, in this order.
RESTORES = (
    (FRET, SPACE),
    (BEFORE_DURATION, "."),
    (BRACKET + SPACE, "("),
    (BRACKET, "("),
    (LINE + SPACE, "Ċ"),
    (LINE, "Ċ"),
)
# Cuts rewritten text into candidate pieces; one that is not in the vocabulary falls apart into letters.
PIECE_PATTERN = "|".join(
    (
        r'\\[\\"]',
        r"(?<=\\tsĠ⟮Ġ\d|\\tsĠ⟮Ġ\d\d)Ġ\d+\)",
        r"Ġ?\\staffĠ\{[a-zĠ]+\}",
        r"Ġ\\tsĠ⟮Ġ\d+",
        r"Ġ\\tempoĠ(?:⟮Ġ)?(?=\d)",
        r"Ġ\\(?:ks|clef|ottava|simile|tf|jump|barlineleft|barlineright)Ġ[a-z0-9#]+",
        r"Ġ\\tuningĠ\(none\)|Ġ\\accidentalsĠauto|Ġ?\\voiceModeĠbarWise",
        r"Ġ?\\[A-Za-z]+",
        r"♪\d+|\.[1-9]|♩-?\d+",
        r"Ġ\|⏎|Ġ⟮|Ġ\(\)|Ġ\(?\"",
        r"Ġ[A-G][#b]?\d(?![0-9A-Za-z])",
        r"[{Ġ](?:grĠ(?:ob|b)(?![a-z])|tuĠ⟮Ġ\d+Ġ\d+\)|t?beĠ\([a-z]+|slurĠs(?=\d))",
        r"Ġ(?:8v[ab]|15m[ab])",
        r"Ġ-?\d{1,2}(?!\d)",
        r"Ġ\{(?:firstfret|barre)",
        r"[{Ġ][a-z#]+(?![A-Za-z0-9])",
        r"⏎",
    )
)
