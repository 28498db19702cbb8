"""`build_midi --tokens`: rows are the bars of their files, in the splits that the rolls have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from intermezzo.datasets_scripts.bar_token_rows import cut_bars, programs_of, tokens_of_piece
from intermezzo.datasets_scripts.build_midi import build, main
from intermezzo.datasets_scripts.midi_sources import Piece, SourceFile
from intermezzo.processing.bar_midi_vocabulary import BAR_ID, EOS_ID
from intermezzo.processing.errors import InputError
from intermezzo.processing.music_attributes import measure_roll
from intermezzo.processing.piano_roll import codes_of_score
from intermezzo.processing.tokenization_bar_midi import bar_ids_of, decode, encode

from .test_build_midi import song


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("songs")
    for k in range(24):
        song(k, bars=(5, 40, 70)[k % 3]).dump_midi(str(path / f"song{k}.mid"))
    return path


@pytest.fixture(scope="module")
def built(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("built")
    return out, build(out, [f"songs={folder}"], shard_files=10, progress=False, tokens=True)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_rows_are_the_bars_of_their_files(built: tuple[Path, dict[str, Any]], folder: Path) -> None:
    import symusic

    out, report = built
    rows = rows_of(out)
    assert report["failures"] == 0 and len(rows) == sum(report["rows"].values()) == 32
    for name in {row["piece_id"] for row in rows}:
        mine = sorted((row for row in rows if row["piece_id"] == name), key=lambda row: row["chunk"])
        whole = encode(symusic.Score(str(folder / f"{name.partition('/')[2]}.mid"))).ids
        assert np.array_equal(np.concatenate([row["tokens"] for row in mine]), whole)
        assert [row["bar"] for row in mine] == np.cumsum([0] + [row["num_bars"] for row in mine])[:-1].tolist()
        assert [row["tokens"][-1] == EOS_ID for row in mine] == [False] * (len(mine) - 1) + [True]
    for row in rows[:6]:
        ids = np.array(row["tokens"])
        assert ids[0] == BAR_ID and bar_ids_of(ids)[-1] + 1 == row["num_bars"] <= 64 and row["programs"] == [0]
        score = decode(ids, strict=True)
        measured = measure_roll(codes_of_score(score))
        assert row["num_notes"] == score.note_num() and row["tempo"] == pytest.approx(100) and row["metre"] == "4/4"
        assert row["density"] == pytest.approx(measured["density"]) and row["key"] == measured["key"]


def test_splits_are_those_of_the_rolls_and_no_work_is_in_two(built: tuple[Path, dict[str, Any]]) -> None:
    rows = rows_of(built[0])
    for row in rows:
        assert row["split"] == SourceFile("", "songs", row["piece_id"].partition("/")[2]).split
    for path in (built[0] / "data").glob("*.parquet"):
        assert {row["split"] for row in pq.read_table(path).to_pylist()} <= {path.name.partition("-")[0]}


def test_what_is_held_out_is_not_trained_on_in_another_key(tmp_path: Path) -> None:
    names = [f"tune{k}" for k in range(400)]
    held = next(name for name in names if SourceFile("", "s", name).split == "test")
    trained = [name for name in names if SourceFile("", "s", name).split == "train"][:2]
    source = tmp_path / "in"
    source.mkdir()
    song(1).dump_midi(str(source / f"{held}.mid"))
    song(1, transpose=5).dump_midi(str(source / f"{trained[0]}.mid"))
    song(2).dump_midi(str(source / f"{trained[1]}.mid"))
    report = build(tmp_path / "out", [str(source)], progress=False, tokens=True)
    assert {row["piece_id"] for row in rows_of(tmp_path / "out")} == {f"in/{held}", f"in/{trained[1]}"}
    assert report["dropped"] == 1


def test_the_command_names_what_failed_and_rolls_and_tokens_do_not_mix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    song(3).dump_midi(str(source / "good.mid"))
    song(4, bars=2).dump_midi(str(source / "short.mid"))
    (source / "corrupt.mid").write_bytes(b"MThd nothing")
    assert main(["--tokens", "--out", str(out), "--source", str(source), "--quiet"]) == 1
    told = capsys.readouterr()
    assert told.out.startswith("chunks: ") and "2 files or pieces failed" in told.err
    failed = (out / "failures.tsv").read_text(encoding="utf-8")
    assert "in/corrupt\tnot a readable MIDI" in failed and "in/short\thas 2 bars with notes" in failed
    card = (out / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---") and "64 bars" in card and "`tokens`" in card
    with pytest.raises(InputError, match="was built with"):
        build(out, [str(source)], progress=False)


def test_silence_around_a_piece_is_taken_off_and_chunks_are_alike() -> None:
    score = song(5, bars=12)
    quiet = score.copy()
    for note in quiet.tracks[0].notes:
        note.time += 6 * 1920
    tokens = tokens_of_piece(Piece(quiet, "p", "t"))
    assert tokens.num_bars in (13, 14) and tokens.ids[-1] == EOS_ID
    wanted = encode(score, end_of_piece=False).ids.tolist()
    start = int(np.flatnonzero(tokens.ids == BAR_ID)[1])
    assert tokens.ids[start : start + len(wanted)].tolist() == wanted
    assert cut_bars(64) == [(0, 64)] and cut_bars(65) == [(0, 32), (32, 65)] and cut_bars(5) == [(0, 5)]
    assert all(21 <= b - a <= 64 for n in range(64, 500) for a, b in cut_bars(n))
    assert programs_of(tokens.ids) == [0]
    with pytest.raises(InputError, match="at least 4"):
        tokens_of_piece(Piece(song(1, bars=3), "p", "t"))
