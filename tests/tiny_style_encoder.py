"""A tiny StyleEncoder checkpoint and data for it, for the tests of several modules."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from intermezzo.datasets_scripts.style_shards import features
from intermezzo.modeling.modeling_style_encoder import StyleEncoderModel
from intermezzo.processing.processing_style_encoder import StyleEncoderProcessor
from intermezzo.processing.style_looker import CAPTIONS_FILE, PAIRS_FILE

LENGTH, WIDTH = 4, 6


def save_tiny(folder: Path, references: bool = True, **options: Any) -> Path:
    """A model folder with an untrained model of 32 pixels."""
    torch.manual_seed(0)
    sizes = {"num_tokens": LENGTH, "embed_size": WIDTH, "style_size": 8, "hidden_size": 16, "num_attention_heads": 2}
    model = StyleEncoderModel.from_backbone("test_resnet", **{**sizes, "num_query_layers": 1, **options})
    model.eval().save_pretrained(folder)
    StyleEncoderProcessor.from_backbone("test_resnet", image_size=32, crop_pct=1.0).save_pretrained(folder)
    if references:
        from safetensors.numpy import save_file

        pairs = {"same": [0.6, 0.7, 0.8, 0.9], "different": [-0.4, -0.2, 0.0, 0.65]}
        (folder / PAIRS_FILE).write_text(json.dumps(pairs), encoding="utf-8")
        vectors = np.random.default_rng(0).normal(size=(3, WIDTH)).astype(np.float16)
        names = json.dumps(["bell", "流星雨", "red apple"], ensure_ascii=False)
        save_file({"pooled": vectors}, folder / CAPTIONS_FILE, metadata={"names": names})
    return folder


def stripes(colour: str, number: int, size: tuple[int, int] = (40, 40)) -> Image.Image:
    """A picture whose style is its colour and whose content is where its line lies."""
    picture = Image.new("RGB", size, "white")
    ImageDraw.Draw(picture).line((5 * number, 0, size[0] - 1, size[1] - 1 - number), fill=colour, width=4)
    return picture


def vector_of(text: str, width: int = WIDTH) -> np.ndarray:
    """A made-up pooled embedding: the same for the same text."""
    return np.random.default_rng(sum(map(ord, text))).normal(size=width).astype(np.float32)


def write_split(folder: Path, split: str, styles: list[str], contents: list[str], targets: bool = True) -> None:
    """A Parquet file of every style by every content, with targets of `vector_of`."""
    import pyarrow.parquet as pq
    from datasets import Dataset

    rows = []
    for style in styles:
        for content in contents:
            buffer = io.BytesIO()
            stripes(style, sum(map(ord, content)) % 8).save(buffer, "PNG")
            row: dict[str, Any] = dict.fromkeys(features())
            row |= {"image": {"bytes": buffer.getvalue(), "path": None}, "style": style, "content": content}
            if targets:
                words = min(LENGTH, len(content.split()))
                row |= {"caption": content, "caption_zh": f"中{content}", "pooled": vector_of(content).tolist()}
                row |= {"pooled_zh": vector_of(f"中{content}").tolist(), "mask": [1] * words + [0] * (LENGTH - words)}
                row |= {"embed": [vector_of(f"{content}{k}").tolist() for k in range(LENGTH)]}
            rows.append(row)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    table = Dataset.from_list(rows, features=features()).data.table
    table = table.replace_schema_metadata(features().arrow_schema.metadata)
    pq.write_table(table, folder / "data" / f"{split}-00000.parquet")
