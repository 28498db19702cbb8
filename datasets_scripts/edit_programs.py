"""Carries edits out: a program on canonical alphaTex that does exactly what a line of the edit language says.

    apply_program(text, parse_program("style rock; capo 2"), seed=0)

Whatever comes out reads back, closes its bars, and has no more moments that a hand can not play than went in; an edit
that a piece does not allow is refused in one line and changes nothing. `edit_pitch`, `edit_time`, `edit_parts` and
`edit_styles` hold the single edits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from ..processing.alphatex_grammar import Score, bars_close, check_bars, read_alphatex, write_alphatex
from ..processing.edit_language import EditStep, check_program, write_program
from . import edit_parts, edit_pitch, edit_styles, edit_time
from .edit_music import EditError, copy_score, unplayable_beats

_EXACT: dict[str, Callable[[Score, str], None]] = {
    "transpose": edit_pitch.transpose,
    "key": edit_pitch.to_key,
    "capo": edit_pitch.capo,
    "recapo": edit_pitch.recapo,
    "tuning": edit_pitch.tuning,
    "position": edit_pitch.position,
    "simplify": edit_parts.simplify,
    "melody": edit_parts.melody,
}
_WITH_CHANCE: dict[str, Callable[[Score, str, random.Random], None]] = {
    "style": edit_styles.style,
    "bass": edit_parts.bass,
}


def check_editable(score: Score) -> None:
    """Refuses what has no tablature to work on.

    Raises:
        EditError: No staff, no bars, a staff without strings, or bars that do not close as they are.
    """
    if not score.staves or not any(staff.bars for staff in score.staves):
        raise EditError("there is no music in it")
    for number, staff in enumerate(score.staves, start=1):
        if (
            staff.percussion
            or staff.tuning == ()
            or any(note.fret < 0 for bar in staff.bars for voice in bar.voices for beat in voice for note in beat.notes)
        ):
            raise EditError(f"staff {number} has no strings; edits work on tablature alone")
    if issues := check_bars(score):
        raise EditError(f"{issues[0]}; edits need bars that close")


def _apply_step(score: Score, step: EditStep, rng: random.Random) -> None:
    if step.operation in ("time", "metre"):
        edit_time.change_time(score, step.operation, step.argument)
    elif step.operation in _WITH_CHANCE:
        _WITH_CHANCE[step.operation](score, step.argument, rng)
    else:
        _EXACT[step.operation](score, step.argument)


def _finished(score: Score, step: EditStep, hard_before: int) -> Score:
    """The result as its own text says it, after the checks that every edit has to pass.

    Raises:
        EditError: It does not close or no hand can play it: this piece is beyond the edit.
    """
    voices = max(len(bar.voices) for staff in score.staves for bar in staff.bars)
    for staff in score.staves:
        for bar in staff.bars:
            bar.voices += [[] for _ in range(voices - len(bar.voices))]
    again = read_alphatex(write_alphatex(score))
    if not bars_close(again):
        raise EditError(f"'{step}' leaves bars of this piece open")
    if unplayable_beats(again) > hard_before:
        raise EditError(f"'{step}' makes this piece unplayable for one hand")
    return again


def apply_steps(text: str, program: Sequence[EditStep], seed: int = 0) -> list[str]:
    """Carries a program out step by step.

    Args:
        text: alphaTex of tablature; bars that do not close are refused.
        program: Steps, from left to right.
        seed: Decides what styles and basses leave to chance; the same seed gives the same texts.

    Returns:
        Canonical alphaTex: the text that was given, and the one after each step.

    Raises:
        AlphaTexError: The text does not read.
        EditError, InputError: The program or the piece does not allow it; the message says why.
    """
    check_program(program)
    score = read_alphatex(text)
    check_editable(score)
    texts = [write_alphatex(score)]
    for place, step in enumerate(program):
        rng = random.Random(f"{seed} {place} {step}")
        work = copy_score(score)
        _apply_step(work, step, rng)
        score = _finished(work, step, unplayable_beats(score))
        texts.append(write_alphatex(score))
    if texts[-1] == texts[0]:
        raise EditError(f"'{write_program(program)}' changes nothing in this piece")
    return texts


def apply_program(text: str, program: Sequence[EditStep], seed: int = 0) -> str:
    """The last text of `apply_steps`."""
    return apply_steps(text, program, seed)[-1]


__all__ = ["EditError", "apply_program", "apply_steps", "check_editable"]
