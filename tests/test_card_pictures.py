"""Pictures for the cards: where they go, and that every trained model has one to show."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from intermezzo.processing.errors import InputError
from intermezzo.train import card_pictures
from intermezzo.train.card_pictures import NAME, PICTURES, main, show_in_card

ROOT = Path(__file__).resolve().parent.parent
CARD = "---\nlicense: apache-2.0\n---\n\n# Toy\n\nPlays.\n\n## Use\n\nSo.\n\n## Limits\n"


def test_every_trained_model_can_show_a_picture() -> None:
    assert {path.parent.name for path in ROOT.glob("checkpoints/*/config.json")} <= set(PICTURES)


def test_the_picture_stands_before_the_first_section_and_once() -> None:
    shown = show_in_card(CARD, "What it plays")
    assert shown == CARD.replace("## Use", f"![What it plays]({NAME})\n\n## Use")
    assert show_in_card(shown, "Another word") == shown
    with pytest.raises(InputError, match="no section"):
        show_in_card("# Toy\n", "What it plays")


def test_models_that_are_there_get_their_pictures_and_the_others_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def draw(folder: Path, out: Path) -> Path:
        Image.new("L", (folder.name.count("o"), 1)).save(out / "drawn.png")
        return out / "drawn.png"

    def break_off(folder: Path, out: Path) -> Path:
        raise InputError(folder, "does not run")

    made = {"toy": ("What it plays", draw), "broken": ("Nothing", break_off), "absent": ("Nothing", draw)}
    monkeypatch.setattr(card_pictures, "PICTURES", made)
    for stem in ("toy", "broken"):
        (tmp_path / stem).mkdir()
        (tmp_path / stem / "config.json").write_text("{}")
        (tmp_path / stem / "README.md").write_text(CARD)
    assert main(["--checkpoints", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert told.out == f"{tmp_path / 'toy' / NAME}\n" and told.err == f"{tmp_path / 'broken'}: does not run\n"
    assert Image.open(tmp_path / "toy" / NAME).size == (1, 1)
    assert f"]({NAME})" in (tmp_path / "toy" / "README.md").read_text()
    assert main(["--checkpoints", str(tmp_path), "toy", "absent", "unheard"]) == 1
    absent, unheard = capsys.readouterr().err.splitlines()
    assert "holds no config.json" in absent and "no picture is known for 'unheard'" in unheard


@pytest.mark.parametrize("card", sorted(ROOT.glob("checkpoints/*/README.md")), ids=lambda path: path.parent.name)
def test_every_card_shows_its_picture(card: Path) -> None:
    assert f"]({NAME})" in card.read_text(encoding="utf-8") and (card.parent / NAME).is_file()
