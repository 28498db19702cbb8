"""What a prompt asks of music, as far as it can be looked up: plain words, musical terms, and images of the lexicon.

The music itself follows the text encoder, which knows far more words. This list only says what the music can be
compared with afterwards; it is the one that the captions of the training were made with, in English and Chinese.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from .processing.errors import InputError
from .processing.music_attributes import ATTRIBUTES, KEY_NAMES, MODES
from .processing.music_wishes import PROGRAM_FAMILIES, fulfilled, sides_kept

_NUMBERS = {
    "bpm": r"(\d{2,3})\s*(?:bpm\b|beats? (?:per|a) minute)|(?:\btempo|速度)(?: of|为|定在)?[\s:：=]*(\d{2,3})(?!\d)"
    r"|每分钟\s*(\d{2,3})\s*拍",
    "bars": r"(\d{1,5})[\s-]*(?:bars?|measures?)\b|(\d{1,5})\s*个?小节",
    "seconds": r"(\d{1,4})[\s-]*(?:seconds?\b|秒)",
}
_KEY = re.compile(
    r"(?<![a-z])([a-g])([#♯b♭]|[ -]?sharp|[ -]?flat)?[ -](major|minor)(?![a-z])|([升降]?)([a-g])([#♯b♭]?)\s*(大调|小调)"
)
#: What stands before a phrase and turns it into its opposite; it is then no wish that could be looked up.
_NEGATION = re.compile(
    r"(?:(?<![a-z])(?:not|no|never|without|less|isn't|don't)(?: (?:too|so|very|that|a|an|be|play it))*\s+"
    r"|(?:不要|不能|没有|[不没别无勿非])(?:太|很|那么|是|用)?)$"
)
_ALIKE = {"bpm": "tempo", "key": "mode"}  # a plain word about the first says all about the second


@dataclass(frozen=True)
class _Meaning:
    """What a phrase asks for: `stated` as `music_wishes.fulfilled` takes it, `sides` of an image."""

    stated: Mapping[str, Any] = field(default_factory=dict)
    sides: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Asked:
    """What a prompt asks for.

    Attributes:
        stated: As `music_wishes.fulfilled` takes it.
        sides: -1 or 1 by attribute, as `music_wishes.sides_kept` takes it.
        words: By attribute, the words that ask for it.
        notes: What was left out, and why.
    """

    stated: dict[str, Any] = field(default_factory=dict)
    sides: dict[str, int] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.stated or self.sides)

    def kept(self, values: Mapping[str, Any]) -> dict[str, bool]:
        """Whether a measurement is what was asked for, by attribute."""
        return {**fulfilled(self.stated, values), **sides_kept(self.sides, values)}


# --- The list of phrases ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def phrases() -> dict[str, _Meaning]:
    """All phrases, in lower case, and what they ask for."""
    from .datasets_scripts.caption_words import load_wordings
    from .datasets_scripts.imagery import load_lexicon

    stated: dict[str, Mapping[str, Any]] = {}
    for words in load_wordings().values():
        for name, entries in words["attributes"].items():
            for entry in entries:
                listed = [text for form, texts in entry.items() if form != "bins" for text in texts]
                fixed = [text.lower() for text in listed if "{" not in text]
                stated |= {text: {name: list(entry["bins"])} for text in fixed}
        for term in (*words["terms"]["head"], *words["terms"]["tail"]):
            stated.setdefault(term["text"].lower(), term["states"])
        stated |= {name.lower(): {"programs": [PROGRAM_FAMILIES[k]]} for k, name in enumerate(words["programs"])}
    found = {text: _Meaning(stated=states) for text, states in stated.items()}
    for image in load_lexicon():
        if image.category == "instruments":  # in a request they say who plays, not what it is like
            continue
        for text in (*image.english, *image.chinese):
            before = found.get(text.lower())
            found[text.lower()] = _Meaning(before.stated if before else {}, dict(image.sides))
    return found


@lru_cache(maxsize=1)
def _lengths() -> dict[str, list[int]]:
    """By first letter, how long phrases are, the longest first."""
    found: dict[str, set[int]] = {}
    for text in phrases():
        found.setdefault(text[0], set()).add(len(text))
    return {letter: sorted(lengths, reverse=True) for letter, lengths in found.items()}


# --- Finding them -----------------------------------------------------------------------------------------------------


def ask(text: str) -> Asked:
    """What a prompt asks for.

    The longest phrases are found first. Plain words go before images; where two of a kind contradict each other,
    neither is counted, and a note says so. So it is with what stands after a "not".
    """
    asked, rest = Asked(), unicodedata.normalize("NFKC", text).lower().replace("’", "'")
    stated: dict[str, list[tuple[Any, str]]] = {}
    sides: dict[str, list[tuple[int, str]]] = {}
    for name, pattern in _NUMBERS.items():
        for match in re.finditer(pattern, rest):
            stated.setdefault(name, []).append((int(next(filter(None, match.groups()))), match.group()))
            rest = _blank(rest, *match.span())
    for match in _KEY.finditer(rest):
        key, mode = _key_of(match)
        stated.setdefault("key", []).append(([key, key], match.group()))
        stated.setdefault("mode", []).append(([mode, mode], match.group()))
        rest = _blank(rest, *match.span())
    for start, stop, meaning in _matches(rest):
        words = rest[start:stop]
        negation = _NEGATION.search(rest[:start])
        if negation:
            asked.notes.append(f'"{negation.group().lstrip()}{words}" is not looked up: what it asks for is open')
            continue
        for name, wanted in meaning.stated.items():
            stated.setdefault(name, []).append((wanted, words))
        for name, side in meaning.sides.items():
            sides.setdefault(name, []).append((side, words))
    for name, wishes in stated.items():
        _state(asked, name, wishes)
    _settle_tempo(asked)
    for name, votes in sides.items():
        _suggest(asked, name, votes)
    return asked


def _blank(text: str, start: int, stop: int) -> str:
    return text[:start] + " " * (stop - start) + text[stop:]


def _matches(text: str) -> list[tuple[int, int, _Meaning]]:
    """Phrases in a text in lower case, from the left, the longest at each place."""
    known, lengths, found, at = phrases(), _lengths(), [], 0
    whole = re.sub(r"[^\w]", "", text)
    while at < len(text):
        step = 1
        if not (_is_latin(text[at]) and at and _is_latin(text[at - 1])):
            for length in lengths.get(text[at], ()):
                stop = at + length
                meaning = known.get(text[at:stop]) if stop <= len(text) else None
                # A single Chinese letter is part of too many other words.
                if meaning is None or (length == 1 and whole != text[at]):
                    continue
                end = stop
                if _is_latin(text[stop - 1]) and text[stop - 1].isalpha():
                    end += len(next((s for s in ("es", "s") if text.startswith(s, stop)), ""))
                ends = [e for e in (stop, end) if e >= len(text) or not (_is_latin(text[e - 1]) and _is_latin(text[e]))]
                if ends:
                    found.append((at, ends[0], meaning))
                    step = ends[0] - at
                    break
        at += step
    return found


def _is_latin(letter: str) -> bool:
    """Part of a word or number that is written between spaces."""
    return letter == "/" or (letter.isalnum() and ord(letter) < 0x2E80)


def _key_of(match: re.Match[str]) -> tuple[int, int]:
    """Numbers of tonic and mode."""
    english, sign, mode, before, chinese, after, chinese_mode = match.groups()
    tonic = "C D EF G A B".index((english or chinese).upper())
    mark = (sign or before or after or "").strip(" -")
    tonic += {"#": 1, "♯": 1, "sharp": 1, "升": 1, "b": -1, "♭": -1, "flat": -1, "降": -1}.get(mark, 0)
    return tonic % 12, MODES.index(mode) if mode else ("大调", "小调").index(chinese_mode)


def _state(asked: Asked, name: str, wishes: Sequence[tuple[Any, str]]) -> None:
    """What all plain words about one attribute ask for together."""
    words = list(dict.fromkeys(text for _, text in wishes))
    if name == "programs":
        families = {family for wanted, _ in wishes for family in wanted}
        asked.stated[name] = [family for family in PROGRAM_FAMILIES if family in families]
    elif name in ATTRIBUTES:
        low, high = max(wanted[0] for wanted, _ in wishes), min(wanted[1] for wanted, _ in wishes)
        if low > high:
            asked.notes.append(f"the words contradict each other about {name} ({_quoted(words)}): it is not counted")
            return
        asked.stated[name] = [low, high]
    else:
        if len({wanted for wanted, _ in wishes}) > 1:
            asked.notes.append(f"the words contradict each other about {name} ({_quoted(words)}): it is not counted")
            return
        asked.stated[name] = wishes[0][0]
    asked.words[name] = _quoted(words)


def _settle_tempo(asked: Asked) -> None:
    """A number of beats goes before a word such as slow."""
    tempo, bpm = asked.stated.get("tempo"), asked.stated.get("bpm")
    if tempo is None or bpm is None:
        return
    if not tempo[0] <= ATTRIBUTES["tempo"].bin_of(bpm) <= tempo[1]:
        asked.notes.append(
            f"the words contradict each other about tempo ({asked.words['tempo']}, {asked.words['bpm']}): "
            "the number is counted"
        )
        del asked.stated["tempo"], asked.words["tempo"]


def _suggest(asked: Asked, name: str, votes: Sequence[tuple[int, str]]) -> None:
    """The side that all images agree on, where no plain word speaks of the attribute."""
    words = list(dict.fromkeys(text for _, text in votes))
    plain = next((n for n in asked.stated if n == name or _ALIKE.get(n) == name), None)
    if plain and asked.words[plain] == _quoted(words):
        return  # the name of a form, such as a lullaby, that is also an image
    if plain:
        asked.notes.append(f"{name}: {asked.words[plain]} is counted, not what {_quoted(words)} suggests")
    elif len({side for side, _ in votes}) > 1:
        asked.notes.append(f"the images contradict each other about {name} ({_quoted(words)}): it is not counted")
    else:
        asked.sides[name], asked.words[name] = votes[0][0], _quoted(words)


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


# --- Odd texts --------------------------------------------------------------------------------------------------------

#: Writings that the packaged text encoder was made for, as Unicode's names of letters begin.
_READ_BY_USE = ("LATIN", "CJK", "HIRAGANA", "KATAKANA", "HANGUL", "ARABIC", "THAI", "CYRILLIC", "FULLWIDTH")


def spell_emoji(text: str) -> str:
    """A text in which pictures are spelt by their Unicode names: no text encoder has to know them."""
    found = []
    for letter in text:
        if unicodedata.category(letter) == "So":
            found.append(f" {unicodedata.name(letter, '').lower()} ")
        elif letter not in "\ufe0f\ufe0e\u200d" and not 0x1F3FB <= ord(letter) <= 0x1F3FF:
            found.append(letter)
    spelt = "".join(found)
    return " ".join(spelt.split()) if spelt != text else text


def unread_writing(text: str, text_encoder: str) -> str:
    """Writing of most letters, such as `Greek`, where the packaged text encoder was not made for it; else empty."""
    if text_encoder != "use":
        return ""
    writings = [
        unicodedata.name(letter, "?").partition(" ")[0].partition("-")[0] for letter in text if letter.isalpha()
    ]
    strange = [writing for writing in writings if writing not in _READ_BY_USE]
    return max(set(strange), key=strange.count).capitalize() if 2 * len(strange) > len(writings) else ""


def read_key(text: str) -> tuple[str, str | None]:
    """Tonic and, where it is given, mode of `A`, `F#`, `Bb minor`, `降E大调`.

    Raises:
        InputError: It is no key.
    """
    shown = unicodedata.normalize("NFKC", text).strip().lower()
    for ending, mode in (("", True), (" major", False)):
        match = _KEY.fullmatch(shown + ending)
        if match:
            tonic, number = _key_of(match)
            return KEY_NAMES[tonic], MODES[number] if mode else None
    raise InputError(None, f"the key can not be {text!r}; write it as A, F#, or 'Bb minor'")


def read_programs(text: str) -> list[int]:
    """General MIDI programs out of `0,24`, `piano,strings`, `drums` (-1), `钢琴`; a family stands for all of its eight.

    Raises:
        InputError: A name or number that does not exist.
    """
    from .datasets_scripts.caption_words import load_wordings

    names = {name: number for number, name in enumerate(PROGRAM_FAMILIES)}
    for words in load_wordings().values():
        names |= {name: number for number, name in enumerate(words["programs"])}
    found: set[int] = set()
    for part in filter(None, (piece.strip().lower() for piece in re.split("[,，、]", text))):
        if part in names:
            family = names[part]
            found |= {-1} if family == 16 else set(range(8 * family, 8 * family + 8))
        elif re.fullmatch(r"-1|\d{1,3}", part) and int(part) <= 128:
            found.add(-1 if part == "128" else int(part))
        else:
            raise InputError(
                None, f"there is no program {part!r}; write numbers 0 to 127, or {', '.join(PROGRAM_FAMILIES)}"
            )
    if not found:
        raise InputError(None, "--program names no instrument; write numbers 0 to 127, or piano, strings, drums ...")
    return sorted(found)


__all__ = ["Asked", "ask", "phrases", "read_key", "read_programs", "spell_emoji", "unread_writing"]
