"""Words for music: captions in English and Chinese, put together out of what was measured.

`caption_wordings.json` holds the words: for every class of every attribute its phrases in each grammatical form, and
frames that a whole caption is made with. A caption chooses some of the statements that are true of the piece, a frame,
and for each statement a phrase in the form that the frame needs; so any set of attributes makes a sentence. What it
states is kept beside it (see `music_wishes.fulfilled`), and nobody has to parse it again.

Forms in English: `adj` fast · `in` at a fast tempo · `with` a fast tempo · `clause` the tempo is fast · `wish` play it
fast · `tag` fast tempo. In Chinese: `mod` 速度快 · `tag` 快速 · `wish` 速度要快 · `pre` D小调, right before the noun.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from ..processing.music_attributes import ATTRIBUTES, KEY_NAMES, MODES
from ..processing.music_wishes import PROGRAM_FAMILIES, UNMARKED_DYNAMICS
from .imagery import Image

WORDINGS = Path(__file__).with_name("caption_wordings.json")
LANGUAGES = ("en", "zh")
#: A key is not spoken of when it correlates less than this with its profile: the piece may well be in another.
MIN_KEY_FIT = 0.7
# How often each attribute is chosen, against the others.
_WEIGHTS = {"metre": 0.5, "key": 0.7, "range": 0.4, "polyphony": 0.5, "bpm": 0.4, "bars": 0.4, "seconds": 0.15}
_MIDDLE_WEIGHT = 0.4  # people seldom say that something is medium
_SAME_THING = ({"tempo", "bpm"}, {"key", "mode"}, {"bars", "seconds"})  # one of each is enough for a caption
_NAMED = ("key", "mode", "metre", "bpm", "bars", "seconds", "programs")
_PLAIN_ATTRIBUTES = ("tempo", "density", "register", "dynamics", "sustain", "leaps", "mode")


@dataclass(frozen=True)
class Caption:
    """A caption.

    Attributes:
        text: The words.
        language: `en` or `zh`.
        kind: `plain`, `template`, `terms`, `imagery` or `mixed`.
        frame: The frame or title it was made with.
        stated: What it states, as `music_wishes.fulfilled` takes it.
        sides: What its image suggests, -1 or 1 by attribute.
        image: Name of that image, empty for none.
    """

    text: str
    language: str
    kind: str
    frame: str
    stated: dict[str, Any] = field(default_factory=dict)
    sides: dict[str, int] = field(default_factory=dict)
    image: str = ""


@dataclass(frozen=True)
class Statement:
    """Something true of a piece, and its phrases by grammatical form."""

    name: str
    states: Mapping[str, Any]
    forms: Mapping[str, Sequence[str]]
    weight: float


@lru_cache(maxsize=2)
def load_wordings(path: str | Path = WORDINGS) -> dict[str, Any]:
    """Words by language.

    Raises:
        InputError: The file can not be read.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, "can not be read as JSON; restore the file that comes with the package") from error


def sayable(values: Mapping[str, Any]) -> dict[str, Any]:
    """A measurement without what should not be spoken of: loudness of scores without marks, and doubtful keys."""
    said = dict(values)
    dynamics, fit = said.get("dynamics"), said.get("key_fit")
    if dynamics is not None and abs(dynamics - UNMARKED_DYNAMICS) < 1e-3:
        said["dynamics"] = None
    if fit is None or fit < MIN_KEY_FIT:
        said["key"] = said["mode"] = None
    if said.get("metre") is not None and said["metre"] not in ATTRIBUTES["metre"].classes:
        said["metre"] = "other"
    return said


def key_name(language: str, key: str, mode: str) -> str:
    """`D-flat major`, `升C小调`: the usual name of each of the 24 keys."""
    words = load_wordings()[language]
    tonic, kind = words["keys"][mode][KEY_NAMES.index(key)], words["modes"][MODES.index(mode)]
    return f"{tonic}{kind}" if language == "zh" else f"{tonic} {kind}"


def _listed(language: str, parts: Sequence[str]) -> str:
    """`a, b and c`."""
    if language == "zh":
        return "、".join(parts)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _special(language: str, values: Mapping[str, Any]) -> dict[str, tuple[dict[str, Any], str]]:
    """Statements with a number or a name in them: what each states, and the text that fills it in."""
    found: dict[str, tuple[dict[str, Any], str]] = {}
    if values.get("key") is not None and values.get("mode") is not None:
        key, mode = KEY_NAMES.index(values["key"]), MODES.index(values["mode"])
        found["key"] = ({"key": [key, key], "mode": [mode, mode]}, key_name(language, values["key"], values["mode"]))
    tempo, seconds = values.get("tempo"), values.get("seconds")
    if tempo is not None and 20 <= tempo <= 300:
        found["bpm"] = ({"bpm": round(tempo)}, str(round(tempo)))
    if seconds is not None and 10 <= seconds <= 600:
        found["seconds"] = ({"seconds": round(seconds)}, str(round(seconds)))
    if values.get("bars") and values["bars"] > 1:
        found["bars"] = ({"bars": int(values["bars"])}, str(int(values["bars"])))
    if values.get("programs"):
        names = load_wordings()[language]["programs"]
        families = list(values["programs"])
        text = _listed(language, [names[PROGRAM_FAMILIES.index(family)] for family in families])
        found["programs"] = ({"programs": families}, text)
    return found


def statements(language: str, values: Mapping[str, Any]) -> list[Statement]:
    """All that can truly be said of a piece, in the order of the wordings.

    Args:
        language: `en` or `zh`.
        values: A `sayable` measurement; `bars`, `seconds` and `programs` where known.
    """
    special, found = _special(language, values), []
    for name, entries in load_wordings()[language]["attributes"].items():
        if name in special:
            states, text = special[name]
            forms = {
                form: [p.replace(f"{{{name}}}", text) for p in entries[0][form]]
                for form in entries[0]
                if form != "bins"
            }
            found.append(Statement(name, states, forms, _WEIGHTS.get(name, 1.0)))
            continue
        number = ATTRIBUTES[name].bin_of(values.get(name)) if name in ATTRIBUTES and name != "key" else -1
        fitting = [entry for entry in entries if number >= 0 and entry["bins"][0] <= number <= entry["bins"][1]]
        for entry in fitting:
            forms = {form: entry[form] for form in entry if form != "bins"}
            middle = name not in ("tempo", "metre", "mode") and number == 1
            weight = _WEIGHTS.get(name, 1.0) * (_MIDDLE_WEIGHT if middle else 1.0) / len(fitting)
            found.append(Statement(name, {name: list(entry["bins"])}, forms, weight))
    return found


def choose(
    candidates: Sequence[Statement], count: int, rng: random.Random, without: set[str] | None = None
) -> list[Statement]:
    """Up to so many statements about different things, by weight, none about what is in `without`."""
    taken = set(without or ())
    left = list(candidates)
    chosen: list[Statement] = []
    while len(chosen) < count:
        taken |= {name for group in _SAME_THING if group & taken for name in group}
        left = [s for s in left if s.name not in taken and not taken & s.states.keys()]
        if not left:
            break
        statement = rng.choices(left, weights=[s.weight for s in left])[0]
        chosen.append(statement)
        taken.add(statement.name)
    return chosen


# --- Sentences --------------------------------------------------------------------------------------------------------


def _english_noun_phrase(chosen: Sequence[Statement], noun: str, rng: random.Random) -> str:
    """`a fast, sparse piece in a high register, with wide leaps in the melody`."""
    adjectives: list[str] = []
    places: list[str] = []
    possessions: list[str] = []
    for statement in chosen:
        forms = [form for form in ("adj", "in", "with") if statement.forms[form]]
        named = statement.name in _NAMED  # "in a minor key" rather than "with a minor key"
        likely = {"adj": 4.0 if len(adjectives) < 3 else 0.01, "in": 2.0, "with": 0.02 if named else 2.0}
        weights = [likely[form] for form in forms]
        form = rng.choices(forms, weights=weights)[0]
        {"adj": adjectives, "in": places, "with": possessions}[form].append(rng.choice(statement.forms[form]))
    text = " ".join([", ".join(adjectives), noun]).strip()
    text = f"{'an' if text[0] in 'aeiou' else 'a'} {text}"
    if places:
        text += f" {_listed('en', places)}"
    if possessions:
        text += f"{',' if places else ''} with {_listed('en', possessions)}"
    return text


def _chinese_noun_phrase(chosen: Sequence[Statement], noun: str, rng: random.Random) -> str:
    """`一首速度快、音符稀疏的D小调曲子`."""
    modifiers, before = [], []
    for statement in chosen:
        if statement.forms["pre"] and rng.random() < 0.7:
            before.append(rng.choice(statement.forms["pre"]))
        else:
            modifiers.append(rng.choice(statement.forms["mod"]))
    measure = "一部" if noun.endswith("作品") else "一首"
    return measure + "、".join(modifiers) + ("的" if modifiers else "") + "".join(before) + noun


def _joined(language: str, form: str, parts: Sequence[str]) -> str:
    if language == "zh":
        return ("、" if form == "tag" else "，").join(parts)
    return ", ".join(parts) if form == "tag" else _listed("en", parts)


_SLOTS = {
    "en": {"np": "", "tags": "tag", "clauses": "clause", "wishes": "wish", "nouns": "with"},
    "zh": {"np": "", "tags": "tag", "mods": "mod", "wishes": "wish"},
}


def fill(language: str, frame: str, chosen: Sequence[Statement], rng: random.Random, **fixed: str) -> str:
    """A frame with its places filled; a name that begins with a capital is filled in with one."""
    slots = _SLOTS[language]
    texts = dict(fixed)
    for slot, form in slots.items():
        if f"{{{slot}}}" not in frame and f"{{{slot.capitalize()}}}" not in frame:
            continue
        if slot == "np":
            make = _chinese_noun_phrase if language == "zh" else _english_noun_phrase
            texts["np"] = make(chosen, rng.choice(load_wordings()[language]["nouns"]), rng)
        else:
            texts[slot] = _joined(language, form, [rng.choice(statement.forms[form]) for statement in chosen])
    text = frame
    for slot, words in texts.items():
        text = text.replace(f"{{{slot}}}", words).replace(f"{{{slot.capitalize()}}}", words[:1].upper() + words[1:])
    return text


# --- Kinds of captions ------------------------------------------------------------------------------------------------


class Teller:
    """Tells of one piece in one language.

    Args:
        language: `en` or `zh`.
        values: A measurement, with `key_fit`; `bars`, `seconds` and `programs` where known.
    """

    def __init__(self, language: str, values: Mapping[str, Any]) -> None:
        values = sayable(values)
        self.language, self.words = language, load_wordings()[language]
        self.statements = statements(language, values)
        self._main = [statement for statement in self.statements if statement.name in _PLAIN_ATTRIBUTES]
        self._key = _special(language, values).get("key")
        bins = {name: attribute.bin_of(values.get(name)) for name, attribute in ATTRIBUTES.items()}
        self._heads = _true_terms(self.words["terms"]["head"], bins)
        self._tails = _true_terms(self.words["terms"]["tail"], bins)

    def plain(self, rng: random.Random) -> Caption | None:
        """`A fast, sparse piece in a high register.`: the simplest frame, one to four of the seven main attributes."""
        chosen = choose(self._main, rng.choice((1, 2, 2, 3, 3, 4)), rng)
        return self._caption("plain", self.words["frames"][0], chosen, rng)

    def template(self, rng: random.Random) -> Caption | None:
        """Any frame, one to six of all attributes."""
        chosen = choose(self.statements, rng.choice((1, 2, 3, 3, 4, 4, 5, 6)), rng)
        return self._caption("template", rng.choice(self.words["frames"]), chosen, rng)

    def terms(self, rng: random.Random) -> Caption | None:
        """A title in the language of scores: `Adagio in E-flat major, con sordino`, `降E大调慢板，加弱音器`."""
        head: Mapping[str, Any]
        if self._heads and rng.random() < 0.9:
            head = rng.choice(self._heads)
        else:
            head = {"text": rng.choice(self.words["terms"]["plain"])}
        stated: dict[str, Any] = dict(head.get("states", {}))
        text = title = head["text"]
        if self._key and "mode" not in stated and rng.random() < 0.5:
            stated |= self._key[0]
            text = f"{self._key[1]}{text}" if self.language == "zh" else f"{text} in {self._key[1]}"
        tails: list[str] = []
        for _ in range(rng.choice((0, 1, 1, 2))):
            able = [t for t in self._tails if not t["states"].keys() & stated.keys()]
            if able:
                tail = rng.choice(able)
                stated |= tail["states"]
                tails.append(tail["text"])
        if not stated:
            return None
        text = ("，" if self.language == "zh" else ", ").join([text, *tails])
        return Caption(text, self.language, "terms", title, {name: list(wanted) for name, wanted in stated.items()})

    def imagery(self, image: Image, rng: random.Random) -> Caption:
        """An image, by name or by phrase; nothing else is said."""
        names, kind = image.phrases(self.language), "name" if rng.random() < 1 / 3 else "phrase"
        frame = rng.choice(self.words["imagery"][kind])
        text = fill(self.language, frame, [], rng, **{kind: names[0] if kind == "name" else rng.choice(names[1:])})
        return Caption(text, self.language, "imagery", frame, {}, dict(image.sides), image.id)

    def mixed(self, image: Image, rng: random.Random) -> Caption | None:
        """An image, and one or two plain statements about what it leaves open."""
        chosen = choose(self.statements, rng.choice((1, 1, 2)), rng, {n for n, side in image.sides.items() if side})
        names = image.phrases(self.language)
        frame, phrase = rng.choice(self.words["mixed"]), rng.choice(names[1:])
        return self._caption("mixed", frame, chosen, rng, image, name=names[0], phrase=phrase)

    def _caption(
        self,
        kind: str,
        frame: str,
        chosen: Sequence[Statement],
        rng: random.Random,
        image: Image | None = None,
        **fixed: str,
    ) -> Caption | None:
        if not chosen:
            return None
        text = fill(self.language, frame, chosen, rng, **fixed)
        stated = {name: wanted for statement in chosen for name, wanted in statement.states.items()}
        about = (dict(image.sides), image.id) if image else ({}, "")
        return Caption(text, self.language, kind, frame, stated, *about)


def _true_terms(terms: Sequence[Mapping[str, Any]], bins: Mapping[str, int]) -> list[Mapping[str, Any]]:
    """Musical terms that ask for nothing but what is so."""
    return [t for t in terms if all(low <= bins[name] <= high for name, (low, high) in t["states"].items())]
