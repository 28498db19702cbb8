"""The head that reads codes: where things stand, what the loss asks, and that codes come to say it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from intermezzo.configuration.configuration_image_vq import ImageVQConfig, image_vq_strings
from intermezzo.modeling.image_vq_reading import (
    BEAT_CLASSES,
    FRET_CLASSES,
    STRING_ROWS,
    CodeReader,
    digit_boxes,
    reading_losses,
)
from intermezzo.modeling.modeling_image_vq import ImageVQModel
from intermezzo.processing.dense_labels import SparseLabels
from intermezzo.processing.grid_pictures import GridGeometry
from intermezzo.train.image_vq_data import GridPictures, PictureCollate, slot_labels
from intermezzo.train.score_vlm_data import PackedSystems

from .tiny_lessons import packed_folder, pieces

torch.set_num_threads(1)


LABELS = {
    "note_effects": ["h", "lr"],
    "beat_effects": ["pm"],
    "tuplets": ["3:2", "6:4"],
    "bar_starts": ["ro"],
    "bar_ends": [],
}


@pytest.mark.parametrize(("high", "wide"), [(8, 8), (8, 16), (16, 8), (16, 16)])
@pytest.mark.parametrize("labels", [None, LABELS])
def test_slots_lie_where_their_code_lies(high: int, wide: int, labels: dict | None) -> None:
    torch.manual_seed(0)
    reader = CodeReader(3, high, wide, labels, hidden=8)
    rows, columns = 12 * 8 // high, 4
    values = torch.zeros(1, 3, rows, columns)
    found = reader(values)
    slots = columns * wide // 8
    shapes = {"frets": (1, FRET_CLASSES, STRING_ROWS, slots), "values": (1, BEAT_CLASSES, slots)}
    if labels:
        shapes |= {"note_signs": (1, 2, STRING_ROWS, slots), "beat_signs": (1, 3, slots), "bar_signs": (1, 1)}
    assert {name: tuple(said.shape) for name, said in found.items()} == shapes
    values[0, :, -1, 3] = 1.0  # the last code moves the slots under it, and those of its neighbour on the left
    moved = (reader(values)["frets"] - found["frets"]).abs().amax((0, 1)) > 1e-6
    wanted = torch.zeros_like(moved)
    wanted[-(high // 8) :, 2 * (wide // 8) :] = True
    assert torch.equal(moved, wanted)
    above = torch.zeros_like(values)
    above[0, :, 0, 0] = 1.0  # marks far above the staff are seen by beats and bars, where signs are read
    again = reader(above)
    assert torch.equal(again["frets"], found["frets"]) and torch.equal(again["values"], found["values"]) == (not labels)


def test_losses_count_what_stands_there_more() -> None:
    frets = torch.full((1, STRING_ROWS, 2), -100)
    frets[0, 0] = torch.tensor([0, 5])
    logits = {"frets": torch.zeros(1, FRET_CLASSES, STRING_ROWS, 2), "values": torch.zeros(1, BEAT_CLASSES, 2)}
    logits["beat_signs"] = torch.zeros(1, 2, 2)
    logits["frets"][0, 0, 0, :] = 3.0  # says: nothing
    logits["beat_signs"][0, 0] = 2.0
    truth = {"frets": frets, "beats": torch.full((1, 2), -100), "beat_signs": torch.tensor([[[1, -1], [0, -1]]])}
    found = reading_losses(logits, truth)
    nothing, five = (torch.nn.functional.cross_entropy(logits["frets"][:, :, 0, i], frets[:, 0, i]) for i in (0, 1))
    assert float(found["frets"]) == pytest.approx(float((0.1 * nothing + five) / 1.1))
    assert float(found["values"]) == 0.0  # nothing to learn from is no error, and not a number either
    there, absent = np.log(1 + np.exp(-2.0)), np.log(2.0)
    assert float(found["beat_signs"]) == pytest.approx((5 * there + absent) / 2)
    assert set(reading_losses(logits, {"frets": frets})) == {"frets"}


def test_digits_are_boxed() -> None:
    frets = torch.zeros(1, STRING_ROWS, 5, dtype=torch.long)
    frets[0, 1, 2] = 7
    boxes = digit_boxes(frets, 96)
    assert boxes.shape == (1, 1, 96, 40) and float(boxes.sum()) == 3 * 64
    assert boxes[0, 0, 16 + 8 : 16 + 16, 8:32].all()


def test_labels_by_hand() -> None:
    notes = np.array([[0, 4.0, 4, 0, 2], [5, 17.0, 27, 0, 1]])
    beats = np.array([[0, 4.0, 1, 2, 1, 0, 0, 1], [0, 17.0, 2, 3, 0, 2, 0, 0], [1, 9.0, 1, 2, 0, 0, 0, 0]])
    bars = np.array([[0.0, 16.0, 0, 0, -1], [16.0, 32.0, 1, 0, -1]])
    labels = SparseLabels(notes, beats, bars)
    plain = slot_labels(labels, 32)
    assert plain["frets"][0].tolist() == [4, 0, 0, 0] and plain["frets"][5].tolist() == [0, 0, 27, 0]
    assert plain["frets"].sum() == 31 and plain["beats"].tolist() == [1 + 6 + 1, 0, 1 + 21 + 9, 0]
    assert set(plain) == {"frets", "beats"}
    found = slot_labels(labels, 32, LABELS)
    assert found["note_signs"][:, 0, 0].tolist() == [0, 1] and found["note_signs"][:, 5, 2].tolist() == [1, 0]
    assert int((found["note_signs"] >= 0).sum()) == 4
    assert found["beat_signs"].T.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1], [-1, -1, -1]]
    assert found["bar_signs"].tolist() == [1]


def test_batches_say_where_nothing_counts(tmp_path) -> None:
    geometry = GridGeometry(8, 16)
    systems = PackedSystems([packed_folder(tmp_path, pieces("x", 2))])
    pictures = GridPictures(systems, geometry)
    rows = [pictures[i] for i in range(2)]
    rows[1]["picture"] = rows[1]["picture"][:, :32]
    batch = PictureCollate(geometry, LABELS)(rows)
    assert batch["bar_signs"].shape == (2, 1) and (batch["frets"][1, :, 4:] == -100).all()
    for name in ("note_signs", "beat_signs"):
        assert (batch[name][1, ..., 4:] == -1).all() and (batch[name] == 0).any()


def test_codes_learn_to_say_what_stands_there(tmp_path) -> None:
    """Without the head a picture's loss is the same; with it frets are read off the codes."""
    geometry = GridGeometry(8, 16)
    pictures = GridPictures(PackedSystems([packed_folder(tmp_path, pieces("x", 4))]), geometry)
    batch = PictureCollate(geometry)([pictures[i] for i in range(8)])
    assert int((batch["frets"] > 0).sum()) == 32 and int((batch["beats"] > 0).sum()) == 32
    torch.manual_seed(0)
    small = dict(channels=(8, 8, 12, 16), code_depth=1, fsq_levels=(8, 8, 4))
    model = ImageVQModel(image_vq_strings(**small)).train()
    plain = ImageVQModel(ImageVQConfig(patch_height=8, patch_width=16, **small))
    plain.load_state_dict(model.state_dict(), strict=False)
    for one in (model, plain):
        one.eval()
    without = {name: batch[name] for name in ("pixel_values", "widths")}
    assert torch.equal(model(**without).loss, plain(**without).loss)
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        out = model(**batch)
        out.loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(out.losses["frets"]))
    assert losses[-1] < losses[0] / 10
