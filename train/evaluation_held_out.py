"""The held-out systems of an evaluation, drawn on the spot: pieces of the test split only, whatever the seed.

Two sets: parts as they are played (real melodies, and parts made as guitarists and bassists play), which the figures
are about; and wild parts (any fret on any string in any rhythm, with techniques anywhere), which nobody plays. They are
a test of strength beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .evaluation_report import Failure

if TYPE_CHECKING:
    from ..datasets_scripts.score_tab_jobs import JobList, SystemJob

CORPUS_SHARE = 0.25
SYSTEMS_OF_A_PIECE = 4  # many pieces say more than many systems of one piece: they are alike
WILD = "wild"  # kind of the pieces that are made so
SPARE = 0.02  # systems beyond those asked for, in place of some that can not be drawn


def held_out_jobs(
    n: int, seed: int, failures: list[Failure], corpus_share: float | None = None, wild: bool = False
) -> list[SystemJob]:
    """Systems of unseen pieces: real music of the music21 corpus and parts made by rule.

    A piece belongs to a split by a hash of its name alone, so no training set of ours has one of these pieces.

    Args:
        n: Number of systems.
        seed: Decides pieces, cuts and styles.
        failures: Files and systems that gave nothing are added here.
        corpus_share: Share of systems from the corpus (`CORPUS_SHARE` when `None`); fewer when it has no more.
        wild: Wild parts alone, and nothing of the corpus; otherwise none of them.
    """
    from ..datasets_scripts.guitar_parts import generate_piece, piece_seeds
    from ..datasets_scripts.score_tab_jobs import JobList

    jobs = JobList()
    share = 0.0 if wild else CORPUS_SHARE if corpus_share is None else corpus_share
    made = _add_corpus(jobs, round(n * share), seed, failures)
    for candidate in piece_seeds(seed, "test"):
        if made >= n:
            break
        piece = generate_piece(candidate)
        if (piece.kind == WILD) == wild:
            made += jobs.add(piece, seed, min(SYSTEMS_OF_A_PIECE, n - made))
    failures += [Failure(where, "build", what) for where, what in jobs.failures]
    return jobs.jobs.get("test", [])


def _add_corpus(jobs: JobList, wanted: int, seed: int, failures: list[Failure]) -> int:
    """Add up to `wanted` systems of the corpus, at most a few of each piece; returns how many."""
    from ..datasets_scripts.guitar_parts import split_of
    from ..datasets_scripts.music_sources import corpus_paths, pieces_of_file, work_of
    from ..processing.errors import InputError

    made = 0
    for path in corpus_paths() if wanted else []:
        if made >= wanted:
            break
        if split_of(work_of(path)) != "test":  # known before the file is read, which takes longest
            continue
        try:
            pieces = pieces_of_file(path, "corpus")
        except (InputError, ValueError) as error:
            failures.append(Failure(path.name, "build", str(error).removeprefix(f"{path}: ")))
            continue
        for piece in pieces:
            if piece.split == "test" and made < wanted:
                made += jobs.add(piece, seed, min(SYSTEMS_OF_A_PIECE, wanted - made))
    return made


def build_held_out(
    n: int, seed: int, out: Path, failures: list[Failure], *, progress: bool = True, wild: bool = False
) -> Path:
    """Draw at least `n` held-out systems (a few spare ones) to one Parquet file, unless it is there already.

    Args:
        n: Number of systems.
        seed: Decides pieces, cuts and styles; the same seed gives the same pictures.
        out: Folder of the file.
        failures: What could not be drawn is added here.
        progress: Show a progress bar on standard error.
        wild: Wild parts in place of parts as they are played.

    Returns:
        The file, columns as `datasets_scripts.build_score_tab` writes them.
    """
    from ..datasets_scripts.build_score_tab import FORMAT, draw, features

    path = out / f"score_tab_{'wild' if wild else 'played'}_v{FORMAT}_n{n}_seed{seed}.parquet"
    if path.exists():
        return path
    from datasets import Dataset, disable_progress_bars

    from ..datasets_scripts.render.client import AlphaTabPool

    rows = []
    jobs = held_out_jobs(n + math.ceil(n * SPARE), seed, failures, wild=wild)
    with AlphaTabPool(workers=1) as pool:
        results: Iterator = draw(jobs, pool)
        if progress:
            from tqdm import tqdm

            results = tqdm(results, total=len(jobs), desc="draw held-out systems", unit="system")
        for job, result in results:
            if isinstance(result, str):
                failures.append(Failure(f"{job.piece_id}, system {job.system + 1}", "build", result))
            else:
                rows.append(result)
    out.mkdir(parents=True, exist_ok=True)
    disable_progress_bars()
    part = path.with_suffix(".part")
    Dataset.from_list(rows, features=features()).to_parquet(str(part))
    part.replace(path)  # the file appears whole or not at all
    return path
