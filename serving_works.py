"""What a server can do: one class for each verb, around the very function that the command line calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from .processing.errors import InputError
from .serving_answers import (
    CompareAnswer,
    ComposeAnswer,
    PageAnswer,
    PaintAnswer,
    PaintedAnswer,
    ReadAnswer,
    SongAnswer,
    SystemAnswer,
    WrittenFile,
)
from .serving_limits import Refused, check_picture
from .serving_queue import Batcher, BatchingLooker, BatchingReader

MAX_SAMPLES, MAX_BARS, MAX_SOURCE_BARS, MAX_STEPS = 8, 128, 256, 64  # of one request: minutes, not hours
MIDI_SUFFIXES = (".mid", ".midi")


@dataclass(frozen=True)
class Paper:
    """An upload that lies on the disk for as long as it is needed.

    Attributes:
        path: Where.
        name: What the client calls it, made safe.
    """

    path: Path
    name: str

    def told(self, message: object) -> str:
        """A message in which the file has the client's name, on one line."""
        return " ".join(str(message).replace(str(self.path), self.name).split())


OnBatch = Callable[[int], None]
Models = Mapping[str, str]  # folder or Hub name by stem


class Reading:
    """`read`: pages of several clients go through the model together."""

    path = "/read"
    stem = "score_vlm"
    needs: tuple[str, ...] = ()

    def __init__(
        self, models: Models, device: str, views: int | None, batch: int, max_pixels: int, on_batch: OnBatch
    ) -> None:
        from .datasets_scripts.render.client import AlphaTabPool
        from .processing.system_reader import SystemReader

        switches = {} if views is None else {"views": views}
        loaded = SystemReader.from_pretrained(models[self.stem], device=device, **switches)
        self.reader, self.max_pixels = BatchingReader(loaded, batch, on_batch), max_pixels
        self.pool = AlphaTabPool(workers=2)  # its processes start at the first job

    def __call__(self, folder: Path, papers: Sequence[Paper], formats: tuple[str, ...] = ()) -> ReadAnswer:
        """Reads one upload; `formats` are files that are wanted beside the text, `folder` is where they may lie."""
        from .reading import read

        (paper,) = papers
        check_picture(paper.path, self.max_pixels)
        out = folder / "out" if formats else None
        results = read(
            [paper.path], out=out, formats=formats or ("alphatex",), reader=self.reader, pool=self.pool  # type: ignore[arg-type]
        )  # fmt: skip
        if not any(result.text for result in results):
            raise Refused(422, paper.told(next((r.error for r in results if r.error), "nothing could be read")))
        pages = [
            PageAnswer(
                name=result.name,
                text=result.text,
                systems=[SystemAnswer(**_fields(SystemAnswer, system)) for system in result.systems],
                note=None if result.note is None else paper.told(result.note),
                error=None if result.error is None else paper.told(result.error),
            )
            for result in results
        ]
        files = [WrittenFile.of(path) for result in results for path in result.files]
        return ReadAnswer(text="\n".join(page.text for page in pages if page.text), pages=pages, files=files)

    def close(self) -> None:
        """Ends the model's thread and the drawing processes."""
        self.reader.batcher.close()
        self.pool.close()


def _fields(kind: type[BaseModel], found: Any) -> dict[str, Any]:
    return {name: getattr(found, name) for name in kind.model_fields}


class Comparing:
    """`compare`: pictures of several clients go through the model together."""

    path = "/compare"
    stem = "style_encoder"
    needs: tuple[str, ...] = ()

    def __init__(
        self, models: Models, device: str, views: int | None, batch: int, max_pixels: int, on_batch: OnBatch
    ) -> None:
        from .comparing import load_looker

        self.looker, self.max_pixels = (
            BatchingLooker(load_looker(models[self.stem], device), 2 * batch, on_batch),
            max_pixels,
        )

    def __call__(self, folder: Path, papers: Sequence[Paper]) -> CompareAnswer:
        """Compares two uploads."""
        from .comparing import compare

        first, second = papers
        for paper in papers:
            try:
                check_picture(paper.path, self.max_pixels)
            except Refused as refusal:
                raise Refused(refusal.status, f"{paper.name}: {refusal.message}") from None
        try:
            found = compare(first.path, second.path, model=self.looker)
        except InputError as error:
            raise Refused(422, second.told(first.told(error))) from None
        return CompareAnswer(**_fields(CompareAnswer, found))

    def close(self) -> None:
        """Ends the model's thread."""
        self.looker.batcher.close()


class Painting:
    """`paint`: one after the other, for a roll fills the machine."""

    path = "/paint"
    stem = "fractal_midi"
    needs: tuple[str, ...] = ()

    def __init__(
        self, models: Models, device: str, views: int | None, batch: int, max_pixels: int, on_batch: OnBatch
    ) -> None:
        from .painting import load_painter

        self.painter, self.max_pixels = load_painter(models[self.stem], device), max_pixels
        self.batcher: Batcher[Callable[[], Any], Any] = Batcher(
            lambda calls: [call() for call in calls], 1, "painter", on_batch
        )

    def __call__(
        self, folder: Path, papers: Sequence[Paper], *, mask: str | None = None, bars: int | None = None,
        num_samples: int = 1, steps: str | None = None, cfg: float | None = None, **settings: Any,
    ) -> PaintAnswer:  # fmt: skip
        """Paints from nothing, or on after (or into) the first upload; settings as of `painting.paint`."""
        from .painting import paint, whole_numbers

        source = papers[0] if papers else None
        for name, value, most in (("num_samples", num_samples, MAX_SAMPLES), ("bars", bars, MAX_BARS)):
            if value is not None and not 1 <= value <= most:
                raise Refused(422, f"{name} is {value}; it must be 1 to {most} here")
        if mask is not None and not re.fullmatch(r"[0-9A-Ga-g#:,\- ]{1,400}", mask):
            # A mask may also be the name of a picture; no client names files of the server.
            raise Refused(422, f"the mask {mask[:40]!r} is not understood; write bars and pitches such as 5-8:C4-B5")
        if source is not None:
            self._check_source(source)
        settings |= {"num_samples": num_samples, "bars": bars, "cfg_scale": cfg, "painter": self.painter}
        levels = whole_numbers(steps) if steps else None
        if levels and max(levels) > MAX_STEPS:
            raise Refused(
                422, f"the steps are {steps}; {max(levels)} is above {MAX_STEPS}, the most that is taken here"
            )
        settings |= {"num_iter_list": levels}
        path = None if source is None else source.path
        try:
            results = self.batcher.ask(lambda: paint(path, mask, out=folder / "out", **settings))
        except InputError as error:
            raise Refused(422, source.told(error) if source else str(error)) from None
        return PaintAnswer(
            results=[
                PaintedAnswer(
                    name=one.name, tempo=one.tempo, metre=one.metre, files=list(map(WrittenFile.of, one.files))
                )
                for one in results
            ]
        )

    def _check_source(self, source: Paper) -> None:
        if source.path.suffix.lower() not in MIDI_SUFFIXES:
            raise Refused(422, f"{source.name}: send a MIDI file, its name ending in .mid")
        try:
            _, lines, _ = self.painter[1].load(source.path)
        except InputError as error:
            raise Refused(422, source.told(error)) from None
        if len(lines) > MAX_SOURCE_BARS:
            raise Refused(413, f"{source.name}: has {len(lines)} bars; {MAX_SOURCE_BARS} are taken")

    def close(self) -> None:
        """Ends the model's thread."""
        self.batcher.close()


class Composing:
    """`compose`: one after the other; pictures are taken where there is a StyleEncoder."""

    path = "/compose"
    stem = "museformer"
    needs: tuple[str, ...] = ("summary_bridge",)

    def __init__(
        self, models: Models, device: str, views: int | None, batch: int, max_pixels: int, on_batch: OnBatch
    ) -> None:
        from .composing import load_composer

        style = models.get(Comparing.stem)
        self.composer = load_composer(
            models[self.stem], models[self.needs[0]], style, device, with_pictures=style is not None
        )
        self.max_pixels = max_pixels
        self.batcher: Batcher[Callable[[], Any], Any] = Batcher(
            lambda calls: [call() for call in calls], 1, "composer", on_batch
        )

    def __call__(
        self, folder: Path, papers: Sequence[Paper], *, words: str | None = None, bars: int | None = None,
        num_samples: int = 1, **settings: Any,
    ) -> ComposeAnswer:  # fmt: skip
        """Composes to words, or to the first upload; settings as of `composing.compose`."""
        from .composing import compose
        from .composing_words import ask

        words = words or None
        # "A song of 500 bars" is a wish for bars, too, and would keep everyone else waiting.
        asked = bars if bars is not None or words is None else ask(words).stated.get("bars")
        for name, value, most in (("num_samples", num_samples, MAX_SAMPLES), ("bars", asked, MAX_BARS)):
            if value is not None and not 1 <= value <= most:
                raise Refused(422, f"{name} is {value}; it must be 1 to {most} here")
        picture = None
        if papers:
            check_picture(papers[0].path, self.max_pixels)
            picture = papers[0].path
        settings |= {"bars": bars, "num_samples": num_samples, "composer": self.composer}
        try:
            (found,) = self.batcher.ask(lambda: compose(words, picture=picture, out=folder / "out", **settings))
        except InputError as error:
            raise Refused(422, papers[0].told(error) if papers else " ".join(str(error).split())) from None
        songs = [SongAnswer(name=song.name, files=[WrittenFile.of(p) for p in song.files]) for song in found.songs]
        return ComposeAnswer(prompt=found.prompt, report=str(found), notes=found.notes, songs=songs)

    def close(self) -> None:
        """Ends the model's thread."""
        self.batcher.close()


WORKS: dict[str, Any] = {kind.stem: kind for kind in (Reading, Comparing, Painting, Composing)}
STEMS = tuple(dict.fromkeys(name for stem, kind in WORKS.items() for name in (stem, *kind.needs)))


def find_checkpoints(models: Sequence[str] = ()) -> dict[str, str]:
    """Which models to serve, and where their checkpoints are.

    Args:
        models: `STEM` or `STEM=FOLDER` each; when empty, all that come along.

    Raises:
        InputError: A model that does not exist, one that lacks another, or none at all.
    """
    home = Path(__file__).resolve().parent / "checkpoints"
    here = {stem: str(home / stem) for stem in STEMS if (home / stem / "config.json").is_file()}
    found: dict[str, str] = dict(here) if not models else {}
    for text in models:
        stem, sign, folder = text.partition("=")
        if stem not in STEMS:
            raise InputError(None, f"{stem!r} can not be served; choose from {', '.join(STEMS)}")
        if not sign and stem not in here:
            raise InputError(None, f"no checkpoint of {stem} comes along; give --models {stem}=FOLDER")
        found[stem] = folder if sign else here[stem]
    for stem in [name for name in found if name in WORKS]:
        lacking = [name for name in WORKS[stem].needs if name not in found]
        if lacking and models:
            raise InputError(None, f"{stem} can not be served without {lacking[0]}; name both after --models")
        if lacking:
            del found[stem]
    if not set(found) & set(WORKS):
        raise InputError(home, f"holds nothing to serve; give --models STEM=FOLDER, STEM one of {', '.join(STEMS)}")
    return found


__all__ = ["WORKS", "Comparing", "Composing", "Painting", "Paper", "Reading", "find_checkpoints"]
