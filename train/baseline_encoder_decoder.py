"""A rival of ScoreVLM: a plain encoder-decoder that reads pictures and knows no text of its own.

The same tower and the same columns as ScoreVLM's connectors get; one projection; and GPT-2's decoder as transformers
keeps it, with attention to all columns in every layer, trained whole from nothing. It takes the same batches as
ScoreVLM and writes by the same call, so that what is compared is the way a picture comes into the text:

    model = EncoderDecoderReader(config_like(tower.config, text_config))
    loss = model(input_ids=…, pixel_values=…, widths=…, labels=…).loss
    ids = model.generate(input_ids=…, pixel_values=…, widths=…, max_new_tokens=200)
"""

from __future__ import annotations

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import AutoConfig, GPT2LMHeadModel, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions

from ..configuration.configuration_score_tower import ScoreTowerConfig
from ..configuration.configuration_score_vlm import sub_config
from ..modeling.modeling_score_tower import ScoreTowerModel
from ..modeling.tower_evidence import dense_evidence, evidence_size
from ..processing.multimodal_utils import count_image_tokens


@strict
class EncoderDecoderReaderConfig(PreTrainedConfig):
    """Tower and decoder.

    Args:
        vision_config: Configuration of the `score_tower`.
        decoder_config: Configuration of GPT-2; attention to the columns is added to it.
        tie_word_embeddings: Kept false, as NanoChat has it.
    """

    model_type = "encoder_decoder_reader"
    sub_configs = {"vision_config": AutoConfig, "decoder_config": AutoConfig}

    vision_config: dict | PreTrainedConfig | None = None
    decoder_config: dict | PreTrainedConfig | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs):
        vision = sub_config(self.vision_config, "score_tower")
        decoder: Any = sub_config(self.decoder_config, "gpt2")
        if not isinstance(vision, ScoreTowerConfig) or decoder.model_type != "gpt2":
            parts = f"{vision.model_type} and {decoder.model_type}"
            raise ValueError(f"the parts must be a score_tower and a gpt2, got {parts}")
        decoder.add_cross_attention, decoder.is_decoder, decoder.tie_word_embeddings = True, True, False
        self.vision_config, self.decoder_config = vision, decoder
        super().__post_init__(**kwargs)


AutoConfig.register("encoder_decoder_reader", EncoderDecoderReaderConfig, exist_ok=True)  # its tokenizer asks


def config_like(vision: ScoreTowerConfig, text: Any, positions: int = 1024) -> EncoderDecoderReaderConfig:
    """A decoder of the layers, width, heads and feed-forward of a language model.

    Args:
        vision: Of the tower.
        text: Configuration of the language model, such as NanoChat's.
        positions: Longest text, its prompt included, in tokens.
    """
    decoder = AutoConfig.for_model(
        "gpt2",
        vocab_size=text.vocab_size,
        n_positions=positions,
        n_embd=text.hidden_size,
        n_layer=text.num_hidden_layers,
        n_head=text.num_attention_heads,
        n_inner=text.intermediate_size,
        resid_pdrop=0.0,  # minutes of training see hardly a picture twice
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=text.bos_token_id,
        eos_token_id=text.eos_token_id,
        pad_token_id=text.pad_token_id,
    )
    return EncoderDecoderReaderConfig(vision_config=vision, decoder_config=decoder)


class EncoderDecoderReader(PreTrainedModel):
    """Tower, projection, decoder.

    ```
    pixel_values ─tower─▶ columns (B, T, D) + dense evidence ─projection─▶ (B, T, D') ──keys, values──┐
    input_ids ─▶ every layer of GPT-2's decoder: itself, then the columns, then the feed-forward ◀────┘ ─▶ logits
    ```
    """

    config_class = EncoderDecoderReaderConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: EncoderDecoderReaderConfig) -> None:
        super().__init__(config)
        vision: Any = config.vision_config
        decoder: Any = config.decoder_config
        self.vision_tower = ScoreTowerModel(vision)
        inputs = vision.hidden_size + evidence_size(vision)
        self.norm = nn.LayerNorm(inputs)
        self.projection = nn.Linear(inputs, decoder.hidden_size)
        self.decoder = GPT2LMHeadModel(decoder)
        self.decoder.loss_type = "ForCausalLM"  # transformers guesses it from names, and not from this one
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # Tower and decoder initialise themselves.
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, mean=0.0, std=0.02)
            init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    def encode(
        self, pixel_values: torch.Tensor, widths: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the decoder looks at.

        Args:
            pixel_values: `(B, 1, H, W)` in [0, 1], 1 = ink.
            widths: `(B,)` widths in pixels before padding.

        Returns:
            Projected columns `(B, T, D')`, and which of them show no padding, `(B, T)` int64.
        """
        out = self.vision_tower(pixel_values, widths=widths)
        evidence = dense_evidence(out.dense_logits).to(out.last_hidden_state.dtype)
        columns = self.projection(self.norm(torch.cat([out.last_hidden_state, evidence], dim=-1)))  # (B, T, D')
        seen = torch.ones(columns.shape[:2], dtype=torch.long, device=columns.device)
        if widths is not None:
            counts = [count_image_tokens(width, self.config.vision_config.column_px) for width in widths.tolist()]
            seen = (torch.arange(columns.shape[1]) < torch.tensor(counts)[:, None]).long().to(columns.device)
        return columns, seen

    def forward(
        self,
        input_ids: torch.LongTensor,
        pixel_values: torch.Tensor,
        widths: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithCrossAttentions:
        """One pass over whole texts.

        Args:
            input_ids: `(B, L)`, one row a picture.
            pixel_values: `(B, 1, H, W)`.
            widths: `(B,)`.
            attention_mask: `(B, L)`, 0 = padding.
            labels: `(B, L)`, -100 where nothing is learnt.

        Raises:
            ValueError: Texts and pictures differ in number.
        """
        self._check(input_ids, pixel_values)
        columns, seen = self.encode(pixel_values, widths)
        return self.decoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=columns,
            encoder_attention_mask=seen,
            labels=labels,
            **kwargs,
        )

    @torch.no_grad()
    def generate(
        self, input_ids: torch.LongTensor, pixel_values: torch.Tensor, widths: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        """Goes on from prompts `(B, L)`, padded on the left; the pictures are looked at once.

        Args:
            input_ids: `(B, L)`.
            pixel_values: `(B, 1, H, W)`.
            widths: `(B,)`.
            **kwargs: Of transformers' `generate`.
        """
        self._check(input_ids, pixel_values)
        columns, seen = self.encode(pixel_values, widths)
        return self.decoder.generate(
            input_ids=input_ids, encoder_hidden_states=columns, encoder_attention_mask=seen, **kwargs
        )

    def _check(self, input_ids: torch.Tensor, pixel_values: torch.Tensor) -> None:
        if input_ids.shape[0] != pixel_values.shape[0]:
            raise ValueError(f"{input_ids.shape[0]} texts, but {pixel_values.shape[0]} pictures; give one for each")


__all__ = ["EncoderDecoderReader", "EncoderDecoderReaderConfig", "config_like"]
