"""The alphaTab renderer, with real Node processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from intermezzo.datasets_scripts.render import AlphaTabPool, RenderedPicture, RenderError, RenderJob, convert, render
from intermezzo.datasets_scripts.render.worker import RenderWorker
from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.errors import InputError

BAR = "3.3.8 (0.1 2.2).8 r.4 3.3{h}.4 5.3{be (bend 0 0 60 4)}.4 |"
TWO_VOICES = r"""\voiceMode barWise
\ts (4 4) \tempo 96 3.1.8{gr} 3.1.4 r.8 5.2.8 7.1.2 \voice 3.6.2 r.4 (0.5 2.4).4 |
12.3{nh}.4 (10.1 12.2).4 3.3.8{tu (3 2)} 5.3.8{tu (3 2)} 7.3.8{tu (3 2)} x.5.4 \voice 3.6.1"""


@pytest.fixture(scope="module")
def pool() -> Iterator[AlphaTabPool]:
    with AlphaTabPool(workers=1) as shared:
        yield shared


def pixels(picture: RenderedPicture) -> np.ndarray:
    return np.asarray(picture.image().convert("L"))


def ink_fraction(picture: RenderedPicture, x0: float, y0: float, x1: float, y1: float) -> float:
    part = pixels(picture)[max(round(y0), 0) : round(y1) + 1, max(round(x0), 0) : round(x1) + 1]
    return float((part < 128).mean())


def test_verify_names_code_and_place(pool: AlphaTabPool) -> None:
    assert [item for item in pool.verify(BAR) if item.severity == "error"] == []
    (error,) = [item for item in pool.verify("3.3.4 5.3.4 |\n3.3.4{zz}") if item.severity == "error"]
    assert (error.code, error.line) == ("AT205", 2)
    assert error.column >= 7
    for nothing in ("", " \n", "\\nonsense 3"):
        assert any(item.severity == "error" for item in pool.verify(nothing))


def test_canonical_form_is_a_fixed_point(pool: AlphaTabPool) -> None:
    once = pool.canonicalise(BAR * 2)
    assert pool.canonicalise(once) == once
    assert "(0.1 2.2).8" in once


@pytest.mark.parametrize("staves", ["tabs", "score+tabs", "score"])
@pytest.mark.parametrize("text", [BAR * 3, TWO_VOICES], ids=["one-voice", "two-voices"])
def test_system_is_whole_and_boxes_hold_ink(pool: AlphaTabPool, text: str, staves: str) -> None:
    job = RenderJob(text=text, staves=staves, scale=1.5, line_gray=200, second_voice_gray=0, margin_px=5)
    (picture,) = pool.render(job)
    assert len(picture.systems) == 1
    kinds = {"tabs": ["tab"], "score": ["score"], "score+tabs": ["score", "tab"]}[staves]
    assert [staff.kind for staff in picture.systems[0].staves] == kinds

    grey = pixels(picture)
    assert grey.shape == (picture.height, picture.width)
    # A white frame of margin_px on all sides and ink right behind it: nothing is cut off, nothing is left over.
    rows, columns = np.nonzero(grey < 255)
    assert (rows.min(), columns.min()) == (5, 5)
    assert (rows.max(), columns.max()) == (picture.height - 6, picture.width - 6)

    for item in [*picture.systems, *picture.bars, *picture.notes]:
        assert item.x >= 0 and item.x + item.w <= picture.width
        assert item.y >= 0 and item.y + item.h <= picture.height
    for note in picture.notes:
        assert ink_fraction(picture, note.x, note.y, note.x + note.w, note.y + note.h) > 0.08
    for beat in picture.beats:
        assert beat.x <= beat.on_x <= beat.x + beat.w
    if staves != "score":
        tab = picture.systems[0].staff("tab")
        assert tab is not None and len(tab.lines) == 6
        assert tab.line_distance_px == pytest.approx(19.5, abs=0.05)
        for line in tab.lines:  # light grey lines where the boxes say, over most of the width
            row = grey[round(line - 0.5), round(tab.x0) : round(tab.x1)]
            assert (row < 255).mean() > 0.7


def test_boxes_carry_the_right_numbers(pool: AlphaTabPool) -> None:
    (picture,) = pool.render(RenderJob(text=TWO_VOICES))
    first = [(n.voice, n.beat, n.string, n.fret) for n in picture.notes if n.bar == 0]
    assert sorted(first) == [
        (0, 0, 1, 3), (0, 1, 1, 3), (0, 3, 2, 5), (0, 4, 1, 7), (1, 0, 6, 3), (1, 2, 4, 2), (1, 2, 5, 0),
    ]  # fmt: skip
    tab = picture.systems[0].staff("tab")
    assert tab is not None
    for note in picture.notes:
        assert note.y < tab.lines[note.string - 1] < note.y + note.h
    together = {beat.voice: beat.on_x for beat in picture.beats if beat.bar == 1 and beat.beat == 0}
    assert together[0] == pytest.approx(together[1], abs=1)


def test_effects_above_and_rhythm_below_are_not_clipped(pool: AlphaTabPool) -> None:
    plain, full = (
        pool.render(RenderJob(text=text, dynamics=False))[0]
        for text in ("3.3.1", r'\tempo 90 \section "Solo" 3.1{be (bend 0 0 60 4)}.64 24.6.64 (0.1 0.6).2')
    )
    assert full.height > plain.height
    tab = full.systems[0].staff("tab")
    assert tab is not None
    assert ink_fraction(full, tab.x0, 0, tab.x1, tab.lines[0] - 10) > 0
    assert ink_fraction(full, tab.x0, tab.lines[-1] + 10, tab.x1, full.height) > 0


def test_later_bars_show_no_old_time_signature_and_width_stretches(pool: AlphaTabPool) -> None:
    text = BAR * 4
    (start,) = pool.render(RenderJob(text=text, bar_count=2))
    (later,) = pool.render(RenderJob(text=text, first_bar=2, bar_count=2))
    (wide,) = pool.render(RenderJob(text=text, first_bar=2, bar_count=2, width_px=800))
    assert [bar.bar for bar in later.bars] == [2, 3]
    assert later.bars[0].w < start.bars[0].w
    assert abs(wide.width - 800) <= 2 * 6 + 16


def test_pages_keep_every_bar_once(pool: AlphaTabPool) -> None:
    job = RenderJob(text=BAR * 20, layout="page", width_px=800, page_height_px=500, titles=True)
    pages = pool.render(job)
    assert len(pages) > 1
    assert {(page.width, page.height) for page in pages} == {(800, 500)}
    assert [bar.bar for page in pages for bar in page.bars] == list(range(20))
    for page in pages:
        assert {bar.system for bar in page.bars} == set(range(len(page.systems)))


def test_a_system_taller_than_its_page_is_not_cut(pool: AlphaTabPool) -> None:
    (page,) = pool.render(RenderJob(text=BAR, layout="page", staves="score+tabs", page_height_px=60))
    assert page.height > 60
    assert all(note.y + note.h < page.height for note in page.notes)


def test_staff_without_strings_is_drawn_as_score(pool: AlphaTabPool) -> None:
    (picture,) = pool.render(RenderJob(text="\\instrument piano C4.4 G4.4 E4.2", staves="tabs"))
    assert [staff.kind for staff in picture.systems[0].staves] == ["score"]
    assert {(note.string, note.fret) for note in picture.notes} == {(0, -1)}


def test_failures_are_values_in_order_and_worker_count_does_not_matter() -> None:
    jobs = [RenderJob(text=BAR * n if n != 3 else "3.3.4 |\n 5.3.4{zz}", key=n) for n in range(1, 9)]
    results = []
    for workers in (1, 2):
        with AlphaTabPool(workers=workers) as pool:
            results.append(list(pool.map_render(jobs)))
    for one, two, job in zip(*results, jobs, strict=True):
        if job.key == 3:
            assert isinstance(one, RenderError) and isinstance(two, RenderError)
            assert one.name == "parse_error" and one.diagnostics == two.diagnostics
            assert "line 2, column" in str(one)
        else:
            assert one == two and isinstance(one, list)
            assert one[0].key == job.key and len(one[0].bars) == job.key


def test_dead_process_is_replaced() -> None:
    worker = RenderWorker()
    try:
        job = RenderJob(text=BAR).message()
        before = worker.ask(job)["pictures"]
        first = worker.process_id
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert worker.ask(job)["pictures"] == before
        assert worker.process_id != first
    finally:
        worker.close()


def test_job_over_its_time_is_ended_and_the_next_one_works() -> None:
    worker = RenderWorker(job_seconds=0.3)
    try:
        with pytest.raises(RenderError, match=r"took longer than 0\.3 seconds") as caught:
            worker.ask(RenderJob(text=BAR * 20_000).message())
        assert caught.value.name == "time_limit"
        worker.job_seconds = 60.0
        assert len(worker.ask(RenderJob(text=BAR).message())["pictures"]) == 1
    finally:
        worker.close()


def music(text: str) -> list[object]:
    """Frets, strings, lengths and effects, without the accidentals that Guitar Pro files spell out."""
    return [
        (bar.tempo, beat.duration, beat.dots, [
            (note.fret, note.string, {k: v for k, v in note.effects.items() if k != "acc"}) for note in beat.notes
        ])
        for bar in read_alphatex(text).tracks[0].staves[0].bars for voice in bar.voices for beat in voice
    ]  # fmt: skip


def test_convert_round_trip(pool: AlphaTabPool, tmp_path: Path) -> None:
    text = pool.canonicalise("\\ts (4 4) \\tempo 96 " + BAR * 2)
    (tmp_path / "song.atex").write_text(text, encoding="utf-8")
    convert(tmp_path / "song.atex", tmp_path / "song.gp", pool=pool)
    convert(tmp_path / "song.gp", tmp_path / "again.atex", pool=pool)
    again = (tmp_path / "again.atex").read_text(encoding="utf-8")
    assert len(music(text)) == 10
    assert music(again) == music(text)
    convert(tmp_path / "song.gp", tmp_path / "song.mid", pool=pool)
    assert (tmp_path / "song.mid").read_bytes()[:4] == b"MThd"


def test_convert_reads_musicxml(pool: AlphaTabPool, tmp_path: Path) -> None:
    note = "<note><pitch><step>C</step><octave>4</octave></pitch><duration>4</duration><type>whole</type></note>"
    (tmp_path / "a.musicxml").write_text(
        '<?xml version="1.0"?><score-partwise version="3.1"><part-list><score-part id="P1"><part-name>P</part-name>'
        '</score-part></part-list><part id="P1"><measure number="1"><attributes><divisions>1</divisions><time><beats>4'
        f"</beats><beat-type>4</beat-type></time></attributes>{note}</measure></part></score-partwise>"
    )
    convert(tmp_path / "a.musicxml", tmp_path / "a.atex", pool=pool)
    assert "C4" in (tmp_path / "a.atex").read_text().upper()


def test_render_writes_pictures_and_names_the_file_in_errors(pool: AlphaTabPool, tmp_path: Path) -> None:
    good = tmp_path / "good.atex"
    good.write_text('\\title "T"\n' + BAR * 30)
    pages = render(good, tmp_path / "out.png", page_height_px=600, boxes=True, pool=pool)
    assert [page.name for page in pages] == [f"out-{n}.png" for n in range(1, len(pages))] + ["out.json"]
    assert len(json.loads(pages[-1].read_text())["pages"]) == len(pages) - 1
    (svg,) = render(good, tmp_path / "out.svg", pool=pool)
    assert svg.read_text().startswith("<svg") and "<text" not in svg.read_text()
    (pdf,) = render(BAR, tmp_path / "out.pdf", pool=pool)
    assert pdf.read_bytes()[:4] == b"%PDF"

    bad = tmp_path / "bad.atex"
    bad.write_text("3.3.4 |\n3.3.4{zz}")
    with pytest.raises(InputError, match=r"bad\.atex: line 2, column \d+: AT205"):
        render(bad, tmp_path / "x.png", pool=pool)
    (tmp_path / "noise.gp").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(InputError, match=r"noise\.gp: not a score"):
        convert(tmp_path / "noise.gp", tmp_path / "x.atex", pool=pool)
    with pytest.raises(InputError, match=r"missing\.gp: can not be read"):
        convert(tmp_path / "missing.gp", tmp_path / "x.atex", pool=pool)
    with pytest.raises(InputError, match="render has no option colour"):
        render(good, tmp_path / "x.png", colour=True, pool=pool)
    with pytest.raises(InputError, match="staves is 'tab'"):
        RenderJob(text=BAR, staves="tab")  # type: ignore[arg-type]


def test_fonts_change_the_picture_and_not_the_rest(pool: AlphaTabPool) -> None:
    jobs = [RenderJob(text=BAR, text_font=name) for name in ("arimo", "tinos", "lora", "roboto-condensed")]
    jobs += [RenderJob(text=BAR, music_font=name, staves="score+tabs") for name in ("bravura", "leland", "petaluma")]
    pictures = [result[0] for result in pool.map_render(jobs) if isinstance(result, list)]
    assert len({picture.png for picture in pictures}) == len(jobs)
    assert {len([n for n in picture.notes if n.kind == "tab"]) for picture in pictures} == {5}
