"""Starting a NativeVLM from a language model that knows alphaTex."""

from __future__ import annotations

from typing import Any

import torch

from ..processing.errors import InputError


@torch.no_grad()
def take_over_language_model(model: Any, language_model: Any) -> None:
    """Puts the weights of a NanoChat into the model; the text's logits over text are then the same.

    New rows of embedding and head begin at the mean of the old ones, those of the embedding with a little noise of the
    model's own.

    Raises:
        InputError: The sizes, or what else the logits depend on, differ.
    """
    ours, theirs = model.config, language_model.config
    for a, b in (
        ("text_vocab_size", "vocab_size"),
        ("hidden_size", "hidden_size"),
        ("intermediate_size", "intermediate_size"),
        ("num_hidden_layers", "num_hidden_layers"),
        ("num_attention_heads", "num_attention_heads"),
    ):
        if getattr(ours, a) != getattr(theirs, b):
            raise InputError(None, f"{a} is {getattr(ours, a)}, the language model has {getattr(theirs, b)}")
    theta = (theirs.rope_parameters or {}).get("rope_theta", ours.rope_theta)
    for name, own, other in (
        ("rope_theta", ours.rope_theta, theta),
        ("logit_softcap", ours.logit_softcap, theirs.final_logit_softcapping),
        ("rms_norm_eps", ours.rms_norm_eps, theirs.rms_norm_eps),
        ("qk_norm", ours.qk_norm, True),
    ):
        if own != other:
            raise InputError(
                None, f"{name} is {own}, the language model has {other}; texts would not be read as before"
            )
    if theirs.num_key_value_heads != theirs.num_attention_heads or theirs.tie_word_embeddings:
        raise InputError(
            None, "only a language model with a key for each query, and a head of its own, can be taken over"
        )
    source, target, count = language_model.state_dict(), model.state_dict(), ours.text_vocab_size
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        old = source[name]
        target[name][count:] = old.mean(0) + (target[name][count:] if "embed" in name else 0)
        target[name][:count] = old
    for name, value in source.items():
        if name.startswith("model.layers."):
            if "q_proj" in name or "k_proj" in name:
                # NanoChat turns the other way round; with the halves of each head changed over it is the same.
                value = value.view(ours.num_attention_heads, 2, -1, ours.hidden_size).flip(1)
                value = value.reshape(ours.hidden_size, ours.hidden_size)
            target[name].copy_(value)


@torch.no_grad()
def start_codes_from_patches(model: Any, seed: int = 0) -> None:
    """Rows of codes that are small pictures begin as these pictures, turned at random: like codes begin alike.

    Most codes are rare; what is learnt of one then holds for its neighbours (the same digit a pixel beside). Does
    nothing for codebooks of another kind.

    Args:
        model: `NativeVLMForCausalLM`.
        seed: Of the turn.
    """
    config = model.config
    if config.vq_config.codebook != "patches" or config.vq_config.borrowed is not None:
        return
    book = model.image_vq.quantizer.codebook.float()  # (K, P)
    u, s, _ = torch.linalg.svd(book - book.mean(0), full_matrices=False)
    features = u * s.sqrt()  # large differences count less than they weigh, small ones more
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(config.hidden_size, config.hidden_size, generator=generator)).Q
    width = min(config.hidden_size, features.shape[1])
    rows = features[:, :width] @ turn[:width]  # (K, D)
    rows = config.initializer_range * rows / rows.square().mean().sqrt()
    first, last = config.vocabulary.first_code, config.vocabulary.first_code + len(rows)
    for weight in (model.model.embed_tokens.weight, model.lm_head.weight):
        weight[first:last] += rows.to(weight.dtype)


def freeze_all_but_new_rows(model: Any) -> None:
    """Leaves only what belongs to pictures to learn: rows in embedding and head, modality embedding, neighbours.

    Weight decay must be off then: it moves rows without a gradient too.
    """
    model.requires_grad_(False)
    count = model.config.text_vocab_size
    for weight in (model.model.embed_tokens.weight, model.lm_head.weight):
        weight.requires_grad_(True)
        weight.register_hook(lambda gradient: torch.cat([torch.zeros_like(gradient[:count]), gradient[count:]]))
    if model.model.embed_modality is not None:
        model.model.embed_modality.requires_grad_(True)
    if model.model.beside is not None:
        model.model.beside.requires_grad_(True)


__all__ = ["freeze_all_but_new_rows", "start_codes_from_patches", "take_over_language_model"]
