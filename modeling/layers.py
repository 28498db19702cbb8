"""Bricks that several models share: rotary tables, attention over a sequence, residual convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def rotary_angles(positions: torch.Tensor, dim: int, base: float = 10_000.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of rotary position embedding (RoFormer, arXiv 2104.09864, section 3.2).

    Computed from the positions each time: a table kept as a non-persistent buffer would come back empty after
    `from_pretrained`.

    Args:
        positions: `(T,)` or `(B, T)`, any unit.
        dim: Size of a head, even.
        base: Longest wavelength / 2π.

    Returns:
        Two float32 tensors `(..., T, dim)`.
    """
    frequency = base ** (-torch.arange(0, dim, 2, device=positions.device, dtype=torch.float32) / dim)
    angle = positions.to(torch.float32)[..., None] * frequency
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turns the halves of each head by the given angles; `x` is `(B, heads, T, dim)`."""
    first, second = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat([-second, first], dim=-1) * sin.to(x.dtype)


_SHORT = 256


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None, dropout: float = 0.0
) -> torch.Tensor:
    """PyTorch's SDPA, but for training in bfloat16 on a CPU: its way back there takes 5 to 18 times as long as this.

    Args:
        q, k, v: `(B, heads, T, dim)`.
        mask: Bool, true = may look.
        dropout: Of the weights.
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or not q.requires_grad:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    if k.shape[-2] > _SHORT:  # all scores at once would take too much memory
        with torch.autocast("cpu", enabled=False):
            out = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask, dropout_p=dropout)
            return out.to(q.dtype)
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5  # (B, heads, T, T)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = F.dropout(torch.softmax(scores, dim=-1), dropout)
    return weights.to(v.dtype) @ v


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions, through PyTorch's SDPA."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def forward(
        self, x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`x`: `(B, T, D)`; `mask`: bool, broadcastable to `(B, heads, T, T)`, true = may look."""
        batch, length, width = x.shape
        heads = self.qkv(x).view(batch, length, 3 * self.num_heads, width // self.num_heads)
        heads = heads.transpose(1, 2)  # (B, 3 · heads, T, D / heads)
        q, k = rotate(heads[:, : 2 * self.num_heads], *angles).chunk(2, dim=1)
        v = heads[:, 2 * self.num_heads :]
        drop = self.dropout if self.training else 0.0
        x = attend(q, k, v, mask, drop)
        return self.out(x.transpose(1, 2).reshape(batch, length, width))  # (B, T, D)


def lay_out_by_columns(module: nn.Module) -> None:
    """Keeps the weights of linear layers in a CPU's memory column by column; their values stay.

    Few rows, as in sampling, are multiplied 1.2 to 2 times as fast then: the product need not turn the weights first.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and layer.weight.device.type == "cpu" and layer.weight.stride(0) != 1:
            layer.weight.data = layer.weight.data.t().contiguous().t()


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer: attention, then a GELU feed-forward."""

    def __init__(self, hidden_size: int, num_heads: int, intermediate_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size)
        self.attention = SelfAttention(hidden_size, num_heads, dropout)
        self.norm2 = nn.LayerNorm(hidden_size)
        self.fc1 = nn.Linear(hidden_size, intermediate_size)
        self.fc2 = nn.Linear(intermediate_size, hidden_size)
        self.drop = nn.Dropout(dropout)

    def forward(
        self, x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`x`: `(B, T, D)`; see `SelfAttention.forward`."""
        attended = self.attention(self.norm1(x), angles, mask)
        x = x + (self.drop(attended) if self.training else attended)
        bent = self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return x + (self.drop(bent) if self.training else bent)


def convolve_and_normalise(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """`norm(conv(x))`; with fixed statistics as one convolution, since the norm then only scales and shifts.

    Two passes over a large picture less. Gradients reach the same parameters.

    Args:
        conv: Without a bias.
        norm: Its batch norm, in training or evaluation mode.
        x: `(B, C, H, W)`.
    """
    if norm.training:
        return norm(conv(x))
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # type: ignore[operator]
    shift = norm.bias - norm.running_mean * scale  # type: ignore[operator]
    return F.conv2d(x, conv.weight * scale[:, None, None, None], shift, conv.stride, conv.padding)


class ConvBlock(nn.Module):
    """3×3 convolution, batch norm, ReLU; a stride makes it a down-sampling step."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int] = (1, 1), act: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H / stride, W / stride)`."""
        x = convolve_and_normalise(self.conv, self.norm, x)
        return F.relu(x) if self.act else x


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions around a skip (ResNet, arXiv 1512.03385, figure 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvBlock(channels, channels)
        self.conv2 = ConvBlock(channels, channels, act=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`(B, channels, H, W)` to the same shape."""
        return F.relu(x + self.conv2(self.conv1(x)))
