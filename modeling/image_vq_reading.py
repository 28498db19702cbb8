"""A small head that has to read frets and note values off the codes, so that the codes say them.

A loss of pixels alone is content with a grey box where a digit stands: digits are a few per cent of the ink. What the
head needs, the codes must hold, and what the codes hold, the decoder can draw.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

FRET_CLASSES = 28  # nothing, 0 … 24, dead, end of a tie
BEAT_CLASSES = 43  # nothing; 7 note values with 0 … 2 dots; 7 rests with 0 … 2 dots
STRING_ROWS = 10  # slots of 8 px from the top tab line down, as many as lie in every picture
NOTHING_WEIGHT = 0.1


class CodeReader(nn.Module):
    """Frets by slots of 8 × 8 px and beats by slots of 8 px, off the values of codes.

    Args:
        inputs: Numbers in a code's value.
        patch_height, patch_width: Pixels behind a code.
        hidden: Channels in between.
    """

    def __init__(self, inputs: int, patch_height: int, patch_width: int, hidden: int = 96) -> None:
        super().__init__()
        self.rows, self.high, self.wide = 8 * STRING_ROWS // patch_height, patch_height // 8, patch_width // 8
        self.near = nn.Conv2d(inputs, hidden, (1, 3), padding=(0, 1))
        self.frets = nn.Conv2d(hidden, FRET_CLASSES * self.high * self.wide, 1)
        self.tall = nn.Conv2d(inputs, hidden, (self.rows, 3), padding=(0, 1))
        self.beats = nn.Conv2d(hidden, BEAT_CLASSES * self.wide, 1)

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Values `(B, D, h, w)`; the last rows are those of the staff.

        Returns:
            Logits of frets `(B, FRET_CLASSES, 10, W / 8)` and of beats `(B, BEAT_CLASSES, W / 8)`.
        """
        staff = values[:, :, -self.rows :]
        frets = self.frets(F.relu(self.near(staff)))
        frets = frets.unflatten(1, (FRET_CLASSES, self.high, self.wide))  # (B, C, high, wide, rows, w)
        frets = frets.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)  # (B, C, rows · high, w · wide)
        beats = self.beats(F.relu(self.tall(staff)))[:, :, 0].unflatten(1, (BEAT_CLASSES, self.wide))
        return frets, beats.transpose(2, 3).flatten(2)


def reading_losses(
    logits: tuple[torch.Tensor, torch.Tensor], frets: torch.Tensor, beats: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Cross entropies of `CodeReader`'s logits; where nothing stands counts a tenth.

    Args:
        logits: Of frets and beats.
        frets: int64 `(B, 10, W / 8)`, −100 where it does not count.
        beats: int64 `(B, W / 8)`, likewise.
    """
    found = {}
    for name, said, true in zip(("frets", "values"), logits, (frets, beats), strict=True):
        weight = torch.ones(said.shape[1], device=said.device)
        weight[0] = NOTHING_WEIGHT
        counts = bool((true >= 0).any())  # else the mean would be that of nothing
        found[name] = F.cross_entropy(said.float(), true, weight) if counts else said.sum() * 0.0
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


__all__ = ["BEAT_CLASSES", "FRET_CLASSES", "STRING_ROWS", "CodeReader", "digit_boxes", "reading_losses"]
