"""`read` and `render` over many workers: the same functions, file by file, and the same results in the same order."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .processing.errors import InputError
from .ray_files import Work, map_files

if TYPE_CHECKING:
    from .datasets_scripts.render import FileResult
    from .reading import ReadResult


class ReadWork:
    """Makes what reads one file in a worker; see `reading.read` for the settings."""

    def __init__(self, formats: Sequence[str], model: str, device: str, **switches: Any) -> None:
        self.formats, self.model, self.device, self.switches = tuple(formats), model, device, switches

    def __call__(self) -> Work:
        """Loads the reader; it and the drawing process serve all files of this worker."""
        from .datasets_scripts.render.client import AlphaTabPool
        from .processing.system_reader import SystemReader
        from .reading import read

        reader = SystemReader.from_pretrained(self.model, device=self.device, **self.switches)
        pool = AlphaTabPool(workers=1)

        def work(file: Path, out: Path) -> dict[str, Any]:
            target = out if self.formats else None
            results = read([file], target, self.formats or ("alphatex",), reader=reader, pool=pool)
            return {"results": [asdict(result) | {"files": list(map(str, result.files))} for result in results]}

        return work


class RenderWork:
    """Makes what draws one file in a worker; see `datasets_scripts.render.render` for the options."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options

    def __call__(self) -> Work:
        """The worker's own drawing process starts at the first file."""
        from .datasets_scripts.render import AlphaTabPool, render

        pool = AlphaTabPool(workers=1, job_seconds=120.0)

        def work(file: Path, out: Path) -> dict[str, Any]:
            (result,) = render([file], out, pool=pool, **self.options)
            assert not isinstance(result, Path)
            told = None if result.error is None else [result.error.path, result.error.message]
            return {"written": list(map(str, result.written)), "problem": told}

        return work


@contextmanager
def _desk(out: Path | None, address: str) -> Iterator[Path]:
    """A folder for results on their way, beside where they go: moving them there is only a change of name."""
    if out is None and address != "local":
        raise InputError(None, "with the --ray of a cluster say --out, a folder that all its machines see")
    try:
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".ray-", dir=out))
        folder.chmod(0o755)  # workers of a cluster may be another user's
    except OSError as error:
        raise InputError(out, f"can not be made a folder ({error.strerror}); give another --out") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_with_ray(
    inputs: Iterable[str | Path],
    out: str | Path | None = None,
    formats: Sequence[str] = ("alphatex",),
    model: str | Path | None = None,
    device: str = "auto",
    constrained: bool = True,
    views: int | None = None,
    progress: bool = False,
    address: str = "local",
    workers: int | None = None,
) -> list[ReadResult]:
    """`reading.read` over the workers of a Ray cluster.

    Args:
        inputs, out, formats, model, device, constrained, views, progress: As `reading.read`; every machine of the
            cluster has to see the files, the model and `out` under the same names.
        address: `"local"` starts workers on this machine; else the cluster's address.
        workers: How many; all that the cluster has room for when left out.

    Returns:
        The same results, in the same order and with the same names, as `reading.read`.

    Raises:
        InputError: Nothing can be read at all: a wrong format, no model, no Ray.
    """
    from .processing.picture_files import find_picture_files
    from .reading import FORMATS, ReadResult, default_checkpoint

    for wrong in sorted(set(formats) - set(FORMATS)):
        raise InputError(None, f"format {wrong!r} can not be written; choose from {', '.join(FORMATS)}")
    results: list[ReadResult] = []
    files: list[Path] = []
    for given in inputs:
        try:
            files += find_picture_files(given)
        except InputError as error:
            results.append(ReadResult(Path(given).name, error=str(error)))
    place = None if out is None else Path(out).resolve()
    checkpoint = str(model or default_checkpoint())
    checkpoint = str(Path(checkpoint).resolve()) if Path(checkpoint).exists() else checkpoint
    switches = {"grammar": constrained} | ({} if views is None else {"views": views})
    make = ReadWork(formats if place is not None else (), checkpoint, device, **switches)
    names: set[str] = set()
    with _desk(place, address) as desk:
        found = map_files(
            [_absolute(file) for file in files], make, desk, address=address, workers=workers,
            gpus=device == "auto" or device.startswith("cuda"), what="reading", progress=progress,
        )  # fmt: skip
        for file, answer in zip(files, found, strict=True):
            if "error" in answer:
                results.append(ReadResult(file.stem, error=_told(answer["error"], file)))
            for values in answer.get("results", ()):
                results.append(_read_result(values, file, names, Path("" if out is None else out)))
    return results


def _read_result(values: dict[str, Any], file: Path, names: set[str], out: Path) -> ReadResult:
    """A result as a worker gave it, with its files moved to where they belong."""
    from .reading import NamedSystem, ReadResult, _name_apart

    systems = [NamedSystem(**system) for system in values.pop("systems")]
    written = list(map(Path, values.pop("files")))
    result = ReadResult(**values, systems=systems)
    result.error, result.note = (text and _told(text, file) for text in (result.error, result.note))
    _name_apart(result, names)
    for path in written:
        result.files.append(out / f"{result.name}{path.suffix}")
        os.replace(path, result.files[-1])
    return result


def _absolute(file: Path) -> Path:
    return Path(os.path.abspath(file))  # without following links: results are named after the name that was given


def _told(message: str, file: Path) -> str:
    """A worker's message with the file named as the person did."""
    return message.replace(str(_absolute(file)), str(file))


def render_with_ray(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    address: str = "local",
    workers: int | None = None,
    progress: bool = False,
    **options: Any,
) -> list[FileResult]:
    """`datasets_scripts.render.render` of several files over the workers of a Ray cluster.

    Args:
        inputs, out: As `render`; every machine of the cluster has to see both under the same names.
        address, workers, progress: As `read_with_ray`.
        options: As `render`.

    Returns:
        One result for each file, in order; failures are values.

    Raises:
        InputError: A wrong option, or no Ray.
    """
    from .datasets_scripts.render import FileResult
    from .datasets_scripts.render.many_files import _check_options

    options = {("width_px" if name == "width" else name): value for name, value in options.items() if value is not None}
    _check_options(options)
    place = Path(out)
    if place.exists() and not place.is_dir():
        raise InputError(place, "is a file; --out names a folder")
    files, results = list(map(Path, inputs)), []
    made: dict[Path, Path] = {}
    with _desk(place.resolve(), address) as desk:
        found = map_files(
            [_absolute(file) for file in files], RenderWork(options), desk,
            address=address, workers=workers, what="rendering", progress=progress,
        )  # fmt: skip
        for file, answer in zip(files, found, strict=True):
            result = FileResult(file)
            results.append(result)
            problem = answer.get("problem")
            if "error" in answer:
                result.error = InputError(None, _told(answer["error"], file))
            elif problem is not None:
                result.error = InputError(problem[0] and _told(problem[0], file), _told(problem[1], file))
            for path in map(Path, answer.get("written", ())):
                target = place / path.name
                if target in made:
                    message = f"{target} is the result of {made[target]} already; rename one of the two"
                    result.error = InputError(file, message)
                elif target.resolve() == file.resolve():
                    result.error = InputError(file, "would be overwritten by its own result; choose another --out")
                else:
                    os.replace(path, target)
                    made[target] = file
                    result.written.append(target)
    return results


__all__ = ["ReadWork", "RenderWork", "read_with_ray", "render_with_ray"]
