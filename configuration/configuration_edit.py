"""Configuration of the model that understands edits."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class ScoreEditConfig(PreTrainedConfig):
    """A small encoder of characters that reads an instruction and says which steps it asks for.

    Args:
        vocab_size: Rows of the table of characters: padding, one that is not used, ASCII, hashed code points.
        hidden_size: Width.
        num_hidden_layers, num_attention_heads, intermediate_size: The transformer.
        conv_kernel: Characters that each of the two convolutions below it sees, odd.
        max_characters: Longest instruction.
        max_steps: Steps that an instruction can ask for.
        dropout: Dropout in the transformer and on the characters' features.
        text_size: Width of a text encoder's vectors of the instruction and its parts, which stand beside the
            characters; 0: none, and the characters are all it reads.
        text_places: Vectors of one instruction: the whole, then its parts.
        text_dropout: Part of the instructions whose vectors are hidden in training, so that characters do alone.
        operations: Names of the operations, in the order of their classes; class 0 of the head is "no further step".
        arguments: Names of the arguments, in the order of their classes.
        domains: Operation to the arguments it takes.
    """

    model_type = "score_edit"

    vocab_size: int = 8192
    hidden_size: int = 192
    num_hidden_layers: int = 4
    num_attention_heads: int = 6
    intermediate_size: int = 512
    conv_kernel: int = 5
    max_characters: int = 200
    max_steps: int = 3
    dropout: float | int = 0.1
    text_size: int = 0
    text_places: int = 5
    text_dropout: float | int = 0.2
    initializer_range: float = 0.02
    operations: list[str] | tuple[str, ...] = ()
    arguments: list[str] | tuple[str, ...] = ()
    domains: dict | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.operations, self.arguments = tuple(self.operations), tuple(self.arguments)
        self.domains = {name: list(domain) for name, domain in (self.domains or {}).items()}
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        if self.conv_kernel % 2 == 0:
            raise ValueError(f"conv_kernel is {self.conv_kernel}; it must be odd")
        if self.text_size < 0 or self.text_places < 1 or not 0 <= self.text_dropout <= 1:
            raise ValueError(
                f"text_size is {self.text_size}, text_places {self.text_places}, text_dropout {self.text_dropout}; "
                "at least 0, at least 1, and 0 to 1"
            )
        if self.vocab_size < 256:
            raise ValueError(f"vocab_size is {self.vocab_size}; it must be at least 256")
        strange = sorted(self.domains.keys() - set(self.operations))
        lost = sorted({a for domain in self.domains.values() for a in domain} - set(self.arguments))
        if strange or lost:
            raise ValueError(f"domains names what operations and arguments do not have: {', '.join(strange + lost)}")


__all__ = ["ScoreEditConfig"]
