"""`train/configs`: files that Accelerate understands, and trainings over two processes that start from them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from intermezzo.processing.errors import InputError
from intermezzo.train.loop_support import Meters, check_sharding

CONFIGS = Path(__file__).resolve().parent.parent / "train" / "configs"
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_knows_every_setting(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    config = load_config_from_file(str(path))  # refuses keys that it does not know
    parser = launch_command_parser()
    known = set(vars(parser.parse_args(["script.py"])))
    for group in (config.fsdp_config, config.deepspeed_config):
        assert set(group) <= known, set(group) - known
    args, _, _ = _validate_launch_command(parser.parse_args(["--config_file", str(path), "script.py"]))
    kind = {"ddp": "multi_gpu", "fsdp": "use_fsdp", "deepspeed": "use_deepspeed"}[path.stem]
    assert getattr(args, kind) and args.num_processes == 2 and not args.use_cpu
    assert {"multi_gpu", "use_fsdp", "use_deepspeed"} - {kind} == {
        name for name in ("multi_gpu", "use_fsdp", "use_deepspeed") if not getattr(args, name)
    }


def test_sharding_that_was_asked_for_and_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    check_sharding("DistributedType.MULTI_CPU")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    check_sharding("DistributedType.FSDP")
    with pytest.raises(InputError, match=r"FSDP was asked for, and it became MULTI_CPU.*ddp\.yaml"):
        check_sharding("DistributedType.MULTI_CPU")
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_sharding("DistributedType.DEEPSPEED", 2)
    with pytest.raises(InputError, match="DEEPSPEED was asked for over 2 processes, and each trains by itself"):
        check_sharding("DistributedType.DEEPSPEED", 1)


def test_figures_that_are_not_known_yet_are_left_out() -> None:
    meters = Meters()
    meters.add({"gradient_norm": None, "loss": torch.tensor(2.0)})
    meters.add({"gradient_norm": 3.0, "loss": torch.tensor(4.0)})
    found = meters.read()
    assert found["gradient_norm"] == 3.0 and found["loss"] == 3.0


class Wide(nn.Module):
    """A regression with a unit that is worth sharding, a frozen part and a parameter of odd size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Linear(4, 5).requires_grad_(False)
        self.body = nn.Sequential(nn.Linear(5, 33), nn.GELU(), nn.Linear(33, 7))
        self.head = nn.Linear(7, 1, bias=False)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.head(self.body(self.frozen(x))) - y).square().mean()}


SCRIPT = """
import os, sys, torch
from accelerate.state import PartialState
if os.environ.get("SHARD_ON_CPU"):
    # Accelerate shards on accelerators only. PyTorch itself does so on CPUs, too, by gloo: say that they are GPUs.
    from accelerate.utils import DistributedType
    PartialState._prepare_backend = lambda self, *a, **k: ("gloo", DistributedType.MULTI_GPU)
    os.environ["FSDP_MIN_NUM_PARAMS"] = "200"  # the body becomes a unit of its own
from intermezzo.processing.errors import InputError
from intermezzo.train.loop import train
from intermezzo.train.arguments import TrainingArguments
from test_train_configs import Wide
from test_training_loop import loss_fn, make_rows, plain
folder, batch_size, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
arguments = TrainingArguments(
    output_dir=folder, batch_size=batch_size, max_steps=steps, schedule="constant", learning_rate=0.01, save_steps=2,
    resume=True, cpu="SHARD_ON_CPU" not in os.environ, progress=False, tracker="none", logging_steps=1,
)
def summed_loss(model, batch):
    for module in model.modules():
        if hasattr(module, "set_force_sum_reduction_for_comms"):
            module.set_force_sum_reduction_for_comms(True)  # gloo has no averages
    return loss_fn(model, batch)

options = {"collate": plain, "loss_fn": summed_loss, "evaluate_fn": lambda model: {"loss": 1.0}}
try:
    result = train(Wide(), make_rows(24), arguments, **options)
except InputError as error:
    sys.exit(f"refused: {error}")
kind = str(PartialState().distributed_type).rpartition(".")[2]
sys.stdout.write(f"{kind} {result.num_processes} step {result.step}\\n")
sys.stdout.flush()
os._exit(0)  # see ABORTED
"""
#: What C++ says where gloo's threads are taken down while they run, now and then, when the work is done. It has nothing
#: to do with what is tested here, and what was begun can be gone on with.
ABORTED = "terminate called without an active exception"


def go(tmp_path: Path, config: str, folder: str, batch_size: int, steps: int, **more: str) -> tuple[int, str, str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]])}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **more}
    command = [*LAUNCH, "--config_file", str(CONFIGS / config)] if config else [sys.executable]
    command += [str(script), str(tmp_path / folder), str(batch_size), str(steps)]
    for _ in range(3):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
        if done.returncode == 0 or ABORTED not in done.stderr:
            break
    return done.returncode, done.stdout, done.stderr


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = (load_file(folder / "final/model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys() == Wide().state_dict().keys()
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-4, atol=1e-5)
    assert torch.equal(first["frozen.weight"], Wide().frozen.weight)
    assert not torch.allclose(first["head.weight"], Wide().head.weight, atol=1e-3)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps of one process with the joined batch."""
    folder = tmp_path_factory.mktemp("alone")
    status, out, error = go(folder, "", "run", 4, 4)
    assert status == 0 and "NO 1 step 4" in out, error[-3000:]
    return folder / "run"


def test_ddp_over_two_processes_equals_one(tmp_path: Path, alone: Path) -> None:
    status, out, error = go(tmp_path, "ddp.yaml", "two", 2, 4)
    assert status == 0 and out.count("MULTI_CPU 2 step 4") == 2, error[-3000:]
    assert_same_weights(alone, tmp_path / "two")


@pytest.mark.slow
def test_fsdp_over_two_processes_equals_one_and_resumes(tmp_path: Path, alone: Path) -> None:
    sharded = {"SHARD_ON_CPU": "1", "ACCELERATE_TORCH_DEVICE": "cpu"}
    for steps in (2, 4):  # the second time as a resume from sharded checkpoints
        status, out, error = go(tmp_path, "fsdp.yaml", "two", 2, steps, **sharded)
        assert status == 0 and out.count(f"FSDP 2 step {steps}") == 2, error[-3000:]
    assert_same_weights(alone, tmp_path / "two")


@pytest.mark.slow
def test_fsdp_on_cpus_is_refused_and_not_forgotten(tmp_path: Path) -> None:
    status, out, error = go(tmp_path, "fsdp.yaml", "two", 2, 2)
    assert status != 0 and "refused: FSDP was asked for" in error and "step" not in out
