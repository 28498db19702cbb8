"""Very many wordings of edits for training, out of templates; none of them is a wording that is held out.

A template is a line in which `(a|b|)` is a choice, `<name>` a list of words and `{n}` a place for an argument; one line
says thousands of sentences. The books' own wordings (`edit_wordings`) are still what validation and test are made of,
and `leaks` is what keeps the two apart: a sentence that holds a held-out wording, whatever its politeness, case, stops
and arguments, is thrown away and made anew. Held-out wordings of three English words or four Chinese characters and
more must not be in a sentence at all; shorter ones ("in 3/4") must not be the sentence.
"""

from __future__ import annotations

import random
import re
from functools import lru_cache

from ..processing.edit_language import EditStep, Program
from ..processing.processing_edit import plain
from . import edit_asks_en_form, edit_asks_en_pitch, edit_asks_zh_form, edit_asks_zh_pitch
from . import edit_templates_en as en
from . import edit_templates_zh as zh
from .edit_wordings import BOOKS, fill_places, instruction, key_name, names_of, wordings_of

_ASKS = {
    "zh": edit_asks_zh_pitch.ASKS | edit_asks_zh_form.ASKS,
    "en": edit_asks_en_pitch.ASKS | edit_asks_en_form.ASKS,
}
_PARTS = {"zh": zh, "en": en}
_KINDS = (0.55, 0.25, 0.2)  # commands, names of what is wanted, whole sentences
_LONG = {"zh": 4, "en": 3}
_TOKEN = re.compile(r"([(|)]|<[^<>]+>)")
#: Words that ask and say nothing, at the beginning or end of a sentence.
_POLITE_EN = frozenset(
    "please pls plz kindly can could would will you we i us me my want need like to d ll s just now ok okay hey hi "
    "hello let thanks thank thx for if so well right also this that do it have asap then cheers make the a an".split()
)
_POLITE_ZH = "请帮我麻烦能不可以想你给希望那个忙现在吧谢一下好吗拜托哦呗啊哈啦呢要就行把将它得更再来的了整首曲子这段"

Node = str | tuple[str, tuple["Node", ...]]


def _parse(template: str, words: dict[str, str]) -> Node:
    """A template as a tree of `("all", parts)` and `("one", choices)`."""
    stack: list[list[list[Node]]] = [[[]]]
    for token in _TOKEN.split(template):
        if token == "(":
            stack.append([[]])
        elif token == "|":
            stack[-1].append([])
        elif token == ")":
            choices = stack.pop()
            stack[-1][-1].append(("one", tuple(("all", tuple(choice)) for choice in choices)))
        elif token.startswith("<"):
            stack[-1][-1].append(_parse(words[token[1:-1]], words))
        elif token:
            stack[-1][-1].append(token)
    if len(stack) != 1 or len(stack[0]) != 1:
        raise ValueError(f"brackets do not close in {template!r}")
    return ("all", tuple(stack[0][0]))


def _expand(node: Node, rng: random.Random) -> str:
    if isinstance(node, str):
        return node
    kind, parts = node
    return "".join(_expand(part, rng) for part in parts) if kind == "all" else _expand(rng.choice(parts), rng)


def _count(node: Node) -> int:
    if isinstance(node, str):
        return 1
    total = 1 if node[0] == "all" else 0
    for part in node[1]:
        total = total * _count(part) if node[0] == "all" else total + _count(part)
    return total


@lru_cache(maxsize=512)
def _asks(language: str, name: str, kind: int) -> tuple[tuple[Node, ...], tuple[float, ...]]:
    """Trees of the templates of one entry and kind, and how often each is taken: more where it says more."""
    part = _PARTS[language]
    words = {**part.WORDS, **part.OWN_WORDS.get(name, {})}
    nodes = tuple(_parse(template, words) for template in _ASKS[language][name][kind])
    return nodes, tuple(_count(node) ** 0.15 for node in nodes)


@lru_cache(maxsize=64)
def _around(language: str, template: str) -> Node:
    return _parse(template, dict(_PARTS[language].WORDS))


def count_sentences() -> dict[str, int]:
    """Number of sentences that the templates can make, by language, without arguments and politeness."""
    return {
        language: sum(_count(node) for name in asks for kind in range(3) for node in _asks(language, name, kind)[0])
        for language, asks in _ASKS.items()
    }


def _units(language: str, text: str) -> list[str]:
    """Words of English, characters of Chinese, places for arguments as one word each; no stops, no case."""
    text = re.sub(r"\{[do]\}", "{n}", text)
    pattern = r"\{\w\}|[+-](?=\{|\d)|[a-z0-9#/]+" + ("|[^\\W_a-z0-9]" if language == "zh" else "|[^\\W_]+")
    return re.findall(pattern, plain(text))


def _bare(language: str, units: list[str]) -> tuple[str, ...]:
    """Units without what only asks politely, at both ends; none are left of "thank you"."""
    polite = _POLITE_EN if language == "en" else frozenset(_POLITE_ZH)
    start, end = 0, len(units)
    while start < end and units[start] in polite:
        start += 1
    while end > start and units[end - 1] in polite:
        end -= 1
    return tuple(units[start:end])


@lru_cache(maxsize=4)
def _held_out(language: str) -> tuple[tuple[str, ...], frozenset[tuple[str, ...]]]:
    """Long held-out wordings as lines of units, and all of them bare."""
    wordings = [
        _units(language, wording)
        for name in BOOKS[language].WORDINGS
        for split in ("test", "validation")
        for wording in wordings_of(language, name, split)
    ]
    long = tuple(f" {' '.join(units)} " for units in wordings if len(units) >= _LONG[language])
    return long, frozenset(_bare(language, units) for units in wordings)


def leaks(language: str, text: str) -> bool:
    """Whether a sentence, with its places for arguments still open, is or holds a held-out wording."""
    units = _units(language, text)
    long, short = _held_out(language)
    line = f" {' '.join(units)} "
    return _bare(language, units) in short or any(wording in line for wording in long)


def _clause(name: str, language: str, rng: random.Random, polite: float) -> str:
    """One wish with open places, with something around it in so many cases."""
    part = _PARTS[language]
    kind = rng.choices(range(3), _KINDS)[0]
    nodes, weights = _asks(language, name, kind)
    text = _expand(rng.choices(nodes, weights)[0], rng)
    if rng.random() < polite:
        text = _expand(_around(language, part.BEFORE[kind]), rng) + text
    if rng.random() < polite:
        text += _expand(_around(language, part.AFTER[kind]), rng)
    return text


def _key(language: str, name: str, rng: random.Random) -> str:
    """A key in one of its spellings."""
    part = _PARTS[language]
    minor = len(name) > 1 and name.endswith("m")
    tonic = name[:-1] if minor else name
    letter = tonic[0].upper() if rng.random() < 0.9 else tonic[0]
    said = rng.choice(part.SIGNS[tonic[1:]]).format(l=letter)
    return rng.choice(part.MINOR if minor else part.MAJOR).format(l=said)


def _fill(language: str, text: str, step: EditStep, rng: random.Random) -> str:
    """Puts an argument into its places: a spelling of the books or of the templates."""
    part, argument = _PARTS[language], step.argument
    places = fill_places(language, step)
    number = argument.lstrip("+-")

    def one(name: str) -> str:
        if name == "k":
            return _key(language, argument, rng) if rng.random() < 0.6 else key_name(language, argument, rng)
        more = part.FILLS.get(name, {}).get(number, ())
        return rng.choice((*places[name], *more))

    filled = re.sub(r"\{(\w)\}", lambda found: one(found[1]), text)
    if language == "en":  # two articles in a row come of spellings that bring their own
        filled = re.sub(r"\b(?:an?|the|some|my) (an?|the|some) ", r"\1 ", filled)
    return filled


def _wish(step: EditStep, language: str, rng: random.Random, polite: float) -> str:
    name = rng.choice(names_of(step))
    while True:
        text = _clause(name, language, rng, polite)
        if not leaks(language, text):
            return _fill(language, text, step, rng)


def templated(program: Program, language: str, rng: random.Random, plain_books: float = 0.25) -> str:
    """A program as a person would ask for it, for training.

    Args:
        program: One step or several; one `unknown` step is something that is no edit.
        language: `"zh"` or `"en"`.
        rng: Source of chance.
        plain_books: Part of the instructions that are wordings of the books' own training split.
    """
    if rng.random() < plain_books:
        return instruction(program, language, "train", rng)
    part = _PARTS[language]
    several = len(program) > 1
    text = _expand(rng.choice(part.FIRST), rng) if several else ""
    for place, step in enumerate(program):
        if rng.random() < (0.25 if several else 0.1):
            said = instruction((step,), language, "train", rng)
        else:
            said = _wish(step, language, rng, 0.2 if several else 0.3)
        text += (rng.choice(part.JOINS) if place else "") + said
    if rng.random() < 0.1:
        text = _expand(_around(language, part.START), rng) + text
    chance = rng.random()
    if language == "en":
        text = " ".join(text.split())
        text = text[:1].upper() + text[1:] if chance < 0.3 else text.lower() if chance < 0.6 else text
    return text + (rng.choice("!。." if language == "zh" else "..!?") if rng.random() < 0.2 else "")


__all__ = ["count_sentences", "leaks", "templated"]
