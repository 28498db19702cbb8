"""Exports a model as a flat folder that loads where this package is absent, and uploads it to the Hub.

The Hub loads code from one folder only, and finds the files of a model by `from .x import y`. So the needed source
files are found by following imports, copied side by side, their package imports rewritten, and the classes named in the
`auto_map` of each configuration file.
"""

from __future__ import annotations

import ast
import copy
import importlib.util
import inspect
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..processing.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
_FROM = re.compile(r"from\s+[.\w]+\s+import")


def _imports(tree: ast.AST, module: str, file: Path) -> Iterator[tuple[ast.ImportFrom, str]]:
    """Each import from the module's own package, with the full name of what it imports from."""
    package = module.split(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == package:
                    raise InputError(file, f"line {node.lineno}: write 'from .x import y', not 'import {alias.name}'")
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            name = importlib.util.resolve_name("." * node.level + (node.module or ""), module.rpartition(".")[0])
        else:
            name = node.module or ""
        if name.split(".")[0] != package:
            continue
        spec = importlib.util.find_spec(name)
        if spec is None or spec.submodule_search_locations is not None:
            raise InputError(file, f"line {node.lineno}: the flat export can not follow this import of {name!r}")
        yield node, name


def _source(module: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise InputError(None, f"the source of {module!r} is not there, so it can not be exported")
    return Path(spec.origin)


def flat_sources(modules: list[str]) -> dict[str, str]:
    """File names and rewritten text of `modules` and of everything in their package that they import.

    Raises:
        InputError: an import in a form that the Hub's loader does not understand, or two files of the same name.
    """
    flat: dict[str, str] = {}
    origin: dict[str, str] = {}
    todo = list(dict.fromkeys(modules))
    while todo:
        module = todo.pop()
        name = module.rpartition(".")[2] + ".py"
        if name in flat:
            if origin[name] != module:
                raise InputError(None, f"{origin[name]} and {module} would both become {name}; rename one")
            continue
        file = _source(module)
        text = file.read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        for node, target in _imports(ast.parse(text), module, file):
            line, start = lines[node.lineno - 1], node.col_offset
            flattened = _FROM.sub(f"from .{target.rpartition('.')[2]} import", line[start:], count=1)
            lines[node.lineno - 1] = line[:start] + flattened
            todo.append(target)
        flat[name], origin[name] = "".join(lines), module
    return flat


def _is_own(thing: Any) -> bool:
    """Whether the code of a class is neither transformers' nor another installed library's."""
    return type(thing).__module__.split(".")[0] not in {"transformers", "tokenizers", "timm", "torch", "builtins"}


def _reference(cls: type) -> str:
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"


def _config_reference(config_class: type, model_class: type) -> str:
    """Names the configuration class by the model's file, where that imports it.

    transformers copies the code of a *local* folder into one place per entry file and its imports. Entered by two
    files, a configuration class exists twice, and `isinstance(config, …)` in the model fails.
    """
    module = sys.modules[model_class.__module__]
    if getattr(module, config_class.__name__, None) is config_class:
        return f"{module.__name__.rpartition('.')[2]}.{config_class.__name__}"
    return _reference(config_class)


def auto_model_classes(config_class: type) -> dict[str, Any]:
    """The Auto classes that a configuration class is registered with, and the model class each gives."""
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.auto_factory import _BaseAutoModelClass

    found = {}
    for name, auto in vars(modeling_auto).items():
        if not (inspect.isclass(auto) and issubclass(auto, _BaseAutoModelClass)):
            continue
        model = getattr(getattr(auto, "_model_mapping", None), "_extra_content", {}).get(config_class)
        if model is not None:
            found[name] = model[0] if isinstance(model, tuple) else model
    return found


def _processor_parts(processor: Any) -> dict[str, tuple[Any, str]]:
    """`{attribute: (object, Auto class)}` for a processor and its own parts; the whole one has the name ''."""
    from transformers import ProcessorMixin
    from transformers.image_processing_base import ImageProcessingMixin
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    kinds = {
        ProcessorMixin: "AutoProcessor",
        ImageProcessingMixin: "AutoImageProcessor",
        PreTrainedTokenizerBase: "AutoTokenizer",
    }
    parts = {}
    for name, part in {"": processor, **vars(processor)}.items():
        for kind, auto in kinds.items():
            if isinstance(part, kind) and _is_own(part):
                parts[name] = (part, auto)
    return parts


def _patch_json(path: Path, auto_map: dict[str, Any], entry: str = "") -> bool:
    """Adds to `auto_map` in a JSON file (within `entry`); False where the file or the entry is absent."""
    if not path.is_file():
        return False
    values = json.loads(path.read_text(encoding="utf-8"))
    if entry and entry not in values:
        return False
    part = values[entry] if entry else values
    part["auto_map"] = {**(part.get("auto_map") or {}), **auto_map}
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return True


def _name_processor_classes(parts: dict[str, tuple[Any, str]], directory: Path) -> None:
    whole = {"AutoProcessor": _reference(type(parts[""][0]))} if parts.get("", (None, ""))[1] == "AutoProcessor" else {}
    for name, (part, auto) in parts.items():
        reference = _reference(type(part))
        if auto == "AutoProcessor":
            _patch_json(directory / "processor_config.json", whole)
        elif auto == "AutoTokenizer":
            _patch_json(directory / "tokenizer_config.json", {auto: [None, reference], **whole})
        elif not _patch_json(directory / "processor_config.json", {auto: reference, **whole}, entry=name or "-"):
            _patch_json(directory / "preprocessor_config.json", {auto: reference, **whole})


def export_flat(
    model: Any, processor: Any, directory: str | Path, dtype: str | None = None, card: str | None = None
) -> Path:
    """Writes weights, configurations and source files side by side; the folder loads with `trust_remote_code=True`.

    Args:
        model: a `PreTrainedModel`; it is not changed.
        processor: its processor, tokenizer or image processor, or `None`.
        directory: made if absent; files of the same names are overwritten.
        dtype: `"float16"` or `"bfloat16"` to store the weights so; as they are if not given.
        card: text of README.md.

    Raises:
        InputError: an import that the Hub's loader does not understand, an unknown `dtype`.
    """
    import torch

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if dtype is not None:
        kinds = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
        if dtype not in kinds:
            raise InputError(None, f"dtype is {dtype!r}; use one of {', '.join(map(repr, kinds))}")
        model = copy.deepcopy(model).to(kinds[dtype])
    model.save_pretrained(directory)
    classes = auto_model_classes(type(model.config))
    if type(model) not in classes.values():
        classes = {**classes, "AutoModel": type(model)}
    own = {name: cls for name, cls in classes.items() if not cls.__module__.startswith("transformers.")}
    auto_map = {name: _reference(cls) for name, cls in own.items()}
    modules = [cls.__module__ for cls in own.values()]
    if _is_own(model.config):
        auto_map["AutoConfig"] = _config_reference(type(model.config), type(model))
        modules.append(type(model.config).__module__)
    if auto_map:
        _patch_json(directory / "config.json", auto_map)
    if processor is not None:
        processor.save_pretrained(directory)
        parts = _processor_parts(processor)
        _name_processor_classes(parts, directory)
        modules += [type(part).__module__ for part, _ in parts.values()]
    for name, text in flat_sources(modules).items():
        (directory / name).write_text(text, encoding="utf-8")
    if card is not None:
        (directory / "README.md").write_text(card, encoding="utf-8")
    return directory


def load_for_export(directory: str | Path) -> tuple[Any, Any]:
    """Model (in the class that its config.json names) and processor (or `None`) of a model folder of ours.

    Raises:
        InputError: no model there, or of a class that is not registered.
    """
    from transformers import AutoConfig, AutoProcessor

    directory = Path(directory)
    if not (directory / "config.json").is_file():
        raise InputError(directory, "holds no config.json, so it is no model folder")
    config = AutoConfig.from_pretrained(directory)
    wanted = (config.architectures or [None])[0]
    classes = {cls.__name__: cls for cls in auto_model_classes(type(config)).values()}
    if wanted not in classes:
        raise InputError(directory, f"its class is {wanted!r}; known for {config.model_type!r}: {sorted(classes)}")
    model = classes[wanted].from_pretrained(directory)
    has_processor = any(directory.glob("*processor_config.json")) or (directory / "tokenizer_config.json").is_file()
    return model, AutoProcessor.from_pretrained(directory) if has_processor else None


def make_card(stem: str, model: Any, directory: Path, **values: Any) -> str:
    """The card of a model folder: its own README.md, or the repository's template filled with what is known."""
    if (directory / "README.md").is_file():
        return (directory / "README.md").read_text(encoding="utf-8")
    from huggingface_hub import ModelCard, ModelCardData

    auto = next((n for n, c in auto_model_classes(type(model.config)).items() if c is type(model)), "AutoModel")
    megabytes = sum(path.stat().st_size for path in directory.glob("*.safetensors")) / 1e6
    known = {
        "model_name": f"Intermezzo {stem}",
        "summary": (type(model).__doc__ or stem).strip().splitlines()[0],
        "usage": f'from transformers import {auto}\n\nmodel = {auto}.from_pretrained("REPO", trust_remote_code=True)',
        "description": (type(model.config).__doc__ or stem).strip().splitlines()[0],
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "checkpoint_size": f"{megabytes:.1f} MB",
        "training": "Trained with this repository's `train` scripts.",
        "data": "See the repository.",
        "limits": "Not stated.",
    }
    data = ModelCardData(license="apache-2.0", library_name="transformers", tags=["intermezzo", "music"])
    return str(ModelCard.from_template(data, template_path=str(ROOT / "model_card.md"), **{**known, **values}))


def push(
    stem: str,
    repo: str | None = None,
    model: str | Path | None = None,
    export_only: str | Path | None = None,
    private: bool = False,
    token: str | None = None,
    dtype: str | None = None,
) -> str:
    """Exports a trained model flat and uploads it with its code and card.

    Args:
        stem: name of the model, such as `score_vlm`.
        repo: `OWNER/NAME` on the Hub; made if it does not exist.
        model: model folder; `checkpoints/<stem>` if not given.
        export_only: write the export here and upload nothing.
        private: make a new repository private.
        token: access token; the one of `hf auth login` if not given.
        dtype: as in `export_flat`.

    Returns:
        The address of the upload, or the folder of the export.

    Raises:
        InputError: no such model, or neither `repo` nor `export_only`.
    """
    if repo is None and export_only is None:
        raise InputError(None, "say where to: a repository (OWNER/NAME), or a folder for the export only")
    source = Path(model) if model is not None else ROOT / "checkpoints" / stem
    if not source.is_dir():
        raise InputError(source, "no such model folder; train the model first, or name its folder")
    loaded, processor = load_for_export(source)
    card = make_card(stem, loaded, source)
    if export_only is not None:
        return str(export_flat(loaded, processor, export_only, dtype, card))
    from huggingface_hub import HfApi

    assert repo is not None
    with tempfile.TemporaryDirectory() as folder:
        export_flat(loaded, processor, folder, dtype, card.replace('"REPO"', f'"{repo}"'))
        hub = HfApi(token=token)
        hub.create_repo(repo, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=repo, folder_path=folder, commit_message=f"Upload {stem}"))
