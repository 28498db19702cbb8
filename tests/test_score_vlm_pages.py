"""Training systems cut out of pages: their truth is what their line shows."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from intermezzo.datasets_scripts.guitar_parts import piece_name, split_of
from intermezzo.datasets_scripts.render.client import AlphaTabPool, RenderJob
from intermezzo.processing.alphatex_grammar import bars_close, read_alphatex, write_alphatex
from intermezzo.processing.dense_labels import build_label_space, encode_system
from intermezzo.processing.errors import InputError
from intermezzo.processing.system_canvas import tab_top_row
from intermezzo.train.score_vlm_data import SystemRow
from intermezzo.train.score_vlm_pages import line_truth, only_changes, page_texts, rows_of_page

PAGE = (
    '\\title "A page"\n\\staff {score tabs}\n'
    "\\ts (3 4) \\ks g \\tempo 90 3.3.4 5.3.4 7.3.4 |\n1.2.2{d} |\n1.2{t}.2{d} |\n"
    "\\ts (2 4) 3.1.4 5.1.4 |\n3.1.2 |\n\\ks f \\tempo 120 5.1.2 |\n"
)


def test_what_is_in_force_is_not_said_again() -> None:
    again = PAGE.replace("1.2.2{d} |", "\\ts (3 4) \\ks g \\tempo 90 1.2.2{d} |", 1)
    again = again.replace("3.1.2 |", "\\ts (2 4) 3.1.2 |", 1)
    assert again != PAGE
    assert write_alphatex(only_changes(read_alphatex(again))) == PAGE
    assert write_alphatex(only_changes(read_alphatex(PAGE))) == PAGE


def test_a_later_line_shows_its_key_and_no_metre() -> None:
    truth, metre = line_truth(read_alphatex(PAGE), 2, 4)
    assert metre == (3, 4)
    assert write_alphatex(truth) == ("\\staff {score tabs}\n\\ks g 1.2{t}.2{d} |\n\\ts (2 4) 3.1.4 5.1.4 |\n3.1.2 |\n")
    first, metre = line_truth(read_alphatex(PAGE), 0, 1)
    assert metre == (4, 4) and first.staves[0].bars[0].time_signature == (3, 4)
    last, metre = line_truth(read_alphatex(PAGE), 5, 5)
    assert metre == (2, 4) and last.staves[0].bars[0].key_signature == "f"


def test_a_tab_alone_shows_no_key() -> None:
    tab = PAGE.replace("score tabs", "tabs").replace("\\ks g ", "").replace("\\ks f ", "")
    truth, _ = line_truth(read_alphatex(tab), 2, 3)
    assert truth.staves[0].bars[0].key_signature is None


def test_the_score_is_left_as_it_was() -> None:
    score = read_alphatex(PAGE)
    line_truth(score, 2, 4)
    assert write_alphatex(score) == PAGE


def test_page_texts_are_the_same_for_a_seed_and_hold_pieces_of_their_split() -> None:
    first = list(islice(page_texts(5, "validation"), 3))
    assert first == list(islice(page_texts(5, "validation"), 3))
    assert first != list(islice(page_texts(6, "validation"), 3))
    for text, style, _ in first:
        score = read_alphatex(text)
        assert bars_close(score, first_may_be_short=True, empty_bars=False)
        assert write_alphatex(only_changes(score)) == text
        assert style["layout"] == "page"
    from intermezzo.datasets_scripts.guitar_parts import piece_seeds

    assert all(split_of(piece_name(seed)) == "validation" for seed in islice(piece_seeds(5, "validation"), 20))


@pytest.fixture(scope="module")
def drawn() -> list[tuple[str, list[SystemRow | InputError], list[int]]]:
    found = []
    with AlphaTabPool(workers=1) as pool:
        for text, style, name in islice(page_texts(11, "train"), 3):
            picture = pool.render(RenderJob(text=text, **style))[0]
            bars = [sum(bar.system == k for bar in picture.bars) for k in range(len(picture.systems))]
            found.append((text, list(rows_of_page(picture, text, name)), bars))
    return found


def test_lines_together_are_the_page(drawn: list) -> None:
    for text, rows, bars in drawn:
        kept = [row for row in rows if isinstance(row, SystemRow)]
        assert len(kept) == len(rows) == len(bars)
        texts = [read_alphatex(row.text) for row in kept]
        assert [len(score.staves[0].bars) for score in texts] == bars
        notes = [[beat for *_, beat in score.beats()] for score in texts]
        whole = [beat for *_, beat in read_alphatex(text).beats()]
        assert [beat.notes for line in notes for beat in line] == [beat.notes for beat in whole]


def test_labels_lie_on_the_ink(drawn: list) -> None:
    """Each fret number's place is dark on the canvas near its line."""
    rows = [row for _, found, _ in drawn for row in found]
    dark, seen = 0, 0
    for row in rows:
        assert row.canvas is not None
        canvas, place = row.canvas
        beat_x = {key: x * place.x_scale + place.x_offset for key, x in row.beat_x.items()}
        score = read_alphatex(row.text)
        labels = encode_system(
            score,
            beat_x,
            [(a * place.x_scale + place.x_offset, b * place.x_scale + place.x_offset) for a, b in row.bar_x],
            build_label_space([score]),
        )
        top = tab_top_row(row.has_score)
        for string, x, *_ in labels.notes:
            y, x = int(top + 10 * string), int(x)
            seen += 1
            dark += bool((canvas[max(y - 4, 0) : y + 5, max(x - 5, 0) : x + 6] < 128).any())
    assert seen > 50 and dark / seen > 0.97  # a tied note in a later bar may have no number


def test_a_page_that_is_not_found_names_its_systems() -> None:
    with AlphaTabPool(workers=1) as pool:
        picture = pool.render(RenderJob(text=PAGE, layout="page", staves="score+tabs"))[0]
        white = pool.render(RenderJob(text=PAGE, layout="page", staves="score+tabs"))[0]
    object.__setattr__(white, "image", lambda: np.full((white.height, white.width), 255, np.uint8))
    rows = list(rows_of_page(white, PAGE, "white"))
    assert len(rows) == len(picture.systems)
    assert all(isinstance(row, InputError) and "does not find" in str(row) for row in rows)
