"""Edits by program: on many generated parts each one reads, closes, can be played, and satisfies its judge."""

from __future__ import annotations

import random
from functools import lru_cache
from itertools import islice

import pytest

from intermezzo.datasets_scripts.edit_music import beat_playable, holds, spell_length, unplayable_beats
from intermezzo.datasets_scripts.edit_pairs import generated_pieces, piece_text
from intermezzo.datasets_scripts.edit_pitch import key_of, signature, transposed_chord
from intermezzo.datasets_scripts.edit_programs import EditError, apply_program, apply_steps
from intermezzo.processing.alphatex_grammar import Beat, Note, bars_close, metres, read_alphatex, write_alphatex
from intermezzo.processing.edit_language import DOMAINS, EditStep, parse_program
from intermezzo.processing.errors import InputError
from intermezzo.train.metrics_edit import judge_chain, judge_edit

PIECES = 14
HEAD = "\\staff {tabs}\n"
PLAIN = HEAD + "0.1.4 3.1.4 5.2.4 3.2.4 |\n2.3.8 0.3.8 2.3.4 0.4.2 |\n"
CHORDS = HEAD + "(0.1 1.2 0.3 2.4 3.5).4 (0.1 1.2 0.3 2.4 3.5).4 (3.1 0.2 0.3 0.4 2.5 3.6).2 |\n"


@lru_cache(maxsize=1)
def texts() -> tuple[str, ...]:
    return tuple(piece_text(p, random.Random(p.seed), 3) for p in islice(generated_pieces(7), PIECES))


def cases() -> list[EditStep]:
    """Each style, each way of time, and one argument of everything else for each piece."""
    steps = [EditStep("style", name) for name in DOMAINS["style"]] + [EditStep("time", way) for way in DOMAINS["time"]]
    return steps + [
        EditStep(name, domain[len(domain) // 3]) for name, domain in DOMAINS.items() if name not in ("style", "time")
    ]


@pytest.mark.parametrize("step", cases(), ids=str)
def test_an_edit_does_what_it_says_and_nothing_is_broken(step: EditStep) -> None:
    done = 0
    for number, text in enumerate(texts()):
        domain = DOMAINS[step.operation]
        mine = (
            step if step.operation in ("style", "time") else EditStep(step.operation, domain[number * 5 % len(domain)])
        )
        try:
            after = apply_program(text, (mine,), seed=number)
        except EditError as error:
            assert "\n" not in str(error)
            continue
        done += 1
        score = read_alphatex(after)
        assert write_alphatex(score) == after, "canonical"
        assert bars_close(score)
        assert unplayable_beats(score) <= unplayable_beats(read_alphatex(text))
        verdict = judge_edit(text, after, mine)
        assert verdict.right, f"{mine}: {verdict.why}\n{text}{after}"
        unedited = judge_edit(text, text, mine)
        assert not unedited.right, f"{mine} is said to hold in\n{text}"
        assert apply_program(text, (mine,), seed=number) == after, "the same seed gives the same text"
    assert done >= 2, "hardly ever possible"


def test_an_edit_of_another_kind_is_seen_through() -> None:
    up = apply_program(PLAIN, parse_program("transpose +2"))
    assert judge_edit(PLAIN, up, EditStep("transpose", "+2")).right
    for other in ("transpose +3", "transpose -10", "melody", "metre 3/4", "style rock", "time half", "capo 2", "bass"):
        (step,) = parse_program(other)
        assert not judge_edit(PLAIN, up, step).right, other


def test_judges_see_a_wrong_note_an_open_bar_and_a_hand_too_small() -> None:
    step = EditStep("transpose", "+2")
    up = apply_program(PLAIN, (step,))
    assert not judge_edit(PLAIN, up.replace("5.1.4", "6.1.4", 1), step).melody
    broken = judge_edit(PLAIN, up.replace("2.4.2 |", "2.4.4 |"), step)
    assert broken.parses and not broken.closes and not broken.right
    assert not judge_edit(PLAIN, "no music", step).parses
    wide = up.replace("5.1.4", "(5.1 17.3).4", 1)
    assert not judge_edit(PLAIN, wide, step).playable


def test_chains_are_judged_step_by_step_in_any_order() -> None:
    program = parse_program("style rock; capo 2")
    chain = apply_steps(PLAIN, program)
    assert judge_chain(chain, program).right and judge_chain(chain, program[::-1]).right
    assert not judge_chain(chain, parse_program("style rock; capo 3")).right
    assert not judge_chain(chain[:2], program).right and not judge_chain(chain, program[:1]).right


def test_transposition_is_exact_and_ties_go_on() -> None:
    text = HEAD + '3.3.2 (-.3).4 5.3.4{txt "x"} |\n'
    assert apply_program(text.replace("(-.3)", "3.3{t}"), parse_program("transpose +2")) == (
        HEAD + '5.3.2 5.3{t}.4 7.3.4{txt "x"} |\n'
    )
    down = apply_program(CHORDS, parse_program("transpose -1"))
    assert judge_edit(CHORDS, down, EditStep("transpose", "-1")).melody
    with pytest.raises(EditError, match="off the fretboard"):
        apply_program(HEAD + "0.6.1 |\n", parse_program("transpose -5"))
    assert transposed_chord("F#m7/C#", 3) == "Am7/E" and transposed_chord("riff", 2) == "riff"


def test_a_key_is_reached_by_the_shorter_way() -> None:
    text = "\\staff {score tabs}\n\\ks d 7.3.4 9.3.4 7.3.2 |\n"
    after = apply_program(text, parse_program("key e"))
    assert "\\ks e" in after and judge_edit(text, after, EditStep("transpose", "+2")).right
    assert signature(read_alphatex(after)) == key_of("e") == key_of("c#m")
    assert "\\ks" not in apply_program(text, parse_program("key am"))
    with pytest.raises(EditError, match="already"):
        apply_program(text, parse_program("key bm"))


def test_capo_and_tuning() -> None:
    assert apply_program(PLAIN, parse_program("capo 3")) == PLAIN.replace(HEAD, HEAD + "\\capo 3\n")
    kept = apply_program(PLAIN.replace("0.", "5.").replace(" 0.", " 5."), parse_program("recapo 2"))
    assert "\\capo 2" in kept
    dropped = apply_program(PLAIN, parse_program("tuning drop-d"))
    assert "\\tuning (E4 B3 G3 D3 A2 D2)" in dropped
    for wrong in ("tuning standard", "capo 0", "recapo 0"):
        with pytest.raises(EditError, match=r"already|no capo"):
            apply_program(PLAIN, parse_program(wrong))
    with pytest.raises(EditError, match="is no tuning of 4 strings"):
        apply_program("\\staff {tabs}\n\\tuning (G2 D2 A1 E1)\n3.1.1 |\n", parse_program("tuning dadgad"))


def test_bar_lines_move_and_notes_stay() -> None:
    after = apply_program(PLAIN, parse_program("metre 3/4"))
    assert set(metres(read_alphatex(after))) == {(3, 4)} and len(read_alphatex(after).staves[0].bars) == 3
    repeated = HEAD + "\\ro 0.1.2 3.1.2 |\n\\rc 2 0.1.1 |\n3.1.1 |\n"
    bars = read_alphatex(apply_program(repeated, parse_program("metre 3/4"))).staves[0].bars
    assert bars[0].repeat_open and [bar.repeat_close for bar in bars] == [0, 0, 2, 0, 0], "the form stays"
    with pytest.raises(EditError, match="tuplet"):
        apply_program(HEAD + "0.1.2{tu (3 2)} 0.1.2{tu (3 2)} 0.1.2{tu (3 2)} |\n", parse_program("metre 3/4"))


def test_time_doubles_and_halves_back() -> None:
    slow = apply_program(PLAIN, parse_program("time half"))
    assert len(read_alphatex(slow).staves[0].bars) == 4
    assert apply_program(slow, parse_program("time double")) == PLAIN
    odd = HEAD + "0.1.1 |\n" * 3
    assert apply_program(odd, parse_program("time double")).splitlines()[1:] == ["0.1.2 0.1.2 |", "0.1.2 r.2 |"]


def test_melody_and_simple_versions() -> None:
    assert apply_program(CHORDS, parse_program("melody")) == HEAD + "0.1.4 0.1.4 3.1.2 |\n"
    hard = HEAD + "3.1{be (bend 0 0 60 4)}.16 5.1.16 3.1.16 0.1.16 5.1.8{gr} 3.1.4 (0.1 1.2 0.3 2.4 3.5).2{bd} |\n"
    easy = apply_program(hard, parse_program("simplify"))
    assert easy == HEAD + "3.1.8 3.1.8 3.1.4 (0.1 1.2 3.5).2 |\n"
    for name, text in (("melody", PLAIN), ("simplify", easy)):
        with pytest.raises(EditError, match="already"):
            apply_program(text, parse_program(name))


def test_a_bass_goes_under_the_melody() -> None:
    after = apply_program(PLAIN, parse_program("bass"))
    score = read_alphatex(after)
    assert all(len(bar.voices) == 2 for bar in score.staves[0].bars)
    with pytest.raises(EditError, match="second voice"):
        apply_program(after, parse_program("bass"))
    with pytest.raises(EditError, match="room"):
        apply_program(HEAD + "0.6.1 |\n1.6.1 |\n", parse_program("bass"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("\\staff {score}\nC4.1 |\n", "no strings"),
        (HEAD, "no music"),
        (HEAD + "0.1.4 |\n0.1.4 |\n", "do not close|bar 2"),
        ("3.3.4 5.5 oops", "line 1"),
        (HEAD + "r.1 |\n", "nothing sounds"),
    ],
)
def test_what_can_not_be_edited_is_told_in_one_line(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as told:
        apply_program(text, parse_program("style rock"))
    assert "\n" not in str(told.value)


def test_contradictions_are_refused_before_anything_is_done() -> None:
    for line in ("transpose +2; transpose -2", "time double; time half", "melody; bass", "capo 2; recapo 3"):
        with pytest.raises(InputError, match="contradicts itself"):
            apply_program(PLAIN, parse_program(line))


def test_hands() -> None:
    assert holds([(1, 0), (2, 1), (5, 3)]) and holds([(1, 12), (6, 17)]) and holds([])
    assert not holds([(1, 1), (6, 6)]) and not holds([(1, 3), (1, 5)]) and not holds([(1, 25)])
    assert beat_playable(Beat([Note(1, 1), Note(0, 2, {"x": ()}), Note(12, 6, {"nh": ()})]))
    assert not beat_playable(Beat([Note(1, 1), Note(9, 2)]))
    assert beat_playable(Beat([Note(1, 1), Note(12, 2)], effects={"tt": ()}))


def test_lengths_are_spelled() -> None:
    from fractions import Fraction

    assert spell_length(Fraction(5, 8)) == [(2, 0), (8, 0)] and spell_length(Fraction(7, 4)) == [(1, 1), (4, 0)]
    assert spell_length(Fraction(1, 12)) is None and spell_length(Fraction(0)) == []
