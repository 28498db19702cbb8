"""What SummaryBridge is compared with: a soft prompt, plain regression, and flow matching from noise.

Regression and flow are the bridge's own network under other settings (`regression` and `noise_flow` of its
configuration). A soft prompt works from the input side: learned projections of the text stand before the first bar, and
the music model, frozen as for the bridge, is trained through.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..configuration.configuration_summary_bridge import (
    bridge_pinned,
    bridge_small,
    bridge_tiny,
    noise_flow,
    regression,
)
from ..modeling.bridge_layers import TextAttention
from ..modeling.bridge_statistics import BridgeStatistics
from ..processing.errors import InputError

#: Networks by the name of their method; `soft_prompt` is a model of its own.
METHODS: dict[str, Callable[..., Any]] = {
    "bridge": bridge_small, "pinned_bridge": bridge_pinned, "flow": noise_flow, "regression": regression,
    "tiny_bridge": bridge_tiny,
}  # fmt: skip


@dataclass(frozen=True)
class SoftPromptSizes:
    """Sizes of a soft prompt.

    Attributes:
        text_size: Width of the text's embeddings.
        music_size: Width of the music model.
        num_prompts: Words that stand before the first bar.
        hidden_size: Width inside; 384 gives about as many weights as the bridge has.
        num_heads: Heads with which the prompt looks at the text's words.
    """

    text_size: int
    music_size: int
    num_prompts: int = 16
    hidden_size: int = 384
    num_heads: int = 4


class SoftPrompt(nn.Module):
    """A prompt of learned projections of a text before the first bar of a frozen Museformer (as P-tuning,
    arXiv 2103.10385, with the text in place of a task).

    The prompt's words count as part of the first bar: bars at the fine distances see them, the others what those bars
    made of them. Museformer writes without a plan.

    Args:
        museformer: `MuseformerForCausalLM`; none of its weights learn, and it is not saved.
        sizes: See there.
    """

    def __init__(self, museformer: Any, sizes: SoftPromptSizes) -> None:
        super().__init__()
        if museformer.config.hidden_size != sizes.music_size:
            raise InputError(
                None, f"the prompt is {sizes.music_size} wide, the music model {museformer.config.hidden_size}"
            )
        self.sizes = sizes
        width = sizes.hidden_size
        self.statistics = BridgeStatistics(1, sizes.text_size)
        self.slots = nn.Parameter(torch.randn(sizes.num_prompts, width) * 0.02)
        self.from_pooled = nn.Linear(sizes.text_size, width)
        self.from_word = nn.Linear(sizes.text_size, width)
        self.norm1 = nn.LayerNorm(width)
        self.attention = TextAttention(width, sizes.num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norm3 = nn.LayerNorm(width)
        self.out = nn.Linear(width, sizes.music_size)
        nn.init.normal_(self.out.weight, std=0.002)
        nn.init.zeros_(self.out.bias)
        # In a tuple, so that it is no part of this module: not saved, not trained, not averaged.
        self._music = (museformer.eval().requires_grad_(False),)

    @property
    def museformer(self) -> Any:
        """The frozen music model."""
        return self._music[0]

    def prompts(self, text_embed: torch.Tensor, text_pooled: torch.Tensor, text_mask: torch.Tensor) -> torch.Tensor:
        """Prompts `(B, P, D)` of texts."""
        words = self.from_word(self.statistics.embed(text_embed))  # (B, L, W)
        pooled = self.from_pooled(self.statistics.pooled(text_pooled))[:, None]  # (B, 1, W)
        seen = torch.cat([pooled, words], dim=1)
        mask = torch.cat([torch.ones_like(text_mask[:, :1]), text_mask], dim=1).bool()[:, None, None]
        x = self.slots + pooled  # (B, P, W)
        x = x + self.attention(self.norm1(x), self.attention.hear(seen), mask)
        return self.out(self.norm3(x + self.mlp(self.norm2(x))))

    @contextmanager
    def in_place(self, prompts: torch.Tensor) -> Iterator[None]:
        """Puts prompts where the first padding words of each row stand, as long as the block lasts."""
        pad, count = self.museformer.config.pad_token_id, prompts.shape[1]

        def put(module: Any, inputs: Any, found: torch.Tensor) -> torch.Tensor:
            ids = inputs[0]
            if ids.ndim != 2:
                return found
            rank = (ids == pad).cumsum(1) - 1
            place = (ids == pad) & (rank < count)
            rows = prompts.expand(len(ids), -1, -1)  # one text for all rows, or one for each
            given = rows.gather(1, rank.clamp(0, count - 1)[..., None].expand(-1, -1, rows.shape[2]))
            return torch.where(place[..., None], given.to(found), found)

        handle = self.museformer.get_input_embeddings().register_forward_hook(put)
        try:
            yield
        finally:
            handle.remove()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        text_embed: torch.Tensor,
        text_pooled: torch.Tensor,
        text_mask: torch.Tensor,
        **kwargs: Any,
    ) -> Any:
        """Museformer's output for words `(B, T)` after the texts' prompts; its loss is that of the words."""
        prompts = self.prompts(text_embed, text_pooled, text_mask)
        shape = (len(input_ids), prompts.shape[1])
        pad = input_ids.new_full(shape, self.museformer.config.pad_token_id)
        ids = torch.cat([pad, input_ids], dim=1)
        mask = torch.cat([torch.ones_like(pad), attention_mask], dim=1)
        wanted = torch.cat([torch.full_like(pad, -100), labels], dim=1)
        self.museformer.to(prompts.device)
        with self.in_place(prompts):
            return self.museformer(input_ids=ids, attention_mask=mask, labels=wanted, plan=False)

    @torch.inference_mode()
    def write(
        self,
        text: dict[str, torch.Tensor],
        num_bars: int,
        num_samples: int = 1,
        grammar: Any = None,
        temperature: float = 1.0,
        max_bar_tokens: int = 256,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Pieces for one text.

        Args:
            text: Its `text_embed` `(1, L, T)`, `text_pooled` and `text_mask`.
            num_bars: Bars.
            num_samples: Pieces, S.
            grammar: As `MuseformerForCausalLM.write` takes it.
            temperature: Divides the logits.
            max_bar_tokens: Words after which a bar must end.
            generator: Of random numbers.

        Returns:
            `(S, T)` words, the prompt left out.
        """
        music, config = self.museformer, self.museformer.config
        prompts = self.prompts(**text)
        pad = torch.full((num_samples, prompts.shape[1]), config.pad_token_id, device=prompts.device)
        words = pad.new_full((num_samples,), config.bar_token_id)
        ids = torch.cat([pad, words[:, None]], dim=1)
        rules = None if grammar is None else grammar(
            num_samples, num_bars, max_bar_tokens=max_bar_tokens, device=prompts.device
        )  # fmt: skip
        bars, done = torch.ones_like(words), torch.zeros_like(words, dtype=torch.bool)
        found = [words]
        with self.in_place(prompts):
            out = music(
                input_ids=ids, attention_mask=torch.ones_like(ids), plan=False, use_cache=True, logits_to_keep=1
            )
            for _ in range(num_bars * (max_bar_tokens + 1)):
                if rules is not None:
                    rules.advance(words)
                logits = out.logits[:, -1].float()
                logits = logits if rules is None else rules.constrain(logits)
                words = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
                over = (words == config.bar_token_id) & (bars >= num_bars)
                words = torch.where(done, config.pad_token_id, torch.where(over, config.eos_token_id, words))
                bars += words == config.bar_token_id
                found.append(words)
                done |= words == config.eos_token_id
                if bool(done.all()):
                    break
                out = music(input_ids=words[:, None], past_key_values=out.past_key_values, use_cache=True)
        return torch.stack(found, dim=1)

    def save_pretrained(self, directory: str | Path, **kwargs: Any) -> None:
        """Writes the prompt's own weights, and its sizes; not the music model."""
        from safetensors.torch import save_file

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous().cpu() for name, value in self.state_dict().items()}
        save_file(weights, directory / "soft_prompt.safetensors")
        (directory / "soft_prompt.json").write_text(json.dumps(asdict(self.sizes), indent=1), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, directory: str | Path, museformer: Any) -> SoftPrompt:
        """Reads what `save_pretrained` wrote.

        Raises:
            InputError: It is not there, or belongs to another music model.
        """
        from safetensors.torch import load_file

        directory = Path(directory)
        try:
            sizes = SoftPromptSizes(**json.loads((directory / "soft_prompt.json").read_text(encoding="utf-8")))
            weights = load_file(directory / "soft_prompt.safetensors")
        except (OSError, ValueError, TypeError) as error:
            raise InputError(directory, "holds no soft prompt; train one with --method soft_prompt") from error
        model = cls(museformer, sizes)
        model.load_state_dict(weights)
        return model.eval()


__all__ = ["METHODS", "SoftPrompt", "SoftPromptSizes"]
