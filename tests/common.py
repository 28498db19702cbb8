"""The laws every model keeps, as a mixin: a test class names its model and a tiny configuration.

    class TestToy(ModelLaws):
        model_class = ToyForConditionalGeneration
        auto_class = AutoModelForImageTextToText

        def tiny_config(self): ...
        def tiny_inputs(self, config, batch_size=2): ...   # with labels, so that the model gives a loss

`GenerationLaws` adds the laws of models that write.
"""

from __future__ import annotations

import copy
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from intermezzo.train.push_to_hub import export_flat

ELSEWHERE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "intermezzo":
            raise ImportError(f"{name} must not be needed")
sys.meta_path.insert(0, Refuse())
import torch, transformers
torch.set_num_threads(1)
model = getattr(transformers, sys.argv[1]).from_pretrained("flat", trust_remote_code=True).eval()
if sys.argv[2] == "processor":
    transformers.AutoProcessor.from_pretrained("flat", trust_remote_code=True)
inputs = torch.load("inputs.pt", weights_only=False)
with torch.no_grad():
    outputs = model(**inputs)
torch.save({k: v for k, v in outputs.items() if isinstance(v, torch.Tensor)}, "outputs.pt")
assert not any(name.split(".")[0] == "intermezzo" for name in sys.modules)
"""


def tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested outputs or inputs, with the way to it."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors(item, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from tensors(item, f"{name}.{index}")


def assert_same(a: Any, b: Any) -> None:
    """Equal tensors at equal places, bit for bit; NaN equals NaN."""
    a, b = dict(tensors(a)), dict(tensors(b))
    assert a.keys() == b.keys() and a, (sorted(a), sorted(b))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}")


class ModelLaws:
    """Laws of every model. Override the attributes; a law that can not hold is skipped by name with its reason."""

    model_class: Any = None
    auto_class: Any = None
    frozen: tuple[str, ...] = ()  # prefixes of parameters that never learn
    without_gradient: tuple[str, ...] = ()  # prefixes that learn in another stage, so get no gradient from this loss
    bfloat16_tolerance = 0.1  # of the largest absolute value of an output
    steps_to_fit = 200
    fit_learning_rate = 3e-3
    wrong_configs: tuple[dict[str, Any], ...] = ()  # changes that the configuration must refuse

    def tiny_config(self) -> Any:
        raise NotImplementedError

    def tiny_inputs(self, config: Any, batch_size: int = 2) -> dict[str, Any]:
        raise NotImplementedError

    def tiny_processor(self) -> Any:
        """The processor to export beside the model, or `None`."""
        return None

    def make(self, seed: int = 0, config: Any = None) -> Any:
        torch.manual_seed(seed)
        return self.model_class(self.tiny_config() if config is None else config).eval()

    def make_inputs(self, model: Any, batch_size: int = 2) -> dict[str, Any]:
        torch.manual_seed(1)
        return self.tiny_inputs(model.config, batch_size)

    @torch.no_grad()
    def outputs(self, model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in model(**inputs).items() if isinstance(value, (Tensor, tuple, dict))}

    def learns(self, name: str) -> bool:
        return not name.startswith((*self.frozen, *self.without_gradient))

    def test_save_and_reload_are_equal(self, tmp_path):
        model = self.make()
        inputs = self.make_inputs(model)
        before = self.outputs(model, inputs)
        model.save_pretrained(tmp_path)
        torch.manual_seed(5)
        again = self.model_class.from_pretrained(tmp_path).eval()
        assert_same(dict(model.state_dict()), dict(again.state_dict()))
        assert_same(
            dict(model.named_buffers()) or {"": torch.zeros(1)}, dict(again.named_buffers()) or {"": torch.zeros(1)}
        )
        assert_same(before, self.outputs(again, inputs))
        assert type(model.config).from_pretrained(tmp_path).to_dict() == model.config.to_dict()

    def test_auto_classes_know_it(self, tmp_path):
        from transformers import AutoConfig

        model = self.make()
        model.save_pretrained(tmp_path)
        assert type(AutoConfig.from_pretrained(tmp_path)) is type(model.config)
        assert type(self.auto_class.from_pretrained(tmp_path)) is self.model_class
        assert type(self.auto_class.from_config(self.tiny_config())) is self.model_class

    @pytest.mark.slow
    def test_flat_export_loads_where_the_package_is_absent(self, tmp_path):
        model, processor = self.make(), self.tiny_processor()
        inputs = self.make_inputs(model)
        export_flat(model, processor, tmp_path / "flat")
        torch.save(inputs, tmp_path / "inputs.pt")
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
        arguments = [self.auto_class.__name__, "no" if processor is None else "processor"]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the number of threads changes the order of sums, and so the last bit
        expected = {key: value for key, value in self.outputs(model, inputs).items() if isinstance(value, Tensor)}
        torch.set_num_threads(threads)
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert_same(expected, torch.load(tmp_path / "outputs.pt"))

    def test_initialisation_follows_the_seed(self):
        assert_same(dict(self.make(3).state_dict()), dict(self.make(3).state_dict()))
        a, b = dict(self.make(3).named_parameters()), dict(self.make(4).named_parameters())
        assert any(not torch.equal(a[name], b[name]) for name in a)

    def test_gradients_reach_what_learns_and_nothing_else(self):
        model = self.make().train()
        for name, parameter in model.named_parameters():
            if self.frozen and name.startswith(self.frozen):
                parameter.requires_grad_(False)
        model(**self.make_inputs(model)).loss.backward()
        missing, wrong = [], []
        for name, parameter in model.named_parameters():
            reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            if parameter.grad is not None:
                assert parameter.grad.isfinite().all(), name
            if reached != self.learns(name):
                (wrong if reached else missing).append(name)
        assert not missing, f"no gradient reaches {missing}"
        assert not wrong, f"a gradient reaches {wrong}"

    def test_inputs_are_not_changed(self):
        model = self.make().train()
        inputs = self.make_inputs(model)
        before = copy.deepcopy(inputs)
        model(**inputs)
        assert_same(inputs, before)

    def test_rows_do_not_see_each_other(self):
        """The first row's outputs stay when the others go (to rounding: kernels differ by batch size)."""
        model = self.make()
        inputs = self.make_inputs(model, 2)
        first = {k: v[:1] if isinstance(v, Tensor) and v.ndim and v.shape[0] == 2 else v for k, v in inputs.items()}
        both, alone = self.outputs(model, inputs), self.outputs(model, first)
        for name, value in alone.items():
            if isinstance(value, Tensor) and value.ndim > 1 and value.shape[0] == 1:
                torch.testing.assert_close(
                    both[name][:1], value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
                )

    def test_bfloat16_is_finite_and_near(self):
        model = self.make()
        inputs = self.make_inputs(model)
        low = copy.deepcopy(model).to(torch.bfloat16)
        cast = {
            k: v.to(torch.bfloat16) if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in inputs.items()
        }
        near, exact = dict(tensors(self.outputs(low, cast))), dict(tensors(self.outputs(model, inputs)))
        for name, value in exact.items():
            if not value.is_floating_point():
                continue
            assert near[name].isfinite().all() or not value.isfinite().all(), name
            finite = value.isfinite()
            error = (near[name].float() - value)[finite].abs().max()
            assert error <= self.bfloat16_tolerance * value[finite].abs().max() + 1e-3, f"{name}: off by {error}"

    def test_attention_implementations_agree(self):
        if not (getattr(self.model_class, "_supports_sdpa", False) and self.model_class._supports_attention_backend):
            pytest.skip("the class does not offer several attention implementations")
        model = self.make()
        inputs = self.make_inputs(model)
        found = {}
        for name in ("eager", "sdpa"):
            model.set_attn_implementation(name)
            found[name] = dict(tensors(self.outputs(model, inputs)))
        for name, value in found["eager"].items():
            torch.testing.assert_close(found["sdpa"][name], value, rtol=1e-3, atol=1e-4, equal_nan=True)

    def test_the_loss_falls_tenfold_on_eight_samples(self):
        model = self.make().train()
        inputs = self.make_inputs(model, 8)
        optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=self.fit_learning_rate)
        first = last = float(model(**inputs).loss)
        for _ in range(self.steps_to_fit):
            loss = model(**inputs).loss
            last = float(loss.detach())
            if last < first / 10:
                return
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        raise AssertionError(f"the loss fell only from {first:.4g} to {last:.4g} in {self.steps_to_fit} steps")

    def test_the_configuration_refuses_wrong_values(self):
        if not self.wrong_configs:
            pytest.skip("no wrong values named")
        good = self.tiny_config().to_dict()
        for change in self.wrong_configs:
            # huggingface_hub wraps what a validator raises, so the base class of both is asked for.
            with pytest.raises(Exception, match=r"\S") as caught:
                type(self.tiny_config())(**{**good, **change})
            assert not isinstance(caught.value, (AttributeError, IndexError, NameError)), change

    def test_no_forward_argument_is_lost(self):
        """A misspelt input must not vanish in `**kwargs` for the inputs the tests themselves give."""
        known = inspect.signature(self.model_class.forward).parameters
        assert set(self.make_inputs(self.make())) <= set(known)


class GenerationLaws(ModelLaws):
    """Laws of models with `generate`."""

    new_tokens = 6

    def prompt(self, model: Any, batch_size: int = 2) -> dict[str, Any]:
        """Inputs to `generate`: those of the forward pass without the labels."""
        return {key: value for key, value in self.make_inputs(model, batch_size).items() if key != "labels"}

    def write(self, model: Any, inputs: dict[str, Any], **options: Any) -> Tensor:
        torch.manual_seed(2)
        settings = {"max_new_tokens": self.new_tokens, "min_new_tokens": self.new_tokens, "do_sample": False}
        return model.generate(**inputs, **{**settings, **options})

    def test_cached_decoding_equals_uncached(self):
        model = self.make()
        inputs = self.prompt(model)
        length = inputs["input_ids"].shape[1]
        options = {"return_dict_in_generate": True, "output_logits": True}
        cached, plain = (self.write(model, inputs, use_cache=use, **options) for use in (True, False))
        assert cached.sequences.shape[1] == length + self.new_tokens
        assert torch.equal(cached.sequences, plain.sequences)
        for a, b in zip(cached.logits, plain.logits, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)

    def test_beams_and_samples_are_written(self):
        model = self.make()
        inputs = self.prompt(model)
        length = inputs["input_ids"].shape[1] + self.new_tokens
        assert self.write(model, inputs, num_beams=2).shape == (2, length)
        assert self.write(model, inputs, do_sample=True, num_return_sequences=2).shape == (4, length)
        one_beam = self.write(model, inputs, num_beams=1)
        assert torch.equal(one_beam, self.write(model, inputs))

    def test_labels_shift_once(self):
        """The loss is that of predicting token t + 1 at t, over labels other than −100."""
        model = self.make()
        inputs = self.make_inputs(model)
        with torch.no_grad():
            outputs = model(**inputs)
        wanted = torch.nn.functional.cross_entropy(
            outputs.logits[:, :-1].float().flatten(0, 1), inputs["labels"][:, 1:].flatten(), ignore_index=-100
        )
        torch.testing.assert_close(outputs.loss.float(), wanted, rtol=1e-4, atol=1e-5)

    def test_the_future_is_not_seen(self):
        """Another token at the last place changes nothing before it."""
        model = self.make()
        inputs = self.prompt(model)
        other = dict(inputs, input_ids=inputs["input_ids"].clone())
        last = other["input_ids"][:, -1]
        other["input_ids"][:, -1] = torch.where(
            last == model.config.get_text_config().vocab_size - 1, last - 1, last + 1
        )
        with torch.no_grad():
            a, b = model(**inputs).logits, model(**other).logits
        torch.testing.assert_close(a[:, :-1], b[:, :-1], rtol=1e-5, atol=1e-5)
        assert not torch.allclose(a[:, -1], b[:, -1])
