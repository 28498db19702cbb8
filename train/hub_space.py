"""The Space as a folder: the page, this package with the models that it has, and what the Hub starts it by."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from ..processing.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("configuration", "modeling", "processing", "train", "datasets_scripts", "space", "checkpoints", "examples")
ROOT_FILES = ("*.py", "py.typed", "model_card.md", "LICENSE")
PROGRAMS = ("app.py", "setup.py")  # at the root, but not part of the package
EXTRAS = ("render", "space")
_FRONT_MATTER = """---
title: Intermezzo
emoji: 🎸
colorFrom: indigo
colorTo: green
sdk: gradio
{sdk}app_file: app.py
python_version: '3.12'
license: apache-2.0
models:
- {repo}
---

# Intermezzo

Between what music looks like, what is said of it, and how it sounds: pictures of guitar tablature to text that plays,
words to music, piano rolls, in English and Chinese. Models here: {stems}.
"""


def _package_files() -> Iterator[Path]:
    for pattern in ROOT_FILES:
        yield from (path for path in ROOT.glob(pattern) if path.name not in PROGRAMS)
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and not {"node_modules", "__pycache__"} & {*path.relative_to(ROOT).parts}:
                yield path


def _requirements() -> list[str]:
    """What the installed package says that it needs, with the extras of the page."""
    try:
        listed = requires("intermezzo") or []
    except PackageNotFoundError as error:
        raise InputError(None, "intermezzo is not installed; run `pip install -e .` where setup.py is") from error
    when = {"", *(f'extra == "{name}"' for name in EXTRAS)}
    split = (line.partition(";") for line in listed)
    return sorted({name.strip() for name, _, mark in split if mark.strip().replace("'", '"') in when})


def _card(repo: str) -> str:
    try:
        sdk = f"sdk_version: {version('gradio')}\n"
    except PackageNotFoundError:
        sdk = ""  # the Hub then takes its newest
    stems = sorted(path.parent.name for path in (ROOT / "checkpoints").glob("*/config.json"))
    return _FRONT_MATTER.format(sdk=sdk, repo=repo, stems=", ".join(stems) or "none")


def export_space(directory: str | Path, repo: str) -> Path:
    """Writes the Space.

    Args:
        directory: Where to; made if absent.
        repo: `OWNER/NAME` of the model, which the Space names.

    Raises:
        InputError: There is no app.py, or the package is not installed (its requirements are read from there).
    """
    directory = Path(directory)
    if not (ROOT / "app.py").is_file():
        raise InputError(ROOT / "app.py", "is not there, so there is no Space to upload")
    needed = _requirements()
    for path in _package_files():
        target = directory / "intermezzo" / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copyfile(ROOT / "app.py", directory / "app.py")
    (directory / "requirements.txt").write_text("\n".join(needed) + "\n", encoding="utf-8")
    (directory / "README.md").write_text(_card(repo), encoding="utf-8")
    return directory


__all__ = ["export_space"]
