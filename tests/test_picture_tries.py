"""Of several songs for a picture in words the one is kept that has most of what the bridge hears in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from intermezzo.composing import ComposeSettings, compose
from intermezzo.composing_parts import Composer
from intermezzo.modeling.text_wishes import WISHES, pictured_sides
from intermezzo.processing.errors import InputError
from intermezzo.processing.music_tries import FURTHER, Tries, best_of
from intermezzo.processing.music_wishes import QUARTILES, side_strength, sides_agreement
from intermezzo.train.evaluation_composers import BridgeComposer
from intermezzo.train.evaluation_songs import MusicWriter, check_song

from .test_composing import composer  # noqa: F401
from .test_evaluation_summary_bridge import BARS, WRITING, bridge, hear, music
from .test_text_wishes import make, texts

torch.set_num_threads(1)
HIGH = {"register": 1.0, "density": -0.5}
HIGH_ONLY = {"register": 1.0}


def test_more_of_what_is_suggested_is_worth_more() -> None:
    low, middle, high = QUARTILES["register"]
    values = {"register": high, "tempo": 150.0, "mode": "minor", "density": None}
    assert sides_agreement({"register": 1.0}, values) == pytest.approx(1.01)
    assert sides_agreement({"register": -1.0}, values) == pytest.approx(-0.01)
    assert sides_agreement({"register": 0.5, "tempo": 1.0, "mode": -1.0, "density": 1.0}, values) == pytest.approx(
        2.525
    )
    assert sides_agreement({"leaps": 0.0}, values) == sides_agreement({}, values) == 0
    assert sides_agreement({"register": 1.0}, None) == sides_agreement({"register": 1.0}, {}) == 0
    near, far = {"register": middle + 0.1 * (high - middle)}, {"register": high}
    assert sides_agreement({"register": 1}, far) > sides_agreement({"register": 1}, near) > 1
    assert sides_agreement({"register": 1}, {"register": low}) < sides_agreement({"register": 1}, {"register": middle})


def test_sides_of_pictures_are_those_that_plans_are_moved_to() -> None:
    model, words = make(), texts(3)
    assert not pictured_sides(make(wish_size=0), **words).any() and not pictured_sides(model, **words).any()
    model.wishes.gate[-1] = 1.0  # all is a picture
    model.wishes.pictures.centres.normal_(), model.wishes.pictures.suggests.normal_(std=30.0)
    found = pictured_sides(model, **words)
    heard = model.wishes.hear(model.text_triple(*words.values()), model.statistics)
    assert found.shape == (3, len(WISHES)) and found.any() and torch.equal(found, heard.pictured)
    known = torch.zeros(3, len(WISHES))
    known[1, 2] = -1.0
    told = pictured_sides(model, **words, sides=known)
    assert told[1, 2] == -1 and torch.equal(told[[0, 2]], found[[0, 2]])


def pictured(monkeypatch: pytest.MonkeyPatch, sides: dict[str, float]) -> None:
    monkeypatch.setattr(Composer, "pictured", lambda self, triple, known=None: sides)


def test_the_song_that_is_kept_is_the_best_of_its_tries(
    composer: Composer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictured(monkeypatch, HIGH)
    kept = [compose("x", bars=2, num_samples=3, tries=n, composer=composer, seed=4)[0].songs for n in (1, 5)]
    assert [song.name for song in kept[1]] == ["x-1", "x-2", "x-3"]
    few, many = ([sides_agreement(HIGH, song.values) for song in songs] for songs in kept)
    assert sum(many) > sum(few)
    again = compose("x", bars=2, num_samples=3, tries=5, composer=composer, seed=4)[0].songs
    assert all(np.array_equal(a.ids, b.ids) for a, b in zip(kept[1], again, strict=True))


def test_plain_words_are_composed_to_once(
    composer: Composer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictured(monkeypatch, {})
    one, five = (compose("x", bars=2, tries=n, composer=composer)[0].songs[0].ids for n in (1, 5))
    assert np.array_equal(one, five)


@pytest.mark.parametrize("tries", [0, -1, 21])
def test_tries_that_can_not_be_are_refused(tries: int) -> None:
    with pytest.raises(InputError, match=r"tries is .* it must be 1 to 20"):
        ComposeSettings(tries=tries)


def test_an_evaluated_composer_tries_again_where_a_picture_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def sides(model: Any, text_pooled: torch.Tensor, **rest: Any) -> torch.Tensor:
        found = torch.zeros(len(text_pooled), len(WISHES))
        found[::2, WISHES.index("register")] = 1.0  # of every second text
        return found

    monkeypatch.setattr("intermezzo.train.evaluation_composers.pictured_sides", sides)
    once, often = (BridgeComposer(bridge(), hear, MusicWriter(music(), WRITING), tries=n) for n in (1, 6))
    words = [f"text {k}" for k in range(6)]
    first, best = once.compose(words, 3), often.compose(words, 3)
    assert all(np.array_equal(first[k], best[k]) for k in (1, 3, 5))
    heights = [
        [side_strength("register", check_song(ids, BARS).values.get("register")) or 0.0 for ids in songs[::2]]
        for songs in (first, best)
    ]
    assert all(b >= a for a, b in zip(*heights, strict=True)) and sum(heights[1]) > sum(heights[0])
    assert all(np.array_equal(a, b) for a, b in zip(best, often.compose(words, 3), strict=True))
    assert often.picture_seconds(["text 0"], 1).value > 0


def test_tries_end_when_nothing_is_missed_and_go_farther_where_something_is() -> None:
    low, _, high = QUARTILES["register"]
    asked: list[tuple[list[int], int, Any, Any]] = []
    songs = {
        0: [{"register": high}],
        1: [{"register": low}, {}, {"register": high}],
        2: [None],
        3: [{"register": low}] * 4,
    }
    written: dict[int, int] = {}

    def write(rows: list[int], number: int, wanted: Any, lean: Any) -> list[tuple[str, Any]]:
        asked.append((rows, number, wanted, lean))
        found = []
        for row in rows:
            count = written[row] = written.get(row, -1) + 1
            found.append((f"song {row}-{count}", songs[row][count]))
        return found

    kept = best_of([HIGH_ONLY, HIGH_ONLY, {}, HIGH_ONLY], write, 4)
    assert kept == ["song 0-0", "song 1-2", "song 2-0", "song 3-0"]
    assert [rows for rows, *_ in asked] == [[0, 1, 2, 3], [1, 3], [1, 3], [3]]
    assert asked[0][2:] == (None, None)
    place = WISHES.index("register")
    assert [wanted[0][place] for _, _, wanted, _ in asked[1:]] == pytest.approx(
        [1 + FURTHER, 1 + 2 * FURTHER, 1 + 3 * FURTHER]
    )
    assert [lean[0][place] for *_, lean in asked[1:]] == [1, 2, 3]
    assert all(sum(map(abs, row)) == abs(row[place]) for *_, lean in asked[1:] for row in lean)
    assert best_of([], write, 4) == []


def test_a_side_that_is_kept_is_not_pushed() -> None:
    one = Tries({"register": -0.5, "mode": 1.0, "leaps": 0.0})
    assert one.take("first", {"register": 40.0, "mode": "minor", "leaps": 0.1})
    assert dict(zip(WISHES, one.lean(), strict=True)) == {**dict.fromkeys(WISHES, 0.0), "mode": 1.0}
    wanted = dict(zip(WISHES, one.wanted(), strict=True))
    assert wanted["register"] == -0.5 and wanted["mode"] == 1 + FURTHER and not wanted["leaps"]
    assert not one.take("second", {"register": 40.0, "mode": "major"}) and one.best == "second"


def test_a_tempo_that_was_chosen_is_not_tried_for(
    composer: Composer,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pictured(monkeypatch, {"tempo": 1.0})
    chosen: dict[str, Any] = {"bars": 2, "composer": composer, "tempo": 50.0}
    (result,) = compose("x", tries=4, **chosen)
    assert not any("heard as" in note for note in result.notes)
    pictured(monkeypatch, {"tempo": 1.0})
    (once,) = compose("x", tries=1, **chosen)
    assert np.array_equal(result.songs[0].ids, once.songs[0].ids)


def test_what_is_heard_is_told(composer: Composer, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    pictured(monkeypatch, {"register": 1.0, "tempo": -0.4, "mode": -0.7})
    (result,) = compose("x", bars=2, composer=composer)
    assert "heard as a picture: high, minor, slow" in result.notes
    pictured(monkeypatch, {})
    assert not any("heard as" in note for note in compose("x", bars=2, composer=composer)[0].notes)
