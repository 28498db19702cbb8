"""Several looks at one system: what a look changes, and how looks vote."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from intermezzo.modeling.modeling_score_tower import ScoreTowerOutput
from intermezzo.modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
from intermezzo.processing.alphatex_grammar import read_alphatex, write_alphatex
from intermezzo.processing.dense_labels import build_label_space
from intermezzo.processing.dense_reading import DenseReader, DenseReading
from intermezzo.processing.errors import InputError
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.processing_score_vlm import ScoreVLMProcessor
from intermezzo.processing.reading_views import VIEWS, View, look, vote
from intermezzo.processing.system_canvas import WIDTH_MULTIPLE_PX, NormalisedSystem, draw_on_canvas
from intermezzo.processing.system_reader import SystemReader
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

from .dense_truth import perfect_logits, truth
from .tiny_score_vlm import text_config, tower_config, vlm_config

HEAD = "\\staff {tabs}\n"
RIGHT = HEAD + "\\ts (3 4) 3.3.4 5.3.4 7.3.4 |\n1.2.2{d} |\n"
WRONG = HEAD + "\\ts (3 4) 3.3.4 5.3.4 9.3.4 |\n1.2.2{d} |\n"
OTHER = HEAD + "\\ts (3 4) 3.3.4 5.3.4 7.3.4 |\n8.2.2{d} |\n"
LONG = HEAD + "\\ts (3 4) 3.3.4 5.3.4 7.3.4 |\n1.2.2{d} |\nr.2{d} |\n"
SPACE = build_label_space(map(read_alphatex, (RIGHT, WRONG, OTHER, LONG)))


def reading(text: str, sure: float | list[float]) -> DenseReading:
    score = read_alphatex(text)
    bars = len(score.staves[0].bars)
    return DenseReading(score, [sure] * bars if isinstance(sure, float) else sure, {})


def system() -> NormalisedSystem:
    """Six lines, an ink column near either end."""
    picture = np.full((260, 500), 255, dtype=np.uint8)
    picture[100:151:10, 20:480] = 0
    picture[100:151, 20] = picture[100:151, 479] = 0
    canvas, placement = draw_on_canvas(picture, [100.5 + 10 * k for k in range(6)], False)
    return NormalisedSystem(canvas, 6, False, placement)


def ink_columns(array: np.ndarray) -> np.ndarray:
    return np.flatnonzero((array < 128).sum(axis=0) > 40)


def test_the_first_look_is_the_canvas_itself() -> None:
    canvas = system()
    assert look(canvas, VIEWS[0]) is canvas


@pytest.mark.parametrize("view", VIEWS)
def test_a_look_loses_no_ink_and_keeps_the_lines_near_their_rows(view: View) -> None:
    canvas = system()
    seen = look(canvas, view)
    assert seen.array.shape[0] == canvas.array.shape[0] and seen.array.shape[1] % WIDTH_MULTIPLE_PX == 0
    old, new = ink_columns(canvas.array), ink_columns(seen.array)
    expected = old[[0, -1]] * view.x_scale + view.x_shift
    assert np.abs(new[[0, -1]] - expected).max() <= 1.5
    middle = seen.array[:, seen.array.shape[1] // 2] < 200
    rows = np.flatnonzero(middle)
    truth_rows = np.flatnonzero(canvas.array[:, canvas.array.shape[1] // 2] < 200)
    assert all(np.abs(truth_rows - row).min() <= 1 for row in rows) and len(rows) >= 6
    ink = lambda array: (255.0 - array).sum()  # noqa: E731
    assert ink(seen.array) >= 0.95 * ink(canvas.array) * view.x_scale * view.y_scale


def test_a_look_does_not_change_the_canvas() -> None:
    canvas = system()
    before = canvas.array.copy()
    for view in VIEWS:
        look(canvas, view)
    assert (canvas.array == before).all()


def test_most_looks_win_bar_by_bar() -> None:
    voted, last = vote([reading(WRONG, 0.5), reading(OTHER, 0.5), reading(RIGHT, 0.5)])
    assert write_alphatex(voted.score) == RIGHT  # no single bar of it stands in less than two readings
    assert last in (0, 2)
    assert voted.bar_confidence == pytest.approx([1 / 3, 1 / 3])


def test_the_first_wins_a_tie_and_a_sure_look_outweighs_an_unsure_one() -> None:
    assert write_alphatex(vote([reading(WRONG, 0.5), reading(RIGHT, 0.5)])[0].score) == WRONG
    assert write_alphatex(vote([reading(WRONG, 0.5), reading(RIGHT, 0.6)])[0].score) == RIGHT


def test_looks_with_another_number_of_bars_have_no_vote() -> None:
    voted, _ = vote([reading(LONG, 1.0), reading(WRONG, 0.2), reading(RIGHT, 0.3)])
    assert write_alphatex(voted.score) == RIGHT
    assert len(vote([reading(LONG, 0.1), reading(RIGHT, 0.9)])[0].bar_confidence) == 3  # one each: the first


def test_bars_are_taken_from_looks_in_one_metre_alone() -> None:
    """Half of the looks take 3/4 for 2/4: each bar would be voted for by itself, and the sum of the bars be wrong."""
    other = HEAD + "\\ts (2 4) 3.3.4 5.3.4 |\n1.2.2 |\n"
    looks = [reading(RIGHT, [0.9, 0.2]), reading(other, [0.1, 0.9]), reading(other, [0.1, 0.9])]
    voted, last = vote(looks)
    assert write_alphatex(voted.score) == RIGHT and last == 0
    again, _ = vote([reading(RIGHT, [0.1, 0.9]), *looks[1:]])
    assert write_alphatex(again.score) == other


def test_a_metre_in_force_before_the_system_counts_too() -> None:
    bars = HEAD + "\\ts (3 4) 3.3.4 5.3.4 7.3.4 |\n1.2.2{d} |\n", HEAD + "\\ts (2 4) 3.3.4 5.3.4 |\n1.2.2 |\n"
    three, two = (reading(text, 0.5) for text in bars)
    for one, metre in ((three, (3, 4)), (two, (2, 4))):
        one.metre, one.score.staves[0].bars[0].time_signature = metre, None
    two.bar_confidence, three.bar_confidence = [0.4, 0.9], [0.8, 0.1]
    voted, _ = vote([two, three])
    assert [sum(beat.length for beat in bar.voices[0]) * 4 for bar in voted.score.staves[0].bars] == [3, 3]
    assert voted.metre == (3, 4)


def test_one_reading_comes_out_as_it_is() -> None:
    one = reading(RIGHT, [0.25, 0.75])
    voted, last = vote([one])
    assert (voted.score, voted.bar_confidence, last) == (one.score, [0.25, 0.75], 0)
    with pytest.raises(ValueError, match="at least one"):
        vote([])


def outputs_of(text: str) -> tuple[ScoreTowerOutput, int]:
    labels, width = truth(read_alphatex(text), SPACE)
    logits = {k: torch.from_numpy(v)[None].float() for k, v in perfect_logits(labels, width, SPACE).items()}
    return ScoreTowerOutput(last_hidden_state=torch.zeros(1, -(-width // 8), 16), dense_logits=logits), width


@pytest.fixture(scope="module")
def parts() -> tuple[ScoreVLMForConditionalGeneration, ScoreVLMProcessor]:
    torch.manual_seed(0)
    tokenizer = AlphaTexTokenizer()
    config = vlm_config(
        text_config=text_config(len(tokenizer)) | {"max_position_embeddings": 2048},
        vision_config=tower_config(labels=SPACE),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    return ScoreVLMForConditionalGeneration(config), ScoreVLMProcessor(ScoreImageProcessor(), tokenizer)


def test_the_reader_writes_what_its_looks_agree_on(parts: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = SystemReader(*parts, dense_only=True, views=3)
    said = [WRONG, RIGHT, RIGHT]
    found = [outputs_of(text) for text in said]
    canvas = replace(system(), array=np.full((240, -(-found[0][1] // 16) * 16), 255, dtype=np.uint8))
    monkeypatch.setattr(SystemReader, "_look", lambda self, systems: [out for out, _ in found[: len(systems)]])
    assert reader.read_systems([canvas], chained=False)[0].text == RIGHT
    alone = SystemReader(*parts, dense_only=True, views=1)
    assert alone.read_systems([canvas], chained=False)[0].text == WRONG


def test_a_look_without_metre_takes_the_one_of_the_first(parts: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two looks of three overlook the metre: the bars are still filled as the first look says."""
    blind = RIGHT.replace("\\ts (3 4) ", "")
    labels, width = truth(read_alphatex(blind.replace("3.3.4 5", "\\ts (3 4) 3.3.4 5")), SPACE)
    seen = perfect_logits(labels, width, SPACE)
    unseen = {**seen, "bar_starts": np.full_like(seen["bar_starts"], -15.0)}
    outs = [
        ScoreTowerOutput(
            last_hidden_state=torch.zeros(1, -(-width // 8), 16),
            dense_logits={k: torch.from_numpy(v)[None].float() for k, v in logits.items()},
        )
        for logits in (seen, unseen, unseen)
    ]
    monkeypatch.setattr(SystemReader, "_look", lambda self, systems: outs)
    canvas = replace(system(), array=np.full((240, -(-width // 16) * 16), 255, dtype=np.uint8))
    reading = SystemReader(*parts, dense_only=True, views=3).read_systems([canvas], chained=False)[0]
    assert reading.text == RIGHT  # voted without a metre, and told the one that was in force
    assert reading.unsure_bars == []  # which makes the bar no less sure


def test_a_wrong_number_of_looks_is_one_line(parts: tuple) -> None:
    with pytest.raises(InputError, match=r"views is 0; it must be between 1 and 6"):
        SystemReader(*parts, views=0)


def test_a_reader_alone_reads_as_before() -> None:
    """The dense reader on its own knows nothing of looks."""
    labels, width = truth(read_alphatex(RIGHT), SPACE)
    alone = DenseReader(SPACE).read(perfect_logits(labels, width, SPACE), width)
    assert write_alphatex(vote([alone, alone])[0].score) == write_alphatex(alone.score) == RIGHT
