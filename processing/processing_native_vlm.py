"""NativeVLM's processor: pictures and text in, ids out, and parts of text and picture back."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .alphatex_constraints import SLACK_TOKENS
from .errors import InputError
from .grid_pictures import GridGeometry, grid_to_canvas, stack_pictures, system_to_grid
from .image_processing_score import flat_list
from .native_choosing import draw_prompts
from .native_decoding import NativeLogitsProcessor
from .native_places import drawing_prompt
from .native_reading import read_prompts
from .native_settings import GUIDANCE, NUM_BEAMS, TRIES
from .native_vocabulary import NativeVocabulary
from .picture_files import load_pictures

Part = str | np.ndarray


class NativeVLMProcessor(ProcessorMixin):
    """Joins the image processor and the tokenizer, and knows how pictures are written into a sequence.

    Args:
        image_processor: `ScoreImageProcessor`, which finds the system in a picture.
        tokenizer: `AlphaTexTokenizer`.
        image_vocab_size: Codes of the picture tokenizer; as in the model's configuration, like all that follow.
        max_rows, max_columns: Largest picture in patches.
        scan: Whether a line of codes is a column or a row.
        patch_height, patch_width: Pixels of a patch.
        max_length: Tokens that fit into the model's window.
        places: Whether text says where its beats are drawn (`rope="placed"`); see `native_places`.
        chat_template: How turns are written; the tokenizer's own when left out.
    """

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        image_vocab_size=2048,
        max_rows=16,
        max_columns=128,
        scan="columns",
        patch_height=16,
        patch_width=8,
        max_length=2048,
        places=False,
        chat_template=None,
        **kwargs,
    ):
        self.image_vocab_size, self.max_rows, self.max_columns = image_vocab_size, max_rows, max_columns
        self.scan, self.places = scan, places
        self.patch_height, self.patch_width, self.max_length = patch_height, patch_width, max_length
        self.image_token = "<|image|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template or tokenizer.chat_template)

    @classmethod
    def for_model(cls, config: Any, image_processor: Any, tokenizer: Any) -> NativeVLMProcessor:
        """The processor that fits a `NativeVLMConfig`."""
        vq = config.vq_config
        names = ("max_rows", "max_columns", "scan")
        return cls(
            image_processor,
            tokenizer,
            image_vocab_size=vq.codebook_size,
            patch_height=vq.patch_height,
            patch_width=vq.patch_width,
            max_length=config.max_position_embeddings,
            places=config.rope == "placed",
            **{name: getattr(config, name) for name in names},
        )

    @property
    def vocabulary(self) -> NativeVocabulary:
        """What each id means."""
        sizes = self.image_vocab_size, self.max_rows, self.max_columns
        return NativeVocabulary(len(self.tokenizer), *sizes, self.scan)

    @property
    def geometry(self) -> GridGeometry:
        """How pictures are cut."""
        return GridGeometry(self.patch_height, self.patch_width)

    # --- in

    def grid_picture(self, image: Any, name: str | None = None) -> np.ndarray:
        """A picture of one system, cut and scaled to patches: uint8 with white = 255.

        Raises:
            InputError: It shows no system, or too long a one.
        """
        picture = system_to_grid(self.image_processor, image, self.geometry, name)
        self.vocabulary.check_size(*self.geometry.size(picture))
        return picture

    def __call__(
        self, images: Any = None, text: Any = None, return_tensors: str | None = "pt", **kwargs: Any
    ) -> BatchFeature:
        """Prepares pictures and texts.

        Args:
            images: One picture of a system, or a list; PIL pictures, arrays, paths.
            text: One text or a list; each `<|image|>` stands for one picture, in order. Left out, every picture gets
                the turn that asks to read it.
            return_tensors: `"pt"`, or `None` for lists.
            **kwargs: Not used.

        Returns:
            `input_ids` and `attention_mask` `(B, T)`, padded on the left; with pictures `pixel_values`
            `(P, 1, H, W)` and `image_sizes` `(P, 2)`, rows and columns of patches.

        Raises:
            InputError: More or fewer `<|image|>` than pictures, a picture that shows no system, or a text that does
                not fit into the window.
        """
        given = [] if images is None else [self._opened(image) for image in flat_list(images)]
        pictures = [self.grid_picture(image) for image in given]
        if text is None:
            text = [self.read_prompt()] * len(pictures)
        texts = [text] if isinstance(text, str) else list(text)
        asked = sum(one.count(self.image_token) for one in texts)
        if asked != len(pictures):
            raise InputError(
                None,
                f"the text has {asked} {self.image_token}, but there are {len(pictures)} pictures; write one for each",
            )
        sizes = [self.geometry.size(picture) for picture in pictures]
        left = iter(sizes)
        rows = [self._ids(one, left) for one in texts]
        length = max(map(len, rows), default=0)
        pad = self.tokenizer.pad_token_id
        data: dict[str, Any] = {
            "input_ids": [[pad] * (length - len(row)) + row for row in rows],
            "attention_mask": [[0] * (length - len(row)) + [1] * len(row) for row in rows],
        }
        if pictures:
            data |= {"pixel_values": stack_pictures(pictures), "image_sizes": np.array(sizes)}
        return BatchFeature(data, tensor_type=return_tensors)

    def _opened(self, image: Any) -> Any:
        """A picture of a path or an address; others stay as they are."""
        if not isinstance(image, (str, PathLike)):
            return image
        if isinstance(image, str) and image.startswith(("http://", "https://", "data:")):
            return self.image_processor.fetch_images(image)
        pages = list(load_pictures(image))
        if len(pages) != 1:
            raise InputError(image, f"holds {len(pages)} pages or pictures; give one")
        return pages[0].image

    def _ids(self, text: str, sizes: Any) -> list[int]:
        """Ids of one text, with placeholders for the codes of its pictures."""
        ids: list[int] = []
        for index, part in enumerate(text.split(self.image_token)):
            if index:
                rows, columns = next(sizes)
                ids += self.vocabulary.placeholders(rows, columns, self.image_token_id)
            ids += self.tokenizer.encode(part, add_special_tokens=False)
        self.check_length(len(ids))
        return ids

    def check_length(self, length: int, name: str | None = None) -> None:
        """Raises where a sequence does not fit into the model's window."""
        if length > self.max_length:
            raise InputError(
                name, f"is {length} tokens long, the model's window is {self.max_length}; give fewer bars at a time"
            )

    def encode_parts(self, parts: Sequence[Part]) -> list[int]:
        """Ids of texts and grids of codes `(h, w)`, one behind the other."""
        ids: list[int] = []
        for part in parts:
            if isinstance(part, str):
                ids += self.tokenizer.encode(part, add_special_tokens=False)
            else:
                ids += self.vocabulary.write_grid(part)
        return ids

    # --- prompts

    def prompt(self, content: Sequence[dict[str, str]]) -> str:
        """A turn of the user, and the beginning of the answer."""
        turns = [{"role": "user", "content": list(content)}]
        return self.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    def read_prompt(self) -> str:
        """The turn that asks to read one picture."""
        return self.prompt([{"type": "image"}])

    def draw_prompt(self, alphatex: str) -> str:
        """The turn that asks to draw a text; an empty one asks for any picture."""
        return self.prompt([{"type": "text", "text": alphatex}])

    def unconditional_ids(self) -> torch.Tensor:
        """`(1, U)`, the prompt without a condition, for `generate_images`."""
        return torch.tensor([self.tokenizer.encode(self.draw_prompt(""), add_special_tokens=False)])

    # --- with a model

    def read(self, model: Any, images: Any) -> list[str]:
        """Reads pictures, bound to the grammar.

        Args:
            model: `NativeVLMForCausalLM`.
            images: One picture of a system, or a list.

        Returns:
            Canonical alphaTex, one text a picture.

        Raises:
            InputError: A picture shows no system, or too long a one.
        """
        return [self.read_one(model, image)[0] for image in flat_list(images)]

    def read_one(self, model: Any, image: Any) -> tuple[str, bool]:
        """As `read`, of one picture; and whether the text is whole: it is closed early where the window ends."""
        inputs = self(images=[image]).to(model.device)
        asked = inputs["input_ids"].shape[1]
        if self.max_length - asked < SLACK_TOKENS:
            raise InputError(
                None,
                f"the picture takes {asked} tokens of the model's window of {self.max_length}, too few are left for "
                "its text; give fewer bars at a time",
            )
        return read_prompts(model, self, max_length=self.max_length, num_beams=NUM_BEAMS, **inputs)[0]

    def draw(
        self, model: Any, text: str, guidance_scale: float = GUIDANCE, tries: int = TRIES, **options: Any
    ) -> Image.Image:
        """Draws a text of one system (two bars are what it has learnt).

        Args:
            model: `NativeVLMForCausalLM`.
            text: AlphaTex.
            guidance_scale: How closely the text is followed; 1 is as learnt, and takes half the time.
            tries: Drawings at most, of which the one that the model reads best is taken; see `draw_prompts`.
            **options: Of `generate_images`, such as `do_sample=True`.

        Raises:
            AlphaTexError: It is not alphaTex.
            InputError: It does not fit into the window.
        """
        prompt = drawing_prompt(model, self, text)[0].tolist()
        return model.decode_pictures(draw_prompts(model, self, [prompt], guidance_scale, tries, **options))[0]

    # --- out

    def parts(self, ids: Sequence[int]) -> list[Part]:
        """Texts and grids of codes of a sequence, special tokens left out.

        Raises:
            InputError: A picture is unfinished or broken.
        """
        ids = [int(token) for token in ids]
        found: list[Part] = []
        last = 0
        for begin, end in [*self.vocabulary.spans(ids), (len(ids), len(ids))]:
            spelt = [token for token in ids[last:begin] if token < self.vocabulary.text_size]
            if text := self.tokenizer.decode(spelt, skip_special_tokens=True):
                found.append(text)
            if begin < end:
                found.append(self.vocabulary.read_grid(ids[begin:end]))
            last = end
        return found

    def logits_processor(self, **options: Any) -> NativeLogitsProcessor:
        """The rules of `NativeLogitsProcessor` for this vocabulary."""
        return NativeLogitsProcessor(self.vocabulary, self.tokenizer, places=self.places, **options)

    def to_canvas(self, picture: Image.Image, has_score: bool | None = None) -> np.ndarray:
        """A drawn picture on the canvas that ScoreVLM reads; see `grid_to_canvas`."""
        return grid_to_canvas(np.asarray(picture.convert("L")), self.geometry, has_score)


__all__ = ["NativeVLMProcessor"]
