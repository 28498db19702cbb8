"""ImageVQ's processor: the pictures NativeVLM sees, saved and reloaded, back to pictures, bad inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

from intermezzo.configuration.configuration_image_vq import ImageVQConfig
from intermezzo.modeling.modeling_image_vq import ImageVQModel
from intermezzo.processing.errors import InputError
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.processing_image_vq import ImageVQProcessor
from intermezzo.processing.processing_native_vlm import NativeVLMProcessor
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

from .tiny_native_vlm import VQ

torch.set_num_threads(1)

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NAMES = ("power_chords.png", "bass.png")


@pytest.fixture(scope="module")
def processor() -> ImageVQProcessor:
    return ImageVQProcessor.for_model(ImageVQConfig(**VQ), ScoreImageProcessor())


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [Image.open(EXAMPLES / name) for name in NAMES]


def test_a_picture_becomes_ink_on_whole_patches(processor: ImageVQProcessor, pictures: list[Image.Image]) -> None:
    one = processor(pictures[0])
    rows, columns = one["image_sizes"][0].tolist()
    assert one["pixel_values"].shape == (1, 1, 16 * rows, 8 * columns)
    assert one["pixel_values"].dtype == torch.float32
    assert float(one["pixel_values"].min()) >= 0 and 0.5 < float(one["pixel_values"].max()) <= 1, "ink is dark"
    native = NativeVLMProcessor(
        ScoreImageProcessor(), AlphaTexTokenizer(), max_columns=columns, max_rows=rows, max_length=9999
    )
    assert torch.equal(native(images=pictures[0])["pixel_values"], one["pixel_values"]), "as NativeVLM sees it"


def test_a_batch_is_padded_and_cut_again(processor: ImageVQProcessor, pictures: list[Image.Image]) -> None:
    alone = [processor(picture) for picture in pictures]
    both = processor(pictures)
    back = processor.pictures(both["pixel_values"], both["image_sizes"])
    for one, found in zip(alone, back, strict=True):
        rows, columns = one["image_sizes"][0].tolist()
        assert found.size == (8 * columns, 16 * rows)
        assert np.array_equal(np.asarray(found), np.asarray(processor.pictures(one["pixel_values"])[0]))


def test_it_comes_back_beside_its_model(
    processor: ImageVQProcessor, pictures: list[Image.Image], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    ImageVQModel(ImageVQConfig(**VQ)).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, model = AutoProcessor.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path).eval()
    assert isinstance(again, ImageVQProcessor) and again.to_dict() == processor.to_dict()
    given = again(pictures[0])
    assert torch.equal(given["pixel_values"], processor(pictures[0])["pixel_values"])
    with torch.no_grad():
        codes = model.encode(given["pixel_values"])
        assert codes.shape[1:] == tuple(given["image_sizes"][0].tolist())
        (drawn,) = again.pictures(model.decode(codes))
    assert drawn.size == (8 * codes.shape[2], 16 * codes.shape[1]) and drawn.mode == "L"


def test_bad_inputs_are_told_in_one_line(processor: ImageVQProcessor) -> None:
    for images in (None, []):
        with pytest.raises(InputError, match="give a picture"):
            processor(images)
    with pytest.raises(InputError, match="no tab staff"):
        processor(Image.new("L", (300, 200), 255))
    with pytest.raises(InputError, match=r"\(B, 1, H, W\)"):
        processor.pictures(torch.zeros(2, 32, 32))
    with pytest.raises(ValueError, match="8 or 16"):
        ImageVQProcessor(ScoreImageProcessor(), patch_height=12)
