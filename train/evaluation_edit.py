"""Evaluator of edits: held-out pieces, instructions in held-out wordings, judged by what comes out.

An instruction counts as right when what the model understood, carried out on the piece, parses, closes, is playable,
has the asked property and keeps the melody where it should be. The control gives each piece the instruction of another:
a figure far above it says that the instruction decides.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from ..datasets_scripts.edit_pairs import EditPair, WrongEdit, generated_pieces, make_pair
from ..datasets_scripts.edit_programs import apply_steps
from ..datasets_scripts.edit_wordings import LANGUAGES, instruction
from ..processing.edit_language import UNKNOWN, EditStep, contradiction, write_program
from ..processing.errors import InputError
from ..processing.processing_edit import MIN_CHANCE, Understanding
from .edit_data import understand
from .evaluation_report import EvaluationReport, Failure, Target
from .metrics_common import proportion
from .metrics_edit import EditVerdict, judge_chain

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest

TARGETS = {"edit_right": Target(0.9), "edit_right_zh": Target(0.9), "edit_right_en": Target(0.9)}
REFUSALS = 60  # instructions in each language that are no edit


def load_edit_model(checkpoint: str, device: str = "cpu") -> tuple[Any, Any]:
    """Model and processor.

    Raises:
        InputError: There is none.
    """
    import torch
    from transformers.utils import logging

    from ..modeling.modeling_edit import ScoreEditModel
    from ..processing.processing_edit import ScoreEditProcessor

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    logging.disable_progress_bar()  # loading takes no time; its bar would stand between the person's own lines
    try:
        model = ScoreEditModel.from_pretrained(checkpoint, dtype=torch.float32).to(device).eval()
        return model, ScoreEditProcessor.from_pretrained(checkpoint)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            checkpoint, f"holds no model of edits that loads on {device} ({why}); train one with `train edit`"
        ) from error


def held_out_pairs(count: int, seed: int, track: Any = iter) -> tuple[list[EditPair], list[Failure]]:
    """Edits of pieces of the test split in wordings of the test split, as many in Chinese as in English."""
    pairs: list[EditPair] = []
    failures: list[Failure] = []
    pieces = generated_pieces(seed, "test")
    for number in track(range(count)):
        while True:
            piece = next(pieces)
            rng = random.Random(f"{seed} {piece.piece_id}")
            try:
                pairs.append(make_pair(piece, "test", rng, LANGUAGES[number % 2]))
                break
            except WrongEdit as error:
                failures.append(Failure(piece.piece_id, "truth", str(error)))
            except InputError:  # a piece that allows no edit
                continue
    return pairs, failures


def outcome(pair: EditPair, found: Understanding) -> EditVerdict:
    """What comes of a piece when an instruction is taken for something, judged by what was asked for."""
    if found.chance < MIN_CHANCE or not found.program:
        return EditVerdict(why="refused: not understood")
    if any(step.operation == UNKNOWN for step in found.program) or contradiction(found.program):
        return EditVerdict(why=f"refused: {write_program(found.program)}")
    try:
        return judge_chain(apply_steps(pair.before, found.program, pair.seed), pair.program)
    except InputError as error:
        return EditVerdict(why=f"refused by the program: {error}")


def evaluate_edit(request: EvaluationRequest, quick: bool = False) -> EvaluationReport:
    """Measures a model of edits.

    Args:
        request: `n` edits; `data` is not used: pieces and wordings come from the seed.
        quick: Leave out the table by operation.

    Returns:
        `edit_right` (n ≥ 300 asked for), by language, `understood` to the letter, the control, and how often what is
        no edit is refused.
    """
    import torch

    model, processor = load_edit_model(request.checkpoint)
    pairs, failures = held_out_pairs(request.n, request.seed, lambda r: request.track(r, "making edits", request.n))
    found = understand(model, processor, [pair.instruction for pair in pairs])
    verdicts = [outcome(p, f) for p, f in zip(pairs, found, strict=True)]
    other = [_another(pairs, i) for i in range(len(pairs))]
    control = [outcome(pairs[i], found[k]).right for i, k in enumerate(other) if k != i]
    groups = [pair.piece_id for pair in pairs]
    right = [verdict.right for verdict in verdicts]
    figures = {"edit_right": proportion(right, groups, "edits")}
    for language in LANGUAGES:
        own = [good for good, pair in zip(right, pairs, strict=True) if pair.language == language]
        figures[f"edit_right_{language}"] = proportion(own, None, "edits")
    letter = [sorted(f.program) == sorted(p.program) for f, p in zip(found, pairs, strict=True)]
    figures["understood"] = proportion(letter, groups, "instructions")
    figures["control_shuffled_instruction"] = proportion(control, None, "edits")
    sections = {"no edits": _refusals(model, processor, request.seed)}
    if not quick:
        sections["by operation"] = _by_operation(pairs, right)
        sections["by steps"] = {
            f"{count} steps": proportion(
                [g for g, p in zip(right, pairs, strict=True) if len(p.program) == count], None, "edits"
            )
            for count in (1, 2, 3)
        }
    wrong = [
        f"{p.instruction!r}: asked for {write_program(p.program)}, taken for {write_program(f.program)}"
        for p, f, good in zip(pairs, found, right, strict=True)
        if not good
    ]
    notes = [
        "The model understands the instruction; a program carries it out. Pieces and wordings are held out.",
        f"Threads {torch.get_num_threads()}. First of those that went wrong: " + (" · ".join(wrong[:5]) or "none"),
    ]
    return EvaluationReport(
        request.stem, request.checkpoint, f"{len(pairs)} edits of generated test pieces in held-out wordings",
        len(pairs), request.seed, figures, sections, dict(TARGETS), failures, notes,
        task="text-generation", dataset_type="score_edits",
    )  # fmt: skip


def _another(pairs: list[EditPair], index: int) -> int:
    """The next pair in the same language that asks for something else; the pair itself where there is none."""
    following = (*range(index + 2, len(pairs), 2), *range(index % 2, index, 2))
    return next((k for k in following if pairs[k].program != pairs[index].program), index)


def _refusals(model: Any, processor: Any, seed: int) -> dict[str, Any]:
    """How often what is no edit is refused, in held-out wordings."""
    rng = random.Random(f"{seed} refusals")
    figures = {}
    for language in LANGUAGES:
        texts = [instruction((EditStep(UNKNOWN),), language, "test", rng) for _ in range(REFUSALS)]
        found = understand(model, processor, texts)
        refused = [f.chance < MIN_CHANCE or not f.program or f.program[0].operation == UNKNOWN for f in found]
        figures[f"refused_{language}"] = proportion(refused, None, "instructions")
    return figures


def _by_operation(pairs: list[EditPair], right: list[bool]) -> dict[str, Any]:
    names = sorted({step.operation for pair in pairs for step in pair.program})
    return {
        name: proportion(
            [g for g, p in zip(right, pairs, strict=True) if name in {s.operation for s in p.program}], None, "edits"
        )
        for name in names
    }


__all__ = ["TARGETS", "evaluate_edit", "held_out_pairs", "load_edit_model", "outcome"]
