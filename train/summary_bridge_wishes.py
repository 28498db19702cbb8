"""Stage `wishes` of SummaryBridge: fits `modeling.text_wishes` to a pack, beside a bridge that stays as it is.

The plans' part and the pictures' part are worked out in closed form; the network that reads what is stated takes
minutes. Images are those of the lexicon's training split, in its own words; those of others are never read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..datasets_scripts.caption_words import LANGUAGES
from ..datasets_scripts.imagery import load_lexicon
from ..modeling.museformer_measures import CENTRES, MEASURES, SPREADS
from ..modeling.text_wishes import NUM_KEYS, WISHES, TextWishes
from ..processing.errors import InputError
from ..processing.music_wishes import QUARTILES, UNMARKED_DYNAMICS, side_strength
from .summary_bridge_data import ATTRIBUTE_NAMES, BridgeWindows

#: Ridges: of the line from plans to attributes and back, of the gate, of the kernel over images.
PROBE_RIDGE, MOVE_RIDGE, GATE_RIDGE, IMAGE_RIDGE = 1e-4, 1e-3, 0.1, 2.0
#: How much of the spread between images is left where wordings of one image differ; width of the kernel.
WORDING_FLOOR, KERNEL_WIDTH = 5.0, 0.5
#: Sides that a picture suggests are scaled until the usual one among training images is so many quartiles from the
#: median, and end at the first: most are moved that far, for music that is moved half as far keeps fewer of them.
PUSH = 4.0


def wish_values(values: np.ndarray) -> np.ndarray:
    """Measurements `(W, A)` in quartiles from the median `(W, 7)`; tempo as Museformer measures it, NaN for nothing."""
    found = np.full((len(values), len(WISHES)), np.nan)
    for column, name in enumerate(WISHES):
        seen = values[:, ATTRIBUTE_NAMES.index(name)].astype(np.float64)
        if name == "tempo":
            found[:, column] = in_measure(seen)
        elif name == "mode":
            found[:, column] = seen
        else:
            found[:, column] = [np.nan if (s := side_strength(name, x)) is None else s for x in seen.tolist()]
        if name == "dynamics":
            found[np.abs(seen - UNMARKED_DYNAMICS) < 0.05, column] = np.nan
    return found


def in_measure(tempo: Any) -> Any:
    """Quarters a minute as Museformer's measure of them."""
    place = MEASURES.index("tempo")
    return (np.log2(np.maximum(tempo, 1.0) / 120) - CENTRES[place]) / SPREADS[place]


class _Captions:
    """Captions of a pack with what they state and suggest."""

    def __init__(self, data: BridgeWindows) -> None:
        path = data.folder / "captions.jsonl"
        try:
            with path.open(encoding="utf-8") as file:
                told = [json.loads(line) for line in file]
        except (OSError, ValueError):
            raise InputError(path, "can not be read; make the pack again with --stage pack") from None
        self.text = np.asarray(data.texts, dtype=np.int64)
        self.window = np.array([one["window"] for one in told])
        self.picture = np.array([{"imagery": 1.0, "mixed": 0.5}.get(one["kind"], 0.0) for one in told])
        self.image = [(one["image"], one["language"]) for one in told]
        self.sides = np.array([[one["sides"].get(name, 0) for name in WISHES] for one in told], dtype=np.float64)
        states = [[name in one["stated"] for name in WISHES] for one in told]
        self.stated = np.array(states, dtype=np.float32)
        self.stated[:, 0] = [
            one_states[0] or "bpm" in one["stated"] for one_states, one in zip(states, told, strict=True)
        ]
        self.key = np.array([one["stated"]["key"][0] + 1 if "key" in one["stated"] else 0 for one in told])


# --- Closed forms -----------------------------------------------------------------------------------------------------


def _solve(a: np.ndarray, b: np.ndarray, ridge: float) -> np.ndarray:
    """Ridge regression of `b` on `a` and 1."""
    x = np.concatenate([a, np.ones((len(a), 1))], axis=1)
    return np.linalg.solve(x.T @ x + ridge * len(x) * np.eye(x.shape[1]), x.T @ b)


def fit_plans(wishes: TextWishes, means: np.ndarray, raw: np.ndarray, values: np.ndarray) -> None:
    """How plans and what is measured go together.

    Args:
        wishes: What is fitted.
        means: Mean plans of windows, whitened `(W, Z)`.
        raw: The same in Museformer's units.
        values: `wish_values` of the windows.
    """
    six = values[:, :-1]
    usual = np.where(np.isnan(six).all(0), 0.0, np.nanmean(np.where(np.isnan(six).all(0), 0.0, six), axis=0))
    six = np.where(np.isnan(six), usual, six)
    probe, moves = _solve(means, six, PROBE_RIDGE), _solve(six, means, MOVE_RIDGE)[:-1]
    moves = np.linalg.lstsq(moves @ probe[:-1], moves, rcond=1e-4)[0]  # each changes one attribute alone
    first = MEASURES.index("pitch_class_0")
    shares = raw[:, first : first + NUM_KEYS] * SPREADS[first] + CENTRES[first]
    quartiles = np.array([[-1.0, 0.0, 1.0]] * (len(WISHES) - 1))
    quartiles[0] = in_measure(np.array(QUARTILES["tempo"]))
    found = {"probe": probe, "moves": moves, "quartiles": quartiles, "profiles": _profiles(shares, values[:, -1])}
    for name, value in found.items():
        getattr(wishes, name).copy_(torch.from_numpy(value))


def _profiles(shares: np.ndarray, mode: np.ndarray) -> np.ndarray:
    """Mean shares of pitch classes of major and of minor music, turned to C by the profiles of Krumhansl."""
    from ..processing.music_attributes import MAJOR_PROFILE, MINOR_PROFILE

    found = []
    for known, weights in ((mode > 0, MAJOR_PROFILE), (mode < 0, MINOR_PROFILE)):
        mine, profile = shares[known], np.asarray(weights, dtype=np.float64)
        turned = np.stack([np.roll(profile - profile.mean(), k) for k in range(NUM_KEYS)])
        tonics = ((mine - mine.mean(1, keepdims=True)) @ turned.T).argmax(1)
        rows = [np.roll(row, -tonic) for row, tonic in zip(mine, tonics, strict=True)]
        found.append(np.mean(rows, axis=0) if rows else np.full(NUM_KEYS, 1 / NUM_KEYS))
    return np.stack(found)


def fit_pictures(wishes: TextWishes, pooled: np.ndarray, picture: np.ndarray, image: Any, sides: np.ndarray) -> None:
    """The gate, and the kernel ridge over images.

    Each image counts once in each language, by the mean of its wordings. Directions in which wordings of one image
    differ say nothing of it and are made small first, as speaker recognition does (A. Hatch, S. Kajarekar, A. Stolcke,
    Interspeech 2006).

    Args:
        wishes: What is fitted.
        pooled: Different texts around 0, `(N, T)`.
        picture: How much of a picture each is, `(N,)`.
        image: Image and language of each.
        sides: `(N, 7)`.
    """
    wishes.gate.copy_(torch.from_numpy(_solve(pooled, picture[:, None], GATE_RIDGE)[:, 0]))
    mine = np.flatnonzero(picture == 1)
    names = sorted({image[k] for k in mine})
    if len(names) != len(wishes.centres):
        raise InputError(None, f"there are {len(names)} images, the model has room for {len(wishes.centres)}")
    place = {name: number for number, name in enumerate(names)}
    group = np.array([place[image[k]] for k in mine])
    middle = pooled[mine].mean(0)
    x = pooled[mine] - middle
    centres, wanted = np.zeros((len(names), x.shape[1])), np.zeros((len(names), len(WISHES)))
    np.add.at(centres, group, x)
    centres /= np.bincount(group)[:, None]
    wanted[group] = sides[mine]
    within = (x - centres[group]).T @ (x - centres[group]) / len(x)
    values, vectors = np.linalg.eigh(
        within + WORDING_FLOOR * max(np.trace(within) / len(within), 1e-6) * np.eye(len(within))
    )
    spread = (vectors * values**-0.5) @ vectors.T
    centres = centres @ spread
    reach = KERNEL_WIDTH * (centres**2).sum(1).mean()
    spread, centres = spread / np.sqrt(reach), centres / np.sqrt(reach)  # near 1, so that they can be kept in float16
    near = np.exp(-_gaps(centres) / 2)
    suggests = np.linalg.solve(near + IMAGE_RIDGE * np.eye(len(near)), wanted)
    suggests *= PUSH / np.sqrt(((near @ suggests) ** 2).mean(0) + 1e-12)
    found = {"centres": centres, "middle": middle, "spread": spread, "suggests": suggests}
    for name, value in found.items():
        getattr(wishes, name).copy_(torch.from_numpy(value))


def _gaps(x: np.ndarray) -> np.ndarray:
    """Squared distances between rows."""
    squares = (x**2).sum(1)
    return np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0)


# --- What is stated ---------------------------------------------------------------------------------------------------


def wish_loss(read: torch.Tensor, stated: torch.Tensor, values: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of what is stated and of the key, squared error of the values that are stated."""
    count = len(WISHES)
    loss = F.binary_cross_entropy_with_logits(read[:, :count], stated)
    loss = loss + ((read[:, count : 2 * count] - values) ** 2 * stated).sum() / stated.sum().clamp(min=1)
    return loss + 0.3 * F.cross_entropy(read[:, 2 * count :], key)


def fit_reader(
    wishes: TextWishes, statistics: Any, data: BridgeWindows, captions: _Captions, values: np.ndarray,
    epochs: float, batch_size: int = 384, learning_rate: float = 3e-3, dropout: float = 0.15,
) -> float:  # fmt: skip
    """Trains the network on captions that state something; returns the last losses' mean."""
    rows = torch.from_numpy(np.flatnonzero(captions.picture < 1))
    known = ~np.isnan(values)
    targets = torch.from_numpy(np.nan_to_num(values)).float()
    stated = torch.from_numpy(captions.stated * known[captions.window]).float()
    key, window, text = (torch.from_numpy(x) for x in (captions.key, captions.window, captions.text))
    pooled = statistics.pooled(torch.from_numpy(np.array(data.pooled)))
    words = statistics.embed(torch.from_numpy(np.array(data.rows)))
    places, mask = (torch.from_numpy(np.array(x)).long() for x in (data.places, data.mask))
    wishes.requires_grad_(True)
    optimizer = torch.optim.AdamW(wishes.parameters(), learning_rate, weight_decay=0.05)
    steps = max(int(epochs * len(rows) / min(batch_size, len(rows))), 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps + 1, pct_start=0.1)
    late: list[float] = []
    for step in range(steps):
        few = rows[torch.randint(len(rows), (min(batch_size, len(rows)),))]
        t = text[few]
        read = wishes.read(words[places[t]], pooled[t], mask[t], dropout)
        loss = wish_loss(read, stated[few], targets[window[few]], key[few])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(wishes.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        late += [loss.item()] if step >= 0.9 * steps else []
    wishes.requires_grad_(False)
    return sum(late) / max(len(late), 1)


# --- All together -----------------------------------------------------------------------------------------------------


def pictures_of(statistics: Any, data: BridgeWindows, captions: _Captions, encode: Any) -> tuple[Any, ...]:
    """Different texts around 0, how much of a picture each is, image and language, and sides; see `fit_pictures`.

    With `encode`, images come from the lexicon as they are; captions of them, which put words around them, are left
    out. Without, captions are all there is.
    """
    _, once = np.unique(captions.text, return_index=True)
    once = once if encode is None else once[captions.picture[once] < 1]
    pooled = np.asarray(data.pooled[captions.text[once]], dtype=np.float32)
    picture, sides, image = captions.picture[once], captions.sides[once], [captions.image[k] for k in once]
    if encode is not None:
        images = [image for image in load_lexicon() if image.split == "train"]
        found = [(i, k, text) for i in images for k in LANGUAGES for text in i.phrases(k)]
        pooled = np.concatenate([pooled, encode([text for _, _, text in found]).pooled])
        picture = np.concatenate([picture, np.ones(len(found))])
        sides = np.concatenate([sides, [[i.sides.get(name, 0) for name in WISHES] for i, _, _ in found]])
        image += [(i.id, language) for i, language, _ in found]
    return statistics.pooled(torch.from_numpy(pooled)).numpy().astype(np.float64), picture, image, sides


def with_wishes(model: Any, data: BridgeWindows, size: int, epochs: float, seed: int = 0, encode: Any = None) -> Any:
    """A bridge like the one given, with the same weights, that also moves its plans to what texts want.

    Args:
        model: `SummaryBridgeModel`, with or without wishes.
        data: Training split of its pack.
        size: Width of the network that reads what is stated.
        epochs: Passes of it over the captions.
        seed: Of its weights and draws.
        encode: The pack's text encoder, texts to `EncodedTexts`; without it, images are learnt from captions.

    Raises:
        InputError: The pack is of another kind of summaries, or has no images.
    """
    captions = _Captions(data)
    pictures = pictures_of(model.statistics, data, captions, encode)
    images = {pictures[2][k] for k in np.flatnonzero(pictures[1] == 1)}
    if not images:
        raise InputError(data.folder, "has no captions of images; make the pack with more windows")
    if data.summary_size < len(MEASURES):
        raise InputError(data.folder, f"has summaries of {data.summary_size} numbers; {len(MEASURES)} are measured")
    torch.manual_seed(seed)
    config = type(model.config)(**{**model.config.to_dict(), "wish_size": size, "wish_images": len(images)})
    found = type(model)(config).float()
    found.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("wishes.")}, strict=False)
    statistics, wishes = found.statistics, found.wishes
    raw = np.stack([data.summaries_of(k).mean(0) for k in range(len(data.windows))])
    means = statistics.whiten(torch.from_numpy(raw)).numpy().astype(np.float64)
    values = wish_values(np.asarray(data.values))
    fit_plans(wishes, means, raw.astype(np.float64), values)
    fit_pictures(wishes, *pictures)
    if epochs > 0:
        loss = fit_reader(wishes, statistics, data, captions, values, epochs)
        print(f"wishes are read with a loss of {loss:.3f}; {len(images)} images and languages")
    return found.eval()


def keep_with_wishes(
    folder: str | Path, model: Any, data: BridgeWindows, size: int, epochs: float, seed: int, encode: Any = None
) -> Any:
    """`with_wishes`, kept in a folder in the model's own precision."""
    found = with_wishes(model, data, size, epochs, seed, encode)
    kept = getattr(torch, str(model.config.dtype or "float32").removeprefix("torch."), torch.float32)
    found.to(kept).save_pretrained(folder)
    return found.float()


__all__ = ["fit_pictures", "fit_plans", "fit_reader", "keep_with_wishes", "wish_loss", "wish_values", "with_wishes"]
