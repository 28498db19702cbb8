"""The flat export: source files side by side that load where their package can not be imported."""

import importlib
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from intermezzo.processing.errors import InputError
from intermezzo.train import push_to_hub
from intermezzo.train.hub_needs import needs_of, pip_line

FILES = {
    "__init__.py": "",
    "configuration/__init__.py": "",
    "modeling/__init__.py": "",
    "processing/__init__.py": "",
    "configuration/configuration_toykit.py": """
        from transformers import PreTrainedConfig

        class ToykitConfig(PreTrainedConfig):
            model_type = "toykit"
            hidden_size: int = 4
    """,
    "processing/toykit_numbers.py": "FACTOR = 3\n",
    "modeling/modeling_toykit.py": """
        import torch
        from torch import nn
        from transformers import PreTrainedModel

        from ..configuration.configuration_toykit import (
            ToykitConfig,
        )

        class ToykitModel(PreTrainedModel):
            config_class = ToykitConfig

            def __init__(self, config):
                super().__init__(config)
                assert isinstance(config, ToykitConfig)  # there is one copy of the class, not two
                self.layer = nn.Linear(config.hidden_size, 2)
                self.post_init()

            def forward(self, x):
                from ..processing.toykit_numbers import FACTOR

                return self.layer(x) * FACTOR
    """,
}


@pytest.fixture
def toykit(tmp_path, monkeypatch):
    """A package with folders as ours has, made for one test."""
    for name, text in FILES.items():
        path = tmp_path / "source" / "toykit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "source"))
    importlib.invalidate_caches()
    yield importlib.import_module("toykit.modeling.modeling_toykit")
    for name in [name for name in sys.modules if name.split(".")[0] == "toykit"]:
        del sys.modules[name]


def run_elsewhere(code: str, cwd: Path) -> str:
    """Runs code in a fresh interpreter in which `intermezzo` and `toykit` can not be imported."""
    guard = """
    import sys
    class Refuse:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("intermezzo", "toykit"):
                raise ImportError(f"{name} must not be needed")
    sys.meta_path.insert(0, Refuse())
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(cwd / "modules"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    program = textwrap.dedent(guard) + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_flat_export_loads_without_the_package(toykit, tmp_path, dtype):
    model = toykit.ToykitModel(toykit.ToykitConfig(hidden_size=4)).eval()
    before = model.layer.weight.clone()
    folder = push_to_hub.export_flat(model, None, tmp_path / "flat", dtype=dtype, card="# toy")
    assert torch.equal(model.layer.weight, before) and model.layer.weight.dtype == torch.float32
    names = {path.name for path in folder.iterdir()}
    assert names >= {"configuration_toykit.py", "modeling_toykit.py", "toykit_numbers.py", "README.md"}
    assert json.loads((folder / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "modeling_toykit.ToykitConfig",
        "AutoModel": "modeling_toykit.ToykitModel",
    }
    x = torch.arange(8.0).view(2, 4)
    torch.save(x, tmp_path / "x.pt")
    run_elsewhere(
        f"""
        import torch
        from transformers import AutoModel
        model = AutoModel.from_pretrained({str(folder)!r}, trust_remote_code=True).eval()
        y = model(torch.load("x.pt").to(model.dtype))
        torch.save(y, "y.pt")
        """,
        tmp_path,
    )
    found, wanted = torch.load(tmp_path / "y.pt"), model(x)
    if dtype is None:
        assert torch.equal(found, wanted)
    else:
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("line", ["import toykit.processing", "from .. import processing", "from . import modeling_x"])
def test_imports_the_hub_can_not_follow_are_refused_with_their_line(toykit, line):
    path = Path(toykit.__file__)
    path.write_text(path.read_text() + f"\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"modeling_toykit\.py: line \d+"):
        push_to_hub.flat_sources([toykit.__name__])


def test_two_files_of_one_name_are_refused(toykit):
    path = Path(toykit.__file__)
    (path.parents[1] / "processing" / "modeling_toykit.py").write_text("A = 1\n")
    path.write_text(path.read_text() + "\nfrom ..processing.modeling_toykit import A\n", encoding="utf-8")
    with pytest.raises(InputError, match="rename one"):
        push_to_hub.flat_sources([toykit.__name__])


def test_unknown_dtype_is_refused(toykit, tmp_path):
    with pytest.raises(InputError, match="float8"):
        push_to_hub.export_flat(toykit.ToykitModel(toykit.ToykitConfig()), None, tmp_path / "flat", dtype="float8")


def test_push_says_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="say where to"):
        push_to_hub.push("toykit")
    with pytest.raises(InputError, match="no such model folder"):
        push_to_hub.push("toykit", folder=tmp_path / "absent", export_only=tmp_path / "out")
    with pytest.raises(InputError, match=r"config\.json"):
        push_to_hub.push("toykit", folder=tmp_path, export_only=tmp_path / "out")


def make_folder(toykit, folder: Path) -> Path:
    from transformers import AutoConfig, AutoModel

    AutoConfig.register("toykit", toykit.ToykitConfig, exist_ok=True)
    AutoModel.register(toykit.ToykitConfig, toykit.ToykitModel, exist_ok=True)
    toykit.ToykitModel(toykit.ToykitConfig()).save_pretrained(folder)
    return folder


def test_two_exports_are_the_same_bytes(toykit, tmp_path):
    """Or an interrupted upload could not go on: the Hub knows what it has by what is in it."""
    folder = make_folder(toykit, tmp_path / "model")
    (folder / "reference.json").write_text("[1]", encoding="utf-8")
    (folder / "optimizer.safetensors").write_bytes(b"not a part of the model")
    one, two = (push_to_hub.export_model("toykit", folder, tmp_path / name, "me/toy") for name in "ab")
    files = {path.name: path.read_bytes() for path in one.iterdir()}
    assert files == {path.name: path.read_bytes() for path in two.iterdir()}
    assert {"config.json", "model.safetensors", "modeling_toykit.py", "README.md", "reference.json"} <= set(files)
    assert "optimizer.safetensors" not in files
    assert b'from_pretrained("me/toy", trust_remote_code=True)' in files["README.md"]


def test_the_card_of_a_folder_is_told_where_it_will_be_read(toykit, tmp_path):
    folder = make_folder(toykit, tmp_path / "model")
    text = (
        '# Toy\n```python\nimport intermezzo  # known\nm = f("checkpoints/toykit", dtype=1)\n```\nimport intermezzo\n'
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    made = push_to_hub.export_model("toykit", folder, tmp_path / "out", "me/toy")
    wanted = '```python\nm = f("me/toy", trust_remote_code=True, dtype=1)\n```\nimport intermezzo\n'
    head, code = (made / "README.md").read_text(encoding="utf-8").split("\n\n")
    assert code == wanted and re.fullmatch(
        r'# Toy\n```bash\npip install "torch>=.*" "torchvision.*" "transformers.*"\n```', head
    )
    own = text.replace("# Toy\n", "# Toy\n```bash\npip install toykit\n```\n")
    (folder / "README.md").write_text(own, encoding="utf-8")
    made = push_to_hub.export_model("toykit", folder, tmp_path / "again", "me/toy")
    assert (made / "README.md").read_text(encoding="utf-8").count("pip install") == 1, "the card says it itself"


def test_what_an_export_needs_is_read_off_its_imports(tmp_path):
    (tmp_path / "one.py").write_text("import json\nimport cv2\nfrom .two import A\nimport numpy.linalg\n")
    (tmp_path / "two.py").write_text("def f():\n    from symusic import Score\n    import never_heard_of\n")
    found = needs_of(tmp_path)
    assert [re.split("[<>=]", one)[0] for one in found] == [
        "torch", "torchvision", "transformers", "opencv-python-headless", "never-heard-of", "symusic",
    ]  # fmt: skip
    line = pip_line(found)
    assert line.startswith('pip install "torch>=') and line.count('"') == 2 * sum(">" in one for one in found)


@pytest.mark.parametrize("missing", ["adapter_model.safetensors", "base"])
def test_an_adapter_that_is_not_whole_is_refused(toykit, tmp_path, missing):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"base_model_name_or_path": "nowhere" if missing == "base" else str(tmp_path)}
    (adapter / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if missing == "base":
        (adapter / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"'nowhere'" if missing == "base" else missing):
        push_to_hub.export_model("toykit", adapter, tmp_path / "out")


def test_an_adapter_alone_goes_out_with_the_base_it_names(toykit, tmp_path):
    base, adapter = make_folder(toykit, tmp_path / "model"), tmp_path / "tuned"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}), encoding="utf-8")
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    made = push_to_hub.export_model("toykit", adapter, tmp_path / "out", "me/toy")
    assert (made / "adapter" / "adapter_model.safetensors").read_bytes() == b"weights"
    assert json.loads((made / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == "me/toy"
    assert (made / "model.safetensors").is_file() and not (made / "adapter_config.json").exists()
