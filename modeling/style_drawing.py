"""How a picture is drawn, measured at its pixels: widths of lines and gaps, corners, edges, tones, colours.

A backbone made for photographs halves the picture at its first layer and blurs what tells one set of icons from
another: a line of 13 pixels from one of 15. Mathematical morphology measures it: how much ink is left when all that is
narrower than so many pixels is taken away (granulometry; Matheron 1975, and Maragos 1989, "Pattern spectrum and
multiscale shape representation"). How sharply lines turn is in the structure tensor (Foerstner and Guelch 1987).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

ERODED = tuple(range(1, 11))
OPENED = (1, 2, 3, 4, 5, 6, 7, 8, 10)
CLOSED = (1, 2, 3, 4, 6, 8)
WINDOWS = (3, 5, 7)  # in pixels of half the size
TONES = 8
#: Numbers that are measured of a picture.
DRAWING_SIZE = 14 + len(ERODED) + len(OPENED) + len(CLOSED) + 3 + 3 * len(WINDOWS) + TONES - 1 + 2
_TINY = 1e-4
_Choose = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _beside(x: torch.Tensor, choose: _Choose, dim: int, onto: torch.Tensor) -> torch.Tensor:
    """Each pixel of `onto` or the neighbours of `x` along a side, whichever `choose` takes, in place."""
    size = x.shape[dim]
    if size > 1:
        for here, there in ((1, 0), (0, 1)):
            place = onto.narrow(dim, here, size - 1)
            place.copy_(choose(place, x.narrow(dim, there, size - 1)))
    return onto


def _step(x: torch.Tensor, choose: _Choose, square: bool) -> torch.Tensor:
    """A pixel with its neighbours: all eight, or the four that share a side."""
    rows = _beside(x, choose, -1, x.clone())
    return _beside(rows, choose, -2, rows.clone()) if square else _beside(x, choose, -2, rows)


def _steps(x: torch.Tensor, choose: _Choose, count: int) -> list[torch.Tensor]:
    """What `count` steps lead to, and all before; crosses and squares in turn come close to circles."""
    found = [x]
    for number in range(count):
        found.append(_step(found[-1], choose, square=number % 2 == 1))
    return found


def _box(x: torch.Tensor, size: int) -> torch.Tensor:
    """Means over squares, which at the edges are smaller."""
    return F.avg_pool2d(x, size, 1, size // 2, count_include_pad=False)


def _widths(ink: torch.Tensor, total: torch.Tensor) -> list[torch.Tensor]:
    """Ink that is left after erosion, opening and closing, in parts of all: `(B, 25)` in all."""
    grey = (ink * 255).to(torch.uint8)
    mean = lambda x: x.float().mean((1, 2)) / 255  # noqa: E731
    eroded = _steps(grey, torch.minimum, max(ERODED + OPENED))
    dilated = _steps(grey, torch.maximum, max(CLOSED))
    out = [mean(eroded[radius]) / total for radius in ERODED]
    out += [mean(_steps(eroded[radius], torch.maximum, radius)[-1]) / total for radius in OPENED]
    out += [mean(_steps(dilated[radius], torch.minimum, radius)[-1]) / total - 1 for radius in CLOSED]
    return out


def _edges(ink: torch.Tensor, total: torch.Tensor) -> list[torch.Tensor]:
    """How long and sharp edges are, and how they turn: `(B, 12)` in all."""
    padded = F.pad(ink[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    right = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    squared = right.square() + down.square()
    length = squared.sqrt().mean((1, 2)).clamp(min=_TINY)
    out = [length / total, squared.mean((1, 2)) / length, squared.square().mean((1, 2)) / length]
    tensor = torch.stack([right.square(), down.square(), right * down], dim=1)
    tensor = F.avg_pool2d(tensor, 2, ceil_mode=True)
    for size in WINDOWS:
        a, b, c = _box(tensor, size).unbind(1)
        trace = a + b
        one_way = ((a - b).square() + 4 * c.square()).sqrt() / (trace + _TINY**2)
        all_of_it = trace.mean((1, 2)).clamp(min=_TINY**2)
        out.append((a * b - c.square()).clamp(min=0).sqrt().mean((1, 2)) / length)
        out += [(one_way**power * trace).mean((1, 2)) / all_of_it for power in (1, 4)]
    return out


@torch.no_grad()
def drawing_measures(pixel_values: torch.Tensor) -> torch.Tensor:
    """What pictures are drawn like.

    Args:
        pixel_values: `(B, 3, H, W)`, as a backbone takes them; any line of values per colour will do.

    Returns:
        `(B, DRAWING_SIZE)` float32: background, how far ink is from it, how much ink there is; its colours, their
        spread, how bright they are; ink left after erosion, opening, closing; edges; tones; how wide and high the
        drawing is. A picture does not see the others of its batch.
    """
    x = pixel_values.float()
    border = torch.cat([x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]], dim=-1)
    ground = border.median(-1).values  # (B, 3)
    apart = (x - ground[:, :, None, None]).abs().amax(1)  # (B, H, W)
    most = apart.amax((1, 2)).clamp(min=1e-3)
    ink = (apart / most[:, None, None]).clamp(0, 1)
    total = ink.mean((1, 2)).clamp(min=_TINY)
    share = ink / ink.sum((1, 2), keepdim=True).clamp(min=1e-3)
    mean = (x * share[:, None]).sum((2, 3))
    spread = ((x - mean[:, :, None, None]).square() * share[:, None]).sum((2, 3)).sqrt()
    bright = x.amax(1) - x.amin(1)
    out = [*ground.unbind(1), most, ink.mean((1, 2)), ink.flatten(1).std(1, correction=0)]
    out += [*mean.unbind(1), *spread.unbind(1), (bright * share).sum((1, 2)), bright.flatten(1).std(1, correction=0)]
    out += _widths(ink, total) + _edges(ink, total)
    tone = (ink * TONES).long().clamp(max=TONES - 1)
    counts = torch.stack([(tone == number).sum((1, 2)) for number in range(1, TONES)]).float()  # (7, B)
    out += list(counts / counts.sum(0).clamp(min=1))
    there = ink > 0.1
    out += [there.any(2).float().mean(1), there.any(1).float().mean(1)]
    return torch.stack(out, dim=1)


__all__ = ["DRAWING_SIZE", "drawing_measures"]
