"""What is measured at the pixels: widths of lines, what does not matter to them, and pictures that hold nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from intermezzo.modeling.modeling_style_encoder import StyleEncoderModel
from intermezzo.modeling.style_drawing import CLOSED, DRAWING_SIZE, ERODED, OPENED, _step, _steps, drawing_measures
from intermezzo.train.style_encoder_head import HeadArguments, run, with_drawing

from .tiny_style_encoder import save_tiny, write_split

torch.set_num_threads(1)
FIRST_WIDTH = 14
OPENINGS = slice(FIRST_WIDTH + len(ERODED), FIRST_WIDTH + len(ERODED) + len(OPENED))
CLOSINGS = slice(OPENINGS.stop, OPENINGS.stop + len(CLOSED))


def bar(width: int, left: int = 20, side: int = 64, dark: float = -1.0) -> torch.Tensor:
    """A bar of some width on white, `(1, 3, side, side)`."""
    x = torch.ones(1, 3, side, side)
    x[:, :, 10:54, left : left + width] = dark
    return x


def test_steps_are_those_of_morphology() -> None:
    x = torch.randint(0, 256, (2, 9, 11), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    widest = F.max_pool2d(x.float()[:, None], 3, 1, 1)[:, 0]
    torch.testing.assert_close(_step(x, torch.maximum, square=True).float(), widest)
    least = -F.max_pool2d(-x.float()[:, None], 3, 1, 1)[:, 0]
    torch.testing.assert_close(_step(x, torch.minimum, square=True).float(), least)
    far = F.pad(x.float(), (1, 1, 1, 1), value=-1)
    cross = torch.stack([far[:, 1:-1, 1:-1], far[:, :-2, 1:-1], far[:, 2:, 1:-1], far[:, 1:-1, :-2], far[:, 1:-1, 2:]])
    torch.testing.assert_close(_step(x, torch.maximum, square=False).float(), cross.amax(0))
    assert len(_steps(x, torch.minimum, 3)) == 4 and torch.equal(_steps(x, torch.minimum, 3)[0], x)


@pytest.mark.parametrize("width", [2, 4, 6, 9])
def test_a_line_is_gone_where_half_its_width_is_taken(width: int) -> None:
    left = drawing_measures(bar(width))[0, OPENINGS]
    for radius, part in zip(OPENED, left.tolist(), strict=True):
        if 2 * radius + 1 > width:
            assert part == 0, (width, radius)
        else:
            assert part > 0.9, (width, radius)


def test_gaps_are_closed_where_half_their_width_is_added() -> None:
    gap = 5
    x = torch.minimum(bar(8, 12), bar(8, 12 + 8 + gap))
    grown = drawing_measures(x)[0, CLOSINGS]
    for radius, part in zip(CLOSED, grown.tolist(), strict=True):
        assert (part > 0.2) == (2 * radius >= gap), radius


def test_place_shade_and_company_do_not_matter() -> None:
    one = drawing_measures(bar(5))
    torch.testing.assert_close(drawing_measures(bar(5, left=30)), one, atol=1e-4, rtol=1e-4)
    paler = drawing_measures(bar(5, dark=0.0))
    torch.testing.assert_close(paler[:, FIRST_WIDTH : CLOSINGS.stop], one[:, FIRST_WIDTH : CLOSINGS.stop])
    both = drawing_measures(torch.cat([bar(9), bar(5), torch.randn(1, 3, 64, 64)]))
    torch.testing.assert_close(both[1:2], one, atol=1e-6, rtol=1e-5)
    wide = bar(5).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(drawing_measures(wide), one)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (40, 5)])
def test_pictures_of_nothing_and_of_few_pixels_are_measured(size: tuple[int, int]) -> None:
    for x in (torch.zeros(2, 3, *size), torch.randn(2, 3, *size), torch.ones(2, 3, *size, dtype=torch.bfloat16)):
        found = drawing_measures(x)
        assert found.shape == (2, DRAWING_SIZE) and found.dtype == torch.float32 and found.isfinite().all()


def test_a_model_with_drawing_comes_back_as_it_was(tmp_path: Path) -> None:
    first = save_tiny(tmp_path / "first")
    for split in ("train", "validation"):
        write_split(tmp_path / "data", split, ["red", "green", "blue"], [f"c{k}" for k in range(6)])
    flags = dict(data_dir=str(tmp_path / "data"), model=str(first), steps=20, batch_size=8, drawing=True)
    run(HeadArguments(**flags, output_dir=str(tmp_path / "out")))  # type: ignore[arg-type]
    new, old = (StyleEncoderModel.from_pretrained(tmp_path / name).eval() for name in ("out", "first"))
    assert new.config.drawing and new.style_head.range.min() > 0 and not (new.style_head.range == 1).all()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        a, b = new(pixel_values=x), old(pixel_values=x)
        tokens, statistics, _ = new.look(x)
        again = new(feature_tokens=tokens, feature_statistics=statistics)
    torch.testing.assert_close(a.pooled, b.pooled)
    torch.testing.assert_close(a.style, again.style)
    assert statistics.shape[1] == old.look(x)[1].shape[1] + DRAWING_SIZE
    thin, thick = (new(pixel_values=bar(width, 8, 64)[:, :, 10:42, :32]).style for width in (2, 9))
    assert not torch.allclose(thin, thick, atol=1e-3)


def test_a_new_head_leaves_the_rest(tmp_path: Path) -> None:
    old = StyleEncoderModel.from_pretrained(save_tiny(tmp_path), dtype=torch.float32)
    new = with_drawing(old)
    for name, value in old.state_dict().items():
        if not name.startswith("style_head."):
            torch.testing.assert_close(new.state_dict()[name], value, rtol=0, atol=0)
    assert not old.config.drawing
