"""Measures the baselines of FractalMidi once and keeps the figures beside a checkpoint.

    accelerate launch train fractal_midi --data data/midi --baseline pixel_ar --output_dir RUN --max_minutes 60 ...
    python -m intermezzo.train.fractal_midi_baselines --data data/midi --pixel-ar RUN/final --out CHECKPOINT

writes `markov.npz` (the counts of the training split, so that its likelihood can be had of any rolls) and
`baselines.json` (figures, nats of each roll, what was measured and how). `intermezzo evaluate fractal_midi` reads both.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..processing.errors import InputError
from ..processing.piano_roll import FIRST_ONSET, codes_of_values
from .evaluation_fractal_data import HeldOut, read_held_out
from .evaluation_report import commit_id, hardware, weights_sha256
from .fractal_midi_data import check_classes, read_rolls
from .metrics_common import Estimate, ratio
from .metrics_music import histograms_of, overlap_estimate

FILE, COUNTS = "baselines.json", "markov.npz"


def bits_figures(nats: Sequence[float], held_out: HeldOut, seed: int) -> dict[str, Estimate]:
    """Bits per cell and per sounding cell out of the nats of each roll."""
    bits = [n / math.log(2) for n in nats]
    rolls = held_out.codes[: len(bits)]
    cells, sounding = [one.size for one in rolls], [int((one > 0).sum()) for one in rolls]
    pieces = held_out.pieces[: len(bits)]
    return {
        "bits_per_cell": ratio(bits, cells, pieces, seed=seed, unit="cells"),
        "bits_per_sounding_cell": ratio(bits, sounding, pieces, seed=seed, unit="cells"),
    }


def overlap_figures(made: np.ndarray, held_out: HeldOut, seed: int) -> dict[str, Estimate]:
    """Overlapping areas of all histograms; `made` has the loudness classes of the held-out rolls."""
    classes = held_out.loudness_classes
    ours, theirs = (histograms_of(rolls, loudness_classes=classes) for rolls in (made, held_out.codes))
    return {f"overlap_{name}": overlap_estimate(ours[name], theirs[name], held_out.pieces, seed=seed) for name in ours}


def _entry(nats: np.ndarray, made: np.ndarray, seconds: float, held_out: HeldOut, seed: int) -> dict[str, Any]:
    figures = bits_figures(nats.tolist(), held_out, seed) | overlap_figures(made, held_out, seed)
    return {
        "nats": [round(float(n), 4) for n in nats],
        "rolls_sha256": held_out.digest(len(nats)),
        "samples": len(made),
        "seconds_per_sampled_roll": round(seconds, 3),
        "figures": {name: figure.as_dict() for name, figure in figures.items()},
    }


def measure_markov(train: Any, held_out: HeldOut, samples: int, seed: int, out: Path) -> dict[str, Any]:
    """Fits the chains, writes their counts, and measures them."""
    from .baseline_markov import PitchMarkov

    chain = PitchMarkov.fit(train, held_out.num_codes)
    chain.save(out / COUNTS)
    started = time.perf_counter()
    made = chain.sample(samples, held_out.codes.shape[2], seed)
    seconds = (time.perf_counter() - started) / samples
    return _entry(chain.nats(held_out.codes), made, seconds, held_out, seed) | {"training_rolls": len(train)}


def measure_pixel_ar(folder: str, held_out: HeldOut, n: int, samples: int, seed: int) -> dict[str, Any]:
    """Measures a trained pixel-AR transformer.

    Raises:
        InputError: It was trained on rolls of other loudness classes.
    """
    from tqdm import tqdm

    from .baseline_pixel_ar import PixelARModel

    model = PixelARModel.from_pretrained(folder)
    check_classes(folder, model.config.num_codes - FIRST_ONSET, held_out.loudness_classes)
    rolls = held_out.rolls()[:n]
    nats = np.concatenate([model.nats(roll[None]).cpu().numpy() for roll in tqdm(rolls, desc="pixel_ar", unit="roll")])
    started = time.perf_counter()
    draw = torch.Generator().manual_seed(seed)
    values = model.generate(samples, draw)[:, 0].cpu().numpy()
    made = codes_of_values(values, loudness_classes=held_out.loudness_classes)
    seconds = (time.perf_counter() - started) / samples
    about: dict[str, Any] = {"parameters": model.config.num_parameters, "window": model.config.window}
    about["weights_sha256"] = weights_sha256(folder)
    log = Path(folder).parent / "log.jsonl"
    if log.exists():
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        about["training"] = {name: lines[-1].get(name) for name in ("step", "seconds")} if lines else {}
    return _entry(nats, made, seconds, held_out, seed) | about


def measure(
    data: str, pixel_ar: str | None, out: str | Path, n: int = 64, pixel_n: int = 16, samples: int = 16, seed: int = 0
) -> dict[str, Any]:
    """Measures both baselines on held-out rolls and writes what came of it; see the module.

    Args:
        data: Folder made by build_midi.
        pixel_ar: Folder of the trained transformer; `None` leaves it out (what was measured before is kept).
        out: Folder of the checkpoint.
        n: Held-out rolls for the Markov chains.
        pixel_n: Held-out rolls for the transformer; it takes seconds for each.
        samples: Rolls to sample of each.
        seed: Of all that is drawn.

    Raises:
        InputError: No data, or no such transformer.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    held_out = read_held_out(data, n, seed, [])
    facts = {"n": n, "seed": seed, "commit": commit_id(), "hardware": hardware(), "data": held_out.data}
    facts["created"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    found["markov"] = measure_markov(read_rolls(data, "train"), held_out, samples, seed, folder) | facts
    if pixel_ar:
        found["pixel_ar"] = measure_pixel_ar(pixel_ar, held_out, pixel_n, samples, seed) | facts | {"n": pixel_n}
    command = f"python -m intermezzo.train.fractal_midi_baselines --n {n} --pixel-n {pixel_n} --samples {samples}"
    found["command"] = f"{command} --seed {seed} --data DATA --pixel-ar RUN/final --out {folder.name}"
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return found


def read_baselines(folder: str | Path) -> dict[str, Any]:
    """What `measure` wrote; empty where nothing is.

    Raises:
        InputError: The file is damaged.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for name in ("markov", "pixel_ar"):
            if name in found:
                figures = found[name]["figures"]
                found[name]["figures"] = {key: Estimate.from_dict(value) for key, value in figures.items()}
        return found
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(path, f"not what fractal_midi_baselines writes ({error}); measure again") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="fractal_midi_baselines", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", required=True, help="folder made by build_midi")
    parser.add_argument("--pixel-ar", help="folder of the trained pixel-AR transformer; left out, it is not measured")
    parser.add_argument("--out", required=True, help="folder of the checkpoint")
    parser.add_argument("--n", type=int, default=256, help="held-out rolls for the Markov chains (default %(default)s)")
    parser.add_argument("--pixel-n", type=int, default=16, help="held-out rolls for pixel-AR (default %(default)s)")
    parser.add_argument("--samples", type=int, default=16, help="rolls to sample of each (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        measure(given.data, given.pixel_ar, given.out, given.n, given.pixel_n, given.samples, given.seed)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(Path(given.out) / FILE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
