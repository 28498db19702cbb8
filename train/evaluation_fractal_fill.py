"""How well FractalMidi fills in what is hidden, and how well it follows what it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..processing.music_attributes import ATTRIBUTES, mean_tempo, measure_roll
from ..processing.piano_roll import NUM_LOUDNESS, codes_of_values
from .evaluation_fractal_data import HeldOut
from .metrics_common import Estimate, proportion, ratio
from .metrics_music import BAR_STEPS, seam_onset_rates, seam_pitch_step

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest

HIDDEN_BARS = 4
SEAMS = "four bars"  # what is hidden where seams are looked at
ASKED = ("density", "register", "mode", "tempo")
Masks = Callable[[HeldOut, np.random.Generator], np.ndarray]


# --- How far two means lie apart --------------------------------------------------------------------------------------


def off_by(
    made: Any,
    real: Any,
    groups: Sequence[Any] | None = None,
    *,
    paired: bool = False,
    seed: int = 0,
    resamples: int = 1000,
) -> Estimate:
    """How far the mean of one set is from that of another, as a part of it: |made / real − 1|, with a bootstrap.

    Args:
        made: Values `(N,)`; not-a-number is left out, here and in `real`.
        real: Values `(M,)`.
        groups: Piece of each real value; whole pieces are drawn.
        paired: Each value of `made` belongs to the real one beside it: they are drawn together.
        seed: Of the bootstrap.
        resamples: Number of bootstrap samples.
    """
    ours, true = np.asarray(made, dtype=np.float64), np.asarray(real, dtype=np.float64)
    names = list(range(len(true))) if groups is None else list(groups)
    numbers = {name: k for k, name in enumerate(dict.fromkeys(names))}
    index = np.array([numbers[name] for name in names], dtype=np.int64)
    ours_index = index if paired else np.arange(len(ours))
    sums = [_sums(ours, ours_index), _sums(true, index)]
    n = int((~np.isnan(ours)).sum())
    if not sums[0][1].sum() or not sums[1][0].sum():
        return Estimate(float("nan"), float("nan"), float("nan"), 0, "rolls", len(numbers))

    def distance(weights: Sequence[np.ndarray]) -> float:
        (a, b), (c, d) = [(w @ s[0], w @ s[1]) for w, s in zip(weights, sums, strict=True)]
        return float(abs(a / b / (c / d) - 1)) if b and c and d else float("nan")

    value = distance([np.ones(len(sums[0][0])), np.ones(len(sums[1][0]))])
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        one, other = (rng.multinomial(len(s[0]), np.full(len(s[0]), 1 / len(s[0]))) for s in sums)
        drawn.append(distance([other if paired else one, other]))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    # A distance of resamples is rarely as small as that of the sample.
    return Estimate(value, min(float(low), value), max(float(high), value), n, "rolls", len(numbers))


def _sums(values: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each group."""
    there = ~np.isnan(values)
    size = int(index.max(initial=-1)) + 1
    return (
        np.bincount(index[there], weights=values[there], minlength=size),
        np.bincount(index[there], minlength=size).astype(np.float64),
    )


# --- What is hidden ---------------------------------------------------------------------------------------------------


def bars_hidden(held_out: HeldOut, rng: np.random.Generator) -> np.ndarray:
    """Four bars in the middle of each roll, bool `(N, P, T)`."""
    masks = np.zeros(held_out.codes.shape, dtype=bool)
    bars = held_out.codes.shape[2] // BAR_STEPS
    for mask in masks:
        first = int(rng.integers(1, max(2, bars - HIDDEN_BARS))) * BAR_STEPS
        mask[:, first : first + HIDDEN_BARS * BAR_STEPS] = True
    return masks


def rectangle_hidden(held_out: HeldOut, rng: np.random.Generator) -> np.ndarray:
    """A rectangle of 1 to 3 octaves by one bar to half of the roll, around a sounding pitch."""
    masks = np.zeros(held_out.codes.shape, dtype=bool)
    for mask, codes in zip(masks, held_out.codes, strict=True):
        rows = np.flatnonzero(codes.any(axis=1))
        rows = rows if len(rows) else np.array([60])
        height, width = int(rng.integers(12, 37)), int(rng.integers(BAR_STEPS, codes.shape[1] // 2 + 1))
        low = int(np.clip(rng.choice(rows) - height // 2, 0, len(codes) - height))
        start = int(rng.integers(0, codes.shape[1] - width + 1))
        mask[low : low + height, start : start + width] = True
    return masks


def hand_hidden(held_out: HeldOut, rng: np.random.Generator) -> np.ndarray:
    """All above, or all below, the middle of the sounding pitches of each roll."""
    masks = np.zeros(held_out.codes.shape, dtype=bool)
    for mask, codes in zip(masks, held_out.codes, strict=True):
        onsets = np.repeat(np.arange(len(codes)), (codes > 1).sum(axis=1))
        split = int(np.median(onsets)) if len(onsets) else 60
        mask[split:] = True
        if rng.random() < 0.5:
            np.logical_not(mask, out=mask)
    return masks


HIDING: dict[str, Masks] = {"four bars": bars_hidden, "rectangles": rectangle_hidden, "one hand": hand_hidden}


def located_nats(model: Any, roll: torch.Tensor, mask: torch.Tensor, draws: int, seed: int) -> np.ndarray:
    """What the cells in a mask cost in any order of whole rolls: on average half of the rest is given.

    A decision about a patch counts by the part of it that lies in the mask. Float64 `(B,)`, nats.
    """
    total = np.zeros(len(roll))
    summed = torch.nn.functional.pad(mask.double(), (1, 0, 1, 0)).cumsum(1).cumsum(2)  # (B, P + 1, T + 1)
    for draw in range(draws):
        generator = torch.Generator().manual_seed(seed + draw)
        out = model(roll.to(model.device), generator=generator, output_decisions=True)
        for level, told in zip(model.levels, out.decisions, strict=True):
            (h, w), rows = level.child_size, level.grid[0]
            i = torch.arange(level.num_children)
            origin, owner = told["origin"].cpu(), told["owner"].cpu()
            p, t = origin[:, :1] + i % rows * h, origin[:, 1:] + i // rows * w  # (M, n)
            b = owner[:, None].expand_as(p)
            inside = summed[b, p + h, t + w] - summed[b, p, t + w] - summed[b, p + h, t] + summed[b, p, t]
            cost = (told["cost"].cpu().double() * inside / (h * w)).sum(1).numpy()
            total += np.bincount(owner.numpy(), weights=cost, minlength=len(roll))
    return total / draws


def hidden_nats(
    model: Any, roll: torch.Tensor, mask: torch.Tensor, draws: int, seed: int, conditions: Any = None
) -> np.ndarray:
    """What the cells in a mask cost where the others are given; float64 `(B,)`, nats."""
    generator = torch.Generator().manual_seed(seed)
    out = model(roll.to(model.device), conditions, mask.to(model.device), draws=draws, generator=generator)
    return out.nll.double().cpu().numpy()


def known_keys(processor: Any, codes: np.ndarray, masks: np.ndarray) -> torch.Tensor | None:
    """Key and mode of the known part of each roll as conditions `(B, C)`, as `paint` keeps them; `None` without."""
    if processor is None or not {"key", "mode"} <= set(processor.condition_names):
        return None
    rows = []
    for one, mask in zip(codes, masks, strict=True):
        known = np.where(mask, 0, one).astype(np.uint8)
        values = measure_roll(known, None, loudness_classes=processor.loudness_classes)
        rows.append(processor.condition_bins(measured={name: values.get(name) for name in ("key", "mode")}))
    return torch.tensor(rows)


@torch.no_grad()
def measure_filling(
    model: Any, held_out: HeldOut, hide: str, request: EvaluationRequest, draws: int, settings: dict[str, Any],
    batch_size: int = 8, processor: Any = None,
) -> dict[str, Estimate]:  # fmt: skip
    """One kind of hiding: what is kept, and what the hidden cells cost.

    Where something is given, so is the key that it is in (`known_keys`), which follows from it.

    `bits_over_unconditional` is what the hidden cells cost with the rest given over what they cost with nothing given:
    what whole rolls cost, less what the rest costs with the hidden cells given, p(hidden) = p(all) / p(rest | hidden).
    `bits_over_wrong_rest` is the same over what they cost with the rest of another roll, `bits_over_any_order` over
    their part of whole rolls, for which half of the rest is given on average.
    """
    masks = HIDING[hide](held_out, np.random.default_rng(request.seed))
    rolls, hidden = held_out.rolls(), torch.from_numpy(masks)
    nats: dict[str, list[float]] = {"given": [], "alone": [], "wrong": [], "any": []}
    wrong = torch.where(hidden[:, None], rolls, rolls.roll(1, 0))
    keys = known_keys(processor, held_out.codes, masks)
    others = known_keys(processor, np.roll(held_out.codes, 1, 0), masks)
    inner = known_keys(processor, held_out.codes, ~masks)
    starts = range(0, len(rolls), batch_size)
    for start in request.track(starts, f"likelihood {hide}", len(starts)):
        part = slice(start, start + batch_size)
        roll, mask, seed = rolls[part], hidden[part], request.seed + start
        own, other, within = (None if rows is None else rows[part] for rows in (keys, others, inner))
        nats["given"] += hidden_nats(model, roll, mask, draws, seed, own).tolist()
        nats["wrong"] += hidden_nats(model, wrong[part], mask, draws, seed, other).tolist()
        nats["any"] += located_nats(model, roll, mask, draws, seed).tolist()
        whole = hidden_nats(model, roll, torch.ones_like(mask), draws, seed)
        nats["alone"] += (whole - hidden_nats(model, roll, ~mask, draws, seed, within)).tolist()
    painted = fill_all(model, held_out, hidden, keys, request, settings, batch_size, f"fill {hide}")
    pieces, seed = held_out.pieces, request.seed
    sounding = (masks & (held_out.codes > 0)).sum(axis=(1, 2))
    kept = [
        bool((one[~mask] == true[~mask]).all()) for one, true, mask in zip(painted, held_out.codes, masks, strict=True)
    ]
    figures = {
        "known_cells_kept": proportion(kept, pieces, unit="rolls"),
        "bits_per_hidden_sounding_cell": ratio(
            [n / math.log(2) for n in nats["given"]], sounding.tolist(), pieces, seed=seed, unit="cells"
        ),
        "bits_over_unconditional": ratio(nats["given"], nats["alone"], pieces, seed=seed, unit="nats"),
        "bits_over_wrong_rest": ratio(nats["given"], nats["wrong"], pieces, seed=seed, unit="nats"),
        "bits_over_any_order": ratio(nats["given"], nats["any"], pieces, seed=seed, unit="nats"),
    }
    return figures


def fill_all(
    model: Any, held_out: HeldOut, hidden: torch.Tensor | None, keys: torch.Tensor | None, request: EvaluationRequest,
    settings: dict[str, Any], batch_size: int, what: str,
) -> np.ndarray:  # fmt: skip
    """The rolls, codes `(N, P, T)`, with their masked cells painted anew; without a mask, rolls from nothing."""
    rolls, painted = held_out.rolls(), np.empty_like(held_out.codes)
    starts = range(0, len(rolls), batch_size)
    for start in request.track(starts, what, len(starts)):
        part = slice(start, start + batch_size)
        draw = torch.Generator().manual_seed(request.seed + start)
        given: dict[str, Any] = {"num_samples": len(rolls[part])}
        if hidden is not None:
            given = {"roll": rolls[part], "mask": hidden[part], "conditions": None if keys is None else keys[part]}
        made = model.generate(**given, generator=draw, **settings)[:, 0].cpu().numpy()
        painted[part] = codes_of_values(made, loudness_classes=held_out.loudness_classes)
    return painted


@torch.no_grad()
def measure_seams(
    model: Any, held_out: HeldOut, request: EvaluationRequest, settings: dict[str, Any], batch_size: int = 8,
    processor: Any = None,
) -> dict[str, Estimate]:  # fmt: skip
    """How four bars sound where they meet what was known: `pitch_step_off` and `onset_rate_off` compare painted seams
    with the same places in the real rolls, and `..._pasted` are the same figures where the known part is pasted over
    an unconditional sample, which is no inpainting.
    """
    masks = HIDING[SEAMS](held_out, np.random.default_rng(request.seed))
    hidden, keys = torch.from_numpy(masks), known_keys(processor, held_out.codes, masks)
    painted = fill_all(model, held_out, hidden, keys, request, settings, batch_size, "seams")
    free = fill_all(model, held_out, None, None, request, settings, batch_size, "paste")
    figures = seam_figures(painted, held_out, masks, request.seed)
    pasted = seam_figures(np.where(masks, free, held_out.codes), held_out, masks, request.seed)
    return figures | {f"{name}_pasted": one for name, one in pasted.items()}


def seam_figures(painted: np.ndarray, held_out: HeldOut, masks: np.ndarray, seed: int) -> dict[str, Estimate]:
    """Pitch step over both seams, and onsets a step on their painted side, against the real music there."""
    found: dict[str, list[list[float]]] = {"pitch_step_off": [[], []], "onset_rate_off": [[], []]}
    pieces: list[str] = []
    for one, true, mask, piece in zip(painted, held_out.codes, masks, held_out.pieces, strict=True):
        steps = np.flatnonzero(mask.any(axis=0))
        for seam, inner in ((int(steps[0]), 1), (int(steps[-1]) + 1, 0)):
            pieces.append(piece)
            for k, codes in enumerate((one, true)):
                found["pitch_step_off"][k].append(seam_pitch_step(codes, seam))
                found["onset_rate_off"][k].append(seam_onset_rates(codes, seam)[inner])
    return {name: off_by(made, real, pieces, paired=True, seed=seed) for name, (made, real) in found.items()}


# --- What is asked for ------------------------------------------------------------------------------------------------


@torch.no_grad()
def measure_attribute(
    model: Any, processor: Any, name: str, count: int, request: EvaluationRequest, settings: dict[str, Any],
    batch_size: int = 8,
) -> dict[str, Estimate]:  # fmt: skip
    """How often a class that was asked for is what comes out, and how often it is for classes that were not asked for.

    Classes are asked for equally often, one attribute at a time. Tempo is not in a roll: it is measured in the MIDI
    file that a person gets, whose tempo is set from the class.
    """
    size, loudness_classes = len(ATTRIBUTES[name].classes), processor.loudness_classes
    asked = np.arange(count) % size
    column = processor.condition_names.index(name)
    got: list[int] = []
    starts = range(0, count, batch_size)
    for start in request.track(starts, f"ask for {name}", len(starts)):
        classes = asked[start : start + batch_size]
        rows = torch.full((len(classes), len(processor.condition_names)), -1)
        rows[:, column] = torch.from_numpy(classes)
        draw = torch.Generator().manual_seed(request.seed + start)
        values = model.generate(conditions=rows, generator=draw, **settings)[:, 0].cpu().numpy()
        made = codes_of_values(values, loudness_classes=loudness_classes)
        for codes, row in zip(made, rows.tolist(), strict=True):
            tempo = mean_tempo(processor.decode(codes, processor.tempo_of(row))) if name == "tempo" else None
            measured = measure_roll(codes, tempo, loudness_classes=loudness_classes)
            got.append(ATTRIBUTES[name].bin_of(measured[name]))
    shuffled = np.random.default_rng(request.seed).permutation(asked)
    return {
        f"{name}_hit": proportion([a == g for a, g in zip(asked, got, strict=True)], unit="rolls"),
        f"{name}_hit_shuffled": proportion([a == g for a, g in zip(shuffled, got, strict=True)], unit="rolls"),
    }


def sample_rolls(
    model: Any, conditions: torch.Tensor | None, count: int, request: EvaluationRequest, settings: dict[str, Any],
    batch_size: int = 8, loudness_classes: int = NUM_LOUDNESS,
) -> np.ndarray:  # fmt: skip
    """Codes uint8 `(count, P, T)`, in so many loudness classes as the model has."""
    made = []
    starts = range(0, count, batch_size)
    for start in request.track(starts, "sample", len(starts)):
        size = min(batch_size, count - start)
        given = None if conditions is None else conditions[start : start + size]
        draw = torch.Generator().manual_seed(request.seed + start)
        values = model.generate(size, given, generator=draw, **settings)[:, 0].cpu().numpy()
        made.append(codes_of_values(values, loudness_classes=loudness_classes))
    return np.concatenate(made)


__all__ = ["ASKED", "HIDING", "located_nats", "measure_attribute", "measure_filling", "off_by", "sample_rolls"]
