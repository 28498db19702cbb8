"""Templates of wishes: very many sentences, each says what its program says, and none is held out for the test."""

from __future__ import annotations

import random
import re
from functools import lru_cache

import pytest

from intermezzo.datasets_scripts import edit_templates
from intermezzo.datasets_scripts.edit_templates import count_sentences, leaks, templated
from intermezzo.datasets_scripts.edit_wordings import (
    BOOKS,
    LANGUAGES,
    fill_places,
    instruction,
    key_name,
    names_of,
    random_program,
    wordings_of,
)
from intermezzo.processing.edit_language import DOMAINS, UNKNOWN, EditStep
from intermezzo.processing.processing_edit import plain
from intermezzo.train.edit_data import Instructions

ALL_STEPS = [EditStep(name, argument) for name, domain in DOMAINS.items() for argument in domain]
NAMES = sorted(BOOKS["en"].WORDINGS)


def held_out(language: str) -> list[tuple[str, str]]:
    """Name of the entry and wording, of test and validation."""
    return [(n, w) for n in NAMES for split in ("test", "validation") for w in wordings_of(language, n, split)]


def letters(text: str) -> str:
    """Words of a text, a space between; Chinese without any."""
    return " ".join(re.findall(r"[a-z0-9#/+-]+|[^\W_a-z0-9]", plain(text)))


@lru_cache(maxsize=256)
def fillings(language: str, place: str, name: str) -> str:
    """All spellings of the arguments of one entry as a regular expression."""
    said = set()
    for step in ALL_STEPS:
        if name in names_of(step) and place == "k":
            said |= {key_name(language, step.argument, random.Random(i)) for i in range(40)}
        elif name in names_of(step):
            said |= set(fill_places(language, step)[place])
    return "(?:" + "|".join(re.escape(letters(one)) for one in sorted(said, key=len, reverse=True)) + ")"


@lru_cache(maxsize=4)
def long_wordings(language: str) -> list[re.Pattern[str]]:
    """Held-out wordings that no training sentence may hold, whatever stands in their places."""
    least = {"zh": 4, "en": 3}[language]
    found = []
    for name, wording in held_out(language):
        if len(edit_templates._units(language, wording)) < least:
            continue
        pieces = re.split(r"\{(\w)\}", wording)
        parts = [fillings(language, p, name) if k % 2 else re.escape(letters(p)) for k, p in enumerate(pieces)]
        found.append(re.compile(r"\b" + r"\ ?".join(filter(None, parts)) + r"\b"))
    return found


def test_there_are_very_many_and_every_edit_has_all_kinds() -> None:
    assert min(count_sentences().values()) > 1_000_000
    for language in LANGUAGES:
        assert sorted(edit_templates._ASKS[language]) == NAMES
        for name in NAMES:
            for kind in range(3):
                nodes, weights = edit_templates._asks(language, name, kind)
                assert len(nodes) == len(weights) >= 2, (language, name, kind)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_held_out_wording_is_known_as_such_however_it_is_asked_for(language: str) -> None:
    book = BOOKS[language]
    for place, (name, wording) in enumerate(held_out(language)):
        rng = random.Random(place)
        shown = rng.choice(book.BEFORE) + wording + rng.choice(book.AFTER)
        for said in (wording, wording.upper().replace("{N}", "{n}"), f"  {wording}!", shown):
            opened = re.sub(r"\{(\w)\}", lambda found: found[0].lower(), said)
            assert leaks(language, opened), (name, opened)


@pytest.mark.parametrize("language", LANGUAGES)
def test_wordings_of_training_are_not_taken_for_held_out_ones(language: str) -> None:
    own = [wording for name in NAMES for wording in wordings_of(language, name, "train")]
    assert sum(leaks(language, wording) for wording in own) < 0.12 * len(own)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_training_sentence_of_the_templates_holds_a_held_out_wording(language: str) -> None:
    rng = random.Random(4)
    patterns = long_wordings(language)
    said = [letters(edit_templates._wish(rng.choice(ALL_STEPS), language, rng, 0.5)) for _ in range(1200)]
    whole = "\n".join(said)
    found = [(p.pattern[:60], m[0]) for p in patterns for m in [p.search(whole)] if m]
    assert not found
    assert any(p.search(letters(instruction((step,), language, "test", random.Random(1)))) for p in patterns
               for step in ALL_STEPS[::9])  # fmt: skip  # the search can find


def test_a_held_out_wording_that_the_templates_can_make_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    wording = next(w for n, w in held_out("en") if n == "melody" and len(w.split()) > 2)
    offered = iter([wording, f"please {wording.upper()}!", "only the tune"])
    monkeypatch.setattr(edit_templates, "_clause", lambda *_: next(offered))
    assert edit_templates._wish(EditStep("melody"), "en", random.Random(0), 0.0) == "only the tune"


@pytest.mark.parametrize("language", LANGUAGES)
def test_one_sentence_never_asks_for_two_edits(language: str) -> None:
    meant: dict[str, str] = {}
    for name in NAMES:
        for place in range(400):
            said = letters(edit_templates._clause(name, language, random.Random(place), 0.0))
            edit = name.replace(" whole", "")
            assert meant.setdefault(said, edit) == edit, said


def test_directions_and_speeds_are_not_mixed_up() -> None:
    wrong = {
        ("en", "transpose:up"): r"\b(down|lower|downwards?|drop|reduce)\b",
        ("en", "transpose:down"): r"\b(up|higher|upwards?|raise|lift)\b",
        ("zh", "transpose:up"): "降|下|压",
        ("zh", "transpose:down"): "升|上|提",
        ("zh", "time:double"): "慢|半速",
        ("zh", "time:half"): "快|两倍速",
    }
    for (language, name), pattern in wrong.items():
        for place in range(300):
            said = edit_templates._clause(name, language, random.Random(place), 0.0)
            said = re.sub("基础上|比较上", "", said)
            assert not re.search(pattern, said.lower()), (name, said)


def test_instructions_hold_their_arguments_and_are_nearly_all_different() -> None:
    rng = random.Random(9)
    said = []
    for _ in range(600):
        program = random_program(rng)
        text = templated(program, rng.choice(LANGUAGES), rng, plain_books=0.0)
        assert text.strip() and not re.search(r"[{}<>|()]", text), text
        said.append(text)
    assert len(set(said)) > 0.97 * len(said)
    seven = [templated((EditStep("capo", "7"),), "en", random.Random(i), 0.0) for i in range(60)]
    assert all(re.search("7|seven", text) for text in seven)
    keys = [templated((EditStep("key", "f#m"),), "zh", random.Random(i), 0.0) for i in range(60)]
    assert all(re.search("[fF]", text) and re.search("小|m", text) for text in keys)


def test_training_is_of_templates_and_evaluation_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intermezzo.train.edit_data.templated", lambda *_: "made of a template")
    assert {Instructions(9, "train")[i][0] for i in range(9)} == {"made of a template"}
    for split in ("validation", "test"):
        texts = {Instructions(9, split)[i][0] for i in range(9)}
        assert "made of a template" not in texts
    train = Instructions(300, "train")
    several = sum(len(train[i][1]) > 1 for i in range(300))
    assert 80 < several < 180 and any(train[i][1][0].operation == UNKNOWN for i in range(300))


def test_every_step_has_a_template_for_its_name() -> None:
    assert {name for step in ALL_STEPS for name in names_of(step)} | {UNKNOWN} == set(NAMES)
    with pytest.raises(ValueError, match="brackets"):
        edit_templates._parse("(a|b", {})
