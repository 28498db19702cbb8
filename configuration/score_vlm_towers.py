"""Vision towers and language models of ScoreVLM by name.

    config = ScoreVLMConfig(connector="cross_attention", text_config=text_options(), **tower_options("small"))

A tower's name is one of `TOWERS`, `timm/ARCHITECTURE`, or a model folder or Hub name whose configuration transformers
knows (of a CLIP or SigLIP model the vision half). Only configurations are made here; weights are loaded elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
#: `image_column_px` of a processor that writes one `<|image|>` for a picture, as cross-attention wants it.
WHOLE_PICTURE_PX = 1 << 20
HALF = (0.5, 0.5, 0.5)
#: Hub names of the weights that belong to a tower's name.
PRETRAINED = {
    "clip": "openai/clip-vit-base-patch16",
    "clip-large": "openai/clip-vit-large-patch14",
    "siglip": "google/siglip-base-patch16-224",
    "siglip-large": "google/siglip-large-patch16-256",
}


def patch_tower(height: int, width: int, layers: int = 3, hidden_size: int = 256) -> dict[str, Any]:
    """A small ViT over grey pictures, made to be trained from nothing.

    Args:
        height, width: Of the picture in pixels, multiples of 16; one token for each square of 16.
        layers: Number of layers.
        hidden_size: Width of a token.
    """
    return {
        "vision_config": {
            "model_type": "vit",
            "hidden_size": hidden_size,
            "num_hidden_layers": layers,
            "num_attention_heads": hidden_size // 64,
            "intermediate_size": 4 * hidden_size,
            "image_size": [height, width],
            "patch_size": 16,
            "num_channels": 1,
        },
        "picture_size": [height, width],
        # The one before the last is the better layer of a tower that learnt something else; this one learns only this.
        "vision_feature_layer": -1,
    }


def _ready_tower(model_type: str, size: int, mean: Sequence[float], std: Sequence[float], **shape: int) -> dict:
    return {
        "vision_config": {"model_type": model_type, "image_size": size, **shape},
        "picture_size": [size, size],
        "picture_mean": list(mean),
        "picture_std": list(std),
    }


_BASE = dict(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, patch_size=16)
_LARGE = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
TOWERS: dict[str, dict[str, Any]] = {
    "small": patch_tower(224, 224),  # 196 tokens
    "wide": patch_tower(224, 672),  # 588 tokens: one system, not squeezed into a square
    "wider": patch_tower(224, 1344),  # 1,176 tokens
    "clip": _ready_tower("clip_vision_model", 224, CLIP_MEAN, CLIP_STD, **_BASE),
    "clip-large": _ready_tower("clip_vision_model", 224, CLIP_MEAN, CLIP_STD, **_LARGE, patch_size=14),
    "siglip": _ready_tower("siglip_vision_model", 224, HALF, HALF, **_BASE),
    "siglip-large": _ready_tower("siglip_vision_model", 256, HALF, HALF, **_LARGE, patch_size=16),
}


def tower_options(name: str) -> dict[str, Any]:
    """What `ScoreVLMConfig` has to be told of a tower.

    Args:
        name: See the module's text.

    Returns:
        `vision_config`, `picture_size` and, where the tower was trained on photographs, `picture_mean` and
        `picture_std`.

    Raises:
        ValueError: timm has no such architecture.
        OSError: There is no such folder or Hub name.
    """
    if name in TOWERS:
        return {key: dict(value) if isinstance(value, dict) else value for key, value in TOWERS[name].items()}
    if name.startswith("timm/"):
        return _timm_options(name.removeprefix("timm/"))
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(name)
    config = getattr(config, "vision_config", config)
    size = getattr(config, "image_size", None)
    options: dict[str, Any] = {"vision_config": config}
    if size is not None:
        options["picture_size"] = [size, size] if isinstance(size, int) else list(size)
    if getattr(config, "num_channels", 1) == 3:
        clip = config.model_type.startswith("clip")
        options |= {"picture_mean": list(CLIP_MEAN if clip else HALF), "picture_std": list(CLIP_STD if clip else HALF)}
    return options


def _timm_options(architecture: str) -> dict[str, Any]:
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"timm/{architecture} needs timm: pip install timm") from error
    bare = architecture.partition(".")[0]  # what follows the dot names the weights
    if not timm.is_model(bare):
        raise ValueError(f"timm has no architecture {bare!r}; timm.list_models() names them")
    known = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
    mean, std, size = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (224, 224)
    if known is not None:
        mean, std, size = known.mean, known.std, tuple(known.input_size[1:])
    return {
        "vision_config": {"model_type": "timm_wrapper", "architecture": architecture},
        "picture_size": list(size),
        "picture_mean": list(mean),
        "picture_std": list(std),
    }


def text_options(preset: str = "reference", vocab_size: int = 1024) -> dict[str, Any]:
    """A NanoChat of eight layers of 256, for alphaTex.

    Args:
        preset: `"reference"`, 19.4 M parameters, which with the smallest tower make 25 M: what a general tokenizer
            spends on its table of words (50,304 words of 256 are 12.9 M) a vocabulary of 1,024 pieces leaves to the
            feed-forward. `"small"`, 6.8 M, trains on two cores.
        vocab_size: Of the tokenizer.
    """
    widths = {"reference": 4096, "small": 1024}
    if preset not in widths:
        raise ValueError(f"there is no language model {preset!r}; there are {', '.join(widths)}")
    return {
        "model_type": "nanochat",
        "vocab_size": vocab_size,
        "hidden_size": 256,
        "intermediate_size": widths[preset],
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "max_position_embeddings": 4096,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }


__all__ = ["PRETRAINED", "TOWERS", "WHOLE_PICTURE_PX", "patch_tower", "text_options", "tower_options"]
