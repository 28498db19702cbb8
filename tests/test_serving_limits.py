"""What stands around the models of `intermezzo serve`: the queue, the gate, the end; no model is needed."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

for package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason="pip install 'intermezzo[serve]'")

from intermezzo.processing.errors import InputError  # noqa: E402
from intermezzo.serving import Limits, create_app, find_checkpoints, serve  # noqa: E402
from intermezzo.serving_queue import Batcher, BatchingReader, Dropped, droppable  # noqa: E402
from intermezzo.serving_works import Reading  # noqa: E402
from intermezzo.train.benchmark_uploads import malformed_uploads, png_that_claims  # noqa: E402

from .serving_client import ask, body_of, one_line, running, until  # noqa: E402

# --- The queue --------------------------------------------------------------------------------------------------------


class Model:
    """Doubles numbers, one group at a time, and only when it is let; 13 breaks it."""

    def __init__(self) -> None:
        self.let, self.begun, self.groups = threading.Event(), threading.Event(), []

    def __call__(self, items: list[int]) -> list[int]:
        self.begun.set()
        assert self.let.wait(30)
        self.groups.append(items)
        if 13 in items:
            raise InputError(None, "13 can not be doubled")
        return [2 * item for item in items]


def ask_while_busy(batcher: Batcher[int, int], model: Model, items: list[int]) -> list[Any]:
    """The answers to a first item, and to those that come to wait while it is worked on."""

    def ask(item: int) -> Any:
        try:
            return batcher.ask(item)
        except InputError as error:
            return error

    with ThreadPoolExecutor(len(items) + 1) as threads:
        first = threads.submit(ask, 0)
        assert model.begun.wait(30)
        others = []
        for count, item in enumerate(items, start=1):
            others.append(threads.submit(ask, item))
            until(lambda count=count: batcher.waiting() >= count)  # type: ignore[misc]
        model.let.set()
        return [first.result(), *(other.result() for other in others)]


def test_what_waits_together_is_worked_on_together() -> None:
    model = Model()
    sizes: list[int] = []
    batcher = Batcher(model, most=3, on_batch=sizes.append)
    assert ask_while_busy(batcher, model, [1, 2, 3, 4]) == [0, 2, 4, 6, 8]
    assert model.groups == [[0], [1, 2, 3], [4]] and sizes == [1, 3, 1]


def test_one_bad_item_fails_alone() -> None:
    model = Model()
    first, one, bad, two = ask_while_busy(Batcher(model, most=8), model, [1, 13, 2])
    assert (first, one, two) == (0, 2, 4) and isinstance(bad, InputError)


def test_what_nobody_waits_for_is_left_out_and_the_end_loses_nothing() -> None:
    model, gone = Model(), threading.Event()
    batcher = Batcher(model, most=8)

    def ask(item: int, event: threading.Event) -> Any:
        with droppable(event):
            try:
                return batcher.ask(item)
            except Dropped:
                return "dropped"

    with ThreadPoolExecutor(4) as threads:
        kept = threads.submit(ask, 1, threading.Event())
        assert model.begun.wait(30)
        left, late = threads.submit(ask, 2, gone), threads.submit(ask, 3, threading.Event())
        until(lambda: batcher.waiting() >= 2)
        gone.set()
        closing = threads.submit(batcher.close)
        model.let.set()
        assert (kept.result(), left.result(), late.result()) == (2, "dropped", 6)
        closing.result()
    assert [item for group in model.groups for item in group] == [1, 3]
    with pytest.raises(Dropped):
        batcher.ask(4)


# --- Uploads ----------------------------------------------------------------------------------------------------------

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


class Unread(Reading):
    """`read` up to the model, which nothing in these tests may reach."""

    def __init__(self) -> None:
        self.reader, self.max_pixels, self.pool = BatchingReader(self), 8_000_000, None  # type: ignore

    def read_pages(self, pages: Any) -> Any:
        raise AssertionError("a malformed upload came as far as the model")

    def close(self) -> None:
        self.reader.batcher.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with running(create_app({"score_vlm": Unread()}, Limits(max_megabytes=1.0, timeout=60), threads=2)) as found:
        yield found


def tiff_pages(count: int, side: int) -> bytes:
    stream = io.BytesIO()
    pages = [Image.new("1", (side, side), 1) for _ in range(count)]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:], compression="group4")
    return stream.getvalue()


def pdf_pages(count: int, side: int) -> bytes:
    stream = io.BytesIO()
    pages = [Image.new("L", (8, 8), 255) for _ in range(count)]
    pages[0].save(stream, "PDF", save_all=True, append_images=pages[1:], resolution=72 * 8 / side)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [png_that_claims(60_000, 60_000), tiff_pages(12, 900), pdf_pages(3, 2000), pdf_pages(90, 9)],
    ids=["png bomb", "tiff of many pages", "large pdf", "pdf of tiny pages"],
)
def test_too_many_pixels_are_refused_unopened(server: Any, content: bytes) -> None:
    status, found = ask(server.port, "POST", "/read", {"picture": content})
    assert status == 413 and "megapixels" in one_line(found)


def malformed() -> list[tuple[dict[str, Any] | None, dict[str, Any]]]:
    """Uploads that are none, each in its own way: (fields, raw)."""
    rng = np.random.default_rng(0)
    good = (EXAMPLES / "bass.png").read_bytes()
    jpeg = io.BytesIO()
    Image.open(EXAMPLES / "bass.png").convert("L").save(jpeg, "JPEG")
    pdf = (EXAMPLES / "greensleeves_page.pdf").read_bytes()
    contents = [
        b"", b"\0", b"hello", b"%PDF-", b"%PDF-1.7\n%%EOF", pdf[:200], pdf[: len(pdf) // 3][::-1], b"GIF89a",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"PK\3\4" + bytes(60), b"<svg></svg>", b"<!doctype html>",
        good[:20], good[:40], good[:200], good[: len(good) // 2], good[::-1], jpeg.getvalue()[:40],
        jpeg.getvalue()[:300],
        b"RIFF\0\0\0\0WEBPVP8 ", b"BM" + bytes(12), b"II*\0\x08\0\0\0\xff\xff" + bytes(40), png_that_claims(0, 5),
        png_that_claims(100, 100), png_that_claims(2000, 100, bytes(300)), good[:100] + bytes(4000) + good[4100:],
        tiff_pages(1, 64)[:60], *(rng.bytes(size) for size in (1, 9, 100, 5000)),
    ]  # fmt: skip
    found: list[tuple[dict[str, Any] | None, dict[str, Any]]] = [({"picture": content}, {}) for content in contents]
    blank = io.BytesIO()
    Image.new("L", (300, 200), 255).save(blank, "PNG")
    body, kind = body_of({"picture": good})
    found += [
        ({"picture": blank.getvalue()}, {}), ({"image": good}, {}), ({}, {}), ({"picture": "a string"}, {}),
        ({"picture": good, "formats": "png,exe"}, {}), (None, {"body": b"{}"}), (None, {"body": body}),
        (None, {"body": body, "headers": {"Content-Type": "multipart/form-data"}}),
        (None, {"body": body, "headers": {"Content-Type": kind + "zz"}}),
        (None, {"body": body[10:300], "headers": {"Content-Type": kind}}),
        (None, {"body": b"", "headers": {"Content-Type": kind}}),
        (None, {"body": b'{"picture": 1}', "headers": {"Content-Type": "application/json"}}),
    ]  # fmt: skip
    return found


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_malformed_uploads_are_refused_with_a_reason(server: Any) -> None:
    for number, (fields, raw) in enumerate(malformed()):
        status, found = ask(server.port, "POST", "/read", fields, **raw)
        assert 400 <= status < 500, (number, status, found)
        one_line(found)
    for what, content, kind in malformed_uploads(84):
        status, found = ask(server.port, "POST", "/read", body=content, headers={"Content-Type": kind})
        assert 400 <= status < 500, (what, status, found)
        one_line(found)
    for path in ("/nothing", "/paint"):
        assert ask(server.port, "POST", path, {})[0] in (404, 405)
    assert ask(server.port, "GET", "/health")[1]["status"] == "ok"


def test_too_large_uploads_are_refused_with_and_without_a_length(server: Any) -> None:
    large = body_of({"picture": bytes(3_000_000)})
    headers = {"Content-Type": large[1]}
    status, found = ask(server.port, "POST", "/read", body=large[0], headers=headers)
    assert status == 413 and "1 MB" in one_line(found)
    pieces = (large[0][i : i + 50_000] for i in range(0, 1_200_000, 50_000))
    headers["Transfer-Encoding"] = "chunked"
    status, found = ask(server.port, "POST", "/read", body=pieces, headers=headers, chunked=True)
    assert status == 413 and "1 MB" in one_line(found)


# --- Time and queue, with work that can be held -----------------------------------------------------------------------


class Held:
    """A verb that waits until it is let go."""

    path = "/read"

    def __init__(self) -> None:
        self.let, self.begun, self.done, self.closed = threading.Event(), threading.Semaphore(0), 0, False

    def __call__(self, folder: Path, papers: Any, formats: tuple[str, ...]) -> dict[str, Any]:
        assert papers[0].path.is_file()
        self.folder = folder
        self.begun.release()
        assert self.let.wait(30)
        self.done += 1
        return {"text": papers[0].name, "pages": [], "files": []}

    def close(self) -> None:
        self.closed = True


def test_a_full_queue_sends_away_and_the_end_finishes_what_is_begun() -> None:
    held = Held()
    app = create_app({"score_vlm": held}, Limits(queue=3, timeout=30), threads=2)
    with ThreadPoolExecutor(4) as threads, running(app) as server:
        waiting = [threads.submit(ask, server.port, "POST", "/read", {"picture": b"x"}) for _ in range(3)]
        held.begun.acquire(), held.begun.acquire()
        full = 'inside{path="/read"} 3.0'
        until(lambda: full in ask(server.port, "GET", "/metrics")[1])
        status, found = ask(server.port, "POST", "/read", {"picture": b"x"})
        assert status == 429 and "3 requests" in one_line(found)
        server.should_exit = True
        until(lambda: not server.servers or not server.servers[0].is_serving())
        held.let.set()
        assert [done.result() for done in waiting] == [(200, {"text": "upload.png", "pages": [], "files": []})] * 3
        server.thread.join(30)
        assert held.closed and held.done == 3 and not held.folder.exists()
        with pytest.raises(OSError):
            ask(server.port, "GET", "/health")


def test_late_answers_are_given_up_and_their_work_is_left_out() -> None:
    held = Held()
    app = create_app({"score_vlm": held}, Limits(timeout=0.7), threads=1)
    with ThreadPoolExecutor(2) as threads, running(app) as server:
        both = [threads.submit(ask, server.port, "POST", "/read", {"picture": b"x"}) for _ in range(2)]
        for waiting in both:
            status, found = waiting.result()
            assert status == 504 and "0.7 seconds" in one_line(found)
        held.let.set()
    assert held.done == 1, "the second one was given up before its turn"
    assert not held.folder.exists()


def test_a_slow_upload_is_broken_off() -> None:
    app = create_app({"score_vlm": Held()}, Limits(timeout=0.5), threads=1)
    with running(app) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n"
            b"Content-Type: multipart/form-data; boundary=xyz\r\n\r\n--xyz\r\n"
        )
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408") and b"0.5 seconds" in answer


def test_whatever_breaks_inside_is_told_without_its_insides() -> None:
    class Broken(Held):
        def __call__(self, folder: Path, papers: Any, formats: tuple[str, ...]) -> dict[str, Any]:
            raise ZeroDivisionError("secret")

    with running(create_app({"score_vlm": Broken()}, threads=1)) as server:
        status, found = ask(server.port, "POST", "/read", {"picture": b"x"})
        assert status == 500 and "secret" not in one_line(found)
        assert ask(server.port, "GET", "/health")[0] == 200


def test_wrong_settings_are_one_line() -> None:
    with pytest.raises(InputError, match="queue is 0"):
        Limits(queue=0)
    with pytest.raises(InputError, match="'gpt' can not be served"):
        find_checkpoints(["gpt"])
    with pytest.raises(InputError, match="museformer can not be served without summary_bridge"):
        find_checkpoints(["museformer=somewhere"])
    assert set(find_checkpoints(["museformer=a", "summary_bridge=b"])) == {"museformer", "summary_bridge"}
    assert find_checkpoints(["score_vlm=somewhere"]) == {"score_vlm": "somewhere"}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="can not listen"):
            serve(port=taken.getsockname()[1], models=["score_vlm"])
