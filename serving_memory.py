"""Keeps a long-lived server from swelling: what it has freed goes back to the system (glibc; others are left alone).

Pages and groups differ in size from call to call. Each thread frees into an arena of its own, holes are left between
what is still in use, and resident memory creeps up although nothing is held. So there are few arenas (mallopt(3)), and
twice a minute their holes are given back (malloc_trim(3)); after each group that would cost a third of the speed.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

ARENAS = 2
EVERY_SECONDS = 30.0
_M_ARENA_MAX = -8  # malloc.h


@cache
def _c_library() -> Any:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has none by that name
        return None


def use_few_arenas(count: int = ARENAS) -> bool:
    """Lets threads that are still to come share so many arenas; whether the C library knows of such."""
    mallopt = getattr(_c_library(), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, count))


def give_memory_back() -> bool:
    """Returns the holes of freed memory to the system; whether there were any."""
    trim = getattr(_c_library(), "malloc_trim", None)
    return trim is not None and bool(trim(0))


@contextmanager
def memory_given_back(every: float = EVERY_SECONDS) -> Iterator[None]:
    """Within the block, memory is given back every so many seconds."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(every):
            give_memory_back()

    thread = threading.Thread(target=run, name="memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


__all__ = ["give_memory_back", "memory_given_back", "use_few_arenas"]
