"""What a plan measures, taken at its word: chances of tempos, metres and pitch classes while a piece is written."""

from __future__ import annotations

import torch

from ..processing.bar_midi_vocabulary import PLACE_OF, SECTIONS, VOCAB_SIZE
from .museformer_measures import CENTRES, MEASURES, SPREADS, word_values

#: A tempo or a metre is as likely as a normal distribution about the plan's says, with this deviation, in spreads of
#: `museformer_measures`: 0.1 are 0.04 octaves, 3 % of a tempo.
DEVIATION = 0.1
#: Part of a pitch class that the plan says is never played; keeps its logarithm from being endless.
FLOOR = 0.01


def guide_of(plan: torch.Tensor, guidance: float) -> torch.Tensor:
    """What is added to the logits of each piece, float32 `(S, V)`.

    The layers hear of a plan bar by bar and through noise. A whole piece has one tempo and mostly one key, so the mean
    over its bars says these far better than any bar: chances are multiplied by it, as in a product of experts.

    Args:
        plan: `(S, N, Z)` summaries whose first numbers are measured.
        guidance: Power of the plan's chances for pitch classes; tempo and metre are weighed fully where it is above 0.
    """
    out = torch.zeros(len(plan), VOCAB_SIZE, device=plan.device)
    if not guidance:
        return out
    size = len(MEASURES)
    mean = plan[..., :size].float().mean(1)  # (S, M), in spreads
    for name, kind in (("tempo", "Tempo"), ("length", "TimeSig")):
        section, number = SECTIONS[kind], MEASURES.index(name)
        words = slice(section.first, section.first + section.size)
        value = torch.from_numpy(word_values()[words]).to(out)  # (W,)
        told = (value - CENTRES[number]) / SPREADS[number]
        out[:, words] = -0.5 * ((told - mean[:, number, None]) / DEVIATION) ** 2
    first = MEASURES.index("pitch_class_0")
    raw = plan[..., first : first + 12].float() * SPREADS[first] + CENTRES[first]
    shares = raw.mean(1).clamp(min=0) + FLOOR  # (S, 12)
    shares = shares / shares.sum(1, keepdim=True)
    pitch = SECTIONS["Pitch"]
    words = slice(pitch.first, pitch.first + pitch.size)
    classes = torch.from_numpy(PLACE_OF[words] % 12).to(plan.device)
    out[:, words] = guidance * (shares * 12).log()[:, classes]
    return out


__all__ = ["DEVIATION", "FLOOR", "guide_of"]
