"""ScoreVLM as people use it, as the reader of pictures that other models made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..processing.alphatex_grammar import Score, read_alphatex
from ..processing.errors import InputError

MARGIN_PX = 32  # of white paper around a picture: systems end somewhere


class PictureReader:
    """Reads pictures of one system each with everything that ScoreVLM has: page finder, looks that vote, grammar.

    Args:
        folder: ScoreVLM checkpoint.
    """

    def __init__(self, folder: str) -> None:
        from ..modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
        from ..processing.processing_score_vlm import ScoreVLMProcessor

        self.model = ScoreVLMForConditionalGeneration.from_pretrained(folder).float().eval()
        self.processor = ScoreVLMProcessor.from_pretrained(folder)

    def __call__(self, pictures: Sequence[Image.Image | np.ndarray]) -> list[Score]:
        """Scores of grey pictures; an empty one where no system is found."""
        return [self._read(np.asarray(picture)) for picture in pictures]

    def _read(self, picture: np.ndarray) -> Score:
        page = Image.fromarray(np.pad(picture, MARGIN_PX, constant_values=255))
        try:
            return read_alphatex(self.processor.read(self.model, page)[0])
        except InputError:
            return Score()


def load_reader(folder: str, device: Any = "cpu") -> PictureReader | None:
    """The reader, on its device; `None` where the folder holds a tower alone."""
    from transformers import AutoConfig

    if not (Path(folder) / "config.json").is_file():
        raise InputError(folder, "is no model folder")
    if AutoConfig.from_pretrained(folder).model_type != "score_vlm":
        return None
    reader = PictureReader(folder)
    reader.model.to(device)
    return reader


__all__ = ["PictureReader", "load_reader"]
