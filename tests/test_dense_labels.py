"""Dense labels: classes, the truth of a system, its place in a batch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from intermezzo.datasets_scripts.guitar_parts import iter_system_jobs
from intermezzo.modeling.modeling_score_tower import ScoreTowerModel
from intermezzo.processing import dense_labels as dl
from intermezzo.processing.alphatex_grammar import read_alphatex

from .dense_truth import place_system, truth
from .tiny_score_vlm import tower_config

TEXT = (
    "\\staff {tabs}\n"
    "\\ro \\ts (2 4) \\tempo 97 (3.3{h} 5.4).8 r.8 1.2{ss}.8{gr} 2.1.4 |\n"
    "\\rc 2 3.3{t}.8{d} 0.5{x}.16 0.6.8{tu (3 2)} 0.6.8{tu (3 2)} 0.6.8{tu (3 2)} |\n"
)


@pytest.fixture(scope="module")
def space() -> dict[str, list[str]]:
    return dl.build_label_space([read_alphatex(TEXT)])


@pytest.mark.parametrize(
    "effect", [("h", ()), ("be", ("bend", 0, 0, 60, 4)), ("tp", (8,)), ("tb", ("custom", 0, -4, 60, 0))]
)
def test_effects_are_named_and_come_back(effect: tuple) -> None:
    assert dl.effect_from_key(dl.effect_key(*effect)) == effect


def test_classes_are_what_occurs_most_frequent_first(space: dict[str, list[str]]) -> None:
    assert space["tuplets"] == ["3:2"] and space["bar_ends"] == ["rc 2"]
    assert set(space["note_effects"]) == {"h", "ss"}
    assert set(space["bar_starts"]) == {"ro", "ts 2,4", "tempo", *dl.ALWAYS}
    assert space["frets"][:2] == ["0", "1"] and space["frets"][-3:] == ["24", "x", "t"]
    assert space["durations"] == ["1", "2", "4", "8", "16", "32", "64"]
    assert space["beat_effects"] == ["-"]  # a head is never empty
    texts = [read_alphatex(job[0]) for job in iter_system_jobs(3, 60, "train")]
    large = dl.build_label_space(texts, max_fret=20)
    assert len(large["frets"]) == 23
    assert all(len(large[name]) <= dl.MAX_FLAGS for name in ("note_effects", "beat_effects", "bar_starts"))
    assert dl.build_label_space(texts, max_fret=20) == large


def test_the_truth_of_a_system(space: dict[str, list[str]]) -> None:
    score = read_alphatex(TEXT)
    beat_x, bar_x, _ = place_system(score)
    labels = dl.encode_system(score, beat_x, bar_x, space)
    assert labels.notes.shape == (9, 5) and labels.beats.shape == (9, 8) and labels.bars.shape == (2, 5)
    assert labels.notes.dtype == labels.beats.dtype == labels.bars.dtype == np.float64
    first = labels.notes[labels.notes[:, 0] == 2][0]
    assert first[1] == beat_x[0, 0, 0] and first[2] == 1 + 3 and first[4] == 1 << space["note_effects"].index("h")
    heads = [space["frets"][int(head) - 1] for head in labels.notes[:, 2]]
    assert heads[4:6] == ["t", "x"] and sorted(heads[:2]) == ["3", "5"]
    assert labels.beats[:, 2].tolist() == [1, 2, 1, 1, 1, 1, 1, 1, 1]
    assert labels.beats[:, 6].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert labels.beats[:, 5].tolist() == [0] * 6 + [1] * 3 and labels.beats[4, 4] == 1
    assert labels.bars[:, :2].tolist() == [list(edges) for edges in bar_x]
    assert labels.bars[:, 4].tolist() == [97, -1] and labels.bars[1, 3] == 1


def test_what_can_not_be_labelled_is_an_error(space: dict[str, list[str]]) -> None:
    score = read_alphatex(TEXT)
    beat_x, bar_x, _ = place_system(score)
    without_a_box = {key: x for key, x in beat_x.items() if key != (1, 0, 2)}
    with pytest.raises(KeyError):
        dl.encode_system(score, without_a_box, bar_x, space)
    with pytest.raises(KeyError, match="3:2"):
        dl.encode_system(score, beat_x, bar_x, {**space, "tuplets": ["5:4"]})
    with pytest.raises(KeyError):
        dl.encode_system(score, beat_x, bar_x, {**space, "frets": space["frets"][:2]})


def test_flags_come_back_from_their_bits() -> None:
    index = {f"flag {i}": i for i in range(dl.MAX_FLAGS)}
    bits = float(dl._bits(["flag 0", f"flag {dl.MAX_FLAGS - 1}", "unheard of"], index))
    unpacked = dl._unpack(bits, dl.MAX_FLAGS)
    assert np.flatnonzero(unpacked).tolist() == [0, dl.MAX_FLAGS - 1]


def test_a_batch_has_the_shapes_of_the_heads(space: dict[str, list[str]]) -> None:
    labels, width = truth(read_alphatex(TEXT), space)
    padded = -(-width // 16) * 16 + 64
    painted = dl.expand([labels] * 2, [width] * 2, padded // dl.SLOT_PX, space)
    model = ScoreTowerModel(tower_config(labels=space)).eval()
    with torch.no_grad():
        out = model(torch.zeros(2, 1, 240, padded), dense_labels={k: torch.from_numpy(v) for k, v in painted.items()})
    assert painted.keys() == out.dense_logits.keys() and out.loss.isfinite()
    for name, value in out.dense_logits.items():
        flags = painted[name].ndim == value.ndim
        assert painted[name].shape == tuple(value.shape if flags else value.shape[:-1]), name


def test_everything_is_painted_at_its_slot(space: dict[str, list[str]]) -> None:
    score = read_alphatex(TEXT)
    labels, width = truth(score, space)
    before = copy.deepcopy(labels)
    slots = width // dl.SLOT_PX + 10
    out = {name: array[0] for name, array in dl.expand([labels], [width], slots, space).items()}
    for voice, x, kind, duration, dots, *_ in labels.beats:
        slot = int(x // 4)
        assert out["beats"][int(voice), slot] == kind
        assert out["durations"][int(voice), slot] == duration and out["dots"][int(voice), slot] == dots
    assert (out["beats"] > 0).sum() == 9 and (out["frets"] > 0).sum() == 9
    assert np.flatnonzero(out["bar_edges"][:, 0] > 0).tolist() == [int(left // 4) for left in labels.bars[:, 0]]
    assert np.flatnonzero(out["bar_edges"][:, 1] > 0).tolist() == [int(right // 4) for right in labels.bars[:, 1]]
    (tempo,) = np.unique(np.argwhere(out["tempo_digits"] >= 0)[:, 0])
    assert tempo == labels.beats[0, 1] // 4 and out["tempo_digits"][tempo].tolist() == [0, 9, 7]
    end = -(-width // 4)
    assert (out["frets"][:, end:] == dl.IGNORE).all() and (out["frets"][:, :end] >= 0).all()
    assert (out["beats"][:, end:] == dl.IGNORE).all() and (out["bar_edges"][end:] == -1).all()
    for name in ("notes", "beats", "bars"):
        np.testing.assert_array_equal(getattr(labels, name), getattr(before, name))


def test_a_shift_moves_all_by_whole_slots(space: dict[str, list[str]]) -> None:
    labels, width = truth(read_alphatex(TEXT), space)
    slots = width // dl.SLOT_PX + 10
    plain = dl.expand([labels], [width], slots, space)
    moved = dl.expand([labels.moved(1.0, 8.0)], [width + 8], slots, space)
    for name, axis in (("frets", 2), ("beats", 2), ("durations", 2), ("bar_starts", 1), ("tempo_digits", 1)):
        a, b = (np.where(array > 0, array, 0) for array in (plain[name], moved[name]))
        np.testing.assert_array_equal(np.roll(a, 2, axis=axis), b)


def test_moving_scales_first_and_leaves_the_rest_alone(space: dict[str, list[str]]) -> None:
    labels, _ = truth(read_alphatex(TEXT), space)
    moved = labels.moved(1.5, -3.0)
    for name, columns in (("notes", [1]), ("beats", [1]), ("bars", [0, 1])):
        before, after = getattr(labels, name), getattr(moved, name)
        np.testing.assert_allclose(after[:, columns], before[:, columns] * 1.5 - 3.0)
        others = [k for k in range(before.shape[1]) if k not in columns]
        np.testing.assert_array_equal(after[:, others], before[:, others])


def test_pictures_of_a_batch_do_not_mix(space: dict[str, list[str]]) -> None:
    one, width = truth(read_alphatex(TEXT), space)
    other, wide = truth(read_alphatex("\\staff {tabs}\n\\ro 3.3.4 3.3.4 3.3.4 3.3.4 |\n"), space)
    slots = max(width, wide) // dl.SLOT_PX + 4
    both = dl.expand([one, other], [width, wide], slots, space)
    for i, (labels, size) in enumerate(((one, width), (other, wide))):
        alone = dl.expand([labels], [size], slots, space)
        for name in both:
            np.testing.assert_array_equal(both[name][i], alone[name][0])


@pytest.mark.parametrize("seed", range(4))
def test_truth_in_another_order_of_classes_is_the_truth_in_this_one(space: dict[str, list[str]], seed: int) -> None:
    score = read_alphatex(TEXT)
    beat_x, bar_x, _ = place_system(score)
    order = np.random.default_rng(seed)
    wide = {name: [*classes, *(f"more {i}" for i in range(3))] for name, classes in space.items()}
    target = {name: list(order.permutation(classes)) for name, classes in wide.items()}
    labels = dl.encode_system(score, beat_x, bar_x, space)
    arrays = {name: getattr(labels, name).copy() for name in ("notes", "beats", "bars")}
    dl.relabel(arrays, space, target)
    expected = dl.encode_system(score, beat_x, bar_x, target)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, getattr(expected, name))
    with pytest.raises(KeyError, match="rc 2"):
        dl.relabel(vars(labels), space, {**space, "bar_ends": ["rc 3"]})
