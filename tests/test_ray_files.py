"""Ray Data: two local workers give what one process gives, and a killed worker loses nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from intermezzo.processing.errors import InputError
from intermezzo.ray_files import TRIES, Worker, session

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is missing: pip install 'intermezzo[ray]'")
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


# --- A worker, without Ray --------------------------------------------------------------------------------------------


def test_a_worker_repeats_nothing_and_names_failures(tmp_path: Path) -> None:
    calls: list[str] = []

    def work(file: Path, out: Path) -> dict[str, str]:
        calls.append(file.name)
        assert not out.exists(), "what a killed worker left behind is in the way"
        out.mkdir(parents=True)
        (out / "half").touch()
        if file.name == "bad":
            raise InputError(file, "is bad")
        if file.name == "odd":
            raise ZeroDivisionError("two\nlines")
        return {"name": file.name}

    worker = Worker(lambda: work, str(tmp_path))
    batch = {"index": np.arange(3), "file": np.array(["good", "bad", "odd"])}
    first, second = (list(map(json.loads, worker(batch)["found"])) for _ in range(2))
    assert first == second and calls == ["good", "bad", "odd"]
    assert first[:2] == [{"name": "good"}, {"error": "bad: is bad"}]
    assert first[2]["error"] == "odd: ZeroDivisionError: two lines"


def test_a_file_that_ends_its_workers_is_given_up(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def work(file: Path, out: Path) -> dict[str, str]:
        raise Killed

    for _ in range(TRIES):
        with pytest.raises(Killed):
            Worker(lambda: work, str(tmp_path)).one(0, Path("poison"))
    found = json.loads(Worker(lambda: work, str(tmp_path)).one(0, Path("poison")))
    assert found["error"].startswith(f"poison: {TRIES} workers ended")


def test_a_model_that_does_not_load_is_told_once(tmp_path: Path) -> None:
    def make() -> None:
        raise InputError("model", "does not load")

    assert json.loads(Worker(make, str(tmp_path)).one(0, Path("a"))) == {"fatal": "model: does not load"}  # type: ignore


def test_ray_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"intermezzo\[ray\]"), session("local"):
        pass


# --- Two workers ------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys, time
from pathlib import Path
from intermezzo.processing.errors import InputError
from intermezzo.ray_files import map_files

MARK = Path.cwd() / "killed"

def make():
    def work(file, out):
        out.mkdir(parents=True)
        (out / "file").write_text(file.name)
        if file.name == "03":
            raise InputError(file, "is bad")
        if file.name == "05" and not MARK.exists():
            MARK.touch()
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory runs out
        if file.name == "08":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"name": (out / "file").read_text(), "pid": os.getpid()}
    return work

if __name__ == "__main__":
    files = [Path(f"{number:02d}") for number in range(12)]
    folder = Path(sys.argv[1])
    found = list(map_files(files, make, folder, workers=2))
    print("NAMES", *(one.get("name") or one["error"].replace(" ", "_") for one in found))
    print("WORKERS", len({one["pid"] for one in found if "pid" in one}))
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[1:]), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


@needs_ray
@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    (tmp_path / "desk").mkdir()
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "desk")],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    names, workers = (line.split()[1:] for line in done.stdout.splitlines() if line.startswith(("NAMES", "WORKERS")))
    expected = [f"{number:02d}" for number in range(12)]
    expected[3], expected[8] = "03:_is_bad", f"08:_{TRIES}_workers_ended_while_they_were_at_it;_it_is_left_out"
    assert names == expected and (tmp_path / "killed").exists()
    assert int(workers[0]) >= 2


@needs_ray
@pytest.mark.slow
def test_two_workers_render_what_one_process_renders(tmp_path: Path) -> None:
    files = []
    for number in range(4):
        files.append(tmp_path / f"song{number}.alphatex")
        files[-1].write_text(f"\\ts (4 4) {number}.3.4 3.3.4 5.3.4 {number}.2.4 |")
    files[1].write_text("this is no notation (")
    files.append(tmp_path / "absent.gp")
    command = [sys.executable, "-m", "intermezzo.cli", "render", *map(str, files)]
    found = []
    for name, flags in (("one", []), ("two", ["--ray", "local", "--ray-workers", "2"])):
        done = subprocess.run(
            [*command, "--out", str(tmp_path / name), *flags], env=environment(), capture_output=True, text=True
        )
        pictures = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        told = [line for line in done.stderr.splitlines() if str(tmp_path) in line and "%|" not in line]
        found.append((done.returncode, told, pictures))
    assert found[0] == found[1]
    status, told, pictures = found[1]
    assert status == 1 and len(told) == 2 and "song1" in told[0] and "absent" in told[1]
    assert sorted(pictures) == ["song0.png", "song2.png", "song3.png"]


@needs_ray
@pytest.mark.slow
def test_two_workers_read_what_one_process_reads(tmp_path: Path) -> None:
    """Names that meet, a file that is none, and files beside the text."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "bass.png").write_bytes((EXAMPLES / "power_chords.png").read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no picture")
    inputs = [EXAMPLES / "bass.png", tmp_path / "broken.png", tmp_path / "more", tmp_path / "absent"]
    command = [sys.executable, "-m", "intermezzo.cli", "read", *map(str, inputs)]
    command += ["--views", "1", "--format", "alphatex,musicxml", "--device", "cpu"]
    found = []
    for name, flags in (("one", []), ("two", ["--ray", "local", "--ray-workers", "2"])):
        done = subprocess.run(
            [*command, "--out", str(tmp_path / name), *flags], env=environment(), capture_output=True, text=True
        )
        files = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        told = [line for line in done.stderr.splitlines() if ": " in line and "%|" not in line]
        found.append((done.returncode, told, files))
    assert found[0] == found[1]
    status, told, files = found[1]
    assert status == 1 and len(told) == 2 and all("/.ray-" not in line for line in told)
    assert sorted(files) == ["bass-2.alphatex", "bass-2.musicxml", "bass.alphatex", "bass.musicxml"]


@needs_ray
@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "intermezzo.cli", "render", "a.gp", "--out", str(tmp_path), "--ray"]
    done = subprocess.run([*command, "127.0.0.1:1"], env=environment(), capture_output=True, text=True)
    assert done.returncode == 1 and "no Ray cluster answers" in done.stderr.splitlines()[-1]
