"""What reading leaves in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intermezzo import reading_outputs
from intermezzo.datasets_scripts.make_examples import draw, examples
from intermezzo.datasets_scripts.render import AlphaTabPool, RenderJob
from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.errors import InputError
from intermezzo.reading_outputs import OutputsError, comparison, redraw, write_outputs

LINE = "\\staff {tabs}\n\\ts (4 4) 3.3.8 (0.1 2.2).8 r.4 3.3{h}.4 5.3.4 |\n"
PAGE = LINE + "0.6.8 2.6.8 3.6.8 0.5.8 2.5.8 3.5.8 0.4.8 2.4.8 |\n" * 15
ALL = ("alphatex", "mid", "gp", "musicxml", "png")


@pytest.fixture(scope="module")
def pool() -> Iterator[AlphaTabPool]:
    with AlphaTabPool(workers=1) as shared:
        yield shared


def drawn(pool: AlphaTabPool, text: str, **options: object) -> Image.Image:
    return pool.render(RenderJob(text=text, dynamics=False, **options))[0].image()  # type: ignore[arg-type]


def test_all_formats_are_written_and_hold_the_music(pool: AlphaTabPool, tmp_path: Path) -> None:
    written = write_outputs("song", LINE, drawn(pool, LINE, scale=1.4), tmp_path / "new" / "out", ALL, pool)
    assert [path.name for path in written] == ["song.alphatex", "song.mid", "song.gp", "song.musicxml", "song.png"]
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(p.name for p in written)
    text, mid, gp, musicxml, _ = written
    assert text.read_text(encoding="utf-8") == LINE
    assert mid.read_bytes()[:4] == b"MThd" and gp.read_bytes()[:2] == b"PK"
    for path in (gp, musicxml):
        (first, *_) = read_alphatex(pool.canonicalise(path)).staves[0].bars
        assert [[(n.fret, n.string) for n in beat.notes] for beat in first.voices[0]] == [
            [(3, 3)], [(0, 1), (2, 2)], [], [(3, 3)], [(5, 3)],
        ]  # fmt: skip


def test_picture_is_the_original_above_the_drawing(pool: AlphaTabPool) -> None:
    original = drawn(pool, LINE, scale=1.4)
    sheet = np.asarray(comparison(original, LINE, pool))
    assert sheet.shape[1] == original.width
    pixels = np.asarray(original.convert("L"))
    places = [top for top in range(10, 60) if (sheet[top : top + len(pixels)] == pixels).all()]
    assert len(places) == 1, "the original is there, unchanged"
    again = sheet[places[0] + len(pixels) + 30 :]
    assert (again < 128).sum() > 0.6 * (pixels < 128).sum()


def test_same_picture_gives_a_like_drawing(pool: AlphaTabPool) -> None:
    original = drawn(pool, LINE, scale=1.4)
    again = redraw(LINE, original.width, original.height, pool)
    assert again.width == original.width
    assert abs(again.height - original.height) <= 0.15 * original.height


@pytest.mark.parametrize("told", [False, True])
def test_a_page_is_drawn_as_a_page(pool: AlphaTabPool, told: bool) -> None:
    (page,) = pool.render(RenderJob(text=PAGE, layout="page", width_px=900, scale=0.9))
    assert len(page.systems) > 2
    again = redraw(PAGE, 900, page.height, pool, len(page.systems) if told else None)
    assert again.width == 900
    assert 0.6 < again.height / page.height < 1.6


def test_empty_half_of_a_page_is_left_out(pool: AlphaTabPool) -> None:
    (page,) = pool.render(RenderJob(text=PAGE, layout="page", width_px=900, page_height_px=2400))
    sheet = comparison(page.image(), PAGE, pool, systems=len(page.systems))
    assert sheet.height < 2400


def test_score_above_tab_stays(pool: AlphaTabPool) -> None:
    both = LINE.replace("{tabs}", "{score tabs}")
    tab, score = drawn(pool, LINE), drawn(pool, both, staves="score+tabs")
    assert redraw(both, score.width, score.height, pool).height > 1.5 * redraw(LINE, tab.width, tab.height, pool).height


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGBA", (500, 120), (0, 0, 0, 0)),
        Image.fromarray(np.full((60, 300), 65535, np.uint16)),
        Image.new("1", (40, 900), 1),
        Image.new("RGB", (6000, 50), "white"),
    ],
    ids=["transparent", "16-bit", "narrow", "wide"],
)
def test_any_picture_will_do(pool: AlphaTabPool, picture: Image.Image) -> None:
    before = picture.tobytes()
    sheet = comparison(picture, LINE, pool)
    assert sheet.mode == "L" and sheet.width == min(picture.width, 2400)
    assert picture.tobytes() == before


def test_a_format_that_fails_is_named_and_the_others_are_written(pool: AlphaTabPool, tmp_path: Path) -> None:
    (tmp_path / "song.gp").mkdir()  # in the way
    with pytest.raises(OutputsError, match=r"^song: song\.gp not written: Is a directory$") as caught:
        write_outputs("song", LINE, drawn(pool, LINE), tmp_path, ALL, pool)
    assert [path.name for path in caught.value.written] == ["song.alphatex", "song.mid", "song.musicxml", "song.png"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing half-written is left"

    with pytest.raises(OutputsError) as caught:
        write_outputs("bad", "3.3.4 |\n3.3.4{zz}", drawn(pool, LINE), tmp_path, ALL, pool)
    message = str(caught.value)
    assert [path.name for path in caught.value.written] == ["bad.alphatex"]
    assert "\n" not in message and all(f"bad.{kind} not written" in message for kind in ALL[1:])


def test_old_file_survives_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "song.mid"
    target.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reading_outputs.os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        reading_outputs.write_whole(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["song.mid"] and target.read_bytes() == b"old"


def test_wrong_formats_and_names_write_nothing(pool: AlphaTabPool, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no format wav; choose alphatex"):
        write_outputs("song", LINE, Image.new("L", (9, 9)), tmp_path, ("alphatex", "wav"), pool)
    with pytest.raises(InputError, match="nothing to make a proof page of"):
        write_outputs("song", LINE, Image.new("L", (9, 9)), tmp_path, ("alphatex", "html"), pool)
    for name in ("", "a/b", ".."):
        with pytest.raises(InputError, match="no name for a file"):
            write_outputs(name, LINE, Image.new("L", (9, 9)), tmp_path, ("alphatex",), pool)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError):
        comparison(Image.new("L", (90, 90)), "no music", pool)


def test_examples_are_those_that_the_program_draws(pool: AlphaTabPool, tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "examples"
    made = list(examples())
    kept = {path.name for path in folder.iterdir() if path.suffix != ".ipynb"}
    assert {example.name for example in made} | {"README.md"} == kept
    notes = (folder / "README.md").read_text(encoding="utf-8")
    for example in made:
        path = folder / example.name
        assert path.stat().st_size < 150_000 and f"`{example.name}`" in notes
        again = draw(example, pool, tmp_path)
        if path.suffix == ".pdf":
            assert again.stat().st_size == pytest.approx(path.stat().st_size, rel=0.05)
        else:
            assert (np.asarray(Image.open(path)) == np.asarray(Image.open(again))).all(), example.name
