"""What pictures in words suggest, fitted in closed form: the pictures' part of `summary_bridge_wishes`.

Images are those of the training split of the lexicon and of `imagery_sides.tsv`, in their own words; those of the other
splits are never read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..datasets_scripts.caption_words import LANGUAGES
from ..datasets_scripts.imagery import load_lexicon, load_sides
from ..modeling.text_wishes import WISHES, PictureSides, TextWishes
from ..processing.errors import InputError

#: Ridges: of the gate, of the kernel over images.
GATE_RIDGE, IMAGE_RIDGE = 0.1, 2.0
#: How much pictures weigh in the gate beside all other texts: there are far more of them than people ask for.
GATE_PICTURES = 0.3
#: How much of the spread between images is left where wordings of one image differ; width of the kernel.
WORDING_FLOOR, KERNEL_WIDTH = 5.0, 0.5
#: Sides that a picture suggests are scaled until the usual one among training images is so many quartiles from the
#: median, and end at the first: most are moved that far, for music that is moved half as far keeps fewer of them.
PUSH = 4.0
#: Texts of images that are kept to compare others with, at most; what all of them say goes into these.
MOST_IMAGES = 6000


@dataclass
class Pictures:
    """Different texts, and what is known of those that are pictures.

    Attributes:
        pooled: `(N, T)` around 0.
        picture: `(N,)` how much of a picture each is, 0 … 1.
        image: Image and language of each.
        sides: `(N, 7)` −1, 0, 1.
        second: `(K, T2)` what another text encoder says of the K texts that are pictures wholly; `None`: none is there.
    """

    pooled: np.ndarray
    picture: np.ndarray
    image: Sequence[tuple[str, str]]
    sides: np.ndarray
    second: np.ndarray | None = None

    @property
    def wholly(self) -> np.ndarray:
        """Numbers of texts that are pictures wholly."""
        return np.flatnonzero(self.picture == 1)

    def names(self) -> list[tuple[str, str]]:
        """Images and languages of pictures, each once."""
        return sorted({self.image[k] for k in self.wholly})


def pictures_of(
    statistics: Any, data: Any, captions: Any, encode: Any = None, second: Callable[[list[str]], Any] | None = None
) -> Pictures:
    """Texts of a pack and of the images.

    Args:
        statistics: Of the bridge.
        data: Training split of its pack.
        captions: Its captions, with what they state and suggest.
        encode: The pack's text encoder, texts to `EncodedTexts`. With it images come as they are written; captions of
            them, which put words around them, are left out. Without it captions are all there is.
        second: Another text encoder, texts to `(N, T2)`, or to `None` where it can not be loaded.
    """
    _, once = np.unique(captions.text, return_index=True)
    once = once if encode is None else once[captions.picture[once] < 1]
    pooled = np.asarray(data.pooled[captions.text[once]], dtype=np.float32)
    picture, sides, image = captions.picture[once], captions.sides[once], [captions.image[k] for k in once]
    other = None
    if encode is not None:
        images = [image for image in (*load_lexicon(), *load_sides()) if image.split == "train"]
        found = [(i, k, text) for i in images for k in LANGUAGES for text in i.phrases(k)]
        texts = [text for _, _, text in found]
        pooled = np.concatenate([pooled, encode(texts).pooled])
        picture = np.concatenate([picture, np.ones(len(found))])
        sides = np.concatenate([sides, [[i.sides.get(name, 0) for name in WISHES] for i, _, _ in found]])
        image += [(i.id, language) for i, language, _ in found]
        other = second(texts) if second else None
    around = statistics.pooled(torch.from_numpy(pooled)).numpy().astype(np.float64)
    return Pictures(around, picture, image, sides, None if other is None else np.asarray(other, dtype=np.float64))


def fit_pictures(wishes: TextWishes, pictures: Pictures, seed: int = 0) -> None:
    """The gate, and what pictures suggest by each encoder.

    Args:
        wishes: What is fitted.
        pictures: To learn from.
        seed: Which texts are kept, where there are more than there is room for.

    Raises:
        InputError: There are fewer images than the model has room for.
    """
    others = pictures.picture < 1
    weight = np.ones(len(others))
    if others.any():
        weight[~others] = GATE_PICTURES / (1 - GATE_PICTURES) * others.sum() / max((~others).sum(), 1)
    root = np.sqrt(weight)[:, None]
    x = np.concatenate([pictures.pooled, np.ones((len(weight), 1))], axis=1) * root
    ridge = GATE_RIDGE * weight.sum() * np.eye(x.shape[1])
    gate = np.linalg.solve(x.T @ x + ridge, x.T @ (pictures.picture[:, None] * root))
    wishes.gate.copy_(torch.from_numpy(gate[:, 0]))
    rows = pictures.wholly
    image, sides = [pictures.image[k] for k in rows], pictures.sides[rows]
    fit_sides(wishes.pictures, pictures.pooled[rows], image, sides, seed)
    if wishes.second is not None and pictures.second is not None:
        fit_sides(wishes.second, pictures.second, image, sides, seed)


def fit_sides(
    kernel: PictureSides, pooled: np.ndarray, image: Sequence[tuple[str, str]], sides: np.ndarray, seed: int = 0
) -> None:
    """Kernel ridge over images.

    Each image counts once in each language, by the mean of its wordings. Directions in which wordings of one image
    differ say nothing of it and are made small first, as speaker recognition does (A. Hatch, S. Kajarekar, A. Stolcke,
    Interspeech 2006). Where there are more images than room, some are kept and the weights of those are fitted to all
    (Nyström's method: C. Williams, M. Seeger, NeurIPS 2000).

    Args:
        kernel: What is fitted.
        pooled: Texts `(K, T)`.
        image: Image and language of each.
        sides: `(K, 7)`.
        seed: Which are kept.

    Raises:
        InputError: There are fewer images than the model has room for.
    """
    names, room = sorted(set(image)), len(kernel.centres)
    if len(names) < room:
        raise InputError(None, f"there are {len(names)} images, the model has room for {room}")
    place = {name: number for number, name in enumerate(names)}
    group = np.array([place[name] for name in image])
    middle = pooled.mean(0)
    x = pooled - middle
    means, wanted = np.zeros((len(names), x.shape[1])), np.zeros((len(names), len(WISHES)))
    np.add.at(means, group, x)
    means /= np.bincount(group)[:, None]
    wanted[group] = sides
    within = (x - means[group]).T @ (x - means[group]) / len(x)
    values, vectors = np.linalg.eigh(
        within + WORDING_FLOOR * max(np.trace(within) / len(within), 1e-9) * np.eye(len(within))
    )
    spread = (vectors * values**-0.5) @ vectors.T
    means = means @ spread
    reach = KERNEL_WIDTH * (means**2).sum(1).mean()
    spread, means = spread / np.sqrt(reach), means / np.sqrt(reach)  # near 1, so that they can be kept in float16
    kept = np.sort(np.random.default_rng(seed).permutation(len(names))[:room])
    near, among = _near(means, means[kept]), _near(means[kept], means[kept])
    normal = near.T @ near + IMAGE_RIDGE * among
    suggests = np.linalg.solve(normal + 1e-9 * np.trace(normal) / room * np.eye(room), near.T @ wanted)
    suggests *= PUSH / np.sqrt(((near @ suggests) ** 2).mean(0) + 1e-12)
    found = {"centres": means[kept], "middle": middle, "spread": spread, "suggests": suggests}
    for name, value in found.items():
        getattr(kernel, name).copy_(torch.from_numpy(value))


def _near(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How near rows are, `exp(−d² / 2)`."""
    gaps = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.exp(-np.maximum(gaps, 0, out=gaps) / 2)


__all__ = ["MOST_IMAGES", "Pictures", "fit_pictures", "fit_sides", "pictures_of"]
