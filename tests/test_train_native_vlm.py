"""Training data and training of ImageVQ and NativeVLM, without a renderer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoProcessor

from intermezzo.datasets_scripts.interleaved_lessons import picture_part, text_part
from intermezzo.drawing import load_drawer
from intermezzo.modeling.modeling_native_vlm import NativeVLMForCausalLM
from intermezzo.modeling.modeling_score_tower import ScoreTowerModel
from intermezzo.processing.alphatex_grammar import Score
from intermezzo.processing.errors import InputError
from intermezzo.processing.grid_pictures import GridGeometry
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.native_vocabulary import NativeVocabulary
from intermezzo.processing.processing_native_vlm import NativeVLMProcessor
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer
from intermezzo.train import evaluation_native_vlm, native_vlm_evaluation, train_image_vq, train_native_vlm
from intermezzo.train.evaluation import evaluate
from intermezzo.train.evaluation_native_text import behind
from intermezzo.train.image_vq_data import GridPictures, PictureCollate
from intermezzo.train.image_vq_evaluation import codebook_use, psnr_db
from intermezzo.train.metrics_common import proportion
from intermezzo.train.native_vlm_data import LessonCollate, PackedLessons, Sequences, first_fit, read_lessons
from intermezzo.train.native_vlm_evaluation import draw_texts, evaluate_lessons, read_codes
from intermezzo.train.score_vlm_data import PackedSystems

from .tiny_lessons import lessons_folder, packed_folder, pieces, system_row, tiny_image_vq
from .tiny_native_vlm import native_config
from .tiny_score_vlm import tower_config

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("native")
    lessons_folder(where)
    return where


@pytest.fixture(scope="module")
def write() -> Sequences:
    tokenizer = AlphaTexTokenizer()
    return Sequences(tokenizer, NativeVocabulary(len(tokenizer), 16, 15, 128))


LESSON = {
    "lesson": "draw",
    "name": "a",
    "parts": [text_part("user", "3.3.1 |"), picture_part("assistant", np.arange(6).reshape(2, 3))],
}


# --- sequences --------------------------------------------------------------------------------------------------------


def test_only_answers_are_learnt(write: Sequences) -> None:
    ids, learnt = write(LESSON)
    v = write.vocabulary
    answer = [*v.write_grid(np.arange(6).reshape(2, 3)), write.end]
    assert ids.tolist()[-len(answer) :] == answer and learnt.tolist() == [False] * (len(ids) - len(answer)) + [
        True
    ] * len(answer)
    asked = write.tokenizer.decode(ids[2 : -len(answer) - 2])
    assert asked == "3.3.1 |"
    everything = Sequences(write.tokenizer, v, learn_prompts=True)(LESSON)[1]
    assert everything.tolist() == [False] + [True] * (len(ids) - 1)
    nothing, _ = write(LESSON, unasked=True)
    assert nothing.tolist() == [write.bos, write.user, write.end, write.assistant, *answer]


def test_first_fit_uses_every_item_once() -> None:
    draw = np.random.default_rng(0)
    items = [(i, int(n)) for i, n in enumerate(draw.integers(1, 60, 300))]
    rows = first_fit(items, 100)
    assert sorted(i for row in rows for i in row) == list(range(300))
    assert all(sum(items[i][1] for i in row) <= 100 for row in rows)
    assert len(rows) < 1.15 * sum(n for _, n in items) / 100


def test_packed_rows(write: Sequences) -> None:
    length = len(write(LESSON)[0])
    long = {**LESSON, "parts": [text_part("user", "3.3.1 |" * 99), *LESSON["parts"][1:]]}
    rows = PackedLessons([LESSON] * 5 + [long], write, 2 * length + 3, unasked=0.0)
    assert rows.too_long == 1 and sorted(map(len, rows.rows)) == [1, 2, 2]
    batch = LessonCollate(0)([rows[i] for i in sorted(range(3), key=lambda i: -len(rows[i]))])
    assert batch["input_ids"].shape == (3, 2 * length)
    assert batch["document_ids"][0].tolist() == [1] * length + [2] * length
    assert batch["document_ids"][2].tolist() == [1] * length + [0] * length
    assert (batch["labels"][2, length:] == -100).all()
    learnt = batch["labels"] != -100
    assert torch.equal(batch["labels"][learnt], batch["input_ids"][learnt])
    alone = PackedLessons([LESSON] * 5 + [long], write, 2 * length + 3, unasked=0.0, longest=2000)
    assert alone.too_long == 0 and sorted(map(len, alone.rows)) == [1, 1, 2, 2]
    some = PackedLessons([{**LESSON, "lesson": "text"}] * 100 + [LESSON], write, 100, others=0.2)
    assert 8 < len(some.sequences) < 36
    with pytest.raises(InputError, match="all 1 lessons are longer"):
        PackedLessons([long], write, 20)


def test_some_drawings_go_unasked(write: Sequences) -> None:
    rows = PackedLessons([LESSON] * 200, write, 100, unasked=0.3)
    alone = sum(len(ids) < len(write(LESSON)[0]) for ids, _ in rows.sequences)
    assert 40 < alone < 80


def test_drawings_are_read_too(write: Sequences) -> None:
    drawn = {**LESSON, "lesson": "draw"}
    rows = PackedLessons([drawn, {**LESSON, "lesson": "read"}], write, 200, unasked=0.0, reread=1.0)
    turns = [ids.tolist() for ids, _ in rows.sequences]
    assert len(turns) == 3 and turns[0] == turns[2]
    (asked, answer), (back, again) = ([write.part(part)[0] for part in drawn["parts"]] for _ in range(2))
    assert turns[0] == [write.bos, write.user, *asked, write.end, write.assistant, *answer, write.end]
    assert turns[1] == [write.bos, write.user, *again, write.end, write.assistant, *back, write.end]
    assert rows.sequences[1][1].sum() == len(back) + 1  # the text and its end are learnt
    assert len(PackedLessons([drawn] * 400, write, 200, unasked=0.0, reread=0.25).sequences) in range(460, 540)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_are_chosen_and_batched(tmp_path: Path) -> None:
    rows = [*pieces("x", 2), system_row((1, 2, 3, 4), "long 0", bars=3), system_row((1, 1, 1, 1), "low 0", low=True)]
    systems = PackedSystems([packed_folder(tmp_path, rows)])
    pictures = GridPictures(systems, GridGeometry())
    assert len(pictures) == 5 and [row["picture"] is None for row in map(pictures.__getitem__, range(5))] == [
        *[False] * 4,
        True,
    ]
    batch = PictureCollate(GridGeometry())([[pictures[i] for i in range(5)]])
    assert batch["pixel_values"].shape[:2] == (4, 1) and batch["widths"].tolist() == [
        pictures[i]["picture"].shape[1] for i in range(4)
    ]
    blank = PictureCollate(GridGeometry())([pictures[4]])
    assert not blank["pixel_values"].any() and blank["pixel_values"].shape == (1, 1, 80, 8)
    with pytest.raises(InputError, match="3 columns or fewer"):
        GridPictures(systems, GridGeometry(), max_columns=3)


def test_figures_by_hand() -> None:
    a = np.zeros((4, 4), np.uint8)
    assert psnr_db(a, a) == 99.0
    assert psnr_db(a, a + 255) == 0.0
    assert psnr_db(a, a + 51) == pytest.approx(20 * np.log10(5))
    usage, perplexity = codebook_use([np.array([[0, 1], [2, 3]]), np.array([[0, 1], [2, 3]])], 8)
    assert usage == 0.5 and perplexity == pytest.approx(4)
    assert codebook_use([np.array([[5]])], 4 + 4)[1] == pytest.approx(1)


# --- training ---------------------------------------------------------------------------------------------------------


def test_image_vq_trains_and_loads(folder: Path, tmp_path: Path) -> None:
    packed = str(folder / "a")
    flags = ["--packed", packed, "--packed_validation", packed, "--preset", "tiny", "--max_steps", "3", "--cpu"]
    flags += ["--output_dir", str(tmp_path), "--validation_pictures", "3", "--tracker", "none", "--no-progress"]
    assert train_image_vq.main(flags) == 0
    model = AutoModel.from_pretrained(tmp_path / "best")
    assert model.config.codebook_size == 64
    with pytest.raises(InputError, match="say what to train on"):
        train_image_vq.main(["--output_dir", str(tmp_path)])
    with pytest.raises(InputError, match="say what to probe"):
        train_image_vq.main(["--stage", "probe"])


def settings(folder: Path, out: Path, **changes: Any) -> list[str]:
    values = {"data": folder / "lessons", "image_vq": folder / "image_vq", "output_dir": out, "max_steps": 3,
              "preset": "tiny", "batch_size": 1, "tracker": "none", "window": 640, **changes}  # fmt: skip
    return [word for name, value in values.items() for word in (f"--{name}", str(value))] + ["--cpu", "--no-progress"]


def test_native_vlm_trains_goes_on_and_loads(folder: Path, tmp_path: Path) -> None:
    assert train_native_vlm.main(settings(folder, tmp_path / "one", rope="plain")) == 0
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one" / "best")
    processor = AutoProcessor.from_pretrained(tmp_path / "one" / "best")
    assert model.config.rope == "plain" and processor.vocabulary == model.config.vocabulary
    vq = AutoModel.from_pretrained(folder / "image_vq").state_dict()
    assert all(torch.equal(value, vq[name]) for name, value in model.image_vq.state_dict().items())
    picture = model.generate_images(
        **processor(text=processor.draw_prompt("\\staff {tabs}\n3.3.1 |\n")), rows=5, columns=3
    )[0]
    assert picture.size == (24, 80)
    go_on = settings(folder, tmp_path / "two", model=tmp_path / "one" / "final")
    assert train_native_vlm.main([*go_on, "--new_rows_only"]) == 0
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "two" / "final").state_dict()
    before = AutoModelForCausalLM.from_pretrained(tmp_path / "one" / "final").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    learnt = {"embed_tokens.weight", "embed_modality.weight", "beside.mix.weight"}
    assert changed == {"lm_head.weight", *(f"model.{name}" for name in learnt)}
    assert torch.equal(after["lm_head.weight"][:1024], before["lm_head.weight"][:1024])


class Blind:
    """A reader that finds no system anywhere, around a tower."""

    def __init__(self, tower: Any) -> None:
        self.model = SimpleNamespace(vision_tower=tower)

    def __call__(self, pictures: list[Any]) -> list[Score]:
        return [Score() for _ in pictures]


def test_an_untrained_model_is_measured(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Legal, parsable, and wrong."""
    torch.manual_seed(0)
    tokenizer = AlphaTexTokenizer()
    config = native_config(text_vocab_size=len(tokenizer), max_rows=15, max_columns=20, max_position_embeddings=220)
    model = NativeVLMForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "model")
    NativeVLMProcessor.for_model(config, ScoreImageProcessor(), tokenizer).save_pretrained(tmp_path / "model")
    tower = ScoreTowerModel(tower_config(labels=PackedSystems([folder / "b"]).space)).eval()
    monkeypatch.setattr(
        evaluation_native_vlm, "load_parts", lambda request, reader: (*load_drawer(request.checkpoint), Blind(tower))
    )
    options = {"quick": True, "guidance_scale": 2.0, "rows": 7, "columns": 6}
    report = evaluate(
        "native_vlm",
        checkpoint=tmp_path / "model",
        data=folder / "lessons",
        n=2,
        out=tmp_path,
        progress=False,
        **options,
    )
    assert report.n == 2 and report.figures["parses"].value == 1 and report.figures["note_f1"].value < 0.5
    drawing = report.sections["drawing"]
    assert drawing["legal_grids"].value == 1 and 0 <= drawing["ink_iou"].value < 1 and not report.failures
    assert drawing["note_f1"].value == drawing["codes_note_f1"].value == 0 <= drawing["tower_note_f1"].value < 1
    assert not report.is_met("note_f1") and report.is_met("drawing/legal_grids") and report.is_met("parses")
    for name in ("text alone", "text alone, the language model"):
        assert report.sections[name]["structure"].n == 2 and 0 <= report.sections[name]["note_completion"].value <= 1
    lost, before, after = (
        report.sections[name]["note_completion"]
        for name in ("text alone, lost", "text alone, the language model", "text alone")
    )
    assert lost.value == before.value - after.value and report.is_met("text alone, lost/note_completion") is not None
    assert (tmp_path / "native_vlm.json").is_file()


def test_a_text_that_does_not_fit_spoils_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(model: Any, processor: Any, texts: list[str], **options: Any) -> list[str]:
        if "long" in texts:
            raise InputError(None, "window")
        return [text.upper() for text in texts]

    monkeypatch.setattr(native_vlm_evaluation, "draw_texts", draw)
    lessons = [{"name": name, "parts": [text_part("user", name)]} for name in ("a", "long", "b")]
    failures: list[Any] = []
    found = evaluation_native_vlm.draw_or_tell(
        None, None, lessons, [2, 1, 0], failures, evaluation_native_vlm.Options()
    )
    assert found == {0: "A", 2: "B"} and [failure.name for failure in failures] == ["long"]


def test_how_far_one_share_is_behind_another() -> None:
    """Newcombe's own example (method 10, case a): 56 of 70 against 48 of 80, 0.2 with 0.0524 to 0.3339."""
    found = behind(proportion([1] * 56 + [0] * 14), proportion([1] * 48 + [0] * 32))
    assert [found.value, found.low, found.high] == pytest.approx([0.2, 0.0524, 0.3339], abs=1e-4) and found.n == 70


def test_the_same_seed_gives_the_same_weights(folder: Path, tmp_path: Path) -> None:
    found = []
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        torch.rand(len(name))  # whatever came before
        assert train_native_vlm.main(settings(folder, tmp_path / name, seed=seed)) == 0
        found.append(NativeVLMForCausalLM.from_pretrained(tmp_path / name / "final").lm_head.weight)
    assert torch.equal(found[0], found[1]) and not torch.allclose(found[0], found[2], atol=1e-2)


def test_the_loss_of_lessons_is_that_of_the_model(folder: Path) -> None:
    """One row at a time or several, packed or alone: the same nats a label."""
    torch.manual_seed(0)
    tokenizer = AlphaTexTokenizer()
    config = native_config(text_vocab_size=len(tokenizer), max_rows=15, max_columns=20, max_position_embeddings=700)
    model = NativeVLMForCausalLM(config).eval()
    lessons = read_lessons(folder / "lessons", "validation", limit=3)
    write = Sequences(tokenizer, config.vocabulary)
    figures = [evaluate_lessons(model, PackedLessons(lessons, write, window, unasked=0.0), 0) for window in (400, 2000)]
    assert figures[0]["loss"] == pytest.approx(figures[1]["loss"], rel=1e-2)  # bfloat16
    total = count = 0.0
    for lesson in lessons:
        ids, learnt = write(lesson)
        tokens = torch.from_numpy(ids.astype(np.int64))[None]
        with torch.no_grad():
            loss = model(tokens, labels=tokens.masked_fill(~torch.from_numpy(learnt)[None], -100)).loss
        total, count = total + float(loss) * learnt.sum(), count + learnt.sum()
    assert figures[0]["loss"] == pytest.approx(total / count, rel=1e-2)


def test_columns_of_beats_are_counted_apart_from_codes(folder: Path) -> None:
    torch.manual_seed(0)
    tokenizer = AlphaTexTokenizer()
    changes = {"max_rows": 15, "max_columns": 20, "max_position_embeddings": 700, "rope": "placed"}
    model = NativeVLMForCausalLM(native_config(text_vocab_size=len(tokenizer), **changes)).eval()
    v = model.config.vocabulary
    with torch.no_grad():  # always says column 0, or that a picture is one wide
        model.lm_head.weight.zero_()
    model.lm_head.register_forward_hook(lambda module, given, out: out + 9 * (torch.arange(v.size) == v.first_columns))
    lessons = read_lessons(folder / "lessons", "validation", ["read", "draw"])
    figures = evaluate_lessons(model, PackedLessons(lessons, Sequences(tokenizer, v, places=True), 700, unasked=0.0), 0)
    assert figures["place_accuracy"] == figures["text_accuracy"] == figures["image_accuracy"] == 0
    assert figures["place_loss"] == pytest.approx(figures["image_loss"], rel=1e-2)
    for lesson in lessons:
        for part in lesson["parts"]:
            part["places"] = [0] * len(part["places"])
    rows = PackedLessons(lessons, Sequences(tokenizer, v, places=True), 700, unasked=0.0)
    figures = evaluate_lessons(model, rows, 0)
    assert figures["place_accuracy"] == 1 and figures["image_accuracy"] == 0
    plain = evaluate_lessons(model, PackedLessons(lessons, Sequences(tokenizer, v), 700, unasked=0.0), 0)
    assert "place_loss" not in plain and plain["image_loss"] == pytest.approx(figures["image_loss"], rel=1e-2)


def test_codes_of_another_tokenizer_are_refused(folder: Path, tmp_path: Path) -> None:
    other = tiny_image_vq(tmp_path / "other", seed=3)
    with pytest.raises(InputError, match="build it again"):
        train_native_vlm.main(settings(folder, tmp_path, image_vq=other))
    with pytest.raises(InputError, match="is no model folder"):
        train_native_vlm.main(settings(folder, tmp_path, lm=tmp_path / "absent"))
    with pytest.raises(InputError, match="z_loss_weight is -1"):
        train_native_vlm.main(settings(folder, tmp_path, z_loss_weight=-1))
    with pytest.raises(InputError, match=r"12.*64"):
        train_image_vq.main(["--packed", str(folder / "a"), "--codebook_size", "12", "--preset", "tiny"])
    with pytest.raises(InputError, match="longest is 4000"):
        train_native_vlm.main(settings(folder, tmp_path, longest=4000))
    with pytest.raises(InputError, match="no lessons of the split"):
        read_lessons(folder / "lessons", "test")
    with pytest.raises(InputError, match="no lessons sing"):
        read_lessons(folder / "lessons", "train", ["sing"])
    with pytest.raises(InputError, match="say what to train on"):
        train_native_vlm.main([])
    with pytest.raises(InputError, match="which picture tokenizer"):
        train_native_vlm.main(["--data", str(folder / "lessons")])


def test_a_batch_reads_and_draws_as_each_alone(folder: Path) -> None:
    """Rows of other lengths, padded on the left, change nothing."""
    torch.manual_seed(1)
    tokenizer = AlphaTexTokenizer()
    config = native_config(text_vocab_size=len(tokenizer), max_rows=15, max_columns=20, max_position_embeddings=300)
    model = NativeVLMForCausalLM(config).eval()
    processor = NativeVLMProcessor.for_model(config, ScoreImageProcessor(), tokenizer)
    grids = [np.arange(rows * columns).reshape(rows, columns) % 16 for rows, columns in ((5, 2), (6, 9))]
    together = read_codes(model, processor, grids, max_new_tokens=40)
    assert together == [read_codes(model, processor, [grid], max_new_tokens=40)[0] for grid in grids]
    texts = ["\\staff {tabs}\n3.3.1 |\n", "\\staff {tabs}\n3.3.4 5.3.4 7.2.2 |\n"]
    drawn = draw_texts(model, processor, texts, rows=5, columns=3)
    alone = [draw_texts(model, processor, [text], rows=5, columns=3)[0] for text in texts]
    assert [picture.tobytes() for picture in drawn] == [picture.tobytes() for picture in alone]
