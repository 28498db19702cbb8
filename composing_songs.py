"""Songs out of the words of Museformer: measured, moved to a key, and written as MIDI, picture and sound."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .processing.errors import InputError

if TYPE_CHECKING:
    from .processing.sound import SoundMaker


@dataclass
class Song:
    """One song.

    Attributes:
        name: Its files are named after it.
        ids: int64 `(T,)` words of `BarMidiProcessor`.
        score: `symusic.Score`.
        values: What was measured of it (`music_wishes.measure_score`); `None` where no pitched note sounds.
        seconds: Time it took, its share of a batch.
        note: What a person should know of it, or nothing.
        files: What was written.
    """

    name: str
    ids: Any
    score: Any
    values: dict[str, Any] | None
    seconds: float
    note: str = ""
    files: list[Path] = field(default_factory=list)


def make_song(
    processor: Any, row: Any, name: str, seconds: float = 0.0, key: tuple[str, str | None] | None = None
) -> Song:
    """A song out of its words.

    Args:
        processor: `BarMidiProcessor`.
        row: `(T,)` words, with padding.
        name: Its files are named after it.
        seconds: Time it took.
        key: Tonic, and mode where it matters, to move it to.
    """
    from .processing.bar_midi_vocabulary import BAR_ID, PAD_ID

    ids = row[row != PAD_ID]
    values, note = _measure(processor.decode(ids), name), ""
    if values is None:
        note = "no pitched note sounds, so there is nothing to measure"
    elif key is not None:
        ids, note = move_to_key(ids, values, *key)
        values = _measure(processor.decode(ids), name) or values
    if values is not None:
        values["bars"] = int((ids == BAR_ID).sum())  # with silent ones at the end
    return Song(name, ids, processor.decode(ids), values, seconds, note)


def _measure(score: Any, name: str) -> dict[str, Any] | None:
    from .processing.music_wishes import measure_score

    try:
        return measure_score(score, name=name)
    except InputError:  # nothing but rests or drums, or an hour of it
        return None


def move_to_key(ids: Any, values: dict[str, Any], tonic: str, mode: str | None) -> tuple[Any, str]:
    """Words moved to a tonic by the shortest way that leaves no pitch out, and what was done."""
    from .processing.music_attributes import KEY_NAMES
    from .processing.tokenization_bar_midi import transpose

    if values.get("key") is None:
        return ids, f"no key can be heard in it, so it can not be moved to {tonic}"
    up = (KEY_NAMES.index(tonic) - KEY_NAMES.index(values["key"])) % 12
    for semitones in sorted((up, up - 12), key=abs):
        moved = transpose(ids, semitones)
        if moved is None:
            continue
        note = f"moved by {semitones:+d} semitones to {tonic} {values['mode']}"
        other = mode is not None and mode != values["mode"]
        return moved, note + (f"; moving can not make it {mode}" if other else "")
    return ids, f"it reaches too far to be moved to {tonic}"


def write_song(song: Song, out: Path, sound: SoundMaker | None = None) -> None:
    """Writes `OUT/NAME.mid`, `.png` and, with a sound maker, `.wav`; each appears whole or not at all.

    Raises:
        OSError: A file can not be written.
    """
    from .reading_outputs import write_whole

    contents = {".mid": song.score.dumps_midi(), ".png": draw_song(song)}
    if sound is not None:
        contents[".wav"] = sound.wav(song.score)
    for suffix, content in contents.items():
        path = out / f"{song.name}{suffix}"
        write_whole(path, content)
        song.files.append(path)


def draw_song(song: Song) -> bytes:
    """Piano roll of a song as PNG; its drums where there is nothing else."""
    import numpy as np

    from .processing.bar_midi_vocabulary import KIND_OF, KINDS, PLACE_OF, SIGNATURE_TICKS, TICKS_PER_QUARTER
    from .processing.piano_roll import NUM_PITCHES, STEPS_PER_QUARTER, codes_of_score
    from .processing.roll_pictures import draw_roll

    ticks = SIGNATURE_TICKS[PLACE_OF[song.ids[KIND_OF[song.ids] == KINDS.index("TimeSig")]]]
    per_step = TICKS_PER_QUARTER // STEPS_PER_QUARTER
    steps = max(1, int(np.ceil(ticks.sum() / per_step)))
    bar_steps = int(np.bincount(ticks).argmax()) // per_step if len(ticks) else 0
    codes = np.zeros((NUM_PITCHES, steps), dtype=np.uint8)
    for drums in (False, True):
        try:
            codes = codes_of_score(song.score, drums=drums, num_steps=steps)
            break
        except InputError:
            continue
    stream = io.BytesIO()
    scale = 4 if steps <= 4096 else 1  # a picture of 512 bars would be too wide for most programs
    draw_roll(codes, scale=scale, crop=True, bar_steps=bar_steps).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


__all__ = ["Song", "draw_song", "make_song", "move_to_key", "write_song"]
