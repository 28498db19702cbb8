"""The language model of alphaTex: packs, rows, metrics with known answers, training and evaluation of a tiny one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.errors import InputError
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer
from intermezzo.train import train_alphatex_lm as entry
from intermezzo.train.alphatex_lm_data import (
    CorpusText,
    PackedTexts,
    TokenRows,
    generated_texts,
    pack_texts,
    read_frame,
    text_digest,
    texts_of_packed_systems,
    texts_of_parquet,
)
from intermezzo.train.evaluation import EvaluationRequest, evaluate
from intermezzo.train.evaluation_alphatex_lm import LanguageText, Options, Writer, load_language_model, load_texts
from intermezzo.train.metrics_alphatex_lm import (
    among_best,
    check_completion,
    check_text,
    choose_masked,
    first_half,
    metadata_issues,
    structure_figures,
    usual_frets,
)

torch.set_num_threads(1)

BAR = "3.3.4 5.3.4 r.2 |\n"
GOOD = f"\\staff {{tabs}}\n\\ts (4 4) \\tempo 120 {BAR}{BAR}"


@pytest.fixture(scope="module")
def tokenizer() -> AlphaTexTokenizer:
    return AlphaTexTokenizer()


@pytest.fixture(scope="module")
def corpus() -> list[CorpusText]:
    return list(generated_texts(3, 40, "train"))


@pytest.fixture(scope="module")
def pack(tokenizer: Any, corpus: list[CorpusText], tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("packs") / "train"
    pack_texts(corpus, tokenizer, folder, "train")
    return folder


# --- texts and packs --------------------------------------------------------------------------------------------------


def test_generated_texts_repeat_and_splits_share_no_piece(corpus: list[CorpusText]) -> None:
    assert corpus == list(generated_texts(3, 40, "train"))
    held_out = list(generated_texts(3, 40, "test"))
    assert not {t.piece for t in corpus} & {t.piece for t in held_out}
    assert {t.source for t in generated_texts(3, 120, "train")} == {"generated", "generated, wild"}
    whole = list(generated_texts(3, 40, "train", whole=1.0))
    bars = lambda texts: max(check_text(t.text).bars for t in texts)  # noqa: E731
    assert bars(whole) > 8 >= bars(generated_texts(3, 40, "train", whole=0.0))
    assert all(check_text(t.text).whole for t in corpus + held_out + whole)


def test_a_pack_gives_every_text_back_once(tokenizer: Any, corpus: list[CorpusText], tmp_path: Path) -> None:
    held_out = frozenset({text_digest(corpus[5].text)})
    index = pack_texts([*corpus, *corpus[:7]], tokenizer, tmp_path, "train", held_out, max_tokens=400)
    packed = PackedTexts([tmp_path], tokenizer)
    found = [tokenizer.decode(packed[i][:-1].tolist()) for i in range(len(packed))]
    wanted = [t.text for i, t in enumerate(corpus) if i != 5 and len(tokenizer.encode(t.text)) <= 400]
    assert found == wanted and len(wanted) > 20
    assert all(packed[i][-1] == tokenizer.eos_token_id for i in range(len(packed)))
    assert index["tokens"] == sum(map(len, (packed[i] for i in range(len(packed))))) == packed.lengths.sum()
    assert index["repeated"] == 8 and index["texts"] + index["too_long"] == len(corpus) - 1
    assert len({packed.piece(i) for i in range(len(packed))}) == len({t.piece for t in corpus if t.text in found})


def test_two_packs_are_read_as_one(tokenizer: Any, corpus: list[CorpusText], tmp_path: Path) -> None:
    pack_texts(corpus[:3], tokenizer, tmp_path / "a", "train")
    pack_texts(corpus[3:5], tokenizer, tmp_path / "b", "train")
    packed = PackedTexts([tmp_path / "a", tmp_path / "b"], tokenizer)
    assert [tokenizer.decode(packed[i][:-1].tolist()) for i in range(5)] == [t.text for t in corpus[:5]]


def test_texts_of_another_split_stay_out(tokenizer: Any, pack: Path, tmp_path: Path) -> None:
    flags = ["--stage", "pack", "--generate", "40", "--seed", "3", "--output_dir", str(tmp_path / "rest")]
    half = list(generated_texts(3, 20, "train"))
    pack_texts(half, tokenizer, tmp_path / "half", "test")
    assert entry.main([*flags, "--held_out", str(tmp_path / "half")]) == 0
    texts = lambda folder: {bytes(ids) for ids in PackedTexts([folder], tokenizer)}  # noqa: E731
    assert texts(tmp_path / "rest") == texts(pack) - texts(tmp_path / "half") != set()


def test_packs_that_do_not_fit_are_refused(tokenizer: Any, corpus: list[CorpusText], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no packed texts here"):
        PackedTexts([tmp_path])
    with pytest.raises(InputError, match="no text was left to pack"):
        pack_texts([], tokenizer, tmp_path / "none", "train")
    pack_texts(corpus[:3], tokenizer, tmp_path / "cut", "train")
    tokens = tmp_path / "cut" / "tokens.bin"
    tokens.write_bytes(tokens.read_bytes()[:-2])
    with pytest.raises(InputError, match="not a whole pack"):
        PackedTexts([tmp_path / "cut"])
    pack_texts(corpus[:3], tokenizer, tmp_path / "other", "train")
    index = tmp_path / "other" / "index.json"
    index.write_text(index.read_text().replace('"vocabulary": "', '"vocabulary": "x'))
    with pytest.raises(InputError, match="another vocabulary"):
        PackedTexts([tmp_path / "other"], tokenizer)

    def breaks() -> Any:
        yield corpus[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_texts(breaks(), tokenizer, tmp_path / "other", "train")
    with pytest.raises(InputError, match="no packed texts here"):  # the old index is gone with the old tokens
        PackedTexts([tmp_path / "other"], tokenizer)


def test_texts_come_from_packed_systems_and_parquet(tmp_path: Path) -> None:
    import json

    import pyarrow
    import pyarrow.parquet

    rows = [{"text": GOOD, "name": "piece 4", "metre": [4, 4]}, {"text": "x", "name": "piece 5", "metre": [3, 4]}]
    (tmp_path / "index.json").write_text(json.dumps({"space": {}, "rows": rows}))
    assert list(texts_of_packed_systems([tmp_path])) == [CorpusText(GOOD, "packed", "piece")]
    with pytest.raises(InputError, match="no packed systems here"):
        list(texts_of_packed_systems([tmp_path / "nothing"]))
    columns = {"text": ["a", "b"], "split": ["train", "test"], "piece_id": ["p", "q"], "source": ["s", "s"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    assert list(texts_of_parquet(tmp_path, "test")) == [CorpusText("b", "s", "q")]
    with pytest.raises(InputError, match="no Parquet rows of the split 'validation'"):
        list(texts_of_parquet(tmp_path, "validation"))


def test_rows_start_with_a_text_and_learn_all_but_its_front(tokenizer: Any, pack: Path) -> None:
    packed, frame = PackedTexts([pack], tokenizer), read_frame(tokenizer)
    assert tokenizer.decode(frame) == "<|bos|><|user|><|image|><|end|><|assistant|>"
    rows = TokenRows(packed, 192, frame, tokenizer.bos_token_id, seed=1)
    fronts, seen = set(), set()
    for i in range(len(rows)):
        row = rows[i]
        ids, labels = row["input_ids"], row["labels"]
        assert ids.shape == labels.shape == (192,) and ids[0] == tokenizer.bos_token_id
        learnt = labels != -100
        assert torch.equal(ids[learnt], labels[learnt])
        hidden = ids[~learnt].tolist()
        assert set(hidden) <= {*frame, tokenizer.bos_token_id}
        assert hidden.count(tokenizer.bos_token_id) == int((ids == tokenizer.bos_token_id).sum())
        fronts.add(len(frame) if ids[:5].tolist() == frame else 1)
        first, after = rows.rows[i]
        seen |= set(rows.order[first : after - 1].tolist())  # whole ones
        if after - first > 1:
            text = packed[int(rows.order[first])]
            start = len(frame) if rows.kinds[first] else 1
            assert ids[start : start + len(text)].tolist() == text.tolist()
    assert fronts == {1, len(frame)}
    fit = {i for i in range(len(packed)) if packed.lengths[i] + len(frame) <= 192}
    last = set(rows.order[rows.rows[-1][0] :].tolist())  # behind the last whole row
    assert fit - last <= seen and len(fit & seen) > 10
    again = TokenRows(packed, 192, frame, tokenizer.bos_token_id, seed=1)
    assert torch.equal(again[2]["input_ids"], rows[2]["input_ids"])
    with pytest.raises(InputError, match="pack more"):
        TokenRows(packed, 10**6, frame, tokenizer.bos_token_id)


# --- metrics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parses", "closes", "sane"),
    [
        (GOOD, True, True, True),
        ("", False, False, False),
        ("\\staff {tabs}\n3.3.4 (", False, False, False),
        (GOOD.replace("r.2 |", "r.4 |", 1), True, False, True),
        (GOOD.replace("120", "1200"), True, True, False),
        (GOOD.replace("5.3.4", "33.3.4", 1), True, True, False),
        (GOOD.replace("5.3.4", "5.7.4", 1), True, True, False),
        ("\\staff {tabs}\n", True, None, False),
    ],
)
def test_a_text_is_checked(text: str, parses: bool, closes: bool | None, sane: bool) -> None:
    checks = check_text(text)
    assert (checks.parses, checks.sane) == (parses, sane)
    assert closes is None or checks.closes == closes
    assert checks.whole == (text == GOOD) and bool(checks.message) == (text != GOOD)
    assert not check_text(text, ends=False).whole


def test_metadata_that_can_not_be_is_named() -> None:
    assert metadata_issues(read_alphatex(GOOD)) == []
    score = read_alphatex(GOOD)
    score.staves[0].bars[1].tempo = 7
    score.staves[0].bars[1].time_signature = (4, 3)
    score.staves[0].bars[0].repeat_close = 99
    score.staves[0].capo = 20
    assert metadata_issues(score) == ["capo 20", "bar 1: played 99 times", "bar 2: tempo 7", "bar 2: metre 4/3"]


def test_a_completion_has_to_add_a_bar() -> None:
    assert check_completion(GOOD, 1, True).whole
    assert not check_completion(GOOD, 2, True).closes
    figures = structure_figures([check_text(GOOD), check_text("("), check_text(GOOD, ends=False)])
    assert figures["structure"].value == pytest.approx(1 / 3)
    assert figures["structure_parses"].value == pytest.approx(2 / 3) and figures["structure_ends"].n == 3


def test_halves_and_masks_are_where_they_should_be(tokenizer: Any) -> None:
    ids = tokenizer.encode(GOOD + BAR + BAR + BAR, add_special_tokens=False)
    line = tokenizer.get_vocab()["Ġ|⏎"]
    length, bars = first_half(ids, line)  # type: ignore[misc]
    assert bars == 2 and tokenizer.decode(ids[:length]) == GOOD
    assert first_half(tokenizer.encode("\\staff {tabs}\n" + BAR), line) is None
    frets = [i for i, piece in tokenizer.pieces().items() if piece.kind == "fret"]
    places = {choose_masked(ids, frets, np.random.default_rng(seed)) for seed in range(60)}
    every = [i for i, token in enumerate(ids) if token in frets]
    assert places == set(every[len(every) // 4 :])
    assert choose_masked([line], frets, np.random.default_rng(0)) is None
    found = [tokenizer.decode([token]) for token in usual_frets([ids], frets, 2)]
    assert sorted(token.strip() for token in found) == ["3", "5"]


def test_among_the_best() -> None:
    scores = [0.0, 5.0, 3.0, 4.0, 1.0, 2.0, -1.0]
    assert [among_best(scores, i) for i in range(7)] == [False, True, True, True, True, True, False]
    assert not among_best([1.0] * 7, 0)  # a model that can not decide has not regained it


# --- the model --------------------------------------------------------------------------------------------------------


def tiny(tokenizer: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    args = entry.AlphaTexLMArguments(hidden_size=32, num_layers=2)
    return AutoModelForCausalLM.from_config(entry.text_config(args, tokenizer)).eval()


def test_presets_have_eight_layers(tokenizer: Any) -> None:
    sizes = {}
    for preset in ("small", "reference"):
        config = entry.text_config(entry.AlphaTexLMArguments(preset=preset), tokenizer)
        with torch.device("meta"):
            sizes[preset] = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
        assert (config.model_type, config.num_hidden_layers, config.hidden_size) == ("nanochat", 8, 256)
        assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 0)
    assert sizes == {"small": 6_815_744, "reference": 19_398_656}


def test_fret_scores_are_those_of_whole_texts(tokenizer: Any) -> None:
    """The cached way equals writing each fret into the text and reading the whole of it."""
    model = tiny(tokenizer)
    with torch.no_grad():
        model.lm_head.weight.mul_(30)
    writer = Writer(model, tokenizer, Options(note_window=6))
    ids = tokenizer.encode(GOOD, add_special_tokens=False)
    place = [i for i, token in enumerate(ids) if token in writer.frets][1]
    left, both = writer.fret_scores(ids, place)
    rows = torch.tensor([[tokenizer.bos_token_id, *ids[:place], f, *ids[place + 1 : place + 7]] for f in writer.frets])
    with torch.no_grad():
        logp = model(input_ids=rows).logits.log_softmax(-1)
    each = logp[:, :-1].gather(-1, rows[:, 1:, None])[..., 0]  # (F, T)
    torch.testing.assert_close(torch.tensor(left), each[:, place], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.tensor(both), each[:, place : place + 7].sum(-1), rtol=1e-4, atol=1e-3)
    assert len(set(both)) > 30


def test_the_grammar_makes_any_model_write_whole_texts(tokenizer: Any) -> None:
    writer = Writer(tiny(tokenizer), tokenizer, Options(max_new_tokens=90))
    prefix = tokenizer.encode(GOOD, add_special_tokens=False)
    for text, ends in writer.write([[], prefix], grammar=True):
        checks = check_text(text, ends)
        assert checks.parses and checks.closes and ends, (text, checks)
    assert writer.write([prefix], grammar=True)[0][0].startswith(GOOD)
    free = [check_text(text, ends) for text, ends in writer.write([[], []], grammar=False)]
    assert not any(checks.whole for checks in free)


def test_a_completion_is_never_left_empty(tokenizer: Any) -> None:
    """Half of a text is often a whole text of its own, so a model may well end there; it is asked for more."""
    model = tiny(tokenizer)
    prefix = tokenizer.encode(GOOD, add_special_tokens=False)

    def only_the_end(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        output = torch.zeros_like(output)
        output[..., tokenizer.eos_token_id] = 50.0
        return output

    model.lm_head.register_forward_hook(only_the_end)
    writer = Writer(model, tokenizer, Options(max_new_tokens=150))
    for grammar in (True, False):
        text, ends = writer.write([prefix], grammar)[0]
        assert len(text) > len(GOOD) and ends
    assert check_completion(writer.write([prefix], True)[0][0], 2, True).whole


def test_a_test_set_is_of_the_test_split(tokenizer: Any, pack: Path) -> None:
    request = EvaluationRequest("alphatex_lm", "nowhere", str(pack), n=5, progress=False)
    with pytest.raises(InputError, match="is of the split train"):
        load_texts(request, tokenizer, 400)
    texts = load_texts(EvaluationRequest("alphatex_lm", "nowhere", None, n=6, seed=1, progress=False), tokenizer, 300)
    assert len(texts) == 6 and all(len(t.ids) <= 300 and isinstance(t, LanguageText) for t in texts)
    assert not {t.piece for t in texts} & {t.piece for t in generated_texts(1, 200, "train")}
    with pytest.raises(InputError, match="no language model of alphaTex"):
        load_language_model(str(pack))


def test_training_lowers_the_loss_and_the_result_is_evaluated(tokenizer: Any, pack: Path, tmp_path: Path) -> None:
    common = ["--hidden_size", "64", "--num_layers", "2", "--context", "96", "--batch_size", "8", "--cpu"]
    common += ["--tracker", "none", "--no-progress", "--learning_rate", "0.01", "--logging_steps", "5"]
    flags = [
        "--tokens",
        str(pack),
        "--tokens_validation",
        str(pack),
        "--output_dir",
        str(tmp_path),
        "--max_steps",
        "40",
    ]
    flags += ["--validation_rows", "8", "--eval_steps", "20", *common]
    assert entry.main(flags) == 0
    import json

    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses[0] > 4 and losses[-1] < 0.5 * losses[0]
    figures = [line for line in lines if line["kind"] == "evaluation"]
    assert figures[-1]["loss"] < figures[0]["loss"] and 0 < figures[-1]["token_accuracy"] < 1
    assert AutoConfig.from_pretrained(tmp_path / "best").model_type == "nanochat"
    report = evaluate(
        "alphatex_lm", checkpoint=tmp_path / "best", n=3, out=tmp_path / "out", progress=False, max_new_tokens=150,
        note_window=4,
    )  # fmt: skip
    assert set(report.targets) <= set(report.figures) and not report.failures
    on = report.sections["grammar on"]
    assert on["structure_parses"].value == on["structure_closes"].value == on["tab_completion_closes"].value == 1
    assert report.figures["note_completion"].n == 3 and (tmp_path / "out" / "alphatex_lm.json").is_file()


def test_the_language_model_of_a_picture_reader_is_measured(tokenizer: Any, tmp_path: Path) -> None:
    from intermezzo.configuration.configuration_score_vlm import ScoreVLMConfig
    from intermezzo.modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration

    vit = dict(model_type="vit", hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    text = entry.text_config(entry.AlphaTexLMArguments(hidden_size=32, num_layers=2), tokenizer)
    config = ScoreVLMConfig(
        connector="cross_attention",
        vision_config={**vit, "image_size": 32, "patch_size": 16},
        vision_feature_layer=-1,
        text_config=text,
        image_token_id=6,
    )
    model = ScoreVLMForConditionalGeneration(config)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found, own = load_language_model(str(tmp_path))
    assert type(found).__name__ == "NanoChatForCausalLM" and own.get_vocab() == tokenizer.get_vocab()
    assert torch.equal(found.lm_head.weight, model.language_model.lm_head.weight)


def test_wrong_settings_are_one_line(pack: Path, tmp_path: Path) -> None:
    out = ["--output_dir", str(tmp_path), "--max_steps", "1"]
    with pytest.raises(InputError, match="say what to train on"):
        entry.main(out)
    with pytest.raises(InputError, match="say what to pack"):
        entry.main(["--stage", "pack", *out[:2]])
    with pytest.raises(InputError, match="no such file or folder"):
        entry.main(["--stage", "pack", "--music", str(tmp_path / "nothing"), *out[:2]])
    index = pack / "index.json"
    kept = index.read_text()
    try:
        index.write_text(kept.replace('"split": "train"', '"split": "test"'))
        with pytest.raises(InputError, match="--tokens holds texts of the split test"):
            entry.main(["--tokens", str(pack), *out])
    finally:
        index.write_text(kept)
