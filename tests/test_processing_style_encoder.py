"""StyleEncoder's processor: as timm prepares pictures, saved and reloaded, and pictures of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from transformers import AutoProcessor

from intermezzo.processing.errors import InputError
from intermezzo.processing.processing_style_encoder import StyleEncoderProcessor
from intermezzo.processing.tensor_files import load_tensor

torch.set_num_threads(1)


def picture(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def small(**changes) -> StyleEncoderProcessor:
    return StyleEncoderProcessor(**{"image_size": 32, "crop_pct": 1.0, **changes})


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "vit_base_patch16_224", "test_resnet", "test_vit2"])
@pytest.mark.parametrize("size", [(90, 60), (60, 90), (300, 310)])
def test_pictures_are_prepared_as_timm_does(name, size) -> None:
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    wanted = timm.data.create_transform(**config, is_training=False)(picture(*size))
    processor = StyleEncoderProcessor.from_backbone(name)
    found = processor(picture(*size))["pixel_values"]
    assert found.shape == (1, *config["input_size"]) and found.dtype == torch.float32
    assert torch.equal(found[0], wanted)


def test_the_size_follows_the_backbone() -> None:
    assert StyleEncoderProcessor.from_backbone("tf_efficientnet_lite0").image_size == 224
    assert StyleEncoderProcessor.from_backbone("tf_efficientnet_lite0", image_size=112).image_size == 112
    assert StyleEncoderProcessor.from_backbone("test_vit", {"img_size": 96}).image_size == 96
    assert StyleEncoderProcessor.from_backbone("test_vit", crop_mode="squash").crop_mode == "squash"
    with pytest.raises(InputError, match="image_size is 112, but the backbone is built for 96"):
        StyleEncoderProcessor.from_backbone("test_vit", {"img_size": 96}, image_size=112)
    with pytest.raises(InputError, match="has no model 'test_vitt'"):
        StyleEncoderProcessor.from_backbone("test_vitt")


def test_save_and_reload_are_equal(tmp_path) -> None:
    processor = StyleEncoderProcessor.from_backbone("test_resnet", crop_mode="border", image_size=48)
    processor.save_pretrained(tmp_path)
    again = StyleEncoderProcessor.from_pretrained(tmp_path)
    assert again.to_dict() == processor.to_dict() and again.mean == processor.mean
    assert torch.equal(again(picture())["pixel_values"], processor(picture())["pixel_values"])
    from intermezzo.configuration.configuration_style_encoder import StyleEncoderConfig

    StyleEncoderConfig(model_name="test_resnet").save_pretrained(tmp_path)
    assert type(AutoProcessor.from_pretrained(tmp_path)) is StyleEncoderProcessor


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 0}, "image_size"),
        ({"crop_pct": 1.5}, "crop_pct"),
        ({"std": (1, 1, 0)}, "std above 0"),
        ({"interpolation": "cubic"}, "'cubic'"),
        ({"crop_mode": "centre"}, "'centre'"),
    ],
)
def test_wrong_settings_are_one_line(settings, message) -> None:
    with pytest.raises(InputError, match=message):
        StyleEncoderProcessor(**settings)


def test_files_pictures_arrays_and_tensors_agree(tmp_path) -> None:
    processor, image = small(), picture(32, 32)
    image.save(tmp_path / "a.png")
    array = np.asarray(image)
    same = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        image,
        array,
        array.transpose(2, 0, 1),
        torch.tensor(array / 255.0, dtype=torch.float32),
    ]
    found = processor(same)["pixel_values"]
    assert found.shape == (6, 3, 32, 32)
    for row in found[1:]:
        torch.testing.assert_close(row, found[0], atol=1e-5, rtol=0)
    before = array.copy()
    processor(array)
    assert np.array_equal(array, before)


def colour_of(processor: StyleEncoderProcessor, path: Path | Image.Image) -> list[int]:
    """Colour of the middle, 0 … 255."""
    values = processor(path)["pixel_values"][0, :, 16, 16]
    return [round(float(v * s + m) * 255) for v, s, m in zip(values, processor.std, processor.mean, strict=True)]


def test_every_kind_of_picture_works(tmp_path) -> None:
    processor = small()
    red = Image.new("RGB", (1, 1), (200, 30, 40))
    red.save(tmp_path / "one_pixel.png")
    assert colour_of(processor, tmp_path / "one_pixel.png") == [200, 30, 40]

    red.resize((20, 20)).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(np.subtract(colour_of(processor, tmp_path / "cmyk.jpg"), [200, 30, 40])).max() < 6

    Image.fromarray(np.full((20, 20), 65535 // 2, np.uint16)).save(tmp_path / "deep.png")
    assert colour_of(processor, tmp_path / "deep.png") == [127, 127, 127] or colour_of(
        processor, tmp_path / "deep.png"
    ) == [128, 128, 128]

    frames = [Image.new("RGB", (20, 20), colour) for colour in ((0, 0, 255), (255, 0, 0))]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert colour_of(processor, tmp_path / "moving.gif") == [0, 0, 255]  # the first frame

    dark = Image.new("RGB", (20, 20), (10, 20, 30))
    assert colour_of(processor, dark) == [10, 20, 30]  # colours stay: a dark picture is not inverted

    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    assert colour_of(processor, clear) == [255, 255, 255]
    palette = red.resize((20, 20)).quantize(4)
    assert colour_of(processor, palette) == [200, 30, 40]

    long = Image.new("RGB", (1, 60_000), (9, 90, 9))
    assert colour_of(processor, long) == [9, 90, 9]  # and the memory holds it


def test_a_turned_photograph_is_set_upright(tmp_path) -> None:
    upright = picture(32, 32)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter to the right
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")
    found = small()([tmp_path / "turned.png", tmp_path / "upright.png"])["pixel_values"]
    assert torch.equal(found[0], found[1])


def test_long_pictures_lose_only_what_the_crop_takes_anyway() -> None:
    wide = picture(600, 60)
    whole = small()(wide)["pixel_values"]
    centre = small()(wide.crop((240, 0, 360, 60)))["pixel_values"]
    assert (whole - centre).abs().max() < 0.05


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.png", None, "there is no such file"),
        ("empty.png", b"", "the file is empty"),
        ("text.png", b"hello there", "is not a picture"),
        ("cut.png", "cut", "damaged"),
    ],
)
def test_bad_files_are_one_line_with_their_name(tmp_path, name, content, message) -> None:
    path = tmp_path / name
    if content == "cut":
        picture(200, 200).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        small()([picture(), path])
    assert name in str(caught.value) and "\n" not in str(caught.value)
    if content == "cut":
        with pytest.raises(InputError, match=r"cut.png.*damaged"), Image.open(path) as lazy:
            small()(lazy)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((3, 4, 5, 6, 7)), "picture 0: has shape"),
        (np.zeros((5, 6, 7)), "channels"),
        (np.array(["a"]), "has shape"),
        ([], "no picture"),
        (None, "no picture"),
    ],
)
def test_bad_arrays_are_one_line(value, message) -> None:
    with pytest.raises(InputError, match=message):
        small()(value)
    with pytest.raises(InputError, match="is a folder"):
        small()(Path("."))


# --- Tensors from files


class RunsCode:
    def __reduce__(self):
        return (exec, ("raise SystemExit(9)",))


def test_tensors_come_from_files_in_one_form(tmp_path) -> None:
    path = tmp_path / "x.pt"
    torch.save(torch.ones(1, 4, 3, dtype=torch.bfloat16, requires_grad=True), path)
    found = load_tensor(path, (None, 3))
    assert found.shape == (4, 3) and found.dtype == torch.float32 and not found.requires_grad
    torch.save(torch.ones(1, 3, dtype=torch.int64), path)
    assert load_tensor(path, (3,)).shape == (3,)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.ones(2, 5), r"x.pt: has the shape \(2, 5\); \(any, 3\) or \(7,\) is needed"),
        ({"a": torch.ones(3)}, "x.pt: holds a dict of 1 entries, not a tensor"),
        (torch.tensor([[1.0, float("nan"), 1.0]]), "not finite"),
        (torch.ones(0, 3), "is empty"),
        (torch.ones(2, 3, dtype=torch.complex64), "plain real one"),
        (RunsCode(), "x.pt: holds more than tensors, and loading it would run code"),
        (np.ones((2, 3)), "x.pt: holds"),
        (b"junk", "x.pt: "),
    ],
)
def test_wrong_tensors_name_their_file(tmp_path, value, message) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(value) if isinstance(value, bytes) else torch.save(value, path)
    with pytest.raises(InputError, match=message) as caught:
        load_tensor(path, (None, 3), (7,))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="there is no such file"):
        load_tensor(tmp_path / "y.pt")
