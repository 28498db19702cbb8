"""MusicXML that we write, read back by music21 and by alphaTab."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import pytest

from intermezzo.datasets_scripts.guitar_parts import iter_system_jobs
from intermezzo.datasets_scripts.render import AlphaTabPool, convert, render
from intermezzo.processing.alphatex_grammar import Score, metres, read_alphatex
from intermezzo.processing.errors import InputError
from intermezzo.processing.musicxml import to_musicxml
from intermezzo.processing.musicxml_notes import pitch_number, spelled

FIXTURES = Path(__file__).parent / "fixtures"
RICH = r"""\voiceMode barWise
\staff {score tabs}
\tuning (D4 A3 F#3 D3 A2 D2)
\capo 2
\ts (4 4) \ks d \tempo 96 \ac 0.1.4 |
\ro 3.1{h}.8 5.1.8 (0.1 2.2 2.3).4{d} 0.6{pm}.8 2.4{ss}.8 4.4.8 |
5.3.8{tu (3 2)} 7.3.8{tu (3 2)} r.8{tu (3 2)} 3.3.8{gr} 5.3.4 7.2{be (bendrelease 0 0 30 4 30 4 60 0)}.2 |
\ae (1) \rc 3 \voice 3.1.2 3.1{t}.2 \voice 0.6.4 r.2 0.5{x}.4 |
\ae (2) 12.3{nh}.2 5.3{v}.4 (0.1{lr} 2.2{lr}).4 |
\ts (3 4) r.1 |
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[AlphaTabPool]:
    with AlphaTabPool(workers=1) as shared:
        yield shared


def sounding(score: Score) -> list[tuple[Fraction, tuple[int, ...]]]:
    """Length and MIDI numbers of each beat of the first staff: what a file has to say whatever its format."""
    staff = score.staves[0]
    tuning = staff.tuning or ("E4", "B3", "G3", "D3", "A2", "E2")
    found = []
    for metre, bar in zip(metres(score), staff.bars, strict=True):
        for voice in bar.voices:
            for beat in voice:
                whole = len(voice) == 1 and beat.is_rest and beat.duration == 1
                heads = tuple(sorted(pitch_number(tuning[n.string - 1]) + n.fret + staff.capo for n in beat.notes))
                found.append((Fraction(*metre) if whole else beat.length, heads))
    return found


def by_music21(text: str) -> list[tuple[Fraction, tuple[int, ...]]]:
    music21 = pytest.importorskip("music21")
    (part,) = music21.converter.parseData(text, format="musicxml").parts
    found = []
    for measure in part.getElementsByClass("Measure"):
        for voice in list(measure.voices) or [measure]:
            for item in voice.notesAndRests:
                heads = tuple(sorted(int(pitch.midi) for pitch in getattr(item, "pitches", ())))
                found.append((Fraction(item.duration.quarterLength) / 4, heads))
    return found


def frets(score: Score) -> list[object]:
    return [
        (bar, voice, beat.duration, beat.dots, beat.tuplet, bool(beat.grace), [(n.string, n.fret) for n in beat.notes])
        for _, bar, voice, _, beat in score.beats()
    ]


@pytest.mark.parametrize("text", [RICH, *(FIXTURES / f"{name}.alphatex" for name in ("rhythm", "note_effects"))])
def test_music21_reads_the_same_pitches_and_lengths(text: str | Path) -> None:
    score = read_alphatex(text if isinstance(text, str) else text.read_text(encoding="utf-8"))
    assert by_music21(to_musicxml(score)) == sounding(score)


def test_generated_systems_come_back_through_alphatab_and_music21(pool: AlphaTabPool) -> None:
    for number, (text, _, name) in enumerate(iter_system_jobs(5, 24)):
        score = read_alphatex(text)
        written = to_musicxml(score)
        assert frets(read_alphatex(pool.canonicalise(written.encode()))) == frets(score), name
        if number < 8:
            assert by_music21(written) == sounding(score), name


def test_alphatab_reads_back_form_and_techniques(pool: AlphaTabPool) -> None:
    score = read_alphatex(RICH)
    again = read_alphatex(pool.canonicalise(to_musicxml(score).encode()))
    assert frets(again) == frets(score)
    staff, back = score.staves[0], again.staves[0]
    assert (back.tuning, back.capo, back.show) == (staff.tuning, staff.capo, ("tabs",))
    for bar, other in zip(staff.bars, back.bars, strict=True):
        for name in ("time_signature", "tempo", "repeat_open", "repeat_close", "endings", "anacrusis"):
            assert getattr(other, name) == getattr(bar, name), name
    # alphaTab does not read let ring, harmonics, dead notes, and loses hammer-ons: their end has no string yet.
    for (*_, beat), (*_, twin) in zip(score.beats(), again.beats(), strict=True):
        for note, read in zip(beat.notes, twin.notes, strict=True):
            for name in {"t", "pm", "v", "be", "ss"} & note.effects.keys():
                assert read.effects.get(name) == note.effects[name], name


def test_techniques_are_where_musicxml_has_them() -> None:
    root = ElementTree.fromstring(to_musicxml(read_alphatex(RICH)))
    assert root.find("part/measure").get("implicit") == "yes"
    lines = [line.get("line") for line in root.iter("staff-tuning")]
    assert lines == list("123456") and root.findtext(".//staff-details/capo") == "2"
    assert [e.get("type") for e in root.iter("hammer-on")] == ["start", "stop"]
    assert [e.get("type") for e in root.iter("slide")] == ["start", "stop"]
    assert [e.get("type") for e in root.iter("tuplet")] == ["start", "stop"]
    assert [e.text for e in root.iter("bend-alter")] == ["2", "-2"]
    assert [e.text for e in root.iter("mute")] == ["palm"]
    assert [e.text for e in root.iter("notehead")] == ["x"]
    assert sum(e.get("type") == "let-ring" for e in root.iter("tied")) == 2
    assert root.find(".//harmonic/natural") is not None
    assert [(e.get("number"), e.get("type")) for e in root.iter("ending")] == [
        ("1", "start"), ("1", "stop"), ("2", "start"), ("2", "discontinue"),
    ]  # fmt: skip
    assert root.find(".//repeat[@direction='backward']").get("times") == "3"


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.alphatex")), ids=lambda path: path.stem)
def test_every_fixture_gives_a_file_that_alphatab_loads(path: Path, pool: AlphaTabPool) -> None:
    score = read_alphatex(path.read_text(encoding="utf-8"))
    written = to_musicxml(score)
    assert written == to_musicxml(score)
    again = read_alphatex(pool.canonicalise(written.encode()))
    assert len(again.staves[0].bars) == len(score.staves[0].bars)


def test_spelling_follows_the_key() -> None:
    assert [spelled(61, fifths)[:2] for fifths in (0, 4, -4)] == [("C", 1), ("C", 1), ("D", -1)]
    assert spelled(60, 0) == ("C", 0, 4)
    assert spelled(60, 7) == ("B", 1, 3)
    assert spelled(59, -7) == ("C", -1, 4)
    for fifths in range(-7, 8):
        for number in range(20, 100):
            step, alter, octave = spelled(number, fifths)
            assert pitch_number(f"{step}{'#' * alter or 'b' * -alter}{octave}") == number


def test_convert_writes_musicxml(pool: AlphaTabPool, tmp_path: Path) -> None:
    (tmp_path / "song.alphatex").write_text(RICH, encoding="utf-8")
    target = convert(tmp_path / "song.alphatex", tmp_path / "song.musicxml", pool=pool)
    assert target.read_text(encoding="utf-8").startswith("<?xml")
    convert(target, tmp_path / "song.gp", pool=pool)
    convert(tmp_path / "song.gp", tmp_path / "song.xml", pool=pool)
    convert(tmp_path / "song.xml", tmp_path / "again.alphatex", pool=pool)
    again = read_alphatex((tmp_path / "again.alphatex").read_text(encoding="utf-8"))
    assert frets(again) == frets(read_alphatex(RICH))


def test_both_verbs_of_the_command_line_take_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from intermezzo.cli import app

    monkeypatch.chdir(tmp_path)
    Path("a.alphatex").write_text(RICH, encoding="utf-8")
    Path("b.alphatex").write_text("\\staff {tabs}\n\\ts (4 4) 3.3.1 |\n", encoding="utf-8")
    Path("b.gp").write_bytes(b"\x00\x01\x02\x03 nothing")
    Path("wrong.alphatex").write_text("3.3.4 ( 5.3.4 |\n", encoding="utf-8")
    runner = CliRunner()
    files = ["a.alphatex", "missing.gp", "wrong.alphatex", "b.alphatex", "b.gp"]
    for verb, suffixes in ((["convert", "--to", "musicxml,mid"], ("musicxml", "mid")), (["render"], ("png",))):
        done = runner.invoke(app, [*verb, *files, "--out", "out"])
        assert done.exit_code == 1, done.output
        lines = done.stderr.splitlines()
        assert [line.split(":")[0] for line in lines] == ["missing.gp", "wrong.alphatex", "b.gp"], lines
        for suffix in suffixes:
            assert all(Path("out", f"{name}.{suffix}").stat().st_size > 20 for name in "ab")
    done = runner.invoke(app, ["convert", "a.alphatex", "b.alphatex", "--to", "gp"])
    assert (done.exit_code, done.stderr) == (0, "")
    done = runner.invoke(app, ["convert", "a.alphatex", "b.alphatex", "--to", "alphatex", "--out", "."])
    assert done.exit_code == 1 and done.stderr.count("overwritten by its own result") == 2
    assert Path("a.alphatex").read_text(encoding="utf-8") == RICH


def test_two_sources_for_one_result_and_wrong_options(pool: AlphaTabPool, tmp_path: Path) -> None:
    first, second = tmp_path / "a.alphatex", tmp_path / "a.tex"
    for path in (first, second):
        path.write_text("\\staff {tabs}\n\\ts (4 4) 3.3.1 |\n", encoding="utf-8")
    results = convert([first, second], tmp_path / "out", formats=("mid",), pool=pool)
    assert isinstance(results, list)
    assert results[0].error is None and results[0].written == [tmp_path / "out" / "a.mid"]
    assert "is the result of" in str(results[1].error) and results[1].written == []
    (both,) = convert([first, tmp_path / "new.musicxml"], tmp_path, pool=pool)  # type: ignore[misc]
    assert both.error is None and both.written == [tmp_path / "new.musicxml"]
    with pytest.raises(InputError, match="there is no format wav; choose alphatex, gp, musicxml, mid"):
        convert([first], tmp_path / "out", formats=("wav",), pool=pool)
    with pytest.raises(InputError, match="say which format"):
        convert([first, second], tmp_path / "out", pool=pool)
    with pytest.raises(InputError, match="staves is 'banjo'"):
        render([first], tmp_path / "out", staves="banjo", pool=pool)
    with pytest.raises(InputError, match="names a folder"):
        render([first], second, pool=pool)
