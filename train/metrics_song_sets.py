"""Figures of sets of songs: how much they differ bar by bar, how they are distributed, and what MusPy says of them.

Sources: Fréchet distance of two normal distributions D. Dowson and B. Landau, J. Multivariate Analysis 12 (1982),
450-455; MusPy H.-W. Dong et al. (arXiv 2008.01951).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from ..processing.bar_midi_vocabulary import BAR_ID, KIND_OF, KINDS, PLACE_OF, SIGNATURE_TICKS
from ..processing.errors import InputError
from ..processing.music_wishes import QUARTILES
from .metrics_common import Estimate, ratio

#: Features of the Fréchet distance: every attribute that is a number, and the mode as ±1.
FEATURES = (*QUARTILES, "mode")
_PLACES = 16  # of onsets in a bar, whatever its metre
_LENGTHS = np.array([2, 4, 7, 10, 15, 25, 49])  # ticks from which a class of note lengths begins, twelve to a quarter


# --- How much songs differ --------------------------------------------------------------------------------------------


def bar_histograms(ids: Any) -> np.ndarray:
    """What happens in each bar of a text, float64 `(N, 36)`.

    Three histograms of the notes of a bar, each of sum 1 (0 for silent bars): pitch classes (12, drums left out),
    sixteenths of the bar at which they begin (16), and classes of length (8).
    """
    ids = np.asarray(ids)
    edges = [*np.flatnonzero(ids == BAR_ID).tolist(), len(ids)]
    rows = np.zeros((len(edges) - 1, 12 + _PLACES + len(_LENGTHS) + 1))
    numbers = {name: KINDS.index(name) for name in ("TimeSig", "Position", "Pitch", "PitchDrum", "Duration")}
    for bar in range(len(edges) - 1):
        part = ids[edges[bar] : edges[bar + 1]]
        kind, place = KIND_OF[part], PLACE_OF[part]
        signs = place[kind == numbers["TimeSig"]]
        ticks = int(SIGNATURE_TICKS[signs[0]]) if len(signs) else 48
        is_note = (kind == numbers["Pitch"]) | (kind == numbers["PitchDrum"])
        spoken = np.where(kind == numbers["Position"], np.arange(len(part)), 0)
        onsets = place[np.maximum.accumulate(spoken)][is_note]
        columns = (
            (place[kind == numbers["Pitch"]] % 12, 12),
            (np.minimum(onsets * _PLACES // max(ticks, 1), _PLACES - 1), _PLACES),
            (np.searchsorted(_LENGTHS, place[kind == numbers["Duration"]] + 1, side="right"), len(_LENGTHS) + 1),
        )
        parts = [np.bincount(values, minlength=size).astype(float) for values, size in columns]
        rows[bar] = np.concatenate([part / max(part.sum(), 1.0) for part in parts])
    return rows


def song_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean distance of bars at the same place, 0 (equal) … 1 (nothing in common); `nan` without a common place.

    The distance of two bars is the mean, over the three histograms, of half their absolute difference; of a silent bar
    and one with notes it is 1.

    Args:
        first: From `bar_histograms`, `(N, 36)`.
        second: `(M, 36)`; the bars that only one song has are left out.
    """
    count = min(len(first), len(second))
    if not count:
        return float("nan")
    gaps = np.abs(first[:count] - second[:count])
    parts = np.split(gaps, [12, 12 + _PLACES], axis=1)
    each = np.stack([0.5 * part.sum(1) for part in parts], axis=1).mean(1)  # (N,)
    silent = (first[:count].sum(1) == 0) != (second[:count].sum(1) == 0)
    return float(np.where(silent, 1.0, each).mean())


def mean_distance(songs: Sequence[np.ndarray], groups: Sequence[Hashable] | None = None, within: bool = True) -> float:
    """Mean distance over pairs of songs; `nan` without a pair.

    Args:
        songs: From `bar_histograms`.
        groups: Text (or piece) of each song.
        within: Pairs within a group; else pairs of different groups.
    """
    names = list(range(len(songs))) if groups is None else list(groups)
    pairs = [(a, b) for a in range(len(songs)) for b in range(a) if groups is None or (names[a] == names[b]) == within]
    found = [song_distance(songs[a], songs[b]) for a, b in pairs]
    return float(np.nanmean(found)) if found else float("nan")


def diversity_against_real(
    made: Mapping[Any, Sequence[Any]], real: Sequence[Any], pieces: Sequence[Hashable], seed: int = 0
) -> dict[str, Estimate]:
    """How much the samples of one text differ, over how much real pieces do.

    Args:
        made: Texts of words by prompt; pairs are of one prompt.
        real: Texts of words of real music; pairs are of different pieces.
        pieces: Piece of each.
        seed: Of the bootstrap over prompts; the real pieces' figure is held fast.

    Returns:
        `bar_distance`, `bar_distance_real` and `diversity_against_real`, their ratio.
    """
    own = [mean_distance([bar_histograms(ids) for ids in songs]) for songs in made.values()]
    own = [value for value in own if value == value]
    base = mean_distance([bar_histograms(ids) for ids in real], pieces, within=False) or float("nan")
    mean = ratio(own, [1.0] * len(own), seed=seed, unit="prompts")
    flat = Estimate(base, base, base, len(real), "songs", len(set(pieces)), "point")
    scaled = Estimate(mean.value / base, mean.low / base, mean.high / base, mean.n, "prompts", mean.groups)
    return {"diversity_against_real": scaled, "bar_distance": mean, "bar_distance_real": flat}


# --- Distribution -----------------------------------------------------------------------------------------------------


def feature_rows(measured: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """`FEATURES` of measurements, float64 `(n, 9)`; songs in which one of them is not measured are left out."""
    rows = []
    for values in measured:
        row = [values.get(name) for name in FEATURES[:-1]]
        row.append({"major": 1.0, "minor": -1.0}.get(str(values.get("mode"))))
        if all(value is not None and value == value for value in row):
            rows.append(row)
    return np.array(rows, dtype=np.float64).reshape(-1, len(FEATURES))


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance (squared) of two sets of features `(n, K)`, `(m, K)`; `nan` for fewer than two rows."""
    if len(first) < 2 or len(second) < 2:
        return float("nan")
    gap = first.mean(0) - second.mean(0)
    one, two = np.atleast_2d(np.cov(first.T)), np.atleast_2d(np.cov(second.T))
    # The trace of the root of one·two is the sum of the roots of its eigenvalues, which are real and not negative.
    roots = np.sqrt(np.clip(np.linalg.eigvals(one @ two).real, 0.0, None)).sum()
    return float(max(gap @ gap + np.trace(one) + np.trace(two) - 2 * roots, 0.0))


def frechet_figures(
    made: Sequence[Mapping[str, Any]], real: Sequence[Mapping[str, Any]], seed: int = 0, resamples: int = 200
) -> dict[str, Estimate]:
    """Fréchet distance of songs to real music in `FEATURES`, each in standard deviations of the real music.

    A resample repeats songs, which widens the distance, so the interval lies high rather than low. `frechet_real` is
    that of two halves of the real music: what can be hoped for with so few songs.
    """
    a, b = feature_rows(made), feature_rows(real)
    if len(b) > 1:
        spread = np.maximum(b.std(0), 1e-9)
        a, b = a / spread, b / spread
    draw = np.random.default_rng(seed)

    def estimate(one: np.ndarray, two: np.ndarray) -> Estimate:
        value = frechet(one, two)
        if value != value:
            return Estimate(value, value, value, 0, "songs")
        found = [
            frechet(one[draw.integers(0, len(one), len(one))], two[draw.integers(0, len(two), len(two))])
            for _ in range(resamples)
        ]
        low, high = np.percentile(found, [2.5, 97.5])
        return Estimate(value, float(low), float(high), len(one), "songs")

    order = draw.permutation(len(b))
    return {"frechet": estimate(a, b), "frechet_real": estimate(b[order[::2]], b[order[1::2]])}


# --- MusPy ------------------------------------------------------------------------------------------------------------


def load_muspy() -> Any:
    """The package `muspy`.

    Raises:
        InputError: It is not installed.
    """
    try:
        import muspy
    except ImportError as error:
        raise InputError(
            None, f"MusPy's figures need a package ({error}); try: pip install 'intermezzo[metrics]'"
        ) from error
    return muspy


def muspy_music(muspy: Any, score: Any) -> Any:
    """A `symusic.Score` in ticks as MusPy's `Music`."""
    tracks = [
        muspy.Track(
            program=int(track.program), is_drum=bool(track.is_drum),
            notes=[muspy.Note(note.time, note.pitch, max(note.duration, 1), note.velocity) for note in track.notes],
        )
        for track in score.tracks
    ]  # fmt: skip
    return muspy.Music(resolution=score.ticks_per_quarter, tracks=tracks)


#: MusPy's metrics that are reported.
MUSPY = (
    "pitch_range", "n_pitches_used", "n_pitch_classes_used", "polyphony", "polyphony_rate", "pitch_entropy",
    "pitch_class_entropy", "scale_consistency", "empty_beat_rate", "groove_consistency",
)  # fmt: skip


def muspy_figures(
    scores: Sequence[Any], groups: Sequence[Hashable] | None = None, seed: int = 0, muspy: Any = None
) -> dict[str, Estimate]:
    """Means of MusPy's metrics over songs, with a bootstrap over groups; drums count where MusPy counts them.

    Args:
        scores: `symusic.Score`s in ticks.
        groups: Piece of each.
        seed: Of the bootstrap.
        muspy: The package; loaded when left out.

    Raises:
        InputError: MusPy is not installed.
    """
    muspy = load_muspy() if muspy is None else muspy
    found: dict[str, list[float]] = {name: [] for name in MUSPY}
    for score in scores:
        music = muspy_music(muspy, score)
        for name in MUSPY:
            metric: Callable[..., float] = getattr(muspy, name)
            # A bar of 4/4 stands for all metres: the metric takes one number for the whole song.
            extra = {"measure_resolution": 4 * music.resolution} if name == "groove_consistency" else {}
            try:
                found[name].append(float(metric(music, **extra)))
            except (ValueError, ZeroDivisionError, IndexError):  # silent songs
                found[name].append(float("nan"))
    figures = {}
    for name, values in found.items():
        has = [value == value for value in values]
        kept = None if groups is None else [group for group, here in zip(groups, has, strict=True) if here]
        known = [value for value in values if value == value]
        figures[name] = ratio(known, [1.0] * len(known), kept, seed=seed, unit="songs")
    return figures


__all__ = [
    "FEATURES",
    "MUSPY",
    "bar_histograms",
    "diversity_against_real",
    "feature_rows",
    "frechet",
    "frechet_figures",
    "load_muspy",
    "mean_distance",
    "muspy_figures",
    "song_distance",
]
