"""Parts made by rule: closed bars, one text for one seed, splits that never share a piece, wide coverage."""

import random
from collections import Counter
from itertools import islice

import pytest

from intermezzo.datasets_scripts.fretboard import lay_out, playable
from intermezzo.datasets_scripts.guitar_neck import TUNINGS, open_pitches, pitch_of
from intermezzo.datasets_scripts.guitar_parts import (
    generate_piece,
    iter_system_jobs,
    piece_name,
    piece_seeds,
    shown_as,
    split_of,
    split_systems,
    take_bars,
)
from intermezzo.datasets_scripts.guitar_rhythm import FEELS, METRES, fill_bar, free_bar, metre_length
from intermezzo.datasets_scripts.guitar_techniques import LINKS
from intermezzo.processing.alphatex_grammar import bars_close, beat_length, read_alphatex, write_alphatex
from intermezzo.processing.alphatex_visible import SCORE_ONLY_NOTE


@pytest.mark.parametrize("metre", METRES)
def test_every_rhythm_fills_its_bar(metre):
    rng = random.Random(0)
    for feel in FEELS:
        for _ in range(50):
            assert sum(beat_length(*slot) for slot in fill_bar(metre, feel, rng)) * 64 == metre_length(metre)
    for _ in range(50):
        assert sum(beat_length(*slot) for slot in free_bar(metre_length(metre), rng)) * 64 == metre_length(metre)


def test_pieces_close_and_read_back():
    for seed in range(150):
        piece = generate_piece(seed)
        assert bars_close(piece.score, first_may_be_short=False, empty_bars=False), seed
        text = write_alphatex(piece.score)
        assert write_alphatex(read_alphatex(text)) == text
        assert read_alphatex(text) == piece.score


def test_same_seed_same_piece_and_jobs():
    assert generate_piece(7) == generate_piece(7)
    assert list(iter_system_jobs(3, 40, "train")) == list(iter_system_jobs(3, 40, "train"))
    assert list(iter_system_jobs(3, 40, "train")) != list(iter_system_jobs(4, 40, "train"))
    # more jobs begin with the same jobs
    assert list(iter_system_jobs(3, 40))[:15] == list(iter_system_jobs(3, 15))


def test_splits_share_no_piece_for_any_seeds():
    names = {
        split: {j[2] for seed in (0, 1) for j in iter_system_jobs(seed, 200, split)}
        for split in ("train", "validation", "test")
    }
    assert (
        not names["train"] & names["test"]
        and not names["train"] & names["validation"]
        and not names["test"] & names["validation"]
    )
    shares = Counter(split_of(piece_name(seed)) for seed in islice(piece_seeds(0), 5000))
    assert 0.93 < shares["train"] / 5000 < 0.97 and shares["test"] > 80 and shares["validation"] > 50


def test_unknown_split_is_refused():
    with pytest.raises(ValueError, match="train, validation, test"):
        next(piece_seeds(0, "dev"))


def test_systems_hold_every_bar_once_and_start_with_a_metre():
    for seed in range(60):
        piece = generate_piece(seed)
        before = write_alphatex(piece.score)
        systems = split_systems(piece, random.Random(seed))
        assert sum(len(s.staves[0].bars) for s in systems) == len(piece.score.staves[0].bars)
        for system in systems:
            assert 1 <= len(system.staves[0].bars) <= 8
            assert system.staves[0].bars[0].time_signature
            assert bars_close(system, first_may_be_short=False, empty_bars=False)
        assert write_alphatex(piece.score) == before  # the piece was not changed


def test_links_have_partners_in_their_system():
    for text, _, _ in iter_system_jobs(5, 400):
        staff = read_alphatex(text).staves[0]
        for voice in range(max(len(bar.voices) for bar in staff.bars)):
            beats = [beat for bar in staff.bars if voice < len(bar.voices) for beat in bar.voices[voice]]
            for k, beat in enumerate(beats):
                after = {n.string for n in beats[k + 1].notes} if k + 1 < len(beats) else set()
                before = {(n.string, n.fret) for n in beats[k - 1].notes} if k else set()
                for note in beat.notes:
                    assert not (note.effects.keys() & set(LINKS)) or note.string in after
                    assert "t" not in note.effects or (note.string, note.fret) in before


def test_tab_alone_tells_nothing_that_only_the_score_staff_shows():
    piece = next(p for p in map(generate_piece, range(500)) if p.score.staves[0].bars[0].key_signature != "c")
    system = take_bars(piece.score, 0, 2)
    assert shown_as(system, "score+tabs").staves[0].bars[0].key_signature
    assert shown_as(system, "tabs").staves[0].bars[0].key_signature is None
    for text, style, _ in iter_system_jobs(9, 300):
        if style["staves"] == "tabs":
            assert "\\ks" not in text and "\\voice" not in text
            notes = [n for *_, b in read_alphatex(text).beats() for n in b.notes]
            assert not any(n.effects.keys() & SCORE_ONLY_NOTE for n in notes)


def test_chords_use_a_string_once_and_frets_stay_on_the_neck():
    for seed in range(150):
        staff = generate_piece(seed).score.staves[0]
        for *_, beat in generate_piece(seed).score.beats():
            strings = [n.string for n in beat.notes]
            assert len(strings) == len(set(strings)) and all(1 <= s <= staff.strings for s in strings)
            assert all(0 <= n.fret <= 24 for n in beat.notes)


def test_a_training_set_covers_the_neck_and_the_techniques():
    frets, names, durations, metres, strings = Counter(), Counter(), Counter(), Counter(), Counter()
    for text, _, _ in iter_system_jobs(0, 4000, "train"):
        score = read_alphatex(text)
        strings[score.staves[0].strings] += 1
        metres.update(bar.time_signature for bar in score.staves[0].bars if bar.time_signature)
        for *_, beat in score.beats():
            durations[beat.duration] += 1
            names.update(list(beat.effects))
            names.update(["grace"] if beat.grace else [])
            names.update([f"tuplet {beat.tuplet[0]}"] if beat.tuplet else [])
            for note in beat.notes:
                frets[note.string, note.fret] += 1
                names.update(list(note.effects))
    assert {4, 5, 6, 7} == set(strings) and set(METRES) == set(metres)
    assert {1, 2, 4, 8, 16, 32, 64} == set(durations)
    assert min(frets[string, fret] for string in range(1, 7) for fret in range(25)) >= 20
    wanted = "x t g be nh ah ph tr v vw sib sia ss sl sou sod h ac hac pm st lr tt s p bd bu ad au su sd grace".split()
    missing = [name for name in [*wanted, "tuplet 3", "tuplet 5", "tuplet 6"] if names[name] < 20]
    assert not missing


def test_shown_frets_of_a_melody_sound_its_pitches():
    strings = open_pitches(TUNINGS[6]["standard"])
    melody = [64, 66, 67, 69, 71, 72, 74, 76, 79, 76, 64, 52, 40]
    layout = lay_out([(p,) for p in melody], [k / 2 for k in range(len(melody))], strings)
    assert [strings[grip[0][0] - 1] + grip[0][1] for grip in layout] == melody


def test_layout_moves_little_and_holds_chords():
    strings = open_pitches(TUNINGS[6]["standard"])
    layout = lay_out([(60,), (62,), (64,), (65,), (67,), (69,), (71,), (72,)], list(range(8)), strings)
    frets = [grip[0][1] for grip in layout if grip[0][1]]
    assert max(frets) - min(frets) <= 5
    chord = lay_out([(64, 60, 55, 52, 48), ()], [0, 1], strings)
    assert len(chord[0]) == 5 and chord[1] == () and len({s for s, _ in chord[0]}) == 5


def test_what_can_not_be_played_is_folded_or_thinned():
    strings = open_pitches(TUNINGS[4]["standard"])
    assert playable((100,), strings)[0] <= max(strings) + 20
    assert 1 <= len(playable(range(40, 60), strings)) <= 4
    with pytest.raises(ValueError, match="2 chords but 1 onsets"):
        lay_out([(40,), (41,)], [0.0], strings)


def test_pitch_names():
    assert [pitch_of(n) for n in ("E4", "B3", "Bb1", "F#3", "C4")] == [64, 59, 34, 54, 60]
