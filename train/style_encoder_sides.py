"""Teaches StyleEncoder's pooled embedding what pictures suggest of music, as a SummaryBridge hears it.

    python -m intermezzo.train.style_encoder_sides --data_dir grid --model checkpoints/style_encoder --output_dir LAST

A bridge hears what an image suggests (slow or fast, low or high, ...) in the pooled embedding of its name. A picture's
pooled embedding lies near its name's, but not where the bridge's ear expects names to be, and much is misheard. So the
last layer that makes it learns on for minutes, all else frozen: what the bridge, frozen too, hears of pictures shall be
what the list of images says of their names (`composing_words.ask`), while embeddings stay near where they were. The
weights of the end are kept, when on the validation split more is heard rightly with them than before. All other outputs
stay as they are.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ..processing.errors import InputError
from .arguments import option
from .style_encoder_seen import Seen, dtype_of, look_at, open_model, run_command

CHECKS = 10  # times that the validation is heard
OTHERS = 8  # one in so many of the pictures whose names suggest nothing is seen, too, to stay where it is
GATE = 0.3  # weight of being taken for a picture at all
Hear = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass
class SidesArguments:
    """What the training of the pooled embedding takes."""

    data_dir: list[str] = option([], "folders made by build_style_pairs")  # noqa: RUF009 - as `dataclasses.field`
    model: str = option("", "StyleEncoder to go on from")
    bridge: str = option("", "SummaryBridge that hears; empty: the one that comes along")
    output_dir: str = option("runs/style_sides", "folder for the model")
    cache_dir: str = option("", "folder for what was seen; empty: beside the model")
    steps: int = option(600, "steps")
    batch_size: int = option(256, "pictures per step")
    learning_rate: float = option(1e-3, "peak learning rate")
    keep: float = option(5.0, "weight of staying near the embeddings of before")
    noise: float = option(0.3, "noise on what the layer sees, in its spreads over the pictures")
    seed: int = option(0, "seed")
    overwrite: bool = option(False, "replace a model in the folder")

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size) < 1 or not self.learning_rate > 0:
            raise InputError(None, "steps and batch_size must be 1 or more, learning_rate above 0")
        if self.noise < 0 or self.keep < 0:
            raise InputError(None, "noise and keep are 0 or more")


@dataclass
class Suggesting:
    """Pictures and what their names suggest.

    Attributes:
        values: `(N, W)` float32, what the layer sees of them.
        sides: `(N, 7)`, -1 or 1 of `WISHES`; 0 where the name says nothing.
    """

    values: torch.Tensor
    sides: torch.Tensor

    @property
    def told(self) -> torch.Tensor:
        """Rows whose names say something."""
        return torch.nonzero((self.sides != 0).any(1))[:, 0]


@cache
def sides_of(names: tuple[str, ...]) -> tuple[float, ...]:
    """What the first of some names that the list of images knows suggests, of `WISHES`; 0 where nothing."""
    from ..composing_words import ask
    from ..processing.music_wishes import SIDED

    for name in names:
        asked = ask(name) if name else None
        if asked:
            return tuple(float(asked.sides.get(what, 0)) for what in SIDED)
    return (0.0,) * len(SIDED)


def told_or_some(row: Mapping[str, str]) -> bool:
    """Whether a picture's name suggests something, or the picture is one of an eighth of all others."""
    names = (row["caption"], row["caption_zh"])
    return any(sides_of(names)) or zlib.crc32(names[0].encode()) % OTHERS == 0


def suggesting(parts: Sequence[Seen]) -> Suggesting:
    """What was seen of pictures, with what their names suggest."""
    names = [pair for one in parts for pair in zip(one.columns["caption"], one.columns["caption_zh"], strict=True)]
    return Suggesting(torch.cat([one.values for one in parts]), torch.tensor([sides_of(pair) for pair in names]))


def heard_rightly(head: Any, held: Suggesting, hear: Hear) -> float:
    """The share of what names suggest that is heard of their pictures."""
    rows = held.told
    with torch.no_grad():
        part, heard = hear(head(held.values[rows]))
    wanted = held.sides[rows]
    right = (heard.sign() == wanted) & (part > 0.5)[:, None]
    return float(right[wanted != 0].float().mean())


def teach(head: Any, train: Suggesting, held: Suggesting, hear: Hear, args: SidesArguments) -> list[float]:
    """Trains the last layer in place; where no more is heard rightly of held-out pictures in the end, it is as before.

    Not the weights of which most was heard on the way: those of a high learning rate are far from where names are.

    Args:
        head: From `(B, W)` to pooled embeddings `(B, T)`, float32.
        train: What it learns from.
        held: What it is judged by.
        hear: How much of pictures embeddings are `(B,)`, and the sides they suggest `(B, 7)`, both not cut off.
        args: Settings.

    Returns:
        The shares heard rightly on the held-out pictures, before the training and at each check.

    Raises:
        InputError: No name of one of the splits suggests anything.
    """
    rows = train.told
    if not len(rows) or not len(held.told):
        raise InputError(None, "no name of the pictures is in the list of images; nothing can be learnt from them")
    before = copy.deepcopy(head).requires_grad_(False)
    spread = train.values.std(0)
    optimizer = torch.optim.Adam(head.parameters(), args.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.learning_rate, args.steps + 1)
    draw = torch.Generator().manual_seed(args.seed)
    shares = [heard_rightly(head, held, hear)]
    every = max(args.steps // CHECKS, 1)
    for step in range(args.steps):
        chosen = rows[torch.randint(len(rows), (args.batch_size,), generator=draw)]
        values, wanted = train.values[chosen], train.sides[chosen]
        part, heard = hear(head(values + args.noise * spread * torch.randn(values.shape, generator=draw)))
        told = wanted != 0
        loss = F.mse_loss(heard[told], wanted[told]) + GATE * F.relu(1 - part).square().mean()
        any_row = torch.randint(len(train.values), (args.batch_size,), generator=draw)
        values = train.values[any_row]
        apart = 1 - F.cosine_similarity(head(values), before(values)).mean()
        optimizer.zero_grad()
        (loss + args.keep * apart).backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % every == 0 or step + 1 == args.steps:
            shares.append(heard_rightly(head, held, hear))
            print(
                f"step {step + 1}: loss {loss.item():.3f}, moved by {apart.item():.4f}, "
                f"held-out pictures heard rightly {shares[-1]:.4f}"
            )
    if shares[-1] <= shares[0]:
        head.load_state_dict(before.state_dict())
        shares[-1] = shares[0]
    return shares


def ear_of(folder: str, width: int) -> Hear:
    """How a SummaryBridge hears pooled embeddings of pictures, of a width.

    Raises:
        InputError: There is none, or it hears no pictures, or embeddings of another width.
    """
    from ..composing_parts import default_checkpoint
    from ..modeling.modeling_summary_bridge import SummaryBridgeModel

    place = Path(folder) if folder else default_checkpoint("summary_bridge")
    if not (place / "config.json").is_file():
        raise InputError(place, "holds no SummaryBridge; name one by --bridge FOLDER")
    bridge = SummaryBridgeModel.from_pretrained(place, dtype="float32").eval().requires_grad_(False)
    wishes = bridge.wishes
    if wishes is None:
        raise InputError(place, "hears no pictures: it was trained without wishes")
    if bridge.config.text_size != width:
        raise InputError(place, f"hears embeddings of width {bridge.config.text_size}; the StyleEncoder gives {width}")
    gate = wishes.gate.float()

    def hear(pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        centred = bridge.statistics.pooled(pooled)
        return centred @ gate[:-1] + gate[-1], wishes.pictures(centred)

    return hear


def eyes_of(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """What the layer that makes the pooled embedding sees of pictures `(B, 3, H, W)`: `(B, W)`."""

    def see(pixels: torch.Tensor) -> torch.Tensor:
        taken: list[torch.Tensor] = []
        hook = model.pooled_head.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
        try:
            model(pixels)
        finally:
            hook.remove()
        return taken[0].float()

    return see


def run(args: SidesArguments) -> list[float]:
    """Trains the pooled embedding of `--model` and keeps the whole in `--output_dir`; the shares of `teach`.

    Raises:
        InputError: Folders that are not there or hold something else.
    """
    out = Path(args.output_dir)
    model, processor = open_model(args.model, args.data_dir, out, args.overwrite)
    dtype = dtype_of(args.model)
    hear = ear_of(args.bridge, model.config.embed_size)
    weights = [item for item in model.state_dict().items() if not item[0].startswith(("pooled_head.", "style_head."))]

    def look(number: int, split: str) -> Seen:
        cache = Path(args.cache_dir or out / "seen") / f"pooled-{number}"
        folder, names = args.data_dir[number], ("caption", "caption_zh")
        return look_at(eyes_of(model), weights, processor, folder, split, cache, names, told_or_some)

    train = suggesting([look(number, "train") for number in range(len(args.data_dir))])
    held = suggesting([look(0, "validation")])
    shares = teach(model.pooled_head, train, held, hear, args)
    print(f"held-out pictures heard rightly: {shares[0]:.4f} before, {shares[-1]:.4f} after")
    model.to(dtype).save_pretrained(out)
    processor.save_pretrained(out)
    return shares


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    return run_command(SidesArguments, run, "train.style_encoder_sides", __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
