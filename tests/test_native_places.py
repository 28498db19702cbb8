"""Text that says where its beats are drawn: tokens, positions, decoding, drawing, lessons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch

from intermezzo.modeling.layers import rotary_angles
from intermezzo.modeling.modeling_native_vlm import NativeVLMForCausalLM
from intermezzo.modeling.native_positions import placed_angles, placed_positions
from intermezzo.processing.alphatex_grammar import bars_close, read_alphatex
from intermezzo.processing.errors import InputError
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.native_decoding import NativeLogitsProcessor
from intermezzo.processing.native_places import beat_starts, column_bounds, drawing_prompt, with_places
from intermezzo.processing.native_vocabulary import NativeVocabulary
from intermezzo.processing.processing_native_vlm import NativeVLMProcessor
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer
from intermezzo.train.native_vlm_data import Sequences

from .tiny_lessons import lessons_folder
from .tiny_native_vlm import PAD, grid, native_config, sequences

torch.set_num_threads(1)

TEXTS = (
    "\\staff {tabs}\n3.3.4 5.3.4 r.4 0.6.4 |\n",
    "\\staff {score tabs}\n\\ts (2 4) \\ks eb \\tempo 168 "
    "(18.1{h} 2.2).8{tu (3 2) tt} 9.1{h}.8{tu (3 2)} 1.1.8{tu (3 2)} r.4 |\n",
    "\\staff {tabs}\n\\ro \\ae (1 2) "
    "(1.1 2.2 3.3).2{d} 3.4{be (bend 0 0 60 4)}.4 |\n\\rc 2 3.3.8{gr} 5.3{sl}.2 7.3.2 |\n",
    '\\voiceMode barWise\n\\staff {tabs}\n\\voice 3.1.2 5.1.2 \\voice 0.6.1{txt "12.3 ("} |\n',
)


@pytest.fixture(scope="module")
def tokenizer() -> AlphaTexTokenizer:
    return AlphaTexTokenizer()


def vocabulary(tokenizer: AlphaTexTokenizer) -> NativeVocabulary:
    return NativeVocabulary(len(tokenizer), 9, 6, 8)


# --- tokens -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_each_beat_begins_where_it_is_written(tokenizer: AlphaTexTokenizer, text: str) -> None:
    ids, starts = beat_starts(tokenizer, text)
    assert ids == tokenizer.encode(text, add_special_tokens=False)
    spans = [beat.span for *_, beat in read_alphatex(text).beats()]
    assert len(starts) == len(spans) and sorted(set(starts)) == starts
    for start, (begin, _), after in zip(starts, spans, [*starts[1:], len(ids)], strict=True):
        said = tokenizer.decode(ids[start:after]).lstrip()
        assert text[begin:].startswith(said[: len(said.rstrip())].split(" |")[0].split("\n")[0].split(" \\")[0])


def test_columns_come_before_the_beats_and_can_be_left_out(tokenizer: AlphaTexTokenizer) -> None:
    v = vocabulary(tokenizer)
    for text in TEXTS:
        ids, starts = beat_starts(tokenizer, text)
        columns = [-1 if i == 1 else i % 8 for i in range(len(starts))]
        found, said = with_places(ids, starts, columns, v)
        assert [token for token, place in zip(found, said, strict=True) if not place] == ids
        assert [t - v.first_columns for t, place in zip(found, said, strict=True) if place] == [
            c for c in columns if c >= 0
        ]
        assert all(v.is_place(t) == place for t, place in zip(found, said, strict=True))
        assert v.spans(found) == []
    with pytest.raises(InputError, match="4 beats, but 1 columns"):
        with_places(*beat_starts(tokenizer, TEXTS[0]), [0], v)
    with pytest.raises(InputError, match="column 8 lies outside"):
        v.place(8)


# --- positions --------------------------------------------------------------------------------------------------------


def test_positions_by_hand() -> None:
    config = native_config(rope="placed")
    v = config.vocabulary
    ids = [PAD, 9, *v.write_grid(grid(2, 3)), 10, v.place(2), 11, 12, v.place(0), 13, *v.write_grid(grid(1, 1)), 14]
    mask = torch.tensor([[0] + [1] * (len(ids) - 1)])
    found = placed_positions(torch.tensor([ids]), v, mask)[0].T.tolist()
    nowhere = lambda time: [time, -1, -1]  # noqa: E731
    high, below = v.max_rows, v.max_rows + 1
    codes = [[4, high - 2 + row, column] for column in range(3) for row in range(3)]
    text = [nowhere(5), [6, below, 2], [7, below, 2], [8, below, 2], [9, below, 0], [10, below, 0]]
    one = [[14, high - 1, 0], [14, high, 0]]
    wanted = [nowhere(0), nowhere(0), *(nowhere(t) for t in (1, 2, 3)), *codes, nowhere(4), *text]
    assert found == [*wanted, *(nowhere(t) for t in (11, 12, 13)), *one, nowhere(14), nowhere(15)]


def test_places_end_with_their_document() -> None:
    v = native_config().vocabulary
    one = [9, v.place(1), 10, 11]
    packed = torch.tensor([[*one, 9, 10, *one]])
    documents = torch.tensor([[1, 1, 1, 1, 2, 2, 3, 3, 3, 3]])
    found = placed_positions(packed, v, None, documents)
    alone = placed_positions(torch.tensor([one]), v)
    assert torch.equal(found[..., :4], alone) and torch.equal(found[..., 6:], alone)
    assert found[0, :, 4:6].tolist() == [[0, 1], [-1, -1], [-1, -1]]


def test_broken_pictures_still_have_positions() -> None:
    config = native_config()
    torch.manual_seed(0)
    ids = torch.randint(config.vocab_size, (50, 40))
    assert (placed_positions(ids, config.vocabulary) >= -50).all()
    assert placed_positions(ids[:, :1], config.vocabulary).shape == (50, 3, 1)


def test_text_without_a_place_turns_as_ever_and_neighbours_in_the_plane_are_told_apart() -> None:
    time = torch.arange(7)[None]
    nowhere = torch.full_like(time, -1)
    plain = placed_angles(torch.stack([time, nowhere, nowhere], 1), 12, 100.0)
    torch.testing.assert_close(plain, rotary_angles(time, 12, 100.0))
    here = torch.tensor([[[3, 3], [2, 2], [4, 5]]])
    cos, _ = placed_angles(here, 12, 100.0)
    changed = (cos[0, 0] - cos[0, 1]).abs() > 1e-3
    assert changed.tolist() == [False, False, True, False, False, True] * 2
    assert float(cos[0, 1, 2]) == pytest.approx(np.cos(5.0), abs=1e-6)  # one radian a column


def test_what_is_said_at_a_column_depends_on_it() -> None:
    torch.manual_seed(0)
    model = NativeVLMForCausalLM(native_config(rope="placed", query_gain=True)).eval()
    v = model.config.vocabulary
    picture = v.write_grid(grid(2, 3))
    at = torch.tensor([[9, *picture, v.place(0), 11, 12]])
    logits = model(at).logits[0, -1]
    positions = model.positions(at)
    positions[0, 2, -3:] = 2
    moved = model(at, position_ids=positions).logits[0, -1]
    assert (logits - moved).abs().max() > 1e-6


# --- decoding ---------------------------------------------------------------------------------------------------------


def test_a_random_model_says_where_each_beat_is(tokenizer: AlphaTexTokenizer) -> None:
    v = vocabulary(tokenizer)
    limit, end = 260, tokenizer.eos_token_id
    prompt = tokenizer.encode("<|bos|><|user|>play<|end|><|assistant|>", add_special_tokens=False)
    rule = NativeLogitsProcessor(v, tokenizer, max_length=limit, want="text", places=True)
    draw = torch.Generator().manual_seed(3)
    for _ in range(3):
        ids = torch.tensor([prompt])
        while ids.shape[1] < limit and int(ids[0, -1]) != end:
            scores = rule(ids, 3 * torch.randn(1, v.size, generator=draw))
            assert scores.isfinite().any()
            ids = torch.cat([ids, torch.multinomial(scores.softmax(-1), 1, generator=draw)], dim=1)
        written = ids[0, len(prompt) : -1].tolist()
        assert int(ids[0, -1]) == end
        text = tokenizer.decode([token for token in written if token < v.text_size])
        score = read_alphatex(text)
        assert bars_close(score)
        spans = [beat.span[0] for *_, beat in score.beats()]
        places = [i for i, token in enumerate(written) if v.is_place(token)]
        before = [tokenizer.decode([t for t in written[:i] if t < v.text_size]) for i in places]
        assert [len(part) + len(text[len(part) :]) - len(text[len(part) :].lstrip()) for part in before] == spans


def test_drawing_begins_with_the_places_of_all_beats(tokenizer: AlphaTexTokenizer) -> None:
    torch.manual_seed(0)
    config = native_config(rope="placed", text_vocab_size=len(tokenizer), image_token_id=6, max_position_embeddings=400)
    model = NativeVLMForCausalLM(config).eval()
    processor = NativeVLMProcessor.for_model(config, ScoreImageProcessor(), tokenizer)
    assert processor.places
    for text in TEXTS:
        found = drawing_prompt(model, processor, text)[0].tolist()
        v = processor.vocabulary
        plain = tokenizer.encode(processor.draw_prompt(text), add_special_tokens=False)
        assert [token for token in found if token < v.text_size] == plain
        starts = beat_starts(tokenizer, text)[1]
        assert sum(map(v.is_place, found)) == len(starts) == len(found) - len(plain)
        assert "".join(part for part in processor.parts(found) if isinstance(part, str)) == text
    with pytest.raises(InputError, match="window is 400"):
        drawing_prompt(model, processor, TEXTS[0] + "3.3.4 5.3.4 r.4 0.6.4 |\n" * 40)


def untrained(tokenizer: AlphaTexTokenizer, **changes: Any) -> tuple[NativeVLMForCausalLM, NativeVLMProcessor]:
    torch.manual_seed(0)
    options = {"rope": "placed", "max_columns": 20, "max_rows": 15, "max_position_embeddings": 400, **changes}
    config = native_config(text_vocab_size=len(tokenizer), **options)
    return NativeVLMForCausalLM(config).eval(), NativeVLMProcessor.for_model(config, ScoreImageProcessor(), tokenizer)


def test_beats_go_from_left_to_right_with_room_for_those_that_follow(tokenizer: AlphaTexTokenizer) -> None:
    bars = "\\voice 3.3.4 5.3.4 r.2 \\voice 0.6.2 1.6.2 |\n"
    text = "\\voiceMode barWise\n\\staff {tabs}\n" + 2 * bars
    bounds = column_bounds(text, 9)
    assert [last for _, last in bounds] == [3, 4, 5, 4, 5, 6, 7, 8, 7, 8]
    assert [left for left, _ in bounds] == [
        (), (0,), (1,), (), (3,), (0, 1, 2, 3, 4), (5,), (6,), (0, 1, 2, 3, 4), (8,)
    ]  # fmt: skip
    assert column_bounds(text, 6)[-1][1] == 5
    with pytest.raises(InputError, match="more beats than the 5 columns"):
        column_bounds(text, 5)
    crowded = "\\staff {tabs}\n\\ts (4 4) " + "3.3.16 " * 16 + "|\n5.3.2 7.3.2 |\n"
    for columns in (20, 18):  # as many as the second text has beats
        model, processor = untrained(tokenizer, max_columns=columns)
        for one in (text, crowded):
            said = processor.vocabulary.places_at_the_end(drawing_prompt(model, processor, one)[0].tolist())
            bounds = column_bounds(one, columns)
            assert all(column > said[k] for (left, _), column in zip(bounds, said, strict=True) for k in left)
            assert all(column <= last for (_, last), column in zip(bounds, said, strict=True))


def test_a_drawing_is_as_wide_as_its_places_and_has_room(tokenizer: AlphaTexTokenizer) -> None:
    model, processor = untrained(tokenizer)
    v = processor.vocabulary
    for column in (3, 12, 19):
        prompt = torch.tensor([[*v.write_grid(grid(1, 20)), 9, v.place(column), 11, v.place(1), 12]])
        (codes,) = model.generate_images(prompt, output_type="codes", rows=1)
        assert codes.shape[1] > column
    two = torch.tensor([[9, v.place(2), 12], [9, v.place(17), 12]])
    narrow, wide = model.generate_images(two, output_type="codes", rows=1)
    assert wide.shape[1] > 17 and narrow.shape[1] > 2
    text = "\\staff {tabs}\n" + "3.3.8 5.3.8 7.3.8 8.3.8 3.3.8 5.3.8 7.3.8 8.3.8 |\n"
    for rope in ("placed", "mixed"):
        model, processor = untrained(tokenizer, rope=rope, max_position_embeddings=80)
        with pytest.raises(InputError, match=r"its picture takes \d+ tokens .* window of 80; give fewer"):
            processor.draw(model, text)


# --- lessons ----------------------------------------------------------------------------------------------------------


def test_lessons_know_where_their_beats_are(tmp_path: Path, tokenizer: AlphaTexTokenizer) -> None:
    folder = lessons_folder(tmp_path)
    rows = [row for file in sorted(folder.glob("data/train-*")) for row in parquet.read_table(file).to_pylist()]
    v = NativeVocabulary(len(tokenizer), 16, 30, 128)
    write, plain = (Sequences(tokenizer, v, places=places) for places in (True, False))
    seen = 0
    for row in rows:
        for part in row["parts"]:
            part["codes"] = np.asarray(part["codes"])
        ids, learnt = write(row)
        bare, before = plain(row)
        if row["lesson"] not in ("read", "draw"):
            assert ids.tolist() == bare.tolist() and learnt.tolist() == before.tolist()
            continue
        seen += 1
        text = next(part for part in row["parts"] if part["kind"] == "text")
        width = next(part["columns"] for part in row["parts"] if part["kind"] == "picture")
        beats = [beat for *_, beat in read_alphatex(text["text"]).beats()]
        places = text["places"]
        assert len(places) == len(beats) and places == sorted(places) and places[0] >= 0 and places[-1] < width
        assert len(set(places)) == len(places)  # quarters are drawn 24 px apart
        assert len(ids) == len(bare) + len(beats)
        assert learnt.sum() == before.sum() + len(beats)  # in the question too
    assert seen == 16
    assert sequences(native_config()).shape[0] == 2
