"""The style head trained further: pairs by one threshold, what is learnt, what stays, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from intermezzo.modeling.modeling_style_encoder import StyleEncoderModel
from intermezzo.modeling.style_losses import UNKNOWN_STYLE, pair_agreement
from intermezzo.processing.errors import InputError
from intermezzo.train.style_encoder_head import (
    HeadArguments,
    Statistics,
    main,
    run,
    statistics_of,
    tell_apart,
    train_head,
)

from .tiny_style_encoder import save_tiny, write_split

torch.set_num_threads(1)
SCALE, BIAS = torch.tensor(4.0), torch.tensor(-1.0)
STYLES, CONTENTS = ["red", "green", "blue"], [f"c{number}" for number in range(6)]


def test_pairs_are_weighed_half_and_half() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(2)), dim=-1)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, UNKNOWN_STYLE])
    same, two = [], []
    for i in range(6):
        for j in range(i + 1, 6):
            odds = SCALE * (vectors[i] @ vectors[j]) + BIAS
            alike = labels[i] == labels[j]
            (same if alike else two).append(torch.log1p(torch.exp(-odds if alike else odds)))
    expected = torch.stack(same).mean() + torch.stack(two).mean()
    torch.testing.assert_close(pair_agreement(3 * vectors, labels, SCALE, BIAS), expected)


@pytest.mark.parametrize("labels", [[0, 0], [0, 1], [UNKNOWN_STYLE, UNKNOWN_STYLE]])
def test_batches_without_both_kinds_of_pairs_stay_finite(labels: list[int]) -> None:
    vectors = torch.randn(2, 4, requires_grad=True)
    loss = pair_agreement(vectors, torch.tensor(labels), SCALE, BIAS)
    loss.backward()
    assert loss.isfinite() and vectors.grad is not None and vectors.grad.isfinite().all()


def drawn(count: int, width: int, seed: int, styles: int = 4) -> Statistics:
    """Statistics in which styles differ in a few of many numbers."""
    draw = torch.Generator().manual_seed(seed)
    own = 6 * torch.randn(styles, width, generator=torch.Generator().manual_seed(0)) * (torch.arange(width) < 5)
    label = torch.arange(count) % styles
    values = own[label] + torch.randn(count, width, generator=draw)
    return Statistics(values, [f"s{k}" for k in label.tolist()], [f"c{k}" for k in range(count)])


def test_a_head_learns_styles_and_the_best_weights_stay(tmp_path: Path) -> None:
    model = StyleEncoderModel.from_pretrained(save_tiny(tmp_path), dtype=torch.float32)
    width = sum(norm.normalized_shape[0] for norm in model.style_head.norms)
    held = drawn(120, width, 2)
    args = HeadArguments(steps=60, batch_size=64, learning_rate=5e-3, noise=0.1, dropout=0.0)
    areas = train_head(model.style_head, drawn(800, width, 1), held, args, 0.1)
    assert areas[0] < 0.8 and max(areas) > 0.9
    assert tell_apart(model.style_head, held) == pytest.approx(max(areas))


def test_a_model_is_kept_with_its_other_outputs_as_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = save_tiny(tmp_path / "first")
    for split in ("train", "validation"):
        write_split(tmp_path / "data", split, STYLES, CONTENTS)
    flags = ["--data_dir", str(tmp_path / "data"), "--model", str(first), "--output_dir", str(tmp_path / "out")]
    assert main([*flags, "--steps", "20", "--batch_size", "8"]) == 0
    assert "told apart" in capsys.readouterr().out
    old, new = (StyleEncoderModel.from_pretrained(folder) for folder in (first, tmp_path / "out"))
    assert old.dtype == new.dtype
    for name, value in old.state_dict().items():
        if not name.startswith("style_head."):
            torch.testing.assert_close(new.state_dict()[name], value, rtol=0, atol=0)
    assert main(flags) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_what_was_seen_is_kept(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    write_split(tmp_path / "data", "train", STYLES, CONTENTS)
    from intermezzo.processing.processing_style_encoder import StyleEncoderProcessor

    model, processor = StyleEncoderModel.from_pretrained(folder), StyleEncoderProcessor.from_pretrained(folder)
    seen = statistics_of(model, processor, tmp_path / "data", "train", tmp_path / "seen")
    again = statistics_of(model, None, tmp_path / "data", "train", tmp_path / "seen")
    assert len(seen.values) == len(STYLES) * len(CONTENTS)
    torch.testing.assert_close(seen.values, again.values)
    assert (seen.styles, seen.contents) == (again.styles, again.contents)
    with torch.no_grad():
        next(model.backbone.parameters()).mul_(2)
    other = statistics_of(model, processor, tmp_path / "data", "train", tmp_path / "seen")
    assert not torch.equal(other.values, seen.values), "statistics of another backbone were taken"


@pytest.mark.parametrize("changes", [{"steps": 0}, {"dropout": 1.0}, {"noise": -1.0}, {"evenness": 2.0}])
def test_settings_are_checked(changes: dict[str, float]) -> None:
    with pytest.raises(InputError):
        HeadArguments(**changes)  # type: ignore[arg-type]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--model"):
        run(HeadArguments(data_dir="x", model=str(tmp_path)))
    folder = save_tiny(tmp_path / "model")
    with pytest.raises(InputError, match="train-"):
        run(HeadArguments(data_dir=str(tmp_path), model=str(folder), output_dir=str(tmp_path / "out")))
