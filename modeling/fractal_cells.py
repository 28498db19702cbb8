"""Pure functions under FractalMidi: cells, patches, windows, mask schedules, and random numbers that follow keys.

Axes: `M` patches of one level, `n` = `R · C` children of a patch, `h × w` cells of a child. Children are numbered time
first: child `i` stands in row (pitch) `i % R` and column (time) `i // R`, so that what is earlier in time comes first.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F

FEATURES = 4  # numbers that describe a cell: unknown, sounding, onset, value above silence
_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, as a signed number
_MIX1, _MIX2 = -4658895280553007687, -7723592293110705685  # SplitMix64 (Steele et al. 2014, figure 17), signed


# --- Codes ------------------------------------------------------------------------------------------------------------


def codes_to_roll(codes: torch.Tensor, num_codes: int) -> torch.Tensor:
    """Codes `(B, P, T)` to a float roll `(B, 1, P, T)`: −1 is silence, 1 the loudest onset."""
    return (codes.to(torch.float32) * (2 / (num_codes - 1)) - 1).unsqueeze(1)


def roll_to_codes(roll: torch.Tensor, num_codes: int) -> torch.Tensor:
    """Float roll `(B, 1, P, T)` to the nearest codes `(B, P, T)`, int64; exact for what `codes_to_roll` gave.

    Raises:
        ValueError: A value outside [−1, 1], or not a number.
    """
    values = roll.squeeze(1).to(torch.float32)
    if not bool((values.abs() <= 1 + 1e-3).all()):
        raise ValueError("the roll holds values outside [-1, 1]; -1 is silence, 1 the loudest onset")
    return ((values + 1) * ((num_codes - 1) / 2)).round().clamp(0, num_codes - 1).long()


def cell_features(codes: torch.Tensor, num_codes: int, dtype: torch.dtype) -> torch.Tensor:
    """What a generator sees of cells: `(..., )` codes, `num_codes` = unknown, to `(..., FEATURES)`.

    An unknown cell has the value of silence (canvases start at −1) and is told apart by being unknown. Silence is all
    zeros: of thousands of cells around a patch, those with something to say are then not drowned by the others.
    """
    return F.embedding(codes, _feature_table(num_codes, dtype, codes.device))


@lru_cache(maxsize=16)
def _feature_table(num_codes: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """`(K + 1, FEATURES)`; sampling asks for it thousands of times."""
    with torch.inference_mode(False):  # what is kept must also do for training
        code = torch.arange(num_codes + 1, device=device)
        known = (code < num_codes).float()
        value = known * code * (2 / (num_codes - 1))
        return torch.stack([1 - known, known * (code > 0), known * (code > 1), value], dim=-1).to(dtype)


# --- Patches and windows ----------------------------------------------------------------------------------------------


def patchify(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """`(M, H, W)` to children `(M, n, h, w)`, time first."""
    count, height, width = x.shape
    h, w = size
    x = x.view(count, height // h, h, width // w, w)
    return x.permute(0, 3, 1, 2, 4).reshape(count, (height // h) * (width // w), h, w)


def unpatchify(x: torch.Tensor, rows: int) -> torch.Tensor:
    """Children `(M, n, h, w)` in `rows` rows back to `(M, H, W)`."""
    count, n, h, w = x.shape
    return x.view(count, n // rows, rows, h, w).permute(0, 2, 3, 1, 4).reshape(count, rows * h, n // rows * w)


def inside(view: torch.Tensor, margins: tuple[int, int]) -> torch.Tensor:
    """The patch itself out of a view with margins."""
    p, t = margins
    return view[:, p : view.shape[1] - p, t : view.shape[2] - t]


def fill_inside(view: torch.Tensor, interior: torch.Tensor, margins: tuple[int, int]) -> torch.Tensor:
    """A copy of the view with another interior."""
    view = view.clone()
    inside(view, margins).copy_(interior)
    return view


def crop_children(
    view: torch.Tensor,
    m: torch.Tensor,
    i: torch.Tensor,
    size: tuple[int, int],
    margins: tuple[int, int],
    child_margins: tuple[int, int],
) -> torch.Tensor:
    """Windows around single children.

    Args:
        view: `(M, H + 2p, W + 2t)`, patches with their margins.
        m, i: `(J,)` patch and child of each window.
        size: Of a child.
        margins: Around the patch.
        child_margins: Wanted around the child, not wider than those of the patch.

    Returns:
        `(J, h + 2p', w + 2t')`.
    """
    (h, w), (p, t) = size, child_margins
    view = inside(view, (margins[0] - p, margins[1] - t))
    windows = view.unfold(1, h + 2 * p, h).unfold(2, w + 2 * t, w)  # (M, R, C, h', w'), nothing copied yet
    rows = windows.shape[1]
    return windows[m, i % rows, i // rows]


def neighbour_index(i: torch.Tensor, grid: tuple[int, int], offsets: tuple[tuple[int, int], ...]) -> torch.Tensor:
    """`(J,)` children to `(J, len(offsets))`: which child lies (rows, columns) away; `n` where there is none."""
    rows, columns = grid
    step = torch.tensor(offsets, device=i.device)  # (K, 2)
    row, column = (i % rows)[:, None] + step[:, 0], (i // rows)[:, None] + step[:, 1]
    there = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    return torch.where(there, column * rows + row, rows * columns)


# --- Random numbers that follow keys ----------------------------------------------------------------------------------


def _signed(number: int) -> int:
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix(z: torch.Tensor) -> torch.Tensor:
    z = (z ^ ((z >> 30) & ((1 << 34) - 1))) * _MIX1
    z = (z ^ ((z >> 27) & ((1 << 37) - 1))) * _MIX2
    return z ^ ((z >> 31) & ((1 << 33) - 1))


def child_keys(keys: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
    """Keys of children `i` of patches with `keys`, both `(J,)` int64."""
    return _mix(keys * 3 + (i + 1) * _GOLDEN)


def uniform(keys: torch.Tensor, count: int, salt: int) -> torch.Tensor:
    """`(M,)` keys to `(M, count)` numbers in (0, 1), float32: the same for the same key and salt.

    A patch draws from its own key, so a roll does not depend on the rolls that are made beside it.
    """
    step = torch.arange(1, count + 1, device=keys.device) * _GOLDEN
    salted = _signed(salt * _MIX2)
    bits = _mix(_mix(keys[:, None] + step) + salted)
    return (((bits >> 40) & ((1 << 24) - 1)).float() + 0.5) / (1 << 24)


def systematic_draw(weights: torch.Tensor, count: int, start: float) -> torch.Tensor:
    """`count` indices, each drawn `count · weight / sum` times on average, evenly over the list.

    Args:
        weights: `(M,)`, not negative.
        count: How many to draw, with replacement.
        start: In [0, 1); drawn evenly it makes the draw unbiased.
    """
    total = weights.double().cumsum(0)
    points = (torch.arange(count, device=weights.device, dtype=torch.float64) + start) * (total[-1] / count)
    return torch.searchsorted(total, points, right=True).clamp(max=len(weights) - 1)


# --- Mask schedules ---------------------------------------------------------------------------------------------------


def still_masked(counts: torch.Tensor, step: int, steps: int) -> torch.Tensor:
    """How many of `counts` children stay masked after step `step` (from 0) of `steps`.

    The cosine of MaskGIT (arXiv 2202.04200, section 3.3), so that the first steps, which know least, decide least. With
    as many steps as children (or more) one is decided at a time.
    """
    if step + 1 >= steps:
        return torch.zeros_like(counts)
    part = math.cos(math.pi / 2 * (step + 1) / steps)
    one_by_one = (counts - step - 1).clamp(min=0)
    return torch.where(counts <= steps, one_by_one, torch.floor(counts * part).to(counts.dtype))


def ranks(noise: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """Place of each candidate in the order of its noise, `(M, n)`; others get places behind all candidates."""
    order = noise.masked_fill(~candidates, 2.0).argsort(dim=1)
    places = torch.arange(noise.shape[1], device=noise.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


# --- Distributions ----------------------------------------------------------------------------------------------------


def class_probabilities(
    logits: torch.Tensor, temperature: float = 1.0, sparsity_bias: float = 0.0, top_p: float = 1.0
) -> torch.Tensor:
    """Logits `(..., K)` to probabilities, float32; class 0 is silence (or an empty patch).

    Args:
        logits: Already clamped; −inf rules a class out.
        temperature: Divides the logits; 0 leaves the most likely class alone.
        sparsity_bias: Added to the logit of silence.
        top_p: Keep the most likely classes that reach this mass together (nucleus).
    """
    if sparsity_bias:
        logits = torch.cat([logits[..., :1] + sparsity_bias, logits[..., 1:]], dim=-1)
    logits = logits.float() if temperature == 1.0 else logits.float() / max(temperature, 1e-8)
    probabilities = torch.softmax(logits, dim=-1)
    if top_p < 1.0:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        ordered = ordered * (ordered.cumsum(-1) - ordered < top_p)
        probabilities = torch.zeros_like(probabilities).scatter_(-1, order, ordered)
    return probabilities / (probabilities.sum(-1, keepdim=True) + 1e-12)


def pick(probabilities: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Classes `(J,)` out of `(J, K)` probabilities and uniform numbers `(J,)`; never one of probability 0."""
    total = probabilities.double().cumsum(-1)
    chosen = (total <= u[:, None].double() * total[:, -1:]).sum(-1)
    return chosen.clamp(max=probabilities.shape[-1] - 1)
