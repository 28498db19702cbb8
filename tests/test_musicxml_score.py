"""The MusicXML reader: what is written becomes notes in time, as music21 also hears it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from intermezzo.processing.errors import InputError
from intermezzo.processing.musicxml_score import read_musicxml_score
from intermezzo.processing.roll_windows import bar_lines
from intermezzo.processing.score_files import read_score_file


def note(step: str, duration: int, octave: int = 4, extra: str = "", alter: int = 0, before: str = "") -> str:
    pitch = f"<pitch><step>{step}</step><alter>{alter}</alter><octave>{octave}</octave></pitch>"
    return f"<note>{before}{pitch}<duration>{duration}</duration>{extra}</note>"


REST = "<note><rest/><duration>{}</duration></note>"
HEAD = """<part-list><score-part id="P1"><part-name>Piano</part-name><midi-instrument id="i"><midi-program>5
</midi-program></midi-instrument></score-part>{}</part-list>"""


def document(*measures: str, more: str = "", entries: str = "") -> str:
    body = "".join(f'<measure number="{k}">{m}</measure>' for k, m in enumerate(measures))
    title = (
        "<work><work-title>Songs</work-title></work><movement-title>First</movement-title>"
        '<identification><creator type="lyricist">L</creator><creator type="composer">C C</creator></identification>'
    )
    return f'<score-partwise>{title}{HEAD.format(entries)}<part id="P1">{body}</part>{more}</score-partwise>'


def attributes(divisions: int = 2, beats: str = "4", unit: str = "4", extra: str = "") -> str:
    time = f"<time><beats>{beats}</beats><beat-type>{unit}</beat-type></time>"
    return f"<attributes><divisions>{divisions}</divisions>{extra}{time}</attributes>"


def notes_of(path: Path) -> list[tuple[float, float, int, int]]:
    score = read_musicxml_score(path)[0]
    return [(n.time / 480, n.duration / 480, n.pitch, n.velocity) for t in score.tracks for n in t.notes]


@pytest.fixture
def save(tmp_path: Path):
    def write(text: str, name: str = "a.musicxml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def test_voices_chords_ties_and_grace_notes(save) -> None:
    first = attributes() + note("C", 4) + note("E", 4, before="<chord/>") + note("G", 4, extra='<tie type="start"/>')
    first += "<backup><duration>8</duration></backup><forward><duration>2</duration></forward>" + note("C", 6, 3)
    second = (
        note("G", 2, extra='<tie type="stop"/>')
        + "<note><grace/><pitch><step>A</step><octave>5</octave></pitch></note>"
    )
    second += note("F", 2, alter=1) + REST.format(4)
    found = notes_of(save(document(first, second)))
    assert sorted(found) == [(0, 2, 60, 80), (0, 2, 64, 80), (1, 3, 48, 80), (2, 3, 67, 80), (5, 1, 66, 80)]
    score, title, composer = read_musicxml_score(save(document(first, second)))
    assert (title, composer) == ("Songs: First", "C C") and score.tracks[0].program == 4


def test_pick_ups_and_irregular_bars_get_bar_lines(save) -> None:
    pick_up = attributes(extra="<key><fifths>-3</fifths><mode>minor</mode></key>") + note("C", 2)
    whole, half = note("D", 8), note("E", 4)
    text = document(pick_up, whole, half, half, attributes(2, "3", "8") + note("F", 3))
    score = read_musicxml_score(save(text))[0]
    assert [n.time / 480 for n in score.tracks[0].notes] == [3, 4, 8, 10, 12]
    assert [(b.step, b.metre) for b in bar_lines(score, 54)] == [
        (0, (4, 4)), (16, (4, 4)), (32, (2, 4)), (40, (2, 4)), (48, (3, 8)),
    ]  # fmt: skip
    assert (score.key_signatures[0].key, score.key_signatures[0].tonality) == (-3, 1)


def test_dynamics_tempo_transposition_and_parts(save) -> None:
    forte = "<direction><direction-type><dynamics><{}/></dynamics></direction-type>{}</direction>"
    shift = "<transpose><chromatic>-2</chromatic></transpose>"
    first = attributes() + forte.format("pp", "") + note("C", 2) + note("C", 2)
    first += forte.format("ff", '<sound tempo="96"/>') + note("C", 4)
    sign = "<direction><direction-type><metronome><beat-unit>half</beat-unit><per-minute>50</per-minute></metronome>"
    second = sign + "</direction-type></direction>" + note("C", 8)
    clarinet = f'<part id="P2"><measure number="1">{attributes(4, extra=shift)}{note("D", 16, 5)}</measure></part>'
    path = save(
        document(first, second, more=clarinet, entries='<score-part id="P2"><part-name>B</part-name></score-part>')
    )
    assert [n[3] for n in notes_of(path)] == [33, 33, 112, 112, 80]
    assert notes_of(path)[-1] == (0, 4, 72, 80)
    score = read_musicxml_score(path)[0]
    assert [(t.time, round(t.qpm)) for t in score.tempos] == [(960, 96), (1920, 100)]


def test_a_compressed_file_reads_the_same(save, tmp_path: Path) -> None:
    text = document(attributes() + note("C", 8))
    container = '<container><rootfiles><rootfile full-path="score.xml"/></rootfiles></container>'
    with zipfile.ZipFile(tmp_path / "a.mxl", "w") as archive:
        archive.writestr("META-INF/container.xml", container)
        archive.writestr("other.xml", "<nothing/>")
        archive.writestr("score.xml", text)
    assert notes_of(tmp_path / "a.mxl") == notes_of(save(text)) == [(0, 4, 60, 80)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a readable MusicXML file"),
        ("<score-partwise><part>", "not a readable MusicXML file"),
        ("<html/>", "its root is <html>; only partwise"),
        (document(attributes() + REST.format(8)), "has no pitched notes"),
        ("<score-partwise/>", "has no pitched notes"),
    ],
)
def test_damaged_files_are_named_in_one_line(save, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_score_file(save(text))
    assert "a.musicxml" in str(caught.value) and "\n" not in str(caught.value)


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.mxl").write_bytes(b"PK\x03\x04 and nothing more")
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "no.mid").write_bytes(b"")
    (tmp_path / "cut.mid").write_bytes(b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x01\xe0MTrk\x00\x00\x00\x99")
    for name, message in (
        ("bad.mxl", "not a readable MusicXML"), ("a.txt", "can not be read as music; give one of .mid"),
        ("no.mid", "is empty"), ("cut.mid", "not a readable MIDI file"), ("none.mid", "no such file"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message) as caught:
            read_score_file(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="is a folder"):
        read_score_file(tmp_path)


@pytest.mark.parametrize("name", ["bach/bwv66.6", "bach/bwv347"])
def test_two_readers_agree_about_a_chorale(name: str) -> None:
    pytest.importorskip("music21")
    from music21 import converter, corpus

    path = Path(str(corpus.getWork(name)))
    score = read_musicxml_score(path)[0]
    ours = sorted((n.time / 480, n.pitch, n.duration / 480) for t in score.tracks for n in t.notes)
    stream = converter.parse(path, forceSource=True)
    first = stream.parts[0].getElementsByClass("Measure")[0]
    front = first.barDuration.quarterLength - first.duration.quarterLength  # a pick-up is filled up at its front
    theirs = []
    for part in stream.stripTies().parts:
        for element in part.flatten().notes:
            theirs += [(float(element.offset + front), p.midi, float(element.quarterLength)) for p in element.pitches]
    assert len(ours) == len(theirs) > 100 and np.allclose(ours, sorted(theirs))
