"""Songs of Museformer: without a plan, after the summaries of real music, after noisy ones; and what they are like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..processing.bar_midi_vocabulary import EOS_ID
from ..processing.errors import InputError
from ..processing.music_attributes import ATTRIBUTES
from .evaluation_report import EvaluationReport, Failure
from .evaluation_songs import MusicWriter, Song, in_batches, save_songs
from .metrics_common import Estimate, proportion
from .metrics_song_sets import diversity_against_real, frechet_figures, load_muspy, muspy_figures

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest

#: Attributes whose classes a song should have from the window that its plan was made of.
KEPT = ("tempo", "density", "register", "polyphony", "dynamics", "sustain", "leaps", "mode")
FRECHET = (
    "Fréchet distance: tempo, density, register, polyphony, range, dynamics, sustain, leaps and mode of whole songs, "
    "in standard deviations of the held-out windows; frechet_real is between two halves of these."
)


def summaries_of(model: Any, songs: Sequence[Song]) -> torch.Tensor:
    """Summaries `(S, N, Z)` of songs of equally many bars."""
    bars = [torch.from_numpy(song.ids[song.ids != EOS_ID])[None].to(model.device) for song in songs]
    return torch.stack([model.get_summary_tokens(ids)[0] for ids in bars])


def classes_kept(songs: Sequence[Song], sources: Sequence[Song], shift: int = 0) -> Estimate:
    """Share of attribute classes of the sources that the songs have; with a shift, of other sources."""
    outcomes: list[bool] = []
    groups: list[Any] = []
    for number, song in enumerate(songs):
        source = sources[(number + shift) % len(sources)]
        if shift and source.group == song.group:
            continue
        for name in KEPT:
            wanted = ATTRIBUTES[name].bin_of(source.values.get(name))
            if wanted >= 0:
                outcomes.append(ATTRIBUTES[name].bin_of(song.values.get(name)) == wanted)
                groups.append(song.group)
    return proportion(outcomes, groups, "classes")


def write_songs(
    model: Any, real: Sequence[Song], options: Any, request: EvaluationRequest, report: EvaluationReport
) -> None:
    """Songs without a plan, after the summaries of held-out windows, and after noisy ones; and what they are like."""
    writing, count = options.writing(), len(real)
    writer, plans = MusicWriter(model, writing), summaries_of(model, real)
    groups = [song.group for song in real]
    spread = plans.flatten(0, 1).std(0)

    def planned(noise: float) -> list[Song]:
        draw = torch.Generator().manual_seed(request.seed)
        moved = plans + noise * spread * torch.randn(plans.shape, generator=draw).to(plans)

        def write(numbers: list[int], seed: int) -> list[np.ndarray]:
            return writer.write(moved[numbers], len(numbers), seed)

        return in_batches(write, count, groups, writing, request, f"songs after plans, noise {noise:g}")

    free = in_batches(
        lambda numbers, seed: writer.write(None, len(numbers), seed), count, None, writing, request, "free songs"
    )
    after = planned(0.0)
    again = _samples_of_plans(writer, plans, options, request)
    every = [*free, *after, *(song for songs in again.values() for song in songs)]
    if not options.quick:
        noisy = {noise: planned(noise) for noise in options.noise}
        every += [song for songs in noisy.values() for song in songs]
        report.sections["noisy plans"] = {f"classes_kept_noise_{k:g}": classes_kept(v, real) for k, v in noisy.items()}
    report.figures["valid_midi"] = proportion([not song.fault for song in every], unit="songs")
    report.failures += [Failure(f"song of {song.group}", "write", song.fault) for song in every if song.fault]
    diversity = diversity_against_real(
        dict(enumerate(_eights(free))), [song.ids for song in real], groups, request.seed
    )
    report.figures["diversity_against_real"] = diversity["diversity_against_real"]
    report.sections["songs"] = {
        "silent": proportion([not song.values for song in every], unit="songs"),
        "bar_distance_free": diversity["bar_distance"],
        "bar_distance_real": diversity["bar_distance_real"],
        "diversity_of_one_plan": diversity_against_real(
            {k: [song.ids for song in v] for k, v in again.items()}, [song.ids for song in real], groups, request.seed
        )["diversity_against_real"],
    }
    report.sections["plans"] = {
        "classes_kept": classes_kept(after, real),
        "classes_kept_other_windows": classes_kept(after, real, max(1, count // 2)),
        "classes_kept_free": classes_kept(free, real),
    }
    compare_music({"free": free, "planned": after}, real, request, report)
    save_songs([*free[:8], *after[:8]], ["free"] * len(free[:8]) + [str(g) for g in groups[:8]], request)


def _eights(songs: Sequence[Song]) -> list[list[np.ndarray]]:
    """Words of the songs, eight at a time: pairs are enough within them, and the bootstrap has units."""
    return [[song.ids for song in songs[start : start + 8]] for start in range(0, len(songs), 8)]


def _samples_of_plans(
    writer: MusicWriter, plans: torch.Tensor, options: Any, request: EvaluationRequest
) -> dict[Any, list[Song]]:
    """Several songs after each of a few plans."""
    few, samples = max(1, len(plans) // 16), options.samples
    rows = [number // samples for number in range(few * samples)]

    def write(numbers: list[int], seed: int) -> list[np.ndarray]:
        return writer.write(plans[[rows[k] for k in numbers]], len(numbers), seed)

    songs = in_batches(write, len(rows), rows, writer.writing, request, "songs after one plan")
    return {row: [song for song in songs if song.group == row] for row in range(few)}


def compare_music(
    made: Mapping[str, Sequence[Song]], real: Sequence[Song], request: EvaluationRequest, report: EvaluationReport
) -> None:
    """Fréchet distances and MusPy's metrics of sets of songs beside those of real music."""
    seed, names = request.seed, list(made)
    for name in names:
        found = frechet_figures([song.values for song in made[name]], [song.values for song in real], seed)
        section = report.sections.setdefault("distribution", {})
        section[f"frechet_{name}"] = found["frechet"]
        section["frechet_real"] = found["frechet_real"]
    report.notes.append(FRECHET)
    try:
        package = load_muspy()
    except InputError as error:
        report.notes.append(f"{error.message}.")
        return
    for name, songs in {**made, "held out": real}.items():
        scores = [song.score for song in songs if song.values]
        groups = [song.group for song in songs if song.values]
        report.sections[f"MusPy, {name}"] = muspy_figures(scores, groups, seed, package)


__all__ = ["KEPT", "classes_kept", "compare_music", "summaries_of", "write_songs"]
