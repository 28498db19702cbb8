"""ScoreVLM's processor: pictures and text in, tensors out, and text back."""

from __future__ import annotations

from typing import Any

from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import MultiModalData, ProcessorMixin

from .errors import InputError
from .image_processing_score import flat_list
from .multimodal_utils import count_image_tokens

NOT_FOR_THE_MODEL = ("string_count", "has_score")


def _with_channels(image: Any) -> Any:
    """Gives a grey array `(H, W)` the axis of channels that transformers looks for."""
    return image[None] if getattr(image, "ndim", 3) == 2 else image


class ScoreVLMProcessor(ProcessorMixin):
    """Joins the image processor and the tokenizer, and writes one `<|image|>` for each column of a picture.

    Args:
        image_processor: `ScoreImageProcessor`.
        tokenizer: `AlphaTexTokenizer`.
        image_column_px: Pixels of the canvas behind one image token; as in the model's configuration.
        chat_template: How turns are written; the tokenizer's own when left out.
    """

    def __init__(self, image_processor=None, tokenizer=None, image_column_px=8, chat_template=None, **kwargs):
        self.image_column_px = image_column_px
        self.image_token = "<|image|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template or tokenizer.chat_template)

    def __call__(self, images: Any = None, text: Any = None, **kwargs: Any) -> BatchFeature:
        """Prepares pictures and texts.

        Args:
            images: One picture of a system, or a list; PIL pictures or arrays.
            text: One text or a list; each `<|image|>` stands for one picture, in order. Left out, every picture gets
                the turn that asks to read it.
            **kwargs: Of the image processor and the tokenizer, `return_tensors` among them.

        Returns:
            `input_ids` and `attention_mask` `(B, L)`; with pictures `pixel_values` `(P, 1, H, W)`, `widths` `(P,)`.

        Raises:
            InputError: The text has more or fewer `<|image|>` than there are pictures, or a picture shows no system.
        """
        if images is not None:
            images = [_with_channels(image) for image in flat_list(images)]
        if images is not None and text is None:
            text = [self.read_prompt()] * len(images)
        if text is not None:
            self._check_counts([text] if isinstance(text, str) else text, len(images or []))
        if "text_kwargs" not in kwargs:
            # Systems differ in width, so their prompts in length.
            kwargs.setdefault("padding", self.tokenizer.init_kwargs.get("padding", True))
        return super().__call__(images=images, text=text, **kwargs)

    def _check_counts(self, texts: list[str], pictures: int) -> None:
        """Older versions of transformers end in a bare `StopIteration` here."""
        asked = sum(text.count(self.image_token) for text in texts)
        if asked != pictures:
            raise InputError(
                None, f"the text has {asked} {self.image_token}, but there are {pictures} pictures; write one for each"
            )

    @property
    def unused_input_names(self) -> list[str]:
        """What the image processor says about a picture and the model does not take."""
        return list(NOT_FOR_THE_MODEL)

    def read_prompt(self) -> str:
        """The turn that asks to read one picture."""
        turns = [{"role": "user", "content": [{"type": "image"}]}]
        return self.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    def read(self, model: Any, images: Any, **switches: Any) -> list[str]:
        """Reads pictures as well as the model can: bound to the grammar, by dense evidence, in several looks that vote.

        `generate` alone writes what the language model thinks, and reads far worse.

        Args:
            model: `ScoreVLMForConditionalGeneration` in float32.
            images: One picture of a system, or a list; of a page, its largest system is read.
            **switches: Of `SystemReader`, such as `views=1` for one look.

        Returns:
            Canonical alphaTex, one text a picture.

        Raises:
            InputError: A picture shows no system.
        """
        from .system_reader import SystemReader

        reader = SystemReader(model, self, **switches)
        return [reading.text for reading in reader.read_batch(list(flat_list(images)))]

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs: Any) -> str:
        """The placeholders of one picture."""
        width = int(image_inputs["widths"][image_idx])
        return self.image_token * count_image_tokens(width, self.image_column_px)

    def _get_num_multimodal_tokens(self, image_sizes: Any = None, **kwargs: Any) -> MultiModalData:
        if image_sizes is None:
            return MultiModalData()
        counts = [count_image_tokens(width, self.image_column_px) for _, width in image_sizes]
        return MultiModalData(num_image_tokens=counts, num_image_patches=[1] * len(counts))


__all__ = ["ScoreVLMProcessor"]
