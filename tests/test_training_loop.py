"""The training loop: exact resume, several processes, signals, early stop, time limit, settings."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from intermezzo.processing.errors import InputError
from intermezzo.train.arguments import TrainingArguments, option, parse_arguments
from intermezzo.train.loop import Callback, train
from intermezzo.train.schedules import build_optimizer, decay_scale, learning_rate_scale, parameter_groups


class Net(nn.Module):
    """A regression with dropout, batch statistics and a frozen part."""

    def __init__(self, dropout: float = 0.2):
        super().__init__()
        torch.manual_seed(0)
        self.tower = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)).requires_grad_(False)
        self.body = nn.Linear(4, 16)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(24, 1)

    def forward(self, x, y):
        hidden = torch.cat([self.tower(x), self.dropout(self.body(x).relu())], dim=-1)
        return {"loss": (self.head(hidden) - y).square().mean()}


def loss_fn(model, batch):
    loss = model(**batch)["loss"]
    return loss, {"double": 2 * loss}


def noisy(rows):
    """Augments with numbers from all three generators, so an inexact resume would show."""
    x = torch.stack([row["x"] for row in rows])
    x = x + 0.1 * torch.randn_like(x) + 0.1 * random.random() + 0.1 * float(np.random.rand())
    return {"x": x, "y": torch.stack([row["y"] for row in rows])}


def plain(rows):
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


def make_rows(count=22):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 4, generator=generator)
    return [{"x": row, "y": row.sum(0, keepdim=True)} for row in x]


def settings(folder, **changes):
    values = {"max_steps": 6, "batch_size": 4, "learning_rate": 0.01, "cpu": True, "progress": False}
    return TrainingArguments(output_dir=str(folder), **{**values, "tracker": "none", **changes})


def run(folder, model=None, **changes):
    model = model or Net()
    options = {key: changes.pop(key) for key in ("evaluate_fn", "callbacks", "collate") if key in changes}
    return model, train(
        model, make_rows(), settings(folder, **changes), **{"collate": noisy, **options}, loss_fn=loss_fn
    )


def same(a, b):
    """Whether two nested containers of tensors and numbers are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.mark.parametrize(
    "workers,accumulation,precision,optimizer",
    [(0, 1, "no", "adamw"), (0, 2, "no", "muon"), (2, 2, "no", "adamw"), (0, 1, "bf16", "adamw")],
)
def test_resume_is_exact(tmp_path, workers, accumulation, precision, optimizer):
    """6 steps at once = 3 steps, a checkpoint, and 3 more in a new run: weights, averages, optimiser."""
    common = {
        "ema_decay": 0.9,
        "save_steps": 1,
        "save_total_limit": 0,
        "num_workers": workers,
        "gradient_accumulation_steps": accumulation,
        "mixed_precision": precision,
        "optimizer": optimizer,
    }
    run(tmp_path / "straight", **common)

    class StopAtThree(Callback):
        def on_step_end(self, state, model):
            return state.step == 3

    _, first = run(tmp_path / "broken", callbacks=[StopAtThree()], **common)
    assert (first.step, first.stopped_by) == (3, "callback")
    model, second = run(tmp_path / "broken", model=Net(), resume=True, **common)
    assert (second.step, second.stopped_by) == (6, "steps")
    for step in (3, 6):
        a, b = (tmp_path / name / "checkpoints" / f"step_{step:08d}" for name in ("straight", "broken"))
        assert same(load_file(a / "model.safetensors"), load_file(b / "model.safetensors"))
        for file in ("optimizer.bin", "custom_checkpoint_0.pkl"):
            assert same(torch.load(a / file), torch.load(b / file)), file
    assert same(load_file(tmp_path / "straight/final/model.safetensors"), dict(model.state_dict()))


def test_evaluation_and_logging_change_nothing(tmp_path):
    def evaluate(model):
        torch.manual_seed(99)
        assert not model.training
        return {"loss": float(torch.rand(()))}

    a, _ = run(tmp_path / "a")
    b, result = run(tmp_path / "b", evaluate_fn=evaluate, eval_steps=2, logging_steps=1, tracker="tensorboard")
    assert same(a.state_dict(), b.state_dict())
    assert [figures["step"] for figures in result.evaluations] == [2, 4, 6]
    assert any((tmp_path / "b" / "tensorboard").iterdir())
    lines = [json.loads(line) for line in (tmp_path / "b/log.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["kind"] == "train")
    assert first["double"] == pytest.approx(2 * first["loss"]) and first["rows_per_second"] > 0


def test_frozen_parts_do_not_move_and_the_rest_does(tmp_path):
    before = {name: value.clone() for name, value in Net().state_dict().items()}
    model, _ = run(tmp_path)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("tower"), name


def test_accumulation_equals_the_large_batch(tmp_path):
    # Five batches of 4 fit into the 22 rows of an epoch; the order of the rows is the same up to there.
    common = {"collate": plain, "shuffle": False, "max_steps": 5}
    a, _ = run(tmp_path / "a", Net(0.0), batch_size=2, gradient_accumulation_steps=2, **common)
    b, _ = run(tmp_path / "b", Net(0.0), batch_size=4, **common)
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, b.state_dict()[name], rtol=1e-5, atol=1e-6)


SCRIPT = """
import sys
from intermezzo.train.loop import train
from test_training_loop import Net, loss_fn, make_rows, plain, settings
folder, batch_size, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
arguments = settings(
    folder, batch_size=batch_size, max_steps=steps, schedule="constant", save_steps=3, ema_decay=0.5, resume=True
)
options = {"collate": plain, "loss_fn": loss_fn, "evaluate_fn": lambda model: {"loss": 1.0}}
result = train(Net(0.0), make_rows(24), arguments, **options)
sys.stdout.write(f"processes {result.num_processes}\\n")  # one write: lines of two processes do not mix
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_two_processes_equal_one_with_the_joined_batch(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    two = [*launch, "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]

    def go(command, folder, batch_size, steps):
        arguments = [str(script), str(tmp_path / folder), str(batch_size), str(steps)]
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    for steps in (3, 6):  # the second time as a resume
        out = go([*two, "--main_process_port", str(free_port())], "two", 2, steps)
        assert out.count("processes 2") == 2
    assert go([sys.executable], "one", 4, 6).count("processes 1") == 1
    one, pair = (load_file(tmp_path / name / "final/model.safetensors") for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(pair[name], one[name], rtol=1e-4, atol=1e-5)


WAITING = """
import sys, time
from intermezzo.train.loop import Callback, train
from test_training_loop import Net, loss_fn, make_rows, noisy, settings
class Slow(Callback):
    def on_step_end(self, state, model):
        print("step", state.step, flush=True)
        time.sleep(0.02)
train(Net(), make_rows(), settings(sys.argv[1], max_steps=100000), collate=noisy, loss_fn=loss_fn, callbacks=[Slow()])
"""


@pytest.mark.parametrize("number,status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_leaves_with_its_status(tmp_path, number, status):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WAITING, str(tmp_path)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("step")
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == status, error
    saved = list((tmp_path / "checkpoints").iterdir())
    assert len(saved) == 1 and saved[0].name.startswith("step_")
    assert "--resume goes on" in out
    step = int(saved[0].name[5:])
    assert run(tmp_path, resume=True, max_steps=step + 2, schedule="constant")[1].step == step + 2


def test_early_stop_keeps_the_best(tmp_path):
    figures = iter([5.0, 3.0, 4.0, 6.0, 1.0])
    kept = []

    def evaluate(model):
        kept.append(model.head.weight.detach().clone())
        return {"f1": next(figures)}

    _, result = run(
        tmp_path, evaluate_fn=evaluate, eval_steps=1, metric_for_best="f1", early_stopping_patience=2, max_steps=50
    )
    assert (result.stopped_by, result.step, result.best_metric, result.best_step) == ("early_stop", 4, 3.0, 2)
    assert torch.equal(load_file(tmp_path / "best/model.safetensors")["head.weight"], kept[1])


def test_the_time_limit_stops_and_the_rate_follows_the_clock(tmp_path):
    class Slow(Callback):
        def on_step_end(self, state, model):
            time.sleep(0.05)

    _, result = run(tmp_path, max_steps=0, max_minutes=0.01, schedule_by="time", logging_steps=1, callbacks=[Slow()])
    assert result.stopped_by == "time" and result.seconds < 5
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    rates = [line["learning_rate/all"] for line in lines]
    assert rates == sorted(rates, reverse=True) and rates[0] > 0.009 and rates[-1] < 0.005


def test_only_the_last_checkpoints_stay(tmp_path):
    run(tmp_path, save_steps=1, save_total_limit=2)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step_00000005", "step_00000006"]
    with pytest.raises(InputError, match="--resume"):
        run(tmp_path)
    assert run(tmp_path, overwrite=True, max_steps=2, save_steps=2)[1].step == 2
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_00000002"]


def test_a_loss_that_is_no_number_is_named(tmp_path):
    with pytest.raises(FloatingPointError, match="step 1"):
        train(
            Net(), make_rows(), settings(tmp_path, logging_steps=1), collate=plain,
            loss_fn=lambda model, batch: model(**batch)["loss"] * float("nan"),
        )  # fmt: skip


def test_too_few_rows_are_refused(tmp_path):
    with pytest.raises(InputError, match="22 training rows do not fill one batch of 64"):
        run(tmp_path, batch_size=64)


def test_channels_last_reaches_batches_and_kernels(tmp_path):
    class Conv(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3)

        def forward(self, x):
            assert x.is_contiguous(memory_format=torch.channels_last)
            assert self.conv.weight.is_contiguous(memory_format=torch.channels_last)
            return {"loss": self.conv(x).square().mean()}

    rows = [{"x": torch.randn(2, 8, 8)} for _ in range(8)]
    arguments = settings(tmp_path, channels_last=True, max_steps=1)
    train(Conv(), rows, arguments, loss_fn=lambda model, batch: model(**batch)["loss"])


def test_groups_by_prefix_and_decay():
    arguments = settings("unused", learning_rates={"head": 0.5}, weight_decay=0.3)
    groups = {group["name"]: group for group in parameter_groups(Net(), arguments)}
    assert {name: (g["lr"], g["weight_decay"], len(g["params"])) for name, g in groups.items()} == {
        "head": (0.5, 0.3, 1), "head.no_decay": (0.5, 0.0, 1), "all": (0.01, 0.3, 1), "all.no_decay": (0.01, 0.0, 1),
    }  # fmt: skip
    with pytest.raises(InputError, match="towr"):
        parameter_groups(Net(), settings("unused", learning_rates={"towr": 0.5}))
    with pytest.raises(InputError, match="no parameter"):
        parameter_groups(Net().requires_grad_(False), settings("unused"))


def test_muon_moves_matrices_by_equal_steps_and_leaves_the_rest_to_adamw(tmp_path):
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.body, self.out = nn.Embedding(6, 8), nn.Linear(8, 8), nn.Linear(8, 6, bias=False)

        def get_output_embeddings(self):
            return self.out

    arguments = settings("unused", optimizer="muon", weight_decay=0.0, learning_rate=0.01)
    model = Words()
    groups = parameter_groups(model, arguments)
    named = {id(p): name for name, p in model.named_parameters()}
    by_muon = [named[id(p)] for group in groups if not group["use_fallback"] for p in group["params"]]
    assert by_muon == ["body.weight"]
    optimizer, before = build_optimizer(groups, arguments), model.body.weight.detach().clone()
    # A gradient of one row says little of the others, but an orthogonal step is as long in every direction it has.
    model.body.weight.grad = torch.diag(torch.tensor([1.0, 0.1, 0.5, 0.2, 1.0, 0.3, 0.7, 0.4]))
    optimizer.step()
    step = torch.linalg.svdvals(before - model.body.weight.detach())
    assert step.max() < 1.5 * step.min() and step.mean() == pytest.approx(0.01 * 0.2 * 8**0.5, rel=0.2)


def test_schedules():
    assert [decay_scale("cosine", f, 0.1) for f in (-1, 0, 0.5, 1, 2)] == pytest.approx([1, 1, 0.55, 0.1, 0.1])
    assert [decay_scale("linear", f) for f in (0, 0.25, 1)] == [1, 0.75, 0]
    arguments = settings("unused", warmup_steps=4, max_steps=10)
    scales = [learning_rate_scale(arguments, step, 10, 0.0) for step in range(10)]
    assert scales[:4] == [0.25, 0.5, 0.75, 1.0] and scales[4] == 1.0 and scales == scales[:4] + sorted(scales[4:])[::-1]


FLAGS = ["--output_dir", "out", "--max-steps", "5"]


@pytest.mark.parametrize(
    "flags,message",
    [
        (["--learning_rte", "1"], "did you mean 'learning_rate'"),
        (["--batch_size", "0"], "at least 1"),
        (["--batch_size", "2.5"], "expected int"),
        (["--schedule", "cosin"], "'cosine'"),
        (["--learning_rates", "tower"], "NAME=VALUE"),
        (["--schedule_by", "time"], "max_minutes"),
        (["--resume", "--overwrite"], "choose one"),
        (["stray"], "stray"),
    ],
)
def test_wrong_flags_are_told(flags, message):
    with pytest.raises(InputError, match=message):
        parse_arguments((TrainingArguments,), [*FLAGS, *flags])


def test_flags_win_over_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("batch_size: 3\nlearning_rate: 1e-4\nlearning_rates: {tower: 1e-5}\nresume: true\n")
    (found,) = parse_arguments((TrainingArguments,), [*FLAGS, "--config", str(file), "--batch_size=7", "--no-resume"])
    assert (found.batch_size, found.learning_rate, found.learning_rates) == (7, 1e-4, {"tower": 1e-5})
    assert found.resume is False and found.max_steps == 5
    file.write_text("batch_sizes: 3\n")
    with pytest.raises(InputError, match=r"run\.yaml: there is no setting 'batch_sizes'; did you mean 'batch_size'"):
        parse_arguments((TrainingArguments,), [*FLAGS, "--config", str(file)])
    with pytest.raises(InputError, match="no such settings file"):
        parse_arguments((TrainingArguments,), [*FLAGS, "--config", "absent.yaml"])


def test_two_dataclasses_and_lists():
    from dataclasses import dataclass

    @dataclass
    class Stage:
        stage: str = option("tower", "which part", ("tower", "lm"))
        files: list[str] = option([], "files")  # noqa: RUF009
        limit: int | None = option(None, "rows")

    training, stage = parse_arguments((TrainingArguments, Stage), [*FLAGS, "--files", "a", "b", "--stage", "lm"])
    assert training.max_steps == 5 and (stage.stage, stage.files, stage.limit) == ("lm", ["a", "b"], None)
    with pytest.raises(InputError, match="output_dir is missing"):
        parse_arguments((TrainingArguments, Stage), ["--max_steps", "5"])


@pytest.mark.parametrize("form", [["-m", "intermezzo.train"], [str(Path(__file__).parents[1] / "train")]])
def test_both_ways_to_start(form):
    done = subprocess.run([sys.executable, *form, "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "STEM" in done.stdout
    done = subprocess.run([sys.executable, *form, "nothing_like_it"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.startswith("error: there is no model to train 'nothing_like_it'")


def test_weights_kept_in_half_precision_are_trained_in_single(tmp_path):
    """A step of 1e-5 is lost in float16, whose neighbours of 1 lie 1e-3 apart."""
    whole, _ = run(tmp_path / "whole", learning_rate=1e-5)
    half = Net().half()
    torch.nn.init.ones_(half.head.weight)
    run(tmp_path / "half", half, learning_rate=1e-5)
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    assert 0 < (half.head.weight - 1).abs().max() < 1e-3
    assert {p.dtype for p in whole.parameters()} == {torch.float32}
