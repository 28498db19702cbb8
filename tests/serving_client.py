"""A real server in a thread and a plain client, for the tests of serving."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def running(app: Any) -> Iterator[Any]:
    """A real server in a thread; gives it with its port."""
    import uvicorn

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        until(lambda: server.started or not thread.is_alive())
        assert server.started
        server.port, server.thread = listening.getsockname()[1], thread
        try:
            yield server
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def body_of(fields: dict[str, Any]) -> tuple[bytes, str]:
    """A multipart body; bytes and paths are files."""
    parts = []
    for name, value in fields.items():
        if isinstance(value, Path):
            value = (value.name, value.read_bytes())
        if isinstance(value, bytes):
            value = ("upload.png", value)
        if isinstance(value, tuple):
            parts.append(
                f'--xyz\r\nContent-Disposition: form-data; name="{name}"; filename="{value[0]}"\r\n\r\n'.encode()
                + value[1]
            )
        else:
            parts.append(f'--xyz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode())
    return b"\r\n".join([*parts, b"--xyz--\r\n"]), "multipart/form-data; boundary=xyz"


def ask(port: int, method: str, path: str, fields: dict[str, Any] | None = None, **raw: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = dict(raw.get("headers", {}))
    body = raw.get("body")
    if fields is not None:
        body, headers["Content-Type"] = body_of(fields)
    connection.request(method, path, body, headers, encode_chunked=raw.get("chunked", False))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    is_json = answer.headers.get_content_type() == "application/json"
    return answer.status, json.loads(content) if is_json else content.decode()


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Looks again and again until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def one_line(found: Any) -> str:
    assert set(found) == {"error"} and found["error"] and "\n" not in found["error"], found
    assert "Traceback" not in found["error"] and "/tmp" not in found["error"], found
    return found["error"]
