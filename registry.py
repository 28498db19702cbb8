"""The one list that makes our classes known to transformers' Auto classes, carried out as late as possible.

`import intermezzo` must stay cheap (the command line shows its help in a fraction of a second), yet afterwards
`AutoModelForImageTextToText.from_pretrained(...)` has to know our classes. So the list below is only text. Each row
is carried out as soon as the module of its Auto class has been imported, by whomever: a watcher on the import path
counts how deep transformers and this package are in their own imports, and acts when the outermost one is complete
(acting earlier would meet half-imported modules).
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

PACKAGE = __name__.rpartition(".")[0]
_AUTO = "transformers.models.auto"


class Entry(NamedTuple):
    """One registration: `auto` learns that `config` belongs to `ours` (both as `module:Class` inside the package)."""

    auto: str  # module:Class below transformers.models.auto
    config: str
    ours: str


def _exists(reference: str) -> bool:
    return (Path(__file__).parent / (reference.partition(":")[0].replace(".", "/") + ".py")).exists()


SCORE_VLM = "configuration.configuration_score_vlm:ScoreVLMConfig"
SCORE_TOWER = "configuration.configuration_score_tower:ScoreTowerConfig"
FRACTAL_MIDI = "configuration.configuration_fractal_midi:FractalMidiConfig"
MUSEFORMER = "configuration.configuration_museformer:MuseformerConfig"
IMAGE_VQ = "configuration.configuration_image_vq:ImageVQConfig"
NATIVE_VLM = "configuration.configuration_native_vlm:NativeVLMConfig"
STYLE_ENCODER = "configuration.configuration_style_encoder:StyleEncoderConfig"
SUMMARY_BRIDGE = "configuration.configuration_summary_bridge:SummaryBridgeConfig"
SCORE_EDIT = "configuration.configuration_edit:ScoreEditConfig"

_LIST = (
    Entry("configuration_auto:AutoConfig", SCORE_TOWER, SCORE_TOWER),
    Entry("modeling_auto:AutoModel", SCORE_TOWER, "modeling.modeling_score_tower:ScoreTowerModel"),
    Entry("configuration_auto:AutoConfig", FRACTAL_MIDI, FRACTAL_MIDI),
    Entry("modeling_auto:AutoModel", FRACTAL_MIDI, "modeling.modeling_fractal_midi:FractalMidiModel"),
    Entry("processing_auto:AutoProcessor", FRACTAL_MIDI, "processing.processing_fractal_midi:FractalMidiProcessor"),
    Entry("configuration_auto:AutoConfig", MUSEFORMER, MUSEFORMER),
    Entry("modeling_auto:AutoModel", MUSEFORMER, "modeling.modeling_museformer:MuseformerModel"),
    Entry("modeling_auto:AutoModelForCausalLM", MUSEFORMER, "modeling.modeling_museformer:MuseformerForCausalLM"),
    Entry("processing_auto:AutoProcessor", MUSEFORMER, "processing.processing_museformer:BarMidiProcessor"),
    Entry("configuration_auto:AutoConfig", IMAGE_VQ, IMAGE_VQ),
    Entry("modeling_auto:AutoModel", IMAGE_VQ, "modeling.modeling_image_vq:ImageVQModel"),
    Entry("processing_auto:AutoProcessor", IMAGE_VQ, "processing.processing_image_vq:ImageVQProcessor"),
    Entry("configuration_auto:AutoConfig", NATIVE_VLM, NATIVE_VLM),
    Entry("modeling_auto:AutoModelForCausalLM", NATIVE_VLM, "modeling.modeling_native_vlm:NativeVLMForCausalLM"),
    Entry("modeling_auto:AutoModelForImageTextToText", NATIVE_VLM, "modeling.modeling_native_vlm:NativeVLMForCausalLM"),
    Entry("tokenization_auto:AutoTokenizer", NATIVE_VLM, "processing.tokenization_alphatex:AlphaTexTokenizer"),
    Entry("processing_auto:AutoProcessor", NATIVE_VLM, "processing.processing_native_vlm:NativeVLMProcessor"),
    Entry("configuration_auto:AutoConfig", STYLE_ENCODER, STYLE_ENCODER),
    Entry("modeling_auto:AutoModel", STYLE_ENCODER, "modeling.modeling_style_encoder:StyleEncoderModel"),
    Entry("processing_auto:AutoProcessor", STYLE_ENCODER, "processing.processing_style_encoder:StyleEncoderProcessor"),
    Entry("configuration_auto:AutoConfig", SUMMARY_BRIDGE, SUMMARY_BRIDGE),
    Entry("modeling_auto:AutoModel", SUMMARY_BRIDGE, "modeling.modeling_summary_bridge:SummaryBridgeModel"),
    Entry(
        "processing_auto:AutoProcessor", SUMMARY_BRIDGE, "processing.processing_summary_bridge:SummaryBridgeProcessor"
    ),
    Entry("configuration_auto:AutoConfig", SCORE_EDIT, SCORE_EDIT),
    Entry("modeling_auto:AutoModel", SCORE_EDIT, "modeling.modeling_edit:ScoreEditModel"),
    Entry("processing_auto:AutoProcessor", SCORE_EDIT, "processing.processing_edit:ScoreEditProcessor"),
    Entry("configuration_auto:AutoConfig", SCORE_VLM, SCORE_VLM),
    Entry(
        "modeling_auto:AutoModelForImageTextToText",
        SCORE_VLM,
        "modeling.modeling_score_vlm:ScoreVLMForConditionalGeneration",
    ),
    Entry("tokenization_auto:AutoTokenizer", SCORE_VLM, "processing.tokenization_alphatex:AlphaTexTokenizer"),
    Entry(
        "image_processing_auto:AutoImageProcessor",
        SCORE_VLM,
        "processing.image_processing_score:ScoreImageProcessor",
    ),
    Entry("processing_auto:AutoProcessor", SCORE_VLM, "processing.processing_score_vlm:ScoreVLMProcessor"),
)

# A model whose files are not there yet is left out (`tests/test_repo.py` wants them all).
ENTRIES = tuple(entry for entry in _LIST if all(_exists(reference) for reference in (entry.config, entry.ours)))

_done: set[Entry] = set()
_failed: set[Entry] = set()
_depth = 0
_registering = False


def _load(reference: str, root: str = PACKAGE) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(f"{root}.{module}"), name)


def _register(entry: Entry) -> None:
    auto, config, ours = _load(entry.auto, _AUTO), _load(entry.config), _load(entry.ours)
    if entry.auto.endswith(":AutoConfig"):
        auto.register(config.model_type, config, exist_ok=True)
    elif entry.auto.endswith(":AutoImageProcessor"):
        auto.register(config, image_processor_classes={"torchvision": ours}, exist_ok=True)
    elif entry.auto.endswith(":AutoTokenizer"):
        auto.register(config, tokenizer_class=ours, exist_ok=True)
    else:
        auto.register(config, ours, exist_ok=True)


def register_auto_classes(wait: bool = False) -> None:
    """Registers our classes with transformers.

    Happens by itself; call it only where the warning of a failed registration asks to find out why.

    Args:
        wait: Leave out the rows whose Auto class nobody has imported yet, and turn a failure into a warning.

    Raises:
        ImportError: a module of ours, or one that it needs, can not be imported (only with `wait=False`).
    """
    global _registering
    if _registering:
        return
    _registering = True
    try:
        for entry in ENTRIES:
            module = f"{_AUTO}.{entry.auto.partition(':')[0]}"
            if entry in _done or (wait and (entry in _failed or module not in sys.modules)):
                continue
            try:
                _register(entry)
                _done.add(entry)
            except Exception as error:
                if not wait:
                    raise
                # Someone else's import is under way: it must not fail because of us.
                _failed.add(entry)
                warnings.warn(f"intermezzo could not register {entry.ours.partition(':')[2]}: {error}", stacklevel=2)
    finally:
        _registering = False


class _Watcher(MetaPathFinder):
    """Runs `register_auto_classes` when the outermost import of transformers or of this package has ended."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not (fullname == "transformers" or fullname.startswith(("transformers.", f"{PACKAGE}."))):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            global _depth
            _depth += 1
            try:
                run(module)
            finally:
                _depth -= 1
            if _depth == 0:
                register_auto_classes(wait=True)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Starts to watch imports; registers at once what transformers has loaded already."""
    if not any(isinstance(finder, _Watcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Watcher())
    register_auto_classes(wait=True)
