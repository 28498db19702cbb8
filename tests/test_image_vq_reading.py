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


@pytest.mark.parametrize(("high", "wide"), [(8, 8), (8, 16), (16, 8), (16, 16)])
def test_slots_lie_where_their_code_lies(high: int, wide: int) -> None:
    torch.manual_seed(0)
    reader = CodeReader(3, high, wide, hidden=8)
    rows, columns = 12 * 8 // high, 4
    values = torch.zeros(1, 3, rows, columns)
    frets, beats = reader(values)
    assert frets.shape == (1, FRET_CLASSES, STRING_ROWS, columns * wide // 8)
    assert beats.shape == (1, BEAT_CLASSES, columns * wide // 8)
    values[0, :, -1, 3] = 1.0  # the last code moves the slots under it, and those of its neighbour on the left
    moved = (reader(values)[0] - frets).abs().amax((0, 1)) > 1e-6
    wanted = torch.zeros_like(moved)
    wanted[-(high // 8) :, 2 * (wide // 8) :] = True
    assert torch.equal(moved, wanted)


def test_losses_count_what_stands_there_ten_times() -> None:
    frets = torch.full((1, STRING_ROWS, 2), -100)
    frets[0, 0] = torch.tensor([0, 5])
    beats = torch.full((1, 2), -100)
    logits = torch.zeros(1, FRET_CLASSES, STRING_ROWS, 2), torch.zeros(1, BEAT_CLASSES, 2)
    logits[0][0, 0, 0, :] = 3.0  # says: nothing
    found = reading_losses(logits, frets, beats)
    nothing, five = (torch.nn.functional.cross_entropy(logits[0][:, :, 0, i], frets[:, 0, i]) for i in (0, 1))
    assert float(found["frets"]) == pytest.approx(float((0.1 * nothing + five) / 1.1))
    assert float(found["values"]) == 0.0  # nothing to learn from is no error, and not a number either


def test_digits_are_boxed() -> None:
    frets = torch.zeros(1, STRING_ROWS, 5, dtype=torch.long)
    frets[0, 1, 2] = 7
    boxes = digit_boxes(frets, 96)
    assert boxes.shape == (1, 1, 96, 40) and float(boxes.sum()) == 3 * 64
    assert boxes[0, 0, 16 + 8 : 16 + 16, 8:32].all()


def test_labels_by_hand() -> None:
    notes = np.array([[0, 4.0, 4, 0, 0], [5, 17.0, 27, 0, 0]])
    beats = np.array([[0, 4.0, 1, 2, 1, 0, 0, 0], [0, 17.0, 2, 3, 0, 0, 0, 0], [1, 9.0, 1, 2, 0, 0, 0, 0]])
    frets, values = slot_labels(SparseLabels(notes, beats, np.zeros((0, 5))), 32)
    assert frets[0].tolist() == [4, 0, 0, 0] and frets[5].tolist() == [0, 0, 27, 0] and frets.sum() == 31
    assert values.tolist() == [1 + 6 + 1, 0, 1 + 21 + 9, 0]


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
