"""What stands between many waiting requests and one model: one thread owns the model and takes what waits together.

    request thread ── ask(page) ─┐
    request thread ── ask(page) ─┼─▶ waiting ──▶ the model's thread: work([page, page, page]) ──▶ answers
    request thread ── ask(page) ─┘

A lone request is worked on at once. While it is, others come to wait, and they are the next group: nobody waits for a
group to fill, and the busier the server is, the larger its groups are.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from .processing.style_looker import Seen, StyleLooker

if TYPE_CHECKING:
    from .processing.page_systems import Page
    from .processing.system_reader import SystemReader, SystemReading

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Dropped(Exception):
    """Nobody waits for this answer any longer, or the server is about to end."""


_DROPPED: ContextVar[threading.Event | None] = ContextVar("dropped", default=None)


@contextmanager
def droppable(event: threading.Event) -> Iterator[None]:
    """Within the block, what this thread asks for is left out once `event` is set."""
    token = _DROPPED.set(event)
    try:
        yield
    finally:
        _DROPPED.reset(token)


@dataclass
class _Waiting(Generic[Item, Answer]):
    item: Item
    event: threading.Event | None
    future: Future[Answer] = field(default_factory=Future)

    @property
    def is_dropped(self) -> bool:
        return self.event is not None and self.event.is_set()


class Batcher(Generic[Item, Answer]):
    """One thread that answers several askers at once.

    Args:
        work: One call of the model: answers in the order of the items.
        most: Items in one call.
        name: Of the thread.
        on_batch: Told the size of each group.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Sequence[Answer]],
        most: int = 8,
        name: str = "model",
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.work, self.most, self.on_batch = work, most, on_batch
        self._waiting: queue.SimpleQueue[_Waiting[Item, Answer] | None] = queue.SimpleQueue()
        self._lock, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def waiting(self) -> int:
        """How many items wait."""
        return self._waiting.qsize()

    def ask(self, item: Item) -> Answer:
        """The answer to one item, when its turn has come.

        Raises:
            Dropped: Nobody waits for it any longer (`droppable`), or the batcher is closed.
            Exception: What the model's call raised for this item.
        """
        return self.ask_all([item])[0]

    def ask_all(self, items: Sequence[Item]) -> list[Answer]:
        """The answers to several items, which need not be in one group."""
        event = _DROPPED.get()
        entries = [_Waiting[Item, Answer](item, event) for item in items]
        with self._lock:  # nothing may come to wait behind the mark that ends the thread
            if self._closed:
                raise Dropped
            for entry in entries:
                self._waiting.put(entry)
        return [entry.future.result() for entry in entries]

    def close(self) -> None:
        """Answers what waits already, and ends."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _group(self) -> tuple[list[_Waiting[Item, Answer]], bool]:
        """The next group, and whether the end has come."""
        group: list[_Waiting[Item, Answer]] = []
        entry = self._waiting.get()
        while entry is not None:
            if entry.is_dropped:
                entry.future.set_exception(Dropped())
            else:
                group.append(entry)
            if len(group) >= self.most:
                return group, False
            try:
                entry = self._waiting.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _run(self) -> None:
        ended = False
        while not ended:
            group, ended = self._group()
            if group:
                self._answer(group)

    def _answer(self, group: list[_Waiting[Item, Answer]]) -> None:
        self.on_batch(len(group))
        try:
            answers = self.work([entry.item for entry in group])
            for entry, answer in zip(group, answers, strict=True):
                entry.future.set_result(answer)
        except BaseException as error:  # the thread must outlive whatever one group does to it
            if len(group) == 1:
                group[0].future.set_exception(error)
                return
            # One item may spoil the call for all: each has its own chance, and only the culprit fails.
            for entry in group:
                if not entry.future.done():
                    self._answer([entry])


class BatchingReader:
    """Stands in for a `SystemReader` in `reading.read`: the pages of several callers are read in one call of it.

    Systems are looked for in the caller's thread; only the model's part waits.
    """

    def __init__(self, reader: SystemReader, most: int = 8, on_batch: Callable[[int], None] = lambda size: None):
        self.batcher: Batcher[Page, list[SystemReading]] = Batcher(reader.read_pages, most, "reader", on_batch)

    def read_page(self, page: Any) -> list[SystemReading]:
        """As `SystemReader.read_page`."""
        from .processing.page_systems import read_page
        from .processing.picture_files import grey_on_white

        found = read_page(page if isinstance(page, np.ndarray) else np.asarray(grey_on_white(page)))
        return self.batcher.ask(found) if found.systems else []


class BatchingLooker(StyleLooker):
    """A `StyleLooker` whose pictures go through the model together with those of other callers."""

    def __init__(self, looker: StyleLooker, most: int = 16, on_batch: Callable[[int], None] = lambda size: None):
        super().__init__(looker.model, looker.processor, looker.folder)
        self.batcher: Batcher[tuple[str, Any], Seen] = Batcher(
            lambda batch: list(looker._batch(batch, False)), most, "looker", on_batch
        )

    def _batch(self, batch: Sequence[tuple[str, Any]], attentions: bool) -> Iterator[Seen]:
        if attentions:
            raise NotImplementedError("attentions are not kept when callers share the model")
        yield from self.batcher.ask_all(list(batch))


__all__ = ["Batcher", "BatchingLooker", "BatchingReader", "Dropped", "droppable"]
