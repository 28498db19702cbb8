"""AlphaTex as people write it, brought to the canonical form before it is edited or drawn."""

from __future__ import annotations

import pytest

from intermezzo.datasets_scripts.render import client
from intermezzo.datasets_scripts.render.client import canonical_text
from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.errors import InputError

CANONICAL = "\\staff {tabs}\n\\ts (4 4) 3.5.4 3.5.4 5.3.4 5.3.4 |\n2.3.1 |\n"


HEADS = (
    '\\title "Twinkle"\n\\tempo 96\n.\n\\track "Guitar"\n\\staff {tabs}\n',
    '\\title "Twinkle"\n\\tempo 96\n\\track "Guitar"\n\\staff {tabs}\n',
    "\\tempo 96\n.\n\\staff {tabs}\n",
    "\\tempo 96\n\\staff {tabs}\n",
    '\\track "Guitar"\n\\tempo 96\n\\staff {tabs}\n',
    '\\title "Twinkle" \\tempo 96 .\n',
    "\\staff {tabs} \\tempo 96\n.\n",
)
MUSIC = "\\ts (4 4)\n3.5.4 3.5.4 5.3.4 5.3.4 | 2.3.1 |\n"


def absent(**kwargs: object) -> None:
    raise InputError(None, "no Node found")


@pytest.mark.parametrize("renderer", [True, False])
@pytest.mark.parametrize("head", HEADS)
def test_what_stands_before_the_first_staff_loses_no_notes(
    head: str, renderer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not renderer:
        monkeypatch.setattr(client, "AlphaTabPool", absent)
    score = read_alphatex(canonical_text(head + MUSIC))
    assert len(score.staves) == len(score.tracks) == 1
    assert score.tracks[0].name == ("Guitar" if "Guitar" in head else "")
    first, second = score.staves[0].bars
    assert [note.fret for beat in first.voices[0] for note in beat.notes] == [3, 3, 5, 5]
    assert first.tempo == 96 and first.time_signature == (4, 4) and len(second.voices[0]) == 1


def test_tuning_and_capo_before_the_first_track_are_its_own() -> None:
    text = '\\tuning (D4 A3 F3 C3 G2 D2) \\capo 2 . \\track "a" \\staff {tabs} 3.3.1 | \\track "b" \\staff {tabs} 1.1.1'
    first, second = read_alphatex(text).tracks
    assert (first.staves[0].capo, first.staves[0].show) == (2, ("tabs",))
    assert first.staves[0].tuning == ("D4", "A3", "F3", "C3", "G2", "D2")
    assert (second.staves[0].capo, second.staves[0].tuning) == (0, None)


def test_a_dot_among_the_music_is_still_an_error() -> None:
    with pytest.raises(InputError, match=r"line 1, column 9: expected a note or 'r', found '\.'"):
        read_alphatex("3.3.1 | . 3.3.1")


def test_alphatab_says_what_is_wrong_where_our_reader_is_too_strict() -> None:
    """Our reader knows no durations for all: it would stumble over the colon, and never come to what is wrong."""
    with pytest.raises(InputError, match=r"line 2, column 26.*'h'"):
        canonical_text("\\tempo 90 .\n:4 3.3 3.3 3.3 3.3{pm}.8{h}")


def test_canonical_text_needs_no_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "AlphaTabPool", lambda **kwargs: pytest.fail("asked for alphaTab"))
    assert canonical_text(CANONICAL) == CANONICAL


def test_without_a_renderer_our_own_reader_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "AlphaTabPool", absent)
    assert canonical_text("\\staff {tabs} \\ts (4 4)\n3.5.4 3.5.4 5.3.4 5.3.4 | 2.3.1") == CANONICAL
    with pytest.raises(InputError, match="line 1"):
        canonical_text("what is this")


def test_what_nobody_can_read_is_told() -> None:
    with pytest.raises(InputError, match="line 1"):
        canonical_text("what is this")
