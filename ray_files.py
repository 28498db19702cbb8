"""Many files over many workers by Ray Data: each file's result is written once, whoever dies on the way.

    driver: files ──▶ Ray Data ──▶ workers: work(file, folder) ──▶ folder/<n>.json
                                      ▲ started anew when one dies; what it had finished is not done again

A worker may be killed at any time (out of memory, a machine taken away): Ray starts another one and gives it the same
files; those whose result lies in the folder are passed over. A file that ends its worker again and again is given up
and told as a failure, so one bad file can not keep a cluster busy for ever.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .processing.errors import InputError

if TYPE_CHECKING:
    import numpy as np

Work = Callable[[Path, Path], dict[str, Any]]
TRIES = 3  # workers that may end over one file
BLOCKS = 16  # for each worker: small ones, so that all end at about the same time and little is repeated
STORE_BYTES = 200_000_000  # of Ray's object store where we start Ray ourselves; only names and texts go through it


class Worker:
    """What one worker process does: loads once, then takes files.

    Args:
        make: Called once; its result takes a file and a folder of its own for what it writes, and gives a dict that
            fits into JSON. Only `InputError` is a failure of the file that the person can mend.
        folder: Where results lie; every worker must see it under this name.
    """

    def __init__(self, make: Callable[[], Work], folder: str) -> None:
        self.folder, self.work, self.fatal = Path(folder), None, ""
        try:
            self.work = make()
        except InputError as error:
            self.fatal = str(error)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Ray Data's call: columns in, columns out."""
        found = [self.one(int(index), Path(file)) for index, file in zip(batch["index"], batch["file"], strict=True)]
        return {"index": batch["index"], "found": found}

    def one(self, index: int, file: Path) -> str:
        """The result of one file as JSON; the same one however often it is asked for."""
        if self.work is None:
            return json.dumps({"fatal": self.fatal})
        own, done = self.folder / f"{index:08d}", self.folder / f"{index:08d}.json"
        if done.is_file():
            return done.read_text(encoding="utf-8")
        shutil.rmtree(own / "out", ignore_errors=True)
        own.mkdir(exist_ok=True)
        with (own / "tries").open("a+") as tries:
            tries.write(f"{os.getpid()}\n")
            tries.seek(0)
            before = len(tries.readlines()) - 1
        found = self._found(file, own / "out", before)
        text = json.dumps(found, ensure_ascii=False)
        part = done.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, done)
        return text

    def _found(self, file: Path, out: Path, before: int) -> dict[str, Any]:
        if before >= TRIES:
            return {"error": f"{file}: {before} workers ended while they were at it; it is left out"}
        assert self.work is not None
        try:
            return self.work(file, out)
        except InputError as error:
            return {"error": str(error)}
        except Exception as error:
            return {"error": f"{file}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"}


def _knock(address: str) -> None:
    """Asks whether anybody listens at an address with a port: Ray itself would ask for minutes.

    Raises:
        InputError: Nobody does.
    """
    host, colon, port = address.partition("://")[2].rpartition(":") if "://" in address else address.rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(None, f"no Ray cluster answers at {address!r} ({error}); --ray local starts one") from error


@contextmanager
def session(address: str, workers: int | None = None) -> Iterator[Any]:
    """Ray, connected; started and ended here where nobody has.

    Args:
        address: `"local"` starts Ray on this machine; else that of a cluster, such as `"auto"` or `"ray://head:10001"`.
        workers: Processors that a Ray started here may use.

    Raises:
        InputError: Ray is not installed, or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default; else each start warns of it
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise InputError(None, f"--ray needs {error.name}; pip install 'intermezzo[ray]'") from error
    own = not ray.is_initialized()
    if own:
        _knock(address)
        settings: dict[str, Any] = {"address": address, "logging_level": logging.ERROR, "log_to_driver": False}
        if address == "local":
            settings |= {"num_cpus": workers or os.cpu_count(), "include_dashboard": False}
            settings |= {"object_store_memory": STORE_BYTES}
        try:
            ray.init(**settings)
        except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
            why = " ".join(str(error).split())[:120]
            raise InputError(None, f"no Ray cluster answers at {address!r} ({why}); --ray local starts one") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it would tell of every worker that comes and goes
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray
    finally:
        if own:
            ray.shutdown()


def map_files(
    files: Sequence[Path],
    make: Callable[[], Work],
    folder: Path,
    *,
    address: str = "local",
    workers: int | None = None,
    gpus: bool = False,
    what: str = "working",
    progress: bool = False,
) -> Iterator[dict[str, Any]]:
    """The results of files, in their order, as soon as that allows.

    Args:
        files: Files that every worker sees under these names.
        make, folder: See `Worker`.
        address, workers: See `session`; at most as many workers as the cluster has processors (or GPUs), all of them
            where no number is given.
        gpus: One GPU for each worker, where the cluster has some.
        what, progress: Name of the progress bar, and whether there is one.

    Raises:
        InputError: Ray can not be had, or the work can not be begun at all (a model that does not load).
    """
    from tqdm.auto import tqdm

    if workers is not None and workers < 1:
        raise InputError(None, f"workers is {workers}; it must be at least 1")
    if not files:
        return
    early: dict[int, dict[str, Any]] = {}
    due = 0
    with session(address, workers) as ray:
        there = ray.cluster_resources()
        with_gpus = gpus and there.get("GPU", 0) >= 1
        most = int(there["GPU"] if with_gpus else there.get("CPU", 1))
        count = max(1, min(workers or most, most, len(files)))
        rows = [{"index": index, "file": str(file)} for index, file in enumerate(files)]
        # Ray starts a dead worker again, and its work too, without end; `TRIES` ends it, file by file.
        data = ray.data.from_items(rows, override_num_blocks=min(len(rows), BLOCKS * count)).map_batches(
            Worker,
            fn_constructor_args=(make, str(folder)),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=count),
            num_cpus=1,
            num_gpus=1 if with_gpus else 0,
        )
        with tqdm(total=len(files), desc=what, unit="file", disable=not progress, leave=False) as bar:
            for row in data.iter_rows():
                found = json.loads(row["found"])
                if "fatal" in found:
                    raise InputError(None, found["fatal"])
                early[int(row["index"])] = found
                bar.update(1)
                while due in early:
                    yield early.pop(due)
                    due += 1
    if due != len(files):
        raise RuntimeError(f"Ray gave {due} results for {len(files)} files")


__all__ = ["TRIES", "Worker", "map_files", "session"]
