"""A Space with small untrained models beside two trained ones, and a browser to look at it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from intermezzo.configuration.configuration_fractal_midi import FractalMidiConfig
from intermezzo.modeling.modeling_fractal_midi import FractalMidiModel
from intermezzo.modeling.modeling_native_vlm import NativeVLMForCausalLM
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.processing_fractal_midi import FractalMidiProcessor
from intermezzo.processing.processing_native_vlm import NativeVLMProcessor
from intermezzo.processing.system_reader import SystemReader
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer
from intermezzo.space.models import Models

from .tiny_composer import ENCODER, encoder_module, tiny_composer
from .tiny_native_vlm import native_config
from .tiny_style_encoder import save_tiny

ROOT = Path(__file__).resolve().parent.parent


def save_fractal_midi(folder: Path, window_steps: int = 64) -> None:
    torch.manual_seed(0)
    processor = FractalMidiProcessor(window_steps=window_steps)
    config = FractalMidiConfig(
        level_sizes=((128, window_steps), (32, 16), (8, 8), (1, 1)), hidden_sizes=(16, 16, 16),
        num_hidden_layers=(1, 1, 1), num_attention_heads=(2, 2, 2), context_margins=((4, 4), (4, 4)),
        attribute_names=tuple(processor.condition_names), attribute_sizes=tuple(processor.condition_sizes),
    )  # fmt: skip
    FractalMidiModel(config).save_pretrained(folder)
    processor.save_pretrained(folder)


def save_native_vlm(folder: Path) -> None:
    torch.manual_seed(0)
    tokenizer = AlphaTexTokenizer()
    config = native_config(text_vocab_size=len(tokenizer), max_rows=8, max_columns=20, max_position_embeddings=340)
    NativeVLMForCausalLM(config).save_pretrained(folder)
    NativeVLMProcessor.for_model(config, ScoreImageProcessor(), tokenizer).save_pretrained(folder)


def make_models(folder: Path) -> Models:
    """The reader and the model of edits that come along, and one untrained model of each other kind.

    The models that compose need a text encoder that is made up here: they are given loaded.
    """
    for stem in ("score_vlm", "edit"):
        (folder / stem).symlink_to(ROOT / "checkpoints" / stem)
    save_fractal_midi(folder / "fractal_midi")
    save_tiny(folder / "style_encoder")
    save_native_vlm(folder / "native_vlm")
    for stem in ("museformer", "summary_bridge"):
        (folder / stem).mkdir()
        (folder / stem / "config.json").write_text("{}")
    sys.modules.setdefault(ENCODER, encoder_module())
    models = Models(folder, device="cpu")
    models._loaded["composer"] = tiny_composer()
    # One look at a system in place of six: what is tested is the page, not how well the reader reads.
    models._loaded["score_vlm"] = SystemReader.from_pretrained(folder / "score_vlm", device="cpu", views=1)
    return models


class Visit:
    """A page in a browser, and all that must not happen in it.

    Attributes:
        page: Playwright's page.
        wrong: Console errors, uncaught exceptions, and addresses elsewhere than on the server.
    """

    def __init__(self, browser: Any, address: str, width: int, height: int, locale: str) -> None:
        self.wrong: list[str] = []
        phone = width < 500
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, locale=locale, accept_downloads=True, has_touch=phone,
            is_mobile=phone,
        )  # fmt: skip
        self.page = self.context.new_page()
        self.page.set_default_timeout(90_000)
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))

        def asked(request: Any) -> None:
            if not request.url.startswith((address, "data:", "blob:", address.replace("http", "ws"))):
                self.wrong.append(f"asked {request.url}")

        self.page.on("request", asked)

    def close(self) -> None:
        self.context.close()
