"""Which tokens may come at each place of a text: the half of `AlphaTexState` that looks and does not move."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import NamedTuple, TypeVar

from .alphatex_fitting import Changes, Room, changes, durations
from .alphatex_token_grammar import (
    BEAT_RANK,
    INFO_COUNT,
    MARK_RANK,
    NEW_BAR,
    NOTE_RANK,
    NULLABLE,
    REPEATED_MARKS,
    STAFF_TAG_RANK,
    Items,
    TokenGrammar,
)
from .alphatex_types import beat_length

MAX_GRACES_IN_A_ROW = 8
MAX_VOICES = 4
_TIMING = {"ts", "ac", "ft"}

_C = TypeVar("_C", bound="Choices")


@dataclass(frozen=True)
class DecodingContext:
    """What is known of the text before it is written.

    Attributes:
        strings: Lines of the tab until a `\\tuning` says otherwise.
        metre: Metre in force until a `\\ts`; the reader's own default is (4, 4).
        max_bars: Bars of a staff; `None` for any number.
        max_staves: Staves of all tracks.
        empty_bars: Whether a bar or a voice may stay without beats.
        measured: Whether every voice has to fill its bar; without that, a bar ends where the writer ends it.
    """

    strings: int = 6
    metre: tuple[int, int] = (4, 4)
    max_bars: int | None = None
    max_staves: int = 1
    empty_bars: bool = False
    measured: bool = True


class Cursor(NamedTuple):
    """Where the next token stands, all counted from 0.

    `field` is what the next token decides: `"header"`, `"bar_start"` (a mark of the bar, or its first beat),
    `"beat_start"`, `"fret"`, `"string"`, `"after_note"` (a note effect, or else the duration or the next note of the
    chord), `"note_effect"`, `"duration"`, `"after_duration"` (a beat effect, or else the beat `beat + 1`, the next
    voice or the bar line), `"beat_effect"`, `"after_beat"` (as before, effects being closed), `"argument"`, `"text"`,
    `"end"`.
    """

    bar: int
    voice: int
    beat: int
    note: int
    field: str


@dataclass(slots=True, eq=False)
class Choices:
    """A place in a text, and what may come there. For every phase `P`, `_P_tokens` lists the tokens that may come and
    `_P_key` says in little what that list depends on.
    """

    grammar: TokenGrammar
    context: DecodingContext = field(default_factory=DecodingContext)
    # of the text
    stack: Items = ()
    phase: str = "head"
    rank: int = -1
    staves: int = 0
    voice_mode: bool = False
    metre: Fraction = Fraction(1)
    metre_count: int = 4
    metres: tuple[Fraction | None, ...] = ()
    # of the staff
    bars: int = 0
    strings: int = 6
    pitched: bool | None = None
    # of the bar
    short: bool = False
    free: bool = False
    in_voices: bool = False
    # of the voice
    voice: int = 0
    beat: int = -1
    room_left: Fraction | None = None
    used: Fraction = Fraction(0)
    full_rest: bool = False
    graces: int = 0
    # of the beat
    kind: str = ""
    string: int = 0
    notes: int = 0
    duration: int = 0
    dots: int = 0
    tuplet: tuple[int, int] | None = None
    stage: int = 0
    grace: bool = False

    def __post_init__(self) -> None:
        self.strings = self.context.strings
        self.metre = Fraction(*self.context.metre)

    # --- what may come ----------------------------------------------------------------------------------------------

    def key(self) -> tuple:
        """States of equal key allow the same tokens; a small key for caches."""
        items = []
        for item in self.stack:
            items.append(item)
            if item not in NULLABLE:
                return tuple(items), None
        return tuple(items), getattr(self, f"_{self.phase}_key")()

    def allowed(self) -> frozenset[int]:
        """Ids of the tokens that may come next; never empty."""
        key = self.key()
        cache = self.grammar.allowed_cache
        found = cache.get(key)
        if found is None:
            found = frozenset(token for item in key[0] for token in self.grammar.items[item])
            if key[1] is not None:
                found |= frozenset(getattr(self, f"_{self.phase}_tokens")())
            cache[key] = found
        return found

    @property
    def finished(self) -> bool:
        """True once `<|end|>` is written."""
        return self.phase == "end"

    @property
    def cursor(self) -> Cursor:
        """Where the next token stands and what it decides."""
        in_bar = self.phase not in ("head", "bar", "end")
        what = {"head": "header", "bar": "bar_start", "note": "after_note", "note_done": "after_note"}.get(
            self.phase, self.phase
        )
        if self.stack and self.stack[0] not in NULLABLE:
            what = "text" if self.stack[0] in ("text", "escape") or self.stack[0][:4] == "tail" else "argument"
        beat = self.beat + (self.phase == "beat_start") if in_bar else 0
        note = self.notes - (self.phase in ("string", "note", "note_effect", "note_done")) if in_bar else 0
        return Cursor(self.bars, self.voice if in_bar else 0, beat, max(note, 0), what)

    def _head_key(self) -> tuple:
        return "head", self.rank

    def _head_tokens(self) -> list[int]:
        g, started = self.grammar, self.rank >= 0
        levels = [(g.piece[i].value, i) for i in g.of_kind["info"]]
        levels += [(INFO_COUNT, i) for i in g.of_kind["hide_dynamics"]]
        levels += [(INFO_COUNT + 1, i) for i in g.of_kind["voice_mode"]]
        levels += [(INFO_COUNT + 2, i) for i in g.of_kind["track"]]
        levels += [(INFO_COUNT + 3, i) for i in g.of_kind["staff"]]
        spelling = {index: piece for piece, index in g.id.items()}
        return [i for level, i in levels if level > self.rank and (spelling[i][0] == "Ġ") == started]

    def _staff_line_ends(self) -> tuple[bool, bool]:
        """Whether the text may end here, and whether another bar may come."""
        more = self.context.max_bars is None or self.bars < self.context.max_bars
        if self.staves > 1:  # every staff has as many bars as the first
            return self.bars == len(self.metres), self.bars < len(self.metres)
        return self.bars > 0, more

    def _bar_key(self) -> tuple:
        end, more = self._staff_line_ends()
        at_start = self.rank <= NEW_BAR
        return (
            "bar", self.rank, self.staves > 1, end and at_start, more, self.voice_mode, self.context.empty_bars,
            self.staves < self.context.max_staves, self._heads(),
        )  # fmt: skip

    def _bar_tokens(self) -> list[int]:
        g, key = self.grammar, self._bar_key()
        _, rank, later_staff, end, more, voices, empty, more_staves, _ = key
        tokens: list[int] = []
        if end:
            tokens.append(g.end)
            if more_staves:
                tokens += [i for s, i in g.id.items() if s[0] == "Ġ" and g.piece[i].kind in ("staff", "track")]
        if not more:
            return tokens
        for i in g.of_kind["staff_tag"]:
            level = STAFF_TAG_RANK[str(g.piece[i].value)]
            if rank < NEW_BAR and (level > rank or (level == rank and g.piece[i].value == "chord")):
                tokens.append(i)
        for i in (*g.of_kind["mark"], *g.of_kind["metre"]):
            name = self._mark_name(i)
            if later_staff and name in _TIMING:
                continue
            anywhere = name == "labelled_tempo" or (MARK_RANK[name] == rank and name in REPEATED_MARKS)
            if MARK_RANK[name] > rank or anywhere:
                tokens.append(i)
        if voices:
            tokens.append(g.id["Ġ\\voice"])
        if empty:
            tokens.append(g.id["Ġ|⏎"])
        return tokens + self._head_of_beat()

    def _mark_name(self, token: int) -> str:
        piece = self.grammar.piece[token]
        if piece.kind == "metre":
            return "ts"
        return str(piece.value[0] if isinstance(piece.value, tuple) else piece.value)

    def _heads(self) -> tuple:
        return self.strings, self.pitched

    def _head_of_beat(self) -> list[int]:
        """Tokens that start a beat."""
        g = self.grammar
        tokens = [g.id["Ġr"], g.id["Ġ()"]]
        fretted = self.strings > 0 and self.pitched is not True
        if fretted:
            tokens += g.of_kind["fret"]
        if self.pitched is not False:
            tokens += g.of_kind["pitch"]
        if self.pitched is not False or self.strings > 1:
            tokens.append(g.id["Ġ⟮"])
        return tokens

    def _closes(self) -> tuple[bool, bool, bool]:
        """Whether a beat, another voice, the bar line may come after the last beat."""
        more = self.room_left is None or self.room_left > 0
        if self.beat < 0:
            done = self.context.empty_bars
        elif self.graces:
            done = False  # a grace note leads to a note of the same bar
        elif self.free or self.full_rest:
            done = True
        elif self.short:
            denominator = Fraction(self.room_left or 0).denominator
            done = self.used > 0 and denominator & (denominator - 1) == 0
        else:
            done = self.room_left == 0
        last = not self.in_voices or self.voice > 0
        return more, done and self.in_voices and self.voice + 1 < MAX_VOICES, done and last

    def _beat_start_key(self) -> tuple:
        return "beat_start", self._closes(), self._heads()

    def _beat_start_tokens(self) -> list[int]:
        beat, voice, bar = self._closes()
        tokens = self._head_of_beat() if beat else []
        if voice:
            tokens.append(self.grammar.id["Ġ\\voice"])
        if bar:
            tokens.append(self.grammar.id["Ġ|⏎"])
        return tokens

    _after_beat_key = _beat_start_key
    _after_beat_tokens = _beat_start_tokens

    def _fret_key(self) -> tuple:
        return "fret", self._heads()

    def _fret_tokens(self) -> list[int]:
        """The first note of a chord."""
        tokens = list(self.grammar.of_kind["pitch"]) if self.pitched is not False else []
        if self.pitched is not True and self.strings > 1:
            tokens += self.grammar.of_kind["fret"]
        return tokens

    def _string_key(self) -> tuple:
        return "string", self.string, self.strings - (self.kind == "chord" and self.notes == 1)

    def _string_tokens(self) -> tuple[int, ...]:
        _, below, last = self._string_key()
        return self.grammar.of("string", range(below + 1, last + 1))

    def _room(self) -> Room:
        return Room(self.room_left, self.beat == 0 and not self.short, self.graces < MAX_GRACES_IN_A_ROW)

    def _is_rest(self) -> bool:
        return self.kind in ("rest", "empty_chord")

    def _duration_key(self) -> tuple:
        return "duration", durations(self._room(), self._is_rest())

    def _duration_tokens(self) -> tuple[int, ...]:
        return self.grammar.of("duration", self._duration_key()[1])

    def _after_head(self) -> tuple:
        """What follows a complete note: more of the chord, or the duration."""
        if self.kind == "chord":
            return "chord", self.pitched or self.string < self.strings, self.notes > 1, self.pitched
        return self._duration_key()

    def _after_head_tokens(self) -> list[int]:
        if self.kind != "chord":
            return list(self._duration_tokens())
        _, more, close, pitched = self._after_head()
        tokens = list(self.grammar.of_kind["pitch" if pitched else "fret"]) if more else []
        return [*tokens, self.grammar.id[")"]] if close else tokens

    def _note_key(self) -> tuple:
        return "note", self._after_head()

    def _note_tokens(self) -> list[int]:
        return self.grammar.effects(NOTE_RANK, -1, opens=True) + self._after_head_tokens()

    def _note_effect_key(self) -> tuple:
        return "note_effect", self.rank

    def _note_effect_tokens(self) -> list[int]:
        return [*self.grammar.effects(NOTE_RANK, self.rank, opens=False), self.grammar.id["}"]]

    def _note_done_key(self) -> tuple:
        return "note_done", self._after_head()

    _note_done_tokens = _after_head_tokens

    def _changes(self) -> Changes:
        return changes(self._room(), self.duration, self.dots, self.tuplet, self.stage, self._is_rest())

    def _change_tokens(self, opens: bool) -> list[int]:
        found, ids = self._changes(), self.grammar.effect_ids
        tokens = [ids[("d" * dots,), opens] for dots in found.dots]
        tokens += [ids[("tu", tuplet), opens] for tuplet in found.tuplets]
        if found.grace:
            tokens += [ids[value, opens] for value in (("gr",), ("gr", "ob"), ("gr", "b"))]
        return tokens

    def _beat_effects(self, above: int, opens: bool) -> list[int]:
        dead_slap = BEAT_RANK["ds"]
        tokens = self.grammar.effects(BEAT_RANK, above, opens) if self._changes().plain else []
        names = ((BEAT_RANK[str(self.grammar.piece[t].value[0])], t) for t in tokens)
        if self.kind == "rest":
            return [t for rank, t in names if rank != dead_slap]
        if self.kind == "empty_chord":  # it is one only by its dead slap
            return [t for rank, t in names if above >= dead_slap or rank <= dead_slap]
        return [t for rank, t in names if rank != dead_slap]

    def _after_duration_key(self) -> tuple:
        after = self._settled()._beat_start_key() if self._may_settle() else None
        return "after_duration", self._changes(), self.kind in ("empty_chord",), after

    def _may_settle(self) -> bool:
        return self._changes().plain and (self.kind != "empty_chord" or self.rank >= BEAT_RANK["ds"])

    def _after_duration_tokens(self) -> list[int]:
        tokens = self._change_tokens(opens=True) + self._beat_effects(-1, opens=True)
        return tokens + self._settled()._beat_start_tokens() if self._may_settle() else tokens

    def _beat_effect_key(self) -> tuple:
        return "beat_effect", self._changes(), self.kind == "empty_chord", self.rank

    def _beat_effect_tokens(self) -> list[int]:
        tokens = self._change_tokens(opens=False) + self._beat_effects(self.rank, opens=False)
        return [*tokens, self.grammar.id["}"]] if self._may_settle() else tokens

    def _end_key(self) -> tuple:
        return ("end",)

    def _end_tokens(self) -> tuple[int, ...]:
        return self.grammar.end, self.grammar.pad

    # --- copies -----------------------------------------------------------------------------------------------------

    def _copy(self: _C) -> _C:
        new = object.__new__(type(self))
        for name in _FIELDS:
            setattr(new, name, getattr(self, name))
        return new

    def _settle(self) -> None:
        """Counts a complete beat."""
        if self.grace:
            self.graces += 1
            return
        self.graces = 0
        length = beat_length(self.duration, self.dots, self.tuplet)
        self.used += length
        if self.room_left is None:
            return
        alone = self.beat == 0 and self.kind == "rest" and not self.dots and not self.tuplet and not self.short
        self.full_rest = alone and self.duration == 1
        self.room_left = max(self.room_left - length, Fraction(0))

    def _settled(self: _C) -> _C:
        new = self._copy()
        new._settle()
        return new


_FIELDS = tuple(f.name for f in fields(Choices))
