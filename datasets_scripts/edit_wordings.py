"""Instructions for edits: how people say in Chinese or English what a line of the edit language says.

Every edit has many wordings, and the wordings of each are dealt to train, validation and test by a hash of their own
text: what a model is measured on are ways of asking that it has never seen (`wordings_of`). Words for numbers, keys,
tunings and styles are shared, as they are in life. `instruction` makes one; a program of several steps is said in one
sentence, all of it in wordings of the same split.
"""

from __future__ import annotations

import hashlib
import random
from functools import lru_cache
from types import ModuleType

from ..processing.edit_language import DOMAINS, UNKNOWN, EditStep, Program, contradiction
from . import edit_wordings_en, edit_wordings_zh

LANGUAGES = ("zh", "en")
SPLITS = ("train", "validation", "test")
BOOKS: dict[str, ModuleType] = {"zh": edit_wordings_zh, "en": edit_wordings_en}
_HELD_OUT = 5  # of so many wordings in the order of their hashes one is for testing, one for validation


def _rank(language: str, wording: str) -> bytes:
    return hashlib.sha256(f"{language}:{wording}".encode()).digest()


@lru_cache(maxsize=256)
def wordings_of(language: str, name: str, split: str) -> tuple[str, ...]:
    """Wordings of one edit in one split.

    Args:
        language: `"zh"` or `"en"`.
        name: A name of the books, such as `"style"` or `"time:double"`.
        split: `"train"`, `"validation"` or `"test"`; a wording is in just one of them.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    known = BOOKS[language].WORDINGS[name]
    order = sorted(known, key=lambda wording: _rank(language, wording))
    place = {wording: k % _HELD_OUT for k, wording in enumerate(order)}
    wanted = {"test": {0}, "validation": {1}, "train": set(range(2, _HELD_OUT))}[split]
    return tuple(wording for wording in known if place[wording] in wanted)


def names_of(step: EditStep) -> tuple[str, ...]:
    """Which entries of the books can say a step."""
    operation, argument = step.operation, step.argument
    if operation == "transpose":
        way = "up" if argument[0] == "+" else "down"
        # "one semitones" is nobody's English: a single one is said as an interval.
        return (f"transpose:{way} whole",) if argument[1:] == "1" else (f"transpose:{way}", f"transpose:{way} whole")
    if operation in ("capo", "recapo") and argument == "0":
        return (f"{operation}:off",)
    return (f"time:{argument}",) if operation == "time" else (operation,)


def key_name(language: str, name: str, rng: random.Random) -> str:
    """A key such as `f#m` in words."""
    book = BOOKS[language]
    minor = len(name) > 1 and name.endswith("m")
    tonic = name[:-1] if minor else name
    letter, sign = tonic[0].upper(), tonic[1:]
    if sign and rng.random() < 0.6:
        said = f"{book.LETTERS[sign]}{letter}" if book is edit_wordings_zh else f"{letter}{book.LETTERS[sign]}"
    else:
        said = f"{letter}{sign}"
    return rng.choice(book.MINOR if minor else book.MAJOR).format(l=said)


def fill_places(language: str, step: EditStep) -> dict[str, tuple[str, ...]]:
    """Spellings of a step's argument for each place of a wording but that of keys, which `key_name` makes."""
    book, argument = BOOKS[language], step.argument
    number = abs(int(argument)) if argument.lstrip("+-").isdecimal() else 0
    return {
        "n": book.NUMBERS.get(number, ()),
        "d": (str(number),),
        "o": edit_wordings_en.ORDINALS.get(number, ()),
        "w": book.INTERVALS.get(number, ()),
        "t": book.TUNINGS.get(argument, ()),
        "s": book.STYLES.get(argument, ()),
        "m": book.METRES.get(argument, ()),
    }


def _fill(language: str, wording: str, step: EditStep, rng: random.Random) -> str:
    """Puts an argument into its places, each time in one of its spellings."""
    places = fill_places(language, step)
    chosen = {}
    for name in "ndowktsm":  # this order, and no chance for digits: the wordings of an evaluation hang on it
        if "{" + name + "}" in wording:
            chosen[name] = (
                key_name(language, step.argument, rng) if name == "k"
                else places[name][0] if name == "d" else rng.choice(places[name])
            )  # fmt: skip
    return wording.format(**chosen)


def say_step(step: EditStep, language: str, split: str, rng: random.Random) -> str:
    """One step in words, without politeness."""
    names = names_of(step)
    choices = [wording for name in names for wording in wordings_of(language, name, split)]
    return _fill(language, rng.choice(choices), step, rng)


def instruction(program: Program, language: str, split: str, rng: random.Random) -> str:
    """A program as a person would ask for it, in wordings of one split.

    Args:
        program: One step or several; one `unknown` step is something that is no edit.
        language: `"zh"` or `"en"`.
        split: Of the wordings.
        rng: Source of chance.
    """
    book = BOOKS[language]
    said = [say_step(step, language, split, rng) for step in program]
    text = said[0] + "".join(rng.choice(book.JOINS) + part for part in said[1:])
    if rng.random() < 0.5:
        text = rng.choice(book.BEFORE) + text + rng.choice(book.AFTER)
    if language == "en":
        chance = rng.random()
        text = text[:1].upper() + text[1:] if chance < 0.3 else text.lower() if chance < 0.5 else text
    return text


def random_step(rng: random.Random) -> EditStep:
    """A step, all operations alike."""
    operation = rng.choice(list(DOMAINS))
    return EditStep(operation, rng.choice(DOMAINS[operation]))


def random_program(rng: random.Random, unknown: float = 0.1) -> Program:
    """A program as people ask for them: mostly one step, sometimes two, rarely three, that go together."""
    if rng.random() < unknown:
        return (EditStep(UNKNOWN),)
    steps = [random_step(rng)]
    for _ in range(rng.choices((0, 1, 2), (72, 23, 5))[0]):
        step = random_step(rng)
        if step.operation not in {s.operation for s in steps} and not contradiction([*steps, step]):
            steps.append(step)
    return tuple(steps)


def count_wordings() -> dict[str, dict[str, int]]:
    """Number of wordings by language and split."""
    return {
        language: {split: sum(len(wordings_of(language, name, split)) for name in book.WORDINGS) for split in SPLITS}
        for language, book in BOOKS.items()
    }


__all__ = [
    "BOOKS",
    "LANGUAGES",
    "SPLITS",
    "count_wordings",
    "fill_places",
    "instruction",
    "key_name",
    "names_of",
    "random_program",
    "random_step",
    "say_step",
    "wordings_of",
]
