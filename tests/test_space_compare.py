"""The Space's tab Compare: its examples are what their names say, and one click compares them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from intermezzo.comparing import compare, load_looker
from intermezzo.space.compare_tab import ASSETS, EXAMPLES, compare_pictures
from intermezzo.space.words import Refused, Words

from .test_space import address, browser, models, server, shoot, visit  # noqa: F401
from .tiny_space import ROOT

torch.set_num_threads(1)
LOOKED = "document.querySelector('#im-compare-result .im-looked img')?.src ?? ''"


def test_the_trained_model_finds_one_style_and_two_where_the_examples_say_so() -> None:
    looker = load_looker(ROOT / "checkpoints" / "style_encoder", "cpu")
    for name, pair in EXAMPLES.items():
        found = compare(*(ASSETS / f"style_{one}.png" for one in pair), model=looker)
        assert found.verdict == ("two styles" if name == "two_hands" else "one style"), (name, str(found))


def test_examples_are_their_drawings() -> None:
    from intermezzo.datasets_scripts.render.verbs import default_pool

    names = sorted({one for pair in EXAMPLES.values() for one in pair})
    drawings = [(ASSETS / f"style_{name}.svg").read_text(encoding="utf-8") for name in names]
    for name, drawn in zip(names, default_pool().map_draw_svg(drawings, 224), strict=True):
        assert isinstance(drawn, bytes), drawn
        kept, anew = (
            np.asarray(Image.open(file).convert("RGB"), dtype=np.float32)
            for file in (ASSETS / f"style_{name}.png", io.BytesIO(drawn))
        )
        assert kept.shape == anew.shape and np.abs(kept - anew).mean() < 4, name  # kept in few colours
        assert (ASSETS / f"style_{name}.png").stat().st_size < 4000


@pytest.mark.parametrize("language", ["en", "zh"])
def test_one_picture_is_not_enough(models: Any, language: str) -> None:  # noqa: F811
    words = Words(language)
    with pytest.raises(Refused, match=words["need_two"]):
        compare_pictures(str(ASSETS / "style_line_cup.png"), None, models, words)


def test_one_click_compares_two_pictures(visit: Callable[..., Any]) -> None:  # noqa: F811
    page = visit("compare")
    for name in EXAMPLES:
        before = page.evaluate(LOOKED)
        page.get_by_role("button", name=Words("en")[name], exact=True).click()
        page.wait_for_function(f"before => {{ const now = {LOOKED}; return now && now !== before; }}", arg=before)
    assert page.locator(".im-looked img").count() == 2
    shoot(page, "compare-example")
