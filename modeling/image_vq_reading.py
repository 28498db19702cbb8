"""A small head that has to read the music off the codes, so that the codes say it.

A loss of pixels alone is content with a grey box where a digit stands: digits are a few per cent of the ink. What the
head needs, the codes must hold, and what the codes hold, the decoder can draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

FRET_CLASSES = 28  # nothing, 0 … 24, dead, end of a tie
BEAT_CLASSES = 43  # nothing; 7 note values with 0 … 2 dots; 7 rests with 0 … 2 dots
STRING_ROWS = 10  # slots of 8 px from the top tab line down, as many as lie in every picture
NOTHING_WEIGHT, SIGN_WEIGHT = 0.1, 5.0
#: Signs by the place that they belong to, as `dense_labels.build_label_space` names them.
NOTE_SIGNS, BEAT_SIGNS, BAR_SIGNS = ("note_effects",), ("beat_effects", "tuplets"), ("bar_starts", "bar_ends")


def count_signs(labels: Mapping[str, Sequence[str]] | None, names: Sequence[str]) -> int:
    """How many signs of these kinds there are."""
    return sum(len(labels[name]) for name in names) if labels else 0


class CodeReader(nn.Module):
    """Frets and signs of notes by slots of 8 × 8 px, beats and their signs by slots of 8 px, signs of bars by picture.

    Args:
        inputs: Numbers in a code's value.
        patch_height, patch_width: Pixels behind a code.
        labels: Names of signs by kind; `None`: only frets and note values are read.
        hidden: Channels in between.
    """

    def __init__(
        self,
        inputs: int,
        patch_height: int,
        patch_width: int,
        labels: Mapping[str, Sequence[str]] | None = None,
        hidden: int = 96,
    ) -> None:
        super().__init__()
        self.rows, self.high, self.wide = 8 * STRING_ROWS // patch_height, patch_height // 8, patch_width // 8
        self.note_outputs = FRET_CLASSES + count_signs(labels, NOTE_SIGNS)
        self.beat_outputs = BEAT_CLASSES + count_signs(labels, BEAT_SIGNS)
        self.near = nn.Conv2d(inputs, hidden, (1, 3), padding=(0, 1))
        self.frets = nn.Conv2d(hidden, self.note_outputs * self.high * self.wide, 1)
        self.tall = nn.Conv2d(inputs, hidden, (self.rows, 3), padding=(0, 1))
        self.beats = nn.Conv2d(hidden, self.beat_outputs * self.wide, 1)
        self.above = nn.Conv2d(inputs, hidden, 3, padding=1) if labels else None
        self.bars = nn.Linear(hidden, count_signs(labels, BAR_SIGNS)) if labels else None

    def forward(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """Values `(B, D, h, w)`; the last rows are those of the staff.

        Returns:
            Logits: `frets` `(B, FRET_CLASSES, 10, W / 8)` and `values` `(B, BEAT_CLASSES, W / 8)`; with labels also
            `note_signs` `(B, K, 10, W / 8)`, `beat_signs` `(B, K, W / 8)` and `bar_signs` `(B, K)`.
        """
        staff = values[:, :, -self.rows :]
        notes = self.frets(F.relu(self.near(staff)))
        notes = notes.unflatten(1, (self.note_outputs, self.high, self.wide))  # (B, C, high, wide, rows, w)
        notes = notes.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)  # (B, C, rows · high, w · wide)
        seen = F.relu(self.tall(staff))[:, :, 0]  # (B, hidden, w)
        if self.above is not None:
            marks = F.relu(self.above(values)).amax(2)  # wherever they stand above or below
            seen = seen + marks
        beats = self.beats(seen[:, :, None])[:, :, 0].unflatten(1, (self.beat_outputs, self.wide))
        beats = beats.transpose(2, 3).flatten(2)  # (B, C, w · wide)
        found = {"frets": notes[:, :FRET_CLASSES], "values": beats[:, :BEAT_CLASSES]}
        if self.bars is not None:
            found |= {"note_signs": notes[:, FRET_CLASSES:], "beat_signs": beats[:, BEAT_CLASSES:]}
            found["bar_signs"] = self.bars(seen.amax(-1))
        return found


def _classes(said: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Cross entropy; where nothing stands counts a tenth."""
    weight = torch.ones(said.shape[1], device=said.device)
    weight[0] = NOTHING_WEIGHT
    counts = bool((true >= 0).any())  # else the mean would be that of nothing
    return F.cross_entropy(said.float(), true, weight) if counts else said.sum() * 0.0


def _signs(said: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy where the truth is no −1; a sign that stands there counts more."""
    known = true >= 0
    if not bool(known.any()):
        return said.sum() * 0.0
    weight = torch.full((), SIGN_WEIGHT, device=said.device)
    return F.binary_cross_entropy_with_logits(said.float()[known], true[known].float(), pos_weight=weight)


def reading_losses(
    logits: Mapping[str, torch.Tensor], truth: Mapping[str, torch.Tensor | None]
) -> dict[str, torch.Tensor]:
    """Losses of `CodeReader`'s logits, by name.

    Args:
        logits: Of the reader.
        truth: `frets` int64 `(B, 10, W / 8)` and `beats` int64 `(B, W / 8)`, −100 where they do not count;
            `note_signs`, `beat_signs` and `bar_signs` int8 of the logits' shapes, −1 where they do not count.
    """
    found = {}
    for name, said in logits.items():
        true = truth.get({"values": "beats"}.get(name, name))
        if true is not None:
            found[name] = (_classes if name in ("frets", "values") else _signs)(said, true)
    return found


def digit_boxes(frets: torch.Tensor, height: int) -> torch.Tensor:
    """1 where a digit of the tab stands, or beside it, else 0: `(B, 1, height, W)`.

    Args:
        frets: As for `reading_losses`.
        height: Pixels of the pictures, the staff at the bottom.
    """
    stands = (frets > 0).float()[:, None]
    wide = F.max_pool2d(stands, (1, 3), stride=1, padding=(0, 1))
    boxes = F.interpolate(wide, scale_factor=8, mode="nearest")
    return F.pad(boxes, (0, 0, height - boxes.shape[2], 0))


__all__ = [
    "BAR_SIGNS",
    "BEAT_CLASSES",
    "BEAT_SIGNS",
    "FRET_CLASSES",
    "NOTE_SIGNS",
    "STRING_ROWS",
    "CodeReader",
    "count_signs",
    "digit_boxes",
    "reading_losses",
]
