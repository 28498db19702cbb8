"""ScoreVLM's processor: pictures and text to tensors, saved folders, the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

from intermezzo.modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
from intermezzo.processing.errors import InputError
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.multimodal_utils import count_image_tokens
from intermezzo.processing.processing_score_vlm import ScoreVLMProcessor
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

from .common import assert_same
from .tiny_score_vlm import END, IMAGE, PAD, vlm_config

torch.set_num_threads(1)
PICTURES = Path(__file__).parent / "fixtures" / "pictures"
READ = "<|bos|><|user|><|image|><|end|><|assistant|>"


@pytest.fixture(scope="module")
def processor() -> ScoreVLMProcessor:
    return ScoreVLMProcessor(ScoreImageProcessor(), AlphaTexTokenizer())


@pytest.fixture(scope="module")
def folder(processor: ScoreVLMProcessor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained checkpoint with its processor."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint")
    ScoreVLMForConditionalGeneration(vlm_config(len(processor.tokenizer))).save_pretrained(path)
    processor.save_pretrained(path)
    return path


def picture(name: str = "system_4") -> Image.Image:
    return Image.open(PICTURES / f"{name}.png")


def canvas(width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (240, width), dtype=np.uint8)


def test_ids_of_the_tests_are_those_of_the_tokenizer(processor: ScoreVLMProcessor) -> None:
    tokenizer = processor.tokenizer
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, processor.image_token_id) == (PAD, END, IMAGE)


def test_one_picture_gets_the_turn_that_asks_to_read_it(processor: ScoreVLMProcessor) -> None:
    inputs = processor(picture(), return_tensors="pt")
    assert set(inputs) == {"input_ids", "attention_mask", "pixel_values", "widths"}
    count = count_image_tokens(int(inputs["widths"][0]), 8)
    text = processor.tokenizer.decode(inputs["input_ids"][0])
    assert text == READ.replace("<|image|>", "<|image|>" * count)
    assert processor.read_prompt() == READ


def test_pictures_of_different_sizes_are_padded_on_the_left(processor: ScoreVLMProcessor) -> None:
    names = ("system_4", "system_score", "system_7")
    pictures = [picture(name) for name in names]
    inputs = processor(pictures, return_tensors="pt")
    counts = (inputs["input_ids"] == IMAGE).sum(-1).tolist()
    assert counts == [count_image_tokens(int(width), 8) for width in inputs["widths"]]
    assert len(set(counts)) > 1
    for i, count in enumerate(counts):
        alone = processor(pictures[i], return_tensors="pt")
        assert torch.equal(inputs["input_ids"][i, -count - 4 :], alone["input_ids"][0])
        assert inputs["attention_mask"][i].sum() == count + 4 and inputs["attention_mask"][i, -1] == 1


def test_several_pictures_in_one_prompt(processor: ScoreVLMProcessor) -> None:
    inputs = processor(
        [canvas(48), canvas(32, 1), canvas(64, 2)],
        ["<|user|><|image|><|image|><|end|>", "<|user|>a<|image|><|end|>"],
        do_locate=False,
        return_tensors="pt",
    )
    assert inputs["pixel_values"].shape == (3, 1, 240, 64 + 64)  # with a blank margin
    assert (inputs["input_ids"] == IMAGE).sum(-1).tolist() == [6 + 4, 8]
    nested = processor(
        [[canvas(48), canvas(32, 1)], [canvas(64, 2)]],
        ["<|user|><|image|><|image|><|end|>", "<|user|>a<|image|><|end|>"],
        do_locate=False,
        return_tensors="pt",
    )
    assert_same(dict(inputs), dict(nested))


def test_text_alone_and_a_text_that_already_fits(processor: ScoreVLMProcessor) -> None:
    inputs = processor(text=["3.3.4 |\n", "r.1 |\n 3.3.4"], return_tensors="pt")
    assert set(inputs) == {"input_ids", "attention_mask"}
    assert processor.batch_decode(inputs["input_ids"], skip_special_tokens=True)[0] == "3.3.4 |\n"
    assert (
        processor(text="3.3.4", text_kwargs={"padding": "max_length", "max_length": 9})["input_ids"][0][:2] == [PAD] * 2
    )


def test_what_does_not_fit_is_said(processor: ScoreVLMProcessor) -> None:
    for text, pictures in (("<|image|><|image|>", [canvas(48)]), ("<|image|>", None), (["a", "b"], [canvas(48)])):
        asked, given = str(text).count("<|image|>"), len(pictures or [])
        with pytest.raises(InputError, match=rf"has {asked} <\|image\|>, but there are {given} pictures"):
            processor(pictures, text, do_locate=False)
    with pytest.raises(InputError, match="picture 1"):
        processor([picture(), Image.new("L", (200, 200), 255)])


def test_a_chat_with_a_picture(processor: ScoreVLMProcessor) -> None:
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "image", "image": picture()}, {"type": "text", "text": "Half as loud."}]},
        {"role": "assistant", "content": [{"type": "text", "text": "3.3.4 |\n"}]},
    ]
    inputs = processor.apply_chat_template(turns, tokenize=True, return_dict=True, return_tensors="pt")
    count = count_image_tokens(int(inputs["widths"][0]), 8)
    assert int((inputs["input_ids"] == IMAGE).sum()) == count
    text = processor.tokenizer.decode(inputs["input_ids"][0])
    assert text.endswith("<|image|>Half as loud.<|end|><|assistant|>3.3.4 |\n<|end|>")


def test_the_processor_survives_saving(processor: ScoreVLMProcessor, tmp_path: Path) -> None:
    other = ScoreVLMProcessor(ScoreImageProcessor(), AlphaTexTokenizer(), image_column_px=16)
    other.save_pretrained(tmp_path)
    again = ScoreVLMProcessor.from_pretrained(tmp_path)
    assert again.image_column_px == 16 and again.chat_template == processor.chat_template
    assert again.to_dict() == other.to_dict()
    pictures = [picture(), picture("system_7")]
    assert_same(dict(other(pictures, return_tensors="pt")), dict(again(pictures, return_tensors="pt")))
    sizes = [(240, 64), (240, 70)]
    assert again._get_num_multimodal_tokens(sizes).num_image_tokens == [4, 5]


def test_auto_classes_find_model_and_processor(folder: Path, processor: ScoreVLMProcessor) -> None:
    found = AutoProcessor.from_pretrained(folder)
    assert type(found) is ScoreVLMProcessor
    assert type(found.tokenizer) is AlphaTexTokenizer and type(found.image_processor) is ScoreImageProcessor
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    inputs = found([picture(), picture("system_7")], return_tensors="pt")
    assert_same(dict(inputs), dict(processor([picture(), picture("system_7")], return_tensors="pt")))
    out = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert out.shape[0] == 2 and out.shape[1] <= inputs["input_ids"].shape[1] + 4
    assert len(found.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)) == 2


def test_the_pipeline_reads_a_folder(folder: Path) -> None:
    reader = pipeline("image-text-to-text", model=str(folder))
    turns = [{"role": "user", "content": [{"type": "image", "image": picture()}]}]
    (found,) = reader(text=turns, max_new_tokens=4, do_sample=False, return_full_text=False)
    assert isinstance(found["generated_text"], str)
    both = reader(
        images=[picture(), picture("system_7")], text=[READ, READ], max_new_tokens=4, do_sample=False,
        return_full_text=False, batch_size=2,
    )  # fmt: skip
    first = both[0][0] if isinstance(both[0], list) else both[0]
    assert len(both) == 2 and first["generated_text"] == found["generated_text"]
