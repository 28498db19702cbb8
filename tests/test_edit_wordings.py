"""Wordings of edits: many, apart by split, and each says what its program says."""

from __future__ import annotations

import random
import re

import pytest

from intermezzo.datasets_scripts import edit_wordings_en, edit_wordings_zh
from intermezzo.datasets_scripts.edit_wordings import (
    LANGUAGES,
    SPLITS,
    count_wordings,
    instruction,
    names_of,
    random_program,
    wordings_of,
)
from intermezzo.processing.edit_language import (
    ARGUMENTS,
    DOMAINS,
    MAX_STEPS,
    OPERATIONS,
    UNKNOWN,
    EditStep,
    check_program,
    looks_like_program,
    parse_program,
    write_program,
)
from intermezzo.processing.errors import InputError

BOOKS = {"zh": edit_wordings_zh, "en": edit_wordings_en}
ALL_STEPS = [EditStep(name, argument) for name, domain in DOMAINS.items() for argument in domain]


@pytest.mark.parametrize("language", LANGUAGES)
def test_splits_of_wordings_are_disjoint_and_none_is_empty(language: str) -> None:
    for name, known in BOOKS[language].WORDINGS.items():
        parts = [set(wordings_of(language, name, split)) for split in SPLITS]
        assert all(parts), name
        assert sum(map(len, parts)) == len(set(known)) == len(known), name
        assert set().union(*parts) == set(known)


def test_the_books_say_the_same_edits_and_no_sentence_twice() -> None:
    assert BOOKS["zh"].WORDINGS.keys() == BOOKS["en"].WORDINGS.keys()
    for book in BOOKS.values():
        said = [wording for wordings in book.WORDINGS.values() for wording in wordings]
        assert len(said) == len(set(said)), "one sentence for two edits"
        assert min(map(len, book.WORDINGS.values())) >= 10
    assert min(min(counts.values()) for counts in count_wordings().values()) >= 50


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_step_can_be_said_in_every_split(language: str) -> None:
    for step in ALL_STEPS:
        for split in SPLITS:
            said = instruction((step,), language, split, random.Random(str(step)))
            assert said.strip() and not re.search(r"[{}]", said), (step, said)
    assert {name for step in ALL_STEPS for name in names_of(step)} | {UNKNOWN} == set(BOOKS[language].WORDINGS)


def test_the_argument_is_in_the_words() -> None:
    for number in range(2, 13):
        said = instruction((EditStep("capo", str(min(number, 9))),), "en", "test", random.Random(number)).lower()
        words = (*BOOKS["en"].NUMBERS[min(number, 9)], *BOOKS["en"].ORDINALS[min(number, 9)])
        assert any(word in said for word in words), said
    up = instruction((EditStep("transpose", "+7"),), "zh", "train", random.Random(1))
    assert any(word in up for word in ("7", "七", "五度")) and not set("降下") & set(up)


def test_programs_are_varied_and_go_together() -> None:
    rng = random.Random(3)
    programs = [random_program(rng) for _ in range(3000)]
    assert {step.operation for program in programs for step in program} == set(OPERATIONS)
    lengths = [len(program) for program in programs]
    assert max(lengths) == MAX_STEPS and lengths.count(1) > lengths.count(2) > lengths.count(3) > 0
    for program in programs:
        if program[0].operation != UNKNOWN:
            check_program(program)
            assert parse_program(write_program(program)) == program


def test_the_language_reads_what_it_writes_and_refuses_the_rest() -> None:
    for step in ALL_STEPS:
        assert parse_program(str(step)) == (step,) and looks_like_program(str(step))
    assert parse_program("transpose 2 ; STYLE Rock") == (EditStep("transpose", "+2"), EditStep("style", "rock"))
    for wrong in ("", "transpose", "transpose +13", "style jazz", "melody 3", "up two", "capo 1 2", "unknown x", "a;b"):
        with pytest.raises(ValueError, match=r"\S"):
            parse_program(wrong)
        assert not looks_like_program(wrong)
    assert not looks_like_program("unknown")
    with pytest.raises(ValueError, match="at most 3"):
        parse_program("capo 1; melody; style rock; simplify")
    for program in ((), (EditStep(UNKNOWN),)):
        with pytest.raises(InputError, match="there are the edits"):
            check_program(program)
    assert len(set(ARGUMENTS)) == len(ARGUMENTS)
