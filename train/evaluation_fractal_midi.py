"""Evaluator of FractalMidi: likelihood, samples against held-out music, speed, inpainting, wishes, baselines."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..painting import FILL_STRUCTURE_TEMPERATURE, GUIDANCE, STRUCTURE_TEMPERATURE
from ..processing.piano_roll import NUM_LOUDNESS
from .evaluation_fractal_data import HeldOut, load_held_out, other_real_music
from .evaluation_fractal_fill import (
    ASKED,
    HIDING,
    SEAMS,
    measure_attribute,
    measure_filling,
    measure_seams,
    off_by,
    sample_rolls,
)
from .evaluation_report import EvaluationReport, Failure, Target
from .fractal_midi_baselines import COUNTS, bits_figures, overlap_figures, read_baselines
from .fractal_midi_data import check_classes
from .metrics_common import Estimate, ratio
from .metrics_music import FIGURES, summarise

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest

MATCHED = ("note_density", "mean_polyphony", "pitch_range")
TARGETS = {
    "bits_over_markov": Target(1.0, at_most=True),
    "bits_over_pixel_ar": Target(1.0, at_most=True),
    **{f"{name}_off": Target(0.1, at_most=True) for name in MATCHED},
    **{f"overlap_{name}": Target(0.9) for name in ("pitch_class", "duration", "velocity", "onset_interval")},
    "seconds_per_roll": Target(0.6, at_most=True),
    "seconds_per_roll_of_8": Target(0.6, at_most=True),
    "times_faster_than_pixel_ar": Target(20.0),
    **{f"inpainting, {name}/known_cells_kept": Target(1.0) for name in HIDING},
    **{f"inpainting, {name}/bits_over_unconditional": Target(1.0, at_most=True) for name in HIDING},
    "inpainting, four bars/pitch_step_off": Target(0.1, at_most=True),
    "inpainting, four bars/onset_rate_off": Target(0.1, at_most=True),
    **{f"wishes/{name}_hit": Target(0.8) for name in ASKED},
}
NOTES = {
    "bound": "With `mar` levels the bits bound those of the model from above (random orders, {draws} draws a roll).",
    "source": "Main samples are asked for the sources of the held-out rolls, nothing else; `free samples` for nothing.",
    "tempo": "Tempo is no part of a roll: the MIDI file gets that of the class asked for; its hit says no more.",
    "guided": "Wishes are sampled with guidance (`cfg_scale` {scale:g}); `paint` takes 2 unless told otherwise.",
    "pasted": "`..._pasted`: the known part pasted over an unconditional sample, which is no inpainting.",
    "real": "`real music of other pieces`: the validation split in place of samples; so near does real music come.",
    "pixel": "pixel-AR was timed over one block of {block} cells with its KV cache; a roll has {blocks} of them.",
}


@dataclass(frozen=True)
class Options:
    """How much of what is measured.

    Attributes:
        num_iter_list: Steps of each level.
        temperature, sparsity_bias, top_p, structure_temperature: Of all samples; the last was chosen on validation.
        fill_structure_temperature: In place of it where a part is known, as in `paint`; chosen on validation.
        cfg_scale: Guidance where something is asked for.
        draws: Orders of each `mar` patch that the likelihood is averaged over.
        batch_size: Rolls at once.
        likelihood_n: Held-out rolls whose likelihood is measured, at most.
        free_n: Samples with no conditions at all.
        fill_n: Rolls to be filled in, for each kind of hiding.
        seam_n: Rolls whose seams are looked at: a mean of steps between two notes needs more of them.
        wish_n: Samples for each attribute.
        timing_n: Rolls timed at batch 1, and batches of 8.
        quick: Leave out free samples, inpainting and wishes.
    """

    num_iter_list: tuple[int, ...] = (8, 4, 2, 1)
    temperature: float = 1.0
    sparsity_bias: float = 0.0
    top_p: float = 1.0
    structure_temperature: float = STRUCTURE_TEMPERATURE
    fill_structure_temperature: float = FILL_STRUCTURE_TEMPERATURE
    cfg_scale: float = GUIDANCE
    draws: int = 2
    batch_size: int = 8
    likelihood_n: int = 256
    free_n: int = 64
    fill_n: int = 48
    seam_n: int = 256
    wish_n: int = 48
    timing_n: int = 5
    quick: bool = False

    def sampling(self, model: Any) -> dict[str, Any]:
        """Arguments of `generate`."""
        steps = list(self.num_iter_list)[: len(model.config.level_sizes)]
        names = ("temperature", "sparsity_bias", "top_p", "structure_temperature")
        settings = {name: getattr(self, name) for name in names}
        return {"num_iter_list": steps, **settings}


@torch.no_grad()
def measure_nats(model: Any, held_out: HeldOut, draws: int, request: EvaluationRequest, batch_size: int) -> np.ndarray:
    """Nats of each roll without any conditions; float64 `(N,)`. An order is drawn for each batch and draw."""
    rolls, nats = held_out.rolls(), []
    starts = range(0, len(rolls), batch_size)
    for start in request.track(starts, "likelihood", len(starts)):
        generator = torch.Generator().manual_seed(request.seed + start)
        out = model(rolls[start : start + batch_size].to(model.device), draws=draws, generator=generator)
        nats.append(out.nll.double().cpu().numpy())
    return np.concatenate(nats)


def time_sampling(model: Any, batch_size: int, count: int, settings: dict[str, Any], seed: int) -> Estimate:
    """Seconds a roll, wall clock, without conditions; one unmeasured warm-up first."""
    seconds = []
    for number in range(count + 1):
        draw = torch.Generator().manual_seed(seed + number)
        started = time.perf_counter()
        model.generate(batch_size, generator=draw, **settings)
        if number:
            seconds.append((time.perf_counter() - started) / batch_size)
    return ratio(seconds, [1.0] * count, seed=seed, unit="rolls" if batch_size == 1 else f"batches of {batch_size}")


def source_conditions(processor: Any, held_out: HeldOut) -> torch.Tensor | None:
    """`(N, C)` conditions that name the source of each held-out roll and nothing else; `None` where none can."""
    if not processor.condition_names:
        return None
    rows = [processor.condition_bins(measured={"source": value.get("source")}) for value in held_out.values]
    return torch.tensor(rows)


def compare_samples(made: np.ndarray, held_out: HeldOut, seed: int) -> dict[str, Estimate]:
    """How far densities lie apart, and how much histograms overlap."""
    figures = {
        f"{name}_off": off_by(FIGURES[name](made), FIGURES[name](held_out.codes), held_out.pieces, seed=seed)
        for name in MATCHED
    }
    return figures | overlap_figures(made, held_out, seed)


def compare_baselines(
    nats: np.ndarray,
    seconds: Estimate,
    model: Any,
    held_out: HeldOut,
    request: EvaluationRequest,
    report: EvaluationReport,
) -> None:
    """Bits over those of the baselines on the same rolls, and the time of a pixel-AR transformer of equal size."""
    from .baseline_markov import PitchMarkov
    from .baseline_pixel_ar import PixelARConfig, PixelARModel, seconds_per_roll

    folder, seed = Path(request.checkpoint), request.seed
    chain = PitchMarkov.load(folder / COUNTS) if (folder / COUNTS).is_file() else None
    if chain is not None and chain.num_codes == held_out.num_codes:
        theirs = chain.nats(held_out.codes[: len(nats)])
        report.sections["baseline: Markov chain a pitch"] = bits_figures(theirs.tolist(), held_out, seed)
        pieces = held_out.pieces[: len(nats)]
        report.figures["bits_over_markov"] = ratio(nats.tolist(), theirs.tolist(), pieces, seed=seed, unit="nats")
    else:
        kind = "" if held_out.loudness_classes == NUM_LOUDNESS else f" of {held_out.num_codes} codes"
        report.notes.append(f"No {COUNTS}{kind} beside the weights: the Markov baseline was not measured.")
    stored = read_baselines(folder)
    if "pixel_ar" in stored:
        told = stored["pixel_ar"]
        count = len(told["nats"])
        report.sections["baseline: pixel-AR"] = told["figures"]
        report.facts["baselines"] = {"command": stored.get("command"), "commit": told.get("commit")}
        report.facts["baselines"] |= {name: told.get(name) for name in ("parameters", "training", "n", "samples")}
        if count <= len(nats) and held_out.digest(count) == told["rolls_sha256"]:
            report.figures["bits_over_pixel_ar"] = ratio(
                nats[:count].tolist(), told["nats"], held_out.pieces[:count], seed=seed, unit="nats"
            )
        else:
            report.notes.append("The figures of pixel-AR are of other rolls; the two can not be divided.")
    else:
        report.notes.append("No figures of pixel-AR beside the weights: see train/fractal_midi_baselines.py.")
    sizes = PixelARConfig.like(sum(p.numel() for p in model.parameters()), num_codes=held_out.num_codes)
    plain = PixelARModel(sizes).eval().to(model.device)
    slow = seconds_per_roll(plain)
    blocks = plain.config.size[0] * plain.config.size[1] * 2 // plain.config.window
    report.notes.append(NOTES["pixel"].format(block=plain.config.window // 2, blocks=blocks))
    faster = Estimate(slow / seconds.value, slow / seconds.high, slow / seconds.low, seconds.n, seconds.unit)
    report.figures["times_faster_than_pixel_ar"] = faster


def evaluate_fractal_midi(
    request: EvaluationRequest,
    *,
    painter: tuple[Any, Any] | None = None,
    held_out: HeldOut | None = None,
    **settings: Any,
) -> EvaluationReport:
    """Measure a FractalMidi checkpoint.

    Args:
        request: Checkpoint, data, number of samples, seed.
        painter: Model and processor; those of `request.checkpoint` when `None`.
        held_out: Test set; read or built as `request` says when `None`.
        **settings: Fields of `Options`.

    Raises:
        InputError: There is no checkpoint, or no usable roll.
        TypeError: A setting that `Options` does not have.
    """
    from ..painting import check_pair, load_painter

    options = Options(**settings)
    failures: list[Failure] = []
    model, processor = painter or load_painter(request.checkpoint)
    check_pair(model, processor, request.checkpoint)
    classes = processor.loudness_classes
    held_out = load_held_out(request, request.n, failures, classes) if held_out is None else held_out
    check_classes(request.checkpoint, classes, held_out.loudness_classes)
    report = EvaluationReport(
        request.stem, request.checkpoint, held_out.data, len(held_out), request.seed, failures=failures,
        task="other", dataset_type="piano_rolls",
    )  # fmt: skip
    report.targets = dict(TARGETS)
    sampling = options.sampling(model)
    report.facts |= {"sampling": {**sampling, "cfg_scale": options.cfg_scale}, "draws": options.draws}
    report.facts["parameters"] = sum(p.numel() for p in model.parameters())
    report.facts["generator_types"] = list(model.config.generator_types)

    part = held_out.first(options.likelihood_n)
    nats = measure_nats(model, part, options.draws, request, options.batch_size)
    report.figures |= bits_figures(nats.tolist(), part, request.seed)
    given = source_conditions(processor, held_out)
    made = sample_rolls(model, given, len(held_out), request, sampling, options.batch_size, classes)
    _describe_music(made, held_out, report, request)
    seconds = time_sampling(model, 1, options.timing_n, sampling, request.seed)
    report.figures["seconds_per_roll"] = seconds
    report.figures["seconds_per_roll_of_8"] = time_sampling(
        model, 8, max(1, options.timing_n // 2), sampling, request.seed
    )
    if request.baselines:
        compare_baselines(nats, seconds, model, part, request, report)
    if not options.quick:
        _measure_more(model, processor, held_out, report, request, options, sampling)
    _save_samples(made, request, processor)
    _add_notes(report, model, options)
    return report


def _describe_music(made: np.ndarray, held_out: HeldOut, report: EvaluationReport, request: EvaluationRequest) -> None:
    """Samples beside held-out music, and beside these what real music of other pieces is."""
    report.figures |= compare_samples(made, held_out, request.seed)
    real = other_real_music(request.data, request.n, request.seed)
    if real is not None and real.loudness_classes == held_out.loudness_classes:
        report.sections["real music of other pieces"] = compare_samples(real.codes, held_out, request.seed)
        report.notes.append(NOTES["real"])
    report.sections["music, samples"] = summarise(made, seed=request.seed)
    report.sections["music, held out"] = summarise(held_out.codes, held_out.pieces, seed=request.seed)


def _measure_more(
    model: Any,
    processor: Any,
    held_out: HeldOut,
    report: EvaluationReport,
    request: EvaluationRequest,
    options: Options,
    sampling: dict[str, Any],
) -> None:
    """Free samples, inpainting, wishes."""
    size = options.batch_size
    if options.free_n and processor.condition_names:
        free = sample_rolls(model, None, options.free_n, request, sampling, size, processor.loudness_classes)
        report.sections["free samples"] = compare_samples(free, held_out, request.seed)
    filling = {**sampling, "structure_temperature": options.fill_structure_temperature}
    for hide in HIDING if options.fill_n else ():
        part = held_out.first(options.fill_n)
        report.sections[f"inpainting, {hide}"] = measure_filling(
            model, part, hide, request, options.draws, filling, size, processor
        )
    if options.fill_n and options.seam_n:
        part = held_out.first(options.seam_n)
        report.sections[f"inpainting, {SEAMS}"] |= measure_seams(model, part, request, filling, size, processor)
    wishes: dict[str, Estimate] = {}
    for name in ASKED if options.wish_n else ():
        if name in processor.condition_names:
            guided = {**sampling, "cfg_scale": options.cfg_scale}
            wishes |= measure_attribute(model, processor, name, options.wish_n, request, guided, size)
    if wishes:
        report.sections["wishes"] = wishes


def _add_notes(report: EvaluationReport, model: Any, options: Options) -> None:
    if "mar" in model.config.generator_types[:-1]:
        report.notes.append(NOTES["bound"].format(draws=options.draws))
    report.notes.append(NOTES["source"])
    if "wishes" in report.sections:
        report.notes += [NOTES["tempo"], NOTES["guided"].format(scale=options.cfg_scale)]
    if "inpainting, four bars" in report.sections:
        report.notes.append(NOTES["pasted"])


def _save_samples(made: np.ndarray, request: EvaluationRequest, processor: Any, count: int = 16) -> None:
    """Keeps some samples as MIDI, for the ear."""
    if request.out is None:
        return
    folder = request.out / f"{request.stem}_samples"
    folder.mkdir(parents=True, exist_ok=True)
    for number, codes in enumerate(made[:count]):
        processor.decode(codes).dump_midi(str(folder / f"{number:02d}.mid"))
