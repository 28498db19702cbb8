"""AlphaTex as people write it, brought to the canonical form before it is edited or drawn."""

from __future__ import annotations

import pytest

from intermezzo.datasets_scripts.render import client
from intermezzo.datasets_scripts.render.client import canonical_text
from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.errors import InputError

CANONICAL = "\\staff {tabs}\n\\ts (4 4) 3.5.4 3.5.4 5.3.4 5.3.4 |\n2.3.1 |\n"


@pytest.mark.parametrize(
    "head",
    [
        '\\title "Twinkle"\n\\tempo 96\n.\n\\track "Guitar"\n\\staff {tabs}\n',
        '\\title "Twinkle"\n\\tempo 96\n\\track "Guitar"\n\\staff {tabs}\n',
        "\\tempo 96\n.\n\\staff {tabs}\n",
    ],
)
def test_what_stands_before_the_first_staff_loses_no_notes(head: str) -> None:
    score = read_alphatex(canonical_text(head + "\\ts (4 4)\n3.5.4 3.5.4 5.3.4 5.3.4 | 2.3.1 |\n"))
    assert len(score.staves) == 1
    first, second = score.staves[0].bars
    assert [note.fret for beat in first.voices[0] for note in beat.notes] == [3, 3, 5, 5]
    assert first.tempo == 96 and len(second.voices[0]) == 1


def test_canonical_text_needs_no_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "AlphaTabPool", lambda **kwargs: pytest.fail("asked for alphaTab"))
    assert canonical_text(CANONICAL) == CANONICAL


def test_without_a_renderer_our_own_reader_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(**kwargs: object) -> None:
        raise InputError(None, "no Node found")

    monkeypatch.setattr(client, "AlphaTabPool", absent)
    assert canonical_text("\\staff {tabs} \\ts (4 4)\n3.5.4 3.5.4 5.3.4 5.3.4 | 2.3.1") == CANONICAL
    with pytest.raises(InputError, match="line 1"):
        canonical_text("what is this")


def test_what_nobody_can_read_is_told() -> None:
    with pytest.raises(InputError, match="line 1"):
        canonical_text("what is this")
