"""Words that lean to a side while a piece is written: louder, longer, higher, denser, more in leaps, or less so.

A plan says what each bar should be, and the layers play it with some freedom. Where a piece turned out to lie on the
other side of the median, the next one can be pushed: chances are multiplied by the exponential of what each word adds
to the attribute (exponential tilting).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..processing.bar_midi_vocabulary import (
    BAR_ID,
    EOS_ID,
    KIND_OF,
    KINDS,
    PLACE_OF,
    SECTIONS,
    SIGNATURE_TICKS,
    TICKS_PER_QUARTER,
    VOCAB_SIZE,
    Section,
)
from ..processing.music_attributes import LEAP_SEMITONES
from ..processing.music_wishes import SIDED
from ..processing.piano_roll import NUM_LOUDNESS, velocity_of_loudness

#: What one unit of a side adds to the logarithm of a chance: for each octave of a note's length, 8 of its velocity, 4
#: semitones of its pitch; taken away for each quarter that goes by until the next place, up to 4; and between a leap of
#: the top line and a step of it.
STRENGTHS = {"sustain": 0.4, "dynamics": 0.4, "register": 0.15, "density": 0.3, "leaps": 2.0}
_FARTHEST_QUARTERS = 4
_KIND = {kind: number for number, kind in enumerate(KINDS)}


def _words(kind: str) -> slice:
    section: Section = SECTIONS[kind]
    return slice(section.first, section.first + section.size)


def leaning(make: Callable[..., Any] | None, sides: torch.Tensor) -> Callable[..., Any]:
    """A grammar that also leans.

    Args:
        make: The grammar's own maker (`museformer_decoding.Grammar`); `None`: there is none.
        sides: `(S, 7)` of S pieces, in the order of `music_wishes.SIDED`: how far, and to which side; 0: not at all.
            Tempo and mode are the plan's, and passed over.

    Returns:
        A maker for as many texts as there are pieces, or for so many bars of each piece one after the other.

    Raises:
        ValueError: `sides` is of another shape, or not finite.
    """
    if sides.ndim != 2 or sides.shape[1] != len(SIDED) or not bool(torch.isfinite(sides).all()):
        raise ValueError(f"sides that words lean to have the shape (S, {len(SIDED)}), got {tuple(sides.shape)}")

    def made(batch_size: int, *args: Any, device: Any = None, **options: Any) -> Leaning:
        inner = None if make is None else make(batch_size, *args, device=device, **options)
        return Leaning(inner, sides.to(device).float().repeat_interleave(batch_size // len(sides), 0))

    return made


class Leaning:
    """Follows texts and leans what comes next, in front of a grammar's `constrain`; see `leaning`.

    Args:
        inner: The grammar, or `None`.
        sides: `(B, 7)` of each text.
    """

    def __init__(self, inner: Any, sides: torch.Tensor) -> None:
        self._inner = inner
        device = sides.device
        each = {name: sides[:, SIDED.index(name), None] * weight for name, weight in STRENGTHS.items()}
        self._leaps, self._density = each["leaps"], each["density"]
        place = torch.from_numpy(PLACE_OF).to(device)
        self._kind_of, self._place_of = torch.from_numpy(KIND_OF).to(device), place
        self._lengths = torch.from_numpy(SIGNATURE_TICKS).to(device)
        velocity = torch.as_tensor(velocity_of_loudness(torch.arange(NUM_LOUDNESS).numpy()), device=device).float()
        octaves = torch.log2((place[_words("Duration")] + 1) / TICKS_PER_QUARTER).clamp(-3, 3)
        self._same = torch.zeros(len(sides), VOCAB_SIZE, device=device)  # what does not depend on the text so far
        self._same[:, _words("Duration")] = each["sustain"] * octaves
        self._same[:, _words("Velocity")] = each["dynamics"] * (velocity - velocity.mean()) / 8
        self._height = each["register"] * (place[_words("Pitch")] - 60) / 4  # (B, 128)
        self._ticks = place[_words("Position")]
        nothing = torch.zeros(len(sides), dtype=torch.long, device=device)
        self.place, self.length = nothing + 0, nothing + 0  # in the bar, and of the bar, ticks
        self.pitch = nothing - 1  # of the last note that the next one must lie above
        self.top, self.before = nothing - 1, nothing - 1  # highest pitch here, and of the place before

    def advance(self, ids: torch.Tensor) -> None:
        """Takes in the next word of each text, `(B,)`."""
        if self._inner is not None:
            self._inner.advance(ids)
        kind, place = self._kind_of[ids], self._place_of[ids]
        at = {name: kind == _KIND[name] for name in ("Bar", "TimeSig", "Position", "Program", "Pitch")}
        new = at["Bar"] | at["Position"]
        self.place = torch.where(at["Position"], place, torch.where(at["Bar"], 0, self.place))
        self.length = torch.where(at["TimeSig"], self._lengths[torch.where(at["TimeSig"], place, 0)], self.length)
        self.before = torch.where(new & (self.top >= 0), self.top, self.before)
        self.top = torch.where(new, -1, self.top)
        self.top = torch.where(at["Pitch"], torch.maximum(self.top, place), self.top)
        self.pitch = torch.where(at["Pitch"], place, torch.where(new | at["Program"], -1, self.pitch))

    def constrain(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits `(B, V)` that lean, and then those of what the grammar allows."""
        logits = logits.float() + self._same
        pitches = torch.arange(SECTIONS["Pitch"].size, device=logits.device)
        up = pitches - self.before[:, None]
        leap = (up > LEAP_SEMITONES).float() - (up.abs() <= LEAP_SEMITONES).float()  # far below is another voice's
        lean = self._height + 0.5 * self._leaps * leap * (self.before >= 0)[:, None]
        # Only which pitch comes is leant, not whether one does: a chord is no denser for it.
        may = logits[:, _words("Pitch")].masked_fill(pitches <= self.pitch[:, None], -1e9)
        lean = lean - ((may + lean).logsumexp(1) - may.logsumexp(1))[:, None]
        logits[:, _words("Pitch")] += lean
        most = _FARTHEST_QUARTERS * TICKS_PER_QUARTER
        wait = (self._ticks - self.place[:, None]).clamp(0, most) / TICKS_PER_QUARTER
        logits[:, _words("Position")] -= self._density * wait
        rest = (self.length - self.place).clamp(0, most)[:, None] / TICKS_PER_QUARTER
        logits[:, [BAR_ID, EOS_ID]] -= self._density * rest
        return logits if self._inner is None else self._inner.constrain(logits)

    def select(self, rows: torch.Tensor) -> None:
        """Keeps these texts only, in this order."""
        if self._inner is not None:
            self._inner.select(rows)
        names = ("place", "length", "pitch", "top", "before", "_same", "_height", "_leaps", "_density")
        for name in names:
            setattr(self, name, getattr(self, name)[rows])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or self.__dict__.get("_inner") is None:
            raise AttributeError(name)
        return getattr(self._inner, name)


__all__ = ["STRENGTHS", "Leaning", "leaning"]
