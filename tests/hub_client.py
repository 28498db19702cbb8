"""Runs commands of `intermezzo` as a person does, in a process that knows one Hub: the client's half of the push tests.

One process runs several commands, because starting one costs far more than what it does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

COMMANDS = """
import contextlib, io, json, os, sys
from intermezzo.cli import main
for token, words in json.loads(sys.argv[1]):
    os.environ.pop("HF_TOKEN", None)
    if token is not None:
        os.environ["HF_TOKEN"] = token
    sys.argv = ["intermezzo", *words]
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as left:
            code = left.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""

# The start of a program in which our package can not be imported.
ELSEWHERE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "intermezzo":
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Refuse())
"""


@dataclass
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


def start(program: str, home: Path, environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    """A fresh interpreter with an empty cache and no saved token; nothing of this machine's Hub settings is seen."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE"))}
    kept |= {"HF_HOME": str(home / "hf"), "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    kept |= {"TRANSFORMERS_VERBOSITY": "error"}
    return subprocess.Popen(
        [sys.executable, "-c", program, *words], cwd=home, env=kept | environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    """What it printed; a program that failed is an error that shows why."""
    try:
        out, err = process.communicate(timeout=3600)
    finally:
        process.kill()
    assert process.returncode == 0, err[-3000:]
    return out


def intermezzo(
    home: Path, environment: dict[str, str], *commands: tuple[str | None, Sequence[str | Path]]
) -> list[Done]:
    """Runs commands, each as `(access token or None, words)`, in one process."""
    asked = json.dumps([(token, [str(word) for word in words]) for token, words in commands])
    lines = finish(start(COMMANDS, home, environment, asked)).splitlines()
    return [Done(*json.loads(line)) for line in lines]
