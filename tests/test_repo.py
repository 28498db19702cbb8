"""The laws of the repository: what reviewers would otherwise have to look for by eye."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = {"node_modules", "build", "dist", "out", "__pycache__"}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
# Longer ones that read better in one piece. A line count is a ceiling, not a licence: it may only go down.
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}

# Names of the standard library that Python 3.10 does not have yet.
TOO_NEW = {
    "datetime": {"UTC"},
    "enum": {"StrEnum"},
    "typing": {"Self", "Never", "LiteralString", "assert_never", "override", "Unpack", "NotRequired", "Required"},
    "asyncio": {"TaskGroup", "timeout"},
    "itertools": {"batched"},
    "contextlib": {"chdir"},
}
TOO_NEW_MODULES = {"tomllib"}


def owned(suffix: str) -> list[Path]:
    """Our files: all that are in the tree and neither hidden nor made by a tool."""
    files = []
    for path in ROOT.rglob(f"*{suffix}"):
        parts = path.relative_to(ROOT).parts
        if not any(p in LEFT_OUT or p.endswith(".egg-info") or (p.startswith(".") and p != ".github") for p in parts):
            files.append(path)
    return sorted(files)


PYTHON_FILES = owned(".py")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


python_files = pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)


def test_packages_in_setup_are_the_folders_with_an_init() -> None:
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    listed = next(
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "PACKAGES"
    )
    folders = {path.parent.relative_to(ROOT) for path in PYTHON_FILES if path.name == "__init__.py"}
    found = {".".join(("intermezzo", *folder.parts)) for folder in folders} - {"intermezzo.tests"}
    assert sorted(found) == sorted(listed)


@python_files
def test_files_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    name, lines = name_of(path), text.count("\n")
    assert lines <= LONG_FILES.get(name, MAX_FILE_LINES), f"{name} has {lines} lines"
    long = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            count = (node.end_lineno or node.lineno) - node.lineno + 1
            if count > LONG_FUNCTIONS.get(f"{name}:{node.name}", MAX_FUNCTION_LINES):
                long[node.name] = count
    assert not long, f"{name}: functions too long: {long}"


def test_exceptions_are_still_needed() -> None:
    for name in LONG_FILES:
        assert (ROOT / name).read_text(encoding="utf-8").count("\n") > MAX_FILE_LINES, name
    for name in LONG_FUNCTIONS:
        assert (ROOT / name.partition(":")[0]).exists(), name


@python_files
def test_no_device_is_wired_in_and_initialisation_keeps_loaded_weights(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path == Path(__file__).resolve():
        return
    assert ".cuda(" not in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name == "_init_weights":
            source = ast.get_source_segment(text, node) or ""
            assert ".data" not in source, "write through transformers.initialization"


@python_files
def test_runs_on_the_oldest_python(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module not in TOO_NEW_MODULES
            new = TOO_NEW.get(node.module or "", set()) & {alias.name for alias in node.names}
            assert not new, f"line {node.lineno}: Python 3.10 has no {new} in {node.module}"
        elif isinstance(node, ast.Import):
            assert not TOO_NEW_MODULES & {alias.name for alias in node.names}


@python_files
def test_package_imports_are_relative_and_the_others_absolute(path: Path) -> None:
    """Inside the package only relative imports work from a flat export; scripts and tests have no package."""
    name = name_of(path)
    if name.startswith("tests/") or name in {"setup.py", "app.py", "train/__main__.py"}:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        assert not any(module.split(".")[0] == "intermezzo" for module in modules), f"line {node.lineno}"


TEXT_SUFFIXES = (".py", ".md", ".toml", ".yml", ".yaml", ".mjs", ".js", ".json", ".alphatex", ".txt", "Makefile")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|Users|work|opt|mnt)/[\w.-]+")
REGISTRY = re.compile(r'"resolved":\s*"https?://([^/"]+)')


@pytest.mark.parametrize("suffix", TEXT_SUFFIXES)
def test_no_path_or_registry_of_one_machine(suffix: str) -> None:
    for path in owned(suffix):
        if path == Path(__file__).resolve() or path.stat().st_size > 4_000_000:
            continue
        text = path.read_text(encoding="utf-8")
        found = MACHINE_PATH.search(text)
        assert not found, f"{name_of(path)}: {found[0] if found else ''}"
        assert set(REGISTRY.findall(text)) <= {"registry.npmjs.org"}, name_of(path)


def test_every_registered_class_exists() -> None:
    registry = importlib.import_module("intermezzo.registry")
    assert registry._LIST == registry.ENTRIES, "rows without a file"
    for entry in registry.ENTRIES:
        for reference in (entry.config, entry.ours):
            assert registry._load(reference)
    registry.register_auto_classes()


def test_every_public_name_exists() -> None:
    intermezzo = importlib.import_module("intermezzo")
    for name in intermezzo.__all__:
        assert getattr(intermezzo, name) is not None


@pytest.mark.parametrize(
    "start",
    [
        "import intermezzo; from transformers import {auto}",
        "from transformers import {auto}; import intermezzo",
        "import intermezzo; from transformers import LlamaForCausalLM",
        "from intermezzo.{module} import {name}; from transformers import {auto}",
    ],
)
def test_auto_classes_know_ours_after_a_bare_import(start: str) -> None:
    """In every order, also where our own module is what makes transformers load, or a model of theirs does."""
    entry = next(row for row in importlib.import_module("intermezzo.registry").ENTRIES if "modeling" in row.auto)
    module, _, name = entry.ours.partition(":")
    auto = entry.auto.partition(":")[2]
    code = (
        start.format(auto=auto, module=module, name=name)
        + f"; from transformers import {auto}; from intermezzo.{module} import {name}"
        + f"; assert {auto}._model_mapping[{name}.config_class] is {name}"
    )
    done = subprocess.run([sys.executable, "-W", "error:intermezzo", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_is_light() -> None:
    code = "import intermezzo, intermezzo.cli, sys; print({'torch', 'transformers', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


CHECKPOINTS = sorted(path.parent for path in (ROOT / "checkpoints").glob("*/config.json"))


@pytest.mark.parametrize("folder", CHECKPOINTS, ids=lambda folder: folder.name)
def test_checkpoint_is_small_and_loads_whole(folder: Path) -> None:
    from transformers import AutoConfig

    importlib.import_module("intermezzo")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size <= 160 * 2**20, f"{size / 2**20:.0f} MiB"
    assert not list(folder.rglob("*.bin")), "safetensors only"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
    config = AutoConfig.from_pretrained(folder)
    model_class = getattr(importlib.import_module("intermezzo"), config.architectures[0])
    model, info = model_class.from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_paths_in_readme_exist() -> None:
    named = set(re.findall(r"\]\(([^)#:]+)\)", README)) | set(re.findall(r"!\[[^\]]*\]\(([^)#:]+)\)", README))
    tree = re.findall(r"^([\w./-]+/|[\w.-]+\.(?:py|md|toml)|Makefile|\.ci/run)\s{2,}", README, flags=re.M)
    assert tree, "the layout section has gone"
    missing = [name for name in sorted({*named, *tree}) if not (ROOT / name).exists()]
    assert not missing


def commands(program: str) -> list[list[str]]:
    blocks = re.findall(r"```(?:bash|console|sh)\n(.*?)```", README, flags=re.S)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith(program + " ")]


def test_make_targets_in_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    used = {word for words in commands("make") for word in words if "=" not in word}
    assert {"demo", "test"} <= used
    for target in used | {"demo", "test", "quality", "smoke", "benchmark", "help", "clean"}:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_commands_in_readme_name_real_verbs_and_options() -> None:
    import typer.main

    from intermezzo.cli import app

    group = typer.main.get_command(app)
    used = commands("intermezzo")
    assert used
    for words in used:
        verb = group.commands[words[0]]  # type: ignore[attr-defined]
        known = {name for parameter in verb.params for name in (*parameter.opts, *parameter.secondary_opts)}
        if not verb.context_settings.get("ignore_unknown_options"):
            unknown = [word for word in words[1:] if word.startswith("--") and word not in known]
            assert not unknown, f"intermezzo {' '.join(words)}: {unknown}"


def test_python_in_readme_compiles_and_imports() -> None:
    for block in re.findall(r"```python\n(.*?)```", README, flags=re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("intermezzo"):
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    assert hasattr(module, alias.name), alias.name


def test_lock_file_belongs_to_its_package() -> None:
    folder = ROOT / "datasets_scripts" / "render"
    package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    lock = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))
    assert lock["packages"][""]["dependencies"] == package["dependencies"]
