"""Evaluator of SummaryBridge: does the music do what the words say, and how long does it take?

    intermezzo evaluate summary_bridge --data data/bars
    intermezzo evaluate summary_bridge --data data/bars --n 300 --rival flow=RUN/flow prompt=RUN/prompt \
        --with museformer=RUN/museformer parallel=True

Everything is measured on music: Museformer writes it under the bridge's plan, it becomes a MIDI file, and the file is
measured. `--data` is a folder made by `build_midi --tokens`: its test split is what plain captions are spoken of. `--n`
is the number of plain captions of each language; everything else goes with it (half as many captions with a tempo and
a key, half as many images, a fifth as many songs after an all-zero plan). Songs are written in batches, but those of a
soft prompt one by one.

Checkpoints of a training may be rivals, too, named `METHOD#SEED@STEPS:SECONDS` (such as `prompt#0@5000:1800`): section
`learning` then tells how much sooner each method reaches the best accuracy that `prompt` ever has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .evaluation_composers import BridgeComposer, Composer, load_composer
from .evaluation_museformer import load_music_model, read_options
from .evaluation_museformer_songs import compare_music, summaries_of
from .evaluation_prompts import LANGUAGES, Prompt, exact_prompts, held_out_images, image_prompts, plain_prompts
from .evaluation_report import ROOT, EvaluationReport, Failure, Target
from .evaluation_songs import MusicWriter, Song, Writing, held_out_pieces, in_batches, real_songs, save_songs
from .metrics_common import Estimate, proportion
from .metrics_song_sets import diversity_against_real
from .metrics_words_music import (
    Judge,
    accuracy,
    attributes_kept,
    image_kept,
    judge_all,
    key_figures,
    learning_figures,
    shuffled,
    tempo_figures,
)

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest

TARGETS = {
    "attributes_en": Target(0.8),
    "attributes_zh": Target(0.8),
    "tempo_bin_exact": Target(0.7),
    "tempo_bin_within_one": Target(0.9),
    "key_exact": Target(0.5),
    "key_or_duplicate": Target(0.6),
    "imagery_en": Target(0.75),
    "imagery_zh": Target(0.75),
    "bridge_ms": Target(50.0, at_most=True),
    "song_seconds": Target(5.0, at_most=True),
    "valid_midi": Target(1.0),
    "diversity_against_real": Target(0.7),
    "learning/times_fewer_steps_bridge": Target(10.0),
    "learning/times_less_time_bridge": Target(10.0),
}
NOTES = {
    "plain": "Plain captions state one to four attributes of held-out windows ({windows} windows of {pieces} pieces); "
    "a wish is kept when the music is of the class stated. Loudness of scores without marks, and doubtful keys, are "
    "not spoken of.",
    "tempo": "Tempo classes are Text2midi's; captions state quarters a minute. Keys: Krumhansl and Schmuckler's "
    "algorithm on the music written; the duplicate key is the one with the same notes.",
    "images": "Imagery: {images} images of {families} families, none of them and no near-synonym trained on, {each} "
    "texts each; kept when the music lies on the suggested side of the training median. Up to {tries} songs are "
    "written for a text, until one has all that the bridge heard in it; the one that has most of it is kept.",
    "chance": "Shuffled prompts: the same music judged by other texts of its kind. All-zero plan: music after a plan "
    "of zeros, judged by the same texts.",
    "ceiling": "Own summaries: music after the summaries of the windows that the captions are spoken of.",
    "speed": "Speed: one song of {bars} bars at a time, {rounds} songs, least and greatest in place of an interval; "
    "song_seconds goes from words to a MIDI file, song_seconds_of_picture with all tries.",
    "diversity": "Diversity: bar by bar, {samples} songs of each of {prompts} plain captions against held-out pieces.",
}


@dataclass(frozen=True)
class Options(Writing):
    """How much of what is measured.

    Attributes:
        guidance, steps: Of the bridge; its configuration's own when `None`.
        num_bars, batch_size and so on: See `Writing`.
        each: Texts of each image and language.
        samples: Songs of one caption, for diversity.
        rounds: Songs that are timed.
        tries: Songs written at most for a text that is a picture, as `compose` does, until one has all that the bridge
            heard in the text; the one that has most of it is kept.
        quick: Leave out the rivals, the ceiling and MusPy.
    """

    guidance: float | None = None
    steps: int | None = None
    each: int = 2
    samples: int = 6
    rounds: int = 5
    tries: int = 4
    quick: bool = False


@dataclass
class Asked:
    """Texts of one kind and language, and the songs that were written for them."""

    prompts: list[Prompt]
    songs: list[Song]
    judge: Judge
    unit: str = "wishes"

    @property
    def wishes(self) -> list[Mapping[str, Any]]:
        """What the judge takes."""
        return [prompt.sides or prompt.stated for prompt in self.prompts]

    @property
    def groups(self) -> list[Any]:
        """Piece or family of each text."""
        return [prompt.group for prompt in self.prompts]

    @property
    def measured(self) -> list[dict[str, Any]]:
        """Measurements of the songs."""
        return [song.values for song in self.songs]

    def kept(self) -> tuple[Estimate, dict[str, Estimate]]:
        """Share of wishes that its songs keep, in all and by attribute."""
        return accuracy(judge_all(self.wishes, self.measured, self.groups, self.judge), self.unit)

    def kept_by(self, songs: Sequence[Song]) -> Estimate:
        """Share of wishes that other songs keep, one for each text; songs of one group count as alike."""
        groups = [song.group for song in songs]
        return accuracy(judge_all(self.wishes, [song.values for song in songs], groups, self.judge), self.unit)[0]

    def chance(self, seed: int) -> Estimate:
        """Share of wishes of other texts that its songs keep."""
        return accuracy(shuffled(self.wishes, self.measured, self.groups, self.judge, seed), self.unit)[0]


# --- Asking -----------------------------------------------------------------------------------------------------------


def ask(
    composer: Composer, prompts: Sequence[Prompt], writing: Writing, request: EvaluationRequest, what: str
) -> list[Song]:
    """One song for each text."""
    return in_batches(
        lambda numbers, seed: composer.compose([prompts[k].text for k in numbers], seed),
        len(prompts), [prompt.text for prompt in prompts], writing, request, what,
    )  # fmt: skip


def ask_plain_and_images(
    composer: Composer,
    texts: Mapping[str, Sequence[Prompt]],
    writing: Writing,
    request: EvaluationRequest,
    who: str = "",
) -> dict[str, Asked]:
    """Songs for `attributes_en`, `attributes_zh`, `imagery_en` and `imagery_zh`."""
    found = {}
    for name, prompts in texts.items():
        plain = name.startswith("attributes")
        songs = ask(composer, prompts, writing, request, f"{who}{name.replace('_', ', ')}")
        judge, unit = (attributes_kept, "wishes") if plain else (image_kept, "suggestions")
        found[name] = Asked(list(prompts), songs, judge, unit)
    return found


def measure_words(asked: Mapping[str, Asked], report: EvaluationReport, title: str = "") -> None:
    """The shares of wishes kept; as main figures with their controls, or under a title."""
    for name, one in asked.items():
        whole, parts = one.kept()
        if title:
            report.sections.setdefault(title, {})[name] = whole
            continue
        report.figures[name] = whole
        report.sections[name.replace("_", ", ")] = parts
        report.sections.setdefault("shuffled prompts", {})[name] = one.chance(report.seed)


def exact_figures(asked: Sequence[tuple[Prompt, Song, Any]]) -> dict[str, Estimate]:
    """Tempo and key of songs against what texts state; of each text, song and group."""
    tempo = [row for row in asked if row[0].bpm is not None]
    key = [row for row in asked if row[0].key is not None]
    figures = tempo_figures(
        [prompt.bpm or 0.0 for prompt, _, _ in tempo], [song.values for _, song, _ in tempo], [row[2] for row in tempo]
    )
    return figures | key_figures(
        [prompt.key or ("", "") for prompt, _, _ in key], [song.values for _, song, _ in key], [row[2] for row in key]
    )


def measure_exact(
    composer: Composer, real: Sequence[Song], request: EvaluationRequest, writing: Writing, report: EvaluationReport
) -> list[Song]:
    """Tempo and key, stated exactly, in both languages together and apart; returns the songs."""
    prompts: list[Prompt] = []
    for language in LANGUAGES:
        prompts += exact_prompts(real, language, max(request.n // 2, 1), request.seed)
    songs = ask(composer, prompts, writing, request, "tempo and key")
    rows = [(prompt, song, prompt.group) for prompt, song in zip(prompts, songs, strict=True)]
    report.figures |= exact_figures(rows)
    for language in LANGUAGES:
        part = exact_figures([row for row in rows if row[0].language == language])
        section = report.sections.setdefault("tempo and key", {})
        section.update({f"{name}_{language}": value for name, value in part.items()})
    others = np.roll(np.arange(len(rows)), max(1, len(rows) // 4)).tolist()
    turned = [(prompts[k], song, group) for k, (_, song, group) in zip(others, rows, strict=True)]
    chance = exact_figures([row for row in turned if row[0].group != row[2]])
    report.sections.setdefault("shuffled prompts", {}).update(chance)
    return songs


def measure_diversity(
    composer: Composer, prompts: Sequence[Prompt], real: Sequence[Song], request: EvaluationRequest, options: Options,
    report: EvaluationReport,
) -> list[Song]:  # fmt: skip
    """Distances of samples of one caption over those of real pieces; returns the songs."""
    few = list(prompts)[: max(request.n // 20, 1)]
    repeated = [prompt for prompt in few for _ in range(options.samples)]
    songs = ask(composer, repeated, options.writing(), request, "several songs of one text")
    made = {
        number: [song.ids for song in songs[number * options.samples : (number + 1) * options.samples]]
        for number in range(len(few))
    }
    found = diversity_against_real(made, [song.ids for song in real], [song.group for song in real], request.seed)
    report.figures["diversity_against_real"] = found.pop("diversity_against_real")
    report.sections["diversity"] = found
    report.notes.append(NOTES["diversity"].format(samples=options.samples, prompts=len(few)))
    return songs


def measure_rivals(
    others: Mapping[str, Composer], texts: Mapping[str, Sequence[Prompt]], writing: Writing, request: EvaluationRequest,
    report: EvaluationReport,
) -> None:  # fmt: skip
    """The plain captions and images asked of others; and where they are checkpoints, how soon each method learns."""
    plain = {}
    for name, other in others.items():
        title = f"rival: {name}"
        measure_words(ask_plain_and_images(other, texts, writing, request, f"{name}: "), report, title)
        found = [report.sections[title][f"attributes_{language}"].value for language in LANGUAGES]
        plain[name] = sum(found) / len(found)
    if learning := learning_figures(plain):
        report.sections["learning"] = learning


def measure_controls(
    writer: MusicWriter, asked: Mapping[str, Asked], real: Sequence[Song], request: EvaluationRequest, options: Options,
    report: EvaluationReport,
) -> None:  # fmt: skip
    """Music after an all-zero plan, and after the summaries of the very windows that captions are spoken of."""
    config, count = writer.museformer.config, max(request.n // 5, 2)
    zeros = torch.zeros(1, options.num_bars, config.summary_size, device=writer.museformer.device)
    zero = in_batches(
        lambda numbers, seed: writer.write(zeros.expand(len(numbers), -1, -1), len(numbers), seed),
        count, None, options.writing(), request, "all-zero plan",
    )  # fmt: skip
    report.sections["all-zero plan"] = {
        name: one.kept_by([zero[k % count] for k in range(len(one.prompts))]) for name, one in asked.items()
    }
    if options.quick:
        return
    plans = summaries_of(writer.museformer, real)
    own = in_batches(
        lambda numbers, seed: writer.write(plans[numbers], len(numbers), seed),
        len(real), [song.group for song in real], options.writing(), request, "own summaries",
    )  # fmt: skip
    report.sections["own summaries"] = {
        name: one.kept_by([own[prompt.source] for prompt in one.prompts])
        for name, one in asked.items()
        if name.startswith("attributes")
    }


# --- All together -----------------------------------------------------------------------------------------------------


def make_texts(real: Sequence[Song], request: EvaluationRequest, options: Options) -> dict[str, list[Prompt]]:
    """Plain captions and images of both languages."""
    images = held_out_images(max(request.n // 2, 1), request.seed)
    texts = {f"attributes_{k}": plain_prompts(real, k, request.n, request.seed) for k in LANGUAGES}
    return texts | {f"imagery_{k}": image_prompts(images, k, options.each, request.seed) for k in LANGUAGES}


def load_parts(
    request: EvaluationRequest, options: Options, museformer: Any, composer: Composer | None, rivals: Mapping[str, Any]
) -> tuple[MusicWriter, Composer, dict[str, Composer]]:
    """The music model, what is measured, and what it is compared with; what is no folder is taken as it is."""
    writing = options.writing()
    if isinstance(museformer, str):
        museformer = load_music_model(museformer or str(ROOT / "checkpoints" / "museformer"), False)
    writer = MusicWriter(museformer, writing)
    if composer is None:
        composer = load_composer(request.checkpoint, writer, None, options.guidance, options.steps, options.tries)
    processor = getattr(composer, "processor", None)
    others = {k: load_composer(v, writer, processor) if isinstance(v, str) else v for k, v in rivals.items()}
    return writer, composer, others


def evaluate_summary_bridge(
    request: EvaluationRequest,
    *,
    rivals: Mapping[str, Any] | None = None,
    museformer: Any = "",
    composer: Composer | None = None,
    **settings: Any,
) -> EvaluationReport:
    """Measures a SummaryBridge together with the Museformer that plays it.

    Args:
        request: Checkpoint, data, seed; `n` plain captions of each language.
        rivals: Folders of other bridges and of soft prompts by name, or composers; they are asked the plain captions
            and the images.
        museformer: The music model or its folder; `checkpoints/museformer` when empty.
        composer: What goes from words to songs; made of `request.checkpoint` when left out.
        **settings: Fields of `Options`.

    Raises:
        InputError: No checkpoint, no data, models that do not go together, or a setting that does not exist.
    """
    options = read_options(Options, settings)
    writer, composer, others = load_parts(request, options, museformer, composer, rivals or {})
    writing = writer.writing
    failures: list[Failure] = []
    pieces, what = held_out_pieces(request, 0 if request.data else request.n, failures)
    real = real_songs(pieces, options.num_bars, request.n, request.seed)
    texts = make_texts(real, request, options)
    report = EvaluationReport(
        request.stem, request.checkpoint, what, request.n, request.seed, targets=dict(TARGETS), failures=failures,
        task="text-to-audio", dataset_type="bar_midi",
    )  # fmt: skip
    report.facts["writing"] = vars(writing) | {"guidance": options.guidance, "steps": options.steps}
    report.facts["parameters"] = {"museformer": sum(p.numel() for p in writer.museformer.parameters())}

    asked = ask_plain_and_images(composer, texts, writing, request)
    measure_words(asked, report)
    songs = measure_exact(composer, real, request, writing, report)
    songs += [song for one in asked.values() for song in one.songs]
    songs += measure_diversity(composer, texts["attributes_en"], real, request, options, report)
    report.figures["valid_midi"] = proportion([not song.fault for song in songs], unit="songs")
    report.failures += [Failure(str(song.group), "write", song.fault) for song in songs if song.fault]
    report.sections["songs"] = {"silent": proportion([not song.values for song in songs], unit="songs")}
    if request.baselines:
        measure_controls(writer, asked, real, request, options, report)
    if isinstance(composer, BridgeComposer):
        speed = composer.speed([prompt.text for prompt in texts["attributes_en"]], options.rounds)
        report.figures |= {name: speed.pop(name) for name in ("bridge_ms", "song_seconds")}
        pictures = [prompt.text for prompt in texts["imagery_en"]]
        speed["song_seconds_of_picture"] = composer.picture_seconds(pictures, options.rounds)
        report.sections["speed"] = speed
    if not options.quick:
        compare_music({"plain captions": asked["attributes_en"].songs}, real, request, report)
        measure_rivals(others, texts, writing, request, report)
    first = [song for one in asked.values() for song in one.songs[:4]]
    save_songs(first, [str(song.group) for song in first], request)
    _add_notes(report, real, texts, options)
    return report


def _add_notes(
    report: EvaluationReport, real: Sequence[Song], texts: Mapping[str, Sequence[Prompt]], options: Options
) -> None:
    images = texts["imagery_en"]
    facts = {
        "windows": len(real), "pieces": len({song.group for song in real}), "each": options.each,
        "images": len({prompt.image for prompt in images}), "families": len({prompt.group for prompt in images}),
        "bars": options.num_bars, "rounds": options.rounds, "tries": options.tries,
    }  # fmt: skip
    shown = {
        "plain": True,
        "tempo": True,
        "images": True,
        "chance": True,
        "ceiling": "own summaries" in report.sections,
    }
    shown["speed"] = "speed" in report.sections
    report.notes += [NOTES[name].format(**facts) for name, has in shown.items() if has]


__all__ = ["TARGETS", "Asked", "Options", "ask", "evaluate_summary_bridge", "make_texts"]
