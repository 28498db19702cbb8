"""Pictures with a style from three places: folders of files, engravings of one text by several hands, icon sets.

Each source lists its jobs first (cheap, in a fixed order), so that splits are made before anything is drawn, and then
draws them in parts.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from .guitar_parts import LINE_GRAYS, MUSIC_FONTS, TEXT_FONTS, iter_system_jobs
from .style_targets import find_style_pictures

#: Licences that allow pictures to be passed on in a data set; share-alike ones would bind the whole of it.
LICENCES = ("MIT", "ISC", "Apache-2.0", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "BSD-3-Clause", "OFL-1.1", "Unlicense")


@dataclass(frozen=True)
class StyleJob:
    """One picture to be.

    Attributes:
        style: Label of its style.
        content: What it shows; pictures of one content stay in one split.
        name: Unique within its style.
        source: Where it comes from.
        payload: What its source draws it from.
        caption, caption_zh: What it shows, in English (or the user's own language) and Chinese.
        targets: `.pt` files by target.
    """

    style: str
    content: str
    name: str
    source: str
    payload: Any = field(compare=False, repr=False)
    caption: str | None = None
    caption_zh: str | None = None
    targets: dict[str, Path] = field(default_factory=dict)


class FolderSource:
    """A folder with one folder of pictures for each style; see `find_style_pictures`.

    Args:
        folder: The folder.
        max_side: Larger pictures are scaled down to this many pixels.
    """

    held_out: tuple[str, ...] = ()
    licences: dict[str, str] = {}

    def __init__(self, folder: str | Path, max_side: int = 512) -> None:
        self.folder, self.max_side = Path(folder), max_side

    def jobs(self) -> tuple[list[StyleJob], list[list[str]]]:
        """Jobs, and what is wrong with files."""
        pictures, failures = find_style_pictures(self.folder)
        jobs = [
            StyleJob(p.style, p.caption or p.name, p.name, "folder", p.path, p.caption, None, p.targets)
            for p in pictures
        ]
        return jobs, failures

    def draw(self, jobs: Sequence[StyleJob], pool: Any) -> Iterator[bytes | str]:
        """PNG of each job in RGB, upright, or what is wrong with it."""
        from ..processing.picture_files import load_pictures

        for job in jobs:
            try:
                picture = next(load_pictures(job.payload, colour=True)).image
            except InputError as error:
                yield error.message
                continue
            picture.thumbnail((self.max_side, self.max_side))
            buffer = io.BytesIO()
            picture.save(buffer, "PNG")
            yield buffer.getvalue()


def hands() -> dict[str, dict[str, Any]]:
    """Twelve hands that draw music: a music font with a text font, and spacing and ink of its own."""
    found = {}
    for number, (music, text) in enumerate(product(MUSIC_FONTS, TEXT_FONTS)):
        found[f"{music}-{text}"] = {
            "music_font": music,
            "text_font": text,
            "serif_font": TEXT_FONTS[(number + 1) % len(TEXT_FONTS)],
            "line_gray": LINE_GRAYS[number % len(LINE_GRAYS)],
            "stretch": (1.0, 0.9, 1.2)[number % 3],
            "second_voice_gray": (None, 0, 100)[number % 3],
        }
    return found


class EngravingSource:
    """Systems made by rule, each drawn by every hand: one content, many styles.

    Args:
        count: Systems.
        seed: Decides them.
    """

    held_out: tuple[str, ...] = tuple(name for name in hands() if name.startswith("petaluma"))
    licences = {"engravings": "free of rights; drawn by alphaTab (MPL-2.0) with fonts under the OFL"}

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count, self.seed = count, seed

    def jobs(self) -> tuple[list[StyleJob], list[list[str]]]:
        """Jobs: each system by each hand, side by side."""
        jobs = []
        for number, (text, style, piece) in enumerate(iter_system_jobs(self.seed, self.count)):
            # Size and staves belong to the content: a hand is not known by how near the camera was.
            kept = {key: style[key] for key in ("staves", "scale", "bar_numbers", "dynamics", "rhythm")}
            for name, hand in hands().items():
                payload = (text, {**kept, **hand})
                jobs.append(StyleJob(name, piece, f"{piece}-{number}", "engravings", payload))
        return jobs, []

    def draw(self, jobs: Sequence[StyleJob], pool: Any) -> Iterator[bytes | str]:
        """PNG of each job, or what is wrong with it."""
        from .render.jobs import RenderError, RenderJob

        for result in pool.map_render(RenderJob(text=job.payload[0], **job.payload[1]) for job in jobs):
            yield str(result) if isinstance(result, RenderError) else result[0].png


class IconSource:
    """Icon and emoji sets in the format of the npm packages `@iconify-json/*`.

    Install the sets that are wanted with npm and name the folder:

        npm install --prefix icons @iconify-json/ph @iconify-json/noto emojibase-data @icon-park/svg

    A set whose `metadata.json` names suffixes (Phosphor's weights) gives one style for each, and so does one of which
    many names end in `-outline`, `-filled` and the like. Chinese names come from `emojibase-data` and `@icon-park/svg`
    beside the sets, for whatever has the same English name. Flags of countries are left out: nothing in a flag tells
    the name of a country that was never seen.

    Args:
        folder: The folder, or its `node_modules`.
        side_px: Longer side of the pictures.
        per_style: Pictures of each style at most; all styles take the same contents first. 0: all.
        licences: SPDX names of licences that are allowed.
        without: Styles that are left out, such as one that nobody could tell from another.
    """

    def __init__(
        self,
        folder: str | Path,
        side_px: int = 128,
        per_style: int = 0,
        licences: Sequence[str] = LICENCES,
        without: Sequence[str] = (),
    ) -> None:
        folder = Path(folder)
        self.modules = folder / "node_modules" if (folder / "node_modules").is_dir() else folder
        self.side_px, self.per_style, self.allowed, self.without = side_px, per_style, tuple(licences), tuple(without)
        self.held_out: tuple[str, ...] = HELD_OUT_ICONS
        self.licences: dict[str, str] = {}

    def jobs(self) -> tuple[list[StyleJob], list[list[str]]]:
        """Jobs of all allowed sets, and the sets that are left out.

        Raises:
            InputError: The folder holds no set.
        """
        sets = sorted((self.modules / "@iconify-json").glob("*/icons.json"))
        if not sets:
            raise InputError(
                self.modules, "holds no icon set; run npm install --prefix FOLDER @iconify-json/NAME and give FOLDER"
            )
        chinese = chinese_names(self.modules)
        jobs: list[StyleJob] = []
        failures: list[list[str]] = []
        for path in sets:
            try:
                jobs += self._jobs_of(path, chinese)
            except InputError as error:
                failures.append([str(path.parent), error.message])
        return jobs, failures

    def _jobs_of(self, path: Path, chinese: dict[str, str]) -> list[StyleJob]:
        data, info = _json(path), _json(path.with_name("info.json"))
        prefix, licence = data["prefix"], info.get("license", {})
        spdx = licence.get("spdx", "unknown")
        if spdx not in self.allowed:
            raise InputError(None, f"its licence is {spdx}; allow it with --licence {spdx}, or remove the set")
        author = info.get("author", {}).get("name", "unknown")
        self.licences[prefix] = f"{info.get('name', prefix)} by {author}, {spdx} ({licence.get('url', '')})"
        suffixes = _suffixes(path.with_name("metadata.json"), list(data["icons"]), bool(info.get("palette")))
        found: dict[str, list[StyleJob]] = {}
        for name, icon in sorted(data["icons"].items()):
            if icon.get("hidden") or name.startswith("flag-") or _of_skin_tone(name, data["icons"]):
                continue
            suffix = next((s for s in suffixes if s and name.endswith(f"-{s}")), "")
            style = f"{prefix}-{suffix or 'regular'}" if suffixes else prefix
            if style in self.without:
                continue
            words = plain_name(name.removesuffix(f"-{suffix}" if suffix else ""))
            job = StyleJob(style, words, name, prefix, _svg(data, icon), words, chinese.get(words))
            found.setdefault(style, []).append(job)
        for style, own in found.items() if self.per_style else ():
            found[style] = sorted(own, key=lambda job: (_order(job.content), job.name))[: self.per_style]
        return [job for own in found.values() for job in own]

    def draw(self, jobs: Sequence[StyleJob], pool: Any) -> Iterator[bytes | str]:
        """PNG of each job, or what is wrong with it."""
        from .render.jobs import RenderError

        for result in pool.map_draw_svg([job.payload for job in jobs], self.side_px):
            yield str(result) if isinstance(result, RenderError) else result


#: Styles that icons are not trained on: two weights of one set, one theme each of two others, two sets of emoji.
HELD_OUT_ICONS = ("ph-thin", "ph-fill", "solar-broken", "icon-park-twotone", "fluent-emoji-flat", "emojione")
_ENDINGS = ("outline", "filled", "solid", "fill")
_NUMBERS = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"}


def plain_name(name: str) -> str:
    """An icon's or an emoji's name as words: lower case, no signs, and no number that only tells variants apart."""
    words = re.sub(r"[^a-z0-9]+", " ", name.lower().replace("\u2019", "").replace("'", "")).split()
    while len(words) > 1 and (words[-1] in _NUMBERS or words[-1].isdigit()) and words[-2] not in {"number", "keycap"}:
        words.pop()
    return " ".join(words)


def _of_skin_tone(name: str, names: Container[str]) -> bool:
    """One of five that differ in the colour of the skin alone, of which the plain one is kept."""
    base = re.sub(r"-(light|medium-light|medium|medium-dark|dark)$", "", name)
    return "skin-tone" in name or (base != name and f"{base}-medium-dark" in names)


def _suffixes(metadata: Path, names: list[str], colourful: bool) -> list[str]:
    """Endings of names that stand for a style, longest first; with "" among them."""
    suffixes = list((_json(metadata).get("suffixes") or {}) if metadata.is_file() else {})
    if not suffixes and not colourful:  # a tenth of the names: else it is a word of the content
        share = {end: sum(name.endswith(f"-{end}") for name in names) / len(names) for end in _ENDINGS}
        suffixes = [end for end in _ENDINGS if share[end] >= 0.1]
    return sorted(suffixes, key=len, reverse=True)


def _order(content: str) -> bytes:
    return hashlib.sha256(content.encode()).digest()


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            None, f"{path.name} can not be read ({type(error).__name__}); install the set again"
        ) from error


def _svg(data: dict[str, Any], icon: dict[str, Any]) -> str:
    """One icon as a drawing of its own; sizes not said are the set's, and 16 where that says none."""
    box = [icon.get(key, data.get(key, default)) for key, default in _BOX]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="black" '
        f'viewBox="{" ".join(map(str, box))}" width="{box[2]}" height="{box[3]}">{icon["body"]}</svg>'
    )


_BOX = (("left", 0), ("top", 0), ("width", 16), ("height", 16))


def chinese_names(modules: Path) -> dict[str, str]:
    """Chinese names by English ones: of emoji (CLDR's, in `emojibase-data`), then of IconPark's own icons."""
    found: dict[str, str] = {}
    paths = [modules / "emojibase-data" / language / "data.json" for language in ("en", "zh")]
    if all(path.is_file() for path in paths):
        english, chinese = ({item["hexcode"]: item["label"] for item in _json(path)} for path in paths)
        for code, label in english.items():
            if chinese.get(code):
                found.setdefault(plain_name(label), chinese[code])
    park = modules / "@icon-park" / "svg" / "icons.json"
    for item in _json(park) if park.is_file() else ():
        if re.search(r"[\u4e00-\u9fff]", item.get("title", "")):
            found.setdefault(plain_name(item["name"]), re.sub(r"[\s\d]+$", "", item["title"]))
    return found


__all__ = [
    "HELD_OUT_ICONS",
    "LICENCES",
    "EngravingSource",
    "FolderSource",
    "IconSource",
    "StyleJob",
    "chinese_names",
    "hands",
    "plain_name",
]
