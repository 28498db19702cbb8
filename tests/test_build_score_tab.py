"""The builder: rows agree with their texts, one worker equals four, an interrupted run goes on, failures are named."""

import io
import shutil

import pytest

from intermezzo.datasets_scripts.build_score_tab import build, digest_of_rows, main
from intermezzo.datasets_scripts.guitar_parts import Piece, generate_piece, make_staff
from intermezzo.datasets_scripts.music_events import TICKS, Sound, bar_ticks, bars_of_beats, quantise
from intermezzo.datasets_scripts.music_sources import Part, piece_of_part, pieces_of_file
from intermezzo.datasets_scripts.render.runtime import find_node
from intermezzo.datasets_scripts.score_tab_jobs import JobList
from intermezzo.processing.alphatex_grammar import Bar, Beat, Note, bars_close, read_alphatex, write_alphatex
from intermezzo.processing.errors import InputError


def _has_node() -> bool:
    try:
        find_node()
    except InputError:
        return False
    return True


needs_node = pytest.mark.skipif(not _has_node(), reason="drawing needs Node")


def _rows(folder):
    import pyarrow.parquet as pq

    return [row for path in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    report = build(folder, generated=40, shard_size=16, seed=1, progress=False)
    return folder, report


@needs_node
def test_rows_agree_with_their_texts(built):
    from PIL import Image

    folder, report = built
    rows = _rows(folder)
    assert report["failures"] == 0 and len(rows) == sum(report["rows"].values()) == 40 - report["dropped"]
    for row in rows:
        picture = Image.open(io.BytesIO(row["image"]["bytes"]))
        score = read_alphatex(row["text"])
        beats = {(bar, voice, beat) for _, bar, voice, beat, _ in score.beats()}
        assert {(b["bar"], b["voice"], b["beat"]) for b in row["boxes"]["beats"]} == beats
        assert len(row["boxes"]["tab_lines"]) == score.staves[0].strings
        assert all(0 <= b["on_x"] <= picture.width for b in row["boxes"]["beats"])
        assert len(row["boxes"]["bars"]) == len(score.staves[0].bars)


@needs_node
def test_four_workers_and_a_resumed_run_give_the_same_rows(built, tmp_path):
    folder, _ = built
    build(tmp_path / "four", generated=40, shard_size=16, seed=1, workers=4, progress=False)
    assert digest_of_rows(tmp_path / "four") == digest_of_rows(folder)
    shutil.copytree(folder, tmp_path / "half")
    (tmp_path / "half" / "data" / "train-00001.parquet").unlink()
    build(tmp_path / "half", generated=40, shard_size=16, seed=1, progress=False)
    assert digest_of_rows(tmp_path / "half") == digest_of_rows(folder)


@needs_node
def test_a_folder_is_not_continued_with_other_arguments(built):
    with pytest.raises(InputError, match="seed"):
        build(built[0], generated=40, shard_size=16, seed=2, progress=False)


@needs_node
def test_data_set_loads_with_pictures(built):
    from datasets import load_dataset

    data = load_dataset("parquet", data_dir=str(built[0] / "data"), split="train")
    assert data[0]["image"].mode == "L" and data[0]["text"].startswith("\\")
    assert (built[0] / "README.md").read_text(encoding="utf-8").startswith("---")


@needs_node
def test_broken_files_are_named_and_the_rest_goes_on(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "broken.mid").write_bytes(b"MThd nothing")
    (folder / "broken.gp5").write_bytes(b"")
    (folder / "wrong.alphatex").write_text("3.3.4 {", encoding="utf-8")
    (folder / "good.alphatex").write_text(write_alphatex(generate_piece(3).score), encoding="utf-8")
    out = tmp_path / "out"
    assert main(["--out", str(out), "--generated", "0", "--source", str(folder), "--quiet"]) == 1
    failures = (out / "failures.tsv").read_text(encoding="utf-8")
    assert all(name in failures for name in ("broken.mid", "broken.gp5", "wrong.alphatex"))
    assert len(_rows(out)) > 0 and "failures.tsv" in capsys.readouterr().err


@needs_node
def test_no_such_source(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "x"), "--generated", "0", "--source", str(tmp_path / "none"), "--quiet"]) == 1
    assert "no such file or folder" in capsys.readouterr().err


def _one_bar_piece(name, work=""):
    score = make_staff([Bar([[Beat([Note(3, 3)], 1)]], time_signature=(4, 4))], 6)
    return Piece(score, name, work=work)


def test_held_out_texts_leave_the_training_split():
    jobs = JobList()
    names = iter(f"piece {k}" for k in range(10_000))
    held = next(n for n in names if Piece(None, n).split == "test")
    trained = [next(n for n in names if Piece(None, n).split == "train") for _ in range(40)]
    for name in [held, *trained]:
        jobs.add(_one_bar_piece(name), 0)
    jobs.drop_overlap()
    test_texts = {job.text for job in jobs.jobs["test"]}
    assert jobs.dropped and not test_texts & {job.text for job in jobs.jobs["train"]}


def test_parts_of_one_work_stay_in_one_split():
    splits = {Piece(None, f"x-{k}", work="a work").split for k in range(100)}
    assert len(splits) == 1


def test_quantising_closes_bars_and_hears_triplets():
    bars = [(k * bar_ticks((4, 4)), (4, 4)) for k in range(2)]
    starts = [0, 1 / 3, 2 / 3, 1, 1.27, 1.52, 2, 3.5, 4.02, 6.25]
    sounds = [Sound(s, 0.3, (64,)) for s in starts]
    events, ternary = quantise(sounds, bars)
    assert [e[0] for e in events] == [0, 16, 32, 48, 60, 72, 96, 168, 192, 300] and ternary == {0}
    beats = bars_of_beats(events, [((1, 0),)] * len(events), bars, ternary)
    score = make_staff([Bar([b], time_signature=(4, 4) if k == 0 else None) for k, b in enumerate(beats)], 6)
    assert bars_close(score, first_may_be_short=False)
    assert [b.tuplet for b in beats[0][:3]] == [(3, 2)] * 3


@pytest.mark.parametrize("metre", [(4, 4), (3, 4), (6, 8), (7, 8), (12, 8), (5, 4), (2, 2), (9, 16), (3, 2)])
def test_any_sounds_close_in_any_metre(metre):
    import random

    rng = random.Random(str(metre))
    length = bar_ticks(metre) / TICKS
    bars = [(k * bar_ticks(metre), metre) for k in range(12)]
    for trial in range(20):
        starts = sorted(rng.uniform(0, 12 * length - 0.1) for _ in range(60))
        sounds = [Sound(s, rng.uniform(0.05, 3), (rng.randint(45, 80),)) for s in starts]
        piece = piece_of_part(Part(f"trial {metre} {trial}", "trial", sounds, bars))
        assert piece is not None and bars_close(piece.score, first_may_be_short=False)


def test_midi_becomes_a_piece(tmp_path):
    import symusic

    score = symusic.Score(480)
    track = symusic.Track()
    for k, pitch in enumerate([64, 67, 71, 72, 71, 67, 64, 62] * 4):
        track.notes.append(symusic.Note(k * 240, 240, pitch, 90))
    score.tracks.append(track)
    score.tempos.append(symusic.Tempo(0, 132))
    score.time_signatures.append(symusic.TimeSignature(0, 3, 4))
    score.dump_midi(str(tmp_path / "tune-v2.mid"))
    (piece,) = pieces_of_file(tmp_path / "tune-v2.mid")
    first = piece.score.staves[0].bars[0]
    assert first.time_signature == (3, 4) and first.tempo == 132 and piece.work == "tune"
    with pytest.raises(InputError, match="not a readable MIDI"):
        (tmp_path / "no.mid").write_bytes(b"no")
        pieces_of_file(tmp_path / "no.mid")
