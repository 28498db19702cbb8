"""The small pictures of an ImageVQ with `codebook="patches"`: patches of systems, and k-means over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..modeling.quantizers import PatchQuantizer
from ..processing.grid_pictures import to_ink
from .image_vq_data import GridPictures

#: Steps of grey by which patches are told apart; finer ones differ by noise alone.
GREYS = 16


def collect_patches(pictures: GridPictures, systems: int, most: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Different patches of drawn systems, and how often each was seen.

    Args:
        pictures: Systems.
        systems: How many to look at.
        most: Different patches at most; the ones seen most often, and others by chance.
        seed: Of the draws.

    Returns:
        Ink `(N, high · wide)` in [0, 1], and counts `(N,)`.
    """
    from tqdm.auto import tqdm

    high, wide = pictures.geometry.patch_height, pictures.geometry.patch_width
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(pictures))[:systems]
    seen: dict[bytes, int] = {}
    for i in tqdm(order, desc="looking at patches", unit="system"):
        picture = pictures[int(i)]["picture"]
        if picture is None:
            continue
        grey = np.round(to_ink(picture) * (GREYS - 1)).astype(np.uint8)
        rows, columns = grey.shape[0] // high, grey.shape[1] // wide
        patches = grey.reshape(rows, high, columns, wide).swapaxes(1, 2).reshape(-1, high * wide)
        for patch in patches:
            key = patch.tobytes()
            seen[key] = seen.get(key, 0) + 1
    keys, counts = list(seen), np.fromiter(seen.values(), np.float32, len(seen))
    if len(keys) > most:
        chosen = np.argsort(-counts + draw.random(len(counts)))[:most]
        keys, counts = [keys[i] for i in chosen], counts[chosen]
    ink = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1).astype(np.float32) / (GREYS - 1)
    return torch.from_numpy(ink), torch.from_numpy(counts)


def fit_patches(
    model: Any,
    pictures: GridPictures,
    systems: int = 6000,
    most: int = 250_000,
    iterations: int = 12,
    power: float = 0.5,
    seed: int = 0,
) -> dict[str, float]:
    """Finds the small pictures of a model, which then are fixed.

    Args:
        model: `ImageVQModel` with `codebook="patches"`.
        pictures: Systems to learn from.
        systems, most: See `collect_patches`.
        iterations: Rounds of k-means.
        power: A patch counts as much as the times it was seen to this power: rare signs have their pictures, too.
        seed: Of the draws.

    Returns:
        `patches` that were different, and `error`, the mean squared difference of a patch from its code.
    """
    from tqdm.auto import tqdm

    assert isinstance(model.quantizer, PatchQuantizer)
    patches, counts = collect_patches(pictures, systems, most, seed)
    errors: list[float] = []
    with tqdm(total=iterations, desc="k-means", unit="round") as bar:

        def on_step(error: float) -> None:
            errors.append(error)
            bar.set_postfix(error=f"{error:.4f}")
            bar.update()

        model.quantizer.fit(patches, counts**power, iterations, torch.Generator().manual_seed(seed), on_step)
    return {"patches": float(len(patches)), "error": errors[-1] if errors else float("nan")}


__all__ = ["collect_patches", "fit_patches"]
