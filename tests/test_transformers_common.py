"""transformers' own common tests, from its source distribution, on our classes (`make common`).

They are no part of the installed package: INTERMEZZO_TRANSFORMERS_TESTS names the unpacked source distribution.
What does not fit our classes stands in `LEFT_OUT` with its reason; what needs other hardware skips itself.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import re
import sys
import tempfile
import types
import unittest
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from intermezzo.configuration.configuration_score_tower import ScoreTowerConfig
from intermezzo.configuration.configuration_score_vlm import ScoreVLMConfig
from intermezzo.modeling.modeling_score_tower import ScoreTowerModel
from intermezzo.modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.processing_score_vlm import ScoreVLMProcessor
from intermezzo.processing.system_canvas import CANVAS_HEIGHT_PX
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

from .tiny_score_vlm import dense_labels, pictures, prompt, tower_config, vlm_config

SOURCE = os.environ.get("INTERMEZZO_TRANSFORMERS_TESTS")
if not SOURCE:
    pytest.skip("INTERMEZZO_TRANSFORMERS_TESTS names no source distribution (`make common`)", allow_module_level=True)
TESTS = Path(SOURCE).resolve() / "tests"
if not (TESTS / "test_modeling_common.py").exists():
    raise FileNotFoundError(f"INTERMEZZO_TRANSFORMERS_TESTS: there is no test_modeling_common.py in {TESTS}")
torch.set_num_threads(1)

PACKAGE = "transformers_common_tests"  # not `tests`, which is our own
FILES = tempfile.TemporaryDirectory()
PICTURE = Path(FILES.name) / "canvas.png"


def canvas(width: int = 64, channels: int = 3) -> np.ndarray:
    """A canvas of noise, `(H, W, channels)`; no system has to be found in it."""
    return np.random.default_rng(width).integers(0, 256, (CANVAS_HEIGHT_PX, width, channels), dtype=np.uint8)


Image.fromarray(canvas()).save(PICTURE)

# What the common tests import and the source distribution lacks. Every picture of the network is our canvas.
ABSENT: dict[str, dict[str, Any]] = {
    f"{PACKAGE}.exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
    f"{PACKAGE}.generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
    f"{PACKAGE}.utils.test_configuration_utils": {"config_common_kwargs": {}},
    "fetch_hub_objects_for_ci": {"url_to_local_path": lambda url: str(PICTURE)},
}


def common(name: str) -> Any:
    """A module of the common tests."""
    if PACKAGE not in sys.modules:
        stubs = {name: ABSENT.get(name, {}) for absent in ABSENT for name in (absent.rpartition(".")[0], absent)}
        for module, content in {PACKAGE: {}, **stubs}.items():
            if module:
                sys.modules[module] = types.ModuleType(module)
                vars(sys.modules[module]).update({"__path__": []}, **content)
        sys.modules[PACKAGE].__path__ = [str(TESTS)]
    with patch("transformers.utils.direct_transformers_import", lambda path: transformers):  # meant for a checkout
        return importlib.import_module(f"{PACKAGE}.{name}")


modeling, imaging = common("test_modeling_common"), common("test_image_processing_common")
processing, tokenizing = common("test_processing_common"), common("test_tokenization_common")
configuring = common("test_configuration_common")

_NO_LAYERS = "the tower gives columns and dense logits, not what its single layers saw"
_FEATURES = "ours are one tensor, the projected columns of all pictures; beams are expanded by our own method"
LEFT_OUT: dict[str, dict[str, str]] = {
    "TestTower": {
        "test_attention_outputs": _NO_LAYERS,
        "test_hidden_states_output": _NO_LAYERS,
        "test_retain_grad_hidden_states_attentions": _NO_LAYERS,
        "test_eager_matches_sdpa_inference": _NO_LAYERS + "; they always run PyTorch's SDPA",
        "test_model_get_set_embeddings": "pictures have no table of embeddings",
    },
    "TestVLM": {
        "test_generation_tester_mixin_inheritance": "not in the distribution: GenerationLaws of tests/common.py",
        "test_get_image_features_attentions": _FEATURES,
        "test_get_image_features_hidden_states": _FEATURES,
        "test_get_image_features_output": _FEATURES,
        "test_get_image_features_pooler_output": _FEATURES,
        "test_inputs_embeds": "pictures need input_ids, whose image tokens tell where they go; said in the error",
        "test_model_base_model_prefix": "tower, projector and language model stand side by side, none is the base",
    },
    "TestImageProcessor": {},
    "TestProcessor": {
        "test_get_num_multimodal_tokens_matches_processor_call": "its pictures are neither canvases nor systems of tab",
        "test_if_input_has_mismatching_tokens_and_mm_data": "the same is refused, in our own words",
    },
    "TestTokenizer": {},
}


class _ModelTester:
    batch_size = 3
    is_training = True
    hidden_size = 16
    num_attention_heads = 2

    def __init__(self, parent: Any) -> None:
        self.parent = parent

    def get_config(self) -> Any:
        raise NotImplementedError

    def get_inputs(self) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, torch.Tensor]]:
        torch.manual_seed(0)
        return self.get_config(), self.get_inputs()


def check_config(test: unittest.TestCase, config: Any, *names: str) -> None:
    """transformers' tests of configurations, with these values of one."""
    values = json.loads(config.to_json_string(use_diff=False))
    options = {name: values[name] for name in names}
    configuring.ConfigTester(test, type(config), has_text_modality=False, **options).run_common_tests()


class TowerTester(_ModelTester):
    num_hidden_layers = 1

    def get_config(self) -> ScoreTowerConfig:
        return tower_config()

    def get_inputs(self) -> dict[str, torch.Tensor]:
        return {"pixel_values": pictures(self.batch_size), "widths": torch.full((self.batch_size,), 64)}


class VLMTester(_ModelTester):
    num_hidden_layers = 2
    seq_length = 4 + 64 // 8 + 6  # of the turn, of a picture, of the answer

    def get_config(self) -> ScoreVLMConfig:
        return vlm_config()

    def get_inputs(self) -> dict[str, torch.Tensor]:
        inputs = prompt([64] * self.batch_size, answer=6)
        return {"pixel_values": pictures(self.batch_size), **{k: v for k, v in inputs.items() if k != "labels"}}


class TestTower(modeling.ModelTesterMixin, unittest.TestCase):
    all_model_classes = (ScoreTowerModel,)
    test_resize_embeddings = False
    test_can_init_all_missing_weights_before_2023 = True

    def setUp(self) -> None:
        self.model_tester = TowerTester(self)

    def _prepare_for_class(self, inputs_dict: dict, model_class: Any, return_labels: bool = False) -> dict:
        inputs = copy.deepcopy(inputs_dict)
        return inputs | ({"dense_labels": dense_labels(len(inputs["pixel_values"]))} if return_labels else {})

    def test_config(self) -> None:
        check_config(self, tower_config(), "hidden_size", "num_hidden_layers", "num_attention_heads", "labels")


class TestVLM(modeling.ModelTesterMixin, unittest.TestCase):
    all_model_classes = (ScoreVLMForConditionalGeneration,)
    test_can_init_all_missing_weights_before_2023 = True
    _is_composite = True

    @classmethod
    def setUpClass(cls) -> None:
        name = {"score_vlm": ScoreVLMForConditionalGeneration.__name__}
        names = patch.dict(modeling.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, name)
        names.start()
        cls.addClassCleanup(names.stop)

    def setUp(self) -> None:
        self.model_tester = VLMTester(self)

    def _prepare_for_class(self, inputs_dict: dict, model_class: Any, return_labels: bool = False) -> dict:
        inputs = copy.deepcopy(inputs_dict)
        return inputs | ({"labels": inputs["input_ids"].clone()} if return_labels else {})

    def test_can_init_all_missing_weights(self) -> None:
        # transformers takes a class outside of its own package for old code that fills weights in place, and passes
        # over modules without weights of their own, among them those where NanoChat scales its projections.
        with patch.object(ScoreVLMForConditionalGeneration, "is_custom_code", classmethod(lambda cls: False)):
            super().test_can_init_all_missing_weights()

    def test_config(self) -> None:
        check_config(self, vlm_config(), "vision_config", "text_config", "image_token_id")


class ImageTester(imaging.ImageProcessingTester):
    def __init__(self, parent: Any) -> None:
        super().__init__(parent, batch_size=3, do_locate=False, margin_px=32, width_multiple_px=32)

    def _get_image_processing_classes(self) -> dict[str, Any]:
        return {"torchvision": ScoreImageProcessor}

    def prepare_image_inputs(self, equal_resolution: bool = False, numpify: bool = False, torchify: bool = False):
        widths = [64 if equal_resolution else 40 + 24 * i for i in range(self.batch_size)]
        arrays = [canvas(width, self.num_channels) for width in widths]
        if torchify:
            return [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]
        return arrays if numpify else [Image.fromarray(array) for array in arrays]

    def expected_output_image_shape(self, images: list[Any]) -> tuple[int, int, int]:
        def width(image: Any) -> int:
            return image.width if isinstance(image, Image.Image) else image.shape[-1 if torch.is_tensor(image) else 1]

        return 1, CANVAS_HEIGHT_PX, -(-(max(map(width, images)) + self.margin_px) // 32) * 32


class TestImageProcessor(imaging.ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = ImageTester
    test_cast_dtype = True


class TestProcessor(processing.ProcessorTesterMixin, unittest.TestCase):
    processor_class = ScoreVLMProcessor

    @classmethod
    def _setup_image_processor(cls) -> ScoreImageProcessor:
        return ScoreImageProcessor(do_locate=False)

    @classmethod
    def _setup_tokenizer(cls) -> AlphaTexTokenizer:
        return AlphaTexTokenizer()

    def prepare_images_inputs(self, batch_size: int | None = None, nested: bool = False) -> Any:
        if batch_size is None:
            return Image.fromarray(canvas())
        found = [Image.fromarray(canvas()) for _ in range(batch_size)]
        return [[image] for image in found] if nested else found

    def _check_modality_outputs(self, inputs: dict, modality: str) -> None:
        assert modality != "images" or 0 <= inputs["pixel_values"].min() <= inputs["pixel_values"].max() <= 1


class TestTokenizer(tokenizing.TokenizerTesterMixin, unittest.TestCase):
    tokenizer_class = AlphaTexTokenizer

    @classmethod
    def setUpClass(cls) -> None:
        cls.tmpdirname = tempfile.mkdtemp()
        cls.tokenizers_list = [(AlphaTexTokenizer, cls.tmpdirname, {})]
        cls._data = "\\staff {tabs}\n3.3.8 |\n"
        AlphaTexTokenizer().save_pretrained(cls.tmpdirname)


CLASSES = (TestTower, TestVLM, TestImageProcessor, TestProcessor, TestTokenizer)


def matching(cls: type, name: str) -> list[str]:
    """Names of the tests that an entry of `LEFT_OUT` stands for: `parameterized` adds numbers."""
    return [found for found in dir(cls) if re.fullmatch(rf"{name}(_\d+(_\w+)?)?", found)]


for _class in CLASSES:
    for _name, _reason in LEFT_OUT.get(_class.__name__, {}).items():
        for _found in matching(_class, _name):
            setattr(_class, _found, unittest.skip(f"left out: {_reason}")(lambda self: None))


def test_what_is_left_out_exists() -> None:
    stale = {f"{cls.__name__}.{name}" for cls in CLASSES for name in LEFT_OUT[cls.__name__] if not matching(cls, name)}
    assert not stale
    assert set(LEFT_OUT) == {cls.__name__ for cls in CLASSES}
