"""Counting, filling and joining of picture and text parts."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from intermezzo.modeling import connectors, modeling_score_vlm
from intermezzo.processing import processing_score_vlm
from intermezzo.processing.multimodal_utils import (
    IGNORED_LABEL,
    Part,
    check_placeholders,
    count_image_tokens,
    create_attention_mask_from_embed,
    join_parts,
    place_features,
    project_sequence_embed,
)

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent


def tiny_language_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, num_key_value_heads=4, **sizes)).eval()


def test_every_begun_column_has_a_token() -> None:
    assert [count_image_tokens(width, 8) for width in (0, 1, 8, 9, 592)] == [0, 1, 1, 2, 74]


def test_a_mismatch_shows_both_counts() -> None:
    check_placeholders(7, 7)
    with pytest.raises(ValueError, match=r"7 image tokens.* give 9"):
        check_placeholders(7, 9)


def test_features_go_to_their_placeholders_in_order() -> None:
    ids = torch.tensor([[1, 9, 9, 2], [9, 3, 4, 9]])
    embeds = torch.zeros(2, 4, 3, dtype=torch.bfloat16)
    features = torch.arange(1, 5).float()[:, None].expand(4, 3)
    out = place_features(ids, embeds, features, 9)
    assert out.dtype == torch.bfloat16
    assert out[..., 0].tolist() == [[0, 1, 2, 0], [3, 0, 0, 4]]
    assert embeds.abs().sum() == 0  # the input is not changed
    with pytest.raises(ValueError, match=r"4 image tokens.* give 3"):
        place_features(ids, embeds, features[:3], 9)


def test_the_reader_has_no_second_copy() -> None:
    assert modeling_score_vlm.place_features is place_features
    assert modeling_score_vlm.count_image_tokens is processing_score_vlm.count_image_tokens is count_image_tokens
    for module in (connectors, modeling_score_vlm, processing_score_vlm):
        assert "masked_scatter" not in inspect.getsource(module)


def test_projecting_keeps_places_and_takes_the_projectors_dtype() -> None:
    torch.manual_seed(0)
    projector = nn.Linear(6, 4).to(torch.bfloat16)
    embed = torch.randn(2, 5, 6)
    out = project_sequence_embed(embed, projector)
    assert out.shape == (2, 5, 4) and out.dtype == torch.bfloat16
    torch.testing.assert_close(out[1, 3], projector(embed[1, 3].to(torch.bfloat16)))
    assert project_sequence_embed(embed[0], projector).shape == (1, 5, 4)
    assert project_sequence_embed(embed, lambda x: 2 * x).equal(2 * embed)
    out.float().sum().backward()
    assert projector.weight.grad is not None


@pytest.mark.parametrize(
    ("embed", "projector", "message"),
    [
        (torch.zeros(2, 5, 7), nn.Linear(6, 4), "width 6, got 7"),
        (torch.zeros(5), nn.Linear(5, 4), r"\(B, L, D\), got \(5,\)"),
        (torch.zeros(2, 5, 6), lambda x: x.mean(1), "must keep"),
    ],
)
def test_projecting_refuses_what_does_not_fit(embed, projector, message) -> None:
    with pytest.raises(ValueError, match=message):
        project_sequence_embed(embed, projector)


def test_masks_leave_out_padding_and_the_unlikely_but_never_all() -> None:
    embed = torch.ones(3, 4, 2)
    embed[0, 2:] = 0
    embed[2] = 0
    assert create_attention_mask_from_embed(embed).tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    chance = torch.tensor([[0.9, 0.4, 0.9, 0.9], [0.1, 0.2, 0.4, 0.3], [0.1, 0.2, 0.1, 0.1]])
    found = create_attention_mask_from_embed(embed, chance)
    assert found.dtype == torch.int64
    assert found.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]]
    assert create_attention_mask_from_embed(embed[1], chance[0], threshold=0.3).tolist() == [[1, 1, 1, 1]]
    with pytest.raises(ValueError, match=r"\(3, 3\).*\(3, 4\)"):
        create_attention_mask_from_embed(embed, chance[:, :3])


def test_joined_parts_have_positions_and_labels() -> None:
    picture = Part(torch.ones(2, 3, 4), torch.tensor([[1, 1, 0], [1, 1, 1]]))
    text = Part(2 * torch.ones(2, 2, 4), torch.tensor([[1, 1], [1, 0]]), torch.tensor([[5, 6], [7, 8]]))
    joined = join_parts([picture, text])
    assert joined["attention_mask"].tolist() == [[1, 1, 0, 1, 1], [1, 1, 1, 1, 0]]
    assert joined["position_ids"].tolist() == [[0, 1, 1, 2, 3], [0, 1, 2, 3, 3]]
    n = IGNORED_LABEL
    assert joined["labels"].tolist() == [[n, n, n, 5, 6], [n, n, n, 7, n]]  # nothing is learnt of masked places
    assert joined["inputs_embeds"][0, :, 0].tolist() == [1, 1, 1, 2, 2]
    assert "labels" not in join_parts([picture, picture])

    left = join_parts([picture, text], padding_side="left")
    assert left["attention_mask"].tolist() == [[0, 1, 1, 1, 1], [0, 1, 1, 1, 1]]
    assert left["labels"].tolist() == [[n, n, n, 5, 6], [n, n, n, n, 7]]
    assert left["inputs_embeds"][1, :, 0].tolist() == [2, 1, 1, 1, 2]
    right = join_parts([picture, text], padding_side="right")
    assert right["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 0]]


def test_parts_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"part 0 .*\(2, 3, 4\).*\(2, 3, 5\)"):
        join_parts([Part(torch.ones(2, 3, 4)), Part(torch.ones(2, 3, 5))])
    with pytest.raises(ValueError, match=r"part 0 is .*mask"):
        join_parts([Part(torch.ones(2, 3, 4), torch.ones(2, 2))])
    with pytest.raises(ValueError, match="no part"):
        join_parts([])
    with pytest.raises(ValueError, match="padding_side"):
        join_parts([Part(torch.ones(2, 3, 4))], padding_side="middle")


@torch.no_grad()
def test_a_masked_place_does_not_change_what_is_read() -> None:
    """A picture of 2 places and one of 3 with the last masked give a real language model the same text."""
    model = tiny_language_model()
    ids = torch.tensor([[4, 5, 6]])
    words = model.get_input_embeddings()(ids)
    picture = torch.randn(1, 3, 32)
    short = join_parts([Part(picture[:, :2]), Part(words, labels=ids)])
    long = join_parts([Part(picture, torch.tensor([[1, 1, 0]])), Part(words, labels=ids)])
    packed = join_parts([Part(picture, torch.tensor([[1, 1, 0]])), Part(words, labels=ids)], padding_side="left")
    outs = [model(**inputs) for inputs in (short, long, packed)]
    for out in outs[1:]:
        torch.testing.assert_close(out.logits[:, -3:], outs[0].logits[:, -3:])
    # The first word is predicted at the place before it: the padded form learns it too, so the losses agree only
    # where that place is seen.
    torch.testing.assert_close(outs[2].loss, outs[0].loss)
    other = join_parts([Part(picture + 1), Part(words, labels=ids)])
    assert not torch.allclose(model(**other).logits[:, -1], outs[0].logits[:, -1])


def test_a_language_model_learns_which_picture_it_sees() -> None:
    """Two pictures, two sentences: the loss falls, and the wrong picture makes it rise."""
    model = tiny_language_model()
    torch.manual_seed(1)
    embed = torch.randn(2, 4, 16)
    ids = torch.tensor([[7, 8, 9], [11, 12, 13]])
    projector = nn.Linear(16, 32)
    optimizer = torch.optim.Adam([*projector.parameters(), *model.parameters()], lr=0.02)

    def loss_of(pictures: torch.Tensor) -> torch.Tensor:
        picture = project_sequence_embed(pictures, projector)
        seen = create_attention_mask_from_embed(pictures)
        words = model.get_input_embeddings()(ids)
        return model(**join_parts([Part(picture, seen), Part(words, labels=ids)])).loss

    first = loss_of(embed).item()
    for _ in range(25):
        optimizer.zero_grad()
        loss_of(embed).backward()
        optimizer.step()
    last = loss_of(embed).item()
    assert last < first / 10, (first, last)
    assert loss_of(embed.flip(0)).item() > last + 1


def test_the_worked_example_of_the_page_learns_which_picture_it_sees(monkeypatch, capsys) -> None:
    """Without a look at the picture the first letter stays a guess: a loss of log(2) / 8 at best."""
    if not (ROOT / "checkpoints" / "style_encoder" / "config.json").is_file():
        pytest.skip("its weights are not here")
    text = (ROOT / "modeling" / "style_encoder.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", text, re.S)
    monkeypatch.chdir(ROOT)
    exec(compile(code, "style_encoder.md", "exec"), {})
    losses = [float(found) for found in re.findall(r"loss ([\d.]+)", capsys.readouterr().out)]
    assert len(losses) == 4 and losses[0] > 4 and losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.7 * math.log(2) / 8
