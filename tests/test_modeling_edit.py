"""The model that understands edits: the laws of all models, its processor, its training data and evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from intermezzo.modeling.modeling_edit import ScoreEditModel
from intermezzo.processing.edit_language import ARGUMENTS, MAX_STEPS, OPERATIONS, EditStep, parse_program
from intermezzo.processing.errors import InputError
from intermezzo.processing.processing_edit import ScoreEditProcessor, Understanding, character_id, plain
from intermezzo.train import evaluation_edit
from intermezzo.train.edit_data import InstructionCollate, Instructions, evaluate_instructions, noisy
from intermezzo.train.evaluation import EvaluationRequest
from intermezzo.train.train_edit import EditArguments, edit_config, main

from .common import ModelLaws

torch.set_num_threads(1)


SAID = {
    "升两个半音": "transpose +2", "make it rock and put a capo on 3": "style rock; capo 3", "只留旋律": "melody",
    "in E minor": "key em", "改成四三拍，再简化": "metre 3/4; simplify", "half as fast": "time half",
    "drop D": "tuning drop-d", "加低音": "bass",
}  # fmt: skip


def tiny_config(**changes: Any) -> Any:
    sizes = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, vocab_size=512)
    return edit_config(**{**sizes, "dropout": 0.0, **changes})


class TestScoreEdit(ModelLaws):
    model_class = ScoreEditModel
    auto_class = AutoModel
    wrong_configs = (
        {"hidden_size": 33},
        {"conv_kernel": 4},
        {"vocab_size": 100},
        {"domains": {"fly": ["1"]}},
        {"domains": {"capo": ["99"]}},
    )

    def tiny_config(self) -> Any:
        return tiny_config()

    def tiny_processor(self) -> Any:
        return ScoreEditProcessor(512)

    def tiny_inputs(self, config: Any, batch_size: int = 2) -> dict[str, Any]:
        said = list(SAID.items())[:batch_size]
        rows = [(text, parse_program(line), "en") for text, line in said]
        return InstructionCollate(ScoreEditProcessor(config.vocab_size))(rows)


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    model, processor = ScoreEditModel(tiny_config()).eval(), ScoreEditProcessor(512)
    with torch.no_grad():
        alone = model(**processor(text="升两个半音"))
        beside = model(**processor(text=["升两个半音", "please transpose everything up by two half steps"]))
    torch.testing.assert_close(alone.operation_logits, beside.operation_logits[:1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone.argument_logits, beside.argument_logits[:1], rtol=1e-4, atol=1e-5)


def test_every_character_counts() -> None:
    torch.manual_seed(0)
    model, processor = ScoreEditModel(tiny_config()).eval(), ScoreEditProcessor(512)
    with torch.no_grad():
        one, other = (model(**processor(text=t)).argument_logits for t in ("capo on fret 3", "capo on fret 4"))
    assert (one - other).abs().max() > 1e-6


def test_labels_come_back_as_programs() -> None:
    processor = ScoreEditProcessor()
    programs = [parse_program("transpose +2; style rock; melody"), parse_program("capo 0"), (EditStep("unknown"),)]
    labels = processor.labels(programs)
    assert labels["operation_labels"].shape == (3, MAX_STEPS)
    operations = torch.nn.functional.one_hot(torch.tensor(labels["operation_labels"]), 1 + len(OPERATIONS)) * 50.0
    safe = torch.tensor(labels["argument_labels"]).clamp(min=0)
    found = processor.decode(operations, torch.nn.functional.one_hot(safe, len(ARGUMENTS)) * 50.0)
    assert [f.program for f in found] == programs and min(f.chance for f in found) > 0.99


def test_an_argument_is_always_one_that_the_operation_takes() -> None:
    processor = ScoreEditProcessor()
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        rows = torch.randn(4, MAX_STEPS, 1 + len(OPERATIONS), generator=draw)
        found = processor.decode(rows, torch.randn(4, MAX_STEPS, len(ARGUMENTS), generator=draw))
        assert all(0 <= f.chance <= 1 for f in found)  # a wrong argument would not make an EditStep


def test_writing_that_means_the_same_is_the_same() -> None:
    assert plain("  Capo　３， NOW ") == plain("capo 3,now").replace(",", ", ") == "capo 3, now"
    assert plain("B♭") == "bb" and plain("调高２个半音。") == "调高2个半音."
    assert character_id("a", 8192) != character_id("b", 8192)
    assert 130 <= character_id("摇", 8192) < 8192 == ScoreEditProcessor().vocab_size
    for wrong, why in (("", "empty"), ("  \n", "empty"), ("x" * 500, "at most 200")):
        with pytest.raises(InputError, match=why):
            ScoreEditProcessor().ids(wrong)


def test_instructions_are_the_same_each_time_and_apart_by_split() -> None:
    train, again, test = (Instructions(60, s, seed=1, noise=0.5) for s in ("train", "train", "test"))
    assert [train[i] for i in range(60)] == [again[i] for i in range(60)]
    assert {train[i][2] for i in range(60)} == {"zh", "en"}
    assert {train[i][0] for i in range(60)} != {test[i][0] for i in range(60)}
    import random

    slips = {noisy("transpose up 11 semitones", random.Random(i)) for i in range(40)}
    assert len(slips) > 10 and all("11" in slip for slip in slips)


def test_unseen_wordings_are_measured_by_language() -> None:
    torch.manual_seed(0)
    figures = evaluate_instructions(
        ScoreEditModel(tiny_config()).eval(), Instructions(12, "test"), ScoreEditProcessor(512)
    )
    assert figures.keys() == {"exact", "exact_zh", "exact_en", "error"}
    assert figures["exact"] + figures["error"] == 1


def _evaluate(monkeypatch: pytest.MonkeyPatch, answer: Any, n: int = 8) -> Any:
    """An evaluation with a stand-in that knows what each instruction means."""
    known: dict[str, Any] = {}
    make = evaluation_edit.held_out_pairs

    def held_out_pairs(*arguments: Any) -> Any:
        pairs, failures = make(*arguments)
        known.update({pair.instruction: pair.program for pair in pairs})
        return pairs, failures

    monkeypatch.setattr(evaluation_edit, "held_out_pairs", held_out_pairs)
    monkeypatch.setattr(evaluation_edit, "load_edit_model", lambda *_: (None, None))
    monkeypatch.setattr(
        evaluation_edit, "understand", lambda m, p, texts: [answer(known.get(t, (EditStep("unknown"),))) for t in texts]
    )
    request = EvaluationRequest("edit", "nowhere", n=n, progress=False)
    return evaluation_edit.evaluate_edit(request)


def test_a_model_that_understands_all_gets_all_and_the_control_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    report = _evaluate(monkeypatch, lambda program: Understanding(program, 1.0))
    assert report.figures["edit_right"].value == report.figures["understood"].value == 1.0
    assert report.figures["edit_right_zh"].n == report.figures["edit_right_en"].n == 4
    assert report.figures["control_shuffled_instruction"].value < 0.5
    assert report.sections["no edits"]["refused_zh"].value == 1.0 and not report.failures
    assert all(report.is_met(name) for name in report.targets)
    json.dumps(report.as_dict())


def test_doubt_unknown_and_wrong_answers_count_as_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (
        lambda program: Understanding(program, 0.2),
        lambda _: Understanding((EditStep("unknown"),), 1.0),
        lambda _: Understanding((), 1.0),
    ):
        with monkeypatch.context() as patch:
            assert _evaluate(patch, answer, 2).figures["edit_right"].value == 0.0


def test_training_makes_a_loadable_model(tmp_path: Path) -> None:
    flags = ["--smoke", "--output_dir", str(tmp_path / "run"), "--tracker", "none", "--no-progress", "--cpu"]
    assert main(flags) == 0
    model, processor = evaluation_edit.load_edit_model(str(tmp_path / "run" / "final"))
    assert model.config.operations == OPERATIONS and processor.vocab_size == model.config.vocab_size
    with pytest.raises(InputError, match="holds no model of edits"):
        evaluation_edit.load_edit_model(str(tmp_path))


def test_wrong_settings_are_told() -> None:
    for wrong in ({"rows": 0}, {"noise": 2.0}, {"validation_rows": -1}):
        with pytest.raises(InputError, match="rows is"):
            EditArguments(**wrong)
