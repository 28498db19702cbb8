"""What Museformer trains on, its figures while it trains, and the refusals of its command."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.configuration.configuration_museformer import NUM_MEASURES
from intermezzo.modeling.modeling_museformer import MuseformerForCausalLM
from intermezzo.processing.bar_midi_vocabulary import BAR_ID, EOS_ID, TEMPO, TIME_SIGNATURE
from intermezzo.processing.errors import InputError
from intermezzo.processing.processing_museformer import BarMidiProcessor
from intermezzo.processing.tokenization_bar_midi import bar_ids_of, decode
from intermezzo.train.museformer_data import (
    BarCollate,
    BarPieces,
    crop,
    evaluate_pieces,
    made_up_pieces,
    measured_loss,
    read_pieces,
)
from intermezzo.train.train_museformer import MuseformerArguments, build_model, main

from .test_tokenization_bar_midi import notes_of
from .tiny_museformer import make

torch.set_num_threads(1)


def write_rows(folder: Path, split: str, pieces: BarPieces) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "data").mkdir(parents=True, exist_ok=True)
    columns = {"tokens": [ids.tolist() for ids in pieces.ids]}
    columns |= {name: [row[name] for row in pieces.about] for name in ("piece_id", "source")}
    pq.write_table(pa.table(columns), folder / "data" / f"{split}-00000.parquet")


def test_chunks_come_back_as_they_were_written(tmp_path: Path) -> None:
    made = made_up_pieces(5)
    write_rows(tmp_path, "train", made)
    back = read_pieces(tmp_path, "train", crop_bars=8)
    assert [ids.tolist() for ids in back.ids] == [ids.tolist() for ids in made.ids]
    assert len(back) == 10 and len(made) == 5 and back.num_tokens == sum(map(len, made.ids))
    assert back[9]["piece_id"] == "made up/4" and back[9]["starts"].tolist() == made.starts[4].tolist()
    few = read_pieces(tmp_path, "train", limit=2)
    assert [row["piece_id"] for row in few.about] == ["made up/0", "made up/4"]  # from all over
    with pytest.raises(InputError, match=r"holds no test-\*\.parquet"):
        read_pieces(tmp_path, "test")
    with pytest.raises(InputError, match="must begin with a bar"):
        BarPieces().add([5, BAR_ID])
    write_rows(tmp_path / "none", "train", BarPieces())
    with pytest.raises(InputError, match="no rows of split"):
        read_pieces(tmp_path / "none", "train")


def test_rolls_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"codes": [b"0"]}), tmp_path / "data" / "train-00000.parquet")
    with pytest.raises(InputError, match="rolls, not tokens"):
        read_pieces(tmp_path, "train")


def test_rows_are_whole_bars_of_their_chunk_transposed_and_faster() -> None:
    pieces = made_up_pieces(3)
    collate = BarCollate(3, 6, transpose=4, tempo=0.2)
    np.random.seed(0)
    shifts, lengths, factors, firsts = set(), set(), set(), set()
    for _ in range(40):
        batch = collate([pieces[index] for index in range(3)])
        assert torch.equal(batch["labels"] == -100, batch["attention_mask"] == 0)
        for row in range(3):
            ids = batch["input_ids"][row][batch["attention_mask"][row].bool()].numpy()
            assert ids[0] == BAR_ID
            bars = int(bar_ids_of(ids)[-1]) + 1
            whole = pieces.ids[row].astype(np.int64)
            same_kind = [k for k in range(17 - bars) if len(_bars(whole, k, bars)) in (len(ids), len(ids) + 1)]
            found = False
            for first in same_kind:
                part = _bars(whole, first, bars)[: len(ids)]
                mine, theirs = notes_of(decode(ids)), notes_of(decode(part))
                pairs = list(zip(mine, theirs, strict=False))
                shift = {a[2] - b[2] for a, b in pairs}
                if len(mine) == len(theirs) and len(shift) == 1 and all(a[:2] == b[:2] for a, b in pairs):
                    found = True
                    shifts |= shift
                    firsts.add(first)
                    factors.add(round(decode(ids).tempos[0].qpm / decode(part).tempos[0].qpm, 2))
                    break
            assert found
            lengths.add(bars)
    assert shifts == set(range(-4, 5)) and lengths == {3, 4, 5, 6} and len(firsts) > 5
    assert min(factors) > 0.8 and max(factors) < 1.22 and len(factors) > 10


def _bars(ids: np.ndarray, first: int, count: int) -> np.ndarray:
    bars = bar_ids_of(ids)
    return ids[(bars >= first) & (bars < first + count)]


def test_rows_stay_within_their_words_and_end_where_the_piece_does() -> None:
    pieces = made_up_pieces(1)
    ids, starts = pieces[0]["ids"], pieces[0]["starts"]
    assert crop(ids, starts, 0, 16, 10_000).tolist() == ids.tolist() and ids[-1] == EOS_ID
    part = crop(ids, starts, 2, 10, int(starts[5] - starts[2]) + 1)
    assert part.tolist() == ids[starts[2] : starts[5]].tolist()
    assert len(crop(ids, starts, 0, 4, 5)) == 5  # a bar that is too long by itself
    plain = BarCollate(4, 4)
    assert plain([pieces[0]])["input_ids"][0].tolist() == ids[: starts[4]].tolist()
    assert torch.equal(plain([pieces[0]])["input_ids"], plain([pieces[0]])["input_ids"])


def test_notes_at_the_edge_are_not_moved_over_it() -> None:
    pieces = BarPieces()
    high = made_up_pieces(1).ids[0].astype(np.int64)
    from intermezzo.processing.tokenization_bar_midi import transpose

    top = max(n[2] for n in notes_of(decode(high)))
    pieces.add(transpose(high, 127 - top))
    collate = BarCollate(16, 16, transpose=6)
    np.random.seed(0)
    tops = {max(n[2] for n in notes_of(decode(collate([pieces[0]])["input_ids"][0]))) for _ in range(20)}
    assert max(tops) == 127 and min(tops) >= 121 and len(tops) > 4


def test_figures_are_means_over_all_words() -> None:
    model, pieces = make(), made_up_pieces(3, bars=4)
    collate = BarCollate(4, 4)
    told = evaluate_pieces(model, pieces, collate, batch_size=2)
    free = planned = words = nats = 0.0
    for index in range(3):
        batch = collate([pieces[index]])
        count = batch["input_ids"].shape[1] - 1
        with torch.no_grad():
            free += float(model(**batch).loss) * count
            out = model(**batch, plan=True)
        planned += float(out.loss) * count
        nats += float(out.summary_nats) * 4
        words += count
    assert told["loss"] == pytest.approx(free / words, rel=1e-4)
    assert told["perplexity"] == pytest.approx(math.exp(free / words), rel=1e-3)
    assert told["bar_loss"] == pytest.approx(free / 12, rel=1e-4)
    assert told["plan_loss"] == pytest.approx(planned / words, rel=1e-4) and told["plan_loss"] != told["loss"]
    assert told["nats_per_summary"] == pytest.approx(nats / 12, rel=1e-4) and told["summary_spread"] > 0
    full = evaluate_pieces(make(full_attention=True), pieces, collate)
    assert set(full) == {"loss", "perplexity", "bar_loss"}


def test_the_logged_loss_has_its_parts() -> None:
    model = make(kl_weight=0.1).train()
    batch = BarCollate(3, 3)([made_up_pieces(1)[0]])
    torch.manual_seed(0)
    loss, figures = measured_loss(model, batch)
    assert loss.requires_grad and set(figures) == {"token_loss", "nats_per_summary", "bag_loss"}
    assert float(loss.detach()) > float(figures["token_loss"]) and not figures["token_loss"].requires_grad


def test_the_plan_is_learned_to_be_followed() -> None:
    """Headers that nothing but the plan can tell: with it they cost far less than by chance."""
    torch.manual_seed(0)
    model = make(initializer_range=0.1, kl_weight=0.0, gather_bars=False).train()
    pieces, collate = BarPieces(), BarCollate(1, 1)
    for sign in range(8):
        for tempo in range(8):
            pieces.add([BAR_ID, TIME_SIGNATURE + 9 * sign, TEMPO + 20 * tempo])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch = collate([pieces[index] for index in range(64)])
    for _ in range(120):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    told = evaluate_pieces(model.eval(), pieces, collate, batch_size=64)
    assert told["loss"] == pytest.approx(math.log(8), abs=0.3) and told["plan_loss"] < 0.7 * told["loss"], told


@pytest.mark.parametrize("measured", [True, False])
def test_summaries_say_something_from_the_usual_start(measured: bool) -> None:
    """The words of a bar are told from its summary, under the noise of the training and with weights as they begin."""
    torch.manual_seed(0)
    size = NUM_MEASURES + 3 if measured else 6
    model = make(initializer_range=0.02, summary_size=size, measure_bars=measured, gather_bars=False).train()
    rows = made_up_pieces(8, bars=4)
    batch = BarCollate(4, 4)([rows[index] for index in range(8)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    bags = []
    for _ in range(80 if measured else 250):
        out = model(**batch)
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        bags.append(float(out.bag_loss.detach()))
    ids = batch["labels"][(batch["labels"] != -100) & (batch["labels"] != BAR_ID)]
    share = torch.unique(ids, return_counts=True)[1] / len(ids)
    without = -float((share * share.log()).sum())  # what the commonest words say at best
    assert sum(bags[-10:]) / 10 < without - 0.25
    summaries = model.eval().get_summary_tokens(batch["input_ids"], batch["attention_mask"])
    assert float(summaries.flatten(0, 1).std(0).mean()) > 0.3


def test_what_the_command_can_not_do_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--data FOLDER"):
        main(["--output_dir", str(tmp_path), "--max_steps", "1"])
    with pytest.raises(InputError, match=r"holds no train-\*\.parquet"):
        main(["--output_dir", str(tmp_path), "--max_steps", "1", "--data", str(tmp_path)])
    with pytest.raises(InputError, match="min_bars 5 and max_bars 4"):
        MuseformerArguments(min_bars=5, max_bars=4)
    with pytest.raises(InputError, match="plan_dropout is 2"):
        build_model(MuseformerArguments(preset="tiny", plan_dropout=2.0))
    with pytest.raises(InputError, match="no model is there"):
        build_model(MuseformerArguments(model=str(tmp_path / "absent")))
    make().save_pretrained(tmp_path / "m")
    model = build_model(MuseformerArguments(model=str(tmp_path / "m"), kl_weight=0.7))
    assert model.config.kl_weight == 0.7 and model.config.hidden_size == 32
    changed: dict[str, Any] = {"fine_bars": [1, 2], "summary_size": 29, "gradient_checkpointing": True}
    assert build_model(MuseformerArguments(preset="tiny", **changed)).config.fine_bars == (1, 2)


@pytest.mark.slow
def test_four_steps_of_the_command(tmp_path: Path) -> None:
    assert main(["--smoke", "--output_dir", str(tmp_path), "--cpu", "--no-progress"]) == 0
    model = MuseformerForCausalLM.from_pretrained(tmp_path / "final")
    processor = BarMidiProcessor.from_pretrained(tmp_path / "final")
    ids = model.write(2, grammar=processor.grammar, max_bar_tokens=12)
    processor.decode(ids[0], strict=True)
