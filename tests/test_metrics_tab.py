"""The figures of a tab reader, tested for their values on hand-made cases."""

from __future__ import annotations

from fractions import Fraction

import pytest
from PIL import Image, ImageDraw

from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.errors import InputError
from intermezzo.train.metrics_common import design_effect, proportion, ratio, wilson_interval
from intermezzo.train.metrics_image import image_match, ink_mask, without_staff_lines
from intermezzo.train.metrics_tab import note_keys, score_pair, summarise
from intermezzo.train.metrics_tab_edit import FIELDS, edit_distance, elements

HEAD = "\\staff {tabs}\n"
TWO_BARS = HEAD + "\\ts (4 4) 3.3.4 5.3.4 (2.2 3.3).2 |\n3.1.8 5.1.8 r.4 (0.1 2.3{pm} 3.5).4{tu (3 2)} 7.2{h}.4 |"


def errors(prediction: str, truth: str = TWO_BARS) -> dict[str, int]:
    """Errors that are not zero."""
    return {name: count for name, count in score_pair(prediction, truth).errors.items() if count}


def test_a_perfect_reading_has_no_error_and_every_share_is_one() -> None:
    score = score_pair(TWO_BARS, TWO_BARS)
    assert score.errors == dict.fromkeys(FIELDS, 0)
    assert score.exact and score.parses
    assert score.bars_exact == score.bars == 2
    assert score.notes == (10, 10, 10)
    figures = summarise([score, score], ["a", "b"])
    assert figures["tab_ned"].value == 0
    for name in ("system_exact", "bar_exact", "note_f1", "note_precision", "note_recall", "parses"):
        assert figures[name].value == 1


def test_symbols_are_counted_by_field() -> None:
    # 10 notes; 8 beats; pm and h; staff head 1, two bar lines and one metre.
    assert score_pair(TWO_BARS, TWO_BARS).symbols_true == {
        "string": 10, "fret": 10, "duration": 8, "technique": 2, "meta": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("5.3.4 (2.2", "6.3.4 (2.2", "fret"),
        ("5.3.4 (2.2", "5.4.4 (2.2", "string"),
        ("(0.1 2.3{pm} 3.5)", "(0.1 2.4{pm} 3.5)", "string"),
        ("(2.2 3.3)", "(3.3 2.4)", "string"),  # the moved note changes its place in the chord
        ("5.3.4 (2.2", "5.3.8 (2.2", "duration"),
        ("{tu (3 2)}", "", "duration"),
        ("{pm}", "", "technique"),
        ("7.2{h}", "7.2{v}", "technique"),
        ("\\ts (4 4)", "\\ts (3 4)", "meta"),
        ("\\ts (4 4)", "", "meta"),
    ],
)
def test_one_wrong_symbol_moves_only_its_field(old: str, new: str, field: str) -> None:
    assert old in TWO_BARS
    assert errors(TWO_BARS.replace(old, new)) == {field: 1}


def test_a_missing_note_a_missing_beat_and_a_missing_bar_line() -> None:
    assert errors(TWO_BARS.replace("(2.2 3.3).2", "2.2.2")) == {"string": 1, "fret": 1}
    assert errors(TWO_BARS.replace("5.3.4 (", "(")) == {"string": 1, "fret": 1, "duration": 1}
    assert errors(TWO_BARS.replace("r.4 ", "")) == {"duration": 1}
    assert errors(TWO_BARS.replace("|\n", "")) == {"meta": 1}


def test_edit_distance_is_symmetric_and_a_metric_on_examples() -> None:
    texts = [
        TWO_BARS,
        TWO_BARS.replace("5.3.4 (", "("),
        HEAD + "3.3.4 r.4 r.2 |",
        HEAD + "(3.3 5.4{x}).4{tu (3 2)} 1.1.2 | r.1 |",
    ]
    rows = [elements(read_alphatex(text)) for text in texts]
    for a in rows:
        for b in rows:
            assert edit_distance(a, b) == edit_distance(b, a)
            for c in rows:
                through = sum(edit_distance(a, c).values()) + sum(edit_distance(c, b).values())
                assert sum(edit_distance(a, b).values()) <= through


def test_notes_have_bar_onset_string_and_fret() -> None:
    keys = note_keys(read_alphatex(HEAD + "3.3.4{tu (3 2)} (5.2 x.3).8 | r.2 7.1.2 |"))
    assert keys == {
        (0, Fraction(0), 3, 3): 1,
        (0, Fraction(1, 6), 2, 5): 1,
        (0, Fraction(1, 6), 3, "x"): 1,
        (1, Fraction(1, 2), 1, 7): 1,
    }


def test_one_note_off_gives_the_known_f1_and_bar_figures() -> None:
    score = score_pair(TWO_BARS.replace("5.3.4 (2.2", "6.3.4 (2.2"), TWO_BARS)
    figures = summarise([score])
    assert figures["note_f1"].value == pytest.approx(0.9)
    assert figures["bar_exact"].value == 0.5
    assert figures["system_exact"].value == 0
    assert figures["tab_ned_fret"].value == pytest.approx(0.1)
    assert figures["tab_ned"].value == pytest.approx(1 / 34)
    assert figures["tab_ned_string"].value == 0


@pytest.mark.parametrize("text", ["", "  \n", "3.3.", "nonsense | 3"])
def test_an_unparsable_reading_counts_as_nothing_read(text: str) -> None:
    score = score_pair(text, TWO_BARS)
    assert not score.parses and not score.closes and not score.exact and score.message
    figures = summarise([score])
    assert figures["tab_ned"].value == 1
    assert figures["note_f1"].value == 0
    assert figures["bar_exact"].value == 0


def test_an_unparsable_truth_is_an_error() -> None:
    with pytest.raises(InputError):
        score_pair(TWO_BARS, "3.3.")


def test_bar_closure_is_checked_on_the_reading() -> None:
    full = HEAD + "3.3.4 3.3.4 3.3.2 | r.1 |"
    assert score_pair(full, full).closes
    short = full.replace("3.3.2", "3.3.4")
    assert not score_pair(short, full).closes
    assert score_pair(short, short).closes  # the truth has a pick-up there
    assert not score_pair(full + " |", full).closes
    assert not score_pair(short.replace("r.1", "r.2"), short).closes


def test_extra_bars_lower_the_bar_figure() -> None:
    score = score_pair(TWO_BARS + "\nr.1 |", TWO_BARS)
    assert (score.bars_exact, score.bars) == (2, 3)


def test_wilson_agrees_with_published_values() -> None:
    # 15 of 148: Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    low, high = wilson_interval(15, 148)
    assert (round(low, 4), round(high, 4)) == (0.0624, 0.1605)
    assert wilson_interval(10, 10)[1] == 1.0
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="3 successes of 2"):
        wilson_interval(3, 2)


def test_pieces_that_agree_widen_the_interval() -> None:
    outcomes = [True] * 40 + [False] * 40
    alone = proportion(outcomes)
    pieces = [f"piece {i // 10}" for i in range(80)]
    together = proportion(outcomes, pieces)
    assert alone.value == together.value == 0.5
    assert together.high - together.low > 2 * (alone.high - alone.low)
    assert design_effect(outcomes, pieces) > 5
    assert design_effect(outcomes, None) == 1


def test_bootstrap_is_seeded_and_covers_the_ratio() -> None:
    top, bottom = [1.0, 2.0, 0.0, 4.0] * 10, [4.0] * 40
    one, same = ratio(top, bottom, seed=3), ratio(top, bottom, seed=3)
    assert one == same
    assert one.value == pytest.approx(70 / 160)
    assert one.low < one.value < one.high
    assert ratio(top, bottom, seed=4) != one
    grouped = ratio(top, bottom, [i % 4 for i in range(40)], seed=3)
    assert grouped.high - grouped.low > one.high - one.low
    assert ratio([], []).value != ratio([], []).value  # nan
    with pytest.raises(ValueError, match="2 groups for 40"):
        ratio(top, bottom, [1, 2])


def staff(*numbers: tuple[int, int]) -> Image.Image:
    """A white picture with six lines and a block of ink for each number."""
    picture = Image.new("L", (200, 80), 255)
    draw = ImageDraw.Draw(picture)
    for line in range(6):
        draw.line((5, 10 + 10 * line, 195, 10 + 10 * line), fill=0)
    for x, y in numbers:
        draw.rectangle((x, y, x + 5, y + 7), fill=0)
    return picture


def test_image_match_sees_strokes_and_not_only_lines() -> None:
    one = staff((40, 16), (90, 26))
    assert image_match(one, one) == image_match(one.convert("RGBA"), one)
    assert image_match(one, one).stroke_f1 == image_match(one, one).ink_iou == 1
    half = image_match(staff((40, 16)), one)
    assert half.stroke_precision == 1
    assert half.stroke_recall == pytest.approx(0.5)
    assert half.stroke_f1 == pytest.approx(2 / 3)
    assert half.ink_iou > 0.9  # the lines: why strokes are counted apart
    shifted = image_match(staff((41, 16), (90, 26)), one)
    assert shifted.stroke_f1 == 1
    far = image_match(staff((60, 16), (120, 26)), one)
    assert far.stroke_f1 == 0


def test_image_match_of_different_sizes_modes_and_no_ink() -> None:
    one = staff((40, 16))
    wide = Image.new("L", (300, 100), 255)
    wide.paste(one, (0, 0))
    assert image_match(one, wide).ink_iou == 1
    blank = Image.new("RGBA", (50, 50), (0, 0, 0, 0))
    assert not ink_mask(blank).any()
    assert image_match(blank, blank).stroke_f1 == 1
    assert image_match(blank, one).stroke_f1 == 0
    assert (ink_mask(one.convert("I").point(lambda v: v * 257)) == ink_mask(one)).all()


def test_lines_go_and_beams_and_numbers_stay() -> None:
    picture = staff((40, 17))
    ImageDraw.Draw(picture).rectangle((100, 63, 150, 67), fill=0)
    kept = without_staff_lines(ink_mask(picture))
    assert kept[65, 120] and kept[18, 42]
    assert not kept[10, 120] and not kept[30, 10]


def test_metric_wrapper_gives_the_same_values() -> None:
    evaluate = pytest.importorskip("evaluate")
    from intermezzo.train.metrics_hub import TabMetric

    metric = TabMetric()
    assert isinstance(metric, evaluate.Metric)
    wrong = TWO_BARS.replace("5.3.4 (2.2", "6.3.4 (2.2")
    result = metric.compute(predictions=[wrong, TWO_BARS], references=[TWO_BARS, TWO_BARS])
    assert result["system_exact"] == 0.5
    assert result["note_f1"] == pytest.approx(0.95)
    assert result["note_f1_low"] <= result["note_f1"] <= result["note_f1_high"]


def test_omr_ned_sees_pitches_and_not_strings() -> None:
    pytest.importorskip("musicdiff")
    from intermezzo.train.metrics_omr_ned import omr_ned

    truth = HEAD + "\\ts (4 4) 5.2.4 3.3.4 r.2 |"
    assert omr_ned(truth, truth).errors == 0
    assert omr_ned(truth.replace("5.2.4", "0.1.4"), truth).errors == 0  # both E4
    fret = omr_ned(truth.replace("5.2.4", "6.2.4"), truth)
    assert 0 < fret.errors < fret.symbols
    empty = omr_ned("not a tab", truth)
    assert empty.errors == empty.symbols > 0


def test_omr_ned_is_bounded_in_time() -> None:
    pytest.importorskip("musicdiff")
    from intermezzo.train.metrics_omr_ned import bounded_omr_ned

    pair = (TWO_BARS, TWO_BARS)
    assert [r.message[:12] for r in bounded_omr_ned([pair, pair], seconds_in_all=0)] == ["not compared"] * 2
    results = list(bounded_omr_ned([pair, (TWO_BARS, "3.3.")]))
    assert results[0].errors == 0 and results[0].symbols > 0
    assert "AlphaTexError" in results[1].message
