"""`intermezzo compose`, the writing: Museformer plays plans, to a picture again until the song has what is heard."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .composing_songs import Song, make_song
from .composing_words import Asked, read_key, read_programs
from .processing.music_attributes import METRES
from .processing.music_tries import best_of

if TYPE_CHECKING:
    import torch

    from .composing import ComposeSettings
    from .composing_parts import Composer

_ROWS = 16  # songs written at once
_PARALLEL_ROWS = 256  # bars written at once


@dataclass(frozen=True)
class Wishes:
    """Settings in the words of the music.

    Attributes:
        banned: Words that may not come.
        key: Tonic and mode to move to.
    """

    banned: list[int]
    key: tuple[str, str | None] | None

    @classmethod
    def read(cls, settings: ComposeSettings, processor: Any) -> Wishes:
        """From settings.

        Raises:
            InputError: There are no words for them.
        """
        from .processing.bar_midi_vocabulary import SECTIONS

        banned: list[int] = []
        if settings.tempo is not None:  # the header is put in all the same
            first, size = SECTIONS["Tempo"]
            banned += range(first, first + size)
        if settings.program is not None:
            wanted, (first, size) = set(read_programs(settings.program)), SECTIONS["Program"]
            banned += [first + k for k in range(size) if k - 1 not in wanted]
        processor.header(settings.tempo, settings.metre)  # refuses what there are no words for
        return cls(banned, None if settings.key is None else read_key(settings.key))


@dataclass(frozen=True)
class SongWriter:
    """Writes the songs of one prompt.

    Attributes:
        parts: The models.
        heard: What the bridge is given of the prompt, on the models' device.
        bars: Of each song.
        settings, wishes: What else was asked for.
        header: First words of every bar.
        sides: -1 or 1 by attribute, of images that were looked up in the prompt.
        pictured: −1 … 1 by attribute, what the bridge hears in the prompt as a picture (`Composer.pictured`).
    """

    parts: Composer
    heard: dict[str, torch.Tensor]
    bars: int
    settings: ComposeSettings
    wishes: Wishes
    header: list[int]
    sides: Mapping[str, int]
    pictured: Mapping[str, float]

    def songs(self, name: str, progress: bool) -> Iterator[Song]:
        """All of them, one after the other.

        Args:
            name: Of the songs; they are numbered where there are several.
            progress: Show a progress bar.
        """
        wanted = self.settings.num_samples
        rows = max(1, _PARALLEL_ROWS // self.bars if self.settings.bar_parallel else _ROWS)
        # All bars at once are a matter of seconds, and have no bar that could be said to be next.
        with _progress(self.bars * wanted, progress and not self.settings.bar_parallel) as bar:
            for start in range(0, wanted, rows):
                numbers = range(start + 1, min(start + rows, wanted) + 1)
                names = [f"{name}-{number}" if wanted > 1 else name for number in numbers]
                yield from self._some(names, self.settings.seed + 7919 * start, bar)

    def _some(self, names: list[str], seed: int, bar: Any) -> list[Song]:
        """Songs of these names that are written at once."""
        import torch

        device = self.parts.museformer.device
        generator = torch.Generator(device).manual_seed(seed)
        began = time.perf_counter()

        def write(rows: list[int], number: int, wanted: Any, lean: Any) -> list[tuple[Song, dict[str, Any] | None]]:
            if number:
                bar.total = (bar.total or 0) + self.bars * len(rows)
                bar.set_description(f"composing, try {number + 1}")
            wanted, lean = (None if x is None else torch.tensor(x, device=device) for x in (wanted, lean))
            found = self._words(len(rows), self.sides if wanted is None else wanted, lean, generator, bar)
            songs = [
                make_song(self.parts.music, ids, names[k], key=self.wishes.key)
                for k, ids in zip(rows, found, strict=True)
            ]
            return [(song, song.values) for song in songs]

        songs = best_of([self.pictured] * len(names), write, self.settings.tries)
        seconds = (time.perf_counter() - began) / len(names)
        return [replace(song, seconds=seconds) for song in songs]

    def _words(self, count: int, sides: Any, lean: Any, generator: torch.Generator, bar: Any) -> Any:
        """Words of so many songs `(count, T)`, with padding."""
        parts, settings = self.parts, self.settings
        plan = parts.plan(self.heard, self.bars, count, settings.cfg, settings.steps, generator, sides)
        ids = parts.museformer.write(
            self.bars, summary_tokens=plan, header=self.header, grammar=_watched(parts.music.grammar, bar),
            temperature=settings.temperature, top_p=settings.top_p, banned=self.wishes.banned or None,
            parallel=settings.bar_parallel, lean=lean, generator=generator,
        )  # fmt: skip
        return ids.cpu().numpy()


def header_of(processor: Any, settings: ComposeSettings, asked: Asked) -> list[int]:
    """First words of every bar: the metre stands before the tempo, so that who wishes for a tempo must name a metre."""
    metre = settings.metre
    if metre is None and settings.tempo is not None and "metre" in asked.stated:
        named = METRES[asked.stated["metre"][0]]
        metre = None if named == "other" else named
    return processor.header(settings.tempo, metre)


@contextmanager
def _progress(bars: int, shown: bool) -> Iterator[Any]:
    from tqdm.auto import tqdm

    with tqdm(total=bars, desc="composing", unit="bar", disable=not shown, leave=False) as bar:
        yield bar


class _Watched:
    """A grammar that moves a progress bar on by the bars that have begun."""

    def __init__(self, grammar: Any, bar: Any) -> None:
        self._grammar, self._bar, self._before = grammar, bar, 0

    def advance(self, ids: torch.Tensor) -> None:
        self._grammar.advance(ids)
        begun = int(self._grammar.bars.sum())
        self._bar.update(max(0, begun - self._before))
        self._before = max(begun, self._before)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grammar, name)


def _watched(make: Any, bar: Any) -> Any:
    return make if bar.disable else lambda *args, **options: _Watched(make(*args, **options), bar)


__all__ = ["SongWriter", "Wishes", "header_of"]
