"""A toy for bridges: each text has two songs, so that the mean of its songs is none of them."""

from __future__ import annotations

from typing import Any

import torch

from intermezzo.configuration.configuration_summary_bridge import SummaryBridgeConfig
from intermezzo.modeling.bridge_layers import TextTriple
from intermezzo.modeling.modeling_summary_bridge import SummaryBridgeModel

TEXTS, SIZE, WIDTH, BARS, LENGTH = 4, 2, 8, 3, 2
_DRAW = torch.Generator().manual_seed(11)
POOLED = torch.randn(TEXTS, WIDTH, generator=_DRAW)
EMBED = torch.randn(TEXTS, LENGTH, WIDTH, generator=_DRAW)
# Places of the texts on a circle; the two songs of a text lie to both sides.
CENTRES = 3.0 * torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
SIDES = 1.5 * torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
SPREAD = 0.25


def songs(text: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Summaries `(B, BARS, SIZE)` for texts `(B,)`; all bars of a song lie on the same side, and drift."""
    sign = torch.where(torch.rand(len(text), generator=generator) < 0.5, -1.0, 1.0)
    middle = CENTRES[text] + sign[:, None] * SIDES[text]
    drift = torch.linspace(-0.5, 0.5, BARS)[:, None]
    return middle[:, None] + drift + SPREAD * torch.randn(len(text), BARS, SIZE, generator=generator)


def words(text: torch.Tensor) -> dict[str, torch.Tensor]:
    """The triples of texts `(B,)`."""
    mask = torch.ones(len(text), LENGTH)
    return {"text_embed": EMBED[text], "text_pooled": POOLED[text], "text_mask": mask}


def batch(count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Songs and their texts."""
    text = torch.randint(TEXTS, (count,), generator=generator)
    return {"summary_tokens": songs(text, generator), **words(text)}


def config_of(**changes: Any) -> SummaryBridgeConfig:
    sizes: dict[str, Any] = dict(
        summary_size=SIZE, text_size=WIDTH, hidden_size=48, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=96, dropout=0.0, guidance_scale=1.0, condition_dropout=0.1, initializer_range=0.1,
    )  # fmt: skip
    return SummaryBridgeConfig(**{**sizes, **changes})


def trained(steps: int = 350, rows: int = 96, **changes: Any) -> SummaryBridgeModel:
    """A small bridge after some steps on the toy."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(5)
    model = SummaryBridgeModel(config_of(**changes))
    model.fit_statistics([batch(2000, draw)])
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 20, 1.05 - step / steps)
        optimizer.zero_grad()
        model(**batch(rows, draw)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def join(a: TextTriple, b: TextTriple) -> TextTriple:
    """The rows of both."""
    return TextTriple(*(torch.cat(same) for same in zip(vars(a).values(), vars(b).values(), strict=True)))


def energy_distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Of two samples `(N, …)` (Székely and Rizzo 2013): 0 for equal distributions."""
    a, b = a.flatten(1), b.flatten(1)
    within = [torch.cdist(x, x).sum() / (len(x) * (len(x) - 1)) for x in (a, b)]
    return float(2 * torch.cdist(a, b).mean() - within[0] - within[1])


def distance_to_songs(
    model: SummaryBridgeModel, asked: list[int] | None = None, count: int = 250, **options: Any
) -> float:
    """Energy distance between what a model draws for each text and that text's songs, mean over the texts.

    Args:
        model: The bridge.
        asked: The text that is really given in place of each.
        count: Samples of each text.
        **options: Of `sample_summary_tokens`.
    """
    given = torch.tensor(asked or range(TEXTS)).repeat_interleave(count)
    draw = torch.Generator().manual_seed(77)
    found = model.sample_summary_tokens(**words(given), num_bars=BARS, generator=draw, **options)
    total = 0.0
    for text in range(TEXTS):
        real = songs(torch.full((count,), text), torch.Generator().manual_seed(100 + text))
        total += energy_distance(found[text * count : (text + 1) * count], real)
    return total / TEXTS


def floor(count: int = 250) -> float:
    """The same between two draws of the songs themselves."""
    pairs = [
        [songs(torch.full((count,), text), torch.Generator().manual_seed(seed + text)) for seed in (100, 200)]
        for text in range(TEXTS)
    ]
    return sum(abs(energy_distance(a, b)) for a, b in pairs) / TEXTS
