"""What a text wants of music, and plans that are moved until they have it.

A bridge's plans follow their text only roughly: of wishes stated plainly a quarter was lost, of images never trained on
nearly all, though the texts' vectors know more. But what music measures is nearly a straight line of its mean summary,
so a plan can be moved to what was wished in closed form. Wishes are read in two ways: a small network reads what is
stated; a kernel ridge over the images of the lexicon, which alone holds for images never heard of, reads what a picture
suggests. How much of a picture a text is decides between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .bridge_layers import TextTriple
from .bridge_statistics import BridgeStatistics
from .museformer_measures import CENTRES, MEASURES, SPREADS

#: Attributes that are wished for, as `music_wishes.SIDED`; the last one is found by pitch classes, not by a line.
WISHES = ("tempo", "density", "register", "dynamics", "sustain", "leaps", "mode")
NUM_KEYS = 12
#: From this part on a text counts as a picture, and up to `MOSTLY` its stated wishes are heard, too.
SOMEWHAT, MOSTLY = 0.3, 0.65
#: How far a picture moves an attribute, in quartiles from the median: beyond the first, for Museformer plays plans with
#: some freedom, and what is moved to the quartile alone ends on the other side more often.
BEYOND = 1.6
#: Farthest that an attribute is moved, in quartiles.
FARTHEST = 4.0
_FIRST_CLASS = MEASURES.index("pitch_class_0")


@dataclass
class Wishes:
    """What texts want, of B texts.

    Attributes:
        stated: Bool `(B, 7)`, wishes that are stated.
        values: `(B, 7)` where they want the music to be, in the units of the line; major is above 0.
        tonic: `(B,)` pitch class 0 … 11 of a key that is named, −1 for none.
        pictured: `(B, 7)` sides that a picture suggests, −1 … 1: at the quartile; 0 where nothing is.
    """

    stated: torch.Tensor
    values: torch.Tensor
    tonic: torch.Tensor
    pictured: torch.Tensor


class PictureSides(nn.Module):
    """What a picture in words suggests, by those that are known and stand near it: a kernel over a text's space.

    Args:
        text_size: T, width of the text's embedding.
        num_images: M, texts of images that it compares with.

    Attributes:
        centres: `(M, T)` texts of images, less `middle` and times `spread` `(T, T)`, in widths of the kernel.
        suggests: `(M, 7)` what each adds to the sides of texts beside it.
    """

    def __init__(self, text_size: int, num_images: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(num_images, text_size))
        self.register_buffer("middle", torch.zeros(text_size))
        self.register_buffer("spread", torch.eye(text_size))
        self.register_buffer("suggests", torch.zeros(num_images, len(WISHES)))
        self._kept: tuple[torch.Tensor, int, torch.Tensor] | None = None

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Sides `(B, 7)` of texts `(B, T)`, not yet cut off at −1 and 1."""
        seen = (pooled.float() - self.middle.float()) @ self.spread.float()
        apart = (seen**2).sum(1, keepdim=True) + self._lengths() - 2 * seen @ self.centres.float().T
        return torch.exp(-apart.clamp(min=0) / 2) @ self.suggests.float()

    def _lengths(self) -> torch.Tensor:
        """Squared lengths `(M,)` of the centres; of few texts they take half of the time, so they are kept."""
        centres = self.centres
        if centres.is_inference():  # these do not count their changes
            return torch.linalg.vector_norm(centres.float(), dim=1) ** 2
        if self._kept is None or self._kept[0] is not centres or self._kept[1] != centres._version:
            self._kept = (centres, centres._version, torch.linalg.vector_norm(centres.float(), dim=1) ** 2)
        return self._kept[2]


class TextWishes(nn.Module):
    """Reads wishes and moves plans. It is fitted after the bridge (`train.summary_bridge_wishes`), which it leaves.

    Args:
        text_size: T, width of the text's embeddings.
        summary_size: Z, the first numbers of which are `museformer_measures.MEASURES`.
        hidden_size: Width of the network that reads what is stated.
        num_images: Texts of images that pictures are compared with.
        second_size: Width of another text encoder's embedding, in which they are compared, too; 0: there is none.

    Attributes:
        pictures, second: What pictures suggest, by either encoder.
        gate: `(T + 1,)` line to how much of a picture a text is.
        probe: `(Z + 1, 6)` from a mean plan and 1 to attributes.
        moves: `(6, Z)` the most usual way to change each by 1 and no other.
        quartiles: `(6, 3)` of the attributes in the line's units.
        profiles: `(2, 12)` shares of pitch classes in C major and in C minor.
    """

    def __init__(
        self, text_size: int, summary_size: int, hidden_size: int, num_images: int, second_size: int = 0
    ) -> None:
        super().__init__()
        self.sizes = (text_size, summary_size)
        self.pictures = PictureSides(text_size, num_images)
        self.second = PictureSides(second_size, num_images) if second_size else None
        words = max(hidden_size * 5 // 8, 1)
        self.word = nn.Linear(text_size, words)
        self.fc1 = nn.Linear(text_size + 2 * words, hidden_size)
        self.fc2 = nn.Linear(hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, 2 * len(WISHES) + 1 + NUM_KEYS)
        self.out.initial_scale = 0.0  # type: ignore[assignment] # a new one says nothing
        for name, value in self.defaults().items():
            self.register_buffer(name, value)
        self.requires_grad_(False)

    @classmethod
    def of(cls, config: Any) -> TextWishes | None:
        """As a configuration wants it; `None` where its `wish_size` is 0."""
        sizes = (config.text_size, config.summary_size, config.wish_size, config.wish_images)
        return cls(*sizes, config.second_text_size) if config.wish_size else None

    def defaults(self) -> dict[str, torch.Tensor]:
        """Buffers of a reader that hears no picture and moves nothing."""
        t, z = self.sizes
        lines = len(WISHES) - 1
        return {
            "gate": torch.zeros(t + 1),
            "probe": torch.zeros(z + 1, lines), "moves": torch.zeros(lines, z),
            "quartiles": torch.tensor([-1.0, 0.0, 1.0]).repeat(lines, 1),
            "profiles": torch.full((2, NUM_KEYS), 1 / NUM_KEYS),
        }  # fmt: skip

    # --- Reading ------------------------------------------------------------------------------------------------------

    def read(self, embed: torch.Tensor, pooled: torch.Tensor, mask: torch.Tensor, dropout: float = 0.0) -> torch.Tensor:
        """What is stated, of `(B, L, T)`, `(B, T)` around 0 and `(B, L)`: float32 `(B, 7 + 7 + 13)`.

        Log odds that each attribute is stated, values, and log chances of no key and of the 12 tonics. Numbers and
        keys are single words, so each word goes through a layer of its own before they are put together.
        """
        dtype = self.word.weight.dtype
        words = F.gelu(self.word(embed.to(dtype))) * mask[..., None].to(dtype)  # (B, L, W)
        mean = words.sum(1) / mask.sum(1, keepdim=True).clamp(min=1).to(dtype)
        pooled = F.dropout(pooled, dropout, dropout > 0).to(dtype)
        x = F.gelu(self.fc1(torch.cat([pooled, 3 * mean, words.amax(1)], dim=-1)))
        x = F.dropout(x, dropout / 2, dropout > 0)
        return self.out(x + F.gelu(self.fc2(x))).float()

    def picture(
        self, pooled: torch.Tensor, second: torch.Tensor | None = None, gloss: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """How much of a picture texts `(B, T)` around 0 are, `(B,)`, and the sides they suggest `(B, 7)`, −1 … 1.

        The mean is taken of a text and its gloss `(B, T)`, and then of both encoders, the second of which says
        `(B, T2)` of texts, or `(B, 2, T2)` of them and their glosses.
        """
        gate = self.gate.float()
        part, both = pooled @ gate[:-1] + gate[-1], [pooled] if gloss is None else [pooled, gloss]
        sides = self.pictures(torch.cat(both)).unflatten(0, (len(both), -1)).mean(0)
        if second is not None and self.second is not None:
            each = self.second(second.reshape(-1, second.shape[-1])).reshape(len(sides), -1, len(WISHES))
            sides = (sides + each.mean(1)) / 2
        return part.clamp(0, 1), sides.clamp(-1, 1)

    def hear(
        self, text: TextTriple, statistics: BridgeStatistics, second: torch.Tensor | None = None,
        gloss: torch.Tensor | None = None,
    ) -> Wishes:  # fmt: skip
        """Wishes of B texts, or of a multiple of B, several for each one after the other.

        Args:
            text: The texts.
            statistics: Of the bridge.
            second: `(B, T2)` or `(B, 2, T2)`, what another encoder says of them, and of their glosses.
            gloss: `(B, T)`, what the first one says of glosses of them.

        Raises:
            ValueError: `second` or `gloss` is of another shape.
        """
        embed, pooled = statistics.embed(text.embed), statistics.pooled(text.pooled)
        read = self.read(embed, pooled, text.mask)
        odds, values, key = read.split([len(WISHES), len(WISHES), 1 + NUM_KEYS], dim=-1)
        if gloss is not None:
            gloss = statistics.pooled(_for_each(gloss, "text_gloss", len(pooled), (2,), self.sizes[0]))
        if second is not None and self.second is not None:
            second = _for_each(second, "text_second", len(pooled), (2, 3), len(self.second.middle))
        part, sides = self.picture(pooled, second, gloss)
        present = text.present[:, None]
        stated = (odds > 0) & (part < MOSTLY)[:, None] & present
        sides = sides * ((part > SOMEWHAT)[:, None] & present & ~stated)
        return Wishes(stated, values, (key.argmax(-1) - 1).masked_fill(~stated[:, -1], -1), sides)

    # --- Moving -------------------------------------------------------------------------------------------------------

    def steer(
        self, plan: torch.Tensor, text: TextTriple, statistics: BridgeStatistics, sides: torch.Tensor | None = None,
        second: torch.Tensor | None = None, gloss: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Whitened plans `(B, N, Z)`, all bars of each moved alike, until their means have what the texts want.

        Args:
            plan: To be moved.
            text: B texts.
            statistics: Of the bridge.
            sides: `(B / S, 7)`, −1 … 1, of `WISHES`: what texts are known to suggest, each for S plans one after the
                other. It goes before what they are heard to suggest, not before what is heard to be stated; 0: unknown.
            second, gloss: As `hear` takes them, of B / S texts.

        Raises:
            ValueError: `second` or `gloss` is of another shape.
        """
        wishes = self.hear(text, statistics, second, gloss)
        if sides is not None:
            _know(wishes, sides.repeat_interleave(len(plan) // max(len(sides), 1), 0))
        return self.move(plan, wishes, statistics)

    def move(self, plan: torch.Tensor, wishes: Wishes, statistics: BridgeStatistics) -> torch.Tensor:
        """See `steer`. What is stated is moved to its value, what is pictured beyond its quartile if not there yet."""
        lines = len(WISHES) - 1
        probe, quartiles = self.probe.float(), self.quartiles.float()
        now = plan.mean(1) @ probe[:-1] + probe[-1]  # (B, 6)
        side = BEYOND * wishes.pictured[:, :lines]
        low, middle, high = quartiles.unbind(1)
        edge = middle + torch.where(side > 0, side * (high - middle), side * (middle - low))
        lack = side.sign() * ((edge - now) * side.sign()).clamp(min=0)
        lack = torch.where(wishes.stated[:, :lines], wishes.values[:, :lines] - now, lack)
        plan = plan + (lack.clamp(-FARTHEST, FARTHEST) @ self.moves.float())[:, None]
        return statistics.whiten(self._in_key(statistics.unwhiten(plan), wishes))

    def _in_key(self, plan: torch.Tensor, wishes: Wishes) -> torch.Tensor:
        """Plans in Museformer's units whose pitch classes have the mode wanted, in the key named or the nearest one."""
        wanted = torch.where(wishes.stated[:, -1], wishes.values[:, -1].sign(), wishes.pictured[:, -1])  # (B,)
        part = slice(_FIRST_CLASS, _FIRST_CLASS + NUM_KEYS)
        shares = plan[..., part].mean(1) * SPREADS[_FIRST_CLASS] + CENTRES[_FIRST_CLASS]  # (B, 12)
        turned = torch.stack([self.profiles.float().roll(k, 1) for k in range(NUM_KEYS)], dim=1)  # (2, 12 keys, 12)
        turned = turned[(wanted < 0).long()]  # (B, 12 keys, 12)
        near = F.cosine_similarity(turned - 1 / NUM_KEYS, (shares - 1 / NUM_KEYS)[:, None], dim=-1)  # (B, 12 keys)
        tonic = torch.where(wishes.tonic >= 0, wishes.tonic, near.argmax(-1))
        profile = turned[torch.arange(len(tonic), device=tonic.device), tonic]
        moved = (profile - shares) * wanted.abs().clamp(max=1)[:, None] / SPREADS[_FIRST_CLASS]
        plan = plan.clone()
        plan[..., part] += moved[:, None]
        return plan


def _for_each(given: torch.Tensor, name: str, count: int, ranks: tuple[int, ...], size: int) -> torch.Tensor:
    """Rows of B texts for so many, a multiple of B.

    Raises:
        ValueError: The shape is another; it is shown.
    """
    own = tuple(given.shape)
    if len(own) not in ranks or own[-1] != size or not own[0] or count % own[0] or (len(own) == 3 and not own[1]):
        wanted = " or ".join(f"(B, {'W, ' * (rank == 3)}{size})" for rank in ranks)
        raise ValueError(f"{name} has the shape {own}; wanted {wanted}")
    return given.repeat_interleave(count // own[0], 0)


def _know(wishes: Wishes, sides: torch.Tensor) -> None:
    """Puts sides `(B, 7)` that are known in place of those that are suggested; 0: unknown."""
    known = sides.to(wishes.pictured)
    wishes.pictured = torch.where((known != 0) & ~wishes.stated, known, wishes.pictured)


@torch.no_grad()
def pictured_sides(
    bridge: Any, text_embed: torch.Tensor, text_pooled: torch.Tensor, text_mask: torch.Tensor | None = None,
    text_second: torch.Tensor | None = None, text_gloss: torch.Tensor | None = None, sides: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """Sides `(B, 7)`, −1 … 1, to which a SummaryBridge moves plans of texts that are pictures; 0 where to none.

    Args:
        bridge: `SummaryBridgeModel`.
        text_embed, text_pooled, text_mask, text_second, text_gloss, sides: As it takes them, for B texts.
    """
    if bridge.wishes is None:
        return torch.zeros(len(text_pooled), len(WISHES), device=text_pooled.device)
    text = bridge.text_triple(text_embed, text_pooled, text_mask)
    wishes = bridge.wishes.hear(text, bridge.statistics, text_second, text_gloss)
    if sides is not None:
        _know(wishes, sides)
    return wishes.pictured


__all__ = ["BEYOND", "NUM_KEYS", "WISHES", "PictureSides", "TextWishes", "Wishes", "pictured_sides"]
