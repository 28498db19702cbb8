"""Signs that exclude each other, signs of a whole chord, ties that have somewhere to come from."""

from __future__ import annotations

import numpy as np
import pytest

from intermezzo.processing.dense_reading import DenseReader
from intermezzo.processing.flag_choice import agree, choose_flags

LABELS = {
    "frets": ["0", "1", "2", "x", "t"],
    "note_effects": ["pm", "st", "sl"],
    "tuplets": [],
    "graces": [],
}


def test_one_of_a_kind_is_chosen_even_when_the_heads_waver() -> None:
    names = ["be bend,0,0,60,4", "be bend,0,0,60,2", "v", "vw", "pm"]
    chosen, sure = choose_flags(names, np.array([0.45, 0.4, 0.9, 0.8, 0.3]))
    assert chosen == ["be bend,0,0,60,4", "v"]
    assert sure == pytest.approx(0.45 * 0.9 * 0.7)
    assert choose_flags(names, np.array([0.3, 0.1, 0.2, 0.2, 0.5]))[0] == []


def test_the_chance_of_certain_signs_is_one() -> None:
    chosen, sure = choose_flags(["sl", "h", "pm"], np.array([1.0, 0.0, 1.0]))
    assert chosen == ["sl", "pm"] and sure == pytest.approx(1.0)


def test_notes_of_a_chord_share_what_is_drawn_once() -> None:
    chances = np.array([[0.9, 0.2], [0.3, 0.7]])
    together = agree(["pm", "sl"], chances)
    assert together[0, 0] == together[1, 0] and 0.5 < together[0, 0] < 0.9
    np.testing.assert_array_equal(together[:, 1], chances[:, 1])
    np.testing.assert_array_equal(agree(["pm", "sl"], chances[:1]), chances[:1])


def heads(rows: dict[int, dict[str, float]]) -> np.ndarray:
    """`(6, 1 + F)` probabilities: what is named, the rest is "no note"."""
    found = np.zeros((6, 6))
    for string in range(6):
        for name, chance in rows.get(string, {}).items():
            found[string, 1 + LABELS["frets"].index(name)] = chance
    found[:, 0] = 1 - found[:, 1:].sum(axis=1)
    return found


def strings(rows: dict[int, dict[str, float]], before: set[int] | None) -> tuple[list[int], np.ndarray]:
    frets = heads(rows)
    _, chosen = DenseReader(LABELS)._ties(frets, 1 - frets[:, 0], before)
    return chosen, frets


def test_only_a_string_of_the_beat_before_is_tied() -> None:
    rows = {1: {"t": 0.6}, 2: {"t": 0.9}}
    assert strings(rows, {2})[0] == [2]
    assert strings(rows, {1, 2})[0] == [1, 2]
    assert strings(rows, None)[0] == [1, 2]  # the picture begins here: what came before is not known


def test_a_tie_without_clear_strings_holds_the_beat_before() -> None:
    chosen, frets = strings({3: {"t": 0.4}, 4: {"t": 0.35}}, {3, 4})
    assert chosen == [3, 4]
    assert [int(frets[s].argmax()) for s in chosen] == [5, 5]


def test_a_new_note_is_no_tie() -> None:
    assert strings({0: {"1": 0.9}, 3: {"t": 0.05}}, {3})[0] == [0]
    assert strings({0: {"1": 0.3}}, {3})[0] == [0]  # a beat with notes has at least one


def test_a_tab_alone_has_no_staccato_dots() -> None:
    chances = np.array([[0.9, 0.9, 0.1]])
    assert DenseReader(LABELS, ("tabs",))._effects(chances.copy()).tolist() == [[0.9, 0.0, 0.1]]
    assert DenseReader(LABELS, ("score", "tabs"))._effects(chances.copy()).tolist() == [[0.9, 0.9, 0.1]]
