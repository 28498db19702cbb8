"""Where the requests of a server become work, and what is noted of them."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastapi import Request, UploadFile
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.concurrency import run_in_threadpool

from .serving_limits import DEADLINE, Limits, Refused
from .serving_queue import Dropped, droppable
from .serving_works import Paper

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
POLL_SECONDS = 0.5  # how soon it shows that a client has gone away


class Metrics:
    """The figures of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        add: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("intermezzo_requests", "Requests by path and status.", ("path", "status"), **add)
        self.seconds = Histogram(
            "intermezzo_request_seconds", "Time to the answer of status 200.", ("path",), buckets=SECONDS, **add
        )
        self.batches = Histogram(
            "intermezzo_batch_size", "Items in one call of a model.", ("model",), buckets=(1, 2, 4, 8, 16, 32), **add
        )
        self.inside = Gauge("intermezzo_requests_inside", "Requests that wait or are worked on.", ("path",), **add)

    def note(self, path: str, status: int, seconds: float) -> None:
        """One request has ended."""
        self.requests.labels(path, str(status)).inc()
        if status == 200:
            self.seconds.labels(path).observe(seconds)

    def on_batch(self, model: str) -> Callable[[int], None]:
        """Takes the sizes of a model's batches."""
        return lambda size: self.batches.labels(model).observe(size)


class Office:
    """Where requests become work: threads, uploads on the disk, and the time that an answer may take.

    Args:
        works: The verbs by stem of their model.
        limits: What is taken.
        threads: Requests that are worked on at the same time; the others of the queue wait.
    """

    def __init__(self, works: Mapping[str, Any], limits: Limits, threads: int) -> None:
        self.works, self.limits, self.stopping = dict(works), limits, False
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="request")

    async def do(
        self, request: Request, work: Callable[..., Any], uploads: Sequence[UploadFile | None], **settings: Any
    ) -> Any:
        """The answer of `work(folder, papers, **settings)`, or why there is none.

        Raises:
            Refused: The server is about to end, the time is over, or the client has gone away.
        """
        if self.stopping:
            raise Refused(503, "the server is about to end; try again in a moment", 5)
        folder = Path(tempfile.mkdtemp(prefix="intermezzo-"))
        event = threading.Event()
        try:
            given = [upload for upload in uploads if upload is not None]
            papers = [await run_in_threadpool(_store, upload, folder / str(k)) for k, upload in enumerate(given)]
            future = self.threads.submit(_work, event, work, folder, papers, settings)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        future.add_done_callback(lambda _: shutil.rmtree(folder, ignore_errors=True))
        try:
            return await self._wait(request, asyncio.wrap_future(future))
        finally:
            if not future.done():  # it is left out if its turn has not come; a model's call can not be broken off
                event.set()
                future.cancel()

    async def _wait(self, request: Request, waited: asyncio.Future[Any]) -> Any:
        waited.add_done_callback(lambda done: done.cancelled() or done.exception())  # someone has to look at it
        clock = asyncio.get_running_loop().time
        deadline = request.scope.get(DEADLINE, clock() + self.limits.timeout)
        while True:
            left = deadline - clock()
            done, _ = await asyncio.wait({waited}, timeout=min(max(left, 0.0), POLL_SECONDS))
            if done:
                return waited.result()
            if left <= 0:
                raise Refused(504, f"no answer within {self.limits.timeout:g} seconds; send less, or try again later")
            if await request.is_disconnected():
                raise Refused(499, "the client has gone away")

    def close(self) -> None:
        """Finishes what is being done, then ends the models."""
        self.stopping = True
        self.threads.shutdown(wait=True)
        for work in self.works.values():
            work.close()


def _work(
    event: threading.Event, work: Callable[..., Any], folder: Path, papers: list[Paper], settings: dict[str, Any]
) -> Any:
    with droppable(event):
        if event.is_set():
            raise Dropped
        return work(folder, papers, **settings)


def _store(upload: UploadFile, folder: Path) -> Paper:
    """The upload as a file with a name that can do no harm."""
    name = (
        re.sub(r"[^\w. -]+", "_", Path((upload.filename or "").replace("\\", "/")).name).strip(". ")[-80:] or "upload"
    )
    folder.mkdir()
    with (folder / name).open("wb") as file:
        shutil.copyfileobj(upload.file, file)
    return Paper(folder / name, name)


__all__ = ["Metrics", "Office"]
