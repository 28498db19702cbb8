"""What must be installed where a flat export is loaded: read off its imports, in the versions setup.py asks for."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

ALWAYS = ("torch", "torchvision", "transformers")  # transformers prepares pictures by torchvision without naming it


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(package: str) -> dict[str, str]:
    """`{name: name with versions}` of what an installed package needs, extras left out; empty where it is not there."""
    try:
        listed = requires(package) or []
    except PackageNotFoundError:
        return {}
    plain = [line.partition(";")[0].strip() for line in listed if "extra ==" not in line]
    return {_normal(re.split(r"[^\w.-]", line, maxsplit=1)[0]): line for line in plain}


def _imported(folder: Path) -> Iterator[str]:
    """Top names of the foreign packages that the Python files of a folder import, wherever in the file."""
    for file in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                yield node.module.split(".")[0]


def needs_of(folder: str | Path) -> list[str]:
    """Requirements of a flat export, as pip takes them; what transformers brings along is left out.

    Args:
        folder: Of `export_flat`.
    """
    ours, brought, owners = _requirements("intermezzo"), _requirements("transformers"), packages_distributions()
    found = dict.fromkeys(ALWAYS)
    for name in sorted(set(_imported(Path(folder))) - set(sys.stdlib_module_names)):
        candidates = [_normal(owner) for owner in owners.get(name, [name])]
        found |= dict.fromkeys([one for one in candidates if one in ours] or candidates[:1])
    return [ours.get(name, name) for name in found if name in ALWAYS or name not in brought]


def pip_line(needs: list[str]) -> str:
    """The command that installs them."""
    return " ".join(["pip install", *(f'"{one}"' if re.search(r"[<>=!~\[]", one) else one for one in needs)])


__all__ = ["needs_of", "pip_line"]
