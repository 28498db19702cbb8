"""The renderer as a pool of Node processes: check, write in normal form, engrave, convert.

Make the pool in the process that uses it: a forked child can not share its parent's pipes.
"""

from __future__ import annotations

import base64
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ...processing.errors import InputError
from .jobs import Diagnostic, RenderedPicture, RenderError, RenderJob
from .worker import RenderWorker

_T = TypeVar("_T")
_R = TypeVar("_R")

TARGETS = ("alphatex", "gp7", "midi")


class AlphaTabPool:
    """Some alphaTab processes that share the work. Processes start at the first job.

    Args:
        workers: Number of Node processes; results do not depend on it.
        job_seconds: Time limit of one job.
    """

    def __init__(self, workers: int = 1, job_seconds: float = 30.0) -> None:
        if workers < 1:
            raise ValueError(f"workers is {workers}; it must be 1 or more")
        self._workers = [RenderWorker(job_seconds) for _ in range(workers)]
        self._free: queue.LifoQueue[RenderWorker] = queue.LifoQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="alphatab")

    def __enter__(self) -> AlphaTabPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        worker = self._free.get()
        try:
            return worker.ask(job)
        finally:
            self._free.put(worker)

    def verify(self, text: str) -> list[Diagnostic]:
        """What alphaTab's parser says of an alphaTex; no item of severity "error" means that it reads the text.

        Bars that are not full pass here; `processing.alphatex_grammar.check_bars` finds them.
        """
        return [Diagnostic(**item) for item in self._ask({"verb": "verify", "text": text})["diagnostics"]]

    def convert(self, source: str | bytes, source_format: str = "auto", target_format: str = "alphatex") -> bytes:
        """A score in another format.

        Args:
            source: alphaTex as `str`, or the bytes of a file.
            source_format: "alphatex" says that bytes are alphaTex; all else alphaTab finds out by itself.
            target_format: "alphatex" (alphaTab's own form), "gp7" (Guitar Pro 7 and 8) or "midi".

        Raises:
            RenderError: If the source can not be read.
            InputError: If the target format is not one of these.
        """
        if target_format not in TARGETS:
            hint = "; alphaTab reads MusicXML but does not write it" if "xml" in target_format.lower() else ""
            raise InputError(None, f"can not write {target_format}; choose {', '.join(TARGETS)}{hint}")
        if isinstance(source, bytes) and source_format == "alphatex":
            source = source.decode("utf-8")
        carried = {"text": source} if isinstance(source, str) else {"data": base64.b64encode(source).decode()}
        return base64.b64decode(self._ask({"verb": "convert", "to": target_format, **carried})["data"])

    def canonicalise(self, source: str | bytes | PathLike[str], *, is_path: bool | None = None) -> str:
        """Canonical alphaTex of an alphaTex text, or of a score file.

        Args:
            source: alphaTex, or the path or the bytes of an alphaTex, Guitar Pro or MusicXML file.
            is_path: Says which of the two a `str` is; by default a one-line `str` that names a file is a path.
        """
        from ...processing.alphatex_grammar import read_alphatex, write_alphatex

        loaded = source if isinstance(source, bytes) else load_source(source, is_path=is_path)
        return write_alphatex(read_alphatex(self.convert(loaded).decode("utf-8")))

    def render(self, job: RenderJob) -> list[RenderedPicture]:
        """The pictures of one job; more than one only for a page layout with `page_height_px`.

        Raises:
            RenderError: If the text can not be read or drawn.
        """
        answer = self._ask(job.message())
        return [RenderedPicture.from_answer(picture, job.key) for picture in answer["pictures"]]

    def draw_svg(self, svg: str, side_px: int) -> bytes:
        """Any SVG as an RGB PNG on white.

        Args:
            svg: The drawing; text in it needs no font of the machine, for none is loaded.
            side_px: Pixels of the longer side.

        Raises:
            RenderError: If it is no SVG.
        """
        return base64.b64decode(self._ask({"verb": "draw", "svg": svg, "side_px": side_px})["png"])

    def map_draw_svg(self, svgs: Iterable[str], side_px: int) -> Iterator[bytes | RenderError]:
        """`draw_svg` of many drawings, in order, failures as values."""
        return self._map(lambda svg: self.draw_svg(svg, side_px), svgs)

    def map_render(self, jobs: Iterable[RenderJob]) -> Iterator[list[RenderedPicture] | RenderError]:
        """Results in the order of the jobs. A job that fails gives its `RenderError` as a value; the rest goes on."""
        return self._map(self.render, jobs)

    def map_verify(self, texts: Iterable[str]) -> Iterator[list[Diagnostic] | RenderError]:
        """`verify` of many texts, in order, failures as values."""
        return self._map(self.verify, texts)

    def _map(self, call: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R | RenderError]:
        # A bounded window: an endless iterator of jobs must not be read to its end before the first picture.
        waiting: deque[Future[_R | RenderError]] = deque()
        try:
            for item in items:
                waiting.append(self._threads.submit(_value, call, item))
                if len(waiting) >= 4 * len(self._workers):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _value(call: Callable[[_T], _R], item: _T) -> _R | RenderError:
    try:
        return call(item)
    except RenderError as error:
        return error


def canonical_text(text: str) -> str:
    """Canonical alphaTex of alphaTex as people write it.

    What is canonical already is given back. Of anything else alphaTab says what it means (`\\tempo` before the first
    `\\track`, a lone `.` behind the title, …); where alphaTab is not there or can not read it, our own reader does.

    Raises:
        InputError: Neither can read it; alphaTab's reason, where it gave one.
    """
    from ...processing.alphatex_grammar import read_alphatex, write_alphatex

    own, wrong = None, None
    try:
        own = write_alphatex(read_alphatex(text))
    except InputError as error:
        wrong = error
    if own is not None and own.split() == text.split():
        return own
    try:
        with AlphaTabPool(workers=1) as pool:
            return pool.canonicalise(text, is_path=False)
    except InputError as error:
        if own is not None:
            return own
        if isinstance(error, RenderError) and error.name == "parse_error":
            raise  # our own reader knows but the strict form, and would blame what is right
        assert wrong is not None
        raise wrong from None


def load_source(source: str | PathLike[str], *, is_path: bool | None = None) -> str | bytes:
    """alphaTex as `str`, any other score file as bytes.

    Raises:
        InputError: If a path does not name a readable file, or an alphaTex file is not UTF-8.
    """
    if is_path is None:
        is_path = not isinstance(source, str) or ("\n" not in source and len(source) < 4096 and Path(source).is_file())
    if not is_path:
        return str(source)
    path = Path(source)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"can not be read ({error.strerror})") from error
    if path.suffix.lower() in (".atex", ".alphatex", ".tex", ".txt"):
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(path, f"is not UTF-8 text (byte {error.start})") from error
    return content
