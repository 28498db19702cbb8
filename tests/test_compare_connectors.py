"""Three ways for a picture to come into a text: the rival is sound, the comparison equal, its table says what was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from intermezzo.configuration.configuration_score_tower import ScoreTowerConfig
from intermezzo.modeling.modeling_score_tower import ScoreTowerModel
from intermezzo.modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.dense_labels import build_label_space
from intermezzo.processing.errors import InputError
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer
from intermezzo.train import compare_connectors, compare_connectors_reading, loop
from intermezzo.train.baseline_encoder_decoder import EncoderDecoderReader, EncoderDecoderReaderConfig, config_like
from intermezzo.train.compare_connectors import (
    NAMES,
    CompareArguments,
    build_rival,
    compare,
    merge_lora,
    pictures_seen,
    short_systems,
    tower_folder,
    tower_labels,
)
from intermezzo.train.compare_connectors_reading import Measuring, RivalReader, batches, blank, load_rival, same_weights
from intermezzo.train.compare_connectors_table import table
from intermezzo.train.evaluation_alphatex_lm import Options, Writer
from intermezzo.train.loading import BatchStream, build_dataloader
from intermezzo.train.score_vlm_data import Buckets, PackedSystems, PackWriter, SystemRow

from .test_image_processing_score import TRUTH, grey
from .tiny_score_vlm import pictures, text_config, tower_config

torch.set_num_threads(1)

ONE_BAR = "\\staff {{tabs}}\n{0}.3.4 3.3.4 {0}.2.4 3.3.4 |"
LONG = ONE_BAR.format(5) + "\n" + "\n".join(["1.3.8 2.3.8 1.3.8 2.3.8 1.3.8 2.3.8 1.3.8 2.3.8 |"] * 3)


def write_pack(folder: Path, frets: range, prefix: str, space: dict[str, list[str]], long: bool = False) -> None:
    """Real pictures of systems, each with some made-up text: what is learnt from them does not matter here."""
    writer = PackWriter(folder, space)
    names = [name for name, truth in TRUTH.items() if len(truth["systems"]) == 1]
    for number, fret in enumerate(frets):
        name = names[number % len(names)]
        truth = TRUTH[name]["systems"][0]
        left, right = truth["x"]
        text = LONG if long and not number else ONE_BAR.format(fret)
        beats = {(0, 0, k): left + (right - left) * (k + 1) / 5 for k in range(4)}
        beats |= {(bar, 0, k): left + 2.0 * bar + k for bar in (1, 2, 3) for k in range(8)} if text == LONG else {}
        bars = [(left, right)] * (4 if text == LONG else 1)
        lines, score = truth["tab"], truth["has_score"]
        row = SystemRow(grey(name), text, beats, bars, lines, score, f"{prefix}-{number // 2} {number % 2}")
        assert writer.add(row), writer.failures
    writer.close()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packs, a tower and a language model, all tiny."""
    folder = tmp_path_factory.mktemp("comparison")
    torch.manual_seed(0)
    space = build_label_space([read_alphatex(LONG), *(read_alphatex(ONE_BAR.format(fret)) for fret in range(12))])
    write_pack(folder / "train", range(8), "trained", space, long=True)
    write_pack(folder / "held_out", range(6, 11), "new", space)  # frets 6 and 7 are among those trained on
    ScoreTowerModel(tower_config(labels=space)).save_pretrained(folder / "tower")
    tokenizer = AlphaTexTokenizer()
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**text_config(len(tokenizer))))
    model.save_pretrained(folder / "lm")
    tokenizer.save_pretrained(folder / "lm")
    return folder


@pytest.fixture
def args(work: Path, tmp_path: Path) -> CompareArguments:
    return CompareArguments(
        output_dir=str(tmp_path / "out"),
        packed=[str(work / "train")],
        packed_validation=[str(work / "held_out")],
        tower=str(work / "tower"),
        lm=str(work / "lm"),
        steps=2,
        warmup_steps=0,
        max_text_tokens=40,
        pixels=400_000,
        lora_rank=2,
        n=2,
        blank_n=1,
        timing_n=1,
        text_n=0,
        apart=False,
        progress=False,
    )


# --- The encoder-decoder ----------------------------------------------------------------------------------------------


@pytest.fixture
def rival() -> EncoderDecoderReader:
    torch.manual_seed(1)
    text = AutoConfig.for_model(**text_config())
    return EncoderDecoderReader(config_like(tower_config(), text, positions=64)).eval()


def test_the_decoder_has_the_sizes_of_the_language_model(rival: EncoderDecoderReader) -> None:
    text, decoder = text_config(), rival.config.decoder_config
    for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"):
        assert getattr(decoder, name) == text[name]
    assert decoder.n_inner == text["intermediate_size"]
    assert all(hasattr(layer, "crossattention") for layer in rival.decoder.transformer.h)


def test_it_loads_as_it_was(rival: EncoderDecoderReader, tmp_path: Path) -> None:
    rival.save_pretrained(tmp_path)
    loaded = EncoderDecoderReader.from_pretrained(tmp_path).eval()
    inputs: dict[str, Any] = {"input_ids": torch.tensor([[1, 9, 8]]), "pixel_values": pictures(1)}
    assert torch.equal(loaded(**inputs).logits, rival(**inputs).logits)
    with pytest.raises(ValueError, match="score_tower and a gpt2, got score_tower and nanochat"):
        EncoderDecoderReaderConfig(decoder_config=text_config())


@torch.no_grad()
def test_pictures_matter_padding_and_later_tokens_do_not(rival: EncoderDecoderReader) -> None:
    ids = torch.tensor([[1, 9, 8, 7], [1, 9, 8, 7]])
    values = pictures(2, width=96)
    values[1] = values[0]
    values[1, :, :, 40:] = 0
    widths = torch.tensor([96, 40])
    logits = rival(ids, values, widths).logits
    assert (logits[0] - logits[1]).abs().max() > 1e-4
    later = ids.clone()
    later[:, 2:] = 11
    torch.testing.assert_close(rival(later, values, widths).logits[:, :2], logits[:, :2], rtol=0, atol=1e-6)
    columns, seen = rival.encode(values, widths)
    assert seen.sum(1).tolist() == [12, 5]
    shown = {"encoder_attention_mask": seen, "input_ids": ids}
    other = torch.where(seen[..., None].bool(), columns, torch.randn_like(columns))
    a, b = (rival.decoder(encoder_hidden_states=x, **shown).logits for x in (columns, other))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="2 texts, but 1 pictures"):
        rival(ids, values[:1])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_cached_writing_equals_uncached(rival: EncoderDecoderReader, attention: str) -> None:
    rival.decoder.set_attn_implementation(attention)
    ids = torch.tensor([[0, 1, 9], [1, 9, 8]])
    inputs = {"pixel_values": pictures(2), "widths": torch.tensor([64, 40]), "attention_mask": (ids != 0).long()}
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": 99, "pad_token_id": 0}
    torch.manual_seed(2)
    cached = rival.generate(ids, **inputs, **options)
    assert cached.shape == (2, 9)
    assert torch.equal(cached, rival.generate(ids, **inputs, **options, use_cache=False))
    alone = {name: value[1:] for name, value in inputs.items()}
    assert torch.equal(rival.generate(ids[1:], **alone, **options)[0], cached[1])


def test_it_learns_which_text_goes_with_which_picture(rival: EncoderDecoderReader) -> None:
    """The tower of a tiny model sees little: what it gives is put in its place."""
    torch.manual_seed(0)
    columns = torch.randn(8, 4, rival.projection.in_features)
    ids = torch.cat([torch.ones(8, 1, dtype=torch.long), torch.randint(7, 24, (8, 4))], 1)
    learnt = [*rival.projection.parameters(), *rival.decoder.parameters()]
    optimizer = torch.optim.Adam(learnt, lr=1e-2)
    losses = []
    for _ in range(60):
        loss = rival.decoder(input_ids=ids, encoder_hidden_states=rival.projection(columns), labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 10
    shuffled = rival.projection(columns.roll(1, 0))
    assert rival.decoder(input_ids=ids, encoder_hidden_states=shuffled, labels=ids).loss.item() > losses[0] / 2


# --- Equal data, equal budget -----------------------------------------------------------------------------------------


def test_only_short_systems_are_kept(args: CompareArguments) -> None:
    kept = short_systems(args.packed, None, args)
    assert len(kept) == 7 and LONG not in kept.texts()
    assert len(short_systems(args.packed, None, replace(args, max_text_tokens=0))) == 8
    assert len(short_systems(args.packed, None, replace(args, max_text_tokens=0, max_bars=3))) == 7
    assert len(short_systems(args.packed, None, replace(args, max_text_tokens=0, max_bars=4))) == 8
    with pytest.raises(InputError, match="no system is as short"):
        short_systems(args.packed, None, replace(args, max_text_tokens=3))


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 7])
def test_pictures_are_counted_as_the_loop_takes_them(args: CompareArguments, steps: int) -> None:
    buckets = Buckets(PackedSystems(args.packed), 500_000, args.seed)
    sizes = {len(batch) for batch in buckets.batches}
    assert len(buckets) > 2 and len(sizes) > 1
    loader = build_dataloader(buckets, args.training("mlp"), lambda rows: len(rows[0]))
    loader.set_epoch = loader.sampler.set_epoch  # type: ignore[attr-defined, union-attr]
    stream = BatchStream(loader)
    assert pictures_seen(buckets, args.seed, steps) == sum(next(stream) for _ in range(steps))


def test_lora_is_merged_without_a_trace(args: CompareArguments) -> None:
    model, _ = build_rival("mlp", args, args.tower)
    learnt = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert learnt == {"connector", "language_model"}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.language_model.set_attn_implementation("sdpa")
    ids = torch.randint(7, 900, (1, 9))
    before = model.language_model.eval()(ids).logits
    fresh = AutoModelForCausalLM.from_pretrained(args.lm)
    assert (before - fresh(ids).logits).abs().max() > 1e-3
    merge_lora(model)
    torch.testing.assert_close(model.language_model(ids).logits, before, rtol=1e-4, atol=1e-4)
    assert model.language_model.state_dict().keys() == fresh.state_dict().keys()


def test_a_tower_comes_out_of_a_scorevlm_too(args: CompareArguments, tmp_path: Path) -> None:
    assert tower_folder(args) == args.tower
    model, _ = build_rival("mlp", replace(args, lora_rank=1), args.tower)
    merge_lora(model)
    model.half().save_pretrained(tmp_path / "vlm")
    taken = tower_folder(replace(args, tower=str(tmp_path / "vlm")))
    assert same_weights(ScoreTowerModel.from_pretrained(taken), model.vision_tower.float())
    assert tower_labels(taken) == ScoreTowerConfig.from_pretrained(args.tower).labels
    for folder in (args.lm, str(tmp_path)):
        with pytest.raises(InputError, match="tower"):
            tower_folder(replace(args, tower=folder))


def test_bad_settings_are_told() -> None:
    with pytest.raises(InputError, match="no rival 'adapter'"):
        CompareArguments("out", rivals=["adapter"])
    with pytest.raises(InputError, match="give --lm"):
        CompareArguments("out", ["a"], ["b"], tower="c")
    assert compare_connectors.main(["--output_dir", "out", "--packed", "a", "--packed_validation", "b"]) == 1


# --- Reading and the whole --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_reading_in_batches_is_reading_one_by_one(args: CompareArguments, name: str) -> None:
    torch.manual_seed(3)
    model, processor = build_rival(name, args, args.tower)
    if name == "mlp":
        merge_lora(model)
    model.float()
    systems = PackedSystems(args.packed_validation)
    rows = [systems[i] for i in range(len(systems))]
    rows = [row for row in rows if row["height"] == rows[0]["height"]][:2]
    assert len(rows) == 2 and batches(rows) in ([[0, 1]], [[1, 0]])
    reader = RivalReader(model, processor, systems.space, room=100)
    together = reader.read(rows)
    assert together == [reader.read([row])[0] for row in rows]
    for text in together:
        read_alphatex(text)
    nats, right, count = reader.losses(rows)
    encode = processor.tokenizer.encode
    assert count == [len(encode(row["text"], add_special_tokens=False)) + 1 for row in rows]
    assert all(0 < cost / tokens < 20 for cost, tokens in zip(nats, count, strict=True)) and max(right) <= max(count)
    assert (blank(rows[0])["canvas"] == 255).all() and (rows[0]["canvas"] < 255).any()


def test_the_whole_comparison(args: CompareArguments, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    text = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4, "unit": "texts", "groups": 0, "method": "wilson"}

    def abilities(self: Measuring, model: Any, tokenizer: Any) -> dict[str, Any]:
        asked.append(model.config.model_type)
        return {"structure": text}

    monkeypatch.setattr(Measuring, "_text", abilities)
    args = replace(args, text_n=4)
    said: list[str] = []
    told = compare(args, said.append)
    folder = Path(args.output_dir)
    assert json.loads((folder / "comparison.json").read_text(encoding="utf-8")) == json.loads(json.dumps(told))
    markdown = (folder / "comparison.md").read_text(encoding="utf-8")
    assert said[-1] == markdown and "| systems exact | 0.0 %" in markdown
    assert told["facts"]["also_in_training"] == 2 and told["facts"]["n"] == 2
    seen = {told["columns"][name]["training"]["pictures"] for name in NAMES}
    assert len(seen) == 1 and seen.pop() > 2
    tower, language = ScoreTowerModel.from_pretrained(args.tower), AutoModelForCausalLM.from_pretrained(args.lm)
    for name in NAMES:
        column = told["columns"][name]
        model, _ = load_rival(name, folder / name / "final")
        assert same_weights(model.vision_tower, tower)
        assert column["training"]["steps"] == 2 and 0 < column["training"]["trainable"] < column["training"]["total"]
        assert column["reading"]["tab_ned"]["n"] > 0 and column["blank"] and column["seconds"]["n"] == 1
        assert len((folder / name / "readings.jsonl").read_text(encoding="utf-8").splitlines()) == 2
        if isinstance(model, ScoreVLMForConditionalGeneration):
            assert same_weights(model.language_model, language) == (name == "cross_attention")
    assert sorted(asked) == ["gpt2", "nanochat", "nanochat"]  # a frozen model is not measured again
    assert told["columns"]["cross_attention"]["text"]["unchanged"] and "unchanged bit for bit" in markdown

    monkeypatch.setattr(loop, "train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(compare_connectors_reading, "load_rival", lambda *_: pytest.fail("read again"))
    assert compare(args, said.append)["columns"] == told["columns"]
    with pytest.raises(InputError, match=r"was trained with steps 2, now it is 3"):
        compare(replace(args, steps=3), said.append)


def test_the_table_leaves_out_what_was_not_measured() -> None:
    figure = {"value": 0.25, "low": 0.1, "high": 0.4, "n": 8, "unit": "systems", "groups": 2, "method": "wilson"}
    training = {"steps": 4, "seconds": 120.0, "cpu_seconds": 60.0, "pictures": 1234, "trainable": 1_500_000}
    training |= {"total": 12_000_000, "memory_peak": 0, "memory_growth": 0}
    seconds = {"median": 0.5, "low": 0.4, "high": 0.75, "n": 3}
    columns = {
        "mlp": {"training": training, "reading": {"system_exact": figure}, "seconds": seconds},
        "shipped": {"reading": {"system_exact": figure}, "total": 7_000_000},
    }
    facts = {"n": 8, "pieces": 2, "bars": 9, "tokens_median": 30.0, "held_out": 10, "also_in_training": 2}
    settings = {"steps": 0, "minutes": 12.0, "seed": 0, "num_threads": 1, "max_text_tokens": 0, "text_n": 5}
    lines = table({"columns": columns, "facts": facts, "settings": settings}).splitlines()
    assert lines[0] == "| | `mlp` + LoRA | as shipped: dense draft, verified |"
    assert "| systems exact | 25.0 % [10.0, 40.0] | 25.0 % [10.0, 40.0] |" in lines
    assert "| seconds a system, median (quartiles) | 0.50 (0.40 to 0.75) | – |" in lines
    assert "| learnt parameters of all | 1.50 M of 12.0 M | 7.0 M |" in lines
    assert "| pictures seen | 1,234 | – |" in lines and "| CPU seconds a step | 15.00 | – |" in lines
    assert not any(line.startswith(("| memory", "| bars exact", "| text")) for line in lines)
    assert any("12 minutes" in line for line in lines)


def test_rows_of_a_batch_are_as_tall_as_each_other() -> None:
    rows = [{"height": 240 + 80 * (i % 2), "width": int(w)} for i, w in enumerate(np.arange(10, 90, 10))]
    found = batches(rows, 3)
    assert sorted(i for batch in found for i in batch) == list(range(8))
    assert all(len({rows[i]["height"] for i in batch}) == 1 and len(batch) <= 3 for batch in found)


@torch.no_grad()
def test_the_text_abilities_of_a_decoder_without_pictures_are_measured() -> None:
    """The writer of texts repeats its cache; that of attention to pictures is empty then."""
    tokenizer = AlphaTexTokenizer()
    torch.manual_seed(0)
    text = AutoConfig.for_model(**text_config(len(tokenizer)))
    decoder = EncoderDecoderReader(config_like(tower_config(), text, positions=64)).eval().decoder
    writer = Writer(decoder, tokenizer, Options(max_new_tokens=6, note_window=4))
    ids = tokenizer.encode(ONE_BAR.format(3), add_special_tokens=False)
    assert len(writer.write([ids[:4], ids[:6]], grammar=True)) == 2
    place = next(i for i, token in enumerate(ids) if token in writer.frets)
    left, both = writer.fret_scores(ids, place)
    true = writer.frets.index(ids[place])
    whole = decoder(input_ids=torch.tensor([[tokenizer.bos_token_id, *ids[: place + 5]]])).logits[0].log_softmax(-1)
    wanted = sum(float(whole[place + k, token]) for k, token in enumerate(ids[place : place + 5]))
    assert left[true] == pytest.approx(float(whole[place, ids[place]]), abs=1e-4)
    assert both[true] == pytest.approx(wanted, abs=1e-4)
