"""A tiny model folder with random weights for every stem, for tests that need all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

# Stem to the Auto class that loads it.
AUTO_CLASSES = {
    "score_tower": "AutoModel",
    "score_vlm": "AutoModelForImageTextToText",
    "image_vq": "AutoModel",
    "native_vlm": "AutoModelForCausalLM",
    "museformer": "AutoModelForCausalLM",
    "summary_bridge": "AutoModel",
    "fractal_midi": "AutoModel",
    "style_encoder": "AutoModel",
    "edit": "AutoModel",
}


def _score_tower() -> list[Any]:
    from intermezzo.modeling.modeling_score_tower import ScoreTowerModel

    from .tiny_score_vlm import tower_config

    return [ScoreTowerModel(tower_config())]


def _score_vlm() -> list[Any]:
    from intermezzo.modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
    from intermezzo.processing.image_processing_score import ScoreImageProcessor
    from intermezzo.processing.processing_score_vlm import ScoreVLMProcessor
    from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

    from .tiny_score_vlm import vlm_config

    tokenizer = AlphaTexTokenizer()
    return [
        ScoreVLMForConditionalGeneration(vlm_config(len(tokenizer))),
        ScoreVLMProcessor(ScoreImageProcessor(), tokenizer),
    ]


def _image_vq() -> list[Any]:
    from intermezzo.configuration.configuration_image_vq import ImageVQConfig
    from intermezzo.modeling.modeling_image_vq import ImageVQModel
    from intermezzo.processing.image_processing_score import ScoreImageProcessor
    from intermezzo.processing.processing_image_vq import ImageVQProcessor

    from .tiny_native_vlm import VQ

    config = ImageVQConfig(**VQ)
    return [ImageVQModel(config), ImageVQProcessor.for_model(config, ScoreImageProcessor())]


def _native_vlm() -> list[Any]:
    from intermezzo.modeling.modeling_native_vlm import NativeVLMForCausalLM
    from intermezzo.processing.image_processing_score import ScoreImageProcessor
    from intermezzo.processing.processing_native_vlm import NativeVLMProcessor
    from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

    from .tiny_native_vlm import native_config

    tokenizer = AlphaTexTokenizer()
    config = native_config(text_vocab_size=len(tokenizer), max_rows=8, max_columns=72, max_position_embeddings=700)
    return [NativeVLMForCausalLM(config), NativeVLMProcessor.for_model(config, ScoreImageProcessor(), tokenizer)]


def _museformer() -> list[Any]:
    from intermezzo.processing.processing_museformer import BarMidiProcessor

    from .tiny_museformer import make

    return [make(), BarMidiProcessor()]


def _summary_bridge() -> list[Any]:
    from intermezzo.modeling.modeling_summary_bridge import SummaryBridgeModel
    from intermezzo.processing.processing_summary_bridge import SummaryBridgeProcessor

    from .toy_bridge import config_of

    return [SummaryBridgeModel(config_of()), SummaryBridgeProcessor()]


def _fractal_midi() -> list[Any]:
    from intermezzo.modeling.modeling_fractal_midi import FractalMidiModel
    from intermezzo.processing.processing_fractal_midi import FractalMidiProcessor

    from .tiny_fractal_midi import tiny

    return [FractalMidiModel(tiny()), FractalMidiProcessor()]


def _edit() -> list[Any]:
    from intermezzo.modeling.modeling_edit import ScoreEditModel
    from intermezzo.processing.processing_edit import ScoreEditProcessor
    from intermezzo.train.train_edit import edit_config

    sizes = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48, vocab_size=512)
    return [ScoreEditModel(edit_config(**sizes)), ScoreEditProcessor(512)]


MAKERS: dict[str, Callable[[], list[Any]]] = {
    "score_tower": _score_tower,
    "score_vlm": _score_vlm,
    "image_vq": _image_vq,
    "native_vlm": _native_vlm,
    "museformer": _museformer,
    "summary_bridge": _summary_bridge,
    "fractal_midi": _fractal_midi,
    "edit": _edit,
}


def save(stem: str, folder: Path) -> Path:
    """Writes the folder of one stem, as training leaves it."""
    if stem == "style_encoder":
        from .tiny_style_encoder import save_tiny

        folder.mkdir(parents=True)
        return save_tiny(folder)
    torch.manual_seed(0)
    for part in MAKERS[stem]():
        part.save_pretrained(folder)
    return folder


def add_adapter(folder: Path) -> Path:
    """Puts a LoRA adapter with random weights into `adapter/` of a museformer's folder."""
    from peft import LoraConfig, get_peft_model

    from intermezzo.modeling.modeling_museformer import MuseformerForCausalLM

    torch.manual_seed(3)
    settings = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(MuseformerForCausalLM.from_pretrained(folder), settings)
    model.save_pretrained(folder / "adapter")
    return folder
