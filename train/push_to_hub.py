"""Exports a model as a flat folder that loads where this package is absent, and uploads it, or a data set, to the Hub.

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
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..processing.errors import InputError
from .hub_card import check_dataset, make_card
from .hub_needs import needs_of
from .hub_space import export_space
from .hub_upload import connect, upload

ROOT = Path(__file__).resolve().parents[1]
# What may stand beside the weights and belongs to the model; checkpoints of a run and other weights do not.
COMPANIONS = {".json", ".safetensors", ".png", ".jpg", ".gif", ".svg", ".mid", ".tsv"}
NOT_COMPANIONS = ("model", "pytorch_model", "optimizer", "training_", "trainer_", "adapter_")
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


def _adapter_of(source: Path) -> tuple[Path, Path | None]:
    """The folders of the model and of its adapter: `adapter/` in the model's, or the base that an adapter names.

    Raises:
        InputError: An adapter without safetensors, or whose base is not there.
    """
    inside = (source / "config.json").is_file()
    adapter = source / "adapter" if inside else source
    if not (adapter / "adapter_config.json").is_file():
        return source, None
    if not (adapter / "adapter_model.safetensors").is_file():
        raise InputError(adapter, "holds no adapter_model.safetensors; save the adapter by PEFT's save_pretrained")
    if inside:
        return source, adapter
    named = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    for base in (Path(named or ""), ROOT / (named or "")):
        if named and (base / "config.json").is_file():
            return base, adapter
    raise InputError(adapter, f"its base_model_name_or_path is {named!r}, where no model folder is; name one")


def _add_companions(source: Path, adapter: Path | None, directory: Path, repo: str | None) -> None:
    """Copies what stands beside the weights (reference values, pictures of the card) and the adapter."""
    for path in sorted(source.iterdir()):
        known = path.suffix in COMPANIONS and not path.name.startswith(NOT_COMPANIONS)
        if known and path.is_file() and not (directory / path.name).exists():
            shutil.copyfile(path, directory / path.name)
    if adapter is None:
        return
    target = directory / "adapter"
    target.mkdir(exist_ok=True)
    shutil.copyfile(adapter / "adapter_model.safetensors", target / "adapter_model.safetensors")
    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = repo or str(directory)
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    (target / "adapter_config.json").write_text(text + "\n", encoding="utf-8")


def export_model(
    stem: str, folder: str | Path | None, directory: str | Path, repo: str | None = None, dtype: str | None = None
) -> Path:
    """Writes all that a model's repository holds: the flat export, its card, its adapter, and what lies beside it.

    Two calls write the same bytes, so that an upload can be resumed.

    Args:
        stem: name of the model, such as `score_vlm`.
        folder: model folder, or the folder of a PEFT adapter whose base is a model folder here.
        directory: where to; made if absent.
        repo: `OWNER/NAME` that the card's code and the adapter name.
        dtype: as in `export_flat`.

    Raises:
        InputError: no such model, or an adapter that is not whole.
    """
    source = Path(folder) if folder is not None else ROOT / "checkpoints" / stem
    if not source.is_dir():
        raise InputError(source, "no such model folder; train the model first, or name its folder")
    base, adapter = _adapter_of(source)
    loaded, processor = load_for_export(base)
    written = export_flat(loaded, processor, directory, dtype)
    card = make_card(stem, loaded, source, repo, processor is not None, needs_of(written))
    (written / "README.md").write_text(card, encoding="utf-8")
    _add_companions(base, adapter, written, repo)
    return written


def push(
    stem: str,
    repo_id: str | None = None,
    folder: str | Path | None = None,
    export_only: str | Path | None = None,
    private: bool = False,
    with_space: bool = False,
    token: str | None = None,
    dtype: str | None = None,
) -> str:
    """Uploads a trained model with its code and card, or a data set, to the Hugging Face Hub.

    The model is exported flat: it loads with `trust_remote_code=True` where this package is absent. After an
    interruption the same call goes on: what has arrived is not sent again.

    Args:
        stem: name of the model, such as `score_vlm`; or `dataset`.
        repo_id: `OWNER/NAME` on the Hub; made if it does not exist.
        folder: model folder (`checkpoints/<stem>` if not given), a PEFT adapter's folder, or the data set's.
        export_only: write the model's export here and upload nothing.
        private: make a new repository private.
        with_space: upload the demo beside the model, as a Space of the same name.
        token: access token; `HF_TOKEN` or the one of `hf auth login` if not given.
        dtype: as in `export_flat`.

    Returns:
        The address of the upload (and in a second line that of the Space), or the folder of the export.

    Raises:
        InputError: no such model or data set, neither `repo_id` nor `export_only`, or the Hub refuses.
    """
    if repo_id is None and (export_only is None or stem == "dataset"):
        raise InputError(None, "say where to: a repository (OWNER/NAME), or a folder for the export only")
    if stem == "dataset":
        assert repo_id is not None
        data = check_dataset(folder)
        hub = connect(repo_id, token)
        only, stale = ["*.parquet", "*.md", "*.json", "*.tsv"], ["*.parquet"]
        return upload(hub, repo_id, data, "Upload data set", "dataset", private, only, stale)
    if export_only is not None:
        return str(export_model(stem, folder, export_only, repo_id, dtype))
    assert repo_id is not None
    hub = connect(repo_id, token)
    with tempfile.TemporaryDirectory() as made:
        model = export_model(stem, folder, Path(made) / "model", repo_id, dtype)
        space = export_space(Path(made) / "space", repo_id) if with_space else None
        addresses = [upload(hub, repo_id, model, f"Upload {stem}", "model", private)]
        if space is not None:
            addresses.append(upload(hub, repo_id, space, "Upload the Space", "space", private))
    return "\n".join(addresses)
