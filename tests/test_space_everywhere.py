"""The Space on a phone, by keyboard, through a camera and in both languages: every tab, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from intermezzo.drawing import BARS_PER_SYSTEM, systems_of
from intermezzo.space import draw_tab
from intermezzo.space.page import TABS
from intermezzo.space.words import Words
from intermezzo.train.benchmark_space import find_browser

from .test_space import address, browser, models, no_sideways_scroll, server, shoot, visit, wait_engraved  # noqa: F401
from .tiny_space import ROOT, Visit

torch.set_num_threads(1)
# What Gradio says by itself where it has not been told the language.
ENGLISH_OF_GRADIO = ("Drop ", "Upload", "Click to", "- or -")
FOCUSED = "document.activeElement"


@pytest.mark.parametrize("text", draw_tab._TEXTS)
def test_what_stands_there_to_be_drawn_can_be_drawn(text: str) -> None:
    assert 1 <= BARS_PER_SYSTEM * len(systems_of(text)) <= draw_tab.MAX_BARS
    assert {number for names in draw_tab.EXAMPLES.values() for number in names.values()} == {0, 1}


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_on_a_phone_in_chinese(visit: Callable[..., Any], tab: str) -> None:  # noqa: F811
    page = visit(tab, language="zh", width=390, height=844)
    page.wait_for_selector(f"#im-tab-{tab} .im-lead")
    said = page.locator(f"#im-tab-{tab}").inner_text()
    assert Words("zh")[f"{tab}_lead"] in said
    assert not [word for word in ENGLISH_OF_GRADIO if word in said], said
    no_sideways_scroll(page)
    small = page.evaluate(
        "tab => [...document.querySelectorAll(`#${tab} button, #im-tabs [role=tab]`)]"
        ".filter(b => b.checkVisibility({visibilityProperty: true, opacityProperty: true}))"
        ".map(b => [b.textContent.trim(), Math.round(b.getBoundingClientRect().height)])"
        ".filter(([text, height]) => text && height < 36)",
        f"im-tab-{tab}",
    )
    small = [pair for pair in small if pair[0] != "↺"]  # Gradio's own way back beside a slider
    assert not small, f"too small for a thumb: {small}"
    shoot(page, f"phone-{tab}")


def press_until(page: Any, key: str, condition: str, most: int = 60) -> None:
    """Presses a key until the page is as wanted."""
    for _ in range(most):
        if page.evaluate(condition):
            return
        page.keyboard.press(key)
    raise AssertionError(f"{key} never led to: {condition}")


def test_tabs_and_their_work_by_keyboard_alone(visit: Callable[..., Any]) -> None:  # noqa: F811
    page = visit()
    press_until(page, "Tab", f"{FOCUSED}.getAttribute('role') === 'tab'")
    assert page.evaluate(f"getComputedStyle({FOCUSED}).outlineStyle") != "none", "where one is can be seen"
    name = Words("en")["compose"]
    page.keyboard.press("End")
    page.wait_for_function("document.querySelector('#im-tab-draw').checkVisibility()")
    page.keyboard.press("ArrowRight")  # round and round
    page.wait_for_function("document.querySelector('#im-tab-read').checkVisibility()")
    press_until(page, "ArrowRight", f"{FOCUSED}.textContent.trim() === '{name}'", most=5)
    page.wait_for_function("document.querySelector('#im-tab-compose').checkVisibility()")
    press_until(page, "Tab", f"Boolean({FOCUSED}.closest('#im-compose-text'))")
    page.keyboard.type("a slow waltz")
    press_until(page, "Tab", f"Boolean({FOCUSED}.closest('#im-compose-go'))")
    page.keyboard.press("Enter")
    page.wait_for_selector(".im-attributes tbody tr")
    press_until(page, "Shift+Tab", f"{FOCUSED}.getAttribute('role') === 'tab'")


def test_a_text_is_drawn_with_two_clicks_in_chinese(visit: Callable[..., Any]) -> None:  # noqa: F811
    page = visit("draw", language="zh")
    page.get_by_role("button", name="强力和弦", exact=True).click()
    page.wait_for_function("document.querySelector('#im-draw-text textarea').value.includes('(0.6 2.5 2.4)')")
    page.locator("#im-draw-go").click()
    page.wait_for_selector("#im-draw-picture img")
    wait_engraved(page, "im-draw-sheet")
    assert not page.locator("#im-draw-news .im-problem").count()


@pytest.fixture
def camera(browser: Any, tmp_path: Path) -> Iterator[Any]:  # noqa: F811
    """A browser whose camera looks at a line of tablature."""
    line = Image.open(ROOT / "examples" / "malaguena.png").convert("L")
    line.thumbnail((1240, 680))
    seen = Image.new("RGB", (1280, 720), "white")
    seen.paste(line, (20, 200))
    seen.save(tmp_path / "seen.mjpeg", "JPEG", quality=95)
    options = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    options.append(f"--use-file-for-fake-video-capture={tmp_path / 'seen.mjpeg'}")
    opened = browser.browser_type.launch(executable_path=find_browser(), args=options)
    yield opened
    opened.close()


def test_a_photo_is_taken_and_read(camera: Any, address: str) -> None:  # noqa: F811
    seen = Visit(camera, address, 1280, 900, "en-GB")
    page = seen.page
    page.goto(f"{address}/en/")
    page.locator("#im-read-camera").click()
    page.locator("#im-read-photo").get_by_role("button").first.click()
    page.wait_for_selector("#im-read-photo video")
    shoot(page, "camera")
    page.locator("#im-read-photo").get_by_role("button", name="capture photo").click()
    wait_engraved(page, "im-read-sheet")
    shoot(page, "camera-read")
    assert page.locator(".im-system").count() == 1
    text = page.locator("#im-read-sheet-text").input_value()  # not as in a mirror
    assert "\\ts (3 4)" in text and text.count("|") == 4 and "(0.1 0.2 1.3 2.4 2.5 0.6)" in text, text
    seen.close()
    assert not seen.wrong, seen.wrong
