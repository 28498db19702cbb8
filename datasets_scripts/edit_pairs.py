"""Pairs of an edit: a text, an instruction, and the text after it, each judged before it is used.

Pieces and wordings are split alike: a test pair has a piece and a wording that no training pair has.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from ..processing.alphatex_grammar import write_alphatex
from ..processing.alphatex_types import DEFAULT_TUNING, spell_pitch
from ..processing.edit_language import Program, write_program
from .edit_music import EditError
from .edit_programs import apply_steps
from .edit_wordings import LANGUAGES, instruction, random_program
from .guitar_parts import Piece, generate_piece, piece_seeds, take_bars

MAX_BARS = 8
TRIES = 20


@dataclass(frozen=True)
class EditPair:
    """One edit.

    Attributes:
        before, after: Canonical alphaTex.
        texts: `before`, the text after each step, the last of which is `after`.
        instruction: What is asked for, in words.
        language: `"zh"` or `"en"`.
        program: The same in the edit language.
        seed: Of what the edit leaves to chance.
        piece_id, source, kind: Where the text comes from.
        split: Of the piece and of the wording.
    """

    texts: tuple[str, ...]
    instruction: str
    language: str
    program: Program
    seed: int
    piece_id: str
    source: str
    kind: str
    split: str

    @property
    def before(self) -> str:
        """The text that was given."""
        return self.texts[0]

    @property
    def after(self) -> str:
        """The text that came of it."""
        return self.texts[-1]


class WrongEdit(RuntimeError):
    """An edit whose own judge says no: a fault of ours, to be listed, never to be learnt from."""


def piece_text(piece: Piece, rng: random.Random, max_bars: int = MAX_BARS) -> str:
    """Some bars of a piece with its real tuning and capo, as a header tells them."""
    total = len(piece.score.staves[0].bars)
    length = min(rng.randint(2, max_bars), total)
    start = rng.randrange(total - length + 1)
    score = take_bars(piece.score, start, start + length)
    staff = score.staves[0]
    tuning = tuple(map(spell_pitch, piece.tuning or DEFAULT_TUNING))
    staff.tuning = None if tuning == DEFAULT_TUNING else tuning
    staff.capo = piece.capo
    if rng.random() < 0.5:
        staff.show = ("score", "tabs")
    else:
        staff.bars[0].key_signature = None
    return write_alphatex(score)


def generated_pieces(seed: int, split: str | None = None) -> Iterator[Piece]:
    """Endless generated pieces that a hand can play: all but the wild ones."""
    for candidate in piece_seeds(seed, split):
        piece = generate_piece(candidate)
        if piece.kind != "wild":
            yield piece


def find_edit(text: str, rng: random.Random) -> tuple[Program, tuple[str, ...], int]:
    """A program that this text allows, all operations as likely as the text lets them be.

    Returns:
        The program, the texts of `apply_steps`, the seed.

    Raises:
        EditError: None was found in a number of tries.
    """
    for _ in range(TRIES):
        program, seed = random_program(rng, unknown=0.0), rng.getrandbits(31)
        try:
            return program, tuple(apply_steps(text, program, seed)), seed
        except EditError:
            continue
    raise EditError(f"no edit of {TRIES} tried ones is possible")


def make_pair(piece: Piece, split: str, rng: random.Random, language: str | None = None) -> EditPair:
    """A pair of a piece, with an instruction in wordings of one split; it is judged before it is given out.

    Args:
        piece: Where the text comes from.
        split: Of the wordings.
        rng: Source of chance.
        language: `"zh"`, `"en"`, or `None` for either.

    Raises:
        EditError: The piece allows no edit.
        WrongEdit: The judge says no.
    """
    from ..train.metrics_edit import judge_chain

    text = piece_text(piece, rng)
    program, texts, seed = find_edit(text, rng)
    language = language or rng.choice(LANGUAGES)
    said = instruction(program, language, split, rng)
    verdict = judge_chain(texts, program)
    if not verdict.right:
        raise WrongEdit(f"{write_program(program)}: {verdict.why}")
    return EditPair(texts, said, language, program, seed, piece.piece_id, piece.source, piece.kind, split)


__all__ = ["EditPair", "WrongEdit", "find_edit", "generated_pieces", "make_pair", "piece_text"]
