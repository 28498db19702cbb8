"""What a server does not take: too many requests, too much data, too many pixels, too slow ones."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from .processing.errors import InputError
from .processing.picture_files import PDF_DPI, PDFIUM_LOCK

PICTURE_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF", "MPO")  # Pillow has more, and some run programs
LEAST_PAGE_PIXELS = 100_000  # so that a million tiny pages are no way around the limit
DRAIN_SECONDS = 5.0  # for what a client is still sending when it is refused
DEADLINE = "intermezzo.deadline"  # key of the request's scope: the loop's time when the answer is due


class Refused(Exception):
    """A request that can not be answered.

    Args:
        status: HTTP status.
        message: One line that says why.
        seconds: When to try again.
    """

    def __init__(self, status: int, message: str, seconds: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.seconds = status, message, seconds

    def response(self, close: bool = False) -> JSONResponse:
        """The answer: one line as JSON."""
        headers = {} if self.seconds is None else {"Retry-After": str(self.seconds)}
        return JSONResponse(
            {"error": self.message}, self.status, headers=headers | ({"Connection": "close"} if close else {})
        )


@dataclass(frozen=True)
class Limits:
    """What is taken.

    Attributes:
        max_pixels: Of an upload, all its pages together.
        max_megabytes: Of the body of a request.
        queue: Requests of one endpoint that may be there at once, those being worked on included.
        timeout: Seconds from the first byte of a request to its answer.
    """

    max_pixels: int = 60_000_000
    max_megabytes: float = 20.0
    queue: int = 64
    timeout: float = 120.0

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_megabytes", "queue", "timeout"):
            if not getattr(self, name) > 0:
                raise InputError(None, f"{name} is {getattr(self, name)}; it must be above 0")

    @property
    def max_bytes(self) -> int:
        """`max_megabytes` in bytes."""
        return int(self.max_megabytes * 1_000_000)


class Gate:
    """ASGI middleware: the first thing a POST request meets.

    It counts who is in, refuses before a byte is read where it can, stops reading a body that is too large or too
    slow, and notes how each request ended.

    Args:
        app: What stands behind the gate.
        limits: What is let in.
        paths: Guarded paths.
        note: Told path, status and seconds of each guarded request.
    """

    def __init__(
        self, app: Any, limits: Limits, paths: tuple[str, ...], note: Callable[[str, int, float], None]
    ) -> None:
        self.app, self.limits, self.paths, self.note = app, limits, paths, note
        self.inside = dict.fromkeys(paths, 0)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        path = scope.get("path", "")
        if scope["type"] != "http" or scope["method"] != "POST" or path not in self.paths:
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def told(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.inside[path] += 1
        try:
            await self._guarded(scope, receive, told, path)
        finally:
            self.inside[path] -= 1
            self.note(path, status, time.perf_counter() - started)

    async def _guarded(self, scope: Any, receive: Any, send: Any, path: str) -> None:
        deadline = asyncio.get_running_loop().time() + self.limits.timeout
        scope[DEADLINE] = deadline
        try:
            self._check(scope, path)
        except Refused as refusal:
            await _drain(scope, receive)
            await refusal.response(close=True)(scope, receive, send)
            return
        body = _Body(receive, self.limits, deadline)
        try:
            await self.app(scope, body, send)
        except HTTPException as error:  # raised by our own `_Body` where no framework was in between
            await Refused(error.status_code, str(error.detail)).response(close=True)(scope, receive, send)

    def _check(self, scope: Any, path: str) -> None:
        if self.inside[path] > self.limits.queue:
            raise Refused(429, f"{self.limits.queue} requests are being answered already; try again in a moment", 2)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.limits.max_bytes:
            raise _too_large(self.limits)


def _too_large(limits: Limits) -> Refused:
    return Refused(413, f"the upload is larger than {limits.max_megabytes:g} MB; scale it down or send less")


class _Body:
    """`receive` that counts bytes and time; the framework passes an `HTTPException` from in here on."""

    def __init__(self, receive: Any, limits: Limits, deadline: float) -> None:
        self.receive, self.limits, self.deadline = receive, limits, deadline
        self.bytes, self.complete = 0, False

    async def __call__(self) -> Any:
        if self.complete:  # waits for the client to go away
            return await self.receive()
        left = self.deadline - asyncio.get_running_loop().time()
        try:
            message = await asyncio.wait_for(self.receive(), max(left, 0.001))
        except (asyncio.TimeoutError, TimeoutError):
            raise HTTPException(408, f"the upload took more than {self.limits.timeout:g} seconds") from None
        self.bytes += len(message.get("body", b""))
        self.complete = not message.get("more_body", False)
        if self.bytes > self.limits.max_bytes:
            refusal = _too_large(self.limits)
            raise HTTPException(refusal.status, refusal.message)
        return message


async def _drain(scope: Any, receive: Any) -> None:
    """Takes in, and forgets, what is being sent: many clients read the answer only after their last byte."""
    if b"expect" in dict(scope["headers"]):
        return

    async def forget() -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                return

    with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
        await asyncio.wait_for(forget(), DRAIN_SECONDS)


def check_picture(path: Path, max_pixels: int) -> None:
    """Looks at the size that a picture or PDF says it has, before anything is unpacked.

    Raises:
        Refused: Too many pixels (413), or no picture at all (422).
    """
    with path.open("rb") as stream:
        start = stream.read(5)
    if not start:
        raise Refused(422, "the upload is empty")
    if start == b"%PDF-":
        _check_pdf(path, max_pixels)
    else:
        _check_raster(path, max_pixels)


def _too_many(pixels: float, max_pixels: int) -> Refused:
    return Refused(
        413, f"the upload has {pixels / 1e6:.3g} megapixels or more, {max_pixels / 1e6:.3g} are taken; scale it down"
    )


def _check_raster(path: Path, max_pixels: int) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=PICTURE_FORMATS) as picture:
            pixels = 0
            for frame in range(1_000_000):
                try:
                    picture.seek(frame)
                except EOFError:
                    break
                pixels += max(picture.width * picture.height, LEAST_PAGE_PIXELS if frame else 0)
                if pixels > max_pixels:
                    raise _too_many(pixels, max_pixels)
                if picture.format != "TIFF":
                    break  # of the others only the first picture is read
    except Refused:
        raise
    except Image.DecompressionBombError:
        raise _too_many(3 * (Image.MAX_IMAGE_PIXELS or max_pixels) / 2, max_pixels) from None
    except UnidentifiedImageError:
        raise Refused(422, "is not a picture that can be read; send PNG, JPEG, TIFF, WebP, BMP, GIF or PDF") from None
    except Exception:  # what Pillow raises on damaged files is any of a dozen kinds
        raise Refused(422, "the picture is damaged; save or download it again") from None


def _check_pdf(path: Path, max_pixels: int) -> None:
    import pypdfium2

    try:
        with PDFIUM_LOCK:
            document = pypdfium2.PdfDocument(path)
            try:
                pixels = 0.0
                for index in range(len(document)):
                    width, height = document.get_page_size(index)
                    pixels += max(width * height * (PDF_DPI / 72) ** 2, LEAST_PAGE_PIXELS)
                    if pixels > max_pixels:
                        break
            finally:
                document.close()
    except (pypdfium2.PdfiumError, ValueError) as error:
        why = "locked with a password" if "password" in str(error).lower() else "damaged"
        raise Refused(422, f"the PDF is {why}; save another copy of it") from None
    if pixels > max_pixels:
        raise _too_many(pixels, max_pixels)


__all__ = ["DEADLINE", "PICTURE_FORMATS", "Gate", "Limits", "Refused", "check_picture"]
