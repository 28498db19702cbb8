"""Time from a picture to music that can be played, in a browser: the Space's tab Read, as a person uses it.

python -m intermezzo.train.benchmark_space [--rounds 3] [--out out]

The page is served on this machine and opened in Chromium (Playwright; Debian: apt install chromium). Each picture is
given to a page that has just been opened; the clock runs until the sheet is engraved and its play button can be
pressed. The first round includes the loading of the model. The exit status is 1 when a one-page picture took longer
than it may, or could not be read.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..processing.errors import InputError

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PICTURES = ("malaguena.png", "ode_to_joy_score_tab.png", "greensleeves_page.pdf")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MOST_SECONDS = 10.0
PLAYABLE = "() => document.getElementById('im-read-sheet').dataset.ready === 'yes'"
PROBLEM = (
    "document.querySelector('#im-read-news .im-problem')?.textContent"
    " ?? document.getElementById('im-read-problem').textContent"
)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serves an application on a free port of this machine; gives its address."""
    import uvicorn

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise InputError(None, f"the page could not be served at port {port}")
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


def find_browser() -> str | None:
    """Path of a Chromium that is installed, `None` where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def time_picture(browser: Any, address: str, picture: Path, seconds: float) -> float:
    """Seconds from giving a picture until it can be played.

    Raises:
        InputError: It could not be read, or not in so many seconds.
    """
    from playwright.sync_api import TimeoutError as TooLong

    page = browser.new_page()
    try:
        page.goto(f"{address}/en/")
        page.wait_for_selector("#im-tabs [role=tab]")
        page.wait_for_selector("#im-read-file input[type=file]", state="attached")
        started = time.perf_counter()
        page.set_input_files("#im-read-file input[type=file]", picture)
        page.wait_for_function(f"() => ({PLAYABLE})() || ({PROBLEM})", timeout=1000 * seconds)
        taken = time.perf_counter() - started
        if problem := page.evaluate(PROBLEM):
            raise InputError(picture, problem)
        return taken
    except TooLong as error:
        raise InputError(picture, f"could not be played within {seconds:.0f} s") from error
    finally:
        page.close()


def measure(pictures: Sequence[Path], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of each picture in each round.

    Raises:
        InputError: No browser, no model, or a picture that could not be read.
    """
    path = find_browser()
    if path is None:
        raise InputError(None, "no Chromium is installed here (Debian: apt install chromium)")
    try:
        from playwright.sync_api import sync_playwright

        from ..space.models import Models
        from ..space.server import make_server
    except ModuleNotFoundError as error:
        raise InputError(None, f"this needs {error.name}; pip install 'intermezzo[dev]'") from error
    found: dict[str, list[float]] = {picture.name: [] for picture in pictures}
    with serving(make_server(Models())) as address, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox", "--mute-audio"])
        for _ in range(rounds):
            for picture in pictures:
                found[picture.name].append(time_picture(browser, address, picture, seconds))
        browser.close()
    return found


def report(found: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """First, middle and slowest time of each picture; in the first round of the first picture the model is loaded."""
    return {
        name: {"first": times[0], "median": statistics.median(times), "slowest": max(times)}
        for name, times in found.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints a table, saves `space.json`."""
    parser = argparse.ArgumentParser(prog="benchmark_space", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="of all pictures (default: %(default)s)")
    parser.add_argument("--pictures", type=Path, nargs="+", help="instead of three examples")
    parser.add_argument("--most", type=float, default=MOST_SECONDS, help="seconds it may take (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of space.json (default: %(default)s)")
    given = parser.parse_args(arguments)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    pictures = given.pictures or [EXAMPLES / name for name in PICTURES]
    try:
        if given.rounds < 1:
            raise InputError(None, f"rounds is {given.rounds}; at least 1 is needed")
        found = report(measure(pictures, given.rounds, 6 * given.most))
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{'seconds until it can be played':32s}{'first':>10}{'median':>10}{'slowest':>10}")
    for name, times in found.items():
        print(f"{name:32s}{times['first']:10.2f}{times['median']:10.2f}{times['slowest']:10.2f}")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "space.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0 if all(times["slowest"] <= given.most for times in found.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
