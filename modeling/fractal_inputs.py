"""What FractalMidi takes from outside, checked: each error is one line that says what is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..configuration.configuration_fractal_midi import FractalMidiConfig
from ..processing.errors import InputError
from .fractal_cells import pick, uniform

KEY, ROW = 21, 22  # salts of the keys, and of the rows of conditions, that are drawn


def check_roll(config: FractalMidiConfig, roll: torch.Tensor, device: Any) -> torch.Tensor:
    """A roll of the model's size on its device.

    Raises:
        InputError: It has another shape.
    """
    size = config.level_sizes[0]
    if roll.ndim != 4 or roll.shape[1] != 1 or tuple(roll.shape[2:]) != size:
        raise InputError(None, f"a roll of shape {tuple(roll.shape)}, but the model takes (B, 1, {size[0]}, {size[1]})")
    return roll.to(device)


def check_mask(config: FractalMidiConfig, mask: torch.Tensor, count: int, device: Any) -> torch.Tensor:
    """The mask as `(B, P, T)`; `(P, T)` and `(B or 1, 1, P, T)` are taken too.

    Raises:
        InputError: It has another shape, or is not made of bools.
    """
    size, shape = config.level_sizes[0], tuple(mask.shape)
    mask = mask.to(device)
    mask = mask[None] if mask.ndim == 2 else mask.squeeze(1) if mask.ndim == 4 and shape[1] == 1 else mask
    if mask.ndim != 3 or tuple(mask.shape[1:]) != size or len(mask) not in (1, count):
        raise InputError(None, f"a mask of shape {shape}, but the roll has ({count}, {size[0]}, {size[1]}) cells")
    if mask.dtype != torch.bool:
        raise InputError(None, f"the mask holds {mask.dtype}; it must be bool, true = to be filled")
    return mask.expand(count, -1, -1)


def read_conditions(config: FractalMidiConfig, conditions: Any, num_samples: int, device: Any) -> torch.Tensor:
    """Conditions as `(B, C)` bins; see `FractalMidiModel.encode_conditions`."""
    names, sizes = config.attribute_names, config.attribute_sizes
    if isinstance(conditions, Mapping):
        for name in conditions:
            if name not in names:
                raise InputError(None, f"there is no attribute {name!r}; there are {', '.join(names) or 'none'}")
        row = [-1 if conditions.get(name) is None else int(conditions[name]) for name in names]
        conditions = torch.tensor([row] * num_samples, dtype=torch.long)
    conditions = torch.as_tensor(conditions, device=device).long()
    if conditions.ndim != 2 or conditions.shape[1] != len(sizes):
        raise InputError(
            None, f"conditions of shape {tuple(conditions.shape)}, but the model has {len(sizes)} attributes"
        )
    for place, (name, size) in enumerate(zip(names, sizes, strict=True)):
        column = conditions[:, place]
        wrong = column[(column < -1) | (column >= size)]
        if len(wrong):
            raise InputError(None, f"{name} is {int(wrong[0])}; it has the bins 0 to {size - 1} (-1: not given)")
    return conditions


def check_sampling(
    config: FractalMidiConfig,
    num_iter_list: Sequence[int] | None,
    temperature: float,
    cfg_scale: float,
    sparsity_bias: float,
    top_p: float,
) -> list[int]:
    """The steps of each level, by default half of those of the level above: 8 4 2 1.

    Raises:
        InputError: One of the settings can not be.
    """
    levels = len(config.level_sizes)
    if num_iter_list is None:
        num_iter_list = [2 ** (levels - 1 - level) for level in range(levels)]
    if len(num_iter_list) != levels or any(int(n) != n or n < 1 for n in num_iter_list):
        raise InputError(None, f"num_iter_list is {list(num_iter_list)}; it needs {levels} whole numbers of at least 1")
    if not 0 <= temperature < math.inf:
        raise InputError(None, f"temperature is {temperature}; it must be 0 (the most likely) or more")
    if not 0 < top_p <= 1:
        raise InputError(None, f"top_p is {top_p}; it must be in (0, 1]")
    if not 0 <= cfg_scale < math.inf:
        raise InputError(None, f"cfg_scale is {cfg_scale}; it must be 0 or more (1: no guidance)")
    if not math.isfinite(sparsity_bias):
        raise InputError(None, f"sparsity_bias is {sparsity_bias}; it must be a number")
    return [int(n) for n in num_iter_list]


def tonality(
    config: FractalMidiConfig, conditions: Any, keys: torch.Tensor, strength: float, free: bool = True
) -> tuple[Any, torch.Tensor | None]:
    """The key of each roll, and which pitches it prefers.

    Rolls that are asked for no key, or only for a part of it, take one by `key_shares`: p(roll) is the mean of
    p(roll | key) over keys. The preference is guidance by a classifier that only knows how often pitch classes
    sound: by Bayes, p(cell | rest, key) is in proportion to p(cell | rest) · p(pitch class | key) / p(pitch class).

    Args:
        config: Has `key_profiles`, or there is no preference.
        conditions: As `generate` takes them.
        keys: `(B,)` random numbers of the rolls.
        strength: Times the logarithms.
        free: Rolls that are asked for nothing of a key take one, too.

    Returns:
        The conditions with those keys, `(B, C)` or as they were, and the bias `(B, P)` or `None`.

    Raises:
        InputError: `strength` is no number, or below 0.
    """
    if not 0 <= strength < math.inf:
        raise InputError(None, f"key_guidance is {strength}; it must be 0 (none) or more")
    names, count = config.attribute_names, len(keys)
    if not strength or not config.key_profiles or not {"key", "mode"} <= set(names):
        return conditions, None
    given = {} if conditions is None else conditions
    conditions = read_conditions(config, given, count, keys.device).expand(count, -1).clone()
    columns = [names.index("mode"), names.index("key")]
    asked = conditions[:, columns]  # (B, 2)
    if config.key_shares:
        pairs = torch.tensor([(k // 12, k % 12) for k in range(24)], device=keys.device)
        fits = ((asked[:, None] < 0) | (asked[:, None] == pairs)).all(-1)  # (B, 24)
        shares = (torch.tensor(config.key_shares, device=keys.device) + 1e-6) * fits
        drawn = pairs[pick(shares / shares.sum(1, keepdim=True), uniform(keys, 1, KEY)[:, 0])]
        take = (asked >= 0).any(1) | free
        asked = torch.where(take[:, None], drawn, asked)
    conditions[:, columns] = asked
    mode, key = asked.unbind(1)
    pitch = torch.arange(config.level_sizes[0][0], device=keys.device)
    profiles = torch.tensor(config.key_profiles, device=keys.device)  # (2, 12)
    bias = profiles[mode.clamp(min=0)[:, None], (pitch - key[:, None]) % 12]  # (B, P)
    return conditions, strength * bias * (asked >= 0).all(1)[:, None]


def keep_conditions(model: Any, rows: Any) -> None:
    """Puts conditions of training rolls `(N, C)` into a model's buffer `known_conditions`, int16, and its config."""
    rows = torch.as_tensor(rows, dtype=torch.int16)
    model.config.known_conditions = len(rows)
    model.register_buffer("known_conditions", rows, persistent=len(rows) > 0)


def usual_conditions(config: FractalMidiConfig, table: torch.Tensor, conditions: Any, keys: torch.Tensor) -> Any:
    """Conditions of whole rolls, where only some or none are asked for: p(roll) is the mean of p(roll | conditions).

    A sample without conditions settles for the most usual music; one that takes those of some training roll is as
    various as these are.

    Args:
        config: Of the model.
        table: `(N, C)` conditions of training rolls.
        conditions: As `generate` takes them.
        keys: `(B,)` random numbers of the rolls.

    Returns:
        `(B, C)`: each of a row that has all that is asked, drawn evenly; as it was where there is none.
    """
    if not len(table):
        return conditions
    given = {} if conditions is None else conditions
    asked = read_conditions(config, given, len(keys), keys.device).expand(len(keys), -1)
    table = table.to(keys.device).long()
    fits = ((asked[:, None] < 0) | (asked[:, None] == table)).all(-1)  # (B, N)
    row = pick(fits.float() / fits.sum(1, keepdim=True).clamp(min=1), uniform(keys, 1, ROW)[:, 0])
    return torch.where(fits.any(1)[:, None], table[row], asked)


def count_samples(num_samples: int | None, conditions: Any, roll: Any, mask: Any) -> int:
    """How many rolls are asked for; what has one row serves for all.

    Raises:
        InputError: The numbers of rows do not agree, or there is a roll without a mask, or a mask without a roll.
    """
    if (roll is None) != (mask is None):
        raise InputError(None, "roll and mask belong together: the known cells, and which are to be filled")
    rows = {"num_samples": num_samples, "roll": None if roll is None else len(roll)}
    rows["conditions"] = None if conditions is None or isinstance(conditions, Mapping) else len(conditions)
    rows["mask"] = len(mask) if mask is not None and mask.ndim > 2 else None
    given = {name: n for name, n in rows.items() if n is not None}
    count = max(given.values(), default=1)
    if count < 1 or any(n != count and (name == "num_samples" or n != 1) for name, n in given.items()):
        raise InputError(None, f"how many rolls? {', '.join(f'{name} {n}' for name, n in given.items())} do not agree")
    return count
