"""The whole way of SummaryBridge: the same as its steps one by one, whatever was worked out before them."""

from __future__ import annotations

import pytest
import torch

from . import toy_bridge as toy


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("steps", [1, 4])
def test_the_way_is_its_steps(guidance: float, steps: int) -> None:
    model = toy.trained(steps=3, end_noise=1.0)
    words = toy.words(torch.tensor([0, 2]))
    draw = torch.Generator().manual_seed(4)
    found = model.sample_summary_tokens(
        **words, num_bars=toy.BARS, num_inference_steps=steps, guidance_scale=guidance, noise_scale=0.7, generator=draw
    )

    text, scheduler = model.text_triple(*words.values()), model.scheduler
    bars = torch.ones(2, toy.BARS, dtype=torch.bool)
    nothing = model.text_triple(None, None, None, 2)
    with torch.no_grad():
        source = model.source(text, bars)
        scheduler.set_timesteps(steps)
        sample = source + 0.7 * torch.randn(source.shape, generator=torch.Generator().manual_seed(4))
        for t in scheduler.timesteps:
            music = []
            for who in (text, nothing):
                begin = model.source(who, bars)
                moved = sample + scheduler.progress(t) * (begin - source)
                said = model.predict(moved, begin, t.expand(2), model.listen(who, bars))
                music.append(scheduler.predict_original(said, moved, begin, t))
            expected = music[1] + guidance * (music[0] - music[1])
            sample = scheduler.move(expected, sample, source, t, scheduler.previous_timestep(t))
    torch.testing.assert_close(found, model.statistics.unwhiten(sample), rtol=1e-4, atol=1e-4)
