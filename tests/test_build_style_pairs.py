"""The builder of StyleEncoder's data: folders, targets, splits, icons, engravings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from intermezzo.datasets_scripts import build_style_pairs, style_sources
from intermezzo.datasets_scripts.build_style_pairs import SPLITS, build, main, split_of
from intermezzo.datasets_scripts.style_sources import EngravingSource, FolderSource, IconSource, hands
from intermezzo.datasets_scripts.style_targets import find_style_pictures, make_targets
from intermezzo.processing.errors import InputError
from intermezzo.processing.text_encoder import load_text_encoder

torch.set_num_threads(1)
L, D = 4, 6


def encode(texts: list[str]) -> np.ndarray:
    """A sentence encoder for the tests: letters counted into six bins."""
    return np.array([np.bincount([ord(c) % D for c in text], minlength=D) for text in texts], np.float32) + 0.1


def rows_in(out: Path, split: str = "*") -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return [
        row for path in sorted((out / "data").glob(f"{split}-*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def make_folder(root: Path, styles: int = 2, count: int = 3, targets: bool = True) -> Path:
    for style in range(styles):
        folder = root / f"style_{style}"
        folder.mkdir(parents=True)
        for k in range(count):
            name = f"image{k:02d}"
            Image.new("RGB", (20 + k, 10), (40 * style, 9 * k, 5)).save(folder / f"{name}_img.png")
            if targets:
                torch.save(torch.full((1, L, D), float(k)), folder / f"{name}_embed.pt")
                torch.save(torch.full((D,), float(k + style)), folder / f"{name}_pooled.pt")
                torch.save(torch.tensor([1, 1, 0, 0]), folder / f"{name}_mask.pt")
    return root


def failures_of(out: Path) -> str:
    return (out / "failures.tsv").read_text(encoding="utf-8")


def test_a_folder_becomes_parquet_that_datasets_reads(tmp_path) -> None:
    from datasets import load_dataset

    source = FolderSource(make_folder(tmp_path / "data"))
    report = build(tmp_path / "out", [source], test=0, validation=0, progress=False)
    assert report == {"rows": {"train": 6}, "failures": 0, "dropped": 0, "styles": 2, "bare": 0}
    rows = load_dataset(
        "parquet", data_dir=str(tmp_path / "out" / "data"), split="train", cache_dir=str(tmp_path / "c")
    )
    row = next(r for r in rows if r["style"] == "style_1" and r["name"] == "image02")
    assert row["image"].size == (22, 10) and row["image"].getpixel((3, 3)) == (40, 18, 5)
    assert row["embed"] == [[2.0] * D] * L and row["pooled"] == [3.0] * D and row["mask"] == [1, 1, 0, 0]
    assert "train" in (tmp_path / "out" / "README.md").read_text()


def test_a_build_goes_on_and_refuses_to_mix(tmp_path, monkeypatch) -> None:
    source = FolderSource(make_folder(tmp_path / "data"))
    options = dict(test=0, validation=0, shard_size=2, progress=False)
    build(tmp_path / "out", [source], **options)
    first = {p.name: p.read_bytes() for p in (tmp_path / "out" / "data").glob("*.parquet")}
    assert len(first) == 3
    (tmp_path / "out" / "data" / "train-00001.parquet").unlink()
    drawn = []
    draw = FolderSource.draw
    monkeypatch.setattr(FolderSource, "draw", lambda self, jobs, pool: drawn.extend(jobs) or draw(self, jobs, pool))
    build(tmp_path / "out", [source], **options)
    assert len(drawn) == 2  # only what was missing
    assert {p.name: p.read_bytes() for p in (tmp_path / "out" / "data").glob("*.parquet")} == first
    with pytest.raises(InputError, match="was built with other ignore_targets"):
        build(tmp_path / "out", [source], ignore_targets=["mask"], **options)


class RunsCode:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit(9)",))


@pytest.mark.parametrize(
    ("file", "value", "message"),
    [
        ("image01_pooled.pt", None, "is missing; make it, or give --ignore-targets pooled"),
        ("image01_pooled.pt", torch.ones(D + 1), "(7,); (6,) is needed"),
        ("image01_embed.pt", torch.ones(L, D, 2), "has the shape (4, 6, 2)"),
        ("image01_mask.pt", torch.ones(L + 1), "(5,); (4,) is needed"),
        ("image01_mask.pt", torch.full((L,), 0.5), "other values than 0 and 1"),
        ("image01_embed.pt", RunsCode(), "would run code"),
        ("image01_embed.pt", [1, 2], "not a tensor"),
        ("image01_img.png", b"junk", "is not a picture"),
    ],
)
def test_a_wrong_file_is_named_and_the_rest_goes_on(tmp_path, file, value, message) -> None:
    root = make_folder(tmp_path / "data")
    path = root / "style_1" / file
    path.unlink()
    if isinstance(value, bytes):
        path.write_bytes(value)
    elif value is not None:
        torch.save(value, path)
    status = main(
        ["--out", str(tmp_path / "out"), "--source", str(root), "--quiet", "--test", "0", "--validation", "0"]
    )
    assert status == 1 and len(rows_in(tmp_path / "out")) == 5
    (line,) = failures_of(tmp_path / "out").splitlines()[1:]
    assert f"style_1/{file}" in line and message in line


def test_ignored_targets_may_be_missing_and_are_not_stored(tmp_path) -> None:
    root = make_folder(tmp_path / "data")
    for path in root.rglob("*_pooled.pt"):
        path.write_bytes(b"junk")
    for path in root.rglob("*_mask.pt"):
        path.unlink()
    args = ["--out", str(tmp_path / "out"), "--source", str(root), "--quiet", "--test", "0", "--validation", "0"]
    assert main([*args, "--ignore-targets", "pooled,mask"]) == 0
    rows = rows_in(tmp_path / "out")
    assert len(rows) == 6 and all(r["embed"] and r["pooled"] is None and r["mask"] is None for r in rows)
    with pytest.raises(InputError, match="no target 'pool'"):
        build(tmp_path / "no", [FolderSource(root)], ignore_targets=["pool"], progress=False)


def test_a_picture_without_any_target_still_shows_a_style(tmp_path) -> None:
    source = FolderSource(make_folder(tmp_path / "data", targets=False))
    assert build(tmp_path / "out", [source], test=0, validation=0, progress=False)["failures"] == 0
    assert all(row["embed"] is None for row in rows_in(tmp_path / "out"))


def test_files_of_one_name_and_empty_folders_are_told(tmp_path) -> None:
    root = make_folder(tmp_path / "data")
    Image.new("RGB", (4, 4)).save(root / "style_0" / "image00.jpg")
    pictures, failures = find_style_pictures(root)
    assert len(pictures) == 6 and "has the same name" in failures[0][1]
    (tmp_path / "empty").mkdir()
    for folder, message in ((tmp_path / "empty", "holds no pictures"), (tmp_path / "none", "no such folder")):
        with pytest.raises(InputError, match=message):
            find_style_pictures(folder)


# --- Splits


def test_splits_keep_contents_and_styles_apart(tmp_path) -> None:
    contents, styles = [f"thing {k}" for k in range(200)], ["a", "b", "held-1", "held-2"]
    placed = {(c, s): split_of(c, s, ["held-*"], 0.2, 0.1) for c in contents for s in styles}
    by_split = {split: {key for key, own in placed.items() if own == split} for split in SPLITS}
    assert all(by_split.values())
    known = {content for content, _ in by_split["train"]}
    for split in ("validation", "test", "test_style"):
        assert not known & {content for content, _ in by_split[split]}
    assert {style for _, style in by_split["test_style"]} == {"held-1", "held-2"}
    assert {style for split in SPLITS[:3] for _, style in by_split[split]} == {"a", "b"}
    assert 25 <= len(by_split["test"]) / 2 <= 60 and {c for c, _ in by_split["test"]} == {
        c for c, _ in by_split["test_style"]
    }
    assert all(placed[c, "held-1"] is None for c in known)


# --- Targets


def test_make_targets_writes_what_the_builder_reads(tmp_path, monkeypatch, capsys) -> None:
    root = make_folder(tmp_path / "data", targets=False)
    (root / "style_0" / "image00.txt").write_text("red bell\n", encoding="utf-8")
    (root / "style_1" / "captions.csv").write_text("name,caption\nimage01,流星\nimage02_img.png,a b c d e f\n", "utf-8")
    monkeypatch.setattr(build_style_pairs, "encode_for_tests", encode, raising=False)
    spec = "intermezzo.datasets_scripts.build_style_pairs:encode_for_tests"
    args = ["--make-targets", str(root), "--encoder", spec, "--num-tokens", str(L), "--quiet"]
    assert main(args) == 1  # three pictures have no caption
    said = capsys.readouterr()
    assert "targets made: 3; there already: 0; failed: 3" in said.out and "image01.txt" in said.err
    load = lambda name: torch.load(root / name, weights_only=True)  # noqa: E731
    assert load("style_0/image00_mask.pt").tolist() == [1, 1, 0, 0]
    assert load("style_1/image01_mask.pt").tolist() == [1, 1, 0, 0]  # a Chinese character is a word
    assert load("style_1/image02_mask.pt").tolist() == [1, 1, 1, 1]  # cut
    torch.testing.assert_close(load("style_0/image00_pooled.pt"), torch.tensor(encode(["red bell"])[0]))
    embed = load("style_0/image00_embed.pt")
    torch.testing.assert_close(embed[:2], torch.tensor(encode(["red", "bell"])))
    assert embed.shape == (L, D) and embed[2:].abs().sum() == 0
    assert make_targets(root, load_text_encoder(spec, L), progress=False)["kept"] == 3
    report = build(tmp_path / "out", [FolderSource(root)], test=0, validation=0, progress=False)
    assert report["failures"] == 0
    assert {r["name"]: r["mask"] for r in rows_in(tmp_path / "out") if r["style"] == "style_0"}["image00"] == [
        1,
        1,
        0,
        0,
    ]


# --- Icons and engravings


class Painter:
    """In place of the renderer: draws nothing, remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def map_draw_svg(self, svgs, side_px):
        self.asked += svgs
        yield from (b"png" for _ in svgs)


def make_icons(root: Path) -> Path:
    def write(name: str, file: str, value: Any) -> None:
        path = root / "node_modules" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")

    icon = {"body": '<path fill="currentColor" d="M0 0h128v128h-128z"/>'}
    names = ["bell", "bell-bold", "bell-thin", "red-apple", "red-apple-bold", "red-apple-thin"]
    mit = {"license": {"spdx": "MIT", "url": "u"}, "author": {"name": "A"}, "name": "Ph"}
    write(
        "@iconify-json/ph",
        "icons.json",
        {"prefix": "ph", "icons": dict.fromkeys(names, icon), "width": 256, "height": 256},
    )
    write("@iconify-json/ph", "info.json", mit)
    write("@iconify-json/ph", "metadata.json", {"suffixes": {"bold": "Bold", "thin": "Thin", "": "Regular"}})
    emoji = {"bell": {**icon, "width": 20}, "waving-hand-dark-skin-tone": icon}
    write("@iconify-json/noto", "icons.json", {"prefix": "noto", "icons": emoji})
    write("@iconify-json/noto", "info.json", {**mit, "name": "Noto"})
    write("@iconify-json/share", "icons.json", {"prefix": "share", "icons": {"bell": icon}})
    write("@iconify-json/share", "info.json", {"license": {"spdx": "CC-BY-SA-4.0"}})
    write("emojibase-data", "en/data.json", [{"hexcode": "1F514", "label": "bell"}])
    write("emojibase-data", "zh/data.json", [{"hexcode": "1F514", "label": "铃铛"}])
    return root


def test_icon_sets_become_styles_and_contents(tmp_path) -> None:
    source = IconSource(make_icons(tmp_path))
    jobs, failures = source.jobs()
    assert sorted((j.style, j.content) for j in jobs) == [
        ("noto", "bell"),
        *[("ph-" + weight, content) for weight in ("bold", "regular", "thin") for content in ("bell", "red apple")],
    ]
    assert {j.caption_zh for j in jobs if j.content == "bell"} == {"铃铛"}
    assert {j.caption_zh for j in jobs if j.content == "red apple"} == {None}
    assert len(failures) == 1 and "CC-BY-SA-4.0" in failures[0][1] and source.licences.keys() == {"ph", "noto"}
    assert len(IconSource(tmp_path, licences=("MIT", "CC-BY-SA-4.0")).jobs()[0]) == len(jobs) + 1
    few = IconSource(tmp_path, per_style=1).jobs()[0]
    assert len({j.content for j in few if j.style.startswith("ph")}) == 1  # all weights show the same thing
    painter = Painter()
    assert list(source.draw(jobs, painter)) == [b"png"] * len(jobs)
    noto = next(svg for job, svg in zip(jobs, painter.asked, strict=True) if job.style == "noto")
    assert 'viewBox="0 0 20 16"' in noto and "currentColor" in noto
    with pytest.raises(InputError, match="npm install"):
        IconSource(tmp_path / "none").jobs()


def test_names_become_words_and_suffixes_become_styles(tmp_path) -> None:
    icon = {"body": "<path/>"}
    folder = tmp_path / "node_modules" / "@iconify-json" / "mono"
    folder.mkdir(parents=True)
    plain = [
        "bell",
        "bread-one",
        "bread-two",
        "number-one",
        "moon-2",
        "one",
        "fill-drip",
        *(f"thing-x{k}" for k in range(8)),
    ]
    names = [*plain, "bell-outline", "moon-2-outline", "red-fill"]  # one "-fill" of 18 is no style
    (folder / "icons.json").write_text(json.dumps({"prefix": "mono", "icons": dict.fromkeys(names, icon)}))
    (folder / "info.json").write_text(json.dumps({"license": {"spdx": "MIT"}}))
    jobs = IconSource(tmp_path).jobs()[0]
    found = {(job.style, job.name): job.content for job in jobs}
    assert found["mono-outline", "moon-2-outline"] == found["mono-regular", "moon-2"] == "moon"
    assert found["mono-regular", "bread-one"] == found["mono-regular", "bread-two"] == "bread"
    assert found["mono-regular", "number-one"] == "number one" and found["mono-regular", "one"] == "one"
    assert found["mono-regular", "red-fill"] == "red fill"
    left = IconSource(tmp_path, without=["mono-outline"]).jobs()[0]
    assert {job.style for job in left} == {"mono-regular"} and len(left) == len(jobs) - 2


def test_skin_tones_and_flags_are_left_out(tmp_path) -> None:
    icon = {"body": "<path/>"}
    folder = tmp_path / "@iconify-json" / "faces"
    folder.mkdir(parents=True)
    tones = ["light", "medium-light", "medium", "medium-dark", "dark"]
    names = [
        "wave",
        *(f"wave-{tone}" for tone in tones),
        "nod-skin-tone-dark",
        "sun-light",
        "flag-france",
        "white-flag",
    ]
    (folder / "icons.json").write_text(json.dumps({"prefix": "faces", "icons": dict.fromkeys(names, icon)}))
    (folder / "info.json").write_text(json.dumps({"license": {"spdx": "MIT"}, "palette": True}))
    assert sorted(job.content for job in IconSource(tmp_path).jobs()[0]) == ["sun light", "wave", "white flag"]


def test_chinese_names_come_from_emoji_and_from_iconpark(tmp_path) -> None:
    make_icons(tmp_path)
    park = tmp_path / "node_modules" / "@icon-park" / "svg"
    park.mkdir(parents=True)
    items = [
        {"name": "red-apple-one", "title": "红苹果 2"},
        {"name": "bell", "title": "别的铃"},
        {"name": "x", "title": "X"},
    ]
    (park / "icons.json").write_text(json.dumps(items), encoding="utf-8")
    found = style_sources.chinese_names(tmp_path / "node_modules")
    assert found == {"bell": "铃铛", "red apple": "红苹果"}  # an emoji's name comes first; "X" is not Chinese
    jobs = IconSource(tmp_path).jobs()[0]
    assert {job.caption_zh for job in jobs if job.content == "red apple"} == {"红苹果"}


def test_captions_of_icons_are_encoded_once_and_in_both_languages(tmp_path, monkeypatch) -> None:
    texts: list[str] = []

    def remember(words: list[str]) -> np.ndarray:
        texts.extend(words)
        return encode(words)

    monkeypatch.setattr(build_style_pairs, "encode_for_tests", remember, raising=False)
    encoder = load_text_encoder("intermezzo.datasets_scripts.build_style_pairs:encode_for_tests", L)
    monkeypatch.setattr(style_sources.IconSource, "draw", lambda self, jobs, pool: iter([b"x"] * len(jobs)))
    report = build(
        tmp_path / "out",
        [IconSource(make_icons(tmp_path))],
        encoder,
        held_out_styles=(),
        test=0,
        validation=0,
        progress=False,
    )
    assert report["rows"] == {"train": 7} and report["failures"] == 1
    rows = rows_in(tmp_path / "out")
    np.testing.assert_allclose(rows[0]["pooled"], encode([rows[0]["caption"]])[0])
    bell = next(row for row in rows if row["content"] == "bell")
    np.testing.assert_allclose(bell["pooled_zh"], encode(["铃铛"])[0])
    assert texts.count("red apple") == 1
    assert "MIT" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_every_hand_draws_every_system() -> None:
    jobs, failures = EngravingSource(3, seed=1).jobs()
    assert not failures and len(jobs) == 3 * len(hands()) == 36
    settings = [json.dumps(hand, sort_keys=True) for hand in hands().values()]
    assert len(set(settings)) == len(settings)  # no two hands draw alike
    by_name: dict[str, list[Any]] = {}
    for job in jobs:
        by_name.setdefault(job.name, []).append(job)
    for own in by_name.values():
        assert {job.style for job in own} == set(hands())
        assert len({job.payload[0] for job in own}) == 1 and len({job.payload[1]["scale"] for job in own}) == 1
        assert len({job.content for job in own}) == 1
    assert 0 < len(EngravingSource.held_out) < len(hands())
    assert [j.payload for j in EngravingSource(3, seed=1).jobs()[0]] == [j.payload for j in jobs]


@pytest.mark.slow
def test_the_renderer_draws_engravings_and_icons(tmp_path) -> None:
    icons = IconSource(make_icons(tmp_path), side_px=32)
    report = build(
        tmp_path / "out", [EngravingSource(1), icons], held_out_styles=(), test=0, validation=0, progress=False
    )
    assert report["rows"] == {"train": 12 + 7}
    import io

    pictures = {row["style"]: Image.open(io.BytesIO(row["image"]["bytes"])) for row in rows_in(tmp_path / "out")}
    icon = pictures["ph-bold"]
    assert icon.size == (32, 32) and icon.mode == "RGB"
    assert icon.getpixel((0, 0)) == (0, 0, 0) and icon.getpixel((31, 31)) == (255, 255, 255)
    assert pictures["noto"].size == (32, 26)  # 20 × 16
    assert len({picture.tobytes() for style, picture in pictures.items() if "-" in style}) > 12
    assert main(["--out", str(tmp_path / "x"), "--quiet"]) == 1  # no source
