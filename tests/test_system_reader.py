"""The reader of systems: what the dense heads are sure of comes out as it is, whatever the language model thinks."""

from __future__ import annotations

import pytest
import torch

from intermezzo.modeling.modeling_score_vlm import ScoreVLMForConditionalGeneration
from intermezzo.processing.alphatex_grammar import bars_close, read_alphatex, write_alphatex
from intermezzo.processing.dense_labels import build_label_space
from intermezzo.processing.dense_reading import DenseReader
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.processing_score_vlm import ScoreVLMProcessor
from intermezzo.processing.system_reader import SystemReader
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

from .dense_truth import perfect_logits, truth
from .tiny_score_vlm import text_config, tower_config, vlm_config

torch.set_num_threads(1)
HEAD = "\\staff {tabs}\n"
TEXTS = [
    HEAD + "\\ts (2 4) 5.1.2 |\n",
    HEAD + "\\ts (6 8) 0.1.2{d} |\n",
    HEAD + "\\ts (4 4) r.4 1.1.8 1.1.8 1.1.2 |\n",
    HEAD + "\\ts (4 4) " + "\n".join(["(1.1 3.2 5.3 7.4 9.5 11.6).16{tu (3 2)} " * 24 + "|"] * 8) + "\n",
]


@pytest.fixture(scope="module")
def reader() -> SystemReader:
    torch.manual_seed(0)
    tokenizer = AlphaTexTokenizer()
    image = tokenizer.convert_tokens_to_ids("<|image|>")
    sizes = text_config(len(tokenizer)) | {"max_position_embeddings": 4096}
    config = vlm_config(text_config=sizes, vision_config=tower_config(), image_token_id=image)
    model = ScoreVLMForConditionalGeneration(config)
    return SystemReader(model, ScoreVLMProcessor(ScoreImageProcessor(), tokenizer), evidence=1000)


@pytest.mark.parametrize("text", TEXTS, ids=["one note", "dotted", "four beats", "1,152 notes"])
def test_a_sure_draft_is_written_to_its_end(reader: SystemReader, text: str) -> None:
    score = read_alphatex(text)
    space = build_label_space([score])
    labels, width = truth(score, space)
    reading = DenseReader(space).read(perfect_logits(labels, width, space), width)
    draft = write_alphatex(reading.score)
    assert draft == write_alphatex(score)
    with torch.inference_mode():
        assert reader._write_one(torch.randn(5, 16), reading, (4, 4)) == draft


def test_without_evidence_the_language_model_writes_and_still_closes(reader: SystemReader) -> None:
    score = read_alphatex(TEXTS[0])
    space = build_label_space([score])
    labels, width = truth(score, space)
    reading = DenseReader(space).read(perfect_logits(labels, width, space), width)
    alone = SystemReader(reader.model, reader.processor, evidence=False)
    torch.manual_seed(0)
    with torch.inference_mode():
        text = alone._write_one(torch.randn(5, 16), reading, (4, 4))
    assert text != TEXTS[0] and bars_close(read_alphatex(text))
