"""FractalMidi's processor: MIDI and MusicXML to rolls and conditions, and rolls back to MIDI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .errors import InputError
from .music_attributes import ATTRIBUTES, asked_bin, bins_of, mean_tempo, measure_roll, middle_of_bin
from .piano_roll import (
    NUM_LOUDNESS,
    NUM_PITCHES,
    STEPS_PER_QUARTER,
    WINDOW_STEPS,
    check_codes,
    clean_codes,
    codes_in_all,
    codes_of_score,
    fit_steps,
    score_of_codes,
    values_of_codes,
)
from .roll_windows import BarLine, Window, bar_lines, cut_windows
from .score_files import read_score_file

#: What FractalMidi can be asked for, in the order of the columns of `conditions`.
CONDITIONS = ("tempo", "metre", "key", "mode", "density", "register", "polyphony", "dynamics", "sustain", "leaps")
DEFAULT_TEMPO = 120.0


class FractalMidiProcessor(ProcessorMixin):
    """Turns music into the rolls that FractalMidi sees, wishes into its conditions, and rolls into MIDI.

    Args:
        window_steps: Steps of a roll; as in the model's configuration.
        steps_per_quarter: Steps in a quarter note; 4 are sixteenths.
        attribute_names: Attributes of `music_attributes.ATTRIBUTES` that the model is conditioned on.
        source_names: Names of the sources (styles) that it is conditioned on, in the order of their classes; with any,
            `source` is the last column of the conditions.
        loudness_classes: 32, or 127 so that every velocity is kept; the model's `num_codes` is two more.
    """

    def __init__(
        self,
        window_steps: int = WINDOW_STEPS,
        steps_per_quarter: int = STEPS_PER_QUARTER,
        attribute_names: Sequence[str] = CONDITIONS,
        source_names: Sequence[str] = (),
        loudness_classes: int = NUM_LOUDNESS,
        **kwargs: Any,
    ) -> None:
        unknown = [name for name in attribute_names if name not in ATTRIBUTES]
        if unknown:
            raise InputError(None, f"there is no attribute {unknown[0]!r}; choose among {', '.join(ATTRIBUTES)}")
        if window_steps < 1 or steps_per_quarter < 1:
            raise InputError(None, f"steps must be 1 or more, got {window_steps} and {steps_per_quarter} a quarter")
        codes_in_all(loudness_classes)  # refuses what can not be
        self.window_steps = window_steps
        self.steps_per_quarter = steps_per_quarter
        self.attribute_names = list(attribute_names)
        self.source_names = list(source_names)
        self.loudness_classes = loudness_classes
        super().__init__(**kwargs)

    @property
    def condition_names(self) -> list[str]:
        """Columns of `conditions`; the model's `attribute_names`."""
        return [*self.attribute_names, *(["source"] if self.source_names else [])]

    @property
    def condition_sizes(self) -> list[int]:
        """Classes of each column; the model's `attribute_sizes`."""
        sizes = [len(ATTRIBUTES[name].classes) for name in self.attribute_names]
        return [*sizes, *([len(self.source_names)] if self.source_names else [])]

    @property
    def num_codes(self) -> int:
        """Classes of a cell; the model's `num_codes`."""
        return codes_in_all(self.loudness_classes)

    @property
    def model_input_names(self) -> list[str]:
        """What `__call__` gives."""
        return ["roll", "conditions"]

    def __call__(
        self,
        music: Any = None,
        conditions: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        start_bar: int | None = None,
        measure: bool = False,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepares music, wishes, or both.

        Args:
            music: A MIDI or MusicXML path, a `symusic.Score`, codes or a float roll `(128, T)`, or a list of these. Of
                each, one window is taken.
            conditions: Wishes such as `{"density": "dense", "key": "A", "mode": "minor", "tempo": 96}`, one for all or
                one for each; what is not named is not given (-1).
            start_bar: First bar of the window, counted from 1; the bar of the first note when left out.
            measure: Conditions that are not wished for are measured in the music.
            return_tensors: As everywhere in transformers.
            **kwargs: Not used; there for pipelines.

        Returns:
            `roll` float32 `(B, 1, 128, window_steps)` where there is music, and `conditions` int64 `(B, C)`, columns as
            `condition_names`.

        Raises:
            InputError: Music that can not be read, that is silent where it is taken, or an impossible wish.
        """
        items = [] if music is None else _as_list(music)
        wishes = [conditions] if conditions is None or isinstance(conditions, Mapping) else list(conditions)
        count = len(items) or len(wishes)
        if len(wishes) == 1:
            wishes = wishes * count
        if len(wishes) != count:
            raise InputError(None, f"{len(wishes)} sets of conditions for {count} pieces; give one, or one for each")
        rolls, bins = [], []
        for k in range(count):
            measured: Mapping[str, Any] = {}
            if items:
                window, score = self._window(items[k], start_bar)
                rolls.append(values_of_codes(window.codes, loudness_classes=self.loudness_classes)[None])
                measured = self.measure(window, score) if measure else {}
            bins.append(self.condition_bins(wishes[k], measured))
        data: dict[str, Any] = {"roll": np.stack(rolls)} if rolls else {}
        data["conditions"] = np.array(bins, dtype=np.int64).reshape(count, len(self.condition_names))
        return BatchFeature(data, tensor_type=return_tensors)

    # --- Music to windows

    def load(self, music: Any) -> tuple[np.ndarray, list[BarLine], Any]:
        """Codes `(128, T)`, bar lines and score (`None` for a roll) of one piece of music.

        Raises:
            InputError: It can not be read, has no pitched notes, or is too long.
        """
        if isinstance(music, (str, PathLike)):
            name, score = str(music), read_score_file(music).score
        elif hasattr(music, "tracks"):
            name, score = None, music
        else:
            codes = self._codes_of_array(music)
            bar = 4 * self.steps_per_quarter
            return codes, [BarLine(k, (4, 4)) for k in range(0, codes.shape[1], bar)], None
        codes = codes_of_score(score, self.steps_per_quarter, name=name, loudness_classes=self.loudness_classes)
        return codes, bar_lines(score, codes.shape[1], self.steps_per_quarter), score

    def windows(self, music: Any, hop_steps: int | None = None) -> list[Window]:
        """All windows of a piece, from the bar of its first note on; each begins at a bar line.

        Raises:
            InputError: As `load`; or the roll is silent.
        """
        codes, bars, _ = self.load(music)
        found = cut_windows(codes, bars, self.window_steps, hop_steps or self.window_steps)
        if not found:
            raise InputError(None, "the roll is silent, there is nothing to cut")
        return found

    def _window(self, music: Any, start_bar: int | None) -> tuple[Window, Any]:
        codes, bars, score = self.load(music)
        name = str(music) if isinstance(music, (str, PathLike)) else None
        if start_bar is None:
            if score is None and codes.shape[1] == self.window_steps:
                return Window(codes, 0, self.window_steps, 0, (4, 4)), None
            sounding = np.flatnonzero(codes.any(axis=0))
            first = int(sounding[0]) if len(sounding) else 0
            start_bar = max((k for k, bar in enumerate(bars) if bar.step <= first), default=0) + 1
        if not 1 <= start_bar <= len(bars):
            raise InputError(name, f"has {len(bars)} bars; bar {start_bar} is not among them")
        bar = bars[start_bar - 1]
        part = fit_steps(codes[:, bar.step : bar.step + self.window_steps], self.window_steps)
        if score is not None and not part.any():
            raise InputError(name, f"has no notes in the {self.window_steps} steps from bar {start_bar} on")
        length = min(codes.shape[1] - bar.step, self.window_steps)
        return Window(part, bar.step, length, start_bar - 1, bar.metre), score

    def measure(self, window: Window, score: Any = None) -> dict[str, Any]:
        """What `measure_roll` says of a window, with tempo and metre where the score is there."""
        per_quarter = self.steps_per_quarter
        tempo = None
        if score is not None:
            stop = window.start_step + window.num_steps
            tempo = mean_tempo(score, window.start_step / per_quarter, stop / per_quarter)
        metre = None if score is None else window.metre
        return measure_roll(window.codes, tempo, metre, per_quarter, loudness_classes=self.loudness_classes)

    # --- Conditions

    def condition_bins(
        self, wishes: Mapping[str, Any] | None = None, measured: Mapping[str, Any] | None = None
    ) -> list[int]:
        """One row of `conditions`.

        Args:
            wishes: What a person asks for: classes by name, or values.
            measured: A measurement, or a row of the data set; where it says something and no wish does, it counts.

        Raises:
            InputError: An attribute or a class that does not exist.
        """
        known = self.condition_names
        for name in wishes or {}:
            if name not in known:
                raise InputError(None, f"{name!r} can not be asked for; choose among {', '.join(known)}")
        bins = bins_of(measured or {})
        bins["source"] = self._source_bin((measured or {}).get("source"), strict=False)
        for name, wish in (wishes or {}).items():
            if wish is not None:
                bins[name] = self._source_bin(wish, strict=True) if name == "source" else asked_bin(name, wish)
        return [bins[name] for name in known]

    def _source_bin(self, name: Any, strict: bool) -> int:
        if name in self.source_names:
            return self.source_names.index(name)
        if strict:
            raise InputError(None, f"there is no source {name!r}; choose among {', '.join(self.source_names)}")
        return -1

    def tempo_of(self, bins: Sequence[int]) -> float:
        """Tempo for the MIDI of a roll with these conditions: the middle of its class, or 120 when none is given."""
        row = [int(k) for k in bins]
        if len(row) != len(self.condition_names):
            raise InputError(None, f"{len(row)} conditions, but {len(self.condition_names)} columns")
        number = dict(zip(self.condition_names, row, strict=True)).get("tempo", -1)
        return DEFAULT_TEMPO if number < 0 else middle_of_bin("tempo", number)

    # --- Rolls to music

    def decode(self, roll: Any, tempo: float | None = None, metre: tuple[int, int] = (4, 4), program: int = 0) -> Any:
        """Score of one roll.

        Args:
            roll: Float roll or codes `(128, T)`, with axes of length 1 before or without; array or tensor.
            tempo: Quarter notes a minute; 120 when left out.
            metre: Time signature.
            program: General MIDI program.

        Returns:
            `symusic.Score`; `dump_midi(path)` writes it.

        Raises:
            InputError: Another shape, or an impossible tempo.
        """
        codes, qpm = clean_codes(self._codes_of_array(roll)), DEFAULT_TEMPO if tempo is None else tempo
        classes = self.loudness_classes
        return score_of_codes(codes, qpm, metre, program, self.steps_per_quarter, loudness_classes=classes)

    def batch_decode(self, rolls: Any, tempo: float | Sequence[float] | None = None, **kwargs: Any) -> list[Any]:
        """Scores of rolls `(B, 1, 128, T)`; one tempo for all, or one for each. Other arguments as `decode`."""
        tempos = [tempo] * len(rolls) if tempo is None or isinstance(tempo, (int, float)) else list(tempo)
        if len(tempos) != len(rolls):
            raise InputError(None, f"{len(tempos)} tempos for {len(rolls)} rolls")
        return [self.decode(roll, one, **kwargs) for roll, one in zip(rolls, tempos, strict=True)]

    def join(self, rolls: Any) -> np.ndarray:
        """Codes of rolls that follow each other, in one roll `(128, sum of steps)`."""
        return clean_codes(np.concatenate([self._codes_of_array(roll) for roll in rolls], axis=1))

    def _codes_of_array(self, roll: Any) -> np.ndarray:
        """Codes `(128, T)` of an array or tensor of codes or values."""
        if hasattr(roll, "detach"):
            roll = roll.detach().cpu()
            roll = (roll.float() if roll.is_floating_point() else roll).numpy()
        array = np.asarray(roll)
        while array.ndim > 2 and array.shape[0] == 1:
            array = array[0]
        if array.ndim != 2 or array.shape[0] != NUM_PITCHES:
            raise InputError(None, f"a roll has the shape ({NUM_PITCHES}, steps), not {tuple(np.shape(roll))}")
        return check_codes(array, loudness_classes=self.loudness_classes)


def _as_list(music: Any) -> list[Any]:
    """One piece or several, as a list; a batch of rolls `(B, 1, 128, T)` or `(B, 128, T)` counts as several."""
    if isinstance(music, (str, PathLike)) or hasattr(music, "tracks"):
        return [music]
    if hasattr(music, "ndim"):
        return [music] if music.ndim == 2 else list(music)
    pieces = list(music)
    if not pieces:
        raise InputError(None, "no music was given")
    return pieces


__all__ = ["FractalMidiProcessor"]
