"""`intermezzo compose`: words, or a picture, to music, by SummaryBridge and Museformer.

from intermezzo import compose
(result,) = compose("流星雨", num_samples=4, out="out")
print(result)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .composing_parts import Composer, load_composer
from .composing_report import attribute_table
from .composing_songs import Song, write_song
from .composing_words import Asked, ask, spell_emoji, unread_writing
from .composing_writing import SongWriter, Wishes, header_of
from .processing.errors import InputError
from .processing.music_tries import spoken_sides
from .reading_outputs import unique_name

if TYPE_CHECKING:
    import torch

    from .processing.sound import SoundMaker

DEFAULT_BARS, MAX_BARS = 16, 512
#: Bars of the longest texts that Museformer learns from, see `train/train_museformer.py`.
LEARNT_BARS = 64


@dataclass(frozen=True)
class ComposeSettings:
    """How to compose.

    Attributes:
        bars: Of each song; left out, what the words say, or 16.
        num_samples: Songs for each prompt.
        tries: Songs written at most for each of them where the words paint a picture, until one has all that the bridge
            hears in it; the one that has most of it is kept.
        seed: The same prompt, settings and seed make the same songs.
        cfg: How closely the words are followed; 1 is as learnt, `None` the model's own choice.
        steps: Of the bridge, 1 to 1000; `None`: the model's own choice.
        temperature: Of the words of music; 0 takes the likeliest.
        top_p: Draw from the likeliest words that have this chance together.
        tempo: Quarter notes a minute, kept throughout; left to the model when left out. With it, the metre is what
            the words say, or 4/4.
        metre: Such as `3/4`, kept throughout.
        key: Such as `A` or `Bb minor`: the song is moved to this tonic when it is done.
        program: The only instruments to be used, see `composing_words.read_programs`.
        bar_parallel: Write all bars at once, each after its own plan: faster, and less coherent.
    """

    bars: int | None = None
    num_samples: int = 1
    tries: int = 4
    seed: int = 0
    cfg: float | None = None
    steps: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    tempo: float | None = None
    metre: str | None = None
    key: str | None = None
    program: str | None = None
    bar_parallel: bool = False

    def __post_init__(self) -> None:
        """Refuses numbers that can not be.

        Raises:
            InputError: Which one, and what it may be.
        """
        limits: dict[str, tuple[float, float]] = {
            "bars": (1, MAX_BARS), "num_samples": (1, 1000), "tries": (1, 20), "seed": (0, 2**62), "cfg": (0, 100),
            "steps": (1, 1000), "temperature": (0, 100), "top_p": (1e-6, 1),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(None, f"{name} is {value:g}; it must be {low:g} to {high:g}")


@dataclass
class ComposeResult:
    """The songs of one prompt. `str()` of it is a report.

    Attributes:
        prompt: The words, or the picture's name.
        name: Files are named after it.
        asked: What the words ask for, as far as it can be compared.
        songs: The songs.
        notes: What a person should know, a line each.
        files: The report, where it was written; songs have files of their own.
        error: Why there are no songs.
    """

    prompt: str
    name: str
    asked: Asked = field(default_factory=Asked)
    songs: list[Song] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    error: InputError | None = None

    def kept(self) -> list[dict[str, bool]]:
        """For each song whether it is what was asked for, by attribute."""
        return [self.asked.kept(song.values or {}) for song in self.songs]

    def __str__(self) -> str:
        table = attribute_table(self.asked, [song.values for song in self.songs])
        shown = self.prompt if len(self.prompt) <= 200 else self.prompt[:200] + " …"
        return "\n".join([shown, *self.notes, table])


def compose(
    prompts: str | Sequence[str] | None = None, *, picture: Any = None, out: str | Path | None = None,
    wav: bool = False, soundfont: str | Path | None = None, museformer: str | Path | None = None,
    bridge: str | Path | None = None, style_encoder: str | Path | None = None, device: str = "auto",
    progress: bool = False, composer: Composer | None = None, **settings: Any,
) -> list[ComposeResult]:  # fmt: skip
    """Composes music to words, or to a picture.

    Args:
        prompts: Words in any language of the text encoder, or several of them. Of several, one that can not be
            composed to has an `error`, and the others are composed all the same; a single one is raised.
        picture: Path, PIL picture or array, in place of words.
        out: Folder for `NAME.mid` and `NAME.png` of each song and `NAME.txt` of each prompt; `None` writes nothing.
        wav: Also write `NAME.wav`.
        soundfont: `.sf2` or `.sf3` file for it; with one, `wav` is meant. Left out, one that is there already.
        museformer, bridge, style_encoder: Model folders or Hub names; those that come along when left out.
        device: `"auto"`, `"cpu"`, `"cuda"`, ...
        progress: Show a progress bar.
        composer: Loaded models (`load_composer`), in place of their names.
        **settings: See `ComposeSettings`.

    Returns:
        A result for each prompt, in order.

    Raises:
        InputError: Words, a picture, a model, a soundfont or a setting that can not be.
    """
    chosen = ComposeSettings(**settings)
    if (prompts is None) == (picture is None):
        raise InputError(None, "give words to compose to, or a picture; one of them")
    several = prompts is not None and not isinstance(prompts, str)
    queue: list[Any] = [prompts] if prompts is None or isinstance(prompts, str) else list(prompts)
    if not queue:
        raise InputError(None, "there are no words to compose to")
    sound = _sound(soundfont) if wav or soundfont is not None else None
    if out is not None:
        _make_folder(Path(out))
    parts = composer or load_composer(museformer, bridge, style_encoder, device, with_pictures=picture is not None)
    wishes = Wishes.read(chosen, parts.music)
    results: list[ComposeResult] = []
    for text in queue:
        result = ComposeResult("" if text is None else " ".join(str(text).split()), "")
        try:
            triple = _see(parts, picture, result) if prompts is None else _hear(parts, text, result)
            result.name = unique_name(result.name, {other.name for other in results})
            # A picture is seen, not looked up: its nearest name may be wrong.
            sides = {} if prompts is None else result.asked.sides
            _compose_one(parts, triple, chosen, wishes, result, progress, sides)
            if out is not None:
                _write(result, Path(out), sound)
        except InputError as error:
            if not several:
                raise
            result.error = error
        results.append(result)
    return results


def _sound(soundfont: str | Path | None) -> SoundMaker:
    from .processing.sound import SoundMaker

    return SoundMaker(soundfont)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(out, f"can not be made a folder ({error.strerror}); give another --out") from error


# --- What the bridge is given -----------------------------------------------------------------------------------------


def _hear(parts: Composer, text: str, result: ComposeResult) -> dict[str, torch.Tensor]:
    """The words as the bridge takes them, and what they ask for; nothing where they are no words."""
    import warnings

    processor = parts.bridge_processor
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        clean = processor.clean(text)
    result.prompt = clean
    result.notes += [str(warning.message) for warning in told]
    spelt = spell_emoji(clean)
    if spelt != clean:
        result.notes.append(f"read as: {spelt[:200]}")
    result.name = _slug(spelt)
    if not any(letter.isalnum() for letter in spelt):
        result.notes.append("nothing in these words is known to me: composed without a wish")
        return {}
    writing = unread_writing(spelt, processor.text_encoder)
    if writing:
        result.notes.append(f"the text encoder was not made for {writing} letters: the music may not follow the words")
    _look_up(spelt, result)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spelt emoji can be longer than what is read; that was said
        return dict(processor([spelt]))


def _look_up(text: str, result: ComposeResult) -> None:
    result.asked = ask(text)
    result.notes += result.asked.notes
    if not result.asked:
        result.notes.append(
            "the list of words (English, Chinese) has none of these: the music follows the text encoder alone, and "
            "there is nothing to compare it with"
        )


def _see(parts: Composer, picture: Any, result: ComposeResult) -> dict[str, torch.Tensor]:
    """A picture as the bridge takes it; its nearest name says what it asks for."""
    from .processing.style_looker import nearest

    looker = parts.looker
    if looker is None:
        raise InputError(None, "pictures need a StyleEncoder; load one with the models")
    (seen,) = looker.look([picture])
    if isinstance(seen, InputError):
        raise seen
    is_file = isinstance(picture, (str, Path))
    result.prompt = Path(picture).name if is_file else "picture"
    result.name = _slug(Path(picture).stem) if is_file else "picture"
    names, vectors = looker.captions()
    found = nearest(seen.pooled, vectors, 1)
    if found:
        result.notes.append(f'looks most like "{names[found[0][0]]}" ({found[0][1]:.2f})')
        _look_up(names[found[0][0]], result)
    return dict(parts.bridge_processor.from_triple(seen.embed, seen.pooled, seen.mask))


def _slug(text: str) -> str:
    """A file name out of words."""
    return re.sub(r"\W+", "-", text)[:40].strip("-") or "music"


# --- Music ------------------------------------------------------------------------------------------------------------


def _compose_one(
    parts: Composer, triple: dict[str, torch.Tensor], settings: ComposeSettings, wishes: Wishes,
    result: ComposeResult, progress: bool, sides: Mapping[str, int],
) -> None:  # fmt: skip
    """The songs of one prompt; `sides` of the images that were looked up in it."""
    bars = settings.bars or result.asked.stated.get("bars", DEFAULT_BARS)
    if not 1 <= bars <= MAX_BARS:
        raise InputError(None, f"the words ask for {bars} bars; 1 to {MAX_BARS} can be written (--bars chooses)")
    window = parts.window_bars
    if bars > window:
        result.notes.append(
            f"{bars} bars: {-(-bars // window)} plans of {window} bars, as they were learnt, one after the other"
        )
    if bars > LEARNT_BARS:
        result.notes.append(f"no text of more than {LEARNT_BARS} bars was learnt: the music may lose its thread")
    moved = {name: value.to(parts.museformer.device) for name, value in triple.items()}
    header = header_of(parts.music, settings, result.asked)
    pictured = parts.pictured(moved, sides)
    if settings.tempo is not None:
        pictured.pop("tempo", None)  # it is what was chosen, whatever is tried
    if pictured and not sides:
        result.notes.append(f"heard as a picture: {spoken_sides(pictured)}")
    writer = SongWriter(parts, moved, bars, settings, wishes, header, sides, pictured)
    for song in writer.songs(result.name, progress):
        result.notes += [f"{song.name}: {song.note}"] if song.note else []
        result.songs.append(song)


def _write(result: ComposeResult, out: Path, sound: SoundMaker | None) -> None:
    """The files of each song, and the report.

    Raises:
        InputError: A file can not be written.
    """
    from .reading_outputs import write_whole

    try:
        for song in result.songs:
            write_song(song, out, sound)
        result.files.append(out / f"{result.name}.txt")
        write_whole(result.files[-1], f"{result}\n".encode())
    except OSError as error:
        raise InputError(out, f"can not be written to ({error.strerror or error})") from error


__all__ = ["ComposeResult", "ComposeSettings", "Composer", "Song", "compose", "load_composer"]
