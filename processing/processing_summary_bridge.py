"""SummaryBridge's processor: words in any language of the text encoder, or a picture in text space, to its inputs."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .chinese_glosses import gloss
from .errors import InputError
from .text_encoder import DEFAULT_ENCODER, EncodedTexts, load_text_encoder

#: Characters of a text that are read; an encoder of sentences makes nothing of a whole book.
MAX_CHARACTERS = 500
#: A title or a picture between marks, or after a colon, with few words around it.
_MARKED = re.compile(r"([^,，。;；\"“”《》「」]*)[\"“《「]([^\"“”《》「」]+)[\"”》」]([^,，;；]*)")
_AFTER_COLON = re.compile(r"([^:：.。;；]*)[:：]\s*(\S.*)")
MOST_AROUND = 12  # words, or Chinese characters, around a picture


# A title of up to three words, of which the first alone has a capital, and words that have one wherever they stand.
_BEGUN = re.compile(r"([A-Z][a-z']*)(?:[ -][a-z']+){0,2}")
_NAMES = frozenset(
    "I Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May June July August "
    "September October November December Christmas Easter Halloween Morse".split()
)


def bare(text: str) -> str:
    """What a text is about, without the words that ask for it: `A piece called "Fog".` is `fog`.

    Such words say nothing of the music, and yet move what an encoder of sentences says. Where more is said around the
    marks or before the colon, the text stays whole. A title begins with a capital for no reason of its own, and to an
    encoder of sentences `Fog` is another word than `fog`.
    """
    for pattern, inside in ((_MARKED, 2), (_AFTER_COLON, 2)):
        found = pattern.fullmatch(text)
        if found is None:
            continue
        around = " ".join(part for number, part in enumerate(found.groups(), 1) if number != inside and part)
        if len(re.findall(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+", around)) <= MOST_AROUND:
            text = found[inside]
    text = text.strip().rstrip(".。").rstrip() or text
    begun = _BEGUN.fullmatch(text)
    return text[0].lower() + text[1:] if begun and begun[1] not in _NAMES else text


class SummaryBridgeProcessor(ProcessorMixin):
    """Turns words into the text encoder's sequence, pooled embedding and mask.

    Args:
        text_encoder: `use` (packaged, offline), a model folder, a name on the Hub, or `module:name`; see
            `text_encoder.py`. It has to be the one that the model learnt from.
        num_tokens: L, places of the sequence.
        prefix: Put before each text, as some encoders want.
        bare: Read titles and pictures without the words that ask for them; see `bare`.
        second_encoder: Another one, that is also asked what pictures in words are like; "": none is. Where it can not
            be loaded, that is said once, and the first is heard alone.
        glosses: Ask both encoders, too, what the English of Chinese words is like (`chinese_glosses.gloss`); where the
            dictionary is not there, that is said once.
    """

    def __init__(
        self, text_encoder: str = DEFAULT_ENCODER, num_tokens: int = 16, prefix: str = "", bare: bool = False,
        second_encoder: str = "", glosses: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        if num_tokens < 1:
            raise InputError(None, f"num_tokens must be 1 or more, got {num_tokens}")
        self.text_encoder = text_encoder
        self.num_tokens = num_tokens
        self.prefix = prefix
        self.bare = bare
        self.second_encoder = second_encoder
        self.glosses = glosses
        super().__init__(**kwargs)

    @property
    def model_input_names(self) -> list[str]:
        """What `__call__` gives."""
        second, gloss = ["text_second"] * bool(self.second_encoder), ["text_gloss"] * bool(self.glosses)
        return [*_TRIPLE, *second, *gloss]

    def __call__(
        self, text: str | Sequence[str] | None = None, return_tensors: str | None = "pt", **kwargs: Any
    ) -> BatchFeature:
        """Encodes texts.

        Args:
            text: One, or a list.
            return_tensors: As everywhere in transformers.
            **kwargs: Not used; there for pipelines.

        Returns:
            `text_embed` float32 `(B, L, T)`, `text_pooled` float32 `(B, T)` and `text_mask` int64 `(B, L)`; with a
            second encoder that can be loaded `text_second` float32 `(B, T2)`, too. With glosses `text_gloss` `(B, T)`
            is the English of Chinese words, and `text_second` `(B, 2, T2)` holds the words and their English; what has
            none stands for itself.

        Raises:
            InputError: No text, an empty one, or an encoder that can not be loaded.
        """
        if text is None:
            raise InputError(None, "there is no text; say what the music should be like")
        texts = [text] if isinstance(text, str) else list(text)
        if not texts:
            raise InputError(None, "there is no text; say what the music should be like")
        texts = [self.clean(one) for one in texts]
        texts = [bare(one) for one in texts] if self.bare else texts
        found = self.encode(texts)
        data = {"text_embed": found.embed, "text_pooled": found.pooled, "text_mask": found.mask.astype(np.int64)}
        english = self.gloss(texts)
        second = self.encode_second(texts if english is None else [*texts, *english])
        if second is not None:
            data["text_second"] = second if english is None else second.reshape(2, len(texts), -1).swapaxes(0, 1)
        if english is not None:
            data["text_gloss"] = found.pooled if english == texts else self.encode(english).pooled
        return BatchFeature(data, tensor_type=return_tensors)

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Texts as they are to the encoder's triple; the encoder is loaded at the first call."""
        return _encoder(self.text_encoder, self.num_tokens, self.prefix)(texts)

    def encode_second(self, texts: Sequence[str]) -> np.ndarray | None:
        """What the second encoder says of texts, float32 `(N, T2)`; `None` where there is none."""
        if not self.second_encoder or self.second_encoder in _MISSING:
            return None
        try:
            return _encoder(self.second_encoder, 1, "")(texts).pooled
        except InputError as error:
            _MISSING.add(self.second_encoder)
            warnings.warn(f"{error.message}; pictures in words are understood a little worse", stacklevel=3)
            return None

    def gloss(self, texts: Sequence[str]) -> list[str] | None:
        """The English of each text's Chinese words, or the text; `None` where none is asked for, or can be had."""
        if not self.glosses or _DICTIONARY in _MISSING:
            return None
        try:
            return [gloss(text) or text for text in texts]
        except InputError as error:
            _MISSING.add(_DICTIONARY)
            warnings.warn(f"{error.message}; pictures in Chinese words are understood a little worse", stacklevel=3)
            return None

    @staticmethod
    def clean(text: str) -> str:
        """A text in one line and of a length that can be read.

        Raises:
            InputError: It is empty, or no text.
        """
        if not isinstance(text, str):
            raise InputError(None, f"a text is needed, got a {type(text).__name__}")
        shown = "".join(c if unicodedata.category(c) not in ("Cc", "Cs") else " " for c in text)
        shown = " ".join(shown.split())
        if not shown:
            raise InputError(None, "the text is empty; say what the music should be like")
        if len(shown) > MAX_CHARACTERS:
            warnings.warn(f"the text has {len(shown)} characters; the first {MAX_CHARACTERS} are read", stacklevel=3)
            shown = shown[:MAX_CHARACTERS].strip()
        return shown

    def from_triple(self, embed: Any, pooled: Any, mask: Any, return_tensors: str | None = "pt") -> BatchFeature:
        """The same inputs from what a StyleEncoder says of a picture.

        Args:
            embed: `(B, L, T)` or `(L, T)`.
            pooled: `(B, T)` or `(T,)`.
            mask: `(B, L)` or `(L,)`, numbers or probabilities; above one half a place is in use.
            return_tensors: As everywhere in transformers.

        Raises:
            InputError: Shapes that do not go together, or values that are no finite numbers.
        """
        arrays = [_array(x) for x in (embed, pooled, mask)]
        if arrays[1].ndim == 1:
            arrays = [x[None] for x in arrays]
        shapes = [x.shape for x in arrays]
        batch, width = shapes[1] if len(shapes[1]) == 2 else (-1, -1)
        if len(shapes[0]) != 3 or shapes[0][::2] != (batch, width) or shapes[2] != shapes[0][:2]:
            raise InputError(None, f"a triple has the shapes (B, L, T), (B, T) and (B, L), not {shapes}")
        if not all(np.isfinite(x).all() for x in arrays):
            raise InputError(None, "the triple holds values that are no finite numbers")
        values = [arrays[0].astype(np.float32), arrays[1].astype(np.float32), (arrays[2] > 0.5).astype(np.int64)]
        return BatchFeature(dict(zip(_TRIPLE, values, strict=True)), tensor_type=return_tensors)


_TRIPLE = ("text_embed", "text_pooled", "text_mask")
#: Encoders that are loaded, by their settings: a processor stays small enough to be copied and saved.
_ENCODERS: dict[tuple[str, int, str], Any] = {}
#: Second encoders that could not be loaded, and the dictionary.
_MISSING: set[str] = set()
_DICTIONARY = "dictionary"


def _encoder(spec: str, num_tokens: int, prefix: str) -> Any:
    key = (spec, num_tokens, prefix)
    if key not in _ENCODERS:
        _ENCODERS[key] = load_text_encoder(*key)
    return _ENCODERS[key]


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().float().cpu().numpy()
    return np.asarray(value)


__all__ = ["MAX_CHARACTERS", "SummaryBridgeProcessor", "bare"]
