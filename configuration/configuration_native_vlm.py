"""Configuration of NativeVLM, and its presets."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ..processing.native_vocabulary import NativeVocabulary
from .configuration_image_vq import ImageVQConfig


@strict
class NativeVLMConfig(PreTrainedConfig):
    """One transformer over text and picture codes.

    The layers are those of NanoChat (norms without weights, squared ReLU), so that a language model trained on
    alphaTex can be taken over; see `take_over_language_model`.

    Args:
        vq_config: Configuration of the picture tokenizer, an `ImageVQConfig`.
        text_vocab_size: Ids of the text tokenizer; they come first.
        max_rows, max_columns: Largest picture, in patches; one id for each number.
        scan: Whether a line of codes is a column or a row of the picture.
        vocab_size: All ids; follows from the others, and is refused where it does not.
        hidden_size, intermediate_size, num_hidden_layers, num_attention_heads: Of the transformer.
        rope: `"plain"`: tokens are counted; `"mixed"`: text is counted, codes lie at (row, column), and the frequencies
            of a head turn in turn with time, row and column (as MRoPE of Qwen2-VL, arXiv 2409.12191, section 2.1, but
            interleaved, so that each axis has fast and slow ones); `"placed"`: all pictures lie in one plane, text may
            say before each beat in which column it is drawn, and then lies there too (see `native_places`).
        rope_theta: Longest wavelength / 2π.
        modality_embedding: Add one learnt vector to all text, another to all picture tokens. Both begin at zero.
        query_gain: Each head learns how sharply it looks: queries are multiplied by a number that begins at one. With
            `qk_norm` alone no score is larger than the root of the head's width.
        neighbours: Codes are told what stands beside them in their picture (see `native_neighbours`).
        qk_norm: Norm on queries and keys (Chameleon, arXiv 2405.09818, section 2.3.1).
        logit_softcap: Logits are bent towards ± this; `None`: they are not.
        z_loss_weight: Of the squared log of the softmax's denominator (PaLM, arXiv 2204.02311, section 5).
        text_loss_weight, image_loss_weight: What a label of either kind counts in the loss.
        dropout: After attention and feed-forward.
        max_position_embeddings: Longest sequence that generation fills.
    """

    model_type = "native_vlm"
    sub_configs = {"vq_config": ImageVQConfig}
    keys_to_ignore_at_inference = ["past_key_values"]

    vq_config: dict | PreTrainedConfig | None = None
    text_vocab_size: int = 1024
    max_rows: int = 16
    max_columns: int = 128
    scan: Literal["columns", "rows"] = "columns"
    vocab_size: int | None = None
    hidden_size: int = 256
    intermediate_size: int = 1024
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    rope: Literal["plain", "mixed", "placed"] = "mixed"
    rope_theta: float | int = 10_000.0
    modality_embedding: bool = True
    qk_norm: bool = True
    query_gain: bool = False
    neighbours: bool = False
    rms_norm_eps: float = 1e-6
    logit_softcap: float | int | None = 15.0
    z_loss_weight: float | int = 1e-4
    text_loss_weight: float | int = 1.0
    image_loss_weight: float | int = 1.0
    dropout: float | int = 0.0
    initializer_range: float | int = 0.02
    max_position_embeddings: int = 2048
    tie_word_embeddings: bool = False
    use_cache: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    image_token_id: int = 6

    def __post_init__(self, **kwargs):
        if not isinstance(self.vq_config, PreTrainedConfig):
            options = {key: value for key, value in (self.vq_config or {}).items() if key != "model_type"}
            self.vq_config = ImageVQConfig(**options)
        super().__post_init__(**kwargs)
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is not an even multiple of num_attention_heads "
                f"{self.num_attention_heads}"
            )
        for name in ("text_vocab_size", "max_rows", "max_columns", "num_hidden_layers", "max_position_embeddings"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.image_token_id < self.text_vocab_size:
            raise ValueError(f"image_token_id {self.image_token_id} lies outside the text's {self.text_vocab_size} ids")
        size = self.vocabulary.size
        if self.vocab_size is None:
            self.vocab_size = size
        if self.vocab_size != size:
            raise ValueError(f"vocab_size is {self.vocab_size}, but text, sizes and codes make {size}")
        for name in ("z_loss_weight", "text_loss_weight", "image_loss_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it can not be below 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1)")
        if self.logit_softcap is not None and self.logit_softcap <= 0:
            raise ValueError(f"logit_softcap is {self.logit_softcap}; it must be above 0, or None")

    @property
    def vocabulary(self) -> NativeVocabulary:
        """What each id means."""
        codes: int = self.vq_config.codebook_size  # type: ignore[union-attr, assignment] # a config by now
        return NativeVocabulary(self.text_vocab_size, codes, self.max_rows, self.max_columns, self.scan)


def native_vlm_tiny(**changes: Any) -> NativeVLMConfig:
    """For tries."""
    settings: dict[str, Any] = dict(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=1024
    )
    return NativeVLMConfig(**{**settings, **changes})


def native_vlm_small(**changes: Any) -> NativeVLMConfig:
    """As wide and deep as the language model of ScoreVLM, whose weights it can take over."""
    settings: dict[str, Any] = dict(hidden_size=192, intermediate_size=768, num_hidden_layers=4, num_attention_heads=6)
    return NativeVLMConfig(**{**settings, **changes})


def native_vlm_base(**changes: Any) -> NativeVLMConfig:
    """The default: about 6 million parameters without the picture tokenizer."""
    return NativeVLMConfig(**changes)


PRESETS = {"tiny": native_vlm_tiny, "small": native_vlm_small, "base": native_vlm_base}

__all__ = ["NativeVLMConfig"]
