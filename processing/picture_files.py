"""Pictures from files: every format a person may have becomes pages in grey with dark ink on white, or in colour."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import InputError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif")
PDF_SUFFIX = ".pdf"
PDF_DPI = 200
MAX_PIXELS = 40_000_000  # an A3 page at 400 dpi; larger pictures are scaled down
_MAX_SOURCE_PIXELS = 600_000_000  # beyond this even decoding would take gigabytes: refuse
_PDF_POINTS_PER_INCH = 72
PDFIUM_LOCK = threading.RLock()  # PDFium can not be called by two threads at once


@dataclass(frozen=True)
class LoadedPicture:
    """One page.

    Attributes:
        name: File name without folder; what results are named after.
        path: The file it came from.
        image: Mode `L`, dark ink on white; mode `RGB` where colour was asked for.
        page: Index of the page in its file, from 0.
        scale: Pixels of `image` per pixel of the file (below 1 when a huge page was scaled down).
    """

    name: str
    path: Path
    image: Image.Image
    page: int = 0
    scale: float = 1.0


def grey_on_white(picture: Image.Image) -> Image.Image:
    """Any PIL picture as mode `L`: 16-bit scaled to 8, transparency laid on white, EXIF turned, dark pages inverted."""
    grey = _plain(picture).convert("L")
    values = np.asarray(grey)
    step = max(1, min(values.shape) // 200)
    return ImageOps.invert(grey) if _is_dark(values[::step, ::step]) else grey


def rgb_on_white(picture: Image.Image) -> Image.Image:
    """Any PIL picture as mode `RGB`: as `grey_on_white`, but colours stay, and dark pictures stay dark."""
    return _plain(picture).convert("RGB")


def picture_of_array(image: Any, name: str) -> Image.Image:
    """A PIL picture of an array or tensor.

    Args:
        image: `(H, W)`, `(H, W, C)` or `(C, H, W)` with 1, 3 or 4 channels, in 0 … 1, 0 … 255 or 0 … 65535.
        name: What to call it in a message.

    Raises:
        InputError: Another shape, or no numbers.
    """
    array = image.detach().cpu().float().numpy() if hasattr(image, "detach") else np.asarray(image)
    if array.ndim not in (2, 3) or array.size == 0 or array.dtype.kind not in "uifb":
        raise InputError(name, f"has shape {array.shape} of {array.dtype}; expected (H, W), (C, H, W) or (H, W, C)")
    if array.ndim == 3:
        if array.shape[-1] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
            array = np.moveaxis(array, 0, -1)
        if array.shape[-1] not in (1, 3, 4):
            raise InputError(name, f"has shape {tuple(array.shape)}; expected 1, 3 or 4 channels")
    if array.dtype != np.uint8:
        values = np.nan_to_num(array.astype(np.float64))
        top = float(values.max())
        values = values * (255.0 if top <= 1.0 else 255.0 / 65535.0 if top > 255.0 else 1.0)
        array = np.clip(values.round(), 0, 255).astype(np.uint8)
    return Image.fromarray(array.squeeze(-1) if array.shape[-1:] == (1,) else np.ascontiguousarray(array))


def _plain(picture: Image.Image) -> Image.Image:
    """Upright, 8 bits a sample, nothing transparent."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.float64)
        low, high = (0.0, 65535.0) if values.min() >= 0 and values.max() > 255 else (0.0, 255.0)
        if picture.mode == "F" and values.max() <= 1.0:
            high = 1.0
        return Image.fromarray(np.clip((values - low) * 255.0 / (high - low), 0, 255).round().astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        return _flattened(picture.convert("RGBA"))
    return picture


def _is_dark(values: np.ndarray) -> bool:
    return bool(np.median(values) < 110)


def _flattened(picture: Image.Image) -> Image.Image:
    """Transparent drawings on white; light strokes on nothing (for dark screens) on black, to be inverted later."""
    colour = np.asarray(picture.convert("RGB").convert("L"))
    alpha = np.asarray(picture.getchannel("A"))
    seen = alpha > 128
    light_on_nothing = seen.any() and seen.mean() < 0.5 and np.median(colour[seen]) > 190
    paper = Image.new("RGBA", picture.size, (0, 0, 0, 255) if light_on_nothing else (255, 255, 255, 255))
    return Image.alpha_composite(paper, picture)


def _shrunk(picture: Image.Image, max_pixels: int) -> tuple[Image.Image, float]:
    pixels = picture.width * picture.height
    if pixels <= max_pixels:
        return picture, 1.0
    scale = (max_pixels / pixels) ** 0.5
    size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
    if picture.mode == "P" or picture.mode == "1":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB" if picture.mode == "P" else "L")
    return picture.resize(size, Image.Resampling.BOX, reducing_gap=2.0), scale


def _load_raster(path: Path, max_pixels: int, colour: bool = False) -> Iterator[LoadedPicture]:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # the check below names the size; Pillow's only warns
    try:
        picture = Image.open(path)
    except UnidentifiedImageError as error:
        raise InputError(path, "is not a picture that can be read; save it as PNG, JPEG, TIFF, WebP or PDF") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(path, f"the picture is damaged ({_one_line(error)}); save or download it again") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    with picture:
        frames = getattr(picture, "n_frames", 1) if picture.format in ("TIFF", "MPO") else 1
        for frame in range(1 if picture.format == "MPO" else frames):
            if picture.width * picture.height > _MAX_SOURCE_PIXELS:
                raise InputError(
                    path, f"the picture has {picture.width} x {picture.height} pixels, too many to open; scale it down"
                )
            try:
                picture.seek(frame)
                picture.load()
                small, scale = _shrunk(picture, max_pixels)
                own = small if small is not picture else picture.copy()
                page = rgb_on_white(own) if colour else grey_on_white(own)
            except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
                where = f"page {frame + 1} is damaged" if frames > 1 else "the picture is damaged"
                raise InputError(path, f"{where} ({_one_line(error)}); save or download it again") from error
            yield LoadedPicture(path.name, path, page, frame, scale)


def _load_pdf(path: Path, max_pixels: int, dpi: int, colour: bool = False) -> Iterator[LoadedPicture]:
    import pypdfium2

    try:
        with PDFIUM_LOCK:
            document = pypdfium2.PdfDocument(path)
            count = len(document)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise InputError(path, "the PDF is locked with a password; save a copy without one") from error
        raise InputError(path, "is not a PDF that can be read; it may be damaged, save or download it again") from error
    try:
        if count == 0:
            raise InputError(path, "the PDF has no pages")
        for index in range(count):
            try:
                with PDFIUM_LOCK:
                    page = document[index]
                    width, height = page.get_size()
                    scale = dpi / _PDF_POINTS_PER_INCH
                    shrink = min(1.0, (max_pixels / max(1.0, width * height * scale * scale)) ** 0.5)
                    picture = page.render(scale=scale * shrink, grayscale=not colour).to_pil().copy()
                    page.close()
            except (pypdfium2.PdfiumError, MemoryError, ValueError) as error:
                raise InputError(path, f"page {index + 1} of the PDF can not be drawn ({_one_line(error)})") from error
            picture = rgb_on_white(picture) if colour else grey_on_white(picture)
            yield LoadedPicture(path.name, path, picture, index, shrink)
    finally:
        with PDFIUM_LOCK:
            document.close()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def is_picture_file(path: str | PathLike[str]) -> bool:
    """Whether the file's ending is one that `load_pictures` reads."""
    return Path(path).suffix.lower() in (*PICTURE_SUFFIXES, PDF_SUFFIX)


def find_picture_files(paths: str | PathLike[str] | Iterable[str | PathLike[str]]) -> list[Path]:
    """Files as given, folders as the picture files directly in them, sorted by name. Hidden files are passed over.

    Raises:
        InputError: A folder without any picture. Files that do not exist are reported when they are loaded.
    """
    if isinstance(paths, (str, PathLike)):
        paths = [paths]
    files: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith(".") and is_picture_file(p))
        if not inside:
            raise InputError(path, "the folder has no pictures (PNG, JPEG, TIFF, WebP, BMP, GIF or PDF)")
        files.extend(inside)
    return files


def load_pictures(
    path: str | PathLike[str], max_pixels: int = MAX_PIXELS, dpi: int = PDF_DPI, colour: bool = False
) -> Iterator[LoadedPicture]:
    """The pages of one file, or of all picture files in a folder, one after the other.

    Args:
        path: Picture, PDF or folder.
        max_pixels: Larger pages are scaled down to this many pixels (`scale` tells by how much).
        dpi: Resolution at which PDF pages are drawn.
        colour: Keep colours, and dark pictures dark: mode `RGB`.

    Raises:
        InputError: One line with the file's name, when its turn comes; pages before it have been given. To go on after
            a bad file in a folder, walk `find_picture_files` and load each file by itself.
    """
    for file in find_picture_files(path):
        try:
            size = file.stat().st_size
        except OSError as error:
            raise InputError(file, "there is no such file") from error
        if size == 0:
            raise InputError(file, "the file is empty")
        with file.open("rb") as stream:
            is_pdf = stream.read(5) == b"%PDF-"
        if is_pdf or file.suffix.lower() == PDF_SUFFIX:
            yield from _load_pdf(file, max_pixels, dpi, colour)
        else:
            yield from _load_raster(file, max_pixels, colour)
