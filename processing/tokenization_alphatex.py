"""A small, fast and lossless tokenizer for canonical alphaTex.

    >>> tokenizer = AlphaTexTokenizer()
    >>> tokenizer.tokenize("\\\\staff {tabs}\\n3.3.8 |\\n")
    ['\\\\staffĠ{tabs}', '⏎', '♪3', '.3', '♩8', 'Ġ|⏎']

One beat of one note is three tokens: fret, string, duration. Anything that is not canonical alphaTex is spelled in
bytes, so every text comes back exactly. `alphatex_pieces` says what each token means.
"""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from .alphatex_pieces import PIECE_PATTERN, RESTORES, REWRITES, SPECIAL_TOKENS, Piece, canonical_pieces

CHAT_TEMPLATE = """{%- macro say(content) -%}\
{%- if content is string -%}{{ content }}{%- else -%}\
{%- for part in content -%}\
{%- if part['type'] == 'image' -%}{{ '<|image|>' }}{%- else -%}{{ part['text'] }}{%- endif -%}\
{%- endfor -%}{%- endif -%}{%- endmacro -%}\
{{- bos_token -}}\
{%- for message in messages -%}{{ '<|' + message['role'] + '|>' }}\
{%- if message['role'] == 'assistant' -%}\
{%- generation -%}{{ say(message['content']) + '<|end|>' }}{%- endgeneration -%}\
{%- else -%}{{ say(message['content']) + '<|end|>' }}{%- endif -%}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"""


def build_backend(vocab: dict[str, int] | None = None) -> Tokenizer:
    """The `tokenizers` object behind the tokenizer.

    Args:
        vocab: Spelling to id, when ids of an earlier version must stay; by default those of `canonical_pieces`.
    """
    if vocab is None:
        vocab = {piece: index for index, piece in enumerate(canonical_pieces())}
    # Without merges the model has two behaviours: a piece is a token as a whole, or it falls apart into letters.
    backend = Tokenizer(BPE(vocab=vocab, merges=[], ignore_merges=True))
    rewrites = [normalizers.Replace(Regex(pattern), content) for pattern, content in REWRITES]
    backend.normalizer = normalizers.Sequence([normalizers.ByteLevel(), *rewrites])
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE_PATTERN), behavior="isolated")
    restores = [decoders.Replace(pattern, content) for pattern, content in RESTORES]
    backend.decoder = decoders.Sequence([decoders.Fuse(), *restores, decoders.ByteLevel()])
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return backend


class AlphaTexTokenizer(PreTrainedTokenizerFast):
    """Tokenizer of canonical alphaTex, with chat tokens, `<|image|>` and a chat template.

    `<|bos|>` starts and `<|end|>` ends a text; neither is added unless the chat template or the caller writes it.
    """

    vocab_files_names = {"tokenizer_file": "tokenizer.json"}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(self, vocab: dict[str, int] | None = None, **kwargs: Any) -> None:
        kwargs.pop("merges", None)
        if kwargs.get("tokenizer_file") is None and kwargs.get("tokenizer_object") is None:
            kwargs.pop("tokenizer_file", None)
            kwargs["tokenizer_object"] = build_backend(vocab)
        kwargs.setdefault("pad_token", "<|pad|>")
        kwargs.setdefault("bos_token", "<|bos|>")
        kwargs.setdefault("eos_token", "<|end|>")
        kwargs.setdefault("chat_template", CHAT_TEMPLATE)
        kwargs.setdefault("clean_up_tokenization_spaces", False)
        kwargs.setdefault("padding_side", "left")
        kwargs.setdefault("extra_special_tokens", {"image_token": "<|image|>"})
        super().__init__(**kwargs)

    def pieces(self) -> dict[int, Piece]:
        """What each id says."""
        known = canonical_pieces()
        return {index: known[token] for token, index in self.get_vocab().items() if token in known}


__all__ = ["CHAT_TEMPLATE", "AlphaTexTokenizer", "build_backend"]
