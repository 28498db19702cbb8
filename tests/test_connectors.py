"""What joins tower and language model."""

from __future__ import annotations

import torch

from intermezzo.modeling.connectors import MLPConnector, running_counts
from intermezzo.modeling.modeling_score_tower import ScoreTowerModel
from intermezzo.modeling.modeling_score_vlm import dense_evidence, evidence_size

from .tiny_score_vlm import pictures, tower_config


def test_the_projector_maps_each_column_by_itself() -> None:
    torch.manual_seed(0)
    connector = MLPConnector(6, 4)
    columns = torch.randn(2, 5, 6)
    out = connector(columns)
    assert out.shape == (2, 5, 4)
    torch.testing.assert_close(out[:, 3], connector(columns[:, 3]))


def test_running_counts_know_how_many_have_passed() -> None:
    presence = torch.zeros(1, 40)
    presence[0, [3, 10, 11, 30]] = 1
    found = running_counts(presence, periods=4)
    assert found.shape == (1, 40, 8) and found.dtype == torch.float32
    torch.testing.assert_close(found[0, 3], found[0, 9])  # nothing in between
    whole = running_counts(torch.ones(1, 16), periods=4)[0]  # counts 1 ... 16, the longest period
    assert torch.cdist(whole, whole).add(torch.eye(16) * 9).min() > 0.1  # all are told apart
    torch.testing.assert_close(running_counts(presence.half(), 4), found)


def test_running_counts_do_not_look_ahead() -> None:
    presence = torch.rand(1, 20)
    other = presence.clone()
    other[0, 12:] = 1
    torch.testing.assert_close(running_counts(presence)[:, :12], running_counts(other)[:, :12])


def test_evidence_has_the_announced_size_and_knows_what_is_there() -> None:
    torch.manual_seed(0)
    config = tower_config()
    logits = ScoreTowerModel(config).eval()(pictures(2)).dense_logits
    evidence = dense_evidence(logits)
    assert evidence.shape == (2, 8, evidence_size(config)) and evidence.dtype == torch.float32
    assert evidence.isfinite().all()
    # an attribute of a beat that is not there says nothing
    none = {name: value.clone() for name, value in logits.items()}
    none["beats"][..., 0] = 60.0
    moved = {**none, "durations": none["durations"] + torch.randn_like(none["durations"])}
    torch.testing.assert_close(dense_evidence(none), dense_evidence(moved))
    assert not torch.allclose(evidence, dense_evidence({**logits, "durations": moved["durations"]}))
