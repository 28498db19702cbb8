"""The builder: rows are the music of their files, works never meet across splits, one worker equals four."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import symusic

from intermezzo.datasets_scripts import build_midi
from intermezzo.datasets_scripts.build_midi import build, digest_of_rows, main, shingles
from intermezzo.datasets_scripts.midi_sources import SourceFile, files_of_source, grid_distance, read_pieces
from intermezzo.processing.errors import InputError
from intermezzo.processing.music_attributes import measure_roll
from intermezzo.processing.piano_roll import codes_of_score
from intermezzo.processing.roll_windows import Window

STEP = 120


def song(seed: int, bars: int = 20, shift: int = 0, transpose: int = 0) -> symusic.Score:
    """Random notes on the grid; the same seed gives the same song."""
    rng = np.random.default_rng(seed)
    score = symusic.Score(480)
    score.tempos.append(symusic.Tempo(0, 100))
    score.time_signatures.append(symusic.TimeSignature(0, 4, 4))
    track = symusic.Track("", 0, False)
    for step in range(0, bars * 16, 2):
        pitch = int(rng.integers(48, 80)) + transpose
        track.notes.append(symusic.Note(step * STEP + shift, STEP * int(rng.integers(1, 4)), pitch, 80))
    score.tracks.append(track)
    return score


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty songs."""
    path = tmp_path_factory.mktemp("songs")
    for k in range(40):
        song(k, bars=20 + 4 * (k % 3)).dump_midi(str(path / f"song{k}.mid"))
    return path


@pytest.fixture(scope="module")
def built(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("built")
    return out, build(out, [f"songs={folder}"], shard_files=10, progress=False)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_rows_are_the_music_of_their_files(built: tuple[Path, dict[str, Any]], folder: Path) -> None:
    out, report = built
    rows = rows_of(out)
    assert report["failures"] == 0 and len(rows) == sum(report["rows"].values()) > 40
    assert {row["piece_id"] for row in rows} == {f"songs/song{k}" for k in range(40)}
    for row in rows:
        codes = np.frombuffer(row["codes"], np.uint8).reshape(128, 256)
        whole = codes_of_score(symusic.Score(str(folder / f"{row['piece_id'].partition('/')[2]}.mid")))
        stop = row["start_step"] + row["num_steps"]
        assert (codes[:, : row["num_steps"]] == whole[:, row["start_step"] : stop]).all()
        assert row["start_step"] == row["bar"] * 16 and row["metre"] == "4/4" and row["tempo"] == pytest.approx(100)
        measured = measure_roll(codes)
        assert row["density"] == pytest.approx(measured["density"], rel=1e-6) and row["key"] == measured["key"]


def test_no_work_is_in_two_splits(built: tuple[Path, dict[str, Any]]) -> None:
    rows = rows_of(built[0])
    splits = {row["piece_id"]: {r["split"] for r in rows if r["piece_id"] == row["piece_id"]} for row in rows}
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == {"train", "validation", "test"}
    for path in (built[0] / "data").glob("*.parquet"):
        assert {row["split"] for row in pq.read_table(path).to_pylist()} <= {path.name.partition("-")[0]}
    same = [SourceFile("", "s", name).split for name in ("a/k156/movement1", "b/k156/movement2")]
    assert same[0] == same[1]
    assert SourceFile("", "s", "x/001").split == SourceFile("", "s", "x/001-v2").split


def test_four_workers_and_a_resumed_run_give_the_same_rows(
    built: tuple[Path, dict[str, Any]], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = [f"songs={folder}"]
    assert build(tmp_path / "four", source, shard_files=10, workers=4, progress=False) == built[1]
    assert digest_of_rows(tmp_path / "four") == digest_of_rows(built[0])
    shutil.copytree(built[0], tmp_path / "half")
    (tmp_path / "half" / "data" / "train-00001.parquet").unlink()
    calls = []
    read = build_midi.read_file
    monkeypatch.setattr(build_midi, "read_file", lambda job: calls.append(job) or read(job))
    assert build(tmp_path / "half", source, shard_files=10, progress=False) == built[1]
    assert digest_of_rows(tmp_path / "half") == digest_of_rows(built[0]) and len(calls) == 10
    with pytest.raises(InputError, match="was built with other hop_steps"):
        build(tmp_path / "half", source, shard_files=10, hop_steps=64, progress=False)


def test_a_folder_of_an_older_version_goes_on_and_then_loads(
    built: tuple[Path, dict[str, Any]], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That version kept its notes beside the Parquet files."""
    old = tmp_path / "old"
    shutil.copytree(built[0], old)
    for path in (old / "notes").iterdir():
        path.rename(old / "data" / path.name)
    (old / "notes").rmdir()
    monkeypatch.setattr(build_midi, "read_file", lambda job: pytest.fail("was read again"))
    assert build(old, [f"songs={folder}"], shard_files=10, progress=False) == built[1]
    assert {path.suffix for path in (old / "data").iterdir()} == {".parquet"}
    assert {path.stem for path in (old / "notes").iterdir()} == {path.stem for path in (old / "data").iterdir()}


def test_only_training_windows_overlap(folder: Path, built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    report = build(tmp_path, [f"songs={folder}"], hop_steps=32, progress=False)
    for split in ("validation", "test"):
        assert report["rows"][split] == built[1]["rows"][split]
    assert report["rows"]["train"] > built[1]["rows"]["train"]


def test_what_is_held_out_is_not_trained_on_in_another_key(tmp_path: Path) -> None:
    names = [f"tune{k}" for k in range(400)]
    held = next(name for name in names if SourceFile("", "s", name).split == "test")
    trained = [name for name in names if SourceFile("", "s", name).split == "train"][:3]
    source = tmp_path / "in"
    source.mkdir()
    song(1).dump_midi(str(source / f"{held}.mid"))
    song(1, transpose=5).dump_midi(str(source / f"{trained[0]}.mid"))
    song(2).dump_midi(str(source / f"{trained[1]}.mid"))
    report = build(tmp_path / "out", [str(source)], progress=False)
    kept = {row["piece_id"] for row in rows_of(tmp_path / "out")}
    assert kept == {f"in/{held}", f"in/{trained[1]}"} and report["dropped"] == 2


def test_shingles_ignore_key_and_loudness_only() -> None:
    codes = codes_of_score(song(1), num_steps=256)

    def marks(roll: np.ndarray) -> set[int]:
        return set(shingles(Window(roll, 0, 256, 0, (4, 4))))

    assert len(marks(codes)) == 13
    other_key = np.roll(codes, 3, axis=0)
    louder = np.where(codes > 1, 33, codes)
    assert marks(other_key) == marks(louder) == marks(codes)
    assert marks(np.roll(codes, 16, axis=1)) & marks(codes)  # another start, the same bars
    assert not marks(np.roll(codes, 1, axis=1)) & marks(codes)
    assert not marks(codes_of_score(song(2), num_steps=256)) & marks(codes)
    assert marks(np.zeros_like(codes)) == set()


def test_broken_files_are_named_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "empty.mid").write_bytes(b"")
    (source / "corrupt.mid").write_bytes(b"MThd nothing")
    (source / "wrong.musicxml").write_text("<html/>")
    symusic.Score(480).dump_midi(str(source / "silent.mid"))
    hours = song(5)
    hours.tracks[0].notes.append(symusic.Note(480 * 100 * 200, 480, 60, 80))
    hours.dump_midi(str(source / "hours.mid"))
    drums = song(6)
    drums.tracks[0].is_drum = True
    drums.dump_midi(str(source / "drums.mid"))
    free = song(7)
    for k, note in enumerate(free.tracks[0].notes):
        note.time += k * 37 % 113
    free.dump_midi(str(source / "free.mid"))
    song(8).dump_midi(str(source / "good.mid"))
    assert main(["--out", str(tmp_path / "out"), "--source", str(source), "--quiet"]) == 1
    lines = (tmp_path / "out" / "failures.tsv").read_text(encoding="utf-8").splitlines()[1:]
    failed = dict(line.split("\t") for line in lines)
    wanted = {
        "in/empty": "is empty", "in/corrupt": "not a readable MIDI", "in/wrong": "its root is <html>",
        "in/silent": "has no notes", "in/hours": "lasts 200 minutes", "in/drums": "has drums only",
        "in/free": "lie on no grid",
    }  # fmt: skip
    assert set(failed) == set(wanted) and all(text in failed[name] for name, text in wanted.items())
    assert {row["piece_id"] for row in rows_of(tmp_path / "out")} == {"in/good"}
    assert "7 files or pieces failed" in capsys.readouterr().err


def test_sources_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source, message in ((tmp_path / "none", "no such file or folder"), (tmp_path, "no file there ends in .mid")):
        assert main(["--out", str(tmp_path / "x"), "--source", str(source), "--quiet"]) == 1
        assert message in capsys.readouterr().err
    song(1).dump_midi(str(tmp_path / "a.mid"))
    assert main(["--out", str(tmp_path / "x"), "--source", str(tmp_path), "--source", str(tmp_path), "--quiet"]) == 1
    assert "in the sources twice" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path / "x"), "--hop", "0"])


def test_sources_have_names(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    song(1).dump_midi(str(tmp_path / "deep" / "a.mid"))
    (file,) = files_of_source(f"mine={tmp_path}")
    assert (file.source, file.name) == ("mine", "deep/a")
    assert files_of_source(str(tmp_path))[0].source == tmp_path.name
    assert files_of_source(str(tmp_path / "deep" / "a.mid"))[0] == SourceFile(str(tmp_path / "deep/a.mid"), "deep", "a")


def test_a_song_off_the_beat_is_moved_onto_the_grid(tmp_path: Path) -> None:
    song(3, shift=50).dump_midi(str(tmp_path / "late.mid"))
    song(3).dump_midi(str(tmp_path / "on.mid"))
    assert grid_distance(song(3, shift=50)) == pytest.approx(0, abs=1e-6)
    rows = {}
    for file in files_of_source(str(tmp_path)):
        (piece,) = read_pieces(file)
        rows[file.name] = build_midi.rows_of_piece(piece, "s", "train", 4, 256)
    assert [row["codes"] for row in rows["late"]] == [row["codes"] for row in rows["on"]]


def test_beats_beside_a_file_give_its_bars(tmp_path: Path) -> None:
    """As POP909 keeps them: here the bars begin a beat and 37 ticks late, at a tempo that the ticks do not know."""
    place = tmp_path / "007"
    place.mkdir()
    late = song(4, shift=480 + 37)
    late.tempos[0].qpm = 120
    late.dump_midi(str(place / "007.mid"))
    lines = []
    for beat in range(100):
        seconds = (beat * 480 + 37) / 480 * 0.5
        lines.append(f"{seconds:.6f} {float(beat % 2 == 1)} {float(beat % 4 == 1)}")
    (place / "beat_midi.txt").write_text("\n".join(lines))
    (piece,) = read_pieces(files_of_source(str(tmp_path))[0])
    rows = build_midi.rows_of_piece(piece, "s", "train", 4, 256)
    assert rows[0]["codes"] == codes_of_score(song(4), num_steps=256).tobytes() and rows[0]["start_step"] == 16
    (place / "beat_midi.txt").write_text("not beats")
    with pytest.raises(InputError, match="not a list of beats"):
        read_pieces(files_of_source(str(tmp_path))[0])


ABC = (
    "X:1\nT:First Tune\nM:3/4\nL:1/4\nK:G\n"
    + "GAB|" * 8
    + "\n\nX:2\nT:Second Tune\nM:4/4\nL:1/4\nK:D\n"
    + "defd|" * 8
    + "\n"
)


def test_abc_files_hold_several_tunes(tmp_path: Path) -> None:
    pytest.importorskip("music21")
    (tmp_path / "book.abc").write_text(ABC)
    pieces = read_pieces(files_of_source(f"s={tmp_path}")[0])
    assert [(p.piece_id, p.title) for p in pieces] == [("s/book-0", "First Tune"), ("s/book-1", "Second Tune")]
    rows = [build_midi.rows_of_piece(p, "s", "train", 4, 256)[0] for p in pieces]
    assert [(row["metre"], row["num_steps"]) for row in rows] == [("3/4", 96), ("4/4", 128)]
    codes = np.frombuffer(rows[0]["codes"], np.uint8).reshape(128, 256)
    assert np.flatnonzero(codes[67] > 1)[:3].tolist() == [0, 12, 24]


def test_the_corpus_is_there_without_any_source(tmp_path: Path) -> None:
    pytest.importorskip("music21")
    report = build(tmp_path, corpus=2, progress=False)
    assert sum(report["rows"].values()) > 0 and all(name.startswith("music21-") for name in report["sources"])


def test_the_data_set_loads_and_has_a_card(built: tuple[Path, dict[str, Any]]) -> None:
    from datasets import load_dataset

    data = load_dataset("parquet", data_dir=str(built[0] / "data"), cache_dir=str(built[0] / "cache"))
    assert {split: len(rows) for split, rows in data.items()} == built[1]["rows"]
    assert len(data["train"][0]["codes"]) == 128 * 256
    card = (built[0] / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---") and f"| test | {built[1]['pieces']['test']} |" in card and str(built[0]) not in card
    assert json.loads((built[0] / "build.json").read_text())["shard_files"] == 10


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("--source my_midis", "0 silence", "failures.tsv", "load_dataset"))
