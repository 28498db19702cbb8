"""Figures of NativeVLM while it trains, and of what it reads and draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..processing.alphatex_grammar import Score, read_alphatex
from ..processing.native_choosing import draw_prompts, left_padded
from ..processing.native_places import drawing_prompt
from ..processing.native_reading import read_prompts
from ..processing.native_settings import GUIDANCE, NUM_BEAMS, TRIES
from .image_vq_evaluation import read_canvas
from .metrics_image import image_match
from .native_vlm_data import LessonCollate, PackedLessons


@torch.no_grad()
def evaluate_lessons(model: Any, rows: PackedLessons, pad: int, batch_size: int = 4) -> dict[str, float]:
    """Loss of held-out lessons.

    Returns:
        `loss`, nats a label over all; `text_loss`, `place_loss` (columns that text names, `rope="placed"`),
        `image_loss`; `text_accuracy`, ...: labels that would have been chosen, with the truth before them.
    """
    collate, v = LessonCollate(pad), model.config.vocabulary
    sums = np.zeros((3, 3))  # text, places, image: nats, right, labels
    for start in range(0, len(rows), batch_size):
        batch = collate([rows[i] for i in range(start, min(start + batch_size, len(rows)))])
        batch = {name: value.to(model.device) for name, value in batch.items()}
        labels = batch.pop("labels")[:, 1:]
        with torch.autocast(model.device.type, torch.bfloat16):
            logits = model(**batch).logits[:, :-1].float()
        nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        right = (logits.argmax(-1) == labels).flatten()
        before = batch["input_ids"][:, :-1]
        in_header = (before >= v.first_rows) & (before < v.first_columns)  # then it is the width of a picture
        places = (labels >= v.first_columns) & (labels < v.first_code) & ~in_header
        for kind, mask in enumerate(
            ((labels < v.text_size) & (labels >= 0), places, (labels >= v.text_size) & ~places)
        ):
            chosen = mask.flatten()
            sums[kind] += [float(nats[chosen].sum()), float(right[chosen].sum()), float(chosen.sum())]
    figures = {"loss": sums[:, 0].sum() / max(sums[:, 2].sum(), 1)}
    for name, (total, right_ones, count) in zip(("text", "place", "image"), sums, strict=True):
        if count:
            figures |= {f"{name}_loss": total / count, f"{name}_accuracy": right_ones / count}
    return {name: float(value) for name, value in figures.items()}


@torch.no_grad()
def read_codes(
    model: Any,
    processor: Any,
    grids: Sequence[np.ndarray],
    grammar: bool = True,
    max_new_tokens: int = 600,
    num_beams: int = NUM_BEAMS,
) -> list[str]:
    """What the model reads off pictures of codes `(h, w)`, all of them in one batch.

    Args:
        model, processor: NativeVLM's.
        grids: The pictures; like sizes together are faster.
        grammar: Keep to the grammar.
        max_new_tokens: Longest answer.
        num_beams: Of the search; 1: greedily.
    """
    before, _, after = processor.read_prompt().partition(processor.image_token)
    rows = [processor.encode_parts([before, codes, after]) for codes in grids]
    prompt, mask = left_padded(rows, processor.tokenizer.pad_token_id, model.device)
    limit = min(prompt.shape[1] + max_new_tokens, processor.max_length)
    if grammar:
        return [text for text, _ in read_prompts(model, processor, prompt, mask, limit, num_beams)]
    written = model.generate(prompt, attention_mask=mask, max_length=limit, do_sample=False, num_beams=num_beams)
    size = len(processor.tokenizer)
    texts = ([token for token in ids if token < size] for ids in written[:, prompt.shape[1] :].tolist())
    return [processor.tokenizer.decode(ids, skip_special_tokens=True) for ids in texts]


@torch.no_grad()
def draw_texts(
    model: Any,
    processor: Any,
    texts: Sequence[str],
    guidance_scale: float = GUIDANCE,
    tries: int = TRIES,
    **options: Any,
) -> list[Image.Image]:
    """Drawings of texts, all of them in one batch; where beats go is decided text by text before.

    Args:
        model, processor: NativeVLM's.
        texts: Canonical alphaTex.
        guidance_scale, tries, **options: Of `NativeVLMProcessor.draw`.

    Raises:
        InputError: A text does not fit into the window.
    """
    prompts = [drawing_prompt(model, processor, text)[0].tolist() for text in texts]
    return model.decode_pictures(draw_prompts(model, processor, prompts, guidance_scale, tries, **options))


@dataclass
class Drawing:
    """A drawing of one text, and what a dense tower reads off it.

    Attributes:
        picture: The drawing.
        read: The score on it; empty where the tower's reader can make nothing of it.
        true_read: The score on the true picture, decoded from its codes: no drawing can be expected to beat it.
        ink_iou: Ink overlap with that picture.
        whole_read, whole_true_read: What the whole ScoreVLM reads, where it was asked.
    """

    picture: Image.Image
    read: Score
    true_read: Score
    ink_iou: float
    whole_read: Score | None = None
    whole_true_read: Score | None = None


@torch.no_grad()
def read_drawing(
    model: Any, processor: Any, drawn: Image.Image, text: str, codes: np.ndarray, tower: Any, whole: Any = None
) -> Drawing:
    """Reads a drawing back.

    Args:
        model, processor: NativeVLM's.
        drawn: The drawing.
        text: What was asked for.
        codes: `(h, w)`, the true picture.
        tower: `ScoreTowerModel`.
        whole: `PictureReader`, to read both pictures, too.
    """
    staff = read_alphatex(text).staves[0]
    about: dict[str, Any] = {"score": "score" in staff.show, "strings": staff.strings}
    about["metre"] = staff.bars[0].time_signature or (4, 4)
    true = model.decode_pictures([torch.from_numpy(np.asarray(codes, dtype=np.int64))])[0]
    scores = [_read_or_nothing(tower, processor.to_canvas(picture, about["score"]), about) for picture in (drawn, true)]
    found = Drawing(drawn, scores[0], scores[1], _overlap(drawn, true))
    if whole is not None:
        found.whole_read, found.whole_true_read = whole([picture.convert("L") for picture in (drawn, true)])
    return found


def _overlap(first: Image.Image, second: Image.Image) -> float:
    """Ink overlap with the staves at one height: grid pictures end at the same distance below the staff."""
    height = max(first.height, second.height)

    def padded(picture: Image.Image) -> Image.Image:
        sheet = Image.new("L", (picture.width, height), 255)
        sheet.paste(picture, (0, height - picture.height))
        return sheet

    return image_match(padded(first), padded(second)).ink_iou


def _read_or_nothing(tower: Any, canvas: np.ndarray, about: dict[str, Any]) -> Score:
    """What the tower reads, or an empty score off a drawing that its reader can make nothing of."""
    try:
        return read_canvas(tower, canvas, about, tower.config.labels)
    except (ValueError, IndexError, KeyError):
        return Score()


__all__ = ["Drawing", "draw_texts", "evaluate_lessons", "read_codes", "read_drawing"]
