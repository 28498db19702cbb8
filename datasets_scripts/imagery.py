"""The lexicon of images: pictures in words, each with what it suggests of music, and which images fit a piece.

`imagery_lexicon.tsv` is written by hand, in English and Chinese; `imagery_lexicon_more.tsv` has more images to learn
from, whose writers knew of the held-out ones the names alone, so as to stay away from them, and `imagery_sides.tsv`
still more, written likewise: two phrases in each language and seven sides, without a reason. A suggestion is a side of
the median piece: `tempo+` is faster than the median, `register-` lower, `mode-` minor. The reason beside it says why.
Images that mean nearly the same form a family, and whole families go to train, validation or test, so that an image of
the test has no near-synonym that was ever trained on.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..processing.errors import InputError
from ..processing.music_wishes import SIDED, side_strength

LEXICON = Path(__file__).with_name("imagery_lexicon.tsv")
MORE = Path(__file__).with_name("imagery_lexicon_more.tsv")
SIDES = Path(__file__).with_name("imagery_sides.tsv")
COLUMNS = ("id", "category", "family", "split", "english", "chinese", "suggests", "reason")
SPLITS = ("train", "validation", "test")
#: A piece must lie this far on the suggested side, in quartiles: nobody hears a hair's breadth.
MIN_STRENGTH = 0.1
#: How much more often an image is drawn whose sides lie a quartile from the median than one whose sides barely hold.
STRENGTH_FACTOR = 3.0


@dataclass(frozen=True)
class Image:
    """An image.

    Attributes:
        id: Its name in rows of captions.
        category: weather, sky, nature, animals, ...
        family: Images that mean nearly the same share it.
        split: train, validation or test.
        english: Its name (without article), then at least two phrases.
        chinese: The same in Chinese.
        sides: -1 or 1 for each attribute it suggests (`music_wishes.SIDED`).
        reason: Why.
    """

    id: str
    category: str
    family: str
    split: str
    english: tuple[str, ...]
    chinese: tuple[str, ...]
    sides: Mapping[str, int]
    reason: str

    def phrases(self, language: str) -> tuple[str, ...]:
        """Name and phrases in `en` or `zh`."""
        return self.chinese if language == "zh" else self.english


def _image(row: Mapping[str, str], path: Path, line: int) -> Image:
    """One line of the file.

    Raises:
        InputError: A field is empty, or a suggestion or split does not exist.
    """
    where = f"line {line}"
    empty = [name for name in COLUMNS if not (row.get(name) or "").strip()]
    if empty:
        raise InputError(path, f"{where}: {', '.join(empty)} is empty; an image needs all of {', '.join(COLUMNS)}")
    if row["split"] not in SPLITS:
        raise InputError(path, f"{where}: there is no split {row['split']!r}; choose {', '.join(SPLITS)}")
    sides: dict[str, int] = {}
    for word in row["suggests"].split():
        name, sign = word[:-1], word[-1]
        if name not in SIDED or sign not in "+-" or name in sides:
            raise InputError(path, f"{where}: {word!r} suggests nothing; write one of {', '.join(SIDED)} with + or -")
        sides[name] = 1 if sign == "+" else -1
    words = {name: tuple(part.strip() for part in row[name].split("|")) for name in ("english", "chinese")}
    if any(len(parts) < 3 or not all(parts) for parts in words.values()):
        raise InputError(path, f"{where}: give a name and at least two phrases in each language, with | between them")
    names = (row["id"], row["category"], row["family"], row["split"])
    return Image(*names, words["english"], words["chinese"], sides, row["reason"])


@lru_cache(maxsize=4)
def load_lexicon(*paths: str | Path) -> tuple[Image, ...]:
    """Images of lexicons, in the order of the files; of `LEXICON` and `MORE` where none is named.

    Raises:
        InputError: One can not be read, an image is there twice, or a family is in two splits.
    """
    splits: dict[str, str] = {}
    seen: set[str] = set()
    found: list[Image] = []
    for path in map(Path, paths or (LEXICON, MORE)):
        for image in _read(path):
            if image.id in seen:
                raise InputError(path, f"the image {image.id!r} is there twice")
            if splits.setdefault(image.family, image.split) != image.split:
                raise InputError(path, f"the family {image.family!r} is in two splits; near-synonyms belong in one")
            seen.add(image.id)
            found.append(image)
    return tuple(found)


def _read(path: Path) -> tuple[Image, ...]:
    """Images of one file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InputError(path, f"the first line must name the columns {', '.join(COLUMNS)}")
            return tuple(_image(row, path, line) for line, row in enumerate(reader, start=2))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, "can not be read as a table of images in UTF-8") from error


@lru_cache(maxsize=2)
def load_sides(path: str | Path = SIDES) -> tuple[Image, ...]:
    """Images to learn from, of a table with the columns english, chinese and sides, all in the training split.

    Sides are seven signs, `+`, `-` or `0` for neither, of `SIDED` in turn.

    Raises:
        InputError: The table can not be read, or a line is wrong; it is named.
    """
    path = Path(path)
    try:
        first, *lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(path, "can not be read as a table of images in UTF-8") from error
    if first.split("\t") != ["english", "chinese", "sides"]:
        raise InputError(path, "the first line must name the columns english, chinese, sides")
    found = []
    for number, line in enumerate(lines, start=2):
        fields = line.split("\t")
        words = [tuple(part.strip() for part in field.split("|")) for field in fields[:2]]
        signs = fields[2] if len(fields) == 3 else ""
        if len(words) != 2 or not all(map(all, words)) or len(signs) != len(SIDED) or set(signs) - set("+-0"):
            raise InputError(
                path, f"line {number}: write english, chinese and {len(SIDED)} signs of + - 0 between tabs"
            )
        sides = {name: 1 if sign == "+" else -1 for name, sign in zip(SIDED, signs, strict=True) if sign != "0"}
        found.append(Image(f"sides-{number}", "", f"sides-{number}", "train", words[0], words[1], sides, ""))
    return tuple(found)


def strengths(values: Mapping[str, Any]) -> dict[str, float | None]:
    """How far a piece lies from the median in each of `SIDED` (see `side_strength`)."""
    return {name: side_strength(name, values.get(name)) for name in SIDED}


class ImageSet:
    """Images, ready to be compared with many pieces.

    Args:
        images: The images, for instance of one split.
    """

    def __init__(self, images: Sequence[Image]) -> None:
        self.images = tuple(images)
        sides = [[image.sides.get(name, 0) for name in SIDED] for image in self.images]
        self._sides = np.array(sides, dtype=np.float64).reshape(-1, len(SIDED))  # (N, A)
        self._counts = np.abs(self._sides).sum(axis=1)  # (N,)

    def agreement(self, values: Mapping[str, Any]) -> np.ndarray:
        """How strongly a piece has what each image suggests.

        Args:
            values: A measurement.

        Returns:
            float64 `(N,)`: mean distance from the median over the suggested attributes, in quartiles, 0 to 2; `nan`
            when one of them is not measured, or not clearly on the suggested side, for then the image would say
            something untrue.
        """
        found = [strength if strength is not None else -np.inf for strength in strengths(values).values()]
        missing = np.isinf(found)  # (A,)
        kept = np.where(missing, 0.0, found) * self._sides  # (N, A)
        wrong = (self._sides != 0) & ((kept < MIN_STRENGTH) | missing)
        return np.where(wrong.any(axis=1), np.nan, kept.sum(axis=1) / np.maximum(self._counts, 1))

    def fitting(self, values: Mapping[str, Any]) -> list[tuple[Image, float]]:
        """Images that a piece agrees with in everything they suggest, each with its weight.

        The weight grows with the strength of the agreement, and doubles with every further suggestion: were attributes
        independent, an image with one more would fit half as many pieces, and so all images come about equally often.
        """
        strength = self.agreement(values)
        places = np.flatnonzero(~np.isnan(strength))
        weights = 2.0 ** self._counts[places] * STRENGTH_FACTOR ** strength[places]
        return [(self.images[place], weight) for place, weight in zip(places, weights.tolist(), strict=True)]


def draw_images(fitting: Sequence[tuple[Image, float]], count: int, rng: random.Random) -> list[Image]:
    """Different images by weight; fewer when there are not so many."""
    left = list(fitting)
    drawn: list[Image] = []
    while left and len(drawn) < count:
        number = rng.choices(range(len(left)), weights=[weight for _, weight in left])[0]
        drawn.append(left.pop(number)[0])
    return drawn
