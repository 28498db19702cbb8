"""What stands beside a code, against a loop over the grid; it never tells what comes later."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from intermezzo.modeling.modeling_native_vlm import NativeVLMForCausalLM
from intermezzo.modeling.native_neighbours import OFFSETS, neighbour_ids

from .tiny_native_vlm import grid, native_config, sequences

torch.set_num_threads(1)


@pytest.mark.parametrize("scan", ["columns", "rows"])
def test_neighbours_are_those_of_the_grid(scan: str) -> None:
    torch.manual_seed(0)
    v = native_config(scan=scan).vocabulary
    one, two = grid(3, 4), grid(2, 5)
    parts = [[9, 8], v.write_grid(one), [7, v.place(2), 10], v.write_grid(two), [3]]
    ids = [token for part in parts for token in part]
    found = neighbour_ids(torch.tensor([ids]), v)[0]
    expected = torch.full((len(ids), len(OFFSETS)), -1)
    start = 0
    for part, picture in zip(parts, (None, one, None, two, None), strict=True):
        if picture is not None:
            lines = (picture.T if scan == "columns" else picture) + v.first_code
            for number, line in enumerate(lines):
                for along in range(len(line) + 1):  # the end of a line stands before the next one's first cell
                    here = (number, along) if along < len(line) else (number + 1, -1)
                    token = start + 3 + number * (len(line) + 1) + along
                    for k, (more, back) in enumerate(OFFSETS):
                        place = here[0] + back, here[1] + more
                        if place[0] >= 0 and 0 <= place[1] < len(line):
                            expected[token, k] = int(lines[place])
        start += len(part)
    assert torch.equal(found, expected)


def test_what_comes_later_is_never_told() -> None:
    torch.manual_seed(0)
    config = native_config(neighbours=True, rope="placed")
    ids = sequences(config, 1)
    told = neighbour_ids(ids, config.vocabulary)
    for place in range(ids.shape[1]):
        other = ids.clone()
        other[0, place:] = torch.from_numpy(np.roll(ids[0, place:].numpy(), 1))
        again = neighbour_ids(other, config.vocabulary)
        assert torch.equal(told[0, : max(place, 0)], again[0, : max(place, 0)])


def test_a_step_with_a_cache_asks_for_neighbours() -> None:
    torch.manual_seed(0)
    config = native_config(neighbours=True, rope="placed")
    model = NativeVLMForCausalLM(config).eval()
    ids = sequences(config, 1)
    whole = model(ids).logits
    first = model(ids[:, :9], use_cache=True)
    with pytest.raises(ValueError, match="give neighbours"):
        positions = model.positions(ids)[..., 9:]
        model(ids[:, 9:], past_key_values=first.past_key_values, use_cache=True, position_ids=positions)
    first = model(ids[:, :9], use_cache=True)
    where = model.whereabouts(ids, None, ids.shape[1] - 9)
    rest = model(ids[:, 9:], past_key_values=first.past_key_values, use_cache=True, **where)
    torch.testing.assert_close(rest.logits, whole[:, 9:], atol=1e-5, rtol=1e-4)
