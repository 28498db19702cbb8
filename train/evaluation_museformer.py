"""Evaluator of Museformer: perplexity beside full attention, the cost of long music, what it writes, its summaries.

    intermezzo evaluate museformer --data data/bars
    intermezzo evaluate museformer --data data/bars --rival full=RUN/full --n 200

`--data` is a folder made by `build_midi --tokens`; without it test pieces of the music21 corpus are read. `--rival`
names language models of equal size with full attention, trained as long; each is measured on the same words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..processing.errors import InputError
from .evaluation_museformer_songs import KEPT, write_songs
from .evaluation_museformer_speed import token_times, training_costs
from .evaluation_report import EvaluationReport, Failure, Target
from .evaluation_songs import Writing, check_folder, held_out_pieces, real_songs
from .metrics_common import Estimate, ratio
from .museformer_data import BarCollate, BarPieces, read_pieces
from .museformer_probes import BAR_ATTRIBUTES, probe, summaries_and_attributes

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest

TARGETS = {
    "perplexity_over_full_attention": Target(1.02, at_most=True),
    "late_over_early": Target(1.2, at_most=True),
    "valid_midi": Target(1.0),
    "diversity_against_real": Target(0.7),
}
NOTES = {
    "data": "Perplexity: {chunks} chunks, the first {bars} bars of each, nats a word, intervals over pieces.",
    "speed": "Seconds a token: the same bars end at word {early} and at word {late}, batch 1, median of {rounds} "
    "rounds, least and greatest in place of an interval.",
    "training": "Training: one row of {length} words forwards and backwards, float32, new weights; memory is that of "
    "tensors at the peak, without weights, gradients and the optimizer.",
    "songs": "Planned songs follow the summaries of held-out windows; `classes_kept`: the song is of the window's "
    "class of an attribute ({names}), with others' windows for chance. Noise: in standard deviations of the summaries.",
    "rival": "No --rival: the perplexity was not compared with full attention.",
}


@dataclass(frozen=True)
class Options(Writing):
    """How much of what is measured.

    Attributes:
        bars, max_tokens: Of a row whose perplexity is measured.
        num_bars, batch_size and so on: See `Writing`.
        noise: Noise in the summaries of planned songs.
        samples: Songs of one plan, for diversity.
        early, late: Words before the places where writing is timed.
        rounds: Of all that is timed.
        train_tokens: Words of the training step that is timed; 0: it is not.
        probe_chunks: Chunks that the probes are fitted on, and that they are tried on.
        quick: Leave out training costs, probes and noisy plans.
    """

    bars: int = 32
    max_tokens: int = 2048
    noise: tuple[float, ...] = (0.25, 0.5, 1.0)
    samples: int = 4
    early: int = 512
    late: int = 4096
    rounds: int = 3
    train_tokens: int = 4096
    probe_chunks: int = 200
    quick: bool = False


# --- Models -----------------------------------------------------------------------------------------------------------


def load_music_model(folder: str, full_attention: bool | None = None) -> Any:
    """A `MuseformerForCausalLM`.

    Raises:
        InputError: It is not there, or of the other kind.
    """
    from ..configuration.configuration_museformer import MuseformerConfig
    from ..modeling.modeling_museformer import MuseformerForCausalLM

    check_folder(folder, ["config.json"], "give a trained Museformer")
    try:
        config = MuseformerConfig.from_pretrained(folder)
        if full_attention is not None and config.full_attention != full_attention:
            kinds = ("makes summaries", "has full attention")
            needed = ("one that makes summaries", "one with full attention")[full_attention]
            raise InputError(folder, f"{kinds[config.full_attention]}; give {needed}")
        return MuseformerForCausalLM.from_pretrained(folder, dtype="float32").eval().requires_grad_(False)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(folder, f"no Museformer can be loaded ({str(error).splitlines()[0]})") from error


# --- Perplexity -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def nats_of_chunks(
    model: Any,
    pieces: BarPieces,
    collate: BarCollate,
    plan: bool | None,
    track: Callable[..., Any],
    batch_size: int = 4,
) -> tuple[list[float], list[float]]:
    """Nats and predicted words of each chunk's first bars; with `plan` every bar sees its own summary."""
    nats, words = [], []
    starts = range(0, len(pieces.ids), batch_size)
    for start in track(starts, "perplexity", len(starts)):
        chunks = range(start, min(start + batch_size, len(pieces.ids)))
        rows = [{"ids": pieces.ids[k].astype(np.int64), "starts": pieces.starts[k]} for k in chunks]
        batch = {name: value.to(model.device) for name, value in collate(rows).items()}
        labels = batch.pop("labels")[:, 1:]
        logits = model(**batch, plan=plan, use_cache=False).logits[:, :-1].float()
        each = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none")  # 0 where −100
        nats += each.double().sum(1).tolist()
        words += (labels != -100).sum(1).double().tolist()
    return nats, words


def exponential(estimate: Estimate) -> Estimate:
    """Of a figure and its interval."""
    value, low, high = (math.exp(x) if x == x else x for x in (estimate.value, estimate.low, estimate.high))
    return Estimate(value, low, high, estimate.n, estimate.unit, estimate.groups, estimate.method)


def perplexities(
    model: Any, rivals: Mapping[str, Any], pieces: BarPieces, options: Options, request: EvaluationRequest,
    report: EvaluationReport,
) -> None:  # fmt: skip
    """Perplexity without a plan and with the bars' own summaries, and over that of each rival on the same words."""
    collate = BarCollate(options.bars, options.bars, options.max_tokens)
    groups = [about.get("piece_id") for about in pieces.about]

    def figure(nats: Sequence[float], words: Sequence[float]) -> Estimate:
        return exponential(ratio(nats, words, groups, seed=request.seed, unit="words"))

    free, words = nats_of_chunks(model, pieces, collate, None, request.track)
    planned, _ = nats_of_chunks(model, pieces, collate, True, request.track)
    report.figures["perplexity"] = figure(free, words)
    report.figures["perplexity_own_plan"] = figure(planned, words)
    for number, (name, rival) in enumerate(rivals.items()):
        theirs, _ = nats_of_chunks(rival, pieces, collate, None, request.track)
        over = figure([a - b for a, b in zip(free, theirs, strict=True)], words)
        weights = sum(p.numel() for p in rival.parameters())
        report.sections[f"rival: {name}"] = {
            "perplexity": figure(theirs, words),
            "perplexity_over_this": over,
            "parameters": Estimate(weights, weights, weights, 1, "models", 0, "point"),
        }
        if not number:
            report.figures["perplexity_over_full_attention"] = over
    if not rivals:
        report.notes.append(NOTES["rival"])
    report.notes.append(NOTES["data"].format(chunks=len(pieces.ids), bars=options.bars))


# --- Probes -----------------------------------------------------------------------------------------------------------


def measure_probes(
    model: Any, pieces: BarPieces, options: Options, request: EvaluationRequest, resamples: int = 200
) -> dict[str, Estimate]:
    """R² of a linear probe of each attribute of bars, on pieces it was not fitted on, with a bootstrap over pieces.

    The probe is fitted on training chunks of `--data`; where there are none, on every second held-out piece.
    """
    names = sorted({str(about.get("piece_id")) for about in pieces.about})
    fitted = BarPieces()
    tried = BarPieces()
    own = set(names[1::2])
    if request.data is not None and any(Path(request.data).rglob("train-*.parquet")):
        fitted, own = read_pieces(request.data, "train", options.probe_chunks), set(names)
    for ids, about in zip(pieces.ids, pieces.about, strict=True):
        (tried if str(about.get("piece_id")) in own else fitted).add(ids, **about)
    if not tried.ids or not fitted.ids:
        return {}
    x, y = summaries_and_attributes(model, fitted)
    x_test, y_test = summaries_and_attributes(model, tried)
    pieces_of = np.repeat([str(about.get("piece_id")) for about in tried.about], [len(s) for s in tried.starts])
    groups = [np.flatnonzero(pieces_of == name) for name in sorted(set(pieces_of.tolist()))]
    draw = np.random.default_rng(request.seed)
    draws = [
        np.concatenate([groups[k] for k in draw.integers(0, len(groups), len(groups))]) for _ in range(resamples)
    ]  # fmt: skip
    figures = {}
    for column, name in enumerate(BAR_ATTRIBUTES):
        value = probe(x, y[:, column], x_test, y_test[:, column])
        found = [probe(x, y[:, column], x_test[rows], y_test[rows, column]) for rows in draws]
        known = [one for one in found if one == one]
        low, high = np.percentile(known, [2.5, 97.5]) if known else (float("nan"), float("nan"))
        count = int(np.isfinite(y_test[:, column]).sum())
        figures[f"r2_{name}"] = Estimate(value, float(low), float(high), count, "bars", len(groups))
    return figures


# --- All together -----------------------------------------------------------------------------------------------------


def read_options(kind: Any, settings: Mapping[str, Any]) -> Any:
    """Settings as options.

    Raises:
        InputError: A setting that does not exist, or a value of another kind.
    """
    known = {one.name: one.default for one in fields(kind)}
    kinds: dict[type, tuple[type, ...]] = {float: (int, float), tuple: (tuple, list)}
    for name, value in settings.items():
        if name not in known:
            raise InputError(None, f"there is no setting {name!r}; choose among {', '.join(known)}")
        default = known[name]
        right = kinds.get(type(default), (type(default),))
        if default is not None and (
            not isinstance(value, right) or isinstance(value, bool) != isinstance(default, bool)
        ):
            raise InputError(None, f"{name} is {value!r}; a value such as {default!r} is needed")
    return kind(**settings)


def evaluate_museformer(
    request: EvaluationRequest,
    *,
    rivals: Mapping[str, str] | None = None,
    model: Any = None,
    **settings: Any,
) -> EvaluationReport:
    """Measures a Museformer.

    Args:
        request: Checkpoint, data, seed; `n` held-out chunks for the perplexity, and as many songs of each kind.
        rivals: Folders of models with full attention by name; the first is the one of the target.
        model: The model; that of `request.checkpoint` when left out.
        **settings: Fields of `Options`.

    Raises:
        InputError: No checkpoint, no data, a rival of another kind, or a setting that does not exist.
    """
    options = read_options(Options, settings)
    writing = vars(options.writing())
    others = {name: load_music_model(folder, True) for name, folder in (rivals or {}).items()}
    model = load_music_model(request.checkpoint, False) if model is None else model
    failures: list[Failure] = []
    pieces, what = held_out_pieces(request, request.n, failures)
    real = real_songs(pieces, options.num_bars, request.n, request.seed)
    report = EvaluationReport(
        request.stem, request.checkpoint, what, request.n, request.seed, targets=dict(TARGETS), failures=failures,
        task="other", dataset_type="bar_midi",
    )  # fmt: skip
    report.facts["parameters"] = sum(p.numel() for p in model.parameters())
    report.facts["writing"] = writing
    perplexities(model, others, pieces, options, request, report)
    times = token_times(model, pieces, (options.early, options.late), options.rounds)
    report.figures["late_over_early"] = times.pop("late_over_early")
    report.sections["speed"] = times
    report.notes.append(NOTES["speed"].format(early=options.early, late=options.late, rounds=options.rounds))
    for name, rival in others.items():
        found = token_times(rival, pieces, (options.early, options.late), options.rounds)
        report.sections[f"rival: {name}"] |= found
    write_songs(model, real, options, request, report)
    report.notes.append(NOTES["songs"].format(names=", ".join(KEPT)))
    if not options.quick:
        report.sections["linear probes of the summaries"] = measure_probes(model, pieces, options, request)
        if options.train_tokens and request.baselines:
            costs = training_costs(model.config, pieces, options.train_tokens, options.rounds, model.device)
            report.figures |= costs.pop("over")
            report.sections |= {f"training step, {name}": section for name, section in costs.items()}
            report.notes.append(NOTES["training"].format(length=options.train_tokens))
    return report


__all__ = ["TARGETS", "Options", "evaluate_museformer", "load_music_model", "read_options"]
