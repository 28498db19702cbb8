"""From dense evidence back to text: nothing is lost, one mistake is repaired, noise still closes."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from intermezzo.datasets_scripts.guitar_parts import iter_system_jobs
from intermezzo.processing.alphatex_fitting import fillable
from intermezzo.processing.alphatex_grammar import Beat, bars_close, read_alphatex, write_alphatex
from intermezzo.processing.bar_filling import TICKS, fill_bar
from intermezzo.processing.dense_labels import build_label_space
from intermezzo.processing.dense_peaks import gather_neighbours, peaks
from intermezzo.processing.dense_reading import (
    BeatReading,
    DenseReader,
    close_bar,
    rests_for,
)

from .dense_truth import perfect_logits, truth

HEAD = "\\staff {tabs}\n"


@pytest.fixture(scope="module")
def systems() -> list:
    return [(job[0], read_alphatex(job[0])) for job in iter_system_jobs(1, 200, "train")]


@pytest.fixture(scope="module")
def space(systems: list) -> dict[str, list[str]]:
    return build_label_space(score for _, score in systems)


def read(text: str, space: dict[str, list[str]], spoil=None, **options):
    """Reads the perfect logits of a text, after `spoil(logits, labels)`."""
    score = read_alphatex(text)
    labels, width = truth(score, space)
    logits = perfect_logits(labels, width, space)
    if spoil:
        spoil(logits, labels)
    staff = score.staves[0]
    return DenseReader(space, staff.show, staff.strings, **options).read(logits, width)


def test_perfect_evidence_gives_the_text_back(systems: list, space: dict[str, list[str]]) -> None:
    wrong = [text for text, _ in systems if write_alphatex(read(text, space).score) != text]
    assert not wrong, f"{len(wrong)} of {len(systems)}, the first:\n{wrong[0]}"


def test_perfect_evidence_is_sure(space: dict[str, list[str]]) -> None:
    reading = read(HEAD + "3.3.4 3.3.4 (3.3 2.1).2 |\nr.2 5.6.2 |\n", space)
    assert all(chance > 0.99 for chance in reading.bar_confidence) and len(reading.bar_confidence) == 2
    assert set(reading.beats) == {(0, 0, 0), (0, 0, 1), (0, 0, 2), (1, 0, 0), (1, 0, 1)}
    assert all(chance > 0.99 for beat in reading.beats.values() for chance in beat.confidence.values())


FOUR = HEAD + "3.3.4 1.2.8 0.1.8 3.3.4 5.4.4 |\n"


def flip(field: str, beat: int, to: int, size: float):
    """Makes the head of one beat prefer another class by `size` logits."""

    def spoil(logits, labels) -> None:
        slot = int(labels.beats[beat, 1] // 4)
        logits[field][0, slot] = 0
        logits[field][0, slot, to] = size
        logits[field][0, slot, int(labels.beats[beat, {"durations": 3, "dots": 4, "tuplets": 5}[field]])] = size - 2

    return spoil


@pytest.mark.parametrize(
    ("field", "beat", "to"), [("durations", 1, 2), ("durations", 0, 3), ("dots", 3, 1), ("durations", 4, 4)]
)
def test_one_misread_length_is_repaired_by_the_sum_of_the_bar(field, beat, to, space) -> None:
    reading = read(FOUR, space, flip(field, beat, to, 4.0))
    assert write_alphatex(reading.score) == FOUR
    assert reading.bar_confidence[0] < 0.5  # and the bar is marked as one to look at


def test_a_beat_that_is_not_there_and_one_overlooked_are_repaired(space) -> None:
    def add(logits, labels) -> None:
        slot = int(labels.beats[2, 1] // 4) + 2
        logits["beats"][0, slot] = [0, 1, -9]  # a little more likely than not
        logits["durations"][0, slot, 2] = 20

    def hide(logits, labels) -> None:
        logits["beats"][0, int(labels.beats[2, 1] // 4)] = [2, 0, -9]

    for spoil in (add, hide):
        assert write_alphatex(read(FOUR, space, spoil).score) == FOUR


def test_a_short_first_bar_is_a_pick_up_and_a_later_one_is_not(space) -> None:
    text = HEAD + "\\ac 3.3.4 |\n3.3.4 3.3.4 3.3.4 3.3.4 |\n"
    assert write_alphatex(read(text, space).score) == text

    def hide(logits, labels) -> None:
        logits["beats"][0, int(labels.beats[-1, 1] // 4)] = [20, 0, 0]

    reading = read(HEAD + "3.3.4 3.3.4 3.3.4 3.3.4 |\n3.3.4 3.3.4 3.3.4 3.3.4 |\n", space, hide)
    assert bars_close(reading.score, first_may_be_short=False)
    assert reading.bar_confidence[1] == 0.0 and reading.score.staves[0].bars[1].voices[0][-1].is_rest


def test_a_first_bar_that_lacks_a_little_is_no_pick_up(space) -> None:
    text = HEAD + "3.3.4 1.2.8{d} 0.1.16 3.3.4 5.4.4 |\n"

    def blot(logits, labels) -> None:
        logits["dots"][0, int(labels.beats[1, 1] // 4), :2] = [9, 0]  # the dot is hardly seen

    assert write_alphatex(read(text, space, blot).score) == text


def test_a_tie_comes_from_the_system_before(space) -> None:
    def look(text: str, earlier: DenseReader | None) -> tuple[DenseReader, str]:
        score = read_alphatex(text)
        labels, width = truth(score, space)
        reader = DenseReader(space, metre=(4, 4), earlier=earlier)
        return reader, write_alphatex(reader.read(perfect_logits(labels, width, space), width).score)

    first = "\\staff {tabs}\n\\ts (4 4) 3.3.2 (5.2 7.4).2 |\n"
    second = "\\staff {tabs}\n(5.2{t} 7.4{t}).4 3.3.4 r.2 |\n"
    reader, text = look(first, None)
    assert text == first
    assert look(second, reader)[1] == second
    assert look(second, None)[1] == second.replace("5.2", "0.2").replace("7.4", "0.4")  # nobody knows the frets
    short = "\\staff {tabs}\n3.3.4 |\n"
    assert "\\ac" in look(short, None)[1] and "\\ac" not in look(short, reader)[1]  # a page has one beginning


def test_the_metre_in_force_is_taken_from_before(space) -> None:
    text = HEAD + "3.3.4 3.3.4 3.3.4 |\n"
    logits_like = HEAD + "\\ts (3 4) 3.3.4 3.3.4 3.3.4 |\n"
    no_metre = {**space, "bar_starts": [key for key in space["bar_starts"] if not key.startswith("ts")]}
    assert write_alphatex(read(logits_like, no_metre, metre=(3, 4)).score) == text


def test_heads_that_lie_one_slot_aside_belong_to_their_beat(space) -> None:
    def aside(logits, labels) -> None:
        slot = int(labels.beats[0, 1] // 4)
        for name in ("frets", "string_voice", "note_effects"):
            logits[name][:, slot + 1] = logits[name][:, slot]
        logits["frets"][:, slot] = np.eye(logits["frets"].shape[-1])[0] * 20

    assert write_alphatex(read(FOUR, space, aside).score) == FOUR


@pytest.mark.parametrize("scale", [0.1, 1.0, 6.0])
def test_noise_ends_closes_and_reads(scale: float, space: dict[str, list[str]]) -> None:
    """An untrained tower sees beats everywhere; what is made of that still is alphaTex with full bars."""
    labels, _ = truth(read_alphatex(FOUR), space)
    shapes = {name: value.shape for name, value in perfect_logits(labels, 1600, space).items()}
    for seed in range(6):
        draw = np.random.default_rng(seed)
        logits = {name: draw.normal(0, scale, shape) for name, shape in shapes.items()}
        strings = (6, 4, 5, 7)[seed % 4]
        reading = DenseReader(space, ("tabs",), strings).read(logits, 1600)
        assert bars_close(reading.score, empty_bars=False)
        text = write_alphatex(reading.score)
        again = read_alphatex(text)
        assert bars_close(again) and write_alphatex(again) == text
        assert len(reading.bar_confidence) == len(reading.score.staves[0].bars)
        assert all(0 <= chance <= 1 for chance in reading.bar_confidence)
    blank = {name: np.full(shape, -20.0) for name, shape in shapes.items()}
    for name in ("frets", "beats"):
        blank[name][..., 0] = 20
    assert bars_close(DenseReader(space).read(blank, 1600).score, first_may_be_short=False)


def test_close_bar_always_closes() -> None:
    chance = random.Random(0)
    metres = [(4, 4), (3, 4), (6, 8), (5, 8), (7, 16), (12, 8), (2, 2), (1, 4)]
    for _ in range(400):
        beats = [
            Beat(
                duration=2 ** chance.randrange(7),
                dots=chance.choice((0, 0, 1, 2)),
                tuplet=chance.choice((None, None, (3, 2), (5, 4), (7, 4))),
                grace=chance.choice((None, None, None, "bb")),
            )
            for _ in range(chance.randrange(12))
        ]
        metre = chance.choice(metres)
        readings = [BeatReading(beat, i) for i, beat in enumerate(beats)]
        closed = close_bar(list(readings), TICKS * metre[0] // metre[1])
        assert sum((r.beat.length for r in closed), Fraction(0)) == Fraction(*metre)
        kept = [r for r in closed if any(r is old for old in readings)]
        assert kept == readings[: len(kept)]  # what is kept is the beginning, in order


def test_rests_make_every_length_that_64ths_can() -> None:
    for n in range(1, 200):
        assert sum(beat.length for beat in rests_for(Fraction(n, 64)) or []) == Fraction(n, 64)
    assert rests_for(Fraction(0)) == [] and rests_for(Fraction(1, 12)) is None


#: Length in ticks of the choices (duration exponent, dots, tuplet, grace); 0 is a grace note.
LENGTHS = {
    0: (3, 0, 0, 1), 1680: (4, 0, 0, 0), 3360: (3, 0, 0, 0),
    1120: (4, 0, 1, 0), 2240: (3, 0, 1, 0), 1344: (4, 0, 2, 0),
}  # fmt: skip


def may_be_written(lengths: list[int], capacity: int, full: bool) -> bool:
    """The rules of `fill_bar`, said once more: sums, tuplets that are complete, grace notes with a beat behind them."""
    total = 0
    for length in lengths:
        parts = Fraction(total, TICKS).denominator
        if parts % 3 == 0 and length not in (0, 1120, 2240):
            return False
        if parts % 5 == 0 and length not in (0, 1344):
            return False
        total += length
        if not fillable(Fraction(capacity - total, TICKS)):
            return False
    whole = total == capacity if full else Fraction(total, TICKS).denominator in (1, 2, 4, 8, 16, 32)
    return whole and (not lengths or lengths[-1] != 0)


def brute_force(options: list[dict], absent: list[float], capacity: int | None, full: bool) -> float:
    best = -np.inf
    for choice in itertools.product(*([None, *lengths] for lengths in options)):
        if capacity is not None and not may_be_written([n for n in choice if n is not None], capacity, full):
            continue
        score = sum(
            np.log(max(gone, 1e-4)) if length is None else lengths[length][0]
            for length, lengths, gone in zip(choice, options, absent, strict=True)
        )
        best = max(best, score)
    return best


def test_the_fullest_choice_is_found_as_by_trying_all() -> None:
    chance = random.Random(1)
    found = 0
    for _ in range(150):
        options = [
            {length: (-chance.random() * 5, LENGTHS[length]) for length in chance.sample(sorted(LENGTHS), 3)}
            for _ in range(chance.randrange(1, 6))
        ]
        absent = [chance.random() for _ in options]
        for capacity, full in ((None, True), (3360, True), (6720, True), (6720, False)):
            path, score, total = fill_bar(options, absent, capacity, full)
            wanted = brute_force(options, absent, capacity, full)
            if path is None:
                assert wanted == -np.inf
                continue
            found += capacity is not None
            assert score == pytest.approx(wanted)
            lengths = [length for _, choice in path for length, same in LENGTHS.items() if choice == same]
            assert total == sum(lengths) and (capacity is None or may_be_written(lengths, capacity, full))
            assert [i for i, _ in path] == sorted({i for i, _ in path})
    assert found > 150


def test_a_tuplet_is_read_whole_though_its_first_note_looks_like_another() -> None:
    third, fifth, plain = (4, 0, 1, 0), (4, 0, 2, 0), (4, 0, 0, 0)
    options = [{1120: (-0.1, third), 1344: (-2.0, fifth), 1680: (-3.0, plain)}, *[{1344: (-0.1, fifth)}] * 4]
    options += [{1680: (-0.1, plain), 1344: (-3.0, fifth)}] * 4
    path, _, total = fill_bar(options, [1e-6] * 9, 13_440)
    assert path is not None and total == 13_440
    assert [choice for _, choice in path] == [fifth] * 5 + [plain] * 4


def test_peaks_and_their_neighbours() -> None:
    p = np.array([0.0, 0.3, 0.6, 0.2, 0.0, 0.95, 0.9, 0.0, 0.1])
    assert peaks(p, 0.15) == [2, 5, 6]  # two sure neighbours are two things
    assert peaks(p, 0.15, reach=2) == [2, 5]
    assert peaks(np.zeros(4), 0.1) == []
    found = gather_neighbours(p, [2, 5, 6])
    assert found == pytest.approx([1.0, 0.95, 0.9])
    assert gather_neighbours(p, []).shape == (0,)
    assert gather_neighbours(np.stack([p, p]), [8]).shape == (2, 1)
