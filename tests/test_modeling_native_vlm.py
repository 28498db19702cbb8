"""NativeVLM: laws of every model, positions, packing, guidance, pictures, the start from a language model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, NanoChatConfig, NanoChatForCausalLM

from intermezzo.modeling.modeling_native_vlm import NativeVLMForCausalLM, native_loss
from intermezzo.modeling.native_guidance import GuidanceLogitsProcessor
from intermezzo.modeling.native_layers import document_spans
from intermezzo.modeling.native_loss import head_loss
from intermezzo.modeling.native_positions import mixed_angles, token_positions
from intermezzo.modeling.native_start import freeze_all_but_new_rows, take_over_language_model
from intermezzo.processing.errors import InputError
from intermezzo.processing.image_processing_score import ScoreImageProcessor
from intermezzo.processing.processing_native_vlm import NativeVLMProcessor
from intermezzo.processing.tokenization_alphatex import AlphaTexTokenizer

from .common import GenerationLaws
from .tiny_native_vlm import ASSISTANT, BOS, END, IMAGE, PAD, USER, grid, native_config, sequences

torch.set_num_threads(1)


class NativeLaws(GenerationLaws):
    model_class = NativeVLMForCausalLM
    auto_class = AutoModelForCausalLM
    frozen = ("image_vq.",)
    fit_learning_rate = 1e-2
    wrong_configs = (
        {"num_attention_heads": 3},
        {"vocab_size": 99},
        {"rope": "2d"},
        {"scan": "diagonal"},
        {"image_token_id": 24},
        {"max_rows": 0},
        {"z_loss_weight": -1},
        {"logit_softcap": 0},
    )

    def tiny_config(self) -> Any:
        return native_config()

    def tiny_inputs(self, config: Any, batch_size: int = 2) -> dict[str, Any]:
        ids = sequences(config, batch_size)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}


class TestMixedColumns(NativeLaws):
    def tiny_processor(self) -> Any:
        return NativeVLMProcessor.for_model(native_config(), ScoreImageProcessor(), AlphaTexTokenizer())


class TestPlaced(NativeLaws):
    def tiny_config(self) -> Any:
        return native_config(rope="placed", query_gain=True, neighbours=True)


class TestPlainRows(NativeLaws):
    def tiny_config(self) -> Any:
        return native_config(rope="plain", scan="rows", modality_embedding=False, qk_norm=False, logit_softcap=None)


def make(**changes: Any) -> NativeVLMForCausalLM:
    torch.manual_seed(0)
    return NativeVLMForCausalLM(native_config(**changes)).eval()


# --- positions --------------------------------------------------------------------------------------------------------


def test_positions_by_hand() -> None:
    config = native_config()
    picture = config.vocabulary.write_grid(grid(2, 3))
    ids = torch.tensor([[PAD, 9, *picture, 10]])
    found = token_positions(ids, config.vocabulary, torch.tensor([[0] + [1] * (ids.shape[1] - 1)]))[0].T.tolist()
    codes = [[4, 4 + row, 4 + column] for column in range(3) for row in range(3)]  # row 2: end of the line
    # <pad>, text, <boi>, <rows>, <columns>, codes, <eoi> behind the longer side (3 of 3), text
    assert found == [[0] * 3, [0] * 3, [1] * 3, [2] * 3, [3] * 3, *codes, [7] * 3, [8] * 3]


def test_positions_by_rows_and_two_pictures() -> None:
    config = native_config(scan="rows")
    v = config.vocabulary
    ids = [*v.write_grid(grid(1, 4)), *v.write_grid(grid(2, 1)), 8]
    found = token_positions(torch.tensor([ids]), v)[0].T.tolist()
    first = [[3, 3, 3 + x] for x in range(5)]
    second = [[12, 12 + y, 12 + x] for y in range(2) for x in range(2)]
    assert found == [
        [0] * 3, [1] * 3, [2] * 3, *first, [8] * 3, [9] * 3, [10] * 3, [11] * 3, *second, [14] * 3, [15] * 3
    ]  # fmt: skip


def test_documents_are_counted_from_zero() -> None:
    config = native_config()
    one, two = sequences(config)
    packed = torch.cat([one, two[:5]])[None]
    documents = torch.tensor([[1] * len(one) + [2] * 5])
    found = token_positions(packed, config.vocabulary, None, documents)
    alone = token_positions(one[None], config.vocabulary)
    assert torch.equal(found[..., : len(one)], alone)
    assert torch.equal(found[..., len(one) :], token_positions(two[None, :5], config.vocabulary))
    plain = token_positions(packed, config.vocabulary, None, documents, mixed=False)
    assert plain[0, 0].tolist() == [*range(len(one)), *range(5)]


def test_broken_pictures_still_have_positions() -> None:
    """`generate` without rules may write anything."""
    config = native_config()
    torch.manual_seed(0)
    ids = torch.randint(config.vocab_size, (50, 40))
    assert (token_positions(ids, config.vocabulary) >= 0).all()
    assert token_positions(ids[:, :1], config.vocabulary).shape == (50, 3, 1)


def test_angles_of_text_are_plain_rotary_angles() -> None:
    from intermezzo.modeling.layers import rotary_angles

    positions = torch.arange(7)[None]
    mixed = mixed_angles(positions[:, None].expand(1, 3, 7), 12, 100.0)
    torch.testing.assert_close(mixed, rotary_angles(positions, 12, 100.0))
    moved = mixed_angles(torch.stack([positions, positions + 1, positions], dim=1), 12, 100.0)
    changed = (moved[0] - mixed[0]).abs().amax((0, 1)) > 1e-6
    assert changed.tolist() == [False, True, False, False, True, False] * 2


# --- packing, padding, the future -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rope", ["mixed", "plain", "placed"])
def test_packed_documents_are_as_if_alone(rope: str) -> None:
    model = make(rope=rope)
    one, two = sequences(model.config)
    packed = torch.cat([one, two])[None]
    documents = torch.tensor([[1] * len(one) + [2] * len(two)])
    with torch.no_grad():
        both = model(packed, document_ids=documents, labels=packed)
        alone = [model(x[None], labels=x[None]) for x in (one, two)]
    torch.testing.assert_close(both.logits[0, : len(one)], alone[0].logits[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both.logits[0, len(one) :], alone[1].logits[0], rtol=1e-4, atol=1e-5)
    # As many labels in each: the first token of a document is predicted by nobody.
    torch.testing.assert_close(both.loss, (alone[0].loss + alone[1].loss) / 2, rtol=1e-4, atol=1e-5)


def test_documents_attended_one_by_one_are_as_with_a_mask() -> None:
    """Eager attention masks the whole row; the other way looks at each document alone, padding too."""
    model = make(rope="mixed")
    one, two = sequences(model.config)
    packed = torch.cat([one, two, one.new_full((3,), PAD)])[None].repeat(2, 1)
    documents = torch.tensor([[1] * len(one) + [2] * len(two) + [0] * 3, [1] * (len(one) + len(two) + 3)])
    found = {}
    for how in ("eager", "sdpa"):
        model.set_attn_implementation(how)
        model.zero_grad()
        out = model(packed, document_ids=documents, labels=packed)
        out.loss.backward()
        found[how] = out.logits.detach(), model.model.layers[0].self_attn.q_proj.weight.grad.clone()
    for eager, sdpa in zip(*found.values(), strict=True):
        torch.testing.assert_close(sdpa, eager, rtol=1e-4, atol=1e-5)


def test_torn_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="stand together"):
        document_spans(torch.tensor([[1, 2, 1]]))


@pytest.mark.parametrize("rope", ["mixed", "plain", "placed"])
def test_padding_on_the_left_changes_nothing(rope: str) -> None:
    model = make(rope=rope, neighbours=rope == "placed")
    ids = sequences(model.config)
    if rope == "placed":  # words with places before and behind the picture
        v = model.config.vocabulary
        said = torch.tensor([[v.place(3), 9, v.place(1), 10]] * 2)
        ids = torch.cat([said, ids, said], dim=1)
    padded = torch.nn.functional.pad(ids, (5, 0), value=PAD)
    mask = (torch.arange(padded.shape[1]) >= 5).long().expand_as(padded)
    with torch.no_grad():
        a, b = model(ids).logits, model(padded, attention_mask=mask).logits
    torch.testing.assert_close(a, b[:, 5:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rope", ["mixed", "placed"])
def test_no_token_sees_a_later_one(rope: str) -> None:
    model = make(rope=rope, neighbours=rope == "placed")
    ids = sequences(model.config, 1)
    with torch.no_grad():
        before = model(ids).logits
        for place in range(1, ids.shape[1]):
            other = ids.clone()
            other[:, place:] = torch.randint(model.config.vocab_size, other[:, place:].shape)
            torch.testing.assert_close(model(other).logits[:, :place], before[:, :place], rtol=1e-5, atol=1e-5)


def test_the_cache_needs_positions() -> None:
    model = make()
    ids = sequences(model.config)
    cache = model(ids[:, :4], use_cache=True).past_key_values
    with pytest.raises(ValueError, match="position_ids"):
        model(ids[:, 4:], past_key_values=cache)
    positions = model.positions(ids)[..., 4:]
    with torch.no_grad():
        rest = model(ids[:, 4:], past_key_values=cache, position_ids=positions).logits
        torch.testing.assert_close(rest, model(ids).logits[:, 4:], rtol=1e-4, atol=1e-4)


def test_the_modality_embedding_begins_at_zero() -> None:
    model, other = make(), make(modality_embedding=False)
    assert not model.model.embed_modality.weight.any()
    other.load_state_dict({k: v for k, v in model.state_dict().items() if "modality" not in k})
    ids = sequences(model.config)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, other(ids).logits)
        model.model.embed_modality.weight[1] = 1
        assert not torch.allclose(model(ids).logits, other(ids).logits)


def test_what_adds_to_the_stream_begins_smaller_the_deeper_the_model() -> None:
    config = native_config(hidden_size=64, num_attention_heads=4, intermediate_size=256, num_hidden_layers=8)
    layer = NativeVLMForCausalLM(config).model.layers[0]
    for linear, scale in ((layer.self_attn.q_proj, 1), (layer.self_attn.o_proj, 0.25), (layer.mlp.fc2, 0.25)):
        assert float(linear.weight.detach().std()) == pytest.approx(scale * config.initializer_range, rel=0.1)


# --- loss -------------------------------------------------------------------------------------------------------------


def test_weights_of_the_modalities_and_the_z_loss() -> None:
    config = native_config(text_loss_weight=2.0, image_loss_weight=0.5, z_loss_weight=0.1)
    torch.manual_seed(0)
    logits, labels = torch.randn(5, config.vocab_size), torch.tensor([3, 30, -100, 40, 5])
    loss, figures = native_loss(logits, labels, config)
    error = torch.nn.functional.cross_entropy(logits, labels, reduction="none", ignore_index=-100)
    z = logits[[0, 1, 3, 4]].logsumexp(-1).square().mean()
    wanted = (2 * (error[0] + error[4]) + 0.5 * (error[1] + error[3])) / 5 + 0.1 * z
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(figures["text"], (error[0] + error[4]) / 2)
    torch.testing.assert_close(figures["image"], (error[1] + error[3]) / 2)
    nothing, _ = native_loss(logits, torch.full((5,), -100), config)
    assert float(nothing) == 0


def test_training_gives_the_same_loss_without_logits() -> None:
    model = make(z_loss_weight=0.1)
    ids = sequences(model.config)
    labels = ids.masked_fill(torch.arange(ids.shape[1]) < 7, -100)
    documents = torch.tensor([[1] * 9 + [2] * (ids.shape[1] - 9)] * 2)
    with torch.no_grad():
        plain = model(ids, labels=labels, document_ids=documents)
        trained = model.train()(ids, labels=labels, document_ids=documents)
    assert trained.logits is None and plain.logits is not None
    torch.testing.assert_close(trained.loss, plain.loss)
    torch.testing.assert_close(trained.losses, plain.losses)


@pytest.mark.parametrize("rows", [0, 1, 300])
def test_the_head_in_chunks_has_the_loss_and_the_gradients_of_the_plain_one(rows: int) -> None:
    config = native_config(image_loss_weight=0.5, text_loss_weight=2.0, z_loss_weight=0.1, logit_softcap=3.0)
    torch.manual_seed(0)
    weight = torch.randn(config.vocab_size, 16, requires_grad=True)
    hidden = torch.randn(rows, 16, requires_grad=True)
    labels = torch.randint(config.vocab_size, (rows,))
    found = []
    for way in ("chunks", "plain"):
        weight.grad = hidden.grad = None
        if way == "chunks":
            loss, figures = head_loss(hidden, weight, labels, config)
        else:
            loss, figures = native_loss(3 * torch.tanh(hidden @ weight.T / 3), labels, config)
        (2 * loss).backward()
        found.append((loss.detach(), figures, hidden.grad, weight.grad))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)
    assert rows == 0 or float(found[0][0]) > 1


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_placeholders_are_filled_with_the_codes_of_each_picture() -> None:
    model = make()
    v = model.config.vocabulary
    pixels = torch.rand(2, 1, 32, 24)
    sizes = torch.tensor([[2, 3], [1, 2]])
    ids = [[*v.placeholders(2, 3, IMAGE), 9], [9] * 8 + v.placeholders(1, 2, IMAGE)]
    assert len(ids[0]) == 14 and len(ids[1]) == 16
    batch = torch.tensor([[PAD] * 2 + ids[0], ids[1]])
    filled = model.fill_pictures(batch, pixels, sizes)
    first = model.image_vq.encode(pixels[:1])[0].numpy()
    second = model.image_vq.encode(pixels[1:, :, :16, :16])[0].numpy()
    assert filled[0].tolist() == [PAD, PAD, *v.write_grid(first), 9]
    assert filled[1].tolist() == [9] * 8 + v.write_grid(second)
    with torch.no_grad():
        a, b = model(batch, pixel_values=pixels, image_sizes=sizes).logits, model(filled).logits
    assert torch.equal(a, b)
    with pytest.raises(InputError, match="6 places for codes, the pictures give 8"):
        model.fill_pictures(batch[:1], pixels, sizes)
    with pytest.raises(InputError, match="image_sizes"):
        model.fill_pictures(batch, pixels, None)
    with pytest.raises(InputError, match="32 x 24 px has no 3 x 4 patches"):
        model.fill_pictures(batch, pixels, sizes + 1)


def test_a_random_model_draws_whole_pictures() -> None:
    model = make()
    prompts = torch.tensor([[BOS, USER, 9, END, ASSISTANT], [PAD, BOS, USER, END, ASSISTANT]])
    mask = (prompts != PAD).long()
    torch.manual_seed(0)
    grids = model.generate_images(prompts, mask, output_type="codes", do_sample=True)
    assert all(1 <= g.shape[0] <= 4 and 1 <= g.shape[1] <= 6 for g in grids)
    pictures = model.generate_images(prompts, mask, rows=2, columns=5)
    assert [p.size for p in pictures] == [(40, 32)] * 2 and pictures[0].mode == "L"
    drawn = model.generate_images(prompts, mask, rows=2, columns=5, output_type="codes", use_cache=False)
    again = model.generate_images(prompts, mask, rows=2, columns=5, output_type="codes")
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_what_can_not_be_drawn_is_told() -> None:
    model = make()
    v = model.config.vocabulary
    whole = v.write_grid(grid(2, 3))
    for ids, message in (
        ([BOS, *whole[:6], END], "unfinished"),
        ([BOS, whole[5], END], "none begins"),
        ([BOS, *whole[:4], whole[5], *whole[5:], END], "may not stand"),
    ):
        with pytest.raises(InputError, match=message):
            model.generate_images(torch.tensor([ids]))
    with pytest.raises(InputError, match="room"):
        model.generate_images(torch.full((1, 120), 9), rows=4, columns=6)
    with pytest.raises(InputError, match="unconditional_ids"):
        model.generate_images(torch.tensor([[BOS]]), guidance_scale=3.0)
    with pytest.raises(InputError, match="7 x 2"):
        model.generate_images(torch.tensor([[BOS]]), rows=7, columns=2)
    with pytest.raises(InputError, match="outside the codebook"):
        model.decode_pictures([torch.full((1, 1), 16)])


def test_guidance() -> None:
    """1 is no guidance, 0 is the other prompt alone; more moves away from it. The cache changes nothing."""
    model = make()
    prompt, free = torch.tensor([[BOS, USER, 9, 11, END, ASSISTANT]]), torch.tensor([[BOS, USER, END, ASSISTANT]])
    written = [*model.config.vocabulary.write_grid(grid(2, 2))[:5]]
    with torch.no_grad():
        for scale in (0.0, 1.0, 2.5):
            rule = GuidanceLogitsProcessor(model, 6, free, scale)
            for count in range(len(written)):  # token by token, as `generate` does
                new = torch.tensor([written[:count]], dtype=torch.long)
                whole = torch.cat([prompt, new], dim=1)
                asked = model(whole).logits[:, -1].log_softmax(-1)
                other = model(torch.cat([free, new], dim=1)).logits[:, -1].log_softmax(-1)
                found = rule(whole, model(whole).logits[:, -1]).log_softmax(-1)
                wanted = (other + scale * (asked - other)).log_softmax(-1)
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    pictures = model.generate_images(prompt, unconditional_ids=free, guidance_scale=3.0, rows=2, columns=2)
    assert pictures[0].size == (16, 32)
    with pytest.raises(InputError, match="beams"):
        model.generate_images(prompt, unconditional_ids=free, guidance_scale=3.0, num_beams=2, rows=2, columns=2)


# --- start from a language model --------------------------------------------------------------------------------------


def language_model(**changes: Any) -> NanoChatForCausalLM:
    torch.manual_seed(1)
    sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, vocab_size=24)
    return NanoChatForCausalLM(NanoChatConfig(**{**sizes, "num_key_value_heads": 2, **changes})).eval()


@pytest.mark.parametrize("rope", ["mixed", "plain", "placed"])
def test_text_is_what_the_language_model_says(rope: str) -> None:
    model, source = make(rope=rope), language_model()
    take_over_language_model(model, source)
    ids = torch.randint(24, (2, 9))
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits[..., :24], source(ids).logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match=r"hidden_size is 32.*48"):
        take_over_language_model(model, language_model(hidden_size=48))
    for changes, message in (
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, "rope_theta is 10000.0.*500"),
        ({"final_logit_softcapping": 30.0}, "logit_softcap is 15.0.*30"),
    ):
        with pytest.raises(InputError, match=message):
            take_over_language_model(model, language_model(**changes))


def test_only_new_rows_learn() -> None:
    model = make().train()
    freeze_all_but_new_rows(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ids = sequences(model.config)
    model(ids, labels=ids).loss.backward()
    torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.1, weight_decay=0.0).step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"model.embed_tokens.weight", "lm_head.weight", "model.embed_modality.weight"}
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(model.state_dict()[name][:24], before[name][:24])
