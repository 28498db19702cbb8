"""The evaluator of ImageVQ on a few drawn systems; and NativeVLM's own held-out lessons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from intermezzo.configuration.configuration_image_vq import image_vq_glyphs
from intermezzo.modeling.modeling_image_vq import ImageVQModel
from intermezzo.modeling.modeling_score_tower import ScoreTowerModel
from intermezzo.processing.alphatex_grammar import Score, read_alphatex
from intermezzo.processing.errors import InputError
from intermezzo.processing.picture_files import grey_on_white
from intermezzo.train import evaluation_image_vq
from intermezzo.train.evaluation import evaluate
from intermezzo.train.evaluation_plain_systems import plain_lessons, plain_systems
from intermezzo.train.evaluation_reader import load_reader
from intermezzo.train.evaluation_report import ROOT
from intermezzo.train.image_vq_patches import fit_patches
from intermezzo.train.metrics_tab import note_counts
from intermezzo.train.native_vlm_data import check_tokenizer, read_lessons
from intermezzo.train.score_vlm_data import PackedSystems
from intermezzo.train.train_image_vq import load_tower

from .tiny_score_vlm import tower_config

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("held_out")


@pytest.fixture(scope="module")
def model(folder: Path) -> ImageVQModel:
    """Small pictures of those very systems: as many as there are different patches lose nothing but greys."""
    torch.manual_seed(0)
    vq = ImageVQModel(image_vq_glyphs(codebook_size=150, channels=(4, 4, 4), depth=0, code_depth=0)).eval()
    packed = plain_systems(4, 0, folder, [])
    pictures = evaluation_image_vq.GridPictures(PackedSystems([packed]), vq.config.geometry, 2, 512)
    fit_patches(vq, pictures, 8, 10_000, 8)
    return vq


def test_figures_of_codes(folder: Path, model: ImageVQModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    report = evaluate("image_vq", checkpoint=tmp_path / "model", n=4, out=folder, progress=False)
    assert report.n == 4 and report.figures["stroke_f1"].value > 0.5 and report.figures["psnr_db"].value > 10
    reading = report.sections["reading"]
    assert reading["original"].value > 0.9 and report.sections["tower alone"]["blank"].value == 0
    gap = reading["original"].value - report.figures["note_f1"].value
    assert report.figures["note_f1_gap"].value == pytest.approx(gap)
    assert 0 < report.figures["codebook_usage"].value <= 1


def test_worse_codes_have_worse_figures(folder: Path, model: ImageVQModel, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = ImageVQModel(image_vq_glyphs(codebook_size=150, channels=(4, 4, 4), depth=0, code_depth=0))
    figures = []
    for name, vq in (("good", model), ("random", other)):
        vq.save_pretrained(tmp_path / name)
        report = evaluate("image_vq", checkpoint=tmp_path / name, n=4, out=folder, progress=False, quick=True)
        figures.append((report.figures["stroke_f1"].value, report.figures["psnr_db"].value))
    assert figures[0][0] > figures[1][0] and figures[0][1] > figures[1][1]


def test_what_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        evaluate("image_vq", checkpoint=folder / "absent", n=2, out=folder, progress=False)


def test_held_out_lessons_are_of_held_out_pieces(folder: Path, model: ImageVQModel) -> None:
    found = plain_lessons(4, 0, folder, model, [])
    assert plain_lessons(4, 0, folder, model, []) == found  # made once
    lessons = read_lessons(found, "test", ["read"], 4)
    assert len(lessons) == 4
    check_tokenizer(found, model)


def test_the_reader_is_a_tower_or_has_one(tmp_path: Path) -> None:
    ScoreTowerModel(tower_config()).save_pretrained(tmp_path)
    assert isinstance(load_tower(str(tmp_path)), ScoreTowerModel) and load_reader(str(tmp_path)) is None
    with pytest.raises(InputError, match="absent"):
        load_reader(str(tmp_path / "absent"))


def test_the_whole_reader_reads_bare_systems() -> None:
    reader = load_reader(str(ROOT / "checkpoints" / "score_vlm"))
    assert reader is not None
    with Image.open(ROOT / "examples" / "lead.png") as opened:
        page = np.asarray(grey_on_white(opened))
    ink = np.argwhere(page < 128)
    (top, left), (bottom, right) = ink.min(0), ink.max(0) + 1
    bare, blank = page[top:bottom, left:right], np.full((80, 200), 255, np.uint8)  # no paper around it
    found, nothing = reader([bare, Image.fromarray(blank)])
    assert nothing == Score()
    truth = read_alphatex(reader.processor.read(reader.model, Image.fromarray(page))[0])
    hit, predicted, true = note_counts(found, truth)
    assert true > 5 and hit == predicted == true


def test_the_whole_reader_has_the_word(folder: Path, model: ImageVQModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are its own; the tower's stand beside them."""
    tower = load_tower(str(ROOT / "checkpoints" / "score_vlm"))
    truth = read_alphatex("\\staff {tabs}\n\\ts (4 4) 3.3.1 |\n")
    parts = (model, tower, lambda pictures: [truth, Score()])
    monkeypatch.setattr(evaluation_image_vq, "load_parts", lambda request, reader: parts)
    report = evaluate("image_vq", checkpoint=folder / "absent", n=4, out=folder, progress=False)
    assert report.figures["note_f1"].value == 0 and set(report.sections["reading"]) == {"original"}
    assert report.figures["note_f1_gap"].value == report.sections["reading"]["original"].value
    assert set(report.sections["tower alone"]) == {"original", "scaled", "blank", "note_f1", "note_f1_gap"}
