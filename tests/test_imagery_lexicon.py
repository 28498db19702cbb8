"""Laws of the lexicon of images: whole, clean, balanced, and nothing of a held-out image in training."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from intermezzo.datasets_scripts.imagery import (
    COLUMNS,
    LEXICON,
    MORE,
    SPLITS,
    ImageSet,
    draw_images,
    load_lexicon,
    load_sides,
    strengths,
)
from intermezzo.processing.errors import InputError
from intermezzo.processing.music_wishes import SIDED, sides_kept

IMAGES = load_lexicon()
ENGLISH = re.compile(r"[A-Za-zé',\- .]+")
CHINESE = re.compile(r"[\u4e00-\u9fff，]+")


def bare(phrase: str) -> str:
    return re.sub(r"^(the|an|a) ", "", phrase.lower())


def test_there_are_enough_images_and_each_is_there_once() -> None:
    assert len(IMAGES) >= 600
    assert len({image.id for image in IMAGES}) == len(IMAGES)
    for language in ("en", "zh"):
        words = Counter(bare(phrase) for image in IMAGES for phrase in image.phrases(language))
        assert [phrase for phrase, count in words.items() if count > 1] == []


def test_an_image_is_whole_in_both_languages() -> None:
    for image in IMAGES:
        assert len(image.english) >= 3 and len(image.chinese) >= 3, image
        assert all(ENGLISH.fullmatch(phrase) for phrase in image.english), image.english
        assert all(CHINESE.fullmatch(phrase) for phrase in image.chinese), image.chinese
        assert 2 <= len(image.sides) <= 5 and set(image.sides) <= set(SIDED), image
        assert set(image.sides.values()) <= {-1, 1}, image
        assert len(image.reason) > 8 and re.fullmatch(r"[a-z0-9-]+", image.id), image


def test_the_two_examples_of_the_project_are_held_out() -> None:
    images = {image.chinese[0]: image for image in IMAGES}
    meteors, storm = images["流星雨"], images["暴风雨"]
    assert meteors.split == storm.split == "test"
    assert meteors.sides == {"tempo": 1, "register": 1, "leaps": 1, "density": -1}
    assert storm.sides == {"register": -1, "density": 1, "sustain": 1, "dynamics": 1}
    assert all(i.split == "test" for i in IMAGES if i.family in {meteors.family, storm.family})


def test_splits_are_large_enough_and_balanced_over_categories() -> None:
    count = Counter(image.split for image in IMAGES)
    assert set(count) == set(SPLITS) and count["test"] >= 120 and count["validation"] >= 60
    assert {image.split for image in load_lexicon(MORE)} == {"train"}
    ours = load_lexicon(LEXICON)
    assert {image.category for image in IMAGES} == {image.category for image in ours} | {"instruments"}
    for category in {image.category for image in ours}:
        here = Counter(image.split for image in ours if image.category == category)
        total = sum(here.values())
        assert total >= 30, category
        assert 0.18 <= here["test"] / total <= 0.25 and here["validation"] / total >= 0.07, (category, here)


def test_the_test_images_can_not_be_guessed_from_the_attribute_alone() -> None:
    """For no attribute does one side make up much more than half of what the test images suggest."""
    for name in SIDED:
        sides = Counter(image.sides[name] for image in IMAGES if image.split == "test" and name in image.sides)
        assert min(sides.values()) >= 20 and max(sides.values()) / sum(sides.values()) <= 0.6, (name, sides)


def test_families_do_not_cross_splits() -> None:
    splits: dict[str, set[str]] = {}
    for image in IMAGES:
        splits.setdefault(image.family, set()).add(image.split)
    assert all(len(found) == 1 for found in splits.values())


def test_no_name_of_a_held_out_image_is_in_words_of_another_split() -> None:
    found = []
    for held in (image for image in IMAGES if image.split != "train"):
        name = re.compile(rf"\b{re.escape(bare(held.english[0]))}\b")
        for other in (image for image in (*IMAGES, *load_sides()) if image.split != held.split):
            found += [(held.id, p) for p in other.english if name.search(p.lower())]
            found += [(held.id, p) for p in other.chinese if held.chinese[0] in p]
    assert found == []


def test_more_images_have_two_phrases_and_several_sides_and_are_there_once() -> None:
    more = load_sides()
    assert len(more) > 5000 and {image.split for image in more} == {"train"}
    for image in more:
        assert len(image.english) == len(image.chinese) == 2 and len(image.sides) >= 3, image
        assert all(ENGLISH.fullmatch(phrase) for phrase in image.english), image.english
        assert all(CHINESE.fullmatch(phrase) for phrase in image.chinese), image.chinese
    for language in ("en", "zh"):
        words = Counter(bare(image.phrases(language)[0]) for image in more)
        assert [phrase for phrase, count in words.items() if count > 1] == []
        held = {bare(p) for image in IMAGES if image.split != "train" for p in image.phrases(language)}
        assert not held & {bare(p) for image in more for p in image.phrases(language)}
    for name in SIDED:  # neither side can be guessed from the attribute alone
        found = [image.sides[name] for image in more if name in image.sides]
        assert 0.35 < sum(side > 0 for side in found) / len(found) < 0.65, name


def test_every_phrase_is_in_the_file_as_written() -> None:
    for path in (LEXICON, MORE):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].split("\t") == list(COLUMNS) and len(lines) == len(load_lexicon(path)) + 1
        assert all(line == line.strip() and "  " not in line and line.count("\t") == 7 for line in lines)


# --- Which images fit -------------------------------------------------------------------------------------------------

METEORIC = {
    "tempo": 150.0,
    "density": 2.5,
    "register": 70.0,
    "dynamics": 60.0,
    "sustain": 0.6,
    "leaps": 0.4,
    "mode": None,
}


def test_only_images_fit_whose_every_suggestion_is_kept() -> None:
    fitting = ImageSet(IMAGES).fitting(METEORIC)
    names = {image.id for image, _ in fitting}
    assert "meteor-shower" in names and "rainstorm" not in names
    for image in IMAGES:
        clearly = all(strengths(METEORIC)[name] not in (None, 0) for name in image.sides)
        assert (image.id in names) == (clearly and all(sides_kept(image.sides, METEORIC).values())), image.id
    assert all("mode" not in image.sides for image, _ in fitting)  # not measured, so nothing may be said of it


def test_stronger_agreement_is_drawn_more_often() -> None:
    image = next(image for image in IMAGES if image.id == "meteor-shower")
    weak = {**METEORIC, "tempo": 108.0, "register": 63.8, "density": 4.4, "leaps": 0.24}
    one = ImageSet([image])
    strong, little = one.agreement(METEORIC)[0], one.agreement(weak)[0]
    assert strong == pytest.approx(sum(abs(strengths(METEORIC)[name] or 0) for name in image.sides) / 4)
    assert 0 < little < strong <= 2
    for spoilt in ({"leaps": 0.1}, {"leaps": None}, {"tempo": 105.0}):  # the last is faster, but nobody hears it
        assert np.isnan(one.agreement({**METEORIC, **spoilt})[0]) and one.fitting({**METEORIC, **spoilt}) == []
    assert one.fitting(METEORIC)[0][1] > 2 * one.fitting(weak)[0][1]


def test_images_are_drawn_once_each_and_by_seed() -> None:
    fitting = ImageSet(IMAGES).fitting(METEORIC)
    drawn = draw_images(fitting, 5, random.Random(3))
    assert len({image.id for image in drawn}) == 5 and drawn == draw_images(fitting, 5, random.Random(3))
    assert drawn != draw_images(fitting, 5, random.Random(4))
    assert (
        len(draw_images(fitting, 10_000, random.Random(0))) == len(fitting)
        and draw_images([], 2, random.Random(0)) == []
    )


# --- Bad tables -------------------------------------------------------------------------------------------------------

GOOD = "a\tsky\tf\ttrain\ta | a b | a c\t甲 | 乙 | 丙\ttempo+ mode-\twhy not"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([GOOD.replace("tempo+", "speed+")], r"line 2: 'speed\+' suggests nothing; write one of tempo"),
        ([GOOD.replace("tempo+", "tempo")], "line 2: 'tempo' suggests nothing"),
        ([GOOD.replace("mode-", "tempo-")], "line 2: 'tempo-' suggests nothing"),
        ([GOOD.replace(" | 丙", "")], "line 2: give a name and at least two phrases"),
        ([GOOD.replace("a c", " ")], "line 2: give a name and at least two phrases"),
        ([GOOD.replace("train", "dev")], "line 2: there is no split 'dev'; choose train, validation, test"),
        ([GOOD.replace("why not", "")], "line 2: reason is empty"),
        ([GOOD.rpartition("\t")[0]], "line 2: reason is empty"),
        ([GOOD, GOOD], "the image 'a' is there twice"),
        ([GOOD, GOOD.replace("a\tsky\tf\ttrain", "b\tsky\tf\ttest")], "the family 'f' is in two splits"),
    ],
)
def test_a_bad_table_is_named_with_its_line(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_text("\n".join(["\t".join(COLUMNS), *lines]) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_lexicon(path)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can not be read"):
        load_lexicon(tmp_path / "nothing.tsv")
    wrong = tmp_path / "wrong.tsv"
    wrong.write_text("name\twords\n", encoding="utf-8")
    with pytest.raises(InputError, match="the first line must name the columns id, category"):
        load_lexicon(wrong)
    binary = tmp_path / "binary.tsv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="can not be read as a table"):
        load_lexicon(binary)


SIGNS = "a | b\t甲 | 乙\t++-0+-0"


@pytest.mark.parametrize(
    "line", [SIGNS[:-1], SIGNS + "+", SIGNS.replace("0", "1"), "a | \t甲\t+++++++", "a\t+++++++", ""]
)
def test_a_bad_line_of_sides_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "sides.tsv"
    path.write_text(f"english\tchinese\tsides\n{SIGNS}\n", encoding="utf-8")
    (image,) = load_sides(path)
    assert (image.english, image.chinese) == (("a", "b"), ("甲", "乙"))
    assert image.sides == {"tempo": 1, "density": 1, "register": -1, "sustain": 1, "leaps": -1}
    bad = tmp_path / "bad.tsv"
    bad.write_text(f"english\tchinese\tsides\n{SIGNS}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 3: write english, chinese and 7 signs"):
        load_sides(bad)


def test_what_is_no_table_of_sides_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.tsv"
    empty.write_text("", encoding="utf-8")
    for path in (tmp_path / "nothing.tsv", empty):
        with pytest.raises(InputError, match="can not be read"):
            load_sides(path)
    with pytest.raises(InputError, match="must name the columns english, chinese, sides"):
        load_sides(LEXICON)
