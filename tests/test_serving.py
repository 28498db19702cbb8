"""`intermezzo serve` with models: the answers of the command line, whoever else is asking."""

from __future__ import annotations

import base64
import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

for package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason="pip install 'intermezzo[serve]'")

from intermezzo.processing.page_systems import read_page  # noqa: E402
from intermezzo.processing.picture_files import load_pictures  # noqa: E402
from intermezzo.processing.system_reader import SystemReader  # noqa: E402
from intermezzo.reading import default_checkpoint, read  # noqa: E402
from intermezzo.serving import Limits, create_app, load_works  # noqa: E402

from .serving_client import ask, one_line, running, until  # noqa: E402
from .tiny_style_encoder import save_tiny, stripes  # noqa: E402

torch.set_num_threads(1)

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NAMES = ("bass.png", "power_chords.png", "lead.png")
LIMITS = Limits(max_pixels=8_000_000, max_megabytes=1.0, queue=16, timeout=60)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    style = save_tiny(tmp_path_factory.mktemp("style"))
    return {"score_vlm": str(default_checkpoint()), "style_encoder": str(style)}


@pytest.fixture(scope="module")
def works(checkpoints: dict[str, str]) -> Any:
    return load_works(checkpoints, LIMITS, "cpu", views=1, batch=4)


@pytest.fixture(scope="module")
def server(works: Any) -> Iterator[Any]:
    with running(create_app(works, LIMITS, threads=4)) as found:
        yield found


@pytest.fixture(scope="module")
def reader() -> SystemReader:
    return SystemReader.from_pretrained(default_checkpoint(), device="cpu", views=1)


@pytest.fixture(scope="module")
def expected(reader: SystemReader) -> dict[str, str]:
    return {result.name + ".png": result.text for result in read([EXAMPLES / name for name in NAMES], reader=reader)}


def test_pages_read_together_are_read_as_alone(reader: SystemReader) -> None:
    """Also: what is in force at the end of a page is not in force on the next."""
    files = [*NAMES, "greensleeves_page.pdf", "bass.png"]
    pages = [read_page(np.asarray(page.image)) for name in files for page in load_pictures(EXAMPLES / name)]
    together = reader.read_pages(pages)
    assert len(together) == len(files) and all(together)
    for page, readings in zip(pages, together, strict=True):
        (alone,) = reader.read_pages([page])
        assert [found.text for found in readings] == [found.text for found in alone]
        assert [found.box for found in readings] == [found.box for found in alone]


def test_many_clients_get_the_answers_of_the_command(server: Any, expected: dict[str, str], works: Any) -> None:
    names = list(NAMES) * 4
    with ThreadPoolExecutor(len(names)) as threads:
        answers = list(threads.map(lambda name: ask(server.port, "POST", "/read", {"picture": EXAMPLES / name}), names))
    for name, (status, found) in zip(names, answers, strict=True):
        assert status == 200 and found["text"] == expected[name] and found["files"] == []
        assert found["pages"][0]["name"] == Path(name).stem and found["pages"][0]["systems"][0]["bars"] > 0
    text = ask(server.port, "GET", "/metrics")[1]
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(figures['intermezzo_requests_total{path="/read",status="200"}']) >= len(names)
    count, total = (float(figures[f'intermezzo_batch_size_{kind}{{model="score_vlm"}}']) for kind in ("count", "sum"))
    assert total >= len(names) and count < total, "no two requests ever shared a call of the model"
    assert figures['intermezzo_requests_inside{path="/read"}'] == "0.0"


def test_files_come_along(server: Any, expected: dict[str, str]) -> None:
    upload = ("../../etc/bäss & co.png", (EXAMPLES / "bass.png").read_bytes())
    status, found = ask(server.port, "POST", "/read", {"picture": upload, "formats": "mid, alphatex,musicxml"})
    assert status == 200
    files = {Path(file["name"]).suffix: base64.b64decode(file["base64"]) for file in found["files"]}
    assert {file["name"].rpartition(".")[0] for file in found["files"]} == {"bäss _ co"}
    assert files[".mid"].startswith(b"MThd") and b"<score-partwise" in files[".musicxml"]
    assert files[".alphatex"].decode() == expected["bass.png"]
    status, found = ask(server.port, "POST", "/read", {"picture": EXAMPLES / "bass.png", "formats": "exe"})
    assert status == 422 and "exe" in one_line(found)


def test_compare(server: Any) -> None:
    pictures = {}
    for name, colour in (("first", "red"), ("second", "red")):
        stream = io.BytesIO()
        stripes(colour, 1).save(stream, "PNG")
        pictures[name] = stream.getvalue()
    status, found = ask(server.port, "POST", "/compare", pictures)
    assert status == 200 and found["similarity"] == pytest.approx(1.0, abs=1e-5) and found["verdict"]
    status, found = ask(server.port, "POST", "/compare", {**pictures, "second": ("two.png", b"no picture")})
    assert status == 422 and one_line(found).startswith("two.png:")


def test_only_what_is_there_is_listed_and_the_page_is_local(server: Any) -> None:
    status, found = ask(server.port, "GET", "/openapi.json")
    assert status == 200 and {"/read", "/compare"} == {
        path for path, verbs in found["paths"].items() if "post" in verbs
    }
    status, page = ask(server.port, "GET", "/")
    assert status == 200 and "http://" not in page and "https://" not in page and "//cdn" not in page


# --- The verb ---------------------------------------------------------------------------------------------------------


def test_the_command_ends_gracefully_at_a_signal(expected: dict[str, str]) -> None:
    command = [sys.executable, "-m", "intermezzo.cli", "serve", "--port", "0", "--models", "score_vlm", "--views", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(line.partition("127.0.0.1:")[2].split()[0])
        assert ask(port, "GET", "/health")[0] == 200
        headers = {"Content-Type": "multipart/form-data; boundary=other"}
        assert ask(port, "POST", "/read", body=b"--one\r\n", headers=headers)[0] == 400  # and no word of it in the log
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(ask, port, "POST", "/read", {"picture": EXAMPLES / "bass.png"})
            begun = 'inside{path="/read"} 1.0'
            until(lambda: begun in ask(port, "GET", "/metrics")[1] or waiting.done())
            process.send_signal(signal.SIGTERM)
            status, found = waiting.result()
        out, error = process.communicate(timeout=60)
    assert (status, found["text"]) == (200, expected["bass.png"])
    assert process.returncode == 0 and not error and not out, error
