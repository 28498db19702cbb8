"""Lets the dense heads speak while the language model writes.

The dense reading is written out as a draft. Each of its tokens stands at a place of the grammar (bar, voice, beat, what
is decided there); when the writer comes to the same place, the draft's token is favoured by as much as the heads were
sure of it. Places are found by beat, not by position in the text, so the two may differ in one beat and meet again.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any

from .alphatex_constraints import AlphaTexState, DecodingContext, TokenGrammar
from .alphatex_grammar import write_alphatex
from .dense_reading import DenseReading

if TYPE_CHECKING:
    import torch

MOST, LEAST = 9.0, 0.5  # bounds of the log odds, natural logarithm
NOTE_PLACES = frozenset({"beat_start", "fret", "string", "after_note", "note_effect"})


@dataclass(frozen=True)
class ReadingContext(DecodingContext):
    """What is known before a picture is read, and which picture it is."""

    picture: int = 0


def draft_text(reading: DenseReading) -> str:
    """What the dense heads alone would write."""
    return write_alphatex(reading.score)


def place(state: AlphaTexState) -> Hashable:
    """Where a state stands; equal for equal decisions."""
    return state.cursor, state.key(), state.stack  # the stack tells the arguments of one effect apart


class DraftEvidence:
    """Weights of tokens from dense readings, for `GrammarLogitsProcessor(evidence=...)`.

    Args:
        grammar: Of the tokenizer.
        readings: One for each picture; a state's `ReadingContext.picture` tells which one counts.
        contexts: The contexts of the pictures.
        tokenizer: Encodes the drafts.
        weight: Factor on the log odds.
    """

    def __init__(
        self,
        grammar: TokenGrammar,
        readings: list[DenseReading],
        contexts: list[ReadingContext],
        tokenizer: Any,
        weight: float = 1.0,
    ) -> None:
        self.weight, self.size = weight, len(grammar.id)
        self.drafts = [tokenizer.encode(draft_text(r), add_special_tokens=False) for r in readings]
        self.tables = [
            self._table(grammar, reading, context, draft)
            for reading, context, draft in zip(readings, contexts, self.drafts, strict=True)
        ]

    def _table(
        self, grammar: TokenGrammar, reading: DenseReading, context: ReadingContext, draft: list[int]
    ) -> dict[Hashable, tuple[int, float]]:
        state = AlphaTexState(grammar, context)
        table: dict[Hashable, tuple[int, float]] = {}
        for token in [*draft, grammar.end]:
            if token not in state.allowed():
                break  # the draft says what the grammar forbids: from here on the writer is on its own
            table[place(state)] = (token, self._log_odds(reading, state))
            state = state.advance(token)
        return table

    def _log_odds(self, reading: DenseReading, state: AlphaTexState) -> float:
        bar, voice, beat, _, field = state.cursor
        found = reading.beats.get((bar, voice, beat)) or reading.beats.get((bar, voice, beat - 1))
        if found is None:
            chance = 0.99
        elif field in NOTE_PLACES:
            chances = [c for name, c in found.confidence.items() if name.startswith("string")]
            chance = min([found.confidence.get("beats", 1.0), *chances])
        else:
            names = ("durations", "dots", "tuplets", "graces", "beat_effects")
            chance = min(found.confidence.get(name, 1.0) for name in names)
        chance = min(max(chance, 1e-6), 1 - 1e-6)
        return min(max(log(chance / (1 - chance)), LEAST), MOST)

    def __call__(self, state: AlphaTexState) -> torch.Tensor | None:
        """Log weights `(V,)` for a state, or `None` where the draft has nothing to say."""
        import torch

        found = self.tables[state.context.picture].get(place(state)) if hasattr(state.context, "picture") else None
        if found is None:
            return None
        weights = torch.zeros(self.size)
        weights[found[0]] = self.weight * found[1]
        return weights


__all__ = ["DraftEvidence", "ReadingContext", "draft_text", "place"]
