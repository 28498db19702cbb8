"""NativeVLM in transformers' pipeline, and in one call each way, with an untrained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import pipeline

from intermezzo.processing.alphatex_grammar import read_alphatex
from intermezzo.processing.errors import InputError

from .tiny_checkpoints import save

torch.set_num_threads(1)

PICTURE = Path(__file__).resolve().parent.parent / "examples" / "power_chords.png"
TURN = [{"role": "user", "content": [{"type": "image", "image": str(PICTURE)}]}]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = save("native_vlm", tmp_path_factory.mktemp("native") / "native_vlm")
    return pipeline("image-text-to-text", model=str(folder), dtype="float32")


def test_the_pipeline_takes_turns_batches_and_plain_pictures(reader: Any) -> None:
    ask = {"max_new_tokens": 4, "return_full_text": False}
    (one,) = reader(text=TURN, **ask)
    assert isinstance(one["generated_text"], str)
    assert [row[0]["generated_text"] for row in reader(text=[TURN, TURN], **ask)] == [one["generated_text"]] * 2
    (plain,) = reader(images=Image.open(PICTURE), text=reader.processor.read_prompt(), max_new_tokens=4)
    assert plain["generated_text"].endswith(one["generated_text"])


def test_one_call_reads_and_one_draws(reader: Any) -> None:
    model, processor = reader.model, reader.processor
    texts = processor.read(model, [Image.open(PICTURE), str(PICTURE)])
    assert texts[0] == texts[1]
    assert read_alphatex(texts[0]).staves, "untrained, it writes anything, but alphaTex"
    torch.manual_seed(0)
    drawn = processor.draw(model, "\\staff {tabs}\n\\ts (3 4) 3.3.4 5.3.4 r.4 |\n", rows=5, columns=9)
    assert drawn.size == (9 * processor.patch_width, 5 * processor.patch_height)
    with pytest.raises(InputError, match="no tab staff"):
        processor.read(model, Image.new("L", (300, 200), 255))
    with pytest.raises(InputError, match=r"absent\.png: there is no such file"):
        processor.read(model, "absent.png")
