"""What every builder of a data set does with its folder: one set in it, and a list of what failed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..processing.errors import InputError


def check_settings(out: Path, settings: dict[str, Any]) -> None:
    """A folder holds one data set: going on with other arguments would mix two.

    Raises:
        InputError: `out` was built with other arguments.
    """
    path = out / "build.json"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = sorted(k for k in settings.keys() | before.keys() if settings.get(k) != before.get(k))
        if changed:
            raise InputError(
                out, f"was built with other {', '.join(changed)}; choose another folder or the same arguments"
            )
    else:
        path.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def write_failures(path: Path, failures: Sequence[Sequence[str]]) -> None:
    """Writes what failed, a line each."""
    lines = ["\t".join(" ".join(cell.split()) for cell in failure) for failure in failures]
    path.write_text("".join(f"{line}\n" for line in ["where\twhat", *lines]), encoding="utf-8")


__all__ = ["check_settings", "write_failures"]
