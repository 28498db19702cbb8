"""Rows of StyleEncoder's data as the trainer wants them: pictures by style, batches in which styles meet."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from ..configuration.configuration_style_encoder import TARGETS
from ..modeling.style_losses import UNKNOWN_STYLE
from ..processing.errors import InputError


def parquet_files(folder: str | Path, split: str) -> list[Path]:
    """Parquet files of a split, in `folder/data` or in the folder itself."""
    folder = Path(folder)
    return sorted((folder / "data").glob(f"{split}-*.parquet")) or sorted(folder.glob(f"{split}-*.parquet"))


class GroupedRows:
    """Rows with a style and a content, in batches that the contrastive loss can learn from.

    Asked for many rows at once, it gives `group_size` pictures of a style each, and now and then the same contents in
    each style, so that what a picture shows is no help in telling its style.

    Args:
        styles, contents: Of each row.
        group_size: Pictures of a style in a batch; 1: rows as they are asked for.
        shared_contents: Part of the batches in which all styles show the same contents, as far as they have them.
    """

    def __init__(
        self, styles: Sequence[str], contents: Sequence[str], group_size: int = 1, shared_contents: float = 0.0
    ) -> None:
        self.styles, self.contents = list(styles), list(contents)
        self.group_size, self.shared_contents = group_size, shared_contents
        self.of_style: dict[str, list[int]] = {}
        self.showing: dict[tuple[str, str], list[int]] = {}
        for index, pair in enumerate(zip(self.styles, self.contents, strict=True)):
            self.of_style.setdefault(pair[0], []).append(index)
            self.showing.setdefault(pair, []).append(index)

    def __len__(self) -> int:
        return len(self.styles)

    def __getitem__(self, index: int) -> dict[str, Any]:
        raise NotImplementedError

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        return [self[index] for index in self.arranged(indices)]

    def arranged(self, indices: Sequence[int]) -> list[int]:
        """As many indices: every `group_size`-th stays, and brings others of its style in place of those between."""
        if self.group_size < 2:
            return list(indices)
        anchors = list(indices)[:: self.group_size]
        wanted: list[str] | None = None
        if random.random() < self.shared_contents:
            first = self._partners(anchors[0], None)
            wanted = [self.contents[index] for index in [anchors[0], *first]]
        found: list[int] = []
        for anchor in anchors:
            if wanted is None:
                found += [anchor, *self._partners(anchor, None)]
            else:
                found += self._partners(anchor, wanted)
        return found[: len(indices)]

    def _partners(self, anchor: int, contents: list[str] | None) -> list[int]:
        """Others of the anchor's style; with contents, one that shows each of them, else any."""
        style = self.styles[anchor]
        own = self.of_style[style]
        if contents is not None:
            return [random.choice(self.showing.get((style, content), own)) for content in contents]
        others = [index for index in random.sample(own, min(len(own), self.group_size)) if index != anchor]
        lack = self.group_size - 1
        return (others + [random.choice(own) for _ in range(lack)])[:lack]  # a style of few pictures repeats them


class StylePictures(GroupedRows):
    """The pictures of one split, decoded as they are asked for; see `GroupedRows` for how batches are made up.

    Args:
        folder: Made by build_style_pairs.
        split: Its split.
        group_size, shared_contents: As in `GroupedRows`.
        limit: Take so many pictures only, evenly spread; 0: all.

    Raises:
        InputError: There is no such split, or the rows are not of this kind.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str = "train",
        group_size: int = 1,
        shared_contents: float = 0.0,
        limit: int = 0,
    ) -> None:
        from datasets import Dataset, disable_progress_bars

        files = parquet_files(folder, split)
        if not files:
            raise InputError(folder, f"has no files {split}-*.parquet; make them with build_style_pairs")
        disable_progress_bars()
        self.rows = Dataset.from_parquet([str(file) for file in files])
        missing = [name for name in ("image", "style", "content", *TARGETS) if name not in self.rows.column_names]
        if missing:
            raise InputError(files[0], f"has no column {missing[0]!r}; make it with build_style_pairs")
        if limit and limit < len(self.rows):
            self.rows = self.rows.select(np.linspace(0, len(self.rows) - 1, limit).round().astype(int).tolist())
        super().__init__(self.rows["style"], self.rows["content"], group_size, shared_contents)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]

    def sizes(self) -> tuple[int | None, int | None]:
        """L and D of the targets, `None` where no row has any."""
        targets = self.rows.select_columns(list(TARGETS))
        # Rows of one source lie together: some from all over the split are looked at, not each.
        for index in np.linspace(0, len(self) - 1, min(len(self), 500)).round().astype(int).tolist():
            row = targets[index]
            if any(row[target] for target in TARGETS):
                length = next((len(row[name]) for name in ("embed", "mask") if row[name]), None)
                width = len(row["embed"][0]) if row["embed"] else len(row["pooled"]) if row["pooled"] else None
                return length, width
        return None, None


class StyleCollate:
    """Rows to a batch.

    Args:
        processor: `StyleEncoderProcessor`.
        length, width: L and D of the model.
        style_names: Styles by label; others are unknown.
        ignore_targets: Targets that are left out.
        crop: Each side of a training picture keeps at least this part, cut at random; 1: pictures stay whole.
    """

    def __init__(
        self,
        processor: Any,
        length: int,
        width: int,
        style_names: Sequence[str],
        ignore_targets: Sequence[str] = (),
        crop: float = 1.0,
    ) -> None:
        self.processor, self.crop = processor, crop
        self.shapes = {"embed": (length, width), "pooled": (width,), "mask": (length,)}
        self.learnt = [target for target in TARGETS if target not in ignore_targets]
        # The mask also says which places of the embedding count, so it comes along even where it is not learnt.
        self.carried = [*self.learnt, *(["mask"] if "embed" in self.learnt and "mask" not in self.learnt else [])]
        self.labels = {name: number for number, name in enumerate(style_names)}

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Arguments of `StyleEncoderModel.forward`."""
        pictures = [self._cut(row["image"]) for row in rows]
        labels = [self.labels.get(row["style"], UNKNOWN_STYLE) for row in rows]
        has_target = [bool(self.learnt) and all(row[target] for target in self.learnt) for row in rows]
        batch = {
            "pixel_values": self.processor(pictures)["pixel_values"],
            "style_labels": torch.tensor(labels),
            "has_target": torch.tensor(has_target).long(),
        }
        if any(has_target):
            for target in self.carried:
                batch[f"target_{target}"] = torch.stack(
                    [self._target(row, target, here) for row, here in zip(rows, has_target, strict=True)]
                )
        return batch

    def _target(self, row: dict[str, Any], target: str, here: bool) -> torch.Tensor:
        shape = self.shapes[target]
        if not here:
            return torch.zeros(shape)
        if not row[target]:
            return torch.ones(shape)  # a mask that the data lacks: every place counts
        value = torch.tensor(row[target], dtype=torch.float32)
        if tuple(value.shape) != shape:
            name = f"{row['style']}/{row.get('name')}"
            raise InputError(name, f"its {target} has the shape {tuple(value.shape)}, the model gives {shape}")
        return value

    def _cut(self, picture: Image.Image) -> Image.Image:
        if self.crop >= 1:
            return picture
        width, height = (max(1, round(side * random.uniform(self.crop, 1))) for side in picture.size)
        left, top = random.randint(0, picture.width - width), random.randint(0, picture.height - height)
        return picture.crop((left, top, left + width, top + height))


class Collate(Protocol):
    """What makes a batch of rows and says of what shapes its targets are: `StyleCollate`, or that of a pack."""

    @property
    def learnt(self) -> list[str]:
        """Targets that are learnt."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of each target."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Arguments of `StyleEncoderModel.forward`."""


@torch.no_grad()
def look_at(model: Any, pictures: GroupedRows, collate: Collate, batch_size: int) -> dict[str, Any]:
    """What a model says of all pictures of a split, with the mean of its loss.

    Returns:
        `loss`, and arrays by name: `style`, `pooled`, `mask` `(N, ·)`, `has_target` `(N,)`, and the targets that are
        there as `target_pooled`, `target_mask`.
    """
    found: dict[str, list[torch.Tensor]] = {}
    losses: list[tuple[float, int]] = []
    device = next(model.parameters()).device
    for start in range(0, len(pictures), batch_size):
        batch = collate([pictures[index] for index in range(start, min(start + batch_size, len(pictures)))])
        batch = {name: value.to(device) for name, value in batch.items()}
        out = model(**batch)
        if out.loss is not None:
            losses.append((float(out.loss), len(batch["style_labels"])))
        own = {"style": out.style, "pooled": out.pooled, "mask": out.mask, "has_target": batch["has_target"]}
        for target in ("pooled", "mask"):
            shape = (len(batch["style_labels"]), *collate.shapes[target])
            own[f"target_{target}"] = batch.get(f"target_{target}", torch.zeros(shape))
        for name, value in own.items():
            found.setdefault(name, []).append(value.float().cpu())
    weight = sum(count for _, count in losses)
    loss = sum(value * count for value, count in losses) / weight if weight else 0.0
    return {"loss": loss, **{name: torch.cat(parts).numpy() for name, parts in found.items()}}


def evaluate_pictures(model: Any, pictures: GroupedRows, collate: Collate, batch_size: int) -> dict[str, float]:
    """The figures by which training is followed; see `metrics_style`.

    Returns:
        `loss`; `style_auc`; for pictures with targets `pooled_cosine`, `mask_exact` and `name_top5` (among the names of
        the split), each where it is learnt; and `score`, the mean of those but the mask, by which to choose the best.
    """
    from .metrics_style import mask_exact, mean_cosine, pair_auc, retrieval_top_k

    seen = look_at(model, pictures, collate, batch_size)
    figures = {"loss": seen["loss"]}
    area = pair_auc(seen["style"], pictures.styles, pictures.contents, resamples=0, max_pairs=50_000).value
    if area == area:
        figures["style_auc"] = area
    here = seen["has_target"] > 0
    if here.any() and "pooled" in collate.learnt:
        target = seen["target_pooled"][here]
        figures["pooled_cosine"] = mean_cosine(seen["pooled"][here], target).value
        names, answers = np.unique(target, axis=0, return_inverse=True)
        figures["name_top5"] = retrieval_top_k(seen["pooled"][here], names, np.ravel(answers).tolist()).value
    if here.any() and "mask" in collate.learnt:
        figures["mask_exact"] = mask_exact(seen["mask"][here], seen["target_mask"][here]).value
    parts = [figures[name] for name in ("style_auc", "pooled_cosine", "name_top5") if name in figures]
    if parts:
        figures["score"] = float(np.mean(parts))
    return figures
