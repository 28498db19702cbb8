"""The part of the grammar that needs no music: which tokens may follow inside one mark, effect or string.

An *item* is something still to be written, for example `"quote"` or `"number"`. Its table gives, for each token that
may come next, the items that then replace it. A *nullable* item may also be left out. `alphatex_constraints` keeps a
stack of items and adds what depends on bars, metre and strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from .alphatex_pieces import BENDS, DIVES, EFFECT_WORDS, MAX_STRING, Piece, byte_letters, canonical_pieces
from .alphatex_vocabulary import BAR_MARKS, BEAT_EFFECTS, HARMONICS_WITH_FRET, INFO_FIELDS, NOTE_EFFECTS

Items = tuple[str, ...]
Table = dict[int, Items]

NULLABLE = frozenset(
    "digits digits_2 point fraction slur_digits slur_digits_2 optional_number optional_decimals diagram_marks".split()
)
NOTE_RANK = {name: rank for rank, name in enumerate(NOTE_EFFECTS)}
BEAT_RANK = {name: rank for rank, name in enumerate(BEAT_EFFECTS)}
REPEATED_EFFECTS = frozenset({"slur", "beam", "lyrics"})
REPEATED_MARKS = frozenset({"beaming", "jump", "spd", "sph", "spu"})
_FIRST_MARKS = ("ae", "ro", "rc", "ts", "ks", "section", "ac", "tempo")
MARK_RANK = {name: rank for rank, name in enumerate((*_FIRST_MARKS, *(m for m in BAR_MARKS if m != "tempo")))}
MARK_RANK["labelled_tempo"] = MARK_RANK["tempo"]
STAFF_TAG_RANK = {"tuning": -9, "no_tuning": -9, "capo": -8, "transpose": -7, "displaytranspose": -6, "chord": -5}
STAFF_TAG_RANK["accidentals"] = -4
NEW_STAFF, NEW_BAR = -99, -1

STAFF_TAG_ITEMS: dict[str, Items] = {
    "tuning": ("bracket", "pitch", "pitches", "line"),
    "no_tuning": ("line",),
    "capo": ("small", "line"),
    "transpose": ("any_number", "line"),
    "displaytranspose": ("any_number", "line"),
    "chord": ("bracket_quote", "diagram", "diagram_marks", "line"),
    "accidentals": ("line",),
}
MARK_ITEMS: dict[str, Items] = {
    "rc": ("small",),
    "ae": ("bracket", "small", "smalls"),
    "section": ("bracket_quote", "close"),
    "tempo": ("tempo",),
    "labelled_tempo": ("tempo", "quote", "place"),
    "beaming": ("bracket", "beam_unit", "small", "smalls"),
    "spd": ("spacing",), "sph": ("spacing",), "spu": ("spacing",),
}  # fmt: skip


def _bend_items(points: tuple[int, ...], value: str) -> Items:
    if not points:
        return ("zero", value, "offset", value, f"{value}_points")
    pairs = [("zero" if i == 0 else f"at_{at}", value) for i, at in enumerate(points)]
    return (*(item for pair in pairs for item in pair), "close")


def effect_items(value: tuple[object, ...]) -> Items:
    """What must be written after the name of an effect (`Piece.value`) has been written."""
    name = str(value[0])
    if name == "be":
        return _bend_items(BENDS[str(value[1])], "height")
    if name == "tbe":
        return _bend_items(DIVES[str(value[1])], "any_number")
    if name in HARMONICS_WITH_FRET:
        return ("optional_number",)
    if name in ("tp", "barre", "lyrics"):
        return (name,)
    if name in EFFECT_WORDS:
        return (f"word_{name}",)
    return {
        "tr": ("fret_number",), "lf": ("finger",), "rf": ("finger",), "slur": ("slur",), "ch": ("quote",),
        "txt": ("quote",),
    }.get(name, ())  # fmt: skip


class TokenGrammar:
    """Tables of one vocabulary.

    Args:
        vocab: Spelling to id, as `AlphaTexTokenizer.get_vocab()` gives it.

    Raises:
        ValueError: When the vocabulary lacks pieces of canonical alphaTex.
    """

    def __init__(self, vocab: Mapping[str, int]) -> None:
        known = canonical_pieces()
        missing = [piece for piece in known if piece not in vocab]
        if missing:
            raise ValueError(f"the vocabulary lacks {len(missing)} of {len(known)} pieces, the first is {missing[0]!r}")
        self.id = {piece: vocab[piece] for piece in known}
        self.piece: dict[int, Piece] = {vocab[piece]: what for piece, what in known.items()}
        self.size = max(vocab.values()) + 1
        self.end, self.pad = self.id["<|end|>"], self.id["<|pad|>"]
        self.of_kind: dict[str, tuple[int, ...]] = {}
        for index, what in self.piece.items():
            self.of_kind[what.kind] = (*self.of_kind.get(what.kind, ()), index)
        self.effect_ids = {(w.value, w.opens): i for i, w in self.piece.items() if w.kind == "effect"}
        self.allowed_cache: dict[tuple, frozenset[int]] = {}
        self._effects: dict[tuple[bool, int, bool], list[int]] = {}
        self.items: dict[str, Table] = {}
        self._numbers()
        self._text()
        self._composed()
        self.cost = self._costs()

    def of(self, kind: str, values: Iterable[object]) -> tuple[int, ...]:
        """Ids of one kind that say one of the values."""
        wanted = set(values)
        return tuple(i for i in self.of_kind[kind] if self.piece[i].value in wanted)

    def _numbers(self) -> None:
        def numbers(low: int, high: int) -> Table:
            return dict.fromkeys(self.of("number", range(low, high + 1)), ())

        items, ident = self.items, self.id
        digits = {d: ident[str(d)] for d in range(10)}
        close: Table = {ident[")"]: ()}
        items["any_number"] = numbers(-20, 60)
        items["height"] = items["offset"] = items["fret_number"] = numbers(0, 60)
        items["number"] = items["optional_number"] = numbers(0, 60)
        items["small"], items["finger"] = numbers(1, 24), numbers(1, 5)
        items["beam_unit"] = dict.fromkeys(self.of("number", (4, 8, 16, 32)), ())
        items["smalls"] = Table().fromkeys(numbers(1, 24), ("smalls",)) | close
        items["at_30"], items["at_60"] = numbers(30, 30), numbers(60, 60)
        items["only_zero"] = numbers(0, 0)
        items["zero"] = items["only_zero"] | {ident["Ġgradual"]: ("only_zero",)}
        for value in ("height", "any_number"):
            points = f"{value}_points"
            more: Table = dict.fromkeys(items["offset"], (value, points))
            items[points] = more | close
        items["tempo"] = {digits[d]: ("digits",) for d in range(1, 10)}
        point: Table = dict.fromkeys(self.of_kind["string"], ("fraction",))
        items["digits"] = dict.fromkeys(digits.values(), ("digits_2",)) | point
        items["digits_2"] = dict.fromkeys(digits.values(), ("point",)) | point
        items["point"] = point
        items["fraction"] = dict.fromkeys(digits.values(), ())
        # Where in the bar a tempo starts: `0.5` looks like fret 0 on string 5, `0.25` does not.
        tenths = self.of_kind["string"]
        items["place"] = {ident[")"]: (), ident["♪0"]: ("tenth", "close"), ident["Ġ0"]: ("decimals", "close")}
        items["tenth"] = dict.fromkeys(tenths, ())
        items["decimals"] = dict.fromkeys(tenths, ("slur",)) | {ident["."]: ("zero_digit", "slur")}
        items["optional_decimals"] = items["decimals"]
        spacing: Table = dict.fromkeys(numbers(0, 60), ("optional_decimals",))
        items["spacing"] = spacing | dict.fromkeys(self.of_kind["fret"], ("tenth",))
        items["zero_digit"] = {digits[0]: ()}
        items["slur"] = {digits[d]: ("slur_digits",) for d in range(1, 10)}
        items["slur_digits"] = dict.fromkeys(digits.values(), ("slur_digits_2",))
        items["slur_digits_2"] = dict.fromkeys(digits.values(), ())

    def _text(self) -> None:
        """A string: any token without quote, backslash or line end; bytes above 127 only as whole UTF-8 letters."""
        items, ident = self.items, self.id
        letter = {what.value: i for i, what in self.piece.items() if what.kind == "byte"}
        # alphaTab takes a zero byte for the end of the text; no other control character is ever drawn either.
        controls = {self.id[letter] for byte, letter in byte_letters().items() if byte < 32 or byte == 127}
        unfit = set('"\\⏎')
        text: Table = {
            index: ("text",)
            for spelling, index in ident.items()
            if self.piece[index].kind not in ("special", "stray")
            and index not in controls
            and not unfit & set(spelling)
        }
        for mark in ("♪", "♩", "⟮"):  # before fret 40, string 12 and the like the mark stands alone
            text[ident[mark]] = ("text",)

        def tail(low: int, high: int) -> Table:
            return {letter[b]: () for b in range(low, high + 1)}

        items["tail"] = tail(0x80, 0xBF)
        items["tail_e0"], items["tail_ed"] = tail(0xA0, 0xBF), tail(0x80, 0x9F)
        items["tail_f0"], items["tail_f4"] = tail(0x90, 0xBF), tail(0x80, 0x8F)
        for byte in range(0x80, 0xF5):
            if byte in (0xC0, 0xC1):
                continue
            if byte < 0xC0:
                del text[letter[byte]]
            elif byte < 0xE0:
                text[letter[byte]] = ("tail", "text")
            elif byte < 0xF0:
                first = {0xE0: "tail_e0", 0xED: "tail_ed"}.get(byte, "tail")
                text[letter[byte]] = (first, "tail", "text")
            else:
                first = {0xF0: "tail_f0", 0xF4: "tail_f4"}.get(byte, "tail")
                text[letter[byte]] = (first, "tail", "tail", "text")
        text[ident["\\"]] = ("escape", "text")
        for closing in ('"', 'Ġ"', 'Ġ("'):  # the text itself may end in a space or a bracket
            text[ident[closing]] = ()
        items["text"] = text
        items["escape"] = {ident[c]: () for c in '\\"nt'}

    def _composed(self) -> None:
        items, ident = self.items, self.id
        items["line"] = {ident["⏎"]: ()}
        items["close"] = {ident[")"]: ()}
        items["close_brace"] = {ident["}"]: ()}
        items["bracket"] = {ident["Ġ⟮"]: ()}
        items["quote"] = {ident['Ġ"']: ("text",)}
        items["bracket_quote"] = {ident['Ġ("']: ("text",)}
        items["names"] = items["quote"] | {ident['Ġ("']: ("text", "quote", "close")}
        items["metre_unit"] = dict.fromkeys(self.of_kind["metre_unit"], ())
        items["pitch"] = dict.fromkeys(self.of_kind["pitch"], ())
        for left in range(MAX_STRING):
            more = dict.fromkeys(self.of_kind["pitch"], (f"pitches_{left - 1}",)) if left else {}
            items[f"pitches_{left}"] = more | items["close"]
        items["pitches"] = items[f"pitches_{MAX_STRING - 1}"]
        for name, words in EFFECT_WORDS.items():
            items[f"word_{name}"] = {ident[f"Ġ{word}"]: () for word in words}
        items["lyrics"] = items["quote"] | {ident["Ġ⟮"]: ("number", "quote", "close")}
        for name in ("tp", "barre"):
            items[name] = items["finger" if name == "tp" else "small"] | {
                ident["Ġ⟮"]: ("finger", f"word_{name}", "close")
            }
        frets = dict.fromkeys((*items["number"], ident["Ġx"]), ("diagram",))
        items["diagram"] = frets | items["close"]
        lists = ("bracket", "small", "smalls")
        items["diagram_marks"] = {
            ident["Ġ{firstfret"]: ("bracket", "small", "close", "barre_or_brace"),
            ident["Ġ{barre"]: (*lists, "close_brace"),
        }
        items["barre_or_brace"] = items["close_brace"] | {ident["Ġbarre"]: (*lists, "close_brace")}

    def _costs(self) -> dict[str, int]:
        """Fewest tokens that finish each item."""
        cost = {name: 0 if name in NULLABLE else 10**6 for name in self.items}
        before: dict[str, int] = {}
        while before != cost:
            before = dict(cost)
            for name, table in self.items.items():
                cost[name] = min(cost[name], *(1 + sum(cost[i] for i in items) for items in set(table.values())))
        return cost

    @cache  # noqa: B019  (one grammar lives as long as its tokenizer)
    def shortest(self, item: str) -> int:
        """The token that finishes an item soonest."""
        table = self.items[item]
        return min(table, key=lambda token: (sum(self.cost[i] for i in table[token]), token))

    def effects(self, names: dict[str, int], above: int, opens: bool) -> list[int]:
        """Effects that may come after rank `above`, except those that change a duration."""
        key = (names is NOTE_RANK, above, opens)
        if key not in self._effects:
            self._effects[key] = [
                index
                for (value, opening), index in self.effect_ids.items()
                if opening == opens
                and value[0] in names
                and value[0] not in ("d", "dd", "tu", "gr")
                and (names[value[0]] > above or (names[value[0]] == above and value[0] in REPEATED_EFFECTS))
            ]
        return self._effects[key]


INFO_COUNT = len(INFO_FIELDS)
