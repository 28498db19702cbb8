"""Picture to music: does the music that a picture leads to do what the picture's word asks for?

Pictures are those of held-out contents whose names the list of words knows (`composing_words.ask`): rain, bell, rocket.
Each goes through StyleEncoder, SummaryBridge and Museformer; the song is judged by what the *word* asks for. Beside it
stand the words themselves, sent the same way, and the same songs judged by other pictures' words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .metrics_common import Estimate
from .metrics_words_music import accuracy, judge_all, shuffled

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest
    from .evaluation_composers import BridgeComposer
    from .evaluation_report import EvaluationReport
    from .evaluation_songs import Song

NOTE = (
    "Picture to music: {pictures} held-out pictures of {contents} contents whose English or Chinese name the list of "
    "words knows; the song of the picture is judged by what its name asks for. {bars} bars each, and up to {tries} "
    "tries, as `compose` has them."
)


@dataclass(frozen=True)
class Told:
    """A picture, and what its name asks for.

    Attributes:
        row: Of the data set.
        text: The name that says something: the English one, else the Chinese one.
        wish: `stated` and `sides`, as `composing_words.Asked` has them.
    """

    row: Mapping[str, Any]
    text: str
    wish: Mapping[str, Any]


def wish_kept(wish: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, bool]:
    """For each attribute that a name asks for, whether the music does it."""
    from ..processing.music_wishes import fulfilled, sides_kept

    return {**fulfilled(wish["stated"], values), **sides_kept(wish["sides"], values)}


def told_rows(rows: Sequence[Mapping[str, Any]], limit: int) -> list[Told]:
    """Rows whose names ask for something, at most so many, two styles of a content at most.

    Args:
        rows: Of a split, in the order of `choose_rows`.
        limit: Pictures at most.
    """
    from ..composing_words import ask

    found: list[Told] = []
    seen: dict[str, int] = {}
    for row in rows:
        if seen.get(row["content"], 0) >= 2:
            continue
        for text in (row["caption"], row["caption_zh"]):
            asked = ask(text) if text else None
            if asked:
                seen[row["content"]] = seen.get(row["content"], 0) + 1
                found.append(Told(row, text, {"stated": asked.stated, "sides": asked.sides}))
                break
        if len(found) == limit:
            break
    return found


def load_composing(looker: Any, museformer: str = "", bridge: str = "") -> tuple[Any, str]:
    """The models that make music, with a StyleEncoder in front of them; or `None` and why there are none.

    Args:
        looker: `StyleLooker`.
        museformer, bridge: Folders; those that come along when both are empty.

    Raises:
        InputError: Folders that were named hold no such models, or ones that do not belong together.
    """
    from ..composing_parts import Composer, default_checkpoint, load_composer
    from ..processing.errors import InputError

    named = bool(museformer or bridge)
    if not named and not all(
        (default_checkpoint(k) / "config.json").is_file() for k in ("museformer", "summary_bridge")
    ):
        return None, "no SummaryBridge or Museformer is there"
    try:
        parts = load_composer(museformer or None, bridge or None, device=str(looker.model.device))
        return Composer(parts.museformer, parts.music, parts.bridge, parts.bridge_processor, looker), ""
    except InputError as error:
        if named:
            raise
        return None, error.message


def _picture(row: Mapping[str, Any]) -> Any:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(row["image"]))


def _readable(looker: Any, row: Mapping[str, Any]) -> bool:
    """Pictures that can not be read were reported when the styles were looked at."""
    from ..processing.errors import InputError

    try:
        looker.processor.load(_picture(row))
    except (InputError, OSError):
        return False
    return True


def _songs(
    parts: Any, composer: BridgeComposer, told: Sequence[Told], pictures: Sequence[Any] | None,
    request: EvaluationRequest,
) -> list[Song]:  # fmt: skip
    """A song for each: of its picture, or of its word where no pictures are given."""
    from .evaluation_songs import in_batches

    def write(numbers: list[int], seed: int) -> Any:
        if pictures is None:
            return composer.compose([told[k].text for k in numbers], seed)
        found = list(parts.looker.look([pictures[k] for k in numbers]))
        columns = [np.stack([getattr(seen, name) for seen in found]) for name in ("embed", "pooled", "mask")]
        triple = parts.bridge_processor.from_triple(*columns)
        return composer.play({name: value.to(composer.bridge.device) for name, value in triple.items()}, seed)

    what = "words to music" if pictures is None else "pictures to music"
    groups = [one.row["content"] for one in told]
    return in_batches(write, len(told), groups, composer.writer.writing, request, what)


def measure_picture_music(
    looker: Any, rows: Sequence[Mapping[str, Any]], request: EvaluationRequest, report: EvaluationReport, limit: int,
    museformer: str = "", bridge: str = "", bars: int = 16,
) -> dict[str, Estimate]:  # fmt: skip
    """The share of wishes that pictures' songs keep; controls go into the report's sections.

    Args:
        looker: `StyleLooker`.
        rows: Of the held-out split.
        request: Seed and progress.
        report: Gets the sections and the note.
        limit: Pictures at most.
        museformer, bridge: Folders; those that come along when empty.
        bars: Of each song.

    Returns:
        `picture_music_attributes`; nothing where no music models or no such pictures are there.
    """
    from ..composing import ComposeSettings
    from .evaluation_composers import BridgeComposer
    from .evaluation_songs import MusicWriter, Writing

    parts, why = load_composing(looker, museformer, bridge)
    told = [one for one in told_rows(rows, limit) if _readable(looker, one.row)] if parts else []
    if not told:
        why = why or "no picture's name is known to the list of words"
        report.notes.append(f"Picture to music is not measured: {why}.")
        report.targets.pop("picture_music_attributes", None)
        return {}
    writer, tries = MusicWriter(parts.museformer, Writing(num_bars=bars)), ComposeSettings().tries
    composer = BridgeComposer(parts.bridge, parts.bridge_processor, writer, tries=tries)
    pictures = [_picture(one.row) for one in told]
    wishes, groups = [one.wish for one in told], [one.row["content"] for one in told]
    found = {}
    for name, given in (("pictures", pictures), ("words", None)):
        songs = [song.values for song in _songs(parts, composer, told, given, request)]
        whole, by_attribute = accuracy(judge_all(wishes, songs, groups, wish_kept))
        found[name] = whole
        chance = accuracy(shuffled(wishes, songs, groups, wish_kept, request.seed))[0]
        report.sections[f"music of {name}"] = {"all": whole, "other names' wishes": chance, **by_attribute}
    report.notes.append(NOTE.format(pictures=len(told), contents=len(set(groups)), bars=bars, tries=tries))
    return {"picture_music_attributes": found["pictures"], "word_music_attributes": found["words"]}


__all__ = ["NOTE", "load_composing", "measure_picture_music", "told_rows", "wish_kept"]
