"""What goes into the renderer and what comes out. All coordinates are picture pixels, y pointing down."""

from __future__ import annotations

import base64
import io
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ...processing.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

LAYOUTS = ("system", "page", "horizontal")
STAVES = ("tabs", "score+tabs", "score", "auto")
TEXT_FONTS = ("arimo", "tinos", "lora", "roboto-condensed")
MUSIC_FONTS = ("bravura", "leland", "petaluma")
_CHOICES = {
    "layout": LAYOUTS,
    "staves": STAVES,
    "text_font": TEXT_FONTS,
    "serif_font": TEXT_FONTS,
    "music_font": MUSIC_FONTS,
    "bar_numbers": ("none", "first", "all"),
    "rhythm": ("auto", "bars", "beams", "hidden"),
    "format": ("png", "svg"),
}
_RANGES = {"scale": (0.1, 10), "stretch": (0.1, 10), "first_bar": (0, 10**6), "margin_px": (0, 500)}


@dataclass(frozen=True)
class Diagnostic:
    """One remark of alphaTab's parser; `severity` is "hint", "warning" or "error", lines and columns start at 1."""

    code: str
    severity: str
    message: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.severity} {self.code}: {self.message}"


class RenderError(InputError):
    """A job that gave no result.

    Attributes:
        name: "parse_error", "unreadable_file", "bad_option", "layout_error", "unsupported_format", "time_limit",
            "worker_died" or "renderer_error".
        diagnostics: What alphaTab said, for "parse_error".
    """

    def __init__(
        self, name: str, message: str, diagnostics: tuple[Diagnostic, ...] = (), path: str | None = None
    ) -> None:
        self.name = name
        self.diagnostics = diagnostics
        super().__init__(path, message)


@dataclass(frozen=True)
class RenderJob:
    """One picture to make.

    Attributes:
        text: alphaTex. Give either this or `data`.
        data: Bytes of a Guitar Pro 3-8 or MusicXML file.
        layout: "system" puts all bars on one system, cropped to its ink; "page" breaks lines (and pages, with
            `page_height_px`); "horizontal" is alphaTab's endless line.
        staves: Which staves to draw, or "auto" for what the text says in `\\staff`. A staff without strings is always
            drawn as score.
        scale: Picture pixels in one layout unit; at 1.0 tab lines are 13 pixels apart.
        width_px: "page": width of the page (default 950 · scale). "system": stretch the system to this width; it
            stays as it is when its notes do not fit in.
        page_height_px: Height of each page picture (more for a system taller than that); `None` makes one page as
            long as needed.
        margin_px: White around the ink of a system.
        first_bar: First bar drawn, from 0. A system that starts later shows no unchanged time signature.
        bar_count: Number of bars drawn; `None` draws all.
        tracks: Track numbers from 0, or "all".
        rhythm: Stems and beams under tab: "auto" when there is no score staff; "bars" beamed, "beams" single flags.
        bar_numbers: None, at the start of each system, or at all bars.
        titles: Draw title, artist, track name, copyright.
        tuning: Draw tuning and capo.
        chord_diagrams: Draw the chord diagrams over the first system.
        dynamics: Draw dynamics (alphaTab puts an *f* under the first beat when the text has none).
        stretch: Spacing factor, 1.0 is alphaTab's own.
        line_gray, second_voice_gray: 0 black to 255 white; `None` leaves alphaTab's colours (light grey lines, a pale
            second voice).
        color: RGB instead of grey PNG.
        format: "png" or "svg"; an SVG has all text as outlines and needs no font.
        key: Anything of yours; comes back in every picture of this job.
    """

    text: str | None = None
    data: bytes | None = None
    layout: Literal["system", "page", "horizontal"] = "system"
    staves: Literal["tabs", "score+tabs", "score", "auto"] = "tabs"
    scale: float = 1.0
    width_px: int | None = None
    page_height_px: int | None = None
    margin_px: int = 6
    first_bar: int = 0
    bar_count: int | None = None
    tracks: tuple[int, ...] | Literal["all"] = (0,)
    rhythm: Literal["auto", "bars", "beams", "hidden"] = "auto"
    bar_numbers: Literal["none", "first", "all"] = "none"
    titles: bool = False
    tuning: bool = False
    chord_diagrams: bool = False
    dynamics: bool = True
    stretch: float = 1.0
    text_font: str = "arimo"
    serif_font: str = "tinos"
    music_font: str = "bravura"
    line_gray: int | None = None
    second_voice_gray: int | None = None
    color: bool = False
    format: Literal["png", "svg"] = "png"
    key: Any = None

    def __post_init__(self) -> None:
        if (self.text is None) == (self.data is None):
            raise InputError(None, "a render job needs either text or data")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(None, f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}")
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(None, f"{name} is {getattr(self, name)}; it must be between {low} and {high}")
        for name in ("width_px", "page_height_px", "bar_count"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(None, f"{name} is {value}; it must be 1 or more")

    def message(self) -> dict[str, Any]:
        """The job as the Node process wants it."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("key", "data")}
        if self.data is not None:
            fields["data"] = base64.b64encode(self.data).decode()
        return {"verb": "render", **fields}


@dataclass(frozen=True)
class StaffBox:
    """One staff of one system: `kind` "tab" or "score", y of each line from the top, and where lines start and end."""

    kind: str
    track: int
    staff: int
    lines: tuple[float, ...]
    x0: float
    x1: float

    @property
    def line_distance_px(self) -> float:
        """Distance of two lines; 0 when there is only one."""
        return (self.lines[-1] - self.lines[0]) / (len(self.lines) - 1) if len(self.lines) > 1 else 0.0


@dataclass(frozen=True)
class SystemBox:
    """One system with what lies above and below its staves, as far as it is on the picture."""

    x: float
    y: float
    w: float
    h: float
    staves: tuple[StaffBox, ...]

    def staff(self, kind: str, track: int | None = None) -> StaffBox | None:
        """First staff of this kind (and track), or `None`."""
        return next((s for s in self.staves if s.kind == kind and track in (None, s.track)), None)


@dataclass(frozen=True)
class BarBox:
    """One bar over all staves: y and h reach from the first line of the top staff to the last of the bottom staff."""

    system: int
    bar: int
    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class BeatBox:
    """One beat on one staff. `on_x` is the middle of its note heads or fret numbers: the column to label.

    `bar` counts from 0 in the whole text, `voice` from 0, `beat` from 0 in its voice with grace beats counted.
    """

    system: int
    bar: int
    kind: str
    track: int
    staff: int
    voice: int
    beat: int
    x: float
    y: float
    w: float
    h: float
    on_x: float


@dataclass(frozen=True)
class NoteBox:
    """One note head or fret number. `string` 1 is the highest; 0 and `fret` -1 for notes without string."""

    system: int
    bar: int
    kind: str
    track: int
    staff: int
    voice: int
    beat: int
    string: int
    fret: int
    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class RenderedPicture:
    """One picture and where everything lies in it, in its pixels."""

    png: bytes
    svg: str | None
    width: int
    height: int
    systems: tuple[SystemBox, ...]
    bars: tuple[BarBox, ...]
    beats: tuple[BeatBox, ...]
    notes: tuple[NoteBox, ...]
    key: Any = field(default=None, compare=False)

    def image(self) -> Image.Image:
        """The PNG as a picture, mode "L" (or "RGB" for a job with `color`)."""
        from PIL import Image

        picture = Image.open(io.BytesIO(self.png))
        picture.load()
        return picture

    def boxes(self) -> dict[str, Any]:
        """Everything but the picture, as plain lists and dicts."""
        return {name: [asdict(item) for item in getattr(self, name)] for name in ("systems", "bars", "beats", "notes")}

    @classmethod
    def from_answer(cls, answer: dict[str, Any], key: Any = None) -> RenderedPicture:
        """The picture that the Node process described."""
        systems = tuple(SystemBox(**{**system, "staves": _staves(system)}) for system in answer["systems"])
        return cls(
            png=base64.b64decode(answer.get("png", "")),
            svg=answer.get("svg"),
            width=answer["width"],
            height=answer["height"],
            systems=systems,
            bars=tuple(BarBox(**bar) for bar in answer["bars"]),
            beats=tuple(BeatBox(**beat) for beat in answer["beats"]),
            notes=tuple(NoteBox(**note) for note in answer["notes"]),
            key=key,
        )


def _staves(system: dict[str, Any]) -> tuple[StaffBox, ...]:
    return tuple(StaffBox(**{**staff, "lines": tuple(staff["lines"])}) for staff in system["staves"])
