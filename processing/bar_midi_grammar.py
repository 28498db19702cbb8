"""What may follow what: a grammar whose every text is the tokens of a MIDI file, for decoding.

Whatever `tokenization_bar_midi.encode` writes keeps to it, and `decode` reads whatever keeps to it strictly. All of it
is tensors, `(B, V)` at a time, so that it costs a decoding step little.
"""

from __future__ import annotations

import torch
from transformers import LogitsProcessor

from .bar_midi_vocabulary import (
    BAR_ID,
    DRUM_PITCHES,
    EOS_ID,
    KIND_OF,
    KINDS,
    PAD_ID,
    PLACE_OF,
    SIGNATURE_TICKS,
    VOCAB_SIZE,
)

_KIND = {kind: number for number, kind in enumerate(KINDS)}
#: kind -> kinds that may follow it; ranges of values are checked besides.
_NEXT = {
    "PAD": ("Bar", "PAD"),
    "EOS": ("PAD",),
    "Bar": ("TimeSig",),
    "TimeSig": ("Tempo",),
    "Tempo": ("Position", "Program", "Pitch", "PitchDrum", "Bar", "EOS"),
    "Position": ("Tempo", "Program", "Pitch", "PitchDrum"),
    "Program": ("Pitch", "PitchDrum"),
    "Pitch": ("Velocity",),
    "PitchDrum": ("Velocity",),
    "Velocity": ("Duration",),
    "Duration": ("Position", "Program", "Pitch", "PitchDrum", "Bar", "EOS"),
}
_NONE = -2  # no program named in this bar yet
_LAST_RANK = 128  # drums come last


class BarGrammar:
    """Follows texts of bars and says which words may come next.

    Args:
        batch_size: Texts, `B`.
        num_bars: Bars that each text must have: `EOS` only after so many, `Bar` never after. `None`: any number.
        max_bar_tokens: Words after which a bar must end.
        device: Where the masks are wanted.
    """

    def __init__(
        self,
        batch_size: int,
        num_bars: int | None = None,
        max_bar_tokens: int = 512,
        device: torch.device | str | None = None,
    ) -> None:
        self.num_bars, self.max_bar_tokens = num_bars, max_bar_tokens
        table = torch.zeros(len(KINDS), len(KINDS), dtype=torch.bool)
        for kind, following in _NEXT.items():
            table[_KIND[kind], [_KIND[name] for name in following]] = True
        kind_of = torch.from_numpy(KIND_OF)
        place_of = torch.from_numpy(PLACE_OF)
        self._follows = table[:, kind_of].to(device)  # (K, V)
        self._kind_of, self._place_of = kind_of.to(device), place_of.to(device)
        self._lengths = torch.from_numpy(SIGNATURE_TICKS).to(device)
        is_kind = {name: kind_of == _KIND[name] for name in ("Position", "Program", "Pitch", "PitchDrum")}
        never = torch.full((VOCAB_SIZE,), 1 << 20)
        # For each word the number that must be larger than the state's; enormous where it is not asked.
        self._position = torch.where(is_kind["Position"], place_of, never).to(device)
        pitch = place_of + torch.where(is_kind["PitchDrum"], DRUM_PITCHES[0], 0)
        self._pitch = torch.where(is_kind["Pitch"] | is_kind["PitchDrum"], pitch, never).to(device)
        rank = torch.where(place_of == 0, _LAST_RANK, place_of - 1)  # of a program
        self._rank = torch.where(is_kind["Program"], rank, never).to(device)
        self._own_rank = torch.where(is_kind["Program"], rank, -5).to(device)
        self._is_drum, self._is_pitch = is_kind["PitchDrum"].to(device), is_kind["Pitch"].to(device)
        self._is_position = is_kind["Position"].to(device)
        zeros = torch.zeros(batch_size, dtype=torch.long, device=device)
        self.kind = zeros + _KIND["PAD"]  # of the last word
        self.position = zeros - 1  # in the bar
        self.length = zeros + 0  # of the bar, ticks
        self.program = zeros + _NONE  # rank of the program in force
        self.rank = zeros - 1  # of the last note at this position
        self.pitch = zeros - 1  # of that note
        self.count = zeros + 0  # words in the bar
        self.bars = zeros + 0  # bars begun

    def advance(self, ids: torch.Tensor) -> None:
        """Takes in the next word of each text, `(B,)`."""
        kind, place = self._kind_of[ids], self._place_of[ids]
        at = {name: kind == _KIND[name] for name in ("Bar", "TimeSig", "Position", "Program", "Pitch", "PitchDrum")}
        new, group = at["Bar"], at["Position"] | at["Program"]
        note = at["Pitch"] | at["PitchDrum"]
        self.kind = kind
        self.position = torch.where(new, -1, torch.where(at["Position"], place, self.position))
        self.length = torch.where(at["TimeSig"], self._lengths[torch.where(at["TimeSig"], place, 0)], self.length)
        named = torch.where(place == 0, _LAST_RANK, place - 1)
        self.program = torch.where(new, _NONE, torch.where(at["Program"], named, self.program))
        pitch = place + torch.where(at["PitchDrum"], DRUM_PITCHES[0], 0)
        self.pitch = torch.where(new | group, -1, torch.where(note, pitch, self.pitch))
        # A new position forgets the order of programs, a program within it does not.
        self.rank = torch.where(new | at["Position"], -1, torch.where(note, self.program, self.rank))
        self.count = torch.where(new, 1, self.count + 1)
        self.bars = self.bars + new.long()

    def allowed(self) -> torch.Tensor:
        """Bool `(B, V)`: words that may come next; one at least for each text."""
        state = {name: getattr(self, name)[:, None] for name in ("position", "length", "program", "rank", "pitch")}
        mask = self._follows[self.kind]
        mask = mask & (self._position > state["position"])
        mask &= ~self._is_position | (self._position < state["length"])
        mask &= self._pitch > state["pitch"]
        mask &= (self._rank > state["rank"]) & (self._own_rank != state["program"])
        drums = state["program"] == _LAST_RANK
        known = state["program"] != _NONE
        mask &= ~self._is_pitch | (known & ~drums)
        mask &= ~self._is_drum | drums
        # Right after the header there is no position yet that a note could stand at.
        header = (self.kind == _KIND["Tempo"]) & (self.position < 0)
        mask &= ~header[:, None] | ~(self._is_pitch | self._is_drum | (self._own_rank != -5))
        return self._ends(mask)

    def constrain(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits `(B, V)` of what may come next, minus infinity elsewhere.

        Where only one of `Bar` and `EOS` may come, it gets the other's chances too: both mean that the bar is over.
        """
        allowed = self.allowed()
        if self.num_bars is not None:
            over = torch.logaddexp(logits[:, BAR_ID], logits[:, EOS_ID])
            logits = logits.clone()
            logits[:, BAR_ID] = logits[:, EOS_ID] = over
        return logits.masked_fill(~allowed, float("-inf"))

    def select(self, rows: torch.Tensor) -> None:
        """Keeps these texts only, in this order."""
        for name in ("kind", "position", "length", "program", "rank", "pitch", "count", "bars"):
            setattr(self, name, getattr(self, name)[rows])

    def _ends(self, mask: torch.Tensor) -> torch.Tensor:
        """Which texts may, or must, end their bar or themselves."""
        started = self.bars > 0
        mask[:, EOS_ID] &= started
        if self.num_bars is not None:
            full = self.bars >= self.num_bars
            mask[:, BAR_ID] &= ~full
            mask[:, EOS_ID] &= full
        ending = mask[:, [BAR_ID, EOS_ID]]
        must = (self.count >= self.max_bar_tokens) & ending.any(1)
        mask &= ~must[:, None]
        mask[:, [BAR_ID, EOS_ID]] |= ending & must[:, None]
        return mask

    @classmethod
    def after(cls, input_ids: torch.Tensor, num_bars: int | None = None, max_bar_tokens: int = 512) -> BarGrammar:
        """The grammar after whole texts `(B, T)`."""
        grammar = cls(input_ids.shape[0], num_bars, max_bar_tokens, input_ids.device)
        first = int((input_ids == BAR_ID).any(0).long().argmax()) if input_ids.numel() else 0
        for column in range(first, input_ids.shape[1]):
            grammar.advance(input_ids[:, column])
        return grammar


class BarGrammarLogitsProcessor(LogitsProcessor):
    """Lets `generate` write only what the grammar allows; texts that broke it before are left to themselves.

    Args:
        num_bars: As in `BarGrammar`.
        max_bar_tokens: As in `BarGrammar`.
    """

    def __init__(self, num_bars: int | None = None, max_bar_tokens: int = 512) -> None:
        self.num_bars, self.max_bar_tokens = num_bars, max_bar_tokens
        self._seen: torch.Tensor | None = None
        self._grammar: BarGrammar | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Minus infinity for the words that may not follow; `scores` `(B, V)`."""
        constrained = self._follow(input_ids).constrain(scores)
        done = (input_ids == EOS_ID).any(1)
        constrained[done] = float("-inf")
        constrained[done, PAD_ID] = 0.0
        lost = ~constrained.isfinite().any(1)
        return torch.where(lost[:, None], scores, constrained)

    def _follow(self, input_ids: torch.Tensor) -> BarGrammar:
        """The grammar after these texts: one step on from the last call where they are the same ones, else anew.

        Beams change places between calls, so the whole past is compared.
        """
        seen = self._seen
        goes_on = seen is not None and seen.shape == input_ids[:, :-1].shape and torch.equal(seen, input_ids[:, :-1])
        if goes_on and self._grammar is not None:
            self._grammar.advance(input_ids[:, -1])
        else:
            self._grammar = BarGrammar.after(input_ids, self.num_bars, self.max_bar_tokens)
        self._seen = input_ids.clone()
        return self._grammar


__all__ = ["BarGrammar", "BarGrammarLogitsProcessor"]
