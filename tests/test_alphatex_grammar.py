"""Laws of canonical alphaTex: what is written reads back, what alphaTab exports settles, bars close exactly."""

from __future__ import annotations

import json
import os
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intermezzo.processing.alphatex_grammar import (
    STANDARD_TUNINGS,
    AlphaTexError,
    Bar,
    Beat,
    Note,
    Score,
    Staff,
    Track,
    bar_capacity,
    bars_close,
    beat_length,
    check_bars,
    metres,
    read_alphatex,
    strip_invisible,
    write_alphatex,
)
from intermezzo.processing.alphatex_vocabulary import BEAT_EFFECTS, NOTE_EFFECTS
from intermezzo.processing.errors import InputError

FIXTURES = Path(__file__).parent / "fixtures"
CANONICAL = sorted(p for p in FIXTURES.glob("*.alphatex") if not p.name.startswith("exported_"))
RENDER = Path(__file__).parents[1] / "datasets_scripts" / "render"
CORPUS = os.environ.get("INTERMEZZO_TEST_CORPUS")
CORPUS_FILES = {".gp", ".gp3", ".gp4", ".gp5", ".gpx", ".xml", ".mxl", ".musicxml"}


def text_of(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        return file.read()


# --- alphaTab itself, where Node and the renderer's packages are installed -------------------------------------------

EXPORT = """
import * as alphaTab from '@coderline/alphatab'; import fs from 'fs';
const jobs = JSON.parse(fs.readFileSync(0, 'utf8')), settings = new alphaTab.Settings();
alphaTab.Logger.logLevel = 4;
const results = jobs.map(job => { try {
  let score, diagnostics = [];
  if (job.text !== undefined) {
    const importer = new alphaTab.importer.AlphaTexImporter();
    importer.initFromString(job.text, settings);
    const all = () => [importer.lexerDiagnostics, importer.parserDiagnostics, importer.semanticDiagnostics]
      .flatMap(list => [...(list ?? [])]).map(d => `${d.start?.line}:${d.start?.col} ${d.message}`);
    try { score = importer.readScore(); } catch (error) { return {error: `${error.message} ${all()}`.slice(0, 500)}; }
    diagnostics = all();
  } else {
    score = alphaTab.importer.ScoreLoader.loadScoreFromBytes(new Uint8Array(fs.readFileSync(job.path)), settings);
  }
  return {text: new alphaTab.exporter.AlphaTexExporter().exportToString(score, settings), diagnostics};
} catch (error) { return {error: String(error.message).slice(0, 500)}; } });
console.log = () => {};
fs.writeSync(1, JSON.stringify(results));
"""


def node_program() -> str | None:
    from intermezzo.datasets_scripts.render.runtime import find_node
    from intermezzo.processing.errors import InputError

    try:
        return find_node()
    except InputError:
        return None


def alphatab_export(jobs: list[dict]) -> list[dict]:
    """Normal form of each text or file: `{"text", "diagnostics"}` or `{"error"}`."""
    node = node_program()
    if node is None or not (RENDER / "node_modules" / "@coderline" / "alphatab").exists():
        pytest.skip("Node or the renderer's packages are missing: run `npm ci` in datasets_scripts/render")
    done = subprocess.run(
        [node, "--input-type=module", "-e", EXPORT],
        input=json.dumps(jobs), capture_output=True, text=True, cwd=RENDER, timeout=300, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def settle(texts: list[str]) -> list[str]:
    """Each text through alphaTab and back; alphaTab must have nothing to say against it."""
    results = alphatab_export([{"text": text} for text in texts])
    for text, result in zip(texts, results, strict=True):
        assert not result.get("error"), f"{result['error']}\n{text[:2000]}"
        assert not result["diagnostics"], f"{result['diagnostics'][:3]}\n{text[:2000]}"
    return [write_alphatex(read_alphatex(result["text"])) for result in results]


# --- fixtures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CANONICAL, ids=lambda p: p.stem)
def test_canonical_text_is_read_and_written_unchanged(path: Path) -> None:
    text = text_of(path)
    score = read_alphatex(text)
    assert write_alphatex(score) == text
    assert read_alphatex(write_alphatex(score)) == score
    assert score.source_text == text


@pytest.mark.parametrize("name", ["beat_effects", "voices_and_staves"])
def test_normal_form_of_the_exporter_reads_as_the_canonical_text(name: str) -> None:
    exported = text_of(FIXTURES / f"exported_{name}.alphatex")
    assert "volume 15" in exported
    assert write_alphatex(read_alphatex(exported)) == text_of(FIXTURES / f"{name}.alphatex")


def test_fixtures_name_every_effect() -> None:
    text = " ".join(text_of(path) for path in CANONICAL)
    missing = [name for name in {*NOTE_EFFECTS, *BEAT_EFFECTS} if not re.search(rf"[{{ ]{name}[ }}]", text)]
    assert missing == ["hide"], "a hidden note is not drawn, so no canonical text has one"


def test_alphatab_accepts_the_fixtures_and_gives_them_back() -> None:
    texts = [text_of(path) for path in CANONICAL]
    for path, text, settled in zip(CANONICAL, texts, settle(texts), strict=True):
        assert settled == text, path.name


@pytest.mark.parametrize("staves", ["tabs", "score", "score+tabs"])
def test_stripped_fixtures_settle(staves: str) -> None:
    texts = [write_alphatex(strip_invisible(read_alphatex(text_of(path)), staves)) for path in CANONICAL]
    for text, settled in zip(texts, settle(texts), strict=True):
        assert write_alphatex(strip_invisible(read_alphatex(settled), staves)) == text


# --- the corpus, where it is present ---------------------------------------------------------------------------------


def test_canonical_form_settles_on_a_corpus() -> None:
    if not CORPUS or not Path(CORPUS).is_dir():
        pytest.skip("set INTERMEZZO_TEST_CORPUS to a folder of Guitar Pro and MusicXML files to test the law on it")
    known = json.loads((FIXTURES / "alphatab_known_failures.json").read_text(encoding="utf-8"))
    files = [p for p in sorted(Path(CORPUS).rglob("*")) if p.suffix in CORPUS_FILES and p.name not in known]
    loaded = [
        (path, read_alphatex(result["text"]))
        for path, result in zip(files, alphatab_export([{"path": str(path)} for path in files]), strict=True)
        if "text" in result
    ]
    assert loaded, "no file of the corpus could be loaded"
    texts = [write_alphatex(score) for _, score in loaded]
    for (path, score), text in zip(loaded, texts, strict=True):
        assert read_alphatex(text) == score, path
    changed = [str(path) for (path, _), a, b in zip(loaded, texts, settle(texts), strict=True) if a != b]
    assert changed == []


# --- random scores ---------------------------------------------------------------------------------------------------

NOTE_MARKS = st.sampled_from(
    [{}, {"h": ()}, {"x": ()}, {"t": ()}, {"be": ("bend", 0, 0, 60, 4)}, {"v": (), "pm": ()}, {"ah": (12,)},
     {"sl": ()}, {"sib": (), "sou": ()}, {"be": ("custom", 0, 0, 20, 3, 60, 1)}, {"tr": (7,)}, {"slur": ("s1",)}]
)  # fmt: skip
FREE_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
BEAT_MARKS = st.one_of(
    st.sampled_from(
        [{}, {"bd": ()}, {"dy": ("mf",)}, {"tbe": ("dive", 0, 0, 60, -4)}, {"beam": ("up", "merge")}, {"tp": (2,)},
         {"ot": ("8va",)}, {"lyrics": ("a", "b")}, {"fermata": ("short",), "tt": ()}]
    ),
    FREE_TEXT.map(lambda text: {"txt": (text,)}),
    FREE_TEXT.map(lambda text: {"ch": (text,), "su": ()}),
)  # fmt: skip

BAR_MARKS = st.sampled_from([{}, {"ft": ()}, {"jump": (("segno",), ("coda",))}, {"tf": ("t8",)}])


@st.composite
def beats(draw: st.DrawFn, pitched: bool) -> Beat:
    if pitched:
        pitches = draw(st.lists(st.sampled_from(["C4", "Eb4", "Gb5", "A-1"]), max_size=3))
        notes = [Note(pitch=pitch, effects=dict(draw(NOTE_MARKS))) for pitch in pitches]
    else:
        strings = sorted(draw(st.sets(st.integers(1, 6), max_size=4)))
        notes = [Note(draw(st.integers(0, 24)), string, dict(draw(NOTE_MARKS))) for string in strings]
    return Beat(
        notes,
        draw(st.sampled_from([-4, -2, 1, 2, 4, 8, 16, 32, 64])),
        draw(st.integers(0, 2)),
        draw(st.sampled_from([None, None, (3, 2), (5, 4), (7, 8)])),
        draw(st.sampled_from([None, None, "bb", "ob", "b"])),
        dict(draw(BEAT_MARKS)),
    )


@st.composite
def scores(draw: st.DrawFn) -> Score:
    tracks = []
    for _ in range(draw(st.integers(1, 2))):
        staves = []
        for _ in range(draw(st.integers(1, 2))):
            pitched = draw(st.booleans())
            bars = []
            for _ in range(draw(st.integers(1, 3))):
                voices = draw(st.lists(st.lists(beats(pitched), max_size=4), min_size=1, max_size=3))
                while len(voices) > 1 and not voices[-1]:
                    voices.pop()
                bars.append(
                    Bar(
                        voices,
                        draw(st.sampled_from([None, (4, 4), (7, 8)])),
                        draw(st.sampled_from([None, "d", "bb"])),
                        draw(st.sampled_from([None, 120, 104.5])),
                        draw(st.booleans()),
                        draw(st.sampled_from([0, 2, 3])),
                        draw(st.sampled_from([(), (1,), (1, 3)])),
                        draw(st.none() | FREE_TEXT),
                        draw(st.booleans()),
                        dict(
                            draw(st.sampled_from([{}, {"ft": ()}, {"jump": (("segno",), ("coda",))}, {"tf": ("t8",)}]))
                        ),
                    )
                )
            tuning = () if pitched else draw(st.sampled_from([None, ("D4", "A3", "Gb3", "D3", "A2", "D2")]))
            show = draw(st.sampled_from([("tabs",), ("score", "tabs"), ("score",)]))
            staves.append(Staff(bars, show, tuning, draw(st.integers(0, 3))))
        tracks.append(Track(draw(st.just("") | FREE_TEXT), staves))
    return Score(tracks, title=draw(st.just("") | FREE_TEXT))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(scores())
def test_any_score_is_read_back_as_it_was_written(score: Score) -> None:
    text = write_alphatex(score)
    again = read_alphatex(text)
    assert again == score
    assert write_alphatex(again) == text
    for *_, beat in again.beats():
        start, end = beat.span
        assert re.match(r"[r(\dA-G\"]", text[start]) and text[end : end + 1] in ("", " ", "\n")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(CANONICAL).map(text_of), st.data())
def test_a_damaged_text_reads_or_says_where_it_fails(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 6)))
    damaged = text[:start] + data.draw(st.text('(){}|.\\"rx²1 \n-', max_size=3)) + text[end:]
    try:
        read_alphatex(damaged)
    except AlphaTexError as error:
        assert 1 <= error.line <= damaged.count("\n") + 1
        assert error.column >= 1 and "\n" not in str(error)


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("3.3.4 |\n3.3{zz}.4 |", 2, 5, "unknown note effect 'zz'"),
        ("3.3.4 5.4 |", 1, 11, "expected '.' and a duration"),
        ("3.3.5 |", 1, 5, "expected a duration"),
        ("\\nonsense 3", 1, 1, "unknown tag"),
        ("3.3.4{tu (3 0)} |", 1, 7, "tuplet"),
        ("3.3{d}.4 |", 1, 5, "belongs to the beat"),
        ('\\title "never closed', 1, 8, "unexpected"),
        ("(3.3 4.4", 1, 9, "expected a note"),
        ("\\ks h# 3.3.4 |", 1, 5, "unknown key"),
    ],
)
def test_errors_name_line_and_column(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(AlphaTexError) as caught:
        read_alphatex(text)
    assert isinstance(caught.value, InputError)
    assert says in str(caught.value)
    assert (caught.value.line, caught.value.column) == (line, column)


# --- bar closure -----------------------------------------------------------------------------------------------------


def test_lengths_are_exact() -> None:
    assert beat_length(4) == Fraction(1, 4)
    assert beat_length(8, 2) == Fraction(7, 32)
    assert beat_length(8, 0, (3, 2)) == Fraction(1, 12)
    assert beat_length(-4, 1) == 6
    assert Beat(duration=16, grace="bb").length == 0
    assert bar_capacity((7, 8)) == Fraction(7, 8)


@pytest.mark.parametrize(
    ("bars", "issues"),
    [
        ("3.3.4 3.3.4 3.3.2 |", []),
        ("3.3.8{tu (3 2)} 3.3.8{tu (3 2)} 3.3.8{tu (3 2)} r.4 r.2 |", []),
        ("3.3.16{gr} 3.3.1 |", []),
        ("3.3.1 |\n3.3.2 |\n3.3.1 |", [(1, 0, Fraction(1, 2), Fraction(1))]),
        ("3.3.1 |\n3.3.1{d} |", [(1, 0, Fraction(3, 2), Fraction(1))]),
        ("\\ts (3 4) 3.3.2{d} |\n3.3.1 |\nr.1 |\n3.3.2{d} |", [(1, 0, Fraction(1), Fraction(3, 4))]),
        ("\\ac 3.3.4 |\n3.3.1 |\n3.3.1 |", []),  # a pick-up
        ("3.3.4 |\n3.3.1 |\n3.3.2{d} |", []),  # a pick-up and the last bar that completes it
        ("\\ro 3.3.4 |\n3.3.1 |\n\\rc 2 3.3.2{d} |\n3.3.1 |", []),
        ("3.3.1 |\n\\rc 2 3.3.2{d} |\n3.3.4 |\n3.3.1 |", []),  # a repeat cuts a bar in two
        ("3.3.1 |\n\\rc 2 3.3.2{d} |\n3.3.2 |\n3.3.1 |", [(1, 0, Fraction(3, 4), 1), (2, 0, Fraction(1, 2), 1)]),
        ("3.3.1 |\n|\n3.3.1 |", []),  # empty
        ("3.3.1 |\n\\ft 3.3.4 |\n3.3.1 |", []),  # free time
        ("\\voiceMode barWise\n\\voice 3.3.1 \\voice 3.6.2 |", []),  # short, but in the first bar
        ("\\voiceMode barWise\n3.3.1 |\n\\voice 3.3.1 \\voice 3.6.2 |", [(1, 1, Fraction(1, 2), Fraction(1))]),
        ("\\voiceMode barWise\n3.3.1 |\n\\voice \\voice 3.6.1 |", []),
    ],
)
def test_bar_closure(bars: str, issues: list) -> None:
    score = read_alphatex(bars)
    assert [(issue.bar, issue.voice, issue.have, issue.want) for issue in check_bars(score)] == issues
    assert bars_close(score) == (not issues)


def test_bar_closure_options() -> None:
    assert check_bars(read_alphatex("3.3.4 |\n3.3.1 |\n3.3.1 |"), first_may_be_short=False)
    assert [issue.bar for issue in check_bars(read_alphatex("3.3.1 |\n|"), empty_bars=False)] == [1]
    assert "bar 2, voice 1: 1/2" in str(check_bars(read_alphatex("3.3.1 |\n3.3.2 |"))[0])


def test_metre_belongs_to_all_staves() -> None:
    score = read_alphatex(text_of(FIXTURES / "voices_and_staves.alphatex"))
    assert metres(score) == [(4, 4)] * 4
    assert check_bars(score) == []
    assert metres(read_alphatex("\\ts (3 4) | | \\ts (6 8) | |")) == [(3, 4), (3, 4), (6, 8), (6, 8)]


# --- what the picture shows ------------------------------------------------------------------------------------------


def test_strip_invisible_leaves_what_a_tab_system_shows() -> None:
    text = (
        '\\title "T"\n\\track "Guitar"\n\\staff {score tabs}\n\\tuning (D4 A3 Gb3 D3 A2 D2)\n\\capo 2\n'
        '\\ts (4 4) \\ks d \\tempo 90 \\clef f4 3.3{h acc #}.4{dy p} 5.3.4{txt "hey" beam up} 5.3{lf 1}.2 |\n'
    )
    score = read_alphatex(text)
    assert write_alphatex(strip_invisible(score)) == (
        '\\staff {tabs}\n\\ts (4 4) \\tempo 90 3.3{h}.4 5.3.4{txt "hey"} 5.3.2 |\n'
    )
    assert write_alphatex(score) == text, "the score given must not change"
    page = write_alphatex(strip_invisible(score, "score+tabs", layout="page"))
    assert "\\capo 2" in page and "\\title" in page and "dy p" in page
    with pytest.raises(ValueError, match="tabs"):
        strip_invisible(score, "both")


def test_seven_strings_keep_a_tuning_that_says_how_many() -> None:
    score = strip_invisible(read_alphatex(text_of(FIXTURES / "seven_strings.alphatex")))
    assert score.staves[0].tuning == STANDARD_TUNINGS[7]
    assert "\\chord" not in write_alphatex(score)
