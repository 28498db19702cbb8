"""How a NativeVLM takes pictures in and draws them."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from transformers import GenerationMixin

from ..processing.errors import InputError
from ..processing.grid_pictures import from_ink
from ..processing.native_grids import PictureLogitsProcessor
from .native_guidance import GuidanceLogitsProcessor


class NativeGenerationMixin(GenerationMixin):
    """The half of `NativeVLMForCausalLM` that deals with pictures; uses its `image_vq`, `config`, `whereabouts`."""

    config: Any
    image_vq: Any
    whereabouts: Any
    device: Any

    # --- Pictures -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode_picture(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Codes `(h, w)` of one picture `(1, H, W)`, which may hold no padding."""
        self.image_vq.eval()
        return self.image_vq.encode(pixel_values[None])[0]

    def fill_pictures(
        self, input_ids: torch.Tensor, pixel_values: torch.Tensor, image_sizes: torch.Tensor | None
    ) -> torch.LongTensor:
        """Ids `(B, T)` with the codes of the pictures in place of the placeholders, in order.

        Raises:
            InputError: The counts differ, or `image_sizes` is missing or larger than the pictures.
        """
        if image_sizes is None or len(image_sizes) != len(pixel_values):
            raise InputError(None, f"image_sizes must give rows and columns of each of {len(pixel_values)} pictures")
        config, v = self.config, self.config.vocabulary
        high, wide = config.vq_config.patch_height, config.vq_config.patch_width
        parts = []
        for picture, (rows, columns) in zip(pixel_values, image_sizes.tolist(), strict=True):
            if picture.shape[-2] < rows * high or picture.shape[-1] < columns * wide:
                size = f"{picture.shape[-2]} x {picture.shape[-1]} px"
                raise InputError(None, f"a picture of {size} has no {rows} x {columns} patches of {high} x {wide} px")
            codes = self.encode_picture(picture[:, : rows * high, : columns * wide])
            parts.append((codes.T if v.scan == "columns" else codes).flatten())
        found = torch.cat(parts) + v.first_code
        mask = input_ids == config.image_token_id
        if int(mask.sum()) != len(found):
            raise InputError(
                None, f"the text has {int(mask.sum())} places for codes, the pictures give {len(found)}; do not cut it"
            )
        return input_ids.masked_scatter(mask, found.to(input_ids.dtype))  # type: ignore[return-value]

    @torch.no_grad()
    def decode_pictures(self, codes: list[torch.Tensor]) -> list[Image.Image]:
        """Grey pictures of grids of codes `(h, w)`.

        Raises:
            InputError: A code outside the codebook.
        """
        self.image_vq.eval()
        inks = [self.image_vq.decode(grid[None].to(self.device))[0, 0] for grid in codes]
        return [Image.fromarray(from_ink(ink.float().cpu().numpy())) for ink in inks]

    # --- Generation ---------------------------------------------------------------------------------------------------

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.LongTensor,
        next_sequence_length: int | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> dict:
        """Adds positions and neighbours, which are read from the whole sequence, cache or not."""
        kwargs.pop("position_ids", None)
        kwargs.pop("neighbours", None)
        inputs = super().prepare_inputs_for_generation(
            input_ids, next_sequence_length=next_sequence_length, attention_mask=attention_mask, **kwargs
        )
        length = inputs["input_ids"].shape[1]
        return inputs | self.whereabouts(input_ids, attention_mask, length)

    def generate(self, inputs: torch.Tensor | None = None, **kwargs: Any) -> Any:
        """transformers' `generate`; pictures of the prompt are turned to codes first."""
        pixels, sizes = kwargs.pop("pixel_values", None), kwargs.pop("image_sizes", None)
        if pixels is not None:
            ids = inputs if inputs is not None else kwargs.pop("input_ids")
            inputs = self.fill_pictures(ids, pixels, sizes)
        return super().generate(inputs, **kwargs)

    @torch.no_grad()
    def generate_images(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        unconditional_ids: torch.Tensor | None = None,
        guidance_scale: float = 1.0,
        rows: int | None = None,
        columns: int | None = None,
        output_type: str = "pil",
        **kwargs: Any,
    ) -> Any:
        """Draws one picture after each prompt, as wide as the places that the prompt names ask for, or wider.

        Args:
            input_ids: `(B, T)`, padded on the left, whole pictures only.
            attention_mask: `(B, T)`.
            unconditional_ids: `(1 or B, U)` prompt that asks for any picture; needed with guidance.
            guidance_scale: See `GuidanceLogitsProcessor`; 1: no guidance.
            rows, columns: Size of the pictures in patches; by default the model chooses.
            output_type: `"pil"` for pictures, `"codes"` for tensors `(h, w)`.
            **kwargs: Of `generate`: `do_sample`, `temperature`, `top_k`, `pixel_values`, …

        Raises:
            InputError: A prompt with an unfinished picture, no room for a picture, guidance without its prompt.
        """
        v, pad = self.config.vocabulary, self.config.pad_token_id or 0
        if output_type not in ("pil", "codes"):
            raise InputError(None, f"output_type is {output_type!r}; use 'pil' or 'codes'")
        if kwargs.get("pixel_values") is not None:
            input_ids = self.fill_pictures(input_ids, kwargs.pop("pixel_values"), kwargs.pop("image_sizes", None))
        for ids in input_ids.tolist():
            v.spans(ids)
        length = input_ids.shape[1]
        longest = min(
            v.span(rows or v.max_rows, columns or v.max_columns), self.config.max_position_embeddings - length
        )
        least = [max(v.places_at_the_end(ids), default=0) + 1 for ids in input_ids.tolist()]
        sizes = {"max_length": length + longest, "rows": rows, "columns": columns}
        rules: list[Any] = [PictureLogitsProcessor(v, length, pad, least, **sizes)]
        if guidance_scale != 1:
            if unconditional_ids is None:
                raise InputError(None, "guidance needs unconditional_ids, the prompt that asks for any picture")
            rules.insert(0, GuidanceLogitsProcessor(self, length, unconditional_ids, guidance_scale))
        written = super().generate(
            input_ids,
            attention_mask=attention_mask,
            logits_processor=rules,
            max_new_tokens=longest,
            eos_token_id=v.eoi,
            pad_token_id=pad,
            **{"do_sample": False, **kwargs},
        )
        grids = []
        for ids in written[:, length:].tolist():
            grids.append(torch.from_numpy(v.read_grid(ids[: ids.index(v.eoi) + 1]).copy()))
        return grids if output_type == "codes" else self.decode_pictures(grids)


__all__ = ["NativeGenerationMixin"]
