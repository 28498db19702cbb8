"""Where texts lie among the summaries: what a small network says beside the line."""

from __future__ import annotations

import pytest
import torch

from .test_modeling_summary_bridge import make

torch.set_num_threads(1)


def _crossed(count: int, seed: int) -> dict[str, torch.Tensor]:
    """Texts whose place no line can tell: it is the product of two of their numbers."""
    draw = torch.Generator().manual_seed(seed)
    pooled, embed = torch.randn(count, 6, generator=draw), torch.randn(count, 3, 6, generator=draw)
    mask = (torch.arange(3) <= torch.arange(count)[:, None] % 3).long()
    words = (embed * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    told = torch.stack([pooled[:, 0] * pooled[:, 1], words[:, 0].abs() * 2, pooled[:, 2], words[:, 1]], dim=1)
    music = told[:, None] + 0.3 * torch.randn(count, 5, 4, generator=draw)
    bars = (torch.arange(5) < 5 - torch.arange(count)[:, None] % 2).long()
    return {"summary_tokens": music, "text_embed": embed, "text_pooled": pooled, "text_mask": mask, "bar_mask": bars}


def test_places_say_what_a_line_can_not_and_stay() -> None:
    model, unseen = make(place_size=64), _crossed(500, 99)
    batches = [_crossed(128, seed) for seed in range(300)]
    model.fit_statistics(batches[:20])
    text = model.text_triple(unseen["text_embed"], unseen["text_pooled"], unseen["text_mask"])
    bars = unseen["bar_mask"] > 0.5
    music = model.statistics.whiten(unseen["summary_tokens"])

    def explained() -> float:
        left = (model.source(text, bars) - music)[bars] ** 2
        return 1 - float(left.mean() / (music[bars] ** 2).mean())

    line = explained()
    assert 0.1 < line < 0.6  # a new network adds nothing, so this is the line's
    told = model.fit_place(batches, dropout=0.0)
    assert explained() > line + 0.2 and told == pytest.approx(explained(), abs=0.1)
    assert not any(parameter.requires_grad for parameter in model.place.parameters())
    text.present[:] = False
    assert not model.source(text, bars).any()  # no text, no place


def test_without_a_place_network_the_line_is_all() -> None:
    for changes in ({"place_size": 0}, {"source": "none"}):
        model = make(**changes)
        assert model.place is None and model.fit_place([_crossed(8, 0)]) == 0.0
