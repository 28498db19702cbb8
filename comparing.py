"""Compare pictures by style: two of them, or all of a folder.

from intermezzo import compare, compare_folder
print(compare("a.png", "b.png"))
report = compare_folder("pictures", out="out/compare")
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .processing.errors import InputError
from .processing.style_looker import Seen, StyleLooker

BATCH_SIZE = 16
NEIGHBOURS = 5
_UNKNOWN_THRESHOLD = 0.5  # of clusters, where the model brings no pairs to learn one from


def default_checkpoint() -> Path:
    """Folder of the trained StyleEncoder that comes with the package."""
    return Path(__file__).resolve().parent / "checkpoints" / "style_encoder"


def load_looker(model: Any = None, device: str = "auto") -> StyleLooker:
    """A model folder, a Hub name or a `StyleLooker`, ready to look; the one that comes along where none is named."""
    return (
        model if isinstance(model, StyleLooker) else StyleLooker.from_pretrained(model or default_checkpoint(), device)
    )


@dataclass(frozen=True)
class Comparison:
    """Two pictures, compared.

    Attributes:
        first, second: Their names.
        similarity: Cosine of their styles, −1 … 1.
        above_same: Part of known pairs of one style that are less alike than these two, 0 … 1; `None` where the model
            brings no such pairs.
        above_different: The same for pairs of two styles.
    """

    first: str
    second: str
    similarity: float
    above_same: float | None = None
    above_different: float | None = None

    @property
    def verdict(self) -> str:
        """In words, by which kind of pair is so alike more often."""
        if self.above_same is None or self.above_different is None:
            return "not known: the model brings no pairs to stand among"
        if self.above_different >= 0.95:
            return "one style" if self.above_same >= 0.05 else "likely one style"
        return "two styles" if self.above_same < 0.05 else "hard to say"

    def __str__(self) -> str:
        lines = [f"style similarity {self.similarity:.3f} (−1 … 1): {self.verdict}"]
        if self.above_same is not None and self.above_different is not None:
            lines.append(f"more alike than {self.above_same:.1%} of known pairs of one style")
            lines.append(f"more alike than {self.above_different:.1%} of known pairs of two styles")
        return "\n".join(lines)


def compare(first: Any, second: Any, *, model: Any = None, device: str = "auto") -> Comparison:
    """How alike two pictures are in style, whatever they show.

    Args:
        first, second: Paths, PIL pictures or arrays.
        model: Model folder, Hub name or `StyleLooker`; by default the one that comes with the package.
        device: `"auto"`, `"cpu"`, `"cuda"`, ...

    Returns:
        The comparison; `str()` of it says it in words.

    Raises:
        InputError: A picture or the model can not be read.
    """
    from .train.metrics_style import standing

    looker = load_looker(model, device)
    seen = []
    for found in looker.look([first, second], BATCH_SIZE):
        if isinstance(found, InputError):
            raise found
        seen.append(found)
    similarity = float(np.clip(seen[0].style @ seen[1].style, -1, 1))
    known = looker.pairs()
    place = standing(similarity, known["same"], known["different"]) if known else {}
    return Comparison(seen[0].name, seen[1].name, similarity, **place)


@dataclass
class FolderComparison:
    """The pictures of a folder, compared.

    Attributes:
        names: Files, named from the folder.
        similarities: `(N, N)` cosines of their styles.
        neighbours: For each picture the nearest others, `(index, similarity)`, best first.
        clusters: Number of each picture's cluster, from 0, the largest first.
        threshold: Least mean similarity at which two clusters were joined.
        files: What was written.
        failures: What is wrong with the pictures that could not be read.
    """

    names: list[str]
    similarities: np.ndarray
    neighbours: list[list[tuple[int, float]]]
    clusters: list[int]
    threshold: float
    files: list[Path] = field(default_factory=list)
    failures: list[InputError] = field(default_factory=list)


def compare_folder(
    folder: str | Path,
    *,
    out: str | Path | None = Path("out") / "compare",
    threshold: float | None = None,
    model: Any = None,
    device: str = "auto",
    progress: bool = False,
) -> FolderComparison:
    """All pictures of a folder by style: how alike each two are, the nearest ones, and clusters.

    Args:
        folder: Folder of pictures, with those of its folders.
        out: Folder for `similarities.png`, `similarities.csv`, `neighbours.csv` and `clusters.csv`; `None`: write none.
        threshold: Least mean similarity of what is put in one cluster, −1 … 1; by default where known pairs of one
            style and of two are told apart best.
        model, device: As `compare`.
        progress: Show a progress bar.

    Raises:
        InputError: No such folder, fewer than two pictures in it that can be read, or no model.
    """
    from tqdm import tqdm

    from .processing.picture_files import PICTURE_SUFFIXES

    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "no such folder; give one with pictures")
    if threshold is not None and not -1 <= threshold <= 1:
        raise InputError(None, f"threshold is {threshold:g}; similarities reach from -1 to 1")
    looker = load_looker(model, device)
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]
    looks = tqdm(looker.look(paths, BATCH_SIZE), total=len(paths), unit="picture", disable=not progress, leave=False)
    found = list(looks)
    seen = [(path, item) for path, item in zip(paths, found, strict=True) if isinstance(item, Seen)]
    failures = [item for item in found if isinstance(item, InputError)]
    if len(seen) < 2:
        raise failures[0] if failures else InputError(folder, f"holds {len(seen)} pictures; two are needed to compare")
    styles = np.stack([item.style for _, item in seen])
    similarities = np.clip(styles @ styles.T, -1, 1)
    limit = best_threshold(looker.pairs()) if threshold is None else threshold
    report = FolderComparison(
        names=[path.relative_to(folder).as_posix() for path, _ in seen],
        similarities=similarities,
        neighbours=nearest_neighbours(similarities, NEIGHBOURS),
        clusters=find_clusters(similarities, limit),
        threshold=limit,
        failures=failures,
    )
    if out is not None:
        report.files = _write(report, [path for path, _ in seen], looker.processor, Path(out))
    return report


def _write(report: FolderComparison, paths: Sequence[Path], processor: Any, out: Path) -> list[Path]:
    """The report's four files in a folder."""
    from .reading_outputs import write_whole

    contents = {
        "similarities.csv": _matrix_csv(report),
        "neighbours.csv": _neighbours_csv(report),
        "clusters.csv": _csv([["picture", "cluster"], *zip(report.names, report.clusters, strict=True)]),
        "similarities.png": _png(draw_matrix(report, paths, processor)),
    }
    for name, content in contents.items():
        write_whole(out / name, content)
    return [out / name for name in contents]


def best_threshold(known: dict[str, np.ndarray]) -> float:
    """Where the part of one-style pairs above and of two-style pairs below is largest together."""
    if not known or not len(known["same"]) or not len(known["different"]):
        return _UNKNOWN_THRESHOLD
    places = np.unique(np.concatenate([known["same"], known["different"]]))
    caught = 1 - np.searchsorted(known["same"], places, "left") / len(known["same"])
    kept_out = np.searchsorted(known["different"], places, "left") / len(known["different"])
    return float(places[np.argmax(caught + kept_out)])


def nearest_neighbours(similarities: np.ndarray, count: int) -> list[list[tuple[int, float]]]:
    """For each row the most similar others, best first."""
    found = []
    for index, row in enumerate(similarities):
        order = [int(other) for other in np.argsort(-row, kind="stable") if other != index][:count]
        found.append([(other, float(row[other])) for other in order])
    return found


def find_clusters(similarities: np.ndarray, threshold: float) -> list[int]:
    """Average linkage: the two clusters of the largest mean similarity are joined, as long as it is high enough.

    Args:
        similarities: `(N, N)`, symmetric.
        threshold: Least mean similarity of two clusters that are joined.

    Returns:
        Number of each row's cluster, the largest cluster first, of equal ones that with the first row.
    """
    count = len(similarities)
    means = similarities.astype(np.float64).copy()
    np.fill_diagonal(means, -np.inf)
    sizes = np.ones(count)
    members: dict[int, list[int]] = {index: [index] for index in range(count)}
    while len(members) > 1:
        first, second = sorted(map(int, np.unravel_index(np.argmax(means), means.shape)))
        if means[first, second] < threshold:
            break
        joined = (sizes[first] * means[first] + sizes[second] * means[second]) / (sizes[first] + sizes[second])
        means[first], means[:, first] = joined, joined
        means[second], means[:, second], means[first, first] = -np.inf, -np.inf, -np.inf
        sizes[first] += sizes[second]
        members[first] += members.pop(second)
    ordered = sorted(members.values(), key=lambda own: (-len(own), min(own)))
    found = [0] * count
    for number, own in enumerate(ordered):
        for index in own:
            found[index] = number
    return found


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode("utf-8")


def _matrix_csv(report: FolderComparison) -> bytes:
    rows = [
        [name, *(f"{value:.4f}" for value in row)] for name, row in zip(report.names, report.similarities, strict=True)
    ]
    return _csv([["picture", *report.names], *rows])


def _neighbours_csv(report: FolderComparison) -> bytes:
    most = max(map(len, report.neighbours))
    head = ["picture", *(part for k in range(1, most + 1) for part in (f"neighbour {k}", f"similarity {k}"))]
    rows = []
    for name, near in zip(report.names, report.neighbours, strict=True):
        rows.append([name, *(part for other, value in near for part in (report.names[other], f"{value:.4f}"))])
    return _csv([head, *rows])


def _png(picture: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def draw_matrix(report: FolderComparison, paths: Sequence[Path], processor: Any) -> Any:
    """The similarities as a picture, clusters side by side, with the pictures along both edges.

    Blue is unlike, white is 0, red is alike. Up to 60 pictures are shown themselves, and with up to 20 the figures.
    """
    from PIL import Image, ImageDraw, ImageFont

    count = len(report.names)
    order = sorted(range(count), key=lambda index: (report.clusters[index], index))
    cell = max(2, min(56, 1400 // count))
    edge = cell + 4 if count <= 60 else 0
    values = report.similarities[np.ix_(order, order)]
    colours = _colours(values).repeat(cell, 0).repeat(cell, 1)
    sheet = Image.new("RGB", (edge + count * cell, edge + count * cell), "white")
    sheet.paste(Image.fromarray(colours), (edge, edge))
    pen = ImageDraw.Draw(sheet)
    if count <= 20:
        font = ImageFont.load_default(max(9, cell // 4))
        for row in range(count):
            for column in range(count):
                middle = (edge + column * cell + cell / 2, edge + row * cell + cell / 2)
                pen.text(middle, f"{values[row, column]:.2f}", fill="black", font=font, anchor="mm")
    for place in range(1, count):
        if report.clusters[order[place]] != report.clusters[order[place - 1]]:
            spot = edge + place * cell
            pen.line([(spot, 0), (spot, sheet.height)], fill="black", width=1)
            pen.line([(0, spot), (sheet.width, spot)], fill="black", width=1)
    for place, index in enumerate(order if edge else ()):
        small = processor.load(paths[index])
        small.thumbnail((cell - 2, cell - 2))
        sheet.paste(small, (edge + place * cell + 1, 1))
        sheet.paste(small, (1, edge + place * cell + 1))
    return sheet


def _colours(values: np.ndarray) -> np.ndarray:
    """−1 … 1 as blue, white, red: uint8 `(…, 3)`."""
    strength = np.clip(np.abs(values), 0, 1)[..., None]
    end = np.where(values[..., None] >= 0, (214, 69, 65), (58, 102, 196))
    return np.round(255 + strength * (end - 255)).astype(np.uint8)


__all__ = ["Comparison", "FolderComparison", "compare", "compare_folder", "find_clusters"]
