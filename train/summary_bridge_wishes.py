"""Stage `wishes` of SummaryBridge: fits `modeling.text_wishes` to a pack, beside a bridge that stays as it is.

The plans' part and the pictures' part (`summary_bridge_pictures`) are worked out in closed form; the network that reads
what is stated takes minutes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..modeling.museformer_measures import CENTRES, MEASURES, SPREADS
from ..modeling.text_wishes import NUM_KEYS, WISHES, TextWishes
from ..processing.errors import InputError
from ..processing.music_wishes import QUARTILES, UNMARKED_DYNAMICS, side_strength
from .summary_bridge_data import ATTRIBUTE_NAMES, BridgeWindows
from .summary_bridge_pictures import MOST_IMAGES, fit_pictures, pictures_of

#: Ridges of the line from plans to attributes and back.
PROBE_RIDGE, MOVE_RIDGE = 1e-4, 1e-3


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


# --- What is stated ---------------------------------------------------------------------------------------------------


def wish_loss(read: torch.Tensor, stated: torch.Tensor, values: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of what is stated and of the key, squared error of the values that are stated."""
    count = len(WISHES)
    loss = F.binary_cross_entropy_with_logits(read[:, :count], stated)
    loss = loss + ((read[:, count : 2 * count] - values) ** 2 * stated).sum() / stated.sum().clamp(min=1)
    return loss + 0.3 * F.cross_entropy(read[:, 2 * count :], key)


def fit_reader(
    wishes: TextWishes, statistics: Any, data: Any, captions: Any, values: np.ndarray,
    epochs: float, batch_size: int = 384, learning_rate: float = 3e-3, dropout: float = 0.15,
) -> float:  # fmt: skip
    """Trains the network on captions that state something; returns the last losses' mean.

    Args:
        wishes: What is trained.
        statistics: Of the bridge.
        data: Texts: a pack (`BridgeWindows`), or what has its `pooled`, `rows`, `places` and `mask`.
        captions: `_Captions`, or what has their `text`, `window`, `picture`, `stated` and `key`.
        values: `wish_values` of the windows.
        epochs, batch_size, learning_rate, dropout: Of the training.
    """
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


def with_wishes(
    model: Any, data: BridgeWindows, size: int, epochs: float, seed: int = 0, encode: Any = None, second: Any = None
) -> Any:
    """A bridge like the one given, with the same weights, that also moves its plans to what texts want.

    Args:
        model: `SummaryBridgeModel`, with or without wishes.
        data: Training split of its pack.
        size: Width of the network that reads what is stated.
        epochs: Passes of it over the captions.
        seed: Of its weights and draws.
        encode: The pack's text encoder, texts to `EncodedTexts`; without it, images are learnt from captions.
        second: Another text encoder, texts to `(N, T2)` or to `None`; images are compared by it, too.

    Raises:
        InputError: The pack is of another kind of summaries, or has no images.
    """
    captions = _Captions(data)
    pictures = pictures_of(model.statistics, data, captions, encode, second)
    images = len(pictures.names())
    if not images:
        raise InputError(data.folder, "has no captions of images; make the pack with more windows")
    if data.summary_size < len(MEASURES):
        raise InputError(data.folder, f"has summaries of {data.summary_size} numbers; {len(MEASURES)} are measured")
    torch.manual_seed(seed)
    sizes = {"wish_size": size, "wish_images": min(images, MOST_IMAGES)}
    sizes["second_text_size"] = 0 if pictures.second is None else pictures.second.shape[1]
    config = type(model.config)(**{**model.config.to_dict(), **sizes})
    found = type(model)(config).float()
    found.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("wishes.")}, strict=False)
    statistics, wishes = found.statistics, found.wishes
    raw = np.stack([data.summaries_of(k).mean(0) for k in range(len(data.windows))])
    means = statistics.whiten(torch.from_numpy(raw)).numpy().astype(np.float64)
    values = wish_values(np.asarray(data.values))
    fit_plans(wishes, means, raw.astype(np.float64), values)
    fit_pictures(wishes, pictures, seed)
    if epochs > 0:
        loss = fit_reader(wishes, statistics, data, captions, values, epochs)
        print(f"wishes are read with a loss of {loss:.3f}; {images} images and languages")
    return found.eval()


def keep_with_wishes(
    folder: str | Path, model: Any, data: BridgeWindows, size: int, epochs: float, seed: int, encode: Any = None,
    second: Any = None,
) -> Any:  # fmt: skip
    """`with_wishes`, kept in a folder in the model's own precision."""
    found = with_wishes(model, data, size, epochs, seed, encode, second)
    kept = getattr(torch, str(model.config.dtype or "float32").removeprefix("torch."), torch.float32)
    found.to(kept).save_pretrained(folder)
    return found.float()


__all__ = ["fit_plans", "fit_reader", "keep_with_wishes", "wish_loss", "wish_values", "with_wishes"]
