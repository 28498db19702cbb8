"""`intermezzo draw`: alphaTex to pictures, and pictures to alphaTex, by one model over text and picture codes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .processing.alphatex_grammar import Score, read_alphatex, strip_invisible, write_alphatex
from .processing.errors import InputError
from .processing.native_settings import GUIDANCE, TRIES
from .reading_outputs import unique_name

if TYPE_CHECKING:
    from PIL import Image

BARS_PER_SYSTEM = 2  # what the model was trained on
GAP_PX = 8


@dataclass
class DrawResult:
    """What came of one file.

    Attributes:
        name: Results are named after it.
        text: Canonical alphaTex: what was drawn, or what was read.
        picture: All its systems, one below the other; when reading, `None`.
        file: What was written.
        note: `None`, or one line about what was read all the same.
        error: `None`, or one line that names the file and what is wrong.
    """

    name: str
    text: str = ""
    picture: Image.Image | None = None
    file: Path | None = None
    note: str | None = None
    error: str | None = None


def default_checkpoint() -> Path:
    """The checkpoint that comes along."""
    return Path(__file__).resolve().parent / "checkpoints" / "native_vlm"


def load_drawer(model: str | Path | None = None, device: str = "auto") -> tuple[Any, Any]:
    """Model in float32 on its device, and processor.

    Raises:
        InputError: No NativeVLM checkpoint there, or the device is not there.
    """
    import torch
    from safetensors import SafetensorError
    from transformers.utils import logging

    from .configuration.configuration_native_vlm import NativeVLMConfig
    from .modeling.modeling_native_vlm import NativeVLMForCausalLM
    from .processing.processing_native_vlm import NativeVLMProcessor

    checkpoint = str(model or default_checkpoint())
    logging.disable_progress_bar()  # loading takes no time; its bar would stand between the person's own lines
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = NativeVLMConfig.get_config_dict(checkpoint)[0].get("model_type")
        if kind not in (None, "native_vlm"):
            raise InputError(checkpoint, f"is a checkpoint of {kind!r}; give one of 'native_vlm'")
        options: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True}
        loaded, info = NativeVLMForCausalLM.from_pretrained(checkpoint, **options)
        if lacking := sorted(info["missing_keys"]):
            raise ValueError(f"{len(lacking)} weights are missing, such as {lacking[0]!r}")
        return loaded.to(device).eval(), NativeVLMProcessor.from_pretrained(checkpoint)
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, AssertionError, SafetensorError) as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(checkpoint, f"does not load as a NativeVLM checkpoint on {device}: {why}") from error


def _visible(text: str) -> Score:
    """What a drawing of a text shows: its tab with rhythm. (The model has learnt to draw no other staff.)"""
    score = read_alphatex(text)
    for staff in score.staves:
        if "tabs" in staff.show:
            staff.show = ("tabs",)
    return strip_invisible(score, "tabs")


def systems_of(text: str, bars: int = BARS_PER_SYSTEM) -> list[str]:
    """A text cut into texts of so many bars, of its first staff; each says its metre.

    Raises:
        AlphaTexError: The text is not alphaTex.
        InputError: It has no tab staff, or no bars.
    """
    score = _visible(text)
    if not score.staves or not score.staves[0].bars:
        raise InputError(None, "the text has no bars")
    staff = score.staves[0]
    if "tabs" not in staff.show or staff.percussion:
        raise InputError(None, "only staves with tablature can be drawn")
    parts, metre = [], None
    for start in range(0, len(staff.bars), bars):
        part: Score = copy.deepcopy(score)
        part.tracks = part.tracks[:1]
        part.tracks[0].staves = [part.tracks[0].staves[0]]
        part.staves[0].bars = part.staves[0].bars[start : start + bars]
        first = part.staves[0].bars[0]
        first.time_signature = first.time_signature or metre
        metre = next((b.time_signature for b in reversed(part.staves[0].bars) if b.time_signature), metre)
        parts.append(write_alphatex(part))
    return parts


def stack_systems(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures one below the other, on white."""
    from PIL import Image as Pillow

    width = max(picture.width for picture in pictures)
    height = sum(picture.height for picture in pictures) + GAP_PX * (len(pictures) - 1)
    sheet, y = Pillow.new("L", (width, height), 255), 0
    for picture in pictures:
        sheet.paste(picture, (0, y))
        y += picture.height + GAP_PX
    return sheet


def draw_text(
    model: Any, processor: Any, text: str, guidance: float = GUIDANCE, seed: int | None = None, tries: int = TRIES,
    progress: bool = False,
) -> Image.Image:  # fmt: skip
    """Draws a whole text, system by system.

    Args:
        model, processor: From `load_drawer`.
        text: AlphaTex.
        guidance: See `generate_images`.
        seed: Draw with chance, by this seed; `None`: the same picture always.
        tries: Drawings of each system at most, of which the one that the model reads best is taken.
        progress: Show a progress bar of the systems, where they are several.

    Raises:
        InputError: A system does not fit into the model's window; said before the first is drawn.
    """
    import torch
    from tqdm.auto import tqdm

    from .processing.native_choosing import draw_prompts
    from .processing.native_places import drawing_prompt

    prompts, pictures = [], []
    options = {} if seed is None else {"do_sample": True, "top_k": 20}
    parts = systems_of(text)
    for number, part in enumerate(parts):
        try:
            prompts.append(drawing_prompt(model, processor, part)[0].tolist())
        except InputError as error:
            where = f"from bar {number * BARS_PER_SYSTEM + 1} on: " if len(parts) > 1 else ""
            raise InputError(None, f"{where}{error.message}") from error
    for prompt in tqdm(prompts, desc="systems", unit="system", disable=not progress or len(parts) == 1, leave=False):
        if seed is not None:
            torch.manual_seed(seed)
        pictures += model.decode_pictures(draw_prompts(model, processor, [prompt], guidance, tries, **options))
    return stack_systems(pictures)


def draw(
    inputs: Iterable[str | Path],
    out: str | Path | None = None,
    read: bool = False,
    guidance: float = GUIDANCE,
    tries: int = TRIES,
    seed: int | None = None,
    model: str | Path | None = None,
    device: str = "auto",
    progress: bool = False,
    drawer: tuple[Any, Any] | None = None,
) -> list[DrawResult]:
    """Draws alphaTex files, or reads pictures.

    Args:
        inputs: AlphaTex files; with `read` pictures of one system each.
        out: Folder for `NAME.png` or `NAME.alphatex`; `None` writes nothing.
        read: Read pictures instead.
        guidance: How closely the text is followed; 1 is as learnt.
        tries: Drawings of each system at most, of which the one that the model reads best is taken.
        seed: Draw with chance; `None`: the same picture always.
        model: Checkpoint folder or Hub name; the one that comes along when left out.
        device: `"auto"`, `"cpu"`, `"cuda"`, ...
        progress: Show a progress bar.
        drawer: A loaded model and processor, in place of `model`.

    Returns:
        One result for each file, in order; one that fails has its `error`.

    Raises:
        InputError: The model is not there, a seed that is none, or no tries.
    """
    from tqdm.auto import tqdm

    if seed is not None and not 0 <= seed < 2**63:
        raise InputError(None, f"seed is {seed}; it must be 0 or more, and below 2 to the 63rd")
    if tries < 1:
        raise InputError(None, f"tries is {tries}; it must be 1 or more")
    files = [Path(given) for given in inputs]
    loaded, processor = drawer or load_drawer(model, device)
    results: list[DrawResult] = []
    for file in tqdm(files, desc="reading" if read else "drawing", unit="file", disable=not progress, leave=False):
        result = DrawResult(unique_name(file.stem, {other.name for other in results}, "-"))
        try:
            if read:
                _read(result, file, loaded, processor)
            else:
                _draw(result, file, loaded, processor, guidance, seed, tries, progress)
        except InputError as error:
            told = str(error)
            result.error = told if told.startswith(str(file)) else f"{file}: {error.message}"
        except UnicodeDecodeError:
            result.error = f"{file}: is no text in UTF-8; give alphaTex, or --read to read a picture"
        except OSError as error:
            result.error = f"{file}: can not be read: {' '.join(str(error).split())[:200]}"
        if out is not None and result.error is None:
            _write(result, Path(out))
        results.append(result)
    return results


def _draw(
    result: DrawResult, file: Path, model: Any, processor: Any, guidance: float, seed: int | None, tries: int,
    progress: bool,
) -> None:  # fmt: skip
    from .datasets_scripts.render.client import canonical_text

    text = canonical_text(file.read_text(encoding="utf-8"))
    result.text = write_alphatex(_visible(text))
    result.picture = draw_text(model, processor, text, guidance, seed, tries, progress)


def _read(result: DrawResult, file: Path, model: Any, processor: Any) -> None:
    import numpy as np

    from .processing.page_systems import find_systems
    from .processing.picture_files import load_pictures

    pages = list(load_pictures(file))
    if len(pages) != 1:
        raise InputError(file, f"has {len(pages)} pages; give a picture of one system, or use `intermezzo read`")
    systems = len(find_systems(np.asarray(pages[0].image)))
    if systems > 1:
        raise InputError(file, f"shows {systems} systems; give a picture of one, or use `intermezzo read`")
    result.text, whole = processor.read_one(model, pages[0].image)
    if not whole:
        result.note = (
            f"{file}: the text was closed where the model's window of {processor.max_length} tokens ends, bars may be "
            "missing; give fewer bars at a time"
        )


def _write(result: DrawResult, out: Path) -> None:
    file = out / f"{result.name}.{'alphatex' if result.picture is None else 'png'}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        if result.picture is not None:
            result.picture.save(file)
        else:
            file.write_text(result.text, encoding="utf-8")
        result.file = file
    except OSError as error:
        result.error = f"{file}: can not be written: {' '.join(str(error).split())[:200]}"


__all__ = ["DrawResult", "default_checkpoint", "draw", "draw_text", "load_drawer", "systems_of"]
