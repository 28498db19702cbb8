"""The data set of edits: rows that hold, splits without overlap, going on after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from intermezzo.datasets_scripts import build_edits, edit_pairs
from intermezzo.datasets_scripts.edit_programs import apply_steps
from intermezzo.datasets_scripts.guitar_parts import split_of
from intermezzo.processing.edit_language import parse_program
from intermezzo.processing.errors import InputError
from intermezzo.train.metrics_edit import judge_chain

COUNT = 60


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("edits")
    report = build_edits.build(out, generated=COUNT, seed=3, shard_size=25, progress=False)
    assert sum(report["rows"].values()) + report["skipped"] + report["failures"] == COUNT and report["failures"] <= 1
    return out


def test_rows_are_what_they_say(built: Path) -> None:
    rows = rows_of(built)
    assert len(rows) > COUNT / 2 and {row["language"] for row in rows} == {"zh", "en"}
    for row in rows[:12]:
        program = parse_program(row["program"])
        texts = apply_steps(row["before"], program, row["seed"])
        assert texts[-1] == row["after"] != row["before"]
        assert judge_chain(texts, program).right


def test_neither_pieces_nor_wordings_cross_the_splits(built: Path) -> None:
    rows = rows_of(built)
    assert {row["split"] for row in rows} >= {"train", "test"}
    for row in rows:
        assert row["split"] == split_of(row["piece_id"])
    held = {row["before"] for row in rows if row["split"] != "train"}
    assert not held & {row["before"] for row in rows if row["split"] == "train"}


def test_an_interrupted_build_goes_on_to_the_same_rows(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rows_of(built)
    files = sorted((built / "data").glob("*.parquet"))
    files[0].unlink()
    made: list[str] = []
    original = build_edits.make_pair
    monkeypatch.setattr(build_edits, "make_pair", lambda p, s, r: (made.append(p.piece_id), original(p, s, r))[1])
    build_edits.build(built, generated=COUNT, seed=3, shard_size=25, progress=False)
    assert rows_of(built) == before and 0 < len(made) <= 25
    with pytest.raises(InputError, match="other seed"):
        build_edits.build(built, generated=COUNT, seed=4, shard_size=25, progress=False)


def test_own_files_come_in_and_bad_ones_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    music = tmp_path / "music"
    music.mkdir()
    (music / "good.alphatex").write_text("\\staff {tabs}\n" + "0.1.4 3.1.4 5.2.4 3.2.4 |\n" * 4, encoding="utf-8")
    (music / "bad.alphatex").write_text("3.3.4 oops", encoding="utf-8")
    out = tmp_path / "out"
    flags = ["--out", str(out), "--generated", "0", "--music", str(music), "--per-piece", "3", "--quiet"]
    assert build_edits.main(flags) == 1
    assert "bad.alphatex" in (out / "failures.tsv").read_text(encoding="utf-8")
    assert {row["piece_id"] for row in rows_of(out)} == {"good.alphatex-0"} and len(rows_of(out)) == 3
    assert "1 failed" in capsys.readouterr().err
    assert json.loads((out / "build.json").read_text(encoding="utf-8"))["per_piece"] == 3
    assert build_edits.main(["--out", str(tmp_path / "x"), "--music", str(tmp_path / "none"), "--quiet"]) == 1


def test_what_the_judge_refuses_is_never_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from intermezzo.train import metrics_edit

    monkeypatch.setattr(metrics_edit, "judge_chain", lambda *_: metrics_edit.EditVerdict(why="a wrong note"))
    report = build_edits.build(tmp_path, generated=3, seed=1, progress=False)
    assert report["failures"] == 3 - report["skipped"] > 0 and not rows_of(tmp_path)
    assert "a wrong note" in (tmp_path / "failures.tsv").read_text(encoding="utf-8")
    assert edit_pairs.WrongEdit.__doc__
