"""Sets beside the clean one, with readers whose figures are known beforehand."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from intermezzo.datasets_scripts.degrade import RECIPES
from intermezzo.datasets_scripts.engravers import available
from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.errors import InputError
from intermezzo.train import evaluation_pages, evaluation_sets
from intermezzo.train.evaluation import EvaluationRequest, main
from intermezzo.train.evaluation_data import Sample
from intermezzo.train.evaluation_pages import draw_whole_page, meant, measure_whole_pages, score_lines
from intermezzo.train.evaluation_report import EvaluationReport
from intermezzo.train.evaluation_score_vlm import evaluate_score_vlm
from intermezzo.train.evaluation_sets import SETS, TARGETS, degraded_samples, engraver_samples

from .test_evaluation import REQUEST, SAMPLES, FakeReader, text_of
from .test_image_processing_score import PICTURES

CLEAN = [
    Sample(f"row {i}", Image.open(PICTURES / f"{name}.png").convert("L"), text_of(i), f"piece {i}")
    for i, name in enumerate(("system_4", "system_7", "system_thin"))
]


class RefusingReader(FakeReader):
    """Finds no staff in the picture of number 3."""

    def read_batch(self, pictures: list[Image.Image]) -> list[SimpleNamespace]:
        if 3 in [picture.getpixel((0, 0)) for picture in pictures]:
            raise InputError("picture 0", "no tab staff was found")
        return super().read_batch(pictures)


def measured(reader: FakeReader, name: str = "vexflow", **settings) -> EvaluationReport:
    request = replace(REQUEST, **settings)
    return evaluate_score_vlm(request, reader=reader, samples=SAMPLES, picture_set=name, batch_size=5)


def test_a_perfect_reader_meets_every_target() -> None:
    report = measured(FakeReader())
    assert report.stem == "score_vlm_vexflow" and report.targets == TARGETS["vexflow"]
    assert all(report.is_met(name) for name in report.targets) and not report.failures
    assert report.figures["system_exact"].value == report.figures["staff_found"].value == 1
    assert "intermezzo evaluate score_vlm --set vexflow`" in report.markdown()


def test_a_picture_without_a_staff_is_a_miss_and_no_failure() -> None:
    report = measured(RefusingReader(), "musescore")
    assert not report.failures and report.facts["refused"] == ["row 3"]
    assert report.figures["staff_found"].value == pytest.approx(11 / 12)
    assert report.figures["system_exact"].value == pytest.approx(11 / 12)
    assert report.figures["note_f1"].value == pytest.approx(2 * 55 / (55 + 60))
    assert report.figures["parses"].value == report.figures["bars_close"].value == 1
    assert report.figures["parses"].n == 11 and "In 1 pictures" in report.notes[0]


def test_a_reader_that_breaks_is_a_failure_and_an_empty_answer_does_not_parse() -> None:
    report = measured(FakeReader(fails_on=7))
    assert [failure.name for failure in report.failures] == ["row 7"]
    assert report.figures["parses"].value == pytest.approx(11 / 12)
    assert report.figures["staff_found"].value == 1 and not report.is_met("parses")


def test_the_clean_set_does_not_come_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the clean set has its own way")

    monkeypatch.setattr(evaluation_sets, "evaluate_set", fail)
    report = evaluate_score_vlm(REQUEST, reader=FakeReader(), samples=SAMPLES, picture_set="clean", quick=True)
    assert report.stem == "score_vlm" and "blank picture" in report.sections


def test_unknown_sets_and_other_models_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="no set 'faxes'; choose of clean, vexflow"):
        measured(FakeReader(), "faxes")
    with pytest.raises(InputError, match="takes no --data"):
        measured(FakeReader(), "vexflow", data="somewhere.parquet")
    assert main(["museformer", "--set", "degraded", "--out", str(tmp_path)]) == 1
    assert "--set is for score_vlm" in capsys.readouterr().err
    assert set(TARGETS) == set(SETS) - {"clean"}


# --- degraded ------------------------------------------------------------------------------------------------------


def test_each_damage_depends_on_seed_and_place_alone() -> None:
    whole, part, other = degraded_samples(CLEAN, 5), degraded_samples(CLEAN[:2], 5), degraded_samples(CLEAN, 6)
    for sample, clean in zip(whole, CLEAN, strict=True):
        assert sample.kind in RECIPES and sample.kind in sample.name
        assert sample.text == clean.text and sample.piece == clean.piece and sample.image.mode == "RGB"
    assert [np.array_equal(a.image, b.image) for a, b in zip(whole, part, strict=False)] == [True, True]
    assert [sample.name for sample in whole] != [sample.name for sample in other]
    assert CLEAN[0].image.mode == "L"


def test_degraded_pictures_are_what_is_read() -> None:
    class Sizes(FakeReader):
        def read_batch(self, pictures: list[Image.Image]) -> list[SimpleNamespace]:
            assert all(picture.mode == "RGB" for picture in pictures)
            return [SimpleNamespace(text=text_of(0)) for _ in pictures]

    report = evaluate_score_vlm(REQUEST, reader=Sizes(), samples=CLEAN, picture_set="degraded")
    assert report.stem == "score_vlm_degraded" and report.figures["system_exact"].value == pytest.approx(1 / 3)
    assert {name for name in report.sections if name.startswith("recipe: ")} == {
        f"recipe: {sample.kind}" for sample in degraded_samples(CLEAN, REQUEST.seed)
    }


# --- engravers -----------------------------------------------------------------------------------------------------


def test_a_missing_engraver_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from intermezzo.datasets_scripts.engravers import vexflow

    monkeypatch.setattr(vexflow, "absent", lambda: "vexflow is not installed; run `npm ci`")
    with pytest.raises(InputError, match="--set vexflow: vexflow is not installed"):
        engraver_samples("vexflow", EvaluationRequest("score_vlm", "c", n=2, out=tmp_path, progress=False), [])


@pytest.mark.parametrize("name", ["vexflow", "musescore", "lilypond", "verovio"])
def test_engraved_sets_are_of_unseen_pieces_and_stored(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intermezzo.datasets_scripts.guitar_parts import split_of
    from intermezzo.train import evaluation_held_out

    if name not in available(warn=False):
        pytest.skip(f"{name} is not installed")
    monkeypatch.setattr(evaluation_held_out, "CORPUS_SHARE", 0.0)  # parsing MusicXML would take longest
    request = EvaluationRequest("score_vlm", "c", n=3, seed=4, out=tmp_path, progress=False)
    samples = engraver_samples(name, request, [])
    assert len(samples) == 3 and all(split_of(sample.piece) == "test" for sample in samples)
    assert all(sample.staves == ("score+tabs" if "score" in sample.text else "tabs") for sample in samples)
    assert all(sample.kind != "wild" and sample.image.size[0] > 50 for sample in samples)
    monkeypatch.setattr(evaluation_sets, "_engraved", None)  # not drawn again
    again = engraver_samples(name, request, [])
    assert [sample.text for sample in again] == [sample.text for sample in samples]


# --- pages ---------------------------------------------------------------------------------------------------------

FIRST = "\\staff {tabs}\n\\ts (3 4) 1.3.4 2.2.4 r.4 |\n"
LATER = "\\staff {tabs}\n3.1.2{d} |\n"
BOXES = [(0.0, 50.0 * k, 100.0, 40.0) for k in range(3)]


def test_a_line_is_compared_by_what_it_means() -> None:
    said = LATER.replace("3.1", "\\ts (3 4) 3.1")
    assert meant(read_alphatex(LATER), (3, 4)) == said == meant(read_alphatex(said))
    common = "\\staff {tabs}\n3.1.1 |\n"
    assert meant(read_alphatex(common)) == common.replace("3.1.1", "\\ts (4 4) 3.1.1")
    scores = score_lines([(BOXES[0], common)], [(BOXES[0], meant(read_alphatex(common)))])
    assert scores[0].exact


def test_lines_that_are_not_found_are_wrong() -> None:
    true = [(box, text_of(k)) for k, box in enumerate(BOXES)]
    assert [score.exact for score in score_lines(true, true)] == [True] * 3
    moved = [(BOXES[1], text_of(0)), (BOXES[2], text_of(2))]
    scores = score_lines(moved, true)
    assert [score.exact for score in scores] == [False, False, True]
    assert scores[0].message == "empty text" and scores[1].parses
    assert [score.parses for score in score_lines([(BOXES[0], "3.3.")], true)] == [False] * 3


class PagePool:
    """Two bars a line, nothing drawn."""

    def render(self, job) -> list[SimpleNamespace]:
        bars = read_alphatex(job.text).staves[0].bars
        lines = (len(bars) + 1) // 2
        staff = lambda k: SimpleNamespace(x0=0, x1=100, lines=(50 * k, 50 * k + 40))  # noqa: E731
        systems = [SimpleNamespace(staves=[staff(k)]) for k in range(lines)]
        picture = Image.new("L", (100, 50 * lines), 255)
        picture.putpixel((0, 0), len(bars))
        return [
            SimpleNamespace(
                image=lambda: picture,
                systems=systems,
                bars=[SimpleNamespace(system=k // 2) for k in range(len(bars))],
            )
        ]


def test_a_page_says_what_each_line_means() -> None:
    texts = [
        FIRST + LATER.splitlines()[1] + "\n",
        FIRST + "5.1.2{d} |\n",
        FIRST.replace("3 4", "2 4").replace(" r.4", ""),
    ]
    page = draw_whole_page(PagePool(), texts, staves="tabs")
    assert page is not None
    lines = [text for _, text in page[1]]
    assert [line.count("\\ts (3 4)") for line in lines] == [1, 1, 0] and "\\ts (2 4)" in lines[2]
    assert [len(read_alphatex(line).staves[0].bars) for line in lines] == [2, 2, 1]
    assert draw_whole_page(PagePool(), texts[:1], staves="tabs") is None


def test_pages_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    truth: dict[bytes, list] = {}
    original = evaluation_pages.draw_whole_page

    def remember(pool, texts, **style):
        page = original(pool, texts, **style)
        if page is not None:
            page[0].putpixel((1, 0), len(truth))
            truth[page[0].tobytes()] = page[1]
        return page

    def reader(drop: int) -> SimpleNamespace:
        corners = lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])  # noqa: E731
        return SimpleNamespace(read_page=lambda page: [
            SimpleNamespace(box=corners(box), text=text) for box, text in truth[page.tobytes()][drop:]
        ])  # fmt: skip

    monkeypatch.setattr(evaluation_pages, "draw_whole_page", remember)
    for drop, found in ((0, 1.0), (1, 0.0)):
        truth.clear()
        report = EvaluationReport("score_vlm_pages", "c", "d", 3, 0, targets=dict(TARGETS["pages"]))
        measure_whole_pages(reader(drop), SAMPLES * 4, report, REQUEST, 4, pool=nullcontext(PagePool()))
        assert report.n == len(truth) == 4 and not report.failures
        assert report.figures["all_systems_found"].value == found
        assert report.figures["parses"].value == report.figures["bars_close"].value == 1
        assert (report.figures["system_exact"].value == 1) == (report.figures["note_f1"].value == 1) == (drop == 0)
    measure_whole_pages(reader(0), SAMPLES[:2], report, REQUEST, 4, pool=nullcontext(PagePool()))
    assert "Only 0 pages" in report.notes[-1] and report.n == 0
