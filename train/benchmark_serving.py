"""Load test of `intermezzo serve`: many clients at once, malformed uploads, memory, and the end.

python -m intermezzo.train.benchmark_serving [--clients 64] [--seconds 120] [--views 1] [--out out]

A server is started as a process of its own. Each client sends examples one after the other and compares every answer
with the one that a lone client got. The exit status is 1 when an answer was wrong, an upload that is none was not
refused with a reason, or the server did not end as it should.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .benchmark_uploads import malformed_uploads, multipart

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PACKAGE = (__package__ or "intermezzo.train").partition(".")[0]


@dataclass
class Load:
    """What the clients met.

    Attributes:
        seconds: Times to the answers of status 200.
        statuses: How often each status came; 0 where the connection broke.
        wrong: Answers that differ from those of a lone client.
        memory: Resident bytes of the server, about once a second.
    """

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    memory: list[float] = field(default_factory=list)


def post(port: int, body: bytes, kind: str) -> tuple[int, dict[str, Any]]:
    """Status and answer of one `POST /read`; status 0 where the connection broke."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        connection.request("POST", "/read", body, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        return 0, {"error": f"{type(error).__name__}: {error}"}
    finally:
        connection.close()


def figures(port: int) -> dict[str, float]:
    """The server's metrics by name with labels."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] not in ("#", ""))}


def put_under_load(port: int, clients: int, seconds: float, seed: int = 0) -> Load:
    """Lets the clients send for so long; they are told nothing of each other."""
    bodies = {path.name: multipart("picture", path.name, path.read_bytes()) for path in sorted(EXAMPLES.glob("*.png"))}
    expected = {name: post(port, *body)[1].get("text") for name, body in bodies.items()}
    load, lock, end = Load(), threading.Lock(), time.monotonic() + seconds

    def client(number: int) -> None:
        draw = random.Random(seed * 1_000_003 + number)
        while time.monotonic() < end:
            name = draw.choice(sorted(bodies))
            started = time.perf_counter()
            status, answer = post(port, *bodies[name])
            with lock:
                load.statuses[status] += 1
                if status == 200:
                    load.seconds.append(time.perf_counter() - started)
                    load.wrong += answer.get("text") != expected[name]

    def watch() -> None:
        while time.monotonic() < end:
            load.memory.append(figures(port).get("process_resident_memory_bytes", 0.0))
            time.sleep(1.0)

    with ThreadPoolExecutor(clients + 1) as threads:
        for done in [threads.submit(watch), *(threads.submit(client, number) for number in range(clients))]:
            done.result()
    return load


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of the values does not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-part * len(ordered) // 1) - 1))] if ordered else 0.0


def report(load: Load, clients: int, seconds: float, metrics: dict[str, float]) -> dict[str, float]:
    """The figures of a load test by what they are called in the table."""
    memory, quarter = load.memory or [0.0], max(1, len(load.memory) // 4)  # the first quarter is warming up
    calls = metrics.get('intermezzo_batch_size_count{model="score_vlm"}', 0.0)
    return {
        "clients": clients,
        "answers": len(load.seconds),
        "answers a second": len(load.seconds) / seconds,
        "wrong answers": load.wrong,
        "not answered (429, 5xx, broken)": sum(load.statuses.values()) - load.statuses[200],
        "seconds to the answer, p50": quantile(load.seconds, 0.5),
        "seconds to the answer, p95": quantile(load.seconds, 0.95),
        "seconds to the answer, p99": quantile(load.seconds, 0.99),
        "pages in one call of the model": metrics.get('intermezzo_batch_size_sum{model="score_vlm"}', 0.0)
        / max(calls, 1.0),
        "memory, second quarter, MB": quantile(memory[quarter : 2 * quarter] or memory, 0.5) / 1e6,
        "memory, third quarter, MB": quantile(memory[2 * quarter : 3 * quarter] or memory, 0.5) / 1e6,
        "memory, last quarter, MB": quantile(memory[-quarter:], 0.5) / 1e6,
        "memory at most, MB": max(memory) / 1e6,
    }


def over_time(memory: Sequence[float], parts: int = 24) -> list[float]:
    """Medians in MB of so many parts of the time, or of fewer where there are few figures."""
    size = max(1, len(memory) // parts)
    return [round(quantile(memory[k : k + size], 0.5) / 1e6, 1) for k in range(0, len(memory), size)]


def refuse_malformed(port: int, count: int) -> tuple[int, list[str]]:
    """How many malformed uploads were refused with a reason, and one line for each that was not."""
    faults = []
    for name, body, kind in malformed_uploads(count):
        status, answer = post(port, body, kind)
        if not (400 <= status < 500 and answer.get("error")):
            faults.append(f"{name}: status {status}, {json.dumps(answer)[:200]}")
    return count - len(faults), faults


def main(arguments: Sequence[str] | None = None) -> int:
    """Starts a server, measures, prints a table, saves `serving.json`."""
    parser = argparse.ArgumentParser(prog="benchmark_serving", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clients", type=int, default=64, help="at once (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=120.0, help="of load (default: %(default)s)")
    parser.add_argument("--malformed", type=int, default=200, help="malformed uploads (default: %(default)s)")
    parser.add_argument("--views", type=int, default=6, help="looks at each system (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of serving.json (default: %(default)s)")
    given = parser.parse_args(arguments)
    command = [sys.executable, "-m", f"{PACKAGE}.cli", "serve", "--port", "0", "--models", "score_vlm"]
    command += ["--queue", str(given.clients + 8), "--timeout", "600", "--views", str(given.views)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if not line:
                print("the server did not start", file=sys.stderr)
                return 1
            port = int(line.partition("http://127.0.0.1:")[2].split()[0])
            refused, faults = refuse_malformed(port, given.malformed)
            load = put_under_load(port, given.clients, given.seconds)
            found = report(load, given.clients, given.seconds, figures(port))
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=660)
    found |= {"malformed uploads refused": refused, "malformed uploads": given.malformed}
    found |= {"exit status": server.returncode}
    for name, value in found.items():
        print(f"{name:40s} {value:12.3f}".rstrip("0").rstrip("."))
    for fault in faults:
        print(fault, file=sys.stderr)
    given.out.mkdir(parents=True, exist_ok=True)
    kept = {**found, "memory over time, MB": over_time(load.memory)}
    (given.out / "serving.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    good = load.seconds and not load.wrong and set(load.statuses) == {200} and not faults and not server.returncode
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
