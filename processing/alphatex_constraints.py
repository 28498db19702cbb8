r"""Decoding that can only write canonical alphaTex whose bars close.

`AlphaTexState` follows a text token by token and says which tokens may come next; `GrammarLogitsProcessor` puts it
into `generate`. What it allows is parsed by `read_alphatex` and by alphaTab, every voice fills its bar exactly, strings
of a chord ascend, and a text ends only after a complete bar. A bar may be short only as `\ac`. Left out, because few
pictures show them: drum staves, `\staff {score N}`, bars that a repeat cuts in two, grace notes at the end of a bar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from .alphatex_choices import Choices, Cursor, DecodingContext
from .alphatex_fitting import DOTTED, GRACED, IN_TUPLET, NO_CHANGE, changes, durations, longest
from .alphatex_pieces import SPECIAL_TOKENS, Piece
from .alphatex_token_grammar import (
    BEAT_RANK,
    INFO_COUNT,
    MARK_ITEMS,
    MARK_RANK,
    NEW_BAR,
    NEW_STAFF,
    NOTE_RANK,
    STAFF_TAG_ITEMS,
    STAFF_TAG_RANK,
    TokenGrammar,
    effect_items,
)

# While this many tokens are left beyond what closing the text takes, the model is free.
SLACK_TOKENS = 64


@dataclass(slots=True, eq=False)
class AlphaTexState(Choices):
    """A place in a text, and what may come there. Never changed: `advance` gives a new state.

    Args:
        grammar: Tables of the tokenizer's vocabulary.
        context: What is known beforehand.
    """

    def advance(self, token: int) -> AlphaTexState:
        """The state after one more token.

        Raises:
            ValueError: When the token may not come here.
        """
        if token not in self.allowed():
            spelling = next((s for s, i in self.grammar.id.items() if i == token), "?")
            raise ValueError(f"token {token} ({spelling}) may not come at {self.cursor}")
        new = self._copy()
        piece = self.grammar.piece[token]
        while new.stack:
            item, *rest = new.stack
            table = self.grammar.items[item]
            if token in table:
                new.stack = (*table[token], *rest)
                new._take_argument(item, piece)
                return new
            new.stack = tuple(rest)
        getattr(new, f"_{new.phase}_take")(piece)
        return new

    def closing_token(self) -> int:
        """The next token on a short way to the end: rests fill what is open."""
        allowed = self.allowed()
        for item in self.stack:
            if self.grammar.cost[item]:
                return self.grammar.shortest(item)
        ids = self.grammar.id
        plain = (self.grammar.end, ids["Ġ|⏎"], ids["}"], ids[")"], ids["Ġr"], ids["Ġ\\voice"])
        for token in plain[:2] if self.phase == "duration" else plain:
            if token in allowed:
                return token
        if self.phase in ("head", "bar"):
            return next(ids[p] for p in ("Ġ\\staffĠ{tabs}", "\\staffĠ{tabs}") if ids[p] in allowed)
        if self.phase in ("after_duration", "beat_effect"):
            return self._closing_effect(allowed)
        lengths = [t for t in allowed if self.grammar.piece[t].kind == "duration"]
        if lengths:
            return self._closing_duration(lengths)
        return min(t for t in allowed if self.grammar.piece[t].kind in ("fret", "string", "pitch"))

    def closing_length(self) -> int:
        """Tokens that `closing_token` takes to the end."""
        state, count = self, 0
        while not state.finished:
            state, count = state.advance(state.closing_token()), count + 1
        return count

    def _closing_duration(self, lengths: list[int]) -> int:
        room, rest = self._room(), self._is_rest()
        if any(changes(room, d, 0, None, NO_CHANGE, rest).plain for d in durations(room, rest)):
            wanted = longest(room, rest)[0]
        else:
            wanted = longest(room._replace(whole_rest=False), rest)[0]
        return next((t for t in lengths if self.grammar.piece[t].value == wanted), min(lengths))

    def _closing_effect(self, allowed: frozenset[int]) -> int:
        found, opens, ids = self._changes(), self.phase == "after_duration", self.grammar.effect_ids
        if found.plain:  # only a dead slap is left to say
            return ids[("ds",), opens]
        if found.tuplets:
            return ids[("tu", found.tuplets[0]), opens]
        if found.dots:
            return ids[("d" * found.dots[0],), opens]
        return ids[("gr",), opens]

    # --- moves ------------------------------------------------------------------------------------------------------

    def _take_argument(self, item: str, piece: Piece) -> None:
        if item == "metre_unit":
            self.metre = Fraction(self.metre_count, piece.value)
        elif item.startswith("pitch") and piece.kind == "pitch":
            self.strings += 1  # of a \tuning

    def _head_take(self, piece: Piece) -> None:
        if piece.kind == "staff":
            self.phase, self.rank, self.stack = "bar", NEW_STAFF, ("line",)
            self.staves, self.bars, self.strings, self.pitched = self.staves + 1, 0, self.context.strings, None
            return
        self.phase = "head"
        later = {"hide_dynamics": 0, "voice_mode": 1, "track": 2}
        self.rank = piece.value if piece.kind == "info" else INFO_COUNT + later[piece.kind]
        self.stack = {"info": ("quote", "line"), "track": ("names", "line")}.get(piece.kind, ("line",))
        self.voice_mode = self.voice_mode or piece.kind == "voice_mode"

    def _bar_take(self, piece: Piece) -> None:
        kind = piece.kind
        if kind == "special":
            self.phase = "end"
        elif kind in ("staff", "track"):
            self._head_take(piece)
        elif kind == "staff_tag":
            self.rank, self.stack = STAFF_TAG_RANK[piece.value], STAFF_TAG_ITEMS[piece.value]
            if piece.value in ("tuning", "no_tuning"):
                self.strings = 0
        elif kind == "metre":
            self.rank, self.stack, self.metre_count = MARK_RANK["ts"], ("metre_unit",), piece.value
        elif kind == "mark":
            name = piece.value[0] if isinstance(piece.value, tuple) else piece.value
            # Tempo changes inside the bar come after all other marks.
            self.rank, self.stack = max(self.rank, MARK_RANK[name]), MARK_ITEMS.get(name, ())
            self.short, self.free = self.short or name == "ac", self.free or name == "ft"
        else:
            self.in_voices = kind == "voice"
            self.voice = 0
            self._start_voice(self.metre if self.staves == 1 else self.metres[self.bars])
            if kind == "bar_line":
                self._close_bar()
            elif kind != "voice":
                self._take_beat(piece)

    def _start_voice(self, length: Fraction | None) -> None:
        self.phase, self.beat, self.used, self.graces, self.full_rest = "beat_start", -1, Fraction(0), 0, False
        self.room_left = None if self.free or length is None or not self.context.measured else length
        self.free = self.room_left is None

    def _close_bar(self) -> None:
        if self.staves == 1:
            length = None if self.free else self.used if self.short and self.used else self.metre
            self.metres = (*self.metres, length)
        self.bars, self.phase, self.rank, self.beat, self.notes = self.bars + 1, "bar", NEW_BAR, -1, 0
        self.short = self.free = self.in_voices = False
        self.voice = 0

    def _beat_start_take(self, piece: Piece) -> None:
        if piece.kind == "voice":
            length = None
            if not self.free:  # the first voice of a pick-up says how long the others are
                length = self.used if self.short and self.used else self.used + (self.room_left or 0)
            self.voice, self.short = self.voice + 1, False
            self._start_voice(length)
        elif piece.kind == "bar_line":
            self._close_bar()
        else:
            self._take_beat(piece)

    _after_beat_take = _beat_start_take

    def _take_beat(self, piece: Piece) -> None:
        self.beat, self.string, self.notes = self.beat + 1, 0, 0
        self.kind = {"fret": "note", "pitch": "note", "bracket": "chord"}.get(piece.kind, piece.kind)
        self.phase = {"note": "fret", "chord": "fret"}.get(self.kind, "duration")
        if self.kind == "note":
            self._fret_take(piece)

    def _fret_take(self, piece: Piece) -> None:
        self.notes += 1
        self.pitched = piece.kind == "pitch"
        self.phase = "note" if self.pitched else "string"

    def _string_take(self, piece: Piece) -> None:
        self.string, self.phase = piece.value, "note"

    def _note_take(self, piece: Piece) -> None:
        if piece.kind == "effect":
            self._note_effect_take(piece)
        elif piece.kind == "duration":
            self._duration_take(piece)
        elif piece.kind == "byte":
            self.phase = "duration"
        else:
            self._fret_take(piece)

    _note_done_take = _note_take

    def _note_effect_take(self, piece: Piece) -> None:
        if piece.kind == "byte":
            self.phase = "note_done"
        else:
            self.phase, self.rank = "note_effect", NOTE_RANK[piece.value[0]]
            self.stack = effect_items(piece.value)

    def _duration_take(self, piece: Piece) -> None:
        self.duration, self.phase, self.rank = piece.value, "after_duration", -1
        self.dots, self.tuplet, self.grace, self.stage = 0, None, False, NO_CHANGE

    def _after_duration_take(self, piece: Piece) -> None:
        if piece.kind == "effect":
            self._beat_effect_take(piece)
        else:
            self._settle()
            self._beat_start_take(piece)

    def _beat_effect_take(self, piece: Piece) -> None:
        if piece.kind == "byte":
            self._settle()
            self.phase = "after_beat"
            return
        name = piece.value[0]
        self.phase, self.rank = "beat_effect", BEAT_RANK[name]
        if name in ("d", "dd"):
            self.dots, self.stage = len(name), DOTTED
        elif name == "tu":
            self.tuplet, self.stage = piece.value[1], IN_TUPLET
        else:
            self.grace = self.grace or name == "gr"
            self.stage = GRACED  # what comes later no longer changes the length
            self.stack = effect_items(piece.value)


Evidence = Callable[[AlphaTexState], "torch.Tensor | None"]


class GrammarLogitsProcessor(LogitsProcessor):
    """Lets `generate` write only what the grammar allows; batches and beams are fine.

    The state of a row is found from its tokens alone, so beams may be reordered at will. The text starts after the last
    special token of the prompt (`<|assistant|>`, `<|bos|>`).

    Args:
        tokenizer: An `AlphaTexTokenizer`, or its `TokenGrammar`.
        context: What is known of the text; one for all rows, or one a row. Beams of a row share its context.
        max_length: Length, prompt included, by which the text is closed; `None` to let it run.
        evidence: Gives log-probabilities `(V,)` to add before the rules apply, or `None`, for a state.
        enabled: False leaves all scores as they are.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | TokenGrammar,
        context: DecodingContext | Sequence[DecodingContext] | None = None,
        max_length: int | None = None,
        evidence: Evidence | None = None,
        enabled: bool = True,
    ) -> None:
        self.grammar = tokenizer if isinstance(tokenizer, TokenGrammar) else TokenGrammar(tokenizer.get_vocab())
        self.context = context or DecodingContext()
        self.max_length, self.evidence, self.enabled = max_length, evidence, enabled
        starts = [self.grammar.id[t] for t in SPECIAL_TOKENS if t not in ("<|end|>", "<|pad|>")]
        self._starts = torch.tensor(starts)
        self._known: dict[tuple, AlphaTexState | None] = {}
        self._masks: dict[tuple, torch.Tensor] = {}

    def _context_of(self, row: int, rows: int) -> DecodingContext:
        if isinstance(self.context, DecodingContext):
            return self.context
        if rows % len(self.context):
            raise ValueError(f"{rows} rows do not divide into {len(self.context)} contexts")
        return self.context[row // (rows // len(self.context))]

    def states(self, input_ids: torch.Tensor) -> list[AlphaTexState | None]:
        """The state of each row of `input_ids` `(B, T)`; `None` for a row that has left the grammar."""
        rows, length = input_ids.shape
        special = torch.isin(input_ids, self._starts.to(input_ids.device))
        last = length - special.flip(1).int().argmax(1)
        starts = torch.where(special.any(1), last, torch.zeros_like(last)).tolist()
        known: dict[tuple, AlphaTexState | None] = {}
        found = []
        for row, (tokens, start) in enumerate(zip(input_ids.tolist(), starts, strict=True)):
            context = self._context_of(row, rows)
            written = tuple(tokens[start:])
            key = (context, written)
            if key not in known:
                known[key] = self._state(context, written)
            found.append(known[key])
        self._known = known
        return found

    def _state(self, context: DecodingContext, written: tuple[int, ...]) -> AlphaTexState | None:
        before = (context, written[:-1])
        if written and before in self._known:
            state, rest = self._known[before], written[-1:]
        else:
            state, rest = AlphaTexState(self.grammar, context), written
        for token in rest:
            if state is None or token not in state.allowed():
                return None  # a beam that scored minus infinity, or a prefix the caller forced
            if not state.finished:  # after the end there only is padding
                state = state.advance(token)
        return state

    def _mask(self, state: AlphaTexState | None, left: int | None, width: int) -> torch.Tensor:
        """Forbidden tokens `(V,)`, bool."""
        forced = None
        if state is None:
            key: tuple = ("lost",)
        elif left is not None and left < 6 * SLACK_TOKENS and state.closing_length() + SLACK_TOKENS >= left:
            forced = state.closing_token()
            key = ("forced", forced)
        else:
            key = state.key()
        key = (key, width)
        if key not in self._masks:
            allowed = {self.grammar.end, self.grammar.pad} if state is None else state.allowed()
            mask = torch.ones(width, dtype=torch.bool)
            mask[[forced] if forced is not None else list(allowed)] = False
            self._masks[key] = mask
        return self._masks[key]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(B, V)` with minus infinity for what may not come."""
        if not self.enabled:
            return scores
        states = self.states(input_ids)
        left = None if self.max_length is None else self.max_length - input_ids.shape[1]
        masks = torch.stack([self._mask(state, left, scores.shape[1]) for state in states]).to(scores.device)
        if self.evidence is not None:
            scores = scores.clone()
            for row, state in enumerate(states):
                weights = None if state is None else self.evidence(state)
                if weights is not None:
                    scores[row, : len(weights)] += weights.to(scores)
        return scores.masked_fill(masks, -torch.inf)


__all__ = ["AlphaTexState", "Cursor", "DecodingContext", "GrammarLogitsProcessor", "TokenGrammar"]
