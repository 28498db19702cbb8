"""Vocabulary, grids and grammar: whatever a model says, pictures are whole and alphaTex parses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.modeling.native_positions import read_spans
from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.errors import InputError
from intermezzo.processing.native_decoding import NativeLogitsProcessor
from intermezzo.processing.native_grids import GridLogitsProcessor, PictureLogitsProcessor
from intermezzo.processing.native_vocabulary import NativeVocabulary
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

torch.set_num_threads(1)

SCANS = pytest.mark.parametrize("scan", ["columns", "rows"])


def vocabulary(scan: str = "columns", text: int = 24, **changes: Any) -> NativeVocabulary:
    return NativeVocabulary(**{"text_size": text, "codes": 9, "max_rows": 4, "max_columns": 5, "scan": scan, **changes})


def random_writing(
    rule: Any, size: int, prompt: list[int], stop: int, limit: int, seed: int, rows: int = 4, favour: int = 0
) -> list:
    """What a model that knows nothing writes under a rule, but for a liking for one token: rows of new tokens."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.tensor([prompt] * rows)
    done = torch.zeros(rows, dtype=torch.bool)
    while ids.shape[1] < limit and not done.all():
        scores = 3 * torch.randn(rows, size, generator=draw)
        scores[:, favour] += 8
        scores = rule(ids, scores)
        assert scores.isfinite().any(1).all()
        new = torch.multinomial(scores.softmax(-1), 1, generator=draw)[:, 0]
        new = torch.where(done, 0, new)
        done |= new == stop
        ids = torch.cat([ids, new[:, None]], dim=1)
    return [row[len(prompt) :] for row in ids.tolist()]


# --- vocabulary -------------------------------------------------------------------------------------------------------


@SCANS
def test_ids_are_apart_and_have_no_holes(scan: str) -> None:
    v = vocabulary(scan)
    ids = [v.boi, v.eoi, v.line, *range(v.first_rows, v.first_columns), *range(v.first_columns, v.first_code)]
    assert sorted([*ids, *range(v.first_code, v.size)]) == list(range(24, v.size))


@SCANS
def test_every_size_of_picture_comes_back(scan: str) -> None:
    v = vocabulary(scan)
    draw = np.random.default_rng(0)
    for rows in range(1, 5):
        for columns in range(1, 6):
            codes = draw.integers(0, 9, (rows, columns))
            ids = v.write_grid(codes)
            assert len(ids) == v.span(rows, columns)
            assert np.array_equal(v.read_grid(ids), codes)
            spans = read_spans(torch.tensor([ids]), v)
            assert int(spans.inside.sum()) == len(ids) - 4 and int(spans.closes.sum()) == 1


def test_columns_run_from_top_to_bottom() -> None:
    codes = np.array([[1, 2, 3], [4, 5, 6]])
    c, r = vocabulary("columns"), vocabulary("rows")
    assert [i - c.first_code for i in c.write_grid(codes)[3:-1] if i != c.line] == [1, 4, 2, 5, 3, 6]
    assert [i - r.first_code for i in r.write_grid(codes)[3:-1] if i != r.line] == [1, 2, 3, 4, 5, 6]


@SCANS
def test_a_broken_picture_is_refused_wherever_it_breaks(scan: str) -> None:
    v = vocabulary(scan)
    ids = v.write_grid(np.arange(6).reshape(2, 3))
    for place in range(len(ids)):
        with pytest.raises(InputError):
            v.read_grid(ids[:place])
        with pytest.raises(InputError):
            v.read_grid([*ids[:place], 3, *ids[place + 1 :]])  # text inside
        with pytest.raises(InputError):
            v.read_grid([*ids[:place], *ids[place + 1 :]])
        with pytest.raises(InputError):
            v.spans([5, *ids[:place], 6]) if place else v.spans([5, *ids[1:]])
    assert v.spans([5, *ids, 6, *ids]) == [(1, 1 + len(ids)), (2 + len(ids), 2 + 2 * len(ids))]


def test_wrong_codes_and_sizes_are_told() -> None:
    v = vocabulary()
    for codes, message in (
        (np.full((1, 1), 9), "code 9 lies outside the codebook of 9"),
        (np.full((1, 1), -1), "code -1"),
        (np.zeros((5, 1), int), "5 x 1 patches"),
        (np.zeros(3, int), "shape"),
    ):
        with pytest.raises(InputError, match=message):
            v.write_grid(codes)


# --- pictures ---------------------------------------------------------------------------------------------------------


@SCANS
@pytest.mark.parametrize("limit", [9, 17, 60])
def test_a_random_model_writes_whole_pictures_only(scan: str, limit: int) -> None:
    v = vocabulary(scan)
    rule = PictureLogitsProcessor(v, 3, 0, max_length=limit)
    sizes = set()
    for seed in range(15):
        for row in random_writing(rule, v.size, [1, 4, 5], v.eoi, limit, seed):
            codes = v.read_grid(row[: row.index(v.eoi) + 1])
            assert set(row[row.index(v.eoi) + 1 :]) <= {0, v.eoi}
            sizes.add(codes.shape)
    assert len(sizes) > (1 if limit > 9 else 0)


@SCANS
def test_the_size_can_be_given(scan: str) -> None:
    v = vocabulary(scan)
    for rows, columns in ((3, None), (None, 2), (4, 5)):
        rule = PictureLogitsProcessor(v, 1, 0, max_length=60, rows=rows, columns=columns)
        for row in random_writing(rule, v.size, [1], v.eoi, 60, 1):
            shape = v.read_grid(row[: row.index(v.eoi) + 1]).shape
            assert rows in (None, shape[0]) and columns in (None, shape[1])
    with pytest.raises(InputError, match="room"):
        PictureLogitsProcessor(v, 10, 0, max_length=15, rows=4, columns=5)
    with pytest.raises(InputError, match="9 x 1"):
        GridLogitsProcessor(v, rows=9)


@SCANS
def test_a_picture_is_as_wide_as_it_has_to_be(scan: str) -> None:
    v = vocabulary(scan)
    seen = set()
    for seed in range(10):
        rule = PictureLogitsProcessor(v, 1, 0, (4, 2), max_length=22)
        for row, written in enumerate(random_writing(rule, v.size, [1], v.eoi, 22, seed)):
            seen.add((row < 2, v.read_grid(written[: written.index(v.eoi) + 1]).shape[1]))  # two beams each
    assert seen <= {(True, 4), (True, 5), *((False, width) for width in (2, 3, 4, 5))} and len(seen) > 3
    with pytest.raises(InputError, match=r"needs 1[0-9] tokens, but after the prompt there is room for 11"):
        PictureLogitsProcessor(v, 1, 0, (4,), max_length=12, rows=2)


@SCANS
def test_pictures_that_a_model_begins_by_itself_are_whole(scan: str) -> None:
    v = vocabulary(scan)
    rule = GridLogitsProcessor(v, max_length=80)
    begun = 0
    for seed in range(10):
        for row in random_writing(rule, v.size, [1], stop=-1, limit=80, seed=seed):
            begun += len(v.spans(row))
    assert begun > 20


# --- with text --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> AlphaTexTokenizer:
    return AlphaTexTokenizer()


@pytest.mark.parametrize("want", ["any", "picture", "text"])
def test_a_random_model_writes_grids_and_alphatex_only(tokenizer: AlphaTexTokenizer, want: str) -> None:
    v = vocabulary(text=len(tokenizer), max_columns=3)
    limit, end = 150, tokenizer.eos_token_id
    prompt = tokenizer.encode("<|bos|><|user|>play<|end|><|assistant|>", add_special_tokens=False)
    rule = NativeLogitsProcessor(v, tokenizer, max_length=limit, want=want)
    texts = pictures = 0
    for seed in range(2):
        for row in random_writing(rule, v.size, prompt, end, limit, seed, 3, favour=v.boi):
            assert end in row
            row = row[: row.index(end)]
            spans = v.spans(row)
            pictures += len(spans)
            last = spans[-1][1] if spans else 0
            assert all(b[0] == a[1] for a, b in zip([(0, 0), *spans], spans, strict=False))  # nothing in between
            if text := tokenizer.decode(row[last:]):
                assert read_alphatex(text).tracks
                texts += 1
    assert pictures == 6 if want == "picture" else bool(pictures) == (want == "any")
    assert bool(texts) == (want != "picture")


@SCANS
def test_an_unfinished_picture_in_a_prompt_is_told_or_written_on(scan: str, tokenizer: AlphaTexTokenizer) -> None:
    v = vocabulary(scan, text=len(tokenizer))
    whole = v.write_grid(np.arange(6).reshape(2, 3))
    for rule in (GridLogitsProcessor(v), NativeLogitsProcessor(v, tokenizer)):
        for broken in ([*whole[:6], 2, 5], [*whole[:2], 5], [whole[0], *whole[2:5]], [*whole[:-1], whole[4]]):
            for before in ([1, 4], [1, 4, *whole, 9]):  # a rule may be used again
                with pytest.raises(InputError, match=f"begins at token {len(before)} is unfinished or broken"):
                    rule(torch.tensor([[*before, *broken]]), torch.zeros(1, v.size))
        for end in range(1, len(whole)):
            scores = rule(torch.tensor([[1, 4, *whole[:end]]]), torch.zeros(1, v.size))
            assert scores[0, whole[end]] == 0


def test_no_room_for_a_picture_is_told(tokenizer: AlphaTexTokenizer) -> None:
    v = vocabulary(text=len(tokenizer))
    rule = NativeLogitsProcessor(v, tokenizer, max_length=8, want="picture")
    prompt = torch.tensor([tokenizer.encode("<|bos|><|user|><|end|><|assistant|>", add_special_tokens=False)])
    with pytest.raises(InputError, match="does not fit behind a prompt of 4 tokens"):
        rule(prompt, torch.zeros(1, v.size))
    with pytest.raises(InputError, match="'text', 'picture' or 'any'"):
        NativeLogitsProcessor(v, tokenizer, want="sound")
    with pytest.raises(InputError, match="1024 tokens"):
        NativeLogitsProcessor(vocabulary(), tokenizer)


def test_beats_that_are_read_stand_from_left_to_right_inside_of_the_picture(tokenizer: AlphaTexTokenizer) -> None:
    v = vocabulary(text=len(tokenizer), max_columns=12)
    rule = NativeLogitsProcessor(v, tokenizer, places=True, want="text", max_length=400)
    end, assistant = (tokenizer.convert_tokens_to_ids(name) for name in ("<|end|>", "<|assistant|>"))
    prompt = [*v.write_grid(np.zeros((2, 7), dtype=np.int64)), end, assistant]
    favour = v.place(3)  # once it is there, it would say it for ever
    counts = []
    for row in random_writing(rule, v.size, prompt, end, 400, seed=2, favour=favour):
        said = [token - v.first_columns for token in row if v.is_place(token)]
        assert said == sorted(said) and max(said, default=0) < 7
        counts.append(len(said))
    assert max(counts) > 3
    for word in ("\\voice", "\\staff {tabs}"):
        ids = tokenizer.encode(f"3.3.1 | {word} 3.3.1 |", add_special_tokens=False)
        assert any(token in rule.text.restarts for token in ids)
    assert rule._columns_left([*prompt, v.place(5)]) == (5, 6)
    assert rule._columns_left([*prompt, v.place(5), min(rule.text.restarts)]) == (0, 6)
    assert rule._columns_left([assistant]) == (0, 11)  # no picture, no border
