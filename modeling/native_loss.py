"""Loss of NativeVLM: over nine thousand ids a label, most of the work of a training step if it is done plainly."""

from __future__ import annotations

from typing import Any

import torch

from ..configuration.configuration_native_vlm import NativeVLMConfig

CHUNK = 128


def label_weights(labels: torch.Tensor, config: NativeVLMConfig) -> torch.Tensor:
    """What each label `(N,)` counts, float32; together 1."""
    picture = labels >= config.text_vocab_size
    weights = torch.where(picture, float(config.image_loss_weight), float(config.text_loss_weight))
    return weights / weights.sum().clamp(min=1e-6)


def loss_of_errors(
    error: torch.Tensor, z: torch.Tensor, labels: torch.Tensor, config: NativeVLMConfig
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Weighted mean of the errors `(N,)` plus the z-loss, and the single figures."""
    figures = {"z": z.detach()}
    picture = labels >= config.text_vocab_size
    for name, kind in (("text", ~picture), ("image", picture)):
        if kind.any():
            figures[name] = error[kind].mean().detach()
    return (label_weights(labels, config) * error).sum() + config.z_loss_weight * z, figures


def native_loss(
    logits: torch.Tensor, labels: torch.Tensor, config: NativeVLMConfig
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss of predicting labels, in step with the logits: `(N, V)` and `(N,)`, −100 where nothing is learnt.

    Returns:
        The weighted mean plus the z-loss, and the single figures.
    """
    learnt = labels != -100
    if not learnt.all():
        logits, labels = logits[learnt], labels[learnt]
    logits = logits.float()
    if not len(labels):
        return logits.sum() * 0.0, {}
    total = logits.logsumexp(-1)  # (N,)
    error = total - logits.gather(1, labels[:, None]).squeeze(1)
    return loss_of_errors(error, total.square().mean(), labels, config)


class _HeadLoss(torch.autograd.Function):
    """Head, soft cap, cross entropy and z-loss, a few rows at a time; the gradients are found on the way."""

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any, labels: Any, weights: Any, cap: float, z_weight: float) -> Any:
        """See `head_loss`."""
        kind = torch.promote_types(hidden.dtype, weight.dtype)
        if torch.is_autocast_enabled(hidden.device.type):
            kind = torch.get_autocast_dtype(hidden.device.type)
        with torch.autocast(hidden.device.type, enabled=False):
            narrow, table = hidden.to(kind), weight.to(kind)
            to_hidden = torch.empty_like(hidden, dtype=torch.float32)
            to_weight = torch.zeros_like(weight, dtype=torch.float32)
            error, total = hidden.new_empty(len(labels), dtype=torch.float32), []
            for start in range(0, len(labels), CHUNK):
                rows = slice(start, start + CHUNK)
                place = labels[rows, None]
                bent = (narrow[rows] @ table.T).float().div_(cap).tanh_()  # logits / cap
                here = bent.mul(cap)
                sums = here.logsumexp(-1, keepdim=True)
                error[rows] = (sums - here.gather(1, place)).squeeze(1)
                total.append(sums.squeeze(1))
                # d loss / d capped = w (p - [label]) + 2 z sums p / N, then through the cap: 1 - bent².
                scale = weights[rows, None]
                slope = here.sub_(sums).exp_().mul_(scale + 2 * z_weight / len(labels) * sums)
                slope.scatter_add_(1, place, -scale)
                slope = slope.mul_(bent.square_().neg_().add_(1)).to(kind)
                to_hidden[rows] = (slope @ table).float()
                to_weight += slope.T @ narrow[rows]
        z = torch.cat(total).square().mean()
        ctx.save_for_backward(to_hidden.to(hidden.dtype), to_weight.to(weight.dtype))
        loss = (weights * error).sum() + z_weight * z
        ctx.mark_non_differentiable(error, z)
        return loss, error, z

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """The gradients that the way there has found, times the loss's own."""
        to_hidden, to_weight = ctx.saved_tensors
        return grads[0].to(to_hidden.dtype) * to_hidden, grads[0] * to_weight, None, None, None, None


def head_loss(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, config: NativeVLMConfig
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """`native_loss` of `cap · tanh(hidden @ weightᵀ / cap)`, without ever holding all logits.

    Args:
        hidden: `(N, D)`.
        weight: `(V, D)` of the head.
        labels: `(N,)`; each is learnt.
        config: Weights, and the cap, which must be there.
    """
    if not len(labels):
        return hidden.sum() * 0.0 + weight.sum() * 0.0, {}
    assert config.logit_softcap is not None
    weights = label_weights(labels, config)
    loss, error, z = _HeadLoss.apply(
        hidden, weight, labels, weights, float(config.logit_softcap), float(config.z_loss_weight)
    )
    return loss, loss_of_errors(error, z, labels, config)[1]


__all__ = ["head_loss", "label_weights", "loss_of_errors", "native_loss"]
