"""Looks at pictures with a trained StyleEncoder, and knows what its figures mean."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError

PAIRS_FILE = "style_pairs.json"  # similarities of held-out pairs of one style and of two, beside the weights
CAPTIONS_FILE = "captions.safetensors"  # names and their pooled embeddings, beside the weights


@dataclass(frozen=True)
class Seen:
    """What StyleEncoder says of one picture; float32 arrays.

    Attributes:
        name: File name, or the picture's number.
        embed: `(L, D)`.
        pooled: `(D,)`.
        mask: `(L,)` probabilities.
        style: `(S,)`, length 1.
        attentions: `(L + 1, h, w)`, the last one of the pooled embedding; only where it was asked for.
    """

    name: str
    embed: np.ndarray
    pooled: np.ndarray
    mask: np.ndarray
    style: np.ndarray
    attentions: np.ndarray | None = None


class StyleLooker:
    """A model with its processor, and the references beside it.

    Args:
        model: `StyleEncoderModel`.
        processor: `StyleEncoderProcessor`.
        folder: Where they were loaded from; `PAIRS_FILE` and `CAPTIONS_FILE` are looked for there.
    """

    def __init__(self, model: Any, processor: Any, folder: str | Path | None = None) -> None:
        self.model, self.processor = model.eval(), processor
        self.folder = None if folder is None else Path(folder)

    @classmethod
    def from_pretrained(cls, checkpoint: str | Path, device: str = "auto") -> StyleLooker:
        """Loads a checkpoint.

        Raises:
            InputError: The folder is no StyleEncoder checkpoint, its weights are of another backbone than its
                configuration says, or the device is not there.
        """
        import torch
        from transformers.utils import logging

        from ..modeling.modeling_style_encoder import StyleEncoderModel
        from .processing_style_encoder import StyleEncoderProcessor

        logging.disable_progress_bar()
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        config = Path(checkpoint) / "config.json"
        if config.is_file():
            kind = _json(config).get("model_type")
            if kind != "style_encoder":
                raise InputError(checkpoint, f"is a checkpoint of {kind!r}; give one of 'style_encoder'")
        try:
            model, report = StyleEncoderModel.from_pretrained(
                str(checkpoint), dtype=torch.float32, output_loading_info=True
            )
            lacking = [*report["missing_keys"], *report.get("mismatched_keys", ())]
            if lacking:
                raise ValueError(f"{len(lacking)} weights are of another backbone, such as {str(lacking[0])!r}")
            processor = StyleEncoderProcessor.from_pretrained(str(checkpoint))
            return cls(model.to(device), processor, checkpoint)
        except (OSError, ValueError, KeyError, RuntimeError, AssertionError) as error:
            why = " ".join(str(error).split())[:200]
            raise InputError(checkpoint, f"does not load as a StyleEncoder checkpoint on {device}: {why}") from error

    def look(
        self, pictures: Iterable[Any], batch_size: int = 16, attentions: bool = False
    ) -> Iterator[Seen | InputError]:
        """Looks at pictures, in order; one that can not be read comes back as what is wrong with it.

        Args:
            pictures: Paths, PIL pictures or arrays, as the processor takes them.
            batch_size: Pictures that go through the model at once.
            attentions: Also say where the model looked.
        """
        batch: list[tuple[str, Any]] = []
        for number, picture in enumerate(pictures):
            name = str(picture) if isinstance(picture, (str, Path)) else f"picture {number}"
            try:
                batch.append((name, self.processor.load(picture, number)))
            except InputError as error:
                yield from self._batch(batch, attentions)
                batch = []
                yield error
            if len(batch) >= batch_size:
                yield from self._batch(batch, attentions)
                batch = []
        yield from self._batch(batch, attentions)

    def _batch(self, batch: Sequence[tuple[str, Any]], attentions: bool) -> Iterator[Seen]:
        import torch

        if not batch:
            return
        values = self.processor([picture for _, picture in batch])["pixel_values"]
        with torch.no_grad():
            out = self.model(values.to(self.model.device), output_attentions=attentions)
        parts = [out.embed, out.pooled, out.mask, out.style, *([out.attentions] if attentions else [])]
        arrays = [part.float().cpu().numpy() for part in parts]
        for number, (name, _) in enumerate(batch):
            yield Seen(name, *(array[number] for array in arrays))

    def pairs(self) -> dict[str, np.ndarray]:
        """Similarities of held-out pairs, `same` and `different`, from low to high; empty where none are known."""
        path = None if self.folder is None else self.folder / PAIRS_FILE
        if path is None or not path.is_file():
            return {}
        found = _json(path)
        try:
            return {name: np.sort(np.asarray(found[name], dtype=np.float64)) for name in ("same", "different")}
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(path, "holds no similarities of pairs; evaluate the model again") from error

    def captions(self) -> tuple[list[str], np.ndarray]:
        """Names and their pooled embeddings `(N, D)`, those beside the weights; empty where there are none."""
        path = None if self.folder is None else self.folder / CAPTIONS_FILE
        if path is None or not path.is_file():
            return [], np.zeros((0, self.model.config.embed_size), np.float32)
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                names = json.loads((file.metadata() or {})["names"])
                vectors = file.get_tensor("pooled").astype(np.float32)
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise InputError(path, f"holds no captions ({type(error).__name__}); remove it or make it again") from error
        if vectors.shape != (len(names), self.model.config.embed_size):
            raise InputError(path, f"has vectors {vectors.shape} for {len(names)} names of another text encoder")
        return names, vectors


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"can not be read ({type(error).__name__})") from error


def nearest(pooled: np.ndarray, vectors: np.ndarray, count: int) -> list[tuple[int, float]]:
    """Indices and cosines of the captions nearest to a picture, best first.

    The captions' mean is taken from both sides: sentence encoders crowd into a narrow cone.

    Args:
        pooled: `(D,)` of the picture.
        vectors: `(N, D)` of the captions.
        count: How many; fewer where there are fewer.
    """
    if not len(vectors):
        return []
    mean = vectors.mean(0) if len(vectors) > 1 else np.zeros_like(pooled)
    centred, own = vectors - mean, pooled - mean
    norms = np.linalg.norm(centred, axis=-1) * np.linalg.norm(own)
    cosines = centred @ own / np.maximum(norms, 1e-12)
    order = np.argsort(-cosines, kind="stable")[:count]
    return [(int(index), float(cosines[index])) for index in order]


__all__ = ["CAPTIONS_FILE", "PAIRS_FILE", "Seen", "StyleLooker", "nearest"]
