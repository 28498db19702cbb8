"""The evaluation of StyleEncoder: what a perfect and a blind model would score, baselines, references."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from intermezzo.processing.errors import InputError
from intermezzo.processing.style_looker import StyleLooker
from intermezzo.train import style_encoder_looks as looks
from intermezzo.train.evaluation import evaluate
from intermezzo.train.evaluation_report import EvaluationReport
from intermezzo.train.evaluation_style_encoder import by_kind, measure_speed, measure_targets, training_facts
from intermezzo.train.style_encoder_looks import Looked, choose_rows, measure_names, name_pool, name_ranks, pools_of
from intermezzo.train.style_encoder_references import main as write

from .tiny_style_encoder import LENGTH, WIDTH, save_tiny, vector_of, write_split

torch.set_num_threads(1)
UNSEEN = ["star", "green leaf", "tall red tower", "red star", "cup"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    write_split(folder, "train", ["red", "blue"], ["bell", "red apple", "old tree", "moon"])
    write_split(folder, "test", ["red", "blue"], UNSEEN)
    write_split(folder, "test_style", ["green", "orange"], UNSEEN)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model", references=False)


def blank_report() -> EvaluationReport:
    return EvaluationReport("style_encoder", "c", "d", 0, 0)


def all_seen(noise: float = 0.0) -> Looked:
    """What a model that is right (or nearly) would say of two styles of each unseen content."""
    draw = np.random.default_rng(0)
    seen = Looked(targets={name: [] for name in ("embed", "pooled", "mask", "pooled_zh")})
    arrays: dict[str, list[np.ndarray]] = {"pooled": [], "mask": [], "style": []}
    for style in ("red", "blue"):
        for content in UNSEEN:
            seen.styles.append(style)
            seen.contents.append(content)
            seen.captions.append(content)
            seen.captions_zh.append(f"中{content}")
            mask = (np.arange(LENGTH) < len(content.split())).astype(np.float32)
            values = {"embed": None, "pooled": vector_of(content), "mask": mask, "pooled_zh": vector_of(f"中{content}")}
            for name, value in values.items():
                seen.targets[name].append(value)
            arrays["pooled"].append(vector_of(content) + noise * draw.normal(size=WIDTH))
            arrays["mask"].append(mask)
            arrays["style"].append(np.eye(2)[int(style == "red")] + 0.01 * draw.normal(size=2))
    seen.arrays = {name: np.stack(values).astype(np.float32) for name, values in arrays.items()}
    return seen


def test_contents_are_chosen_whole_and_by_the_seed(data) -> None:
    rows = choose_rows(data, "test", 3, seed=0)
    assert len(rows) == 4 and len({row["content"] for row in rows}) == 2  # the second content keeps both styles
    assert choose_rows(data, "test", 3, seed=0)[0]["content"] == rows[0]["content"]
    assert len(choose_rows(data, "test", 99, seed=0)) == 10
    assert len({choose_rows(data, "test", 1, seed)[0]["content"] for seed in range(12)}) > 1
    with pytest.raises(InputError, match="build_style_pairs"):
        choose_rows(data, "none", 3, 0)


def test_every_name_is_in_a_full_pool_with_others() -> None:
    names = [f"n{k}" for k in range(23)]
    pools = pools_of(names, seed=1, size=10)
    assert set(pools) == set(names)
    for k, name in enumerate(names):
        assert len(set(pools[name])) == 10 and k in pools[name]
    assert pools_of(names, seed=2, size=10) != pools
    assert all(sorted(pool) == [0, 1, 2] for pool in pools_of(["a", "b", "c"], 0, 10).values())


def test_a_perfect_model_finds_every_name_and_a_blind_one_does_not(data) -> None:
    pool = name_pool(data)
    assert set(pool["en"]) == set(UNSEEN) and set(pool["zh"]) == {f"中{name}" for name in UNSEEN}
    seen = all_seen()
    rows = list(range(len(seen)))
    assert name_ranks(seen, rows, seen.captions, pool["en"], 0) == [1] * 10
    seen.arrays["pooled"] = np.roll(seen.arrays["pooled"], 1, axis=0)  # always the picture before
    assert np.mean(name_ranks(seen, rows, seen.captions, pool["en"], 0)) > 1.5


def test_ranks_do_not_depend_on_the_order_of_the_pictures(data) -> None:
    pool, seen = name_pool(data)["en"], all_seen(noise=1.0)
    rows = list(range(10))
    forward = name_ranks(seen, rows, seen.captions, pool, 0)
    assert name_ranks(seen, rows[::-1], seen.captions, pool, 0) == forward[::-1]


def test_names_of_new_words_are_counted_apart(data, monkeypatch) -> None:
    monkeypatch.setattr(looks, "POOL", 3)
    report = blank_report()
    facts = training_facts(data)
    assert facts["words"] == {"bell", "red", "apple", "old", "tree", "moon"}
    assert facts["chinese"] == {"中bell", "中red apple", "中old tree", "中moon"}
    found = measure_names(all_seen(), name_pool(data), facts["words"], report, "x_")
    assert set(found) == {"x_name_top5_en", "x_name_top5_zh", "x_name_top5_en_new_words"}
    assert found["x_name_top5_en"].n == 10 and found["x_name_top5_en"].value == 1
    assert found["x_name_top5_en_new_words"].n == 6  # not "tall red tower" and "red star"
    assert not report.notes
    monkeypatch.setattr(looks, "POOL", 500)
    measure_names(all_seen(), name_pool(data), facts["words"], report, "")
    assert any("only 5 names" in note for note in report.notes)


def test_targets_stand_beside_the_commonest_answer(data) -> None:
    facts = training_facts(data)
    contents = ["bell", "red apple", "old tree", "moon"]
    np.testing.assert_allclose(facts["mean"], np.mean([vector_of(name) for name in contents], 0), atol=1e-6)
    assert facts["mask"].sum() in (1, 2)  # two names of one word, two of two
    figures, baseline = measure_targets(all_seen(), facts)
    assert figures["mask_exact"].value == 1 and figures["pooled_cosine"].value == pytest.approx(1, abs=1e-6)
    assert baseline["mask_exact"].value == 0.4 and baseline["pooled_cosine"].value < 0.6  # 2 of 5 have that length
    wanted = np.mean(
        [
            vector_of(name) @ facts["mean"] / np.linalg.norm(vector_of(name)) / np.linalg.norm(facts["mean"])
            for name in UNSEEN
        ]
    )
    assert baseline["pooled_cosine"].value == pytest.approx(wanted, abs=1e-5)


def test_styles_are_told_apart_within_a_kind() -> None:
    seen = all_seen()
    seen.captions[:3] = [None] * 3  # as if three were engravings, all of one style: no pair to tell apart
    found = by_kind(seen, seen.arrays["style"], 0)
    assert set(found) == {"icons"} and found["icons"].value == 1.0


def test_an_evaluation_from_end_to_end(data, checkpoint, tmp_path) -> None:
    report = evaluate(
        "style_encoder", checkpoint=checkpoint, data=data, n=8, out=tmp_path, progress=False, backbone_weights="none"
    )
    assert {"style_auc_unseen_content", "style_auc_unseen_style", "name_top5_en", "name_top5_zh"} <= set(report.figures)
    assert set(report.targets) <= set(report.figures)
    assert 0 <= report.figures["style_auc_unseen_style"].value <= 1 and report.n == 16
    assert set(report.sections["raw backbone"]) == {
        f"style_auc_unseen_{what} by {kind}" for what in ("content", "style") for kind in ("features", "statistics")
    }
    assert report.sections["chance"]["name_top5_en"].value == 1.0  # five names, five guesses
    saved = EvaluationReport.load(tmp_path / "style_encoder.json")
    assert saved.figures.keys() == report.figures.keys() and "| `mask_exact` |" in saved.markdown()
    again = evaluate("style_encoder", checkpoint=checkpoint, data=data, n=8, out=None, progress=False, quick=True)
    for name in again.figures:
        assert again.figures[name] == report.figures[name]
    assert "raw backbone" not in again.sections and "speed_against_backbone" not in again.figures


def test_a_picture_that_can_not_be_read_is_a_named_failure(data, checkpoint) -> None:
    looker = StyleLooker.from_pretrained(checkpoint, "cpu")
    rows = choose_rows(data, "test", 4, 0)
    rows[1] = {**rows[1], "image": b"no picture"}
    report = blank_report()
    seen = looks.look_at_rows(looker.model, looker.processor, rows, report)
    assert len(seen) == 3 == len(seen.arrays["style"]) == len(seen.targets["pooled"])
    assert [failure.stage for failure in report.failures] == ["read"]


def test_speed_is_a_ratio_of_two_counts(checkpoint) -> None:
    model = StyleLooker.from_pretrained(checkpoint, "cpu").model
    found = measure_speed(model, 32, batch_size=2, rounds=3)
    assert found["speed_against_backbone"].low <= found["speed_against_backbone"].value
    assert all(figure.value > 0 and figure.n == 3 for figure in found.values())


def test_what_can_not_be_evaluated_is_one_line(data, tmp_path) -> None:
    for options, message in (({"data": None}, "no data"), ({"data": tmp_path / "none"}, "no data")):
        with pytest.raises(InputError, match=message):
            evaluate("style_encoder", checkpoint=tmp_path, out=None, progress=False, **options)
    with pytest.raises(InputError, match="checkpoint"):
        evaluate("style_encoder", checkpoint=tmp_path / "none", data=data, out=None, progress=False)


def test_references_are_what_compare_and_inspect_read(data, tmp_path, capsys) -> None:
    folder = save_tiny(tmp_path / "model", references=False)
    assert StyleLooker.from_pretrained(folder, "cpu").pairs() == {}
    assert write(["--checkpoint", str(folder), "--data", str(data)]) == 0
    looker = StyleLooker.from_pretrained(folder, "cpu")
    pairs = looker.pairs()
    assert all(len(values) == 501 and -1.001 <= values[0] <= values[-1] <= 1.001 for values in pairs.values())
    names, vectors = looker.captions()
    assert len(names) == 2 * (4 + 5) and names == sorted(names)
    np.testing.assert_allclose(vectors[names.index("中star")], vector_of("中star"), atol=2e-3)
    told = json.loads((folder / "style_pairs.json").read_text())
    assert (told["pictures"], told["styles"]) == (10, 2)
    capsys.readouterr()
    assert write(["--checkpoint", str(tmp_path / "none"), "--data", str(data)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
