"""Systems out of pages, canvases out of systems, pictures out of files. The fixtures were drawn by our own renderer."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from intermezzo.processing.errors import InputError
from intermezzo.processing.image_processing_score import (
    CANVAS_HEIGHT_PX,
    CANVAS_HEIGHT_SCORE_PX,
    LINE_DISTANCE_PX,
    ROWS_BELOW,
    ScoreImageProcessor,
    draw_on_canvas,
    find_systems,
    normalise_from_lines,
    normalise_page,
    normalise_system,
)
from intermezzo.processing.page_systems import read_page
from intermezzo.processing.picture_files import find_picture_files, load_pictures

PICTURES = Path(__file__).parent / "fixtures" / "pictures"
TRUTH = json.loads((PICTURES / "lines.json").read_text(encoding="utf-8"))
NAMES = sorted(TRUTH)


def grey(name: str) -> np.ndarray:
    return np.asarray(Image.open(PICTURES / f"{name}.png").convert("L"))


def assert_found(image: np.ndarray, name: str, scale: float = 1.0, dx: float = 0.0, dy: float = 0.0) -> None:
    regions = find_systems(image)
    assert len(regions) == len(TRUTH[name]["systems"])
    for region, truth in zip(regions, TRUTH[name]["systems"], strict=True):
        assert region.string_count == TRUTH[name]["string_count"]
        assert region.has_score == truth["has_score"]
        np.testing.assert_allclose(region.tab_line_ys, np.array(truth["tab"]) * scale + dy, atol=1.0)
        np.testing.assert_allclose(region.x_range, np.array(truth["x"]) * scale + dx, atol=2.5 * max(1.0, scale))


@pytest.mark.parametrize("name", NAMES)
def test_systems_are_found_where_the_renderer_drew_them(name: str) -> None:
    assert_found(grey(name), name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.9, 1.5, 2.2])
def test_regions_follow_shift_scale_and_padding(name: str, scale: float) -> None:
    picture = Image.fromarray(grey(name))
    size = (round(picture.width * scale), round(picture.height * scale))
    page = Image.new("L", (size[0] + 90, size[1] + 70), 255)
    page.paste(picture.resize(size, Image.Resampling.BICUBIC), (50, 30))
    assert_found(np.asarray(page), name, scale, 50, 30)


@pytest.mark.parametrize("name", ["page_tab", "page_score_tab"])
def test_no_ink_is_cut_and_none_belongs_to_two(name: str) -> None:
    image = grey(name)
    regions = find_systems(image)
    for upper, lower in pairwise(regions):
        assert upper.box[3] <= lower.box[1]
    ink = np.flatnonzero((image < 200).any(axis=1))
    covered = np.zeros(len(image), bool)
    for region in regions:
        covered[region.box[1] : region.box[3]] = True
    first = TRUTH[name]["systems"][0]["top"]
    assert not [row for row in ink if row > first + 8 and not covered[row]]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("system_")])
def test_all_ink_of_a_single_system_belongs_to_it(name: str) -> None:
    """Endings, tempo marks and tuplet brackets are no headings or footers."""
    image = grey(name)
    (region,) = find_systems(image)
    left, top, right, bottom = region.box
    rest = (image < 120).copy()
    rest[top:bottom, left:right] = False
    assert not rest.any()


def test_a_score_staff_alone_is_no_tab() -> None:
    truth = TRUTH["system_score"]["systems"][0]
    image = grey("system_score")
    page = read_page(image[: int(truth["tab"][0]) - 10])
    assert not page.systems and page.score_staves == 1


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("name", ["page_tab", "page_score_tab"])
def test_turned_pages_are_set_upright(name: str, turns: int) -> None:
    turned = np.ascontiguousarray(np.rot90(grey(name), turns))
    regions = find_systems(turned)
    assert {(r.quarter_turns + turns) % 4 for r in regions} == {0}
    upright = [s.array for s in normalise_page(grey(name))]
    for region, expected in zip(regions, upright, strict=True):
        assert np.abs(normalise_system(turned, region).array.astype(int) - expected).mean() < 2.0


def stems_upwards(clef: bool) -> np.ndarray:
    """Six lines with figures, eight stems above them, and a clef if wanted."""
    page = np.full((220, 700), 255, np.uint8)
    page[100:161:12, 30:670] = 0
    if clef:
        page[104:157, 44:66] = 40  # the letters T, A and B
    for k in range(8):
        x, string = 130 + 65 * k, 100 + 12 * (k % 4)
        page[string - 5 : string + 6, x - 4 : x + 5] = np.where(np.eye(11, 9) > 0, 0, 255)
        page[76 : string - 6, x] = 0
    return page


def test_stems_that_stand_on_a_staff_behind_its_clef_do_not_turn_it() -> None:
    """LilyPond draws stems upwards; a page of hanging stems that stands on its head has its clef at the right."""
    upright = stems_upwards(clef=True)
    assert [region.quarter_turns for region in find_systems(upright)] == [0]
    hanging = np.ascontiguousarray(upright[::-1])  # mirrored: the clef is still at the left
    assert [region.quarter_turns for region in find_systems(hanging)] == [0]
    on_its_head = np.ascontiguousarray(hanging[::-1, ::-1])
    assert [region.quarter_turns for region in find_systems(on_its_head)] == [2]
    assert [region.quarter_turns for region in find_systems(stems_upwards(clef=False))] == [2]  # stems alone tell


@pytest.mark.parametrize("angle", [-4.0, -0.5, 1.5, 5.0])
def test_skew_pages_are_straightened(angle: float) -> None:
    large = Image.fromarray(grey("page_tab")).resize((1120, 962), Image.Resampling.BICUBIC)
    skew = np.asarray(large.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=255))
    regions = find_systems(skew)
    assert [r.string_count for r in regions] == [6, 6, 6]
    assert all(abs(r.angle_degrees + angle) < 0.1 for r in regions)


def test_dark_and_shadowed_pages_give_the_same_systems() -> None:
    image = grey("page_score_tab")
    assert_found(255 - image, "page_score_tab")
    shadow = np.linspace(0.65, 1.0, image.shape[1])
    assert_found((image * 0.85 * shadow + 20).astype(np.uint8), "page_score_tab")


@pytest.mark.parametrize("name", NAMES)
def test_canvas_puts_every_tab_line_in_its_row(name: str) -> None:
    for system, truth in zip(normalise_page(grey(name)), TRUTH[name]["systems"], strict=True):
        height = CANVAS_HEIGHT_SCORE_PX if truth["has_score"] else CANVAS_HEIGHT_PX
        assert system.array.shape[0] == height and system.array.shape[1] % 16 == 0
        darkness = (255 - system.array).sum(axis=1, dtype=np.int64)
        for string in range(system.string_count):
            row = height - ROWS_BELOW + string * LINE_DISTANCE_PX
            assert abs(int(darkness[row - 4 : row + 5].argmax()) - 4) <= 1
        y = np.array(truth["tab"]) * system.placement.y_scale + system.placement.y_offset
        np.testing.assert_allclose(y[0], height - ROWS_BELOW + 0.5, atol=1.0)


def test_known_lines_and_found_lines_agree() -> None:
    image, truth = grey("system_7"), TRUTH["system_7"]["systems"][0]
    known, x_scale, x_offset, y_scale, y_offset = normalise_from_lines(image, truth["tab"], truth["has_score"])
    (found,) = normalise_page(image)
    assert abs(found.placement.x_scale - x_scale) < 0.005 and abs(found.placement.x_offset - x_offset) < 2
    assert abs(found.placement.y_offset - y_offset) < 1 and abs(found.placement.y_scale - y_scale) < 0.005
    assert known.shape == found.array.shape
    assert np.abs(known.astype(int) - found.array).mean() < 3.0


@pytest.mark.parametrize("far", [200, 390])
def test_ink_beyond_the_canvas_is_squeezed_not_cut(far: int) -> None:
    image = np.full((900, 400), 255, np.uint8)
    lines = [450.5 + 10 * k for k in range(6)]
    for y in lines:
        image[int(y), 20:380] = 90
    image[450 - far : 454 - far, 100:120] = 0
    image[500 + far : 504 + far, 200:220] = 0
    before = image.copy()
    canvas, placement = draw_on_canvas(image, lines, has_score=False)
    np.testing.assert_array_equal(image, before)
    assert placement.squeeze_above > 1 and placement.squeeze_below > 1
    rows, columns = np.nonzero(canvas[:100] < 240)
    assert rows.size and abs(columns.mean() - (110 - 20 + 8)) < 1.5
    assert (canvas[-40:] < 240).any()
    for k in range(6):
        assert canvas[120 + 10 * k, 30:300].max() < 130


def test_processor_batches_and_survives_saving(tmp_path: Path) -> None:
    pictures = [Image.open(PICTURES / f"{name}.png") for name in ("system_4", "system_score", "system_7")]
    processor = ScoreImageProcessor()
    batch = processor(pictures, return_tensors="pt")
    assert batch["pixel_values"].shape[:3] == (3, 1, CANVAS_HEIGHT_SCORE_PX)
    assert batch["string_count"].tolist() == [4, 6, 7] and batch["has_score"].tolist() == [0, 1, 0]
    assert batch["pixel_values"].min() >= 0 and batch["pixel_values"].max() <= 1
    for i, width in enumerate(batch["widths"].tolist()):
        assert batch["pixel_values"][i, :, :, width:].sum() == 0
    processor.save_pretrained(tmp_path)
    again = ScoreImageProcessor.from_pretrained(tmp_path)(pictures, return_tensors="pt")
    assert all(torch.equal(batch[key], again[key]) for key in batch)


def test_processor_takes_arrays_tensors_and_canvases() -> None:
    image = grey("system_7")
    processor = ScoreImageProcessor()
    expected = processor(Image.fromarray(image), return_tensors="pt")["pixel_values"]
    colour = np.stack([image] * 3, axis=-1)
    for same in (
        image,
        colour,
        torch.from_numpy(colour).permute(2, 0, 1),
        image / 255.0,
        image.astype(np.uint16) * 257,
    ):
        assert torch.equal(processor(same, return_tensors="pt")["pixel_values"], expected)
    (canvas,) = normalise_page(image)
    drawn = processor(canvas.array, do_locate=False, return_tensors="pt")["pixel_values"]
    assert torch.equal(drawn, expected)
    with pytest.raises(InputError, match="picture 0: is 235 pixels high"):
        processor(image, do_locate=False)


def test_processor_refuses_what_is_no_tab() -> None:
    blank = Image.new("L", (300, 200), 255)
    with pytest.raises(InputError, match=r"^picture 1: no tab staff") as error:
        ScoreImageProcessor()([Image.fromarray(grey("system_7")), blank])
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"rows_below is 100, but .* 120"):
        ScoreImageProcessor(rows_below=100)
    assert find_systems(np.random.default_rng(0).integers(0, 255, (400, 500)).astype(np.uint8)) == []


def as_sixteen_bit(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)


def as_transparent(picture: Image.Image) -> Image.Image:
    ink = Image.new("RGBA", picture.size, (0, 0, 0, 0))
    ink.putalpha(Image.fromarray(255 - np.asarray(picture)))
    return ink


def on_its_side(picture: Image.Image) -> Image.Image:
    return picture.transpose(Image.Transpose.ROTATE_90)


@pytest.mark.parametrize(
    ("file", "change", "options"),
    [
        ("16bit.png", as_sixteen_bit, {}),
        ("clear.png", as_transparent, {}),
        ("palette.png", lambda p: p.quantize(16), {}),
        ("bits.png", lambda p: p.point(lambda v: 255 * (v > 225), mode="1"), {}),
        ("dark.png", lambda p: Image.fromarray(255 - np.asarray(p)), {}),
        ("photo.jpg", lambda p: p.convert("RGB"), {"quality": 80}),
        ("scan.tiff", lambda p: p, {}),
        ("web.webp", lambda p: p.convert("RGB"), {"lossless": True}),
        ("old.bmp", lambda p: p, {}),
        ("page.pdf", lambda p: p, {"resolution": 200}),
    ],
)
def test_every_format_shows_the_same_page(tmp_path: Path, file: str, change: object, options: dict) -> None:
    change(Image.fromarray(grey("page_tab"))).save(tmp_path / file, **options)  # type: ignore[operator]
    (page,) = load_pictures(tmp_path / file)
    assert page.image.mode == "L" and page.name == file and page.page == 0
    assert len(find_systems(np.asarray(page.image))) == 3


def test_exif_orientation_is_obeyed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me clockwise to look at me"
    on_its_side(Image.fromarray(grey("page_tab"))).save(tmp_path / "phone.jpg", exif=exif, quality=95)
    (page,) = load_pictures(tmp_path / "phone.jpg")
    assert page.image.size == (560, 481)


def test_pages_of_a_file_and_files_of_a_folder(tmp_path: Path) -> None:
    pages = [Image.fromarray(grey(name)) for name in ("page_tab", "page_score_tab")]
    pages[0].save(tmp_path / "b.tiff", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "a.pdf", save_all=True, append_images=pages[1:])
    (tmp_path / "notes.txt").write_text("no picture")
    loaded = [(page.name, page.page) for page in load_pictures(tmp_path)]
    assert loaded == [("a.pdf", 0), ("a.pdf", 1), ("b.tiff", 0), ("b.tiff", 1)]


def test_huge_pages_are_scaled_down(tmp_path: Path) -> None:
    Image.new("L", (20_000, 3_000), 255).save(tmp_path / "huge.png")
    (page,) = load_pictures(tmp_path / "huge.png", max_pixels=1_000_000)
    assert page.image.width * page.image.height <= 1_000_000
    assert abs(page.scale - page.image.width / 20_000) < 1e-3


def test_bad_files_get_one_line_each(tmp_path: Path) -> None:
    whole = (PICTURES / "page_tab.png").read_bytes()
    files = {
        "empty.png": (b"", "the file is empty"),
        "words.png": (b"this is no picture at all", "not a picture"),
        "half.png": (whole[: len(whole) // 2], "damaged"),
        "broken.pdf": (b"%PDF-1.7 and then nothing", "not a PDF"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message) as error:
            list(load_pictures(tmp_path / name))
        assert str(error.value).startswith(str(tmp_path / name)) and "\n" not in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        list(load_pictures(tmp_path / "missing.png"))
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no pictures"):
        find_picture_files(tmp_path / "none")


def test_ink_from_the_staff_down_to_the_edge_is_no_crash() -> None:
    """A photo's dark lower edge: no blank row lies under the tab."""
    picture = np.full((200, 600), 255, dtype=np.uint8)
    picture[60:111:10, 20:580] = 0
    picture[111:, 20:580] = 40
    page = read_page(picture)
    assert len(page.systems) <= 1
