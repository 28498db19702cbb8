"""Texts that SummaryBridge is asked on in its evaluation, and what each of them wants.

Plain captions and captions with a tempo and a key are spoken of held-out windows, so that what they ask for can be had
together. Images come from the test split of the lexicon: neither they nor a near-synonym were ever trained on.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..datasets_scripts.caption_words import LANGUAGES, Teller, fill, load_wordings, sayable, statements
from ..datasets_scripts.imagery import LEXICON, Image, load_lexicon
from ..processing.errors import InputError
from .evaluation_songs import Song
from .loading import mix_seed
from .metrics_words_music import PLAIN, key_of_statement

_ATTEMPTS = 20  # captions drawn of a window until one states something that is judged


@dataclass(frozen=True)
class Prompt:
    """A text and what it wants.

    Attributes:
        text: The words.
        language: `en` or `zh`.
        group: Piece that it was spoken of, or family of its image.
        stated: As `music_wishes.fulfilled` takes it.
        sides: As `music_wishes.sides_kept` takes it.
        image: Of the lexicon, empty for none.
        source: Number of the window that it was spoken of, −1 for none.
    """

    text: str
    language: str
    group: Hashable
    stated: Mapping[str, Any] = field(default_factory=dict)
    sides: Mapping[str, int] = field(default_factory=dict)
    image: str = ""
    source: int = -1

    @property
    def bpm(self) -> float | None:
        """Tempo that it states as a number."""
        return self.stated.get("bpm")

    @property
    def key(self) -> tuple[str, str] | None:
        """Key that it states."""
        return key_of_statement(self.stated)


def plain_prompts(songs: Sequence[Song], language: str, count: int, seed: int = 0) -> list[Prompt]:
    """Plain captions that state at least one of `PLAIN`, of one window after the other, then from the front again.

    Raises:
        InputError: Nothing can be said of any window.
    """
    found: list[Prompt] = []
    for number in range(max(count, 1) * 4):
        song = songs[number % len(songs)]
        rng = random.Random(mix_seed(seed, number, LANGUAGES.index(language)))
        teller = Teller(language, song.values)
        for _ in range(_ATTEMPTS):
            caption = teller.plain(rng)
            if caption is not None and any(name in PLAIN for name in caption.stated):
                found.append(Prompt(caption.text, language, song.group, caption.stated, source=number % len(songs)))
                break
        if len(found) == count:
            return found
    if not found:
        raise InputError(None, "nothing can be said of the held-out music; give other data")
    return found


def exact_prompts(songs: Sequence[Song], language: str, count: int, seed: int = 0) -> list[Prompt]:
    """Captions with a tempo in quarters a minute, a key, or both, as far as the windows have them."""
    frames = load_wordings()[language]["frames"]
    found: list[Prompt] = []
    for number in range(count * 4):
        song = songs[number % len(songs)]
        rng = random.Random(mix_seed(seed, number, LANGUAGES.index(language), 1))
        true = [one for one in statements(language, sayable(song.values)) if one.name in ("bpm", "key")]
        if true:
            rng.shuffle(true)
            text = fill(language, rng.choice(frames), true, rng)
            stated = {name: wanted for one in true for name, wanted in one.states.items()}
            found.append(Prompt(text, language, song.group, stated, source=number % len(songs)))
        if len(found) == count:
            break
    return found


def held_out_images(count: int, seed: int = 0, lexicon: Any = LEXICON) -> list[Image]:
    """Images of the test split; a draw of them where fewer are asked for."""
    images = [image for image in load_lexicon(lexicon) if image.split == "test"]
    return images if count >= len(images) else random.Random(seed).sample(images, count)


def image_prompts(images: Sequence[Image], language: str, each: int, seed: int = 0) -> list[Prompt]:
    """Texts of images: the first of each with its name, the others with its phrases."""
    words = load_wordings()[language]["imagery"]
    found = []
    for place, image in enumerate(images):
        for number in range(each):
            rng = random.Random(mix_seed(seed, place, number, LANGUAGES.index(language), 2))
            names, kind = image.phrases(language), "name" if number == 0 else "phrase"
            phrase = names[0] if number == 0 else names[1 + (number - 1) % (len(names) - 1)]
            text = fill(language, rng.choice(words[kind]), [], rng, **{kind: phrase})
            found.append(Prompt(text, language, image.family, {}, image.sides, image.id))
    return found


__all__ = ["LANGUAGES", "Prompt", "exact_prompts", "held_out_images", "image_prompts", "plain_prompts"]
