"""Drawings are looked at before they are given away: of several, the one that the model itself reads best.

Ranking samples by a model that looks at them is how DALL-E chose (Ramesh et al. 2021, arXiv 2102.12092, section 2.6);
here the model that drew is its own reader: the probability of the text behind the picture is one forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

#: Of the drawings behind the first, which takes the likeliest code always.
TEMPERATURE, TOP_K = 0.7, 20


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids `(B, T)` that end together, and their mask."""
    length = max(map(len, rows))
    ids = torch.tensor([[pad] * (length - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def asked_text(processor: Any, prompt: Sequence[int]) -> list[int]:
    """The ids of the text (and of its columns) in a prompt of `drawing_prompt`."""
    mark = "\x00"
    before, _, after = processor.draw_prompt(mark).partition(mark)
    head, tail = (len(processor.tokenizer.encode(part, add_special_tokens=False)) for part in (before, after))
    return list(prompt[head : len(prompt) - tail])


@torch.no_grad()
def reading_chance(model: Any, processor: Any, codes: torch.Tensor, text: Sequence[int]) -> tuple[float, bool]:
    """How likely the model reads a text off a picture.

    Args:
        model, processor: NativeVLM's.
        codes: `(h, w)`.
        text: Its ids, columns among them.

    Returns:
        The natural logarithm of the probability, and whether the model would have written each word of the text itself.
    """
    before, _, after = processor.read_prompt().partition(processor.image_token)
    head = processor.encode_parts([before, codes.cpu().numpy(), after])
    ids = torch.tensor([[*head, *text, processor.tokenizer.convert_tokens_to_ids("<|end|>")]], device=model.device)
    wanted = ids[0, len(head) :]
    scores = model(input_ids=ids).logits[0, len(head) - 1 : -1].float().log_softmax(-1)
    words = wanted < len(processor.tokenizer)
    right = bool((scores.argmax(-1) == wanted)[words].all())
    return float(scores.gather(1, wanted[:, None]).sum()), right


@torch.no_grad()
def draw_prompts(
    model: Any, processor: Any, prompts: Sequence[Sequence[int]], guidance_scale: float, tries: int = 1, **options: Any
) -> list[torch.Tensor]:
    """Draws what prompts ask for; what the model can not read off its drawing is drawn again with chance.

    Args:
        model, processor: NativeVLM's.
        prompts: Of `drawing_prompt`.
        guidance_scale: See `generate_images`.
        tries: Drawings of each at most. They are the same every time, unless the first is drawn with chance, too.
        **options: Of `generate_images`, for the first.

    Returns:
        For each prompt the codes `(h, w)` of the drawing that the model reads best.
    """
    pad, free = processor.tokenizer.pad_token_id, processor.unconditional_ids().to(model.device)

    def once(asked: Sequence[Sequence[int]], **how: Any) -> list[torch.Tensor]:
        ids, mask = left_padded(asked, pad, model.device)
        return model.generate_images(ids, mask, free, guidance_scale, **how, output_type="codes")

    best = once(prompts, **options)
    if tries < 2:
        return best
    by_chance = bool(options.get("do_sample", False))
    how = {"temperature": TEMPERATURE, "top_k": TOP_K, **options, "do_sample": True}
    for row, prompt in enumerate(prompts):
        text = asked_text(processor, prompt)
        chance, right = reading_chance(model, processor, best[row], text)
        if right:
            continue
        with torch.random.fork_rng(enabled=not by_chance):
            if not by_chance:
                torch.manual_seed(0)
            others = once([prompt] * (tries - 1), **how)  # of each prompt by itself: no drawing depends on the others
        for codes in others:
            found = reading_chance(model, processor, codes, text)[0]
            if found > chance:
                best[row], chance = codes, found
    return best


__all__ = ["asked_text", "draw_prompts", "left_padded", "reading_chance"]
