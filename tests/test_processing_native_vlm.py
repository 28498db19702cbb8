"""Grid pictures and the processor: geometry, round trips, prompts, bad inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from intermezzo.processing.errors import InputError
from intermezzo.processing.grid_pictures import GridGeometry, canvas_to_grid, from_ink, grid_to_canvas, to_ink
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.processing_native_vlm import NativeVLMProcessor
from intermezzo.processing.system_canvas import ROWS_BELOW, draw_on_canvas
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

TEXT = "\\staff {tabs}\n\\ts (4 4) 3.3.4 5.3.4 r.4 0.6.4 |\n"


def canvas(height: int = 240, width: int = 160, top: int = 80, strings: int = 6) -> np.ndarray:
    """A tab of level lines with a block on each string, and a stroke above."""
    page = np.full((height, width), 255, np.uint8)
    first = height - ROWS_BELOW
    for string in range(strings):
        page[first + 10 * string, 8 : width - 10] = 0
        page[first + 10 * string - 4 : first + 10 * string + 5, 20 + 12 * string : 26 + 12 * string] = 0
    page[top : top + 10, 40] = 0
    return page


@pytest.mark.parametrize("patch", [(16, 8), (16, 16), (8, 8), (8, 16)])
@pytest.mark.parametrize(("height", "top"), [(240, 110), (240, 30), (320, 12), (320, 150)])
def test_pictures_go_to_the_grid_and_back(patch: tuple[int, int], height: int, top: int) -> None:
    geometry = GridGeometry(*patch)
    page = canvas(height, top=top)
    picture = canvas_to_grid(page, geometry)
    rows, columns = geometry.size(picture)
    assert picture.shape == (rows * patch[0], columns * patch[1]) and rows <= geometry.max_rows(height == 320)
    ink_above = (height - ROWS_BELOW - top) * 0.8
    assert (rows - geometry.rows_below) * patch[0] >= ink_above - 4 > (rows - geometry.rows_below - 1) * patch[0]
    again = grid_to_canvas(picture, geometry, height == 320)
    assert again.shape[0] == height and again.shape[1] % 16 == 0
    width = min(again.shape[1], page.shape[1])
    away = {
        (dy, dx): float(np.abs(again[:, :width] - np.roll(page[:, :width], (dy, dx), (0, 1)).astype(float)).mean())
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
    }  # scaled down and up the ink is softer, but it has not moved
    assert all(value > 1.02 * away[0, 0] for shift, value in away.items() if shift != (0, 0)), away


def test_strings_run_through_the_middle_of_8_px() -> None:
    picture = canvas_to_grid(canvas(), GridGeometry(16, 8))
    line_rows = np.flatnonzero((picture[:, 100:110] < 200).all(axis=1))
    assert set((line_rows - (picture.shape[0] - 80)) % 8) <= {3, 4}
    assert {(row - (picture.shape[0] - 80)) // 8 for row in line_rows} == set(range(6))


def test_a_drawing_with_a_tall_part_goes_to_the_tall_canvas() -> None:
    geometry = GridGeometry(16, 8)
    assert grid_to_canvas(canvas_to_grid(canvas(320, top=12), geometry), geometry).shape[0] == 320
    assert grid_to_canvas(canvas_to_grid(canvas(320, top=150), geometry), geometry).shape[0] == 240


def test_bad_pictures_are_told_in_one_line() -> None:
    geometry = GridGeometry(16, 8)
    low = canvas()
    low[230] = 0
    for page, message in (
        (np.full((240, 80), 255, np.uint8), "shows nothing"),
        (np.zeros((200, 80), np.uint8), "200 pixels high"),
        (low, "song.png: has ink .* below"),
    ):
        with pytest.raises(InputError, match=message):
            canvas_to_grid(page, geometry, "song.png")
    with pytest.raises(InputError, match="90 x 64 px"):
        grid_to_canvas(np.zeros((90, 64), np.uint8), geometry)
    with pytest.raises(InputError, match="20 rows"):
        grid_to_canvas(np.zeros((320, 64), np.uint8), geometry)
    with pytest.raises(ValueError, match="12 x 8"):
        GridGeometry(12, 8)


def test_ink_is_the_other_way_round() -> None:
    picture = np.arange(256, dtype=np.uint8)[None]
    assert np.array_equal(from_ink(to_ink(picture)), picture)
    assert to_ink(picture)[0, [0, 255]].tolist() == [1.0, 0.0]


# --- processor --------------------------------------------------------------------------------------------------------


def make(**changes: Any) -> NativeVLMProcessor:
    options: dict[str, Any] = dict(image_vocab_size=64, max_rows=15, max_columns=40)
    return NativeVLMProcessor(ScoreImageProcessor(do_locate=False), AlphaTexTokenizer(), **{**options, **changes})


def test_a_picture_becomes_placeholders_of_its_size() -> None:
    processor = make()
    page = canvas()
    out = processor(images=[page, canvas(320, 240)], return_tensors="pt")
    rows, columns = GridGeometry().size(canvas_to_grid(page, GridGeometry()))
    assert out["image_sizes"][0].tolist() == [rows, columns]
    ids = out["input_ids"][0][out["attention_mask"][0] == 1].tolist()
    assert ids.count(processor.image_token_id) == rows * columns
    v = processor.vocabulary
    begin = ids.index(v.boi)
    assert ids[begin : begin + v.span(rows, columns)] == v.placeholders(rows, columns, processor.image_token_id)
    assert out["pixel_values"].shape[:2] == (2, 1)
    ink = out["pixel_values"][0, 0, : rows * 16, : columns * 8].numpy()
    assert np.array_equal(from_ink(ink), canvas_to_grid(page, GridGeometry()))
    assert not out["pixel_values"][0, 0, rows * 16 :].any() and not out["pixel_values"][0, 0, :, columns * 8 :].any()


def test_one_text_may_hold_several_pictures_among_its_words() -> None:
    processor = make()
    pages = [canvas(), canvas(320, 240)]
    out = processor(images=pages, text="play <|image|>, then <|image|> twice")
    ids, sizes = out["input_ids"][0].tolist(), out["image_sizes"].tolist()
    v = processor.vocabulary
    assert sizes[0] != sizes[1]
    spans = [v.placeholders(*size, processor.image_token_id) for size in sizes]
    words = [processor.tokenizer.encode(part, add_special_tokens=False) for part in ("play ", ", then ", " twice")]
    assert ids == [*words[0], *spans[0], *words[1], *spans[1], *words[2]]


def test_parts_come_back() -> None:
    processor = make()
    codes = np.arange(6).reshape(2, 3)
    ids = processor.encode_parts(["play ", codes, TEXT, codes.T])
    found = processor.parts([1, *ids, 2])
    assert [part if isinstance(part, str) else part.tolist() for part in found] == [
        "play ", codes.tolist(), TEXT, codes.T.tolist()
    ]  # fmt: skip
    with pytest.raises(InputError, match="unfinished"):
        processor.parts(ids[:6])


def test_the_unconditional_prompt_is_that_of_a_lesson_without_a_question() -> None:
    processor = make()
    names = ["<|bos|>", "<|user|>", "<|end|>", "<|assistant|>"]
    assert processor.unconditional_ids()[0].tolist() == processor.tokenizer.convert_tokens_to_ids(names)
    drawn = processor(text=processor.draw_prompt(TEXT))["input_ids"][0].tolist()
    assert processor.tokenizer.decode(drawn[2:-2]) == TEXT


def test_bad_prompts_are_told_in_one_line() -> None:
    processor = make(max_length=50)
    with pytest.raises(InputError, match=r"1 <\|image\|>.*0 pictures"):
        processor(text="<|image|>")
    with pytest.raises(InputError, match="window is 50"):
        processor(text=processor.draw_prompt(TEXT * 20))
    with pytest.raises(InputError, match="fewer bars"):
        make(max_columns=5)(images=[canvas()])
    with pytest.raises(InputError, match="window is 50"):
        processor(images=[canvas()])


def test_it_is_saved_with_its_sizes(tmp_path: Any) -> None:
    processor = make(scan="rows", patch_width=16)
    processor.save_pretrained(tmp_path)
    again = NativeVLMProcessor.from_pretrained(tmp_path)
    assert again.vocabulary == processor.vocabulary and again.geometry == processor.geometry
    page = Image.fromarray(canvas())
    a, b = processor(images=[page], return_tensors=None), again(images=[page], return_tensors=None)
    assert a["input_ids"] == b["input_ids"] and np.array_equal(a["pixel_values"], b["pixel_values"])


def test_a_drawn_system_is_found_on_a_page_of_its_own() -> None:
    """A picture with margins and another size gives the grid picture of its system."""
    drawn, _ = draw_on_canvas(canvas(), [120.5 + 10 * i for i in range(6)], False)
    a = make().grid_picture(drawn)
    assert np.array_equal(a, canvas_to_grid(drawn, GridGeometry()))
