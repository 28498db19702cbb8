"""Captions state only what is true, use every wording, come back alike, and keep images to their splits."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset

from intermezzo.datasets_scripts import build_captions, caption_words
from intermezzo.datasets_scripts.build_captions import build, captions_of, images_by_split, main, quartiles
from intermezzo.datasets_scripts.caption_words import (
    LANGUAGES,
    Caption,
    Teller,
    key_name,
    load_wordings,
    sayable,
    statements,
)
from intermezzo.datasets_scripts.imagery import load_lexicon
from intermezzo.processing.errors import InputError
from intermezzo.processing.music_attributes import ATTRIBUTES, KEY_NAMES, METRES, MODES
from intermezzo.processing.music_wishes import QUARTILES, SIDED, fulfilled, sides_kept

IMAGES = images_by_split()
BY_ID = {image.id: image for image in load_lexicon()}


def some_values(rng: random.Random) -> dict[str, Any]:
    """A measurement from anywhere; some things were not measured."""
    values: dict[str, Any] = {}
    for name, (low, median, high) in QUARTILES.items():
        values[name] = None if rng.random() < 0.05 else max(0.0, rng.gauss(median, (high - low) * 1.2))
    values |= {"tempo": rng.uniform(40, 200), "key": rng.choice(KEY_NAMES), "mode": rng.choice(MODES)}
    values |= {"key_fit": rng.uniform(0.6, 1.0), "metre": rng.choice((*METRES[:-1], "9/8"))}
    values |= {
        "bars": rng.randint(2, 64),
        "seconds": rng.uniform(15, 120),
        "programs": rng.sample(["piano", "strings"], 1),
    }
    return values


def windows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [some_values(rng) for _ in range(count)]


# --- Truth ------------------------------------------------------------------------------------------------------------


def test_a_caption_states_only_what_is_true() -> None:
    kinds: Counter[tuple[str, str]] = Counter()
    for number, values in enumerate(windows(120)):
        for caption in captions_of(values, IMAGES["train"], name=str(number)):
            assert all(fulfilled(caption.stated, values).values()), (caption, values)
            assert all(sides_kept(caption.sides, values).values()), (caption, values)
            assert caption.stated or caption.sides
            assert not ({"key", "mode"} & {*caption.stated, *caption.sides} and values["key_fit"] < 0.7)
            assert not {name for name in caption.sides if name in caption.stated}
            kinds[caption.language, caption.kind] += 1
    for language in LANGUAGES:
        for kind, count in build_captions.COUNTS.items():
            assert kinds[language, kind] > 90 * count * (0.75 if kind in ("imagery", "mixed") else 1), (kind, kinds)


def test_a_caption_says_what_it_states() -> None:
    """The other way round: the words of every class are in the text when the class is stated, and in no other text."""
    pairs = {
        "en": {"density": ("few notes", "many notes"), "mode": ("major", "minor"), "tempo": ("slow", "fast")},
        "zh": {"density": ("稀疏", "密集"), "mode": ("大调", "小调"), "register": ("音区低", "音区高")},
    }
    seen: Counter[tuple[str, str, int]] = Counter()
    for number, values in enumerate(windows(150, seed=1)):
        for language in LANGUAGES:
            caption = Teller(language, values).template(random.Random(number))
            assert caption is not None
            for name, words in pairs[language].items():
                for side, word in enumerate(words):
                    if word not in caption.text.replace("moderately fast", "").replace("neither fast nor slow", ""):
                        continue
                    low, high = caption.stated[name]
                    last = len(ATTRIBUTES[name].classes) - 1
                    assert (high <= last // 2) if side == 0 else (low >= (last + 1) // 2), (name, word, caption)
                    seen[language, name, side] += 1
    assert len(seen) == 12, seen


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_class_can_be_said_and_wordings_cover_exactly_the_classes(language: str) -> None:
    words = load_wordings()[language]["attributes"]
    for name, attribute in ATTRIBUTES.items():
        covered = {k for entry in words[name] for k in range(entry["bins"][0], entry["bins"][1] + 1)}
        assert covered == set(range(len(attribute.classes))), name
    for name, entries in words.items():
        for entry in entries:
            needed = ("mod", "tag", "wish") if language == "zh" else ("with", "clause", "wish", "tag")
            assert all(entry[form] for form in needed), (name, entry["bins"])
            for phrase in [p for form in entry if form != "bins" for p in entry[form]]:
                assert ("{" in phrase) == (name in ("key", "bpm", "bars", "seconds", "programs")), phrase


def test_loudness_without_marks_and_doubtful_keys_are_not_spoken_of() -> None:
    values = {**windows(1)[0], "dynamics": 78.5, "key_fit": 0.69, "metre": "7/8"}
    said = sayable(values)
    assert said["dynamics"] is said["key"] is said["mode"] is None and said["metre"] == "other"
    assert sayable({**values, "dynamics": 78.6, "key_fit": 0.7})["dynamics"] == 78.6
    names = {s.name for language in LANGUAGES for s in statements(language, said)}
    assert not names & {"dynamics", "key", "mode"} and "tempo" in names


def test_nothing_measured_is_nothing_said() -> None:
    assert captions_of({}, IMAGES["train"]) == []
    silent = Teller("en", {})
    assert silent.plain(random.Random(0)) is silent.template(random.Random(0)) is silent.terms(random.Random(0)) is None


# --- Wordings ---------------------------------------------------------------------------------------------------------


def captions_of_all(count: int, **counts: int) -> list[Caption]:
    return [
        caption
        for number, values in enumerate(windows(count, seed=2))
        for caption in captions_of(values, IMAGES["train"], counts, name=str(number))
    ]


def test_there_are_sixty_wordings_and_every_one_is_used() -> None:
    captions = captions_of_all(150, template=4, imagery=2, mixed=1)
    for language in LANGUAGES:
        words = load_wordings()[language]
        assert len(set(words["frames"])) >= 60
        used = {(c.kind, c.frame) for c in captions if c.language == language}
        assert {frame for kind, frame in used if kind == "template"} == set(words["frames"])
        assert {frame for kind, frame in used if kind == "mixed"} == set(words["mixed"])
        imagery = {*words["imagery"]["name"], *words["imagery"]["phrase"]}
        assert {frame for kind, frame in used if kind == "imagery"} == imagery


def test_every_term_is_used_and_asks_for_classes_that_exist() -> None:
    for language in LANGUAGES:
        terms = load_wordings()[language]["terms"]
        for term in [*terms["head"], *terms["tail"]]:
            for name, (low, high) in term["states"].items():
                assert 0 <= low <= high < len(ATTRIBUTES[name].classes), term
        texts = [
            caption.text
            for number, values in enumerate(windows(1500, seed=3))
            if (caption := Teller(language, values).terms(random.Random(number)))
        ]
        joined = "\n".join(texts)
        unused = [term["text"] for term in [*terms["head"], *terms["tail"]] if term["text"] not in joined]
        assert unused == [], unused


def test_captions_are_clean_sentences() -> None:
    for caption in captions_of_all(100, plain=1, template=3, terms=1, imagery=1, mixed=1):
        text = caption.text
        assert text == text.strip() and "{" not in text and "  " not in text and len(text) < 500, text
        assert not re.search(r"[,，、;；:：]$|,,|\.\.|。。|，，|、、| ,| \.", text), text
        if caption.language == "en":
            assert not re.search(r"[\u3000-\u9fff\uff00-\uffef]", text), text
            assert not re.search(r"\b[Aa] [aeiou](?!ne)|\b[Aa]n [^aeiouAEIOU]", text.replace("a one", "")), text
        else:
            assert re.search(r"[\u4e00-\u9fff]", text) and not re.search(r"[a-z]|[H-Z]|[,.;:!?] ", text), text


def test_sharp_and_flat_keys_are_spelt_as_people_read_them() -> None:
    assert key_name("en", "Eb", "major") == "E-flat major" and key_name("zh", "Eb", "major") == "降E大调"
    assert key_name("en", "C#", "major") == "D-flat major" and key_name("zh", "C#", "minor") == "升C小调"
    for language in LANGUAGES:
        assert len({key_name(language, key, mode) for key in KEY_NAMES for mode in MODES}) == 24
    assert key_name("en", "F#", "minor") == "F-sharp minor" and key_name("zh", "F#", "minor") == "升F小调"


def test_plain_captions_are_one_simple_frame() -> None:
    for number, values in enumerate(windows(40, seed=4)):
        for language in LANGUAGES:
            caption = Teller(language, values).plain(random.Random(number))
            assert caption is not None and set(caption.stated) <= set(SIDED)
            assert 1 <= len(caption.stated) <= 4
            assert caption.text.startswith(("A ", "An ") if language == "en" else ("一首", "一部"))


# --- The data set -----------------------------------------------------------------------------------------------------


def make_source(folder: Path, split_of: dict[int, str] | None = None, count: int = 24) -> Path:
    """A small data set of measurements: pieces of three windows."""
    (folder / "data").mkdir(parents=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    for number, values in enumerate(windows(count, seed=5)):
        piece = number // 3
        split = (split_of or {}).get(number) or ("test", "validation", "train", "train")[piece % 4]
        row = {name: values[name] for name in (*QUARTILES, "key_fit", "metre", "key", "mode")}
        row |= {"piece_id": f"p/{piece}", "window": number % 3, "split": split, "num_steps": 256}
        rows.setdefault(split, []).append(row)
    for split, part in rows.items():
        Dataset.from_list(part).to_parquet(str(folder / "data" / f"{split}-00000.parquet"))
    (folder / "build.json").write_text(json.dumps({"steps_per_quarter": 4}), encoding="utf-8")
    return folder


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(out.glob("data/*.parquet")) for row in Dataset.from_parquet(str(path)).to_list()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("captions")
    source = make_source(folder / "source")
    build(source, folder / "out", progress=False)
    return source, folder / "out"


def test_splits_stay_apart(built: tuple[Path, Path]) -> None:
    rows = rows_of(built[1])
    pieces: dict[str, set[str]] = {}
    for row in rows:
        pieces.setdefault(row["piece_id"], set()).add(row["split"])
        assert not row["image"] or BY_ID[row["image"]].split == row["split"]
    assert len(pieces) == 8 and all(len(splits) == 1 for splits in pieces.values())
    families = {s: {BY_ID[r["image"]].family for r in rows if r["image"] and r["split"] == s} for s in IMAGES}
    assert all(families.values()) and not families["test"] & families["train"]


def test_rows_carry_what_they_state(built: tuple[Path, Path]) -> None:
    measured = {(row["piece_id"], row["window"]): row for row in rows_of(built[0])}
    rows = rows_of(built[1])
    assert {(row["piece_id"], row["window"]) for row in rows} == set(measured)
    for row in rows:
        values = dict(measured[row["piece_id"], row["window"]])
        values["seconds"] = 64 * 60 / values["tempo"]
        assert all(fulfilled(json.loads(row["stated"]), values).values()), row
        sides = json.loads(row["sides"])
        assert sides == (dict(BY_ID[row["image"]].sides) if row["image"] else {})
        assert all(sides_kept(sides, values).values())
    assert len({(r["piece_id"], r["window"], r["text"]) for r in rows}) == len(rows)
    loaded = load_dataset("parquet", data_dir=str(built[1] / "data"), cache_dir=str(built[1] / "cache"))
    assert {name: part.num_rows for name, part in loaded.items()} == Counter(row["split"] for row in rows)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(built: tuple[Path, Path], tmp_path: Path) -> None:
    build(built[0], tmp_path / "again", progress=False)
    assert rows_of(tmp_path / "again") == rows_of(built[1])
    build(built[0], tmp_path / "other", seed=1, progress=False)
    first, other = ([row["text"] for row in rows_of(out)] for out in (built[1], tmp_path / "other"))
    assert len(set(first) & set(other)) < len(first) / 3


def test_an_interrupted_build_goes_on(
    built: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real, calls = tmp_path / "out", build_captions._write_shard, []

    def stop_at_second(path: Path, rows: Any, about: Any) -> None:
        calls.append(path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(path, rows, about)

    monkeypatch.setattr(build_captions, "_write_shard", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        build(built[0], out, progress=False)
    assert len(list(out.glob("data/*.parquet"))) == 1
    calls.append("")
    report = build(built[0], out, progress=False)
    assert calls[0] not in calls[1:] and rows_of(out) == rows_of(built[1])
    assert report["rows"] == Counter(row["split"] for row in rows_of(out))


def test_a_folder_holds_one_data_set(built: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="was built with other seed"):
        build(built[0], built[1], seed=9, progress=False)
    monkeypatch.setattr(caption_words, "WORDINGS", built[0] / "build.json")
    monkeypatch.setattr(build_captions, "WORDINGS", built[0] / "build.json")
    with pytest.raises(InputError, match="was built with other words"):
        build(built[0], built[1], progress=False)


def test_a_piece_in_two_splits_is_refused(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", {0: "train"})
    with pytest.raises(InputError, match=r"the piece 'p/0' is in \w+ and in \w+; build it again"):
        build(source, tmp_path / "out", progress=False)


def test_what_can_not_be_read_is_listed_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_source(tmp_path / "source", count=12)
    (source / "data" / "broken.parquet").write_bytes(b"PAR1 not really")
    Dataset.from_dict({"piece_id": ["x"], "window": [0]}).to_parquet(str(source / "data" / "other.parquet"))
    assert main(["--source", str(source), "--out", str(tmp_path / "out"), "--quiet"]) == 1
    failures = (tmp_path / "out" / "failures.tsv").read_text(encoding="utf-8")
    assert "broken.parquet\tcan not be read as Parquet" in failures
    assert "other.parquet\thas no column split, tempo" in failures
    assert "failed: 2" in capsys.readouterr().out and len(rows_of(tmp_path / "out")) > 100


def test_silence_is_a_failure_with_its_name(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", count=3)
    path = source / "data" / "test-00000.parquet"
    rows = Dataset.from_parquet(str(path)).to_list()
    rows[1] |= dict.fromkeys((*QUARTILES, "key_fit", "metre", "key", "mode"))
    Dataset.from_list(rows).to_parquet(str(path))
    report = build(source, tmp_path / "out", progress=False)
    assert report["failures"] == 1
    assert "p/0, window 1\tnothing can be said of it" in (tmp_path / "out/failures.tsv").read_text(encoding="utf-8")


def test_the_card_counts_rows(built: tuple[Path, Path]) -> None:
    card = (built[1] / "README.md").read_text(encoding="utf-8")
    rows = Counter(row["split"] for row in rows_of(built[1]))
    for split, count in rows.items():
        assert re.search(rf"^\| {split} \| \d+ \| {count} \|", card, flags=re.MULTILINE)


NO_CAPTIONS = "--plain 0 --template 0 --terms 0 --imagery 0 --mixed 0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "{}/nowhere", "--out", "{}/out"], "nowhere: holds no Parquet files"),
        (["--source", "{}/source", "--out", "{}/out", "--plain", "-1"], "0 or more of each and one at least"),
        (["--source", "{}/source", "--out", "{}/out", *NO_CAPTIONS.split()], "0 or more of each and one at least"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_source(tmp_path / "source", count=3)
    assert main([argument.replace("{}", str(tmp_path)) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_quartiles_are_those_of_the_training_windows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_source(tmp_path / "source")
    found = quartiles(source)
    tempos = sorted(row["tempo"] for row in rows_of(source) if row["split"] == "train")
    assert found["tempo"][1] == pytest.approx((tempos[5] + tempos[6]) / 2, rel=1e-3) and len(tempos) == 12
    assert main(["--source", str(source), "--quartiles"]) == 0
    assert json.loads(capsys.readouterr().out)["tempo"] == list(found["tempo"])
