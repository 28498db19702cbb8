"""One Node process that answers jobs, with a time limit for each job, started again when it dies."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import threading
import time
import weakref
from typing import Any

from .jobs import Diagnostic, RenderError
from .runtime import HERE, MODULES_VARIABLE, ensure_installed, find_node

_LIVING: weakref.WeakSet[RenderWorker] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for worker in list(_LIVING):
        worker.close()


class RenderWorker:
    """A lazily started Node process. Not for use by two threads at once.

    Args:
        job_seconds: Time one job may take; the process is ended and replaced when a job takes longer.
        recycle_after: Jobs after which a fresh process is started, which bounds its memory.
    """

    def __init__(self, job_seconds: float = 30.0, recycle_after: int = 20_000) -> None:
        self.job_seconds = job_seconds
        self.recycle_after = recycle_after
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._jobs_done = 0
        self._next_id = 0

    @property
    def process_id(self) -> int | None:
        """Process id of the Node process, `None` before the first job."""
        return self._process.pid if self._process else None

    #: What the process is, in messages, and the Node program that it runs.
    what, server = "alphaTab", HERE / "render_server.mjs"

    def _environment(self) -> dict[str, str]:
        """Environment of the process."""
        return {**os.environ, MODULES_VARIABLE: str(ensure_installed())}

    def _start(self) -> None:
        environment = self._environment()
        process = subprocess.Popen(
            [find_node(), str(self.server)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        # A queue of its own for each process: a late line of an ended one can not be taken for an answer.
        answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(process, answers), daemon=True).start()
        self._process, self._answers, self._jobs_done = process, answers, 0
        _LIVING.add(self)
        try:
            self._exchange({"verb": "hello"}, max(self.job_seconds, 60.0))
        except _WorkerDied as error:
            self.close()
            raise RenderError("worker_died", f"the {self.what} process does not start; is Node 18 or later?") from error

    def ask(self, job: dict[str, Any]) -> dict[str, Any]:
        """The answer to a job.

        A process that dies is replaced and the job is tried once more: it may not be the job's fault.

        Raises:
            RenderError: If the job fails, takes too long, or ends the process twice.
        """
        for attempt in (1, 2):
            if self._process is not None and self._jobs_done >= self.recycle_after:
                self.close()
            if self._process is None:
                self._start()
            try:
                answer = self._exchange(job, self.job_seconds)
            except _WorkerDied as error:
                self.close()
                if attempt == 2:
                    raise RenderError("worker_died", f"the {self.what} process ended twice on this job") from error
                continue
            self._jobs_done += 1
            if answer["ok"]:
                return answer
            raise _failure(answer["error"])
        raise AssertionError("unreachable")

    def _exchange(self, job: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self._process is not None and self._process.stdin is not None
        self._next_id += 1
        try:
            self._process.stdin.write(json.dumps({**job, "id": self._next_id}).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._receive(time.monotonic() + seconds)
        except queue.Empty:
            self.close()
            raise RenderError("time_limit", f"took longer than {seconds:g} seconds") from None
        except OSError as error:
            raise _WorkerDied from error
        return answer

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The answer to the last job; answers to a job that was interrupted (Ctrl-C) are passed over."""
        while True:
            line = self._answers.get(timeout=max(deadline - time.monotonic(), 0.0))
            if line is None:
                raise _WorkerDied
            answer: dict[str, Any] = json.loads(line)
            if answer["id"] == self._next_id:
                return answer

    def close(self) -> None:
        """Ends the process; the next job starts a new one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # unsent bytes of a killed process
                    pipe.close()


class _WorkerDied(Exception):
    pass


def _pump(process: subprocess.Popen[bytes], answers: queue.SimpleQueue[bytes | None]) -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            answers.put(line)
    except (OSError, ValueError):
        pass  # closed under us: the process was ended on purpose
    answers.put(None)


def _failure(error: dict[str, Any]) -> RenderError:
    diagnostics = tuple(Diagnostic(**item) for item in error.get("diagnostics", ()))
    return RenderError(error["name"], _with_place(error["message"], diagnostics), diagnostics)


def _with_place(message: str, diagnostics: tuple[Diagnostic, ...]) -> str:
    first = next((item for item in diagnostics if item.severity == "error"), None)
    return f"line {first.line}, column {first.column}: {message}" if first else message
