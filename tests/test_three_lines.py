"""The Python in README.md and in the cards of the trained models does what it says; so does transformers' pipeline."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from symusic import Note, Score, Track

from .hub_client import ROOT, finish, start

PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("checkpoints/*/README.md"))]
CHECKPOINTS = sorted(path.parent.name for path in ROOT.glob("checkpoints/*/config.json"))
PICTURE = "examples/ode_to_joy_score_tab.png"

# Each block starts from nothing, as a reader of the page does; one process runs them all.
RUN = """
import contextlib, io, json, sys
said = []
for block in json.loads(sys.argv[1]):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(block, "page", "exec"), {"__name__": "__main__"})
    said.append(out.getvalue())
import intermezzo
from transformers import pipeline
from PIL import Image
reader = pipeline("image-text-to-text", model="checkpoints/score_vlm", dtype="float32")
picture = Image.open("song.png")
turn = [{"role": "user", "content": [{"type": "image", "image": "song.png"}]}]
asked = {
    "turn": lambda: reader(text=turn, max_new_tokens=4, return_full_text=False),
    "batch": lambda: reader(text=[turn, turn], max_new_tokens=4, return_full_text=False),
    "plain": lambda: reader(images=picture, text=reader.processor.read_prompt(), max_new_tokens=4),
}
print(json.dumps([said, {name: ask() for name, ask in asked.items()}]))
"""


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[dict[str, list[str]], dict[str, list]]:
    if "score_vlm" not in CHECKPOINTS:
        pytest.skip("the reader's weights are not here")
    home = tmp_path_factory.mktemp("reader_of_pages")
    (home / "checkpoints").symlink_to(ROOT / "checkpoints")
    shutil.copyfile(ROOT / PICTURE, home / "song.png")
    (home / "pictures").mkdir()
    song = Score(480)
    song.tracks.append(Track())
    song.tracks[0].notes.extend(Note(480 * k, 480, 60 + k, 80) for k in range(64))
    song.dump_midi(home / "song.mid")
    for name in ("a.png", "b.png", "bell.png", "pictures/a.png", "pictures/b.png"):  # what other pages look at
        shutil.copyfile(ROOT / "examples" / ("lead.png" if "a" in name else "bass.png"), home / name)
    pages = {page: blocks(page) for page in PAGES}
    whole = json.dumps([block for page in pages.values() for block in page])
    said, asked = json.loads(finish(start(RUN, home, {"HF_HUB_OFFLINE": "1"}, whole)).splitlines()[-1])
    told = iter(said)
    return {page: [next(told) for _ in found] for page, found in pages.items()}, asked


@pytest.mark.parametrize("stem", CHECKPOINTS)
def test_every_trained_model_has_its_lines_in_its_card(stem):
    [first, *_] = blocks(f"checkpoints/{stem}/README.md")
    assert first.count("from_pretrained") >= 2 and f'"checkpoints/{stem}"' in first
    assert len([line for line in first.splitlines() if line and "import" not in line]) <= 4


def test_the_code_of_readme_and_cards_reads_the_picture(run):
    from intermezzo.processing.alphatex_grammar import read_alphatex

    said, _ = run
    [card] = said["checkpoints/score_vlm/README.md"]
    readme = [text for text in said["README.md"] if text.strip()]
    assert readme, "README.md shows no code that prints what it read"
    for text in (card, *readme):
        bars = read_alphatex(text).staves[0].bars
        assert len(bars) >= 3 and sum(beat.notes != () for bar in bars for beat in bar.voices[0]) >= 8


@pytest.mark.skipif("style_encoder" not in CHECKPOINTS, reason="the style encoder's weights are not here")
def test_the_code_of_the_style_encoders_card_compares(run):
    said, _ = run
    first, *_ = said["checkpoints/style_encoder/README.md"]
    assert -1 <= float(first) < 0.999, "two different pictures"


def test_the_pipeline_of_transformers_takes_turns_batches_and_plain_pictures(run):
    """It writes what the language model alone thinks; that it takes every form of asking is the point here."""
    _, asked = run
    turns, batch, plain = asked["turn"], asked["batch"], asked["plain"]
    assert isinstance(turns[0]["generated_text"], str) and turns[0]["generated_text"].strip()
    assert [row[0]["generated_text"] for row in batch] == [turns[0]["generated_text"]] * 2
    assert plain[0]["generated_text"].endswith(turns[0]["generated_text"])
