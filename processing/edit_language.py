"""The language of edits: short lines that say exactly what is done to a piece.

    transpose +2                one step: an operation and, where it takes one, its argument
    style rock; capo 3          several steps, carried out from left to right

An instruction in Chinese or English is *understood* by a model, which writes such a line; the line is then *carried
out* by a program (`datasets_scripts.edit_programs`), so that what an edit promises holds exactly. A person may write
the line as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import InputError

NO_ARGUMENT = "-"
_MAJORS = "c db d eb e f f# g ab a bb b"
_MINORS = "cm c#m dm ebm em fm f#m gm g#m am bbm bm"
#: Operation to the arguments it takes, in the order of the model's classes: append, never insert.
DOMAINS: dict[str, tuple[str, ...]] = {
    "transpose": tuple(f"{n:+d}" for n in (*range(-12, 0), *range(1, 13))),
    "key": tuple(f"{_MAJORS} {_MINORS}".split()),
    "capo": tuple(str(n) for n in range(10)),
    "recapo": tuple(str(n) for n in range(10)),
    "tuning": tuple("standard drop-d half-step-down d-standard drop-c dadgad open-g open-d".split()),
    "position": tuple(str(n) for n in range(1, 13)),
    "style": tuple("rock punk metal blues folk bossa reggae".split()),
    "simplify": (NO_ARGUMENT,),
    "time": ("double", "half"),
    "bass": (NO_ARGUMENT,),
    "melody": (NO_ARGUMENT,),
    "metre": tuple("2/4 3/4 4/4 5/4 6/8 7/8 9/8 12/8".split()),
}
#: What each operation does, in one line, for messages and documents.
MEANINGS = {
    "transpose": "move every note by so many semitones",
    "key": "move every note, by the shorter way, so that the key signature is that of this key",
    "capo": "put the capo at this fret; the shapes stay, the sound moves (0 takes it off)",
    "recapo": "put the capo at this fret; the sound stays, the frets move (0 takes it off)",
    "tuning": "write it for another tuning; the sound stays, the frets move",
    "position": "play the same notes near this fret",
    "style": "play its melody or its chords in this style",
    "simplify": "no ornaments, small chords, nothing shorter than an eighth",
    "time": "all notes twice as fast, or half as fast",
    "bass": "add a bass voice under it",
    "melody": "keep only the highest line",
    "metre": "the same notes under other bar lines",
}
UNKNOWN = "unknown"
OPERATIONS = (*DOMAINS, UNKNOWN)
ARGUMENTS = tuple(dict.fromkeys(argument for domain in DOMAINS.values() for argument in domain))
MAX_STEPS = 3
# Operations that decide the same thing: two of one row contradict each other.
_ONE_OF = (("transpose", "key"), ("capo", "recapo"), ("tuning",), ("position",), ("style",), ("time",), ("metre",))
_EXCLUDE = ((("bass", NO_ARGUMENT), ("melody", NO_ARGUMENT)),)


@dataclass(frozen=True, slots=True, order=True)
class EditStep:
    """One step of an edit.

    Attributes:
        operation: A name of `DOMAINS`, or `"unknown"` for what is no edit.
        argument: One of the operation's arguments; `"-"` where it takes none.

    Raises:
        ValueError: The operation does not exist or does not take the argument.
    """

    operation: str
    argument: str = NO_ARGUMENT

    def __post_init__(self) -> None:
        domain = (NO_ARGUMENT,) if self.operation == UNKNOWN else DOMAINS.get(self.operation)
        if domain is None:
            raise ValueError(f"there is no edit {self.operation!r}; there are {', '.join(DOMAINS)}")
        if self.argument not in domain:
            given = "nothing" if self.argument == NO_ARGUMENT else repr(self.argument)
            raise ValueError(f"{self.operation} takes {' '.join(domain).replace(NO_ARGUMENT, 'nothing')}, not {given}")

    def __str__(self) -> str:
        return self.operation if self.argument == NO_ARGUMENT else f"{self.operation} {self.argument}"


Program = tuple[EditStep, ...]


def write_program(program: Sequence[EditStep]) -> str:
    """The canonical line of a program."""
    return "; ".join(map(str, program))


def parse_program(line: str) -> Program:
    """Reads a line of the language.

    Raises:
        ValueError: It is none; the message says which word does not fit.
    """
    steps = []
    for part in line.strip().lower().split(";"):
        words = part.split()
        if not words or len(words) > 2:
            raise ValueError(f"{part.strip()!r} is no step such as 'transpose +2'")
        argument = words[1] if len(words) == 2 else NO_ARGUMENT
        if words[0] == "transpose" and argument.isdecimal():
            argument = f"+{argument}"
        steps.append(EditStep(words[0], argument))
    if len(steps) > MAX_STEPS:
        raise ValueError(f"{len(steps)} steps, at most {MAX_STEPS} are possible")
    return tuple(steps)


def looks_like_program(text: str) -> bool:
    """Whether a person meant a line of the language: it starts with an operation and holds nothing else."""
    try:
        return UNKNOWN not in {step.operation for step in parse_program(text)}
    except ValueError:
        return False


def contradiction(program: Sequence[EditStep]) -> str | None:
    """Two steps that can not both be meant, as words; `None` when there are none."""
    for place, one in enumerate(program):
        for other in program[place + 1 :]:
            together = any(one.operation in row and other.operation in row for row in _ONE_OF)
            pair = ((one.operation, one.argument), (other.operation, other.argument))
            if (together and one != other) or pair in _EXCLUDE or pair[::-1] in _EXCLUDE:
                return f"'{one}' and '{other}'"
    return None


def check_program(program: Sequence[EditStep]) -> None:
    """Refuses what can not be carried out.

    Raises:
        InputError: Nothing to do, something that is no edit, or steps that contradict each other.
    """
    known = ", ".join(DOMAINS)
    if not program:
        raise InputError(None, f"the instruction says nothing to do; there are the edits {known}")
    if any(step.operation == UNKNOWN for step in program):
        raise InputError(None, f"the instruction is none that this can carry out; there are the edits {known}")
    if clash := contradiction(program):
        raise InputError(None, f"the instruction contradicts itself: {clash}; ask for one of them")


__all__ = [
    "ARGUMENTS",
    "DOMAINS",
    "MAX_STEPS",
    "MEANINGS",
    "NO_ARGUMENT",
    "OPERATIONS",
    "UNKNOWN",
    "EditStep",
    "Program",
    "check_program",
    "contradiction",
    "looks_like_program",
    "parse_program",
    "write_program",
]
