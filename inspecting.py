"""Inspect a picture: what StyleEncoder makes of it, in figures, as a map of where it looked, and in words.

from intermezzo import inspect_picture
print(inspect_picture("bell.png", out="out/inspect"))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .comparing import _png, load_looker
from .processing.errors import InputError
from .processing.style_looker import Seen, StyleLooker, nearest

_SHOWN_PLACES = 6  # of the sequence, in the picture of where it looked


@dataclass(frozen=True)
class TensorReport:
    """One output of the model.

    Attributes:
        shape: With the batch of one.
        dtype: Of the model.
        device: Of the model.
        low, high, mean: Of its values.
        norm: Euclidean length; of `embed` the mean over the places in use.
    """

    shape: tuple[int, ...]
    dtype: str
    device: str
    low: float
    high: float
    mean: float
    norm: float


@dataclass(frozen=True)
class PictureReport:
    """What the model makes of one picture.

    Attributes:
        name: Of the picture.
        size_px: Its width and height.
        tensors: Reports of `embed`, `pooled`, `mask` and `style`.
        places: Places of the sequence that are in use.
        captions: Nearest captions with their cosines, best first.
        attention: PIL picture of where the model looked: the picture as the model sees it, then where the pooled
            embedding and each of the first places in use looked, bright where it looked most.
        files: What was written.
    """

    name: str
    size_px: tuple[int, int]
    tensors: dict[str, TensorReport]
    places: int
    captions: list[tuple[str, float]]
    attention: Any = field(repr=False, default=None)
    files: list[Path] = field(default_factory=list)

    def __str__(self) -> str:
        first = self.tensors["embed"]
        lines = [
            f"{self.name}: {self.size_px[0]} × {self.size_px[1]} px; {self.places} of {first.shape[1]} places in use; "
            f"{first.dtype} on {first.device}",
            f"{'':8}{'shape':>14}{'low':>10}{'high':>10}{'mean':>10}{'norm':>10}",
        ]
        for name, found in self.tensors.items():
            shape = " × ".join(map(str, found.shape))
            figures = "".join(f"{value:10.3f}" for value in (found.low, found.high, found.mean, found.norm))
            lines.append(f"{name:8}{shape:>14}{figures}")
        if self.captions:
            lines.append("nearest captions: " + ", ".join(f"{text} ({value:.2f})" for text, value in self.captions))
        return "\n".join(lines)


def inspect_picture(
    picture: Any,
    *,
    captions: str | Path | Sequence[str] | None = None,
    count: int = 8,
    out: str | Path | None = None,
    stem: str | None = None,
    model: Any = None,
    device: str = "auto",
) -> PictureReport:
    """What StyleEncoder makes of a picture.

    Args:
        picture: Path, PIL picture or array.
        captions: Texts to choose the nearest from, or a file with one a line; by default the names that come with the
            model. Own ones are encoded by the text encoder that the model learnt from.
        count: Captions to name.
        out: Folder for `NAME_attention.png`; `None`: write nothing.
        stem: NAME; that of the picture when left out.
        model: Model folder, Hub name or `StyleLooker`; by default the one that comes with the package.
        device: `"auto"`, `"cpu"`, `"cuda"`, ...

    Returns:
        The report; `str()` of it is a small table.

    Raises:
        InputError: The picture, the captions or the model can not be read.
    """
    from .reading_outputs import write_whole

    looker = load_looker(model, device)
    loaded = looker.processor.load(picture)
    (seen,) = looker.look([loaded], attentions=True)
    assert isinstance(seen, Seen) and seen.attentions is not None
    name = Path(picture).name if isinstance(picture, (str, Path)) else "picture"
    texts, vectors = _captions(looker, captions)
    report = PictureReport(
        name=name,
        size_px=loaded.size,
        tensors=_tensors(looker, seen),
        places=int((seen.mask >= 0.5).sum()),
        captions=[(texts[index], value) for index, value in nearest(seen.pooled, vectors, count)],
        attention=draw_attention(looker, loaded, seen),
    )
    if out is not None:
        path = Path(out) / f"{stem or Path(name).stem}_attention.png"
        write_whole(path, _png(report.attention))
        report.files.append(path)
    return report


def _captions(looker: StyleLooker, given: str | Path | Sequence[str] | None) -> tuple[list[str], np.ndarray]:
    if given is None:
        return looker.captions()
    if isinstance(given, (str, Path)):
        try:
            texts = [line.strip() for line in Path(given).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(given, "can not be read; give a text file (UTF-8) with one caption a line") from error
        if not texts:
            raise InputError(given, "holds no captions; write one a line")
    else:
        texts = list(given)
    config = looker.model.config
    if not config.text_encoder:
        raise InputError(
            looker.folder, "does not say which text encoder it learnt from, so captions can not be encoded"
        )
    from .processing.text_encoder import load_text_encoder

    vectors = load_text_encoder(config.text_encoder, config.num_tokens)(texts).pooled
    if vectors.shape[1] != config.embed_size:
        raise InputError(
            None, f"text encoder {config.text_encoder!r} is {vectors.shape[1]} wide, the model {config.embed_size}"
        )
    return texts, vectors


def _tensors(looker: StyleLooker, seen: Seen) -> dict[str, TensorReport]:
    parameter = looker.model.pooled_head.weight
    dtype, device = str(parameter.dtype).removeprefix("torch."), str(parameter.device)
    found = {}
    for name in ("embed", "pooled", "mask", "style"):
        values = getattr(seen, name)
        norm = float(np.linalg.norm(values))
        if name == "embed":
            used = seen.mask >= 0.5
            norm = float(np.linalg.norm(values[used], axis=-1).mean()) if used.any() else 0.0
        figures = (float(values.min()), float(values.max()), float(values.mean()), norm)
        found[name] = TensorReport((1, *values.shape), dtype, device, *figures)
    return found


def draw_attention(looker: StyleLooker, picture: Any, seen: Seen) -> Any:
    """The picture as the model sees it, then where the pooled embedding and the places in use looked."""
    from PIL import Image

    assert seen.attentions is not None
    processor = looker.processor
    values = processor([picture])["pixel_values"][0].permute(1, 2, 0).numpy()  # (H, W, 3)
    plain = np.clip(values * processor.std + processor.mean, 0, 1)
    side = plain.shape[0]
    used = [place for place in range(len(seen.mask)) if seen.mask[place] >= 0.5][:_SHOWN_PLACES]
    tiles = [plain]
    for place in [len(seen.mask), *used]:
        weights = seen.attentions[place]
        glow = Image.fromarray((weights / max(float(weights.max()), 1e-12)).astype(np.float32))
        strength = np.asarray(glow.resize((side, side), Image.Resampling.BILINEAR))[..., None]
        grey = plain.mean(-1, keepdims=True) * 0.5
        tiles.append(np.clip(grey + strength * (np.array([1.0, 0.55, 0.0]) - grey) * 0.75, 0, 1))
    gap = np.ones((side, 4, 3))
    row = np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)
    return Image.fromarray(np.round(row * 255).astype(np.uint8))


__all__ = ["PictureReport", "TensorReport", "inspect_picture"]
