"""The Gradio page of one language: heading, a tab for each model that is there, foot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import compare_tab, compose_tab, draw_tab, edit_tab, paint_tab, read_tab
from .limits import KEEP_SECONDS
from .models import Models
from .words import LANGUAGES, Words

# A tab, the checkpoints it needs, and what builds it.
TABS: dict[str, tuple[tuple[str, ...], Callable[[Models, Words], None]]] = {
    "read": (("score_vlm",), read_tab.build),
    "edit": (("edit",), edit_tab.build),
    "compose": (("summary_bridge", "museformer"), compose_tab.build),
    "paint": (("fractal_midi",), paint_tab.build),
    "compare": (("style_encoder",), compare_tab.build),
    "draw": (("native_vlm",), draw_tab.build),
}

_NAMES = {"en": "English", "zh": "中文"}


def tabs_of(models: Models) -> list[str]:
    """Names of the tabs whose checkpoints are there."""
    return [name for name, (stems, _) in TABS.items() if models.has(*stems)]


def _head(words: Words) -> str:
    links = "".join(
        f'<a href="../{language}/" lang="{language}" hreflang="{language}"'
        f"{' aria-current=true' if language == words.language else ''}>{_NAMES[language]}</a>"
        for language in LANGUAGES
    )
    return f"""<header class="im-head"><div><h1>{words["title"]}</h1><p>{words["tagline"]}</p></div>
<nav class="im-languages">{links}</nav></header>"""


def build_page(models: Models, words: Words) -> Any:
    """The page as `gradio.Blocks`, not started yet."""
    import gradio as gr

    with gr.Blocks(title=words["title"], analytics_enabled=False, delete_cache=(600, KEEP_SECONDS)) as page:
        gr.HTML(_head(words))
        with gr.Tabs(elem_id="im-tabs"):
            for name in tabs_of(models):
                with gr.Tab(words[name], id=name, elem_id=f"im-tab-{name}"):
                    TABS[name][1](models, words)
        gr.HTML(f'<footer class="im-foot">{words["private"]}</footer>')
    return page


def make_theme() -> Any:
    """Paper, ink, one accent; the machine's own fonts, so that none is fetched; the same by day and by night."""
    import gradio as gr

    sans = ["system-ui", "-apple-system", "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "sans-serif"]
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_md,
        font=[gr.themes.Font(name) for name in sans],
        font_mono=[gr.themes.Font(name) for name in ("ui-monospace", "SF Mono", "DejaVu Sans Mono", "monospace")],
    ).set(
        body_background_fill="#faf8f4",
        body_text_color="#22201c",
        body_text_color_subdued="#756e64",
        background_fill_primary="#fffefb",
        background_fill_secondary="#f5f2ec",
        block_background_fill="#fffefb",
        block_border_color="#e6e1d8",
        block_border_width="1px",
        block_label_background_fill="#fffefb",
        block_label_text_color="#756e64",
        block_label_text_weight="400",
        block_title_text_color="#5c564d",
        block_title_text_weight="400",
        block_shadow="none",
        border_color_primary="#e0dacf",
        border_color_accent="#2f5d62",
        color_accent="#2f5d62",
        color_accent_soft="#e7efef",
        input_background_fill="#fffefb",
        input_border_color="#e0dacf",
        input_border_color_focus="#2f5d62",
        button_primary_background_fill="#2f5d62",
        button_primary_background_fill_hover="#264d51",
        button_primary_text_color="#ffffff",
        button_secondary_background_fill="#fffefb",
        button_secondary_background_fill_hover="#f1ede5",
        button_secondary_border_color="#e0dacf",
        button_secondary_text_color="#3c3832",
        slider_color="#2f5d62",
        loader_color="#2f5d62",
    )
    for name in [name for name in vars(theme) if name.endswith("_dark")]:
        setattr(theme, name, getattr(theme, name.removesuffix("_dark"), None))
    return theme


__all__ = ["TABS", "build_page", "make_theme", "tabs_of"]
