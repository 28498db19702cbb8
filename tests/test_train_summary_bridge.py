"""SummaryBridge's packs, training and baselines, on made-up tunes of an untrained Museformer."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.configuration.configuration_summary_bridge import bridge_tiny
from intermezzo.modeling.modeling_summary_bridge import SummaryBridgeModel
from intermezzo.processing.bar_midi_vocabulary import BAR_ID
from intermezzo.processing.errors import InputError
from intermezzo.processing.processing_museformer import BarMidiProcessor
from intermezzo.processing.text_encoder import EncodedTexts
from intermezzo.train import train_summary_bridge
from intermezzo.train.bridge_baselines import SoftPrompt, SoftPromptSizes
from intermezzo.train.museformer_data import made_up_pieces
from intermezzo.train.summary_bridge_data import (
    ATTRIBUTE_NAMES,
    BridgeCollate,
    BridgeWindows,
    TextBlur,
    values_row,
    wanted_row,
    wishes_met,
)
from intermezzo.train.summary_bridge_evaluation import AttributeProbe, BridgeEvaluation, energy_distance
from intermezzo.train.summary_bridge_pack import PackSettings, choose_captions, cut_windows, pack, versions

from . import tiny_museformer

torch.set_num_threads(1)

SETTINGS = PackSettings(window_bars=(4, 8), copies=2, captions=2)


@dataclass
class Said:
    text: str
    language: str = "en"
    kind: str = "plain"
    image: str = ""
    stated: dict[str, Any] = field(default_factory=dict)
    sides: dict[str, int] = field(default_factory=dict)


def captions(values: Any, split: str, seed: int, name: str) -> list[Said]:
    """Two captions: one of the tempo, one, a Chinese one, of the register."""
    fast, high = values["tempo"] > 104, values["register"] > 63.38
    return [
        Said("fast" if fast else "slow", stated={"tempo": [3, 5] if fast else [0, 2]}),
        Said("高" if high else "低", "zh", "imagery", "star", sides={"register": 1 if high else -1}),
    ]


def encode(texts: Any) -> EncodedTexts:
    places = {"fast": 0, "slow": 1, "高": 2, "低": 3}
    rows = np.eye(6, dtype=np.float32)[[places[text] for text in texts]]
    embed = np.repeat(rows[:, None], 3, axis=1)
    mask = np.tile(np.array([[1, 1, 0]], dtype=np.int8), (len(rows), 1))
    return EncodedTexts(embed, rows, mask)


@functools.cache
def music() -> Any:
    return tiny_museformer.make()


def summarize(ids: np.ndarray) -> np.ndarray:
    return music().get_summary_tokens(torch.from_numpy(ids.astype(np.int64))[None])[0].numpy()


def make_pack(folder: Path, settings: PackSettings = SETTINGS, count: int = 4) -> dict[str, Any]:
    splits = {"train": count, "validation": 3, "test": 2}
    pieces = {name: made_up_pieces(size, seed, bars=10) for seed, (name, size) in enumerate(splits.items())}
    return pack(folder, pieces, summarize, encode, settings, {"text_encoder": "made up"}, BAR_ID, captions, False)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bridge") / "pack"
    make_pack(folder)
    return folder


# --- Packs ------------------------------------------------------------------------------------------------------------


def test_a_window_s_summaries_are_those_of_its_words(packed: Path) -> None:
    """The bars of a window are summed up alike, whether with the whole piece or alone."""
    data = BridgeWindows(packed, "train")
    assert len(data) == len(data.windows) and data.summary_size == 6 and data.text_size == 6
    for window in (0, 1, len(data) - 1):
        words = data.tokens_of(window)
        assert words[0] == BAR_ID and (words == BAR_ID).sum() == data.windows[window, 1]
        np.testing.assert_allclose(summarize(words), data.summaries_of(window), rtol=2e-3, atol=2e-3)


def test_windows_of_both_lengths_and_versions_are_there(packed: Path) -> None:
    data = BridgeWindows(packed, "train")
    assert sorted(set(data.windows[:, 1].tolist())) == [4, 8]
    assert len(data) == 4 * 2 * len(cut_windows(10, (4, 8)))
    held = BridgeWindows(packed, "validation")
    assert len(held) == 3 * len(cut_windows(10, (4, 8)))  # held-out pieces are there once


def test_captions_are_true_of_their_windows(packed: Path) -> None:
    for split in ("train", "test"):
        data = BridgeWindows(packed, split)
        for window in range(len(data)):
            for caption in range(data.captions[window], data.captions[window + 1]):
                met, asked = wishes_met(data.wanted[caption], data.values[window])
                assert asked.sum() == 1 and met.sum() == 1


def test_texts_come_back_out_of_the_table(packed: Path) -> None:
    data = BridgeWindows(packed, "train")
    lines = [json.loads(line) for line in (packed / "train" / "captions.jsonl").open(encoding="utf-8")]
    assert len(lines) == len(data.texts) and len(data.rows) <= 5 and len(data.pooled) <= 4
    for number in (0, 1, len(lines) - 1):
        wanted = encode([lines[number]["text"]])
        embed, pooled, mask = data.text(int(data.texts[number]))
        np.testing.assert_array_equal(pooled, wanted.pooled[0])
        np.testing.assert_array_equal(mask, wanted.mask[0])
        np.testing.assert_array_equal(embed, wanted.embed[0] * wanted.mask[0][:, None])


def test_a_pack_is_not_made_twice_and_not_mixed(packed: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in packed.rglob("*.npy")}
    make_pack(packed)
    assert {path: path.stat().st_mtime_ns for path in packed.rglob("*.npy")} == before
    with pytest.raises(InputError, match="captions"):
        make_pack(packed, replace(SETTINGS, captions=3))
    make_pack(tmp_path / "again")
    for path in before:
        twin = tmp_path / "again" / path.relative_to(packed)
        assert twin.read_bytes() == path.read_bytes(), path.name


def test_an_interrupted_pack_goes_on(packed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    make_pack(folder)
    about = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
    del about["splits"]["validation"]
    (folder / "pack.json").write_text(json.dumps(about), encoding="utf-8")
    (folder / "validation" / "values.npy").unlink()
    make_pack(folder)
    one, two = (BridgeWindows(place, "validation").values for place in (folder, packed))
    np.testing.assert_array_equal(one, two)


def test_what_can_not_be_spoken_of_is_named(tmp_path: Path) -> None:
    pieces = {"train": made_up_pieces(2, bars=8)}
    with pytest.raises(InputError, match="no windows; 2 were tried"):
        pack(
            tmp_path, pieces, summarize, encode, PackSettings((8,), copies=1), {}, BAR_ID, lambda *a: [], False
        )  # fmt: skip


def test_folders_that_hold_no_pack_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pack"):
        BridgeWindows(tmp_path, "train")
    (tmp_path / "pack.json").write_text('{"format": 99}', encoding="utf-8")
    with pytest.raises(InputError, match="99"):
        BridgeWindows(tmp_path, "train")


def test_windows_cover_a_piece() -> None:
    assert cut_windows(3, (16,)) == []
    assert cut_windows(10, (16,)) == [(0, 10)]
    assert cut_windows(32, (16,)) == [(0, 16), (8, 16), (16, 16)]
    assert cut_windows(20, (8, 16)) == [(0, 8), (4, 8), (8, 8), (12, 8), (0, 16)]


def test_versions_are_other_music_and_repeatable() -> None:
    ids = made_up_pieces(1, bars=8).ids[0]
    first, second = (list(versions(ids, 3, SETTINGS, 5)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert np.array_equal(first[0], ids) and not np.array_equal(first[1], ids)


def test_captions_are_chosen_from_all_kinds_and_languages() -> None:
    told = [Said(f"{language} {kind} {k}", language, kind) for language in ("en", "zh") for kind in "abc" for k in "12"]
    chosen = choose_captions(told, 6, seed=1)
    assert sorted((c.language, c.kind) for c in chosen) == [(a, b) for a in ("en", "zh") for b in "abc"]
    assert chosen == choose_captions(told, 6, seed=1) != choose_captions(told, 6, seed=2)
    assert len(choose_captions(told[:1], 6, seed=1)) == 1


@pytest.mark.parametrize("changes", [{"window_bars": (2,)}, {"window_bars": ()}, {"copies": 0}, {"tempo": 1.0}])
def test_pack_settings_are_checked(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        PackSettings(**changes)


# --- Wishes -----------------------------------------------------------------------------------------------------------


def test_wishes_are_the_classes_and_sides_of_the_caption() -> None:
    from intermezzo.processing.music_attributes import ATTRIBUTES

    edges = ATTRIBUTES["density"].edges
    row = wanted_row({"density": [0, 0], "bpm": 100, "mode": [1, 1], "programs": ["piano"]}, {"register": -1})
    told = dict(zip(ATTRIBUTE_NAMES, row.tolist(), strict=True))
    assert told["density"] == [-np.inf, pytest.approx(edges[0])]
    assert told["tempo"] == [pytest.approx(95), pytest.approx(105)]
    assert told["mode"] == [-np.inf, 0] and told["register"][1] == pytest.approx(63.38)
    assert np.isnan(row[ATTRIBUTE_NAMES.index("leaps")]).all()
    values = values_row({"density": edges[0] - 0.1, "tempo": 120.0, "mode": "minor", "register": None, "leaps": 0.2})
    met, asked = wishes_met(row, values)
    assert {name for name, here in zip(ATTRIBUTE_NAMES, asked, strict=True) if here} == {"density", "tempo", "mode"}
    assert {name for name, here in zip(ATTRIBUTE_NAMES, met, strict=True) if here} == {"density", "mode"}


def test_energy_distance_tells_distributions_apart() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(400, 3), torch.randn(400, 3)
    assert abs(energy_distance(a, b)) < 0.05 < 0.5 < energy_distance(a, b + 1.5)


# --- Training ---------------------------------------------------------------------------------------------------------


def test_batches_are_what_the_model_takes(packed: Path) -> None:
    data = BridgeWindows(packed, "train")
    rows = [data[k] for k in range(len(data))]
    batch = BridgeCollate(data, with_tokens=True)(rows)
    lengths = [int(data.windows[row["window"], 1]) for row in rows]
    assert batch["bar_mask"].sum(1).tolist() == lengths
    assert (batch["labels"] == -100).sum() == (batch["attention_mask"] == 0).sum()
    np.random.seed(0)
    drawn = {tuple(BridgeCollate(data)(rows[:1])["text_pooled"][0].tolist()) for _ in range(30)}
    assert len(drawn) == 2  # both captions of the window come up
    model = SummaryBridgeModel(bridge_tiny(summary_size=6, text_size=6))
    assert model(**{k: v for k, v in batch.items() if "labels" not in k}).loss.isfinite()


def test_blurred_texts_move_to_the_mean_and_half_of_them_stay(packed: Path) -> None:
    data = BridgeWindows(packed, "train")
    rows = [{"window": int(data.chosen[k % len(data)])} for k in range(400)]
    sharp = BridgeCollate(data, draw=False)(rows)
    np.random.seed(0)
    blurred = BridgeCollate(data, draw=False, blur=TextBlur(data, 1.0))(rows)
    moved = (blurred["text_pooled"] - sharp["text_pooled"]).norm(dim=1)
    assert 0.35 < (moved == 0).float().mean() < 0.65
    mean = torch.from_numpy(np.asarray(data.pooled, dtype=np.float32).mean(0))
    spread = np.asarray(data.pooled, dtype=np.float32).std(0)
    far = (blurred["text_pooled"] - mean).norm(dim=1)
    assert far.max() < 3 * max(float((sharp["text_pooled"] - mean).norm(dim=1).max()), float(np.linalg.norm(spread)))
    lost = (blurred["text_mask"].sum(1) == 0) & (sharp["text_mask"].sum(1) > 0)
    assert 0.03 < lost.float().mean() < 0.2 and not blurred["text_embed"][lost].any()
    assert torch.equal(blurred["summary_tokens"], sharp["summary_tokens"])
    np.random.seed(0)
    again = BridgeCollate(data, draw=False, blur=TextBlur(data, 1.0))(rows)
    assert torch.equal(again["text_pooled"], blurred["text_pooled"])


def test_the_probe_finds_what_summaries_say(packed: Path) -> None:
    data = BridgeWindows(packed, "train")
    model = SummaryBridgeModel(bridge_tiny(summary_size=6, text_size=6)).eval()
    train_summary_bridge.fit_statistics(model, data, 1000)
    figures = BridgeEvaluation(BridgeWindows(packed, "validation"), AttributeProbe(model.statistics, data))(model)
    assert {"loss", "loss_at_text", "energy", "energy_floor", "asked", "asked_real", "asked_shuffled"} <= set(figures)
    assert all(np.isfinite(value) for value in figures.values())
    own = BridgeEvaluation(data, AttributeProbe(model.statistics, data))(model)
    assert own["asked_real"] > 0.7 and own["asked_real"] > own["asked_shuffled"] + 0.05, own


@pytest.mark.parametrize("method", ["bridge", "soft_prompt", "regression"])
def test_smoke_trains_and_the_result_loads(tmp_path: Path, method: str) -> None:
    assert train_summary_bridge.main(
        ["--smoke", "--output_dir", str(tmp_path), "--method", method, "--cpu", "--tracker", "none", "--no-progress"]
    ) == 0  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").open(encoding="utf-8")]
    assert [line["kind"] for line in lines].count("evaluation") == 1
    if method == "soft_prompt":
        assert {path.name for path in (tmp_path / "final").iterdir()} == {"soft_prompt.json", "soft_prompt.safetensors"}
        assert any("loss_shuffled" in line for line in lines)
        return
    model = SummaryBridgeModel.from_pretrained(tmp_path / "final")
    assert model.config.single_step == (method == "regression")
    assert not torch.equal(model.statistics.whitening, torch.eye(model.config.summary_size))
    assert model.sample_summary_tokens(num_bars=4).isfinite().all()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--data", "pack", "--text_blur", "1.5"], "text_blur is 1.5"),
        (["--max_steps", "1"], "--data"),
        (["--stage", "pack", "--data", "x"], "--music"),
        (["--stage", "pack", "--data", "x", "--music", "y"], "--museformer"),
        (["--data", "nowhere"], "no pack"),
        (["--method", "prompt", "--data", "x"], "soft_prompt"),
    ],
)
def test_flags_that_can_not_work_are_told_in_one_line(flags: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        train_summary_bridge.main(flags)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_other_sizes_is_refused(packed: Path, tmp_path: Path) -> None:
    SummaryBridgeModel(bridge_tiny(summary_size=5, text_size=6)).save_pretrained(tmp_path)
    args = train_summary_bridge.SummaryBridgeArguments(data=str(packed), model=str(tmp_path))
    with pytest.raises(InputError, match=r"summaries of 5 .* the pack has 6"):
        train_summary_bridge.build_model(args, BridgeWindows(packed, "train"))
    args = replace(args, model="", prediction_type="flow")
    with pytest.raises(InputError, match="bridge_noise must be 0"):
        train_summary_bridge.build_model(args, BridgeWindows(packed, "train"))


# --- Soft prompt ------------------------------------------------------------------------------------------------------


def prompt_of(packed: Path) -> tuple[SoftPrompt, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = SoftPrompt(music(), SoftPromptSizes(6, music().config.hidden_size, num_prompts=3, hidden_size=16))
    torch.nn.init.normal_(model.out.weight, std=0.5)
    data = BridgeWindows(packed, "train")
    return model.eval(), BridgeCollate(data, draw=False, with_tokens=True)(
        [{"window": 0, "caption": int(data.captions[0])}, {"window": 5, "caption": int(data.captions[5]) + 1}]
    )


def test_the_music_hears_the_prompt_and_only_the_prompt_learns(packed: Path) -> None:
    model, batch = prompt_of(packed)
    loss = model(**batch).loss
    loss.backward()
    loss = loss.detach()
    assert all(p.grad is None for p in music().parameters())
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
    turned = {name: value.roll(1, 0) if name == "text_pooled" else value for name, value in batch.items()}
    with torch.no_grad():
        assert abs(float(model(**turned).loss) - float(loss)) > 1e-4
    assert not music().get_input_embeddings()._forward_hooks


def test_a_row_s_prompt_is_its_own(packed: Path) -> None:
    model, batch = prompt_of(packed)
    with torch.no_grad():
        both = model(**batch).logits
        alone = model(**{name: value[:1] for name, value in batch.items()}).logits
    count = 3 + int(batch["attention_mask"][0].sum())
    torch.testing.assert_close(both[:1, :count], alone[:, :count], rtol=1e-4, atol=1e-4)


def test_prompted_music_is_written_by_the_grammar(packed: Path) -> None:
    model, batch = prompt_of(packed)
    text = {name: value[:1] for name, value in batch.items() if name.startswith("text_")}
    grammar = BarMidiProcessor().grammar
    draws = [
        model.write(text, 3, 2, grammar, max_bar_tokens=24, generator=torch.Generator().manual_seed(4))
        for _ in range(2)
    ]  # fmt: skip
    assert torch.equal(*draws)
    for row in draws[0]:
        assert int((row == BAR_ID).sum()) == 3
        BarMidiProcessor().decode(row, strict=True)


def test_a_prompt_is_saved_without_the_music(packed: Path, tmp_path: Path) -> None:
    model, batch = prompt_of(packed)
    model.save_pretrained(tmp_path)
    again = SoftPrompt.from_pretrained(tmp_path, music())
    text = [batch[name] for name in ("text_embed", "text_pooled", "text_mask")]
    with torch.no_grad():
        assert torch.equal(model.prompts(*text), again.prompts(*text))
    assert (tmp_path / "soft_prompt.safetensors").stat().st_size < 100_000
    with pytest.raises(InputError, match="no soft prompt"):
        SoftPrompt.from_pretrained(tmp_path / "nowhere", music())
    with pytest.raises(InputError, match="16 wide"):
        SoftPrompt(music(), SoftPromptSizes(6, 16))
