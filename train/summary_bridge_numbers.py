"""Stage `numbers` of SummaryBridge: teaches what reads stated wishes the tempos and keys that pieces lack.

Half of the training pieces go at 120 quarters a minute and most have few sharps or flats, so other numbers are read by
guess: a third of test captions with a tempo was read into a wrong class. Captions need no music to be true, though:
they are spoken of measured windows whose tempo and key are drawn evenly. Only the network that reads is trained, from
where it stands; the bridge, its closed forms and its pictures stay.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..configuration.configuration_summary_bridge import SummaryBridgeConfig
from ..datasets_scripts.caption_words import LANGUAGES, Caption, Teller, fill, load_wordings, sayable, statements
from ..modeling.text_wishes import WISHES
from ..processing.errors import InputError
from ..processing.music_attributes import KEY_NAMES, MODES
from .summary_bridge_data import values_row
from .summary_bridge_wishes import fit_reader, wish_values

#: Quarters a minute that are drawn, evenly by octaves.
TEMPOS = (38, 225)
NUM_BARS, MOST_WINDOWS = 16, 3000  # of the music that is spoken of
_AT_ONCE = 8192  # texts that go to the encoder


@dataclass
class ToldCaptions:
    """What `fit_reader` takes of captions; see `summary_bridge_wishes`.

    Attributes:
        text: Number of the text of each.
        window: Number of its measurement.
        picture: 0 each: none is one.
        stated: `(C, 7)` of `WISHES`.
        key: 0 for none, else 1 + the tonic.
    """

    text: np.ndarray
    window: np.ndarray
    picture: np.ndarray
    stated: np.ndarray
    key: np.ndarray


@dataclass
class ToldTexts:
    """Texts as `fit_reader` takes them: `(M, T)`, rows of their sequences, `(M, L)` which, and `(M, L)` in use."""

    pooled: np.ndarray
    rows: np.ndarray
    places: np.ndarray
    mask: np.ndarray


def drawn_values(values: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A measurement with another tempo, key and mode, and as long as that makes it."""
    low, high = (np.log2(x) for x in TEMPOS)
    tempo = float(round(2 ** rng.uniform(low, high)))
    found = {**values, "tempo": tempo, "key": rng.choice(KEY_NAMES), "mode": rng.choice(MODES), "key_fit": 1.0}
    if values.get("seconds") and values.get("tempo"):
        found["seconds"] = values["seconds"] * values["tempo"] / tempo
    return found


def _exact(language: str, values: dict[str, Any], rng: random.Random) -> Caption:
    """A tempo as a number, a key, or both, in any frame."""
    both = [one for one in statements(language, sayable(values)) if one.name in ("bpm", "key")]
    said = rng.sample(both, rng.choice((1, 2, 2)))
    text = fill(language, rng.choice(load_wordings()[language]["frames"]), said, rng)
    return Caption(text, language, "template", "", {k: v for one in said for k, v in one.states.items()})


def told_of(measured: Sequence[dict[str, Any]], count: int, seed: int = 0) -> tuple[list[Caption], np.ndarray]:
    """So many captions, half in each language and half of them of a tempo and a key alone, each of its own measurement.

    Returns:
        The captions, and `wish_values` `(count, 7)` of what they are spoken of.

    Raises:
        InputError: Nothing was measured.
    """
    if not measured:
        raise InputError(None, "there is no training music to speak of")
    captions: list[Caption] = []
    rows: list[np.ndarray] = []
    number = 0
    while len(captions) < count:
        rng = random.Random(f"{seed} {number}")
        values, language = drawn_values(dict(measured[number % len(measured)]), rng), LANGUAGES[number % 2]
        teller = Teller(language, values)
        kind = rng.choice(("exact", "exact", "exact", "plain", "template", "terms"))
        caption = _exact(language, values, rng) if kind == "exact" else getattr(teller, kind)(rng)
        if caption is not None:
            captions.append(caption)
            rows.append(values_row(values))
        number += 1
    return captions, wish_values(np.stack(rows))


def _told(captions: Sequence[Caption]) -> ToldCaptions:
    stated = np.array([[name in one.stated for name in WISHES] for one in captions], dtype=np.float32)
    stated[:, 0] = np.maximum(stated[:, 0], ["bpm" in one.stated for one in captions])
    key = np.array([one.stated["key"][0] + 1 if "key" in one.stated else 0 for one in captions])
    numbers = np.arange(len(captions))
    return ToldCaptions(numbers, numbers, np.zeros(len(captions)), stated, key)


def encoded(encode: Any, texts: Sequence[str]) -> ToldTexts:
    """Texts as the reader takes them; `encode` gives an `EncodedTexts`."""
    parts = [encode(list(texts[first : first + _AT_ONCE])) for first in range(0, len(texts), _AT_ONCE)]
    embed = np.concatenate([part.embed for part in parts]).astype(np.float16)
    count, length, size = embed.shape
    return ToldTexts(
        np.concatenate([part.pooled for part in parts]).astype(np.float32), embed.reshape(-1, size),
        np.arange(count * length).reshape(count, length), np.concatenate([part.mask for part in parts]),
    )  # fmt: skip


def teach_numbers(
    model: Any, measured: Sequence[dict[str, Any]], encode: Any, count: int, epochs: float, seed: int = 0,
    learning_rate: float = 1e-3,
) -> float:  # fmt: skip
    """Trains the reader of a bridge, float32, on captions whose tempos and keys are drawn evenly.

    Args:
        model: `SummaryBridgeModel` with wishes.
        measured: Measurements of training windows.
        encode: Texts to `EncodedTexts`, as the bridge's processor reads them.
        count: Captions.
        epochs: Passes over them.
        seed: Of the draws.
        learning_rate: Peak.

    Returns:
        The mean of the last losses.

    Raises:
        InputError: The bridge reads no wishes, or nothing was measured.
    """
    import torch

    if model.wishes is None:
        raise InputError(None, "this bridge reads no wishes; give it some with --stage wishes")
    captions, values = told_of(measured, count, seed)
    texts = encoded(encode, [one.text for one in captions])
    torch.manual_seed(seed)
    given = (texts, _told(captions), values, epochs)
    return fit_reader(model.wishes, model.statistics, *given, learning_rate=learning_rate, dropout=0.1)


def keep_with_numbers(folder: str | Path, checkpoint: str, music: str, count: int, epochs: float, seed: int = 0) -> Any:
    """`teach_numbers` for a checkpoint with its processor, kept in a folder in its own precision.

    Args:
        folder: Where to.
        checkpoint: Model folder of a bridge with wishes.
        music: Folder made by `build_midi --tokens`; its training split is spoken of.
        count, epochs, seed: Of `teach_numbers`.

    Raises:
        InputError: The checkpoint can not be loaded, or there is no such music.
    """
    import torch

    from ..modeling.modeling_summary_bridge import SummaryBridgeModel
    from ..processing.processing_summary_bridge import SummaryBridgeProcessor, bare
    from .evaluation_songs import read_pieces, real_songs

    if not (Path(checkpoint) / "config.json").is_file():
        raise InputError(checkpoint, "holds no config.json, so it is no model folder")
    processor = SummaryBridgeProcessor.from_pretrained(checkpoint)
    model = SummaryBridgeModel.from_pretrained(checkpoint, dtype="float32").eval()
    kept = getattr(torch, str(SummaryBridgeConfig.from_pretrained(checkpoint).dtype).removeprefix("torch."))
    measured = [song.values for song in real_songs(read_pieces(music, "train", 0), NUM_BARS, MOST_WINDOWS, seed)]

    def encode(texts: Sequence[str]) -> Any:
        return processor.encode([bare(text) for text in texts] if processor.bare else texts)

    loss = teach_numbers(model, measured, encode, count, epochs, seed)
    print(f"what is stated is read with a loss of {loss:.3f}")
    model.to(kept).save_pretrained(folder)
    processor.save_pretrained(folder)
    return model.float()


def run_numbers(args: Any, training: Any) -> Any:
    """The stage, by `train_summary_bridge`'s arguments.

    Raises:
        InputError: The folder holds a model already, or no music is named; and as `keep_with_numbers`.
    """
    if Path(training.output_dir, "config.json").exists() and not training.overwrite:
        raise InputError(training.output_dir, "holds a model; choose another folder, or say --overwrite")
    if not args.music or args.number_captions < 1:
        raise InputError(None, "numbers need --music FOLDER and --number_captions of 1 or more")
    settings = (args.model, args.music, args.number_captions, args.wish_epochs, training.seed)
    return keep_with_numbers(training.output_dir, *settings)


__all__ = ["TEMPOS", "drawn_values", "encoded", "keep_with_numbers", "run_numbers", "teach_numbers", "told_of"]
