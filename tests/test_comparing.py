"""`compare`, `compare_folder` and `inspect_picture`, and their verbs on the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from intermezzo.cli_style import add_style_verbs
from intermezzo.comparing import Comparison, best_threshold, compare, compare_folder, find_clusters, nearest_neighbours
from intermezzo.inspecting import inspect_picture
from intermezzo.processing.errors import InputError
from intermezzo.processing.style_looker import CAPTIONS_FILE, PAIRS_FILE, StyleLooker, nearest

from .tiny_style_encoder import LENGTH, WIDTH, save_tiny, stripes

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def looker(checkpoint) -> StyleLooker:
    return StyleLooker.from_pretrained(checkpoint, "cpu")


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for number in range(3):
        stripes("red", number).save(folder / f"red{number}.png")
        stripes("blue", number).save(folder / "deep" / f"blue{number}.png")
    return folder


def test_a_picture_is_like_itself_and_order_does_not_matter(looker, pictures) -> None:
    a, b = pictures / "red0.png", pictures / "deep" / "blue1.png"
    assert compare(a, a, model=looker).similarity == pytest.approx(1, abs=1e-5)
    assert compare(a, b, model=looker).similarity == pytest.approx(compare(b, a, model=looker).similarity, abs=1e-5)
    styles = [seen.style for seen in looker.look([a, b])]  # type: ignore[union-attr]
    assert compare(a, b, model=looker).similarity == pytest.approx(float(styles[0] @ styles[1]), abs=1e-5)


def test_a_comparison_stands_among_known_pairs(looker, pictures) -> None:
    found = compare(pictures / "red0.png", pictures / "red0.png", model=looker)
    assert (found.above_same, found.above_different) == (1.0, 1.0) and found.verdict == "one style"
    assert "100.0% of known pairs of one style" in str(found)
    assert Comparison("a", "b", 0.5, 0.0, 0.75).verdict == "two styles"
    assert Comparison("a", "b", 0.65, 0.25, 0.8).verdict == "hard to say"
    assert Comparison("a", "b", 0.65).above_same is None and "not known" in str(Comparison("a", "b", 0.65))


def test_without_pairs_beside_the_weights_nothing_is_claimed(tmp_path, pictures) -> None:
    bare = save_tiny(tmp_path / "bare", references=False)
    found = compare(pictures / "red0.png", pictures / "red1.png", model=bare, device="cpu")
    assert found.above_same is None and "not known" in found.verdict
    assert inspect_picture(pictures / "red0.png", model=bare, device="cpu").captions == []
    (bare / PAIRS_FILE).write_text('{"same": "x"}')
    with pytest.raises(InputError, match="no similarities of pairs"):
        compare(pictures / "red0.png", pictures / "red1.png", model=bare, device="cpu")
    (bare / CAPTIONS_FILE).write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="holds no captions"):
        inspect_picture(pictures / "red0.png", model=bare, device="cpu")


def test_a_folder_gives_matrix_neighbours_and_clusters(looker, pictures, tmp_path) -> None:
    (pictures / "broken.png").write_bytes(b"\x89PNG not really")
    report = compare_folder(pictures, out=tmp_path / "out", model=looker)
    assert report.names == sorted(report.names) and len(report.names) == 6 and "deep/blue0.png" in report.names
    assert [error.path for error in report.failures] == [str(pictures / "broken.png")]
    np.testing.assert_allclose(report.similarities, report.similarities.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(report.similarities), 1, atol=1e-5)
    assert sorted(path.name for path in report.files) == [
        "clusters.csv",
        "neighbours.csv",
        "similarities.csv",
        "similarities.png",
    ]
    rows = list(csv.reader((tmp_path / "out" / "similarities.csv").open()))
    assert rows[0] == ["picture", *report.names]
    assert float(rows[1][2]) == pytest.approx(report.similarities[0, 1], abs=1e-4)
    near = list(csv.reader((tmp_path / "out" / "neighbours.csv").open()))
    assert len(near) == 7 and all(row[0] not in row[1:] for row in near)
    with Image.open(tmp_path / "out" / "similarities.png") as matrix:
        assert matrix.size == (6 * 56 + 60, 6 * 56 + 60)
    assert compare_folder(pictures, out=None, threshold=-1, model=looker).clusters == [0] * 6
    assert sorted(compare_folder(pictures, out=None, threshold=1, model=looker).clusters) == list(range(6))


def test_what_can_not_be_compared_is_one_line(looker, tmp_path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    stripes("red", 1).save(tmp_path / "one.png")
    with pytest.raises(InputError):
        compare_folder(empty, model=looker)
    with pytest.raises(InputError, match="no such folder"):
        compare_folder(tmp_path / "none", model=looker)
    with pytest.raises(InputError, match="threshold is 2"):
        compare_folder(empty, threshold=2, model=looker)
    with pytest.raises(InputError, match=r"none\.png") as caught:
        compare(tmp_path / "one.png", tmp_path / "none.png", model=looker)
    assert "\n" not in str(caught.value)


def hard_pictures(folder: Path) -> dict[str, Path]:
    """Pictures as they also come: one pixel, CMYK, 16 bit, moving, turned by EXIF."""
    plain = stripes("red", 2)
    found = {name: folder / name for name in ("pixel.png", "cmyk.jpg", "deep.png", "moving.gif", "turned.jpg")}
    Image.new("RGB", (1, 1), "red").save(found["pixel.png"])
    plain.convert("CMYK").save(found["cmyk.jpg"], quality=95)
    Image.fromarray(np.asarray(plain.convert("L")).astype(np.uint16) * 257).save(found["deep.png"])
    plain.save(found["moving.gif"], save_all=True, append_images=[stripes("blue", 1)])
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held sideways
    plain.rotate(90).save(found["turned.jpg"], exif=turned, quality=95)
    return found


def test_hard_pictures_are_seen_as_what_they_show(looker, tmp_path) -> None:
    found = hard_pictures(tmp_path)
    for path in found.values():
        assert -1 <= compare(path, path, model=looker).similarity <= 1
    plain = stripes("red", 2)
    for name in ("moving.gif", "cmyk.jpg", "turned.jpg"):
        assert compare(plain, found[name], model=looker).similarity > 0.9, name


def test_clusters_join_the_most_alike_first() -> None:
    blocks = np.full((5, 5), 0.1)
    blocks[:3, :3], blocks[3:, 3:] = 0.9, 0.8
    np.fill_diagonal(blocks, 1)
    order = [3, 0, 4, 1, 2]
    mixed = blocks[np.ix_(order, order)]
    assert find_clusters(mixed, 0.5) == [1, 0, 1, 0, 0]  # the larger one is number 0
    assert find_clusters(mixed, 0.85) == [1, 0, 2, 0, 0]
    assert find_clusters(mixed, 0.0) == [0] * 5
    # average linkage: 0.9 and 0.3 to the two halves make 0.6, which single linkage would call 0.9
    chain = np.array([[1, 0.95, 0.3], [0.95, 1, 0.9], [0.3, 0.9, 1]])
    assert find_clusters(chain, 0.7) == [0, 0, 1] and find_clusters(chain, 0.6) == [0, 0, 0]
    before = chain.copy()
    find_clusters(chain, 0.0)
    np.testing.assert_array_equal(chain, before)


def test_neighbours_are_the_most_alike_others() -> None:
    values = np.array([[1, 0.2, 0.7], [0.2, 1, 0.1], [0.7, 0.1, 1]])
    assert nearest_neighbours(values, 1) == [[(2, 0.7)], [(0, 0.2)], [(0, 0.7)]]
    assert [other for other, _ in nearest_neighbours(values, 9)[1]] == [0, 2]


def test_the_threshold_parts_known_pairs_best() -> None:
    known = {"same": np.array([0.6, 0.7, 0.8]), "different": np.array([-0.3, 0.1, 0.2])}
    assert best_threshold(known) == 0.6
    assert best_threshold({}) == 0.5


def test_a_picture_is_inspected(looker, tmp_path) -> None:
    stripes("red", 2, (60, 50)).save(tmp_path / "bell.png")
    report = inspect_picture(tmp_path / "bell.png", count=2, out=tmp_path / "out", model=looker)
    assert report.size_px == (60, 50) and report.name == "bell.png" and 0 <= report.places <= LENGTH
    assert {name: found.shape for name, found in report.tensors.items()} == {
        "embed": (1, LENGTH, WIDTH),
        "pooled": (1, WIDTH),
        "mask": (1, LENGTH),
        "style": (1, 8),
    }
    (seen,) = looker.look([tmp_path / "bell.png"])
    assert report.tensors["pooled"].norm == pytest.approx(np.linalg.norm(seen.pooled), rel=1e-4)
    assert report.tensors["style"].norm == pytest.approx(1, abs=1e-4)
    assert report.tensors["mask"].low >= 0 and report.tensors["mask"].high <= 1
    assert len(report.captions) == 2 and report.captions[0][1] >= report.captions[1][1]
    assert {text for text, _ in report.captions} < {"bell", "流星雨", "red apple"}
    with Image.open(tmp_path / "out" / "bell_attention.png") as shown:
        assert shown.height == 32 and (shown.width + 4) % 36 == 0 and shown.width >= 2 * 32
    assert "nearest captions" in str(report) and "float32 on cpu" in str(report)


def test_the_attention_map_shows_where_the_model_looked(looker) -> None:
    from intermezzo.inspecting import draw_attention
    from intermezzo.processing.style_looker import Seen

    weights = np.zeros((LENGTH + 1, 2, 2), np.float32)
    weights[-1, 1, 0] = 1.0  # the pooled embedding looks at the lower left
    seen = Seen("x", np.zeros((LENGTH, WIDTH)), np.zeros(WIDTH), np.zeros(LENGTH), np.zeros(8), weights)
    tile = np.asarray(draw_attention(looker, Image.new("RGB", (32, 32), "white"), seen))[:, 36:].astype(int)
    orange = tile[..., 0] - tile[..., 2]
    assert tile.shape == (32, 32, 3)
    assert orange[24:, :8].mean() > 150 > 20 > abs(orange[:8, 24:]).mean()


def test_own_captions_are_encoded_by_the_encoder_that_was_learnt_from(tmp_path, monkeypatch) -> None:
    import sys
    from types import ModuleType

    module = ModuleType("fake_texts")
    module.encode = lambda texts: np.eye(WIDTH, dtype=np.float32)[[len(t) % WIDTH for t in texts]]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_texts", module)
    folder = save_tiny(tmp_path / "model", text_encoder="fake_texts:encode")
    (tmp_path / "words.txt").write_text("a\nbell\n\n红苹果\n", encoding="utf-8")
    report = inspect_picture(stripes("red", 1), captions=tmp_path / "words.txt", model=folder, device="cpu")
    assert sorted(text for text, _ in report.captions) == ["a", "bell", "红苹果"]
    with pytest.raises(InputError, match="can not be read"):
        inspect_picture(stripes("red", 1), captions=tmp_path / "none.txt", model=folder, device="cpu")
    unknown = save_tiny(tmp_path / "unknown")
    with pytest.raises(InputError, match="does not say which text encoder"):
        inspect_picture(stripes("red", 1), captions=["a"], model=unknown, device="cpu")


def test_nearest_captions_do_not_see_what_all_share() -> None:
    vectors = np.array([[9.0, 1.0], [9.0, -1.0]])
    assert nearest(np.array([30.0, 0.5]), vectors, 1)[0][0] == 0
    assert nearest(np.array([9.0, -0.5]), vectors, 5)[0][0] == 1
    assert nearest(np.zeros(2), np.zeros((0, 2)), 3) == []


def test_a_folder_that_is_no_checkpoint_is_one_line(tmp_path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    other = save_tiny(tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["model_name"] = "test_vit"  # the weights beside it are of another backbone
    (other / "config.json").write_text(json.dumps(config))
    for folder in (tmp_path / "none", tmp_path, other):
        with pytest.raises(InputError) as caught:
            StyleLooker.from_pretrained(folder, "cpu")
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


@pytest.fixture
def command():
    app = typer.Typer()
    add_style_verbs(app)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])


def test_the_verbs_say_what_the_functions_say(command, checkpoint, pictures, tmp_path) -> None:
    model = ("--model", checkpoint, "--device", "cpu")
    said = command("compare", pictures / "red0.png", pictures / "red1.png", *model)
    assert said.exit_code == 0 and "style similarity" in said.stdout
    (pictures / "broken.png").write_bytes(b"no picture")
    said = command("compare", "--folder", pictures, "--out", tmp_path / "o", "--threshold", "-1", *model)
    assert said.exit_code == 1 and "cluster 0 (6)" in said.stdout and "broken.png" in said.stderr
    assert (tmp_path / "o" / "similarities.png").is_file()
    said = command("inspect", pictures / "red0.png", pictures / "broken.png", "--out", tmp_path / "i", *model)
    assert said.exit_code == 1 and "nearest captions" in said.stdout and "broken.png" in said.stderr
    assert (tmp_path / "i" / "red0_attention.png").is_file()
    (pictures / "other").mkdir()
    (pictures / "red1.png").rename(pictures / "other" / "red0.png")
    said = command("inspect", pictures / "red0.png", pictures / "other" / "red0.png", "--out", tmp_path / "i", *model)
    assert said.exit_code == 0 and (tmp_path / "i" / "red0_2_attention.png").is_file()


def test_the_verbs_refuse_half_a_question(command, pictures) -> None:
    for arguments in ([], [pictures / "red0.png"], [pictures / "red0.png"] * 2 + ["--folder", pictures]):
        said = command("compare", *arguments)
        assert isinstance(said.exception, InputError) and "two pictures, or --folder" in str(said.exception)
