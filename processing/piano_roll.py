"""Piano rolls of codes: notes on a grid of 128 pitches by time steps, in which repeated notes stay apart.

A cell holds a code: 0 is silence, 1 a note that goes on from the step before, 2 to 33 the onset of a note in one of 32
loudness classes. So two notes of one pitch that follow each other without a gap are still two notes, and a file whose
notes lie on the grid comes back note by note. Row p is MIDI pitch p, row 0 the lowest; pictures (`roll_pictures.py`)
show it at the bottom. Models see the same roll as floats, `-1 + 2 * code / 33`: -1 is silence, 1 the loudest onset.

With `loudness_classes=127` each velocity is a class of its own (codes 2 to 128, values `-1 + 2 * code / 128`), and
velocities come back exactly. A roll does not say which of the two it is: whoever hands it on has to. All functions
with `loudness_classes` raise an `InputError` for other numbers than 32 and 127.

Shapes: `P` = 128 pitches, `T` steps, a step being a sixteenth unless told otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import InputError

NUM_PITCHES = 128
NUM_LOUDNESS = 32  # classes of a roll, unless told otherwise
NUM_CODES = NUM_LOUDNESS + 2
_VELOCITIES_IN_A_CLASS = {NUM_LOUDNESS: 4, 127: 1}
LOUDNESS_CLASSES = tuple(_VELOCITIES_IN_A_CLASS)
SILENCE, HELD, FIRST_ONSET = 0, 1, 2
UNKNOWN = -1  # in pictures only: a cell that nobody has decided yet
STEPS_PER_QUARTER = 4
WINDOW_STEPS = 256
#: How loud a note is whose onset lies before the roll begins.
DEFAULT_VELOCITY = 64
MAX_MINUTES = 60
MAX_STEPS = 1 << 16


# --- Codes, loudness and values ---------------------------------------------------------------------------------------


def velocities_in_a_class(loudness_classes: int = NUM_LOUDNESS) -> int:
    """MIDI velocities that share a loudness class: 4 of 32 classes, 1 of 127.

    Raises:
        InputError: Another number of classes.
    """
    if loudness_classes not in LOUDNESS_CLASSES:
        choices = " or ".join(map(str, LOUDNESS_CLASSES))
        raise InputError(None, f"loudness_classes is {loudness_classes!r}; it must be {choices}")
    return _VELOCITIES_IN_A_CLASS[loudness_classes]


def codes_in_all(loudness_classes: int = NUM_LOUDNESS) -> int:
    """Codes of a roll with so many loudness classes, silence and held among them; a model's `num_codes`."""
    velocities_in_a_class(loudness_classes)
    return loudness_classes + FIRST_ONSET


def loudness_of_velocity(velocity: Any, *, loudness_classes: int = NUM_LOUDNESS) -> np.ndarray:
    """Class of MIDI velocities 1..127, int64: 0..31, four velocities to a class, or 0..126, each of its own."""
    width = velocities_in_a_class(loudness_classes)
    return (np.clip(np.asarray(velocity, dtype=np.int64), 1, 127) - 1) // width


def velocity_of_loudness(loudness: Any, *, loudness_classes: int = NUM_LOUDNESS) -> np.ndarray:
    """Velocity that stands for a class: its loudest, so that the usual 64, 80, 96, 112 and 127 are kept as they are."""
    width = velocities_in_a_class(loudness_classes)
    return np.minimum(width * np.asarray(loudness, dtype=np.int64) + width, 127)


def default_onset(*, loudness_classes: int = NUM_LOUDNESS) -> int:
    """Code of an onset that nobody has seen (`DEFAULT_VELOCITY`)."""
    return FIRST_ONSET + int(loudness_of_velocity(DEFAULT_VELOCITY, loudness_classes=loudness_classes))


def coarse_codes(codes: Any, *, loudness_classes: int) -> np.ndarray:
    """The roll in 32 loudness classes, whichever it had; shape and dtype as `codes`, marks below 0 stay."""
    array = np.asarray(codes)
    if velocities_in_a_class(loudness_classes) == velocities_in_a_class():
        return array
    velocity = velocity_of_loudness(array.astype(np.int64) - FIRST_ONSET, loudness_classes=loudness_classes)
    return np.where(array < FIRST_ONSET, array, FIRST_ONSET + loudness_of_velocity(velocity)).astype(array.dtype)


def values_of_codes(codes: Any, *, loudness_classes: int = NUM_LOUDNESS) -> np.ndarray:
    """Float roll of codes, float32 in [-1, 1], same shape.

    Raises:
        InputError: A code is outside 0..33 (0..128 of 127 classes).
    """
    array, last = np.asarray(codes), codes_in_all(loudness_classes) - 1
    if array.size and (array.min() < 0 or array.max() > last):
        raise InputError(None, f"codes go from {array.min()} to {array.max()}; a roll has 0 to {last}")
    return (array.astype(np.float32) * np.float32(2 / last) - 1).astype(np.float32)


def codes_of_values(values: Any, *, loudness_classes: int = NUM_LOUDNESS) -> np.ndarray:
    """Codes of a float roll (uint8, same shape): the nearest code; exact for what `values_of_codes` gave.

    Raises:
        InputError: A value is not a number.
    """
    array, last = np.asarray(values, dtype=np.float64), codes_in_all(loudness_classes) - 1
    if np.isnan(array).any():
        raise InputError(None, f"{int(np.isnan(array).sum())} of {array.size} values of the roll are not numbers")
    scaled = (np.clip(array, -1, 1) + 1) * (last / 2)
    return np.floor(scaled + 0.5).astype(np.uint8)


def origins(codes: np.ndarray) -> np.ndarray:
    """Step of the latest cell at or before each one that is not held, -1 where there is none.

    For a held cell that is the onset of its note, or silence when the cell belongs to no note. Shape as `codes`.
    """
    steps = np.arange(codes.shape[-1])
    return np.maximum.accumulate(np.where(codes == HELD, -1, steps), axis=-1)


def clean_codes(codes: Any) -> np.ndarray:
    """Codes in which no held cell follows silence (a model may write such cells; they are made silent).

    Held cells from step 0 on stay: their note began before the roll.
    """
    array = np.asarray(codes).copy()
    source = origins(array)
    follows_silence = (array == HELD) & (source >= 0)
    before = np.take_along_axis(array, np.maximum(source, 0), axis=-1)
    array[follows_silence & (before == SILENCE)] = SILENCE
    return array


def transpose_codes(codes: Any, semitones: int) -> np.ndarray | None:
    """The roll moved up by so many semitones; `None` when a note would leave the 128 pitches."""
    array = np.asarray(codes)
    moved = np.zeros_like(array)
    source = slice(max(0, -semitones), NUM_PITCHES - max(0, semitones))
    target = slice(max(0, semitones), NUM_PITCHES - max(0, -semitones))
    moved[..., target, :] = array[..., source, :]
    return moved if np.count_nonzero(moved) == np.count_nonzero(array) else None


def check_codes(codes: Any, *, loudness_classes: int = NUM_LOUDNESS) -> np.ndarray:
    """The roll as codes, uint8 `(P, T)`; a float roll becomes codes.

    Raises:
        InputError: It has another shape, or codes that do not exist.
    """
    array = np.asarray(codes)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or array.shape[0] != NUM_PITCHES or array.shape[1] == 0:
        raise InputError(None, f"a roll has the shape ({NUM_PITCHES}, steps), not {tuple(np.shape(codes))}")
    if not np.issubdtype(array.dtype, np.integer):
        return codes_of_values(array, loudness_classes=loudness_classes)
    values_of_codes(array, loudness_classes=loudness_classes)
    return array.astype(np.uint8)


# --- Scores to codes --------------------------------------------------------------------------------------------------


def _note_arrays(score: Any, drums: bool) -> dict[str, np.ndarray]:
    """Times, durations, pitches and velocities of all notes that are drums, or of all that are not."""
    tracks = [track.notes.numpy() for track in score.tracks if track.is_drum == drums and len(track.notes)]
    names = ("time", "duration", "pitch", "velocity")
    return {name: np.concatenate([t[name] for t in tracks] or [np.zeros(0)]).astype(np.int64) for name in names}


def in_ticks(score: Any) -> Any:
    """The score in ticks (a score may also count in quarters or seconds)."""
    return score if "tick" in str(score.ttype).lower() else score.to("tick")


def check_length(score: Any, steps_per_quarter: int, name: Any = None) -> None:
    """Refuses what is too long to be one piece, before memory is taken for it.

    Raises:
        InputError: Longer than `MAX_MINUTES` or `MAX_STEPS`.
    """
    minutes = score.to("second").end() / 60
    steps = score.end() / score.ticks_per_quarter * steps_per_quarter
    if minutes > MAX_MINUTES or steps > MAX_STEPS:
        raise InputError(
            name, f"lasts {minutes:.0f} minutes ({steps:.0f} steps); at most {MAX_MINUTES} and {MAX_STEPS}: cut it"
        )


def codes_of_score(
    score: Any,
    steps_per_quarter: int = STEPS_PER_QUARTER,
    *,
    drums: bool = False,
    num_steps: int | None = None,
    offset_ticks: float = 0,
    name: Any = None,
    loudness_classes: int = NUM_LOUDNESS,
) -> np.ndarray:
    """Roll of a score. All tracks go into one roll; drums are left out, or are all there is.

    Onsets and ends go to the nearest step, a note lasts one step at least. Where notes of one pitch overlap, the later
    onset cuts the earlier note and the pitch sounds until the last of them ends; of two onsets in one cell the louder
    one stays. Pedal is not heard.

    Args:
        score: `symusic.Score`.
        steps_per_quarter: Steps in a quarter note.
        drums: Take the drum tracks instead of all others.
        num_steps: Pad with silence, or cut, to this length.
        offset_ticks: Added to every time before rounding (see `grid_phase`).
        name: File that an error message is about.
        loudness_classes: 32, or 127 to keep every velocity.

    Returns:
        uint8 `(P, T)`; T ends with the last note.

    Raises:
        InputError: No such notes, or too long.
    """
    score = in_ticks(score)
    check_length(score, steps_per_quarter, name)
    notes = _note_arrays(score, drums)
    if not len(notes["time"]):
        if drums:
            raise InputError(name, "has no drums")
        only_drums = any(len(track.notes) for track in score.tracks)
        raise InputError(name, "has drums only, no pitched notes" if only_drums else "has no notes")
    tpq = score.ticks_per_quarter

    def steps(ticks: np.ndarray) -> np.ndarray:
        return np.floor((ticks + offset_ticks) * steps_per_quarter / tpq + 0.5).astype(np.int64)

    start = np.maximum(steps(notes["time"]), 0)  # (N,)
    stop = np.maximum(steps(notes["time"] + notes["duration"]), start + 1)  # (N,)
    total = int(stop.max())
    change = np.zeros((NUM_PITCHES, total + 1), dtype=np.int32)
    np.add.at(change, (notes["pitch"], start), 1)
    np.add.at(change, (notes["pitch"], stop), -1)
    onset = np.zeros((NUM_PITCHES, total), dtype=np.uint8)
    loudness = loudness_of_velocity(notes["velocity"], loudness_classes=loudness_classes)
    np.maximum.at(onset, (notes["pitch"], start), (FIRST_ONSET + loudness).astype("u1"))
    sounding = np.cumsum(change[:, :-1], axis=1) > 0  # (P, T)
    codes = np.where(onset > 0, onset, sounding.astype(np.uint8))
    return codes if num_steps is None else fit_steps(codes, num_steps)


def fit_steps(codes: np.ndarray, num_steps: int) -> np.ndarray:
    """The roll cut, or padded with silence, to a number of steps."""
    missing = num_steps - codes.shape[-1]
    return codes[..., :num_steps] if missing <= 0 else np.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, missing)])


def grid_phase(score: Any, steps_per_quarter: int = STEPS_PER_QUARTER) -> tuple[float, float]:
    """How far the onsets lie off the grid together, and how well they agree about it.

    Returns:
        Mean phase in ticks, within half a step of 0, and the length of the mean resultant, 1 when all onsets have the
        same phase and near 0 when they have none (K. Mardia and P. Jupp, *Directional Statistics* (2000), ch. 2.3).
    """
    score = in_ticks(score)
    onsets = _note_arrays(score, False)["time"]
    if not len(onsets):
        return 0.0, 0.0
    step = score.ticks_per_quarter / steps_per_quarter
    mean = np.exp(2j * np.pi * onsets / step).mean()
    return float(np.angle(mean) / (2 * np.pi) * step), float(abs(mean))


# --- Codes to scores --------------------------------------------------------------------------------------------------


def notes_of_codes(codes: Any, *, loudness_classes: int = NUM_LOUDNESS) -> np.ndarray:
    """Notes of a roll.

    Returns:
        int64 `(N, 4)`: first step, length in steps, pitch, loudness class; by time, then pitch. A pitch held from step
        0 on is a note of `DEFAULT_VELOCITY`; held cells after silence are none.
    """
    array = check_codes(codes, loudness_classes=loudness_classes)
    first = array[:, 0] == HELD
    array[first, 0] = default_onset(loudness_classes=loudness_classes)
    pitch, start = np.nonzero(array >= FIRST_ONSET)
    steps = array.shape[1]
    ends = np.where(array == HELD, steps, np.arange(steps))
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]  # next cell at or after each that is not held
    ends = np.concatenate([ends, np.full((NUM_PITCHES, 1), steps)], axis=1)
    notes = np.stack([start, ends[pitch, start + 1] - start, pitch, array[pitch, start].astype(np.int64) - 2], axis=1)
    return notes[np.lexsort((notes[:, 2], notes[:, 0]))].astype(np.int64)


def score_of_codes(
    codes: Any,
    tempo_bpm: float = 120.0,
    metre: tuple[int, int] = (4, 4),
    program: int = 0,
    steps_per_quarter: int = STEPS_PER_QUARTER,
    drums: Any = None,
    *,
    loudness_classes: int = NUM_LOUDNESS,
) -> Any:
    """Score of a roll: one track, and one for drums where a second roll gives them.

    Args:
        codes: `(P, T)` codes, or a float roll.
        tempo_bpm: Quarter notes a minute.
        metre: Time signature.
        program: General MIDI program 0..127.
        steps_per_quarter: Steps in a quarter note.
        drums: Roll of the drum track, pitches as General MIDI counts drums.
        loudness_classes: Of both rolls.

    Raises:
        InputError: The roll has another shape, or the tempo is not a positive number.
    """
    import symusic

    if not 0 < tempo_bpm < float("inf"):
        raise InputError(None, f"the tempo must be a positive number of quarter notes a minute, not {tempo_bpm}")
    step = max(480 // steps_per_quarter, 1)  # ticks
    score: Any = symusic.Score(step * steps_per_quarter)
    score.tempos.append(symusic.Tempo(0, float(tempo_bpm)))
    score.time_signatures.append(symusic.TimeSignature(0, *metre))
    for roll, is_drum in ((codes, False), (drums, True)):
        if roll is None:
            continue
        notes = notes_of_codes(roll, loudness_classes=loudness_classes)
        track: Any = symusic.Track("Drums" if is_drum else "Piano roll", 0 if is_drum else program, is_drum)
        times = (notes[:, :2] * step).astype(np.int32)
        velocity = velocity_of_loudness(notes[:, 3], loudness_classes=loudness_classes).astype(np.int8)
        columns = (times[:, 0].copy(), times[:, 1].copy(), notes[:, 2].astype(np.int8), velocity)
        track.notes = symusic.Note.from_numpy(*columns, "tick")
        score.tracks.append(track)
    return score
