"""What FractalMidi trains on, its figures while it trains, and the refusals of its command."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.configuration.configuration_fractal_midi import FractalMidiConfig
from intermezzo.modeling.modeling_fractal_midi import FractalMidiModel
from intermezzo.processing.errors import InputError
from intermezzo.processing.music_attributes import ATTRIBUTES
from intermezzo.processing.piano_roll import codes_of_values
from intermezzo.processing.processing_fractal_midi import FractalMidiProcessor
from intermezzo.train.checkpoints import TrainingState
from intermezzo.train.fractal_midi_data import (
    RollCollate,
    Rolls,
    fill_mask,
    known_conditions,
    made_up_rolls,
    measure_keys,
    packed_attributes,
    read_rolls,
)
from intermezzo.train.fractal_midi_evaluation import Pictures, evaluate_rolls
from intermezzo.train.train_fractal_midi import FractalMidiArguments, build_model, main

torch.set_num_threads(1)


def narrow(**changes: Any) -> FractalMidiModel:
    settings: dict[str, Any] = dict(
        hidden_sizes=(16, 16, 16), num_hidden_layers=(1, 1, 1), num_attention_heads=(2, 2, 2), train_nodes=(4, 8)
    )
    torch.manual_seed(0)
    return FractalMidiModel(FractalMidiConfig(**{**settings, **changes})).eval()


def pack(folder: Path, count: int = 6) -> np.ndarray:
    codes = np.random.default_rng(0).integers(0, 34, (count, 128, 256), dtype=np.uint8)
    codes[np.random.default_rng(1).random(codes.shape) < 0.97] = 0
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "codes.npy", codes)
    np.save(folder / "conditions.npy", np.stack([np.arange(count) % 3, np.full(count, -1)], axis=1))
    return codes


def test_packed_rolls_come_back_by_split_and_by_folder(tmp_path: Path) -> None:
    codes = pack(tmp_path / "one")
    np.save(tmp_path / "one" / "split.npy", np.array(["train"] * 4 + ["validation"] * 2))
    rolls = read_rolls(tmp_path / "one", "validation")
    assert len(rolls) == 2 and (rolls[1]["codes"] == codes[5]).all() and rolls[1]["conditions"].tolist() == [2, -1]
    assert len(read_rolls(tmp_path / "one", "train", limit=3)) == 3
    assert packed_attributes(tmp_path / "one", rolls) == (["attribute_0", "attribute_1"], [3, 1])
    pack(tmp_path / "two" / "test", 2)
    assert len(read_rolls(tmp_path / "two", "test")) == 2
    for folder, split, told in ((tmp_path, "train", "holds neither"), (tmp_path / "one", "test", "no rows of split")):
        with pytest.raises(InputError, match=told):
            read_rolls(folder, split)
    np.save(tmp_path / "one" / "conditions.npy", np.zeros((2, 1)))
    with pytest.raises(InputError, match=r"6 rolls in codes\.npy, but 2 rows"):
        read_rolls(tmp_path / "one", "train")


def test_rows_of_the_builder_are_read_with_their_measures(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = made_up_rolls(3)
    rows = [made[index] for index in range(3)]
    columns: dict[str, Any] = {"codes": [row["codes"].tobytes() for row in rows], "source": ["folk", "pop", "folk"]}
    columns |= {name: [row["values"].get(name) for row in rows] for name in ATTRIBUTES}
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "data" / "train-00000.parquet")
    rolls = read_rolls(tmp_path, "train")
    assert rolls.sources() == ["folk", "pop"]
    processor = FractalMidiProcessor(source_names=rolls.sources())
    batch = RollCollate(processor)([rolls[index] for index in range(3)])
    assert (codes_of_values(batch["roll"][:, 0]) == np.stack([row["codes"] for row in rows])).all()
    assert batch["conditions"][:, -1].tolist() == [0, 1, 0] and batch["conditions"].dtype == torch.int64
    assert batch["conditions"].tolist() == [processor.condition_bins(measured=rolls[k]["values"]) for k in range(3)]
    assert batch["mask"].all()


def test_a_transposed_roll_has_the_key_it_sounds_in() -> None:
    processor = FractalMidiProcessor(attribute_names=["key", "register"])
    rolls = made_up_rolls(1)
    np.random.seed(0)
    collate = RollCollate(processor, transpose=5)
    seen = set()
    for _ in range(30):
        batch = collate([rolls[0]])
        codes = codes_of_values(batch["roll"][0, 0])
        shift = int(np.flatnonzero(codes.any(1))[0] - np.flatnonzero(rolls[0]["codes"].any(1))[0])
        assert (np.roll(rolls[0]["codes"], shift, axis=0) == codes).all()
        plain = processor.condition_bins(measured=rolls[0]["values"])
        assert int(batch["conditions"][0, 0]) == (plain[0] + shift) % 12
        seen.add(shift)
    assert len(seen) > 7 and min(seen) >= -5 and max(seen) <= 5


def test_keys_are_known_by_what_sounds_in_them() -> None:
    found = measure_keys(made_up_rolls(80), least_fit=0.0)  # tunes of major scales; some begin elsewhere in them
    profiles = found["key_profiles"]
    assert [len(row) for row in profiles] == [12, 12]
    major = np.array(profiles[0])
    assert major[[0, 4, 7]].min() > 0.2 and major[[1, 6, 10]].max() < -0.5
    shares = np.exp(np.array(profiles)) / 12
    np.testing.assert_allclose(shares.sum(1), 1, atol=0.02)
    assert measure_keys(made_up_rolls(3), least_fit=2.0) == {}
    assert len(found["key_shares"]) == 24 and sum(found["key_shares"]) == pytest.approx(1, abs=0.01)
    assert sum(found["key_shares"][:12]) > 0.5


def test_known_conditions_are_of_training_rolls_and_long_pieces_count_no_more() -> None:
    rolls, processor = made_up_rolls(40), FractalMidiProcessor()
    for index, about in enumerate(rolls.about):
        about["piece"] = "long" if index < 30 else index
    rows = known_conditions(rolls, processor, windows=2)
    every = [processor.condition_bins(measured=about["values"]) for about in rolls.about]
    assert rows.shape == (12, len(processor.condition_names)) and all(row.tolist() in every for row in rows)
    assert len(known_conditions(rolls, processor, count=5)) == 5


def test_masks_hide_something_and_are_of_every_kind() -> None:
    rng = np.random.default_rng(0)
    masks = [fill_mask((128, 256), rng) for _ in range(300)]
    assert all(mask.dtype == bool and mask.shape == (128, 256) and mask.any() for mask in masks)
    spans = [mask for mask in masks if mask.all(axis=0).any() and not mask.all()]  # whole steps hidden
    hands = [mask for mask in masks if mask.all(axis=1).any() and not mask.all()]  # whole pitches hidden
    futures = [mask for mask in spans if mask[:, -1].all() and not mask[:, 0].any()]
    assert min(len(spans), len(hands), len(futures)) > 30
    begins = [int(mask[0].argmax()) % 16 for mask in futures]  # songs go on at bar lines, and that must be learnt
    assert set(begins) >= {0, 8} and min(begins.count(0), begins.count(8)) > len(begins) / 4
    assert 0.2 < np.mean([mask.mean() for mask in masks]) < 0.7
    collate = RollCollate(fill_rate=0.5)
    rolls = made_up_rolls(2)
    np.random.seed(0)
    whole = np.mean([bool(mask.all()) for _ in range(50) for mask in collate([rolls[0], rolls[1]])["mask"]])
    assert 0.35 < whole < 0.65
    for size in ((4, 16), (1, 1)):
        assert fill_mask(size, rng).any()


def test_figures_count_all_bits_over_all_cells() -> None:
    model, rolls = narrow(), made_up_rolls(3)
    collate = RollCollate()
    told = evaluate_rolls(model, rolls, collate, batch_size=2, draws=1)
    nats = []
    for start, stop in ((0, 2), (2, 3)):
        batch = collate([rolls[index] for index in range(start, stop)])
        with torch.no_grad():
            nats.append(model(**batch, generator=torch.Generator().manual_seed(start)).nll.sum())
    bits = float(sum(nats)) / math.log(2)
    sounding = sum(int((rolls[index]["codes"] > 0).sum()) for index in range(3))
    assert told["bits_per_cell"] == pytest.approx(bits / (3 * 128 * 256), rel=1e-5)
    assert told["bits_per_sounding_cell"] == pytest.approx(bits / sounding, rel=1e-5)
    masks = np.zeros((3, 128, 256), dtype=bool)
    masks[:, :, :64] = True
    part = evaluate_rolls(model, rolls, collate, masks=masks, draws=1)
    assert part["bits_per_cell"] > 0 and part["bits_per_cell"] != told["bits_per_cell"]


def test_tensorboard_shows_truth_samples_growth_and_loss(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = narrow().train()
    pictures = Pictures(str(tmp_path), made_up_rolls(2), RollCollate(), every=2, count=2, num_iter_list=[2, 1, 1, 1])
    for step in (1, 2, 3, 4):
        pictures.on_step_end(TrainingState(step=step), model)
        assert model.training
    pictures.on_evaluate(TrainingState(step=4), {"loss": 1.5})
    pictures.writer.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    tags = set(events.Tags()["images"])
    assert tags == {"val/generation_preview"} | {f"val/{n}/{k}" for n in ("ground_truth", "generated") for k in (0, 1)}
    assert [event.step for event in events.Images("val/generation_preview")] == [2, 4]
    assert [event.step for event in events.Images("val/ground_truth/0")] == [2]
    assert events.Images("val/generation_preview")[0].encoded_image_string[:6] in (b"GIF89a", b"GIF87a")
    assert events.Scalars("val_loss")[0].value == 1.5


def test_a_model_of_other_rolls_conditions_or_types_is_refused(tmp_path: Path) -> None:
    narrow(generator_types=("ar",) * 4, attribute_names=("key",), attribute_sizes=(12,)).save_pretrained(tmp_path)
    size = (128, 256)
    assert build_model(FractalMidiArguments(model=str(tmp_path)), ["key"], [12], size).config.hidden_sizes[0] == 16
    with pytest.raises(InputError, match=r'\["ar", "ar", "ar", "ar"\], asked for is \["mar"'):
        build_model(FractalMidiArguments(model=str(tmp_path), generator_types=["mar"] * 4), ["key"], [12], size)
    with pytest.raises(InputError, match=r"\[12\] bins, the data of \[3\]"):
        build_model(FractalMidiArguments(model=str(tmp_path)), ["mode"], [3], size)
    with pytest.raises(InputError, match="the model takes"):
        build_model(FractalMidiArguments(preset="small"), [], [], (128, 64))
    for types, told in ((["ar", "mar"], "needs 4 entries"), (["ar", "mar", "ar", "gan"], "'gan' is none of ar, mar")):
        with pytest.raises(InputError, match=told) as caught:
            build_model(FractalMidiArguments(preset="small", generator_types=types), [], [], size)
        assert "\n" not in str(caught.value)


def test_the_command_asks_for_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data FOLDER"):
        main(["--output_dir", str(tmp_path), "--max_steps", "1"])
    with pytest.raises(InputError, match="holds neither"):
        main(["--output_dir", str(tmp_path), "--max_steps", "1", "--data", str(tmp_path)])
    (tmp_path / "config.json").write_text('{"model_type": "style_encoder"}')
    with pytest.raises(InputError, match="is a checkpoint of 'style_encoder'; give one of 'fractal_midi'"):
        main(["--output_dir", str(tmp_path), "--max_steps", "1", "--data", "any", "--model", str(tmp_path)])
    (tmp_path / "train").mkdir()
    np.save(tmp_path / "train" / "codes.npy", np.stack([made_up_rolls(1)[0]["codes"]]))
    with pytest.raises(InputError, match="split 'validation'; --validation_rolls 0 trains without"):
        main(["--output_dir", str(tmp_path), "--max_steps", "1", "--data", str(tmp_path)])


@pytest.mark.slow
def test_four_steps_of_the_command(tmp_path: Path) -> None:
    assert main(["--smoke", "--output_dir", str(tmp_path), "--cpu", "--no-progress"]) == 0
    model = FractalMidiModel.from_pretrained(tmp_path / "final")
    processor = FractalMidiProcessor.from_pretrained(tmp_path / "final")
    assert list(model.config.attribute_sizes) == processor.condition_sizes
    assert model.known_conditions.tolist() == known_conditions(made_up_rolls(12), processor).tolist()
    assert (tmp_path / "generation_preview.gif").exists()


def test_sparse_rows_are_the_dense_ones() -> None:
    rolls = Rolls((4, 70_000))  # more places than two bytes can count
    codes = np.zeros((4, 70_000), dtype=np.uint8)
    codes[3, 69_999] = 33
    rolls.add(codes, conditions=None)
    assert (rolls[0]["codes"] == codes).all() and len(rolls) == 1
