"""A mixed pack: many hands in their shares, parts that go on where they stopped, and everything counted."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intermezzo.datasets_scripts import engravers
from intermezzo.datasets_scripts.engravers import available
from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.dense_labels import build_label_space
from intermezzo.processing.errors import InputError
from intermezzo.train import score_vlm_pack_mixed, train_score_vlm
from intermezzo.train.arguments import parse_arguments
from intermezzo.train.score_vlm_data import PackedSystems, SystemRow
from intermezzo.train.score_vlm_pack_mixed import (
    Mix,
    counts_table,
    engraved_rows,
    mixed_rows,
    pack_mixed,
    settled,
)
from intermezzo.train.score_vlm_seen import Lost, places_of, seen

from .test_score_vlm_data import TEXT, system

SPACE = build_label_space([read_alphatex(TEXT)])
MIX = Mix(23, 1, engravers={"alphatab": 0.5, "vexflow": 0.3, "musescore": 0.2}, degrade=0.5, part_systems=8)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Streams of one small picture in place of engravers; counts what was asked for."""
    asked: Counter[str] = Counter()
    row = system("system_thin")

    def stream(name: str, mix: Mix, part: int):
        for number in itertools.count():
            asked[f"{name} {part}"] += 1
            if name == "musescore" and number % 3 == 0:
                yield Lost(f"{name} {number}", "not drawn truly by musescore")
            elif name == "vexflow" and number == 0 and part == 0:
                yield InputError("a system", "ink spilt")
            else:
                yield replace(row, name=f"{name} {part} {number}")

    monkeypatch.setattr(score_vlm_pack_mixed, "_stream", stream)
    monkeypatch.setattr(score_vlm_pack_mixed, "label_space", lambda: SPACE)
    monkeypatch.setattr(engravers, "available", lambda names, warn=True: list(names))
    return asked


def content(folder: Path) -> dict[str, bytes]:
    """All files but arrays, whose archive holds the time."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".npz")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_parts_are_read_together_and_all_is_counted(tmp_path: Path, drawn: Counter[str]) -> None:
    failures, counts = pack_mixed(MIX, tmp_path / "m")
    parts = sorted(path.name for path in (tmp_path / "m").iterdir() if path.is_dir())
    assert parts == ["part-0000", "part-0001", "part-0002"]
    packed = PackedSystems([tmp_path / "m"])
    assert len(packed) == counts["packed"] == sum(n for name, n in counts.items() if name.startswith("picture: "))
    assert counts["packed"] == sum(n for name, n in counts.items() if name.startswith("by "))
    lost = sum(n for name, n in counts.items() if name.startswith("lost: "))
    assert counts["packed"] + lost + counts["failed"] == MIX.count
    assert counts["lost: not drawn truly by musescore"] and counts["picture: clean"] < counts["packed"]
    assert failures == ["a system: ink spilt"] and counts["failed"] == 1
    assert counts_table(counts).splitlines()[0].split() == [str(counts["packed"]), "packed"]
    recipes = {row["name"].rsplit(" ", 2)[1] for _, row, _ in packed.rows if row["name"][-3] == "."}
    assert recipes  # a degraded system says how it was spoilt
    assert packed[0]["labels"].beats.shape == (4, 8) and list(packed.texts()) == [TEXT] * len(packed)


def test_a_stopped_pack_goes_on_to_the_same_bytes(
    tmp_path: Path, drawn: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pack_mixed(MIX, tmp_path / "whole")
    real, calls = score_vlm_pack_mixed.seen, itertools.count()

    def stop(row: SystemRow):
        if next(calls) == 6:
            raise KeyboardInterrupt
        return real(row)

    monkeypatch.setattr(score_vlm_pack_mixed, "seen", stop)
    with pytest.raises(KeyboardInterrupt):
        pack_mixed(MIX, tmp_path / "m")
    monkeypatch.setattr(score_vlm_pack_mixed, "seen", real)
    assert list((tmp_path / "m").glob("*.unfinished")) and not (tmp_path / "m" / "part-0002").exists()
    pack_mixed(MIX, tmp_path / "m")
    assert content(tmp_path / "m") == content(tmp_path / "whole")


def test_the_same_command_makes_what_lacks(tmp_path: Path, drawn: Counter[str]) -> None:
    pack_mixed(MIX, tmp_path / "m")
    before = content(tmp_path / "m")
    (tmp_path / "m" / "part-0001" / "index.json").unlink()
    (tmp_path / "m" / "part-0002.unfinished").mkdir()
    (tmp_path / "m" / "part-0002" / "index.json").unlink()
    drawn.clear()
    _, counts = pack_mixed(MIX, tmp_path / "m")
    assert {name[-1] for name in drawn} == {"1", "2"}  # part 0 was not made again
    assert content(tmp_path / "m") == before
    assert _tried(counts) == MIX.count


def _tried(counts: Counter[str]) -> int:
    return sum(n for name, n in counts.items() if name in ("packed", "failed") or name.startswith("lost"))


def test_more_can_be_asked_for_and_other_settings_not(tmp_path: Path, drawn: Counter[str]) -> None:
    pack_mixed(replace(MIX, count=12), tmp_path / "m")
    first = content(tmp_path / "m" / "part-0000")
    _, counts = pack_mixed(MIX, tmp_path / "m")
    assert _tried(counts) == MIX.count and content(tmp_path / "m" / "part-0000") == first
    pack_mixed(MIX, tmp_path / "other")
    assert content(tmp_path / "other") == content(tmp_path / "m")
    with pytest.raises(InputError, match=r"other settings \(degrade\)"):
        pack_mixed(replace(MIX, degrade=0.1), tmp_path / "m")
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "index.json").write_text("{}")
    with pytest.raises(InputError, match="without parts"):
        pack_mixed(MIX, tmp_path / "plain")


def test_shares_are_kept(drawn: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_vlm_pack_mixed, "seen", lambda row: row)
    mix = replace(MIX, degrade=0.0)
    names = Counter(name for name, *_ in mixed_rows(mix, 3, 200))
    for name, share in mix.engravers.items():
        assert names[name] / 200 == pytest.approx(share, abs=0.09)


def test_degraded_pictures_went_through_the_page_finder(drawn: Counter[str]) -> None:
    rows = list(mixed_rows(replace(MIX, degrade=1.0, engravers={"alphatab": 1.0}), 0, 12))
    kept = [row for _, _, row in rows if isinstance(row, SystemRow)]
    assert len(kept) > 4 and all(row.canvas is not None for row in kept)
    assert len({recipe for _, recipe, _ in rows}) > 3 and "clean" not in {recipe for _, recipe, _ in rows}
    again = [row for _, _, row in mixed_rows(replace(MIX, degrade=1.0, engravers={"alphatab": 1.0}), 0, 12)]
    for (_, _, one), two in zip(rows, again, strict=True):
        if isinstance(one, SystemRow):
            np.testing.assert_array_equal(one.canvas[0], two.canvas[0])


def test_a_missing_engraver_is_left_out_and_the_rest_weighted_anew(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from intermezzo.datasets_scripts.engravers import musescore, vexflow

    monkeypatch.setattr(musescore, "absent", lambda: "webmscore is not installed")
    monkeypatch.setattr(vexflow, "absent", lambda: None)
    assert settled(MIX).engravers == {"alphatab": 0.5 / 0.8, "vexflow": 0.3 / 0.8}
    assert "musescore left out: webmscore is not installed" in capsys.readouterr().err
    with pytest.raises(InputError, match="none of the engravers musescore"):
        settled(replace(MIX, engravers={"musescore": 1.0}))
    with pytest.raises(InputError, match="no engraver 'finale'"):
        settled(replace(MIX, engravers={"finale": 1.0}))


@pytest.mark.parametrize("wrong", [
    {"degrade": 1.5}, {"decorations": -0.1}, {"count": 0}, {"engravers": {"alphatab": 0.0}},
    {"engravers": {"alphatab": -1.0}}, {"part_systems": 0},
])  # fmt: skip
def test_wrong_wishes_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError):
        replace(MIX, **wrong)


def test_the_command_asks_for_this_mix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr(
        score_vlm_pack_mixed, "pack_mixed", lambda mix, folder: (asked.append((mix, folder)), ([], Counter()))[1]
    )
    flags = ["--stage", "pack", "--output_dir", str(tmp_path), "--max_steps", "1", "--seed", "7", "--degrade", "0.45"]
    wishes = ["--generate", "90", "--engravers", "alphatab=0.6", "vexflow=0.4", "--decorations", "0.5"]
    classes = (train_score_vlm.ScoreVLMArguments, train_score_vlm.TrainingArguments)
    train_score_vlm.run_pack(*parse_arguments(classes, flags + wishes))
    mix, folder = asked[0]
    assert folder == tmp_path and (mix.count, mix.seed, mix.split, mix.degrade) == (90, 7, "train", 0.45)
    assert mix.engravers == {"alphatab": 0.6, "vexflow": 0.4} and mix.decorations == 0.5
    with pytest.raises(InputError, match="--generate COUNT"):
        train_score_vlm.run_pack(*parse_arguments(classes, [*flags, "--pages", "5"]))


@pytest.mark.parametrize("name", ["vexflow", "musescore"])
def test_other_hands_draw_what_the_row_says(name: str) -> None:
    if name not in available(warn=False):
        pytest.skip(f"{name} is not installed")
    rows = list(itertools.islice(engraved_rows(name, 3, replace(MIX, continuations=0.6, retimings=0.3)), 8))
    kept = [row for row in rows if isinstance(row, SystemRow)]
    assert len(kept) >= 3 and not [row for row in rows if isinstance(row, InputError)]
    hits = 0
    for row in kept:
        found = seen(row)
        hits += isinstance(found, SystemRow)
        score = read_alphatex(row.text)
        assert len(row.bar_x) == len(score.staves[0].bars) and len(row.beat_x) == sum(1 for _ in score.beats())
        assert (score.staves[0].bars[0].time_signature is None) <= (name == "vexflow")
        assert len(places_of(row)) == len(row.beat_x) + 2 * len(row.bar_x) + 9 * len(row.tab_line_ys)
    assert hits >= len(kept) - 1


def test_counts_are_kept_in_each_part(tmp_path: Path, drawn: Counter[str]) -> None:
    _, counts = pack_mixed(MIX, tmp_path / "m")
    files = [json.loads(path.read_text()) for path in sorted((tmp_path / "m").glob("part-*/counts.json"))]
    total: Counter[str] = Counter()
    for found in files:
        total.update(found)
    assert total == counts
