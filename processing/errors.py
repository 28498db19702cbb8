"""Errors that a person's input can cause, told in one line."""

from __future__ import annotations

from os import PathLike


class InputError(ValueError):
    """Something a person gave us is wrong, and one line can say what.

    Args:
        path: File (or other name) the message is about; `None` when there is none.
        message: What is wrong and, where it helps, what to do.
    """

    def __init__(self, path: str | PathLike[str] | None, message: str) -> None:
        self.path = None if path is None else str(path)
        self.message = message
        super().__init__(message if path is None else f"{path}: {message}")
