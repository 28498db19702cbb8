"""How pictures and text come together in front of a language model: one place for counting, filling and joining.

Two ways are in use. *Placeholders*: the text holds one `<|image|>` for each image token, and features take their place
(`place_features`; ScoreVLM does so). *Parts*: embeddings of pictures and of text are put one behind the other
(`join_parts`), as for a StyleEncoder in front of a causal language model:

    out = style_encoder(pixel_values)
    picture = project_sequence_embed(out.embed, projector)
    seen = create_attention_mask_from_embed(out.embed, out.mask)
    inputs = join_parts([Part(picture, seen), Part(embedding(ids), text_mask, labels=ids)])
    loss = language_model(**inputs).loss
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

IGNORED_LABEL = -100  # what PyTorch's cross entropy and transformers leave out


def count_image_tokens(width_px: int, column_px: int) -> int:
    """Image tokens of a picture: one for each begun column. Processor and model both ask here.

    Args:
        width_px: Width of the picture before padding to the batch.
        column_px: Width of a column.
    """
    return -(-int(width_px) // column_px)


def check_placeholders(placeholders: int, features: int) -> None:
    """Raises when text and pictures do not fit together.

    Raises:
        ValueError: The two counts, so that the mistake can be seen.
    """
    if placeholders != features:
        raise ValueError(
            f"the text has {placeholders} image tokens, the pictures give {features}: "
            "let the processor write the placeholders, and do not cut the text inside them"
        )


def place_features(
    input_ids: torch.Tensor, inputs_embeds: torch.Tensor, features: torch.Tensor, image_token_id: int
) -> torch.Tensor:
    """Embeddings with image features in place of the image tokens.

    Args:
        input_ids: `(B, L)`.
        inputs_embeds: `(B, L, D)` embeddings of the ids; not changed.
        features: `(N, D)`, those of all pictures one after the other, in the order of their tokens in the batch.
        image_token_id: The placeholder's id.

    Returns:
        `(B, L, D)` in the dtype of `inputs_embeds`.

    Raises:
        ValueError: Placeholders and features differ in number.
    """
    mask = input_ids == image_token_id  # (B, L)
    check_placeholders(int(mask.sum()), features.shape[0])
    return inputs_embeds.masked_scatter(mask[..., None], features.to(inputs_embeds.dtype))


def project_sequence_embed(
    embed: torch.Tensor, projector: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:  # fmt: skip
    """A sequence of embeddings in the width of a language model.

    Args:
        embed: `(B, L, D)`, or `(L, D)` for one picture.
        projector: `nn.Linear` or any module from `(…, D)` to `(…, D')`. Its parameters' dtype is used.

    Returns:
        `(B, L, D')`; one picture comes back as a batch of one.

    Raises:
        ValueError: The shape is not that of a sequence, or the projector takes another width.
    """
    if embed.ndim == 2:
        embed = embed[None]  # (1, L, D)
    if embed.ndim != 3:
        raise ValueError(f"a sequence embedding has the shape (B, L, D), got {tuple(embed.shape)}")
    wanted = getattr(projector, "in_features", embed.shape[-1])
    if wanted != embed.shape[-1]:
        raise ValueError(f"the projector takes embeddings of width {wanted}, got {embed.shape[-1]}")
    parameters = getattr(projector, "parameters", lambda: iter(()))()
    weight = next(iter(parameters), None)
    out = projector(embed if weight is None else embed.to(weight.dtype))
    if out.shape[:2] != embed.shape[:2]:
        raise ValueError(f"the projector made {tuple(out.shape)} of {tuple(embed.shape)}; it must keep (B, L)")
    return out


def create_attention_mask_from_embed(
    embed: torch.Tensor, mask: torch.Tensor | None = None, threshold: float = 0.5
) -> torch.Tensor:
    """Which places of a sequence embedding a language model may look at.

    Args:
        embed: `(B, L, D)`, or `(L, D)` for one picture. A row of zeros is padding.
        mask: Probabilities `(B, L)` that a place is in use (`StyleEncoderOutput.mask`), or a mask of 0 and 1.
        threshold: Least probability of a place in use.

    Returns:
        int64 `(B, L)` of 0 and 1. A sequence of which nothing would remain keeps its likeliest place (the first, where
        there is no mask): softmax over no place is not a number.

    Raises:
        ValueError: Shapes that do not fit.
    """
    embed = embed[None] if embed.ndim == 2 else embed
    if embed.ndim != 3:
        raise ValueError(f"a sequence embedding has the shape (B, L, D), got {tuple(embed.shape)}")
    seen = embed.ne(0).any(-1)  # (B, L)
    likely = seen.float()
    if mask is not None:
        mask = mask[None] if mask.ndim == 1 else mask
        if mask.shape != seen.shape:
            raise ValueError(f"the mask has the shape {tuple(mask.shape)}, the sequences are {tuple(seen.shape)}")
        likely = mask.float() + 2 * likely  # a place with content comes before any without
        seen = seen & (mask.float() >= threshold)
    best = torch.nn.functional.one_hot(likely.argmax(-1), seen.shape[1]).bool()
    return torch.where(seen.any(-1, keepdim=True), seen, best).long()


@dataclass
class Part:
    """A stretch of embeddings on its way into a language model.

    Attributes:
        embeds: `(B, L, D)`.
        mask: `(B, L)`, 1 = may be looked at; all of it when left out.
        labels: `(B, L)` ids to be learnt; nothing is learnt of a part without.
    """

    embeds: torch.Tensor
    mask: torch.Tensor | None = None
    labels: torch.Tensor | None = None


def join_parts(parts: Sequence[Part], padding_side: str | None = None) -> dict[str, torch.Tensor]:
    """Puts parts one behind the other, as the inputs of a causal language model.

    Args:
        parts: Pictures and texts in the order in which they are read; the same batch and width.
        padding_side: `"left"` or `"right"` moves what is masked out to that side (left for `generate`); by default
            everything stays where it is.

    Returns:
        `inputs_embeds` `(B, ΣL, D)` in the dtype of the last part (the text's), `attention_mask` and `position_ids`
        `(B, ΣL)`: positions count what may be looked at, so that a masked place takes none; and `labels` `(B, ΣL)`
        where any part has some, -100 elsewhere and at masked places.

    Raises:
        ValueError: Parts that differ in batch or width, or masks and labels that do not fit their part.
    """
    if not parts:
        raise ValueError("there is no part to join")
    if padding_side not in (None, "left", "right"):
        raise ValueError(f"padding_side is {padding_side!r}; use 'left', 'right' or None")
    last = parts[-1].embeds
    embeds, masks, labels = [], [], []
    for number, part in enumerate(parts):
        shape = part.embeds.shape
        if len(shape) != 3 or (shape[0], shape[2]) != (last.shape[0], last.shape[2]):
            raise ValueError(f"part {number} has the shape {tuple(shape)}, the last one {tuple(last.shape)}")
        mask = torch.ones(shape[:2], dtype=torch.long, device=last.device) if part.mask is None else part.mask
        wanted = mask.new_full(shape[:2], IGNORED_LABEL, dtype=torch.long) if part.labels is None else part.labels
        for name, value in (("mask", mask), ("labels", wanted)):
            if value.shape != shape[:2]:
                raise ValueError(f"part {number} is {tuple(shape[:2])}, its {name} {tuple(value.shape)}")
        embeds.append(part.embeds.to(last.dtype))
        masks.append(mask.long())
        labels.append(wanted.masked_fill(mask == 0, IGNORED_LABEL))
    joined = {
        "inputs_embeds": torch.cat(embeds, dim=1),
        "attention_mask": torch.cat(masks, dim=1),
        "labels": torch.cat(labels, dim=1),
    }
    if padding_side is not None:
        key = joined["attention_mask"] if padding_side == "left" else 1 - joined["attention_mask"]
        order = key.argsort(dim=1, stable=True)  # (B, ΣL); stable: what is read keeps its order
        joined = {name: _reordered(value, order) for name, value in joined.items()}
    joined["position_ids"] = (joined["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
    if all(part.labels is None for part in parts):
        del joined["labels"]
    return joined


def _reordered(value: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    return value.gather(1, order if value.ndim == 2 else order[..., None].expand_as(value))


__all__ = [
    "IGNORED_LABEL",
    "Part",
    "check_placeholders",
    "count_image_tokens",
    "create_attention_mask_from_embed",
    "join_parts",
    "place_features",
    "project_sequence_embed",
]
