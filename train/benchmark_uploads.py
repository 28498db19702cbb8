"""Uploads for trying a server: good ones, and all sorts of bad ones, the same for the same number."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

BOUNDARY = "intermezzo-6f1d"
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
_MAGIC = (
    b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF\x10\0\0\0WEBPVP8L",
    b"%PDF-1.7\n", b"PK\x03\x04", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x1f\x8b\x08", b"<svg xmlns='x'>", b"{\"picture\": ",
)  # fmt: skip


def multipart(field: str, name: str, content: bytes) -> tuple[bytes, str]:
    """A form with one file: its body and its content type."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={BOUNDARY}"


def png_that_claims(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG that says it is so large, whatever it holds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _blank(draw: random.Random) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.new("L", (draw.randint(1, 400), draw.randint(1, 300)), draw.choice((0, 128, 255))).save(stream, "PNG")
    return stream.getvalue()


def malformed_uploads(count: int, seed: int = 0) -> Iterator[tuple[str, bytes, str]]:
    """So many uploads that no server should take: what is wrong, body, content type.

    Noise, the beginnings of every kind of file, cut pictures and PDFs, pictures without music, pictures that claim
    billions of pixels, forms with the wrong field, and bodies that are no forms.
    """
    draw = random.Random(seed)
    png, pdf = (EXAMPLES / "bass.png").read_bytes(), (EXAMPLES / "greensleeves_page.pdf").read_bytes()
    contents: list[tuple[str, Callable[[], bytes]]] = [
        ("noise", lambda: draw.randbytes(draw.randint(0, 4000))),
        ("a beginning and noise", lambda: draw.choice(_MAGIC) + draw.randbytes(draw.randint(0, 4000))),
        ("a cut PNG", lambda: png[: draw.randint(1, len(png) // 2)]),
        ("a cut PDF", lambda: pdf[: draw.randint(1, min(len(pdf) // 2, 400))]),
        ("a blank picture", lambda: _blank(draw)),
        ("a PNG that claims too much", lambda: png_that_claims(draw.randint(20_000, 2**31 - 1), 20_000)),
        ("a PNG with nothing in it", lambda: png_that_claims(draw.randint(1, 500), draw.randint(1, 500))),
    ]
    for number in range(count):
        what, make = contents[number % len(contents)]
        kind = number // len(contents) % 4
        if kind == 1:
            yield f"{what}, in another field", *multipart("image", "a.png", make())
        elif kind == 2:
            body, content_type = multipart("picture", "a.png", make())
            yield f"{what}, with another boundary", body, content_type + "zz"
        elif kind == 3 and number % 2:
            yield f"{what}, as it is", make(), draw.choice(("image/png", "application/json", "text/plain", ""))
        else:
            yield what, *multipart("picture", draw.choice(("a.png", "../a.pdf", "ä.tif", "", "a.exe")), make())


__all__ = ["malformed_uploads", "multipart", "png_that_claims"]
