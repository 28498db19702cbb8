"""The baselines of FractalMidi: their likelihoods are exact, their samples follow them, their figures are kept."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.modeling.fractal_cells import codes_to_roll, roll_to_codes
from intermezzo.processing.errors import InputError
from intermezzo.train import fractal_midi_baselines
from intermezzo.train.baseline_markov import PitchMarkov
from intermezzo.train.baseline_pixel_ar import PixelARConfig, PixelARModel, evaluate_pixel_ar, seconds_per_roll
from intermezzo.train.fractal_midi_data import RollCollate, Rolls, made_up_rolls

torch.set_num_threads(1)


def every(num_codes: int, size: tuple[int, int]) -> np.ndarray:
    cells = size[0] * size[1]
    return np.array(list(itertools.product(range(num_codes), repeat=cells)), dtype=np.uint8).reshape(-1, *size)


def some_rolls(size: tuple[int, int], num_codes: int, count: int = 6) -> Rolls:
    rolls, rng = Rolls(size), np.random.default_rng(0)
    for _ in range(count):
        rolls.add(rng.integers(0, num_codes, size).astype(np.uint8))
    return rolls


# --- Markov chains ----------------------------------------------------------------------------------------------------


def test_the_markov_likelihood_sums_to_one_and_samples_follow_it() -> None:
    chain = PitchMarkov.fit(some_rolls((2, 3), 2), num_codes=2)
    rolls = every(2, (2, 3))
    likelihood = np.exp(-chain.nats(rolls))
    assert likelihood.sum() == pytest.approx(1, abs=1e-9) and likelihood.max() > 1.5 * likelihood.min()
    drawn = chain.sample(4000, 3).reshape(4000, -1) @ 2 ** np.arange(5, -1, -1)
    assert 0.5 * np.abs(np.bincount(drawn, minlength=64) / 4000 - likelihood).sum() < 0.08


def test_the_chain_learns_each_pitch_and_leaves_nothing_impossible() -> None:
    rolls = Rolls((2, 40))
    for _ in range(20):
        rolls.add(np.stack([np.tile([0, 1], 20), np.zeros(40)]).astype(np.uint8))
    chain = PitchMarkov.fit(rolls, num_codes=3)
    assert chain.probabilities[0, 0, 1] > 0.85 and chain.probabilities[1, 0, 0] > 0.95
    assert (chain.probabilities > 0).all()
    np.testing.assert_allclose(chain.probabilities.sum(axis=2), 1)
    by_hand = -math.log(chain.probabilities[0, 3, 0] * chain.probabilities[0, 0, 1] * chain.probabilities[0, 1, 2])
    one = PitchMarkov(chain.counts[:1])
    one.probabilities = chain.probabilities[:1]
    assert one.nats(np.array([[[0, 1, 2]]]))[0] == pytest.approx(by_hand)


def test_counts_come_back_from_a_small_file(tmp_path: Path) -> None:
    chain = PitchMarkov.fit(made_up_rolls(3))
    chain.save(tmp_path / "markov.npz")
    codes = np.stack([made_up_rolls(2)[k]["codes"] for k in range(2)])
    assert (PitchMarkov.load(tmp_path / "markov.npz").nats(codes) == chain.nats(codes)).all()
    assert (tmp_path / "markov.npz").stat().st_size < 200_000
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    np.savez(tmp_path / "other.npz", counts=np.zeros((3, 3, 3)))
    for name in ("bad.npz", "none.npz", "other.npz"):
        with pytest.raises(InputError, match="Markov baseline"):
            PitchMarkov.load(tmp_path / name)


# --- Pixel-AR ---------------------------------------------------------------------------------------------------------


def pixel(size: tuple[int, int] = (2, 4), num_codes: int = 2, window: int = 4, seed: int = 0) -> PixelARModel:
    torch.manual_seed(seed)
    model = PixelARModel(PixelARConfig(size, num_codes, width=12, layers=2, heads=2, window=window)).eval()
    torch.nn.init.normal_(model.head.weight, std=1.0)  # an opinion, so that a leak would show
    return model


def test_the_pixel_likelihood_sums_to_one() -> None:
    model = pixel()
    nats = model.nats(codes_to_roll(torch.from_numpy(every(2, (2, 4))).long(), 2))
    assert float((-nats).exp().sum()) == pytest.approx(1, abs=1e-5) and float(nats.max() - nats.min()) > 2


@pytest.mark.parametrize("window", [2, 4])
def test_pixel_samples_with_the_cache_have_the_frequencies_of_the_likelihood(window: int) -> None:
    model = pixel((2, 2), 2, window, seed=3)
    rolls = torch.from_numpy(every(2, (2, 2))).long()
    expected = (-model.nats(codes_to_roll(rolls, 2))).exp()
    made = model.generate(5000, torch.Generator().manual_seed(0))
    found = roll_to_codes(made, 2).flatten(1) @ torch.tensor([8, 4, 2, 1])
    assert 0.5 * float((torch.bincount(found, minlength=16) / 5000 - expected).abs().sum()) < 0.04
    assert float(expected.max()) > 0.1


def test_no_cell_sees_itself_what_follows_or_what_lies_before_its_window() -> None:
    model = pixel((2, 8), 3, 8)
    codes = torch.randint(0, 3, (1, 16), generator=torch.Generator().manual_seed(0))
    start = torch.tensor([4])
    with torch.no_grad():
        before = model.segment_costs(codes, start)[0]
        moved = []
        for cell in range(16):
            other = codes.clone()
            other[0, cell] = (other[0, cell] + 1) % 3
            changed = (model.segment_costs(other, start)[0] - before).abs() > 1e-6
            moved.append(changed)
            assert not changed[: max(cell - 4, 0)].any() and (4 <= cell < 12 or not changed.any())
    assert torch.stack(moved)[4:11].any(1).all()


def test_the_width_gives_the_parameters_asked_for() -> None:
    for wanted in (3_900_000, 9_200_000):
        config = PixelARConfig.like(wanted)
        assert config.num_parameters == pytest.approx(wanted, rel=0.04)
    model = pixel()
    assert sum(p.numel() for p in model.parameters()) == model.config.num_parameters
    for wrong in ({"window": 1000}, {"window": 3}, {"width": 321}):
        with pytest.raises(ValueError, match=r"window|width"):
            PixelARConfig(**wrong)


def test_a_pixel_model_learns_eight_rolls_and_is_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PixelARModel(PixelARConfig((4, 4), 3, width=32, layers=2, heads=2, window=16))
    roll = codes_to_roll(torch.randint(0, 3, (8, 4, 4)), 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    first = float(model.nats(roll).mean())
    for _ in range(150):
        loss = model(roll).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    last = float(model.nats(roll).mean())
    assert math.log(8) - 1e-4 <= last < 0.35 * first  # which of the eight it is can not be known: less would be a leak
    model.save_pretrained(tmp_path / "model")
    again = PixelARModel.from_pretrained(tmp_path / "model")
    assert torch.equal(again.nats(roll), model.eval().nats(roll))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "llama"}')
    for name in ("other", "none"):
        with pytest.raises(InputError, match="no pixel-AR baseline"):
            PixelARModel.from_pretrained(tmp_path / name)


def test_training_windows_are_those_of_the_likelihood() -> None:
    model = pixel((2, 8), 3, 8)
    seen: list[int] = []
    costs = model.segment_costs
    model.segment_costs = lambda codes, start: (seen.extend(start.tolist()), costs(codes, start))[1]  # type: ignore
    for _ in range(20):
        loss = model(roll=codes_to_roll(torch.zeros(3, 2, 8, dtype=torch.long), 3), mask=None).loss
    assert set(seen) == {0, 4, 8} and loss.requires_grad


def test_figures_of_pixel_ar_count_all_bits_over_all_cells() -> None:
    model, rolls = pixel((4, 4), 3, 8), some_rolls((4, 4), 3)
    collate: Any = lambda rows: {"roll": codes_to_roll(torch.stack([torch.from_numpy(r["codes"]).long() for r in rows]), 3)}  # noqa: E731, E501  # fmt: skip
    told = evaluate_pixel_ar(model, rolls, collate, 4)
    nats = float(model.nats(collate([rolls[k] for k in range(4)])["roll"]).sum())
    assert told["bits_per_cell"] == pytest.approx(nats / math.log(2) / 64)
    assert told["loss"] == pytest.approx(nats / 4 / 4)
    assert seconds_per_roll(model) > 0


# --- Their figures beside a checkpoint --------------------------------------------------------------------------------


def write_parquet(folder: Path, split: str, count: int, seed: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from intermezzo.processing.music_attributes import ATTRIBUTES

    made = made_up_rolls(count, seed)
    rows = [made[index] for index in range(count)]
    columns: dict[str, Any] = {"codes": [row["codes"].tobytes() for row in rows], "source": ["folk"] * count}
    columns |= {name: [row["values"].get(name) for row in rows] for name in ATTRIBUTES}
    columns["piece_id"] = [f"piece {k // 2}" for k in range(count)]
    (folder / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "data" / f"{split}-00000.parquet")


def test_figures_are_kept_beside_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "midi", "train", 6, 0)
    write_parquet(tmp_path / "midi", "test", 5, 1)
    torch.manual_seed(0)
    PixelARModel(PixelARConfig(width=10, layers=1)).save_pretrained(tmp_path / "run" / "final")
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 9, "seconds": 60.0}\n')
    silence = lambda self, count, draw: torch.full((count, 1, 128, 256), -1.0)  # noqa: E731
    monkeypatch.setattr(PixelARModel, "generate", silence)  # 32,768 steps are too many for a test
    arguments = ["--data", str(tmp_path / "midi"), "--out", str(tmp_path / "model"), "--n", "4", "--samples", "3"]
    assert (
        fractal_midi_baselines.main([*arguments, "--pixel-ar", str(tmp_path / "run" / "final"), "--pixel-n", "1"]) == 0
    )
    found = fractal_midi_baselines.read_baselines(tmp_path / "model")
    assert len(found["markov"]["nats"]) == 4 and len(found["pixel_ar"]["nats"]) == 1
    assert found["pixel_ar"]["training"] == {"step": 9, "seconds": 60.0}
    assert found["markov"]["training_rolls"] == 6 and found["markov"]["figures"]["bits_per_cell"].groups >= 2
    assert found["markov"]["figures"]["bits_per_cell"].value < found["pixel_ar"]["figures"]["bits_per_cell"].value
    text = (tmp_path / "model" / "baselines.json").read_text()
    assert str(tmp_path) not in text, "a file of the repository must not name a machine's folder"
    assert fractal_midi_baselines.main(arguments) == 0  # the transformer's figures stay when it is not measured
    assert "pixel_ar" in json.loads((tmp_path / "model" / "baselines.json").read_text())
    assert fractal_midi_baselines.main(["--data", str(tmp_path / "none"), "--out", str(tmp_path / "model")]) == 1
    (tmp_path / "model" / "baselines.json").write_text('{"markov": {}}')
    with pytest.raises(InputError, match="measure again"):
        fractal_midi_baselines.read_baselines(tmp_path / "model")
    assert fractal_midi_baselines.read_baselines(tmp_path / "none") == {}


@pytest.mark.slow
def test_the_command_trains_the_baseline(tmp_path: Path) -> None:
    from intermezzo.train.train_fractal_midi import main

    words = [
        "--smoke",
        "--baseline",
        "pixel_ar",
        "--output_dir",
        str(tmp_path),
        "--cpu",
        "--no-progress",
        "--batch_size",
    ]
    assert main([*words, "1", "--eval_steps", "0"]) == 0
    assert PixelARModel.from_pretrained(tmp_path / "final").config.size == (128, 256)


def test_rolls_of_the_baseline_are_transposed_like_those_of_the_model() -> None:
    from intermezzo.processing.processing_fractal_midi import FractalMidiProcessor

    rolls = made_up_rolls(1)
    np.random.seed(0)
    collate = RollCollate(FractalMidiProcessor(), 5)
    lowest = {int((collate([rolls[0]])["roll"][0, 0] > -1).any(1).nonzero()[0]) for _ in range(12)}
    assert len(lowest) > 3
