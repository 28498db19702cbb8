"""Bar-wise REMI tokens: nothing is lost on the grid, every bar stands for itself, MidiTok reads the same music."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import symusic

from intermezzo.processing import bar_midi_vocabulary as words
from intermezzo.processing.bar_midi_grammar import BarGrammar
from intermezzo.processing.bar_midi_vocabulary import BAR_ID, EOS_ID, MAX_DURATION_TICKS, token_names
from intermezzo.processing.errors import InputError
from intermezzo.processing.tokenization_bar_midi import bar_ids_of, decode, encode, scale_tempo, transpose

NAMES = token_names()
VELOCITIES = [int(name.partition("_")[2]) for name in NAMES if name.startswith("Velocity")]


def song(seed: int = 0, bars: int = 6, quarter: int = 480) -> Any:
    """Random music on the grid: two programs and drums, changes of metre and tempo, silent bars at both ends."""
    rng = np.random.default_rng(seed)
    score = symusic.Score(quarter)
    tick, place = quarter // 12, 0
    ends = [0]
    for bar in range(bars):
        count, unit = [(4, 4), (3, 4), (6, 8), (5, 8), (2, 2), (7, 16)][int(rng.integers(6))]
        if bar % 2 == 0:
            score.time_signatures.append(symusic.TimeSignature(place, count, unit))
            length = count * 4 * quarter // unit
        place += length
        ends.append(place)
    for at, tempo in ((0, 20 + seed), (ends[2], 133), (ends[3] + 5 * tick, 90), (ends[3] + 9 * tick, 260)):
        score.tempos.append(symusic.Tempo(at, tempo))
    for program, is_drum in ((0, False), (40, False), (0, True)):
        track = symusic.Track("", program, is_drum)
        last: dict[int, int] = {}
        for _ in range(30):
            pitch = int(rng.integers(27, 88) if is_drum else rng.integers(0, 128))
            start = int(rng.integers(ends[1] // tick, ends[-2] // tick)) * tick
            if start < last.get(pitch, 0):  # notes of one pitch do not overlap
                continue
            length = min(int(rng.integers(1, 40)) * tick, place - start)  # no note lasts longer than the last bar
            last[pitch] = start + length
            track.notes.append(symusic.Note(start, length, pitch, int(rng.choice(VELOCITIES))))
        score.tracks.append(track)
    score.markers.append(symusic.TextMeta(place, "end"))
    return score


def notes_of(score: Any) -> list[tuple[Any, ...]]:
    """Notes with their programs, in quarters."""
    q = score.ticks_per_quarter
    return sorted(
        (n.time / q, n.duration / q, n.pitch, n.velocity, -1 if t.is_drum else t.program)
        for t in score.tracks
        for n in t.notes
    )


def tempos_of(score: Any) -> list[tuple[float, int]]:
    found: list[tuple[float, int]] = []
    for mark in score.tempos:
        if not found or found[-1][1] != round(mark.qpm):
            found.append((mark.time / score.ticks_per_quarter, round(mark.qpm)))
    return found


def signs_of(score: Any) -> list[tuple[float, int, int]]:
    found: list[tuple[float, int, int]] = []
    for sign in score.time_signatures:
        if not found or found[-1][1:] != (sign.numerator, sign.denominator):
            found.append((sign.time / score.ticks_per_quarter, sign.numerator, sign.denominator))
    return found


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("quarter", [12, 480])
def test_nothing_is_lost_on_the_grid_through_tokens_and_through_a_file(seed: int, quarter: int, tmp_path: Any) -> None:
    score = song(seed, quarter=quarter)
    tokens = encode(score)
    back = decode(tokens.ids, strict=True)
    back.dump_midi(str(tmp_path / "x.mid"))
    read = symusic.Score(str(tmp_path / "x.mid"))
    for other in (back, read):
        assert notes_of(other) == notes_of(score) and len(notes_of(other)) > 30
        assert tempos_of(other) == tempos_of(score)
        assert signs_of(other) == signs_of(score)
        again = encode(other)
        assert np.array_equal(again.ids, tokens.ids)  # silent bars at the end, too
    assert tokens.num_bars == 6 and tokens.ids[-1] == EOS_ID
    assert np.array_equal(tokens.bar_ids, bar_ids_of(tokens.ids))


def test_every_bar_stands_for_itself() -> None:
    tokens = encode(song(3))
    starts = np.flatnonzero(tokens.ids == BAR_ID)
    whole = {(round(start * 12), *rest) for start, _, *rest in notes_of(decode(tokens.ids))}
    place, found = 0.0, set()  # without lengths, which end with the bar here
    for first, stop in zip(starts, [*starts[1:], len(tokens.ids)], strict=True):
        bar = decode(tokens.ids[first:stop], strict=True)
        assert [NAMES[i].partition("_")[0] for i in tokens.ids[first : first + 3]] == ["Bar", "TimeSig", "Tempo"]
        found |= {(round((start + place) * 12), *rest) for start, _, *rest in notes_of(bar)}
        sign = bar.time_signatures[0]
        place += sign.numerator * 4 / sign.denominator
    assert found == whole


@pytest.mark.parametrize("seed", range(4))
def test_the_grammar_allows_what_is_written_and_no_more(seed: int) -> None:
    import torch

    ids = encode(song(seed)).ids.tolist()
    grammar = BarGrammar(1)
    for index, word in enumerate(ids):
        allowed = grammar.allowed()[0]
        assert allowed[word], (index, NAMES[word])
        assert index == 0 or int(allowed.sum()) < 600
        grammar.advance(torch.tensor([word]))
    swapped = [k for k in range(len(ids) - 1) if ids[k] != ids[k + 1]]
    wrong = 0
    for k in swapped[:40]:  # neighbours that change places break the grammar somewhere
        text = [*ids[:k], ids[k + 1], ids[k], *ids[k + 2 : k + 4]]
        grammar, fine = BarGrammar.after(torch.tensor([ids[:k]])), True
        for word in text[k:]:
            fine &= bool(grammar.allowed()[0, word])
            grammar.advance(torch.tensor([word]))
        wrong += not fine
    assert wrong == len(swapped[:40])


def test_whatever_the_grammar_allows_is_music() -> None:
    from .tiny_museformer import random_text

    for seed in range(6):
        ids = random_text(4, seed, words=20).numpy()
        score = decode(ids, strict=True)
        notes = sum(NAMES[i].startswith("Duration") for i in ids)
        assert score.note_num() == notes
        again = encode(score, num_bars=4, snap=False, end_of_piece=False) if notes else None
        assert again is None or again.num_bars == 4


def test_miditok_reads_and_writes_the_same() -> None:
    """The oracle: MidiTok's REMI on what it can say too (metres in quarters, no silence at the end)."""
    miditok = pytest.importorskip("miditok")
    score = symusic.Score(12)
    score.time_signatures.append(symusic.TimeSignature(0, 3, 4))
    score.tempos.append(symusic.Tempo(0, 97))
    rng = np.random.default_rng(0)
    for program in (0, 24):
        track = symusic.Track("", program, False)
        for start in range(0, 144, 4):
            velocity = VELOCITIES[int(rng.integers(32))]
            track.notes.append(symusic.Note(start, int(rng.integers(1, 5)), int(rng.integers(30, 90)), velocity))
        score.tracks.append(track)
    config = miditok.TokenizerConfig(
        pitch_range=(0, 127), beat_res={(0, 16): 12}, num_velocities=32, use_programs=True, program_changes=False,
        one_token_stream_for_programs=True, use_tempos=True, tempo_range=(20, 260), num_tempos=241,
        use_time_signatures=True, time_signature_range={4: [3, 4]}, drums_pitch_range=(27, 88),
    )  # fmt: skip
    oracle = miditok.REMI(config)
    ids = encode(score).ids
    texts = [NAMES[i] for i in ids[:-1]]
    score_there = oracle._tokens_to_score(miditok.TokSequence(tokens=list(texts)))
    q = score_there.ticks_per_quarter
    theirs = sorted(
        (n.time / q, n.duration / q, n.pitch, n.velocity, t.program) for t in score_there.tracks for n in t.notes
    )
    assert theirs == notes_of(score) and len(theirs) == 72
    assert round(score_there.tempos[0].qpm) == 97
    # The other way: the same notes, positions and durations in the same order, velocities in its own classes.
    told = [t for t in oracle.encode(score).tokens if t.split("_")[0] in ("Bar", "Position", "Pitch", "Duration")]
    ours = [t for t in texts if t.split("_")[0] in ("Bar", "Position", "Pitch", "Duration")]
    assert [t for t in told if t != "Position_0"] == [t for t in ours if t != "Position_0"]
    known = set(oracle.vocab)
    unknown = {t for t in NAMES if t.split("_")[0] in ("Pitch", "Program", "Duration", "Tempo", "Bar", "PAD", "EOS")}
    assert unknown - {"Pitch_127"} <= known  # its ranges end before their last number


# --- What files are like ----------------------------------------------------------------------------------------------


def simple(notes: list[tuple[int, int, int]], quarter: int = 12, program: int = 0) -> Any:
    score = symusic.Score(quarter)
    track = symusic.Track("", program, False)
    for start, length, pitch in notes:
        track.notes.append(symusic.Note(start, length, pitch, 80))
    score.tracks.append(track)
    return score


def test_silent_bars_are_kept_at_both_ends_and_as_many_as_are_asked_for() -> None:
    score = simple([(96, 12, 60)])
    assert encode(score).num_bars == 3
    score.markers.append(symusic.TextMeta(48 * 7, "end"))
    tokens = encode(score)
    assert tokens.num_bars == 7 and encode(decode(tokens.ids)).num_bars == 7
    assert encode(score, num_bars=20).num_bars == 20 and encode(score, num_bars=3).num_bars == 3
    with pytest.raises(InputError, match="no notes in its first 2 bars"):
        encode(score, num_bars=2)
    assert encode(simple([(0, 180, 60)])).num_bars == 4  # bars that a long note fills


def test_bars_cut_short_and_bars_too_long_keep_their_time() -> None:
    score = simple([(k * 12, 12, 60 + k % 12) for k in range(60)])
    for at, count, unit in ((0, 4, 4), (12, 4, 4), (12 + 96, 31, 4)):  # a pick-up of a quarter; then 31 quarters
        score.time_signatures.append(symusic.TimeSignature(at, count, unit))
    tokens = encode(score)
    back = decode(tokens.ids, strict=True)
    assert notes_of(back) == notes_of(score)
    assert signs_of(back)[:3] == [(0.0, 1, 4), (1.0, 4, 4), (9.0, 12, 4)]
    assert (33.0, 7, 4) in signs_of(back)
    for count, unit in ((0, 4), (4, 3), (1, 64)):  # signs that are no music
        score = simple([(0, 12, 60)])
        score.time_signatures.append(symusic.TimeSignature(0, count, unit))
        assert encode(score).num_bars == 1


def test_overlaps_are_cut_long_notes_end_and_strange_values_are_brought_in() -> None:
    score = simple([(0, 40, 60), (12, 24, 60), (12, 30, 60), (0, 24, 62), (0, 500, 64)])
    assert notes_of(decode(encode(score).ids)) == [
        (0.0, 1.0, 60, 80, 0), (0.0, 2.0, 62, 80, 0), (0.0, MAX_DURATION_TICKS / 12, 64, 80, 0), (1.0, 2.5, 60, 80, 0)
    ]  # fmt: skip
    score = simple([(0, 12, 60)])
    for at, qpm in ((0, 7), (12, 900.4)):
        score.tempos.append(symusic.Tempo(at, qpm))
    assert [tempo for _, tempo in tempos_of(decode(encode(score).ids))] == [20, 260]
    drums = simple([(0, 12, 60)])
    drums.tracks.append(symusic.Track("", 0, True))
    for pitch in (26, 36, 90):
        drums.tracks[1].notes.append(symusic.Note(0, 12, pitch, 80))
    assert [n[2] for n in notes_of(decode(encode(drums).ids)) if n[4] == -1] == [36]


def test_played_notes_are_moved_to_their_beat_and_written_ones_are_not() -> None:
    written = simple([(0, 12, 60), (13, 11, 61), (29, 7, 62)])  # on the grid, off the sixteenths
    assert notes_of(decode(encode(written).ids)) == notes_of(written)
    rng = np.random.default_rng(0)
    exact = [(k * 120, 120, 60 + k % 12) for k in range(32)] + [(4800 + k * 160, 160, 60 + k) for k in range(12)]
    miss = [int(rng.integers(-24, 25) if s < 4800 else rng.integers(-12, 13)) for s, _, _ in exact]
    played = simple([(max(s + m, 0), n, p) for (s, n, p), m in zip(exact, miss, strict=True)], quarter=480)
    found = notes_of(decode(encode(played).ids))
    assert [(s, p) for s, _, p, *_ in found] == sorted((s / 480, p) for s, _, p in exact)
    assert notes_of(decode(encode(played, snap=False).ids)) != found


def test_what_is_no_piece_is_refused_in_one_line() -> None:
    long = simple([(0, 12, 60), (12 * 60 * 200, 12, 60)])
    for score, told in ((symusic.Score(480), "has no notes"), (simple([]), "has no notes"), (long, "minutes")):
        with pytest.raises(InputError, match=told) as caught:
            encode(score, name="a.mid")
        assert "\n" not in str(caught.value) and str(caught.value).startswith("a.mid")
    for ids in ([5000], [-1, 2]):
        with pytest.raises(InputError, match="is no word"):
            decode(ids)
    good = encode(song(1)).ids
    for place in (0, 3):
        with pytest.raises(InputError, match=f"token {place}"):
            decode(np.delete(good, place) if place == 0 else np.insert(good, 3, words.DURATION), strict=True)
    assert decode(good[: len(good) // 2]).note_num() > 0  # a text that breaks off is still music
    assert decode([]).note_num() == 0


def test_transposed_and_faster_texts_are_the_same_music() -> None:
    ids = encode(song(5)).ids
    plain = notes_of(decode(ids))
    low = min(p for *_, p, _, program in plain if program >= 0)
    up = transpose(ids, -low)
    assert up is not None and len(up) == len(ids)
    assert notes_of(decode(up)) == sorted(
        (s, n, p - (low if program >= 0 else 0), v, program) for s, n, p, v, program in plain
    )
    assert transpose(ids, -low - 1) is None
    packed = transpose(ids.astype(np.uint16), -low)  # as packs keep them
    assert packed is not None and packed.dtype == np.uint16 and np.array_equal(packed, up)
    faster = scale_tempo(ids, 1.1)
    assert notes_of(decode(faster)) == plain
    wanted = [min(max(round(tempo * 1.1), 20), 260) for _, tempo in tempos_of(decode(ids))]
    assert [tempo for _, tempo in tempos_of(decode(faster))] == wanted


def test_names_and_numbers() -> None:
    assert len(NAMES) == len(set(NAMES)) == words.VOCAB_SIZE == len(words.KIND_OF)
    for kind, section in words.SECTIONS.items():
        part = NAMES[section.first : section.first + section.size]
        assert all(name.startswith(f"{kind}_") for name in part)
    assert {"Tempo_120.0", "Duration_1.0.12", "TimeSig_6/8", "Program_-1", "Position_143"} <= set(NAMES)
    for ticks in range(3, 145, 3):
        sign = words.signature_of_ticks(ticks)
        assert sign in words.SIGNATURES and words.ticks_of_signature(sign) == ticks
