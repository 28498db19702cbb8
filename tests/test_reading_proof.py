"""The proof page: whole in itself, the right bars marked, whatever the names and texts hold."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from intermezzo.datasets_scripts.render.jobs import RenderError
from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.reading_proof import proof_page

EXAMPLES = Path(__file__).parents[1] / "examples"
TEXT = "\\staff {tabs}\n\\ts (4 4) 3.3.1 |\n5.3.1 |\n7.3.1 |\n"


class Pool:
    """Draws bars 100 px wide; refuses when told to."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.asked = fails, []

    def render(self, job) -> list[SimpleNamespace]:
        self.asked.append(job)
        if self.fails:
            raise RenderError("layout_error", "too <wide>")
        bars = [SimpleNamespace(bar=k, x=100.0 * k, y=10.0, w=100.0, h=40.0) for k in range(3)]
        return [SimpleNamespace(bars=bars, width=400, height=50, image=lambda: Image.new("L", (400, 50), 200))]


def reading(confidence=(0.95, 0.2, 0.7), text: str = TEXT, box=(10.0, 20.0, 110.0, 60.0)) -> SimpleNamespace:
    score = read_alphatex(text) if text == TEXT else None
    return SimpleNamespace(text=text, bar_confidence=list(confidence), bars=3, closes=True, box=box, score=score)


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_doubtful_bars_are_marked_where_they_are_drawn() -> None:
    page = proof_page("song", Image.new("L", (200, 100), 255), [reading()], Pool())
    marks = re.findall(r'class="bar (\w+)" style="left:([\d.]+)%;top:([\d.]+)%;width:([\d.]+)%', page)
    assert marks == [("red", "25.00", "20.00", "25.00"), ("amber", "50.00", "20.00", "25.00")]
    assert "bars to check: 2<" in page and "1 of them more likely wrong" in page
    cut, drawn = pictures(page)
    assert cut.size == (110, 50) and drawn.size == (400, 50)  # the system with a little around it, cut at the page


def test_the_page_needs_nothing_else_and_closes_its_tags() -> None:
    page = proof_page('<script>alert("x")</script> & co', Image.new("L", (200, 100), 255), [reading()] * 2, Pool())
    assert "<script" not in page and "http" not in page and "&lt;script&gt;" in page
    outside = [m for m in re.findall(r'(?:src|href)="([^"]{0,20})', page) if not m.startswith("data:image/png")]
    assert not outside

    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag, attrs) -> None:
            if tag not in ("img", "meta"):
                self.open.append(tag)

        def handle_endtag(self, tag) -> None:
            assert self.open.pop() == tag

    parser = Tags()
    parser.feed(page)
    assert not parser.open and page.count("<section>") == 2


def test_what_can_not_be_drawn_is_said() -> None:
    blank = Image.new("L", (200, 100), 255)
    page = proof_page("song", blank, [reading(text="3.3.<b>", box=None)], Pool())
    assert "does not read as alphaTex" in page and "3.3.&lt;b&gt;" in page and pictures(page)[0].size == (200, 100)
    page = proof_page("song", blank, [reading()], Pool(fails=True))
    assert "too &lt;wide&gt;" in page


def test_a_bar_without_a_chance_is_in_doubt() -> None:
    page = proof_page("song", Image.new("L", (200, 100), 255), [reading((0.99,))], Pool())
    assert page.count('class="bar red"') == 2


def test_read_writes_the_page_of_a_real_picture(tmp_path) -> None:
    from intermezzo import read
    from intermezzo.reading import default_checkpoint

    if not (default_checkpoint() / "config.json").is_file():
        pytest.skip("the reader's weights are not here")
    [result] = read([EXAMPLES / "greensleeves_page.pdf"], tmp_path, ("alphatex", "html"), views=1)
    assert result.error is None and [path.name for path in result.files] == [
        "greensleeves_page.alphatex", "greensleeves_page.html",
    ]  # fmt: skip
    page = result.files[1].read_text(encoding="utf-8")
    assert len(pictures(page)) == 2 * len(result.systems) == 8 and "can not be drawn" not in page
