"""The last mile to the Hub: who asks, may they, send the folder; whatever goes wrong is told in one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..processing.errors import InputError

_TOKEN_HELP = "log in with `hf auth login`, or set HF_TOKEN to an access token that may write"
_AGAIN = "run the same command again: what has arrived is not sent twice"
_STATUS = {
    401: f"the Hub does not know this access token; {_TOKEN_HELP}",
    403: "this access token may not write to {repo}; use one with write access to that owner's repositories",
    404: "the Hub has no {repo}, or this access token may not see it",
    413: "the Hub refuses {repo}: too large for one upload",
    429: "the Hub asks to wait (too many requests); run the same command again in some minutes",
}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it: the client wraps the failure of one file into an error that says only which."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def what_is_wrong(error: BaseException, repo: str, endpoint: str) -> str | None:
    """One line on a failure of the Hub's client, or `None` where it is none of ours to explain."""
    from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

    for cause in _chain(error):
        if isinstance(cause, LocalTokenNotFoundError):
            return f"no access token for the Hub is known; {_TOKEN_HELP}"
        if isinstance(cause, HFValidationError):
            return f"{repo!r} can not be the name of a repository; write OWNER/NAME in letters, digits, '-', '_', '.'"
        if isinstance(cause, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it"
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            said = " ".join(str(getattr(cause, "server_message", None) or cause).split())[:300]
            return _STATUS.get(status, f"the Hub answered {status} for {{repo}}: {said}").format(repo=repo)
        # By name: the client's HTTP library has changed from one version to the next, and may again.
        if type(cause).__module__.split(".")[0].rstrip("2") in {"httpx", "httpcore", "requests", "urllib3"}:
            return f"the connection to {endpoint} failed ({type(cause).__name__}); {_AGAIN}"
        if isinstance(cause, ConnectionError):
            return f"{endpoint} can not be reached; {_AGAIN}"
    return None


@contextmanager
def plain_errors(repo: str, endpoint: str) -> Iterator[None]:
    """Turns what the Hub's client raises into `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        line = what_is_wrong(error, repo, endpoint)
        if line is None:
            raise
        raise InputError(None, line) from error


def connect(repo: str, token: str | None = None) -> Any:
    """A client of the Hub whose token has been checked, before anything long is done.

    Args:
        repo: `OWNER/NAME`, for the messages and checked for its form.
        token: Access token; `HF_TOKEN` or the one of `hf auth login` if not given.

    Raises:
        InputError: A name that no repository can have, no token, a wrong one, or no connection.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id

    hub = HfApi(token=token)
    if repo.count("/") != 1:
        raise InputError(None, f"{repo!r} names no repository; write OWNER/NAME")
    with plain_errors(repo, hub.endpoint):
        validate_repo_id(repo)
        hub.whoami()
    return hub


def upload(
    hub: Any,
    repo: str,
    folder: str | Path,
    message: str,
    kind: str = "model",
    private: bool = False,
    only: Sequence[str] | None = None,
    replace: Sequence[str] | None = None,
) -> str:
    """Makes the repository if it is not there, and sends a folder.

    A second call goes on where the first was interrupted: files are stored by what is in them, and what the Hub has is
    not sent again.

    Args:
        hub: From `connect`.
        repo: `OWNER/NAME`.
        folder: What to send.
        message: Of the commit.
        kind: `"model"`, `"dataset"` or `"space"`.
        private: Make a new repository private; one that exists stays as it is.
        only: Patterns of files to send; all if not given.
        replace: Patterns of files that go from the repository where the folder does not have them.

    Returns:
        Address of the repository.

    Raises:
        InputError: The Hub refuses, or the connection fails.
    """
    with plain_errors(repo, hub.endpoint):
        sdk = {"space_sdk": "gradio"} if kind == "space" else {}
        address = hub.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True, **sdk)
        hub.upload_folder(
            repo_id=repo,
            repo_type=kind,
            folder_path=folder,
            commit_message=message,
            allow_patterns=None if only is None else list(only),
            ignore_patterns=[".cache/**", "**/.cache/**", "**/__pycache__/**", "**/.DS_Store"],
            delete_patterns=None if replace is None else list(replace),
        )
    return str(address)


__all__ = ["connect", "plain_errors", "upload", "what_is_wrong"]
