"""The pages beside README.md: links lead somewhere, commands and settings exist, what is said of weights is so."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("modeling/*.md")),
    *sorted(ROOT.glob("examples/*.md")),
    *sorted(ROOT.glob("checkpoints/*/README.md")),
]
SYSTEMS = sorted(ROOT.glob("modeling/*.md"))
NOTEBOOKS = sorted(ROOT.glob("examples/*.ipynb"))
# What a notebook's output has to hold.
SHOWN = {
    "score_vlm": "\\staff",
    "style_encoder": "style similarity",
    "fractal_midi": "sounding cells",
    "museformer": "words of music:",
    "native_vlm": "picture codes:",
}
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.S)
# Flags that every trainer has from the loop; the others are looked up in the trainer's own file.
LOOP = ROOT / "train" / "arguments.py"


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands(page: Path) -> list[list[str]]:
    blocks = [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == "bash"]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", text)):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), target
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists() and found.is_relative_to(ROOT), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.M)
            assert anchor in {slug(heading) for heading in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_programs_and_their_settings_exist(page):
    for words in commands(page):
        flags = {word.partition("=")[0] for word in words if word.startswith("--")}
        if words[:3] == ["accelerate", "launch", "train"]:
            own = ROOT / "train" / f"train_{words[3]}.py"
            assert own.is_file(), words
            known = "".join(path.read_text(encoding="utf-8") for path in (own, LOOP))
            for flag in flags - {"--help", "--config", "--smoke"}:
                field = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
                assert re.search(rf"^    {field}: ", known, re.M), f"{words[3]} has no {flag}"
        elif words[:2] == ["python", "-m"]:
            module = ROOT / (words[2].removeprefix("intermezzo.").replace(".", "/") + ".py")
            assert module.is_file(), words
            known = module.read_text(encoding="utf-8")
            # Written out for argparse, or a field of a class of settings.
            missing = [flag for flag in flags if f'"{flag}"' not in known and f"\n    {flag[2:]}: " not in known]
            assert not missing, words


@pytest.mark.parametrize("page", SYSTEMS, ids=name_of)
def test_a_page_of_a_system_has_its_parts(page):
    text = page.read_text(encoding="utf-8")
    assert "```mermaid\n" in text and "\n## How it works\n" in text
    assert re.search(r"^## Train (it|them) on your own data$", text, re.M)
    assert any(words[:3] == ["accelerate", "launch", "train"] for words in commands(page))


@pytest.mark.parametrize("page", SYSTEMS, ids=name_of)
def test_a_page_says_whether_there_are_weights(page):
    """Change the line when a checkpoint comes: the figures are then in its card, and only there."""
    text = page.read_text(encoding="utf-8")
    [said] = re.findall(r"^\*\*Weights:\*\* (.*)$", text, re.M)
    card = ROOT / "checkpoints" / page.stem / "README.md"
    trained = (card.parent / "config.json").is_file()
    assert said.startswith("none yet") != trained, f"checkpoints/{page.stem} is {'' if trained else 'not '}there"
    assert ("there are no weights" in text) != trained
    if trained:
        assert f"](../checkpoints/{page.stem}/README.md)" in said
        assert (ROOT / "examples" / f"{page.stem}.ipynb").is_file(), "a system with weights has a worked notebook"


def test_every_trainer_is_told_of_on_a_page():
    told = "".join(page.read_text(encoding="utf-8") for page in (*SYSTEMS, ROOT / "train" / "LOG.md"))
    for trainer in ROOT.glob("train/train_*.py"):
        assert f"train {trainer.stem.removeprefix('train_')} " in told, trainer.name


def test_the_chinese_readme_shows_the_same_commands():
    """Comments are translated; code and its output are not."""

    def code(page: str) -> list[str]:
        found = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
        return [line.partition("#")[0].strip() for kind, text in found if kind for line in text.splitlines()]

    assert set(code("README.zh.md")) == set(code("README.md"))
    pages = [set(re.findall(r"\]\(([^)\s#]+)", (ROOT / page).read_text(encoding="utf-8"))) for page in PAGES_OF_LAYOUT]
    assert pages[0] - pages[1] == {"README.zh.md"}, "what the English page leads to, the Chinese one does, too"
    folders = [re.findall(r"^(\w+/) ", (ROOT / page).read_text(encoding="utf-8"), re.M) for page in PAGES_OF_LAYOUT]
    assert set(folders[1]) <= set(folders[0]) and len(folders[1]) >= 8


PAGES_OF_LAYOUT = ("README.md", "README.zh.md")


def test_the_citation_is_of_this_version_and_names_nobody():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = re.search(r'^__version__ = "(.*)"$', (ROOT / "__init__.py").read_text(encoding="utf-8"), re.M)
    assert version and cited["version"] == version[1]
    assert cited["authors"] == [{"name": "The Intermezzo authors"}] and cited["license"] == "Apache-2.0"
    assert {"cff-version", "message", "title"} <= set(cited)
    assert version[1] in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_is_kept_without_outputs(path):
    """What a run left would be of one machine, and old."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_a_notebook_runs(path):
    pytest.importorskip("ipykernel")
    client = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    if not (ROOT / "checkpoints" / path.stem / "config.json").is_file():
        pytest.skip("its weights are not here")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    client.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    printed = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", ()))
    assert SHOWN[path.stem] in printed
