"""The pooled embedding taught what pictures suggest: what is learnt, what stays, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from intermezzo.configuration.configuration_summary_bridge import SummaryBridgeConfig
from intermezzo.modeling.modeling_style_encoder import StyleEncoderModel
from intermezzo.modeling.modeling_summary_bridge import SummaryBridgeModel
from intermezzo.processing.errors import InputError
from intermezzo.processing.music_wishes import SIDED
from intermezzo.train.style_encoder_sides import (
    SidesArguments,
    Suggesting,
    ear_of,
    heard_rightly,
    main,
    run,
    sides_of,
    teach,
)

from .tiny_style_encoder import WIDTH, save_tiny, write_split

torch.set_num_threads(1)
NAMES = ["snail", "meteor shower", "ghost", "plain box"]


def save_bridge(folder: Path, wishes: bool = True) -> Path:
    """A bridge whose ear hears by two images, in two corners of the space."""
    sizes = dict(summary_size=24, text_size=WIDTH, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    config = SummaryBridgeConfig(**sizes, intermediate_size=16, wish_size=16 if wishes else 0, wish_images=2)  # type: ignore[arg-type]
    model = SummaryBridgeModel(config)
    if model.wishes is not None:
        ear = model.wishes.pictures
        ear.centres[0, 0], ear.centres[1, 0] = 1.0, -1.0
        ear.suggests[0], ear.suggests[1] = 1.0, -1.0
        model.wishes.gate[-1] = 1.0
    model.save_pretrained(folder)
    return folder


def line_ear(pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All are pictures, and the first numbers are what they suggest."""
    return torch.ones(len(pooled)), pooled[:, :7]


def suggesting_rows(count: int, seed: int) -> Suggesting:
    """What is suggested is in the values, turned."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(count, 12, generator=draw)
    turn = torch.randn(12, 7, generator=torch.Generator().manual_seed(0))
    sides = (values @ turn).sign()
    sides[torch.arange(count) % 3 == 0] = 0
    return Suggesting(values, sides)


def test_what_names_suggest_is_of_the_first_that_is_known() -> None:
    snail = dict(zip(SIDED, sides_of(("snail", "")), strict=True))
    assert snail["tempo"] == -1 and snail["dynamics"] == -1
    assert sides_of(("no such thing", "蜗牛")) == sides_of(("蜗牛",)) and any(sides_of(("蜗牛",)))
    assert not any(sides_of(("plain box", "")))


def test_sides_are_learnt() -> None:
    torch.manual_seed(0)
    head, held = torch.nn.Linear(12, 8), suggesting_rows(200, 2)
    args = SidesArguments(steps=150, batch_size=64, learning_rate=0.05, keep=0.0, noise=0.1)
    shares = teach(head, suggesting_rows(900, 1), held, line_ear, args)
    assert shares[0] < 0.7 and shares[-1] > 0.9
    assert heard_rightly(head, held, line_ear) == pytest.approx(shares[-1])
    before = head.weight.detach().clone()  # now it can only get worse, and stays
    worse = Suggesting(held.values, -held.sides)
    assert teach(head, worse, held, line_ear, args)[-1] == pytest.approx(shares[-1])
    assert torch.equal(head.weight, before)


def test_embeddings_that_are_held_stay_near() -> None:
    moved = []
    for keep in (0.0, 100.0):
        torch.manual_seed(0)
        head, rows = torch.nn.Linear(12, 8), suggesting_rows(300, 1)
        before = head(rows.values).detach()
        args = SidesArguments(steps=60, batch_size=64, learning_rate=0.02, keep=keep)
        teach(head, rows, rows, line_ear, args)
        moved.append(1 - torch.cosine_similarity(before, head(rows.values)).mean().item())
    assert moved[1] < 0.2 * moved[0]


def test_what_is_taken_for_words_is_not_heard() -> None:
    rows = suggesting_rows(50, 1)
    head = torch.nn.Linear(12, 8)
    assert heard_rightly(head, rows, lambda pooled: (torch.zeros(len(pooled)), pooled[:, :7])) == 0
    nothing = Suggesting(rows.values, torch.zeros_like(rows.sides))
    with pytest.raises(InputError, match="list of images"):
        teach(head, nothing, rows, line_ear, SidesArguments(steps=1))


def test_a_model_is_kept_with_its_other_outputs_as_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, bridge = save_tiny(tmp_path / "first"), save_bridge(tmp_path / "bridge")
    for split in ("train", "validation"):
        write_split(tmp_path / "data", split, ["red", "green"], NAMES)
    flags = ["--data_dir", str(tmp_path / "data"), "--model", str(first), "--bridge", str(bridge)]
    flags += ["--output_dir", str(tmp_path / "out"), "--steps", "20", "--batch_size", "8"]
    assert main(flags) == 0
    assert "heard rightly" in capsys.readouterr().out
    old, new = (StyleEncoderModel.from_pretrained(folder) for folder in (first, tmp_path / "out"))
    for name, value in old.state_dict().items():
        if not name.startswith("pooled_head."):
            torch.testing.assert_close(new.state_dict()[name], value, rtol=0, atol=0)
    assert main(flags) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_bridges_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no SummaryBridge"):
        ear_of(str(tmp_path), WIDTH)
    with pytest.raises(InputError, match="without wishes"):
        ear_of(str(save_bridge(tmp_path / "deaf", wishes=False)), WIDTH)
    with pytest.raises(InputError, match="7"):
        ear_of(str(save_bridge(tmp_path / "other")), 7)
    with pytest.raises(InputError, match="--model"):
        run(SidesArguments(data_dir=["x"], model=str(tmp_path)))


@pytest.mark.parametrize("changes", [{"steps": 0}, {"learning_rate": 0.0}, {"noise": -1.0}, {"keep": -1.0}])
def test_settings_are_checked(changes: dict[str, float]) -> None:
    with pytest.raises(InputError):
        SidesArguments(**changes)  # type: ignore[arg-type]
