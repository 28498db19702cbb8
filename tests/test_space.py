"""The Space: each tab does its job in a real browser, on real input, and asks nobody but its own server."""

from __future__ import annotations

import base64
import runpy
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.processing.errors import InputError
from intermezzo.space.compare_tab import draw_standing
from intermezzo.space.limits import check_file
from intermezzo.space.models import Models
from intermezzo.space.paint_tab import paint_roll, unpack_mask
from intermezzo.space.words import Refused, Words
from intermezzo.train.benchmark_space import find_browser, serving

from .tiny_space import ROOT, Visit, make_models

torch.set_num_threads(1)
pytest.importorskip("gradio", reason="the Space needs gradio: pip install 'intermezzo[space]'")

EXAMPLES = ROOT / "examples"
SHOTS = ROOT / "out" / "space"
#: What each tab shows once it is whole: Gradio puts its parts into the page one after another.
SHOWN = {
    "read": "#im-read-sheet .im-editor",
    "edit": "#im-edit-after",
    "compose": "#im-compose-roll canvas",
    "paint": "#im-paint-roll canvas",
    "compare": "#im-compare-result",
    "draw": "#im-draw-sheet",
}
TEXT = "\\staff {tabs}\n\\ts (3 4) 3.3.4 5.3.4 r.4 |\n3.3.2{d} |\n0.6.2{d} |\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(models: Models) -> Any:
    from intermezzo.space.server import make_server

    return make_server(models)


@pytest.fixture(scope="module")
def address(server: Any) -> Iterator[str]:
    with serving(server) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need playwright")
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium found (Debian: apt install chromium)")
    with playwright.sync_playwright() as started:
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
        opened = started.chromium.launch(executable_path=path, args=options)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """Opens the Space; at the end nothing wrong may have happened."""
    visits = []

    def open_page(tab: str = "read", language: str = "en", width: int = 1280, height: int = 900) -> Any:
        seen = Visit(browser, address, width, height, {"en": "en-GB", "zh": "zh-CN"}[language])
        visits.append(seen)
        seen.page.goto(f"{address}/{language}/")
        seen.page.wait_for_selector("#im-tabs [role=tab]")
        if tab != "read":
            name = Words(language)[tab]
            seen.page.get_by_role("tab", name=name, exact=True).click()
        seen.page.wait_for_selector(f"#im-tab-{tab} {SHOWN[tab]}", state="attached")
        seen.page.wait_for_function("Boolean(window.Intermezzo?.sheet && window.Intermezzo?.roll)")
        return seen.page

    yield open_page
    wrong = [line for seen in visits for line in seen.wrong]
    for seen in visits:
        seen.close()
    assert not wrong, wrong


def shoot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    path = SHOTS / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    print(f"screenshot: {path}")


def no_sideways_scroll(page: Any) -> None:
    assert page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")


# --- Without a browser ------------------------------------------------------------------------------------------------


def _png_head(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_pictures_that_would_fill_the_memory_are_refused_unopened(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(_png_head(50_000, 50_000))
    with pytest.raises(Refused, match="50000 × 50000"):
        check_file(bomb, Words("en"))
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(30_000_000)
    with pytest.raises(Refused, match="20 MB"):
        check_file(large, Words("zh"))
    assert check_file(EXAMPLES / "lead.png", Words("en")).name == "lead.png"


def test_masks_arrive_as_they_were_drawn() -> None:
    mask = np.random.default_rng(0).random((128, 37)) < 0.3
    sent = base64.b64encode(np.packbits(mask).tobytes()).decode()
    assert (unpack_mask(sent, 37) == mask).all()
    for wrong in (sent[:-8], "?" * 8, ""):
        with pytest.raises(InputError, match="mask"):
            unpack_mask(wrong, 37)


def test_only_tabs_with_a_model_are_there(tmp_path: Path, models: Models) -> None:
    from intermezzo.space.page import tabs_of
    from intermezzo.space.server import make_server

    assert tabs_of(models) == ["read", "edit", "compose", "paint", "compare", "draw"]
    (tmp_path / "score_vlm").symlink_to(ROOT / "checkpoints" / "score_vlm")
    assert tabs_of(Models(tmp_path)) == ["read"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nothing to show"):
        make_server(Models(tmp_path / "empty"))


def test_the_program_says_in_one_line_why_it_can_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)  # the program sets them where they are not; they must not outlive this test
    program = runpy.run_path(str(ROOT / "app.py"))
    monkeypatch.setattr("sys.argv", ["app.py", "--checkpoints", str(tmp_path)])
    assert program["main"]() == 1
    assert capsys.readouterr().err.splitlines() == [f"{tmp_path}: holds no trained model, so there is nothing to show"]


def test_the_program_says_in_one_line_what_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, "intermezzo.space.server", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)  # as where it is not installed
    monkeypatch.setattr("sys.argv", ["app.py"])
    assert runpy.run_path(str(ROOT / "app.py"))["main"]() == 1
    assert capsys.readouterr().err == "the page needs gradio; pip install 'intermezzo[space]'\n"


def test_what_was_painted_can_be_painted_on(models: Models) -> None:
    words = Words("en")
    _, shown, piece = paint_roll(models, words, None, "", 4, 0, 1.0, {"tempo": "fast"})
    assert shown["steps"] == 64 and piece.from_nothing and shown["tempo"] == piece.tempo > 100
    mask = np.zeros((128, 64), dtype=bool)
    mask[:, 16:32] = True
    sent = base64.b64encode(np.packbits(mask).tobytes()).decode()
    _, again, after = paint_roll(models, words, piece, sent, 4, 1, 1.0, {"density": "dense"})
    assert (after.source == piece.source)[~mask].all() and not after.from_nothing
    assert after.tempo == piece.tempo and again["steps"] == 64
    with pytest.raises(Refused, match="covered"):
        paint_roll(models, words, after, "", 4, 0, 1.0, {})


def test_standing_is_drawn_where_it_belongs() -> None:
    known = {"same": np.array([0.6, 0.7]), "different": np.array([-0.2, 0.1])}
    drawn = draw_standing(0.5, known, Words("en"))
    assert 'x1="480.0"' in drawn and drawn.count("<path") == 2
    assert draw_standing(0.5, {}, Words("en")) == ""


def test_downloads_in_every_format_and_a_line_for_what_fails(server: Any) -> None:
    from starlette.testclient import TestClient

    client = TestClient(server)
    starts = {"alphatex": b"\\staff", "gp": b"PK", "mid": b"MThd", "musicxml": b"<?xml"}
    for kind, start in starts.items():
        answer = client.post(f"/convert/{kind}", content=TEXT)
        assert answer.status_code == 200 and answer.content.startswith(start), (kind, answer.content[:80])
    for kind, text in (("mid", "what is this"), ("mid", ""), ("exe", TEXT), ("mid", "x" * 70_000)):
        answer = client.post(f"/convert/{kind}", content=text, headers={"Accept-Language": "zh-CN"})
        assert answer.status_code == 422 and len(answer.json()["problem"].splitlines()) == 1
    assert (
        client.get("/", headers={"Accept-Language": "zh-CN,en"}, follow_redirects=False).headers["location"] == "./zh/"
    )
    policy = client.get("/en/").headers["content-security-policy"]
    assert "default-src 'self'" in policy


# --- In a browser -----------------------------------------------------------------------------------------------------


def wait_engraved(page: Any, sheet: str, times: int = 1) -> None:
    page.wait_for_function(f"Number(document.getElementById('{sheet}').dataset.engraved || 0) >= {times}")


def test_a_picture_is_read_played_changed_and_kept(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit()
    shoot(page, "read-empty")
    page.set_input_files("#im-read-file input[type=file]", EXAMPLES / "greensleeves_page.pdf")
    page.wait_for_selector(".im-system")
    assert page.locator(".im-system").count() == 4
    wait_engraved(page, "im-read-sheet")
    assert "4 systems · 17 bars" in page.locator("#im-read-news").inner_text()
    page.wait_for_selector("#im-read-sheet[data-ready=yes]")
    page.locator("#im-read-sheet .im-play").focus()
    page.keyboard.press("Enter")  # by keyboard alone
    page.wait_for_function("Number(document.getElementById('im-read-sheet').dataset.tick || 0) > 500")
    assert page.locator("#im-read-sheet .at-cursor-beat").count() == 1
    shoot(page, "read")
    page.keyboard.press("Enter")
    editor = page.locator("#im-read-sheet-text")
    assert editor.input_value().startswith("\\staff")
    editor.fill("\\staff {tabs}\n\\ts (4 4) 99.9.zz |")
    page.wait_for_selector("#im-read-sheet .im-problem:not(:empty)")
    assert "Line" in page.locator("#im-read-sheet .im-problem").inner_text()
    editor.fill(TEXT)
    page.wait_for_function("Intermezzo.sheet('im-read-sheet').api.score.masterBars.length === 3")
    for kind, start in {"mid": b"MThd", "gp": b"PK"}.items():
        with page.expect_download() as kept:
            page.locator(f"#im-read-sheet [data-format={kind}]").click()
        assert kept.value.suggested_filename.endswith(f".{kind}")
        assert Path(kept.value.path()).read_bytes().startswith(start)


def test_doubtful_bars_are_coloured(visit: Callable[..., Any]) -> None:
    page = visit()
    page.evaluate("text => Intermezzo.sheet('im-read-sheet').show(text, [2], 'song')", TEXT)
    page.wait_for_selector("#im-read-sheet .im-doubt", state="attached")
    mark, bar = page.evaluate(
        "() => { const sheet = Intermezzo.sheet('im-read-sheet');"
        "const mark = document.querySelector('.im-doubt').style;"
        "const bar = sheet.api.boundsLookup.findMasterBarByIndex(1).visualBounds;"
        "return [[parseFloat(mark.left), parseFloat(mark.width)], [bar.x, bar.w]]; }"
    )
    assert mark == pytest.approx(bar, abs=0.5) and page.locator(".im-doubt").count() == 1
    page.locator("#im-read-sheet-text").fill(TEXT + "3.3.2{d} |\n")  # other bars: the marks no longer hold
    page.wait_for_selector("#im-read-sheet .im-doubt", state="detached")


def test_what_can_not_be_read_is_a_friendly_line(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit(language="zh")
    broken = tmp_path / "notes.png"
    broken.write_bytes(b"\x89PNG no picture at all")
    page.set_input_files("#im-read-file input[type=file]", broken)
    page.wait_for_selector("#im-read-news .im-problem")
    assert "图片" in page.locator("#im-read-news").inner_text()


def test_on_a_phone_in_chinese(visit: Callable[..., Any]) -> None:
    page = visit(language="zh", width=390, height=844)
    no_sideways_scroll(page)
    page.get_by_role("button", name="布鲁斯乐句").click()
    wait_engraved(page, "im-read-sheet")
    page.wait_for_selector("#im-read-sheet[data-ready=yes]")
    no_sideways_scroll(page)
    shoot(page, "read-phone")
    small = page.evaluate(
        "() => [...document.querySelectorAll('.im-score button, .im-pills button, #im-tabs [role=tab]')]"
        ".filter(b => b.checkVisibility({visibilityProperty: true, opacityProperty: true}))"
        ".map(b => [b.textContent, Math.round(b.getBoundingClientRect().height)]).filter(pair => pair[1] < 36)"
    )
    assert not small, f"too small for a thumb: {small}"


def test_a_roll_is_painted_covered_and_painted_again(visit: Callable[..., Any]) -> None:
    page = visit("paint")
    page.wait_for_selector("#im-paint-roll canvas")
    page.locator("#im-paint-go").click()
    page.wait_for_selector("#im-paint-roll[data-grown='1']")
    shoot(page, "paint-from-nothing")
    page.get_by_role("button", name="Ode to Joy").click()
    page.wait_for_function("Intermezzo.roll('im-paint-roll').bars.length === 16")
    page.wait_for_function("!Intermezzo.roll('im-paint-roll').fromNothing")
    page.locator("#im-paint-go").click()  # nothing is covered yet
    page.wait_for_selector("#im-paint-news .im-problem")
    page.get_by_role("button", name="Ode to Joy").click()
    page.wait_for_function("!document.querySelector('#im-paint-news .im-problem')")
    page.locator("#im-paint-roll canvas").scroll_into_view_if_needed()
    box = page.locator("#im-paint-roll canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.26, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.49, box["y"] + box["height"] * 0.8, steps=4)
    page.mouse.up()
    covered = page.evaluate("Intermezzo.roll('im-paint-roll').mask.reduce((a, b) => a + b, 0)")
    assert covered > 500
    before = page.evaluate("Array.from(Intermezzo.roll('im-paint-roll').codes)")
    mask = page.evaluate("Array.from(Intermezzo.roll('im-paint-roll').mask)")
    shoot(page, "paint-covered")
    page.locator("#im-paint-go").click()
    page.wait_for_selector("#im-paint-roll[data-grown='2']")
    after = page.evaluate("Array.from(Intermezzo.roll('im-paint-roll').codes)")
    kept = np.array(mask) == 0
    assert (np.array(before)[kept] == np.array(after)[kept]).all(), "what was not covered stays"
    assert f"{covered:,} cells" in page.locator("#im-paint-news").inner_text()
    page.locator("#im-paint-roll .im-play").click()
    page.wait_for_function("Number(document.getElementById('im-paint-roll').dataset.step || 0) > 1")
    page.locator("#im-paint-roll .im-play").click()
    for kind, start in {"mid": b"MThd", "gif": b"GIF8"}.items():
        link = page.locator(f"#im-paint-roll [data-file={kind}]").get_attribute("href")
        assert base64.b64decode(link.partition(",")[2]).startswith(start)
    shoot(page, "paint")


def test_words_become_a_roll_with_what_was_asked_beside_it(visit: Callable[..., Any]) -> None:
    page = visit("compose")
    page.locator("#im-compose-go").click()
    page.wait_for_selector("#im-compose-news .im-problem")
    page.locator("#im-compose-text textarea").fill("a slow waltz in A minor")
    page.locator("#im-compose-go").click()
    page.wait_for_selector(".im-attributes tbody tr")
    assert "Metre" in page.locator(".im-attributes").inner_text()
    page.wait_for_function("Intermezzo.roll('im-compose-roll').bars.length >= 4")
    link = page.locator("#im-compose-roll [data-file=mid]").get_attribute("href")
    assert base64.b64decode(link.partition(",")[2]).startswith(b"MThd")
    page.locator("#im-compose-roll .im-play").click()
    page.wait_for_function("Number(document.getElementById('im-compose-roll').dataset.step || 0) > 1")
    shoot(page, "compose")


def test_the_roll_works_by_keyboard_and_on_a_phone(visit: Callable[..., Any]) -> None:
    page = visit("paint", language="zh", width=390, height=844)
    page.get_by_role("button", name="欢乐颂").click()
    page.wait_for_function("!Intermezzo.roll('im-paint-roll').fromNothing")
    page.locator("#im-paint-roll canvas").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    assert page.evaluate("Intermezzo.roll('im-paint-roll').mask.reduce((a, b) => a + b, 0)") == 12 * 16
    page.keyboard.press("Space")
    assert page.evaluate("Intermezzo.roll('im-paint-roll').mask.reduce((a, b) => a + b, 0)") == 0
    no_sideways_scroll(page)
    shoot(page, "paint-phone")


def test_two_pictures_are_compared(visit: Callable[..., Any]) -> None:
    page = visit("compare")
    page.locator("#im-compare-go").click()
    page.wait_for_selector("#im-compare-result .im-problem")
    for name, file in {"first": "lead.png", "second": "bass.png"}.items():
        page.set_input_files(f"#im-compare-{name} input[type=file]", EXAMPLES / file)
        page.wait_for_selector(f"#im-compare-{name} img")
    page.locator("#im-compare-go").click()
    page.wait_for_selector(".im-compared svg")
    assert page.locator(".im-looked img").count() == 2
    shoot(page, "compare")


def test_a_text_is_drawn_beside_its_engraving(visit: Callable[..., Any]) -> None:
    page = visit("draw")
    page.locator("#im-draw-text textarea").fill("what is this")
    page.locator("#im-draw-go").click()
    page.wait_for_selector("#im-draw-news .im-problem")
    page.locator("#im-draw-text textarea").fill(TEXT)
    page.locator("#im-draw-go").click()
    page.wait_for_selector("#im-draw-picture img")
    wait_engraved(page, "im-draw-sheet")
    shoot(page, "draw")
