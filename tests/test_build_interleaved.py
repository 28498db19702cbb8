"""Lessons: what each kind says, splits, resuming, bad inputs."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from intermezzo.datasets_scripts.build_interleaved import build, main, piece_and_place
from intermezzo.datasets_scripts.interleaved_lessons import (
    _MAKERS,
    System,
    joined,
    lessons_of,
    moved_frets,
    part_codes,
)
from intermezzo.processing.alphatex_grammar import bars_close, read_alphatex, write_alphatex
from intermezzo.processing.errors import InputError

from .tiny_lessons import lessons_folder, packed_folder, pieces, system_row, text_of, tiny_image_vq


def rows_of(folder: Path, split: str = "train") -> list[dict]:
    files = sorted((folder / "data").glob(f"{split}-*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lessons_folder(tmp_path_factory.mktemp("lessons"), shard_systems=3)


def system(frets: tuple[int, ...] = (3, 5, 7, 0), width: int = 12) -> System:
    draw = np.random.default_rng(1)
    before = System(text_of((1, 1, 2, 2)), draw.integers(0, 16, (6, 9)), "a", "a 0")
    return System(text_of(frets), draw.integers(0, 16, (6, width)), "a", "a 1", before)


# --- the lessons ------------------------------------------------------------------------------------------------------


def test_every_lesson_asks_and_answers() -> None:
    one = system()
    for kind, make in _MAKERS.items():
        for seed in range(8):
            parts = make(one, random.Random(seed))
            if parts is None:
                assert kind == "again"  # five frets down from fret 3
                continue
            roles = [part["role"] for part in parts]
            assert roles == sorted(roles, reverse=True) and roles[-1] == "assistant" and roles[0] == "user", kind
            if parts[-1]["kind"] == "text":
                score = read_alphatex(parts[-1]["text"])
                assert bars_close(score) and write_alphatex(score) == parts[-1]["text"]
            else:
                assert part_codes(parts[-1]).shape[0] == 6


def test_what_each_lesson_says() -> None:
    one, draw = system(), random.Random(3)
    assert _MAKERS["read"](one, draw)[1]["text"] == one.text
    assert np.array_equal(part_codes(_MAKERS["draw"](one, draw)[1]), one.codes)
    left, right = (part_codes(part) for part in _MAKERS["continue"](one, draw))
    assert np.array_equal(np.concatenate([left, right], axis=1), one.codes) and min(left.shape[1], right.shape[1]) >= 4
    first, second, answer = _MAKERS["join"](one, draw)
    assert np.array_equal(part_codes(first), one.before.codes) and np.array_equal(part_codes(second), one.codes)
    assert answer["text"] == one.before.text + one.text.partition("\n")[2]
    said = {_MAKERS["again"](system((12, 12, 12, 12)), random.Random(s))[2]["text"] for s in range(40)}
    assert any("octave up" in text for text in said) and any("高八度" in text for text in said)


def test_again_is_so_many_frets_away_as_it_says() -> None:
    ways = set()
    for seed in range(60):
        parts = _MAKERS["again"](system((12, 12, 12, 12)), random.Random(seed))
        asked = parts[2]["text"]
        by = 12 if "octave" in asked or "八度" in asked else int("".join(c for c in asked if c.isdigit()))
        up = "up" in asked or "高" in asked
        bars = read_alphatex(parts[-1]["text"]).staves[0].bars
        frets = [{note.fret for beat in bar.voices[0] for note in beat.notes} for bar in bars]
        assert frets == [{12}, {12 + by if up else 12 - by}]
        ways.add((by, up))
    assert len(ways) > 6


@pytest.mark.parametrize(
    ("text", "frets", "wanted"),
    [
        ("3.3.4 0.1{x}.4 r.2 |", 2, "5.3.4 0.1{x}.4 r.2 |"),
        ("3.3.4 24.1.4 r.2 |", 1, None),
        ("3.3.4 0.1.4 r.2 |", -1, None),
        ("r.1 |", 1, None),
        ("3.3{tr 5}.4 3.3.4 r.2 |", 1, None),
    ],
)
def test_moved_frets(text: str, frets: int, wanted: str | None) -> None:
    score = read_alphatex(f"\\staff {{tabs}}\n{text}\n")
    before = write_alphatex(score)
    moved = moved_frets(score, frets)
    assert (None if moved is None else write_alphatex(moved)) == (wanted and f"\\staff {{tabs}}\n{wanted}\n")
    assert write_alphatex(score) == before


def test_systems_of_other_staves_are_not_joined() -> None:
    a, b = (read_alphatex(f"\\staff {{{show}}}\n3.3.1 |\n") for show in ("tabs", "score tabs"))
    assert joined(a, b) is None and len(joined(a, a).staves[0].bars) == 2 and len(a.staves[0].bars) == 1


def test_the_third_lesson_follows_the_seed() -> None:
    one = system()
    found = {lessons_of(one, seed)[2][0] for seed in range(30)}
    assert found == {"continue", "again", "join", "text", "picture"}
    assert str(lessons_of(one, 5)) == str(lessons_of(one, 5))
    assert [kind for kind, _ in lessons_of(one, 0, ("draw", "text"))] == ["draw", "text"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("generated-04 12", ("generated-04", 12)), ("page 9 1 system 3", ("page 9 1", 3)), ("song", ("song", 0))],
)
def test_names_of_pieces(name: str, wanted: tuple[str, int]) -> None:
    assert piece_and_place(name) == wanted


# --- the data set -----------------------------------------------------------------------------------------------------


def test_rows_hold_codes_of_the_tokenizer_and_pieces_stay_apart(lessons: Path) -> None:
    train, held_out = rows_of(lessons), rows_of(lessons, "validation")
    assert len(train) == 24 and len(held_out) == 12
    assert not {row["piece_id"] for row in train} & {row["piece_id"] for row in held_out}
    assert {"read", "draw"} < {row["lesson"] for row in train}
    grids = [part_codes(part) for row in train for part in row["parts"] if part["kind"] == "picture"]
    assert all(grid.min() >= 0 and grid.max() < 16 for grid in grids)
    assert len({grid.tobytes() for grid in grids}) > 4
    joins = [row for row in train + held_out if row["lesson"] == "join"]
    assert all(row["name"].endswith(" 1") for row in joins)


def test_codes_do_not_depend_on_what_else_is_encoded(lessons: Path, tmp_path: Path) -> None:
    packed = packed_folder(tmp_path / "a", pieces("train", 4)[:1])
    build(tmp_path / "out", lessons.parent / "image_vq", packed=[f"train={packed}"], progress=False)
    assert rows_of(tmp_path / "out")[:2] == rows_of(lessons)[:2]


def test_a_build_goes_on_where_it_stopped(lessons: Path, tmp_path: Path) -> None:
    shutil.copytree(lessons, tmp_path / "out")
    wanted = rows_of(tmp_path / "out")
    kept = sorted((tmp_path / "out" / "data").glob("train-*.parquet"))
    assert len(kept) > 1
    stamp = kept[0].stat().st_mtime_ns
    kept[1].unlink()
    packed = [f"train={lessons.parent / 'a'}", f"validation={lessons.parent / 'b'}"]
    report = build(
        tmp_path / "out", lessons.parent / "image_vq", packed=packed, shard_systems=3, progress=False
    )  # fmt: skip
    assert rows_of(tmp_path / "out") == wanted and kept[0].stat().st_mtime_ns == stamp
    assert sum(report["lessons"].values()) == 36
    with pytest.raises(InputError, match="other max_bars"):
        build(tmp_path / "out", lessons.parent / "image_vq", packed=packed, shard_systems=3, max_bars=1, progress=False)


def test_held_out_texts_and_long_systems_are_left_out_and_failures_named(tmp_path: Path, capsys) -> None:
    vq = tiny_image_vq(tmp_path / "vq")
    same, other = (3, 5, 7, 0), (1, 2, 3, 4)
    train = [system_row(same, "a 0"), system_row(other, "a 1"), system_row(other, "a 2", bars=3)]
    train.append(system_row((4, 4, 4, 4), "b 0", low=True))
    held_out = packed_folder(tmp_path / "held", [system_row(same, "c 0")])
    packed = [f"train={packed_folder(tmp_path / 'train', train)}", f"test={held_out}"]
    flags = ["--out", str(tmp_path / "out"), "--image-vq", str(vq), "--quiet"]
    assert main([*flags, "--packed", packed[0], "--packed", packed[1]]) == 1
    assert {row["name"] for row in rows_of(tmp_path / "out")} == {"a 1"}
    assert "b 0\thas ink" in (tmp_path / "out" / "failures.tsv").read_text().replace("b 0\tb 0: ", "b 0\t")
    assert "failed: 1; left out: 1" in capsys.readouterr().out
    assert "1 systems were left out" in (tmp_path / "out" / "README.md").read_text()


def test_bad_arguments_are_told_in_one_line(lessons: Path, tmp_path: Path, capsys) -> None:
    vq, packed = str(lessons.parent / "image_vq"), str(lessons.parent / "a")
    for flags, message in (
        (["--image-vq", vq], "say what to build from"),
        (["--image-vq", vq, "--packed", packed], "write SPLIT=FOLDER"),
        (["--image-vq", str(tmp_path), "--packed", f"train={packed}"], "is no model folder"),
        (["--image-vq", vq, "--packed", f"train={tmp_path}"], "no packed systems"),
        (["--image-vq", vq, "--packed", f"train={packed}", "--lessons", "sing"], "no lesson 'sing'"),
        (["--image-vq", vq, "--packed", f"train={packed}", "--packed", f"test={packed}"], "belongs to one split"),
        (["--image-vq", vq, "--score-tab", str(tmp_path / "absent")], "no Parquet files"),
        (["--image-vq", vq, "--score-tab", str(lessons)], "no data set of build_score_tab"),
    ):
        assert main(["--out", str(tmp_path / "out" / message.replace(" ", "")), "--quiet", *flags]) == 1
        told = capsys.readouterr().err
        assert message in told.splitlines()[-1] and "Traceback" not in told
