"""Memory that a server has freed goes back to the system."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from intermezzo import serving_memory
from intermezzo.serving_memory import memory_given_back

PROBE = """
import resource
from pathlib import Path
from intermezzo.serving_memory import give_memory_back, use_few_arenas

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

assert use_few_arenas()
pieces = [bytes(50_000) for _ in range(4000)]  # below the size that the C library takes from the system by itself
kept = pieces[::50]                            # what is kept lies between what is freed
full = resident()
del pieces
freed = resident()
assert give_memory_back()
print(full, freed, resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="malloc_trim is glibc's")
def test_holes_between_what_is_kept_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    if done.returncode and "use_few_arenas" in done.stderr:
        pytest.skip("another C library")
    assert not done.returncode, done.stderr
    full, freed, after = map(int, done.stdout.split())
    assert freed > full - 50e6  # the C library keeps the holes
    assert after < full - 150e6


def test_it_is_given_back_again_and_again_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    often, calls = threading.Event(), []

    def note() -> bool:
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            often.set()
        return True

    monkeypatch.setattr(serving_memory, "give_memory_back", note)
    with memory_given_back(every=0.001):
        assert often.wait(30)
    assert set(calls) == {"memory"} and not any(thread.name == "memory" for thread in threading.enumerate())


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for library in (None, object()):
        monkeypatch.setattr(serving_memory, "_c_library", lambda library=library: library)
        assert not serving_memory.give_memory_back() and not serving_memory.use_few_arenas()
