"""Museformer's processor: MIDI and MusicXML to tokens with bar numbers, and tokens back to MIDI."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .bar_midi_grammar import BarGrammar, BarGrammarLogitsProcessor
from .bar_midi_vocabulary import (
    BAR_ID,
    EOS_ID,
    MAX_TEMPO,
    MIN_TEMPO,
    PAD_ID,
    SIGNATURES,
    TEMPO,
    TIME_SIGNATURE,
    VOCAB_SIZE,
    token_names,
)
from .errors import InputError
from .score_files import read_score_file
from .tokenization_bar_midi import BarTokens, bar_ids_of, decode, encode


class BarMidiProcessor(ProcessorMixin):
    """Turns music into bar-wise REMI tokens, and tokens into music; see `tokenization_bar_midi.py`.

    Args:
        snap: Whether onsets are moved to the sixteenths or triplets of their beat; `None`: where a file is off the
            grid.
        padding_side: `right`, or `left` for prompts of several lengths.
        vocab_size: Words of the language; kept so that a folder made for another language is refused.
    """

    def __init__(
        self, snap: bool | None = None, padding_side: str = "right", vocab_size: int = VOCAB_SIZE, **kwargs: Any
    ) -> None:
        if vocab_size != VOCAB_SIZE:
            raise InputError(None, f"made for a language of {vocab_size} words, this one has {VOCAB_SIZE}")
        if padding_side not in ("left", "right"):
            raise InputError(None, f"padding_side is {padding_side!r}; use 'left' or 'right'")
        self.snap = snap
        self.padding_side = padding_side
        self.vocab_size = vocab_size
        super().__init__(**kwargs)

    @property
    def model_input_names(self) -> list[str]:
        """What `__call__` gives."""
        return ["input_ids", "attention_mask", "bar_ids"]

    def __call__(
        self,
        music: Any = None,
        start_bar: int | None = None,
        num_bars: int | None = None,
        end_of_piece: bool | None = None,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Tokens of music.

        Args:
            music: A MIDI or MusicXML path, a `symusic.Score`, or a list of these.
            start_bar: First bar to take, counted from 1.
            num_bars: Bars to take; with more than there are, silent bars follow.
            end_of_piece: Write `EOS`; left out, where the end of the piece is taken with it.
            return_tensors: As everywhere in transformers.
            **kwargs: Not used; there for pipelines.

        Returns:
            `input_ids`, `attention_mask` (1: a token) and `bar_ids` (−1 for padding), int64 `(B, T)`.

        Raises:
            InputError: Music that can not be read, that has no notes, or a bar that is not there.
        """
        if music is None:
            raise InputError(None, "no music was given")
        one = isinstance(music, (str, PathLike)) or hasattr(music, "tracks")
        pieces = [self.tokens(item, start_bar, num_bars, end_of_piece) for item in ([music] if one else list(music))]
        return BatchFeature(self.pad(pieces), tensor_type=return_tensors)

    def pad(self, pieces: Sequence[BarTokens]) -> dict[str, np.ndarray]:
        """Batch of pieces; see `__call__`."""
        if not pieces:
            raise InputError(None, "no music was given")
        longest = max(len(piece.ids) for piece in pieces)
        ids = np.full((len(pieces), longest), PAD_ID, dtype=np.int64)
        bars = np.full((len(pieces), longest), -1, dtype=np.int64)
        mask = np.zeros((len(pieces), longest), dtype=np.int64)
        for row, piece in enumerate(pieces):
            length = len(piece.ids)
            part = slice(longest - length, longest) if self.padding_side == "left" else slice(0, length)
            ids[row, part], bars[row, part], mask[row, part] = piece.ids, piece.bar_ids, 1
        return {"input_ids": ids, "attention_mask": mask, "bar_ids": bars}

    def tokens(
        self,
        music: Any,
        start_bar: int | None = None,
        num_bars: int | None = None,
        end_of_piece: bool | None = None,
    ) -> BarTokens:
        """Tokens of one piece; arguments and errors as in `__call__`."""
        is_file = isinstance(music, (str, PathLike))
        name = str(music) if is_file else None
        score = read_score_file(music).score if is_file else music
        if not hasattr(score, "tracks"):
            raise InputError(name, f"a {type(music).__name__} is no music; give a path or a symusic.Score")
        if num_bars is not None and num_bars < 1:
            raise InputError(name, f"num_bars is {num_bars}; it must be at least 1")
        whole = encode(score, snap=self.snap, end_of_piece=False, name=name)
        first = 0 if start_bar is None else start_bar - 1
        if not 0 <= first < whole.num_bars:
            raise InputError(name, f"has {whole.num_bars} bars; bar {start_bar} is not among them")
        stop = whole.num_bars if num_bars is None else first + num_bars
        if stop > whole.num_bars:
            whole = encode(score, num_bars=stop, snap=self.snap, end_of_piece=False, name=name)
        ids = whole.ids[(whole.bar_ids >= first) & (whole.bar_ids < stop)]
        ends = stop >= whole.num_bars if end_of_piece is None else end_of_piece
        ids = np.append(ids, np.int32(EOS_ID)) if ends else ids
        return BarTokens(ids, bar_ids_of(ids))

    # --- For writing

    def header(
        self, tempo: float | None = None, metre: tuple[int, int] | str | None = None, first: bool = True
    ) -> list[int]:
        """First words of a bar, as far as they are wished for: `Bar`, then `TimeSig`, then `Tempo`.

        Args:
            tempo: Quarter notes a minute; with it, the metre is 4/4 where it is not given.
            metre: `(3, 4)` or `"3/4"`.
            first: Begin with `Bar`.

        Raises:
            InputError: A tempo or a metre that there is no word for.
        """
        ids = [BAR_ID] if first else []
        if metre is None and tempo is None:
            return ids
        ids.append(TIME_SIGNATURE + SIGNATURES.index(_signature(metre or (4, 4))))
        if tempo is not None:
            if not MIN_TEMPO <= round(float(tempo)) <= MAX_TEMPO:
                raise InputError(None, f"tempo {tempo}: choose {MIN_TEMPO} to {MAX_TEMPO} quarter notes a minute")
            ids.append(TEMPO + round(float(tempo)) - MIN_TEMPO)
        return ids

    def grammar(self, batch_size: int, num_bars: int | None = None, **options: Any) -> BarGrammar:
        """The grammar for a decoding loop; options as in `BarGrammar`."""
        return BarGrammar(batch_size, num_bars, **options)

    def logits_processor(self, num_bars: int | None = None, **options: Any) -> BarGrammarLogitsProcessor:
        """The grammar for `model.generate(logits_processor=[...])`."""
        return BarGrammarLogitsProcessor(num_bars, **options)

    # --- Tokens to music

    def decode(self, ids: Any, strict: bool = False) -> Any:
        """`symusic.Score` of one row of tokens (`dump_midi(path)` writes it).

        Raises:
            InputError: A number that is no word; with `strict`, a word in a wrong place.
        """
        ids = ids.detach().cpu().numpy() if hasattr(ids, "detach") else np.asarray(ids)
        if ids.ndim > 1 and ids.shape[0] != 1:
            raise InputError(None, f"tokens of one piece have the shape (T,), not {ids.shape}; use batch_decode")
        return decode(ids, strict=strict)

    def batch_decode(self, ids: Any, strict: bool = False) -> list[Any]:
        """Scores of rows of tokens `(B, T)`, or of a list of rows."""
        return [self.decode(row, strict) for row in ids]

    def names(self, ids: Any) -> list[str]:
        """Words in MidiTok's writing, for people."""
        known = token_names()
        return [known[int(number)] for number in np.asarray(ids).reshape(-1)]


def _signature(metre: tuple[int, int] | str) -> tuple[int, int]:
    parts = str(metre).split("/") if isinstance(metre, str) else list(metre)
    try:
        pair = (int(parts[0]), int(parts[1]))
    except (ValueError, IndexError, TypeError):
        pair = (0, 0)
    if len(parts) != 2 or pair not in SIGNATURES:
        raise InputError(None, f"metre {metre!r} does not exist here; write it as 3/4, with bars of up to 12 quarters")
    return pair


__all__ = ["BarMidiProcessor"]
